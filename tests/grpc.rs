//! k6/net/grpc through the whole program: TLS, samples and their tags, archives, the end of a run.

#[path = "../scripting/src/modules/grpc/server.rs"]
mod server;
mod support;

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::atomic::Ordering,
};

use serde_json::Value;
use server::{FILES, Reflected, Server};
use support::{Finished, Folder, Launch, until};

/// A folder with a script and the files of the service.
fn folder(script: &str) -> Folder {
    let folder = Folder::with("script.js", script);
    for (name, text) in FILES {
        folder.write(name, text);
    }
    folder
}

fn launch(folder: &Folder, words: &str, server: &Server) -> Launch {
    Launch::volley(folder.path())
        .words(words)
        .args(["--env", &format!("AT={}", server.address)])
}

/// What the script has said, in order.
fn said(finished: &Finished) -> Vec<String> {
    finished
        .log()
        .into_iter()
        .filter(|line| line.field("source") == Some("console"))
        .map(|line| line.msg)
        .collect()
}

/// The samples of a file of the JSON output, by their metric: values with their tags.
fn samples(folder: &Folder) -> BTreeMap<String, Vec<(f64, Value)>> {
    let mut all: BTreeMap<String, Vec<(f64, Value)>> = BTreeMap::new();
    for line in folder.read("out.json").lines() {
        let line: Value = serde_json::from_str(line).expect("JSON");
        if line["type"] == "Point" {
            let name = line["metric"].as_str().expect("a name").to_owned();
            let value = line["data"]["value"].as_f64().expect("a number");
            let sample = (value, line["data"]["tags"].clone());
            all.entry(name).or_default().push(sample);
        }
    }
    all
}

fn certified() -> (rustls::ServerConfig, String) {
    let made = rcgen::generate_simple_self_signed(vec!["localhost".to_owned()]);
    let made = made.expect("a certificate");
    let key = rustls::pki_types::PrivateKeyDer::try_from(made.signing_key.serialize_der());
    let provider = std::sync::Arc::new(rustls::crypto::ring::default_provider());
    let mut config = rustls::ServerConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .expect("versions")
        .with_no_client_auth()
        .with_single_cert(vec![made.cert.der().clone()], key.expect("a key"))
        .expect("a configuration");
    config.alpn_protocols = vec![b"h2".to_vec()];
    (config, made.cert.pem())
}

const LOADED: &str =
    "import grpc, { Client, Stream } from 'k6/net/grpc'; const client = new Client();
    client.load(['protos'], 'service.proto');";

#[test]
fn calls_and_streams_leave_samples_with_their_tags() {
    let script = format!(
        "{LOADED}
         export const options = {{ vus: 2, iterations: 6, systemTags: ['url', 'name', 'service', 'method', 'status', 'ip', 'group'] }};
         export default function () {{
           if (__ITER === 0) client.connect(__ENV.AT, {{ plaintext: true }});
           client.invoke('t.v1.Test/Echo', {{}}, {{ tags: {{ mine: 'yes' }} }});
           client.invoke('t.v1.Test/Fail', {{ code: 5 }}, {{ tags: {{ name: 'failing' }} }});
           client.healthCheck();
           const s = new Stream(client, 't.v1.Test/Chat');
           let left = 3; s.on('data', () => {{ if (--left === 0) s.end(); }});
           for (let n = 0; n < 3; n++) s.write({{ n }});
         }}"
    );
    let (server, folder) = (Server::start(), folder(&script));
    let words = "run -q script.js --out json=out.json --summary-export=summary.json";
    let finished = launch(&folder, words, &server).run();
    assert_eq!(finished.code, 0, "{}", finished.stderr);

    let all = samples(&folder);
    let durations = &all["grpc_req_duration"];
    assert_eq!(durations.len(), 24);
    assert!(durations.iter().all(|(ms, _)| *ms > 0.0));
    let calls = server.calls();
    assert_eq!(calls.len(), 24);
    let tags: BTreeSet<String> = durations.iter().map(|(_, tags)| tags.to_string()).collect();
    let at = server.address;
    let expected = |path: &str, more: &[(&str, &str)]| {
        let (service, method) = path[1..].split_once('/').expect("a path");
        let mut tags: BTreeMap<&str, String> = [
            ("group", String::new()),
            ("ip", "127.0.0.1".to_owned()),
            ("method", method.to_owned()),
            ("name", path.to_owned()),
            ("service", service.to_owned()),
            ("status", "0".to_owned()),
            ("url", format!("{at}{path}")),
        ]
        .into();
        tags.extend(
            more.iter()
                .map(|(name, value)| (*name, (*value).to_owned())),
        );
        serde_json::to_value(tags).expect("JSON")
    };
    let fail = [("name", "failing"), ("status", "5")];
    let wanted = [
        expected("/t.v1.Test/Echo", &[("mine", "yes")]),
        expected("/t.v1.Test/Fail", &fail),
        expected("/grpc.health.v1.Health/Check", &[]),
        expected("/t.v1.Test/Chat", &[]),
    ];
    let found: Vec<Value> = tags
        .iter()
        .map(|tags| serde_json::from_str(tags).expect("JSON"))
        .collect();
    assert_eq!(found.len(), 4, "{found:#?}");
    for tags in wanted {
        assert!(found.contains(&tags), "{tags} in {found:#?}");
    }
    for (metric, count) in [
        ("grpc_streams", 6),
        ("grpc_streams_msgs_sent", 18),
        ("grpc_streams_msgs_received", 18),
    ] {
        let samples = &all[metric];
        assert_eq!(samples.len(), count, "{metric}");
        assert_eq!(samples[0].1["method"], "Chat");
        assert!(samples[0].1.get("status").is_none());
    }
    let bytes = |metric: &str| all[metric].iter().map(|(value, _)| value).sum::<f64>();
    // Each call is a frame of headers and one of data, of 9 bytes and more each.
    assert!(bytes("data_sent") > 24.0 * 25.0, "{}", bytes("data_sent"));
    assert!(bytes("data_received") > 24.0 * 25.0);
    assert_eq!(server.seen.connections.load(Ordering::SeqCst), 2);
    assert_eq!(
        folder.json("summary.json")["metrics"]["grpc_streams"]["count"],
        6
    );
}

