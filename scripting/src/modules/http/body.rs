//! Bodies of requests: text, bytes, and objects as forms.

use std::{
    borrow::Cow,
    hash::{BuildHasher, RandomState},
};

use bytes::Bytes;
use rquickjs::{ArrayBuffer, Ctx, Filter, Object, Result as JsResult, TypedArray, Value};
use volley_net as net;

use super::{file, request::Problem};
use crate::{engine, error, globals::go_type_name, host::Level, json, state::VuState};

/// What to send, and the `Content-Type` that goes with it.
type Body = (Option<Bytes>, Option<Cow<'static, str>>);

pub(super) fn parse_body<'js>(
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
    if let Some(multipart) = multipart(state, object)? {
        return Ok(Ok(multipart));
    }
    let form = encode_form(state, object)?;
    Ok(Ok((
        Some(form.into()),
        Some(Cow::Borrowed("application/x-www-form-urlencoded")),
    )))
}

/// Packs the body, if there is one, and says so in a header.
pub(super) fn compress(state: &VuState, request: &mut net::Request, codings: &[net::Coding]) {
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
    match request.header("Content-Encoding") {
        None => request.headers.push(("Content-Encoding".to_owned(), names)),
        Some(value) if value == names => {}
        Some(value) => {
            let text = format!(
                "the header Content-Encoding of the request is \"{value}\", which is not what its \
                 parameter compression says: \"{names}\"; the header is sent as it is"
            );
            state.log(Level::Warning, &text, &[("url", request.url.as_str())]);
        }
    }
}

/// Warns about a length of the script's own that is not that of the body: it is not sent.
pub(super) fn check_length(state: &VuState, request: &net::Request) {
    let Some(said) = request.header("Content-Length") else {
        return;
    };
    let body = request.packed.as_ref().or(request.body.as_ref());
    let length = body.map_or(0, |body| body.len());
    if said.trim().parse() != Ok(length) {
        let text = format!(
            "The specified Content-Length header {said:?} in the {} request for {} doesn't match \
             the actual request body length of {length}, so it will be ignored!",
            request.method,
            request.url.as_str()
        );
        state.log(Level::Warning, &text, &[]);
    }
}

/// The body of a form with a file among its values; `None` when there is no file.
fn multipart(state: &VuState, object: &Object<'_>) -> JsResult<Option<Body>> {
    let keys = object.own_keys::<String>(Filter::new().string().enum_only());
    let mut parts = Vec::new();
    let mut any_file = false;
    for key in keys {
        let key = key?;
        let value: Value<'_> = object.get(key.as_str())?;
        let file = file::behind(state, &value);
        any_file |= file.is_some();
        parts.push((key, value, file));
    }
    if !any_file {
        return Ok(None);
    }
    let boundary = boundary();
    let mut body = Vec::new();
    let mut part = |key: &str, more: &str, data: &[u8]| {
        let head = format!(
            "--{boundary}\r\nContent-Disposition: form-data; name=\"{}\"{more}\r\n\r\n",
            quoted(key)
        );
        body.extend_from_slice(head.as_bytes());
        body.extend_from_slice(data);
        body.extend_from_slice(b"\r\n");
    };
    for (key, value, file) in &parts {
        if let Some(file) = file {
            let more = format!(
                "; filename=\"{}\"\r\nContent-Type: {}",
                quoted(&file.name),
                file.content_type.replace(['\r', '\n'], " ")
            );
            part(key, &more, &file.data);
            continue;
        }
        match value.as_array() {
            Some(array) => {
                for item in array.iter::<Value<'_>>() {
                    part(
                        key,
                        "",
                        form_value(state, &item?).unwrap_or_default().as_bytes(),
                    );
                }
            }
            None => part(
                key,
                "",
                form_value(state, value).unwrap_or_default().as_bytes(),
            ),
        }
    }
    body.extend_from_slice(format!("--{boundary}--\r\n").as_bytes());
    let content_type = format!("multipart/form-data; boundary={boundary}");
    Ok(Some((Some(body.into()), Some(Cow::Owned(content_type)))))
}

/// A line that no part holds: sixty random hexadecimal digits.
fn boundary() -> String {
    let mut digits = String::with_capacity(64);
    for turn in 0..4 {
        // Each new RandomState hashes differently.
        digits.push_str(&format!("{:016x}", RandomState::new().hash_one(turn)));
    }
    digits.truncate(60);
    digits
}

/// A name inside the quotes of `Content-Disposition`.
fn quoted(name: &str) -> String {
    let mut out = String::with_capacity(name.len());
    for c in name.chars() {
        match c {
            '\\' | '"' => out.extend(['\\', c]),
            '\r' => out.push_str("%0D"),
            '\n' => out.push_str("%0A"),
            c => out.push(c),
        }
    }
    out
}

/// The text of a value in a form; `None` for what has none, an object after a warning.
fn form_value(state: &VuState, value: &Value<'_>) -> Option<String> {
    if value.is_null() || value.is_undefined() {
        return None;
    }
    if value.is_object() {
        let text = format!(
            "cannot urlencode a nested {} value in a request form body; encoding it as an empty \
             value, use JSON.stringify() to send structured data",
            go_type_name(value)
        );
        state.log(Level::Warning, &text, &[]);
        return None;
    }
    Some(error::to_text(value))
}

/// `a=1&b=x+y`, keys sorted.
pub(super) fn encode_form(state: &VuState, object: &Object<'_>) -> JsResult<String> {
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
    if let Some(text) = form_value(state, value) {
        escape(form, &text);
    }
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

#[cfg(test)]
mod tests {
    use super::escape;

    #[test]
    fn forms_escape_what_is_not_unreserved() {
        let mut out = String::new();
        escape(&mut out, "a b&é~");
        assert_eq!(out, "a+b%26%C3%A9~");
    }
}
