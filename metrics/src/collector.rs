//! Where the shards come together: batches in, verdicts, snapshots and exposition out.
//!
//! One thread of the runner owns the [`Collector`]. It folds each batch into the sinks of
//! metrics, sub-metrics and checks, and, for Prometheus, of single series. What a series
//! belongs to is worked out when it is first seen; after that a batch costs one look-up for
//! each series in it. There is no clock here: the run clock and the time of day are arguments.

use std::{sync::Arc, time::Duration};

use rustc_hash::FxHashMap;

use crate::{
    Batch, Breakdown, Definitions, MetricId, MetricKind, MetricSnapshot, Registry, Snapshot,
    TagSet, TagSetId, TagTable, ThresholdResult, Thresholds, ValueType,
    breakdown::Parts,
    builtin,
    groups::GroupTree,
    outputs::{
        exposition::{Exposition, PageFormat},
        prometheus::{self, PrometheusOptions, SeriesOptions},
    },
    recorder::{Delta, SeriesDelta, series_key},
    series::{SeriesSink, slice_of},
    sink::Sink,
    thresholds::{Planned, Selector, Threshold},
};

/// The number of series from which a run is warned, and again at each doubling.
const SERIES_LIMIT: usize = 100_000;

/// What a [`Collector`] is made of.
#[derive(Debug)]
pub struct CollectorConfig {
    /// The metrics.
    pub registry: Arc<Registry>,
    /// The tag sets.
    pub tags: Arc<TagTable>,
    /// What to judge; validated already.
    pub thresholds: Thresholds,
    /// Which series to keep a sink for, which [`Collector::expose`] needs; `None` for none.
    pub series: Option<SeriesOptions>,
    /// Whether to keep sinks for each scenario and each group, which [`Collector::breakdown`] needs.
    pub breakdown: bool,
    /// Sub-metrics that exist without a threshold, `http_req_duration{expected_response:true}`.
    pub default_submetrics: Vec<String>,
}

/// The outcome of one evaluation.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Verdict {
    /// Metrics and sub-metrics with a crossed threshold: display names, sorted.
    pub crossed: Vec<String>,
    /// Whether a crossed threshold ends the run.
    pub abort: bool,
}

/// Everything a run has measured so far.
#[derive(Debug)]
pub struct Collector {
    registry: Arc<Registry>,
    tags: Arc<TagTable>,
    definitions: Arc<Definitions>,
    /// Metrics and sub-metrics.
    entries: Vec<Entry>,
    by_metric: FxHashMap<MetricId, Slot>,
    /// Entries in the order in which they were first seen.
    observed: Vec<u32>,
    groups: GroupTree,
    parts: Option<Parts>,
    index: FxHashMap<u64, u32>,
    series: Vec<Series>,
    kept: Option<KeptSeries>,
    slice: i64,
    warn_at: usize,
    /// Counter values that Prometheus cannot take, by metric.
    refused: FxHashMap<MetricId, u64>,
    warnings: Vec<String>,
}

/// A metric or a sub-metric.
#[derive(Debug)]
struct Entry {
    name: Arc<str>,
    parent: Option<(Arc<str>, Arc<str>)>,
    kind: MetricKind,
    contains: ValueType,
    selector: Option<Selector>,
    sink: Sink,
    thresholds: Vec<(Threshold, bool)>,
    tainted: Option<bool>,
    observed: bool,
}

/// Where a metric's entries are.
#[derive(Debug)]
struct Slot {
    entry: u32,
    submetrics: Vec<u32>,
}

/// A series, and all that its samples go into.
#[derive(Debug)]
pub(crate) struct Series {
    pub(crate) metric: MetricId,
    pub(crate) tags: TagSetId,
    /// What Prometheus will be told; `None` for nothing, or when another series has it.
    pub(crate) sink: Option<SeriesSink>,
    entry: u32,
    submetrics: Box<[u32]>,
    check: Option<u32>,
}

/// Which series are kept for Prometheus.
#[derive(Debug)]
struct KeptSeries {
    options: SeriesOptions,
    /// How many have a sink of their own.
    count: usize,
    /// Those by metric and labels, where not every tag is a label.
    owners: FxHashMap<(MetricId, Box<str>), u32>,
    /// Those by key whose samples go to the sink of an owner.
    shared: FxHashMap<u64, u32>,
    /// How many were too many, by metric; each set of tags is one.
    overflow: FxHashMap<MetricId, u64>,
}

