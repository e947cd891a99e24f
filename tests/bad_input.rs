//! What the agent does with input that is wrong, and with a world that is: it ends with k6's exit
//! code and one line that says what to do, or goes on and says what happened.

mod support;

use std::net::TcpListener;

use support::{Finished, Folder, Launch, LogLine, Running, Target, free_port};

/// A script that does nothing, once.
const NOTHING: &str = "export default function () {}";

/// A script that asks the target once.
const ASKS_ONCE: &str = "import http from 'k6/http';
export default function () { http.get(__ENV.TARGET); }";

/// Runs a script quietly, with more arguments.
#[track_caller]
fn run(script: &str, arguments: &str) -> Finished {
    let folder = Folder::with("script.js", script);
    in_folder(&folder, &format!("run -q {arguments} script.js"))
}

#[track_caller]
fn in_folder(folder: &Folder, arguments: &str) -> Finished {
    Launch::volley(folder.path()).words(arguments).run()
}

/// Runs a script against a target.
#[track_caller]
fn run_against(target: &Target, script: &str, arguments: &str) -> Finished {
    let folder = Folder::with("script.js", script);
    against(target, &folder, arguments).run()
}

fn against(target: &Target, folder: &Folder, arguments: &str) -> Launch {
    let url = format!("TARGET={}", target.url());
    Launch::volley(folder.path())
        .words("run -q script.js -e")
        .args([url])
        .words(arguments)
}

/// Checks a run that must not start: its exit code, and the words of its one line.
#[track_caller]
fn refused(finished: Finished, code: i32, words: &str) -> LogLine {
    let finished = finished.expect(code);
    let error = finished.error();
    assert_eq!(error.msg, words);
    assert_eq!(finished.stdout, "", "nothing but the line is written");
    error
}

/// Messages of `console.log`.
fn console(finished: &Finished) -> Vec<String> {
    let lines = finished.log().into_iter();
    lines
        .filter(|line| line.field("source") == Some("console"))
        .map(|line| line.msg)
        .collect()
}

// === The script ===

#[test]
fn a_missing_script_is_named_with_what_is_there_instead() {
    let folder = Folder::with("scripts/other.js", NOTHING);
    folder.write("scripts/lib/helper.js", "");
    for (argument, nearest) in [
        ("scripts/test.js", "scripts"),
        ("scripts/deeper/still/test.js", "scripts"),
    ] {
        let finished = in_folder(&folder, &format!("run {argument}")).expect(255);
        let text = finished.error().msg;
        let start = format!(
            "The moduleSpecifier \"{argument}\" couldn't be found on local disk. Make sure that \
             you've specified the right path to the file."
        );
        assert!(text.starts_with(&start), "{text}");
        let nearest = folder.file(nearest);
        let begin = format!(" ({} is not there after a", folder.file(argument).display());
        let end = format!("; {} holds: lib/, other.js)", nearest.display());
        assert!(text.contains(&begin) && text.ends_with(&end), "{text}");
    }
}

#[test]
fn a_folder_is_no_script() {
    let folder = Folder::with("scripts/test.js", NOTHING);
    let finished = in_folder(&folder, "run -q scripts");
    let path = folder.file("scripts");
    refused(
        finished,
        255,
        &format!(
            "could not read the script 'scripts' ({}): is a directory",
            path.display()
        ),
    );
}

#[test]
fn a_missing_import_is_named() {
    let finished = run(
        "import './lib/nowhere.js'; export default function () {}",
        "",
    )
    .expect(107);
    let text = finished.error().msg;
    assert!(
        text.starts_with("could not initialize 'script.js': "),
        "{text}"
    );
    assert!(
        text.contains("The moduleSpecifier \"./lib/nowhere.js\" couldn't be found on local disk."),
        "{text}"
    );
}

