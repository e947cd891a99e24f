//! Channels against a server of HTTP/2 that does what the path of a call says.

use std::{
    cell::Cell,
    future::Future,
    io::Write,
    net::{SocketAddr, TcpListener},
    rc::Rc,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};

use bytes::Bytes;
use flate2::{Compression, write::GzEncoder};
use h2::{
    Reason, RecvStream, SendStream,
    server::{Connection, SendResponse},
};
use http::{HeaderMap, HeaderValue, Request, Response};
use tokio_rustls::TlsAcceptor;

use super::*;
use crate::{Client, ClientConfig, Proxies};

/// How long anything may take before a test fails.
const PATIENCE: Duration = Duration::from_secs(60);

struct Server {
    address: SocketAddr,
    /// Its certificate, where it has one.
    root: Option<Vec<u8>>,
    connections: Arc<AtomicUsize>,
}

impl Server {
    fn plain() -> Self {
        Self::start(None)
    }

    /// With TLS, for `localhost`, and these protocols.
    fn secure(protocols: &[&str]) -> Self {
        Self::certified(protocols, |_| {})
    }

    fn certified(protocols: &[&str], change: impl FnOnce(&mut rcgen::CertificateParams)) -> Self {
        let params = rcgen::CertificateParams::new(vec!["localhost".to_owned()]);
        let mut params = params.expect("parameters");
        change(&mut params);
        let key = rcgen::KeyPair::generate().expect("a key");
        let root = params
            .self_signed(&key)
            .expect("a certificate")
            .der()
            .to_vec();
        let key = rustls::pki_types::PrivateKeyDer::try_from(key.serialize_der()).expect("a key");
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let mut config = rustls::ServerConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .expect("versions")
            .with_no_client_auth()
            .with_single_cert(vec![root.clone().into()], key)
            .expect("a configuration");
        config.alpn_protocols = protocols.iter().map(|p| p.as_bytes().to_vec()).collect();
        let mut server = Self::start(Some(config));
        server.root = Some(root);
        server
    }

    fn start(tls: Option<rustls::ServerConfig>) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
        let address = listener.local_addr().expect("an address");
        listener.set_nonblocking(true).expect("a socket");
        let connections = Arc::new(AtomicUsize::new(0));
        let count = connections.clone();
        std::thread::spawn(move || {
            on_thread(async move {
                let listener = tokio::net::TcpListener::from_std(listener).expect("a socket");
                let acceptor = tls.map(|config| TlsAcceptor::from(Arc::new(config)));
                loop {
                    let (stream, _) = listener.accept().await.expect("a connection");
                    count.fetch_add(1, Ordering::SeqCst);
                    let acceptor = acceptor.clone();
                    tokio::task::spawn_local(async move {
                        match acceptor {
                            None => serve(stream).await,
                            Some(acceptor) => {
                                if let Ok(stream) = acceptor.accept(stream).await {
                                    serve(stream).await;
                                }
                            }
                        }
                    });
                }
            });
        });
        Self {
            address,
            root: None,
            connections,
        }
    }

    /// A connected channel without TLS.
    async fn channel(&self) -> Channel {
        self.channel_with(|_| {}).await
    }

    async fn channel_with(&self, change: impl FnOnce(&mut ChannelOptions)) -> Channel {
        let channel = self.unconnected(change);
        channel.connect(PATIENCE).await.expect("a connection");
        channel
    }

    fn unconnected(&self, change: impl FnOnce(&mut ChannelOptions)) -> Channel {
        let mut options = plaintext();
        change(&mut options);
        let channel = client().channel(&self.address.to_string(), options);
        channel.expect("a channel")
    }

    fn connections(&self) -> usize {
        self.connections.load(Ordering::SeqCst)
    }
}

fn client() -> Client {
    Client::new(Arc::new(ClientConfig::default()))
}

fn plaintext() -> ChannelOptions {
    ChannelOptions {
        plaintext: true,
        ..ChannelOptions::default()
    }
}

