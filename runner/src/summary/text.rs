//! The end-of-test text.
//!
//! A report is a list of sections, a section a list of elements, and every element but a blank
//! one begins on a new line: that is where k6's runs of empty lines come from. Columns are
//! aligned over each section and each group in it, and a colour never counts as width.

use volley_metrics::{
    Breakdown, Check, MetricSnapshot, Part, Snapshot, TrendSink, ValueType, Values,
};

use super::{
    CheckTotals, SummaryMode, SummaryOptions, TrendStat, base_name, by_name,
    format::{self, TimeUnit},
    is_listed, suffix, trend_columns,
};

/// The text of the summary with the line breaks around it, ready to be printed. Empty when the
/// summary is disabled; `breakdown` has the sections of the full one.
pub(crate) fn render(
    snapshot: &Snapshot,
    breakdown: &Breakdown,
    options: &SummaryOptions,
) -> String {
    if options.mode == SummaryMode::Disabled {
        return String::new();
    }
    let report = Report {
        snapshot,
        columns: trend_columns(options),
        unit: TimeUnit::parse(options.time_unit.as_deref()),
        paint: Paint(options.colors),
        mode: options.mode,
        dots: lines_of(snapshot, breakdown, options.mode) > 1,
    };
    let groups = breakdown.groups.iter();
    let scenarios = breakdown.scenarios.iter();
    let sections = report
        .thresholds()
        .into_iter()
        .chain([report.totals()])
        .chain(groups.map(|group| report.part("GROUP", group)))
        .chain(scenarios.map(|scenario| report.part("SCENARIO", scenario)));
    let mut text = "\n".to_owned();
    for section in sections {
        for element in section.iter().chain([&Element::Blank]) {
            text.push('\n');
            if let Element::Line(line) = element {
                text.push_str(line);
            }
        }
    }
    text.push_str("\n\n");
    text
}

/// How many lines with a metric a report has; two are as good as more.
fn lines_of(snapshot: &Snapshot, breakdown: &Breakdown, mode: SummaryMode) -> usize {
    fn all(parts: &[Part]) -> impl Iterator<Item = &[MetricSnapshot]> {
        parts.iter().map(|part| &*part.metrics)
    }
    let everywhere = std::iter::once(&*snapshot.metrics)
        .chain(all(&breakdown.groups))
        .chain(all(&breakdown.scenarios));
    let lines = |metrics: &[MetricSnapshot]| {
        let listed = metrics.iter().filter(|metric| is_listed(metric, mode));
        listed.count() + CheckTotals::of(metrics).map_or(0, |_| 3)
    };
    everywhere.map(lines).sum()
}

/// What stands left of the lines of a group that is so many groups deep; 0 is a section.
fn indent(level: usize) -> String {
    " ".repeat(4 + 2 * level)
}

/// Metrics and checks that are shown together.
#[derive(Clone, Copy)]
struct Results<'a> {
    metrics: &'a [MetricSnapshot],
    checks: &'a [Check],
    level: usize,
}

/// A part of a section.
enum Element {
    Line(String),
    Blank,
}

/// Terminal colours, or none.
#[derive(Clone, Copy)]
struct Paint(bool);

impl Paint {
    const BOLD: &'static str = "1";
    const RED: &'static str = "31";
    const GREEN: &'static str = "32";
    const CYAN: &'static str = "36";
    const WHITE: &'static str = "37";
    const FAINT_CYAN: &'static str = "2;36";
    const FAINT_WHITE: &'static str = "2;37";

    fn with(self, style: &str, text: &str) -> String {
        if self.0 {
            format!("\x1b[{style}m{text}\x1b[0m")
        } else {
            text.to_owned()
        }
    }

    fn mark(self, ok: bool) -> String {
        if ok {
            self.with(Self::GREEN, "✓")
        } else {
            self.with(Self::RED, "✗")
        }
    }
}

