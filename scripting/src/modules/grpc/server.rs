//! A server of gRPC for tests, with the services that [`FILES`] describe, health and reflection. The
//! tests of the whole program use it too.

use std::{
    collections::BTreeMap,
    future::poll_fn,
    net::{SocketAddr, TcpListener},
    sync::{
        Arc, Mutex,
        atomic::{AtomicUsize, Ordering},
    },
};

use bytes::Bytes;
use h2::{RecvStream, SendStream, server::SendResponse};
use http::{HeaderMap, HeaderValue, Request, Response};
use prost::Message;
use tokio::io::{AsyncRead, AsyncWrite};

/// The descriptions, by the paths of their files; `service.proto` imports the other.
pub(crate) const FILES: [(&str, &str); 2] = [
    (
        "protos/service.proto",
        r#"syntax = "proto3";
package t.v1;
import "google/protobuf/any.proto";
import "google/protobuf/duration.proto";
import "google/protobuf/empty.proto";
import "google/protobuf/field_mask.proto";
import "google/protobuf/struct.proto";
import "google/protobuf/timestamp.proto";
import "google/protobuf/wrappers.proto";
import "lib/number.proto";
message All {
  bool flag = 1; int32 small = 2; int64 large = 3; uint32 usmall = 4; uint64 ularge = 5;
  float single = 6; double double = 7; string text_here = 8; bytes data = 9; Kind kind = 10;
  Number inner = 11; repeated int64 list = 12; map<string, Number> table = 13;
  oneof choice { string left = 14; int32 right = 15; }
  optional int32 perhaps = 16; repeated Kind kinds = 17; map<bool, double> doubles = 18;
  sint64 zigzag = 19; fixed64 fixed = 20;
}
message Special {
  google.protobuf.Timestamp time = 1; google.protobuf.Duration duration = 2;
  google.protobuf.Struct struct = 3; google.protobuf.Value value = 4;
  google.protobuf.Any any = 5; google.protobuf.StringValue wrapped = 6;
  google.protobuf.FieldMask mask = 7; google.protobuf.Empty empty = 8;
  google.protobuf.NullValue nothing = 9; google.protobuf.Int64Value large = 10;
}
enum Kind { NONE = 0; FIRST = 1; SECOND = 2; }
message Wish { int32 code = 1; string message = 2; bool details = 3; }
service Test {
  rpc Echo(All) returns (All);
  rpc EchoSpecial(Special) returns (Special);
  rpc Head(Number) returns (Wish);
  rpc Fail(Wish) returns (Number);
  rpc Wait(Number) returns (Number);
  rpc Count(Number) returns (stream Number);
  rpc Sum(stream Number) returns (Number);
  rpc Chat(stream Number) returns (stream Number);
  rpc FailLate(Number) returns (stream Number);
}
"#,
    ),
    (
        "protos/lib/number.proto",
        r#"syntax = "proto3";
package t.v1;
message Number { int64 n = 1; }
"#,
    ),
];

/// `t.v1.Number`.
#[derive(Clone, PartialEq, Message)]
struct Number {
    #[prost(int64, tag = "1")]
    n: i64,
}

/// `t.v1.Wish`.
#[derive(Clone, PartialEq, Message)]
struct Wish {
    #[prost(int32, tag = "1")]
    code: i32,
    #[prost(string, tag = "2")]
    message: String,
    #[prost(bool, tag = "3")]
    details: bool,
}

/// `grpc.health.v1.HealthCheckRequest`.
#[derive(Clone, PartialEq, Message)]
struct Health {
    #[prost(string, tag = "1")]
    service: String,
}

/// A question of reflection: by file, by symbol, or about all services.
#[derive(Clone, PartialEq, Message)]
struct Question {
    #[prost(string, optional, tag = "3")]
    file: Option<String>,
    #[prost(string, optional, tag = "4")]
    symbol: Option<String>,
    #[prost(string, optional, tag = "7")]
    list: Option<String>,
}

#[derive(Clone, PartialEq, Message)]
struct Told {
    #[prost(message, optional, tag = "4")]
    files: Option<Files>,
    #[prost(message, optional, tag = "6")]
    services: Option<Services>,
    #[prost(message, optional, tag = "7")]
    error: Option<Fault>,
}

#[derive(Clone, PartialEq, Message)]
struct Files {
    #[prost(bytes = "vec", repeated, tag = "1")]
    all: Vec<Vec<u8>>,
}