fn on_thread<T>(work: impl Future<Output = T>) -> T {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .expect("a runtime");
    tokio::task::LocalSet::new().block_on(&runtime, async {
        tokio::time::timeout(PATIENCE * 10, work)
            .await
            .expect("in time")
    })
}

async fn serve(stream: impl tokio::io::AsyncRead + tokio::io::AsyncWrite + Unpin + 'static) {
    let made = h2::server::Builder::new()
        .initial_window_size(70_000)
        .handshake::<_, Bytes>(stream)
        .await;
    let Ok(mut connection) = made else { return };
    let refused = Rc::new(Cell::new(0));
    while let Some(Ok((request, respond))) = connection.accept().await {
        let path = request.uri().path().to_owned();
        let (_, method) = path.rsplit_once('/').expect("a path");
        if leave(&mut connection, method) {
            continue;
        }
        let method = method.to_owned();
        let refused = refused.clone();
        tokio::task::spawn_local(async move {
            // The peer may be gone already.
            let _ = answer(&method, request, respond, &refused).await;
        });
    }
}

/// Ends the connection, if the method is about that.
fn leave<T>(connection: &mut Connection<T, Bytes>, method: &str) -> bool
where
    T: tokio::io::AsyncRead + tokio::io::AsyncWrite + Unpin,
{
    match method {
        "GoAway" => connection.abrupt_shutdown(Reason::ENHANCE_YOUR_CALM),
        "Leave" => connection.graceful_shutdown(),
        _ => return false,
    }
    method == "GoAway"
}

/// One message with its prefix.
fn framed(message: &[u8], packed: bool) -> Bytes {
    let mut wire = vec![u8::from(packed)];
    wire.extend((message.len() as u32).to_be_bytes());
    wire.extend(message);
    wire.into()
}

fn head(more: &[(&'static str, &'static str)]) -> Response<()> {
    let mut response = Response::new(());
    let headers = response.headers_mut();
    headers.insert("content-type", HeaderValue::from_static("application/grpc"));
    for (name, value) in more {
        headers.insert(*name, HeaderValue::from_static(value));
    }
    response
}

fn trailers(all: &[(&'static str, &'static str)]) -> HeaderMap {
    let all = all.iter();
    let all = all.map(|(name, value)| (name.parse().expect("a name"), value.parse().expect("it")));
    all.collect()
}

const FINE: &[(&str, &str)] = &[("grpc-status", "0")];

/// Sends all of it as the window opens.
async fn send(stream: &mut SendStream<Bytes>, mut data: Bytes) -> Result<(), h2::Error> {
    while !data.is_empty() {
        stream.reserve_capacity(data.len());
        let room = std::future::poll_fn(|task| stream.poll_capacity(task)).await;
        let Some(room) = room else { return Ok(()) };
        stream.send_data(data.split_to(room?.min(data.len())), false)?;
    }
    Ok(())
}

async fn read_all(body: &mut RecvStream) -> Result<Vec<u8>, h2::Error> {
    let mut all = Vec::new();
    while let Some(data) = body.data().await {
        let data = data?;
        body.flow_control().release_capacity(data.len())?;
        all.extend_from_slice(&data);
    }
    Ok(all)
}

