//! The client against servers that do exactly what a test tells them, byte by byte.

use std::{
    future::{Future, poll_fn},
    io::{Read, Write},
    net::{Shutdown, SocketAddr, TcpListener, TcpStream},
    sync::{Arc, Mutex},
    thread::JoinHandle,
};

use tungstenite::handshake::derive_accept_key;

use super::*;
use crate::{ClientConfig, Proxies, SetCookie};

/// One step of a server.
#[derive(Clone)]
enum Step {
    /// Reads the request, and lets it upgrade, with these lines in the answer.
    Shake(&'static str),
    /// The same without lines, with these bytes in the same packet as the answer.
    ShakeSaying(Vec<u8>),
    /// Reads the request.
    Head,
    /// Sends these bytes.
    Say(Vec<u8>),
    /// Reads a frame.
    Take,
    /// Reads so many bytes and forgets them.
    Skip(usize),
    /// Ends its half of the connection.
    Shut,
    /// Ends the connection with a reset.
    Reset,
    /// Reads to the end.
    Gone,
}

use Step::{Gone, Head, Reset, Say, Shake, ShakeSaying, Shut, Skip, Take};

/// A frame of a server: the first byte of its header, and a payload.
fn frame(first: u8, payload: &[u8]) -> Vec<u8> {
    let mut bytes = vec![first];
    match payload.len() {
        length @ ..126 => bytes.push(length as u8),
        length @ ..65536 => {
            bytes.push(126);
            bytes.extend((length as u16).to_be_bytes());
        }
        length => {
            bytes.push(127);
            bytes.extend((length as u64).to_be_bytes());
        }
    }
    bytes.extend_from_slice(payload);
    bytes
}

fn closing(code: u16, reason: &str) -> Vec<u8> {
    let mut payload = code.to_be_bytes().to_vec();
    payload.extend_from_slice(reason.as_bytes());
    frame(0x88, &payload)
}

/// A server for one connection.
struct Server {
    address: SocketAddr,
    /// Heads, and frames as `<first byte in hex> <payload>`.
    seen: Arc<Mutex<Vec<String>>>,
    thread: JoinHandle<()>,
}

impl Server {
    fn start(steps: Vec<Step>) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
        let address = listener.local_addr().expect("an address");
        let seen = Arc::new(Mutex::new(Vec::new()));
        let kept = seen.clone();
        let thread = std::thread::spawn(move || {
            let (stream, _) = listener.accept().expect("a connection");
            play(stream, steps, &kept);
        });
        Self {
            address,
            seen,
            thread,
        }
    }

    fn request(&self, path: &str) -> Request {
        Request::new(Url::parse(&format!("ws://{}{path}", self.address)).expect("a URL"))
    }

    /// What it has seen when it has done all its steps.
    fn done(self) -> Vec<String> {
        self.thread.join().expect("the server plays to its end");
        std::mem::take(&mut *self.seen.lock().expect("no panic"))
    }
}

fn play(mut stream: TcpStream, steps: Vec<Step>, seen: &Mutex<Vec<String>>) {
    let limit = Some(Duration::from_secs(60));
    stream.set_read_timeout(limit).expect("a timeout");
    let note = |text: String| seen.lock().expect("no panic").push(text);
    for step in steps {
        match step {
            Shake(lines) => note(shake(&mut stream, lines, &[])),
            ShakeSaying(bytes) => note(shake(&mut stream, "", &bytes)),
            Head => note(head(&mut stream)),
            // The client may have gone already: that is its right.
            Say(bytes) => drop(stream.write_all(&bytes)),
            Take => note(take(&mut stream)),
            Skip(length) => drop(stream.read_exact(&mut vec![0; length])),
            Shut => stream.shutdown(Shutdown::Write).expect("half an end"),
            Reset => {
                let socket = socket2::SockRef::from(&stream);
                socket.set_linger(Some(Duration::ZERO)).expect("linger");
                return;
            }
            Gone => drop(stream.read_to_end(&mut Vec::new())),
        }
    }
}

