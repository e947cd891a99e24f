//! Step 3 of the hot path: JS arguments become a request, and the VU waits for its exchange.

use std::{rc::Rc, time::Duration};

use bytes::Bytes;
use rquickjs::{ArrayBuffer, Ctx, Filter, Object, Result as JsResult, TypedArray, Value};
use volley_metrics::{TagSetId, builtin};
use volley_net as net;

use super::{not_yet, response};
use crate::{
    engine, error, globals::go_type_name, host::Level, json, modules::metrics::tag_pairs,
    state::VuState,
};

/// How the body of the response reaches the script.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum ResponseType {
    Text,
    Binary,
    None,
}

/// What the params object asks for.
struct Params {
    headers: Vec<(String, String)>,
    cookies: Vec<net::RequestCookie>,
    tags: Vec<(String, String)>,
    timeout: Duration,
    redirects: Option<u32>,
    response_type: Option<ResponseType>,
    throw: bool,
    compression: Vec<net::Coding>,
}

/// The default `timeout`.
const TIMEOUT: Duration = Duration::from_secs(60);

/// Sends a request and waits for its response.
pub(super) fn send<'js>(
    ctx: &Ctx<'js>,
    state: &Rc<VuState>,
    method: &str,
    url: Option<Value<'js>>,
    body: Option<Value<'js>>,
    params: Option<Value<'js>>,
) -> JsResult<Object<'js>> {
    if state.in_init() {
        return Err(error::throw(
            ctx,
            "Making http requests in the init context is not supported",
        ));
    }
    let prepared = prepare(
        ctx,
        state,
        method,
        url.as_ref(),
        body.as_ref(),
        params.as_ref(),
    )?;
    let (request, params) = match prepared {
        Ok(prepared) => prepared,
        Err(problem) => {
            if state.settings.throw {
                return Err(error::throw(ctx, &problem.text));
            }
            state.log(
                Level::Warning,
                "Request Failed",
                &[("error", &problem.text)],
            );
            return response::parse_error(ctx, state, problem);
        }
    };
    // The tags a request has are those of the moment when it was made.
    let base = state.tag_set();
    let exchange = match state.fiber.wait(state.client.send(request)) {
        Ok(exchange) => exchange,
        Err(engine::Stopped) => return Err(engine::throw_uncatchable(ctx)),
    };
    record(state, base, &params, &exchange);
    if let Some(problem) = &exchange.last.error {
        let raw = problem.raw();
        if params.throw {
            return Err(error::throw(ctx, &raw));
        }
        state.log(Level::Warning, "Request Failed", &[("error", &raw)]);
    }
    if exchange.redirect_limit_reached
        && params.redirects.is_none()
        && !state.settings.max_redirects.1
    {
        let text = format!(
            "Stopped after {} redirects and returned the redirection; pass {{ redirects: n }} in \
             request params or set global maxRedirects to silence this",
            exchange.earlier.len() + 1
        );
        state.log(
            Level::Warning,
            &text,
            &[("url", exchange.last.url.as_str())],
        );
    }
    let kind = params.response_type.unwrap_or({
        if state.settings.discard_response_bodies {
            ResponseType::None
        } else {
            ResponseType::Text
        }
    });
    response::make(ctx, state, exchange, kind)
}

/// Why no request could be made of the arguments.
pub(super) struct Problem {
    pub(super) text: String,
    pub(super) code: u32,
}

impl Problem {
    fn new(text: impl Into<String>) -> Self {
        Self {
            text: text.into(),
            code: 0,
        }
    }
}

type Prepared = (net::Request, Params);

