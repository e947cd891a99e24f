//! One call: its head, messages both ways, its status.
//!
//! A call is polled by whoever waits for its next event, and drives the connection with it, as every
//! user of a connection does (`http/http2.rs`). Messages to send are queued at once and leave as
//! the server's windows let them.

use std::{
    cell::RefCell,
    collections::VecDeque,
    future::{Future, poll_fn},
    pin::Pin,
    rc::Rc,
    task::{Context, Poll, Waker},
    time::{Duration, Instant},
};

use bytes::Bytes;
use h2::{Reason, RecvStream, SendStream, client::ResponseFuture};
use http::{
    HeaderMap, HeaderValue, Method, Request, Response, Uri, Version,
    header::{CONTENT_TYPE, TE, USER_AGENT},
};
use tokio::time::Sleep;

use super::{
    frame::{self, Decoder},
    metadata::Metadata,
    status::{Status, StatusCode, is_grpc, unescape},
};
use crate::{
    error::{Error, ErrorKind, Http2Failure},
    http::http2::Http2,
};

/// What is asked for.
#[derive(Clone, Debug, Default)]
pub struct CallRequest {
    /// The method: `/package.Service/Method`.
    pub path: String,
    /// What goes along.
    pub metadata: Metadata,
    /// How long the call may take, from its beginning to its status; `None` is as long as it takes.
    pub timeout: Option<Duration>,
}

/// What a call has to tell.
#[derive(Debug)]
pub enum Event {
    /// A message from the server.
    Message(Bytes),
    /// It is over; nothing comes after this.
    End(Box<Outcome>),
}

/// How a call has ended.
#[derive(Clone, Debug)]
pub struct Outcome {
    /// With what status.
    pub status: Status,
    /// What came before the messages.
    pub headers: Metadata,
    /// What came after them.
    pub trailers: Metadata,
    /// When.
    pub end: Instant,
    /// Whether the server has said that it did nothing about it.
    pub(super) untouched: bool,
}

impl Outcome {
    /// Of a call that nobody waits for any more.
    pub fn cancelled() -> Self {
        Self::failed(Status::cancelled())
    }

    pub(super) fn failed(status: Status) -> Self {
        Self {
            status,
            headers: Metadata::default(),
            trailers: Metadata::default(),
            end: Instant::now(),
            untouched: false,
        }
    }
}

/// Bounds of a call, and who makes it.
#[derive(Debug)]
pub(super) struct Terms {
    /// `http` or `https`.
    pub(super) scheme: &'static str,
    pub(super) authority: String,
    pub(super) agent: HeaderValue,
    /// Longest message to receive and to send, in bytes.
    pub(super) most: (usize, usize),
}

/// A call that goes on. Dropping it gives it up.
pub struct Call {
    http2: Rc<Http2>,
    most: usize,
    state: RefCell<State>,
}

struct State {
    upload: SendStream<Bytes>,
    /// Framed messages, of which the first may be sent in part.
    queue: VecDeque<Bytes>,
    /// Whether no more messages come, and whether the server has been told so.
    last: (bool, bool),
    /// Messages that have left the queue since somebody asked.
    sent: u64,
    /// The head of the answer, while it has not come.
    response: Option<ResponseFuture>,
    body: Option<RecvStream>,
    decoder: Decoder,
    headers: Metadata,
    late: Option<Pin<Box<Sleep>>>,
    /// What it has to end with, whatever the server says.
    given_up: Option<Status>,
    over: bool,
    /// Who waits for the next event.
    waker: Option<Waker>,
}

impl std::fmt::Debug for Call {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Call").finish_non_exhaustive()
    }
}

impl Call {
    /// Begins a call over an open connection; `deadline` is when it has to be over.
    pub(super) fn open(
        http2: Rc<Http2>,
        terms: &Terms,
        request: &CallRequest,
        deadline: Option<tokio::time::Instant>,
    ) -> Result<Self, Error> {
        let head = head(terms, request, deadline).map_err(Error::other)?;
        let (response, upload) = http2.stream(head, false)?;
        let (receive, send) = terms.most;
        Ok(Self {
            http2,
            most: send,
            state: RefCell::new(State {
                upload,
                queue: VecDeque::new(),
                last: (false, false),
                sent: 0,
                response: Some(response),
                body: None,
                decoder: Decoder::new(receive),
                headers: Metadata::default(),
                late: deadline.map(|at| Box::pin(tokio::time::sleep_until(at))),
                given_up: None,
                over: false,
                waker: None,
            }),
        })
    }