impl KeptSeries {
    fn new(options: SeriesOptions) -> Self {
        Self {
            options,
            count: 0,
            owners: FxHashMap::default(),
            shared: FxHashMap::default(),
            overflow: FxHashMap::default(),
        }
    }

    /// Finds the place of a new series, which will be at `position`.
    fn place(
        &mut self,
        metric: MetricId,
        (tags_id, tags): (TagSetId, &TagSet),
        delta: &Delta,
        position: u32,
        warnings: &mut Vec<String>,
    ) -> Option<SeriesSink> {
        let filter = &self.options.labels;
        let identity =
            (!filter.keeps_all()).then(|| (metric, prometheus::identity(tags, filter).into()));
        if let Some(&owner) = identity.as_ref().and_then(|key| self.owners.get(key)) {
            self.shared.insert(series_key(metric, tags_id), owner);
            return None;
        }
        if self.count == self.options.most {
            if self.overflow.is_empty() {
                warnings.push(format!(
                    "the Prometheus output has as many series as it may have, {} (max_series): further ones are left \
                     out of its page and counted in {}; thresholds, the summary and other outputs have them. Tags \
                     with many values can be left out of the page, for example with drop=url, or grouped with the \
                     name tag",
                    self.count,
                    prometheus::OVERFLOW
                ));
            }
            *self.overflow.entry(metric).or_default() += 1;
            return None;
        }
        self.count += 1;
        if let Some(key) = identity {
            self.owners.insert(key, position);
        }
        Some(SeriesSink::new(delta, &self.options.trends))
    }
}

impl Collector {
    /// A collector that has seen nothing.
    pub fn new(config: CollectorConfig) -> Self {
        let CollectorConfig {
            registry,
            tags,
            thresholds,
            series,
            breakdown,
            default_submetrics,
        } = config;
        let definitions = Arc::new(Definitions::new(
            &registry,
            &thresholds,
            &default_submetrics,
        ));
        let mut collector = Self {
            registry,
            tags,
            definitions,
            entries: Vec::new(),
            by_metric: FxHashMap::default(),
            observed: Vec::new(),
            groups: GroupTree::default(),
            parts: breakdown.then(Parts::default),
            index: FxHashMap::default(),
            series: Vec::new(),
            kept: series.map(KeptSeries::new),
            slice: i64::MIN,
            warn_at: SERIES_LIMIT,
            refused: FxHashMap::default(),
            warnings: Vec::new(),
        };
        let registry = collector.registry.clone();
        for planned in thresholds.plan(&registry, &default_submetrics) {
            collector.add_planned(planned);
        }
        collector
    }

    /// What outputs may say of each metric beside its samples.
    pub fn definitions(&self) -> Arc<Definitions> {
        self.definitions.clone()
    }

    /// Adds a batch that was drained at about `now_unix_ns`.
    pub fn fold(&mut self, batch: &Batch, now_unix_ns: i64) {
        let slice = slice_of(now_unix_ns);
        if slice > self.slice {
            self.slice = slice;
            // Every two minutes: silent series give their windows back.
            self.series
                .iter_mut()
                .filter_map(|series| series.sink.as_mut())
                .for_each(|sink| sink.sweep(slice));
        }
        for delta in batch.deltas.iter() {
            self.fold_series(delta);
        }
        if let Some(kept) = &self.kept
            && !kept.shared.is_empty()
        {
            self.fold_shared(batch);
        }
    }

    /// Judges every threshold after `run` of the run clock. A periodic evaluation passes over
    /// metrics without samples and may end the run; the `last` one judges all and cannot.
    pub fn evaluate(&mut self, run: Duration, last: bool) -> Verdict {
        let mut verdict = Verdict::default();
        for entry in &mut self.entries {
            if entry.thresholds.is_empty() || (entry.sink.is_empty() && !last) {
                continue;
            }
            if let Sink::Trend(trend) = &mut entry.sink {
                trend.prepare();
            }
            for (threshold, ok) in &mut entry.thresholds {
                *ok = threshold.holds(&entry.sink, run);
                verdict.abort |= !*ok && !last && threshold.aborts(run);
            }
            let crossed = entry.thresholds.iter().any(|&(_, ok)| !ok);
            entry.tainted = Some(crossed);
            if crossed {
                verdict.crossed.push(entry.name.to_string());
            }
        }
        verdict.crossed.sort();
        verdict
    }

