//! An HTTP server on loopback: what the demo aims at, and the tests too.
//!
//! | path | answer |
//! |---|---|
//! | `/` | 200, `{"message":"hello","path":"/"}` |
//! | `/delay/MS` | the same, after that many milliseconds |
//! | `/status/N` | status N, an empty body |
//! | `/bytes/N` | N bytes of `x` |
//! | `/latin1` | text that is not UTF-8: `caf\xe9` |
//! | `/cut` | announces 1000 bytes, sends 10 and closes the connection |
//! | `/echo` | the body of the request |
//! | `/count` | how many requests came before this one |
//!
//! It runs on a thread of its own until the process ends or it is dropped.

use std::{
    convert::Infallible,
    net::{SocketAddr, TcpListener},
    pin::Pin,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use bytes::Bytes;
use futures_util::{StreamExt, stream};
use http::{
    HeaderValue, StatusCode,
    header::{CONTENT_LENGTH, CONTENT_TYPE},
};
use http_body_util::{BodyExt, Either, Full, StreamBody};
use hyper::{
    Request, Response,
    body::{Frame, Incoming},
    service::service_fn,
};
use hyper_util::rt::TokioIo;
use tokio::sync::oneshot;

/// A running server.
pub(crate) struct Target {
    address: SocketAddr,
    requests: Arc<AtomicU64>,
    stop: Option<oneshot::Sender<()>>,
}

impl Target {
    /// Starts a server on a free port of 127.0.0.1.
    ///
    /// # Errors
    /// When there is no port or no thread to be had.
    pub(crate) fn start() -> std::io::Result<Self> {
        let listener = TcpListener::bind("127.0.0.1:0")?;
        listener.set_nonblocking(true)?;
        let address = listener.local_addr()?;
        let requests = Arc::new(AtomicU64::new(0));
        let (stop, stopped) = oneshot::channel();
        let counter = requests.clone();
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build()?;
        std::thread::Builder::new()
            .name("volley-target".to_owned())
            .spawn(move || {
                runtime.block_on(async move {
                    tokio::select! {
                        () = accept(listener, counter) => {}
                        _ = stopped => {}
                    }
                });
            })?;
        Ok(Self {
            address,
            requests,
            stop: Some(stop),
        })
    }

    /// `http://127.0.0.1:PORT`
    pub(crate) fn url(&self) -> String {
        format!("http://{}", self.address)
    }

    /// How many requests it has answered.
    pub(crate) fn requests(&self) -> u64 {
        self.requests.load(Ordering::Relaxed)
    }
}

impl Drop for Target {
    fn drop(&mut self) {
        if let Some(stop) = self.stop.take() {
            let _ = stop.send(());
        }
    }
}

async fn accept(listener: TcpListener, requests: Arc<AtomicU64>) {
    let Ok(listener) = tokio::net::TcpListener::from_std(listener) else {
        return;
    };
    loop {
        let Ok((stream, _)) = listener.accept().await else {
            // Out of descriptors, most likely: connections in progress will free some.
            tokio::time::sleep(Duration::from_millis(10)).await;
            continue;
        };
        let requests = requests.clone();
        tokio::spawn(async move {
            let _ = stream.set_nodelay(true);
            let service = service_fn(move |request| answer(request, requests.clone()));
            let _ = hyper::server::conn::http1::Builder::new()
                .serve_connection(TokioIo::new(stream), service)
                .await;
        });
    }
}

/// A body that is sent as a whole, or the beginning of one.
type Body = Either<Full<Bytes>, Pin<Box<dyn hyper::body::Body<Data = Bytes, Error = Cut> + Send>>>;

/// Ends a connection in the middle of a body.
#[derive(Debug, thiserror::Error)]
#[error("cut off")]
struct Cut;

/// Ten bytes, which are sent, and then the end of the connection.
fn cut() -> Body {
    let parts = stream::once(async { Ok(Frame::data(Bytes::from_static(b"0123456789"))) });
    let end = stream::once(async {
        tokio::task::yield_now().await;
        Err(Cut)
    });
    Either::Right(Box::pin(StreamBody::new(parts.chain(end))))
}

async fn answer(
    request: Request<Incoming>,
    requests: Arc<AtomicU64>,
) -> Result<Response<Body>, Infallible> {
    let before = requests.fetch_add(1, Ordering::Relaxed);
    let path = request.uri().path().to_owned();
    let mut parts = path.split('/').skip(1);
    let name = parts.next().unwrap_or_default();
    let number: u64 = parts.next().and_then(|n| n.parse().ok()).unwrap_or(0);
    let hello = || Bytes::from(format!("{{\"message\":\"hello\",\"path\":\"{path}\"}}"));
    let (mut status, mut kind) = (StatusCode::OK, "application/json");
    let whole = |bytes: Bytes| Body::Left(Full::new(bytes));
    let body = match name {
        "delay" => {
            tokio::time::sleep(Duration::from_millis(number)).await;
            whole(hello())
        }
        "status" => {
            status = StatusCode::from_u16(number as u16).unwrap_or_default();
            whole(Bytes::new())
        }
        "bytes" => whole(Bytes::from(vec![b'x'; number as usize])),
        "latin1" => {
            kind = "text/plain";
            whole(Bytes::from_static(b"caf\xe9"))
        }
        "cut" => cut(),
        "echo" => match request.into_body().collect().await {
            Ok(body) => whole(body.to_bytes()),
            Err(_) => whole(Bytes::new()),
        },
        "count" => whole(Bytes::from(before.to_string())),
        _ => whole(hello()),
    };
    let mut reply = Response::new(body);
    *reply.status_mut() = status;
    let headers = reply.headers_mut();
    headers.insert(CONTENT_TYPE, HeaderValue::from_static(kind));
    if name == "cut" {
        headers.insert(CONTENT_LENGTH, HeaderValue::from_static("1000"));
    }
    Ok(reply)
}
