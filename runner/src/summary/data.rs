//! The summary as data: what `handleSummary` is called with, and what `--summary-export` writes.
//!
//! Three shapes, all k6's: the argument of `handleSummary`, its flattened form for the export
//! file, and the machine-readable one that replaces both on request. Whole numbers are written
//! without a fraction, as k6 does.

use md5::{Digest, Md5};
use serde_json::{Map, Value, json};
use time::{OffsetDateTime, format_description::well_known::Rfc3339};
use volley_metrics::{
    Check, Group, MetricKind, MetricSnapshot, Snapshot, TrendSink, ValueType, Values,
};

use super::{CheckTotals, SummaryOptions, TrendStat, is_listed, trend_columns};

/// What the data say about the process, beside what was measured.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Terminal {
    /// Whether stdout is a terminal.
    pub(crate) stdout_tty: bool,
    /// Whether stderr is a terminal.
    pub(crate) stderr_tty: bool,
    /// Whether `--no-color` was given.
    pub(crate) no_color: bool,
}

/// The argument of `handleSummary`, the same for every summary mode. `setup_data` is what
/// `setup()` returned, if it returned something.
pub(crate) fn legacy(
    snapshot: &Snapshot,
    options: &SummaryOptions,
    terminal: Terminal,
    setup_data: Option<&Value>,
) -> Value {
    let metrics = snapshot
        .metrics
        .iter()
        .map(|metric| (metric.name.to_string(), legacy_metric(metric, options)));
    let mut data = json!({
        "root_group": legacy_group(&snapshot.root_group),
        "options": {
            "summaryTrendStats": options.trend_stats,
            "summaryTimeUnit": options.time_unit.as_deref().unwrap_or_default(),
            "noColor": terminal.no_color,
        },
        "state": {
            "isStdOutTTY": terminal.stdout_tty,
            "isStdErrTTY": terminal.stderr_tty,
            // To the nanosecond: the multiplication alone would leave digits behind it.
            "testRunDurationMs": number((snapshot.run_seconds * 1e9).round() / 1e6),
        },
        "metrics": metrics.collect::<Map<_, _>>(),
    });
    if let Some(setup_data) = setup_data {
        data["setup_data"] = setup_data.clone();
    }
    data
}

/// The content of the `--summary-export` file, made from what [`legacy`] returned: values beside
/// each other, groups and checks by name, and for each threshold whether it was *crossed*.
pub(crate) fn export(legacy: &Value) -> String {
    let mut data = legacy.clone();
    if let Some(data) = data.as_object_mut() {
        data.shift_remove("options");
        data.shift_remove("state");
        if let Some(root) = data.get_mut("root_group") {
            *root = exported_group(root.take());
        }
        if let Some(metrics) = data.get_mut("metrics").and_then(Value::as_object_mut) {
            for metric in metrics.values_mut() {
                *metric = exported_metric(metric);
            }
        }
    }
    indented(&data)
}

/// What the machine-readable summary says about the run, beside what was measured.
#[derive(Debug, Clone, Copy)]
pub(crate) struct RunDescription<'a> {
    /// The main script's source.
    pub(crate) script: &'a str,
    /// The k6 version that the agent claims compatibility with.
    pub(crate) k6_version: &'a str,
    /// When the summary was made.
    pub(crate) generated_at: OffsetDateTime,
}

/// The machine-readable summary (`--new-machine-readable-summary`): both the argument of
/// `handleSummary` and, through [`indented`], the content of the export file.
pub(crate) fn machine_readable(
    snapshot: &Snapshot,
    options: &SummaryOptions,
    run: RunDescription<'_>,
) -> Value {
    let columns = trend_columns(options);
    let metrics = snapshot
        .metrics
        .iter()
        .filter(|metric| is_listed(metric, options.mode))
        .map(|metric| {
            machine_metric(
                &metric.name,
                metric.kind,
                metric.contains,
                machine_values(metric, &columns),
            )
        });
    let totals = CheckTotals::of(&snapshot.metrics);
    let check_metrics = totals.map_or_else(Vec::new, |totals| {
        let share = |name, matches: u64| {
            let values = json!({"matches": matches, "rate": number(totals.share(matches)), "total": totals.total()});
            machine_metric(name, MetricKind::Rate, ValueType::Default, values)
        };
        let total = json!({"count": totals.total()});
        vec![
            machine_metric("checks_total", MetricKind::Counter, ValueType::Default, total),
            share("checks_failed", totals.fails),
            share("checks_succeeded", totals.passes),
        ]
    });
    let checks: Vec<_> = snapshot
        .checks
        .iter()
        .map(|check| json!({"fails": check.fails, "name": check.name, "passes": check.passes}))
        .collect();
    json!({
        "config": {
            "duration": number(snapshot.run_seconds),
            "execution": "local",
            "script": run.script,
        },
        "metadata": {
            // A year of more than four digits is the only time that does not format.
            "generated_at": run.generated_at.format(&Rfc3339).unwrap_or_default(),
            "k6_version": run.k6_version,
        },
        "results": {
            "checks": {"metrics": check_metrics, "results": checks},
            "metrics": metrics.collect::<Vec<_>>(),
        },
        "version": "1.0.0",
    })
}

/// JSON with four spaces of indentation and no newline at its end.
pub(crate) fn indented(data: &Value) -> String {
    let mut text = Vec::new();
    let formatter = serde_json::ser::PrettyFormatter::with_indent(b"    ");
    let mut serializer = serde_json::Serializer::with_formatter(&mut text, formatter);
    // Writing to memory does not fail, and a `Value` has string keys only.
    let _ = serde::Serialize::serialize(data, &mut serializer);
    String::from_utf8_lossy(&text).into_owned()
}

