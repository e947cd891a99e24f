//! What Prometheus wants to know of one time series.
//!
//! Kept beside the sinks of metrics and sub-metrics, and only while a Prometheus output
//! exists. Sums and counts are cumulative and exact. A trend also keeps a window of ten
//! minutes for its quantiles, cut into five slices of two minutes: a slice is exact up to
//! 64 values, then a histogram with a relative error of at most 1.6 %; a slice that is
//! past is packed to a few bytes for each bucket. A busy series with latencies over two
//! orders of magnitude stays below 4 KB, and one that has been silent for ten minutes
//! holds no window at all. The buckets of a histogram are kept only where they are asked for.

use std::sync::Arc;

use crate::{
    histogram::Histogram,
    outputs::{exposition::Bounds, native::NativeHistogram},
    recorder::Delta,
};

/// The width of a slice of the window, in nanoseconds.
const SLICE: i64 = 120 * 1_000_000_000;
/// How many slices make the window.
const SLICES: i64 = 5;
/// Up to this many values a slice is exact.
const EXACT: usize = 64;

/// Which slice of time an instant falls into.
pub(crate) fn slice_of(unix_ns: i64) -> i64 {
    unix_ns.div_euclid(SLICE)
}

/// What is kept of a trend beside its totals and its window.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct TrendForms {
    /// The upper bounds of the buckets of a classic histogram.
    pub classic: Option<Arc<Bounds>>,
    /// A native histogram.
    pub native: bool,
}

impl TrendForms {
    /// Whether there is a histogram of either kind.
    pub(crate) fn any(&self) -> bool {
        self.classic.is_some() || self.native
    }
}

/// The state of one series.
#[derive(Debug, Clone)]
pub(crate) enum SeriesSink {
    /// Sum of the values that are not negative.
    Counter {
        raised: f64,
    },
    Gauge {
        last: f64,
        time: i64,
    },
    Rate {
        trues: u64,
        total: u64,
        sum: f64,
    },
    Trend(Box<TrendSeries>),
    /// A trend with histograms.
    Distribution(Box<TrendSeries>, Box<Histograms>),
}

impl SeriesSink {
    pub(crate) fn new(delta: &Delta, forms: &TrendForms) -> Self {
        match delta {
            Delta::Counter { .. } => SeriesSink::Counter { raised: 0.0 },
            Delta::Gauge { .. } => SeriesSink::Gauge {
                last: 0.0,
                time: i64::MIN,
            },
            Delta::Rate { .. } => SeriesSink::Rate {
                trues: 0,
                total: 0,
                sum: 0.0,
            },
            Delta::Trend { .. } if forms.any() => {
                SeriesSink::Distribution(Box::default(), Box::new(Histograms::new(forms)))
            }
            Delta::Trend { .. } => SeriesSink::Trend(Box::default()),
        }
    }

    /// Adds what came in; `slice` is the present one.
    // What an arm calls is called last, so that none of them needs a frame on the stack.
    #[inline(never)]
    pub(crate) fn fold(&mut self, delta: &Delta, slice: i64) {
        match (self, delta) {
            (SeriesSink::Counter { raised }, Delta::Counter { raised: more, .. }) => {
                *raised += more
            }
            (
                SeriesSink::Gauge { last, time },
                &Delta::Gauge {
                    last: new,
                    time: at,
                    ..
                },
            ) => {
                if at >= *time {
                    (*last, *time) = (new, at);
                }
            }
            (
                SeriesSink::Rate { trues, total, sum },
                Delta::Rate {
                    trues: yes,
                    total: all,
                    sum: more,
                    ..
                },
            ) => {
                *trues += yes;
                *total += all;
                *sum += more;
            }
            (SeriesSink::Trend(trend), Delta::Trend { values, time }) => {
                trend.add(values, *time, slice);
            }
            (SeriesSink::Distribution(trend, histograms), Delta::Trend { values, time }) => {
                histograms.add(values, trend, *time, slice);
            }
            _ => debug_assert!(false, "a delta of another kind than its series"),
        }
    }

