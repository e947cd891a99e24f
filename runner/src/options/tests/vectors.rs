//! Every value of the stored schedules: what scenarios need, alone and together, and how they are
//! described.

use crate::options::plan::Step;
use std::fmt::Debug;

use serde_json::{Map, Value, json};

use super::super::*;
use crate::{executor::schedule::Schedule, segment::Sequence};

/// Counts what was compared, so that a vector file that lost its contents cannot pass unseen.
#[derive(Default)]
struct Compared(usize);

impl Compared {
    #[track_caller]
    fn equal<T: PartialEq + Debug>(&mut self, found: T, expected: T, about: &str) {
        assert_eq!(found, expected, "{about}");
        self.0 += 1;
    }

    #[track_caller]
    fn at_least(&self, count: usize) {
        println!("{} values of ramping.json compared", self.0);
        assert!(self.0 >= count, "only {} values were compared", self.0);
    }
}

fn cases(key: &str) -> Vec<Value> {
    let vectors: Value = serde_json::from_str(include_str!("../../../testdata/ramping.json"))
        .expect("vectors are JSON");
    vectors[key].as_array().expect(key).clone()
}

/// Calls `check` for each instance that a case lists, with its tuple and what is expected.
fn each_tuple(case: &Value, mut check: impl FnMut(Tuple, &Value, &str)) {
    for expected in case["tuples"].as_array().expect("tuples") {
        let name = expected["tuple"].as_str().expect("a tuple");
        let tuple = match name.split_once(" @ ") {
            None => Tuple::new(None, None),
            Some((sequence, segment)) => Tuple::new(
                Some(&Segment::parse(segment).expect("a segment")),
                Some(&Sequence::parse(sequence).expect("a sequence")),
            ),
        };
        let about = format!("{} on {name}", case["name"]);
        check(tuple.expect("a member"), expected, &about);
    }
}

/// Reads scenarios the way scripts write them, sorted the way they are run.
fn scenarios(json: &Value) -> Vec<Scenario> {
    let (options, warnings) =
        Options::from_script(&json!({ "scenarios": json })).expect("good scenarios");
    assert_eq!(warnings, []);
    resolve(options, &|_| true).expect("they run").scenarios
}

/// The scenario that a case describes by the keys of its executor.
fn scenario(executor: &str, case: &Value, keys: &[&str]) -> Scenario {
    let mut object = Map::from_iter([("executor".to_owned(), json!(executor))]);
    for key in keys {
        object.insert((*key).to_owned(), case[key].clone());
    }
    scenarios(&json!({ "it": object })).remove(0)
}

/// Steps as the vectors write them: the unplanned VUs only where there are any.
fn written(step: &Step) -> Vec<i64> {
    let mut row = vec![step.offset.nanos(), step.planned];
    row.extend((step.unplanned != 0).then_some(step.unplanned));
    row
}

fn rows(value: &Value) -> Vec<Vec<i64>> {
    let ints = |row: &Value| {
        let row = row.as_array().expect("a step").iter();
        row.map(|n| n.as_i64().expect("an integer")).collect()
    };
    value.as_array().expect("steps").iter().map(ints).collect()
}

/// Compares a list of steps with the stored one, which is shortened when it is long.
fn compare_steps(found: &[Step], expected: &Value, about: &str, compared: &mut Compared) {
    let mut found: Vec<Vec<i64>> = found.iter().map(written).collect();
    let expected_rows = match expected {
        Value::Object(list) => {
            let sum = |column: usize| Some(found.iter().map(|row| row[column]).sum::<i64>());
            compared.equal(
                Some(found.len() as u64),
                list["count"].as_u64(),
                &format!("count, {about}"),
            );
            compared.equal(sum(0), list["sum_ns"].as_i64(), &format!("times, {about}"));
            compared.equal(sum(1), list["sum_vus"].as_i64(), &format!("VUs, {about}"));
            let kept = list["truncated"].as_u64().expect("a count") as usize;
            found.drain(kept..found.len() - kept);
            rows(&list["steps"])
        }
        list => rows(list),
    };
    compared.equal(found.len(), expected_rows.len(), about);
    for (found, expected) in found.into_iter().zip(expected_rows) {
        compared.equal(found, expected, about);
    }
}

