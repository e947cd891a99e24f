//! `k6/http`: the request functions.

mod batch;
mod body;
mod expected;
mod file;
mod follow;
mod jar;
mod native;
mod params;
mod promise;
mod request;
mod response;
mod samples;
pub(crate) mod selector;
mod url;

use std::{any::Any, borrow::Cow, rc::Rc};

use rquickjs::{
    Coerced, Ctx, Function, IntoJs, Result as JsResult, Value,
    function::{Opt, Rest},
    module::{Declarations, Exports, ModuleDef},
};

pub(super) use self::params::parse_timeout;
use self::request::Arguments;
pub(crate) use self::{
    jar::behind as cookie_jar, native::Natives, params::parse_headers, response::headers_object,
};
use crate::{engine::LazyFields, host::Level, state::VuState, vu::state_of};

/// Functions that take a body, and the methods they send.
const METHODS: &[(&str, &str)] = &[
    ("post", "POST"),
    ("put", "PUT"),
    ("patch", "PATCH"),
    ("del", "DELETE"),
    ("options", "OPTIONS"),
];

/// Those that take none.
const BODILESS: &[(&str, &str)] = &[("get", "GET"), ("head", "HEAD")];

const CONSTANTS: &[(&str, &str)] = &[
    ("TLS_1_0", "tls1.0"),
    ("TLS_1_1", "tls1.1"),
    ("TLS_1_2", "tls1.2"),
    ("TLS_1_3", "tls1.3"),
    ("OCSP_STATUS_GOOD", "good"),
    ("OCSP_STATUS_REVOKED", "revoked"),
    ("OCSP_STATUS_SERVER_FAILED", "server_failed"),
    ("OCSP_STATUS_UNKNOWN", "unknown"),
    ("OCSP_REASON_UNSPECIFIED", "unspecified"),
    ("OCSP_REASON_KEY_COMPROMISE", "key_compromise"),
    ("OCSP_REASON_CA_COMPROMISE", "ca_compromise"),
    ("OCSP_REASON_AFFILIATION_CHANGED", "affiliation_changed"),
    ("OCSP_REASON_SUPERSEDED", "superseded"),
    (
        "OCSP_REASON_CESSATION_OF_OPERATION",
        "cessation_of_operation",
    ),
    ("OCSP_REASON_CERTIFICATE_HOLD", "certificate_hold"),
    ("OCSP_REASON_REMOVE_FROM_CRL", "remove_from_crl"),
    ("OCSP_REASON_PRIVILEGE_WITHDRAWN", "privilege_withdrawn"),
    ("OCSP_REASON_AA_COMPROMISE", "aa_compromise"),
];

/// The module `k6/http`: an object whose members are made when a script first reads them, since a
/// script uses two or three of the thirty-four. Its named exports are made of it by
/// `graph/mod.rs`, for who asks for them.
pub(crate) struct Http;

impl ModuleDef for Http {
    fn declare(decl: &Declarations<'_>) -> JsResult<()> {
        decl.declare("default")?;
        Ok(())
    }

    fn evaluate<'js>(ctx: &Ctx<'js>, exports: &Exports<'js>) -> JsResult<()> {
        let state = state_of(ctx);
        *state.http.borrow_mut() = Some(Rc::default());
        let members = Rc::new(Members(state.clone()));
        let module = native::make(ctx, &state, native::Kind::Module, members)?;
        exports.export("default", module)?;
        Ok(())
    }
}

/// Every member: the functions, then the constants.
const MEMBERS: &[&str] = &[
    "request",
    "get",
    "head",
    "post",
    "put",
    "patch",
    "del",
    "options",
    "asyncRequest",
    "batch",
    "file",
    "url",
    "cookieJar",
    "CookieJar",
    "expectedStatuses",
    "setResponseCallback",
    "TLS_1_0",
    "TLS_1_1",
    "TLS_1_2",
    "TLS_1_3",
    "OCSP_STATUS_GOOD",
    "OCSP_STATUS_REVOKED",
    "OCSP_STATUS_SERVER_FAILED",
    "OCSP_STATUS_UNKNOWN",
    "OCSP_REASON_UNSPECIFIED",
    "OCSP_REASON_KEY_COMPROMISE",
    "OCSP_REASON_CA_COMPROMISE",
    "OCSP_REASON_AFFILIATION_CHANGED",
    "OCSP_REASON_SUPERSEDED",
    "OCSP_REASON_CESSATION_OF_OPERATION",
    "OCSP_REASON_CERTIFICATE_HOLD",
    "OCSP_REASON_REMOVE_FROM_CRL",
    "OCSP_REASON_PRIVILEGE_WITHDRAWN",
    "OCSP_REASON_AA_COMPROMISE",
];

struct Members(Rc<VuState>);