#[test]
fn an_archive_holds_the_descriptions_with_all_they_import() {
    let script = format!(
        "{LOADED} const other = new Client(); other.load([], 'protos/lib/number.proto');
         export default function () {{
           client.connect(__ENV.AT, {{ plaintext: true }});
           console.log(client.invoke('t.v1.Test/Echo', {{ inner: {{ n: 7 }} }}).message.inner.n);
         }}"
    );
    let (server, folder) = (Server::start(), folder(&script));
    let made = Launch::volley(folder.path())
        .words("archive -O test.tar script.js")
        .run();
    assert_eq!(made.code, 0, "{}", made.stderr);
    let elsewhere = Folder::new();
    std::fs::copy(folder.file("test.tar"), elsewhere.file("test.tar")).expect("a copy");
    drop(folder);
    let finished = launch(
        &elsewhere,
        "run -q test.tar --vus 3 --iterations 3",
        &server,
    )
    .run();
    assert_eq!(finished.code, 0, "{}", finished.stderr);
    assert_eq!(said(&finished), ["7", "7", "7"]);
}

#[test]
fn servers_on_tls_are_trusted_by_the_tests_options_or_the_connections_own() {
    let script = format!(
        "{LOADED} const pem = open('cert.pem');
         export const options = {{ iterations: 1, hosts: {{ 'localhost': '127.0.0.1' }} }};
         const call = (params) => {{
           try {{
             client.connect(`localhost:${{__ENV.AT.split(':')[1]}}`, params);
             const lines = client.invoke('t.v1.Test/Head', {{}}).message.message.split('\\n');
             console.log(lines[0].split(':')[0], lines.find((l) => l.startsWith('user-agent')));
           }} catch (e) {{ console.log(e.message); }}
         }};
         export default function () {{
           call({{}}); call({{ tls: {{ cacerts: pem }} }}); call({{ tls: {{ cacerts: [pem] }} }});
         }}"
    );
    let (config, pem) = certified();
    let server = Server::with(Some(config), Reflected::default());
    let folder = folder(&script);
    folder.write("cert.pem", pem);
    let finished = launch(&folder, "run -q script.js --user-agent mine/1", &server).run();
    let agent = concat!(
        "https user-agent: mine/1 grpc-rust-volley/",
        env!("CARGO_PKG_VERSION")
    );
    let refused = "connection error: desc = \"transport: authentication handshake failed: tls: \
                   failed to verify certificate: x509: certificate signed by unknown authority\"";
    assert_eq!(
        said(&finished),
        [refused, agent, agent],
        "{}",
        finished.stderr
    );
    let words = "run -q script.js --insecure-skip-tls-verify --user-agent mine/1";
    let finished = launch(&folder, words, &server).run();
    assert_eq!(said(&finished), [agent; 3], "{}", finished.stderr);
}

#[test]
fn names_go_by_the_rules_of_the_test() {
    let script = format!(
        "{LOADED}
         export const options = {{ iterations: 1, blockHostnames: ['*.blocked.test'], blacklistIPs: ['192.0.2.0/24'],
           hosts: {{ 'grpc.test': '127.0.0.1', 'far.test': '192.0.2.1' }} }};
         const port = __ENV.AT.split(':')[1];
         export default function () {{
           for (const host of ['grpc.test', 'a.blocked.test', 'far.test'])
             try {{
               client.connect(`${{host}}:${{port}}`, {{ plaintext: true }});
               console.log(client.invoke('t.v1.Test/Head', {{}}).message.message.split('\\n')[0]);
             }} catch (e) {{ console.log(e.message); }}
         }}"
    );
    let (server, folder) = (Server::start(), folder(&script));
    let finished = launch(&folder, "run -q script.js", &server)
        // Calls go around proxies.
        .env("HTTP_PROXY", "http://127.0.0.1:1")
        .run();
    let failed =
        |cause| format!("connection error: desc = \"transport: error while dialing: {cause}\"");
    assert_eq!(
        said(&finished),
        [
            format!("http://grpc.test:{}/t.v1.Test/Head", server.address.port()),
            failed("hostname (a.blocked.test) is in a blocked pattern (*.blocked.test)"),
            failed("IP (192.0.2.1) is in a blacklisted range (192.0.2.0/24)"),
        ],
        "{}",
        finished.stderr
    );
}

