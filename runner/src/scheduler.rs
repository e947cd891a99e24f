//! The life of a run: VUs, pause, setup, scenarios at their offsets, teardown.
//!
//! Everything here runs on the coordinator thread, on tokio's clock; nothing of it is on the path
//! of an iteration.

use std::{
    cell::RefCell,
    rc::Rc,
    sync::{Arc, atomic::Ordering},
    time::Duration,
};

use futures_util::{StreamExt, stream};
use time::OffsetDateTime;
use volley_metrics::{Recorder, Registry, TagTable, builtin};
use volley_scripting::{Activation, Lifecycle, Script, ScriptError, VuSettings};

use crate::{
    executor::{self, Dropped, Progress, Run, Say},
    exit::{Failure, code},
    measure::{Measurements, unix_ns},
    memory::Forecast,
    options::Scenario,
    segment::Tuple,
    state::{RunState, Status},
    worker::{Recipe, SharedPool, Transient, Unmade, VuPool, Workers},
};

/// How often thresholds are evaluated.
const EVALUATION: Duration = Duration::from_secs(2);
/// How often `vus` and `vus_max` are sampled.
const SAMPLING: Duration = Duration::from_secs(1);
/// How long a worker may take to hand its shard over.
pub(crate) const PATIENCE: Duration = Duration::from_millis(500);

/// Everything a run is made of, ready to go.
pub(crate) struct Schedule {
    pub(crate) state: Arc<RunState>,
    pub(crate) workers: Arc<Workers>,
    pub(crate) measurements: Measurements,
    pub(crate) registry: Arc<Registry>,
    pub(crate) tags: Arc<TagTable>,
    pub(crate) script: Arc<Script>,
    pub(crate) settings: Arc<VuSettings>,
    pub(crate) scenarios: Vec<Arc<Scenario>>,
    pub(crate) progress: Vec<Arc<Progress>>,
    pub(crate) tuple: Tuple,
    /// VUs to make before the start, and VUs that may be made after it.
    pub(crate) vus: u64,
    pub(crate) unplanned: u64,
    pub(crate) has_thresholds: bool,
    pub(crate) raw_samples: bool,
    pub(crate) setup: bool,
    pub(crate) teardown: bool,
    pub(crate) setup_timeout: Duration,
    pub(crate) teardown_timeout: Duration,
    /// Bytes that the process may use, if that is limited.
    pub(crate) memory: Option<u64>,
    /// When to start, if that was agreed on.
    pub(crate) start_at: Option<OffsetDateTime>,
}

/// Ends the tasks of a run with it.
struct Background(Vec<tokio::task::JoinHandle<()>>);

impl Drop for Background {
    fn drop(&mut self) {
        for task in &self.0 {
            task.abort();
        }
    }
}

impl Schedule {
    /// Runs the test, from the making of the VUs to the end of teardown. How it went is in the
    /// state: its abort reason, and the failure that this answers.
    pub(crate) async fn run(&self) -> Result<(), Failure> {
        let _background = self.start_background();
        let outcome = self.phases().await;
        if let Err(failure) = &outcome {
            // So that everybody, the REST API too, sees an ended run.
            self.state.abort(failure.clone());
        }
        self.state.stop_clock();
        self.state.set_status(if self.state.is_marked_failed() {
            Status::MarkedFailed
        } else {
            Status::Ended
        });
        match (self.state.abort_reason(), outcome) {
            // It came before whatever ended the wait.
            (_, Err(failure)) if failure.is_told() => Err(failure),
            (Some(reason), _) => Err(reason),
            (None, outcome) => outcome,
        }
    }

