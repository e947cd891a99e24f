//! The log: what the agent and its scripts have to say, one line at a time.
//!
//! A line is formatted by the thread that logs it and handed over, under a short lock, to a
//! thread that owns the stream. So a reader that stops reading (a full pipe behind stderr)
//! blocks that one thread and nobody else: neither a VU nor the end-of-test summary waits for
//! it. What does not fit into the bounded queue is counted, and the count is logged as soon as
//! there is room. Formats and outputs are those of k6 (`--log-format`, `--log-output`,
//! `--console-output`).

mod loki;

use std::{
    borrow::Cow,
    fmt::Write as _,
    fs::{File, OpenOptions},
    io::{self, Write},
    os::{
        fd::{AsFd, OwnedFd},
        unix::fs::OpenOptionsExt,
    },
    path::{Path, PathBuf},
    sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError, RwLock},
    thread,
    time::{Duration, Instant},
};

use loki::{Loki, LokiOptions};
use time::{OffsetDateTime, UtcOffset};

/// How much may wait for a stream before lines are dropped, in bytes.
const QUEUE_LIMIT: usize = 4 << 20;

/// How much a line matters, from least to most.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Level {
    /// Shown with `--verbose` only.
    Debug,
    /// What happens in the normal course of a run.
    Info,
    /// Something the user should look at.
    Warning,
    /// Something failed.
    Error,
}

impl Level {
    /// The name used in text and JSON lines.
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Debug => "debug",
            Self::Info => "info",
            Self::Warning => "warning",
            Self::Error => "error",
        }
    }

    /// The four letters and the SGR colour code of the terminal form.
    fn terminal(self) -> (&'static str, u8) {
        match self {
            Self::Debug => ("DEBU", 37),
            Self::Info => ("INFO", 36),
            Self::Warning => ("WARN", 33),
            Self::Error => ("ERRO", 31),
        }
    }
}

/// The least level that an output accepts; `None` accepts nothing.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Threshold(Option<Level>);

impl Threshold {
    /// Parses the value of the `level` key of `--log-output file=…`.
    fn parse(text: &str) -> Result<Self, String> {
        Ok(Self(match text.to_ascii_lowercase().as_str() {
            "trace" | "debug" => Some(Level::Debug),
            "info" => Some(Level::Info),
            "warn" | "warning" => Some(Level::Warning),
            "error" => Some(Level::Error),
            // Levels that end the program; it has no lines of theirs.
            "fatal" | "panic" => None,
            _ => return Err(format!("unknown log level {text}")),
        }))
    }

    fn accepts(self, level: Level) -> bool {
        self.0.is_some_and(|least| level >= least)
    }
}

/// What a line looks like (`--log-format`).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Format {
    /// `key=value` pairs, or the coloured form on a terminal.
    Text,
    /// One JSON object a line.
    Json,
    /// The message only.
    Raw,
}

impl Format {
    /// Parses `--log-format`: everything but `json` and `raw` is the text form.
    pub(crate) fn parse(text: &str) -> Self {
        match text {
            "json" => Self::Json,
            "raw" => Self::Raw,
            _ => Self::Text,
        }
    }
}

/// Where lines go (`--log-output`).
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum LogOutput {
    /// The error stream, the default.
    Stderr,
    /// The output stream.
    Stdout,
    /// Nowhere.
    None,
    /// Appended to a file, created with mode 0600; the streams get nothing.
    File {
        /// Where the file is, relative to the working directory.
        path: PathBuf,
        /// The least level that is written.
        level: Threshold,
    },
    /// Sent to a Loki server.
    Loki(LokiOptions),
}

impl LogOutput {
    /// Parses `--log-output`. The error is the text for the user; exit code 255.
    pub(crate) fn parse(text: &str) -> Result<Self, String> {
        match text {
            "stderr" => return Ok(Self::Stderr),
            "stdout" => return Ok(Self::Stdout),
            "none" => return Ok(Self::None),
            _ => {}
        }
        let kind = text.split(['=', ',']).next().unwrap_or_default();
        match kind {
            "file" => Self::parse_file(text),
            "loki" => LokiOptions::parse(text).map(Self::Loki),
            _ => Err(format!("unsupported log output '{text}'")),
        }
    }

