//! How late things happened: a distribution of times that many threads add to without a lock.
//!
//! Each octave of nanoseconds is split into eight buckets, so a quantile is at most 1/16 away from
//! the value that it stands for; the maximum is exact.

use std::{
    sync::atomic::{AtomicU64, Ordering},
    time::Duration,
};

/// Bits of the value, below its highest, that tell buckets apart.
const BITS: u32 = 3;
const BUCKETS: usize = (64 - BITS as usize + 1) << BITS;

/// A distribution of times.
pub(crate) struct Lateness {
    buckets: Box<[AtomicU64]>,
    nanos: AtomicU64,
    max: AtomicU64,
}

impl Default for Lateness {
    /// Nothing was late yet.
    fn default() -> Self {
        Self {
            buckets: (0..BUCKETS).map(|_| AtomicU64::new(0)).collect(),
            nanos: AtomicU64::new(0),
            max: AtomicU64::new(0),
        }
    }
}

impl Lateness {
    /// Something was so late.
    pub(crate) fn record(&self, late: Duration) {
        let nanos = u64::try_from(late.as_nanos()).unwrap_or(u64::MAX);
        self.buckets[bucket(nanos)].fetch_add(1, Ordering::Relaxed);
        self.nanos.fetch_add(nanos, Ordering::Relaxed);
        // Mostly there is nothing to write, and reading a line is cheaper than owning it.
        if nanos > self.max.load(Ordering::Relaxed) {
            self.max.fetch_max(nanos, Ordering::Relaxed);
        }
    }

    /// How many times were recorded.
    pub(crate) fn count(&self) -> u64 {
        let counts = self.buckets.iter().map(|b| b.load(Ordering::Relaxed));
        counts.sum()
    }

    /// The sum of all times.
    pub(crate) fn sum(&self) -> Duration {
        Duration::from_nanos(self.nanos.load(Ordering::Relaxed))
    }

    /// The longest time.
    pub(crate) fn max(&self) -> Duration {
        Duration::from_nanos(self.max.load(Ordering::Relaxed))
    }

    /// The time that the share `q` (0 to 1) of all does not exceed; zero without any.
    pub(crate) fn quantile(&self, q: f64) -> Duration {
        let rank = (q * self.count() as f64).ceil().max(1.0) as u64;
        let mut seen = 0;
        for (index, count) in self.buckets.iter().enumerate() {
            seen += count.load(Ordering::Relaxed);
            if seen >= rank {
                let middle = (lowest(index) / 2).saturating_add(lowest(index + 1) / 2);
                return Duration::from_nanos(middle).min(self.max());
            }
        }
        Duration::ZERO
    }

    /// How many times were at most `limit`, up to the width of a bucket.
    pub(crate) fn at_most(&self, limit: Duration) -> u64 {
        let nanos = u64::try_from(limit.as_nanos()).unwrap_or(u64::MAX);
        let upto = &self.buckets[..bucket(nanos)];
        upto.iter().map(|b| b.load(Ordering::Relaxed)).sum()
    }
}

/// The bucket of a time in nanoseconds.
fn bucket(nanos: u64) -> usize {
    let top = 63 - (nanos | 1).leading_zeros();
    let shift = top.saturating_sub(BITS);
    let octave = (top.max(BITS) - BITS) as usize;
    // Below 2^BITS each value has its own bucket; above, the leading bit is the octave's.
    (octave << BITS) + (nanos >> shift) as usize
}

/// The shortest time, in nanoseconds, of a bucket.
fn lowest(bucket: usize) -> u64 {
    let octaves = bucket >> BITS;
    if octaves <= 1 {
        return bucket as u64;
    }
    let mantissa = (bucket & ((1 << BITS) - 1)) as u64 | 1 << BITS;
    mantissa.checked_shl(octaves as u32 - 1).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn quantiles_stand_for_what_was_recorded() {
        let lateness = Lateness::default();
        assert_eq!(lateness.quantile(0.5), Duration::ZERO);
        for micros in 1..=1000 {
            lateness.record(Duration::from_micros(micros));
        }
        let micros = |q| lateness.quantile(q).as_nanos() as f64 / 1e3;
        for (q, expected) in [(0.01, 10.0), (0.5, 500.0), (0.99, 990.0)] {
            let error = (micros(q) - expected).abs() / expected;
            assert!(error < 1.0 / 16.0, "{q}: {}", micros(q));
        }
        assert_eq!(lateness.max(), Duration::from_millis(1));
        assert_eq!(lateness.quantile(1.0), Duration::from_millis(1));
        assert_eq!(lateness.count(), 1000);
        assert_eq!(lateness.sum(), Duration::from_micros(500_500));
        let half = lateness.at_most(Duration::from_micros(500));
        assert!((468..=500).contains(&half), "{half}");
    }

    proptest! {
        #[test]
        fn every_time_lies_in_its_bucket(nanos in any::<u64>(), shift in 0u32..64) {
            let nanos = nanos >> shift;
            let index = bucket(nanos);
            prop_assert!(index < BUCKETS);
            prop_assert!(lowest(index) <= nanos);
            prop_assert!(nanos < lowest(index + 1) || index + 1 == BUCKETS);
        }
    }
}
