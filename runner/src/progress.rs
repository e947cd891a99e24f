//! What stands on stdout while a test runs: the banner, what will be run, and how far it is.
//!
//! Pure functions from numbers to text: who prints, and when, is elsewhere. Without a terminal a
//! block of lines is printed every second and bars are percentages; on a terminal the block is
//! drawn anew in place.

use std::{fmt::Write as _, time::Duration};

use crate::duration::GoDuration;

/// The program's name, five lines high.
const ART: [&str; 5] = [
    r"              _ _            ",
    r"  __   _____ | | | ___ _   _ ",
    r"  \ \ / / _ \| | |/ _ \ | | |",
    r"   \ V / (_) | | |  __/ |_| |",
    r"    \_/ \___/|_|_|\___|\__, /",
];

/// The longest name that a scenario's line shows whole.
const LONGEST_NAME: usize = 30;

/// How colours may be used.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Colors {
    /// Not at all: no terminal, or `--no-color`.
    None,
    /// The sixteen that every terminal has.
    Basic,
    /// All of them: `COLORTERM` is `truecolor` or `24bit`.
    True,
}

impl Colors {
    fn with(self, style: &str, text: &str) -> String {
        match self {
            Self::None => text.to_owned(),
            Self::Basic | Self::True => format!("\x1b[{style}m{text}\x1b[0m"),
        }
    }

    fn cyan(self, text: &str) -> String {
        self.with("36", text)
    }
}

/// The banner with the empty lines around it.
pub(crate) fn banner(colors: Colors) -> String {
    let style = if colors == Colors::True {
        "1;38;2;255;103;29"
    } else {
        "33"
    };
    format!("\n{}\n\n", colors.with(style, &ART.join("\n")))
}

/// What a test will do, as far as its description shows it.
#[derive(Debug, Clone, Default)]
pub(crate) struct Description {
    /// The script as it was given on the command line.
    pub(crate) script: String,
    /// One text for each output, such as `json (o.json)`; none is shown as `-`.
    pub(crate) outputs: Vec<String>,
    /// The share of this instance in the whole test, 0 to 1.
    pub(crate) segment: f64,
    /// The most VUs that run at once.
    pub(crate) max_vus: u64,
    /// The longest that the test can take, graceful stops included; `None` without an end.
    pub(crate) max_duration: Option<Duration>,
    /// The scenarios, in any order.
    pub(crate) scenarios: Vec<ScenarioLine>,
}

/// A scenario in the description.
#[derive(Debug, Clone, Default)]
pub(crate) struct ScenarioLine {
    /// Its name.
    pub(crate) name: String,
    /// When it starts, after the start of the test.
    pub(crate) start: Duration,
    /// What it does: `2 looping VUs for 2s (gracefulStop: 30s)`.
    pub(crate) text: String,
}

/// The description with the empty line after it.
pub(crate) fn description(test: &Description, colors: Colors) -> String {
    let outputs = if test.outputs.is_empty() {
        "-".to_owned()
    } else {
        test.outputs.join(", ")
    };
    let number = test.scenarios.len();
    let longest = test
        .max_duration
        .map_or_else(|| "infinite".to_owned(), |end| rounded(end).to_string());
    let summary = format!(
        "({:.2}%) {number} scenario{}, {} max VUs, {longest} max duration (incl. graceful stop):",
        test.segment * 100.0,
        if number == 1 { "" } else { "s" },
        test.max_vus,
    );
    let mut text = format!(
        "     execution: {}\n        script: {}\n        output: {}\n\n     scenarios: {}\n",
        colors.cyan("local"),
        colors.cyan(&test.script),
        colors.cyan(&outputs),
        colors.cyan(&summary),
    );
    let mut scenarios: Vec<_> = test.scenarios.iter().collect();
    scenarios.sort_by_key(|scenario| (scenario.start, &scenario.name));
    for scenario in scenarios {
        let _ = writeln!(text, "              * {}: {}", scenario.name, scenario.text);
    }
    text.push('\n');
    text
}

/// In Go's notation, to the nearest tenth of a second.
fn rounded(time: Duration) -> GoDuration {
    let tenths = i64::try_from(tenths(time)).unwrap_or(i64::MAX);
    GoDuration(tenths.saturating_mul(100_000_000))
}

fn tenths(time: Duration) -> u128 {
    (time.as_millis() + 50) / 100
}

