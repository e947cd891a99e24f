//! The log through the whole program: its forms, where it goes, and what it refuses.

mod support;

use std::{
    io::{BufRead, BufReader, Read, Write},
    net::TcpListener,
    os::unix::fs::PermissionsExt,
    sync::{Arc, Mutex},
};

use serde_json::{Value, json};
use support::{Finished, Folder, Launch};

/// One line of each level, one that has to be quoted, one without words, and an exception.
const TALKS: &str = r#"
export default function () {
  console.debug('fine');
  console.log('two words <&> "quoted"\n\u00fc\u2028\u001b end');
  console.info('a-b._/@^+c');
  console.warn('');
  console.error({ a: 1 }, [undefined], 'x');
  throw new Error('iter fail');
}
"#;

/// Where the exception of the script above was thrown.
fn stack(folder: &Folder) -> String {
    let script = folder.file("script.js");
    let script = script.canonicalize().expect("the script");
    format!(
        "Error: iter fail\n\tat default (file://{}:8:",
        script.display()
    )
}

/// A server of the kind that Loki is: it takes what is pushed, and answers 204.
fn loki() -> (u16, Arc<Mutex<Vec<Value>>>) {
    let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
    let port = listener.local_addr().expect("an address").port();
    let pushed = Arc::<Mutex<Vec<Value>>>::default();
    let taken = pushed.clone();
    std::thread::spawn(move || {
        for stream in listener.incoming().flatten() {
            let mut stream = BufReader::new(stream);
            loop {
                let (mut head, mut line) = (String::new(), String::new());
                while stream.read_line(&mut line).is_ok_and(|n| n > 2) {
                    head += &std::mem::take(&mut line).to_ascii_lowercase();
                }
                let length = head.split("content-length: ").nth(1);
                let Some(length) = length.and_then(|rest| rest.lines().next()?.parse().ok()) else {
                    break;
                };
                assert!(head.starts_with("post /push "), "{head}");
                assert!(head.contains("content-type: application/json\r\nx-scope-orgid: me\r\n"));
                let mut body = vec![0; length];
                stream.read_exact(&mut body).expect("a body");
                let body = serde_json::from_slice(&body).expect("JSON");
                taken.lock().expect("no panic").push(body);
                let answer = b"HTTP/1.1 204 No Content\r\n\r\n";
                stream.get_mut().write_all(answer).expect("a client");
            }
        }
    });
    (port, pushed)
}

#[test]
fn lines_go_to_loki_with_their_labels() {
    let (port, pushed) = loki();
    let folder = Folder::with("script.js", TALKS);
    let output = format!(
        "--log-output loki=http://127.0.0.1:{port}/push,label.app=k6,header.X-Scope-OrgID=me,\
         pushPeriod=50ms"
    );
    let finished = run(&folder, &output, &[]);
    assert_eq!(finished.stderr, "");
    let pushed = pushed.lock().expect("no panic");
    let streams = pushed
        .iter()
        .flat_map(|body| body["streams"].as_array().expect("streams"));
    let mut said = Vec::new();
    for stream in streams {
        let labels = &stream["stream"];
        assert_eq!(labels["app"], "k6");
        for value in stream["values"].as_array().expect("values") {
            let nanos = value[0].as_str().and_then(|text| text.parse::<u64>().ok());
            assert!(nanos > Some(1_700_000_000_000_000_000), "{value}");
            let text = value[1].as_str().expect("a text").to_owned();
            let label = |name: &str| labels[name].as_str().unwrap_or("-").to_owned();
            said.push((
                nanos,
                text,
                label("level"),
                label("source"),
                label("scenario"),
            ));
        }
    }
    said.sort();
    let stack = stack(&folder);
    assert!(said[4].1.starts_with(&stack), "{said:?}");
    let seen: Vec<_> = said
        .iter()
        .map(|(_, text, level, source, scenario)| {
            let text = text.split("\n\tat ").next().unwrap_or_default();
            [text, level, source, scenario].map(str::to_owned)
        })
        .collect();
    let expected = [
        [
            "two words <&> \"quoted\"\n\u{fc}\u{2028}\u{1b} end",
            "info",
            "console",
            "-",
        ],
        ["a-b._/@^+c", "info", "console", "-"],
        ["", "warning", "console", "-"],
        ["{ a: 1 } [ null ] x", "error", "console", "-"],
        ["Error: iter fail", "error", "stacktrace", "default"],
    ];
    assert_eq!(seen, expected.map(|row| row.map(str::to_owned)));

    // A server that is not there costs its lines, says so, and nothing else.
    let nobody = "--log-output loki=http://127.0.0.1:1/push";
    let finished = run(&folder, nobody, &[]);
    let lines: Vec<&str> = finished.stderr.lines().collect();
    assert!(
        lines[0].starts_with("Loki does not take log lines: Post "),
        "{lines:?}"
    );
    assert_eq!(lines[1], "Loki did not take 5 log lines");
}

