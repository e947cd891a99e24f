//! Thresholds: parsed while the options are, validated once the script has named its
//! metrics, judged by the collector at every tick.
//!
//! The collector owns the sinks; what is here turns the `thresholds` option into the list
//! of metrics and sub-metrics that must exist, and says whether a sink's values pass.

mod grammar;

use std::{sync::Arc, time::Duration};

use rustc_hash::FxHashMap;

use crate::{
    MetricId, Registry,
    format::{go_duration, push_json_string},
    sink::Sink,
};
use grammar::{Expression, Key, Method, supported};

/// One threshold as the options give it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ThresholdSpec {
    /// The expression, for example `p(95)<200`.
    pub source: String,
    /// Whether crossing it ends the run at once.
    pub abort_on_fail: bool,
    /// How long the run must have gone on before it may be ended.
    pub delay_abort_eval: Option<Duration>,
}

impl ThresholdSpec {
    /// The form that the options use: a string, or an object if it may abort. As in the
    /// reference, a delay without an abort to delay is lost.
    pub(crate) fn push_json(&self, out: &mut String) {
        if !self.abort_on_fail {
            return push_json_string(out, &self.source);
        }
        out.push_str("{\"threshold\":");
        push_json_string(out, &self.source);
        out.push_str(",\"abortOnFail\":true,\"delayAbortEval\":");
        match self.delay_abort_eval {
            None => out.push_str("null"),
            Some(delay) => push_json_string(out, &go_duration(delay)),
        }
        out.push('}');
    }
}

/// Why the thresholds cannot be used; the text is the reference's, whole.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ThresholdError {
    /// An expression or a key breaks the grammar.
    #[error("{0}")]
    Malformed(String),
    /// No such metric exists.
    #[error("invalid threshold defined on {key}; reason: no metric name \"{key}\" found")]
    UnknownMetric {
        /// The key of the option, as written.
        key: String,
    },
    /// The metric's kind does not have what the expression reads.
    #[error(
        "invalid threshold {source_text:?} applied on metric {key}; reason: unsupported aggregation \
         method {method} on metric of type {kind}. supported aggregation methods for this metric are: {supported}"
    )]
    UnsupportedMethod {
        /// The expression, as written.
        source_text: String,
        /// The key of the option, as written.
        key: String,
        /// The method it asks for.
        method: &'static str,
        /// The kind of the metric.
        kind: &'static str,
        /// What that kind has.
        supported: &'static str,
    },
}

/// A threshold ready to be judged.
#[derive(Debug, Clone)]
pub(crate) struct Threshold {
    pub(crate) spec: ThresholdSpec,
    expression: Expression,
}

impl Threshold {
    /// Whether the sink's values pass. What has no value yet passes.
    pub(crate) fn holds(&self, sink: &Sink, run: Duration) -> bool {
        value_of(self.expression.method, sink, run).is_none_or(|value| self.expression.holds(value))
    }

    /// Whether its failure ends a run that has gone on for `run`.
    pub(crate) fn aborts(&self, run: Duration) -> bool {
        self.spec.abort_on_fail && self.spec.delay_abort_eval.is_none_or(|delay| delay < run)
    }
}

/// What an expression sees: nothing for an empty rate, or a counter's rate at clock 0.
fn value_of(method: Method, sink: &Sink, run: Duration) -> Option<f64> {
    match (sink, method) {
        (Sink::Counter { sum, .. }, Method::Rate) => {
            (!run.is_zero()).then(|| sum / run.as_secs_f64())
        }
        (Sink::Counter { sum, .. }, _) => Some(*sum),
        (Sink::Gauge { last, .. }, _) => Some(*last),
        (Sink::Rate { total: 0, .. }, _) => None,
        (&Sink::Rate { trues, total }, _) => Some(trues as f64 / total as f64),
        (Sink::Trend(trend), method) => Some(match method {
            Method::Avg => trend.avg(),
            Method::Min => trend.min(),
            Method::Max => trend.max(),
            Method::Med => trend.med(),
            Method::Percentile(q) => trend.percentile(q),
            // Validation lets no other method near a trend.
            Method::Value | Method::Count | Method::Rate => return None,
        }),
    }
}

