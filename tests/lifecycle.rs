//! The life of a run with every way in which one of its functions can fail: what still runs,
//! what is said, and how the process ends.

mod support;

use serde_json::{Value, json};
use support::{Finished, Folder, Launch};

/// The functions that tell that they ran; scripts below add the one that fails.
const ITERATION: &str = "export default function () { console.log('iteration'); }\n";
const TEARDOWN: &str = "export function teardown() { console.log('teardown'); }\n";
const SUMMARY: &str =
    "export function handleSummary() { console.log('summary'); return { stdout: 'SUMMARY' }; }\n";

/// Everything that does not go wrong in a test of `setup`.
fn around_setup(setup: &str) -> String {
    [ITERATION, TEARDOWN, SUMMARY, setup].concat()
}

#[track_caller]
fn run(script: &str, arguments: &str) -> (Folder, Finished) {
    let folder = Folder::with("script.js", script);
    let finished = Launch::volley(folder.path())
        .words("run -q script.js")
        .words(arguments)
        .run();
    (folder, finished)
}

/// What the script said, in order.
fn said(finished: &Finished) -> Vec<String> {
    let log = finished.log().into_iter();
    log.filter(|line| line.field("source") == Some("console"))
        .map(|line| line.msg)
        .collect()
}

/// The one error: its text with the script's folder cut off, its hint and its source.
#[track_caller]
fn failure(folder: &Folder, finished: &Finished) -> (String, Option<String>, Option<String>) {
    let error = finished.error();
    let place = folder.path().canonicalize().expect("a folder");
    let place = format!("file://{}/", place.display());
    let field = |name| error.field(name).map(str::to_owned);
    (
        error.msg.replace(&place, ""),
        field("hint"),
        field("source"),
    )
}

/// An ending: what the script must have said, the code, the error and its hint.
struct Ending<'a> {
    said: &'a [&'a str],
    code: i32,
    /// Up to the position in the script, if there is one.
    error: &'a str,
    hint: Option<&'a str>,
    stdout: &'a str,
}

#[track_caller]
fn ends(script: &str, arguments: &str, expected: &Ending<'_>) {
    let (folder, finished) = run(script, arguments);
    let finished = finished.expect(expected.code);
    let (text, hint, source) = failure(&folder, &finished);
    assert!(
        text.starts_with(expected.error),
        "{text:?}, not {:?}",
        expected.error
    );
    assert_eq!(hint.as_deref(), expected.hint, "{text}");
    let exception = hint.is_some_and(|hint| hint.contains("script exception"));
    assert_eq!(source.as_deref(), exception.then_some("stacktrace"));
    assert_eq!(said(&finished), expected.said);
    assert_eq!(finished.stdout, expected.stdout);
    // The error is the last word.
    let last = finished.log().pop().expect("a log");
    assert_eq!(last.level, "error", "{}", finished.stderr);
}

const EXCEPTION: Option<&str> = Some("script exception");

// === Init ===