async fn answer(
    method: &str,
    request: Request<RecvStream>,
    mut respond: SendResponse<Bytes>,
    refused: &Cell<usize>,
) -> Result<(), h2::Error> {
    let (parts, mut body) = request.into_parts();
    match method {
        // Everything back as it comes.
        "Echo" | "Leave" => {
            let mut stream = respond.send_response(head(&[("x-head", "h")]), false)?;
            while let Some(data) = body.data().await {
                let data = data?;
                body.flow_control().release_capacity(data.len())?;
                send(&mut stream, data).await?;
            }
            let more = [
                ("grpc-status", "0"),
                ("x-trail", "t"),
                ("x-trail-bin", "AQI"),
            ];
            stream.send_trailers(trailers(&more))?;
        }
        // The head of the call, one line each.
        "Head" => {
            read_all(&mut body).await?;
            let mut lines = format!("{} {}", parts.method, parts.uri);
            let mut headers: Vec<_> = parts.headers.iter().collect();
            headers.sort_by_key(|(name, _)| name.as_str().to_owned());
            for (name, value) in headers {
                lines.push_str(&format!("\n{name}: {}", value.to_str().expect("text")));
            }
            let mut stream = respond.send_response(head(&[]), false)?;
            send(&mut stream, framed(lines.as_bytes(), false)).await?;
            stream.send_trailers(trailers(FINE))?;
        }
        // The number of messages and of their bytes.
        "Sum" => {
            let all = read_all(&mut body).await?;
            let (mut rest, mut count, mut bytes) = (&all[..], 0, 0);
            while let Some((&[_, a, b, c, d], after)) = rest.split_first_chunk::<5>() {
                let length = u32::from_be_bytes([a, b, c, d]) as usize;
                (count, bytes, rest) = (count + 1, bytes + length, &after[length..]);
            }
            let mut stream = respond.send_response(head(&[]), false)?;
            let text = format!("{count} {bytes}");
            send(&mut stream, framed(text.as_bytes(), false)).await?;
            stream.send_trailers(trailers(FINE))?;
        }
        "Three" => {
            let mut stream = respond.send_response(head(&[]), false)?;
            for message in ["one", "two", "three"] {
                send(&mut stream, framed(message.as_bytes(), false)).await?;
                tokio::task::yield_now().await;
            }
            stream.send_trailers(trailers(FINE))?;
        }
        "None" => {
            let mut stream = respond.send_response(head(&[]), false)?;
            stream.send_trailers(trailers(FINE))?;
        }
        // Much more than all windows.
        "Large" => {
            let mut stream = respond.send_response(head(&[]), false)?;
            send(&mut stream, framed(&vec![7; 6 << 20], false)).await?;
            stream.send_trailers(trailers(FINE))?;
        }
        "Packed" => {
            let mut writer = GzEncoder::new(Vec::new(), Compression::fast());
            writer.write_all(&[b'x'; 1000]).expect("packed");
            let packed = writer.finish().expect("packed");
            let head = head(&[("grpc-encoding", "gzip")]);
            let mut stream = respond.send_response(head, false)?;
            send(&mut stream, framed(&packed, true)).await?;
            stream.send_trailers(trailers(FINE))?;
        }
        "Fail" => {
            let more = [
                ("grpc-status", "5"),
                ("grpc-message", "no%20such%20thing"),
                ("grpc-status-details-bin", "CAUSAWE="),
            ];
            respond.send_response(head(&more), true)?;
        }
        "FailLate" => {
            let mut stream = respond.send_response(head(&[("x-head", "h")]), false)?;
            send(&mut stream, framed(b"one", false)).await?;
            let more = [("grpc-status", "13"), ("grpc-message", "half-way")];
            stream.send_trailers(trailers(&more))?;
        }
        "NoStatus" => {
            let mut stream = respond.send_response(head(&[]), false)?;
            stream.send_trailers(trailers(&[("x-trail", "t")]))?;
        }
        "NoTrailers" => {
            let mut stream = respond.send_response(head(&[]), false)?;
            stream.send_data(framed(b"one", false), true)?;
        }
        "Cut" => {
            let mut stream = respond.send_response(head(&[]), false)?;
            stream.send_data(Bytes::from_static(&[0, 0, 0, 0, 9, 1]), false)?;
            stream.send_trailers(trailers(FINE))?;
        }
        "Reset" => respond.send_reset(Reason::INTERNAL_ERROR),
        "Refuse" => respond.send_reset(Reason::REFUSED_STREAM),
        "RefuseOnce" => {
            if refused.replace(refused.get() + 1) == 0 {
                respond.send_reset(Reason::REFUSED_STREAM);
            } else {
                let mut stream = respond.send_response(head(&[]), false)?;
                send(&mut stream, framed(b"second", false)).await?;
                stream.send_trailers(trailers(FINE))?;
            }
        }
        "ResetLate" => {
            let mut stream = respond.send_response(head(&[]), false)?;
            send(&mut stream, framed(b"one", false)).await?;
            tokio::task::yield_now().await;
            stream.send_reset(Reason::ENHANCE_YOUR_CALM);
        }
        "Page" => {
            let mut response = Response::new(());
            *response.status_mut() = http::StatusCode::BAD_GATEWAY;
            let kind = HeaderValue::from_static("text/html");
            response.headers_mut().insert("content-type", kind);
            respond.send_response(response, true)?;
        }
        // Nothing, for as long as the call is held.
        "Never" => {
            let _ = read_all(&mut body).await;
            std::future::poll_fn(|task| respond.poll_reset(task)).await?;
        }
        other => panic!("{other}"),
    }
    Ok(())
}

