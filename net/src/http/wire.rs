//! The stream between hyper and the kernel: it notes instants, counts bytes, and writes request
//! lines that hyper cannot.
//!
//! Phases of a request are only visible here: hyper tells neither when the request was flushed
//! nor when the first byte of the answer came. [`Socket`] sits under TLS and counts what really
//! travels; [`Wire`] sits above it and sees plain HTTP. Both write into the connection's
//! [`Marks`], which the request's future reads.

use std::{
    cell::{Cell, RefCell},
    io::{self, IoSlice},
    net::SocketAddr,
    pin::Pin,
    rc::Rc,
    task::{Context, Poll, ready},
    time::Instant,
};

use bytes::Bytes;
use tokio::{
    io::{AsyncRead, AsyncWrite, ReadBuf},
    net::TcpStream,
};
use tokio_rustls::client::TlsStream;

use crate::error::{Error, ErrorKind, Op, message};

/// Bytes on the wire of all of a client's sockets, since they were last taken.
#[derive(Debug, Default)]
pub(crate) struct Meter {
    pub(crate) sent: Cell<u64>,
    pub(crate) received: Cell<u64>,
}

/// What a connection notes about the request it carries.
#[derive(Debug, Default)]
pub(crate) struct Marks {
    meter: Rc<Meter>,
    /// Local and remote address.
    pub(crate) ends: Cell<Option<(SocketAddr, SocketAddr)>>,
    /// When the last byte written so far had been handed to the kernel.
    flushed: Cell<Option<Instant>>,
    /// Whether bytes were written since then.
    dirty: Cell<bool>,
    first_byte: Cell<Option<Instant>>,
    /// Whether anything was written for this request.
    wrote: Cell<bool>,
    /// The first failure of the socket itself.
    failure: RefCell<Option<(Op, io::Error)>>,
    /// The request line to write in place of hyper's.
    rewrite: RefCell<Option<Rewrite>>,
    /// The first line of an answer that is not HTTP.
    garbage: RefCell<Option<String>>,
}

/// hyper writes `METHOD /` at the start of the head; these bytes go out instead.
#[derive(Debug)]
struct Rewrite {
    line: Bytes,
    method: usize,
}

/// Longest start of a garbage answer that an error shows.
const GARBAGE_MAX: usize = 256;

impl Marks {
    pub(crate) fn new(meter: Rc<Meter>) -> Rc<Self> {
        Rc::new(Self {
            meter,
            ..Self::default()
        })
    }

    /// Forgets the last request.
    pub(crate) fn begin(&self) {
        self.flushed.set(None);
        self.dirty.set(false);
        self.first_byte.set(None);
        self.wrote.set(false);
        // Only a garbage answer leaves something here, and its connection is not used again.
        debug_assert!(self.garbage.borrow().is_none());
    }

    /// Has the next bytes written start with `method target` where hyper's say `method /`.
    pub(crate) fn rewrite_target(&self, method: &str, target: &[u8]) {
        let mut line = Vec::with_capacity(method.len() + 1 + target.len());
        line.extend_from_slice(method.as_bytes());
        line.push(b' ');
        line.extend_from_slice(target);
        *self.rewrite.borrow_mut() = Some(Rewrite {
            line: line.into(),
            method: method.len(),
        });
    }

    /// When the request had been handed to the kernel; `None` while some of it had not.
    pub(crate) fn flushed(&self) -> Option<Instant> {
        if self.dirty.get() {
            None
        } else {
            self.flushed.get()
        }
    }

    pub(crate) fn first_byte(&self) -> Option<Instant> {
        self.first_byte.get()
    }

    /// What comes are frames of HTTP/2: their beginning is no answer, and no garbage.
    pub(crate) fn frames_come(&self) {
        self.first_byte.set(Some(Instant::now()));
    }

    /// The request of a stream has been handed to the connection.
    pub(crate) fn note_written(&self) {
        self.wrote.set(true);
    }

    /// The request of a stream had been handed to the kernel.
    pub(crate) fn note_flushed(&self, at: Instant) {
        self.flushed.set(Some(at));
    }

    /// The response of a stream begins.
    pub(crate) fn note_response(&self) {
        self.first_byte.set(Some(Instant::now()));
    }

    pub(crate) fn wrote(&self) -> bool {
        self.wrote.get()
    }

    pub(crate) fn garbage(&self) -> Option<String> {
        self.garbage.borrow().clone()
    }

    /// The first failure of the socket, as an error of the request.
    pub(crate) fn socket_error(&self) -> Option<Error> {
        self.failure.borrow().as_ref().map(|(op, error)| {
            let (errno, message) = (error.raw_os_error(), message(error));
            Error::new(ErrorKind::Socket {
                op: *op,
                ends: self.ends.get(),
                errno,
                message,
            })
        })
    }

