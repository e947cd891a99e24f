//! What scripts find without an import: console, timers, `__ENV`, `open`, coders of text, `crypto`.

pub(crate) mod console;
pub(crate) mod env;
mod open;
mod text_coders;
mod webcrypto;

use std::rc::Rc;

use rquickjs::{
    Ctx, Object, Result as JsResult, Value,
    object::{Accessor, Property},
};

use crate::{json, modules::timers, state::VuState};

/// Names the engine defines that the reference does not have, and that libraries look for.
const ABSENT: [&str; 8] = [
    "queueMicrotask",
    "performance",
    "navigator",
    "SharedArrayBuffer",
    "Atomics",
    "WeakRef",
    "FinalizationRegistry",
    "Iterator",
];

/// Puts everything there, before the script's modules run.
pub(crate) fn install<'js>(ctx: &Ctx<'js>, state: &Rc<VuState>) -> JsResult<()> {
    let globals = ctx.globals();
    for name in ABSENT {
        if globals.contains_key(name)? {
            globals.remove(name)?;
        }
    }
    globals.set("__VU", state.id as f64)?;
    globals.set("__ITER", Value::new_undefined(ctx.clone()))?;
    if state.script.extended() {
        globals.set("global", globals.clone())?;
    }
    env::install(ctx, state, &[])?;
    console::install(ctx, state)?;
    open::install(ctx, state)?;
    lazily(ctx, "crypto", webcrypto::crypto)?;
    lazily(ctx, "TextDecoder", text_coders::decoder)?;
    lazily(ctx, "TextEncoder", text_coders::encoder)?;
    timers::install(&globals)
}

/// Defines a global that is made when a script first looks at it: most VUs never do.
fn lazily<'js>(
    ctx: &Ctx<'js>,
    name: &'static str,
    make: fn(&Ctx<'js>) -> JsResult<Value<'js>>,
) -> JsResult<()> {
    let settle = move |ctx: &Ctx<'js>, value: Value<'js>| {
        let property = Property::from(value);
        let globals = ctx.globals();
        globals.prop(name, property.configurable().enumerable().writable())
    };
    let get = move |ctx: Ctx<'js>| {
        let value = make(&ctx)?;
        settle(&ctx, value.clone())?;
        Ok::<_, rquickjs::Error>(value)
    };
    let set = move |ctx: Ctx<'js>, value: Value<'js>| settle(&ctx, value);
    ctx.globals()
        .prop(name, Accessor::new(get, set).configurable().enumerable())
}

/// The name that the reference's messages give the type of a value.
pub(crate) fn go_type_name(value: &Value<'_>) -> &'static str {
    if value.is_undefined() || value.is_null() {
        return "<nil>";
    }
    if value.is_bool() {
        return "bool";
    }
    if value.is_string() {
        return "string";
    }
    if let Some(number) = value.as_number() {
        return if number.fract() == 0.0 && number.abs() < 9e15 {
            "int64"
        } else {
            "float64"
        };
    }
    if value.is_function() {
        return "func(sobek.FunctionCall) sobek.Value";
    }
    if value.is_array() {
        return "[]interface {}";
    }
    match value.as_object() {
        Some(object) => object_type_name(value.ctx(), object),
        None => "interface {}",
    }
}

fn object_type_name<'js>(ctx: &Ctx<'js>, object: &Object<'js>) -> &'static str {
    match json::class_of(ctx, object).as_str() {
        "ArrayBuffer" => "sobek.ArrayBuffer",
        "Uint8Array" | "Uint8ClampedArray" => "[]uint8",
        "Uint16Array" => "[]uint16",
        "Uint32Array" => "[]uint32",
        "Int8Array" => "[]int8",
        "Int16Array" => "[]int16",
        "Int32Array" => "[]int32",
        "Float32Array" => "[]float32",
        "Float64Array" => "[]float64",
        "Date" => "time.Time",
        "Map" => "[][2]interface {}",
        "Set" => "[]interface {}",
        _ => "map[string]interface {}",
    }
}
