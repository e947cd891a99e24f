//! Outputs that write a line for each sample, into a file or to standard output.
//!
//! The caller only puts a shared batch into a queue; a thread of its own formats and writes.
//! When the queue is full the batch is dropped and counted, and when the disk is full the
//! first error is kept and writing stops: in neither case does the load notice.

use std::{
    fs::File,
    io::{self, BufWriter, Write},
    sync::{
        Arc,
        mpsc::{Receiver, RecvTimeoutError, SyncSender, sync_channel},
    },
    thread::JoinHandle,
    time::{Duration, Instant},
};

use flate2::{Compression, write::GzEncoder};

use super::Output;
use crate::{Batch, Sample};

/// How many batches may wait for the writer.
pub(super) const QUEUE: usize = 256;
/// How many bytes of lines are handed to the file at once.
pub(super) const CHUNK: usize = 64 * 1024;

/// A format: samples to lines.
pub(super) trait Lines: Send {
    /// The lines that have not been handed over; the writer empties it.
    fn text(&mut self) -> &mut String;

    /// Appends the sample; `false` when the format has no way to say it.
    fn push(&mut self, sample: &Sample) -> bool;

    /// What the user is told of so many samples that [`Lines::push`] refused.
    fn refused(&self, count: u64) -> String {
        format!("{count} samples have no form in it")
    }
}

/// An output that writes lines.
#[derive(Debug)]
pub(super) struct FileOutput {
    description: String,
    queue: Option<SyncSender<Arc<Vec<Sample>>>>,
    writer: Option<JoinHandle<Outcome>>,
    dropped: u64,
}

/// What the writer thread has to say at the end.
#[derive(Debug, Default)]
struct Outcome {
    error: Option<String>,
    /// Samples that came after the error, or with it.
    lost: u64,
    /// What the format refused.
    refused: Option<String>,
}

impl FileOutput {
    /// Starts the writer. Lines are handed to the target as soon as nothing waits to be formatted,
    /// or, with an interval, once in each.
    ///
    /// # Errors
    /// When there is no thread to be had.
    pub(super) fn start(
        description: String,
        target: Box<dyn Target>,
        lines: Box<dyn Lines>,
        interval: Option<Duration>,
    ) -> Result<Self, String> {
        let (queue, batches) = sync_channel(QUEUE);
        let writer = std::thread::Builder::new()
            .name("file-output".to_owned())
            .spawn(move || Writer::new(target, lines, interval).run(&batches))
            .map_err(|error| format!("no thread for {description}: {}", reason(&error)))?;
        Ok(Self {
            description,
            queue: Some(queue),
            writer: Some(writer),
            dropped: 0,
        })
    }
}

impl Output for FileOutput {
    fn describe(&self) -> String {
        self.description.clone()
    }

    fn wants_raw(&self) -> bool {
        true
    }

    fn add(&mut self, batch: &Batch) {
        let Some(queue) = &self.queue else { return };
        if !batch.raw.is_empty() && queue.try_send(batch.raw.clone()).is_err() {
            self.dropped += batch.raw.len() as u64;
        }
    }

    fn close(&mut self) {
        // Closing the queue is what tells the writer to end.
        self.queue = None;
    }

    fn finish(&mut self) -> Result<(), String> {
        self.close();
        let Some(writer) = self.writer.take() else {
            return Ok(());
        };
        let Ok(outcome) = writer.join() else {
            return Err(format!("{}: the writer thread failed", self.description));
        };
        let mut problems = Vec::new();
        if let Some(error) = outcome.error {
            problems.push(match outcome.lost {
                // It came with the end: how much was still held back is not known.
                0 => error,
                lost => format!("{error}; {lost} samples were lost"),
            });
        }
        if self.dropped > 0 {
            let dropped = self.dropped;
            problems.push(format!(
                "it was too slow, and {dropped} samples were dropped"
            ));
        }
        problems.extend(outcome.refused);
        if problems.is_empty() {
            Ok(())
        } else {
            Err(format!("{}: {}", self.description, problems.join("; ")))
        }
    }
}

/// What lines are written to: as a writer, with an end of its own.
pub(super) trait Target: Write + Send {
    /// Called once, after the last write.
    fn close(&mut self) -> io::Result<()> {
        self.flush()
    }
}

impl Target for File {}
impl Target for io::Stdout {}

