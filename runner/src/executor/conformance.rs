//! What every executor owes, tested over the table on paused time.
//!
//! The pool and the VUs are fakes; the serving loop, the paces and the executors are the real ones.
//! VUs are spread over one or two "workers" by id, as the real pool does, and results must not
//! depend on that.

use std::{
    cell::RefCell,
    collections::{BTreeMap, VecDeque},
    rc::Rc,
    sync::Arc,
    time::Duration,
};

use serde_json::{Value, json};
use tokio::{
    sync::watch,
    task::LocalSet,
    time::{Instant, sleep},
};

use super::{BoxFuture, EXECUTORS, Iterate, Job, Lease, Leash, Pool, Progress, Run, serve};
use crate::{
    options::{Scenario, Scenarios, decode},
    segment::{Segment, Sequence, Tuple},
};

/// What happened in a run of one scenario.
#[derive(Debug, Default, Clone, PartialEq)]
struct Record {
    /// (VU, number in this instance, number over all, start in ms), in order of the start.
    started: Vec<(u64, u64, u64, u128)>,
    complete: u64,
    interrupted: u64,
    dropped: Vec<(u64, Option<u64>)>,
    /// When the executor returned, in ms.
    ended: u128,
}

struct FakeVu {
    id: u64,
    length: Duration,
    start: Instant,
    record: Rc<RefCell<Record>>,
    leash: Rc<Leash>,
}

impl Iterate for FakeVu {
    fn id(&self) -> u64 {
        self.id
    }

    async fn iterate(&mut self, instance: u64, test: u64) -> bool {
        let at = self.start.elapsed().as_millis();
        self.record
            .borrow_mut()
            .started
            .push((self.id, instance, test, at));
        let due = Instant::now() + self.length;
        // Like a script that sleeps: it ends early when the VU is stopped.
        while Instant::now() < due {
            if self.leash.cut.get() {
                return false;
            }
            sleep(Duration::from_millis(1)).await;
        }
        true
    }
}

struct FakePool {
    idle: Rc<RefCell<VecDeque<u64>>>,
    /// How long the n-th VU's iterations take.
    length: fn(u64) -> Duration,
    start: Instant,
    record: Rc<RefCell<Record>>,
    min_duration: Duration,
}

impl Pool for FakePool {
    fn take(&self) -> BoxFuture<Result<Box<dyn Lease>, String>> {
        let id = self.idle.borrow_mut().pop_front();
        let (record, start, length) = (self.record.clone(), self.start, self.length);
        let (idle, min_duration) = (self.idle.clone(), self.min_duration);
        Box::pin(async move {
            let id = id.ok_or("no VU")?;
            let leash = Rc::new(Leash::default());
            let vu = FakeVu {
                id,
                length: length(id),
                start,
                record,
                leash,
            };
            Ok(Box::new(FakeLease {
                vu,
                idle,
                min_duration,
            }) as Box<dyn Lease>)
        })
    }
}

struct FakeLease {
    vu: FakeVu,
    idle: Rc<RefCell<VecDeque<u64>>>,
    min_duration: Duration,
}

impl Lease for FakeLease {
    fn serve(self: Box<Self>, job: Arc<Job>) -> BoxFuture<()> {
        let Self {
            mut vu,
            idle,
            min_duration,
        } = *self;
        let served = tokio::task::spawn_local(async move {
            let leash = vu.leash.clone();
            let cutter = {
                let (leash, mut cancelled) = (leash.clone(), job.cancelled());
                tokio::task::spawn_local(async move {
                    if cancelled.wait_for(|c| *c).await.is_ok() {
                        leash.cut();
                    }
                })
            };
            let record = vu.record.clone();
            serve(&mut vu, &job, &leash, min_duration, |complete| {
                let mut record = record.borrow_mut();
                if complete {
                    job.progress.count();
                    record.complete += 1;
                } else {
                    record.interrupted += 1;
                }
            })
            .await;
            cutter.abort();
            idle.borrow_mut().push_back(vu.id);
        });
        Box::pin(async move {
            served.await.expect("the fake does not panic");
        })
    }
}

