//! The container image, as a person, a kubelet and each generation of the k6-operator use it.

#[path = "support/podman.rs"]
mod podman;

use std::{
    fmt::Write as _,
    fs,
    io::Write as _,
    net::Ipv4Addr,
    process::Output,
    thread,
    time::{Duration, Instant},
};

use podman::{
    Cases, Container, HUNG, Image, Running, SCRIPT, both, done, free_port, http, podman, run,
    somebody, spawn, text,
};
use serde_json::Value;

/// As many VUs as the fleet below has runners, so that each runner has one.
const SHORT: &str = "
export const options = { vus: 18, iterations: 36 };
export default function () {}
";
/// It does not end by itself while a test looks.
const LONG: &str = "
import { sleep } from 'k6';
export const options = { vus: 18, duration: '30m' };
export default function () { sleep(0.05); }
";
const BROKEN: &str = "import { nothing } from './missing.js'; export default nothing;";

const CASES: &Cases = &[
    ("says what it is, and is nobody in particular", declares),
    ("has the tools that the initializers call", has_tools),
    ("carries certificates and no package caches", carries),
    ("runs a mounted script with nothing but /tmp to write", runs),
    ("runs a script from standard input", runs_from_stdin),
    ("serves /metrics to other containers", serves_metrics),
    ("archives and inspects for every operator", initializes),
    ("refuses a broken script for every operator", refuses),
    ("ends in good order under every operator", stops),
    (
        "is stopped by every operator's stopper",
        is_stopped_over_rest,
    ),
    ("says that a local file is missing", misses_local_file),
    ("tells its size and its start", tells_figures),
];

/// One generation of the operator: its command lines, word for word, for the spec of
/// examples/kubernetes with a `localFile`.
struct Generation {
    name: &'static str,
    initializer: fn() -> Vec<String>,
    /// The archive is written into the working directory, and not below /tmp.
    writes_workdir: bool,
    /// Log lines are hidden, so that only the exit code tells of an error.
    hides_log: bool,
    runner: fn() -> Vec<String>,
    start: &'static str,
}

const GENERATIONS: &[Generation] = &[
    Generation {
        name: "v0.0.8",
        initializer: || {
            sh(&[format!(
                "k6 archive --log-output=none {SCRIPT} -O ./test.js.archived.tar  \
                 && k6 inspect --execution-requirements --log-output=none ./test.js.archived.tar"
            )])
        },
        writes_workdir: true,
        hides_log: true,
        runner: || old_local_file("job_name=t-1"),
        start: r#"{"data":{"attributes":{"paused":false},"id":"default","type":"status"}}"#,
    },
    Generation {
        name: "v0.0.18",
        initializer: || {
            let archive = "/tmp/test.js.archived.tar";
            sh(&[format!(
                "mkdir -p $(dirname {archive}) && k6 archive {SCRIPT} -O {archive}  2> /tmp/k6logs \
                 && k6 inspect --execution-requirements {archive} 2> /tmp/k6logs \
                 ; ! cat /tmp/k6logs | grep 'level=error'"
            )])
        },
        writes_workdir: false,
        hides_log: false,
        runner: || old_local_file("job_name=t-1"),
        start: START,
    },
    Generation {
        name: "v1.6 with .spec.arguments",
        initializer: || {
            let archive = "/tmp/test.js.archived.tar";
            let command = format!("k6 archive {SCRIPT} -O {archive} ");
            sh(&[new_initializer("", archive, &command)])
        },
        writes_workdir: false,
        hides_log: false,
        runner: || {
            let joined = run_command("testrun_name=t").join(" ");
            new_local_file(sh(&[joined]))
        },
        start: START,
    },
    Generation {
        name: "v1.6 with .spec.args",
        initializer: || {
            let archive = "/tmp/test.js.archived.tar";
            let script = new_initializer("archive=\"$1\"\nshift\n", "\"${archive}\"", "\"$@\"");
            let words = [
                &script, "sh", archive, "k6", "archive", SCRIPT, "-O", archive,
            ];
            sh(&words.map(str::to_owned))
        },
        writes_workdir: false,
        hides_log: false,
        runner: || new_local_file(run_command("testrun_name=t")),
        start: START,
    },
];

