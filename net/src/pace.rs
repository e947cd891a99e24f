//! A limit of requests per second, for all clients that share it.

use std::{
    sync::atomic::{AtomicU64, Ordering},
    time::{Duration, Instant},
};

/// How much of a schedule may be made up for: what timers are late by, so that the rate asked for
/// is reached. No burst is larger than what this time has room for.
const SLACK: Duration = Duration::from_millis(2);

/// Hands out turns, evenly spaced (`rps`). One atomic: who asks takes the next free place of the
/// schedule and waits for it.
#[derive(Debug)]
pub struct Pace {
    begun: Instant,
    /// Nanoseconds between two turns.
    interval: u64,
    /// Nanoseconds from the beginning to the next free turn.
    next: AtomicU64,
}

impl Pace {
    /// So many turns per second, at least one.
    pub fn new(per_second: u64) -> Self {
        Self {
            begun: Instant::now(),
            interval: 1_000_000_000 / per_second.max(1),
            next: AtomicU64::new(0),
        }
    }

    /// Takes a turn; answers how long to wait for it.
    fn take(&self, now: Instant) -> Duration {
        let now = now.saturating_duration_since(self.begun).as_nanos() as u64;
        let earliest = now.saturating_sub(SLACK.as_nanos() as u64);
        let at = |next: u64| next.max(earliest);
        let taken = self
            .next
            .fetch_update(Ordering::Relaxed, Ordering::Relaxed, |next| {
                Some(at(next).saturating_add(self.interval))
            });
        let (Ok(next) | Err(next)) = taken;
        Duration::from_nanos(at(next).saturating_sub(now))
    }

    /// Waits for the next turn; answers how long that was.
    pub(crate) async fn turn(&self) -> Duration {
        let asked = Instant::now();
        let wait = self.take(asked);
        if wait.is_zero() {
            return Duration::ZERO;
        }
        tokio::time::sleep(wait).await;
        asked.elapsed()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn turns_are_evenly_spaced_and_missed_ones_are_not_made_up_for() {
        let pace = Pace::new(20);
        let at = |ms| pace.begun + Duration::from_millis(ms);
        let wait = |ms| pace.take(at(ms)).as_millis();
        assert_eq!((wait(0), wait(0), wait(0), wait(40)), (0, 50, 100, 110));
        // Nobody asks for a while: one turn at once, the next after a whole interval.
        assert_eq!(wait(10_000), 0);
        assert!((48..=50).contains(&wait(10_000)));
    }

    #[test]
    fn late_timers_do_not_slow_the_schedule_down() {
        let pace = Pace::new(1000);
        // One who is 1.2 ms late at each turn, over a second.
        let (mut now, mut turns) = (pace.begun, 0);
        while now < pace.begun + Duration::from_secs(1) {
            let wait = pace.take(now);
            now += if wait.is_zero() {
                Duration::from_micros(10)
            } else {
                wait + Duration::from_micros(1200)
            };
            turns += 1;
        }
        assert!((990..=1005).contains(&turns), "{turns}");
    }
}
