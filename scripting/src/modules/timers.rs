//! `k6/timers`, and the same functions as globals.

use std::time::Duration;

use rquickjs::{
    Coerced, Ctx, Exception, Function, Object, Result as JsResult, Value,
    function::{Opt, Rest},
    module::{Declarations, Exports, ModuleDef},
};

use super::export_all;
use crate::{error, vu::state_of};

const NAMES: &[&str] = &["setTimeout", "clearTimeout", "setInterval", "clearInterval"];

/// The module `k6/timers`.
pub(crate) struct Timers;

impl ModuleDef for Timers {
    fn declare(decl: &Declarations<'_>) -> JsResult<()> {
        for name in NAMES {
            decl.declare(*name)?;
        }
        decl.declare("default")?;
        Ok(())
    }

    fn evaluate<'js>(ctx: &Ctx<'js>, exports: &Exports<'js>) -> JsResult<()> {
        // The very functions that are global.
        let (module, globals) = (Object::new(ctx.clone())?, ctx.globals());
        for name in NAMES {
            module.set(*name, globals.get::<_, Value<'js>>(*name)?)?;
        }
        export_all(exports, &module, NAMES)
    }
}

/// Puts the four functions into `target`.
pub(crate) fn install(target: &Object<'_>) -> JsResult<()> {
    let ctx = target.ctx();
    target.set(
        "setTimeout",
        Function::new(ctx.clone(), set_timeout)?.with_name("setTimeout")?,
    )?;
    target.set(
        "setInterval",
        Function::new(ctx.clone(), set_interval)?.with_name("setInterval")?,
    )?;
    for name in ["clearTimeout", "clearInterval"] {
        target.set(name, Function::new(ctx.clone(), clear)?.with_name(name)?)?;
    }
    Ok(())
}

fn set_timeout<'js>(
    ctx: Ctx<'js>,
    callback: Opt<Value<'js>>,
    delay: Opt<Coerced<f64>>,
    arguments: Rest<Value<'js>>,
) -> JsResult<u32> {
    add(&ctx, "setTimeout", callback.0, delay.0, arguments.0, false)
}

fn set_interval<'js>(
    ctx: Ctx<'js>,
    callback: Opt<Value<'js>>,
    delay: Opt<Coerced<f64>>,
    arguments: Rest<Value<'js>>,
) -> JsResult<u32> {
    add(&ctx, "setInterval", callback.0, delay.0, arguments.0, true)
}

fn add<'js>(
    ctx: &Ctx<'js>,
    name: &str,
    callback: Option<Value<'js>>,
    delay: Option<Coerced<f64>>,
    arguments: Vec<Value<'js>>,
    repeat: bool,
) -> JsResult<u32> {
    let Some(callback) = callback.filter(|c| !c.is_undefined() && !c.is_null()) else {
        let text = format!("{name}'s callback isn't a callable function");
        return Err(error::throw(ctx, &text));
    };
    let Some(callback) = callback.as_function() else {
        return Err(Exception::throw_type(
            ctx,
            "could not convert function call parameter 0: not a function",
        ));
    };
    let ms = delay.map_or(0.0, |d| d.0).clamp(0.0, 1e12);
    let delay = Duration::from_secs_f64(if ms.is_nan() { 0.0 } else { ms } / 1e3);
    let state = state_of(ctx);
    state.guard(ctx)?;
    Ok(state
        .events
        .add_timer(ctx, callback.clone(), delay, repeat, arguments))
}

fn clear<'js>(ctx: Ctx<'js>, id: Opt<Coerced<f64>>) {
    if let Some(id) = id.0 {
        state_of(&ctx).events.clear_timer(id.0 as u32);
    }
}
