//! Readable streams, by the algorithms of <https://streams.spec.whatwg.org/#rs>.
//!
//! A stream and its controller are one here; a controller of the script's is a view of the stream.

use std::{
    cell::{Cell, RefCell},
    collections::VecDeque,
};

use rquickjs::{
    Array, Ctx, Exception, Function, IntoJs, Object, Result as JsResult, Value,
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
    Readable,
    Closed,
    Errored,
}

/// `ReadableStream`
pub(super) struct ReadableStream;

pub(super) struct Readable<'js> {
    state: Cell<State>,
    /// What it failed with.
    error: Slot<'js>,
    reader: RefCell<Option<Of<'js, Reader>>>,
    source: RefCell<Source<'js>>,
    size: RefCell<Option<Function<'js>>>,
    queue: RefCell<Chunks<'js>>,
    high_water_mark: f64,
    started: Cell<bool>,
    close_requested: Cell<bool>,
    pulling: Cell<bool>,
    pull_again: Cell<bool>,
}

/// Where chunks come from.
#[derive(Clone)]
enum Source<'js> {
    Script {
        this: Value<'js>,
        controller: Value<'js>,
        pull: Option<Function<'js>>,
        cancel: Option<Function<'js>>,
    },
    /// One of the two branches of another stream.
    Branch(Of<'js, Tee>, usize),
    /// Nothing comes any more.
    Gone,
}

type Stream<'js> = Of<'js, ReadableStream>;

impl<'js> Trace<'js> for Source<'js> {
    fn trace<'a>(&self, tracer: Tracer<'a, 'js>) {
        match self {
            Self::Script {
                this,
                controller,
                pull,
                cancel,
            } => {
                this.trace(tracer);
                controller.trace(tracer);
                for function in [pull, cancel].into_iter().flatten() {
                    function.trace(tracer);
                }
            }
            Self::Branch(tee, _) => tee.trace(tracer),
            Self::Gone => {}
        }
    }
}

impl<'js> Trace<'js> for Readable<'js> {
    fn trace<'a>(&self, tracer: Tracer<'a, 'js>) {
        trace_cell(&self.error, tracer);
        trace_cell(&self.reader, tracer);
        trace_cell(&self.source, tracer);
        trace_cell(&self.size, tracer);
        trace_cell(&self.queue, tracer);
    }
}

impl Kind for ReadableStream {
    type Data<'js> = Readable<'js>;
}

impl<'js> Readable<'js> {
    fn new(high_water_mark: f64, size: Option<Function<'js>>) -> Self {
        Self {
            state: Cell::new(State::Readable),
            error: Slot::default(),
            reader: RefCell::default(),
            source: RefCell::new(Source::Gone),
            size: RefCell::new(size),
            queue: RefCell::default(),
            high_water_mark,
            started: Cell::new(false),
            close_requested: Cell::new(false),
            pulling: Cell::new(false),
            pull_again: Cell::new(false),
        }
    }

    fn is_locked(&self) -> bool {
        self.reader.borrow().is_some()
    }

    fn reader(&self) -> Option<Of<'js, Reader>> {
        self.reader.borrow().clone()
    }

    fn is_waited_for(&self) -> bool {
        let reader = self.reader();
        reader.is_some_and(|reader| !reader.borrow().requests.borrow().is_empty())
    }

    /// Whether more chunks may come.
    fn accepts(&self) -> bool {
        !self.close_requested.get() && self.state.get() == State::Readable
    }

    fn desired_size(&self) -> Option<f64> {
        match self.state.get() {
            State::Errored => None,
            State::Closed => Some(0.0),
            State::Readable => Some(self.high_water_mark - self.queue.borrow().total),
        }
    }

    fn wants_pull(&self) -> bool {
        self.accepts()
            && self.started.get()
            && (self.is_waited_for() || self.desired_size().is_some_and(|size| size > 0.0))
    }

    /// Lets go of the script's functions, which are not called any more.
    fn forget(&self) {
        put(&self.source, Source::Gone);
        put(&self.size, None);
    }
}

// === What promises call ===

#[derive(Debug, Clone, Copy)]
pub(super) enum Then {
    Started,
    Pulled,
    Failed,
    TeeChunk,
    TeeFailed,
}