    async fn phases(&self) -> Result<(), Failure> {
        let state = &self.state;
        state.set_status(Status::InitVus);
        let recipe = Recipe {
            script: self.script.clone(),
            settings: self.settings.clone(),
            tuple: self.tuple.clone(),
        };
        let pool = VuPool::new(self.workers.clone(), state.clone(), recipe, self.unplanned);
        let forecast = Forecast::new(self.memory, self.vus, self.vus + self.unplanned);
        let made = tokio::select! {
            made = pool.fill(self.vus, forecast) => made,
            () = state.aborted() => return Ok(()),
        };
        if let Err(unmade) = made {
            let failure = match unmade {
                Unmade::Vu(id, error) => vu_failure(id, &error),
                Unmade::NoRoom(text) => Failure::new(code::OTHER, text),
            };
            return Err(state.hold(failure).await);
        }
        state.set_status(Status::InitExecutors);
        state.set_status(Status::InitDone);
        if !self.wait_for_resume().await || !self.wait_for_start().await? {
            return Ok(());
        }
        state.start_clock();
        state.set_status(Status::Started);
        if self.setup {
            state.set_status(Status::Setup);
            let data = self.lifecycle(Lifecycle::Setup).await?;
            if state.is_aborted() {
                return Ok(());
            }
            state.set_setup_json(data);
        }
        state.set_status(Status::Running);
        state.health.begin();
        let ran = self.run_scenarios(&pool).await;
        let torn_down = if self.teardown {
            state.tear_down();
            self.lifecycle(Lifecycle::Teardown).await.map(|_| ())
        } else {
            Ok(())
        };
        ran.and(torn_down)
    }

    /// Whether the run may start; not when it was aborted while paused.
    async fn wait_for_resume(&self) -> bool {
        let state = &self.state;
        let mut paused = state.paused.subscribe();
        if *paused.borrow_and_update() {
            state.set_status(Status::PausedBeforeRun);
            tokio::select! {
                _ = paused.wait_for(|paused| !paused) => {}
                () = state.aborted() => {}
            }
        }
        !state.is_aborted()
    }

    /// Waits for the instant that all instances start at; whether the run may start then.
    ///
    /// # Errors
    /// When the instant has passed: the others have started, and this one would be out of step.
    async fn wait_for_start(&self) -> Result<bool, Failure> {
        /// A clock may be set while somebody waits for it.
        const LOOK: Duration = Duration::from_secs(1);
        let Some(at) = self.start_at else {
            return Ok(true);
        };
        let left = || Duration::try_from(at - OffsetDateTime::now_utc());
        if left().is_err() {
            let late = OffsetDateTime::now_utc() - at;
            let text = format!(
                "ready {:.3} s after the instant of --start-at ({at}): the other instances run \
                 already. Give them more time to get ready",
                late.as_seconds_f64()
            );
            return Err(Failure::new(code::LATE, text));
        }
        while let Ok(left) = left()
            && !left.is_zero()
        {
            tokio::select! {
                () = tokio::time::sleep(left.min(LOOK)) => {}
                () = self.state.aborted() => return Ok(false),
            }
        }
        Ok(true)
    }

    /// Runs all scenarios; the first that fails cancels the others.
    async fn run_scenarios(&self, pool: &Rc<VuPool>) -> Result<(), Failure> {
        let setup_data = self.state.setup_json();
        let recorder = Rc::new(RefCell::new(Recorder::new(
            self.registry.clone(),
            self.raw_samples,
        )));
        let mut running = Vec::new();
        for (scenario, progress) in self.scenarios.iter().zip(&self.progress) {
            if !scenario.has_work(&self.tuple) {
                continue;
            }
            let Some(kind) = executor::find(&scenario.kind) else {
                continue;
            };
            pool.set_activation(
                &scenario.name,
                Activation {
                    scenario: progress.clone(),
                    exec: scenario.exec().to_owned(),
                    env: scenario
                        .env
                        .clone()
                        .unwrap_or_default()
                        .into_iter()
                        .collect(),
                    tags: scenario
                        .tags
                        .clone()
                        .unwrap_or_default()
                        .into_iter()
                        .collect(),
                    setup_data: setup_data.clone(),
                },
            );
            let run = Run {
                scenario: scenario.clone(),
                tuple: self.tuple.clone(),
                pool: Rc::new(SharedPool(pool.clone())),
                progress: progress.clone(),
                abort: self.state.abort.subscribe(),
                dropped: self.dropped(scenario, progress, &recorder),
                say: self.say(scenario),
            };
            let state = self.state.clone();
            let start_time = scenario.start_time().to_std();
            running.push(async move {
                tokio::select! {
                    () = tokio::time::sleep(start_time) => {}
                    () = state.aborted() => return Ok(()),
                }
                let progress = run.progress.clone();
                progress.begin(unix_ns() / 1_000_000);
                let outcome = (kind.run)(run).await;
                progress.end(state.is_aborted());
                outcome
            });
        }
        let mut outcome = Ok(());
        let mut running: stream::FuturesUnordered<_> = running.into_iter().collect();
        while let Some(ended) = running.next().await {
            if let Err(text) = ended {
                let failure = Failure::new(code::OTHER, text);
                self.state.abort(failure.clone());
                outcome = Err(failure);
            }
        }
        outcome
    }