    /// Adds another series of the same metric that has the same labels.
    pub(crate) fn merge(&mut self, other: &SeriesSink) {
        match (self, other) {
            (SeriesSink::Counter { raised }, SeriesSink::Counter { raised: more }) => {
                *raised += more
            }
            (
                SeriesSink::Gauge { last, time },
                &SeriesSink::Gauge {
                    last: new,
                    time: at,
                },
            ) => {
                if at >= *time {
                    (*last, *time) = (new, at);
                }
            }
            (
                SeriesSink::Rate { trues, total, sum },
                SeriesSink::Rate {
                    trues: yes,
                    total: all,
                    sum: more,
                },
            ) => {
                *trues += yes;
                *total += all;
                *sum += more;
            }
            (SeriesSink::Trend(trend), SeriesSink::Trend(more)) => trend.merge(more),
            (
                SeriesSink::Distribution(trend, histograms),
                SeriesSink::Distribution(more, others),
            ) => {
                trend.merge(more);
                histograms.merge(others);
            }
            _ => debug_assert!(false, "series of one metric are of one kind"),
        }
    }

    /// Frees what the window no longer needs.
    pub(crate) fn sweep(&mut self, slice: i64) {
        match self {
            SeriesSink::Trend(trend) | SeriesSink::Distribution(trend, _) => trend.sweep(slice),
            SeriesSink::Counter { .. } | SeriesSink::Gauge { .. } | SeriesSink::Rate { .. } => {}
        }
    }
}

/// The histograms of a trend, which are cumulative over the run.
#[derive(Debug, Clone)]
pub(crate) struct Histograms {
    pub(crate) classic: Option<Classic>,
    pub(crate) native: Option<NativeHistogram>,
}

/// Buckets with the same bounds for all series.
#[derive(Debug, Clone)]
pub(crate) struct Classic {
    pub(crate) bounds: Arc<Bounds>,
    /// One count for each bucket; the last is of what lies above all bounds.
    counts: Box<[u64]>,
}

impl Classic {
    /// For each bound, how many values are not above it.
    pub(crate) fn below(&self) -> Vec<u64> {
        let mut below = 0;
        let counts = self.counts.iter().take(self.bounds.len());
        counts
            .map(|count| {
                below += count;
                below
            })
            .collect()
    }
}

impl Histograms {
    fn new(forms: &TrendForms) -> Self {
        let classic = forms.classic.as_ref().map(|bounds| Classic {
            bounds: bounds.clone(),
            counts: vec![0; bounds.len() + 1].into(),
        });
        Self {
            classic,
            native: forms.native.then(NativeHistogram::default),
        }
    }

    /// Adds values to the histograms and to their trend.
    #[inline(never)]
    fn add(&mut self, values: &[f64], trend: &mut TrendSeries, time: i64, slice: i64) {
        trend.add(values, time, slice);
        if let Some(classic) = &mut self.classic {
            for &value in values {
                classic.counts[classic.bounds.position(value)] += 1;
            }
        }
        if let Some(native) = &mut self.native {
            values.iter().for_each(|&value| native.add(value));
        }
    }

    fn merge(&mut self, other: &Self) {
        if let (Some(mine), Some(theirs)) = (&mut self.classic, &other.classic) {
            for (mine, theirs) in mine.counts.iter_mut().zip(&theirs.counts) {
                *mine += theirs;
            }
        }
        if let (Some(mine), Some(theirs)) = (&mut self.native, &other.native) {
            mine.merge(theirs);
        }
    }
}

/// A trend's totals and its window.
#[derive(Debug, Clone)]
pub(crate) struct TrendSeries {
    pub(crate) sum: f64,
    pub(crate) count: u64,
    /// The newest value, and when it came.
    pub(crate) last: f64,
    time: i64,
    /// Oldest first.
    slices: Vec<Slice>,
}

#[derive(Debug, Clone)]
struct Slice {
    number: i64,
    count: u64,
    min: f64,
    max: f64,
    values: SliceValues,
}

#[derive(Debug, Clone)]
enum SliceValues {
    Exact(Vec<f64>),
    Open(Histogram<5>),
    Packed(Box<[u8]>),
}

impl Default for TrendSeries {
    fn default() -> Self {
        Self {
            sum: 0.0,
            count: 0,
            last: 0.0,
            time: i64::MIN,
            slices: Vec::new(),
        }
    }
}

impl TrendSeries {
    fn add(&mut self, values: &[f64], time: i64, slice: i64) {
        let Some(&last) = values.last() else { return };
        if time >= self.time {
            (self.last, self.time) = (last, time);
        }
        // A clock that was set back must not open a slice in the past.
        if self
            .slices
            .last()
            .is_none_or(|newest| newest.number < slice)
        {
            self.sweep(slice);
            self.slices.push(Slice {
                number: slice,
                count: 0,
                min: f64::INFINITY,
                max: f64::NEG_INFINITY,
                values: SliceValues::Exact(Vec::new()),
            });
        }
        if let Some(newest) = self.slices.last_mut() {
            for &value in values {
                self.sum += value;
                self.count += 1;
                newest.add(value);
            }
        }
    }