/// Answers the request for an upgrade; answers its head.
fn shake(stream: &mut TcpStream, lines: &str, bytes: &[u8]) -> String {
    let head = head(stream);
    let key = head
        .lines()
        .find_map(|line| line.strip_prefix("Sec-Websocket-Key: "));
    let accept = derive_accept_key(key.expect("a key").as_bytes());
    let answer = format!(
        "HTTP/1.1 101 Switching Protocols\r\nupgrade: WebSocket\r\n\
         Connection: keep-alive, Upgrade\r\nSec-WebSocket-Accept: {accept}\r\n{lines}\r\n"
    );
    let answer = [answer.as_bytes(), bytes].concat();
    stream.write_all(&answer).expect("it listens");
    head
}

fn head(stream: &mut TcpStream) -> String {
    let (mut head, mut one) = (Vec::new(), [0]);
    while !head.ends_with(b"\r\n\r\n") {
        stream.read_exact(&mut one).expect("a head");
        head.push(one[0]);
    }
    String::from_utf8(head).expect("text")
}

fn take(stream: &mut TcpStream) -> String {
    let mut start = [0; 2];
    if stream.read_exact(&mut start).is_err() {
        return "gone".to_owned();
    }
    assert!(start[1] & 0x80 != 0, "frames of clients are masked");
    let length = match start[1] & 0x7f {
        126 => {
            let mut length = [0; 2];
            stream.read_exact(&mut length).expect("a length");
            u16::from_be_bytes(length).into()
        }
        127 => {
            let mut length = [0; 8];
            stream.read_exact(&mut length).expect("a length");
            u64::from_be_bytes(length) as usize
        }
        length => length.into(),
    };
    let mut mask = [0; 4];
    stream.read_exact(&mut mask).expect("a mask");
    let mut payload = vec![0; length];
    stream.read_exact(&mut payload).expect("a payload");
    for (at, byte) in payload.iter_mut().enumerate() {
        *byte ^= mask[at % 4];
    }
    format!("{:x} {}", start[0], shown(&payload))
}

/// Text as it is, other bytes in hexadecimal, the length of what is long.
fn shown(bytes: &[u8]) -> String {
    match std::str::from_utf8(bytes) {
        _ if bytes.len() > 100 => format!("[{}]", bytes.len()),
        Ok(text) if !text.chars().any(char::is_control) => text.to_owned(),
        _ => bytes.iter().map(|byte| format!("{byte:02x}")).collect(),
    }
}

fn on_worker<T>(work: impl Future<Output = T>) -> T {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .expect("a runtime");
    let limit = Duration::from_secs(60);
    runtime
        .block_on(async { tokio::time::timeout(limit, work).await })
        .expect("no hang")
}

fn client() -> Client {
    Client::new(Arc::new(ClientConfig {
        user_agent: Some("agent/1".into()),
        ..ClientConfig::default()
    }))
}

async fn open(request: &Request) -> Socket {
    let opened = client().open_socket(request).await;
    opened.socket.expect("an open socket")
}

async fn next(socket: &mut Socket) -> String {
    match poll_fn(|task| socket.poll_event(task)).await {
        Event::Text(data) => format!("text {}", shown(&data)),
        Event::Binary(data) => format!("binary {}", shown(&data)),
        Event::Ping(data) => format!("ping {}", shown(&data)),
        Event::Pong(data) => format!("pong {}", shown(&data)),
        Event::Closed(close) => format!("closed {} {}", close.code, close.reason),
        Event::Failed(error) => format!("failed {error}"),
    }
}

/// Everything that happens on a connection to such a server, and what it sees.
fn all(steps: Vec<Step>, change: impl FnOnce(&mut Request)) -> (Vec<String>, Vec<String>) {
    let server = Server::start(steps);
    let mut request = server.request("/");
    change(&mut request);
    let events = on_worker(async {
        let mut socket = open(&request).await;
        let mut events = Vec::new();
        loop {
            events.push(next(&mut socket).await);
            let last = events.last().map_or("", String::as_str);
            if last.starts_with("closed") || last.starts_with("failed") {
                return events;
            }
        }
    });
    (events, server.done().split_off(1))
}

