//! `k6`: check, group, sleep, fail, randomSeed.

use std::{
    rc::Rc,
    time::{Duration, Instant},
};

use rquickjs::{
    Atom, Coerced, Ctx, Filter, Function, Object, Result as JsResult, Value,
    function::{Opt, This},
    module::{Declarations, Exports, ModuleDef},
};
use volley_metrics::builtin;

use super::{export_all, metrics::tag_pairs, random, string_argument};
use crate::{engine, error, state::VuState, vu::state_of};

const NAMES: &[&str] = &["check", "fail", "group", "randomSeed", "sleep"];

/// The module `k6`.
pub(crate) struct K6;

impl ModuleDef for K6 {
    fn declare(decl: &Declarations<'_>) -> JsResult<()> {
        for name in NAMES {
            decl.declare(*name)?;
        }
        decl.declare("default")?;
        Ok(())
    }

    fn evaluate<'js>(ctx: &Ctx<'js>, exports: &Exports<'js>) -> JsResult<()> {
        let module = Object::new(ctx.clone())?;
        let state = state_of(ctx);
        let vu = state.clone();
        module.set(
            "check",
            Function::new(
                ctx.clone(),
                move |ctx: Ctx<'js>,
                      value: Opt<Value<'js>>,
                      sets: Opt<Value<'js>>,
                      tags: Opt<Value<'js>>| {
                    check(&ctx, &vu, value.0, sets.0, tags.0)
                },
            )?
            .with_name("check")?,
        )?;
        module.set(
            "fail",
            Function::new(ctx.clone(), |ctx: Ctx<'js>, text: Opt<Value<'js>>| {
                Err::<(), _>(error::throw(&ctx, &string_argument(text.0)))
            })?
            .with_name("fail")?,
        )?;
        let vu = state.clone();
        module.set(
            "group",
            Function::new(
                ctx.clone(),
                move |ctx: Ctx<'js>, name: Opt<Value<'js>>, body: Opt<Value<'js>>| {
                    group(&ctx, &vu, &string_argument(name.0), body.0)
                },
            )?
            .with_name("group")?,
        )?;
        let vu = state.clone();
        module.set(
            "sleep",
            Function::new(
                ctx.clone(),
                move |ctx: Ctx<'js>, seconds: Opt<Coerced<f64>>| {
                    sleep(&ctx, &vu, seconds.0.map_or(0.0, |s| s.0))
                },
            )?
            .with_name("sleep")?,
        )?;
        let vu = state.clone();
        module.set(
            "randomSeed",
            Function::new(
                ctx.clone(),
                move |ctx: Ctx<'js>, seed: Opt<Coerced<f64>>| {
                    // NaN becomes 0, as what is no number does in k6.
                    vu.random.seed(seed.0.map_or(0.0, |seed| seed.0) as i64);
                    random::install(&ctx)
                },
            )?
            .with_name("randomSeed")?,
        )?;
        export_all(exports, &module, NAMES)
    }
}

fn sleep(ctx: &Ctx<'_>, state: &VuState, seconds: f64) -> JsResult<()> {
    if seconds > 0.0 {
        // Longer than any run, shorter than what a timer can hold.
        let duration = Duration::try_from_secs_f64(seconds.min(1e9)).unwrap_or_default();
        if state
            .fiber
            .pause(tokio::time::Instant::now() + duration)
            .is_err()
        {
            return Err(engine::throw_uncatchable(ctx));
        }
    }
    state.guard(ctx)
}

