//! `k6/execution`: what a script may know of the run it is part of.

use std::rc::Rc;

use rquickjs::{
    Ctx, Function, Object, Result as JsResult, Value,
    function::{Opt, This},
    module::{Declarations, Exports, ModuleDef},
    object::{Accessor, Property},
};

use super::metrics::tag_value;
use crate::{
    engine, error,
    host::Level,
    live_map::{self, LiveMap},
    state::{Phase, VuState},
    vu::state_of,
};

const INSTANCE: &str = "getting instance information in the init context is not supported";
const SCENARIO: &str = "getting scenario information outside of the VU context is not supported";
const VU: &str = "getting VU information in the init context is not supported";
const OPTIONS: &str = "getting test options in the init context is not supported";

/// The module `k6/execution`.
pub(crate) struct Execution;

impl ModuleDef for Execution {
    fn declare(decl: &Declarations<'_>) -> JsResult<()> {
        for name in ["instance", "scenario", "test", "vu", "default"] {
            decl.declare(name)?;
        }
        Ok(())
    }

    fn evaluate<'js>(ctx: &Ctx<'js>, exports: &Exports<'js>) -> JsResult<()> {
        let module = Object::new(ctx.clone())?;
        let parts = [
            ("instance", instance(ctx)?),
            ("scenario", scenario(ctx)?),
            ("test", test(ctx)?),
            ("vu", vu(ctx)?),
        ];
        let state = state_of(ctx);
        for (name, part) in parts {
            exports.export(name, part.clone())?;
            hide(&module, name, part)?;
            let state = state.clone();
            let get = move |ctx: Ctx<'js>, this: This<Object<'js>>| -> JsResult<Object<'js>> {
                match (name, state.phase.get()) {
                    ("instance", Phase::Init | Phase::Teardown | Phase::Summary) => {
                        Err(error::throw(&ctx, INSTANCE))
                    }
                    ("scenario", Phase::Init) => Err(error::throw(&ctx, SCENARIO)),
                    ("vu", Phase::Init) => Err(error::throw(&ctx, VU)),
                    _ => this.0.get(hidden(name)),
                }
            };
            module.prop(name, Accessor::from(get).enumerable().configurable())?;
        }
        exports.export("default", module)?;
        Ok(())
    }
}

/// Keeps a JS value where the engine's collector sees it: a value inside a Rust closure would be
/// a reference that it cannot follow, and the heap could never be freed.
fn hide<'js>(holder: &Object<'js>, name: &str, value: impl rquickjs::IntoJs<'js>) -> JsResult<()> {
    holder.prop(hidden(name), Property::from(value))
}

/// A property name that scripts do not meet.
fn hidden(name: &str) -> String {
    format!("#{name}")
}

/// Defines a read-only field that is computed at each read.
fn field<'js, F, V>(object: &Object<'js>, name: &str, get: F) -> JsResult<()>
where
    F: Fn(&Ctx<'js>, &Rc<VuState>) -> JsResult<V> + 'js,
    V: rquickjs::IntoJs<'js> + 'js,
{
    let state = state_of(object.ctx());
    let get = move |ctx: Ctx<'js>| get(&ctx, &state);
    object.prop(name, Accessor::from(get).enumerable())
}

fn instance<'js>(ctx: &Ctx<'js>) -> JsResult<Object<'js>> {
    let object = Object::new(ctx.clone())?;
    let read = |state: &Rc<VuState>, ctx: &Ctx<'js>| {
        if matches!(
            state.phase.get(),
            Phase::Init | Phase::Teardown | Phase::Summary
        ) {
            Err(error::throw(ctx, INSTANCE))
        } else {
            Ok(state.host.instance())
        }
    };
    field(&object, "iterationsCompleted", move |ctx, s| {
        Ok(read(s, ctx)?.iterations_completed as f64)
    })?;
    field(&object, "iterationsInterrupted", move |ctx, s| {
        Ok(read(s, ctx)?.iterations_interrupted as f64)
    })?;
    field(&object, "vusActive", move |ctx, s| {
        Ok(read(s, ctx)?.vus_active as f64)
    })?;
    field(&object, "vusInitialized", move |ctx, s| {
        Ok(read(s, ctx)?.vus_initialized as f64)
    })?;
    field(&object, "currentTestRunDuration", move |ctx, s| {
        Ok(read(s, ctx)?.run_ms)
    })?;
    Ok(object)
}

