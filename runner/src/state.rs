//! The state of the run: what scripts, the REST API and the progress lines see of it.

use std::{
    sync::{
        Arc, Mutex, OnceLock,
        atomic::{AtomicBool, AtomicU8, AtomicU64, Ordering},
    },
    time::Duration,
};

use tokio::sync::watch;
use volley_scripting::{Host, InstanceInfo, Level, SecretAnswer};

use crate::{
    exit::{Failure, code},
    health::Health,
    logging::{self, Logger},
    secrets::Secrets,
    stopwatch::Stopwatch,
};

/// How far the run is; the numbers are those of the REST API.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
#[repr(u8)]
pub(crate) enum Status {
    /// The script is being loaded.
    Created = 0,
    /// VUs are being made.
    InitVus = 1,
    /// Executors are being prepared.
    InitExecutors = 2,
    /// Ready.
    InitDone = 3,
    /// Waiting to be resumed.
    PausedBeforeRun = 4,
    /// The run clock runs.
    Started = 5,
    /// `setup()`.
    Setup = 6,
    /// Scenarios.
    Running = 7,
    /// `teardown()`.
    Teardown = 8,
    /// Over.
    Ended = 9,
    /// Aborted.
    Interrupted = 10,
    /// The script called `exec.test.fail()`.
    MarkedFailed = 11,
}

/// What `setup()` returned or the REST API stored.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct SetupData {
    /// JSON text; `None` for `undefined`.
    pub(crate) json: Option<Arc<str>>,
}

/// Everything about a run that more than one thread looks at.
pub(crate) struct RunState {
    pub(crate) logger: Arc<Logger>,
    secrets: Arc<Secrets>,
    status: AtomicU8,
    pub(crate) paused: watch::Sender<bool>,
    pub(crate) abort: watch::Sender<bool>,
    abort_reason: Mutex<Option<Failure>>,
    marked_failed: AtomicBool,
    pub(crate) tainted: AtomicBool,
    pub(crate) health: Health,
    pub(crate) vus_active: AtomicU64,
    pub(crate) vus_initialized: AtomicU64,
    iterations_completed: AtomicU64,
    iterations_interrupted: AtomicU64,
    clock: Stopwatch,
    options: OnceLock<Arc<str>>,
    pub(crate) setup_data: Mutex<SetupData>,
    /// Short iterations are followed by a wait until they are this long; set once it is known.
    pub(crate) min_iteration_duration: OnceLock<Duration>,
    /// Somebody has said whether to pause: the script's word comes too late.
    pause_decided: AtomicBool,
    tearing_down: AtomicBool,
    /// Somebody outside has the address of the REST API.
    is_steered: AtomicBool,
}

impl RunState {
    /// A run whose script is not known yet.
    pub(crate) fn new(logger: Arc<Logger>, secrets: Arc<Secrets>) -> Arc<Self> {
        Arc::new(Self {
            logger,
            secrets,
            status: AtomicU8::new(Status::Created as u8),
            paused: watch::Sender::new(false),
            abort: watch::Sender::new(false),
            abort_reason: Mutex::default(),
            marked_failed: AtomicBool::new(false),
            tainted: AtomicBool::new(false),
            health: Health::default(),
            vus_active: AtomicU64::new(0),
            vus_initialized: AtomicU64::new(0),
            iterations_completed: AtomicU64::new(0),
            iterations_interrupted: AtomicU64::new(0),
            clock: Stopwatch::default(),
            options: OnceLock::new(),
            setup_data: Mutex::default(),
            min_iteration_duration: OnceLock::new(),
            pause_decided: AtomicBool::new(false),
            tearing_down: AtomicBool::new(false),
            is_steered: AtomicBool::new(false),
        })
    }

    /// Moves on; an aborted run stays aborted.
    pub(crate) fn set_status(&self, status: Status) {
        if !self.is_aborted() || status == Status::Interrupted {
            self.status.store(status as u8, Ordering::Release);
        }
    }

    /// The number of the status.
    pub(crate) fn status(&self) -> u8 {
        self.status.load(Ordering::Acquire)
    }

    /// Whether the run has started and not ended.
    pub(crate) fn running(&self) -> bool {
        let status = self.status();
        let over = [Status::Ended as u8, Status::MarkedFailed as u8].contains(&status);
        self.clock.has_started() && !over
    }

    /// Pauses or resumes the run; whatever the options say later does not count any more.
    pub(crate) fn pause(&self, paused: bool) {
        self.pause_decided.store(true, Ordering::Release);
        self.paused.send_replace(paused);
        self.clock.pause(paused);
    }

    /// What the options say about pausing, unless somebody was quicker.
    pub(crate) fn pause_by_option(&self, paused: bool) {
        if !self.pause_decided.load(Ordering::Acquire) {
            self.paused.send_replace(paused);
        }
    }

    /// Somebody outside has the address of the REST API, and resumes the run when it is paused.
    pub(crate) fn expect_steering(&self) {
        self.is_steered.store(true, Ordering::Release);
    }

