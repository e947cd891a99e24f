//! `--out prometheus`: its options, and the page that a scrape gets.
//!
//! Names, types, help texts and labels are those of the k6 extension xk6-prometheus
//! (spec/metrics.md §11), so its dashboards work; but a series keeps all its tags, whatever
//! tags the first sample of the metric had. The page is a pure function of the collected
//! series, written straight into one buffer: a scrape of thousands of lines must not be felt
//! by the load. Only the `process_*` families are read from the system.

use std::{fmt::Write, rc::Rc, sync::OnceLock, time::Duration};

use ::prometheus::{TextEncoder, core::Collector as _, process_collector::ProcessCollector};
use rustc_hash::{FxHashMap, FxHashSet};

use crate::{
    MetricId, MetricKind, Registry, TagSet, TagSetId, TagTable,
    collector::Series,
    format::{parse_go_duration, push_exposition_number},
    series::{SeriesSink, TrendSeries},
};

/// Where and how the page is served.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PrometheusOptions {
    /// First part of every metric's name, if not empty.
    pub namespace: String,
    /// Second part of every metric's name, if not empty.
    pub subsystem: String,
    /// The address to listen on; empty for all.
    pub host: String,
    /// The port to listen on.
    pub port: u16,
    /// Whether the agent waits for a last scrape.
    pub linger: Linger,
}

/// How long the agent stays after the end so that the final values are scraped.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Linger {
    /// Until one more scrape, for 30 s at most, if there were scrapes during the run.
    Auto,
    /// Until one more scrape, for this long at most, whether or not there were scrapes before.
    For(Duration),
    /// Not at all.
    Off,
}

impl Default for PrometheusOptions {
    fn default() -> Self {
        Self {
            namespace: String::new(),
            subsystem: String::new(),
            host: String::new(),
            port: 5656,
            linger: Linger::Auto,
        }
    }
}

impl PrometheusOptions {
    /// Parses `namespace=k6&subsystem=&host=&port=5656&linger=auto`, a URL query whose keys
    /// may have any case and may all be left out.
    ///
    /// # Errors
    /// A text that names the unknown key, or the value that does not fit.
    pub fn parse(arg: &str) -> Result<Self, String> {
        let mut options = Self::default();
        for pair in arg.split('&').filter(|pair| !pair.is_empty()) {
            let (key, value) = pair.split_once('=').unwrap_or((pair, ""));
            let (key, value) = (decode(key)?, decode(value)?);
            match key.to_ascii_lowercase().as_str() {
                "namespace" => options.namespace = name_part("namespace", value)?,
                "subsystem" => options.subsystem = name_part("subsystem", value)?,
                "host" => options.host = value,
                "port" => {
                    options.port = value.parse().map_err(|_| {
                        format!("schema: port {value:?} is not a whole number from 0 to 65535")
                    })?;
                }
                "linger" => {
                    options.linger = match parse_go_duration(&value) {
                        _ if value == "auto" => Linger::Auto,
                        Some(Duration::ZERO) => Linger::Off,
                        Some(duration) => Linger::For(duration),
                        None => {
                            return Err(format!(
                                "schema: linger {value:?} is neither auto, nor a duration such as 30s, nor 0"
                            ));
                        }
                    };
                }
                _ => {
                    return Err(format!(
                        "schema: unknown key {key:?}, the keys are namespace, subsystem, host, port and linger"
                    ));
                }
            }
        }
        Ok(options)
    }

    /// What the run's header calls it: `prometheus (HOST:PORT)`.
    pub fn describe(&self) -> String {
        format!("prometheus ({}:{})", self.host, self.port)
    }
}

fn name_part(key: &str, value: String) -> Result<String, String> {
    // Any part may be the first of the name, so none may begin with a digit.
    let legal = !value.starts_with(|c: char| c.is_ascii_digit())
        && value
            .chars()
            .all(|c| c.is_ascii_alphanumeric() || c == '_' || c == ':');
    if legal {
        Ok(value)
    } else {
        Err(format!(
            "schema: {key} {value:?} cannot be part of a metric name ([a-zA-Z_:][a-zA-Z0-9_:]*)"
        ))
    }
}

