//! The event loop of a VU: it runs a function, then whatever that left to do.
//!
//! Used for init, setup, each iteration, teardown and handleSummary. The worker polls other VUs
//! while this one waits for its next timer.

use std::{
    cell::{Cell, RefCell},
    collections::{BTreeMap, VecDeque},
    future::Future,
    pin::Pin,
    rc::Rc,
    task::{Context, Poll, Waker},
    time::{Duration, Instant},
};

use futures_util::stream::{FuturesUnordered, StreamExt};
use rquickjs::{Ctx, Function, Persistent, Result as JsResult, Value, function::Args};

use crate::{
    engine::Stopped,
    error::{self, Failure},
    host::Level,
    state::{Phase, VuState},
};

/// A promise that was rejected and, so far, not handled.
type Rejection = (Persistent<Value<'static>>, Persistent<Value<'static>>);

/// What a VU still has to do.
#[derive(Default)]
pub(crate) struct EventLoop {
    next_timer_id: Cell<u32>,
    sequence: Cell<u64>,
    timers: RefCell<BTreeMap<(Instant, u64), Timer>>,
    rejections: RefCell<Vec<Rejection>>,
    /// `None` while nothing goes on in the background: most VUs never need it.
    background: RefCell<Option<Box<Background>>>,
    /// What work in the background has posted while it goes on.
    posted: RefCell<VecDeque<Completion>>,
    /// Whether the iteration has failed, and its work in the background is being ended.
    failed: Cell<bool>,
}

/// Work that goes on while the script does, and while it waits for something else.
#[derive(Default)]
struct Background {
    running: FuturesUnordered<Pin<Box<dyn Future<Output = Completion>>>>,
    done: VecDeque<Completion>,
    cancel: Rc<Cancel>,
}

/// Tells work in the background that its iteration has failed.
#[derive(Default)]
struct Cancel {
    said: Cell<bool>,
    /// Who waits for it, by a number of each.
    waiting: RefCell<BTreeMap<u64, Waker>>,
    next: Cell<u64>,
}

/// The future of [`EventLoop::cancelled`].
pub(crate) struct Cancelled {
    cancel: Rc<Cancel>,
    number: u64,
}

impl Future for Cancelled {
    type Output = ();

    fn poll(self: Pin<&mut Self>, task: &mut Context<'_>) -> Poll<()> {
        if self.cancel.said.get() {
            return Poll::Ready(());
        }
        let mut waiting = self.cancel.waiting.borrow_mut();
        waiting.insert(self.number, task.waker().clone());
        Poll::Pending
    }
}

impl Drop for Cancelled {
    fn drop(&mut self) {
        // A socket makes one for each message: they must not add up.
        self.cancel.waiting.borrow_mut().remove(&self.number);
    }
}

/// What finished work has left to do with the engine, as a task of the event loop.
pub(crate) type Completion = Box<dyn for<'js> FnOnce(&Ctx<'js>) -> JsResult<()>>;

struct Timer {
    id: u32,
    callback: Persistent<Function<'static>>,
    arguments: Vec<Persistent<Value<'static>>>,
    interval: Option<Duration>,
}

