//! `k6/data`: SharedArray, one copy of the data for all VUs of the process.
//!
//! Each element is kept as JSON text and parsed, into a frozen copy, whenever it is read.

use std::{rc::Rc, sync::Arc};

use rquickjs::{
    Ctx, Exception, Function, Object, Result as JsResult, Value,
    function::{Constructor, Opt, This},
    module::{Declarations, Exports, ModuleDef},
};

use super::export_all;
use crate::{engine, error, state::VuState, vu::state_of};

/// The elements of a shared array. `None` for what JSON has no text for.
pub(crate) type Shared = Vec<Option<Box<str>>>;

/// The module `k6/data`.
pub(crate) struct Data;

impl ModuleDef for Data {
    fn declare(decl: &Declarations<'_>) -> JsResult<()> {
        decl.declare("SharedArray")?;
        decl.declare("default")?;
        Ok(())
    }

    fn evaluate<'js>(ctx: &Ctx<'js>, exports: &Exports<'js>) -> JsResult<()> {
        let module = Object::new(ctx.clone())?;
        let state = state_of(ctx);
        let class = Function::new(
            ctx.clone(),
            move |ctx: Ctx<'js>, name: Opt<Value<'js>>, make: Opt<Value<'js>>| {
                shared_array(&ctx, &state, name.0, make.0)
            },
        )?
        .with_constructor(true)
        .with_name("SharedArray")?;
        module.set("SharedArray", class)?;
        export_all(exports, &module, &["SharedArray"])
    }
}

fn shared_array<'js>(
    ctx: &Ctx<'js>,
    state: &Rc<VuState>,
    name: Option<Value<'js>>,
    make: Option<Value<'js>>,
) -> JsResult<Value<'js>> {
    if !state.in_init() {
        return Err(error::throw(
            ctx,
            "new SharedArray must be called in the init context",
        ));
    }
    let name = name.map_or_else(|| "undefined".to_owned(), |n| error::to_text(&n));
    if name.is_empty() {
        return Err(error::throw(
            ctx,
            "empty name provided to SharedArray's constructor",
        ));
    }
    let Some(make) = make.as_ref().and_then(|m| m.as_function()) else {
        return Err(error::throw(
            ctx,
            "a function is expected as the second argument of SharedArray's constructor",
        ));
    };
    if engine::is_async_function(make) {
        return Err(error::throw(
            ctx,
            "SharedArray constructor does not support async functions as second argument",
        ));
    }
    let data = match state.script.shared_array(&name) {
        Some(known) => known,
        None => {
            let made: Value<'js> = make.call(())?;
            if made.is_null() || made.is_undefined() {
                return Err(Exception::throw_type(
                    ctx,
                    "Cannot convert undefined or null to object",
                ));
            }
            let Some(array) = made.as_array() else {
                return Err(error::throw(
                    ctx,
                    "only arrays can be made into SharedArray",
                ));
            };
            let mut elements = Shared::with_capacity(array.len());
            for index in 0..array.len() {
                let text = ctx.json_stringify(array.get::<Value<'js>>(index)?)?;
                elements.push(text.map(|t| engine::rust_string(&t).into_boxed_str()));
            }
            state.script.keep_shared_array(name, elements)
        }
    };
    proxy(ctx, data)
}

/// A proxy over an empty array, so that `Array.isArray` and the array methods work.
pub(crate) fn proxy<'js>(ctx: &Ctx<'js>, data: Arc<Shared>) -> JsResult<Value<'js>> {
    let handler = Object::new(ctx.clone())?;
    let freeze: Function<'js> = ctx.eval(
        "(function f(v){if(v!==null&&typeof v==='object'&&!Object.isFrozen(v)){Object.freeze(v);\
         for(const k of Object.keys(v))f(v[k])}return v})",
    )?;
    let length = data.len();
    // Kept on the handler, which is `this` in every trap, where the collector sees it.
    handler.set("freeze", freeze)?;
    let element = {
        move |ctx: &Ctx<'js>,
              handler: &Object<'js>,
              key: &Value<'js>|
              -> JsResult<Option<Value<'js>>> {
            let Some(index) = key
                .as_string()
                .and_then(|k| k.to_string().ok())
                .and_then(|k| k.parse::<usize>().ok())
            else {
                return Ok(None);
            };
            match data.get(index) {
                None => Ok(None),
                // As the reference: such an element is accepted, reading it is an error.
                Some(None) => Err(Exception::throw_syntax(ctx, "unexpected end of JSON input")),
                Some(Some(text)) => {
                    let value = ctx.json_parse(&text[..])?;
                    let freeze: Function<'js> = handler.get("freeze")?;
                    freeze.call((value,)).map(Some)
                }
            }
        }
    };
    let element = Rc::new(element);
    let get = element.clone();
    handler.set(
        "get",
        Function::new(
            ctx.clone(),
            move |ctx: Ctx<'js>,
                  this: This<Object<'js>>,
                  target: Object<'js>,
                  key: Value<'js>|
                  -> JsResult<Value<'js>> {
                if key.as_string().and_then(|k| k.to_string().ok()).as_deref() == Some("length") {
                    return Ok(Value::new_number(ctx, length as f64));
                }
                match get(&ctx, &this.0, &key)? {
                    Some(value) => Ok(value),
                    None => target.get(key),
                }
            },
        )?,
    )?;
    let has = move |key: &Value<'js>| {
        key.as_string()
            .and_then(|k| k.to_string().ok())
            .and_then(|k| k.parse::<usize>().ok())
            .is_some_and(|index| index < length)
    };
    handler.set(
        "has",
        Function::new(
            ctx.clone(),
            move |target: Object<'js>, key: Value<'js>| -> JsResult<bool> {
                Ok(has(&key) || target.contains_key(key)?)
            },
        )?,
    )?;
    let describe = element;
    handler.set(
        "getOwnPropertyDescriptor",
        Function::new(
            ctx.clone(),
            move |ctx: Ctx<'js>,
                  this: This<Object<'js>>,
                  _target: Object<'js>,
                  key: Value<'js>|
                  -> JsResult<Value<'js>> {
                let descriptor = Object::new(ctx.clone())?;
                if key.as_string().and_then(|k| k.to_string().ok()).as_deref() == Some("length") {
                    descriptor.set("value", length as f64)?;
                    descriptor.set("writable", true)?;
                    return Ok(descriptor.into_value());
                }
                let Some(value) = describe(&ctx, &this.0, &key)? else {
                    return Ok(Value::new_undefined(ctx));
                };
                descriptor.set("value", value)?;
                for flag in ["writable", "enumerable", "configurable"] {
                    descriptor.set(flag, true)?;
                }
                Ok(descriptor.into_value())
            },
        )?,
    )?;
    handler.set(
        "ownKeys",
        Function::new(ctx.clone(), move || -> Vec<String> {
            (0..length)
                .map(|i| i.to_string())
                .chain(["length".to_owned()])
                .collect()
        })?,
    )?;
    for trap in [
        "set",
        "deleteProperty",
        "defineProperty",
        "setPrototypeOf",
        "preventExtensions",
    ] {
        handler.set(
            trap,
            Function::new(ctx.clone(), |ctx: Ctx<'js>| {
                Err::<bool, _>(Exception::throw_type(&ctx, "SharedArray is immutable"))
            })?,
        )?;
    }
    let target = rquickjs::Array::new(ctx.clone())?;
    let class: Constructor<'js> = ctx.globals().get("Proxy")?;
    class.construct((target, handler))
}
