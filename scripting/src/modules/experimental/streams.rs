//! `k6/experimental/streams`: readable and writable streams.
//!
//! In JavaScript, because all that a stream does is call functions of the script and settle
//! promises, and all that it keeps are values of the script, which the collector has to see. The
//! code is compiled once per process; a VU has it only when its script imports the module.

use std::sync::OnceLock;

use rquickjs::{Ctx, Module, Result as JsResult, module::Declared};

use crate::engine::{self, Bytecode};

const SOURCE: &str = include_str!("streams.js");

static COMPILED: OnceLock<Bytecode> = OnceLock::new();

/// Declares the module in a context.
pub(crate) fn declare<'js>(ctx: &Ctx<'js>, name: &str) -> JsResult<Module<'js, Declared>> {
    if let Some(code) = COMPILED.get() {
        return engine::load(ctx, code);
    }
    let (module, code) = engine::compile(ctx, name, SOURCE.as_bytes())?;
    // Another VU may have been faster, with the same code.
    let _ = COMPILED.set(code);
    Ok(module)
}

#[cfg(test)]
mod tests;
