//! Golden lines, and what happens when the other end is slow or broken.

use std::{
    io::{self, Read, Write},
    path::Path,
    sync::{Arc, Mutex, mpsc},
};

use flate2::read::GzDecoder;

use super::*;
use crate::{
    Metadata, MetricKind, ThresholdSpec, ValueType, builtin,
    outputs::{
        OUTPUTS, Output,
        file::{CHUNK, QUEUE, Target},
        fixture::{NOW, Run},
    },
};

impl Run {
    /// What is recorded so far, as lines of text.
    fn lines(&mut self) -> String {
        let memory = Memory::default();
        let mut output = self.start(memory.clone());
        output.add(&self.shard.drain());
        output.finish().unwrap();
        memory.text()
    }

    fn start(&self, target: impl Target + 'static) -> FileOutput {
        let lines = Box::new(JsonLines::new(self.context.clone()));
        FileOutput::start("json (test)".into(), Box::new(target), lines, None).unwrap()
    }

    fn open(&self, path: &Path) -> Result<FileOutput, String> {
        open(path.to_str().unwrap(), self.context.clone())
    }
}

fn spec(source: &str) -> ThresholdSpec {
    ThresholdSpec {
        source: source.into(),
        abort_on_fail: false,
        delay_abort_eval: None,
    }
}

/// A target to look into.
#[derive(Clone, Default)]
struct Memory(Arc<Mutex<Vec<u8>>>);

impl Memory {
    fn text(&self) -> String {
        String::from_utf8(self.0.lock().unwrap().clone()).unwrap()
    }
}