#[test]
fn a_syntax_error_is_placed() {
    for (script, place) in [
        (
            "import http from 'k6/http';\n\nexport default function () {\n  const a = ;\n}\n",
            "Line 4:13 ",
        ),
        (
            "// A comment.\nexport default function () {\n  if (open(1) {\n  }\n}\n",
            "Line 3:15 ",
        ),
        ("let first = 1;\nlet second 2;\n", "Line 2:12 "),
        ("export default function () {\n  f();\n", "Line 3:1 "),
    ] {
        let folder = Folder::with("script.js", script);
        let finished = in_folder(&folder, "run -q script.js").expect(107);
        let url = format!("file://{}", folder.file("script.js").display());
        let start = format!(
            "could not initialize 'script.js': could not load JS test '{url}': {url}: {place}"
        );
        let text = finished.error().msg;
        assert!(
            text.starts_with(&start),
            "{text}\ndoes not start with\n{start}"
        );
        assert!(text.len() > start.len(), "{text}");
    }
}

#[test]
fn a_syntax_error_of_an_import_names_its_file() {
    let folder = Folder::with(
        "script.js",
        "import './lib.js';\nexport default () => {};\n",
    );
    folder.write("lib.js", "export const a = 1;\nexport const b = = 2;\n");
    let finished = in_folder(&folder, "run -q script.js").expect(107);
    let text = finished.error().msg;
    let place = format!("file://{}: Line 2:18 ", folder.file("lib.js").display());
    assert!(text.contains(&place), "{text}");
}

#[test]
fn an_exception_of_the_init_code_is_told_by_its_stack() {
    let script = "function check() {\n  throw new Error('no such environment');\n}\ncheck();\n\
                  export default function () {}\n";
    let finished = run(script, "").expect(107);
    let error = finished.error();
    assert!(
        error
            .msg
            .starts_with("Error: no such environment\n\tat check (file:///"),
        "{}",
        error.msg
    );
    assert!(error.msg.contains("/script.js:2:"), "{}", error.msg);
    assert_eq!(error.field("hint"), Some("script exception"));
    assert_eq!(error.field("source"), Some("stacktrace"));
    assert_eq!(finished.stdout, "");
}

#[test]
fn a_script_without_functions_is_refused() {
    for script in ["export const options = { vus: 1 };", ""] {
        let error = run(script, "").expect(255).error();
        assert!(
            error.msg.ends_with(": no exported functions in script"),
            "{}",
            error.msg
        );
    }
}

#[test]
fn unknown_modules_are_named() {
    let script = "import 'k6/nope'; import 'k6/x/sql'; export default function () {}";
    let error = run(script, "").expect(107).error();
    assert!(
        error.msg.contains(
            "unknown modules [\"k6/nope\", \"k6/x/sql\"] were tried to be loaded, but couldn't"
        ),
        "{}",
        error.msg
    );
}

#[test]
fn what_this_version_does_not_have_is_named() {
    let script = "import 'k6/browser'; export default function () {}";
    let error = run(script, "").expect(107).error();
    let text = "the module \"k6/browser\" is not supported by this version of Volley";
    assert!(error.msg.contains(text), "{}", error.msg);
}

#[test]
fn tls_options_that_cannot_work_are_refused() {
    for (options, text) in [
        (
            "tlsAuth: [{ cert: 'a', key: 'b' }]",
            "tls: failed to find any PEM data in certificate input",
        ),
        (
            "tlsVersion: 'tls1.2', tlsCipherSuites: ['TLS_RSA_WITH_RC4_128_SHA']",
            "tls: none of the cipher suites TLS_RSA_WITH_RC4_128_SHA is supported",
        ),
    ] {
        let script =
            format!("export const options = {{ {options} }}; export default function () {{}}");
        let error = run(&script, "").expect(104).error();
        assert!(error.msg.contains(text), "{}", error.msg);
    }
}

