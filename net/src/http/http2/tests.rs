//! The client against a server of HTTP/2.

use std::{
    net::TcpListener,
    sync::atomic::{AtomicUsize, Ordering},
    time::Duration,
};

use h2::{Reason, server};
use tokio_rustls::TlsAcceptor;

use super::*;
use crate::{
    config::ClientConfig,
    http::{
        client::Client,
        exchange::{Exchange, Proto, Request},
    },
};

/// A server that does what the path says: `/delay/20`, `/reset/2`, `/goaway`, `/large/100000`, or
/// answers with what it was asked.
struct Server {
    address: SocketAddr,
    root: Vec<u8>,
    connections: Arc<AtomicUsize>,
}

impl Server {
    fn start(protocols: &[&str], most_streams: u32) -> Self {
        let certified = rcgen::generate_simple_self_signed(vec!["localhost".to_owned()])
            .expect("a certificate");
        let root = certified.cert.der().to_vec();
        let key = rustls::pki_types::PrivateKeyDer::try_from(certified.signing_key.serialize_der())
            .expect("a key");
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let mut config = rustls::ServerConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .expect("versions")
            .with_no_client_auth()
            .with_single_cert(vec![root.clone().into()], key)
            .expect("a configuration");
        config.alpn_protocols = protocols.iter().map(|p| p.as_bytes().to_vec()).collect();
        let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
        let address = listener.local_addr().expect("an address");
        listener.set_nonblocking(true).expect("a socket");
        let connections = Arc::new(AtomicUsize::new(0));
        let count = connections.clone();
        std::thread::spawn(move || {
            let runtime = tokio::runtime::Builder::new_current_thread()
                .enable_all()
                .build()
                .expect("a runtime");
            let local = tokio::task::LocalSet::new();
            local.block_on(&runtime, async move {
                let listener = tokio::net::TcpListener::from_std(listener).expect("a socket");
                let acceptor = TlsAcceptor::from(Arc::new(config));
                loop {
                    let (stream, _) = listener.accept().await.expect("a connection");
                    count.fetch_add(1, Ordering::SeqCst);
                    let acceptor = acceptor.clone();
                    tokio::task::spawn_local(serve(acceptor, stream, most_streams));
                }
            });
        });
        Self {
            address,
            root,
            connections,
        }
    }

    fn client(&self, change: impl FnOnce(&mut ClientConfig)) -> Client {
        let mut config = ClientConfig {
            extra_roots: vec![self.root.clone()],
            ..ClientConfig::default()
        };
        change(&mut config);
        Client::new(Arc::new(config))
    }

    fn get(&self, path: &str) -> Request {
        let url = format!("https://localhost:{}{path}", self.address.port());
        Request::new("GET", Url::parse(&url).expect("a URL"))
    }

    fn connections(&self) -> usize {
        self.connections.load(Ordering::SeqCst)
    }
}

async fn serve(acceptor: TlsAcceptor, stream: tokio::net::TcpStream, most_streams: u32) {
    let Ok(mut stream) = acceptor.accept(stream).await else {
        return;
    };
    if stream.get_ref().1.alpn_protocol() != Some(b"h2") {
        use tokio::io::{AsyncReadExt, AsyncWriteExt};
        let mut buffer = [0; 4096];
        while stream.read(&mut buffer).await.is_ok_and(|n| n > 0) {
            tokio::time::sleep(Duration::from_millis(20)).await;
            let answer = b"HTTP/1.1 200 OK\r\nContent-Length: 3\r\n\r\none";
            stream.write_all(answer).await.expect("an answer");
        }
        return;
    }
    let made = server::Builder::new()
        .max_concurrent_streams(most_streams)
        .initial_window_size(100_000)
        .handshake::<_, Bytes>(stream)
        .await;
    let Ok(mut connection) = made else { return };
    while let Some(Ok((request, respond))) = connection.accept().await {
        let path = request.uri().path().to_owned();
        if path == "/goaway" {
            connection.abrupt_shutdown(Reason::ENHANCE_YOUR_CALM);
        } else if path == "/leave" {
            connection.graceful_shutdown();
        }
        tokio::task::spawn_local(answer(path, request, respond));
    }
}

