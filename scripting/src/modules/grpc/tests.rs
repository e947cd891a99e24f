//! Scripts against a server.

use std::{collections::BTreeMap, sync::atomic::Ordering};

use prost::Message;

use super::server::{FILES, Reflected, Server};
use crate::harness::run_with_files;

/// The files of the service, as scripts find them.
fn files() -> Vec<(String, &'static str)> {
    let files = FILES.iter();
    files
        .map(|(name, text)| (format!("file:///dir/{name}"), *text))
        .collect()
}

fn run_script(script: &str, iterations: u64) -> Vec<String> {
    let files = files();
    let files: Vec<(&str, &str)> = files
        .iter()
        .map(|(url, text)| (url.as_str(), *text))
        .collect();
    run_with_files(script, &files, iterations)
}

const LOADED: &str = "import grpc, { Client, Stream } from 'k6/net/grpc'; const client = new Client();
    client.load(['protos'], 'service.proto');
    const attempt = (f) => { try { console.log('worked', f()) } catch (e) { console.log(String(e)) } };";

/// Runs `body` once, with a client that has loaded everything and is connected.
fn run_against(server: &Server, body: &str) -> Vec<String> {
    let script = format!(
        "{LOADED} const address = '{}';
         export default async function () {{ client.connect(address, {{ plaintext: true }}); {body} }}",
        server.address
    );
    run_script(&script, 1)
}

#[test]
fn loading_answers_the_methods() {
    let lines = run_script(
        "import grpc from 'k6/net/grpc'; const client = new grpc.Client();
         const methods = client.load(['protos'], 'service.proto');
         const again = new grpc.Client().load(null, 'protos/lib/number.proto', '/dir/protos/lib/number.proto'.slice(5));
         export default function () {
           console.log(methods.length, again.length, JSON.stringify(methods[0]), Object.keys(client).join());
           console.log(methods.filter((m) => m.is_client_stream).map((m) => m.name + m.is_server_stream).join());
         }",
        1,
    );
    assert_eq!(
        lines,
        [
            "9 0 {\"package\":\"t.v1\",\"service\":\"Test\",\"full_method\":\"/t.v1.Test/Echo\",\"name\":\"Echo\",\"is_client_stream\":false,\"is_server_stream\":false} load,loadProtoset,connect,invoke,asyncInvoke,healthCheck,close",
            "Sumfalse,Chattrue",
        ]
    );
}

#[test]
fn what_cannot_be_loaded_says_where_and_why() {
    let files = [
        (
            "file:///dir/bad.proto",
            "syntax = \"proto3\";\nmessage A {\n  strin x = 1;\n}",
        ),
        (
            "file:///dir/torn.proto",
            "syntax = \"proto3\";\nmessage A {",
        ),
        (
            "file:///dir/imports.proto",
            "syntax = \"proto3\";\nimport \"no/such.proto\";",
        ),
        (
            "file:///dir/edition.proto",
            "edition = \"2023\";\nmessage A { int32 a = 1; }",
        ),
        ("file:///dir/bad.protoset", "\x0a\x05abc"),
    ];
    let lines = run_with_files(
        "import { Client } from 'k6/net/grpc'; const client = new Client();
         const attempt = (f) => { try { return 'worked ' + f() } catch (e) { return String(e) } };
         const early = [
           () => client.load([], 'absent.proto'), () => client.load(['x', 'y'], 'absent.proto'), () => client.load([], 'bad.proto'),
           () => client.load([], 'torn.proto'), () => client.load([], 'imports.proto'), () => client.load([], 'edition.proto'),
           () => client.loadProtoset('absent.protoset'), () => client.loadProtoset('bad.protoset'),
           () => client.connect('127.0.0.1:1'), () => client.invoke('a/b', {}), () => client.healthCheck(),
         ].map(attempt);
         export default function () {
           for (const line of early) console.log(line);
           console.log(attempt(() => client.load([], 'bad.proto')));
           console.log(attempt(() => client.loadProtoset('bad.protoset')));
         }",
        &files,
        1,
    );
    let expected = [
        "GoError: open /dir/absent.proto: no such file or directory",
        "GoError: open /dir/x/absent.proto: no such file or directory",
        "GoError: bad.proto:3:3: name 'strin' is not defined",
        "GoError: torn.proto: expected a message field, oneof, reserved range, enum, message, \
         option or '}', but reached end of file",
        "GoError: imports.proto:2:1: import 'no/such.proto' not found",
        "GoError: edition.proto:1:1: ",
        "GoError: couldn't open protoset: open /dir/absent.protoset: no such file or directory",
        "GoError: couldn't unmarshal protoset file bad.protoset: ",
        "GoError: connecting to a gRPC server in the init context is not supported",
        "GoError: invoking RPC methods in the init context is not supported",
        "GoError: invoking RPC methods in the init context is not supported",
        "GoError: load must be called in the init context",
        "GoError: load must be called in the init context",
    ];
    assert_eq!(lines.len(), expected.len(), "{lines:#?}");
    for (line, expected) in lines.iter().zip(expected) {
        assert!(line.starts_with(expected), "{line:?}, not {expected:?}");
    }
}