    fn failed(&self, op: Op, error: &io::Error) {
        let mut failure = self.failure.borrow_mut();
        if failure.is_none() {
            let copy = match error.raw_os_error() {
                Some(errno) => io::Error::from_raw_os_error(errno),
                None => io::Error::new(error.kind(), error.to_string()),
            };
            *failure = Some((op, copy));
        }
    }

    fn note_first(&self, bytes: &[u8]) {
        self.first_byte.set(Some(Instant::now()));
        let seen = bytes.len().min(5);
        if bytes[..seen] != b"HTTP/"[..seen] {
            let line = bytes
                .split(|b| matches!(b, b'\r' | b'\n'))
                .next()
                .unwrap_or_default();
            let line = &line[..line.len().min(GARBAGE_MAX)];
            *self.garbage.borrow_mut() = Some(String::from_utf8_lossy(line).into_owned());
        }
    }
}

/// A TCP stream that counts its bytes and remembers how it failed.
#[derive(Debug)]
pub(crate) struct Socket {
    stream: TcpStream,
    marks: Rc<Marks>,
}

impl Socket {
    pub(crate) fn new(stream: TcpStream, marks: Rc<Marks>) -> Self {
        Self { stream, marks }
    }

    /// How the socket failed, if it did.
    pub(crate) fn error(&self) -> Option<Error> {
        self.marks.socket_error()
    }

    fn sent(&self, outcome: &io::Result<usize>) {
        match outcome {
            Ok(n) => {
                let sent = &self.marks.meter.sent;
                sent.set(sent.get() + *n as u64);
            }
            Err(e) => self.marks.failed(Op::Write, e),
        }
    }
}

impl AsyncRead for Socket {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let before = buf.filled().len();
        let outcome = ready!(Pin::new(&mut self.stream).poll_read(cx, buf));
        match &outcome {
            Ok(()) => {
                let received = &self.marks.meter.received;
                received.set(received.get() + (buf.filled().len() - before) as u64);
            }
            Err(e) => self.marks.failed(Op::Read, e),
        }
        Poll::Ready(outcome)
    }
}

impl AsyncWrite for Socket {
    fn poll_write(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &[u8],
    ) -> Poll<io::Result<usize>> {
        let outcome = ready!(Pin::new(&mut self.stream).poll_write(cx, buf));
        self.sent(&outcome);
        Poll::Ready(outcome)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bufs: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let outcome = ready!(Pin::new(&mut self.stream).poll_write_vectored(cx, bufs));
        self.sent(&outcome);
        Poll::Ready(outcome)
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(cx)
    }
}

/// What hyper reads and writes: a socket, or a TLS session over one.
#[derive(Debug)]
pub(crate) struct Wire {
    layer: Layer,
    marks: Rc<Marks>,
    /// Whether a failed write is kept quiet, and whether there was one.
    quiet: Option<bool>,
    /// A rewritten head that the layer below has not taken yet, and how much of it has gone.
    pending: Option<(Vec<u8>, usize)>,
}

#[derive(Debug)]
enum Layer {
    Plain(Socket),
    /// Boxed: a session is over a kilobyte, and plain connections should not be as large.
    Tls(Box<TlsStream<Socket>>),
}

impl Wire {
    pub(crate) fn plain(socket: Socket, marks: Rc<Marks>) -> Self {
        Self {
            layer: Layer::Plain(socket),
            marks,
            quiet: None,
            pending: None,
        }
    }

    pub(crate) fn tls(stream: TlsStream<Socket>, marks: Rc<Marks>) -> Self {
        Self {
            layer: Layer::Tls(Box::new(stream)),
            marks,
            quiet: None,
            pending: None,
        }
    }

    /// From now on a write that fails is swallowed, with all that come after it: HTTP/2 writes at
    /// any time, and a server that goes away has said why in what is still to be read.
    pub(crate) fn keep_quiet(&mut self) {
        self.quiet = Some(false);
    }

    /// The outcome of a write of so many bytes, as hyper or h2 are to see it.
    fn heard(&mut self, outcome: io::Result<usize>, length: usize) -> io::Result<usize> {
        match (outcome, &mut self.quiet) {
            (Err(_), Some(failed)) => {
                *failed = true;
                Ok(length)
            }
            (outcome, _) => outcome,
        }
    }

    /// Whether there is nobody left to write to.
    fn unheard(&self) -> bool {
        self.quiet == Some(true)
    }

