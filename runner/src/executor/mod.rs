//! Executors: each decides when the iterations of a scenario start and when they stop.
//!
//! An executor has two halves. Its `run` is a future of the coordinator: it takes VUs from the
//! pool, hands each to its worker with a [`Job`], and waits until they are back. Its [`Pace`] is
//! asked on the worker, between two iterations, whether the VU goes on: that is the only thing on
//! the path of an iteration, and it takes no lock.

mod arrival_rate;
mod arrivals;
mod constant_arrival_rate;
mod constant_vus;
mod externally_controlled;
mod looping;
mod per_vu_iterations;
mod ramping_arrival_rate;
mod ramping_vus;
pub(crate) mod schedule;
mod shared_iterations;
mod slots;

#[cfg(test)]
mod conformance;

pub(crate) use externally_controlled::Remote;

use std::{
    cell::{Cell, RefCell},
    future::{Future, poll_fn},
    pin::Pin,
    rc::Rc,
    sync::{
        Arc, OnceLock,
        atomic::{AtomicBool, AtomicI64, AtomicU64, Ordering},
    },
    task::{Context, Poll},
    time::Duration,
};

use tokio::{sync::watch, time::Instant};

use crate::{
    lateness::Lateness,
    logging::Level,
    options::{Scenario, ScenarioKind},
    segment::Tuple,
    stopwatch::Stopwatch,
};

/// A row of the table: an executor under the name that scripts use for it.
pub(crate) struct Kind {
    /// `constant-vus`, …
    pub(crate) name: &'static str,
    /// Runs one scenario from its start instant to the return of its last VU.
    pub(crate) run: fn(Run) -> BoxFuture<Result<(), String>>,
    /// What its progress line shows: VUs, time, iterations.
    pub(crate) columns: fn(&Scenario, &Tuple, &Progress) -> Vec<String>,
}

/// Every executor.
pub(crate) const EXECUTORS: &[Kind] = &[
    constant_arrival_rate::KIND,
    constant_vus::KIND,
    externally_controlled::KIND,
    per_vu_iterations::KIND,
    ramping_arrival_rate::KIND,
    ramping_vus::KIND,
    shared_iterations::KIND,
];

/// A boxed future of the coordinator thread.
pub(crate) type BoxFuture<T> = Pin<Box<dyn Future<Output = T>>>;

/// The executor of a scenario.
pub(crate) fn find(kind: &ScenarioKind) -> Option<&'static Kind> {
    EXECUTORS.iter().find(|row| row.name == kind.name())
}

/// What an executor needs to run a scenario.
pub(crate) struct Run {
    /// The scenario's configuration.
    pub(crate) scenario: Arc<Scenario>,
    /// This instance's share.
    pub(crate) tuple: Tuple,
    /// Where VUs come from.
    pub(crate) pool: Rc<dyn Pool>,
    /// What scripts see of the scenario, and its counters.
    pub(crate) progress: Arc<Progress>,
    /// Becomes true when the whole run is aborted.
    pub(crate) abort: watch::Receiver<bool>,
    /// Counts iterations that could not be started.
    pub(crate) dropped: Rc<dyn Fn(Dropped)>,
    /// Says something in the log; the scenario and its executor are added.
    pub(crate) say: Say,
}

/// Logs a text with fields at a level.
pub(crate) type Say = Rc<dyn Fn(Level, &str, &[(&str, &str)])>;

/// Iterations that could not be started.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Dropped {
    /// So many at once: they are one sample.
    Together(u64),
    /// So many, one after the other: each is a sample.
    Singly(u64),
    /// What the VU of this id had left to do: one sample.
    OfVu(u64, u64),
}

/// Idle VUs of the instance, whichever worker they live on.
pub(crate) trait Pool {
    /// Takes a VU, waiting for one if need be.
    fn take(&self) -> BoxFuture<Result<Box<dyn Lease>, String>>;

    /// Makes a VU beyond those that were made before the run, or takes one like [`Self::take`]
    /// when the run has made all that its scenarios may need.
    fn grow(&self) -> BoxFuture<Result<Box<dyn Lease>, String>>;

    /// Makes a VU beyond all that was planned, for the pool.
    fn add(&self) -> BoxFuture<Result<(), String>>;

    /// On how many workers VUs live.
    fn workers(&self) -> usize;
}