#[test]
fn messages_have_every_field_both_ways() {
    let server = Server::start();
    let lines = run_against(
        &server,
        "const r = client.invoke('t.v1.Test/Echo', {});
         console.log(Object.keys(r).join(), r.status === grpc.StatusOK, r.error, JSON.stringify(r.headers), JSON.stringify(r.trailers));
         console.log(JSON.stringify(r.message));
         const full = { flag: true, small: -1, large: '9007199254740993', usmall: 4294967295, ularge: 12, single: 0.1, double: NaN,
           text_here: 'é', data: 'AQI=', kind: 'SECOND', inner: { n: 1 }, list: [1, '2'], table: { b: { n: 2 }, a: {} },
           right: 0, perhaps: 0, kinds: [1, 'NONE', 7], doubles: { true: -Infinity }, zigzag: -5, fixed: '18446744073709551615' };
         console.log(JSON.stringify(client.invoke('/t.v1.Test/Echo', full).message));
         console.log(JSON.stringify(client.invoke('/t.v1.Test/Echo', { textHere: 'a', left: 'l', inner: null }).message.textHere));",
    );
    assert_eq!(
        lines,
        [
            "status,message,error,headers,trailers true null {\"content-type\":[\"application/grpc\"],\"x-head\":[\"h\"]} {\"x-trail\":[\"t\"]}",
            "{\"flag\":false,\"small\":0,\"large\":\"0\",\"usmall\":0,\"ularge\":\"0\",\"single\":0,\"double\":0,\"textHere\":\"\",\"data\":\"\",\"kind\":\"NONE\",\"inner\":null,\"list\":[],\"table\":{},\"kinds\":[],\"doubles\":{},\"zigzag\":\"0\",\"fixed\":\"0\"}",
            "{\"flag\":true,\"small\":-1,\"large\":\"9007199254740993\",\"usmall\":4294967295,\"ularge\":\"12\",\"single\":0.1,\"double\":\"NaN\",\"textHere\":\"é\",\"data\":\"AQI=\",\"kind\":\"SECOND\",\"inner\":{\"n\":\"1\"},\"list\":[\"1\",\"2\"],\"table\":{\"a\":{\"n\":\"0\"},\"b\":{\"n\":\"2\"}},\"right\":0,\"perhaps\":0,\"kinds\":[\"FIRST\",\"NONE\",7],\"doubles\":{\"true\":\"-Infinity\"},\"zigzag\":\"-5\",\"fixed\":\"18446744073709551615\"}",
            "\"a\"",
        ]
    );
}