/// A time to the tenth of a second, as wide as `max` would be, so that a column of them stands still.
pub(crate) fn fixed_width(time: Duration, max: Duration) -> String {
    const MINUTE: u128 = 600;
    const HOUR: u128 = 60 * MINUTE;
    const DAY: u128 = 24 * HOUR;
    let (time, max) = (tenths(time), tenths(max));
    let (days, hours, minutes) = (time / DAY, time / HOUR % 24, time / MINUTE % 60);
    let (seconds, tenth) = (time / 10 % 60, time % 10);
    // A time beyond its maximum keeps its digits: each form's first unit takes all of what is left.
    let (all_hours, all_minutes, all_seconds) = (time / HOUR, time / MINUTE, time / 10);
    match max {
        0..100 => format!("{all_seconds}.{tenth}s"),
        100..MINUTE => format!("{all_seconds:02}.{tenth}s"),
        MINUTE..6000 => format!("{all_minutes}m{seconds:02}.{tenth}s"),
        6000..HOUR => format!("{all_minutes:02}m{seconds:02}.{tenth}s"),
        HOUR..360_000 => format!("{all_hours}h{minutes:02}m{seconds:02}.{tenth}s"),
        360_000..DAY => format!("{all_hours:02}h{minutes:02}m{seconds:02}.{tenth}s"),
        _ => format!("{days}d{hours:02}h{minutes:02}m{seconds:02}.{tenth}s"),
    }
}

/// The time column of a scenario that has run for `spent` of its `max`, and the maximum alone once that is over.
pub(crate) fn time_column(spent: Duration, max: Duration) -> String {
    let total = GoDuration::from_std(max);
    if spent >= max {
        total.to_string()
    } else {
        format!("{}/{total}", fixed_width(spent, max))
    }
}

/// A count that is as wide as its maximum: `09/12`.
pub(crate) fn fraction(count: u64, max: u64) -> String {
    let width = digits(max);
    format!("{count:0width$}/{max}")
}

fn digits(number: u64) -> usize {
    number.to_string().len()
}

/// The run as a whole, at one instant.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct RunProgress {
    /// Whether it is paused.
    pub(crate) paused: bool,
    /// The run clock.
    pub(crate) elapsed: Duration,
    /// The longest that the test can take, if it has an end.
    pub(crate) max_duration: Option<Duration>,
    /// VUs that run an iteration.
    pub(crate) active_vus: u64,
    /// VUs that exist.
    pub(crate) initialized_vus: u64,
    /// The most VUs that run at once: the width of the two.
    pub(crate) max_vus: u64,
    /// Iterations that came to their end.
    pub(crate) complete: u64,
    /// Iterations that were cut short.
    pub(crate) interrupted: u64,
}

/// The status line.
pub(crate) fn status_line(run: &RunProgress) -> String {
    let width = digits(run.max_vus);
    format!(
        "{} ({}), {:0width$}/{:0width$} VUs, {} complete and {} interrupted iterations",
        if run.paused { "paused" } else { "running" },
        fixed_width(run.elapsed, run.max_duration.unwrap_or(run.elapsed)),
        run.active_vus,
        run.initialized_vus,
        run.complete,
        run.interrupted,
    )
}

/// The state of a scenario.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Mark {
    /// It runs.
    Running,
    /// Its start time has not come.
    Waiting,
    /// It waits for its last iterations.
    Stopping,
    /// It was cut short.
    Interrupted,
    /// It is over.
    Done,
}

impl Mark {
    fn text(self, colors: Colors) -> String {
        match self {
            Self::Running => " ".to_owned(),
            Self::Waiting => colors.with("2", "•"),
            Self::Stopping => "↓".to_owned(),
            Self::Interrupted => colors.with("31", "✗"),
            Self::Done => colors.with("32", "✓"),
        }
    }
}

/// One line with a bar: a scenario, or the preparations.
#[derive(Debug, Clone)]
pub(crate) struct BarLine {
    /// The scenario's name, or `Init` or `Run`.
    pub(crate) name: String,
    /// Its state.
    pub(crate) mark: Mark,
    /// How much of it is done, 0 to 1.
    pub(crate) done: f64,
    /// What stands right of the bar: VUs, times, iterations. The first two are aligned over the lines.
    pub(crate) columns: Vec<String>,
}

/// How lines with bars are drawn.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct BarStyle {
    /// Columns of the terminal; without one, bars are percentages.
    pub(crate) terminal_width: Option<usize>,
    /// How colours may be used.
    pub(crate) colors: Colors,
}

/// One block of progress: an empty line, the status, and a line for each scenario. No line break at its end.
pub(crate) fn block(run: &RunProgress, scenarios: &[BarLine], style: BarStyle) -> String {
    let mut text = format!("\n{}", status_line(run));
    for line in bar_lines(scenarios, style) {
        text.push('\n');
        text.push_str(&line);
    }
    text
}

