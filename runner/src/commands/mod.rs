//! One file for each command, and what they have in common: a script that is loaded, and options
//! that are merged from everywhere.

mod archive;
mod check;
mod demo;
mod inspect;
mod load;
mod remote;
mod run;
mod version;

use std::{sync::Arc, time::Duration};

use volley_metrics::{Registry, TagTable, ThresholdSpec, Thresholds};
use volley_scripting::{Exports, FileWait, Host};

use crate::{
    cli::{Cli, Command, Runtime},
    display::print,
    duration::GoDuration,
    exit::{Failure, code},
    logging::Level,
    options::{self, ConfigFile, Layers, Options, Resolved, Warning},
    process::Outside,
    state::RunState,
};
use load::Found;

/// The sub-metric that every run has whose samples say which responses were expected.
const EXPECTED: &str = "http_req_duration{expected_response:true}";

/// How long missing files are waited for, in place of [`NETWORK_WAIT`] and [`LOCAL_WAIT`].
const FILE_WAIT: &str = "VOLLEY_FILE_WAIT";
/// As long as clients of NFS remember that a name was missing.
const NETWORK_WAIT: Duration = Duration::from_secs(60);
/// For a mount that is still being set up.
const LOCAL_WAIT: Duration = Duration::from_secs(1);

/// Runs a command; answers the exit code.
///
/// # Errors
/// Why it failed: the last line of the log.
pub(crate) fn dispatch(cli: Cli, outside: &Outside) -> Result<u8, Failure> {
    match cli.command {
        Command::Run(run) => run::run(&run, outside, load::find),
        Command::Demo(run) => demo::run(*run, outside),
        Command::Archive(archive) => archive::run(&archive, outside).map(|()| 0),
        Command::Inspect(inspect) => inspect::run(&inspect, outside).map(|()| 0),
        Command::Check(check) => check::run(&check, outside),
        Command::Version { json } => {
            print(&version::text(json));
            Ok(0)
        }
        Command::Remote(remote) => remote::run(&remote, outside).map(|()| 0),
        Command::Help(text) => {
            print(&text);
            Ok(0)
        }
    }
}

/// A script after its first init.
struct Loaded {
    found: Found,
    exports: Exports,
    registry: Arc<Registry>,
    tags: Arc<TagTable>,
}

impl Loaded {
    /// Finds a script and runs its top level once.
    fn load(found: Found, state: &Arc<RunState>) -> Result<Self, Failure> {
        let (registry, tags) = (Arc::new(Registry::new()), Arc::new(TagTable::new()));
        let host: Arc<dyn Host> = state.clone();
        let exports = load::first_init(&found, &registry, &tags, host);
        let exports = match exports {
            Ok(exports) => exports,
            // `exec.test.abort()` at the top level: the reason has come by way of the host.
            Err(failure) => return Err(state.abort_reason().unwrap_or(failure)),
        };
        Ok(Self {
            found,
            exports,
            registry,
            tags,
        })
    }

    /// The layer of options that the script exports, or that the archive stores.
    fn script_options(&self) -> Result<(Options, Vec<Warning>), Failure> {
        let json = match &self.found.archived_options {
            Some(stored) => stored.clone(),
            None => self.exports.options.clone().unwrap_or_default(),
        };
        Options::from_script(&json).map_err(|mut error| {
            error.text.insert_str(0, &self.found.prefix());
            error.into()
        })
    }

    /// Merges the layers, and checks what comes out.
    fn consolidate(
        &self,
        outside: &Outside,
        file: Options,
        cli: Options,
        merge_tags: bool,
    ) -> Result<Consolidated, Failure> {
        let env = |name: &str| outside.var(name);
        let (script, mut warnings) = self.script_options()?;
        let layers = Layers {
            file,
            script,
            env: options::from_env(&env)?,
            cli,
            merge_tags,
        };
        let (merged, more) = options::merge(layers);
        warnings.extend(more);
        let resolved = options::resolve(merged, &|name| self.exports.has(name))?;
        warnings.extend(resolved.warnings.iter().cloned());
        for warning in &warnings {
            warn(outside, warning);
        }
        Ok(Consolidated { resolved })
    }
}

