//! `ramping-vus`: VUs loop, and their number follows the stages.
//!
//! The schedule says how many slots run; the requirements say how many may have a VU at all.

use std::time::Duration;

use tokio::time::{Instant, sleep_until};

use super::{BoxFuture, Kind, Run, looping, slots::Slots};
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
        let mut slots = Slots::new(&run);
        let mut abort = run.abort.clone();
        let mut failed = None;
        let events = events(&schedule, &run.scenario.requirements(&run.tuple));
        for (offset, event) in events {
            let due = start + offset;
            // What is late is not waited for, but VUs that came back are seen to.
            while Instant::now() < due && failed.is_none() {
                if *abort.borrow() || (slots.all_free() && offset > regular) {
                    break;
                }
                tokio::select! {
                    () = sleep_until(due) => {}
                    Some(freed) = slots.next_freed() => failed = freed.err(),
                    _ = abort.wait_for(|aborted| *aborted) => {}
                }
            }
            if *abort.borrow() || failed.is_some() {
                break;
            }
            match event {
                Event::Run(count) => slots.run(count),
                Event::Keep(count) => slots.keep(count),
            }
        }
        let ended = slots.end().await;
        failed.map_or(ended, Err)
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
