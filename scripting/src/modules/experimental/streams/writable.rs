//! Writable streams, by the algorithms of <https://streams.spec.whatwg.org/#ws>.
//!
//! A stream and its controller are one here; the controller of the script's is a view of the stream.

use std::{
    cell::{Cell, RefCell},
    collections::VecDeque,
};

use rquickjs::{
    Ctx, Exception, Function, IntoJs, Object, Result as JsResult, Value,
    class::{Trace, Tracer},
};

use super::support::{
    self, Chunks, Deferred, Dictionary, Of, Shape, Slot, call, catch, expect, object, promise_call,
    put, reaction, refused, reject_anew, reject_in, rejected, resolve_in, resolved, size_of, then,
    trace_cell, type_error, undefined, value_in,
};
use crate::engine::Kind;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum State {
    Writable,
    /// It has failed, and what is in flight is waited for.
    Erroring,
    Errored,
    Closed,
}

/// `WritableStream`
pub(super) struct WritableStream;

pub(super) struct Writable<'js> {
    state: Cell<State>,
    error: Slot<'js>,
    writer: RefCell<Option<Of<'js, Writer>>>,
    /// Those who wait for their chunk to be written.
    requests: RefCell<VecDeque<Deferred<'js>>>,
    write_in_flight: RefCell<Option<Deferred<'js>>>,
    close_request: RefCell<Option<Deferred<'js>>>,
    close_in_flight: RefCell<Option<Deferred<'js>>>,
    abort_request: RefCell<Option<Abort<'js>>>,
    backpressure: Cell<bool>,
    // What the specification keeps in the controller.
    sink: RefCell<Option<Sink<'js>>>,
    size: RefCell<Option<Function<'js>>>,
    queue: RefCell<Chunks<'js>>,
    high_water_mark: f64,
    started: Cell<bool>,
}

/// The script's functions, as long as they are called.
#[derive(Clone)]
struct Sink<'js> {
    this: Value<'js>,
    controller: Value<'js>,
    write: Option<Function<'js>>,
    close: Option<Function<'js>>,
    abort: Option<Function<'js>>,
}

/// Somebody wants the stream to be given up.
#[derive(Clone)]
struct Abort<'js> {
    done: Deferred<'js>,
    reason: Value<'js>,
    was_erroring: bool,
}

type Stream<'js> = Of<'js, WritableStream>;

impl<'js> Trace<'js> for Sink<'js> {
    fn trace<'a>(&self, tracer: Tracer<'a, 'js>) {
        self.this.trace(tracer);
        self.controller.trace(tracer);
        for function in [&self.write, &self.close, &self.abort]
            .into_iter()
            .flatten()
        {
            function.trace(tracer);
        }
    }
}

impl<'js> Trace<'js> for Abort<'js> {
    fn trace<'a>(&self, tracer: Tracer<'a, 'js>) {
        self.done.trace(tracer);
        self.reason.trace(tracer);
    }
}

impl<'js> Trace<'js> for Writable<'js> {
    fn trace<'a>(&self, tracer: Tracer<'a, 'js>) {
        trace_cell(&self.error, tracer);
        trace_cell(&self.writer, tracer);
        if let Ok(requests) = self.requests.try_borrow() {
            requests.iter().for_each(|request| request.trace(tracer));
        }
        trace_cell(&self.write_in_flight, tracer);
        trace_cell(&self.close_request, tracer);
        trace_cell(&self.close_in_flight, tracer);
        trace_cell(&self.abort_request, tracer);
        trace_cell(&self.sink, tracer);
        trace_cell(&self.size, tracer);
        trace_cell(&self.queue, tracer);
    }
}

impl Kind for WritableStream {
    type Data<'js> = Writable<'js>;
}

impl<'js> Writable<'js> {
    fn writer(&self) -> Option<Of<'js, Writer>> {
        self.writer.borrow().clone()
    }

    fn is_closing(&self) -> bool {
        self.close_request.borrow().is_some() || self.close_in_flight.borrow().is_some()
    }

    fn desired_size(&self) -> f64 {
        self.high_water_mark - self.queue.borrow().total
    }

    /// Lets go of the script's functions, which are not called any more.
    fn forget(&self) {
        put(&self.sink, None);
        put(&self.size, None);
    }

    fn sink(&self) -> Option<Sink<'js>> {
        self.sink.borrow().clone()
    }

    fn error(&self, ctx: &Ctx<'js>) -> Value<'js> {
        value_in(ctx, &self.error)
    }
}