    fn merge(&mut self, other: &TrendSeries) {
        self.sum += other.sum;
        self.count += other.count;
        if other.time >= self.time {
            (self.last, self.time) = (other.last, other.time);
        }
        self.slices.extend(other.slices.iter().cloned());
    }

    fn sweep(&mut self, slice: i64) {
        self.slices.retain(|past| past.number > slice - SLICES);
        for past in self.slices.iter_mut().filter(|past| past.number < slice) {
            past.close();
        }
        self.slices.shrink_to_fit();
    }

    /// The quantiles of the window: each the smallest value with at least that share of the
    /// values at or below it, so a value that occurred while the window is exact. The last
    /// quantile, 1, is always the exact maximum. NaN when nothing came for ten minutes.
    pub(crate) fn quantiles<const N: usize>(&self, shares: [f64; N], slice: i64) -> [f64; N] {
        let live = || {
            self.slices
                .iter()
                .filter(|past| past.number > slice - SLICES)
        };
        let count: u64 = live().map(|past| past.count).sum();
        if count == 0 {
            return [f64::NAN; N];
        }
        let rank = |share: f64| {
            // A hair below, lest 0.95 × 20 = 19.000…01 be taken for 20.
            let rank = (share * count as f64 - 1e-9).ceil() as u64;
            rank.clamp(1, count) - 1
        };
        let mut exact = Vec::new();
        let mut histogram = Histogram::<5>::default();
        for past in live() {
            match &past.values {
                SliceValues::Exact(values) => exact.extend_from_slice(values),
                SliceValues::Open(open) => histogram.merge(open),
                SliceValues::Packed(packed) => histogram.merge_packed(packed),
            }
        }
        if histogram.count() == 0 {
            exact.sort_unstable_by(f64::total_cmp);
            return shares.map(|share| exact[rank(share) as usize]);
        }
        exact.iter().for_each(|&value| histogram.add(value));
        let min = live().fold(f64::INFINITY, |min, past| min.min(past.min));
        let max = live().fold(f64::NEG_INFINITY, |max, past| max.max(past.max));
        shares.map(|share| match rank(share) {
            last if last + 1 == count => max,
            rank => histogram.value_at(rank).clamp(min, max),
        })
    }

    /// Bytes that the series takes, with all it points to.
    #[cfg(test)]
    fn bytes(&self) -> usize {
        let values = |slice: &Slice| match &slice.values {
            SliceValues::Exact(values) => values.capacity() * size_of::<f64>(),
            SliceValues::Open(histogram) => histogram.heap_bytes(),
            SliceValues::Packed(packed) => packed.len(),
        };
        size_of::<Self>()
            + self.slices.capacity() * size_of::<Slice>()
            + self.slices.iter().map(values).sum::<usize>()
    }
}

impl Slice {
    fn add(&mut self, value: f64) {
        self.count += 1;
        self.min = self.min.min(value);
        self.max = self.max.max(value);
        match &mut self.values {
            SliceValues::Exact(values) if values.len() < EXACT => values.push(value),
            _ => self.open().add(value),
        }
    }

    /// The slice's histogram, made of whatever it holds.
    fn open(&mut self) -> &mut Histogram<5> {
        let mut histogram = Histogram::default();
        match &self.values {
            SliceValues::Open(_) => {}
            SliceValues::Exact(values) => values.iter().for_each(|&value| histogram.add(value)),
            SliceValues::Packed(packed) => histogram.merge_packed(packed),
        }
        if !matches!(self.values, SliceValues::Open(_)) {
            self.values = SliceValues::Open(histogram);
        }
        match &mut self.values {
            SliceValues::Open(histogram) => histogram,
            _ => unreachable!("opened above"),
        }
    }