/// What became of an attempt; the connection is closed.
struct Outcome {
    error: String,
    response: Option<Response>,
    remote: Option<SocketAddr>,
    took: Duration,
}

fn outcome_of(request: &Request) -> Outcome {
    let opened = on_worker(client().open_socket(request));
    Outcome {
        error: opened
            .socket
            .err()
            .map_or_else(String::new, |e| e.to_string()),
        response: opened.response,
        remote: opened.remote,
        took: opened.ended - opened.begun,
    }
}

fn opened(steps: Vec<Step>, change: impl FnOnce(&mut Request)) -> (Outcome, Vec<String>) {
    let server = Server::start(steps);
    let mut request = server.request("/path?a=b c");
    change(&mut request);
    (outcome_of(&request), server.done())
}

#[test]
fn the_request_has_what_the_protocol_wants_and_the_scripts_headers() {
    let jar = Rc::new(CookieJar::default());
    let (opened, seen) = opened(
        vec![Shake("Set-Cookie: new=1\r\nX-Kit: yes\r\n"), Gone],
        |request| {
            let cookie = SetCookie {
                name: "old".into(),
                value: "2".into(),
                ..SetCookie::default()
            };
            let http = Url::parse(&request.url.as_str().replace("ws:", "http:")).expect("a URL");
            jar.set(&http, &cookie);
            request.jar = Some(jar.clone());
            request.headers = vec![
                ("x-own".into(), "1".into()),
                ("Sec-WebSocket-Protocol".into(), "a, b".into()),
                ("Content-Length".into(), "7".into()),
            ];
        },
    );
    assert_eq!(opened.error, "");
    let response = opened.response.expect("an answer");
    assert_eq!(
        (response.status, &*response.reason),
        (101, "Switching Protocols")
    );
    assert_eq!(response.headers["x-kit"], "yes");
    let http = Url::parse(&format!("http://{}/", opened.remote.expect("a remote"))).expect("a URL");
    let names = jar.cookies_for(&http);
    assert_eq!(names.len(), 2, "{names:?}");
    let mut lines: Vec<&str> = seen[0].trim_end().split("\r\n").collect();
    assert!(lines[1].starts_with("Host: 127.0.0.1:"), "{lines:?}");
    lines.retain(|line| !line.starts_with("Host: ") && !line.starts_with("Sec-Websocket-Key: "));
    lines.sort_unstable();
    assert_eq!(
        lines,
        [
            "Connection: Upgrade",
            "Cookie: old=2",
            "GET /path?a=b c HTTP/1.1",
            "Sec-Websocket-Protocol: a, b",
            "Sec-Websocket-Version: 13",
            "Upgrade: websocket",
            "User-Agent: agent/1",
            "X-Own: 1",
        ]
    );
}

#[test]
fn a_cookie_and_an_agent_of_the_script_take_the_place_of_others() {
    let (_, seen) = opened(vec![Shake(""), Gone], |request| {
        request.headers = vec![
            ("Cookie".into(), "mine=1".into()),
            ("User-Agent".into(), String::new()),
            ("Host".into(), "other.test".into()),
        ];
        request.deflate = true;
    });
    assert!(seen[0].contains("\r\nCookie: mine=1\r\n"), "{}", seen[0]);
    assert!(seen[0].contains("\r\nHost: other.test\r\n"), "{}", seen[0]);
    assert!(!seen[0].contains("User-Agent"), "{}", seen[0]);
    let offer = "Sec-Websocket-Extensions: permessage-deflate; server_no_context_takeover; \
                 client_no_context_takeover\r\n";
    assert!(seen[0].contains(offer), "{}", seen[0]);
}

