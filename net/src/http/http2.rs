//! One HTTP/2 connection, which several requests of a client share.
//!
//! As with HTTP/1 no task stands behind it: every request that waits drives the connection, and so
//! does every request that looks for one, which is when a GOAWAY or a closed socket is noticed.
//! What the socket wakes is all of the requests that wait.

use std::{
    borrow::Cow,
    cell::{Cell, RefCell},
    future::{Future, poll_fn},
    net::SocketAddr,
    pin::Pin,
    rc::Rc,
    sync::{Arc, Mutex, PoisonError},
    task::{Context, Poll, Wake, Waker},
    time::Instant,
};

use bytes::Bytes;
use h2::client::{Builder, Connection, SendRequest};
use http::{
    HeaderMap, HeaderName, HeaderValue, Uri, Version,
    header::{CONNECTION, CONTENT_LENGTH, HOST, TRANSFER_ENCODING, UPGRADE},
    uri::PathAndQuery,
};

use super::{
    connection::tls_failure,
    exchange::{Proto, Response, TlsInfo},
    head::Outgoing,
    trip::Trip,
    wire::{Marks, Meter, Wire},
};
use crate::{
    error::{Error, ErrorKind, Http2Failure, message},
    url::{Target, Url},
};

/// What a stream may receive before it is read, and all streams together: as Go's client has it.
const STREAM_WINDOW: u32 = 4 << 20;
const CONNECTION_WINDOW: u32 = 1 << 30;
/// Longest head of a response.
const HEAD_MAX: u32 = 10 << 20;

type Driver = Pin<Box<Connection<Wire, Bytes>>>;

/// An open connection.
pub(super) struct Http2 {
    sender: SendRequest<Bytes>,
    /// `None` once it is over.
    driver: RefCell<Option<Driver>>,
    /// What it was over for.
    ended: RefCell<Option<Error>>,
    wakers: Arc<Wakers>,
    /// Wakes all of `wakers`.
    waker: Waker,
    marks: Rc<Marks>,
    /// Where to; its origin is what the pool compares.
    pub(super) url: Url,
    remote: Option<SocketAddr>,
    tls: Option<TlsInfo>,
    streams: Cell<usize>,
    /// Whether a request has had it.
    used: Cell<bool>,
}

impl std::fmt::Debug for Http2 {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Http2")
            .field("url", &self.url)
            .finish_non_exhaustive()
    }
}

/// Who waits for the socket. The lock is never contended: all of them live on one thread, and a
/// waker must be `Send` all the same.
#[derive(Default)]
struct Wakers(Mutex<Vec<Waker>>);

impl Wakers {
    fn add(&self, waker: &Waker) {
        let mut all = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if !all.iter().any(|known| known.will_wake(waker)) {
            all.push(waker.clone());
        }
    }
}

impl Wake for Wakers {
    fn wake(self: Arc<Self>) {
        let all = std::mem::take(&mut *self.0.lock().unwrap_or_else(PoisonError::into_inner));
        for waker in all {
            waker.wake();
        }
    }
}

/// Begins the conversation over a stream that has agreed on HTTP/2.
pub(super) async fn open(
    mut wire: Wire,
    url: &Url,
    marks: Rc<Marks>,
    trip: &Trip,
) -> Result<Rc<Http2>, Error> {
    marks.frames_come();
    wire.keep_quiet();
    let made = Builder::new()
        .initial_window_size(STREAM_WINDOW)
        .initial_connection_window_size(CONNECTION_WINDOW)
        .max_header_list_size(HEAD_MAX)
        .enable_push(false)
        .handshake(wire)
        .await;
    let (sender, driver) = made.map_err(|error| failure(&marks, &error))?;
    let wakers = Arc::new(Wakers::default());
    Ok(Rc::new(Http2 {
        sender,
        driver: RefCell::new(Some(Box::pin(driver))),
        ended: RefCell::default(),
        waker: wakers.clone().into(),
        wakers,
        marks,
        url: url.clone(),
        remote: trip.dial.remote,
        tls: trip.dial.tls,
        streams: Cell::new(0),
        used: Cell::new(false),
    }))
}

/// Counts a stream for as long as it lives.
struct Stream<'a>(&'a Cell<usize>);

impl<'a> Stream<'a> {
    fn count(streams: &'a Cell<usize>) -> Self {
        streams.set(streams.get() + 1);
        Self(streams)
    }
}

impl Drop for Stream<'_> {
    fn drop(&mut self) {
        self.0.set(self.0.get() - 1);
    }
}

