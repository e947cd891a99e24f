//! What arrives, read with a library; and receivers that are slow, dead or broken.

use prost::Message as _;

use super::*;
use crate::{
    builtin,
    outputs::{
        OUTPUTS, Output,
        fixture::{NOW, Run},
        receiver::{Answer, Received, Receiver},
    },
};

#[derive(Clone, PartialEq, prost::Message)]
struct WriteRequest {
    #[prost(message, repeated, tag = "1")]
    timeseries: Vec<TimeSeries>,
}

#[derive(Clone, PartialEq, prost::Message)]
struct TimeSeries {
    #[prost(message, repeated, tag = "1")]
    labels: Vec<Label>,
    #[prost(message, repeated, tag = "2")]
    samples: Vec<Sample>,
    #[prost(message, repeated, tag = "4")]
    histograms: Vec<Histogram>,
}

#[derive(Clone, PartialEq, prost::Message)]
struct Label {
    #[prost(string, tag = "1")]
    name: String,
    #[prost(string, tag = "2")]
    value: String,
}

#[derive(Clone, PartialEq, prost::Message)]
struct Sample {
    #[prost(double, tag = "1")]
    value: f64,
    #[prost(int64, tag = "2")]
    timestamp: i64,
}

#[derive(Clone, PartialEq, prost::Message)]
struct Histogram {
    #[prost(uint64, tag = "1")]
    count: u64,
    #[prost(double, tag = "3")]
    sum: f64,
    #[prost(sint32, tag = "4")]
    schema: i32,
    #[prost(double, tag = "5")]
    zero_threshold: f64,
    #[prost(uint64, tag = "6")]
    zero_count: u64,
    #[prost(message, repeated, tag = "8")]
    negative_spans: Vec<Span>,
    #[prost(sint64, repeated, tag = "9")]
    negative_deltas: Vec<i64>,
    #[prost(message, repeated, tag = "11")]
    positive_spans: Vec<Span>,
    #[prost(sint64, repeated, tag = "12")]
    positive_deltas: Vec<i64>,
    #[prost(int64, tag = "15")]
    timestamp: i64,
}

#[derive(Clone, PartialEq, prost::Message)]
struct Span {
    #[prost(sint32, tag = "1")]
    offset: i32,
    #[prost(uint32, tag = "2")]
    length: u32,
}

/// The series of a request.
fn decode(request: &Received) -> Vec<TimeSeries> {
    let body = snap::raw::Decoder::new().decompress_vec(&request.body);
    WriteRequest::decode(&*body.unwrap()).unwrap().timeseries
}

/// A series as `name{label="value",…}`; its labels are sorted, each is there once.
fn name(series: &TimeSeries) -> String {
    let names: Vec<&str> = series.labels.iter().map(|label| &*label.name).collect();
    assert!(names.is_sorted_by(|one, two| one < two), "{names:?}");
    let mut name = String::new();
    let mut labels = Vec::new();
    for label in &series.labels {
        match &*label.name {
            "__name__" => name.clone_from(&label.value),
            other => labels.push(format!("{other}={:?}", label.value)),
        }
    }
    format!("{name}{{{}}}", labels.join(","))
}

/// `series value@milliseconds after NOW`, sorted.
fn lines(request: &Received) -> Vec<String> {
    let line = |series: &TimeSeries| {
        let [sample] = &series.samples[..] else {
            panic!("one sample: {series:?}")
        };
        let after = sample.timestamp - NOW / 1_000_000;
        format!("{} {}@{after}", name(series), sample.value)
    };
    let mut lines: Vec<String> = decode(request).iter().map(line).collect();
    lines.sort();
    lines
}

/// Settings with that receiver.
fn aim(run: &mut Run, receiver: &Receiver, more: &[(&str, &str)]) {
    let url = format!("{}/api/v1/write", receiver.url());
    let mut variables = vec![("K6_PROMETHEUS_RW_SERVER_URL", url.as_str())];
    variables.extend(more);
    run.env(&variables);
}

/// Sends what is recorded so far, at the end.
fn send(run: &mut Run) -> Result<(), String> {
    let mut output = open(run.context.clone()).unwrap();
    output.add(&run.shard.drain());
    output.finish()
}