#[test]
fn messages_that_json_has_a_form_for_have_it() {
    let server = Server::start();
    let lines = run_against(
        &server,
        "const special = { time: '2026-01-02T03:04:05.600Z', duration: '1.5s', struct: { a: [1, null, { b: 'c' }] }, value: [true],
           any: { '@type': 'type.googleapis.com/t.v1.Number', n: '7' }, wrapped: '', mask: 'a,bC', empty: {}, nothing: null, large: 5 };
         const { message } = client.invoke('t.v1.Test/EchoSpecial', special);
         console.log(JSON.stringify(message));
         console.log(JSON.stringify(client.invoke('t.v1.Test/EchoSpecial', {}).message));",
    );
    assert_eq!(
        lines,
        [
            "{\"time\":\"2026-01-02T03:04:05.600Z\",\"duration\":\"1.500s\",\"struct\":{\"a\":[1,null,{\"b\":\"c\"}]},\"value\":[true],\"any\":{\"@type\":\"type.googleapis.com/t.v1.Number\",\"n\":\"7\"},\"wrapped\":\"\",\"mask\":\"a,bC\",\"empty\":{},\"nothing\":null,\"large\":\"5\"}",
            "{\"time\":null,\"duration\":null,\"struct\":null,\"value\":null,\"any\":null,\"wrapped\":null,\"mask\":null,\"empty\":null,\"nothing\":null,\"large\":null}",
        ]
    );
}

#[test]
fn wrong_arguments_have_their_texts() {
    let server = Server::start();
    let lines = run_script(
        &format!(
            "{LOADED} const address = '{}';
             export default async function () {{
               attempt(() => client.invoke('t.v1.Test/Echo', {{}}));
               attempt(() => client.healthCheck());
               attempt(() => new Stream(client, 't.v1.Test/Chat'));
               attempt(() => client.connect(address, {{ plaintext: true }}));
               attempt(() => client.invoke('', {{}}));
               attempt(() => client.invoke());
               attempt(() => client.invoke('t.v1.Test/Nope', {{}}));
               attempt(() => client.invoke('/nope', {{}}));
               attempt(() => client.invoke('t.v1.Test/Echo'));
               attempt(() => client.invoke('t.v1.Test/Echo', null));
               attempt(() => client.invoke('t.v1.Test/Echo', {{ nope: 1 }}));
               attempt(() => client.invoke('t.v1.Test/Echo', {{ small: 'x' }}));
               attempt(() => client.invoke('t.v1.Test/Echo', {{}}, {{ headers: {{}} }}));
               attempt(() => client.invoke('t.v1.Test/Echo', {{}}, {{ timeout: 'please' }}));
               attempt(() => client.invoke('t.v1.Test/Echo', {{}}, {{ metadata: 'x' }}));
               attempt(() => client.invoke('t.v1.Test/Echo', {{}}, {{ metadata: {{ a: 1 }} }}));
               attempt(() => client.invoke('t.v1.Test/Echo', {{}}, {{ metadata: {{ 'a-bin': 'x' }} }}));
               attempt(() => client.invoke('t.v1.Test/Echo', {{}}, {{ tags: {{ a: null }} }}));
               attempt(() => client.invoke('t.v1.Test/Echo', {{}}, {{ discardResponseMessage: 1 }}));
               attempt(() => new Stream());
               attempt(() => new Stream(client, ''));
               attempt(() => new Stream(client, 't.v1.Test/Nope'));
               attempt(() => new Stream(client, 't.v1.Test/Chat', {{ void: 1 }}));
               for (const call of [() => client.asyncInvoke('t.v1.Test/Nope', {{}}), () => client.asyncInvoke('t.v1.Test/Echo')])
                 try {{ await call(); }} catch (e) {{ console.log(String(e)); }}
               client.close(); client.close();
               attempt(() => client.invoke('t.v1.Test/Echo', {{}}));
             }}",
            server.address
        ),
        1,
    );
    let expected = [
        "GoError: no gRPC connection, you must call connect first",
        "GoError: no gRPC connection, you must call connect first",
        "GoError: invalid GRPC Stream's client: no gRPC connection, you must call connect first",
        "worked true",
        "GoError: method to invoke cannot be empty",
        "GoError: method to invoke cannot be empty",
        "GoError: method \"/t.v1.Test/Nope\" not found in file descriptors",
        "GoError: method \"/nope\" not found in file descriptors",
        "GoError: request cannot be nil",
        "GoError: request cannot be nil",
        "GoError: unable to serialise request object to protocol buffer: unrecognized field name 'nope'",
        "GoError: unable to serialise request object to protocol buffer: ",
        "GoError: invalid GRPC's client.invoke() parameters: unknown param: \"headers\"",
        "GoError: invalid GRPC's client.invoke() parameters: invalid timeout value: time: invalid duration \"please\"",
        "GoError: invalid GRPC's client.invoke() parameters: invalid metadata param: must be an object with key-value pairs",
        "GoError: invalid GRPC's client.invoke() parameters: invalid metadata param: \"a\" value must be a string",
        "GoError: invalid GRPC's client.invoke() parameters: invalid metadata param: \"a-bin\" value must be binary",
        "GoError: invalid GRPC's client.invoke() parameters: metric tags: invalid value for metric tag 'a': only String, Boolean and Number types are accepted as a metric tag values",
        "GoError: invalid GRPC's client.invoke() parameters: invalid discardResponseMessage value: '1', it needs to be boolean",
        "GoError: invalid GRPC Stream's client: it needs to be a grpc.Client",
        "GoError: invalid GRPC Stream's method: method to invoke cannot be empty",
        "GoError: invalid GRPC Stream's method: method \"/t.v1.Test/Nope\" not found in file descriptors",
        "GoError: invalid GRPC Stream's parameters: unknown param: \"void\"",
        "method \"/t.v1.Test/Nope\" not found in file descriptors",
        "request cannot be nil",
        "GoError: no gRPC connection, you must call connect first",
    ];
    assert_eq!(lines.len(), expected.len(), "{lines:#?}");
    for (line, expected) in lines.iter().zip(expected) {
        assert!(line.starts_with(expected), "{line:?}, not {expected:?}");
    }
    assert!(server.calls().is_empty());
}

