//! k6/http against real servers: HTTP/2, client certificates, packed bodies, proxies, a paced rate.

mod support;

use std::{collections::BTreeSet, time::Instant};

use support::{Finished, Folder, Launch, Nginx, Proxy, Target, until};

/// A certificate for `localhost` and its key, in that folder.
fn certify(folder: &Folder) {
    let made = rcgen::generate_simple_self_signed(vec!["localhost".to_owned()]);
    let made = made.expect("a certificate");
    folder.write("cert.pem", made.cert.pem());
    folder.write("key.pem", made.signing_key.serialize_pem());
}

/// Runs a script that aims at `__ENV.AT`.
fn run(script: &str, at: &str, words: &str, env: &[(&str, &str)]) -> Finished {
    let folder = Folder::with("script.js", script);
    let mut launch = Launch::volley(folder.path())
        .words("run --quiet")
        .words(words)
        .args(["--env", &format!("AT={at}"), "script.js"]);
    for (name, value) in env {
        launch = launch.env(name, value);
    }
    launch.run()
}

/// What the script has said, in order.
fn said(finished: &Finished) -> Vec<String> {
    finished
        .log()
        .into_iter()
        .filter(|line| line.field("source") == Some("console"))
        .map(|line| line.msg)
        .collect()
}

const TLS: &str = "server { listen $PORT ssl http2; server_name localhost;
    ssl_certificate cert.pem; ssl_certificate_key key.pem; ssl_protocols TLSv1.2 TLSv1.3;
    access_log second.log line;
    location / { return 200 'hello'; } }";

#[test]
fn requests_of_a_batch_share_a_connection_of_http2() {
    let folder = Folder::new();
    certify(&folder);
    let Some(nginx) = Nginx::with(folder, TLS) else {
        return;
    };
    let script = "import http from 'k6/http';
        export const options = { insecureSkipTLSVerify: true, iterations: 3,
          thresholds: { 'http_reqs{proto:HTTP/2.0}': ['count==33'], 'http_reqs{tls_version:tls1.3}': ['count==33'] } };
        export default function () {
          const all = http.batch(Array.from({ length: 10 }, (_, i) => `${__ENV.AT}/b${i}`));
          console.log(all.filter((r) => r.proto === 'HTTP/2.0' && r.body === 'hello').length);
          const r = http.post(`${__ENV.AT}/post?a=b`, 'x'.repeat(100000));
          console.log(r.status_text, r.headers['Content-Length'], r.timings.connecting);
        }";
    let finished = run(
        script,
        &format!("https://localhost:{}", nginx.second),
        "",
        &[],
    );
    assert_eq!(finished.code, 0, "{}", finished.stderr);
    assert_eq!(said(&finished), ["10", "200 OK 5 0"].repeat(3));
    let lines = nginx.lines("second.log");
    assert_eq!(lines.len(), 33, "{lines:?}");
    let connections: BTreeSet<&str> = lines.iter().filter_map(|l| l.split(' ').next()).collect();
    assert_eq!(connections.len(), 1, "{lines:?}");
    assert!(lines[0].contains("HTTP/2.0 200 GET /b"), "{}", lines[0]);
}

#[test]
fn the_tls_version_can_be_chosen_and_suites_with_it() {
    let folder = Folder::new();
    certify(&folder);
    let Some(nginx) = Nginx::with(folder, TLS) else {
        return;
    };
    let script = "import http from 'k6/http';
        export const options = { insecureSkipTLSVerify: true, tlsVersion: http.TLS_1_2,
          tlsCipherSuites: ['TLS_ECDHE_ECDSA_WITH_AES_256_GCM_SHA384'] };
        export default function () {
          const r = http.get(__ENV.AT);
          console.log(r.tls_version, r.tls_cipher_suite, r.ocsp.status, r.proto);
        }";
    let finished = run(
        script,
        &format!("https://localhost:{}", nginx.second),
        "",
        &[],
    );
    assert_eq!(
        said(&finished),
        ["tls1.2 TLS_ECDHE_ECDSA_WITH_AES_256_GCM_SHA384 unknown HTTP/2.0"],
        "{}",
        finished.stderr
    );
}