#[derive(Clone, PartialEq, Message)]
struct Services {
    #[prost(message, repeated, tag = "1")]
    all: Vec<Health>,
}

#[derive(Clone, PartialEq, Message)]
struct Fault {
    #[prost(int32, tag = "1")]
    code: i32,
    #[prost(string, tag = "2")]
    message: String,
}

/// What a server tells about itself.
#[derive(Debug, Clone, Default)]
pub(crate) struct Reflected {
    /// `v1`, or `v1alpha`.
    pub(crate) version: &'static str,
    pub(crate) services: Vec<String>,
    /// Each file in its binary form, by its name.
    pub(crate) files: BTreeMap<String, Vec<u8>>,
    /// The file that has the services.
    pub(crate) main: String,
}

/// What it has seen.
#[derive(Debug, Default)]
pub(crate) struct Seen {
    pub(crate) connections: AtomicUsize,
    /// How many are open, and the most that were at a time.
    pub(crate) open: AtomicUsize,
    pub(crate) most_open: AtomicUsize,
    /// Paths of calls, in their order.
    pub(crate) calls: Mutex<Vec<String>>,
    /// How many calls were given up by the client.
    pub(crate) given_up: AtomicUsize,
}

/// A server; it ends with the process.
pub(crate) struct Server {
    pub(crate) address: SocketAddr,
    pub(crate) seen: Arc<Seen>,
}

impl Server {
    pub(crate) fn start() -> Self {
        Self::with(None, Reflected::default())
    }

    pub(crate) fn with(tls: Option<rustls::ServerConfig>, reflected: Reflected) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
        let address = listener.local_addr().expect("an address");
        listener.set_nonblocking(true).expect("a socket");
        let seen = Arc::new(Seen::default());
        let shared = (seen.clone(), Arc::new(reflected));
        std::thread::spawn(move || {
            let runtime = tokio::runtime::Builder::new_current_thread()
                .enable_all()
                .build()
                .expect("a runtime");
            let all = tokio::task::LocalSet::new();
            all.block_on(&runtime, listen(listener, tls, shared));
        });
        Self { address, seen }
    }

    pub(crate) fn calls(&self) -> Vec<String> {
        std::mem::take(&mut *self.seen.calls.lock().expect("a lock"))
    }
}

type Shared = (Arc<Seen>, Arc<Reflected>);

async fn listen(listener: TcpListener, tls: Option<rustls::ServerConfig>, shared: Shared) {
    let listener = tokio::net::TcpListener::from_std(listener).expect("a socket");
    let acceptor = tls.map(|tls| tokio_rustls::TlsAcceptor::from(Arc::new(tls)));
    loop {
        let (stream, _) = listener.accept().await.expect("a connection");
        shared.0.connections.fetch_add(1, Ordering::SeqCst);
        let (acceptor, shared) = (acceptor.clone(), shared.clone());
        tokio::task::spawn_local(async move {
            let seen = shared.0.clone();
            let open = seen.open.fetch_add(1, Ordering::SeqCst) + 1;
            seen.most_open.fetch_max(open, Ordering::SeqCst);
            match acceptor {
                None => serve(stream, shared).await,
                Some(acceptor) => {
                    if let Ok(stream) = acceptor.accept(stream).await {
                        serve(stream, shared).await;
                    }
                }
            }
            seen.open.fetch_sub(1, Ordering::SeqCst);
        });
    }
}

async fn serve(stream: impl AsyncRead + AsyncWrite + Unpin + 'static, shared: Shared) {
    let Ok(mut connection) = h2::server::handshake(stream).await else {
        return;
    };
    while let Some(Ok((request, respond))) = connection.accept().await {
        let shared = shared.clone();
        tokio::task::spawn_local(async move {
            // The peer may be gone already.
            let _ = Exchange::answer(request, respond, shared).await;
        });
    }
}

/// A call, as the server has it.
struct Exchange {
    head: http::request::Parts,
    body: RecvStream,
    received: Vec<u8>,
    respond: SendResponse<Bytes>,
    stream: Option<SendStream<Bytes>>,
    shared: Shared,
}

