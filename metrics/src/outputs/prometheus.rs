//! `--out prometheus`: its options, and the page that a scrape gets.
//!
//! Names, types, help texts and labels are those of the k6 extension xk6-prometheus
//! (spec/metrics.md §11), so its dashboards work; but a series keeps all its tags, whatever
//! tags the first sample of the metric had. The page is a pure function of the collected
//! series, written straight into one buffer: a scrape of thousands of lines must not be felt
//! by the load. Only the `process_*` families are read from the system.
//!
//! Quantiles of several instances cannot be added; buckets can. A trend may have histograms, in a
//! family of their own: `_sum` and `_count` of the reference's name are the summary's.

use std::{
    borrow::Cow,
    rc::Rc,
    sync::{Arc, LazyLock, OnceLock},
    time::Duration,
};

use ::prometheus::{
    core::Collector as _, process_collector::ProcessCollector, proto::MetricFamily,
};
use rustc_hash::{FxHashMap, FxHashSet};

use super::exposition::{Bounds, Exposition, FamilyKind, Labels, PageFormat, push_text_label};

use crate::{
    MetricId, MetricKind, Registry, TagSet, TagSetId, TagTable,
    collector::Series,
    format::parse_go_duration,
    series::{SeriesSink, TrendForms, TrendSeries},
};

/// Where and how the page is served.
#[derive(Debug, Clone, PartialEq)]
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
    /// Which series are kept, and how.
    pub series: SeriesOptions,
}

/// Which series are kept for the page, and how.
#[derive(Debug, Clone, PartialEq)]
pub struct SeriesOptions {
    /// What of a trend is kept beside its summary.
    pub trends: TrendForms,
    /// The tags that make series.
    pub labels: LabelFilter,
    /// How many series there may be.
    pub most: usize,
}

impl Default for SeriesOptions {
    fn default() -> Self {
        Self {
            trends: TrendForms::default(),
            labels: LabelFilter::default(),
            most: 100_000,
        }
    }
}

/// Which tags become labels. Series that differ in the others alone are one.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct LabelFilter {
    /// None but these; `None` for all.
    pub only: Option<Vec<String>>,
    /// All but these.
    pub drop: Vec<String>,
}

impl LabelFilter {
    /// Whether every tag becomes a label.
    pub(crate) fn keeps_all(&self) -> bool {
        self.only.is_none() && self.drop.is_empty()
    }

    /// Whether a tag becomes a label; it may be called by the name of either.
    fn keeps(&self, tag: &str, label: &str) -> bool {
        let among = |list: &[String]| list.iter().any(|name| name == tag || name == label);
        self.only.as_deref().is_none_or(among) && !among(&self.drop)
    }
}

/// The bounds of classic histograms, if none are given: for times in milliseconds.
const BUCKETS: [f64; 16] = [
    0.5, 1.0, 2.5, 5.0, 10.0, 25.0, 50.0, 100.0, 250.0, 500.0, 1000.0, 2500.0, 5000.0, 10000.0,
    30000.0, 60000.0,
];
/// So many bounds at most: each is a line for each series of a trend.
const MOST_BUCKETS: usize = 200;

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
            series: SeriesOptions::default(),
        }
    }
}

impl PrometheusOptions {
    /// Parses `namespace=k6&subsystem=&host=&port=5656&linger=auto&trend=summary`, a URL query
    /// whose keys may have any case and may all be left out.
    ///
    /// # Errors
    /// A text that names the unknown key, or the value that does not fit.
    pub fn parse(arg: &str) -> Result<Self, String> {
        let mut options = Self::default();
        let (mut classic, mut buckets) = (false, None);
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
                "trend" => (classic, options.series.trends.native) = trend_forms(&value)?,
                "buckets" => buckets = Some(parse_buckets(&value)?),
                "labels" => {
                    let list = names("labels", &value)?;
                    options.series.labels.only = Some(list).filter(|list| !list.is_empty());
                }
                "drop" => options.series.labels.drop = names("drop", &value)?,
                "max_series" => {
                    let most = value.parse().ok().filter(|&most| most > 0);
                    options.series.most = most.ok_or_else(|| {
                        format!("schema: max_series {value:?} is not a whole number from 1 on")
                    })?;
                }
                _ => {
                    return Err(format!(
                        "schema: unknown key {key:?}, the keys are namespace, subsystem, host, port, linger, trend, \
                         buckets, labels, drop and max_series"
                    ));
                }
            }
        }
        if buckets.is_some() && !classic {
            return Err("schema: buckets are those of classic histograms, which need trend=histogram or trend=both"
                .to_owned());
        }
        options.series.trends.classic =
            classic.then(|| Arc::new(buckets.unwrap_or_else(|| Bounds::new(BUCKETS))));
        Ok(options)
    }

    /// The forms of the page that a scraper may choose from, the best one first. Protocol buffers
    /// are for native histograms alone: by that way Prometheus 2 writes `quantile="1"` as
    /// `quantile="1.0"`, which dashboards of the reference do not select.
    pub fn formats(&self) -> &'static [PageFormat] {
        match self.series.trends.native {
            true => &[PageFormat::Protobuf, PageFormat::Text],
            false => &[PageFormat::Text],
        }
    }

    /// What the run's header calls it: `prometheus (HOST:PORT)`.
    pub fn describe(&self) -> String {
        format!("prometheus ({}:{})", self.host, self.port)
    }
}

