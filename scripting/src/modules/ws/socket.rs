//! The socket in the hands of the callback, and the loop that its handlers run in.

use std::{
    cell::{Cell, RefCell},
    collections::BTreeMap,
    future::poll_fn,
    rc::Rc,
    time::{Duration, Instant},
};

use rquickjs::{
    ArrayBuffer, Coerced, Ctx, Exception, Function, IntoJs, Object, Result as JsResult, Value,
    function::{Args, Opt},
};
use volley_net::ws::{self, Event};

use super::session::Session;
use crate::{
    engine::{self, Stopped},
    error,
    modules::string_argument,
    state::VuState,
    vu::state_of,
};

/// What handlers can be registered for.
const KINDS: &[&str] = &[
    "open",
    "message",
    "binaryMessage",
    "ping",
    "pong",
    "close",
    "error",
];

/// The code of a connection that the script or the end of its VU closes.
const GOING_AWAY: u16 = 1001;
const NORMAL: u16 = 1000;

/// How long a peer that does not read may keep a closing VU.
const PATIENCE: Duration = Duration::from_secs(10);

/// Calls at a later time, in their order.
type Timers<'js> = BTreeMap<(Instant, u64), (Function<'js>, Option<Duration>)>;

struct Connection<'js> {
    state: Rc<VuState>,
    socket: RefCell<ws::Socket>,
    session: RefCell<Session>,
    handlers: RefCell<Vec<(&'static str, Function<'js>)>>,
    timers: RefCell<Timers<'js>>,
    sequence: Cell<u64>,
    closed: Cell<bool>,
}

/// Runs the callback, and its handlers until the connection ends.
pub(super) fn run<'js>(
    ctx: &Ctx<'js>,
    socket: ws::Socket,
    session: Session,
    callback: &Function<'js>,
) -> JsResult<()> {
    let connection = Rc::new(Connection {
        state: state_of(ctx),
        socket: RefCell::new(socket),
        session: RefCell::new(session),
        handlers: RefCell::default(),
        timers: RefCell::default(),
        sequence: Cell::new(0),
        closed: Cell::new(false),
    });
    let outcome = object(ctx, &connection)
        .and_then(|object| callback.call::<_, ()>((object,)))
        .and_then(|()| connection.go(ctx));
    if !connection.closed.replace(true) {
        // An exception, or a stop: there is no time to wait for a peer that does not read.
        connection.socket.borrow_mut().close(GOING_AWAY, "");
    }
    connection.session.borrow().end();
    // They hold the object that holds them.
    let (handlers, timers) = (connection.handlers.take(), connection.timers.take());
    drop((handlers, timers));
    outcome
}

impl<'js> Connection<'js> {
    fn go(&self, ctx: &Ctx<'js>) -> JsResult<()> {
        self.emit(ctx, "open", None)?;
        while !self.closed.get() {
            self.fire()?;
            if self.closed.get() {
                break;
            }
            if self.state.interrupt() {
                return Err(engine::throw_uncatchable(ctx));
            }
            let due = self
                .timers
                .borrow()
                .first_key_value()
                .map(|((due, _), _)| *due);
            let event = self
                .state
                .wait_long(due, |task| self.socket.borrow_mut().poll_event(task));
            if let Some(event) = event.map_err(|Stopped| engine::throw_uncatchable(ctx))? {
                self.handle(ctx, event)?;
            }
        }
        Ok(())
    }

    /// Calls the handlers of an event.
    fn emit(&self, ctx: &Ctx<'js>, kind: &str, argument: Option<Value<'js>>) -> JsResult<()> {
        let handlers = self.handlers.borrow();
        let called: Vec<Function<'js>> = handlers
            .iter()
            .filter(|(known, _)| *known == kind)
            .map(|(_, handler)| handler.clone())
            .collect();
        drop(handlers);
        for handler in called {
            let mut args = Args::new(ctx.clone(), 1);
            if let Some(argument) = &argument {
                args.push_arg(argument.clone())?;
            }
            handler.call_arg::<()>(args)?;
        }
        Ok(())
    }

    fn emit_error(&self, ctx: &Ctx<'js>, text: &str) -> JsResult<()> {
        let error = error::rejection(ctx, "", text)?;
        if let Some(object) = error.as_object() {
            let text = text.to_owned();
            object.set("error", Function::new(ctx.clone(), move || text.clone())?)?;
        }
        self.emit(ctx, "error", Some(error))
    }