#[test]
fn what_cannot_be_asked_for_is_not() {
    let refused = |url: &str, header: &str| {
        let mut request = Request::new(Url::parse(url).expect(url));
        request.headers = vec![(header.to_owned(), "x".to_owned())];
        outcome_of(&request).error
    };
    for url in [
        "http://a.test/",
        "ws://u:p@a.test/",
        "ws:///path",
        "ws:a",
        "/x",
    ] {
        assert_eq!(refused(url, "A"), "malformed ws or wss URL", "{url}");
    }
    for (header, shown) in [
        ("upgrade", "Upgrade"),
        ("Connection", "Connection"),
        ("Sec-WebSocket-Key", "Sec-Websocket-Key"),
        ("sec-websocket-version", "Sec-Websocket-Version"),
        ("Sec-WebSocket-Extensions", "Sec-Websocket-Extensions"),
    ] {
        let text = format!("websocket: duplicate header not allowed: {shown}");
        assert_eq!(refused("ws://a.test/", header), text);
    }
    assert_eq!(
        refused("ws://a.test/", "a b"),
        "net/http: invalid header field name \"a b\""
    );
}

#[test]
fn an_answer_that_does_not_upgrade_comes_back_with_the_error() {
    let long = "x".repeat(5000);
    let text = format!("HTTP/1.1 403 Forbidden\r\nX-Why: so\r\nContent-Length: 5000\r\n\r\n{long}");
    let (refused, _) = opened(vec![Head, Say(text.into()), Gone], |_| {});
    assert_eq!(refused.error, "websocket: bad handshake");
    let response = refused.response.expect("an answer");
    assert_eq!((response.status, response.body.len()), (403, 1024));
    assert_eq!(response.headers["x-why"], "so");
    // One that breaks off, and one that is a redirect.
    let text = "HTTP/1.1 302 Found\r\nLocation: /else\r\nContent-Length: 10\r\n\r\nshort";
    let (refused, _) = opened(vec![Head, Say(text.into())], |_| {});
    assert_eq!(refused.error, "websocket: bad handshake");
    assert_eq!(refused.response.expect("an answer").body, "short");
    // A 101 that is not for us.
    for answer in [
        "HTTP/1.1 101 Yes\r\nUpgrade: websocket\r\nConnection: Upgrade\r\nSec-WebSocket-Accept: AAAA\r\n\r\n",
        "HTTP/1.1 101 Yes\r\nUpgrade: other\r\nConnection: Upgrade\r\n\r\n",
    ] {
        let (refused, _) = opened(vec![Head, Say(answer.into()), Gone], |_| {});
        assert_eq!(refused.error, "websocket: bad handshake");
        assert_eq!(refused.response.expect("an answer").status, 101);
    }
}

#[test]
fn no_answer_of_http_says_what_came() {
    let (failed, _) = opened(vec![Head, Say(b"SSH-2.0-x\r\n".to_vec()), Gone], |_| {});
    assert_eq!(failed.error, "malformed HTTP response \"SSH-2.0-x\"");
    assert!(failed.response.is_none());
    let (failed, _) = opened(vec![Head], |_| {});
    assert_eq!(failed.error, "unexpected EOF");
    let (failed, _) = opened(vec![Head, Say(b"HTTP/1.1 101 Sw".to_vec())], |_| {});
    assert_eq!(failed.error, "unexpected EOF");
    let (failed, _) = opened(vec![Head, Reset], |_| {});
    let text = failed.error;
    assert!(text.starts_with("read tcp 127.0.0.1:"), "{text}");
    assert!(text.ends_with(": read: connection reset by peer"), "{text}");
}

#[test]
fn a_server_that_does_not_answer_is_waited_for_so_long() {
    let (late, _) = opened(vec![Head, Gone], |request| {
        request.timeout = Duration::from_millis(50);
    });
    let text = late.error;
    assert!(text.starts_with("read tcp 127.0.0.1:"), "{text}");
    assert!(text.ends_with(": i/o timeout"), "{text}");
    assert!(late.remote.is_some());
    assert!(late.took >= Duration::from_millis(50));
}

#[test]
fn nobody_there_is_an_error_of_the_dial() {
    let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
    let address = listener.local_addr().expect("an address");
    drop(listener);
    let url = Url::parse(&format!("ws://{address}/")).expect("a URL");
    let failed = outcome_of(&Request::new(url));
    let text = format!("dial tcp {address}: connect: connection refused");
    assert_eq!(failed.error, text);
}

