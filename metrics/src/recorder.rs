//! Where a worker writes what it measured: the hot path of the crate.
//!
//! Each worker thread owns one [`Recorder`]. [`Recorder::record`] finds the cell of the time
//! series with one hash of eight bytes and updates it: no lock, no clock, and no allocation
//! but the growth of a buffer. Every tick the owner calls [`Recorder::drain`] and sends the
//! [`Batch`] to the collector; cells that were touched are emptied and stay, so a series
//! costs about a hundred bytes while it is idle.

use std::sync::Arc;

use rustc_hash::FxHashMap;

use crate::{MetricId, MetricKind, Registry, TagSetId};

/// Values that belong to a sample but not to its series (`vu`, `iter`, …).
pub type Metadata = Vec<(String, String)>;

/// How many buffered trend values make a recorder full: 512 KB.
const TREND_BOUND: usize = 64 * 1024;
/// How many buffered raw samples make a recorder full: 2 MB.
const RAW_BOUND: usize = 64 * 1024;

/// One measured value, as outputs see it that asked for raw samples.
#[derive(Debug, Clone)]
pub struct Sample {
    /// The metric.
    pub metric: MetricId,
    /// The tags: with the metric, the time series.
    pub tags: TagSetId,
    /// The value: milliseconds, bytes or plain.
    pub value: f64,
    /// Unix time in nanoseconds.
    pub time: i64,
    /// What else is known of this one sample.
    pub metadata: Option<Arc<Metadata>>,
}

/// What a series gained since the last drain.
#[derive(Debug, Clone)]
pub(crate) enum Delta {
    Counter {
        sum: f64,
        /// The sum of the values that are not negative: all that a Prometheus counter may add.
        raised: f64,
        negatives: u32,
        /// Time of the last value.
        time: i64,
    },
    Gauge {
        last: f64,
        time: i64,
        min: f64,
        max: f64,
    },
    Rate {
        trues: u64,
        total: u64,
        sum: f64,
        /// Time of the last value.
        time: i64,
    },
    Trend {
        values: Vec<f64>,
        /// Time of the last value.
        time: i64,
    },
}

impl Delta {
    fn empty(kind: MetricKind) -> Self {
        match kind {
            MetricKind::Counter => Delta::Counter {
                sum: 0.0,
                raised: 0.0,
                negatives: 0,
                time: i64::MIN,
            },
            MetricKind::Gauge => Delta::Gauge {
                last: 0.0,
                time: i64::MIN,
                min: f64::INFINITY,
                max: f64::NEG_INFINITY,
            },
            MetricKind::Rate => Delta::Rate {
                trues: 0,
                total: 0,
                sum: 0.0,
                time: i64::MIN,
            },
            MetricKind::Trend => Delta::Trend {
                values: Vec::new(),
                time: i64::MIN,
            },
        }
    }

    /// When the last value came: Unix time in nanoseconds.
    pub(crate) fn time(&self) -> i64 {
        match self {
            Delta::Counter { time, .. }
            | Delta::Gauge { time, .. }
            | Delta::Rate { time, .. }
            | Delta::Trend { time, .. } => *time,
        }
    }

    fn kind(&self) -> MetricKind {
        match self {
            Delta::Counter { .. } => MetricKind::Counter,
            Delta::Gauge { .. } => MetricKind::Gauge,
            Delta::Rate { .. } => MetricKind::Rate,
            Delta::Trend { .. } => MetricKind::Trend,
        }
    }
}

/// A series and what it gained.
#[derive(Debug, Clone)]
pub(crate) struct SeriesDelta {
    pub(crate) metric: MetricId,
    pub(crate) tags: TagSetId,
    pub(crate) delta: Delta,
}

#[derive(Debug)]
struct Cell {
    series: SeriesDelta,
    touched: bool,
}

/// A worker's shard of everything measured. One per thread.
#[derive(Debug)]
pub struct Recorder {
    registry: Arc<Registry>,
    /// Kinds by metric id, so that a new series asks the registry only after a new metric.
    kinds: Vec<MetricKind>,
    index: FxHashMap<u64, u32>,
    cells: Vec<Cell>,
    /// Cells touched since the last drain, in the order of their first touch.
    touched: Vec<u32>,
    trend_values: usize,
    raw: Option<Vec<Sample>>,
}