    /// A failure before the start, ready to end the process.
    ///
    /// Whoever paused the run waits for it to be ready: the operator starts its runners only when
    /// all of them are running, and one that is gone leaves the others paused for ever. So a
    /// paused run says at once what is wrong, goes on answering, and ends when it is resumed or
    /// stopped.
    pub(crate) async fn hold(&self, mut failure: Failure) -> Failure {
        let mut paused = self.paused.subscribe();
        let waits = *paused.borrow_and_update() && self.is_steered.load(Ordering::Acquire);
        if waits && !self.is_aborted() {
            failure.tell(&self.logger);
            self.warn(&format!(
                "The run cannot start. The process ends with exit code {} when it is resumed or \
                 stopped, because whoever paused it waits for it",
                failure.code
            ));
            tokio::select! {
                _ = paused.wait_for(|paused| !paused) => {}
                () = self.aborted() => {}
            }
        }
        failure
    }

    /// From here on nothing but its own limit interrupts a script's function.
    pub(crate) fn tear_down(&self) {
        self.tearing_down.store(true, Ordering::Release);
        self.set_status(Status::Teardown);
    }

    /// Whether `teardown()` has begun.
    pub(crate) fn is_tearing_down(&self) -> bool {
        self.tearing_down.load(Ordering::Acquire)
    }

    /// Ends the run early. Only the first reason counts.
    pub(crate) fn abort(&self, reason: Failure) {
        {
            let mut first = self.abort_reason.lock().unwrap_or_else(|e| e.into_inner());
            if first.is_some() {
                return;
            }
            *first = Some(reason);
        }
        self.abort.send_replace(true);
        self.status
            .store(Status::Interrupted as u8, Ordering::Release);
    }

    /// Whether the run was ended early.
    pub(crate) fn is_aborted(&self) -> bool {
        *self.abort.borrow()
    }

    /// Why the run was ended early.
    pub(crate) fn abort_reason(&self) -> Option<Failure> {
        let reason = self.abort_reason.lock().unwrap_or_else(|e| e.into_inner());
        reason.clone()
    }

    /// Done when the run is aborted.
    pub(crate) async fn aborted(&self) {
        let mut abort = self.abort.subscribe();
        let _ = abort.wait_for(|aborted| *aborted).await;
    }

    /// Whether the script called `exec.test.fail()`.
    pub(crate) fn is_marked_failed(&self) -> bool {
        self.marked_failed.load(Ordering::Acquire)
    }

    /// Starts the run clock.
    pub(crate) fn start_clock(&self) {
        self.clock.start();
    }

    /// Stops the run clock. Also that of an aborted run, which k6 lets go on: rates would fall
    /// while the agent lingers.
    pub(crate) fn stop_clock(&self) {
        self.clock.stop();
    }

    /// What the run clock shows.
    pub(crate) fn run_duration(&self) -> Duration {
        self.clock.elapsed()
    }

    /// One iteration has ended.
    pub(crate) fn count_iteration(&self, complete: bool) {
        let counter = if complete {
            &self.iterations_completed
        } else {
            &self.iterations_interrupted
        };
        counter.fetch_add(1, Ordering::Relaxed);
    }

    /// Complete and interrupted iterations so far.
    pub(crate) fn iterations(&self) -> (u64, u64) {
        (
            self.iterations_completed.load(Ordering::Relaxed),
            self.iterations_interrupted.load(Ordering::Relaxed),
        )
    }

    /// Publishes the consolidated options for `exec.test.options`.
    pub(crate) fn publish_options(&self, json: String) {
        let _ = self.options.set(json.into());
    }

    /// The setup data as it is now.
    pub(crate) fn setup_json(&self) -> Option<Arc<str>> {
        let data = self.setup_data.lock().unwrap_or_else(|e| e.into_inner());
        data.json.clone()
    }

    /// Replaces the setup data.
    pub(crate) fn set_setup_json(&self, json: Option<Arc<str>>) {
        let mut data = self.setup_data.lock().unwrap_or_else(|e| e.into_inner());
        data.json = json;
    }

    /// Logs a warning.
    pub(crate) fn warn(&self, text: &str) {
        self.logger.log(logging::Level::Warning, text, &[]);
    }

    /// Logs an error.
    pub(crate) fn error(&self, text: &str) {
        self.logger.log(logging::Level::Error, text, &[]);
    }
}

fn log_level(level: Level) -> logging::Level {
    match level {
        Level::Debug => logging::Level::Debug,
        Level::Info => logging::Level::Info,
        Level::Warning => logging::Level::Warning,
        Level::Error => logging::Level::Error,
    }
}

impl Host for RunState {
    fn log(&self, level: Level, message: &str, fields: &[(&str, &str)]) {
        match fields {
            [("source", "console")] => self.logger.console(log_level(level), message),
            _ => self.logger.log(log_level(level), message, fields),
        }
    }

    fn abort(&self, text: String) {
        RunState::abort(self, Failure::new(code::ABORTED, text));
    }

    fn mark_failed(&self) {
        self.marked_failed.store(true, Ordering::Release);
    }

    fn instance(&self) -> InstanceInfo {
        let (complete, interrupted) = self.iterations();
        InstanceInfo {
            iterations_completed: complete,
            iterations_interrupted: interrupted,
            vus_active: self.vus_active.load(Ordering::Relaxed),
            vus_initialized: self.vus_initialized.load(Ordering::Relaxed),
            run_ms: self.run_duration().as_nanos() as f64 / 1e6,
        }
    }

    fn options(&self) -> Option<Arc<str>> {
        self.options.get().cloned()
    }

    fn secret(&self, source: Option<&str>, key: &str) -> SecretAnswer {
        self.secrets.get(source, key)
    }
}
