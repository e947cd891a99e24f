//! The agent as k6-operator drives it, in each generation of the operator that asks for a `K6` or
//! a `TestRun`: initializer, runners, starter, and what Prometheus has of it afterwards.
//!
//! A folder stands for the mounted volume, `k6` on the path for the image, and free ports of this
//! machine for the 6565 of each pod. Otherwise the command lines are those of the pods.

mod support;

use std::{os::unix::fs::symlink, path::Path, time::Duration};

use serde_json::{Value, json};
use support::{
    Finished, Folder, Launch, LogLine, Nginx, Prometheus, Running, Target, free_port, request,
    until,
};

const RUNNERS: usize = 3;
const LIMIT: Duration = Duration::from_secs(5);

/// What changes from one operator to another.
struct Generation {
    /// The version.
    name: &'static str,
    /// The shell line of the initializer.
    initializer: fn(&Initializer<'_>) -> String,
    /// Whether the initializer lets the log be seen: where it does, every failure is told.
    tells: bool,
    /// The tag that names the run, for a runner.
    tag: fn(runner: usize) -> String,
    /// Puts the wrapper for a script of the image or a volume around the runner's command.
    local_file: fn(script: &str, command: &[String]) -> Vec<String>,
    /// What the starter sends.
    start: &'static str,
}

/// What an initializer is made of.
struct Initializer<'a> {
    /// The folder `/tmp` of its pod: each has its own.
    tmp: &'a str,
    script: &'a str,
    /// The name of the script's file.
    file: &'a str,
    /// The environment of the resource, as flags.
    env: &'a str,
    /// The arguments of the resource.
    arguments: &'a str,
}

/// With `--log-output=none` this one shows nothing of what is wrong but the exit code of the
/// shell; only what comes before there is a log, such as an unknown flag, is seen. The archive is
/// written into the working directory.
const V0_0_8: Generation = Generation {
    name: "v0.0.8",
    initializer: |init| {
        let Initializer {
            script,
            file,
            arguments,
            ..
        } = init;
        format!(
            "k6 archive --log-output=none {script} -O ./{file}.archived.tar {arguments} && \
             k6 inspect --execution-requirements --log-output=none ./{file}.archived.tar"
        )
    },
    tells: false,
    tag: |runner| format!("job_name=test-{runner}"),
    local_file: joined,
    start: r#"{"data":{"attributes":{"paused":false},"id":"default","type":"status"}}"#,
};

/// The exit codes of `k6` are lost here: the absence of `level=error` in the log is all.
const V0_0_18: Generation = Generation {
    name: "v0.0.18",
    initializer: |init| {
        let Initializer {
            tmp,
            script,
            file,
            arguments,
            ..
        } = init;
        format!(
            "mkdir -p $(dirname {tmp}/{file}.archived.tar) && k6 archive {script} -O \
             {tmp}/{file}.archived.tar {arguments} 2> {tmp}/k6logs && k6 inspect \
             --execution-requirements {tmp}/{file}.archived.tar 2> {tmp}/k6logs ; ! cat \
             {tmp}/k6logs | grep 'level=error'"
        )
    },
    tells: true,
    tag: |runner| format!("job_name=test-{runner}"),
    local_file: joined,
    start: START,
};

/// Exit codes and the log count both; the log of a command that failed is printed.
const V1_6: Generation = Generation {
    name: "v1.6",
    initializer: |init| {
        let Initializer {
            tmp,
            script,
            env,
            arguments,
            ..
        } = init;
        let archive = format!("{tmp}/{}.archived.tar", init.file);
        let checked =
            |command: &str| format!("{command} 2> {tmp}/k6logs || {{ cat {tmp}/k6logs; exit 1; }}");
        [
            "command -v k6 > /dev/null 2>&1 || exit 127".to_owned(),
            format!("mkdir -p \"$(dirname {archive})\" || exit 1"),
            checked(&format!(
                "k6 archive {script} {env} -O {archive} {arguments}"
            )),
            checked(&format!("k6 inspect --execution-requirements {archive}")),
            format!("if grep 'level.*error' {tmp}/k6logs; then exit 1; fi"),
        ]
        .join("\n")
    },
    tells: true,
    tag: |_| "testrun_name=test".to_owned(),
    local_file: |script, command| {
        let mut wrapped = words("sh -c");
        wrapped.push(
            "if [ ! -f \"$1\" ]; then echo \"LocalFile not found exiting...\"; exit 1; fi; \
             shift; exec \"$@\""
                .to_owned(),
        );
        wrapped.extend(["sh".to_owned(), script.to_owned()]);
        wrapped.extend_from_slice(command);
        wrapped
    },
    start: START,
};

