//! `run`: load, resolve, build, run, report. One named step a line in [`run`] and `Test::go`.

use std::{
    collections::{BTreeMap, BTreeSet},
    io::Write,
    sync::{Arc, atomic::Ordering},
    time::Duration,
};

use tokio::sync::mpsc;
use volley_metrics::{
    Breakdown, Collector, CollectorConfig, OutputContext, OutputLog, SeriesOptions, Severity,
    Snapshot, Thresholds,
};
use volley_scripting::{
    FileWait, Lifecycle, ScriptError, SummaryEntry, SummaryResult, SystemTags, VuSettings,
};

use super::{Consolidated, Loaded, config_file, file_wait, load::Found, system_env};
use crate::{
    api,
    archive::K6_VERSION,
    cli::{self, Runtime},
    control::{LifecycleRequest, RunControl},
    display::{Display, Subject, print},
    executor::Progress,
    exit::{Failure, code},
    health::RunInfo,
    logging::Level,
    measure::Measurements,
    memory, network,
    options::{ConfigFile, OptionError, Options, Scenario},
    outputs::{Scrape, Wanted},
    process::Outside,
    results::ResultDir,
    scheduler::{PATIENCE, Schedule, run_lifecycle, script_failure},
    signals::{Phase, Trap},
    state::RunState,
    summary::{
        SummaryMode, SummaryOptions,
        data::{self, RunDescription, Terminal},
        text,
    },
    worker::{Transient, Workers},
};

/// How many workers there are, if not one for each processor: for measurements and tests.
const WORKERS: &str = "VOLLEY_WORKERS";
/// How long an output may take to write what it still has.
const OUTPUT_PATIENCE: Duration = Duration::from_secs(30);
/// How long the summary waits for that after a signal: whoever sent it will not wait for ever
/// (`docker stop` waits for ten seconds).
const SUMMARY_PATIENCE: Duration = Duration::from_secs(6);
const SECOND: Duration = Duration::from_secs(1);

/// The outputs on their way to the end: what they could not write.
type Closing = tokio::task::JoinHandle<Vec<String>>;

/// Runs a test; answers the exit code. `find` finds the script.
pub(super) fn run(
    args: &cli::Run,
    outside: &Outside,
    find: impl FnOnce(&str, &Runtime, &[(String, String)], &Arc<FileWait>) -> Result<Found, Failure>,
) -> Result<u8, Failure> {
    let state = RunState::new(outside.logger.clone(), outside.secrets.clone());
    if args.options.paused.or(paused_by_env(outside)) == Some(true) {
        state.pause(true);
    }
    let trap = Trap::install(state.clone(), outside.logger.clone()).map_err(system)?;
    let (control, requests) = RunControl::new(state.clone());
    // Before anything that may take long: a probe has to find it.
    let api = serve_api(outside, &control)?;
    if api.is_some() {
        state.expect_steering();
    }
    let mut results = None;
    let prepared = args
        .result_dir
        .as_deref()
        .map(ResultDir::open)
        .transpose()
        .and_then(|opened| {
            results = opened;
            prepare(args, outside, find, &state, &control)
        });
    let test = match prepared {
        Ok(test) => test,
        Err(failure) => {
            let runtime = tokio::runtime::Builder::new_current_thread()
                .enable_all()
                .build()
                .map_err(system)?;
            if let Some(results) = &results {
                complain_of_results(outside, &results.save(failure.code, None));
            }
            let failure = runtime.block_on(state.hold(failure));
            // Whoever resumed it gets an answer.
            if let Some(server) = api {
                server.shutdown();
            }
            return Err(failure);
        }
    };
    trap.enter(Phase::Running);
    let code = test.go(&trap, requests, results.as_ref());
    if let Some(server) = api {
        server.shutdown();
    }
    code
}

fn complain_of_results(outside: &Outside, problems: &[String]) {
    for problem in problems {
        let text = format!("--result-dir: {problem}");
        outside.logger.log(Level::Error, &text, &[]);
    }
}