impl EventLoop {
    /// Starts a timer; `repeat` makes it an interval. Answers its id, unique in this VU.
    pub(crate) fn add_timer<'js>(
        &self,
        ctx: &Ctx<'js>,
        callback: Function<'js>,
        delay: Duration,
        repeat: bool,
        arguments: Vec<Value<'js>>,
    ) -> u32 {
        let id = self.next_timer_id.get() + 1;
        self.next_timer_id.set(id);
        self.insert(
            Instant::now() + delay,
            Timer {
                id,
                callback: Persistent::save(ctx, callback),
                arguments: arguments
                    .into_iter()
                    .map(|a| Persistent::save(ctx, a))
                    .collect(),
                // An interval of 0 would never let anything else run.
                interval: repeat.then_some(delay.max(Duration::from_millis(1))),
            },
        );
        id
    }

    fn insert(&self, due: Instant, timer: Timer) {
        let sequence = self.sequence.get();
        self.sequence.set(sequence + 1);
        self.timers.borrow_mut().insert((due, sequence), timer);
    }

    /// Stops a timer; an unknown id is ignored.
    pub(crate) fn clear_timer(&self, id: u32) {
        self.timers.borrow_mut().retain(|_, timer| timer.id != id);
    }

    /// The engine's report about a promise without a handler, or one that got a handler after all.
    pub(crate) fn track_rejection<'js>(
        &self,
        ctx: &Ctx<'js>,
        promise: Value<'js>,
        reason: Value<'js>,
        handled: bool,
    ) {
        let mut rejections = self.rejections.borrow_mut();
        if handled {
            rejections.retain(|(known, _)| {
                known
                    .clone()
                    .restore(ctx)
                    .is_ok_and(|known| known != promise)
            });
        } else {
            rejections.push((
                Persistent::save(ctx, promise),
                Persistent::save(ctx, reason),
            ));
        }
    }

    /// Has `work` go on in the background; the loop does not end before what it answers has run.
    /// It has to end by itself; after a stop it is dropped.
    pub(crate) fn start(&self, work: impl Future<Output = Completion> + 'static) {
        let mut background = self.background.borrow_mut();
        let background = background.get_or_insert_default();
        background.running.push(Box::pin(work));
    }

    /// Adds a task to the loop: for work in the background that has something to say before it ends.
    pub(crate) fn post(&self, task: Completion) {
        self.posted.borrow_mut().push_back(task);
    }

    /// Done when the iteration has failed that work in the background belongs to: what can be
    /// cancelled then is.
    pub(crate) fn cancelled(&self) -> Cancelled {
        let mut background = self.background.borrow_mut();
        let cancel = background.get_or_insert_default().cancel.clone();
        if self.failed.get() {
            // What is begun only now, by a result of work that was cancelled.
            cancel.said.set(true);
        }
        let number = cancel.next.get();
        cancel.next.set(number + 1);
        Cancelled { cancel, number }
    }

    fn cancel_background(&self) {
        let background = self.background.borrow();
        let Some(cancel) = background.as_ref().map(|b| b.cancel.clone()) else {
            return;
        };
        drop(background);
        cancel.said.set(true);
        for waker in cancel.waiting.take().into_values() {
            waker.wake();
        }
    }

    /// Whether work goes on in the background, or has results that nobody has taken.
    pub(crate) fn has_background(&self) -> bool {
        self.background.borrow().is_some()
    }

    /// Drives the work in the background; ready when some of it is done. Every wait of a VU that
    /// has such work passes here, so nothing of it may wait in its turn, or call the engine.
    pub(crate) fn poll_background(&self, task: &mut Context<'_>) -> Poll<()> {
        let mut background = self.background.borrow_mut();
        let Some(background) = background.as_mut() else {
            return Poll::Pending;
        };
        loop {
            let polled = background.running.poll_next_unpin(task);
            // In their order: what work posts comes before what it ends with.
            background.done.append(&mut self.posted.borrow_mut());
            let Poll::Ready(Some(finish)) = polled else {
                break;
            };
            background.done.push_back(finish);
        }
        if background.done.is_empty() {
            return Poll::Pending;
        }
        Poll::Ready(())
    }

    fn take_done(&self) -> Option<Completion> {
        let mut background = self.background.borrow_mut();
        let finish = background.as_mut()?.done.pop_front();
        if background
            .as_ref()
            .is_some_and(|b| b.running.is_empty() && b.done.is_empty())
        {
            *background = None;
        }
        finish
    }

    fn drop_background(&self) {
        // Taken out first: what is dropped may look at the loop.
        let background = self.background.borrow_mut().take();
        drop(background);
        let posted = self.posted.take();
        drop(posted);
    }

    /// Forgets everything, for the end of the VU.
    pub(crate) fn clear(&self) {
        self.drop_background();
        self.timers.borrow_mut().clear();
        self.rejections.borrow_mut().clear();
    }

    fn next_due(&self) -> Option<Instant> {
        self.timers
            .borrow()
            .first_key_value()
            .map(|((due, _), _)| *due)
    }
}

/// Runs `start` and then the loop until nothing is left to do.
pub(crate) fn run<'js>(
    ctx: &Ctx<'js>,
    state: &VuState,
    start: impl FnOnce() -> JsResult<Value<'js>>,
) -> Result<Value<'js>, Failure<'js>> {
    let events = &state.events;
    if !events.rejections.borrow().is_empty() {
        events.rejections.borrow_mut().clear();
    }
    let outcome = start()
        .map_err(|e| Failure::Thrown(error::thrown(ctx, e)))
        .and_then(|value| {
            drain(ctx, state)?;
            loop {
                let due = events.next_due();
                if events.has_background() {
                    wait_for_either(state, due).map_err(|_| Failure::Stopped)?;
                } else if let Some(due) = due {
                    if due > Instant::now() {
                        let paused = state.fiber.pause(due.into());
                        paused.map_err(|_| Failure::Stopped)?;
                    }
                } else {
                    return Ok(value);
                }
                fire(ctx, state)?;
                finish(ctx, state)?;
            }
        });
    if outcome.is_err() && !state.fiber.is_stopped() {
        abandon_timers(state);
        if state.phase.get() == Phase::Iteration {
            events.failed.set(true);
            finish_background(ctx, state);
            events.failed.set(false);
        }
    }
    if state.fiber.is_stopped() {
        abandon(ctx, state);
        return Err(Failure::Stopped);
    }
    if outcome.is_err() {
        events.drop_background();
    }
    outcome
}

