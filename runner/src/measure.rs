//! The collector thread: workers send their shards here, and everybody who reads asks here.
//!
//! It owns the merged state alone, so nobody waits for a lock. Raw samples pass through to the
//! outputs that asked for them, which never block it.

use std::{
    sync::{Arc, mpsc},
    thread::JoinHandle,
    time::{Duration, SystemTime, UNIX_EPOCH},
};

use tokio::sync::oneshot;
use volley_metrics::{Batch, Collector, Snapshot, outputs::Output};

enum Message {
    Batch(Batch),
    Ask(Box<dyn FnOnce(&mut Collector) + Send>),
    Finish(mpsc::Sender<Vec<String>>),
}

/// The way to the collector; cheap to clone.
#[derive(Clone)]
pub(crate) struct Measurements {
    messages: mpsc::Sender<Message>,
}

/// Nanoseconds since the epoch.
pub(crate) fn unix_ns() -> i64 {
    SystemTime::now()
        .duration_since(UNIX_EPOCH)
        .map_or(0, |d| d.as_nanos() as i64)
}

impl Measurements {
    /// Starts the collector thread.
    pub(crate) fn start(
        collector: Collector,
        outputs: Vec<Box<dyn Output>>,
        warn: impl Fn(&str) + Send + 'static,
    ) -> std::io::Result<(Self, JoinHandle<()>)> {
        let (messages, inbox) = mpsc::channel();
        let thread = std::thread::Builder::new()
            .name("volley-collector".to_owned())
            .spawn(move || collect(collector, outputs, &inbox, &warn))?;
        Ok((Self { messages }, thread))
    }

    /// Hands a shard over. Never blocks.
    pub(crate) fn add(&self, batch: Batch) {
        if !batch.is_empty() {
            // The collector outlives every sender; after it there is nothing left to measure.
            let _ = self.messages.send(Message::Batch(batch));
        }
    }

    /// Asks the merged state something, after everything that was handed over before.
    pub(crate) async fn ask<T: Send + 'static>(
        &self,
        question: impl FnOnce(&mut Collector) -> T + Send + 'static,
    ) -> Option<T> {
        let (answer, answered) = oneshot::channel();
        let ask = Message::Ask(Box::new(move |collector| {
            let _ = answer.send(question(collector));
        }));
        self.messages.send(ask).ok()?;
        answered.await.ok()
    }

    /// Like [`Self::ask`], for threads without a runtime; gives up after `patience`.
    pub(crate) fn ask_blocking<T: Send + 'static>(
        &self,
        patience: Duration,
        question: impl FnOnce(&mut Collector) -> T + Send + 'static,
    ) -> Option<T> {
        let (answer, answered) = mpsc::channel();
        let ask = Message::Ask(Box::new(move |collector| {
            let _ = answer.send(question(collector));
        }));
        self.messages.send(ask).ok()?;
        answered.recv_timeout(patience).ok()
    }

    /// The state now.
    pub(crate) async fn snapshot(&self, run: Duration) -> Option<Arc<Snapshot>> {
        self.ask(move |collector| Arc::new(collector.snapshot(run)))
            .await
    }

    /// Closes the outputs; answers what they could not write. Reading goes on to work.
    pub(crate) fn finish_outputs(&self, patience: Duration) -> Vec<String> {
        let (answer, answered) = mpsc::channel();
        if self.messages.send(Message::Finish(answer)).is_err() {
            return Vec::new();
        }
        answered.recv_timeout(patience).unwrap_or_else(|_| {
            vec!["an output did not finish in time; what it had not written yet is lost".to_owned()]
        })
    }
}

fn collect(
    mut collector: Collector,
    mut outputs: Vec<Box<dyn Output>>,
    inbox: &mpsc::Receiver<Message>,
    warn: &dyn Fn(&str),
) {
    while let Ok(message) = inbox.recv() {
        match message {
            Message::Batch(batch) => {
                collector.fold(&batch, unix_ns());
                for output in &mut outputs {
                    output.add(&batch);
                }
                for warning in collector.take_warnings() {
                    warn(&warning);
                }
            }
            Message::Ask(question) => question(&mut collector),
            Message::Finish(answer) => {
                let mut problems = Vec::new();
                // All of them end at the same time.
                outputs.iter_mut().for_each(|output| output.close());
                for mut output in outputs.drain(..) {
                    if let Err(problem) = output.finish() {
                        problems.push(problem);
                    }
                }
                let _ = answer.send(problems);
            }
        }
    }
}