/// Everything before the first VU.
fn prepare<'a>(
    args: &'a cli::Run,
    outside: &'a Outside,
    find: impl FnOnce(&str, &Runtime, &[(String, String)], &Arc<FileWait>) -> Result<Found, Failure>,
    state: &Arc<RunState>,
    control: &RunControl,
) -> Result<Test<'a>, Failure> {
    let file = config_file(outside)?;
    let wanted = Wanted::parse(&wanted_outputs(args, &file, outside))?;
    let wait = file_wait(outside, state)?;
    let found = find(&args.script, &args.runtime, &system_env(outside), &wait)
        // Stopped while a file was waited for: that is why it is not there.
        .map_err(|failure| state.abort_reason().unwrap_or(failure))?;
    let loaded = Loaded::load(found, state)?;
    let linger = args.linger.or(file.linger).unwrap_or(false);
    Test::build(args, outside, loaded, file, wanted, state, control, linger)
}

/// `K6_PAUSED` as far as it can be understood; what it is wrong with it is told with the others.
fn paused_by_env(outside: &Outside) -> Option<bool> {
    outside.var("K6_PAUSED")?.parse().ok()
}

fn system(error: std::io::Error) -> Failure {
    Failure::new(
        code::OTHER,
        format!("the system refuses a thread or a handler: {error}"),
    )
}

fn serve_api(outside: &Outside, control: &Arc<RunControl>) -> Result<Option<api::Server>, Failure> {
    let Some(address) = &outside.global.address else {
        return Ok(None);
    };
    let served = api::bind(&address.text).and_then(|listener| {
        api::serve(listener, control.clone(), outside.logger.clone()).map_err(|e| e.to_string())
    });
    match served {
        Ok(server) => Ok(Some(server)),
        Err(problem) if address.explicit => {
            Err(Failure::new(code::API, "Error from API server").with("error", problem))
        }
        Err(problem) => {
            outside.logger.log(
                Level::Warning,
                "Error from API server",
                &[("error", &problem)],
            );
            Ok(None)
        }
    }
}

/// The outputs of the strongest place that names any: flags, environment, config file.
fn wanted_outputs(args: &cli::Run, file: &ConfigFile, outside: &Outside) -> Vec<String> {
    let env = || {
        let list = outside.var("K6_OUT").filter(|list| !list.is_empty())?;
        Some(list.split(',').map(str::to_owned).collect())
    };
    args.out
        .clone()
        .or_else(env)
        .or_else(|| file.out.clone())
        .unwrap_or_default()
}

/// A test that can start.
struct Test<'a> {
    args: &'a cli::Run,
    outside: &'a Outside,
    loaded: Loaded,
    options: Options,
    state: Arc<RunState>,
    schedule: Schedule,
    subject: Arc<Subject>,
    descriptions: Vec<String>,
    scrape: Option<Scrape>,
    linger: bool,
}