/// The block before the scenarios start: `name` is `Init` or `Run`, `text` what is being done.
/// `names` are those of the scenarios, which have not begun.
pub(crate) fn preparation<'a>(
    name: &str,
    done: f64,
    text: &str,
    names: impl Iterator<Item = &'a str>,
    style: BarStyle,
) -> String {
    let line = |name: &str, done, columns| BarLine {
        name: name.to_owned(),
        mark: Mark::Running,
        done,
        columns,
    };
    let first = line(name, done, vec![text.to_owned()]);
    let scenarios = names.map(|name| line(name, 0.0, Vec::new()));
    let lines: Vec<_> = std::iter::once(first).chain(scenarios).collect();
    let lines = bar_lines(&lines, style);
    lines
        .iter()
        .map(|line| format!("\n{}", line.trim_end()))
        .collect()
}

/// The lines of scenarios, aligned with each other.
fn bar_lines(lines: &[BarLine], style: BarStyle) -> Vec<String> {
    /// How many columns are aligned over the lines.
    const ALIGNED: usize = 2;
    let chars = |text: &str| text.chars().count();
    let names: Vec<_> = lines.iter().map(|line| shortened(&line.name)).collect();
    let name_width = names.iter().map(|name| chars(name)).max().unwrap_or(0);
    let widths: [usize; ALIGNED] = std::array::from_fn(|column| {
        lines
            .iter()
            .filter_map(|line| line.columns.get(column))
            .map(|text| chars(text))
            .max()
            .unwrap_or(0)
    });
    let right: Vec<String> = lines
        .iter()
        .map(|line| {
            line.columns
                .iter()
                .enumerate()
                .fold(String::new(), |right, (column, text)| {
                    let width = widths.get(column).map_or(0, |width| width + 1);
                    format!("{right} {text:width$}")
                })
        })
        .collect();
    let widest = right.iter().map(|right| chars(right)).max().unwrap_or(0);
    // Beside the bar: the name, the mark, two spaces and two brackets.
    let inner = style
        .terminal_width
        .map(|width| width.saturating_sub(name_width + widest + 5));
    names
        .iter()
        .zip(lines)
        .zip(&right)
        .map(|((name, line), right)| {
            let bar = bar(line.done, inner, style.colors);
            format!(
                "{name:name_width$} {} [{bar}]{right}",
                line.mark.text(style.colors)
            )
        })
        .collect()
}

fn shortened(name: &str) -> String {
    if name.chars().count() <= LONGEST_NAME {
        return name.to_owned();
    }
    name.chars()
        .take(LONGEST_NAME - 3)
        .chain("...".chars())
        .collect()
}

/// The inside of a bar that may take so many columns; a percentage where that is too narrow, or unknown.
fn bar(done: f64, inner: Option<usize>, colors: Colors) -> String {
    const WIDEST: usize = 38;
    const NARROWEST: usize = 8;
    let done = if done.is_nan() {
        0.0
    } else {
        done.clamp(0.0, 1.0)
    };
    #[expect(
        clippy::cast_possible_truncation,
        clippy::cast_sign_loss,
        reason = "between 0 and 100"
    )]
    let part = |whole: f64| (done * whole) as usize;
    let Some(inner) = inner
        .map(|inner| inner.min(WIDEST))
        .filter(|inner| *inner >= NARROWEST)
    else {
        return format!(" {:3}% ", part(100.0));
    };
    #[expect(clippy::cast_precision_loss, reason = "at most 38")]
    let filled = part(inner as f64);
    let head = match filled {
        0 => String::new(),
        _ if filled == inner => "=".repeat(inner),
        _ => "=".repeat(filled - 1) + ">",
    };
    if filled == inner {
        head
    } else {
        head + &colors.with("2", &"-".repeat(inner - filled))
    }
}

/// A block as a terminal of so many columns gets it: each line cleared to its right, and the
/// cursor back on the first one. What is printed next overwrites the block.
pub(crate) fn redrawn(block: &str, width: usize) -> String {
    // A line that is wider than the terminal takes more than one row of it.
    let rows = |line: &str| visible(line).div_ceil(width.max(1)).max(1);
    let rows: usize = block.split('\n').map(rows).sum();
    format!(
        "{}\x1b[K\n\r\x1b[J\x1b[{rows}A",
        block.replace('\n', "\x1b[K\n"),
    )
}

/// How many columns a line takes: colours take none.
fn visible(line: &str) -> usize {
    let mut pieces = line.split('\x1b');
    let plain = pieces.next().map_or(0, |text| text.chars().count());
    let behind_colors = pieces.map(|piece| {
        let text = piece.split_once('m').map_or("", |(_, text)| text);
        text.chars().count()
    });
    plain + behind_colors.sum::<usize>()
}

