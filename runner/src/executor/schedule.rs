//! When the iterations of the arrival-rate executors are due: functions from an iteration's number
//! to an instant, so that no start depends on the one before and nothing drifts.
//!
//! Each instance computes with the whole test's rate and looks only at the numbers that are its
//! own; so the starts of all instances sum to those of a single one, to the nanosecond.

use crate::{
    duration::GoDuration,
    options::{ConstantArrivalRate, RampingArrivalRate},
    segment::Tuple,
};

/// The start instants of a scenario's iterations.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Schedule {
    kind: Kind,
    /// Iterations over all instances.
    total: i64,
    /// This instance's share of them.
    tuple: Tuple,
}

#[derive(Debug, Clone, PartialEq)]
enum Kind {
    /// Nanoseconds between two starts.
    Constant(i64),
    Ramps(Vec<Ramp>),
}

/// A stage of a changing rate. Rates are iterations per nanosecond.
#[derive(Debug, Clone, PartialEq)]
struct Ramp {
    from: f64,
    to: f64,
    /// Nanoseconds.
    length: f64,
    /// Iterations that are due before it, and at its end.
    before: f64,
    after: f64,
    /// Its start in nanoseconds.
    start: i64,
}

impl Schedule {
    /// The first iteration is due at once, the others at multiples of the period, before the
    /// duration has passed. `tuple` is this instance's share of the iterations.
    pub(crate) fn constant(config: &ConstantArrivalRate, tuple: Tuple) -> Self {
        // Both numbers are below 2^53 in any test that ends: the quotient is rounded once.
        let period = config.time_unit().nanos() as f64 / config.rate() as f64;
        let period = (period as i64).max(1);
        let total = (config.duration().nanos() + period - 1) / period;
        Self {
            kind: Kind::Constant(period),
            total,
            tuple,
        }
    }

    /// Iteration `i` is due when the integral of the rate reaches `i`, counted from 1.
    pub(crate) fn ramping(config: &RampingArrivalRate, tuple: Tuple) -> Self {
        let unit = config.time_unit().nanos() as f64;
        let mut from = config.start_rate() as f64 / unit;
        let mut done = 0.0;
        let mut start: i64 = 0;
        let mut ramps = Vec::new();
        for stage in config.stages() {
            let to = stage.target.unwrap_or(0) as f64 / unit;
            let length = stage.duration.unwrap_or_default().nanos();
            let nanos = length as f64;
            // The order of the operations is part of the contract: it decides the last bits.
            #[expect(clippy::float_cmp, reason = "equal targets are equal to the bit")]
            let area = match from == to {
                true => nanos * to,
                false => nanos * ((to - from) / 2.0 + from),
            };
            let after = done + area;
            ramps.push(Ramp {
                from,
                to,
                length: nanos,
                before: done,
                after,
                start,
            });
            done = after;
            from = to;
            start = start.saturating_add(length);
        }
        Self {
            kind: Kind::Ramps(ramps),
            total: done as i64,
            tuple,
        }
    }

    /// How many iterations this instance has to start.
    pub(crate) fn count(&self) -> u64 {
        self.tuple.scale(self.total).max(0) as u64
    }

    /// This instance's share of the iterations.
    pub(crate) fn tuple(&self) -> &Tuple {
        &self.tuple
    }

    /// When this instance's iteration is due, counted from 0, as nanoseconds after the start; any
    /// number below [`Self::count`].
    pub(crate) fn due(&self, own: u64) -> i64 {
        // Numbers over all instances, from 1.
        let number = self.tuple.unscaled(own as i64 + 1);
        match &self.kind {
            Kind::Constant(period) => (number - 1) * period,
            Kind::Ramps(ramps) => {
                let number = number as f64;
                let index = ramps.partition_point(|ramp| ramp.after < number);
                ramps.get(index).map_or(i64::MAX, |ramp| ramp.due(number))
            }
        }
    }

    /// The rate of this instance's starts around one of them, per second; 0 before the second.
    pub(crate) fn rate_at(&self, own: u64) -> f64 {
        if own == 0 || own >= self.count() {
            return 0.0;
        }
        match self.due(own) - self.due(own - 1) {
            0 => 0.0,
            gap => GoDuration::from_secs(1).nanos() as f64 / gap as f64,
        }
    }
}

impl Ramp {
    /// Nanoseconds after the start of the executor (execution.md §10.1).
    fn due(&self, number: f64) -> i64 {
        let Self {
            from, to, length, ..
        } = *self;
        let wanted = number - self.before;
        #[expect(clippy::float_cmp, reason = "equal targets are equal to the bit")]
        let after = if from == to {
            wanted / to
        } else {
            let square = length * (from * from * length + 2.0 * wanted * (to - from));
            // Rounding may take the square of an end at rate 0 below zero.
            let root = if square.is_sign_negative() {
                0.0
            } else {
                square.sqrt()
            };
            (from * length - root) / (from - to)
        };
        after as i64 + self.start
    }
}
