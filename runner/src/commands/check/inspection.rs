//! The top level of a script, run by `inspect` in a process of its own.

use std::{
    io::Read,
    path::Path,
    process::{Command, Stdio},
    time::{Duration, Instant},
};

use serde_json::Value;

use super::report::{Finding, Verdict};
use crate::{
    exit::{Failure, code},
    logging::reason,
};

/// How long a top level may take.
const LIMIT: Duration = Duration::from_secs(60);
/// Between two looks whether it has ended.
const PAUSE: Duration = Duration::from_millis(5);

/// What came of it.
pub(super) struct Inspection {
    /// The VUs that a run will have, and how long it will take; `None` when it cannot start.
    pub(super) max_vus: Option<i64>,
    pub(super) duration: Option<String>,
    options: Value,
    /// Lines of the log, as objects.
    log: Vec<Value>,
    /// Why it failed, where the log does not tell.
    failure: Option<String>,
}

/// Runs `inspect` on a script.
///
/// # Errors
/// When the system refuses a process.
pub(super) fn inspect(path: &Path, env: &[(String, String)]) -> Result<Inspection, Failure> {
    let refused = |error: std::io::Error| {
        let text = format!("the system refuses a process: {}", reason(&error));
        Failure::new(code::OTHER, text)
    };
    let program = std::env::current_exe().map_err(refused)?;
    let mut command = Command::new(program);
    command
        .args(["inspect", "--execution-requirements", "--offline"])
        .args(["--log-output=stderr", "--log-format=json"])
        // Nothing appears while it is looked for.
        .env("VOLLEY_FILE_WAIT", "0");
    for (name, value) in env {
        command.arg("-e").arg(format!("{name}={value}"));
    }
    let mut child = command
        .arg("--")
        .arg(path)
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .map_err(refused)?;
    let read = |stream: Option<Box<dyn Read + Send>>| {
        std::thread::spawn(move || {
            let mut bytes = Vec::new();
            if let Some(mut stream) = stream {
                // What could be read is what there is to tell.
                let _ = stream.read_to_end(&mut bytes);
            }
            bytes
        })
    };
    let stdout = read(child.stdout.take().map(|it| Box::new(it) as _));
    let stderr = read(child.stderr.take().map(|it| Box::new(it) as _));
    let end = Instant::now() + LIMIT;
    let mut failure = None;
    let status = loop {
        if let Some(status) = child.try_wait().map_err(refused)? {
            break status;
        }
        if Instant::now() >= end {
            failure = Some(format!(
                "its top level has not ended after {} s",
                LIMIT.as_secs()
            ));
            // It may have ended just now.
            let _ = child.kill();
            break child.wait().map_err(refused)?;
        }
        std::thread::sleep(PAUSE);
    };
    let text = |thread: std::thread::JoinHandle<Vec<u8>>| {
        String::from_utf8_lossy(&thread.join().unwrap_or_default()).into_owned()
    };
    let (stdout, stderr) = (text(stdout), text(stderr));
    let log: Vec<Value> = stderr
        .lines()
        .filter_map(|line| serde_json::from_str(line).ok())
        .collect();
    let told = log.iter().any(|line| line["level"] == "error");
    if !status.success() && !told && failure.is_none() {
        failure = Some(format!("its top level ended the process: {status}"));
    }
    let options: Value = serde_json::from_str(&stdout).unwrap_or_default();
    Ok(Inspection {
        max_vus: options["maxVUs"].as_i64(),
        duration: options["totalDuration"].as_str().map(str::to_owned),
        options,
        log,
        failure,
    })
}

/// Parts of options that have no effect here, or mean something that is not there.
const OPTIONS: &[(&str, Verdict, &str)] = &[
    (
        "cloud",
        Verdict::Runs,
        "the option cloud is ignored: there is no cloud",
    ),
    (
        "ext",
        Verdict::Runs,
        "the option ext is ignored: there is no cloud",
    ),
];

