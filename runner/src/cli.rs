//! The command line: which flags there are, and what they mean.
//!
//! Every flag is a row of one of the tables below; flags, their help and their suggestions come
//! from there. clap splits the arguments, and hands all values over as text, because the words
//! for a bad value are k6's. What sets an option becomes a layer of [`Options`]; what says how to
//! run is in [`Runtime`] and the structs beside it, with its environment variable already looked
//! at.

use std::collections::BTreeMap;

use clap::{Arg, ArgAction, ArgMatches, Command as Clap, builder::ValueParser, error::ErrorKind};
use time::{OffsetDateTime, format_description::well_known::Rfc3339};

use crate::{
    duration::GoDuration,
    exit::{Failure, code},
    options::{
        Cidr, Dns, HostPatterns, IpRange, Options, Stage, SystemTags, TrendStats, parse_int,
    },
    segment::{self, Segment, Sequence},
    summary::SummaryMode,
};

/// What the user asked for.
#[derive(Debug)]
pub(crate) enum Command {
    /// `run SCRIPT`
    Run(Box<Run>),
    /// `demo`
    Demo(Box<Run>),
    /// `archive SCRIPT`
    Archive(Box<Archive>),
    /// `inspect SCRIPT`
    Inspect(Box<Inspect>),
    /// `check FOLDER`
    Check(Check),
    /// `version`, `--version`
    Version {
        /// As one JSON object.
        json: bool,
    },
    /// `status`, `stats`, `pause`, `resume`, `scale`
    Remote(Remote),
    /// A help text for stdout.
    Help(String),
}

/// Something that is asked of an agent elsewhere, over its REST API.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Remote {
    /// How far it is.
    Status,
    /// What it has measured.
    Stats,
    /// To let its VUs wait.
    Pause,
    /// To let them go on.
    Resume,
    /// To change the number of its VUs, over all instances.
    Scale {
        /// VUs that loop.
        vus: Option<i64>,
        /// VUs that there may be.
        max: Option<i64>,
    },
}

/// The command, and what all commands have.
#[derive(Debug)]
pub(crate) struct Cli {
    /// Flags of all commands.
    pub(crate) global: Global,
    /// The command.
    pub(crate) command: Command,
}

/// Flags of all commands.
#[derive(Debug, Clone, Default)]
pub(crate) struct Global {
    /// Where the REST API listens; off without it.
    pub(crate) address: Option<Address>,
    /// The config file (`--config`, `K6_CONFIG`).
    pub(crate) config: Option<String>,
    /// `--log-format`
    pub(crate) log_format: String,
    /// `--log-output`
    pub(crate) log_output: String,
    /// `--no-color`
    pub(crate) no_color: bool,
    /// `--quiet`
    pub(crate) quiet: bool,
    /// `--secret-source`, each.
    pub(crate) secret_sources: Vec<String>,
    /// `--verbose`
    pub(crate) verbose: bool,
}

/// The address of the REST API.
#[derive(Debug, Clone)]
pub(crate) struct Address {
    /// `host:port`
    pub(crate) text: String,
    /// Whether a flag named it: then it is an error when it cannot be had.
    pub(crate) explicit: bool,
}

/// How a script is loaded, and what becomes of its results.
#[derive(Debug, Clone)]
pub(crate) struct Runtime {
    /// Whether the process's environment is in `__ENV`.
    pub(crate) include_system_env_vars: bool,
    /// `-e NAME=VALUE`, in order.
    pub(crate) env: Vec<(String, String)>,
    /// `--compatibility-mode`
    pub(crate) compatibility: Compatibility,
    /// `--type`; detected without it.
    pub(crate) script_type: Option<ScriptType>,
    /// `--offline`: nothing is fetched from the web while the script loads.
    pub(crate) offline: bool,
    /// Thresholds are neither parsed nor judged.
    pub(crate) no_thresholds: bool,
    /// `--summary-mode`
    pub(crate) summary_mode: SummaryMode,
    /// `--summary-export`
    pub(crate) summary_export: Option<String>,
    /// `--new-machine-readable-summary`
    pub(crate) machine_readable_summary: bool,
}

impl Runtime {
    /// Whether there is a global `global`.
    pub(crate) fn extended(&self) -> bool {
        self.compatibility != Compatibility::Base
    }
}

/// `--compatibility-mode`
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Compatibility {
    /// The default.
    Extended,
    /// Without `global`.
    Base,
    /// A deprecated name of `extended`.
    ExperimentalEnhanced,
}

impl Compatibility {
    /// The name on the command line and in archives.
    pub(crate) fn as_str(self) -> &'static str {
        match self {
            Self::Extended => "extended",
            Self::Base => "base",
            Self::ExperimentalEnhanced => "experimental_enhanced",
        }
    }
}

/// `--type`
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum ScriptType {
    /// A script.
    Js,
    /// A tar archive.
    Archive,
}

/// `run`, and `demo`, which brings its own script.
#[derive(Debug, Clone)]
pub(crate) struct Run {
    /// The script, as given.
    pub(crate) script: String,
    /// The layer of options that the flags make.
    pub(crate) options: Options,
    /// How to load.
    pub(crate) runtime: Runtime,
    /// `--out`, in order; `None` when not given.
    pub(crate) out: Option<Vec<String>>,
    /// `--linger`; `None` when neither flag nor variable says.
    pub(crate) linger: Option<bool>,
    /// Names of feature flags.
    pub(crate) features: Vec<String>,
    /// `--result-dir`
    pub(crate) result_dir: Option<String>,
    /// `--start-at`
    pub(crate) start_at: Option<OffsetDateTime>,
}

/// `archive`
#[derive(Debug, Clone)]
pub(crate) struct Archive {
    /// The script, as given.
    pub(crate) script: String,
    /// The layer of options that the flags make.
    pub(crate) options: Options,
    /// How to load.
    pub(crate) runtime: Runtime,
    /// Where to; `-` is stdout.
    pub(crate) archive_out: String,
    /// Whether `-e` values stay out.
    pub(crate) exclude_env_vars: bool,
}

