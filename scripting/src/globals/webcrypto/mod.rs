//! The global `crypto`: the part of the web's cryptography that k6 has.

mod aes;
mod algorithm;
mod elliptic;
mod key;
mod problem;
mod rsa_keys;
mod subtle;

use rquickjs::{
    Ctx, Function, IntoJs, Object, Result as JsResult, Value,
    function::{Opt, This},
    object::{Accessor, Property},
};

use crate::{
    binary,
    engine::{self, ViewKind},
    error,
};

/// Most items that `getRandomValues` fills.
const MOST_VALUES: usize = 65_536;

/// Makes the object. Its `subtle` is made when a script looks at it.
pub(super) fn crypto<'js>(ctx: &Ctx<'js>) -> JsResult<Value<'js>> {
    let crypto = Object::new(ctx.clone())?;
    crypto.prop(
        "CryptoKey",
        Property::from(Object::new(ctx.clone())?).enumerable(),
    )?;
    let function = Function::new(ctx.clone(), get_random_values)?;
    let function = function.with_name("getRandomValues")?;
    crypto.prop("getRandomValues", Property::from(function).enumerable())?;
    let function = Function::new(ctx.clone(), random_uuid)?.with_name("randomUUID")?;
    crypto.prop("randomUUID", Property::from(function).enumerable())?;
    let get = |this: This<Object<'js>>| {
        let subtle = subtle::object(this.ctx())?;
        let settled = Property::from(subtle.clone()).enumerable();
        this.prop("subtle", settled)?;
        Ok::<_, rquickjs::Error>(subtle)
    };
    crypto.prop("subtle", Accessor::new_get(get).configurable().enumerable())?;
    crypto.into_js(ctx)
}

fn get_random_values<'js>(ctx: Ctx<'js>, array: Opt<Value<'js>>) -> JsResult<Value<'js>> {
    let integers = |value: &Value<'js>| {
        matches!(
            engine::view_kind(value),
            Some(ViewKind::Bytes | ViewKind::Integers)
        )
    };
    let Some(array) = array.0.filter(integers) else {
        return Err(error::throw(
            &ctx,
            "TypeMismatchError: typedArray parameter isn't a TypedArray instance",
        ));
    };
    let length: usize = match array.as_object() {
        Some(object) => object.get("length")?,
        None => 0,
    };
    if length > MOST_VALUES {
        return Err(error::throw(
            &ctx,
            "QuotaExceededError: typedArray parameter is too big; maximum length is 65536",
        ));
    }
    let mut filled = Ok(());
    engine::fill_view(&array, |bytes| filled = getrandom::fill(bytes));
    match filled {
        Ok(()) => Ok(array),
        Err(problem) => Err(error::throw(&ctx, &problem.to_string())),
    }
}

fn random_uuid(ctx: Ctx<'_>) -> JsResult<String> {
    let mut bytes = [0u8; 16];
    getrandom::fill(&mut bytes).map_err(|problem| error::throw(&ctx, &problem.to_string()))?;
    bytes[6] = bytes[6] & 0x0f | 0x40;
    bytes[8] = bytes[8] & 0x3f | 0x80;
    let hex = binary::hex(&bytes);
    let parts = [
        &hex[..8],
        &hex[8..12],
        &hex[12..16],
        &hex[16..20],
        &hex[20..],
    ];
    Ok(parts.join("-"))
}

#[cfg(test)]
mod tests;
