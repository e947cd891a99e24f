//! What both arrival-rate executors share: VUs wait, and the schedule calls them.

use std::{sync::Arc, time::Duration};

use futures_util::{StreamExt, future::OptionFuture, stream::FuturesUnordered};
use tokio::time::{Instant, sleep_until};

use super::{
    BoxFuture, Dropped, Job, Lease, Numbers, Progress, Run, arrivals::Arrivals, schedule::Schedule,
};
use crate::{lateness::Lateness, logging::Level, progress::time_column};

/// How often the coordinator looks after drops when no VU may be made.
const LOOK: Duration = Duration::from_millis(50);
/// How often it looks when one may be made.
const CLOSE_LOOK: Duration = Duration::from_millis(5);

/// What the two executors differ in.
pub(super) struct Plan {
    /// When iterations are due.
    pub(super) schedule: Schedule,
    /// VUs that wait from the start, and VUs that there may be in the end.
    pub(super) vus: (u64, u64),
    /// The regular end.
    pub(super) regular: Duration,
    /// Whether the scenario lasts until then, also when nothing more will be due.
    pub(super) lasts: bool,
}

/// Runs a scenario by a plan.
pub(super) async fn run(run: &Run, plan: Plan) -> Result<(), String> {
    let lateness = Arc::new(Lateness::default());
    let _ = run.progress.lateness.set(lateness.clone());
    let numbers = Numbers::new(plan.schedule.tuple().clone());
    let arrivals = Arrivals::new(plan.schedule, run.pool.workers(), lateness);
    let share = {
        let (arrivals, regular) = (arrivals.clone(), plan.regular.as_secs_f64());
        move |progress: &Progress| match arrivals.finished() {
            true => 1.0,
            false => progress.spent().as_secs_f64() / regular,
        }
    };
    let _ = run.progress.share.set(Box::new(share));
    let pace = Box::new(arrivals.clone());
    let mut scenario = Scenario {
        run,
        job: Job::on_demand(run.progress.clone(), numbers, pace),
        arrivals,
        serving: FuturesUnordered::new(),
        more: plan.vus.1.saturating_sub(plan.vus.0),
        growing: None,
        warned: false,
    };
    let outcome = scenario.pass(plan.vus.0, plan.regular, plan.lasts).await;
    scenario.finish(outcome).await
}

/// A scenario while it runs.
struct Scenario<'a> {
    run: &'a Run,
    job: Arc<Job>,
    arrivals: Arc<Arrivals>,
    serving: FuturesUnordered<BoxFuture<()>>,
    /// VUs that may still be made.
    more: u64,
    growing: Option<BoxFuture<Result<Box<dyn Lease>, String>>>,
    warned: bool,
}