/// `inspect`
#[derive(Debug, Clone)]
pub(crate) struct Inspect {
    /// The script, as given.
    pub(crate) script: String,
    /// How to load.
    pub(crate) runtime: Runtime,
    /// Whether to add what the run will need.
    pub(crate) execution_requirements: bool,
}

/// `check`
#[derive(Debug, Clone)]
pub(crate) struct Check {
    /// The folder, as given.
    pub(crate) folder: String,
    /// As one JSON object.
    pub(crate) json: bool,
    /// `-e NAME=VALUE` for each script.
    pub(crate) env: Vec<(String, String)>,
    /// What `arguments` of the resource that runs the scripts has.
    pub(crate) arguments: Option<String>,
}

// === The tables ===

/// How a flag is written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Shape {
    /// `--flag` or `--flag=BOOL`
    Bool,
    /// `--flag VALUE` or `--flag=VALUE`; the last one counts.
    One,
    /// The same, may be repeated.
    Many,
    /// `--flag` or `--flag=VALUE`; the bare one means this.
    Bare(&'static str),
}

/// A flag that is no option of the test.
struct Flag {
    long: &'static str,
    short: Option<char>,
    shape: Shape,
    /// Its variable in the environment.
    env: Option<&'static str>,
    help: &'static str,
}

const fn flag(
    long: &'static str,
    short: Option<char>,
    shape: Shape,
    env: Option<&'static str>,
    help: &'static str,
) -> Flag {
    Flag {
        long,
        short,
        shape,
        env,
        help,
    }
}

const GLOBAL: &[Flag] = &[
    flag(
        "address",
        Some('a'),
        Shape::One,
        Some("K6_ADDRESS"),
        "address of the REST API, for example 0.0.0.0:6565; off by default",
    ),
    flag(
        "config",
        Some('c'),
        Shape::One,
        Some("K6_CONFIG"),
        "JSON config file",
    ),
    flag(
        "log-format",
        None,
        Shape::One,
        Some("K6_LOG_FORMAT"),
        "json, raw, or anything else for text",
    ),
    flag(
        "log-output",
        None,
        Shape::One,
        Some("K6_LOG_OUTPUT"),
        "stderr, stdout, none, file=PATH[,level=LEVEL] or loki[=URL][,KEY=VALUE...]",
    ),
    flag("no-color", None, Shape::Bool, None, "no colours"),
    flag(
        "quiet",
        Some('q'),
        Shape::Bool,
        None,
        "no banner and no progress; the summary is printed",
    ),
    flag("verbose", Some('v'), Shape::Bool, None, "debug log lines"),
    flag(
        "profiling-enabled",
        None,
        Shape::Bool,
        None,
        "accepted, without effect",
    ),
    flag(
        "secret-source",
        None,
        Shape::Many,
        Some("K6_SECRET_SOURCE"),
        "where k6/secrets finds secrets: file=PATH, mock=KEY=VALUE,…, url=urlTemplate=URL,…",
    ),
];

const RUNTIME: &[Flag] = &[
    flag(
        "include-system-env-vars",
        None,
        Shape::Bool,
        Some("K6_INCLUDE_SYSTEM_ENV_VARS"),
        "copy the process environment into __ENV",
    ),
    flag("env", Some('e'), Shape::Many, None, "NAME=VALUE for __ENV"),
    flag(
        "compatibility-mode",
        None,
        Shape::One,
        Some("K6_COMPATIBILITY_MODE"),
        "extended or base",
    ),
    flag(
        "type",
        Some('t'),
        Shape::One,
        Some("K6_TYPE"),
        "js or archive; detected by default",
    ),
    flag(
        "offline",
        None,
        Shape::Bool,
        Some("VOLLEY_OFFLINE"),
        "fetch no scripts and modules from the web",
    ),
    flag(
        "no-thresholds",
        None,
        Shape::Bool,
        Some("K6_NO_THRESHOLDS"),
        "do not judge thresholds",
    ),
    flag(
        "summary-mode",
        None,
        Shape::One,
        Some("K6_SUMMARY_MODE"),
        "compact, full or disabled",
    ),
    flag(
        "no-summary",
        None,
        Shape::Bool,
        Some("K6_NO_SUMMARY"),
        "as --summary-mode=disabled, for command lines of k6 1.x",
    ),
    flag(
        "summary-export",
        None,
        Shape::One,
        Some("K6_SUMMARY_EXPORT"),
        "write the summary as JSON into this file",
    ),
    flag(
        "new-machine-readable-summary",
        None,
        Shape::Bool,
        Some("K6_NEW_MACHINE_READABLE_SUMMARY"),
        "the newer shape of summary data",
    ),
    flag(
        "traces-output",
        None,
        Shape::One,
        Some("K6_TRACES_OUTPUT"),
        "none",
    ),
];

const RUN: &[Flag] = &[
    flag(
        "out",
        Some('o'),
        Shape::Many,
        None,
        "an output, TYPE or TYPE=ARGUMENT, once for each; types are in docs/compatibility.md",
    ),
    flag(
        "linger",
        Some('l'),
        Shape::Bool,
        Some("K6_LINGER"),
        "stay after the end until a signal comes",
    ),
    flag(
        "no-usage-report",
        None,
        Shape::Bool,
        None,
        "accepted: nothing is ever reported",
    ),
    flag(
        "features",
        None,
        Shape::Many,
        Some("K6_FEATURES"),
        "feature flags: merge-run-tags",
    ),
    flag(
        "start-at",
        None,
        Shape::One,
        Some("VOLLEY_START_AT"),
        "start at this instant, for example 2026-01-31T12:00:00Z; too late for it is exit code 96",
    ),
    flag(
        "result-dir",
        None,
        Shape::One,
        Some("VOLLEY_RESULT_DIR"),
        "write exit code, verdict, figures, summary.json and junit.xml into this folder",
    ),
];

const ARCHIVE: &[Flag] = &[
    flag(
        "archive-out",
        Some('O'),
        Shape::One,
        None,
        "output path, - for stdout; default archive.tar",
    ),
    flag(
        "exclude-env-vars",
        None,
        Shape::Bool,
        None,
        "leave -e values out of the archive",
    ),
];