#[track_caller]
fn run(folder: &Folder, arguments: &str, env: &[(&str, &str)]) -> Finished {
    let mut launch = Launch::volley(folder.path())
        .words("run -q --summary-mode disabled script.js")
        .words(arguments);
    for (name, value) in env {
        launch = launch.env(name, value);
    }
    launch.run().expect(0)
}

/// A log without its times, which have whole seconds and the offset of UTC.
#[track_caller]
fn without_times(log: &str, before: &str, after: &str) -> Vec<String> {
    let cut = |line: &str| {
        let (start, rest) = line
            .split_once(before)
            .unwrap_or_else(|| panic!("{line:?}"));
        let (time, rest) = rest.split_at("2026-11-22T07:35:18Z".len());
        let shape: String = time
            .chars()
            .map(|c| if c.is_ascii_digit() { '0' } else { c })
            .collect();
        assert_eq!(shape, "0000-00-00T00:00:00Z", "{line:?}");
        let rest = rest
            .strip_prefix(after)
            .unwrap_or_else(|| panic!("{line:?}"));
        format!("{start}{rest}")
    };
    log.lines().map(cut).collect()
}

#[test]
fn text_lines_are_k6s_to_the_byte() {
    let folder = Folder::with("script.js", TALKS);
    let finished = run(&folder, "", &[]);
    let lines = without_times(&finished.stderr, "time=\"", "\" ");
    assert_eq!(
        lines[..4],
        [
            r#"level=info msg="two words <&> \"quoted\"\nü\u2028\x1b end" source=console"#,
            "level=info msg=a-b._/@^+c source=console",
            "level=warning source=console",
            r#"level=error msg="{ a: 1 } [ null ] x" source=console"#,
        ]
    );
    let stack = stack(&folder).replace('\n', "\\n").replace('\t', "\\t");
    let (start, end) = (
        format!("level=error msg=\"{stack}"),
        "\\n\" executor=per-vu-iterations hint=\"script exception\" scenario=default source=stacktrace",
    );
    assert!(
        lines[4].starts_with(&start) && lines[4].ends_with(end),
        "{}",
        lines[4]
    );
    assert_eq!((lines.len(), &*finished.stdout), (5, ""));

    // Anything that is no known form is this one.
    let other = run(&folder, "--log-format logfmt", &[]);
    assert_eq!(
        without_times(&other.stderr, "time=\"", "\" ")[..4],
        lines[..4]
    );
}