impl<'a> Test<'a> {
    /// Resolves the options, opens the outputs and starts the threads.
    #[allow(clippy::too_many_arguments)]
    fn build(
        args: &'a cli::Run,
        outside: &'a Outside,
        loaded: Loaded,
        file: ConfigFile,
        wanted: Wanted,
        state: &Arc<RunState>,
        control: &RunControl,
        linger: bool,
    ) -> Result<Self, Failure> {
        let merge_tags = features(args, outside);
        let consolidated =
            loaded.consolidate(outside, file.options, args.options.clone(), merge_tags)?;
        let thresholds = consolidated.thresholds(&args.runtime, &loaded.registry, outside)?;
        let submetrics = consolidated.default_submetrics();
        let Consolidated { resolved } = consolidated;
        let native_histograms = has_feature(args, NATIVE_HISTOGRAMS);
        let mut settings = settings(&resolved.options, &outside.env)?;
        if native_histograms {
            let tag = ("k6_feature_native_histograms".to_owned(), "true".to_owned());
            settings.run_tags.push(tag);
        }
        let settings = Arc::new(settings);
        let has_thresholds = !thresholds.is_empty();

        state.pause_by_option(resolved.options.paused.unwrap_or(false));
        let minimum = resolved
            .options
            .min_iteration_duration
            .unwrap_or_default()
            .to_std();
        let _ = state.min_iteration_duration.set(minimum);
        state.publish_options(resolved.script_json().to_string());

        let plan = resolved.plan();
        let vus = u64::try_from(plan.max_planned()).unwrap_or(0);
        let scenarios: Vec<Arc<Scenario>> =
            resolved.scenarios.iter().cloned().map(Arc::new).collect();
        let progress: Vec<Arc<Progress>> = scenarios
            .iter()
            .map(|s| Progress::new(&s.name, s.executor()))
            .collect();
        control.direct(scenarios.iter().cloned().zip(progress.clone()).collect());

        state.health.describe(RunInfo {
            segment: resolved.tuple.segment().to_string(),
            instances: resolved.tuple.instances(),
            script_sha256: loaded.found.sha256.clone(),
        });
        let series = wanted.series();
        let full = args.runtime.summary_mode == SummaryMode::Full;
        let collector = collector(&loaded, thresholds, submetrics, series, full);
        let context = OutputContext {
            system_tags: Arc::new(system_tags(&resolved.options)),
            env: outside.env.clone(),
            collectors: Arc::new(file.collectors),
            native_histograms,
            log: output_log(outside),
            ..OutputContext::new(
                loaded.registry.clone(),
                loaded.tags.clone(),
                collector.definitions(),
            )
        };
        let outputs = wanted.open(&context)?;
        let raw_samples = outputs.told.iter().any(|output| output.wants_raw());
        let warner = outside.logger.clone();
        let warn = move |text: &str| warner.log(Level::Warning, text, &[]);
        let (measurements, _) =
            Measurements::start(collector, outputs.told, warn).map_err(system)?;
        control.attach(measurements.clone());
        let scrape = outputs
            .scrape
            .map(|(listener, options)| {
                Scrape::start(listener, options, measurements.clone(), state.clone())
            })
            .transpose()
            .map_err(system)?;
        if let Some(scrape) = &scrape {
            let text = format!(
                "Prometheus metrics are served on http://{}/metrics",
                scrape.address()
            );
            outside.logger.log(Level::Debug, &text, &[]);
        }
        let workers = Workers::start(
            worker_count(outside),
            &loaded.registry,
            &loaded.tags,
            raw_samples,
            &measurements,
            state,
        )
        .map_err(system)?;
        state.health.watch(progress.clone());

        let timeout = |given: Option<crate::duration::GoDuration>| {
            given.map_or(60 * SECOND, |limit| limit.to_std())
        };
        let options = &resolved.options;
        let schedule = Schedule {
            state: state.clone(),
            workers,
            measurements,
            registry: loaded.registry.clone(),
            tags: loaded.tags.clone(),
            script: loaded.found.script.clone(),
            settings,
            scenarios: scenarios.clone(),
            progress: progress.clone(),
            tuple: resolved.tuple.clone(),
            vus,
            unplanned: u64::try_from(plan.max_possible() - plan.max_planned()).unwrap_or(0),
            has_thresholds,
            raw_samples,
            setup: loaded.exports.has("setup") && !options.no_setup.unwrap_or(false),
            teardown: loaded.exports.has("teardown") && !options.no_teardown.unwrap_or(false),
            setup_timeout: timeout(options.setup_timeout),
            teardown_timeout: timeout(options.teardown_timeout),
            memory: memory::limit(|name| outside.var(name))
                .map_err(|text| Failure::new(code::OTHER, text))?,
            start_at: args.start_at,
        };
        let subject = Subject {
            state: state.clone(),
            scenarios: scenarios.into_iter().zip(progress).collect(),
            tuple: resolved.tuple.clone(),
            plan,
            vus,
        };
        Ok(Self {
            args,
            outside,
            loaded,
            options: resolved.options,
            state: state.clone(),
            schedule,
            subject: Arc::new(subject),
            descriptions: outputs.descriptions,
            scrape,
            linger,
        })
    }