#[test]
fn wrong_parameters_of_connect_have_their_texts() {
    let wrong = [
        ("{ void: 1 }", "unknown connect param: \"void\""),
        (
            "{ plaintext: 'x' }",
            "invalid plaintext value: '\"x\"', it needs to be boolean",
        ),
        (
            "{ plaintext: null }",
            "invalid plaintext value: '<nil>', it needs to be boolean",
        ),
        (
            "{ reflect: [1, { a: true }] }",
            "invalid reflect value: '[]interface {}{1, map[string]interface {}{\"a\":true}}', it needs to be boolean",
        ),
        (
            "{ reflectMetadata: { a: 1 } }",
            "invalid reflectMetadata param: \"a\" value must be a string",
        ),
        (
            "{ timeout: 'please' }",
            "invalid timeout value: time: invalid duration \"please\"",
        ),
        (
            "{ timeout: {} }",
            "invalid timeout value: unable to use type map[string]interface {} as a duration value",
        ),
        (
            "{ maxReceiveSize: 'x' }",
            "invalid maxReceiveSize value: '\"x\"', it needs to be an integer",
        ),
        (
            "{ maxReceiveSize: 1.5 }",
            "invalid maxReceiveSize value: '1.5', it needs to be an integer",
        ),
        (
            "{ maxSendSize: -1 }",
            "invalid maxSendSize value: '-1', it needs to be a positive integer",
        ),
        (
            "{ authority: 5 }",
            "invalid authority value: '5', it needs to be a string",
        ),
        (
            "{ tls: 5 }",
            "invalid tls value: '5', expected (optional) keys: cert, key, password, and cacerts",
        ),
        (
            "{ tls: { cert: 0 } }",
            "invalid tls cert value: '0', it needs to be a PEM formatted string",
        ),
        (
            "{ tls: { cacerts: [1] } }",
            "invalid tls cacerts value: '[]interface {}{1}', it needs to be a string or an array of PEM formatted strings",
        ),
        (
            "{ tls: { cacerts: 'x' } }",
            "failed to append ca certificate [x] from PEM",
        ),
        (
            "{ tls: { cert: 'x', key: 'y' } }",
            "tls: failed to find any PEM data in certificate input",
        ),
    ];
    let attempts: Vec<String> = wrong
        .iter()
        .map(|(params, _)| format!("attempt(() => client.connect('127.0.0.1:1', {params}));"))
        .collect();
    let script = format!(
        "{LOADED} export default function () {{ {} }}",
        attempts.join("\n")
    );
    let lines = run_script(&script, 1);
    let expected: Vec<String> = wrong
        .iter()
        .map(|(_, text)| format!("GoError: invalid grpc.connect() parameters: {text}"))
        .collect();
    assert_eq!(lines, expected);
}