/// Undoes URL query encoding.
fn decode(text: &str) -> Result<String, String> {
    let mut bytes = Vec::with_capacity(text.len());
    let mut rest = text.as_bytes();
    while let Some((&byte, tail)) = rest.split_first() {
        rest = tail;
        bytes.push(match byte {
            b'+' => b' ',
            b'%' => {
                let digits = rest
                    .get(..2)
                    .filter(|digits| digits.iter().all(u8::is_ascii_hexdigit));
                let code = digits
                    .and_then(|digits| std::str::from_utf8(digits).ok())
                    .and_then(|digits| u8::from_str_radix(digits, 16).ok())
                    .ok_or_else(|| format!("invalid URL escape in {text:?}"))?;
                rest = &rest[2..];
                code
            }
            other => other,
        });
    }
    String::from_utf8(bytes).map_err(|_| format!("{text:?} is not UTF-8"))
}

/// The family that counts what the page could not take.
pub(crate) const REFUSED: &str = "volley_prometheus_refused_values_total";

/// What a page is made of.
pub(crate) struct Page<'a> {
    pub(crate) registry: &'a Registry,
    pub(crate) tags: &'a TagTable,
    pub(crate) series: &'a [Series],
    /// Negative counter values, by metric.
    pub(crate) refused: &'a FxHashMap<MetricId, u64>,
    /// The present slice of the quantiles' window.
    pub(crate) slice: i64,
}

/// The labels of a tag set.
struct Labels {
    /// As printed between the braces.
    printed: String,
    /// Without empty values, which to Prometheus are no labels: equal if the series are one.
    identity: String,
}

/// A series to print: its labels, and all sinks that share them.
struct Line<'a> {
    labels: Rc<Labels>,
    sink: std::borrow::Cow<'a, SeriesSink>,
}

/// A family to print.
enum Family {
    Metric(MetricId),
    Current(MetricId),
    /// Printed already.
    Text(String),
}

/// Writes the page in Prometheus' text format 0.0.4: families by name.
pub(crate) fn expose(options: &PrometheusOptions, page: &Page<'_>) -> String {
    let mut by_metric: Vec<Vec<&Series>> = Vec::new();
    for series in page.series.iter().filter(|series| series.sink.is_some()) {
        let index = series.metric.index();
        if by_metric.len() <= index {
            by_metric.resize_with(index + 1, Vec::new);
        }
        by_metric[index].push(series);
    }

    let exposed = |name: &str| {
        let parts = [options.namespace.as_str(), options.subsystem.as_str(), name];
        parts
            .into_iter()
            .filter(|part| !part.is_empty())
            .collect::<Vec<_>>()
            .join("_")
    };
    let mut families: Vec<(String, Family)> = Vec::new();
    for series in by_metric.iter().filter_map(|series| series.first()) {
        let info = page.registry.info(series.metric);
        families.push((exposed(&info.name), Family::Metric(series.metric)));
        let current = format!("{}_current", info.name);
        // A script's own metric of that name goes before the twin.
        if info.kind == MetricKind::Trend && page.registry.lookup(&current).is_none() {
            families.push((exposed(&current), Family::Current(series.metric)));
        }
    }
    let taken: FxHashSet<String> = families.iter().map(|(name, _)| name.clone()).collect();
    families.extend(
        own_families(page)
            .into_iter()
            .filter(|(name, _)| !taken.contains(name)),
    );
    families.sort_by(|(one, _), (two, _)| one.cmp(two));

    // About 200 bytes a line, and seven lines for a trend.
    let mut out = String::with_capacity(4096 + page.series.len() * 1000);
    let mut labels: FxHashMap<TagSetId, Rc<Labels>> = FxHashMap::default();
    let mut lines: FxHashMap<MetricId, Vec<Line<'_>>> = FxHashMap::default();
    for (name, family) in &families {
        let metric = match family {
            Family::Text(text) => {
                out.push_str(text);
                continue;
            }
            Family::Metric(metric) | Family::Current(metric) => *metric,
        };
        let info = page.registry.info(metric);
        let lines = lines
            .entry(metric)
            .or_insert_with(|| lines_of(page, &by_metric[metric.index()], &mut labels));
        let current = matches!(family, Family::Current(_));
        push_header(&mut out, name, &info.name, info.kind, current);
        for line in &*lines {
            let labels = line.labels.printed.as_str();
            match &*line.sink {
                SeriesSink::Trend(trend) if current => {
                    push_line(&mut out, name, "", labels, "", trend.last)
                }
                SeriesSink::Trend(trend) => push_summary(&mut out, name, labels, trend, page.slice),
                &SeriesSink::Counter { raised } => {
                    push_line(&mut out, name, "", labels, "", raised)
                }
                &SeriesSink::Gauge { last, .. } => push_line(&mut out, name, "", labels, "", last),
                &SeriesSink::Rate { trues, total, sum } => {
                    push_line(
                        &mut out,
                        name,
                        "_bucket",
                        labels,
                        ",le=\"0\"",
                        (total - trues) as f64,
                    );
                    push_line(
                        &mut out,
                        name,
                        "_bucket",
                        labels,
                        ",le=\"+Inf\"",
                        total as f64,
                    );
                    push_line(&mut out, name, "_sum", labels, "", sum);
                    push_line(&mut out, name, "_count", labels, "", total as f64);
                }
            }
        }
    }
    out
}

