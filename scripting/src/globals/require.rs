//! CommonJS: `require`, and what stands for `module` and `exports` in files that have neither.
//!
//! A CommonJS file is a function of `module` and `exports` that runs once per VU, when it is first
//! required or imported. All routes to a file lead to the same exports.

use std::rc::Rc;

use rquickjs::{
    Ctx, Function, Object, Persistent, Result as JsResult, Value,
    function::{Opt, This},
    object::Accessor,
    promise::PromiseState,
};

use super::init_only;
use crate::{
    engine, error,
    graph::{self, Problem, VIEW},
    loader,
    state::VuState,
};

/// What a VU has of a file that was required.
#[derive(Clone)]
pub(crate) enum Required {
    /// The `module` of a CommonJS file: its `exports` may still be in the making, or be replaced.
    CommonJs(Persistent<Object<'static>>),
    /// The namespace of a module.
    Namespace(Persistent<Object<'static>>),
    /// What its top level threw: it throws that again.
    Failed(Persistent<Value<'static>>),
}

pub(crate) fn install<'js>(ctx: &Ctx<'js>, state: &Rc<VuState>) -> JsResult<()> {
    let globals = ctx.globals();
    if state.script.uses("require") {
        let state = state.clone();
        let require = Function::new(
            ctx.clone(),
            move |ctx: Ctx<'js>, specifier: Opt<Value<'js>>| {
                let specifier = crate::modules::string_argument(specifier.0);
                require(&ctx, &state, &specifier)
            },
        )?;
        globals.set("require", require.with_name("require")?)?;
    }
    // Inside a CommonJS file its parameters hide these.
    for name in ["module", "exports"] {
        if state.script.uses(name) {
            let trap = Accessor::from(move |ctx: Ctx<'_>| mixed(&ctx, name));
            globals.prop(name, trap.configurable())?;
        }
    }
    Ok(())
}

fn mixed(ctx: &Ctx<'_>, name: &str) -> JsResult<()> {
    Err(error::throw(
        ctx,
        &format!(
            "you are trying to access identifier \"{name}\", this likely is due to mixing \
             ECMAScript Modules (ESM) and CommonJS syntax. This isn't supported in the JavaScript \
             standard, please use only one or the other"
        ),
    ))
}

fn require<'js>(ctx: &Ctx<'js>, state: &Rc<VuState>, specifier: &str) -> JsResult<Value<'js>> {
    state.guard(ctx)?;
    if !state.in_init() {
        return Err(error::throw(ctx, &init_only("require")));
    }
    if specifier.is_empty() {
        let text = "require() can't be used with an empty specifier";
        return Err(error::throw(ctx, text));
    }
    let refused = |problem: Problem| error::throw(ctx, &problem.to_string());
    if graph::is_builtin(specifier) {
        let module = graph::builtin(state, specifier).map_err(refused)?;
        let Some(module) = module else {
            let names = [specifier.to_owned()].into();
            return Err(refused(Problem::Unknown(names)));
        };
        return evaluate(ctx, state, &module)?.get("default");
    }
    let base = written_in(ctx).unwrap_or_else(|| state.script.url().to_owned());
    let url = loader::resolve(&base, specifier).map_err(|text| error::throw(ctx, &text))?;
    if !state.required.borrow().contains_key(url.as_str()) {
        graph::prepare(ctx, state, &url, specifier).map_err(refused)?;
    }
    let unit = state.script.graph(|graph| graph.unit(&url));
    match unit {
        Some(unit) if unit.function().is_some() => run_commonjs(ctx, state, &url),
        Some(unit) if unit.leaf().is_some() => namespace_of(ctx, state, &graph::leaf_view(&url)),
        _ => namespace_of(ctx, state, &url),
    }
}

/// Runs a file that is a function, for a view of it, and answers its exports.
pub(crate) fn load<'js>(ctx: &Ctx<'js>, state: &Rc<VuState>, url: &str) -> JsResult<Value<'js>> {
    let unit = state.script.graph(|graph| graph.unit(url));
    let Some(code) = unit.as_ref().and_then(|unit| unit.leaf()) else {
        return run_commonjs(ctx, state, url);
    };
    let exports = Object::new(ctx.clone())?;
    let function = engine::load_function(ctx, code)?;
    let nothing = This(Value::new_undefined(ctx.clone()));
    bounded(ctx, state, || {
        function.call::<_, ()>((nothing, exports.clone()))
    })?;
    Ok(exports.into_value())
}

/// The exports of a CommonJS file, which runs if it has not yet.
pub(crate) fn run_commonjs<'js>(
    ctx: &Ctx<'js>,
    state: &Rc<VuState>,
    url: &str,
) -> JsResult<Value<'js>> {
    if let Some(known) = known(ctx, state, url)? {
        return Ok(known);
    }
    let unit = state.script.graph(|graph| graph.unit(url));
    let Some(code) = unit.as_ref().and_then(|unit| unit.function()) else {
        return Err(rquickjs::Error::new_loading(url));
    };
    let function = engine::load_function(ctx, code)?;
    let (module, exports) = (Object::new(ctx.clone())?, Object::new(ctx.clone())?);
    module.set("exports", exports.clone())?;
    let keep = |required| state.required.borrow_mut().insert(url.into(), required);
    keep(Required::CommonJs(Persistent::save(ctx, module.clone())));
    let ran = bounded(ctx, state, || {
        function.call::<_, ()>((This(exports.clone()), module.clone(), exports))
    });
    ran.map_err(|error| {
        if state.fiber.is_stopped() || !error.is_exception() {
            return error;
        }
        let thrown = ctx.catch();
        keep(Required::Failed(Persistent::save(ctx, thrown.clone())));
        ctx.throw(thrown)
    })?;
    exports_of(ctx, &module)
}

