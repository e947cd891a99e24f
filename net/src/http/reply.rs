//! A response of HTTP/1 as it comes in: head by httparse, body as its framing says.
//!
//! A [`Reply`] is fed whatever the socket had, and keeps nothing but an incomplete head: body
//! bytes go straight to the trip. So a connection needs no buffer of its own, which is what makes
//! ten thousand idle ones cheap. Texts of errors are those of Go's client, because scripts and
//! people compare them.

use std::borrow::Cow;

use bytes::Bytes;
use http::{
    HeaderMap, HeaderName, HeaderValue, StatusCode,
    header::{CONNECTION, CONTENT_LENGTH, TRANSFER_ENCODING},
};

use super::{
    chunked::Chunked,
    exchange::{Proto, Response},
    trip::Trip,
};
use crate::{error::ErrorKind, url::quote};

/// Longest head of a response; Go's client has the same.
const HEAD_MAX: usize = 10 << 20;
/// Up to this size an incomplete head is looked at whenever something comes, so that nonsense is
/// noticed at once; a longer one only when it is complete, because looking costs its length.
const HEAD_EAGER: usize = 64 << 10;
/// So much of a malformed line an error shows.
const LINE_SHOWN: usize = 256;
/// So many headers are parsed without an allocation.
const FEW_HEADERS: usize = 64;

/// What has come of a response.
#[derive(Debug)]
pub(super) struct Reply {
    state: State,
    /// The response has no body whatever its head says: it answers a HEAD or a CONNECT.
    bodiless: bool,
    keep: bool,
}

#[derive(Debug)]
enum State {
    /// What there is of an incomplete head.
    Head(Vec<u8>),
    /// So many bytes are missing of the body.
    Exact(u64),
    Chunked(Chunked),
    UntilClose,
    Done,
}

impl Reply {
    /// To a request of this method.
    pub(super) fn to(method: &http::Method) -> Self {
        Self {
            state: State::Head(Vec::new()),
            bodiless: matches!(*method, http::Method::HEAD | http::Method::CONNECT),
            keep: false,
        }
    }

    /// Whether nothing more belongs to it.
    pub(super) fn is_done(&self) -> bool {
        matches!(self.state, State::Done)
    }

    /// Whether the connection can be used again, once it is done.
    pub(super) fn keeps_connection(&self) -> bool {
        self.keep && self.is_done()
    }

    /// Takes what came next.
    ///
    /// # Errors
    ///
    /// It is no response, or breaks the rules of its framing.
    pub(super) fn feed(&mut self, mut bytes: &[u8], trip: &mut Trip) -> Result<(), ErrorKind> {
        while !bytes.is_empty() {
            match &mut self.state {
                State::Head(_) => bytes = self.head(bytes, trip)?,
                State::Exact(left) => {
                    let part = bytes
                        .len()
                        .min(usize::try_from(*left).unwrap_or(usize::MAX));
                    trip.push_slice(&bytes[..part]);
                    bytes = &bytes[part..];
                    *left -= part as u64;
                    if *left == 0 {
                        self.state = State::Done;
                    }
                }
                State::Chunked(chunked) => {
                    bytes = chunked.feed(bytes, trip)?;
                    if chunked.is_done() {
                        self.state = State::Done;
                    }
                }
                State::UntilClose => {
                    trip.push_slice(bytes);
                    return Ok(());
                }
                State::Done => {
                    // Whatever it is, it is no answer to a request that has not been sent.
                    self.keep = false;
                    return Ok(());
                }
            }
        }
        Ok(())
    }

    /// The peer has closed the connection.
    ///
    /// # Errors
    ///
    /// Something is missing.
    pub(super) fn end(&mut self, begun: bool) -> Result<(), ErrorKind> {
        self.keep = false;
        match self.state {
            State::UntilClose | State::Done => {
                self.state = State::Done;
                Ok(())
            }
            State::Head(_) if !begun => Err(ErrorKind::Eof),
            _ => Err(ErrorKind::UnexpectedEof),
        }
    }

