//! From the script argument to a loaded script: files, archives, standard input.

use std::{
    collections::BTreeMap,
    io::Read,
    path::{Path, PathBuf},
    sync::Arc,
};

use volley_metrics::{Registry, TagTable};
use volley_scripting::{
    Exports, FileWait, Files, Host, Script, ScriptError, ScriptSource, WorkerContext, fetch_script,
    folder_of, join, not_found_text,
};

use crate::{
    archive::Archive,
    cli::{Runtime, ScriptType},
    exit::{Failure, code},
    logging::reason,
    scheduler::script_failure,
};

/// A script that has been found, and the options that came with it.
pub(crate) struct Found {
    /// The argument as given.
    pub(crate) argument: String,
    /// The script; not compiled yet.
    pub(crate) script: Arc<Script>,
    /// The options stored in an archive; they take the place of the script's.
    pub(crate) archived_options: Option<serde_json::Value>,
    /// What `-e` gave, over what an archive stored: what a new archive stores.
    pub(crate) explicit_env: Vec<(String, String)>,
    /// The SHA-256 of the script, in hexadecimal: of the file, also out of an archive.
    pub(crate) sha256: String,
    /// How its files were waited for.
    wait: Arc<FileWait>,
}

impl Found {
    /// The start of k6's messages about a script that cannot be used.
    pub(crate) fn prefix(&self) -> String {
        format!(
            "could not initialize '{}': could not load JS test '{}': ",
            self.argument,
            self.script.url()
        )
    }

    /// Adds to a failure which file was missing, and what is there in its place.
    fn name_missing(&self, failure: Failure) -> Failure {
        let Some(path) = self.script.files().last_missing() else {
            return failure;
        };
        // The words of k6 for an import name the specifier alone, all others the path.
        let import = failure.text.contains("couldn't be found on local disk");
        if !import && !failure.text.contains(&*path.to_string_lossy()) {
            return failure;
        }
        let account = account_of(&path, &self.wait);
        failure.with("missing", account)
    }
}

/// Finds the script that `argument` names; a file that is missing is waited for.
///
/// # Errors
/// When there is nothing of that name, or it is not what `--type` says.
pub(crate) fn find(
    argument: &str,
    runtime: &Runtime,
    system_env: &[(String, String)],
    wait: &Arc<FileWait>,
) -> Result<Found, Failure> {
    let (url, pwd, content) = read(argument, runtime.offline, wait)?;
    let looks_like_archive = is_tar(&content);
    let archive = match runtime.script_type {
        Some(ScriptType::Js) => false,
        Some(ScriptType::Archive) => true,
        None => looks_like_archive,
    };
    let mut env: BTreeMap<String, String> = BTreeMap::new();
    let mut explicit: BTreeMap<String, String> = BTreeMap::new();
    let source = if archive {
        let archive = Archive::read(&content).map_err(|text| {
            Failure::new(
                code::OTHER,
                format!("could not read the archive '{argument}': {text}"),
            )
        })?;
        explicit.extend(archive.env.clone());
        env.extend(archive.env.clone());
        let options = archive.options.clone();
        let source = ScriptSource {
            url: archive.filename.clone(),
            // Relative paths start at the script's own folder, also for one from standard input.
            pwd: folder_of(&archive.filename).to_owned(),
            code: archive.data.clone(),
            files: Files::archive(archive.files),
            env: Vec::new(),
            extended: runtime.extended(),
        };
        (source, Some(options))
    } else {
        let source = ScriptSource {
            url,
            pwd,
            code: content.into(),
            files: Files::disk(wait.clone()).offline(runtime.offline),
            env: Vec::new(),
            extended: runtime.extended(),
        };
        (source, None)
    };
    let (mut source, archived_options) = source;
    if runtime.include_system_env_vars {
        env.extend(system_env.iter().cloned());
    }
    env.extend(runtime.env.iter().cloned());
    explicit.extend(runtime.env.iter().cloned());
    source.env = env.into_iter().collect();
    Ok(Found {
        argument: argument.to_owned(),
        sha256: sha256(&source.code),
        script: Script::new(source),
        archived_options,
        explicit_env: explicit.into_iter().collect(),
        wait: wait.clone(),
    })
}