    /// The state after `run` of the run clock, for those who read it.
    pub fn snapshot(&self, run: Duration) -> Snapshot {
        let run_seconds = run.as_secs_f64();
        let metric = |&position: &u32| {
            let entry = &self.entries[position as usize];
            let result = |(threshold, ok): &(Threshold, bool)| ThresholdResult {
                source: threshold.spec.source.as_str().into(),
                ok: *ok,
            };
            MetricSnapshot {
                name: entry.name.clone(),
                parent: entry.parent.clone(),
                kind: entry.kind,
                contains: entry.contains,
                values: entry.sink.values(run_seconds),
                thresholds: entry.thresholds.iter().map(result).collect(),
                tainted: entry.tainted,
            }
        };
        Snapshot {
            metrics: self.observed.iter().map(metric).collect(),
            root_group: self.groups.snapshot(),
            checks: self.groups.merged_checks(),
            run_seconds,
        }
    }

    /// What each scenario and each group measured, after `run` of the run clock. Empty unless
    /// the [`CollectorConfig`] asked for it.
    pub fn breakdown(&self, run: Duration) -> Breakdown {
        let parts = self.parts.as_ref();
        parts.map_or_else(Breakdown::default, |parts| {
            parts.snapshot(&self.registry, run.as_secs_f64())
        })
    }

    /// The state as Prometheus scrapes it. Without series in the [`CollectorConfig`] only the
    /// process's own metrics.
    pub fn expose(
        &self,
        options: &PrometheusOptions,
        format: PageFormat,
        now_unix_ns: i64,
    ) -> Exposition {
        let (kept, none) = (self.kept.as_ref(), FxHashMap::default());
        let page = prometheus::Page {
            registry: &self.registry,
            tags: &self.tags,
            series: &self.series,
            options: kept.map_or(&options.series, |kept| &kept.options),
            refused: &self.refused,
            overflow: kept.map_or(&none, |kept| &kept.overflow),
            slice: slice_of(now_unix_ns),
        };
        prometheus::expose(options, &page, format)
    }

    /// What the user should be told since the last call.
    pub fn take_warnings(&mut self) -> Vec<String> {
        std::mem::take(&mut self.warnings)
    }

    fn fold_series(&mut self, incoming: &SeriesDelta) {
        let SeriesDelta {
            metric,
            tags,
            delta,
        } = incoming;
        let position = match self.index.get(&series_key(*metric, *tags)) {
            Some(&position) => position,
            None => self.add_series(incoming),
        };
        let series = &mut self.series[position as usize];
        for &entry in std::iter::once(&series.entry).chain(&series.submetrics) {
            self.entries[entry as usize].sink.fold(delta);
        }
        if let (Some(check), &Delta::Rate { trues, total, .. }) = (series.check, delta) {
            self.groups.count(check, trues, total - trues);
        }
        if let Some(parts) = &mut self.parts {
            parts.fold(position, delta);
        }
        let Some(sink) = &mut series.sink else { return };
        sink.fold(delta, self.slice);
        if let &Delta::Counter { negatives, .. } = delta
            && negatives > 0
        {
            self.refuse(*metric, negatives);
        }
    }

    /// Adds the deltas of series that have no sink of their own to those that they share. A pass
    /// of its own, so that it costs nothing where there are none.
    #[cold]
    fn fold_shared(&mut self, batch: &Batch) {
        for SeriesDelta {
            metric,
            tags,
            delta,
        } in batch.deltas.iter()
        {
            let shared = self.kept.as_ref().map(|kept| &kept.shared);
            let owner = shared.and_then(|shared| shared.get(&series_key(*metric, *tags)));
            let series = owner.and_then(|&owner| self.series.get_mut(owner as usize));
            if let Some(sink) = series.and_then(|series| series.sink.as_mut()) {
                sink.fold(delta, self.slice);
                if let &Delta::Counter { negatives, .. } = delta
                    && negatives > 0
                {
                    self.refuse(*metric, negatives);
                }
            }
        }
    }

    #[cold]
    fn refuse(&mut self, metric: MetricId, negatives: u32) {
        let refused = self.refused.entry(metric).or_default();
        if *refused == 0 {
            self.warnings.push(format!(
                "the counter '{}' got a negative value, which a Prometheus counter cannot take: such values are left \
                 out of the Prometheus output and counted in {}",
                self.registry.info(metric).name,
                prometheus::REFUSED
            ));
        }
        *refused += u64::from(negatives);
    }