fn exports_of<'js>(ctx: &Ctx<'js>, module: &Object<'js>) -> JsResult<Value<'js>> {
    let exports: Value<'js> = module.get("exports")?;
    if exports.is_null() || exports.is_undefined() {
        return Err(error::throw(ctx, "CommonJS's exports must not be null"));
    }
    Ok(exports)
}

/// What is there of a file that was required before.
fn known<'js>(ctx: &Ctx<'js>, state: &VuState, url: &str) -> JsResult<Option<Value<'js>>> {
    let known = state.required.borrow().get(url).cloned();
    match known {
        None => Ok(None),
        Some(Required::CommonJs(module)) => exports_of(ctx, &module.restore(ctx)?).map(Some),
        Some(Required::Namespace(object)) => Ok(Some(object.restore(ctx)?.into_value())),
        Some(Required::Failed(thrown)) => Err(ctx.throw(thrown.restore(ctx)?)),
    }
}

fn namespace_of<'js>(ctx: &Ctx<'js>, state: &Rc<VuState>, url: &str) -> JsResult<Value<'js>> {
    if let Some(known) = known(ctx, state, url)? {
        return Ok(known);
    }
    if reaches_running(ctx, state, url) {
        return Err(error::throw(
            ctx,
            &format!(
                "require() of the module {url}, which is just being evaluated, is not supported: \
                 import it instead"
            ),
        ));
    }
    let namespace = evaluate(ctx, state, url)?;
    let saved = Required::Namespace(Persistent::save(ctx, namespace.clone()));
    state.required.borrow_mut().insert(url.into(), saved);
    Ok(namespace.into_value())
}

/// Evaluates a module of that name, as far as it does not wait, and answers its namespace.
pub(crate) fn evaluate<'js>(
    ctx: &Ctx<'js>,
    state: &Rc<VuState>,
    name: &str,
) -> JsResult<Object<'js>> {
    // The engine hands namespaces out to importing modules only.
    let importer = format!("{VIEW}require?{name}");
    let text = format!("import * as n from {name:?};export{{n}}");
    let ran = bounded(ctx, state, || {
        state.while_linking(|| {
            let (module, _) = engine::compile(ctx, &importer, text.as_bytes())?;
            module.eval()
        })
    });
    // It is the script's now, which may catch it.
    state.load_failure.borrow_mut().take();
    let (module, promise) = ran.map_err(|error| {
        if !error.is_exception() {
            return error;
        }
        let thrown = ctx.catch();
        graph::retell(state, &thrown);
        ctx.throw(thrown)
    })?;
    if promise.state() == PromiseState::Rejected {
        state.events.track_rejection(
            ctx,
            promise.clone().into_value(),
            Value::new_undefined(ctx.clone()),
            true,
        );
        promise.result::<Value<'js>>().transpose()?;
    }
    module.namespace()?.get("n")
}

/// Whether loading a module would evaluate one whose top level is running now.
fn reaches_running(ctx: &Ctx<'_>, state: &VuState, url: &str) -> bool {
    let running = running(ctx, state);
    state.script.graph(|graph| graph.reaches(url, &running))
}

// === Where the running code was written ===

/// Runs the top level of something, and remembers how deep the stack was before.
pub(crate) fn bounded<'js, T>(
    ctx: &Ctx<'js>,
    state: &VuState,
    run: impl FnOnce() -> JsResult<T>,
) -> JsResult<T> {
    state.boundaries.borrow_mut().push(stack(ctx).len());
    let ran = run();
    state.boundaries.borrow_mut().pop();
    ran
}

/// The file of each function on the stack, innermost first; `None` for the engine's own.
fn stack(ctx: &Ctx<'_>) -> Vec<Option<String>> {
    /// Nothing nests so many of the engine's own functions: this is the end.
    const END: usize = 64;
    let mut files: Vec<Option<String>> = Vec::new();
    let mut last = 0;
    for level in 0.. {
        let file = ctx
            .script_or_module_name(level)
            .and_then(|name| name.to_string().ok());
        if file.is_some() {
            last = files.len() + 1;
        }
        files.push(file);
        if files.len() - last >= END {
            break;
        }
    }
    files.truncate(last);
    files
}

/// The file that the running function was written in.
pub(crate) fn written_in(ctx: &Ctx<'_>) -> Option<String> {
    stack(ctx).into_iter().flatten().next()
}

/// The file whose top level is running, or whose function the event loop has called.
pub(crate) fn evaluated(ctx: &Ctx<'_>, state: &VuState) -> Option<String> {
    running(ctx, state).pop()
}

/// The files whose top levels are running, outermost first: each waits for the next.
fn running(ctx: &Ctx<'_>, state: &VuState) -> Vec<String> {
    let mut files = stack(ctx);
    files.reverse();
    let mut starts: Vec<usize> = state.boundaries.borrow().clone();
    starts.insert(0, 0);
    starts
        .iter()
        .filter_map(|start| files.get(*start..)?.iter().flatten().next().cloned())
        .collect()
}
