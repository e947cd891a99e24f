//! What goes into a client and what comes out: requests, responses, hops and their timings.
//!
//! An [`Exchange`] is everything that happened for one request of a script: one [`Hop`] for each
//! round trip on the way (redirects make several), and the response at the end. Bodies are
//! `Bytes` that may share the buffer they were received in, so nothing is copied until somebody
//! reads them.

use std::{borrow::Cow, net::SocketAddr, rc::Rc, time::Duration, time::Instant};

use bytes::Bytes;
use http::HeaderMap;

use super::auth::Auth;
use crate::{
    cookie::{CookieJar, SetCookie},
    error::Error,
    tls::Ocsp,
    url::Url,
};

/// One request as a script asks for it.
#[derive(Clone, Debug)]
pub struct Request {
    /// Sent verbatim.
    pub method: Cow<'static, str>,
    /// Where to.
    pub url: Url,
    /// Header names and values in order of sending; a later name replaces an equal earlier one,
    /// case aside. `Host` sets the authority, an empty `User-Agent` sends none;
    /// `Content-Length`, `Transfer-Encoding` and `Trailer` are ignored.
    pub headers: Vec<(String, String)>,
    /// `None` sends no body; `Some` of nothing sends `Content-Length: 0`.
    pub body: Option<Bytes>,
    /// Sent in place of `body`, which then is what the exchange shows: the packed form.
    pub packed: Option<Bytes>,
    /// For everything, redirects and bodies included; zero is over at once.
    pub timeout: Duration,
    /// How many redirects to follow.
    pub redirects: u32,
    /// Used instead of the client's jar for sending and storing.
    pub jar: Option<Rc<CookieJar>>,
    /// Sent with every hop, stored nowhere.
    pub cookies: Vec<RequestCookie>,
    /// What the credentials of the URL are used for.
    pub auth: Auth,
    /// Reads the body and keeps nothing of it.
    pub discard_body: bool,
}

impl Request {
    /// A request without headers, body or cookies, with k6's defaults: 60 s, 10 redirects.
    pub fn new(method: impl Into<Cow<'static, str>>, url: Url) -> Self {
        Self {
            method: method.into(),
            url,
            headers: Vec::new(),
            body: None,
            packed: None,
            timeout: Duration::from_secs(60),
            redirects: 10,
            jar: None,
            cookies: Vec::new(),
            auth: Auth::Basic,
            discard_body: false,
        }
    }

    /// The value of a header that the script set; of equal names the last.
    pub fn header(&self, name: &str) -> Option<&str> {
        let mut named = self.headers.iter().rev();
        named
            .find(|(known, _)| known.eq_ignore_ascii_case(name))
            .map(|(_, value)| value.as_str())
    }
}

/// A cookie for one request.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RequestCookie {
    /// Name.
    pub name: String,
    /// Value.
    pub value: String,
    /// Whether it takes the place of the jar's cookie of this name, instead of preceding it.
    pub replace: bool,
}

/// Everything that happened for one [`Request`].
#[derive(Debug)]
pub struct Exchange {
    /// The request, handed back.
    pub request: Request,
    /// The `Cookie` header of the first hop.
    pub cookie: Option<String>,
    /// The `User-Agent` of the request, when one was sent.
    pub user_agent: Option<String>,
    /// Round trips that ended in a followed redirect or a challenge that was met, in order; empty,
    /// and not allocated, for most requests.
    pub earlier: Vec<Hop>,
    /// The last round trip. Its error is the error of the exchange.
    pub last: Hop,
    /// Head and body of the last hop. Beside an error it holds what had arrived of the body
    /// before; `None` when not even a head had.
    pub response: Option<Response>,
    /// Whether the response is a redirect that was not followed for the limit alone.
    pub redirect_limit_reached: bool,
}

impl Exchange {
    /// Why it failed, if it did.
    pub fn error(&self) -> Option<&Error> {
        self.last.error.as_ref()
    }

    /// The headers of the first hop as sent, names canonical, without `Host`, `Content-Length`
    /// and the `Authorization` made from the URL's credentials.
    pub fn request_headers(&self) -> Vec<(String, String)> {
        let mut headers: Vec<(String, String)> = Vec::new();
        if let Some(agent) = &self.user_agent {
            headers.push(("User-Agent".into(), agent.clone()));
        }
        for (name, value) in &self.request.headers {
            let name = canonical(name);
            if super::head::written_elsewhere(&name) {
                continue;
            }
            match headers.iter_mut().find(|(known, _)| *known == name) {
                Some((_, old)) => old.clone_from(value),
                None => headers.push((name, value.clone())),
            }
        }
        if let Some(cookie) = &self.cookie {
            headers.push(("Cookie".into(), cookie.clone()));
        }
        headers
    }
}

