//! `Math.random` of scripts that can seed it: the generator behind `randomSeed()` of `k6`.
//!
//! A seed gives the numbers that it gives in k6: those of Go's first `math/rand`, an additive
//! lagged Fibonacci generator over 607 words. Its start state mixes the seed with the state that
//! the same recurrence has after 7.8e12 steps from seed 1.

use std::{
    cell::{Cell, RefCell},
    sync::LazyLock,
};

use rquickjs::{Ctx, Function, Object, Result as JsResult, object::Property};

use crate::vu::state_of;

/// The numbers of one VU.
#[derive(Default)]
pub(crate) struct Random {
    seeded: RefCell<Option<Box<Source>>>,
    /// State of the generator without a seed; 0 until it is first asked.
    unseeded: Cell<u64>,
    installed: Cell<bool>,
}

impl Random {
    /// Starts over from a seed.
    pub(crate) fn seed(&self, seed: i64) {
        *self.seeded.borrow_mut() = Some(Box::new(Source::new(seed)));
    }

    /// Forgets the seed: numbers come from the operating system's entropy again.
    pub(crate) fn forget(&self) {
        *self.seeded.borrow_mut() = None;
    }

    /// The next number, from 0 inclusive to 1 exclusive.
    fn next(&self) -> f64 {
        if let Some(source) = self.seeded.borrow_mut().as_mut() {
            return source.float();
        }
        let mut state = self.unseeded.get();
        if state == 0 {
            // Without entropy there is no program: the process could not have started its heaps.
            state = getrandom::u64().unwrap_or(1) | 1;
        }
        state = state.wrapping_add(0x9e37_79b9_7f4a_7c15);
        self.unseeded.set(state);
        // SplitMix64.
        let mixed = (state ^ state >> 30).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let mixed = (mixed ^ mixed >> 27).wrapping_mul(0x94d0_49bb_1331_11eb);
        ((mixed ^ mixed >> 31) >> 11) as f64 / (1u64 << 53) as f64
    }
}

/// Puts a `Math.random` in place that obeys [`Random`], once.
///
/// Libraries keep the function that they find, so it is there before any module runs if one of
/// them speaks of `randomSeed`; others get along with the engine's, since this one costs a VU 4 KB
/// with the rest of `Math`. In the first init, which no iteration follows, it comes with the call.
pub(crate) fn install(ctx: &Ctx<'_>) -> JsResult<()> {
    let state = state_of(ctx);
    if state.random.installed.replace(true) {
        return Ok(());
    }
    let random = Function::new(ctx.clone(), move || state.random.next())?.with_name("random")?;
    let math: Object<'_> = ctx.globals().get("Math")?;
    math.prop("random", Property::from(random).configurable().writable())
}

/// Words of state.
const LENGTH: usize = 607;
/// How far back the second summand lies.
const TAP: usize = 273;
/// Modulus of the generator that spreads a seed over the words.
const MODULUS: u64 = (1 << 31) - 1;
/// Steps between seed 1 and the state that is mixed into every seed's.
const STEPS: u64 = 7_800_000_000_000;

/// Go's generator.
struct Source {
    words: [u64; LENGTH],
    tap: usize,
    feed: usize,
}

impl Source {
    fn new(seed: i64) -> Self {
        let mut words = spread(seed, 40, 20);
        for (word, mixed) in words.iter_mut().zip(&*MIXED) {
            *word ^= mixed;
        }
        Self {
            words,
            tap: 0,
            feed: LENGTH - TAP,
        }
    }

    fn next(&mut self) -> u64 {
        self.tap = self.tap.checked_sub(1).unwrap_or(LENGTH - 1);
        self.feed = self.feed.checked_sub(1).unwrap_or(LENGTH - 1);
        let word = self.words[self.feed].wrapping_add(self.words[self.tap]);
        self.words[self.feed] = word;
        word
    }

    fn float(&mut self) -> f64 {
        loop {
            let number = (self.next() & (u64::MAX >> 1)) as f64 / (1u64 << 63) as f64;
            if number < 1.0 {
                return number;
            }
        }
    }
}

/// Spreads a seed over the words, each made of three numbers at these shifts.
fn spread(seed: i64, high: u32, middle: u32) -> [u64; LENGTH] {
    let mut x = seed.rem_euclid(MODULUS as i64) as u64;
    if x == 0 {
        x = 89_482_311;
    }
    let mut step = || {
        x = x * 48_271 % MODULUS;
        x
    };
    for _ in 0..20 {
        step();
    }
    std::array::from_fn(|_| step() << high ^ step() << middle ^ step())
}

