//! What executors share whose VUs loop from the start to a regular end.

use std::{sync::Arc, time::Duration};

use tokio::time::Instant;

use super::{BoxFuture, Job, Pace, Progress, Run, Share};
use crate::{duration::GoDuration, progress::fixed_width};

/// Lets `vus` VUs serve a job until its pace stops them all; at the hard end, which is `graceful`
/// after the regular end, those that still run are interrupted.
///
/// # Errors
/// When the pool has no VU to give.
pub(super) async fn run(
    run: &Run,
    vus: u64,
    regular: Duration,
    graceful: Duration,
    job: Arc<Job>,
) -> Result<(), String> {
    let start = Instant::now();
    let mut serving: Vec<BoxFuture<()>> = Vec::with_capacity(vus as usize);
    for _ in 0..vus {
        let lease = run.pool.take().await?;
        serving.push(lease.serve(job.clone()));
    }
    let all = futures_util::future::join_all(serving);
    let mut all = std::pin::pin!(all);
    let mut abort = run.abort.clone();
    tokio::select! {
        _ = &mut all => return Ok(()),
        () = tokio::time::sleep_until(start + regular + graceful) => {}
        _ = abort.wait_for(|aborted| *aborted) => {}
    }
    job.cancel();
    all.await;
    Ok(())
}

/// A pace that starts iterations until an instant.
pub(super) struct Until(pub(super) Instant);

impl Pace for Until {
    fn poll_next(
        &self,
        turn: &mut super::Turn,
        _: &mut std::task::Context<'_>,
    ) -> std::task::Poll<bool> {
        std::task::Poll::Ready(turn.now < self.0)
    }
}

/// Share of `length` that has passed since the start.
pub(super) fn elapsed_share(length: Duration) -> Share {
    Box::new(move |progress| progress.spent().as_secs_f64() / length.as_secs_f64())
}

/// `2 VUs`
pub(super) fn vus_column(vus: u64) -> String {
    format!("{vus} VUs")
}

/// `02.0s/20s`: both times, also when the work was done early.
pub(super) fn both_times(progress: &Progress, max: GoDuration) -> String {
    let (spent, limit) = (progress.spent(), max.to_std());
    if spent >= limit {
        return max.to_string();
    }
    format!("{}/{max}", fixed_width(spent, limit))
}