/// The `thresholds` option: which expressions stand on which metric or sub-metric.
#[derive(Debug, Clone, Default)]
pub struct Thresholds {
    definitions: Vec<Definition>,
}

#[derive(Debug, Clone)]
struct Definition {
    key: String,
    /// Parsed, or the error text that validation will give.
    parsed: Result<Key, String>,
    thresholds: Vec<Threshold>,
    /// Whether the metric is shown although it has no sample.
    observed: bool,
}

impl Thresholds {
    /// No thresholds.
    pub fn none() -> Self {
        Self::default()
    }

    /// Parses the expressions of each key; the keys themselves are checked by
    /// [`Thresholds::validate`], when the metrics exist.
    ///
    /// # Errors
    /// The first expression that breaks the grammar.
    pub fn parse(list: &[(String, Vec<ThresholdSpec>)]) -> Result<Self, ThresholdError> {
        let definition = |(key, specs): &(String, Vec<ThresholdSpec>)| {
            let parse = |spec: &ThresholdSpec| {
                let expression =
                    Expression::parse(&spec.source).map_err(ThresholdError::Malformed)?;
                Ok(Threshold {
                    spec: spec.clone(),
                    expression,
                })
            };
            let thresholds = specs.iter().map(parse).collect::<Result<_, _>>()?;
            Ok(Definition {
                key: key.clone(),
                parsed: Key::parse(key),
                thresholds,
                observed: true,
            })
        };
        Ok(Self {
            definitions: list.iter().map(definition).collect::<Result<_, _>>()?,
        })
    }

    /// For `--no-thresholds`: the sub-metrics of these keys, nothing to judge, and a warning
    /// for each key that names no metric.
    pub fn submetrics_only<S: AsRef<str>>(keys: &[S], registry: &Registry) -> (Self, Vec<String>) {
        let mut thresholds = Self::none();
        let mut warnings = Vec::new();
        for key in keys {
            let key = key.as_ref().to_owned();
            let parsed = Key::parse(&key);
            if !parsed
                .as_ref()
                .is_ok_and(|parsed| registry.lookup(&parsed.base).is_some())
            {
                warnings.push(format!("Invalid metric '{key}' in threshold definitions"));
                continue;
            }
            let definition = Definition {
                key,
                parsed,
                thresholds: Vec::new(),
                observed: false,
            };
            thresholds.definitions.push(definition);
        }
        (thresholds, warnings)
    }

    /// Whether there is nothing to judge.
    pub fn is_empty(&self) -> bool {
        self.definitions
            .iter()
            .all(|definition| definition.thresholds.is_empty())
    }

    /// Checks every key and method against the metrics that exist after the script's init code.
    ///
    /// # Errors
    /// The first key that is malformed or names no metric, or expression that does not fit.
    pub fn validate(&self, registry: &Registry) -> Result<(), ThresholdError> {
        for definition in &self.definitions {
            let key = &definition.key;
            let parsed = definition
                .parsed
                .as_ref()
                .map_err(|text| ThresholdError::Malformed(text.clone()))?;
            let Some(metric) = registry.lookup(&parsed.base) else {
                return Err(ThresholdError::UnknownMetric { key: key.clone() });
            };
            let kind = registry.info(metric).kind;
            if let Some(threshold) = definition
                .thresholds
                .iter()
                .find(|threshold| !threshold.expression.method.fits(kind))
            {
                return Err(ThresholdError::UnsupportedMethod {
                    source_text: threshold.spec.source.clone(),
                    key: key.clone(),
                    method: threshold.expression.method.name(),
                    kind: kind.as_str(),
                    supported: supported(kind),
                });
            }
        }
        Ok(())
    }

    /// What the user should know: selectors on tags that no series has.
    pub fn warnings(&self) -> Vec<String> {
        let mut warnings = Vec::new();
        for definition in &self.definitions {
            let Ok(Key {
                selector: Some((_, tags)),
                ..
            }) = &definition.parsed
            else {
                continue;
            };
            for (tag, _) in tags.iter().filter(|(tag, _)| tag == "vu" || tag == "iter") {
                warnings.push(format!(
                    "The high-cardinality '{tag}' metric tag was made non-indexable in k6 v0.41.0, so \
                     thresholds like '{}' that are based on it won't work correctly.",
                    definition.key
                ));
            }
        }
        warnings
    }

