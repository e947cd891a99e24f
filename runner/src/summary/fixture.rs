//! Snapshots made by hand, for the tests beside it.

use std::sync::Arc;

use volley_metrics::{
    Check, Group, MetricKind, MetricSnapshot, Snapshot, ThresholdResult, TrendSink, ValueType,
    Values,
};

use super::{SummaryMode, SummaryOptions};

/// k6's defaults, without colours.
pub(super) fn options() -> SummaryOptions {
    SummaryOptions {
        trend_stats: ["avg", "min", "med", "max", "p(90)", "p(95)"]
            .map(str::to_owned)
            .to_vec(),
        time_unit: None,
        colors: false,
        mode: SummaryMode::Compact,
    }
}

/// A run of so many seconds with those metrics and nothing in its groups.
pub(super) fn snapshot(run_seconds: f64, metrics: Vec<MetricSnapshot>) -> Snapshot {
    Snapshot {
        metrics,
        root_group: Group::default(),
        checks: Vec::new(),
        run_seconds,
    }
}

/// A metric, or a sub-metric if the name has braces.
pub(super) fn metric(name: &str, contains: ValueType, values: Values) -> MetricSnapshot {
    let kind = match values {
        Values::Counter { .. } => MetricKind::Counter,
        Values::Gauge { .. } => MetricKind::Gauge,
        Values::Rate { .. } => MetricKind::Rate,
        Values::Trend(_) => MetricKind::Trend,
    };
    let parent = name
        .strip_suffix('}')
        .and_then(|name| name.split_once('{'))
        .map(|(parent, suffix)| (Arc::from(parent), Arc::from(suffix)));
    MetricSnapshot {
        name: Arc::from(name),
        parent,
        kind,
        contains,
        values,
        thresholds: Vec::new(),
        tainted: None,
    }
}

/// The metric with thresholds, each with its verdict.
pub(super) fn judged(mut metric: MetricSnapshot, verdicts: &[(&str, bool)]) -> MetricSnapshot {
    metric.thresholds = verdicts
        .iter()
        .map(|(source, ok)| ThresholdResult {
            source: Arc::from(*source),
            ok: *ok,
        })
        .collect();
    metric.tainted = Some(verdicts.iter().any(|(_, ok)| !ok));
    metric
}

pub(super) fn counter(count: f64, run_seconds: f64) -> Values {
    Values::Counter {
        count,
        rate: count / run_seconds,
    }
}

#[expect(clippy::cast_precision_loss, reason = "a few samples")]
pub(super) fn rate(passes: u64, fails: u64) -> Values {
    Values::Rate {
        rate: passes as f64 / (passes + fails).max(1) as f64,
        passes,
        fails,
    }
}

pub(super) fn trend(values: &[f64]) -> Values {
    let mut sink = TrendSink::new();
    for value in values {
        sink.add(*value);
    }
    Values::Trend(Arc::new(sink))
}

/// A check in the group of that path.
pub(super) fn check(group: &str, name: &str, passes: u64, fails: u64) -> Check {
    Check {
        name: name.to_owned(),
        path: format!("{group}::{name}"),
        passes,
        fails,
    }
}

/// The run of the first captured example: all metric types, thresholds that hold and that do not.
pub(super) fn captured() -> Snapshot {
    use ValueType::{Data, Default, Time};
    let seconds = 0.010_606_269;
    let duration = || trend(&[0.093_112, 0.282_748, 0.4, 0.785_03, 1.430_5, 1.990_5]);
    let mut snapshot = snapshot(
        seconds,
        vec![
            metric("checks", Default, rate(10, 2)),
            metric(
                "my_trend",
                Time,
                trend(&[
                    12.345,
                    12.345,
                    12.345,
                    3_661_200.0,
                    3_661_200.0,
                    3_661_200.0,
                ]),
            ),
            metric("plain_trend", Default, trend(&[1_234.567_89; 6])),
            judged(
                metric("my_rate", Default, rate(2, 4)),
                &[("rate>0.9", false)],
            ),
            metric(
                "my_gauge",
                Default,
                Values::Gauge {
                    value: 3.0,
                    min: 1.0,
                    max: 3.0,
                },
            ),
            metric("my_counter", Default, counter(9.0, seconds)),
            judged(
                metric("http_reqs", Default, counter(6.0, seconds)),
                &[("count>5", true), ("rate>1", true)],
            ),
            judged(
                metric("http_req_duration", Time, duration()),
                &[
                    ("p(95)<500", true),
                    (" p(99.9)<600 ", true),
                    ("avg<0.0001", false),
                ],
            ),
            judged(
                metric("http_req_duration{name:home}", Time, duration()),
                &[("max<1000", true)],
            ),
            metric(
                "http_req_duration{expected_response:true}",
                Time,
                duration(),
            ),
            metric("http_req_waiting", Time, duration()),
            metric("http_req_failed", Default, rate(0, 6)),
            metric("data_sent", Data, counter(420.0, seconds)),
            metric("data_received", Data, counter(1_100.0, seconds)),
            metric("group_duration", Time, duration()),
            metric(
                "iteration_duration",
                Time,
                trend(&[0.195_712, 0.438_738, 0.5, 1.064_55, 4.04, 8.731]),
            ),
            metric("iterations", Default, counter(6.0, seconds)),
        ],
    );
    snapshot.checks = vec![
        check("", "status is 200", 6, 0),
        check("", "sometimes", 4, 2),
    ];
    snapshot.root_group.checks = snapshot.checks.clone();
    snapshot
}
