//! Outputs of the whole program: each of them counts what the target counts, whatever ends the
//! run, and none of them holds it up.

mod support;

use std::{collections::BTreeMap, io::Read};

use prost::Message;
use support::{
    Answer, Finished, Folder, Influx, Launch, Prometheus, Received, Receiver, Running, Target,
    otlp::{self, GrpcReceiver},
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
fn start(target: &Target, folder: &Folder, arguments: &str, env: &[(&str, String)]) -> Running {
    folder.write("script.js", SCRIPT);
    let launch = Launch::volley(folder.path())
        .words("run script.js")
        .words(&format!("-e TARGET={} {arguments}", target.url()));
    let launch = env
        .iter()
        .fold(launch, |launch, (name, value)| launch.env(name, value));
    launch.start()
}

fn remote_write(receiver: &Receiver) -> (&'static str, String) {
    (
        "K6_PROMETHEUS_RW_SERVER_URL",
        format!("{}/api/v1/write", receiver.url()),
    )
}

// === What arrived ===

#[derive(Clone, PartialEq, Message)]
struct WriteRequest {
    #[prost(message, repeated, tag = "1")]
    timeseries: Vec<TimeSeries>,
}

#[derive(Clone, PartialEq, Message)]
struct TimeSeries {
    #[prost(message, repeated, tag = "1")]
    labels: Vec<Label>,
    #[prost(message, repeated, tag = "2")]
    samples: Vec<Sample>,
}

#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Message)]
struct Label {
    #[prost(string, tag = "1")]
    name: String,
    #[prost(string, tag = "2")]
    value: String,
}

#[derive(Clone, PartialEq, Message)]
struct Sample {
    #[prost(double, tag = "1")]
    value: f64,
    #[prost(int64, tag = "2")]
    timestamp: i64,
}

/// The sum of the last values of the series of that name.
fn written(requests: &[Received], name: &str) -> f64 {
    let mut last: BTreeMap<Vec<Label>, Sample> = BTreeMap::new();
    for request in requests {
        let body = snap::raw::Decoder::new().decompress_vec(&request.body);
        let request = WriteRequest::decode(&*body.expect("snappy")).expect("a write request");
        for series in request.timeseries {
            let [sample] = &series.samples[..] else {
                panic!("one sample: {series:?}")
            };
            if series.labels.iter().any(|label| label.value == name) {
                let before = last.insert(series.labels, sample.clone());
                assert!(before.is_none_or(|before| before.timestamp < sample.timestamp));
            }
        }
    }
    last.values().map(|sample| sample.value).sum()
}

/// Settings of an output in OTLP by HTTP, which sends often.
fn otlp_by_http(receiver: &Receiver) -> [(&'static str, String); 4] {
    [
        ("K6_OTEL_EXPORTER_PROTOCOL", "http/protobuf".to_owned()),
        (
            "K6_OTEL_HTTP_EXPORTER_ENDPOINT",
            format!("127.0.0.1:{}", receiver.port),
        ),
        ("K6_OTEL_HTTP_EXPORTER_INSECURE", "true".to_owned()),
        ("K6_OTEL_EXPORT_INTERVAL", "100ms".to_owned()),
    ]
}

/// The sum of the last values of the series of a metric in OTLP; of a trend, how many values.
fn exported(requests: &[Received], metric: &str) -> f64 {
    let last = otlp::last(requests, metric).into_iter();
    last.map(|value| match value {
        otlp::Value::Sum(value) => value,
        otlp::Value::Count(count) => count as f64,
        otlp::Value::Histogram { count, .. } => count as f64,
        otlp::Value::Gauge(_) => panic!("{metric} is a gauge"),
    })
    .sum()
}

/// How many points of a measurement have arrived, those that came twice counted twice.
fn stored(requests: &[Received], measurement: &str) -> usize {
    let begin = format!("{measurement},");
    let count = |request: &Received| {
        let text = String::from_utf8_lossy(&request.body);
        text.lines().filter(|line| line.starts_with(&begin)).count()
    };
    requests.iter().map(count).sum()
}

/// How many rows of a CSV file are of that metric.
fn rows(text: &str, metric: &str) -> usize {
    let begin = format!("{metric},");
    text.lines().filter(|line| line.starts_with(&begin)).count()
}

/// How many points of a JSON file are of that metric.
fn points(text: &str, metric: &str) -> usize {
    let begin = format!("{{\"metric\":\"{metric}\",\"type\":\"Point\"");
    text.lines().filter(|line| line.starts_with(&begin)).count()
}

fn unpacked(folder: &Folder, name: &str) -> String {
    let file = std::fs::File::open(folder.file(name)).expect("a file");
    let mut text = String::new();
    flate2::read::GzDecoder::new(file)
        .read_to_string(&mut text)
        .expect("a whole compressed file");
    text
}

/// Several outputs at once, and their receivers.
struct Everything {
    folder: Folder,
    prometheus: Receiver,
    influx: Receiver,
    otlp: GrpcReceiver,
}

impl Everything {
    fn new() -> Self {
        Self {
            folder: Folder::new(),
            prometheus: Receiver::taking(),
            influx: Receiver::taking(),
            otlp: GrpcReceiver::taking(),
        }
    }

    fn start(&self, target: &Target, arguments: &str) -> Running {
        let outputs = format!(
            "--out json=a.json --out csv=a.csv --out csv=b.csv.gz --out json=b.json.gz \
             --out experimental-prometheus-rw --out influxdb={}/db?pushInterval=100ms \
             --out opentelemetry",
            self.influx.url()
        );
        let env = [
            remote_write(&self.prometheus),
            ("K6_PROMETHEUS_RW_PUSH_INTERVAL", "100ms".to_owned()),
            ("K6_OTEL_GRPC_EXPORTER_ENDPOINT", self.otlp.address()),
            ("K6_OTEL_GRPC_EXPORTER_INSECURE", "true".to_owned()),
            ("K6_OTEL_EXPORT_INTERVAL", "100ms".to_owned()),
        ];
        start(
            target,
            &self.folder,
            &format!("{outputs} {arguments}"),
            &env,
        )
    }

    /// Checks that all counted the same.
    #[track_caller]
    fn check(&self, finished: &Finished, requests: u64) {
        assert_eq!(finished.summary("http_reqs"), requests as f64);
        let requests = requests as usize;
        for metric in ["http_reqs", "http_req_duration"] {
            assert_eq!(points(&self.folder.read("a.json"), metric), requests);
            assert_eq!(
                points(&unpacked(&self.folder, "b.json.gz"), metric),
                requests
            );
            assert_eq!(rows(&self.folder.read("a.csv"), metric), requests);
            assert_eq!(rows(&unpacked(&self.folder, "b.csv.gz"), metric), requests);
        }
        let received = self.prometheus.requests();
        assert_eq!(written(&received, "k6_http_reqs_total"), requests as f64);
        assert_eq!(stored(&self.influx.requests(), "http_reqs"), requests);
        let received = self.otlp.requests();
        for metric in ["http_reqs", "http_req_duration", "checks.total"] {
            assert_eq!(exported(&received, metric), requests as f64, "{metric}");
        }
        let lost =
            |line: &support::LogLine| line.msg.contains("dropped") || line.msg.contains("arrive");
        assert!(!finished.log().iter().any(lost), "{}", finished.account());
    }
}

// === Tests ===

#[test]
fn all_outputs_count_what_the_target_counts() {
    let (target, everything) = (Target::start().expect("a target"), Everything::new());
    let run = everything.start(&target, "-i 500 --vus 10");
    let finished = run.finish().expect(0);
    assert_eq!(target.requests(), 500);
    assert_eq!(finished.stderr, "");
    everything.check(&finished, 500);
    let written_to = format!("Prometheus remote write ({}/", everything.prometheus.url());
    let stored_in = format!("InfluxDBv1 ({})", everything.influx.url());
    let exported_to = format!("opentelemetry (grpc, {})", everything.otlp.address());
    let finished = finished.prints(&written_to).prints(&stored_in);
    finished.prints("csv (b.csv.gz)").prints(&exported_to);
}

#[test]
fn all_outputs_count_what_the_target_counts_when_a_signal_ends_the_run() {
    let (target, everything) = (Target::start().expect("a target"), Everything::new());
    let mut run = everything.start(&target, "-d 10m --vus 10");
    run.until("load", |_| (target.requests() > 500).then_some(()));
    run.terminate();
    // What VUs were waiting for when the signal came is counted by the target alone.
    let finished = run.finish().expect(105);
    let counted = finished.summary("http_reqs") as u64;
    assert!((500..=target.requests()).contains(&counted), "{counted}");
    assert!(target.requests() - counted <= 10, "at most one for each VU");
    everything.check(&finished, counted);
}

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
    let run = start(&target, &folder, arguments, &env);
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
    let finished = start(&target, &folder, arguments, &env).finish().expect(0);
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
    start(&target, &folder, arguments, &env).finish().expect(0);
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
    let finished = start(&target, &folder, &arguments, &[]).finish().expect(0);
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
    let arguments = "-i 500 --vus 10 --out experimental-opentelemetry --tag run=one";
    let run = start(&target, &folder, arguments, &otlp_by_http(&receiver));
    let finished = run.finish().expect(0);
    let warnings = finished.logged("warning");
    assert!(warnings.len() == 1 && warnings[0].msg.contains("use --out opentelemetry"));
    assert_eq!(target.requests(), 500);
    let requests = receiver.requests();
    for metric in ["http_reqs", "http_req_duration", "checks.total"] {
        assert_eq!(exported(&requests, metric), 500.0, "{metric}");
    }
    // All there is of tags, and the five kinds of requests.
    let (_, points) = otlp::read(&requests.last().expect("a request").body);
    let of_requests = points.iter().filter(|point| point.metric == "http_reqs");
    let turns: Vec<&str> = of_requests
        .inspect(|point| assert_eq!(point.attributes["run"], "one"))
        .map(|point| &*point.attributes["turn"])
        .collect();
    assert_eq!(turns.len(), 5, "{turns:?}");
    let place = format!(
        "opentelemetry (http/protobuf, {}/v1/metrics)",
        receiver.url()
    );
    finished.prints(&place);
}

#[test]
fn receivers_that_fail_do_not_fail_the_run() {
    let (target, folder) = (Target::start().expect("a target"), Folder::new());
    let receiver = Receiver::start(|_, _| Answer::Status(500));
    let env = [
        remote_write(&receiver),
        ("K6_PROMETHEUS_RW_PUSH_INTERVAL", "10ms".to_owned()),
    ];
    let arguments = "-i 300 --out experimental-prometheus-rw";
    let finished = start(&target, &folder, arguments, &env).finish().expect(0);
    assert_eq!(finished.summary("http_reqs"), 300.0);
    let errors = finished.logged("error");
    let (last, failures) = errors.split_last().expect("errors");
    let text = "Failed to send the time series data to the endpoint";
    assert!(!failures.is_empty() && failures.iter().all(|line| line.msg == text));
    assert!(
        last.msg
            .contains(" series did not arrive: got status code: 500"),
        "{}",
        last.msg
    );
}

#[test]
fn a_receiver_that_never_answers_holds_nothing_up_but_the_end() {
    let (target, folder) = (Target::start().expect("a target"), Folder::new());
    let receiver = Receiver::start(|_, _| Answer::Silence);
    let env = [
        remote_write(&receiver),
        ("K6_PROMETHEUS_RW_PUSH_INTERVAL", "10ms".to_owned()),
    ];
    // The second receiver shares the end with the first.
    let arguments = "-i 300 --out experimental-prometheus-rw --out experimental-prometheus-rw";
    let mut run = start(&target, &folder, arguments, &env);
    run.until_logged("no answer within 5s");
    let finished = run.finish().expect(0);
    assert_eq!(target.requests(), 300);
    assert_eq!(finished.summary("http_reqs"), 300.0);
    let lost = |line: &&support::LogLine| line.msg.contains("series did not arrive");
    assert_eq!(finished.logged("error").iter().filter(lost).count(), 2);
}