#[test]
fn a_client_certificate_opens_the_door() {
    let folder = Folder::new();
    certify(&folder);
    let (cert, key) = (folder.read("cert.pem"), folder.read("key.pem"));
    let more = TLS.replace(
        "access_log",
        "ssl_verify_client on; ssl_client_certificate cert.pem; access_log",
    );
    let Some(nginx) = Nginx::with(folder, &more) else {
        return;
    };
    let script = |domain: &str| {
        format!(
            "import http from 'k6/http';
             export const options = {{ insecureSkipTLSVerify: true,
               tlsAuth: [{{ domains: ['{domain}'], cert: `{cert}`, key: `{key}` }}] }};
             export default function () {{ console.log(http.get(__ENV.AT).status); }}"
        )
    };
    let at = format!("https://localhost:{}", nginx.second);
    assert_eq!(said(&run(&script("localhost"), &at, "", &[])), ["200"]);
    assert_eq!(said(&run(&script("other.test"), &at, "", &[])), ["400"]);
}

#[test]
fn a_packed_body_counts_as_it_travels() {
    let more = "gzip on; gzip_types *; gzip_min_length 1; gzip_http_version 1.0;
        server { listen $PORT; location / { root .; } }";
    let folder = Folder::new();
    folder.write("large.txt", "all the same\n".repeat(50_000));
    let Some(nginx) = Nginx::with(folder, more) else {
        return;
    };
    let script = "import http from 'k6/http';
        export const options = { thresholds: { data_received: ['count<20000'] } };
        export default function () {
          const r = http.get(`${__ENV.AT}/large.txt`, { headers: { 'Accept-Encoding': 'gzip' } });
          console.log(r.headers['Content-Encoding'], r.body.length, r.body.slice(-5).trim());
        }";
    let finished = run(
        script,
        &format!("http://127.0.0.1:{}", nginx.second),
        "",
        &[],
    );
    assert_eq!(said(&finished), ["gzip 650000 same"], "{}", finished.stderr);
    assert_eq!(finished.code, 0, "{}", finished.stderr);
}

#[test]
fn the_environment_names_a_proxy() {
    let more =
        "server { listen $PORT; access_log second.log line; location / { return 200 'through'; } }";
    let Some(nginx) = Nginx::with(Folder::new(), more) else {
        return;
    };
    let script = "import http from 'k6/http';
        export default function () {
          console.log(http.get('http://far.example/a?b').body, http.get(__ENV.AT).body);
        }";
    let direct = format!("http://127.0.0.1:{}", nginx.port);
    let proxy = format!("127.0.0.1:{}", nginx.second);
    let finished = run(script, &direct, "", &[("http_proxy", &proxy)]);
    assert_eq!(said(&finished), ["through hello"], "{}", finished.stderr);
    let lines = nginx.lines("second.log");
    assert_eq!(lines.len(), 1, "{lines:?}");
    assert!(
        lines[0].ends_with("GET http://far.example/a?b HTTP/1.1"),
        "{}",
        lines[0]
    );
}

/// This machine, by an address that no rule takes for it: it is not reached through a proxy otherwise.
const HERE: &str = "0.0.0.0";

#[test]
fn a_real_proxy_forwards_and_tunnels_for_those_it_knows() {
    let folder = Folder::new();
    certify(&folder);
    let (Some(nginx), Some(proxy)) = (Nginx::with(folder, TLS), Proxy::start()) else {
        return;
    };
    let (plain, secure) = (nginx.port, nginx.second);
    let script = format!(
        "import http from 'k6/http';
         export const options = {{ insecureSkipTLSVerify: true, iterations: 2 }};
         export default function () {{
           for (const url of ['http://{HERE}:{plain}/a?b', 'https://{HERE}:{secure}/c']) {{
             const r = http.get(url);
             console.log(r.status, r.body, r.proto, r.tls_version, r.error_code, r.error, r.remote_port);
           }}
         }}"
    );
    let through = |credentials: &str| {
        let url = proxy.url(credentials);
        let env = [("HTTP_PROXY", &*url), ("HTTPS_PROXY", &*url)];
        let before = proxy.requests().len();
        let finished = run(&script, "", "", &env);
        // Its log comes through a pipe.
        let asked = until("three requests at the proxy", || {
            let asked = proxy.requests().split_off(before);
            (asked.len() >= 3).then_some(asked)
        });
        (said(&finished), asked)
    };
    let (said_through, asked) = through("me:word");
    // The proxy closes what it forwards; the tunnel stays.
    let port = proxy.port();
    let forwarded = format!("200 hello HTTP/1.1  0  {port}");
    let tunnelled = format!("200 hello HTTP/2.0 tls1.3 0  {port}");
    let twice = [&*forwarded, &*tunnelled].repeat(2);
    assert_eq!(said_through, twice, "{asked:?}");
    let forward = format!("GET http://{HERE}:{plain}/a?b HTTP/1.1");
    let tunnel = format!("CONNECT {HERE}:{secure} HTTP/1.1");
    assert_eq!(asked, [&*forward, &*tunnel, &*forward]);
    let (said_without, _) = through("me:wrong");
    assert!(
        said_without[0].starts_with("401 ") || said_without[0].starts_with("407 "),
        "{said_without:?}"
    );
    assert!(
        said_without[1].starts_with("0 null   1000 "),
        "{said_without:?}"
    );
    // Two of each have come through, and none directly.
    assert_eq!((nginx.requests(), nginx.lines("second.log").len()), (2, 2));
}