pub(super) fn react<'js>(
    ctx: &Ctx<'js>,
    what: Then,
    on: &Value<'js>,
    value: Value<'js>,
) -> JsResult<()> {
    match what {
        Then::Started => {
            let stream = expect::<ReadableStream>(ctx, on)?;
            stream.borrow().started.set(true);
            pull_if_needed(ctx, &stream)
        }
        Then::Pulled => {
            let stream = expect::<ReadableStream>(ctx, on)?;
            stream.borrow().pulling.set(false);
            if stream.borrow().pull_again.replace(false) {
                pull_if_needed(ctx, &stream)?;
            }
            Ok(())
        }
        Then::Failed => fail(ctx, &expect(ctx, on)?, value),
        Then::TeeChunk => tee_chunk(ctx, &expect(ctx, on)?, value),
        Then::TeeFailed => tee_failed(ctx, &expect(ctx, on)?, value),
    }
}

fn on<'js>(ctx: &Ctx<'js>, then: Then, value: Value<'js>) -> JsResult<Value<'js>> {
    reaction(ctx, support::Then::Readable(then), value)
}

// === The algorithms ===

fn pull_if_needed<'js>(ctx: &Ctx<'js>, stream: &Stream<'js>) -> JsResult<()> {
    let this = stream.borrow();
    if !this.wants_pull() {
        return Ok(());
    }
    if this.pulling.get() {
        this.pull_again.set(true);
        return Ok(());
    }
    this.pulling.set(true);
    let source = this.source.borrow().clone();
    let pulled = match source {
        Source::Script {
            this,
            controller,
            pull,
            ..
        } => promise_call(ctx, pull.as_ref(), this, &[controller])?,
        Source::Branch(tee, _) => {
            tee_pull(ctx, &tee)?;
            resolved(ctx, undefined(ctx))?
        }
        Source::Gone => resolved(ctx, undefined(ctx))?,
    };
    let stream = stream.clone().into_value();
    let done = on(ctx, Then::Pulled, stream.clone())?;
    then(&pulled, done, on(ctx, Then::Failed, stream)?).map(drop)
}

fn close<'js>(ctx: &Ctx<'js>, stream: &Stream<'js>) -> JsResult<()> {
    let this = stream.borrow();
    if !this.accepts() {
        return Ok(());
    }
    this.close_requested.set(true);
    if this.queue.borrow().is_empty() {
        this.forget();
        end(ctx, stream)?;
    }
    Ok(())
}

/// Tells the reader that nothing more comes.
fn end<'js>(ctx: &Ctx<'js>, stream: &Stream<'js>) -> JsResult<()> {
    let this = stream.borrow();
    this.state.set(State::Closed);
    let Some(reader) = this.reader() else {
        return Ok(());
    };
    let reader = reader.borrow();
    resolve_in(ctx, &reader.closed)?;
    for request in reader.requests.take() {
        request.end(ctx)?;
    }
    Ok(())
}

fn fail<'js>(ctx: &Ctx<'js>, stream: &Stream<'js>, error: Value<'js>) -> JsResult<()> {
    let this = stream.borrow();
    if this.state.get() != State::Readable {
        return Ok(());
    }
    put(&this.queue, Chunks::default());
    this.forget();
    this.state.set(State::Errored);
    put(&this.error, Some(error.clone()));
    let Some(reader) = this.reader() else {
        return Ok(());
    };
    let reader = reader.borrow();
    reject_in(ctx, &reader.closed, error.clone())?;
    reader.fail_requests(&error)
}

fn enqueue<'js>(ctx: &Ctx<'js>, stream: &Stream<'js>, chunk: Value<'js>) -> JsResult<()> {
    let this = stream.borrow();
    if !this.accepts() {
        return Ok(());
    }
    let request = this
        .reader()
        .and_then(|reader| reader.borrow().requests.borrow_mut().pop_front());
    if let Some(request) = request {
        request.answer(ctx, chunk)?;
    } else {
        let size = this.size.borrow().clone();
        match size_of(ctx, size.as_ref(), &chunk) {
            Ok(size) => this.queue.borrow_mut().push(Some(chunk), size),
            Err(thrown) => {
                let error = catch(ctx, thrown)?;
                fail(ctx, stream, error.clone())?;
                return Err(ctx.throw(error));
            }
        }
    }
    pull_if_needed(ctx, stream)
}

