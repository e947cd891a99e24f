//! How many VUs a run needs over time: the needs of its scenarios, laid over each other.

use super::scenario::Scenario;
use crate::{duration::GoDuration, segment::Tuple};

/// VUs that must be at hand from this moment on, until the next step.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Step {
    /// From the start of the scenario, or of the run.
    pub(crate) offset: GoDuration,
    /// VUs made before the run.
    pub(crate) planned: i64,
    /// VUs that may be made during it.
    pub(crate) unplanned: i64,
}

impl Step {
    /// A step without unplanned VUs.
    pub(crate) fn planned(offset: GoDuration, planned: i64) -> Self {
        Self {
            offset,
            planned,
            unplanned: 0,
        }
    }
}

/// What the scenarios of a run need together.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Plan {
    /// Steps in time; several may share an offset, neighbours differ.
    pub(crate) steps: Vec<Step>,
}

impl Plan {
    /// Lays the needs of the scenarios, in their order, over each other.
    pub(crate) fn new(scenarios: &[Scenario], tuple: &Tuple) -> Self {
        let mut changes: Vec<(usize, Step)> = Vec::new();
        for (index, scenario) in scenarios.iter().enumerate() {
            let start = scenario.start_time().nanos();
            changes.extend(scenario.requirements(tuple).into_iter().map(|step| {
                let offset = GoDuration(step.offset.nanos().saturating_add(start));
                (index, Step { offset, ..step })
            }));
        }
        // Stable: at the same moment, the scenarios' order and their own order stay.
        changes.sort_by_key(|(index, step)| (step.offset, *index));
        let mut current = vec![(0, 0); scenarios.len()];
        let mut sum = (0, 0);
        let mut steps: Vec<Step> = Vec::new();
        for (index, step) in changes {
            let before = std::mem::replace(&mut current[index], (step.planned, step.unplanned));
            sum.0 += step.planned - before.0;
            sum.1 += step.unplanned - before.1;
            if steps.last().map(|last| (last.planned, last.unplanned)) != Some(sum) {
                steps.push(Step {
                    offset: step.offset,
                    planned: sum.0,
                    unplanned: sum.1,
                });
            }
        }
        Self { steps }
    }

    /// How many VUs are made before the run.
    pub(crate) fn max_planned(&self) -> i64 {
        self.steps
            .iter()
            .map(|step| step.planned)
            .max()
            .unwrap_or(0)
    }

    /// How many VUs there can be: the capacity of the pool, "max VUs" of the header.
    pub(crate) fn max_possible(&self) -> i64 {
        let totals = self.steps.iter().map(|step| step.planned + step.unplanned);
        totals.max().unwrap_or(0)
    }

    /// When the last VU is given back at the latest, graceful stops included; `None` when some are
    /// kept until somebody ends the run.
    pub(crate) fn max_duration(&self) -> Option<GoDuration> {
        match self.steps.last() {
            None => Some(GoDuration::ZERO),
            Some(last) => (last.planned + last.unplanned == 0).then_some(last.offset),
        }
    }
}