#[test]
fn a_proxy_lets_it_through_without_seeing_it() {
    // The proxy is the server, too.
    let steps = vec![
        Head,
        Say(b"HTTP/1.1 200 Connection established\r\n\r\n".to_vec()),
        Shake(""),
        Say(frame(0x81, b"hello")),
        Gone,
    ];
    let server = Server::start(steps);
    let proxy = format!("http://{}", server.address);
    let config = ClientConfig {
        proxies: Proxies::from_env(|name| (name == "HTTP_PROXY").then(|| proxy.clone())),
        ..ClientConfig::default()
    };
    let url = Url::parse("ws://far.test/x").expect("a URL");
    on_worker(async {
        let opened = Client::new(Arc::new(config))
            .open_socket(&Request::new(url))
            .await;
        let mut socket = opened.socket.expect("an open socket");
        assert_eq!(next(&mut socket).await, "text hello");
    });
    let seen = server.done();
    assert!(
        seen[0].starts_with("CONNECT far.test:80 HTTP/1.1\r\n"),
        "{seen:?}"
    );
    assert!(
        seen[1].starts_with("GET /x HTTP/1.1\r\nHost: far.test\r\n"),
        "{seen:?}"
    );
}

#[test]
fn messages_go_in_both_directions_whatever_their_size() {
    let sizes = [0, 1, 125, 126, 65535, 65536, 1 << 20];
    let mut steps = vec![Shake("")];
    for size in sizes {
        steps.extend([Take, Say(frame(0x82, &vec![7; size]))]);
    }
    steps.extend([Say(closing(1000, "enough")), Take, Gone]);
    let server = Server::start(steps);
    let request = server.request("/");
    on_worker(async {
        let mut socket = open(&request).await;
        for size in sizes {
            socket.send(true, vec![b'a'; size]).expect("it is open");
            let shown = shown(&vec![7; size]);
            assert_eq!(next(&mut socket).await, format!("binary {shown}"));
            assert_eq!(socket.buffered(), 0);
        }
        assert_eq!(next(&mut socket).await, "closed 1000 enough");
    });
    let mut seen = server.done().split_off(1);
    assert_eq!(seen.pop().as_deref(), Some("88 03e8"));
    for (seen, size) in seen.iter().zip(sizes) {
        assert_eq!(*seen, format!("81 {}", shown(&vec![b'a'; size])));
    }
}

#[test]
fn pieces_make_one_message_and_pings_come_between_them() {
    let mut bytes = frame(0x01, b"one ");
    bytes.extend(frame(0x89, b"are you there"));
    bytes.extend(frame(0x00, b"two "));
    bytes.extend(frame(0x8a, b"7"));
    bytes.extend(frame(0x80, b"three"));
    bytes.extend(frame(0x81, b"whole"));
    bytes.extend(closing(4001, "bye"));
    let expected = [
        "ping are you there",
        "pong 7",
        "text one two three",
        "text whole",
        "closed 4001 bye",
    ];
    let mut steps = vec![Shake(""), Say(bytes.clone()), Take, Take, Gone];
    let (events, seen) = all(steps.clone(), |_| {});
    assert_eq!(events, expected);
    assert_eq!(seen, ["8a are you there", "88 0fa1"]);
    // The same, byte by byte.
    let bytes = bytes.into_iter().map(|byte| Say(vec![byte]));
    steps.splice(1..2, bytes);
    assert_eq!(all(steps, |_| {}).0, expected);
}

#[test]
fn what_comes_with_the_answer_is_not_lost() {
    let early = [frame(0x81, b"early"), vec![0x81, 4, b'h']].concat();
    let steps = vec![
        ShakeSaying(early),
        Say(b"alf".to_vec()),
        Say(closing(1000, "")),
        Gone,
    ];
    assert_eq!(
        all(steps, |_| {}).0,
        ["text early", "text half", "closed 1000 "]
    );
}

