//! What a script may ask of the run around it: the runner implements [`Host`], the crate calls it.

use std::{future::Future, pin::Pin, sync::Arc};

/// A secret on its way, or the text that says why there is none.
pub type SecretAnswer = Pin<Box<dyn Future<Output = Result<String, String>>>>;

/// How loud a log line is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Level {
    /// Only with verbose logging.
    Debug,
    /// Normal.
    Info,
    /// Something is off, the run goes on.
    Warning,
    /// Something failed.
    Error,
}

/// Counters of this instance, as `exec.instance` shows them.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
pub struct InstanceInfo {
    /// Iterations that were not interrupted, over all scenarios.
    pub iterations_completed: u64,
    /// Interrupted iterations.
    pub iterations_interrupted: u64,
    /// VUs that serve a scenario now.
    pub vus_active: u64,
    /// VUs made so far.
    pub vus_initialized: u64,
    /// Milliseconds on the run clock, 0 before the start.
    pub run_ms: f64,
}

/// The run, seen from a script.
pub trait Host: Send + Sync {
    /// Writes a log line with these fields.
    fn log(&self, level: Level, message: &str, fields: &[(&str, &str)]);
    /// `exec.test.abort()`: ends the test. The text is complete, position included.
    fn abort(&self, text: String);
    /// `exec.test.fail()`: the run goes on and fails at its end.
    fn mark_failed(&self);
    /// The counters of this instance.
    fn instance(&self) -> InstanceInfo;
    /// The consolidated options as JSON; `None` before they are known.
    fn options(&self) -> Option<Arc<str>>;
    /// The secret `key` of the source of that name, or of the default one. The future is polled
    /// on the worker of the VU that asks.
    fn secret(&self, source: Option<&str>, key: &str) -> SecretAnswer;
}

/// The scenario that a VU serves, as `exec.scenario` shows it.
pub trait Scenario: Send + Sync {
    /// Its name in the options.
    fn name(&self) -> &str;
    /// Its executor, for example `constant-vus`.
    fn executor(&self) -> &str;
    /// When it started, in milliseconds since the epoch.
    fn start_unix_ms(&self) -> i64;
    /// How far it is, 0 to 1.
    fn progress(&self) -> f64;
}