/// Opens a file, compressed if its name ends in `.gz`; standard output for `""` or `-`.
///
/// # Errors
/// Why the file cannot be created.
pub(super) fn open_target(path: &str) -> Result<Box<dyn Target>, String> {
    if matches!(path, "" | "-") {
        return Ok(Box::new(io::stdout()));
    }
    let file = File::create(path).map_err(|error| format!("open {path}: {}", reason(&error)))?;
    Ok(if path.ends_with(".gz") {
        let buffered = BufWriter::with_capacity(CHUNK, file);
        Box::new(Gzip(Some(GzEncoder::new(buffered, Compression::default()))))
    } else {
        Box::new(file)
    })
}

/// A compressed file, which ends with a trailer.
struct Gzip(Option<GzEncoder<BufWriter<File>>>);

impl Write for Gzip {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        match &mut self.0 {
            Some(encoder) => encoder.write(bytes),
            None => Err(io::ErrorKind::BrokenPipe.into()),
        }
    }

    /// Keeps what the compressor holds back: a flush at each pause would cost much of the ratio.
    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl Target for Gzip {
    fn close(&mut self) -> io::Result<()> {
        match self.0.take() {
            Some(encoder) => encoder.finish()?.flush(),
            None => Ok(()),
        }
    }
}

/// The writer thread's state.
struct Writer {
    target: Box<dyn Target>,
    lines: Box<dyn Lines>,
    interval: Option<Duration>,
    outcome: Outcome,
    /// Samples whose lines have not reached the target yet.
    pending: u64,
    refused: u64,
}

impl Writer {
    fn new(target: Box<dyn Target>, lines: Box<dyn Lines>, interval: Option<Duration>) -> Self {
        Self {
            target,
            lines,
            interval,
            outcome: Outcome::default(),
            pending: 0,
            refused: 0,
        }
    }

    /// From the first batch to the end of the queue.
    fn run(mut self, batches: &Receiver<Arc<Vec<Sample>>>) -> Outcome {
        // What a format begins with, its header, shows at once.
        self.save();
        match self.interval {
            None => {
                while let Ok(batch) = batches.recv() {
                    let mut next = Some(batch);
                    while let Some(batch) = next {
                        self.format(&batch);
                        next = batches.try_recv().ok();
                    }
                    // Nothing waits: whoever reads along gets all there is.
                    self.save();
                }
            }
            Some(interval) => {
                let mut due = Instant::now() + interval;
                loop {
                    let left = due.saturating_duration_since(Instant::now());
                    match batches.recv_timeout(left) {
                        Ok(batch) => self.format(&batch),
                        Err(RecvTimeoutError::Timeout) => {}
                        Err(RecvTimeoutError::Disconnected) => break,
                    }
                    if Instant::now() >= due {
                        self.save();
                        due = Instant::now() + interval;
                    }
                }
                self.save();
            }
        }
        if let Err(error) = self.target.close()
            && self.outcome.error.is_none()
        {
            self.outcome.error = Some(reason(&error));
        }
        if self.refused > 0 {
            self.outcome.refused = Some(self.lines.refused(self.refused));
        }
        self.outcome
    }

    fn format(&mut self, batch: &[Sample]) {
        for sample in batch {
            if self.outcome.error.is_some() {
                self.outcome.lost += 1;
            } else if self.lines.push(sample) {
                self.pending += 1;
                if self.lines.text().len() >= CHUNK {
                    self.hand_over();
                }
            } else {
                self.refused += 1;
            }
        }
    }

    /// Hands over all there is, for others to see.
    fn save(&mut self) {
        self.hand_over();
        if self.outcome.error.is_none()
            && let Err(error) = self.target.flush()
        {
            self.outcome.error = Some(reason(&error));
        }
    }

    fn hand_over(&mut self) {
        let text = self.lines.text();
        if self.outcome.error.is_none()
            && !text.is_empty()
            && let Err(error) = self.target.write_all(text.as_bytes())
        {
            self.outcome.error = Some(reason(&error));
            self.outcome.lost += self.pending;
        }
        text.clear();
        self.pending = 0;
    }
}

/// The system's words for an error, without Rust's number behind them.
pub(super) fn reason(error: &io::Error) -> String {
    let text = error.to_string();
    let text = text.split(" (os error").next().unwrap_or_default();
    let mut characters = text.chars();
    characters.next().map_or_else(String::new, |first| {
        first.to_lowercase().chain(characters).collect()
    })
}
