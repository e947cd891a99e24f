//! The control API, from the start of the process to its end.

mod support;

use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    thread::JoinHandle,
    time::{Duration, Instant},
};

use serde_json::{Value, json};
use support::{Finished, Folder, Launch, PATIENCE, Reply, Running, Target, free_port, request};

/// A probe gives up after a second, so every answer has to come within one.
const PROBE: Duration = Duration::from_secs(1);

/// What the operator's starter sends.
const START: &str =
    r#"{"data":{"attributes":{"paused":false,"stopped":false},"id":"default","type":"status"}}"#;
/// What its stopper sends.
const STOP: &str =
    r#"{"data":{"attributes":{"paused":false,"stopped":true},"id":"default","type":"status"}}"#;

/// An agent with its API.
struct Agent {
    process: Running,
    port: u16,
}

impl Agent {
    /// Starts `script.js` of the folder.
    fn start(folder: &Folder, arguments: &str) -> Self {
        let port = free_port();
        let process = Launch::volley(folder.path())
            .words(&format!("run -q script.js --address=127.0.0.1:{port}"))
            .words(arguments)
            .start();
        Self { process, port }
    }

    /// A request that may take as long as the script's function that it runs.
    #[track_caller]
    fn ask(&self, method: &str, path: &str, body: Option<&str>) -> Reply {
        request(self.port, method, path, body, PATIENCE)
            .unwrap_or_else(|e| panic!("{method} {path}: {e}\n{}", self.process.stderr()))
    }

    /// The status document, if it is there.
    fn status(&self) -> Option<Value> {
        let reply = request(self.port, "GET", "/v1/status", None, PROBE).ok()?;
        assert_eq!(reply.status, 200, "{}", reply.body);
        Some(reply.json()["data"]["attributes"].clone())
    }

    /// Waits for a status that fits; answers the first.
    #[track_caller]
    fn until_status(&mut self, what: &str, fits: impl Fn(&Value) -> bool) -> Value {
        let port = self.port;
        self.process.until(what, |_| {
            let reply = request(port, "GET", "/v1/status", None, PROBE).ok()?;
            let status = reply.json()["data"]["attributes"].clone();
            fits(&status).then_some(status)
        })
    }

    #[track_caller]
    fn patch(&self, body: &str) -> Reply {
        self.ask("PATCH", "/v1/status", Some(body))
    }
}

/// Asks for the status every 50 ms, from the start of a process to its end.
struct Poller {
    thread: JoinHandle<Polled>,
    over: Arc<AtomicBool>,
}

/// What a [`Poller`] has seen.
#[derive(Default)]
struct Polled {
    /// When each question was asked and when it was answered, with the answer.
    answers: Vec<(Instant, Instant, Value)>,
    /// When there was no answer after the first one, and why.
    failures: Vec<(Instant, String)>,
}

impl Poller {
    fn start(port: u16) -> Self {
        let over = Arc::new(AtomicBool::new(false));
        let stop = over.clone();
        let thread = std::thread::spawn(move || {
            let mut polled = Polled::default();
            while !stop.load(Ordering::Relaxed) {
                let asked = Instant::now();
                match request(port, "GET", "/v1/status", None, PROBE) {
                    Ok(reply) if reply.status == 200 => {
                        let status = reply.json()["data"]["attributes"].clone();
                        polled.answers.push((asked, Instant::now(), status));
                    }
                    // Until the first answer the process may not have come so far.
                    Err(_) if polled.answers.is_empty() => {}
                    Ok(reply) => polled.failures.push((asked, format!("{reply:?}"))),
                    Err(error) => polled.failures.push((asked, error.to_string())),
                }
                std::thread::sleep(Duration::from_millis(50));
            }
            polled
        });
        Self { thread, over }
    }

    fn finish(self) -> Polled {
        self.over.store(true, Ordering::Relaxed);
        self.thread.join().expect("a poller")
    }
}

