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
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use bytes::Bytes;
use http_body_util::{BodyExt, Full};
use hyper::{Request, Response, body::Incoming, service::service_fn};
use hyper_util::rt::TokioIo;
use tokio::{io::AsyncWriteExt, sync::oneshot};

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
            let mut first = [0; 9];
            // The one answer that breaks the protocol is written by hand.
            if matches!(stream.peek(&mut first).await, Ok(n) if first[..n] == *b"GET /cut ") {
                requests.fetch_add(1, Ordering::Relaxed);
                let mut stream = stream;
                let head = b"HTTP/1.1 200 OK\r\nContent-Length: 1000\r\n\r\n0123456789";
                let _ = stream.write_all(head).await;
                return;
            }
            let service = service_fn(move |request| answer(request, requests.clone()));
            let _ = hyper::server::conn::http1::Builder::new()
                .serve_connection(TokioIo::new(stream), service)
                .await;
        });
    }
}

async fn answer(
    request: Request<Incoming>,
    requests: Arc<AtomicU64>,
) -> Result<Response<Full<Bytes>>, Infallible> {
    let before = requests.fetch_add(1, Ordering::Relaxed);
    let path = request.uri().path().to_owned();
    let mut parts = path.split('/').skip(1);
    let name = parts.next().unwrap_or_default();
    let number: u64 = parts.next().and_then(|n| n.parse().ok()).unwrap_or(0);
    let hello = || Bytes::from(format!("{{\"message\":\"hello\",\"path\":\"{path}\"}}"));
    let mut reply = Response::builder().header("Content-Type", "application/json");
    let body = match name {
        "delay" => {
            tokio::time::sleep(Duration::from_millis(number)).await;
            hello()
        }
        "status" => {
            reply = reply.status(number as u16);
            Bytes::new()
        }
        "bytes" => Bytes::from(vec![b'x'; number as usize]),
        "latin1" => {
            reply = reply.header("Content-Type", "text/plain");
            Bytes::from_static(b"caf\xe9")
        }
        "echo" => match request.into_body().collect().await {
            Ok(body) => body.to_bytes(),
            Err(_) => Bytes::new(),
        },
        "count" => Bytes::from(before.to_string()),
        _ => hello(),
    };
    Ok(reply.body(Full::new(body)).unwrap_or_default())
}
