use crate::harness::{load_error, run, sockets::Server};

/// As in the tests of `k6/ws`.
fn script(body: &str) -> Vec<String> {
    with_server(body).0
}

fn with_server(body: &str) -> (Vec<String>, Server) {
    let server = Server::start();
    let lines = run(
        &format!(
            "import {{ WebSocket, Blob }} from 'k6/websockets';
             import whole from 'k6/websockets';
             const at = 'ws://{}';
             const text = (f) => {{ try {{ return f() }} catch (e) {{ return String(e) }} }};
             const log = [];
             export default async function () {{ {body} }}",
            server.address
        ),
        1,
    );
    (lines, server)
}

#[test]
fn arguments_that_mean_nothing_are_refused() {
    let lines = script(
        "for (const given of [[], [undefined], [null], ['http://a.test'], ['%'], ['ws://a b/'], ['ws://a.test/#part'],
                              ['ws://a.test', [], { other: 1 }], ['ws://a.test', [], { tags: { a: null } }],
                              ['ws://a.test', [], { compression: 'x' }]])
           console.log(text(() => new WebSocket(...given)));",
    );
    assert_eq!(
        lines,
        [
            "GoError: WebSocket requires a url",
            "GoError: WebSocket requires a url",
            "GoError: WebSocket requires url with scheme ws or wss, but got \"\"",
            "GoError: WebSocket requires url with scheme ws or wss, but got \"http\"",
            "GoError: WebSocket requires valid url, but got \"%\" which resulted in parse \"%\": \
             invalid URL escape \"%\"",
            "GoError: WebSocket requires valid url, but got \"ws://a b/\" which resulted in parse \
             \"ws://a b/\": invalid character \" \" in host name",
            "GoError: WebSocket requires no url fragment, but got \"part\"",
            "GoError: unknown WebSocket's option other",
            "GoError: invalid WebSocket tags option: invalid value for metric tag 'a': only String, \
             Boolean and Number types are accepted as a metric tag values",
            "GoError: unsupported compression algorithm 'x', supported algorithm is 'deflate'",
        ]
    );
    let text =
        load_error("import { WebSocket } from 'k6/websockets'; new WebSocket('ws://a.test')");
    assert!(text.contains("GoError: using websockets in the init context is not supported"));
}

#[test]
fn the_module_has_its_classes() {
    let lines = script(
        "console.log(whole.WebSocket === WebSocket, whole.Blob === Blob, WebSocket.name, typeof Blob);
         const s = new WebSocket(at);
         s.onopen = () => s.close();
         console.log(s instanceof WebSocket, new Blob() instanceof Blob, s.CONNECTING, WebSocket.OPEN);
         console.log(s.readyState, s.url === at, s.protocol === '', s.extensions.length, s.bufferedAmount, s.binaryType, s.onclose);
         console.log(text(() => s.send.call({}, 'x')).startsWith('TypeError'));",
    );
    assert_eq!(
        lines,
        [
            "true true WebSocket function",
            "true true undefined undefined",
            "0 true true 0 0 blob null",
            "true"
        ]
    );
}

#[test]
fn events_have_their_members_and_handlers_come_before_listeners() {
    let lines = script(
        "const s = new WebSocket(at, ['one', 'kit'], { headers: { 'X-A': 'b' } });
         s.addEventListener('open', (e) => log.push('second'));
         s.onopen = function (e) {
           log.push('first', e.type, e.target === s, this === s, Math.abs(e.timestamp - Date.now()) < 60000, s.readyState, s.protocol);
           s.send('hello');
         };
         s.onmessage = (e) => { log.push(e.type, e.data, e.origin === at, Object.keys(e).join()); s.ping() };
         s.onpong = (e) => { log.push(e.type); s.close(3001, 'done'); log.push(s.readyState, s.close(), text(() => s.send('x'))) };
         s.onerror = (e) => log.push('never');
         s.onclose = (e) => { log.push(e.type, e.code, e.reason, Object.keys(e).join(), s.readyState); console.log(log.join(' ')) };",
    );
    assert_eq!(
        lines,
        ["first open true true true 1 kit second message hello true \
             type,target,timestamp,data,origin pong 2  GoError: InvalidStateError close 3001 done \
             type,target,timestamp,code,reason 3"]
    );
}

