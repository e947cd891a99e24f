//! Step 6, second half: an exchange becomes a Response whose members are made when they are read.

use std::{any::Any, cell::RefCell, rc::Rc, time::Duration};

use bytes::Bytes;
use rquickjs::{Array, Ctx, Function, IntoJs, Object, Result as JsResult, Value, function::Opt};
use volley_net as net;

use super::{
    follow,
    native::{self, Kind},
    request::{Problem, ResponseType},
    selector,
};
use crate::{
    engine::{self, LazyFields},
    error,
    modules::html::Page,
    state::VuState,
    vu::state_of,
};

/// Members of a Response, in the order in which scripts enumerate them.
pub(super) const FIELDS: &[&str] = &[
    "remote_ip",
    "remote_port",
    "url",
    "status",
    "status_text",
    "proto",
    "headers",
    "cookies",
    "body",
    "timings",
    "tls_version",
    "tls_cipher_suite",
    "ocsp",
    "error",
    "error_code",
    "request",
    "clickLink",
    "html",
    "json",
    "submitForm",
];

/// What `expires` shows for a cookie without one: the zero time of the reference, in ms.
const NO_EXPIRY: f64 = -6_795_364_578_871.0;

/// The body as the script has left it.
enum Body {
    Received(Bytes),
    Assigned(String),
    Null,
}

struct Response {
    outcome: Outcome,
    body: RefCell<Body>,
    kind: ResponseType,
}

/// A request that a page leads to.
type Follow<'js> =
    fn(&Ctx<'js>, &Rc<VuState>, &Rc<Page>, &str, Option<&Object<'js>>) -> JsResult<Object<'js>>;

enum Outcome {
    Exchanged(Box<net::Exchange>),
    ParseError(Problem),
}

/// The Response of an exchange.
pub(super) fn make<'js>(
    ctx: &Ctx<'js>,
    state: &Rc<VuState>,
    exchange: net::Exchange,
    kind: ResponseType,
) -> JsResult<Object<'js>> {
    if let Some(response) = exchange.response.as_ref().filter(|r| r.status == 101) {
        let text = format!("unsupported response status: 101 {}", response.reason);
        return Err(error::throw(ctx, &text));
    }
    let bodiless = |status: u16| status < 200 || status == 204 || status == 304;
    let body = match &exchange.response {
        Some(response) if kind != ResponseType::None && !bodiless(response.status) => {
            Body::Received(response.body.clone())
        }
        _ => Body::Null,
    };
    let outcome = Outcome::Exchanged(Box::new(exchange));
    wrap(ctx, state, outcome, body, kind)
}

/// The Response for arguments of which no request could be made.
pub(super) fn parse_error<'js>(
    ctx: &Ctx<'js>,
    state: &Rc<VuState>,
    problem: Problem,
) -> JsResult<Object<'js>> {
    wrap(
        ctx,
        state,
        Outcome::ParseError(problem),
        Body::Null,
        ResponseType::Text,
    )
}

fn wrap<'js>(
    ctx: &Ctx<'js>,
    state: &Rc<VuState>,
    outcome: Outcome,
    body: Body,
    kind: ResponseType,
) -> JsResult<Object<'js>> {
    let response = Response {
        outcome,
        body: RefCell::new(body),
        kind,
    };
    let handle = Rc::new(Handle(Rc::new(response)));
    native::make(ctx, state, Kind::Response, handle)
}

/// Shared with the methods of the object, which stay usable without it.
struct Handle(Rc<Response>);