fn to(method: &str) -> CallRequest {
    CallRequest {
        path: format!("/t.S/{method}"),
        ..CallRequest::default()
    }
}

fn words(text: &str) -> Bytes {
    Bytes::copy_from_slice(text.as_bytes())
}

async fn status(channel: &Channel, method: &str) -> String {
    let reply = channel.unary(&to(method), &words("hello")).await;
    assert!(reply.message.is_none() || reply.status().is_ok());
    reply.status().to_string()
}

/// Everything that a call tells: its messages, and how it ended.
async fn all(call: &Call) -> (Vec<Bytes>, Outcome) {
    let mut messages = Vec::new();
    loop {
        match call.next().await {
            Event::Message(message) => messages.push(message),
            Event::End(outcome) => return (messages, *outcome),
        }
    }
}

fn values(metadata: &Metadata) -> Vec<(&str, Vec<u8>)> {
    metadata
        .iter()
        .map(|(name, values)| (name, values.concat()))
        .collect()
}

#[test]
fn a_message_goes_there_and_back_with_metadata() {
    on_thread(async {
        let server = Server::plain();
        let channel = server.channel().await;
        for _ in 0..3 {
            let reply = channel.unary(&to("Echo"), &words("hello")).await;
            assert_eq!(reply.status().to_string(), "rpc error: code = OK desc = ");
            assert_eq!(reply.message.as_deref(), Some(&b"hello"[..]));
            let (headers, trailers) = reply.metadata();
            assert_eq!(
                values(headers),
                [
                    ("content-type", b"application/grpc".to_vec()),
                    ("x-head", b"h".to_vec())
                ]
            );
            assert_eq!(
                values(trailers),
                [("x-trail", b"t".to_vec()), ("x-trail-bin", vec![1, 2])]
            );
            assert_eq!(reply.remote, Some(server.address));
        }
        assert_eq!(server.connections(), 1);
    });
}

#[test]
fn the_head_of_a_call_is_what_the_protocol_asks() {
    on_thread(async {
        let server = Server::plain();
        let channel = server
            .channel_with(|options| options.authority = Some("other.test".to_owned()))
            .await;
        let mut request = to("Head");
        request.metadata.add("X-Key", b"value").expect("metadata");
        request.metadata.add("x-bin", &[255]).expect("metadata");
        request.timeout = Some(Duration::from_secs(3600 * 24 * 30));
        let reply = channel.unary(&request, &words("")).await;
        let text = reply.message.expect("a message");
        let text = String::from_utf8_lossy(&text).into_owned();
        let lines: Vec<&str> = text.lines().collect();
        let timeout = lines[3].strip_prefix("grpc-timeout: ").expect("a timeout");
        assert!(timeout.ends_with('S') && timeout.len() > 6, "{timeout}");
        assert_eq!(
            [&lines[..3], &lines[4..]].concat(),
            [
                "POST http://other.test/t.S/Head",
                "content-type: application/grpc",
                "grpc-accept-encoding: gzip",
                "te: trailers",
                concat!("user-agent: grpc-rust-volley/", env!("CARGO_PKG_VERSION")),
                "x-bin: /w",
                "x-key: value",
            ]
        );
    });
}