    /// Every metric and sub-metric that must exist, in the order given: those of the
    /// thresholds, then `defaults`. Keys that name no metric are left out.
    pub(crate) fn plan(&self, registry: &Registry, defaults: &[String]) -> Vec<Planned> {
        let defaults = defaults.iter().map(|key| Definition {
            key: key.clone(),
            parsed: Key::parse(key),
            thresholds: Vec::new(),
            observed: false,
        });
        let mut plan: Vec<Planned> = Vec::new();
        for definition in self.definitions.iter().cloned().chain(defaults) {
            let Ok(key) = definition.parsed else { continue };
            let Some(metric) = registry.lookup(&key.base) else {
                continue;
            };
            let name: Arc<str> = key.display().into();
            let selector = key.selector.map(|(suffix, mut tags)| {
                tags.sort();
                tags.dedup();
                Selector {
                    suffix: suffix.into(),
                    tags,
                }
            });
            // Two spellings of the same tags are one sub-metric.
            let tags = |selector: &Option<Selector>| {
                selector.as_ref().map(|selector| selector.tags.clone())
            };
            let wanted = tags(&selector);
            match plan
                .iter_mut()
                .find(|known| known.metric == metric && tags(&known.selector) == wanted)
            {
                Some(known) => {
                    known.thresholds.extend(definition.thresholds);
                    known.observed |= definition.observed;
                }
                None => plan.push(Planned {
                    metric,
                    name,
                    selector,
                    thresholds: definition.thresholds,
                    observed: definition.observed,
                }),
            }
        }
        plan
    }
}

/// A metric or sub-metric that must exist from the start.
#[derive(Debug, Clone)]
pub(crate) struct Planned {
    pub(crate) metric: MetricId,
    pub(crate) name: Arc<str>,
    pub(crate) selector: Option<Selector>,
    pub(crate) thresholds: Vec<Threshold>,
    pub(crate) observed: bool,
}

/// Which series a sub-metric takes: those that have all these tags.
#[derive(Debug, Clone)]
pub(crate) struct Selector {
    pub(crate) suffix: Arc<str>,
    pub(crate) tags: Vec<(String, String)>,
}

/// What outputs may say about each metric beside its samples: thresholds and sub-metrics.
#[derive(Debug, Clone, Default)]
pub struct Definitions {
    by_metric: FxHashMap<MetricId, MetricDefinition>,
}

#[derive(Debug, Clone, Default)]
pub(crate) struct MetricDefinition {
    pub(crate) thresholds: Vec<ThresholdSpec>,
    pub(crate) submetrics: Vec<(Arc<str>, Selector)>,
}

impl Definitions {
    /// The definitions that follow from the thresholds and the sub-metrics that always exist.
    pub fn new(
        registry: &Registry,
        thresholds: &Thresholds,
        default_submetrics: &[String],
    ) -> Self {
        let mut by_metric: FxHashMap<MetricId, MetricDefinition> = FxHashMap::default();
        for planned in thresholds.plan(registry, default_submetrics) {
            let definition = by_metric.entry(planned.metric).or_default();
            match planned.selector {
                None => {
                    definition.thresholds = planned.thresholds.into_iter().map(|t| t.spec).collect()
                }
                Some(selector) => definition.submetrics.push((planned.name, selector)),
            }
        }
        Self { by_metric }
    }

