//! Real requests over loopback sockets, to a run that only pretends.

use std::{
    io::{BufRead as _, BufReader, Read as _, Write as _},
    net::{SocketAddr, TcpStream},
    sync::{
        Mutex,
        atomic::{AtomicBool, Ordering},
        mpsc,
    },
    time::Duration,
};

use serde_json::{Value, json};
use volley_metrics::{
    Check, Group, MetricKind, MetricSnapshot, PageFormat, TrendSink, ValueType, Values,
};

use super::*;
use crate::logging::{Format, LogOptions, LogOutput};

/// A run that is paused, with a few metrics.
struct Fake {
    status: Mutex<Status>,
    setup: Mutex<SetupData>,
    setup_fails: AtomicBool,
    teardowns: AtomicU64,
    scaled: Mutex<Option<(Option<i64>, Option<i64>)>>,
    /// Taken by each reading of the metrics: while a test holds it, they wait.
    gate: Mutex<()>,
    snapshot: Arc<Snapshot>,
}

impl Control for Fake {
    fn status(&self) -> Status {
        *self.status.lock().unwrap()
    }

    fn pause(&self, paused: bool) -> BoxFuture<Result<(), ApiError>> {
        let mut status = self.status.lock().unwrap();
        let outcome = if paused && status.paused {
            Err(ApiError::pause("execution is already paused"))
        } else {
            status.paused = paused;
            Ok(())
        };
        Box::pin(std::future::ready(outcome))
    }

    fn stop(&self) {
        self.status.lock().unwrap().stopped = true;
    }

    fn scale(&self, vus: Option<i64>, vus_max: Option<i64>) -> BoxFuture<Result<(), ApiError>> {
        *self.scaled.lock().unwrap() = Some((vus, vus_max));
        Box::pin(std::future::ready(Err(ApiError::scale(
            "live VU configuration updates are not supported",
        ))))
    }

    fn snapshot(&self) -> Arc<Snapshot> {
        let _gate = self.gate.lock().unwrap();
        Arc::clone(&self.snapshot)
    }

    fn setup_data(&self) -> SetupData {
        self.setup.lock().unwrap().clone()
    }

    fn set_setup_data(&self, raw: Option<String>) {
        *self.setup.lock().unwrap() = raw;
    }

    fn run_setup(&self) -> BoxFuture<Result<(), String>> {
        let outcome = if self.setup_fails.load(Ordering::Relaxed) {
            Err("Error: no\n\tat setup (file:///s.js:1:1(1))\n".to_owned())
        } else {
            self.set_setup_data(Some(
                "{\"token\":\"abc\",\"big\":12345678901234567890}".to_owned(),
            ));
            Ok(())
        };
        Box::pin(std::future::ready(outcome))
    }

    fn run_teardown(&self) -> BoxFuture<Result<(), String>> {
        self.teardowns.fetch_add(1, Ordering::Relaxed);
        Box::pin(std::future::ready(Ok(())))
    }
}

fn metric(name: &str, kind: MetricKind, contains: ValueType, values: Values) -> MetricSnapshot {
    let parent = name.strip_suffix('}').and_then(|name| name.split_once('{'));
    let parent = parent.map(|(parent, suffix)| (parent.into(), suffix.into()));
    MetricSnapshot {
        name: name.into(),
        parent,
        kind,
        contains,
        values,
        thresholds: Vec::new(),
        tainted: None,
    }
}

fn snapshot() -> Snapshot {
    let mut sink = TrendSink::new();
    for value in [1.0, 2.0, 4.0] {
        sink.add(value);
    }
    let counter = |count| Values::Counter {
        count,
        rate: count / 1.5,
    };
    let mut failing = metric(
        "ripe",
        MetricKind::Rate,
        ValueType::Default,
        Values::Rate {
            rate: 0.5,
            passes: 2,
            fails: 2,
        },
    );
    failing.tainted = Some(true);
    let gauge = Values::Gauge {
        value: 3.0,
        min: 1.0,
        max: 5.0,
    };
    let ok = Check {
        name: "ok!".to_owned(),
        path: "::g one::ok!".to_owned(),
        passes: 3,
        fails: 0,
    };
    let group = Group {
        name: "g one".to_owned(),
        path: "::g one".to_owned(),
        groups: Vec::new(),
        checks: vec![ok],
    };
    Snapshot {
        metrics: vec![
            metric(
                "http_reqs",
                MetricKind::Counter,
                ValueType::Default,
                counter(3.0),
            ),
            metric(
                "http_reqs{url:http://h/a b}",
                MetricKind::Counter,
                ValueType::Default,
                counter(0.0),
            ),
            failing,
            metric("vus", MetricKind::Gauge, ValueType::Default, gauge),
            metric(
                "t",
                MetricKind::Trend,
                ValueType::Time,
                Values::Trend(Arc::new(sink)),
            ),
        ],
        root_group: Group {
            groups: vec![group],
            ..Group::default()
        },
        checks: Vec::new(),
        run_seconds: 1.5,
    }
}

