//! The options that decide which connection a request takes: where to, where from, and for how long.

mod support;

use std::{
    io::{BufRead, BufReader, Write},
    net::{SocketAddr, TcpListener, TcpStream},
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    thread,
};

use serde_json::{Value, json};
use support::{Finished, Folder, Launch};

/// A server that answers every request with what it knows of its connection: a number, the address
/// of the client, and the `Host` it was asked for.
struct Teller {
    address: SocketAddr,
    connections: Arc<AtomicUsize>,
}

impl Teller {
    fn start(at: &str) -> Self {
        let listener = TcpListener::bind(at).expect("a port");
        let address = listener.local_addr().expect("an address");
        let connections = Arc::new(AtomicUsize::new(0));
        let count = connections.clone();
        thread::spawn(move || {
            for stream in listener.incoming().filter_map(Result::ok) {
                let number = count.fetch_add(1, Ordering::SeqCst);
                thread::spawn(move || tell(&stream, number));
            }
        });
        Self {
            address,
            connections,
        }
    }

    fn port(&self) -> u16 {
        self.address.port()
    }

    fn connections(&self) -> usize {
        self.connections.load(Ordering::SeqCst)
    }
}

/// Answers the requests of one connection, which have no bodies.
fn tell(mut stream: &TcpStream, connection: usize) -> Option<()> {
    let _ = stream.set_nodelay(true);
    let from = stream.peer_addr().ok()?.ip().to_string();
    let mut lines = BufReader::new(stream).lines();
    loop {
        let path = lines.next()?.ok()?.split(' ').nth(1)?.to_owned();
        let mut host = String::new();
        loop {
            let line = lines.next()?.ok()?;
            match line.strip_prefix("Host: ") {
                Some(name) => name.clone_into(&mut host),
                None if line.is_empty() => break,
                None => {}
            }
        }
        let answer = match path.strip_prefix("/to/") {
            Some(other) => {
                format!(
                    "HTTP/1.1 302 Found\r\nLocation: http://{other}/\r\nContent-Length: 0\r\n\r\n"
                )
            }
            None => {
                let body =
                    json!({"connection": connection, "from": from, "host": host}).to_string();
                let length = body.len();
                format!("HTTP/1.1 200 OK\r\nContent-Length: {length}\r\n\r\n{body}")
            }
        };
        stream.write_all(answer.as_bytes()).ok()?;
    }
}

/// Runs a script with these options, which may speak of `__ENV.PORT`.
fn run(options: &Value, body: &str, port: u16, words: &str, env: &[(&str, &str)]) -> Finished {
    let script = format!(
        "import http from 'k6/http'; import {{ sleep }} from 'k6';
         export const options = {options};
         const say = (r) => console.log(JSON.stringify({{ status: r.status, code: r.error_code,
           error: r.error, ip: r.remote_ip, port: r.remote_port, url: r.url,
           ...(r.status === 200 ? r.json() : {{}}) }}));
         export default function () {{ {body} }}"
    );
    let folder = Folder::with("script.js", &script);
    let mut launch = Launch::volley(folder.path())
        .words("run --quiet --log-format raw")
        .args(["--env", &format!("PORT={port}")])
        .words(words)
        .words("script.js");
    for (name, value) in env {
        launch = launch.env(name, value);
    }
    launch.run().expect(0)
}

/// What the script has said of its responses, in order.
fn said(finished: &Finished) -> Vec<Value> {
    let lines = finished.stderr.lines();
    lines
        .filter_map(|line| serde_json::from_str(line).ok())
        .collect()
}

fn all(said: &[Value], name: &str) -> Vec<Value> {
    said.iter().map(|line| line[name].clone()).collect()
}

#[test]
fn hosts_stand_in_for_names_with_ports_and_wildcards() {
    let (one, two) = (Teller::start("127.0.0.1:0"), Teller::start("127.0.0.1:0"));
    let options = json!({"hosts": {
        "one.test": one.address.to_string(),
        "*.wild.test": two.address.to_string(),
        "deep.wild.test": one.address.to_string(),
        "port.test:81": one.address.to_string(),
        "port.test": two.address.to_string(),
        "bare.test": "127.0.0.1",
    }});
    let body =
        "for (const url of ['http://one.test/', 'http://ONE.test:99/', 'http://a.b.wild.test/',
           'http://deep.wild.test/', 'http://port.test:81/', 'http://port.test:82/',
           `http://bare.test:${__ENV.PORT}/`, `http://127.0.0.1:${__ENV.PORT}/to/one.test`]) {
           say(http.get(url)); }";
    let said = said(&run(&options, body, two.port(), "", &[]));
    assert_eq!(all(&said, "status"), vec![json!(200); 8], "{said:?}");
    let (one, two) = (json!(one.port()), json!(two.port()));
    let ports = [&one, &one, &two, &one, &one, &two, &two, &one].map(Value::clone);
    assert_eq!(all(&said, "port"), ports, "{said:?}");
    // The server is asked for what the script has named.
    assert_eq!(said[2]["host"], "a.b.wild.test");
    assert_eq!(said[4]["host"], "port.test:81");
    assert_eq!(said[7]["host"], "one.test");
}

