//! What every executor owes, tested over the table on paused time.
//!
//! The pool and the VUs are fakes; the serving loop, the paces and the executors are the real ones.
//! VUs are spread over one or two "workers" by id, as the real pool does, and results must not
//! depend on that.

use std::{
    cell::{Cell, RefCell},
    collections::{BTreeMap, BTreeSet, VecDeque},
    future::poll_fn,
    rc::Rc,
    sync::Arc,
    task::Poll,
    time::Duration,
};

use serde_json::{Value, json};
use tokio::{
    sync::watch,
    task::LocalSet,
    time::{Instant, sleep},
};

use super::{
    BoxFuture, Dropped, EXECUTORS, Iterate, Job, Lease, Leash, Pool, Progress, Run, serve,
};
use crate::{
    options::{Scenario, ScenarioKind, Scenarios, decode},
    segment::{Segment, Sequence, Tuple},
};

/// What happened in a run of one scenario.
#[derive(Debug, Default, Clone, PartialEq)]
struct Record {
    /// (VU, number in this instance, number over all, start in ms), in order of the start.
    started: Vec<(u64, u64, u64, u128)>,
    complete: u64,
    interrupted: u64,
    dropped: Vec<Dropped>,
    /// Changes of the number of active VUs: (ms, VUs after it).
    active: Vec<(u128, u64)>,
    said: Vec<String>,
    /// When the executor returned, in ms.
    ended: u128,
}

impl Record {
    fn drops(&self) -> u64 {
        let count = |dropped: &Dropped| match *dropped {
            Dropped::Together(n) | Dropped::Singly(n) | Dropped::OfVu(_, n) => n,
        };
        self.dropped.iter().map(count).sum()
    }

    /// Iterations of each VU.
    fn by_vu(&self) -> BTreeMap<u64, usize> {
        let mut counts = BTreeMap::new();
        for (vu, ..) in &self.started {
            *counts.entry(*vu).or_insert(0) += 1;
        }
        counts
    }

    /// How many VUs were active just before an instant.
    fn active_before(&self, at: u128) -> u64 {
        let before = self.active.iter().take_while(|(ms, _)| *ms < at);
        before.last().map_or(0, |(_, vus)| *vus)
    }
}

struct FakeVu {
    id: u64,
    place: usize,
    world: Rc<World>,
    progress: Arc<Progress>,
    leash: Rc<Leash>,
}

impl Iterate for FakeVu {
    fn id(&self) -> u64 {
        self.id
    }

    fn place(&self) -> usize {
        self.place
    }

    fn set_active(&mut self, active: bool) {
        let now = self.world.active.get() + u64::from(active) - u64::from(!active);
        self.world.active.set(now);
        self.progress.set_active(active);
        let at = self.world.now();
        let mut record = self.world.record.borrow_mut();
        record.active.push((at, now));
    }

    async fn iterate(&mut self, instance: u64, test: u64) -> bool {
        let at = self.world.now();
        let start = (self.id, instance, test, at);
        self.world.record.borrow_mut().started.push(start);
        // Like a script that sleeps: it ends early when the VU is stopped.
        let mut rest = std::pin::pin!(sleep((self.world.length)(self.id)));
        poll_fn(|task| {
            if self.leash.poll_cut(task) {
                return Poll::Ready(false);
            }
            rest.as_mut().poll(task).map(|()| true)
        })
        .await
    }
}

/// What the fakes share.
struct World {
    idle: RefCell<VecDeque<u64>>,
    made: Cell<u64>,
    unplanned: Cell<u64>,
    active: Cell<u64>,
    workers: usize,
    /// How long the n-th VU's iterations take.
    length: fn(u64) -> Duration,
    /// How long it takes to make a VU.
    making: Duration,
    start: Instant,
    record: RefCell<Record>,
    min_duration: Duration,
}

impl World {
    fn now(&self) -> u128 {
        self.start.elapsed().as_millis()
    }
}

struct FakePool(Rc<World>);

impl Pool for FakePool {
    fn take(&self) -> BoxFuture<Result<Box<dyn Lease>, String>> {
        let world = self.0.clone();
        let id = world.idle.borrow_mut().pop_front();
        let taken = id.ok_or_else(|| "no VU".to_owned());
        let lease = taken.map(|id| Box::new(FakeLease { id, world }) as Box<dyn Lease>);
        Box::pin(std::future::ready(lease))
    }

