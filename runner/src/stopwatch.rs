//! A clock that is started once, may be paused, and is stopped once: the run's, and each
//! scenario's.

use std::{
    sync::{Mutex, OnceLock, PoisonError},
    time::Duration,
};

use tokio::time::Instant;

/// A clock; it shows zero until it is started.
#[derive(Debug, Default)]
pub(crate) struct Stopwatch {
    start: OnceLock<Instant>,
    end: OnceLock<Duration>,
    pauses: Mutex<Pauses>,
}

#[derive(Debug, Default, Clone, Copy)]
struct Pauses {
    /// The ended ones.
    total: Duration,
    since: Option<Instant>,
}

impl Stopwatch {
    /// It runs from now on; later calls do nothing.
    pub(crate) fn start(&self) {
        let _ = self.start.set(Instant::now());
    }

    /// It keeps what it shows now; later calls do nothing.
    pub(crate) fn stop(&self) {
        if self.has_started() {
            let _ = self.end.set(self.elapsed());
        }
    }

    /// It stands still from now on, or goes on.
    pub(crate) fn pause(&self, paused: bool) {
        let mut pauses = self.pauses.lock().unwrap_or_else(PoisonError::into_inner);
        if !self.has_started() {
            return;
        }
        let since = pauses.since.take();
        if paused {
            pauses.since = since.or_else(|| Some(Instant::now()));
        } else if let Some(since) = since {
            pauses.total += since.elapsed();
        }
    }

    /// Whether it was ever started.
    pub(crate) fn has_started(&self) -> bool {
        self.start.get().is_some()
    }

    /// Whether it was stopped.
    pub(crate) fn has_stopped(&self) -> bool {
        self.end.get().is_some()
    }

    /// What it shows.
    pub(crate) fn elapsed(&self) -> Duration {
        let (Some(start), None) = (self.start.get(), self.end.get()) else {
            return self.end.get().copied().unwrap_or_default();
        };
        let pauses = *self.pauses.lock().unwrap_or_else(PoisonError::into_inner);
        let until = pauses.since.unwrap_or_else(Instant::now);
        until.duration_since(*start).saturating_sub(pauses.total)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use tokio::time::sleep;

    #[tokio::test(start_paused = true)]
    async fn pauses_do_not_count() {
        let second = Duration::from_secs(1);
        let clock = Stopwatch::default();
        clock.pause(true);
        sleep(second).await;
        assert_eq!(clock.elapsed(), Duration::ZERO);
        clock.start();
        sleep(second).await;
        assert_eq!(clock.elapsed(), second);
        clock.pause(true);
        sleep(second).await;
        clock.pause(true);
        sleep(second).await;
        assert_eq!(clock.elapsed(), second);
        clock.pause(false);
        clock.pause(false);
        sleep(second).await;
        assert_eq!(clock.elapsed(), 2 * second);
        clock.stop();
        sleep(second).await;
        assert_eq!(clock.elapsed(), 2 * second);
        assert!(clock.has_stopped());
    }
}
