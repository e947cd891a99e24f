//! The head of a request, as one hop sends it.

use std::borrow::Cow;

use base64::{Engine, engine::general_purpose::STANDARD};
use bytes::Bytes;
use http::{
    HeaderName, HeaderValue, Method, Uri,
    header::{
        AUTHORIZATION, CONNECTION, CONTENT_LENGTH, COOKIE, HOST, PROXY_AUTHORIZATION, REFERER,
        USER_AGENT,
    },
};

use super::{auth::Auth, exchange::Request, redirect::Next};
use crate::{
    config::ClientConfig,
    cookie::{CookieJar, push_pair},
    error::{Error, ErrorKind},
    proxy::{Kind, Proxy},
    url::{Target, Url, quote},
};

/// What one hop sends.
pub(super) struct Outgoing<'a> {
    pub(super) request: &'a Request,
    pub(super) method: Cow<'static, str>,
    pub(super) url: &'a Url,
    pub(super) body: Option<&'a Bytes>,
    pub(super) cookie: Option<String>,
    pub(super) user_agent: Option<&'a str>,
    next: &'a Next,
}

impl<'a> Outgoing<'a> {
    pub(super) fn new(
        config: &'a ClientConfig,
        request: &'a Request,
        jar: &CookieJar,
        next: &'a Next,
    ) -> Self {
        let user_agent = match request.header("User-Agent") {
            Some(value) => Some(value),
            None => config.user_agent.as_deref(),
        };
        Self {
            request,
            method: next.method.clone(),
            url: &next.url,
            body: request
                .packed
                .as_ref()
                .or(request.body.as_ref())
                .filter(|_| next.keeps_body),
            cookie: cookies(request, jar, next),
            user_agent: user_agent.filter(|value| !value.is_empty()),
            next,
        }
    }
}

/// The `Cookie` header: the script's own, then the request's cookies, then the jar's.
fn cookies(request: &Request, jar: &CookieJar, next: &Next) -> Option<String> {
    let mut header = String::new();
    if next.hop == 0
        && let Some(own) = request.header("Cookie")
    {
        header.push_str(own);
    }
    for cookie in &request.cookies {
        push_pair(&mut header, &cookie.name, &cookie.value);
    }
    jar.each_for(&next.url, |name, value| {
        if !request
            .cookies
            .iter()
            .any(|own| own.replace && own.name == name)
        {
            push_pair(&mut header, name, value);
        }
    });
    (!header.is_empty()).then_some(header)
}

/// The head of the request; its body is `outgoing`'s. A target that `http::Uri` refuses, and one for a proxy, is left to
/// who writes it.
pub(super) fn request(
    config: &ClientConfig,
    outgoing: &Outgoing<'_>,
) -> Result<http::Request<()>, Error> {
    let method = Method::from_bytes(outgoing.method.as_bytes()).map_err(|_| {
        ErrorKind::Other(format!(
            "net/http: invalid method {}",
            quote(&outgoing.method)
        ))
    })?;
    let proxy = match outgoing.url.scheme() {
        "http" => config.proxies.of(outgoing.url),
        _ => None,
    };
    let proxy = proxy.filter(|proxy| proxy.kind == Kind::Http);
    let uri = match outgoing.url.wire_target() {
        Target::Plain(uri) if proxy.is_none() => uri.clone(),
        _ => Uri::from_static("/"),
    };
    // The length of a body is written with it, and nothing for none; servers expect a 0 with these.
    let announces = outgoing.body.is_some() || matches!(method.as_str(), "POST" | "PUT" | "PATCH");
    let says_nothing = announces && outgoing.body.is_none_or(Bytes::is_empty);
    let mut request = http::Request::new(());
    *request.method_mut() = method;
    *request.uri_mut() = uri;
    let headers = request.headers_mut();
    match outgoing.next.host.as_deref().or(host(outgoing)) {
        Some(own) => {
            headers.insert(HOST, value("Host", own)?);
        }
        None => {
            if let Some(host) = outgoing.url.host_header() {
                headers.insert(HOST, host.clone());
            }
        }
    }
    if let Some(agent) = outgoing.user_agent {
        headers.insert(USER_AGENT, value("User-Agent", agent)?);
    }
    if says_nothing {
        headers.insert(CONTENT_LENGTH, HeaderValue::from_static("0"));
    }
    for (name, text) in &outgoing.request.headers {
        if written_elsewhere(name) || outgoing.next.withholds(name) {
            continue;
        }
        let parsed = HeaderName::from_bytes(name.as_bytes()).map_err(|_| {
            ErrorKind::Other(format!(
                "net/http: invalid header field name {}",
                quote(name)
            ))
        })?;
        let value = value(name, text)?;
        headers.insert(parsed, value);
    }
    if let Some(cookie) = &outgoing.cookie {
        headers.insert(COOKIE, value("Cookie", cookie)?);
    }
    if let Some(referer) = &outgoing.next.referer
        && !headers.contains_key(REFERER)
    {
        headers.insert(REFERER, value("Referer", referer)?);
    }
    if let Some(answer) = &outgoing.next.authorization {
        headers.insert(AUTHORIZATION, value("Authorization", answer)?);
    } else if outgoing.request.auth != Auth::Ntlm
        && !headers.contains_key(AUTHORIZATION)
        && let Some((user, word)) = outgoing.next.credentials()
    {
        let text = format!("{user}:{}", word.unwrap_or_default());
        let basic = format!("Basic {}", STANDARD.encode(text));
        headers.insert(AUTHORIZATION, value("Authorization", &basic)?);
    }
    if let Some(answer) = proxy.and_then(Proxy::authorization) {
        headers.insert(PROXY_AUTHORIZATION, value("Proxy-Authorization", &answer)?);
    }
    if config.no_connection_reuse {
        headers.insert(CONNECTION, HeaderValue::from_static("close"));
    }
    Ok(request)
}

/// A `Host` of the script's own, for the first hop.
fn host<'a>(outgoing: &Outgoing<'a>) -> Option<&'a str> {
    if outgoing.next.hop > 0 {
        return None;
    }
    outgoing
        .request
        .header("Host")
        .filter(|host| !host.is_empty())
}

/// Headers of the script's that are not copied: they have another source, or none.
pub(super) fn written_elsewhere(name: &str) -> bool {
    [
        "Host",
        "User-Agent",
        "Cookie",
        "Content-Length",
        "Transfer-Encoding",
        "Trailer",
    ]
    .iter()
    .any(|known| known.eq_ignore_ascii_case(name))
}

fn value(name: &str, text: &str) -> Result<HeaderValue, Error> {
    // Go trims what it sends, and takes every byte but control characters.
    HeaderValue::from_bytes(text.trim_matches([' ', '\t']).as_bytes()).map_err(|_| {
        let name = super::exchange::canonical(name);
        ErrorKind::Other(format!(
            "net/http: invalid header field value for {}",
            quote(&name)
        ))
        .into()
    })
}