/// Compares when the iterations of an instance are due; long lists are stored by their ends.
fn compare_times(
    scenario: &Scenario,
    own: &Tuple,
    expected: &Value,
    about: &str,
    compared: &mut Compared,
) {
    let schedule = match &scenario.kind {
        ScenarioKind::ConstantArrivalRate(config) => Schedule::constant(config, own.clone()),
        ScenarioKind::RampingArrivalRate(config) => Schedule::ramping(config, own.clone()),
        _ => panic!("another executor"),
    };
    let times: Vec<i64> = (0..schedule.count()).map(|n| schedule.due(n)).collect();
    compared.equal(Some(times.len() as u64), expected["count"].as_u64(), about);
    let sum = Some(times.iter().sum::<i64>());
    compared.equal(sum, expected["sum_ns"].as_i64(), about);
    let ends = [
        (expected["times_ns"].as_array(), 0),
        (expected["first_ns"].as_array(), 0),
        (
            expected["last_ns"].as_array(),
            times.len() - expected["last_ns"].as_array().map_or(0, Vec::len),
        ),
    ];
    for (stored, from) in ends {
        for (stored, found) in stored.into_iter().flatten().zip(&times[from..]) {
            compared.equal(Some(*found), stored.as_i64(), about);
        }
    }
}

fn compare_description(
    scenario: &Scenario,
    tuple: &Tuple,
    expected: &Value,
    about: &str,
    compared: &mut Compared,
) {
    let description = scenario.description(tuple);
    compared.equal(
        Some(description.as_str()),
        expected["description"].as_str(),
        about,
    );
    let has_work = Some(scenario.has_work(tuple));
    compared.equal(has_work, expected["has_work"].as_bool(), about);
}

#[test]
fn ramps_of_vus_are_replayed_to_the_nanosecond() {
    let mut compared = Compared::default();
    for case in cases("ramping_vus") {
        let keys = ["startVUs", "stages", "gracefulRampDown", "gracefulStop"];
        let scenario = scenario("ramping-vus", &case, &keys);
        let ScenarioKind::RampingVus(ramp) = &scenario.kind else {
            panic!("another executor");
        };
        each_tuple(&case, |tuple, expected, about| {
            let raw = ramp.schedule(&tuple);
            compare_steps(
                &raw,
                &expected["raw"],
                &format!("raw, {about}"),
                &mut compared,
            );
            let end = raw.last().map(|step| step.offset.nanos());
            compared.equal(end, expected["regular_duration_ns"].as_i64(), about);
            let needs = scenario.requirements(&tuple);
            compare_steps(&needs, &expected["requirements"], about, &mut compared);
            let end = needs.last().map(|step| step.offset.nanos());
            compared.equal(end, expected["max_duration_ns"].as_i64(), about);
            let most = needs.iter().map(|step| step.planned).max();
            compared.equal(most, expected["max_planned"].as_i64(), about);
            let ends = needs.last().map(|step| step.planned == 0);
            compared.equal(ends, expected["final"].as_bool(), about);
            compare_description(&scenario, &tuple, expected, about, &mut compared);
        });
    }
    compared.at_least(2_000);
}

#[test]
fn arrival_rates_need_what_their_pool_says() {
    let mut compared = Compared::default();
    for (list, executor, keys) in [
        (
            "ramping_arrival_rate",
            "ramping-arrival-rate",
            &[
                "startRate",
                "timeUnit",
                "stages",
                "preAllocatedVUs",
                "maxVUs",
            ],
        ),
        (
            "constant_arrival_rate",
            "constant-arrival-rate",
            &["rate", "timeUnit", "duration", "preAllocatedVUs", "maxVUs"],
        ),
    ] {
        for case in cases(list) {
            let scenario = scenario(executor, &case, keys);
            each_tuple(&case, |tuple, expected, about| {
                let needs = scenario.requirements(&tuple);
                compare_steps(&needs, &expected["requirements"], about, &mut compared);
                compare_description(&scenario, &tuple, expected, about, &mut compared);
                let max_vus = case["maxVUs"].as_i64().expect("a number");
                match tuple.resegment(max_vus) {
                    Ok(events) => {
                        compare_times(&scenario, &events, &expected["times"], about, &mut compared);
                        let start = Some(events.start());
                        compared.equal(start, expected["start"].as_i64(), about);
                        compared.equal(json!(events.offsets()), expected["offsets"].clone(), about);
                    }
                    Err(error) => {
                        compared.equal(Some(error.as_str()), expected["error"].as_str(), about);
                    }
                }
            });
        }
    }
    compared.at_least(2_700);
}