#[cfg(test)]
mod tests {
    use super::*;

    const PLAIN: BarStyle = BarStyle {
        terminal_width: None,
        colors: Colors::None,
    };

    fn seconds(seconds: f64) -> Duration {
        Duration::from_secs_f64(seconds)
    }

    fn line(name: &str, mark: Mark, done: f64, columns: &[&str]) -> BarLine {
        let columns = columns.iter().map(|&text| text.to_owned()).collect();
        BarLine {
            name: name.to_owned(),
            mark,
            done,
            columns,
        }
    }

    #[test]
    fn the_banner_has_five_lines_and_the_terminals_best_colour() {
        let plain = banner(Colors::None);
        assert_eq!(plain.matches('\n').count(), 7);
        assert!(plain.starts_with('\n') && plain.ends_with("\n\n") && !plain.contains('\x1b'));
        assert!(banner(Colors::Basic).starts_with("\n\x1b[33m"));
        assert!(banner(Colors::True).starts_with("\n\x1b[1;38;2;255;103;29m"));
    }

    #[test]
    fn the_description_names_everything_in_the_order_of_start() {
        let test = Description {
            script: "test.js".to_owned(),
            outputs: vec!["json (o.json)".to_owned(), "csv (o.csv)".to_owned()],
            segment: 0.25,
            max_vus: 5,
            max_duration: Some(seconds(33.04)),
            scenarios: vec![
                ScenarioLine {
                    name: "b".to_owned(),
                    start: seconds(1.0),
                    text: "late".to_owned(),
                },
                ScenarioLine {
                    name: "z".to_owned(),
                    start: seconds(0.0),
                    text: "same".to_owned(),
                },
                ScenarioLine {
                    name: "a".to_owned(),
                    start: seconds(0.0),
                    text: "2 looping VUs for 2s (gracefulStop: 30s)".to_owned(),
                },
            ],
        };
        let expected = "     execution: local
        script: test.js
        output: json (o.json), csv (o.csv)

     scenarios: (25.00%) 3 scenarios, 5 max VUs, 33s max duration (incl. graceful stop):
              * a: 2 looping VUs for 2s (gracefulStop: 30s)
              * z: same
              * b: late

";
        assert_eq!(description(&test, Colors::None), expected);
        assert!(description(&test, Colors::Basic).contains("script: \x1b[36mtest.js\x1b[0m\n"));
        let nothing = Description {
            segment: 1.0,
            max_duration: Some(seconds(630.0)),
            ..Description::default()
        };
        let text = description(&nothing, Colors::None);
        assert!(text.contains("output: -\n"));
        let endless = Description::default();
        assert!(description(&endless, Colors::None).contains(", infinite max duration"));
        assert!(text.contains("(100.00%) 0 scenarios, 0 max VUs, 10m30s max duration"));
    }

    #[test]
    fn the_block_without_a_terminal_is_that_of_k6_to_the_byte() {
        let run = RunProgress {
            elapsed: seconds(2.04),
            max_duration: Some(seconds(630.0)),
            active_vus: 15,
            initialized_vus: 20,
            max_vus: 20,
            complete: 45,
            ..RunProgress::default()
        };
        let spent = |max: f64| time_column(seconds(2.0), seconds(max));
        let scenarios = [
            line(
                "car",
                Mark::Running,
                0.669,
                &["2/3 VUs", &spent(3.0), "5.00 iters/s"],
            ),
            line("cvu", Mark::Running, 0.669, &["2 VUs", &spent(3.0)]),
            line(
                "pervu",
                Mark::Running,
                0.75,
                &["2 VUs", &spent(600.0), "6/8 iters, 4 per VU"],
            ),
            line(
                "rar",
                Mark::Running,
                0.669,
                &["03/05 VUs", &spent(3.0), "11.62 iters/s"],
            ),
            line("rvu", Mark::Running, 0.669, &["3/4 VUs", "2.0s/3.0s"]),
            line(
                "shared",
                Mark::Running,
                0.75,
                &["3 VUs", &spent(20.0), &(fraction(9, 12) + " shared iters")],
            ),
            line("late", Mark::Waiting, 0.0, &["waiting", "0.0s"]),
        ];
        let expected = concat!(
            "\n",
            "running (00m02.0s), 15/20 VUs, 45 complete and 0 interrupted iterations\n",
            "car      [  66% ] 2/3 VUs    2.0s/3s         5.00 iters/s\n",
            "cvu      [  66% ] 2 VUs      2.0s/3s        \n",
            "pervu    [  75% ] 2 VUs      00m02.0s/10m0s  6/8 iters, 4 per VU\n",
            "rar      [  66% ] 03/05 VUs  2.0s/3s         11.62 iters/s\n",
            "rvu      [  66% ] 3/4 VUs    2.0s/3.0s      \n",
            "shared   [  75% ] 3 VUs      02.0s/20s       09/12 shared iters\n",
            "late   • [   0% ] waiting    0.0s           ",
        );
        assert_eq!(block(&run, &scenarios, PLAIN), expected);
    }

