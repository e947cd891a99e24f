//! How a call ends: a code and words, from the server or about what has happened to the call.

use std::fmt;

use bytes::Bytes;
use http::StatusCode as HttpStatus;

use crate::error::{Error, ErrorKind, Http2Failure, http2_code};

/// A code of gRPC; servers may use others than those that have a name.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct StatusCode(pub u32);

/// Names of the codes, by their numbers.
const NAMES: [&str; 17] = [
    "OK",
    "Canceled",
    "Unknown",
    "InvalidArgument",
    "DeadlineExceeded",
    "NotFound",
    "AlreadyExists",
    "PermissionDenied",
    "ResourceExhausted",
    "FailedPrecondition",
    "Aborted",
    "OutOfRange",
    "Unimplemented",
    "Internal",
    "Unavailable",
    "DataLoss",
    "Unauthenticated",
];

#[allow(missing_docs)] // The names say it.
impl StatusCode {
    pub const OK: Self = Self(0);
    pub const CANCELED: Self = Self(1);
    pub const UNKNOWN: Self = Self(2);
    pub const DEADLINE_EXCEEDED: Self = Self(4);
    pub const PERMISSION_DENIED: Self = Self(7);
    pub const RESOURCE_EXHAUSTED: Self = Self(8);
    pub const UNIMPLEMENTED: Self = Self(12);
    pub const INTERNAL: Self = Self(13);
    pub const UNAVAILABLE: Self = Self(14);
    pub const UNAUTHENTICATED: Self = Self(16);
}

impl StatusCode {
    /// Every code that has a name.
    pub fn named() -> impl Iterator<Item = (Self, &'static str)> {
        (0..).map(Self).zip(NAMES)
    }
}

impl fmt::Display for StatusCode {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match NAMES.get(self.0 as usize) {
            Some(name) => f.write_str(name),
            None => write!(f, "Code({})", self.0),
        }
    }
}

/// How a call has ended. Shows as Go's `rpc error: code = NotFound desc = no such thing`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Status {
    /// The code.
    pub code: StatusCode,
    /// What is said about it.
    pub message: String,
    /// A `google.rpc.Status` in its binary form, where the server has sent one.
    pub details: Bytes,
}

impl Status {
    pub(super) fn new(code: StatusCode, message: impl Into<String>) -> Self {
        Self {
            code,
            message: message.into(),
            details: Bytes::new(),
        }
    }

    /// Whether all went well.
    pub fn is_ok(&self) -> bool {
        self.code == StatusCode::OK
    }

    /// The caller's time is over.
    pub(super) fn late() -> Self {
        Self::new(StatusCode::DEADLINE_EXCEEDED, "context deadline exceeded")
    }

    /// The caller has given up.
    pub(super) fn cancelled() -> Self {
        Self::new(StatusCode::CANCELED, "context canceled")
    }

    /// A stream or its connection has failed.
    pub(super) fn of(error: &Error) -> Self {
        let lost = |cause: &str| {
            let text = format!("error reading from server: {cause}");
            Self::new(StatusCode::UNAVAILABLE, text)
        };
        match error.kind() {
            ErrorKind::Http2(Http2Failure::Stream, code) => Self::new(
                of_reset(*code),
                format!(
                    "stream terminated by RST_STREAM with error code: {}",
                    http2_code(*code)
                ),
            ),
            ErrorKind::Http2(Http2Failure::GoAway, code) => Self::new(
                StatusCode::UNAVAILABLE,
                format!(
                    "closing transport due to: connection error: desc = \"error reading from \
                     server: EOF\", received prior goaway: code: {}",
                    http2_code(*code)
                ),
            ),
            ErrorKind::Http2(Http2Failure::Connection, code) => {
                lost(&format!("connection error: {}", http2_code(*code)))
            }
            ErrorKind::Eof | ErrorKind::UnexpectedEof => lost("EOF"),
            ErrorKind::Other(text) if text == CLOSING => Self::new(StatusCode::CANCELED, CLOSING),
            _ => lost(&error.raw()),
        }
    }

