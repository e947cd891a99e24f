//! The class `Client`: descriptions, one connection, and calls with one message each way.

use std::{cell::RefCell, pin::pin, rc::Rc, time::Duration};

use futures_util::future::{Either, select};
use prost::Message;
use prost_reflect::{DescriptorPool, MethodDescriptor};
use rquickjs::{Ctx, IntoJs, Object, Result as JsResult, Value};
use volley_net::{Bytes, CallRequest, Channel, Outcome};

use super::{
    StreamMetrics,
    call::{self, Meta},
    descriptors, message, params, reflection,
    wellknown::{HEALTH_CHECK, HealthRequest, HealthResponse},
};
use crate::{
    engine, error,
    host_object::{self, HostObject, Method},
    modules::string_argument,
    state::VuState,
    vu::state_of,
};

/// How long a call may take by default.
const TIMEOUT: Duration = Duration::from_secs(120);

const CONNECT_IN_INIT: &str = "connecting to a gRPC server in the init context is not supported";
const INVOKE_IN_INIT: &str = "invoking RPC methods in the init context is not supported";
/// What every call needs first.
pub(super) const NOT_CONNECTED: &str = "no gRPC connection, you must call connect first";

/// What is behind a `Client`.
pub(super) struct Client {
    pub(super) metrics: StreamMetrics,
    /// What was loaded, in this order; the data are shared by all VUs.
    pools: RefCell<Vec<DescriptorPool>>,
    connection: RefCell<Option<Connection>>,
}

/// Where a client is connected to.
#[derive(Clone)]
pub(super) struct Connection {
    pub(super) channel: Rc<Channel>,
    /// As the script has it.
    pub(super) address: Rc<str>,
}

/// A call that can be made.
struct Prepared {
    connection: Connection,
    method: MethodDescriptor,
    request: CallRequest,
    message: Bytes,
    meta: Meta,
    discard: bool,
}

/// What is wrong with arguments: the script's own exception, or a text of ours.
type Checked<T> = JsResult<Result<T, String>>;

impl Client {
    pub(super) fn new(metrics: StreamMetrics) -> Self {
        Self {
            metrics,
            pools: RefCell::default(),
            connection: RefCell::default(),
        }
    }

    pub(super) fn connection(&self) -> Result<Connection, String> {
        let connection = self.connection.borrow().clone();
        connection.ok_or_else(|| NOT_CONNECTED.to_owned())
    }

    /// The method of that name, with its path.
    pub(super) fn method(
        &self,
        name: Option<&Value<'_>>,
    ) -> Result<(String, MethodDescriptor), String> {
        let name = string_argument(name.cloned());
        if name.is_empty() {
            return Err("method to invoke cannot be empty".to_owned());
        }
        let path = match name.starts_with('/') {
            true => name,
            false => format!("/{name}"),
        };
        match descriptors::method(&self.pools.borrow(), &path) {
            Some(method) => Ok((path, method)),
            None => Err(format!("method \"{path}\" not found in file descriptors")),
        }
    }

    /// Takes what was loaded; answers the methods in it.
    fn keep<'js>(
        &self,
        ctx: &Ctx<'js>,
        loaded: Result<DescriptorPool, String>,
    ) -> JsResult<Value<'js>> {
        let pool = loaded.map_err(|text| error::throw(ctx, &text))?;
        let methods = descriptors::method_list(ctx, &pool)?;
        self.pools.borrow_mut().push(pool);
        Ok(methods.into_value())
    }

    /// Checks the arguments of a call, and makes its message.
    fn prepare<'js>(
        &self,
        ctx: &Ctx<'js>,
        state: &VuState,
        arguments: &[Value<'js>],
    ) -> Checked<Prepared> {
        let found = self
            .connection()
            .and_then(|connection| Ok((connection, self.method(arguments.first())?)));
        let (connection, (path, method)) = match found {
            Ok(found) => found,
            Err(text) => return Ok(Err(text)),
        };
        let given = |v: &&Value<'js>| !v.is_null() && !v.is_undefined();
        let Some(value) = arguments.get(1).filter(given) else {
            return Ok(Err("request cannot be nil".to_owned()));
        };
        let message = match message::from_js(ctx, method.input(), value)? {
            Ok(message) => message::encode(&message),
            Err(text) => {
                return Ok(Err(format!(
                    "unable to serialise request object to protocol buffer: {text}"
                )));
            }
        };
        let params = match params::call(arguments.get(2))? {
            Ok(params) => params,
            Err(text) => {
                return Ok(Err(format!(
                    "invalid GRPC's client.invoke() parameters: {text}"
                )));
            }
        };
        let meta = Meta::new(state, &connection.address, &path, params.tags);
        Ok(Ok(Prepared {
            connection,
            method,
            request: CallRequest {
                path,
                metadata: params.metadata,
                timeout: Some(params.timeout.unwrap_or(TIMEOUT)),
            },
            message,
            meta,
            discard: params.discard,
        }))
    }

    /// Asks the server for its descriptions; each conversation about that is measured.
    fn reflect(
        &self,
        ctx: &Ctx<'_>,
        state: &VuState,
        connection: &Connection,
        request: &CallRequest,
    ) -> JsResult<DescriptorPool> {
        let mut asked = Vec::new();
        let told = state.wait(reflection::describe(
            &connection.channel,
            request,
            &mut asked,
        ));
        for one in &asked {
            let meta = Meta::new(state, &connection.address, one.path, Vec::new());
            meta.record(state, one.begun, &one.outcome, connection.channel.remote());
        }
        let told = told.map_err(|engine::Stopped| engine::throw_uncatchable(ctx))?;
        let made = told.and_then(|files| {
            let key = [&b"reflection\0"[..], &files.encode_to_vec()].concat();
            state.script.descriptors(&key, || {
                DescriptorPool::from_file_descriptor_set(files)
                    .map_err(|e| format!("error invoking reflect API: {e:?}"))
            })
        });
        made.map_err(|text| error::throw(ctx, &text))
    }
}