#[test]
fn messages_stream_to_the_server_and_from_it_and_both_ways() {
    on_thread(async {
        let server = Server::plain();
        let channel = server.channel().await;

        let call = channel.begin(&to("Three")).await.expect("a call");
        call.send(&words("one"));
        call.finish();
        let (messages, outcome) = all(&call).await;
        assert_eq!(messages, ["one", "two", "three"]);
        assert!(outcome.status.is_ok());
        assert_eq!(call.take_sent(), 1);

        // More than the server's windows hold.
        let call = channel.begin(&to("Sum")).await.expect("a call");
        for _ in 0..20 {
            call.send(&vec![1; 50_000].into());
        }
        call.finish();
        let (messages, _) = all(&call).await;
        assert_eq!(messages, ["20 1000000"]);
        assert_eq!((call.take_sent(), call.take_sent()), (20, 0));

        // Each answer before the next question.
        let call = channel.begin(&to("Echo")).await.expect("a call");
        for i in 0..5 {
            let question = words(&format!("question {i}"));
            call.send(&question);
            match call.next().await {
                Event::Message(answer) => assert_eq!(answer, question),
                Event::End(outcome) => panic!("{outcome:?}"),
            }
        }
        call.finish();
        call.send(&words("too late"));
        let (messages, outcome) = all(&call).await;
        assert!(messages.is_empty() && outcome.status.is_ok(), "{outcome:?}");
        assert_eq!(server.connections(), 1);
    });
}

#[test]
fn calls_share_a_connection_at_the_same_time() {
    on_thread(async {
        let server = Server::plain();
        let channel = server.unconnected(|_| {});
        let request = to("Echo");
        let calls = (0..50).map(|i| {
            let (channel, request) = (&channel, &request);
            async move {
                let message = words(&i.to_string());
                let reply = channel.unary(request, &message).await;
                assert_eq!(reply.message, Some(message));
            }
        });
        futures_util::future::join_all(calls).await;
        assert_eq!(server.connections(), 1);
    });
}

#[test]
fn failures_of_the_server_have_their_code_and_words() {
    on_thread(async {
        let server = Server::plain();
        let channel = server.channel().await;
        let reply = channel.unary(&to("Fail"), &words("x")).await;
        assert_eq!(
            reply.status().to_string(),
            "rpc error: code = NotFound desc = no such thing"
        );
        assert_eq!(&reply.status().details[..], [8, 5, 18, 1, 97]);
        let (headers, trailers) = reply.metadata();
        assert!(values(headers).is_empty());
        assert_eq!(values(trailers)[0].0, "content-type");

        for (method, expected) in [
            ("FailLate", "code = Internal desc = half-way"),
            ("NoStatus", "code = Unknown desc = "),
            (
                "NoTrailers",
                "code = Internal desc = server closed the stream without sending trailers",
            ),
            ("Cut", "code = Internal desc = unexpected EOF"),
            (
                "None",
                "code = Internal desc = cardinality violation: received no response message from \
                 non-server-streaming RPC",
            ),
            (
                "Three",
                "code = Internal desc = cardinality violation: expected <EOF> for non \
                 server-streaming RPCs, but received another message",
            ),
            (
                "Reset",
                "code = Internal desc = stream terminated by RST_STREAM with error code: \
                 INTERNAL_ERROR",
            ),
            (
                "ResetLate",
                "code = ResourceExhausted desc = stream terminated by RST_STREAM with error code: \
                 ENHANCE_YOUR_CALM",
            ),
            (
                "Refuse",
                "code = Unavailable desc = stream terminated by RST_STREAM with error code: \
                 REFUSED_STREAM",
            ),
            (
                "Page",
                "code = Unavailable desc = unexpected HTTP status code received from server: 502 \
                 (Bad Gateway); transport: received unexpected content-type \"text/html\"",
            ),
        ] {
            assert_eq!(
                status(&channel, method).await,
                format!("rpc error: {expected}"),
                "{method}"
            );
        }
        // None of them has cost the connection.
        assert!(status(&channel, "Echo").await.contains("code = OK"));
        assert_eq!(server.connections(), 1);
    });
}

#[test]
fn a_call_that_was_refused_untouched_is_made_again() {
    on_thread(async {
        let server = Server::plain();
        let channel = server.channel().await;
        let reply = channel.unary(&to("RefuseOnce"), &words("x")).await;
        assert_eq!(reply.message.as_deref(), Some(&b"second"[..]));
    });
}