impl LazyFields for Handle {
    fn get<'js>(&self, ctx: &Ctx<'js>, index: usize) -> JsResult<Value<'js>> {
        let this = &self.0;
        match FIELDS[index] {
            "body" => this.body_value(ctx),
            "json" => {
                let this = this.clone();
                Function::new(ctx.clone(), move |ctx: Ctx<'js>, path: Opt<Value<'js>>| {
                    this.json(&ctx, path.0)
                })?
                .with_name("json")?
                .into_js(ctx)
            }
            "html" => {
                let this = this.clone();
                Function::new(ctx.clone(), move |ctx: Ctx<'js>, path: Opt<Value<'js>>| {
                    this.html(&ctx, path.0)
                })?
                .with_name("html")?
                .into_js(ctx)
            }
            name @ ("clickLink" | "submitForm") => {
                let (this, follow): (_, Follow<'js>) = match name {
                    "clickLink" => (this.clone(), follow::click_link),
                    _ => (this.clone(), follow::submit_form),
                };
                let call = move |ctx: Ctx<'js>, options: Opt<Value<'js>>| {
                    let state = state_of(&ctx);
                    state.guard(&ctx)?;
                    let page = this.page(&ctx)?;
                    let from = this.url().unwrap_or_default();
                    let options = options.0.and_then(Value::into_object);
                    follow(&ctx, &state, &page, &from, options.as_ref())
                };
                Function::new(ctx.clone(), call)?
                    .with_name(name)?
                    .into_js(ctx)
            }
            name => match &this.outcome {
                Outcome::Exchanged(exchange) => exchanged_field(ctx, name, exchange),
                Outcome::ParseError(problem) => parse_error_field(ctx, name, problem),
            },
        }
    }

    fn as_any(&self) -> &dyn Any {
        self
    }

    fn assigned(&self, index: usize, value: &Value<'_>) {
        if FIELDS[index] == "body" {
            *self.0.body.borrow_mut() = match value.as_string() {
                Some(text) => Body::Assigned(engine::rust_string(text)),
                None => Body::Null,
            };
        }
    }
}

fn ms(duration: Duration) -> f64 {
    duration.as_nanos() as f64 / 1e6
}

fn exchanged_field<'js>(
    ctx: &Ctx<'js>,
    name: &str,
    exchange: &net::Exchange,
) -> JsResult<Value<'js>> {
    let hop = &exchange.last;
    let head = exchange.response.as_ref().filter(|_| hop.error.is_none());
    match name {
        "remote_ip" => hop
            .remote
            .map(|r| r.ip().to_string())
            .unwrap_or_default()
            .into_js(ctx),
        "remote_port" => hop.remote.map_or(0, |r| r.port()).into_js(ctx),
        "url" => match head {
            Some(_) => hop.url.as_str().into_js(ctx),
            None => exchange.request.url.as_str().into_js(ctx),
        },
        "status" => hop.status.into_js(ctx),
        "status_text" => head
            .map(|r| format!("{} {}", r.status, r.reason))
            .unwrap_or_default()
            .into_js(ctx),
        "proto" => head.map_or("", |head| head.proto.as_str()).into_js(ctx),
        "headers" => headers_object(ctx, head),
        "cookies" => cookies_object(ctx, head),
        "timings" => {
            let timings = &hop.timings;
            let object = Object::new(ctx.clone())?;
            object.set("duration", ms(timings.duration()))?;
            object.set("blocked", ms(timings.blocked))?;
            object.set("looking_up", 0)?;
            object.set("connecting", ms(timings.connecting))?;
            object.set("tls_handshaking", ms(timings.tls_handshaking))?;
            object.set("sending", ms(timings.sending))?;
            object.set("waiting", ms(timings.waiting))?;
            object.set("receiving", ms(timings.receiving))?;
            object.into_js(ctx)
        }
        "tls_version" => hop.tls.as_ref().map_or("", |t| t.version).into_js(ctx),
        "tls_cipher_suite" => hop.tls.as_ref().map_or("", |t| t.cipher).into_js(ctx),
        "ocsp" => ocsp_object(ctx, hop.tls.as_ref()),
        "error" => hop
            .error
            .as_ref()
            .map(|e| e.short())
            .unwrap_or_default()
            .into_js(ctx),
        "error_code" => match &hop.error {
            Some(error) => error.code(),
            None if hop.status >= 400 => 1000 + u32::from(hop.status),
            None => 0,
        }
        .into_js(ctx),
        "request" => request_object(ctx, exchange),
        _ => Ok(Value::new_undefined(ctx.clone())),
    }
}

fn parse_error_field<'js>(ctx: &Ctx<'js>, name: &str, problem: &Problem) -> JsResult<Value<'js>> {
    match name {
        "status" | "remote_port" => 0.into_js(ctx),
        "headers" | "cookies" => Object::new(ctx.clone())?.into_js(ctx),
        "timings" => {
            let object = Object::new(ctx.clone())?;
            for field in [
                "duration",
                "blocked",
                "looking_up",
                "connecting",
                "tls_handshaking",
                "sending",
                "waiting",
                "receiving",
            ] {
                object.set(field, 0)?;
            }
            object.into_js(ctx)
        }
        "ocsp" => ocsp_object(ctx, None),
        "error" => problem.text.as_str().into_js(ctx),
        "error_code" => problem.code.into_js(ctx),
        "request" => Ok(Value::new_null(ctx.clone())),
        _ => "".into_js(ctx),
    }
}

