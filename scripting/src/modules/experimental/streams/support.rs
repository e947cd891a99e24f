//! What readable and writable streams share: promises that are settled later, what is called when one is settled, and queues.

use std::{cell::RefCell, collections::VecDeque};

use rquickjs::{
    Class, Coerced, Ctx, Exception, Function, Object, Result as JsResult, Value,
    class::{ClassKind, Trace, Tracer},
    function::{Constructor, Params, This},
};

use super::{readable, writable};
pub(super) use crate::class::{
    Of, Shape, Slot, call, expect, getter, method, object, trace_cell, undefined, value_in,
};
use crate::{engine::Kind, error, vu::state_of};

pub(super) fn number_or_null<'js>(ctx: &Ctx<'js>, number: Option<f64>) -> JsResult<Value<'js>> {
    Ok(match number {
        Some(number) => Value::new_number(ctx.clone(), number),
        None => Value::new_null(ctx.clone()),
    })
}

// === Promises ===

/// A promise, and the functions that settle it while it is not.
#[derive(Clone)]
pub(super) struct Deferred<'js> {
    pub(super) promise: Value<'js>,
    settle: Option<(Function<'js>, Function<'js>)>,
}

impl<'js> Trace<'js> for Deferred<'js> {
    fn trace<'a>(&self, tracer: Tracer<'a, 'js>) {
        self.promise.trace(tracer);
        if let Some((resolve, reject)) = &self.settle {
            resolve.trace(tracer);
            reject.trace(tracer);
        }
    }
}

impl<'js> Deferred<'js> {
    pub(super) fn new(ctx: &Ctx<'js>) -> JsResult<Self> {
        let (promise, resolve, reject) = ctx.promise()?;
        Ok(Self {
            promise: promise.into_value(),
            settle: Some((resolve, reject)),
        })
    }

    pub(super) fn resolved(ctx: &Ctx<'js>) -> JsResult<Self> {
        let promise = resolved(ctx, undefined(ctx))?;
        Ok(Self {
            promise,
            settle: None,
        })
    }

    /// A rejected one, which nobody has to wait for.
    pub(super) fn rejected(ctx: &Ctx<'js>, reason: Value<'js>) -> JsResult<Self> {
        let promise = rejected(ctx, reason)?;
        quiet(ctx, &promise)?;
        Ok(Self {
            promise,
            settle: None,
        })
    }

    pub(super) fn is_settled(&self) -> bool {
        self.settle.is_none()
    }

    pub(super) fn resolve(self, value: Value<'js>) -> JsResult<()> {
        match self.settle {
            Some((resolve, _)) => resolve.call((value,)),
            None => Ok(()),
        }
    }

    pub(super) fn reject(self, reason: Value<'js>) -> JsResult<()> {
        match self.settle {
            Some((_, reject)) => reject.call((reason,)),
            None => Ok(()),
        }
    }
}

/// Takes out of a cell what settles the promise in it, which stays.
fn for_settling<'js>(cell: &RefCell<Deferred<'js>>) -> Deferred<'js> {
    let mut inner = cell.borrow_mut();
    Deferred {
        promise: inner.promise.clone(),
        settle: inner.settle.take(),
    }
}

/// Resolves the promise in a cell with `undefined`, unless it is settled.
pub(super) fn resolve_in<'js>(ctx: &Ctx<'js>, cell: &RefCell<Deferred<'js>>) -> JsResult<()> {
    for_settling(cell).resolve(undefined(ctx))
}

/// Resolves the promise in a cell, unless it is settled.
pub(super) fn resolve_with<'js>(cell: &RefCell<Deferred<'js>>, value: Value<'js>) -> JsResult<()> {
    for_settling(cell).resolve(value)
}

/// Rejects the promise in a cell, unless it is settled; nobody has to wait for it.
pub(super) fn reject_in<'js>(
    ctx: &Ctx<'js>,
    cell: &RefCell<Deferred<'js>>,
    reason: Value<'js>,
) -> JsResult<()> {
    let deferred = for_settling(cell);
    let promise = deferred.promise.clone();
    deferred.reject(reason)?;
    quiet(ctx, &promise)
}