const START: &str =
    r#"{"data":{"attributes":{"paused":false,"stopped":false},"id":"default","type":"status"}}"#;

fn sh(rest: &[String]) -> Vec<String> {
    let head = ["sh", "-c"].map(str::to_owned);
    head.into_iter().chain(rest.iter().cloned()).collect()
}

/// `k6 run` of the first of 18 runners, paused.
fn run_command(name_tag: &str) -> Vec<String> {
    let mut sequence = String::from("0");
    for i in 1..18 {
        write!(sequence, ",{i}/18").expect("a string takes it");
    }
    let line = format!(
        "k6 run --quiet --execution-segment=0:1/18 --execution-segment-sequence={sequence},1 \
         --out prometheus=namespace=k6 {SCRIPT} --address=0.0.0.0:6565 --paused \
         --tag instance_id=1 --tag {name_tag}"
    );
    line.split(' ').map(str::to_owned).collect()
}

fn old_local_file(name_tag: &str) -> Vec<String> {
    let joined = run_command(name_tag).join(" ");
    sh(&[format!(
        "if [ ! -f {SCRIPT} ]; then echo \"LocalFile not found exiting...\"; exit 1; fi;\n{joined}"
    )])
}

fn new_local_file(command: Vec<String>) -> Vec<String> {
    let check = "if [ ! -f \"$1\" ]; then\n  echo \"LocalFile not found exiting...\"\n  exit 1\n\
                 fi\nshift\nexec \"$@\"";
    let mut words = sh(&[check, "sh", SCRIPT].map(str::to_owned));
    words.extend(command);
    words
}

fn new_initializer(setup: &str, archive: &str, command: &str) -> String {
    format!(
        "if ! command -v k6 >/dev/null 2>&1; then
  echo 'level=error msg=\"k6 executable not found in PATH; initializer image must contain k6\"' >&2
  exit 127
fi

logs=/tmp/k6logs
{setup}
if ! mkdir -p \"$(dirname {archive})\"; then
  exit 1
fi

if ! {command} 2> \"${{logs}}\"; then
  cat \"${{logs}}\"
  exit 1
fi

if ! k6 inspect --execution-requirements {archive} 2> \"${{logs}}\"; then
  cat \"${{logs}}\"
  exit 1
fi

if grep 'level.*error' \"${{logs}}\"; then
  exit 1
fi"
    )
}

#[test]
fn image() {
    run(CASES);
}

// === the cases ===

fn declares(image: &Image) {
    let output = done(podman(HUNG).args(["image", "inspect", &image.tag]));
    let facts: Value = serde_json::from_slice(&output.stdout).expect("JSON");
    let config = &facts[0]["Config"];
    assert_eq!(config["Entrypoint"], serde_json::json!(["k6"]));
    assert_eq!(config["User"], "12345");
    assert_eq!(config["WorkingDir"], "/home/k6");
    let label = |name: &str| config["Labels"][format!("org.opencontainers.image.{name}")].clone();
    assert_eq!(label("title"), "volley");
    assert_eq!(label("licenses"), "Apache-2.0");
    assert_eq!(label("version"), "of-a-test");
    for name in ["description", "source"] {
        assert!(label(name).is_string(), "no label {name}");
    }

    let k6 = image.container().command(&["k6", "version"]).done();
    let volley = image.container().command(&["volley", "version"]).done();
    assert!(text(&k6.stdout).starts_with("k6 v"), "{}", both(&k6));
    assert_eq!(k6.stdout, volley.stdout);
}

fn has_tools(image: &Image) {
    let tools = "k6 volley sh command mkdir dirname cat grep awk date mv rm seq";
    let line = format!("for tool in {tools}; do command -v $tool || exit 1; done");
    image.container().command(&["sh", "-c", &line]).done();
    // An update of dash in an image built on this one must leave sh alone.
    let ask = ["dpkg-divert", "--listpackage", "/bin/sh"];
    let owner = image.container().command(&ask).done();
    assert_eq!(text(&owner.stdout).trim(), "LOCAL");
}

fn carries(image: &Image) {
    let bundle = "/etc/ssl/certs/ca-certificates.crt";
    image.container().command(&["test", "-s", bundle]).done();
    let line = "ls /var/lib/apt/lists; find /var/cache/apt -name '*.deb' -o -name '*.bin'";
    let root = image.container().option("--user=0");
    let caches = root.command(&["sh", "-c", line]).done();
    assert_eq!(text(&caches.stdout), "");
}

