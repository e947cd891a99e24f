//! Who prints the progress, and when: a thread of its own, so that a terminal that stops reading
//! holds up nobody else.
//!
//! What the lines say is in `progress`; here they are filled from the state of the run, every
//! second, or ten times a second on a terminal.

use std::{
    io::{IsTerminal, Write},
    sync::{Arc, Condvar, Mutex, PoisonError, atomic::Ordering},
    thread::JoinHandle,
    time::Duration,
};

use crate::{
    executor::{self, Progress},
    options::{Plan, Scenario},
    progress::{self, BarLine, BarStyle, Colors, Description, Mark, RunProgress, ScenarioLine},
    segment::Tuple,
    state::{RunState, Status},
};

/// Columns of a terminal that does not say how many it has.
const USUAL_WIDTH: usize = 80;

/// What stdout is, and what may be printed on it.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Screen {
    /// Whether it is a terminal.
    pub(crate) tty: bool,
    /// How colours may be used.
    pub(crate) colors: Colors,
    /// Whether banner and progress are unwanted.
    pub(crate) quiet: bool,
}

impl Screen {
    /// Looks at stdout.
    pub(crate) fn new(no_color: bool, quiet: bool, env: &dyn Fn(&str) -> Option<String>) -> Self {
        let dumb = env("TERM").is_some_and(|term| term == "dumb");
        let tty = std::io::stdout().is_terminal() && !dumb;
        let colors = match env("COLORTERM").as_deref() {
            _ if !tty || no_color => Colors::None,
            Some("truecolor" | "24bit") => Colors::True,
            _ => Colors::Basic,
        };
        Self { tty, colors, quiet }
    }
}

/// Prints a text; a stdout that nobody reads is no reason to fail.
///
/// In one piece, without the standard library's buffer, which writes whole lines and then the
/// rest: on a terminal a line of the log could come between the two, where the progress would
/// overwrite it.
pub(crate) fn print(text: &str) {
    let mut stdout = std::io::stdout().lock();
    let _ = stdout.flush();
    let mut rest = text.as_bytes();
    while !rest.is_empty() {
        match rustix::io::write(&stdout, rest) {
            Ok(written) => rest = &rest[written..],
            Err(rustix::io::Errno::INTR) => {}
            // A stream inherited in non-blocking mode: its reader is behind.
            Err(rustix::io::Errno::AGAIN) => std::thread::sleep(Duration::from_millis(1)),
            Err(_) => return,
        }
    }
}

/// What the progress is about.
pub(crate) struct Subject {
    /// The state of the run.
    pub(crate) state: Arc<RunState>,
    /// What will be run, in order of start.
    pub(crate) scenarios: Vec<(Arc<Scenario>, Arc<Progress>)>,
    /// This instance's share.
    pub(crate) tuple: Tuple,
    /// VUs over time.
    pub(crate) plan: Plan,
    /// VUs to make before the start.
    pub(crate) vus: u64,
}

impl Subject {
    fn max_duration(&self) -> Option<Duration> {
        self.plan.max_duration().map(|end| end.to_std())
    }

    fn max_vus(&self) -> u64 {
        u64::try_from(self.plan.max_possible()).unwrap_or(0)
    }

    /// Banner and description.
    pub(crate) fn header(&self, script: &str, outputs: Vec<String>, colors: Colors) -> String {
        let scenarios = self.scenarios.iter().map(|(scenario, _)| ScenarioLine {
            name: scenario.name.clone(),
            start: scenario.start_time().to_std(),
            text: scenario.description(&self.tuple),
        });
        let description = Description {
            script: script.to_owned(),
            outputs,
            segment: self.tuple.length(),
            max_vus: self.max_vus(),
            max_duration: self.max_duration(),
            scenarios: scenarios.collect(),
        };
        progress::banner(colors) + &progress::description(&description, colors)
    }

    /// The block as it is now.
    fn block(&self, style: BarStyle) -> String {
        let state = &self.state;
        let status = state.status();
        if status < Status::Running as u8 {
            return self.preparation(status, style);
        }
        let (complete, interrupted) = state.iterations();
        let run = RunProgress {
            paused: *state.paused.borrow(),
            elapsed: state.run_duration(),
            max_duration: self.max_duration(),
            active_vus: state.vus_active.load(Ordering::Relaxed),
            initialized_vus: state.vus_initialized.load(Ordering::Relaxed),
            max_vus: self.max_vus(),
            complete,
            interrupted,
        };
        let lines: Vec<BarLine> = self
            .scenarios
            .iter()
            .map(|(s, p)| self.line(s, p))
            .collect();
        progress::block(&run, &lines, style)
    }

