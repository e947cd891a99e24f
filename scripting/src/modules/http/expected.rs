//! `http.expectedStatuses` and what it decides: whether a request counts as failed.

use std::{any::Any, rc::Rc};

use rquickjs::{Ctx, Object, Result as JsResult, Value, function::Rest};

use super::native::{self, Kind, Natives};
use crate::{engine::LazyFields, error, state::VuState};

/// Who says whether a status was to be expected.
#[derive(Debug, Clone, Default)]
pub(super) enum Verdict {
    /// 200 to 399 are.
    #[default]
    Usual,
    /// The script: these are.
    Of(Rc<Expected>),
    /// Nobody: there is neither a metric nor a tag for it.
    Nobody,
}

impl Verdict {
    /// Whether the status was to be expected, if anybody says so.
    pub(super) fn on(&self, status: u16) -> Option<bool> {
        match self {
            Self::Usual => Some((200..400).contains(&status)),
            Self::Of(expected) => Some(expected.contains(status)),
            Self::Nobody => None,
        }
    }

    /// That of a value a script gives: one of `expectedStatuses()`, or nothing.
    pub(super) fn from_js(state: &VuState, value: &Value<'_>) -> Option<Self> {
        if value.is_null() || value.is_undefined() {
            return Some(Self::Nobody);
        }
        let fields = native::behind(state, Kind::Expected, value)?;
        fields
            .as_any()
            .downcast_ref::<Rc<Expected>>()
            .cloned()
            .map(Self::Of)
    }
}

/// Ranges of statuses, both ends included.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Expected(Vec<(i64, i64)>);

impl Expected {
    fn contains(&self, status: u16) -> bool {
        let status = i64::from(status);
        self.0
            .iter()
            .any(|(min, max)| (*min..=*max).contains(&status))
    }
}

impl LazyFields for Rc<Expected> {
    fn get<'js>(&self, ctx: &Ctx<'js>, _index: usize) -> JsResult<Value<'js>> {
        Ok(Value::new_undefined(ctx.clone()))
    }

    fn assigned(&self, _index: usize, _value: &Value<'_>) {}

    fn as_any(&self) -> &dyn Any {
        self
    }
}

/// `http.expectedStatuses(...)`.
pub(super) fn statuses<'js>(
    ctx: &Ctx<'js>,
    state: &VuState,
    arguments: &Rest<Value<'js>>,
) -> JsResult<Object<'js>> {
    if arguments.0.is_empty() {
        return Err(error::throw(ctx, "no arguments"));
    }
    let mut ranges = Vec::with_capacity(arguments.0.len());
    for (index, argument) in arguments.0.iter().enumerate() {
        let number = index + 1;
        if let Some(status) = integer(argument) {
            ranges.push((status, status));
            continue;
        }
        let Some(object) = argument.as_object().filter(|_| !argument.is_function()) else {
            let text = format!(
                "argument number {number} to expectedStatuses was neither an integer nor an object \
                 like {{min:100, max:329}}"
            );
            return Err(error::throw(ctx, &text));
        };
        let (min, max): (Value<'js>, Value<'js>) = (object.get("min")?, object.get("max")?);
        match (integer(&min), integer(&max)) {
            (Some(min), Some(max)) => ranges.push((min, max)),
            _ => {
                let text =
                    format!("both min and max need to be integers for argument number {number}");
                return Err(error::throw(ctx, &text));
            }
        }
    }
    let expected = Rc::new(Expected(ranges));
    native::make(ctx, state, Kind::Expected, Rc::new(expected))
}

fn integer(value: &Value<'_>) -> Option<i64> {
    let number = value.as_number()?;
    (number.fract() == 0.0 && number.abs() < 9e15).then_some(number as i64)
}

/// `http.setResponseCallback(...)`.
pub(super) fn set_callback<'js>(
    ctx: &Ctx<'js>,
    state: &VuState,
    callback: Option<&Value<'js>>,
) -> JsResult<()> {
    let verdict = match callback {
        Some(value) => Verdict::from_js(state, value),
        None => Some(Verdict::Nobody),
    };
    let Some(verdict) = verdict else {
        let text = "unsupported argument, expected http.expectedStatuses";
        return Err(error::throw(ctx, text));
    };
    *Natives::of(state)?.verdict.borrow_mut() = verdict;
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ranges_include_both_ends() {
        let verdict = Verdict::Of(Rc::new(Expected(vec![(204, 204), (500, 502), (9, 3)])));
        let good = [204, 500, 502];
        for status in [0, 5, 200, 203, 204, 205, 499, 500, 502, 503] {
            assert_eq!(verdict.on(status), Some(good.contains(&status)), "{status}");
        }
        assert_eq!(Verdict::Usual.on(399), Some(true));
        assert_eq!(Verdict::Usual.on(0), Some(false));
        assert_eq!(Verdict::Nobody.on(200), None);
    }
}