// === What promises call ===

#[derive(Debug, Clone, Copy)]
pub(super) enum Then {
    Started,
    StartFailed,
    Written,
    WriteFailed,
    Closed,
    CloseFailed,
    Aborted,
    AbortFailed,
}

pub(super) fn react<'js>(
    ctx: &Ctx<'js>,
    what: Then,
    on: &Value<'js>,
    value: Value<'js>,
) -> JsResult<()> {
    let stream = expect::<WritableStream>(ctx, on)?;
    let this = stream.borrow();
    match what {
        Then::Started => {
            this.started.set(true);
            advance(ctx, &stream)
        }
        Then::StartFailed => {
            this.started.set(true);
            deal_with(ctx, &stream, value)
        }
        Then::Written => written(ctx, &stream),
        Then::WriteFailed => {
            if this.state.get() == State::Writable {
                this.forget();
            }
            if let Some(request) = this.write_in_flight.take() {
                request.reject(value.clone())?;
            }
            deal_with(ctx, &stream, value)
        }
        Then::Closed => closed(ctx, &stream),
        Then::CloseFailed => {
            if let Some(request) = this.close_in_flight.take() {
                request.reject(value.clone())?;
            }
            if let Some(abort) = this.abort_request.take() {
                abort.done.reject(value.clone())?;
            }
            deal_with(ctx, &stream, value)
        }
        Then::Aborted => {
            if let Some(abort) = this.abort_request.take() {
                abort.done.resolve(undefined(ctx))?;
            }
            reject_closed(ctx, &stream)
        }
        Then::AbortFailed => {
            if let Some(abort) = this.abort_request.take() {
                abort.done.reject(value)?;
            }
            reject_closed(ctx, &stream)
        }
    }
}

/// Lets the outcome of a promise be dealt with.
fn follow<'js>(
    ctx: &Ctx<'js>,
    promise: &Value<'js>,
    stream: &Stream<'js>,
    done: Then,
    failed: Then,
) -> JsResult<()> {
    let stream = stream.clone().into_value();
    let done = reaction(ctx, support::Then::Writable(done), stream.clone())?;
    let failed = reaction(ctx, support::Then::Writable(failed), stream)?;
    then(promise, done, failed).map(drop)
}

// === The algorithms ===

fn set_backpressure<'js>(ctx: &Ctx<'js>, stream: &Stream<'js>, backpressure: bool) -> JsResult<()> {
    let this = stream.borrow();
    let changed = this.backpressure.replace(backpressure) != backpressure;
    match this.writer().filter(|_| changed) {
        None => Ok(()),
        Some(writer) if backpressure => {
            put(&writer.borrow().ready, Deferred::new(ctx)?);
            Ok(())
        }
        Some(writer) => resolve_in(ctx, &writer.borrow().ready),
    }
}

/// The stream fails: what is in flight is waited for, nothing more is begun.
fn start_erroring<'js>(ctx: &Ctx<'js>, stream: &Stream<'js>, reason: Value<'js>) -> JsResult<()> {
    let this = stream.borrow();
    this.state.set(State::Erroring);
    put(&this.error, Some(reason.clone()));
    if let Some(writer) = this.writer() {
        reject_anew(ctx, &writer.borrow().ready, reason)?;
    }
    let in_flight =
        this.write_in_flight.borrow().is_some() || this.close_in_flight.borrow().is_some();
    if !in_flight && this.started.get() {
        finish_erroring(ctx, stream)?;
    }
    Ok(())
}

fn deal_with<'js>(ctx: &Ctx<'js>, stream: &Stream<'js>, error: Value<'js>) -> JsResult<()> {
    if stream.borrow().state.get() == State::Writable {
        start_erroring(ctx, stream, error)
    } else {
        finish_erroring(ctx, stream)
    }
}