/// The same with `.spec.arguments`, one text that a shell takes apart.
const V1_6_ARGUMENTS: Generation = Generation {
    name: "v1.6 with arguments",
    local_file: |script, command| {
        let inner = [words("sh -c"), vec![command.join(" ")]].concat();
        (V1_6.local_file)(script, &inner)
    },
    ..V1_6
};

const START: &str =
    r#"{"data":{"attributes":{"paused":false,"stopped":false},"id":"default","type":"status"}}"#;

/// The older wrapper: the whole command as one text for a shell, which stays its parent.
fn joined(script: &str, command: &[String]) -> Vec<String> {
    let check = format!(
        "if [ ! -f {script} ]; then echo \"LocalFile not found exiting...\"; exit 1; fi;\n"
    );
    [words("sh -c"), vec![check + &command.join(" ")]].concat()
}

fn words(text: &str) -> Vec<String> {
    text.split_whitespace().map(str::to_owned).collect()
}

/// A cluster as far as the agent can tell: a volume with scripts, and the program `k6`.
struct Cluster {
    volume: Folder,
    image: Folder,
}

impl Cluster {
    fn with(file: &str, script: &str) -> Self {
        let cluster = Self {
            volume: Folder::with(file, script),
            image: Folder::new(),
        };
        symlink(env!("CARGO_BIN_EXE_volley"), cluster.image.file("k6")).expect("a link");
        cluster
    }

    fn script(&self, file: &str) -> String {
        self.volume.file(file).display().to_string()
    }

    /// A container's process: an argument vector in a working directory of its own.
    fn container(&self, command: &[String], folder: &Path) -> Launch {
        let mut path = self.image.path().as_os_str().to_owned();
        path.push(":");
        path.push(std::env::var_os("PATH").unwrap_or_default());
        Launch::program(&command[0], folder)
            .env("PATH", path)
            .args(&command[1..])
    }
}

// === The initializer ===

/// An initializer that has run.
struct Initialized {
    pod: Finished,
    /// What the last of its commands has logged.
    log: Vec<LogLine>,
    folder: Folder,
}

/// Runs the initializer pod of a generation.
fn initialize(
    generation: &Generation,
    cluster: &Cluster,
    env: &str,
    arguments: &str,
) -> Initialized {
    let folder = Folder::new();
    folder.write("tmp/other", "");
    let line = (generation.initializer)(&Initializer {
        tmp: &folder.file("tmp").display().to_string(),
        script: &cluster.script("test.js"),
        file: "test.js",
        env,
        arguments,
    });
    let command = [words("sh -c"), vec![line]].concat();
    let pod = cluster.container(&command, folder.path()).run();
    let log = match std::fs::read_to_string(folder.file("tmp/k6logs")) {
        Ok(log) => log.lines().map(LogLine::parse).collect(),
        Err(_) => Vec::new(),
    };
    Initialized { pod, log, folder }
}

const EVERY: [&Generation; 3] = [&V0_0_8, &V0_0_18, &V1_6];

#[test]
fn the_initializer_prints_the_requirements_and_nothing_else() {
    let script = "import { users } from './lib/users.js';
        console.log('loading', users.length);
        export const options = {
          scenarios: { a: { executor: 'shared-iterations', vus: 4, iterations: 1000 } },
          thresholds: { http_req_failed: ['rate<0.01'] },
          unknown: 1,
        };
        export default function () {}";
    let cluster = Cluster::with("test.js", script);
    cluster.volume.write(
        "lib/users.js",
        "export const users = JSON.parse(open('../data/users.json'));",
    );
    cluster.volume.write("data/users.json", "[1, 2, 3]");
    for generation in EVERY {
        let name = generation.name;
        let arguments = "--tag team=a -e HOST=b";
        let ran = initialize(generation, &cluster, "", arguments);
        let pod = ran.pod.expect(0);
        // The operator reads the whole log of the pod as one document.
        assert_eq!(pod.stderr, "", "{name}");
        let requirements: Value = serde_json::from_str(&pod.stdout)
            .unwrap_or_else(|e| panic!("{name}: {e}: {}", pod.account()));
        assert_eq!(requirements["maxVUs"], 4, "{name}");
        assert_eq!(requirements["totalDuration"], "10m30s", "{name}");
        assert_eq!(requirements["tags"], json!({"team": "a"}), "{name}");
        let thresholds = json!({"http_req_failed": ["rate<0.01"]});
        assert_eq!(requirements["thresholds"], thresholds, "{name}");
        // Warnings and the script's own lines do not count as errors.
        if generation.tells {
            let levels: Vec<&str> = ran.log.iter().map(|line| line.level.as_str()).collect();
            assert!(levels.contains(&"info"), "{name}: {levels:?}");
        }
    }
}

