//! `--result-dir`: the outcome of a run as small files, for workflow engines that take a step's
//! outputs from files, and for CI that shows JUnit reports.
//!
//! Each file is there whole or not at all: it is written beside its place and renamed. What an
//! earlier run left is removed before the start, so that nobody takes it for this one's.

use std::{fmt::Write as _, fs, io, path::PathBuf};

use serde_json::Value;
use volley_metrics::{Group, MetricSnapshot, Snapshot, Values};

use crate::{
    exit::{Failure, code},
    logging::reason,
    summary::data,
};

/// Every file that there may be.
const FILES: [&str; 7] = [
    "exit_code",
    "verdict",
    "http_reqs",
    "http_req_failed",
    "http_req_duration_p95",
    "summary.json",
    "junit.xml",
];

/// A folder for the outcome of a run.
pub(crate) struct ResultDir {
    folder: PathBuf,
}

impl ResultDir {
    /// Makes the folder if need be, and removes what an earlier run left there.
    ///
    /// # Errors
    /// When it cannot be written to.
    pub(crate) fn open(path: &str) -> Result<Self, Failure> {
        let results = Self {
            folder: PathBuf::from(path),
        };
        let prepared = fs::create_dir_all(&results.folder).and_then(|()| {
            for name in FILES {
                match fs::remove_file(results.folder.join(name)) {
                    Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
                    _ => {}
                }
            }
            // Found out now rather than at the end.
            results.write("verdict", "running")
        });
        match prepared {
            Ok(()) => Ok(results),
            Err(error) => Err(Failure::new(
                code::OTHER,
                format!(
                    "--result-dir: '{path}' cannot be written to: {}",
                    reason(&error)
                ),
            )),
        }
    }

    /// Writes the outcome: the exit code, and what was measured, if the run came that far, with
    /// the data that `handleSummary` gets. Answers what could not be written.
    pub(crate) fn save(&self, exit: u8, measured: Option<(&Snapshot, &Value)>) -> Vec<String> {
        let mut files = vec![
            ("exit_code", exit.to_string()),
            ("verdict", verdict(exit).to_owned()),
        ];
        if let Some((snapshot, summary)) = measured {
            files.extend(figures(snapshot));
            files.push(("summary.json", data::indented(summary)));
            files.push(("junit.xml", junit(snapshot)));
        }
        let problem = |name: &str, error: io::Error| {
            let path = self.folder.join(name);
            format!("could not write '{}': {}", path.display(), reason(&error))
        };
        files
            .into_iter()
            .filter_map(|(name, content)| Some(problem(name, self.write(name, &content).err()?)))
            .collect()
    }

    fn write(&self, name: &str, content: &str) -> io::Result<()> {
        let beside = self.folder.join(format!(".{name}.part"));
        fs::write(&beside, content)?;
        fs::rename(&beside, self.folder.join(name))
    }
}

/// An exit code in a word.
fn verdict(exit: u8) -> &'static str {
    match exit {
        0 => "passed",
        code::THRESHOLDS => "thresholds_failed",
        code::MARKED_FAILED => "failed",
        code::STOPPED | code::SIGNAL | code::ABORTED => "aborted",
        _ => "error",
    }
}

/// One value in a file: a workflow takes it as it is.
fn figures(snapshot: &Snapshot) -> Vec<(&'static str, String)> {
    let values = |name: &str| snapshot.metric(name).map(|metric| &metric.values);
    let requests = match values("http_reqs") {
        Some(Values::Counter { count, .. }) => *count,
        _ => 0.0,
    };
    let mut figures = vec![("http_reqs", data::number(requests).to_string())];
    // Without a request there is no share and no time, and 0 would be a claim.
    if let Some(Values::Rate {
        rate,
        passes,
        fails,
    }) = values("http_req_failed")
        && passes + fails > 0
    {
        figures.push(("http_req_failed", data::number(*rate).to_string()));
    }
    if let Some(Values::Trend(sink)) = values("http_req_duration")
        && sink.count() > 0
    {
        let p95 = data::number(sink.percentile(0.95));
        figures.push(("http_req_duration_p95", p95.to_string()));
    }
    figures
}