#[test]
fn failures_of_calls_do_not_throw_and_those_of_connect_do() {
    let server = Server::start();
    let lines = run_against(
        &server,
        "const show = (r) => console.log(r.status, JSON.stringify(r.message), JSON.stringify(r.error));
         show(client.invoke('t.v1.Test/Fail', { code: 5, message: 'no such thing' }));
         show(client.invoke('t.v1.Test/Fail', { code: 3, message: 'bad', details: true }));
         show(client.invoke('t.v1.Test/Fail', { code: 77 }));
         show(client.invoke('t.v1.Test/Wait', { n: 1 }, { timeout: 20 }));
         show(client.invoke('t.v1.Test/Echo', {}, { discardResponseMessage: true }));
         show(await client.asyncInvoke('t.v1.Test/Fail', { code: 9, message: 'async' }));
         attempt(() => client.connect('localhost', { plaintext: true }));
         attempt(() => client.connect(address, { timeout: '200ms' }));",
    );
    assert_eq!(
        lines,
        [
            "5 {\"n\":\"0\"} {\"code\":5,\"message\":\"no such thing\",\"details\":[]}",
            "3 {\"n\":\"0\"} {\"code\":3,\"message\":\"bad\",\"details\":[{\"@type\":\"type.googleapis.com/google.rpc.BadRequest\",\"fieldViolations\":[{\"field\":\"f\",\"description\":\"d\",\"reason\":\"\",\"localizedMessage\":null}]},{\"@type\":\"type.googleapis.com/t.v1.Number\",\"n\":\"7\"},{\"@type\":\"type.googleapis.com/t.v1.Unknown\",\"value\":\"AQID\"}]}",
            "77 {\"n\":\"0\"} {\"code\":77,\"message\":\"\",\"details\":[]}",
            "4 {\"n\":\"0\"} {\"code\":4,\"message\":\"context deadline exceeded\",\"details\":[]}",
            "0 null null",
            "9 {\"n\":\"0\"} {\"code\":9,\"message\":\"async\",\"details\":[]}",
            "GoError: connection error: desc = \"transport: error while dialing: dial tcp: address localhost: missing port in address\"",
            "GoError: connection error: desc = \"transport: authentication handshake failed: tls: first record does not look like a TLS handshake\"",
        ]
    );
}

#[test]
fn metadata_goes_along_and_connections_stay_between_iterations() {
    let server = Server::start();
    let script = format!(
        "{LOADED}
         export default function () {{
           if (__ITER === 0) client.connect('{}', {{ plaintext: true, authority: 'other.test' }});
           const r = client.invoke('t.v1.Test/Head', {{}}, {{ metadata: {{ 'X-Key': 'v', 'x-bin': new Uint8Array([255]) }}, timeout: '1m' }});
           const lines = r.message.message.split('\\n');
           console.log(lines[0], lines.filter((l) => l.startsWith('x-')).join(), r.headers['x-head'].join());
         }}",
        server.address
    );
    let lines = run_script(&script, 3);
    assert_eq!(
        lines,
        ["http://other.test/t.v1.Test/Head x-bin: /w,x-key: v h,v"; 3]
    );
    assert_eq!(server.seen.connections.load(Ordering::SeqCst), 1);
}

