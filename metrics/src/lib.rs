//! What a run measured: names, tags, samples, aggregates, thresholds and outputs.
//!
//! A leaf of the workspace: it knows no script, no scenario and no clock. Time arrives with
//! each sample and each tick; only the threads of outputs have a timer of their own.
//!
//! The way of a sample: a worker's [`Recorder`] adds it to the cell of its series, the tick
//! drains the recorder into a [`Batch`], the [`Collector`] folds the batch into sinks, and
//! thresholds, [`Snapshot`], `/metrics` and [`outputs`] read from there.

mod breakdown;
mod collector;
mod format;
mod groups;
mod histogram;
pub mod outputs;
mod recorder;
mod registry;
mod series;
mod sink;
mod snapshot;
mod tags;
mod thresholds;

pub use collector::{Collector, CollectorConfig, Verdict};
pub use outputs::{
    Output, OutputContext, OutputLog, Severity,
    exposition::{Bounds, Exposition, FamilyKind, Labels, PageFormat},
    prometheus::{Linger, PrometheusOptions, SeriesOptions},
};
pub use recorder::{Batch, Metadata, Recorder, Sample};
pub use registry::{MetricId, MetricInfo, MetricKind, RegisterError, Registry, ValueType, builtin};
pub use series::TrendForms;
pub use sink::TrendSink;
pub use snapshot::{
    Breakdown, Check, Group, MetricSnapshot, Part, Snapshot, ThresholdResult, Values,
};
pub use tags::{TagCache, TagSet, TagSetId, TagTable};
pub use thresholds::{Definitions, ThresholdError, ThresholdSpec, Thresholds};