impl Prepared {
    /// Makes the call, and records it.
    async fn run(self, state: &VuState) -> Answered {
        let Self {
            connection,
            method,
            request,
            message,
            meta,
            discard,
        } = self;
        let reply = connection.channel.unary(&request, &message).await;
        meta.record(state, reply.begun, &reply.outcome, reply.remote);
        Answered {
            message: reply.message,
            outcome: reply.outcome,
            method,
            discard,
        }
    }
}

/// A call that is over.
struct Answered {
    message: Option<Bytes>,
    outcome: Outcome,
    method: MethodDescriptor,
    discard: bool,
}

impl Answered {
    fn show<'js>(&self, ctx: &Ctx<'js>) -> JsResult<Object<'js>> {
        let message = self.message.as_deref();
        call::response(ctx, &self.method, message, &self.outcome, self.discard)
    }
}

const METHODS: [(&str, Method<Client>); 7] = [
    ("load", |ctx, this, args| load(ctx, this, args)),
    ("loadProtoset", |ctx, this, args| {
        load_protoset(ctx, this, args)
    }),
    ("connect", |ctx, this, args| connect(ctx, this, args)),
    ("invoke", |ctx, this, args| invoke(ctx, this, args)),
    ("asyncInvoke", |ctx, this, args| {
        async_invoke(ctx, this, args)
    }),
    ("healthCheck", |ctx, this, args| {
        health_check(ctx, this, args)
    }),
    ("close", |ctx, this, _| {
        if let Some(connection) = this.connection.take() {
            connection.channel.close();
        }
        Ok(Value::new_undefined(ctx.clone()))
    }),
];