/// Options that were merged and checked.
struct Consolidated {
    resolved: Resolved,
}

impl Consolidated {
    /// The thresholds, checked against the metrics that the script has made.
    fn thresholds(
        &self,
        runtime: &Runtime,
        registry: &Registry,
        outside: &Outside,
    ) -> Result<Thresholds, Failure> {
        let given = self.resolved.options.thresholds.clone().unwrap_or_default();
        if runtime.no_thresholds {
            let keys: Vec<&String> = given.keys().collect();
            let (thresholds, warnings) = Thresholds::submetrics_only(&keys, registry);
            for text in warnings {
                outside.logger.log(Level::Warning, &text, &[]);
            }
            return Ok(thresholds);
        }
        let list: Vec<(String, Vec<ThresholdSpec>)> = given
            .into_iter()
            .map(|(metric, specs)| {
                let specs = specs.into_iter().map(|spec| ThresholdSpec {
                    source: spec.source,
                    abort_on_fail: spec.abort_on_fail,
                    delay_abort_eval: spec.delay_abort_eval.map(|delay| delay.to_std()),
                });
                (metric, specs.collect())
            })
            .collect();
        let invalid = |error: volley_metrics::ThresholdError| {
            Failure::new(options::INVALID_CONFIG, error.to_string())
        };
        let thresholds = Thresholds::parse(&list).map_err(invalid)?;
        thresholds.validate(registry).map_err(invalid)?;
        for text in thresholds.warnings() {
            outside.logger.log(Level::Warning, &text, &[]);
        }
        Ok(thresholds)
    }

    /// Sub-metrics that exist without a threshold.
    fn default_submetrics(&self) -> Vec<String> {
        let tags = self.resolved.options.system_tags.as_ref();
        let marked = tags.is_none_or(|tags| tags.0.contains("expected_response"));
        if marked {
            vec![EXPECTED.to_owned()]
        } else {
            Vec::new()
        }
    }
}

fn warn(outside: &Outside, warning: &Warning) {
    let fields: Vec<(&str, &str)> = warning
        .fields
        .iter()
        .map(|(name, value)| (name.as_str(), value.as_str()))
        .collect();
    outside.logger.log(Level::Warning, &warning.msg, &fields);
}

/// How missing files of scripts are waited for. On a terminal there is somebody who has mistyped a
/// name and wants to know at once; only for a volume that may be behind is it different.
fn file_wait(outside: &Outside, state: &Arc<RunState>) -> Result<Arc<FileWait>, Failure> {
    let (network, local) = match outside.var(FILE_WAIT).filter(|text| !text.is_empty()) {
        Some(text) => {
            let wait = GoDuration::parse_extended(&text)
                .map_err(|error| Failure::new(code::OTHER, format!("{FILE_WAIT}: {error}")))?
                .to_std();
            (wait, wait)
        }
        None if outside.stderr_tty => (NETWORK_WAIT, Duration::ZERO),
        None => (NETWORK_WAIT, LOCAL_WAIT),
    };
    let (logger, state) = (outside.logger.clone(), state.clone());
    let wait = FileWait::new(network, local)
        .told_to(move |text| logger.log(Level::Warning, text, &[]))
        .until(move || state.is_aborted());
    Ok(Arc::new(wait))
}

/// The config file that the flags name, or the user's.
fn config_file(outside: &Outside) -> Result<ConfigFile, Failure> {
    let env = |name: &str| outside.var(name);
    let explicit = outside.global.config.as_deref();
    Ok(ConfigFile::load(explicit, &env, &|path| {
        std::fs::read(path)
    })?)
}

/// The process's environment as pairs.
fn system_env(outside: &Outside) -> Vec<(String, String)> {
    outside
        .env
        .iter()
        .map(|(name, value)| (name.clone(), value.clone()))
        .collect()
}
