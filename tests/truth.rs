//! A server that knows the truth: it delays, cuts, resets and lies on purpose, and what a script
//! sees of it has to agree. Status, error code, the phase that holds the delay, and the counts.

mod support;

use std::{
    collections::BTreeMap,
    io::{ErrorKind, Read, Write},
    net::{Shutdown, SocketAddr, TcpListener, TcpStream},
    sync::{Arc, Mutex},
    thread,
    time::Duration,
};

use rustls::{ServerConfig, ServerConnection, StreamOwned, pki_types::PrivateKeyDer};
use serde_json::Value;
use support::{Folder, Launch};

/// Long enough to stand out of whatever else a loaded machine does to a phase.
const DELAY: u64 = 500;
/// What a request may take at most: the timeout of the script's requests.
const TIMEOUT: u64 = 2_000;

/// What the server does once it has a request, or, before that, with a connection.
#[derive(Clone)]
enum Step {
    Send(Vec<u8>),
    Pause(u64),
    /// Closes the sending side only.
    HalfClose,
    /// Drops the connection with a reset.
    Reset,
    Close,
    /// Answers nothing until the client is gone.
    Hang,
}

use Step::{Close, HalfClose, Hang, Pause, Reset};

fn send(text: &str) -> Step {
    Step::Send(text.as_bytes().to_vec())
}

/// What a script should see of a path.
struct Case {
    path: &'static str,
    steps: Vec<Step>,
    status: u64,
    code: u64,
    /// The phase that holds the delay, if there is one.
    phase: Option<&'static str>,
    /// The length of the body that arrives.
    body: Option<u64>,
    /// How often the request arrives.
    arrives: usize,
}

impl Case {
    fn new(path: &'static str, steps: Vec<Step>, status: u64, code: u64) -> Self {
        Self {
            path,
            steps,
            status,
            code,
            phase: None,
            body: None,
            arrives: 1,
        }
    }

    fn in_phase(mut self, phase: &'static str) -> Self {
        self.phase = Some(phase);
        self
    }

    fn with_body(mut self, length: u64) -> Self {
        self.body = Some(length);
        self
    }
}

fn cases() -> Vec<Case> {
    let ok = "HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nhello";
    let long_header = format!(
        "HTTP/1.1 200 OK\r\nX-Long: {}\r\nContent-Length: 5\r\n\r\nhello",
        "x".repeat(60_000)
    );
    let many_headers: String = (0..90).map(|n| format!("X-{n}: {n}\r\n")).collect();
    let many_headers = format!("HTTP/1.1 200 OK\r\n{many_headers}Content-Length: 5\r\n\r\nhello");
    vec![
        Case::new("/plain", vec![send(ok)], 200, 0).with_body(5),
        Case::new("/first-byte", vec![Pause(DELAY), send(ok)], 200, 0)
            .in_phase("waiting")
            .with_body(5),
        Case::new(
            "/between",
            vec![
                send("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n"),
                Pause(DELAY),
                send("6\r\n world\r\n0\r\n\r\n"),
            ],
            200,
            0,
        )
        .in_phase("receiving")
        .with_body(11),
        Case::new(
            "/within-head",
            vec![send("HTTP/1.1 200 O"), Pause(DELAY), send("K\r\nContent-Length: 0\r\n\r\n")],
            200,
            0,
        )
        .in_phase("receiving")
        .with_body(0),
        Case::new("/late-error", vec![
            Pause(DELAY),
            send("HTTP/1.1 503 Busy\r\nContent-Length: 0\r\n\r\n"),
        ], 503, 1503)
        .in_phase("waiting"),
        // An idle connection that dies may be tried once more: this one had a fresh one.
        Case::new("/reset", vec![Reset], 0, 1220),
        Case::new("/late-reset", vec![Pause(DELAY), Reset], 0, 1220).in_phase("waiting"),
        Case::new("/closed", vec![Close], 0, 1000),
        Case::new(
            "/half",
            vec![send("HTTP/1.1 200 OK\r\nContent-Length: 50\r\n\r\nhello"), HalfClose],
            0,
            1000,
        ),
        Case::new(
            "/until-close",
            vec![send("HTTP/1.0 200 OK\r\n\r\nhello"), Pause(DELAY), Close],
            200,
            0,
        )
        .in_phase("receiving")
        .with_body(5),
        Case::new(
            "/too-much",
            vec![send("HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nhello and more")],
            200,
            0,
        )
        .with_body(5),
        Case::new(
            "/trailers",
            vec![send(
                "HTTP/1.1 200 OK\r\nTrailer: X-T\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n\
                 0\r\nX-T: yes\r\n\r\n",
            )],
            200,
            0,
        )
        .with_body(5),
        Case::new(
            "/hints",
            vec![send("HTTP/1.1 103 Early Hints\r\nLink: </a>\r\n\r\n"), send(ok)],
            200,
            0,
        )
        .with_body(5),
        Case::new(
            "/continue",
            vec![send("HTTP/1.1 100 Continue\r\n\r\n"), send(ok)],
            200,
            0,
        )
        .with_body(5),
        Case::new("/long-header", vec![send(&long_header)], 200, 0).with_body(5),
        Case::new("/many-headers", vec![send(&many_headers)], 200, 0).with_body(5),
        Case::new("/garbage", vec![send("SSH-2.0-x\r\n\r\n")], 0, 1000),
        Case::new("/cut-chunk", vec![
            send("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nff\r\nhello"),
            Close,
        ], 0, 1000),
        Case::new("/no-chunk", vec![
            send("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nnope\r\nhello\r\n"),
        ], 0, 1000),
        Case::new("/hang", vec![Hang], 0, 1050).in_phase("waiting"),
        Case::new(
            "/hang-in-body",
            vec![send("HTTP/1.1 200 OK\r\nContent-Length: 50\r\n\r\nhello"), Hang],
            0,
            1050,
        )
        .in_phase("receiving"),
        Case::new("/no-content", vec![send("HTTP/1.1 204 No Content\r\n\r\n")], 204, 0)
            .with_body(0),
    ]
}

