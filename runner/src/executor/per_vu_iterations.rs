//! `per-vu-iterations`: each VU runs the same number of iterations.

use std::task::{Context, Poll};

use tokio::time::Instant;

use super::{BoxFuture, Dropped, Job, Kind, Numbers, Pace, Progress, Run, Turn, looping};
use crate::{options::ScenarioKind, progress::fraction};

pub(super) const KIND: Kind = Kind {
    name: "per-vu-iterations",
    run,
    columns: |scenario, tuple, progress| {
        let ScenarioKind::PerVuIterations(config) = &scenario.kind else {
            return Vec::new();
        };
        let vus = tuple.scale(config.vus()).max(0) as u64;
        let each = config.iterations().max(0) as u64;
        let done = fraction(progress.completed(), vus * each);
        vec![
            looping::vus_column(vus),
            looping::both_times(progress, config.max_duration()),
            format!("{done} iters, {each} per VU"),
        ]
    },
};

/// Stops a VU after its iterations, or at the regular end with some of them left.
struct Each {
    iterations: u64,
    end: Instant,
}

impl Pace for Each {
    fn poll_next(&self, turn: &mut Turn, _: &mut Context<'_>) -> Poll<bool> {
        let left = self.iterations - turn.started;
        if left > 0 && turn.now >= self.end {
            turn.left = left;
            return Poll::Ready(false);
        }
        Poll::Ready(left > 0)
    }
}

fn run(run: Run) -> BoxFuture<Result<(), String>> {
    Box::pin(async move {
        let ScenarioKind::PerVuIterations(config) = &run.scenario.kind else {
            return Err("not a per-vu-iterations scenario".to_owned());
        };
        let vus = run.tuple.scale(config.vus()).max(0) as u64;
        let pace = Each {
            iterations: config.iterations().max(0) as u64,
            end: Instant::now() + config.max_duration().to_std(),
        };
        let total = (vus * pace.iterations) as f64;
        let job = Job::new(
            run.progress.clone(),
            Numbers::new(run.tuple.clone()),
            Box::new(pace),
        );
        let share = move |progress: &Progress| progress.completed() as f64 / total;
        let _ = run.progress.share.set(Box::new(share));
        let graceful = run.scenario.graceful_stop().to_std();
        looping::run(
            &run,
            vus,
            config.max_duration().to_std(),
            graceful,
            job.clone(),
        )
        .await?;
        if !*run.abort.borrow() {
            for (vu, left) in job.take_left() {
                (run.dropped)(Dropped::OfVu(vu, left));
            }
        }
        Ok(())
    })
}
