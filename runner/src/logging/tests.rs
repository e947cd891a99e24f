//! The formats to the byte, the outputs with real files, and a stream that nobody reads.

use std::{fs, io::Read, os::unix::fs::PermissionsExt, sync::RwLock};

use time::macros::{datetime, offset};

use super::*;

const PATIENCE: Duration = Duration::from_secs(30);

fn layout(format: Format) -> Layout {
    Layout {
        format,
        tty: false,
        colored: false,
        offset: UtcOffset::UTC,
    }
}

fn line(layout: Layout, level: Level, message: &str, fields: &[(&str, &str)]) -> String {
    layout.line(
        datetime!(2026-11-22 07:35:18.9 UTC),
        Duration::from_millis(12_900),
        level,
        message,
        fields,
    )
}

#[test]
fn text_lines_quote_what_is_not_a_plain_word() {
    let text = layout(Format::Text);
    let console = [("source", "console")];
    assert_eq!(
        line(text, Level::Info, "setup ran", &console),
        "time=\"2026-11-22T07:35:18Z\" level=info msg=\"setup ran\" source=console\n"
    );
    assert_eq!(
        line(text, Level::Warning, "warn", &console),
        "time=\"2026-11-22T07:35:18Z\" level=warning msg=warn source=console\n"
    );
    assert_eq!(
        line(text, Level::Info, "", &console),
        "time=\"2026-11-22T07:35:18Z\" level=info source=console\n"
    );
    assert_eq!(
        line(
            text,
            Level::Warning,
            "Request Failed",
            &[("error", "Get \"http://127.0.0.1:1/\": dial tcp")]
        ),
        "time=\"2026-11-22T07:35:18Z\" level=warning msg=\"Request Failed\" \
         error=\"Get \\\"http://127.0.0.1:1/\\\": dial tcp\"\n"
    );
    assert_eq!(
        line(
            text,
            Level::Error,
            "Error: iter fail\n\tat default (x)\n",
            &[
                ("source", "stacktrace"),
                ("executor", "per-vu-iterations"),
                ("hint", "script exception")
            ],
        ),
        "time=\"2026-11-22T07:35:18Z\" level=error msg=\"Error: iter fail\\n\\tat default (x)\\n\" \
         executor=per-vu-iterations hint=\"script exception\" source=stacktrace\n"
    );
}

#[test]
fn quoting_escapes_what_a_terminal_does_not_show() {
    let quoted = |value: &str| {
        let mut out = String::new();
        quote(&mut out, value);
        out
    };
    assert_eq!(quoted("az09-._/@^+"), "az09-._/@^+");
    assert_eq!(quoted(""), "");
    assert_eq!(quoted("a=b"), "\"a=b\"");
    assert_eq!(quoted("grün"), "\"grün\"");
    assert_eq!(
        quoted("\x1b[0m\u{a0}\u{feff}\u{e0001}\\"),
        r#""\x1b[0m\u00a0\ufeff\U000e0001\\""#
    );
}

#[test]
fn times_carry_the_local_offset() {
    let mut text = layout(Format::Text);
    text.offset = offset!(-03:30);
    let line = line(text, Level::Info, "x", &[]);
    assert_eq!(
        line,
        "time=\"2026-11-22T04:05:18-03:30\" level=info msg=x\n"
    );
}

#[test]
fn terminal_lines_are_coloured_padded_and_cleared_to_the_right() {
    let tty = Layout {
        tty: true,
        colored: true,
        ..layout(Format::Text)
    };
    assert_eq!(
        line(
            tty,
            Level::Info,
            "hello\n",
            &[("source", "console"), ("a", "b c")]
        ),
        format!(
            "\x1b[36mINFO\x1b[0m[0012] hello{} \x20\x1b[36ma\x1b[0m=\"b c\" \x1b[36msource\x1b[0m=console\x1b[0K\n",
            " ".repeat(39)
        )
    );
    assert!(line(tty, Level::Error, "x", &[]).starts_with("\x1b[31mERRO\x1b[0m[0012] x"));
    // Without colours, and in the other forms, lines are cleared all the same.
    for (format, start) in [
        (Format::Text, "time="),
        (Format::Json, "{"),
        (Format::Raw, "x"),
    ] {
        let plain = Layout {
            tty: true,
            ..layout(format)
        };
        let line = line(plain, Level::Info, "x", &[]);
        assert!(
            line.starts_with(start) && line.ends_with("\x1b[0K\n"),
            "{line:?}"
        );
    }
}

#[test]
fn json_lines_have_sorted_keys_and_escaped_markup() {
    assert_eq!(
        line(
            layout(Format::Json),
            Level::Warning,
            "a <b> & \"c\"\n",
            &[("source", "console"), ("level", "x")]
        ),
        "{\"fields.level\":\"x\",\"level\":\"warning\",\"msg\":\"a \\u003cb\\u003e \\u0026 \\\"c\\\"\\n\",\
         \"source\":\"console\",\"time\":\"2026-11-22T07:35:18Z\"}\n"
    );
}

#[test]
fn raw_lines_are_the_message_alone() {
    assert_eq!(
        line(layout(Format::Raw), Level::Info, "as is", &[("a", "b")]),
        "as is\n"
    );
}

