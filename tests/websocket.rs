//! k6/ws and k6/websockets through the whole program: over TLS, in many VUs, at the end of a run.

mod support;

use std::{
    collections::{BTreeMap, BTreeSet},
    io::{BufRead, Read, Write},
    net::{SocketAddr, TcpListener, TcpStream},
    sync::{
        Arc,
        mpsc::{self, Receiver, Sender},
    },
};

use serde_json::Value;
use support::{Finished, Folder, Launch, PATIENCE};
use tungstenite::{
    Message,
    handshake::server::{ErrorResponse, Request, Response},
    http::HeaderValue,
};

/// A server that echoes, with TLS for `localhost` or without.
struct Echo {
    address: SocketAddr,
    /// Its certificate, signed by itself.
    certificate: Option<String>,
    /// Codes that clients have closed with; 0 for one that was gone without a word.
    closed: Receiver<u16>,
}

impl Echo {
    fn start() -> Self {
        Self::with(None)
    }

    fn with_tls() -> Self {
        let made = rcgen::generate_simple_self_signed(vec!["localhost".to_owned()]);
        let made = made.expect("a certificate");
        let key = rustls::pki_types::PrivateKeyDer::try_from(made.signing_key.serialize_der());
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let mut config = rustls::ServerConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .expect("versions")
            .with_no_client_auth()
            .with_single_cert(vec![made.cert.der().clone()], key.expect("a key"))
            .expect("a configuration");
        // A server that prefers what cannot be upgraded.
        config.alpn_protocols = vec![b"h2".to_vec(), b"http/1.1".to_vec()];
        Self::with(Some((Arc::new(config), made.cert.pem())))
    }

    fn with(tls: Option<(Arc<rustls::ServerConfig>, String)>) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
        let address = listener.local_addr().expect("an address");
        let (sender, closed) = mpsc::channel();
        let (config, certificate) = tls.unzip();
        // Ends with the process of the test.
        std::thread::spawn(move || {
            for stream in listener.incoming() {
                let Ok(stream) = stream else { return };
                let (config, sender) = (config.clone(), sender.clone());
                std::thread::spawn(move || match config {
                    None => serve(stream, &sender),
                    Some(config) => {
                        let session = rustls::ServerConnection::new(config).expect("a session");
                        serve(rustls::StreamOwned::new(session, stream), &sender);
                    }
                });
            }
        });
        Self {
            address,
            certificate,
            closed,
        }
    }

    fn url(&self) -> String {
        match self.certificate {
            Some(_) => format!("wss://localhost:{}/echo", self.address.port()),
            None => format!("ws://{}/echo", self.address),
        }
    }

    /// Codes of so many clients.
    #[track_caller]
    fn closed(&self, count: usize) -> BTreeMap<u16, usize> {
        let mut codes = BTreeMap::new();
        for _ in 0..count {
            let code = self.closed.recv_timeout(PATIENCE).expect("one more end");
            *codes.entry(code).or_default() += 1;
        }
        codes
    }
}

fn serve<S: Read + Write>(stream: S, closed: &Sender<u16>) {
    // The type of the library's callback.
    #[allow(clippy::result_large_err)]
    let choose = |request: &Request, mut response: Response| -> Result<Response, ErrorResponse> {
        if request.headers().contains_key("sec-websocket-protocol") {
            let chosen = HeaderValue::from_static("kit");
            let headers = response.headers_mut();
            headers.insert("sec-websocket-protocol", chosen);
        }
        Ok(response)
    };
    let Ok(mut socket) = tungstenite::accept_hdr(stream, choose) else {
        return;
    };
    let mut code = 0;
    while let Ok(message) = socket.read() {
        match message {
            Message::Text(_) | Message::Binary(_) => drop(socket.send(message)),
            Message::Close(frame) => code = frame.map_or(1005, |frame| frame.code.into()),
            _ => {}
        }
    }
    let _ = closed.send(code);
}