fn scenario(config: Value) -> Arc<Scenario> {
    let scenarios: Scenarios = decode(&json!({ "s": config })).unwrap().unwrap();
    let scenario = scenarios["s"].clone();
    assert_eq!(scenario.problems(), Vec::<String>::new());
    Arc::new(scenario)
}

fn tuple(segment: &str, sequence: &str) -> Tuple {
    let sequence = Sequence::parse(sequence).unwrap();
    Tuple::new(Some(&Segment::parse(segment).unwrap()), Some(&sequence)).unwrap()
}

fn whole() -> Tuple {
    Tuple::new(None, None).unwrap()
}

/// Runs a scenario to its end on paused time; `abort_at` aborts the run.
fn run(
    config: Value,
    tuple: Tuple,
    length: fn(u64) -> Duration,
    abort_at: Option<Duration>,
) -> Record {
    run_with(config, tuple, length, abort_at, Duration::ZERO)
}

fn run_with(
    config: Value,
    tuple: Tuple,
    length: fn(u64) -> Duration,
    abort_at: Option<Duration>,
    min_duration: Duration,
) -> Record {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .start_paused(true)
        .build()
        .unwrap();
    LocalSet::new().block_on(&runtime, async move {
        let scenario = scenario(config);
        let kind = super::find(&scenario.kind).unwrap();
        let record = Rc::new(RefCell::new(Record::default()));
        let start = Instant::now();
        let vus = scenario
            .requirements(&tuple)
            .iter()
            .map(|s| s.planned)
            .max()
            .unwrap_or(0);
        let pool = FakePool {
            idle: Rc::new(RefCell::new((1..=vus as u64).collect())),
            length,
            start,
            record: record.clone(),
            min_duration,
        };
        let dropped = {
            let record = record.clone();
            Rc::new(move |count, vu| record.borrow_mut().dropped.push((count, vu)))
        };
        let abort = watch::Sender::new(false);
        if let Some(at) = abort_at {
            let abort = abort.clone();
            tokio::task::spawn_local(async move {
                sleep(at).await;
                abort.send_replace(true);
            });
        }
        let progress = Progress::new("s", kind.name);
        progress.begin(0);
        (kind.run)(Run {
            scenario,
            tuple,
            pool: Rc::new(pool),
            progress: progress.clone(),
            abort: abort.subscribe(),
            dropped,
        })
        .await
        .unwrap();
        // Cut short or not, whoever looks at a scenario sees a share of it.
        assert!(
            progress.share.get().is_some(),
            "{} sets its share",
            kind.name
        );
        let share = volley_scripting::Scenario::progress(&*progress);
        let whole = record.borrow().interrupted == 0 && record.borrow().dropped.is_empty();
        assert!(share == 1.0 || (!whole && share < 1.0), "{share}");
        let mut record = record.borrow().clone();
        record.ended = start.elapsed().as_millis();
        record
    })
}

fn ms(n: u64) -> Duration {
    Duration::from_millis(n)
}

/// A configuration of each executor that runs for two seconds at most.
fn sample_of(name: &str) -> Value {
    match name {
        "constant-vus" => {
            json!({"executor": name, "vus": 4, "duration": "2s", "gracefulStop": "1s"})
        }
        "per-vu-iterations" => {
            json!({"executor": name, "vus": 4, "iterations": 3, "maxDuration": "2s", "gracefulStop": "1s"})
        }
        "shared-iterations" => {
            json!({"executor": name, "vus": 4, "iterations": 12, "maxDuration": "2s", "gracefulStop": "1s"})
        }
        other => panic!("add a sample for {other}"),
    }
}

#[test]
fn every_executor_ends_with_its_vus_back() {
    for row in EXECUTORS {
        let record = run(sample_of(row.name), whole(), |_| ms(100), None);
        assert!(record.complete > 0, "{}", row.name);
        assert_eq!(record.interrupted, 0, "{}", row.name);
        assert!(record.ended <= 2_100, "{}: {}", row.name, record.ended);
    }
}

#[test]
fn every_executor_interrupts_at_the_hard_end() {
    for row in EXECUTORS {
        let record = run(sample_of(row.name), whole(), |_| ms(60_000), None);
        assert_eq!(record.interrupted, 4, "{}", row.name);
        assert_eq!(record.complete, 0, "{}", row.name);
        assert!(
            (3_000..=3_005).contains(&record.ended),
            "{}: {}",
            row.name,
            record.ended
        );
    }
}

