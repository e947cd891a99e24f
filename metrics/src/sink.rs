//! Sinks: what is kept of the samples of a metric, and the values read from it.
//!
//! Times are milliseconds, data are bytes. Every sink can be merged with another of its
//! kind, so that shards, ticks and agents add up. NaN never gets in.

use crate::{MetricKind, Values, histogram::Histogram, recorder::Delta};

/// Up to this many values a trend is exact, and matches k6's percentiles to the digit.
const EXACT: usize = 8192;

/// A distribution: exact up to 8,192 values, then a histogram with a relative error of at
/// most 0.4 % in percentiles. Count, sum, minimum, maximum and average are always exact.
#[derive(Debug, Clone)]
pub struct TrendSink {
    count: u64,
    sum: f64,
    min: f64,
    max: f64,
    store: Store,
}

#[derive(Debug, Clone)]
enum Store {
    Exact { values: Vec<f64>, sorted: bool },
    Folded(Histogram<7>),
}

impl Default for TrendSink {
    fn default() -> Self {
        Self {
            count: 0,
            sum: 0.0,
            min: 0.0,
            max: 0.0,
            store: Store::Exact {
                values: Vec::new(),
                sorted: true,
            },
        }
    }
}

impl TrendSink {
    /// An empty distribution.
    pub fn new() -> Self {
        Self::default()
    }

    /// Adds one value; NaN is ignored.
    pub fn add(&mut self, value: f64) {
        if value.is_nan() {
            return;
        }
        self.stretch(1, value, value, value);
        match &mut self.store {
            Store::Exact { values, sorted } => {
                *sorted = values.last().is_none_or(|&last| *sorted && last <= value);
                values.push(value);
                if values.len() > EXACT {
                    self.fold();
                }
            }
            Store::Folded(histogram) => histogram.add(value),
        }
    }

    /// Adds all values of another distribution.
    pub fn merge(&mut self, other: &TrendSink) {
        match &other.store {
            Store::Exact { values, .. } => values.iter().for_each(|&value| self.add(value)),
            Store::Folded(theirs) => {
                self.stretch(other.count, other.sum, other.min, other.max);
                self.fold();
                if let Store::Folded(mine) = &mut self.store {
                    mine.merge(theirs);
                }
            }
        }
    }

    /// How many values it holds.
    pub fn count(&self) -> u64 {
        self.count
    }

    /// Whether it holds none.
    pub fn is_empty(&self) -> bool {
        self.count == 0
    }

    /// Sum of all values.
    pub fn sum(&self) -> f64 {
        self.sum
    }

    /// Smallest value; 0 when empty.
    pub fn min(&self) -> f64 {
        self.min
    }

    /// Largest value; 0 when empty.
    pub fn max(&self) -> f64 {
        self.max
    }

    /// Average; 0 when empty.
    pub fn avg(&self) -> f64 {
        if self.count == 0 {
            0.0
        } else {
            self.sum / self.count as f64
        }
    }

    /// The median: `percentile(0.5)`.
    pub fn med(&self) -> f64 {
        self.percentile(0.5)
    }

    /// The value below which a share `q` (0 to 1) of all values lies: k6's linear
    /// interpolation between the two values around position `q · (n − 1)`. 0 when empty.
    pub fn percentile(&self, q: f64) -> f64 {
        match &self.store {
            Store::Exact {
                values,
                sorted: true,
            } => interpolate(values.len() as u64, q, |rank| values[rank as usize]),
            Store::Exact { values, .. } => {
                let mut values = values.clone();
                values.sort_unstable_by(f64::total_cmp);
                interpolate(values.len() as u64, q, |rank| values[rank as usize])
            }
            Store::Folded(histogram) => interpolate(self.count, q, |rank| {
                if rank == 0 {
                    self.min
                } else if rank + 1 >= self.count {
                    self.max
                } else {
                    histogram.value_at(rank).clamp(self.min, self.max)
                }
            }),
        }
    }

    /// Sorts what it holds, so that the percentiles asked next need no sorting.
    pub(crate) fn prepare(&mut self) {
        if let Store::Exact { values, sorted } = &mut self.store
            && !*sorted
        {
            values.sort_unstable_by(f64::total_cmp);
            *sorted = true;
        }
    }

    fn stretch(&mut self, count: u64, sum: f64, min: f64, max: f64) {
        if self.count == 0 {
            (self.min, self.max) = (min, max);
        } else {
            self.min = self.min.min(min);
            self.max = self.max.max(max);
        }
        self.count += count;
        self.sum += sum;
    }

    /// How many values it keeps one by one; none once it is a histogram.
    pub(crate) fn exact_len(&self) -> usize {
        match &self.store {
            Store::Exact { values, .. } => values.len(),
            Store::Folded(_) => 0,
        }
    }

