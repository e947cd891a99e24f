//! URLs as load scripts mean them: checked like Go's `net/url`, never normalised.
//!
//! A load test must send the target that its author wrote: `/a/../b`, `//`, and existing
//! escapes stay byte for byte, and a query travels raw. So this is not the WHATWG parser of
//! the `url` crate, which rewrites all of these. Parsing happens once per distinct text
//! ([`Url::cached`]); what every request needs (host, port, request target, `Host` header) is
//! worked out there, so that sending a request to a known URL allocates nothing for it.

use std::{
    borrow::Cow,
    cell::RefCell,
    fmt,
    hash::{BuildHasher, BuildHasherDefault},
    ops::Range,
    sync::Arc,
};

use bytes::Bytes;
use http::{HeaderValue, Uri, uri::PathAndQuery};
use rustc_hash::FxHasher;

/// A parsed URL or relative reference. Cloning shares the parsed parts.
#[derive(Clone)]
pub struct Url(Arc<Parts>);

struct Parts {
    text: String,
    /// Lower case, empty for a relative reference.
    scheme: Cow<'static, str>,
    /// Where the authority stands in `text`; `None` when there is no `//`.
    authority: Option<Range<usize>>,
    /// Where the raw userinfo stands in `text`, without its `@`.
    userinfo: Option<Range<usize>>,
    user: Option<(String, Option<String>)>,
    /// Host without port and brackets, as written.
    host: String,
    /// Decimal digits as written; empty when absent.
    port: String,
    path: Range<usize>,
    query: Option<Range<usize>>,
    fragment: Option<Range<usize>>,
    /// `a:b` without `//`: a URL without host.
    opaque: bool,
    target: Target,
    host_header: Option<HeaderValue>,
}

/// The request target as it is sent.
pub(crate) enum Target {
    /// `http::Uri` takes it and writes it back unchanged.
    Plain(Uri),
    /// Holds bytes `http::Uri` refuses (space, `"`, non-ASCII…): HTTP/1 sends them as they are.
    Raw(Bytes),
}

/// Why a text is not a URL; displays as Go's `net/url` does, for example
/// `parse "127.0.0.1:80/x": first path segment in URL cannot contain colon`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct UrlError {
    text: String,
    reason: String,
}

impl UrlError {
    fn new(text: &str, reason: impl Into<String>) -> Self {
        Self {
            text: text.to_owned(),
            reason: reason.into(),
        }
    }

    /// The reason alone, without the text it is about.
    pub fn reason(&self) -> &str {
        &self.reason
    }
}

impl fmt::Display for UrlError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "parse {}: {}", quote(&self.text), self.reason)
    }
}

impl std::error::Error for UrlError {}

const CACHE_SLOTS: usize = 64;
/// Longer texts are not kept: a cache of 64 must stay small.
const CACHE_TEXT_MAX: usize = 2048;

thread_local! {
    static CACHE: RefCell<[Option<Url>; CACHE_SLOTS]> = const { RefCell::new([const { None }; CACHE_SLOTS]) };
}

impl Url {
    /// Parses a URL or relative reference.
    ///
    /// # Errors
    /// [`UrlError`] where Go's `url.Parse` fails: control characters, bad escapes, a bad port,
    /// a colon in the first segment of a relative path, and the like. A missing or unknown
    /// scheme is not an error here: it is one when the request is sent.
    pub fn parse(text: &str) -> Result<Self, UrlError> {
        let (before, fragment) = match text.find('#') {
            Some(at) => (&text[..at], Some(at + 1..text.len())),
            None => (text, None),
        };
        let mut parts = parse_without_fragment(text, before)?;
        if let Some(range) = &fragment
            && let Err(reason) = check_escapes(&text[range.clone()])
        {
            return Err(UrlError::new(text, reason));
        }
        parts.fragment = fragment;
        Ok(Self(Arc::new(parts)))
    }

    /// [`Url::parse`] through a small cache of this thread (64 entries, one per hash value): a
    /// script that asks for the same URL in every iteration parses it once.
    ///
    /// # Errors
    /// Those of [`Url::parse`]; failures are not kept.
    pub fn cached(text: &str) -> Result<Self, UrlError> {
        if text.len() > CACHE_TEXT_MAX {
            return Self::parse(text);
        }
        let slot = BuildHasherDefault::<FxHasher>::default().hash_one(text) as usize % CACHE_SLOTS;
        CACHE.with_borrow_mut(|cache| match &cache[slot] {
            Some(url) if url.0.text == text => Ok(url.clone()),
            _ => {
                let url = Self::parse(text)?;
                cache[slot] = Some(url.clone());
                Ok(url)
            }
        })
    }