fn runs(image: &Image) {
    let container = image.container().unprivileged().read_only();
    let output = container.script(SHORT).arguments(&["run", SCRIPT]).done();
    assert_summary(&output);
}

fn runs_from_stdin(image: &Image) {
    let container = image.container().unprivileged().read_only();
    let mut container = container.option("--interactive").arguments(&["run", "-"]);
    let mut child = spawn(&mut container.podman);
    let mut stdin = child.stdin.take().expect("piped");
    stdin.write_all(SHORT.as_bytes()).expect("it reads");
    drop(stdin);
    let output = child.wait_with_output().expect("it ends");
    assert_eq!(output.status.code(), Some(0), "{}", both(&output));
    assert_summary(&output);
}

fn serves_metrics(image: &Image) {
    let container = image.container().unprivileged().read_only();
    let line = ["run", "--quiet", "--out", "prometheus=namespace=k6", SCRIPT];
    let mut run = container.script(LONG).arguments(&line).start();
    run.until_iteration();
    // The image has no HTTP client, but its bash can open a connection.
    let get = "exec 3<>/dev/tcp/$0/5656; printf 'GET /metrics HTTP/1.0\\r\\n\\r\\n' >&3; cat <&3";
    let address = run.address.to_string();
    let page = image
        .container()
        .command(&["bash", "-c", get, &address])
        .done();
    assert!(
        text(&page.stdout).contains("\nk6_iterations{"),
        "{}",
        both(&page)
    );
    assert_stopped(&run.stop());
}

/// Root without its capabilities, the image's own user, and one that nobody knows.
fn users() -> [u32; 3] {
    [0, 12345, somebody()]
}

/// The initializer's pod of a generation, as a user.
fn initializer<'a>(
    image: &'a Image,
    generation: &Generation,
    user: u32,
    script: &str,
) -> Container<'a> {
    let mut container = image.container().unprivileged_as(user);
    if !generation.writes_workdir {
        container = container.read_only();
    }
    container
        .script(script)
        .command(&(generation.initializer)())
}

fn initializes(image: &Image) {
    for generation in GENERATIONS {
        for user in users() {
            println!("{} as {user}", generation.name);
            let output = initializer(image, generation, user, SHORT).done();
            let json: Value = serde_json::from_slice(&output.stdout)
                .unwrap_or_else(|error| panic!("{error}: {}", both(&output)));
            assert_eq!(json["maxVUs"], 18, "{json}");
            assert_eq!(json["totalDuration"], "10m30s", "{json}");
        }
    }
}

fn refuses(image: &Image) {
    for generation in GENERATIONS {
        println!("{}", generation.name);
        let output = initializer(image, generation, somebody(), BROKEN).output();
        let code = output.status.code();
        assert!(code.is_some_and(|code| code != 0), "{}", both(&output));
        let shown = text(&output.stdout).contains("level=error");
        assert_eq!(shown, !generation.hides_log, "{}", both(&output));
    }
}

/// A runner of a generation that the starter has started.
fn started(image: &Image, generation: &Generation, user: u32) -> Running {
    let container = image.container().unprivileged_as(user).read_only();
    let container = container.script(LONG).command(&(generation.runner)());
    let mut run = container.start();
    run.until_ready();
    let answer = http(run.address, 6565, "PATCH", "/v1/status", generation.start);
    answer.expect("an answer to the starter");
    run.until_iteration();
    run
}

fn stops(image: &Image) {
    for generation in GENERATIONS {
        for user in users() {
            println!("{} as {user}", generation.name);
            assert_stopped(&started(image, generation, user).stop());
        }
    }
}

/// What the stopper sends.
const STOP: &str =
    r#"{"data":{"attributes":{"paused":false,"stopped":true},"id":"default","type":"status"}}"#;

fn is_stopped_over_rest(image: &Image) {
    for generation in GENERATIONS {
        println!("{}", generation.name);
        let mut run = started(image, generation, somebody());
        let answer = http(run.address, 6565, "PATCH", "/v1/status", STOP);
        answer.expect("an answer to the stopper");
        let output = run.finish();
        assert_eq!(output.status.code(), Some(103), "{}", both(&output));
        assert_summary(&output);
    }
}