#[test]
fn json_lines_have_sorted_keys_and_escaped_markup() {
    let folder = Folder::with("script.js", TALKS);
    for (arguments, env) in [
        ("--log-format json", &[][..]),
        ("", &[("K6_LOG_FORMAT", "json")]),
    ] {
        let finished = run(&folder, arguments, env);
        let lines = without_times(&finished.stderr, ",\"time\":\"", "\"");
        assert_eq!(
            lines[..4],
            [
                r#"{"level":"info","msg":"two words \u003c\u0026\u003e \"quoted\"\nü\u2028\u001b end","source":"console"}"#,
                r#"{"level":"info","msg":"a-b._/@^+c","source":"console"}"#,
                r#"{"level":"warning","msg":"","source":"console"}"#,
                r#"{"level":"error","msg":"{ a: 1 } [ null ] x","source":"console"}"#,
            ]
        );
        let error: Value = serde_json::from_str(&lines[4]).expect("JSON");
        let text = error["msg"].as_str().expect("a message");
        assert!(
            text.starts_with(&stack(&folder)) && text.ends_with('\n'),
            "{text:?}"
        );
        assert_eq!(error["hint"], "script exception");
        assert!(
            lines[4].starts_with("{\"executor\":\"per-vu-iterations\",\"hint\":"),
            "{}",
            lines[4]
        );
    }
}

#[test]
fn raw_lines_are_messages_alone() {
    let folder = Folder::with("script.js", TALKS);
    let finished = run(&folder, "--log-format raw", &[]);
    let start = format!(
        "two words <&> \"quoted\"\nü\u{2028}\u{1b} end\na-b._/@^+c\n\n{{ a: 1 }} [ null ] x\n{}",
        stack(&folder)
    );
    assert!(finished.stderr.starts_with(&start), "{:?}", finished.stderr);
}

#[test]
fn debug_lines_are_for_the_verbose() {
    let folder = Folder::with("script.js", TALKS);
    for arguments in ["-v", "--verbose"] {
        let finished = run(&folder, arguments, &[]);
        let debug = finished.logged("debug");
        assert!(
            debug.iter().any(|line| line.msg == "fine"),
            "{}",
            finished.stderr
        );
        // What is not printed is told here.
        let description = debug
            .iter()
            .find(|line| line.msg.contains("execution: local"));
        let description = description.expect("the description");
        assert!(
            description
                .msg
                .contains("* default: 1 iterations for each of 1 VUs")
        );
    }
    assert!(run(&folder, "", &[]).logged("debug").is_empty());
}

#[test]
fn the_log_goes_where_it_is_told() {
    let folder = Folder::with("script.js", TALKS);
    let streams = |arguments: &str, env: &[(&str, &str)]| {
        let finished = run(&folder, arguments, env);
        let count = |text: &str| {
            text.lines()
                .filter(|line| line.starts_with("time="))
                .count()
        };
        (count(&finished.stdout), count(&finished.stderr))
    };
    assert_eq!(streams("--log-output stderr", &[]), (0, 5));
    assert_eq!(streams("--log-output=stdout", &[]), (5, 0));
    assert_eq!(streams("--log-output none", &[]), (0, 0));
    assert_eq!(streams("", &[("K6_LOG_OUTPUT", "stdout")]), (5, 0));

    // A file is appended to, and is the user's alone.
    assert_eq!(streams("--log-output file=run.log", &[]), (0, 0));
    assert_eq!(streams("--log-output file=run.log,level=warn", &[]), (0, 0));
    let log = folder.read("run.log");
    let levels: Vec<&str> = log
        .lines()
        .map(|line| line.split(' ').nth(1).expect("a level"))
        .collect();
    let all = [
        "level=info",
        "level=info",
        "level=warning",
        "level=error",
        "level=error",
    ];
    assert_eq!(levels, [&all[..], &all[2..]].concat());
    let mode = |name: &str| {
        let file = folder.file(name).metadata().expect("a file");
        file.permissions().mode() & 0o777
    };
    assert_eq!(mode("run.log"), 0o600);
    assert_eq!(
        streams("-v --log-output file=all.log,level=debug", &[]),
        (0, 0)
    );
    assert!(
        folder
            .read("all.log")
            .contains("level=debug msg=fine source=console\n")
    );
}