    #[test]
    fn the_last_block_marks_what_is_done() {
        let run = RunProgress {
            max_duration: Some(seconds(630.0)),
            initialized_vus: 2,
            max_vus: 2,
            complete: 6,
            ..RunProgress::default()
        };
        let scenarios = [line(
            "default",
            Mark::Done,
            1.0,
            &[
                "2 VUs",
                &time_column(seconds(0.0), seconds(600.0)),
                "6/6 shared iters",
            ],
        )];
        assert_eq!(
            block(&run, &scenarios, PLAIN),
            "\nrunning (00m00.0s), 0/2 VUs, 6 complete and 0 interrupted iterations\n\
             default ✓ [ 100% ] 2 VUs  00m00.0s/10m0s  6/6 shared iters"
        );
        assert_eq!(
            status_line(&RunProgress {
                paused: true,
                max_vus: 100,
                ..run
            })[..28],
            *"paused (00m00.0s), 000/002 V"
        );
    }

    #[test]
    fn times_are_as_wide_as_their_maximum() {
        for (max, text) in [
            (9.0, "3.1s"),
            (10.0, "03.1s"),
            (60.0, "0m03.1s"),
            (600.0, "00m03.1s"),
            (3600.0, "0h00m03.1s"),
            (36_000.0, "00h00m03.1s"),
            (86_400.0, "0d00h00m03.1s"),
        ] {
            assert_eq!(fixed_width(seconds(3.06), seconds(max)), text);
        }
        assert_eq!(
            fixed_width(seconds(3_661.96), seconds(4_000.0)),
            "1h01m02.0s"
        );
        assert_eq!(fixed_width(seconds(75.0), seconds(5.0)), "75.0s");
        assert_eq!(time_column(seconds(3.0), seconds(3.0)), "3s");
    }

    #[test]
    fn bars_fit_their_terminal() {
        assert_eq!(
            bar(0.5, Some(100), Colors::None),
            format!("{}>{}", "=".repeat(18), "-".repeat(19))
        );
        assert_eq!(bar(0.0, Some(8), Colors::None), "--------");
        assert_eq!(bar(1.0, Some(8), Colors::None), "========");
        assert_eq!(bar(0.5, Some(8), Colors::Basic), "===>\x1b[2m----\x1b[0m");
        assert_eq!(bar(0.5, Some(7), Colors::None), "  50% ");
        assert_eq!(bar(f64::NAN, None, Colors::None), "   0% ");
        let style = BarStyle {
            terminal_width: Some(60),
            colors: Colors::None,
        };
        let lines = bar_lines(
            &[line("default", Mark::Running, 0.5, &["2 VUs", "1.0s/2s"])],
            style,
        );
        assert!(
            lines[0].starts_with("default   [=") && lines[0].chars().count() <= 60,
            "{}",
            lines[0]
        );
    }

    #[test]
    fn long_names_are_cut_and_preparations_align_with_scenarios() {
        let long = "x".repeat(31);
        assert_eq!(shortened(&long), format!("{}...", "x".repeat(27)));
        assert_eq!(shortened(&long[1..]), long[1..]);
        let names = ["default", "x"].into_iter();
        assert_eq!(
            preparation("Init", 0.6, "3/5 VUs initialized", names, PLAIN),
            "\nInit      [  60% ] 3/5 VUs initialized\ndefault   [   0% ]\nx         [   0% ]"
        );
    }

    #[test]
    fn a_redrawn_block_leaves_the_cursor_on_its_first_line() {
        assert_eq!(
            redrawn("\na\nb", 80),
            "\x1b[K\na\x1b[K\nb\x1b[K\n\r\x1b[J\x1b[3A"
        );
        // The second line takes three rows, the last one two with its colours and one without.
        let wide = format!("\n{}\n\x1b[32m{}\x1b[0m", "a".repeat(21), "b".repeat(10));
        assert!(redrawn(&wide, 10).ends_with("\x1b[5A"));
        assert!(redrawn("\na", 0).ends_with("\x1b[2A"));
    }
}