#[test]
fn health_is_asked_for() {
    let server = Server::start();
    let lines = run_against(
        &server,
        "console.log(client.healthCheck().status === grpc.HealthCheckServing, client.healthCheck('down').status === grpc.HealthCheckNotServing);
         attempt(() => client.healthCheck('other'));",
    );
    assert_eq!(
        lines,
        [
            "true true",
            "GoError: rpc error: code = NotFound desc = unknown service"
        ]
    );
}

#[test]
fn sets_of_descriptions_are_loaded() {
    let source = "syntax = \"proto3\"; package t.v1; message All { int64 n = 1; }
        service Test { rpc Echo(All) returns (All); }";
    let file = protox::file::File::from_source("s.proto", source).expect("a file");
    let set = prost_reflect::prost_types::FileDescriptorSet {
        file: vec![file.file_descriptor_proto().clone()],
    };
    let mut set = set;
    set.file[0].source_code_info = None;
    // So short that its bytes are text.
    let set = String::from_utf8(set.encode_to_vec()).expect("text");
    let server = Server::start();
    let script = format!(
        "import {{ Client }} from 'k6/net/grpc'; const client = new Client();
         const methods = client.loadProtoset('./s.protoset');
         export default function () {{
           client.connect('{}', {{ plaintext: true }});
           console.log(methods[0].full_method, JSON.stringify(client.invoke('t.v1.Test/Echo', {{ n: 5 }}).message));
         }}",
        server.address
    );
    let lines = run_with_files(&script, &[("file:///dir/s.protoset", &set)], 1);
    assert_eq!(lines, ["/t.v1.Test/Echo {\"n\":\"5\"}"]);
}

/// What a server tells whose services are those of the files.
fn reflected(version: &'static str) -> Reflected {
    let main = descriptor("service.proto");
    let mut files: BTreeMap<String, Vec<u8>> = BTreeMap::new();
    files.insert("service.proto".to_owned(), main);
    files.insert(
        "lib/number.proto".to_owned(),
        descriptor("lib/number.proto"),
    );
    Reflected {
        version,
        services: vec!["t.v1.Test".to_owned()],
        files,
        main: "service.proto".to_owned(),
    }
}

fn descriptor(name: &str) -> Vec<u8> {
    // As servers have them: types are named in full.
    let mut compiler = protox::Compiler::with_file_resolver(Embedded);
    compiler.open_file(name).expect("it compiles");
    let set = compiler.file_descriptor_set();
    let file = set.file.into_iter().find(|file| file.name() == name);
    file.expect("the file").encode_to_vec()
}

struct Embedded;

impl protox::file::FileResolver for Embedded {
    fn open_file(&self, name: &str) -> Result<protox::file::File, protox::Error> {
        let path = format!("protos/{name}");
        match FILES.iter().find(|(known, _)| *known == path) {
            Some((_, text)) => protox::file::File::from_source(name, text),
            None => protox::file::GoogleFileResolver::new().open_file(name),
        }
    }
}

#[test]
fn servers_describe_themselves_in_either_version() {
    for (version, asked) in [("v1", 1), ("v1alpha", 2)] {
        let server = Server::with(None, reflected(version));
        let script = format!(
            "import grpc, {{ Client }} from 'k6/net/grpc'; const client = new Client();
             export default function () {{
               client.connect('{}', {{ plaintext: true, reflect: true, reflectMetadata: {{ 'x-key': 'v' }} }});
               console.log(client.invoke('t.v1.Test/Echo', {{ inner: {{ n: __ITER }} }}).message.inner.n);
             }}",
            server.address
        );
        assert_eq!(run_script(&script, 2), ["0", "1"], "{version}");
        let calls = server.calls();
        let reflections = calls
            .iter()
            .filter(|path| path.contains(".ServerReflection/"));
        assert_eq!(reflections.count(), 2 * asked, "{calls:?}");
    }
}