#[test]
fn what_fails_in_the_first_init_ends_everything() {
    let prefix = "could not initialize 'script.js': could not load JS test 'script.js': ";
    for (code, script, text, hint) in [
        (
            107,
            "throw new Error('init');",
            "Error: init\n\tat script.js:",
            EXCEPTION,
        ),
        (
            107,
            "await Promise.reject(new Error('awaited'));",
            "Error: awaited\n\tat script.js:",
            EXCEPTION,
        ),
        (
            107,
            "setTimeout(() => { throw new Error('later') }, 1);",
            "Error: later\n\tat script.js:",
            EXCEPTION,
        ),
        (
            107,
            "Promise.reject(1); throw new Error('both');",
            "Error: both\n\tat script.js:",
            EXCEPTION,
        ),
        (
            255,
            "Promise.reject(new Error('lost'));",
            "Uncaught (in promise) Error: lost\n\tat script.js:",
            None,
        ),
        (
            255,
            "Promise.reject('words');",
            "Uncaught (in promise) words",
            None,
        ),
        (
            255,
            "export const setup = 5;",
            "exported 'setup' must be a function",
            None,
        ),
        (
            255,
            "export const teardown = {};",
            "exported 'teardown' must be a function",
            None,
        ),
        (
            107,
            "import './none.js';",
            "The moduleSpecifier \"./none.js\" couldn't be found on local disk.",
            None,
        ),
        (
            107,
            "import 'k6/nope';",
            "unknown modules [\"k6/nope\"] were tried to be loaded, but couldn't",
            None,
        ),
    ] {
        let functions = [ITERATION, SUMMARY].concat();
        // Exceptions are told by their stack alone.
        let text = if hint.is_some() {
            text.to_owned()
        } else {
            format!("{prefix}{text}")
        };
        let ending = Ending {
            said: &[],
            code,
            error: &text,
            hint,
            stdout: "",
        };
        ends(&format!("{functions}{script}"), "", &ending);
    }
    let text = format!("{prefix}no exported functions in script");
    let nothing = Ending {
        said: &[],
        code: 255,
        error: &text,
        hint: None,
        stdout: "",
    };
    ends("export const x = 1;", "", &nothing);
}

#[test]
fn what_fails_in_the_init_of_one_vu_ends_the_run_but_not_the_summary() {
    let script = [
        "import exec from 'k6/execution';\nexport const options = { vus: 3, iterations: 3 };\n",
        ITERATION,
        TEARDOWN,
        SUMMARY,
        "export function setup() { console.log('setup'); }\n",
    ]
    .concat();
    for (code, statement, error, hint) in [
        (
            107,
            "throw new Error('bad place')",
            "Error: bad place\n\tat script.js:",
            Some("error while initializing VU #2 (script exception)"),
        ),
        (
            108,
            "exec.test.abort('no place')",
            "test aborted: no place at script.js:",
            None,
        ),
    ] {
        let script = format!("{script}if (__VU === 2) {statement};");
        let ending = Ending {
            said: &["summary"],
            code,
            error,
            hint,
            stdout: "SUMMARY",
        };
        ends(&script, "", &ending);
    }
}

// === Setup ===

#[test]
fn a_setup_that_fails_leaves_the_summary() {
    let marshaling = |text: &str| format!("error marshaling setup() data to JSON: json: {text}");
    for (code, setup, error, hint) in [
        (
            107,
            "export function setup() { throw new Error('no') }",
            "Error: no\n\tat setup (script.js:".to_owned(),
            EXCEPTION,
        ),
        (
            255,
            "export async function setup() { throw new Error('no') }",
            "Uncaught (in promise) Error: no\n\tat setup (script.js:".to_owned(),
            None,
        ),
        (
            255,
            "export function setup() { return { f() {} } }",
            marshaling("unsupported type: func("),
            None,
        ),
        (
            255,
            "export function setup() { return [NaN] }",
            marshaling("unsupported value: NaN"),
            None,
        ),
        (
            255,
            "export function setup() { return { a: -Infinity } }",
            marshaling("unsupported value: -Inf"),
            None,
        ),
        (
            255,
            "export async function setup() { const a = {}; a.a = a; return a }",
            marshaling("unsupported value: encountered a cycle via map[string]interface {}"),
            None,
        ),
        (
            108,
            "import exec from 'k6/execution';
             export function setup() { exec.test.abort('enough') }",
            "test aborted: enough".to_owned(),
            None,
        ),
    ] {
        let ending = Ending {
            said: &["summary"],
            code,
            error: &error,
            hint,
            stdout: "SUMMARY",
        };
        ends(&around_setup(setup), "", &ending);
    }
}

