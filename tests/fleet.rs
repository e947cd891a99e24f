//! Three containers that share the load of one script from one volume, and a Prometheus in a
//! fourth: their totals are those of the whole, and one that is killed is missed.
//!
//! `VOLLEY_FLEET_SECONDS` says how long the ramp is.

#[path = "support/podman.rs"]
mod podman;

use std::{
    fs,
    path::{Path, PathBuf},
    process::{Command, Output},
    thread,
    time::{Duration, Instant},
};

use podman::{Cases, Image, Running, both, done, exists, http, run, text};
use serde_json::{Value, json};

const CASES: &Cases = &[
    ("a fleet adds up to the whole", adds_up),
    ("a member that is killed is missed", misses_one),
];

const MEMBERS: usize = 3;
/// Iterations per second at the end of the ramp.
const RATE: u64 = 60;
/// Time for the containers to get ready.
const READY: u64 = 15;

/// Each agent asks its own API: no other server is needed, and nothing leaves a container.
const RAMP: &str = "
import http from 'k6/http';
import { check } from 'k6';
export const options = { scenarios: { ramp: {
  executor: 'ramping-arrival-rate', startRate: 0, timeUnit: '1s', preAllocatedVUs: 60,
  stages: [{ target: Number(__ENV.RATE), duration: `${__ENV.SECONDS}s` }],
} } };
export default function () {
  check(http.get('http://127.0.0.1:6565/v1/status'), { ok: (r) => r.status === 200 });
}
";

/// How long anything may take beside the ramp.
const PATIENCE: Duration = Duration::from_secs(60);

#[test]
fn fleet() {
    run(CASES);
}

fn seconds() -> u64 {
    let given = std::env::var_os("VOLLEY_FLEET_SECONDS");
    given.map_or(12, |text| text.to_string_lossy().parse().expect("seconds"))
}

fn root() -> &'static Path {
    Path::new(concat!(env!("CARGO_MANIFEST_DIR"), "/.."))
}

// === Agents ===

/// A volume with a script that no other test has.
fn volume(image: &Image, name: &str) -> PathBuf {
    let folder = image.folder.path().join(name);
    fs::create_dir(&folder).expect("a folder");
    fs::write(folder.join("test.js"), format!("// {name}{RAMP}")).expect("a script");
    folder
}

/// An agent that runs its part, or all of it, from that instant on.
fn agent(image: &Image, volume: &Path, part: Option<usize>, start: &str) -> Running {
    let mut container = image
        .container()
        .unprivileged()
        .read_only()
        .option(&format!("--volume={}:/test:ro", volume.display()))
        .option(&format!("--env=RATE={RATE}"))
        .option(&format!("--env=SECONDS={}", seconds()));
    let mut words = vec![
        "run".to_owned(),
        "--quiet".to_owned(),
        "--address=0.0.0.0:6565".to_owned(),
        format!("--start-at={start}"),
    ];
    if let Some(part) = part {
        container = container
            .option(&format!("--env=VOLLEY_INSTANCES={MEMBERS}"))
            .option(&format!("--env=VOLLEY_INSTANCE={part}"));
        words.push("--execution-segment=auto".to_owned());
        words.push("--out=prometheus=namespace=k6".to_owned());
        words.push(format!("--tag=instance_id={part}"));
    }
    words.push("/test/test.js".to_owned());
    let words: Vec<&str> = words.iter().map(String::as_str).collect();
    container.arguments(&words).start()
}

fn members(image: &Image, volume: &Path, start: &str) -> Vec<Running> {
    let parts = 0..MEMBERS;
    parts
        .map(|part| agent(image, volume, Some(part), start))
        .collect()
}

/// An instant for `--start-at`, so many seconds from now.
fn instant_in(seconds: u64) -> String {
    let when = format!("+{seconds} seconds");
    let told = done(Command::new("date").args(["-u", "-d", &when, "+%Y-%m-%dT%H:%M:%SZ"]));
    text(&told.stdout).trim().to_owned()
}

/// The number after a name in the summary; 0 where it is not there.
fn summary(output: &Output, name: &str) -> u64 {
    let stdout = text(&output.stdout);
    let line = stdout.lines().find_map(|line| {
        let rest = line.trim_start().strip_prefix(name)?;
        rest.trim_start_matches('.')
            .strip_prefix(": ")
            .map(str::to_owned)
    });
    line.map_or(0, |rest| {
        let number = rest.split_whitespace().next().expect("a number");
        number.parse().unwrap_or_else(|e| panic!("{number}: {e}"))
    })
}

/// What has been started of what was due.
struct Totals {
    iterations: u64,
    dropped: u64,
    requests: u64,
}