    fn parse_file(text: &str) -> Result<Self, String> {
        let mut path = None;
        let mut level = Threshold(Some(Level::Debug));
        for pair in text.split(',') {
            let (key, value) = pair.split_once('=').unwrap_or((pair, ""));
            if value.is_empty() {
                return Err(format!(
                    "error while parsing logfile configuration key `{key}` with no value"
                ));
            }
            match key {
                "file" => path = Some(PathBuf::from(value)),
                "level" => level = Threshold::parse(value)?,
                _ => return Err(format!("unknown logfile config key {key}")),
            }
        }
        path.map(|path| Self::File { path, level }).ok_or_else(|| {
            "error while parsing logfile configuration key `file` with no value".to_owned()
        })
    }
}

/// What a [`Logger`] is made from.
#[derive(Debug, Clone)]
pub(crate) struct LogOptions {
    /// Where lines go.
    pub(crate) output: LogOutput,
    /// What they look like.
    pub(crate) format: Format,
    /// Whether debug lines are shown (`--verbose`).
    pub(crate) verbose: bool,
    /// Whether colours are refused (`--no-color`).
    pub(crate) no_color: bool,
    /// Whether stdout is a terminal.
    pub(crate) stdout_tty: bool,
    /// Whether stderr is a terminal.
    pub(crate) stderr_tty: bool,
    /// Where lines of the script's `console` go instead (`--console-output`): appended, created with mode 0644.
    pub(crate) console_output: Option<PathBuf>,
}

impl Default for LogOptions {
    /// Text on stderr, from level info, without colours.
    fn default() -> Self {
        Self {
            output: LogOutput::Stderr,
            format: Format::Text,
            verbose: false,
            no_color: false,
            stdout_tty: false,
            stderr_tty: false,
            console_output: None,
        }
    }
}

/// The log of the process. Shared between threads; logging never waits for a stream.
#[derive(Debug)]
pub(crate) struct Logger {
    least: Threshold,
    layout: Layout,
    start: Instant,
    main: Option<Sink>,
    loki: Option<Loki>,
    console: Option<Sink>,
    /// What must not be seen, the longest first.
    redacted: RwLock<Vec<String>>,
}

/// What stands in the place of a secret.
const REDACTED: &str = "***SECRET_REDACTED***";

impl Logger {
    /// Opens the outputs and starts the threads that write to them.
    ///
    /// Call it while the process has one thread: only then is the local time zone known (else
    /// times are in UTC). The error is the text for the user; exit code 255.
    pub(crate) fn open(options: &LogOptions) -> Result<Self, String> {
        let mut limit = Threshold(Some(Level::Debug));
        let (main, tty) = match &options.output {
            LogOutput::None => (None, false),
            // Duplicates, so that a blocked stream is not blocked with the standard library's lock held.
            LogOutput::Stderr => (Some(stream(io::stderr().as_fd())?), options.stderr_tty),
            LogOutput::Stdout => (Some(stream(io::stdout().as_fd())?), options.stdout_tty),
            LogOutput::File { path, level } => {
                limit = *level;
                (Some(open_log_file(path)?), false)
            }
            LogOutput::Loki(loki) => {
                limit = loki.level;
                (None, false)
            }
        };
        let loki = match &options.output {
            LogOutput::Loki(loki) => Some(loki.clone()),
            _ => None,
        };
        let console = match &options.console_output {
            Some(path) => Some(append_to(path, 0o644).map_err(|error| {
                format!(
                    "failed to open console output {}: {}",
                    path.display(),
                    reason(&error)
                )
            })?),
            None => None,
        };
        let offset = UtcOffset::current_local_offset().unwrap_or(UtcOffset::UTC);
        let layout = Layout {
            format: options.format,
            tty,
            colored: tty && !options.no_color,
            offset,
        };
        let least = if options.verbose {
            Level::Debug
        } else {
            Level::Info
        };
        let least = Threshold(limit.0.map(|limit| limit.max(least)));
        Ok(Self {
            least,
            layout,
            start: Instant::now(),
            main: main.map(Sink::start).transpose()?,
            loki: loki.map(Loki::start).transpose()?,
            console: console.map(Sink::start).transpose()?,
            redacted: RwLock::default(),
        })
    }