/// Answers the promise of the end.
fn cancel<'js>(ctx: &Ctx<'js>, stream: &Stream<'js>, reason: Value<'js>) -> JsResult<Value<'js>> {
    let this = stream.borrow();
    match this.state.get() {
        State::Closed => return resolved(ctx, undefined(ctx)),
        State::Errored => return rejected(ctx, value_in(ctx, &this.error)),
        State::Readable => {}
    }
    end(ctx, stream)?;
    put(&this.queue, Chunks::default());
    let source = this.source.borrow().clone();
    let cancelled = match source {
        Source::Script { this, cancel, .. } => promise_call(ctx, cancel.as_ref(), this, &[reason])?,
        Source::Branch(tee, branch) => tee_cancel(ctx, &tee, branch, reason)?,
        Source::Gone => resolved(ctx, undefined(ctx))?,
    };
    this.forget();
    let ignore = reaction(ctx, support::Then::Ignore, undefined(ctx))?;
    then(&cancelled, ignore, undefined(ctx))
}

fn read<'js>(ctx: &Ctx<'js>, stream: &Stream<'js>, request: Request<'js>) -> JsResult<()> {
    let this = stream.borrow();
    match this.state.get() {
        State::Closed => return request.end(ctx),
        State::Errored => return request.fail(value_in(ctx, &this.error)),
        State::Readable => {}
    }
    let chunk = this.queue.borrow_mut().take().flatten();
    let Some(chunk) = chunk else {
        if let Some(reader) = this.reader() {
            reader.borrow().requests.borrow_mut().push_back(request);
        }
        return pull_if_needed(ctx, stream);
    };
    if this.close_requested.get() && this.queue.borrow().is_empty() {
        this.forget();
        end(ctx, stream)?;
    } else {
        pull_if_needed(ctx, stream)?;
    }
    request.answer(ctx, chunk)
}

// === Readers ===

/// `ReadableStreamDefaultReader`
pub(super) struct Reader;

pub(super) struct ReaderData<'js> {
    stream: RefCell<Option<Stream<'js>>>,
    closed: RefCell<Deferred<'js>>,
    requests: RefCell<VecDeque<Request<'js>>>,
}

/// Somebody who waits for a chunk.
enum Request<'js> {
    Promise(Deferred<'js>),
    Tee(Of<'js, Tee>),
}

impl<'js> Trace<'js> for ReaderData<'js> {
    fn trace<'a>(&self, tracer: Tracer<'a, 'js>) {
        trace_cell(&self.stream, tracer);
        trace_cell(&self.closed, tracer);
        if let Ok(requests) = self.requests.try_borrow() {
            for request in requests.iter() {
                match request {
                    Request::Promise(deferred) => deferred.trace(tracer),
                    Request::Tee(tee) => tee.trace(tracer),
                }
            }
        }
    }
}

impl Kind for Reader {
    type Data<'js> = ReaderData<'js>;
}

impl<'js> ReaderData<'js> {
    fn fail_requests(&self, error: &Value<'js>) -> JsResult<()> {
        for request in self.requests.take() {
            request.fail(error.clone())?;
        }
        Ok(())
    }
}

impl<'js> Request<'js> {
    fn answer(self, ctx: &Ctx<'js>, chunk: Value<'js>) -> JsResult<()> {
        match self {
            Self::Promise(deferred) => deferred.resolve(result(ctx, chunk, false)?),
            Self::Tee(tee) => {
                // In a task of its own, so that an error of a branch comes before it reads on.
                let react = on(ctx, Then::TeeChunk, tee.into_value())?;
                let (promise, resolve, _) = ctx.promise()?;
                resolve.call::<_, ()>((holding(ctx, chunk)?,))?;
                then(&promise.into_value(), react, undefined(ctx)).map(drop)
            }
        }
    }

    fn end(self, ctx: &Ctx<'js>) -> JsResult<()> {
        match self {
            Self::Promise(deferred) => deferred.resolve(result(ctx, undefined(ctx), true)?),
            Self::Tee(tee) => tee_end(ctx, &tee),
        }
    }

    fn fail(self, error: Value<'js>) -> JsResult<()> {
        match self {
            Self::Promise(deferred) => deferred.reject(error),
            Self::Tee(tee) => {
                tee.borrow().reading.set(false);
                Ok(())
            }
        }
    }
}

/// `{ value, done }`
fn result<'js>(ctx: &Ctx<'js>, value: Value<'js>, done: bool) -> JsResult<Value<'js>> {
    let result = Object::new(ctx.clone())?;
    result.set("value", value)?;
    result.set("done", done)?;
    Ok(result.into_value())
}