#[test]
fn servers_that_do_not_describe_themselves_say_so() {
    let server = Server::start();
    let lines = run_script(
        &format!(
            "{LOADED} export default function () {{
               attempt(() => client.connect('{}', {{ plaintext: true, reflect: true }}));
             }}",
            server.address
        ),
        1,
    );
    assert_eq!(
        lines,
        [
            "GoError: error invoking reflect API: rpc error: code = Unimplemented desc = unknown method"
        ]
    );
    let mut partial = reflected("v1");
    partial.files.remove("lib/number.proto");
    let server = Server::with(None, partial);
    let lines = run_script(
        &format!(
            "{LOADED} export default function () {{
               attempt(() => client.connect('{}', {{ plaintext: true, reflect: true }}));
             }}",
            server.address
        ),
        1,
    );
    assert_eq!(
        lines,
        [
            "GoError: error invoking reflect API: rpc error: code = NotFound desc = no file lib/number.proto"
        ]
    );
}

#[test]
fn messages_have_the_limits_of_the_connection() {
    let server = Server::start();
    let lines = run_against(
        &server,
        "const big = { text_here: 'x'.repeat(1000) };
         for (const limits of [{ maxSendSize: 500 }, { maxReceiveSize: 500 }, { maxSendSize: 0, maxReceiveSize: 0 }]) {
           client.connect(address, { plaintext: true, ...limits });
           const r = client.invoke('t.v1.Test/Echo', big);
           console.log(r.status, r.error && r.error.message);
         }",
    );
    assert_eq!(
        lines,
        [
            "8 trying to send message larger than max (1003 vs. 500)",
            "8 grpc: received message larger than max (1003 vs. 500)",
            "0 null",
        ]
    );
}

#[test]
fn streams_of_all_kinds_tell_their_events() {
    let server = Server::start();
    let lines = run_against(
        &server,
        "const finished = (name, method, params) => new Promise((done) => {
           const s = new Stream(client, 't.v1.Test/' + method, params);
           s.on('data', (m, about) => console.log(name, m.n, Object.keys(about).join(), about.ts > 1e9));
           s.on('error', (e, about) => console.log(name, JSON.stringify(e), about.ts > 1e9));
           s.on('end', (nothing, about) => { console.log(name, 'end', JSON.stringify(nothing), about.ts > 1e9); done(); });
           finished.stream = s;
         });
         let done = finished('count', 'Count'); finished.stream.write({ n: 2 }); finished.stream.end(); await done;
         done = finished('sum', 'Sum'); for (const n of [1, 2, 3]) finished.stream.write({ n }); finished.stream.end(); await done;
         done = finished('chat', 'Chat'); const chat = finished.stream; chat.on('data', (m) => m.n < 8 ? chat.write({ n: m.n }) : chat.end());
         chat.write({ n: 1 }); await done; chat.write({ n: 9 });
         done = finished('late', 'FailLate'); finished.stream.write({ n: 1 }); await done;
         done = finished('slow', 'Chat', { timeout: 20 }); await done;
         console.log(Object.keys(chat).join());",
    );
    assert_eq!(
        lines,
        [
            "count 1 ts true",
            "count 2 ts true",
            "count end {} true",
            "sum 6 ts true",
            "sum end {} true",
            "chat 2 ts true",
            "chat 4 ts true",
            "chat 8 ts true",
            "chat end {} true",
            "late 1 ts true",
            "late {\"code\":10,\"message\":\"enough\",\"details\":[]} true",
            "late end {} true",
            "slow {\"code\":4,\"message\":\"context deadline exceeded\",\"details\":[]} true",
            "slow end {} true",
            "on,write,end",
        ]
    );
}

