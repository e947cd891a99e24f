//! What a merged state looks like to those who read it: the summary, the REST API, `handleSummary`.
//!
//! Plain data, computed once per reading by [`crate::Collector::snapshot`]; nothing here changes a sink.

use std::sync::Arc;

use crate::{MetricKind, ValueType, sink::TrendSink};

/// Everything observed so far, at one instant.
#[derive(Debug, Clone)]
pub struct Snapshot {
    /// Observed metrics and sub-metrics, in the order in which they were first seen;
    /// metrics that have a threshold are there with zero values even without a sample.
    pub metrics: Vec<MetricSnapshot>,
    /// The tree of groups with their checks; the root has an empty name and path.
    pub root_group: Group,
    /// All checks in the order in which they were first seen, one entry for each name whatever
    /// its group; the path is that of the first.
    pub checks: Vec<Check>,
    /// The run clock, in seconds: what rates were divided by.
    pub run_seconds: f64,
}

impl Snapshot {
    /// The metric or sub-metric of that display name.
    pub fn metric(&self, name: &str) -> Option<&MetricSnapshot> {
        self.metrics.iter().find(|metric| &*metric.name == name)
    }
}

/// One metric or sub-metric.
#[derive(Debug, Clone)]
pub struct MetricSnapshot {
    /// Display name: `http_reqs`, or `http_reqs{status:200}` for a sub-metric.
    pub name: Arc<str>,
    /// For a sub-metric the name of the metric it selects from, and the text between its braces.
    pub parent: Option<(Arc<str>, Arc<str>)>,
    /// What kind of sink it has.
    pub kind: MetricKind,
    /// What its values are.
    pub contains: ValueType,
    /// The aggregated values.
    pub values: Values,
    /// The thresholds defined on exactly this name, in the order of the options.
    pub thresholds: Vec<ThresholdResult>,
    /// Whether a threshold of it was crossed at the last evaluation; `None` before the first.
    pub tainted: Option<bool>,
}

/// One threshold and its last verdict.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ThresholdResult {
    /// The expression as written in the options.
    pub source: Arc<str>,
    /// Whether it held at the last evaluation.
    pub ok: bool,
}

/// The values of a sink. Times are milliseconds, data are bytes, rates of counters are per second.
#[derive(Debug, Clone)]
pub enum Values {
    /// Sum of the values, and that sum per second of the run clock (0 when the clock is 0).
    Counter {
        /// Sum of all values.
        count: f64,
        /// `count` per second.
        rate: f64,
    },
    /// The last, the smallest and the largest value.
    Gauge {
        /// Last value by arrival.
        value: f64,
        /// Smallest value.
        min: f64,
        /// Largest value.
        max: f64,
    },
    /// Share of the samples that were not zero.
    Rate {
        /// `passes / (passes + fails)`, 0 when there are none.
        rate: f64,
        /// Samples that were not zero.
        passes: u64,
        /// Samples that were zero.
        fails: u64,
    },
    /// A distribution; see [`TrendSink`] for its statistics.
    Trend(Arc<TrendSink>),
}

/// What was measured where; see [`crate::Collector::breakdown`].
#[derive(Debug, Clone, Default)]
pub struct Breakdown {
    /// Groups outside of scenarios with a name of their own, in the order in which they were
    /// first seen.
    pub groups: Vec<Part>,
    /// Scenarios not called `default`, by name.
    pub scenarios: Vec<Part>,
}

/// A scenario or a group, and what was measured there.
#[derive(Debug, Clone, Default)]
pub struct Part {
    /// Its name.
    pub name: String,
    /// The metrics, without sub-metrics: of a scenario from all of it, of a group from what
    /// happened directly in it.
    pub metrics: Vec<MetricSnapshot>,
    /// The checks behind the `checks` metric, in the order in which they were first seen.
    pub checks: Vec<Check>,
    /// The groups inside, in the order in which they were first seen.
    pub groups: Vec<Part>,
}

/// A group and what happened directly in it.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Group {
    /// The name given to `group()`; empty for the root.
    pub name: String,
    /// `::outer::inner`; empty for the root.
    pub path: String,
    /// Child groups, in the order in which they were first seen.
    pub groups: Vec<Group>,
    /// Checks made directly in this group, in the order in which they were first seen.
    pub checks: Vec<Check>,
}

/// A check and how often it held.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Check {
    /// The name given to `check()`.
    pub name: String,
    /// `<group path>::<name>`.
    pub path: String,
    /// How often it held.
    pub passes: u64,
    /// How often it did not.
    pub fails: u64,
}