/// A VU that an executor has taken; when it is dropped unused, it is back in the pool.
pub(crate) trait Lease {
    /// Lets it serve the job; done when the VU is back in the pool.
    fn serve(self: Box<Self>, job: Arc<Job>) -> BoxFuture<()>;
}

/// Asked between two iterations of a VU, on its worker.
pub(crate) trait Pace: Send + Sync {
    /// Whether the VU starts another iteration now (`true`), stops (`false`), or waits.
    fn poll_next(&self, turn: &mut Turn, task: &mut Context<'_>) -> Poll<bool>;

    /// Called when the VU leaves, also while it waits.
    fn leave(&self, _turn: &mut Turn) {}
}

/// What a VU carries from one question to the next.
pub(crate) struct Turn {
    /// Iterations that this VU has started in this job.
    pub(crate) started: u64,
    /// The time of the question; a pace that made the VU wait sets it to the end of the wait.
    pub(crate) now: Instant,
    /// The number of the worker that the VU lives on.
    pub(crate) place: usize,
    /// Where it waits for an arrival.
    seat: Option<Rc<arrivals::Seat>>,
    /// Set by a pace that stops before its work is done: iterations that are left.
    pub(crate) left: u64,
}

/// The numbers of a scenario's iterations, in order of their start.
pub(crate) struct Numbers {
    tuple: Tuple,
    next: AtomicU64,
}

impl Numbers {
    /// Those of an instance whose share of the iterations is `tuple`.
    pub(crate) fn new(tuple: Tuple) -> Arc<Self> {
        Arc::new(Self {
            tuple,
            next: AtomicU64::new(0),
        })
    }

    /// The numbers of the next iteration: in this instance and over all, from 0.
    fn next(&self) -> (u64, u64) {
        let instance = self.next.fetch_add(1, Ordering::Relaxed);
        // The striping counts from 1, scripts from 0.
        let test = self.tuple.unscaled(instance as i64 + 1) - 1;
        (instance, test as u64)
    }
}

/// What VUs serve: a scenario in progress, or the part of it that is cancelled as one.
pub(crate) struct Job {
    /// What scripts see.
    pub(crate) progress: Arc<Progress>,
    pace: Box<dyn Pace>,
    numbers: Arc<Numbers>,
    /// Whether a VU counts as active only while it runs an iteration.
    counts_running: bool,
    cancel: watch::Sender<bool>,
    /// Tells jobs apart.
    pub(crate) id: u64,
    left: std::sync::Mutex<Vec<(u64, u64)>>,
}

/// Identifies jobs within the process.
static JOBS: AtomicU64 = AtomicU64::new(0);

impl Job {
    /// A job paced by `pace`, whose VUs are active from the moment they serve it.
    pub(crate) fn new(
        progress: Arc<Progress>,
        numbers: Arc<Numbers>,
        pace: Box<dyn Pace>,
    ) -> Arc<Self> {
        Self::make(progress, numbers, pace, false)
    }

    /// A job whose VUs are active only while they run an iteration.
    pub(crate) fn on_demand(
        progress: Arc<Progress>,
        numbers: Arc<Numbers>,
        pace: Box<dyn Pace>,
    ) -> Arc<Self> {
        Self::make(progress, numbers, pace, true)
    }

    fn make(
        progress: Arc<Progress>,
        numbers: Arc<Numbers>,
        pace: Box<dyn Pace>,
        counts_running: bool,
    ) -> Arc<Self> {
        Arc::new(Self {
            progress,
            pace,
            numbers,
            counts_running,
            cancel: watch::Sender::new(false),
            id: JOBS.fetch_add(1, Ordering::Relaxed),
            left: std::sync::Mutex::default(),
        })
    }

    /// Interrupts every VU that serves this job.
    pub(crate) fn cancel(&self) {
        self.cancel.send_replace(true);
    }

    /// To wait for [`Self::cancel`].
    pub(crate) fn cancelled(&self) -> watch::Receiver<bool> {
        self.cancel.subscribe()
    }

