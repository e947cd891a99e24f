//! The end-of-test summary as the program prints and writes it. The formats themselves are
//! tested where they are made; here it is about what reaches them.

mod support;

use serde_json::json;
use support::{Finished, Folder, Launch, Target};

/// Groups in the default scenario, scenarios with a name, and a setup with a group of its own.
const GROUPS_AND_SCENARIOS: &str = r#"
import { check, group } from 'k6';
import { Counter, Trend } from 'k6/metrics';
const think = new Trend('think_time', true);
const orders = new Counter('orders');
const one = { executor: 'per-vu-iterations', vus: 1 };
export const options = {
  scenarios: {
    web: { ...one, iterations: 2, exec: 'web' },
    api: { ...one, iterations: 1, exec: 'api' },
    default: { ...one, iterations: 3 },
  },
  thresholds: { 'think_time{group:::alpha}': ['max>1'], orders: ['count==7'] },
};
export function setup() {
  think.add(5);
  group('prepare', () => { orders.add(1); });
}
export function web() {
  think.add(0.5);
  group('login', () => { check(1, { 'logged in': true }); think.add(61500); });
}
export function api() { think.add(0.5); }
export function teardown() { think.add(7); }
export default function () {
  group('zeta', () => {
    check(1, { 'zeta ok': true });
    think.add(250);
    group('inner', () => { check(1, { 'inner flaky': __ITER < 2 }); orders.add(2); });
  });
  group('alpha', () => think.add(1500));
}
"#;

/// What follows the totals of the script above, with `R` for every number per second.
const SECTIONS: &str = "  █ GROUP: setup\u{20}

    ↳ GROUP: prepare\u{20}

      CUSTOM
      orders...: 1 R


  █ GROUP: zeta\u{20}

    checks_total.......: 3       R
    checks_succeeded...: 100.00% 3 out of 3
    checks_failed......: 0.00%   0 out of 3

    ✓ zeta ok

    CUSTOM
    think_time...: count=3 max=250.00ms

    ↳ GROUP: inner\u{20}

      checks_total.......: 3      R
      checks_succeeded...: 66.66% 2 out of 3
      checks_failed......: 33.33% 1 out of 3

      ✗ inner flaky
          ↳  66% — ✓ 2 / ✗ 1

      CUSTOM
      orders...: 6 R


  █ GROUP: alpha\u{20}

    CUSTOM
    think_time...: count=3 max=1500.00ms


  █ SCENARIO: api\u{20}

    CUSTOM
    think_time...........: count=1 max=0.50ms

    EXECUTION
    iteration_duration...: count=1 T
    iterations...........: 1   R

    NETWORK
    data_received........: 0 B 0 B/s
    data_sent............: 0 B 0 B/s


  █ SCENARIO: web\u{20}

    checks_total.......: 2       R
    checks_succeeded...: 100.00% 2 out of 2
    checks_failed......: 0.00%   0 out of 2

    ✓ logged in

    CUSTOM
    think_time...........: count=4 max=61500.00ms

    EXECUTION
    iteration_duration...: count=2 T
    iterations...........: 2   R

    NETWORK
    data_received........: 0 B 0 B/s
    data_sent............: 0 B 0 B/s

    ↳ GROUP: login\u{20}

      checks_total.......: 2       R
      checks_succeeded...: 100.00% 2 out of 2
      checks_failed......: 0.00%   0 out of 2

      ✓ logged in

      CUSTOM
      think_time...: count=2 max=61500.00ms



";

#[track_caller]
fn run(script: &str, arguments: &str) -> (Folder, Finished) {
    let folder = Folder::with("script.js", script);
    let finished = Launch::volley(folder.path())
        .words("run -q script.js")
        .words(arguments)
        .run();
    (folder, finished)
}

/// The text without what depends on the clock: rates, and the duration of iterations with the
/// padding that it causes.
fn steady(text: &str) -> String {
    let steady = |line: &str| {
        let line = line.trim_end();
        let (before, last) = line.rsplit_once(' ').unwrap_or(("", line));
        let rate = last.strip_suffix("/s").map(str::parse::<f64>);
        if matches!(rate, Some(Ok(_))) {
            format!("{before} R\n")
        } else if before.contains("iteration_duration") {
            format!("{before} T\n")
        } else if line.contains('█') || line.contains("GROUP:") {
            format!("{line} \n")
        } else {
            format!("{line}\n")
        }
    };
    text.lines().map(steady).collect()
}