fn ocsp_object<'js>(ctx: &Ctx<'js>, tls: Option<&net::TlsInfo>) -> JsResult<Value<'js>> {
    let object = Object::new(ctx.clone())?;
    let staple = tls.and_then(|tls| tls.ocsp);
    let of = |pick: fn(net::Ocsp) -> i64| staple.map_or(0, pick) as f64;
    object.set("produced_at", of(|ocsp| ocsp.produced_at))?;
    object.set("this_update", of(|ocsp| ocsp.this_update))?;
    object.set("next_update", of(|ocsp| ocsp.next_update))?;
    object.set("revoked_at", of(|ocsp| ocsp.revoked_at))?;
    object.set("revocation_reason", staple.map_or("", |ocsp| ocsp.reason))?;
    object.set("status", tls.map_or("", net::TlsInfo::ocsp_status))?;
    object.into_js(ctx)
}

/// The headers of a response as an object, several of one name joined by commas.
pub(crate) fn headers_object<'js>(
    ctx: &Ctx<'js>,
    head: Option<&net::Response>,
) -> JsResult<Value<'js>> {
    let object = Object::new(ctx.clone())?;
    if let Some(head) = head {
        for name in head.headers.keys() {
            let mut values = head.headers.get_all(name).iter();
            let first = values.next().map_or(&b""[..], |v| v.as_bytes());
            let mut joined = Vec::new();
            let value = match values.next() {
                None => first,
                Some(second) => {
                    joined.extend_from_slice(first);
                    for value in std::iter::once(second).chain(values) {
                        joined.extend_from_slice(b", ");
                        joined.extend_from_slice(value.as_bytes());
                    }
                    &joined
                }
            };
            let name = net::canonical(name.as_str());
            object.set(name, engine::js_string(ctx, value)?)?;
        }
    }
    object.into_js(ctx)
}

fn cookies_object<'js>(ctx: &Ctx<'js>, head: Option<&net::Response>) -> JsResult<Value<'js>> {
    let object = Object::new(ctx.clone())?;
    let Some(head) = head else {
        return object.into_js(ctx);
    };
    for cookie in head.cookies() {
        let entry = Object::new(ctx.clone())?;
        entry.set("name", cookie.name.as_str())?;
        entry.set("value", cookie.value.as_str())?;
        entry.set("domain", cookie.domain.as_str())?;
        entry.set("path", cookie.path.as_str())?;
        entry.set("http_only", cookie.http_only)?;
        entry.set("secure", cookie.secure)?;
        entry.set("max_age", cookie.max_age as f64)?;
        entry.set("expires", cookie.expires.map_or(NO_EXPIRY, |e| e as f64))?;
        match object.get::<_, Option<Array<'js>>>(cookie.name.as_str())? {
            Some(list) => list.set(list.len(), entry)?,
            None => {
                let list = Array::new(ctx.clone())?;
                list.set(0, entry)?;
                object.set(cookie.name.as_str(), list)?;
            }
        }
    }
    object.into_js(ctx)
}

fn request_object<'js>(ctx: &Ctx<'js>, exchange: &net::Exchange) -> JsResult<Value<'js>> {
    let request = &exchange.request;
    let object = Object::new(ctx.clone())?;
    object.set("method", &*request.method)?;
    object.set("url", request.url.as_str())?;
    let headers = Object::new(ctx.clone())?;
    for (name, value) in exchange.request_headers() {
        let list = Array::new(ctx.clone())?;
        list.set(0, value)?;
        headers.set(name, list)?;
    }
    object.set("headers", headers)?;
    let body = request.body.as_deref().unwrap_or_default();
    object.set("body", engine::js_string(ctx, body)?)?;
    let cookies = Object::new(ctx.clone())?;
    for cookie in &request.cookies {
        let entry = Object::new(ctx.clone())?;
        entry.set("name", cookie.name.as_str())?;
        entry.set("value", cookie.value.as_str())?;
        entry.set("replace", cookie.replace)?;
        let list = Array::new(ctx.clone())?;
        list.set(0, entry)?;
        cookies.set(cookie.name.as_str(), list)?;
    }
    object.set("cookies", cookies)?;
    object.into_js(ctx)
}

