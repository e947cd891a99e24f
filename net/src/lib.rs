//! The network engine: one HTTP client per VU, with the instants at which each phase happened.
//!
//! A leaf of the workspace: it knows no script, no metric and no scenario. It returns what
//! happened and how long it took.
//!
//! # The path of a request
//!
//! 1. [`Client::send`] takes a [`Request`], whose [`Url`] was parsed once and holds its request
//!    target ready.
//! 2. `http/pool.rs` gives the connection used last for that origin, after one poll that
//!    notices whether the server has closed it meanwhile; else `dial.rs` makes one: name
//!    service, TCP, TLS, each with its time.
//! 3. `http/head.rs` builds the head, `http/connection.rs` writes it and reads the answer, which
//!    `http/reply.rs` takes apart as it comes. No task and no buffer stands behind a connection:
//!    an idle one costs little memory, and a request causes no wake-ups but those of its socket.
//! 4. `http/wire.rs`, between HTTP and the socket, notes when the request was flushed and when
//!    the first byte came back, and counts bytes.
//!    Over TLS the server may have chosen HTTP/2: then `http/http2.rs` gives the request a stream
//!    of a connection that all requests of the client to that origin share.
//! 5. `http/redirect.rs` decides whether another hop follows; `http/trip.rs` turns the notes
//!    into the [`Hop`]s of an [`Exchange`]. A challenge that `http/auth` can meet makes one more
//!    hop, and `http/coding.rs` unpacks the body of the last one.
//!
//! # Rules
//!
//! - A [`Client`] belongs to one VU and one thread: it is not `Send`, and locks nothing on the
//!   path above. Only a new connection may touch what the process shares (the name service's
//!   cache, the TLS settings).
//! - Dropping the future of a request (an interrupted iteration) closes its connection and
//!   leaves the client usable.
//! - What goes over the wire is what the script asked for: [`Url`] does not normalise, and a
//!   request target that `http::Uri` refuses is sent as it is.
//! - Failures are data: [`Error`] renders k6's codes and Go's texts.

mod config;
mod cookie;
mod dial;
mod error;
mod http;
mod pace;
mod proxy;
mod tls;
mod url;

pub use crate::{
    config::{Cidr, ClientConfig, Dns, HostMap, LocalIps, Policy, Select, TlsVersion},
    cookie::{CookieJar, SetCookie, parse_http_date},
    error::{Error, ErrorKind, Http2Failure, Op, call as call_text},
    http::{
        auth::Auth,
        client::Client,
        coding::Coding,
        exchange::{
            Exchange, Hop, Proto, Request, RequestCookie, Response, Timings, TlsInfo, canonical,
        },
        watch::{Message, Watcher},
    },
    pace::Pace,
    proxy::Proxies,
    tls::{Identity, Ocsp},
    url::{Url, UrlError},
};
pub use ::http::{HeaderMap, HeaderName, HeaderValue};
pub use bytes::Bytes;