/// A script that is part of the program.
pub(crate) fn embedded(name: &str, text: &str, env: Vec<(String, String)>) -> Found {
    let source = ScriptSource {
        url: format!("file:///{name}"),
        pwd: "file:///".to_owned(),
        code: text.as_bytes().into(),
        files: Files::archive(BTreeMap::new()),
        env,
        extended: true,
    };
    Found {
        argument: name.to_owned(),
        sha256: sha256(&source.code),
        script: Script::new(source),
        archived_options: None,
        explicit_env: Vec::new(),
        wait: Arc::new(FileWait::none()),
    }
}

fn sha256(script: &[u8]) -> String {
    let digest = ring::digest::digest(&ring::digest::SHA256, script);
    let bytes = digest.as_ref().iter();
    bytes.map(|byte| format!("{byte:02x}")).collect()
}

/// Runs the top level of a script once: finds its exports, compiles its modules, reads its files.
///
/// # Errors
/// What k6 says of a script that cannot be used, with its exit code.
pub(super) fn first_init(
    found: &Found,
    registry: &Arc<Registry>,
    tags: &Arc<TagTable>,
    host: Arc<dyn Host>,
) -> Result<Exports, Failure> {
    let (script, registry, tags) = (found.script.clone(), registry.clone(), tags.clone());
    // A thread of its own, like a worker's: the caller's may have a runtime already.
    let loading = std::thread::Builder::new()
        .name("volley-init".to_owned())
        .spawn(move || {
            let runtime = tokio::runtime::Builder::new_current_thread()
                .enable_all()
                .build()?;
            let load = async {
                let worker = WorkerContext::new(registry, tags, false);
                script.load(worker, host).await
            };
            Ok(tokio::task::LocalSet::new().block_on(&runtime, load))
        });
    let loaded: std::io::Result<Result<Exports, ScriptError>> = loading.and_then(|thread| {
        thread
            .join()
            .unwrap_or_else(|_| Err(std::io::Error::other("loading the script panicked")))
    });
    let loaded = loaded.map_err(|e| Failure::new(code::PANIC, format!("{}{e}", found.prefix())))?;
    loaded.map_err(|error| {
        let mut failure = script_failure(&error);
        // An exception is told by its stack alone.
        if !matches!(error, ScriptError::Exception(_)) {
            failure.text.insert_str(0, &found.prefix());
        }
        found.name_missing(failure)
    })
}

/// URL of the script, URL of the folder that paths start from, content.
fn read(
    argument: &str,
    offline: bool,
    wait: &FileWait,
) -> Result<(String, String, Vec<u8>), Failure> {
    let cwd = std::env::current_dir().unwrap_or_else(|_| PathBuf::from("/"));
    let cwd = format!("file://{}", cwd.display());
    if argument == "-" {
        let mut content = Vec::new();
        std::io::stdin()
            .lock()
            .read_to_end(&mut content)
            .map_err(|error| {
                Failure::new(
                    code::OTHER,
                    format!(
                        "could not read the script from standard input: {}",
                        reason(&error)
                    ),
                )
            })?;
        return Ok(("file:///-".to_owned(), cwd, content));
    }
    if argument.starts_with("https://") || argument.starts_with("http://") {
        if offline {
            let text = format!("with --offline nothing is fetched: not the script '{argument}'");
            return Err(Failure::new(code::OTHER, text));
        }
        let (url, content) = fetch(argument).map_err(|text| Failure::new(code::OTHER, text))?;
        let pwd = folder_of(&url).to_owned();
        return Ok((url, pwd, content));
    }
    let url = join(&cwd, argument);
    let path = Path::new(url.trim_start_matches("file://"));
    match wait.patiently(path, || std::fs::read(path)) {
        Ok(content) => Ok((url.clone(), folder_of(&url).to_owned(), content)),
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => Err(Failure::new(
            code::OTHER,
            format!("{} ({})", not_found_text(argument), account_of(path, wait)),
        )),
        Err(error) => Err(Failure::new(
            code::OTHER,
            format!(
                "could not read the script '{argument}' ({}): {}",
                path.display(),
                reason(&error)
            ),
        )),
    }
}