#[test]
fn sizes_have_their_limits() {
    on_thread(async {
        let server = Server::plain();
        let channel = server.channel().await;
        assert_eq!(
            status(&channel, "Large").await,
            "rpc error: code = ResourceExhausted desc = grpc: received message larger than max \
             (6291456 vs. 4194304)"
        );
        let channel = server
            .channel_with(|options| (options.max_receive, options.max_send) = (8 << 20, 10))
            .await;
        let reply = channel.unary(&to("Large"), &words("x")).await;
        assert_eq!(reply.message.map(|message| message.len()), Some(6 << 20));
        let reply = channel.unary(&to("Echo"), &words("eleven char")).await;
        assert_eq!(
            reply.status().to_string(),
            "rpc error: code = ResourceExhausted desc = trying to send message larger than max (11 \
             vs. 10)"
        );
        let reply = channel.unary(&to("Packed"), &words("x")).await;
        assert_eq!(reply.message.as_deref(), Some(&[b'x'; 1000][..]));
    });
}

#[test]
fn time_runs_out_and_calls_can_be_given_up() {
    on_thread(async {
        let server = Server::plain();
        let channel = server.channel().await;
        let mut request = to("Never");
        request.timeout = Some(Duration::from_millis(30));
        let reply = channel.unary(&request, &words("x")).await;
        assert_eq!(
            reply.status().to_string(),
            "rpc error: code = DeadlineExceeded desc = context deadline exceeded"
        );
        let call = channel.begin(&to("Never")).await.expect("a call");
        call.send(&words("x"));
        call.cancel();
        let (_, outcome) = all(&call).await;
        assert_eq!(
            outcome.status.to_string(),
            "rpc error: code = Canceled desc = context canceled"
        );
        // Dropped in the middle.
        let call = channel.begin(&to("Never")).await.expect("a call");
        drop(call);
        let call = channel.begin(&to("Never")).await.expect("a call");
        let late = async {
            tokio::task::yield_now().await;
            channel.close();
        };
        let ((_, outcome), ()) = tokio::join!(all(&call), late);
        assert_eq!(
            outcome.status.to_string(),
            "rpc error: code = Canceled desc = grpc: the client connection is closing"
        );
        assert_eq!(
            status(&channel, "Echo").await,
            "rpc error: code = Canceled desc = grpc: the client connection is closing"
        );
        assert_eq!(server.connections(), 1);
    });
}

#[test]
fn a_server_that_goes_away_is_called_again_over_a_new_connection() {
    on_thread(async {
        let server = Server::plain();
        let channel = server.channel().await;
        assert_eq!(
            status(&channel, "GoAway").await,
            "rpc error: code = Unavailable desc = closing transport due to: connection error: desc = \
             \"error reading from server: EOF\", received prior goaway: code: ENHANCE_YOUR_CALM"
        );
        assert!(status(&channel, "Echo").await.contains("code = OK"));
        assert_eq!(server.connections(), 2);
        // What it has taken it still answers.
        assert!(status(&channel, "Leave").await.contains("code = OK"));
        assert!(status(&channel, "Echo").await.contains("code = OK"));
        assert_eq!(server.connections(), 3);
    });
}

/// What a server does with each connection that it takes.
fn raw_server(answer: impl Fn(std::net::TcpStream) + Send + 'static) -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
    let address = listener.local_addr().expect("an address");
    std::thread::spawn(move || {
        for stream in listener.incoming() {
            answer(stream.expect("a connection"));
        }
    });
    address
}

async fn connect_error(address: &str, options: ChannelOptions, timeout: Duration) -> String {
    match client().channel(address, options) {
        Ok(channel) => channel.connect(timeout).await.expect_err("an error"),
        Err(text) => text,
    }
}