#[test]
fn archives_that_are_none_are_refused() {
    let folder = Folder::with("script.js", NOTHING);
    in_folder(&folder, "archive -O whole.tar script.js").expect(0);
    let whole = std::fs::read(folder.file("whole.tar")).expect("an archive");
    folder.write("cut.tar", &whole[..whole.len() / 2]);
    for (arguments, name) in [
        ("run -q cut.tar", "cut.tar"),
        ("inspect cut.tar", "cut.tar"),
        ("run -q -t archive script.js", "script.js"),
    ] {
        let error = in_folder(&folder, arguments).expect(255).error();
        let start = format!("could not read the archive '{name}': it is cut off");
        assert!(error.msg.starts_with(&start), "{}", error.msg);
    }
}

// === Options ===

#[test]
fn an_unknown_option_is_a_warning() {
    let script = "export const options = { iterations: 2, vuss: 3, another: 1 };
                  export default function () {}";
    let finished = run(script, "").expect(0);
    let log = finished.log();
    assert_eq!(log.len(), 1, "{log:?}");
    assert_eq!(log[0].level, "warning");
    assert_eq!(
        log[0].msg,
        "There were unknown fields in the options exported in the script"
    );
    assert_eq!(
        log[0].field("error"),
        Some("json: unknown field \"another\"")
    );
    assert_eq!(finished.summary("iterations"), 2.0);
}

#[test]
fn an_unknown_flag_comes_with_a_suggestion() {
    for (arguments, text) in [
        (
            "--summry-mode=full",
            "unknown flag: --summry-mode; did you mean --summary-mode?",
        ),
        (
            "--durations 5s",
            "unknown flag: --durations; did you mean --duration?",
        ),
        ("--qqq", "unknown flag: --qqq"),
        ("-Z", "unknown shorthand flag: -Z"),
    ] {
        refused(run(NOTHING, arguments), 255, text);
    }
    let folder = Folder::new();
    let finished = in_folder(&folder, "ruin script.js");
    let text = "unknown command \"ruin\" for \"k6\"; did you mean run?";
    refused(finished, 255, text);
}

#[test]
fn bad_values_of_options_are_refused() {
    let options = |options: &str| {
        format!("export const options = {options}; export default function () {{}}")
    };
    for (given, text) in [
        (
            "{ duration: '5x' }",
            "time: unknown unit \"x\" in duration \"5x\"",
        ),
        (
            "{ vus: 'many' }",
            "strconv.ParseInt: parsing \"many\": invalid syntax",
        ),
        (
            "{ scenarios: { a: { executor: 'nope' } } }",
            "unknown executor type 'nope'",
        ),
        (
            "{ scenarios: { a: { executor: 'constant-vus', duration: '1s', vuss: 1 } } }",
            "json: unknown field \"vuss\"",
        ),
    ] {
        let error = run(&options(given), "").expect(104).error();
        assert!(error.msg.starts_with("could not initialize 'script.js': "));
        assert!(error.msg.ends_with(text), "{}", error.msg);
    }
    for (given, text) in [
        (
            "{ vus: 0, duration: '1s' }",
            "the number of VUs must be more than 0",
        ),
        (
            "{ scenarios: { a: { executor: 'constant-vus', duration: '1s', exec: 'nope' } } }",
            "executor a: function 'nope' not found in exports",
        ),
    ] {
        let error = run(&options(given), "").expect(104).error();
        let start = "There were problems with the specified script configuration:\n\t- ";
        assert!(error.msg.starts_with(start), "{}", error.msg);
        assert!(error.msg.ends_with(text), "{}", error.msg);
    }
    refused(
        run(NOTHING, "--vus many"),
        255,
        "invalid argument \"many\" for \"-u, --vus\" flag: strconv.ParseInt: parsing \"many\": \
         invalid syntax",
    );
}

#[test]
fn bad_segments_are_refused() {
    for (arguments, code, text) in [
        (
            "--execution-segment=2/3:1/3",
            255,
            "segment start(0.67) must be less than its end(0.33)",
        ),
        (
            "--execution-segment=0:1/3 --execution-segment-sequence=0,2/3,1/3,1",
            255,
            "segment start(0.67) must be less than its end(0.33)",
        ),
        (
            "--execution-segment=0:1/3 --execution-segment-sequence=0,1/2,1",
            104,
            "There were problems with the specified script configuration:\n\t- provided segment \
             0:1/3 can't be found in sequence 0,1/2,1",
        ),
        (
            "--execution-segment=some",
            255,
            "'some' is not a valid percentage, decimal, fraction or interval value",
        ),
    ] {
        refused(run(NOTHING, arguments), code, text);
    }
}