    /// The text as given, fragment and credentials included.
    pub fn as_str(&self) -> &str {
        &self.0.text
    }

    /// The scheme in lower case; empty when there is none.
    pub fn scheme(&self) -> &str {
        &self.0.scheme
    }

    /// The host without port, brackets or credentials; empty when there is none.
    pub fn host(&self) -> &str {
        &self.0.host
    }

    /// The port as written, empty when there is none.
    pub fn port_text(&self) -> &str {
        &self.0.port
    }

    /// The port to connect to: the one written, else the scheme's (80, 443). `None` when
    /// neither gives a number below 65536.
    pub fn port(&self) -> Option<u16> {
        match (self.0.port.as_str(), self.scheme()) {
            ("", "https") => Some(443),
            ("", "http") => Some(80),
            (port, _) => port.parse().ok(),
        }
    }

    /// User and password, percent-decoded.
    pub fn userinfo(&self) -> Option<(&str, Option<&str>)> {
        self.0
            .user
            .as_ref()
            .map(|(user, word)| (user.as_str(), word.as_deref()))
    }

    /// The path as written; may be empty.
    pub fn path(&self) -> &str {
        &self.0.text[self.0.path.clone()]
    }

    /// The query as written, without its `?`.
    pub fn query(&self) -> Option<&str> {
        self.0.query.clone().map(|range| &self.0.text[range])
    }

    /// The fragment as written, without its `#`.
    pub fn fragment(&self) -> Option<&str> {
        self.0.fragment.clone().map(|range| &self.0.text[range])
    }

    /// What follows the method in the request line: the path with bytes that are illegal there
    /// percent-encoded (`/` when empty), then the query raw.
    pub fn target(&self) -> Cow<'_, str> {
        match &self.0.target {
            Target::Plain(uri) => {
                Cow::Borrowed(uri.path_and_query().map_or("/", PathAndQuery::as_str))
            }
            Target::Raw(bytes) => String::from_utf8_lossy(bytes),
        }
    }

    pub(crate) fn wire_target(&self) -> &Target {
        &self.0.target
    }

    /// The `Host` header that goes with this URL: host and port as written.
    /// What a proxy is asked for: the URL without credentials and fragment.
    pub(crate) fn absolute_target(&self) -> String {
        let host = self.host_header();
        let host = host.map_or(&b""[..], HeaderValue::as_bytes);
        let host = String::from_utf8_lossy(host);
        format!("{}://{host}{}", self.scheme(), self.target())
    }

    pub(crate) fn host_header(&self) -> Option<&HeaderValue> {
        self.0.host_header.as_ref()
    }

    /// Whether there is a scheme (a redirect target that has one starts over).
    pub fn is_absolute(&self) -> bool {
        !self.0.scheme.is_empty()
    }

    /// The text with credentials hidden, as tags show it: `http://****:****@host/`, and
    /// `http://****@host/` for a user alone.
    pub fn masked(&self) -> Cow<'_, str> {
        match self.userinfo() {
            None => Cow::Borrowed(self.as_str()),
            Some((_, None)) => Cow::Owned(self.with_userinfo("****@")),
            Some((_, Some(_))) => Cow::Owned(self.with_userinfo("****:****@")),
        }
    }

    /// The text with only the password hidden (`***`), as Go's errors show it.
    pub(crate) fn redacted(&self) -> Cow<'_, str> {
        match self.userinfo() {
            Some((user, Some(_))) => Cow::Owned(self.with_userinfo(&format!("{user}:***@"))),
            _ => Cow::Borrowed(self.as_str()),
        }
    }

    /// The text without credentials, as the `Referer` of the next hop shows it.
    pub(crate) fn without_userinfo(&self) -> Cow<'_, str> {
        match self.0.userinfo {
            Some(_) => Cow::Owned(self.with_userinfo("")),
            None => Cow::Borrowed(self.as_str()),
        }
    }

    fn with_userinfo(&self, shown: &str) -> String {
        let Some(range) = &self.0.userinfo else {
            return self.0.text.clone();
        };
        // The `@` after the userinfo belongs to what `shown` replaces.
        let (before, after) = (&self.0.text[..range.start], &self.0.text[range.end + 1..]);
        format!("{before}{shown}{after}")
    }

    /// Same scheme, host and effective port: one connection serves both.
    pub(crate) fn same_origin(&self, other: &Self) -> bool {
        Arc::ptr_eq(&self.0, &other.0)
            || (self.scheme() == other.scheme()
                && self.port() == other.port()
                && self.host().eq_ignore_ascii_case(other.host()))
    }

    /// Resolves a redirect's `Location` against this URL (RFC 3986 §5.2, dot segments removed,
    /// as Go's client does). A fragment comes from `location` alone.
    ///
    /// # Errors
    /// [`UrlError`] when `location` does not parse.
    pub fn join(&self, location: &str) -> Result<Self, UrlError> {
        let reference = Self::parse(location)?;
        if reference.0.opaque {
            return Ok(reference);
        }
        let own = &self.0.text;
        let mut out = String::with_capacity(own.len() + location.len());
        out.push_str(if reference.is_absolute() {
            reference.scheme()
        } else {
            self.scheme()
        });
        out.push(':');
        let tail = |out: &mut String, path: &str, query: Option<&str>| {
            out.push_str(path);
            if let Some(query) = query {
                out.push('?');
                out.push_str(query);
            }
        };
        if reference.is_absolute() || reference.0.authority.is_some() {
            if let Some(authority) = reference.0.authority.clone() {
                out.push_str("//");
                out.push_str(&reference.0.text[authority]);
            }
            tail(&mut out, &remove_dots(reference.path()), reference.query());
        } else {
            if let Some(authority) = self.0.authority.clone() {
                out.push_str("//");
                out.push_str(&own[authority]);
            }
            if reference.path().is_empty() {
                let query = reference.query().or(self.query());
                tail(&mut out, &remove_dots(self.path()), query);
            } else if reference.path().starts_with('/') {
                tail(&mut out, &remove_dots(reference.path()), reference.query());
            } else {
                let base = self.path();
                let folder = &base[..base.rfind('/').map_or(0, |at| at + 1)];
                let merged = format!("{folder}{}", reference.path());
                tail(&mut out, &remove_dots(&merged), reference.query());
            }
        }
        if let Some(fragment) = reference.fragment() {
            out.push('#');
            out.push_str(fragment);
        }
        Self::parse(&out)
    }
}

