//! `--out json`: one JSON object per line, every sample a `Point`, every metric introduced
//! by a `Metric` line before its first one.
//!
//! Lines are put together from parts that stay the same (the head of a metric, the tags of a
//! series). Who writes them, and when, is [`super::file`].

use rustc_hash::FxHashMap;

use super::{
    OutputContext, OutputKind,
    file::{FileOutput, Lines, open_target},
};
use crate::{
    MetricId, Sample, TagSetId,
    format::{TimeWriter, push_json_number, push_json_string},
};

/// The row of this output in [`super::OUTPUTS`].
pub(super) const KIND: OutputKind = OutputKind {
    name: "json",
    open: |arg, context| Ok(Box::new(open(arg, context)?)),
};

/// How many tag sets the writer keeps as text.
const TAGS_BOUND: usize = 16 * 1024;

/// Opens a file, compressed if its name ends in `.gz`; standard output for `""` or `-`.
fn open(arg: &str, context: OutputContext) -> Result<FileOutput, String> {
    let description = match arg {
        "" | "-" => "json(stdout)".to_owned(),
        path => format!("json ({path})"),
    };
    let lines = Box::new(JsonLines::new(context));
    FileOutput::start(description, open_target(arg)?, lines, None)
}

/// Samples to lines.
struct JsonLines {
    context: OutputContext,
    text: String,
    time: TimeWriter,
    /// By metric, the start of its points; `None` until it has been introduced.
    heads: Vec<Option<Box<str>>>,
    tags: FxHashMap<TagSetId, Box<str>>,
}

impl JsonLines {
    fn new(context: OutputContext) -> Self {
        Self {
            context,
            text: String::new(),
            time: TimeWriter::default(),
            heads: Vec::new(),
            tags: FxHashMap::default(),
        }
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

impl Lines for JsonLines {
    fn text(&mut self) -> &mut String {
        &mut self.text
    }

    fn push(&mut self, sample: &Sample) -> bool {
        if !sample.value.is_finite() {
            return false;
        }
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
        true
    }

    fn refused(&self, count: u64) -> String {
        format!("Sample(s) couldn't be marshalled to JSON: {count} infinite values")
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
