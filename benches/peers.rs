//! Speed and memory of the whole program, as ratios to a peer in the same run: see `README.md`.
//!
//! `cargo bench --bench peers -- [PART…]` runs all parts or the named ones. Absolute times vary from
//! machine to machine and from minute to minute; a ratio to `wrk`, measured in turns against the
//! same nginx, does not, and CPU time varies less than wall time. Each part prints what it
//! measured beside its budget, and the exit code says whether all budgets hold.

use std::{
    fs,
    io::{Read, Write},
    net::{TcpListener, TcpStream},
    path::{Path, PathBuf},
    process::{Child, Command, ExitCode, Stdio},
    thread,
    time::{Duration, Instant},
};

/// The program, built in the release profile.
const VOLLEY: &str = env!("CARGO_BIN_EXE_volley");
/// Rounds whose median counts.
const ROUNDS: usize = 5;
/// The kernel counts CPU time in hundredths of a second.
const TICK: f64 = 0.01;

/// A part of the benchmark: its name, and what it measures.
type Part = (&'static str, fn(&Bench) -> Vec<Figure>);

const PARTS: &[Part] = &[
    ("get", get),
    ("realistic", realistic),
    ("https", https),
    ("http2", http2),
    ("post", post),
    ("batch", batch),
    ("many", many),
    ("open", open),
    ("empty", empty),
    ("vus", vus),
    ("memory", memory),
    ("bundles", bundles),
    ("native", native),
    ("sharing", sharing),
    ("scrape", scrape),
    ("rate", rate),
    ("highest", highest),
    ("starved", starved),
    ("flat", flat),
];

/// A measured figure and its budget.
struct Figure {
    what: String,
    value: f64,
    unit: &'static str,
    budget: Option<Budget>,
}

enum Budget {
    AtMost(f64),
    AtLeast(f64),
}

impl Figure {
    fn holds(&self) -> bool {
        match self.budget {
            None => true,
            Some(Budget::AtMost(most)) => self.value <= most,
            Some(Budget::AtLeast(least)) => self.value >= least,
        }
    }
}

fn main() -> ExitCode {
    let wanted: Vec<String> = std::env::args()
        .skip(1)
        .filter(|arg| !arg.starts_with("--"))
        .collect();
    let bench = Bench::start();
    let mut failed = 0;
    for (name, part) in PARTS {
        if !wanted.is_empty() && !wanted.iter().any(|w| w == name) {
            continue;
        }
        for figure in part(&bench) {
            let budget = match figure.budget {
                None => String::new(),
                Some(Budget::AtMost(most)) => format!("  (at most {most})"),
                Some(Budget::AtLeast(least)) => format!("  (at least {least})"),
            };
            let mark = if figure.holds() { ' ' } else { '!' };
            failed += usize::from(!figure.holds());
            println!(
                "{mark} {name:8} {:52} {:10.3} {}{budget}",
                figure.what, figure.value, figure.unit
            );
        }
    }
    ExitCode::from(u8::from(failed > 0))
}

// === The parts ===

/// CPU time of a keep-alive `http.get`, against wrk's for the same requests.
fn get(bench: &Bench) -> Vec<Figure> {
    against_wrk(bench, "get.js", &bench.url, None, Some(2.0))
}

/// The same in a script as people write them: a group, tags, a parsed body, two checks, a Trend.
fn realistic(bench: &Bench) -> Vec<Figure> {
    against_wrk(bench, "realistic.js", &bench.url, None, Some(3.0))
}

/// `http.get` over TLS, connections kept, HTTP/1.1 as wrk speaks it.
fn https(bench: &Bench) -> Vec<Figure> {
    against_wrk(bench, "get.js", &bench.tls, None, Some(2.0))
}

/// `http.get` over HTTP/2; wrk, which does not speak it, over HTTP/1.1 and TLS.
fn http2(bench: &Bench) -> Vec<Figure> {
    against_wrk(bench, "get.js", &bench.h2, None, None)
}

/// `http.post` of 10 KB.
fn post(bench: &Bench) -> Vec<Figure> {
    against_wrk(bench, "post.js", &bench.url, Some("post.lua"), None)
}

/// `http.batch` of ten requests, CPU time of each.
fn batch(bench: &Bench) -> Vec<Figure> {
    against_wrk(bench, "batch.js", &bench.url, None, None)
}

/// CPU time of a request of a script with 50 VUs on one worker, against wrk's with 50 connections.
fn against_wrk(
    bench: &Bench,
    script: &str,
    url: &str,
    lua: Option<&str>,
    budget: Option<f64>,
) -> Vec<Figure> {
    let script = bench.script(script);
    let (mut peer, mut ours, mut rate_peer, mut rate_ours) = (vec![], vec![], vec![], vec![]);
    for _ in 0..ROUNDS {
        let mut wrk = Command::new("wrk");
        wrk.args(["-t1", "-c50", "-d5s"]);
        if let Some(lua) = lua {
            wrk.arg("-s").arg(bench.script(lua));
        }
        let run = run(wrk.arg(url));
        let requests = number_before(&run.stdout, " requests in");
        peer.push(run.cpu / requests * 1e6);
        rate_peer.push(requests / 5.0);
        let target = format!("TARGET={url}");
        let run = bench.volley(
            &script,
            &[
                ("VOLLEY_WORKERS", "1"),
                ("K6_INSECURE_SKIP_TLS_VERIFY", "true"),
            ],
            &["-u", "50", "-d", "5s", "-e", &target],
        );
        let requests = bench.exported("http_reqs", "count");
        assert!(
            bench.exported("http_req_failed", "value") < 1e-9,
            "failed requests"
        );
        ours.push(run.cpu / requests * 1e6);
        rate_ours.push(requests / 5.0);
    }
    let (peer, ours) = (median(peer), median(ours));
    let ratio = plain("ratio", ours / peer, "");
    vec![
        plain("CPU per request, wrk -t1 -c50", peer, "µs"),
        plain("CPU per request, 50 VUs, one worker", ours, "µs"),
        Figure {
            budget: budget.map(Budget::AtMost),
            ..ratio
        },
        plain("requests, wrk", median(rate_peer), "1/s"),
        plain("requests, one worker", median(rate_ours), "1/s"),
    ]
}

/// What 10,000 VUs do to the times that they measure: 2,000 requests a second by them and by 100.
fn many(bench: &Bench) -> Vec<Figure> {
    let script = bench.script("once_in_five_seconds.js");
    let p99 = |vus: &str| {
        let setting = format!("VUS={vus}");
        bench.volley(&script, &[], &["-u", vus, "-d", "15s", "-e", &setting]);
        bench.exported("http_req_duration", "p(99)")
    };
    let (few, many) = (p99("100"), p99("10000"));
    vec![
        plain("99th of http_req_duration, 100 VUs", few, "ms"),
        plain("99th of http_req_duration, 10,000 VUs", many, "ms"),
        at_most("ratio", many / few, "", 5.0),
    ]
}

/// 18,000 connections that are open at once.
fn open(bench: &Bench) -> Vec<Figure> {
    let script = bench.script("every_five_seconds.js");
    bench.volley(&script, &[], &["-u", "18000", "-d", "15s"]);
    vec![
        at_least("requests", bench.exported("http_reqs", "count"), 18_000.0),
        at_most(
            "failed requests",
            bench.exported("http_req_failed", "value"),
            "",
            0.0,
        ),
    ]
}

/// CPU time of an iteration that does nothing.
fn empty(bench: &Bench) -> Vec<Figure> {
    let script = bench.script("empty.js");
    let costs = (0..ROUNDS).map(|_| {
        let run = bench.volley(&script, &[], &["-u", "10", "-d", "3s"]);
        run.cpu / bench.exported("iterations", "count") * 1e6
    });
    vec![at_most(
        "CPU per empty iteration, 10 VUs",
        median(costs.collect()),
        "µs",
        1.5,
    )]
}

/// 10,000 VUs of an empty script, made and run once.
fn vus(bench: &Bench) -> Vec<Figure> {
    const VUS: f64 = 10_000.0;
    let run = bench.volley(&bench.script("once.js"), &[], &[]);
    assert!((bench.exported("iterations", "count") - VUS).abs() < 0.5);
    vec![
        at_most("CPU time of all", run.cpu, "s", 3.0),
        at_most(
            "peak RSS of the process per VU",
            run.peak_kib * 1.024 / VUS,
            "KB",
            98.0,
        ),
    ]
}

/// Memory of 10,000 VUs that each make a request every five seconds.
fn memory(bench: &Bench) -> Vec<Figure> {
    const VUS: f64 = 10_000.0;
    let script = bench.script("every_five_seconds.js");
    let run = bench.volley(&script, &[], &["-u", "10000", "-d", "15s"]);
    let failed = bench.exported("http_req_failed", "value");
    vec![
        at_most(
            "peak RSS of the process per VU",
            run.peak_kib * 1.024 / VUS,
            "KB",
            130.0,
        ),
        at_most("failed requests", failed, "", 0.0),
    ]
}

/// Memory of VUs with bundles of libraries and a connection each.
fn bundles(bench: &Bench) -> Vec<Figure> {
    let bundles = bench.script("../engine/bundles");
    if !bundles.join("large.js").exists() {
        println!(
            "  bundles: not there; benches/engine/bundles.sh makes them (node and npm needed)"
        );
        return Vec::new();
    }
    let each = |script: &str, vus: u32| {
        let script = bench.script(script);
        let count = vus.to_string();
        let run = bench.volley(&script, &[], &["-u", &count, "-i", &count]);
        run.peak_kib * 1.024 / f64::from(vus)
    };
    vec![
        at_most(
            "peak RSS per VU, papaparse and dayjs, 2,000 VUs",
            each("small_bundle.js", 2_000),
            "KB",
            300.0,
        ),
        at_most(
            "peak RSS per VU, faker, lodash, crypto-js, 200 VUs",
            each("large_bundle.js", 200) / 1e3,
            "MB",
            4.6,
        ),
    ]
}

/// What it costs a script to call a native.
fn native(bench: &Bench) -> Vec<Figure> {
    let script = bench.script("native.js");
    let cpu = |args: &[&str]| {
        let runs = (0..ROUNDS).map(|_| bench.volley(&script, &[], args).cpu);
        median(runs.collect())
    };
    let (with, without) = (cpu(&["-e", "CALL=1"]), cpu(&[]));
    vec![at_most(
        "CPU per call of a native that does nothing",
        (with - without) / 1e7 * 1e9,
        "ns",
        150.0,
    )]
}

/// What is left for others beside a VU in an endless loop, on one worker.
fn sharing(bench: &Bench) -> Vec<Figure> {
    let rate = |script: &str| {
        let script = bench.script(script);
        let rates = (0..3).map(|_| {
            bench.volley(&script, &[("VOLLEY_WORKERS", "1")], &[]);
            bench.exported("iterations", "rate")
        });
        median(rates.collect())
    };
    let compute = rate("beside_loop_compute.js") / rate("alone_compute.js");
    let get = rate("beside_loop_get.js") / rate("alone_get.js");
    let script = bench.script("beside_json_parse.js");
    bench.volley(&script, &[("VOLLEY_WORKERS", "1")], &[]);
    let late = bench.exported("late", "max");
    vec![
        at_least(
            "share of its rate, a computing VU beside while(true){}",
            compute,
            1.0 / 3.0,
        ),
        at_least(
            "share of its rate, an http.get VU beside while(true){}",
            get,
            0.1,
        ),
        at_most(
            "longest wait beside JSON.parse of 20 KB in a loop",
            late,
            "ms",
            20.0,
        ),
    ]
}

/// CPU time of a scrape of 5,000 lines.
fn scrape(bench: &Bench) -> Vec<Figure> {
    const SCRAPES: u32 = 20;
    let script = bench.script("many_series.js");
    let port = free_port();
    let out = format!("prometheus=namespace=k6&port={port}&linger=0");
    let mut command = bench.volley_command(&script, &["--out", &out]);
    let mut child = command.spawn().expect("volley starts");
    let deadline = Instant::now() + Duration::from_secs(20);
    let lines = loop {
        let lines = fetch(port)
            .lines()
            .filter(|line| !line.starts_with('#'))
            .count();
        if lines >= 5000 || Instant::now() > deadline {
            break lines;
        }
        thread::sleep(Duration::from_millis(200));
    };
    let before = Usage::of(child.id());
    for _ in 0..SCRAPES {
        fetch(port);
    }
    let after = Usage::of(child.id());
    let _ = child.kill();
    let _ = child.wait();
    vec![
        at_least("lines of the exposition", lines as f64, 5000.0),
        at_most(
            "CPU per scrape",
            (after.cpu - before.cpu) / f64::from(SCRAPES) * 1e3,
            "ms",
            50.0,
        ),
    ]
}

/// How punctual 10,000 starts a second are, and what the peer makes of the same nginx.
fn rate(bench: &Bench) -> Vec<Figure> {
    let peer = run(Command::new("wrk").args(["-t1", "-c200", "-d5s", &bench.url]));
    let page = bench.at_rate(10_000, "10s", 200);
    let sent = bench.exported("http_reqs", "count");
    let buckets = page.buckets("volley_start_lateness_seconds");
    vec![
        plain(
            "requests, wrk -t1 -c200",
            number_before(&peer.stdout, " requests in") / 5.0,
            "1/s",
        ),
        at_least("iterations of 100,000", sent, 100_000.0),
        at_most(
            "dropped iterations",
            page.value("volley_dropped_iterations_total"),
            "",
            0.0,
        ),
        at_most(
            "start lateness, median",
            quantile(&buckets, 0.5) * 1e3,
            "ms",
            0.2,
        ),
        at_most(
            "start lateness, 99th",
            quantile(&buckets, 0.99) * 1e3,
            "ms",
            2.0,
        ),
    ]
}

/// The highest rate, in steps of 2,500/s, of which nothing is dropped in five seconds.
fn highest(bench: &Bench) -> Vec<Figure> {
    let mut best = 0;
    // A hiccup of the machine ends nothing: two failures in a row do.
    let mut failed = 0;
    for rate in (1..).map(|n| n * 2_500) {
        let page = bench.at_rate(rate, "5s", 500);
        if page.value("volley_dropped_iterations_total") > 0.0 {
            failed += 1;
        } else {
            (best, failed) = (rate, 0);
        }
        if failed == 2 {
            break;
        }
    }
    vec![plain(
        "highest rate without a drop, 500 VUs",
        f64::from(best),
        "1/s",
    )]
}

/// Whether a generator that gets a tenth of a processor says so.
fn starved(bench: &Bench) -> Vec<Figure> {
    let mut neighbours: Vec<Child> = (0..9)
        .map(|_| {
            Command::new("taskset")
                .args(["-c", "0", "sh", "-c", "while :; do :; done"])
                .spawn()
                .expect("taskset is there (apt install util-linux)")
        })
        .collect();
    let script = bench.script("rate.js");
    let mut command = Command::new("taskset");
    command
        .args(["-c", "0", VOLLEY, "run", "--quiet"])
        .args(["-e", "RATE=10000", "-e", "DURATION=10s", "-e", "VUS=200"])
        .args(["-e", &format!("TARGET={}", bench.url)])
        .arg(&script)
        .stderr(Stdio::null());
    let run = run(&mut command);
    for neighbour in &mut neighbours {
        let _ = neighbour.kill();
        let _ = neighbour.wait();
    }
    let line = run
        .stdout
        .lines()
        .find(|line| line.contains("generator saturated"));
    println!(
        "  {}",
        line.unwrap_or("no line about a saturated generator").trim()
    );
    vec![at_least(
        "a line about it in the summary",
        f64::from(u8::from(line.is_some())),
        1.0,
    )]
}

/// Whether a minute of Trends at full speed takes memory: twelve combinations of tags.
fn flat(bench: &Bench) -> Vec<Figure> {
    let script = bench.script("trends.js");
    let mut child = bench
        .volley_command(&script, &[])
        .spawn()
        .expect("volley starts");
    let began = Instant::now();
    let (mut early, mut late) = (0.0, 0.0_f64);
    while let Some(rss) = memory_of(child.id(), "VmRSS:") {
        match began.elapsed().as_secs() {
            0..=19 => early = rss,
            50..=59 => late = late.max(rss),
            _ => {}
        }
        thread::sleep(Duration::from_millis(200));
    }
    let _ = child.wait();
    vec![
        plain("iterations", bench.exported("iterations", "count"), ""),
        plain("RSS after 20 s", early / 1024.0, "MiB"),
        at_most("most in the last 10 s, to that", late / early, "", 1.03),
        at_least("least of it", late / early, 0.5),
    ]
}

// === What they share ===

fn plain(what: &str, value: f64, unit: &'static str) -> Figure {
    Figure {
        what: what.to_owned(),
        value,
        unit,
        budget: None,
    }
}

fn at_most(what: &str, value: f64, unit: &'static str, most: f64) -> Figure {
    Figure {
        budget: Some(Budget::AtMost(most)),
        ..plain(what, value, unit)
    }
}

fn at_least(what: &str, value: f64, least: f64) -> Figure {
    Figure {
        budget: Some(Budget::AtLeast(least)),
        ..plain(what, value, "")
    }
}

fn median(mut values: Vec<f64>) -> f64 {
    values.sort_by(f64::total_cmp);
    values[values.len() / 2]
}

/// nginx and a folder for what runs leave behind; both are gone afterwards.
struct Bench {
    nginx: Child,
    folder: PathBuf,
    url: String,
    /// The same over TLS, by HTTP/1.1 alone, and by HTTP/2 for whom wants it.
    tls: String,
    h2: String,
}

impl Bench {
    fn start() -> Self {
        let folder = std::env::temp_dir().join(format!("volley-bench-{}", std::process::id()));
        fs::create_dir_all(&folder).expect("a folder for the results");
        let [port, tls, h2] = [free_port(), free_port(), free_port()];
        make_certificate(&folder);
        let config = folder.join("nginx.conf");
        fs::write(&config, nginx_config(&folder, [port, tls, h2])).expect("nginx.conf");
        let nginx = Command::new("nginx")
            .arg("-c")
            .arg(&config)
            .args([
                "-p",
                folder.to_str().expect("a UTF-8 path"),
                "-g",
                "daemon off;",
            ])
            .stderr(Stdio::null())
            .spawn()
            .expect("nginx is installed (apt install nginx wrk)");
        let deadline = Instant::now() + Duration::from_secs(10);
        while TcpStream::connect(("127.0.0.1", port)).is_err() {
            assert!(Instant::now() < deadline, "nginx does not answer");
            thread::sleep(Duration::from_millis(20));
        }
        Self {
            nginx,
            folder,
            url: format!("http://127.0.0.1:{port}/"),
            tls: format!("https://127.0.0.1:{tls}/"),
            h2: format!("https://127.0.0.1:{h2}/"),
        }
    }

    fn script(&self, name: &str) -> PathBuf {
        Path::new(env!("CARGO_MANIFEST_DIR"))
            .join("../benches/scripts")
            .join(name)
    }

    fn volley_command(&self, script: &Path, args: &[&str]) -> Command {
        let mut command = Command::new(VOLLEY);
        command
            .args(["run", "--quiet", "--summary-export"])
            .arg(self.folder.join("summary.json"))
            .args(["--summary-trend-stats", "avg,med,max,p(99)"])
            .args(["-e", &format!("TARGET={}", self.url)])
            .args(args)
            .arg(script)
            .stdout(Stdio::null())
            .stderr(Stdio::null());
        command
    }

    fn volley(&self, script: &Path, env: &[(&str, &str)], args: &[&str]) -> Ran {
        let mut command = self.volley_command(script, args);
        command.envs(env.iter().copied());
        run(&mut command)
    }

    /// Runs `rate.js`; answers the last page of `/metrics`.
    fn at_rate(&self, rate: u32, duration: &str, vus: u32) -> Page {
        let port = free_port();
        let out = format!("prometheus=namespace=k6&port={port}&linger=10s");
        let (rate, vus) = (format!("RATE={rate}"), format!("VUS={vus}"));
        let duration = format!("DURATION={duration}");
        let settings = ["--out", &out, "-e", &rate, "-e", &duration, "-e", &vus];
        let mut child = self
            .volley_command(&self.script("rate.js"), &settings)
            .spawn()
            .expect("volley starts");
        let mut page = String::new();
        // It stays for a scrape after its end, and is gone after that.
        while child.try_wait().expect("a child").is_none() {
            let scraped = fetch(port);
            if !scraped.is_empty() {
                page = scraped;
            }
            thread::sleep(Duration::from_millis(500));
        }
        Page(page)
    }

    /// A value of a metric in the summary of the last run.
    fn exported(&self, metric: &str, value: &str) -> f64 {
        let text = fs::read_to_string(self.folder.join("summary.json"))
            .expect("the run wrote its summary");
        let json: serde_json::Value = serde_json::from_str(&text).expect("JSON");
        let found = json["metrics"][metric][value].as_f64();
        found.unwrap_or_else(|| panic!("no {metric}.{value} in {text}"))
    }
}

impl Drop for Bench {
    fn drop(&mut self) {
        // Its master takes the workers along only if it is asked.
        let _ = Command::new("kill")
            .arg("-TERM")
            .arg(self.nginx.id().to_string())
            .status();
        let _ = self.nginx.wait();
        let _ = fs::remove_dir_all(&self.folder);
    }
}

/// One worker, because the load needs the other core; connections live for ever, because setting
/// them up is not what is measured.
fn nginx_config(folder: &Path, [port, tls, h2]: [u16; 3]) -> String {
    let folder = folder.display();
    let temporary: String = ["client_body", "proxy", "fastcgi", "uwsgi", "scgi"]
        .iter()
        .map(|kind| format!("  {kind}_temp_path {folder}/{kind};\n"))
        .collect();
    format!(
        "worker_processes 1;\npid {folder}/nginx.pid;\nerror_log {folder}/error.log;\n\
         worker_rlimit_nofile 19900;\nevents {{ worker_connections 19000; }}\n\
         http {{\n  access_log off;\n  keepalive_requests 1000000000;\n  keepalive_timeout 3600s;\n\
         ssl_certificate {folder}/cert.pem;\n  ssl_certificate_key {folder}/key.pem;\n\
         {temporary}  server {{\n    listen 127.0.0.1:{port} backlog=16384;\n    \
         listen 127.0.0.1:{tls} ssl;\n    listen 127.0.0.1:{h2} ssl http2;\n    \
         http2_max_concurrent_streams 1000;\n    default_type application/json;\n\
         location / {{ return 200 '{{\"message\":\"sixty-two bytes of body, with a line break here\"}}\\n'; }}\n  }}\n}}\n"
    )
}

/// A certificate that nobody trusts.
fn make_certificate(folder: &Path) {
    let made = Command::new("openssl")
        .args([
            "req",
            "-x509",
            "-newkey",
            "ec",
            "-pkeyopt",
            "ec_paramgen_curve:P-256",
        ])
        .args(["-nodes", "-days", "2", "-subj", "/CN=localhost", "-keyout"])
        .arg(folder.join("key.pem"))
        .arg("-out")
        .arg(folder.join("cert.pem"))
        .stderr(Stdio::null())
        .status();
    assert!(
        made.is_ok_and(|status| status.success()),
        "openssl makes a certificate (apt install openssl)"
    );
}

/// How a run went.
struct Ran {
    stdout: String,
    /// User and system time, seconds.
    cpu: f64,
    peak_kib: f64,
}

/// Runs a command to its end, and reads its CPU time before the kernel forgets it.
fn run(command: &mut Command) -> Ran {
    let mut child = command
        .stdout(Stdio::piped())
        .spawn()
        .unwrap_or_else(|e| panic!("{command:?}: {e}"));
    let mut pipe = child.stdout.take().expect("piped");
    let reading = thread::spawn(move || {
        let mut text = String::new();
        let _ = pipe.read_to_string(&mut text);
        text
    });
    let pid = child.id();
    let mut peak_kib = 0.0;
    let usage = loop {
        let usage = Usage::of(pid);
        if usage.over {
            break usage;
        }
        // A zombie has no memory: the peak is what was seen last.
        peak_kib = memory_of(pid, "VmHWM:").unwrap_or(peak_kib);
        thread::sleep(Duration::from_millis(20));
    };
    let status = child.wait().expect("it has ended");
    assert!(status.success(), "{command:?}: {status}");
    Ran {
        stdout: reading.join().expect("text"),
        cpu: usage.cpu,
        peak_kib,
    }
}

/// An exposition in Prometheus's text format.
struct Page(String);

impl Page {
    /// The value of the first series of a family.
    fn value(&self, family: &str) -> f64 {
        let line = self.0.lines().find(|line| line.starts_with(family));
        let value = line.and_then(|line| line.rsplit(' ').next()?.parse().ok());
        value.unwrap_or_else(|| panic!("no {family} in {}", self.0))
    }

    /// The upper bounds of a histogram's buckets, and how much is at or below each.
    fn buckets(&self, family: &str) -> Vec<(f64, f64)> {
        let start = format!("{family}_bucket");
        let lines = self.0.lines().filter(|line| line.starts_with(&start));
        let read = |line: &str| {
            let (_, rest) = line.split_once("le=\"")?;
            let (bound, rest) = rest.split_once('"')?;
            let count = rest.rsplit(' ').next()?.parse().ok()?;
            Some((bound.parse().unwrap_or(f64::INFINITY), count))
        };
        lines.filter_map(read).collect()
    }
}

/// A quantile as Prometheus's `histogram_quantile` reads it from buckets: in proportion within one.
fn quantile(buckets: &[(f64, f64)], q: f64) -> f64 {
    let all = buckets.last().map_or(0.0, |(_, count)| *count);
    assert!(all > 0.0, "nothing was measured");
    let rank = q * all;
    let mut below = (0.0, 0.0);
    for &(bound, count) in buckets {
        if count >= rank {
            return below.0 + (bound - below.0) * (rank - below.1) / (count - below.1);
        }
        below = (bound, count);
    }
    f64::INFINITY
}

struct Usage {
    cpu: f64,
    /// Ended, and not yet waited for.
    over: bool,
}

impl Usage {
    fn of(pid: u32) -> Self {
        let stat = fs::read_to_string(format!("/proc/{pid}/stat")).expect("not yet waited for");
        let fields: Vec<&str> = stat
            .rsplit(')')
            .next()
            .unwrap_or_default()
            .split_whitespace()
            .collect();
        let ticks = |at: usize| fields[at].parse::<f64>().expect("a number");
        Self {
            cpu: (ticks(11) + ticks(12)) * TICK,
            over: fields[0] == "Z",
        }
    }
}

/// A line of `/proc/PID/status` in KiB; `None` when the process has ended.
fn memory_of(pid: u32, name: &str) -> Option<f64> {
    let status = fs::read_to_string(format!("/proc/{pid}/status")).ok()?;
    let line = status.lines().find_map(|line| line.strip_prefix(name))?;
    line.trim().trim_end_matches(" kB").parse().ok()
}

fn number_before(text: &str, marker: &str) -> f64 {
    let before = text.split(marker).next().unwrap_or_default();
    let word = before.split_whitespace().next_back().unwrap_or_default();
    word.parse()
        .unwrap_or_else(|_| panic!("no number before {marker:?} in {text}"))
}

fn free_port() -> u16 {
    let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
    listener.local_addr().expect("an address").port()
}

fn fetch(port: u16) -> String {
    let mut text = String::new();
    if let Ok(mut stream) = TcpStream::connect(("127.0.0.1", port)) {
        let _ =
            stream.write_all(b"GET /metrics HTTP/1.1\r\nHost: bench\r\nConnection: close\r\n\r\n");
        let _ = stream.read_to_string(&mut text);
    }
    text
}
