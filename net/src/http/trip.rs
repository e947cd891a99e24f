//! What one hop has noted so far, and the [`Hop`] made of it at the end.
//!
//! A trip is filled in while its future runs and outlives it, so that a timeout in the middle
//! still knows which phase it fell into and what had arrived of the body.

use std::{
    borrow::Cow,
    net::SocketAddr,
    rc::Rc,
    time::{Duration, Instant},
};

use bytes::{Bytes, BytesMut};

use super::{
    connection::Connection,
    exchange::{Hop, Response, Timings, TlsInfo},
    head::Outgoing,
    wire::Marks,
};
use crate::{dial::DialLog, error::Error, url::Url};

/// How much memory the announced length of a body may claim before any of it has come.
const TRUSTED_LENGTH: u64 = 1 << 20;

/// The notes of one hop.
#[derive(Debug)]
pub(super) struct Trip {
    asked: Instant,
    pub(super) dial: DialLog,
    waited: bool,
    connected: Option<Connected>,
    head: Option<Response>,
    length: u64,
    body: Body,
    discard: bool,
    /// When the body was complete.
    done: Option<Instant>,
}

#[derive(Debug)]
struct Connected {
    at: Instant,
    reused: bool,
    marks: Rc<Marks>,
    remote: Option<SocketAddr>,
    tls: Option<TlsInfo>,
}

/// A body in one piece is kept as it came; only several are copied together.
#[derive(Debug)]
enum Body {
    One(Bytes),
    Many(BytesMut),
}

impl Trip {
    pub(super) fn begin(discard: bool) -> Self {
        Self {
            asked: Instant::now(),
            dial: DialLog::default(),
            waited: false,
            connected: None,
            head: None,
            length: 0,
            body: Body::One(Bytes::new()),
            discard,
            done: None,
        }
    }

    /// A connection is in hand.
    pub(super) fn connected(&mut self, connection: &Connection) {
        self.connected = Some(Connected {
            at: Instant::now(),
            reused: connection.reused,
            marks: connection.marks.clone(),
            remote: connection.remote,
            tls: connection.tls,
        });
    }

    /// A stream of a shared connection is in hand, whose marks are its own.
    pub(super) fn shared(
        &mut self,
        reused: bool,
        marks: &Rc<Marks>,
        remote: Option<SocketAddr>,
        tls: Option<TlsInfo>,
    ) {
        self.connected = Some(Connected {
            at: Instant::now(),
            reused,
            marks: marks.clone(),
            remote,
            tls,
        });
    }

    /// The connection comes from another request, and this one has waited until it was there.
    pub(super) fn waited(&mut self) {
        self.waited = true;
    }

    /// Forgets an attempt over a connection that turned out to be dead.
    pub(super) fn again(&mut self) {
        *self = Self {
            asked: self.asked,
            ..Self::begin(self.discard)
        };
    }

    /// Whether a failed attempt can be made again: over a kept connection, without an answer,
    /// and repeating it does no harm, because the request had not gone out, or because it has no
    /// body and a method that promises so (as Go's client decides).
    pub(super) fn may_retry(&self, outgoing: &Outgoing<'_>) -> bool {
        let Some(connected) = &self.connected else {
            return false;
        };
        let harmless = outgoing.body.is_none_or(|body| body.is_empty())
            && matches!(&*outgoing.method, "GET" | "HEAD" | "OPTIONS" | "TRACE");
        connected.reused
            && connected.marks.first_byte().is_none()
            && (harmless || !connected.marks.wrote())
    }

    /// Whether the head of a response is there.
    pub(super) fn answered(&self) -> bool {
        self.head.is_some()
    }

    /// The head of the response is there, and its body is to be of this length; 0 where that is
    /// not known.
    pub(super) fn head(&mut self, head: Response, length: u64) {
        self.length = length;
        self.head = Some(head);
    }

    pub(super) fn push_body(&mut self, data: Bytes) {
        if self.discard || data.is_empty() {
            return;
        }
        match &mut self.body {
            Body::One(first) if first.is_empty() => *first = data,
            Body::One(first) => {
                let least = first.len() + data.len();
                let expected = self.length.min(TRUSTED_LENGTH) as usize;
                let mut all = BytesMut::with_capacity(least.max(expected));
                all.extend_from_slice(first);
                all.extend_from_slice(&data);
                self.body = Body::Many(all);
            }
            Body::Many(all) => all.extend_from_slice(&data),
        }
    }

    /// The same for bytes that live elsewhere. A body that is all there is copied to its size.
    pub(super) fn push_slice(&mut self, data: &[u8]) {
        if self.discard || data.is_empty() {
            return;
        }
        match &mut self.body {
            Body::Many(all) => all.extend_from_slice(data),
            Body::One(first) if first.is_empty() && self.length <= data.len() as u64 => {
                *first = Bytes::copy_from_slice(data);
            }
            Body::One(first) => {
                let least = first.len() + data.len();
                let expected = self.length.min(TRUSTED_LENGTH) as usize;
                let mut all = BytesMut::with_capacity(least.max(expected));
                all.extend_from_slice(first);
                all.extend_from_slice(data);
                self.body = Body::Many(all);
            }
        }
    }

    /// The body has ended, well or not.
    pub(super) fn body_received(&mut self) {
        self.done = Some(Instant::now());
    }

    /// The hop, and the response as far as it came.
    pub(super) fn end(
        self,
        method: Cow<'static, str>,
        url: Url,
        outcome: Result<(), Error>,
    ) -> (Hop, Option<Response>) {
        let end = self.done.unwrap_or_else(Instant::now);
        let timings = self.timings(end);
        let response = self.head.map(|head| Response {
            body: match self.body {
                Body::One(bytes) => bytes,
                Body::Many(bytes) => bytes.freeze(),
            },
            ..head
        });
        let (remote, tls) = match &self.connected {
            Some(connected) => (connected.remote, connected.tls),
            None => (self.dial.remote, self.dial.tls),
        };
        let mut hop = Hop {
            method,
            url,
            status: response.as_ref().map_or(0, |r| r.status),
            proto: response.as_ref().map(|r| r.proto),
            timings,
            handshake: false,
            error: None,
            remote,
            tls,
            end,
        };
        if let Err(error) = outcome {
            hop.fail(error);
        }
        (hop, response)
    }

    fn timings(&self, end: Instant) -> Timings {
        let mut timings = Timings {
            connecting: self.dial.connecting,
            tls_handshaking: self.dial.handshake,
            ..Timings::default()
        };
        let Some(connected) = &self.connected else {
            return timings;
        };
        let marks = &connected.marks;
        if !connected.reused || self.waited {
            timings.blocked = connected.at - self.asked;
        }
        let first = marks.first_byte();
        // An answer may come before the request is out; then nothing was waited for.
        let sent = marks.flushed().or(first).unwrap_or(end);
        timings.sending = since(connected.at, sent);
        timings.waiting = since(sent, first.unwrap_or(end));
        timings.receiving = first.map_or(Duration::ZERO, |first| since(first, end));
        timings
    }
}

fn since(from: Instant, to: Instant) -> Duration {
    to.saturating_duration_since(from)
}

impl Hop {
    pub(super) fn blank(method: Cow<'static, str>, url: Url) -> Self {
        Self {
            url,
            method,
            status: 0,
            proto: None,
            timings: Timings::default(),
            handshake: false,
            error: None,
            remote: None,
            tls: None,
            end: Instant::now(),
        }
    }

    /// Makes it a failed one.
    pub(super) fn fail(&mut self, error: Error) {
        self.status = 0;
        self.proto = None;
        self.error = Some(error);
    }
}
