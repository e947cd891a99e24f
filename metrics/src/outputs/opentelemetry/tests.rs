//! What arrives, read with a library; and receivers that are slow, dead or broken.

use std::{collections::BTreeMap, path::Path};

use rustls::pki_types::{CertificateDer, PrivatePkcs8KeyDer};
use tokio::net::{TcpListener, TcpStream};
use tokio_rustls::TlsAcceptor;

use super::*;
use crate::{
    builtin,
    outputs::{
        OUTPUTS, Output,
        fixture::{NOW, Run},
        otlp::{self, GrpcAnswer, GrpcReceiver, Point, Value as Got},
        receiver::{Answer, Received, Receiver},
    },
};

/// Settings with that receiver, by gRPC.
fn aim(run: &mut Run, address: &str, more: &[(&str, &str)]) {
    let mut variables = vec![
        ("K6_OTEL_GRPC_EXPORTER_ENDPOINT", address),
        ("K6_OTEL_GRPC_EXPORTER_INSECURE", "true"),
    ];
    variables.extend(more);
    run.env(&variables);
}

/// Settings with that receiver, by HTTP.
fn aim_http(run: &mut Run, receiver: &Receiver, more: &[(&str, &str)]) {
    let address = format!("127.0.0.1:{}", receiver.port);
    let mut variables = vec![
        ("K6_OTEL_EXPORTER_PROTOCOL", "http/protobuf"),
        ("K6_OTEL_HTTP_EXPORTER_ENDPOINT", &*address),
        ("K6_OTEL_HTTP_EXPORTER_INSECURE", "true"),
    ];
    variables.extend(more);
    run.env(&variables);
}

/// Sends what is recorded so far, at the end.
fn send(run: &mut Run) -> Result<(), String> {
    let mut output = open(run.context.clone()).unwrap();
    output.add(&run.shard.drain());
    output.finish()
}

fn points(request: &Received) -> Vec<Point> {
    otlp::read(&request.body).1
}

/// A point as `metric[unit]{key="value",…} value`; sorted.
fn lines(request: &Received) -> Vec<String> {
    let line = |point: &Point| {
        let value = match &point.value {
            Got::Sum(value) => format!("sum {value}"),
            Got::Count(count) => format!("count {count}"),
            Got::Gauge(value) => format!("gauge {value}"),
            Got::Histogram {
                count,
                sum,
                min,
                max,
                ..
            } => format!("histogram {count} {sum} {min}..{max}"),
        };
        let attributes = point.attributes.iter();
        let attributes = attributes.map(|(key, value)| format!("{key}={value:?}"));
        let attributes = attributes.collect::<Vec<_>>().join(",");
        format!("{}[{}]{{{attributes}}} {value}", point.metric, point.unit)
    };
    let mut lines: Vec<String> = points(request).iter().map(line).collect();
    lines.sort();
    lines
}

/// One of each kind.
fn record(run: &mut Run) {
    let registry = run.context.registry.clone();
    let size = registry.register("size", MetricKind::Trend, ValueType::Data);
    let tags = [("scenario", "default"), ("group", "")];
    for n in 0..3i64 {
        let time = NOW + n;
        run.record(builtin::HTTP_REQS, &tags, 2.0, time);
        run.record(builtin::DATA_SENT, &[], 100.0, time);
        run.record(builtin::VUS, &[], n as f64, time);
        run.record(builtin::CHECKS, &tags, f64::from(n != 0), time);
        run.record(builtin::HTTP_REQ_DURATION, &tags, 7.5 * n as f64, time);
    }
    run.record(builtin::HTTP_REQ_FAILED, &[], 0.0, NOW);
    run.record(size.unwrap(), &[], 2048.0, NOW);
}

const GOLDEN: [&str; 8] = [
    r#"checks.total[]{condition="nonzero",group="",scenario="default"} count 2"#,
    r#"checks.total[]{condition="zero",group="",scenario="default"} count 1"#,
    "data_sent[By]{} sum 300",
    r#"http_req_duration[ms]{group="",scenario="default"} histogram 3 22.5 0..15"#,
    r#"http_req_failed.total[]{condition="zero"} count 1"#,
    r#"http_reqs[]{group="",scenario="default"} sum 6"#,
    "size[By]{} histogram 1 2048 2048..2048",
    "vus[]{} gauge 2",
];