/// The agent in a folder with a script that aims at `__ENV.AT`; its samples go to `out.json`.
fn volley(folder: &Folder, echo: &Echo, script: &str, words: &str) -> Launch {
    folder.write("script.js", script);
    let launch = Launch::volley(folder.path())
        .words("run --quiet --out json=out.json")
        .words(words)
        .args(["--env", &format!("AT={}", echo.url()), "script.js"]);
    match &echo.certificate {
        None => launch,
        Some(certificate) => launch.env(
            "SSL_CERT_FILE",
            folder.write("certificate.pem", certificate),
        ),
    }
}

/// What the script has said, in order.
fn said(finished: &Finished) -> Vec<String> {
    let lines = finished.log().into_iter();
    lines
        .filter(|line| line.field("source") == Some("console"))
        .map(|line| line.msg)
        .collect()
}

/// The values of a metric with their tags.
fn points(folder: &Folder, metric: &str) -> Vec<(f64, Value)> {
    let file = std::fs::File::open(folder.file("out.json")).expect("the JSON lines");
    std::io::BufReader::new(file)
        .lines()
        .map(|line| serde_json::from_str(&line.expect("a line")).expect("JSON"))
        .filter(|line: &Value| line["type"] == "Point" && line["metric"] == metric)
        .map(|line| {
            let value = line["data"]["value"].as_f64().expect("a number");
            (value, line["data"]["tags"].clone())
        })
        .collect()
}

const BOTH: &str = "import ws from 'k6/ws'; import { WebSocket } from 'k6/websockets';
    export default function () {
      const params = { headers: { 'Sec-WebSocket-Protocol': 'kit' }, tags: { kind: 'old' } };
      const r = ws.connect(__ENV.AT, params, (s) => {
        s.on('open', () => { s.send('one'); s.ping(); });
        s.on('message', (m) => console.log(m));
        s.on('pong', () => s.setTimeout(() => s.close(), 1));
      });
      console.log(r.status);
      const s = new WebSocket(__ENV.AT, 'kit', { tags: { kind: 'new', name: 'short' } });
      s.onopen = () => { s.send('two'); s.ping(); };
      s.onmessage = (e) => console.log(e.data);
      s.onpong = () => s.close();
      s.onclose = (e) => console.log(e.code);
    }";

#[test]
fn both_modules_speak_and_measure_with_tls_and_without() {
    for echo in [Echo::start(), Echo::with_tls()] {
        let folder = Folder::new();
        let finished = volley(
            &folder,
            &echo,
            BOTH,
            "--system-tags url,name,status,subproto,ip",
        )
        .run();
        let finished = finished.expect(0);
        assert_eq!(said(&finished), ["one", "101", "two", "1000"]);
        assert_eq!(echo.closed(2), BTreeMap::from([(1000, 1), (1001, 1)]));

        let tags = |kind: &str| {
            let mut tags = serde_json::json!({ "kind": kind, "status": "101", "subproto": "kit", "ip": "127.0.0.1" });
            let (url, name) = match kind {
                "new" => ("short".to_owned(), Some("short")),
                _ => (echo.url(), None),
            };
            tags["url"] = url.into();
            if let Some(name) = name {
                tags["name"] = name.into();
            }
            tags
        };
        // A close of k6/websockets counts as a message.
        for (metric, counts) in [
            ("ws_sessions", [1, 1]),
            ("ws_connecting", [1, 1]),
            ("ws_session_duration", [1, 1]),
            ("ws_msgs_sent", [1, 2]),
            ("ws_msgs_received", [1, 1]),
            ("ws_ping", [1, 1]),
        ] {
            let points = points(&folder, metric);
            let kinds = ["old", "new"];
            let expected = kinds.iter().zip(counts);
            let expected = expected.flat_map(|(kind, count)| vec![tags(kind); count]);
            let found: Vec<Value> = points.iter().map(|(_, tags)| tags.clone()).collect();
            assert_eq!(found, expected.collect::<Vec<_>>(), "{metric}");
            assert!(points.iter().all(|(value, _)| *value > 0.0), "{points:?}");
        }
        for metric in ["data_sent", "data_received"] {
            let (bytes, _) = points(&folder, metric)[0];
            assert!(bytes > 250.0, "{metric} {bytes}");
        }
    }
}