#[test]
fn a_setup_that_takes_too_long_is_interrupted() {
    for (limit, seconds, setup) in [
        (
            "300ms",
            0,
            "import { sleep } from 'k6'; export function setup() { sleep(300) }",
        ),
        ("900ms", 1, "export function setup() { for (;;) ; }"),
        (
            "100ms",
            0,
            "export async function setup() { for (;;) await new Promise((done) => setTimeout(done, 5)) }",
        ),
    ] {
        let script = format!(
            "{}\nexport const options = {{ setupTimeout: '{limit}' }};",
            around_setup(setup)
        );
        let error = format!("setup() execution timed out after {seconds} seconds");
        let ending = Ending {
            said: &["summary"],
            code: 100,
            error: &error,
            hint: Some("You can increase the time limit via the setupTimeout option"),
            stdout: "SUMMARY",
        };
        ends(&script, "", &ending);
    }
}

#[test]
fn limits_must_be_positive() {
    let (_folder, finished) = run(
        &around_setup("export const options = { setupTimeout: '0s' };"),
        "",
    );
    let text = finished.expect(104).error().msg;
    assert!(text.ends_with("setupTimeout must be positive"), "{text}");
}

#[test]
fn what_setup_returns_reaches_everybody_as_a_copy_of_its_json() {
    let tell = "console.log(JSON.stringify(data), arguments.length);";
    let script = |setup: &str| {
        format!(
            "export const options = {{ iterations: 2 }};
             export default function (data) {{ {tell} if (data) data.mine = __ITER; }}
             export function teardown(data) {{ {tell} }}
             export function handleSummary(data) {{
               console.log(JSON.stringify(data.setup_data)); return {{}};
             }}
             {setup}"
        )
    };
    let returns = |value: &str| {
        script(&format!(
            "export async function setup() {{ return {value} }}"
        ))
    };
    for (script, arguments, expected) in [
        (
            returns("{ a: undefined, when: new Date(0), list: [1, , -0] }"),
            "",
            [
                r#"{"a":null,"when":"1970-01-01T00:00:00Z","list":[1,null,0]} 1"#,
                r#"{"a":null,"when":"1970-01-01T00:00:00Z","list":[1,null,0],"mine":0} 1"#,
                r#"{"a":null,"when":"1970-01-01T00:00:00Z","list":[1,null,0]} 1"#,
                r#"{"a":null,"when":"1970-01-01T00:00:00Z","list":[1,null,0]}"#,
            ],
        ),
        (returns("null"), "", ["null 1", "null 1", "null 1", "null"]),
        (
            returns("undefined"),
            "",
            ["undefined 1", "undefined 1", "undefined 1", "undefined"],
        ),
        (
            returns("{ a: 1 }"),
            "--no-setup",
            ["undefined 1", "undefined 1", "undefined 1", "undefined"],
        ),
        (
            script(""),
            "",
            ["undefined 1", "undefined 1", "undefined 1", "undefined"],
        ),
    ] {
        let (_folder, finished) = run(&script, arguments);
        let finished = finished.expect(0);
        assert_eq!(said(&finished), expected, "{script} {arguments}");
        assert_eq!(finished.stdout, "");
    }
}

// === Iterations ===

#[test]
fn an_iteration_that_fails_is_told_and_the_run_goes_on() {
    let script = "export const options = { iterations: 3 };
        export default function () {
          if (__ITER === 0) throw new Error('first');
          if (__ITER === 1) return Promise.reject(new Error('second'));
          console.log('third');
        }";
    let (folder, finished) = run(script, "--summary-export export.json");
    let finished = finished.expect(0);
    let errors = finished.logged("error");
    let texts: Vec<&str> = errors.iter().map(|line| line.msg.as_str()).collect();
    assert_eq!(texts.len(), 2, "{texts:?}");
    assert!(
        texts[0].starts_with("Error: first\n\tat default ("),
        "{texts:?}"
    );
    assert!(
        texts[1].starts_with("Uncaught (in promise) Error: second\n"),
        "{texts:?}"
    );
    for error in &errors {
        assert_eq!(error.field("executor"), Some("shared-iterations"));
        assert_eq!(error.field("scenario"), Some("default"));
    }
    assert_eq!(said(&finished), ["third"]);
    let metrics = folder.json("export.json")["metrics"].clone();
    assert_eq!(metrics["iterations"]["count"], 3);
}

