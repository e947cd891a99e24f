//! One number everywhere: what the summary, the JSON lines, a scrape and the target itself count.

mod support;

use std::{
    io::BufRead,
    path::Path,
    time::{Duration, Instant},
};

use serde_json::Value;
use support::{Finished, Folder, Launch, PATIENCE, Running, Target, free_port, request};

/// Requests of several kinds, with checks and a metric of its own.
const MIXED: &str = "import http from 'k6/http';
import { check, group } from 'k6';
import { Counter } from 'k6/metrics';
const own = new Counter('own');
export default function () {
  check(http.get(`${__ENV.TARGET}/count`), { ok: (r) => r.status === 200 });
  group('more', () => {
    check(http.post(`${__ENV.TARGET}/echo`, 'text'), { echoed: (r) => r.body === 'text' });
    http.get(`${__ENV.TARGET}/status/404`, { tags: { name: 'missing' } });
  });
  own.add(3);
}";

/// What a run of a test leaves behind.
struct Counted {
    finished: Finished,
    folder: Folder,
    /// The last page that was scraped.
    page: String,
}

impl Counted {
    /// What the exported summary says of a counter, or of how many values a rate has.
    #[track_caller]
    fn exported(&self, metric: &str) -> f64 {
        let metrics = &self.folder.json("summary.json")["metrics"];
        let values = &metrics[metric];
        let count = match values["count"].as_f64() {
            Some(count) => Some(count),
            None => (|| Some(values["passes"].as_f64()? + values["fails"].as_f64()?))(),
        };
        count.unwrap_or_else(|| panic!("no {metric} in {metrics}"))
    }

    /// How many lines there are of a metric, and the sum of their values.
    fn points(&self, metric: &str) -> (usize, f64) {
        points(&self.folder.file("out.json"), metric)
    }

    /// The sum over all series of a family of the scraped page.
    #[track_caller]
    fn scraped(&self, family: &str) -> f64 {
        sum(&self.page, family)
    }
}

fn points(file: &Path, metric: &str) -> (usize, f64) {
    let file = std::fs::File::open(file).expect("the JSON lines");
    let lines = std::io::BufReader::new(file).lines();
    let values: Vec<f64> = lines
        .map(|line| serde_json::from_str(&line.expect("a line")).expect("JSON"))
        .filter(|line: &Value| line["type"] == "Point" && line["metric"] == metric)
        .map(|line| line["data"]["value"].as_f64().expect("a number"))
        .collect();
    (values.len(), values.iter().sum())
}

#[track_caller]
fn sum(page: &str, family: &str) -> f64 {
    let values: Vec<f64> = page
        .lines()
        .filter(|line| {
            line.strip_prefix(family)
                .is_some_and(|rest| rest.starts_with(['{', ' ']))
        })
        .map(|line| {
            let value = line.rsplit(' ').next().unwrap_or_default();
            value.parse().unwrap_or_else(|e| panic!("{line}: {e}"))
        })
        .collect();
    assert!(!values.is_empty(), "no {family} in\n{page}");
    values.iter().sum()
}

fn scrape(port: u16) -> String {
    let reply = request(port, "GET", "/metrics", None, PATIENCE).expect("a page");
    assert_eq!(reply.status, 200, "{}", reply.body);
    reply.body
}

/// An agent with every way of counting switched on.
struct Agent {
    process: Running,
    folder: Folder,
    port: u16,
}

impl Agent {
    fn start(target: &Target, script: &str, arguments: &str) -> Self {
        let (folder, port) = (Folder::with("script.js", script), free_port());
        let process = Launch::volley(folder.path())
            .words("run -q script.js --summary-export=summary.json --out json=out.json")
            .words(&format!(
                "--out prometheus=namespace=k6&port={port}&linger=10m"
            ))
            .words(&format!("-e TARGET={} {arguments}", target.url()))
            .start();
        Self {
            process,
            folder,
            port,
        }
    }

    /// Takes the page with the last values: for that the agent lingers.
    #[track_caller]
    fn finish(mut self, code: i32) -> Counted {
        self.process.until_printed("http_reqs");
        let page = scrape(self.port);
        Counted {
            finished: self.process.finish().expect(code),
            folder: self.folder,
            page,
        }
    }
}

