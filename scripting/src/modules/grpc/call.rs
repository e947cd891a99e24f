//! What a call needs of the script, leaves in the metrics, and answers.

use std::{net::SocketAddr, rc::Rc, time::Instant};

use prost::Message;
use prost_reflect::{DynamicMessage, MethodDescriptor};
use rquickjs::{Array, Ctx, Object, Result as JsResult, Value};
use volley_metrics::{TagSetId, builtin};
use volley_net::{Metadata, Outcome, Status, StatusCode};

use super::{message, wellknown::RpcStatus};
use crate::{engine, state::VuState};

/// What the samples of a call have in common.
#[derive(Debug, Clone)]
pub(super) struct Meta {
    /// The tags of the VU at the moment when the call was made.
    base: TagSetId,
    tags: Vec<(String, String)>,
    /// `host:port`, as the script has it.
    address: Rc<str>,
    /// `/package.Service/Method`.
    path: String,
}

impl Meta {
    /// Of a call that is made now.
    pub(super) fn new(
        state: &VuState,
        address: &Rc<str>,
        path: &str,
        tags: Vec<(String, String)>,
    ) -> Self {
        Self {
            base: state.tag_set(),
            tags,
            address: address.clone(),
            path: path.to_owned(),
        }
    }

    /// The tags of a sample; those of one about the end have its status.
    pub(super) fn tag_set(
        &self,
        state: &VuState,
        status: Option<StatusCode>,
        remote: Option<SocketAddr>,
    ) -> TagSetId {
        let enabled = state.settings.system_tags;
        let mut pairs: Vec<(&str, &str)> = Vec::with_capacity(self.tags.len() + 6);
        pairs.extend(self.tags.iter().map(|(k, v)| (k.as_str(), v.as_str())));
        let url = format!("{}{}", self.address, self.path);
        if enabled.url() {
            pairs.push(("url", &url));
        }
        let named = self.tags.iter().any(|(key, _)| key == "name") || state.tag("name").is_some();
        if enabled.name() && !named {
            pairs.push(("name", &self.path));
        }
        let (service, method) = split(&self.path);
        if enabled.service() {
            pairs.push(("service", service));
        }
        if enabled.method() {
            pairs.push(("method", method));
        }
        let code = status.map(|status| status.0.to_string());
        if let Some(code) = code.as_deref().filter(|_| enabled.status()) {
            pairs.push(("status", code));
        }
        let ip = remote.map(|remote| remote.ip().to_string());
        if let Some(ip) = ip.as_deref().filter(|_| enabled.ip()) {
            pairs.push(("ip", ip));
        }
        state.worker.tags.borrow_mut().overlay(self.base, &pairs)
    }

    /// Records how long a call has taken that began then.
    pub(super) fn record(
        &self,
        state: &VuState,
        begun: Instant,
        outcome: &Outcome,
        remote: Option<SocketAddr>,
    ) {
        let tags = self.tag_set(state, Some(outcome.status.code), remote);
        let took = outcome.end.saturating_duration_since(begun);
        let ms = took.as_nanos() as f64 / 1e6;
        state.record(builtin::GRPC_REQ_DURATION, tags, ms, outcome.end);
    }
}

/// `/package.Service/Method` → service and method.
fn split(path: &str) -> (&str, &str) {
    let path = path.strip_prefix('/').unwrap_or(path);
    path.rsplit_once('/').unwrap_or((path, ""))
}

/// The answer of a call with one message, for the script.
pub(super) fn response<'js>(
    ctx: &Ctx<'js>,
    method: &MethodDescriptor,
    answer: Option<&[u8]>,
    outcome: &Outcome,
    discard: bool,
) -> JsResult<Object<'js>> {
    let object = Object::new(ctx.clone())?;
    object.set("status", outcome.status.code.0)?;
    let (shown, outcome) = match answer.filter(|_| !discard) {
        None => (DynamicMessage::new(method.output()), outcome.clone()),
        Some(bytes) => match DynamicMessage::decode(method.output(), bytes) {
            Ok(shown) => (shown, outcome.clone()),
            Err(error) => {
                let mut outcome = outcome.clone();
                outcome.status = undecodable(&error);
                object.set("status", outcome.status.code.0)?;
                (DynamicMessage::new(method.output()), outcome)
            }
        },
    };
    let message = match discard {
        true => Value::new_null(ctx.clone()),
        false => message::to_js(ctx, &shown)?,
    };
    object.set("message", message)?;
    let failure = match outcome.status.is_ok() {
        true => Value::new_null(ctx.clone()),
        false => error_object(ctx, &outcome.status, method)?.into_value(),
    };
    object.set("error", failure)?;
    object.set("headers", metadata_object(ctx, &outcome.headers)?)?;
    object.set("trailers", metadata_object(ctx, &outcome.trailers)?)?;
    Ok(object)
}

/// The status of a call whose answer is no message of its type.
pub(super) fn undecodable(error: &prost::DecodeError) -> Status {
    Status {
        code: StatusCode::INTERNAL,
        message: format!("grpc: failed to unmarshal the received message: {error}"),
        details: Default::default(),
    }
}

/// What scripts see of a failure: code, words, and what the server has added to them.
pub(super) fn error_object<'js>(
    ctx: &Ctx<'js>,
    status: &Status,
    method: &MethodDescriptor,
) -> JsResult<Object<'js>> {
    let object = Object::new(ctx.clone())?;
    object.set("code", status.code.0)?;
    object.set("message", status.message.as_str())?;
    let details = Array::new(ctx.clone())?;
    let told = RpcStatus::decode(&status.details[..]).unwrap_or_default();
    let pools = [method.parent_pool().clone()];
    for (index, any) in told.details.iter().enumerate() {
        details.set(index, message::any_to_js(ctx, any, &pools)?)?;
    }
    object.set("details", details)?;
    Ok(object)
}

/// Names with the list of their values.
fn metadata_object<'js>(ctx: &Ctx<'js>, metadata: &Metadata) -> JsResult<Object<'js>> {
    let object = Object::new(ctx.clone())?;
    for (name, values) in metadata.iter() {
        let list = Array::new(ctx.clone())?;
        for (index, value) in values.iter().enumerate() {
            list.set(index, engine::js_string(ctx, value)?)?;
        }
        object.set(name, list)?;
    }
    Ok(object)
}

#[cfg(test)]
mod tests {
    use super::split;

    #[test]
    fn paths_are_services_and_methods() {
        assert_eq!(split("/a.b.S/M"), ("a.b.S", "M"));
        assert_eq!(split("S/M"), ("S", "M"));
        assert_eq!(split("/M"), ("M", ""));
    }
}