    /// Whether a line of that level would be written: for callers whose message costs something to make.
    pub(crate) fn enabled(&self, level: Level) -> bool {
        let somebody = self.main.is_some() || self.loki.is_some() || self.console.is_some();
        self.least.accepts(level) && somebody
    }

    /// Logs a line with its fields, in any order.
    pub(crate) fn log(&self, level: Level, message: &str, fields: &[(&str, &str)]) {
        if !self.least.accepts(level) {
            return;
        }
        if let Some(sink) = &self.main {
            self.send(sink, self.layout, level, message, fields);
        }
        if let Some(loki) = &self.loki {
            self.cleaned(message, fields, |message, fields| {
                loki.push(level, message, fields);
            });
        }
    }

    /// Logs a line of the script's `console`.
    pub(crate) fn console(&self, level: Level, message: &str) {
        match &self.console {
            Some(sink) if self.least.accepts(level) => {
                let layout = Layout {
                    tty: false,
                    colored: false,
                    ..self.layout
                };
                self.send(sink, layout, level, message, &[]);
            }
            Some(_) => {}
            None => self.log(level, message, &[("source", "console")]),
        }
    }

    /// Keeps `secret` out of all lines from now on, unless it is blank.
    pub(crate) fn redact(&self, secret: &str) {
        if secret.trim().is_empty() {
            return;
        }
        {
            let known = self.redacted.read().unwrap_or_else(PoisonError::into_inner);
            if known.iter().any(|known| known == secret) {
                return;
            }
        }
        let mut known = self
            .redacted
            .write()
            .unwrap_or_else(PoisonError::into_inner);
        known.push(secret.to_owned());
        // A secret may be a part of another one.
        known.sort_by_key(|secret| std::cmp::Reverse(secret.len()));
    }

    fn has_secrets(&self) -> bool {
        let known = self.redacted.read().unwrap_or_else(PoisonError::into_inner);
        !known.is_empty()
    }

    /// The text without secrets.
    fn clean<'a>(&self, text: &'a str) -> Cow<'a, str> {
        let known = self.redacted.read().unwrap_or_else(PoisonError::into_inner);
        let mut clean = Cow::Borrowed(text);
        for secret in known.iter() {
            if clean.contains(secret.as_str()) {
                clean = clean.replace(secret.as_str(), REDACTED).into();
            }
        }
        clean
    }

    /// Waits until everything logged so far is written, `patience` at most for each output.
    /// Returns whether it is.
    pub(crate) fn flush(&self, patience: Duration) -> bool {
        let flushed = |sink: &Option<Sink>| match sink {
            Some(sink) => sink.flush(patience, |lost| self.notice(self.layout, lost)),
            None => true,
        };
        let sent = self.loki.as_ref().is_none_or(|loki| loki.flush(patience));
        // All, even when the first one is stuck.
        flushed(&self.main) & flushed(&self.console) & sent
    }

    fn send(
        &self,
        sink: &Sink,
        layout: Layout,
        level: Level,
        message: &str,
        fields: &[(&str, &str)],
    ) {
        let line = self.cleaned(message, fields, |message, fields| {
            layout.line(now(), self.start.elapsed(), level, message, fields)
        });
        sink.push(line.as_bytes(), |lost| self.notice(layout, lost));
    }

    /// Hands a message and its fields on, without secrets.
    fn cleaned<T>(
        &self,
        message: &str,
        fields: &[(&str, &str)],
        take: impl FnOnce(&str, &[(&str, &str)]) -> T,
    ) -> T {
        if !self.has_secrets() {
            return take(message, fields);
        }
        let clean: Vec<_> = fields
            .iter()
            .map(|(key, value)| (*key, self.clean(value)))
            .collect();
        let fields: Vec<_> = clean.iter().map(|(key, value)| (*key, &**value)).collect();
        take(&self.clean(message), &fields)
    }

    /// The line that says how many lines were dropped.
    fn notice(&self, layout: Layout, lost: u64) -> String {
        let count = lost.to_string();
        layout.line(
            now(),
            self.start.elapsed(),
            Level::Warning,
            "Log lines were dropped because their output did not take them in time",
            &[("dropped", &count)],
        )
    }
}