    pub(crate) fn get(&self, metric: MetricId) -> Option<&MetricDefinition> {
        self.by_metric.get(&metric)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{MetricKind, ValueType, builtin};

    fn parse(key: &str, source: &str) -> Result<Thresholds, ThresholdError> {
        let spec = ThresholdSpec {
            source: source.into(),
            abort_on_fail: false,
            delay_abort_eval: None,
        };
        Thresholds::parse(&[(key.to_owned(), vec![spec])])
    }

    fn validate(key: &str, source: &str) -> String {
        let registry = Registry::new();
        registry
            .register("tt", MetricKind::Trend, ValueType::Default)
            .unwrap();
        registry
            .register("gg", MetricKind::Gauge, ValueType::Default)
            .unwrap();
        let result = parse(key, source).and_then(|thresholds| thresholds.validate(&registry));
        result
            .err()
            .map_or_else(String::new, |error| error.to_string())
    }

    #[test]
    fn validation_has_the_reference_s_texts() {
        assert_eq!(
            validate("tt", "count>1"),
            "invalid threshold \"count>1\" applied on metric tt; reason: unsupported aggregation method \
             count on metric of type trend. supported aggregation methods for this metric are: avg, min, max, med, p"
        );
        assert_eq!(
            validate("http_reqs{a:b}", "value>1"),
            "invalid threshold \"value>1\" applied on metric http_reqs{a:b}; reason: unsupported aggregation \
             method value on metric of type counter. supported aggregation methods for this metric are: count, rate"
        );
        assert_eq!(
            validate("nope{a:b}", "count>1"),
            "invalid threshold defined on nope{a:b}; reason: no metric name \"nope{a:b}\" found"
        );
        assert_eq!(
            validate("tt{a}", "avg>1"),
            "unable to validate threshold expressions; reason: parsing metric name failed, metric \"a\" tag expression is malformed"
        );
        assert_eq!(
            validate("tt", "avg=5"),
            "failed parsing threshold expression \"avg=5\"; reason: malformed threshold expression"
        );
    }

    #[test]
    fn each_kind_has_its_methods() {
        let all = [
            "value", "count", "rate", "avg", "min", "med", "max", "p(90)",
        ];
        for (key, fitting) in [
            ("http_reqs", &["count", "rate"][..]),
            ("gg", &["value"]),
            ("checks", &["rate"]),
            ("tt", &["avg", "min", "med", "max", "p(90)"]),
        ] {
            for method in all {
                let fits = validate(key, &format!("{method}>1")).is_empty();
                assert_eq!(fits, fitting.contains(&method), "{method} on {key}");
            }
        }
    }

    #[test]
    fn selectors_on_metadata_warn() {
        let thresholds = parse("iterations{vu:1}", "count>1").unwrap();
        assert_eq!(
            thresholds.warnings(),
            [
                "The high-cardinality 'vu' metric tag was made non-indexable in k6 v0.41.0, so thresholds like \
              'iterations{vu:1}' that are based on it won't work correctly."
            ]
        );
        assert!(
            parse("iterations{scenario:1}", "count>1")
                .unwrap()
                .warnings()
                .is_empty()
        );
    }

    #[test]
    fn without_thresholds_submetrics_remain_and_bad_keys_only_warn() {
        let registry = Registry::new();
        let keys = ["http_reqs{a:b}", "nope", "http_reqs{"];
        let (thresholds, warnings) = Thresholds::submetrics_only(&keys, &registry);
        assert!(thresholds.is_empty());
        assert_eq!(
            warnings,
            [
                "Invalid metric 'nope' in threshold definitions",
                "Invalid metric 'http_reqs{' in threshold definitions"
            ]
        );
        let plan = thresholds.plan(
            &registry,
            &["http_req_duration{expected_response:true}".to_owned()],
        );
        let names: Vec<&str> = plan.iter().map(|planned| &*planned.name).collect();
        assert_eq!(
            names,
            [
                "http_reqs{a:b}",
                "http_req_duration{expected_response:true}"
            ]
        );
        assert!(plan.iter().all(|planned| !planned.observed));
    }

    #[test]
    fn two_spellings_share_a_submetric() {
        let spec = |source: &str| {
            vec![ThresholdSpec {
                source: source.into(),
                abort_on_fail: false,
                delay_abort_eval: None,
            }]
        };
        let thresholds = Thresholds::parse(&[
            ("http_reqs{a:1,b:2}".to_owned(), spec("count>1")),
            ("http_reqs{ b:'2', a:1 }".to_owned(), spec("count>2")),
        ])
        .unwrap();
        let plan = thresholds.plan(&Registry::new(), &[]);
        let [shared] = &plan[..] else {
            panic!("one sub-metric: {plan:?}")
        };
        assert_eq!(
            (shared.metric, &*shared.name),
            (builtin::HTTP_REQS, "http_reqs{a:1,b:2}")
        );
        assert_eq!(shared.thresholds.len(), 2);
    }
}