#[test]
fn a_server_that_ends_its_connections_loses_no_request() {
    let folder = Folder::new();
    certify(&folder);
    let tired = TLS.replace("access_log", "keepalive_requests 5; access_log");
    let Some(nginx) = Nginx::with(folder, &tired) else {
        return;
    };
    let script = "import http from 'k6/http';
        export const options = { insecureSkipTLSVerify: true, iterations: 6,
          thresholds: { http_req_failed: ['rate==0'], http_reqs: ['count==66'] } };
        export default function () {
          http.post(__ENV.AT, 'x'.repeat(70000));
          for (const r of http.batch(Array(10).fill(['POST', __ENV.AT, 'y'.repeat(2000)]))) {
            if (r.body !== 'hello' || r.proto !== 'HTTP/2.0') { console.log(r.status, r.error); }
          }
        }";
    let at = format!("https://localhost:{}", nginx.second);
    let finished = run(script, &at, "", &[]);
    assert_eq!(said(&finished), [""; 0]);
    assert_eq!(finished.code, 0, "{}", finished.stderr);
    let lines = nginx.lines("second.log");
    assert_eq!(lines.len(), 66, "each once: {lines:?}");
    let connections: BTreeSet<&str> = lines.iter().filter_map(|l| l.split(' ').next()).collect();
    assert!(connections.len() >= 66 / 6, "{connections:?}");
}

#[test]
fn a_rate_holds_for_all_vus_together() {
    let target = Target::start().expect("a target");
    let script = "import http from 'k6/http';
        export default function () { http.batch([__ENV.AT, __ENV.AT]); }";
    let at = format!("{}/count", target.url());
    let begun = Instant::now();
    let words = "--rps 50 --vus 5 --iterations 15";
    let finished = run(script, &at, words, &[("VOLLEY_WORKERS", "2")]);
    let took = begun.elapsed().as_secs_f64();
    assert_eq!(finished.code, 0, "{}", finished.stderr);
    // The first goes at once, and each of the other 29 a fiftieth of a second after the one before.
    assert!(took >= 0.57, "{took}");
}

#[test]
fn messages_are_logged_with_their_place() {
    let target = Target::start().expect("a target");
    let script = "import http from 'k6/http'; import { group } from 'k6';
        export default function () { group('g', () => { http.post(__ENV.AT, 'secret body'); }); }";
    let at = format!("{}/echo", target.url());
    for (flag, bodies) in [("--http-debug", false), ("--http-debug=full", true)] {
        let finished = run(script, &at, flag, &[]);
        let log = finished.log();
        let lines: Vec<_> = log
            .iter()
            .filter(|line| line.field("source") == Some("http-debug"))
            .collect();
        assert_eq!(lines.len(), 2, "{}", finished.stderr);
        assert!(
            lines[0]
                .msg
                .starts_with("Request:\nPOST /echo HTTP/1.1\r\nHost: "),
            "{:?}",
            lines[0]
        );
        assert!(
            lines[1].msg.starts_with("Response:\nHTTP/1.1 200 OK\r\n"),
            "{:?}",
            lines[1]
        );
        for line in lines {
            assert_eq!(line.msg.contains("secret body"), bodies, "{line:?}");
            assert_eq!(
                (line.field("group"), line.field("iter")),
                (Some("::g"), Some("0"))
            );
            assert_eq!(
                (line.field("scenario"), line.field("vu")),
                (Some("default"), Some("1"))
            );
            assert_eq!(line.field("request_id").map(str::len), Some(36));
        }
    }
}