impl Write for Memory {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0.lock().unwrap().write(bytes)
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl Target for Memory {}

/// Tells of each write that it begins, and ends it when told to, or when nobody is left to tell.
struct Gate {
    began: mpsc::Sender<()>,
    proceed: mpsc::Receiver<()>,
    memory: Memory,
}

impl Write for Gate {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let _ = self.began.send(());
        let _ = self.proceed.recv();
        self.memory.write(bytes)
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl Target for Gate {}

/// A target that fails where a test wants it to.
struct Broken {
    write: Box<dyn FnMut() -> io::Result<()> + Send>,
    close: fn() -> io::Result<()>,
}

impl Write for Broken {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        (self.write)().map(|()| bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl Target for Broken {
    fn close(&mut self) -> io::Result<()> {
        (self.close)()
    }
}

/// The lines of spec/cli.md §9, captured from the reference.
#[test]
fn lines_are_those_of_the_reference() {
    let mut run = Run::with(
        &[
            ("http_req_duration", spec("p(95)<1000")),
            (
                "http_req_duration",
                ThresholdSpec {
                    abort_on_fail: true,
                    delay_abort_eval: Some(std::time::Duration::from_secs(5)),
                    ..spec("avg<9")
                },
            ),
            // Belongs to the sub-metric, and is not listed with the metric.
            ("http_req_duration{group:::grp}", spec("max<7")),
        ],
        &[],
    );
    let tags = run.context.tags.intern(&[
        ("scenario", "default"),
        ("group", "::grp"),
        ("method", "GET"),
        ("url", "http://127.0.0.1:8099/"),
        ("name", "http://127.0.0.1:8099/"),
        ("proto", "HTTP/1.1"),
        ("status", "200"),
        ("expected_response", "true"),
        ("env", "stage"),
    ]);
    let pair = |key: &str, value: &str| (key.to_owned(), value.to_owned());
    let metadata: Arc<Metadata> = Arc::new(vec![pair("vu", "1"), pair("iter", "0")]);
    run.shard
        .record_with(builtin::HTTP_REQS, tags, 1.0, NOW, Some(&metadata));
    let none = Arc::new(Metadata::new());
    run.record(
        builtin::HTTP_REQ_DURATION,
        &[("group", "")],
        0.291192,
        NOW + 4_764_815,
    );
    run.shard
        .record_with(builtin::HTTP_REQS, TagSetId::EMPTY, 2.0, NOW, Some(&none));
    run.record(builtin::DATA_SENT, &[], 1e21, NOW - 477_235_185);
    run.record(builtin::HTTP_REQ_DURATION, &[("group", "")], 1.5e-7, NOW);

    let expected = r#"{"type":"Metric","data":{"name":"http_reqs","type":"counter","contains":"default","thresholds":[],"submetrics":null},"metric":"http_reqs"}
{"metric":"http_reqs","type":"Point","data":{"time":"2026-11-22T07:40:20.477235185Z","value":1,"tags":{"env":"stage","expected_response":"true","group":"::grp","method":"GET","name":"http://127.0.0.1:8099/","proto":"HTTP/1.1","scenario":"default","status":"200","url":"http://127.0.0.1:8099/"},"metadata":{"iter":"0","vu":"1"}}}
{"type":"Metric","data":{"name":"http_req_duration","type":"trend","contains":"time","thresholds":["p(95)<1000",{"threshold":"avg<9","abortOnFail":true,"delayAbortEval":"5s"}],"submetrics":[{"name":"http_req_duration{group:::grp}","suffix":"group:::grp","tags":{"group":"::grp"}}]},"metric":"http_req_duration"}
{"metric":"http_req_duration","type":"Point","data":{"time":"2026-11-22T07:40:20.482Z","value":0.291192,"tags":{"group":""}}}
{"metric":"http_reqs","type":"Point","data":{"time":"2026-11-22T07:40:20.477235185Z","value":2,"tags":{}}}
{"type":"Metric","data":{"name":"data_sent","type":"counter","contains":"data","thresholds":[],"submetrics":null},"metric":"data_sent"}
{"metric":"data_sent","type":"Point","data":{"time":"2026-11-22T07:40:20Z","value":1e+21,"tags":{}}}
{"metric":"http_req_duration","type":"Point","data":{"time":"2026-11-22T07:40:20.477235185Z","value":1.5e-07,"tags":{"group":""}}}
"#;
    assert_eq!(run.lines(), expected);
}

#[test]
fn a_metric_line_lists_every_submetric() {
    let mut run = Run::with(
        &[
            ("http_req_duration{ status:200 , kind:'b' }", spec("max<7")),
            ("http_reqs{a:b}", spec("count<7")),
        ],
        &["http_req_duration{expected_response:true}"],
    );
    run.record(builtin::HTTP_REQ_DURATION, &[], 1.0, NOW);
    let lines = run.lines();
    let expected = r#"{"type":"Metric","data":{"name":"http_req_duration","type":"trend","contains":"time","thresholds":[],"submetrics":[{"name":"http_req_duration{status:200 , kind:'b'}","suffix":"status:200 , kind:'b'","tags":{"kind":"b","status":"200"}},{"name":"http_req_duration{expected_response:true}","suffix":"expected_response:true","tags":{"expected_response":"true"}}]},"metric":"http_req_duration"}"#;
    assert_eq!(lines.lines().next(), Some(expected));
}

#[test]
fn a_delay_is_listed_only_where_it_can_delay_an_abort() {
    let delay = Some(std::time::Duration::from_secs(90));
    let with = |source: &str, abort_on_fail, delay_abort_eval| ThresholdSpec {
        abort_on_fail,
        delay_abort_eval,
        ..spec(source)
    };
    let mut run = Run::with(
        &[
            ("iterations", with("count<1", false, delay)),
            ("iterations", with("count<2", true, None)),
            ("iterations", with("count<3", true, delay)),
        ],
        &[],
    );
    run.record(builtin::ITERATIONS, &[], 1.0, NOW);
    let expected = r#""thresholds":["count<1",{"threshold":"count<2","abortOnFail":true,"delayAbortEval":null},{"threshold":"count<3","abortOnFail":true,"delayAbortEval":"1m30s"}],"#;
    let lines = run.lines();
    assert!(lines.contains(expected), "{lines}");
}

#[test]
fn text_is_escaped_but_not_for_html() {
    let mut run = Run::new();
    let value = "<a href=\"x\">\\ &\n\u{1}é";
    run.record(builtin::HTTP_REQS, &[("na\"me", value)], 1.0, NOW);
    let lines = run.lines();
    assert!(lines.contains("<a href="), "{lines}");
    let [_, point] = lines.lines().collect::<Vec<_>>()[..] else {
        panic!("a line break is no end of a line: {lines}")
    };
    let point: serde_json::Value = serde_json::from_str(point).unwrap();
    assert_eq!(point["data"]["tags"]["na\"me"], value);
}

#[test]
fn a_metric_of_the_script_is_introduced_once_over_all_batches() {
    let mut run = Run::new();
    let own = run
        .context
        .registry
        .register("own", MetricKind::Gauge, ValueType::Default)
        .unwrap();
    let memory = Memory::default();
    let mut output = run.start(memory.clone());
    for value in [1.0, -2.5] {
        run.record(own, &[], value, 0);
        output.add(&run.shard.drain());
    }
    assert_eq!(output.finish(), Ok(()));
    let expected = r#"{"type":"Metric","data":{"name":"own","type":"gauge","contains":"default","thresholds":[],"submetrics":null},"metric":"own"}
{"metric":"own","type":"Point","data":{"time":"1970-01-01T00:00:00Z","value":1,"tags":{}}}
{"metric":"own","type":"Point","data":{"time":"1970-01-01T00:00:00Z","value":-2.5,"tags":{}}}
"#;
    assert_eq!(memory.text(), expected);
}

#[test]
fn a_file_named_gz_holds_the_same_lines_compressed() {
    let folder = tempfile::tempdir().unwrap();
    let mut run = Run::new();
    // More than is handed over at once.
    for number in 0..2_000 {
        let tags = [("number", &*number.to_string())];
        run.record(builtin::HTTP_REQS, &tags, 1.0, NOW + number);
    }
    let batch = run.shard.drain();
    let [plain, packed] = ["points.json", "points.json.gz"].map(|name| {
        let path = folder.path().join(name);
        let mut output = run.open(&path).unwrap();
        output.add(&batch);
        assert_eq!(output.finish(), Ok(()));
        std::fs::read(path).unwrap()
    });
    assert!(plain.len() > CHUNK && packed.len() < plain.len() / 4);
    assert_eq!(plain.iter().filter(|&&byte| byte == b'\n').count(), 2_001);
    let mut unpacked = Vec::new();
    GzDecoder::new(&packed[..])
        .read_to_end(&mut unpacked)
        .unwrap();
    assert!(unpacked == plain);
}

#[test]
fn infinite_values_are_left_out_and_counted() {
    let mut run = Run::new();
    let memory = Memory::default();
    let mut output = run.start(memory.clone());
    for value in [f64::INFINITY, 5.0, f64::NEG_INFINITY] {
        run.record(builtin::ITERATION_DURATION, &[], value, NOW);
    }
    output.add(&run.shard.drain());
    assert_eq!(
        output.finish().unwrap_err(),
        "json (test): Sample(s) couldn't be marshalled to JSON: 2 infinite values"
    );
    let text = memory.text();
    assert_eq!(text.lines().count(), 2);
    assert!(text.contains("\"value\":5,"), "{text}");
}

#[test]
fn lines_are_written_while_the_run_goes_on() {
    let mut run = Run::new();
    let (began, begins) = mpsc::channel();
    let (go, proceed) = mpsc::channel();
    let memory = Memory::default();
    let mut output = run.start(Gate {
        began,
        proceed,
        memory: memory.clone(),
    });
    // A write that begins means that the one before has ended.
    for lines in [0, 2, 3] {
        output.add(&run.batch(1));
        begins.recv().unwrap();
        assert_eq!(memory.text().lines().count(), lines);
        go.send(()).unwrap();
    }
    drop(go);
    assert_eq!(output.finish(), Ok(()));
    assert_eq!(memory.text().lines().count(), 4);
}

#[test]
fn a_full_queue_drops_batches_and_says_so_at_the_end() {
    let mut run = Run::new();
    let (began, begins) = mpsc::channel();
    let (go, proceed) = mpsc::channel();
    let memory = Memory::default();
    let mut output = run.start(Gate {
        began,
        proceed,
        memory: memory.clone(),
    });
    output.add(&run.batch(1));
    // From here the writer holds one batch and takes no other.
    begins.recv().unwrap();
    for _ in 0..QUEUE {
        output.add(&run.batch(1));
    }
    for samples in [3, 4] {
        output.add(&run.batch(samples));
    }
    drop(go);
    assert_eq!(
        output.finish().unwrap_err(),
        "json (test): it was too slow, and 7 samples were dropped"
    );
    // The Metric line, what the writer held, and what waited.
    assert_eq!(memory.text().lines().count(), 1 + 1 + QUEUE);
}

#[cfg(target_os = "linux")]
#[test]
fn a_full_disk_is_an_error_at_the_end_and_not_before() {
    let folder = tempfile::tempdir().unwrap();
    let packed = folder.path().join("full.gz");
    std::os::unix::fs::symlink("/dev/full", &packed).unwrap();
    let mut run = Run::new();

    let mut output = run.open(Path::new("/dev/full")).unwrap();
    // Fewer than the queue holds, so that none is dropped before the writer has seen it.
    for _ in 0..QUEUE / 2 {
        output.add(&run.batch(2));
    }
    assert_eq!(
        output.finish().unwrap_err(),
        "json (/dev/full): no space left on device; 256 samples were lost"
    );

    // The compressor takes all of it, and only its end meets the disk.
    let mut output = run.open(&packed).unwrap();
    output.add(&run.batch(2));
    assert_eq!(
        output.finish().unwrap_err(),
        format!("json ({}): no space left on device", packed.display())
    );
}

#[test]
fn the_first_error_ends_the_writing_and_the_rest_is_counted() {
    let mut run = Run::new();
    let (wrote, writes) = mpsc::channel();
    let mut output = run.start(Broken {
        write: Box::new(move || {
            wrote.send(()).unwrap();
            Err(io::ErrorKind::BrokenPipe.into())
        }),
        close: || Err(io::ErrorKind::NotFound.into()),
    });
    output.add(&run.batch(1));
    // What comes from here on comes after the error.
    writes.recv().unwrap();
    output.add(&run.batch(2));
    output.add(&run.batch(3));
    assert_eq!(
        output.finish().unwrap_err(),
        "json (test): broken pipe; 6 samples were lost"
    );
    assert_eq!(writes.iter().count(), 0, "no second write");
}

#[test]
fn an_error_of_the_end_is_an_error() {
    let mut run = Run::new();
    let mut output = run.start(Broken {
        write: Box::new(|| Ok(())),
        close: || Err(io::ErrorKind::BrokenPipe.into()),
    });
    output.add(&run.batch(2));
    assert_eq!(
        output.finish().unwrap_err(),
        "json (test): broken pipe",
        "what was lost is not known, and no number is better than a wrong one"
    );
}

#[test]
fn a_writer_that_panics_harms_nobody() {
    let mut run = Run::new();
    let mut output = run.start(Broken {
        write: Box::new(|| panic!("a bug")),
        close: || Ok(()),
    });
    // More than the queue holds: nobody takes them any more.
    for _ in 0..QUEUE + 2 {
        output.add(&run.batch(1));
    }
    assert_eq!(
        output.finish().unwrap_err(),
        "json (test): the writer thread failed"
    );
}

#[test]
fn what_comes_after_the_end_is_ignored() {
    let mut run = Run::new();
    let memory = Memory::default();
    let mut output = run.start(memory.clone());
    output.add(&run.batch(1));
    assert_eq!(output.finish(), Ok(()));
    output.add(&run.batch(1));
    assert_eq!(output.finish(), Ok(()));
    assert_eq!(memory.text().lines().count(), 2);
}

#[test]
fn a_run_without_samples_leaves_an_empty_file() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("points.json");
    let mut run = Run::new();
    let mut output = run.open(&path).unwrap();
    output.add(&run.batch(0));
    assert_eq!(output.finish(), Ok(()));
    assert_eq!(std::fs::read(path).unwrap(), b"");
}

#[test]
fn the_table_s_row_opens_it_under_the_reference_s_description() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("points.json");
    let path = path.to_str().unwrap();
    let row = OUTPUTS.iter().find(|kind| kind.name == "json").unwrap();
    let run = Run::new();
    for (arg, description) in [
        ("", "json(stdout)".to_owned()),
        ("-", "json(stdout)".to_owned()),
        (path, format!("json ({path})")),
    ] {
        let mut output = (row.open)(arg, run.context.clone()).unwrap();
        assert_eq!(output.describe(), description);
        assert!(output.wants_raw());
        assert_eq!(output.finish(), Ok(()));
    }
}

#[test]
fn a_file_that_cannot_be_created_is_an_error_at_once() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("missing").join("points.json");
    assert_eq!(
        Run::new().open(&path).unwrap_err(),
        format!("open {}: no such file or directory", path.display())
    );
}