fn logger(options: &LogOptions) -> Arc<Logger> {
    Arc::new(Logger::open(options).unwrap())
}

fn quiet() -> Arc<Logger> {
    logger(&LogOptions {
        output: LogOutput::None,
        ..LogOptions::default()
    })
}

fn started(logger: Arc<Logger>) -> (Server, Arc<Fake>) {
    let fake = Arc::new(Fake {
        status: Mutex::new(Status {
            status: 4,
            paused: true,
            vus_max: 1,
            ..Status::default()
        }),
        setup: Mutex::default(),
        setup_fails: AtomicBool::default(),
        teardowns: AtomicU64::default(),
        scaled: Mutex::default(),
        gate: Mutex::default(),
        snapshot: Arc::new(snapshot()),
    });
    let control: Arc<dyn Control> = Arc::<Fake>::clone(&fake);
    (
        serve(bind("127.0.0.1:0").unwrap(), control, logger).unwrap(),
        fake,
    )
}

/// An answer: status, head in lower case, body.
struct Reply {
    status: u16,
    head: String,
    body: Vec<u8>,
}

impl Reply {
    fn text(&self) -> &str {
        std::str::from_utf8(&self.body).unwrap()
    }

    fn json(&self) -> Value {
        serde_json::from_slice(&self.body).unwrap()
    }
}

fn request(address: SocketAddr, method: &str, path: &str, headers: &str, body: &str) -> Reply {
    let mut stream = TcpStream::connect(address).unwrap();
    write!(
        stream,
        "{method} {path} HTTP/1.1\r\nHost: volley\r\nConnection: close\r\n{headers}Content-Length: {}\r\n\r\n{body}",
        body.len()
    )
    .unwrap();
    let mut reader = BufReader::new(stream);
    let mut head = String::new();
    while !head.ends_with("\r\n\r\n") {
        assert_ne!(
            reader.read_line(&mut head).unwrap(),
            0,
            "the connection closed in the head: {head}"
        );
    }
    let mut body = Vec::new();
    reader.read_to_end(&mut body).unwrap();
    let status = head.split(' ').nth(1).unwrap().parse().unwrap();
    Reply {
        status,
        head: head.to_lowercase(),
        body,
    }
}

fn get(server: &Server, path: &str) -> Reply {
    request(server.address(), "GET", path, "", "")
}

fn send(server: &Server, method: &str, path: &str, body: &str) -> Reply {
    request(server.address(), method, path, "", body)
}

#[test]
fn the_status_is_read_and_patched_as_the_operator_does() {
    let (server, fake) = started(quiet());
    let reply = get(&server, "/v1/status");
    assert_eq!(reply.status, 200);
    assert!(
        reply
            .head
            .contains("content-type: application/json; charset=utf-8\r\n")
    );
    assert_eq!(
        reply.text(),
        r#"{"data":{"type":"status","id":"default","attributes":{"status":4,"paused":true,"vus":0,"vus-max":1,"stopped":false,"running":false,"tainted":false}}}"#
    );
    let starter = r#"{"data":{"attributes":{"paused":false,"stopped":false},"id":"default","type":"status"}}"#;
    let reply = send(&server, "PATCH", "/v1/status", starter);
    assert_eq!(
        (reply.status, &reply.json()["data"]["attributes"]["paused"]),
        (200, &json!(false))
    );
    for nothing in [
        "{}",
        r#"{"data":null}"#,
        r#"{"data":{"attributes":{"paused":null,"vus":null}}}"#,
    ] {
        let reply = send(&server, "PATCH", "/v1/status", nothing);
        assert_eq!(reply.status, 200);
        assert_eq!(reply.json()["data"]["attributes"]["paused"], false);
    }
    assert_eq!(*fake.scaled.lock().unwrap(), None);
    server.shutdown();
}

