//! Golden lines, the settings of the URL, and receivers that are slow, dead or broken.

use super::*;
use crate::{
    Metadata, builtin,
    outputs::{
        Output,
        fixture::{NOW, Run},
        receiver::{Answer, Received, Receiver},
    },
};

/// An output that aims at a receiver.
fn start(run: &Run, receiver: &Receiver, more: &str) -> Pusher {
    let arg = format!("{}/db?{more}", receiver.url());
    open(&arg, run.context.clone()).unwrap()
}

/// Sends what is recorded so far, at the end.
fn send(run: &mut Run, receiver: &Receiver, more: &str) -> Result<(), String> {
    let mut output = start(run, receiver, more);
    output.add(&run.shard.drain());
    output.finish()
}

fn is_write(request: &Received) -> bool {
    request.line.contains("/write?")
}

/// The lines of all writes.
fn lines(receiver: &Receiver) -> Vec<String> {
    let requests = receiver.requests();
    let bodies = requests.iter().filter(|request| is_write(request));
    bodies
        .flat_map(|request| {
            let text = String::from_utf8(request.body.clone()).unwrap();
            text.lines().map(str::to_owned).collect::<Vec<_>>()
        })
        .collect()
}

/// The line of spec/cli.md §9, captured from the reference.
#[test]
fn lines_are_those_of_the_reference() {
    let receiver = Receiver::taking();
    let mut run = Run::new();
    let tags = [
        ("env", "stage"),
        ("group", "::grp"),
        ("method", "GET"),
        ("name", "http://127.0.0.1:8099/"),
        ("proto", "HTTP/1.1"),
        ("scenario", "default"),
        ("status", "200"),
        ("url", "http://127.0.0.1:8099/"),
        ("error", ""),
    ];
    run.record(builtin::HTTP_REQS, &tags, 1.0, 1_795_333_294_288_999_999);
    assert_eq!(send(&mut run, &receiver, "precision=ms"), Ok(()));
    assert_eq!(
        lines(&receiver),
        [
            "http_reqs,env=stage,group=::grp,method=GET,name=http://127.0.0.1:8099/,\
          proto=HTTP/1.1,scenario=default,status=200 \
          url=\"http://127.0.0.1:8099/\",value=1 1795333294288"
        ]
    );
    let requests = receiver.requests();
    assert_eq!(requests[0].line, "POST /query?q=CREATE%20DATABASE%20db");
    assert_eq!(
        requests[1].line,
        "POST /write?consistency=&db=db&precision=ms&rp="
    );
    assert_eq!(requests[1].header("user-agent"), Some("k6"));
    assert_eq!(requests[1].header("authorization"), None);
}

#[test]
fn what_has_a_meaning_in_a_line_is_escaped() {
    let receiver = Receiver::taking();
    let mut run = Run::new();
    let tags = [
        ("a b", "c,d=e f"),
        ("end", "back\\"),
        ("line", "one\ntwo"),
        ("url", "say \"hi\" \\o/"),
    ];
    run.record(builtin::HTTP_REQS, &tags, -1.5e-9, NOW);
    run.record(builtin::HTTP_REQS, &[], 1e21, NOW);
    assert_eq!(send(&mut run, &receiver, ""), Ok(()));
    assert_eq!(
        lines(&receiver),
        [
            "http_reqs,a\\ b=c\\,d\\=e\\ f,end=back\\\\ ,line=one\\ntwo \
             url=\"say \\\"hi\\\" \\\\o/\",value=-0.0000000015 1795333220477235185",
            "http_reqs value=1000000000000000000000 1795333220477235185"
        ]
    );
}

#[test]
fn tags_and_metadata_may_be_fields_of_their_kinds() {
    let receiver = Receiver::taking();
    let mut run = Run::new();
    let pair = |key: &str, value: &str| (key.to_owned(), value.to_owned());
    let metadata: Arc<Metadata> =
        Arc::new(vec![pair("vu", "7"), pair("iter", "x"), pair("no", "1")]);
    let tags = [
        ("zone", "1.50"),
        ("aware", "T"),
        ("text", "a"),
        ("bad", "a"),
        ("tag", "b"),
    ];
    let tags = run.context.tags.intern(&tags);
    for metadata in [None, Some(&metadata)] {
        run.shard
            .record_with(builtin::CHECKS, tags, 1.0, NOW, metadata);
    }
    let fields = "tagsAsFields=vu:int&tagsAsFields=iter:int&tagsAsFields=zone:float\
                  &tagsAsFields=aware:bool&tagsAsFields=text&tagsAsFields=bad:float";
    assert_eq!(send(&mut run, &receiver, fields), Ok(()));
    assert_eq!(
        lines(&receiver),
        [
            format!("checks,tag=b aware=true,text=\"a\",value=1,zone=1.5 {NOW}"),
            format!("checks,tag=b aware=true,text=\"a\",value=1,vu=7i,zone=1.5 {NOW}"),
        ]
    );
}