#[test]
fn a_whole_run_is_counted_alike_everywhere() {
    let target = Target::start().expect("a target");
    let agent = Agent::start(&target, MIXED, "--vus 7 --iterations 300");
    let counted = agent.finish(0);

    assert_eq!(target.requests(), 900);
    assert_eq!(counted.finished.summary("http_reqs"), 900.0);
    assert_eq!(counted.exported("http_reqs"), 900.0);
    assert_eq!(counted.points("http_reqs"), (900, 900.0));
    assert_eq!(counted.scraped("k6_http_reqs"), 900.0);
    assert_eq!(counted.points("http_req_duration").0, 900);
    assert_eq!(counted.scraped("k6_http_req_duration_count"), 900.0);

    assert_eq!(counted.finished.summary("iterations"), 300.0);
    assert_eq!(counted.exported("iterations"), 300.0);
    assert_eq!(counted.points("iterations"), (300, 300.0));
    assert_eq!(counted.scraped("k6_iterations"), 300.0);
    assert_eq!(counted.points("iteration_duration").0, 300);
    assert_eq!(counted.points("group_duration").0, 300);

    assert_eq!(counted.finished.summary("checks_total"), 600.0);
    assert_eq!(counted.exported("checks"), 600.0);
    assert_eq!(counted.points("checks"), (600, 600.0));

    assert_eq!(counted.exported("http_req_failed"), 900.0);
    assert_eq!(counted.points("http_req_failed"), (900, 300.0));

    assert_eq!(counted.finished.summary("own"), 900.0);
    assert_eq!(counted.points("own"), (300, 900.0));
    assert_eq!(counted.scraped("k6_own"), 900.0);

    for data in ["data_sent", "data_received"] {
        let (lines, bytes) = counted.points(data);
        assert_eq!(lines, 300);
        assert_eq!(counted.exported(data), bytes);
        assert_eq!(counted.scraped(&format!("k6_{data}")), bytes);
    }
    assert_eq!(counted.finished.stderr, "");
}

#[test]
fn a_run_that_a_signal_ends_is_counted_alike_everywhere() {
    const VUS: u64 = 8;
    let target = Target::start().expect("a target");
    let mut agent = Agent::start(&target, MIXED, &format!("--vus {VUS} --duration 10m"));
    let load = |_: &Running| (target.requests() > 500).then_some(());
    agent.process.until("load", load);
    agent.process.terminate();
    let counted = agent.finish(105);

    let requests = counted.finished.summary("http_reqs");
    assert_eq!(counted.exported("http_reqs"), requests);
    assert_eq!(counted.points("http_reqs"), (requests as usize, requests));
    assert_eq!(counted.scraped("k6_http_reqs"), requests);
    let iterations = counted.finished.summary("iterations");
    assert_eq!(counted.exported("iterations"), iterations);
    assert_eq!(
        counted.points("iterations"),
        (iterations as usize, iterations)
    );
    assert_eq!(counted.scraped("k6_iterations"), iterations);
    // What VUs were waiting for when the signal came is counted by the target alone.
    let unanswered = target.requests() - requests as u64;
    assert!(unanswered <= VUS, "{unanswered}");
}

#[test]
fn requests_that_a_signal_cuts_short_are_not_counted() {
    let script = "import http from 'k6/http';
        export default function () {
          for (let n = 0; n < 5; n++) http.get(__ENV.TARGET);
          http.get(`${__ENV.TARGET}/delay/3600000`);
        }";
    let target = Target::start().expect("a target");
    let mut agent = Agent::start(&target, script, "--vus 4 --duration 10m");
    // Five that are answered, and one that is not, of each VU.
    let all = |_: &Running| (target.requests() == 4 * 6).then_some(());
    agent.process.until("all requests", all);
    agent.process.terminate();
    let counted = agent.finish(105);

    assert_eq!(counted.finished.summary("http_reqs"), 20.0);
    assert_eq!(counted.exported("http_reqs"), 20.0);
    assert_eq!(counted.points("http_reqs"), (20, 20.0));
    assert_eq!(counted.scraped("k6_http_reqs"), 20.0);
    assert_eq!(counted.exported("http_req_failed"), 20.0);
    assert_eq!(counted.points("http_req_failed"), (20, 0.0));
    assert_eq!(counted.points("iterations"), (0, 0.0));
    // Interrupted iterations have sent and received something all the same.
    assert_eq!(counted.points("data_sent").0, 4);
    assert_eq!(counted.finished.logged("info"), []);
    assert!(!counted.finished.stderr.contains("Request Failed"));
}

// === Linger ===

/// Below the longest time that `linger=auto` waits: 30 seconds.
const AT_ONCE: Duration = Duration::from_secs(20);

/// An agent with the Prometheus output as given; told to, it waits for [`Lingering::begin`].
struct Lingering {
    process: Running,
    port: u16,
    api: u16,
}

impl Lingering {
    fn start(target: &Target, folder: &Folder, linger: &str, arguments: &str) -> Self {
        let (port, api) = (free_port(), free_port());
        folder.write(
            "script.js",
            "import http from 'k6/http';
            export default function () { http.get(__ENV.TARGET); }",
        );
        let process = Launch::volley(folder.path())
            .words("run -q script.js --out")
            .args([format!("prometheus=namespace=k6&port={port}{linger}")])
            .words(&format!(
                "--address=127.0.0.1:{api} -e TARGET={}",
                target.url()
            ))
            .words(arguments)
            .start();
        Self { process, port, api }
    }