/// The same; in the place of a settled promise comes a new one that is rejected.
pub(super) fn reject_anew<'js>(
    ctx: &Ctx<'js>,
    cell: &RefCell<Deferred<'js>>,
    reason: Value<'js>,
) -> JsResult<()> {
    if !cell.borrow().is_settled() {
        return reject_in(ctx, cell, reason);
    }
    put(cell, Deferred::rejected(ctx, reason)?);
    Ok(())
}

/// Changes what is in a cell. The old content goes when the cell is free again.
pub(super) fn put<T>(cell: &RefCell<T>, content: T) {
    drop(cell.replace(content));
}

/// A promise that is resolved with a value: its own, if it is one.
pub(super) fn resolved<'js>(ctx: &Ctx<'js>, value: Value<'js>) -> JsResult<Value<'js>> {
    if value.is_promise() {
        return Ok(value);
    }
    let (promise, resolve, _) = ctx.promise()?;
    resolve.call::<_, ()>((value,))?;
    Ok(promise.into_value())
}

pub(super) fn rejected<'js>(ctx: &Ctx<'js>, reason: Value<'js>) -> JsResult<Value<'js>> {
    let (promise, _, reject) = ctx.promise()?;
    reject.call::<_, ()>((reason,))?;
    Ok(promise.into_value())
}

/// A promise that is rejected with a TypeError.
pub(super) fn refused<'js>(ctx: &Ctx<'js>, text: &str) -> JsResult<Value<'js>> {
    rejected(ctx, type_error(ctx, text)?)
}

pub(super) fn type_error<'js>(ctx: &Ctx<'js>, text: &str) -> JsResult<Value<'js>> {
    let class: Constructor<'js> = ctx.globals().get("TypeError")?;
    class.construct((text,))
}

/// `promise.then(done, failed)`
pub(super) fn then<'js>(
    promise: &Value<'js>,
    done: Value<'js>,
    failed: Value<'js>,
) -> JsResult<Value<'js>> {
    let Some(inner) = promise.as_promise() else {
        return Ok(promise.clone());
    };
    inner.then()?.call((This(promise.clone()), done, failed))
}

/// That nobody waits for the promise is no error.
fn quiet<'js>(ctx: &Ctx<'js>, promise: &Value<'js>) -> JsResult<()> {
    let ignore = reaction(ctx, Then::Ignore, undefined(ctx))?;
    then(promise, undefined(ctx), ignore).map(drop)
}

/// Calls a function of the script, if there is one; what it does becomes a promise.
pub(super) fn promise_call<'js>(
    ctx: &Ctx<'js>,
    function: Option<&Function<'js>>,
    this: Value<'js>,
    arguments: &[Value<'js>],
) -> JsResult<Value<'js>> {
    let Some(function) = function else {
        return resolved(ctx, undefined(ctx));
    };
    match call(ctx, function, this, arguments) {
        Ok(value) => resolved(ctx, value),
        Err(thrown) => rejected(ctx, catch(ctx, thrown)?),
    }
}

/// What was thrown, unless the VU has been told to stop.
pub(super) fn catch<'js>(ctx: &Ctx<'js>, thrown: rquickjs::Error) -> JsResult<Value<'js>> {
    state_of(ctx).guard(ctx)?;
    Ok(error::thrown(ctx, thrown))
}

// === What is called when a promise is settled ===

/// What to do then.
#[derive(Debug, Clone, Copy)]
pub(super) enum Then {
    Ignore,
    Readable(readable::Then),
    Writable(writable::Then),
}

pub(super) struct Reaction;

/// A function whose values the collector sees, as it does not with closures of Rust's.
pub(super) struct ReactionData<'js> {
    then: Then,
    on: Value<'js>,
}

impl<'js> Trace<'js> for ReactionData<'js> {
    fn trace<'a>(&self, tracer: Tracer<'a, 'js>) {
        self.on.trace(tracer);
    }
}

impl Kind for Reaction {
    type Data<'js> = ReactionData<'js>;
}

impl Shape for Reaction {
    const NAME: &'static str = "Reaction";
    const KIND: ClassKind = ClassKind::Callable;

    fn members(_prototype: &Object<'_>) -> JsResult<()> {
        Ok(())
    }

