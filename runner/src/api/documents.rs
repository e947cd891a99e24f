//! The JSON of the control API: JSON:API-like envelopes, their keys in k6's order.

use http::StatusCode;
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value, json, value::RawValue};
use volley_metrics::{Group, MetricSnapshot, Snapshot, Values};

use super::Status;
use crate::summary::data::{number, path_id};

/// Why a request was refused.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct ApiError {
    /// The HTTP status.
    pub(super) status: StatusCode,
    title: String,
    detail: String,
}

impl ApiError {
    /// The run cannot be paused or resumed (500).
    pub(crate) fn pause(detail: impl Into<String>) -> Self {
        Self::new(StatusCode::INTERNAL_SERVER_ERROR, "Pause error", detail)
    }

    /// The number of VUs cannot be changed (500).
    pub(crate) fn scale(detail: impl Into<String>) -> Self {
        Self::new(
            StatusCode::INTERNAL_SERVER_ERROR,
            "Execution config error",
            detail,
        )
    }

    pub(super) fn not_found(detail: &str) -> Self {
        Self::new(StatusCode::NOT_FOUND, "Not Found", detail)
    }

    pub(super) fn invalid(title: &str, detail: impl Into<String>) -> Self {
        Self::new(StatusCode::BAD_REQUEST, title, detail)
    }

    pub(super) fn script(title: &str, stack: String) -> Self {
        Self::new(StatusCode::INTERNAL_SERVER_ERROR, title, stack)
    }

    pub(super) fn internal(detail: impl Into<String>) -> Self {
        Self::new(StatusCode::INTERNAL_SERVER_ERROR, "Encoding error", detail)
    }

    fn new(status: StatusCode, title: &str, detail: impl Into<String>) -> Self {
        Self {
            status,
            title: title.to_owned(),
            detail: detail.into(),
        }
    }

    /// The body of the answer.
    pub(super) fn document(&self) -> Value {
        json!({"errors": [{"status": self.status.as_str(), "title": self.title, "detail": self.detail}]})
    }
}

/// The body of `PATCH /v1/status`; whatever is absent or `null` stays as it is.
#[derive(Debug, Default, Deserialize)]
pub(super) struct StatusPatch {
    data: Option<PatchData>,
}

#[derive(Debug, Default, Deserialize)]
struct PatchData {
    attributes: Option<PatchAttributes>,
}

/// What a PATCH asks for.
#[derive(Debug, Default, Deserialize)]
pub(super) struct PatchAttributes {
    pub(super) paused: Option<bool>,
    pub(super) stopped: Option<bool>,
    pub(super) vus: Option<i64>,
    #[serde(rename = "vus-max")]
    pub(super) vus_max: Option<i64>,
}

impl StatusPatch {
    /// What it asks for, wherever it stopped short.
    pub(super) fn attributes(self) -> PatchAttributes {
        self.data
            .and_then(|data| data.attributes)
            .unwrap_or_default()
    }
}

/// `/v1/status`.
pub(super) fn status(status: Status) -> Value {
    json!({"data": {"type": "status", "id": "default", "attributes": {
        "status": status.status,
        "paused": status.paused,
        "vus": status.vus,
        "vus-max": status.vus_max,
        "stopped": status.stopped,
        "running": status.running,
        "tainted": status.tainted,
    }}})
}

/// `/v1/metrics`.
pub(super) fn metrics(snapshot: &Snapshot) -> Value {
    json!({"data": snapshot.metrics.iter().map(metric).collect::<Vec<_>>()})
}

/// `/v1/metrics/{name}`.
pub(super) fn one_metric(snapshot: &Snapshot, name: &str) -> Result<Value, ApiError> {
    let found = snapshot
        .metric(name)
        .ok_or_else(|| ApiError::not_found("No metric with that ID was found"))?;
    Ok(json!({"data": metric(found)}))
}

fn metric(metric: &MetricSnapshot) -> Value {
    json!({"type": "metrics", "id": &*metric.name, "attributes": {
        "type": metric.kind.as_str(),
        "contains": metric.contains.as_str(),
        "tainted": metric.tainted,
        "sample": sample(&metric.values),
    }})
}

