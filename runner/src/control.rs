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
    exit::{Failure, code},
    measure::Measurements,
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
    /// Executor and name of the first scenario, for messages.
    first_scenario: OnceLock<(String, String)>,
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
            first_scenario: OnceLock::new(),
            lifecycle,
        });
        (control, requests)
    }

    /// From here on there is something to read.
    pub(crate) fn attach(&self, measurements: Measurements) {
        let _ = self.measurements.set(measurements);
    }

    /// The scenario that messages name.
    pub(crate) fn name_scenario(&self, executor: &str, name: &str) {
        let _ = self
            .first_scenario
            .set((executor.to_owned(), name.to_owned()));
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

    fn pause(&self, paused: bool) -> Result<(), ApiError> {
        let before_the_start = self.state.status() <= state::Status::PausedBeforeRun as u8;
        if !before_the_start {
            let (executor, name) = self.first_scenario.get().cloned().unwrap_or_default();
            return Err(ApiError::pause(format!(
                "{executor} executor '{name}' doesn't support pause and resume operations after its start"
            )));
        }
        if paused && *self.state.paused.borrow() {
            return Err(ApiError::pause("execution is already paused"));
        }
        self.state.pause(paused);
        Ok(())
    }

    fn stop(&self) {
        self.state.abort(Failure::new(
            code::STOPPED,
            "test run stopped from REST API",
        ));
    }

    fn scale(&self, _vus: Option<i64>, _vus_max: Option<i64>) -> Result<(), ApiError> {
        Err(ApiError::scale(
            "live VU configuration updates are not supported",
        ))
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