/// The controller's `error()`.
fn fail<'js>(ctx: &Ctx<'js>, stream: &Stream<'js>, error: Value<'js>) -> JsResult<()> {
    let this = stream.borrow();
    if this.state.get() != State::Writable {
        return Ok(());
    }
    this.forget();
    start_erroring(ctx, stream, error)
}

fn finish_erroring<'js>(ctx: &Ctx<'js>, stream: &Stream<'js>) -> JsResult<()> {
    let this = stream.borrow();
    this.state.set(State::Errored);
    put(&this.queue, Chunks::default());
    let error = this.error(ctx);
    for request in this.requests.take() {
        request.reject(error.clone())?;
    }
    let abort = this.abort_request.borrow().clone();
    match abort {
        Some(abort) if !abort.was_erroring => {
            let sink = this.sink();
            this.forget();
            let aborted = match sink {
                Some(sink) => promise_call(ctx, sink.abort.as_ref(), sink.this, &[abort.reason])?,
                None => resolved(ctx, undefined(ctx))?,
            };
            follow(ctx, &aborted, stream, Then::Aborted, Then::AbortFailed)
        }
        Some(abort) => {
            put(&this.abort_request, None);
            abort.done.reject(error)?;
            reject_closed(ctx, stream)
        }
        None => reject_closed(ctx, stream),
    }
}

fn reject_closed<'js>(ctx: &Ctx<'js>, stream: &Stream<'js>) -> JsResult<()> {
    let this = stream.borrow();
    let error = this.error(ctx);
    if let Some(request) = this.close_request.take() {
        request.reject(error.clone())?;
    }
    match this.writer() {
        Some(writer) => reject_in(ctx, &writer.borrow().closed, error),
        None => Ok(()),
    }
}

/// Begins what comes next: a write, the end, or the failure that has waited.
fn advance<'js>(ctx: &Ctx<'js>, stream: &Stream<'js>) -> JsResult<()> {
    let this = stream.borrow();
    if !this.started.get() || this.write_in_flight.borrow().is_some() {
        return Ok(());
    }
    if this.state.get() == State::Erroring {
        return finish_erroring(ctx, stream);
    }
    let first = this.queue.borrow().first().cloned();
    match first {
        None => Ok(()),
        Some(None) => {
            put(&this.close_in_flight, this.close_request.take());
            this.queue.borrow_mut().take();
            let sink = this.sink();
            this.forget();
            let closed = match sink {
                Some(sink) => promise_call(ctx, sink.close.as_ref(), sink.this, &[])?,
                None => resolved(ctx, undefined(ctx))?,
            };
            follow(ctx, &closed, stream, Then::Closed, Then::CloseFailed)
        }
        Some(Some(chunk)) => {
            let request = this.requests.borrow_mut().pop_front();
            put(&this.write_in_flight, request);
            let written = match this.sink() {
                Some(sink) => {
                    let arguments = [chunk, sink.controller];
                    promise_call(ctx, sink.write.as_ref(), sink.this, &arguments)?
                }
                None => resolved(ctx, undefined(ctx))?,
            };
            follow(ctx, &written, stream, Then::Written, Then::WriteFailed)
        }
    }
}

fn written<'js>(ctx: &Ctx<'js>, stream: &Stream<'js>) -> JsResult<()> {
    let this = stream.borrow();
    if let Some(request) = this.write_in_flight.take() {
        request.resolve(undefined(ctx))?;
    }
    let chunk = this.queue.borrow_mut().take();
    drop(chunk);
    if !this.is_closing() && this.state.get() == State::Writable {
        set_backpressure(ctx, stream, this.desired_size() <= 0.0)?;
    }
    advance(ctx, stream)
}

fn closed<'js>(ctx: &Ctx<'js>, stream: &Stream<'js>) -> JsResult<()> {
    let this = stream.borrow();
    if let Some(request) = this.close_in_flight.take() {
        request.resolve(undefined(ctx))?;
    }
    if this.state.get() == State::Erroring {
        // The end was reached before the failure was.
        put(&this.error, None);
        if let Some(abort) = this.abort_request.take() {
            abort.done.resolve(undefined(ctx))?;
        }
    }
    this.state.set(State::Closed);
    match this.writer() {
        Some(writer) => resolve_in(ctx, &writer.borrow().closed),
        None => Ok(()),
    }
}