/// The values of a metric: of a trend always these six, whatever the summary's columns are.
fn sample(values: &Values) -> Value {
    match values {
        Values::Counter { count, rate } => json!({"count": number(*count), "rate": number(*rate)}),
        Values::Gauge { value, .. } => json!({"value": number(*value)}),
        Values::Rate { rate, .. } => json!({"rate": number(*rate)}),
        Values::Trend(sink) => json!({
            "avg": number(sink.avg()),
            "max": number(sink.max()),
            "med": number(sink.med()),
            "min": number(sink.min()),
            "p(90)": number(sink.percentile(0.9)),
            "p(95)": number(sink.percentile(0.95)),
        }),
    }
}

/// `/v1/groups`: the tree as a list, each group before those in it.
pub(super) fn groups(snapshot: &Snapshot) -> Value {
    json!({"data": flattened(snapshot)})
}

/// `/v1/groups/{id}`.
pub(super) fn one_group(snapshot: &Snapshot, id: &str) -> Result<Value, ApiError> {
    let found = flattened(snapshot)
        .into_iter()
        .find(|group| group["id"] == id);
    let found = found.ok_or_else(|| ApiError::not_found("No group with that ID was found"))?;
    Ok(json!({"data": found}))
}

fn flattened(snapshot: &Snapshot) -> Vec<Value> {
    fn flatten(group: &Group, parent: Option<&str>, all: &mut Vec<Value>) {
        let id = path_id(&group.path);
        all.push(self::group(group, &id, parent));
        for inner in group.groups.iter().filter(|inner| !is_lifecycle(inner)) {
            flatten(inner, Some(&id), all);
        }
    }
    let mut all = Vec::new();
    flatten(&snapshot.root_group, None, &mut all);
    all
}

/// The groups that only say where samples of `setup` and `teardown` come from: k6's API shows
/// groups that something was checked in.
fn is_lifecycle(group: &Group) -> bool {
    matches!(group.path.as_str(), "::setup" | "::teardown")
        && group.checks.is_empty()
        && group.groups.is_empty()
}

fn group(group: &Group, id: &str, parent: Option<&str>) -> Value {
    let reference = |id: &str| json!({"type": "groups", "id": id});
    let checks: Vec<_> = group
        .checks
        .iter()
        .map(|check| {
            json!({
                "id": path_id(&check.path),
                "path": check.path,
                "name": check.name,
                "passes": check.passes,
                "fails": check.fails,
            })
        })
        .collect();
    // A list that has nothing in it is `null` here, in k6's own words.
    let checks = if checks.is_empty() {
        Value::Null
    } else {
        Value::Array(checks)
    };
    json!({
        "type": "groups",
        "id": id,
        "attributes": {"path": group.path, "name": group.name, "checks": checks},
        "relationships": {
            "groups": {"data": group.groups.iter().filter(|inner| !is_lifecycle(inner)).map(|inner| reference(&path_id(&inner.path))).collect::<Vec<_>>()},
            "parent": {"data": parent.map(reference)},
        },
    })
}

/// `/v1/setup`, with the data passed on as they are: a script's numbers lose nothing on the way.
pub(super) fn setup(raw: Option<&str>) -> Result<String, ApiError> {
    #[derive(Serialize)]
    struct Document<'a> {
        data: Resource<'a>,
    }
    #[derive(Serialize)]
    struct Resource<'a> {
        r#type: &'a str,
        id: &'a str,
        attributes: Attributes<'a>,
    }
    #[derive(Serialize)]
    struct Attributes<'a> {
        #[serde(skip_serializing_if = "Option::is_none")]
        data: Option<&'a RawValue>,
    }
    let encoding = |error: serde_json::Error| ApiError::internal(error.to_string());
    let data = raw
        .map(serde_json::from_str::<&RawValue>)
        .transpose()
        .map_err(encoding)?;
    let resource = Resource {
        r#type: "setupData",
        id: "default",
        attributes: Attributes { data },
    };
    serde_json::to_string(&Document { data: resource }).map_err(encoding)
}

/// Process internals as `/debug/vars/` shows them.
pub(super) fn variables(values: &[(&str, f64)]) -> Value {
    let values: Map<_, _> = values
        .iter()
        .map(|(name, value)| ((*name).to_owned(), number(*value)))
        .collect();
    json!({"cmdline": std::env::args().collect::<Vec<_>>(), "process": values})
}
