//! The property behind segments: at every instant of every executor, the parts of a sequence sum
//! to the whole. (execution.md §13)

use proptest::prelude::*;
use serde_json::{Value, json};

use super::super::*;
use crate::{executor::schedule::Schedule, segment::sequences};

fn stages(target: &'static str) -> impl Strategy<Value = Value> {
    let stage = (0_u64..4_000, 0_i64..40)
        .prop_map(move |(ms, to)| json!({"duration": format!("{ms}ms"), target: to}));
    prop::collection::vec(stage, 1..6).prop_map(Value::from)
}

/// A configuration of any executor.
fn configurations() -> impl Strategy<Value = Value> {
    let seconds = || (1_u64..20).prop_map(|s| format!("{s}s"));
    let gentle = || prop_oneof![Just("0s"), Just("300ms"), Just("2s"), Just("30s")];
    prop_oneof![
        (1_i64..60, seconds(), gentle()).prop_map(|(vus, duration, stop)| {
            json!({"executor": "constant-vus", "vus": vus, "duration": duration,
                "gracefulStop": stop})
        }),
        (1_i64..60, 1_i64..90).prop_map(|(vus, iterations)| {
            json!({"executor": "per-vu-iterations", "vus": vus, "iterations": iterations})
        }),
        (1_i64..60, 0_i64..900).prop_map(|(vus, more)| {
            json!({"executor": "shared-iterations", "vus": vus, "iterations": vus + more})
        }),
        (1_i64..40, stages("target"), gentle(), gentle()).prop_map(|(vus, stages, down, stop)| {
            json!({"executor": "ramping-vus", "startVUs": vus, "stages": stages,
                "gracefulRampDown": down, "gracefulStop": stop})
        }),
        (1_i64..200, seconds(), 0_i64..30, 0_i64..30).prop_map(|(rate, duration, vus, more)| {
            json!({"executor": "constant-arrival-rate", "rate": rate, "duration": duration,
                "preAllocatedVUs": vus, "maxVUs": vus + more + 1})
        }),
        (0_i64..100, stages("target"), 0_i64..30, 0_i64..30).prop_map(
            |(rate, stages, vus, more)| {
                json!({"executor": "ramping-arrival-rate", "startRate": rate, "stages": stages,
                    "preAllocatedVUs": vus, "maxVUs": vus + more + 1})
            }
        ),
        (0_i64..60, 0_i64..30, seconds()).prop_map(|(vus, more, duration)| {
            json!({"executor": "externally-controlled", "vus": vus, "maxVUs": vus + more,
                "duration": duration})
        }),
    ]
}

/// The numbers of VUs, planned and unplanned, from an instant on.
fn at(steps: &[Step], offset: GoDuration) -> (i64, i64) {
    let before = steps.iter().take_while(|step| step.offset <= offset);
    before
        .last()
        .map_or((0, 0), |step| (step.planned, step.unplanned))
}

/// Checks that the lists of the parts sum to the list of the whole, from each of their instants on.
fn sums(whole: &[Step], parts: &[Vec<Step>]) -> Result<(), TestCaseError> {
    let offsets = parts.iter().flatten().chain(whole).map(|step| step.offset);
    for offset in offsets.collect::<Vec<_>>() {
        let sum = parts.iter().fold((0, 0), |sum, part| {
            let (planned, unplanned) = at(part, offset);
            (sum.0 + planned, sum.1 + unplanned)
        });
        prop_assert_eq!(sum, at(whole, offset), "at {}", offset);
    }
    Ok(())
}

/// When the iterations of an arrival rate are due, by their number in the test.
fn starts(kind: &ScenarioKind, tuple: &Tuple) -> Option<Vec<(i64, i64)>> {
    let schedule = match kind {
        ScenarioKind::ConstantArrivalRate(config) => {
            Schedule::constant(config, tuple.resegment(config.max_vus()).ok()?)
        }
        ScenarioKind::RampingArrivalRate(config) => {
            Schedule::ramping(config, tuple.resegment(config.max_vus()).ok()?)
        }
        _ => return None,
    };
    let numbered = (0..schedule.count()).map(|own| {
        let number = schedule.tuple().unscaled(own as i64 + 1);
        (number, schedule.due(own))
    });
    Some(numbered.collect())
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(100))]

    #[test]
    fn parts_of_every_executor_sum_to_the_whole_at_every_instant(
        sequence in sequences(),
        config in configurations(),
    ) {
        let (options, _) =
            Options::from_script(&json!({"scenarios": {"it": config}})).expect("it can be read");
        let Ok(resolved) = resolve(options, &|_| true) else {
            // Stages that start nobody, for example.
            return Ok(());
        };
        let scenario = &resolved.scenarios[0];
        let whole = Tuple::new(None, None).expect("the whole");
        let mut parts = Vec::new();
        for segment in sequence.segments() {
            match Tuple::new(Some(segment), Some(&sequence)) {
                Ok(part) => parts.push(part),
                // Too fine: refused alike by all.
                Err(_) => return Ok(()),
            }
        }
        let of_parts = |what: &dyn Fn(&Tuple) -> Vec<Step>| {
            parts.iter().map(what).collect::<Vec<_>>()
        };
        let needs = |tuple: &Tuple| scenario.requirements(tuple);
        sums(&needs(&whole), &of_parts(&needs))?;
        match &scenario.kind {
            ScenarioKind::RampingVus(ramp) => {
                let running = |tuple: &Tuple| ramp.schedule(tuple);
                sums(&running(&whole), &of_parts(&running))?;
            }
            ScenarioKind::SharedIterations(shared) => {
                let sum: i64 = parts.iter().map(|part| shared.share(part)).sum();
                prop_assert_eq!(sum, shared.iterations());
            }
            kind => {
                let mut all: Vec<(i64, i64)> =
                    parts.iter().filter_map(|part| starts(kind, part)).flatten().collect();
                all.sort_unstable();
                prop_assert_eq!(all, starts(kind, &whole).unwrap_or_default());
            }
        }
    }
}