/// After a failure: requests are cancelled, and all work that the iteration began ends in it,
/// whatever that leads to (script-runtime.md §8, step 6).
///
/// A function of its own: what it keeps on the stack, VUs without such work do not pay for.
#[inline(never)]
fn finish_background(ctx: &Ctx<'_>, state: &VuState) {
    state.events.cancel_background();
    while state.events.has_background() {
        if wait_for_either(state, None).is_err() {
            return;
        }
        while let Some(completion) = state.events.take_done() {
            if let Err(error) = completion(ctx) {
                // Takes the exception off the context.
                let _ = error::thrown(ctx, error);
            }
            let _ = drain(ctx, state);
        }
    }
    abandon_timers(state);
}

/// Until a timer is due or some work in the background is done.
#[inline(never)]
fn wait_for_either(state: &VuState, due: Option<Instant>) -> Result<(), Stopped> {
    if state.interrupt() {
        return Err(Stopped);
    }
    state
        .fiber
        .wait_long(due, |task| state.events.poll_background(task))?;
    Ok(())
}

/// Runs what finished work has left to do, one task each.
fn finish<'js>(ctx: &Ctx<'js>, state: &VuState) -> Result<(), Failure<'js>> {
    while let Some(finish) = state.events.take_done() {
        finish(ctx).map_err(|e| Failure::Thrown(error::thrown(ctx, e)))?;
        drain(ctx, state)?;
    }
    Ok(())
}

/// Runs the timers that are due, one task each.
fn fire<'js>(ctx: &Ctx<'js>, state: &VuState) -> Result<(), Failure<'js>> {
    let now = Instant::now();
    loop {
        let timer = {
            let mut timers = state.events.timers.borrow_mut();
            match timers.first_key_value() {
                Some(((due, _), _)) if *due <= now => timers.pop_first(),
                _ => None,
            }
        };
        let Some((_, timer)) = timer else {
            return Ok(());
        };
        let callback = timer.callback.clone();
        let arguments = timer.arguments.clone();
        if let Some(interval) = timer.interval {
            state.events.insert(Instant::now() + interval, timer);
        }
        let call = || -> JsResult<Value<'js>> {
            let mut args = Args::new(ctx.clone(), arguments.len());
            for argument in arguments {
                args.push_arg(argument.restore(ctx)?)?;
            }
            args.this(ctx.globals())?;
            callback.restore(ctx)?.call_arg(args)
        };
        call().map_err(|e| Failure::Thrown(error::thrown(ctx, e)))?;
        drain(ctx, state)?;
    }
}

/// Runs the promise jobs, then looks for rejections that nobody handled.
fn drain<'js>(ctx: &Ctx<'js>, state: &VuState) -> Result<(), Failure<'js>> {
    loop {
        if state.fiber.is_stopped() {
            return Err(Failure::Stopped);
        }
        if !ctx.execute_pending_job() {
            break;
        }
    }
    let unhandled = {
        let mut rejections = state.events.rejections.borrow_mut();
        if rejections.is_empty() {
            None
        } else {
            Some(rejections.swap_remove(0))
        }
    };
    match unhandled {
        Some((_, reason)) => {
            state.events.rejections.borrow_mut().clear();
            match reason.restore(ctx) {
                Ok(reason) => Err(Failure::Rejected(reason)),
                Err(error) => Err(Failure::Thrown(error::thrown(ctx, error))),
            }
        }
        None => Ok(()),
    }
}

/// After a stop: what the script had left to do must not run in the next iteration.
fn abandon(ctx: &Ctx<'_>, state: &VuState) {
    abandon_timers(state);
    state.events.drop_background();
    // The stop flag is still set: each job ends at its first call into the script.
    let mut budget = 100_000;
    while budget > 0 {
        state.fiber.poll_soon();
        if !ctx.execute_pending_job() {
            break;
        }
        budget -= 1;
    }
    state.events.rejections.borrow_mut().clear();
}

fn abandon_timers(state: &VuState) {
    let timers = std::mem::take(&mut *state.events.timers.borrow_mut());
    for timer in timers.values() {
        let kind = if timer.interval.is_some() {
            "setInterval"
        } else {
            "setTimeout"
        };
        let text = format!(
            "{kind} {} was stopped because the VU iteration was interrupted",
            timer.id
        );
        state.log(Level::Warning, &text, &[]);
    }
}