#[test]
fn a_config_file_that_cannot_be_read_is_refused() {
    let folder = Folder::with("script.js", NOTHING);
    folder.write("broken.json", "{\"vus\":");
    folder.write("folder/file", "");
    let start = "failed to load the configuration file from the local file system: ";
    for (file, end) in [
        (
            "nowhere.json",
            "stat nowhere.json: no such file or directory",
        ),
        ("folder", "read folder: is a directory"),
    ] {
        let finished = in_folder(&folder, &format!("run -q -c {file} script.js"));
        refused(finished, 104, &format!("{start}{end}"));
    }
    let finished = in_folder(&folder, "run -q -c broken.json script.js").expect(104);
    let text = finished.error().msg;
    let problem = format!("{start}couldn't parse the configuration from \"broken.json\": ");
    assert!(text.starts_with(&problem), "{text}");
}

// === Ports and outputs ===

#[test]
fn a_busy_port_of_the_api_ends_the_run_when_a_flag_named_it() {
    let taken = TcpListener::bind("127.0.0.1:0").expect("a port");
    let address = taken.local_addr().expect("its address").to_string();
    let target = Target::start().expect("a target");
    let problem = format!("listen tcp {address}: bind: address already in use");

    let finished = run_against(&target, ASKS_ONCE, &format!("--address={address}"));
    let error = refused(finished, 106, "Error from API server");
    assert_eq!(error.field("error"), Some(problem.as_str()));
    assert_eq!(target.requests(), 0);

    let folder = Folder::with("script.js", ASKS_ONCE);
    let by_variable = against(&target, &folder, "").env("K6_ADDRESS", &address);
    let finished = by_variable.run().expect(0);
    let warnings = finished.logged("warning");
    assert_eq!(warnings.len(), 1, "{warnings:?}");
    assert_eq!(warnings[0].msg, "Error from API server");
    assert_eq!(warnings[0].field("error"), Some(problem.as_str()));
    assert_eq!(target.requests(), 1);
}

#[test]
fn a_busy_port_of_the_prometheus_output_ends_the_run_before_the_load() {
    let taken = TcpListener::bind("127.0.0.1:0").expect("a port");
    let port = taken.local_addr().expect("its address").port();
    let target = Target::start().expect("a target");
    let out = format!("--out prometheus=host=127.0.0.1&port={port}");
    let text = format!(
        "could not create the 'prometheus' output: listen tcp 127.0.0.1:{port}: bind: address \
         already in use"
    );
    refused(run_against(&target, ASKS_ONCE, &out), 255, &text);
    assert_eq!(target.requests(), 0);
}

#[test]
fn bad_outputs_end_the_run_before_the_load() {
    let target = Target::start().expect("a target");
    for (out, text) in [
        (
            "nope=1",
            "invalid output type 'nope', available types are: csv, \
             experimental-opentelemetry, experimental-prometheus-rw, influxdb, json, \
             opentelemetry, prometheus",
        ),
        (
            "json=nowhere/out.json",
            "could not create the 'json' output: open nowhere/out.json: no such file or directory",
        ),
        (
            "csv=nowhere/out.csv",
            "could not create the 'csv' output: open nowhere/out.csv: no such file or directory",
        ),
        (
            "csv=timeFormat=bogus",
            "could not create the 'csv' output: bogus does not belong to TimeFormat values",
        ),
        (
            "prometheus=namspace=k6",
            "could not create the 'prometheus' output: schema: unknown key \"namspace\", the keys \
             are namespace, subsystem, host, port, linger, trend, buckets, labels, drop and \
             max_series",
        ),
        (
            "prometheus=port=656565",
            "could not create the 'prometheus' output: schema: port \"656565\" is not a whole \
             number from 0 to 65535",
        ),
        (
            "prometheus=linger=soon",
            "could not create the 'prometheus' output: schema: linger \"soon\" is neither auto, \
             nor a duration such as 30s, nor 0",
        ),
        (
            "prometheus --out prometheus=port=7000",
            "could not create the 'prometheus' output: it was asked for twice; one endpoint \
             serves all scrapers",
        ),
    ] {
        let finished = run_against(&target, ASKS_ONCE, &format!("--out {out}"));
        refused(finished, 255, text);
    }
    assert_eq!(target.requests(), 0);
}