    /// Becomes a histogram.
    pub(crate) fn fold(&mut self) {
        if let Store::Exact { values, .. } = &self.store {
            let mut histogram = Histogram::default();
            values.iter().for_each(|&value| histogram.add(value));
            self.store = Store::Folded(histogram);
        }
    }
}

fn interpolate(count: u64, q: f64, at: impl Fn(u64) -> f64) -> f64 {
    match count {
        0 => 0.0,
        1 => at(0),
        _ => {
            let last = (count - 1) as f64;
            let position = (q * last).clamp(0.0, last);
            let below = at(position.floor() as u64);
            let above = at(position.ceil() as u64);
            // Also keeps ∞ − ∞ from making a NaN of an infinite value.
            if below == above {
                return below;
            }
            let value = below + (above - below) * (position - position.floor());
            if value.is_nan() { below } else { value }
        }
    }
}

/// What a metric or sub-metric has gathered.
#[derive(Debug, Clone)]
pub(crate) enum Sink {
    Counter {
        sum: f64,
        seen: bool,
    },
    Gauge {
        last: f64,
        time: i64,
        min: f64,
        max: f64,
        seen: bool,
    },
    Rate {
        trues: u64,
        total: u64,
    },
    Trend(TrendSink),
}

impl Sink {
    pub(crate) fn new(kind: MetricKind) -> Self {
        match kind {
            MetricKind::Counter => Sink::Counter {
                sum: 0.0,
                seen: false,
            },
            MetricKind::Gauge => Sink::Gauge {
                last: 0.0,
                time: i64::MIN,
                min: 0.0,
                max: 0.0,
                seen: false,
            },
            MetricKind::Rate => Sink::Rate { trues: 0, total: 0 },
            MetricKind::Trend => Sink::Trend(TrendSink::new()),
        }
    }

    /// Whether no sample came yet.
    pub(crate) fn is_empty(&self) -> bool {
        match self {
            Sink::Counter { seen, .. } | Sink::Gauge { seen, .. } => !seen,
            Sink::Rate { total, .. } => *total == 0,
            Sink::Trend(trend) => trend.is_empty(),
        }
    }

    /// Adds what one series gained in one shard. A sink and its deltas are of one kind,
    /// because both follow the registry.
    pub(crate) fn fold(&mut self, delta: &Delta) {
        match (self, delta) {
            (Sink::Counter { sum, seen }, Delta::Counter { sum: more, .. }) => {
                *sum += more;
                *seen = true;
            }
            (
                Sink::Gauge {
                    last,
                    time,
                    min,
                    max,
                    seen,
                },
                &Delta::Gauge {
                    last: new,
                    time: at,
                    min: low,
                    max: high,
                },
            ) => {
                // Shards arrive in any order: the newest sample is the last one.
                if at >= *time {
                    (*last, *time) = (new, at);
                }
                (*min, *max) = if *seen {
                    (min.min(low), max.max(high))
                } else {
                    (low, high)
                };
                *seen = true;
            }
            (
                Sink::Rate { trues, total },
                Delta::Rate {
                    trues: yes,
                    total: all,
                    ..
                },
            ) => {
                *trues += yes;
                *total += all;
            }
            (Sink::Trend(trend), Delta::Trend { values, .. }) => {
                values.iter().for_each(|&value| trend.add(value));
            }
            _ => debug_assert!(false, "a delta of another kind than its metric"),
        }
    }