#[test]
fn the_archive_of_the_initializer_can_be_run_without_the_volume() {
    let script = "const users = JSON.parse(open('./users.json'));
        export const options = { iterations: users.length };
        export default function () { console.log(`${__ENV.HOST} ${__ENV.PLACE}`); }";
    for generation in [&V0_0_18, &V1_6] {
        let cluster = Cluster::with("test.js", script);
        cluster.volume.write("users.json", "[1, 2]");
        // The newest hands over the environment of the resource by name.
        let env = "-e PLACE=\"$HOME\"";
        let ran = initialize(generation, &cluster, env, "-e HOST=b");
        ran.pod.expect(0);
        let folder = ran.folder;
        drop(cluster);
        let finished = Launch::volley(&folder.file("tmp"))
            .words("run -q test.js.archived.tar --include-system-env-vars=false")
            .run()
            .expect(0);
        let place = match generation.name {
            "v1.6" => folder.path().display().to_string(),
            _ => "undefined".to_owned(),
        };
        let expected = format!("b {place}");
        let said: Vec<String> = finished.log().into_iter().map(|line| line.msg).collect();
        assert_eq!(said, [expected.clone(), expected]);
    }
}

/// What can be wrong with a script or its resource: the script, the arguments, the exit code of
/// `k6 archive`, and words of its line.
const BAD: &[(&str, Option<&str>, &str, i32, &str)] = &[
    ("no file", None, "", 255, "couldn't be found on local disk"),
    (
        "syntax",
        Some("export default function ( {}"),
        "",
        107,
        "test.js: Line 1:",
    ),
    (
        "exception",
        Some("throw new Error('no config'); export default function () {}"),
        "",
        107,
        "Error: no config\n\tat ",
    ),
    (
        "unknown flag",
        Some("export default function () {}"),
        "--vuss 3",
        255,
        "unknown flag: --vuss; did you mean --vus?",
    ),
    (
        "unknown module",
        Some("import x from 'k6/x/nope'; export default function () {}"),
        "",
        107,
        "unknown modules [\"k6/x/nope\"]",
    ),
    (
        "options",
        Some("export const options = { duration: 'long' }; export default function () {}"),
        "",
        104,
        "time: invalid duration \"long\"",
    ),
    (
        "scenario",
        Some(
            "export const options = { scenarios: { a: { executor: 'constant-vus', vus: 1 } } };
            export default function () {}",
        ),
        "",
        104,
        "scenario a has configuration errors: the duration is unspecified",
    ),
    (
        "no exports",
        Some("const notExported = () => {};"),
        "",
        255,
        "no exported functions in script",
    ),
    (
        "threshold",
        Some(
            "export const options = { thresholds: { http_reqs: ['cuont>1'] } };
            export default function () {}",
        ),
        "",
        104,
        "failed parsing threshold expression",
    ),
];

#[test]
fn the_initializer_fails_for_everything_that_is_wrong() {
    for (what, script, arguments, code, words) in BAD {
        let cluster = Cluster::with("other.js", "");
        if let Some(script) = script {
            cluster.volume.write("test.js", script);
        }
        for generation in EVERY {
            let case = format!("{what}, {}", generation.name);
            let ran = initialize(generation, &cluster, "", arguments);
            if !generation.tells {
                let pod = ran.pod.expect(*code);
                assert_eq!(pod.stdout, "", "{case}");
                if arguments.is_empty() {
                    assert_eq!(pod.stderr, "", "{case}");
                } else {
                    assert!(pod.error().msg.contains(words), "{case}");
                }
                continue;
            }
            let pod = ran.pod.expect(1);
            // It is the log of `archive`: `inspect` did not run.
            assert_eq!(ran.log.len(), 1, "{case}: {:?}", ran.log);
            assert_eq!(ran.log[0].level, "error", "{case}");
            assert!(ran.log[0].msg.contains(words), "{case}: {:?}", ran.log);
            // And the line, with nothing beside it, is what the user finds in the pod.
            let printed: Vec<LogLine> = pod.stdout.lines().map(LogLine::parse).collect();
            assert_eq!(printed, ran.log, "{case}");
        }
    }
}

