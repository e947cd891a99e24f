//! `--out csv`: one row for each sample, the system tags in columns of their own.

use std::{fmt::Write, sync::Arc, time::Duration};

use rustc_hash::FxHashMap;

use super::{
    OutputContext, OutputKind,
    file::{FileOutput, Lines, open_target},
    settings::{Setting, Settings},
};
use crate::{MetricId, Sample, TagSet, TagSetId, format::TimeWriter};

/// The row of this output in [`super::OUTPUTS`].
pub(super) const KIND: OutputKind = OutputKind {
    name: "csv",
    open: |arg, context| Ok(Box::new(open(arg, context)?)),
};

const SETTINGS: &[Setting] = &[
    Setting {
        key: "fileName",
        variable: "K6_CSV_FILENAME",
    },
    Setting {
        key: "saveInterval",
        variable: "K6_CSV_SAVE_INTERVAL",
    },
    Setting {
        key: "timeFormat",
        variable: "K6_CSV_TIME_FORMAT",
    },
];

/// How many tag sets the writer keeps as text.
const TAGS_BOUND: usize = 16 * 1024;

/// How the column `timestamp` is written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum TimeFormat {
    /// A number of units since 1970, each of so many nanoseconds.
    Unix(i64),
    Rfc3339,
    Rfc3339Nano,
}

impl TimeFormat {
    fn parse(text: &str) -> Result<Self, String> {
        Ok(match text {
            "unix" => Self::Unix(1_000_000_000),
            "unix_milli" => Self::Unix(1_000_000),
            "unix_micro" => Self::Unix(1_000),
            "unix_nano" => Self::Unix(1),
            "rfc3339" => Self::Rfc3339,
            "rfc3339_nano" => Self::Rfc3339Nano,
            other => return Err(format!("{other} does not belong to TimeFormat values")),
        })
    }
}

/// Opens the file that the argument, the environment or the config file names.
fn open(arg: &str, context: OutputContext) -> Result<FileOutput, String> {
    let mut settings = Settings::read(&context, KIND.name, SETTINGS);
    read_argument(arg, &mut settings)?;
    let path = settings.text("fileName");
    let path = path.unwrap_or_else(|| "file.csv".to_owned());
    let interval = settings.interval("saveInterval")?;
    let format = settings.text("timeFormat");
    let format = TimeFormat::parse(format.as_deref().unwrap_or("unix"))?;
    let description = match path.as_str() {
        "-" => "csv (stdout)".to_owned(),
        path => format!("csv ({path})"),
    };
    let lines = Box::new(CsvLines::new(context, format));
    let interval = interval.unwrap_or(Duration::from_secs(1));
    FileOutput::start(description, open_target(&path)?, lines, Some(interval))
}

/// A path, or pairs of `fileName`, `saveInterval` and `timeFormat`.
fn read_argument(arg: &str, settings: &mut Settings) -> Result<(), String> {
    if arg.is_empty() {
        return Ok(());
    }
    if !arg.contains('=') {
        settings.set("fileName", arg);
        return Ok(());
    }
    for pair in arg.split(',') {
        let Some((key, value)) = pair.split_once('=') else {
            return Err(format!("couldn't parse {arg:?} as argument for csv output"));
        };
        let key = match key {
            "fileName" | "file_name" => "fileName",
            "saveInterval" | "save_interval" => "saveInterval",
            "timeFormat" | "time_format" => "timeFormat",
            other => return Err(format!("unknown key {other:?} as argument for csv output")),
        };
        settings.set(key, value);
    }
    Ok(())
}

/// Samples to rows.
struct CsvLines {
    context: OutputContext,
    format: TimeFormat,
    text: String,
    time: TimeWriter,
    /// System tags that have a column, sorted.
    columns: Vec<String>,
    /// The names of metrics by their position in the registry.
    names: Vec<Option<Arc<str>>>,
    /// The columns of tags by tag set, with the comma before the first of them.
    tags: FxHashMap<TagSetId, Box<str>>,
}