/// The headings among the results, in their order, with the prefixes of the metrics below them.
/// What no other block takes is in the first one.
const BLOCKS: &[(&str, &[&str])] = &[
    ("CUSTOM", &[]),
    (
        "HTTP",
        &[
            "http_reqs",
            "http_req_failed",
            "http_req_duration",
            "http_req_blocked",
            "http_req_connecting",
            "http_req_tls_handshaking",
            "http_req_sending",
            "http_req_waiting",
            "http_req_receiving",
        ],
    ),
    (
        "EXECUTION",
        &[
            "vus",
            "vus_max",
            "iterations",
            "iteration_duration",
            "dropped_iterations",
        ],
    ),
    ("NETWORK", &["data_sent", "data_received"]),
    ("BROWSER", &["browser_"]),
    ("WEB_VITALS", &["browser_web_vital_"]),
    ("GRPC", &["grpc_"]),
    ("WEBSOCKET", &["ws_"]),
];

/// The index of the block that a metric is listed in: the one with the longest prefix of its name.
fn block_of(name: &str) -> usize {
    let matched = |prefixes: &[&str]| {
        prefixes
            .iter()
            .filter(|prefix| name.starts_with(**prefix))
            .map(|prefix| prefix.len())
            .max()
            .unwrap_or(0)
    };
    let longest = BLOCKS
        .iter()
        .enumerate()
        .map(|(index, (_, prefixes))| (matched(prefixes), index));
    longest
        .max_by_key(|(length, index)| (*length, std::cmp::Reverse(*index)))
        .map_or(0, |(_, index)| index)
}

/// A line of values before it is aligned.
struct Row {
    name: String,
    cells: Cells,
}

enum Cells {
    /// One value for each trend column.
    Trend(Vec<String>),
    /// The main value and what explains it.
    Single { main: String, extras: Vec<String> },
}

/// The width of every column of a section.
#[derive(Default)]
struct Widths {
    name: usize,
    main: usize,
    extras: Vec<usize>,
    trend: Vec<usize>,
}

impl Widths {
    fn of<'a>(rows: impl Iterator<Item = &'a Row>) -> Self {
        fn widen(widths: &mut Vec<usize>, cells: &[String]) {
            widths.resize(widths.len().max(cells.len()), 0);
            for (width, cell) in widths.iter_mut().zip(cells) {
                *width = (*width).max(columns(cell));
            }
        }
        let mut all = Self::default();
        for row in rows {
            all.name = all.name.max(columns(&row.name));
            match &row.cells {
                Cells::Trend(cells) => widen(&mut all.trend, cells),
                Cells::Single { main, extras } => {
                    all.main = all.main.max(columns(main));
                    widen(&mut all.extras, extras);
                }
            }
        }
        all
    }
}

fn columns(text: &str) -> usize {
    text.chars().count()
}

fn padding(text: &str, width: usize) -> String {
    " ".repeat(width.saturating_sub(columns(text)))
}

/// One report being written.
struct Report<'a> {
    snapshot: &'a Snapshot,
    columns: Vec<(&'a str, TrendStat)>,
    unit: TimeUnit,
    paint: Paint,
    mode: SummaryMode,
    /// k6 draws no dots in a report of a single metric.
    dots: bool,
}