    /// Takes what belongs to the head and returns the rest.
    fn head<'a>(&mut self, bytes: &'a [u8], trip: &mut Trip) -> Result<&'a [u8], ErrorKind> {
        let State::Head(kept) = &mut self.state else {
            unreachable!("asked for within a head only");
        };
        if kept.is_empty() {
            return match Head::parse(bytes)? {
                Some(head) => {
                    let rest = &bytes[head.length..];
                    self.begin(head, trip)?;
                    Ok(rest)
                }
                None => {
                    kept.extend_from_slice(bytes);
                    Ok(&[])
                }
            };
        }
        let before = kept.len();
        kept.extend_from_slice(bytes);
        if kept.len() > HEAD_MAX {
            return Err(ErrorKind::Other(format!(
                "net/http: server response headers exceeded {HEAD_MAX} bytes; aborted"
            )));
        }
        let worth = if kept.len() <= HEAD_EAGER {
            bytes.contains(&b'\n')
        } else {
            ends_head(&kept[before.saturating_sub(3)..])
        };
        if !worth {
            return Ok(&[]);
        }
        match Head::parse(kept)? {
            Some(head) => {
                let rest = &bytes[head.length - before..];
                self.begin(head, trip)?;
                Ok(rest)
            }
            None => Ok(&[]),
        }
    }

    /// A head is complete: what follows, and the response without its body.
    fn begin(&mut self, head: Head, trip: &mut Trip) -> Result<(), ErrorKind> {
        let code = head.status.as_u16();
        if head.status.is_informational() && code != 101 {
            // The answer proper is still to come.
            self.state = State::Head(Vec::new());
            return Ok(());
        }
        self.keep = head.keeps_connection();
        self.state = if self.bodiless || matches!(code, 101 | 204 | 304) {
            // What follows 101 is not HTTP.
            self.keep &= code != 101;
            State::Done
        } else {
            head.framing()?
        };
        let length = match self.state {
            State::Exact(0) => {
                self.state = State::Done;
                0
            }
            State::Exact(length) => length,
            State::UntilClose => {
                self.keep = false;
                0
            }
            _ => 0,
        };
        trip.head(head.response(), length);
        Ok(())
    }
}

/// Whether an empty line ends within.
fn ends_head(bytes: &[u8]) -> bool {
    bytes.windows(2).any(|pair| pair == b"\n\n") || bytes.windows(3).any(|three| three == b"\n\r\n")
}

/// A complete head.
struct Head {
    /// In bytes, the empty line included.
    length: usize,
    /// Of 1.x.
    minor: u8,
    status: StatusCode,
    reason: Cow<'static, str>,
    headers: HeaderMap,
}

impl Head {
    /// `None` while it is incomplete.
    fn parse(bytes: &[u8]) -> Result<Option<Self>, ErrorKind> {
        let lines = bytes.iter().filter(|byte| **byte == b'\n').count();
        if lines <= FEW_HEADERS {
            Self::parse_into(bytes, &mut [httparse::EMPTY_HEADER; FEW_HEADERS])
        } else {
            Self::parse_into(bytes, &mut vec![httparse::EMPTY_HEADER; lines])
        }
    }

    fn parse_into<'a>(
        bytes: &'a [u8],
        room: &mut [httparse::Header<'a>],
    ) -> Result<Option<Self>, ErrorKind> {
        let mut parsed = httparse::Response::new(room);
        let length = match parsed.parse(bytes) {
            Ok(httparse::Status::Complete(length)) => length,
            Ok(httparse::Status::Partial) => return Ok(None),
            Err(error) => return Err(malformed(bytes, error)),
        };
        let (Some(code), Some(minor)) = (parsed.code, parsed.version) else {
            unreachable!("a complete head has both");
        };
        let status =
            StatusCode::from_u16(code).map_err(|_| malformed(bytes, httparse::Error::Status))?;
        let reason = parsed.reason.unwrap_or_default();
        let reason = match status.canonical_reason() {
            Some(usual) if usual == reason => Cow::Borrowed(usual),
            _ => Cow::Owned(reason.to_owned()),
        };
        // One copy that all values share.
        let shared = Bytes::copy_from_slice(&bytes[..length]);
        let mut headers = HeaderMap::with_capacity(parsed.headers.len());
        for header in parsed.headers.iter() {
            let wrong = || mime(format!("{}: …", header.name));
            let name = HeaderName::from_bytes(header.name.as_bytes()).map_err(|_| wrong())?;
            let at = header.value.as_ptr().addr() - bytes.as_ptr().addr();
            let value = shared.slice(at..at + header.value.len());
            let value = HeaderValue::from_maybe_shared(value).map_err(|_| wrong())?;
            headers
                .try_append(name, value)
                .map_err(|_| ErrorKind::Malformed("too many headers".into()))?;
        }
        Ok(Some(Self {
            length,
            minor,
            status,
            reason,
            headers,
        }))
    }

