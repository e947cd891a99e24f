//! `WebSocket`: the object of the script's, its handlers and their events.

use std::{
    cell::{Cell, RefCell},
    rc::Rc,
    time::Instant,
};

use rquickjs::{
    Array, Coerced, Ctx, Function, IntoJs, Object, Persistent, Result as JsResult, Value,
    class::{Trace, Tracer},
    function::This,
    object::Accessor,
};
use volley_net::{
    self as net,
    ws::{self, Event},
};

use super::{
    blob,
    connection::{Connection, Happened, NORMAL, Ready, Work},
};
use crate::{
    binary,
    class::{self, Of, Shape, call, expect, getter, method, method_with_all, undefined},
    engine::{self, Kind},
    error,
    globals::go_type_name,
    host::Level,
    modules::{
        string_argument,
        ws::{
            IN_INIT,
            params::{Fault, Params, compression_text},
            session::{Labels, Pong},
        },
    },
    vu::state_of,
};

/// The longest reason for closing, in bytes.
const REASON_MAX: usize = 123;

/// The types of events, and the members that hold a handler for each.
const TYPES: [(&str, &str); 6] = [
    ("open", "onopen"),
    ("message", "onmessage"),
    ("error", "onerror"),
    ("close", "onclose"),
    ("ping", "onping"),
    ("pong", "onpong"),
];

#[derive(Debug, Clone, Copy)]
enum Type {
    Open,
    Message,
    Error,
    Close,
    Ping,
    Pong,
}

/// As what messages of bytes arrive.
#[derive(Debug, Clone, Copy)]
enum BinaryType {
    Blob,
    ArrayBuffer,
}

/// `WebSocket`
pub(super) struct WebSocket;

pub(super) struct Data<'js> {
    connection: Rc<Connection>,
    /// By the place of the type in `TYPES`.
    handlers: RefCell<[Option<Function<'js>>; TYPES.len()]>,
    listeners: RefCell<Vec<(usize, Function<'js>)>>,
    binary: Cell<BinaryType>,
}

type Socket<'js> = Of<'js, WebSocket>;

impl<'js> Trace<'js> for Data<'js> {
    fn trace<'a>(&self, tracer: Tracer<'a, 'js>) {
        if let Ok(handlers) = self.handlers.try_borrow() {
            for handler in handlers.iter().flatten() {
                handler.trace(tracer);
            }
        }
        if let Ok(listeners) = self.listeners.try_borrow() {
            for (_, listener) in listeners.iter() {
                listener.trace(tracer);
            }
        }
    }
}

impl Kind for WebSocket {
    type Data<'js> = Data<'js>;
}