    /// The answer is none of gRPC: a status of HTTP, and what its `content-type` says.
    pub(super) fn of_http(status: HttpStatus, content_type: Option<&str>) -> Self {
        let code = match status.as_u16() {
            400 => StatusCode::INTERNAL,
            401 => StatusCode::UNAUTHENTICATED,
            403 => StatusCode::PERMISSION_DENIED,
            404 => StatusCode::UNIMPLEMENTED,
            429 | 502 | 503 | 504 => StatusCode::UNAVAILABLE,
            _ => StatusCode::UNKNOWN,
        };
        let mut faults = Vec::new();
        if status != HttpStatus::OK {
            faults.push(format!(
                "unexpected HTTP status code received from server: {} ({})",
                status.as_u16(),
                status.canonical_reason().unwrap_or_default()
            ));
        }
        match content_type {
            None => faults.push("malformed header: missing HTTP content-type".into()),
            Some(kind) if !is_grpc(kind) => faults.push(format!(
                "transport: received unexpected content-type {}",
                crate::url::quote(kind)
            )),
            Some(_) => {}
        }
        Self::new(code, faults.join("; "))
    }
}

impl fmt::Display for Status {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "rpc error: code = {} desc = {}", self.code, self.message)
    }
}

/// Why a connection has ended that its owner closed.
pub(super) const CLOSING: &str = "grpc: the client connection is closing";

/// Whether a `content-type` is gRPC's: `application/grpc`, also with `+proto` or parameters.
pub(super) fn is_grpc(kind: &str) -> bool {
    let kind = kind.to_ascii_lowercase();
    let rest = kind.strip_prefix("application/grpc");
    rest.is_some_and(|rest| rest.is_empty() || rest.starts_with(['+', ';']))
}

/// What the code of an RST_STREAM means for the call (PROTOCOL-HTTP2.md, "Errors", as Go's library
/// has it).
fn of_reset(code: u32) -> StatusCode {
    match code {
        3 | 11 => StatusCode::RESOURCE_EXHAUSTED,
        5 => StatusCode::UNKNOWN,
        7 => StatusCode::UNAVAILABLE,
        8 => StatusCode::CANCELED,
        12 => StatusCode::PERMISSION_DENIED,
        0..=13 => StatusCode::INTERNAL,
        _ => StatusCode::UNKNOWN,
    }
}

/// The text of a `grpc-message`, in which bytes are percent-encoded that HTTP would not carry; what
/// is no escape stays as it is.
pub(super) fn unescape(text: &[u8]) -> String {
    let hex = |byte: u8| char::from(byte).to_digit(16);
    let mut plain = Vec::with_capacity(text.len());
    let mut rest = text;
    while let Some((&byte, after)) = rest.split_first() {
        rest = after;
        match after {
            [high, low, after @ ..] if byte == b'%' => match (hex(*high), hex(*low)) {
                (Some(high), Some(low)) => {
                    plain.push((high * 16 + low) as u8);
                    rest = after;
                }
                _ => plain.push(byte),
            },
            _ => plain.push(byte),
        }
    }
    String::from_utf8_lossy(&plain).into_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn messages_are_unescaped_and_what_is_no_escape_stays() {
        assert_eq!(unescape(b"no%20such%0Athing"), "no such\nthing");
        assert_eq!(unescape(b"caf%C3%A9 %zz 100% %4"), "café %zz 100% %4");
        assert_eq!(unescape(b"%ff"), "\u{fffd}");
    }

    #[test]
    fn statuses_show_as_in_go() {
        let status = Status::new(StatusCode(5), "gone");
        assert_eq!(status.to_string(), "rpc error: code = NotFound desc = gone");
        let status = Status::new(StatusCode(99), "");
        assert_eq!(status.to_string(), "rpc error: code = Code(99) desc = ");
    }

    #[test]
    fn each_reset_has_its_code() {
        let codes: Vec<u32> = (0..15).map(|code| of_reset(code).0).collect();
        assert_eq!(
            codes,
            [13, 13, 13, 8, 13, 2, 13, 14, 1, 13, 13, 8, 7, 13, 2]
        );
    }

    #[test]
    fn answers_of_other_servers_say_what_they_are() {
        let text = |status: u16, kind| {
            let status = HttpStatus::from_u16(status).expect("a status");
            let status = Status::of_http(status, kind);
            (status.code.0, status.message)
        };
        assert_eq!(
            text(404, Some("text/html")),
            (
                12,
                "unexpected HTTP status code received from server: 404 (Not Found); transport: \
                 received unexpected content-type \"text/html\""
                    .into()
            )
        );
        assert_eq!(
            text(200, None),
            (2, "malformed header: missing HTTP content-type".into())
        );
        assert_eq!(
            text(503, Some("application/grpc+proto")).1,
            "unexpected HTTP status code received from server: 503 (Service Unavailable)"
        );
        assert!(is_grpc("application/grpc; charset=utf-8") && !is_grpc("application/grpc-web"));
    }
}