/// The series of a metric by their labels; those that Prometheus could not tell apart as one.
fn lines_of<'a>(
    page: &Page<'_>,
    series: &[&'a Series],
    labels: &mut FxHashMap<TagSetId, Rc<Labels>>,
) -> Vec<Line<'a>> {
    let mut lines: Vec<Line<'a>> = Vec::with_capacity(series.len());
    for series in series {
        let Some(sink) = &series.sink else { continue };
        let labels = labels
            .entry(series.tags)
            .or_insert_with(|| Rc::new(labels_of(&page.tags.get(series.tags))))
            .clone();
        lines.push(Line {
            labels,
            sink: std::borrow::Cow::Borrowed(sink),
        });
    }
    lines.sort_by(|one, two| one.labels.identity.cmp(&two.labels.identity));
    lines.dedup_by(|next, kept| {
        let same = next.labels.identity == kept.labels.identity;
        if same {
            kept.sink.to_mut().merge(&next.sink);
        }
        same
    });
    lines
}

fn push_summary(out: &mut String, name: &str, labels: &str, trend: &TrendSeries, slice: i64) {
    const QUANTILES: [(f64, &str); 4] = [
        (0.5, ",quantile=\"0.5\""),
        (0.9, ",quantile=\"0.9\""),
        (0.95, ",quantile=\"0.95\""),
        (1.0, ",quantile=\"1\""),
    ];
    let values = trend.quantiles(QUANTILES.map(|(share, _)| share), slice);
    for ((_, label), value) in QUANTILES.into_iter().zip(values) {
        push_line(out, name, "", labels, label, value);
    }
    push_line(out, name, "_sum", labels, "", trend.sum);
    push_line(out, name, "_count", labels, "", trend.count as f64);
}

fn push_line(
    out: &mut String,
    name: &str,
    suffix: &str,
    labels: &str,
    last_label: &str,
    value: f64,
) {
    out.extend([name, suffix, "{", labels, last_label, "} "]);
    push_exposition_number(out, value);
    out.push('\n');
}

fn push_header(out: &mut String, name: &str, metric: &str, kind: MetricKind, current: bool) {
    out.extend(["# HELP ", name, " "]);
    let (twin, suffix) = if current {
        ("_current", " (current)")
    } else {
        ("", "")
    };
    match help(metric) {
        Some(help) => out.extend([help, suffix]),
        None => out.extend([metric, twin, " k6 ", kind.as_str(), suffix]),
    }
    let kind = match kind {
        _ if current => "gauge",
        MetricKind::Counter => "counter",
        MetricKind::Gauge => "gauge",
        MetricKind::Rate => "histogram",
        MetricKind::Trend => "summary",
    };
    out.extend(["\n# TYPE ", name, " ", kind, "\n"]);
}

/// The help texts of the extension, letter by letter (two blanks included).
fn help(metric: &str) -> Option<&'static str> {
    Some(match metric {
        "vus" => "Current number of active virtual users",
        "vus_max" => "Max possible number of virtual users",
        "iterations" => "The aggregate number of times the VUs in the test have executed",
        "iteration_duration" => "The time it took to complete one full iteration",
        "dropped_iterations" => "The number of iterations that could not be started",
        "data_received" => "The amount of received data",
        "data_sent" => "The amount of data sent",
        "checks" => "The rate of successful checks",
        "http_reqs" => "How many HTTP requests has k6 generated, in total",
        "http_req_blocked" => "Time spent blocked  before initiating the request",
        "http_req_connecting" => "Time spent establishing TCP connection",
        "http_req_tls_handshaking" => "Time spent handshaking TLS session",
        "http_req_sending" => "Time spent sending data",
        "http_req_waiting" => "Time spent waiting for response",
        "http_req_receiving" => "Time spent receiving response data",
        "http_req_duration" => "Total time for the request",
        "http_req_failed" => "The rate of failed requests",
        _ => return None,
    })
}