impl Scenario<'_> {
    /// From the first VU to the regular end; answers the hard end.
    async fn pass(&mut self, vus: u64, regular: Duration, lasts: bool) -> Result<Instant, String> {
        for _ in 0..vus {
            let lease = self.run.pool.take().await?;
            self.serve(lease);
        }
        let arrivals = self.arrivals.clone();
        let mut abort = self.run.abort.clone();
        // Getting ready takes VUs a moment, in which the first iterations would find nobody.
        while arrivals.sitting() < vus && !*abort.borrow() {
            tokio::select! {
                () = arrivals.noticed.notified() => {}
                _ = abort.wait_for(|aborted| *aborted) => {}
            }
        }
        let start = Instant::now();
        arrivals.begin(start);
        let regular_end = start + regular;
        let end = arrivals
            .last_due()
            .map_or(regular_end, |last| last.max(regular_end));
        loop {
            let now = Instant::now();
            arrivals.drop_due(now);
            self.report();
            let over = now >= end || (!lasts && arrivals.exhausted());
            if over || *abort.borrow() {
                return Ok(end + self.run.scenario.graceful_stop().to_std());
            }
            self.run.progress.set_rate(arrivals.rate());
            let wake = self.next_look(now, end, lasts);
            tokio::select! {
                _ = abort.wait_for(|aborted| *aborted) => {}
                Some(grown) = OptionFuture::from(self.growing.as_mut()) => {
                    self.growing = None;
                    match grown {
                        Ok(lease) => self.serve(lease),
                        Err(error) => (self.run.say)(
                            Level::Error,
                            "Error while allocating unplanned VU",
                            &[("error", &error)],
                        ),
                    }
                }
                () = arrivals.noticed.notified() => {}
                () = sleep_until(wake) => {}
            }
        }
    }

    fn serve(&mut self, lease: Box<dyn Lease>) {
        self.run.progress.hold_one();
        self.serving.push(lease.serve(self.job.clone()));
    }

    /// When there is something to do unless something happens before.
    fn next_look(&self, now: Instant, end: Instant, lasts: bool) -> Instant {
        let may_grow = self.more > 0;
        let next_due = self.arrivals.next().map(|(_, due)| due);
        let look = match next_due {
            // It will be dropped then, unless a VU gets free, and a new VU made.
            Some(due) if may_grow && self.arrivals.sitting() == 0 => due,
            Some(_) if may_grow => {
                self.arrivals.await_drop();
                now + CLOSE_LOOK
            }
            Some(_) => now + LOOK,
            None if lasts => end,
            None => now,
        };
        // The end without a rest is seen when the last iteration has been taken.
        let last = match self.arrivals.last_due() {
            Some(last) if !lasts && last > now => last,
            Some(_) if !lasts => now + Duration::from_millis(1),
            _ => end,
        };
        look.min(last).min(end)
    }

    /// Reports what was dropped, and sees to one more VU.
    fn report(&mut self) {
        let dropped = self.arrivals.take_dropped();
        if dropped == 0 {
            return;
        }
        (self.run.dropped)(Dropped::Singly(dropped));
        let mut left = dropped;
        if self.growing.is_none() && self.more > 0 {
            self.more -= 1;
            left -= 1;
            self.growing = Some(self.run.pool.grow());
        }
        if self.more == 0 && left > 0 && !self.warned {
            self.warned = true;
            let text = format!(
                "Insufficient VUs, reached {} active VUs and cannot initialize more",
                self.run.progress.held()
            );
            (self.run.say)(Level::Warning, &text, &[]);
        }
    }

    /// Waits for the VUs, until the hard end or an abort; then interrupts them.
    async fn finish(mut self, passed: Result<Instant, String>) -> Result<(), String> {
        let mut abort = self.run.abort.clone();
        if passed.is_err() || *abort.borrow() {
            self.arrivals.close();
        } else {
            self.arrivals.end();
        }
        let hard_end = match &passed {
            Ok(end) => *end,
            Err(_) => Instant::now(),
        };
        tokio::select! {
            () = async { while self.serving.next().await.is_some() {} } => {}
            () = sleep_until(hard_end) => self.job.cancel(),
            _ = abort.wait_for(|aborted| *aborted) => self.job.cancel(),
        }
        while self.serving.next().await.is_some() {}
        // A VU that came too late goes to the pool.
        drop(OptionFuture::from(self.growing).await);
        if passed.is_ok() && !*abort.borrow() {
            self.arrivals.drop_rest();
            let dropped = self.arrivals.take_dropped();
            if dropped > 0 {
                (self.run.dropped)(Dropped::Singly(dropped));
            }
        }
        passed.map(drop)
    }
}

/// `03/05 VUs`, `2.0s/3s`, and the rate.
pub(super) fn columns(
    progress: &Progress,
    max_vus: u64,
    regular: Duration,
    rate: f64,
) -> Vec<String> {
    let width = max_vus.to_string().len();
    let (active, held) = (progress.active(), progress.held());
    vec![
        format!("{active:0width$}/{held:0width$} VUs"),
        time_column(progress.spent(), regular),
        format!("{rate:.2} iters/s"),
    ]
}