#[test]
fn each_kind_has_the_series_of_the_reference() {
    let receiver = Receiver::taking();
    let mut run = Run::new();
    aim(
        &mut run,
        &receiver,
        &[(
            "K6_PROMETHEUS_RW_TREND_STATS",
            "avg,min,max,med,count,sum,p(95),p(99.9)",
        )],
    );
    let size = run
        .context
        .registry
        .register("size", MetricKind::Trend, ValueType::Data);
    let size = size.unwrap();
    let tags = [("scenario", "default"), ("group", ""), ("Zone", "a\"b")];
    for n in 0..3i64 {
        let time = NOW + n * 1_000_000;
        run.record(builtin::HTTP_REQS, &tags, 2.0, time);
        run.record(builtin::VUS, &[], n as f64, time);
        run.record(builtin::CHECKS, &tags, f64::from(n != 0), time);
        run.record(builtin::HTTP_REQ_DURATION, &tags, 1000.0 * n as f64, time);
    }
    run.record(size, &[], 2048.0, NOW);
    assert_eq!(send(&mut run), Ok(()));
    let [request] = &receiver.requests()[..] else {
        panic!("one request")
    };
    assert_eq!(request.line, "POST /api/v1/write");
    for (name, value) in [
        ("user-agent", "k6-prometheus-rw-output"),
        ("content-type", "application/x-protobuf"),
        ("content-encoding", "snappy"),
        ("x-prometheus-remote-write-version", "0.1.0"),
        ("host", &receiver.url()["http://".len()..]),
    ] {
        assert_eq!(request.header(name), Some(value), "{name}");
    }
    assert_eq!(request.header("authorization"), None);
    let labels = r#"{Zone="a\"b",scenario="default"}"#;
    let mut expected = vec![
        format!("k6_http_reqs_total{labels} 6@2"),
        "k6_vus{} 2@2".to_owned(),
        format!("k6_checks_rate{labels} {}@2", 2.0 / 3.0),
    ];
    // Counts are divided too.
    for (stat, value) in [
        ("avg", 1.0),
        ("min", 0.0),
        ("max", 2.0),
        ("med", 1.0),
        ("count", 0.003),
        ("sum", 3.0),
        ("p95", 1.9),
        ("p999", 1.9980000000000002),
    ] {
        expected.push(format!("k6_http_req_duration_{stat}{labels} {value}@2"));
        let value = if stat == "count" { 1 } else { 2048 };
        expected.push(format!("k6_size_{stat}{{}} {value}@0"));
    }
    expected.sort();
    assert_eq!(lines(request), expected);
}

#[test]
fn a_trend_has_its_99th_percentile_alone_by_default() {
    let receiver = Receiver::taking();
    let mut run = Run::new();
    aim(&mut run, &receiver, &[]);
    run.record(builtin::ITERATION_DURATION, &[], 500.0, NOW);
    assert_eq!(send(&mut run), Ok(()));
    let expected = ["k6_iteration_duration_p99{} 0.5@0"];
    assert_eq!(lines(&receiver.requests()[0]), expected);
}

#[test]
fn series_that_prometheus_cannot_tell_apart_are_one_and_names_are_legal() {
    let receiver = Receiver::taking();
    let mut run = Run::new();
    aim(&mut run, &receiver, &[]);
    run.record(builtin::HTTP_REQS, &[], 1.0, NOW);
    run.record(builtin::HTTP_REQS, &[("group", "")], 2.0, NOW + 1_000_000);
    run.record(builtin::HTTP_REQS, &[("", "x")], 4.0, NOW);
    let odd = [
        ("a b", "1"),
        ("a_b", "2"),
        ("__name__", "3"),
        ("le", "4"),
        ("ä", "5"),
    ];
    run.record(builtin::HTTP_REQS, &odd, 8.0, NOW);
    assert_eq!(send(&mut run), Ok(()));
    assert_eq!(
        lines(&receiver.requests()[0]),
        [
            r#"k6_http_reqs_total{_="5",a_b="2",a_b_2="1",le="4",tag___name__="3"} 8@0"#,
            "k6_http_reqs_total{} 7@1",
        ]
    );
}