    /// Runs the test and reports it.
    fn go(
        mut self,
        trap: &Trap,
        requests: mpsc::UnboundedReceiver<LifecycleRequest>,
        results: Option<&ResultDir>,
    ) -> Result<u8, Failure> {
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build()
            .map_err(system)?;
        let local = tokio::task::LocalSet::new();
        local.block_on(&runtime, async move {
            let screen = self.outside.screen;
            let header = self.subject.header(&self.args.script, self.descriptions.clone(), screen.colors);
            if screen.quiet {
                self.outside.logger.log(Level::Debug, header.trim_matches('\n'), &[]);
            } else {
                print(&header);
            }
            let mut display = Display::start(self.subject.clone(), screen);
            let answering = tokio::task::spawn_local(self.answer_lifecycle(requests));
            let mut outcome = self.schedule.run().await;
            self.warn_if_nothing_ran();
            display.stop();
            // A signal that ended the run does not end the waiting: the next one ends the process.
            let signalled = trap.was_called();
            trap.enter(Phase::Ending);
            if self.linger {
                if !screen.quiet {
                    print("The test is done, but --linger was enabled, so k6 is waiting for Ctrl+C to continue...");
                }
                trap.called().await;
            }
            let (snapshot, closing) = self.finish(&mut outcome, signalled || self.linger).await;
            // A scrape from here on has the final values, also one during handleSummary.
            let scrapes = self.scrape.as_ref().map_or(0, Scrape::begun);
            if self.args.runtime.summary_mode != SummaryMode::Disabled {
                self.summarise(&snapshot).await;
            } else if let Some(doubt) = self.state.health.verdict(self.state.run_duration()) {
                self.state.warn(&doubt);
            }
            display.last();
            answering.abort();
            let code = self.verdict(outcome);
            if let (Some(results), Ok(code)) = (results, &code) {
                let options = self.summary_options();
                let setup_data = self.state.setup_json();
                let data = self.summary_data(&snapshot, &options, setup_data.as_deref());
                let problems = results.save(*code, Some((&snapshot, &data)));
                complain_of_results(self.outside, &problems);
            }
            if let Some(closing) = closing {
                self.complain(closing.await);
            }
            self.outside.logger.flush(SECOND);
            if let Some(scrape) = self.scrape.take() {
                if let Some(limit) = scrape.patience(scrapes, signalled) {
                    if !screen.quiet {
                        print(&format!(
                            "\nThe final values wait for one more scrape, {} at most (linger); \
                             Ctrl+C ends that.\n",
                            crate::duration::GoDuration::from_std(limit)
                        ));
                    }
                    tokio::select! {
                        () = scrape.linger(scrapes, limit) => {}
                        () = trap.called(), if !signalled => {}
                    }
                }
                scrape.shutdown();
            }
            code
        })
    }

    /// Runs `setup` and `teardown` for whom asks over the API.
    fn answer_lifecycle(
        &self,
        mut requests: mpsc::UnboundedReceiver<LifecycleRequest>,
    ) -> impl Future<Output = ()> + use<> {
        let (workers, state) = (self.schedule.workers.clone(), self.state.clone());
        let (script, settings) = (self.schedule.script.clone(), self.schedule.settings.clone());
        let limits = (self.schedule.setup_timeout, self.schedule.teardown_timeout);
        async move {
            let transient = Transient {
                workers: &workers,
                state: &state,
                script: &script,
                settings: &settings,
            };
            while let Some((what, answer)) = requests.recv().await {
                let limit = match what {
                    Lifecycle::Setup => limits.0,
                    Lifecycle::Teardown => limits.1,
                };
                let ran = run_lifecycle(&transient, what, limit, state.setup_json()).await;
                let _ = answer.send(match ran {
                    Ok(data) => {
                        if what == Lifecycle::Setup {
                            state.set_setup_json(data);
                        }
                        Ok(())
                    }
                    Err(failure) => {
                        let text = match what {
                            Lifecycle::Setup => "Error executing setup",
                            Lifecycle::Teardown => "Error executing teardown",
                        };
                        state
                            .logger
                            .log(Level::Error, text, &[("error", &failure.text)]);
                        Err(failure.text)
                    }
                });
            }
        }
    }

    fn warn_if_nothing_ran(&self) {
        let (complete, _) = self.state.iterations();
        if complete == 0 {
            self.state.warn(
                "No script iterations fully finished, consider making the test duration longer",
            );
        }
    }