impl Http2 {
    /// Whether it can take one more stream now. Notices a peer that has ended it meanwhile.
    pub(super) fn usable(&self, task: &mut Context<'_>) -> bool {
        self.drive(task);
        let ready = self.sender.clone().poll_ready(task);
        !matches!(ready, Poll::Ready(Err(_)))
            && !self.is_over()
            && self.streams.get() < self.sender.current_max_send_streams()
    }

    /// Whether nothing more can come of it.
    pub(super) fn is_over(&self) -> bool {
        self.driver.borrow().is_none()
    }

    /// Lets it do what it can with the socket.
    fn drive(&self, task: &mut Context<'_>) {
        self.wakers.add(task.waker());
        let mut driver = self.driver.borrow_mut();
        if let Some(running) = driver.as_mut() {
            let mut all = Context::from_waker(&self.waker);
            if let Poll::Ready(outcome) = running.as_mut().poll(&mut all) {
                *driver = None;
                let error = outcome.err().map(|error| failure(&self.marks, &error));
                *self.ended.borrow_mut() = error;
            }
        }
    }

    /// One round trip.
    pub(super) async fn exchange(
        &self,
        request: http::Request<()>,
        outgoing: &Outgoing<'_>,
        meter: &Rc<Meter>,
        trip: &mut Trip,
    ) -> Result<(), Error> {
        let named = |error: Error| error.of(&outgoing.method, outgoing.url);
        let marks = Marks::new(meter.clone());
        marks.ends.set(self.marks.ends.get());
        let reused = self.used.replace(true);
        trip.shared(reused, &marks, self.remote, self.tls);
        let begun = Instant::now();
        let body = outgoing.body.cloned().unwrap_or_default();
        let head = head(request, outgoing, body.len()).map_err(named)?;
        let _counted = Stream::count(&self.streams);
        let mut sender = self.sender.clone();
        let (mut response, mut upload) = sender
            .send_request(head, body.is_empty())
            .map_err(|e| named(self.explain(&e)))?;
        marks.note_written();
        let (mut left, mut sent) = (body.clone(), body.is_empty());
        if !sent {
            upload.reserve_capacity(left.len());
        }
        let response = poll_fn(|task| {
            self.drive(task);
            let mut moved = false;
            while !sent {
                match upload.poll_capacity(task) {
                    Poll::Ready(Some(Ok(room))) if room > 0 => {
                        let part = left.split_to(room.min(left.len()));
                        sent = left.is_empty();
                        moved = upload.send_data(part, sent).is_ok();
                        if !moved {
                            break;
                        }
                        upload.reserve_capacity(left.len());
                    }
                    // What became of the stream is for the response to tell.
                    Poll::Ready(Some(Err(_)) | None) => break,
                    Poll::Ready(Some(Ok(_))) | Poll::Pending => break,
                }
            }
            if moved {
                self.drive(task);
            }
            if sent
                && marks.flushed().is_none()
                && let Some(at) = self.marks.flushed().filter(|at| *at >= begun)
            {
                marks.note_flushed(at);
            }
            match Pin::new(&mut response).poll(task) {
                Poll::Ready(outcome) => Poll::Ready(outcome.map_err(|e| self.explain(&e))),
                Poll::Pending if self.is_over() => Poll::Ready(Err(self.lost())),
                Poll::Pending => Poll::Pending,
            }
        })
        .await
        .map_err(named)?;
        marks.note_response();
        let (parts, mut body) = response.into_parts();
        let length = parts.headers.get(CONTENT_LENGTH);
        let length = length.and_then(|v| v.to_str().ok()?.parse().ok());
        let response = Response {
            status: parts.status.as_u16(),
            reason: Cow::Borrowed(parts.status.canonical_reason().unwrap_or_default()),
            proto: Proto::Http2,
            headers: parts.headers,
            body: Bytes::new(),
        };
        trip.head(response, length.unwrap_or(0));
        let read = poll_fn(|task| {
            // Whether the connection has done what it can since the body was last looked at.
            let mut driven = false;
            loop {
                match body.poll_data(task) {
                    Poll::Ready(None) => return Poll::Ready(Ok(())),
                    Poll::Ready(Some(Err(error))) => {
                        return Poll::Ready(Err(self.explain(&error)));
                    }
                    Poll::Ready(Some(Ok(data))) => {
                        // An error here comes out of the next look at the body as well.
                        let _ = body.flow_control().release_capacity(data.len());
                        trip.push_body(data);
                        driven = false;
                    }
                    Poll::Pending if self.is_over() => return Poll::Ready(Err(self.lost())),
                    Poll::Pending if driven => return Poll::Pending,
                    Poll::Pending => {
                        self.drive(task);
                        driven = true;
                    }
                }
            }
        });
        let outcome = read.await;
        trip.body_received();
        outcome
    }