#[test]
fn what_changed_is_sent_cumulative_and_no_timestamp_twice() {
    let receiver = Receiver::taking();
    let mut run = Run::new();
    aim(
        &mut run,
        &receiver,
        &[("K6_PROMETHEUS_RW_PUSH_INTERVAL", "1ms")],
    );
    let mut output = open(run.context.clone()).unwrap();
    run.record(builtin::VUS, &[], 1.0, NOW);
    output.add(&run.batch(3));
    receiver.until(1);
    // The same millisecond, which is held back, and another series, which is not.
    run.record(builtin::CHECKS, &[], 1.0, NOW);
    output.add(&run.batch(2));
    receiver.until(2);
    run.record(builtin::ITERATIONS, &[], 1.0, NOW + 5_000_000);
    output.add(&run.shard.drain());
    receiver.until(3);
    // Held back to the end, where it has to go.
    run.record(builtin::ITERATIONS, &[], 1.0, NOW + 5_999_999);
    output.add(&run.shard.drain());
    assert_eq!(output.finish(), Ok(()));
    let requests: Vec<_> = receiver.requests().iter().map(lines).collect();
    assert_eq!(
        requests,
        [
            vec!["k6_iterations_total{} 3@0", "k6_vus{} 1@0"],
            vec!["k6_checks_rate{} 1@0"],
            vec!["k6_iterations_total{} 6@5"],
            vec!["k6_iterations_total{} 7@6"],
        ]
    );
    assert_eq!(receiver.connections(), 1, "it is kept");
}

#[test]
fn what_a_failed_request_carried_goes_with_the_next_one() {
    for failure in [Answer::Says(500, "out of space\nmore"), Answer::HangUp] {
        let receiver = Receiver::start(move |number, _| match number {
            0 => failure,
            _ => Answer::Status(200),
        });
        let mut run = Run::new();
        aim(
            &mut run,
            &receiver,
            &[("K6_PROMETHEUS_RW_PUSH_INTERVAL", "1ms")],
        );
        let said = run.listen();
        let mut output = open(run.context.clone()).unwrap();
        output.add(&run.batch(3));
        receiver.until(2);
        assert_eq!(output.finish(), Ok(()));
        let requests = receiver.requests();
        assert_eq!(requests.len(), 2);
        // The receiver may have taken the first one and said otherwise.
        assert_eq!(lines(&requests[1]), ["k6_iterations_total{} 3@1"]);
        let said = said.lock().unwrap();
        let start = "Failed to send the time series data to the endpoint error=";
        assert_eq!(said.len(), 1, "{said:?}");
        assert!(said[0].starts_with(start), "{said:?}");
        if failure != Answer::HangUp {
            assert_eq!(
                said[0][start.len()..],
                *"got status code: 500 instead expected a 2xx successful status code: \
                  out of space output=Prometheus remote write"
            );
        }
    }
}

#[test]
fn a_receiver_that_is_always_broken_costs_nothing_but_what_is_said_at_the_end() {
    let receiver = Receiver::start(|_, _| Answer::Status(500));
    let mut run = Run::new();
    aim(&mut run, &receiver, &[]);
    run.record(builtin::VUS, &[], 1.0, NOW);
    run.record(builtin::ITERATIONS, &[], 1.0, NOW);
    let problem = send(&mut run).unwrap_err();
    assert_eq!(
        problem,
        format!(
            "Prometheus remote write ({}/api/v1/write): the last values of 2 series did not \
             arrive: got status code: 500 instead expected a 2xx successful status code",
            receiver.url()
        )
    );
}

#[test]
fn a_dead_receiver_is_said_at_the_end() {
    let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let url = format!("http://{}/", listener.local_addr().unwrap());
    drop(listener);
    let mut run = Run::new();
    run.env(&[("K6_PROMETHEUS_RW_SERVER_URL", &url)]);
    let said = run.listen();
    run.record(builtin::VUS, &[], 1.0, NOW);
    assert_eq!(
        send(&mut run).unwrap_err(),
        format!(
            "Prometheus remote write ({url}): the last values of 1 series did not arrive: \
             Post {url:?}: connection refused"
        )
    );
    assert_eq!(said.lock().unwrap().len(), 1);
}

