//! The process around a command: arguments, environment, and what it prints to.
//!
//! The one place that asks the operating system for them; everything else is handed an
//! [`Outside`].

use std::{collections::BTreeMap, sync::Arc};

use crate::{
    cli::Global,
    display::Screen,
    exit::{Failure, code},
    logging::{Format, LogOptions, LogOutput, Logger},
    secrets::Secrets,
};

/// What a command knows of the world.
#[derive(Clone)]
pub(crate) struct Outside {
    /// The environment. What is not UTF-8 in it is not there.
    pub(crate) env: Arc<BTreeMap<String, String>>,
    /// The log.
    pub(crate) logger: Arc<Logger>,
    /// Stdout.
    pub(crate) screen: Screen,
    /// Whether stderr is a terminal.
    pub(crate) stderr_tty: bool,
    /// Flags of all commands.
    pub(crate) global: Global,
    /// What scripts may ask for and nobody may see.
    pub(crate) secrets: Arc<Secrets>,
}

impl Outside {
    /// Opens the log and the sources of secrets as the flags say.
    ///
    /// # Errors
    /// One that is unknown or cannot be opened; 255.
    pub(crate) fn open(
        env: BTreeMap<String, String>,
        global: Global,
        console_output: Option<&str>,
    ) -> Result<Self, Failure> {
        use std::io::IsTerminal;
        let usage = |text| Failure::new(code::OTHER, text);
        let lookup = |name: &str| env.get(name).cloned();
        let dumb = lookup("TERM").is_some_and(|term| term == "dumb");
        let stderr_tty = std::io::stderr().is_terminal() && !dumb;
        let screen = Screen::new(global.no_color, global.quiet, &lookup);
        let options = LogOptions {
            output: LogOutput::parse(&global.log_output).map_err(usage)?,
            format: Format::parse(&global.log_format),
            verbose: global.verbose,
            no_color: global.no_color,
            stdout_tty: screen.tty,
            stderr_tty,
            console_output: console_output.map(Into::into),
        };
        let logger = Arc::new(Logger::open(&options).map_err(usage)?);
        let secrets = Secrets::open(&global.secret_sources, &env, logger.clone());
        Ok(Self {
            secrets: Arc::new(secrets.map_err(usage)?),
            env: Arc::new(env),
            logger,
            screen,
            stderr_tty,
            global,
        })
    }

    /// A variable of the environment.
    pub(crate) fn var(&self, name: &str) -> Option<String> {
        self.env.get(name).cloned()
    }
}

/// The environment as far as it is UTF-8.
pub(crate) fn environment() -> BTreeMap<String, String> {
    std::env::vars_os()
        .filter_map(|(name, value)| Some((name.into_string().ok()?, value.into_string().ok()?)))
        .collect()
}
