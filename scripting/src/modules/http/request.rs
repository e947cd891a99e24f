//! Step 3 of the hot path: JS arguments become a request, and the VU waits for its exchange.

use std::{borrow::Cow, rc::Rc};

use rquickjs::{Ctx, Object, Result as JsResult, Value};
use volley_metrics::TagSetId;
use volley_net as net;

use super::{body, expected::Verdict, native::Natives, params, response, samples, url};
use crate::{engine, error, host::Level, state::VuState};

/// How the body of the response reaches the script.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum ResponseType {
    Text,
    Binary,
    None,
}

/// A request that can be sent, with what its response needs to know.
pub(super) struct Call {
    pub(super) request: net::Request,
    pub(super) meta: Meta,
}

/// What remains of the arguments once the request has been sent.
pub(super) struct Meta {
    /// The tags of the VU at the moment when the request was made.
    pub(super) base: TagSetId,
    pub(super) tags: Vec<(String, String)>,
    /// The template of the URL.
    pub(super) name: Option<Rc<str>>,
    pub(super) verdict: Verdict,
    /// Whether the limit of redirects is the script's own.
    limits_redirects: bool,
    kind: ResponseType,
    pub(super) throw: bool,
}

/// Why no request could be made of the arguments.
#[derive(Debug, Default)]
pub(super) struct Problem {
    pub(super) text: String,
    pub(super) code: u32,
}

impl Problem {
    pub(super) fn new(text: impl Into<String>) -> Self {
        Self {
            text: text.into(),
            code: 0,
        }
    }

    pub(super) fn url(text: impl Into<String>) -> Self {
        Self {
            text: text.into(),
            code: 1020,
        }
    }
}

/// The four arguments of a request.
pub(super) struct Arguments<'a, 'js> {
    /// As it is sent; that of a function like `http.get` is static, and then never copied.
    pub(super) method: Cow<'static, str>,
    pub(super) url: Option<&'a Value<'js>>,
    pub(super) body: Option<&'a Value<'js>>,
    pub(super) params: Option<&'a Value<'js>>,
}

/// Sends a request and waits for its response.
pub(super) fn send<'js>(
    ctx: &Ctx<'js>,
    state: &Rc<VuState>,
    arguments: &Arguments<'_, 'js>,
) -> JsResult<Object<'js>> {
    refuse_in_init(ctx, state)?;
    let Call { request, meta } = match prepare(ctx, state, arguments)? {
        Ok(call) => call,
        Err(problem) => {
            if state.settings.throw {
                return Err(error::throw(ctx, &problem.text));
            }
            return warn_and_answer(ctx, state, problem);
        }
    };
    let exchange = match state.wait(state.client.send(request)) {
        Ok(exchange) => exchange,
        Err(engine::Stopped) => return Err(engine::throw_uncatchable(ctx)),
    };
    finish(state, &meta, &exchange);
    if let Some(text) = thrown(&meta, &exchange) {
        return Err(error::throw(ctx, &text));
    }
    response::make(ctx, state, exchange, meta.kind)
}

/// What every function that makes requests says at the top level of a module.
pub(super) fn refuse_in_init(ctx: &Ctx<'_>, state: &VuState) -> JsResult<()> {
    if state.in_init() {
        return Err(error::throw(
            ctx,
            "Making http requests in the init context is not supported",
        ));
    }
    state.guard(ctx)
}

/// The answer to arguments of which no request could be made.
pub(super) fn warn_and_answer<'js>(
    ctx: &Ctx<'js>,
    state: &Rc<VuState>,
    problem: Problem,
) -> JsResult<Object<'js>> {
    let fields = [("error", problem.text.as_str())];
    state.log(Level::Warning, "Request Failed", &fields);
    response::parse_error(ctx, state, problem)
}

/// What is left of an exchange besides its Response: samples, and lines in the log. Calls nothing
/// of the engine.
pub(super) fn finish(state: &VuState, meta: &Meta, exchange: &net::Exchange) {
    samples::record(state, meta, exchange);
    if let Some(problem) = exchange.error().filter(|_| !meta.throw) {
        let fields = [("error", problem.raw())];
        let fields = fields.each_ref().map(|(key, text)| (*key, text.as_str()));
        state.log(Level::Warning, "Request Failed", &fields);
    }
    let silent = meta.limits_redirects || state.settings.max_redirects.1;
    if exchange.redirect_limit_reached && !silent {
        let redirects = exchange.earlier.iter().filter(|hop| !hop.handshake).count();
        let text = format!(
            "Stopped after {} redirects and returned the redirection; pass {{ redirects: n }} in \
             request params or set global maxRedirects to silence this",
            redirects + 1
        );
        let fields = [("url", exchange.last.url.as_str())];
        state.log(Level::Warning, &text, &fields);
    }
}

/// The text to throw for an exchange, when it failed and its request asked for that.
pub(super) fn thrown(meta: &Meta, exchange: &net::Exchange) -> Option<String> {
    exchange.error().filter(|_| meta.throw).map(net::Error::raw)
}

/// The Response of an exchange.
pub(super) fn respond<'js>(
    ctx: &Ctx<'js>,
    state: &Rc<VuState>,
    meta: &Meta,
    exchange: net::Exchange,
) -> JsResult<Object<'js>> {
    response::make(ctx, state, exchange, meta.kind)
}

/// Reads the arguments.
pub(super) fn prepare<'js>(
    ctx: &Ctx<'js>,
    state: &Rc<VuState>,
    arguments: &Arguments<'_, 'js>,
) -> JsResult<Result<Call, Problem>> {
    let (url, name) = match url::parse(state, arguments.url) {
        Ok(parsed) => parsed,
        Err(problem) => return Ok(Err(problem)),
    };
    let params = match params::parse_params(state, arguments.params)? {
        Ok(params) => params,
        Err(problem) => return Ok(Err(problem)),
    };
    let (body, content_type) = match body::parse_body(ctx, state, arguments.body)? {
        Ok(body) => body,
        Err(problem) => return Ok(Err(problem)),
    };
    let kind = params.response_type.unwrap_or({
        if state.settings.discard_response_bodies {
            ResponseType::None
        } else {
            ResponseType::Text
        }
    });
    let verdict = match params.verdict {
        Some(verdict) => verdict,
        None => Natives::of(state)?.verdict.borrow().clone(),
    };
    let mut request = net::Request::new(arguments.method.clone(), url);
    request.headers = params.headers;
    request.cookies = params.cookies;
    request.jar = params.jar;
    request.auth = params.auth;
    request.body = body;
    request.timeout = params.timeout;
    request.redirects = params.redirects.unwrap_or(state.settings.max_redirects.0);
    request.discard_body = kind == ResponseType::None;
    if let Some(content_type) = content_type
        && request.header("Content-Type").is_none()
    {
        let header = ("Content-Type".to_owned(), content_type.into_owned());
        request.headers.push(header);
    }
    body::compress(state, &mut request, &params.compression);
    body::check_length(state, &request);
    let meta = Meta {
        base: state.tag_set(),
        tags: params.tags,
        name,
        verdict,
        limits_redirects: params.redirects.is_some(),
        kind,
        throw: params.throw,
    };
    Ok(Ok(Call { request, meta }))
}