async fn answer(
    path: String,
    request: http::Request<h2::RecvStream>,
    mut respond: server::SendResponse<Bytes>,
) {
    let (head, mut body) = request.into_parts();
    let mut received = Vec::new();
    while let Some(Ok(data)) = body.data().await {
        let _ = body.flow_control().release_capacity(data.len());
        received.extend_from_slice(&data);
    }
    let after = |start: &str| path.strip_prefix(start).and_then(|n| n.parse::<u32>().ok());
    if let Some(ms) = after("/delay/") {
        tokio::time::sleep(Duration::from_millis(u64::from(ms))).await;
    }
    if let Some(code) = after("/reset/") {
        respond.send_reset(Reason::from(code));
        return;
    }
    let content = match after("/large/") {
        Some(size) => vec![b'x'; size as usize],
        None => format!(
            "{} {} {:?} {}",
            head.method,
            head.uri,
            head.headers,
            received.len()
        )
        .into_bytes(),
    };
    let response = http::Response::builder()
        .header("X-Own", "a")
        .header("content-length", content.len())
        .body(())
        .expect("a response");
    let Ok(mut stream) = respond.send_response(response, false) else {
        return;
    };
    let mut content = Bytes::from(content);
    let middle = content.split_to(content.len() / 2);
    let _ = stream.send_data(middle, false);
    if after("/cut/").is_some() {
        stream.send_reset(Reason::INTERNAL_ERROR);
        return;
    }
    let _ = stream.send_data(content, true);
}

fn block_on<T>(work: impl Future<Output = T>) -> T {
    tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .expect("a runtime")
        .block_on(work)
}

fn text(exchange: &Exchange) -> String {
    let body = exchange.response.as_ref().map_or(&b""[..], |r| &r.body);
    String::from_utf8_lossy(body).into_owned()
}

#[test]
fn requests_share_a_connection() {
    let server = Server::start(&["h2", "http/1.1"], 100);
    let client = server.client(|config| config.max_idle_per_host = 0);
    block_on(async {
        let all: Vec<Request> = (0..12).map(|_| server.get("/delay/60")).collect();
        let begun = Instant::now();
        let exchanges = client.send_all(all, |_, _| {}).await;
        assert!(
            begun.elapsed() < Duration::from_millis(500),
            "at the same time"
        );
        assert_eq!(server.connections(), 1);
        let mut dialled = 0;
        for exchange in &exchanges {
            let hop = &exchange.last;
            assert_eq!(
                (hop.status, hop.proto),
                (200, Some(Proto::Http2)),
                "{:?}",
                hop.error
            );
            let timings = &hop.timings;
            dialled += usize::from(timings.tls_handshaking > Duration::ZERO);
            assert!(
                timings.blocked > Duration::ZERO,
                "all have waited for the connection"
            );
            assert!(timings.waiting >= Duration::from_millis(59), "{timings:?}");
            assert!(timings.sending < Duration::from_millis(30), "{timings:?}");
        }
        assert_eq!(dialled, 1);
        let again = client.send(server.get("/a?b=c")).await;
        assert_eq!(again.last.timings.blocked, Duration::ZERO);
        assert_eq!(server.connections(), 1);
        let head = again.response.as_ref().expect("a response");
        assert_eq!((head.proto.as_str(), &*head.reason), ("HTTP/2.0", "OK"));
        assert_eq!(head.headers["x-own"], "a");
        let port = server.address.port();
        assert!(
            text(&again).starts_with(&format!("GET https://localhost:{port}/a?b=c ")),
            "{}",
            text(&again)
        );
        let (sent, received) = client.take_data();
        assert!(sent > 500 && received > 500, "{sent} {received}");
    });
}

#[test]
fn heads_leave_out_what_http2_forbids() {
    let server = Server::start(&["h2"], 100);
    let client = server.client(|config| config.user_agent = Some("me".into()));
    block_on(async {
        let mut request = server.get("/a b?c d\"e");
        for (name, value) in [
            ("Host", "other.test"),
            ("Connection", "close"),
            ("X-Mine", "1"),
            ("keep-alive", "5"),
        ] {
            request.headers.push((name.into(), value.into()));
        }
        let exchange = client.send(request).await;
        let text = text(&exchange);
        assert!(
            text.starts_with("GET https://other.test/a%20b?c%20d%22e "),
            "{text}"
        );
        assert!(
            text.contains("\"x-mine\": \"1\"") && text.contains("\"user-agent\": \"me\""),
            "{text}"
        );
        assert!(
            !text.contains("close") && !text.contains("keep-alive"),
            "{text}"
        );
    });
}

