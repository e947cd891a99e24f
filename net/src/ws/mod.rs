//! WebSockets (RFC 6455), with compressed messages (RFC 7692).
//!
//! # The way of a connection
//!
//! 1. [`Client::open_socket`] takes a [`Request`]; `handshake.rs` dials as for any other request,
//!    and asks for the upgrade with what reads and writes requests of HTTP.
//! 2. [`Socket`] reads and writes messages. It is polled by whoever owns it, and no task stands
//!    behind it: `frames.rs` knows what frames look like, `deflate.rs` what is in packed ones.
//! 3. An [`Event`] is a message, a ping or pong, or the end of it all.
//!
//! What a socket keeps while nothing happens is its TCP connection and some hundred bytes: what
//! is read goes through a buffer that all sockets of a thread share, and only what is no whole
//! frame yet is kept. Nor does compression keep anything, because both ends have agreed that
//! each message stands alone.
//!
//! Texts of failures are those of the library that the reference uses, which scripts see.

mod close;
mod deflate;
mod frames;
mod handshake;
mod socket;

use std::{
    net::SocketAddr,
    rc::Rc,
    time::{Duration, Instant},
};

pub use self::{
    close::{Close, Error},
    socket::{Event, Socket},
};
use crate::{
    cookie::CookieJar,
    http::{client::Client, exchange::Response},
    url::Url,
};

/// How long a handshake may take, by default.
const TIMEOUT: Duration = Duration::from_secs(60);

/// The largest message that is received, in bytes, by default: the process must survive a server
/// that sends without an end.
const MESSAGE_MAX: usize = 256 << 20;

/// A request to open a WebSocket.
#[derive(Clone, Debug)]
pub struct Request {
    /// Where to: `ws://…` or `wss://…`.
    pub url: Url,
    /// Header names and values; a later name replaces an equal earlier one, case aside. `Host` sets
    /// the authority, an empty `User-Agent` sends none, and `Cookie` takes the place of what is in
    /// the jar. `Sec-WebSocket-Protocol` asks for a subprotocol.
    pub headers: Vec<(String, String)>,
    /// Used instead of the client's jar for sending and storing.
    pub jar: Option<Rc<CookieJar>>,
    /// Offers to pack messages (`permessage-deflate`, each message for itself).
    pub deflate: bool,
    /// For everything until the connection is open.
    pub timeout: Duration,
    /// The largest message that is received, in bytes, unpacked.
    pub message_max: usize,
}

impl Request {
    /// A request without headers or compression, with 60 s and 256 MiB.
    pub fn new(url: Url) -> Self {
        Self {
            url,
            headers: Vec::new(),
            jar: None,
            deflate: false,
            timeout: TIMEOUT,
            message_max: MESSAGE_MAX,
        }
    }
}

/// What became of a [`Request`].
#[derive(Debug)]
pub struct Opened {
    /// When it began.
    pub begun: Instant,
    /// When the connection was open, or had failed.
    pub ended: Instant,
    /// The other end, when there was a connection.
    pub remote: Option<SocketAddr>,
    /// The answer of the server, when there was one. Of the body of an answer other than 101 it has
    /// the first kilobyte.
    pub response: Option<Response>,
    /// The open connection.
    pub socket: Result<Socket, Error>,
}

impl Client {
    /// Opens a WebSocket. Dropping the future closes the connection.
    pub async fn open_socket(&self, request: &Request) -> Opened {
        let begun = Instant::now();
        let mut log = handshake::Log::new(self.meter().clone());
        // In a place of its own, which is free again when the connection is open: it is large, and
        // whoever waits for this future moves it about on small stacks.
        let shaken = Box::pin(handshake::shake(self, request, &mut log));
        let socket = match tokio::time::timeout(request.timeout, shaken).await {
            Ok(outcome) => outcome,
            Err(_elapsed) => Err(log.timeout()),
        };
        Opened {
            begun,
            ended: Instant::now(),
            remote: log.dial.remote,
            response: log.response,
            socket,
        }
    }
}

#[cfg(test)]
mod tests;