fn abort<'js>(ctx: &Ctx<'js>, stream: &Stream<'js>, reason: Value<'js>) -> JsResult<Value<'js>> {
    let this = stream.borrow();
    let state = this.state.get();
    if matches!(state, State::Closed | State::Errored) {
        return resolved(ctx, undefined(ctx));
    }
    if let Some(abort) = &*this.abort_request.borrow() {
        return Ok(abort.done.promise.clone());
    }
    let done = Deferred::new(ctx)?;
    let promise = done.promise.clone();
    let was_erroring = state == State::Erroring;
    let request = Abort {
        done,
        reason: reason.clone(),
        was_erroring,
    };
    put(&this.abort_request, Some(request));
    if !was_erroring {
        start_erroring(ctx, stream, reason)?;
    }
    Ok(promise)
}

fn close<'js>(ctx: &Ctx<'js>, stream: &Stream<'js>) -> JsResult<Value<'js>> {
    let this = stream.borrow();
    if this.is_closing() {
        return refused(ctx, "The stream is closing already");
    }
    if matches!(this.state.get(), State::Closed | State::Errored) {
        return refused(ctx, "A stream that has ended cannot be closed");
    }
    let request = Deferred::new(ctx)?;
    let promise = request.promise.clone();
    put(&this.close_request, Some(request));
    if this.backpressure.get()
        && this.state.get() == State::Writable
        && let Some(writer) = this.writer()
    {
        resolve_in(ctx, &writer.borrow().ready)?;
    }
    this.queue.borrow_mut().push(None, 0.0);
    advance(ctx, stream)?;
    Ok(promise)
}

fn write<'js>(
    ctx: &Ctx<'js>,
    writer: &Of<'js, Writer>,
    stream: &Stream<'js>,
    chunk: Value<'js>,
) -> JsResult<Value<'js>> {
    let this = stream.borrow();
    let size = this.size.borrow().clone();
    let size = match size_of(ctx, size.as_ref(), &chunk) {
        Ok(size) => size,
        Err(thrown) => {
            fail(ctx, stream, catch(ctx, thrown)?)?;
            1.0
        }
    };
    // The function that says the size may have done anything.
    if writer.borrow().stream.borrow().as_ref() != Some(stream) {
        return refused(ctx, RELEASED);
    }
    match this.state.get() {
        State::Erroring | State::Errored => return rejected(ctx, this.error(ctx)),
        State::Closed => return refused(ctx, "The stream is closed"),
        State::Writable if this.is_closing() => return refused(ctx, "The stream is closing"),
        State::Writable => {}
    }
    let request = Deferred::new(ctx)?;
    let promise = request.promise.clone();
    this.requests.borrow_mut().push_back(request);
    this.queue.borrow_mut().push(Some(chunk), size);
    set_backpressure(ctx, stream, this.desired_size() <= 0.0)?;
    advance(ctx, stream)?;
    Ok(promise)
}

// === Writers ===

/// `WritableStreamDefaultWriter`
pub(super) struct Writer;

pub(super) struct WriterData<'js> {
    stream: RefCell<Option<Stream<'js>>>,
    closed: RefCell<Deferred<'js>>,
    ready: RefCell<Deferred<'js>>,
}

impl<'js> Trace<'js> for WriterData<'js> {
    fn trace<'a>(&self, tracer: Tracer<'a, 'js>) {
        trace_cell(&self.stream, tracer);
        trace_cell(&self.closed, tracer);
        trace_cell(&self.ready, tracer);
    }
}

impl Kind for Writer {
    type Data<'js> = WriterData<'js>;
}

const RELEASED: &str = "The writer has been released";

