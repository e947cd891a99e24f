//! A distribution in bounded memory: counts in buckets whose width grows with the value.
//!
//! The bucket of a number is read off its bits: sign, exponent (the octave) and the first
//! `BITS` bits of the mantissa. That splits each octave into `2^BITS` equal buckets, so a
//! bucket's middle is at most `1 / 2^(BITS+1)` away from any number in it, relative to that
//! number: 0.4 % for `BITS` = 7, 1.6 % for 5. It holds for negative and fractional numbers
//! alike, at any magnitude a normal `f64` has (from 2.2e-308); zero and both infinities
//! have buckets of their own and are exact. Only octaves that were hit take memory
//! (`8 × 2^BITS` bytes each): latencies between 10 µs and 10 s need 20 of them.

/// Counts of numbers, with a relative error of at most `2^-(BITS+1)`.
#[derive(Debug, Clone, Default)]
pub(crate) struct Histogram<const BITS: u32> {
    /// Sorted by the octave's place on the number line.
    octaves: Vec<Octave>,
    /// The octave of the last insertion, where the next one most likely goes.
    recent: usize,
    zeros: u64,
    count: u64,
}

#[derive(Debug, Clone)]
struct Octave {
    /// Sign and exponent as a number that orders as the values do; never 0.
    place: i32,
    /// Counts by leading mantissa bits, from small to large magnitude.
    counts: Box<[u64]>,
}

const MANTISSA: u32 = 52;

impl<const BITS: u32> Histogram<BITS> {
    const BUCKETS: usize = 1 << BITS;

    /// How many numbers were added.
    pub(crate) fn count(&self) -> u64 {
        self.count
    }

    /// Counts one number; NaN is ignored.
    pub(crate) fn add(&mut self, value: f64) {
        self.add_many(value, 1);
    }

    /// Counts a number `times` times; NaN is ignored.
    pub(crate) fn add_many(&mut self, value: f64, times: u64) {
        if value.is_nan() {
            return;
        }
        self.count += times;
        if value == 0.0 {
            self.zeros += times;
            return;
        }
        let magnitude = value.abs().to_bits();
        let exponent = (magnitude >> MANTISSA) as i32 + 1;
        let place = if value < 0.0 { -exponent } else { exponent };
        let bucket = (magnitude >> (MANTISSA - BITS)) as usize & (Self::BUCKETS - 1);
        self.octave(place)[bucket] += times;
    }

    /// Adds all that `other` counted.
    pub(crate) fn merge(&mut self, other: &Self) {
        self.count += other.count;
        self.zeros += other.zeros;
        for octave in &other.octaves {
            let mine = self.octave(octave.place);
            for (mine, theirs) in mine.iter_mut().zip(&octave.counts) {
                *mine += theirs;
            }
        }
    }

    /// About the `rank`-th smallest number (from 0); 0 if there are fewer.
    pub(crate) fn value_at(&self, rank: u64) -> f64 {
        let mut seen = 0;
        for (value, count) in self.buckets() {
            seen += count;
            if rank < seen {
                return value;
            }
        }
        0.0
    }

    /// Middles and counts of the buckets that were hit, from small to large.
    pub(crate) fn buckets(&self) -> impl Iterator<Item = (f64, u64)> {
        let split = self.octaves.partition_point(|octave| octave.place < 0);
        let (below, above) = self.octaves.split_at(split);
        let negative = below.iter().flat_map(|octave| {
            // The larger the magnitude, the smaller the number.
            (0..Self::BUCKETS).rev().map(move |bucket| (octave, bucket))
        });
        let positive = above
            .iter()
            .flat_map(|octave| (0..Self::BUCKETS).map(move |bucket| (octave, bucket)));
        let middle = |(octave, bucket): (&Octave, usize)| {
            (Self::middle(octave.place, bucket), octave.counts[bucket])
        };
        negative
            .map(middle)
            .chain(std::iter::once((0.0, self.zeros)))
            .chain(positive.map(middle))
            .filter(|&(_, count)| count > 0)
    }

    /// The same counts in about three bytes for each bucket that was hit.
    ///
    /// Each bucket is its distance from the one before and its count, as LEB128 numbers.
    pub(crate) fn pack(&self) -> Box<[u8]> {
        let mut packed = Vec::new();
        let mut before = Self::FIRST_CODE;
        for (middle, count) in self.buckets() {
            let code = Self::code(middle);
            push_leb128(&mut packed, (code - before) as u64);
            push_leb128(&mut packed, count);
            before = code;
        }
        packed.into_boxed_slice()
    }

    /// Adds what [`Self::pack`] wrote.
    pub(crate) fn merge_packed(&mut self, packed: &[u8]) {
        let mut rest = packed;
        let mut code = Self::FIRST_CODE;
        while let Some(distance) = take_leb128(&mut rest)
            && let Some(count) = take_leb128(&mut rest)
        {
            code += distance as i64;
            let value = match code {
                0 => 0.0,
                _ => {
                    let bucket = code.unsigned_abs() - 1;
                    let exponent = (bucket >> BITS) as i32 + 1;
                    let place = if code < 0 { -exponent } else { exponent };
                    Self::middle(place, bucket as usize & (Self::BUCKETS - 1))
                }
            };
            self.add_many(value, count);
        }
    }

    /// Below every [`Self::code`].
    const FIRST_CODE: i64 = -(1 << (13 + BITS));