    /// Writes what is left of a rewritten head.
    fn poll_pending(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        while let Some((bytes, gone)) = &mut self.pending {
            let n = ready!(self.layer.poll_write(cx, &bytes[*gone..]))?;
            if n == 0 {
                return Poll::Ready(Err(io::ErrorKind::WriteZero.into()));
            }
            *gone += n;
            if *gone == bytes.len() {
                self.pending = None;
            }
        }
        Poll::Ready(Ok(()))
    }

    /// Takes the head that hyper wrote, with the request line that was asked for.
    fn take_rewritten(&mut self, head: &[u8]) -> bool {
        let Some(rewrite) = self.marks.rewrite.take() else {
            return false;
        };
        debug_assert!(head[rewrite.method..].starts_with(b" / HTTP/1.1\r\n"));
        let mut bytes = rewrite.line.to_vec();
        bytes.extend_from_slice(&head[rewrite.method + 2..]);
        self.pending = Some((bytes, 0));
        true
    }
}

impl Layer {
    fn poll_write(&mut self, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        match self {
            Self::Plain(socket) => Pin::new(socket).poll_write(cx, buf),
            Self::Tls(stream) => Pin::new(stream.as_mut()).poll_write(cx, buf),
        }
    }
}

impl AsyncRead for Wire {
    fn poll_read(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        let before = buf.filled().len();
        let outcome = match &mut this.layer {
            Layer::Plain(socket) => ready!(Pin::new(socket).poll_read(cx, buf)),
            // A peer that closes without saying so first is common; Go takes it for an end, and
            // whether something was missing is for HTTP to judge.
            Layer::Tls(stream) => match ready!(Pin::new(stream.as_mut()).poll_read(cx, buf)) {
                Err(e) if e.kind() == io::ErrorKind::UnexpectedEof => Ok(()),
                outcome => outcome,
            },
        };
        if outcome.is_ok() && this.marks.first_byte.get().is_none() && buf.filled().len() > before {
            this.marks.note_first(&buf.filled()[before..]);
        }
        Poll::Ready(outcome)
    }
}

impl AsyncWrite for Wire {
    fn poll_write(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &[u8],
    ) -> Poll<io::Result<usize>> {
        let this = self.get_mut();
        if this.unheard() {
            return Poll::Ready(Ok(buf.len()));
        }
        ready!(this.poll_pending(cx))?;
        this.marks.dirty.set(true);
        this.marks.wrote.set(true);
        if this.take_rewritten(buf) {
            return Poll::Ready(Ok(buf.len()));
        }
        let outcome = ready!(this.layer.poll_write(cx, buf));
        Poll::Ready(this.heard(outcome, buf.len()))
    }

    fn poll_write_vectored(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bufs: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let this = self.get_mut();
        if this.unheard() {
            return Poll::Ready(Ok(bufs.iter().map(|buf| buf.len()).sum()));
        }
        ready!(this.poll_pending(cx))?;
        this.marks.dirty.set(true);
        this.marks.wrote.set(true);
        // hyper's head is one piece, the first; the others follow in the next call.
        if let Some(head) = bufs.iter().find(|b| !b.is_empty())
            && this.take_rewritten(head)
        {
            return Poll::Ready(Ok(head.len()));
        }
        let outcome = ready!(match &mut this.layer {
            Layer::Plain(socket) => Pin::new(socket).poll_write_vectored(cx, bufs),
            Layer::Tls(stream) => Pin::new(stream.as_mut()).poll_write_vectored(cx, bufs),
        });
        let length = bufs.iter().map(|buf| buf.len()).sum();
        Poll::Ready(this.heard(outcome, length))
    }

    fn is_write_vectored(&self) -> bool {
        match &self.layer {
            Layer::Plain(socket) => socket.is_write_vectored(),
            Layer::Tls(stream) => stream.is_write_vectored(),
        }
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        if this.unheard() {
            return Poll::Ready(Ok(()));
        }
        ready!(this.poll_pending(cx))?;
        let outcome = ready!(match &mut this.layer {
            Layer::Plain(socket) => Pin::new(socket).poll_flush(cx),
            Layer::Tls(stream) => Pin::new(stream.as_mut()).poll_flush(cx),
        });
        this.heard(outcome.map(|()| 0), 0)?;
        if this.marks.dirty.replace(false) {
            this.marks.flushed.set(Some(Instant::now()));
        }
        Poll::Ready(Ok(()))
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        let outcome = ready!(match &mut this.layer {
            Layer::Plain(socket) => Pin::new(socket).poll_shutdown(cx),
            Layer::Tls(stream) => Pin::new(stream.as_mut()).poll_shutdown(cx),
        });
        Poll::Ready(this.heard(outcome.map(|()| 0), 0).map(drop))
    }
}
