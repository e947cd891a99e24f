//! Thresholds through the whole program: what is refused and in which words, what is judged and
//! when, and how the run ends.

mod support;

use std::time::Duration;

use serde_json::{Value, json};
use support::{Finished, Folder, Launch, PATIENCE, Target, free_port, request};

/// A metric of each kind that a script can make; the thresholds are a variable.
const METRICS: &str = "
import { Counter, Gauge, Rate, Trend } from 'k6/metrics';
export const options = { thresholds: JSON.parse(__ENV.THRESHOLDS) };
const metrics = { cc: new Counter('cc'), gg: new Gauge('gg'), rr: new Rate('rr'), tt: new Trend('tt') };
export default function () {
  for (const [name, value, tags] of JSON.parse(__ENV.SAMPLES || '[]')) {
    metrics[name].add(value, tags || {});
  }
}
export function teardown() { console.log('torn down'); }
";

/// Runs the script above with those thresholds and samples.
#[track_caller]
fn judge(thresholds: &Value, samples: &Value, arguments: &str) -> (Folder, Finished) {
    let folder = Folder::with("script.js", METRICS);
    let finished = Launch::volley(folder.path())
        .words("run -q script.js --summary-export export.json")
        .words(arguments)
        .args(["-e", &format!("THRESHOLDS={thresholds}")])
        .args(["-e", &format!("SAMPLES={samples}")])
        .run();
    (folder, finished)
}

/// The metrics of the exported summary.
fn metrics(folder: &Folder) -> Value {
    folder.json("export.json")["metrics"].clone()
}

// === What is refused ===