    fn emit_close(&self, ctx: &Ctx<'js>, code: u16) -> JsResult<()> {
        self.emit(ctx, "close", Some(code.into_js(ctx)?))
    }

    /// Calls what is due, each once.
    fn fire(&self) -> JsResult<()> {
        let now = Instant::now();
        let due: Vec<_> = {
            let mut timers = self.timers.borrow_mut();
            let later = timers.split_off(&(now, u64::MAX));
            std::mem::replace(&mut *timers, later)
                .into_values()
                .collect()
        };
        for (callback, interval) in due {
            if self.closed.get() {
                break;
            }
            if let Some(interval) = interval {
                self.add_timer(callback.clone(), interval, true);
            }
            callback.call::<_, ()>(())?;
        }
        Ok(())
    }

    fn add_timer(&self, callback: Function<'js>, delay: Duration, repeat: bool) {
        let number = self.sequence.get();
        self.sequence.set(number + 1);
        let at = (Instant::now() + delay, number);
        let interval = repeat.then_some(delay);
        self.timers.borrow_mut().insert(at, (callback, interval));
    }

    fn handle(&self, ctx: &Ctx<'js>, event: Event) -> JsResult<()> {
        self.session.borrow_mut().happened(&event);
        match event {
            Event::Text(data) => {
                let text = engine::js_string(ctx, &data)?;
                self.emit(ctx, "message", Some(text.into_value()))
            }
            Event::Binary(data) => {
                let buffer = engine::array_buffer(ctx, data)?;
                self.emit(ctx, "binaryMessage", Some(buffer.into_value()))
            }
            Event::Ping(_) => self.emit(ctx, "ping", None),
            Event::Pong(_) => self.emit(ctx, "pong", None),
            Event::Closed(close) => {
                self.closed.set(true);
                if !matches!(close.code, NORMAL | GOING_AWAY) {
                    self.emit_error(ctx, &close.to_string())?;
                }
                self.emit_close(ctx, close.code)
            }
            Event::Failed(error) => {
                self.closed.set(true);
                self.emit_error(ctx, &error.to_string())?;
                self.emit_close(ctx, ws::Close::ABNORMAL)
            }
        }
    }

    /// Waits until everything has been sent, as writing to a connection does.
    fn flush(&self, ctx: &Ctx<'js>) -> JsResult<()> {
        let flushed = poll_fn(|task| self.socket.borrow_mut().poll_flush(task));
        let flushed = self.state.wait(flushed);
        flushed.map_err(|Stopped| engine::throw_uncatchable(ctx))
    }

    fn send(&self, ctx: &Ctx<'js>, text: bool, payload: Vec<u8>) -> JsResult<()> {
        let sent = self.socket.borrow_mut().send(text, payload);
        match sent {
            Err(error) => self.emit_error(ctx, &error.to_string()),
            Ok(rest) => {
                self.session.borrow().sent();
                if rest { self.flush(ctx) } else { Ok(()) }
            }
        }
    }

    fn ping(&self, ctx: &Ctx<'js>) -> JsResult<()> {
        if self.closed.get() {
            return self.emit_error(ctx, &ws::Error::Closing.to_string());
        }
        let payload = self.session.borrow_mut().ping();
        let sent = self.socket.borrow_mut().ping(payload);
        match sent {
            Err(error) => self.emit_error(ctx, &error.to_string()),
            Ok(true) => self.flush(ctx),
            Ok(false) => Ok(()),
        }
    }

    /// Closes it, and says so.
    fn close(&self, ctx: &Ctx<'js>, code: u16) -> JsResult<()> {
        if self.closed.replace(true) {
            return Ok(());
        }
        let rest = self.socket.borrow_mut().close(code, "");
        if rest {
            let flushed = poll_fn(|task| self.socket.borrow_mut().poll_flush(task));
            let flushed = self.state.wait(tokio::time::timeout(PATIENCE, flushed));
            let _ = flushed.map_err(|Stopped| engine::throw_uncatchable(ctx))?;
        }
        self.emit_close(ctx, code)
    }
}

