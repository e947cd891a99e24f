//! The client against servers that do exactly what a test tells them, byte by byte.

use std::{
    io::{Read, Write},
    net::{Shutdown, SocketAddr, TcpListener, TcpStream},
    sync::{Arc, Mutex},
    thread::JoinHandle,
    time::Duration,
};

use base64::{Engine, engine::general_purpose::STANDARD};

use super::*;
use crate::{
    http::{coding::Coding, exchange::RequestCookie, watch::Message},
    url::Url,
};
use bytes::Bytes;

/// A server that hands each connection it accepts to the script of that connection.
struct Server {
    address: SocketAddr,
    /// Request heads and bodies, in order of arrival.
    seen: Arc<Mutex<Vec<String>>>,
    thread: Option<JoinHandle<()>>,
}

/// One step of a connection's script.
#[derive(Clone)]
enum Step {
    /// Reads a request: its head, and a body of the announced length.
    Take,
    /// Sends these bytes.
    Say(Vec<u8>),
    /// Waits.
    Pause(u64),
    /// Closes the connection with a reset.
    Reset,
    /// Waits until the client closes.
    Gone,
}

fn say(text: &str) -> Step {
    Step::Say(text.as_bytes().to_vec())
}

fn ok(body: &str) -> Step {
    say(&format!(
        "HTTP/1.1 200 OK\r\nContent-Length: {}\r\n\r\n{body}",
        body.len()
    ))
}

impl Server {
    fn start(scripts: Vec<Vec<Step>>) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
        let address = listener.local_addr().expect("an address");
        let seen = Arc::new(Mutex::new(Vec::new()));
        let thread = {
            let seen = seen.clone();
            std::thread::spawn(move || {
                let connections: Vec<_> = scripts
                    .into_iter()
                    .map(|script| {
                        let (stream, _) = listener.accept().expect("a connection");
                        let seen = seen.clone();
                        std::thread::spawn(move || play(stream, script, &seen))
                    })
                    .collect();
                for connection in connections {
                    connection.join().expect("the script plays to its end");
                }
            })
        };
        Self {
            address,
            seen,
            thread: Some(thread),
        }
    }

    fn url(&self, path: &str) -> Url {
        Url::parse(&format!("http://{}{path}", self.address)).expect("a URL")
    }

    fn seen(&self) -> Vec<String> {
        self.seen.lock().expect("no panic").clone()
    }

    /// Waits until all scripts have been played.
    fn done(mut self) -> Vec<String> {
        self.thread
            .take()
            .expect("once")
            .join()
            .expect("the server plays to its end");
        self.seen()
    }
}

fn play(mut stream: TcpStream, script: Vec<Step>, seen: &Mutex<Vec<String>>) {
    stream
        .set_read_timeout(Some(Duration::from_secs(20)))
        .expect("a timeout");
    for step in script {
        match step {
            Step::Take => {
                let request = take(&mut stream);
                seen.lock().expect("no panic").push(request);
            }
            // The client may have gone already: that is its right.
            Step::Say(bytes) => drop(stream.write_all(&bytes)),
            Step::Pause(ms) => std::thread::sleep(Duration::from_millis(ms)),
            Step::Reset => {
                let socket = socket2::SockRef::from(&stream);
                socket.set_linger(Some(Duration::ZERO)).expect("linger");
                return;
            }
            Step::Gone => {
                let mut rest = Vec::new();
                let _ = stream.read_to_end(&mut rest);
            }
        }
    }
    let _ = stream.shutdown(Shutdown::Both);
}

fn take(stream: &mut TcpStream) -> String {
    let mut bytes = Vec::new();
    let mut one = [0];
    while !bytes.ends_with(b"\r\n\r\n") {
        assert_eq!(
            stream.read(&mut one).expect("a request"),
            1,
            "the request ends early"
        );
        bytes.push(one[0]);
    }
    let head = String::from_utf8_lossy(&bytes).into_owned();
    let length = head
        .lines()
        .find_map(|line| {
            line.to_ascii_lowercase()
                .strip_prefix("content-length: ")
                .map(str::to_owned)
        })
        .map_or(0, |length| length.trim().parse().expect("a length"));
    let mut body = vec![0; length];
    stream.read_exact(&mut body).expect("a body");
    head + &String::from_utf8_lossy(&body)
}

fn block_on<T>(work: impl Future<Output = T>) -> T {
    tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .expect("a runtime")
        .block_on(work)
}

fn client() -> Client {
    Client::new(Arc::new(ClientConfig::default()))
}

fn get(url: &Url) -> Request {
    Request::new("GET", url.clone())
}

fn body(exchange: &Exchange) -> &[u8] {
    exchange.response.as_ref().map_or(b"", |r| &r.body)
}

fn code_and_text(hop: &Hop) -> (u32, String) {
    hop.error
        .as_ref()
        .map_or((0, String::new()), |e| (e.code(), e.short()))
}

#[test]
fn a_connection_is_used_again_and_bytes_are_counted() {
    let server = Server::start(vec![vec![
        Step::Take,
        ok("one"),
        Step::Take,
        ok("two"),
        Step::Gone,
    ]]);
    let client = client();
    let url = server.url("/a?b=c");
    block_on(async {
        let first = client.send(get(&url)).await;
        assert_eq!((first.last.status, body(&first)), (200, &b"one"[..]));
        assert!(first.last.timings.blocked > Duration::ZERO);
        let second = client.send(get(&url)).await;
        assert_eq!(body(&second), b"two");
        assert_eq!(second.last.timings.blocked, Duration::ZERO);
        assert_eq!(second.last.timings.connecting, Duration::ZERO);
        assert_eq!(second.last.remote, Some(server.address));
    });
    let (sent, received) = client.take_data();
    client.close_idle();
    let seen = server.done();
    assert!(
        seen[0].starts_with("GET /a?b=c HTTP/1.1\r\nHost: 127.0.0.1:"),
        "{}",
        seen[0]
    );
    assert_eq!(sent, (seen[0].len() + seen[1].len()) as u64);
    assert_eq!(
        received,
        2 * "HTTP/1.1 200 OK\r\nContent-Length: 3\r\n\r\none".len() as u64
    );
    assert_eq!(client.take_data(), (0, 0));
}

