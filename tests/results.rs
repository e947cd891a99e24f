//! `--result-dir`, through the whole program: what a workflow finds after each kind of end.

mod support;

use std::fs;

use serde_json::Value;
use support::{Folder, Launch, Running, Target};

const SCRIPT: &str = "import http from 'k6/http';
    import { check, group, sleep } from 'k6';
    export const options = { thresholds: { http_reqs: [`count>=${__ENV.LEAST}`] } };
    export default function () {
      const answer = http.get(`${__ENV.TARGET}/bytes/10`);
      group('page', () => { check(answer, { whole: (r) => r.body.length === 10 }); });
      if (__ENV.LONG) { console.log('done once'); sleep(600); }
    }";

fn start(folder: &Folder, target: &Target, least: u64, more: &str) -> Running {
    Launch::volley(folder.path())
        .words(&format!(
            "run -q script.js --result-dir out/results -e TARGET={} -e LEAST={least} {more}",
            target.url()
        ))
        .start()
}

fn file(folder: &Folder, name: &str) -> Option<String> {
    fs::read_to_string(folder.path().join("out/results").join(name)).ok()
}

#[test]
fn each_kind_of_end_leaves_its_outcome() {
    let target = Target::start().expect("a target");
    let folder = Folder::with("script.js", SCRIPT);
    let of = |name: &str| file(&folder, name);

    start(&folder, &target, 3, "-i 3").finish().expect(0);
    assert_eq!(of("exit_code").as_deref(), Some("0"));
    assert_eq!(of("verdict").as_deref(), Some("passed"));
    assert_eq!(of("http_reqs").as_deref(), Some("3"));
    assert_eq!(of("http_req_failed").as_deref(), Some("0"));
    let p95: f64 = of("http_req_duration_p95")
        .and_then(|text| text.parse().ok())
        .expect("a number of milliseconds");
    assert!(p95 > 0.0);
    let summary: Value = serde_json::from_str(&of("summary.json").expect("it")).expect("JSON");
    assert_eq!(summary["metrics"]["http_reqs"]["values"]["count"], 3);
    let report = of("junit.xml").expect("a report");
    assert!(report.contains("tests=\"2\" failures=\"0\""), "{report}");
    assert!(report.contains("<testcase classname=\"page\" name=\"whole\"/>"));

    start(&folder, &target, 4, "-i 3").finish().expect(99);
    assert_eq!(of("exit_code").as_deref(), Some("99"));
    assert_eq!(of("verdict").as_deref(), Some("thresholds_failed"));
    assert!(of("junit.xml").expect("it").contains("failures=\"1\""));

    let mut running = start(&folder, &target, 1, "-e LONG=1");
    running.until_logged("done once");
    assert_eq!(of("verdict").as_deref(), Some("running"));
    assert_eq!(of("summary.json"), None, "that of the last run is gone");
    running.terminate();
    running.finish().expect(105);
    assert_eq!(of("exit_code").as_deref(), Some("105"));
    assert_eq!(of("verdict").as_deref(), Some("aborted"));
    assert_eq!(of("http_reqs").as_deref(), Some("1"));

    folder.write("script.js", "throw new Error('no luck');");
    start(&folder, &target, 1, "").finish().expect(107);
    assert_eq!(of("exit_code").as_deref(), Some("107"));
    assert_eq!(of("verdict").as_deref(), Some("error"));
    assert_eq!(of("http_reqs"), None);

    folder.write("file", "");
    let finished = Launch::volley(folder.path())
        .words("run -q script.js --result-dir file/below")
        .start()
        .finish()
        .expect(255);
    assert!(
        finished
            .error()
            .msg
            .contains("'file/below' cannot be written to")
    );
}
