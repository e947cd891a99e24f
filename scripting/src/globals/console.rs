//! `console.*`: one log line a call, formatted as k6 does (script-runtime.md §6.1).

use std::rc::Rc;

use rquickjs::{
    ArrayBuffer, Ctx, Filter, Function, Object, Result as JsResult, Value, function::Rest,
};

use crate::{engine, error, host::Level, json, state::VuState};

pub(crate) fn install<'js>(ctx: &Ctx<'js>, state: &Rc<VuState>) -> JsResult<()> {
    let console = Object::new(ctx.clone())?;
    for (name, level) in [
        ("log", Level::Info),
        ("info", Level::Info),
        ("debug", Level::Debug),
        ("warn", Level::Warning),
        ("error", Level::Error),
    ] {
        let state = state.clone();
        let method = Function::new(ctx.clone(), move |ctx: Ctx<'js>, args: Rest<Value<'js>>| {
            state.guard(&ctx)?;
            let mut line = String::new();
            for (index, value) in args.0.iter().enumerate() {
                if index > 0 {
                    line.push(' ');
                }
                format_top(&mut line, value);
            }
            state.log(level, &line, &[("source", "console")]);
            Ok::<_, rquickjs::Error>(())
        })?
        .with_name(name)?;
        console.set(name, method)?;
    }
    ctx.globals().set("console", console)
}

/// A value as an argument of `console.log`.
fn format_top(out: &mut String, value: &Value<'_>) {
    if let Some(text) = value.as_string() {
        out.push_str(&engine::rust_string(text));
    } else if value.is_undefined() {
        out.push_str("undefined");
    } else if value.is_null() {
        out.push_str("null");
    } else if value.is_symbol() {
        out.push_str(&symbol_text(value));
    } else {
        format_nested(out, value, &mut Vec::new());
    }
}

fn symbol_text(value: &Value<'_>) -> String {
    value
        .as_symbol()
        .and_then(|s| s.description().ok())
        .and_then(|d| d.as_string().map(engine::rust_string))
        .unwrap_or_default()
}

fn format_nested<'js>(out: &mut String, value: &Value<'js>, parents: &mut Vec<Object<'js>>) {
    if let Some(text) = value.as_string() {
        out.push('"');
        out.push_str(&engine::rust_string(text));
        out.push('"');
        return;
    }
    if value.is_undefined() || value.is_null() {
        out.push_str("null");
        return;
    }
    if value.is_symbol() {
        out.push('"');
        out.push_str(&symbol_text(value));
        out.push('"');
        return;
    }
    let Some(object) = value.as_object() else {
        out.push_str(&error::to_text(value));
        return;
    };
    if value.is_function() || value.is_constructor() {
        out.push_str("[object Function]");
        return;
    }
    if value.is_error() {
        out.push_str(&error::to_text(value));
        return;
    }
    if parents.contains(object) {
        out.push_str("[Circular]");
        return;
    }
    parents.push(object.clone());
    format_object(out, value.ctx(), object, parents);
    parents.pop();
}

fn format_object<'js>(
    out: &mut String,
    ctx: &Ctx<'js>,
    object: &Object<'js>,
    parents: &mut Vec<Object<'js>>,
) {
    if let Some(array) = object.as_array() {
        let items: Vec<Value<'js>> = (0..array.len())
            .map(|i| array.get(i).unwrap_or_else(|_| undefined_after(ctx)))
            .collect();
        return format_list(out, &items, parents);
    }
    if let Some(buffer) = ArrayBuffer::from_object(object.clone()) {
        let bytes = crate::engine::buffer_bytes(&buffer);
        let hex: Vec<String> = bytes.iter().map(|b| format!("{b:02x}")).collect();
        out.push_str(&format!(
            "ArrayBuffer {{ [Uint8Contents]: <{}>, byteLength: {} }}",
            hex.join(" "),
            bytes.len()
        ));
        return;
    }
    let class = json::class_of(ctx, object);
    match class.as_str() {
        // With members of its own it shows those, like any object.
        "Date" if object.keys::<String>().next().is_none() => {
            match error::call_method(object, "toISOString") {
                Ok(text) => out.push_str(&format!("\"{}\"", error::to_text(&text))),
                Err(_) => {
                    let _ = ctx.catch();
                    out.push_str("{}");
                }
            }
            return;
        }
        // A proxy of an array says that it is an `Array`; the reference shows it as an object.
        name if name.ends_with("Array") && name != "Array" => {
            let length: usize = object.get("length").unwrap_or(0);
            let items: Vec<Value<'js>> = (0..length as u32)
                .map(|i| object.get(i).unwrap_or_else(|_| undefined_after(ctx)))
                .collect();
            let name = if name == "Uint8ClampedArray" {
                "Uint8Array"
            } else {
                name
            };
            out.push_str(&format!("{name}({length}) "));
            return format_list(out, &items, parents);
        }
        _ => {}
    }
    let mut first = true;
    for key in object.own_keys::<rquickjs::String<'js>>(Filter::new().string().enum_only()) {
        let Ok(key) = key else { continue };
        out.push_str(if first { "{ " } else { ", " });
        first = false;
        out.push_str(&engine::rust_string(&key));
        out.push_str(": ");
        let member = object.get(key).unwrap_or_else(|_| undefined_after(ctx));
        format_nested(out, &member, parents);
    }
    out.push_str(if first { "{}" } else { " }" });
}

fn format_list<'js>(out: &mut String, items: &[Value<'js>], parents: &mut Vec<Object<'js>>) {
    if items.is_empty() {
        out.push_str("[]");
        return;
    }
    for (index, item) in items.iter().enumerate() {
        out.push_str(if index == 0 { "[ " } else { ", " });
        format_nested(out, item, parents);
    }
    out.push_str(" ]");
}

/// A getter threw: the line shows nothing for it.
fn undefined_after<'js>(ctx: &Ctx<'js>) -> Value<'js> {
    let _ = ctx.catch();
    Value::new_undefined(ctx.clone())
}