impl fmt::Debug for Url {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(self.as_str(), f)
    }
}

impl fmt::Display for Url {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

impl PartialEq for Url {
    fn eq(&self, other: &Self) -> bool {
        self.as_str() == other.as_str()
    }
}

impl Eq for Url {}

/// `text` is the whole URL (kept), `url` its part before the fragment (parsed, and named by
/// errors, as in Go).
fn parse_without_fragment(text: &str, url: &str) -> Result<Parts, UrlError> {
    let fail = |reason: &str| UrlError::new(url, reason);
    if url.bytes().any(|b| b < 0x20 || b == 0x7f) {
        return Err(fail("net/url: invalid control character in URL"));
    }
    let scheme_end = scheme_end(url).map_err(fail)?;
    let scheme: Cow<'static, str> = match scheme_end {
        Some(end) => match url[..end].to_ascii_lowercase().as_str() {
            "http" => Cow::Borrowed("http"),
            "https" => Cow::Borrowed("https"),
            other => Cow::Owned(other.to_owned()),
        },
        None => Cow::Borrowed(""),
    };
    let start = scheme_end.map_or(0, |end| end + 1);
    let (rest, query) = match url[start..].find('?') {
        Some(at) => (start..start + at, Some(start + at + 1..url.len())),
        None => (start..url.len(), None),
    };
    let mut parts = Parts {
        text: text.to_owned(),
        scheme,
        authority: None,
        userinfo: None,
        user: None,
        host: String::new(),
        port: String::new(),
        path: rest.clone(),
        query,
        fragment: None,
        opaque: false,
        target: Target::Plain(Uri::from_static("/")),
        host_header: None,
    };
    let hierarchical = &url[rest.clone()];
    if !hierarchical.starts_with('/') && url != "*" {
        if !parts.scheme.is_empty() {
            parts.opaque = true;
            return Ok(parts);
        }
        let segment = hierarchical.split('/').next().unwrap_or_default();
        if segment.contains(':') {
            return Err(fail("first path segment in URL cannot contain colon"));
        }
    }
    if hierarchical.starts_with("//")
        && (!parts.scheme.is_empty() || !hierarchical.starts_with("///"))
    {
        let from = rest.start + 2;
        let to = url[from..rest.end]
            .find('/')
            .map_or(rest.end, |at| from + at);
        parse_authority(url, from..to, &mut parts).map_err(|reason| UrlError::new(url, reason))?;
        parts.path = to..rest.end;
    }
    check_escapes(&url[parts.path.clone()]).map_err(|reason| UrlError::new(url, reason))?;
    parts.target = target_of(
        &url[parts.path.clone()],
        parts.query.clone().map(|q| &url[q]),
    );
    Ok(parts)
}