#[test]
fn a_refused_patch_says_why_and_a_stop_wins() {
    let (server, fake) = started(quiet());
    let pause = r#"{"data":{"attributes":{"paused":true}}}"#;
    let reply = send(&server, "PATCH", "/v1/status", pause);
    assert_eq!(reply.status, 500);
    assert_eq!(
        reply.text(),
        r#"{"errors":[{"status":"500","title":"Pause error","detail":"execution is already paused"}]}"#
    );
    let reply = send(
        &server,
        "PATCH",
        "/v1/status",
        r#"{"data":{"attributes":{"vus":5,"vus-max":9}}}"#,
    );
    assert_eq!(
        (reply.status, &reply.json()["errors"][0]["title"]),
        (500, &json!("Execution config error"))
    );
    assert_eq!(*fake.scaled.lock().unwrap(), Some((Some(5), Some(9))));
    for broken in [
        "",
        "{",
        "[]x",
        r#"{"data":{"attributes":{"paused":"yes"}}}"#,
    ] {
        let reply = send(&server, "PATCH", "/v1/status", broken);
        assert_eq!(
            (reply.status, &reply.json()["errors"][0]["title"]),
            (400, &json!("Invalid data")),
            "{broken}"
        );
    }
    let stop = r#"{"data":{"attributes":{"stopped":true,"paused":true,"vus":1}}}"#;
    let reply = send(&server, "PATCH", "/v1/status", stop);
    assert_eq!(
        (reply.status, &reply.json()["data"]["attributes"]["stopped"]),
        (200, &json!(true))
    );
    server.shutdown();
}

#[test]
fn metrics_are_listed_and_found_by_name() {
    let (server, _) = started(quiet());
    let list = get(&server, "/v1/metrics").json();
    assert_eq!(list["data"].as_array().unwrap().len(), 5);
    assert_eq!(
        get(&server, "/v1/metrics/http_reqs").text(),
        r#"{"data":{"type":"metrics","id":"http_reqs","attributes":{"type":"counter","contains":"default","tainted":null,"sample":{"count":3,"rate":2}}}}"#
    );
    let attributes = |name: &str| {
        get(&server, &format!("/v1/metrics/{name}")).json()["data"]["attributes"].take()
    };
    assert_eq!(
        attributes("t"),
        json!({"type": "trend", "contains": "time", "tainted": null,
               "sample": {"avg": 7.0 / 3.0, "max": 4, "med": 2, "min": 1, "p(90)": 3.6, "p(95)": 3.8}})
    );
    assert_eq!(attributes("vus")["sample"], json!({"value": 3}));
    assert_eq!(attributes("ripe")["sample"], json!({"rate": 0.5}));
    assert_eq!(attributes("ripe")["tainted"], true);
    // With its braces and slashes as they are, and encoded.
    assert_eq!(
        attributes("http_reqs{url:http://h/a%20b}")["sample"]["count"],
        0
    );
    assert_eq!(
        attributes("http_reqs%7Burl%3Ahttp%3A%2F%2Fh%2Fa%20b%7D")["sample"]["count"],
        0
    );
    let missing = get(&server, "/v1/metrics/pears");
    assert_eq!(missing.status, 404);
    assert_eq!(
        missing.text(),
        r#"{"errors":[{"status":"404","title":"Not Found","detail":"No metric with that ID was found"}]}"#
    );
    server.shutdown();
}

#[test]
fn groups_are_a_list_with_the_root_first() {
    let (server, _) = started(quiet());
    assert_eq!(
        get(&server, "/v1/groups").text(),
        concat!(
            r#"{"data":[{"type":"groups","id":"d41d8cd98f00b204e9800998ecf8427e","attributes":{"path":"","name":"","checks":null},"#,
            r#""relationships":{"groups":{"data":[{"type":"groups","id":"fb2031917cfc18ac9bb285bc744fb590"}]},"parent":{"data":null}}},"#,
            r#"{"type":"groups","id":"fb2031917cfc18ac9bb285bc744fb590","attributes":{"path":"::g one","name":"g one","checks":"#,
            r#"[{"id":"8c8f8790823117a7bf8ab4cde5a38a73","path":"::g one::ok!","name":"ok!","passes":3,"fails":0}]},"#,
            r#""relationships":{"groups":{"data":[]},"parent":{"data":{"type":"groups","id":"d41d8cd98f00b204e9800998ecf8427e"}}}}]}"#,
        )
    );
    let one = get(&server, "/v1/groups/fb2031917cfc18ac9bb285bc744fb590").json();
    assert_eq!(one["data"]["attributes"]["name"], "g one");
    let missing = get(&server, "/v1/groups/0").json();
    assert_eq!(
        missing["errors"][0]["detail"],
        "No group with that ID was found"
    );
    server.shutdown();
}