#[test]
fn each_kind_has_the_metric_of_the_reference() {
    let receiver = GrpcReceiver::taking();
    let mut run = Run::new();
    aim(&mut run, &receiver.address(), &[]);
    record(&mut run);
    let before = unix_ns() as u64;
    assert_eq!(send(&mut run), Ok(()));
    let [request] = &receiver.requests()[..] else {
        panic!("one request")
    };
    assert_eq!(lines(request), GOLDEN);
    let (resource, points) = otlp::read(&request.body);
    for point in &points {
        assert!(
            before <= point.start && point.start < point.time,
            "{point:?}"
        );
        assert!(point.time <= unix_ns() as u64);
    }
    let version = env!("CARGO_PKG_VERSION");
    let expected = [
        ("service.name", "k6"),
        ("service.version", version),
        ("telemetry.sdk.language", "rust"),
        ("telemetry.sdk.name", "volley"),
        ("telemetry.sdk.version", version),
    ];
    let own = expected.map(|(key, value)| (key.to_owned(), value.to_owned()));
    assert_eq!(resource, BTreeMap::from(own));
    assert_eq!(request.line, format!("POST {METHOD}"));
    let agent = format!("volley/{version}");
    for (name, value) in [
        ("content-type", "application/grpc"),
        ("te", "trailers"),
        ("user-agent", &agent),
    ] {
        assert_eq!(request.header(name), Some(value), "{name}");
    }
}

#[test]
fn the_same_goes_by_http() {
    let receiver = Receiver::taking();
    let mut run = Run::new();
    aim_http(&mut run, &receiver, &[]);
    record(&mut run);
    assert_eq!(send(&mut run), Ok(()));
    let [request] = &receiver.requests()[..] else {
        panic!("one request")
    };
    assert_eq!(lines(request), GOLDEN);
    assert_eq!(request.line, "POST /v1/metrics");
    let address = format!("127.0.0.1:{}", receiver.port);
    for (name, value) in [
        ("content-type", "application/x-protobuf"),
        ("host", &address),
    ] {
        assert_eq!(request.header(name), Some(value), "{name}");
    }
    assert_eq!(request.header("authorization"), None);
}

#[test]
fn bounds_of_buckets_belong_to_the_bucket_below() {
    let receiver = GrpcReceiver::taking();
    let mut run = Run::new();
    aim(&mut run, &receiver.address(), &[]);
    for value in [-1.0, 0.0, 0.1, 5.0, 5.1, 10_000.0, 10_000.1] {
        run.record(builtin::HTTP_REQ_DURATION, &[], value, NOW);
    }
    assert_eq!(send(&mut run), Ok(()));
    let [point] = &points(&receiver.requests()[0])[..] else {
        panic!("one point")
    };
    let Got::Histogram { counts, bounds, .. } = &point.value else {
        panic!("a histogram: {point:?}")
    };
    assert_eq!(bounds[..], BOUNDS);
    let mut expected = [0; 16];
    for (index, count) in [(0, 2), (1, 2), (2, 1), (14, 1), (15, 1)] {
        expected[index] = count;
    }
    assert_eq!(counts[..], expected);
}

#[test]
fn a_rate_may_be_two_counters_as_it_was() {
    let receiver = GrpcReceiver::taking();
    let mut run = Run::new();
    let old = ("K6_OTEL_SINGLE_COUNTER_FOR_RATE", "false");
    aim(&mut run, &receiver.address(), &[old]);
    for value in [1.0, 0.0, 0.0] {
        run.record(builtin::CHECKS, &[("condition", "mine")], value, NOW);
    }
    assert_eq!(send(&mut run), Ok(()));
    assert_eq!(
        lines(&receiver.requests()[0]),
        [
            r#"checks.occurred[]{condition="mine"} count 1"#,
            r#"checks.total[]{condition="mine"} count 3"#,
        ]
    );
}