#[test]
fn faults_of_the_peer_end_it_and_are_told() {
    let zeros = [0; 200];
    let mut interrupted = frame(0x01, b"a");
    interrupted.extend(frame(0x81, b"b"));
    for (bytes, text) in [
        (frame(0xc1, b"x"), "RSV1 set"),
        (frame(0xb1, b"x"), "RSV2 set, RSV3 set"),
        (frame(0x83, b"x"), "bad opcode 3"),
        (frame(0x8b, b"x"), "bad opcode 11"),
        (frame(0x09, b"x"), "FIN not set on control"),
        (frame(0x89, &zeros), "len > 125 for control"),
        (interrupted, "data before FIN"),
        (frame(0x80, b"x"), "continuation after FIN"),
        (vec![0x81, 0x81, 0, 0, 0, 0, b'x'], "bad MASK"),
        (closing(1005, ""), "bad close code 1005"),
    ] {
        let (events, seen) = all(vec![Shake(""), Say(bytes), Take, Gone], |_| {});
        assert_eq!(events, [format!("failed websocket: {text}")]);
        assert_eq!(seen, [format!("88 03ea{}", hex(text))], "{text}");
    }
}

fn hex(text: &str) -> String {
    text.bytes().map(|byte| format!("{byte:02x}")).collect()
}

#[test]
fn messages_that_are_too_large_end_it() {
    let limited = |request: &mut Request| request.message_max = 10;
    let mut pieces = frame(0x01, b"123456");
    pieces.extend(frame(0x80, b"78901"));
    let announced = [&[0x82, 127][..], &u64::MAX.to_be_bytes()].concat();
    for bytes in [frame(0x81, b"12345678901"), pieces, announced] {
        let (events, seen) = all(vec![Shake(""), Say(bytes), Take, Gone], limited);
        assert_eq!(events, ["failed websocket: read limit exceeded"]);
        assert_eq!(seen, ["88 03f1"]);
    }
    let fits = vec![
        Shake(""),
        Say(frame(0x81, b"1234567890")),
        Say(closing(1001, "")),
        Gone,
    ];
    assert_eq!(all(fits, limited).0, ["text 1234567890", "closed 1001 "]);
}

#[test]
fn an_end_without_a_word_is_an_abnormal_closure() {
    let gone = "failed websocket: close 1006 (abnormal closure): unexpected EOF";
    assert_eq!(all(vec![Shake("")], |_| {}).0, [gone]);
    let half = vec![Shake(""), Say(vec![0x81, 5, b'a']), Shut, Gone];
    assert_eq!(all(half, |_| {}).0, [gone]);
    let (events, _) = all(vec![Shake(""), Say(frame(0x81, b"a")), Reset], |_| {});
    let last = events.last().expect("an event");
    assert!(last.ends_with(": read: connection reset by peer"), "{last}");
}

#[test]
fn a_peer_that_shuts_its_half_can_still_be_closed_towards() {
    let server = Server::start(vec![Shake(""), Shut, Take, Take, Gone]);
    let request = server.request("/");
    on_worker(async {
        let mut socket = open(&request).await;
        socket.send(true, b"last".to_vec()).expect("it is open");
        socket.close(1000, "over");
        assert!(matches!(socket.send(true, Vec::new()), Err(Error::Closing)));
        assert!(matches!(socket.ping(Vec::new()), Err(Error::Closing)));
    });
    assert_eq!(server.done()[1..], ["81 last", "88 03e86f766572"]);
}

#[test]
fn the_answer_to_our_closing_is_the_end() {
    let steps = vec![
        Shake(""),
        Take,
        Say(frame(0x81, b"on its way")),
        Say(closing(3005, "as you say")),
        Gone,
    ];
    let server = Server::start(steps);
    let request = server.request("/");
    on_worker(async {
        let mut socket = open(&request).await;
        socket.close(3005, "as you say");
        assert_eq!(next(&mut socket).await, "text on its way");
        assert_eq!(next(&mut socket).await, "closed 3005 as you say");
    });
    server.done();
}

#[test]
fn a_peer_that_reads_late_gets_everything() {
    // More than the kernel holds for both ends.
    const SIZE: usize = 16 << 20;
    let server = Server::start(vec![
        Shake(""),
        Say(frame(0x81, b"go")),
        Skip(SIZE + 14),
        Take,
        Gone,
    ]);
    let request = server.request("/");
    on_worker(async {
        let mut socket = open(&request).await;
        let rest = socket.send(false, vec![1; SIZE]).expect("it is open");
        assert!(rest && socket.buffered() == SIZE);
        socket.ping(b"0".to_vec()).expect("it is open");
        poll_fn(|task| socket.poll_flush(task)).await;
        assert_eq!(socket.buffered(), 0);
        assert_eq!(next(&mut socket).await, "text go");
    });
    assert_eq!(server.done()[1..], ["89 0"]);
}