#[test]
fn a_connection_that_died_while_idle_is_replaced() {
    for method in ["GET", "POST"] {
        let server = Server::start(vec![
            vec![Step::Take, ok("one")],
            vec![Step::Take, ok("two"), Step::Gone],
        ]);
        let client = client();
        let url = server.url("/");
        block_on(async {
            client.send(get(&url)).await;
            // The server's FIN is here before the next request is.
            tokio::time::sleep(Duration::from_millis(50)).await;
            let second = client.send(Request::new(method, url.clone())).await;
            assert_eq!(
                (second.last.status, body(&second)),
                (200, &b"two"[..]),
                "{method}"
            );
        });
        client.close_idle();
        server.done();
    }
}

#[test]
fn only_harmless_requests_are_repeated_when_the_server_closes_on_them() {
    // The server takes the second request and closes without an answer.
    let scripts = || {
        vec![
            vec![Step::Take, ok("one"), Step::Take],
            vec![Step::Take, ok("two"), Step::Gone],
        ]
    };
    let server = Server::start(scripts());
    let one = client();
    block_on(async {
        one.send(get(&server.url("/"))).await;
        let again = one.send(get(&server.url("/"))).await;
        assert_eq!(body(&again), b"two");
    });
    one.close_idle();
    assert_eq!(server.done().len(), 3);

    let server = Server::start(vec![scripts().remove(0)]);
    let other = client();
    block_on(async {
        other.send(get(&server.url("/"))).await;
        let mut post = Request::new("POST", server.url("/"));
        post.body = Some(Bytes::from_static(b"x"));
        let failed = other.send(post).await;
        assert_eq!(code_and_text(&failed.last), (1000, "EOF".into()));
    });
    assert_eq!(server.done().len(), 2);
}

#[test]
fn failures_have_their_codes_and_words() {
    let failing = |script: Vec<Step>| {
        let server = Server::start(vec![script]);
        let url = server.url("/");
        let exchange = block_on(client().send(get(&url)));
        server.done();
        exchange
    };
    let eof = failing(vec![Step::Take]);
    assert_eq!(code_and_text(&eof.last), (1000, "EOF".into()));
    assert!(eof.response.is_none());
    let raw = eof.error().expect("an error").raw();
    assert!(
        raw.starts_with("Get \"http://127.0.0.1:") && raw.ends_with("/\": EOF"),
        "{raw}"
    );

    let cut_head = failing(vec![Step::Take, say("HTTP/1.1 200 O")]);
    assert_eq!(
        code_and_text(&cut_head.last),
        (1000, "unexpected EOF".into())
    );

    let garbage = failing(vec![Step::Take, say("WHAT IS THIS\r\n\r\n")]);
    assert_eq!(code_and_text(&garbage.last).0, 1000);
    assert_eq!(
        code_and_text(&garbage.last).1,
        "malformed HTTP response \"WHAT IS THIS\""
    );

    let cut = failing(vec![
        Step::Take,
        say("HTTP/1.1 200 OK\r\nContent-Length: 1000\r\n\r\n0123456789"),
    ]);
    assert_eq!(code_and_text(&cut.last), (1000, "unexpected EOF".into()));
    assert_eq!((cut.last.status, body(&cut)), (0, &b"0123456789"[..]));

    let chunked = failing(vec![
        Step::Take,
        say("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n"),
    ]);
    assert_eq!(
        code_and_text(&chunked.last),
        (1000, "unexpected EOF".into())
    );
    assert_eq!(body(&chunked), b"hello");

    let reset = failing(vec![Step::Take, Step::Reset]);
    assert_eq!(
        code_and_text(&reset.last),
        (1220, "read: connection reset by peer".into())
    );
}

#[test]
fn a_refused_connection_has_no_phases() {
    let address = TcpListener::bind("127.0.0.1:0")
        .and_then(|l| l.local_addr())
        .expect("a port");
    let url = Url::parse(&format!("http://{address}/")).expect("a URL");
    let exchange = block_on(client().send(get(&url)));
    assert_eq!(
        code_and_text(&exchange.last),
        (1212, "dial: connection refused".into())
    );
    assert_eq!(
        exchange.last.timings,
        super::super::exchange::Timings::default()
    );
    assert_eq!(
        exchange.error().expect("an error").raw(),
        format!("Get \"http://{address}/\": dial tcp {address}: connect: connection refused")
    );
}

#[test]
fn timeouts_say_which_phase_they_fell_into() {
    let timed = |script: Vec<Step>, ms: u64| {
        let server = Server::start(vec![script]);
        let mut request = get(&server.url("/"));
        request.timeout = Duration::from_millis(ms);
        let exchange = block_on(client().send(request));
        server.done();
        exchange
    };
    let silent = timed(vec![Step::Take, Step::Gone], 100);
    assert_eq!(
        code_and_text(&silent.last),
        (1050, "request timeout".into())
    );
    assert_eq!(silent.error().expect("an error").raw(), "request timeout");
    assert!(
        silent.last.timings.waiting >= Duration::from_millis(80),
        "{:?}",
        silent.last.timings
    );
    assert_eq!(silent.last.timings.receiving, Duration::ZERO);

    let head = "HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\npart";
    let within = timed(vec![Step::Take, say(head), Step::Gone], 150);
    assert_eq!(code_and_text(&within.last).0, 1050);
    assert!(
        within.last.timings.receiving >= Duration::from_millis(50),
        "{:?}",
        within.last.timings
    );
    assert_eq!(body(&within), b"part");
}

#[test]
fn a_timeout_of_zero_sends_nothing() {
    let mut request = get(&Url::parse("http://127.0.0.1:1/").expect("a URL"));
    request.timeout = Duration::ZERO;
    let exchange = block_on(client().send(request));
    assert_eq!(code_and_text(&exchange.last).0, 1050);
}

