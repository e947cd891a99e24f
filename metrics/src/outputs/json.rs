//! `--out json`: one JSON object per line, every sample a `Point`, every metric introduced
//! by a `Metric` line before its first one.
//!
//! The caller only puts a shared batch into a queue; a thread of its own formats and writes.
//! When the queue is full the batch is dropped and counted, and when the disk is full the
//! first error is kept and writing stops: in neither case does the load notice. Lines are
//! put together from parts that stay the same (the head of a metric, the tags of a series).

use std::{
    fs::File,
    io::{self, BufWriter, Write},
    sync::{
        Arc,
        mpsc::{Receiver, SyncSender, sync_channel},
    },
    thread::JoinHandle,
};

use flate2::{Compression, write::GzEncoder};
use rustc_hash::FxHashMap;

use super::{Output, OutputContext, OutputKind};
use crate::{
    Batch, MetricId, Sample, TagSetId,
    format::{TimeWriter, push_json_number, push_json_string},
};

/// The row of this output in [`super::OUTPUTS`].
pub(super) const KIND: OutputKind = OutputKind {
    name: "json",
    open: |arg, context| Ok(Box::new(JsonOutput::open(arg, context)?)),
};

/// How many batches may wait for the writer.
const QUEUE: usize = 256;
/// How many tag sets the writer keeps as text.
const TAGS_BOUND: usize = 16 * 1024;
/// How many bytes of lines are handed to the file at once.
const CHUNK: usize = 64 * 1024;

/// The JSON output.
#[derive(Debug)]
pub struct JsonOutput {
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
    /// Samples whose value JSON cannot express.
    infinite: u64,
}

impl JsonOutput {
    /// Opens a file, compressed if its name ends in `.gz`; standard output for `""` or `-`.
    ///
    /// # Errors
    /// Why the file cannot be created.
    pub fn open(arg: &str, context: OutputContext) -> Result<Self, String> {
        if matches!(arg, "" | "-") {
            return Self::start("json(stdout)".to_owned(), Box::new(io::stdout()), context);
        }
        let file = File::create(arg).map_err(|error| format!("open {arg}: {}", reason(&error)))?;
        let target: Box<dyn Target> = if arg.ends_with(".gz") {
            let buffered = BufWriter::with_capacity(CHUNK, file);
            Box::new(Gzip(Some(GzEncoder::new(buffered, Compression::default()))))
        } else {
            Box::new(file)
        };
        Self::start(format!("json ({arg})"), target, context)
    }

    fn start(
        description: String,
        target: Box<dyn Target>,
        context: OutputContext,
    ) -> Result<Self, String> {
        let (queue, batches) = sync_channel(QUEUE);
        let writer = std::thread::Builder::new()
            .name("json-output".to_owned())
            .spawn(move || write_all(&batches, target, context))
            .map_err(|error| format!("no thread for the json output: {}", reason(&error)))?;
        Ok(Self {
            description,
            queue: Some(queue),
            writer: Some(writer),
            dropped: 0,
        })
    }
}

impl Output for JsonOutput {
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

    fn finish(&mut self) -> Result<(), String> {
        // Closing the queue is what tells the writer to end.
        self.queue = None;
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
        if outcome.infinite > 0 {
            let count = outcome.infinite;
            problems.push(format!(
                "Sample(s) couldn't be marshalled to JSON: {count} infinite values"
            ));
        }
        if problems.is_empty() {
            Ok(())
        } else {
            Err(format!("{}: {}", self.description, problems.join("; ")))
        }
    }
}

/// What lines are written to: as a writer, with an end of its own.
trait Target: Write + Send {
    /// Called once, after the last write.
    fn close(&mut self) -> io::Result<()> {
        self.flush()
    }
}

impl Target for File {}
impl Target for io::Stdout {}

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

/// The writer thread, from the first batch to the end of the queue.
fn write_all(
    batches: &Receiver<Arc<Vec<Sample>>>,
    mut target: Box<dyn Target>,
    context: OutputContext,
) -> Outcome {
    let mut lines = Lines::new(context);
    let mut outcome = Outcome::default();
    // Samples whose lines have not reached the target yet.
    let mut pending = 0;
    while let Ok(batch) = batches.recv() {
        let mut next = Some(batch);
        while let Some(batch) = next {
            for sample in batch.iter() {
                if outcome.error.is_some() {
                    outcome.lost += 1;
                    continue;
                }
                if !sample.value.is_finite() {
                    outcome.infinite += 1;
                    continue;
                }
                lines.push(sample);
                pending += 1;
                if lines.text.len() >= CHUNK {
                    hand_over(&mut lines, &mut *target, &mut pending, &mut outcome);
                }
            }
            next = batches.try_recv().ok();
        }
        // Nothing waits: whoever reads along gets all there is.
        hand_over(&mut lines, &mut *target, &mut pending, &mut outcome);
        if outcome.error.is_none()
            && let Err(error) = target.flush()
        {
            outcome.error = Some(reason(&error));
        }
    }
    if let Err(error) = target.close()
        && outcome.error.is_none()
    {
        outcome.error = Some(reason(&error));
    }
    outcome
}