/// A script from the web.
fn fetch(argument: &str) -> Result<(String, Vec<u8>), String> {
    // A thread of its own, like the first init's: the caller's may have a runtime already.
    let fetching = std::thread::scope(|scope| {
        let thread = scope.spawn(|| {
            let runtime = tokio::runtime::Builder::new_current_thread()
                .enable_all()
                .build()?;
            Ok(runtime.block_on(fetch_script(argument)))
        });
        thread
            .join()
            .unwrap_or_else(|_| Err(std::io::Error::other("fetching the script panicked")))
    });
    fetching.unwrap_or_else(|error| Err(format!("{argument}: {}", reason(&error))))
}

/// A missing file, how long it was waited for, and what the nearest existing folder holds.
fn account_of(missing: &Path, wait: &FileWait) -> String {
    let mut account = format!("{} is not there", missing.display());
    let waited = wait.waited();
    if !waited.is_zero() {
        account.push_str(&format!(
            " after a wait of {} s",
            (waited.as_secs_f64() * 10.0).round() / 10.0
        ));
    }
    account + &neighbours(missing)
}

/// What the nearest existing folder of a missing file holds.
fn neighbours(missing: &Path) -> String {
    let mut folder = missing.parent();
    while let Some(candidate) = folder {
        if let Ok(entries) = std::fs::read_dir(candidate) {
            let mut names: Vec<String> = entries
                .filter_map(Result::ok)
                .map(|entry| {
                    let mut name = entry.file_name().to_string_lossy().into_owned();
                    if entry.file_type().is_ok_and(|t| t.is_dir()) {
                        name.push('/');
                    }
                    name
                })
                .collect();
            names.sort();
            let more = names.len().saturating_sub(20);
            names.truncate(20);
            let mut list = names.join(", ");
            if list.is_empty() {
                list.push_str("nothing");
            }
            if more > 0 {
                list.push_str(&format!(" and {more} more"));
            }
            return format!("; {} holds: {list}", candidate.display());
        }
        folder = candidate.parent();
    }
    String::new()
}

/// Whether the content starts with a tar header: its checksum decides.
fn is_tar(content: &[u8]) -> bool {
    let Some(header) = content.get(..512) else {
        return false;
    };
    let stored = std::str::from_utf8(&header[148..156])
        .ok()
        .and_then(|text| u32::from_str_radix(text.trim_matches(['\0', ' ']), 8).ok());
    let sum: u32 = header
        .iter()
        .enumerate()
        .map(|(at, byte)| {
            if (148..156).contains(&at) {
                32
            } else {
                u32::from(*byte)
            }
        })
        .sum();
    stored == Some(sum) && header[0] != 0
}

#[cfg(test)]
mod tests {
    use std::{path::Path, time::Duration};

    use volley_scripting::FileWait;

    use super::{account_of, is_tar};

    #[test]
    fn tars_are_told_from_scripts() {
        let mut builder = tar::Builder::new(Vec::new());
        let mut header = tar::Header::new_gnu();
        header.set_size(2);
        header.set_cksum();
        builder
            .append_data(&mut header, "data", &b"hi"[..])
            .unwrap();
        assert!(is_tar(&builder.into_inner().unwrap()));
        assert!(!is_tar(&[b' '; 1024]));
        assert!(!is_tar(&[0; 1024]));
        assert!(!is_tar(b"export default () => 1"));
    }

    #[test]
    fn a_missing_script_names_its_neighbours() {
        let folder = tempfile::tempdir().unwrap();
        std::fs::write(folder.path().join("b.js"), "").unwrap();
        std::fs::create_dir(folder.path().join("a")).unwrap();
        let missing = folder.path().join("no/such.js");
        let text = account_of(&missing, &FileWait::none());
        let (path, folder) = (missing.display(), folder.path().display());
        assert_eq!(
            text,
            format!("{path} is not there; {folder} holds: a/, b.js")
        );

        let short = FileWait::new(Duration::ZERO, Duration::from_millis(100));
        let missing = Path::new("/no-such-folder/a.js");
        short
            .patiently(missing, || std::fs::read(missing))
            .unwrap_err();
        let text = account_of(missing, &short);
        let begin = "/no-such-folder/a.js is not there after a wait of 0.1 s; / holds: ";
        assert!(text.starts_with(begin), "{text}");
    }
}
