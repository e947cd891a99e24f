//! From script values to JSON, by the rules with which k6 carries setup data and options.
//!
//! It is not `JSON.stringify`: functions and NaN are errors, `undefined` members become `null`,
//! a `Uint8Array` becomes base64 (script-runtime.md §1.5).

use base64::{Engine as _, prelude::BASE64_STANDARD as STANDARD};
use rquickjs::{Array, ArrayBuffer, Ctx, Filter, Object, TypedArray, Value, atom::PredefinedAtom};
use serde_json::{Map, Number, Value as Json};

use crate::{engine, error};

/// How deep values may nest before they are taken for a cycle.
const MAX_DEPTH: usize = 1000;

/// Converts a value; `Ok(None)` for `undefined`.
///
/// # Errors
/// The text after `json: ` of the message k6 gives.
pub(crate) fn from_js(value: &Value<'_>) -> Result<Option<Json>, String> {
    if value.is_undefined() {
        return Ok(None);
    }
    convert(value, 0).map(Some)
}

fn convert(value: &Value<'_>, depth: usize) -> Result<Json, String> {
    if depth > MAX_DEPTH {
        return Err(
            "unsupported value: encountered a cycle via map[string]interface {}".to_owned(),
        );
    }
    if value.is_null() || value.is_undefined() {
        return Ok(Json::Null);
    }
    if let Some(flag) = value.as_bool() {
        return Ok(Json::Bool(flag));
    }
    if let Some(int) = value.as_int() {
        return Ok(Json::from(int));
    }
    if let Some(number) = value.as_number() {
        return number_to_json(number);
    }
    if let Some(text) = value.as_string() {
        return Ok(Json::String(engine::rust_string(text)));
    }
    if value.is_function() || value.is_constructor() {
        return Err("unsupported type: func(sobek.FunctionCall) sobek.Value".to_owned());
    }
    if value.is_symbol() || value.is_big_int() {
        let text = error::to_text(value);
        return Ok(match text.parse::<i64>() {
            Ok(int) if value.is_big_int() => Json::from(int),
            _ => Json::String(text),
        });
    }
    let Some(object) = value.as_object() else {
        return Ok(Json::Null);
    };
    if let Some(array) = object.as_array() {
        return array_to_json(array, depth);
    }
    object_to_json(value.ctx(), object, depth)
}

fn number_to_json(number: f64) -> Result<Json, String> {
    if number.is_nan() {
        return Err("unsupported value: NaN".to_owned());
    }
    if number.is_infinite() {
        let sign = if number > 0.0 { '+' } else { '-' };
        return Err(format!("unsupported value: {sign}Inf"));
    }
    // Whole numbers print without a fraction, as JSON from a script has them.
    if number.fract() == 0.0 && number.abs() < 9e15 {
        return Ok(Json::from(number as i64));
    }
    Ok(Number::from_f64(number).map_or(Json::Null, Json::Number))
}

fn array_to_json(array: &Array<'_>, depth: usize) -> Result<Json, String> {
    let mut items = Vec::with_capacity(array.len());
    for index in 0..array.len() {
        let item: Value<'_> = array.get(index).map_err(|e| e.to_string())?;
        items.push(convert(&item, depth + 1)?);
    }
    Ok(Json::Array(items))
}

fn object_to_json<'js>(ctx: &Ctx<'js>, object: &Object<'js>, depth: usize) -> Result<Json, String> {
    if ArrayBuffer::from_object(object.clone()).is_some() {
        return Ok(Json::Object(Map::new()));
    }
    if let Ok(bytes) = TypedArray::<u8>::from_object(object.clone()) {
        return Ok(Json::String(
            STANDARD.encode(crate::engine::array_bytes(&bytes)),
        ));
    }
    match class_of(ctx, object).as_str() {
        "Date" => {
            let text = error::call_method(object, "toISOString").map_err(|_| {
                let _ = ctx.catch();
                "unsupported value: invalid date".to_owned()
            })?;
            let text = error::to_text(&text);
            return Ok(Json::String(
                text.strip_suffix(".000Z")
                    .map_or(text.clone(), |t| format!("{t}Z")),
            ));
        }
        "Map" | "Set" | "Int8Array" | "Int16Array" | "Int32Array" | "Uint16Array"
        | "Uint32Array" | "Uint8ClampedArray" | "Float32Array" | "Float64Array" => {
            let from: rquickjs::Function<'_> = ctx
                .globals()
                .get::<_, Object<'_>>("Array")
                .and_then(|a| a.get("from"))
                .map_err(|e| e.to_string())?;
            let array: Array<'_> = from.call((object.clone(),)).map_err(|e| e.to_string())?;
            return array_to_json(&array, depth);
        }
        "RegExp" | "Error" | "Promise" | "String" | "WeakMap" | "WeakSet" => {
            return Ok(Json::Object(Map::new()));
        }
        _ => {}
    }
    let mut members = Map::new();
    for key in object.own_keys::<rquickjs::String<'_>>(Filter::new().string().enum_only()) {
        let key = key.map_err(|e| e.to_string())?;
        let value: Value<'_> = object
            .get(key.clone())
            .map_err(|e| error::to_text(&error::thrown(ctx, e)))?;
        members.insert(engine::rust_string(&key), convert(&value, depth + 1)?);
    }
    Ok(Json::Object(members))
}

/// The `[[Class]]`-like name of an object: `Date`, `Map`, `Uint8Array`, `Object`, …
pub(crate) fn class_of<'js>(ctx: &Ctx<'js>, object: &Object<'js>) -> String {
    if object.as_value().is_error() {
        return "Error".to_owned();
    }
    let tag = ctx
        .globals()
        .get::<_, Object<'_>>(PredefinedAtom::Object)
        .and_then(|o| o.get::<_, Object<'_>>(PredefinedAtom::Prototype))
        .and_then(|p| p.get::<_, rquickjs::Function<'_>>(PredefinedAtom::ToString))
        .and_then(|f| {
            f.call::<_, rquickjs::String<'_>>((rquickjs::function::This(object.clone()),))
        });
    match tag {
        Ok(text) => engine::rust_string(&text)
            .trim_start_matches("[object ")
            .trim_end_matches(']')
            .to_owned(),
        Err(_) => {
            let _ = ctx.catch();
            "Object".to_owned()
        }
    }
}
