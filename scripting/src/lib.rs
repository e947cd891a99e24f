//! Scripts and the VUs that run them: the only crate that knows the JavaScript engine.
//!
//! A [`Script`] is loaded once per process; each [`Vu`] runs it in a heap of its own, on a
//! coroutine that its worker thread polls like any other future. What scripts may ask of the run
//! is the trait [`Host`]; what they measure goes into the worker's recorder.
//!
//! Scripting never decides when an iteration starts, and nobody outside touches a JS value.

mod binary;
mod class;
mod engine;
mod error;
mod event_loop;
mod file_wait;
#[cfg(feature = "fuzzing")]
#[doc(hidden)]
pub mod fuzzing;
mod globals;
mod graph;
#[cfg(test)]
mod harness;
mod host;
mod host_object;
mod json;
mod live_map;
mod loader;
mod modules;
mod offload;
mod promise;
mod remote;
mod script;
mod state;
mod survey;
mod vu;

pub use engine::{Stopped, WorkerSlot, prepare_process};
pub use error::ScriptError;
pub use file_wait::FileWait;
pub use host::{Host, InstanceInfo, Level, Scenario, SecretAnswer};
pub use loader::{FileError, Files, escape, folder_of, join, not_found_text, unescape};
pub use remote::fetch_script;
pub use script::{Exports, Script, ScriptSource};
pub use state::{SystemTags, VuSettings, WorkerContext};
pub use survey::{ImportAdvice, Survey, import_advice, survey};
pub use vu::{Activation, IterationEnd, Lifecycle, Stopper, SummaryEntry, SummaryResult, Vu};