#[test]
fn hosts_and_blocked_addresses_are_those_of_all_connections() {
    let echo = Echo::start();
    let folder = Folder::new();
    let port = echo.address.port();
    let script = format!(
        "import ws from 'k6/ws';
         export const options = {{ hosts: {{ 'far.test': '127.0.0.1' }}, blacklistIPs: ['127.9.0.0/16'],
           blockHostnames: ['*.blocked.test'] }};
         export default function () {{
           console.log(ws.connect('ws://far.test:{port}/', (s) => s.on('open', () => s.close())).status);
           console.log(ws.connect('ws://127.9.1.2:{port}/', () => 1).error);
           console.log(ws.connect('ws://a.blocked.test/', () => 1).error);
         }}"
    );
    let finished = volley(&folder, &echo, &script, "").run().expect(0);
    assert_eq!(
        said(&finished),
        [
            "101",
            "IP (127.9.1.2) is in a blacklisted range (127.9.0.0/16)",
            "hostname (a.blocked.test) is in a blocked pattern (*.blocked.test)"
        ]
    );
    assert_eq!(points(&folder, "ws_sessions").len(), 3);
    assert_eq!(points(&folder, "ws_session_duration").len(), 1);
}

#[test]
fn failures_throw_where_the_options_say_so() {
    let echo = Echo::start();
    let folder = Folder::new();
    let script = "import ws from 'k6/ws';
        export default function () { ws.connect('ws://127.0.0.1:1/', () => 1); }";
    let finished = volley(&folder, &echo, script, "--throw").run().expect(0);
    let error = finished.error();
    let text = "GoError: dial tcp 127.0.0.1:1: connect: connection refused\n";
    assert!(error.msg.starts_with(text), "{}", error.msg);
}

#[test]
fn the_former_name_is_the_same_module_and_warns_once() {
    let echo = Echo::start();
    let folder = Folder::new();
    let script = "import { WebSocket } from 'k6/experimental/websockets';
        import { WebSocket as Now } from 'k6/websockets';
        export default function () {
          const s = new WebSocket(__ENV.AT);
          s.onopen = () => { console.log(s instanceof Now); s.close(); };
        }";
    let finished = volley(&folder, &echo, script, "--vus 3 --iterations 3").run();
    let finished = finished.expect(0);
    assert_eq!(said(&finished), ["true", "true", "true"]);
    let warnings: Vec<String> = finished
        .logged("warning")
        .into_iter()
        .map(|line| line.msg)
        .collect();
    assert_eq!(
        warnings,
        [
            "k6/experimental/websockets is deprecated and will be removed in a future release. \
             Please use k6/websockets instead."
        ]
    );
}

#[test]
fn many_vus_hold_sockets_at_the_same_time_and_no_message_is_lost() {
    let echo = Echo::start();
    let folder = Folder::new();
    let script = "import { WebSocket } from 'k6/websockets'; import ws from 'k6/ws';
        export const options = { scenarios: {
          new: { executor: 'per-vu-iterations', vus: 40, iterations: 2, exec: 'now' },
          old: { executor: 'per-vu-iterations', vus: 20, iterations: 2, exec: 'old' } } };
        export function now() {
          const s = new WebSocket(__ENV.AT);
          let n = 0;
          s.onopen = () => { for (let i = 0; i < 10; i++) s.send(`${i}`); };
          s.onmessage = (e) => { if (e.data !== `${n}`) console.error(e.data, n); n += 1; if (n === 10) s.close(); };
        }
        export function old() {
          let n = 0;
          ws.connect(__ENV.AT, (s) => {
            s.on('open', () => { for (let i = 0; i < 10; i++) s.send(`${i}`); });
            s.on('message', (m) => { if (m !== `${n}`) console.error(m, n); n += 1; if (n === 10) s.close(); });
          });
        }";
    let finished = volley(&folder, &echo, script, "").run().expect(0);
    assert_eq!(said(&finished), [""; 0]);
    assert_eq!(points(&folder, "ws_sessions").len(), 120);
    assert_eq!(points(&folder, "ws_session_duration").len(), 120);
    assert_eq!(points(&folder, "ws_msgs_received").len(), 1200);
    assert_eq!(points(&folder, "ws_msgs_sent").len(), 1200 + 80);
    assert_eq!(echo.closed(120), BTreeMap::from([(1000, 80), (1001, 40)]));
}

