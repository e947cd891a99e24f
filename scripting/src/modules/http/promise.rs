//! `http.asyncRequest`: a request that goes on while the script does.

use std::rc::Rc;

use rquickjs::{Ctx, Promise, Result as JsResult};

use super::request::{self, Arguments, Call};
use crate::{error, state::VuState};

/// Reads the arguments now, sends the request in the background; the iteration waits for it.
pub(super) fn send<'js>(
    ctx: &Ctx<'js>,
    state: &Rc<VuState>,
    arguments: &Arguments<'_, 'js>,
) -> JsResult<Promise<'js>> {
    request::refuse_in_init(ctx, state)?;
    let prepared = request::prepare(ctx, state, arguments)?;
    let (promise, resolve, reject) = ctx.promise()?;
    let Call { request, meta } = match prepared {
        Ok(call) => call,
        Err(problem) if state.settings.throw => {
            reject.call::<_, ()>((error::rejection(ctx, &problem.text)?,))?;
            return Ok(promise);
        }
        Err(problem) => {
            let response = request::warn_and_answer(ctx, state, problem)?;
            resolve.call::<_, ()>((response,))?;
            return Ok(promise);
        }
    };
    let vu = state.clone();
    let work = async move {
        let exchange = vu.client.send(request).await;
        request::finish(&vu, &meta, &exchange);
        (vu, meta, exchange)
    };
    state.background(
        ctx,
        resolve,
        reject,
        work,
        |ctx, (vu, meta, exchange)| match request::thrown(&meta, &exchange) {
            Some(text) => Ok(Err(error::rejection(ctx, &text)?)),
            None => Ok(Ok(request::respond(ctx, &vu, &meta, exchange)?.into_value())),
        },
    )?;
    Ok(promise)
}