/// Whether trends get classic and native histograms.
fn trend_forms(value: &str) -> Result<(bool, bool), String> {
    match value {
        "summary" | "" => Ok((false, false)),
        "histogram" => Ok((true, false)),
        "native" => Ok((false, true)),
        "both" => Ok((true, true)),
        _ => Err(format!(
            "schema: trend {value:?} is none of summary, histogram, native and both"
        )),
    }
}

/// A list of names; empty for none.
fn names(key: &str, value: &str) -> Result<Vec<String>, String> {
    let names: Vec<String> = match value {
        "" => Vec::new(),
        value => value.split(',').map(str::to_owned).collect(),
    };
    match names.iter().any(String::is_empty) {
        true => Err(format!(
            "schema: {key} {value:?} is not a list of names such as url,vu"
        )),
        false => Ok(names),
    }
}

fn parse_buckets(value: &str) -> Result<Bounds, String> {
    let numbers: Option<Vec<f64>> = value.split(',').map(|text| text.parse().ok()).collect();
    let numbers = numbers.filter(|numbers| {
        numbers.len() <= MOST_BUCKETS
            && numbers.iter().all(|number| number.is_finite())
            && numbers.windows(2).all(|pair| pair[0] < pair[1])
    });
    numbers.map(Bounds::new).ok_or_else(|| {
        format!("schema: buckets {value:?} are not rising numbers such as 10,100,1000, {MOST_BUCKETS} at most")
    })
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

/// The family that counts the series that are too many.
pub(crate) const OVERFLOW: &str = "volley_prometheus_overflow_series_total";

/// What a page is made of.
pub(crate) struct Page<'a> {
    pub(crate) registry: &'a Registry,
    pub(crate) tags: &'a TagTable,
    pub(crate) series: &'a [Series],
    pub(crate) options: &'a SeriesOptions,
    /// Negative counter values, by metric.
    pub(crate) refused: &'a FxHashMap<MetricId, u64>,
    /// Series that were too many, by metric.
    pub(crate) overflow: &'a FxHashMap<MetricId, u64>,
    /// The present slice of the quantiles' window.
    pub(crate) slice: i64,
}

/// The labels of a tag set.
struct Named {
    labels: Labels,
    /// Without empty values, which to Prometheus are no labels: equal if the series are one.
    identity: String,
}

/// A series to print: its labels, and all sinks that share them.
struct Line<'a> {
    named: Rc<Named>,
    sink: Cow<'a, SeriesSink>,
}

