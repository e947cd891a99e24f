use std::{
    collections::BTreeMap,
    io::{Read as _, Write as _},
    net::TcpListener,
    sync::Arc,
};

use super::Secrets;
use crate::logging::{LogOptions, LogOutput, Logger};

fn open(specs: &[&str]) -> Result<Secrets, String> {
    let options = LogOptions {
        output: LogOutput::None,
        ..LogOptions::default()
    };
    let logger = Arc::new(Logger::open(&options).unwrap());
    let specs: Vec<String> = specs.iter().map(|spec| (*spec).to_owned()).collect();
    Secrets::open(&specs, &BTreeMap::new(), logger)
}

fn block_on<T>(work: impl Future<Output = T>) -> T {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .unwrap();
    runtime.block_on(work)
}

fn get(secrets: &Secrets, source: Option<&str>, key: &str) -> Result<String, String> {
    block_on(secrets.get(source, key))
}

#[test]
fn sources_have_names_and_one_of_them_is_meant_without() {
    let secrets = open(&[
        "mock=default,cool=some=thing,other=b",
        "mock=name=more,cool=d",
    ])
    .unwrap();
    assert_eq!(get(&secrets, None, "cool").unwrap(), "some=thing");
    assert_eq!(
        get(&secrets, Some("default"), "cool").unwrap(),
        "some=thing"
    );
    assert_eq!(get(&secrets, Some("mock"), "other").unwrap(), "b");
    assert_eq!(get(&secrets, Some("more"), "cool").unwrap(), "d");
    assert_eq!(
        get(&secrets, Some("more"), "other").unwrap_err(),
        "no value"
    );
    assert_eq!(
        get(&secrets, Some("none"), "cool").unwrap_err(),
        "no secret source with name \"none\" is configured"
    );
    let nobody = open(&["mock=a=b", "mock=name=more,a=c"]).unwrap();
    assert_eq!(
        get(&nobody, None, "a").unwrap_err(),
        "no secret source with name \"default\" is configured"
    );
    let by_name = open(&["mock=name=default,a=b", "mock=name=more,a=c"]).unwrap();
    assert_eq!(get(&by_name, None, "a").unwrap(), "b");
    assert_eq!(
        get(&open(&[]).unwrap(), None, "a").unwrap_err(),
        "no secret sources are configured"
    );
}

#[test]
fn files_hold_a_secret_a_line() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("s");
    std::fs::write(&path, "a=b=c\r\n\nspaced key= padded \nempty=\na=again\n").unwrap();
    for spec in [
        format!("file={}", path.display()),
        format!("file=name=x,filename={}", path.display()),
    ] {
        let secrets = open(&[&spec]).unwrap();
        assert_eq!(get(&secrets, None, "a").unwrap(), "again");
        assert_eq!(get(&secrets, None, "spaced key").unwrap(), " padded ");
        assert_eq!(get(&secrets, None, "empty").unwrap(), "");
    }
    std::fs::write(&path, "good=1\nhunter2\n").unwrap();
    let problem = open(&[&format!("file={}", path.display())]).err().unwrap();
    assert!(
        problem.ends_with("line 2 is not of the form key=value"),
        "{problem}"
    );
    assert!(!problem.contains("hunter2"), "{problem}");
}

#[test]
fn sources_that_mean_nothing_are_refused() {
    for (specs, problem) in [
        (
            &["cloud"][..],
            "\"cloud\" is not supported; there are file, mock, url",
        ),
        (
            &["mock=a=b", "mock=c=d"],
            "already a secret source with name \"mock\"",
        ),
        (
            &["mock=default,a=b", "mock=name=x,default,c=d"],
            "\"x\" cannot be the default",
        ),
        (&["mock=nonsense"], "item 1 is not of the form key=value"),
        (&["file"], "it needs one path"),
        (&["file=/no/such"], "/no/such: no such file or directory"),
        (&["url"], "urlTemplate is missing"),
    ] {
        let found = open(specs).err().expect(problem);
        assert!(found.contains(problem), "{found}");
    }
}

/// Serves these answers, one a connection; tells what was asked.
fn serve(answers: Vec<&'static str>) -> (String, std::sync::mpsc::Receiver<String>) {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    let (tell, told) = std::sync::mpsc::channel();
    std::thread::spawn(move || {
        for answer in answers {
            let (mut stream, _) = listener.accept().unwrap();
            let mut head = Vec::new();
            while !head.ends_with(b"\r\n\r\n") {
                let mut byte = [0];
                stream.read_exact(&mut byte).unwrap();
                head.push(byte[0]);
            }
            let (status, body) = answer.split_once(' ').unwrap_or((answer, ""));
            let length = body.len();
            let text = format!(
                "HTTP/1.1 {status} X\r\nContent-Length: {length}\r\nConnection: close\r\n\r\n{body}"
            );
            stream.write_all(text.as_bytes()).unwrap();
            let _ = tell.send(String::from_utf8(head).unwrap());
        }
    });
    (format!("http://{address}/v1/{{key}}/x"), told)
}

#[test]
fn a_server_is_asked_once_for_each_secret() {
    let (template, told) = serve(vec![
        "200 {\"a\":{\"b\":\"first\"}}",
        "200 {\"a\":{\"b\":\"second\"}}",
    ]);
    let secrets = open(&[&format!(
        "url=urlTemplate={template},responsePath=a.b,headers.Authorization=Bearer t=1"
    )])
    .unwrap();
    let both = block_on(async { tokio::join!(secrets.get(None, "k/1"), secrets.get(None, "k/1")) });
    assert_eq!(both, (Ok("first".to_owned()), Ok("first".to_owned())));
    assert_eq!(get(&secrets, None, "k/1").unwrap(), "first");
    assert_eq!(get(&secrets, None, "two").unwrap(), "second");
    let asked = told.recv().unwrap();
    assert!(asked.starts_with("GET /v1/k%2F1/x HTTP/1.1\r\n"), "{asked}");
    let asked = asked.to_ascii_lowercase();
    assert!(asked.contains("authorization: bearer t=1\r\n"), "{asked}");
    assert!(told.recv().unwrap().starts_with("GET /v1/two/x "));
}

#[test]
fn servers_in_trouble_are_asked_again_and_others_are_not() {
    let (template, _told) = serve(vec!["503", "429", "200 at last", "404"]);
    let secrets = open(&[&format!(
        "url=urlTemplate={template},maxRetries=2,retryBackoff=1ms"
    )])
    .unwrap();
    assert_eq!(get(&secrets, None, "k").unwrap(), "at last");
    assert_eq!(
        get(&secrets, None, "other").unwrap_err(),
        "failed to get the secret: the server answered with status 404"
    );
    // Nobody listens any more.
    let refused = open(&[&format!(
        "url=urlTemplate={},maxRetries=0",
        template.replace("/v1", "/gone")
    )])
    .unwrap();
    assert!(
        get(&refused, None, "k")
            .unwrap_err()
            .contains("connection refused")
    );
}