fn prepare<'js>(
    ctx: &Ctx<'js>,
    state: &Rc<VuState>,
    method: &str,
    url: Option<&Value<'js>>,
    body: Option<&Value<'js>>,
    params: Option<&Value<'js>>,
) -> JsResult<Result<Prepared, Problem>> {
    let url = match url.and_then(|u| u.as_string()) {
        Some(text) => {
            let text = engine::rust_string(text);
            match net::Url::parse(&text) {
                Ok(url) => url,
                Err(problem) => {
                    return Ok(Err(Problem {
                        text: format!("invalid URL: {problem}"),
                        code: 1020,
                    }));
                }
            }
        }
        None => {
            let shown = url.map_or_else(|| "undefined".to_owned(), error::to_text);
            return Ok(Err(Problem {
                text: format!("invalid URL: '#{shown}'"),
                code: 1020,
            }));
        }
    };
    let mut params = match parse_params(ctx, state, params)? {
        Ok(params) => params,
        Err(problem) => return Ok(Err(problem)),
    };
    let (body, content_type) = match parse_body(ctx, state, body)? {
        Ok(body) => body,
        Err(problem) => return Ok(Err(problem)),
    };
    if let Some(content_type) = content_type
        && !params
            .headers
            .iter()
            .any(|(name, _)| name.eq_ignore_ascii_case("content-type"))
    {
        params
            .headers
            .push(("Content-Type".to_owned(), content_type.to_owned()));
    }
    let discard = match params.response_type {
        Some(kind) => kind == ResponseType::None,
        None => state.settings.discard_response_bodies,
    };
    let mut request = net::Request::new(method.to_owned(), url);
    request.headers = std::mem::take(&mut params.headers);
    request.cookies = std::mem::take(&mut params.cookies);
    request.body = body;
    request.timeout = params.timeout;
    request.redirects = params.redirects.unwrap_or(state.settings.max_redirects.0);
    request.discard_body = discard;
    compress(state, &mut request, &params.compression);
    Ok(Ok((request, params)))
}

fn parse_params<'js>(
    ctx: &Ctx<'js>,
    state: &VuState,
    params: Option<&Value<'js>>,
) -> JsResult<Result<Params, Problem>> {
    let mut parsed = Params {
        headers: Vec::new(),
        cookies: Vec::new(),
        tags: Vec::new(),
        timeout: TIMEOUT,
        redirects: None,
        response_type: None,
        throw: state.settings.throw,
        compression: Vec::new(),
    };
    let Some(object) = params.and_then(|p| p.as_object()) else {
        return Ok(Ok(parsed));
    };
    for key in object.own_keys::<String>(Filter::new().string().enum_only()) {
        let key = key?;
        let value: Value<'js> = object.get(key.as_str())?;
        match key.as_str() {
            "headers" => {
                if let Some(headers) = value.as_object() {
                    parse_headers(headers, &mut parsed.headers)?;
                }
            }
            "cookies" => {
                if let Some(cookies) = value.as_object() {
                    parse_cookies(cookies, &mut parsed.cookies)?;
                }
            }
            "tags" => match tag_pairs(&value) {
                Ok(tags) => parsed.tags = tags,
                Err(text) => {
                    return Ok(Err(Problem::new(format!(
                        "invalid HTTP request metric tags: {text}"
                    ))));
                }
            },
            "timeout" => match parse_timeout(&value) {
                Ok(timeout) => parsed.timeout = timeout,
                Err(text) => {
                    return Ok(Err(Problem::new(format!("invalid timeout value: {text}"))));
                }
            },
            "redirects" => {
                let limit = value.as_number().unwrap_or(0.0);
                parsed.redirects = Some(limit.clamp(0.0, 1e6) as u32);
            }
            "responseType" => {
                if value.is_undefined() || value.is_null() {
                    continue;
                }
                parsed.response_type = Some(match error::to_text(&value).as_str() {
                    "text" => ResponseType::Text,
                    "binary" => ResponseType::Binary,
                    "none" => ResponseType::None,
                    other => {
                        return Ok(Err(Problem::new(format!(
                            "{other} does not belong to ResponseType values"
                        ))));
                    }
                });
            }
            "throw" => parsed.throw = value.get::<rquickjs::Coerced<bool>>()?.0,
            "auth" => {
                let kind = error::to_text(&value);
                if kind == "digest" || kind == "ntlm" {
                    return Err(error::throw(ctx, &not_yet(&format!("auth: '{kind}'"))));
                }
            }
            "compression" if !value.is_undefined() && !value.is_null() => {
                match parse_compression(&error::to_text(&value)) {
                    Ok(list) => parsed.compression = list,
                    Err(text) => return Ok(Err(Problem::new(text))),
                }
            }
            "jar" | "responseCallback" if !value.is_undefined() => {
                return Err(error::throw(
                    ctx,
                    &not_yet(&format!("the request parameter '{key}'")),
                ));
            }
            _ => {}
        }
    }
    Ok(Ok(parsed))
}