    fn call<'js>(this: &ReactionData<'js>, params: Params<'_, 'js>) -> JsResult<Value<'js>> {
        let ctx = params.ctx();
        let value = params.arg(0).unwrap_or_else(|| undefined(ctx));
        match this.then {
            Then::Ignore => {}
            Then::Readable(then) => readable::react(ctx, then, &this.on, value)?,
            Then::Writable(then) => writable::react(ctx, then, &this.on, value)?,
        }
        Ok(undefined(ctx))
    }
}

/// A function for [`then`].
pub(super) fn reaction<'js>(ctx: &Ctx<'js>, then: Then, on: Value<'js>) -> JsResult<Value<'js>> {
    object::<Reaction>(ctx, ReactionData { then, on }).map(Class::into_value)
}

// === Queues ===

/// Chunks with their sizes. In a queue of writes, `None` is the end.
#[derive(Default)]
pub(super) struct Chunks<'js> {
    chunks: VecDeque<(Option<Value<'js>>, f64)>,
    pub(super) total: f64,
}

impl<'js> Trace<'js> for Chunks<'js> {
    fn trace<'a>(&self, tracer: Tracer<'a, 'js>) {
        for (chunk, _) in &self.chunks {
            chunk.trace(tracer);
        }
    }
}

impl<'js> Chunks<'js> {
    pub(super) fn is_empty(&self) -> bool {
        self.chunks.is_empty()
    }

    pub(super) fn push(&mut self, chunk: Option<Value<'js>>, size: f64) {
        self.chunks.push_back((chunk, size));
        self.total += size;
    }

    pub(super) fn first(&self) -> Option<&Option<Value<'js>>> {
        self.chunks.front().map(|(chunk, _)| chunk)
    }

    pub(super) fn take(&mut self) -> Option<Option<Value<'js>>> {
        let (chunk, size) = self.chunks.pop_front()?;
        // Sums of fractions may end below nothing.
        self.total = (self.total - size).max(0.0);
        Some(chunk)
    }
}

/// The size of a chunk: 1, or what the strategy says.
pub(super) fn size_of<'js>(
    ctx: &Ctx<'js>,
    size: Option<&Function<'js>>,
    chunk: &Value<'js>,
) -> JsResult<f64> {
    let Some(size) = size else { return Ok(1.0) };
    let said = call(ctx, size, undefined(ctx), std::slice::from_ref(chunk))?;
    let number: Coerced<f64> = said.get()?;
    if number.0 >= 0.0 && number.0.is_finite() {
        return Ok(number.0);
    }
    Err(Exception::throw_range(
        ctx,
        "The size of a chunk must be a finite, non-negative number",
    ))
}

// === Arguments of constructors ===

/// Members of a source, a sink or a strategy.
pub(super) struct Dictionary<'js>(Option<Object<'js>>);

impl<'js> Dictionary<'js> {
    pub(super) fn new(ctx: &Ctx<'js>, value: Option<&Value<'js>>, what: &str) -> JsResult<Self> {
        match value.filter(|value| !value.is_undefined() && !value.is_null()) {
            None => Ok(Self(None)),
            Some(value) => match value.as_object() {
                Some(object) => Ok(Self(Some(object.clone()))),
                None => Err(Exception::throw_type(
                    ctx,
                    &format!("{what} must be an object"),
                )),
            },
        }
    }

    /// A member that is there.
    pub(super) fn get(&self, name: &str) -> JsResult<Option<Value<'js>>> {
        let Some(object) = &self.0 else {
            return Ok(None);
        };
        let value: Value<'js> = object.get(name)?;
        Ok(Some(value).filter(|value| !value.is_undefined()))
    }

    /// A member that is a function, if it is there.
    pub(super) fn function(&self, ctx: &Ctx<'js>, name: &str) -> JsResult<Option<Function<'js>>> {
        match self.get(name)? {
            None => Ok(None),
            Some(value) => match value.as_function() {
                Some(function) => Ok(Some(function.clone())),
                None => Err(Exception::throw_type(
                    ctx,
                    &format!("{name} must be a function"),
                )),
            },
        }
    }

    pub(super) fn high_water_mark(&self, ctx: &Ctx<'js>) -> JsResult<f64> {
        let Some(value) = self.get("highWaterMark")? else {
            return Ok(1.0);
        };
        let number: Coerced<f64> = value.get()?;
        if number.0 >= 0.0 {
            return Ok(number.0);
        }
        Err(Exception::throw_range(
            ctx,
            "highWaterMark must be a non-negative number",
        ))
    }
}