#[test]
fn series_that_differ_in_impossible_attributes_alone_are_one() {
    let receiver = GrpcReceiver::taking();
    let mut run = Run::new();
    aim(&mut run, &receiver.address(), &[]);
    for tags in [
        &[("condition", "a")][..],
        &[("condition", "b"), ("", "c")],
        &[],
    ] {
        run.record(builtin::CHECKS, tags, 1.0, NOW);
        run.record(builtin::HTTP_REQS, tags, 1.0, NOW);
    }
    assert_eq!(send(&mut run), Ok(()));
    assert_eq!(
        lines(&receiver.requests()[0]),
        [
            r#"checks.total[]{condition="nonzero"} count 3"#,
            r#"http_reqs[]{condition="a"} sum 1"#,
            r#"http_reqs[]{condition="b"} sum 1"#,
            "http_reqs[]{} sum 1",
        ]
    );
}

#[test]
fn settings_reach_the_receiver() {
    let (grpc, http) = (GrpcReceiver::taking(), Receiver::taking());
    let mut run = Run::new();
    let settings = [
        ("OTEL_SERVICE_NAME", "others"),
        ("K6_OTEL_SERVICE_NAME", "mine"),
        ("K6_OTEL_SERVICE_VERSION", "7"),
        ("K6_OTEL_METRIC_PREFIX", "k6."),
        (
            "K6_OTEL_HEADERS",
            "X-Scope-OrgID=a b, authorization=Basic%20bWU6eA==",
        ),
        ("K6_OTEL_HTTP_EXPORTER_URL_PATH", "otlp/v1/metrics"),
        ("K6_OTEL_FLUSH_INTERVAL", "100ms"),
        ("K6_OTEL_EXPORT_INTERVAL", "1h"),
    ];
    aim(&mut run, &grpc.address(), &settings);
    run.record(builtin::VUS, &[], 1.0, NOW);
    let batch = run.shard.drain();
    let mut output = open(run.context.clone()).unwrap();
    let place = format!("opentelemetry (grpc, {})", grpc.address());
    assert_eq!(output.describe(), place);
    output.add(&batch);
    assert_eq!(output.finish(), Ok(()));
    aim_http(&mut run, &http, &settings);
    let mut output = open(run.context.clone()).unwrap();
    let place = format!(
        "opentelemetry (http/protobuf, {}/otlp/v1/metrics)",
        http.url()
    );
    assert_eq!(output.describe(), place);
    output.add(&batch);
    assert_eq!(output.finish(), Ok(()));
    assert_eq!(http.requests()[0].line, "POST /otlp/v1/metrics");
    for request in [&grpc.requests()[0], &http.requests()[0]] {
        assert_eq!(request.header("x-scope-orgid"), Some("a b"));
        assert_eq!(request.header("authorization"), Some("Basic bWU6eA=="));
        assert_eq!(lines(request), ["k6.vus[]{} gauge 1"]);
        let resource = otlp::read(&request.body).0;
        assert_eq!(resource["service.name"], "mine");
        assert_eq!(resource["service.version"], "7");
    }
    // A name and a password are for HTTP; the name of the service may be that of all programs.
    let user = [
        ("OTEL_SERVICE_NAME", "others"),
        ("K6_OTEL_HTTP_EXPORTER_USERNAME", "me"),
        ("K6_OTEL_HTTP_EXPORTER_PASSWORD", "secret"),
    ];
    aim_http(&mut run, &http, &user);
    run.record(builtin::VUS, &[], 1.0, NOW);
    assert_eq!(send(&mut run), Ok(()));
    let request = &http.requests()[1];
    assert_eq!(request.header("authorization"), Some("Basic bWU6c2VjcmV0"));
    assert_eq!(otlp::read(&request.body).0["service.name"], "others");
}

/// A certificate for localhost that signed itself, and its key.
struct Identity {
    certificate: CertificateDer<'static>,
    key: PrivatePkcs8KeyDer<'static>,
    pem: String,
    key_pem: String,
}

