//! One HTTP/1 connection: hyper's, polled inside the future of the request that uses it.
//!
//! hyper splits a connection into a handle that takes requests and a future that does the work,
//! which is usually a task of its own. Here the request's future polls both: no second task, and
//! no wake-ups between the two. Everything the response and its body wait for is done by the
//! connection in the same call, so they are polled with a waker that does nothing, and only the
//! socket wakes the VU.

use std::{
    future::{Future, poll_fn},
    net::{IpAddr, SocketAddr},
    pin::Pin,
    rc::Rc,
    task::{Context, Poll, Waker},
};

use bytes::Bytes;
use http_body::Body as _;
use http_body_util::Full;
use hyper::{
    body::Incoming,
    client::conn::http1::{self, SendRequest},
};
use hyper_util::rt::TokioIo;

use super::{
    exchange::TlsInfo,
    http2::{self, Http2},
    trip::Trip,
    wire::{Marks, Meter, Wire},
};
use crate::{
    config::ClientConfig,
    dial::{self, Purpose},
    error::{Error, ErrorKind, message},
    tls,
    url::{Target, Url, quote},
};

type Driver = http1::Connection<TokioIo<Wire>, Full<Bytes>>;

/// An open connection.
pub(super) struct Connection {
    sender: SendRequest<Full<Bytes>>,
    /// `None` once hyper is done with it.
    driver: Option<Pin<Box<Driver>>>,
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

/// Dials, and makes the library's connection over the stream.
pub(super) async fn open(
    config: &ClientConfig,
    url: &Url,
    local: Option<IpAddr>,
    meter: &Rc<Meter>,
    trip: &mut Trip,
) -> Result<Opened, Error> {
    let marks = Marks::new(meter.clone());
    let purpose = Purpose::Requests;
    let wire = dial::dial(config, url, purpose, local, &marks, &mut trip.dial).await?;
    if trip.dial.http2 {
        return http2::open(wire, url, marks, trip).await.map(Opened::Http2);
    }
    let made = http1::Builder::new()
        .title_case_headers(true)
        .handshake(TokioIo::new(wire))
        .await;
    let (sender, driver) = made.map_err(|error| failure(&marks, &error))?;
    Ok(Opened::Http1(Connection {
        sender,
        driver: Some(Box::pin(driver)),
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
        self.drive(task);
        // Bytes that nobody asked for: whatever they are, they are not our answer.
        self.driver.is_some() && self.sender.is_ready() && self.marks.first_byte().is_none()
    }

    /// Sends a request and waits for the head of the response.
    pub(super) async fn send(
        &mut self,
        request: http::Request<Full<Bytes>>,
        url: &Url,
        method: &str,
    ) -> Result<http::Response<Incoming>, Error> {
        self.marks.begin();
        if self.absolute {
            self.marks
                .rewrite_target(method, url.absolute_target().as_bytes());
        } else if let Target::Raw(bytes) = url.wire_target() {
            self.marks.rewrite_target(method, bytes);
        }
        let mut response = std::pin::pin!(self.sender.send_request(request));
        let (driver, marks) = (&mut self.driver, &self.marks);
        poll_fn(|task| {
            drive(driver, task);
            let mut quiet = Context::from_waker(Waker::noop());
            match response.as_mut().poll(&mut quiet) {
                Poll::Ready(outcome) => Poll::Ready(outcome.map_err(|e| failure(marks, &e))),
                // Nobody is left who could answer.
                Poll::Pending if driver.is_none() => Poll::Ready(Err(ErrorKind::Eof.into())),
                Poll::Pending => Poll::Pending,
            }
        })
        .await
    }

    /// Reads the body into the trip, to its end.
    pub(super) async fn read_body(
        &mut self,
        mut body: Incoming,
        trip: &mut Trip,
    ) -> Result<(), Error> {
        let (driver, marks) = (&mut self.driver, &self.marks);
        poll_fn(|task| {
            // Whether hyper has already done what it can since the body was last looked at.
            let mut driven = false;
            loop {
                let mut quiet = Context::from_waker(Waker::noop());
                match Pin::new(&mut body).poll_frame(&mut quiet) {
                    Poll::Ready(None) => return Poll::Ready(Ok(())),
                    Poll::Ready(Some(Err(error))) => {
                        return Poll::Ready(Err(body_failure(marks, &error)));
                    }
                    Poll::Ready(Some(Ok(frame))) => {
                        if let Ok(data) = frame.into_data() {
                            trip.push_body(data);
                        }
                        driven = false;
                    }
                    Poll::Pending if driver.is_none() => {
                        return Poll::Ready(Err(ErrorKind::UnexpectedEof.into()));
                    }
                    Poll::Pending if driven => return Poll::Pending,
                    Poll::Pending => {
                        drive(driver, task);
                        driven = true;
                    }
                }
            }
        })
        .await
    }

    /// Whether the pool may keep it: the request has gone out, and hyper goes on.
    pub(super) fn reusable(&self) -> bool {
        self.driver.is_some() && self.marks.flushed().is_some()
    }

    fn drive(&mut self, task: &mut Context<'_>) {
        drive(&mut self.driver, task);
    }
}

/// Lets hyper work until the socket has nothing more for it.
fn drive(driver: &mut Option<Pin<Box<Driver>>>, task: &mut Context<'_>) {
    if let Some(running) = driver
        && running.as_mut().poll(task).is_ready()
    {
        // Its errors reach the request as well, and there they mean more.
        *driver = None;
    }
}

/// An error before the head of the response was complete.
pub(crate) fn failure(marks: &Marks, error: &hyper::Error) -> Error {
    if let Some(error) = marks.socket_error() {
        return error;
    }
    if let Some(kind) = tls_failure(error) {
        return kind.into();
    }
    if error.is_parse() || error.is_parse_too_large() {
        return match marks.garbage() {
            Some(line) => {
                ErrorKind::Malformed(format!("malformed HTTP response {}", quote(&line))).into()
            }
            None => ErrorKind::Malformed(reason(error)).into(),
        };
    }
    if error.is_incomplete_message() || error.is_canceled() || error.is_closed() {
        return match marks.first_byte() {
            Some(_) => ErrorKind::UnexpectedEof.into(),
            None => ErrorKind::Eof.into(),
        };
    }
    ErrorKind::Other(reason(error)).into()
}

/// An error within the body.
pub(crate) fn body_failure(marks: &Marks, error: &hyper::Error) -> Error {
    if let Some(error) = marks.socket_error() {
        return error;
    }
    if let Some(kind) = tls_failure(error) {
        return kind.into();
    }
    match std::error::Error::source(error).and_then(|e| e.downcast_ref::<std::io::Error>()) {
        Some(cause) if cause.kind() == std::io::ErrorKind::UnexpectedEof => {
            ErrorKind::UnexpectedEof.into()
        }
        Some(cause) => ErrorKind::Other(message(cause)).into(),
        None if error.is_incomplete_message() || error.is_closed() => {
            ErrorKind::UnexpectedEof.into()
        }
        None => ErrorKind::Other(reason(error)).into(),
    }
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

/// The innermost words of an error chain, which say most.
fn reason(error: &hyper::Error) -> String {
    let mut inner: &dyn std::error::Error = error;
    while let Some(cause) = inner.source() {
        inner = cause;
    }
    inner.to_string()
}
