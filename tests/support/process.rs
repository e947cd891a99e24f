//! Programs under test: started in a process group of their own, watched, and always ended.

use std::{
    ffi::OsStr,
    io::Read,
    os::unix::process::{CommandExt, ExitStatusExt},
    path::Path,
    process::{Child, Command, ExitStatus, Stdio},
    sync::{Arc, Mutex},
    thread::JoinHandle,
    time::Instant,
};

use rustix::process::{Pid, Signal, kill_process, kill_process_group};

use super::{LogLine, PATIENCE, PAUSE, until};

/// A program about to be started.
pub(crate) struct Launch {
    command: Command,
    what: String,
}

impl Launch {
    /// The agent, in that working directory.
    pub(crate) fn volley(folder: &Path) -> Self {
        Self::program(env!("CARGO_BIN_EXE_volley"), folder)
    }

    /// Any program. Of the environment it gets the path alone, and a home without files.
    pub(crate) fn program(program: impl AsRef<OsStr>, folder: &Path) -> Self {
        let mut command = Command::new(program.as_ref());
        command
            .current_dir(folder)
            .env_clear()
            .env("PATH", std::env::var_os("PATH").unwrap_or_default())
            .env("HOME", folder)
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .process_group(0);
        let what = program.as_ref().to_string_lossy();
        let what = what.rsplit('/').next().unwrap_or_default().to_owned();
        Self { command, what }
    }

    /// Arguments, separated by blanks.
    pub(crate) fn words(self, words: &str) -> Self {
        self.args(words.split_whitespace())
    }

    /// Arguments.
    pub(crate) fn args<S: AsRef<OsStr>>(mut self, arguments: impl IntoIterator<Item = S>) -> Self {
        for argument in arguments {
            self.what.push(' ');
            self.what.push_str(&argument.as_ref().to_string_lossy());
            self.command.arg(argument);
        }
        self
    }

    /// A variable of the environment.
    pub(crate) fn env(mut self, name: &str, value: impl AsRef<OsStr>) -> Self {
        self.command.env(name, value);
        self
    }

    /// Reads standard input from there.
    pub(crate) fn stdin(mut self, from: impl Into<Stdio>) -> Self {
        self.command.stdin(from);
        self
    }

    /// Writes standard output there instead of keeping it.
    pub(crate) fn stdout(mut self, to: impl Into<Stdio>) -> Self {
        self.command.stdout(to);
        self
    }

    /// Writes standard error there instead of keeping it.
    pub(crate) fn stderr(mut self, to: impl Into<Stdio>) -> Self {
        self.command.stderr(to);
        self
    }

    /// Starts it.
    #[track_caller]
    pub(crate) fn start(mut self) -> Running {
        let mut child = self
            .command
            .spawn()
            .unwrap_or_else(|e| panic!("{}: {e}", self.what));
        Running {
            stdout: Capture::of(child.stdout.take()),
            stderr: Capture::of(child.stderr.take()),
            child,
            ended: None,
            what: self.what,
        }
    }

    /// Starts it and waits for its end.
    #[track_caller]
    pub(crate) fn run(self) -> Finished {
        self.start().finish()
    }
}

/// What a stream has brought so far.
struct Capture {
    bytes: Arc<Mutex<Vec<u8>>>,
    reader: Option<JoinHandle<()>>,
}

impl Capture {
    fn of<R: Read + Send + 'static>(stream: Option<R>) -> Self {
        let bytes: Arc<Mutex<Vec<u8>>> = Arc::default();
        let kept = bytes.clone();
        let reader = stream.map(|mut stream| {
            std::thread::spawn(move || {
                let mut chunk = [0; 16 * 1024];
                while let Ok(read) = stream.read(&mut chunk) {
                    if read == 0 {
                        break;
                    }
                    kept.lock().expect("a lock").extend(&chunk[..read]);
                }
            })
        });
        Self { bytes, reader }
    }

    fn text(&self) -> String {
        String::from_utf8_lossy(&self.bytes.lock().expect("a lock")).into_owned()
    }
}

/// A program at work. Dropping it kills it and everything it has started.
pub(crate) struct Running {
    child: Child,
    ended: Option<ExitStatus>,
    stdout: Capture,
    stderr: Capture,
    what: String,
}

impl Running {
    /// What it has written to standard output so far.
    pub(crate) fn stdout(&self) -> String {
        self.stdout.text()
    }

    /// What it has written to standard error so far.
    pub(crate) fn stderr(&self) -> String {
        self.stderr.text()
    }

    /// Whether it has ended.
    pub(crate) fn has_ended(&mut self) -> bool {
        if self.ended.is_none() {
            self.ended = self.child.try_wait().expect("the state of a child");
        }
        self.ended.is_some()
    }

