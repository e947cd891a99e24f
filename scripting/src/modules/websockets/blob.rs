//! `Blob`: bytes with a type, by the algorithms of <https://w3c.github.io/FileAPI/#blob-section>.

use bytes::Bytes;
use rquickjs::{
    Coerced, Ctx, Exception, IntoJs, Object, Result as JsResult, Value,
    class::{Trace, Tracer},
};

use crate::{
    binary,
    class::{self, Of, Shape, expect, getter, method, method_with_all},
    engine::{self, Kind},
    error,
    modules::experimental::streams,
    promise,
};

/// `Blob`
pub(super) struct Blob;

pub(super) struct Data {
    pub(super) bytes: Bytes,
    /// Its type; may be empty.
    kind: String,
}

impl<'js> Trace<'js> for Data {
    fn trace<'a>(&self, _tracer: Tracer<'a, 'js>) {}
}

impl Kind for Blob {
    type Data<'js> = Data;
}

/// A blob without a type.
pub(super) fn make<'js>(ctx: &Ctx<'js>, bytes: Bytes) -> JsResult<Value<'js>> {
    of(ctx, bytes, String::new()).map(Of::into_value)
}

fn of<'js>(ctx: &Ctx<'js>, bytes: Bytes, kind: String) -> JsResult<Of<'js, Blob>> {
    class::object(ctx, Data { bytes, kind })
}

/// The bytes of a value that is one.
pub(super) fn behind<'js>(value: &Value<'js>) -> Option<Bytes> {
    let blob = Of::<'js, Blob>::from_object(value.as_object()?)?;
    let bytes = blob.borrow().bytes.clone();
    Some(bytes)
}

/// `new Blob(parts?, options?)`
pub(super) fn construct<'js>(ctx: &Ctx<'js>, arguments: &[Value<'js>]) -> JsResult<Of<'js, Blob>> {
    let given = |at: usize| arguments.get(at).filter(|value| !value.is_undefined());
    let mut bytes = Vec::new();
    if let Some(parts) = given(0) {
        let Some(parts) = parts.as_array() else {
            let text = "Failed to construct 'Blob': The provided value is not an array of parts";
            return Err(Exception::throw_type(ctx, text));
        };
        for part in parts.iter::<Value<'js>>() {
            let part = part?;
            match behind(&part) {
                Some(blob) => bytes.extend_from_slice(&blob),
                None => match binary::source(&part) {
                    Some(source) => bytes.extend(source),
                    None => bytes.extend(error::to_text(&part).into_bytes()),
                },
            }
        }
    }
    let kind = match given(1).and_then(Value::as_object) {
        Some(options) => options.get::<_, Value<'js>>("type")?,
        None => Value::new_undefined(ctx.clone()),
    };
    of(ctx, bytes.into(), kind_of(&kind))
}

/// A type as blobs have it: in lower case, and none where there are characters that it cannot have.
fn kind_of(value: &Value<'_>) -> String {
    if value.is_undefined() {
        return String::new();
    }
    let text = error::to_text(value);
    if text.bytes().all(|byte| (0x20..0x7f).contains(&byte)) {
        text.to_ascii_lowercase()
    } else {
        String::new()
    }
}

fn bytes_of<'js>(ctx: &Ctx<'js>, this: &Value<'js>) -> JsResult<Bytes> {
    Ok(expect::<Blob>(ctx, this)?.borrow().bytes.clone())
}

impl Shape for Blob {
    const NAME: &'static str = "Blob";

    fn members(prototype: &Object<'_>) -> JsResult<()> {
        getter(prototype, "size", |ctx, this| {
            (bytes_of(&ctx, &this)?.len() as f64).into_js(&ctx)
        })?;
        getter(prototype, "type", |ctx, this| {
            let blob = expect::<Self>(&ctx, &this)?;
            let kind = blob.borrow().kind.clone();
            kind.into_js(&ctx)
        })?;
        method(prototype, "text", |ctx, this, _| {
            let text = engine::js_string(&ctx, &bytes_of(&ctx, &this)?)?;
            promise::settled(&ctx, Ok(text.into_value()))
        })?;
        method(prototype, "arrayBuffer", |ctx, this, _| {
            let buffer = engine::array_buffer(&ctx, bytes_of(&ctx, &this)?)?;
            promise::settled(&ctx, Ok(buffer.into_value()))
        })?;
        method(prototype, "bytes", |ctx, this, _| {
            let bytes = engine::byte_array(&ctx, bytes_of(&ctx, &this)?)?;
            promise::settled(&ctx, Ok(bytes.into_value()))
        })?;
        method(prototype, "stream", |ctx, this, _| {
            streams::of_bytes(&ctx, bytes_of(&ctx, &this)?)
        })?;
        method_with_all(prototype, "slice", |ctx, this, arguments| {
            let bytes = bytes_of(ctx, &this)?;
            let place = |at: usize, otherwise: usize| -> JsResult<usize> {
                match arguments.get(at).filter(|value| !value.is_undefined()) {
                    None => Ok(otherwise),
                    Some(value) => Ok(place_in(bytes.len(), value.get::<Coerced<f64>>()?.0)),
                }
            };
            let (start, end) = (place(0, 0)?, place(1, bytes.len())?);
            let kind = arguments.get(2).map(kind_of).unwrap_or_default();
            let part = bytes.slice(start..end.max(start));
            of(ctx, part, kind).map(Of::into_value)
        })
    }
}

/// A place in so many bytes; a negative one counts from the end.
fn place_in(length: usize, at: f64) -> usize {
    let at = if at < 0.0 { at + length as f64 } else { at };
    // What is no number is 0.
    at.clamp(0.0, length as f64) as usize
}