#[test]
fn bodies_larger_than_the_windows_go_both_ways() {
    let server = Server::start(&["h2"], 100);
    let client = server.client(|_| {});
    block_on(async {
        let mut upload = server.get("/echo");
        upload.method = "POST".into();
        upload.body = Some(vec![7; 1_000_000].into());
        let exchange = client.send(upload).await;
        assert!(
            text(&exchange).ends_with(" 1000000"),
            "{:?}",
            exchange.error()
        );
        assert!(text(&exchange).contains("\"content-length\": \"1000000\""));
        let large = client.send(server.get("/large/6000000")).await;
        assert_eq!(text(&large).len(), 6_000_000, "{:?}", large.error());
        assert!(client.take_data().1 > 6_000_000);
    });
}

#[test]
fn a_server_of_http1_gets_a_connection_for_each() {
    let server = Server::start(&["http/1.1"], 100);
    let client = server.client(|_| {});
    block_on(async {
        let all: Vec<Request> = (0..4).map(|_| server.get("/")).collect();
        for exchange in client.send_all(all, |_, _| {}).await {
            assert_eq!(text(&exchange), "one", "{:?}", exchange.error());
            assert_eq!(exchange.last.proto, Some(Proto::Http11));
        }
        assert!(server.connections() > 1);
    });
}

#[test]
fn a_connection_that_is_full_is_not_the_only_one() {
    let server = Server::start(&["h2"], 2);
    let client = server.client(|_| {});
    block_on(async {
        client.send(server.get("/")).await;
        let all: Vec<Request> = (0..6).map(|_| server.get("/delay/50")).collect();
        for exchange in client.send_all(all, |_, _| {}).await {
            assert_eq!(exchange.last.status, 200, "{:?}", exchange.error());
        }
        assert!(server.connections() >= 3, "{}", server.connections());
    });
}

#[test]
fn what_the_server_ends_has_the_code_it_gives() {
    let server = Server::start(&["h2"], 100);
    let client = server.client(|_| {});
    let of = |path: &str| {
        let exchange = block_on_in(&client, server.get(path));
        let error = exchange.error().expect("an error");
        (error.code(), error.short(), text(&exchange))
    };
    assert_eq!(of("/reset/2").0, 1633);
    assert_eq!(
        of("/reset/8").1,
        "http2: stream error with http2 ErrCode CANCEL"
    );
    assert_eq!(of("/reset/99").0, 1630);
    // Refused: it is sent once more, and then that is the answer.
    assert_eq!(of("/reset/7").0, 1638);
    assert_eq!(of("/goaway").0, 1622);
    let (code, _, partial) = of("/cut/1");
    assert_eq!(code, 1633);
    assert!(
        partial.starts_with("GET ") || partial.is_empty(),
        "{partial}"
    );
}

fn block_on_in(client: &Client, request: Request) -> Exchange {
    block_on(async {
        let exchange = client.send(request).await;
        // Each runtime has sockets of its own.
        client.close_idle();
        exchange
    })
}

#[test]
fn a_server_that_leaves_is_left() {
    let server = Server::start(&["h2"], 100);
    let client = server.client(|_| {});
    block_on(async {
        for _ in 0..3 {
            let exchange = client.send(server.get("/leave")).await;
            assert_eq!(exchange.last.status, 200, "{:?}", exchange.error());
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
        assert_eq!(server.connections(), 3);
    });
}

#[test]
fn connections_are_replaced_when_they_are_old_or_have_waited_long() {
    let (instant, hour) = (
        Some(Duration::from_nanos(1)),
        Some(Duration::from_secs(3600)),
    );
    for (life, idle, connections) in [(instant, None, 3), (None, instant, 3), (hour, hour, 1)] {
        let server = Server::start(&["h2"], 100);
        let client = server.client(|config| {
            config.connection_lifetime = life;
            config.connection_idle = idle;
        });
        block_on(async {
            for _ in 0..3 {
                let exchange = client.send(server.get("/delay/2")).await;
                assert_eq!(exchange.last.status, 200, "{:?}", exchange.error());
            }
        });
        assert_eq!(server.connections(), connections, "{life:?} {idle:?}");
    }
}

#[test]
fn requests_at_the_same_time_share_a_connection_that_has_waited_for_none() {
    let server = Server::start(&["h2"], 100);
    let client = server.client(|config| config.connection_idle = Some(Duration::from_nanos(1)));
    block_on(async {
        let all: Vec<Request> = (0..4).map(|_| server.get("/delay/300")).collect();
        for exchange in client.send_all(all, |_, _| {}).await {
            assert_eq!(exchange.last.status, 200, "{:?}", exchange.error());
        }
    });
    assert_eq!(server.connections(), 1);
}

#[test]
fn an_abandoned_stream_leaves_its_connection() {
    let server = Server::start(&["h2"], 100);
    let client = server.client(|_| {});
    block_on(async {
        client.send(server.get("/")).await;
        let mut slow = server.get("/delay/2000");
        slow.timeout = Duration::from_millis(40);
        let late = client.send(slow).await;
        assert_eq!(late.error().map(Error::code), Some(1050));
        assert!(
            late.last.timings.waiting >= Duration::from_millis(30),
            "{:?}",
            late.last.timings
        );
        assert_eq!(client.send(server.get("/")).await.last.status, 200);
        assert_eq!(server.connections(), 1);
    });
}

#[test]
fn without_reuse_each_request_has_its_own() {
    let server = Server::start(&["h2"], 100);
    let client = server.client(|config| config.no_connection_reuse = true);
    block_on(async {
        for _ in 0..2 {
            let exchange = client.send(server.get("/")).await;
            assert_eq!(
                exchange.last.proto,
                Some(Proto::Http2),
                "{:?}",
                exchange.error()
            );
            assert!(exchange.last.timings.tls_handshaking > Duration::ZERO);
        }
        assert_eq!(server.connections(), 2);
    });
}

/// A small generator: the same frames in every run.
struct Random(u64);

impl Random {
    fn next(&mut self, below: u64) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0 % below
    }
}

