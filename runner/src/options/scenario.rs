//! A scenario: when an executor starts, what it runs and under which tags, beside the executor's
//! own settings. Here is what all executors have in common: strict decoding, the checks of the
//! common keys, the line of the run's header.

use std::collections::BTreeMap;

use serde_json::{Map, Value};

use super::{
    fields::{Bad, FieldValue, Fields, decode_strict, fields},
    kinds::{EXECUTORS, ScenarioKind},
    plan::Step,
};
use crate::{duration::GoDuration, segment::Tuple};

/// Scenarios by name.
pub(crate) type Scenarios = BTreeMap<String, Scenario>;

/// A named executor configuration. Unset keys stay unset: the methods know the defaults.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Scenario {
    /// Its key among the scenarios; `default` when a shortcut made it.
    pub(crate) name: String,
    /// Delay after the release of all executors.
    pub(crate) start_time: Option<GoDuration>,
    /// How long iterations may go on after the regular end.
    pub(crate) graceful_stop: Option<GoDuration>,
    /// Laid over `__ENV`.
    pub(crate) env: Option<BTreeMap<String, String>>,
    /// The exported function to run.
    pub(crate) exec: Option<String>,
    /// Laid over the run's tags.
    pub(crate) tags: Option<BTreeMap<String, String>>,
    /// `options.browser`, passed through.
    pub(crate) browser: Option<Value>,
    /// The executor and its settings.
    pub(crate) kind: ScenarioKind,
}

fields! {
    CommonFields {
        start_time: GoDuration = "startTime",
        graceful_stop: GoDuration = "gracefulStop",
        env: BTreeMap<String, String> = "env",
        exec: String = "exec",
        tags: BTreeMap<String, String> = "tags",
        options: Value = "options",
    }
}

fields! {
    ScenarioOptions {
        browser: Value = "browser",
    }
}

const DEFAULT_GRACEFUL_STOP: GoDuration = GoDuration::from_secs(30);

impl Scenario {
    /// A scenario with nothing but its executor set.
    pub(crate) fn new(name: &str, kind: ScenarioKind) -> Self {
        Self {
            name: name.to_owned(),
            start_time: None,
            graceful_stop: None,
            env: None,
            exec: None,
            tags: None,
            browser: None,
            kind,
        }
    }

    /// When the executor starts, counted from the release of all executors; default at once.
    pub(crate) fn start_time(&self) -> GoDuration {
        self.start_time.unwrap_or(GoDuration::ZERO)
    }

    /// How long iterations may go on after the regular end; default 30 s.
    pub(crate) fn graceful_stop(&self) -> GoDuration {
        let default = match self.kind {
            // Its VUs are interrupted when it ends.
            ScenarioKind::ExternallyControlled(_) => GoDuration::ZERO,
            _ => DEFAULT_GRACEFUL_STOP,
        };
        self.graceful_stop.unwrap_or(default)
    }

    /// The exported function to run; default `default`.
    pub(crate) fn exec(&self) -> &str {
        self.exec.as_deref().unwrap_or("default")
    }