#[test]
fn phases_hold_the_servers_delays() {
    let server = Server::start(vec![vec![
        Step::Take,
        Step::Pause(60),
        say("HTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\nab"),
        Step::Pause(60),
        say("cd"),
        Step::Gone,
    ]]);
    let client = client();
    let exchange = block_on(client.send(get(&server.url("/"))));
    client.close_idle();
    let timings = exchange.last.timings;
    assert_eq!(body(&exchange), b"abcd");
    // A delay never shrinks; how much longer it becomes is the machine's affair, and what a phase is
    // noticed too late the next one lacks.
    let both = timings.waiting + timings.receiving;
    assert!(timings.waiting >= Duration::from_millis(60), "{timings:?}");
    assert!(both >= Duration::from_millis(120), "{timings:?}");
    assert!(timings.receiving > Duration::ZERO, "{timings:?}");
    assert_eq!(
        timings.duration(),
        timings.sending + timings.waiting + timings.receiving
    );
    server.done();
}

#[test]
fn redirects_make_hops_and_carry_cookies() {
    let server = Server::start(vec![vec![
        Step::Take,
        say(
            "HTTP/1.1 302 Found\r\nLocation: /two\r\nSet-Cookie: a=1\r\nContent-Length: 2\r\n\r\nno",
        ),
        Step::Take,
        ok("yes"),
        Step::Gone,
    ]]);
    let client = client();
    let mut request = Request::new("POST", server.url("/one"));
    request.body = Some(Bytes::from_static(b"data"));
    request
        .headers
        .push(("content-type".into(), "text/x".into()));
    request.headers.push(("x-custom".into(), "kept".into()));
    request.cookies.push(RequestCookie {
        name: "p".into(),
        value: "q".into(),
        replace: false,
    });
    let exchange = block_on(client.send(request));
    client.close_idle();
    assert_eq!((exchange.last.status, body(&exchange)), (200, &b"yes"[..]));
    assert_eq!(exchange.last.url.path(), "/two");
    let [first] = &exchange.earlier[..] else {
        panic!("{:?}", exchange.earlier)
    };
    assert_eq!(
        (first.status, first.url.path(), &*first.method),
        (302, "/one", "POST")
    );
    assert_eq!(&*exchange.last.method, "GET");
    let seen = server.done();
    assert!(
        seen[0].contains("Content-Type: text/x\r\n") && seen[0].ends_with("\r\n\r\ndata"),
        "{}",
        seen[0]
    );
    assert!(seen[0].contains("Cookie: p=q\r\n"), "{}", seen[0]);
    assert!(seen[1].starts_with("GET /two HTTP/1.1\r\n"), "{}", seen[1]);
    assert!(seen[1].contains("Cookie: p=q; a=1\r\n"), "{}", seen[1]);
    assert!(seen[1].contains("X-Custom: kept\r\n"), "{}", seen[1]);
    assert!(!seen[1].contains("Content-"), "{}", seen[1]);
    assert!(
        seen[1].contains("Referer: http://127.0.0.1:"),
        "{}",
        seen[1]
    );
}

#[test]
fn the_limit_of_redirects_returns_the_redirect() {
    let again = say("HTTP/1.1 302 Found\r\nLocation: /again\r\nContent-Length: 0\r\n\r\n");
    let server = Server::start(vec![vec![
        Step::Take,
        again.clone(),
        Step::Take,
        again,
        Step::Gone,
    ]]);
    let client = client();
    let mut request = get(&server.url("/"));
    request.redirects = 1;
    let exchange = block_on(client.send(request));
    client.close_idle();
    assert!(exchange.redirect_limit_reached);
    assert_eq!((exchange.last.status, exchange.earlier.len()), (302, 1));
    server.done();
}

#[test]
fn a_redirect_to_another_scheme_is_an_error_of_its_own_hop() {
    let server = Server::start(vec![vec![
        Step::Take,
        say("HTTP/1.1 302 Found\r\nLocation: ftp://h/x\r\nContent-Length: 0\r\n\r\n"),
        Step::Gone,
    ]]);
    let client = client();
    let exchange = block_on(client.send(get(&server.url("/"))));
    client.close_idle();
    assert_eq!(exchange.earlier.len(), 1);
    assert_eq!(
        code_and_text(&exchange.last),
        (1000, "unsupported protocol scheme \"ftp\"".into())
    );
    server.done();
}

#[test]
fn what_the_script_wrote_goes_out() {
    let server = Server::start(vec![vec![
        Step::Take,
        ok(""),
        Step::Take,
        ok(""),
        Step::Take,
        ok(""),
        Step::Take,
        ok(""),
        Step::Gone,
    ]]);
    let client = Client::new(Arc::new(ClientConfig {
        user_agent: Some("volley/test".into()),
        ..ClientConfig::default()
    }));
    block_on(async {
        // A target that `http::Uri` refuses, with a body behind it.
        let mut odd = Request::new("POST", server.url("/a/../b?q=x y\"<é"));
        odd.body = Some(Bytes::from_static(b"body"));
        assert_eq!(client.send(odd).await.last.status, 200);
        let mut own = Request::new("get", server.url("/"));
        own.headers = vec![
            ("Host".into(), "virtual.test".into()),
            ("user-agent".into(), "".into()),
            ("Content-Length".into(), "77".into()),
            ("X-Twice".into(), "one".into()),
            ("x-twice".into(), " two ".into()),
        ];
        assert_eq!(client.send(own).await.last.status, 200);
        let empty = Request::new("PUT", server.url("/"));
        assert_eq!(client.send(empty).await.last.status, 200);
        let authority = format!("http://user:p%40ss@{}/", server.address);
        let basic = get(&Url::parse(&authority).expect("a URL"));
        assert_eq!(client.send(basic).await.last.status, 200);
        for (name, value, text) in [
            (
                "bad name",
                "v",
                "net/http: invalid header field name \"bad name\"",
            ),
            (
                "X-Bad",
                "a\nb",
                "net/http: invalid header field value for \"X-Bad\"",
            ),
        ] {
            let mut bad = get(&server.url("/"));
            bad.headers.push((name.into(), value.into()));
            let refused = client.send(bad).await;
            assert_eq!(code_and_text(&refused.last), (1000, text.into()));
        }
    });
    client.close_idle();
    let seen = server.done();
    assert!(
        seen[0].starts_with("POST /a/../b?q=x y\"<é HTTP/1.1\r\n"),
        "{}",
        seen[0]
    );
    assert!(seen[0].ends_with("\r\n\r\nbody"), "{}", seen[0]);
    assert!(
        seen[0].contains("User-Agent: volley/test\r\n"),
        "{}",
        seen[0]
    );
    assert!(
        seen[1].starts_with("get / HTTP/1.1\r\nHost: virtual.test\r\n"),
        "{}",
        seen[1]
    );
    assert!(
        !seen[1].contains("User-Agent") && !seen[1].contains("77"),
        "{}",
        seen[1]
    );
    assert!(
        seen[1].contains("X-Twice: two\r\n") && !seen[1].contains("one"),
        "{}",
        seen[1]
    );
    assert!(seen[2].contains("Content-Length: 0\r\n"), "{}", seen[2]);
    assert!(
        seen[3].contains("Authorization: Basic dXNlcjpwQHNz\r\n"),
        "{}",
        seen[3]
    );
}