/// Where the scheme ends (the place of its colon), when the text starts with one.
fn scheme_end(url: &str) -> Result<Option<usize>, &'static str> {
    for (at, byte) in url.bytes().enumerate() {
        match byte {
            b'a'..=b'z' | b'A'..=b'Z' => {}
            b'0'..=b'9' | b'+' | b'-' | b'.' if at > 0 => {}
            b':' if at == 0 => return Err("missing protocol scheme"),
            b':' => return Ok(Some(at)),
            _ => return Ok(None),
        }
    }
    Ok(None)
}

fn parse_authority(url: &str, range: Range<usize>, parts: &mut Parts) -> Result<(), String> {
    let authority = &url[range.clone()];
    let host_start = match authority.rfind('@') {
        Some(at) => {
            let raw = &authority[..at];
            if !raw
                .bytes()
                .all(|b| b.is_ascii_alphanumeric() || b"-._:~!$&'()*+,;=%@".contains(&b))
            {
                // Go looks at the host first and reports its faults first.
                split_host(&authority[at + 1..])?;
                return Err("net/url: invalid userinfo".into());
            }
            check_escapes(raw)?;
            parts.user = Some(match raw.split_once(':') {
                Some((user, word)) => (decode(user), Some(decode(word))),
                None => (decode(raw), None),
            });
            parts.userinfo = Some(range.start..range.start + at);
            at + 1
        }
        None => 0,
    };
    let with_port = &authority[host_start..];
    let (host, port) = split_host(with_port)?;
    parts.host = decode(host.trim_start_matches('[').trim_end_matches(']'));
    parts.port = port.to_owned();
    // An empty port (`http://h:/`) is not sent; a zone (`fe80::1%25eth0`) is nobody else's.
    let shown = with_port.strip_suffix(':').unwrap_or(with_port);
    let shown = match (shown.find("%25"), shown.rfind(']')) {
        (Some(zone), Some(end)) if zone < end => format!("{}{}", &shown[..zone], &shown[end..]),
        _ => shown.to_owned(),
    };
    parts.host_header = HeaderValue::from_maybe_shared(Bytes::from(shown.into_bytes())).ok();
    parts.authority = Some(range);
    Ok(())
}

/// Splits `host:port`, checking both as Go does; the host keeps its brackets.
fn split_host(text: &str) -> Result<(&str, &str), String> {
    let (host, colon_port) = if text.starts_with('[') {
        let end = text.rfind(']').ok_or("missing ']' in host")?;
        text.split_at(end + 1)
    } else {
        text.split_at(text.rfind(':').unwrap_or(text.len()))
    };
    let port = match colon_port.strip_prefix(':') {
        Some(port) if port.bytes().all(|b| b.is_ascii_digit()) => port,
        None if colon_port.is_empty() => "",
        _ => return Err(format!("invalid port {} after host", quote(colon_port))),
    };
    let bytes = host.as_bytes();
    let zone = if host.starts_with('[') {
        host.find("%25").unwrap_or(host.len())
    } else {
        host.len()
    };
    let mut at = 0;
    while at < bytes.len() {
        match bytes[at] {
            b'%' => {
                let escape = host.get(at..at + 3).unwrap_or(&host[at..]);
                let value = escape_value(escape.as_bytes());
                // Go lets a host escape only what is not ASCII, and a zone's own `%`.
                match value {
                    Some(value) if value >= 0x80 || escape == "%25" || at > zone => at += 3,
                    _ => return Err(format!("invalid URL escape {}", quote(escape))),
                }
            }
            b if b >= 0x80
                || b.is_ascii_alphanumeric()
                || b"-_.~!$&'()*+,;=:[]<>\"".contains(&b) =>
            {
                at += 1;
            }
            b => {
                let shown = quote(&char::from(b).to_string());
                return Err(format!("invalid character {shown} in host name"));
            }
        }
    }
    Ok((host, port))
}

