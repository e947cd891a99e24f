//! What can go wrong with a request, under the codes and texts that k6 scripts test for.
//!
//! Scripts compare `error_code` and `error`, and people grep logs for the raw text, which in
//! the reference is Go's. So an [`Error`] keeps the facts (addresses, error number, the phase)
//! and renders three forms from them: the code, the short text of the code table, and the raw
//! text with the request around it. Rendering happens when somebody asks, not on failure.

use std::{fmt, io, net::IpAddr, net::SocketAddr};

use crate::url::{Url, quote};

/// A failed request: kind, and the request it belongs to.
#[derive(Clone, Debug)]
pub struct Error(Box<Inner>);

#[derive(Clone, Debug)]
struct Inner {
    kind: ErrorKind,
    call: Option<(String, Url)>,
}

/// The direction of a socket operation that failed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Op {
    /// Receiving.
    Read,
    /// Sending.
    Write,
}

impl Op {
    fn as_str(self) -> &'static str {
        match self {
            Self::Read => "read",
            Self::Write => "write",
        }
    }
}

/// What has ended in HTTP/2, and by whom.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Http2Failure {
    /// The server goes away.
    GoAway,
    /// One of the two has reset the stream.
    Stream,
    /// We have found an error in what the server sent.
    Connection,
}

/// Names of HTTP/2's error codes (RFC 9113, 7), by their numbers.
const HTTP2_CODES: [&str; 14] = [
    "NO_ERROR",
    "PROTOCOL_ERROR",
    "INTERNAL_ERROR",
    "FLOW_CONTROL_ERROR",
    "SETTINGS_TIMEOUT",
    "STREAM_CLOSED",
    "FRAME_SIZE_ERROR",
    "REFUSED_STREAM",
    "CANCEL",
    "COMPRESSION_ERROR",
    "CONNECT_ERROR",
    "ENHANCE_YOUR_CALM",
    "INADEQUATE_SECURITY",
    "HTTP_1_1_REQUIRED",
];

pub(crate) fn http2_code(code: u32) -> String {
    match HTTP2_CODES.get(code as usize) {
        Some(name) => (*name).to_owned(),
        None => format!("unknown error code 0x{code:x}"),
    }
}

/// The facts of a failure.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum ErrorKind {
    /// The request's whole time is over.
    Timeout,
    /// No scheme, or one that is neither `http` nor `https`.
    UnsupportedScheme(String),
    /// The name service did not answer with an address.
    Lookup {
        /// The name asked for.
        host: String,
        /// The resolver's words.
        reason: String,
        /// Whether the answer was that there is no such name.
        missing: bool,
    },
    /// The host name matches a pattern of `blockHostnames`.
    BlockedHost {
        /// The name.
        host: String,
        /// The pattern it matches.
        pattern: String,
    },
    /// The address lies in a range of `blacklistIPs`.
    BlacklistedIp {
        /// The address.
        ip: IpAddr,
        /// The range it lies in, as configured.
        range: String,
    },
    /// The connection was not established within the dial timeout, or the kernel gave up.
    DialTimeout(SocketAddr),
    /// Connecting failed.
    Dial {
        /// The address tried.
        remote: SocketAddr,
        /// The system's error number, when there is one.
        errno: Option<i32>,
        /// The system's words for it, in lower case.
        message: String,
    },
    /// Sending or receiving failed on an established connection.
    Socket {
        /// Which of the two.
        op: Op,
        /// Both ends, when the connection still knew them.
        ends: Option<(SocketAddr, SocketAddr)>,
        /// The system's error number, when there is one.
        errno: Option<i32>,
        /// The system's words for it, in lower case.
        message: String,
    },
    /// The peer closed the connection before the first byte of a response.
    Eof,
    /// The peer closed the connection within a response.
    UnexpectedEof,
    /// The peer's first bytes were no TLS record.
    TlsRecord(String),
    /// The peer's certificate was not issued by anyone trusted.
    TlsAuthority,
    /// The peer's certificate is for another host: the words say which.
    TlsHostname(String),
    /// Any other failure of the handshake.
    Tls(String),
    /// The response was not HTTP/1 as expected.
    Malformed(String),
    /// HTTP/2 has ended the connection or the stream, with this code.
    Http2(Http2Failure, u32),
    /// The body is not what its `Content-Encoding` says; the words say what is wrong.
    Decompress(String),
    /// Anything else, in its own words.
    Other(String),
}

