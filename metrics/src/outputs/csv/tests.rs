//! Golden rows, settings and their errors.

use std::{io::Read, path::Path};

use super::*;
use crate::{
    Metadata, builtin,
    outputs::{
        Output,
        fixture::{NOW, Run},
    },
};

/// The rows that a format makes of what is recorded so far.
fn rows(run: &mut Run, format: &str) -> String {
    let mut lines = CsvLines::new(run.context.clone(), TimeFormat::parse(format).unwrap());
    for sample in run.shard.drain().raw_samples() {
        assert!(lines.push(sample));
    }
    std::mem::take(lines.text())
}

fn system_tags(run: &mut Run, names: &[&str]) {
    run.context.system_tags = Arc::new(names.iter().map(|&name| name.to_owned()).collect());
}

/// The lines of spec/cli.md §9, captured from the reference, and what else a row can hold.
#[test]
fn rows_are_those_of_the_reference() {
    let mut run = Run::new();
    let default = "proto,subproto,status,method,url,name,group,check,error,error_code,\
                   tls_version,scenario,service,expected_response,vu,iter";
    system_tags(&mut run, &default.split(',').collect::<Vec<_>>());
    let url = "http://127.0.0.1:8099/";
    let tags = run.context.tags.intern(&[
        ("scenario", "default"),
        ("group", "::grp"),
        ("method", "GET"),
        ("url", url),
        ("name", url),
        ("proto", "HTTP/1.1"),
        ("status", "200"),
        ("expected_response", "true"),
        ("k", "v&x"),
        ("env", "stage"),
    ]);
    let time = 1_795_334_425_999_999_999;
    run.shard.record(builtin::HTTP_REQS, tags, 1.0, time);
    run.shard
        .record(builtin::HTTP_REQ_DURATION, tags, 0.2911924, time);
    let pair = |key: &str, value: &str| (key.to_owned(), value.to_owned());
    let metadata: Arc<Metadata> = Arc::new(vec![pair("vu", "1"), pair("iter", "0")]);
    let quoted = [
        ("check", "is, \"ok\""),
        ("error", " x"),
        ("service", "a\nb"),
    ];
    let quoted = run.context.tags.intern(&quoted);
    run.shard
        .record_with(builtin::CHECKS, quoted, -1e21, time, Some(&metadata));
    run.record(builtin::ITERATION_DURATION, &[], f64::INFINITY, time);
    let expected = "\
metric_name,timestamp,metric_value,check,error,error_code,expected_response,group,method,name,proto,scenario,service,status,subproto,tls_version,url,extra_tags,metadata
http_reqs,1795334425,1.000000,,,,true,::grp,GET,http://127.0.0.1:8099/,HTTP/1.1,default,,200,,,http://127.0.0.1:8099/,env=stage&k=v&x,
http_req_duration,1795334425,0.291192,,,,true,::grp,GET,http://127.0.0.1:8099/,HTTP/1.1,default,,200,,,http://127.0.0.1:8099/,env=stage&k=v&x,
checks,1795334425,-1000000000000000000000.000000,\"is, \"\"ok\"\"\",\" x\",,,,,,,,\"a
b\",,,,,,iter=0&vu=1
iteration_duration,1795334425,+Inf,,,,,,,,,,,,,,,,
";
    assert_eq!(rows(&mut run, "unix"), expected);
}

#[test]
fn only_system_tags_that_are_on_have_columns() {
    let mut run = Run::new();
    system_tags(&mut run, &["url", "status"]);
    let tags = [("status", "200"), ("method", "GET"), ("a", "b")];
    run.record(builtin::HTTP_REQS, &tags, 1.0, NOW);
    assert_eq!(
        rows(&mut run, "unix"),
        "metric_name,timestamp,metric_value,status,url,extra_tags,metadata\n\
         http_reqs,1795333220,1.000000,200,,a=b&method=GET,\n"
    );
}

#[test]
fn times_have_six_formats() {
    for (format, text) in [
        ("unix", "1795333220"),
        ("unix_milli", "1795333220477"),
        ("unix_micro", "1795333220477235"),
        ("unix_nano", "1795333220477235185"),
        ("rfc3339", "2026-11-22T07:40:20Z"),
        ("rfc3339_nano", "2026-11-22T07:40:20.477235185Z"),
    ] {
        let mut run = Run::new();
        run.record(builtin::HTTP_REQS, &[], 1.0, NOW);
        let row = format!("http_reqs,{text},1.000000,,");
        assert_eq!(rows(&mut run, format).lines().nth(1), Some(&*row));
    }
}