impl Identity {
    fn new(folder: &Path, name: &str) -> Self {
        let made = rcgen::generate_simple_self_signed(["localhost".to_owned()]).unwrap();
        let write = |end: &str, text: String| {
            let path = folder.join(format!("{name}.{end}"));
            std::fs::write(&path, text).unwrap();
            path.to_str().unwrap().to_owned()
        };
        Self {
            certificate: made.cert.der().clone(),
            key: made.signing_key.serialize_der().into(),
            pem: write("pem", made.cert.pem()),
            key_pem: write("key", made.signing_key.serialize_pem()),
        }
    }
}

/// Speaks TLS, agreeing on that protocol and asking for that client's certificate, and hands on what
/// it hears. Its port.
fn wrap(port: u16, own: &Identity, client: Option<&Identity>, protocol: Option<&[u8]>) -> u16 {
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let builder = rustls::ServerConfig::builder_with_provider(provider.clone());
    let builder = builder.with_safe_default_protocol_versions().unwrap();
    let builder = match client {
        None => builder.with_no_client_auth(),
        Some(client) => {
            let mut roots = rustls::RootCertStore::empty();
            roots.add(client.certificate.clone()).unwrap();
            let verifier = rustls::server::WebPkiClientVerifier::builder_with_provider(
                Arc::new(roots),
                provider,
            );
            builder.with_client_cert_verifier(verifier.build().unwrap())
        }
    };
    let key = own.key.clone_key().into();
    let config = builder.with_single_cert(vec![own.certificate.clone()], key);
    let mut config = config.unwrap();
    config.alpn_protocols.extend(protocol.map(<[u8]>::to_vec));
    let acceptor = TlsAcceptor::from(Arc::new(config));
    let (tell, told) = std::sync::mpsc::channel();
    std::thread::spawn(move || {
        let runtime = tokio::runtime::Builder::new_current_thread();
        let runtime = { runtime }.enable_all().build().unwrap();
        runtime.block_on(async {
            let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
            tell.send(listener.local_addr().unwrap().port()).unwrap();
            loop {
                let (stream, _) = listener.accept().await.unwrap();
                let Ok(mut stream) = acceptor.accept(stream).await else {
                    continue;
                };
                tokio::spawn(async move {
                    let mut inner = TcpStream::connect(("127.0.0.1", port)).await.unwrap();
                    let _ = tokio::io::copy_bidirectional(&mut stream, &mut inner).await;
                });
            }
        });
    });
    told.recv().unwrap()
}

#[test]
fn tls_is_spoken_as_the_settings_say() {
    let folder = tempfile::tempdir().unwrap();
    let [own, me] = ["own", "me"].map(|name| Identity::new(folder.path(), name));
    let (grpc, http) = (GrpcReceiver::taking(), Receiver::taking());
    let mut run = Run::new();
    let trusted = ("K6_OTEL_TLS_CERTIFICATE", own.pem.as_str());
    let known = [
        trusted,
        ("K6_OTEL_TLS_CLIENT_CERTIFICATE", &me.pem),
        ("K6_OTEL_TLS_CLIENT_KEY", &me.key_pem),
    ];
    let any = ("K6_OTEL_TLS_INSECURE_SKIP_VERIFY", "true");
    // By gRPC, they go before the wish for no TLS.
    let both = [trusted, ("K6_OTEL_GRPC_EXPORTER_INSECURE", "true")];
    let cases: [(_, &[_], _); 5] = [
        (None, &[], Some("invalid peer certificate")),
        (None, &[trusted], None),
        (None, &[any], None),
        (None, &both, None),
        (Some(&me), &known, None),
    ];
    for (protocol, plain, offered) in [
        ("grpc", grpc.port, "h2"),
        ("http/protobuf", http.port, "http/1.1"),
    ] {
        for (client, settings, problem) in &cases {
            let port = wrap(plain, &own, *client, Some(offered.as_bytes()));
            let address = format!("localhost:{port}");
            let mut variables = vec![
                ("K6_OTEL_EXPORTER_PROTOCOL", protocol),
                ("K6_OTEL_GRPC_EXPORTER_ENDPOINT", &address),
                ("K6_OTEL_HTTP_EXPORTER_ENDPOINT", &address),
            ];
            variables.extend(settings.iter());
            run.env(&variables);
            run.record(builtin::VUS, &[], 1.0, NOW);
            let said = send(&mut run);
            match problem {
                None => assert_eq!(said, Ok(()), "{protocol} {settings:?}"),
                Some(text) => assert!(said.unwrap_err().contains(text), "{protocol}"),
            }
        }
    }
    assert_eq!((grpc.requests().len(), http.requests().len()), (4, 4));
    // Who does not say that HTTP/2 is understood is not to hear it.
    for (offered, problem) in [
        (None, "the receiver does not speak HTTP/2 over TLS"),
        (Some(&b"http/1.1"[..]), "NoApplicationProtocol"),
    ] {
        let port = wrap(grpc.port, &own, None, offered);
        let address = format!("localhost:{port}");
        run.env(&[trusted, ("K6_OTEL_GRPC_EXPORTER_ENDPOINT", &address)]);
        run.record(builtin::VUS, &[], 1.0, NOW);
        let said = send(&mut run).unwrap_err();
        assert!(said.contains(problem), "{said}");
    }
    assert_eq!(grpc.requests().len(), 4);
}