    /// Queues a message. One that is too large ends the call.
    pub fn send(&self, message: &Bytes) {
        match frame::encode(message, self.most) {
            Ok(framed) => {
                let mut state = self.state.borrow_mut();
                if !state.over && !state.last.0 {
                    state.queue.push_back(framed);
                    state.wake();
                }
            }
            Err(status) => self.give_up(status),
        }
    }

    /// No more messages are sent.
    pub fn finish(&self) {
        let mut state = self.state.borrow_mut();
        state.last.0 = true;
        state.wake();
    }

    /// Ends it: its status is that it was cancelled.
    pub fn cancel(&self) {
        self.give_up(Status::cancelled());
    }

    /// Messages that have been sent since this was last asked.
    pub fn take_sent(&self) -> u64 {
        std::mem::take(&mut self.state.borrow_mut().sent)
    }

    /// The address of the server.
    pub fn remote(&self) -> Option<std::net::SocketAddr> {
        self.http2.remote
    }

    /// Waits for what comes next.
    pub async fn next(&self) -> Event {
        poll_fn(|task| self.poll_next(task)).await
    }

    /// The same for those who poll. After the end nothing comes any more.
    pub fn poll_next(&self, task: &mut Context<'_>) -> Poll<Event> {
        let mut state = self.state.borrow_mut();
        if state.over {
            return Poll::Pending;
        }
        state.waker = Some(task.waker().clone());
        let late = state.late.as_mut();
        if late.is_some_and(|late| late.as_mut().poll(task).is_ready()) {
            state.given_up.get_or_insert_with(Status::late);
        }
        if let Some(status) = state.given_up.take() {
            state.upload.send_reset(Reason::CANCEL);
            self.http2.drive(task);
            return Poll::Ready(state.end(status, Metadata::default()));
        }
        self.http2.drive(task);
        loop {
            if state.pump(task) {
                self.http2.drive(task);
            }
            let mut consumed = false;
            match state.receive(&self.http2, task, &mut consumed) {
                Poll::Ready(event) => return Poll::Ready(event),
                // What made room in the windows may let more come.
                Poll::Pending if consumed => self.http2.drive(task),
                Poll::Pending if self.http2.is_over() => {
                    return Poll::Ready(state.fail(&self.http2.lost()));
                }
                Poll::Pending => return Poll::Pending,
            }
        }
    }

    /// Sends what can be sent and reads nothing; for those who have read enough for now.
    pub fn poll_send(&self, task: &mut Context<'_>) {
        let mut state = self.state.borrow_mut();
        if state.over {
            return;
        }
        state.waker = Some(task.waker().clone());
        self.http2.drive(task);
        if state.pump(task) {
            self.http2.drive(task);
        }
    }

    /// Wakes who polls it.
    pub fn wake(&self) {
        self.state.borrow_mut().wake();
    }

    fn give_up(&self, status: Status) {
        let mut state = self.state.borrow_mut();
        state.given_up.get_or_insert(status);
        state.wake();
    }
}

impl Drop for Call {
    fn drop(&mut self) {
        let state = self.state.get_mut();
        if !state.over {
            state.upload.send_reset(Reason::CANCEL);
            // The server hears of it now, if the socket takes it, and nobody waits for that.
            self.http2.drive(&mut Context::from_waker(Waker::noop()));
        }
    }
}

impl State {
    fn wake(&mut self) {
        if let Some(waker) = self.waker.take() {
            waker.wake();
        }
    }

    /// Hands over as much of the queue as the windows let; answers whether that was anything.
    fn pump(&mut self, task: &mut Context<'_>) -> bool {
        let mut moved = false;
        while let Some(first) = self.queue.front_mut() {
            self.upload.reserve_capacity(first.len());
            let mut room = self.upload.capacity();
            if room == 0 {
                match self.upload.poll_capacity(task) {
                    Poll::Ready(Some(Ok(more))) => room = more,
                    Poll::Pending => break,
                    // What became of the stream is for the answer to tell.
                    Poll::Ready(Some(Err(_)) | None) => {
                        self.queue.clear();
                        return moved;
                    }
                }
            }
            let part = first.split_to(room.min(first.len()));
            if first.is_empty() {
                self.queue.pop_front();
                self.sent += 1;
            }
            let end = self.last.0 && self.queue.is_empty();
            self.last.1 |= end;
            if self.upload.send_data(part, end).is_err() {
                self.queue.clear();
                return moved;
            }
            moved = true;
        }
        if self.queue.is_empty() && self.last == (true, false) {
            self.last.1 = true;
            moved |= self.upload.send_data(Bytes::new(), true).is_ok();
        }
        moved
    }