    fn close(&mut self) {
        match &mut self.values {
            SliceValues::Exact(values) => values.shrink_to_fit(),
            SliceValues::Open(histogram) => {
                self.values = SliceValues::Packed(histogram.pack());
            }
            SliceValues::Packed(_) => {}
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SHARES: [f64; 4] = [0.5, 0.9, 0.95, 1.0];

    fn series(values: impl IntoIterator<Item = f64>, slice: i64) -> TrendSeries {
        let mut series = TrendSeries::default();
        series.add(&values.into_iter().collect::<Vec<_>>(), 1, slice);
        series
    }

    #[test]
    fn few_samples_give_values_that_occurred() {
        // Observed on the reference (spec/metrics.md §11.2).
        assert_eq!(
            series((0..10).rev().map(f64::from), 3).quantiles(SHARES, 3),
            [4.0, 8.0, 9.0, 9.0]
        );
        assert_eq!(series([12.5], 3).quantiles(SHARES, 3), [12.5; 4]);
        // Ranks that are whole numbers must not slip to the next value.
        let hundred = series((1..=60).map(f64::from), 3);
        assert_eq!(hundred.quantiles(SHARES, 3), [30.0, 54.0, 57.0, 60.0]);
    }

    #[test]
    fn the_window_forgets_after_ten_minutes_and_totals_do_not() {
        let mut series = series([100.0], 10);
        series.add(&[1.0, 2.0], 2, 12);
        assert_eq!(series.quantiles(SHARES, 14), [2.0, 100.0, 100.0, 100.0]);
        assert_eq!(series.quantiles(SHARES, 15), [1.0, 2.0, 2.0, 2.0]);
        assert!(
            series
                .quantiles(SHARES, 17)
                .iter()
                .all(|value| value.is_nan())
        );
        assert_eq!((series.count, series.sum, series.last), (3, 103.0, 2.0));
        series.sweep(17);
        assert_eq!(series.bytes(), size_of::<TrendSeries>());
    }

    #[test]
    fn many_samples_stay_close_and_the_maximum_exact() {
        let values = (1..=100_000).map(|n| f64::from(n * 7919 % 100_003) / 10.0);
        let mut exact: Vec<f64> = values.clone().collect();
        exact.sort_by(f64::total_cmp);
        let mut series = TrendSeries::default();
        for (index, value) in values.enumerate() {
            series.add(&[value], index as i64, index as i64 / 25_000);
        }
        let found = series.quantiles(SHARES, 3);
        for (share, found) in SHARES.into_iter().zip(found) {
            let wanted = exact[(share * 100_000.0) as usize - 1];
            assert!(
                (found / wanted - 1.0).abs() <= 0.016,
                "{share}: {found} {wanted}"
            );
        }
        assert_eq!(found[3], *exact.last().unwrap());
    }

    #[test]
    fn a_busy_series_at_rest_takes_less_than_4_kb() {
        let mut series = TrendSeries::default();
        for slice in 0..5 {
            // 0.5 ms to 50 ms, every bucket hit.
            let values: Vec<f64> = (0..20_000)
                .map(|n| 0.5 * 100f64.powf(f64::from(n) / 20_000.0))
                .collect();
            series.add(&values, 0, slice);
        }
        series.sweep(5);
        assert_eq!(series.slices.len(), 4);
        series.add(&[1.0], 0, 5);
        assert!(series.bytes() <= 4096, "{}", series.bytes());
    }

    #[test]
    fn merged_series_have_the_newest_value_and_all_counts() {
        let mut one = series([1.0, 2.0], 3);
        one.time = 9;
        let mut two = SeriesSink::Trend(Box::new(series([30.0], 3)));
        two.merge(&SeriesSink::Trend(Box::new(one)));
        let SeriesSink::Trend(merged) = two else {
            panic!("trend")
        };
        assert_eq!((merged.count, merged.sum, merged.last), (3, 33.0, 2.0));
        assert_eq!(merged.quantiles(SHARES, 3), [2.0, 30.0, 30.0, 30.0]);
    }

    #[test]
    fn histograms_take_memory_only_where_they_are_asked_for() {
        let delta = Delta::Trend {
            values: vec![1.0, 7.0],
            time: 0,
        };
        let plain = SeriesSink::new(&delta, &TrendForms::default());
        assert!(matches!(plain, SeriesSink::Trend(_)));
        // As the largest of the others has it: three numbers and which of them it is.
        assert_eq!(size_of::<SeriesSink>(), 32);
        let forms = TrendForms {
            classic: Some(Arc::new(Bounds::new([1.0, 5.0]))),
            native: false,
        };
        let mut asked = SeriesSink::new(&delta, &forms);
        asked.fold(&delta, 0);
        let SeriesSink::Distribution(trend, histograms) = asked else {
            panic!("with a histogram")
        };
        assert_eq!(trend.count, 2);
        assert!(histograms.native.is_none());
        let classic = histograms.classic.expect("a classic one");
        assert_eq!((classic.below(), classic.counts.len()), (vec![1, 1], 3));
    }
}