#[test]
fn an_abort_of_an_iteration_is_followed_by_teardown_and_summary() {
    let script = |call: &str| {
        format!(
            "import exec from 'k6/execution';
             export default function () {{ {call}; console.log('not reached'); }}\n{TEARDOWN}{SUMMARY}"
        )
    };
    for (call, error) in [
        (
            "exec.test.abort('enough')",
            "test aborted: enough at default (script.js:",
        ),
        ("exec.test.abort()", "test aborted at default (script.js:"),
        (
            "try { exec.test.abort('tried') } catch (e) { console.log('caught') }",
            "test aborted: tried at default (script.js:",
        ),
    ] {
        let ending = Ending {
            said: &["teardown", "summary"],
            code: 108,
            error,
            hint: None,
            stdout: "SUMMARY",
        };
        ends(&script(call), "", &ending);
    }
}

#[test]
fn a_test_marked_as_failed_goes_on_to_its_end() {
    let script = format!(
        "import exec from 'k6/execution';
         export const options = {{ iterations: 2 }};
         export default function () {{ exec.test.fail(`no ${{__ITER}}`); console.log('iteration'); }}\n{TEARDOWN}{SUMMARY}"
    );
    let (_folder, finished) = run(&script, "");
    let finished = finished.expect(110);
    let errors = finished.logged("error");
    let texts: Vec<&str> = errors.iter().map(|line| line.msg.as_str()).collect();
    assert_eq!(
        texts,
        [
            "test marked as failed: no 0",
            "test marked as failed: no 1",
            "test run was marked as failed"
        ]
    );
    assert_eq!(
        said(&finished),
        ["iteration", "iteration", "teardown", "summary"]
    );
    assert_eq!(finished.stdout, "SUMMARY");
}

// === Teardown ===

#[test]
fn a_teardown_that_fails_leaves_the_summary() {
    for (code, teardown, error, hint) in [
        (
            107,
            "export function teardown() { throw new Error('no') }",
            "Error: no\n\tat teardown (script.js:",
            EXCEPTION,
        ),
        (
            255,
            "export async function teardown() { throw new Error('no') }",
            "Uncaught (in promise) Error: no\n\tat teardown (script.js:",
            None,
        ),
        (
            108,
            "import exec from 'k6/execution';
             export function teardown() { exec.test.abort('late') }",
            "test aborted: late",
            None,
        ),
        (
            101,
            "import { sleep } from 'k6';
             export const options = { teardownTimeout: '100ms' };
             export function teardown() { sleep(300) }",
            "teardown() execution timed out after 0 seconds",
            Some("You can increase the time limit via the teardownTimeout option"),
        ),
        (
            101,
            "export const options = { teardownTimeout: '900ms' };
             export function teardown() { for (;;) ; }",
            "teardown() execution timed out after 1 seconds",
            Some("You can increase the time limit via the teardownTimeout option"),
        ),
    ] {
        let script = [ITERATION, SUMMARY, teardown].concat();
        let ending = Ending {
            said: &["iteration", "summary"],
            code,
            error,
            hint,
            stdout: "SUMMARY",
        };
        ends(&script, "", &ending);
    }
}

#[test]
fn teardown_runs_when_it_is_wanted() {
    let script = around_setup("export function setup() { console.log('setup'); }");
    for (arguments, expected) in [
        ("", &["setup", "iteration", "teardown", "summary"][..]),
        ("--no-teardown", &["setup", "iteration", "summary"]),
        ("--no-setup", &["iteration", "teardown", "summary"]),
        ("--no-setup --no-teardown", &["iteration", "summary"]),
    ] {
        let (_folder, finished) = run(&script, arguments);
        assert_eq!(said(&finished.expect(0)), expected, "{arguments}");
    }
}

