//! `http.asyncRequest`: a request that goes on while the script does.

use std::{pin::pin, rc::Rc};

use futures_util::future::{Either, select};
use rquickjs::{Ctx, Promise, Result as JsResult};

use super::{
    request::{self, Arguments, Call, Problem},
    response,
};
use volley_net as net;

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
            reject.call::<_, ()>((error::rejection(ctx, "", &problem.text)?,))?;
            return Ok(promise);
        }
        Err(problem) => {
            let response = request::warn_and_answer(ctx, state, problem)?;
            resolve.call::<_, ()>((response,))?;
            return Ok(promise);
        }
    };
    let vu = state.clone();
    let cancelled = state.events.cancelled();
    let line = net::call_text(&request.method, &request.url);
    let work = async move {
        let exchange = {
            let sent = pin!(vu.client.send(request));
            match select(sent, pin!(cancelled)).await {
                Either::Left((exchange, _)) => Some(exchange),
                Either::Right(_) => None,
            }
        };
        if let Some(exchange) = &exchange {
            request::finish(&vu, &meta, exchange);
        }
        (vu, meta, exchange)
    };
    state.background(
        ctx,
        resolve,
        reject,
        work,
        move |ctx, (vu, meta, exchange)| {
            let Some(exchange) = exchange else {
                // Without a line in the log and without samples: nobody waits for it any more.
                let text = format!("{line}: context canceled");
                return if meta.throw {
                    Ok(Err(error::rejection(ctx, "", &text)?))
                } else {
                    let problem = Problem { text, code: 1000 };
                    Ok(Ok(response::parse_error(ctx, &vu, problem)?.into_value()))
                };
            };
            match request::thrown(&meta, &exchange) {
                Some(text) => Ok(Err(error::rejection(ctx, "", &text)?)),
                None => Ok(Ok(request::respond(ctx, &vu, &meta, exchange)?.into_value())),
            }
        },
    )?;
    Ok(promise)
}
