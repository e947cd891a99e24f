//! Messages between script and wire, by the JSON mapping of Protocol Buffers.
//!
//! Towards the wire a value becomes JSON text, as `JSON.stringify` makes it, which the library
//! reads by the message's description. Towards the script objects are built without that detour,
//! with every field of the message: a field that is not set is `null`, or what its type is without a
//! value; of a `oneof` there is the one that is set. (protojson of Go, `EmitUnpopulated`.)

use base64::{Engine as _, prelude::BASE64_STANDARD as STANDARD};
use prost::Message;
use prost_reflect::{
    DescriptorPool, DynamicMessage, Kind, MapKey, MessageDescriptor, ReflectMessage,
    SerializeOptions, Value as Field, prost_types,
};
use rquickjs::{Array, Ctx, Function, IntoJs, Object, Result as JsResult, Value};

use super::wellknown::detail;

/// Messages that JSON has a form of their own for.
const SPECIAL: &str = "google.protobuf.";
const SPECIALS: [&str; 17] = [
    "Any",
    "BoolValue",
    "BytesValue",
    "DoubleValue",
    "Duration",
    "Empty",
    "FieldMask",
    "FloatValue",
    "Int32Value",
    "Int64Value",
    "ListValue",
    "StringValue",
    "Struct",
    "Timestamp",
    "UInt32Value",
    "UInt64Value",
    "Value",
];

fn is_special(message: &MessageDescriptor) -> bool {
    let name = message.full_name().strip_prefix(SPECIAL);
    name.is_some_and(|name| SPECIALS.contains(&name))
}

/// The message that a value of the script means.
///
/// # Errors
/// Outside, what the script throws while its value is read; inside, why it is no such message.
pub(super) fn from_js<'js>(
    ctx: &Ctx<'js>,
    description: MessageDescriptor,
    value: &Value<'js>,
) -> JsResult<Result<DynamicMessage, String>> {
    let stringify = |text: Option<rquickjs::String<'js>>| match text {
        Some(text) => Ok(crate::engine::rust_string(&text)),
        None => Err("the value has no form in JSON".to_owned()),
    };
    let mut text = match stringify(ctx.json_stringify(value.clone())?) {
        Ok(text) => text,
        Err(text) => return Ok(Err(text)),
    };
    // JSON has no NaN and no infinities, the mapping has; only then is there a `null` to look at.
    if text.contains("null") {
        let replace: Function<'js> =
            ctx.eval("(k,v)=>typeof v==='number'&&!isFinite(v)?String(v):v")?;
        let again = ctx.json_stringify_replacer(value.clone(), replace)?;
        if let Ok(again) = stringify(again) {
            text = again;
        }
    }
    let mut reader = serde_json::Deserializer::from_str(&text);
    let made = DynamicMessage::deserialize(description, &mut reader);
    Ok(made.map_err(|e| e.to_string()))
}

/// The object that shows a message.
pub(super) fn to_js<'js>(ctx: &Ctx<'js>, message: &DynamicMessage) -> JsResult<Value<'js>> {
    let description = message.descriptor();
    if is_special(&description) {
        return special(ctx, message);
    }
    let object = Object::new(ctx.clone())?;
    fill(ctx, message, &description, &object)?;
    Ok(object.into_value())
}

fn fill<'js>(
    ctx: &Ctx<'js>,
    message: &DynamicMessage,
    description: &MessageDescriptor,
    object: &Object<'js>,
) -> JsResult<()> {
    for field in description.fields() {
        let single = field.supports_presence();
        if single && !message.has_field(&field) {
            if field.containing_oneof().is_none() {
                object.set(field.json_name(), Value::new_null(ctx.clone()))?;
            }
            continue;
        }
        let shown = show(ctx, &message.get_field(&field), &field.kind())?;
        object.set(field.json_name(), shown)?;
    }
    Ok(())
}