impl Inspection {
    /// What it found, in the words of a run; `name_of` shortens paths.
    pub(super) fn findings(
        &self,
        script: &Path,
        name_of: &dyn Fn(&Path) -> String,
    ) -> Vec<Finding> {
        let of_script = |line, verdict, text: String| Finding {
            file: name_of(script),
            line,
            verdict,
            text,
        };
        let text = std::fs::read_to_string(script).unwrap_or_default();
        let mut findings: Vec<Finding> = self
            .failure
            .iter()
            .map(|text| of_script(None, Verdict::Change, text.clone()))
            .collect();
        for line in &self.log {
            if line["source"] == "console" {
                continue;
            }
            let message = line["msg"].as_str().unwrap_or_default();
            match line["level"].as_str() {
                Some("error") => {
                    let (place, words) = placed(message, script);
                    let (file, line_number) = place
                        .map_or((name_of(script), None), |(path, line)| {
                            (name_of(Path::new(&path)), Some(line))
                        });
                    let mut words = words;
                    if let Some(missing) = line["missing"].as_str() {
                        words = format!("{words} ({missing})");
                    }
                    findings.push(Finding {
                        file,
                        line: line_number,
                        verdict: Verdict::Change,
                        text: words,
                    });
                }
                Some("warning") if is_known_by_text(message) => {}
                Some("warning") => {
                    let error = line["error"].as_str().unwrap_or_default();
                    let key = error.rsplit('"').nth(1).unwrap_or_default();
                    let words = match error {
                        "" => message.to_owned(),
                        error => format!("{message}: {error}"),
                    };
                    findings.push(of_script(line_of_key(&text, key), Verdict::Runs, words));
                }
                _ => {}
            }
        }
        for (key, verdict, words) in OPTIONS {
            if !self.options[*key].is_null() {
                findings.push(of_script(
                    line_of_key(&text, key),
                    *verdict,
                    (*words).to_owned(),
                ));
            }
        }
        let scenarios = self.options["scenarios"].as_object().into_iter().flatten();
        for (name, scenario) in scenarios {
            if !scenario["options"]["browser"].is_null() {
                let words = format!("the scenario {name} asks for a browser, and there is none");
                let line = line_of_key(&text, "browser");
                findings.push(of_script(line, Verdict::Unsupported, words));
            }
        }
        findings
    }
}

/// Warnings about imports, which the texts of the files tell with their lines.
fn is_known_by_text(message: &str) -> bool {
    message.contains("has been graduated") || message.contains("is deprecated and will be removed")
}

/// Takes the place out of a message: of a parse error (`URL: Line 3:4 words`), or the first frame
/// of a stack. Without the preface of a script that cannot be used.
fn placed(message: &str, script: &Path) -> (Option<(String, usize)>, String) {
    let own = format!("file://{}", script.display());
    let words = match message.split_once(&format!("could not load JS test '{own}': ")) {
        Some((_, rest)) => rest,
        None => message,
    };
    let first = words.lines().next().unwrap_or_default();
    if let Some((url, rest)) = first.split_once(": Line ")
        && let Some(path) = url.strip_prefix("file://")
        && let Some((line, rest)) = rest.split_once(':')
        && let Ok(line) = line.parse()
    {
        let words = rest.split_once(' ').map_or(rest, |(_, words)| words);
        return (Some((path.to_owned(), line)), words.to_owned());
    }
    let frame = words.lines().skip(1).find_map(|frame| {
        let (_, at) = frame.split_once("file://")?;
        let end = [".js:", ".ts:", ".cjs:", ".mjs:"]
            .iter()
            .find_map(|end| at.find(end).map(|place| place + end.len() - 1))?;
        let (path, rest) = (at[..end].to_owned(), &at[end + 1..]);
        Some((path, rest.split(':').next()?.parse().ok()?))
    });
    (frame, first.to_owned())
}

/// The first line of a text on which an object has that key.
fn line_of_key(text: &str, key: &str) -> Option<usize> {
    if key.is_empty() {
        return None;
    }
    let has_key = |line: &str| {
        line.match_indices(key).any(|(at, _)| {
            let before = line[..at].chars().next_back();
            let after = line[at + key.len()..].trim_start_matches(['\'', '"']);
            let begins = !before.is_some_and(|c| c.is_alphanumeric() || "_$.".contains(c));
            begins && after.trim_start().starts_with(':')
        })
    };
    text.lines().position(has_key).map(|at| at + 1)
}