    fn grow(&self) -> BoxFuture<Result<Box<dyn Lease>, String>> {
        let world = self.0.clone();
        let Some(left) = world.unplanned.get().checked_sub(1) else {
            return self.take();
        };
        world.unplanned.set(left);
        let id = world.made.get() + 1;
        world.made.set(id);
        Box::pin(async move {
            sleep(world.making).await;
            Ok(Box::new(FakeLease { id, world }) as Box<dyn Lease>)
        })
    }

    fn add(&self) -> BoxFuture<Result<(), String>> {
        let world = self.0.clone();
        let id = world.made.get() + 1;
        world.made.set(id);
        Box::pin(async move {
            sleep(world.making).await;
            world.idle.borrow_mut().push_back(id);
            Ok(())
        })
    }

    fn workers(&self) -> usize {
        self.0.workers
    }
}

struct FakeLease {
    id: u64,
    world: Rc<World>,
}

impl Lease for FakeLease {
    fn serve(self: Box<Self>, job: Arc<Job>) -> BoxFuture<()> {
        let Self { id, world } = *self;
        let served = tokio::task::spawn_local(async move {
            let leash = Rc::new(Leash::default());
            let mut vu = FakeVu {
                id,
                place: (id as usize - 1) % world.workers,
                world: world.clone(),
                progress: job.progress.clone(),
                leash: leash.clone(),
            };
            let cutter = {
                let (leash, mut cancelled) = (leash.clone(), job.cancelled());
                tokio::task::spawn_local(async move {
                    if cancelled.wait_for(|c| *c).await.is_ok() {
                        leash.cut();
                    }
                })
            };
            serve(&mut vu, &job, &leash, world.min_duration, |complete| {
                let mut record = world.record.borrow_mut();
                if complete {
                    job.progress.count();
                    record.complete += 1;
                } else {
                    record.interrupted += 1;
                }
            })
            .await;
            cutter.abort();
            world.idle.borrow_mut().push_back(vu.id);
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

/// A scenario and the world it runs in.
struct Case {
    config: Value,
    tuple: Tuple,
    length: fn(u64) -> Duration,
    making: Duration,
    abort_at: Option<Duration>,
    min_duration: Duration,
    workers: usize,
    /// What somebody does from outside while it runs.
    meanwhile: Option<Meanwhile>,
}

type Meanwhile = fn(Arc<Scenario>, Arc<Progress>) -> BoxFuture<()>;

impl Case {
    fn new(config: Value, length: fn(u64) -> Duration) -> Self {
        Self {
            config,
            tuple: whole(),
            length,
            making: ms(10),
            abort_at: None,
            min_duration: Duration::ZERO,
            workers: 1,
            meanwhile: None,
        }
    }

    fn on(mut self, tuple: Tuple) -> Self {
        self.tuple = tuple;
        self
    }

    /// Runs it to its end on paused time.
    fn run(self) -> Record {
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .start_paused(true)
            .build()
            .unwrap();
        LocalSet::new().block_on(&runtime, self.play())
    }

    async fn play(self) -> Record {
        let scenario = scenario(self.config);
        let kind = super::find(&scenario.kind).unwrap();
        let needs = scenario.requirements(&self.tuple);
        let most = |vus: fn(&crate::options::Step) -> i64| needs.iter().map(vus).max().unwrap_or(0);
        let vus = most(|step| step.planned) as u64;
        let world = Rc::new(World {
            idle: RefCell::new((1..=vus).collect()),
            made: Cell::new(vus),
            unplanned: Cell::new(most(|step| step.planned + step.unplanned) as u64 - vus),
            active: Cell::new(0),
            workers: self.workers,
            length: self.length,
            making: self.making,
            start: Instant::now(),
            record: RefCell::default(),
            min_duration: self.min_duration,
        });
        let abort = watch::Sender::new(false);
        if let Some(at) = self.abort_at {
            let abort = abort.clone();
            tokio::task::spawn_local(async move {
                sleep(at).await;
                abort.send_replace(true);
            });
        }
        let progress = Progress::new("s", kind.name);
        progress.begin(0);
        if let Some(meanwhile) = self.meanwhile {
            tokio::task::spawn_local(meanwhile(scenario.clone(), progress.clone()));
        }
        let (dropping, saying) = (world.clone(), world.clone());
        (kind.run)(Run {
            scenario,
            tuple: self.tuple,
            pool: Rc::new(FakePool(world.clone())),
            progress: progress.clone(),
            abort: abort.subscribe(),
            dropped: Rc::new(move |dropped| {
                dropping.record.borrow_mut().dropped.push(dropped);
            }),
            say: Rc::new(move |_, text, _| {
                saying.record.borrow_mut().said.push(text.to_owned());
            }),
        })
        .await
        .unwrap();
        let mut record = world.record.borrow().clone();
        record.ended = world.now();
        assert_eq!(world.active.get(), 0, "{}", kind.name);
        assert_eq!(progress.active(), 0, "{}", kind.name);
        let idle = world.idle.borrow().len() as u64;
        assert_eq!(idle, world.made.get(), "{}: every VU is back", kind.name);
        // Cut short or not, whoever looks at a scenario sees a share of it.
        assert!(progress.share.get().is_some(), "{}", kind.name);
        let share = volley_scripting::Scenario::progress(&*progress);
        let whole = record.interrupted == 0 && record.dropped.is_empty();
        assert!(share == 1.0 || !whole, "{}: {share}", kind.name);
        record
    }
}

fn ms(n: u64) -> Duration {
    Duration::from_millis(n)
}

/// A configuration of each executor that starts four iterations of different VUs within 150 ms, no
/// other until the first ends, and runs for two seconds at most.
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
        "ramping-vus" => {
            json!({"executor": name, "startVUs": 4, "stages": [{"duration": "2s", "target": 4}], "gracefulStop": "1s"})
        }
        "constant-arrival-rate" => {
            json!({"executor": name, "rate": 25, "duration": "2s", "preAllocatedVUs": 4, "gracefulStop": "1s"})
        }
        "ramping-arrival-rate" => {
            json!({"executor": name, "startRate": 29, "stages": [{"duration": "2s", "target": 31}],
                "preAllocatedVUs": 4, "gracefulStop": "1s"})
        }
        "externally-controlled" => {
            json!({"executor": name, "vus": 4, "duration": "2s"})
        }
        other => panic!("add a sample for {other}"),
    }
}

/// Whether it waits for its last iterations; otherwise it interrupts them at its regular end.
fn has_graceful_stop(name: &str) -> bool {
    name != "externally-controlled"
}

#[test]
fn every_executor_ends_with_its_vus_back() {
    for row in EXECUTORS {
        let record = Case::new(sample_of(row.name), |_| ms(100)).run();
        assert!(record.complete > 0, "{}", row.name);
        let cut = if has_graceful_stop(row.name) { 0 } else { 4 };
        assert_eq!(record.interrupted, cut, "{}", row.name);
        assert!(record.ended <= 2_100, "{}: {}", row.name, record.ended);
    }
}

#[test]
fn every_executor_interrupts_at_the_hard_end() {
    for row in EXECUTORS {
        let record = Case::new(sample_of(row.name), |_| ms(60_000)).run();
        assert_eq!(record.interrupted, 4, "{}", row.name);
        assert_eq!(record.complete, 0, "{}", row.name);
        let end = if has_graceful_stop(row.name) {
            3_000
        } else {
            2_000
        };
        assert!(
            (end..=end + 5).contains(&record.ended),
            "{}: {}",
            row.name,
            record.ended
        );
    }
}

#[test]
fn every_executor_stops_at_once_when_the_run_is_aborted() {
    for row in EXECUTORS {
        let mut case = Case::new(sample_of(row.name), |_| ms(400));
        case.abort_at = Some(ms(150));
        let record = case.run();
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
            let record = Case::new(sample_of(row.name), |_| ms(250)).on(part).run();
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
    let record = Case::new(config, |_| ms(500)).run();
    assert_eq!(record.complete, 9);
    assert!(record.started.iter().all(|(_, _, _, at)| *at < 1_300));
    assert!((1_500..1_520).contains(&record.ended), "{}", record.ended);
}

#[test]
fn short_iterations_wait_for_their_minimum() {
    let config = json!({"executor": "constant-vus", "vus": 1, "duration": "1s"});
    let mut case = Case::new(config, |_| ms(1));
    case.min_duration = ms(400);
    let record = case.run();
    assert_eq!(record.complete, 3);
}

#[test]
fn fast_vus_do_more_of_the_shared_iterations() {
    let config = json!({"executor": "shared-iterations", "vus": 2, "iterations": 10});
    let record = Case::new(config, |id| if id == 1 { ms(10) } else { ms(100) }).run();
    assert_eq!(record.complete, 10);
    let by_first = record.started.iter().filter(|(vu, ..)| *vu == 1).count();
    assert!(by_first > 7, "{by_first}");
    assert_eq!(record.dropped, []);
}

#[test]
fn iterations_that_find_no_time_are_dropped() {
    let config =
        json!({"executor": "shared-iterations", "vus": 2, "iterations": 50, "maxDuration": "1s"});
    let record = Case::new(config, |_| ms(300)).run();
    assert_eq!(record.complete, 8);
    assert_eq!(record.dropped, [Dropped::Together(42)]);
    let config =
        json!({"executor": "per-vu-iterations", "vus": 2, "iterations": 5, "maxDuration": "1s"});
    let mut record = Case::new(config, |_| ms(300)).run();
    record.dropped.sort();
    assert_eq!(record.complete, 8);
    assert_eq!(record.dropped, [Dropped::OfVu(1, 1), Dropped::OfVu(2, 1)]);
}

#[test]
fn a_segment_runs_its_share() {
    // execution.md §13.8: 7 shared iterations of 5 VUs over 0,1/4,1/2,1.
    for (segment, expected) in [("0:1/4", 2), ("1/4:1/2", 1), ("1/2:1", 4)] {
        let config = json!({"executor": "shared-iterations", "vus": 5, "iterations": 7});
        let record = Case::new(config, |_| ms(1))
            .on(tuple(segment, "0,1/4,1/2,1"))
            .run();
        assert_eq!(record.complete, expected, "{segment}");
    }
}

#[test]
fn the_number_of_workers_changes_nothing() {
    for row in EXECUTORS {
        // Iterations that end between two starts, so that no two things happen at once.
        let third = tuple("1/3:2/3", "0,1/3,2/3,1");
        for (tuple, length) in [(whole(), ms_93 as fn(u64) -> Duration), (third, ms_211)] {
            let run = |workers| {
                let mut case = Case::new(sample_of(row.name), length).on(tuple.clone());
                case.workers = workers;
                case.run()
            };
            let (one, two) = (run(1), run(2));
            assert!(!one.started.is_empty(), "{}", row.name);
            let about = format!("{} on {}", row.name, tuple.segment());
            // Which of the idle VUs takes an arrival is nobody's business, how many each takes is.
            assert_eq!(one.by_vu(), two.by_vu(), "{about}");
            let anonymous = |mut record: Record| {
                record.started.iter_mut().for_each(|start| start.0 = 0);
                record
            };
            assert_eq!(anonymous(one), anonymous(two), "{about}");
        }
    }
}

fn ms_93(_: u64) -> Duration {
    ms(93)
}

fn ms_211(vu: u64) -> Duration {
    ms(211 + vu * 7)
}

#[test]
fn arrivals_start_on_time_whatever_came_before() {
    let config = json!({"executor": "constant-arrival-rate", "rate": 100, "duration": "3s",
        "preAllocatedVUs": 30});
    let record = Case::new(config, |_| ms(217)).run();
    let starts: Vec<u128> = record.started.iter().map(|(.., at)| *at).collect();
    assert_eq!(starts, (0..300).map(|n| n * 10).collect::<Vec<_>>());
    assert_eq!(record.dropped, []);
    assert_eq!(record.ended, 2990 + 217);
    // It lasts until its regular end, also when nothing is left to do.
    let config = json!({"executor": "constant-arrival-rate", "rate": 1, "duration": "1500ms",
        "preAllocatedVUs": 2});
    let record = Case::new(config, |_| ms(1)).run();
    assert_eq!((record.complete, record.ended), (2, 1500));
}

#[test]
fn arrivals_that_find_no_vu_are_dropped_at_once() {
    // execution.md §10.2: each VU that is made costs a drop at least.
    let config = json!({"executor": "constant-arrival-rate", "rate": 10, "duration": "1999ms",
        "preAllocatedVUs": 1, "maxVUs": 3});
    let record = Case::new(config.clone(), |_| ms(995)).run();
    assert_eq!((record.complete, record.drops()), (6, 14));
    let first: Vec<_> = record
        .started
        .iter()
        .take(3)
        .map(|(vu, .., at)| (*vu, *at))
        .collect();
    assert_eq!(first, [(1, 0), (2, 200), (3, 400)]);
    let warning = "Insufficient VUs, reached 3 active VUs and cannot initialize more";
    assert_eq!(record.said, [warning]);
    // A VU that takes its time to be made is not waited for.
    let mut case = Case::new(config, |_| ms(995));
    case.making = ms(450);
    let record = case.run();
    let first: Vec<_> = record
        .started
        .iter()
        .take(3)
        .map(|(vu, .., at)| (*vu, *at))
        .collect();
    assert_eq!(first, [(1, 0), (2, 600), (1, 1000)]);
    assert_eq!(record.complete + record.drops(), 20);
}

#[test]
fn without_vus_at_the_start_one_is_made() {
    let config = json!({"executor": "ramping-arrival-rate", "startRate": 10, "preAllocatedVUs": 0,
        "maxVUs": 1, "stages": [{"duration": "1s", "target": 10}]});
    let record = Case::new(config, |_| ms(5)).run();
    assert_eq!((record.complete, record.drops()), (9, 1));
}

#[test]
fn a_rate_that_has_run_out_ends_the_scenario() {
    // execution.md §10.1: 1 s at 10/s, then 4 s at 0.
    let config = json!({"executor": "ramping-arrival-rate", "startRate": 10, "preAllocatedVUs": 5,
        "stages": [{"duration": "1s", "target": 10}, {"duration": "0s", "target": 0},
            {"duration": "4s", "target": 0}]});
    let record = Case::new(config, |_| ms(30)).run();
    let starts: Vec<u128> = record.started.iter().map(|(.., at)| *at).collect();
    assert_eq!(starts, (1..=10).map(|n| n * 100).collect::<Vec<_>>());
    assert!((1030..1040).contains(&record.ended), "{}", record.ended);
}

#[test]
fn parts_of_a_rate_start_what_the_whole_starts() {
    for executor in ["constant-arrival-rate", "ramping-arrival-rate"] {
        let mut config = sample_of(executor);
        config["preAllocatedVUs"] = json!(30);
        let run = |tuple: Tuple| {
            let record = Case::new(config.clone(), |_| ms(20)).on(tuple).run();
            assert_eq!(record.dropped, []);
            let start = |(_, _, test, at): &(u64, u64, u64, u128)| (*test, *at);
            record.started.iter().map(start).collect::<BTreeSet<_>>()
        };
        let all = run(whole());
        let mut parts = BTreeSet::new();
        for segment in ["0:1/7", "1/7:1/2", "1/2:1"] {
            let part = run(tuple(segment, "0,1/7,1/2,1"));
            assert!(part.is_disjoint(&parts), "{executor}");
            parts.extend(part);
        }
        assert_eq!(parts, all, "{executor}");
    }
}

#[test]
fn ramps_hold_their_vus_as_long_as_they_may() {
    // execution.md §9.4: two VUs with iterations of 2.3 s, one of them dropped after 1 s.
    for (graceful, at, interrupted) in [("0s", 1_000, 2), ("1s", 2_000, 2), ("30s", 2_300, 1)] {
        let config = json!({"executor": "ramping-vus", "startVUs": 2, "gracefulRampDown": graceful,
            "gracefulStop": "500ms", "stages": [{"duration": "1s", "target": 2},
                {"duration": "0s", "target": 1}, {"duration": "2s", "target": 1}]});
        let record = Case::new(config, |_| ms(2_300)).run();
        assert_eq!(record.interrupted, interrupted, "{graceful}");
        let left = record.active.iter().find(|(ms, vus)| *ms > 0 && *vus == 1);
        let (left, _) = left.expect("one leaves");
        assert!((at..at + 5).contains(left), "{graceful}: {left}");
        assert!((3_500..3_505).contains(&record.ended), "{}", record.ended);
    }
}

#[test]
fn a_vu_that_is_wanted_again_loses_nothing() {
    let config = json!({"executor": "ramping-vus", "startVUs": 1, "stages": [
        {"duration": "1s", "target": 1}, {"duration": "0s", "target": 0},
        {"duration": "500ms", "target": 0}, {"duration": "0s", "target": 1},
        {"duration": "1500ms", "target": 1}]});
    let record = Case::new(config, |_| ms(800)).run();
    // The second iteration goes on through the gap.
    let starts: Vec<u128> = record.started.iter().map(|(.., at)| *at).collect();
    assert_eq!(starts, [0, 800, 1_600, 2_400]);
    assert_eq!((record.complete, record.interrupted), (4, 0));
}

#[test]
fn levels_of_no_vus_at_the_end_are_not_waited_for() {
    let config = json!({"executor": "ramping-vus", "startVUs": 0, "stages": [
        {"duration": "1s", "target": 2}, {"duration": "1s", "target": 0},
        {"duration": "4s", "target": 0}]});
    let record = Case::new(config, |_| ms(100)).run();
    assert!((2_000..2_150).contains(&record.ended), "{}", record.ended);
}

/// The ramp of execution.md §9.1, computed another way: by asking for each global VU whether it is
/// active.
fn vus_by_formula(from: i64, stages: &[(i128, i64)], own: &[i64], at_ns: i128) -> u64 {
    let mut active: BTreeSet<i64> = own.iter().copied().filter(|u| *u <= from).collect();
    let (mut end, mut before) = (0, from);
    for &(length, to) in stages {
        end += length;
        let span = i128::from((to - before).abs());
        for &u in own {
            let (changes, back) = if to > before {
                (u > before && u <= to, to - u)
            } else {
                (u > to && u <= before, u - to - 1)
            };
            if changes && end - length * i128::from(back) / span <= at_ns {
                if to > before {
                    active.insert(u);
                } else {
                    active.remove(&u);
                }
            }
        }
        before = to;
        if end > at_ns {
            break;
        }
    }
    active.len() as u64
}

#[test]
fn twenty_thousand_vus_follow_a_ramp_of_ten_minutes() {
    let config = json!({"executor": "ramping-vus", "startVUs": 0, "gracefulRampDown": "0s",
        "gracefulStop": "0s", "stages": [{"duration": "4m", "target": 20_000},
            {"duration": "2m", "target": 20_000}, {"duration": "4m", "target": 0}]});
    let minute = 60_000_000_000;
    let stages = [(4 * minute, 20_000), (2 * minute, 20_000), (4 * minute, 0)];
    let own: Vec<i64> = (1..=20_000).collect();
    // Iterations as long as the test: only the ramp ends them.
    let record = Case::new(config, |_| ms(3_600_000)).run();
    assert_eq!(record.started.len(), 20_000);
    assert_eq!(record.interrupted, 20_000);
    // Each change, against the formula for that very VU: 12 ms lie between two of them.
    let mut expected: Vec<(u128, u64)> = Vec::new();
    expected.extend((1..=20_000).map(|u| (u128::from(u) * 12, u)));
    expected.extend((1..=20_000).map(|n| (360_000 + u128::from(n) * 12, 20_000 - n)));
    assert_eq!(record.active.len(), expected.len());
    for (found, expected) in record.active.iter().zip(&expected) {
        assert_eq!(found.1, expected.1);
        assert!(found.0 - expected.0 <= 1, "{found:?} {expected:?}");
    }
    // And the number at some instants, counted VU by VU.
    for at in (1_001..600_000).step_by(97_008) {
        let counted = vus_by_formula(0, &stages, &own, i128::from(at) * 1_000_000);
        assert_eq!(
            record.active_before(u128::from(at as u32) + 2),
            counted,
            "{at} ms"
        );
    }
}

/// Changes the numbers of VUs of an externally-controlled scenario.
async fn rescale(
    scenario: &Scenario,
    progress: &Progress,
    vus: Option<i64>,
    max: Option<i64>,
) -> Result<(), String> {
    let ScenarioKind::ExternallyControlled(config) = &scenario.kind else {
        panic!("{} does not listen", scenario.executor());
    };
    progress.remote.scale(config, vus, max).await
}

#[test]
fn vus_come_and_go_as_they_are_told() {
    let config = json!({"executor": "externally-controlled", "vus": 2, "maxVUs": 4,
        "duration": "10s"});
    let mut case = Case::new(config, |_| ms(700));
    case.meanwhile = Some(|scenario, progress| {
        Box::pin(async move {
            sleep(ms(1_000)).await;
            assert_eq!(
                rescale(&scenario, &progress, Some(6), Some(6)).await,
                Ok(())
            );
            sleep(ms(1_000)).await;
            // Down is at once: what is in progress is interrupted.
            assert_eq!(rescale(&scenario, &progress, Some(1), None).await, Ok(()));
            assert_eq!(progress.active(), 1);
            for (vus, max, problem) in [
                (Some(-1), None, "the number of VUs can't be negative"),
                (
                    Some(7),
                    None,
                    "the number of active VUs (7) must be less than or equal to the number of \
                     maxVUs (6)",
                ),
                (
                    None,
                    Some(3),
                    "the new number of max VUs cannot be lower than the starting number of max \
                     VUs (4)",
                ),
            ] {
                let answer = rescale(&scenario, &progress, vus, max).await;
                assert_eq!(answer, Err(problem.to_owned()));
            }
            sleep(ms(1_000)).await;
            assert_eq!(
                rescale(&scenario, &progress, Some(0), Some(4)).await,
                Ok(())
            );
            assert_eq!(progress.active(), 0);
        })
    });
    let record = case.run();
    // Two VUs more were made, 10 ms each.
    assert_eq!(
        record.active,
        [
            (0, 1),
            (0, 2),
            (1_020, 3),
            (1_020, 4),
            (1_020, 5),
            (1_020, 6)
        ]
        .into_iter()
        .chain((1..=5).map(|n| (2_020, 6 - n)))
        .chain([(3_020, 0)])
        .collect::<Vec<_>>()
    );
    assert_eq!(record.interrupted, 6);
    assert_eq!(record.ended, 10_000);
    let vus: BTreeSet<u64> = record.started.iter().map(|(vu, ..)| *vu).collect();
    assert_eq!(vus, (1..=6).collect());
}

#[test]
fn a_pause_in_the_middle_loses_no_iteration_and_no_time() {
    let config = json!({"executor": "externally-controlled", "vus": 2,
        "duration": "5500ms"});
    let mut case = Case::new(config, |_| ms(1_000));
    case.meanwhile = Some(|scenario, progress| {
        Box::pin(async move {
            sleep(ms(1_500)).await;
            assert_eq!(progress.remote.pause(true).await, Ok(()));
            // Done when the iterations are over.
            assert_eq!((progress.active(), progress.spent()), (0, ms(2_000)));
            assert_eq!(rescale(&scenario, &progress, Some(1), None).await, Ok(()));
            sleep(ms(60_000)).await;
            assert_eq!((progress.active(), progress.spent()), (0, ms(2_000)));
            assert_eq!(progress.remote.pause(false).await, Ok(()));
        })
    });
    let record = case.run();
    let starts: Vec<u128> = record.started.iter().map(|(.., at)| *at).collect();
    assert_eq!(starts, [0, 0, 1_000, 1_000, 62_000, 63_000, 64_000, 65_000]);
    assert_eq!((record.complete, record.ended), (7, 65_500));
}

#[test]
fn what_is_asked_before_the_start_counts_from_the_start() {
    let config = json!({"executor": "externally-controlled", "vus": 1, "maxVUs": 2,
        "duration": "1s"});
    let scenario = scenario(config);
    let progress = Progress::new("s", "externally-controlled");
    let runtime = tokio::runtime::Builder::new_current_thread()
        .build()
        .unwrap();
    runtime.block_on(async {
        let early = "cannot pause the externally controlled executor before it has started";
        assert_eq!(progress.remote.pause(true).await, Err(early.to_owned()));
        assert_eq!(rescale(&scenario, &progress, Some(2), None).await, Ok(()));
        let most = "the number of active VUs (2) must be less than or equal to the number of \
                    maxVUs (1)";
        // The numbers are checked with what was asked for before.
        let answer = rescale(&scenario, &progress, None, Some(1)).await;
        assert_eq!(answer, Err(most.to_owned()));
    });
}
