//! What scripts find without an import: console, timers, `__ENV`, `open`, coders of text, `crypto`.

pub(crate) mod console;
pub(crate) mod env;
mod open;
mod text_coders;
mod webcrypto;

use std::rc::Rc;

use rquickjs::{Ctx, Object, Result as JsResult, Value, object::Property};

use crate::{
    engine::{self, LazyGlobals},
    json,
    modules::timers,
    state::VuState,
    vu::state_of,
};

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

/// What is made when a script first looks at it.
const LAZY: &[LazyGlobals] = &[
    LazyGlobals {
        names: &["console"],
        make: |ctx| console::install(ctx, &state_of(ctx)),
    },
    LazyGlobals {
        names: &["setTimeout", "setInterval", "clearTimeout", "clearInterval"],
        make: |ctx| timers::install(&ctx.globals()),
    },
    LazyGlobals {
        names: &["open"],
        make: |ctx| open::install(ctx, &state_of(ctx)),
    },
    LazyGlobals {
        names: &["crypto"],
        make: |ctx| define(ctx, "crypto", webcrypto::crypto(ctx)?),
    },
    LazyGlobals {
        names: &["TextDecoder"],
        make: |ctx| define(ctx, "TextDecoder", text_coders::decoder(ctx)?),
    },
    LazyGlobals {
        names: &["TextEncoder"],
        make: |ctx| define(ctx, "TextEncoder", text_coders::encoder(ctx)?),
    },
    LazyGlobals {
        names: &["Date"],
        make: engine::add_date,
    },
    LazyGlobals {
        names: &["Map", "Set", "WeakMap", "WeakSet"],
        make: engine::add_collections,
    },
    LazyGlobals {
        names: &[
            "ArrayBuffer",
            "BigInt64Array",
            "BigUint64Array",
            "DataView",
            "Float16Array",
            "Float32Array",
            "Float64Array",
            "Int16Array",
            "Int32Array",
            "Int8Array",
            "Uint16Array",
            "Uint32Array",
            "Uint8Array",
            "Uint8ClampedArray",
        ],
        make: |ctx| {
            engine::add_typed_arrays(ctx)?;
            remove_absent(ctx)
        },
    },
];

/// Puts everything there, before the script's modules run.
pub(crate) fn install<'js>(ctx: &Ctx<'js>, state: &Rc<VuState>) -> JsResult<()> {
    let globals = ctx.globals();
    remove_absent(ctx)?;
    engine::install_lazy_globals(ctx, LAZY)?;
    globals.set("__VU", state.id as f64)?;
    globals.set("__ITER", Value::new_undefined(ctx.clone()))?;
    if state.script.extended() {
        globals.set("global", globals.clone())?;
    }
    env::install(ctx, state, &[])
}

/// Defines a global like any other.
fn define<'js>(ctx: &Ctx<'js>, name: &str, value: Value<'js>) -> JsResult<()> {
    let property = Property::from(value);
    let property = property.configurable().enumerable().writable();
    ctx.globals().prop(name, property)
}

fn remove_absent(ctx: &Ctx<'_>) -> JsResult<()> {
    let globals = ctx.globals();
    for name in ABSENT {
        if globals.contains_key(name)? {
            globals.remove(name)?;
        }
    }
    Ok(())
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