    #[cold]
    fn add_series(&mut self, incoming: &SeriesDelta) -> u32 {
        let SeriesDelta {
            metric,
            tags: tags_id,
            delta,
        } = incoming;
        let tags = self.tags.get(*tags_id);
        let entry = self.entry_of(*metric);
        self.observe(entry);
        let matching = |&sub: &u32| {
            let selector = &self.entries[sub as usize].selector;
            let has = |(key, value): &(String, String)| tags.get(key) == Some(value.as_str());
            selector
                .as_ref()
                .is_some_and(|selector| selector.tags.iter().all(has))
        };
        let submetrics: Box<[u32]> = self.by_metric[metric]
            .submetrics
            .iter()
            .copied()
            .filter(|sub| matching(sub))
            .collect();
        for &sub in &submetrics {
            self.observe(sub);
        }
        let group = self.groups.group(tags.get("group").unwrap_or_default());
        let check = tags
            .get("check")
            .filter(|_| *metric == builtin::CHECKS)
            .map(|name| self.groups.check(group, name));

        let position = u32::try_from(self.series.len()).expect("fewer than 2^32 series");
        let sink = match &mut self.kept {
            Some(kept) => kept.place(
                *metric,
                (*tags_id, &tags),
                delta,
                position,
                &mut self.warnings,
            ),
            None => None,
        };
        self.series.push(Series {
            metric: *metric,
            tags: *tags_id,
            sink,
            entry,
            submetrics,
            check,
        });
        if let Some(parts) = &mut self.parts {
            let warning = parts.place(*metric, &tags, &self.registry);
            self.warnings.extend(warning);
        }
        self.index.insert(series_key(*metric, *tags_id), position);
        if self.series.len() > self.warn_at {
            self.warn_at *= 2;
            self.warnings.push(format!(
                "The test has generated metrics with {} unique time series, which is higher than the suggested limit \
                 of 100000 and could cause high memory usage. Consider not using high-cardinality values like unique \
                 IDs as metric tags or, if you need them in the URL, use the name metric tag or URL grouping. See \
                 https://grafana.com/docs/k6/latest/using-k6/tags-and-groups/ for details.",
                self.series.len()
            ));
        }
        position
    }

    fn add_planned(&mut self, planned: Planned) {
        let Planned {
            metric,
            name,
            selector,
            thresholds,
            observed,
        } = planned;
        let base = self.entry_of(metric);
        if observed {
            self.observe(base);
        }
        let position = match &selector {
            None => base,
            Some(chosen) => {
                let position = self.entries.len() as u32;
                let Entry {
                    name: parent,
                    kind,
                    contains,
                    ..
                } = &self.entries[base as usize];
                let parent = Some((parent.clone(), chosen.suffix.clone()));
                let (kind, contains) = (*kind, *contains);
                self.entries
                    .push(Entry::new(name, parent, kind, contains, selector));
                if let Some(slot) = self.by_metric.get_mut(&metric) {
                    slot.submetrics.push(position);
                }
                position
            }
        };
        self.entries[position as usize].thresholds = thresholds
            .into_iter()
            .map(|threshold| (threshold, true))
            .collect();
        if observed {
            self.observe(position);
        }
    }

    fn entry_of(&mut self, metric: MetricId) -> u32 {
        if let Some(slot) = self.by_metric.get(&metric) {
            return slot.entry;
        }
        let entry = self.entries.len() as u32;
        let info = self.registry.info(metric);
        self.entries
            .push(Entry::new(info.name, None, info.kind, info.contains, None));
        self.by_metric.insert(
            metric,
            Slot {
                entry,
                submetrics: Vec::new(),
            },
        );
        entry
    }

    fn observe(&mut self, position: u32) {
        let entry = &mut self.entries[position as usize];
        if !entry.observed {
            entry.observed = true;
            self.observed.push(position);
        }
    }
}

impl Entry {
    fn new(
        name: Arc<str>,
        parent: Option<(Arc<str>, Arc<str>)>,
        kind: MetricKind,
        contains: ValueType,
        selector: Option<Selector>,
    ) -> Self {
        Self {
            name,
            parent,
            kind,
            contains,
            selector,
            sink: Sink::new(kind),
            thresholds: Vec::new(),
            tainted: None,
            observed: false,
        }
    }
}

#[cfg(test)]
mod tests;