    fn preparation(&self, status: u8, style: BarStyle) -> String {
        let made = self.state.vus_initialized.load(Ordering::Relaxed);
        let is = |wanted: Status| status == wanted as u8;
        let (name, done, text) = if is(Status::Created) {
            ("Init", 0.0, "Init VUs...".to_owned())
        } else if is(Status::InitVus) {
            let share = made as f64 / self.vus.max(1) as f64;
            (
                "Init",
                share,
                format!("{made}/{} VUs initialized", self.vus),
            )
        } else if is(Status::PausedBeforeRun) {
            ("Run", 0.0, "paused".to_owned())
        } else if is(Status::Setup) {
            ("Run", 0.0, "setup()".to_owned())
        } else {
            ("Run", 0.0, "Starting test...".to_owned())
        };
        let names = self
            .scenarios
            .iter()
            .map(|(scenario, _)| scenario.name.as_str());
        progress::preparation(name, done, &text, names, style)
    }

    fn line(&self, scenario: &Scenario, progress: &Progress) -> BarLine {
        let name = scenario.name.clone();
        let aborted = self.state.is_aborted();
        if !progress.has_begun() {
            let start = scenario.start_time().to_std();
            // A scenario without a share of the load never begins.
            let over = aborted || !scenario.has_work(&self.tuple);
            let left = if over {
                Duration::ZERO
            } else {
                start.saturating_sub(self.state.run_duration())
            };
            let columns = vec!["waiting".to_owned(), progress::fixed_width(left, start)];
            let mark = if aborted {
                Mark::Interrupted
            } else {
                Mark::Waiting
            };
            return BarLine {
                name,
                mark,
                done: 0.0,
                columns,
            };
        }
        let columns = match executor::find(&scenario.kind) {
            Some(kind) => (kind.columns)(scenario, &self.tuple, progress),
            None => Vec::new(),
        };
        let done = volley_scripting::Scenario::progress(progress);
        let regular = progress
            .regular()
            .unwrap_or_else(|| scenario.regular_end().to_std());
        let mark = match progress.ended() {
            Some(true) => Mark::Interrupted,
            Some(false) => Mark::Done,
            None if progress.spent() > regular => Mark::Stopping,
            None => Mark::Running,
        };
        BarLine {
            name,
            mark,
            done,
            columns,
        }
    }
}

/// The thread that prints.
pub(crate) struct Display {
    subject: Arc<Subject>,
    screen: Screen,
    stop: Arc<(Mutex<bool>, Condvar)>,
    thread: Option<JoinHandle<()>>,
}

impl Display {
    /// Starts printing, unless that is unwanted.
    pub(crate) fn start(subject: Arc<Subject>, screen: Screen) -> Self {
        let stop = Arc::new((Mutex::new(false), Condvar::new()));
        let thread = (!screen.quiet).then(|| {
            let (subject, stop) = (subject.clone(), stop.clone());
            std::thread::Builder::new()
                .name("volley-display".to_owned())
                .spawn(move || draw(&subject, screen, &stop))
        });
        // Without a thread there is no progress to see, and nothing else is missing.
        let thread = thread.and_then(Result::ok);
        Self {
            subject,
            screen,
            stop,
            thread,
        }
    }

    /// Stops printing, after the block being printed.
    pub(crate) fn stop(&mut self) {
        let (stopped, bell) = &*self.stop;
        *stopped.lock().unwrap_or_else(PoisonError::into_inner) = true;
        bell.notify_all();
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
            if self.screen.tty {
                // Whatever stood there is history now.
                print("\x1b[J");
            }
        }
    }

    /// Prints the last block, after the summary.
    pub(crate) fn last(&self) {
        if !self.screen.quiet {
            print(&format!("{}\n", self.subject.block(style(self.screen))));
        }
    }
}

fn style(screen: Screen) -> BarStyle {
    BarStyle {
        terminal_width: screen.tty.then(terminal_width),
        colors: screen.colors,
    }
}

/// Asked anew for each block: windows change.
fn terminal_width() -> usize {
    let size = rustix::termios::tcgetwinsize(std::io::stdout());
    match size.map_or(0, |size| size.ws_col) {
        0 => USUAL_WIDTH,
        columns => usize::from(columns),
    }
}

fn draw(subject: &Subject, screen: Screen, stop: &(Mutex<bool>, Condvar)) {
    let pause = if screen.tty {
        Duration::from_millis(100)
    } else {
        Duration::from_secs(1)
    };
    let (stopped, bell) = stop;
    loop {
        let guard = stopped.lock().unwrap_or_else(PoisonError::into_inner);
        let waited = bell.wait_timeout_while(guard, pause, |stopped| !*stopped);
        let (guard, _) = waited.unwrap_or_else(PoisonError::into_inner);
        if *guard {
            return;
        }
        drop(guard);
        let block = subject.block(style(screen));
        if screen.tty {
            let width = style(screen).terminal_width.unwrap_or(USUAL_WIDTH);
            print(&progress::redrawn(&block, width));
        } else {
            print(&format!("{block}\n"));
        }
    }
}