    /// Gathers what is still on its way, judges the thresholds a last time, closes the outputs. In
    /// a `hurry` those that are slow to end are handed back, to be waited for after the summary.
    async fn finish(
        &self,
        outcome: &mut Result<(), Failure>,
        hurry: bool,
    ) -> (Arc<Snapshot>, Option<Closing>) {
        let schedule = &self.schedule;
        schedule.workers.flush(PATIENCE).await;
        let run = self.state.run_duration();
        if schedule.has_thresholds {
            let verdict = schedule
                .measurements
                .ask(move |c| c.evaluate(run, true))
                .await;
            let crossed = verdict.unwrap_or_default().crossed;
            self.state
                .tainted
                .store(!crossed.is_empty(), Ordering::Relaxed);
            if outcome.is_ok() && !crossed.is_empty() && !self.state.is_marked_failed() {
                let text = format!(
                    "thresholds on metrics '{}' have been crossed",
                    crossed.join(", ")
                );
                *outcome = Err(Failure::new(code::THRESHOLDS, text));
            }
        }
        let measurements = schedule.measurements.clone();
        // Beside this thread: a full disk may take its time, a second signal must not.
        let mut closing =
            tokio::task::spawn_blocking(move || measurements.finish_outputs(OUTPUT_PATIENCE));
        let limit = match hurry {
            true => SUMMARY_PATIENCE,
            false => OUTPUT_PATIENCE + SECOND,
        };
        let closing = match tokio::time::timeout(limit, &mut closing).await {
            Ok(problems) => {
                self.complain(problems);
                None
            }
            Err(_) => Some(closing),
        };
        let snapshot = schedule.measurements.snapshot(run).await;
        // The collector only ends by a panic, which has been reported where it happened.
        let snapshot = snapshot.unwrap_or_else(|| {
            Arc::new(Snapshot {
                metrics: Vec::new(),
                root_group: volley_metrics::Group::default(),
                checks: Vec::new(),
                run_seconds: run.as_secs_f64(),
            })
        });
        (snapshot, closing)
    }

    /// Says what outputs could not write.
    fn complain(&self, problems: Result<Vec<String>, tokio::task::JoinError>) {
        // Their closing only fails by a panic, which has been reported where it happened.
        for problem in problems.unwrap_or_default() {
            self.state.error(&problem);
        }
    }

    /// Calls `handleSummary`, prints the summary, writes the files.
    async fn summarise(&self, snapshot: &Snapshot) {
        let options = self.summary_options();
        let setup_data = self.state.setup_json();
        let data = self.summary_data(snapshot, &options, setup_data.as_deref());
        let export = self
            .args
            .runtime
            .summary_export
            .as_ref()
            .map(|path| SummaryEntry {
                destination: path.clone(),
                content: match self.args.runtime.machine_readable_summary {
                    true => data::indented(&data).into_bytes(),
                    false => data::export(&data).into_bytes(),
                },
            });
        let doubt = self.state.health.verdict(self.state.run_duration());
        let mut entries = match self.script_summary(&data, setup_data.is_some()).await {
            ScriptSummary::BuiltIn => {
                let mut text = text::render(snapshot, &self.breakdown().await, &options);
                if let Some(doubt) = &doubt {
                    text += &format!("  ! {doubt}\n\n");
                }
                vec![SummaryEntry {
                    destination: "stdout".to_owned(),
                    content: text.into_bytes(),
                }]
            }
            other => {
                // Whoever writes the summary, the doubt is not lost.
                if let Some(doubt) = &doubt {
                    self.state.warn(doubt);
                }
                match other {
                    ScriptSummary::Own(entries) => entries,
                    _ => Vec::new(),
                }
            }
        };
        entries.extend(export);
        let problems: Vec<String> = entries
            .iter()
            .filter_map(|entry| write(entry).err())
            .collect();
        if !problems.is_empty() {
            let list = problems.iter().map(|problem| format!("\n\t- {problem}"));
            let text = format!(
                "Could not save some summary information:{}",
                list.collect::<String>()
            );
            self.complain_of_summary(&text);
        }
    }

    /// The sections of the full summary; in the other modes there are none.
    async fn breakdown(&self) -> Breakdown {
        let run = self.state.run_duration();
        let asked = self.schedule.measurements.ask(move |c| c.breakdown(run));
        asked.await.unwrap_or_default()
    }