fn now() -> OffsetDateTime {
    OffsetDateTime::now_utc()
}

fn stream(fd: std::os::fd::BorrowedFd<'_>) -> Result<File, String> {
    let owned: OwnedFd = fd
        .try_clone_to_owned()
        .map_err(|error| format!("could not open the log stream: {error}"))?;
    Ok(File::from(owned))
}

fn open_log_file(path: &Path) -> Result<File, String> {
    let folder = path
        .parent()
        .filter(|folder| !folder.as_os_str().is_empty());
    if let Some(folder) = folder
        && !folder.is_dir()
    {
        return Err(format!(
            "provided directory '{}' does not exist",
            folder.display()
        ));
    }
    append_to(path, 0o600).map_err(|error| {
        format!(
            "failed to open logfile {}: {}",
            path.display(),
            reason(&error)
        )
    })
}

fn append_to(path: &Path, mode: u32) -> io::Result<File> {
    OpenOptions::new()
        .append(true)
        .create(true)
        .mode(mode)
        .open(path)
}

/// The system's words for an error, without Rust's `(os error 2)`.
pub(crate) fn reason(error: &io::Error) -> String {
    let text = error.to_string();
    text.split(" (os error")
        .next()
        .unwrap_or_default()
        .to_lowercase()
}

/// How lines of one output look.
#[derive(Debug, Clone, Copy)]
struct Layout {
    format: Format,
    /// Whether it goes to a terminal.
    tty: bool,
    /// Whether the text form is the coloured one.
    colored: bool,
    offset: UtcOffset,
}

impl Layout {
    fn line(
        self,
        at: OffsetDateTime,
        since_start: Duration,
        level: Level,
        message: &str,
        fields: &[(&str, &str)],
    ) -> String {
        let mut line = String::with_capacity(96 + message.len());
        match self.format {
            Format::Raw => line.push_str(message),
            Format::Json => self.json(&mut line, at, level, message, fields),
            Format::Text if self.colored => {
                terminal(&mut line, since_start, level, message, fields)
            }
            Format::Text => self.pairs(&mut line, at, level, message, fields),
        }
        line.push('\n');
        if self.tty {
            // A progress bar may stand on this line of the terminal: clear what is right of the text.
            line = line.replace('\n', "\x1b[0K\n");
        }
        line
    }

    fn pairs(
        self,
        line: &mut String,
        at: OffsetDateTime,
        level: Level,
        message: &str,
        fields: &[(&str, &str)],
    ) {
        line.push_str("time=\"");
        self.timestamp(line, at);
        line.push_str("\" level=");
        line.push_str(level.name());
        if !message.is_empty() {
            line.push_str(" msg=");
            quote(line, message);
        }
        for (key, value) in sorted(fields) {
            line.push(' ');
            line.push_str(clash(key));
            line.push_str(key);
            line.push('=');
            quote(line, value);
        }
    }

    fn json(
        self,
        line: &mut String,
        at: OffsetDateTime,
        level: Level,
        message: &str,
        fields: &[(&str, &str)],
    ) {
        let mut time = String::new();
        self.timestamp(&mut time, at);
        let mut pairs: Vec<(String, &str)> = fields
            .iter()
            .map(|(key, value)| (format!("{}{key}", clash(key)), *value))
            .collect();
        pairs.push(("level".to_owned(), level.name()));
        pairs.push(("msg".to_owned(), message));
        pairs.push(("time".to_owned(), &time));
        pairs.sort();
        line.push('{');
        for (index, (key, value)) in pairs.iter().enumerate() {
            if index > 0 {
                line.push(',');
            }
            json_string(line, key);
            line.push(':');
            json_string(line, value);
        }
        line.push('}');
    }

