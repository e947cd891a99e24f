//! Outputs that push: a thread of their own, which takes in what was measured and sends it.
//!
//! The caller puts a shared batch into a queue that is bounded by what is in it; what does not
//! fit is dropped and counted. The thread has a runtime: while requests are on their way it goes
//! on taking in, so a receiver that is slow, dead or broken costs time of nobody but this thread.
//! The end is bounded too: what was not delivered by then is said.

use std::{
    collections::VecDeque,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    thread::JoinHandle,
    time::{Duration, SystemTime, UNIX_EPOCH},
};

use futures_util::{StreamExt, stream::FuturesUnordered};
use tokio::sync::mpsc;

use super::{
    Output,
    client::{Client, Post, Reply},
    file::reason,
};
use crate::{Batch, recorder::Delta};

/// How many values may wait for the thread: some ten megabytes.
pub(super) const QUEUE: usize = 1 << 20;
/// How long the end may take: two requests that nobody answers.
pub(super) const PATIENCE: Duration = Duration::from_secs(12);

/// What an output does with what was measured. One thread calls it, never two at once.
pub(super) trait Feed: Send + 'static {
    /// What a request carries, to know it by when it is done.
    type Ticket: 'static;

    /// Whether it takes single samples; if not, it takes what series gained.
    const RAW: bool;

    /// Takes in a batch.
    fn take(&mut self, batch: &Batch);

    /// Says that it is time to send; the `last` time for everything there is.
    fn tick(&mut self, last: bool);

    /// The next request, as long as there is something to send.
    fn next(&mut self) -> Option<(Post, Self::Ticket)>;

    /// Says how a request ended.
    fn settle(&mut self, ticket: Self::Ticket, outcome: Result<Reply, String>);

    /// What is to be said at the end: each loss, and why. `abandoned` says that the time was up.
    fn losses(&mut self, abandoned: bool) -> Vec<String>;
}

/// How often, and how many.
#[derive(Debug, Clone, Copy)]
pub(super) struct Plan {
    /// From one tick to the next.
    pub(super) interval: Duration,
    /// How many requests may be on their way.
    pub(super) requests: usize,
    /// How many values may wait for the thread.
    pub(super) queue: usize,
    /// How long the end may take.
    pub(super) patience: Duration,
}

impl Plan {
    /// One request at a time, with the bounds above.
    pub(super) fn every(interval: Duration) -> Self {
        Self {
            interval,
            requests: 1,
            queue: QUEUE,
            patience: PATIENCE,
        }
    }
}

/// An output that pushes.
#[derive(Debug)]
pub(super) struct Pusher {
    description: String,
    raw: bool,
    queue: Option<mpsc::UnboundedSender<Batch>>,
    /// How many values wait.
    waiting: Arc<AtomicUsize>,
    bound: usize,
    dropped: usize,
    thread: Option<JoinHandle<Vec<String>>>,
}

impl Pusher {
    /// Starts the thread. `client` is made on it, but what fails in making it fails here.
    ///
    /// # Errors
    /// When there is no thread to be had.
    pub(super) fn start<F: Feed>(
        description: String,
        feed: F,
        client: Client,
        plan: Plan,
    ) -> Result<Self, String> {
        let (queue, batches) = mpsc::unbounded_channel();
        let waiting = Arc::new(AtomicUsize::new(0));
        let no_thread = |error| format!("no thread for {description}: {}", reason(&error));
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build()
            .map_err(no_thread)?;
        let queued = waiting.clone();
        let thread = std::thread::Builder::new()
            .name("push-output".to_owned())
            .spawn(move || {
                let losses = runtime.block_on(serve(feed, client, batches, &queued, plan));
                // A name service that does not answer must not keep the thread.
                runtime.shutdown_background();
                losses
            })
            .map_err(no_thread)?;
        Ok(Self {
            description,
            raw: F::RAW,
            queue: Some(queue),
            waiting,
            bound: plan.queue,
            dropped: 0,
            thread: Some(thread),
        })
    }
}

#[cfg(test)]
impl Pusher {
    /// How many values have not been taken in yet.
    pub(super) fn waiting(&self) -> usize {
        self.waiting.load(Ordering::Relaxed)
    }
}

/// How many values a batch holds.
fn weight(batch: &Batch) -> usize {
    let values = batch.deltas.iter().map(|series| match &series.delta {
        Delta::Trend { values, .. } => values.len(),
        _ => 1,
    });
    values.sum::<usize>() + batch.raw.len()
}

impl Output for Pusher {
    fn describe(&self) -> String {
        self.description.clone()
    }

    fn wants_raw(&self) -> bool {
        self.raw
    }

    fn add(&mut self, batch: &Batch) {
        let Some(queue) = &self.queue else { return };
        // The other half may be large, and would live for as long as it waits here.
        let half = match self.raw {
            true => Batch {
                deltas: Arc::default(),
                raw: batch.raw.clone(),
            },
            false => Batch {
                deltas: batch.deltas.clone(),
                raw: Arc::default(),
            },
        };
        let weight = weight(&half);
        if weight == 0 {
            return;
        }
        if self.waiting.load(Ordering::Relaxed) + weight > self.bound {
            self.dropped += weight;
            return;
        }
        self.waiting.fetch_add(weight, Ordering::Relaxed);
        if queue.send(half).is_err() {
            self.dropped += weight;
        }
    }