/// An output with other bounds.
fn start(run: &Run, receiver: &Receiver, limit: Duration, plan: Plan) -> Pusher {
    let settings = Settings::read(&run.context, KIND.name, SETTINGS);
    let endpoint = Endpoint::parse(&receiver.url()).unwrap();
    let feed = RemoteWrite::new(run.context.clone(), &settings, &endpoint).unwrap();
    let client = Client::new(endpoint, Version::Http1, &TlsOptions::default(), limit).unwrap();
    Pusher::start("rw (test)".to_owned(), feed, client, plan).unwrap()
}

#[test]
fn a_receiver_that_never_answers_is_left_when_the_time_is_up() {
    let receiver = Receiver::start(|_, _| Answer::Silence);
    let mut run = Run::new();
    let said = run.listen();
    let plan = Plan {
        interval: Duration::from_millis(1),
        patience: Duration::from_millis(50),
        ..Plan::every(Duration::ZERO)
    };
    // The limit of a request first, that of the end second.
    for (limit, reason) in [
        (Duration::from_millis(1), "no answer within 1ms"),
        (Duration::from_secs(3600), "there was no time left"),
    ] {
        let mut output = start(&run, &receiver, limit, plan);
        output.add(&run.batch(1));
        let problem = output.finish().unwrap_err();
        let begin = "rw (test): the last values of 1 series did not arrive: ";
        assert!(problem.starts_with(begin), "{problem}");
        assert!(problem.ends_with(reason), "{problem}");
    }
    assert!(!said.lock().unwrap().is_empty());
}

#[test]
fn while_a_request_is_on_its_way_everything_is_taken_in() {
    let (release, gate) = std::sync::mpsc::channel::<()>();
    let gate = std::sync::Mutex::new(gate);
    let receiver = Receiver::start(move |_, _| {
        let _ = gate.lock().unwrap().recv();
        Answer::Status(200)
    });
    let mut run = Run::new();
    let plan = Plan {
        queue: 10,
        ..Plan::every(Duration::from_millis(1))
    };
    let mut output = start(&run, &receiver, Duration::from_secs(3600), plan);
    output.add(&run.batch(1));
    receiver.until(1);
    // Many times what may wait, while the first request has no answer.
    for n in 1..=100 {
        run.record(builtin::ITERATIONS, &[], 1.0, NOW + n * 1_000_000);
        output.add(&run.shard.drain());
        let hung = std::time::Instant::now() + Duration::from_secs(60);
        while output.waiting() > 0 {
            assert!(std::time::Instant::now() < hung);
            std::thread::yield_now();
        }
    }
    drop(release);
    assert_eq!(output.finish(), Ok(()));
    let requests = receiver.requests();
    assert_eq!(requests.len(), 2);
    assert_eq!(lines(&requests[1]), ["k6_iterations_total{} 101@100"]);
}

#[test]
fn what_the_queue_cannot_take_is_counted() {
    let receiver = Receiver::taking();
    let mut run = Run::new();
    let plan = Plan {
        queue: 2,
        ..Plan::every(Duration::from_secs(3600))
    };
    let mut output = start(&run, &receiver, LIMIT, plan);
    for value in [1.0, 2.0, 3.0] {
        run.record(builtin::ITERATION_DURATION, &[], value, NOW);
    }
    output.add(&run.shard.drain());
    output.add(&run.batch(3));
    assert_eq!(
        output.finish().unwrap_err(),
        "rw (test): it was too slow, and 3 values were dropped"
    );
    assert_eq!(
        lines(&receiver.requests()[0]),
        ["k6_iterations_total{} 3@0"]
    );
    output.add(&run.batch(3));
    assert_eq!(output.finish(), Ok(()), "over is over");
}

#[test]
fn many_series_go_with_several_requests_each_once() {
    const SERIES: usize = 60_000;
    let receiver = Receiver::taking();
    let mut run = Run::new();
    aim(&mut run, &receiver, &[]);
    for number in 0..SERIES {
        run.record(
            builtin::HTTP_REQS,
            &[("number", &number.to_string())],
            1.0,
            NOW,
        );
    }
    assert_eq!(send(&mut run), Ok(()));
    let requests = receiver.requests();
    assert!(requests.len() > 1);
    let names: std::collections::BTreeSet<String> = requests
        .iter()
        .flat_map(decode)
        .map(|series| name(&series))
        .collect();
    assert_eq!(names.len(), SERIES);
}