/// `new WebSocket(url, protocols?, params?)`
pub(super) fn construct<'js>(ctx: &Ctx<'js>, arguments: &[Value<'js>]) -> JsResult<Socket<'js>> {
    let state = state_of(ctx);
    if state.in_init() {
        return Err(error::throw(ctx, IN_INIT));
    }
    state.guard(ctx)?;
    let fail = |text: &str| error::throw(ctx, text);
    let given = |at: usize| arguments.get(at).filter(|value| !value.is_undefined());
    let Some(url) = given(0) else {
        return Err(fail("WebSocket requires a url"));
    };
    let text = error::to_text(url);
    let url = parse(&text).map_err(|text| fail(&text))?;
    let params = Params::read(&state, given(2), true)?.map_err(|fault| {
        fail(&match fault {
            Fault::Tags(text) => format!("invalid WebSocket tags option: {text}"),
            Fault::Compression(algorithm) => compression_text(&algorithm),
            Fault::Unknown(option) => format!("unknown WebSocket's option {option}"),
        })
    })?;
    let (mut request, tags) = params.request(url);
    if let Some(protocols) = given(1).and_then(|value| protocols(value).transpose()) {
        let header = ("Sec-WebSocket-Protocol".to_owned(), protocols?);
        request.headers.push(header);
    }
    let labels = Labels {
        base: state.tag_set(),
        tags,
        url: text.clone(),
        named: true,
    };
    let connection = Connection::new(&state, text, labels);
    let socket = class::object::<WebSocket>(
        ctx,
        Data {
            connection: connection.clone(),
            handlers: RefCell::default(),
            listeners: RefCell::default(),
            binary: Cell::new(BinaryType::Blob),
        },
    )?;
    let work = Work {
        connection,
        object: Persistent::save(ctx, socket.as_inner().clone()),
    };
    work.open(request);
    // It begins now, not when the script next waits.
    state
        .wait(std::future::ready(()))
        .map_err(|engine::Stopped| engine::throw_uncatchable(ctx))?;
    Ok(socket)
}

fn parse(text: &str) -> Result<net::Url, String> {
    let url = net::Url::parse(text).map_err(|error| {
        format!("WebSocket requires valid url, but got \"{text}\" which resulted in {error}")
    })?;
    if !matches!(url.scheme(), "ws" | "wss") {
        return Err(format!(
            "WebSocket requires url with scheme ws or wss, but got \"{}\"",
            url.scheme()
        ));
    }
    match url.fragment().filter(|fragment| !fragment.is_empty()) {
        Some(fragment) => Err(format!(
            "WebSocket requires no url fragment, but got \"{fragment}\""
        )),
        None => Ok(url),
    }
}

/// The header for one protocol or several.
fn protocols(value: &Value<'_>) -> JsResult<Option<String>> {
    if value.is_null() {
        return Ok(None);
    }
    let Some(list) = value.as_array() else {
        return Ok(Some(error::to_text(value)).filter(|text| !text.is_empty()));
    };
    let names: JsResult<Vec<String>> = list
        .iter::<Value<'_>>()
        .map(|name| name.map(|name| error::to_text(&name)))
        .collect();
    Ok(Some(names?.join(", ")).filter(|text| !text.is_empty()))
}

// === Events ===

/// Makes an event of that type, which tells more than that by `fill`.
fn event<'js>(
    ctx: &Ctx<'js>,
    socket: &Socket<'js>,
    what: Type,
    fill: impl FnOnce(&Object<'js>) -> JsResult<()>,
) -> JsResult<Value<'js>> {
    let state = socket.borrow().connection.state.clone();
    let event = Object::new(ctx.clone())?;
    event.set("type", TYPES[what as usize].0)?;
    event.set("target", socket.as_inner().clone())?;
    let now = state.worker.unix_ns(Instant::now());
    event.set("timestamp", now as f64 / 1e6)?;
    fill(&event)?;
    Ok(event.into_value())
}

/// Calls the handler of an event, then its listeners.
fn emit<'js>(
    ctx: &Ctx<'js>,
    socket: &Socket<'js>,
    what: Type,
    fill: impl FnOnce(&Object<'js>) -> JsResult<()>,
) -> JsResult<()> {
    let called: Vec<Function<'js>> = {
        let this = socket.borrow();
        let handler = this.handlers.borrow()[what as usize].clone();
        let listeners = this.listeners.borrow();
        let listeners = listeners.iter().filter(|(of, _)| *of == what as usize);
        let listeners = listeners.map(|(_, listener)| listener.clone());
        handler.into_iter().chain(listeners).collect()
    };
    if called.is_empty() {
        return Ok(());
    }
    let event = event(ctx, socket, what, fill)?;
    for function in called {
        let this = socket.clone().into_value();
        call(ctx, &function, this, std::slice::from_ref(&event))?;
    }
    Ok(())
}

fn emit_error<'js>(ctx: &Ctx<'js>, socket: &Socket<'js>, text: &str) -> JsResult<()> {
    emit(ctx, socket, Type::Error, |event| event.set("error", text))
}

fn emit_close<'js>(
    ctx: &Ctx<'js>,
    socket: &Socket<'js>,
    code: Option<u16>,
    reason: &str,
) -> JsResult<()> {
    emit(ctx, socket, Type::Close, |event| {
        if let Some(code) = code {
            event.set("code", code)?;
        }
        event.set("reason", reason)
    })
}

