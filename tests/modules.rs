//! Modules through the whole program: from the web, in archives, from a slow disk.

mod support;

use std::{
    io::{Read, Write},
    net::{SocketAddr, TcpListener},
    sync::{Arc, Mutex},
};

use support::{Finished, Folder, Launch};

/// A server on TLS with files, which remembers the request lines. Its certificate for `localhost`
/// is signed by itself.
struct Web {
    address: SocketAddr,
    certificate: String,
    requests: Arc<Mutex<Vec<String>>>,
}

impl Web {
    fn with(files: &[(&'static str, &'static str)]) -> Self {
        let certified = rcgen::generate_simple_self_signed(vec!["localhost".to_owned()])
            .expect("a certificate");
        let key = rustls::pki_types::PrivateKeyDer::try_from(certified.signing_key.serialize_der())
            .expect("a key");
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let config = rustls::ServerConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .expect("versions")
            .with_no_client_auth()
            .with_single_cert(vec![certified.cert.der().clone()], key)
            .expect("a configuration");
        let config = Arc::new(config);
        let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
        let address = listener.local_addr().expect("an address");
        let requests = Arc::new(Mutex::new(Vec::new()));
        let (files, seen) = (files.to_vec(), requests.clone());
        // Ends with the process of the test.
        std::thread::spawn(move || {
            for stream in listener.incoming() {
                let Ok(stream) = stream else { return };
                let session = rustls::ServerConnection::new(config.clone()).expect("a session");
                let mut stream = rustls::StreamOwned::new(session, stream);
                while let Some(target) = request(&mut stream) {
                    seen.lock().unwrap().push(target.clone());
                    if stream
                        .write_all(answer(&target, &files).as_bytes())
                        .is_err()
                    {
                        break;
                    }
                }
            }
        });
        Self {
            address,
            certificate: certified.cert.pem(),
            requests,
        }
    }

    fn url(&self, path: &str) -> String {
        format!("https://localhost:{}/{path}", self.address.port())
    }

    fn requests(&self) -> Vec<String> {
        std::mem::take(&mut *self.requests.lock().unwrap())
    }
}

/// The target of the next request; `None` at the end.
fn request(stream: &mut impl Read) -> Option<String> {
    let mut head = Vec::new();
    let mut one = [0];
    while !head.ends_with(b"\r\n\r\n") {
        match stream.read(&mut one) {
            Ok(1) => head.push(one[0]),
            _ => return None,
        }
    }
    let head = String::from_utf8(head).ok()?;
    Some(head.split(' ').nth(1)?.to_owned())
}

fn answer(target: &str, files: &[(&str, &str)]) -> String {
    let (path, query) = target.split_once('?').unwrap_or((target, ""));
    let known = files.iter().find(|(name, _)| *name == path);
    let (status, extra, body) = match (path, known) {
        ("/moved.js", _) => ("302 Found", "Location: /lib/a.js\r\n", ""),
        ("/broken.js", _) => ("500 Internal Server Error", "", ""),
        // Some servers do not know the mark.
        ("/strict.js", _) if !query.is_empty() => ("400 Bad Request", "", ""),
        (_, Some((_, body))) => ("200 OK", "", *body),
        _ => ("404 Not Found", "", ""),
    };
    format!(
        "HTTP/1.1 {status}\r\n{extra}Content-Length: {}\r\n\r\n{body}",
        body.len()
    )
}

/// The agent in a folder, trusting the server's certificate if one is given.
fn volley(folder: &Folder, web: Option<&Web>, words: &str) -> Launch {
    let launch = Launch::volley(folder.path()).words(words);
    match web {
        None => launch,
        Some(web) => launch.env(
            "SSL_CERT_FILE",
            folder.write("certificate.pem", &web.certificate),
        ),
    }
}

/// What scripts wrote to the console, sorted.
fn console(finished: &Finished) -> Vec<String> {
    let lines = finished.logged("info");
    let mut lines: Vec<String> = lines.into_iter().map(|line| line.msg).collect();
    lines.sort();
    lines
}

#[test]
fn modules_come_from_the_web_once_for_all_vus() {
    let web = Web::with(&[
        (
            "/lib/a.js",
            "import { b } from './b.js?v=1'; import { root } from '/root.ts'; export const a = b + root;",
        ),
        ("/lib/b.js", "export const b = 'b';"),
        ("/root.ts", "export const root: string = 'root';"),
        ("/strict.js", "module.exports = 'strict';"),
    ]);
    let script = format!(
        "import {{ a }} from '{}'; const strict = require('{}');
         export const options = {{ vus: 3, iterations: 3 }};
         export default () => console.log(a, strict, typeof require);",
        web.url("moved.js"),
        web.url("strict.js"),
    );
    // What was moved stays under the name it was asked for.
    let folder = Folder::with("script.js", &script);
    let finished = volley(&folder, Some(&web), "run -q script.js").run();
    let problem = finished.expect(107).error().msg;
    let moved = web.url("b.js?v=1");
    assert!(
        problem.ends_with(&format!(
            "The moduleSpecifier \"./b.js?v=1\" couldn't be retrieved from the resolved url \
             \"{moved}\". Error : \"not found: {moved}\""
        )),
        "{problem}"
    );
    web.requests();
    folder.write("script.js", script.replace("moved.js", "lib/a.js"));
    let finished = volley(&folder, Some(&web), "run -q script.js")
        .run()
        .expect(0);
    assert_eq!(console(&finished), ["broot strict function"; 3]);
    let mut requests = web.requests();
    requests.sort();
    assert_eq!(
        requests,
        [
            "/lib/a.js?_k6=1",
            "/lib/b.js?v=1&_k6=1",
            "/root.ts?_k6=1",
            "/strict.js",
            "/strict.js?_k6=1",
        ]
    );
}

