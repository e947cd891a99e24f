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
use h2::{
    Reason, RecvStream, SendStream,
    client::{Builder, Connection, ResponseFuture, SendRequest},
};
use http::{
    HeaderMap, HeaderName, HeaderValue, Uri, Version,
    header::{CONNECTION, CONTENT_LENGTH, HOST, TRANSFER_ENCODING, UPGRADE},
    uri::PathAndQuery,
};

use super::{
    age::Age,
    connection::tls_failure,
    exchange::{Proto, Response, TlsInfo},
    head::Outgoing,
    trip::Trip,
    wire::{Marks, Meter, Wire},
};
use crate::{
    config::ClientConfig,
    dial::DialLog,
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
pub(crate) struct Http2 {
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
    pub(crate) remote: Option<SocketAddr>,
    tls: Option<TlsInfo>,
    streams: Cell<usize>,
    /// Whether a request has had it.
    used: Cell<bool>,
    age: Age,
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
    config: &ClientConfig,
    wire: Wire,
    url: &Url,
    marks: Rc<Marks>,
    trip: &Trip,
) -> Result<Rc<Http2>, Error> {
    // As many streams as we like, until the server has said how many.
    over(config, wire, url, marks, &trip.dial, usize::MAX).await
}

/// The same, with a number of streams that may be opened before the server has said how many.
pub(crate) async fn over(
    config: &ClientConfig,
    mut wire: Wire,
    url: &Url,
    marks: Rc<Marks>,
    dial: &DialLog,
    unasked: usize,
) -> Result<Rc<Http2>, Error> {
    marks.frames_come();
    wire.keep_quiet();
    let made = Builder::new()
        .initial_window_size(STREAM_WINDOW)
        .initial_connection_window_size(CONNECTION_WINDOW)
        .initial_max_send_streams(unasked)
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
        remote: dial.remote,
        tls: dial.tls,
        streams: Cell::new(0),
        used: Cell::new(false),
        age: Age::begin(config),
    }))
}

/// Counts a stream for as long as it lives.
struct Stream<'a>(&'a Http2);

impl<'a> Stream<'a> {
    fn count(connection: &'a Http2) -> Self {
        connection.streams.set(connection.streams.get() + 1);
        connection.age.work();
        Self(connection)
    }
}

impl Drop for Stream<'_> {
    fn drop(&mut self) {
        self.0.streams.set(self.0.streams.get() - 1);
        if self.0.streams.get() == 0 {
            self.0.age.rest();
        }
        // One that ends before its time has left an RST_STREAM to send, and nobody may come here
        // for long: the server would go on with what nobody waits for.
        self.0.turn();
    }
}

/// A request that has failed.
pub(super) struct Failed {
    pub(super) error: Error,
    /// Whether nothing can have been done about it, so that it may be sent again.
    pub(super) untouched: bool,
}

impl Failed {
    fn sent(error: Error) -> Self {
        Self {
            error,
            untouched: false,
        }
    }
}

impl Http2 {
    /// Whether it can take one more stream now. Notices a peer that has ended it meanwhile.
    pub(super) fn usable(&self, task: &mut Context<'_>) -> bool {
        self.alive(task)
            && !self.age.is_over()
            && self.streams.get() < self.sender.current_max_send_streams()
    }

    /// Whether the server still takes streams. Notices a peer that has ended it meanwhile.
    pub(crate) fn alive(&self, task: &mut Context<'_>) -> bool {
        self.drive(task);
        let ready = self.sender.clone().poll_ready(task);
        !matches!(ready, Poll::Ready(Err(_))) && !self.is_over()
    }

    /// Until the server has introduced itself: whether it speaks HTTP/2 is known no sooner. For a
    /// connection that began without any streams of its own.
    pub(crate) async fn greeted(&self) -> Result<(), Error> {
        poll_fn(|task| {
            self.drive(task);
            match self.sender.current_max_send_streams() {
                _ if self.is_over() => Poll::Ready(Err(self.lost())),
                0 => Poll::Pending,
                _ => Poll::Ready(Ok(())),
            }
        })
        .await
    }