    /// What the script makes of the data.
    async fn script_summary(
        &self,
        data: &serde_json::Value,
        has_setup_data: bool,
    ) -> ScriptSummary {
        let exports = &self.loaded.exports;
        if exports.others.iter().any(|name| name == "handleSummary") {
            self.complain_of_summary("exported identifier handleSummary must be a function");
            return ScriptSummary::None;
        }
        let transient = Transient {
            workers: &self.schedule.workers,
            state: &self.state,
            script: &self.schedule.script,
            settings: &self.schedule.settings,
        };
        let limit = self
            .options
            .handle_summary_timeout
            .map_or(120 * SECOND, |limit| limit.to_std());
        let json: Arc<str> = data.to_string().into();
        // k6 makes a VU here even for a script that does not export it: its top level runs once more.
        let ran = transient.run(limit, move |mut vu| async move {
            let result = vu.summarise(json, has_setup_data).await;
            (vu, result)
        });
        match ran.await {
            Ok(Some(Ok(SummaryResult::Default))) => ScriptSummary::BuiltIn,
            Ok(Some(Ok(SummaryResult::Entries(entries)))) => ScriptSummary::Own(entries),
            Ok(Some(Ok(SummaryResult::Unusable(text)))) => {
                self.complain_of_summary(&text);
                ScriptSummary::None
            }
            Ok(Some(Err(error))) | Err(error) => {
                let failure = match (&error, self.state.abort_reason()) {
                    // It called `exec.test.abort()`: that reason says more than that it stopped.
                    (ScriptError::Aborted | ScriptError::Interrupted, Some(reason)) => reason,
                    _ => script_failure(&error),
                };
                self.log_failure(&failure);
                ScriptSummary::BuiltIn
            }
            Ok(None) => {
                let text = format!(
                    "handleSummary() execution timed out after {:.0} seconds",
                    limit.as_secs_f64()
                );
                self.complain_of_summary(&text);
                ScriptSummary::None
            }
        }
    }

    fn complain_of_summary(&self, text: &str) {
        let message = "failed to handle the end-of-test summary";
        self.outside
            .logger
            .log(Level::Error, message, &[("error", text)]);
    }

    fn summary_options(&self) -> SummaryOptions {
        let stats = self.options.summary_trend_stats.clone().unwrap_or_default();
        SummaryOptions {
            trend_stats: stats.0,
            time_unit: self
                .options
                .summary_time_unit
                .clone()
                .filter(|unit| !unit.is_empty()),
            colors: self.outside.screen.colors != crate::progress::Colors::None,
            mode: self.args.runtime.summary_mode,
        }
    }

    fn summary_data(
        &self,
        snapshot: &Snapshot,
        options: &SummaryOptions,
        setup_data: Option<&str>,
    ) -> serde_json::Value {
        if self.args.runtime.machine_readable_summary {
            let script = self.loaded.found.script.source();
            let run = RunDescription {
                script: &String::from_utf8_lossy(&script),
                k6_version: K6_VERSION,
                generated_at: time::OffsetDateTime::now_utc(),
            };
            return data::machine_readable(snapshot, options, run);
        }
        let terminal = Terminal {
            stdout_tty: self.outside.screen.tty,
            stderr_tty: self.outside.stderr_tty,
            no_color: self.outside.global.no_color,
        };
        let setup_data = setup_data.and_then(|json| serde_json::from_str(json).ok());
        data::legacy(snapshot, options, terminal, setup_data.as_ref())
    }

    /// The exit code, with the last line of the log.
    fn verdict(&self, outcome: Result<(), Failure>) -> Result<u8, Failure> {
        let failure = match outcome {
            Err(failure) => failure,
            Ok(()) if self.state.is_marked_failed() => {
                Failure::new(code::MARKED_FAILED, "test run was marked as failed")
            }
            Ok(()) => return Ok(0),
        };
        self.log_failure(&failure);
        Ok(failure.code)
    }

    fn log_failure(&self, failure: &Failure) {
        failure.log(&self.outside.logger);
    }
}

/// What becomes of the summary.
enum ScriptSummary {
    /// The text that k6 prints.
    BuiltIn,
    /// What the script returned.
    Own(Vec<SummaryEntry>),
    /// Nothing: something was wrong.
    None,
}