#[test]
fn every_export_has_every_series_cumulative() {
    let receiver = GrpcReceiver::taking();
    let mut run = Run::new();
    let often = ("K6_OTEL_EXPORT_INTERVAL", "1ms");
    aim(&mut run, &receiver.address(), &[often]);
    let mut output = open(run.context.clone()).unwrap();
    run.record(builtin::VUS, &[], 1.0, NOW);
    run.record(builtin::HTTP_REQ_DURATION, &[], 2.0, NOW);
    output.add(&run.batch(3));
    receiver.until(2);
    output.add(&run.batch(4));
    assert_eq!(output.finish(), Ok(()));
    let requests = receiver.requests();
    let all = |sum| {
        [
            "http_req_duration[ms]{} histogram 1 2 2..2".to_owned(),
            format!("iterations[]{{}} sum {sum}"),
            "vus[]{} gauge 1".to_owned(),
        ]
    };
    assert_eq!(lines(&requests[0]), all(3));
    assert_eq!(lines(&requests[1]), all(3));
    assert_eq!(lines(requests.last().unwrap()), all(7));
    let last = otlp::last(&requests, "iterations");
    assert_eq!(last, [(BTreeMap::new(), Got::Sum(7.0))]);
}

#[test]
fn many_series_go_with_several_requests_each_once() {
    const SERIES: usize = 60_000;
    let receiver = GrpcReceiver::taking();
    let mut run = Run::new();
    aim(&mut run, &receiver.address(), &[]);
    for number in 0..SERIES {
        let tags = [("number", &*number.to_string())];
        run.record(builtin::HTTP_REQS, &tags, 1.0, NOW);
    }
    run.record(builtin::VUS, &[], 1.0, NOW);
    assert_eq!(send(&mut run), Ok(()));
    let requests = receiver.requests();
    assert!(requests.len() > 1);
    let all: Vec<Point> = requests.iter().flat_map(points).collect();
    assert_eq!(all.len(), SERIES + 1);
    let different: std::collections::BTreeSet<_> =
        all.iter().map(|point| &point.attributes).collect();
    assert_eq!(different.len(), SERIES + 1);
    for request in &requests {
        assert!(request.body.len() < 4 << 20);
    }
}

#[test]
fn what_a_failed_export_carried_goes_with_the_next_one() {
    let receiver = GrpcReceiver::start(|number| match number {
        0 => GrpcAnswer::Code(14, "no%20backend"),
        1 => GrpcAnswer::Status(503),
        _ => GrpcAnswer::Taken,
    });
    let mut run = Run::new();
    let said = run.listen();
    let often = ("K6_OTEL_EXPORT_INTERVAL", "1ms");
    aim(&mut run, &receiver.address(), &[often]);
    let mut output = open(run.context.clone()).unwrap();
    output.add(&run.batch(3));
    receiver.until(3);
    assert_eq!(output.finish(), Ok(()));
    for request in &receiver.requests() {
        assert_eq!(lines(request), ["iterations[]{} sum 3"]);
    }
    let message = "OpenTelemetry: the metrics were not exported";
    assert_eq!(
        *said.lock().unwrap(),
        ["UNAVAILABLE: no backend", "status 503"]
            .map(|error| format!("{message} error={error} output=OpenTelemetry"))
    );
}