/// `gzip, br`: the codings to pack a body in, one after the other.
fn parse_compression(list: &str) -> Result<Vec<net::Coding>, String> {
    if list.trim().is_empty() {
        return Ok(Vec::new());
    }
    let tokens = list.split(',').map(str::trim);
    tokens
        .map(|token| {
            token.parse().map_err(|()| {
                format!(
                    "unknown compression algorithm {token}, supported algorithms are [{}]",
                    net::Coding::ALL.map(net::Coding::as_str).join(" ")
                )
            })
        })
        .collect()
}

/// Packs the body, if there is one, and says so in a header.
fn compress(state: &VuState, request: &mut net::Request, codings: &[net::Coding]) {
    let wanted = |body: &&Bytes| !body.is_empty() && !codings.is_empty();
    let Some(body) = request.body.as_ref().filter(wanted) else {
        return;
    };
    let mut packed = codings[0].pack(body);
    for coding in &codings[1..] {
        packed = coding.pack(&packed);
    }
    request.packed = Some(packed.into());
    let names: Vec<&str> = codings.iter().map(|coding| coding.as_str()).collect();
    let names = names.join(", ");
    let mut own = request.headers.iter();
    match own.find(|(name, _)| name.eq_ignore_ascii_case("content-encoding")) {
        None => request.headers.push(("Content-Encoding".to_owned(), names)),
        Some((_, value)) if *value == names => {}
        Some((_, value)) => {
            let text = format!(
                "the header Content-Encoding of the request is \"{value}\", which is not what its \
                 parameter compression says: \"{names}\"; the header is sent as it is"
            );
            state.log(Level::Warning, &text, &[("url", request.url.as_str())]);
        }
    }
}

fn parse_headers(headers: &Object<'_>, out: &mut Vec<(String, String)>) -> JsResult<()> {
    for key in headers.own_keys::<String>(Filter::new().string().enum_only()) {
        let key = key?;
        let value: Value<'_> = headers.get(key.as_str())?;
        let value = error::to_text(&value);
        // A later key that differs only in case wins.
        match out
            .iter_mut()
            .find(|(name, _)| name.eq_ignore_ascii_case(&key))
        {
            Some(known) => known.1 = value,
            None => out.push((key, value)),
        }
    }
    Ok(())
}

fn parse_cookies(cookies: &Object<'_>, out: &mut Vec<net::RequestCookie>) -> JsResult<()> {
    for key in cookies.own_keys::<String>(Filter::new().string().enum_only()) {
        let key = key?;
        let value: Value<'_> = cookies.get(key.as_str())?;
        if value.is_null() || value.is_undefined() {
            continue;
        }
        let (value, replace) = match value.as_object() {
            Some(object) => {
                let text: Value<'_> = object.get("value")?;
                let replace: Value<'_> = object.get("replace")?;
                (error::to_text(&text), replace.as_bool().unwrap_or(false))
            }
            None => (error::to_text(&value), false),
        };
        out.push(net::RequestCookie {
            name: key,
            value,
            replace,
        });
    }
    Ok(())
}

/// A duration argument: milliseconds as a number or a numeric string, or Go's notation with days.
fn parse_timeout(value: &Value<'_>) -> Result<Duration, String> {
    if let Some(ms) = value.as_number() {
        return Ok(Duration::try_from_secs_f64(ms.max(0.0) / 1e3).unwrap_or(Duration::MAX));
    }
    let Some(text) = value.as_string() else {
        return Err(format!(
            "unable to use type {} as a duration value",
            go_type_name(value)
        ));
    };
    let text = engine::rust_string(text);
    if let Ok(ms) = text.parse::<f64>() {
        return Ok(Duration::try_from_secs_f64(ms.max(0.0) / 1e3).unwrap_or(Duration::MAX));
    }
    go_duration(&text).ok_or_else(|| format!("time: invalid duration \"{text}\""))
}

fn go_duration(text: &str) -> Option<Duration> {
    let (negative, mut rest) = match text.strip_prefix('-') {
        Some(rest) => (true, rest),
        None => (false, text.strip_prefix('+').unwrap_or(text)),
    };
    if rest.is_empty() {
        return None;
    }
    let mut seconds = 0.0;
    while !rest.is_empty() {
        let digits = rest.find(|c: char| !c.is_ascii_digit() && c != '.')?;
        let number: f64 = rest[..digits].parse().ok()?;
        rest = &rest[digits..];
        let end = rest
            .find(|c: char| c.is_ascii_digit() || c == '.')
            .unwrap_or(rest.len());
        let unit = match &rest[..end] {
            "ns" => 1e-9,
            "us" | "µs" | "μs" => 1e-6,
            "ms" => 1e-3,
            "s" => 1.0,
            "m" => 60.0,
            "h" => 3600.0,
            "d" => 86400.0,
            _ => return None,
        };
        seconds += number * unit;
        rest = &rest[end..];
    }
    if negative {
        return Some(Duration::ZERO);
    }
    Some(Duration::try_from_secs_f64(seconds).unwrap_or(Duration::MAX))
}