#[test]
fn a_signal_during_teardown_lets_it_finish() {
    let script = [
        ITERATION,
        SUMMARY,
        "import { sleep } from 'k6';
         export function teardown() { console.log('begins'); sleep(1); console.log('ends'); }",
    ]
    .concat();
    let folder = Folder::with("script.js", &script);
    let mut running = Launch::volley(folder.path())
        .words("run -q script.js")
        .start();
    running.until_logged("begins");
    running.interrupt();
    let finished = running.finish().expect(105);
    assert_eq!(said(&finished), ["iteration", "begins", "ends", "summary"]);
    assert_eq!(
        finished.error().msg,
        "test run was aborted because k6 received a 'interrupt' signal"
    );
    assert_eq!(finished.stdout, "SUMMARY");
}

#[test]
fn a_signal_during_setup_ends_it_without_teardown() {
    let script = around_setup(
        "import { sleep } from 'k6';
         export function setup() { console.log('begins'); sleep(300); console.log('ends'); }",
    );
    let folder = Folder::with("script.js", &script);
    let mut running = Launch::volley(folder.path())
        .words("run -q script.js")
        .start();
    running.until_logged("begins");
    running.terminate();
    let finished = running.finish().expect(105);
    assert_eq!(said(&finished), ["begins", "summary"]);
    assert_eq!(
        finished.error().msg,
        "test run was aborted because k6 received a 'terminated' signal"
    );
}

#[test]
fn every_function_has_a_heap_of_its_own() {
    let script = "let seen = 0;
        export const options = { iterations: 2 };
        const tell = (name) => console.log(name, ++seen, __VU, typeof __ITER);
        export function setup() { tell('setup'); }
        export default function () { tell('iteration'); }
        export function teardown() { tell('teardown'); }
        export function handleSummary() { tell('summary'); return {}; }";
    let (_folder, finished) = run(script, "");
    assert_eq!(
        said(&finished.expect(0)),
        [
            "setup 1 0 undefined",
            "iteration 1 1 number",
            "iteration 2 1 number",
            "teardown 1 0 undefined",
            "summary 1 0 undefined",
        ]
    );
}

// === The summary ===

fn with_summary(summary: &str) -> String {
    [ITERATION, summary].concat()
}

#[test]
fn what_a_summary_function_returns_is_written_where_it_says() {
    let (folder, finished) = run(
        &with_summary(
            "export async function handleSummary() {
               await new Promise((done) => setTimeout(done, 1));
               return { 'old.txt': 'new', stdout: 'out\\n', stderr: 'time=\"x\" level=info msg=err\\n',
                        'bytes.bin': new Uint8Array([0, 255, 10]).buffer };
             }",
        ),
        "--summary-export export.json",
    );
    let finished = finished.expect(0);
    assert_eq!(finished.stdout, "out\n");
    assert!(finished.stderr.contains("time=\"x\" level=info msg=err\n"));
    assert_eq!(folder.read("old.txt"), "new");
    let bytes = std::fs::read(folder.file("bytes.bin")).expect("a file");
    assert_eq!(bytes, [0, 255, 10]);
    assert_eq!(
        folder.json("export.json")["metrics"]["iterations"]["count"],
        1
    );
}

#[test]
fn files_of_a_summary_are_overwritten_and_those_that_cannot_be_are_told() {
    let folder = Folder::with(
        "script.js",
        &with_summary(
            "export function handleSummary() {
               return { '/nodir/x': 'a', 'old.txt': 'new', 'no/y': 'b', stdout: 'out' };
             }",
        ),
    );
    folder.write("old.txt", "a longer text than the new one");
    let finished = Launch::volley(folder.path())
        .words("run -q script.js")
        .run();
    let finished = finished.expect(0);
    assert_eq!(folder.read("old.txt"), "new");
    assert_eq!(finished.stdout, "out");
    let error = finished.error();
    assert_eq!(error.msg, "failed to handle the end-of-test summary");
    assert_eq!(
        error.field("error"),
        Some(
            "Could not save some summary information:\n\
             \t- could not open '/nodir/x': open /nodir/x: no such file or directory\n\
             \t- could not open 'no/y': open no/y: no such file or directory"
        )
    );
}

