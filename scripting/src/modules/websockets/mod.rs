//! `k6/websockets`: WebSockets as browsers have them, on the event loop, and `Blob`.

mod blob;
mod connection;
mod socket;

use rquickjs::{
    Ctx, Object, Result as JsResult, Value,
    function::{Constructor, Rest},
    module::{Declarations, Exports, ModuleDef},
};

use super::export_all;
use crate::{
    class::{Of, Shape},
    engine::Managed,
};

/// The module `k6/websockets`.
pub(crate) struct WebSockets;

impl ModuleDef for WebSockets {
    fn declare(decl: &Declarations<'_>) -> JsResult<()> {
        for name in ["WebSocket", "Blob", "default"] {
            decl.declare(name)?;
        }
        Ok(())
    }

    fn evaluate<'js>(ctx: &Ctx<'js>, exports: &Exports<'js>) -> JsResult<()> {
        let module = Object::new(ctx.clone())?;
        class(&module, socket::construct)?;
        class(&module, blob::construct)?;
        export_all(exports, &module, &["WebSocket", "Blob"])
    }
}

/// Makes an object from the arguments of a constructor.
type Construct<K> = for<'js> fn(&Ctx<'js>, &[Value<'js>]) -> JsResult<Of<'js, K>>;

/// Puts a class into the module.
fn class<K: Shape>(module: &Object<'_>, construct: Construct<K>) -> JsResult<()> {
    fn of<'js, K: Shape>(
        module: &Object<'js>,
        construct: Construct<K>,
    ) -> JsResult<Constructor<'js>> {
        Constructor::new_class::<Managed<'js, K>, _, _>(
            module.ctx().clone(),
            move |ctx: Ctx<'js>, arguments: Rest<Value<'js>>| construct(&ctx, &arguments.0),
        )
    }
    module.set(K::NAME, of(module, construct)?)
}

#[cfg(test)]
mod tests;