/// Key, expression, and the whole text of the error.
const REFUSED: &[(&str, &str, &str)] = &[
    // Expressions.
    (
        "tt",
        "avg=5",
        "failed parsing threshold expression \"avg=5\"; reason: malformed threshold expression",
    ),
    (
        "tt",
        "avg",
        "failed parsing threshold expression \"avg\"; reason: malformed threshold expression",
    ),
    (
        "tt",
        "count>",
        "failed parsing threshold expression \"count>\"; reason: malformed threshold expression",
    ),
    (
        "tt",
        "",
        "failed parsing threshold expression \"\"; reason: malformed threshold expression",
    ),
    (
        "tt",
        "foo<1",
        "failed parsing threshold expression's \"foo<1\" left hand side; reason: failed parsing method from expression",
    ),
    (
        "tt",
        "p90<5",
        "failed parsing threshold expression's \"p90<5\" left hand side; reason: failed parsing method from expression",
    ),
    (
        "tt",
        "AVG<5",
        "failed parsing threshold expression's \"AVG<5\" left hand side; reason: failed parsing method from expression",
    ),
    (
        "tt",
        "avg=>5",
        "failed parsing threshold expression's \"avg=>5\" left hand side; reason: failed parsing method from expression",
    ),
    (
        "tt",
        "<5",
        "failed parsing threshold expression's \"<5\" left hand side; reason: failed parsing method from expression",
    ),
    (
        "tt",
        "p(101)<5",
        "failed parsing threshold expression's \"p(101)<5\" left hand side; reason: malformed percentile value, provide a number between 0 and 100",
    ),
    (
        "tt",
        "p(-1)<5",
        "failed parsing threshold expression's \"p(-1)<5\" left hand side; reason: malformed percentile value, provide a number between 0 and 100",
    ),
    (
        "tt",
        "p(NaN)<4",
        "failed parsing threshold expression's \"p(NaN)<4\" left hand side; reason: malformed percentile value, provide a number between 0 and 100",
    ),
    (
        "tt",
        "p(abc)<5",
        "failed parsing threshold expression's \"p(abc)<5\" left hand side; reason: malformed percentile value; reason: strconv.ParseFloat: parsing \"abc\": invalid syntax",
    ),
    (
        "tt",
        "p()<5",
        "failed parsing threshold expression's \"p()<5\" left hand side; reason: malformed percentile value; reason: strconv.ParseFloat: parsing \"\": invalid syntax",
    ),
    (
        "tt",
        "avg<abc",
        "failed parsing threshold expresion's \"avg<abc\" right hand side; reason: strconv.ParseFloat: parsing \"abc\": invalid syntax",
    ),
    (
        "tt",
        "avg < 200 ms",
        "failed parsing threshold expresion's \"avg < 200 ms\" right hand side; reason: strconv.ParseFloat: parsing \"200 ms\": invalid syntax",
    ),
    (
        "tt",
        "avg<5 && med<3",
        "failed parsing threshold expresion's \"avg<5 && med<3\" right hand side; reason: strconv.ParseFloat: parsing \"5 && med<3\": invalid syntax",
    ),
    (
        "tt",
        "avg<0x10",
        "failed parsing threshold expresion's \"avg<0x10\" right hand side; reason: strconv.ParseFloat: parsing \"0x10\": invalid syntax",
    ),
    // Metrics and their kinds.
    (
        "nosuch",
        "count>1",
        "invalid threshold defined on nosuch; reason: no metric name \"nosuch\" found",
    ),
    (
        "nope{a:b}",
        "count>1",
        "invalid threshold defined on nope{a:b}; reason: no metric name \"nope{a:b}\" found",
    ),
    (
        "tt",
        "count>1",
        "invalid threshold \"count>1\" applied on metric tt; reason: unsupported aggregation method count on metric of type trend. supported aggregation methods for this metric are: avg, min, max, med, p",
    ),
    (
        "http_req_duration",
        "rate<1",
        "invalid threshold \"rate<1\" applied on metric http_req_duration; reason: unsupported aggregation method rate on metric of type trend. supported aggregation methods for this metric are: avg, min, max, med, p",
    ),
    (
        "cc",
        "p(95)<1",
        "invalid threshold \"p(95)<1\" applied on metric cc; reason: unsupported aggregation method p on metric of type counter. supported aggregation methods for this metric are: count, rate",
    ),
    (
        "gg",
        "max<1",
        "invalid threshold \"max<1\" applied on metric gg; reason: unsupported aggregation method max on metric of type gauge. supported aggregation methods for this metric are: value",
    ),
    (
        "rr",
        "value<1",
        "invalid threshold \"value<1\" applied on metric rr; reason: unsupported aggregation method value on metric of type rate. supported aggregation methods for this metric are: rate",
    ),
    // Selectors.
    (
        "tt{tag:a b",
        "avg<1",
        "unable to validate threshold expressions; reason: parsing metric name failed, metric \"tt{tag:a b\" has unmatched opening/close curly brace",
    ),
    (
        "tt}tag:a{",
        "avg<1",
        "unable to validate threshold expressions; reason: parsing metric name failed, metric \"tt}tag:a{\" closing curly brace appears before opening one",
    ),
    (
        "tt{tag:a b}x",
        "avg<1",
        "unable to validate threshold expressions; reason: parsing metric name failed, metric \"tt{tag:a b}x\" lacks a closing curly brace in its last position",
    ),
    (
        "tt{}",
        "avg<1",
        "unable to validate threshold expressions; reason: parsing metric name failed, metric \"\" tag expression is malformed",
    ),
    (
        "tt{tag}",
        "avg<1",
        "unable to validate threshold expressions; reason: parsing metric name failed, metric \"tag\" tag expression is malformed",
    ),
    (
        "tt{tag:}",
        "avg<1",
        "unable to validate threshold expressions; reason: parsing metric name failed, metric \"tag:\" tag expression is malformed",
    ),
    (
        "tt{tag:a,}",
        "avg<1",
        "unable to validate threshold expressions; reason: parsing metric name failed, metric \"\" tag expression is malformed",
    ),
];

#[test]
fn bad_thresholds_are_refused_in_k6s_words_before_anything_runs() {
    for &(key, expression, text) in REFUSED {
        let (_folder, finished) = judge(&json!({ key: [expression] }), &json!([]), "");
        let finished = finished.expect(104);
        assert_eq!(finished.error().msg, text);
        assert_eq!(finished.stdout, "", "{key} {expression}");
    }
}

#[test]
fn the_first_bad_expression_is_told_before_bad_keys() {
    let thresholds = json!({"aa": ["avg<1"], "tt": ["avg<1", "avg<x"]});
    let (_folder, finished) = judge(&thresholds, &json!([]), "");
    let text = finished.expect(104).error().msg;
    assert!(text.contains("\"avg<x\" right hand side"), "{text}");
}