/// How often each path was asked for.
type Seen = Arc<Mutex<BTreeMap<String, usize>>>;

trait Stream: Read + Write {
    fn socket(&self) -> &TcpStream;
}

impl Stream for TcpStream {
    fn socket(&self) -> &TcpStream {
        self
    }
}

impl Stream for StreamOwned<ServerConnection, TcpStream> {
    fn socket(&self) -> &TcpStream {
        &self.sock
    }
}

/// Serves the cases until the test ends; `secure` speaks TLS, after a delay.
fn serve(secure: Option<Arc<ServerConfig>>, seen: Seen) -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
    let address = listener.local_addr().expect("an address");
    thread::spawn(move || {
        for stream in listener.incoming().filter_map(Result::ok) {
            let (secure, seen) = (secure.clone(), seen.clone());
            thread::spawn(move || {
                let _ = stream.set_nodelay(true);
                match secure {
                    None => attend(stream, &seen),
                    Some(config) => {
                        thread::sleep(Duration::from_millis(DELAY));
                        let connection = ServerConnection::new(config).expect("a session");
                        attend(StreamOwned::new(connection, stream), &seen);
                    }
                }
            });
        }
    });
    address
}

/// Answers the requests of one connection.
fn attend(mut stream: impl Stream, seen: &Seen) {
    let cases = cases();
    while let Some((path, body)) = request(&mut stream) {
        *seen
            .lock()
            .expect("no panic")
            .entry(path.clone())
            .or_default() += 1;
        if path == "/slow-reader" {
            // The request is larger than all buffers between the two.
            thread::sleep(Duration::from_millis(DELAY));
            if skip(&mut stream, body).is_none() {
                return;
            }
            let _ = stream.write_all(b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n");
            continue;
        }
        let case = cases.iter().find(|case| case.path == path);
        for step in case.map_or(&[][..], |case| &case.steps) {
            match step {
                Step::Send(bytes) => {
                    if stream
                        .write_all(bytes)
                        .and_then(|()| stream.flush())
                        .is_err()
                    {
                        return;
                    }
                }
                Pause(ms) => thread::sleep(Duration::from_millis(*ms)),
                HalfClose => {
                    let _ = stream.socket().shutdown(Shutdown::Write);
                    let _ = skip(&mut stream, usize::MAX);
                    return;
                }
                Reset => {
                    let socket = socket2::SockRef::from(stream.socket());
                    socket.set_linger(Some(Duration::ZERO)).expect("linger");
                    return;
                }
                Close => return,
                Hang => {
                    let _ = skip(&mut stream, usize::MAX);
                    return;
                }
            }
        }
    }
}

/// The path of the next request, and the length of its body.
fn request(stream: &mut impl Stream) -> Option<(String, usize)> {
    let mut head = Vec::new();
    let mut byte = [0];
    while !head.ends_with(b"\r\n\r\n") {
        match stream.read(&mut byte) {
            Ok(1) => head.push(byte[0]),
            Err(error) if error.kind() == ErrorKind::Interrupted => {}
            _ => return None,
        }
    }
    let text = String::from_utf8_lossy(&head);
    let path = text.split(' ').nth(1)?.to_owned();
    let length = text.lines().find_map(|line| {
        let (name, value) = line.split_once(':')?;
        name.eq_ignore_ascii_case("content-length")
            .then(|| value.trim().parse().ok())?
    });
    Some((path, length.unwrap_or(0)))
}

fn skip(stream: &mut impl Stream, mut bytes: usize) -> Option<()> {
    let mut buffer = vec![0; 1 << 16];
    while bytes > 0 {
        let most = buffer.len().min(bytes);
        match stream.read(&mut buffer[..most]) {
            Ok(0) | Err(_) => return None,
            Ok(n) => bytes -= n,
        }
    }
    Some(())
}

const SCRIPT: &str = "import http from 'k6/http';
    export const options = { insecureSkipTLSVerify: true, noConnectionReuse: true };
    const cases = JSON.parse(__ENV.CASES);
    export default function () {
      for (const path of cases) {
        const url = __ENV.TARGET + path;
        const parameters = { timeout: Number(__ENV.TIMEOUT), tags: { name: path } };
        const body = path === '/slow-reader' ? 'x'.repeat(30000000) : null;
        const r = body ? http.post(url, body, parameters) : http.get(url, parameters);
        const { status, error_code, timings } = r;
        console.log(JSON.stringify({ path, status, error_code, timings, body: r.body === null ? null : r.body.length }));
      }
    }";

/// Runs the script over all paths; answers what it saw of each, and the number of `http_reqs`.
fn run(target: &str, paths: &[&str]) -> (BTreeMap<String, Value>, f64) {
    let folder = Folder::with("script.js", SCRIPT);
    let finished = Launch::volley(folder.path())
        .words("run -q script.js -e")
        .args([format!("CASES={}", serde_json::json!(paths))])
        .words(&format!("-e TARGET={target} -e TIMEOUT={TIMEOUT}"))
        .words("--log-format raw")
        .run()
        .expect(0);
    let lines = finished.stderr.lines();
    let seen = lines
        .filter_map(|line| serde_json::from_str::<Value>(line).ok())
        .map(|line| (line["path"].as_str().expect("a path").to_owned(), line))
        .collect();
    (seen, finished.summary("http_reqs"))
}

const PHASES: [&str; 5] = [
    "connecting",
    "tls_handshaking",
    "sending",
    "waiting",
    "receiving",
];

/// The phase that took longest, and how long.
fn longest(seen: &Value) -> (&'static str, f64) {
    let of = |phase: &'static str| (phase, seen["timings"][phase].as_f64().expect("ms"));
    PHASES
        .map(of)
        .into_iter()
        .max_by(|one, two| one.1.total_cmp(&two.1))
        .expect("phases")
}

fn check(target: &str, seen: &Seen) {
    let cases = cases();
    let mut paths: Vec<&str> = cases.iter().map(|case| case.path).collect();
    paths.push("/slow-reader");
    let (found, requests) = run(target, &paths);
    assert_eq!(found.len(), paths.len());
    assert!(
        (requests - paths.len() as f64).abs() < 0.5,
        "one sample each"
    );
    let secure = target.starts_with("https");
    let arrived = seen.lock().expect("no panic").clone();
    for case in &cases {
        let Case { path, .. } = *case;
        let found = &found[path];
        assert_eq!(found["status"], case.status, "{found}");
        assert_eq!(found["error_code"], case.code, "{found}");
        assert_eq!(arrived[path], case.arrives, "{path}");
        if let Some(length) = case.body {
            assert_eq!(found["body"].as_u64().unwrap_or(0), length, "{found}");
        }
        let (phase, took) = longest(found);
        // Over TLS every handshake is late, by as much as what comes after it.
        if let Some(delayed) = case.phase {
            let took = found["timings"][delayed].as_f64().expect("ms");
            assert!(took >= DELAY as f64 - 1.0, "{found}");
            assert!(secure || phase == delayed, "{phase}: {found}");
        } else if secure {
            assert_eq!(phase, "tls_handshaking", "{found}");
            assert!(took >= DELAY as f64 - 1.0, "{found}");
        }
        let duration = found["timings"]["duration"].as_f64().expect("ms");
        let sum = ["sending", "waiting", "receiving"]
            .map(|phase| found["timings"][phase].as_f64().expect("ms"));
        assert!((duration - sum.iter().sum::<f64>()).abs() < 0.01, "{found}");
    }
    let slow = &found["/slow-reader"];
    assert_eq!(slow["status"], 200, "{slow}");
    let sending = slow["timings"]["sending"].as_f64().expect("ms");
    assert!(sending >= DELAY as f64 - 1.0, "{slow}");
}

#[test]
fn what_a_script_sees_is_what_the_server_did() {
    let seen = Seen::default();
    let address = serve(None, seen.clone());
    check(&format!("http://{address}"), &seen);
}

#[test]
fn over_tls_it_is_the_same_with_a_handshake_before_it() {
    let key = rcgen::generate_simple_self_signed(["localhost".to_owned()]).expect("a key");
    let private = PrivateKeyDer::Pkcs8(key.signing_key.serialize_der().into());
    let config =
        ServerConfig::builder_with_provider(Arc::new(rustls::crypto::ring::default_provider()))
            .with_safe_default_protocol_versions()
            .expect("versions")
            .with_no_client_auth()
            .with_single_cert(vec![key.cert.der().clone()], private)
            .expect("a certificate");
    let seen = Seen::default();
    let address = serve(Some(Arc::new(config)), seen.clone());
    check(&format!("https://{address}"), &seen);
}
