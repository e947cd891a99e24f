//! What a person sees who runs the agent in a terminal: a pseudo terminal, and a screen that
//! follows what is written to it.

mod support;

use std::{
    fs::{File, OpenOptions},
    io::Read,
    os::fd::OwnedFd,
    thread::JoinHandle,
};

use rustix::{
    pty::{OpenptFlags, grantpt, openpt, ptsname, unlockpt},
    termios::{Winsize, tcsetwinsize},
};
use support::{Finished, Folder, Launch, until};

/// Logs all the time from both VUs while the progress is drawn.
const LOGS: &str = "
import { sleep } from 'k6';
export const options = { vus: 2, duration: '1s' };
export function setup() { console.warn('set up'); }
export default function () { console.log(`line ${__VU}-${__ITER} ends here`); sleep(0.02); }
";

// === The terminal ===

/// A terminal that remembers all that was written to it.
struct Terminal {
    other_end: File,
    reader: JoinHandle<Vec<u8>>,
    columns: usize,
}

impl Terminal {
    fn open(columns: u16) -> Self {
        let ours = openpt(OpenptFlags::RDWR | OpenptFlags::NOCTTY).expect("a pseudo terminal");
        grantpt(&ours).expect("its other end");
        unlockpt(&ours).expect("its other end");
        let name = ptsname(&ours, Vec::new()).expect("its name");
        let name = name.into_string().expect("a path");
        let other_end = OpenOptions::new().read(true).write(true).open(name);
        let other_end = other_end.expect("its other end");
        let size = Winsize {
            ws_row: 50,
            ws_col: columns,
            ws_xpixel: 0,
            ws_ypixel: 0,
        };
        tcsetwinsize(&other_end, size).expect("a size");
        let reader = std::thread::spawn(move || read_to_end(ours));
        Self {
            other_end,
            reader,
            columns: usize::from(columns),
        }
    }

    fn end(&self) -> OwnedFd {
        self.other_end.try_clone().expect("another handle").into()
    }

    /// Runs the agent with stdout and stderr here, and answers what was written.
    fn run(self, launch: Launch) -> (Finished, String, usize) {
        let launch = launch.stdout(self.end()).stderr(self.end());
        let finished = launch.env("TERM", "xterm").run();
        // With the last handle closed the reader sees the end.
        drop(self.other_end);
        until("the end of the terminal", || {
            self.reader.is_finished().then_some(())
        });
        let bytes = self.reader.join().expect("a reader");
        let text = String::from_utf8(bytes).expect("text");
        (finished, text, self.columns)
    }
}

fn read_to_end(terminal: OwnedFd) -> Vec<u8> {
    let (mut terminal, mut all) = (File::from(terminal), Vec::new());
    let mut chunk = [0; 4096];
    // Its last reader gone, a pseudo terminal answers with an error instead of an end.
    while let Ok(read) = terminal.read(&mut chunk) {
        if read == 0 {
            break;
        }
        all.extend_from_slice(&chunk[..read]);
    }
    all
}

// === The screen ===

/// Lines of a terminal that is as high as it has to be.
#[derive(Default)]
struct Screen {
    rows: Vec<Vec<char>>,
    row: usize,
    column: usize,
    columns: usize,
}

impl Screen {
    fn new(columns: usize) -> Self {
        Self {
            columns,
            ..Self::default()
        }
    }

    /// Shows what was written; `drawn` is called whenever the cursor has been moved up.
    fn show(&mut self, text: &str, mut drawn: impl FnMut(&Self)) {
        let mut rest = text;
        while let Some(c) = rest.chars().next() {
            if let Some(sequence) = rest.strip_prefix("\x1b[") {
                let end = sequence.find(|c: char| c.is_ascii_alphabetic());
                let end = end.expect("a whole sequence");
                let number = sequence[..end].parse().unwrap_or(0);
                rest = &sequence[end + 1..];
                match &sequence[end..=end] {
                    "m" => {}
                    "K" => self.clear_right(),
                    "J" => {
                        self.clear_right();
                        self.rows.truncate(self.row + 1);
                    }
                    "A" => {
                        self.row = self.row.checked_sub(number).expect("a row above");
                        drawn(self);
                    }
                    other => panic!("unknown sequence {other}"),
                }
                continue;
            }
            rest = &rest[c.len_utf8()..];
            match c {
                '\r' => self.column = 0,
                '\n' => self.row += 1,
                c => {
                    assert!(!c.is_control(), "{c:?}");
                    self.put(c);
                }
            }
        }
    }