impl Response {
    fn body_value<'js>(&self, ctx: &Ctx<'js>) -> JsResult<Value<'js>> {
        if let Outcome::ParseError(_) = self.outcome {
            return Array::new(ctx.clone())?.into_js(ctx);
        }
        // Cloned out: making JS values runs the engine, and no borrow may live then.
        let received = match &*self.body.borrow() {
            Body::Received(bytes) => bytes.clone(),
            Body::Assigned(text) => Bytes::copy_from_slice(text.as_bytes()),
            Body::Null => return Ok(Value::new_null(ctx.clone())),
        };
        match self.kind {
            ResponseType::Binary => engine::array_buffer(ctx, &received[..])?.into_js(ctx),
            _ => engine::js_string(ctx, &received)?.into_js(ctx),
        }
    }

    fn bytes(&self) -> Option<Bytes> {
        match &*self.body.borrow() {
            Body::Received(bytes) => Some(bytes.clone()),
            Body::Assigned(text) => Some(Bytes::copy_from_slice(text.as_bytes())),
            Body::Null => None,
        }
    }

    /// The page that the body is, to be searched.
    fn page(&self, ctx: &Ctx<'_>) -> JsResult<Rc<Page>> {
        let Some(bytes) = self.bytes() else {
            return Err(error::throw(
                ctx,
                "the body is null so we can't transform it to HTML - this likely was because of a \
                 request error getting the response",
            ));
        };
        let source = String::from_utf8_lossy(&bytes);
        Page::parse(ctx, &state_of(ctx), &source, self.url())
    }

    fn url(&self) -> Option<String> {
        match &self.outcome {
            Outcome::Exchanged(exchange) => Some(exchange.last.url.as_str().to_owned()),
            Outcome::ParseError(_) => None,
        }
    }

    /// `response.html(selector?)`.
    fn html<'js>(&self, ctx: &Ctx<'js>, selector: Option<Value<'js>>) -> JsResult<Value<'js>> {
        state_of(ctx).guard(ctx)?;
        let selector = selector
            .filter(|s| !s.is_undefined())
            .map(|s| error::to_text(&s));
        self.page(ctx)?.selection(ctx, selector.as_deref())
    }

    /// `response.json(selector?)`.
    fn json<'js>(&self, ctx: &Ctx<'js>, path: Option<Value<'js>>) -> JsResult<Value<'js>> {
        let Some(bytes) = self.bytes() else {
            return Err(error::throw(
                ctx,
                "the body is null so we can't transform it to JSON - this likely was because of a \
                 request error getting the response",
            ));
        };
        let path = path
            .filter(|p| !p.is_undefined())
            .map(|p| error::to_text(&p));
        match path {
            Some(path) => {
                let found = match serde_json::from_slice(&bytes) {
                    Ok(document) => selector::select(&document, bytes.len(), &path),
                    Err(_) => Ok(None),
                };
                match found.map_err(|problem| error::throw(ctx, &problem.to_string()))? {
                    Some(value) => ctx.json_parse(value.to_string()),
                    None => Ok(Value::new_undefined(ctx.clone())),
                }
            }
            None => {
                let parsed = match std::str::from_utf8(&bytes) {
                    Ok(text) => ctx.json_parse(text),
                    Err(_) => ctx.json_parse(String::from_utf8_lossy(&bytes).into_owned()),
                };
                parsed.map_err(|_| {
                    let _ = ctx.catch();
                    error::throw(ctx, &json_error(&bytes))
                })
            }
        }
    }
}

/// The message for a body that is not JSON, with the place of the fault.
fn json_error(bytes: &[u8]) -> String {
    match serde_json::from_slice::<serde_json::Value>(bytes) {
        Err(error) => {
            let text = error.to_string();
            let text = text.split(" at line ").next().unwrap_or_default();
            format!(
                "cannot parse json due to an error at line {}, character {} , error: {text}",
                error.line(),
                error.column()
            )
        }
        Ok(_) => "cannot parse json due to an error at line 1, character 0 , error: invalid JSON"
            .to_owned(),
    }
}