/// A chunk in a box: a promise resolved with a chunk that is a promise would wait for it.
fn holding<'js>(ctx: &Ctx<'js>, chunk: Value<'js>) -> JsResult<Array<'js>> {
    let list = Array::new(ctx.clone())?;
    list.set(0, chunk)?;
    Ok(list)
}

fn acquire<'js>(ctx: &Ctx<'js>, stream: &Stream<'js>) -> JsResult<Of<'js, Reader>> {
    let this = stream.borrow();
    if this.is_locked() {
        return Err(Exception::throw_type(
            ctx,
            "The stream is locked to a reader already",
        ));
    }
    let closed = match this.state.get() {
        State::Readable => Deferred::new(ctx)?,
        State::Closed => Deferred::resolved(ctx)?,
        State::Errored => Deferred::rejected(ctx, value_in(ctx, &this.error))?,
    };
    let reader = object::<Reader>(
        ctx,
        ReaderData {
            stream: RefCell::new(Some(stream.clone())),
            closed: RefCell::new(closed),
            requests: RefCell::default(),
        },
    )?;
    put(&this.reader, Some(reader.clone()));
    Ok(reader)
}

fn release<'js>(ctx: &Ctx<'js>, reader: &Of<'js, Reader>) -> JsResult<()> {
    let this = reader.borrow();
    let Some(stream) = this.stream.take() else {
        return Ok(());
    };
    let released = type_error(ctx, RELEASED)?;
    reject_anew(ctx, &this.closed, released.clone())?;
    put(&stream.borrow().reader, None);
    this.fail_requests(&released)
}

const RELEASED: &str = "The reader has been released";

// === Two branches of one stream ===

pub(super) struct Tee;

pub(super) struct TeeData<'js> {
    stream: Stream<'js>,
    branches: RefCell<Vec<Stream<'js>>>,
    /// Why a branch has been cancelled.
    reasons: RefCell<[Option<Value<'js>>; 2]>,
    cancelled: RefCell<Deferred<'js>>,
    reading: Cell<bool>,
    read_again: Cell<bool>,
}

impl<'js> Trace<'js> for TeeData<'js> {
    fn trace<'a>(&self, tracer: Tracer<'a, 'js>) {
        self.stream.trace(tracer);
        trace_cell(&self.cancelled, tracer);
        if let Ok(branches) = self.branches.try_borrow() {
            branches.iter().for_each(|branch| branch.trace(tracer));
        }
        if let Ok(reasons) = self.reasons.try_borrow() {
            reasons.iter().for_each(|reason| reason.trace(tracer));
        }
    }
}

impl Kind for Tee {
    type Data<'js> = TeeData<'js>;
}

impl Shape for Tee {
    const NAME: &'static str = "Tee";

    fn members(_prototype: &Object<'_>) -> JsResult<()> {
        Ok(())
    }
}

impl<'js> TeeData<'js> {
    /// The branches that have not been cancelled.
    fn open(&self) -> Vec<Stream<'js>> {
        let reasons = self.reasons.borrow();
        let branches = self.branches.borrow();
        let open = branches.iter().zip(&*reasons);
        open.filter(|(_, reason)| reason.is_none())
            .map(|(branch, _)| branch.clone())
            .collect()
    }
}

fn tee<'js>(ctx: &Ctx<'js>, stream: &Stream<'js>) -> JsResult<Vec<Stream<'js>>> {
    let reader = acquire(ctx, stream)?;
    let tee = object::<Tee>(
        ctx,
        TeeData {
            stream: stream.clone(),
            branches: RefCell::default(),
            reasons: RefCell::default(),
            cancelled: RefCell::new(Deferred::new(ctx)?),
            reading: Cell::new(false),
            read_again: Cell::new(false),
        },
    )?;
    let mut branches = Vec::new();
    for index in 0..2 {
        let branch = object::<ReadableStream>(ctx, Readable::new(1.0, None))?;
        put(&branch.borrow().source, Source::Branch(tee.clone(), index));
        branches.push(branch);
    }
    put(&tee.borrow().branches, branches.clone());
    for branch in &branches {
        start(ctx, branch, undefined(ctx))?;
    }
    let failed = on(ctx, Then::TeeFailed, tee.into_value())?;
    let closed = reader.borrow().closed.borrow().promise.clone();
    then(&closed, undefined(ctx), failed)?;
    Ok(branches)
}

fn tee_pull<'js>(ctx: &Ctx<'js>, tee: &Of<'js, Tee>) -> JsResult<()> {
    let this = tee.borrow();
    if this.reading.replace(true) {
        this.read_again.set(true);
        return Ok(());
    }
    read(ctx, &this.stream, Request::Tee(tee.clone()))
}