    /// Why a stream has failed. A server that goes away says why, and then what happens to the
    /// socket means less.
    fn explain(&self, error: &h2::Error) -> Error {
        let error = failure(&self.marks, error);
        match (error.kind(), &*self.ended.borrow()) {
            (ErrorKind::Http2(..), _) | (_, None) => error,
            (_, Some(ended)) => ended.clone(),
        }
    }

    /// The connection has ended and the stream was not told why.
    fn lost(&self) -> Error {
        if let Some(ended) = &*self.ended.borrow() {
            return ended.clone();
        }
        let socket = self.marks.socket_error();
        socket.unwrap_or_else(|| ErrorKind::UnexpectedEof.into())
    }
}

/// Whether the server has said that it did nothing about the request.
pub(super) fn untouched(error: &Error) -> bool {
    const REFUSED_STREAM: u32 = 7;
    matches!(
        error.kind(),
        ErrorKind::Http2(Http2Failure::GoAway, 0)
            | ErrorKind::Http2(Http2Failure::Stream, REFUSED_STREAM)
    )
}

/// The head as HTTP/2 has it: the host in the target, nothing about the connection.
fn head(
    request: http::Request<()>,
    outgoing: &Outgoing<'_>,
    body: usize,
) -> Result<http::Request<()>, Error> {
    let (parts, _) = request.into_parts();
    let mut headers: HeaderMap = parts.headers;
    let host = headers.remove(HOST);
    for name in [CONNECTION, TRANSFER_ENCODING, UPGRADE] {
        headers.remove(name);
    }
    for name in ["keep-alive", "proxy-connection"] {
        headers.remove(HeaderName::from_static(name));
    }
    if body > 0 {
        headers.insert(CONTENT_LENGTH, HeaderValue::from(body));
    }
    let wrong = |e: &dyn std::fmt::Display| Error::from(ErrorKind::Other(format!("http2: {e}")));
    let path = match outgoing.url.wire_target() {
        Target::Plain(uri) => uri.path_and_query().cloned(),
        Target::Raw(bytes) => Some(escaped(bytes).map_err(|e| wrong(&e))?),
    };
    let host = host.as_ref().map_or(&b""[..], HeaderValue::as_bytes);
    let uri = Uri::builder()
        .scheme("https")
        .authority(host)
        .path_and_query(path.unwrap_or_else(|| PathAndQuery::from_static("/")))
        .build()
        .map_err(|e| wrong(&e))?;
    let mut head = http::Request::new(());
    *head.method_mut() = parts.method;
    *head.uri_mut() = uri;
    *head.version_mut() = Version::HTTP_2;
    *head.headers_mut() = headers;
    Ok(head)
}

/// A target with bytes that HTTP/2's libraries refuse, which are percent-encoded then.
fn escaped(target: &[u8]) -> Result<PathAndQuery, http::uri::InvalidUri> {
    let mut out = String::with_capacity(target.len() + 16);
    for &byte in target {
        if byte.is_ascii_graphic() && !b"\"<>\\^`{|}".contains(&byte) {
            out.push(byte as char);
        } else {
            out.push_str(&format!("%{byte:02X}"));
        }
    }
    out.parse()
}

/// What an error of the library means.
fn failure(marks: &Marks, error: &h2::Error) -> Error {
    if let Some(code) = error.reason().map(u32::from) {
        let what = if error.is_go_away() && error.is_remote() {
            Http2Failure::GoAway
        } else if error.is_reset() {
            Http2Failure::Stream
        } else {
            Http2Failure::Connection
        };
        return ErrorKind::Http2(what, code).into();
    }
    if let Some(error) = marks.socket_error() {
        return error;
    }
    if let Some(kind) = tls_failure(error) {
        return kind.into();
    }
    match error.get_io() {
        Some(error)
            if matches!(
                error.kind(),
                std::io::ErrorKind::BrokenPipe | std::io::ErrorKind::UnexpectedEof
            ) =>
        {
            ErrorKind::UnexpectedEof.into()
        }
        Some(error) => ErrorKind::Other(message(error)).into(),
        None => ErrorKind::Other(format!("http2: {error}")).into(),
    }
}

#[cfg(test)]
mod tests;