#[test]
fn large_bodies_come_whole_and_discarded_ones_not_at_all() {
    let large: Vec<u8> = (0..20_000_000u32).map(|n| (n % 251) as u8).collect();
    let mut reply =
        format!("HTTP/1.1 200 OK\r\nContent-Length: {}\r\n\r\n", large.len()).into_bytes();
    reply.extend_from_slice(&large);
    let server = Server::start(vec![vec![
        Step::Take,
        Step::Say(reply.clone()),
        Step::Take,
        Step::Say(reply),
        Step::Gone,
    ]]);
    let client = client();
    block_on(async {
        let whole = client.send(get(&server.url("/"))).await;
        assert!(body(&whole) == large, "{} bytes", body(&whole).len());
        let mut request = get(&server.url("/"));
        request.discard_body = true;
        let dropped = client.send(request).await;
        assert_eq!((dropped.last.status, body(&dropped).len()), (200, 0));
    });
    client.close_idle();
    server.done();
}

#[test]
fn dropping_a_request_closes_its_connection_and_leaves_the_client_usable() {
    let server = Server::start(vec![
        vec![Step::Take, Step::Gone],
        vec![Step::Take, ok("fine"), Step::Gone],
    ]);
    let client = client();
    block_on(async {
        let url = server.url("/");
        let unfinished = client.send(get(&url));
        assert!(
            tokio::time::timeout(Duration::from_millis(50), unfinished)
                .await
                .is_err()
        );
        let exchange = client.send(get(&url)).await;
        assert_eq!(body(&exchange), b"fine");
    });
    client.close_idle();
    server.done();
}

#[test]
fn without_reuse_every_request_has_a_connection() {
    let script = vec![Step::Take, ok("x"), Step::Gone];
    let server = Server::start(vec![script.clone(), script]);
    let client = Client::new(Arc::new(ClientConfig {
        no_connection_reuse: true,
        ..ClientConfig::default()
    }));
    block_on(async {
        for _ in 0..2 {
            let exchange = client.send(get(&server.url("/"))).await;
            assert!(exchange.last.timings.connecting > Duration::ZERO);
        }
    });
    assert!(
        server
            .done()
            .iter()
            .all(|head| head.contains("Connection: close\r\n"))
    );
}

#[test]
fn a_response_without_length_ends_with_the_connection() {
    let server = Server::start(vec![vec![
        Step::Take,
        say("HTTP/1.0 200 Fine\r\n\r\nto the end"),
    ]]);
    let client = client();
    let exchange = block_on(client.send(get(&server.url("/"))));
    let response = exchange.response.as_ref().expect("a response");
    assert_eq!(
        (response.proto.as_str(), &*response.reason),
        ("HTTP/1.0", "Fine")
    );
    assert_eq!(&response.body[..], b"to the end");
    server.done();
}

#[test]
fn rules_keep_requests_from_hosts() {
    let mut config = ClientConfig {
        blacklist_ips: vec!["127.0.0.0/8".parse().expect("a range")],
        block_hostnames: vec!["*.blocked.test".into()],
        ..ClientConfig::default()
    };
    config
        .hosts
        .insert("named.test", "127.0.0.1")
        .expect("a mapping");
    let client = Client::new(Arc::new(config));
    let code = |text: &str| {
        let url = Url::parse(text).expect("a URL");
        code_and_text(&block_on(client.send(get(&url))).last)
    };
    assert_eq!(
        code("http://127.0.0.1:1/"),
        (1110, "ip is blacklisted".into())
    );
    assert_eq!(
        code("http://named.test/"),
        (1110, "ip is blacklisted".into())
    );
    assert_eq!(
        code("http://a.blocked.test/"),
        (1111, "hostname is blocked".into())
    );
    assert_eq!(
        code("ftp://h/"),
        (1000, "unsupported protocol scheme \"ftp\"".into())
    );
    assert_eq!(code("/relative").0, 1000);
}

// === TLS ===

/// A TLS server with a certificate for `localhost`, signed by itself.
fn tls_server(connections: usize) -> (SocketAddr, Vec<u8>, JoinHandle<()>) {
    tls_server_with(connections, Vec::new(), None)
}