    /// RFC 3339 with whole seconds, in local time.
    fn timestamp(self, line: &mut String, at: OffsetDateTime) {
        let at = at.to_offset(self.offset);
        let _ = write!(
            line,
            "{:04}-{:02}-{:02}T{:02}:{:02}:{:02}",
            at.year(),
            u8::from(at.month()),
            at.day(),
            at.hour(),
            at.minute(),
            at.second()
        );
        let minutes = i32::from(self.offset.whole_minutes());
        if minutes == 0 {
            line.push('Z');
        } else {
            let sign = if minutes < 0 { '-' } else { '+' };
            let _ = write!(
                line,
                "{sign}{:02}:{:02}",
                minutes.abs() / 60,
                minutes.abs() % 60
            );
        }
    }
}

fn sorted<'a>(fields: &[(&'a str, &'a str)]) -> Vec<(&'a str, &'a str)> {
    let mut fields = fields.to_vec();
    fields.sort_unstable();
    fields
}

/// A field may not replace one of the line's own; it gets a prefix instead.
fn clash(key: &str) -> &'static str {
    if matches!(key, "time" | "level" | "msg") {
        "fields."
    } else {
        ""
    }
}

fn terminal(
    line: &mut String,
    since_start: Duration,
    level: Level,
    message: &str,
    fields: &[(&str, &str)],
) {
    let (letters, color) = level.terminal();
    let message = message.strip_suffix('\n').unwrap_or(message);
    let _ = write!(
        line,
        "\x1b[{color}m{letters}\x1b[0m[{:04}] {message:<44} ",
        since_start.as_secs()
    );
    for (key, value) in sorted(fields) {
        let _ = write!(line, " \x1b[{color}m{}{key}\x1b[0m=", clash(key));
        quote(line, value);
    }
}

/// Appends a value of the text form, in double quotes if it has anything but letters, digits and `-._/@^+`.
fn quote(line: &mut String, value: &str) {
    let plain = |byte: u8| byte.is_ascii_alphanumeric() || b"-._/@^+".contains(&byte);
    if value.bytes().all(plain) {
        line.push_str(value);
        return;
    }
    line.push('"');
    for c in value.chars() {
        match c {
            '"' => line.push_str("\\\""),
            '\\' => line.push_str("\\\\"),
            '\n' => line.push_str("\\n"),
            '\r' => line.push_str("\\r"),
            '\t' => line.push_str("\\t"),
            '\x07' => line.push_str("\\a"),
            '\x08' => line.push_str("\\b"),
            '\x0b' => line.push_str("\\v"),
            '\x0c' => line.push_str("\\f"),
            _ if printable(c) => line.push(c),
            _ => {
                let code = u32::from(c);
                let _ = match code {
                    0..0x80 => write!(line, "\\x{code:02x}"),
                    0x80..0x1_0000 => write!(line, "\\u{code:04x}"),
                    _ => write!(line, "\\U{code:08x}"),
                };
            }
        }
    }
    line.push('"');
}

/// Whether a terminal shows something for it: no control, no space but the plain one, no invisible format character.
fn printable(c: char) -> bool {
    c == ' '
        || !(c.is_control()
            || c.is_whitespace()
            || matches!(u32::from(c),
                0xad | 0x200b..=0x200f | 0x202a..=0x202e | 0x2060..=0x206f | 0xe000..=0xf8ff
                | 0xfeff | 0xfff9..=0xfffb | 0xfffe..=0xffff | 0xe_0000..))
}

/// Appends a JSON string in which `<`, `>` and `&` are escaped too, so that a log can be embedded in HTML.
fn json_string(line: &mut String, text: &str) {
    line.push('"');
    for c in text.chars() {
        match c {
            '"' => line.push_str("\\\""),
            '\\' => line.push_str("\\\\"),
            '\n' => line.push_str("\\n"),
            '\r' => line.push_str("\\r"),
            '\t' => line.push_str("\\t"),
            '\x08' => line.push_str("\\b"),
            '\x0c' => line.push_str("\\f"),
            '<' | '>' | '&' | '\u{2028}' | '\u{2029}' | '\0'..' ' => {
                let _ = write!(line, "\\u{:04x}", u32::from(c));
            }
            _ => line.push(c),
        }
    }
    line.push('"');
}

