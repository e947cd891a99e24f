//! `shared-iterations`: VUs share a number of iterations; the fast ones run more.

use std::{
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    task::{Context, Poll},
};

use tokio::time::Instant;

use super::{BoxFuture, Dropped, Job, Kind, Numbers, Pace, Progress, Run, Turn, looping};
use crate::{options::ScenarioKind, progress::fraction};

pub(super) const KIND: Kind = Kind {
    name: "shared-iterations",
    run,
    columns: |scenario, tuple, progress| {
        let ScenarioKind::SharedIterations(config) = &scenario.kind else {
            return Vec::new();
        };
        let done = fraction(progress.completed(), config.share(tuple).max(0) as u64);
        vec![
            looping::vus_column(tuple.scale(config.vus()).max(0) as u64),
            looping::both_times(progress, config.max_duration()),
            format!("{done} shared iters"),
        ]
    },
};

/// Hands out tickets, instance-wide, until they are used up or the regular end has come.
struct Tickets {
    taken: Arc<AtomicU64>,
    share: u64,
    end: Instant,
}

impl Pace for Tickets {
    fn poll_next(&self, turn: &mut Turn, _: &mut Context<'_>) -> Poll<bool> {
        if turn.now >= self.end {
            return Poll::Ready(false);
        }
        // Looked at first, so that the counter stays exact: it never exceeds the share by more
        // than one per VU, and `run` caps it.
        Poll::Ready(self.taken.fetch_add(1, Ordering::Relaxed) < self.share)
    }
}

fn run(run: Run) -> BoxFuture<Result<(), String>> {
    Box::pin(async move {
        let ScenarioKind::SharedIterations(config) = &run.scenario.kind else {
            return Err("not a shared-iterations scenario".to_owned());
        };
        let vus = run.tuple.scale(config.vus()).max(0) as u64;
        // Iterations are shared in proportion to the VUs each instance really has.
        let tuple = run.tuple.resegment(config.vus())?;
        let share = tuple.scale(config.iterations()).max(0) as u64;
        let taken = Arc::new(AtomicU64::new(0));
        let pace = Tickets {
            taken: taken.clone(),
            share,
            end: Instant::now() + config.max_duration().to_std(),
        };
        let done = move |progress: &Progress| progress.completed() as f64 / share as f64;
        let _ = run.progress.share.set(Box::new(done));
        let job = Job::new(run.progress.clone(), Numbers::new(tuple), Box::new(pace));
        let graceful = run.scenario.graceful_stop().to_std();
        looping::run(&run, vus, config.max_duration().to_std(), graceful, job).await?;
        let taken = taken.load(Ordering::Relaxed).min(share);
        if taken < share && !*run.abort.borrow() {
            (run.dropped)(Dropped::Together(share - taken));
        }
        Ok(())
    })
}
