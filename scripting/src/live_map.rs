//! JS objects whose members live in Rust: tags, metadata, the environment.
//!
//! Each is a proxy over an empty object. A member that is never read costs a heap nothing, and
//! whatever changes in Rust shows at the next read.

use std::rc::Rc;

use rquickjs::{
    Ctx, Exception, Function, Object, Result as JsResult, Value, function::Constructor,
};

use crate::engine;

/// What is behind such an object. Members are text.
pub(crate) trait LiveMap: 'static {
    /// The member of that name.
    fn get(&self, key: &str) -> Option<String>;
    /// Names of all members, in the order of enumeration.
    fn keys(&self) -> Vec<String>;
    /// Takes an assigned value; the error is the text of a TypeError.
    fn set(&self, key: &str, value: &Value<'_>) -> Result<(), String>;
    /// Forgets a member.
    fn remove(&self, key: &str);
}

/// The object that shows a map.
pub(crate) fn proxy<'js>(ctx: &Ctx<'js>, map: Rc<dyn LiveMap>) -> JsResult<Value<'js>> {
    fn text(key: &Value<'_>) -> Option<String> {
        key.as_string().map(engine::rust_string)
    }
    let handler = Object::new(ctx.clone())?;
    let of = map.clone();
    let get = move |target: Object<'js>, key: Value<'js>| -> JsResult<Value<'js>> {
        match text(&key).and_then(|key| of.get(&key)) {
            Some(value) => {
                let ctx = target.ctx().clone();
                Ok(rquickjs::String::from_str(ctx, &value)?.into_value())
            }
            None => target.get(key),
        }
    };
    handler.set("get", Function::new(ctx.clone(), get)?)?;
    let of = map.clone();
    let set = move |ctx: Ctx<'js>, _: Object<'js>, key: Value<'js>, value: Value<'js>| {
        let set = of.set(&text(&key).unwrap_or_default(), &value);
        set.map(|()| true)
            .map_err(|text| Exception::throw_type(&ctx, &text))
    };
    handler.set("set", Function::new(ctx.clone(), set)?)?;
    let of = map.clone();
    let remove = move |_: Object<'js>, key: Value<'js>| {
        of.remove(&text(&key).unwrap_or_default());
        true
    };
    handler.set("deleteProperty", Function::new(ctx.clone(), remove)?)?;
    let of = map.clone();
    let has = move |target: Object<'js>, key: Value<'js>| -> JsResult<bool> {
        let own = text(&key).is_some_and(|key| of.get(&key).is_some());
        Ok(own || target.contains_key(key)?)
    };
    handler.set("has", Function::new(ctx.clone(), has)?)?;
    let of = map.clone();
    let keys = move || of.keys();
    handler.set("ownKeys", Function::new(ctx.clone(), keys)?)?;
    let describe = move |ctx: Ctx<'js>, _: Object<'js>, key: Value<'js>| {
        let Some(value) = text(&key).and_then(|key| map.get(&key)) else {
            return Ok(Value::new_undefined(ctx));
        };
        let descriptor = Object::new(ctx)?;
        descriptor.set("value", value)?;
        for flag in ["writable", "enumerable", "configurable"] {
            descriptor.set(flag, true)?;
        }
        Ok::<_, rquickjs::Error>(descriptor.into_value())
    };
    let describe = Function::new(ctx.clone(), describe)?;
    handler.set("getOwnPropertyDescriptor", describe)?;
    let class: Constructor<'js> = ctx.globals().get("Proxy")?;
    class.construct((Object::new(ctx.clone())?, handler))
}
