//! How a due iteration finds an idle VU, whichever worker it lives on.
//!
//! The schedule is immutable and says when the n-th iteration is due; what workers share is the
//! number of the next one. A VU that is free sits down at its worker's [`Station`]. The station
//! sets a fine timer, and once an iteration is due it claims the number by one compare-and-swap
//! and wakes the VU that has waited longest. So a start costs no lock and, in the usual case, no
//! message between threads: the iterations are spread over the workers by number, and each station
//! wakes for its own ones. A worker that is busy with something else does not hold a start up: the
//! others look after [`GRACE`].
//!
//! When no VU of the instance sits, a due iteration is dropped, at once. It is counted by whoever
//! comes next: a VU that gets free (it counts before it sits down, so it never takes what was due
//! while it ran), or the coordinator.

use std::{
    cell::{Cell, RefCell},
    collections::{HashMap, VecDeque},
    future::poll_fn,
    rc::Rc,
    sync::{
        Arc, OnceLock,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    task::{Context, Poll, Waker},
    time::Duration,
};

use tokio::{
    sync::{Notify, watch},
    task::JoinHandle,
    time::Instant,
};

use super::{Pace, Turn, schedule::Schedule};
use crate::{lateness::Lateness, timer::Timer};

/// How long a station leaves a due iteration to the one whose turn it is.
const GRACE: Duration = Duration::from_micros(300);

/// What the workers share of a scenario.
pub(super) struct Arrivals {
    schedule: Schedule,
    count: u64,
    /// When the schedule began; unset until the VUs sit.
    start: OnceLock<Instant>,
    /// The next iteration of this instance.
    next: AtomicU64,
    /// VUs that sit, over all workers.
    sitting: AtomicU64,
    /// The workers (modulo 64) whose stations have a VU, as bits.
    occupied: AtomicU64,
    dropped: AtomicU64,
    /// Somebody waits for a drop, and for a VU to sit down.
    drop_awaited: AtomicBool,
    pub(super) noticed: Notify,
    over: AtomicBool,
    /// It was not ended early.
    finished: AtomicBool,
    phase: watch::Sender<Phase>,
    lateness: Arc<Lateness>,
    workers: usize,
    id: u64,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Phase {
    Gathering,
    Running,
    Over,
}

/// A VU's place at the station of its worker.
#[derive(Default)]
pub(super) struct Seat {
    waker: RefCell<Option<Waker>>,
    state: Cell<State>,
}

#[derive(Debug, Default, Clone, Copy, PartialEq, Eq)]
enum State {
    /// The VU runs.
    #[default]
    Away,
    Sitting,
    /// It may start the iteration that was due at this instant.
    Called(Instant),
}

/// Tells scenarios apart.
static IDS: AtomicU64 = AtomicU64::new(0);

thread_local! {
    /// The stations of this thread, by scenario and worker.
    static STATIONS: RefCell<HashMap<(u64, usize), Rc<Station>>> = RefCell::default();
}

impl Arrivals {
    /// Arrivals by a schedule that has not begun, for VUs on so many workers.
    pub(super) fn new(schedule: Schedule, workers: usize, lateness: Arc<Lateness>) -> Arc<Self> {
        Arc::new(Self {
            count: schedule.count(),
            schedule,
            start: OnceLock::new(),
            next: AtomicU64::new(0),
            sitting: AtomicU64::new(0),
            occupied: AtomicU64::new(0),
            dropped: AtomicU64::new(0),
            drop_awaited: AtomicBool::new(false),
            noticed: Notify::new(),
            over: AtomicBool::new(false),
            finished: AtomicBool::new(false),
            phase: watch::Sender::new(Phase::Gathering),
            lateness,
            workers,
            id: IDS.fetch_add(1, Ordering::Relaxed),
        })
    }

    /// VUs that wait for an iteration.
    pub(super) fn sitting(&self) -> u64 {
        self.sitting.load(Ordering::Acquire)
    }

    /// Lets the schedule begin.
    pub(super) fn begin(&self, now: Instant) {
        let _ = self.start.set(now);
        self.phase.send_replace(Phase::Running);
    }

    /// Ends the schedule: what was due starts or is dropped, and the VUs that sit leave.
    pub(super) fn end(&self) {
        self.finished.store(true, Ordering::Release);
        self.close();
    }

    /// Sends the VUs that sit away.
    pub(super) fn close(&self) {
        self.over.store(true, Ordering::Release);
        self.phase.send_replace(Phase::Over);
    }

    /// Whether the schedule came to its end.
    pub(super) fn finished(&self) -> bool {
        self.finished.load(Ordering::Acquire)
    }

    /// Whether every iteration of the schedule was started or dropped.
    pub(super) fn exhausted(&self) -> bool {
        self.next.load(Ordering::Acquire) >= self.count
    }

    /// The number of the next iteration, and when it is due; `None` before the start and after
    /// the last.
    pub(super) fn next(&self) -> Option<(u64, Instant)> {
        let start = self.start.get()?;
        let number = self.next.load(Ordering::Acquire);
        (number < self.count).then(|| (number, self.due(*start, number)))
    }

    /// When the last iteration is due.
    pub(super) fn last_due(&self) -> Option<Instant> {
        let start = self.start.get()?;
        let last = self.count.checked_sub(1)?;
        Some(self.due(*start, last))
    }

    fn due(&self, start: Instant, number: u64) -> Instant {
        let nanos = self.schedule.due(number);
        start + Duration::from_nanos(u64::try_from(nanos).unwrap_or(0))
    }

    /// The rate of starts now, per second.
    pub(super) fn rate(&self) -> f64 {
        let next = self.next.load(Ordering::Relaxed);
        self.schedule
            .rate_at(next.min(self.count.saturating_sub(1)))
    }

    fn claim(&self, number: u64) -> bool {
        self.next
            .compare_exchange(number, number + 1, Ordering::AcqRel, Ordering::Acquire)
            .is_ok()
    }

    /// Drops what is due while no VU sits.
    pub(super) fn drop_due(&self, now: Instant) {
        while let Some((number, due)) = self.next()
            && due <= now
            && self.sitting() == 0
        {
            if self.claim(number) {
                self.dropped.fetch_add(1, Ordering::AcqRel);
                if self.drop_awaited.swap(false, Ordering::AcqRel) {
                    self.noticed.notify_one();
                }
            }
        }
    }

    /// Counts what was neither started nor dropped, after the last VU has left: all of it was due.
    pub(super) fn drop_rest(&self) {
        let rest = self.count - self.next.swap(self.count, Ordering::AcqRel).min(self.count);
        self.dropped.fetch_add(rest, Ordering::AcqRel);
    }

    /// How many were dropped since the last question.
    pub(super) fn take_dropped(&self) -> u64 {
        self.dropped.swap(0, Ordering::AcqRel)
    }

    /// Rings [`Self::noticed`] at the next drop.
    pub(super) fn await_drop(&self) {
        self.drop_awaited.store(true, Ordering::Release);
    }

    /// The station of a worker, called from its thread.
    fn station(self: &Arc<Self>, place: usize) -> Rc<Station> {
        STATIONS.with_borrow_mut(|stations| {
            let station = stations
                .entry((self.id, place))
                .or_insert_with(|| Station::open(self.clone(), place));
            station.clone()
        })
    }

    /// The worker whose turn an iteration is: by number among those that have a VU.
    fn turn_of(&self, number: u64) -> usize {
        let occupied = self.occupied.load(Ordering::Relaxed);
        let first = (number % self.workers as u64 % 64) as u32;
        let distance = occupied.rotate_right(first).trailing_zeros();
        ((first + distance) % 64) as usize
    }
}

impl Pace for Arc<Arrivals> {
    fn poll_next(&self, turn: &mut Turn, task: &mut Context<'_>) -> Poll<bool> {
        let seat = turn.seat.get_or_insert_default();
        match seat.state.get() {
            State::Called(due) => {
                seat.state.set(State::Away);
                turn.now = Instant::now();
                self.lateness
                    .record(turn.now.saturating_duration_since(due));
                Poll::Ready(true)
            }
            // Woken for another reason.
            State::Sitting => {
                *seat.waker.borrow_mut() = Some(task.waker().clone());
                Poll::Pending
            }
            State::Away => {
                if self.over.load(Ordering::Acquire) {
                    return Poll::Ready(false);
                }
                let station = self.station(turn.place);
                station.settle(turn.now);
                *seat.waker.borrow_mut() = Some(task.waker().clone());
                station.sit(seat.clone(), turn.now);
                Poll::Pending
            }
        }
    }

    fn leave(&self, turn: &mut Turn) {
        let Some(seat) = turn.seat.take() else { return };
        match seat.state.get() {
            State::Away => {}
            State::Sitting => self.station(turn.place).remove(&seat),
            // It was stopped between the call and the start.
            State::Called(_) => {
                self.dropped.fetch_add(1, Ordering::AcqRel);
            }
        }
    }
}

/// The VUs of one worker that wait for an iteration. It lives on the worker's thread.
struct Station {
    arrivals: Arc<Arrivals>,
    place: usize,
    seats: RefCell<VecDeque<Rc<Seat>>>,
    timer: RefCell<Timer>,
}

impl Station {
    fn open(arrivals: Arc<Arrivals>, place: usize) -> Rc<Self> {
        let station = Rc::new(Self {
            arrivals,
            place,
            seats: RefCell::default(),
            timer: RefCell::new(Timer::new()),
        });
        let waking = tokio::task::spawn_local(station.clone().wake_on_time());
        tokio::task::spawn_local(station.clone().follow(waking));
        station
    }

    /// Wakes VUs when their iterations are due.
    async fn wake_on_time(self: Rc<Self>) {
        loop {
            poll_fn(|task| self.timer.borrow_mut().poll(task)).await;
            self.settle(Instant::now());
        }
    }

    /// Follows the schedule's begin and end; `waking` is needed in between.
    async fn follow(self: Rc<Self>, waking: JoinHandle<()>) {
        let mut phase = self.arrivals.phase.subscribe();
        // The sender lives in the arrivals, which are held here.
        while *phase.borrow_and_update() != Phase::Over {
            self.set_timer(Instant::now());
            let _ = phase.changed().await;
        }
        waking.abort();
        self.settle(Instant::now());
        let key = (self.arrivals.id, self.place);
        STATIONS.with_borrow_mut(|stations| stations.remove(&key));
        for seat in self.seats.take() {
            seat.state.set(State::Away);
            self.arrivals.sitting.fetch_sub(1, Ordering::AcqRel);
            seat.wake();
        }
    }

    fn sit(&self, seat: Rc<Seat>, now: Instant) {
        seat.state.set(State::Sitting);
        let mut seats = self.seats.borrow_mut();
        seats.push_back(seat);
        if seats.len() == 1 {
            let bit = 1 << (self.place % 64);
            self.arrivals.occupied.fetch_or(bit, Ordering::Relaxed);
        }
        drop(seats);
        self.arrivals.sitting.fetch_add(1, Ordering::AcqRel);
        if self.arrivals.start.get().is_none() {
            self.arrivals.noticed.notify_one();
        }
        self.set_timer(now);
    }

    /// A VU leaves while it waits.
    fn remove(&self, seat: &Rc<Seat>) {
        let mut seats = self.seats.borrow_mut();
        let before = seats.len();
        seats.retain(|other| !Rc::ptr_eq(other, seat));
        let left = before - seats.len();
        self.arrivals
            .sitting
            .fetch_sub(left as u64, Ordering::AcqRel);
        if seats.is_empty() {
            self.vacate();
        }
    }

    /// Gives what is due to the VUs that sit here, and drops it when nobody sits anywhere.
    fn settle(&self, now: Instant) {
        let mut seats = self.seats.borrow_mut();
        let had_some = !seats.is_empty();
        while let Some(seat) = seats.front()
            && let Some((number, due)) = self.arrivals.next()
            && due <= now
        {
            // Another worker may be quicker; then there is the next number.
            if self.arrivals.claim(number) {
                self.arrivals.sitting.fetch_sub(1, Ordering::AcqRel);
                seat.state.set(State::Called(due));
                seat.wake();
                seats.pop_front();
            }
        }
        if had_some && seats.is_empty() {
            self.vacate();
        }
        drop(seats);
        self.arrivals.drop_due(now);
        self.set_timer(now);
    }

    fn vacate(&self) {
        let bit = 1_u64 << (self.place % 64);
        self.arrivals.occupied.fetch_and(!bit, Ordering::Relaxed);
    }

    /// Sets the timer to the next iteration whose turn is here, or to the end of the grace that
    /// the next one of all has, whichever comes first.
    fn set_timer(&self, now: Instant) {
        let wake = || {
            if self.seats.borrow().is_empty() {
                return None;
            }
            let (number, due) = self.arrivals.next()?;
            let start = *self.arrivals.start.get()?;
            let mine = |number: u64| self.arrivals.turn_of(number) == self.place % 64;
            if mine(number) {
                return Some(due);
            }
            let limit = due + GRACE;
            // Turns go round, so one of the next numbers is this worker's.
            let next = (number + 1..self.arrivals.count)
                .take(self.arrivals.workers)
                .find(|&number| mine(number))
                .map(|number| self.arrivals.due(start, number));
            Some(next.map_or(limit, |next| next.min(limit)))
        };
        self.timer.borrow_mut().set(wake(), now);
    }
}

impl Seat {
    fn wake(&self) {
        if let Some(waker) = self.waker.borrow_mut().take() {
            waker.wake();
        }
    }
}