    /// How an executor of the scenario reports iterations that it could not start.
    fn dropped(
        &self,
        scenario: &Scenario,
        progress: &Arc<Progress>,
        recorder: &Rc<RefCell<Recorder>>,
    ) -> Rc<dyn Fn(Dropped)> {
        let enabled = self.settings.system_tags;
        let mut pairs: Vec<(String, String)> = self.settings.run_tags.clone();
        if enabled.scenario() {
            pairs.push(("scenario".to_owned(), scenario.name.clone()));
        }
        let (tags, recorder) = (self.tags.clone(), recorder.clone());
        let measurements = self.measurements.clone();
        let (raw, progress) = (self.raw_samples, progress.clone());
        Rc::new(move |dropped| {
            let (samples, value, vu) = match dropped {
                Dropped::Together(count) => (1, count, None),
                // Where nobody looks at samples, only their sum counts.
                Dropped::Singly(count) if raw => (count, 1, None),
                Dropped::Singly(count) => (1, count, None),
                Dropped::OfVu(vu, count) => (1, count, Some(vu)),
            };
            progress.drop_some(samples * value);
            let vu = vu.filter(|_| enabled.vu()).map(|vu| vu.to_string());
            let mut borrowed: Vec<(&str, &str)> = pairs
                .iter()
                .map(|(k, v)| (k.as_str(), v.as_str()))
                .collect();
            if let Some(vu) = &vu {
                borrowed.push(("vu", vu));
            }
            let set = tags.intern(&borrowed);
            let mut recorder = recorder.borrow_mut();
            let now = unix_ns();
            for _ in 0..samples {
                recorder.record(builtin::DROPPED_ITERATIONS, set, value as f64, now);
            }
            measurements.add(recorder.drain());
        })
    }

    /// How an executor of the scenario says something in the log.
    fn say(&self, scenario: &Scenario) -> Say {
        let logger = self.state.logger.clone();
        let (executor, name) = (scenario.executor(), scenario.name.clone());
        Rc::new(move |level, text, fields| {
            let mut all = fields.to_vec();
            all.extend([("executor", executor), ("scenario", name.as_str())]);
            logger.log(level, text, &all);
        })
    }

    /// Runs `setup` or `teardown` in a VU of its own.
    async fn lifecycle(&self, what: Lifecycle) -> Result<Option<Arc<str>>, Failure> {
        let transient = Transient {
            workers: &self.workers,
            state: &self.state,
            script: &self.script,
            settings: &self.settings,
        };
        let limit = match what {
            Lifecycle::Setup => self.setup_timeout,
            Lifecycle::Teardown => self.teardown_timeout,
        };
        run_lifecycle(&transient, what, limit, self.state.setup_json()).await
    }

    /// What goes on beside the phases: samples of the VU counts, thresholds, interruption.
    fn start_background(&self) -> Background {
        let mut tasks = vec![
            tokio::task::spawn_local(self.sample_vus()),
            tokio::task::spawn_local(self.interrupt_on_abort()),
        ];
        if self.has_thresholds {
            tasks.push(tokio::task::spawn_local(self.evaluate_thresholds()));
        }
        Background(tasks)
    }