/// A report that CI systems show: a case for each threshold and each check.
fn junit(snapshot: &Snapshot) -> String {
    let mut thresholds = Suite::new("thresholds");
    for metric in &snapshot.metrics {
        for threshold in &metric.thresholds {
            let failure = (!threshold.ok).then(|| format!("crossed: {}", shown(metric)));
            thresholds.case(&metric.name, &threshold.source, failure);
        }
    }
    let mut checks = Suite::new("checks");
    checks.group(&snapshot.root_group);
    let all = [thresholds, checks];
    let sum = |what: fn(&Suite) -> usize| all.iter().map(what).sum::<usize>();
    let mut text = format!(
        "<?xml version=\"1.0\" encoding=\"UTF-8\"?>\n<testsuites name=\"volley\" tests=\"{}\" \
         failures=\"{}\" time=\"{:.3}\">\n",
        sum(|suite| suite.tests),
        sum(|suite| suite.failures),
        snapshot.run_seconds
    );
    for suite in &all {
        let Suite {
            name,
            tests,
            failures,
            cases,
        } = suite;
        let _ = write!(
            text,
            "  <testsuite name=\"{name}\" tests=\"{tests}\" failures=\"{failures}\">\n{cases}  \
             </testsuite>\n"
        );
    }
    text + "</testsuites>\n"
}

struct Suite {
    name: &'static str,
    tests: usize,
    failures: usize,
    cases: String,
}

impl Suite {
    fn new(name: &'static str) -> Self {
        Self {
            name,
            tests: 0,
            failures: 0,
            cases: String::new(),
        }
    }

    fn case(&mut self, class: &str, name: &str, failure: Option<String>) {
        self.tests += 1;
        let (class, name) = (xml(class), xml(name));
        let _ = write!(
            self.cases,
            "    <testcase classname=\"{class}\" name=\"{name}\""
        );
        match failure {
            None => self.cases.push_str("/>\n"),
            Some(text) => {
                self.failures += 1;
                let _ = writeln!(
                    self.cases,
                    "><failure message=\"{}\"/></testcase>",
                    xml(&text)
                );
            }
        }
    }

    fn group(&mut self, group: &Group) {
        for check in &group.checks {
            let all = check.passes + check.fails;
            let failure = (check.fails > 0).then(|| format!("failed {} of {all}", check.fails));
            let class = match group.path.trim_start_matches(':') {
                "" => "checks",
                path => path,
            };
            self.case(class, &check.name, failure);
        }
        for group in &group.groups {
            self.group(group);
        }
    }
}

/// What a metric came to, for the message of a crossed threshold.
fn shown(metric: &MetricSnapshot) -> String {
    match &metric.values {
        Values::Counter { count, rate } => format!("count={count} rate={rate:.3}/s"),
        Values::Gauge { value, .. } => format!("value={value}"),
        Values::Rate { rate, .. } => format!("rate={rate:.4}"),
        Values::Trend(sink) => format!(
            "avg={:.3} med={:.3} p(95)={:.3} max={:.3}",
            sink.avg(),
            sink.percentile(0.5),
            sink.percentile(0.95),
            sink.max()
        ),
    }
}

/// A text inside an attribute of XML 1.0, which has no way to write most control characters.
fn xml(text: &str) -> String {
    let mut escaped = String::with_capacity(text.len());
    for c in text.chars() {
        match c {
            '<' => escaped.push_str("&lt;"),
            '>' => escaped.push_str("&gt;"),
            '&' => escaped.push_str("&amp;"),
            '"' => escaped.push_str("&quot;"),
            '\t' | '\n' | '\r' => escaped.push(' '),
            c if c.is_control() || matches!(c, '\u{fffe}' | '\u{ffff}') => escaped.push('\u{fffd}'),
            c => escaped.push(c),
        }
    }
    escaped
}