/// Writes one value of the summary to its place.
fn write(entry: &SummaryEntry) -> Result<(), String> {
    let path = match entry.destination.as_str() {
        "stdout" => {
            let mut stdout = std::io::stdout().lock();
            // Nobody reads it: that is no failure of the test.
            let _ = stdout
                .write_all(&entry.content)
                .and_then(|()| stdout.flush());
            return Ok(());
        }
        "stderr" => {
            let _ = std::io::stderr().lock().write_all(&entry.content);
            return Ok(());
        }
        path => path,
    };
    let reason = |error: std::io::Error| crate::logging::reason(&error);
    let mut file = std::fs::File::create(path)
        .map_err(|e| format!("could not open '{path}': open {path}: {}", reason(e)))?;
    file.write_all(&entry.content).map_err(|e| {
        format!(
            "error saving summary to '{path}': write {path}: {}",
            reason(e)
        )
    })
}

const MERGE_RUN_TAGS: &str = "merge-run-tags";
const NATIVE_HISTOGRAMS: &str = "native-histograms";

/// Whether tags are merged; unknown features are complained of.
fn features(args: &cli::Run, outside: &Outside) -> bool {
    let supported = [MERGE_RUN_TAGS, NATIVE_HISTOGRAMS];
    for name in args
        .features
        .iter()
        .filter(|name| !supported.contains(&name.as_str()))
    {
        let text = if name == "freeze-env" {
            format!("the feature '{name}' is not supported by this version of Volley")
        } else {
            format!("unknown feature '{name}'")
        };
        outside.logger.log(Level::Error, &text, &[]);
    }
    has_feature(args, MERGE_RUN_TAGS)
}

fn has_feature(args: &cli::Run, feature: &str) -> bool {
    args.features.iter().any(|name| name == feature)
}

/// The names of the system tags that are on.
fn system_tags(options: &Options) -> BTreeSet<String> {
    let tags = options.system_tags.clone().unwrap_or_default();
    tags.0.into_iter().collect()
}

/// The log, for outputs.
fn output_log(outside: &Outside) -> OutputLog {
    let logger = outside.logger.clone();
    OutputLog::new(move |severity, message, fields| {
        let level = match severity {
            Severity::Warning => Level::Warning,
            Severity::Error => Level::Error,
        };
        logger.log(level, message, fields);
    })
}

/// What VUs act on.
fn settings(options: &Options, env: &BTreeMap<String, String>) -> Result<VuSettings, OptionError> {
    let tags = options.tags.clone().unwrap_or_default();
    let system_tags = options.system_tags.clone().unwrap_or_default();
    let redirects = options.max_redirects;
    Ok(VuSettings {
        system_tags: SystemTags::from_names(system_tags.0.iter().map(String::as_str)),
        run_tags: tags.into_iter().collect(),
        throw: options.throw.unwrap_or(false),
        discard_response_bodies: options.discard_response_bodies.unwrap_or(false),
        max_redirects: (
            redirects.map_or(10, |n| u32::try_from(n).unwrap_or(0)),
            redirects.is_some(),
        ),
        no_cookies_reset: options.no_cookies_reset.unwrap_or(false),
        no_vu_connection_reuse: options.no_vu_connection_reuse.unwrap_or(false),
        http_debug: options
            .http_debug
            .as_deref()
            .filter(|mode| !mode.is_empty())
            .map(|mode| mode == "full"),
        net: Arc::new(network::config(options, env)?),
    })
}

fn collector(
    loaded: &Loaded,
    thresholds: Thresholds,
    default_submetrics: Vec<String>,
    series: Option<SeriesOptions>,
    breakdown: bool,
) -> Collector {
    Collector::new(CollectorConfig {
        registry: loaded.registry.clone(),
        tags: loaded.tags.clone(),
        thresholds,
        series,
        breakdown,
        default_submetrics,
    })
}

/// One worker for each processor that this process may use, quotas of its cgroup respected.
fn worker_count(outside: &Outside) -> usize {
    let wanted = outside
        .var(WORKERS)
        .and_then(|text| text.parse().ok())
        .filter(|n| *n > 0);
    let available = || std::thread::available_parallelism().map_or(1, usize::from);
    wanted.unwrap_or_else(available)
}
