//! A small HTTP server with a thread and a runtime of its own.

use std::{
    future::IntoFuture as _,
    io,
    net::{SocketAddr, TcpListener},
    thread::{self, JoinHandle},
    time::Duration,
};

use axum::{Router, serve::ListenerExt as _};
use tokio::sync::oneshot;

/// How long requests that have begun may take after a shutdown.
const GRACE: Duration = Duration::from_secs(1);

/// Threads for what takes long; requests beyond them wait their turn.
const HELPERS: usize = 4;

/// A running server. Dropping it stops it without waiting.
#[derive(Debug)]
pub(crate) struct Server {
    address: SocketAddr,
    stop: Option<oneshot::Sender<()>>,
    thread: Option<JoinHandle<()>>,
}

impl Server {
    /// Serves `router` on a listener that is bound already, on a thread of that name.
    pub(super) fn start(name: &str, listener: TcpListener, router: Router) -> io::Result<Self> {
        let address = listener.local_addr()?;
        listener.set_nonblocking(true)?;
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .max_blocking_threads(HELPERS)
            .build()?;
        let listener = {
            let _inside = runtime.enter();
            tokio::net::TcpListener::from_std(listener)?
        };
        let (stop, stopped) = oneshot::channel();
        let thread = thread::Builder::new()
            .name(name.to_owned())
            .spawn(move || {
                runtime.block_on(run(listener, router, stopped));
                // What is still computed for a request that was given up is nobody's concern.
                runtime.shutdown_background();
            })?;
        Ok(Self {
            address,
            stop: Some(stop),
            thread: Some(thread),
        })
    }

    /// Where it listens; tells the port where the address said 0.
    pub(crate) fn address(&self) -> SocketAddr {
        self.address
    }

    /// Takes no more connections, lets requests that have begun finish (for a second at most), and waits for that.
    pub(crate) fn shutdown(mut self) {
        drop(self.stop.take());
        if let Some(thread) = self.thread.take() {
            // The thread only ends early by a panic, which has been reported where it happened.
            let _ = thread.join();
        }
    }
}

async fn run(listener: tokio::net::TcpListener, router: Router, stopped: oneshot::Receiver<()>) {
    // Sent, or the sender is gone: both mean stop.
    let (begin_grace, grace_begun) = oneshot::channel();
    let signal = async move {
        let _ = stopped.await;
        let _ = begin_grace.send(());
    };
    // Answers are small and somebody waits for them.
    let listener = listener.tap_io(|stream| {
        let _ = stream.set_nodelay(true);
    });
    let serving = axum::serve(listener, router).with_graceful_shutdown(signal);
    tokio::select! {
        _ = serving.into_future() => {}
        () = async {
            let _ = grace_begun.await;
            tokio::time::sleep(GRACE).await;
        } => {}
    }
}