    fn put(&mut self, c: char) {
        if self.column == self.columns {
            (self.row, self.column) = (self.row + 1, 0);
        }
        let column = self.column;
        let line = self.line();
        line.resize(line.len().max(column + 1), ' ');
        line[column] = c;
        self.column += 1;
    }

    fn clear_right(&mut self) {
        let column = self.column;
        self.line().truncate(column);
    }

    fn line(&mut self) -> &mut Vec<char> {
        let height = self.rows.len().max(self.row + 1);
        self.rows.resize(height, Vec::new());
        &mut self.rows[self.row]
    }

    fn lines(&self) -> Vec<String> {
        self.rows.iter().map(|row| row.iter().collect()).collect()
    }

    fn count(&self, text: &str) -> usize {
        let lines = self.lines();
        lines.iter().filter(|line| line.contains(text)).count()
    }
}

fn launch(folder: &Folder, arguments: &str) -> Launch {
    Launch::volley(folder.path())
        .words("run script.js")
        .words(arguments)
}

/// Checks that every line of the log of [`LOGS`] is whole and there once; answers how many
/// there are.
#[track_caller]
fn whole_lines(screen: &Screen, start: &str, end: &str) -> usize {
    let lines = screen.lines();
    let logged: Vec<&String> = lines
        .iter()
        .filter(|line| line.contains("ends here"))
        .collect();
    let mut seen = std::collections::BTreeSet::new();
    for line in &logged {
        assert!(line.starts_with(start) && line.ends_with(end), "{line:?}");
        let name = line
            .split("line ")
            .nth(1)
            .and_then(|rest| rest.split(' ').next());
        assert!(seen.insert(name.expect("a name")), "twice: {line}");
    }
    logged.len()
}

// === What is seen ===

#[test]
fn the_progress_is_drawn_in_place_and_the_log_stays_whole_above_it() {
    let folder = Folder::with("script.js", LOGS);
    let (finished, text, columns) = Terminal::open(100).run(launch(&folder, ""));
    finished.expect(0);
    let mut screen = Screen::new(columns);
    let (mut drawn, mut top, mut bars) = (0, 0, 0);
    screen.show(&text, |screen| {
        drawn += 1;
        assert!(screen.row >= top, "it moved up into the log");
        top = screen.row;
        // One block at most, whatever was logged in between.
        let blocks = screen.count(" interrupted iterations")
            + screen.count("Init   ")
            + screen.count("Run   ");
        assert_eq!(blocks, 1, "{:#?}", screen.lines());
        let scenario = screen.lines();
        let scenario = scenario.iter().filter(|line| line.starts_with("default "));
        let scenario: Vec<&String> = scenario.collect();
        assert_eq!(scenario.len(), 1, "{scenario:?}");
        bars += usize::from(scenario[0].contains(" [====") && scenario[0].contains(">---"));
    });
    assert!(drawn > 1 && bars > 0, "{drawn} blocks, {bars} bars");

    let logged = whole_lines(&screen, "INFO[000", " source=console");
    let reported = screen.lines();
    let reported = reported.iter().find(|line| line.contains(" complete and "));
    let reported = reported.expect("the last block").clone();
    assert!(
        reported.contains(&format!(", {logged} complete and 0 interrupted")),
        "{reported}"
    );
    assert_eq!(screen.count("WARN[0000] set up  "), 1);
    // Then the summary and the last block, without a trace of those before.
    assert_eq!(screen.count("█ TOTAL RESULTS"), 1);
    assert_eq!(screen.count(" interrupted iterations"), 1);
    assert_eq!(
        screen.count("default ✓ [======================================] 2 VUs  1s"),
        1
    );
    // The colours of the description, the log, the summary and the last bar.
    for colored in [
        "     execution: \x1b[36mlocal\x1b[0m\r\n",
        "\x1b[36mINFO\x1b[0m[0000] line ",
        " \x1b[36msource\x1b[0m=console\x1b[0K\r\n",
        "  █ \x1b[1mTOTAL RESULTS\x1b[0m \r\n",
        "    iterations\x1b[2;37m...........:\x1b[0m \x1b[36m",
        "default \x1b[32m✓\x1b[0m [",
    ] {
        assert!(text.contains(colored), "no {colored:?} in {text:?}");
    }
    assert!(text.starts_with("\r\n\x1b[33m  "), "the banner is yellow");
}