/// One output: a queue of bytes and the thread that writes them.
#[derive(Debug)]
struct Sink(Arc<Shared>);

#[derive(Debug, Default)]
struct Shared {
    state: Mutex<Pending>,
    /// Signalled when there is something to write, or nothing more will come.
    wake: Condvar,
    /// Signalled when everything is written.
    drained: Condvar,
}

#[derive(Debug, Default)]
struct Pending {
    bytes: Vec<u8>,
    /// Lines that found the queue full since the last notice.
    dropped: u64,
    /// Whether the thread is writing what it took from `bytes`.
    writing: bool,
    closed: bool,
}

impl Shared {
    fn lock(&self) -> MutexGuard<'_, Pending> {
        // The data are whole after every statement under the lock, so a panic elsewhere spoils nothing.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Sink {
    fn start(file: File) -> Result<Self, String> {
        let shared = Arc::new(Shared::default());
        let theirs = Arc::clone(&shared);
        thread::Builder::new()
            .name("log".to_owned())
            .spawn(move || write_pending(&theirs, file))
            .map_err(|error| format!("could not start the log's thread: {error}"))?;
        Ok(Self(shared))
    }

    /// Queues a line, after a notice if lines before it were dropped.
    fn push(&self, line: &[u8], notice: impl FnOnce(u64) -> String) {
        let mut pending = self.0.lock();
        // A line larger than the queue passes when it is the only one.
        if !pending.bytes.is_empty() && pending.bytes.len() + line.len() > QUEUE_LIMIT {
            pending.dropped += 1;
            return;
        }
        tell_loss(&mut pending, notice);
        pending.bytes.extend_from_slice(line);
        drop(pending);
        self.0.wake.notify_one();
    }

    fn flush(&self, patience: Duration, notice: impl FnOnce(u64) -> String) -> bool {
        let mut pending = self.0.lock();
        tell_loss(&mut pending, notice);
        self.0.wake.notify_one();
        let busy = |pending: &mut Pending| pending.writing || !pending.bytes.is_empty();
        let (_pending, timeout) = self
            .0
            .drained
            .wait_timeout_while(pending, patience, busy)
            .unwrap_or_else(PoisonError::into_inner);
        !timeout.timed_out()
    }
}

impl Drop for Sink {
    fn drop(&mut self) {
        // The thread writes what is left and ends; nobody waits for it: its stream may be stuck.
        self.0.lock().closed = true;
        self.0.wake.notify_one();
    }
}

fn tell_loss(pending: &mut Pending, notice: impl FnOnce(u64) -> String) {
    if pending.dropped > 0 {
        let text = notice(pending.dropped);
        pending.bytes.extend_from_slice(text.as_bytes());
        pending.dropped = 0;
    }
}

fn write_pending(shared: &Shared, mut file: File) {
    let mut batch = Vec::new();
    let mut pending = shared.lock();
    loop {
        while pending.bytes.is_empty() {
            if pending.closed {
                return;
            }
            pending = shared
                .wake
                .wait(pending)
                .unwrap_or_else(PoisonError::into_inner);
        }
        // The two buffers change places, so that neither is allocated anew for each batch.
        std::mem::swap(&mut batch, &mut pending.bytes);
        pending.writing = true;
        drop(pending);
        write_all(&mut file, &batch);
        batch.clear();
        pending = shared.lock();
        pending.writing = false;
        if pending.bytes.is_empty() {
            shared.drained.notify_all();
        }
    }
}

/// Writes everything, or gives up on a stream that is gone: there is nowhere to report it.
fn write_all(file: &mut File, mut bytes: &[u8]) {
    while !bytes.is_empty() {
        match file.write(bytes) {
            Ok(written) => bytes = &bytes[written..],
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            // A stream inherited in non-blocking mode: its reader is behind.
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                thread::sleep(Duration::from_millis(1))
            }
            Err(_) => return,
        }
    }
}

#[cfg(test)]
mod tests;