#[test]
fn iterations_are_shared_in_proportion_to_vus() {
    let mut compared = Compared::default();
    for case in cases("shared_iterations") {
        let scenario = scenario("shared-iterations", &case, &["vus", "iterations"]);
        let ScenarioKind::SharedIterations(shared) = &scenario.kind else {
            panic!("another executor");
        };
        each_tuple(&case, |tuple, expected, about| {
            let vus = tuple.scale(shared.vus());
            compared.equal(Some(vus), expected["vus"].as_i64(), about);
            let share = Some(shared.share(&tuple));
            compared.equal(share, expected["iterations"].as_i64(), about);
            compare_description(&scenario, &tuple, expected, about, &mut compared);
            match tuple.resegment(shared.vus()) {
                Ok(own) => {
                    let numbers: Vec<i64> = (1..=8).map(|n| own.unscaled(n) - 1).collect();
                    compared.equal(
                        json!(numbers),
                        expected["iterationInTest_first8"].clone(),
                        about,
                    );
                }
                Err(error) => {
                    compared.equal(Some(error.as_str()), expected["error"].as_str(), about);
                }
            }
        });
    }
    compared.at_least(350);
}

#[test]
fn needs_of_scenarios_are_laid_over_each_other() {
    let mut compared = Compared::default();
    for case in cases("plans") {
        let scenarios = scenarios(&case["scenarios"]);
        let order: Vec<&str> = scenarios.iter().map(|s| s.name.as_str()).collect();
        compared.equal(json!(order), case["order"].clone(), "order");
        each_tuple(&case, |tuple, expected, about| {
            let plan = Plan::new(&scenarios, &tuple);
            compare_steps(&plan.steps, &expected["plan"], about, &mut compared);
            let planned = Some(plan.max_planned());
            compared.equal(planned, expected["max_planned_vus"].as_i64(), about);
            let possible = Some(plan.max_possible());
            compared.equal(possible, expected["max_possible_vus"].as_i64(), about);
            let end = plan.max_duration().map(|end| end.nanos());
            compared.equal(end, expected["end_ns"].as_i64(), about);
        });
    }
    compared.at_least(200);
}

/// The lines of the header that the vectors have no case for.
#[test]
fn descriptions_list_the_details_in_order() {
    let whole = Tuple::new(None, None).expect("the whole");
    let third = Tuple::new(
        Some(&Segment::parse("1/3:2/3").expect("a segment")),
        Some(&Sequence::parse("0,1/3,2/3,1").expect("a sequence")),
    )
    .expect("a member");
    for (json, tuple, expected) in [
        (
            json!({"executor": "per-vu-iterations", "vus": 7, "iterations": 2, "maxDuration": "90s"}),
            &third,
            "2 iterations for each of 2 VUs (maxDuration: 1m30s, gracefulStop: 30s)",
        ),
        (
            json!({"executor": "constant-vus", "vus": 10, "duration": "1500ms"}),
            &whole,
            "10 looping VUs for 1.5s (gracefulStop: 30s)",
        ),
        (
            json!({"executor": "constant-vus", "vus": 10, "duration": "1h", "gracefulStop": 0}),
            &third,
            "3 looping VUs for 1h0m0s",
        ),
        (
            json!({"executor": "ramping-vus", "stages": [{"duration": "1s", "target": 9}],
                "exec": "other", "startTime": "5s", "gracefulStop": "1s"}),
            &whole,
            "Up to 9 looping VUs for 1s over 1 stages \
             (gracefulRampDown: 30s, exec: other, startTime: 5s, gracefulStop: 1s)",
        ),
        (
            json!({"executor": "constant-arrival-rate", "rate": 10, "duration": "1s",
                "preAllocatedVUs": 5, "maxVUs": 10, "exec": "default"}),
            &whole,
            "10.00 iterations/s for 1s (maxVUs: 5-10, exec: default, gracefulStop: 30s)",
        ),
    ] {
        let scenario = scenarios(&json!({ "it": json })).remove(0);
        assert_eq!(scenario.description(tuple), expected);
    }
}