#[test]
fn a_full_summary_has_a_section_for_each_group_and_scenario() {
    let arguments = "--summary-mode full --summary-trend-stats count,max --summary-time-unit ms";
    let script = GROUPS_AND_SCENARIOS;
    let (_folder, finished) = run(script, arguments);
    let finished = finished.expect(0);
    let text = steady(&finished.stdout);
    let (totals, rest) = text.split_once("  █ GROUP").expect("sections");
    assert_eq!(format!("  █ GROUP{rest}"), SECTIONS);
    for line in [
        "  █ THRESHOLDS \n",
        "    ✓ 'count==7' count=7\n",
        "    checks_succeeded...: 87.50% 7 out of 8\n",
        // Totals have what setup and teardown did themselves.
        "    think_time............: count=13 max=61500.00ms\n",
        "      { group:::alpha }...: count=3  max=1500.00ms\n",
    ] {
        assert!(totals.contains(line), "no {line:?} in {totals}");
    }

    let (_folder, finished) = run(script, "");
    let compact = finished.expect(0).stdout;
    assert!(
        !compact.contains("GROUP:") && !compact.contains("SCENARIO:"),
        "{compact}"
    );
}

#[test]
fn checks_are_listed_as_they_come_whatever_their_group() {
    let (_folder, finished) = run(
        "import { check, group } from 'k6';
         export default function () {
           group('outer', () => group('inner', () => check(1, { second: true, again: false })));
           check(1, { third: true, again: true });
         }",
        "",
    );
    let text = finished.expect(0).stdout;
    let checks: Vec<&str> = text
        .lines()
        .map(str::trim_start)
        .filter(|line| line.starts_with(['✓', '✗', '↳']))
        .collect();
    assert_eq!(
        checks,
        ["✓ second", "✗ again", "↳  50% — ✓ 1 / ✗ 1", "✓ third"]
    );
}

#[test]
fn the_phases_of_requests_are_shown_in_full_mode_in_the_text_and_for_machines() {
    let target = Target::start().expect("a target");
    let script = "import http from 'k6/http';
        export default function () { http.get(__ENV.TARGET); }
        export function handleSummary(data) { return { 'data.json': JSON.stringify(data) }; }";
    for (mode, shown) in [("compact", false), ("full", true)] {
        let folder = Folder::with("script.js", script);
        let target = format!("TARGET={}", target.url());
        Launch::volley(folder.path())
            .words("run -q script.js --new-machine-readable-summary --summary-export export.json")
            .words(&format!("--summary-mode {mode} -e {target}"))
            .run()
            .expect(0);
        for file in ["data.json", "export.json"] {
            let data = folder.json(file);
            assert_eq!(data["version"], "1.0.0");
            assert_eq!(data["config"]["script"], script);
            let metrics = data["results"]["metrics"].as_array().expect("metrics");
            let has = |name: &str| metrics.iter().any(|metric| metric["name"] == name);
            assert_eq!(has("http_req_waiting"), shown, "{mode} {file}");
            assert!(has("http_req_duration") && has("http_reqs") && !has("checks"));
            assert_eq!(
                data["results"]["checks"],
                json!({"metrics": [], "results": []})
            );
        }
    }
}

#[test]
fn the_export_has_values_beside_each_other_and_crossed_thresholds_as_true() {
    let script = "import { check, group } from 'k6';
        export const options = { thresholds: { checks: ['rate>0.9'], iterations: ['count>0'] } };
        export function setup() { return { token: 7 }; }
        export default function () { group('g', () => check(1, { ok: true, not: false })); }";
    let (folder, finished) = run(script, "--summary-export export.json --summary-mode full");
    finished.expect(99);
    let text = folder.read("export.json");
    assert!(
        text.starts_with("{\n    \"") && text.ends_with('}'),
        "{text}"
    );
    let data = folder.json("export.json");
    assert_eq!(
        data["metrics"]["checks"],
        json!({"value": 0.5, "passes": 1, "fails": 1, "thresholds": {"rate>0.9": true}})
    );
    assert_eq!(
        data["metrics"]["iterations"]["thresholds"],
        json!({"count>0": false})
    );
    assert_eq!(
        data["root_group"]["groups"]["g"]["checks"]["ok"]["passes"],
        1
    );
    assert_eq!(data["setup_data"], json!({"token": 7}));
    assert!(data["options"].is_null() && data["state"].is_null());
    assert!(data["metrics"]["group_duration"].is_object());
}

#[test]
fn a_disabled_summary_calls_nobody_and_writes_nothing() {
    let script = "export default function () {}
        export function handleSummary() { console.log('called'); return { stdout: 'text' }; }";
    let (folder, finished) = run(
        script,
        "--summary-mode disabled --summary-export export.json",
    );
    let finished = finished.expect(0);
    assert_eq!((&*finished.stdout, &*finished.stderr), ("", ""));
    assert!(!folder.file("export.json").exists());
}

#[test]
fn virtual_users_are_shown_once_the_run_is_a_second_old() {
    let script = "import { sleep } from 'k6';
        export const options = { vus: 2, iterations: 2 };
        export default function () { sleep(1.5); }";
    let (_folder, finished) = run(script, "");
    let text = finished.expect(0).stdout;
    let line = |start: &str| {
        let mut lines = text.lines().map(str::trim);
        lines
            .find(|line| line.starts_with(start))
            .map(str::to_owned)
    };
    assert!(line("vus..").is_some(), "{text}");
    assert!(
        line("vus_max..").expect("a line").ends_with(" max=2"),
        "{text}"
    );
}
