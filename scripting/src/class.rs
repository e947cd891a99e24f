//! Classes of objects whose data is Rust's and holds values of the script, which the collector sees.

use std::{cell::RefCell, ops::Deref};

use rquickjs::{
    Class, Ctx, Exception, Function, Object, Result as JsResult, Value,
    class::{ClassKind, JsCell, JsClass, Readable as ReadOnly, Trace, Tracer},
    function::{Args, Constructor, Opt, Params, Rest, This},
    object::{Accessor, Property},
};

use crate::{
    engine::{Kind, Managed},
    vu::state_of,
};

/// A class of objects that scripts see, or that only promises call.
pub(crate) trait Shape: Kind {
    /// Its name in messages.
    const NAME: &'static str;
    /// Whether its objects can be called.
    const KIND: ClassKind = ClassKind::Plain;

    /// Puts the members into the prototype.
    fn members(prototype: &Object<'_>) -> JsResult<()>;

    /// What calling such an object does.
    fn call<'js>(_this: &Self::Data<'js>, params: Params<'_, 'js>) -> JsResult<Value<'js>> {
        Ok(undefined(params.ctx()))
    }
}

/// An object of such a class.
pub(crate) type Of<'js, K> = Class<'js, Managed<'js, K>>;

impl<'js, K: Kind> Deref for Managed<'js, K> {
    type Target = K::Data<'js>;

    fn deref(&self) -> &K::Data<'js> {
        &self.0
    }
}

impl<'js, K: Kind> Trace<'js> for Managed<'js, K> {
    fn trace<'a>(&self, tracer: Tracer<'a, 'js>) {
        self.0.trace(tracer);
    }
}

impl<'js, K: Shape> JsClass<'js> for Managed<'js, K> {
    const NAME: &'static str = K::NAME;
    const KIND: ClassKind = K::KIND;
    type Mutable = ReadOnly;

    fn prototype(ctx: &Ctx<'js>) -> JsResult<Option<Object<'js>>> {
        let prototype = Object::new(ctx.clone())?;
        K::members(&prototype)?;
        Ok(Some(prototype))
    }

    fn constructor(_ctx: &Ctx<'js>) -> JsResult<Option<Constructor<'js>>> {
        Ok(None)
    }

    fn call<'a>(this: &JsCell<'js, Self>, params: Params<'a, 'js>) -> JsResult<Value<'js>> {
        K::call(&this.borrow().0, params)
    }
}

/// A new object with this data.
pub(crate) fn object<'js, K: Shape>(ctx: &Ctx<'js>, data: K::Data<'js>) -> JsResult<Of<'js, K>> {
    Class::instance(ctx.clone(), Managed(data))
}

/// The object that a value is; a TypeError for others.
pub(crate) fn expect<'js, K: Shape>(ctx: &Ctx<'js>, value: &Value<'js>) -> JsResult<Of<'js, K>> {
    Class::from_value(value)
        .map_err(|_| Exception::throw_type(ctx, &format!("A {} is expected", K::NAME)))
}

/// A value that changes.
pub(crate) type Slot<'js> = RefCell<Option<Value<'js>>>;

/// Shows what is in a cell to the collector. It never runs while one is borrowed for a change;
/// if it did, what is in there would only be kept for longer.
pub(crate) fn trace_cell<'js, T: Trace<'js>>(cell: &RefCell<T>, tracer: Tracer<'_, 'js>) {
    if let Ok(inner) = cell.try_borrow() {
        inner.trace(tracer);
    }
}

/// `undefined`
pub(crate) fn undefined<'js>(ctx: &Ctx<'js>) -> Value<'js> {
    Value::new_undefined(ctx.clone())
}

/// What is in a slot, `undefined` for nothing.
pub(crate) fn value_in<'js>(ctx: &Ctx<'js>, slot: &Slot<'js>) -> Value<'js> {
    slot.borrow().clone().unwrap_or_else(|| undefined(ctx))
}

/// Puts a method into a prototype: it gets `this` and its first argument.
pub(crate) fn method<'js>(
    prototype: &Object<'js>,
    name: &str,
    method: for<'a> fn(Ctx<'a>, Value<'a>, Value<'a>) -> JsResult<Value<'a>>,
) -> JsResult<()> {
    let function = Function::new(
        prototype.ctx().clone(),
        move |ctx: Ctx<'js>, this: This<Value<'js>>, argument: Opt<Value<'js>>| {
            state_of(&ctx).guard(&ctx)?;
            let argument = argument.0.unwrap_or_else(|| undefined(&ctx));
            method(ctx, this.0, argument)
        },
    )?;
    let property = Property::from(function.with_name(name)?);
    prototype.prop(name, property.writable().configurable())
}

/// Puts a method into a prototype: it gets `this` and all its arguments.
pub(crate) fn method_with_all<'js>(
    prototype: &Object<'js>,
    name: &str,
    method: for<'a> fn(&Ctx<'a>, Value<'a>, &[Value<'a>]) -> JsResult<Value<'a>>,
) -> JsResult<()> {
    let function = Function::new(
        prototype.ctx().clone(),
        move |ctx: Ctx<'js>, this: This<Value<'js>>, arguments: Rest<Value<'js>>| {
            state_of(&ctx).guard(&ctx)?;
            method(&ctx, this.0, &arguments.0)
        },
    )?;
    let property = Property::from(function.with_name(name)?);
    prototype.prop(name, property.writable().configurable())
}

/// Puts a member into a prototype that is made when it is read.
pub(crate) fn getter<'js>(
    prototype: &Object<'js>,
    name: &str,
    get: for<'a> fn(Ctx<'a>, Value<'a>) -> JsResult<Value<'a>>,
) -> JsResult<()> {
    let get = move |ctx: Ctx<'js>, this: This<Value<'js>>| get(ctx, this.0);
    prototype.prop(name, Accessor::from(get).configurable())
}

/// Calls a function.
pub(crate) fn call<'js>(
    ctx: &Ctx<'js>,
    function: &Function<'js>,
    this: Value<'js>,
    arguments: &[Value<'js>],
) -> JsResult<Value<'js>> {
    let mut args = Args::new(ctx.clone(), arguments.len());
    args.this(this)?;
    for argument in arguments {
        args.push_arg(argument.clone())?;
    }
    function.call_arg(args)
}