/// The same, which staples an OCSP response, and asks for a certificate of this authority.
fn tls_server_with(
    connections: usize,
    staple: Vec<u8>,
    authority: Option<Vec<u8>>,
) -> (SocketAddr, Vec<u8>, JoinHandle<()>) {
    let certified =
        rcgen::generate_simple_self_signed(vec!["localhost".to_owned()]).expect("a certificate");
    let der = certified.cert.der().to_vec();
    let key = rustls::pki_types::PrivateKeyDer::try_from(certified.signing_key.serialize_der())
        .expect("a key");
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let builder = rustls::ServerConfig::builder_with_provider(provider.clone())
        .with_safe_default_protocol_versions()
        .expect("versions");
    let builder = match authority {
        None => builder.with_no_client_auth(),
        Some(authority) => {
            let mut roots = rustls::RootCertStore::empty();
            roots.add(authority.into()).expect("a root");
            let verifier =
                rustls::server::WebPkiClientVerifier::builder_with_provider(roots.into(), provider);
            builder.with_client_cert_verifier(verifier.build().expect("a verifier"))
        }
    };
    let config = builder
        .with_single_cert_with_ocsp(vec![der.clone().into()], key, staple)
        .expect("a configuration");
    let config = Arc::new(config);
    let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
    let address = listener.local_addr().expect("an address");
    let thread = std::thread::spawn(move || {
        for _ in 0..connections {
            let (stream, _) = listener.accept().expect("a connection");
            let session = rustls::ServerConnection::new(config.clone()).expect("a session");
            let mut stream = rustls::StreamOwned::new(session, stream);
            let mut bytes = Vec::new();
            let mut one = [0];
            while !bytes.ends_with(b"\r\n\r\n") {
                match stream.read(&mut one) {
                    Ok(1) => bytes.push(one[0]),
                    // The client did not trust us.
                    _ => break,
                }
            }
            let _ = stream.write_all(b"HTTP/1.1 200 OK\r\nContent-Length: 6\r\n\r\nsecret");
            let _ = stream.flush();
        }
    });
    (address, der, thread)
}

#[test]
fn tls_names_its_version_and_who_is_not_trusted() {
    let (address, der, thread) = tls_server(3);
    let at =
        |host: &str| Url::parse(&format!("https://{host}:{}/", address.port())).expect("a URL");
    let mut trusting = ClientConfig {
        extra_roots: vec![der.clone()],
        ..ClientConfig::default()
    };
    trusting
        .hosts
        .insert("*.test", "127.0.0.1")
        .expect("a mapping");
    let trusting = Client::new(Arc::new(trusting));
    block_on(async {
        let exchange = trusting.send(get(&at("localhost"))).await;
        assert_eq!(body(&exchange), b"secret", "{:?}", exchange.last.error);
        let session = exchange.last.tls.expect("a session");
        assert_eq!(session.version, "tls1.3");
        assert!(session.cipher.starts_with("TLS_"), "{}", session.cipher);
        let timings = exchange.last.timings;
        assert!(timings.tls_handshaking > Duration::ZERO);
        assert!(
            timings.blocked >= timings.connecting + timings.tls_handshaking,
            "{timings:?}"
        );

        let other = trusting.send(get(&at("other.test"))).await;
        assert_eq!(
            code_and_text(&other.last),
            (1311, "x509: certificate doesn't match hostname".into())
        );
        let stranger = client().send(get(&at("localhost"))).await;
        assert_eq!(
            code_and_text(&stranger.last),
            (1310, "x509: unknown authority".into())
        );
    });
    thread.join().expect("the server plays to its end");
}

#[test]
fn plain_text_where_tls_is_expected_is_a_bad_record() {
    let server = Server::start(vec![vec![
        say("HTTP/1.1 400 Bad Request\r\n\r\n"),
        Step::Gone,
    ]]);
    let url = Url::parse(&format!("https://{}/", server.address)).expect("a URL");
    let exchange = block_on(client().send(get(&url)));
    let (code, text) = code_and_text(&exchange.last);
    assert_eq!(code, 1301, "{text}");
    server.done();
}

#[test]
fn a_packed_body_is_unpacked_and_counted_as_it_travelled() {
    let plain = "repeat me ".repeat(5000);
    let packed = Coding::Gzip.pack(plain.as_bytes());
    let head = format!(
        "HTTP/1.1 200 OK\r\nContent-Encoding: gzip\r\nContent-Length: {}\r\n\r\n",
        packed.len()
    );
    let answer = [head.as_bytes(), &packed].concat();
    let length = answer.len() as u64;
    let server = Server::start(vec![vec![
        Step::Take,
        Step::Say(answer.clone()),
        Step::Take,
        Step::Say(answer),
        Step::Gone,
    ]]);
    let client = client();
    let url = server.url("/");
    block_on(async {
        let whole = client.send(get(&url)).await;
        assert!(body(&whole) == plain.as_bytes());
        let mut request = Request::new("POST", url.clone());
        request.body = Some(plain.clone().into());
        request.packed = Some(packed.clone().into());
        request.discard_body = true;
        let discarded = client.send(request).await;
        assert_eq!(discarded.last.status, 200, "{:?}", discarded.error());
        assert_eq!(body(&discarded), b"");
        assert_eq!(discarded.request.body.as_deref(), Some(plain.as_bytes()));
    });
    let (sent, received) = client.take_data();
    client.close_idle();
    let seen = server.done();
    assert!(
        seen[1].contains(&format!("Content-Length: {}\r\n", packed.len())),
        "{}",
        seen[1]
    );
    assert_eq!(received, 2 * length);
    assert!(sent < 1000, "{sent}");
}

#[test]
fn a_body_that_is_not_what_it_claims_fails_the_request_and_keeps_the_connection() {
    let bad =
        "HTTP/1.1 200 OK\r\nContent-Encoding: gzip\r\nContent-Length: 17\r\n\r\nnot packed at all";
    let server = Server::start(vec![vec![
        Step::Take,
        say(bad),
        Step::Take,
        ok("fine"),
        Step::Gone,
    ]]);
    let client = client();
    let url = server.url("/");
    block_on(async {
        let failed = client.send(get(&url)).await;
        assert_eq!((failed.last.status, failed.last.proto), (0, None));
        assert_eq!(code_and_text(&failed.last).0, 1701);
        assert_eq!(
            failed.error().map(Error::raw).as_deref(),
            Some(
                "error decompressing response body (error decompressing response body (gzip: invalid header))"
            )
        );
        assert_eq!(body(&client.send(get(&url)).await), b"fine");
    });
    client.close_idle();
    server.done();
}