/// A family to print.
enum Family {
    Metric(MetricId),
    Current(MetricId),
    Histogram(MetricId),
    Process(MetricFamily),
    /// Counts of the page's own, by metric.
    Own(&'static str, Vec<(Arc<str>, u64)>),
}

/// What stands behind the names of a trend's further families, and in their help texts.
const CURRENT: (&str, &str) = ("_current", " (current)");
const HISTOGRAM: (&str, &str) = ("_histogram", " (histogram)");

/// Writes the page: families by name.
pub(crate) fn expose(
    options: &PrometheusOptions,
    page: &Page<'_>,
    format: PageFormat,
) -> Exposition {
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
        if info.kind != MetricKind::Trend {
            continue;
        }
        let mut twin = |suffix: &str, family: Family| {
            let name = format!("{}{suffix}", info.name);
            // A script's own metric of that name goes before the twin.
            if page.registry.lookup(&name).is_none() {
                families.push((exposed(&name), family));
            }
        };
        twin(CURRENT.0, Family::Current(series.metric));
        if page.options.trends.any() {
            twin(HISTOGRAM.0, Family::Histogram(series.metric));
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
    let kept: usize = by_metric.iter().map(Vec::len).sum();
    let mut out = Exposition::with_capacity(format, 4096 + kept * 1000);
    let mut labels: FxHashMap<TagSetId, Rc<Named>> = FxHashMap::default();
    let mut lines: FxHashMap<MetricId, Vec<Line<'_>>> = FxHashMap::default();
    for (name, family) in &families {
        let metric = match family {
            Family::Metric(metric) | Family::Current(metric) | Family::Histogram(metric) => *metric,
            Family::Process(family) => {
                push_process(&mut out, family);
                continue;
            }
            Family::Own(help, counts) => {
                out.family(name, help, FamilyKind::Counter);
                for (metric, count) in counts {
                    let labels = out.labels([("metric", &**metric)]);
                    out.value(&labels, *count as f64);
                }
                continue;
            }
        };
        let info = page.registry.info(metric);
        let lines = lines
            .entry(metric)
            .or_insert_with(|| lines_of(page, &by_metric[metric.index()], &mut labels, &out));
        let (twin, kind) = match (family, info.kind) {
            (Family::Current(_), _) => (CURRENT, FamilyKind::Gauge),
            (Family::Histogram(_), _) => (HISTOGRAM, FamilyKind::Histogram),
            (_, MetricKind::Counter) => (("", ""), FamilyKind::Counter),
            (_, MetricKind::Gauge) => (("", ""), FamilyKind::Gauge),
            (_, MetricKind::Rate) => (("", ""), FamilyKind::Histogram),
            (_, MetricKind::Trend) => (("", ""), FamilyKind::Summary),
        };
        out.family(name, &help_of(&info.name, info.kind, twin), kind);
        for Line { named, sink } in &*lines {
            push_series(&mut out, family, &named.labels, sink, page.slice);
        }
    }
    out
}

/// The series of a metric by their labels; those that Prometheus could not tell apart as one.
fn lines_of<'a>(
    page: &Page<'_>,
    series: &[&'a Series],
    labels: &mut FxHashMap<TagSetId, Rc<Named>>,
    out: &Exposition,
) -> Vec<Line<'a>> {
    let mut lines: Vec<Line<'a>> = Vec::with_capacity(series.len());
    for series in series {
        let Some(sink) = &series.sink else {
            continue;
        };
        let named = labels
            .entry(series.tags)
            .or_insert_with(|| Rc::new(name_labels(&page.tags.get(series.tags), page.options, out)))
            .clone();
        lines.push(Line {
            named,
            sink: Cow::Borrowed(sink),
        });
    }
    lines.sort_by(|one, two| one.named.identity.cmp(&two.named.identity));
    lines.dedup_by(|next, kept| {
        let same = next.named.identity == kept.named.identity;
        if same {
            kept.sink.to_mut().merge(&next.sink);
        }
        same
    });
    lines
}

/// Writes a series as its family wants it.
fn push_series(
    out: &mut Exposition,
    family: &Family,
    labels: &Labels,
    sink: &SeriesSink,
    slice: i64,
) {
    let (trend, histograms) = match sink {
        &SeriesSink::Counter { raised } => return out.value(labels, raised),
        &SeriesSink::Gauge { last, .. } => return out.value(labels, last),
        &SeriesSink::Rate { trues, total, sum } => {
            static NOTHING: LazyLock<Bounds> = LazyLock::new(|| Bounds::new([0.0]));
            return out.histogram(labels, &NOTHING, &[total - trues], sum, total);
        }
        SeriesSink::Trend(trend) => (trend, None),
        SeriesSink::Distribution(trend, histograms) => (trend, Some(histograms)),
    };
    match (family, histograms) {
        (Family::Current(_), _) => out.value(labels, trend.last),
        (Family::Histogram(_), Some(histograms)) => {
            static NONE: LazyLock<Bounds> = LazyLock::new(|| Bounds::new([]));
            let (classic, native) = (histograms.classic.as_ref(), histograms.native.as_ref());
            let bounds = classic.map_or(&*NONE, |classic| &*classic.bounds);
            let below = classic.map_or_else(Vec::new, |classic| classic.below());
            out.any_histogram(labels, bounds, &below, trend.sum, trend.count, native);
        }
        _ => push_summary(out, labels, trend, slice),
    }
}

fn push_summary(out: &mut Exposition, labels: &Labels, trend: &TrendSeries, slice: i64) {
    const QUANTILES: [f64; 4] = [0.5, 0.9, 0.95, 1.0];
    static PRINTED: LazyLock<Bounds> = LazyLock::new(|| Bounds::new(QUANTILES));
    let values = trend.quantiles(QUANTILES, slice);
    out.summary(labels, &PRINTED, &values, trend.sum, trend.count);
}

fn help_of(metric: &str, kind: MetricKind, (twin, suffix): (&str, &str)) -> String {
    match help(metric) {
        Some(help) => format!("{help}{suffix}"),
        None => format!("{metric}{twin} k6 {}{suffix}", kind.as_str()),
    }
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
    let pairs = named_pairs(tags, reserved).into_iter();
    pairs.map(|(name, _, value)| (name, value)).collect()
}

/// The same: label, tag, value.
fn named_pairs<'a>(tags: &'a TagSet, reserved: &[&str]) -> Vec<(String, &'a str, &'a str)> {
    let mut pairs: Vec<(String, &str, &str)> = Vec::with_capacity(tags.len() + 1);
    for (key, value) in tags.iter() {
        let mut name = label_name(key, reserved);
        let taken =
            |name: &str| pairs.iter().any(|(taken, ..)| taken == name) || tags.get(name).is_some();
        // `a b` and `a_b` are two tags, and must stay two labels: the legal one keeps its name.
        if name != key && taken(&name) {
            name = (2..)
                .map(|number| label_name(&format!("{name}_{number}"), reserved))
                .find(|name| !taken(name))
                .unwrap_or(name);
        }
        pairs.push((name, key, value));
    }
    pairs.sort();
    pairs
}

