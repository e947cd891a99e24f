//! `k6/experimental/webcrypto`, from before `crypto` was global: the same object.

use rquickjs::{
    Ctx, Object, Result as JsResult, Value,
    module::{Declarations, Exports, ModuleDef},
};

use crate::error;

pub(crate) struct WebCrypto;

impl ModuleDef for WebCrypto {
    fn declare(declare: &Declarations<'_>) -> JsResult<()> {
        declare.declare("crypto")?.declare("default")?;
        Ok(())
    }

    fn evaluate<'js>(ctx: &Ctx<'js>, exports: &Exports<'js>) -> JsResult<()> {
        let crypto: Value<'js> = ctx.globals().get("crypto")?;
        if crypto.is_undefined() {
            return Err(error::throw(
                ctx,
                "k6/experimental/webcrypto needs the global `crypto`, which is not supported by this \
                 version of Volley; docs/compatibility.md lists what is",
            ));
        }
        let default = Object::new(ctx.clone())?;
        default.set("crypto", crypto.clone())?;
        exports
            .export("crypto", crypto)?
            .export("default", default)?;
        Ok(())
    }
}
