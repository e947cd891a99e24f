//! A row of slots, each with at most one VU that loops: what executors share whose number of VUs
//! changes.
//!
//! Slots run from the first upwards. A slot that should run no more lets its VU finish the
//! iteration and give itself back; wanted again before that, the VU goes on and nothing is lost. A
//! slot that is cut has its VU interrupted.

use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    task::{Context, Poll},
};

use futures_util::{StreamExt, stream::FuturesUnordered};

use super::{BoxFuture, Job, Numbers, Pace, Run, Turn};

/// Goes on until told otherwise, and on again when told so in time.
struct While(Arc<AtomicBool>);

impl Pace for While {
    fn poll_next(&self, _: &mut Turn, _: &mut Context<'_>) -> Poll<bool> {
        Poll::Ready(self.0.load(Ordering::Acquire))
    }
}

/// A place for a VU.
#[derive(Default)]
struct Slot {
    /// Whether it should run.
    go: Arc<AtomicBool>,
    /// What its VU serves, while it has one.
    job: Option<Arc<Job>>,
    /// Its VU has been interrupted.
    cut: bool,
}

/// The slots of a scenario.
pub(super) struct Slots<'a> {
    run: &'a Run,
    numbers: Arc<Numbers>,
    slots: Vec<Slot>,
    /// How many of them should run.
    running: usize,
    /// Slots from this number on have no VU, or one that has been interrupted.
    kept: usize,
    /// Done when a slot's VU is back, with the slot's number.
    serving: FuturesUnordered<BoxFuture<Result<usize, String>>>,
}

impl<'a> Slots<'a> {
    /// No slots yet; they are made as they are needed.
    pub(super) fn new(run: &'a Run) -> Self {
        Self {
            run,
            numbers: Numbers::new(run.tuple.clone()),
            slots: Vec::new(),
            running: 0,
            kept: 0,
            serving: FuturesUnordered::new(),
        }
    }

    /// Lets so many slots run: starts those that do not, and lets those above finish.
    pub(super) fn run(&mut self, count: usize) {
        let all = self.slots.len().max(count);
        self.slots.resize_with(all, Slot::default);
        for index in self.running..count {
            self.slots[index].go.store(true, Ordering::Release);
            self.fill(index);
        }
        for index in (count..self.running).rev() {
            self.slots[index].go.store(false, Ordering::Release);
        }
        self.running = count;
        self.kept = self.kept.max(count);
    }

    /// Interrupts all slots but the first `count`.
    pub(super) fn keep(&mut self, count: usize) {
        for slot in self.slots.iter_mut().take(self.kept).skip(count) {
            if let Some(job) = &slot.job
                && !slot.cut
            {
                slot.cut = true;
                job.cancel();
            }
        }
        self.kept = self.kept.min(count);
    }

    /// Whether no slot has a VU.
    pub(super) fn all_free(&self) -> bool {
        self.serving.is_empty()
    }

    /// Whether none of the slots from number `count` has a VU.
    pub(super) fn free_from(&self, count: usize) -> bool {
        let mut above = self.slots.iter().skip(count);
        above.all(|slot| slot.job.is_none())
    }

    /// Waits until a slot's VU is back, at once `None` when there is none. The slot gets another
    /// one when it was wanted again after its VU had begun to leave.
    ///
    /// # Errors
    /// When the pool has no VU to give.
    pub(super) async fn next_freed(&mut self) -> Option<Result<(), String>> {
        let freed = self.serving.next().await?;
        Some(freed.map(|index| {
            self.slots[index].job = None;
            if index < self.running {
                self.fill(index);
            }
        }))
    }

    /// Interrupts all and waits for them.
    ///
    /// # Errors
    /// When the pool had no VU to give to one of them.
    pub(super) async fn end(mut self) -> Result<(), String> {
        self.running = 0;
        self.keep(0);
        let mut outcome = Ok(());
        while let Some(freed) = self.serving.next().await {
            outcome = outcome.and(freed.map(drop));
        }
        outcome
    }

    /// Takes a VU for a slot that has none.
    fn fill(&mut self, index: usize) {
        let slot = &mut self.slots[index];
        if slot.job.is_some() {
            // Its VU goes on, or is on its way back, which is seen when it arrives.
            return;
        }
        let pace = Box::new(While(slot.go.clone()));
        let job = Job::new(self.run.progress.clone(), self.numbers.clone(), pace);
        slot.job = Some(job.clone());
        slot.cut = false;
        let taken = self.run.pool.take();
        self.serving.push(Box::pin(async move {
            taken.await?.serve(job).await;
            Ok(index)
        }));
    }
}