#[test]
fn the_last_export_is_tried_again_where_that_may_help() {
    for (answer, again, reason) in [
        (GrpcAnswer::Code(14, "later"), true, "UNAVAILABLE: later"),
        (
            GrpcAnswer::Code(3, "never"),
            false,
            "INVALID_ARGUMENT: never",
        ),
        (GrpcAnswer::Status(500), false, "status 500"),
    ] {
        // The first time it fails to the end, the second only until the last attempt.
        for failures in [usize::MAX, LAST_FAILURES - 1] {
            let receiver = GrpcReceiver::start(move |number| match number < failures {
                true => answer,
                false => GrpcAnswer::Taken,
            });
            let mut run = Run::new();
            aim(&mut run, &receiver.address(), &[]);
            run.record(builtin::VUS, &[], 1.0, NOW);
            run.record(builtin::ITERATIONS, &[], 1.0, NOW);
            let ended = send(&mut run);
            let lost = format!(
                "opentelemetry (grpc, {}): the last values of 2 series did not arrive: {reason}",
                receiver.address()
            );
            match again && failures < LAST_FAILURES {
                true => assert_eq!(ended, Ok(())),
                false => assert_eq!(ended, Err(lost)),
            }
            let attempts = if again { LAST_FAILURES } else { 1 };
            assert_eq!(receiver.requests().len(), attempts);
        }
    }
}

#[test]
fn what_is_rejected_is_counted_and_said() {
    let receiver = GrpcReceiver::start(|_| GrpcAnswer::Rejects(2, "too many series"));
    let mut run = Run::new();
    let said = run.listen();
    aim(&mut run, &receiver.address(), &[]);
    run.record(builtin::VUS, &[], 1.0, NOW);
    let problem = send(&mut run).unwrap_err();
    let end = ": 2 data points were rejected: too many series";
    assert!(problem.ends_with(end), "{problem}");
    assert_eq!(
        *said.lock().unwrap(),
        [
            "OpenTelemetry: the receiver did not take all points=2 error=too many series \
          output=OpenTelemetry"
        ]
    );
    assert_eq!(receiver.requests().len(), 1, "it is no failure");
}

#[test]
fn a_dead_and_a_broken_receiver_are_said_at_the_end() {
    let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let dead = listener.local_addr().unwrap().to_string();
    drop(listener);
    let mut run = Run::new();
    aim(&mut run, &dead, &[]);
    run.record(builtin::VUS, &[], 1.0, NOW);
    let problem = send(&mut run).unwrap_err();
    assert!(problem.ends_with(": connection refused"), "{problem}");
    let broken = Receiver::start(|_, _| Answer::Says(500, "out of space\nmore"));
    aim_http(&mut run, &broken, &[]);
    run.record(builtin::VUS, &[], 1.0, NOW);
    let problem = send(&mut run).unwrap_err();
    let end = "the last values of 1 series did not arrive: status 500: out of space";
    assert!(problem.ends_with(end), "{problem}");
    // Who speaks no gRPC: an HTTP/1.1 server hangs up when it hears it.
    let other = Receiver::start(|_, _| Answer::HangUp);
    aim(&mut run, &format!("127.0.0.1:{}", other.port), &[]);
    run.record(builtin::VUS, &[], 1.0, NOW);
    let problem = send(&mut run).unwrap_err();
    let part = "the last values of 1 series did not arrive: Post \"http://127.0.0.1:";
    assert!(problem.contains(part), "{problem}");
}