#[test]
fn thresholds_of_the_wrong_shape_are_refused_with_the_options() {
    for (thresholds, words) in [
        (json!({"tt": "avg<1"}), "cannot unmarshal string"),
        (
            json!({"tt": {"threshold": "avg<1"}}),
            "cannot unmarshal object",
        ),
        (json!({"tt": [7]}), "cannot unmarshal number"),
        (
            json!({"tt": [{"threshold": "avg<1", "abortOnFail": "yes"}]}),
            "cannot unmarshal string",
        ),
        (
            json!({"tt": [{"threshold": "avg<1", "delayAbortEval": "5x"}]}),
            "time: unknown unit \"x\" in duration \"5x\"",
        ),
        (json!(["avg<1"]), "cannot unmarshal array"),
    ] {
        let (_folder, finished) = judge(&thresholds, &json!([]), "");
        let text = finished.expect(104).error().msg;
        assert!(
            text.starts_with("could not initialize 'script.js': "),
            "{text}"
        );
        assert!(text.contains(words), "{thresholds}: {text}");
    }
}

// === What is judged ===

#[test]
fn every_expression_has_its_verdict_and_crossed_metrics_are_named_in_order() {
    let thresholds = json!({
        "tt": ["avg<3", " p(50) >= 2 ", {"threshold": "max<3", "unknown": 1}],
        "rr": [{"threshold": "rate<0.5", "abortOnFail": false, "delayAbortEval": 1500}],
        "gg": ["value==4"],
        "cc": ["count!=6", "count===6"],
    });
    let samples = json!([
        ["tt", 1],
        ["tt", 2],
        ["tt", 3],
        ["rr", 1],
        ["gg", 9],
        ["gg", 4],
        ["cc", 6]
    ]);
    let (folder, finished) = judge(&thresholds, &samples, "");
    let finished = finished.expect(99);
    let error = finished.error();
    assert_eq!(
        error.msg,
        "thresholds on metrics 'cc, rr, tt' have been crossed"
    );
    let last = finished.stderr.lines().last().expect("a log");
    assert!(
        last.contains("have been crossed"),
        "not the last line: {last}"
    );
    assert!(finished.stderr.contains("torn down"));
    let metrics = metrics(&folder);
    // In the file true means crossed.
    assert_eq!(
        metrics["tt"]["thresholds"],
        json!({"avg<3": false, " p(50) >= 2 ": false, "max<3": true})
    );
    assert_eq!(metrics["rr"]["thresholds"], json!({"rate<0.5": true}));
    assert_eq!(metrics["gg"]["thresholds"], json!({"value==4": false}));
    assert_eq!(
        metrics["cc"]["thresholds"],
        json!({"count!=6": true, "count===6": false})
    );
    for line in [
        "    cc\n    ✗ 'count!=6' count!=",
        "    ✓ 'p(50) >= 2' p(50)=2\n",
        "    rr\n    ✗ 'rate<0.5' rate=100.00%\n",
    ] {
        assert!(
            finished.stdout.contains(line),
            "{line:?} {}",
            finished.stdout
        );
    }
}

#[test]
fn metrics_without_a_sample_are_zero_at_the_end_and_rates_pass() {
    let thresholds = json!({
        "tt": ["p(95)<200", "avg==0"], "gg": ["value==0"], "cc": ["count==0"],
        "rr": ["rate>0.5"], "rr{a:b}": ["rate==7"], "tt{a:b}": ["max==0"],
    });
    let (folder, finished) = judge(&thresholds, &json!([]), "");
    let finished = finished.expect(0);
    let names = metrics(&folder);
    for name in ["tt", "gg", "cc", "rr", "rr{a:b}", "tt{a:b}"] {
        assert!(names[name]["thresholds"].is_object(), "{name}: {names}");
    }
    assert!(
        finished
            .stdout
            .contains("\n    cc...................: 0     0/s\n"),
        "{}",
        finished.stdout
    );
}

