//! The outputs of a run: those that are told about samples, and Prometheus, which asks.

use std::{
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use volley_metrics::{
    Exposition, Linger, Output, OutputContext, PageFormat, PrometheusOptions, SeriesOptions,
    outputs::OUTPUTS,
};

use crate::{
    api,
    exit::{Failure, code},
    measure::{Measurements, unix_ns},
    state::RunState,
};

/// How long a scrape waits for the collector.
const PATIENCE: Duration = Duration::from_secs(5);

/// The outputs that were asked for; nothing is open yet.
#[derive(Debug, Default)]
pub(crate) struct Wanted {
    told: Vec<(&'static volley_metrics::outputs::OutputKind, String)>,
    prometheus: Option<PrometheusOptions>,
}

/// Open outputs.
pub(crate) struct Outputs {
    /// Those that are told.
    pub(crate) told: Vec<Box<dyn Output>>,
    /// What the header calls them.
    pub(crate) descriptions: Vec<String>,
    /// The endpoint that is asked.
    pub(crate) scrape: Option<(std::net::TcpListener, PrometheusOptions)>,
}

/// The endpoint of the Prometheus output, at work.
pub(crate) struct Scrape {
    server: api::Server,
    scraped: Arc<AtomicU64>,
    linger: Linger,
}

impl Wanted {
    /// Reads `type` or `type=argument`, once for each output.
    ///
    /// # Errors
    /// An unknown type, or an argument that its type does not take; 255.
    pub(crate) fn parse(list: &[String]) -> Result<Self, Failure> {
        let mut wanted = Self::default();
        for text in list {
            let (name, argument) = text.split_once('=').unwrap_or((text, ""));
            if name == "prometheus" {
                if wanted.prometheus.is_some() {
                    return Err(creation(
                        "prometheus",
                        "it was asked for twice; one endpoint serves all scrapers",
                    ));
                }
                let options = PrometheusOptions::parse(argument).map_err(|e| creation(name, &e))?;
                wanted.prometheus = Some(options);
                continue;
            }
            let Some(kind) = OUTPUTS.iter().find(|kind| kind.name == name) else {
                let mut names: Vec<&str> = OUTPUTS.iter().map(|kind| kind.name).collect();
                names.push("prometheus");
                names.sort_unstable();
                return Err(Failure::new(
                    code::OTHER,
                    format!(
                        "invalid output type '{name}', available types are: {}",
                        names.join(", ")
                    ),
                ));
            };
            wanted.told.push((kind, argument.to_owned()));
        }
        Ok(wanted)
    }

    /// The series that Prometheus will ask for, if it will.
    pub(crate) fn series(&self) -> Option<SeriesOptions> {
        let options = self.prometheus.as_ref()?;
        Some(options.series.clone())
    }

    /// Opens all: files are created, the port is taken.
    ///
    /// # Errors
    /// What cannot be opened; 255.
    pub(crate) fn open(self, context: &OutputContext) -> Result<Outputs, Failure> {
        let mut outputs = Outputs {
            told: Vec::new(),
            descriptions: Vec::new(),
            scrape: None,
        };
        for (kind, argument) in self.told {
            let output =
                (kind.open)(&argument, context.clone()).map_err(|e| creation(kind.name, &e))?;
            outputs.descriptions.push(output.describe());
            outputs.told.push(output);
        }
        if let Some(options) = self.prometheus {
            let address = format!("{}:{}", options.host, options.port);
            let listener = api::bind(&address).map_err(|e| creation("prometheus", &e))?;
            outputs.descriptions.push(options.describe());
            outputs.scrape = Some((listener, options));
        }
        Ok(outputs)
    }
}

fn creation(name: &str, problem: &str) -> Failure {
    Failure::new(
        code::OTHER,
        format!("could not create the '{name}' output: {problem}"),
    )
}

impl Scrape {
    /// Answers scrapes from here on.
    ///
    /// # Errors
    /// When there is no thread to be had.
    pub(crate) fn start(
        listener: std::net::TcpListener,
        options: PrometheusOptions,
        measurements: Measurements,
        state: Arc<RunState>,
    ) -> std::io::Result<Self> {
        let scraped = Arc::new(AtomicU64::new(0));
        let linger = options.linger;
        let formats = options.formats();
        let render = move |format: PageFormat| {
            let options = options.clone();
            let page = measurements.ask_blocking(PATIENCE, move |collector| {
                collector.expose(&options, format, unix_ns())
            });
            let mut page = page.unwrap_or_else(|| Exposition::new(format));
            state.health.expose(&mut page);
            page.finish()
        };
        let server = api::serve_metrics(listener, formats, Arc::new(render), scraped.clone())?;
        Ok(Self {
            server,
            scraped,
            linger,
        })
    }

    /// Where it listens.
    pub(crate) fn address(&self) -> std::net::SocketAddr {
        self.server.address()
    }

    /// How many scrapes have begun. Ask it when the final values are in: every later one takes them.
    pub(crate) fn begun(&self) -> u64 {
        self.scraped.load(Ordering::Acquire)
    }

    /// How long to wait for one more scrape after the first `seen`, as the option says; `None`
    /// when there is nothing to wait for. After a signal it is not as long, because whoever sent
    /// it will not wait for ever (`docker stop` waits for ten seconds).
    pub(crate) fn patience(&self, seen: u64, signalled: bool) -> Option<Duration> {
        const LONGEST: Duration = Duration::from_secs(30);
        const LONGEST_AFTER_SIGNAL: Duration = Duration::from_secs(5);
        let limit = match self.linger {
            Linger::Off => return None,
            // Nobody has come during the run, so nobody is expected.
            Linger::Auto if seen == 0 => return None,
            Linger::Auto => LONGEST,
            Linger::For(limit) => limit,
        };
        let limit = match signalled {
            true => limit.min(LONGEST_AFTER_SIGNAL),
            false => limit,
        };
        (self.begun() == seen).then_some(limit)
    }

    /// Waits until there was a scrape after the first `seen`, `limit` at most.
    pub(crate) async fn linger(&self, seen: u64, limit: Duration) {
        const LOOK: Duration = Duration::from_millis(20);
        let end = tokio::time::Instant::now() + limit;
        while self.begun() == seen && tokio::time::Instant::now() < end {
            tokio::time::sleep(LOOK).await;
        }
    }

    /// Lets scrapes that have begun finish, and stops.
    pub(crate) fn shutdown(self) {
        self.server.shutdown();
    }
}
