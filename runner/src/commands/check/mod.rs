//! `check`: which scripts of a folder run, and what the others need.
//!
//! Every file is read and looked at without running it, which finds the scripts among the modules,
//! and all imports that cannot be had, with their lines. Then the top level of each script runs as
//! `inspect` runs it, in a process of its own, so that one that hangs or takes all memory is one
//! finding and not the end. Nothing is fetched from the web.

mod inspection;
mod report;

use std::{
    collections::{BTreeMap, BTreeSet},
    fs,
    path::{Path, PathBuf},
};

use volley_scripting::{ImportAdvice, Survey, import_advice, survey};

use self::report::{Finding, Report, ScriptReport, Verdict};
use crate::{
    cli::{self, Command},
    display::print,
    exit::{Failure, code},
    logging::reason,
    outputs::Wanted,
    process::Outside,
};

/// Folders that hold no scripts of the user's.
const PASSED_OVER: &str = "node_modules";

/// Checks a folder; answers whether everything in it runs.
pub(super) fn run(args: &cli::Check, outside: &Outside) -> Result<u8, Failure> {
    let folder = fs::canonicalize(&args.folder).map_err(|error| {
        let text = format!(
            "could not read the folder '{}': {}",
            args.folder,
            reason(&error)
        );
        Failure::new(code::OTHER, text)
    })?;
    let volume = Volume::read(&folder).map_err(|(path, error)| {
        let text = format!("could not read '{}': {}", path.display(), reason(&error));
        Failure::new(code::OTHER, text)
    })?;
    let mut env = args.env.clone();
    let arguments = args.arguments.as_deref().map(check_arguments);
    let arguments = arguments.map(|(findings, more)| {
        env.extend(more);
        findings
    });
    let scripts = volume
        .scripts()
        .map(|path| volume.check(path, &env))
        .collect::<Result<Vec<_>, _>>()?;
    let report = Report {
        modules: volume.sources.len() - volume.scripts().filter(|p| !is_archive(p)).count(),
        scripts,
        arguments: arguments.unwrap_or_default(),
    };
    print(&if args.json {
        report.json()
    } else {
        report.table(outside.screen.colors)
    });
    Ok(if report.is_clean() { 0 } else { code::FINDINGS })
}

/// What `arguments` of a resource say: findings, and what they add to `__ENV`.
fn check_arguments(text: &str) -> (Vec<Finding>, Vec<(String, String)>) {
    let words = text.split_whitespace().map(str::to_owned);
    let line: Vec<String> = ["k6", "run", "script.js"].map(str::to_owned).into();
    let line: Vec<String> = line.into_iter().chain(words).collect();
    let finding = |verdict, text: &str| Finding {
        file: "arguments".to_owned(),
        line: None,
        verdict,
        text: text.to_owned(),
    };
    let run = match cli::parse(&line, &|_| None) {
        Ok(cli::Cli {
            command: Command::Run(run),
            ..
        }) => run,
        Ok(_) => return (Vec::new(), Vec::new()),
        Err(failure) => return (vec![finding(Verdict::Change, &failure.text)], Vec::new()),
    };
    let mut findings = Vec::new();
    if let Err(failure) = Wanted::parse(run.out.as_deref().unwrap_or_default()) {
        findings.push(finding(Verdict::Change, &failure.text));
    }
    if line.iter().any(|word| word.starts_with("--no-summary")) {
        let text = "--no-summary is gone from k6 2: write --summary-mode=disabled";
        findings.push(finding(Verdict::Runs, text));
    }
    (findings, run.runtime.env)
}

/// The files of a folder that may be scripts.
struct Volume {
    folder: PathBuf,
    /// Each file of JavaScript or TypeScript, and what its text says; an error has its line.
    sources: BTreeMap<PathBuf, Result<Survey, (usize, String)>>,
    archives: Vec<PathBuf>,
    /// Files that other files import.
    imported: BTreeSet<PathBuf>,
}

/// What texts say.
#[derive(Default)]
struct Texts {
    findings: Vec<Finding>,
    /// Whether there is an import that cannot be had here.
    blocked: bool,
}

fn url_of(path: &Path) -> String {
    format!("file://{}", path.display())
}

fn path_of(url: &str) -> PathBuf {
    url.trim_start_matches("file://").into()
}

fn is_archive(path: &Path) -> bool {
    path.extension().is_some_and(|extension| extension == "tar")
}

fn is_source(path: &Path) -> bool {
    let known = ["js", "ts", "mjs", "cjs"];
    path.extension()
        .is_some_and(|extension| known.iter().any(|one| extension == *one))
}

type Unreadable = (PathBuf, std::io::Error);