/// The same server with credentials in the URL.
fn with_credentials(url: &Url, credentials: &str) -> Url {
    let text = url.as_str().replace("://", &format!("://{credentials}@"));
    Url::parse(&text).expect("a URL")
}

fn refused(challenge: &str) -> Step {
    say(&format!(
        "HTTP/1.1 401 Unauthorized\r\nWWW-Authenticate: {challenge}\r\nContent-Length: 2\r\n\r\nno"
    ))
}

#[test]
fn a_digest_challenge_is_met_in_a_second_round_trip() {
    let challenge = "Digest realm=\"r\", qop=\"auth\", nonce=\"n\"";
    let server = Server::start(vec![vec![
        Step::Take,
        refused(challenge),
        Step::Take,
        ok("in"),
        Step::Take,
        refused(challenge),
        Step::Take,
        refused(challenge),
        Step::Take,
        refused("Basic realm=\"r\""),
        Step::Gone,
    ]]);
    let client = client();
    let url = with_credentials(&server.url("/a?b"), "bob:secret");
    let request = || {
        let mut request = Request::new("POST", url.clone());
        request.auth = Auth::Digest;
        request.body = Some("body".into());
        request
    };
    block_on(async {
        let good = client.send(request()).await;
        assert_eq!((good.last.status, body(&good)), (200, &b"in"[..]));
        assert_eq!(good.earlier.len(), 1);
        assert_eq!(
            (good.earlier[0].status, good.earlier[0].handshake),
            (401, true)
        );
        assert!(!good.last.handshake);
        let wrong = client.send(request()).await;
        assert_eq!((wrong.last.status, wrong.earlier.len()), (401, 1));
        assert!(!wrong.last.handshake);
        let other = client.send(request()).await;
        assert_eq!((other.last.status, other.earlier.len()), (401, 0));
    });
    client.close_idle();
    let seen = server.done();
    assert!(
        seen[0].contains("Authorization: Basic Ym9iOnNlY3JldA==\r\n"),
        "{}",
        seen[0]
    );
    assert!(
        seen[1].contains(
            "Authorization: Digest username=\"bob\", realm=\"r\", nonce=\"n\", uri=\"/a?b\""
        ),
        "{}",
        seen[1]
    );
    assert!(seen[1].ends_with("\r\n\r\nbody"), "{}", seen[1]);
}

#[test]
fn the_steps_of_ntlm_have_a_connection_of_their_own() {
    // Signature, type 2, an empty target name, flags, challenge, context, no target information.
    let mut challenge = b"NTLMSSP\0\x02\0\0\0".to_vec();
    challenge.extend_from_slice(&[0; 8]);
    challenge.extend_from_slice(&0x0008_0201u32.to_le_bytes());
    challenge.extend_from_slice(b"12345678");
    challenge.extend_from_slice(&[0; 16]);
    let challenge = format!("NTLM {}", STANDARD.encode(&challenge));
    let handshake = vec![
        Step::Take,
        refused("NTLM"),
        Step::Take,
        refused(&challenge),
        Step::Pause(30),
        Step::Take,
        ok("in"),
        Step::Take,
        ok("again"),
        Step::Gone,
    ];
    let last = "HTTP/1.1 200 OK\r\nConnection: close\r\nContent-Length: 5\r\n\r\nother";
    let server = Server::start(vec![handshake, vec![Step::Take, say(last)]]);
    let client = client();
    let url = with_credentials(&server.url("/"), "Domain%5CUser:Password");
    let request = || {
        let mut request = get(&url);
        request.auth = Auth::Ntlm;
        request
    };
    block_on(async {
        let mut plain = Vec::new();
        let good = client.send(request());
        let meanwhile = async {
            tokio::time::sleep(Duration::from_millis(10)).await;
            plain.push(client.send(get(&server.url("/plain"))).await);
        };
        let (good, ()) = tokio::join!(good, meanwhile);
        assert_eq!((good.last.status, body(&good)), (200, &b"in"[..]));
        let steps: Vec<_> = good
            .earlier
            .iter()
            .map(|hop| (hop.status, hop.handshake))
            .collect();
        assert_eq!(steps, [(401, true), (401, true)]);
        assert_eq!(good.last.timings.blocked, Duration::ZERO);
        assert_eq!(body(&plain[0]), b"other");
        let again = client.send(request()).await;
        assert_eq!((again.earlier.len(), body(&again)), (0, &b"again"[..]));
    });
    client.close_idle();
    let seen = server.done();
    let mut heads = seen.iter().filter(|head| head.starts_with("GET / "));
    assert!(!heads.next().expect("a first").contains("Authorization"));
    for kind in [1u8, 3] {
        let head = heads.next().expect("a message");
        let message = head
            .lines()
            .find_map(|line| line.strip_prefix("Authorization: NTLM "))
            .expect("NTLM");
        let message = STANDARD.decode(message).expect("base64");
        assert_eq!((&message[..8], message[8]), (&b"NTLMSSP\0"[..], kind));
    }
}

