//! `k6/metrics`: the four kinds of custom metrics.

use std::{rc::Rc, time::Instant};

use rquickjs::{
    Atom, Coerced, Ctx, Exception, Filter, Function, Object, Result as JsResult, Value,
    function::Opt,
    module::{Declarations, Exports, ModuleDef},
    object::Property,
};
use volley_metrics::{MetricId, MetricKind, ValueType};

use super::{export_all, string_argument};
use crate::{engine, error, host::Level, state::VuState, vu::state_of};

const NAMES: &[&str] = &["Counter", "Gauge", "Rate", "Trend"];

/// The module `k6/metrics`.
pub(crate) struct Metrics;

impl ModuleDef for Metrics {
    fn declare(decl: &Declarations<'_>) -> JsResult<()> {
        for name in NAMES {
            decl.declare(*name)?;
        }
        decl.declare("default")?;
        Ok(())
    }

    fn evaluate<'js>(ctx: &Ctx<'js>, exports: &Exports<'js>) -> JsResult<()> {
        let module = Object::new(ctx.clone())?;
        for (name, kind) in [
            ("Counter", MetricKind::Counter),
            ("Gauge", MetricKind::Gauge),
            ("Rate", MetricKind::Rate),
            ("Trend", MetricKind::Trend),
        ] {
            let state = state_of(ctx);
            let class = Function::new(
                ctx.clone(),
                move |ctx: Ctx<'js>, name: Opt<Value<'js>>, is_time: Opt<Value<'js>>| {
                    construct(&ctx, &state, kind, name.0, is_time.0)
                },
            )?
            .with_constructor(true)
            .with_name(name)?;
            module.set(name, class)?;
        }
        export_all(exports, &module, NAMES)
    }
}

fn construct<'js>(
    ctx: &Ctx<'js>,
    state: &Rc<VuState>,
    kind: MetricKind,
    name: Option<Value<'js>>,
    is_time: Option<Value<'js>>,
) -> JsResult<Object<'js>> {
    if !state.in_init() {
        return Err(error::throw(
            ctx,
            "metrics must be declared in the init context",
        ));
    }
    let name = string_argument(name);
    let contains = if is_time.and_then(|t| t.as_bool()) == Some(true) {
        ValueType::Time
    } else {
        ValueType::Default
    };
    let id = state
        .worker
        .registry
        .register(&name, kind, contains)
        .map_err(|e| error::throw(ctx, &e.to_string()))?;
    let metric = Object::new(ctx.clone())?;
    let shown = name.clone();
    let vu = state.clone();
    let add = Function::new(
        ctx.clone(),
        move |ctx: Ctx<'js>, value: Opt<Value<'js>>, tags: Opt<Value<'js>>| {
            add(&ctx, &vu, id, &name, value.0, tags.0)
        },
    )?
    .with_name("add")?;
    metric.prop("add", Property::from(add).enumerable())?;
    metric.prop("name", Property::from(shown).enumerable())?;
    Ok(metric)
}

fn add<'js>(
    ctx: &Ctx<'js>,
    state: &Rc<VuState>,
    id: MetricId,
    name: &str,
    value: Option<Value<'js>>,
    tags: Option<Value<'js>>,
) -> JsResult<bool> {
    if state.in_init() {
        return Err(error::throw(
            ctx,
            "Adding to metrics in the init context is not supported",
        ));
    }
    state.guard(ctx)?;
    let Some(value) = value else {
        return refuse(
            ctx,
            state,
            &format!(
                "no value was provided for metric '{name}', a number or a boolean value is expected"
            ),
        );
    };
    let number = to_number(ctx, &value)?;
    let Some(number) = number else {
        let text = shorten(&error::to_text(&value));
        return refuse(
            ctx,
            state,
            &format!(
                "'{text}' is an invalid value for metric '{name}', a number or a boolean value is expected"
            ),
        );
    };
    let pairs = match tags.as_ref().map(tag_pairs).transpose() {
        Ok(pairs) => pairs.unwrap_or_default(),
        Err(text) => {
            let text = format!("cannot add tags for the '{name}' custom metric: {text}");
            return Err(error::throw(ctx, &text));
        }
    };
    let tags = if pairs.is_empty() {
        state.tag_set()
    } else {
        let extra: Vec<(&str, &str)> = pairs
            .iter()
            .map(|(k, v)| (k.as_str(), v.as_str()))
            .collect();
        state.tag_set_with(&extra)
    };
    state.record(id, tags, number, Instant::now());
    Ok(true)
}

/// `Number(value)`, and 1 for a truthy value that converts to 0; `None` for what is no number.
fn to_number(ctx: &Ctx<'_>, value: &Value<'_>) -> JsResult<Option<f64>> {
    if let Some(number) = value.as_number() {
        return Ok((!number.is_nan()).then_some(number));
    }
    if let Some(flag) = value.as_bool() {
        return Ok(Some(f64::from(u8::from(flag))));
    }
    if value.is_null() || value.is_undefined() {
        return Ok(None);
    }
    if value.is_symbol() || value.is_big_int() {
        return Err(Exception::throw_type(ctx, "Cannot convert to a number"));
    }
    let number = value.get::<Coerced<f64>>()?.0;
    if number.is_nan() {
        return Ok(None);
    }
    let truthy = value.get::<Coerced<bool>>()?.0;
    Ok(Some(if number == 0.0 && truthy { 1.0 } else { number }))
}

fn refuse(ctx: &Ctx<'_>, state: &VuState, text: &str) -> JsResult<bool> {
    if state.settings.throw {
        return Err(error::throw(ctx, text));
    }
    state.log(Level::Warning, text, &[]);
    Ok(false)
}

fn shorten(text: &str) -> String {
    let count = text.chars().count();
    if count <= 100 {
        return text.to_owned();
    }
    let head: String = text.chars().take(50).collect();
    let tail: String = text.chars().skip(count - 50).collect();
    format!("{head}... omitting {} characters ...{tail}", count - 100)
}

/// The members of a `tags` object as text.
///
/// # Errors
/// The text for a value that is neither string, boolean nor number.
pub(crate) fn tag_pairs(tags: &Value<'_>) -> Result<Vec<(String, String)>, String> {
    let Some(object) = tags.as_object() else {
        // A string has its characters as members, as in the reference.
        return Ok(match tags.as_string() {
            Some(text) => engine::rust_string(text)
                .chars()
                .enumerate()
                .map(|(i, c)| (i.to_string(), c.to_string()))
                .collect(),
            None => Vec::new(),
        });
    };
    let mut pairs = Vec::new();
    for key in object.own_keys::<Atom<'_>>(Filter::new().string().enum_only()) {
        let key = key.map_err(|e| e.to_string())?;
        let name = engine::atom_string(&key);
        let value: Value<'_> = object.get(key).map_err(|e| e.to_string())?;
        match tag_value(&value) {
            Some(text) => pairs.push((name, text)),
            None => {
                return Err(format!(
                    "invalid value for metric tag '{name}': only String, Boolean and Number types \
                     are accepted as a metric tag values"
                ));
            }
        }
    }
    Ok(pairs)
}

/// The text of a value that may be a tag.
pub(crate) fn tag_value(value: &Value<'_>) -> Option<String> {
    if let Some(text) = value.as_string() {
        return Some(engine::rust_string(text));
    }
    if value.is_bool() || value.is_number() {
        return Some(error::to_text(value));
    }
    None
}
