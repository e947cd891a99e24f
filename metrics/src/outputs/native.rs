//! Native histograms of Prometheus: sparse buckets that grow by a factor of 2^(1/8), the widest
//! below a factor of 1.1.

use std::collections::BTreeMap;

use super::proto::{Message, push_varint, zigzag};

/// Each power of two has 2^3 buckets.
const SCHEMA: i64 = 3;
/// Values up to here, either side of 0, are in one bucket: 2^-128.
const ZERO: f64 = 2.938735877055719e-39;
/// The upper bounds of the buckets of [0.5, 1]: 2^(n/8) / 2.
const BOUNDS: [f64; 8] = [
    0.5,
    0.5452538663326288,
    0.5946035575013605,
    0.6484197773255048,
    0.7071067811865475,
    0.7711054127039704,
    0.8408964152537144,
    0.9170040432046711,
];

/// A distribution in buckets.
#[derive(Debug, Clone, Default)]
pub(crate) struct NativeHistogram {
    count: u64,
    sum: f64,
    zeros: u64,
    negative: BTreeMap<i64, u64>,
    positive: BTreeMap<i64, u64>,
}

impl NativeHistogram {
    pub(crate) fn add(&mut self, value: f64) {
        self.count += 1;
        self.sum += value;
        if value.abs() <= ZERO {
            self.zeros += 1;
            return;
        }
        let side = match value > 0.0 {
            true => &mut self.positive,
            false => &mut self.negative,
        };
        *side.entry(bucket(value.abs())).or_default() += 1;
    }

    /// Adds all that `other` counted.
    pub(crate) fn merge(&mut self, other: &Self) {
        self.count += other.count;
        self.sum += other.sum;
        self.zeros += other.zeros;
        for (mine, theirs) in [
            (&mut self.negative, &other.negative),
            (&mut self.positive, &other.positive),
        ] {
            for (&number, &count) in theirs {
                *mine.entry(number).or_default() += count;
            }
        }
    }

    /// Appends the buckets to a `Histogram` of `io.prometheus.client`, which has count and sum.
    pub(super) fn expose(&self, out: &mut Message) {
        out.sint(5, SCHEMA);
        out.double(6, ZERO);
        out.varint(7, self.zeros);
        push_buckets(out, 9, &self.negative);
        push_buckets(out, 12, &self.positive);
    }

    /// The message of remote write, with a time in milliseconds since 1970.
    pub(super) fn encode(&self, time: i64) -> Message {
        let mut out = Message::default();
        out.varint(1, self.count);
        out.double(3, self.sum);
        out.sint(4, SCHEMA);
        out.double(5, ZERO);
        out.varint(6, self.zeros);
        push_buckets(&mut out, 8, &self.negative);
        push_buckets(&mut out, 11, &self.positive);
        out.varint(15, time as u64);
        out
    }

    /// The message that ends a series: `sum` is the NaN that means it.
    pub(super) fn encode_end(sum: f64, time: i64) -> Message {
        let mut out = Message::default();
        out.varint(1, 0);
        out.double(3, sum);
        out.varint(15, time as u64);
        out
    }
}

/// The number of the bucket of a positive number: its upper bound is 2^(number/8).
fn bucket(value: f64) -> i64 {
    // Infinity goes beyond the bucket of the largest number.
    if value.is_infinite() {
        return bucket(f64::MAX) + 1;
    }
    // As mantissa, from 0.5 on and below 1, and exponent; whatever is denormal counts as 0.
    let bits = value.to_bits();
    let exponent = (bits >> 52) as i64 - 1022;
    let mantissa = f64::from_bits(bits & !(0x7ff << 52) | 1022 << 52);
    let within = BOUNDS.partition_point(|&bound| bound < mantissa);
    within as i64 + (exponent - 1) * BOUNDS.len() as i64
}

/// Spans of buckets side by side, and the differences of their counts.
fn push_buckets(out: &mut Message, spans: u32, buckets: &BTreeMap<i64, u64>) {
    let mut deltas = Vec::new();
    let mut before = 0;
    // Where each span begins after the end of the one before, and its length.
    let mut runs: Vec<(i64, u64)> = Vec::new();
    let mut next = 0;
    for (&number, &count) in buckets {
        match runs.last_mut() {
            Some((_, length)) if number == next => *length += 1,
            _ => runs.push((number - next, 1)),
        }
        next = number + 1;
        push_varint(&mut deltas, zigzag(count as i64 - before));
        before = count as i64;
    }
    for (offset, length) in runs {
        out.message(spans, |span| {
            span.sint(1, offset);
            span.varint(2, length);
        });
    }
    if !deltas.is_empty() {
        out.bytes(spans + 1, &deltas);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn buckets_are_bounded_above_by_powers_of_the_eighth_root_of_two() {
        for (value, number) in [
            (1.0, 0),
            (1.0 + f64::EPSILON, 1),
            (2.0, 8),
            (0.5, -8),
            (1.5, 5),
            (1e-3, -79),
        ] {
            assert_eq!(bucket(value), number, "{value}");
        }
        for number in -400..400 {
            let bound = 2f64.powf(number as f64 / 8.0);
            assert_eq!(bucket(bound * (1.0 - 1e-9)), number);
            assert_eq!(bucket(bound * (1.0 + 1e-9)), number + 1);
        }
        assert_eq!(bucket(f64::INFINITY), bucket(f64::MAX) + 1);
    }

    #[test]
    fn values_around_zero_are_one_bucket() {
        let mut histogram = NativeHistogram::default();
        for value in [0.0, ZERO, -ZERO, 1e-300, 1e-38, -2.0] {
            histogram.add(value);
        }
        assert_eq!((histogram.count, histogram.zeros), (6, 4));
        assert_eq!((histogram.positive.len(), histogram.negative.len()), (1, 1));
    }
}