    /// Opens a stream; one too many for the server waits for its turn in the library.
    pub(crate) fn stream(
        &self,
        head: http::Request<()>,
        ended: bool,
    ) -> Result<(ResponseFuture, SendStream<Bytes>), Error> {
        let mut sender = self.sender.clone();
        let opened = sender.send_request(head, ended);
        opened.map_err(|error| self.explain(&error))
    }

    /// Ends it from this side: whoever waits for it is told why.
    pub(crate) fn close(&self, why: Error) {
        // Taken out first: what is dropped may look at this.
        let driver = self.driver.borrow_mut().take();
        self.ended.borrow_mut().get_or_insert(why);
        drop(driver);
        self.waker.wake_by_ref();
    }

    /// Whether nothing more can come of it.
    pub(crate) fn is_over(&self) -> bool {
        self.driver.borrow().is_none()
    }

    /// Whether no more requests are to be given to it: those that it has go on.
    pub(super) fn is_left(&self) -> bool {
        self.is_over() || self.age.is_over() || self.farewell().is_some()
    }

    /// What the server has said when it went away.
    fn farewell(&self) -> Option<Error> {
        let mut quiet = Context::from_waker(Waker::noop());
        match self.sender.clone().poll_ready(&mut quiet) {
            Poll::Ready(Err(error)) if error.is_go_away() && error.is_remote() => {
                Some(failure(&self.marks, &error))
            }
            _ => None,
        }
    }

    /// Lets it do what it can with the socket, and has it wake the task when there is more.
    pub(crate) fn drive(&self, task: &mut Context<'_>) {
        self.wakers.add(task.waker());
        self.turn();
    }

    fn turn(&self) {
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
    ) -> Result<(), Failed> {
        let named = |mut failed: Failed| {
            failed.error = failed.error.of(&outgoing.method, outgoing.url);
            failed
        };
        let marks = Marks::new(meter.clone());
        marks.ends.set(self.marks.ends.get());
        let reused = self.used.replace(true);
        trip.shared(reused, &marks, self.remote, self.tls);
        let begun = Instant::now();
        let body = outgoing.body.cloned().unwrap_or_default();
        let head = head(request, outgoing, body.len());
        let head = head.map_err(|error| named(Failed::sent(error)))?;
        // Before the stream, to be dropped after it.
        let _counted = Stream::count(self);
        let mut sender = self.sender.clone();
        let (mut response, upload) =
            sender
                .send_request(head, body.is_empty())
                .map_err(|error| {
                    // The connection has ended before this one had a stream.
                    let untouched = true;
                    let error = self.explain(&error);
                    named(Failed { error, untouched })
                })?;
        marks.note_written();
        let mut upload = Upload::new(upload, body);
        let response = poll_fn(|task| {
            self.drive(task);
            if upload.poll_send(task) {
                self.drive(task);
            }
            if upload.is_done()
                && marks.flushed().is_none()
                && let Some(at) = self.marks.flushed().filter(|at| *at >= begun)
            {
                marks.note_flushed(at);
            }
            // Hints are the beginning of an answer too.
            while let Poll::Ready(Some(Ok(_))) = response.poll_informational(task) {
                note_first(&marks);
            }
            match Pin::new(&mut response).poll(task) {
                Poll::Ready(outcome) => Poll::Ready(outcome.map_err(|error| Failed {
                    untouched: untouched(&error, reused),
                    error: self.explain(&error),
                })),
                Poll::Pending if self.is_over() => Poll::Ready(Err(Failed::sent(self.lost()))),
                Poll::Pending => Poll::Pending,
            }
        })
        .await
        .map_err(named)?;
        note_first(&marks);
        let (parts, body) = response.into_parts();
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
        let outcome = self.read(body, length, trip).await;
        trip.body_received();
        outcome.map_err(Failed::sent)
    }