#[test]
fn handlers_are_functions_and_events_known() {
    let lines = script(
        "const s = new WebSocket(at);
         console.log(text(() => { s.onmessage = 5 }), '|', text(() => s.addEventListener('open', 5)));
         console.log(text(() => s.addEventListener('open')));
         s.addEventListener('other', () => 1);
         console.log(text(() => { s.binaryType = 'text' }));
         s.onopen = () => console.log('never'); s.onopen = null; console.log(s.onopen);
         console.log(text(() => s.send('x')), '|', text(() => s.ping()));
         s.addEventListener('open', () => {
           for (const data of [5, null, {}, undefined, true]) console.log(text(() => s.send(data)));
           for (const code of [1001, 2999, 5000, 0, -1, 'x']) console.log(text(() => s.close(code)));
           console.log(text(() => s.close(1000, 'é'.repeat(62))), s.readyState);
           s.close(1000, 'é'.repeat(61) + 'e');
         });
         s.onclose = (e) => console.log(e.code, e.reason.length);",
    );
    let close = "GoError: InvalidAccessError: Failed to execute 'close' on 'WebSocket': The close \
                 code must be either 1000, or between 3000 and 4999.";
    assert_eq!(
        lines,
        [
            "GoError: a value for 'onmessage' should be callable | GoError: handler for event type \
             \"open\" isn't a callable function",
            "GoError: handler for event type \"open\" isn't a callable function",
            "Warning: can't add event handler: unknown event type: other",
            "GoError: unknown binaryType text, the supported ones are \"blob\" and \"arraybuffer\"",
            "null",
            "GoError: InvalidStateError | GoError: InvalidStateError",
            "GoError: unsupported send type int64",
            "GoError: unsupported send type <nil>",
            "GoError: unsupported send type map[string]interface {}",
            "GoError: unsupported send type <nil>",
            "GoError: unsupported send type bool",
            &format!("{close} 1001 is neither"),
            &format!("{close} 2999 is neither"),
            &format!("{close} 5000 is neither"),
            &format!("{close} 0 is neither"),
            &format!("{close} -1 is neither"),
            &format!("{close} 0 is neither"),
            "GoError: SyntaxError: Failed to execute 'close' on 'WebSocket': The message must not be \
             greater than 123 bytes 1",
            "1000 62",
        ]
    );
}

#[test]
fn bytes_arrive_as_blobs_or_buffers_and_go_as_any_view() {
    let lines = script(
        "const s = new WebSocket(at);
         s.onopen = () => {
           s.send(new Uint8Array([1, 2, 3]).subarray(1));
           s.send(new Uint16Array([258]).buffer);
           s.send(new DataView(new Uint8Array([9, 8, 7]).buffer, 2));
           s.send(new Blob(['bl', new Blob(['ob'])]));
         };
         let n = 0;
         s.onmessage = async (e) => {
           n += 1;
           if (n === 2) s.binaryType = 'arraybuffer';
           if (n === 4) s.close();
           const blob = e.data instanceof Blob;
           const bytes = new Uint8Array(blob ? await e.data.arrayBuffer() : e.data);
           console.log(blob, bytes.join());
         };",
    );
    assert_eq!(
        lines,
        ["true 2,3", "true 2,1", "false 7", "false 98,108,111,98"]
    );
}

#[test]
fn blobs_are_those_of_the_file_api() {
    let lines = script(
        "const b = new Blob(['añ', new Uint8Array([66]).buffer, new Uint8Array([1, 67, 1]).subarray(1, 2), 5, null], { type: 'Text/Plain' });
         console.log(b.size, b.type, await b.text());
         console.log((await b.arrayBuffer()).byteLength, (await b.bytes()).constructor.name, (await b.bytes())[3]);
         const of = async (...range) => { const c = b.slice(...range); return `${await c.text()}:${c.type}` };
         console.log(await of(1, 3), await of(-4), await of(0, -4, 'X'), await of(3, 1), await of(3, 99, 'é'));
         const reader = b.slice(0, 1).stream().getReader();
         const first = await reader.read();
         console.log(first.value.constructor.name, first.value[0], (await reader.read()).done, (await new Blob().stream().getReader().read()).done);
         console.log(new Blob().size, text(() => new Blob('x')), text(() => Blob.prototype.slice.call({})));",
    );
    assert_eq!(
        lines,
        [
            "10 text/plain añBC5null",
            "10 Uint8Array 66",
            "ñ: null: añBC5:x : BC5null:",
            "Uint8Array 97 true true",
            "0 TypeError: Failed to construct 'Blob': The provided value is not an array of parts \
             TypeError: A Blob is expected",
        ]
    );
}