type Body = (Option<Bytes>, Option<&'static str>);

fn parse_body<'js>(
    ctx: &Ctx<'js>,
    state: &VuState,
    body: Option<&Value<'js>>,
) -> JsResult<Result<Body, Problem>> {
    let Some(body) = body.filter(|b| !b.is_undefined() && !b.is_null()) else {
        return Ok(Ok((None, None)));
    };
    if let Some(text) = body.as_string() {
        return Ok(Ok((Some(engine::rust_string(text).into()), None)));
    }
    let refused = || Problem::new(format!("unknown request body type {}", go_type_name(body)));
    let Some(object) = body
        .as_object()
        .filter(|_| !body.is_array() && !body.is_function())
    else {
        return Ok(Err(refused()));
    };
    if let Some(buffer) = ArrayBuffer::from_object(object.clone()) {
        let bytes = Bytes::from(engine::buffer_bytes(&buffer));
        return Ok(Ok((Some(bytes), None)));
    }
    if let Ok(bytes) = TypedArray::<u8>::from_object(object.clone()) {
        let bytes = Bytes::from(engine::array_bytes(&bytes));
        return Ok(Ok((Some(bytes), None)));
    }
    if json::class_of(ctx, object) != "Object" {
        return Ok(Err(refused()));
    }
    let form = encode_form(state, object)?;
    Ok(Ok((
        Some(form.into()),
        Some("application/x-www-form-urlencoded"),
    )))
}

/// `a=1&b=x+y`, keys sorted.
fn encode_form(state: &VuState, object: &Object<'_>) -> JsResult<String> {
    let mut keys: Vec<String> = object
        .own_keys::<String>(Filter::new().string().enum_only())
        .collect::<JsResult<_>>()?;
    keys.sort();
    let mut form = String::new();
    for key in keys {
        let value: Value<'_> = object.get(key.as_str())?;
        match value.as_array() {
            Some(array) => {
                for index in 0..array.len() {
                    push_pair(state, &mut form, &key, &array.get(index)?);
                }
            }
            None => push_pair(state, &mut form, &key, &value),
        }
    }
    Ok(form)
}

fn push_pair(state: &VuState, form: &mut String, key: &str, value: &Value<'_>) {
    if !form.is_empty() {
        form.push('&');
    }
    escape(form, key);
    form.push('=');
    if value.is_null() || value.is_undefined() {
        return;
    }
    if value.is_object() {
        let text = format!(
            "cannot urlencode a nested {} value in a request form body; encoding it as an empty \
             value, use JSON.stringify() to send structured data",
            go_type_name(value)
        );
        state.log(Level::Warning, &text, &[]);
        return;
    }
    escape(form, &error::to_text(value));
}

fn escape(out: &mut String, text: &str) {
    for byte in text.bytes() {
        match byte {
            b'a'..=b'z' | b'A'..=b'Z' | b'0'..=b'9' | b'-' | b'_' | b'.' | b'~' => {
                out.push(byte as char);
            }
            b' ' => out.push('+'),
            other => {
                const HEX: &[u8; 16] = b"0123456789ABCDEF";
                out.push('%');
                out.push(HEX[usize::from(other >> 4)] as char);
                out.push(HEX[usize::from(other & 15)] as char);
            }
        }
    }
}

/// Step 6, first half: one set of samples per hop.
fn record(state: &VuState, base: TagSetId, params: &Params, exchange: &net::Exchange) {
    for hop in &exchange.earlier {
        record_hop(state, base, params, hop);
    }
    record_hop(state, base, params, &exchange.last);
}