/// The id of a group or check: the MD5 of its path, in hexadecimal.
pub(crate) fn path_id(path: &str) -> String {
    Md5::digest(path.as_bytes())
        .iter()
        .map(|byte| format!("{byte:02x}"))
        .collect()
}

/// A JSON number, without a fraction if it is whole; `null` for what JSON has no number for.
pub(crate) fn number(value: f64) -> Value {
    // Beyond 2^53 an f64 is no longer exact to the unit, and its own form is the honest one.
    if value.fract() == 0.0 && value.abs() < 9_007_199_254_740_992.0 {
        #[expect(clippy::cast_possible_truncation, reason = "whole, and below 2^53")]
        return Value::from(value as i64);
    }
    Value::from(value)
}

fn legacy_metric(metric: &MetricSnapshot, options: &SummaryOptions) -> Value {
    let values = match &metric.values {
        Values::Counter { count, rate } => json!({"count": number(*count), "rate": number(*rate)}),
        Values::Gauge { value, min, max } => {
            json!({"value": number(*value), "min": number(*min), "max": number(*max)})
        }
        Values::Rate {
            rate,
            passes,
            fails,
        } => json!({"rate": number(*rate), "passes": passes, "fails": fails}),
        Values::Trend(sink) => trend_columns(options)
            .into_iter()
            .map(|(name, stat)| (name.to_owned(), number(stat.of(sink))))
            .collect::<Map<_, _>>()
            .into(),
    };
    let mut data = json!({
        "type": metric.kind.as_str(),
        "contains": metric.contains.as_str(),
        "values": values,
    });
    if !metric.thresholds.is_empty() {
        let verdicts = metric
            .thresholds
            .iter()
            .map(|one| (one.source.to_string(), json!({"ok": one.ok})));
        data["thresholds"] = verdicts.collect::<Map<_, _>>().into();
    }
    data
}

fn legacy_group(group: &Group) -> Value {
    json!({
        "name": group.name,
        "path": group.path,
        "id": path_id(&group.path),
        "groups": group.groups.iter().map(legacy_group).collect::<Vec<_>>(),
        "checks": group.checks.iter().map(legacy_check).collect::<Vec<_>>(),
    })
}

fn legacy_check(check: &Check) -> Value {
    json!({
        "name": check.name,
        "path": check.path,
        "id": path_id(&check.path),
        "passes": check.passes,
        "fails": check.fails,
    })
}

fn exported_group(mut group: Value) -> Value {
    let by_name = |list: Value, inner: fn(Value) -> Value| -> Value {
        let Value::Array(list) = list else {
            return list;
        };
        let named = list.into_iter().map(|one| {
            (
                one["name"].as_str().unwrap_or_default().to_owned(),
                inner(one),
            )
        });
        Value::Object(named.collect())
    };
    group["groups"] = by_name(group["groups"].take(), exported_group);
    group["checks"] = by_name(group["checks"].take(), |check| check);
    group
}

fn exported_metric(metric: &Value) -> Value {
    let is_rate = metric["type"] == "rate";
    let mut flat = Map::new();
    if let Some(values) = metric["values"].as_object() {
        for (name, value) in values {
            let name = if is_rate && name == "rate" {
                "value"
            } else {
                name
            };
            flat.insert(name.to_owned(), value.clone());
        }
    }
    if let Some(thresholds) = metric["thresholds"].as_object() {
        let crossed = thresholds
            .iter()
            .map(|(source, verdict)| (source.clone(), json!(verdict["ok"] == json!(false))));
        flat.insert(
            "thresholds".to_owned(),
            crossed.collect::<Map<_, _>>().into(),
        );
    }
    Value::Object(flat)
}

fn machine_metric(name: &str, kind: MetricKind, contains: ValueType, values: Value) -> Value {
    json!({"contains": contains.as_str(), "name": name, "type": kind.as_str(), "values": values})
}

fn machine_values(metric: &MetricSnapshot, columns: &[(&str, TrendStat)]) -> Value {
    match &metric.values {
        Values::Counter { count, .. } => json!({"count": number(*count)}),
        Values::Gauge { value, min, max } => {
            json!({"max": number(*max), "min": number(*min), "value": number(*value)})
        }
        Values::Rate {
            rate,
            passes,
            fails,
        } => {
            json!({"matches": passes, "rate": number(*rate), "total": passes + fails})
        }
        Values::Trend(sink) => machine_trend(sink, columns),
    }
}

/// Six statistics, `null` where the user did not ask for the column.
fn machine_trend(sink: &TrendSink, columns: &[(&str, TrendStat)]) -> Value {
    let fields = [
        ("avg", TrendStat::Avg),
        ("max", TrendStat::Max),
        ("med", TrendStat::Med),
        ("min", TrendStat::Min),
        ("p90", TrendStat::Percentile(0.9)),
        ("p95", TrendStat::Percentile(0.95)),
    ];
    let values = fields.into_iter().map(|(name, stat)| {
        let listed = columns.iter().any(|(_, column)| *column == stat);
        (
            name.to_owned(),
            if listed {
                number(stat.of(sink))
            } else {
                Value::Null
            },
        )
    });
    Value::Object(values.collect())
}

#[cfg(test)]
mod tests;