impl Polled {
    /// Whether there was an answer of that status that was asked for and came between the two.
    fn between(&self, begin: Instant, end: Instant, status: u64) -> bool {
        self.answers.iter().any(|(asked, answered, answer)| {
            *asked >= begin && *answered <= end && answer["status"] == status
        })
    }
}

/// Keeps the processor busy at the top level, in the first init and in that of each VU.
const SLOW_INIT: &str = "const end = Date.now() + 1500;
    while (Date.now() < end) {}
    export const options = { vus: 2, iterations: 2 };
    export default function () {}";

#[test]
fn the_status_is_there_before_the_vus_are() {
    let folder = Folder::with("script.js", SLOW_INIT);
    let mut agent = Agent::start(&folder, "--paused");
    let first = agent.until_status("status", |_| true);
    let expected = json!({
        "status": 0, "paused": true, "vus": 0, "vus-max": 0,
        "stopped": false, "running": false, "tainted": false,
    });
    assert_eq!(first, expected, "the script is still being loaded");
    agent.until_status("VUs being made", |status| {
        status["status"] == 1 && status["vus-max"] == 0
    });
    let paused = agent.until_status("pause", |status| status["status"] == 4);
    assert_eq!(paused["vus-max"], 2);
    assert_eq!(paused["paused"], true);
    agent.patch(START);
    agent.process.finish().expect(0);
}

#[test]
fn a_resume_before_the_vus_are_ready_is_remembered() {
    let folder = Folder::with("script.js", SLOW_INIT);
    let mut agent = Agent::start(&folder, "--paused");
    let first = agent.until_status("status", |_| true);
    assert_eq!(
        (&first["status"], &first["paused"]),
        (&json!(0), &json!(true))
    );
    let reply = agent.patch(START);
    assert_eq!(reply.status, 200);
    let type_of_reply = reply.header("Content-Type");
    assert_eq!(type_of_reply, Some("application/json; charset=utf-8"));
    assert_eq!(reply.json()["data"]["attributes"]["paused"], false);
    // Nobody says it again.
    let finished = agent.process.finish().expect(0);
    assert_eq!(finished.summary("iterations"), 2.0);
}

#[test]
fn a_script_that_pauses_itself_can_be_resumed_before_it_is_read() {
    let script = SLOW_INIT.replace("vus: 2", "paused: true, vus: 2");
    let folder = Folder::with("script.js", &script);
    let mut agent = Agent::start(&folder, "");
    let first = agent.until_status("status", |_| true);
    assert_eq!(
        (&first["status"], &first["paused"]),
        (&json!(0), &json!(false))
    );
    agent.patch(START);
    agent.process.finish().expect(0);
}

#[test]
fn the_status_answers_at_every_moment() {
    let target = Target::start().expect("a target");
    let script = "import http from 'k6/http';
        import { check } from 'k6';
        export const options = { vus: 50, duration: '3s', thresholds: { http_reqs: ['count>0'] } };
        export default function () {
          const answer = http.get(`${__ENV.TARGET}/bytes/20000`);
          check(answer, { whole: (r) => r.body.length === 20000 });
        }
        export function handleSummary(data) {
          console.log('summary begins');
          const end = Date.now() + 2000;
          while (Date.now() < end) {}
          console.log('summary ends');
          return { stdout: `requests: ${data.metrics.http_reqs.values.count}\\n` };
        }";
    let (folder, metrics) = (Folder::with("script.js", script), free_port());
    let arguments = format!(
        "-e TARGET={} --out prometheus=linger=2s&port={metrics}",
        target.url()
    );
    let mut agent = Agent::start(&folder, &arguments);
    let poller = Poller::start(agent.port);
    agent.process.until_logged("summary begins");
    let summary_begins = Instant::now();
    agent.process.until_logged("summary ends");
    let summary_ends = Instant::now();
    agent.process.until_printed("requests: ");
    let printed = Instant::now();
    while !agent.process.has_ended() {
        std::thread::sleep(Duration::from_millis(5));
    }
    let ended = Instant::now();
    let polled = poller.finish();
    let finished = agent.process.finish().expect(0);

    // Only a process that is ending does not answer any more, and that is gone within its grace.
    let (_, last_answered, last) = polled.answers.last().expect("an answer");
    for (asked, error) in &polled.failures {
        assert!(asked > last_answered, "{error}, and then an answer");
        assert!(*asked + PROBE >= ended, "{error}, long before the end");
    }
    assert_eq!(last["running"], false);
    let under_load = polled
        .answers
        .iter()
        .filter(|(_, _, status)| status["status"] == 7 && status["vus"] == 50)
        .count();
    assert!(under_load > 3, "{under_load} answers under load");
    assert!(
        polled.between(summary_begins, summary_ends, 9),
        "during handleSummary"
    );
    assert!(polled.between(printed, ended, 9), "during the linger");
    assert_eq!(
        finished.stdout.trim(),
        format!("requests: {}", target.requests())
    );
}

