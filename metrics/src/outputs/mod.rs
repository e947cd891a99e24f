//! Outputs: where samples go while the run goes on.
//!
//! An [`Output`] is handed every batch and must never make the caller wait: it keeps a
//! bounded queue, drops and counts what does not fit, and says at the end what was lost.
//! Prometheus is not one of them, because it is asked instead of told: see [`prometheus`].

mod client;
mod csv;
pub mod exposition;
mod file;
#[cfg(test)]
mod fixture;
mod influxdb;
mod json;
pub(crate) mod native;
mod opentelemetry;
#[cfg(test)]
mod otlp;
pub mod prometheus;
mod proto;
mod push;
#[cfg(test)]
mod receiver;
mod remote_write;
mod settings;

use std::{
    collections::{BTreeMap, BTreeSet},
    fmt,
    sync::Arc,
};

use serde_json::{Map, Value};

use crate::{Batch, Definitions, Registry, TagTable};

/// Somewhere that samples are sent to.
pub trait Output: Send {
    /// What the run's header calls it, for example `json (points.json)`.
    fn describe(&self) -> String;

    /// Whether it needs every sample, so that recorders keep them.
    fn wants_raw(&self) -> bool;

    /// Takes a batch without waiting.
    fn add(&mut self, batch: &Batch);

    /// Says that nothing more comes, without waiting: outputs that end at the same time take as
    /// long as the slowest of them. Further batches are ignored.
    fn close(&mut self);

    /// Writes what is still queued and ends, in bounded time where it writes to another machine.
    ///
    /// # Errors
    /// A text that says what was lost, and why.
    fn finish(&mut self) -> Result<(), String>;
}

/// What an output needs to know of the run and of the world.
#[derive(Debug, Clone)]
pub struct OutputContext {
    /// The metrics.
    pub registry: Arc<Registry>,
    /// The tag sets.
    pub tags: Arc<TagTable>,
    /// Thresholds and sub-metrics by metric.
    pub definitions: Arc<Definitions>,
    /// The names of the system tags that are on.
    pub system_tags: Arc<BTreeSet<String>>,
    /// The environment, where most settings of outputs come from.
    pub env: Arc<BTreeMap<String, String>>,
    /// What the config file says of outputs, by their type.
    pub collectors: Arc<Map<String, Value>>,
    /// Whether trends go to Prometheus as native histograms.
    pub native_histograms: bool,
    /// Where to say what happens while the run goes on.
    pub log: OutputLog,
}

impl OutputContext {
    /// A context without system tags, environment, settings and anybody to listen.
    pub fn new(
        registry: Arc<Registry>,
        tags: Arc<TagTable>,
        definitions: Arc<Definitions>,
    ) -> Self {
        Self {
            registry,
            tags,
            definitions,
            system_tags: Arc::default(),
            env: Arc::default(),
            collectors: Arc::default(),
            native_histograms: false,
            log: OutputLog::new(|_, _, _| {}),
        }
    }
}

/// How much what an output says matters.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Severity {
    /// Something that the user may want to do otherwise.
    Warning,
    /// Something that went wrong.
    Error,
}

type Say = dyn Fn(Severity, &str, &[(&str, &str)]) + Send + Sync;

/// The log as outputs know it: a message, and fields by their names.
#[derive(Clone)]
pub struct OutputLog(Arc<Say>);

impl OutputLog {
    /// A log that hands everything to `say`, from whichever thread.
    pub fn new(say: impl Fn(Severity, &str, &[(&str, &str)]) + Send + Sync + 'static) -> Self {
        Self(Arc::new(say))
    }

    pub(crate) fn say(&self, severity: Severity, message: &str, fields: &[(&str, &str)]) {
        (self.0)(severity, message, fields);
    }
}

impl fmt::Debug for OutputLog {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("OutputLog")
    }
}

/// Opens an output with the text after the `=` of `--out`; the error is why it could not be opened.
pub type Open = fn(&str, OutputContext) -> Result<Box<dyn Output>, String>;

/// A kind of output.
#[derive(Debug)]
pub struct OutputKind {
    /// The name before the `=` of `--out`.
    pub name: &'static str,
    /// Opens one.
    pub open: Open,
}

/// Every output that is told about samples.
pub const OUTPUTS: &[OutputKind] = &[
    csv::KIND,
    opentelemetry::OLD_KIND,
    remote_write::KIND,
    influxdb::KIND,
    json::KIND,
    opentelemetry::KIND,
];
