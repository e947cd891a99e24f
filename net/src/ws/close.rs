//! How a WebSocket ends.

use std::fmt;

use super::frames::CONTROL_MAX;

/// Names of codes, as errors show them.
const NAMES: &[(u16, &str)] = &[
    (1000, "normal"),
    (1001, "going away"),
    (1002, "protocol error"),
    (1003, "unsupported data"),
    (Close::NO_STATUS, "no status"),
    (Close::ABNORMAL, "abnormal closure"),
    (1007, "invalid payload data"),
    (1008, "policy violation"),
    (1009, "message too big"),
    (1010, "mandatory extension missing"),
    (1011, "internal server error"),
    (1015, "TLS handshake error"),
];

/// What a peer says when it closes. Displays as `websocket: close 4001: bye`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Close {
    /// The code; [`Close::NO_STATUS`] when the peer gave none.
    pub code: u16,
    /// The reason; may be empty.
    pub reason: String,
}

impl Close {
    /// What a peer means that gives no code.
    pub const NO_STATUS: u16 = 1005;
    /// The code of a connection that has ended without being closed.
    pub const ABNORMAL: u16 = 1006;

    /// Reads the payload of a frame.
    ///
    /// # Errors
    /// What is wrong with it.
    pub(super) fn parse(payload: &[u8]) -> Result<Self, Error> {
        let Some((code, reason)) = payload.split_first_chunk() else {
            return Ok(Self {
                code: Self::NO_STATUS,
                reason: String::new(),
            });
        };
        let code = u16::from_be_bytes(*code);
        if !matches!(code, 1000..=1003 | 1007..=1013 | 3000..=4999) {
            return Err(Error::Protocol(format!("bad close code {code}")));
        }
        match std::str::from_utf8(reason) {
            Ok(reason) => Ok(Self {
                code,
                reason: reason.to_owned(),
            }),
            Err(_) => Err(Error::Protocol(
                "invalid utf8 payload in close frame".into(),
            )),
        }
    }
}

/// The payload of the frame for a code and a reason, which is cut to what a frame can hold.
pub(super) fn payload(code: u16, reason: &str) -> Vec<u8> {
    if code == Close::NO_STATUS {
        return Vec::new();
    }
    let mut length = reason.len().min(CONTROL_MAX - 2);
    while !reason.is_char_boundary(length) {
        length -= 1;
    }
    let mut payload = code.to_be_bytes().to_vec();
    payload.extend_from_slice(&reason.as_bytes()[..length]);
    payload
}

impl fmt::Display for Close {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "websocket: close {}", self.code)?;
        if let Some((_, name)) = NAMES.iter().find(|(code, _)| *code == self.code) {
            write!(f, " ({name})")?;
        }
        if !self.reason.is_empty() {
            write!(f, ": {}", self.reason)?;
        }
        Ok(())
    }
}

/// Why a WebSocket was not opened, or has failed.
#[derive(Clone, Debug, thiserror::Error)]
pub enum Error {
    /// The URL is no `ws://host…` or `wss://host…`, or has credentials.
    #[error("malformed ws or wss URL")]
    Url,
    /// A header that the handshake has itself.
    #[error("websocket: duplicate header not allowed: {0}")]
    Header(String),
    /// There was no answer of HTTP.
    #[error("{}", cause(.0))]
    Connect(crate::error::Error),
    /// The answer is not that of a WebSocket.
    #[error("websocket: bad handshake")]
    Handshake,
    /// The server packs messages in a way that was not offered.
    #[error("websocket: invalid compression negotiation")]
    Compression,
    /// The peer has gone without closing.
    #[error("websocket: close 1006 (abnormal closure): unexpected EOF")]
    Gone,
    /// The socket has failed.
    #[error("{0}")]
    Io(crate::error::Error),
    /// The peer does not keep to the protocol; the words say where.
    #[error("websocket: {0}")]
    Protocol(String),
    /// A message is larger than what the request allows.
    #[error("websocket: read limit exceeded")]
    TooLarge,
    /// A packed message cannot be unpacked.
    #[error("flate: corrupt input")]
    Deflate,
    /// A close frame has been sent, and nothing may follow it.
    #[error("websocket: close sent")]
    Closing,
}

/// Of an answer that is not HTTP, what was wrong with it alone.
fn cause(error: &crate::error::Error) -> String {
    match error.kind() {
        crate::error::ErrorKind::Malformed(text) => text.clone(),
        // The answer that was waited for had not come.
        crate::error::ErrorKind::Eof => "unexpected EOF".to_owned(),
        _ => error.raw(),
    }
}

impl Error {
    /// The code of the close frame that tells the peer; none when there is nobody to tell.
    pub(super) fn code(&self) -> Option<u16> {
        match self {
            Self::Protocol(_) | Self::Deflate => Some(1002),
            Self::TooLarge => Some(1009),
            _ => None,
        }
    }

    /// What that frame gives as the reason.
    pub(super) fn reason(&self) -> &str {
        match self {
            Self::Protocol(text) => text,
            _ => "",
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn codes_have_the_names_that_errors_show() {
        let text = |code, reason: &str| {
            let reason = reason.to_owned();
            Close { code, reason }.to_string()
        };
        assert_eq!(text(4001, "bye"), "websocket: close 4001: bye");
        assert_eq!(text(1000, ""), "websocket: close 1000 (normal)");
        assert_eq!(
            text(1011, "no"),
            "websocket: close 1011 (internal server error): no"
        );
    }

    #[test]
    fn what_a_close_frame_holds() {
        let parsed = |payload: &[u8]| Close::parse(payload).map_err(|e| e.to_string());
        let none = Close {
            code: 1005,
            reason: String::new(),
        };
        assert_eq!(parsed(b""), Ok(none.clone()));
        assert_eq!(parsed(b"\x03"), Ok(none));
        assert_eq!(
            parsed(&payload(3000, "why")),
            Ok(Close {
                code: 3000,
                reason: "why".into()
            })
        );
        for code in [0, 999, 1004, 1005, 1006, 1015, 2999, 5000] {
            let text = format!("websocket: bad close code {code}");
            assert_eq!(parsed(&u16::to_be_bytes(code)), Err(text));
        }
        assert_eq!(
            parsed(b"\x03\xe8\xff"),
            Err("websocket: invalid utf8 payload in close frame".into())
        );
    }

    #[test]
    fn reasons_are_cut_between_characters() {
        assert_eq!(payload(1005, "nothing"), b"");
        let long = "é".repeat(100);
        let cut = payload(1000, &long);
        assert_eq!(cut.len(), 2 + 122);
        assert!(std::str::from_utf8(&cut[2..]).is_ok());
    }
}