impl Exchange {
    async fn answer(
        request: Request<RecvStream>,
        respond: SendResponse<Bytes>,
        shared: Shared,
    ) -> Result<(), h2::Error> {
        let (head, body) = request.into_parts();
        let path = head.uri.path().to_owned();
        shared.0.calls.lock().expect("a lock").push(path.clone());
        let mut this = Self {
            head,
            body,
            received: Vec::new(),
            respond,
            stream: None,
            shared,
        };
        let reflection = format!(
            "/grpc.reflection.{}.ServerReflection/ServerReflectionInfo",
            this.shared.1.version
        );
        match path.as_str() {
            "/t.v1.Test/Echo" | "/t.v1.Test/EchoSpecial" => {
                let message = this.message().await?.unwrap_or_default();
                this.send(&message).await?;
                this.end(0, "")
            }
            "/t.v1.Test/Head" => {
                let mut lines: Vec<String> = Vec::new();
                for (name, value) in &this.head.headers {
                    lines.push(format!("{name}: {}", value.to_str().expect("text")));
                }
                lines.sort();
                lines.insert(0, this.head.uri.to_string());
                let message = lines.join("\n");
                this.message().await?;
                this.send_message(&Wish {
                    message,
                    ..Wish::default()
                })
                .await?;
                this.end(0, "")
            }
            "/t.v1.Test/Fail" => {
                let wish = this.message().await?.unwrap_or_default();
                let wish = Wish::decode(&wish[..]).expect("a wish");
                this.fail(&wish)
            }
            "/t.v1.Test/Wait" => {
                this.message().await?;
                let _ = poll_fn(|task| this.respond.poll_reset(task)).await;
                this.shared.0.given_up.fetch_add(1, Ordering::SeqCst);
                Ok(())
            }
            "/t.v1.Test/Count" | "/t.v1.Test/FailLate" => {
                let last = this.number().await?.unwrap_or_default();
                for n in 1..=last {
                    this.send_message(&Number { n }).await?;
                }
                match path.ends_with("Late") {
                    true => this.end(10, "enough"),
                    false => this.end(0, ""),
                }
            }
            "/t.v1.Test/Sum" => {
                let mut n = 0;
                while let Some(more) = this.number().await? {
                    n += more;
                }
                this.send_message(&Number { n }).await?;
                this.end(0, "")
            }
            "/t.v1.Test/Chat" => {
                this.begin()?;
                while let Some(n) = this.number().await? {
                    this.send_message(&Number { n: 2 * n }).await?;
                }
                this.end(0, "")
            }
            "/grpc.health.v1.Health/Check" => {
                let asked = this.message().await?.unwrap_or_default();
                let asked = Health::decode(&asked[..]).expect("a question");
                let status = match asked.service.as_str() {
                    "" => 1,
                    "down" => 2,
                    _ => return this.end(5, "unknown service"),
                };
                this.send(&[8, status]).await?;
                this.end(0, "")
            }
            path if path == reflection => this.reflect().await,
            _ => {
                this.message().await?;
                this.end(12, "unknown method")
            }
        }
    }

    async fn reflect(mut self) -> Result<(), h2::Error> {
        while let Some(question) = self.message().await? {
            let question = Question::decode(&question[..]).expect("a question");
            let known = &self.shared.1;
            let mut told = Told::default();
            if question.list.is_some() {
                let services = known.services.iter();
                let services = services.map(|service| Health {
                    service: service.clone(),
                });
                told.services = Some(Services {
                    all: services.collect(),
                });
            } else {
                let name = question.file.unwrap_or_else(|| known.main.clone());
                match known.files.get(&name) {
                    Some(file) => {
                        told.files = Some(Files {
                            all: vec![file.clone()],
                        });
                    }
                    None => {
                        told.error = Some(Fault {
                            code: 5,
                            message: format!("no file {name}"),
                        });
                    }
                }
            }
            self.send_message(&told).await?;
        }
        self.end(0, "")
    }

    /// The next message; `None` after the last.
    async fn message(&mut self) -> Result<Option<Vec<u8>>, h2::Error> {
        loop {
            if let Some((&[_, a, b, c, d], rest)) = self.received.split_first_chunk::<5>() {
                let length = u32::from_be_bytes([a, b, c, d]) as usize;
                if rest.len() >= length {
                    let message = rest[..length].to_vec();
                    self.received.drain(..5 + length);
                    return Ok(Some(message));
                }
            }
            match self.body.data().await {
                Some(data) => {
                    let data = data?;
                    self.body.flow_control().release_capacity(data.len())?;
                    self.received.extend_from_slice(&data);
                }
                None => return Ok(None),
            }
        }
    }