fn page_pairs<'a>(tags: &'a TagSet, filter: &LabelFilter) -> Vec<(String, &'a str)> {
    // Those that Prometheus adds to the lines of histograms and summaries.
    let mut pairs = named_pairs(tags, &["le", "quantile"]);
    // The extension always has it, and its dashboards select it.
    if !pairs.iter().any(|(name, ..)| name == "tls_version") {
        pairs.push(("tls_version".to_owned(), "tls_version", ""));
        pairs.sort();
    }
    pairs
        .into_iter()
        .filter(|(label, tag, _)| filter.keeps(tag, label))
        .map(|(label, _, value)| (label, value))
        .collect()
}

/// What Prometheus tells series of a metric apart by.
pub(crate) fn identity(tags: &TagSet, filter: &LabelFilter) -> String {
    identity_of(&page_pairs(tags, filter))
}

fn identity_of(pairs: &[(String, &str)]) -> String {
    let mut identity = String::new();
    for (name, value) in pairs.iter().filter(|(_, value)| !value.is_empty()) {
        push_text_label(&mut identity, name, value);
    }
    identity
}

fn name_labels(tags: &TagSet, options: &SeriesOptions, out: &Exposition) -> Named {
    let pairs = page_pairs(tags, &options.labels);
    Named {
        labels: out.labels(pairs.iter().map(|(name, value)| (name.as_str(), *value))),
        identity: identity_of(&pairs),
    }
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

/// The agent's own families: the process, what was refused, and what was too many.
fn own_families(page: &Page<'_>) -> Vec<(String, Family)> {
    static PROCESS: OnceLock<ProcessCollector> = OnceLock::new();
    let mut families = Vec::new();
    for family in PROCESS.get_or_init(ProcessCollector::for_self).collect() {
        families.push((family.name().to_owned(), Family::Process(family)));
    }
    let mut own = |name: &str, help, counts: &FxHashMap<MetricId, u64>| {
        if counts.is_empty() {
            return;
        }
        let counts = counts.iter();
        let mut counts: Vec<(Arc<str>, u64)> = counts
            .map(|(&metric, &count)| (page.registry.info(metric).name, count))
            .collect();
        counts.sort();
        families.push((name.to_owned(), Family::Own(help, counts)));
    };
    own(
        REFUSED,
        "Negative counter values, which the Prometheus output leaves out",
        page.refused,
    );
    own(
        OVERFLOW,
        "Series that the Prometheus output leaves out because there are too many",
        page.overflow,
    );
    families
}

/// A family of the process: counters and gauges without labels.
fn push_process(out: &mut Exposition, family: &MetricFamily) {
    use ::prometheus::proto::MetricType;
    let kind = match family.get_field_type() {
        MetricType::COUNTER => FamilyKind::Counter,
        _ => FamilyKind::Gauge,
    };
    out.family(family.name(), family.help(), kind);
    let none = out.labels([]);
    for metric in family.get_metric() {
        let value = match kind {
            FamilyKind::Counter => metric.get_counter().get_value(),
            _ => metric.get_gauge().get_value(),
        };
        out.value(&none, value);
    }
}

#[cfg(test)]
mod tests;