/// One round trip: a request sent (or tried) and what became of it.
#[derive(Clone, Debug)]
pub struct Hop {
    /// As sent for this hop.
    pub url: Url,
    /// Whether it was a step of authentication, whose 401 was to be expected.
    pub handshake: bool,
    /// As sent for this hop.
    pub method: Cow<'static, str>,
    /// Status code; 0 when there was an error.
    pub status: u16,
    /// Protocol of the response; `None` when there was an error.
    pub proto: Option<Proto>,
    /// How long each phase took.
    pub timings: Timings,
    /// What went wrong.
    pub error: Option<Error>,
    /// The peer, once connected.
    pub remote: Option<SocketAddr>,
    /// The session, when the connection is TLS.
    pub tls: Option<TlsInfo>,
    /// When the hop was over: the time of its samples.
    pub end: Instant,
}

/// Protocol of a response.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Proto {
    /// HTTP/1.0.
    Http10,
    /// HTTP/1.1.
    Http11,
    /// HTTP/2.
    Http2,
}

impl Proto {
    /// As tags and responses show it.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Http10 => "HTTP/1.0",
            Self::Http11 => "HTTP/1.1",
            Self::Http2 => "HTTP/2.0",
        }
    }
}

/// A TLS session.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TlsInfo {
    /// `tls1.2` or `tls1.3`.
    pub version: &'static str,
    /// IANA name of the cipher suite, `TLS_AES_256_GCM_SHA384`.
    pub cipher: &'static str,
    /// What the server stapled about its certificate, if anything that can be read.
    pub ocsp: Option<Ocsp>,
}

impl TlsInfo {
    /// The status of the certificate: `good`, `revoked` or `unknown`.
    pub fn ocsp_status(&self) -> &'static str {
        self.ocsp.map_or("unknown", |ocsp| ocsp.status)
    }
}

/// How long each phase of a round trip took; zero for a phase that did not happen.
///
/// On a reused connection `blocked`, `connecting` and `tls_handshaking` are zero. When the
/// connection could not be made all are zero, save those of a handshake that failed.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Timings {
    /// From asking for a connection to having one: name service, TCP and TLS included.
    pub blocked: Duration,
    /// TCP connection, after the name service.
    pub connecting: Duration,
    /// TLS handshake.
    pub tls_handshaking: Duration,
    /// From having the connection to the last byte of the request handed to the kernel; when
    /// that never came, to the end.
    pub sending: Duration,
    /// From the request sent to the first byte of the response; when none came, to the end; zero
    /// when the response began before the request was sent.
    pub waiting: Duration,
    /// From the first byte of the response to the end of its body.
    pub receiving: Duration,
}

impl Timings {
    /// k6's `http_req_duration`: sending, waiting and receiving.
    pub fn duration(&self) -> Duration {
        self.sending + self.waiting + self.receiving
    }
}

/// Head and body of a response.
#[derive(Clone, Debug)]
pub struct Response {
    /// Status code.
    pub status: u16,
    /// Reason phrase: the server's own, else the usual one for the code, else empty.
    pub reason: Cow<'static, str>,
    /// Protocol.
    pub proto: Proto,
    /// Headers in order of arrival, names in lower case; see [`canonical`].
    pub headers: HeaderMap,
    /// The body; empty when it was discarded, cut short when the hop failed within it.
    pub body: Bytes,
}

impl Response {
    /// The cookies this response set, readable ones only, in order.
    pub fn cookies(&self) -> Vec<SetCookie> {
        let lines = self.headers.get_all(http::header::SET_COOKIE).iter();
        lines
            .filter_map(|v| SetCookie::parse(&String::from_utf8_lossy(v.as_bytes())))
            .collect()
    }
}

/// A header name as scripts see it: a capital at the start and after each hyphen
/// (`Etag`, `X-Lower-Case`).
pub fn canonical(name: &str) -> String {
    let mut out = String::with_capacity(name.len());
    let mut capital = true;
    for c in name.chars() {
        out.push(if capital {
            c.to_ascii_uppercase()
        } else {
            c.to_ascii_lowercase()
        });
        capital = c == '-';
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn header_names_are_capitalised_by_word() {
        for (name, expected) in [
            ("etag", "Etag"),
            ("x-lower-case", "X-Lower-Case"),
            ("WWW-AUTHENTICATE", "Www-Authenticate"),
            ("", ""),
        ] {
            assert_eq!(canonical(name), expected);
        }
    }
}