fn escape_value(escape: &[u8]) -> Option<u8> {
    let [b'%', high, low] = escape else {
        return None;
    };
    let digit = |b: u8| char::from(b).to_digit(16);
    Some((digit(*high)? * 16 + digit(*low)?) as u8)
}

/// Go's complaint about the first `%` that two hex digits do not follow.
fn check_escapes(text: &str) -> Result<(), String> {
    let bytes = text.as_bytes();
    let mut at = 0;
    while let Some(found) = bytes[at..].iter().position(|&b| b == b'%') {
        at += found;
        let escape = &bytes[at..bytes.len().min(at + 3)];
        if escape_value(escape).is_none() {
            return Err(format!(
                "invalid URL escape {}",
                quote(&String::from_utf8_lossy(escape))
            ));
        }
        at += 3;
    }
    Ok(())
}

fn decode(text: &str) -> String {
    let bytes = text.as_bytes();
    let mut out = Vec::with_capacity(bytes.len());
    let mut at = 0;
    while at < bytes.len() {
        match bytes.get(at..at + 3).and_then(escape_value) {
            Some(value) => {
                out.push(value);
                at += 3;
            }
            None => {
                out.push(bytes[at]);
                at += 1;
            }
        }
    }
    String::from_utf8(out).unwrap_or_else(|e| String::from_utf8_lossy(e.as_bytes()).into_owned())
}

/// Bytes that may stand in a path as they are; `%` because escapes were checked before.
fn fits_path(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || b"-_.~!$&'()*+,;=:@[]%/".contains(&byte)
}

fn target_of(path: &str, query: Option<&str>) -> Target {
    let mut target = Vec::with_capacity(path.len() + query.map_or(0, |q| q.len() + 1) + 1);
    for byte in path.bytes() {
        if fits_path(byte) {
            target.push(byte);
        } else {
            const HEX: &[u8; 16] = b"0123456789ABCDEF";
            target.extend([
                b'%',
                HEX[usize::from(byte >> 4)],
                HEX[usize::from(byte & 15)],
            ]);
        }
    }
    if target.is_empty() {
        target.push(b'/');
    }
    if let Some(query) = query {
        target.push(b'?');
        target.extend_from_slice(query.as_bytes());
    }
    let target = Bytes::from(target);
    // `http::Uri` is asked, and its answer compared: what it takes and what it keeps unchanged
    // is its own affair, and differs between versions. A relative path is not a target for it.
    match PathAndQuery::from_maybe_shared(target.clone()) {
        Ok(plain) if target.starts_with(b"/") && plain.as_str().as_bytes() == target => {
            Target::Plain(Uri::from(plain))
        }
        _ => Target::Raw(target),
    }
}

/// RFC 3986 §5.2.4 with Go's result: a leading slash always, except for an empty path.
fn remove_dots(path: &str) -> String {
    if path.is_empty() {
        return String::new();
    }
    let mut kept: Vec<&str> = Vec::new();
    let segments = path.strip_prefix('/').unwrap_or(path).split('/');
    let mut last = "";
    for segment in segments {
        match segment {
            "." => {}
            ".." => {
                kept.pop();
            }
            other => kept.push(other),
        }
        last = segment;
    }
    let mut out = String::with_capacity(path.len() + 1);
    for segment in &kept {
        out.push('/');
        out.push_str(segment);
    }
    if out.is_empty() || last == "." || last == ".." {
        out.push('/');
    }
    out
}

/// Go's `%q`: double quotes, backslash escapes for what would not show.
pub(crate) fn quote(text: &str) -> String {
    let mut out = String::with_capacity(text.len() + 2);
    out.push('"');
    for c in text.chars() {
        match c {
            '"' => out.push_str("\\\""),
            '\\' => out.push_str("\\\\"),
            '\n' => out.push_str("\\n"),
            '\r' => out.push_str("\\r"),
            '\t' => out.push_str("\\t"),
            '\x07' => out.push_str("\\a"),
            '\x08' => out.push_str("\\b"),
            '\x0b' => out.push_str("\\v"),
            '\x0c' => out.push_str("\\f"),
            c if c.is_ascii_control() => out.push_str(&format!("\\x{:02x}", u32::from(c))),
            c if c.is_control() => out.push_str(&format!("\\u{:04x}", u32::from(c))),
            c => out.push(c),
        }
    }
    out.push('"');
    out
}

#[cfg(test)]
mod tests;
