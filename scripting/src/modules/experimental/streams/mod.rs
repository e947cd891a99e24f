//! `k6/experimental/streams`: readable and writable streams.
//!
//! Whatever a stream keeps are values of the script, in cycles of its own making; so all of it is
//! in data that the collector sees into (`engine::Managed`), and what promises call is, too.

mod readable;
mod support;
mod writable;

use bytes::Bytes;
use rquickjs::{
    Class, Ctx, Exception, Function, Object, Result as JsResult, Value,
    class::{Trace, Tracer},
    function::{Constructor, Opt, This},
    module::{Declarations, Exports, ModuleDef},
};

use self::support::{Of, Shape, expect, object};
use crate::{
    engine::{self, Kind, Managed},
    modules::export_all,
};

const NAMES: &[&str] = &[
    "ReadableStream",
    "ReadableStreamDefaultReader",
    "CountQueuingStrategy",
    "WritableStream",
    "WritableStreamDefaultWriter",
];

/// The module `k6/experimental/streams`.
pub(crate) struct Streams;

impl ModuleDef for Streams {
    fn declare(decl: &Declarations<'_>) -> JsResult<()> {
        for name in NAMES {
            decl.declare(*name)?;
        }
        decl.declare("default")?;
        Ok(())
    }

    fn evaluate<'js>(ctx: &Ctx<'js>, exports: &Exports<'js>) -> JsResult<()> {
        let module = Object::new(ctx.clone())?;
        class(&module, |ctx, [source, strategy]| {
            readable::construct(ctx, source, strategy)
        })?;
        class(&module, |ctx, [stream, _]| {
            readable::construct_reader(ctx, stream)
        })?;
        class(&module, |ctx, [init, _]| strategy(ctx, init))?;
        class(&module, |ctx, [sink, strategy]| {
            writable::construct(ctx, sink, strategy)
        })?;
        class(&module, |ctx, [stream, _]| {
            writable::construct_writer(ctx, stream)
        })?;
        export_all(exports, &module, NAMES)
    }
}

/// Makes an object from the first two arguments of a constructor.
type Construct<K> = for<'js> fn(&Ctx<'js>, [Option<Value<'js>>; 2]) -> JsResult<Of<'js, K>>;

/// A stream of one chunk; none for no bytes.
pub(crate) fn of_bytes<'js>(ctx: &Ctx<'js>, bytes: Bytes) -> JsResult<Value<'js>> {
    let start = move |ctx: Ctx<'js>, controller: Object<'js>| -> JsResult<()> {
        let method = |name: &str| controller.get::<_, Function<'js>>(name);
        if !bytes.is_empty() {
            let chunk = engine::byte_array(&ctx, &bytes[..])?;
            method("enqueue")?.call::<_, ()>((This(controller.clone()), chunk))?;
        }
        method("close")?.call((This(controller.clone()),))
    };
    let source = Object::new(ctx.clone())?;
    source.set("start", Function::new(ctx.clone(), start)?)?;
    readable::construct(ctx, Some(source.into_value()), None).map(Class::into_value)
}

/// Puts a class into the module.
fn class<K: Shape>(module: &Object<'_>, construct: Construct<K>) -> JsResult<()> {
    fn of<'js, K: Shape>(
        module: &Object<'js>,
        construct: Construct<K>,
    ) -> JsResult<Constructor<'js>> {
        Constructor::new_class::<Managed<'js, K>, _, _>(
            module.ctx().clone(),
            move |ctx: Ctx<'js>, first: Opt<Value<'js>>, second: Opt<Value<'js>>| {
                construct(&ctx, [first.0, second.0])
            },
        )
    }
    module.set(K::NAME, of(module, construct)?)
}

/// `CountQueuingStrategy`
struct CountQueuingStrategy;

struct Count(f64);

impl<'js> Trace<'js> for Count {
    fn trace<'a>(&self, _tracer: Tracer<'a, 'js>) {}
}

impl Kind for CountQueuingStrategy {
    type Data<'js> = Count;
}

fn strategy<'js>(
    ctx: &Ctx<'js>,
    init: Option<Value<'js>>,
) -> JsResult<Of<'js, CountQueuingStrategy>> {
    let mark = match init.as_ref().and_then(|init| init.as_object()) {
        Some(init) => init.get::<_, Option<rquickjs::Coerced<f64>>>("highWaterMark")?,
        None => None,
    };
    match mark {
        Some(mark) => object(ctx, Count(mark.0)),
        None => Err(Exception::throw_type(ctx, "highWaterMark is required")),
    }
}

impl Shape for CountQueuingStrategy {
    const NAME: &'static str = "CountQueuingStrategy";

    fn members(prototype: &Object<'_>) -> JsResult<()> {
        support::getter(prototype, "highWaterMark", |ctx, this| {
            let mark = expect::<Self>(&ctx, &this)?.borrow().0.0;
            Ok(Value::new_number(ctx, mark))
        })?;
        support::getter(prototype, "size", |ctx, _| {
            let size = Function::new(ctx, || 1)?.with_name("size")?;
            Ok(size.into_value())
        })
    }
}

#[cfg(test)]
mod tests;