#[test]
fn a_whole_script_comes_from_the_web() {
    let web = Web::with(&[
        (
            "/dir/main.js",
            "import { b } from './b.js'; export const options = { iterations: 2 };
             let refused; try { open('./data.txt') } catch (e) { refused = e.message }
             export default () => console.log(b, import.meta.resolve('./c.js'), refused);",
        ),
        ("/dir/b.js", "export const b = 'b';"),
    ]);
    let folder = Folder::new();
    let url = web.url("dir/main.js");
    let finished = volley(&folder, Some(&web), &format!("run -q {url}"))
        .run()
        .expect(0);
    let line = format!(
        "b {} open() of a relative path is not supported in a module that was loaded over https, \
         path: \"./data.txt\"",
        web.url("dir/c.js")
    );
    assert_eq!(console(&finished), [line.clone(), line]);
    let words = format!("run -q {}", web.url("dir/no.js"));
    let finished = volley(&folder, Some(&web), &words).run().expect(255);
    assert!(
        finished
            .error()
            .msg
            .contains("Error : \"not found: https://localhost:")
    );
    let finished = volley(&folder, None, "run -q http://localhost/a.js")
        .run()
        .expect(255);
    assert_eq!(
        finished.error().msg,
        "only supported schemes for imports are file and https, http://localhost/a.js has `http`"
    );
}

#[test]
fn what_the_web_does_not_give_is_told() {
    let web = Web::with(&[("/evil.js", "import 'file:///etc/passwd'; export default 1;")]);
    let port = support::free_port();
    for (specifier, trusted, problem) in [
        (
            web.url("broken.js"),
            true,
            format!(
                "Error : \"wrong status code (500) for: {}\"",
                web.url("broken.js")
            ),
        ),
        (web.url("broken.js"), false, "x509: ".to_owned()),
        (
            web.url("evil.js"),
            true,
            format!(
                "origin ({}) not allowed to load local file: file:///etc/passwd",
                web.url("evil.js")
            ),
        ),
        (
            format!("https://127.0.0.1:{port}/a.js"),
            true,
            "connection refused".to_owned(),
        ),
    ] {
        let script = format!("import '{specifier}'; export default () => 1;");
        let folder = Folder::with("script.js", &script);
        let web = trusted.then_some(&web);
        let finished = volley(&folder, web, "run -q script.js").run().expect(107);
        let text = finished.error().msg;
        assert!(
            text.contains(&problem),
            "{text}\ndoes not contain\n{problem}"
        );
    }
}

#[test]
fn an_archive_holds_all_that_was_read() {
    let web = Web::with(&[
        ("/mod/a.js", "import './b.js'; export const a = 'a';"),
        ("/mod/b.js", ""),
    ]);
    let folder = Folder::with(
        "tests/my main.ts",
        &format!(
            "import {{ a }} from '{}'; import {{ typed }} from './lib/typed.ts';
             const common = require('./lib/common.cjs');
             const text: string = open('./data/text.txt');
             export const options = {{ iterations: 1 }};
             export default function (): void {{ console.log(a, typed, common.near, text); }}",
            web.url("mod/a.js")
        ),
    );
    folder.write(
        "tests/lib/typed.ts",
        "export const typed: string = 'typed';",
    );
    folder.write("tests/lib/common.cjs", "exports.near = open('near.txt');");
    folder.write("tests/lib/near.txt", "near");
    folder.write("tests/data/text.txt", "text");
    let launch = volley(&folder, Some(&web), "archive -O test.tar");
    launch.args(["tests/my main.ts"]).run().expect(0);
    web.requests();
    let tar = std::fs::read(folder.file("test.tar")).expect("an archive");
    let mut names = Vec::new();
    for entry in tar::Archive::new(&tar[..]).entries().expect("entries") {
        let entry = entry.expect("an entry");
        let name = entry.path().expect("a name").to_string_lossy().into_owned();
        if !entry.header().entry_type().is_dir() {
            names.push(name);
        }
    }
    let root = folder.path().to_string_lossy().into_owned();
    let port = web.address.port();
    assert_eq!(
        names,
        [
            "metadata.json".to_owned(),
            "data".to_owned(),
            format!("file{root}/tests/data/text.txt"),
            format!("file{root}/tests/lib/common.cjs"),
            format!("file{root}/tests/lib/near.txt"),
            format!("file{root}/tests/lib/typed.ts"),
            format!("file{root}/tests/my main.ts"),
            format!("https/localhost:{port}/mod/a.js"),
            format!("https/localhost:{port}/mod/b.js"),
        ]
    );
    // Elsewhere, where there is nothing but the archive.
    let elsewhere = Folder::new();
    elsewhere.write("test.tar", &tar);
    drop(folder);
    let finished = volley(&elsewhere, None, "run -q test.tar").run().expect(0);
    assert_eq!(console(&finished), ["a typed near text"]);
    volley(&elsewhere, None, "archive -O again.tar test.tar")
        .run()
        .expect(0);
    let finished = volley(&elsewhere, None, "run -q again.tar").run().expect(0);
    assert_eq!(console(&finished), ["a typed near text"]);
    assert_eq!(web.requests(), Vec::<String>::new());
}