/// What is left to do after a piece of work in the background.
pub(super) fn finish(ctx: &Ctx<'_>, work: Work, happened: Happened) -> JsResult<()> {
    let object = work.object.clone().restore(ctx)?;
    let Some(socket) = Socket::from_object(&object) else {
        return Ok(());
    };
    let connection = work.connection.clone();
    let Err(thrown) = tell(ctx, &socket, &connection, happened) else {
        if connection.ready.get() != Ready::Closed {
            work.watch();
        }
        return Ok(());
    };
    if connection.state.fiber.is_stopped() {
        return Err(thrown);
    }
    // A handler that throws ends its connection, and the iteration.
    let thrown = error::thrown(ctx, thrown);
    if connection.ready.get() != Ready::Closed {
        connection.end();
        let text = error::to_text(&thrown);
        let told = emit_error(ctx, &socket, &text)
            .and_then(|()| emit_close(ctx, &socket, Some(NORMAL), ""));
        if let Err(error) = told {
            if connection.state.fiber.is_stopped() {
                return Err(error);
            }
            let _ = error::thrown(ctx, error);
        }
    }
    Err(ctx.throw(thrown))
}

/// Calls the handlers for what has happened.
fn tell<'js>(
    ctx: &Ctx<'js>,
    socket: &Socket<'js>,
    connection: &Rc<Connection>,
    happened: Happened,
) -> JsResult<()> {
    match happened {
        Happened::Cancelled => {
            connection.end();
            Ok(())
        }
        // Closed since it was opened: the peer is told what the script has said.
        Happened::Opened if connection.ready.get() == Ready::Closing => {
            tell(ctx, socket, connection, Happened::GivenUp)
        }
        Happened::Opened => {
            connection.ready.set(Ready::Open);
            emit(ctx, socket, Type::Open, |_| Ok(()))
        }
        Happened::Refused(text) => {
            connection.end();
            emit_error(ctx, socket, &text)?;
            emit_close(ctx, socket, None, "")
        }
        Happened::GivenUp => {
            connection.end();
            let text = "WebSocket is closed before the connection is established";
            emit_error(ctx, socket, text)?;
            emit_close(ctx, socket, None, "")
        }
        Happened::Event(event, pong) => told(ctx, socket, connection, event, pong),
    }
}

fn told<'js>(
    ctx: &Ctx<'js>,
    socket: &Socket<'js>,
    connection: &Rc<Connection>,
    event: Event,
    pong: Pong,
) -> JsResult<()> {
    match event {
        Event::Text(data) => message(ctx, socket, |ctx| {
            engine::js_string(ctx, &data).map(rquickjs::String::into_value)
        }),
        Event::Binary(data) => message(ctx, socket, |ctx| match socket.borrow().binary.get() {
            BinaryType::Blob => blob::make(ctx, data),
            BinaryType::ArrayBuffer => {
                engine::array_buffer(ctx, data).map(rquickjs::ArrayBuffer::into_value)
            }
        }),
        Event::Ping(_) => emit(ctx, socket, Type::Ping, |_| Ok(())),
        Event::Pong(_) => {
            if let Pong::Unknown(payload) = pong {
                let text = format!("received pong for unknown ping ID {payload}");
                connection.state.log(Level::Warning, &text, &[]);
            }
            emit(ctx, socket, Type::Pong, |_| Ok(()))
        }
        Event::Closed(close) => {
            connection.end();
            emit_close(ctx, socket, Some(close.code), &close.reason)
        }
        Event::Failed(error) => {
            connection.end();
            emit_error(ctx, socket, &error.to_string())?;
            emit_close(ctx, socket, Some(ws::Close::ABNORMAL), "")
        }
    }
}

fn message<'js>(
    ctx: &Ctx<'js>,
    socket: &Socket<'js>,
    data: impl FnOnce(&Ctx<'js>) -> JsResult<Value<'js>>,
) -> JsResult<()> {
    emit(ctx, socket, Type::Message, |event| {
        event.set("data", data(ctx)?)?;
        event.set("origin", socket.borrow().connection.url.as_str())
    })
}