#[test]
fn a_full_disk_is_told_at_the_end_of_a_whole_run() {
    let target = Target::start().expect("a target");
    let finished = run_against(&target, ASKS_ONCE, "-i 20 --out json=/dev/full").expect(0);
    let error = finished.error();
    let (start, end) = (
        "json (/dev/full): no space left on device; ",
        " samples were lost",
    );
    assert!(error.msg.starts_with(start), "{}", error.msg);
    assert!(error.msg.ends_with(end), "{}", error.msg);
    let lost: u64 = error.msg[start.len()..error.msg.len() - end.len()]
        .parse()
        .expect("a number");
    // Nine of each request, four or more of each iteration.
    assert!(lost >= 20 * 11, "{lost}");
    assert_eq!(finished.summary("http_reqs"), 20.0);
    assert_eq!(target.requests(), 20);
}

#[test]
fn a_full_disk_is_told_of_other_files_too() {
    let finished = run(NOTHING, "--summary-export=/dev/full").expect(0);
    let error = finished.error();
    assert_eq!(error.msg, "failed to handle the end-of-test summary");
    assert_eq!(
        error.field("error"),
        Some(
            "Could not save some summary information:\n\t- error saving summary to '/dev/full': \
             write /dev/full: no space left on device"
        )
    );
    assert_eq!(finished.summary("iterations"), 1.0);

    let folder = Folder::with("script.js", NOTHING);
    let finished = in_folder(&folder, "archive -O /dev/full script.js");
    refused(
        finished,
        255,
        "could not write the archive to '/dev/full': no space left on device; name another place \
         with -O",
    );
}

#[test]
fn a_stdout_that_nobody_reads_is_no_failure() {
    let target = Target::start().expect("a target");
    let folder = Folder::with("script.js", ASKS_ONCE);
    let (reader, writer) = std::io::pipe().expect("a pipe");
    drop(reader);
    let url = format!("TARGET={}", target.url());
    let finished = Launch::volley(folder.path())
        .words("run script.js -i 5 -e")
        .args([url])
        .stdout(writer)
        .run()
        .expect(0);
    assert_eq!(finished.log(), []);
    assert_eq!(target.requests(), 5);
}

// === The network ===

#[test]
fn hosts_that_cannot_be_reached_leave_the_iteration_alone() {
    // Bound and dropped: nobody listens there.
    let port = free_port();
    let script = format!(
        "import http from 'k6/http';
        export default function () {{
          for (const url of [
            'http://127.0.0.1:{port}/',
            'http://no-such-host.invalid/',
            'http://127.0.0.1:99999/',
            'ftp://127.0.0.1/',
          ]) {{
            const answer = http.get(url);
            console.log(answer.error_code, answer.error, answer.status, answer.body);
          }}
        }}"
    );
    let finished = run(&script, "").expect(0);
    assert_eq!(
        console(&finished),
        [
            "1212 dial: connection refused 0 null",
            "1101 lookup: no such host 0 null",
            "1000 dial tcp: address 99999: invalid port 0 null",
            "1000 unsupported protocol scheme \"ftp\" 0 null",
        ]
    );
    let warnings = finished.logged("warning");
    assert_eq!(warnings.len(), 4, "{warnings:?}");
    assert!(warnings.iter().all(|line| line.msg == "Request Failed"));
    assert_eq!(
        warnings[0].field("error"),
        Some(
            format!(
                "Get \"http://127.0.0.1:{port}/\": dial tcp 127.0.0.1:{port}: connect: connection \
                 refused"
            )
            .as_str()
        )
    );
    assert_eq!(finished.logged("error"), []);
    assert_eq!(finished.summary("iterations"), 1.0);
    assert_eq!(finished.summary("http_reqs"), 4.0);
}