const AGREED: &str = "Sec-WebSocket-Extensions: permessage-deflate; client_no_context_takeover; \
                      server_no_context_takeover\r\n";

#[test]
fn packed_messages_are_unpacked_and_ours_are_packed() {
    // RFC 7692, 7.2.3.1 and 7.2.3.2.
    let hello = [0xf2, 0x48, 0xcd, 0xc9, 0xc9, 0x07, 0x00];
    let mut bytes = frame(0xc1, &hello);
    bytes.extend(frame(0x41, &hello[..3]));
    bytes.extend(frame(0x89, b"plain"));
    bytes.extend(frame(0x80, &hello[3..]));
    bytes.extend(frame(0x81, b"not packed"));
    let steps = vec![Shake(AGREED), Say(bytes), Take, Take, Gone];
    let server = Server::start(steps);
    let mut request = server.request("/");
    request.deflate = true;
    on_worker(async {
        let mut socket = open(&request).await;
        assert_eq!(next(&mut socket).await, "text Hello");
        assert_eq!(next(&mut socket).await, "ping plain");
        assert_eq!(next(&mut socket).await, "text Hello");
        assert_eq!(next(&mut socket).await, "text not packed");
        socket.send(false, vec![b'a'; 100_000]).expect("it is open");
    });
    let seen = server.done();
    assert_eq!(seen[1], "8a plain");
    let (first, length) = seen[2].split_once(' ').expect("a frame");
    assert_eq!(first, "c2");
    let length: usize = length.trim_matches(['[', ']']).parse().expect("a length");
    assert!(length < 2000, "{length}");
}

#[test]
fn packing_has_to_be_as_it_was_offered() {
    let with_context =
        "Sec-WebSocket-Extensions: permessage-deflate; server_no_context_takeover\r\n";
    let (failed, _) = opened(vec![Shake(with_context), Gone], |request| {
        request.deflate = true
    });
    assert_eq!(failed.error, "websocket: invalid compression negotiation");
    // Packed a second time, and garbage.
    for bytes in [frame(0x01, b""), Vec::new()] {
        let bytes = [bytes, frame(0xc0, b"x")].concat();
        let (events, _) = all(vec![Shake(AGREED), Say(bytes), Gone], |_| {});
        assert!(events[0].contains("RSV1 set"), "{events:?}");
    }
    let garbage = frame(0xc1, b"\xff\xff\xff");
    let (events, seen) = all(vec![Shake(AGREED), Say(garbage), Take, Gone], |_| {});
    assert_eq!(events, ["failed flate: corrupt input"]);
    assert_eq!(seen, ["88 03ea"]);
}

#[test]
fn bytes_on_the_wire_are_counted() {
    let server = Server::start(vec![Shake(""), Take, Say(frame(0x81, b"12345")), Gone]);
    let request = server.request("/");
    let client = client();
    on_worker(async {
        let mut socket = client
            .open_socket(&request)
            .await
            .socket
            .expect("an open socket");
        let (sent, received) = client.take_data();
        assert!(sent > 100 && received > 100, "{sent} {received}");
        socket.send(true, b"abc".to_vec()).expect("it is open");
        assert_eq!(next(&mut socket).await, "text 12345");
        assert_eq!(client.take_data(), (2 + 4 + 3, 2 + 5));
    });
    server.done();
}

#[test]
fn waiting_for_a_connection_takes_little_room() {
    let client = client();
    let request = Request::new(Url::parse("ws://a.test/").expect("a URL"));
    // Thousands of VUs may wait at the same time.
    assert!(std::mem::size_of_val(&client.open_socket(&request)) < 1024);
    assert!(size_of::<Socket>() < 400, "{}", size_of::<Socket>());
}