    /// The values to show after `run_seconds` of the run clock.
    pub(crate) fn values(&self, run_seconds: f64) -> Values {
        match self {
            Sink::Counter { sum, .. } => {
                let rate = if run_seconds > 0.0 {
                    sum / run_seconds
                } else {
                    0.0
                };
                Values::Counter { count: *sum, rate }
            }
            &Sink::Gauge {
                last: value,
                min,
                max,
                ..
            } => Values::Gauge { value, min, max },
            &Sink::Rate { trues, total } => {
                let rate = if total == 0 {
                    0.0
                } else {
                    trues as f64 / total as f64
                };
                Values::Rate {
                    rate,
                    passes: trues,
                    fails: total - trues,
                }
            }
            Sink::Trend(trend) => {
                let mut trend = trend.clone();
                trend.prepare();
                Values::Trend(std::sync::Arc::new(trend))
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn trend(values: &[f64]) -> TrendSink {
        let mut sink = TrendSink::new();
        values.iter().for_each(|&value| sink.add(value));
        sink
    }

    /// The table of spec/metrics.md §5, observed on k6.
    #[test]
    fn percentiles_match_k6_to_the_digit() {
        type Row<'a> = (&'a [f64], [f64; 9]);
        let table: [Row<'_>; 3] = [
            (
                &[40.0, 10.0, 30.0, 20.0, 25.0, 35.0],
                [
                    10.0,
                    21.25,
                    27.5,
                    37.5,
                    38.75,
                    39.75,
                    39.97500000000001,
                    40.0,
                    26.666666666666668,
                ],
            ),
            (
                &[25.0, 35.0],
                [25.0, 27.5, 30.0, 34.0, 34.5, 34.9, 34.99, 35.0, 30.0],
            ),
            (&[7.0], [7.0; 9]),
        ];
        for (values, expected) in table {
            let sink = trend(values);
            let mut found: Vec<f64> = [0.0, 25.0, 50.0, 90.0, 95.0, 99.0, 99.9, 100.0]
                .iter()
                .map(|x| sink.percentile(x / 100.0))
                .collect();
            assert_eq!(found[2], sink.med());
            found.push(sink.avg());
            assert_eq!(found, expected, "{values:?}");
        }
    }

    #[test]
    fn an_empty_trend_is_all_zero() {
        let sink = TrendSink::new();
        let read = [
            sink.min(),
            sink.max(),
            sink.avg(),
            sink.med(),
            sink.percentile(0.95),
            sink.sum(),
        ];
        assert_eq!((read, sink.count()), ([0.0; 6], 0));
    }

    #[test]
    fn infinities_and_nan_do_no_harm() {
        let sink = trend(&[
            1.0,
            f64::INFINITY,
            f64::NAN,
            f64::INFINITY,
            f64::NEG_INFINITY,
        ]);
        assert_eq!(sink.count(), 4);
        assert_eq!((sink.min(), sink.max()), (f64::NEG_INFINITY, f64::INFINITY));
        for q in [0.0, 0.1, 0.5, 0.9, 1.0] {
            assert!(!sink.percentile(q).is_nan(), "{q}");
        }
    }

    #[test]
    fn a_folded_trend_keeps_exact_extremes_and_close_percentiles() {
        let values: Vec<f64> = (0..50_000)
            .map(|n| f64::from(n * 7919 % 50_000) / 8.0 - 500.0)
            .collect();
        let sink = trend(&values);
        assert!(matches!(sink.store, Store::Folded(_)));
        assert_eq!(
            (sink.count(), sink.min(), sink.max()),
            (50_000, -500.0, 5749.875)
        );
        assert_eq!(sink.sum(), values.iter().sum::<f64>());
        assert_eq!(
            (sink.percentile(0.0), sink.percentile(1.0)),
            (-500.0, 5749.875)
        );
        for x in [1.0, 10.0, 25.0, 50.0, 90.0, 99.0, 99.9] {
            let exact = x / 100.0 * 49_999.0 / 8.0 - 500.0;
            let found = sink.percentile(x / 100.0);
            assert!(
                (found - exact).abs() <= exact.abs() * 0.004 + 0.125,
                "p({x}) {found} {exact}"
            );
        }
    }

    #[test]
    fn a_gauge_takes_the_newest_value_of_any_shard() {
        let mut sink = Sink::new(MetricKind::Gauge);
        assert!(sink.is_empty());
        sink.fold(&Delta::Gauge {
            last: 5.0,
            time: 20,
            min: 2.0,
            max: 5.0,
        });
        sink.fold(&Delta::Gauge {
            last: 9.0,
            time: 10,
            min: 9.0,
            max: 9.0,
        });
        assert!(matches!(
            sink.values(1.0),
            Values::Gauge {
                value: 5.0,
                min: 2.0,
                max: 9.0
            }
        ));
    }

    proptest! {
        #[test]
        fn merging_is_adding_all(
            one in prop::collection::vec(-1e6..1e6f64, 0..200),
            two in prop::collection::vec(-1e6..1e6f64, 0..200),
            fold in any::<[bool; 2]>(),
        ) {
            let (mut merged, mut other) = (trend(&one), trend(&two));
            if fold[0] { merged.fold(); }
            if fold[1] && !two.is_empty() { other.fold(); }
            merged.merge(&other);
            let all = [&one[..], &two[..]].concat();
            let exact = trend(&all);
            prop_assert_eq!(merged.count(), exact.count());
            prop_assert_eq!((merged.min(), merged.max()), (exact.min(), exact.max()));
            prop_assert!((merged.sum() - exact.sum()).abs() <= 1e-6);
            let mut sorted = all;
            sorted.sort_by(f64::total_cmp);
            for q in [0.0, 0.25, 0.5, 0.9, 1.0] {
                let found = merged.percentile(q);
                let wanted = exact.percentile(q);
                // Interpolating between two values off by 0.4 % each may miss by 0.4 % of the larger.
                let position = (q * sorted.len().saturating_sub(1) as f64).ceil() as usize;
                let scale = sorted.get(position).map_or(0.0, |v| v.abs())
                    .max(sorted.get(position.saturating_sub(1)).map_or(0.0, |v| v.abs()));
                prop_assert!((found - wanted).abs() <= scale * 0.004 + 1e-9, "{} {}", found, wanted);
            }
        }
    }
}
