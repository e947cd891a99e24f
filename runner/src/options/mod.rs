//! The options of a test: read from four places, merged in one, and turned into scenarios.
//!
//! A layer is an [`Options`] whose unset fields are `None`. [`merge`] is the one place that knows
//! which layer wins; [`resolve`] turns the merged options into checked [`Scenario`]s and this
//! instance's segment, and is the one place that knows what is wrong with them. The rest of the
//! program sees a [`Resolved`].

mod config;
mod env;
mod fields;
mod kinds;
mod plan;
mod ramping;
mod scenario;
mod shortcuts;
mod table;
mod values;

use std::fmt;

pub(crate) use config::ConfigFile;
pub(crate) use env::from_env;
use fields::Fields;
#[cfg(test)]
pub(crate) use fields::decode;
pub(crate) use kinds::{
    ConstantArrivalRate, ExternallyControlled, RampingArrivalRate, ScenarioKind,
};
pub(crate) use plan::{Plan, Step};
pub(crate) use scenario::Scenario;
#[cfg(test)]
pub(crate) use scenario::Scenarios;
pub(crate) use table::{Options, View};
pub(crate) use values::{
    Cidr, Dns, HostPatterns, IpRange, Stage, SystemTags, TlsAuth, TrendStats, parse_int,
};

use crate::{
    duration::GoDuration,
    segment::{Segment, Tuple},
};

pub(crate) use crate::exit::code::{CONFIG as INVALID_CONFIG, OTHER as USAGE};

/// Why the options cannot be used.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct OptionError {
    /// The text for the user, complete.
    pub(crate) text: String,
    /// The exit code: [`INVALID_CONFIG`] or [`USAGE`].
    pub(crate) exit: u8,
}

impl OptionError {
    /// Options that cannot be used.
    pub(crate) fn config(text: impl Into<String>) -> Self {
        Self {
            text: text.into(),
            exit: INVALID_CONFIG,
        }
    }

    /// A command line that cannot be used.
    pub(crate) fn usage(text: impl Into<String>) -> Self {
        Self {
            text: text.into(),
            exit: USAGE,
        }
    }
}

impl fmt::Display for OptionError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)
    }
}

impl std::error::Error for OptionError {}

/// Something the user should know although the run goes on: a log line at level warning.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Warning {
    /// The message.
    pub(crate) msg: String,
    /// Its fields, `error="…"` for example.
    pub(crate) fields: Vec<(String, String)>,
}

impl Warning {
    /// A message without fields.
    pub(crate) fn new(msg: impl Into<String>) -> Self {
        Self {
            msg: msg.into(),
            fields: Vec::new(),
        }
    }

    /// The same with a field.
    pub(crate) fn with(mut self, name: &str, value: impl Into<String>) -> Self {
        self.fields.push((name.to_owned(), value.into()));
        self
    }
}

/// The layers that options come from, the weakest first.
#[derive(Debug, Clone, Default)]
pub(crate) struct Layers {
    /// The config file.
    pub(crate) file: Options,
    /// The script's `options`, or those an archive stores.
    pub(crate) script: Options,
    /// `K6_` variables.
    pub(crate) env: Options,
    /// Flags.
    pub(crate) cli: Options,
    /// Whether `tags` are merged key by key instead of replaced (feature `merge-run-tags`).
    pub(crate) merge_tags: bool,
}

/// Merges the layers: config file, then script, then environment, then flags; what is set in a
/// later one wins.
///
/// - `duration`, `iterations`, `stages` and `scenarios` say the same thing in four ways: a layer
///   that sets any of them clears all four of the weaker layers, and `vus` survives. When that
///   clears scenarios, a warning says so. Two of the four in one layer stay, and conflict later.
/// - Maps and lists are replaced as a whole. Only `dns` is layered part by part.
/// - An empty `tags` replaces nothing.
/// - What nobody set stays unset, except the two that are shown filled everywhere:
///   `summaryTrendStats` and `systemTags`.
pub(crate) fn merge(layers: Layers) -> (Options, Vec<Warning>) {
    let mut merged = layers.file;
    let mut warnings = Vec::new();
    for (name, mut layer) in [
        ("script", layers.script),
        ("env", layers.env),
        ("cli", layers.cli),
    ] {
        let says_how_to_run = layer.duration.is_some()
            || layer.iterations.is_some()
            || layer.stages.is_some()
            || layer.scenarios.is_some();
        if says_how_to_run {
            if merged.scenarios.is_some() {
                warnings.push(Warning::new(format!(
                    "\"{name}\" level configuration overrode scenarios configuration entirely"
                )));
            }
            merged.duration = None;
            merged.iterations = None;
            merged.stages = None;
            merged.scenarios = None;
        }
        if let Some(stronger) = layer.dns.take() {
            merged.dns.get_or_insert_default().overlay(stronger);
        }
        if layer.tags.as_ref().is_some_and(|tags| tags.is_empty()) {
            layer.tags = None;
        }
        if layers.merge_tags
            && let Some(stronger) = layer.tags.take()
        {
            merged.tags.get_or_insert_default().extend(stronger);
        }
        merged.overlay(layer);
    }
    merged.summary_trend_stats.get_or_insert_default();
    merged.system_tags.get_or_insert_default();
    (merged, warnings)
}