impl CsvLines {
    fn new(context: OutputContext, format: TimeFormat) -> Self {
        // They belong to a sample and not to its series: to be found among the metadata.
        let indexed = |name: &&String| !matches!(name.as_str(), "vu" | "iter");
        let columns: Vec<String> = context
            .system_tags
            .iter()
            .filter(indexed)
            .cloned()
            .collect();
        let mut text = "metric_name,timestamp,metric_value".to_owned();
        for column in &columns {
            text.extend([",", column]);
        }
        text.push_str(",extra_tags,metadata\n");
        Self {
            context,
            format,
            text,
            time: TimeWriter::default(),
            columns,
            names: Vec::new(),
            tags: FxHashMap::default(),
        }
    }

    fn push_name(&mut self, metric: MetricId) {
        let index = metric.index();
        if self.names.len() <= index {
            self.names.resize(index + 1, None);
        }
        let registry = &self.context.registry;
        let name = self.names[index].get_or_insert_with(|| registry.info(metric).name);
        self.text.extend([name, ","]);
    }

    fn push_time(&mut self, unix_ns: i64) {
        let text = &mut self.text;
        match self.format {
            // Writing to a String cannot fail.
            TimeFormat::Unix(unit) => {
                let _ = write!(text, "{}", unix_ns.div_euclid(unit));
            }
            TimeFormat::Rfc3339 => {
                let second = unix_ns - unix_ns.rem_euclid(1_000_000_000);
                self.time.push(text, second);
            }
            TimeFormat::Rfc3339Nano => self.time.push(text, unix_ns),
        }
    }
}

impl Lines for CsvLines {
    fn text(&mut self) -> &mut String {
        &mut self.text
    }

    fn push(&mut self, sample: &Sample) -> bool {
        self.push_name(sample.metric);
        self.push_time(sample.time);
        let text = &mut self.text;
        text.push(',');
        if sample.value.is_infinite() {
            text.push_str(if sample.value > 0.0 { "+Inf" } else { "-Inf" });
        } else {
            // Writing to a String cannot fail.
            let _ = write!(text, "{:.6}", sample.value);
        }
        match self.tags.get(&sample.tags) {
            Some(tags) => text.push_str(tags),
            None => {
                let start = text.len();
                push_tags(text, &self.columns, &self.context.tags.get(sample.tags));
                if self.tags.len() >= TAGS_BOUND {
                    self.tags.clear();
                }
                self.tags.insert(sample.tags, text[start..].into());
            }
        }
        text.push(',');
        if let Some(metadata) = sample.metadata.as_deref() {
            let pairs = metadata.iter();
            let mut pairs: Vec<(&str, &str)> = pairs
                .map(|(key, value)| (key.as_str(), value.as_str()))
                .collect();
            pairs.sort_unstable();
            push_cell(text, &joined(pairs.into_iter()));
        }
        text.push('\n');
        true
    }
}

/// The columns of system tags, and the one of all others.
fn push_tags(text: &mut String, columns: &[String], tags: &TagSet) {
    for column in columns {
        text.push(',');
        push_cell(text, tags.get(column).unwrap_or_default());
    }
    text.push(',');
    let extra = tags.iter().filter(|(key, _)| {
        columns
            .binary_search_by(|column| (**column).cmp(key))
            .is_err()
    });
    push_cell(text, &joined(extra));
}

fn joined<'a>(pairs: impl Iterator<Item = (&'a str, &'a str)>) -> String {
    let pairs: Vec<String> = pairs.map(|(key, value)| format!("{key}={value}")).collect();
    pairs.join("&")
}

/// A cell, quoted where Go's writer quotes.
fn push_cell(text: &mut String, cell: &str) {
    let quoted = cell.contains([',', '"', '\r', '\n'])
        || cell.starts_with(char::is_whitespace)
        || cell == r"\.";
    if quoted {
        text.push('"');
        text.push_str(&cell.replace('"', "\"\""));
        text.push('"');
    } else {
        text.push_str(cell);
    }
}

#[cfg(test)]
mod tests;