#[test]
fn blocked_names_are_blocked_in_redirects_too() {
    let teller = Teller::start("127.0.0.1:0");
    let options = json!({"blockHostnames": ["*.blocked.test", "exact.test"], "hosts": {
        "a.blocked.test": teller.address.to_string(),
        "blocked.test": teller.address.to_string(),
        "exact.test": teller.address.to_string(),
    }});
    let body = "const here = `http://127.0.0.1:${__ENV.PORT}`;
         for (const url of ['http://a.blocked.test/', 'http://A.B.BLOCKED.test/', 'http://exact.test/',
           'http://blocked.test/', here, `${here}/to/exact.test`]) { say(http.get(url)); }";
    let said = said(&run(&options, body, teller.port(), "", &[]));
    assert_eq!(
        all(&said, "code"),
        [1111, 1111, 1111, 0, 0, 1111].map(Value::from),
        "{said:?}"
    );
    assert_eq!(said[5]["error"], "hostname is blocked");
    // blocked.test itself, the server's own name and the redirect: nothing of the others came.
    assert_eq!(teller.connections(), 2);
}

#[test]
fn addresses_of_ipv6_are_hosts_like_any_other() {
    if TcpListener::bind("[::1]:0").is_err() {
        println!("this machine has no IPv6: there is nothing to test");
        return;
    }
    let teller = Teller::start("[::1]:0");
    let options = json!({"hosts": {"six.test": teller.address.to_string()}});
    let body = "const at = `http://[::1]:${__ENV.PORT}/`;
         for (const url of [at, `${at}to/[::1]:${__ENV.PORT}`, 'http://six.test/']) { say(http.get(url)); }";
    let finished = run(&options, body, teller.port(), "", &[]);
    let seen = said(&finished);
    assert_eq!(all(&seen, "ip"), vec![json!("::1"); 3], "{seen:?}");
    assert_eq!(all(&seen, "from"), vec![json!("::1"); 3]);
    let host = json!(format!("[::1]:{}", teller.port()));
    assert_eq!(all(&seen, "host"), [host.clone(), host, json!("six.test")]);
    // The first and the second are one origin.
    assert_eq!(teller.connections(), 2);
    let forbidden = json!({"blacklistIPs": ["::1/128"]});
    let finished = run(&forbidden, body, teller.port(), "", &[]);
    assert_eq!(
        all(&said(&finished), "code")[..2],
        [1110, 1110].map(Value::from)
    );
}

#[test]
fn each_vu_sends_from_one_of_the_local_addresses() {
    let teller = Teller::start("127.0.0.1:0");
    let options = json!({"scenarios": {"all": {
        "executor": "per-vu-iterations", "vus": 5, "iterations": 2}}});
    let body = "say(http.get(`http://127.0.0.1:${__ENV.PORT}/`));";
    let froms = |words: &str, env: &[(&str, &str)]| {
        let mut froms = all(
            &said(&run(&options, body, teller.port(), words, env)),
            "from",
        );
        froms.sort_by_key(ToString::to_string);
        froms
    };
    // Five VUs over four addresses, two requests each.
    let expected = [2, 2, 3, 3, 4, 4, 5, 5];
    for (words, variable) in [
        ("--local-ips 127.0.0.2-127.0.0.4,127.0.0.5/32", ""),
        ("", "127.0.0.2-127.0.0.4,127.0.0.5"),
    ] {
        let froms = froms(words, &[("K6_LOCAL_IPS", variable)]);
        assert_eq!(froms.len(), 10);
        for last in expected {
            let address = json!(format!("127.0.0.{last}"));
            let count = froms.iter().filter(|from| **from == address).count();
            assert!(count == 2 || count == 4, "{address}: {froms:?}");
        }
    }
    let finished = run(&options, body, teller.port(), "--local-ips 192.0.2.1", &[]);
    // The system's own words for an address that is not this machine's.
    assert_eq!(all(&said(&finished), "code"), vec![json!(1213); 10]);
}

#[test]
fn connections_last_as_long_as_the_options_say() {
    let body = "say(http.get(`http://127.0.0.1:${__ENV.PORT}/`));
         say(http.batch([`http://127.0.0.1:${__ENV.PORT}/`])[0]);";
    for (options, expected) in [
        (json!({}), [0, 0, 0, 0]),
        (json!({"noVUConnectionReuse": true}), [0, 0, 1, 1]),
        (json!({"noConnectionReuse": true}), [0, 1, 2, 3]),
    ] {
        let teller = Teller::start("127.0.0.1:0");
        let finished = run(&options, body, teller.port(), "--iterations 2", &[]);
        let said = said(&finished);
        assert_eq!(
            all(&said, "connection"),
            expected.map(Value::from),
            "{options}"
        );
    }
    // Two VUs have nothing in common.
    let teller = Teller::start("127.0.0.1:0");
    let two = json!({"scenarios": {"all": {
        "executor": "per-vu-iterations", "vus": 2, "iterations": 3}}});
    run(&two, body, teller.port(), "", &[]);
    assert_eq!(teller.connections(), 2);
}

#[test]
fn the_environment_limits_the_life_of_a_connection() {
    let body = "const end = Date.now() + 700;
         do { say(http.get(`http://127.0.0.1:${__ENV.PORT}/`)); sleep(0.05); } while (Date.now() < end);";
    for (name, value, several) in [
        ("VOLLEY_CONNECTION_LIFETIME", "300ms", true),
        ("VOLLEY_CONNECTION_LIFETIME", "1h", false),
        ("VOLLEY_CONNECTION_IDLE", "40ms", true),
        ("VOLLEY_CONNECTION_IDLE", "1h", false),
    ] {
        let teller = Teller::start("127.0.0.1:0");
        let said = said(&run(&json!({}), body, teller.port(), "", &[(name, value)]));
        assert!(said.iter().all(|line| line["code"] == 0), "{said:?}");
        let connections = teller.connections();
        assert_eq!(connections > 1, several, "{name}={value}: {connections}");
    }
}