#[test]
fn every_executor_stops_at_once_when_the_run_is_aborted() {
    for row in EXECUTORS {
        let record = run(sample_of(row.name), whole(), |_| ms(400), Some(ms(150)));
        assert!(
            (150..=155).contains(&record.ended),
            "{}: {}",
            row.name,
            record.ended
        );
        assert_eq!(record.interrupted, 4, "{}", row.name);
        assert_eq!(record.dropped, [], "{}: an abort drops nothing", row.name);
    }
}

#[test]
fn every_executor_numbers_iterations_without_gaps_over_all_segments() {
    for row in EXECUTORS {
        let mut all = BTreeMap::new();
        for segment in ["0:1/3", "1/3:2/3", "2/3:1"] {
            let part = tuple(segment, "0,1/3,2/3,1");
            let record = run(sample_of(row.name), part, |_| ms(250), None);
            let local: Vec<u64> = record.started.iter().map(|(_, n, _, _)| *n).collect();
            assert_eq!(
                local,
                (0..local.len() as u64).collect::<Vec<_>>(),
                "{}",
                row.name
            );
            for (_, _, test, _) in record.started {
                *all.entry(test).or_insert(0) += 1;
            }
        }
        assert!(
            all.values().all(|times| *times == 1),
            "{}: {all:?}",
            row.name
        );
        if row.name == "shared-iterations" {
            assert_eq!(
                all.keys().copied().collect::<Vec<_>>(),
                (0..12).collect::<Vec<_>>()
            );
        }
    }
}

#[test]
fn constant_vus_start_nothing_after_the_duration() {
    let config = json!({"executor": "constant-vus", "vus": 3, "duration": "1300ms"});
    let record = run(config, whole(), |_| ms(500), None);
    assert_eq!(record.complete, 9);
    assert!(record.started.iter().all(|(_, _, _, at)| *at < 1_300));
    assert!((1_500..1_520).contains(&record.ended), "{}", record.ended);
}

#[test]
fn short_iterations_wait_for_their_minimum() {
    let config = json!({"executor": "constant-vus", "vus": 1, "duration": "1s"});
    let record = run_with(config, whole(), |_| ms(1), None, ms(400));
    assert_eq!(record.complete, 3);
}

#[test]
fn fast_vus_do_more_of_the_shared_iterations() {
    let config = json!({"executor": "shared-iterations", "vus": 2, "iterations": 10});
    let record = run(
        config,
        whole(),
        |id| if id == 1 { ms(10) } else { ms(100) },
        None,
    );
    assert_eq!(record.complete, 10);
    let by_first = record.started.iter().filter(|(vu, ..)| *vu == 1).count();
    assert!(by_first > 7, "{by_first}");
    assert_eq!(record.dropped, []);
}

#[test]
fn iterations_that_find_no_time_are_dropped() {
    let config =
        json!({"executor": "shared-iterations", "vus": 2, "iterations": 50, "maxDuration": "1s"});
    let record = run(config, whole(), |_| ms(300), None);
    assert_eq!(record.complete, 8);
    assert_eq!(record.dropped, [(42, None)]);
    let config =
        json!({"executor": "per-vu-iterations", "vus": 2, "iterations": 5, "maxDuration": "1s"});
    let mut record = run(config, whole(), |_| ms(300), None);
    record.dropped.sort();
    assert_eq!(record.complete, 8);
    assert_eq!(record.dropped, [(1, Some(1)), (1, Some(2))]);
}

#[test]
fn a_segment_runs_its_share() {
    // execution.md §13.8: 7 shared iterations of 5 VUs over 0,1/4,1/2,1.
    for (segment, expected) in [("0:1/4", 2), ("1/4:1/2", 1), ("1/2:1", 4)] {
        let config = json!({"executor": "shared-iterations", "vus": 5, "iterations": 7});
        let record = run(config, tuple(segment, "0,1/4,1/2,1"), |_| ms(1), None);
        assert_eq!(record.complete, expected, "{segment}");
    }
}