/// Tells sizes, and how long an agent takes to answer with half a processor. Only that it answers
/// is checked: the times are those of this machine.
fn tells_figures(image: &Image) {
    let size = |name: &str| -> f64 {
        let inspect = ["image", "inspect", "--format", "{{.Size}}", name];
        let told = done(podman(HUNG).args(inspect));
        text(&told.stdout).trim().parse::<f64>().expect("a number") / 1e6
    };
    let ask = ["stat", "-c", "%s", "/usr/bin/volley"];
    let binary = text(&image.container().command(&ask).done().stdout);
    let binary: f64 = binary.trim().parse().expect("a number");
    let (whole, base) = (size(&image.tag), size(&image.base));
    println!(
        "image {whole:.1} MB, of which the base is {base:.1} MB; binary {:.1} MB",
        binary / 1e6
    );
    let mut times = Vec::new();
    for _ in 0..5 {
        let began = Instant::now();
        let port = free_port();
        let address = format!("--address=127.0.0.1:{port}");
        let line = ["run", "--quiet", "--paused", &address, SCRIPT];
        // In the network of the machine: an address that is known before it starts.
        let container = image.container_in("host").unprivileged().read_only();
        let container = container.script(SHORT).option("--cpus=0.5");
        let name = container.name.clone();
        let mut container = container.arguments(&line);
        let mut child = spawn(&mut container.podman);
        let loopback = Ipv4Addr::LOCALHOST.into();
        let end = Instant::now() + Duration::from_secs(60);
        while http(loopback, port, "GET", "/v1/status", "").is_none() {
            let over = child.try_wait().expect("a child").is_some();
            assert!(!over && Instant::now() < end, "it does not answer");
            thread::sleep(Duration::from_millis(1));
        }
        let (with_podman, answered) = (began.elapsed().as_millis(), uptime());
        let told = done(podman(HUNG).args(["inspect", "--format", "{{.State.Pid}}", &name]));
        let started = started_at(text(&told.stdout).trim());
        let alone = ((answered - started) * 1000.0).round() as u64;
        times.push((alone, with_podman));
        done(podman(HUNG).args(["stop", "--time=60", &name]));
        child.wait_with_output().expect("it ends");
    }
    times.sort_unstable();
    println!(
        "start of the first process to /v1/status with half a processor, in ms (in steps of ten), \
         and the same from the start of podman: {times:?}"
    );
}

/// Seconds since the machine was started.
fn uptime() -> f64 {
    let told = fs::read_to_string("/proc/uptime").expect("a number");
    let first = told.split(' ').next().expect("a number");
    first.parse().expect("a number")
}

/// The same for the start of a process; runc is in it for the first few milliseconds.
fn started_at(pid: &str) -> f64 {
    /// Of a second, whatever the kernel counts in by itself.
    const TICKS: f64 = 100.0;
    let told = fs::read_to_string(format!("/proc/{pid}/stat")).expect("a process");
    // The name before it may hold blanks.
    let (_, rest) = told.rsplit_once(") ").expect("a name");
    let ticks = rest.split(' ').nth(19).expect("a field");
    ticks.parse::<f64>().expect("a number") / TICKS
}

fn misses_local_file(image: &Image) {
    for generation in GENERATIONS {
        println!("{}", generation.name);
        let container = image.container().unprivileged().read_only();
        let output = container.command(&(generation.runner)()).output();
        assert_eq!(output.status.code(), Some(1), "{}", both(&output));
        assert_eq!(text(&output.stdout), "LocalFile not found exiting...\n");
    }
}

fn assert_summary(output: &Output) {
    let stdout = text(&output.stdout);
    assert!(stdout.contains("iteration_duration"), "{}", both(output));
}

/// The agent was told to stop, told its results, and its exit code is that of the container.
fn assert_stopped(output: &Output) {
    assert_eq!(output.status.code(), Some(105), "{}", both(output));
    assert_summary(output);
    let reason = "test run was aborted because k6 received a 'terminated' signal";
    assert!(text(&output.stderr).contains(reason), "{}", both(output));
}