#[test]
fn outputs_parse_or_say_what_is_wrong() {
    let error = |text: &str| LogOutput::parse(text).unwrap_err();
    assert_eq!(LogOutput::parse("none"), Ok(LogOutput::None));
    assert_eq!(
        LogOutput::parse("file=a/b.log,level=WARN"),
        Ok(LogOutput::File {
            path: "a/b.log".into(),
            level: Threshold(Some(Level::Warning))
        })
    );
    assert_eq!(error("bogus"), "unsupported log output 'bogus'");
    assert_eq!(
        error("file"),
        "error while parsing logfile configuration key `file` with no value"
    );
    assert_eq!(
        error("file="),
        "error while parsing logfile configuration key `file` with no value"
    );
    assert_eq!(error("file=x,level=zzz"), "unknown log level zzz");
    assert_eq!(error("file=x,foo=1"), "unknown logfile config key foo");
    assert_eq!(error("loki,foo=1"), "unknown loki config key foo");
}

#[test]
fn a_file_is_appended_to_privately_and_only_from_its_level_on() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("k.log");
    let options = LogOptions {
        output: LogOutput::File {
            path: path.clone(),
            level: Threshold(Some(Level::Warning)),
        },
        format: Format::Raw,
        verbose: true,
        ..LogOptions::default()
    };
    for turn in ["one", "two"] {
        let logger = Logger::open(&options).unwrap();
        logger.log(Level::Info, "not this", &[]);
        logger.console(Level::Error, turn);
        assert!(!logger.enabled(Level::Debug));
        assert!(logger.flush(PATIENCE));
    }
    assert_eq!(fs::read_to_string(&path).unwrap(), "one\ntwo\n");
    assert_eq!(
        fs::metadata(&path).unwrap().permissions().mode() & 0o777,
        0o600
    );
}

#[test]
fn a_missing_folder_is_named() {
    let output = LogOutput::File {
        path: "/nodir/x/k.log".into(),
        level: Threshold(Some(Level::Debug)),
    };
    let error = Logger::open(&LogOptions {
        output,
        ..LogOptions::default()
    })
    .unwrap_err();
    assert_eq!(error, "provided directory '/nodir/x' does not exist");
}

#[test]
fn console_lines_move_to_their_own_file_without_their_source() {
    let folder = tempfile::tempdir().unwrap();
    let (log, console) = (folder.path().join("log"), folder.path().join("console"));
    let logger = Logger::open(&LogOptions {
        output: LogOutput::File {
            path: log.clone(),
            level: Threshold(Some(Level::Debug)),
        },
        format: Format::Text,
        console_output: Some(console.clone()),
        ..LogOptions::default()
    })
    .unwrap();
    logger.log(Level::Info, "agent", &[]);
    logger.console(Level::Info, "script");
    logger.console(Level::Debug, "not without --verbose");
    assert!(logger.flush(PATIENCE));
    assert!(
        fs::read_to_string(log)
            .unwrap()
            .ends_with("level=info msg=agent\n")
    );
    let console = fs::read_to_string(console).unwrap();
    assert!(console.ends_with("level=info msg=script\n"), "{console}");
    assert_eq!(console.lines().count(), 1);
}

#[test]
fn a_stream_that_nobody_reads_holds_up_nobody_and_the_loss_is_told() {
    let (mut reader, writer) = io::pipe().unwrap();
    let logger = Logger {
        least: Threshold(Some(Level::Info)),
        layout: layout(Format::Raw),
        start: Instant::now(),
        main: Some(Sink::start(File::from(OwnedFd::from(writer))).unwrap()),
        loki: None,
        console: None,
        redacted: RwLock::default(),
    };
    let message = "x".repeat(1 << 20);
    // More than the pipe, the batch being written and the queue can hold together.
    for _ in 0..12 {
        logger.log(Level::Info, &message, &[]);
    }
    assert!(!logger.flush(Duration::from_millis(1)));
    logger.log(Level::Info, "last", &[]);
    drop(logger);
    let mut read = String::new();
    reader.read_to_string(&mut read).unwrap();
    let whole = read.lines().filter(|line| line.len() == 1 << 20).count();
    assert!((1..12).contains(&whole), "{whole} lines came through");
    assert!(read.contains("Log lines were dropped"));
    assert!(read.ends_with("last\n"));
}

#[test]
fn secrets_are_in_no_part_of_a_line() {
    let folder = tempfile::tempdir().unwrap();
    let (log, console) = (folder.path().join("log"), folder.path().join("console"));
    let options = LogOptions {
        output: LogOutput::File {
            path: log.clone(),
            level: Threshold(Some(Level::Debug)),
        },
        console_output: Some(console.clone()),
        ..LogOptions::default()
    };
    let logger = Logger::open(&options).unwrap();
    logger.log(Level::Info, "too early: s3cret", &[]);
    for secret in ["s3cret", "s3cret \"long\"", " ", "", "s3cret"] {
        logger.redact(secret);
    }
    logger.log(
        Level::Error,
        "a <s3cret>, a s3cret \"long\" one",
        &[("error", "no s3cret")],
    );
    logger.console(Level::Info, "s3crets3cret and nothing else");
    assert!(logger.flush(Duration::from_secs(5)));
    let log = std::fs::read_to_string(log).unwrap();
    let mut lines = log.lines();
    assert!(
        lines.next().unwrap().ends_with("too early: s3cret\""),
        "{log}"
    );
    assert!(
        lines.next().unwrap().ends_with(
            "msg=\"a <***SECRET_REDACTED***>, a ***SECRET_REDACTED*** one\" error=\"no ***SECRET_REDACTED***\""
        ),
        "{log}"
    );
    let console = std::fs::read_to_string(console).unwrap();
    assert!(
        console.ends_with("msg=\"***SECRET_REDACTED******SECRET_REDACTED*** and nothing else\"\n"),
        "{console}"
    );
}