fn show<'js>(ctx: &Ctx<'js>, value: &Field, kind: &Kind) -> JsResult<Value<'js>> {
    match value {
        Field::Bool(flag) => flag.into_js(ctx),
        Field::I32(number) => number.into_js(ctx),
        Field::U32(number) => f64::from(*number).into_js(ctx),
        Field::I64(number) => number.to_string().into_js(ctx),
        Field::U64(number) => number.to_string().into_js(ctx),
        // By way of the shortest text: 0.1 is 0.1, not 0.10000000149011612.
        Field::F32(number) if number.is_finite() => {
            let number: f64 = number.to_string().parse().unwrap_or(f64::from(*number));
            number.into_js(ctx)
        }
        Field::F32(number) => not_finite(f64::from(*number)).into_js(ctx),
        Field::F64(number) if number.is_finite() => number.into_js(ctx),
        Field::F64(number) => not_finite(*number).into_js(ctx),
        Field::String(text) => text.as_str().into_js(ctx),
        Field::Bytes(bytes) => STANDARD.encode(bytes).into_js(ctx),
        Field::EnumNumber(number) => enumerated(ctx, *number, kind),
        Field::Message(message) => to_js(ctx, message),
        Field::List(items) => {
            let list = Array::new(ctx.clone())?;
            for (index, item) in items.iter().enumerate() {
                list.set(index, show(ctx, item, kind)?)?;
            }
            Ok(list.into_value())
        }
        Field::Map(entries) => {
            let object = Object::new(ctx.clone())?;
            let Kind::Message(entry) = kind else {
                return Ok(object.into_value());
            };
            let kind = entry.map_entry_value_field().kind();
            // In order, so that two runs show the same.
            let mut entries: Vec<(String, &Field)> = entries
                .iter()
                .map(|(key, value)| (name(key), value))
                .collect();
            entries.sort_by(|a, b| a.0.cmp(&b.0));
            for (key, value) in entries {
                object.set(key, show(ctx, value, &kind)?)?;
            }
            Ok(object.into_value())
        }
    }
}

fn not_finite(number: f64) -> &'static str {
    match number {
        f64::INFINITY => "Infinity",
        f64::NEG_INFINITY => "-Infinity",
        _ => "NaN",
    }
}

fn enumerated<'js>(ctx: &Ctx<'js>, number: i32, kind: &Kind) -> JsResult<Value<'js>> {
    let Kind::Enum(description) = kind else {
        return number.into_js(ctx);
    };
    if description.full_name() == "google.protobuf.NullValue" {
        return Ok(Value::new_null(ctx.clone()));
    }
    match description.get_value(number) {
        Some(value) => value.name().into_js(ctx),
        None => number.into_js(ctx),
    }
}

fn name(key: &MapKey) -> String {
    match key {
        MapKey::Bool(key) => key.to_string(),
        MapKey::I32(key) => key.to_string(),
        MapKey::I64(key) => key.to_string(),
        MapKey::U32(key) => key.to_string(),
        MapKey::U64(key) => key.to_string(),
        MapKey::String(key) => key.clone(),
    }
}

/// A timestamp as text, a `Struct` as an object and so on, as the library has them.
fn special<'js>(ctx: &Ctx<'js>, message: &DynamicMessage) -> JsResult<Value<'js>> {
    if message.descriptor().name() == "Any"
        && let Ok(any) = message.transcode_to::<prost_types::Any>()
    {
        return any_to_js(ctx, &any, &[message.descriptor().parent_pool().clone()]);
    }
    let mut text = Vec::new();
    let options = SerializeOptions::new().skip_default_fields(false);
    let written =
        message.serialize_with_options(&mut serde_json::Serializer::new(&mut text), &options);
    match written {
        Ok(()) => ctx.json_parse(text),
        // A timestamp of the year 20,000 and its like: what it is made of.
        Err(_) => {
            let object = Object::new(ctx.clone())?;
            fill(ctx, message, &message.descriptor(), &object)?;
            Ok(object.into_value())
        }
    }
}

/// A message that says itself what it is: its fields beside `@type`. One that nobody knows, in any
/// of these pools or among the usual details of errors, has its bytes as `value`, in base64.
pub(super) fn any_to_js<'js>(
    ctx: &Ctx<'js>,
    any: &prost_types::Any,
    pools: &[DescriptorPool],
) -> JsResult<Value<'js>> {
    let object = Object::new(ctx.clone())?;
    if any.type_url.is_empty() && any.value.is_empty() {
        return Ok(object.into_value());
    }
    object.set("@type", any.type_url.as_str())?;
    let name = any.type_url.rsplit('/').next().unwrap_or_default();
    let mut known = pools.iter().rev();
    let known = known.find_map(|pool| pool.get_message_by_name(name));
    let message = known
        .or_else(|| detail(name))
        .and_then(|description| DynamicMessage::decode(description, &any.value[..]).ok());
    match message {
        None => object.set("value", STANDARD.encode(&any.value))?,
        Some(message) if is_special(&message.descriptor()) => {
            object.set("value", to_js(ctx, &message)?)?;
        }
        Some(message) => fill(ctx, &message, &message.descriptor(), &object)?,
    }
    Ok(object.into_value())
}

/// The bytes of a message on the wire.
pub(super) fn encode(message: &DynamicMessage) -> volley_net::Bytes {
    message.encode_to_vec().into()
}