impl Recorder {
    /// An empty shard; with `raw` it also keeps every sample until the next drain.
    pub fn new(registry: Arc<Registry>, raw: bool) -> Self {
        let mut kinds = Vec::new();
        registry.extend_kinds(&mut kinds);
        Self {
            registry,
            kinds,
            index: FxHashMap::default(),
            cells: Vec::new(),
            touched: Vec::new(),
            trend_values: 0,
            raw: raw.then(Vec::new),
        }
    }

    /// Adds one value at `time` (Unix nanoseconds). NaN is no measurement and is ignored.
    #[inline]
    pub fn record(&mut self, metric: MetricId, tags: TagSetId, value: f64, time: i64) {
        self.record_with(metric, tags, value, time, None);
    }

    /// As [`Recorder::record`], with what else raw outputs may show of this sample.
    pub fn record_with(
        &mut self,
        metric: MetricId,
        tags: TagSetId,
        value: f64,
        time: i64,
        metadata: Option<&Arc<Metadata>>,
    ) {
        if value.is_nan() {
            return;
        }
        let key = series_key(metric, tags);
        let position = match self.index.get(&key) {
            Some(&position) => position,
            None => self.add_cell(key, metric, tags),
        };
        let cell = &mut self.cells[position as usize];
        if !cell.touched {
            cell.touched = true;
            self.touched.push(position);
        }
        match &mut cell.series.delta {
            Delta::Counter {
                sum,
                raised,
                negatives,
                time: at,
            } => {
                *sum += value;
                *at = time;
                if value < 0.0 {
                    *negatives = negatives.saturating_add(1);
                } else {
                    *raised += value;
                }
            }
            Delta::Gauge {
                last,
                time: at,
                min,
                max,
            } => {
                *last = value;
                *at = time;
                *min = min.min(value);
                *max = max.max(value);
            }
            Delta::Rate {
                trues,
                total,
                sum,
                time: at,
            } => {
                *at = time;
                *total += 1;
                *trues += u64::from(value != 0.0);
                *sum += value;
            }
            Delta::Trend { values, time: at } => {
                values.push(value);
                *at = time;
                self.trend_values += 1;
            }
        }
        if let Some(raw) = &mut self.raw {
            raw.push(Sample {
                metric,
                tags,
                value,
                time,
                metadata: metadata.cloned(),
            });
        }
    }

    /// Hands over what came in since the last drain, series in the order of their first touch.
    pub fn drain(&mut self) -> Batch {
        let mut deltas = Vec::with_capacity(self.touched.len());
        for position in self.touched.drain(..) {
            let cell = &mut self.cells[position as usize];
            cell.touched = false;
            let SeriesDelta {
                metric,
                tags,
                ref mut delta,
            } = cell.series;
            let empty = Delta::empty(delta.kind());
            deltas.push(SeriesDelta {
                metric,
                tags,
                delta: std::mem::replace(delta, empty),
            });
        }
        self.trend_values = 0;
        let raw = self.raw.as_mut().map(std::mem::take).unwrap_or_default();
        Batch {
            deltas: Arc::new(deltas),
            raw: Arc::new(raw),
        }
    }

    /// Whether a buffer has grown past its bound: drain without waiting for the tick.
    pub fn full(&self) -> bool {
        self.trend_values >= TREND_BOUND
            || self.raw.as_ref().is_some_and(|raw| raw.len() >= RAW_BOUND)
    }

    #[cold]
    fn add_cell(&mut self, key: u64, metric: MetricId, tags: TagSetId) -> u32 {
        if metric.index() >= self.kinds.len() {
            self.registry.extend_kinds(&mut self.kinds);
        }
        let delta = Delta::empty(self.kinds[metric.index()]);
        let position = u32::try_from(self.cells.len()).expect("fewer than 2^32 series");
        self.cells.push(Cell {
            series: SeriesDelta {
                metric,
                tags,
                delta,
            },
            touched: false,
        });
        self.index.insert(key, position);
        position
    }
}

/// Both halves of a series in one integer: one multiplication hashes it.
pub(crate) fn series_key(metric: MetricId, tags: TagSetId) -> u64 {
    u64::from(metric.raw()) << 32 | u64::from(tags.raw())
}

/// What one recorder collected between two drains. Cheap to send; outputs share what is in it.
#[derive(Debug, Clone, Default)]
pub struct Batch {
    pub(crate) deltas: Arc<Vec<SeriesDelta>>,
    pub(crate) raw: Arc<Vec<Sample>>,
}

impl Batch {
    /// Whether nothing was recorded.
    pub fn is_empty(&self) -> bool {
        self.deltas.is_empty()
    }