#[test]
fn a_narrow_terminal_is_drawn_in_place_too() {
    let folder = Folder::with("script.js", LOGS);
    let (finished, text, columns) = Terminal::open(30).run(launch(&folder, "--log-output=none"));
    finished.expect(0);
    let mut screen = Screen::new(columns);
    let mut drawn = 0;
    screen.show(&text, |screen| {
        drawn += 1;
        let blocks = screen.count("running (") + screen.count("Init ") + screen.count("Run ");
        assert_eq!(blocks, 1, "{:#?}", screen.lines());
    });
    assert!(drawn > 1, "{drawn}");
    assert_eq!(screen.count("running ("), 1);
}

#[test]
fn without_colours_a_terminal_still_has_bars_and_whole_lines() {
    for variable in ["", "K6_NO_COLOR", "NO_COLOR"] {
        let folder = Folder::with("script.js", LOGS);
        let mut launch = launch(&folder, "");
        launch = match variable {
            "" => launch.words("--no-color"),
            name => launch.env(name, "1"),
        };
        let (finished, text, columns) = Terminal::open(120).run(launch);
        finished.expect(0);
        let mut screen = Screen::new(columns);
        screen.show(&text, |_| {});
        assert!(whole_lines(&screen, "time=\"", " source=console") > 0);
        assert_eq!(screen.count(" interrupted iterations"), 1);
        let codes = text.split("\x1b[").skip(1);
        let colors: Vec<&str> = codes
            .filter(|code| {
                code.trim_start_matches(|c: char| c.is_ascii_digit() || c == ';')
                    .starts_with('m')
            })
            .collect();
        assert!(colors.is_empty(), "{variable}: {colors:?}");
        assert!(
            text.contains("\x1b[K\r\n\r\x1b[J\x1b[3A"),
            "it is drawn in place"
        );
    }
}

#[test]
fn quiet_leaves_the_log_and_the_summary() {
    let folder = Folder::with("script.js", LOGS);
    let (finished, text, columns) = Terminal::open(100).run(launch(&folder, "--quiet"));
    finished.expect(0);
    let mut screen = Screen::new(columns);
    screen.show(&text, |_| panic!("nothing is drawn in place"));
    assert!(whole_lines(&screen, "INFO[000", " source=console") > 0);
    assert_eq!(screen.count("█ TOTAL RESULTS"), 1);
    for missing in [
        "execution: ",
        "scenarios: ",
        "interrupted iterations",
        "default ",
    ] {
        assert_eq!(screen.count(missing), 0, "{missing}");
    }
}

#[test]
fn a_dumb_terminal_is_none() {
    let folder = Folder::with("script.js", LOGS);
    let launch = launch(&folder, "");
    let terminal = Terminal::open(100);
    let launch = launch.stdout(terminal.end()).stderr(terminal.end());
    let finished = launch.env("TERM", "dumb").run();
    drop(terminal.other_end);
    finished.expect(0);
    let text = String::from_utf8(terminal.reader.join().expect("a reader")).expect("text");
    assert!(!text.contains('\x1b'), "{text:?}");
    assert!(text.contains(" level=info msg=\"line "));
    assert!(text.contains("default ✓ [ 100% ] 2 VUs  1s"));
}