#[test]
fn a_receiver_that_never_answers_is_left_when_the_time_is_up() {
    let receiver = GrpcReceiver::start(|_| GrpcAnswer::Silence);
    let mut run = Run::new();
    aim(&mut run, &receiver.address(), &[]);
    let settings = Settings::read(&run.context, KIND.name, SETTINGS);
    let plan = Plan {
        patience: Duration::from_millis(50),
        ..Plan::every(Duration::from_millis(1))
    };
    // The limit of a request first, that of the end second.
    for (limit, reason) in [
        (Duration::from_millis(1), "no answer within 1ms"),
        (Duration::from_secs(3600), "there was no time left"),
    ] {
        let endpoint = endpoint(&settings, Protocol::Grpc).unwrap();
        let context = run.context.clone();
        let feed = OpenTelemetry::new(context, &settings, Protocol::Grpc, &endpoint).unwrap();
        let tls = TlsOptions::default();
        let client = Client::new(endpoint, Version::Http2, &tls, limit).unwrap();
        let mut output = Pusher::start("otel".to_owned(), feed, client, plan).unwrap();
        output.add(&run.batch(1));
        let problem = output.finish().unwrap_err();
        let begin = "otel: the last values of 1 series did not arrive: ";
        assert!(problem.starts_with(begin), "{problem}");
        assert!(problem.ends_with(reason), "{problem}");
    }
}

#[test]
fn settings_that_make_no_sense_are_refused() {
    let mut run = Run::new();
    for (variable, value, text) in [
        (
            "K6_OTEL_EXPORTER_PROTOCOL",
            "udp",
            "K6_OTEL_EXPORTER_PROTOCOL: the protocol \"udp\" is neither grpc nor http/protobuf",
        ),
        (
            "K6_OTEL_GRPC_EXPORTER_ENDPOINT",
            "http://localhost:4317",
            "K6_OTEL_GRPC_EXPORTER_ENDPOINT: \"http://localhost:4317\" must be HOST:PORT, without \
             a scheme and a path",
        ),
        (
            "K6_OTEL_GRPC_EXPORTER_INSECURE",
            "1",
            "K6_OTEL_GRPC_EXPORTER_INSECURE: invalid input:1",
        ),
        (
            "K6_OTEL_EXPORT_INTERVAL",
            "soon",
            "K6_OTEL_EXPORT_INTERVAL: time: invalid duration \"soon\"",
        ),
        (
            "K6_OTEL_FLUSH_INTERVAL",
            "0",
            "K6_OTEL_FLUSH_INTERVAL: \"0\" is no interval",
        ),
        (
            "K6_OTEL_HEADERS",
            "a",
            "K6_OTEL_HEADERS: \"a\" is no pair of a name and a value",
        ),
        (
            "K6_OTEL_HEADERS",
            "a b=secret",
            "the header \"a b\" is none, or its value is not one",
        ),
        (
            "K6_OTEL_TLS_CLIENT_KEY",
            "key.pem",
            "a client certificate and its key must be given together",
        ),
        (
            "K6_OTEL_TLS_CERTIFICATE",
            "/no/such",
            "/no/such: I/O error: No such file or directory (os error 2)",
        ),
    ] {
        run.env(&[(variable, value)]);
        let problem = open(run.context.clone()).err();
        assert_eq!(problem.as_deref(), Some(text), "{variable}");
    }
}

#[test]
fn the_table_has_it_under_both_names_and_the_old_one_warns() {
    let mut run = Run::new();
    let said = run.listen();
    let open = |name: &str| {
        let kind = OUTPUTS.iter().find(|kind| kind.name == name).unwrap();
        (kind.open)("ignored", run.context.clone()).unwrap()
    };
    for name in ["opentelemetry", "experimental-opentelemetry"] {
        let mut output = open(name);
        assert_eq!(output.describe(), "opentelemetry (grpc, localhost:4317)");
        assert!(!output.wants_raw());
        output.close();
        assert_eq!(output.finish(), Ok(()), "nothing was measured");
    }
    let said = said.lock().unwrap();
    assert_eq!(said.len(), 1);
    assert!(said[0].contains("use --out opentelemetry"));
}