#[test]
fn servers_that_cannot_be_reached_say_why() {
    on_thread(async {
        let short = Duration::from_millis(200);
        let closed = TcpListener::bind("127.0.0.1:0").expect("a port");
        let nobody = closed.local_addr().expect("an address");
        drop(closed);
        assert_eq!(
            connect_error(&nobody.to_string(), plaintext(), PATIENCE).await,
            format!(
                "connection error: desc = \"transport: error while dialing: dial tcp {nobody}: \
                 connect: connection refused\""
            )
        );
        let channel = client().channel(&nobody.to_string(), plaintext());
        let reply = channel.expect("a channel");
        assert_eq!(
            status(&reply, "Echo").await,
            format!(
                "rpc error: code = Unavailable desc = connection error: desc = \"transport: error \
                 while dialing: dial tcp {nobody}: connect: connection refused\""
            )
        );
        assert_eq!(
            connect_error("localhost", plaintext(), PATIENCE).await,
            "connection error: desc = \"transport: error while dialing: dial tcp: address localhost: \
             missing port in address\""
        );
        // One that takes connections and says nothing.
        let kept = Arc::new(std::sync::Mutex::new(Vec::new()));
        let held = kept.clone();
        let silent = raw_server(move |stream| held.lock().expect("a lock").push(stream));
        assert_eq!(
            connect_error(&silent.to_string(), plaintext(), short).await,
            "context deadline exceeded"
        );
        let web = raw_server(|mut stream| {
            let _ = stream.write_all(b"HTTP/1.1 400 Bad Request\r\nConnection: close\r\n\r\n");
            let _ = std::io::Read::read(&mut stream, &mut [0; 1000]);
        });
        assert_eq!(
            connect_error(&web.to_string(), plaintext(), short).await,
            "context deadline exceeded: connection error: desc = \"error reading server preface: \
             http2: frame too large\""
        );
        let text = connect_error(&web.to_string(), ChannelOptions::default(), PATIENCE).await;
        assert_eq!(
            text,
            "connection error: desc = \"transport: authentication handshake failed: tls: first \
             record does not look like a TLS handshake\""
        );
        let hasty = raw_server(drop);
        let text = connect_error(&hasty.to_string(), plaintext(), short).await;
        assert!(
            text.starts_with(
                "context deadline exceeded: connection error: desc = \"error reading "
            ),
            "{text}"
        );
    });
}

#[test]
fn garbage_in_the_middle_ends_the_call() {
    on_thread(async {
        // A greeting, then what is no frame of any stream.
        let server = raw_server(|mut stream| {
            let _ = stream.write_all(&[0, 0, 0, 4, 0, 0, 0, 0, 0]);
            let _ = std::io::Read::read(&mut stream, &mut [0; 4000]);
            let _ = std::io::Read::read(&mut stream, &mut [0; 4000]);
            let _ = stream.write_all(&[255; 100]);
            let _ = std::io::Read::read(&mut stream, &mut [0; 4000]);
        });
        let channel = client().channel(&server.to_string(), plaintext());
        let channel = channel.expect("a channel");
        channel.connect(PATIENCE).await.expect("a connection");
        let text = status(&channel, "Echo").await;
        assert!(
            text.starts_with("rpc error: code = Unavailable desc = error reading from server: "),
            "{text}"
        );
    });
}

#[test]
fn a_server_that_comes_back_is_found_by_a_later_attempt() {
    on_thread(async {
        let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
        let address = listener.local_addr().expect("an address");
        // The first connection is dropped, the next greets.
        std::thread::spawn(move || {
            drop(listener.accept().expect("a connection"));
            let (mut stream, _) = listener.accept().expect("a connection");
            let _ = stream.write_all(&[0, 0, 0, 4, 0, 0, 0, 0, 0]);
            let _ = std::io::Read::read(&mut stream, &mut [0; 1000]);
            std::thread::sleep(PATIENCE);
        });
        let channel = client().channel(&address.to_string(), plaintext());
        let channel = channel.expect("a channel");
        channel.connect(PATIENCE).await.expect("a connection");
    });
}