    /// Takes what has come of the answer; notes in `consumed` whether data was among it.
    fn receive(
        &mut self,
        http2: &Http2,
        task: &mut Context<'_>,
        consumed: &mut bool,
    ) -> Poll<Event> {
        if let Some(response) = &mut self.response {
            let response = match Pin::new(response).poll(task) {
                Poll::Pending => return Poll::Pending,
                Poll::Ready(Err(error)) => return Poll::Ready(self.fail(&http2.explain(&error))),
                Poll::Ready(Ok(response)) => response,
            };
            self.response = None;
            if let Some(end) = self.begin(response) {
                return Poll::Ready(end);
            }
        }
        loop {
            match self.decoder.next() {
                Ok(Some(message)) => return Poll::Ready(Event::Message(message)),
                Ok(None) => {}
                Err(status) => {
                    self.upload.send_reset(Reason::CANCEL);
                    return Poll::Ready(self.end(status, Metadata::default()));
                }
            }
            let Some(body) = &mut self.body else {
                return Poll::Pending;
            };
            match body.poll_data(task) {
                Poll::Pending => return Poll::Pending,
                Poll::Ready(Some(Ok(data))) => {
                    // An error here comes out of the next look at the body as well.
                    let _ = body.flow_control().release_capacity(data.len());
                    self.decoder.push(&data);
                    *consumed = true;
                }
                Poll::Ready(Some(Err(error))) => {
                    return Poll::Ready(self.fail(&http2.explain(&error)));
                }
                Poll::Ready(None) => {
                    return match body.poll_trailers(task) {
                        Poll::Pending => Poll::Pending,
                        Poll::Ready(Err(error)) => Poll::Ready(self.fail(&http2.explain(&error))),
                        Poll::Ready(Ok(Some(trailers))) => Poll::Ready(self.trailed(trailers)),
                        Poll::Ready(Ok(None)) => {
                            let text = "server closed the stream without sending trailers";
                            let status = Status::new(StatusCode::INTERNAL, text);
                            Poll::Ready(self.end(status, Metadata::default()))
                        }
                    };
                }
            }
        }
    }

    /// The head of the answer has come; one without messages may be all of it.
    fn begin(&mut self, response: Response<RecvStream>) -> Option<Event> {
        let (parts, body) = response.into_parts();
        let kind = parts.headers.get(CONTENT_TYPE);
        let kind = kind.map(|kind| String::from_utf8_lossy(kind.as_bytes()));
        if parts.status != http::StatusCode::OK || !kind.as_deref().is_some_and(is_grpc) {
            let status = Status::of_http(parts.status, kind.as_deref());
            self.upload.send_reset(Reason::CANCEL);
            return Some(self.end(status, Metadata::received(parts.headers)));
        }
        if body.is_end_stream() {
            return Some(self.trailed(parts.headers));
        }
        if let Some(coding) = parts.headers.get("grpc-encoding") {
            self.decoder
                .packed_with(&String::from_utf8_lossy(coding.as_bytes()));
        }
        self.headers = Metadata::received(parts.headers);
        self.body = Some(body);
        None
    }

    /// The trailers have come.
    fn trailed(&mut self, trailers: HeaderMap) -> Event {
        let mut status = status_of(&trailers);
        let trailers = Metadata::received(trailers);
        status.details = trailers
            .get("grpc-status-details-bin")
            .map_or_else(Bytes::new, Bytes::from);
        if status.is_ok() && self.decoder.is_cut() {
            status = Status::new(StatusCode::INTERNAL, "unexpected EOF");
        }
        self.end(status, trailers)
    }

    fn fail(&mut self, error: &Error) -> Event {
        let early = self.body.is_none();
        let mut event = self.end(Status::of(error), Metadata::default());
        if let Event::End(outcome) = &mut event {
            outcome.untouched = early && is_untouched(error);
        }
        event
    }

    fn end(&mut self, status: Status, trailers: Metadata) -> Event {
        self.over = true;
        self.queue.clear();
        self.late = None;
        self.body = None;
        self.response = None;
        Event::End(Box::new(Outcome {
            status,
            headers: std::mem::take(&mut self.headers),
            trailers,
            end: Instant::now(),
            untouched: false,
        }))
    }
}

