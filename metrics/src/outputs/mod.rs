//! Outputs: where samples go while the run goes on.
//!
//! An [`Output`] is handed every batch and must never make the caller wait: it keeps a
//! bounded queue, drops and counts what does not fit, and says at the end what was lost.
//! Prometheus is not one of them, because it is asked instead of told: see [`prometheus`].

pub mod json;
pub mod prometheus;

use std::sync::Arc;

use crate::{Batch, Definitions, Registry, TagTable};

/// Somewhere that samples are sent to.
pub trait Output: Send {
    /// What the run's header calls it, for example `json (points.json)`.
    fn describe(&self) -> String;

    /// Whether it needs every sample, so that recorders keep them.
    fn wants_raw(&self) -> bool;

    /// Takes a batch without waiting.
    fn add(&mut self, batch: &Batch);

    /// Writes what is still queued and ends; further batches are ignored.
    ///
    /// # Errors
    /// A text that says what was lost, and why.
    fn finish(&mut self) -> Result<(), String>;
}

/// What an output needs to know of the run.
#[derive(Debug, Clone)]
pub struct OutputContext {
    /// The metrics.
    pub registry: Arc<Registry>,
    /// The tag sets.
    pub tags: Arc<TagTable>,
    /// Thresholds and sub-metrics by metric.
    pub definitions: Arc<Definitions>,
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
pub const OUTPUTS: &[OutputKind] = &[json::KIND];