#[test]
fn a_failed_request_throws_where_that_is_asked_for() {
    let port = free_port();
    let script = format!(
        "import http from 'k6/http';
        export const options = {{ throw: true, iterations: 2 }};
        export default function () {{ http.get('http://127.0.0.1:{port}/'); }}"
    );
    let finished = run(&script, "").expect(0);
    let errors = finished.logged("error");
    assert_eq!(errors.len(), 2, "{errors:?}");
    for error in errors {
        assert!(
            error.msg.contains("connect: connection refused\n\tat "),
            "{}",
            error.msg
        );
        assert_eq!(error.field("source"), Some("stacktrace"));
        assert_eq!(error.field("scenario"), Some("default"));
    }
    assert_eq!(finished.summary("iterations"), 2.0);
}

#[test]
fn a_server_that_closes_in_the_middle_of_a_body_is_an_error_of_the_request() {
    let target = Target::start().expect("a target");
    let script = "import http from 'k6/http';
        export default function () {
          const cut = http.get(`${__ENV.TARGET}/cut`);
          console.log(JSON.stringify([cut.status, cut.error, cut.error_code, cut.body]));
          console.log(http.get(__ENV.TARGET).status);
        }";
    let finished = run_against(&target, script, "").expect(0);
    assert_eq!(
        console(&finished),
        ["[0,\"unexpected EOF\",1000,\"0123456789\"]", "200"]
    );
    let warnings = finished.logged("warning");
    assert_eq!(warnings.len(), 1, "{warnings:?}");
    assert_eq!(warnings[0].field("error"), Some("unexpected EOF"));
    assert_eq!(finished.summary("http_reqs"), 2.0);
    assert_eq!(target.requests(), 2);
}

#[test]
fn large_bodies_and_bodies_that_are_no_text_arrive() {
    let target = Target::start().expect("a target");
    let script = "import http from 'k6/http';
        export default function () {
          const large = http.get(`${__ENV.TARGET}/bytes/20971520`);
          console.log(large.status, large.body.length, large.error);
          const text = http.get(`${__ENV.TARGET}/latin1`);
          console.log(JSON.stringify([text.body, text.body.length, text.body.charCodeAt(3)]));
          const bytes = http.get(`${__ENV.TARGET}/latin1`, { responseType: 'binary' });
          console.log(new Uint8Array(bytes.body).join(' '));
        }";
    let finished = run_against(&target, script, "").expect(0);
    assert_eq!(
        console(&finished),
        [
            "200 20971520 ",
            "[\"caf\u{fffd}\",4,65533]",
            "99 97 102 233"
        ]
    );
    assert_eq!(finished.logged("warning"), []);
}

// === Signals ===

/// A script that runs for minutes, with a teardown that tells of itself.
const LONG: &str = "import http from 'k6/http';
import { check, sleep } from 'k6';
export const options = { vus: 3, duration: '10m' };
export function setup() { return { from: 'setup' }; }
export default function () {
  check(http.get(__ENV.TARGET), { ok: (r) => r.status === 200 });
  sleep(0.01);
}
export function teardown(data) { console.log('teardown after', data.from); }";

/// Starts [`LONG`] and waits until it is under way.
fn under_way<'a>(target: &Target, folder: &'a Folder) -> (Running, &'a Folder) {
    folder.write("script.js", LONG);
    let mut running = against(target, folder, "--summary-export=summary.json").start();
    running.until("load", |_| (target.requests() > 20).then_some(()));
    (running, folder)
}