const INSPECT: &[Flag] = &[flag(
    "execution-requirements",
    None,
    Shape::Bool,
    None,
    "add the total duration and the number of VUs",
)];

const CHECK: &[Flag] = &[
    flag("json", None, Shape::Bool, None, "as a JSON object"),
    flag("env", Some('e'), Shape::Many, None, "NAME=VALUE for __ENV"),
    flag(
        "arguments",
        None,
        Shape::One,
        None,
        "arguments of run to check as well, as in the resource of the operator",
    ),
];

const SCALE: &[Flag] = &[
    flag("vus", Some('u'), Shape::One, None, "VUs that loop"),
    flag("max", Some('m'), Shape::One, None, "VUs that there may be"),
];

const VERSION: &[Flag] = &[flag("json", None, Shape::Bool, None, "as a JSON object")];

/// A flag that sets an option of the test.
struct OptionFlag {
    long: &'static str,
    short: Option<char>,
    shape: Shape,
    /// Whether a bad value is reported with the flag's name around the reason.
    framed: bool,
    set: fn(&mut Options, &[&str]) -> Result<(), String>,
    help: &'static str,
}

/// `$field: parse` for a flag whose last value counts.
macro_rules! one {
    ($field:ident, $parse:expr) => {
        |options, values| {
            if let Some(value) = values.last() {
                options.$field = Some($parse(value)?);
            }
            Ok(())
        }
    };
}

fn text(value: &str) -> Result<String, String> {
    Ok(value.to_owned())
}

/// The items of all values, each of which may be a comma-separated list.
fn items<'a>(values: &[&'a str]) -> Vec<&'a str> {
    let lists = values.iter().flat_map(|value| value.split(','));
    lists.filter(|item| !item.is_empty()).collect()
}

macro_rules! option_flags {
    ($($long:literal $short:expr, $shape:expr, $framed:literal, $set:expr, $help:literal;)*) => {
        &[$(OptionFlag {
            long: $long,
            short: $short,
            shape: $shape,
            framed: $framed,
            set: $set,
            help: $help,
        },)*]
    };
}

/// Flags of `run` and `archive`.
const OPTIONS: &[OptionFlag] = option_flags! {
    "vus" Some('u'), Shape::One, true, one!(vus, parse_int), "number of VUs";
    "duration" Some('d'), Shape::One, true, one!(duration, GoDuration::parse), "how long to run";
    "iterations" Some('i'), Shape::One, true, one!(iterations, parse_int), "iterations shared by all VUs";
    "stage" Some('s'), Shape::Many, false, stages, "DURATION:TARGET, ramp to TARGET VUs";
    "execution-segment" None, Shape::One, false, one!(execution_segment, Segment::parse), "the part of the load to run, for example 0:1/3; auto: that of VOLLEY_INSTANCE or JOB_COMPLETION_INDEX of VOLLEY_INSTANCES";
    "execution-segment-sequence" None, Shape::One, false, one!(execution_segment_sequence, Sequence::parse), "all parts, for example 0,1/3,2/3,1";
    "paused" Some('p'), Shape::Bool, true, one!(paused, boolean), "make the VUs, then wait for a resume";
    "no-setup" None, Shape::Bool, true, one!(no_setup, boolean), "skip setup()";
    "no-teardown" None, Shape::Bool, true, one!(no_teardown, boolean), "skip teardown()";
    "max-redirects" None, Shape::One, true, one!(max_redirects, parse_int), "redirects a request follows";
    "batch" None, Shape::One, true, one!(batch, parse_int), "parallel requests of one batch";
    "batch-per-host" None, Shape::One, true, one!(batch_per_host, parse_int), "the same per host";
    "rps" None, Shape::One, true, one!(rps, parse_int), "requests per second at most";
    "user-agent" None, Shape::One, true, one!(user_agent, text), "the User-Agent header";
    "http-debug" None, Shape::Bare("headers"), true, one!(http_debug, text), "log requests and responses";
    "insecure-skip-tls-verify" None, Shape::Bool, true, one!(insecure_skip_tls_verify, boolean), "accept any certificate";
    "no-connection-reuse" None, Shape::Bool, true, one!(no_connection_reuse, boolean), "no keep-alive";
    "no-vu-connection-reuse" None, Shape::Bool, true, one!(no_vu_connection_reuse, boolean), "no keep-alive between iterations";
    "min-iteration-duration" None, Shape::One, true, one!(min_iteration_duration, GoDuration::parse), "wait after shorter iterations";
    "throw" Some('w'), Shape::Bool, true, one!(throw, boolean), "failed requests throw";
    "blacklist-ip" None, Shape::Many, false, blacklist, "a range never to connect to";
    "block-hostnames" None, Shape::Many, false, block, "a host pattern never to connect to";
    "summary-trend-stats" None, Shape::Many, false, trend_stats, "columns of trends in the summary";
    "summary-time-unit" None, Shape::One, false, one!(summary_time_unit, time_unit), "s, ms or us";
    "system-tags" None, Shape::Many, false, system_tags, "built-in tags of samples";
    "tag" None, Shape::Many, false, tags, "NAME=VALUE, a tag of every sample";
    "console-output" None, Shape::One, true, one!(console_output, text), "write console.* to this file";
    "discard-response-bodies" None, Shape::Bool, true, one!(discard_response_bodies, boolean), "read and drop bodies";
    "local-ips" None, Shape::Many, false, local_ips, "addresses to send from";
    "dns" None, Shape::One, false, one!(dns, Dns::parse), "ttl=5m,select=random,policy=preferIPv4";
};

fn stages(options: &mut Options, values: &[&str]) -> Result<(), String> {
    let mut stages = Vec::new();
    for (number, item) in items(values).into_iter().enumerate() {
        let stage = Stage::parse(item).map_err(|e| format!("error for stage {number}: {e}"))?;
        if stage.duration.is_none() {
            return Err(format!("stage {number} doesn't have a specified duration"));
        }
        stages.push(stage);
    }
    options.stages = Some(stages);
    Ok(())
}

