//! The end-of-test summary: the text on the terminal and the data that scripts and files get.
//!
//! Everything here is a pure function of a [`volley_metrics::Snapshot`]: who prints, writes files
//! or calls `handleSummary` is elsewhere. `text` makes k6's text to the byte, from the number
//! formats in `format` and the order in `collation`; `data` makes the three JSON shapes.

pub(crate) mod data;
pub(crate) mod text;

mod collation;
mod format;

use std::cmp::Ordering;

use volley_metrics::{MetricSnapshot, TrendSink};

/// How much the summary shows (`--summary-mode`).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum SummaryMode {
    /// Totals, without the six phases of a request.
    Compact,
    /// Totals with the phases of a request, and a section for each group and scenario.
    Full,
    /// No summary of any kind: no text, no `handleSummary`, no export. Callers check it.
    Disabled,
}

/// What the user chose about the summary; already validated.
#[derive(Debug, Clone)]
pub(crate) struct SummaryOptions {
    /// Columns of trends: `avg`, `min`, `med`, `max`, `count`, `p(N)`.
    pub(crate) trend_stats: Vec<String>,
    /// `s`, `ms` or `us` for all times; each time in a unit of its own without it.
    pub(crate) time_unit: Option<String>,
    /// Whether to colour the text: stdout is a terminal and nobody said `--no-color`.
    pub(crate) colors: bool,
    /// How much to show.
    pub(crate) mode: SummaryMode,
}

/// One statistic of a trend.
#[derive(Debug, Clone, Copy, PartialEq)]
enum TrendStat {
    Avg,
    Min,
    Med,
    Max,
    Count,
    /// With its quantile, 0 to 1.
    Percentile(f64),
}

impl TrendStat {
    fn parse(text: &str) -> Option<Self> {
        Some(match text {
            "avg" => Self::Avg,
            "min" => Self::Min,
            "med" => Self::Med,
            "max" => Self::Max,
            "count" => Self::Count,
            _ => {
                let percent: f64 = text
                    .strip_prefix("p(")?
                    .strip_suffix(')')?
                    .trim()
                    .parse()
                    .ok()?;
                (0.0..=100.0)
                    .contains(&percent)
                    .then_some(Self::Percentile(percent / 100.0))?
            }
        })
    }

    fn of(self, sink: &TrendSink) -> f64 {
        match self {
            Self::Avg => sink.avg(),
            Self::Min => sink.min(),
            Self::Med => sink.med(),
            Self::Max => sink.max(),
            #[expect(
                clippy::cast_precision_loss,
                reason = "a count of samples is far below 2^53"
            )]
            Self::Count => sink.count() as f64,
            Self::Percentile(quantile) => sink.percentile(quantile),
        }
    }
}

/// The trend columns that exist, under the names the user gave them.
fn trend_columns(options: &SummaryOptions) -> Vec<(&str, TrendStat)> {
    let column = |name: &'_ String| TrendStat::parse(name);
    options
        .trend_stats
        .iter()
        .filter_map(|name| Some((name.as_str(), column(name)?)))
        .collect()
}

/// The name that decides where a metric belongs: a sub-metric belongs with its parent.
fn base_name(metric: &MetricSnapshot) -> &str {
    metric
        .parent
        .as_ref()
        .map_or(&metric.name, |(parent, _)| parent)
}

/// The text between the braces of a sub-metric, empty for a metric.
fn suffix(metric: &MetricSnapshot) -> &str {
    metric.parent.as_ref().map_or("", |(_, suffix)| suffix)
}

/// The order of metrics in a report: by metric, then by sub-metric.
fn by_name(a: &MetricSnapshot, b: &MetricSnapshot) -> Ordering {
    collation::compare(base_name(a), base_name(b))
        .then_with(|| collation::compare(suffix(a), suffix(b)))
}

const PHASES: [&str; 6] = [
    "http_req_blocked",
    "http_req_connecting",
    "http_req_tls_handshaking",
    "http_req_sending",
    "http_req_waiting",
    "http_req_receiving",
];

/// Whether a metric has a line among the results. Checks have a form of their own, the duration
/// of groups is never shown. By prefix, as in k6, so a custom `checks_extra` is hidden too.
fn is_listed(metric: &MetricSnapshot, mode: SummaryMode) -> bool {
    let name = base_name(metric);
    let starts = |prefix: &&str| name.starts_with(*prefix);
    !["checks", "group_duration"].iter().any(starts)
        && (mode != SummaryMode::Compact || !PHASES.iter().any(starts))
}

/// Sums over all checks of a run, a scenario or a group.
#[derive(Debug, Clone, Copy, Default)]
struct CheckTotals {
    passes: u64,
    fails: u64,
}

impl CheckTotals {
    /// From the `checks` metric; nothing if it got no sample.
    fn of(metrics: &[MetricSnapshot]) -> Option<Self> {
        let checks = metrics.iter().find(|metric| &*metric.name == "checks")?;
        match checks.values {
            volley_metrics::Values::Rate { passes, fails, .. } if passes + fails > 0 => {
                Some(Self { passes, fails })
            }
            _ => None,
        }
    }

    fn total(self) -> u64 {
        self.passes + self.fails
    }

    /// The share of `part` in all checks.
    #[expect(
        clippy::cast_precision_loss,
        reason = "a count of samples is far below 2^53"
    )]
    fn share(self, part: u64) -> f64 {
        if self.total() == 0 {
            0.0
        } else {
            part as f64 / self.total() as f64
        }
    }
}

#[cfg(test)]
mod fixture;
