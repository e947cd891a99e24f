//! A page for Prometheus under construction, in one of two forms: the text format 0.0.4, or
//! protocol buffers (`io.prometheus.client`), which alone can carry native histograms.
//!
//! Both say the same: whoever writes families does not ask which form it is.

use rustc_hash::FxHashSet;

use super::{
    native::NativeHistogram,
    proto::{Message, push_varint},
};
use crate::format::push_exposition_number;

/// The form of a page.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum PageFormat {
    /// The text format 0.0.4.
    Text,
    /// Messages `io.prometheus.client.MetricFamily`, each after its length.
    Protobuf,
}

impl PageFormat {
    /// The value of `Content-Type`.
    pub fn content_type(self) -> &'static str {
        match self {
            Self::Text => "text/plain; version=0.0.4; charset=utf-8",
            Self::Protobuf => {
                "application/vnd.google.protobuf; proto=io.prometheus.client.MetricFamily; encoding=delimited"
            }
        }
    }
}

/// What the values of a family mean.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum FamilyKind {
    /// A total that only grows.
    Counter,
    /// A value that goes up and down.
    Gauge,
    /// Quantiles, sum and count.
    Summary,
    /// Buckets, sum and count.
    Histogram,
}

impl FamilyKind {
    fn name(self) -> &'static str {
        match self {
            Self::Counter => "counter",
            Self::Gauge => "gauge",
            Self::Summary => "summary",
            Self::Histogram => "histogram",
        }
    }

    /// The number of the type in protocol buffers.
    fn number(self) -> u64 {
        match self {
            Self::Counter => 0,
            Self::Gauge => 1,
            Self::Summary => 2,
            Self::Histogram => 4,
        }
    }
}

/// Rising numbers that stand in labels: the upper bounds of buckets, or quantiles.
#[derive(Debug, Clone, PartialEq)]
pub struct Bounds(Vec<(f64, String)>);

impl Bounds {
    /// These numbers, which must rise.
    pub fn new(numbers: impl IntoIterator<Item = f64>) -> Self {
        let printed = |number| {
            let mut text = String::new();
            push_exposition_number(&mut text, number);
            (number, text)
        };
        Self(numbers.into_iter().map(printed).collect())
    }

    /// How many there are.
    pub(crate) fn len(&self) -> usize {
        self.0.len()
    }

    /// The first that is not below the value; their number if all are.
    pub(crate) fn position(&self, value: f64) -> usize {
        self.0.partition_point(|&(bound, _)| bound < value)
    }
}

/// Labels in the form of the page that made them.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Labels {
    pub(super) text: String,
    protobuf: Vec<u8>,
}

#[derive(Debug)]
enum Page {
    Text(String),
    /// Families that are complete, and the one at hand.
    Protobuf(Vec<u8>, Message),
}

/// A page under construction.
#[derive(Debug)]
pub struct Exposition {
    page: Page,
    name: String,
    kind: FamilyKind,
    names: FxHashSet<String>,
}

impl Exposition {
    /// An empty page.
    pub fn new(format: PageFormat) -> Self {
        Self::with_capacity(format, 0)
    }

    /// An empty page that will have about so many bytes.
    pub(crate) fn with_capacity(format: PageFormat, bytes: usize) -> Self {
        Self {
            page: match format {
                PageFormat::Text => Page::Text(String::with_capacity(bytes)),
                PageFormat::Protobuf => {
                    Page::Protobuf(Vec::with_capacity(bytes / 2), Message::default())
                }
            },
            name: String::new(),
            kind: FamilyKind::Gauge,
            names: FxHashSet::default(),
        }
    }

    /// Whether there is a family of that name.
    pub fn has(&self, name: &str) -> bool {
        self.names.contains(name)
    }

    /// Begins a family: what follows belongs to it.
    pub fn family(&mut self, name: &str, help: &str, kind: FamilyKind) {
        name.clone_into(&mut self.name);
        self.kind = kind;
        self.names.insert(name.to_owned());
        match &mut self.page {
            Page::Text(out) => {
                out.extend(["# HELP ", name, " "]);
                for character in help.chars() {
                    match character {
                        '\\' => out.push_str("\\\\"),
                        '\n' => out.push_str("\\n"),
                        other => out.push(other),
                    }
                }
                out.extend(["\n# TYPE ", name, " ", kind.name(), "\n"]);
            }
            Page::Protobuf(done, family) => {
                end_family(done, family);
                family.bytes(1, name.as_bytes());
                family.bytes(2, help.as_bytes());
                family.varint(3, kind.number());
            }
        }
    }

