//! The modules that scripts import by a `k6…` name.
//!
//! One row per module; its exports live in its own file. A module is instantiated only when a
//! script imports it.

mod crypto;
pub(crate) mod data;
mod encoding;
mod execution;
pub(crate) mod experimental;
mod grpc;
pub(crate) mod html;
pub(crate) mod http;
mod k6;
mod metrics;
pub(crate) mod random;
mod secrets;
pub(crate) mod timers;
mod webcrypto;
mod websockets;
mod ws;

use rquickjs::{
    Ctx, Module as JsModule, Object, Result as JsResult,
    module::{Declared, Exports, ModuleDef},
};

/// A row of the table.
pub(crate) struct Module {
    /// The import name.
    pub(crate) name: &'static str,
    /// Declares it in a context.
    pub(crate) declare: for<'js> fn(&Ctx<'js>, &str) -> JsResult<JsModule<'js, Declared>>,
}

/// Every module there is.
const MODULES: &[Module] = &[
    row::<k6::K6>("k6"),
    row::<crypto::Crypto>("k6/crypto"),
    row::<crypto::x509::X509>("k6/crypto/x509"),
    row::<data::Data>("k6/data"),
    row::<encoding::Encoding>("k6/encoding"),
    row::<execution::Execution>("k6/execution"),
    row::<experimental::csv::Csv>("k6/experimental/csv"),
    row::<experimental::fs::Fs>("k6/experimental/fs"),
    row::<experimental::streams::Streams>("k6/experimental/streams"),
    row::<webcrypto::WebCrypto>("k6/experimental/webcrypto"),
    row::<html::Html>("k6/html"),
    row::<http::Http>("k6/http"),
    row::<metrics::Metrics>("k6/metrics"),
    row::<grpc::Grpc>("k6/net/grpc"),
    row::<secrets::Secrets>("k6/secrets"),
    row::<timers::Timers>("k6/timers"),
    row::<websockets::WebSockets>("k6/websockets"),
    row::<ws::Ws>("k6/ws"),
];

/// Modules of k6 that are still missing here.
const NOT_YET: &[&str] = &["k6/browser"];

/// Modules that k6 itself has removed, with what it says.
const REMOVED: &[(&str, &str)] = &[
    (
        "k6/experimental/redis",
        "k6/experimental/redis has been removed. Please migrate to the new version by changing your import to 'k6/x/redis'. Read more here: https://grafana.com/docs/k6/latest/javascript-api/k6-x-redis",
    ),
    (
        "k6/experimental/browser",
        "k6/experimental/browser has been graduated, please use k6/browser instead.Please update your imports to use k6/browser instead of k6/experimental/browser, For more information, see the migration guide at the link: https://grafana.com/docs/k6/latest/using-k6-browser/migrating-to-k6-v0-52/",
    ),
    (
        "k6/experimental/tracing",
        "k6/experimental/tracing has been removed. All of it functionality is available as pure JavaScript module. More info available at the docs: https://grafana.com/docs/k6/latest/javascript-api/jslib/http-instrumentation-tempo",
    ),
];

/// Experimental modules that became others, under the same API: scripts for k6 0.4x and 1.x go on
/// with those, and a warning. k6 2.2 refuses the imports of all but the last.
const GRADUATED: &[(&str, &str, &str)] = &[
    (
        "k6/experimental/timers",
        "k6/timers",
        "k6/experimental/timers has been graduated, and it's now globally available as defined by standard WebAPIs. You just need to remove the import.",
    ),
    (
        "k6/experimental/grpc",
        "k6/net/grpc",
        "k6/experimental/grpc has been graduated, please use k6/net/grpc instead. See https://grafana.com/docs/k6/latest/javascript-api/k6-net-grpc/ for more information.",
    ),
    (
        "k6/experimental/webcrypto",
        "k6/experimental/webcrypto",
        "k6/experimental/webcrypto has been graduated and it's now globally available as defined by standard WebAPIs. You just need to remove the import.",
    ),
    (
        "k6/experimental/websockets",
        "k6/websockets",
        "k6/experimental/websockets is deprecated and will be removed in a future release. Please use k6/websockets instead.",
    ),
];

/// Modules whose default export is an object that the named exports are read from: a name that is
/// not there is `undefined`, while the others say `null`.
const OBJECT_STYLE: &[&str] = &[
    "k6/browser",
    "k6/execution",
    "k6/html",
    "k6/http",
    "k6/secrets",
    "k6/ws",
];

/// Modules that have a default export only, whose members their named exports are.
const DEFAULT_ONLY: &[&str] = &["k6/http"];

/// What a built-in name turned out to be.
pub(crate) enum Found {
    /// A module of the table.
    Module,
    /// A name from former times for another module.
    Graduated {
        /// The module.
        module: &'static str,
        /// What is said about it, once.
        warning: &'static str,
    },
    /// A module that is gone; the text says where.
    Removed(&'static str),
    /// A name that is known and cannot be served; the text says why.
    Refused(String),
    /// Nobody knows it.
    Unknown,
}

/// Looks a built-in name up.
pub(crate) fn find(name: &str) -> Found {
    if let Some((_, module, warning)) = GRADUATED.iter().find(|(old, ..)| *old == name) {
        return Found::Graduated { module, warning };
    }
    if module(name).is_some() {
        return Found::Module;
    }
    if NOT_YET.contains(&name) {
        return Found::Refused(format!(
            "the module \"{name}\" is not supported by this version of Volley; docs/compatibility.md lists what is"
        ));
    }
    match REMOVED.iter().find(|(removed, _)| *removed == name) {
        Some((_, text)) => Found::Removed(text),
        None => Found::Unknown,
    }
}

/// The module of exactly that name.
pub(crate) fn module(name: &str) -> Option<&'static Module> {
    MODULES.iter().find(|module| module.name == name)
}

/// Names that are no modules any more, or not under this name.
#[cfg(test)]
pub(crate) fn former_names() -> impl Iterator<Item = &'static str> {
    let graduated = GRADUATED.iter().map(|(name, ..)| *name);
    graduated.chain(REMOVED.iter().map(|(name, _)| *name))
}

/// Whether named exports of the module are members of its default.
pub(crate) fn is_object_style(name: &str) -> bool {
    OBJECT_STYLE.contains(&name)
}

/// Whether the named exports of the module have to be made of its default.
pub(crate) fn is_default_only(name: &str) -> bool {
    DEFAULT_ONLY.contains(&name)
}

const fn row<D: ModuleDef>(name: &'static str) -> Module {
    fn declare<'js, D: ModuleDef>(ctx: &Ctx<'js>, name: &str) -> JsResult<JsModule<'js, Declared>> {
        JsModule::declare_def::<D, _>(ctx.clone(), name)
    }
    Module {
        name,
        declare: declare::<D>,
    }
}

/// A string parameter as natives of the reference take it: nothing, `undefined` and `null` are
/// the empty string, everything else is `String(value)`.
pub(crate) fn string_argument(value: Option<rquickjs::Value<'_>>) -> String {
    value
        .filter(|value| !value.is_undefined() && !value.is_null())
        .map_or_else(String::new, |value| crate::error::to_text(&value))
}

/// Exports every member of `object` under its name, and the object itself as the default.
fn export_all<'js>(
    exports: &Exports<'js>,
    object: &Object<'js>,
    names: &[&'static str],
) -> JsResult<()> {
    for name in names {
        exports.export(*name, object.get::<_, rquickjs::Value<'js>>(*name)?)?;
    }
    exports.export("default", object.clone())?;
    Ok(())
}
