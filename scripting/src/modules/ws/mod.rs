//! `k6/ws`: WebSockets whose handlers run while `connect` blocks the VU.

pub(crate) mod params;
pub(crate) mod session;
mod socket;

use std::rc::Rc;

use rquickjs::{
    Ctx, Function, Object, Result as JsResult, Value,
    function::Rest,
    module::{Declarations, Exports, ModuleDef},
};
use volley_net as net;

use self::{
    params::{Fault, Params, compression_text},
    session::{Labels, Session},
};
use super::{export_all, http, string_argument};
use crate::{
    engine::{self, Stopped},
    error,
    state::VuState,
    vu::state_of,
};

/// What both modules of WebSockets say at the top level of a module.
pub(crate) const IN_INIT: &str = "using websockets in the init context is not supported";

/// The module `k6/ws`.
pub(crate) struct Ws;

impl ModuleDef for Ws {
    fn declare(decl: &Declarations<'_>) -> JsResult<()> {
        decl.declare("connect")?;
        decl.declare("default")?;
        Ok(())
    }

    fn evaluate<'js>(ctx: &Ctx<'js>, exports: &Exports<'js>) -> JsResult<()> {
        let module = Object::new(ctx.clone())?;
        let state = state_of(ctx);
        let connect = Function::new(
            ctx.clone(),
            move |ctx: Ctx<'js>, arguments: Rest<Value<'js>>| connect(&ctx, &state, &arguments.0),
        )?;
        module.set("connect", connect.with_name("connect")?)?;
        export_all(exports, &module, &["connect"])
    }
}

/// `connect(url, params?, callback)`.
fn connect<'js>(
    ctx: &Ctx<'js>,
    state: &Rc<VuState>,
    arguments: &[Value<'js>],
) -> JsResult<Object<'js>> {
    if state.in_init() {
        return Err(error::throw(ctx, IN_INIT));
    }
    state.guard(ctx)?;
    let (url, params, callback) = match arguments {
        [url, callback] => (url, None, callback),
        [url, params, callback] => (url, Some(params), callback),
        _ => {
            let text = "invalid number of arguments to ws.connect";
            return Err(error::throw(ctx, text));
        }
    };
    let Some(callback) = callback.as_function() else {
        let text = "last argument to ws.connect must be a function";
        return Err(error::throw(ctx, text));
    };
    let params = Params::read(state, params, false)?.map_err(|fault| {
        error::throw(
            ctx,
            &match fault {
                Fault::Tags(text) => format!("invalid ws.connect() metric tags: {text}"),
                Fault::Compression(algorithm) => compression_text(&algorithm),
                Fault::Unknown(_) => unreachable!("they are ignored"),
            },
        )
    })?;
    let text = string_argument(Some(url.clone()));
    let url = match net::Url::parse(&text) {
        Ok(url) => url,
        Err(error) => return refused(ctx, state, None, &error.to_string()),
    };
    let (request, tags) = params.request(url);
    let labels = Labels {
        base: state.tag_set(),
        tags,
        url: text.clone(),
        named: false,
    };
    let opened = state.wait(state.client.open_socket(&request));
    let mut opened = opened.map_err(|Stopped| engine::throw_uncatchable(ctx))?;
    let session = Session::begin(state, &labels, &opened);
    let socket = std::mem::replace(&mut opened.socket, Err(net::ws::Error::Gone));
    let response = opened.response.as_ref();
    match socket {
        Err(error) => refused(ctx, state, response, &error.to_string()),
        Ok(socket) => {
            socket::run(ctx, socket, session, callback)?;
            answer(ctx, &text, response, "")
        }
    }
}

/// There is no connection: what `connect` answers then, or throws.
fn refused<'js>(
    ctx: &Ctx<'js>,
    state: &VuState,
    response: Option<&net::Response>,
    error: &str,
) -> JsResult<Object<'js>> {
    if state.settings.throw {
        return Err(error::throw(ctx, error));
    }
    // An answer says more than the error about it.
    answer(
        ctx,
        "",
        response,
        if response.is_some() { "" } else { error },
    )
}

fn answer<'js>(
    ctx: &Ctx<'js>,
    url: &str,
    response: Option<&net::Response>,
    error: &str,
) -> JsResult<Object<'js>> {
    let object = Object::new(ctx.clone())?;
    object.set("url", url)?;
    object.set("status", response.map_or(0, |response| response.status))?;
    object.set("headers", http::headers_object(ctx, response)?)?;
    let body = response.map_or(&b""[..], |response| &response.body);
    object.set("body", engine::js_string(ctx, body)?)?;
    object.set("error", error)?;
    Ok(object)
}

#[cfg(test)]
mod tests;