#[test]
fn series_end_with_stale_markers_when_asked_to() {
    let receiver = Receiver::taking();
    let mut run = Run::new();
    let stats = ("K6_PROMETHEUS_RW_TREND_STATS", "avg,max");
    aim(
        &mut run,
        &receiver,
        &[("K6_PROMETHEUS_RW_STALE_MARKERS", "true"), stats],
    );
    run.record(builtin::VUS, &[], 1.0, NOW);
    run.record(builtin::ITERATION_DURATION, &[], 1.0, NOW);
    assert_eq!(send(&mut run), Ok(()));
    let requests = receiver.requests();
    assert_eq!(requests.len(), 2);
    let ends = decode(&requests[1]);
    let mut names: Vec<String> = ends.iter().map(name).collect();
    names.sort();
    let duration = "k6_iteration_duration";
    assert_eq!(
        names,
        [
            format!("{duration}_avg{{}}"),
            format!("{duration}_max{{}}"),
            "k6_vus{}".into()
        ]
    );
    for series in &ends {
        assert_eq!(series.samples[0].value.to_bits(), STALE);
        assert!(series.samples[0].timestamp > NOW / 1_000_000);
    }
}

#[test]
fn trends_may_go_as_native_histograms() {
    for by_feature in [true, false] {
        let receiver = Receiver::taking();
        let mut run = Run::new();
        let said = run.listen();
        let mut settings = vec![("K6_PROMETHEUS_RW_STALE_MARKERS", "true")];
        run.context.native_histograms = by_feature;
        if !by_feature {
            settings.push(("K6_PROMETHEUS_RW_TREND_AS_NATIVE_HISTOGRAM", "true"));
        }
        aim(&mut run, &receiver, &settings);
        for value in [500.0, 1000.0, 1001.0, 1050.0, 4000.0, 0.0, -1000.0] {
            run.record(builtin::HTTP_REQ_DURATION, &[], value, NOW);
        }
        let mut own = |name: &str, contains| {
            let metric = run
                .context
                .registry
                .register(name, MetricKind::Trend, contains);
            run.record(metric.unwrap(), &[], 1.0, NOW);
        };
        own("size", ValueType::Data);
        own("plain", ValueType::Default);
        assert_eq!(send(&mut run), Ok(()));
        let [values, ends] = [0, 1].map(|number| decode(&receiver.requests()[number]));
        let names: Vec<String> = values.iter().map(name).collect();
        assert_eq!(
            names,
            [
                "k6_http_req_duration_seconds{}",
                "k6_size_bytes{}",
                "k6_plain{}"
            ]
        );
        let histogram = &values[0].histograms[0];
        assert_eq!(
            (histogram.count, histogram.zero_count, histogram.schema),
            (7, 1, 3)
        );
        assert!((histogram.sum - 6.551).abs() < 1e-9);
        assert_eq!(histogram.timestamp, NOW / 1_000_000);
        let spans = |spans: &[Span]| -> Vec<(i32, u32)> {
            spans
                .iter()
                .map(|span| (span.offset, span.length))
                .collect()
        };
        // 0.5; 1 and just above it; 4: in eighths of a power of two.
        assert_eq!(spans(&histogram.positive_spans), [(-8, 1), (7, 2), (14, 1)]);
        assert_eq!(histogram.positive_deltas, [1, 0, 1, -1]);
        assert_eq!(spans(&histogram.negative_spans), [(0, 1)]);
        assert_eq!(histogram.negative_deltas, [1]);
        assert_eq!(ends[0].histograms[0].sum.to_bits(), STALE);
        assert_eq!(said.lock().unwrap().len(), usize::from(!by_feature));
    }
}

