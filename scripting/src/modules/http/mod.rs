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

use std::{borrow::Cow, rc::Rc};

use rquickjs::{
    Coerced, Ctx, Function, Object, Result as JsResult, Value,
    function::{IntoJsFunc, Opt, Rest},
    module::{Declarations, Exports, ModuleDef},
    object::Property,
};

pub(crate) use self::native::Natives;
use self::request::Arguments;
use crate::{host::Level, state::VuState, vu::state_of};

/// Every function.
const FUNCTIONS: &[&str] = &[
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
];

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

/// The module `k6/http`.
pub(crate) struct Http;

impl ModuleDef for Http {
    fn declare(decl: &Declarations<'_>) -> JsResult<()> {
        for name in FUNCTIONS {
            decl.declare(*name)?;
        }
        for (name, _) in CONSTANTS {
            decl.declare(*name)?;
        }
        decl.declare("default")?;
        Ok(())
    }

    fn evaluate<'js>(ctx: &Ctx<'js>, exports: &Exports<'js>) -> JsResult<()> {
        let module = Object::new(ctx.clone())?;
        let state = state_of(ctx);
        *state.http.borrow_mut() = Some(Rc::default());

        for (name, method) in METHODS {
            let vu = state.clone();
            let function = Function::new(
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
            )?;
            module.set(*name, function.with_name(*name)?)?;
        }
        for (name, method) in BODILESS {
            let vu = state.clone();
            let function = Function::new(
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
            )?;
            module.set(*name, function.with_name(*name)?)?;
        }
        let vu = state.clone();
        let request = move |ctx: Ctx<'js>, method: Method, rest: Rest<Value<'js>>| {
            request::send(&ctx, &vu, &arguments(&method, &rest))
        };
        define(ctx, &module, "request", request)?;
        let vu = state.clone();
        let request = move |ctx: Ctx<'js>, method: Method, rest: Rest<Value<'js>>| {
            promise::send(&ctx, &vu, &arguments(&method, &rest))
        };
        define(ctx, &module, "asyncRequest", request)?;
        let vu = state.clone();
        let batch = move |ctx: Ctx<'js>, all: Rest<Value<'js>>| batch::batch(&ctx, &vu, &all);
        define(ctx, &module, "batch", batch)?;
        let vu = state.clone();
        let file = move |ctx: Ctx<'js>,
                         data: Opt<Value<'js>>,
                         name: Opt<Value<'js>>,
                         content_type: Opt<Value<'js>>| {
            file::file(&ctx, &vu, data.0, name.0, content_type.0)
        };
        define(ctx, &module, "file", file)?;
        let vu = state.clone();
        let template = move |ctx: Ctx<'js>, pieces: Opt<Value<'js>>, holes: Rest<Value<'js>>| {
            url::template(&ctx, &vu, pieces.0.as_ref(), &holes)
        };
        define(ctx, &module, "url", template)?;
        let vu = state.clone();
        let jar = move |ctx: Ctx<'js>| jar::of_vu(&ctx, &vu);
        define(ctx, &module, "cookieJar", jar)?;
        let vu = state.clone();
        let jar = move |ctx: Ctx<'js>| jar::show(&ctx, &vu, Rc::default());
        let jar = Function::new(ctx.clone(), jar)?.with_constructor(true);
        module.set("CookieJar", jar.with_name("CookieJar")?)?;
        let vu = state.clone();
        let statuses =
            move |ctx: Ctx<'js>, all: Rest<Value<'js>>| expected::statuses(&ctx, &vu, &all);
        define(ctx, &module, "expectedStatuses", statuses)?;
        let vu = state.clone();
        let set = move |ctx: Ctx<'js>, callback: Opt<Value<'js>>| {
            expected::set_callback(&ctx, &vu, callback.0.as_ref())
        };
        define(ctx, &module, "setResponseCallback", set)?;
        for (name, value) in CONSTANTS {
            module.prop(*name, Property::from(*value).enumerable())?;
        }
        for name in FUNCTIONS {
            exports.export(*name, module.get::<_, Value<'js>>(*name)?)?;
        }
        for (name, value) in CONSTANTS {
            exports.export(*name, *value)?;
        }
        exports.export("default", module)?;
        Ok(())
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

fn define<'js, P>(
    ctx: &Ctx<'js>,
    module: &Object<'js>,
    name: &str,
    function: impl IntoJsFunc<'js, P> + 'js,
) -> JsResult<()> {
    module.set(name, Function::new(ctx.clone(), function)?.with_name(name)?)
}

fn warn_arguments(state: &VuState, name: &str, given: usize) {
    let text = format!(
        "http.{name} only accepts a url and a params argument (2 arguments), but {given} were given"
    );
    state.log(Level::Warning, &text, &[]);
}

#[cfg(test)]
mod tests;
