//! Exit codes and the errors that carry them; only `main` turns one into the end of the process.

/// Exit codes, as k6 has them (cli.md §3).
pub(crate) mod code {
    /// `check` has found something; k6 has no such command.
    pub(crate) const FINDINGS: u8 = 1;
    /// Ready too late for `--start-at`; k6 has no such code.
    pub(crate) const LATE: u8 = 96;
    /// A threshold was crossed.
    pub(crate) const THRESHOLDS: u8 = 99;
    /// `setup()` took too long.
    pub(crate) const SETUP_TIMEOUT: u8 = 100;
    /// `teardown()` took too long.
    pub(crate) const TEARDOWN_TIMEOUT: u8 = 101;
    /// Stopped over the REST API.
    pub(crate) const STOPPED: u8 = 103;
    /// The options are not valid.
    pub(crate) const CONFIG: u8 = 104;
    /// A signal ended the run.
    pub(crate) const SIGNAL: u8 = 105;
    /// The REST API could not start.
    pub(crate) const API: u8 = 106;
    /// An exception in init, setup or teardown.
    pub(crate) const EXCEPTION: u8 = 107;
    /// `exec.test.abort()`.
    pub(crate) const ABORTED: u8 = 108;
    /// A panic of ours.
    pub(crate) const PANIC: u8 = 109;
    /// `exec.test.fail()`.
    pub(crate) const MARKED_FAILED: u8 = 110;
    /// Anything else.
    pub(crate) const OTHER: u8 = 255;
}

/// Why a command failed: one log line and an exit code.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Failure {
    /// The message of the log line.
    pub(crate) text: String,
    /// Its fields.
    pub(crate) fields: Vec<(String, String)>,
    /// The exit code.
    pub(crate) code: u8,
    /// Whether the log has it already.
    told: bool,
}

impl Failure {
    /// A failure without fields.
    pub(crate) fn new(code: u8, text: impl Into<String>) -> Self {
        Self {
            text: text.into(),
            fields: Vec::new(),
            code,
            told: false,
        }
    }

    /// The same with a field.
    pub(crate) fn with(mut self, key: &str, value: impl Into<String>) -> Self {
        self.fields.push((key.to_owned(), value.into()));
        self
    }
}

impl Failure {
    /// Writes its line into the log before it ends the process.
    pub(crate) fn tell(&mut self, logger: &crate::logging::Logger) {
        self.log(logger);
        self.told = true;
    }

    /// Whether the log has it already.
    pub(crate) fn is_told(&self) -> bool {
        self.told
    }

    /// Writes its line into the log, unless it is there already.
    pub(crate) fn log(&self, logger: &crate::logging::Logger) {
        if self.told {
            return;
        }
        let fields: Vec<(&str, &str)> = self
            .fields
            .iter()
            .map(|(name, value)| (name.as_str(), value.as_str()))
            .collect();
        logger.log(crate::logging::Level::Error, &self.text, &fields);
    }
}

impl From<crate::options::OptionError> for Failure {
    fn from(error: crate::options::OptionError) -> Self {
        Self::new(error.exit, error.text)
    }
}