#[test]
fn setup_data_are_read_replaced_and_made() {
    let (server, fake) = started(quiet());
    let nothing = r#"{"data":{"type":"setupData","id":"default","attributes":{}}}"#;
    assert_eq!(get(&server, "/v1/setup").text(), nothing);
    let put = |body: &str| send(&server, "PUT", "/v1/setup", body);
    assert_eq!(
        put(" {\"x\":[1,2]} \n").text(),
        r#"{"data":{"type":"setupData","id":"default","attributes":{"data":{"x":[1,2]}}}}"#
    );
    let refused = put("{not json");
    assert_eq!(
        (refused.status, &refused.json()["errors"][0]["title"]),
        (400, &json!("Error parsing request body"))
    );
    assert_eq!(fake.setup_data().as_deref(), Some("{\"x\":[1,2]}"));
    assert_eq!(
        put("null").text(),
        r#"{"data":{"type":"setupData","id":"default","attributes":{"data":null}}}"#
    );
    assert_eq!(put("").text(), nothing);
    let large = format!("\"{}\"", "x".repeat(3 << 20));
    assert_eq!(put(&large).status, 200);
    assert_eq!(fake.setup_data(), Some(large));

    let made = send(&server, "POST", "/v1/setup", "");
    assert!(made.head.contains("content-type: application/json\r\n"));
    assert_eq!(
        made.text(),
        r#"{"data":{"type":"setupData","id":"default","attributes":{"data":{"token":"abc","big":12345678901234567890}}}}"#
    );
    fake.setup_fails.store(true, Ordering::Relaxed);
    let failed = send(&server, "POST", "/v1/setup", "");
    assert_eq!(failed.status, 500);
    assert_eq!(failed.json()["errors"][0]["title"], "Error executing setup");
    assert_eq!(
        failed.json()["errors"][0]["detail"],
        "Error: no\n\tat setup (file:///s.js:1:1(1))\n"
    );

    let ended = send(&server, "POST", "/v1/teardown", "");
    assert_eq!((ended.status, ended.text()), (200, ""));
    assert_eq!(fake.teardowns.load(Ordering::Relaxed), 1);
    server.shutdown();
}

#[test]
fn known_paths_refuse_other_methods_and_unknown_ones_are_ok() {
    let (server, _) = started(quiet());
    for (method, path) in [
        ("DELETE", "/v1/status"),
        ("HEAD", "/v1/status"),
        ("POST", "/v1/metrics"),
        ("PUT", "/v1/metrics/http_reqs"),
        ("PATCH", "/v1/groups"),
        ("POST", "/v1/groups/0"),
        ("DELETE", "/v1/setup"),
        ("GET", "/v1/teardown"),
    ] {
        let reply = send(&server, method, path, "");
        assert_eq!((reply.status, reply.text()), (405, ""), "{method} {path}");
    }
    for (method, path) in [
        ("GET", "/ping"),
        ("GET", "/"),
        ("POST", "/no/such/path"),
        ("DELETE", "/v2/status"),
    ] {
        let reply = send(&server, method, path, "");
        assert_eq!((reply.status, reply.text()), (200, "ok"), "{method} {path}");
        assert!(
            reply
                .head
                .contains("content-type: text/plain; charset=utf-8\r\n")
        );
    }
    for path in ["/v1/", "/v1/nothing", "/v1/status/more"] {
        let reply = get(&server, path);
        assert_eq!(
            (reply.status, reply.text().trim_end()),
            (404, "404 page not found"),
            "{path}"
        );
    }
    assert!(
        get(&server, "/debug/pprof/")
            .text()
            .starts_with("To enable profiling")
    );
    assert!(get(&server, "/debug/vars/").json()["process"]["process_open_fds"].is_number());
    assert!(
        get(&server, "/metrics")
            .text()
            .contains("\nprocess_resident_memory_bytes ")
    );
    server.shutdown();
}

#[test]
fn the_status_is_answered_while_metrics_are_still_being_read() {
    let (server, fake) = started(quiet());
    let gate = fake.gate.lock().unwrap();
    let address = server.address();
    // More readings than there are helpers.
    let readings: Vec<_> = (0..6)
        .map(|_| std::thread::spawn(move || request(address, "GET", "/v1/metrics", "", "").status))
        .collect();
    for _ in 0..20 {
        assert_eq!(get(&server, "/v1/status").status, 200);
    }
    drop(gate);
    for reading in readings {
        assert_eq!(reading.join().unwrap(), 200);
    }
    server.shutdown();
}

