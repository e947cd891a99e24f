//! The run behind the REST API: what requests read and change of it.

use std::{
    sync::{Arc, OnceLock, atomic::Ordering},
    time::Duration,
};

use tokio::sync::{mpsc, oneshot};
use volley_metrics::{Group, Snapshot};
use volley_scripting::Lifecycle;

use crate::{
    api::{ApiError, BoxFuture, Control, SetupData, Status},
    executor::Progress,
    exit::{Failure, code},
    measure::Measurements,
    options::{Scenario, ScenarioKind},
    state::{self, RunState},
};

/// How long a request waits for the collector.
const PATIENCE: Duration = Duration::from_secs(5);

/// A script's function to run, and where the outcome goes: the script's stack on failure.
pub(crate) type LifecycleRequest = (Lifecycle, oneshot::Sender<Result<(), String>>);

/// The API's view of a run. It exists before the run does.
pub(crate) struct RunControl {
    state: Arc<RunState>,
    measurements: OnceLock<Measurements>,
    scenarios: OnceLock<Vec<(Arc<Scenario>, Arc<Progress>)>>,
    lifecycle: mpsc::UnboundedSender<LifecycleRequest>,
}

impl RunControl {
    /// The control of a run, and the requests it passes on to the coordinator.
    pub(crate) fn new(
        state: Arc<RunState>,
    ) -> (Arc<Self>, mpsc::UnboundedReceiver<LifecycleRequest>) {
        let (lifecycle, requests) = mpsc::unbounded_channel();
        let control = Arc::new(Self {
            state,
            measurements: OnceLock::new(),
            scenarios: OnceLock::new(),
            lifecycle,
        });
        (control, requests)
    }

    /// From here on there is something to read.
    pub(crate) fn attach(&self, measurements: Measurements) {
        let _ = self.measurements.set(measurements);
    }

    /// What will run: some of it can be changed while it does.
    pub(crate) fn direct(&self, scenarios: Vec<(Arc<Scenario>, Arc<Progress>)>) {
        let _ = self.scenarios.set(scenarios);
    }

    fn scenarios(&self) -> &[(Arc<Scenario>, Arc<Progress>)] {
        self.scenarios.get().map_or(&[], Vec::as_slice)
    }

    fn ask_script(&self, what: Lifecycle) -> BoxFuture<Result<(), String>> {
        let (answer, answered) = oneshot::channel();
        let sent = self.lifecycle.send((what, answer)).is_ok();
        Box::pin(async move {
            let gone = || "the test run is over".to_owned();
            if !sent {
                return Err(gone());
            }
            answered.await.unwrap_or_else(|_| Err(gone()))
        })
    }
}

impl Control for RunControl {
    fn status(&self) -> Status {
        let state = &self.state;
        Status {
            status: state.status(),
            paused: *state.paused.borrow(),
            vus: state.vus_active.load(Ordering::Relaxed),
            vus_max: state.vus_initialized.load(Ordering::Relaxed),
            stopped: state.is_aborted(),
            running: state.running(),
            tainted: state.tainted.load(Ordering::Relaxed),
        }
    }

    fn pause(&self, paused: bool) -> BoxFuture<Result<(), ApiError>> {
        let state = self.state.clone();
        let already = || {
            let text = match paused {
                true => "execution is already paused",
                false => "execution wasn't paused",
            };
            refused(ApiError::pause(text))
        };
        let is_paused = *state.paused.borrow();
        if state.status() <= state::Status::PausedBeforeRun as u8 {
            if paused && is_paused {
                return already();
            }
            state.pause(paused);
            return Box::pin(std::future::ready(Ok(())));
        }
        let mut remotes = Vec::new();
        for (scenario, progress) in self.scenarios() {
            let ScenarioKind::ExternallyControlled(_) = scenario.kind else {
                return refused(ApiError::pause(format!(
                    "{} executor '{}' doesn't support pause and resume operations after its start",
                    scenario.executor(),
                    scenario.name
                )));
            };
            // One without a share of the load never runs, and one that is over has no VUs.
            if progress.ended().is_none() {
                remotes.push(progress.clone());
            }
        }
        if paused == is_paused {
            return already();
        }
        if remotes.is_empty() {
            return refused(ApiError::pause("the test run is over"));
        }
        Box::pin(async move {
            for progress in remotes {
                let done = progress.remote.pause(paused);
                done.await.map_err(ApiError::pause)?;
            }
            state.pause(paused);
            Ok(())
        })
    }

    fn stop(&self) {
        self.state.abort(Failure::new(
            code::STOPPED,
            "test run stopped from REST API",
        ));
    }

    fn scale(&self, vus: Option<i64>, vus_max: Option<i64>) -> BoxFuture<Result<(), ApiError>> {
        // As in k6, one scenario is meant: the first that listens.
        let first = self.scenarios().iter().find_map(|(scenario, progress)| {
            let ScenarioKind::ExternallyControlled(config) = &scenario.kind else {
                return None;
            };
            Some((config, &progress.remote))
        });
        let Some((config, remote)) = first else {
            return refused(ApiError::scale(
                "live VU configuration updates are not supported",
            ));
        };
        let done = remote.scale(config, vus, vus_max);
        Box::pin(async move { done.await.map_err(ApiError::scale) })
    }

    fn snapshot(&self) -> Arc<Snapshot> {
        let run = self.state.run_duration();
        let taken = self.measurements.get().and_then(|measurements| {
            measurements.ask_blocking(PATIENCE, move |collector| collector.snapshot(run))
        });
        Arc::new(taken.unwrap_or_else(|| Snapshot {
            checks: Vec::new(),
            metrics: Vec::new(),
            root_group: Group::default(),
            run_seconds: run.as_secs_f64(),
        }))
    }

    fn setup_data(&self) -> SetupData {
        self.state.setup_json().map(|json| json.to_string())
    }

    fn set_setup_data(&self, raw: Option<String>) {
        self.state.set_setup_json(raw.map(Into::into));
    }

    fn run_setup(&self) -> BoxFuture<Result<(), String>> {
        self.ask_script(Lifecycle::Setup)
    }

    fn run_teardown(&self) -> BoxFuture<Result<(), String>> {
        self.ask_script(Lifecycle::Teardown)
    }
}

fn refused(error: ApiError) -> BoxFuture<Result<(), ApiError>> {
    Box::pin(std::future::ready(Err(error)))
}