#[test]
fn a_watcher_sees_every_message_with_its_body() {
    let redirect = "HTTP/1.1 302 Found\r\nlocation: /b\r\nContent-Length: 4\r\n\r\ngone";
    let server = Server::start(vec![vec![
        Step::Take,
        say(redirect),
        Step::Take,
        ok("there"),
        Step::Gone,
    ]]);
    let client = client();
    let seen = Rc::new(RefCell::new(Vec::new()));
    let notes = seen.clone();
    let watcher = move |message: Message<'_>| {
        notes
            .borrow_mut()
            .push((message.id.to_owned(), message.response, message.text));
    };
    client.watch(Rc::new(watcher), true);
    block_on(async {
        let mut request = Request::new("PUT", server.url("/a"));
        request.headers.push(("x-probe".into(), "p".into()));
        request.body = Some("body".into());
        request.discard_body = true;
        assert_eq!(client.send(request).await.last.status, 200);
    });
    let address = server.address;
    client.close_idle();
    server.done();
    let seen = seen.take();
    let texts: Vec<&str> = seen.iter().map(|(_, _, text)| text.as_str()).collect();
    assert_eq!(
        texts,
        [
            &format!(
                "PUT /a HTTP/1.1\r\nHost: {address}\r\nX-Probe: p\r\nContent-Length: 4\r\n\r\nbody"
            ),
            "HTTP/1.1 302 Found\r\nLocation: /b\r\nContent-Length: 4\r\n\r\ngone",
            &format!(
                "GET /b HTTP/1.1\r\nHost: {address}\r\nX-Probe: p\r\nReferer: http://{address}/a\r\n\r\n"
            ),
            "HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nthere",
        ]
    );
    let directions: Vec<bool> = seen.iter().map(|(_, response, _)| *response).collect();
    assert_eq!(directions, [false, true, false, true]);
    assert_eq!((&seen[0].0, &seen[2].0), (&seen[1].0, &seen[3].0));
    assert_ne!(seen[0].0, seen[2].0);
    assert_eq!((seen[0].0.len(), seen[0].0.as_bytes()[14]), (36, b'4'));
}

#[test]
fn a_pace_spaces_requests_out_before_their_phases_and_their_timeout() {
    let server = Server::start(vec![vec![
        Step::Take,
        ok("a"),
        Step::Take,
        ok("b"),
        Step::Take,
        ok("c"),
        Step::Gone,
    ]]);
    let config = ClientConfig {
        pace: Some(crate::Pace::new(10)),
        ..ClientConfig::default()
    };
    let client = Client::new(Arc::new(config));
    block_on(async {
        let begun = std::time::Instant::now();
        for _ in 0..3 {
            let mut request = get(&server.url("/"));
            request.timeout = Duration::from_millis(80);
            let exchange = client.send(request).await;
            assert_eq!(exchange.last.status, 200, "{:?}", exchange.error());
            assert!(exchange.last.timings.blocked < Duration::from_millis(60));
        }
        assert!(begun.elapsed() >= Duration::from_millis(195));
    });
    client.close_idle();
    server.done();
}

/// A client whose requests to `*.test` end at this address.
fn client_for(address: SocketAddr, change: impl FnOnce(&mut ClientConfig)) -> Client {
    let mut config = ClientConfig::default();
    config
        .hosts
        .insert("*.test", &address.to_string())
        .expect("a pattern");
    change(&mut config);
    Client::new(Arc::new(config))
}

fn through(variable: &str, proxy: &str) -> crate::Proxies {
    crate::Proxies::from_env(|name| (name == variable).then(|| proxy.to_owned()))
}

#[test]
fn a_proxy_is_told_the_whole_url() {
    let server = Server::start(vec![vec![
        Step::Take,
        ok("one"),
        Step::Take,
        ok("two"),
        Step::Gone,
    ]]);
    let client = client_for(server.address, |config| {
        config.proxies = through("HTTP_PROXY", "http://me:word@proxy.test:3128");
    });
    let address = server.address;
    block_on(async {
        let url = Url::parse("http://u:p@far.example:8080/a b?c d#e").expect("a URL");
        let first = client.send(get(&url)).await;
        assert_eq!(body(&first), b"one", "{:?}", first.error());
        assert_eq!(first.last.remote, Some(address));
        let plain = Url::parse("http://far.example:8080/plain?x=y").expect("a URL");
        let again = client.send(get(&plain)).await;
        assert_eq!(body(&again), b"two", "{:?}", again.error());
        assert_eq!(again.last.timings.blocked, Duration::ZERO);
        // Never through the proxy; nobody listens there.
        let here = Url::parse("http://127.0.0.1:1/").expect("a URL");
        assert_eq!(code_and_text(&client.send(get(&here)).await.last).0, 1212);
    });
    client.close_idle();
    let seen = server.done();
    for (head, target) in seen.iter().zip(["/a%20b?c d", "/plain?x=y"]) {
        let lines: Vec<&str> = head
            .lines()
            .filter(|l| !l.starts_with("Authorization"))
            .collect();
        assert_eq!(
            lines[..3],
            [
                &format!("GET http://far.example:8080{target} HTTP/1.1"),
                "Host: far.example:8080",
                "Proxy-Authorization: Basic bWU6d29yZA==",
            ]
        );
    }
}

#[test]
fn a_proxy_that_does_not_connect_fails_the_request() {
    let refuse = "HTTP/1.1 407 Proxy Authentication Required\r\nContent-Length: 0\r\n\r\n";
    let server = Server::start(vec![
        vec![Step::Take, say(refuse)],
        vec![
            Step::Take,
            say("HTTP/1.1 200 Connection established\r\n\r\n"),
        ],
        vec![Step::Take, say("SSH-2.0-nope\r\n\r\n")],
        vec![Step::Take],
    ]);
    let client = client_for(server.address, |config| {
        config.proxies = through("https_proxy", "proxy.test:3128");
        config.user_agent = Some("me".into());
    });
    block_on(async {
        let url = Url::parse("https://far.example/").expect("a URL");
        let mut texts = Vec::new();
        for _ in 0..4 {
            let exchange = client.send(get(&url)).await;
            texts.push(code_and_text(&exchange.last));
        }
        assert_eq!(texts[0], (1000, "Proxy Authentication Required".to_owned()));
        assert_eq!(
            texts[1].0, 1000,
            "the tunnel is there, TLS is not: {texts:?}"
        );
        assert_eq!(
            texts[2],
            (1000, "malformed HTTP response \"SSH-2.0-nope\"".to_owned())
        );
        assert_eq!(texts[3], (1000, "unexpected EOF".to_owned()));
    });
    let seen = server.done();
    assert_eq!(
        seen[0],
        "CONNECT far.example:443 HTTP/1.1\r\nHost: far.example:443\r\nUser-Agent: me\r\n\r\n"
    );
}

