//! The control API: what the operator, probes and people ask a running agent, as k6 answers it.
//!
//! `ROUTES` lists every path with what answers it; the handlers are in `handlers`, the JSON they
//! send in `documents`. The run is behind [`Control`]: nothing here knows what a VU is. A server
//! has an OS thread and a runtime of its own (`server`), so that a probe is answered however
//! busy the workers are, and what may take long (reading all metrics) is done beside that thread.

mod documents;
mod handlers;
mod listener;
mod process;
mod scrape;
mod server;

use std::{
    future::Future,
    io,
    net::TcpListener,
    pin::Pin,
    sync::{Arc, atomic::AtomicU64},
};

use volley_metrics::{PageFormat, Snapshot};

use crate::logging::Logger;

pub(crate) use documents::ApiError;
pub(crate) use listener::bind;
pub(crate) use server::Server;

/// A future that may be awaited on the server's thread.
pub(crate) type BoxFuture<T> = Pin<Box<dyn Future<Output = T> + Send>>;

/// What `setup()` returned, or the API stored, as raw JSON; nothing if there is none, or it was `undefined`.
pub(crate) type SetupData = Option<String>;

/// How the run is doing.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct Status {
    /// Where it is: 0 created, 1 VUs being made, 2 executors being made, 3 both done, 4 paused
    /// before the start, 5 started, 6 setup, 7 running, 8 teardown, 9 ended, 10 interrupted,
    /// 11 marked as failed.
    pub(crate) status: u8,
    /// Whether it is paused.
    pub(crate) paused: bool,
    /// VUs that run an iteration.
    pub(crate) vus: u64,
    /// VUs that exist.
    pub(crate) vus_max: u64,
    /// Whether it was told to stop.
    pub(crate) stopped: bool,
    /// Whether it has started and not ended; after an abort it stays so.
    pub(crate) running: bool,
    /// Whether a threshold is crossed at the moment.
    pub(crate) tainted: bool,
}

/// The run, as far as the API can see and change it. Called on the server's threads.
pub(crate) trait Control: Send + Sync + 'static {
    /// How the run is doing. Must not block: probes wait for it.
    fn status(&self) -> Status;
    /// Pauses or resumes; done when it has happened. Before the VUs are ready it is remembered.
    fn pause(&self, paused: bool) -> BoxFuture<Result<(), ApiError>>;
    /// Stops the run, exit code 103. Must not block.
    fn stop(&self);
    /// Changes the number of VUs; done when it has happened.
    fn scale(&self, vus: Option<i64>, vus_max: Option<i64>) -> BoxFuture<Result<(), ApiError>>;
    /// What was measured so far. May take its time: it is called beside the server's thread.
    fn snapshot(&self) -> Arc<Snapshot>;
    /// What the VUs get as setup data. Must not block.
    fn setup_data(&self) -> SetupData;
    /// Replaces the setup data by valid JSON, or by nothing. Must not block.
    fn set_setup_data(&self, raw: Option<String>);
    /// Runs `setup()` in a VU of its own and stores what it returns. The error is the script's stack.
    fn run_setup(&self) -> BoxFuture<Result<(), String>>;
    /// Runs `teardown()` in a VU of its own. The error is the script's stack.
    fn run_teardown(&self) -> BoxFuture<Result<(), String>>;
}

/// Serves the control API until the returned server is shut down. Each request is logged at debug.
pub(crate) fn serve(
    listener: TcpListener,
    control: Arc<dyn Control>,
    logger: Arc<Logger>,
) -> io::Result<Server> {
    Server::start("api", listener, handlers::router(control, logger))
}

/// Serves the Prometheus output: every path answers with what `render` returns, the exposition in
/// text format 0.0.4, compressed if the scraper takes gzip.
///
/// `scraped` counts GET requests, each before its rendering begins: so a scrape that is counted
/// after the last values are in has taken them, and [`Server::shutdown`] lets it finish. `render`
/// makes the page in one of the `formats`, the best one first; it is called beside the server's thread, possibly several times at once.
pub(crate) fn serve_metrics(
    listener: TcpListener,
    formats: &'static [PageFormat],
    render: scrape::Render,
    scraped: Arc<AtomicU64>,
) -> io::Result<Server> {
    Server::start("scrape", listener, scrape::router(formats, render, scraped))
}

#[cfg(test)]
mod tests;