    /// Reads a body into the trip, to its end; `length` is what the head says of it.
    async fn read(
        &self,
        mut body: RecvStream,
        length: Option<u64>,
        trip: &mut Trip,
    ) -> Result<(), Error> {
        let mut received = 0;
        poll_fn(|task| {
            // Whether the connection has done what it can since the body was last looked at.
            let mut driven = false;
            loop {
                match body.poll_data(task) {
                    Poll::Ready(None) => return Poll::Ready(Ok(())),
                    Poll::Ready(Some(Err(error))) if is_our_verdict(&error) && length.is_some() => {
                        return Poll::Ready(Err(wrong_length(length, received)));
                    }
                    Poll::Ready(Some(Err(error))) => {
                        return Poll::Ready(Err(self.explain(&error)));
                    }
                    Poll::Ready(Some(Ok(data))) => {
                        // An error here comes out of the next look at the body as well.
                        let _ = body.flow_control().release_capacity(data.len());
                        received += data.len() as u64;
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
        })
        .await
    }

    /// Why a stream has failed. A server that goes away says why, and then what happens to the
    /// socket means less.
    pub(crate) fn explain(&self, error: &h2::Error) -> Error {
        let error = failure(&self.marks, error);
        if matches!(error.kind(), ErrorKind::Http2(..)) {
            return error;
        }
        let ended = self.farewell().or_else(|| self.ended.borrow().clone());
        ended.unwrap_or(error)
    }

    /// The connection has ended and the stream was not told why.
    pub(crate) fn lost(&self) -> Error {
        let ended = self.farewell().or_else(|| self.ended.borrow().clone());
        ended
            .or_else(|| self.marks.socket_error())
            .unwrap_or_else(|| ErrorKind::UnexpectedEof.into())
    }
}

/// A body on its way, as far as the peer gives room.
struct Upload {
    stream: SendStream<Bytes>,
    left: Bytes,
    done: bool,
}

impl Upload {
    fn new(mut stream: SendStream<Bytes>, body: Bytes) -> Self {
        let done = body.is_empty();
        if !done {
            stream.reserve_capacity(body.len());
        }
        Self {
            stream,
            left: body,
            done,
        }
    }

    /// Whether all of it has been handed to the connection.
    fn is_done(&self) -> bool {
        self.done
    }

    /// Hands over what there is room for. Whether that was anything.
    fn poll_send(&mut self, task: &mut Context<'_>) -> bool {
        let mut moved = false;
        while !self.done
            && let Poll::Ready(Some(Ok(room))) = self.stream.poll_capacity(task)
            && room > 0
        {
            let part = self.left.split_to(room.min(self.left.len()));
            self.done = self.left.is_empty();
            if self.stream.send_data(part, self.done).is_err() {
                // What became of the stream is for the response to tell.
                return false;
            }
            moved = true;
            self.stream.reserve_capacity(self.left.len());
        }
        moved
    }
}

fn note_first(marks: &Marks) {
    if marks.first_byte().is_none() {
        marks.note_response();
    }
}

/// Whether the server has said that it did nothing about the request. One that leaves with an error
/// at the first request of a connection would do so again.
fn untouched(error: &h2::Error, reused: bool) -> bool {
    if !error.is_remote() {
        return false;
    }
    let reason = error.reason();
    if error.is_go_away() {
        // Streams that it may have looked at are not told of a GOAWAY.
        reused || reason == Some(Reason::NO_ERROR)
    } else {
        error.is_reset() && reason == Some(Reason::REFUSED_STREAM)
    }
}

/// Whether we have reset the stream because it broke the rules. Within a body there is one rule
/// for it to break: its length.
fn is_our_verdict(error: &h2::Error) -> bool {
    error.is_library() && error.is_reset() && error.reason() == Some(Reason::PROTOCOL_ERROR)
}

fn wrong_length(length: Option<u64>, received: u64) -> Error {
    if length.is_some_and(|length| received < length) {
        return ErrorKind::UnexpectedEof.into();
    }
    let text = "net/http: server replied with more than declared Content-Length; truncated";
    ErrorKind::Other(text.into()).into()
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