    /// The bucket of a number as one integer that orders as the numbers do.
    fn code(value: f64) -> i64 {
        if value == 0.0 {
            return 0;
        }
        let bucket = (value.abs().to_bits() >> (MANTISSA - BITS)) as i64 + 1;
        if value < 0.0 { -bucket } else { bucket }
    }

    /// Bytes on the heap.
    #[cfg(test)]
    pub(crate) fn heap_bytes(&self) -> usize {
        self.octaves.capacity() * size_of::<Octave>()
            + self.octaves.len() * Self::BUCKETS * size_of::<u64>()
    }

    fn middle(place: i32, bucket: usize) -> f64 {
        let exponent = (place.unsigned_abs() - 1) as u64;
        if exponent == 0x7ff {
            return if place < 0 {
                f64::NEG_INFINITY
            } else {
                f64::INFINITY
            };
        }
        let half = 1u64 << (MANTISSA - BITS - 1);
        let bits = exponent << MANTISSA | (bucket as u64) << (MANTISSA - BITS) | half;
        let magnitude = f64::from_bits(bits);
        if place < 0 { -magnitude } else { magnitude }
    }

    fn octave(&mut self, place: i32) -> &mut [u64] {
        let hit = self
            .octaves
            .get(self.recent)
            .is_some_and(|octave| octave.place == place);
        if !hit {
            self.recent = match self
                .octaves
                .binary_search_by_key(&place, |octave| octave.place)
            {
                Ok(found) => found,
                Err(gap) => {
                    let counts = vec![0; Self::BUCKETS].into_boxed_slice();
                    self.octaves.insert(gap, Octave { place, counts });
                    gap
                }
            };
        }
        &mut self.octaves[self.recent].counts
    }
}

fn push_leb128(out: &mut Vec<u8>, mut number: u64) {
    while number >= 0x80 {
        out.push(number as u8 | 0x80);
        number >>= 7;
    }
    out.push(number as u8);
}

fn take_leb128(rest: &mut &[u8]) -> Option<u64> {
    let mut number = 0;
    for shift in (0..64).step_by(7) {
        let (&byte, tail) = rest.split_first()?;
        *rest = tail;
        number |= u64::from(byte & 0x7f) << shift;
        if byte < 0x80 {
            return Some(number);
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn zero_and_the_infinities_are_exact_and_nan_is_ignored() {
        let mut histogram = Histogram::<7>::default();
        for value in [
            0.0,
            f64::INFINITY,
            -0.0,
            f64::NEG_INFINITY,
            f64::NAN,
            f64::MAX,
            f64::MIN,
        ] {
            histogram.add(value);
        }
        assert_eq!(histogram.count(), 6);
        assert_eq!(histogram.value_at(0), f64::NEG_INFINITY);
        assert!((histogram.value_at(1) / f64::MIN - 1.0).abs() <= 0.004);
        assert_eq!((histogram.value_at(2), histogram.value_at(3)), (0.0, 0.0));
        assert!((histogram.value_at(4) / f64::MAX - 1.0).abs() <= 0.004);
        assert_eq!(histogram.value_at(5), f64::INFINITY);
    }

    fn number() -> impl Strategy<Value = f64> {
        prop_oneof![
            prop::num::f64::NORMAL | prop::num::f64::ZERO,
            0.001..60_000.0f64,
            -10.0..10.0f64,
            (-1000..1000i32).prop_map(f64::from),
        ]
    }

    fn close(found: f64, exact: f64, bound: f64) -> bool {
        found == exact || ((found - exact) / exact).abs() <= bound
    }

    proptest! {
        #[test]
        fn every_rank_is_within_the_error_bound(mut values in prop::collection::vec(number(), 1..300)) {
            let mut fine = Histogram::<7>::default();
            let mut coarse = Histogram::<5>::default();
            for &value in &values {
                fine.add(value);
                coarse.add(value);
            }
            values.sort_by(f64::total_cmp);
            for (rank, &exact) in values.iter().enumerate() {
                let found = fine.value_at(rank as u64);
                prop_assert!(close(found, exact, 0.004), "{found} for {exact}");
                let found = coarse.value_at(rank as u64);
                prop_assert!(close(found, exact, 0.016), "{found} for {exact}");
            }
        }

        #[test]
        fn packing_keeps_every_count(values in prop::collection::vec(number(), 0..200)) {
            let mut histogram = Histogram::<5>::default();
            values.iter().for_each(|&value| histogram.add(value));
            histogram.add_many(f64::INFINITY, 300);
            histogram.add(f64::NEG_INFINITY);
            let mut unpacked = Histogram::<5>::default();
            unpacked.merge_packed(&histogram.pack());
            prop_assert_eq!(unpacked.count(), histogram.count());
            prop_assert!(unpacked.buckets().eq(histogram.buckets()));
        }

        #[test]
        fn merging_equals_adding(one in prop::collection::vec(number(), 0..100), two in prop::collection::vec(number(), 0..100)) {
            let mut merged = Histogram::<7>::default();
            let mut other = Histogram::<7>::default();
            let mut all = Histogram::<7>::default();
            one.iter().for_each(|&value| merged.add(value));
            two.iter().for_each(|&value| other.add(value));
            one.iter().chain(&two).for_each(|&value| all.add(value));
            merged.merge(&other);
            prop_assert_eq!(merged.count(), all.count());
            prop_assert!(merged.buckets().eq(all.buckets()));
        }
    }
}