#[test]
fn a_sub_metrics_value_is_all_that_follows_the_first_colon() {
    let target = Target::start().expect("a target");
    let url = format!("{}?a=b:c", target.url());
    let script = "import http from 'k6/http';
        import { group } from 'k6';
        export const options = { thresholds: JSON.parse(__ENV.THRESHOLDS) };
        export default function () {
          http.get(__ENV.TARGET);
          group('outer', () => group('inner', () => http.get(__ENV.TARGET, { tags: { kind: 'a:b' } })));
        }";
    let thresholds = json!({
        format!("http_reqs{{url:{url}}}"): ["count==2"],
        "http_reqs{group:::outer::inner}": ["count==1"],
        "http_reqs{ 'kind' : \"a:b\" , group:::outer::inner}": ["count==1"],
        "http_reqs{kind:a}": ["count==0"],
        "http_reqs{scenario:default,group:::outer}": ["count==0"],
    });
    let folder = Folder::with("script.js", script);
    let finished = Launch::volley(folder.path())
        .words("run -q script.js -e")
        .args([format!("TARGET={url}")])
        .args(["-e", &format!("THRESHOLDS={thresholds}")])
        .run()
        .expect(0);
    let name = "    http_reqs{'kind' : \"a:b\" , group:::outer::inner}\n    ✓ 'count==1' count=1\n";
    assert!(finished.stdout.contains(name), "{}", finished.stdout);
}

#[test]
fn selectors_on_metadata_are_warned_of_and_match_nothing() {
    let thresholds = json!({"iterations{vu:1}": ["count==0"], "iterations{iter:0}": ["count==0"]});
    let (_folder, finished) = judge(&thresholds, &json!([]), "");
    let warnings = finished.expect(0).logged("warning");
    let texts: Vec<&str> = warnings.iter().map(|line| line.msg.as_str()).collect();
    let text = |tag: &str, key: &str| {
        format!(
            "The high-cardinality '{tag}' metric tag was made non-indexable in k6 v0.41.0, so thresholds like \
             '{key}' that are based on it won't work correctly."
        )
    };
    assert_eq!(
        texts,
        [
            text("iter", "iterations{iter:0}"),
            text("vu", "iterations{vu:1}")
        ]
    );
}

#[test]
fn without_thresholds_nothing_is_parsed_and_sub_metrics_remain() {
    let thresholds = json!({"cc{a:b}": ["nonsense"], "nope": ["count>1"], "cc": ["count>100"]});
    let samples = json!([["cc", 1], ["cc", 2, {"a": "b"}]]);
    for (arguments, env) in [("--no-thresholds", ""), ("", "true")] {
        let folder = Folder::with("script.js", METRICS);
        let mut launch = Launch::volley(folder.path());
        if !env.is_empty() {
            launch = launch.env("K6_NO_THRESHOLDS", env);
        }
        let finished = launch
            .words("run -q script.js --summary-export export.json")
            .words(arguments)
            .args(["-e", &format!("THRESHOLDS={thresholds}")])
            .args(["-e", &format!("SAMPLES={samples}")])
            .run()
            .expect(0);
        let warnings = finished.logged("warning");
        assert_eq!(warnings.len(), 1, "{}", finished.stderr);
        assert_eq!(
            warnings[0].msg,
            "Invalid metric 'nope' in threshold definitions"
        );
        assert!(!finished.stdout.contains("THRESHOLDS"));
        assert!(
            finished.stdout.contains("\n      { a:b }............: 2 "),
            "{}",
            finished.stdout
        );
        let metrics = metrics(&folder);
        assert_eq!(metrics["cc{a:b}"]["count"], 2);
        assert!(metrics["cc"]["thresholds"].is_null());
    }
}

#[test]
fn a_run_that_ended_otherwise_keeps_its_code() {
    for (action, code, words) in [
        (
            "exec.test.abort('enough')",
            108,
            "test aborted: enough at default (",
        ),
        (
            "exec.test.fail('bad')",
            110,
            "test run was marked as failed",
        ),
    ] {
        let script = format!(
            "import exec from 'k6/execution';
             export const options = {{ thresholds: {{ iterations: ['count>100'] }} }};
             export default function () {{ {action}; }}"
        );
        let folder = Folder::with("script.js", &script);
        let finished = Launch::volley(folder.path())
            .words("run -q script.js")
            .run();
        let finished = finished.expect(code);
        let errors = finished.logged("error");
        let last = errors.last().expect("an error");
        assert!(last.msg.starts_with(words), "{last:?}");
        assert!(
            !finished.stderr.contains("have been crossed"),
            "{}",
            finished.stderr
        );
        assert!(
            finished.stdout.contains("✗ 'count>100' count=1\n"),
            "{}",
            finished.stdout
        );
    }
}