// === Runners ===

/// The pod of one runner.
struct Runner {
    process: Running,
    /// Its working directory, where files that the arguments name end up.
    folder: Folder,
    api: u16,
    metrics: u16,
}

impl Cluster {
    /// Starts all runners, as the operator would with these arguments in the resource. In each,
    /// `PORT` stands for a port of its own for metrics.
    fn runners(&self, generation: &Generation, file: &str, arguments: &str) -> Vec<Runner> {
        let sequence: Vec<String> = (0..=RUNNERS).map(bound).collect();
        let start = |number: usize| {
            let (folder, api, metrics) = (Folder::new(), free_port(), free_port());
            let segment = format!("{}:{}", bound(number - 1), bound(number));
            let mut command = words("k6 run --quiet");
            command.push(format!("--execution-segment={segment}"));
            command.push(format!(
                "--execution-segment-sequence={}",
                sequence.join(",")
            ));
            command.extend(words(&arguments.replace("PORT", &metrics.to_string())));
            command.push(self.script(file));
            command.push(format!("--address=127.0.0.1:{api}"));
            command.extend(words(&format!("--paused --tag instance_id={number} --tag")));
            command.push((generation.tag)(number));
            let command = (generation.local_file)(&self.script(file), &command);
            Runner {
                process: self.container(&command, folder.path()).start(),
                folder,
                api,
                metrics,
            }
        };
        (1..=RUNNERS).map(start).collect()
    }
}

/// A bound of segments as the operator writes it: not reduced.
fn bound(number: usize) -> String {
    match number {
        0 => "0".to_owned(),
        RUNNERS => "1".to_owned(),
        _ => format!("{number}/{RUNNERS}"),
    }
}

impl Runner {
    /// The controller's question whether it is ready, and that of the probes.
    #[track_caller]
    fn until_ready(&mut self) {
        let api = self.api;
        self.process.until("readiness", |_| {
            let reply = request(api, "GET", "/v1/status", None, LIMIT).ok()?;
            (reply.status < 400).then_some(())
        });
    }

    /// What the starter does, which does not look at the answer.
    #[track_caller]
    fn start(&self, generation: &Generation) {
        let body = Some(generation.start);
        request(self.api, "PATCH", "/v1/status", body, LIMIT).expect("an answer");
    }

    /// A count of the exported summary.
    #[track_caller]
    fn exported(&self, metric: &str) -> Value {
        self.folder.json("summary.json")["metrics"][metric]["count"].clone()
    }
}

/// A thousand iterations with a request each, over all runners.
const SHARED: &str = "import http from 'k6/http';
import { check } from 'k6';
export const options = {
  scenarios: { all: { executor: 'shared-iterations', vus: 9, iterations: 1000 } },
  thresholds: { checks: ['rate==1'] },
};
export default function () {
  check(http.get(`${__ENV.TARGET}/`), { hello: (r) => r.body === 'hello' });
}";