impl Error {
    pub(crate) fn new(kind: ErrorKind) -> Self {
        Self(Box::new(Inner { kind, call: None }))
    }

    /// One that has only words.
    pub(crate) fn other(text: String) -> Self {
        Self::new(ErrorKind::Other(text))
    }

    /// Names the request, for failures that Go's client wraps as `Get "url": …` (all but a
    /// timeout and what happens while the body is read).
    pub(crate) fn of(mut self, method: &str, url: &Url) -> Self {
        self.0
            .call
            .get_or_insert_with(|| (method.to_owned(), url.clone()));
        self
    }

    /// The facts.
    pub fn kind(&self) -> &ErrorKind {
        &self.0.kind
    }

    /// k6's `error_code`.
    pub fn code(&self) -> u32 {
        match &self.0.kind {
            ErrorKind::Timeout => 1050,
            ErrorKind::Lookup { missing: true, .. } => 1101,
            ErrorKind::Lookup { .. } => 1100,
            ErrorKind::BlacklistedIp { .. } => 1110,
            ErrorKind::BlockedHost { .. } => 1111,
            ErrorKind::DialTimeout(_) => 1211,
            ErrorKind::Dial {
                errno: Some(errno), ..
            } if is(*errno, io::ErrorKind::ConnectionRefused) => 1212,
            ErrorKind::Dial { errno: Some(_), .. } => 1213,
            ErrorKind::Dial { .. } => 1210,
            ErrorKind::Socket {
                errno: Some(errno), ..
            } if is(*errno, io::ErrorKind::ConnectionReset) => 1220,
            ErrorKind::Socket {
                errno: Some(errno), ..
            } if is(*errno, io::ErrorKind::BrokenPipe) => 1201,
            ErrorKind::Socket { errno: Some(_), .. } => 1202,
            ErrorKind::Socket { .. } => 1200,
            ErrorKind::TlsRecord(_) => 1301,
            ErrorKind::TlsAuthority => 1310,
            ErrorKind::TlsHostname(_) => 1311,
            ErrorKind::Http2(what, code) => {
                let base = match what {
                    Http2Failure::GoAway => 1610,
                    Http2Failure::Stream => 1630,
                    Http2Failure::Connection => 1650,
                };
                let known = (*code as usize) < HTTP2_CODES.len();
                base + if known { 1 + code } else { 0 }
            }
            ErrorKind::Decompress(_) => 1701,
            ErrorKind::UnsupportedScheme(_)
            | ErrorKind::Eof
            | ErrorKind::UnexpectedEof
            | ErrorKind::Tls(_)
            | ErrorKind::Malformed(_)
            | ErrorKind::Other(_) => 1000,
        }
    }

    /// k6's `error`: the text of the code table, the bare cause for code 1000.
    pub fn short(&self) -> String {
        match &self.0.kind {
            ErrorKind::Timeout => "request timeout".into(),
            ErrorKind::Lookup { missing: true, .. } => "lookup: no such host".into(),
            ErrorKind::BlacklistedIp { .. } => "ip is blacklisted".into(),
            ErrorKind::BlockedHost { .. } => "hostname is blocked".into(),
            ErrorKind::DialTimeout(_) => "dial: i/o timeout".into(),
            ErrorKind::Dial {
                errno: Some(errno),
                message,
                ..
            } => {
                if is(*errno, io::ErrorKind::ConnectionRefused) {
                    "dial: connection refused".into()
                } else {
                    format!("dial: unknown errno {errno} error with msg `{message}`")
                }
            }
            ErrorKind::Socket {
                op,
                errno: Some(errno),
                message,
                ..
            } => {
                let op = op.as_str();
                if is(*errno, io::ErrorKind::ConnectionReset) {
                    format!("{op}: connection reset by peer")
                } else if is(*errno, io::ErrorKind::BrokenPipe) {
                    format!("{op}: broken pipe")
                } else {
                    let system = std::env::consts::OS;
                    format!("{op}: unknown errno `{errno}` on {system} with message `{message}`")
                }
            }
            ErrorKind::TlsAuthority => "x509: unknown authority".into(),
            ErrorKind::TlsHostname(_) => "x509: certificate doesn't match hostname".into(),
            ErrorKind::TlsRecord(text) | ErrorKind::Malformed(text) => text.clone(),
            ErrorKind::Http2(what, code) => {
                let what = match what {
                    Http2Failure::GoAway => "received GoAway",
                    Http2Failure::Stream => "stream error",
                    Http2Failure::Connection => "connection error",
                };
                format!("http2: {what} with http2 ErrCode {}", http2_code(*code))
            }
            _ => self.cause(),
        }
    }