fn check<'js>(
    ctx: &Ctx<'js>,
    state: &Rc<VuState>,
    value: Option<Value<'js>>,
    sets: Option<Value<'js>>,
    tags: Option<Value<'js>>,
) -> JsResult<bool> {
    if state.in_init() {
        return Err(error::throw(
            ctx,
            "Using check() in the init context is not supported",
        ));
    }
    state.guard(ctx)?;
    let value = value.unwrap_or_else(|| Value::new_undefined(ctx.clone()));
    let Some(sets) = sets else {
        return Err(error::throw(ctx, "no checks provided to `check`"));
    };
    if sets.is_undefined() || sets.is_null() {
        return Err(rquickjs::Exception::throw_type(
            ctx,
            "Cannot convert undefined or null to object",
        ));
    }
    let extra = match tags.as_ref().map(tag_pairs).transpose() {
        Ok(pairs) => pairs.unwrap_or_default(),
        Err(text) => return Err(error::throw(ctx, &text)),
    };
    let now = Instant::now();
    if let Some(text) = sets.as_string() {
        // The characters of a string are its members, and none of them is falsy.
        for (index, _) in engine::rust_string(text).encode_utf16().enumerate() {
            record_check(state, &index.to_string(), &extra, true, now);
        }
    }
    let Some(sets) = sets.as_object() else {
        return Ok(true);
    };
    let mut all = true;
    for key in sets.own_keys::<Atom<'js>>(Filter::new().string().enum_only()) {
        let key = key?;
        let name = engine::atom_string(&key);
        let verdict: Value<'js> = sets.get(key)?;
        if name.contains("::") {
            return Err(error::throw(
                ctx,
                "group and check names may not contain '::'",
            ));
        }
        let passed = match verdict.as_function() {
            Some(function) => {
                if engine::is_async_function(&verdict) {
                    return Err(error::throw(
                        ctx,
                        "the built-in check() does not support async functions as arguments. Use the JavaScript utils library as a replacement. Refer to https://grafana.com/docs/k6/latest/javascript-api/jslib/utils/check/ for more info",
                    ));
                }
                let undefined = Value::new_undefined(ctx.clone());
                match function.call::<_, Coerced<bool>>((This(undefined), value.clone())) {
                    Ok(passed) => passed.0,
                    Err(thrown) => {
                        record_check(state, &name, &extra, false, now);
                        return Err(thrown);
                    }
                }
            }
            None => verdict.get::<Coerced<bool>>()?.0,
        };
        record_check(state, &name, &extra, passed, now);
        all &= passed;
    }
    Ok(all)
}

fn record_check(
    state: &VuState,
    name: &str,
    extra: &[(String, String)],
    passed: bool,
    at: Instant,
) {
    let mut pairs: Vec<(&str, &str)> = Vec::with_capacity(extra.len() + 1);
    pairs.extend(extra.iter().map(|(k, v)| (k.as_str(), v.as_str())));
    if state.settings.system_tags.check() {
        pairs.push(("check", name));
    }
    let tags = state.tag_set_with(&pairs);
    state.record(builtin::CHECKS, tags, f64::from(u8::from(passed)), at);
}

fn group<'js>(
    ctx: &Ctx<'js>,
    state: &Rc<VuState>,
    name: &str,
    body: Option<Value<'js>>,
) -> JsResult<Value<'js>> {
    if state.in_init() {
        return Err(error::throw(
            ctx,
            "Using group() in the init context is not supported",
        ));
    }
    state.guard(ctx)?;
    if name.contains("::") {
        return Err(error::throw(
            ctx,
            "group and check names may not contain '::'",
        ));
    }
    let body = body.filter(|b| b.is_function());
    let Some(body) = body.as_ref().and_then(|b| b.as_function()) else {
        return Err(error::throw(
            ctx,
            "group() requires a callback as a second argument",
        ));
    };
    if engine::is_async_function(body) {
        return Err(error::throw(
            ctx,
            "group() does not support async functions as arguments, please see https://grafana.com/docs/k6/latest/javascript-api/k6/group/ for more info",
        ));
    }
    let parent = state.tag("group").unwrap_or_default();
    let path = if parent.is_empty() && name.is_empty() {
        String::new()
    } else {
        format!("{parent}::{name}")
    };
    let tracked = state.settings.system_tags.group();
    let started = Instant::now();
    let before = tracked.then(|| state.enter_group(&path));
    let inside = state.tag_set();
    let result = body.call((This(Value::new_undefined(ctx.clone())),));
    let ended = Instant::now();
    let ms = (ended - started).as_nanos() as f64 / 1e6;
    let tags = state.tag_set();
    if let Some(before) = before {
        state.leave_group(before, inside);
    }
    state.record(builtin::GROUP_DURATION, tags, ms, ended);
    result
}