/// The whole way of a test run: everything that is counted anywhere is the same number.
fn a_test_run_adds_up(generation: &Generation, out: &str) {
    let Some(nginx) = Nginx::start() else { return };
    let cluster = Cluster::with("script.js", SHARED);
    let target = format!("TARGET=http://127.0.0.1:{}", nginx.port);
    let arguments = format!("--out {out} --summary-export=summary.json -e {target}");
    let mut runners = cluster.runners(generation, "script.js", &arguments);
    let scraped: Vec<u16> = runners.iter().map(|runner| runner.metrics).collect();
    let Some(prometheus) = Prometheus::start(&scraped) else {
        return;
    };
    for runner in &mut runners {
        runner.until_ready();
    }
    prometheus.until("sum(up)", RUNNERS as f64);
    assert_eq!(nginx.requests(), 0, "all of them wait for the starter");

    for runner in &runners {
        runner.start(generation);
    }
    let shares: [u64; RUNNERS] = [334, 333, 333];
    let mut sum = 0;
    for (mut runner, share) in runners.into_iter().zip(shares) {
        until("end of a runner", || {
            runner.process.has_ended().then_some(())
        });
        assert_eq!(runner.exported("iterations"), share);
        assert_eq!(runner.exported("http_reqs"), share);
        sum += share;
        let finished = runner.process.finish().expect(0);
        assert_eq!(finished.stderr, "");
        let finished = finished.prints("✓ 'rate==1' rate=100.00%");
        assert_eq!(finished.summary("http_reqs"), share as f64);
    }
    until("requests in nginx's log", || {
        (nginx.requests() as u64 >= sum).then_some(())
    });
    assert_eq!(nginx.requests() as u64, sum);
    // It has taken the last values before each of the runners ended.
    let all = "sum(last_over_time(k6_http_reqs[5m]))";
    prometheus.until(all, sum as f64);
    for (index, share) in shares.into_iter().enumerate() {
        let (number, tag) = (index + 1, (generation.tag)(index + 1));
        let (name, value) = tag.split_once('=').expect("a tag");
        prometheus.until(
            &format!(
                "sum(last_over_time(k6_http_reqs{{instance_id=\"{number}\",{name}=\"{value}\",\
                 status=\"200\"}}[5m]))"
            ),
            share as f64,
        );
    }
    prometheus.until("sum(last_over_time(k6_iterations[5m]))", sum as f64);
}

/// For a shell the ampersand has to be quoted, as in a resource of these generations.
const QUOTED: &str = "'prometheus=namespace=k6&port=PORT'";
const PLAIN: &str = "prometheus=namespace=k6&port=PORT";

#[test]
fn a_k6_resource_of_2022_adds_up() {
    a_test_run_adds_up(&V0_0_8, QUOTED);
}

#[test]
fn a_k6_resource_of_2024_adds_up() {
    a_test_run_adds_up(&V0_0_18, QUOTED);
}

#[test]
fn a_test_run_of_2026_adds_up() {
    a_test_run_adds_up(&V1_6, PLAIN);
}

#[test]
fn a_test_run_of_2026_with_arguments_adds_up() {
    a_test_run_adds_up(&V1_6_ARGUMENTS, QUOTED);
}

#[test]
fn a_failing_threshold_fails_every_runner() {
    // What it asks here does not say what it checks for.
    for generation in [&V0_0_8, &V0_0_18, &V1_6, &V1_6_ARGUMENTS] {
        let target = Target::start().expect("a target");
        let cluster = Cluster::with("script.js", SHARED);
        let arguments = format!("-e TARGET={}", target.url());
        let mut runners = cluster.runners(generation, "script.js", &arguments);
        runners.iter_mut().for_each(Runner::until_ready);
        for runner in &runners {
            runner.start(generation);
        }
        for runner in runners {
            let finished = runner.process.finish().expect(99);
            let text = "thresholds on metrics 'checks' have been crossed";
            assert_eq!(finished.error().msg, text, "{}", generation.name);
        }
        assert_eq!(target.requests(), 1000);
    }
}

#[test]
fn a_missing_local_file_fails_the_runner() {
    for generation in [&V0_0_8, &V0_0_18, &V1_6, &V1_6_ARGUMENTS] {
        let cluster = Cluster::with("other.js", "");
        for runner in cluster.runners(generation, "script.js", "") {
            let finished = runner.process.finish().expect(1);
            assert_eq!(finished.stdout, "LocalFile not found exiting...\n");
        }
    }
}

/// A runner that cannot open its output says so before the start: the initializer never sees it.
/// It ends when it is started, for the starter waits until all runners are there.
#[test]
fn a_bad_output_shows_in_the_runner_alone() {
    let cluster = Cluster::with("script.js", "export default function () {}");
    for generation in [&V0_0_8, &V0_0_18, &V1_6, &V1_6_ARGUMENTS] {
        let mut runners = cluster.runners(generation, "script.js", "--out nope");
        for runner in &mut runners {
            runner.until_ready();
            runner.process.until_logged("invalid output type");
            assert!(!runner.process.has_ended());
        }
        for runner in runners {
            runner.start(generation);
            let finished = runner.process.finish().expect(255);
            assert_eq!(
                finished.error().msg,
                "invalid output type 'nope', available types are: csv, \
             experimental-opentelemetry, experimental-prometheus-rw, influxdb, json, \
             opentelemetry, prometheus"
            );
        }
    }
}