/// Options that can be run.
#[derive(Debug, Clone)]
pub(crate) struct Resolved {
    /// What was merged, as the user said it: shortcuts are still shortcuts.
    pub(crate) options: Options,
    /// What is run, sorted by start time, then by name.
    pub(crate) scenarios: Vec<Scenario>,
    /// This instance's part of the load.
    pub(crate) tuple: Tuple,
    /// What the user should know.
    pub(crate) warnings: Vec<Warning>,
}

impl Resolved {
    /// The VUs the run needs over time, on this instance.
    pub(crate) fn plan(&self) -> Plan {
        Plan::new(&self.scenarios, &self.tuple)
    }

    /// What scripts see as `exec.test.options`.
    pub(crate) fn script_json(&self) -> serde_json::Value {
        self.options.to_json(View::Script(&self.scenarios))
    }
}

/// Derives the scenarios from merged options and checks everything that can be checked before the
/// run. `exported` tells whether the script exports a function of that name.
///
/// # Errors
/// Shortcuts that exclude each other and unusable values of single options have their own texts;
/// all problems of the execution are gathered into one text, one line each.
pub(crate) fn resolve(
    options: Options,
    exported: &dyn Fn(&str) -> bool,
) -> Result<Resolved, OptionError> {
    if let Some(stats) = &options.summary_trend_stats {
        stats.check().map_err(OptionError::usage)?;
    }
    if let Some(dns) = &options.dns {
        dns.check_ttl().map_err(OptionError::config)?;
    }
    let (scenarios, warnings) = shortcuts::derive(&options)?;
    let mut problems = Vec::new();
    let tuple = check_segment(&options).map_err(|problem| problems.push(problem));
    for (key, timeout) in [
        ("setupTimeout", options.setup_timeout),
        ("teardownTimeout", options.teardown_timeout),
    ] {
        if timeout.is_some_and(|timeout| timeout <= GoDuration::ZERO) {
            problems.push(format!("{key} must be positive"));
        }
    }
    for scenario in scenarios.values() {
        let wrong = scenario.problems();
        if !wrong.is_empty() {
            problems.push(format!(
                "scenario {} has configuration errors: {}",
                scenario.name,
                wrong.join(", ")
            ));
        }
    }
    for scenario in scenarios.values() {
        // An exec that is empty has been complained about above.
        if !scenario.exec().is_empty() && !exported(scenario.exec()) {
            problems.push(format!(
                "executor {}: function '{}' not found in exports",
                scenario.name,
                scenario.exec()
            ));
        }
    }
    let mut scenarios: Vec<Scenario> = scenarios.into_values().collect();
    // They come sorted by name, and the sort is stable.
    scenarios.sort_by_key(Scenario::start_time);
    match tuple {
        Ok(tuple) if problems.is_empty() => Ok(Resolved {
            options,
            scenarios,
            tuple,
            warnings,
        }),
        _ => {
            let mut text =
                "There were problems with the specified script configuration:".to_owned();
            for problem in problems {
                text.push_str("\n\t- ");
                text.push_str(&problem);
            }
            Err(OptionError::config(text))
        }
    }
}

fn check_segment(options: &Options) -> Result<Tuple, String> {
    let segment = options.execution_segment.as_ref();
    let sequence = options
        .execution_segment_sequence
        .as_ref()
        .filter(|sequence| !sequence.is_empty());
    if let Some(sequence) = sequence {
        let segment = segment.unwrap_or(&Segment::WHOLE);
        if !sequence.contains(segment) {
            return Err(format!(
                "provided segment {segment} can't be found in sequence {sequence}"
            ));
        }
    }
    Tuple::new(segment, sequence)
}

#[cfg(test)]
mod tests;