    /// What VUs that stopped early had left to do: (VU id, iterations).
    pub(crate) fn take_left(&self) -> Vec<(u64, u64)> {
        std::mem::take(&mut *self.left.lock().unwrap_or_else(|e| e.into_inner()))
    }
}

/// Computes how much of a scenario is done, 0 to 1.
pub(crate) type Share = Box<dyn Fn(&Progress) -> f64 + Send + Sync>;

/// What is known of a scenario while it runs: for scripts, the progress lines and the summary.
pub(crate) struct Progress {
    /// Its name.
    pub(crate) name: String,
    /// Its executor.
    pub(crate) executor: &'static str,
    clock: Stopwatch,
    started_unix_ms: AtomicI64,
    cut: AtomicBool,
    /// Set by the executor.
    pub(crate) share: OnceLock<Share>,
    /// Iterations that were not interrupted.
    completed: AtomicU64,
    active: AtomicU64,
    held: AtomicU64,
    dropped: AtomicU64,
    /// The bits of a rate.
    rate: AtomicU64,
    /// Its regular end, where that is not in its configuration.
    regular: OnceLock<Duration>,
    /// What somebody wants of it from outside, where it listens.
    pub(crate) remote: Remote,
    /// How late iterations started, where starts follow a schedule.
    pub(crate) lateness: OnceLock<Arc<Lateness>>,
}

impl Progress {
    /// A scenario that has not started.
    pub(crate) fn new(name: &str, executor: &'static str) -> Arc<Self> {
        Arc::new(Self {
            name: name.to_owned(),
            executor,
            clock: Stopwatch::default(),
            started_unix_ms: AtomicI64::new(0),
            cut: AtomicBool::new(false),
            share: OnceLock::new(),
            completed: AtomicU64::new(0),
            active: AtomicU64::new(0),
            held: AtomicU64::new(0),
            dropped: AtomicU64::new(0),
            rate: AtomicU64::new(0),
            regular: OnceLock::new(),
            remote: Remote::default(),
            lateness: OnceLock::new(),
        })
    }

    /// It starts now, which is so many milliseconds after the epoch.
    pub(crate) fn begin(&self, unix_ms: i64) {
        self.started_unix_ms.store(unix_ms, Ordering::Relaxed);
        self.clock.start();
    }

    /// Its VUs are back; `cut` when the run was aborted meanwhile.
    pub(crate) fn end(&self, cut: bool) {
        self.cut.store(cut, Ordering::Release);
        self.clock.stop();
    }

    /// Whether it has started.
    pub(crate) fn has_begun(&self) -> bool {
        self.clock.has_started()
    }

    /// Whether it is over, and if so, whether it was cut short.
    pub(crate) fn ended(&self) -> Option<bool> {
        let ended = self.clock.has_stopped();
        ended.then(|| self.cut.load(Ordering::Acquire))
    }

    /// How long it has run, pauses excluded.
    pub(crate) fn spent(&self) -> Duration {
        self.clock.elapsed()
    }

    /// It is paused, or goes on.
    fn pause(&self, paused: bool) {
        self.clock.pause(paused);
    }

    /// One iteration was not interrupted.
    pub(crate) fn count(&self) {
        self.completed.fetch_add(1, Ordering::Relaxed);
    }

    /// A VU is active in it from now on, or no more.
    pub(crate) fn set_active(&self, active: bool) {
        match active {
            true => self.active.fetch_add(1, Ordering::Relaxed),
            false => self.active.fetch_sub(1, Ordering::Relaxed),
        };
    }

    /// VUs that are active in it.
    pub(crate) fn active(&self) -> u64 {
        self.active.load(Ordering::Relaxed)
    }

    /// It has taken a VU.
    fn hold_one(&self) {
        self.held.fetch_add(1, Ordering::Relaxed);
    }

    /// VUs that it has taken.
    pub(crate) fn held(&self) -> u64 {
        self.held.load(Ordering::Relaxed)
    }

    /// So many of its iterations could not be started.
    pub(crate) fn drop_some(&self, count: u64) {
        self.dropped.fetch_add(count, Ordering::Relaxed);
    }

    /// Iterations that could not be started.
    pub(crate) fn dropped(&self) -> u64 {
        self.dropped.load(Ordering::Relaxed)
    }

    /// Its regular end is not the one of its configuration.
    fn set_regular(&self, regular: Duration) {
        let _ = self.regular.set(regular);
    }

    /// Its regular end, where that is not the one of its configuration.
    pub(crate) fn regular(&self) -> Option<Duration> {
        self.regular.get().copied()
    }

    /// Iterations start at this rate, per second.
    fn set_rate(&self, rate: f64) {
        self.rate.store(rate.to_bits(), Ordering::Relaxed);
    }