#[test]
fn a_summary_function_without_a_result_leaves_the_text() {
    for body in [
        "",
        "return undefined",
        "return null",
        "return false",
        "return 0",
        "return ''",
        "return NaN",
    ] {
        for kind in ["function", "async function"] {
            let summary = format!("export {kind} handleSummary() {{ {body} }}");
            let (_folder, finished) = run(&with_summary(&summary), "");
            let finished = finished.expect(0).prints("█ TOTAL RESULTS");
            assert!(finished.logged("error").is_empty(), "{}", finished.stderr);
        }
    }
    let (_folder, finished) = run(
        &with_summary("export function handleSummary() { return {} }"),
        "",
    );
    assert_eq!(finished.expect(0).stdout, "");
}

#[test]
fn a_summary_function_that_fails_leaves_the_text() {
    for (summary, error, hint) in [
        (
            "export function handleSummary() { throw new Error('no') }",
            "Error: no\n\tat handleSummary (script.js:",
            EXCEPTION,
        ),
        (
            "export async function handleSummary() { throw new Error('no') }",
            "Uncaught (in promise) Error: no\n\tat handleSummary (script.js:",
            None,
        ),
        (
            "import exec from 'k6/execution';
             export function handleSummary() { exec.test.abort('no') }",
            "test aborted: no",
            None,
        ),
    ] {
        let (folder, finished) = run(&with_summary(summary), "");
        let finished = finished.expect(0).prints("█ TOTAL RESULTS");
        let (text, found, _) = failure(&folder, &finished);
        assert!(text.starts_with(error), "{text:?}");
        assert_eq!(found.as_deref(), hint);
    }
}

#[test]
fn an_unusable_summary_is_told_and_nothing_is_printed() {
    let map = "handleSummary() should return a map with string keys";
    let value = |kind: &str| {
        format!(
            "error handling summary object stdout: invalid type {kind}, it needs to be a string or ArrayBuffer"
        )
    };
    for (summary, error) in [
        (
            "export const handleSummary = 5;",
            "exported identifier handleSummary must be a function".to_owned(),
        ),
        (
            "export function handleSummary() { return 5 }",
            map.to_owned(),
        ),
        (
            "export function handleSummary() { return [1] }",
            map.to_owned(),
        ),
        (
            "export async function handleSummary() { return 'text' }",
            map.to_owned(),
        ),
        (
            "export function handleSummary() { return () => ({}) }",
            map.to_owned(),
        ),
        (
            "export function handleSummary() { return { 'a.txt': 'a', stdout: 5 } }",
            value("int64"),
        ),
        (
            "export function handleSummary() { return { stdout: 1.5 } }",
            value("float64"),
        ),
        (
            "export function handleSummary() { return { stdout: true } }",
            value("bool"),
        ),
        (
            "export function handleSummary() { return { stdout: {} } }",
            value("map[string]interface {}"),
        ),
        (
            "export const options = { handleSummaryTimeout: '900ms' };
             export function handleSummary() { for (;;) ; }",
            "handleSummary() execution timed out after 1 seconds".to_owned(),
        ),
        (
            "import { sleep } from 'k6';
             export const options = { handleSummaryTimeout: '100ms' };
             export function handleSummary() { sleep(300) }",
            "handleSummary() execution timed out after 0 seconds".to_owned(),
        ),
    ] {
        let (folder, finished) = run(&with_summary(summary), "");
        let finished = finished.expect(0);
        let found = finished.error();
        assert_eq!(found.msg, "failed to handle the end-of-test summary");
        assert_eq!(found.field("error"), Some(&*error), "{summary}");
        assert_eq!(finished.stdout, "", "{summary}");
        assert!(
            !folder.file("a.txt").exists(),
            "one bad value, and nothing is written"
        );
    }
}

