//! Bytes that scripts hand to natives: text, buffers and views of them.

use rquickjs::{ArrayBuffer, Value};

use crate::{
    engine::{self, ViewKind},
    globals::go_type_name,
    json,
};

/// The bytes of an argument declared as data: a string as UTF-8, an `ArrayBuffer`, or a
/// `Uint8Array`.
///
/// # Errors
/// The text of the exception for anything else.
pub(crate) fn data(value: Option<&Value<'_>>) -> Result<Vec<u8>, String> {
    let Some(value) = value else {
        return Err(invalid("<nil>"));
    };
    if let Some(text) = value.as_string() {
        return Ok(engine::rust_string(text).into_bytes());
    }
    match engine::view_kind(value) {
        Some(ViewKind::Bytes) => return Ok(engine::view_bytes(value).unwrap_or_default()),
        Some(_) => return Err(invalid(go_type_name(value))),
        None => {}
    }
    buffer(value).ok_or_else(|| invalid(go_type_name(value)))
}

fn invalid(kind: &str) -> String {
    format!("invalid type {kind}, expected string, []byte or ArrayBuffer")
}

/// The bytes of what the web's APIs call a buffer source: an `ArrayBuffer`, any typed array, or a
/// `DataView`; of a view what it shows. `None` for anything else.
pub(crate) fn source(value: &Value<'_>) -> Option<Vec<u8>> {
    if let Some(bytes) = engine::view_bytes(value) {
        return Some(bytes);
    }
    if let Some(bytes) = buffer(value) {
        return Some(bytes);
    }
    let object = value.as_object()?;
    if json::class_of(value.ctx(), object) != "DataView" {
        return None;
    }
    let all = buffer(&object.get::<_, Value<'_>>("buffer").ok()?)?;
    let start: usize = object.get("byteOffset").ok()?;
    let length: usize = object.get("byteLength").ok()?;
    Some(all.get(start..start.checked_add(length)?)?.to_vec())
}

fn buffer(value: &Value<'_>) -> Option<Vec<u8>> {
    let buffer = ArrayBuffer::from_object(value.as_object()?.clone())?;
    Some(engine::buffer_bytes(&buffer))
}

/// Bytes in hexadecimal.
pub(crate) fn hex(bytes: &[u8]) -> String {
    const DIGITS: &[u8; 16] = b"0123456789abcdef";
    let mut text = String::with_capacity(bytes.len() * 2);
    for byte in bytes {
        text.push(DIGITS[usize::from(byte >> 4)].into());
        text.push(DIGITS[usize::from(byte & 15)].into());
    }
    text
}