    /// The text the reference logs: Go's error, with the request around it, for example
    /// `Get "http://127.0.0.1:1/": dial tcp 127.0.0.1:1: connect: connection refused`.
    pub fn raw(&self) -> String {
        match &self.0.call {
            Some((method, url)) => {
                format!("{}: {}", call(method, url), self.cause())
            }
            None => self.cause(),
        }
    }

    fn cause(&self) -> String {
        match &self.0.kind {
            ErrorKind::Timeout => "request timeout".into(),
            ErrorKind::UnsupportedScheme(scheme) => {
                format!("unsupported protocol scheme {}", quote(scheme))
            }
            ErrorKind::Lookup {
                host,
                missing: true,
                ..
            } => format!("lookup {host}: no such host"),
            ErrorKind::Lookup { host, reason, .. } => format!("lookup {host}: {reason}"),
            ErrorKind::BlockedHost { host, pattern } => {
                format!("hostname ({host}) is in a blocked pattern ({pattern})")
            }
            ErrorKind::BlacklistedIp { ip, range } => {
                format!("IP ({ip}) is in a blacklisted range ({range})")
            }
            ErrorKind::DialTimeout(remote) => format!("dial tcp {remote}: i/o timeout"),
            ErrorKind::Dial {
                remote,
                errno: Some(_),
                message,
            } => {
                format!("dial tcp {remote}: connect: {message}")
            }
            ErrorKind::Dial {
                remote, message, ..
            } => format!("dial tcp {remote}: {message}"),
            ErrorKind::Socket {
                op, ends, message, ..
            } => {
                let op = op.as_str();
                match ends {
                    Some((local, remote)) => {
                        format!("{op} tcp {local}->{remote}: {op}: {message}")
                    }
                    None => format!("{op} tcp: {op}: {message}"),
                }
            }
            ErrorKind::Eof => "EOF".into(),
            ErrorKind::UnexpectedEof => "unexpected EOF".into(),
            ErrorKind::TlsAuthority => {
                "tls: failed to verify certificate: x509: certificate signed by unknown authority"
                    .into()
            }
            ErrorKind::TlsHostname(text) => {
                format!("tls: failed to verify certificate: x509: {text}")
            }
            ErrorKind::Malformed(text) => {
                format!("net/http: HTTP/1.x transport connection broken: {text}")
            }
            ErrorKind::Http2(what, code) => {
                let code = http2_code(*code);
                match what {
                    Http2Failure::GoAway => {
                        format!(
                            "http2: server sent GOAWAY and closed the connection; ErrCode={code}"
                        )
                    }
                    Http2Failure::Stream => format!("stream error: {code}"),
                    Http2Failure::Connection => format!("connection error: {code}"),
                }
            }
            ErrorKind::Decompress(text) => format!("error decompressing response body ({text})"),
            ErrorKind::TlsRecord(text) | ErrorKind::Tls(text) | ErrorKind::Other(text) => {
                text.clone()
            }
        }
    }
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.raw())
    }
}

impl std::error::Error for Error {}

impl From<ErrorKind> for Error {
    fn from(kind: ErrorKind) -> Self {
        Self::new(kind)
    }
}

/// Whether the system's error number means this kind (numbers differ between systems).
fn is(errno: i32, kind: io::ErrorKind) -> bool {
    io::Error::from_raw_os_error(errno).kind() == kind
}