fn record_hop(state: &VuState, base: TagSetId, params: &Params, hop: &net::Hop) {
    let enabled = state.settings.system_tags;
    let expected = (200..400).contains(&hop.status);
    let mut pairs: Vec<(&str, &str)> = Vec::with_capacity(params.tags.len() + 10);
    pairs.extend(params.tags.iter().map(|(k, v)| (k.as_str(), v.as_str())));
    let masked = hop.url.masked();
    let vu_name;
    let named = match params.tags.iter().find(|(k, _)| k == "name") {
        Some((_, name)) => Some(name.as_str()),
        None => {
            vu_name = state.tag("name");
            vu_name.as_deref()
        }
    };
    let shown: &str = named.unwrap_or(&masked);
    if enabled.url() {
        pairs.push(("url", shown));
    }
    if enabled.name() {
        pairs.push(("name", shown));
    }
    if enabled.method() {
        pairs.push(("method", &hop.method));
    }
    let mut digits = [0; 3];
    if enabled.status() {
        pairs.push(("status", status_text(hop.status, &mut digits)));
    }
    let (code, short);
    match &hop.error {
        Some(error) => {
            code = error.code().to_string();
            short = error.short();
            if enabled.error() {
                pairs.push(("error", &short));
            }
            if enabled.error_code() {
                pairs.push(("error_code", &code));
            }
        }
        None => {
            if let Some(proto) = hop.proto.filter(|_| enabled.proto()) {
                pairs.push(("proto", proto.as_str()));
            }
            if let Some(tls) = hop.tls.as_ref().filter(|_| enabled.tls_version()) {
                pairs.push(("tls_version", tls.version));
            }
            if hop.status >= 400 && enabled.error_code() {
                code = (1000 + u32::from(hop.status)).to_string();
                pairs.push(("error_code", &code));
            }
        }
    }
    if enabled.expected_response() {
        pairs.push(("expected_response", if expected { "true" } else { "false" }));
    }
    let ip;
    if enabled.ip()
        && let Some(remote) = hop.remote
    {
        ip = remote.ip().to_string();
        pairs.push(("ip", &ip));
    }
    let tags = state.worker.tags.borrow_mut().overlay(base, &pairs);
    let timings = &hop.timings;
    let at = hop.end;
    let ms = |d: Duration| d.as_nanos() as f64 / 1e6;
    for (metric, value) in [
        (builtin::HTTP_REQS, 1.0),
        (builtin::HTTP_REQ_DURATION, ms(timings.duration())),
        (builtin::HTTP_REQ_BLOCKED, ms(timings.blocked)),
        (builtin::HTTP_REQ_CONNECTING, ms(timings.connecting)),
        (
            builtin::HTTP_REQ_TLS_HANDSHAKING,
            ms(timings.tls_handshaking),
        ),
        (builtin::HTTP_REQ_SENDING, ms(timings.sending)),
        (builtin::HTTP_REQ_WAITING, ms(timings.waiting)),
        (builtin::HTTP_REQ_RECEIVING, ms(timings.receiving)),
        (builtin::HTTP_REQ_FAILED, f64::from(u8::from(!expected))),
    ] {
        state.record(metric, tags, value, at);
    }
}

fn status_text(status: u16, digits: &mut [u8; 3]) -> &str {
    if !(100..1000).contains(&status) {
        return "0";
    }
    *digits = [
        b'0' + (status / 100) as u8,
        b'0' + (status / 10 % 10) as u8,
        b'0' + (status % 10) as u8,
    ];
    std::str::from_utf8(digits).unwrap_or("0")
}

#[cfg(test)]
mod tests {
    use super::{escape, go_duration, status_text};
    use std::time::Duration;

    #[test]
    fn timeouts_take_gos_notation_and_days() {
        assert_eq!(go_duration("1.5s"), Some(Duration::from_millis(1500)));
        assert_eq!(go_duration("1d12h"), Some(Duration::from_secs(129_600)));
        assert_eq!(go_duration("100us"), Some(Duration::from_micros(100)));
        assert_eq!(go_duration("-1s"), Some(Duration::ZERO));
        for bad in ["", "s", "1", "1x", "abc", "-"] {
            assert_eq!(go_duration(bad), None, "{bad}");
        }
    }

    #[test]
    fn forms_escape_what_is_not_unreserved() {
        let mut out = String::new();
        escape(&mut out, "a b&é~");
        assert_eq!(out, "a+b%26%C3%A9~");
    }

    #[test]
    fn status_tags_have_three_digits() {
        assert_eq!(status_text(404, &mut [0; 3]), "404");
        assert_eq!(status_text(0, &mut [0; 3]), "0");
    }
}
