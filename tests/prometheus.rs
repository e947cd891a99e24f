//! Several agents and a Prometheus that scrapes them: what adds up over a fleet.

mod support;

use std::{collections::BTreeMap, time::Duration};

use support::{Folder, Launch, Prometheus, Running, Target, free_port, request, until};

const LIMIT: Duration = Duration::from_secs(5);

/// An agent whose page is at a port.
struct Agent {
    process: Running,
    port: u16,
}

impl Agent {
    fn start(folder: &Folder, port: u16, out: &str, arguments: &str) -> Self {
        let out = format!("prometheus=namespace=k6&port={port}{out}");
        let launch = Launch::volley(folder.path())
            .args(["run", "--out", &out])
            .words(arguments);
        Self {
            process: launch.start(),
            port,
        }
    }

    #[track_caller]
    fn page(&self) -> String {
        let reply = request(self.port, "GET", "/metrics", None, LIMIT).expect("a page");
        assert_eq!(reply.status, 200);
        reply.body
    }
}

/// Segments of so many equal parts.
fn segments(parts: usize) -> Vec<String> {
    let point = |n: usize| match n {
        0 => "0".to_owned(),
        n if n == parts => "1".to_owned(),
        n => format!("{n}/{parts}"),
    };
    let sequence: Vec<String> = (0..=parts).map(point).collect();
    let flags = (0..parts).map(|n| {
        format!(
            "--execution-segment {}:{} --execution-segment-sequence {}",
            point(n),
            point(n + 1),
            sequence.join(",")
        )
    });
    flags.collect()
}

/// Every other iteration takes ten times as long, and these are all of one instance: no mean of
/// what the two say is what all values say.
const LOPSIDED: &str = "import { Trend } from 'k6/metrics';
import exec from 'k6/execution';
const took = new Trend('took', true);
export const options = {
  scenarios: { all: { executor: 'shared-iterations', vus: 4, iterations: 2000 } },
  summaryTrendStats: ['med', 'p(90)', 'p(95)', 'p(99)', 'max'],
};
export default function () {
  const n = exec.scenario.iterationInTest;
  took.add(1.002 ** n * (n % 2 ? 10 : 1));
}";

/// The widest bucket of a native histogram, as a factor.
const BUCKET: f64 = 1.0905077326652577;

#[test]
fn quantiles_of_two_instances_are_those_of_all_values() {
    let bounds = [1.0, 2.0, 5.0, 10.0, 20.0, 50.0, 100.0, 200.0, 500.0, 1000.0];
    let ports = [free_port(), free_port()];
    let (Some(classic), Some(native)) = (Prometheus::start(&ports), Prometheus::native(&ports))
    else {
        return;
    };
    let folder = Folder::with("script.js", LOPSIDED);
    let whole = Launch::volley(folder.path()).words("run script.js --summary-export whole.json");
    whole.run().expect(0);
    let whole = &folder.json("whole.json")["metrics"]["took"];
    let exact = |stat: &str| whole[stat].as_f64().expect("a stat");

    let out = format!(
        "&trend=both&buckets={}",
        bounds.map(|bound| bound.to_string()).join(",")
    );
    let agents: Vec<Agent> = segments(2)
        .iter()
        .zip(ports)
        .map(|(segment, port)| {
            let arguments = format!("script.js --linger {segment}");
            Agent::start(&folder, port, &out, &arguments)
        })
        .collect();

    // Prometheus that does not ask for protocol buffers has all values in classic histograms.
    classic.until("sum(k6_took_histogram_count)", 2000.0);
    classic.until("sum(k6_took_count)", 2000.0);
    // The other takes the native ones of the same family.
    native.until("sum(histogram_count(k6_took_histogram))", 2000.0);
    assert_eq!(native.value("sum(k6_took_histogram_count)"), None);

    let mut alone = Vec::new();
    for (stat, share) in [
        ("med", 0.5),
        ("p(90)", 0.9),
        ("p(95)", 0.95),
        ("p(99)", 0.99),
    ] {
        let exact = exact(stat);
        let query = format!("histogram_quantile({share}, sum(k6_took_histogram))");
        let found = native.value(&query).expect("a quantile");
        assert!(
            (1.0 / BUCKET..=BUCKET).contains(&(found / exact)),
            "{stat}: {found} for {exact}"
        );
        let query = format!("histogram_quantile({share}, sum by (le) (k6_took_histogram_bucket))");
        let found = classic.value(&query).expect("a quantile");
        let above = bounds.partition_point(|&bound| bound < exact);
        assert!(
            (bounds[above - 1]..=bounds[above]).contains(&found),
            "{stat}: {found} for {exact}"
        );
        let query = format!("avg(k6_took{{quantile=\"{share}\"}})");
        alone.extend(classic.value(&query).map(|mean| mean / exact));
    }
    assert_eq!(alone.len(), 3, "the quantiles of summaries");
    assert!(
        alone.iter().any(|ratio| !(0.9..1.1).contains(ratio)),
        "the mean of the instances would have done: {alone:?}"
    );

    // The rest of the page is the same in both forms.
    for prometheus in [&classic, &native] {
        let close = |expression: &str, expected: f64| {
            let found = prometheus.value(expression).expect(expression);
            assert!(
                (found / expected - 1.0).abs() < 1e-9,
                "{expression}: {found}"
            );
        };
        close("sum(k6_iterations)", 2000.0);
        close("sum(k6_took_count)", 2000.0);
        close("max(k6_took{quantile=~\"1|1.0\"})", exact("max"));
        close("count(k6_took_current)", 2.0);
        close("count(volley_run_info{instances=\"2\"})", 2.0);
        close("count(volley_run_info{segment=\"1/2:1\"})", 1.0);
        close("count(count by (script_sha256) (volley_run_info))", 1.0);
        close("count(process_start_time_seconds)", 2.0);
        close("count(volley_worker_lag_seconds_count)", 2.0);
    }
    let sum = |query: &str| native.value(query).expect("a sum");
    let [histogram, summary] =
        ["sum(histogram_sum(k6_took_histogram))", "sum(k6_took_sum)"].map(sum);
    assert!((histogram / summary - 1.0).abs() < 1e-9);

    for agent in agents {
        agent.process.interrupt();
        let finished = agent.process.finish().expect(0);
        assert_eq!(finished.stderr, "");
    }
}