/// The status that trailers tell.
fn status_of(trailers: &HeaderMap) -> Status {
    let message = trailers.get("grpc-message");
    let message = message.map_or_else(String::new, |message| unescape(message.as_bytes()));
    let Some(code) = trailers.get("grpc-status") else {
        return Status::new(StatusCode::UNKNOWN, message);
    };
    let code = String::from_utf8_lossy(code.as_bytes());
    match code.parse() {
        Ok(code) => Status::new(StatusCode(code), message),
        Err(_) => {
            let text = format!("transport: malformed grpc-status: {code}");
            Status::new(StatusCode::INTERNAL, text)
        }
    }
}

/// The head of a call.
fn head(
    terms: &Terms,
    request: &CallRequest,
    deadline: Option<tokio::time::Instant>,
) -> Result<Request<()>, String> {
    let uri = Uri::builder()
        .scheme(terms.scheme)
        .authority(terms.authority.as_str())
        .path_and_query(request.path.as_str())
        .build();
    let uri = uri.map_err(|e| format!("{}{}: {e}", terms.authority, request.path))?;
    let mut head = Request::new(());
    *head.method_mut() = Method::POST;
    *head.uri_mut() = uri;
    *head.version_mut() = Version::HTTP_2;
    let headers = head.headers_mut();
    headers.insert(CONTENT_TYPE, HeaderValue::from_static("application/grpc"));
    headers.insert(USER_AGENT, terms.agent.clone());
    headers.insert(TE, HeaderValue::from_static("trailers"));
    headers.insert("grpc-accept-encoding", HeaderValue::from_static("gzip"));
    if let Some(deadline) = deadline {
        let left = deadline.saturating_duration_since(tokio::time::Instant::now());
        let text = HeaderValue::try_from(timeout(left)).map_err(|e| e.to_string())?;
        headers.insert("grpc-timeout", text);
    }
    for (name, value) in request.metadata.headers() {
        headers.append(name, value.clone());
    }
    Ok(head)
}

/// A time as `grpc-timeout` has it: at most eight digits and a unit, rounded up.
fn timeout(left: Duration) -> String {
    const MOST: u128 = 99_999_999;
    const UNITS: [(char, u128); 6] = [
        ('n', 1),
        ('u', 1_000),
        ('m', 1_000_000),
        ('S', 1_000_000_000),
        ('M', 60_000_000_000),
        ('H', 3_600_000_000_000),
    ];
    let nanos = left.as_nanos();
    let fitting = UNITS
        .iter()
        .map(|(unit, length)| (unit, nanos.div_ceil(*length)))
        .find(|(_, count)| *count <= MOST);
    match fitting {
        Some((unit, count)) => format!("{count}{unit}"),
        None => format!("{MOST}H"),
    }
}

/// Whether the server has said that it did nothing about the call.
fn is_untouched(error: &Error) -> bool {
    const REFUSED_STREAM: u32 = 7;
    matches!(
        error.kind(),
        ErrorKind::Http2(Http2Failure::GoAway, 0)
            | ErrorKind::Http2(Http2Failure::Stream, REFUSED_STREAM)
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn timeouts_have_eight_digits_at_most() {
        for (left, text) in [
            (Duration::ZERO, "0n"),
            (Duration::from_nanos(99_999_999), "99999999n"),
            (Duration::from_nanos(100_000_001), "100001u"),
            (Duration::from_secs(60), "60000000u"),
            (Duration::from_secs(120), "120000m"),
            (Duration::from_secs(86400 * 365), "31536000S"),
            (Duration::MAX, "99999999H"),
        ] {
            assert_eq!(timeout(left), text);
        }
    }

    #[test]
    fn trailers_tell_the_status() {
        let told = |code: Option<&'static str>| {
            let mut trailers = HeaderMap::new();
            if let Some(code) = code {
                trailers.insert("grpc-status", HeaderValue::from_static(code));
            }
            trailers.insert("grpc-message", HeaderValue::from_static("a%20b"));
            status_of(&trailers).to_string()
        };
        assert_eq!(
            told(Some("5")),
            "rpc error: code = NotFound desc = a b".to_owned()
        );
        assert_eq!(told(None), "rpc error: code = Unknown desc = a b");
        assert_eq!(
            told(Some("x")),
            "rpc error: code = Internal desc = transport: malformed grpc-status: x"
        );
    }
}