fn acquire<'js>(ctx: &Ctx<'js>, stream: &Stream<'js>) -> JsResult<Of<'js, Writer>> {
    let this = stream.borrow();
    if this.writer().is_some() {
        return Err(Exception::throw_type(
            ctx,
            "The stream is locked to a writer already",
        ));
    }
    let error = this.error(ctx);
    let (ready, closed) = match this.state.get() {
        State::Writable if this.backpressure.get() && !this.is_closing() => {
            (Deferred::new(ctx)?, Deferred::new(ctx)?)
        }
        State::Writable => (Deferred::resolved(ctx)?, Deferred::new(ctx)?),
        State::Erroring => (Deferred::rejected(ctx, error)?, Deferred::new(ctx)?),
        State::Closed => (Deferred::resolved(ctx)?, Deferred::resolved(ctx)?),
        State::Errored => (
            Deferred::rejected(ctx, error.clone())?,
            Deferred::rejected(ctx, error)?,
        ),
    };
    let writer = object::<Writer>(
        ctx,
        WriterData {
            stream: RefCell::new(Some(stream.clone())),
            closed: RefCell::new(closed),
            ready: RefCell::new(ready),
        },
    )?;
    put(&this.writer, Some(writer.clone()));
    Ok(writer)
}

fn release<'js>(ctx: &Ctx<'js>, writer: &Of<'js, Writer>) -> JsResult<()> {
    let this = writer.borrow();
    let Some(stream) = this.stream.take() else {
        return Ok(());
    };
    let released = type_error(ctx, RELEASED)?;
    reject_anew(ctx, &this.ready, released.clone())?;
    reject_anew(ctx, &this.closed, released)?;
    put(&stream.borrow().writer, None);
    Ok(())
}

/// The stream of a writer that has not been released.
fn stream_of<'js>(ctx: &Ctx<'js>, this: &Value<'js>) -> JsResult<Option<Stream<'js>>> {
    let writer = expect::<Writer>(ctx, this)?;
    let stream = writer.borrow().stream.borrow().clone();
    Ok(stream)
}

// === What scripts see ===

/// `new WritableStream(sink, strategy)`
pub(super) fn construct<'js>(
    ctx: &Ctx<'js>,
    sink: Option<Value<'js>>,
    strategy: Option<Value<'js>>,
) -> JsResult<Stream<'js>> {
    let members = Dictionary::new(ctx, sink.as_ref(), "The underlying sink")?;
    let strategy = Dictionary::new(ctx, strategy.as_ref(), "The strategy")?;
    let abort = members.function(ctx, "abort")?;
    let close = members.function(ctx, "close")?;
    let begin = members.function(ctx, "start")?;
    let write = members.function(ctx, "write")?;
    if let Some(kind) = members.get("type")? {
        let text = format!("Invalid type of a stream: {}", crate::error::to_text(&kind));
        return Err(Exception::throw_range(ctx, &text));
    }
    let size = strategy.function(ctx, "size")?;
    let high_water_mark = strategy.high_water_mark(ctx)?;
    let stream = object::<WritableStream>(
        ctx,
        Writable {
            state: Cell::new(State::Writable),
            error: Slot::default(),
            writer: RefCell::default(),
            requests: RefCell::default(),
            write_in_flight: RefCell::default(),
            close_request: RefCell::default(),
            close_in_flight: RefCell::default(),
            abort_request: RefCell::default(),
            backpressure: Cell::new(high_water_mark <= 0.0),
            sink: RefCell::default(),
            size: RefCell::new(size),
            queue: RefCell::default(),
            high_water_mark,
            started: Cell::new(false),
        },
    )?;
    let controller = object::<Controller>(
        ctx,
        ControllerData {
            stream: stream.clone(),
        },
    )?
    .into_value();
    let this = sink.unwrap_or_else(|| undefined(ctx));
    let functions = Sink {
        this: this.clone(),
        controller: controller.clone(),
        write,
        close,
        abort,
    };
    put(&stream.borrow().sink, Some(functions));
    let started = match begin {
        Some(begin) => call(ctx, &begin, this, &[controller])?,
        None => undefined(ctx),
    };
    let started = resolved(ctx, started)?;
    follow(ctx, &started, &stream, Then::Started, Then::StartFailed)?;
    Ok(stream)
}

