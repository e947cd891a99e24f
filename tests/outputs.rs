//! Outputs of the whole program: each of them counts what the target counts, whatever ends the
//! run, and none of them holds it up.

mod support;

use std::{
    collections::BTreeSet,
    io::BufRead,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use support::{
    Answer, Finished, Folder, Influx, Launch, Nginx, PATIENCE, Prometheus, Receiver, Running,
    Target,
    arrived::{self, Arrived, Tags},
    free_port,
    otlp::{GrpcAnswer, GrpcReceiver},
    request,
};

const SCRIPT: &str = "import http from 'k6/http';
import { check } from 'k6';
import exec from 'k6/execution';
export default function () {
  if (__ENV.WHO) exec.vu.metrics.tags.who = `${__VU}`;
  const page = http.get(`${__ENV.TARGET}/count`, { tags: { turn: `${__ITER % 5}` } });
  check(page, { ok: (r) => r.status === 200 });
}";

/// An agent with outputs, on its way.
fn start(target: &str, folder: &Folder, arguments: &str, env: &[(&str, String)]) -> Running {
    if !folder.file("script.js").exists() {
        folder.write("script.js", SCRIPT);
    }
    let launch = Launch::volley(folder.path())
        .words("run script.js")
        .words(&format!("-e TARGET={target} {arguments}"));
    let launch = env
        .iter()
        .fold(launch, |launch, (name, value)| launch.env(name, value));
    launch.start()
}

/// Settings of remote write, which sends often.
fn remote_write(port: u16) -> [(&'static str, String); 2] {
    [
        (
            "K6_PROMETHEUS_RW_SERVER_URL",
            format!("http://127.0.0.1:{port}/api/v1/write"),
        ),
        ("K6_PROMETHEUS_RW_PUSH_INTERVAL", "10ms".to_owned()),
    ]
}

/// The same in OTLP by gRPC.
fn otlp_by_grpc(port: u16) -> [(&'static str, String); 3] {
    [
        (
            "K6_OTEL_GRPC_EXPORTER_ENDPOINT",
            format!("127.0.0.1:{port}"),
        ),
        ("K6_OTEL_GRPC_EXPORTER_INSECURE", "true".to_owned()),
        ("K6_OTEL_EXPORT_INTERVAL", "10ms".to_owned()),
    ]
}

/// The same in OTLP by HTTP.
fn otlp_by_http(port: u16) -> [(&'static str, String); 4] {
    [
        ("K6_OTEL_EXPORTER_PROTOCOL", "http/protobuf".to_owned()),
        (
            "K6_OTEL_HTTP_EXPORTER_ENDPOINT",
            format!("127.0.0.1:{port}"),
        ),
        ("K6_OTEL_HTTP_EXPORTER_INSECURE", "true".to_owned()),
        ("K6_OTEL_EXPORT_INTERVAL", "10ms".to_owned()),
    ]
}

/// `--out` for all that send, InfluxDB at that port.
fn senders(influx: u16) -> String {
    format!(
        "--out experimental-prometheus-rw --out opentelemetry \
         --out influxdb=http://127.0.0.1:{influx}/db?pushInterval=10ms"
    )
}

// === All at once ===

/// Every output at once, some of them twice, and their receivers.
struct Everything {
    folder: Folder,
    prometheus: Receiver,
    influx: Receiver,
    otlp: GrpcReceiver,
    port: u16,
}

/// What a run with all outputs has left behind.
struct Ended<'a> {
    everything: &'a Everything,
    finished: Finished,
    /// The page for Prometheus with the last values.
    page: String,
}

impl Everything {
    fn new() -> Self {
        Self {
            folder: Folder::new(),
            prometheus: Receiver::taking(),
            influx: Receiver::taking(),
            otlp: GrpcReceiver::taking(),
            port: free_port(),
        }
    }

    fn start(&self, target: &str, arguments: &str) -> Running {
        let outputs = format!(
            "--out json=a.json --out csv=a.csv --out csv=b.csv.gz --out json=b.json.gz {} \
             --out prometheus=namespace=k6&linger=10m&port={}",
            senders(self.influx.port),
            self.port
        );
        let mut env = remote_write(self.prometheus.port).to_vec();
        env.extend(otlp_by_grpc(self.otlp.port));
        start(
            target,
            &self.folder,
            &format!("{outputs} {arguments}"),
            &env,
        )
    }

    /// Takes the page with the last values, for which the agent lingers, and waits for the end.
    #[track_caller]
    fn finish(&self, mut run: Running, code: i32) -> Ended<'_> {
        run.until_printed("http_reqs");
        let reply = request(self.port, "GET", "/metrics", None, PATIENCE).expect("a page");
        Ended {
            everything: self,
            finished: run.finish().expect(code),
            page: reply.body,
        }
    }
}

impl Ended<'_> {
    /// What each output says of a metric of that name.
    #[track_caller]
    fn all(&self, metric: &str) -> Vec<(&'static str, Arrived)> {
        let Everything {
            folder,
            prometheus,
            influx,
            otlp,
            ..
        } = self.everything;
        // Only some kinds tell remote write and the page how many values there were.
        let counter = matches!(metric, "http_reqs" | "iterations");
        let mut all = vec![
            ("json", arrived::json(&folder.file("a.json"), metric)),
            ("json.gz", arrived::json(&folder.file("b.json.gz"), metric)),
            ("csv", arrived::csv(&folder.file("a.csv"), metric)),
            ("csv.gz", arrived::csv(&folder.file("b.csv.gz"), metric)),
            ("influxdb", arrived::influx(&influx.requests(), metric)),
        ];
        let (name, family) = match metric {
            "http_req_failed" => ("http_req_failed.total", "k6_http_req_failed_count"),
            "http_req_duration" => (metric, "k6_http_req_duration_count"),
            _ => (metric, &*format!("k6_{metric}")),
        };
        all.push((
            "opentelemetry",
            arrived::opentelemetry(&otlp.requests(), name),
        ));
        all.push(("prometheus", arrived::page(&self.page, family)));
        if counter {
            let family = format!("k6_{metric}_total");
            let received = prometheus.requests();
            let written = arrived::remote_write(&received, &family);
            all.push(("experimental-prometheus-rw", written));
        }
        all
    }

    /// Checks that all counted the same, and lost nothing.
    #[track_caller]
    fn check(&self, requests: u64) {
        assert_eq!(self.finished.summary("http_reqs"), requests as f64);
        for metric in ["http_reqs", "http_req_duration", "http_req_failed"] {
            for (output, arrived) in self.all(metric) {
                assert_eq!(arrived.total, requests as f64, "{metric} of {output}");
            }
        }
        let lost = ["dropped", "arrive", "written", "rejected"];
        for line in self.finished.log() {
            assert!(!lost.iter().any(|word| line.msg.contains(word)), "{line:?}");
        }
    }
}

#[test]
fn all_outputs_count_what_the_target_counts() {
    let (target, everything) = (Target::start().expect("a target"), Everything::new());
    let run = everything.start(&target.url(), "-i 500 --vus 10");
    let ended = everything.finish(run, 0);
    assert_eq!(target.requests(), 500);
    assert_eq!(ended.finished.stderr, "");
    ended.check(500);
    let Everything {
        prometheus,
        influx,
        otlp,
        ..
    } = &everything;
    let mut finished = ended.finished;
    for text in [
        format!("Prometheus remote write ({}/", prometheus.url()),
        format!("InfluxDBv1 ({})", influx.url()),
        format!("opentelemetry (grpc, {})", otlp.address()),
        "csv (b.csv.gz)".to_owned(),
        "json (b.json.gz)".to_owned(),
    ] {
        finished = finished.prints(&text);
    }
}

#[test]
fn all_outputs_count_what_nginx_has_logged() {
    let Some(nginx) = Nginx::start() else {
        return;
    };
    let everything = Everything::new();
    let url = format!("http://127.0.0.1:{}", nginx.port);
    let run = everything.start(&url, "-i 2000 --vus 20");
    let ended = everything.finish(run, 0);
    assert_eq!(nginx.requests(), 2000);
    ended.check(2000);
}

#[test]
fn all_outputs_count_what_the_target_counts_when_a_signal_ends_the_run() {
    let (target, everything) = (Target::start().expect("a target"), Everything::new());
    let mut run = everything.start(&target.url(), "-d 10m --vus 10");
    run.until("load", |_| (target.requests() > 500).then_some(()));
    run.terminate();
    let ended = everything.finish(run, 105);
    // What VUs were waiting for when the signal came is counted by the target alone.
    let counted = ended.finished.summary("http_reqs") as u64;
    assert!((491..=target.requests()).contains(&counted), "{counted}");
    assert!(target.requests() - counted <= 10, "at most one for each VU");
    ended.check(counted);
}

#[test]
fn all_outputs_count_what_was_answered_before_a_signal() {
    let (target, everything) = (Target::start().expect("a target"), Everything::new());
    let script = "import http from 'k6/http';
        export default function () {
          for (let n = 0; n < 50; n++) http.get(__ENV.TARGET);
          http.get(`${__ENV.TARGET}/delay/3600000`);
        }";
    everything.folder.write("script.js", script);
    let mut run = everything.start(&target.url(), "-d 10m --vus 4");
    // Fifty that are answered, and one that is not, of each VU.
    run.until("all requests", |_| {
        (target.requests() == 4 * 51).then_some(())
    });
    run.terminate();
    everything.finish(run, 105).check(200);
}

#[test]
fn all_outputs_are_told_the_same_tags() {
    let (target, everything) = (Target::start().expect("a target"), Everything::new());
    let script = "import http from 'k6/http';
        import exec from 'k6/execution';
        export const options = { systemTags: ['method', 'status', 'scenario', 'vu', 'iter'] };
        export default function () {
          exec.vu.metrics.tags.mine = 'all';
          http.get(__ENV.TARGET, { tags: { turn: `${__ITER % 2}` } });
        }";
    everything.folder.write("script.js", script);
    let run = everything.start(&target.url(), "-i 4 --tag run=one --tag place=here");
    let ended = everything.finish(run, 0);
    assert_eq!(ended.finished.stderr, "");
    let pairs = |pairs: &[(&str, &str)]| -> Tags {
        let own = |&(key, value): &(&str, &str)| (key.to_owned(), value.to_owned());
        pairs.iter().map(own).collect()
    };
    let series = ["0", "1"].map(|turn| {
        pairs(&[
            ("method", "GET"),
            ("mine", "all"),
            ("place", "here"),
            ("run", "one"),
            ("scenario", "default"),
            ("status", "200"),
            ("turn", turn),
        ])
    });
    let metadata = ["0", "1", "2", "3"].map(|iter| pairs(&[("iter", iter), ("vu", "1")]));
    for (output, arrived) in ended.all("http_reqs") {
        assert_eq!(arrived.series, BTreeSet::from(series.clone()), "{output}");
        // Who tells of series only has no place for what single samples have.
        let single = ["json", "json.gz", "csv", "csv.gz", "influxdb"].contains(&output);
        let expected = if single { &metadata[..] } else { &[] };
        let expected: BTreeSet<Tags> = expected.iter().cloned().collect();
        assert_eq!(arrived.metadata, expected, "{output}");
    }
}

// === Files ===

#[test]
fn files_are_packed_and_written_as_the_settings_say() {
    let (target, folder) = (Target::start().expect("a target"), Folder::new());
    let config = "{\"collectors\": {\"csv\": {\"file_name\": \"c.csv.gz\", \
                  \"save_interval\": \"10ms\", \"timeFormat\": \"unix\"}}}";
    folder.write("config.json", config);
    let env = [("K6_CSV_TIME_FORMAT", "rfc3339_nano".to_owned())];
    let arguments = "-i 50 -c config.json --out csv --out csv=fileName=d.csv,timeFormat=unix_milli \
                     --out json=e.json.gz";
    let run = start(&target.url(), &folder, arguments, &env);
    let finished = run.finish().expect(0);
    assert_eq!(finished.stderr, "");
    let finished = finished.prints("csv (c.csv.gz), csv (d.csv), json (e.json.gz)");
    assert_eq!(finished.summary("http_reqs"), 50.0);
    for name in ["c.csv.gz", "d.csv", "e.json.gz"] {
        let path = folder.file(name);
        let begin = std::fs::read(&path).expect("a file");
        assert_eq!(begin.starts_with(&[0x1f, 0x8b]), name.ends_with(".gz"));
        let arrived = match name {
            "e.json.gz" => arrived::json(&path, "http_reqs"),
            _ => arrived::csv(&path, "http_reqs"),
        };
        assert_eq!(arrived.total, 50.0, "{name}");
    }
    // The environment wins over the file, and the argument over both.
    let time = |name: &str| {
        let text = arrived::text(&folder.file(name));
        let row = text.lines().nth(1).expect("a row").split(',').nth(1);
        row.expect("a time").to_owned()
    };
    let (named, counted) = (time("c.csv.gz"), time("d.csv"));
    assert!(named.contains('T') && named.contains('.'), "{named}");
    assert!(
        counted.len() == 13 && counted.parse::<u64>().is_ok(),
        "{counted}"
    );
}

#[test]
fn after_a_signal_the_summary_does_not_wait_for_a_pipe_that_nobody_reads() {
    let folder = Folder::new();
    let script = "import { check } from 'k6';
        export default function () { check(1, { ok: () => true }); }";
    folder.write("script.js", script);
    Launch::program("mkfifo", folder.path())
        .words("pipe")
        .run()
        .expect(0);
    // Both ends, so that neither side waits for the other to open it.
    let mut options = std::fs::OpenOptions::new();
    let pipe = options.read(true).write(true).open(folder.file("pipe"));
    let pipe = pipe.expect("the pipe");
    let mut run = start("", &folder, "-d 10m --out json=pipe --out csv=a.csv", &[]);
    // Samples of these rows have a line in the pipe, which holds 64 KB.
    run.until("many samples", |_| {
        let size = std::fs::metadata(folder.file("a.csv")).map_or(0, |file| file.len());
        (size > 1 << 20).then_some(())
    });
    run.terminate();
    run.until_printed("checks_total");
    assert!(!run.has_ended(), "the output still has its time");
    let reader = std::fs::File::open(folder.file("pipe")).expect("the pipe");
    drop(pipe);
    let lines = std::io::BufReader::new(reader).lines();
    let last = lines.map(|line| line.expect("a line")).last();
    assert!(last.expect("lines").ends_with('}'), "whole to the end");
    let finished = run.finish().expect(105);
    assert!(
        !finished.stderr.contains("did not finish"),
        "{}",
        finished.account()
    );
}

// === Receivers ===

#[test]
fn prometheus_stores_what_the_target_counted() {
    let Some(prometheus) = Prometheus::receiving() else {
        return;
    };
    let (target, folder) = (Target::start().expect("a target"), Folder::new());
    let env = [
        ("K6_PROMETHEUS_RW_SERVER_URL", prometheus.write_url()),
        ("K6_PROMETHEUS_RW_PUSH_INTERVAL", "50ms".to_owned()),
        ("K6_PROMETHEUS_RW_TREND_STATS", "count,max".to_owned()),
    ];
    let arguments = "-i 2000 --vus 10 --out experimental-prometheus-rw";
    let run = start(&target.url(), &folder, arguments, &env);
    let finished = run.finish().expect(0);
    assert_eq!(finished.stderr, "");
    assert_eq!(target.requests(), 2000);
    for (expression, value) in [
        ("sum(k6_http_reqs_total)", 2000.0),
        ("count(k6_http_reqs_total)", 5.0),
        ("sum(k6_iterations_total)", 2000.0),
        ("min(k6_checks_rate)", 1.0),
        // Divided by 1000 like times.
        ("round(1000 * sum(k6_http_req_duration_count))", 2000.0),
        ("max(k6_http_req_duration_max) < bool 60", 1.0),
    ] {
        assert_eq!(prometheus.value(expression), Some(value), "{expression}");
    }
}

#[test]
fn prometheus_stores_native_histograms_and_ends_of_series() {
    let Some(prometheus) = Prometheus::receiving() else {
        return;
    };
    let (target, folder) = (Target::start().expect("a target"), Folder::new());
    let mut env = vec![("K6_PROMETHEUS_RW_SERVER_URL", prometheus.write_url())];
    let arguments = "-i 300 --vus 3 --out experimental-prometheus-rw --features native-histograms";
    let finished = start(&target.url(), &folder, arguments, &env)
        .finish()
        .expect(0);
    assert_eq!(finished.stderr, "");
    let series = "k6_http_req_duration_seconds{k6_feature_native_histograms=\"true\"}";
    for (expression, value) in [
        (format!("sum(histogram_count({series}))"), 300.0),
        (
            format!("histogram_quantile(0.5, sum({series})) < bool 60"),
            1.0,
        ),
    ] {
        assert_eq!(prometheus.value(&expression), Some(value), "{expression}");
    }
    env.push(("K6_PROMETHEUS_RW_STALE_MARKERS", "true".to_owned()));
    let arguments = "-i 10 --tag run=two --out experimental-prometheus-rw";
    start(&target.url(), &folder, arguments, &env)
        .finish()
        .expect(0);
    assert_eq!(prometheus.value("k6_iterations_total{run=\"two\"}"), None);
    let before = "sum(last_over_time(k6_iterations_total{run=\"two\"}[1h]))";
    assert_eq!(prometheus.value(before), Some(10.0));
}

#[test]
fn influxdb_stores_what_the_target_counted() {
    let Some(influx) = Influx::start() else {
        return;
    };
    let (target, folder) = (Target::start().expect("a target"), Folder::new());
    // Points of one series with one timestamp are one point to it: each VU has series of its own.
    let arguments = format!(
        "-i 2000 --vus 10 -e WHO=vu --tag odd=a\\,b=c --system-tags url,status,method,vu,check \
         --out influxdb={}/a-db?tagsAsFields=vu:int&tagsAsFields=url",
        influx.url()
    );
    let finished = start(&target.url(), &folder, &arguments, &[])
        .finish()
        .expect(0);
    assert_eq!(finished.stderr, "");
    assert_eq!(target.requests(), 2000);
    for (query, value) in [
        ("SELECT sum(value) FROM http_reqs", 2000.0),
        ("SELECT count(value) FROM http_req_duration", 2000.0),
        (
            "SELECT sum(value) FROM checks WHERE \"check\" = 'ok'",
            2000.0,
        ),
        // A backslash is written twice in a query.
        (
            "SELECT count(url) FROM http_reqs WHERE odd = 'a\\\\,b=c'",
            2000.0,
        ),
        ("SELECT count(vu) FROM http_reqs WHERE vu > 0", 2000.0),
    ] {
        assert_eq!(influx.value("a-db", query), value, "{query}");
    }
}

#[test]
fn otlp_by_http_counts_what_the_target_counts_also_under_its_old_name() {
    let (target, folder) = (Target::start().expect("a target"), Folder::new());
    let receiver = Receiver::taking();
    let arguments = "-i 500 --vus 10 --out experimental-opentelemetry";
    let run = start(
        &target.url(),
        &folder,
        arguments,
        &otlp_by_http(receiver.port),
    );
    let finished = run.finish().expect(0);
    let warnings = finished.logged("warning");
    assert!(warnings.len() == 1 && warnings[0].msg.contains("use --out opentelemetry"));
    assert_eq!(target.requests(), 500);
    let requests = receiver.requests();
    for metric in ["http_reqs", "http_req_duration", "checks.total"] {
        let arrived = arrived::opentelemetry(&requests, metric);
        assert_eq!(arrived.total, 500.0, "{metric}");
    }
    let place = format!(
        "opentelemetry (http/protobuf, {}/v1/metrics)",
        receiver.url()
    );
    finished.prints(&place);
}

// === Receivers that are slow, dead or broken ===

/// How many samples and series there are in a file of JSON lines: what is missing where nothing
/// arrives. Series of remote write do not differ in empty tags.
struct Measured {
    samples: usize,
    series: usize,
    written: usize,
}

impl Measured {
    fn of(folder: &Folder) -> Self {
        let points = arrived::json_points(&folder.file("a.json"));
        let series = |with_empty: bool| {
            let series = points.iter().map(|point| {
                let tags = point["data"]["tags"].as_object().expect("tags").iter();
                let tags = tags.filter(|(_, value)| with_empty || *value != "");
                let tags: Tags = tags
                    .map(|(key, value)| (key.clone(), value.to_string()))
                    .collect();
                (point["metric"].to_string(), tags)
            });
            series.collect::<BTreeSet<_>>().len()
        };
        Self {
            samples: points.len(),
            series: series(true),
            written: series(false),
        }
    }

    /// Checks that the end of a run said all of it, with the reason.
    #[track_caller]
    fn said_lost(&self, finished: &Finished, reasons: [&str; 3]) {
        let Self {
            samples,
            series,
            written,
        } = self;
        for ((output, text), reason) in [
            (
                "Prometheus remote write (",
                format!("): the last values of {written} series did not arrive: "),
            ),
            (
                "InfluxDBv1 (",
                format!("): {samples} samples were not written: "),
            ),
            (
                "opentelemetry (",
                format!("): the last values of {series} series did not arrive: "),
            ),
        ]
        .iter()
        .zip(reasons)
        {
            let says = |line: &support::LogLine| {
                let told = line.msg.strip_prefix(output);
                let told = told.and_then(|rest| rest.split_once(text.as_str()));
                told.is_some_and(|(_, rest)| rest.contains(reason))
            };
            let said = finished.logged("error").iter().any(says);
            assert!(said, "{output}…{text}{reason}{}", finished.account());
        }
    }
}

/// A run of 300 iterations whose values go to receivers that take none.
#[track_caller]
fn without_receivers(influx: u16, env: &[(&'static str, String)]) -> (Finished, Measured) {
    let (target, folder) = (Target::start().expect("a target"), Folder::new());
    let arguments = format!("-i 300 --vus 5 --out json=a.json {}", senders(influx));
    let run = start(&target.url(), &folder, &arguments, env);
    // Nothing of it is a failure of the run.
    let finished = run.finish().expect(0);
    assert_eq!(target.requests(), 300);
    assert_eq!(finished.summary("http_reqs"), 300.0);
    assert_eq!(finished.summary("iterations"), 300.0);
    let lines = arrived::json(&folder.file("a.json"), "http_reqs");
    assert_eq!(lines.total, 300.0, "the others lose nothing");
    (finished, Measured::of(&folder))
}

#[test]
fn receivers_that_fail_do_not_fail_the_run() {
    let receiver = Receiver::start(|_, _| Answer::Status(500));
    let mut env = remote_write(receiver.port).to_vec();
    env.extend(otlp_by_http(receiver.port));
    let (finished, measured) = without_receivers(receiver.port, &env);
    let reasons = ["got status code: 500", "status 500", "status 500"];
    measured.said_lost(&finished, reasons);
    for message in [
        "Failed to send the time series data to the endpoint",
        "InfluxDB: Couldn't write stats",
        "OpenTelemetry: the metrics were not exported",
    ] {
        let said = finished
            .logged("error")
            .iter()
            .any(|line| line.msg == message);
        assert!(said, "{message}{}", finished.account());
    }
}

#[test]
fn receivers_that_are_not_there_do_not_fail_the_run() {
    let nobody = free_port();
    let mut env = remote_write(nobody).to_vec();
    env.extend(otlp_by_grpc(nobody));
    let (finished, measured) = without_receivers(nobody, &env);
    measured.said_lost(&finished, ["connection refused"; 3]);
}

#[test]
fn receivers_that_never_answer_hold_nothing_up_but_the_end() {
    let receiver = Receiver::start(|_, _| Answer::Silence);
    let otlp = GrpcReceiver::start(|_| GrpcAnswer::Silence);
    let mut env = remote_write(receiver.port).to_vec();
    env.extend(otlp_by_grpc(otlp.port));
    let (finished, measured) = without_receivers(receiver.port, &env);
    measured.said_lost(&finished, ["no answer within 5s"; 3]);
}

#[test]
fn iterations_go_on_while_receivers_take_their_time_and_nothing_is_lost() {
    let (target, folder) = (Target::start().expect("a target"), Folder::new());
    let open = Arc::new(AtomicBool::new(false));
    let slow = || {
        let open = open.clone();
        Receiver::start(move |_, _| {
            while !open.load(Ordering::SeqCst) {
                std::thread::sleep(Duration::from_millis(1));
            }
            Answer::Status(204)
        })
    };
    let [prometheus, influx, otlp] = [slow(), slow(), slow()];
    let mut env = remote_write(prometheus.port).to_vec();
    env.extend(otlp_by_http(otlp.port));
    let arguments = format!("-d 10m --vus 5 {}", senders(influx.port));
    let mut run = start(&target.url(), &folder, &arguments, &env);
    // All three hold a request, and the load does not mind.
    for receiver in [&prometheus, &influx, &otlp] {
        receiver.until(1);
    }
    let before = target.requests();
    run.until("load", |_| {
        (target.requests() > before + 2000).then_some(())
    });
    run.terminate();
    open.store(true, Ordering::SeqCst);
    let finished = run.finish().expect(105);
    let counted = finished.summary("http_reqs");
    assert!(counted >= before as f64 + 1990.0);
    for arrived in [
        arrived::remote_write(&prometheus.requests(), "k6_http_reqs_total"),
        arrived::influx(&influx.requests(), "http_reqs"),
        arrived::opentelemetry(&otlp.requests(), "http_reqs"),
    ] {
        assert_eq!(arrived.total, counted);
        assert_eq!(arrived.series.len(), 5);
    }
}