/// Frames of any type for the streams there may be, most of them with a length that is true.
fn frames(random: &mut Random) -> Vec<u8> {
    // A server begins with its settings.
    let mut all = vec![0, 0, 0, 4, 0, 0, 0, 0, 0];
    for _ in 0..random.next(8) {
        if random.next(4) == 0 {
            // A whole answer on the first stream: `:status: 200`, as HPACK has it.
            all.extend_from_slice(&[0, 0, 1, 1, 5, 0, 0, 0, 1, 0x88]);
            continue;
        }
        let length = random.next(40) as usize;
        let told = if random.next(10) == 0 {
            random.next(1 << 15) as usize
        } else {
            length
        };
        all.extend_from_slice(&[0, (told >> 8) as u8, told as u8]);
        all.push(random.next(11) as u8);
        all.push([0, 1, 4, 5, 8, 0x25, 0xff][random.next(7) as usize]);
        all.extend_from_slice(&[0, 0, 0, [0, 1, 1, 1, 2, 3][random.next(6) as usize]]);
        all.extend((0..length).map(|_| random.next(256) as u8));
    }
    all
}

#[test]
fn whatever_frames_come_there_is_an_end() {
    let certified =
        rcgen::generate_simple_self_signed(vec!["localhost".to_owned()]).expect("a certificate");
    let der = certified.cert.der().to_vec();
    let key = rustls::pki_types::PrivateKeyDer::try_from(certified.signing_key.serialize_der())
        .expect("a key");
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let mut config = rustls::ServerConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .expect("versions")
        .with_no_client_auth()
        .with_single_cert(vec![der.clone().into()], key)
        .expect("a configuration");
    config.alpn_protocols = vec![b"h2".to_vec()];
    let config = Arc::new(config);
    let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
    let address = listener.local_addr().expect("an address");
    std::thread::spawn(move || {
        use std::io::{Read, Write};
        let mut random = Random(0x9e37_79b9_7f4a_7c15);
        for stream in listener.incoming().flatten() {
            let session = rustls::ServerConnection::new(config.clone()).expect("a session");
            let mut stream = rustls::StreamOwned::new(session, stream);
            let mut first = [0; 4096];
            // The preface, and most often the request with it.
            let _ = stream.read(&mut first);
            let _ = stream.write_all(&frames(&mut random));
            let _ = stream.flush();
            if random.next(2) == 0 {
                stream.conn.send_close_notify();
                let _ = stream.flush();
            }
        }
    });
    let client = Client::new(Arc::new(ClientConfig {
        extra_roots: vec![der],
        ..ClientConfig::default()
    }));
    let url = format!("https://localhost:{}/", address.port());
    let url = Url::parse(&url).expect("a URL");
    let (mut good, mut bad) = (0, 0);
    block_on(async {
        for _ in 0..400 {
            let mut request = Request::new("GET", url.clone());
            request.timeout = Duration::from_secs(10);
            let exchange = client.send(request).await;
            match exchange.error() {
                None => good += 1,
                Some(error) => {
                    assert_ne!(error.code(), 1050, "it hangs");
                    assert!(!error.short().is_empty());
                    bad += 1;
                }
            }
        }
    });
    assert!(good > 0 && bad > 50, "{good} good, {bad} bad");
}