/// The words after [`STEPS`] steps from seed 1, by position.
///
/// A step is `y[n] = y[n - 607] + y[n - 273]`, so `x^n` modulo `x^607 - x^334 - 1` says of which of
/// the first words `y[n]` is the sum: forty-three squarings instead of trillions of steps.
static MIXED: LazyLock<[u64; LENGTH]> = LazyLock::new(|| {
    let start = spread(1, 20, 10);
    // In order of time; the first step writes the word before LENGTH - TAP, and so on downwards.
    let position = |n: usize| (2 * LENGTH - TAP - 1 - n % LENGTH) % LENGTH;
    let mut sequence: Vec<u64> = (0..LENGTH).map(|n| start[position(n)]).collect();
    for n in LENGTH..2 * LENGTH {
        sequence.push(sequence[n - LENGTH].wrapping_add(sequence[n - TAP]));
    }
    let power = power_of_x(STEPS);
    let mut words = [0; LENGTH];
    for n in 0..LENGTH {
        let terms = power.iter().zip(&sequence[n..]);
        let word = terms.fold(0u64, |sum, (a, b)| sum.wrapping_add(a.wrapping_mul(*b)));
        let n = (STEPS + n as u64) % LENGTH as u64;
        words[position(n as usize)] = word;
    }
    words
});

/// `x^exponent` modulo the polynomial of the recurrence, lowest coefficient first.
fn power_of_x(exponent: u64) -> Vec<u64> {
    let mut power = vec![0u64; LENGTH];
    power[0] = 1;
    for bit in (0..u64::BITS - exponent.leading_zeros()).rev() {
        let mut product = vec![0u64; 2 * LENGTH];
        let shift = usize::from(exponent >> bit & 1 == 1);
        for (i, a) in power.iter().enumerate().filter(|(_, a)| **a != 0) {
            for (b, sum) in power.iter().zip(&mut product[i + shift..]) {
                *sum = sum.wrapping_add(a.wrapping_mul(*b));
            }
        }
        for i in (LENGTH..2 * LENGTH).rev() {
            let coefficient = product[i];
            for lower in [i - TAP, i - LENGTH] {
                product[lower] = product[lower].wrapping_add(coefficient);
            }
        }
        product.truncate(LENGTH);
        power = product;
    }
    power
}

#[cfg(test)]
mod tests {
    use super::{LENGTH, Random, Source, TAP, power_of_x, spread};
    use crate::harness::run;

    #[test]
    fn seeds_give_the_numbers_of_the_reference() {
        for (seed, numbers) in [
            (123, &[0.5813171323049762, 0.026224297271376255][..]),
            (
                1,
                &[0.6046602879796196, 0.9405090880450124, 0.6645600532184904],
            ),
            (0, &[0.9451961492941164]),
        ] {
            let mut source = Source::new(seed);
            for number in numbers {
                assert_eq!(source.float(), *number, "seed {seed}");
            }
        }
    }

    /// The jump is as good as the steps it leaves out, where one can still take them.
    #[test]
    fn powers_leap_over_steps() {
        let mut sequence = spread(7, 20, 10).to_vec();
        for n in LENGTH..20_000 {
            sequence.push(sequence[n - LENGTH].wrapping_add(sequence[n - TAP]));
        }
        for n in [0, 1, 2, 606, 607, 608, 1300, 9999, 19_999] {
            let terms = power_of_x(n).into_iter().zip(&sequence);
            let sum = terms.fold(0u64, |sum, (a, b)| sum.wrapping_add(a.wrapping_mul(*b)));
            assert_eq!(sum, sequence[n as usize], "{n}");
        }
    }

    #[test]
    fn without_a_seed_numbers_differ_and_spread() {
        let (one, other) = (Random::default(), Random::default());
        let numbers: Vec<f64> = (0..10_000).map(|_| one.next()).collect();
        assert!(numbers.iter().all(|n| (0.0..1.0).contains(n)));
        let mean = numbers.iter().sum::<f64>() / 10_000.0;
        assert!((0.48..0.52).contains(&mean), "{mean}");
        assert_ne!(numbers[0], other.next());
        one.seed(1);
        assert_eq!(one.next(), 0.6046602879796196);
        one.forget();
        assert_ne!(one.next(), 0.9405090880450124);
    }

    #[test]
    fn scripts_that_never_seed_keep_the_engines_function() {
        let lines = run(
            "import * as k6 from 'k6';
             export default function () {
               const before = Math.random, seed = k6['random' + 'Seed'];
               console.log(typeof before(), before === Math.random);
               seed(1); console.log(before === Math.random, Math.random());
             }",
            1,
        );
        assert_eq!(lines, ["number true", "false 0.6046602879796196"]);
    }

    #[test]
    fn a_seed_of_the_top_level_ends_with_it() {
        let lines = run(
            "const { random } = Math;
             import { randomSeed } from 'k6';
             randomSeed(123); const first = Math.random();
             export default function () {
               const unseeded = random();
               randomSeed(123);
               console.log(first, unseeded !== 0.026224297271376255, random(), Math.random());
               console.log(randomSeed('1'), random(), randomSeed(1.9), random(), randomSeed(), random());
               console.log(Object.keys(Math).length, Math.random.name, Math.random.length);
             }",
            1,
        );
        assert_eq!(
            lines,
            [
                "0.5813171323049762 true 0.5813171323049762 0.026224297271376255",
                "undefined 0.6046602879796196 undefined 0.6046602879796196 undefined 0.9451961492941164",
                "0 random 0",
            ]
        );
    }
}
