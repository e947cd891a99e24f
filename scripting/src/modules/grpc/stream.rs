//! The class `Stream`: a call with any number of messages each way, on the event loop.
//!
//! One piece of work in the background stands for a stream from its beginning to its end: it sends
//! what the script writes and posts each event as a task of the event loop. It reads on only while
//! few events wait for their turn, so that a server that sends faster than the script listens fills
//! its window and not our memory.

use std::{
    cell::{Cell, RefCell},
    future::{Future, poll_fn},
    pin::pin,
    rc::Rc,
    task::{Context, Poll},
    time::{Instant, SystemTime, UNIX_EPOCH},
};

use prost_reflect::{DynamicMessage, MethodDescriptor};
use rquickjs::{Ctx, Function, Object, Persistent, Result as JsResult, Value};
use volley_net::{Bytes, Call, CallRequest, Event, Outcome, Status};

use super::{
    StreamMetrics,
    call::{self, Meta},
    client::Client,
    message, params,
};
use crate::{
    engine, error,
    host::Level,
    host_object::{self, HostObject, Method},
    modules::string_argument,
    state::VuState,
    vu::state_of,
};

/// Events that may wait for their turn before no more is read.
const READ_AHEAD: usize = 16;

/// What can be listened to.
const EVENTS: [&str; 4] = ["data", "error", "end", "status"];

type Handler = Persistent<Function<'static>>;

/// What is behind a `Stream`.
pub(super) struct Stream {
    call: Call,
    method: MethodDescriptor,
    meta: Meta,
    metrics: StreamMetrics,
    begun: Instant,
    /// Of each of [`EVENTS`], in the order in which they came. Gone when the stream has ended: they
    /// hold on to the heap, and mostly to the stream itself.
    handlers: RefCell<[Vec<Handler>; EVENTS.len()]>,
    /// Whether the script has said that it writes no more, or the stream has ended.
    ended: Cell<bool>,
    /// Whether nobody is left who could call handlers.
    deaf: Cell<bool>,
    /// Events that wait for their turn.
    waiting: Cell<usize>,
}

/// Takes a stream's handlers away when nobody is left who could call them.
struct Listening(Rc<Stream>);

impl Drop for Listening {
    fn drop(&mut self) {
        self.0.deaf.set(true);
        let handlers = self.0.handlers.take();
        drop(handlers);
    }
}

/// `new Stream(client, method, params)`: begins at once.
pub(super) fn construct<'js>(
    ctx: &Ctx<'js>,
    state: &Rc<VuState>,
    arguments: &[Value<'js>],
) -> JsResult<Value<'js>> {
    state.guard(ctx)?;
    let invalid = |what: &str, text: &str| {
        let text = format!("invalid GRPC Stream's {what}: {text}");
        error::throw(ctx, &text)
    };
    let client = arguments.first().and_then(host_object::behind::<Client>);
    let client = client.ok_or_else(|| invalid("client", "it needs to be a grpc.Client"))?;
    let connection = client.connection();
    let connection = connection.map_err(|text| invalid("client", &text))?;
    let method = client.method(arguments.get(1));
    let (path, method) = method.map_err(|text| invalid("method", &text))?;
    let params = params::call(arguments.get(2))?.map_err(|text| invalid("parameters", &text))?;
    let meta = Meta::new(state, &connection.address, &path, params.tags);
    let request = CallRequest {
        path,
        metadata: params.metadata,
        timeout: params.timeout,
    };
    let begun = Instant::now();
    let call = match state.wait(connection.channel.begin(&request)) {
        Err(engine::Stopped) => return Err(engine::throw_uncatchable(ctx)),
        Ok(Err(status)) => {
            let text = format!("failed to create a new stream: {status}");
            return Err(error::throw(ctx, &text));
        }
        Ok(Ok(call)) => call,
    };
    let stream = Rc::new(Stream {
        call,
        method,
        meta,
        metrics: client.metrics,
        begun,
        handlers: RefCell::default(),
        ended: Cell::new(false),
        deaf: Cell::new(false),
        waiting: Cell::new(0),
    });
    let tags = stream.meta.tag_set(state, None, stream.call.remote());
    state.record(stream.metrics.streams, tags, 1.0, begun);
    listen(state, Listening(stream.clone()));
    host_object::wrap(ctx, stream)
}