    fn interrupt_on_abort(&self) -> impl Future<Output = ()> + 'static {
        let (state, workers) = (self.state.clone(), self.workers.clone());
        async move {
            state.aborted().await;
            // Setup may be running; scenarios listen themselves, and teardown goes on.
            if !state.is_tearing_down() {
                workers.interrupt_all();
            }
        }
    }

    fn sample_vus(&self) -> impl Future<Output = ()> + 'static {
        let (state, measurements) = (self.state.clone(), self.measurements.clone());
        let mut recorder = Recorder::new(self.registry.clone(), self.raw_samples);
        let pairs: Vec<(&str, &str)> = self
            .settings
            .run_tags
            .iter()
            .map(|(k, v)| (k.as_str(), v.as_str()))
            .collect();
        let set = self.tags.intern(&pairs);
        async move {
            loop {
                tokio::time::sleep(SAMPLING).await;
                let now = unix_ns();
                let active = state.vus_active.load(Ordering::Relaxed) as f64;
                let made = state.vus_initialized.load(Ordering::Relaxed) as f64;
                recorder.record(builtin::VUS, set, active, now);
                recorder.record(builtin::VUS_MAX, set, made, now);
                measurements.add(recorder.drain());
            }
        }
    }

    fn evaluate_thresholds(&self) -> impl Future<Output = ()> + 'static {
        let (state, measurements) = (self.state.clone(), self.measurements.clone());
        let workers = self.workers.clone();
        async move {
            loop {
                tokio::time::sleep(EVALUATION).await;
                workers.flush(PATIENCE).await;
                let run = state.run_duration();
                let verdict = measurements.ask(move |c| c.evaluate(run, false)).await;
                let Some(verdict) = verdict else { return };
                state
                    .tainted
                    .store(!verdict.crossed.is_empty(), Ordering::Relaxed);
                if verdict.abort {
                    state.abort(Failure::new(
                        code::THRESHOLDS,
                        format!(
                            "thresholds on metrics '{}' were crossed; at least one has abortOnFail \
                             enabled, stopping test prematurely",
                            verdict.crossed.join(", ")
                        ),
                    ));
                }
            }
        }
    }
}

/// Runs `setup` or `teardown` in a VU of its own; answers the JSON of what it returned.
pub(crate) async fn run_lifecycle(
    transient: &Transient<'_>,
    what: Lifecycle,
    limit: Duration,
    data: Option<Arc<str>>,
) -> Result<Option<Arc<str>>, Failure> {
    let ran = transient.run(limit, move |mut vu| async move {
        let result = vu.call(what, data).await;
        (vu, result)
    });
    match ran.await {
        Ok(Some(Ok(value))) => Ok(value.map(|v| v.to_string().into())),
        Ok(Some(Err(error))) | Err(error) => Err(script_failure(&error)),
        Ok(None) => Err(timed_out(what, limit)),
    }
}

fn timed_out(what: Lifecycle, limit: Duration) -> Failure {
    let (name, option, code) = match what {
        Lifecycle::Setup => ("setup", "setupTimeout", code::SETUP_TIMEOUT),
        Lifecycle::Teardown => ("teardown", "teardownTimeout", code::TEARDOWN_TIMEOUT),
    };
    Failure::new(
        code,
        format!(
            "{name}() execution timed out after {:.0} seconds",
            limit.as_secs_f64()
        ),
    )
    .with(
        "hint",
        format!("You can increase the time limit via the {option} option"),
    )
}

/// The failure that a script's error is.
pub(crate) fn script_failure(error: &ScriptError) -> Failure {
    match error {
        ScriptError::Exception(text) => Failure::new(code::EXCEPTION, text.clone())
            .with("hint", "script exception")
            .with("source", "stacktrace"),
        ScriptError::Load(text) => Failure::new(code::EXCEPTION, text.clone()),
        ScriptError::Rejection(text) | ScriptError::Invalid(text) => {
            Failure::new(code::OTHER, text.clone())
        }
        // The host has heard the reason, and it came first.
        ScriptError::Aborted => Failure::new(code::ABORTED, "test aborted"),
        ScriptError::Interrupted => Failure::new(code::OTHER, "the script was interrupted"),
    }
}

fn vu_failure(id: u64, error: &ScriptError) -> Failure {
    let mut failure = script_failure(error);
    if let ScriptError::Exception(_) = error {
        failure.fields.retain(|(key, _)| key != "hint");
        failure = failure.with(
            "hint",
            format!("error while initializing VU #{id} (script exception)"),
        );
    }
    failure
}