    /// Scrapes once before the end, and begins.
    #[track_caller]
    fn begin(&mut self) {
        let port = self.port;
        self.process.until("scrape", |_| {
            request(port, "GET", "/metrics", None, PATIENCE).ok()
        });
        let start = r#"{"data":{"attributes":{"paused":false},"id":"default","type":"status"}}"#;
        let reply = request(self.api, "PATCH", "/v1/status", Some(start), PATIENCE);
        assert_eq!(reply.expect("an answer").status, 200);
    }

    /// Waits for the summary, after which the last values are in.
    #[track_caller]
    fn until_summary(&mut self) {
        self.process.until_printed("http_reqs");
    }

    /// Waits for the end, which must not be that of a longer wait.
    #[track_caller]
    fn finish_at_once(self) -> Finished {
        let begin = Instant::now();
        let finished = self.process.finish();
        assert!(begin.elapsed() < AT_ONCE, "{}", finished.account());
        finished
    }
}

#[test]
fn an_agent_that_was_scraped_waits_for_one_more_scrape() {
    let (target, folder) = (Target::start().expect("a target"), Folder::new());
    for linger in ["", "&linger=auto", "&linger=10m"] {
        let mut agent = Lingering::start(&target, &folder, linger, "-i 30 --paused");
        agent.begin();
        agent.until_summary();
        assert!(!agent.process.has_ended(), "{linger}");
        assert_eq!(sum(&scrape(agent.port), "k6_http_reqs"), 30.0, "{linger}");
        agent.finish_at_once().expect(0);
    }
}

#[test]
fn an_agent_that_was_never_scraped_waits_only_where_it_is_told_to() {
    let (target, folder) = (Target::start().expect("a target"), Folder::new());
    for linger in ["", "&linger=auto", "&linger=0", "&linger=1ms"] {
        let mut agent = Lingering::start(&target, &folder, linger, "-i 30");
        agent.until_summary();
        agent.finish_at_once().expect(0);
    }
    let mut agent = Lingering::start(&target, &folder, "&linger=10m", "-i 30");
    agent.until_summary();
    assert!(!agent.process.has_ended());
    assert_eq!(sum(&scrape(agent.port), "k6_http_reqs"), 30.0);
    agent.finish_at_once().expect(0);
}

#[test]
fn without_linger_nobody_is_waited_for() {
    let (target, folder) = (Target::start().expect("a target"), Folder::new());
    let mut agent = Lingering::start(&target, &folder, "&linger=0", "-i 30 --paused");
    agent.begin();
    agent.until_summary();
    agent.finish_at_once().expect(0);
}

#[test]
fn a_signal_ends_the_waiting_with_the_code_of_the_run() {
    let (target, folder) = (Target::start().expect("a target"), Folder::new());
    let mut agent = Lingering::start(&target, &folder, "&linger=10m", "-i 30");
    agent.until_summary();
    agent.process.terminate();
    let finished = agent.finish_at_once().expect(0);
    assert_eq!(finished.stderr, "");
}

#[test]
fn a_run_that_a_signal_ended_is_scraped_once_more_unless_another_signal_comes() {
    for again in [false, true] {
        let (target, folder) = (Target::start().expect("a target"), Folder::new());
        let mut agent = Lingering::start(&target, &folder, "", "-d 10m --paused");
        agent.begin();
        let load = |_: &Running| (target.requests() > 10).then_some(());
        agent.process.until("load", load);
        agent.process.terminate();
        agent.until_summary();
        assert!(!agent.process.has_ended());
        if again {
            agent.process.terminate();
            let finished = agent.finish_at_once().expect(105);
            let last = finished.log().pop().expect("a line");
            assert_eq!(last.msg, "Aborting k6 in response to signal");
        } else {
            let page = scrape(agent.port);
            let finished = agent.finish_at_once().expect(105);
            assert_eq!(sum(&page, "k6_http_reqs"), finished.summary("http_reqs"));
        }
    }
}

#[test]
fn a_scrape_while_the_summary_is_made_has_the_last_values() {
    let script = "import http from 'k6/http';
        export default function () { http.get(__ENV.TARGET); }
        export function handleSummary() {
          console.log('making the summary');
          http.get(`${__ENV.TARGET}/delay/300`);
          return { stdout: 'made' };
        }";
    let (target, folder, port) = (
        Target::start().expect("a target"),
        Folder::new(),
        free_port(),
    );
    folder.write("script.js", script);
    let mut process = Launch::volley(folder.path())
        .words("run -q script.js -i 30 --out json=out.json --out")
        .args([format!("prometheus=namespace=k6&linger=10m&port={port}")])
        .words(&format!("-e TARGET={}", target.url()))
        .start();
    process.until_logged("making the summary");
    let page = scrape(port);
    // It needs no other one.
    let finished = process.finish().expect(0);
    assert_eq!(finished.stdout, "made");
    // The request of the summary is counted by the target alone.
    assert_eq!(target.requests(), 31);
    assert_eq!(sum(&page, "k6_http_reqs"), 30.0);
    assert_eq!(points(&folder.file("out.json"), "http_reqs"), (30, 30.0));
}