#[test]
fn what_cannot_be_opened_tells_its_handlers_alone() {
    let lines = script(
        "for (const url of ['ws://127.0.0.1:1/', `${at}/refuse`]) {
           const s = new WebSocket(url);
           s.onopen = () => console.log('never');
           s.onerror = (e) => console.log(e.type, e.error, s.readyState);
           s.onclose = (e) => console.log(e.type, 'code' in e, e.reason === '');
           new WebSocket(url);
         }
         await new Promise((done) => setTimeout(done, 50));",
    );
    let mut lines = lines;
    lines.sort();
    assert_eq!(
        lines,
        [
            "close false true",
            "close false true",
            "error dial tcp 127.0.0.1:1: connect: connection refused 3",
            "error websocket: bad handshake 3",
        ]
    );
}

#[test]
fn a_peer_that_closes_or_goes_says_so() {
    let lines = script(
        "for (const code of [1000, 4001, 1006]) await new Promise((done) => {
           const s = new WebSocket(`${at}/close/${code}`);
           s.onerror = (e) => console.log('error', e.error);
           s.onclose = (e) => { console.log('close', e.code, e.reason); done() };
         });",
    );
    assert_eq!(
        lines,
        [
            "close 1000 bye",
            "close 4001 bye",
            "error websocket: close 1006 (abnormal closure): unexpected EOF",
            "close 1006 ",
        ]
    );
}

#[test]
fn one_that_is_closed_before_it_is_open_ends() {
    let lines = script(
        "const s = new WebSocket(`${at}/never`);
         s.onopen = () => console.log('never');
         s.onerror = (e) => console.log(e.error);
         s.onclose = (e) => console.log('closed', 'code' in e, s.readyState);
         setTimeout(() => { s.close(); console.log(s.readyState) }, 5);",
    );
    assert_eq!(
        lines,
        [
            "2",
            "WebSocket is closed before the connection is established",
            "closed false 3"
        ]
    );
}

#[test]
fn an_iteration_waits_for_its_sockets_and_messages_come_while_it_sleeps() {
    let server = Server::start();
    let lines = run(
        &format!(
            "import {{ WebSocket }} from 'k6/websockets'; import {{ sleep }} from 'k6';
             export default function () {{
               const s = new WebSocket('ws://{}');
               s.onopen = () => {{ s.send('now'); sleep(0.02); console.log('slept') }};
               s.onmessage = (e) => {{ console.log(e.data); setTimeout(() => s.close(), 1) }};
               s.onclose = () => console.log('closed', __ITER);
               console.log('returned');
             }}",
            server.address
        ),
        2,
    );
    let of = |iteration| ["returned", "slept", "now", iteration];
    assert_eq!(lines, [of("closed 0"), of("closed 1")].concat());
}

#[test]
fn a_handler_that_throws_ends_its_socket_and_the_iteration() {
    let (lines, server) = with_server(
        "const s = new WebSocket(at), other = new WebSocket(at);
         s.onmessage = () => { throw new Error('oh') };
         s.onopen = () => s.send('x');
         s.onerror = (e) => console.log(e.error);
         s.onclose = (e) => console.log('closed', e.code, s.readyState);
         other.onclose = other.onerror = () => console.log('never');",
    );
    assert_eq!(lines[..2], ["Error: oh", "closed 1000 3"]);
    assert!(lines[2].starts_with("Error: Error: oh\n\tat "), "{lines:?}");
    assert_eq!(lines.len(), 3, "{lines:?}");
    // The other one was cancelled with the iteration, wherever it was.
    let codes = server.closed(1);
    assert!(codes.iter().all(|code| *code == 1000), "{codes:?}");
}

#[test]
fn a_pong_that_nobody_asked_for_is_warned_of() {
    let lines = script(
        "const s = new WebSocket(`${at}/pong`);
         s.onpong = (e) => { console.log(e.type); s.close() };",
    );
    assert_eq!(
        lines,
        ["Warning: received pong for unknown ping ID unasked", "pong"]
    );
}