#[test]
fn the_run_is_named_on_the_page_by_the_script_it_runs() {
    let script = "export default () => {};";
    let folder = Folder::with("script.js", script);
    let sum = Launch::program("sha256sum", folder.path())
        .words("script.js")
        .run()
        .expect(0);
    let sum = sum
        .stdout
        .split_whitespace()
        .next()
        .expect("a sum")
        .to_owned();
    Launch::volley(folder.path())
        .words("archive script.js")
        .run()
        .expect(0);
    let version = env!("CARGO_PKG_VERSION");
    for (arguments, segment, instances) in [
        ("script.js", "0:1", 1),
        ("archive.tar", "0:1", 1),
        ("script.js --execution-segment 1/4:1/2", "1/4:1/2", 3),
        (
            "script.js --execution-segment 2/4:3/4 --execution-segment-sequence 0,1/4,2/4,3/4,1",
            "1/2:3/4",
            4,
        ),
    ] {
        let agent = Agent::start(&folder, free_port(), "", &format!("{arguments} --paused"));
        let line = format!(
            "volley_run_info{{segment=\"{segment}\",instances=\"{instances}\",script_sha256=\"{sum}\",\
             version=\"{version}\"}} 1"
        );
        until(&line, || {
            let reply = request(agent.port, "GET", "/metrics", None, LIMIT).ok()?;
            reply.body.lines().any(|found| found == line).then_some(())
        });
    }
}

#[test]
fn series_beyond_the_limit_are_said_once_and_counted_by_the_summary() {
    let (target, port) = (Target::start().expect("a target"), free_port());
    let script = "import http from 'k6/http';
        export default function () { http.get(`${__ENV.TARGET}/${__ITER}`); }";
    let folder = Folder::with("script.js", script);
    let arguments = format!("script.js --linger -i 50 -e TARGET={}", target.url());
    let mut agent = Agent::start(&folder, port, "&max_series=20", &arguments);
    let name = "volley_prometheus_overflow_series_total{metric=\"http_reqs\"}";
    agent.process.until_printed("--linger was enabled");
    until("the last samples", || {
        let page = agent.page();
        let line = page.lines().find(|line| line.starts_with(name))?;
        let many: f64 = line.rsplit(' ').next()?.parse().ok()?;
        (40.0..50.0).contains(&many).then_some(())
    });
    agent.process.interrupt();
    let finished = agent.process.finish().expect(0);
    assert_eq!(finished.summary("http_reqs"), 50.0);
    let warnings = finished.logged("warning");
    let [warning] = &warnings[..] else {
        panic!("{}", finished.account())
    };
    assert!(warning.msg.contains("20 (max_series)"), "{}", warning.msg);

    // Without the label that is new each time there is no need for more.
    let arguments = arguments.replace("--linger", "");
    let out = "&max_series=20&drop=url,name";
    let agent = Agent::start(&folder, free_port(), out, &arguments);
    assert_eq!(agent.process.finish().expect(0).stderr, "");
}

// === The page of the documentation ===

/// The queries of the page by what has to be there for them: the words after `promql`.
fn queries() -> BTreeMap<&'static str, Vec<&'static str>> {
    let page = include_str!("../docs/prometheus.md");
    let mut queries: BTreeMap<&str, Vec<&str>> = BTreeMap::new();
    for block in page.split("\n```promql").skip(1) {
        let (needs, rest) = block.split_once('\n').expect("a line");
        let (query, _) = rest.split_once("\n```").expect("an end");
        queries.entry(needs.trim()).or_default().push(query);
    }
    queries
}