#[test]
fn what_is_wrong_with_a_stream_is_said() {
    let server = Server::start();
    let lines = run_against(
        &server,
        "const s = new Stream(client, 't.v1.Test/Chat');
         s.on('nope', () => {}); s.on('status', () => console.log('never'));
         attempt(() => s.on('data')); attempt(() => s.on('end', 5));
         s.write(null); s.write();
         attempt(() => s.write({ nope: 1 }));
         s.end(); s.write({ n: 1 });
         const late = new Stream(client, 't.v1.Test/FailLate'); late.write({ n: 0 });
         await new Promise((done) => late.on('end', done)); late.on('data', () => late);
         client.close();
         attempt(() => new Stream(client, 't.v1.Test/Chat'));",
    );
    assert_eq!(lines.len(), 8, "{lines:#?}");
    assert_eq!(
        lines[..5],
        [
            "Warning: can't register nope event handler: unknown GRPC stream's event type: nope",
            "GoError: handler for \"data\" event isn't a callable function",
            "GoError: handler for \"end\" event isn't a callable function",
            "Warning: can't send empty message",
            "Warning: can't send empty message",
        ]
    );
    assert!(
        lines[5].starts_with("GoError: unable to serialise request object to protocol buffer: "),
        "{lines:?}"
    );
    assert_eq!(
        lines[6..],
        [
            "Warning: no handlers for error registered, but an error happened: rpc error: code = Aborted desc = enough",
            "GoError: invalid GRPC Stream's client: no gRPC connection, you must call connect first",
        ]
    );
}

#[test]
fn a_fast_server_waits_for_a_slow_script_and_no_message_is_lost() {
    let server = Server::start();
    let lines = run_against(
        &server,
        "let sum = 0, count = 0; const s = new Stream(client, 't.v1.Test/Count');
         s.on('data', (m) => { count++; sum += Number(m.n); });
         s.on('end', () => console.log(count, sum));
         s.write({ n: 20000 });",
    );
    assert_eq!(lines, ["20000 200010000"]);
}

#[test]
fn calls_go_on_beside_each_other_and_hold_the_iteration() {
    let server = Server::start();
    let lines = run_against(
        &server,
        "const all = await Promise.all([1, 2, 3, 4].map((n) => client.asyncInvoke('t.v1.Test/Echo', { small: n })));
         console.log(all.map((r) => r.message.small).join());
         client.asyncInvoke('t.v1.Test/Echo', { small: 5 }).then((r) => console.log('late', r.message.small));
         console.log('returned');",
    );
    assert_eq!(lines, ["1,2,3,4", "returned", "late 5"]);
    assert_eq!(server.seen.connections.load(Ordering::SeqCst), 1);
}

#[test]
fn what_an_iteration_leaves_behind_ends_with_its_failure() {
    let server = Server::start();
    let lines = run_against(
        &server,
        "client.asyncInvoke('t.v1.Test/Wait', { n: 1 }).then((r) => console.log('async', r.status, r.error.message));
         const s = new Stream(client, 't.v1.Test/Chat'); s.write({ n: 1 });
         s.on('error', (e) => console.log('stream', e.code, e.message)); s.on('end', () => console.log('end', typeof s));
         await new Promise((done) => s.on('data', done));
         throw new Error('failed');",
    );
    let mut sorted = lines;
    sorted.sort();
    assert_eq!(sorted.len(), 4, "{sorted:?}");
    assert!(
        sorted[0].starts_with("Error: Uncaught (in promise) Error: failed"),
        "{sorted:?}"
    );
    assert_eq!(
        sorted[1..],
        [
            "async 1 context canceled",
            "end object",
            "stream 1 context canceled"
        ]
    );
}