impl HostObject for Client {
    const NAME: &'static str = "Client";

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

fn load<'js>(ctx: &Ctx<'js>, this: &Rc<Client>, args: &[Value<'js>]) -> JsResult<Value<'js>> {
    let state = state_of(ctx);
    if !state.in_init() {
        return Err(error::throw(ctx, "load must be called in the init context"));
    }
    let folders = match args.first().and_then(|folders| folders.as_array()) {
        Some(folders) => folders
            .iter::<Value<'js>>()
            .map(|folder| folder.map(|folder| string_argument(Some(folder))))
            .collect::<JsResult<Vec<_>>>()?,
        None => Vec::new(),
    };
    let files = args.iter().skip(1).cloned();
    let files: Vec<String> = files.map(|file| string_argument(Some(file))).collect();
    this.keep(ctx, descriptors::load(&state.script, &folders, &files))
}

fn load_protoset<'js>(
    ctx: &Ctx<'js>,
    this: &Rc<Client>,
    args: &[Value<'js>],
) -> JsResult<Value<'js>> {
    let state = state_of(ctx);
    if !state.in_init() {
        return Err(error::throw(ctx, "load must be called in the init context"));
    }
    let path = string_argument(args.first().cloned());
    this.keep(ctx, descriptors::load_set(&state.script, &path))
}

fn connect<'js>(ctx: &Ctx<'js>, this: &Rc<Client>, args: &[Value<'js>]) -> JsResult<Value<'js>> {
    let state = state_of(ctx);
    if state.in_init() {
        return Err(error::throw(ctx, CONNECT_IN_INIT));
    }
    let address = string_argument(args.first().cloned());
    let params = params::connect(args.get(1))?.map_err(|text| {
        let text = format!("invalid grpc.connect() parameters: {text}");
        error::throw(ctx, &text)
    })?;
    let channel = state.client.channel(&address, params.channel);
    let channel = channel.map_err(|text| error::throw(ctx, &text))?;
    match state.wait(channel.connect(params.timeout)) {
        Err(engine::Stopped) => return Err(engine::throw_uncatchable(ctx)),
        Ok(Err(text)) => return Err(error::throw(ctx, &text)),
        Ok(Ok(())) => {}
    }
    let connection = Connection {
        channel: Rc::new(channel),
        address: address.into(),
    };
    if let Some(metadata) = params.reflect {
        let request = CallRequest {
            metadata,
            timeout: Some(params.timeout),
            ..CallRequest::default()
        };
        let pool = this.reflect(ctx, &state, &connection, &request)?;
        let mut pools = this.pools.borrow_mut();
        // Connecting again must not add the same again.
        pools.retain(|known| *known != pool);
        pools.push(pool);
    }
    let before = this.connection.borrow_mut().replace(connection);
    if let Some(before) = before {
        before.channel.close();
    }
    true.into_js(ctx)
}

fn invoke<'js>(ctx: &Ctx<'js>, this: &Rc<Client>, args: &[Value<'js>]) -> JsResult<Value<'js>> {
    let state = state_of(ctx);
    if state.in_init() {
        return Err(error::throw(ctx, INVOKE_IN_INIT));
    }
    let prepared = this.prepare(ctx, &state, args)?;
    let prepared = prepared.map_err(|text| error::throw(ctx, &text))?;
    match state.wait(prepared.run(&state)) {
        Ok(answered) => Ok(answered.show(ctx)?.into_value()),
        Err(engine::Stopped) => Err(engine::throw_uncatchable(ctx)),
    }
}

fn async_invoke<'js>(
    ctx: &Ctx<'js>,
    this: &Rc<Client>,
    args: &[Value<'js>],
) -> JsResult<Value<'js>> {
    let state = state_of(ctx);
    let prepared = match state.in_init() {
        true => Err(INVOKE_IN_INIT.to_owned()),
        false => this.prepare(ctx, &state, args)?,
    };
    let (promise, resolve, reject) = ctx.promise()?;
    let prepared = match prepared {
        Ok(prepared) => prepared,
        Err(text) => {
            reject.call::<_, ()>((error::rejection(ctx, "", &text)?,))?;
            return Ok(promise.into_value());
        }
    };
    let vu = state.clone();
    let cancelled = state.events.cancelled();
    let (method, discard) = (prepared.method.clone(), prepared.discard);
    let work = async move {
        match select(pin!(prepared.run(&vu)), pin!(cancelled)).await {
            Either::Left((answered, _)) => answered,
            // Without samples: nobody waits for it any more.
            Either::Right(_) => Answered {
                message: None,
                outcome: Outcome::cancelled(),
                method,
                discard,
            },
        }
    };
    state.background(ctx, resolve, reject, work, |ctx, answered| {
        Ok(Ok(answered.show(ctx)?.into_value()))
    })?;
    Ok(promise.into_value())
}

fn health_check<'js>(
    ctx: &Ctx<'js>,
    this: &Rc<Client>,
    args: &[Value<'js>],
) -> JsResult<Value<'js>> {
    let state = state_of(ctx);
    if state.in_init() {
        return Err(error::throw(ctx, INVOKE_IN_INIT));
    }
    let connection = this.connection();
    let connection = connection.map_err(|text| error::throw(ctx, &text))?;
    let question = HealthRequest {
        service: string_argument(args.first().cloned()),
    };
    let request = CallRequest {
        path: HEALTH_CHECK.to_owned(),
        timeout: Some(TIMEOUT),
        ..CallRequest::default()
    };
    let meta = Meta::new(&state, &connection.address, HEALTH_CHECK, Vec::new());
    let message = question.encode_to_vec().into();
    let reply = match state.wait(connection.channel.unary(&request, &message)) {
        Ok(reply) => reply,
        Err(engine::Stopped) => return Err(engine::throw_uncatchable(ctx)),
    };
    meta.record(&state, reply.begun, &reply.outcome, reply.remote);
    let answer = match reply.message {
        Some(bytes) => HealthResponse::decode(bytes).map_err(|e| call::undecodable(&e)),
        None => Err(reply.outcome.status),
    };
    let answer = answer.map_err(|status| error::throw(ctx, &status.to_string()))?;
    let object = Object::new(ctx.clone())?;
    object.set("status", answer.status)?;
    Ok(object.into_value())
}
