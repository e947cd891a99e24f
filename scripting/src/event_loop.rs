//! The event loop of a VU: it runs a function, then whatever that left to do.
//!
//! Used for init, setup, each iteration, teardown and handleSummary. The worker polls other VUs
//! while this one waits for its next timer.

use std::{
    cell::{Cell, RefCell},
    collections::BTreeMap,
    future::Future,
    pin::Pin,
    task::{Context as TaskContext, Poll},
    time::{Duration, Instant},
};

use futures_util::{StreamExt as _, stream::FuturesUnordered};
use rquickjs::{Ctx, Function, Persistent, Result as JsResult, Value, function::Args};

use crate::{
    error::{self, Failure},
    host::Level,
    state::{Phase, VuState},
};

/// A promise that was rejected and, so far, not handled.
type Rejection = (Persistent<Value<'static>>, Persistent<Value<'static>>);

/// What the script is told when an operation has ended.
pub(crate) type Completion = Box<dyn for<'js> FnOnce(&Ctx<'js>) -> JsResult<()>>;

/// An operation under way. It never calls into the engine.
type Operation = Pin<Box<dyn Future<Output = Completion>>>;

/// What a VU still has to do.
#[derive(Default)]
pub(crate) struct EventLoop {
    /// Nothing until there is a first one: most VUs never have any.
    operations: RefCell<Option<Box<FuturesUnordered<Operation>>>>,
    next_timer_id: Cell<u32>,
    sequence: Cell<u64>,
    timers: RefCell<BTreeMap<(Instant, u64), Timer>>,
    rejections: RefCell<Vec<Rejection>>,
}

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

    /// Keeps the loop going until `operation` has ended and its completion has run, as one task.
    /// It has to end by itself; after a stop it is dropped.
    pub(crate) fn start(&self, operation: impl Future<Output = Completion> + 'static) {
        let mut operations = self.operations.borrow_mut();
        operations.get_or_insert_default().push(Box::pin(operation));
    }

    /// Whether an operation is under way.
    fn is_busy(&self) -> bool {
        let operations = self.operations.borrow();
        operations.as_ref().is_some_and(|all| !all.is_empty())
    }

    /// The next operation that has ended.
    fn poll_operations(&self, task: &mut TaskContext<'_>) -> Poll<Completion> {
        match self.operations.borrow_mut().as_mut() {
            Some(all) => match all.poll_next_unpin(task) {
                Poll::Ready(Some(completion)) => Poll::Ready(completion),
                Poll::Ready(None) | Poll::Pending => Poll::Pending,
            },
            None => Poll::Pending,
        }
    }

    /// Waits for an operation to end, until a timer is due: then there is none.
    async fn next_completion(&self, due: Option<Instant>) -> Option<Completion> {
        let ended = std::future::poll_fn(|task| self.poll_operations(task));
        match due {
            Some(due) => tokio::time::timeout_at(due.into(), ended).await.ok(),
            None => Some(ended.await),
        }
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

    /// Forgets everything, for the end of the VU.
    pub(crate) fn clear(&self) {
        self.operations.take();
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
                if events.is_busy() {
                    if complete(ctx, state, due)? {
                        continue;
                    }
                } else if let Some(due) = due {
                    if due > Instant::now() {
                        let paused = state.fiber.pause(due.into());
                        paused.map_err(|_| Failure::Stopped)?;
                    }
                } else {
                    break;
                }
                fire(ctx, state)?;
            }
            Ok(value)
        });
    if outcome.is_err() && !state.fiber.is_stopped() {
        abandon_timers(state);
        if state.phase.get() == Phase::Iteration {
            finish_operations(ctx, state);
        }
    }
    if state.fiber.is_stopped() {
        abandon(ctx, state);
        return Err(Failure::Stopped);
    }
    if outcome.is_err() {
        events.operations.take();
    }
    outcome
}

/// Waits for an operation to end and tells the script; `false` when a timer is due first.
///
/// A function of its own: what it keeps on the stack, VUs without operations do not pay for.
#[inline(never)]
fn complete<'js>(
    ctx: &Ctx<'js>,
    state: &VuState,
    due: Option<Instant>,
) -> Result<bool, Failure<'js>> {
    let ended = state.fiber.wait(state.events.next_completion(due));
    let Some(completion) = ended.map_err(|_| Failure::Stopped)? else {
        return Ok(false);
    };
    completion(ctx).map_err(|e| Failure::Thrown(error::thrown(ctx, e)))?;
    drain(ctx, state)?;
    Ok(true)
}

/// After a failure: operations that the iteration began still end in it, whatever they lead to.
#[inline(never)]
fn finish_operations(ctx: &Ctx<'_>, state: &VuState) {
    while state.events.is_busy() {
        let Ok(ended) = state.fiber.wait(state.events.next_completion(None)) else {
            return;
        };
        let told = ended.map_or(Ok(()), |completion| completion(ctx));
        if let Err(error) = told {
            // Takes the exception off the context.
            let _ = error::thrown(ctx, error);
        }
        let _ = drain(ctx, state);
    }
    abandon_timers(state);
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
    state.events.operations.take();
    abandon_timers(state);
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