/// `new WritableStreamDefaultWriter(stream)`
pub(super) fn construct_writer<'js>(
    ctx: &Ctx<'js>,
    stream: Option<Value<'js>>,
) -> JsResult<Of<'js, Writer>> {
    let stream = stream.unwrap_or_else(|| undefined(ctx));
    acquire(ctx, &expect(ctx, &stream)?)
}

impl Shape for WritableStream {
    const NAME: &'static str = "WritableStream";

    fn members(prototype: &Object<'_>) -> JsResult<()> {
        support::getter(prototype, "locked", |ctx, this| {
            let stream = expect::<Self>(&ctx, &this)?;
            let locked = stream.borrow().writer().is_some();
            locked.into_js(&ctx)
        })?;
        support::method(prototype, "abort", |ctx, this, reason| {
            let stream = expect::<Self>(&ctx, &this)?;
            if stream.borrow().writer().is_some() {
                return refused(&ctx, "A locked stream cannot be aborted");
            }
            abort(&ctx, &stream, reason)
        })?;
        support::method(prototype, "close", |ctx, this, _| {
            let stream = expect::<Self>(&ctx, &this)?;
            if stream.borrow().writer().is_some() {
                return refused(&ctx, "A locked stream cannot be closed");
            }
            close(&ctx, &stream)
        })?;
        support::method(prototype, "getWriter", |ctx, this, _| {
            acquire(&ctx, &expect(&ctx, &this)?).map(Of::into_value)
        })
    }
}

impl Shape for Writer {
    const NAME: &'static str = "WritableStreamDefaultWriter";

    fn members(prototype: &Object<'_>) -> JsResult<()> {
        support::getter(prototype, "closed", |ctx, this| {
            let writer = expect::<Self>(&ctx, &this)?;
            let promise = writer.borrow().closed.borrow().promise.clone();
            Ok(promise)
        })?;
        support::getter(prototype, "ready", |ctx, this| {
            let writer = expect::<Self>(&ctx, &this)?;
            let promise = writer.borrow().ready.borrow().promise.clone();
            Ok(promise)
        })?;
        support::getter(prototype, "desiredSize", |ctx, this| {
            let Some(stream) = stream_of(&ctx, &this)? else {
                return Err(Exception::throw_type(&ctx, RELEASED));
            };
            let stream = stream.borrow();
            let size = match stream.state.get() {
                State::Erroring | State::Errored => None,
                State::Closed => Some(0.0),
                State::Writable => Some(stream.desired_size()),
            };
            support::number_or_null(&ctx, size)
        })?;
        support::method(prototype, "abort", |ctx, this, reason| {
            match stream_of(&ctx, &this)? {
                Some(stream) => abort(&ctx, &stream, reason),
                None => refused(&ctx, RELEASED),
            }
        })?;
        support::method(prototype, "close", |ctx, this, _| {
            match stream_of(&ctx, &this)? {
                Some(stream) => close(&ctx, &stream),
                None => refused(&ctx, RELEASED),
            }
        })?;
        support::method(prototype, "releaseLock", |ctx, this, _| {
            release(&ctx, &expect(&ctx, &this)?)?;
            Ok(undefined(&ctx))
        })?;
        support::method(prototype, "write", |ctx, this, chunk| {
            match stream_of(&ctx, &this)? {
                Some(stream) => write(&ctx, &expect(&ctx, &this)?, &stream, chunk),
                None => refused(&ctx, RELEASED),
            }
        })
    }
}

/// `WritableStreamDefaultController`
pub(super) struct Controller;

pub(super) struct ControllerData<'js> {
    stream: Stream<'js>,
}

impl<'js> Trace<'js> for ControllerData<'js> {
    fn trace<'a>(&self, tracer: Tracer<'a, 'js>) {
        self.stream.trace(tracer);
    }
}

impl Kind for Controller {
    type Data<'js> = ControllerData<'js>;
}

impl Shape for Controller {
    const NAME: &'static str = "WritableStreamDefaultController";

    fn members(prototype: &Object<'_>) -> JsResult<()> {
        support::method(prototype, "error", |ctx, this, error| {
            let stream = expect::<Self>(&ctx, &this)?.borrow().stream.clone();
            fail(&ctx, &stream, error)?;
            Ok(undefined(&ctx))
        })
    }
}