fn scenario<'js>(ctx: &Ctx<'js>) -> JsResult<Object<'js>> {
    let object = Object::new(ctx.clone())?;
    let read = |ctx: &Ctx<'js>, state: &Rc<VuState>| {
        let scenario = state.scenario.borrow().clone();
        scenario
            .filter(|_| state.phase.get() == Phase::Iteration)
            .ok_or_else(|| error::throw(ctx, SCENARIO))
    };
    field(&object, "name", move |ctx, s| {
        Ok(read(ctx, s)?.name().to_owned())
    })?;
    field(&object, "executor", move |ctx, s| {
        Ok(read(ctx, s)?.executor().to_owned())
    })?;
    field(&object, "startTime", move |ctx, s| {
        Ok(read(ctx, s)?.start_unix_ms() as f64)
    })?;
    field(&object, "progress", move |ctx, s| {
        Ok(read(ctx, s)?.progress())
    })?;
    field(&object, "iterationInInstance", move |ctx, s| {
        read(ctx, s)?;
        Ok(s.counters.get().scenario_instance as f64)
    })?;
    field(&object, "iterationInTest", move |ctx, s| {
        read(ctx, s)?;
        Ok(s.counters.get().scenario_test as f64)
    })?;
    Ok(object)
}

fn vu<'js>(ctx: &Ctx<'js>) -> JsResult<Object<'js>> {
    let object = Object::new(ctx.clone())?;
    fn number<'js>(
        object: &Object<'js>,
        name: &str,
        get: impl Fn(&Rc<VuState>) -> f64 + 'js,
    ) -> JsResult<()> {
        field(object, name, move |ctx, s| {
            if s.in_init() {
                return Err(error::throw(ctx, VU));
            }
            Ok(get(s))
        })
    }
    number(&object, "idInInstance", |s| s.id as f64)?;
    number(&object, "idInTest", |s| s.id_in_test as f64)?;
    number(&object, "iterationInInstance", |s| {
        s.counters.get().in_instance as f64
    })?;
    number(&object, "iterationInScenario", |s| {
        s.counters.get().in_scenario as f64
    })?;
    let state = state_of(ctx);
    let tags = live_map::proxy(ctx, Rc::new(Tags(state.clone())))?;
    let metadata = live_map::proxy(ctx, Rc::new(SampleMetadata(state)))?;
    let metrics = Object::new(ctx.clone())?;
    for (target, name, value) in [
        (&metrics, "tags", tags.clone()),
        (&metrics, "metadata", metadata),
        (&object, "tags", tags),
        (&object, "metrics", metrics.clone().into_value()),
    ] {
        hide(target, name, value)?;
        let state = state_of(ctx);
        let get = move |ctx: Ctx<'js>, this: This<Object<'js>>| -> JsResult<Value<'js>> {
            if state.in_init() {
                return Err(error::throw(&ctx, VU));
            }
            this.0.get(hidden(name))
        };
        if name == "tags" && target.as_value() == object.as_value() {
            // The older name of the map takes an assignment and ignores it.
            let set = |_: Value<'js>| {};
            target.prop(name, Accessor::new(get, set).enumerable())?;
        } else {
            target.prop(name, Accessor::from(get).enumerable())?;
        }
    }
    Ok(object)
}

/// The tags of a VU, as scripts see them.
struct Tags(Rc<VuState>);

impl LiveMap for Tags {
    fn get(&self, key: &str) -> Option<String> {
        self.0.tag(key)
    }

