//! `ramping-vus`: VUs loop, and their number follows the stages.
//!
//! The scenario is a row of slots, each with at most one VU. The schedule says how many slots,
//! from the first, should run; slots above that finish their iteration and give their VU back.
//! The requirements say how many slots may have a VU at all; those above are interrupted.

use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    task::{Context, Poll},
    time::Duration,
};

use futures_util::{StreamExt, stream::FuturesUnordered};
use tokio::time::{Instant, sleep_until};

use super::{BoxFuture, Job, Kind, Numbers, Pace, Run, Turn, looping};
use crate::{
    duration::GoDuration,
    options::{ScenarioKind, Step},
    progress::fixed_width,
};

pub(super) const KIND: Kind = Kind {
    name: "ramping-vus",
    run,
    columns: |scenario, tuple, progress| {
        let ScenarioKind::RampingVus(config) = &scenario.kind else {
            return Vec::new();
        };
        let max = tuple.scale(config.highest()).max(0) as u64;
        let width = max.to_string().len();
        let spent = progress.spent();
        let regular = progress
            .regular()
            .unwrap_or_else(|| scenario.regular_end().to_std());
        let time = if spent > regular {
            GoDuration::from_std(regular).to_string()
        } else {
            let (spent, limit) = (fixed_width(spent, regular), fixed_width(regular, regular));
            format!("{spent}/{limit}")
        };
        vec![format!("{:0width$}/{max} VUs", progress.active()), time]
    },
};

/// Goes on until told otherwise, and on again when told so in time.
struct While(Arc<AtomicBool>);

impl Pace for While {
    fn poll_next(&self, _: &mut Turn, _: &mut Context<'_>) -> Poll<bool> {
        Poll::Ready(self.0.load(Ordering::Acquire))
    }
}

/// What happens at an instant.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Event {
    /// So many slots run.
    Run(usize),
    /// So many slots may have a VU.
    Keep(usize),
}

/// Both lists in order of time; where they tie, slots are started and stopped before they are cut.
fn events(schedule: &[Step], requirements: &[Step]) -> Vec<(Duration, Event)> {
    let count = |step: &Step| usize::try_from(step.planned).unwrap_or(0);
    let runs = schedule.iter().map(|s| (s.offset, Event::Run(count(s))));
    let keeps = requirements
        .iter()
        .map(|s| (s.offset, Event::Keep(count(s))));
    let mut all: Vec<_> = runs.chain(keeps).collect();
    all.sort_by_key(|(offset, _)| *offset);
    all.into_iter()
        .map(|(offset, event)| (offset.to_std(), event))
        .collect()
}

/// A place for a VU.
struct Slot {
    /// Whether it should run.
    go: Arc<AtomicBool>,
    /// What its VU serves, while it has one.
    job: Option<Arc<Job>>,
    /// Its VU has been interrupted.
    cut: bool,
}

struct Slots<'a> {
    run: &'a Run,
    numbers: Arc<Numbers>,
    slots: Vec<Slot>,
    /// How many of them should run.
    running: usize,
    /// Done when a slot's VU is back, with the slot's number.
    serving: FuturesUnordered<BoxFuture<Result<usize, String>>>,
}

impl Slots<'_> {
    fn apply(&mut self, event: Event) {
        match event {
            Event::Run(count) => {
                for index in self.running..count {
                    self.slots[index].go.store(true, Ordering::Release);
                    self.fill(index);
                }
                for index in (count..self.running).rev() {
                    self.slots[index].go.store(false, Ordering::Release);
                }
                self.running = count;
            }
            Event::Keep(count) => {
                for slot in self.slots.iter_mut().skip(count) {
                    cut(slot);
                }
            }
        }
    }

    /// Takes a VU for a slot that has none.
    fn fill(&mut self, index: usize) {
        let slot = &mut self.slots[index];
        if slot.job.is_some() {
            // Its VU goes on, or is on its way back, which is seen when it arrives.
            return;
        }
        let pace = Box::new(While(slot.go.clone()));
        let job = Job::new(self.run.progress.clone(), self.numbers.clone(), pace);
        slot.job = Some(job.clone());
        slot.cut = false;
        let taken = self.run.pool.take();
        self.serving.push(Box::pin(async move {
            taken.await?.serve(job).await;
            Ok(index)
        }));
    }

    /// A slot's VU is back.
    fn freed(&mut self, index: usize) {
        self.slots[index].job = None;
        // It was wanted again after it had begun to leave.
        if index < self.running {
            self.fill(index);
        }
    }

    fn cut_all(&mut self) {
        self.running = 0;
        self.slots.iter_mut().for_each(cut);
    }
}

fn cut(slot: &mut Slot) {
    if let Some(job) = &slot.job
        && !slot.cut
    {
        slot.cut = true;
        job.cancel();
    }
}

fn run(run: Run) -> BoxFuture<Result<(), String>> {
    Box::pin(async move {
        let ScenarioKind::RampingVus(config) = &run.scenario.kind else {
            return Err("not a ramping-vus scenario".to_owned());
        };
        let start = Instant::now();
        let schedule = config.schedule(&run.tuple);
        let regular = schedule
            .last()
            .map_or(Duration::ZERO, |s| s.offset.to_std());
        let _ = run.progress.share.set(looping::elapsed_share(regular));
        run.progress.set_regular(regular);
        let most = schedule.iter().map(|step| step.planned).max().unwrap_or(0);
        let slot = |_| Slot {
            go: Arc::default(),
            job: None,
            cut: false,
        };
        let mut slots = Slots {
            run: &run,
            numbers: Numbers::new(run.tuple.clone()),
            slots: (0..most).map(slot).collect(),
            running: 0,
            serving: FuturesUnordered::new(),
        };
        let mut abort = run.abort.clone();
        let mut failed = None;
        let events = events(&schedule, &run.scenario.requirements(&run.tuple));
        for (offset, event) in events {
            let due = start + offset;
            // What is late is not waited for, but VUs that came back are seen to.
            while Instant::now() < due && failed.is_none() {
                if *abort.borrow() || (slots.serving.is_empty() && offset > regular) {
                    break;
                }
                tokio::select! {
                    () = sleep_until(due) => {}
                    Some(freed) = slots.serving.next() => match freed {
                        Ok(index) => slots.freed(index),
                        Err(error) => failed = Some(error),
                    },
                    _ = abort.wait_for(|aborted| *aborted) => {}
                }
            }
            if *abort.borrow() || failed.is_some() {
                break;
            }
            slots.apply(event);
        }
        slots.cut_all();
        while let Some(freed) = slots.serving.next().await {
            if let Err(error) = freed {
                failed.get_or_insert(error);
            }
        }
        failed.map_or(Ok(()), Err)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn slots_are_started_before_others_are_cut() {
        let step = |secs, vus| Step::planned(GoDuration::from_secs(secs), vus);
        let found = events(
            &[step(0, 2), step(1, 1), step(2, 0)],
            &[step(0, 2), step(1, 1), step(5, 0)],
        );
        let secs = Duration::from_secs;
        let expected = [
            (secs(0), Event::Run(2)),
            (secs(0), Event::Keep(2)),
            (secs(1), Event::Run(1)),
            (secs(1), Event::Keep(1)),
            (secs(2), Event::Run(0)),
            (secs(5), Event::Keep(0)),
        ];
        assert_eq!(found, expected);
    }
}