#[test]
fn settings_of_requests_reach_the_receiver() {
    let receiver = Receiver::taking();
    for (settings, header, value) in [
        (
            &[
                ("K6_PROMETHEUS_RW_USERNAME", "me"),
                ("K6_PROMETHEUS_RW_PASSWORD", "se:cret"),
            ][..],
            "authorization",
            "Basic bWU6c2U6Y3JldA==",
        ),
        (
            &[("K6_PROMETHEUS_RW_BEARER_TOKEN", "token")],
            "authorization",
            "Bearer token",
        ),
        (
            &[("K6_PROMETHEUS_RW_HTTP_HEADERS", "X-A:1,X-Scope-OrgID:me")],
            "x-scope-orgid",
            "me",
        ),
        (
            &[("K6_PROMETHEUS_RW_HEADERS_X-Scope-OrgID", "you")],
            "x-scope-orgid",
            "you",
        ),
    ] {
        let mut run = Run::new();
        aim(&mut run, &receiver, settings);
        run.record(builtin::VUS, &[], 1.0, NOW);
        assert_eq!(send(&mut run), Ok(()));
        let requests = receiver.requests();
        assert_eq!(requests.last().unwrap().header(header), Some(value));
    }
    let mut run = Run::new();
    let keys =
        ["REGION", "ACCESS_KEY", "SECRET_KEY"].map(|key| format!("K6_PROMETHEUS_RW_SIGV4_{key}"));
    let signed: Vec<(&str, &str)> = keys.iter().map(|key| (key.as_str(), "x")).collect();
    aim(&mut run, &receiver, &signed);
    run.record(builtin::VUS, &[], 1.0, NOW);
    assert_eq!(send(&mut run), Ok(()));
    let request = receiver.requests().pop().unwrap();
    let value = request.header("authorization").unwrap();
    assert!(
        value.starts_with("AWS4-HMAC-SHA256 Credential=x/"),
        "{value}"
    );
    assert!(request.header("x-amz-date").is_some());
}

#[test]
fn settings_that_make_no_sense_are_refused() {
    for (name, value, text) in [
        (
            "SERVER_URL",
            "nowhere",
            "parse \"nowhere\": the scheme must be http or https",
        ),
        (
            "TREND_STATS",
            "p(101)",
            "invalid trend stat 'p(101)', unknown format",
        ),
        (
            "TREND_STATS",
            "avg,mean",
            "invalid trend stat 'mean', unknown format",
        ),
        (
            "PUSH_INTERVAL",
            "soon",
            "K6_PROMETHEUS_RW_PUSH_INTERVAL: time: invalid duration \"soon\"",
        ),
        (
            "TLS_MINIMUM_VERSION",
            "1.1",
            "K6_PROMETHEUS_RW_TLS_MINIMUM_VERSION: the TLS version \"1.1\" is neither 1.2 nor 1.3",
        ),
        (
            "STALE_MARKERS",
            "yes",
            "K6_PROMETHEUS_RW_STALE_MARKERS: invalid input:yes",
        ),
        (
            "CLIENT_CERTIFICATE",
            "x.pem",
            "a client certificate and its key must be given together",
        ),
        (
            "SIGV4_REGION",
            "x",
            "the region, the access key and the secret key of SigV4 must be given together",
        ),
        (
            "HTTP_HEADERS",
            "x",
            "K6_PROMETHEUS_RW_HTTP_HEADERS: \"x\" is no pair of a name and a value",
        ),
        (
            "HTTP_HEADERS",
            "a b:x",
            "\"a b\" with the value \"x\" is no header",
        ),
    ] {
        let mut run = Run::new();
        run.env(&[(&*format!("K6_PROMETHEUS_RW_{name}"), value)]);
        assert_eq!(open(run.context).err().as_deref(), Some(text), "{name}");
    }
}

#[test]
fn the_table_s_row_opens_it_under_the_reference_s_description() {
    let row = OUTPUTS
        .iter()
        .find(|kind| kind.name == "experimental-prometheus-rw");
    let row = row.unwrap();
    let mut run = Run::new();
    for (url, shown) in [
        ("", "http://localhost:9090/api/v1/write"),
        ("http://me:secret@host:1/x", "http://host:1/x"),
    ] {
        run.env(&[("K6_PROMETHEUS_RW_SERVER_URL", url)]);
        let mut output = (row.open)("ignored", run.context.clone()).unwrap();
        assert_eq!(
            output.describe(),
            format!("Prometheus remote write ({shown})")
        );
        assert!(!output.wants_raw());
        // Nothing was measured: nobody is asked to take it.
        assert_eq!(output.finish(), Ok(()));
    }
}