/// Has the stream go on in the background.
fn listen(state: &Rc<VuState>, listening: Listening) {
    let vu = state.clone();
    let cancelled = state.events.cancelled();
    state.events.start(async move {
        let stream = &listening.0;
        let mut cancelled = pin!(cancelled);
        let mut given_up = false;
        let outcome = poll_fn(|task| {
            if !given_up && cancelled.as_mut().poll(task).is_ready() {
                given_up = true;
                stream.call.cancel();
            }
            let outcome = stream.read(&vu, task);
            stream.count_sent(&vu);
            outcome
        })
        .await;
        // What a failed iteration has left behind leaves no samples.
        if !given_up {
            let remote = stream.call.remote();
            stream.meta.record(&vu, stream.begun, &outcome, remote);
        }
        Box::new(move |ctx: &Ctx<'_>| listening.0.finish(ctx, &outcome)) as _
    });
}

impl Stream {
    /// Reads what comes, posting each message; ready when there is nothing more.
    fn read(self: &Rc<Self>, vu: &Rc<VuState>, task: &mut Context<'_>) -> Poll<Outcome> {
        loop {
            if self.waiting.get() >= READ_AHEAD {
                self.call.poll_send(task);
                return Poll::Pending;
            }
            match self.call.poll_next(task) {
                Poll::Pending => return Poll::Pending,
                Poll::Ready(Event::End(outcome)) => return Poll::Ready(*outcome),
                Poll::Ready(Event::Message(bytes)) => {
                    let at = Instant::now();
                    let tags = self.meta.tag_set(vu, None, self.call.remote());
                    vu.record(self.metrics.received, tags, 1.0, at);
                    self.waiting.set(self.waiting.get() + 1);
                    let stream = self.clone();
                    let seconds = unix_seconds();
                    vu.events.post(Box::new(move |ctx: &Ctx<'_>| {
                        stream.waiting.set(stream.waiting.get() - 1);
                        stream.call.wake();
                        stream.data(ctx, &bytes, seconds)
                    }));
                }
            }
        }
    }

    fn count_sent(&self, vu: &VuState) {
        let sent = self.call.take_sent();
        if sent > 0 {
            let tags = self.meta.tag_set(vu, None, self.call.remote());
            let at = Instant::now();
            for _ in 0..sent {
                vu.record(self.metrics.sent, tags, 1.0, at);
            }
        }
    }

    /// A message has come.
    fn data(&self, ctx: &Ctx<'_>, bytes: &Bytes, seconds: f64) -> JsResult<()> {
        match DynamicMessage::decode(self.method.output(), &bytes[..]) {
            Ok(message) => {
                let message = message::to_js(ctx, &message)?;
                self.emit(ctx, "data", message, seconds).map(drop)
            }
            Err(error) => {
                self.call.cancel();
                self.failed(ctx, &call::undecodable(&error), seconds)
            }
        }
    }

    fn failed(&self, ctx: &Ctx<'_>, status: &Status, seconds: f64) -> JsResult<()> {
        let shown = call::error_object(ctx, status, &self.method)?.into_value();
        if self.emit(ctx, "error", shown, seconds)? == 0 {
            let text = format!("no handlers for error registered, but an error happened: {status}");
            state_of(ctx).log(Level::Warning, &text, &[]);
        }
        Ok(())
    }

    /// The call is over.
    fn finish(&self, ctx: &Ctx<'_>, outcome: &Outcome) -> JsResult<()> {
        self.ended.set(true);
        let seconds = unix_seconds();
        if !outcome.status.is_ok() {
            self.failed(ctx, &outcome.status, seconds)?;
        }
        let nothing = Object::new(ctx.clone())?.into_value();
        self.emit(ctx, "end", nothing, seconds).map(drop)
    }

    /// Calls the handlers of an event; answers how many there are.
    fn emit<'js>(
        &self,
        ctx: &Ctx<'js>,
        event: &str,
        value: Value<'js>,
        seconds: f64,
    ) -> JsResult<usize> {
        let handlers = match EVENTS.iter().position(|known| *known == event) {
            Some(at) => self.handlers.borrow()[at].clone(),
            None => Vec::new(),
        };
        for handler in &handlers {
            let about = Object::new(ctx.clone())?;
            about.set("ts", seconds)?;
            handler
                .clone()
                .restore(ctx)?
                .call::<_, ()>((value.clone(), about))?;
        }
        Ok(handlers.len())
    }
}

/// The time now, in seconds since 1970.
fn unix_seconds() -> f64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH);
    since.map_or(0.0, |since| since.as_secs() as f64)
}

const METHODS: [(&str, Method<Stream>); 3] = [
    ("on", |ctx, this, args| on(ctx, this, args)),
    ("write", |ctx, this, args| write(ctx, this, args)),
    ("end", |ctx, this, _| {
        this.ended.set(true);
        this.call.finish();
        Ok(Value::new_undefined(ctx.clone()))
    }),
];

impl HostObject for Stream {
    const NAME: &'static str = "Stream";

    fn member<'js>(self: &Rc<Self>, ctx: &Ctx<'js>, name: &str) -> JsResult<Option<Value<'js>>> {
        match METHODS.iter().find(|(known, _)| *known == name) {
            Some((name, method)) => host_object::bound(ctx, self, name, *method).map(Some),
            None => Ok(None),
        }
    }

    fn names(&self) -> Vec<&'static str> {
        METHODS.iter().map(|(name, _)| *name).collect()
    }
}

fn on<'js>(ctx: &Ctx<'js>, this: &Rc<Stream>, args: &[Value<'js>]) -> JsResult<Value<'js>> {
    let event = string_argument(args.first().cloned());
    let Some(handler) = args.get(1).and_then(|handler| handler.as_function()) else {
        let text = format!("handler for {event:?} event isn't a callable function");
        return Err(error::throw(ctx, &text));
    };
    match EVENTS.iter().position(|known| *known == event) {
        // After the end nobody would call it, and nobody take it away again.
        Some(_) if this.deaf.get() => {}
        Some(at) => {
            let handler = Persistent::save(ctx, handler.clone());
            this.handlers.borrow_mut()[at].push(handler);
        }
        None => {
            let text = format!(
                "can't register {event} event handler: unknown GRPC stream's event type: {event}"
            );
            state_of(ctx).log(Level::Warning, &text, &[]);
        }
    }
    Ok(Value::new_undefined(ctx.clone()))
}

fn write<'js>(ctx: &Ctx<'js>, this: &Rc<Stream>, args: &[Value<'js>]) -> JsResult<Value<'js>> {
    let nothing = Value::new_undefined(ctx.clone());
    if this.ended.get() {
        return Ok(nothing);
    }
    let given = |v: &&Value<'js>| !v.is_null() && !v.is_undefined();
    let Some(value) = args.first().filter(given) else {
        state_of(ctx).log(Level::Warning, "can't send empty message", &[]);
        return Ok(nothing);
    };
    let made = message::from_js(ctx, this.method.input(), value)?;
    let made = made.map_err(|text| {
        let text = format!("unable to serialise request object to protocol buffer: {text}");
        error::throw(ctx, &text)
    })?;
    this.call.send(&message::encode(&made));
    Ok(nothing)
}
