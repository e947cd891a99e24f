//! `k6/secrets`: values that the run keeps, and keeps out of the log.

use std::rc::Rc;

use rquickjs::{
    Ctx, Function, Object, Persistent, Promise, Result as JsResult, Value,
    function::Opt,
    module::{Declarations, Exports, ModuleDef},
};

use super::string_argument;
use crate::{error, event_loop::Completion, state::VuState, vu::state_of};

/// The module `k6/secrets`. It has a default export only.
pub(crate) struct Secrets;

impl ModuleDef for Secrets {
    fn declare(decl: &Declarations<'_>) -> JsResult<()> {
        decl.declare("default")?;
        Ok(())
    }

    fn evaluate<'js>(ctx: &Ctx<'js>, exports: &Exports<'js>) -> JsResult<()> {
        let state = state_of(ctx);
        let module = source_object(ctx, &state, None)?;
        let source = move |ctx: Ctx<'js>, name: Opt<Value<'js>>| {
            source_object(&ctx, &state, Some(string_argument(name.0)))
        };
        let source = Function::new(ctx.clone(), source)?.with_name("source")?;
        module.set("source", source)?;
        exports.export("default", module)?;
        Ok(())
    }
}

/// The object whose `get` asks that source, or the default one.
fn source_object<'js>(
    ctx: &Ctx<'js>,
    state: &Rc<VuState>,
    source: Option<String>,
) -> JsResult<Object<'js>> {
    let state = state.clone();
    let get = move |ctx: Ctx<'js>, key: Opt<Value<'js>>| {
        get(&ctx, &state, source.as_deref(), &string_argument(key.0))
    };
    let object = Object::new(ctx.clone())?;
    object.set("get", Function::new(ctx.clone(), get)?.with_name("get")?)?;
    Ok(object)
}

fn get<'js>(
    ctx: &Ctx<'js>,
    state: &VuState,
    source: Option<&str>,
    key: &str,
) -> JsResult<Promise<'js>> {
    state.guard(ctx)?;
    let answer = state.host.secret(source, key);
    let (promise, resolve, reject) = ctx.promise()?;
    let (resolve, reject) = (
        Persistent::save(ctx, resolve),
        Persistent::save(ctx, reject),
    );
    state.events.start(async move {
        let answer = answer.await;
        let tell: Completion = Box::new(move |ctx| match answer {
            Ok(secret) => resolve.restore(ctx)?.call((secret,)),
            Err(text) => {
                let reason = error::rejection(ctx, "", &text)?;
                reject.restore(ctx)?.call((reason,))
            }
        });
        tell
    });
    Ok(promise)
}

#[cfg(test)]
mod tests {
    use crate::harness::run;

    #[test]
    fn secrets_come_as_promises_at_the_top_level_and_later() {
        let lines = run(
            "import secrets from 'k6/secrets';
             const early = await secrets.get('known');
             export default async function () {
               const source = secrets.source('vault'); const { get } = source;
               console.log(early, await get('known'), get('known') instanceof Promise, Object.keys(secrets).join());
               for (const f of [() => secrets.get('other'), () => secrets.get(), () => secrets.source('absent').get('known')])
                 try { await f(); console.log('worked') } catch (e) { console.log(String(e), '|', e.message) }
               secrets.get('lost');
             }",
            1,
        );
        assert_eq!(
            lines,
            [
                "nobody's secret vault's secret true get,source",
                "no value | no value",
                "no value | no value",
                "no such source | no such source",
                "Error: Uncaught (in promise) no value",
            ]
        );
    }
}