#[test]
fn the_url_and_the_environment_say_where_and_how() {
    let receiver = Receiver::taking();
    let mut run = Run::new();
    let host = receiver.url()["http://".len()..].to_owned();
    let url = receiver.url() + "/behind/";
    run.env(&[
        ("K6_INFLUXDB_ADDR", &url),
        ("K6_INFLUXDB_DB", "my-db"),
        ("K6_INFLUXDB_USERNAME", "me"),
        ("K6_INFLUXDB_PASSWORD", "secret"),
        ("K6_INFLUXDB_PRECISION", "s"),
        ("K6_INFLUXDB_RETENTION", "one week"),
        ("K6_INFLUXDB_CONSISTENCY", "any"),
        ("K6_INFLUXDB_TAGS_AS_FIELDS", "a,b:int"),
        ("K6_INFLUXDB_CONCURRENT_WRITES", "1"),
        ("K6_INFLUXDB_PUSH_INTERVAL", "1h"),
    ]);
    run.record(
        builtin::VUS,
        &[("a", "x"), ("b", "1"), ("url", "u")],
        3.0,
        NOW,
    );
    let batch = run.shard.drain();
    let mut output = open("", run.context.clone()).unwrap();
    assert_eq!(
        output.describe(),
        format!("InfluxDBv1 (http://{host}/behind)")
    );
    output.add(&batch);
    assert_eq!(output.finish(), Ok(()));
    let arg = format!("http://you:p%40ss@{host}/pre/fix/db%201?consistency=all&insecure=true");
    let mut output = open(&arg, run.context.clone()).unwrap();
    assert_eq!(
        output.describe(),
        format!("InfluxDBv1 (http://{host}/pre/fix)")
    );
    output.add(&batch);
    assert_eq!(output.finish(), Ok(()));
    let requests = receiver.requests();
    let seen: Vec<_> = requests
        .iter()
        .map(|request| (&*request.line, request.header("authorization").unwrap()))
        .collect();
    let (me, you) = ("Basic bWU6c2VjcmV0", "Basic eW91OnBAc3M=");
    assert_eq!(
        seen,
        [
            ("POST /behind/query?q=CREATE%20DATABASE%20%22my-db%22", me),
            (
                "POST /behind/write?consistency=any&db=my-db&precision=s&rp=one%20week",
                me
            ),
            (
                "POST /pre/fix/query?q=CREATE%20DATABASE%20%22db%201%22",
                you
            ),
            (
                "POST /pre/fix/write?consistency=all&db=db%201&precision=s&rp=one%20week",
                you
            ),
        ]
    );
    assert_eq!(
        lines(&receiver),
        ["vus,url=u a=\"x\",b=1i,value=3 1795333220"; 2]
    );
}

#[test]
fn a_proxy_is_asked_in_the_place_of_the_receiver() {
    let proxy = Receiver::taking();
    let mut run = Run::new();
    let url = format!("http://me:secret@127.0.0.1:{}", proxy.port);
    run.env(&[("K6_INFLUXDB_PROXY", &url)]);
    run.record(builtin::VUS, &[], 3.0, NOW);
    let mut output = open("http://nowhere.test:8086/db", run.context.clone()).unwrap();
    output.add(&run.shard.drain());
    assert_eq!(output.finish(), Ok(()));
    let requests = proxy.requests();
    assert!(
        requests[1]
            .line
            .starts_with("POST http://nowhere.test:8086/write?")
    );
    for request in &requests {
        assert_eq!(request.header("host"), Some("nowhere.test:8086"));
        let value = request.header("proxy-authorization");
        assert_eq!(value, Some("Basic bWU6c2VjcmV0"));
    }
    // For TLS it is to connect the two, which this one does not do.
    let proxy = Receiver::start(|_, _| Answer::Status(403));
    run.env(&[("K6_INFLUXDB_PROXY", &proxy.url())]);
    let mut output = open("https://nowhere.test/db", run.context.clone()).unwrap();
    output.add(&run.batch(1));
    let problem = output.finish().unwrap_err();
    assert!(
        problem.ends_with("the proxy: it answers \"HTTP/1.1 403 Whatever\""),
        "{problem}"
    );
    assert_eq!(proxy.requests()[0].line, "CONNECT nowhere.test:443");
}