/// The object that the callback gets.
fn object<'js>(ctx: &Ctx<'js>, connection: &Rc<Connection<'js>>) -> JsResult<Object<'js>> {
    let object = Object::new(ctx.clone())?;
    let set = |name: &str, function: Function<'js>| object.set(name, function.with_name(name)?);
    let of = connection.clone();
    let on = move |event: Opt<Value<'js>>, handler: Opt<Value<'js>>| {
        let event = string_argument(event.0);
        let kind = KINDS.iter().find(|known| **known == event);
        if let (Some(kind), Some(handler)) = (kind, handler.0.as_ref().and_then(Value::as_function))
        {
            of.handlers.borrow_mut().push((kind, handler.clone()));
        }
    };
    set("on", Function::new(ctx.clone(), on)?)?;
    let of = connection.clone();
    let send = move |ctx: Ctx<'js>, text: Opt<Value<'js>>| {
        of.state.guard(&ctx)?;
        of.send(&ctx, true, string_argument(text.0).into_bytes())
    };
    set("send", Function::new(ctx.clone(), send)?)?;
    let of = connection.clone();
    let send = move |ctx: Ctx<'js>, data: Opt<Value<'js>>| {
        of.state.guard(&ctx)?;
        let payload = buffer(data.0.as_ref()).map_err(|text| error::throw(&ctx, &text))?;
        of.send(&ctx, false, payload)
    };
    set("sendBinary", Function::new(ctx.clone(), send)?)?;
    let of = connection.clone();
    let ping = move |ctx: Ctx<'js>| {
        of.state.guard(&ctx)?;
        of.ping(&ctx)
    };
    set("ping", Function::new(ctx.clone(), ping)?)?;
    for (name, repeat) in [("setTimeout", false), ("setInterval", true)] {
        let of = connection.clone();
        let add = move |ctx: Ctx<'js>, callback: Opt<Value<'js>>, ms: Opt<Coerced<f64>>| {
            of.state.guard(&ctx)?;
            let delay = delay(name, ms.0.map_or(0.0, |ms| ms.0));
            let delay = delay.map_err(|text| error::throw(&ctx, &text))?;
            let Some(callback) = callback.0.as_ref().and_then(Value::as_function) else {
                let text = "could not convert function call parameter 0: not a function";
                return Err(Exception::throw_type(&ctx, text));
            };
            of.add_timer(callback.clone(), delay, repeat);
            Ok(())
        };
        set(name, Function::new(ctx.clone(), add)?)?;
    }
    let of = connection.clone();
    let close = move |ctx: Ctx<'js>, code: Opt<Value<'js>>| {
        of.state.guard(&ctx)?;
        let given = code.0.filter(|code| !code.is_undefined());
        let code = match given {
            // Cut towards zero, like every whole number of a native.
            Some(code) => code.get::<Coerced<f64>>()?.0 as u16,
            None => GOING_AWAY,
        };
        of.close(&ctx, code)
    };
    set("close", Function::new(ctx.clone(), close)?)?;
    Ok(object)
}

/// The delay of a timer.
fn delay(name: &str, ms: f64) -> Result<Duration, String> {
    if ms > 0.0 {
        return Ok(Duration::from_secs_f64(ms.min(1e12) / 1e3));
    }
    Err(format!(
        "{name} requires a >0 timeout parameter, received {ms:.2}"
    ))
}

/// The bytes of an argument that has to be an `ArrayBuffer`.
fn buffer(data: Option<&Value<'_>>) -> Result<Vec<u8>, String> {
    let Some(data) = data else {
        return Err("missing argument, expected ArrayBuffer".to_owned());
    };
    let buffer = data.as_object().cloned().and_then(ArrayBuffer::from_object);
    match buffer {
        Some(buffer) => Ok(engine::buffer_bytes(&buffer)),
        None => Err(format!(
            "expected ArrayBuffer as argument, received: {}",
            constructor_of(data)
        )),
    }
}

/// The name of the constructor of a value, of its wrapper for a primitive one.
fn constructor_of(value: &Value<'_>) -> String {
    if value.is_undefined() || value.is_null() {
        return error::to_text(value);
    }
    let ctx = value.ctx();
    let name = || -> JsResult<String> {
        let wrap: Function<'_> = ctx.globals().get("Object")?;
        let object: Object<'_> = wrap.call((value.clone(),))?;
        let class: Object<'_> = object.get("constructor")?;
        class.get("name")
    };
    name().unwrap_or_else(|_| {
        let _ = ctx.catch();
        "Object".to_owned()
    })
}
