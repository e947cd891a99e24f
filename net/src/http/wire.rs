//! The stream between HTTP and the kernel: it notes instants and counts bytes.
//!
//! Phases of a request are only visible here: when it was flushed, and when the first byte of
//! the answer came. [`Socket`] sits under TLS and counts what really travels; [`Wire`] sits above
//! it and sees plain HTTP. Both write into the connection's [`Marks`], which the request's future
//! reads.

use std::{
    cell::{Cell, RefCell},
    io::{self, IoSlice},
    net::SocketAddr,
    pin::Pin,
    rc::Rc,
    task::{Context, Poll, ready},
    time::Instant,
};

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
}

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

    fn note_first(&self) {
        self.first_byte.set(Some(Instant::now()));
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

/// What HTTP reads and writes: a socket, or a TLS session over one.
#[derive(Debug)]
pub(crate) struct Wire {
    layer: Layer,
    marks: Rc<Marks>,
    /// Whether a failed write is kept quiet, and whether there was one.
    quiet: Option<bool>,
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
        }
    }

    pub(crate) fn tls(stream: TlsStream<Socket>, marks: Rc<Marks>) -> Self {
        Self {
            layer: Layer::Tls(Box::new(stream)),
            marks,
            quiet: None,
        }
    }

    /// From now on a write that fails is swallowed, with all that come after it: HTTP/2 writes at
    /// any time, and a server that goes away has said why in what is still to be read.
    pub(crate) fn keep_quiet(&mut self) {
        self.quiet = Some(false);
    }

    /// The outcome of a write of so many bytes, as h2 is to see it.
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
            this.marks.note_first();
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
        this.marks.dirty.set(true);
        this.marks.wrote.set(true);
        let outcome = ready!(match &mut this.layer {
            Layer::Plain(socket) => Pin::new(socket).poll_write(cx, buf),
            Layer::Tls(stream) => Pin::new(stream.as_mut()).poll_write(cx, buf),
        });
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
        this.marks.dirty.set(true);
        this.marks.wrote.set(true);
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
