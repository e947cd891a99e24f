//! Objects of Rust's in the hands of a script: selections of HTML, opened files, parsers.
//!
//! Such an object has no table of members in the heap; each member is made when it is read, and
//! methods are bound to their object, as they are in the reference: `const { find } = doc` works.
//! It holds no values of the engine, so there is nothing for the collector to see, and what is in
//! Rust goes when the script lets go of the object.

use std::rc::Rc;

use rquickjs::{
    Atom, Class, Ctx, Exception, Function, Object, Result as JsResult, Value,
    atom::PredefinedAtom,
    class::{
        ClassKind, JsCell, JsClass, PropertyDescriptor, PropertyName, Readable, Trace, Tracer,
    },
    function::Rest,
};

use crate::{
    engine::{self, Native},
    vu::state_of,
};

/// The name of the member `[Symbol.asyncIterator]`; other symbols name none.
pub(crate) const ASYNC_ITERATOR: &str = "[Symbol.asyncIterator]";

/// What is behind such an object.
pub(crate) trait HostObject: 'static {
    /// Its name in messages.
    const NAME: &'static str;

    /// Makes the member of that name; `None` when there is none.
    fn member<'js>(self: &Rc<Self>, ctx: &Ctx<'js>, name: &str) -> JsResult<Option<Value<'js>>>;

    /// Names of its members, in the order of enumeration.
    fn names(&self) -> Vec<&'static str>;
}

/// A method: the object, and the arguments as they came.
pub(crate) type Method<T> = for<'js> fn(&Ctx<'js>, &Rc<T>, &[Value<'js>]) -> JsResult<Value<'js>>;

/// The object that shows `of`.
pub(crate) fn wrap<'js, T: HostObject>(ctx: &Ctx<'js>, of: Rc<T>) -> JsResult<Value<'js>> {
    Ok(Class::instance(ctx.clone(), Native(of))?.into_value())
}

/// What is behind a value, if that is such an object.
pub(crate) fn behind<T: HostObject>(value: &Value<'_>) -> Option<Rc<T>> {
    let object = value.as_object()?;
    let class = Class::<Native<Rc<T>>>::from_object(object)?;
    let of = class.borrow().0.clone();
    Some(of)
}

/// A method, bound to its object.
pub(crate) fn bound<'js, T: HostObject>(
    ctx: &Ctx<'js>,
    of: &Rc<T>,
    name: &str,
    method: Method<T>,
) -> JsResult<Value<'js>> {
    let of = of.clone();
    let function = Function::new(
        ctx.clone(),
        move |ctx: Ctx<'js>, arguments: Rest<Value<'js>>| {
            state_of(&ctx).guard(&ctx)?;
            method(&ctx, &of, &arguments.0)
        },
    )?;
    Ok(function.with_name(name)?.into_value())
}

impl<'js, T: 'static> Trace<'js> for Native<T> {
    fn trace<'a>(&self, _tracer: Tracer<'a, 'js>) {}
}

/// The name that an atom means; of the symbols only one means any.
fn name_of<'js>(ctx: &Ctx<'js>, atom: &Atom<'js>) -> Option<String> {
    let iterator = Atom::from_predefined(ctx.clone(), PredefinedAtom::SymbolAsyncIterator);
    if *atom == iterator {
        return Some(ASYNC_ITERATOR.to_owned());
    }
    let text = engine::rust_string(&atom.to_js_string().ok()?);
    // A symbol shows its description here, but is not the atom of that text.
    let same = Atom::from_str(ctx.clone(), &text).is_ok_and(|string| string == *atom);
    same.then_some(text)
}

fn own<'js, T: HostObject>(
    this: &JsCell<'js, Native<Rc<T>>>,
    ctx: &Ctx<'js>,
    atom: &Atom<'js>,
) -> JsResult<Option<Value<'js>>> {
    let of = this.borrow().0.clone();
    match name_of(ctx, atom) {
        Some(name) => of.member(ctx, &name),
        None => Ok(None),
    }
}

/// `Object.prototype`, from which such objects inherit.
fn base<'js>(ctx: &Ctx<'js>) -> JsResult<Object<'js>> {
    let class: Object<'js> = ctx.globals().get(PredefinedAtom::Object)?;
    class.get(PredefinedAtom::Prototype)
}

impl<'js, T: HostObject> JsClass<'js> for Native<Rc<T>> {
    const NAME: &'static str = T::NAME;
    const KIND: ClassKind = ClassKind::Exotic;
    type Mutable = Readable;

    fn prototype(ctx: &Ctx<'js>) -> JsResult<Option<Object<'js>>> {
        base(ctx).map(Some)
    }

    fn constructor(_ctx: &Ctx<'js>) -> JsResult<Option<rquickjs::function::Constructor<'js>>> {
        Ok(None)
    }

    fn exotic_get_property(
        this: &JsCell<'js, Self>,
        ctx: &Ctx<'js>,
        atom: Atom<'js>,
        _receiver: Value<'js>,
    ) -> JsResult<Value<'js>> {
        match own(this, ctx, &atom)? {
            Some(value) => Ok(value),
            None => base(ctx)?.get(atom),
        }
    }

    fn exotic_set_property(
        _this: &JsCell<'js, Self>,
        ctx: &Ctx<'js>,
        atom: Atom<'js>,
        _receiver: Value<'js>,
        _value: Value<'js>,
    ) -> JsResult<bool> {
        let name = engine::rust_string(&atom.to_js_string()?);
        let text = format!("Cannot assign to property {name} of a host object");
        Err(Exception::throw_type(ctx, &text))
    }

    fn exotic_has_property(
        this: &JsCell<'js, Self>,
        ctx: &Ctx<'js>,
        atom: Atom<'js>,
    ) -> JsResult<bool> {
        Ok(own(this, ctx, &atom)?.is_some() || base(ctx)?.contains_key(atom)?)
    }

    fn exotic_get_own_property(
        this: &JsCell<'js, Self>,
        ctx: &Ctx<'js>,
        atom: Atom<'js>,
    ) -> JsResult<Option<PropertyDescriptor<'js>>> {
        let value = own(this, ctx, &atom)?;
        Ok(value.map(|value| PropertyDescriptor::new_value(value, true, true, true)))
    }

    fn exotic_get_own_property_names(
        this: &JsCell<'js, Self>,
        ctx: &Ctx<'js>,
    ) -> JsResult<Vec<PropertyName<'js>>> {
        let of = this.borrow().0.clone();
        let names = of.names();
        names
            .into_iter()
            .map(|name| {
                Ok(PropertyName {
                    atom: Atom::from_str(ctx.clone(), name)?,
                    is_enumerable: true,
                })
            })
            .collect()
    }
}
