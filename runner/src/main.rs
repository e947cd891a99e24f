//! The `volley` program, `k6` in its image: parse, run, and turn an error into an exit code.

mod api;
mod archive;
mod cgroup;
mod cli;
mod commands;
mod control;
mod demo;
mod display;
mod duration;
mod executor;
mod exit;
mod health;
mod inspect;
mod lateness;
mod logging;
mod measure;
mod memory;
mod network;
mod options;
mod outputs;
mod process;
mod progress;
mod results;
mod scheduler;
mod secrets;
mod segment;
mod signals;
mod state;
mod stopwatch;
mod summary;
mod timer;
mod worker;

use std::time::Duration;

use exit::{Failure, code};
use process::Outside;

/// Small objects of thousands of heaps, made and freed on the threads that own them: the system's
/// allocator costs a tenth more time there.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

#[expect(
    clippy::disallowed_methods,
    reason = "the one place where a run ends the process"
)]
fn main() {
    report_panics();
    let code = std::panic::catch_unwind(run).unwrap_or(code::PANIC);
    // Without unwinding what is still there: freeing thousands of heaps would take seconds.
    std::process::exit(i32::from(code));
}

fn run() -> u8 {
    volley_scripting::prepare_process();
    raise_open_files();
    let arguments: Vec<String> = std::env::args_os()
        .map(|arg| arg.to_string_lossy().into_owned())
        .collect();
    let env = process::environment();
    let lookup = |name: &str| env.get(name).cloned();
    let opened = cli::parse(&arguments, &lookup).and_then(|cli| {
        let console = console_output(&cli, &lookup);
        let outside = Outside::open(env.clone(), cli.global.clone(), console.as_deref())?;
        Ok((cli, outside))
    });
    let (cli, outside) = match opened {
        Ok(opened) => opened,
        Err(failure) => return complain(&failure),
    };
    let code = commands::dispatch(cli, &outside).unwrap_or_else(|failure| {
        failure.log(&outside.logger);
        failure.code
    });
    outside.logger.flush(Duration::from_secs(2));
    code
}

/// Each connection is an open file, and the soft limit is often 1024, for the sake of programs that
/// use select(2). k6 takes what the hard limit gives, as every Go program does.
fn raise_open_files() {
    use rustix::process::{Resource, getrlimit, setrlimit};
    let mut limit = getrlimit(Resource::Nofile);
    limit.current = limit.maximum;
    // A refusal leaves the limit as it was.
    let _ = setrlimit(Resource::Nofile, limit);
}

/// Where `console.*` goes instead of the log: it has to be known before the log is opened.
fn console_output(cli: &cli::Cli, env: &dyn Fn(&str) -> Option<String>) -> Option<String> {
    let options = match &cli.command {
        cli::Command::Run(run) | cli::Command::Demo(run) => &run.options,
        cli::Command::Archive(archive) => &archive.options,
        _ => return None,
    };
    options
        .console_output
        .clone()
        .or_else(|| env("K6_CONSOLE_OUTPUT"))
        .filter(|path| !path.is_empty())
}

/// Logs a failure that came before there was a log.
fn complain(failure: &Failure) -> u8 {
    let options = logging::LogOptions::default();
    match logging::Logger::open(&options) {
        Ok(logger) => {
            failure.log(&logger);
            logger.flush(Duration::from_secs(1));
        }
        Err(_) => eprintln!("level=error msg={:?}", failure.text),
    }
    failure.code
}

/// A panic is one line of the log's form, wherever it happens: the operator looks for `level=error`.
fn report_panics() {
    std::panic::set_hook(Box::new(|panic| {
        let payload = panic.payload();
        let text = match (
            payload.downcast_ref::<&str>(),
            payload.downcast_ref::<String>(),
        ) {
            (Some(text), _) => text,
            (None, Some(text)) => text.as_str(),
            (None, None) => "a panic without words",
        };
        let place = panic
            .location()
            .map_or_else(String::new, |at| format!(" at {at}"));
        let failure = Failure::new(code::PANIC, format!("unexpected k6 panic: {text}{place}"));
        complain(&failure);
    }));
}