#[test]
fn requests_are_logged_at_debug() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("log");
    let output = LogOutput::parse(&format!("file={}", path.display())).unwrap();
    let logger = logger(&LogOptions {
        output,
        format: Format::Text,
        verbose: true,
        ..LogOptions::default()
    });
    let (server, _) = started(Arc::clone(&logger));
    get(&server, "/v1/metrics/pears");
    server.shutdown();
    assert!(logger.flush(Duration::from_secs(30)));
    let log = std::fs::read_to_string(path).unwrap();
    assert!(
        log.ends_with(" level=debug msg=\"GET /v1/metrics/pears\" status=404\n"),
        "{log}"
    );
}

#[test]
fn a_shutdown_frees_the_port_although_a_client_stays_connected() {
    let (server, _) = started(quiet());
    let address = server.address();
    let mut idle = TcpStream::connect(address).unwrap();
    write!(idle, "GET /ping HTTP/1.1\r\nHost: volley\r\n\r\n").unwrap();
    assert_ne!(idle.read(&mut [0; 64]).unwrap(), 0);
    server.shutdown();
    assert!(TcpStream::connect(address).is_err());
    assert!(bind(&address.to_string()).is_ok());
}

const FORMATS: &[PageFormat] = &[PageFormat::Protobuf, PageFormat::Text];

#[test]
fn a_scrape_is_text_on_every_path_and_counted() {
    let scraped = Arc::new(AtomicU64::new(0));
    let text = "# TYPE k6_http_reqs counter\nk6_http_reqs{method=\"GET\"} 3\n".repeat(50);
    let rendered = text.clone();
    let render = Arc::new(move |format| match format {
        PageFormat::Text => rendered.clone().into_bytes(),
        PageFormat::Protobuf => b"\x03abc".to_vec(),
    });
    let server = serve_metrics(
        bind("127.0.0.1:0").unwrap(),
        FORMATS,
        render,
        Arc::clone(&scraped),
    )
    .unwrap();
    for path in ["/metrics", "/", "/some/where?else"] {
        let reply = get(&server, path);
        assert_eq!((reply.status, reply.text()), (200, text.as_str()));
        assert!(
            reply
                .head
                .contains("content-type: text/plain; version=0.0.4; charset=utf-8\r\n")
        );
        assert!(!reply.head.contains("content-encoding"));
    }
    let reply = request(
        server.address(),
        "GET",
        "/metrics",
        "Accept-Encoding: gzip, deflate\r\n",
        "",
    );
    assert!(reply.head.contains("content-encoding: gzip\r\n"));
    assert!(reply.body.len() < text.len() / 4);
    let mut unpacked = String::new();
    flate2::read::GzDecoder::new(&*reply.body)
        .read_to_string(&mut unpacked)
        .unwrap();
    assert_eq!(unpacked, text);
    let protobuf = "application/vnd.google.protobuf;proto=io.prometheus.client.MetricFamily;encoding=delimited";
    let accept = format!("Accept: {protobuf}, text/plain;q=0.5\r\n");
    let reply = request(server.address(), "GET", "/metrics", &accept, "");
    assert_eq!(reply.body, b"\x03abc");
    let head = reply.head.to_ascii_lowercase();
    let content_type = protobuf.replace(';', "; ").to_ascii_lowercase();
    assert!(head.contains(&format!("content-type: {content_type}\r\n")));
    assert!(head.contains("vary: accept, accept-encoding\r\n"));
    assert_eq!(request(server.address(), "HEAD", "/", "", "").text(), "");
    assert_eq!(scraped.load(Ordering::Acquire), 5);
    server.shutdown();
}

#[test]
fn a_scrape_that_has_begun_ends_before_the_shutdown_does() {
    let (begun, has_begun) = mpsc::channel();
    let (go_on, may_go_on) = mpsc::channel();
    let may_go_on = Mutex::new(may_go_on);
    let render = Arc::new(move |_| {
        begun.send(()).unwrap();
        may_go_on.lock().unwrap().recv().unwrap();
        b"last 1\n".to_vec()
    });
    let server = serve_metrics(
        bind("127.0.0.1:0").unwrap(),
        FORMATS,
        render,
        Arc::default(),
    )
    .unwrap();
    let address = server.address();
    let scrape = std::thread::spawn(move || {
        request(address, "GET", "/metrics", "", "")
            .text()
            .to_owned()
    });
    has_begun.recv().unwrap();
    go_on.send(()).unwrap();
    server.shutdown();
    assert_eq!(scrape.join().unwrap(), "last 1\n");
}