#[track_caller]
fn totals(outputs: &[Output]) -> Totals {
    for output in outputs {
        assert_eq!(output.status.code(), Some(0), "{}", both(output));
    }
    let sum = |name| outputs.iter().map(|output| summary(output, name)).sum();
    Totals {
        iterations: sum("iterations"),
        dropped: sum("dropped_iterations"),
        requests: sum("http_reqs"),
    }
}

// === Prometheus ===

/// The Prometheus of Debian's package, in a container beside the agents.
struct Prometheus {
    run: Running,
    folder: PathBuf,
}

impl Prometheus {
    /// `None` where it is not installed.
    fn start(image: &Image, name: &str) -> Option<Self> {
        const PROGRAM: &str = "/usr/bin/prometheus";
        if !exists(PROGRAM) {
            let required = std::env::var_os("VOLLEY_REQUIRE_PEERS").is_some_and(|v| v == "1");
            assert!(
                !required,
                "there is no {PROGRAM}, and VOLLEY_REQUIRE_PEERS=1"
            );
            println!("there is no {PROGRAM}: nobody to be scraped by");
            return None;
        }
        let folder = image.folder.path().join(name);
        fs::create_dir(&folder).expect("a folder");
        let config = "global: { scrape_interval: 1s, evaluation_interval: 1s }\n\
            scrape_configs:\n\
            - job_name: agents\n  \
              file_sd_configs: [{ files: [/config/targets.json], refresh_interval: 1s }]\n";
        fs::write(folder.join("prometheus.yml"), config).expect("a file");
        fs::write(folder.join("targets.json"), "[]").expect("a file");
        let container = image
            .container()
            .unprivileged()
            .read_only()
            .option(&format!("--volume={PROGRAM}:{PROGRAM}:ro"))
            .option(&format!("--volume={}:/config:ro", folder.display()));
        let mut run = container
            .command(&[
                PROGRAM,
                "--config.file=/config/prometheus.yml",
                "--storage.tsdb.path=/tmp/data",
                "--web.listen-address=0.0.0.0:9090",
            ])
            .start();
        run.until("a Prometheus", |at| {
            let (status, _) = http(at, 9090, "GET", "/-/ready", "")?;
            (status == 200).then_some(())
        });
        Some(Self { run, folder })
    }

    /// Has it scrape these, as pods of a test of that name.
    fn scrape(&self, testrun: &str, members: &[Running]) {
        let targets: Vec<Value> = members
            .iter()
            .enumerate()
            .map(|(n, member)| {
                json!({
                    "targets": [format!("{}:5656", member.address)],
                    "labels": { "testrun": testrun, "pod": format!("{testrun}-{n}") },
                })
            })
            .collect();
        let whole = self.folder.join("whole");
        fs::write(&whole, json!(targets).to_string()).expect("a file");
        fs::rename(whole, self.folder.join("targets.json")).expect("a file");
    }

    /// The values that an expression has now.
    fn values(&self, expression: &str) -> Vec<f64> {
        let escaped: String = expression
            .bytes()
            .map(|byte| format!("%{byte:02X}"))
            .collect();
        let path = format!("/api/v1/query?query={escaped}");
        let (status, body) =
            http(self.run.address, 9090, "GET", &path, "").expect("an answer of Prometheus");
        assert_eq!(status, 200, "{expression}: {body}");
        let answer: Value = serde_json::from_str(&body).expect("JSON");
        let list = answer["data"]["result"].as_array().expect("a list").iter();
        let text = |sample: &Value| sample["value"][1].as_str().map(str::to_owned);
        list.map(|sample| text(sample).expect("a value").parse().expect("a number"))
            .collect()
    }

    /// Waits until an expression has these values.
    #[track_caller]
    fn until(&self, expression: &str, what: &str, is_so: impl Fn(&[f64]) -> bool) -> Vec<f64> {
        let end = Instant::now() + PATIENCE;
        loop {
            let values = self.values(expression);
            if is_so(&values) {
                return values;
            }
            assert!(
                Instant::now() < end,
                "{expression} is {values:?} and not {what}"
            );
            thread::sleep(Duration::from_millis(100));
        }
    }

    #[track_caller]
    fn until_is(&self, expression: &str, expected: f64) {
        self.until(expression, &expected.to_string(), |values| {
            *values == [expected]
        });
    }
}

/// The query of docs/prometheus.md that is marked so.
fn documented(mark: &str) -> String {
    let page = fs::read_to_string(root().join("docs/prometheus.md")).expect("a page");
    let (_, rest) = page
        .split_once(&format!("```promql {mark}\n"))
        .unwrap_or_else(|| panic!("no query {mark}"));
    rest.split("```").next().expect("a query").to_owned()
}