impl Report<'_> {
    fn title(&self, text: &str) -> Element {
        Element::Line(format!("  █ {} \n", self.paint.with(Paint::BOLD, text)))
    }

    /// The thresholds by metric; nothing if no metric has one.
    fn thresholds(&self) -> Option<Vec<Element>> {
        let mut metrics: Vec<_> = self
            .snapshot
            .metrics
            .iter()
            .filter(|metric| !metric.thresholds.is_empty())
            .collect();
        if metrics.is_empty() {
            return None;
        }
        metrics.sort_by(|a, b| by_name(a, b));
        let mut section = vec![self.title("THRESHOLDS")];
        for metric in &metrics {
            let below_parent = metric
                .parent
                .as_ref()
                .is_some_and(|(parent, _)| metrics.iter().any(|other| other.name == *parent));
            let (indent, name) = if below_parent {
                ("      ", format!("{{{}}}", suffix(metric)))
            } else {
                ("    ", metric.name.to_string())
            };
            section.push(Element::Line(format!("{indent}{name}")));
            for threshold in &metric.thresholds {
                let source = threshold.source.trim();
                let aggregation = source
                    .split(['=', '<', '>'])
                    .next()
                    .unwrap_or_default()
                    .trim();
                section.push(Element::Line(format!(
                    "{indent}{} {} {}{}",
                    self.paint.mark(threshold.ok),
                    self.paint.with(Paint::WHITE, &format!("'{source}'")),
                    self.paint.with(Paint::WHITE, &format!("{aggregation}=")),
                    self.paint
                        .with(Paint::CYAN, &self.aggregate(metric, aggregation)),
                )));
            }
            section.push(Element::Blank);
        }
        Some(section)
    }

    /// The value that a threshold looked at.
    fn aggregate(&self, metric: &MetricSnapshot, aggregation: &str) -> String {
        match &metric.values {
            Values::Trend(sink) => match TrendStat::parse(aggregation) {
                Some(stat @ TrendStat::Percentile(_)) => {
                    self.statistic(sink, stat, metric.contains)
                }
                // As in k6, a statistic that is no column has no value here.
                Some(stat) if self.columns.iter().any(|(_, column)| *column == stat) => {
                    self.statistic(sink, stat, metric.contains)
                }
                _ => String::new(),
            },
            Values::Counter { rate, .. } if aggregation != "count" => {
                self.per_second(*rate, metric)
            }
            _ => self.main_value(metric),
        }
    }

    /// Checks and metrics of the whole run.
    fn totals(&self) -> Vec<Element> {
        let mut section = vec![self.title("TOTAL RESULTS")];
        let results = Results {
            metrics: &self.snapshot.metrics,
            checks: &self.snapshot.checks,
            level: 0,
        };
        self.results(results, &mut section);
        section
    }

    /// A group or a scenario, with the groups in it.
    fn part(&self, kind: &str, part: &Part) -> Vec<Element> {
        let mut section = vec![self.title(&format!("{kind}: {}", part.name))];
        self.part_results(part, 0, &mut section);
        section
    }

    fn part_results(&self, part: &Part, level: usize, section: &mut Vec<Element>) {
        let results = Results {
            metrics: &part.metrics,
            checks: &part.checks,
            level,
        };
        self.results(results, section);
        for group in &part.groups {
            let title = self
                .paint
                .with(Paint::BOLD, &format!("GROUP: {}", group.name));
            section.push(Element::Line(format!("{}↳ {title} \n", indent(level))));
            self.part_results(group, level + 1, section);
        }
    }

    fn results(&self, results: Results<'_>, section: &mut Vec<Element>) {
        let indent = indent(results.level);
        self.checks(results, section);

        let listed = results.metrics.iter();
        let mut metrics: Vec<_> = listed
            .filter(|metric| is_listed(metric, self.mode))
            .collect();
        metrics.sort_by(|a, b| {
            block_of(base_name(a))
                .cmp(&block_of(base_name(b)))
                .then_with(|| by_name(a, b))
        });
        let rows: Vec<_> = metrics.iter().map(|metric| self.row(metric)).collect();
        let widths = Widths::of(rows.iter());
        let mut block = None;
        for (metric, row) in metrics.iter().zip(&rows) {
            let this = block_of(base_name(metric));
            if block != Some(this) {
                if block.is_some() {
                    section.push(Element::Blank);
                }
                block = Some(this);
                let heading = self.paint.with(Paint::BOLD, BLOCKS[this].0);
                section.push(Element::Line(format!("{indent}{heading}")));
            }
            section.push(self.line(row, &widths, &indent));
        }
        if block.is_some() {
            section.push(Element::Blank);
        }
    }

    fn checks(&self, results: Results<'_>, section: &mut Vec<Element>) {
        let Some(totals) = CheckTotals::of(results.metrics) else {
            return;
        };
        let total = totals.total();
        #[expect(
            clippy::cast_precision_loss,
            reason = "a count of samples is far below 2^53"
        )]
        let rate = if self.snapshot.run_seconds > 0.0 {
            total as f64 / self.snapshot.run_seconds
        } else {
            0.0
        };
        let share = |name: &str, part: u64| Row {
            name: name.to_owned(),
            cells: Cells::Single {
                main: format::percent(totals.share(part)),
                extras: vec![format!("{part} out of {total}")],
            },
        };
        let rows = [
            Row {
                name: "checks_total".to_owned(),
                cells: Cells::Single {
                    main: total.to_string(),
                    extras: vec![format::plain(rate) + "/s"],
                },
            },
            share("checks_succeeded", totals.passes),
            share("checks_failed", totals.fails),
        ];
        let widths = Widths::of(rows.iter());
        let indent = indent(results.level);
        section.extend(rows.iter().map(|row| self.line(row, &widths, &indent)));
        section.push(Element::Blank);

        // Deeper than the lines above by two columns, and by twice that for each level: as in k6.
        let detail_indent = " ".repeat(6 + 4 * results.level);
        for check in results.checks {
            if check.fails == 0 {
                let text = self.paint.with(Paint::GREEN, &format!("✓ {}", check.name));
                section.push(Element::Line(format!("{indent}{text}")));
                continue;
            }
            let text = self.paint.with(Paint::RED, &format!("✗ {}", check.name));
            section.push(Element::Line(format!("{indent}{text}")));
            let percent = u128::from(check.passes) * 100 / u128::from(check.passes + check.fails);
            let detail = format!("↳  {percent}% — ✓ {} / ✗ {}", check.passes, check.fails);
            let detail = self.paint.with(Paint::RED, &detail);
            section.push(Element::Line(format!("{detail_indent}{detail}")));
        }
        section.push(Element::Blank);
    }

    fn row(&self, metric: &MetricSnapshot) -> Row {
        let name = match &metric.parent {
            Some((_, suffix)) => format!("  {{ {suffix} }}"),
            None => metric.name.to_string(),
        };
        let cells = match &metric.values {
            Values::Trend(sink) => Cells::Trend(
                self.columns
                    .iter()
                    .map(|(_, stat)| self.statistic(sink, *stat, metric.contains))
                    .collect(),
            ),
            values => Cells::Single {
                main: self.main_value(metric),
                extras: self.extras(metric, values),
            },
        };
        Row { name, cells }
    }

    fn main_value(&self, metric: &MetricSnapshot) -> String {
        match &metric.values {
            Values::Counter { count, .. } => format::value(*count, metric.contains, self.unit),
            Values::Gauge { value, .. } => format::value(*value, metric.contains, self.unit),
            Values::Rate { rate, .. } => format::percent(*rate),
            Values::Trend(_) => String::new(),
        }
    }

    fn extras(&self, metric: &MetricSnapshot, values: &Values) -> Vec<String> {
        match values {
            Values::Counter { rate, .. } => vec![self.per_second(*rate, metric)],
            Values::Gauge { min, max, .. } => vec![
                format!("min={}", format::value(*min, metric.contains, self.unit)),
                format!("max={}", format::value(*max, metric.contains, self.unit)),
            ],
            Values::Rate { passes, fails, .. } => {
                vec![format!("{passes} out of {}", passes + fails)]
            }
            Values::Trend(_) => Vec::new(),
        }
    }

    fn per_second(&self, rate: f64, metric: &MetricSnapshot) -> String {
        format::value(rate, metric.contains, self.unit) + "/s"
    }

    fn statistic(&self, sink: &TrendSink, stat: TrendStat, contains: ValueType) -> String {
        if stat == TrendStat::Count {
            return sink.count().to_string();
        }
        format::value(stat.of(sink), contains, self.unit)
    }

    fn line(&self, row: &Row, widths: &Widths, indent: &str) -> Element {
        let dots = if self.dots {
            ".".repeat(widths.name + 3 - columns(&row.name))
        } else {
            String::new()
        };
        let mut line = format!(
            "{indent}{}{} ",
            row.name,
            self.paint.with(Paint::FAINT_WHITE, &format!("{dots}:"))
        );
        match &row.cells {
            Cells::Trend(cells) => {
                let cells = cells.iter().zip(&self.columns).zip(&widths.trend).map(
                    |((cell, (name, _)), width)| {
                        format!(
                            "{name}={}{}",
                            self.paint.with(Paint::CYAN, cell),
                            padding(cell, *width)
                        )
                    },
                );
                line.push_str(&cells.collect::<Vec<_>>().join(" "));
            }
            Cells::Single { main, extras } => {
                line.push_str(&self.paint.with(Paint::CYAN, main));
                line.push_str(&padding(main, widths.main));
                for (extra, width) in extras.iter().zip(&widths.extras) {
                    line.push(' ');
                    line.push_str(&self.paint.with(Paint::FAINT_CYAN, extra));
                    // One extra has nothing to its right that would need a column.
                    if extras.len() > 1 {
                        line.push_str(&padding(extra, *width));
                    }
                }
            }
        }
        Element::Line(line)
    }
}

#[cfg(test)]
mod tests;