#[test]
fn infinite_values_are_left_out_and_counted() {
    let receiver = Receiver::taking();
    let mut run = Run::new();
    for value in [f64::INFINITY, 5.0] {
        run.record(builtin::VUS, &[], value, NOW);
    }
    let problem = send(&mut run, &receiver, "").unwrap_err();
    assert!(
        problem.ends_with("1 infinite values have no form in it"),
        "{problem}"
    );
    assert_eq!(lines(&receiver), [format!("vus value=5 {NOW}")]);
}

#[test]
fn points_are_written_in_each_interval_and_many_go_with_several_requests() {
    let receiver = Receiver::taking();
    let mut run = Run::new();
    let mut output = start(&run, &receiver, "pushInterval=1ms");
    for count in 2..5 {
        output.add(&run.batch(3));
        receiver.until(count);
    }
    assert_eq!(lines(&receiver).len(), 9);
    let long = "x".repeat(1000);
    for n in 0..10_000 {
        run.record(builtin::VUS, &[("long", &long)], 1.0, NOW + n);
    }
    output.add(&run.shard.drain());
    assert_eq!(output.finish(), Ok(()));
    let lines = lines(&receiver);
    assert_eq!(lines.len(), 10_009);
    let different: std::collections::BTreeSet<&String> = lines.iter().collect();
    assert_eq!(different.len(), 10_001);
    assert!(receiver.requests().len() > 4 + 4);
}

/// Answers the question for the database, and writes by their number.
fn answering(write: impl Fn(usize) -> Answer + Send + Sync + 'static) -> Receiver {
    let writes = std::sync::atomic::AtomicUsize::new(0);
    Receiver::start(move |_, request| match is_write(request) {
        true => write(writes.fetch_add(1, std::sync::atomic::Ordering::SeqCst)),
        false => Answer::Says(200, "{\"results\":[{\"statement_id\":0}]}"),
    })
}

#[test]
fn what_the_receiver_could_not_take_goes_once_more() {
    for failure in [Answer::Says(503, "{\"error\":\"timeout\"}"), Answer::HangUp] {
        let receiver = answering(move |number| match number {
            0 => failure,
            _ => Answer::Status(204),
        });
        let mut run = Run::new();
        let said = run.listen();
        let mut output = start(&run, &receiver, "pushInterval=1ms");
        output.add(&run.batch(3));
        receiver.until(3);
        assert_eq!(output.finish(), Ok(()));
        let requests = receiver.requests();
        assert_eq!(requests.len(), 3);
        assert_eq!(requests[1].body, requests[2].body);
        let said = said.lock().unwrap();
        // A connection that was kept may end at any time: that is no failure yet.
        let expected: &[&str] = match failure {
            Answer::HangUp => &[],
            _ => &["InfluxDB: Couldn't write stats error=status 503: timeout output=InfluxDBv1"],
        };
        assert_eq!(*said, expected);
    }
}

#[test]
fn what_is_refused_is_lost_and_counted() {
    let receiver = answering(|_| Answer::Says(400, "{\"error\":\"field type conflict\"}"));
    let mut run = Run::new();
    let said = run.listen();
    let url = receiver.url();
    run.batch(0);
    for _ in 0..3 {
        run.record(builtin::VUS, &[], 1.0, NOW);
    }
    assert_eq!(
        send(&mut run, &receiver, "").unwrap_err(),
        format!("InfluxDBv1 ({url}): 3 samples were not written: status 400: field type conflict")
    );
    assert_eq!(receiver.requests().len(), 2);
    assert_eq!(said.lock().unwrap().len(), 1);
}

#[test]
fn a_dead_and_a_broken_receiver_are_said_at_the_end() {
    let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let dead = format!("http://{}", listener.local_addr().unwrap());
    drop(listener);
    let broken = answering(|_| Answer::Status(500));
    for (url, reason) in [(dead, "connection refused"), (broken.url(), "status 500")] {
        let mut run = Run::new();
        let mut output = open(&format!("{url}/db"), run.context.clone()).unwrap();
        output.add(&run.batch(7));
        let problem = output.finish().unwrap_err();
        let begin = format!("InfluxDBv1 ({url}): 7 samples were not written: ");
        assert!(
            problem.starts_with(&begin) && problem.ends_with(reason),
            "{problem}"
        );
    }
    // The one question, and as many attempts as the end allows.
    assert_eq!(broken.requests().len(), 1 + LAST_FAILURES);
}