// === Members ===

fn connection_of<'js>(ctx: &Ctx<'js>, this: &Value<'js>) -> JsResult<Rc<Connection>> {
    Ok(expect::<WebSocket>(ctx, this)?.borrow().connection.clone())
}

/// The connection, which has to be open.
fn open_of<'js>(ctx: &Ctx<'js>, this: &Value<'js>) -> JsResult<Rc<Connection>> {
    let connection = connection_of(ctx, this)?;
    if connection.ready.get() != Ready::Open {
        return Err(error::throw(ctx, "InvalidStateError"));
    }
    Ok(connection)
}

fn send<'js>(ctx: Ctx<'js>, this: Value<'js>, data: Value<'js>) -> JsResult<Value<'js>> {
    let connection = open_of(&ctx, &this)?;
    if let Some(text) = data.as_string() {
        connection.send(true, engine::rust_string(text).into_bytes());
    } else if let Some(bytes) = blob::behind(&data) {
        connection.send(false, bytes.into());
    } else if let Some(bytes) = binary::source(&data) {
        connection.send(false, bytes);
    } else {
        let text = format!("unsupported send type {}", go_type_name(&data));
        return Err(error::throw(&ctx, &text));
    }
    Ok(undefined(&ctx))
}

fn close<'js>(ctx: &Ctx<'js>, this: Value<'js>, arguments: &[Value<'js>]) -> JsResult<Value<'js>> {
    let connection = connection_of(ctx, &this)?;
    let given = |at: usize| arguments.get(at).filter(|value| !value.is_undefined());
    let code = match given(0) {
        Some(code) => code.get::<Coerced<f64>>()?.0 as i64,
        None => NORMAL.into(),
    };
    let Some(code) = u16::try_from(code)
        .ok()
        .filter(|code| matches!(code, &NORMAL | 3000..=4999))
    else {
        let text = format!(
            "InvalidAccessError: Failed to execute 'close' on 'WebSocket': The close code must be \
             either 1000, or between 3000 and 4999. {code} is neither"
        );
        return Err(error::throw(ctx, &text));
    };
    let reason = string_argument(given(1).cloned());
    if reason.len() > REASON_MAX {
        let text = "SyntaxError: Failed to execute 'close' on 'WebSocket': The message must not be \
                    greater than 123 bytes";
        return Err(error::throw(ctx, text));
    }
    connection.close(code, &reason);
    Ok(undefined(ctx))
}

fn add_listener<'js>(
    ctx: &Ctx<'js>,
    this: Value<'js>,
    arguments: &[Value<'js>],
) -> JsResult<Value<'js>> {
    let socket = expect::<WebSocket>(ctx, &this)?;
    let name = string_argument(arguments.first().cloned());
    let Some(what) = TYPES.iter().position(|(known, _)| *known == name) else {
        let text = format!("can't add event handler: unknown event type: {name}");
        state_of(ctx).log(Level::Warning, &text, &[]);
        return Ok(undefined(ctx));
    };
    let Some(listener) = arguments.get(1).and_then(Value::as_function) else {
        let text = format!("handler for event type {name:?} isn't a callable function");
        return Err(error::throw(ctx, &text));
    };
    let listener = (what, listener.clone());
    socket.borrow().listeners.borrow_mut().push(listener);
    Ok(undefined(ctx))
}

fn set_handler<'js>(
    ctx: &Ctx<'js>,
    this: &Value<'js>,
    what: usize,
    value: &Value<'js>,
) -> JsResult<()> {
    let socket = expect::<WebSocket>(ctx, this)?;
    let handler = value.as_function().cloned();
    if handler.is_none() && !value.is_null() && !value.is_undefined() {
        let text = format!("a value for '{}' should be callable", TYPES[what].1);
        return Err(error::throw(ctx, &text));
    }
    let before = std::mem::replace(&mut socket.borrow().handlers.borrow_mut()[what], handler);
    // It goes when nothing is borrowed.
    drop(before);
    Ok(())
}