impl LazyFields for Members {
    fn get<'js>(&self, ctx: &Ctx<'js>, index: usize) -> JsResult<Value<'js>> {
        let name = MEMBERS[index];
        let vu = self.0.clone();
        let of = |table: &'static [(&str, &str)]| {
            let row = table.iter().find(|(known, _)| *known == name);
            row.map(|(_, value)| *value)
        };
        if let Some(value) = of(CONSTANTS) {
            return value.into_js(ctx);
        }
        let function = if let Some(method) = of(METHODS) {
            with_body(ctx, vu, method)
        } else if let Some(method) = of(BODILESS) {
            without_body(ctx, vu, name, method)
        } else {
            other(ctx, vu, name)
        };
        Ok(function?.with_name(name)?.into_value())
    }

    fn assigned(&self, _: usize, _: &Value<'_>) {}

    fn as_any(&self) -> &dyn Any {
        self
    }
}

fn with_body<'js>(
    ctx: &Ctx<'js>,
    vu: Rc<VuState>,
    method: &'static str,
) -> JsResult<Function<'js>> {
    Function::new(
        ctx.clone(),
        move |ctx: Ctx<'js>,
              url: Opt<Value<'js>>,
              body: Opt<Value<'js>>,
              params: Opt<Value<'js>>| {
            let arguments = Arguments {
                method: Cow::Borrowed(method),
                url: url.0.as_ref(),
                body: body.0.as_ref(),
                params: params.0.as_ref(),
            };
            request::send(&ctx, &vu, &arguments)
        },
    )
}

fn without_body<'js>(
    ctx: &Ctx<'js>,
    vu: Rc<VuState>,
    name: &'static str,
    method: &'static str,
) -> JsResult<Function<'js>> {
    Function::new(
        ctx.clone(),
        move |ctx: Ctx<'js>,
              url: Opt<Value<'js>>,
              params: Opt<Value<'js>>,
              more: Rest<Value<'js>>| {
            if !more.0.is_empty() {
                warn_arguments(&vu, name, more.0.len() + 2);
            }
            let arguments = Arguments {
                method: Cow::Borrowed(method),
                url: url.0.as_ref(),
                body: None,
                params: params.0.as_ref(),
            };
            request::send(&ctx, &vu, &arguments)
        },
    )
}

/// The functions that are not a request by one method.
fn other<'js>(ctx: &Ctx<'js>, vu: Rc<VuState>, name: &str) -> JsResult<Function<'js>> {
    let new = ctx.clone();
    match name {
        "request" => Function::new(
            new,
            move |ctx: Ctx<'js>, method: Method, rest: Rest<Value<'js>>| {
                request::send(&ctx, &vu, &arguments(&method, &rest))
            },
        ),
        "asyncRequest" => Function::new(
            new,
            move |ctx: Ctx<'js>, method: Method, rest: Rest<Value<'js>>| {
                promise::send(&ctx, &vu, &arguments(&method, &rest))
            },
        ),
        "batch" => Function::new(new, move |ctx: Ctx<'js>, all: Rest<Value<'js>>| {
            batch::batch(&ctx, &vu, &all)
        }),
        "file" => Function::new(
            new,
            move |ctx: Ctx<'js>,
                  data: Opt<Value<'js>>,
                  name: Opt<Value<'js>>,
                  content_type: Opt<Value<'js>>| {
                file::file(&ctx, &vu, data.0, name.0, content_type.0)
            },
        ),
        "url" => Function::new(
            new,
            move |ctx: Ctx<'js>, pieces: Opt<Value<'js>>, holes: Rest<Value<'js>>| {
                url::template(&ctx, &vu, pieces.0.as_ref(), &holes)
            },
        ),
        "cookieJar" => Function::new(new, move |ctx: Ctx<'js>| jar::of_vu(&ctx, &vu)),
        "CookieJar" => {
            let jar = move |ctx: Ctx<'js>| jar::show(&ctx, &vu, Rc::default());
            Ok(Function::new(new, jar)?.with_constructor(true))
        }
        "expectedStatuses" => Function::new(new, move |ctx: Ctx<'js>, all: Rest<Value<'js>>| {
            expected::statuses(&ctx, &vu, &all)
        }),
        "setResponseCallback" => {
            Function::new(new, move |ctx: Ctx<'js>, callback: Opt<Value<'js>>| {
                expected::set_callback(&ctx, &vu, callback.0.as_ref())
            })
        }
        _ => Err(rquickjs::Error::Unknown),
    }
}

/// The method argument of `request` and `asyncRequest`.
type Method = Opt<Coerced<String>>;

/// `(method, url, body?, params?)`.
fn arguments<'a, 'js>(method: &Method, rest: &'a Rest<Value<'js>>) -> Arguments<'a, 'js> {
    let method = method.0.as_ref().map_or("", |method| method.0.as_str());
    Arguments {
        method: match method {
            "" | "GET" => Cow::Borrowed("GET"),
            other => Cow::Owned(other.to_owned()),
        },
        url: rest.0.first(),
        body: rest.0.get(1),
        params: rest.0.get(2),
    }
}

fn warn_arguments(state: &VuState, name: &str, given: usize) {
    let text = format!(
        "http.{name} only accepts a url and a params argument (2 arguments), but {given} were given"
    );
    state.log(Level::Warning, &text, &[]);
}

#[cfg(test)]
mod tests;