#[test]
fn tls_is_the_tests_unless_the_channel_has_its_own() {
    on_thread(async {
        let server = Server::secure(&["h2"]);
        let address = format!("localhost:{}", server.address.port());
        assert_eq!(
            connect_error(&address, ChannelOptions::default(), PATIENCE).await,
            "connection error: desc = \"transport: authentication handshake failed: tls: failed to \
             verify certificate: x509: certificate signed by unknown authority\""
        );
        let root = server.root.clone().expect("a certificate");
        let config = ClientConfig {
            extra_roots: vec![root.clone()],
            // Calls go around it.
            proxies: Proxies::from_env(|_| Some("http://192.0.2.1:1".to_owned())),
            ..ClientConfig::default()
        };
        let client = Client::new(Arc::new(config));
        let channel = client.channel(&address, ChannelOptions::default());
        let channel = channel.expect("a channel");
        channel.connect(PATIENCE).await.expect("a connection");
        let reply = channel.unary(&to("Head"), &words("x")).await;
        let text = reply.message.expect("a message");
        assert!(
            text.starts_with(format!("POST https://{address}/t.S/Head").as_bytes()),
            "{text:?}"
        );
        assert!(client.take_data().1 > 1000);

        // Its own roots, by its own name, at an address that the certificate is not for.
        let pem = rcgen_pem(&root);
        let mut options = ChannelOptions {
            authority: Some("localhost".to_owned()),
            ..ChannelOptions::default()
        };
        options.tls.trust(&[pem]).expect("a certificate");
        let channel = super::tests::client().channel(&server.address.to_string(), options);
        let channel = channel.expect("a channel");
        channel.connect(PATIENCE).await.expect("a connection");
        assert!(status(&channel, "Echo").await.contains("code = OK"));

        let mut tls = ChannelTls::default();
        assert_eq!(
            tls.trust(&["nothing".to_owned()]).unwrap_err(),
            "failed to append ca certificate [nothing] from PEM"
        );
        assert!(tls.show("nothing", "nothing", None).is_err());

        let web = Server::secure(&["http/1.1"]);
        let config = ClientConfig {
            insecure_skip_tls_verify: true,
            ..ClientConfig::default()
        };
        let address = web.address.to_string();
        let channel = Client::new(Arc::new(config)).channel(&address, ChannelOptions::default());
        let text = channel.expect("a channel").connect(PATIENCE).await;
        let text = text.expect_err("an error");
        assert!(
            text.starts_with(
                "connection error: desc = \"transport: authentication handshake failed: "
            ),
            "{text}"
        );
    });
}

#[test]
fn a_listed_certificate_may_be_an_authoritys_and_has_to_fit() {
    on_thread(async {
        let authority = |params: &mut rcgen::CertificateParams| {
            params.is_ca = rcgen::IsCa::Ca(rcgen::BasicConstraints::Unconstrained);
        };
        let server = Server::certified(&["h2"], authority);
        let old = Server::certified(&["h2"], |params| {
            authority(params);
            params.not_after = rcgen::date_time_ymd(2001, 1, 1);
        });
        let connect = async |server: &Server, host: &str, listed: &Server| {
            let mut options = ChannelOptions::default();
            let pem = rcgen_pem(listed.root.as_ref().expect("a certificate"));
            options.tls.trust(&[pem]).expect("a certificate");
            let address = format!("{host}:{}", server.address.port());
            let channel = client().channel(&address, options).expect("a channel");
            channel.connect(PATIENCE).await.err().unwrap_or_default()
        };
        assert_eq!(connect(&server, "localhost", &server).await, "");
        for (text, told) in [
            (connect(&server, "127.0.0.1", &server).await, "127.0.0.1"),
            (connect(&old, "localhost", &old).await, "expired"),
            (
                connect(&server, "localhost", &old).await,
                "unknown authority",
            ),
        ] {
            assert!(text.contains(told), "{text:?}, without {told}");
        }
    });
}

/// A certificate in PEM.
fn rcgen_pem(der: &[u8]) -> String {
    use base64::{Engine, engine::general_purpose::STANDARD};
    format!(
        "-----BEGIN CERTIFICATE-----\n{}\n-----END CERTIFICATE-----\n",
        STANDARD.encode(der)
    )
}