#[test]
fn a_stop_ends_the_run_in_good_order() {
    let script = "import { sleep } from 'k6';
        export const options = { vus: 2, duration: '10m' };
        export default function () {
          if (__ITER === 1) console.log('second iteration');
          sleep(0.01);
        }
        export function teardown() { console.log('teardown'); }";
    let folder = Folder::with("script.js", script);
    let mut agent = Agent::start(&folder, "");
    agent.process.until_logged("second iteration");
    let reply = agent.patch(STOP);
    assert_eq!(reply.status, 200);
    assert_eq!(reply.json()["data"]["attributes"]["stopped"], true);
    let finished = agent.process.finish().expect(103);
    assert_eq!(finished.error().msg, "test run stopped from REST API");
    assert!(finished.stderr.contains("msg=teardown"));
    assert!(finished.summary("iterations") >= 1.0);
}

#[test]
fn a_stop_comes_through_before_the_start_too() {
    let script = "export function setup() { console.log('setup'); }
        export default function () {}
        export function teardown() { console.log('teardown'); }";
    let folder = Folder::with("script.js", script);
    let mut agent = Agent::start(&folder, "--paused");
    agent.until_status("pause", |status| status["status"] == 4);
    agent.patch(STOP);
    let finished = agent.process.finish().expect(103);
    assert_eq!(finished.error().msg, "test run stopped from REST API");
    assert_eq!(
        said(&finished),
        [] as [&str; 0],
        "neither setup nor teardown ran"
    );

    // Told so while the script is loaded, it stops as soon as that is done.
    folder.write("script.js", SLOW_INIT);
    let mut agent = Agent::start(&folder, "");
    agent.until_status("status", |status| status["status"] == 0);
    agent.patch(STOP);
    let finished = agent.process.finish().expect(103);
    assert_eq!(finished.error().msg, "test run stopped from REST API");
}

