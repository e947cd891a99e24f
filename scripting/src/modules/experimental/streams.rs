//! `k6/experimental/streams`: readable and writable streams.
//!
//! In JavaScript, because all that a stream does is call functions of the script and settle
//! promises, and all that it keeps are values of the script, which the collector has to see. The
//! code is compiled once per process; a VU has it only when its script imports the module.

use std::sync::OnceLock;

use rquickjs::{
    Ctx, Error, Object, Result as JsResult, Value,
    module::{Declarations, Exports, ModuleDef},
};

use crate::{
    engine::{self, Bytecode},
    modules::export_all,
};

const SOURCE: &str = include_str!("streams.js");

static COMPILED: OnceLock<Bytecode> = OnceLock::new();

const NAMES: &[&str] = &[
    "ReadableStream",
    "ReadableStreamDefaultReader",
    "CountQueuingStrategy",
    "WritableStream",
    "WritableStreamDefaultWriter",
];

/// The module `k6/experimental/streams`.
pub(crate) struct Streams;

impl ModuleDef for Streams {
    fn declare(decl: &Declarations<'_>) -> JsResult<()> {
        for name in NAMES {
            decl.declare(*name)?;
        }
        decl.declare("default")?;
        Ok(())
    }

    fn evaluate<'js>(ctx: &Ctx<'js>, exports: &Exports<'js>) -> JsResult<()> {
        let code = match COMPILED.get() {
            Some(code) => engine::load(ctx, code)?,
            None => {
                let (module, code) = engine::compile_own(ctx, "streams.js", SOURCE)?;
                // Another VU may have been faster, with the same code.
                let _ = COMPILED.set(code);
                module
            }
        };
        let (code, done) = code.eval()?;
        // It awaits nothing, so it has run to its end.
        done.result::<Value<'js>>().ok_or(Error::Unknown)??;
        let (module, made) = (Object::new(ctx.clone())?, code.namespace()?);
        for name in NAMES {
            module.set(*name, made.get::<_, Value<'js>>(*name)?)?;
        }
        export_all(exports, &module, NAMES)
    }
}

#[cfg(test)]
mod tests;