// === Ending the run ===

/// Counts as fast as it may for at most half a minute.
const COUNTS: &str = "
import { sleep } from 'k6';
import { Counter } from 'k6/metrics';
const cc = new Counter('cc');
export const options = { duration: '30s', thresholds: JSON.parse(__ENV.THRESHOLDS) };
export default function () { cc.add(1); sleep(0.1); }
export function teardown() { console.log('torn down'); }
export function handleSummary(data) { return { 'data.json': JSON.stringify(data) }; }
";

fn counting(thresholds: &Value, arguments: &str) -> (Folder, Launch) {
    let folder = Folder::with("script.js", COUNTS);
    let launch = Launch::volley(folder.path())
        .words("run -q script.js")
        .words(arguments)
        .args(["-e", &format!("THRESHOLDS={thresholds}")]);
    (folder, launch)
}

#[test]
fn a_threshold_may_end_the_run_and_then_teardown_and_summary_follow() {
    let aborts = json!({"threshold": "count<3", "abortOnFail": true});
    let thresholds =
        json!({"cc": [aborts], "iterations": ["count<2"], "iteration_duration": ["max<9000"]});
    let (folder, launch) = counting(&thresholds, "");
    let finished = launch.run().expect(99);
    // Whatever else is crossed at that moment is named too.
    assert_eq!(
        finished.error().msg,
        "thresholds on metrics 'cc, iterations' were crossed; at least one has abortOnFail \
         enabled, stopping test prematurely"
    );
    assert!(finished.stderr.contains("torn down"));
    let data = folder.json("data.json");
    let ran = data["state"]["testRunDurationMs"].as_f64().expect("a time");
    // The clock of the evaluations starts a little before that of the run.
    assert!((1000.0..29_000.0).contains(&ran), "{ran}");
    assert_eq!(
        data["metrics"]["cc"]["thresholds"],
        json!({"count<3": {"ok": false}})
    );
}

#[test]
fn a_delayed_threshold_waits_for_the_run_clock_to_pass_it() {
    let aborts = json!({"threshold": "count<1", "abortOnFail": true, "delayAbortEval": "2500ms"});
    let (folder, launch) = counting(&json!({"cc": [aborts]}), "");
    launch.run().expect(99);
    let ran = folder.json("data.json")["state"]["testRunDurationMs"].clone();
    let ran = ran.as_f64().expect("a time");
    assert!((2_500.0..29_000.0).contains(&ran), "{ran}");
}

#[test]
fn a_crossed_threshold_shows_over_the_api_while_the_run_goes_on() {
    let port = free_port();
    let thresholds = json!({"cc": ["count<1"], "iterations": ["count>=0"]});
    let address = format!("--address=127.0.0.1:{port}");
    let (_folder, launch) = counting(&thresholds, &address);
    let mut running = launch.start();
    let ask = |path: &str| -> Option<Value> {
        let reply = request(port, "GET", path, None, Duration::from_secs(5)).ok()?;
        Some(reply.json()["data"]["attributes"].clone())
    };
    let status = running.until("a tainted run", |_| {
        ask("/v1/status").filter(|status| status["tainted"] == true)
    });
    assert_eq!(
        (&status["running"], &status["stopped"]),
        (&json!(true), &json!(false))
    );
    let tainted = |name: &str| {
        let metric = ask(&format!("/v1/metrics/{name}"));
        metric.map(|metric| metric["tainted"].clone())
    };
    assert_eq!(tainted("cc"), Some(json!(true)));
    assert_eq!(tainted("iterations"), Some(json!(false)));
    // Nothing is judged of a metric without a threshold.
    assert_eq!(tainted("iteration_duration"), Some(json!(null)));
    let stop =
        json!({"data": {"type": "status", "id": "default", "attributes": {"stopped": true}}});
    let reply = request(
        port,
        "PATCH",
        "/v1/status",
        Some(&stop.to_string()),
        PATIENCE,
    );
    assert_eq!(reply.expect("an answer").status, 200);
    let finished = running.finish().expect(103);
    assert!(
        !finished.stderr.contains("have been crossed"),
        "{}",
        finished.stderr
    );
}
