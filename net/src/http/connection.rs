//! One connection of HTTP/1, driven by the future of the request that uses it.
//!
//! No task stands behind it, so an idle one costs memory only, and only the socket wakes a VU.
//! It has no buffers of its own either: what is read lands in one buffer of the thread, from where
//! [`Reply`] takes a copy of its size. The client is our own because a general one (hyper: 26 KB
//! a connection, half of what an idle VU takes) keeps buffers and a queue for a task that is not there.

use std::{
    cell::RefCell,
    future::poll_fn,
    io::{self, IoSlice, Write as _},
    net::{IpAddr, SocketAddr},
    pin::Pin,
    rc::Rc,
    task::{Context, Poll, ready},
};

use bytes::Bytes;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

use super::{
    exchange::TlsInfo,
    head::Outgoing,
    http2::{self, Http2},
    reply::Reply,
    trip::Trip,
    wire::{Marks, Meter, Wire},
};
use crate::{
    config::ClientConfig,
    dial,
    error::{Error, ErrorKind, message},
    tls,
    url::{Target, Url},
};

/// So much is read at once.
const READ_MAX: usize = 64 << 10;

thread_local! {
    /// Where bytes land first. Used within one call of [`read`], never across a wait.
    static LANDING: RefCell<Vec<u8>> = RefCell::new(vec![0; READ_MAX]);
}

/// An open connection.
pub(super) struct Connection {
    wire: Wire,
    /// Whether the exchange that had it last was over in good order on both sides.
    clean: bool,
    pub(super) marks: Rc<Marks>,
    /// Where to; its origin is what the pool compares.
    pub(super) url: Url,
    pub(super) remote: Option<SocketAddr>,
    pub(super) tls: Option<TlsInfo>,
    pub(super) reused: bool,
    /// Whether a proxy is at the other end that wants to be told the whole URL.
    absolute: bool,
}

impl std::fmt::Debug for Connection {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Connection")
            .field("url", &self.url)
            .finish_non_exhaustive()
    }
}

/// What a dial has led to.
#[derive(Debug)]
pub(super) enum Opened {
    Http1(Connection),
    Http2(Rc<Http2>),
}

/// Dials, and begins the protocol that was agreed on.
pub(super) async fn open(
    config: &ClientConfig,
    url: &Url,
    local: Option<IpAddr>,
    meter: &Rc<Meter>,
    trip: &mut Trip,
) -> Result<Opened, Error> {
    let marks = Marks::new(meter.clone());
    let wire = dial::dial(config, url, local, &marks, &mut trip.dial).await?;
    if trip.dial.http2 {
        return http2::open(wire, url, marks, trip).await.map(Opened::Http2);
    }
    Ok(Opened::Http1(Connection {
        wire,
        clean: true,
        marks,
        url: url.clone(),
        remote: trip.dial.remote,
        tls: trip.dial.tls,
        absolute: trip.dial.absolute,
        reused: false,
    }))
}

impl Connection {
    /// Whether it can take a request now. Notices a peer that has closed it meanwhile.
    pub(super) fn usable(&mut self, task: &mut Context<'_>) -> bool {
        self.marks.begin();
        // Whatever comes unasked, an end or bytes, makes what follows doubtful.
        self.clean && read(&mut self.wire, task, |_| ()).is_pending()
    }

    /// Sends a request and reads the response into the trip, to its end.
    ///
    /// # Errors
    ///
    /// The trip tells how far it came: no head, or a head and a part of the body.
    pub(super) async fn exchange(
        &mut self,
        request: &http::Request<()>,
        outgoing: &Outgoing<'_>,
        trip: &mut Trip,
    ) -> Result<(), Error> {
        self.marks.begin();
        self.clean = false;
        let mut upload = Upload {
            head: self.head(request, outgoing),
            body: outgoing.body.cloned().unwrap_or_default(),
            gone: 0,
            state: Progress::Writing,
        };
        let mut reply = Reply::to(request.method());
        let Self { wire, marks, .. } = self;
        let outcome = poll_fn(|task| {
            upload.poll(wire, task);
            while !reply.is_done() {
                let fed = read(wire, task, |bytes| match bytes {
                    [] => reply.end(marks.first_byte().is_some()),
                    bytes => reply.feed(bytes, trip),
                });
                match fed {
                    Poll::Ready(Ok(Ok(()))) => {}
                    // The peer was gone before it had everything: that is why nothing came.
                    Poll::Ready(Ok(Err(kind))) => match upload.failure(kind) {
                        Ok(error) => return Poll::Ready(Err(failure(marks, &error))),
                        Err(kind) => return Poll::Ready(Err(self::kind(marks, kind))),
                    },
                    Poll::Ready(Err(error)) => return Poll::Ready(Err(failure(marks, &error))),
                    Poll::Pending => match upload.fatal() {
                        Some(error) => return Poll::Ready(Err(failure(marks, error))),
                        None => return Poll::Pending,
                    },
                }
            }
            Poll::Ready(Ok(()))
        })
        .await;
        trip.body_received();
        self.clean = outcome.is_ok() && reply.keeps_connection() && upload.is_done();
        outcome
    }

    /// Whether the pool may keep it.
    pub(super) fn reusable(&self) -> bool {
        self.clean
    }

