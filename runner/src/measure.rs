//! The collector thread: workers send their shards here, and everybody who reads asks here.
//!
//! It owns the merged state alone, so nobody waits for a lock. Raw samples pass through to the
//! outputs that asked for them, which never block it.

use std::{
    sync::{Arc, mpsc},
    thread::JoinHandle,
    time::{Duration, Instant, SystemTime, UNIX_EPOCH},
};

use tokio::sync::oneshot;
use volley_metrics::{Batch, Collector, Snapshot, outputs::Output};

enum Message {
    Batch(Batch),
    Ask(Box<dyn FnOnce(&mut Collector) + Send>),
    Finish(mpsc::Sender<Ending>),
}

/// What becomes of an output at the end.
enum Ending {
    /// It has begun to end.
    Begun(String),
    /// It has ended, and says what it could not write.
    Ended(String, Result<(), String>),
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

    /// Closes the outputs; answers what they could not write. Reading goes on to work, also while
    /// one of them does not end.
    pub(crate) fn finish_outputs(&self, patience: Duration) -> Vec<String> {
        let (answer, answered) = mpsc::channel();
        if self.messages.send(Message::Finish(answer)).is_err() {
            return Vec::new();
        }
        let end = Instant::now() + patience;
        let (mut open, mut problems) = (Vec::new(), Vec::new());
        loop {
            match answered.recv_timeout(end.saturating_duration_since(Instant::now())) {
                Ok(Ending::Begun(name)) => open.push(name),
                Ok(Ending::Ended(name, result)) => {
                    if let Some(position) = open.iter().position(|known| *known == name) {
                        open.remove(position);
                    }
                    problems.extend(result.err());
                }
                // Nobody is left who could say something.
                Err(mpsc::RecvTimeoutError::Disconnected) => break,
                Err(mpsc::RecvTimeoutError::Timeout) => {
                    let late = |name| {
                        format!(
                            "{name}: it did not finish in time; what it had not written yet is lost"
                        )
                    };
                    problems.extend(open.drain(..).map(late));
                    break;
                }
            }
        }
        problems
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
                // All of them end at the same time.
                outputs.iter_mut().for_each(|output| output.close());
                for output in outputs.drain(..) {
                    end(output, &answer);
                }
            }
        }
    }
}

/// Ends an output on a thread of its own: one that hangs, at a pipe that nobody reads, must keep
/// neither the others nor the one who asks for the summary.
fn end(mut output: Box<dyn Output>, answer: &mpsc::Sender<Ending>) {
    let name = output.describe();
    // Nobody listens any more when the time is up.
    let _ = answer.send(Ending::Begun(name.clone()));
    let (told, own) = (answer.clone(), name.clone());
    let thread = std::thread::Builder::new()
        .name("end-of-output".to_owned())
        .spawn(move || {
            let result = output.finish();
            let _ = told.send(Ending::Ended(own, result));
        });
    if let Err(error) = thread {
        let problem = format!("{name}: no thread to end it: {error}");
        let _ = answer.send(Ending::Ended(name, Err(problem)));
    }
}

#[cfg(test)]
mod tests {
    use std::sync::{
        Mutex,
        atomic::{AtomicBool, Ordering},
    };

    use volley_metrics::{CollectorConfig, Registry, TagTable, Thresholds};

    use super::*;

    /// An output that ends when its gate opens, with that result.
    struct Gated {
        name: &'static str,
        gate: Arc<Mutex<()>>,
        result: Result<(), String>,
        closed: Arc<AtomicBool>,
    }

    impl Output for Gated {
        fn describe(&self) -> String {
            self.name.to_owned()
        }

        fn wants_raw(&self) -> bool {
            false
        }

        fn add(&mut self, _: &Batch) {}

        fn close(&mut self) {
            self.closed.store(true, Ordering::SeqCst);
        }

        fn finish(&mut self) -> Result<(), String> {
            assert!(self.closed.load(Ordering::SeqCst));
            let _open = self.gate.lock();
            self.result.clone()
        }
    }

    fn start(outputs: Vec<Box<dyn Output>>) -> Measurements {
        let registry = Arc::new(Registry::new());
        let collector = Collector::new(CollectorConfig {
            registry,
            tags: Arc::new(TagTable::new()),
            thresholds: Thresholds::parse(&[]).unwrap(),
            series: None,
            breakdown: false,
            default_submetrics: Vec::new(),
        });
        Measurements::start(collector, outputs, |_| {}).unwrap().0
    }

    #[test]
    fn an_output_that_does_not_end_keeps_neither_the_others_nor_the_summary() {
        let (hung, free) = (Arc::new(Mutex::new(())), Arc::new(Mutex::new(())));
        let closed = Arc::new(AtomicBool::new(false));
        let output = |name, gate: &Arc<Mutex<()>>, result: Result<(), &str>| -> Box<dyn Output> {
            Box::new(Gated {
                name,
                gate: gate.clone(),
                result: result.map_err(str::to_owned),
                closed: closed.clone(),
            })
        };
        let measurements = start(vec![
            output("hung", &hung, Err("never said")),
            output("broken", &free, Err("broken: 3 samples were lost")),
            output("fine", &free, Ok(())),
        ]);
        let guard = hung.lock();
        let problems = measurements.finish_outputs(Duration::from_secs(2));
        assert_eq!(
            problems,
            [
                "broken: 3 samples were lost",
                "hung: it did not finish in time; what it had not written yet is lost"
            ]
        );
        let answer = measurements.ask_blocking(Duration::from_secs(60), |_| "here");
        assert_eq!(answer, Some("here"));
        drop(guard);
        // They were closed once.
        assert_eq!(
            measurements.finish_outputs(Duration::from_secs(60)),
            [""; 0]
        );
    }
}