/// Each VU holds a socket to the end; `ready` is said when all are open.
const HELD: &str = "import { WebSocket } from 'k6/websockets'; import ws from 'k6/ws';
    import exec from 'k6/execution';
    export const options = { scenarios: {
      new: { executor: 'constant-vus', vus: 3, duration: __ENV.LONG, gracefulStop: '0s', exec: 'now' },
      old: { executor: 'constant-vus', vus: 2, duration: __ENV.LONG, gracefulStop: '0s', exec: 'old' } } };
    export function now() {
      const s = new WebSocket(__ENV.AT);
      s.onopen = () => { console.log('open'); if (__ENV.ABORT) exec.test.abort('enough'); };
      s.onclose = s.onerror = () => console.log('never');
    }
    export function old() {
      ws.connect(__ENV.AT, (s) => {
        s.on('open', () => console.log('open'));
        s.on('close', () => console.log('never'));
        s.on('error', () => console.log('never'));
      });
      console.log('never');
    }";

#[test]
fn the_end_of_a_scenario_closes_sockets_and_counts_their_sessions() {
    let echo = Echo::start();
    let folder = Folder::new();
    let finished = volley(&folder, &echo, HELD, "--env LONG=2s")
        .run()
        .expect(0);
    let said: BTreeSet<String> = said(&finished).into_iter().collect();
    assert!(!said.contains("never"), "{}", finished.account());
    let sessions = points(&folder, "ws_sessions").len();
    assert_eq!(sessions, 5, "{}", finished.account());
    assert_eq!(points(&folder, "ws_session_duration").len(), sessions);
    assert_eq!(echo.closed(5), BTreeMap::from([(1000, 3), (1001, 2)]));
    assert!(points(&folder, "iterations").is_empty());
}

#[test]
fn a_signal_closes_sockets_and_the_summary_has_their_sessions() {
    let echo = Echo::start();
    let folder = Folder::new();
    let words = "--env LONG=10m --summary-export summary.json";
    let mut running = volley(&folder, &echo, HELD, words).start();
    running.until("open sockets", |running| {
        (running.stderr().matches("msg=open").count() == 5).then_some(())
    });
    running.terminate();
    let finished = running.finish();
    assert!(!said(&finished).contains(&"never".to_owned()));
    assert_eq!(echo.closed(5), BTreeMap::from([(1000, 3), (1001, 2)]));
    let metrics = &folder.json("summary.json")["metrics"];
    assert_eq!(metrics["ws_sessions"]["count"], 5, "{metrics}");
    assert_eq!(points(&folder, "ws_session_duration").len(), 5);
}

#[test]
fn an_abort_in_a_handler_ends_the_test() {
    let echo = Echo::start();
    let folder = Folder::new();
    let words = "--env LONG=10m --env ABORT=1";
    let finished = volley(&folder, &echo, HELD, words).run().expect(108);
    assert!(!said(&finished).contains(&"never".to_owned()));
}

/// A peer of which the agent sees one half only.
#[test]
fn a_server_that_never_answers_ends_with_the_scenario() {
    let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
    let address = listener.local_addr().expect("an address");
    std::thread::spawn(move || {
        let streams: Vec<TcpStream> = listener.incoming().map_while(Result::ok).collect();
        drop(streams);
    });
    let echo = Echo {
        address,
        certificate: None,
        closed: mpsc::channel().1,
    };
    let folder = Folder::new();
    let finished = volley(&folder, &echo, HELD, "--env LONG=1s")
        .run()
        .expect(0);
    assert_eq!(said(&finished), [""; 0]);
}