#[test]
fn a_signal_in_the_middle_ends_the_run_in_good_order() {
    for (name, send) in [
        ("terminated", Running::terminate as fn(&Running)),
        ("interrupt", Running::interrupt),
    ] {
        let (target, folder) = (Target::start().expect("a target"), Folder::new());
        let (running, folder) = under_way(&target, &folder);
        send(&running);
        let finished = running.finish().expect(105);
        assert_eq!(console(&finished), ["teardown after setup"]);
        let text = format!("test run was aborted because k6 received a '{name}' signal");
        assert_eq!(finished.error().msg, text);
        let last = finished.log().pop().expect("a line");
        assert_eq!(last.msg, text, "the reason is the last line");
        // Everything is there: checks, requests, iterations, and the file.
        let finished = finished.prints("✓ ok").prints("http_req_duration");
        assert!(finished.summary("http_reqs") > 20.0);
        assert!(finished.summary("iterations") > 10.0);
        let summary = folder.json("summary.json");
        assert_eq!(
            summary["metrics"]["http_reqs"]["count"].as_f64(),
            Some(finished.summary("http_reqs"))
        );
    }
}

#[test]
fn a_busy_script_is_interrupted_too() {
    let script = "export const options = { vus: 2, duration: '10m' };
        export default function () { console.log('spinning'); for (;;); }
        export function teardown() { console.log('teardown'); }";
    let folder = Folder::with("script.js", script);
    let mut running = Launch::volley(folder.path())
        .words("run -q script.js")
        .start();
    running.until_logged("spinning");
    running.terminate();
    let finished = running.finish().expect(105);
    assert_eq!(
        console(&finished).last().map(String::as_str),
        Some("teardown")
    );
    finished.prints("TOTAL RESULTS");
}

#[test]
fn a_second_signal_ends_the_process_at_once() {
    for stuck in ["for (;;);", "sleep(600);"] {
        let script = format!(
            "import {{ sleep }} from 'k6';
            export const options = {{ duration: '10m' }};
            export default function () {{ console.log('iteration'); sleep(600); }}
            export function teardown() {{ console.log('teardown'); {stuck} }}"
        );
        let folder = Folder::with("script.js", &script);
        let mut running = Launch::volley(folder.path())
            .words("run -q script.js")
            .start();
        running.until_logged("iteration");
        running.interrupt();
        running.until_logged("teardown");
        running.terminate();
        let finished = running.finish().expect(105);
        let error = finished.error();
        assert_eq!(error.msg, "Aborting k6 in response to signal");
        assert_eq!(error.field("sig"), Some("terminated"));
        assert_eq!(finished.stdout, "", "no summary");
    }
}

#[test]
fn a_signal_while_the_script_loads_ends_the_process_at_once() {
    let script = "console.log('loading'); for (;;); export default function () {}";
    let folder = Folder::with("script.js", script);
    let mut running = Launch::volley(folder.path())
        .words("run -q script.js")
        .start();
    running.until_logged("loading");
    running.terminate();
    let finished = running.finish().expect(105);
    assert_eq!(finished.error().msg, "Aborting k6 in response to signal");
    assert_eq!(finished.stdout, "");
}

#[test]
fn a_signal_while_the_vus_are_made_or_paused_ends_the_run_without_teardown() {
    let paused = "export function setup() { console.log('setup'); }
        export default function () {}
        export function teardown() { console.log('teardown'); }";
    // The first init passes, those of the VUs never end.
    let init = "if (__VU > 0) { console.log('init'); for (;;); }
        export default function () {}
        export function teardown() { console.log('teardown'); }";
    for (script, arguments, sign) in [
        (paused, "--paused --verbose", "default: 1 iterations"),
        (init, "", "init"),
    ] {
        let folder = Folder::with("script.js", script);
        let mut running = Launch::volley(folder.path())
            .words("run -q script.js")
            .words(arguments)
            .start();
        running.until_logged(sign);
        running.terminate();
        let finished = running.finish().expect(105);
        assert_eq!(
            finished.error().msg,
            "test run was aborted because k6 received a 'terminated' signal"
        );
        let said = console(&finished);
        assert!(said.iter().all(|line| line == "init"), "{said:?}");
        finished.prints("TOTAL RESULTS");
    }
}