    /// The head of the request as it goes out.
    fn head(&self, request: &http::Request<()>, outgoing: &Outgoing<'_>) -> Vec<u8> {
        let mut out = Vec::with_capacity(512);
        out.extend_from_slice(outgoing.method.as_bytes());
        out.push(b' ');
        if self.absolute {
            out.extend_from_slice(outgoing.url.absolute_target().as_bytes());
        } else {
            match outgoing.url.wire_target() {
                Target::Plain(uri) => {
                    let path = uri.path_and_query().map_or("/", |path| path.as_str());
                    out.extend_from_slice(path.as_bytes());
                }
                Target::Raw(bytes) => out.extend_from_slice(bytes),
            }
        }
        out.extend_from_slice(b" HTTP/1.1\r\n");
        for (name, value) in request.headers() {
            push_name(&mut out, name.as_str());
            out.extend_from_slice(b": ");
            out.extend_from_slice(value.as_bytes());
            out.extend_from_slice(b"\r\n");
        }
        if let Some(body) = outgoing.body.filter(|body| !body.is_empty()) {
            // Writing to a vector cannot fail.
            let _ = write!(out, "Content-Length: {}\r\n", body.len());
        }
        out.extend_from_slice(b"\r\n");
        out
    }
}

/// A capital at the start of a name and after each hyphen.
fn push_name(out: &mut Vec<u8>, name: &str) {
    let mut capital = true;
    for byte in name.bytes() {
        out.push(if capital {
            byte.to_ascii_uppercase()
        } else {
            byte
        });
        capital = byte == b'-';
    }
}

/// Shows what the stream has to `taker`; nothing is its end.
fn read<T>(
    wire: &mut Wire,
    task: &mut Context<'_>,
    taker: impl FnOnce(&[u8]) -> T,
) -> Poll<io::Result<T>> {
    LANDING.with_borrow_mut(|landing| {
        let mut buffer = ReadBuf::new(landing);
        ready!(Pin::new(wire).poll_read(task, &mut buffer))?;
        Poll::Ready(Ok(taker(buffer.filled())))
    })
}

/// A request on its way out.
struct Upload {
    head: Vec<u8>,
    body: Bytes,
    /// Bytes of both that have gone.
    gone: usize,
    state: Progress,
}

enum Progress {
    Writing,
    Flushing,
    Done,
    Failed(io::Error),
}

impl Upload {
    /// Writes what the stream takes now. A failure is kept: the answer may have come before it.
    fn poll(&mut self, wire: &mut Wire, task: &mut Context<'_>) {
        loop {
            let outcome = match self.state {
                Progress::Writing => self.write(wire, task),
                Progress::Flushing => Pin::new(&mut *wire)
                    .poll_flush(task)
                    .map_ok(|()| Progress::Done),
                Progress::Done | Progress::Failed(_) => return,
            };
            match outcome {
                Poll::Ready(next) => self.state = next.unwrap_or_else(Progress::Failed),
                Poll::Pending => return,
            }
        }
    }

    fn write(&mut self, wire: &mut Wire, task: &mut Context<'_>) -> Poll<io::Result<Progress>> {
        let head = self.head.get(self.gone..).unwrap_or_default();
        let body = &self.body[self.gone.saturating_sub(self.head.len())..];
        if head.is_empty() && body.is_empty() {
            return Poll::Ready(Ok(Progress::Flushing));
        }
        let wire = Pin::new(wire);
        let wrote = ready!(match (head, body) {
            (head, []) => wire.poll_write(task, head),
            ([], body) => wire.poll_write(task, body),
            (head, body) => {
                wire.poll_write_vectored(task, &[IoSlice::new(head), IoSlice::new(body)])
            }
        })?;
        if wrote == 0 {
            return Poll::Ready(Err(io::ErrorKind::WriteZero.into()));
        }
        self.gone += wrote;
        Poll::Ready(Ok(Progress::Writing))
    }

    fn is_done(&self) -> bool {
        matches!(self.state, Progress::Done)
    }

    /// How it failed, where that explains why the response ended too early; else `kind` comes back.
    fn failure(&mut self, kind: ErrorKind) -> Result<io::Error, ErrorKind> {
        let early = matches!(kind, ErrorKind::Eof | ErrorKind::UnexpectedEof);
        match std::mem::replace(&mut self.state, Progress::Done) {
            Progress::Failed(error) if early => Ok(error),
            _ => Err(kind),
        }
    }

    /// A failure after which nothing comes. After one of the socket itself its end does, and before
    /// that perhaps an answer.
    fn fatal(&self) -> Option<&io::Error> {
        match &self.state {
            Progress::Failed(error) if error.raw_os_error().is_none() => Some(error),
            _ => None,
        }
    }
}

/// A failure of the stream.
fn failure(marks: &Marks, error: &io::Error) -> Error {
    if let Some(error) = marks.socket_error() {
        return error;
    }
    match tls_failure(error) {
        Some(kind) => kind.into(),
        None => ErrorKind::Other(message(error)).into(),
    }
}

/// A response that is wrong or incomplete. That the socket failed says more than what was missing.
fn kind(marks: &Marks, kind: ErrorKind) -> Error {
    if let Some(error) = marks.socket_error() {
        return error;
    }
    kind.into()
}

/// The failure of a TLS session after its handshake: with TLS 1.3 the server's opinion about a
/// client certificate comes as late as that.
pub(super) fn tls_failure(error: &(dyn std::error::Error + 'static)) -> Option<ErrorKind> {
    let mut inner = Some(error);
    while let Some(error) = inner {
        let io = error.downcast_ref::<std::io::Error>();
        if let Some(error) = io.and_then(tls::inner) {
            return Some(tls::classify(error));
        }
        inner = error.source();
    }
    None
}