    fn keys(&self) -> Vec<String> {
        self.0.tag_names()
    }

    fn set(&self, key: &str, value: &Value<'_>) -> Result<(), String> {
        let value = tag_value(value).ok_or_else(|| {
            format!(
                "invalid value for metric tag '{key}': only String, Boolean and Number types are \
                 accepted as a metric tag values"
            )
        })?;
        self.0.set_tag(key, Some(&value));
        Ok(())
    }

    fn remove(&self, key: &str) {
        self.0.set_tag(key, None);
    }
}

/// The metadata of a VU's samples, as scripts see them.
struct SampleMetadata(Rc<VuState>);

impl LiveMap for SampleMetadata {
    fn get(&self, key: &str) -> Option<String> {
        self.0.metadata.borrow().get(key).cloned()
    }

    fn keys(&self) -> Vec<String> {
        self.0.metadata.borrow().keys().cloned().collect()
    }

    fn set(&self, key: &str, value: &Value<'_>) -> Result<(), String> {
        let value = tag_value(value).ok_or_else(|| {
            format!(
                "invalid value for metric metadata '{key}': only String, Boolean and Number types \
                 are accepted as a metric metadata value"
            )
        })?;
        let key = key.to_owned();
        self.0.metadata.borrow_mut().insert(key, value);
        self.0.metadata_changed();
        Ok(())
    }

    fn remove(&self, key: &str) {
        self.0.metadata.borrow_mut().remove(key);
        self.0.metadata_changed();
    }
}

fn test<'js>(ctx: &Ctx<'js>) -> JsResult<Object<'js>> {
    let object = Object::new(ctx.clone())?;
    let state = state_of(ctx);
    let vu = state.clone();
    object.set(
        "abort",
        Function::new(
            ctx.clone(),
            move |ctx: Ctx<'js>, message: Opt<Value<'js>>| abort(&ctx, &vu, message.0),
        )?
        .with_name("abort")?,
    )?;
    let vu = state;
    object.set(
        "fail",
        Function::new(
            ctx.clone(),
            move |ctx: Ctx<'js>, message: Opt<Value<'js>>| {
                if vu.in_init() {
                    return Err(error::throw(
                        &ctx,
                        "execution.test.fail() called outside of VU context",
                    ));
                }
                let text = match message.0.filter(|m| !m.is_undefined()) {
                    Some(message) => format!("test marked as failed: {}", error::to_text(&message)),
                    None => "test marked as failed".to_owned(),
                };
                vu.log(Level::Error, &text, &[]);
                vu.host.mark_failed();
                Ok(())
            },
        )?
        .with_name("fail")?,
    )?;
    field(&object, "options", |ctx, s| {
        let options = s.host.options().filter(|_| !s.in_init());
        let Some(options) = options else {
            return Err(error::throw(ctx, OPTIONS));
        };
        let value = ctx.json_parse(&options[..])?;
        let freeze: Function<'_> = ctx.eval(
            "(function f(v){if(v!==null&&typeof v==='object'){Object.freeze(v);\
             for(const k of Object.keys(v))f(v[k])}return v})",
        )?;
        freeze.call::<_, Value<'_>>((value,))
    })?;
    Ok(object)
}

/// Ends the test; nothing of the script runs after it, not even `finally`.
fn abort<'js>(ctx: &Ctx<'js>, state: &VuState, message: Option<Value<'js>>) -> JsResult<()> {
    let mut text = match message.filter(|m| !m.is_undefined()) {
        Some(message) => format!("test aborted: {}", error::to_text(&message)),
        None => "test aborted".to_owned(),
    };
    if matches!(state.phase.get(), Phase::Iteration | Phase::Init)
        && let Some(position) = error::position(ctx)
    {
        text.push_str(" at ");
        text.push_str(&position);
    }
    state.aborted.set(true);
    state.host.abort(text);
    state.fiber.stop();
    Err(engine::throw_uncatchable(ctx))
}