fn blacklist(options: &mut Options, values: &[&str]) -> Result<(), String> {
    let parse = |item: &str| {
        Cidr::parse(item).map_err(|e| format!("error parsing blacklist-ip '{item}': {e}"))
    };
    options.blacklist_ips = Some(
        items(values)
            .into_iter()
            .map(parse)
            .collect::<Result<_, _>>()?,
    );
    Ok(())
}

fn block(options: &mut Options, values: &[&str]) -> Result<(), String> {
    let patterns = items(values).into_iter().map(str::to_owned).collect();
    options.block_hostnames = Some(HostPatterns::new(patterns)?);
    Ok(())
}

fn trend_stats(options: &mut Options, values: &[&str]) -> Result<(), String> {
    let stats = TrendStats(
        items(values)
            .into_iter()
            .map(|s| s.trim().to_owned())
            .collect(),
    );
    stats.check()?;
    options.summary_trend_stats = Some(stats);
    Ok(())
}

fn time_unit(value: &str) -> Result<String, String> {
    match value {
        "s" | "ms" | "us" => Ok(value.to_owned()),
        _ => Err(format!(
            "invalid summary time unit '{value}', use 's', 'ms' or 'us'"
        )),
    }
}

fn system_tags(options: &mut Options, values: &[&str]) -> Result<(), String> {
    options.system_tags = Some(SystemTags::new(items(values)));
    Ok(())
}

fn tags(options: &mut Options, values: &[&str]) -> Result<(), String> {
    let mut tags = BTreeMap::new();
    for value in values.iter().filter(|value| !value.is_empty()) {
        let fail = |what| {
            Err(format!(
                "error parsing tag '{value}': invalid tag, empty {what}"
            ))
        };
        match value.split_once('=') {
            Some(("", _)) => return fail("name"),
            None | Some((_, "")) => return fail("value"),
            Some((name, text)) => tags.insert(name.to_owned(), text.to_owned()),
        };
    }
    options.tags = Some(tags);
    Ok(())
}

fn local_ips(options: &mut Options, values: &[&str]) -> Result<(), String> {
    let ranges = items(values)
        .into_iter()
        .map(IpRange::parse)
        .collect::<Result<_, _>>()?;
    options.local_ips = Some(ranges);
    Ok(())
}

/// Go's notation of truth.
fn boolean(text: &str) -> Result<bool, String> {
    match text {
        "1" | "t" | "T" | "TRUE" | "true" | "True" => Ok(true),
        "0" | "f" | "F" | "FALSE" | "false" | "False" => Ok(false),
        _ => Err(format!(
            "strconv.ParseBool: parsing {text:?}: invalid syntax"
        )),
    }
}

// === Reading ===

/// Names of the commands that k6 has and this program does not (yet).
const NOT_HERE: &[&str] = &[
    "cloud",
    "completion",
    "deps",
    "features",
    "login",
    "new",
    "x",
];

/// Reads the arguments (the program's name first) and the variables that go with them.
///
/// # Errors
/// Wrong usage (exit code 255), with a text that names the argument.
pub(crate) fn parse(
    arguments: &[String],
    env: &dyn Fn(&str) -> Option<String>,
) -> Result<Cli, Failure> {
    let matches = match program().try_get_matches_from(arguments) {
        Ok(matches) => matches,
        Err(error) => return refused(&error),
    };
    let reader = |matches| Reader { matches, env };
    let global = reader(&matches).global();
    if matches.get_flag("version") {
        return Ok(Cli {
            global: global?,
            command: Command::Version { json: false },
        });
    }
    let Some((name, matches)) = matches.subcommand() else {
        let help = program().render_help().to_string();
        return Ok(Cli {
            global: global?,
            command: Command::Help(help),
        });
    };
    let reader = reader(matches);
    // Global flags may stand behind the command, where clap keeps them.
    let global = reader.global()?;
    let command = match name {
        "run" => Command::Run(Box::new(reader.run(reader.script(true)?)?)),
        "demo" => Command::Demo(Box::new(reader.run("demo.js".to_owned())?)),
        "archive" => Command::Archive(Box::new(Archive {
            script: reader.script(false)?,
            options: reader.options()?,
            runtime: reader.runtime(false)?,
            archive_out: reader
                .one("archive-out")
                .unwrap_or("archive.tar")
                .to_owned(),
            exclude_env_vars: reader.bool_flag("exclude-env-vars")?.unwrap_or(false),
        })),
        "inspect" => Command::Inspect(Box::new(Inspect {
            script: reader.script(false)?,
            runtime: reader.runtime(false)?,
            execution_requirements: reader.bool_flag("execution-requirements")?.unwrap_or(false),
        })),
        "check" => Command::Check(Check {
            folder: reader.folder()?,
            json: reader.bool_flag("json")?.unwrap_or(false),
            env: reader.env_values()?,
            arguments: reader.one("arguments").map(str::to_owned),
        }),
        "version" => Command::Version {
            json: reader.bool_flag("json")?.unwrap_or(false),
        },
        "status" => Command::Remote(Remote::Status),
        "stats" => Command::Remote(Remote::Stats),
        "pause" => Command::Remote(Remote::Pause),
        "resume" => Command::Remote(Remote::Resume),
        "scale" => Command::Remote(reader.scale()?),
        other => return Err(usage(format!("unknown command {other:?} for \"k6\""))),
    };
    Ok(Cli { global, command })
}

fn usage(text: impl Into<String>) -> Failure {
    Failure::new(code::OTHER, text)
}