#[test]
fn without_a_database_points_are_written_all_the_same() {
    let receiver = Receiver::start(|_, request| match is_write(request) {
        true => Answer::Status(204),
        false => Answer::Says(404, "not found\n"),
    });
    let mut run = Run::new();
    let said = run.listen();
    run.record(builtin::VUS, &[], 1.0, NOW);
    assert_eq!(send(&mut run, &receiver, ""), Ok(()));
    assert_eq!(lines(&receiver).len(), 1);
    assert_eq!(
        *said.lock().unwrap(),
        ["InfluxDB: Couldn't create database error=status 404: not found output=InfluxDBv1"]
    );
}

/// A feed whose requests the test answers itself.
fn feed(run: &Run) -> Influx {
    let settings = Settings::read(&run.context, KIND.name, SETTINGS);
    let endpoint = Endpoint::parse("http://localhost:8086").unwrap();
    Influx::new(run.context.clone(), &settings, &endpoint).unwrap()
}

fn reply(status: u16) -> Result<Reply, String> {
    Ok(Reply {
        status,
        headers: HeaderMap::new(),
        body: Bytes::new(),
    })
}

#[test]
fn what_is_held_is_bounded_and_room_comes_back() {
    let mut run = Run::new();
    let mut feed = feed(&run);
    feed.bound = 100;
    let (_, create) = feed.next().unwrap();
    assert!(feed.next().is_none(), "the answer comes first");
    feed.settle(create, reply(200));
    let mut round = |feed: &mut Influx, status| {
        feed.take(&run.batch(10));
        feed.tick(false);
        let (post, write) = feed.next().unwrap();
        assert!(feed.next().is_none());
        feed.settle(write, reply(status));
        post.body.len()
    };
    let line = format!("iterations value=1 {NOW}\n").len();
    let fit = 100_usize.div_ceil(line);
    assert_eq!(round(&mut feed, 503), fit * line);
    // It is still held.
    assert_eq!(round(&mut feed, 204), fit * line);
    assert_eq!(feed.dropped, 10 - fit as u64 + 10);
    assert_eq!(round(&mut feed, 400), fit * line);
    assert_eq!((feed.held, feed.lost), (0, fit as u64));
    let losses = feed.losses(false);
    assert_eq!(
        losses[0],
        format!("{fit} samples were not written: status 400")
    );
    let dropped = 30 - 2 * fit;
    assert_eq!(
        losses[1],
        format!("it was too slow, and {dropped} samples were dropped")
    );
}

#[test]
fn after_a_failure_nothing_is_sent_before_the_next_tick() {
    let mut run = Run::new();
    let mut feed = feed(&run);
    for _ in 0..3 {
        let (_, create) = feed.next().unwrap();
        feed.settle(create, Err("nobody there".to_owned()));
        assert!(feed.next().is_none());
        feed.tick(false);
    }
    let (_, create) = feed.next().unwrap();
    feed.settle(create, reply(200));
    feed.take(&run.batch(1));
    feed.seal();
    feed.take(&run.batch(1));
    feed.seal();
    let (first, write) = feed.next().unwrap();
    feed.settle(write, Err("nobody there".to_owned()));
    assert!(feed.next().is_none());
    feed.tick(false);
    let (again, _) = feed.next().unwrap();
    assert_eq!(first.body, again.body);
    assert!(feed.next().is_some(), "two at once");
    assert_eq!(
        feed.losses(true),
        ["2 samples were not written: nobody there"]
    );
}

#[test]
fn settings_that_make_no_sense_are_refused() {
    let run = Run::new();
    for (arg, text) in [
        (
            "localhost:8086/db",
            "parse \"localhost:8086/db\": invalid URL",
        ),
        ("http://h/db?x=1", "unknown query parameter: x"),
        (
            "http://h/db?precision=y",
            "\"y\" is no precision: ns, u, ms, s, m, h",
        ),
        (
            "http://h/db?insecure=2",
            "insecure must be true or false, not 2",
        ),
        (
            "http://h/db?tagsAsFields=a:b",
            "invalid type \"b\" of the field \"a\"",
        ),
        (
            "http://h/db?concurrentWrites=0",
            "the number of concurrent writes must be at least 1",
        ),
        (
            "http://h/db?payload_size=x",
            "payloadSize: strconv.ParseInt: parsing \"x\": invalid syntax",
        ),
        (
            "http://h/db?pushInterval=soon",
            "pushInterval: time: invalid duration \"soon\"",
        ),
    ] {
        let error = open(arg, run.context.clone()).err();
        assert_eq!(error.as_deref(), Some(text), "{arg}");
    }
    let mut output = (KIND.open)("", run.context.clone()).unwrap();
    assert_eq!(output.describe(), "InfluxDBv1 (http://localhost:8086)");
    assert!(output.wants_raw());
    output.close();
}