#[test]
fn a_socks_proxy_gets_the_name() {
    let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
    let address = listener.local_addr().expect("an address");
    let server = std::thread::spawn(move || {
        let (mut stream, _) = listener.accept().expect("a connection");
        let mut expect = |bytes: &[u8], answer: &[u8]| {
            let mut read = vec![0; bytes.len()];
            stream.read_exact(&mut read).expect("bytes");
            assert_eq!(read, bytes);
            stream.write_all(answer).expect("an answer");
        };
        expect(&[5, 2, 0, 2], &[5, 2]);
        expect(b"\x01\x02me\x04word", &[1, 0]);
        expect(
            b"\x05\x01\x00\x03\x0bfar.example\x1f\x90",
            b"\x05\x00\x00\x03\x01x\x00\x50",
        );
        take(&mut stream);
        stream
            .write_all(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok")
            .expect("an answer");
    });
    let client = client_for(address, |config| {
        config.proxies = through("HTTP_PROXY", "socks5://me:word@proxy.test");
    });
    block_on(async {
        let url = Url::parse("http://far.example:8080/").expect("a URL");
        let exchange = client.send(get(&url)).await;
        assert_eq!(body(&exchange), b"ok", "{:?}", exchange.error());
    });
    server.join().expect("a good conversation");
}

#[test]
fn clients_send_from_the_address_of_their_number() {
    let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
    let address = listener.local_addr().expect("an address");
    let peers = std::thread::spawn(move || {
        (0..3)
            .map(|_| {
                let (mut stream, peer) = listener.accept().expect("a connection");
                take(&mut stream);
                let _ = stream.write_all(b"HTTP/1.1 204 No Content\r\n\r\n");
                peer.ip().to_string()
            })
            .collect::<Vec<_>>()
    });
    let ip = |text: &str| text.parse::<IpAddr>().expect(text);
    let config = Arc::new(ClientConfig {
        local_ips: crate::LocalIps::new([(ip("127.0.0.2"), ip("127.0.0.3"))]),
        ..ClientConfig::default()
    });
    let url = Url::parse(&format!("http://{address}/")).expect("a URL");
    block_on(async {
        for number in 1..4 {
            let client = Client::new(config.clone()).numbered(number);
            assert_eq!(client.send(get(&url)).await.last.status, 204);
        }
        let config = ClientConfig {
            local_ips: crate::LocalIps::new([(ip("::1"), ip("::1"))]),
            ..ClientConfig::default()
        };
        let client = Client::new(Arc::new(config)).numbered(1);
        let (_, text) = code_and_text(&client.send(get(&url)).await.last);
        assert!(
            text.ends_with("mismatched local address type ::1"),
            "{text}"
        );
    });
    assert_eq!(
        peers.join().expect("peers"),
        ["127.0.0.3", "127.0.0.2", "127.0.0.3"]
    );
}

#[test]
fn a_stapled_response_is_shown() {
    // `status` of the response is "try later", which says nothing about the certificate.
    for (staple, status) in [
        (crate::tls::tests::good_staple(), "good"),
        (vec![0x30, 3, 0x0a, 1, 3], "unknown"),
    ] {
        let (address, der, thread) = tls_server_with(1, staple, None);
        let client = Client::new(Arc::new(ClientConfig {
            extra_roots: vec![der],
            ..ClientConfig::default()
        }));
        let url = Url::parse(&format!("https://localhost:{}/", address.port())).expect("a URL");
        let exchange = block_on(client.send(get(&url)));
        let session = exchange.last.tls.expect("a session");
        assert_eq!(session.ocsp_status(), status);
        client.close_idle();
        thread.join().expect("the server plays to its end");
    }
}

#[test]
fn a_client_certificate_is_shown_to_the_hosts_it_is_for() {
    let mine = rcgen::generate_simple_self_signed(vec!["me".to_owned()]).expect("a certificate");
    let (address, der, thread) = tls_server_with(2, Vec::new(), Some(mine.cert.der().to_vec()));
    let client = |domain: &str| {
        let identity = crate::Identity::from_pem(
            &mine.cert.pem(),
            &mine.signing_key.serialize_pem(),
            None,
            vec![domain.to_owned()],
        );
        Client::new(Arc::new(ClientConfig {
            extra_roots: vec![der.clone()],
            identities: vec![identity.expect("an identity")],
            ..ClientConfig::default()
        }))
    };
    let url = Url::parse(&format!("https://localhost:{}/", address.port())).expect("a URL");
    block_on(async {
        let shown = client("localhost").send(get(&url)).await;
        assert_eq!(body(&shown), b"secret", "{:?}", shown.error());
        let hidden = client("other.test").send(get(&url)).await;
        assert_eq!(
            code_and_text(&hidden.last),
            (1000, "remote error: tls: certificate required".into())
        );
    });
    thread.join().expect("the server plays to its end");
}

#[test]
fn only_the_chosen_suites_are_spoken() {
    let suite = "TLS_ECDHE_ECDSA_WITH_CHACHA20_POLY1305";
    let (address, der, thread) = tls_server(1);
    let client = Client::new(Arc::new(ClientConfig {
        extra_roots: vec![der],
        cipher_suites: vec!["TLS_RSA_WITH_RC4_128_SHA".into(), suite.into()],
        tls_max: Some(crate::TlsVersion::Tls12),
        ..ClientConfig::default()
    }));
    let url = Url::parse(&format!("https://localhost:{}/", address.port())).expect("a URL");
    let exchange = block_on(client.send(get(&url)));
    let session = exchange.last.tls.expect("a session");
    assert_eq!(
        (session.version, session.cipher),
        ("tls1.2", "TLS_ECDHE_ECDSA_WITH_CHACHA20_POLY1305_SHA256")
    );
    client.close_idle();
    thread.join().expect("the server plays to its end");
}