/// What clap did not take: help that was asked for, or an error in k6's words with clap's advice.
fn refused(error: &clap::Error) -> Result<Cli, Failure> {
    use clap::error::{ContextKind, ContextValue};
    let context = |kind| match error.get(kind) {
        Some(ContextValue::String(text)) => Some(text.clone()),
        Some(ContextValue::Strings(list)) => Some(list.join(", ")),
        _ => None,
    };
    let argument = context(ContextKind::InvalidArg).unwrap_or_default();
    let advice = |what: &str, kind| match context(kind) {
        Some(suggestion) => format!("; did you mean {what}{suggestion}?"),
        None => String::new(),
    };
    Err(usage(match error.kind() {
        ErrorKind::DisplayHelp | ErrorKind::DisplayHelpOnMissingArgumentOrSubcommand => {
            let log_output = "stderr".to_owned();
            return Ok(Cli {
                global: Global {
                    log_output,
                    ..Global::default()
                },
                command: Command::Help(error.to_string()),
            });
        }
        ErrorKind::UnknownArgument => {
            let name = argument.split('=').next().unwrap_or_default();
            let kind = if name.starts_with("--") {
                "flag"
            } else {
                "shorthand flag"
            };
            format!(
                "unknown {kind}: {name}{}",
                advice("", ContextKind::SuggestedArg)
            )
        }
        ErrorKind::InvalidSubcommand => {
            let name = context(ContextKind::InvalidSubcommand).unwrap_or_default();
            let note = if NOT_HERE.contains(&name.as_str()) {
                "; k6 has or had it, this version of Volley does not".to_owned()
            } else {
                advice("", ContextKind::SuggestedSubcommand)
            };
            format!("unknown command {name:?} for \"k6\"{note}")
        }
        ErrorKind::InvalidValue | ErrorKind::NoEquals => {
            format!(
                "flag needs an argument: {}",
                argument.split(' ').next().unwrap_or_default()
            )
        }
        _ => error
            .to_string()
            .trim()
            .trim_start_matches("error: ")
            .lines()
            .next()
            .unwrap_or_default()
            .to_owned(),
    }))
}

fn program() -> Clap {
    let script = || Arg::new("script").num_args(0..).value_name("SCRIPT");
    let with = |command: Clap, tables: &[&[Flag]], options: bool| {
        let command = tables
            .iter()
            .flat_map(|table| table.iter())
            .fold(command, |command, flag| {
                command.arg(argument(flag.long, flag.short, flag.shape, flag.help))
            });
        let rows: &[OptionFlag] = if options { OPTIONS } else { &[] };
        rows.iter().fold(command, |command, flag| {
            command.arg(argument(flag.long, flag.short, flag.shape, flag.help))
        })
    };
    let root = Clap::new("volley")
        .about("A load generator that runs k6 scripts")
        .disable_version_flag(true)
        .disable_help_subcommand(true)
        .arg(
            Arg::new("version")
                .long("version")
                .action(ArgAction::SetTrue)
                .help("print the version"),
        );
    let root = GLOBAL.iter().fold(root, |command, flag| {
        command.arg(argument(flag.long, flag.short, flag.shape, flag.help).global(true))
    });
    root.subcommand(with(
        Clap::new("run")
            .about("Run a script, an archive, or standard input (-)")
            .arg(script()),
        &[RUNTIME, RUN],
        true,
    ))
    .subcommand(with(
        Clap::new("archive")
            .about("Write a script with all its files into one tar")
            .arg(script()),
        &[RUNTIME, ARCHIVE],
        true,
    ))
    .subcommand(with(
        Clap::new("inspect")
            .about("Print the options of a script as JSON")
            .arg(script()),
        &[RUNTIME, INSPECT],
        false,
    ))
    .subcommand(with(
        Clap::new("check")
            .about("Tell which scripts of a folder run, and what the others need")
            .arg(Arg::new("folder").num_args(0..).value_name("FOLDER")),
        &[CHECK],
        false,
    ))
    .subcommand(with(
        Clap::new("demo")
            .about("Run a built-in script against a built-in server, without any network"),
        &[RUNTIME, RUN],
        true,
    ))
    .subcommand(with(
        Clap::new("status").about("Show how far an agent is, over its REST API"),
        &[],
        false,
    ))
    .subcommand(with(
        Clap::new("stats").about("Show what an agent has measured, over its REST API"),
        &[],
        false,
    ))
    .subcommand(with(
        Clap::new("pause").about("Pause an agent's run, over its REST API"),
        &[],
        false,
    ))
    .subcommand(with(
        Clap::new("resume").about("Resume an agent's run, over its REST API"),
        &[],
        false,
    ))
    .subcommand(with(
        Clap::new("scale").about(
            "Change the number of VUs of an externally-controlled scenario, over the REST API",
        ),
        &[SCALE],
        false,
    ))
    .subcommand(with(
        Clap::new("version").about("Print the version"),
        &[VERSION],
        false,
    ))
}

fn argument(long: &'static str, short: Option<char>, shape: Shape, help: &'static str) -> Arg {
    let arg = Arg::new(long)
        .long(long)
        .help(help)
        .value_parser(ValueParser::string());
    let arg = match short {
        Some(short) => arg.short(short),
        None => arg,
    };
    match shape {
        Shape::Bool => arg
            .bare("true")
            .value_name("BOOL")
            .hide_possible_values(true),
        Shape::Bare(meaning) => arg.bare(meaning),
        Shape::One | Shape::Many => arg.num_args(1).allow_hyphen_values(true),
    }
    // Repeating is never an error: the last value counts, or all do.
    .action(ArgAction::Append)
}

trait Bare {
    /// May stand without a value, which has to follow an equals sign then.
    fn bare(self, meaning: &'static str) -> Self;
}

impl Bare for Arg {
    fn bare(self, meaning: &'static str) -> Self {
        self.num_args(0..=1)
            .require_equals(true)
            .default_missing_value(meaning)
    }
}

/// Reads values of one command.
struct Reader<'a> {
    matches: &'a ArgMatches,
    env: &'a dyn Fn(&str) -> Option<String>,
}