    fn close(&mut self) {
        self.queue = None;
    }

    fn finish(&mut self) -> Result<(), String> {
        self.close();
        let Some(thread) = self.thread.take() else {
            return Ok(());
        };
        let Ok(mut problems) = thread.join() else {
            return Err(format!("{}: the sender thread failed", self.description));
        };
        if self.dropped > 0 {
            let dropped = self.dropped;
            problems.push(format!(
                "it was too slow, and {dropped} values were dropped"
            ));
        }
        match problems.is_empty() {
            true => Ok(()),
            false => Err(format!("{}: {}", self.description, problems.join("; "))),
        }
    }
}

/// Now, in milliseconds since 1970.
pub(super) fn unix_ms() -> i64 {
    unix_ns() / 1_000_000
}

/// Now, in nanoseconds since 1970.
pub(super) fn unix_ns() -> i64 {
    let now = SystemTime::now().duration_since(UNIX_EPOCH);
    now.map_or(0, |since| since.as_nanos() as i64)
}

async fn serve<F: Feed>(
    mut feed: F,
    client: Client,
    mut batches: mpsc::UnboundedReceiver<Batch>,
    waiting: &AtomicUsize,
    plan: Plan,
) -> Vec<String> {
    let client = &client;
    let send = async |post: Post, ticket: F::Ticket| (ticket, client.post(post).await);
    let mut flying = FuturesUnordered::new();
    let mut ticks = tokio::time::interval(plan.interval);
    ticks.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    // The first one is due at once, and there is nothing to send yet.
    ticks.tick().await;
    feed.tick(false);
    loop {
        while flying.len() < plan.requests
            && let Some((post, ticket)) = feed.next()
        {
            flying.push(send(post, ticket));
        }
        tokio::select! {
            batch = batches.recv() => match batch {
                Some(batch) => {
                    feed.take(&batch);
                    waiting.fetch_sub(weight(&batch), Ordering::Relaxed);
                }
                None => break,
            },
            Some((ticket, outcome)) = flying.next(), if !flying.is_empty() => {
                feed.settle(ticket, outcome);
            }
            _ = ticks.tick() => feed.tick(false),
        }
    }
    let rest = async {
        // What is on its way may fail, and is part of the rest then.
        while let Some((ticket, outcome)) = flying.next().await {
            feed.settle(ticket, outcome);
        }
        feed.tick(true);
        loop {
            while flying.len() < plan.requests
                && let Some((post, ticket)) = feed.next()
            {
                flying.push(send(post, ticket));
            }
            match flying.next().await {
                Some((ticket, outcome)) => feed.settle(ticket, outcome),
                None => break,
            }
        }
    };
    let ended = tokio::time::timeout(plan.patience, rest).await;
    drop(flying);
    feed.losses(ended.is_err())
}

/// Series that wait to be sent, each once.
#[derive(Debug, Default)]
pub(super) struct Pending {
    /// By position, whether it waits.
    waits: Vec<bool>,
    /// Positions in their order, also some that do not wait any more.
    order: VecDeque<u32>,
    count: usize,
}

impl Pending {
    /// Puts a position in, unless it is there.
    pub(super) fn insert(&mut self, position: u32) {
        let index = position as usize;
        if self.waits.len() <= index {
            self.waits.resize(index + 1, false);
        }
        if !std::mem::replace(&mut self.waits[index], true) {
            self.order.push_back(position);
            self.count += 1;
        }
    }

    /// Takes a position out, if it is there.
    pub(super) fn remove(&mut self, position: u32) {
        if let Some(waits) = self.waits.get_mut(position as usize)
            && std::mem::replace(waits, false)
        {
            self.count -= 1;
        }
    }

    /// Takes the one that has waited longest.
    pub(super) fn pop(&mut self) -> Option<u32> {
        loop {
            let position = self.order.pop_front()?;
            if self.waits[position as usize] {
                self.remove(position);
                return Some(position);
            }
        }
    }

    /// How many wait.
    pub(super) fn len(&self) -> usize {
        self.count
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn positions_wait_once_and_in_their_order() {
        let mut pending = Pending::default();
        for position in [3, 1, 3, 2, 1] {
            pending.insert(position);
        }
        assert_eq!(pending.len(), 3);
        pending.remove(1);
        pending.remove(7);
        assert_eq!((pending.len(), pending.pop()), (2, Some(3)));
        // Back again, behind the one that waits.
        pending.insert(1);
        pending.insert(3);
        let rest: Vec<u32> = std::iter::from_fn(|| pending.pop()).collect();
        assert_eq!(rest.iter().filter(|&&position| position == 1).count(), 1);
        assert_eq!((rest.len(), pending.len()), (3, 0));
    }
}