    /// Labels by name and value, each name once. Prometheus takes those without a value for
    /// absent; the text shows them.
    pub fn labels<'a>(&self, pairs: impl IntoIterator<Item = (&'a str, &'a str)>) -> Labels {
        let mut labels = Labels::default();
        match &self.page {
            Page::Text(_) => {
                for (name, value) in pairs {
                    push_text_label(&mut labels.text, name, value);
                }
            }
            Page::Protobuf(..) => {
                let mut message = Message::default();
                let pairs = pairs.into_iter().filter(|(_, value)| !value.is_empty());
                for (name, value) in pairs {
                    message.message(1, |label| {
                        label.bytes(1, name.as_bytes());
                        label.bytes(2, value.as_bytes());
                    });
                }
                labels.protobuf = message.0;
            }
        }
        labels
    }

    /// A series of a counter or a gauge.
    pub fn value(&mut self, labels: &Labels, value: f64) {
        let field = match self.kind {
            FamilyKind::Counter => 3,
            _ => 2,
        };
        match &mut self.page {
            Page::Text(out) => push_line(out, &self.name, "", labels, None, value),
            Page::Protobuf(_, family) => push_metric(family, labels, field, |inner| {
                inner.double(1, value);
            }),
        }
    }

    /// A series of a summary: `values` are those at the `quantiles`.
    pub(crate) fn summary(
        &mut self,
        labels: &Labels,
        quantiles: &Bounds,
        values: &[f64],
        sum: f64,
        count: u64,
    ) {
        let pairs = quantiles.0.iter().zip(values);
        match &mut self.page {
            Page::Text(out) => {
                let name = &self.name;
                for ((_, quantile), &value) in pairs {
                    push_line(out, name, "", labels, Some(("quantile", quantile)), value);
                }
                push_line(out, name, "_sum", labels, None, sum);
                push_line(out, name, "_count", labels, None, count as f64);
            }
            Page::Protobuf(_, family) => push_metric(family, labels, 4, |summary| {
                summary.varint(1, count);
                summary.double(2, sum);
                for (&(quantile, _), &value) in pairs {
                    summary.message(3, |inner| {
                        inner.double(1, quantile);
                        inner.double(2, value);
                    });
                }
            }),
        }
    }

    /// A series of a histogram: `below` counts the values up to each of the `bounds`.
    pub fn histogram(
        &mut self,
        labels: &Labels,
        bounds: &Bounds,
        below: &[u64],
        sum: f64,
        count: u64,
    ) {
        self.any_histogram(labels, bounds, below, sum, count, None);
    }

    /// The same, with the sparse buckets that only protocol buffers have a place for.
    pub(crate) fn any_histogram(
        &mut self,
        labels: &Labels,
        bounds: &Bounds,
        below: &[u64],
        sum: f64,
        count: u64,
        native: Option<&NativeHistogram>,
    ) {
        let pairs = bounds.0.iter().zip(below);
        match &mut self.page {
            Page::Text(out) => {
                let name = &self.name;
                for ((_, bound), &below) in pairs {
                    let le = Some(("le", bound.as_str()));
                    push_line(out, name, "_bucket", labels, le, below as f64);
                }
                let le = Some(("le", "+Inf"));
                push_line(out, name, "_bucket", labels, le, count as f64);
                push_line(out, name, "_sum", labels, None, sum);
                push_line(out, name, "_count", labels, None, count as f64);
            }
            Page::Protobuf(_, family) => push_metric(family, labels, 7, |histogram| {
                histogram.varint(1, count);
                histogram.double(2, sum);
                // A native one has no need for the bucket that counts all.
                let last = (native.is_none() || bounds.len() > 0).then_some((f64::INFINITY, count));
                let pairs = pairs.map(|(&(bound, _), &below)| (bound, below));
                for (bound, below) in pairs.chain(last) {
                    histogram.message(3, |bucket| {
                        bucket.varint(1, below);
                        bucket.double(2, bound);
                    });
                }
                if let Some(native) = native {
                    native.expose(histogram);
                }
            }),
        }
    }

    /// The page.
    pub fn finish(self) -> Vec<u8> {
        match self.page {
            Page::Text(text) => text.into_bytes(),
            Page::Protobuf(mut done, mut family) => {
                end_family(&mut done, &mut family);
                done
            }
        }
    }
}

fn end_family(done: &mut Vec<u8>, family: &mut Message) {
    if !family.0.is_empty() {
        push_varint(done, family.0.len() as u64);
        done.append(&mut family.0);
    }
}

/// A series of the family at hand, with its value in that field.
fn push_metric(
    family: &mut Message,
    labels: &Labels,
    field: u32,
    build: impl FnOnce(&mut Message),
) {
    family.message(4, |metric| {
        metric.0.extend(&labels.protobuf);
        metric.message(field, build);
    });
}

fn push_line(
    out: &mut String,
    name: &str,
    suffix: &str,
    labels: &Labels,
    last: Option<(&str, &str)>,
    value: f64,
) {
    let labels = labels.text.as_str();
    match last {
        Some((last, at)) => {
            let comma = if labels.is_empty() { "" } else { "," };
            out.extend([name, suffix, "{", labels, comma, last, "=\"", at, "\"} "]);
        }
        None if labels.is_empty() => out.extend([name, suffix, " "]),
        None => out.extend([name, suffix, "{", labels, "} "]),
    }
    push_exposition_number(out, value);
    out.push('\n');
}

/// Appends a label of the text format.
pub(super) fn push_text_label(out: &mut String, name: &str, value: &str) {
    out.push_str(if out.is_empty() { "" } else { "," });
    out.extend([name, "=\""]);
    if value
        .bytes()
        .any(|byte| matches!(byte, b'\\' | b'"' | b'\n'))
    {
        for character in value.chars() {
            match character {
                '\\' => out.push_str("\\\\"),
                '"' => out.push_str("\\\""),
                '\n' => out.push_str("\\n"),
                other => out.push(other),
            }
        }
    } else {
        out.push_str(value);
    }
    out.push('"');
}
