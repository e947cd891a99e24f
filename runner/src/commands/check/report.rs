//! What `check` has to say: a table for people, JSON for programs.

use serde::Serialize;
use serde_json::json;

use crate::progress::Colors;

/// What becomes of a script, from the best to the worst.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "lowercase")]
pub(super) enum Verdict {
    /// It runs; a finding of this kind is good to know.
    Runs,
    /// It needs something from the web, which was not fetched.
    Unchecked,
    /// It does not start until something is changed.
    Change,
    /// It uses what this program has not.
    Unsupported,
}

/// Every verdict with its words for one script and for several, and its colour on a terminal (SGR).
const WORDS: [(Verdict, &str, &str, &str, u8); 4] = [
    (Verdict::Runs, "runs", "runs", "run", 32),
    (
        Verdict::Change,
        "needs a change",
        "needs a change",
        "need a change",
        33,
    ),
    (
        Verdict::Unsupported,
        "unsupported",
        "uses something unsupported",
        "use something unsupported",
        31,
    ),
    (
        Verdict::Unchecked,
        "unchecked",
        "could not be checked",
        "could not be checked",
        36,
    ),
];

impl Verdict {
    fn words(self) -> &'static (Self, &'static str, &'static str, &'static str, u8) {
        let mut all = WORDS.iter();
        all.find(|(verdict, ..)| *verdict == self)
            .unwrap_or(&WORDS[0])
    }
}

/// One thing about a script.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub(super) struct Finding {
    /// The file, relative to the folder that was checked.
    pub(super) file: String,
    /// From 1; `null` where there is no such place.
    pub(super) line: Option<usize>,
    /// What it means for the script.
    #[serde(rename = "kind")]
    pub(super) verdict: Verdict,
    /// What it is, and what to do.
    pub(super) text: String,
}

/// A script and what was found.
#[derive(Debug)]
pub(super) struct ScriptReport {
    /// Relative to the folder that was checked.
    pub(super) path: String,
    /// The VUs that a run will have; `None` when it cannot start.
    pub(super) max_vus: Option<i64>,
    /// How long it will take at most.
    pub(super) duration: Option<String>,
    /// In their order.
    pub(super) findings: Vec<Finding>,
}

impl ScriptReport {
    fn verdict(&self) -> Verdict {
        let worst = self.findings.iter().map(|finding| finding.verdict).max();
        worst.unwrap_or(Verdict::Runs)
    }
}

/// All of it.
pub(super) struct Report {
    pub(super) scripts: Vec<ScriptReport>,
    /// About the arguments of the resource.
    pub(super) arguments: Vec<Finding>,
    /// Files that are no scripts themselves.
    pub(super) modules: usize,
}

impl Report {
    /// Whether everything runs as it is.
    pub(super) fn is_clean(&self) -> bool {
        let runs = |finding: &Finding| finding.verdict == Verdict::Runs;
        self.scripts
            .iter()
            .all(|script| script.verdict() == Verdict::Runs)
            && self.arguments.iter().all(runs)
    }

    /// One object.
    pub(super) fn json(&self) -> String {
        let scripts: Vec<serde_json::Value> = self
            .scripts
            .iter()
            .map(|script| {
                json!({
                    "path": script.path,
                    "verdict": script.verdict(),
                    "maxVUs": script.max_vus,
                    "totalDuration": script.duration,
                    "findings": script.findings,
                })
            })
            .collect();
        let report = json!({
            "scripts": scripts,
            "arguments": self.arguments,
            "modules": self.modules,
        });
        format!("{report:#}\n")
    }

    /// One line for each script, below it one for each finding, and the numbers at the end.
    pub(super) fn table(&self, colors: Colors) -> String {
        let mut table = String::new();
        let mut row = |verdict: Verdict, name: &str, about: &str, findings: &[Finding]| {
            let (_, words, _, _, color) = verdict.words();
            let words = format!("{words:<15}");
            let words = match colors {
                Colors::None => words,
                _ => format!("\x1b[{color}m{words}\x1b[0m"),
            };
            table.push_str(format!("{words} {name}{about}").trim_end());
            table.push('\n');
            for finding in findings {
                let line = finding
                    .line
                    .map_or_else(String::new, |line| format!(":{line}"));
                let text = finding.text.trim_end().replace('\n', "\n        ");
                table.push_str(&format!("    {}{line}: {text}\n", finding.file));
            }
        };
        for script in &self.scripts {
            let vus = script.max_vus.map(|vus| match vus {
                1 => "1 VU".to_owned(),
                vus => format!("{vus} VUs"),
            });
            let duration = script.duration.iter().map(|it| format!("at most {it}"));
            let about: Vec<String> = vus.into_iter().chain(duration).collect();
            let about = match about.is_empty() {
                true => String::new(),
                false => format!("  ({})", about.join(", ")),
            };
            row(script.verdict(), &script.path, &about, &script.findings);
        }
        let worst = self.arguments.iter().map(|finding| finding.verdict).max();
        if let Some(worst) = worst {
            row(worst, "the arguments", "", &self.arguments);
        }
        table.push_str(&self.numbers());
        table
    }

    fn numbers(&self) -> String {
        let several = |count: usize, one: &str| match count {
            1 => format!("1 {one}"),
            count => format!("{count} {one}s"),
        };
        let mut parts = Vec::new();
        for (verdict, _, one, more, _) in &WORDS {
            let count = self
                .scripts
                .iter()
                .filter(|s| s.verdict() == *verdict)
                .count();
            match count {
                0 => {}
                1 => parts.push(format!("1 {one}")),
                count => parts.push(format!("{count} {more}")),
            }
        }
        let parts = match parts.is_empty() {
            true => String::new(),
            false => format!(": {}", parts.join(", ")),
        };
        format!(
            "\n{}{parts}; {}\n",
            several(self.scripts.len(), "script"),
            several(self.modules, "module")
        )
    }
}
