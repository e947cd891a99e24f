//! The params object of a request.

use std::{rc::Rc, time::Duration};

use rquickjs::{Filter, Object, Result as JsResult, Value};
use volley_net as net;

use super::{
    expected::Verdict,
    jar,
    request::{Problem, ResponseType},
};
use crate::{engine, error, globals::go_type_name, modules::metrics::tag_pairs, state::VuState};

/// What the params object asks for.
pub(super) struct Params {
    pub(super) headers: Vec<(String, String)>,
    pub(super) cookies: Vec<net::RequestCookie>,
    pub(super) tags: Vec<(String, String)>,
    pub(super) timeout: Duration,
    pub(super) redirects: Option<u32>,
    pub(super) response_type: Option<ResponseType>,
    pub(super) throw: bool,
    pub(super) auth: net::Auth,
    pub(super) jar: Option<Rc<net::CookieJar>>,
    pub(super) verdict: Option<Verdict>,
    pub(super) compression: Vec<net::Coding>,
}

/// The default `timeout`.
const TIMEOUT: Duration = Duration::from_secs(60);

/// Reads it; what is no object is empty.
pub(super) fn parse_params<'js>(
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
        auth: net::Auth::Basic,
        jar: None,
        verdict: None,
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
                parsed.auth = match error::to_text(&value).as_str() {
                    "digest" => net::Auth::Digest,
                    "ntlm" => net::Auth::Ntlm,
                    _ => net::Auth::Basic,
                };
            }
            "compression" if !value.is_undefined() && !value.is_null() => {
                match parse_compression(&error::to_text(&value)) {
                    Ok(list) => parsed.compression = list,
                    Err(text) => return Ok(Err(Problem::new(text))),
                }
            }
            "jar" => parsed.jar = jar::behind(state, &value),
            "responseCallback" if !value.is_undefined() => {
                parsed.verdict = Verdict::from_js(state, &value);
                if parsed.verdict.is_none() {
                    return Ok(Err(Problem::new("unsupported responseCallback")));
                }
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

/// Reads an object of headers.
pub(crate) fn parse_headers(headers: &Object<'_>, out: &mut Vec<(String, String)>) -> JsResult<()> {
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
///
/// # Errors
/// That it is none, in Go's words.
pub(in crate::modules) fn parse_timeout(value: &Value<'_>) -> Result<Duration, String> {
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

#[cfg(test)]
mod tests {
    use super::go_duration;
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
}
