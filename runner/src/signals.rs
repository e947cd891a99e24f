//! SIGINT and SIGTERM: the first ends the run in good order, the second ends the process.
//!
//! Handlers are there from the start of the process, because as the first process of a container
//! it gets no signal that it does not handle.

use std::{
    sync::{
        Arc,
        atomic::{AtomicU8, Ordering},
    },
    time::Duration,
};

use tokio::{
    signal::unix::{SignalKind, signal},
    sync::watch,
};

use crate::{
    exit::{Failure, code},
    logging::{Level, Logger},
    state::RunState,
};

/// What a first signal means at the moment.
#[repr(u8)]
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Phase {
    /// Nothing has been measured: the process ends at once.
    Loading = 0,
    /// The run is aborted; teardown and summary follow.
    Running = 1,
    /// The run is over: waiting for anything ends, the rest goes on.
    Ending = 2,
}

/// The trap, as the run sees it.
pub(crate) struct Trap {
    phase: AtomicU8,
    called: watch::Sender<bool>,
}

impl Trap {
    /// Installs the handlers, on a thread of their own.
    ///
    /// # Errors
    /// When there is no thread or no handler to be had.
    pub(crate) fn install(state: Arc<RunState>, logger: Arc<Logger>) -> std::io::Result<Arc<Self>> {
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build()?;
        let (mut interrupt, mut terminate) = {
            let _inside = runtime.enter();
            (
                signal(SignalKind::interrupt())?,
                signal(SignalKind::terminate())?,
            )
        };
        let trap = Arc::new(Self {
            phase: AtomicU8::new(Phase::Loading as u8),
            called: watch::Sender::new(false),
        });
        let own = trap.clone();
        std::thread::Builder::new()
            .name("volley-signals".to_owned())
            .spawn(move || {
                runtime.block_on(async move {
                    loop {
                        let name = tokio::select! {
                            _ = interrupt.recv() => "interrupt",
                            _ = terminate.recv() => "terminated",
                        };
                        own.handle(name, &state, &logger);
                    }
                });
            })?;
        Ok(trap)
    }

    /// What the next first signal means.
    pub(crate) fn enter(&self, phase: Phase) {
        self.phase.store(phase as u8, Ordering::Release);
    }

    /// Done when a signal has come.
    pub(crate) async fn called(&self) {
        let mut called = self.called.subscribe();
        let _ = called.wait_for(|called| *called).await;
    }

    /// Whether a signal has come.
    pub(crate) fn was_called(&self) -> bool {
        *self.called.borrow()
    }

    #[expect(
        clippy::disallowed_methods,
        reason = "a second signal ends the process at once"
    )]
    fn handle(&self, name: &str, state: &RunState, logger: &Logger) {
        let phase = self.phase.load(Ordering::Acquire);
        let again = self.called.send_replace(true);
        if again || phase == Phase::Loading as u8 {
            logger.log(
                Level::Error,
                "Aborting k6 in response to signal",
                &[("sig", name)],
            );
            logger.flush(Duration::from_millis(500));
            std::process::exit(i32::from(code::SIGNAL));
        }
        if phase == Phase::Running as u8 {
            let text = format!("test run was aborted because k6 received a '{name}' signal");
            state.abort(Failure::new(code::SIGNAL, text));
        }
    }
}
