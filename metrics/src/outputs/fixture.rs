//! What the tests of all outputs share.

use std::{
    collections::BTreeMap,
    sync::{Arc, Mutex},
};

use super::{OutputContext, OutputLog};
use crate::{
    Batch, Definitions, MetricId, Recorder, Registry, TagTable, ThresholdSpec, Thresholds, builtin,
};

/// 2026-11-22T07:40:20.477235185Z
pub(super) const NOW: i64 = 1_795_333_220_477_235_185;

/// A shard that keeps raw samples, and what an output is told of its run.
pub(super) struct Run {
    pub(super) context: OutputContext,
    pub(super) shard: Recorder,
}

impl Run {
    pub(super) fn new() -> Self {
        Self::with(&[], &[])
    }

    /// A run with these thresholds by metric, and sub-metrics without one.
    pub(super) fn with(thresholds: &[(&str, ThresholdSpec)], default_submetrics: &[&str]) -> Self {
        let registry = Arc::new(Registry::new());
        let list: Vec<_> = thresholds
            .iter()
            .map(|(key, spec)| ((*key).to_owned(), vec![spec.clone()]))
            .collect();
        let thresholds = Thresholds::parse(&list).unwrap();
        let defaults: Vec<String> = default_submetrics.iter().map(|&key| key.into()).collect();
        let definitions = Arc::new(Definitions::new(&registry, &thresholds, &defaults));
        Self {
            shard: Recorder::new(registry.clone(), true),
            context: OutputContext::new(registry, Arc::new(TagTable::new()), definitions),
        }
    }

    /// Variables of the environment, in place of those before.
    pub(super) fn env(&mut self, variables: &[(&str, &str)]) {
        let pairs = variables.iter();
        let own = pairs.map(|(name, value)| ((*name).to_owned(), (*value).to_owned()));
        self.context.env = Arc::new(own.collect::<BTreeMap<_, _>>());
    }

    pub(super) fn record(
        &mut self,
        metric: MetricId,
        tags: &[(&str, &str)],
        value: f64,
        time: i64,
    ) {
        let tags = self.context.tags.intern(tags);
        self.shard.record(metric, tags, value, time);
    }

    /// Keeps what outputs say from here on, as `message field=value field=value`.
    pub(super) fn listen(&mut self) -> Arc<Mutex<Vec<String>>> {
        let said: Arc<Mutex<Vec<String>>> = Arc::default();
        let kept = said.clone();
        self.context.log = OutputLog::new(move |_, message, fields| {
            let mut line = message.to_owned();
            for (name, value) in fields {
                line.extend([" ", name, "=", value]);
            }
            kept.lock().unwrap().push(line);
        });
        said
    }

    /// A batch of `samples` samples of one series.
    pub(super) fn batch(&mut self, samples: usize) -> Batch {
        for _ in 0..samples {
            self.record(builtin::ITERATIONS, &[], 1.0, NOW);
        }
        self.shard.drain()
    }
}