fn hand_over(lines: &mut Lines, target: &mut dyn Target, pending: &mut u64, outcome: &mut Outcome) {
    if outcome.error.is_none()
        && let Err(error) = target.write_all(lines.text.as_bytes())
    {
        outcome.error = Some(reason(&error));
        outcome.lost += *pending;
    }
    lines.text.clear();
    *pending = 0;
}

/// The system's words for an error, without Rust's number behind them.
fn reason(error: &io::Error) -> String {
    let text = error.to_string();
    let text = text.split(" (os error").next().unwrap_or_default();
    let mut characters = text.chars();
    characters.next().map_or_else(String::new, |first| {
        first.to_lowercase().chain(characters).collect()
    })
}

/// Samples to lines.
struct Lines {
    context: OutputContext,
    text: String,
    time: TimeWriter,
    /// By metric, the start of its points; `None` until it has been introduced.
    heads: Vec<Option<Box<str>>>,
    tags: FxHashMap<TagSetId, Box<str>>,
}

impl Lines {
    fn new(context: OutputContext) -> Self {
        Self {
            context,
            text: String::with_capacity(CHUNK + 4096),
            time: TimeWriter::default(),
            heads: Vec::new(),
            tags: FxHashMap::default(),
        }
    }

    fn push(&mut self, sample: &Sample) {
        let metric = sample.metric.index();
        if self.heads.get(metric).is_none_or(Option::is_none) {
            self.introduce(sample.metric);
        }
        let text = &mut self.text;
        if let Some(Some(head)) = self.heads.get(metric) {
            text.push_str(head);
        }
        self.time.push(text, sample.time);
        text.push_str("\",\"value\":");
        push_json_number(text, sample.value);
        text.push_str(",\"tags\":");
        match self.tags.get(&sample.tags) {
            Some(tags) => text.push_str(tags),
            None => {
                let start = text.len();
                let set = self.context.tags.get(sample.tags);
                push_object(text, set.iter());
                if self.tags.len() >= TAGS_BOUND {
                    self.tags.clear();
                }
                self.tags.insert(sample.tags, text[start..].into());
            }
        }
        if let Some(metadata) = sample.metadata.as_deref()
            && !metadata.is_empty()
        {
            let mut pairs: Vec<(&str, &str)> = metadata
                .iter()
                .map(|(key, value)| (key.as_str(), value.as_str()))
                .collect();
            pairs.sort_unstable();
            text.push_str(",\"metadata\":");
            push_object(text, pairs.into_iter());
        }
        text.push_str("}}\n");
    }

    #[cold]
    fn introduce(&mut self, metric: MetricId) {
        let info = self.context.registry.info(metric);
        let text = &mut self.text;
        text.push_str("{\"type\":\"Metric\",\"data\":{\"name\":");
        push_json_string(text, &info.name);
        for (key, value) in [
            ("type", info.kind.as_str()),
            ("contains", info.contains.as_str()),
        ] {
            text.extend([",\"", key, "\":\"", value, "\""]);
        }
        let definition = self.context.definitions.get(metric);
        text.push_str(",\"thresholds\":[");
        for (index, threshold) in definition.iter().flat_map(|d| &d.thresholds).enumerate() {
            text.push_str(if index == 0 { "" } else { "," });
            threshold.push_json(text);
        }
        text.push_str("],\"submetrics\":");
        match definition.filter(|definition| !definition.submetrics.is_empty()) {
            None => text.push_str("null"),
            Some(definition) => {
                for (index, (name, selector)) in definition.submetrics.iter().enumerate() {
                    text.push_str(if index == 0 {
                        "[{\"name\":"
                    } else {
                        ",{\"name\":"
                    });
                    push_json_string(text, name);
                    text.push_str(",\"suffix\":");
                    push_json_string(text, &selector.suffix);
                    text.push_str(",\"tags\":");
                    push_object(
                        text,
                        selector
                            .tags
                            .iter()
                            .map(|(key, value)| (key.as_str(), value.as_str())),
                    );
                    text.push('}');
                }
                text.push(']');
            }
        }
        text.push_str("},\"metric\":");
        push_json_string(text, &info.name);
        text.push_str("}\n");

        let mut head = String::from("{\"metric\":");
        push_json_string(&mut head, &info.name);
        head.push_str(",\"type\":\"Point\",\"data\":{\"time\":\"");
        let index = metric.index();
        if self.heads.len() <= index {
            self.heads.resize(index + 1, None);
        }
        self.heads[index] = Some(head.into());
    }
}

fn push_object<'a>(out: &mut String, pairs: impl Iterator<Item = (&'a str, &'a str)>) {
    out.push('{');
    for (index, (key, value)) in pairs.enumerate() {
        if index > 0 {
            out.push(',');
        }
        push_json_string(out, key);
        out.push(':');
        push_json_string(out, value);
    }
    out.push('}');
}

#[cfg(test)]
mod tests;