#[test]
fn the_documentation_has_every_setting() {
    let folder = Folder::with("script.js", "export default () => {};");
    let finished = Launch::volley(folder.path())
        .words("run script.js --out prometheus=nonsense=1")
        .run()
        .expect(255);
    let error = finished.error().msg;
    let (_, keys) = error.split_once("the keys are ").expect("a list");
    let keys: Vec<&str> = keys
        .split(", ")
        .flat_map(|key| key.split(" and "))
        .collect();
    let page = include_str!("../docs/prometheus.md");
    let (_, table) = page
        .split_once("| key | meaning | default |")
        .expect("a table");
    let (table, _) = table.split_once("\n\n").expect("its end");
    let rows = table
        .lines()
        .filter_map(|line| line.strip_prefix("| `")?.split('|').next());
    let documented: Vec<&str> = rows
        .flat_map(|names| names.split(", "))
        .map(|name| name.trim().trim_matches('`'))
        .collect();
    assert_eq!(documented, keys);
    // The bounds, as a page has them.
    folder.write(
        "script.js",
        "import { Trend } from 'k6/metrics';
        const own = new Trend('own');
        export default function () { own.add(1); }",
    );
    let agent = Agent::start(
        &folder,
        free_port(),
        "&trend=histogram",
        "script.js --linger",
    );
    let bounds = until("the bounds", || {
        let page = request(agent.port, "GET", "/metrics", None, LIMIT)
            .ok()?
            .body;
        let lines = page.lines();
        let lines = lines.filter(|line| line.starts_with("k6_own_histogram_bucket"));
        let bounds = lines.filter_map(|line| Some(line.split_once("le=\"")?.1.split_once('"')?.0));
        let bounds: Vec<String> = bounds.map(str::to_owned).collect();
        (!bounds.is_empty()).then_some(bounds)
    });
    let (last, bounds) = bounds.split_last().expect("bounds");
    assert_eq!(last, "+Inf");
    assert!(
        table.contains(&format!("`{}`", bounds.join(","))),
        "{bounds:?}"
    );
}

const STEADY: &str = "import http from 'k6/http';
import { check } from 'k6';
export const options = { scenarios: { steady: {
  executor: 'constant-arrival-rate', rate: 60, duration: '10m', preAllocatedVUs: 6,
} } };
export default function () {
  const page = http.get(`${__ENV.TARGET}/page`);
  check(page, { ok: (r) => r.status === 200 });
}";

#[test]
fn every_query_of_the_documentation_returns_data() {
    const RUNNERS: usize = 3;
    let target = Target::start().expect("a target");
    let ports: Vec<u16> = (0..=RUNNERS).map(|_| free_port()).collect();
    let (Some(classic), Some(native)) = (Prometheus::start(&ports), Prometheus::native(&ports))
    else {
        return;
    };
    let folder = Folder::with("script.js", STEADY);
    folder.write("other.js", STEADY.replace("/page", "/other"));
    let run = format!("-e TARGET={}", target.url());
    let mut agents: Vec<Agent> = segments(RUNNERS)
        .iter()
        .zip(&ports)
        .map(|(segment, &port)| {
            Agent::start(
                &folder,
                port,
                "&trend=both",
                &format!("script.js {run} {segment}"),
            )
        })
        .collect();
    let queries = queries();
    let check = |needs: &str, prometheus: &Prometheus| {
        let queries = queries.get(needs).map(Vec::as_slice);
        let queries = queries.filter(|queries| !queries.is_empty());
        for query in queries.unwrap_or_else(|| panic!("no query needs {needs:?}")) {
            until(query, || {
                let values = prometheus.values(query);
                (!values.is_empty() && values.iter().all(|value| value.is_finite())).then_some(())
            });
        }
    };
    check("", &classic);
    check("native", &native);
    // For a moment a scrape may fail on a busy machine; one that is lost stays so.
    let nobody_is_lost = |prometheus: &Prometheus| {
        for query in &queries["lost"] {
            let none = || prometheus.values(query).is_empty().then_some(());
            until(&format!("nothing from {query}"), none);
        }
    };
    for prometheus in [&classic, &native] {
        prometheus.until("count(volley_run_info)", RUNNERS as f64);
        nobody_is_lost(prometheus);
    }
    // Another test at the same time, which is complete.
    let arguments = format!("other.js {run}");
    agents.push(Agent::start(
        &folder,
        ports[RUNNERS],
        "&max_series=5",
        &arguments,
    ));
    check("overflow", &classic);
    nobody_is_lost(&classic);
    drop(agents.remove(1));
    check("lost", &classic);
    check("lost", &native);
    let known = ["", "lost", "native", "overflow"];
    assert!(
        queries.keys().all(|needs| known.contains(needs)),
        "{:?}",
        queries.keys()
    );
}
