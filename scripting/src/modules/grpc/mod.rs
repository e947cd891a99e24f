//! `k6/net/grpc`: calls of gRPC services, by their descriptions in `.proto` files, in sets that
//! `protoc` has made of such files, or as the server itself gives them.
//!
//! - `client.rs`: the class `Client`.
//! - `stream.rs`: the class `Stream`.
//! - `call.rs`: what both need of a call: arguments, samples, the answer for the script.
//! - `params.rs`: the objects of parameters.
//! - `descriptors.rs`, `reflection.rs`: where descriptions come from; VUs share them.
//! - `message.rs`: messages between script and wire.
//! - `wellknown.rs`: messages that the module itself exchanges.
//!
//! The protocol is `net`'s, which knows no messages, only their bytes.

mod call;
mod client;
mod descriptors;
mod message;
mod params;
mod reflection;
mod stream;
mod wellknown;

use std::rc::Rc;

use rquickjs::{
    Ctx, Function, Object, Result as JsResult, Value,
    function::Rest,
    module::{Declarations, Exports, ModuleDef},
};
use volley_metrics::{MetricId, MetricKind, ValueType};

use self::client::Client;
use super::export_all;
use crate::{error, host_object, state::VuState, vu::state_of};

/// What the health service says about a service; the third name is spelt as in the reference.
const HEALTH: [(&str, u32); 4] = [
    ("HealthCheckUnknown", 0),
    ("HealthCheckServing", 1),
    ("HealthCheckNotServing", 2),
    ("HealthCheckServiceUnkown", 3),
];

/// Codes of calls, `StatusOK` and so on; all of them, as names with static lifetimes.
const STATUSES: [&str; 17] = [
    "StatusOK",
    "StatusCanceled",
    "StatusUnknown",
    "StatusInvalidArgument",
    "StatusDeadlineExceeded",
    "StatusNotFound",
    "StatusAlreadyExists",
    "StatusPermissionDenied",
    "StatusResourceExhausted",
    "StatusFailedPrecondition",
    "StatusAborted",
    "StatusOutOfRange",
    "StatusUnimplemented",
    "StatusInternal",
    "StatusUnavailable",
    "StatusDataLoss",
    "StatusUnauthenticated",
];

/// Everything that is exported.
fn names() -> Vec<&'static str> {
    let health = HEALTH.iter().map(|(name, _)| *name);
    let classes = ["Client", "Stream"].into_iter();
    classes.chain(STATUSES).chain(health).collect()
}

/// The module `k6/net/grpc`.
pub(crate) struct Grpc;

impl ModuleDef for Grpc {
    fn declare(decl: &Declarations<'_>) -> JsResult<()> {
        for name in names() {
            decl.declare(name)?;
        }
        decl.declare("default")?;
        Ok(())
    }

    fn evaluate<'js>(ctx: &Ctx<'js>, exports: &Exports<'js>) -> JsResult<()> {
        let module = Object::new(ctx.clone())?;
        let state = state_of(ctx);
        let metrics = StreamMetrics::register(ctx, &state)?;
        let make = move |ctx: Ctx<'js>| host_object::wrap(&ctx, Rc::new(Client::new(metrics)));
        let class = Function::new(ctx.clone(), make)?.with_constructor(true);
        module.set("Client", class.with_name("Client")?)?;
        let make = move |ctx: Ctx<'js>, arguments: Rest<Value<'js>>| {
            stream::construct(&ctx, &state, &arguments.0)
        };
        let class = Function::new(ctx.clone(), make)?.with_constructor(true);
        module.set("Stream", class.with_name("Stream")?)?;
        for (code, name) in STATUSES.iter().enumerate() {
            module.set(*name, code as u32)?;
        }
        for (name, value) in HEALTH {
            module.set(name, value)?;
        }
        export_all(exports, &module, &names())
    }
}

/// Metrics of streams, which only a script has that imports the module.
#[derive(Debug, Clone, Copy)]
struct StreamMetrics {
    streams: MetricId,
    sent: MetricId,
    received: MetricId,
}

impl StreamMetrics {
    fn register(ctx: &Ctx<'_>, state: &VuState) -> JsResult<Self> {
        let counter = |name| {
            let registry = &state.worker.registry;
            let made = registry.register(name, MetricKind::Counter, ValueType::Default);
            made.map_err(|e| error::throw(ctx, &e.to_string()))
        };
        Ok(Self {
            streams: counter("grpc_streams")?,
            sent: counter("grpc_streams_msgs_sent")?,
            received: counter("grpc_streams_msgs_received")?,
        })
    }
}

#[cfg(test)]
mod server;
#[cfg(test)]
mod tests;