fn write(run: &mut Run, arg: &str) {
    let mut output = open(arg, run.context.clone()).unwrap();
    output.add(&run.batch(2));
    assert_eq!(output.finish(), Ok(()));
}

fn lines(path: &Path) -> Vec<String> {
    let text = std::fs::read_to_string(path).unwrap();
    text.lines().map(str::to_owned).collect()
}

#[test]
fn the_argument_wins_over_the_environment_and_that_over_the_config_file() {
    let folder = tempfile::tempdir().unwrap();
    let file = |name: &str| folder.path().join(name);
    let mut run = Run::new();
    let settings = serde_json::json!({"csv": {
        "file_name": file("config.csv").to_str(), "timeFormat": "unix_nano",
    }});
    run.context.collectors = Arc::new(settings.as_object().unwrap().clone());
    write(&mut run, "");
    let row = format!("iterations,{NOW},1.000000,,");
    assert_eq!(lines(&file("config.csv"))[1], row);

    let path = file("env.csv");
    run.env(&[
        ("K6_CSV_FILENAME", path.to_str().unwrap()),
        ("K6_CSV_TIME_FORMAT", "unix_milli"),
    ]);
    write(&mut run, "");
    assert_eq!(lines(&path)[1], "iterations,1795333220477,1.000000,,");

    let path = file("argument.csv");
    let arg = format!(
        "timeFormat=unix,fileName={},saveInterval=1h",
        path.display()
    );
    write(&mut run, &arg);
    assert_eq!(lines(&path)[1..], ["iterations,1795333220,1.000000,,"; 2]);
}

#[test]
fn a_file_named_gz_is_compressed() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("rows.csv.gz");
    write(&mut Run::new(), path.to_str().unwrap());
    let mut text = String::new();
    let packed = std::fs::File::open(path).unwrap();
    let mut unpacked = flate2::read::GzDecoder::new(packed);
    unpacked.read_to_string(&mut text).unwrap();
    assert_eq!(text.lines().count(), 3);
}

#[test]
fn rows_are_saved_in_each_interval_and_the_header_at_once() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("rows.csv");
    let until = |count: usize| {
        let hung = std::time::Instant::now() + Duration::from_secs(60);
        while lines(&path).len() < count {
            assert!(std::time::Instant::now() < hung, "no line {count}");
            std::thread::sleep(Duration::from_millis(1));
        }
    };
    let mut run = Run::new();
    let arg = format!("fileName={},saveInterval=10ms", path.display());
    let mut output = open(&arg, run.context.clone()).unwrap();
    until(1);
    for rows in 1..4 {
        output.add(&run.batch(1));
        until(1 + rows);
    }
    assert_eq!(output.finish(), Ok(()));
    assert_eq!(lines(&path).len(), 4);
}

#[test]
fn what_cannot_be_understood_is_named() {
    let run = Run::new();
    for (arg, text) in [
        ("foo=1", "unknown key \"foo\" as argument for csv output"),
        (
            "fileName=x,timeFormat=bogus",
            "bogus does not belong to TimeFormat values",
        ),
        (
            "fileName=x,saveInterval=soon",
            "saveInterval: time: invalid duration \"soon\"",
        ),
        (
            "fileName=x,y",
            "couldn't parse \"fileName=x,y\" as argument for csv output",
        ),
        (
            "/no/such/folder/x.csv",
            "open /no/such/folder/x.csv: no such file or directory",
        ),
    ] {
        let error = open(arg, run.context.clone()).err();
        assert_eq!(error.as_deref(), Some(text), "{arg}");
    }
}

#[test]
fn the_description_is_the_reference_s() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("a.csv");
    let path = path.to_str().unwrap();
    let run = Run::new();
    for (arg, description) in [
        ("-", "csv (stdout)".to_owned()),
        (path, format!("csv ({path})")),
    ] {
        let mut output = (KIND.open)(arg, run.context.clone()).unwrap();
        assert_eq!(output.describe(), description);
        assert!(output.wants_raw());
        assert_eq!(output.finish(), Ok(()));
    }
}