/// Title and query of each panel of the chart's dashboard.
fn dashboard() -> Vec<(String, String)> {
    let file = root().join("charts/volley/files/dashboard.json");
    let board: Value = serde_json::from_slice(&fs::read(file).expect("a dashboard")).expect("JSON");
    let panels = board["panels"].as_array().expect("panels").iter();
    let queries = panels.flat_map(|panel| {
        let title = panel["title"].to_string();
        let targets = panel["targets"].as_array().into_iter().flatten();
        targets.map(move |target| {
            let query = target["expr"].as_str().expect("a query");
            let query = query
                .replace("$__rate_interval", "8s")
                .replace("$testrun", ".*");
            (title.clone(), query)
        })
    });
    queries.collect()
}

// === The cases ===

fn adds_up(image: &Image) {
    let Some(prometheus) = Prometheus::start(image, "prometheus-1") else {
        return;
    };
    let volume = volume(image, "fleet");
    let start = instant_in(READY);
    let mut whole = agent(image, &volume, None, &start);
    let mut members = members(image, &volume, &start);
    prometheus.scrape("fleet", &members);
    prometheus.until_is("count(volley_run_info{instances=\"3\"})", 3.0);
    // All are there: nobody is missed.
    assert!(prometheus.values(&documented("lost")).is_empty());

    let mut shown = 0;
    for (title, query) in dashboard() {
        // Throttling is counted where there is a quota.
        if query.contains("volley_cpu_throttled") {
            continue;
        }
        prometheus.until(&query, &format!("data for {title}"), |values| {
            !values.is_empty()
        });
        shown += 1;
    }
    assert!(shown > 15, "{shown}");

    let outputs: Vec<Output> = members.iter_mut().map(Running::finish).collect();
    let parts = totals(&outputs);
    let whole = totals(&[whole.finish()]);
    println!(
        "{} s: {} iterations of {MEMBERS} agents and {} dropped; {} of one agent and {} dropped; \
         {shown} queries of the dashboard have data",
        seconds(),
        parts.iterations,
        parts.dropped,
        whole.iterations,
        whole.dropped
    );
    let due = RATE * seconds() / 2;
    assert!(
        whole.iterations + whole.dropped >= due - 1,
        "{due} were due"
    );
    assert_eq!(
        parts.iterations + parts.dropped,
        whole.iterations + whole.dropped
    );
    assert_eq!(parts.requests, parts.iterations);
    // Nothing is lost between the last scrape and the end.
    for (name, expected) in [
        ("k6_iterations", parts.iterations),
        ("k6_http_reqs", parts.requests),
        ("k6_http_req_duration_count", parts.requests),
        ("k6_checks_count", parts.requests),
        ("k6_checks_sum", parts.requests),
    ] {
        let query = format!("sum(last_over_time({name}{{testrun=\"fleet\"}}[1h]))");
        prometheus.until_is(&query, expected as f64);
    }
}

fn misses_one(image: &Image) {
    let Some(prometheus) = Prometheus::start(image, "prometheus-2") else {
        return;
    };
    let volume = volume(image, "lost");
    let mut members = members(image, &volume, &instant_in(READY));
    prometheus.scrape("lost", &members);
    prometheus.until_is("count(volley_run_info)", MEMBERS as f64);
    // A quarter of the work is done in the first half of the time.
    let due = (RATE * seconds() / 2) as f64;
    let done = "sum(k6_iterations)";
    prometheus.until(done, "a quarter", |values| {
        values.first().is_some_and(|done| *done >= due / 4.0)
    });
    members.pop().expect("a member").kill();

    // The query that the docs give, and the numbers beside each other.
    let lost = documented("lost");
    prometheus.until(&lost, "one test", |values| values.len() == 1);
    prometheus.until_is("count by (script_sha256, instances) (volley_run_info)", 2.0);
    let outputs: Vec<Output> = members.iter_mut().map(Running::finish).collect();
    let left = totals(&outputs);
    assert!(left.dropped < 10, "{} dropped", left.dropped);
    let query = "sum by (instance_id) (last_over_time(k6_iterations[1h]))";
    let all = "sum(last_over_time(k6_iterations[1h]))";
    let seen = prometheus.until(all, "those that were left", |values| {
        values
            .first()
            .is_some_and(|sum| *sum >= left.iterations as f64)
    })[0];
    println!(
        "{} s: {due} due, {seen} done: {} by the two that were left, the rest by the one that was \
         killed; by agent {:?}",
        seconds(),
        left.iterations,
        prometheus.values(query)
    );
    // Two thirds are whole, and of the third there is what was scraped before its end.
    let share = due / MEMBERS as f64;
    let two = (left.iterations + left.dropped) as f64;
    assert!((two - 2.0 * share).abs() <= 3.0, "{two} of {due}");
    assert!(seen > left.iterations as f64 && seen < due - 1.0, "{seen}");
}