/// Tags as labels with legal names; tags with one of the reserved names get another one.
pub(super) fn label_pairs<'a>(tags: &'a TagSet, reserved: &[&str]) -> Vec<(String, &'a str)> {
    let mut pairs: Vec<(String, &str)> = Vec::with_capacity(tags.len() + 1);
    for (key, value) in tags.iter() {
        let mut name = label_name(key, reserved);
        let taken =
            |name: &str| pairs.iter().any(|(taken, _)| taken == name) || tags.get(name).is_some();
        // `a b` and `a_b` are two tags, and must stay two labels: the legal one keeps its name.
        if name != key && taken(&name) {
            name = (2..)
                .map(|number| label_name(&format!("{name}_{number}"), reserved))
                .find(|name| !taken(name))
                .unwrap_or(name);
        }
        pairs.push((name, value));
    }
    pairs.sort();
    pairs
}

fn labels_of(tags: &TagSet) -> Labels {
    // Those that Prometheus adds to the lines of histograms and summaries.
    let mut pairs = label_pairs(tags, &["le", "quantile"]);
    // The extension always has it, and its dashboards select it.
    if !pairs.iter().any(|(name, _)| name == "tls_version") {
        pairs.push(("tls_version".to_owned(), ""));
    }
    pairs.sort();
    let mut labels = Labels {
        printed: String::new(),
        identity: String::new(),
    };
    for (name, value) in &pairs {
        push_label(&mut labels.printed, name, value);
        if !value.is_empty() {
            push_label(&mut labels.identity, name, value);
        }
    }
    labels
}

fn push_label(out: &mut String, name: &str, value: &str) {
    out.push_str(if out.is_empty() { "" } else { "," });
    out.extend([name, "=\""]);
    for character in value.chars() {
        match character {
            '\\' => out.push_str("\\\\"),
            '"' => out.push_str("\\\""),
            '\n' => out.push_str("\\n"),
            other => out.push(other),
        }
    }
    out.push('"');
}

/// A tag's name as a label: `[a-zA-Z_][a-zA-Z0-9_]*`, and none that Prometheus keeps for itself.
fn label_name(tag: &str, reserved: &[&str]) -> String {
    let mut name: String = tag
        .chars()
        .map(|c| if c.is_ascii_alphanumeric() { c } else { '_' })
        .collect();
    if name.is_empty() || name.starts_with(|c: char| c.is_ascii_digit()) {
        name.insert(0, '_');
    }
    if reserved.contains(&name.as_str()) || name.starts_with("__") {
        name.insert_str(0, "tag_");
    }
    name
}

/// The agent's own families: the process, and what was refused.
fn own_families(page: &Page<'_>) -> Vec<(String, Family)> {
    static PROCESS: OnceLock<ProcessCollector> = OnceLock::new();
    let mut families = Vec::new();
    for family in PROCESS.get_or_init(ProcessCollector::for_self).collect() {
        let name = family.name().to_owned();
        // The collector makes no family that the encoder refuses; one less is no reason to fail.
        if let Ok(text) = TextEncoder::new().encode_to_string(&[family]) {
            families.push((name, Family::Text(text)));
        }
    }
    if !page.refused.is_empty() {
        let mut text = format!(
            "# HELP {REFUSED} Negative counter values, which the Prometheus output leaves out\n# TYPE {REFUSED} counter\n"
        );
        let mut refused: Vec<_> = page
            .refused
            .iter()
            .map(|(&metric, &count)| (page.registry.info(metric).name, count))
            .collect();
        refused.sort();
        for (name, count) in refused {
            // Writing to a String cannot fail.
            let _ = writeln!(text, "{REFUSED}{{metric=\"{name}\"}} {count}");
        }
        families.push((REFUSED.to_owned(), Family::Text(text)));
    }
    families
}

#[cfg(test)]
mod tests;