    async fn number(&mut self) -> Result<Option<i64>, h2::Error> {
        let message = self.message().await?;
        Ok(message.map(|message| Number::decode(&message[..]).expect("a number").n))
    }

    /// Sends the head of the answer, unless it has gone.
    fn begin(&mut self) -> Result<&mut SendStream<Bytes>, h2::Error> {
        let stream = match self.stream.take() {
            Some(stream) => stream,
            None => {
                let mut head = head();
                let headers = head.headers_mut();
                headers.insert("x-head", HeaderValue::from_static("h"));
                if let Some(key) = self.head.headers.get("x-key") {
                    headers.append("x-head", key.clone());
                }
                self.respond.send_response(head, false)?
            }
        };
        Ok(self.stream.insert(stream))
    }

    async fn send_message(&mut self, message: &impl Message) -> Result<(), h2::Error> {
        self.send(&message.encode_to_vec()).await
    }

    async fn send(&mut self, message: &[u8]) -> Result<(), h2::Error> {
        let mut wire = vec![0];
        wire.extend((message.len() as u32).to_be_bytes());
        wire.extend(message);
        let mut wire = Bytes::from(wire);
        let stream = self.begin()?;
        while !wire.is_empty() {
            stream.reserve_capacity(wire.len());
            let room = poll_fn(|task| stream.poll_capacity(task)).await;
            let Some(room) = room else { break };
            stream.send_data(wire.split_to(room?.min(wire.len())), false)?;
        }
        Ok(())
    }

    fn end(&mut self, code: i32, message: &str) -> Result<(), h2::Error> {
        let mut trailers = HeaderMap::new();
        trailers.insert("grpc-status", HeaderValue::from(code));
        trailers.insert("grpc-message", message.parse().expect("a message"));
        trailers.insert("x-trail", HeaderValue::from_static("t"));
        self.begin()?.send_trailers(trailers)
    }

    /// Fails without a message, and with the reason if that is wished.
    fn fail(&mut self, wish: &Wish) -> Result<(), h2::Error> {
        let mut response = head();
        let headers = response.headers_mut();
        headers.insert("grpc-status", HeaderValue::from(wish.code));
        let message = wish.message.replace(' ', "%20");
        headers.insert("grpc-message", message.parse().expect("a message"));
        if wish.details {
            let any = |name: &str, value: &[u8]| Any {
                type_url: format!("type.googleapis.com/{name}"),
                value: value.to_vec(),
            };
            let status = Status {
                code: wish.code,
                message: wish.message.clone(),
                details: vec![
                    // { fieldViolations: [{ field: "f", description: "d" }] }
                    any("google.rpc.BadRequest", &[10, 6, 10, 1, 102, 18, 1, 100]),
                    any("t.v1.Number", &[8, 7]),
                    any("t.v1.Unknown", &[1, 2, 3]),
                ],
            };
            let text = base64(&status.encode_to_vec());
            headers.insert("grpc-status-details-bin", text.parse().expect("a header"));
        }
        self.respond.send_response(response, true).map(drop)
    }
}

/// `google.rpc.Status`.
#[derive(Clone, PartialEq, Message)]
struct Status {
    #[prost(int32, tag = "1")]
    code: i32,
    #[prost(string, tag = "2")]
    message: String,
    #[prost(message, repeated, tag = "3")]
    details: Vec<Any>,
}

#[derive(Clone, PartialEq, Message)]
struct Any {
    #[prost(string, tag = "1")]
    type_url: String,
    #[prost(bytes = "vec", tag = "2")]
    value: Vec<u8>,
}

fn head() -> Response<()> {
    let mut response = Response::new(());
    let kind = HeaderValue::from_static("application/grpc");
    response.headers_mut().insert("content-type", kind);
    response
}

/// Base64 without padding.
fn base64(bytes: &[u8]) -> String {
    const DIGITS: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    let mut text = String::new();
    for chunk in bytes.chunks(3) {
        let mut bits = 0;
        for at in 0..3 {
            bits = bits << 8 | u32::from(*chunk.get(at).unwrap_or(&0));
        }
        for digit in 0..=chunk.len() {
            let index = bits >> (18 - 6 * digit) & 63;
            text.push(DIGITS[index as usize].into());
        }
    }
    text
}
