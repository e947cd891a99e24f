//! `__ENV`: made when a VU first looks at it, so that an environment nobody reads costs nothing.

use std::{collections::BTreeMap, rc::Rc};

use rquickjs::{
    Ctx, Object, Result as JsResult, Value,
    object::{Accessor, Property},
};

use crate::state::VuState;

/// Defines `__ENV` anew: the process-wide values with `overlay` over them.
pub(crate) fn install<'js>(
    ctx: &Ctx<'js>,
    state: &Rc<VuState>,
    overlay: &[(String, String)],
) -> JsResult<()> {
    let overlay: Rc<[(String, String)]> = overlay.into();
    let script = state.script.clone();
    let get = move |ctx: Ctx<'js>| -> JsResult<Object<'js>> {
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
        settle(&ctx, object.clone().into_value())?;
        Ok(object)
    };
    let set = |ctx: Ctx<'js>, value: Value<'js>| settle(&ctx, value);
    ctx.globals()
        .prop("__ENV", Accessor::new(get, set).configurable().enumerable())
}

/// From the first look on it is an ordinary property.
fn settle<'js>(ctx: &Ctx<'js>, value: Value<'js>) -> JsResult<()> {
    ctx.globals().prop(
        "__ENV",
        Property::from(value).configurable().enumerable().writable(),
    )
}
