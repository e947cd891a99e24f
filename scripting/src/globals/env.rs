//! `__ENV`: made when a VU first looks at it, so that an environment nobody reads costs nothing.

use std::{collections::BTreeMap, rc::Rc};

use rquickjs::{
    Ctx, Function, Object, Result as JsResult, Value,
    function::Constructor,
    object::{Accessor, Property},
};

use crate::{error, state::VuState};

/// Defines `__ENV` anew: the process-wide values with `overlay` over them.
pub(crate) fn install<'js>(
    ctx: &Ctx<'js>,
    state: &Rc<VuState>,
    overlay: &[(String, String)],
) -> JsResult<()> {
    let overlay: Rc<[(String, String)]> = overlay.into();
    let script = state.script.clone();
    let get = move |ctx: Ctx<'js>| -> JsResult<Value<'js>> {
        let merged: BTreeMap<&str, &str> = script
            .env()
            .iter()
            .chain(overlay.iter())
            .map(|(key, value)| (key.as_str(), value.as_str()))
            .collect();
        let object = Object::new(ctx.clone())?;
        for (key, value) in merged {
            object.set(key, value)?;
        }
        let shown = texts_only(&ctx, object)?;
        settle(&ctx, shown.clone())?;
        Ok(shown)
    };
    let set = |ctx: Ctx<'js>, value: Value<'js>| settle(&ctx, value);
    ctx.globals()
        .prop("__ENV", Accessor::new(get, set).configurable().enumerable())
}

/// What a script assigns becomes text, as in a real environment. Reading goes straight through.
fn texts_only<'js>(ctx: &Ctx<'js>, object: Object<'js>) -> JsResult<Value<'js>> {
    let handler = Object::new(ctx.clone())?;
    handler.set(
        "set",
        Function::new(
            ctx.clone(),
            |target: Object<'js>, key: Value<'js>, value: Value<'js>| -> JsResult<bool> {
                target.set(key, error::to_text(&value))?;
                Ok(true)
            },
        )?,
    )?;
    let proxy: Constructor<'js> = ctx.globals().get("Proxy")?;
    proxy.construct((object, handler))
}

/// From the first look on it is an ordinary property.
fn settle<'js>(ctx: &Ctx<'js>, value: Value<'js>) -> JsResult<()> {
    ctx.globals().prop(
        "__ENV",
        Property::from(value).configurable().enumerable().writable(),
    )
}