    /// Looks until there is something, while it runs.
    #[track_caller]
    pub(crate) fn until<T>(&mut self, what: &str, mut look: impl FnMut(&Self) -> Option<T>) -> T {
        let end = Instant::now() + PATIENCE;
        loop {
            // Asked before looking: what it did at its end has happened when this is true, and
            // what it wrote at its end has been read.
            let over = self.has_ended() || Instant::now() >= end;
            if self.ended.is_some() {
                self.read_to_end();
            }
            if let Some(found) = look(self) {
                return found;
            }
            assert!(!over, "no {what}{}", self.account());
            std::thread::sleep(PAUSE);
        }
    }

    /// Waits until its log holds that text.
    #[track_caller]
    pub(crate) fn until_logged(&mut self, text: &str) {
        self.until(text, |running| {
            running.stderr().contains(text).then_some(())
        });
    }

    /// Waits until its standard output holds that text.
    #[track_caller]
    pub(crate) fn until_printed(&mut self, text: &str) {
        self.until(text, |running| {
            running.stdout().contains(text).then_some(())
        });
    }

    /// SIGTERM, to the program alone.
    pub(crate) fn terminate(&self) {
        self.signal(Signal::TERM);
    }

    /// SIGINT, to the program alone.
    pub(crate) fn interrupt(&self) {
        self.signal(Signal::INT);
    }

    fn signal(&self, signal: Signal) {
        // Not waited for yet, so the id is still its own.
        assert!(self.ended.is_none(), "it has ended{}", self.account());
        kill_process(Pid::from_child(&self.child), signal).expect("a signal");
    }

    /// Waits for its end.
    #[track_caller]
    pub(crate) fn finish(mut self) -> Finished {
        let end = Instant::now() + PATIENCE;
        while !self.has_ended() {
            assert!(Instant::now() < end, "it does not end{}", self.account());
            std::thread::sleep(PAUSE);
        }
        self.read_to_end();
        let status = self.ended.expect("an exit status");
        let by_signal = status.signal().map(|signal| 128 + signal);
        Finished {
            code: status.code().or(by_signal).expect("a code or a signal"),
            stdout: self.stdout(),
            stderr: self.stderr(),
            what: self.what.clone(),
        }
    }

    /// Waits for all that it has written; for when it has ended.
    #[track_caller]
    fn read_to_end(&mut self) {
        for capture in [&mut self.stdout, &mut self.stderr] {
            if let Some(reader) = capture.reader.take() {
                until("the end of its output", || {
                    reader.is_finished().then_some(())
                });
            }
        }
    }

    /// What is known of it, for the message of a failed test.
    fn account(&self) -> String {
        account(&self.what, &self.stdout(), &self.stderr())
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        // The group outlives the program when it has left children behind.
        let _ = kill_process_group(Pid::from_child(&self.child), Signal::KILL);
        let _ = self.child.wait();
    }
}

fn account(what: &str, stdout: &str, stderr: &str) -> String {
    format!("\n--- {what}\n--- stdout\n{stdout}\n--- stderr\n{stderr}\n---")
}

/// A program that has ended.
#[derive(Debug)]
pub(crate) struct Finished {
    /// Its exit code; 128 and the number of the signal that killed it.
    pub(crate) code: i32,
    pub(crate) stdout: String,
    pub(crate) stderr: String,
    what: String,
}

impl Finished {
    /// Checks how it ended.
    #[track_caller]
    pub(crate) fn expect(self, code: i32) -> Self {
        assert_eq!(self.code, code, "{}", self.account());
        self
    }

    /// Every entry of its log, which has nothing else in it.
    #[track_caller]
    pub(crate) fn log(&self) -> Vec<LogLine> {
        self.stderr.lines().map(LogLine::parse).collect()
    }

    /// Entries of that level.
    #[track_caller]
    pub(crate) fn logged(&self, level: &str) -> Vec<LogLine> {
        let mut log = self.log();
        log.retain(|line| line.level == level);
        log
    }

    /// The one error that it has logged.
    #[track_caller]
    pub(crate) fn error(&self) -> LogLine {
        let mut errors = self.logged("error");
        assert_eq!(errors.len(), 1, "not one error{}", self.account());
        let lines = self.stderr.lines();
        // As the operator finds it.
        let found = lines.filter(|line| line.contains("level=error")).count();
        assert_eq!(found, 1, "not one line with level=error{}", self.account());
        errors.remove(0)
    }

    /// Checks that there is that text in standard output.
    #[track_caller]
    pub(crate) fn prints(self, text: &str) -> Self {
        assert!(self.stdout.contains(text), "no {text:?}{}", self.account());
        self
    }

    /// The number after `name...:` in the summary.
    #[track_caller]
    pub(crate) fn summary(&self, name: &str) -> f64 {
        let line = self.stdout.lines().find_map(|line| {
            let rest = line.trim_start().strip_prefix(name)?;
            rest.trim_start_matches('.').strip_prefix(": ")
        });
        let number = line.and_then(|rest| rest.split_whitespace().next()?.parse().ok());
        number.unwrap_or_else(|| panic!("no {name} in the summary{}", self.account()))
    }

    /// What is known of it, for the message of a failed test.
    pub(crate) fn account(&self) -> String {
        account(&self.what, &self.stdout, &self.stderr)
    }
}