/// The system's words as Go prints them: lower case, without Rust's `(os error n)`.
pub(crate) fn message(error: &io::Error) -> String {
    let text = error.to_string();
    let text = match text.rfind(" (os error ") {
        Some(at) => &text[..at],
        None => &text,
    };
    let mut chars = text.chars();
    match chars.next() {
        Some(first) => first.to_lowercase().chain(chars).collect(),
        None => String::new(),
    }
}

/// A request as errors name it: `Get "http://host/"`.
pub fn call(method: &str, url: &Url) -> String {
    format!("{} {}", verb(method), quote(&url.redacted()))
}

/// `GET` → `Get`: how Go's client names the call in its errors.
fn verb(method: &str) -> String {
    let lower = method.to_ascii_lowercase();
    match method.chars().next() {
        Some(first) => format!("{first}{}", &lower[first.len_utf8()..]),
        None => "Get".into(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn dial(errno: i32) -> Error {
        let error = io::Error::from_raw_os_error(errno);
        let kind = ErrorKind::Dial {
            remote: "127.0.0.1:1".parse().expect("an address"),
            errno: Some(errno),
            message: message(&error),
        };
        Error::new(kind).of("GET", &Url::parse("http://u:p@127.0.0.1:1/").expect("url"))
    }

    #[test]
    fn refused_dial_has_code_short_and_raw_text() {
        let error = dial(errno_of(io::ErrorKind::ConnectionRefused));
        assert_eq!(error.code(), 1212);
        assert_eq!(error.short(), "dial: connection refused");
        assert_eq!(
            error.raw(),
            "Get \"http://u:***@127.0.0.1:1/\": dial tcp 127.0.0.1:1: connect: connection refused"
        );
    }

    #[test]
    fn other_dial_errors_keep_their_number() {
        let errno = errno_of(io::ErrorKind::NetworkUnreachable);
        let error = dial(errno);
        assert_eq!(error.code(), 1213);
        assert_eq!(
            error.short(),
            format!("dial: unknown errno {errno} error with msg `network is unreachable`")
        );
    }

    #[test]
    fn socket_errors_name_their_direction() {
        let broken = |op, kind| {
            let errno = errno_of(kind);
            Error::new(ErrorKind::Socket {
                op,
                ends: None,
                errno: Some(errno),
                message: message(&io::Error::from_raw_os_error(errno)),
            })
        };
        let reset = broken(Op::Read, io::ErrorKind::ConnectionReset);
        assert_eq!(
            (reset.code(), reset.short().as_str()),
            (1220, "read: connection reset by peer")
        );
        let pipe = broken(Op::Write, io::ErrorKind::BrokenPipe);
        assert_eq!(
            (pipe.code(), pipe.short().as_str()),
            (1201, "write: broken pipe")
        );
        let other = broken(Op::Read, io::ErrorKind::TimedOut);
        assert_eq!(other.code(), 1202);
        assert!(
            other.short().starts_with("read: unknown errno `"),
            "{}",
            other.short()
        );
    }

    #[test]
    fn errors_of_http2_have_a_code_for_each_of_its_own() {
        let of = |what, code| {
            let error = Error::new(ErrorKind::Http2(what, code));
            (error.code(), error.short())
        };
        assert_eq!(
            of(Http2Failure::GoAway, 11),
            (
                1622,
                "http2: received GoAway with http2 ErrCode ENHANCE_YOUR_CALM".into()
            )
        );
        assert_eq!(
            of(Http2Failure::Stream, 2),
            (
                1633,
                "http2: stream error with http2 ErrCode INTERNAL_ERROR".into()
            )
        );
        assert_eq!(of(Http2Failure::Connection, 0).0, 1651);
        assert_eq!(
            of(Http2Failure::Stream, 99),
            (
                1630,
                "http2: stream error with http2 ErrCode unknown error code 0x63".into()
            )
        );
    }

    fn errno_of(kind: io::ErrorKind) -> i32 {
        (1..200)
            .find(|&n| is(n, kind))
            .expect("the system has such an error")
    }
}
