//! The schedule of ramping-vus: when this instance's number of VUs changes, and for how long the
//! VUs of a ramp down stay reserved.
//!
//! Each instance replays the global ramp, but looks only at the global VU numbers that are its
//! own. So the lists of all instances sum to the list of a single one, step by step.

use super::{plan::Step, values::Stage};
use crate::{duration::GoDuration, segment::Tuple};

/// The VU counts of this instance over time, as the stages say. Two steps may share an offset
/// (a jump); neighbours differ in their count. The last count may be other than 0.
pub(crate) fn raw_steps(start_vus: i64, stages: &[Stage], tuple: &Tuple) -> Vec<Step> {
    let mut own = tuple.scale(start_vus);
    let mut steps = vec![Step::planned(GoDuration::ZERO, own)];
    let mut from = start_vus;
    let mut end: i64 = 0;
    for stage in stages {
        let to = stage.target.unwrap_or(0);
        let length = stage.duration.unwrap_or_default().nanos();
        end = end.saturating_add(length);
        // The change is spread evenly and its last VU changes at the end of the stage. Products
        // need 128 bits: a long stage times a hundred million VUs passes 64.
        let when = |left: i64| {
            let back = i128::from(length) * i128::from(left) / i128::from((to - from).abs());
            GoDuration((i128::from(end) - back) as i64)
        };
        let own_after = tuple.scale(to);
        if length <= 0 {
            if own_after != own {
                steps.push(Step::planned(GoDuration(end), own_after));
            }
        } else if to > from {
            steps.extend((own + 1..=own_after).map(|count| {
                let number = tuple.unscaled(count);
                Step::planned(when(to - number), count)
            }));
        } else {
            steps.extend((own_after + 1..=own).rev().map(|count| {
                let number = tuple.unscaled(count);
                Step::planned(when(number - to - 1), count - 1)
            }));
        }
        own = own_after;
        from = to;
    }
    steps
}

/// The VUs that must be at hand over time: those of the schedule, where each drop is held for
/// `graceful` (the graceful ramp down) so that iterations can finish, unless the ramp needs the
/// VUs again before that. Nothing is held beyond `end`, the stages' end and the graceful stop.
pub(crate) fn requirements(raw: &[Step], graceful: GoDuration, end: GoDuration) -> Vec<Step> {
    let mut steps = if graceful <= GoDuration::ZERO {
        raw.to_vec()
    } else {
        reserve(raw, graceful, end)
    };
    if steps.last().is_some_and(|last| last.planned != 0) {
        steps.push(Step::planned(end, 0));
    }
    steps
}

fn reserve(raw: &[Step], graceful: GoDuration, end: GoDuration) -> Vec<Step> {
    let higher = next_higher(raw);
    let mut steps: Vec<Step> = Vec::new();
    let mut at = 0;
    while let Some(step) = raw.get(at) {
        let last = steps.last().map(|last| last.planned);
        match last {
            Some(last) if step.planned == last => at += 1,
            Some(last) if step.planned < last => {
                let held = GoDuration(step.offset.nanos().saturating_add(graceful.nanos()));
                // Successive higher counts are the only ones that can be the first to reach `last`.
                let mut back = higher[at];
                while let Some(later) = back
                    && raw[later].offset <= held
                    && raw[later].planned < last
                {
                    back = higher[later];
                }
                match back {
                    Some(later) if raw[later].offset <= held => at = later,
                    _ if held >= end => break,
                    _ => {
                        steps.push(Step::planned(held, step.planned));
                        at += 1;
                    }
                }
            }
            _ => {
                steps.push(*step);
                at += 1;
            }
        }
    }
    steps
}

/// For each step, the next later one with a higher count.
fn next_higher(steps: &[Step]) -> Vec<Option<usize>> {
    let mut higher = vec![None; steps.len()];
    let mut open: Vec<usize> = Vec::new();
    for (index, step) in steps.iter().enumerate() {
        while let Some(&lower) = open.last()
            && steps[lower].planned < step.planned
        {
            higher[lower] = Some(index);
            open.pop();
        }
        open.push(index);
    }
    higher
}