    /// The rate of starts, per second.
    pub(crate) fn rate(&self) -> f64 {
        f64::from_bits(self.rate.load(Ordering::Relaxed))
    }

    /// Iterations that were not interrupted.
    pub(crate) fn completed(&self) -> u64 {
        self.completed.load(Ordering::Relaxed)
    }
}

impl volley_scripting::Scenario for Progress {
    fn name(&self) -> &str {
        &self.name
    }

    fn executor(&self) -> &str {
        self.executor
    }

    fn start_unix_ms(&self) -> i64 {
        self.started_unix_ms.load(Ordering::Relaxed)
    }

    fn progress(&self) -> f64 {
        let share = self.share.get().map_or(0.0, |share| share(self));
        // No iterations at all: a scenario without work is done.
        if share.is_nan() {
            1.0
        } else {
            share.clamp(0.0, 1.0)
        }
    }
}

/// A VU as the serving loop sees it; tests put a fake in its place.
pub(crate) trait Iterate {
    /// The id of the VU in this instance.
    fn id(&self) -> u64;
    /// The number of the worker it lives on.
    fn place(&self) -> usize;
    /// It is active from now on, or no more.
    fn set_active(&mut self, active: bool);
    /// Runs one iteration; `false` when it was interrupted.
    fn iterate(&mut self, instance: u64, test: u64) -> impl Future<Output = bool>;
    /// Called after each iteration and before the VU is given back.
    fn settle(&mut self) {}
}

/// Cancellation of one VU's loop, set on its own thread.
#[derive(Default)]
pub(crate) struct Leash {
    cut: Cell<bool>,
    waker: RefCell<Option<std::task::Waker>>,
}

impl Leash {
    /// Ends the loop after the present iteration, and any wait of it at once.
    pub(crate) fn cut(&self) {
        self.cut.set(true);
        if let Some(waker) = self.waker.borrow_mut().take() {
            waker.wake();
        }
    }

    fn poll_cut(&self, task: &mut Context<'_>) -> bool {
        if self.cut.get() {
            return true;
        }
        *self.waker.borrow_mut() = Some(task.waker().clone());
        false
    }
}

/// How long a VU may go from iteration to iteration before it lets its neighbours run.
const SLICE: Duration = Duration::from_micros(250);

/// Step 1 of the hot path: iterations of one VU, one after the other, until the pace says stop.
///
/// `min_duration` is waited for after short iterations. `count` hears of each end.
pub(crate) async fn serve<V: Iterate>(
    vu: &mut V,
    job: &Job,
    leash: &Leash,
    min_duration: Duration,
    count: impl Fn(bool),
) {
    let mut turn = Turn {
        started: 0,
        now: Instant::now(),
        place: vu.place(),
        seat: None,
        left: 0,
    };
    let mut slice = turn.now;
    if !job.counts_running {
        vu.set_active(true);
    }
    while !leash.cut.get() {
        turn.now = Instant::now();
        if turn.now.duration_since(slice) >= SLICE {
            tokio::task::yield_now().await;
            slice = Instant::now();
            turn.now = slice;
        }
        let go = poll_fn(|task| match job.pace.poll_next(&mut turn, task) {
            Poll::Pending if leash.poll_cut(task) => Poll::Ready(false),
            other => other,
        });
        if !go.await {
            break;
        }
        turn.started += 1;
        let began = turn.now;
        if job.counts_running {
            vu.set_active(true);
        }
        let (instance, test) = job.numbers.next();
        let complete = vu.iterate(instance, test).await;
        count(complete);
        if job.counts_running {
            vu.set_active(false);
        }
        vu.settle();
        if !complete {
            // Whoever interrupted it has ended this job, or the run.
            break;
        }
        if !min_duration.is_zero() {
            let due = began + min_duration;
            let mut rest = std::pin::pin!(tokio::time::sleep_until(due));
            poll_fn(|task| {
                if leash.poll_cut(task) {
                    return Poll::Ready(());
                }
                rest.as_mut().poll(task)
            })
            .await;
        }
    }
    job.pace.leave(&mut turn);
    if !job.counts_running {
        vu.set_active(false);
    }
    if turn.left > 0 {
        let mut left = job.left.lock().unwrap_or_else(|e| e.into_inner());
        left.push((vu.id(), turn.left));
    }
}