#[test]
fn pauses_and_new_numbers_of_vus_are_refused_while_it_runs() {
    let script = "import { sleep } from 'k6';
        export const options = { duration: '10m' };
        export default function () { sleep(0.01); }";
    let folder = Folder::with("script.js", script);
    let mut agent = Agent::start(&folder, "");
    agent.until_status("running", |status| status["status"] == 7);
    for (attributes, detail) in [
        (
            r#"{"paused":true}"#,
            "constant-vus executor 'default' doesn't support pause and resume operations after \
             its start",
        ),
        (
            r#"{"vus":5}"#,
            "live VU configuration updates are not supported",
        ),
    ] {
        let body =
            format!(r#"{{"data":{{"attributes":{attributes},"id":"default","type":"status"}}}}"#);
        let reply = agent.patch(&body);
        assert_eq!(reply.status, 500, "{}", reply.body);
        assert_eq!(reply.json()["errors"][0]["detail"], detail);
    }
    assert_eq!(agent.patch("{").status, 400);
    assert_eq!(agent.patch("{}").status, 200);
    agent.patch(STOP);
    agent.process.finish().expect(103);
}

#[test]
fn a_paused_run_that_cannot_start_says_so_and_waits_for_the_others() {
    let good = "export default function () {}";
    let in_vus = "if (__VU > 0) throw new Error('no luck'); export default function () {}";
    let taken = std::net::TcpListener::bind("127.0.0.1:0").expect("a port");
    let busy = format!(
        "--out prometheus=port={}",
        taken.local_addr().expect("it").port()
    );
    for (script, arguments, reason, code) in [
        (good, "--out nowhere", "nowhere", 255),
        (good, busy.as_str(), "in use", 255),
        (good, "--vus 0 --duration 1s", "must be more than 0", 104),
        ("throw new Error('no luck');", "", "no luck", 107),
        (in_vus, "", "no luck", 107),
    ] {
        for end in [START, STOP] {
            let folder = Folder::with("script.js", script);
            let mut agent = Agent::start(&folder, &format!("--paused {arguments}"));
            agent.process.until_logged("The run cannot start");
            // The probe that finds it later finds it too.
            std::thread::sleep(Duration::from_millis(100));
            let status = agent.status().expect("it answers");
            assert_eq!(status["paused"], true, "{arguments}");
            assert!(!agent.process.has_ended());
            agent.patch(end);
            let finished = agent.process.finish().expect(code);
            let errors = finished.stderr.matches("level=error").count();
            assert_eq!(errors, 1, "{}", finished.stderr);
            let error = format!("{:?}", finished.error());
            assert!(error.contains(reason), "{error}");
        }
        // Nobody waits for a run that is not paused, or has no address.
        let folder = Folder::with("script.js", script);
        let agent = Agent::start(&folder, arguments);
        agent.process.finish().expect(code);
        Launch::volley(folder.path())
            .words(&format!("run -q script.js --paused {arguments}"))
            .start()
            .finish()
            .expect(code);
    }
}

/// Runs a command against the agent at a port.
#[track_caller]
fn command(folder: &Folder, port: u16, words: &str, code: i32) -> Finished {
    Launch::volley(folder.path())
        .words(words)
        .words(&format!("--address=127.0.0.1:{port}"))
        .start()
        .finish()
        .expect(code)
}

#[test]
fn commands_steer_a_run_from_outside() {
    let script = "import { sleep } from 'k6';
        export const options = { scenarios: { remote: {
          executor: 'externally-controlled', vus: 1, maxVUs: 2, duration: 0 } } };
        export default function () { sleep(0.01); }";
    let folder = Folder::with("script.js", script);
    let mut agent = Agent::start(&folder, "");
    let port = agent.port;
    agent.until_status("running", |status| status["vus"] == 1);
    let finished = command(&folder, port, "scale -u 4 -m 5", 0);
    let lines: Vec<&str> = finished.stdout.lines().collect();
    assert!(lines[2].starts_with("vus: "), "{lines:?}");
    let others = [
        "status: 7",
        "paused: \"false\"",
        lines[2],
        "vus-max: \"5\"",
        "stopped: false",
        "running: true",
        "tainted: false",
    ];
    assert_eq!(lines, others);
    agent.until_status("more VUs", |status| status["vus"] == 4);
    let finished = command(&folder, port, "scale --vus 9", 255);
    assert_eq!(
        finished.error().msg,
        "Execution config error: the number of active VUs (9) must be less than or equal to the \
         number of maxVUs (5)"
    );
    let finished = command(&folder, port, "pause", 0);
    assert!(finished.stdout.contains("paused: \"true\"\nvus: \"0\"\n"));
    let finished = command(&folder, port, "pause", 255);
    assert_eq!(
        finished.error().msg,
        "Pause error: execution is already paused"
    );
    let iterations = |finished: &Finished| {
        let after = finished.stdout.split("- name: \"iterations\"").nth(1);
        let count = after.and_then(|text| text.split("count: ").nth(1));
        let count = count.and_then(|text| text.split_whitespace().next());
        count.map(str::to_owned)
    };
    // The samples of an iteration come within a moment of it, and none comes after that. On a
    // busy machine the first have not come yet, and the metric is not there.
    let mut before = iterations(&command(&folder, port, "stats", 0));
    agent.process.until("still figures", |_| {
        std::thread::sleep(Duration::from_millis(300));
        let now = iterations(&command(&folder, port, "stats", 0));
        let still = std::mem::replace(&mut before, now.clone()) == now;
        (still && now.is_some()).then_some(())
    });
    let finished = command(&folder, port, "resume", 0);
    assert!(finished.stdout.contains("paused: \"false\"\n"));
    agent.until_status("VUs again", |status| status["vus"] == 4);
    let finished = command(&folder, port, "resume", 255);
    assert_eq!(finished.error().msg, "Pause error: execution wasn't paused");
    agent.patch(STOP);
    agent.process.finish().expect(103);

    let nobody = Launch::volley(folder.path())
        .words(&format!("status --address=127.0.0.1:{}", free_port()))
        .start()
        .finish()
        .expect(255);
    assert!(nobody.error().msg.contains("no agent there"));
}

/// A script whose functions tell what data they get.
const DATA: &str = "
    export const options = { vus: 2, iterations: 2 };
    export function setup() { console.log('setup'); return { token: 'abc' }; }
    export default function (data) { console.log('data', JSON.stringify(data)); }
    export function teardown(data) { console.log('teardown', JSON.stringify(data)); }";

fn setup_document(attributes: Value) -> Value {
    json!({"data": {"type": "setupData", "id": "default", "attributes": attributes}})
}

/// Messages of `console.log`, in order of the alphabet.
fn said(finished: &Finished) -> Vec<String> {
    let mut said: Vec<String> = finished
        .logged("info")
        .into_iter()
        .map(|line| line.msg)
        .collect();
    said.sort();
    said
}

#[test]
fn setup_data_is_made_read_and_replaced() {
    let folder = Folder::with("script.js", DATA);
    let mut agent = Agent::start(&folder, "--paused --no-setup");
    agent.until_status("pause", |status| status["status"] == 4);
    let setup = |method, body| {
        let reply = agent.ask(method, "/v1/setup", body);
        assert_eq!(reply.status, 200, "{}", reply.body);
        reply.json()
    };
    assert_eq!(setup("GET", None), setup_document(json!({})));
    let made = setup_document(json!({"data": {"token": "abc"}}));
    assert_eq!(setup("POST", None), made);
    assert_eq!(setup("GET", None), made);
    let replaced = setup_document(json!({"data": {"x": [1, null, "ä"]}}));
    assert_eq!(setup("PUT", Some(r#"{"x":[1,null,"ä"]}"#)), replaced);
    assert_eq!(setup("GET", None), replaced);
    let refused = agent.ask("PUT", "/v1/setup", Some("{"));
    assert_eq!(refused.status, 400);
    assert_eq!(
        refused.json()["errors"][0]["title"],
        "Error parsing request body"
    );
    agent.patch(START);
    // What was stored reaches the VUs and teardown.
    let finished = agent.process.finish().expect(0);
    assert_eq!(
        said(&finished),
        [
            r#"data {"x":[1,null,"ä"]}"#,
            r#"data {"x":[1,null,"ä"]}"#,
            "setup",
            r#"teardown {"x":[1,null,"ä"]}"#,
        ]
    );
}

#[test]
fn a_regular_setup_replaces_what_was_stored() {
    let folder = Folder::with("script.js", DATA);
    let mut agent = Agent::start(&folder, "--paused --no-teardown");
    agent.until_status("pause", |status| status["status"] == 4);
    agent.ask("PUT", "/v1/setup", Some("17"));
    agent.patch(START);
    let finished = agent.process.finish().expect(0);
    assert_eq!(
        said(&finished),
        [
            r#"data {"token":"abc"}"#,
            r#"data {"token":"abc"}"#,
            "setup"
        ]
    );
}

#[test]
fn without_setup_and_teardown_neither_runs() {
    let folder = Folder::with("script.js", DATA);
    let finished = Launch::volley(folder.path())
        .words("run -q script.js --no-setup --no-teardown")
        .run()
        .expect(0);
    assert_eq!(said(&finished), ["data undefined", "data undefined"]);
}

#[test]
fn a_setup_that_fails_is_told_to_who_asked_for_it() {
    let script = "export function setup() { throw new Error('no token'); }
        export default function () {}
        export function teardown() { throw new Error('no way back'); }";
    let folder = Folder::with("script.js", script);
    let mut agent = Agent::start(&folder, "--paused --no-setup --no-teardown");
    agent.until_status("pause", |status| status["status"] == 4);
    for (path, title, detail) in [
        ("/v1/setup", "Error executing setup", "Error: no token"),
        (
            "/v1/teardown",
            "Error executing teardown",
            "Error: no way back",
        ),
    ] {
        let reply = agent.ask("POST", path, None);
        assert_eq!(reply.status, 500, "{}", reply.body);
        let error = reply.json()["errors"][0].clone();
        assert_eq!(error["title"], title);
        let text = error["detail"].as_str().expect("a text");
        assert!(text.starts_with(detail), "{text}");
    }
    // The run goes on.
    agent.patch(START);
    let finished = agent.process.finish().expect(0);
    let errors: Vec<String> = finished
        .logged("error")
        .into_iter()
        .map(|line| line.msg)
        .collect();
    assert_eq!(
        errors,
        ["Error executing setup", "Error executing teardown"]
    );
}

/// The operator's way through a run in a private load zone: setup once, its data everywhere,
/// teardown once after all runners are done, and then the pods are deleted.
#[test]
fn setup_and_teardown_of_several_runners_are_run_once() {
    let folder = Folder::with("script.js", DATA);
    let arguments = "--paused --no-setup --no-teardown --linger -e K6_CLOUDRUN_INSTANCE_ID=1";
    let segments = ["0:1/2", "1/2:1"].map(|segment| {
        format!("--execution-segment={segment} --execution-segment-sequence=0,1/2,1")
    });
    let mut agents =
        segments.map(|segment| Agent::start(&folder, &format!("{arguments} {segment}")));
    for agent in &mut agents {
        agent.until_status("pause", |status| status["status"] == 4);
    }
    let made = agents[0].ask("POST", "/v1/setup", None);
    assert_eq!(made.status, 200);
    let data = made.json()["data"]["attributes"]["data"].to_string();
    for agent in &agents {
        assert_eq!(agent.ask("PUT", "/v1/setup", Some(&data)).status, 200);
    }
    for agent in &agents {
        assert_eq!(agent.patch(START).status, 200);
    }
    for agent in &mut agents {
        let ended = agent.until_status("end", |status| {
            status["status"] == 9 && status["running"] == false
        });
        assert_eq!(
            (&ended["vus-max"], &ended["stopped"]),
            (&json!(1), &json!(false))
        );
        assert_eq!(agent.patch(START).status, 500, "resuming works once");
    }
    let torn_down = agents[0].ask("POST", "/v1/teardown", None);
    assert_eq!((torn_down.status, torn_down.body.as_str()), (200, ""));
    let expected: [&[&str]; 2] = [
        &[
            r#"data {"token":"abc"}"#,
            "setup",
            r#"teardown {"token":"abc"}"#,
        ],
        &[r#"data {"token":"abc"}"#],
    ];
    for (mut agent, expected) in agents.into_iter().zip(expected) {
        assert!(agent.status().is_some() && !agent.process.has_ended());
        agent.process.terminate();
        let finished = agent.process.finish().expect(0);
        assert_eq!(said(&finished), expected);
        assert_eq!(finished.summary("iterations"), 1.0);
    }
}

#[test]
fn after_an_abort_a_lingering_run_is_not_marked_ended() {
    let script = "import { sleep } from 'k6';
        export const options = { duration: '10m' };
        export default function () { sleep(0.01); }";
    let folder = Folder::with("script.js", script);
    let mut agent = Agent::start(&folder, "--linger");
    agent.until_status("running", |status| status["status"] == 7);
    agent.patch(STOP);
    let after = agent.until_status("end", |status| status["vus"] == 0);
    assert_eq!(
        (&after["status"], &after["running"], &after["stopped"]),
        (&json!(10), &json!(true), &json!(true))
    );
    agent.process.terminate();
    agent.process.finish().expect(103);
}