#[cfg(test)]
mod tests {
    use volley_metrics::{Check, MetricKind, ThresholdResult, ValueType};

    use super::*;

    fn snapshot() -> Snapshot {
        let check = |name: &str, fails| Check {
            name: name.to_owned(),
            path: format!("::{name}"),
            passes: 2,
            fails,
        };
        Snapshot {
            metrics: vec![MetricSnapshot {
                name: "http_reqs".into(),
                parent: None,
                kind: MetricKind::Counter,
                contains: ValueType::Default,
                values: Values::Counter {
                    count: 7.0,
                    rate: 3.5,
                },
                thresholds: vec![
                    ThresholdResult {
                        source: "count<5".into(),
                        ok: false,
                    },
                    ThresholdResult {
                        source: "count>5".into(),
                        ok: true,
                    },
                ],
                tainted: Some(true),
            }],
            root_group: Group {
                checks: vec![check("status is \"200\"", 0)],
                groups: vec![Group {
                    name: "a".to_owned(),
                    path: "::a".to_owned(),
                    checks: vec![check("b & c\u{1}", 3)],
                    ..Group::default()
                }],
                ..Group::default()
            },
            checks: Vec::new(),
            run_seconds: 2.0,
        }
    }

    #[test]
    fn the_report_has_a_case_for_each_threshold_and_check() {
        assert_eq!(
            junit(&snapshot()),
            "<?xml version=\"1.0\" encoding=\"UTF-8\"?>\n\
             <testsuites name=\"volley\" tests=\"4\" failures=\"2\" time=\"2.000\">\n  \
             <testsuite name=\"thresholds\" tests=\"2\" failures=\"1\">\n    \
             <testcase classname=\"http_reqs\" name=\"count&lt;5\">\
             <failure message=\"crossed: count=7 rate=3.500/s\"/></testcase>\n    \
             <testcase classname=\"http_reqs\" name=\"count&gt;5\"/>\n  \
             </testsuite>\n  <testsuite name=\"checks\" tests=\"2\" failures=\"1\">\n    \
             <testcase classname=\"checks\" name=\"status is &quot;200&quot;\"/>\n    \
             <testcase classname=\"a\" name=\"b &amp; c\u{fffd}\">\
             <failure message=\"failed 3 of 5\"/></testcase>\n  \
             </testsuite>\n</testsuites>\n"
        );
    }

    #[test]
    fn what_was_not_measured_has_no_file() {
        let folder = tempfile::tempdir().expect("a folder");
        let path = folder.path().join("new/er");
        let read = |name: &str| fs::read_to_string(path.join(name)).ok();
        let results = ResultDir::open(path.to_str().expect("UTF-8")).expect("it is made");
        assert_eq!(read("verdict").as_deref(), Some("running"));
        let summary = serde_json::json!({"metrics": {}});
        assert_eq!(results.save(99, Some((&snapshot(), &summary))), [""; 0]);
        assert_eq!(read("exit_code").as_deref(), Some("99"));
        assert_eq!(read("verdict").as_deref(), Some("thresholds_failed"));
        assert_eq!(read("http_reqs").as_deref(), Some("7"));
        assert_eq!(read("http_req_failed"), None);
        assert_eq!(read("http_req_duration_p95"), None);
        assert!(read("junit.xml").is_some() && read("summary.json").is_some());
        // The next run removes all that, whatever becomes of it.
        let results = ResultDir::open(path.to_str().expect("UTF-8")).expect("it is there");
        assert_eq!(results.save(107, None), [""; 0]);
        assert_eq!(read("verdict").as_deref(), Some("error"));
        let mut left: Vec<_> = fs::read_dir(&path)
            .expect("the folder")
            .map(|entry| entry.expect("an entry").file_name())
            .collect();
        left.sort();
        assert_eq!(left, ["exit_code", "verdict"]);
        let file = path.join("verdict/below");
        let refused = ResultDir::open(file.to_str().expect("UTF-8")).err();
        assert!(
            refused
                .expect("no folder")
                .text
                .contains("cannot be written to")
        );
    }
}