    /// The executor's name, `constant-vus` for example.
    pub(crate) fn executor(&self) -> &'static str {
        self.kind.name()
    }

    /// Reads one scenario; every key must be known.
    fn decode(name: &str, value: &Value) -> Result<Self, Bad> {
        let empty = Map::new();
        let object = match value {
            Value::Null => &empty,
            value => value
                .as_object()
                .ok_or_else(|| Bad::type_of(value, "scenario"))?,
        };
        let executor = match object.get("executor") {
            None | Some(Value::Null) => "",
            Some(Value::String(executor)) => executor,
            Some(other) => return Err(Bad::type_of(other, "string")),
        };
        if executor.is_empty() {
            return Err(Bad::Value(format!(
                "scenario '{name}' doesn't have a specified executor type"
            )));
        }
        let (_, unset) = EXECUTORS
            .iter()
            .find(|(known, _)| *known == executor)
            .ok_or_else(|| Bad::Value(format!("unknown executor type '{executor}'")))?;
        let mut kind = unset();
        let mut common = CommonFields::default();
        for (key, value) in object {
            let known = key == "executor"
                || common.set(key, value)?
                || kind.config_mut().set(key, value)?;
            if !known {
                return Err(Bad::unknown_field(key));
            }
        }
        let mut options = ScenarioOptions::default();
        if let Some(value) = &common.options {
            decode_strict(&mut options, value)?;
        }
        Ok(Self {
            name: name.to_owned(),
            start_time: common.start_time,
            graceful_stop: common.graceful_stop,
            env: common.env,
            exec: common.exec,
            tags: common.tags,
            browser: options.browser,
            kind,
        })
    }

    /// All keys of the executor, the unset ones null.
    pub(super) fn encode(&self) -> Value {
        let mut object = Map::new();
        object.insert("executor".to_owned(), self.executor().into());
        CommonFields {
            start_time: self.start_time,
            graceful_stop: self.graceful_stop,
            env: self.env.clone(),
            exec: self.exec.clone(),
            tags: self.tags.clone(),
            options: None,
        }
        .encode_into(&mut object);
        object.shift_remove("options");
        if let Some(browser) = &self.browser {
            let options = [("browser".to_owned(), browser.clone())];
            object.insert(
                "options".to_owned(),
                Value::Object(options.into_iter().collect()),
            );
        }
        self.kind.config().encode_into(&mut object);
        Value::Object(object)
    }

    /// Everything that is wrong with it, common keys first, in the order users know.
    pub(crate) fn problems(&self) -> Vec<String> {
        let mut problems = Vec::new();
        let valid = |c: char| c.is_ascii_alphanumeric() || c == '_' || c == '-';
        if self.name.is_empty() {
            problems.push("scenario name can't be empty".to_owned());
        }
        // An empty name fails the pattern as well.
        if self.name.is_empty() || !self.name.chars().all(valid) {
            problems.push(
                "the scenario name should contain only numbers, latin letters, underscores, \
                 and dashes"
                    .to_owned(),
            );
        }
        if self.exec.as_deref() == Some("") {
            problems.push("exec value cannot be empty".to_owned());
        }
        if self.start_time() < GoDuration::ZERO {
            problems.push("the startTime can't be negative".to_owned());
        }
        if self.graceful_stop() < GoDuration::ZERO {
            problems.push("the gracefulStop timeout can't be negative".to_owned());
        }
        if self.graceful_stop.is_some()
            && matches!(self.kind, ScenarioKind::ExternallyControlled(_))
        {
            problems.push(
                "gracefulStop is not supported by the externally controlled executor".to_owned(),
            );
        }
        self.kind.config().check(&mut problems);
        problems
    }

    /// The VUs it needs over time, from its own start, for this instance.
    pub(crate) fn requirements(&self, tuple: &Tuple) -> Vec<Step> {
        self.kind.config().requirements(tuple, self.graceful_stop())
    }

    /// When it starts no more iterations, from its own start.
    pub(crate) fn regular_end(&self) -> GoDuration {
        match &self.kind {
            ScenarioKind::SharedIterations(config) => config.max_duration(),
            ScenarioKind::PerVuIterations(config) => config.max_duration(),
            ScenarioKind::ConstantVus(config) => config.duration(),
            ScenarioKind::RampingVus(config) => config.length(),
            ScenarioKind::ConstantArrivalRate(config) => config.duration(),
            ScenarioKind::RampingArrivalRate(config) => config.length(),
            ScenarioKind::ExternallyControlled(config) => {
                config.duration().unwrap_or(GoDuration(i64::MAX))
            }
        }
    }

    /// Whether this instance has anything to do for it.
    pub(crate) fn has_work(&self, tuple: &Tuple) -> bool {
        self.kind.config().has_work(tuple)
    }

    /// Its line in the run's header, without the name:
    /// `10 looping VUs for 30s (gracefulStop: 30s)`.
    pub(crate) fn description(&self, tuple: &Tuple) -> String {
        let (text, extra) = self.kind.config().describe(tuple);
        let mut details: Vec<String> = extra.into_iter().collect();
        if let Some(exec) = &self.exec {
            details.push(format!("exec: {exec}"));
        }
        if self.start_time() > GoDuration::ZERO {
            details.push(format!("startTime: {}", self.start_time()));
        }
        if self.graceful_stop() > GoDuration::ZERO {
            details.push(format!("gracefulStop: {}", self.graceful_stop()));
        }
        if details.is_empty() {
            text
        } else {
            format!("{text} ({})", details.join(", "))
        }
    }
}

impl FieldValue for Scenarios {
    fn decode(value: &Value) -> Result<Option<Self>, Bad> {
        let object = value
            .as_object()
            .ok_or_else(|| Bad::type_of(value, "scenarios"))?;
        object
            .iter()
            .map(|(name, value)| Ok((name.clone(), Scenario::decode(name, value)?)))
            .collect::<Result<_, _>>()
            .map(Some)
    }

    fn encode(&self) -> Value {
        self.iter()
            .map(|(name, scenario)| (name.clone(), scenario.encode()))
            .collect()
    }
}