fn tee_chunk<'js>(ctx: &Ctx<'js>, tee: &Of<'js, Tee>, held: Value<'js>) -> JsResult<()> {
    let this = tee.borrow();
    this.read_again.set(false);
    let chunk: Value<'js> = match held.as_array() {
        Some(list) => list.get(0)?,
        None => held,
    };
    for branch in this.open() {
        enqueue(ctx, &branch, chunk.clone())?;
    }
    this.reading.set(false);
    if this.read_again.get() {
        tee_pull(ctx, tee)?;
    }
    Ok(())
}

fn tee_end<'js>(ctx: &Ctx<'js>, tee: &Of<'js, Tee>) -> JsResult<()> {
    let this = tee.borrow();
    this.reading.set(false);
    let open = this.open();
    for branch in &open {
        close(ctx, branch)?;
    }
    if !open.is_empty() {
        resolve_in(ctx, &this.cancelled)?;
    }
    Ok(())
}

fn tee_failed<'js>(ctx: &Ctx<'js>, tee: &Of<'js, Tee>, error: Value<'js>) -> JsResult<()> {
    let this = tee.borrow();
    let branches = this.branches.borrow().clone();
    for branch in &branches {
        fail(ctx, branch, error.clone())?;
    }
    if !this.open().is_empty() {
        resolve_in(ctx, &this.cancelled)?;
    }
    Ok(())
}

fn tee_cancel<'js>(
    ctx: &Ctx<'js>,
    tee: &Of<'js, Tee>,
    branch: usize,
    reason: Value<'js>,
) -> JsResult<Value<'js>> {
    let this = tee.borrow();
    this.reasons.borrow_mut()[branch] = Some(reason);
    let reasons = this.reasons.borrow().clone();
    if let [Some(first), Some(second)] = reasons {
        let both = Array::new(ctx.clone())?;
        both.set(0, first)?;
        both.set(1, second)?;
        let done = cancel(ctx, &this.stream, both.into_value())?;
        support::resolve_with(&this.cancelled, done)?;
    }
    let promise = this.cancelled.borrow().promise.clone();
    Ok(promise)
}

// === What scripts see ===

fn start<'js>(ctx: &Ctx<'js>, stream: &Stream<'js>, started: Value<'js>) -> JsResult<()> {
    let value = stream.clone().into_value();
    let done = on(ctx, Then::Started, value.clone())?;
    let failed = on(ctx, Then::Failed, value)?;
    then(&resolved(ctx, started)?, done, failed).map(drop)
}

/// `new ReadableStream(source, strategy)`
pub(super) fn construct<'js>(
    ctx: &Ctx<'js>,
    source: Option<Value<'js>>,
    strategy: Option<Value<'js>>,
) -> JsResult<Stream<'js>> {
    let members = Dictionary::new(ctx, source.as_ref(), "The underlying source")?;
    let strategy = Dictionary::new(ctx, strategy.as_ref(), "The strategy")?;
    let cancel = members.function(ctx, "cancel")?;
    let pull = members.function(ctx, "pull")?;
    let begin = members.function(ctx, "start")?;
    if let Some(kind) = members.get("type")? {
        let text = match crate::error::to_text(&kind).as_str() {
            "bytes" => "Streams of the type \"bytes\" are not supported, as in k6".to_owned(),
            other => format!("Invalid type of a stream: {other}"),
        };
        return Err(Exception::throw_type(ctx, &text));
    }
    let size = strategy.function(ctx, "size")?;
    let high_water_mark = strategy.high_water_mark(ctx)?;
    let stream = object::<ReadableStream>(ctx, Readable::new(high_water_mark, size))?;
    let controller = object::<Controller>(
        ctx,
        ControllerData {
            stream: stream.clone(),
        },
    )?
    .into_value();
    let this = source.unwrap_or_else(|| undefined(ctx));
    put(
        &stream.borrow().source,
        Source::Script {
            this: this.clone(),
            controller: controller.clone(),
            pull,
            cancel,
        },
    );
    let started = match begin {
        Some(begin) => call(ctx, &begin, this, &[controller])?,
        None => undefined(ctx),
    };
    start(ctx, &stream, started)?;
    Ok(stream)
}