#[test]
fn what_scripts_print_may_have_a_file_of_its_own() {
    let folder = Folder::with("script.js", TALKS);
    let finished = run(&folder, "--console-output out.txt", &[]);
    let log = finished.log();
    assert_eq!(log.len(), 1, "{}", finished.stderr);
    assert_eq!(log[0].field("source"), Some("stacktrace"));
    run(
        &folder,
        "--log-format json",
        &[("K6_CONSOLE_OUTPUT", "out.txt")],
    );
    run(&folder, "--log-format raw --console-output out.txt", &[]);
    let text = folder.read("out.txt");
    let lines: Vec<&str> = text.lines().collect();
    assert_eq!(
        without_times(&lines[..4].join("\n"), "time=\"", "\" "),
        [
            r#"level=info msg="two words <&> \"quoted\"\nü\u2028\x1b end""#,
            "level=info msg=a-b._/@^+c",
            "level=warning",
            r#"level=error msg="{ a: 1 } [ null ] x""#,
        ]
    );
    let json: Value = serde_json::from_str(lines[5]).expect("JSON");
    assert_eq!(
        (&json["msg"], &json["source"]),
        (&json!("a-b._/@^+c"), &json!(null))
    );
    assert_eq!(
        lines[8..],
        [
            "two words <&> \"quoted\"",
            "ü\u{2028}\u{1b} end",
            "a-b._/@^+c",
            "",
            "{ a: 1 } [ null ] x"
        ]
    );
    let file = folder.file("out.txt").metadata().expect("a file");
    // For others to read, as far as the process may allow it.
    assert_eq!(file.permissions().mode() & 0o733, 0o600);
}

#[test]
fn outputs_that_cannot_be_are_refused() {
    let folder = Folder::with("script.js", TALKS);
    let refused = |arguments: &str| {
        let launch = Launch::volley(folder.path()).words("run script.js");
        let finished = launch.words(arguments).run().expect(255);
        assert_eq!(finished.stdout, "");
        finished.error().msg
    };
    for (output, text) in [
        ("bogus", "unsupported log output 'bogus'"),
        (
            "file",
            "error while parsing logfile configuration key `file` with no value",
        ),
        (
            "file=",
            "error while parsing logfile configuration key `file` with no value",
        ),
        ("file=x.log,level=zzz", "unknown log level zzz"),
        (
            "file=x.log,level",
            "error while parsing logfile configuration key `level` with no value",
        ),
        ("file=x.log,foo=1", "unknown logfile config key foo"),
        (
            "file=/nodir/x.log",
            "provided directory '/nodir' does not exist",
        ),
    ] {
        assert_eq!(refused(&format!("--log-output {output}")), text);
    }
    let text = refused("--console-output /nodir/out.txt");
    assert!(
        text.contains("/nodir/out.txt") && text.contains("no such file"),
        "{text}"
    );
    assert!(!folder.file("x.log").exists());
}

#[test]
fn secrets_appear_in_no_form_of_the_log() {
    let folder = Folder::new();
    folder.write("keys", "token=hunter2\nquoted=a \"b\"\n");
    folder.write(
        "script.js",
        r#"
import secrets from 'k6/secrets';
const early = await secrets.get('token');
export default async function () {
  console.log(early, { in: [await secrets.source('file').get('quoted')] }, early.length);
  throw new Error(`with ${early}`);
}
"#,
    );
    for format in ["text", "json", "raw"] {
        let arguments = format!("--secret-source file=keys --log-format {format}");
        let log = run(&folder, &arguments, &[]).stderr;
        assert!(
            !log.contains("hunter2") && !log.contains("a \\\"b"),
            "{log}"
        );
        assert_eq!(log.matches("***SECRET_REDACTED***").count(), 3, "{log}");
    }
    let printed = "--secret-source file=keys --console-output printed";
    run(&folder, printed, &[]);
    let printed = std::fs::read_to_string(folder.file("printed")).expect("the console's file");
    assert!(
        printed.contains("***SECRET_REDACTED*** { in: ["),
        "{printed}"
    );
}