#[test]
fn what_a_summary_function_measures_is_not_counted() {
    let script = "import { Counter } from 'k6/metrics';
        import { check } from 'k6';
        const cc = new Counter('cc');
        export default function () { cc.add(1); }
        export function handleSummary(data) {
          cc.add(10); check(1, { late: true });
          return { 'data.json': JSON.stringify(data) };
        }";
    let (folder, finished) = run(script, "--summary-export export.json");
    finished.expect(0);
    let data: Value = folder.json("data.json");
    let keys: Vec<&String> = data.as_object().expect("an object").keys().collect();
    assert_eq!(keys, ["root_group", "options", "state", "metrics"]);
    assert_eq!(data["options"]["summaryTimeUnit"], "");
    assert_eq!(data["state"]["isStdOutTTY"], false);
    assert_eq!(data["metrics"]["cc"]["values"]["count"], 1);
    let export = folder.json("export.json");
    assert_eq!(export["metrics"]["cc"]["count"], 1);
    assert_eq!(export["metrics"]["checks"], json!(null));
}

#[test]
fn instances_start_at_an_agreed_instant_or_not_at_all() {
    let script = "export default function () { console.log(String(Date.now())); }";
    let folder = Folder::with("script.js", script);
    let instant = std::time::SystemTime::now() + std::time::Duration::from_secs(2);
    let unix = instant
        .duration_since(std::time::UNIX_EPOCH)
        .expect("it is after 1970");
    let at = time::OffsetDateTime::from_unix_timestamp(unix.as_secs() as i64).expect("an instant");
    let at_text = at
        .format(&time::format_description::well_known::Rfc3339)
        .expect("a text");
    let instance = |index: u32| {
        Launch::volley(folder.path())
            .words("run -q script.js -u 2 -i 2 --execution-segment auto --start-at")
            .words(&at_text)
            .env("VOLLEY_INSTANCES", "2")
            .env("VOLLEY_INSTANCE", index.to_string())
            .start()
    };
    let both = [instance(0), instance(1)];
    for running in both {
        let finished = running.finish().expect(0);
        let said = said(&finished);
        assert_eq!(said.len(), 1, "each has one of the two iterations");
        let started: i64 = said[0].parse().expect("milliseconds");
        assert!(started >= at.unix_timestamp() * 1_000);
    }
    let finished = instance(0).finish().expect(96);
    let error = finished.error().msg;
    assert!(error.contains("after the instant of --start-at"), "{error}");
    assert!(said(&finished).is_empty());
    let (_, finished) = run(script, "--start-at tomorrow");
    let error = finished.expect(255).error().msg;
    assert!(
        error.starts_with("--start-at takes an instant in RFC 3339"),
        "{error}"
    );
    let (_, finished) = run(script, "--execution-segment auto");
    let error = finished.expect(255).error().msg;
    assert!(error.contains("VOLLEY_INSTANCES is not set"), "{error}");
}

#[test]
fn vus_that_do_not_fit_are_refused_before_the_kernel_does() {
    let script = "export default function () {}";
    let folder = Folder::with("script.js", script);
    let limited = |mib: u64, arguments: &str| {
        Launch::volley(folder.path())
            .words("run -q script.js")
            .words(arguments)
            .env("VOLLEY_MEMORY_LIMIT", (mib << 20).to_string())
            .run()
    };
    let finished = limited(100, "-u 5000 -i 5000").expect(255);
    let error = finished.error().msg;
    assert!(
        error.starts_with("5000 VUs of this script need about "),
        "{error}"
    );
    assert!(error.contains("the process may use 100 MiB"), "{error}");
    // Those that are made, and leave little: a warning.
    let finished = limited(2_000, "-u 20 -i 20").expect(0);
    assert_eq!(finished.logged("warning").len(), 0, "{}", finished.stderr);
    let many = "
        export const options = { scenarios: { s: { executor: 'constant-arrival-rate', rate: 1,
          duration: '1s', preAllocatedVUs: 20, maxVUs: 100000 } } };
        export default function () {}";
    folder.write("script.js", many);
    let finished = limited(2_000, "").expect(0);
    let warnings = finished.logged("warning");
    assert_eq!(warnings.len(), 1, "{}", finished.stderr);
    assert!(
        warnings[0]
            .msg
            .starts_with("100000 VUs of this script need about ")
    );
}