    fn keeps_connection(&self) -> bool {
        let says = |word: &str| {
            let lines = self.headers.get_all(CONNECTION).iter();
            lines
                .filter_map(|line| line.to_str().ok())
                .flat_map(|line| line.split(','))
                .any(|said| said.trim().eq_ignore_ascii_case(word))
        };
        if self.minor == 0 {
            says("keep-alive") && !says("close")
        } else {
            !says("close")
        }
    }

    /// How the end of the body is found (RFC 9112, 6.3).
    fn framing(&self) -> Result<State, ErrorKind> {
        let mut codings = self.headers.get_all(TRANSFER_ENCODING).iter();
        // A server of HTTP/1.0 cannot mean it, and Go does not believe it.
        if self.minor > 0
            && let Some(coding) = codings.next()
        {
            let chunked = coding.as_bytes().eq_ignore_ascii_case(b"chunked");
            if chunked && codings.next().is_none() {
                return Ok(State::Chunked(Chunked::default()));
            }
            let text = String::from_utf8_lossy(coding.as_bytes());
            return Err(ErrorKind::Malformed(if chunked {
                "too many transfer encodings".into()
            } else {
                format!("unsupported transfer encoding {}", quote(&text))
            }));
        }
        let mut lengths = self.headers.get_all(CONTENT_LENGTH).iter();
        let Some(first) = lengths.next() else {
            return Ok(State::UntilClose);
        };
        if lengths.any(|other| other != first) {
            let all = self.headers.get_all(CONTENT_LENGTH).iter();
            let all: Vec<String> = all
                .map(|value| quote(&String::from_utf8_lossy(value.as_bytes())).to_string())
                .collect();
            return Err(ErrorKind::Malformed(format!(
                "http: message cannot contain multiple Content-Length headers; got [{}]",
                all.join(" ")
            )));
        }
        let text = String::from_utf8_lossy(first.as_bytes());
        let digits = !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit());
        match text.parse() {
            Ok(length) if digits => Ok(State::Exact(length)),
            _ => Err(ErrorKind::Malformed(format!(
                "bad Content-Length {}",
                quote(&text)
            ))),
        }
    }

    fn response(self) -> Response {
        Response {
            status: self.status.as_u16(),
            reason: self.reason,
            proto: match self.minor {
                0 => Proto::Http10,
                _ => Proto::Http11,
            },
            headers: self.headers,
            body: Bytes::new(),
        }
    }
}

/// What is wrong with a head, in Go's words.
fn malformed(bytes: &[u8], error: httparse::Error) -> ErrorKind {
    let line = |bytes: &[u8]| {
        let line = bytes
            .split(|byte| *byte == b'\n')
            .next()
            .unwrap_or_default();
        let line = line.strip_suffix(b"\r").unwrap_or(line);
        String::from_utf8_lossy(&line[..line.len().min(LINE_SHOWN)]).into_owned()
    };
    let first = line(bytes);
    let mut words = first.splitn(3, ' ');
    let (version, code) = (words.next().unwrap_or_default(), words.next());
    let header_error = matches!(
        error,
        httparse::Error::HeaderName
            | httparse::Error::HeaderValue
            | httparse::Error::TooManyHeaders
    );
    ErrorKind::Malformed(match code {
        _ if !first.starts_with("HTTP/") => format!("malformed HTTP response {}", quote(&first)),
        None => format!("malformed HTTP response {}", quote(&first)),
        Some(_) if !matches!(version, "HTTP/1.0" | "HTTP/1.1") => {
            format!("malformed HTTP version {}", quote(version))
        }
        Some(code) if code.len() != 3 || !code.bytes().all(|byte| byte.is_ascii_digit()) => {
            format!("malformed HTTP status code {}", quote(code))
        }
        Some(_) if !header_error => format!("malformed HTTP response {}", quote(&first)),
        Some(_) => {
            let wrong = bytes
                .split(|byte| *byte == b'\n')
                .skip(1)
                .find(|line| !is_header(line))
                .unwrap_or_default();
            return mime(line(wrong));
        }
    })
}

fn mime(line: String) -> ErrorKind {
    ErrorKind::Malformed(format!("malformed MIME header line: {line}"))
}

/// Whether a line has a name, a colon, and nothing that must not be in a value.
fn is_header(line: &[u8]) -> bool {
    let line = line.strip_suffix(b"\r").unwrap_or(line);
    let Some(colon) = line.iter().position(|byte| *byte == b':') else {
        return line.is_empty();
    };
    HeaderName::from_bytes(&line[..colon]).is_ok()
        && HeaderValue::from_bytes(&line[colon + 1..]).is_ok()
}

#[cfg(test)]
mod tests;