    /// Every sample in the order of recording; empty unless the recorder keeps raw samples.
    pub fn raw_samples(&self) -> &[Sample] {
        &self.raw
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{ValueType, builtin};

    #[test]
    fn drains_touched_series_in_order_of_first_touch_and_leaves_them_empty() {
        let registry = Arc::new(Registry::new());
        let mut recorder = Recorder::new(registry, false);
        let tags = TagSetId::EMPTY;
        for value in [1.0, 2.0, 3.0] {
            recorder.record(builtin::HTTP_REQ_DURATION, tags, value, 7);
            recorder.record(builtin::HTTP_REQS, tags, 1.0, 7);
        }
        let batch = recorder.drain();
        assert!(batch.raw_samples().is_empty());
        let [trend, counter] = &batch.deltas[..] else {
            panic!("two series: {batch:?}")
        };
        assert_eq!(trend.metric, builtin::HTTP_REQ_DURATION);
        assert!(
            matches!(&trend.delta, Delta::Trend { values, time: 7 } if values == &[1.0, 2.0, 3.0])
        );
        assert!(matches!(counter.delta, Delta::Counter { sum: 3.0, .. }));

        assert!(recorder.drain().is_empty());
        let Delta::Trend { values, .. } = &recorder.cells[0].series.delta else {
            panic!("trend")
        };
        assert_eq!(values.capacity(), 0, "an idle series holds no buffer");

        recorder.record(builtin::HTTP_REQS, tags, 5.0, 8);
        recorder.record(builtin::HTTP_REQ_DURATION, tags, 5.0, 8);
        let again = recorder.drain();
        assert_eq!(again.deltas[0].metric, builtin::HTTP_REQS);
        assert_eq!(recorder.cells.len(), 2);
    }

    #[test]
    fn a_metric_registered_later_is_known() {
        let registry = Arc::new(Registry::new());
        let mut recorder = Recorder::new(registry.clone(), false);
        let own = registry
            .register("own", MetricKind::Gauge, ValueType::Default)
            .unwrap();
        recorder.record(own, TagSetId::EMPTY, -1.5, 1);
        recorder.record(own, TagSetId::EMPTY, 4.0, 2);
        assert!(matches!(
            recorder.drain().deltas[0].delta,
            Delta::Gauge {
                last: 4.0,
                time: 2,
                min: -1.5,
                max: 4.0
            }
        ));
    }

    #[test]
    fn keeps_raw_samples_with_metadata_only_when_asked() {
        let registry = Arc::new(Registry::new());
        let mut recorder = Recorder::new(registry, true);
        let metadata = Arc::new(vec![("vu".to_owned(), "1".to_owned())]);
        recorder.record_with(builtin::CHECKS, TagSetId::EMPTY, 1.0, 5, Some(&metadata));
        recorder.record(builtin::CHECKS, TagSetId::EMPTY, f64::NAN, 5);
        let batch = recorder.drain();
        let [sample] = batch.raw_samples() else {
            panic!("one sample: {batch:?}")
        };
        assert_eq!((sample.value, sample.time), (1.0, 5));
        assert_eq!(sample.metadata.as_deref(), Some(&*metadata));
        assert!(recorder.drain().raw_samples().is_empty());
    }

    #[test]
    fn is_full_when_a_buffer_passes_its_bound() {
        let registry = Arc::new(Registry::new());
        let mut recorder = Recorder::new(registry.clone(), false);
        for _ in 0..TREND_BOUND {
            assert!(!recorder.full());
            recorder.record(builtin::ITERATION_DURATION, TagSetId::EMPTY, 1.0, 0);
        }
        assert!(recorder.full());
        recorder.drain();
        assert!(!recorder.full());

        let mut raw = Recorder::new(registry, true);
        for _ in 0..RAW_BOUND {
            raw.record(builtin::ITERATIONS, TagSetId::EMPTY, 1.0, 0);
        }
        assert!(raw.full());
    }

    #[test]
    fn an_idle_series_costs_less_than_200_bytes() {
        // The map holds key and position at a load of at most 7/8, plus a control byte, and
        // may just have doubled; cells may have doubled too.
        let map = 2 * (size_of::<(u64, u32)>() + 1) * 8 / 7;
        assert!(
            map + 2 * size_of::<Cell>() <= 200,
            "{} + 2 * {}",
            map,
            size_of::<Cell>()
        );
    }
}