#[test]
fn connections_come_and_go_with_iterations() {
    let script = format!(
        "{LOADED}
         export default function () {{
           client.connect(__ENV.AT, {{ plaintext: true }});
           client.invoke('t.v1.Test/Echo', {{}});
           if (__ITER % 2) client.close();
           const own = new Client(); own.connect(__ENV.AT, {{ plaintext: true }});
         }}"
    );
    let (server, folder) = (Server::start(), folder(&script));
    let finished = launch(
        &folder,
        "run -q script.js --vus 2 --iterations 600",
        &server,
    )
    .env("VOLLEY_WORKERS", "1")
    .run();
    assert_eq!(finished.code, 0, "{}", finished.stderr);
    assert_eq!(said(&finished).len(), 0);
    assert_eq!(server.seen.connections.load(Ordering::SeqCst), 1200);
    until("connections to be closed", || {
        (server.seen.open.load(Ordering::SeqCst) == 0).then_some(())
    });
    // Not all of them at the end.
    let most = server.seen.most_open.load(Ordering::SeqCst);
    assert!(most < 300, "{most}");
}

#[test]
fn the_end_of_a_run_gives_calls_and_streams_up() {
    let script = format!(
        "{LOADED}
         export const options = {{ scenarios: {{
           calls: {{ executor: 'constant-vus', vus: 2, duration: '1s', gracefulStop: '0s', exec: 'calls' }},
           streams: {{ executor: 'constant-vus', vus: 2, duration: '1s', gracefulStop: '0s', exec: 'streams' }},
         }} }};
         export function calls() {{
           client.connect(__ENV.AT, {{ plaintext: true }});
           client.invoke('t.v1.Test/Wait', {{}});
         }}
         export function streams() {{
           client.connect(__ENV.AT, {{ plaintext: true }});
           const s = new Stream(client, 't.v1.Test/Chat');
           s.on('data', () => s.write({{ n: 1 }})); s.on('error', () => console.log('error', s)); s.on('end', () => console.log('end'));
           s.write({{ n: 1 }});
         }}"
    );
    let (server, folder) = (Server::start(), folder(&script));
    let finished = launch(&folder, "run -q script.js --out json=out.json", &server).run();
    assert_eq!(finished.code, 0, "{}", finished.stderr);
    assert!(said(&finished).is_empty(), "{}", finished.stderr);
    until("calls to be given up", || {
        (server.seen.given_up.load(Ordering::SeqCst) == 2).then_some(())
    });
    let all = samples(&folder);
    assert_eq!(all["grpc_streams"].len(), 2);
    assert!(!all.contains_key("grpc_req_duration"));
    let received: f64 = all["grpc_streams_msgs_received"]
        .iter()
        .map(|(n, _)| n)
        .sum();
    assert!(received >= 2.0);
}

#[test]
fn many_vus_count_what_the_server_counts() {
    let script = format!(
        "{LOADED}
         export const options = {{ vus: 40, iterations: 2000, thresholds: {{
           'grpc_req_duration{{status:0}}': ['max>0'], checks: ['rate==1'] }} }};
         import {{ check }} from 'k6';
         export default function () {{
           if (__ITER === 0) client.connect(__ENV.AT, {{ plaintext: true }});
           const r = client.invoke('t.v1.Test/Echo', {{ small: __ITER }});
           check(r, {{ echoed: (r) => r.message.small === __ITER }});
         }}"
    );
    let (server, folder) = (Server::start(), folder(&script));
    let words = "run -q script.js --summary-export=summary.json";
    let finished = launch(&folder, words, &server).run();
    assert_eq!(finished.code, 0, "{}", finished.stderr);
    assert_eq!(server.calls().len(), 2000);
    let connections = server.seen.connections.load(Ordering::SeqCst);
    assert!(connections <= 40, "{connections}");
    assert_eq!(
        folder.json("summary.json")["metrics"]["checks"]["passes"],
        2000
    );
}

#[test]
fn the_old_name_is_the_module_with_one_warning() {
    let script = LOADED.replace("k6/net/grpc", "k6/experimental/grpc")
        + "export default function () {
             client.connect(__ENV.AT, { plaintext: true });
             console.log(client.invoke('t.v1.Test/Echo', {}).status === grpc.StatusOK, typeof Stream);
           }";
    let (server, folder) = (Server::start(), folder(&script));
    let finished = launch(&folder, "run -q script.js --vus 2 --iterations 2", &server).run();
    assert_eq!(said(&finished), ["true function"; 2], "{}", finished.stderr);
    let warnings = finished
        .stderr
        .matches("has been graduated, please use k6/net/grpc");
    assert_eq!(warnings.count(), 1, "{}", finished.stderr);
}