impl<'a> Reader<'a> {
    /// Every value of a flag, in order.
    fn many(&self, name: &str) -> Option<Vec<&'a str>> {
        let values = self.matches.try_get_many::<String>(name).ok()??;
        Some(values.map(String::as_str).collect())
    }

    fn one(&self, name: &str) -> Option<&'a str> {
        self.many(name)?.pop()
    }

    fn bool_flag(&self, name: &str) -> Result<Option<bool>, Failure> {
        self.one(name)
            .map(|value| {
                boolean(value).map_err(|e| {
                    usage(format!(
                        "invalid argument {value:?} for \"--{name}\" flag: {e}"
                    ))
                })
            })
            .transpose()
    }

    fn env_of(table: &[Flag], name: &str) -> Option<&'static str> {
        table.iter().find(|flag| flag.long == name)?.env
    }

    fn variable(&self, name: Option<&str>) -> Option<String> {
        (self.env)(name?).filter(|value| !value.is_empty())
    }

    /// A flag, else its variable.
    fn text(&self, table: &[Flag], name: &str) -> Option<String> {
        let flag = self.one(name).map(str::to_owned);
        flag.or_else(|| self.variable(Self::env_of(table, name)))
    }

    /// A boolean flag, else its variable, which takes Go's notation.
    fn truth(&self, table: &[Flag], name: &str) -> Result<Option<bool>, Failure> {
        if let Some(flag) = self.bool_flag(name)? {
            return Ok(Some(flag));
        }
        let variable = Self::env_of(table, name);
        self.variable(variable)
            .map(|value| {
                boolean(&value).map_err(|_| {
                    let name = variable.unwrap_or_default();
                    usage(format!(
                        "env var '{name}' is not a valid boolean value: strconv.ParseBool: \
                         parsing {value:?}: invalid syntax"
                    ))
                })
            })
            .transpose()
    }

    fn script(&self, run: bool) -> Result<String, Failure> {
        let given = self.many("script").unwrap_or_default();
        match given[..] {
            [script] => Ok(script.to_owned()),
            _ => {
                let advice = if run {
                    ": arg should either be \"-\", if reading script from stdin, or a path to a script file"
                } else {
                    ""
                };
                Err(usage(format!(
                    "accepts 1 arg(s), received {}{advice}",
                    given.len()
                )))
            }
        }
    }

    fn global(&self) -> Result<Global, Failure> {
        let address = match self.one("address") {
            Some(text) => Some(Address {
                text: text.to_owned(),
                explicit: true,
            }),
            None => {
                let text = self.variable(Self::env_of(GLOBAL, "address"));
                text.map(|text| Address {
                    text,
                    explicit: false,
                })
            }
        };
        let no_color = self.bool_flag("no-color")?.unwrap_or(false)
            || self.variable(Some("K6_NO_COLOR")).is_some()
            || (self.env)("NO_COLOR").is_some();
        Ok(Global {
            address: address.filter(|address| !address.text.is_empty()),
            config: self.text(GLOBAL, "config"),
            log_format: self.text(GLOBAL, "log-format").unwrap_or_default(),
            log_output: self
                .text(GLOBAL, "log-output")
                .unwrap_or_else(|| "stderr".to_owned()),
            no_color,
            quiet: self.bool_flag("quiet")?.unwrap_or(false),
            secret_sources: self.secret_sources(),
            verbose: self.bool_flag("verbose")?.unwrap_or(false),
        })
    }

    /// The flags, else the one source that the variable names.
    fn secret_sources(&self) -> Vec<String> {
        let flags = self.many("secret-source");
        flags.map_or_else(
            || {
                let variable = self.variable(Self::env_of(GLOBAL, "secret-source"));
                variable.into_iter().collect()
            },
            |flags| flags.into_iter().map(str::to_owned).collect(),
        )
    }

    fn run(&self, script: String) -> Result<Run, Failure> {
        let features = match self.many("features") {
            Some(values) => items(&values).into_iter().map(str::to_owned).collect(),
            None => {
                let variable = self
                    .variable(Self::env_of(RUN, "features"))
                    .unwrap_or_default();
                items(&[&variable]).into_iter().map(str::to_owned).collect()
            }
        };
        self.bool_flag("no-usage-report")?;
        let start_at = self.text(RUN, "start-at").filter(|text| !text.is_empty());
        let start_at = start_at.map(|text| {
            OffsetDateTime::parse(&text, &Rfc3339).map_err(|reason| {
                usage(format!(
                    "--start-at takes an instant in RFC 3339, such as 2026-01-31T12:00:00Z, not \
                     '{text}': {reason}"
                ))
            })
        });
        Ok(Run {
            script,
            options: self.options()?,
            runtime: self.runtime(true)?,
            out: self
                .many("out")
                .map(|values| values.into_iter().map(str::to_owned).collect()),
            linger: self.truth(RUN, "linger")?,
            features,
            start_at: start_at.transpose()?,
            result_dir: self.text(RUN, "result-dir").filter(|path| !path.is_empty()),
        })
    }

    fn scale(&self) -> Result<Remote, Failure> {
        let number = |name: &str| {
            self.one(name)
                .map(|value| {
                    parse_int(value).map_err(|reason| {
                        usage(format!(
                            "invalid argument {value:?} for \"--{name}\" flag: {reason}"
                        ))
                    })
                })
                .transpose()
        };
        let (vus, max) = (number("vus")?, number("max")?);
        if vus.is_none() && max.is_none() {
            return Err(usage("Specify either -u/--vus or -m/--max"));
        }
        Ok(Remote::Scale { vus, max })
    }

    fn options(&self) -> Result<Options, Failure> {
        let mut options = Options::default();
        for flag in OPTIONS {
            let Some(values) = self.many(flag.long) else {
                continue;
            };
            if flag.long == "execution-segment" && values.last() == Some(&"auto") {
                if self.one("execution-segment-sequence").is_some() {
                    return Err(usage(
                        "--execution-segment auto makes the sequence itself: leave \
                         --execution-segment-sequence away",
                    ));
                }
                let (segment, sequence) = segment::of_instance(self.env).map_err(usage)?;
                options.execution_segment = Some(segment);
                options.execution_segment_sequence = Some(sequence);
                continue;
            }
            (flag.set)(&mut options, &values).map_err(|reason| {
                if !flag.framed {
                    return usage(reason);
                }
                let value = values.last().copied().unwrap_or_default();
                let name = match flag.short {
                    Some(short) => format!("-{short}, --{}", flag.long),
                    None => format!("--{}", flag.long),
                };
                usage(format!(
                    "invalid argument {value:?} for \"{name}\" flag: {reason}"
                ))
            })?;
        }
        Ok(options)
    }

    /// The one folder of `check`.
    fn folder(&self) -> Result<String, Failure> {
        match self.many("folder").unwrap_or_default()[..] {
            [folder] => Ok(folder.to_owned()),
            ref given => Err(usage(format!(
                "check takes one folder, not {}",
                given.len()
            ))),
        }
    }

    /// The values of `-e`.
    fn env_values(&self) -> Result<Vec<(String, String)>, Failure> {
        let mut env = Vec::new();
        for given in self.many("env").unwrap_or_default() {
            let (name, value) = given.split_once('=').unwrap_or((given, ""));
            let valid = name.chars().next().is_some_and(|c| !c.is_ascii_digit())
                && name.chars().all(|c| c.is_ascii_alphanumeric() || c == '_');
            if !valid {
                return Err(usage(format!("invalid environment variable name '{name}'")));
            }
            env.push((name.to_owned(), value.to_owned()));
        }
        Ok(env)
    }

    fn runtime(&self, system_env: bool) -> Result<Runtime, Failure> {
        let compatibility = match self.text(RUNTIME, "compatibility-mode").as_deref() {
            None | Some("extended") => Compatibility::Extended,
            Some("base") => Compatibility::Base,
            Some("experimental_enhanced") => Compatibility::ExperimentalEnhanced,
            Some(other) => {
                return Err(usage(format!(
                    "invalid compatibility mode {other:?}. Use: \"extended\", \"base\", \"experimental_enhanced\""
                )));
            }
        };
        let script_type = match self.text(RUNTIME, "type").as_deref() {
            None => None,
            Some("js") => Some(ScriptType::Js),
            Some("archive") => Some(ScriptType::Archive),
            Some(other) => {
                let script = self.one("script").unwrap_or_default();
                return Err(usage(format!(
                    "unknown or unspecified test type '{other}' for '{script}'"
                )));
            }
        };
        let summary_mode = match self.text(RUNTIME, "summary-mode").as_deref() {
            None | Some("compact") => SummaryMode::Compact,
            Some("full") => SummaryMode::Full,
            Some("disabled") => SummaryMode::Disabled,
            Some(other) => {
                return Err(usage(format!(
                    "invalid summary mode '{other}', use 'compact', 'full' or 'disabled'"
                )));
            }
        };
        let summary_mode = match self.truth(RUNTIME, "no-summary")? {
            Some(true) => SummaryMode::Disabled,
            _ => summary_mode,
        };
        if let Some(traces) = self.text(RUNTIME, "traces-output").filter(|t| t != "none") {
            return Err(usage(format!(
                "--traces-output={traces} is not supported by this version of Volley; use none"
            )));
        }
        let env = self.env_values()?;
        Ok(Runtime {
            include_system_env_vars: self
                .truth(RUNTIME, "include-system-env-vars")?
                .unwrap_or(system_env),
            env,
            compatibility,
            script_type,
            offline: self.truth(RUNTIME, "offline")?.unwrap_or(false),
            no_thresholds: self.truth(RUNTIME, "no-thresholds")?.unwrap_or(false),
            summary_mode,
            summary_export: self
                .text(RUNTIME, "summary-export")
                .filter(|path| !path.is_empty()),
            machine_readable_summary: self
                .truth(RUNTIME, "new-machine-readable-summary")?
                .unwrap_or(false),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read_with(arguments: &str, variables: &[(&str, &str)]) -> Result<Cli, Failure> {
        let arguments: Vec<String> = arguments.split_whitespace().map(str::to_owned).collect();
        let env = |name: &str| {
            variables
                .iter()
                .find(|(known, _)| *known == name)
                .map(|(_, value)| (*value).to_owned())
        };
        parse(&arguments, &env)
    }

    fn read(arguments: &str) -> Cli {
        read_with(arguments, &[]).unwrap_or_else(|e| panic!("{arguments}: {}", e.text))
    }

    fn wrong(arguments: &str) -> String {
        let failure = read_with(arguments, &[]).expect_err(arguments);
        assert_eq!(failure.code, 255, "{arguments}");
        failure.text
    }

    fn run(arguments: &str) -> Run {
        match read(arguments).command {
            Command::Run(run) => *run,
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn the_command_line_is_well_formed() {
        program().debug_assert();
    }

    #[test]
    fn the_operators_command_line_is_understood() {
        let line = "k6 run --quiet --execution-segment=1/4:2/4 \
            --execution-segment-sequence=0,1/4,2/4,3/4,1 --out prometheus=namespace=k6 /files/script.js \
            --address=0.0.0.0:6565 --paused --tag instance_id=2 --tag job_name=test-2 \
            --no-setup --no-teardown --linger -e K6_CLOUDRUN_INSTANCE_ID=2";
        let cli = read(line);
        assert!(cli.global.quiet);
        let address = cli.global.address.as_ref().expect("an address");
        assert!(address.text == "0.0.0.0:6565" && address.explicit);
        let run = run(line);
        assert_eq!(run.script, "/files/script.js");
        assert_eq!(run.out, Some(vec!["prometheus=namespace=k6".to_owned()]));
        assert_eq!(run.linger, Some(true));
        assert_eq!(
            run.runtime.env,
            [("K6_CLOUDRUN_INSTANCE_ID".to_owned(), "2".to_owned())]
        );
        let options = run.options;
        assert_eq!(options.paused, Some(true));
        assert_eq!(options.no_setup, Some(true));
        assert_eq!(
            options.execution_segment.map(|s| s.to_string()).as_deref(),
            Some("1/4:1/2")
        );
        let tags = options.tags.expect("tags");
        assert_eq!(tags["instance_id"], "2");
        assert_eq!(tags["job_name"], "test-2");
    }

    #[test]
    fn flags_take_every_form() {
        for line in [
            "k6 run -u5 -d 1m30s s.js",
            "k6 run s.js --vus=5 --duration=1m30s",
            "k6 run -u 5 s.js -d=1m30s",
            "k6 run --vus 3 --vus 5 --duration 1m30s s.js",
        ] {
            let options = run(line).options;
            assert_eq!(options.vus, Some(5), "{line}");
            assert_eq!(options.duration, Some(GoDuration::from_secs(90)), "{line}");
        }
        assert_eq!(
            run("k6 run --paused=false s.js").options.paused,
            Some(false)
        );
        assert_eq!(run("k6 run -pw s.js").options.throw, Some(true));
        assert_eq!(
            run("k6 run --http-debug s.js")
                .options
                .http_debug
                .as_deref(),
            Some("headers")
        );
        assert_eq!(
            run("k6 run --http-debug=full s.js")
                .options
                .http_debug
                .as_deref(),
            Some("full")
        );
        assert_eq!(run("k6 run -").script, "-");
        assert_eq!(
            run("k6 run -s 1s:5,2s:0 --stage 3s:1 s.js")
                .options
                .stages
                .map(|s| s.len()),
            Some(3)
        );
        assert_eq!(run("k6 run --vus -1 s.js").options.vus, Some(-1));
    }

    #[test]
    fn what_is_wrong_is_named_with_advice() {
        assert_eq!(wrong("k6 run --bogus s.js"), "unknown flag: --bogus");
        assert_eq!(
            wrong("k6 run --durations 5s s.js"),
            "unknown flag: --durations; did you mean --duration?"
        );
        assert_eq!(
            wrong("k6 ruin s.js"),
            "unknown command \"ruin\" for \"k6\"; did you mean run?"
        );
        assert!(
            wrong("k6 login").starts_with("unknown command \"login\" for \"k6\"; k6 has or had it")
        );
        assert_eq!(wrong("k6 scale"), "Specify either -u/--vus or -m/--max");
        assert_eq!(
            wrong("k6 scale -u x"),
            "invalid argument \"x\" for \"--vus\" flag: strconv.ParseInt: parsing \"x\": invalid syntax"
        );
        assert_eq!(
            wrong("k6 run -u abc s.js"),
            "invalid argument \"abc\" for \"-u, --vus\" flag: strconv.ParseInt: parsing \"abc\": invalid syntax"
        );
        assert_eq!(
            wrong("k6 run --duration 10 s.js"),
            "invalid argument \"10\" for \"-d, --duration\" flag: time: missing unit in duration \"10\""
        );
        assert_eq!(
            wrong("k6 run --tag foo s.js"),
            "error parsing tag 'foo': invalid tag, empty value"
        );
        assert_eq!(
            wrong("k6 run --tag =b s.js"),
            "error parsing tag '=b': invalid tag, empty name"
        );
        assert_eq!(
            wrong("k6 run -s 5 s.js"),
            "error for stage 0: time: missing unit in duration \"5\""
        );
        assert_eq!(
            wrong("k6 run -s :5 s.js"),
            "stage 0 doesn't have a specified duration"
        );
        assert_eq!(
            wrong("k6 run -e 1a=b s.js"),
            "invalid environment variable name '1a'"
        );
        assert_eq!(
            wrong("k6 run --summary-time-unit h s.js"),
            "invalid summary time unit 'h', use 's', 'ms' or 'us'"
        );
        assert_eq!(
            wrong("k6 run --execution-segment 2/3:1/3 s.js"),
            "segment start(0.67) must be less than its end(0.33)"
        );
        assert_eq!(
            wrong("k6 run"),
            "accepts 1 arg(s), received 0: arg should either be \"-\", if reading script from stdin, or a path to a script file"
        );
        assert_eq!(wrong("k6 inspect a b"), "accepts 1 arg(s), received 2");
        assert!(wrong("k6 inspect --vus 3 a").starts_with("unknown flag: --vus"));
        assert!(wrong("k6 run --paused=maybe s.js").contains("\"-p, --paused\""));
        assert!(wrong("k6 run --summary-mode legacy s.js").starts_with("invalid summary mode"));
        for (words, variables, mode) in [
            ("k6 run --no-summary s.js", &[][..], SummaryMode::Disabled),
            (
                "k6 run s.js",
                &[("K6_NO_SUMMARY", "true")][..],
                SummaryMode::Disabled,
            ),
            (
                "k6 run --no-summary=false s.js",
                &[("K6_NO_SUMMARY", "true")][..],
                SummaryMode::Compact,
            ),
            (
                "k6 run --no-summary --summary-mode full s.js",
                &[][..],
                SummaryMode::Disabled,
            ),
        ] {
            let Ok(Cli {
                command: Command::Run(run),
                ..
            }) = read_with(words, variables)
            else {
                panic!("{words}");
            };
            assert_eq!(run.runtime.summary_mode, mode, "{words}");
        }
        assert!(wrong("k6 run s.js --vus").contains("--vus"));
    }

    #[test]
    fn variables_stand_behind_flags() {
        let variables = [
            ("K6_ADDRESS", "127.0.0.1:1"),
            ("K6_LINGER", "1"),
            ("K6_SUMMARY_MODE", "full"),
            ("K6_INCLUDE_SYSTEM_ENV_VARS", "false"),
        ];
        let cli = read_with("k6 run s.js", &variables).expect("a command");
        assert!(!cli.global.address.expect("an address").explicit);
        let Command::Run(run) = cli.command else {
            panic!("run")
        };
        assert_eq!(run.linger, Some(true));
        assert_eq!(run.runtime.summary_mode, SummaryMode::Full);
        assert!(!run.runtime.include_system_env_vars);
        let cli =
            read_with("k6 run --linger=false --address= s.js", &variables).expect("a command");
        assert!(cli.global.address.is_none());
        let Command::Run(run) = cli.command else {
            panic!("run")
        };
        assert_eq!(run.linger, Some(false));
        let error =
            read_with("k6 run s.js", &[("K6_NO_THRESHOLDS", "maybe")]).expect_err("a bad boolean");
        assert!(
            error
                .text
                .starts_with("env var 'K6_NO_THRESHOLDS' is not a valid boolean value:")
        );
    }

    #[test]
    fn help_and_version_are_no_errors() {
        assert!(matches!(read("k6").command, Command::Help(text) if text.contains("archive")));
        assert!(
            matches!(read("k6 run --help").command, Command::Help(text) if text.contains("--vus"))
        );
        assert!(matches!(
            read("k6 --version").command,
            Command::Version { json: false }
        ));
        assert!(matches!(
            read("k6 version --json").command,
            Command::Version { json: true }
        ));
    }
}