impl Volume {
    /// Reads everything below a folder. Hidden names are passed over: in a volume of a ConfigMap
    /// they are older copies.
    fn read(folder: &Path) -> Result<Self, Unreadable> {
        let mut volume = Self {
            folder: folder.to_owned(),
            sources: BTreeMap::new(),
            archives: Vec::new(),
            imported: BTreeSet::new(),
        };
        let mut seen = BTreeSet::new();
        let mut waiting = vec![folder.to_owned()];
        while let Some(place) = waiting.pop() {
            // Links may lead back to where they came from.
            if !seen.insert(fs::canonicalize(&place).unwrap_or_else(|_| place.clone())) {
                continue;
            }
            for entry in fs::read_dir(&place).map_err(|error| (place.clone(), error))? {
                let path = entry.map_err(|error| (place.clone(), error))?.path();
                let name = path.file_name().unwrap_or_default().to_string_lossy();
                if name.starts_with('.') || name == PASSED_OVER {
                    continue;
                }
                // A link to nothing is no script.
                match fs::metadata(&path) {
                    Ok(data) if data.is_dir() => waiting.push(path),
                    Ok(_) if is_archive(&path) => volume.archives.push(path),
                    Ok(_) if is_source(&path) => {
                        let found = look_at(&path).map_err(|error| (path.clone(), error))?;
                        volume.sources.insert(path, found);
                    }
                    _ => {}
                }
            }
        }
        volume.archives.sort();
        for (path, found) in &volume.sources {
            for (specifier, _) in found.iter().flat_map(|survey| &survey.imports) {
                if let ImportAdvice::File(url) = import_advice(&url_of(path), specifier) {
                    let target = path_of(&url);
                    if target != *path {
                        volume.imported.insert(target);
                    }
                }
            }
        }
        Ok(volume)
    }

    /// What is run: archives, and files that export what is run and that nobody imports. One that
    /// cannot be parsed may be one.
    fn scripts(&self) -> impl Iterator<Item = &PathBuf> {
        let sources = self.sources.iter().filter(|(path, found)| {
            let script = found.as_ref().map_or(true, |survey| survey.is_script);
            script && !self.imported.contains(*path)
        });
        let mut all: Vec<&PathBuf> = sources.map(|(path, _)| path).collect();
        all.extend(&self.archives);
        all.sort();
        all.into_iter()
    }

    fn name_of(&self, path: &Path) -> String {
        let inside = path.strip_prefix(&self.folder).unwrap_or(path);
        inside.display().to_string()
    }

    fn check(&self, path: &Path, env: &[(String, String)]) -> Result<ScriptReport, Failure> {
        let Texts {
            mut findings,
            blocked,
        } = match is_archive(path) {
            true => Texts::default(),
            false => self.look_at_graph(path),
        };
        let inspected = inspection::inspect(path, env)?;
        // What cannot be imported is known from the texts, all of it and with its lines.
        if !blocked {
            findings.extend(inspected.findings(path, &|path| self.name_of(path)));
        }
        findings.dedup();
        Ok(ScriptReport {
            path: self.name_of(path),
            max_vus: inspected.max_vus,
            duration: inspected.duration,
            findings,
        })
    }

    /// Looks at the texts of a script and of all that it imports.
    fn look_at_graph(&self, script: &Path) -> Texts {
        let (mut findings, mut blocked) = (Vec::new(), false);
        let mut seen = BTreeSet::from([script.to_owned()]);
        let mut waiting = vec![script.to_owned()];
        while let Some(path) = waiting.pop() {
            let outside;
            let found = match self.sources.get(&path) {
                Some(found) => found,
                None => match look_at(&path) {
                    Ok(found) => {
                        outside = found;
                        &outside
                    }
                    // The inspection tells that it is missing.
                    Err(_) => continue,
                },
            };
            let mut tell = |line, verdict, text: String| {
                findings.push(Finding {
                    file: self.name_of(&path),
                    line: Some(line),
                    verdict,
                    text,
                });
            };
            let survey = match found {
                Ok(survey) => survey,
                // The inspection tells it in the words of a run.
                Err(_) => continue,
            };
            for (line, text) in &survey.remarks {
                tell(*line, Verdict::Change, text.clone());
            }
            for (specifier, line) in &survey.imports {
                let advice = import_advice(&url_of(&path), specifier);
                blocked |= matches!(
                    advice,
                    ImportAdvice::Removed(_)
                        | ImportAdvice::Unsupported(_)
                        | ImportAdvice::Remote(_)
                );
                match advice {
                    ImportAdvice::Fine => {}
                    ImportAdvice::File(url) => {
                        let target = path_of(&url);
                        if seen.insert(target.clone()) {
                            waiting.push(target);
                        }
                    }
                    ImportAdvice::Former(text) => tell(*line, Verdict::Runs, text),
                    ImportAdvice::Removed(text) => tell(*line, Verdict::Change, text),
                    ImportAdvice::Unsupported(text) => tell(*line, Verdict::Unsupported, text),
                    ImportAdvice::Remote(url) => {
                        let text = format!(
                            "{url} is fetched at each start, and was not for this check: put a \
                             copy beside the script, or look with `inspect`"
                        );
                        tell(*line, Verdict::Unchecked, text);
                    }
                }
            }
        }
        findings.sort_by(|a, b| (&a.file, a.line).cmp(&(&b.file, b.line)));
        Texts { findings, blocked }
    }
}

fn look_at(path: &Path) -> std::io::Result<Result<Survey, (usize, String)>> {
    let content = fs::read(path)?;
    let text = String::from_utf8_lossy(content.strip_prefix(b"\xef\xbb\xbf").unwrap_or(&content));
    Ok(survey(&path.to_string_lossy(), &text))
}
