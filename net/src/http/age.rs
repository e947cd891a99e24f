//! How long a connection is used, for those who want that limited: behind a load balancer that
//! chooses a server for each connection, only new connections reach new servers.

use std::{
    cell::Cell,
    hash::{BuildHasher, RandomState},
    time::{Duration, Instant},
};

use crate::config::ClientConfig;

/// The two limits of one connection. Without any it costs no look at the clock.
#[derive(Debug)]
pub(super) struct Age {
    /// When it takes no more requests.
    until: Option<Instant>,
    /// How long it may wait for the next.
    patience: Option<Duration>,
    /// Since when it waits, if that matters.
    idle: Cell<Option<Instant>>,
}

impl Age {
    /// That of a connection which is opened now.
    pub(super) fn begin(config: &ClientConfig) -> Self {
        let life = config.connection_lifetime.map(shortened);
        Self {
            until: life.and_then(|life| Instant::now().checked_add(life)),
            patience: config.connection_idle,
            idle: Cell::default(),
        }
    }

    /// It has no request from now on.
    pub(super) fn rest(&self) {
        self.idle.set(self.patience.map(|_| Instant::now()));
    }

    /// It has one.
    pub(super) fn work(&self) {
        self.idle.set(None);
    }

    /// Whether it is too old for another request, or has waited for it too long.
    pub(super) fn is_over(&self) -> bool {
        let waits = |since: Instant| self.patience.is_some_and(|limit| since.elapsed() >= limit);
        self.until.is_some_and(|until| Instant::now() >= until)
            || self.idle.get().is_some_and(waits)
    }
}

/// Up to a tenth less: connections that were opened together must not all be opened again together.
fn shortened(life: Duration) -> Duration {
    // Each new RandomState hashes differently: enough randomness for this.
    let random = (RandomState::new().hash_one(0) % 1024) as u32;
    life - life / 10 * random / 1024
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_life_is_shortened_by_a_tenth_at_most() {
        let whole = Duration::from_secs(100);
        let all: Vec<Duration> = (0..200).map(|_| shortened(whole)).collect();
        assert!(
            all.iter()
                .all(|life| *life <= whole && *life >= whole * 9 / 10)
        );
        assert!(all.iter().any(|life| *life != all[0]), "they differ");
    }

    #[test]
    fn waiting_counts_only_between_requests() {
        let age = Age::begin(&ClientConfig {
            connection_idle: Some(Duration::ZERO),
            ..ClientConfig::default()
        });
        assert!(!age.is_over(), "it has not waited yet");
        age.rest();
        assert!(age.is_over());
        age.work();
        assert!(!age.is_over());
    }
}