fn set_binary_type<'js>(ctx: &Ctx<'js>, this: &Value<'js>, value: &Value<'js>) -> JsResult<()> {
    let socket = expect::<WebSocket>(ctx, this)?;
    let binary = match error::to_text(value).as_str() {
        "blob" => BinaryType::Blob,
        "arraybuffer" => BinaryType::ArrayBuffer,
        other => {
            let text = format!(
                "unknown binaryType {other}, the supported ones are \"blob\" and \"arraybuffer\""
            );
            return Err(error::throw(ctx, &text));
        }
    };
    socket.borrow().binary.set(binary);
    Ok(())
}

/// A member that scripts read and write.
fn accessor<'js>(
    prototype: &Object<'js>,
    name: &str,
    get: impl Fn(Ctx<'js>, Value<'js>) -> JsResult<Value<'js>> + 'js,
    set: impl Fn(&Ctx<'js>, &Value<'js>, &Value<'js>) -> JsResult<()> + 'js,
) -> JsResult<()> {
    let get = move |ctx: Ctx<'js>, this: This<Value<'js>>| get(ctx, this.0);
    let set =
        move |ctx: Ctx<'js>, this: This<Value<'js>>, value: Value<'js>| set(&ctx, &this.0, &value);
    let member = Accessor::new(get, set);
    prototype.prop(name, member.configurable().enumerable())
}

impl Shape for WebSocket {
    const NAME: &'static str = "WebSocket";

    fn members(prototype: &Object<'_>) -> JsResult<()> {
        members(prototype)
    }
}

fn members<'js>(prototype: &Object<'js>) -> JsResult<()> {
    getter(prototype, "readyState", |ctx, this| {
        (connection_of(&ctx, &this)?.ready.get() as u8).into_js(&ctx)
    })?;
    getter(prototype, "url", |ctx, this| {
        connection_of(&ctx, &this)?.url.as_str().into_js(&ctx)
    })?;
    getter(prototype, "protocol", |ctx, this| {
        let protocol = connection_of(&ctx, &this)?.protocol.borrow().clone();
        protocol.into_js(&ctx)
    })?;
    getter(prototype, "extensions", |ctx, this| {
        let values = connection_of(&ctx, &this)?.extensions.borrow().clone();
        let array = Array::new(ctx)?;
        for (at, value) in values.into_iter().enumerate() {
            array.set(at, value)?;
        }
        Ok(array.into_value())
    })?;
    getter(prototype, "bufferedAmount", |ctx, this| {
        (connection_of(&ctx, &this)?.buffered() as f64).into_js(&ctx)
    })?;
    let get = |ctx: Ctx<'js>, this: Value<'js>| {
        let socket = expect::<WebSocket>(&ctx, &this)?;
        let binary = socket.borrow().binary.get();
        match binary {
            BinaryType::Blob => "blob",
            BinaryType::ArrayBuffer => "arraybuffer",
        }
        .into_js(&ctx)
    };
    accessor(prototype, "binaryType", get, set_binary_type)?;
    for (what, (_, name)) in TYPES.iter().enumerate() {
        let get = move |ctx: Ctx<'js>, this: Value<'js>| {
            let socket = expect::<WebSocket>(&ctx, &this)?;
            let handler = socket.borrow().handlers.borrow()[what].clone();
            Ok(handler.map_or_else(
                || Value::new_null(ctx.clone()),
                |handler| handler.into_value(),
            ))
        };
        let set = move |ctx: &Ctx<'js>, this: &Value<'js>, value: &Value<'js>| {
            set_handler(ctx, this, what, value)
        };
        accessor(prototype, name, get, set)?;
    }
    method(prototype, "send", send)?;
    method(prototype, "ping", |ctx, this, _| {
        open_of(&ctx, &this)?.ping();
        Ok(undefined(&ctx))
    })?;
    method_with_all(prototype, "close", close)?;
    method_with_all(prototype, "addEventListener", add_listener)
}