/// `new ReadableStreamDefaultReader(stream)`
pub(super) fn construct_reader<'js>(
    ctx: &Ctx<'js>,
    stream: Option<Value<'js>>,
) -> JsResult<Of<'js, Reader>> {
    let stream = stream.unwrap_or_else(|| undefined(ctx));
    acquire(ctx, &expect(ctx, &stream)?)
}

impl Shape for ReadableStream {
    const NAME: &'static str = "ReadableStream";

    fn members(prototype: &Object<'_>) -> JsResult<()> {
        support::getter(prototype, "locked", |ctx, this| {
            let stream = expect::<Self>(&ctx, &this)?;
            let locked = stream.borrow().is_locked();
            locked.into_js(&ctx)
        })?;
        support::method(prototype, "cancel", |ctx, this, reason| {
            let stream = expect::<Self>(&ctx, &this)?;
            if stream.borrow().is_locked() {
                return refused(&ctx, "A locked stream cannot be cancelled");
            }
            cancel(&ctx, &stream, reason)
        })?;
        support::method(prototype, "getReader", |ctx, this, options| {
            let options = Dictionary::new(&ctx, Some(&options), "The options")?;
            if let Some(mode) = options.get("mode")? {
                let mode = crate::error::to_text(&mode);
                let text = format!("Readers of the mode \"{mode}\" are not supported, as in k6");
                return Err(Exception::throw_type(&ctx, &text));
            }
            acquire(&ctx, &expect(&ctx, &this)?).map(Of::into_value)
        })?;
        support::method(prototype, "tee", |ctx, this, _| {
            tee(&ctx, &expect(&ctx, &this)?)?.into_js(&ctx)
        })
    }
}

impl Shape for Reader {
    const NAME: &'static str = "ReadableStreamDefaultReader";

    fn members(prototype: &Object<'_>) -> JsResult<()> {
        support::getter(prototype, "closed", |ctx, this| {
            let reader = expect::<Self>(&ctx, &this)?;
            let promise = reader.borrow().closed.borrow().promise.clone();
            Ok(promise)
        })?;
        support::method(prototype, "read", |ctx, this, _| {
            let reader = expect::<Self>(&ctx, &this)?;
            let stream = reader.borrow().stream.borrow().clone();
            let Some(stream) = stream else {
                return refused(&ctx, RELEASED);
            };
            let deferred = Deferred::new(&ctx)?;
            let promise = deferred.promise.clone();
            read(&ctx, &stream, Request::Promise(deferred))?;
            Ok(promise)
        })?;
        support::method(prototype, "cancel", |ctx, this, reason| {
            let reader = expect::<Self>(&ctx, &this)?;
            let stream = reader.borrow().stream.borrow().clone();
            match stream {
                Some(stream) => cancel(&ctx, &stream, reason),
                None => refused(&ctx, RELEASED),
            }
        })?;
        support::method(prototype, "releaseLock", |ctx, this, _| {
            release(&ctx, &expect(&ctx, &this)?)?;
            Ok(undefined(&ctx))
        })
    }
}

/// `ReadableStreamDefaultController`
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
    const NAME: &'static str = "ReadableStreamDefaultController";

    fn members(prototype: &Object<'_>) -> JsResult<()> {
        support::getter(prototype, "desiredSize", |ctx, this| {
            let stream = expect::<Self>(&ctx, &this)?.borrow().stream.clone();
            let size = stream.borrow().desired_size();
            support::number_or_null(&ctx, size)
        })?;
        support::method(prototype, "close", |ctx, this, _| {
            let stream = expect::<Self>(&ctx, &this)?.borrow().stream.clone();
            if !stream.borrow().accepts() {
                return Err(Exception::throw_type(
                    &ctx,
                    "The stream is not in a state that permits close",
                ));
            }
            close(&ctx, &stream)?;
            Ok(undefined(&ctx))
        })?;
        support::method(prototype, "enqueue", |ctx, this, chunk| {
            let stream = expect::<Self>(&ctx, &this)?.borrow().stream.clone();
            if !stream.borrow().accepts() {
                return Err(Exception::throw_type(
                    &ctx,
                    "The stream is not in a state that permits enqueue",
                ));
            }
            enqueue(&ctx, &stream, chunk)?;
            Ok(undefined(&ctx))
        })?;
        support::method(prototype, "error", |ctx, this, error| {
            let stream = expect::<Self>(&ctx, &this)?.borrow().stream.clone();
            fail(&ctx, &stream, error)?;
            Ok(undefined(&ctx))
        })
    }
}
