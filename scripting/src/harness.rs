//! Tests of one VU: run a script, look at its log, its errors and its heap.

use std::{
    collections::BTreeMap,
    future::Future,
    rc::Rc,
    sync::{Arc, Mutex},
    time::Duration,
};

use volley_metrics::{Registry, TagTable};

use crate::{
    Activation, Exports, Files, Host, InstanceInfo, IterationEnd, Level, Lifecycle, Scenario,
    Script, ScriptError, ScriptSource, SecretAnswer, SummaryResult, Vu, VuSettings, WorkerContext,
};

mod api;
mod modules;
pub(crate) mod sockets;

/// A host that remembers.
#[derive(Default)]
struct Notes {
    lines: Mutex<Vec<String>>,
    aborts: Mutex<Vec<String>>,
}

impl Host for Notes {
    fn log(&self, level: Level, message: &str, _fields: &[(&str, &str)]) {
        let prefix = if level == Level::Info {
            String::new()
        } else {
            format!("{level:?}: ")
        };
        self.lines
            .lock()
            .unwrap()
            .push(format!("{prefix}{message}"));
    }

    fn abort(&self, text: String) {
        self.aborts.lock().unwrap().push(text);
    }

    fn mark_failed(&self) {}

    fn instance(&self) -> InstanceInfo {
        InstanceInfo::default()
    }

    fn options(&self) -> Option<Arc<str>> {
        Some("{\"scenarios\":{},\"vus\":null}".into())
    }

    /// Takes a moment, and knows one secret of each source; for one it takes for ever.
    fn secret(&self, source: Option<&str>, key: &str) -> SecretAnswer {
        if key == "never" {
            return Box::pin(std::future::pending());
        }
        let answer = match (source, key) {
            (Some("absent"), _) => Err("no such source".to_owned()),
            (source, "known") => Ok(format!("{}'s secret", source.unwrap_or("nobody"))),
            _ => Err("no value".to_owned()),
        };
        Box::pin(async {
            tokio::time::sleep(Duration::from_millis(2)).await;
            answer
        })
    }
}

struct FakeScenario;

impl Scenario for FakeScenario {
    fn name(&self) -> &str {
        "default"
    }

    fn executor(&self) -> &str {
        "per-vu-iterations"
    }

    fn start_unix_ms(&self) -> i64 {
        1
    }

    fn progress(&self) -> f64 {
        0.5
    }
}

/// A script with what it needs to run.
struct Rig {
    script: Arc<Script>,
    worker: Rc<WorkerContext>,
    notes: Arc<Notes>,
}

impl Rig {
    fn new(source: &str) -> Self {
        Self::with_files(source, &[])
    }

    fn with_files(source: &str, files: &[(&str, &str)]) -> Self {
        let files: BTreeMap<String, Arc<[u8]>> = files
            .iter()
            .map(|(url, text)| ((*url).to_owned(), text.as_bytes().into()))
            .collect();
        Self {
            script: Script::new(ScriptSource {
                url: "file:///dir/script.js".to_owned(),
                pwd: "file:///dir".to_owned(),
                code: source.as_bytes().into(),
                files: Files::archive(files),
                env: vec![("WORD".to_owned(), "hello".to_owned())],
                extended: true,
            }),
            worker: WorkerContext::new(Arc::new(Registry::new()), Arc::new(TagTable::new()), false),
            notes: Arc::default(),
        }
    }

    async fn load(&self) -> Result<Exports, ScriptError> {
        self.script
            .load(self.worker.clone(), self.notes.clone())
            .await
    }

    async fn vu(&self) -> Result<Vu, ScriptError> {
        let settings = Arc::new(VuSettings::default());
        let (script, worker) = (self.script.clone(), self.worker.clone());
        Vu::create(script, worker, self.notes.clone(), settings, 1, 1).await
    }

    fn lines(&self) -> Vec<String> {
        std::mem::take(&mut *self.notes.lines.lock().unwrap())
    }

    fn activation(setup: Option<&str>) -> Arc<Activation> {
        Arc::new(Activation {
            scenario: Arc::new(FakeScenario),
            exec: "default".to_owned(),
            env: vec![("EXTRA".to_owned(), "more".to_owned())],
            tags: Vec::new(),
            setup_data: setup.map(Arc::from),
        })
    }
}

/// Runs a future the way a worker does.
pub(crate) fn on_worker<T>(work: impl Future<Output = T>) -> T {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .unwrap();
    tokio::task::LocalSet::new().block_on(&runtime, work)
}

/// Loads a script, runs some iterations, answers the log.
pub(crate) fn run(source: &str, iterations: u64) -> Vec<String> {
    run_with_files(source, &[], iterations)
}

/// The same, with files that the script finds in its folder, `file:///dir`.
pub(crate) fn run_with_files(source: &str, files: &[(&str, &str)], iterations: u64) -> Vec<String> {
    on_worker(async {
        let rig = Rig::with_files(source, files);
        rig.load().await.unwrap();
        let mut vu = rig.vu().await.unwrap();
        vu.activate(Rig::activation(None)).await;
        for i in 0..iterations {
            vu.iterate(i, i).await;
        }
        vu.close().await;
        rig.lines()
    })
}

pub(crate) fn load_error(source: &str) -> String {
    on_worker(async { Rig::new(source).load().await.unwrap_err().to_string() })
}

#[test]
fn iterations_see_their_counters_and_environment() {
    let lines = run(
        "import exec from 'k6/execution';
         export default function () {
           console.log(__VU, __ITER, __ENV.WORD, __ENV.EXTRA, exec.vu.iterationInScenario, exec.scenario.name);
         }",
        2,
    );
    assert_eq!(
        lines,
        ["1 0 hello more 0 default", "1 1 hello more 1 default"]
    );
}

#[test]
fn console_formats_values_as_k6_does() {
    let lines = run(
        "export default function () {
           console.log('a', 1.5, null, undefined, [1, 'x', undefined], {a: 1, b: {}}, new Error('e'), () => 1);
           const c = {}; c.self = c;
           console.log(c, new Uint8Array([1, 2]), new Uint8Array([1, 255]).buffer, new Date(0), 10n);
         }",
        1,
    );
    assert_eq!(
        lines,
        [
            "a 1.5 null undefined [ 1, \"x\", null ] { a: 1, b: {} } Error: e [object Function]",
            "{ self: [Circular] } Uint8Array(2) [ 1, 2 ] ArrayBuffer { [Uint8Contents]: <01 ff>, byteLength: 2 } \"1970-01-01T00:00:00.000Z\" 10",
        ]
    );
}

#[test]
fn globals_that_are_made_when_they_are_touched_look_as_if_they_had_been_there() {
    // Each line in a VU of its own: one touch changes what the next sees.
    for (script, expected) in [
        (
            "typeof Map, typeof Date, typeof DataView, typeof setTimeout, typeof open",
            "function function function function function",
        ),
        (
            "typeof SharedArrayBuffer, typeof WeakRef, typeof nothing",
            "undefined undefined undefined",
        ),
        (
            "'Map' in globalThis, 'Uint8Array' in globalThis, 'nothing' in globalThis",
            "true true false",
        ),
        (
            "new Map([[1, 2]]).get(1), new Set([1, 1]).size, new WeakMap() instanceof WeakMap",
            "2 1 true",
        ),
        (
            "new Date(0).toISOString(), new Date(0) instanceof Date",
            "1970-01-01T00:00:00.000Z true",
        ),
        (
            "new Uint8Array(2).length, new Uint8Array(2).buffer instanceof ArrayBuffer",
            "2 true",
        ),
        (
            "typeof SharedArrayBuffer, new Float64Array(1)[0], typeof SharedArrayBuffer",
            "undefined 0 undefined",
        ),
        (
            "globalThis.Map === Map, globalThis.hasOwnProperty('Map')",
            "true true",
        ),
        ("(globalThis.Map = 5, Map), typeof Set, Map", "5 function 5"),
        (
            "(Date = class Mine {}, new Date().constructor.name)",
            "Mine",
        ),
        (
            "(Map, delete globalThis.Map), typeof Map, typeof Set",
            "true undefined function",
        ),
        (
            "(globalThis.fresh = 1, fresh), Object.keys(globalThis).includes('fresh')",
            "1 true",
        ),
        (
            "String(globalThis), globalThis.toString === Object.prototype.toString",
            "[object global] true",
        ),
        (
            "(() => { try { nothing } catch (e) { return e.message } })()",
            "nothing is not defined",
        ),
    ] {
        let source = format!("export default function () {{ console.log({script}); }}");
        let source = source.replace("Date = ", "globalThis.Date = ");
        assert_eq!(run(&source, 1), [expected], "{script}");
    }
    // Bytes that Rust makes have the methods of their class, although no script has named it.
    let script = "const file = open('./file', 'b');
         export default function () { console.log(file.slice(0, 1).byteLength, file instanceof ArrayBuffer); }";
    let lines = run_with_files(script, &[("file:///dir/file", "ab")], 1);
    assert_eq!(lines, ["1 true"]);
}

#[test]
fn an_exception_ends_the_iteration_with_its_stack() {
    let lines = run(
        "import { fail } from 'k6';
         export default function () { if (__ITER === 0) throw new Error('boom'); fail('no'); }",
        2,
    );
    assert!(
        lines[0].starts_with("Error: Error: boom\n\tat default (file:///dir/script.js:2:"),
        "{lines:?}"
    );
    assert!(lines[1].starts_with("Error: GoError: no\n"), "{lines:?}");
}

#[test]
fn async_functions_timers_and_rejections() {
    let lines = run(
        "const wait = (ms) => new Promise((done) => setTimeout(done, ms));
         export default async function () {
           setTimeout(() => console.log('later', __ITER), 5);
           await wait(1);
           console.log('waited');
           if (__ITER === 1) { Promise.reject(new Error('lost')); }
         }",
        2,
    );
    assert_eq!(lines[..3], ["waited", "later 0", "waited"]);
    assert!(lines[3].contains("setTimeout 3 was stopped"), "{lines:?}");
    assert!(
        lines[4].contains("Uncaught (in promise) Error: lost"),
        "{lines:?}"
    );
}

#[test]
fn modules_resolve_and_run_once_per_heap() {
    on_worker(async {
        let rig = Rig::with_files(
            "import { a } from './lib/a.js'; import b from './lib/b.js';
             const data = open('data.txt');
             export default function () { console.log(a, b, data); }",
            &[
                (
                    "file:///dir/lib/a.js",
                    "import b from './b.js'; export const a = 'a' + b;",
                ),
                ("file:///dir/lib/b.js", "export default 'b';"),
                ("file:///dir/data.txt", "data"),
            ],
        );
        rig.load().await.unwrap();
        let mut vu = rig.vu().await.unwrap();
        vu.activate(Rig::activation(None)).await;
        assert_eq!(vu.iterate(0, 0).await, IterationEnd::Complete);
        assert_eq!(rig.lines(), ["ab b data"]);
        vu.close().await;
    });
}

#[test]
fn what_cannot_be_loaded_says_why() {
    assert!(
        load_error("export default function () {\n  const = 5;\n}")
            .starts_with("file:///dir/script.js: Line 2:")
    );
    assert!(
        load_error("import './absent.js'; export default () => 1")
            .contains("\"./absent.js\" couldn't be found")
    );
    assert!(
        load_error("import x from 'k6/browser'; export default () => 1")
            .contains("\"k6/browser\" is not supported")
    );
    assert!(
        load_error("import 'k6/nope'; import 'k6/x/foo'; export default () => 1")
            .contains("[\"k6/nope\", \"k6/x/foo\"]")
    );
    assert_eq!(
        load_error("export const a = 1;"),
        "no exported functions in script"
    );
    assert!(
        load_error("throw new RangeError('init')")
            .starts_with("RangeError: init\n\tat file:///dir/script.js:1:")
    );
    assert!(
        load_error("export const options = {a: NaN}; export default () => 1")
            .contains("unsupported value: NaN")
    );
    assert!(
        load_error("open('nope.txt'); export default () => 1")
            .contains("open /dir/nope.txt: file does not exist")
    );
}

#[test]
fn options_and_functions_are_found() {
    let exports = on_worker(async {
        let rig = Rig::new(
            "export const options = { vus: 2, thresholds: { m: ['a<1'] }, u: undefined };
             export default () => 1; export function setup() {}",
        );
        rig.load().await.unwrap()
    });
    assert_eq!(
        exports.options.unwrap().to_string(),
        r#"{"vus":2,"thresholds":{"m":["a<1"]},"u":null}"#
    );
    assert!(exports.functions.iter().any(|f| f == "default"));
    assert!(exports.functions.iter().any(|f| f == "setup"));
}

#[test]
fn setup_data_travels_as_json() {
    on_worker(async {
        let rig = Rig::new(
            "export function setup() { return { list: [1, undefined], d: new Date(0), b: new Uint8Array([1, 2]) }; }
             export default function (data) { data.n = (data.n || 0) + 1; console.log(JSON.stringify(data)); }
             export function teardown(data) { return data.fn = () => 1, data; }",
        );
        rig.load().await.unwrap();
        let mut vu = rig.vu().await.unwrap();
        let data = vu
            .call(Lifecycle::Setup, None)
            .await
            .unwrap()
            .unwrap()
            .to_string();
        assert_eq!(
            data,
            r#"{"list":[1,null],"d":"1970-01-01T00:00:00Z","b":"AQI="}"#
        );
        vu.activate(Rig::activation(Some(&data))).await;
        vu.iterate(0, 0).await;
        vu.iterate(1, 1).await;
        let lines = rig.lines();
        assert!(
            lines[0].ends_with("\"n\":1}") && lines[1].ends_with("\"n\":2}"),
            "{lines:?}"
        );
        let error = vu
            .call(Lifecycle::Teardown, Some(data.into()))
            .await
            .unwrap_err();
        assert!(
            error.to_string().contains("unsupported type: func"),
            "{error}"
        );
        vu.close().await;
    });
}

#[test]
fn summaries_come_back_as_bytes() {
    on_worker(async {
        let rig = Rig::new(
            "export default () => 1;
             export function handleSummary(data) {
               return { stdout: String(data.n) + ('setup_data' in data), 'raw.bin': new Uint8Array([1]).buffer };
             }",
        );
        rig.load().await.unwrap();
        let mut vu = rig.vu().await.unwrap();
        let result = vu.summarise("{\"n\":3}".into(), false).await.unwrap();
        let SummaryResult::Entries(entries) = result else {
            panic!("{result:?}")
        };
        assert_eq!(entries[0].content, b"3true");
        assert_eq!(entries[1].content, [1]);
        vu.close().await;
    });
}

#[test]
fn a_stop_cannot_be_swallowed() {
    // Each script tries to go on after the stop in its own way.
    for body in [
        "try { for (;;) {} } catch (e) { console.log('caught'); } finally { console.log('finally'); }",
        "new Promise(() => { for (;;) {} }).catch(() => console.log('caught')); console.log('after'); for (;;) {}",
        "for (;;) { try { sleep(60); } catch (e) { console.log('caught'); } }",
        "setInterval(() => {}, 1);",
        "const f = () => { try { f(); } catch (e) { f(); } }; f();",
        "secrets.get('never').finally(() => console.log('finally'));",
        "secrets.get('never').finally(() => console.log('finally')); throw new Error('early');",
    ] {
        on_worker(async {
            let rig = Rig::new(&format!(
                "import {{ sleep }} from 'k6'; import secrets from 'k6/secrets';
                 export default function () {{ {body} }}"
            ));
            rig.load().await.unwrap();
            let mut vu = rig.vu().await.unwrap();
            vu.activate(Rig::activation(None)).await;
            let stopper = vu.stopper();
            tokio::task::spawn_local(async move {
                tokio::time::sleep(Duration::from_millis(20)).await;
                stopper.stop();
            });
            assert_eq!(vu.iterate(0, 0).await, IterationEnd::Interrupted, "{body}");
            let lines = rig.lines();
            assert!(
                !lines
                    .iter()
                    .any(|l| l == "caught" || l == "finally" || l == "after"),
                "{body}: {lines:?}"
            );
            // The VU is usable again, and what the script had left to do is gone.
            vu.activate(Rig::activation(None)).await;
            vu.close().await;
        });
    }
}

#[test]
fn an_abort_runs_nothing_more() {
    on_worker(async {
        let rig = Rig::new(
            "import exec from 'k6/execution';
             export default function () {
               try { exec.test.abort('enough'); } finally { console.log('finally'); }
             }",
        );
        rig.load().await.unwrap();
        let mut vu = rig.vu().await.unwrap();
        vu.activate(Rig::activation(None)).await;
        assert_eq!(vu.iterate(0, 0).await, IterationEnd::Interrupted);
        assert!(rig.lines().is_empty());
        let aborts = rig.notes.aborts.lock().unwrap().clone();
        assert!(
            aborts[0].starts_with("test aborted: enough at default (file:///dir/script.js:3:"),
            "{aborts:?}"
        );
        vu.close().await;
    });
}

#[test]
fn busy_neighbours_share_a_worker() {
    on_worker(async {
        let rig = Rig::new("export default function () { for (;;) {} }");
        rig.load().await.unwrap();
        let mut busy = rig.vu().await.unwrap();
        busy.activate(Rig::activation(None)).await;
        let stopper = busy.stopper();
        let looping = tokio::task::spawn_local(async move {
            busy.iterate(0, 0).await;
            busy.close().await;
        });
        // Timers of others fire although the loop never ends.
        for _ in 0..20 {
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
        stopper.stop();
        looping.await.unwrap();
    });
}

#[test]
fn recursion_ends_in_an_error() {
    let lines = run(
        "export default function () {
           let depth = 0;
           const deep = (n) => n === 0 ? 0 : 1 + deep(n - 1);
           console.log(deep(50000));
           const f = () => { depth++; f(); };
           try { f(); } catch (e) { console.log(e instanceof RangeError || e instanceof InternalError, depth > 50000); }
           console.log(deep(10));
         }",
        2,
    );
    assert_eq!(
        lines,
        ["50000", "true true", "10", "50000", "true true", "10"]
    );
}

#[test]
fn shared_arrays_are_read_only_copies() {
    let lines = run(
        "import { SharedArray } from 'k6/data';
         const sa = new SharedArray('rows', () => [{ a: 1 }, 2]);
         export default function () {
           console.log(Array.isArray(sa), sa.length, sa[0] === sa[0], Object.isFrozen(sa[0]), sa[9]);
           console.log(JSON.stringify(sa), sa.map((x) => typeof x).join(), [...sa].length, Object.keys(sa).join());
           for (const f of [() => { sa[0] = 1; }, () => sa.push(1), () => { sa[0].a = 2; }]) {
             try { f(); console.log('changed'); } catch (e) { console.log(e instanceof TypeError); }
           }
         }",
        1,
    );
    assert_eq!(
        lines,
        [
            "true 2 false true undefined",
            "[{\"a\":1},2] object,number 2 0,1",
            "true",
            "true",
            "true"
        ]
    );
}

#[test]
fn tags_of_a_vu_are_a_live_map() {
    let lines = run(
        "import exec from 'k6/execution'; import { group } from 'k6';
         export default function () {
           exec.vu.tags.turn = __ITER;
           console.log(Object.keys(exec.vu.metrics.tags).join(), exec.vu.tags.turn, 'turn' in exec.vu.tags);
           group('g', () => console.log(exec.vu.tags.group));
           console.log(JSON.stringify(exec.vu.tags.group), delete exec.vu.tags.turn, exec.vu.tags.turn);
           try { exec.vu.tags.bad = {}; } catch (e) { console.log(String(e)); }
         }",
        1,
    );
    assert_eq!(lines[0], "group,scenario,turn 0 true");
    assert_eq!(lines[1], "::g");
    assert_eq!(lines[2], "\"\" true undefined");
    assert!(
        lines[3].starts_with("TypeError: invalid value for metric tag 'bad'"),
        "{lines:?}"
    );
}

#[test]
fn the_engine_is_built_without_its_arenas() {
    assert!(
        crate::engine::blocks_of_a_runtime() > 500,
        "see docs/engine.md and .cargo/config.toml"
    );
}

#[test]
fn leaks_inside_the_engine_do_not_end_the_process() {
    let script = "new Set([{}]).union(new Set([9]));
        export default function () { [{ a: 1 }].values().find(() => false); console.log('ran'); }";
    assert_eq!(run(script, 1), ["ran"]);
}

#[test]
fn the_poll_counter_is_found() {
    // When an engine update moves it, preemption inside long builtins is gone: better to know.
    assert!(crate::engine::poll_counter_offset().is_some());
}

#[test]
fn stack_is_given_back_before_long_waits_and_nothing_on_it_is_lost() {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        // The waits are long on this clock only.
        .start_paused(true)
        .build()
        .unwrap();
    let lines = tokio::task::LocalSet::new().block_on(&runtime, async {
        let rig = Rig::new(
            "import { sleep } from 'k6';
             const deep = (n) => n === 0 ? [0] : [n, ...deep(n - 1)].slice(0, 5);
             const at = (depth, then) => depth === 0 ? then() : [depth, at(depth - 1, then)].flat();
             export default function () {
               deep(500);
               const kept = at(50, () => { sleep(3); deep(500); sleep(2); return ['bottom']; });
               console.log(kept.length, kept[0], kept[50], deep(500).join());
             }",
        );
        rig.load().await.unwrap();
        let mut vu = rig.vu().await.unwrap();
        vu.activate(Rig::activation(None)).await;
        vu.iterate(0, 0).await;
        vu.iterate(1, 1).await;
        vu.close().await;
        rig.lines()
    });
    let line = "51 50 bottom 500,499,498,497,496";
    assert_eq!(lines, [line, line]);
}

/// A server for one connection that answers every request with the same bytes.
fn server(reply: &'static [u8]) -> std::net::SocketAddr {
    use std::io::{Read, Write};
    let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    std::thread::spawn(move || {
        let (mut stream, _) = listener.accept().unwrap();
        let mut buffer = [0; 4096];
        while stream.read(&mut buffer).is_ok_and(|n| n > 0) {
            if stream.write_all(reply).is_err() {
                return;
            }
        }
    });
    address
}

pub(crate) fn run_http(reply: &'static [u8], body: &str) -> Vec<String> {
    let address = server(reply);
    run(
        &format!(
            "import http from 'k6/http'; const url = 'http://{address}/';
             export default function () {{ {body} }}"
        ),
        1,
    )
}

const HELLO: &[u8] =
    b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nX-Twice: a\r\nx-twice: b\r\n\
    Set-Cookie: c=1; Path=/\r\nContent-Length: 17\r\n\r\n{\"a\":{\"b\":[1,2]}}";

#[test]
fn responses_have_all_members_in_order() {
    let lines = run_http(
        HELLO,
        "const r = http.get(url);
         console.log(Object.keys(r).join());
         console.log(r.status, r.status_text, r.proto, r.headers['X-Twice'], r.cookies.c[0].value, r.error_code);
         console.log(r.json('a.b.1'), JSON.stringify(r.json()), r.body.length, r.request.method);
         console.log(Object.keys(r.timings).join(), r.timings.looking_up, r.timings.duration > 0);
         const { json } = r; console.log(json('a.b.#'), 'status' in r, 'nope' in r, r.nope);",
    );
    assert_eq!(
        lines,
        [
            "remote_ip,remote_port,url,status,status_text,proto,headers,cookies,body,timings,tls_version,tls_cipher_suite,ocsp,error,error_code,request,clickLink,html,json,submitForm",
            "200 200 OK HTTP/1.1 a, b 1 0",
            "2 {\"a\":{\"b\":[1,2]}} 17 GET",
            "duration,blocked,looking_up,connecting,tls_handshaking,sending,waiting,receiving 0 true",
            "2 true false undefined",
        ]
    );
}

#[test]
fn members_of_a_response_can_be_assigned_and_others_not_added() {
    let lines = run_http(
        HELLO,
        "const r = http.get(url);
         r.status = 5; r.body = '{\"x\":7}'; r.headers.Own = 'h';
         console.log(r.status, r.json('x'), r.headers.Own);
         try { r.foo = 1; } catch (e) { console.log(String(e)); }
         const all = []; for (let i = 0; i < 300; i++) { const one = http.get(url); one.self = undefined ?? one.body; all.push(one); }",
    );
    assert_eq!(lines[0], "5 7 h");
    assert_eq!(
        lines[1],
        "TypeError: Cannot assign to property foo of a host object"
    );
    assert!(
        lines[2].contains("Cannot assign to property self"),
        "{lines:?}"
    );
}

#[test]
fn responses_in_cycles_are_freed_with_their_heap() {
    // The engine checks at the end of the runtime that every object is gone; a member that the
    // collector does not see would be found there.
    let lines = run_http(
        HELLO,
        "for (let i = 0; i < 50; i++) {
           const r = http.get(url); r.body = r; r.headers = { back: r, list: [r.timings, r.json] };
         }
         console.log('done');",
    );
    assert_eq!(lines, ["done"]);
}

#[test]
fn a_body_that_is_not_utf8_or_not_json_says_so() {
    let lines = run_http(
        b"HTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\ncaf\xe9",
        "const r = http.get(url);
         console.log(r.body, r.body.length, r.json('a'));
         try { r.json(); } catch (e) { console.log(e.name, e.message.split(' , ')[0]); }
         const b = http.get(url, { responseType: 'binary' });
         console.log(b.body.byteLength, new Uint8Array(b.body)[3]);
         console.log(http.get(url, { responseType: 'none' }).body);",
    );
    assert_eq!(
        lines,
        [
            "caf\u{fffd} 4 undefined",
            "GoError cannot parse json due to an error at line 1, character 1",
            "4 233",
            "null",
        ]
    );
}

#[test]
fn failed_requests_warn_and_go_on() {
    let address = std::net::TcpListener::bind("127.0.0.1:0")
        .unwrap()
        .local_addr()
        .unwrap();
    let lines = run(
        &format!(
            "import http from 'k6/http';
             export default function () {{
               const r = http.get('http://{address}/');
               console.log(r.status, r.error, r.error_code, r.body, JSON.stringify(r.headers));
               try {{ http.get('http://{address}/', {{ throw: true }}); }} catch (e) {{ console.log(String(e)); }}
               const bad = http.get('127.0.0.1:1/x');
               console.log(bad.status, bad.error_code, bad.body.length);
             }}"
        ),
        1,
    );
    assert_eq!(lines[0], "Warning: Request Failed");
    assert_eq!(lines[1], "0 dial: connection refused 1212 null {}");
    assert!(
        lines[2].starts_with("GoError: Get \"http://127.0.0.1:"),
        "{lines:?}"
    );
    assert_eq!(lines[4], "0 1020 0");
}

#[test]
fn lists_in_setup_data_keep_their_length() {
    on_worker(async {
        let rig = Rig::new(
            "export default function (data) {
               data.list.push(3); data.list[0] += 10; data.n += 1; data.deep.list.pop();
               console.log(JSON.stringify(data), data.list.length);
               data.list = [9];
             }",
        );
        rig.load().await.unwrap();
        let mut vu = rig.vu().await.unwrap();
        let data = "{\"list\":[1,2],\"n\":0,\"deep\":{\"list\":[5]}}";
        vu.activate(Rig::activation(Some(data))).await;
        vu.iterate(0, 0).await;
        vu.iterate(1, 1).await;
        assert_eq!(
            rig.lines(),
            [
                "{\"list\":[11,2],\"n\":1,\"deep\":{\"list\":[null]}} 2",
                "{\"list\":[19],\"n\":2,\"deep\":{\"list\":[null]}} 1",
            ]
        );
        vu.close().await;
    });
}

#[test]
fn files_looked_for_in_vain_stay_missing_for_later_vus() {
    on_worker(async {
        let rig = Rig::new(
            "let text; try { open('./absent.txt'); } catch (e) { text = e.message; }
             export default function () { console.log(text); }",
        );
        rig.load().await.unwrap();
        let mut vu = rig.vu().await.unwrap();
        vu.activate(Rig::activation(None)).await;
        vu.iterate(0, 0).await;
        assert_eq!(rig.lines(), ["open /dir/absent.txt: file does not exist"]);
        vu.close().await;
    });
}

#[test]
fn opened_files_share_their_content_and_let_go_of_it() {
    on_worker(async {
        let rig = Rig::with_files(
            "import { open } from 'k6/experimental/fs';
             const all = []; for (let i = 0; i < 50; i++) all.push(await open('a.txt'));
             export default function () { all.length = 10; }",
            &[("file:///dir/a.txt", "text")],
        );
        rig.load().await.unwrap();
        let (mut one, two) = (rig.vu().await.unwrap(), rig.vu().await.unwrap());
        let content = rig.script.files().read("file:///dir/a.txt").unwrap();
        let others = || Arc::strong_count(&content) - 2;
        assert_eq!(others(), 100);
        one.activate(Rig::activation(None)).await;
        one.iterate(0, 0).await;
        assert_eq!(others(), 60);
        one.close().await;
        two.close().await;
        assert_eq!(others(), 0);
    });
}

#[test]
fn streams_that_nobody_reads_are_collected() {
    on_worker(async {
        // Each holds a file, in cycles through promises that never settle.
        let rig = Rig::with_files(
            "import { open } from 'k6/experimental/fs'; import { ReadableStream, WritableStream } from 'k6/experimental/streams';
             for (let i = 0; i < 100; i++) {
               const file = await open('a.txt');
               const s = new ReadableStream({ start(c) { c.enqueue(file); return new Promise(() => {}); } });
               const r = s.getReader(); r.read(); r.read().then(() => s); s.back = r;
               const w = new WritableStream({ write: () => new Promise(() => {}) }).getWriter(); w.write(file); w.write(w); w.self = s;
             }
             export default function () { const all = []; for (let i = 0; i < 100000; i++) all.push({ i }); }",
            &[("file:///dir/a.txt", "text")],
        );
        rig.load().await.unwrap();
        let mut vu = rig.vu().await.unwrap();
        vu.activate(Rig::activation(None)).await;
        vu.iterate(0, 0).await;
        let content = rig.script.files().read("file:///dir/a.txt").unwrap();
        let left = Arc::strong_count(&content) - 2;
        assert!(left < 10, "{left}");
        vu.close().await;
    });
}

#[test]
fn sockets_that_have_ended_are_collected() {
    on_worker(async {
        // Their handlers hold a file, and the sockets that hold them.
        let server = sockets::Server::start();
        let rig = Rig::with_files(
            &format!(
                "import {{ open }} from 'k6/experimental/fs'; import ws from 'k6/ws';
                 import {{ WebSocket }} from 'k6/websockets';
                 const opened = [];
                 for (let i = 0; i < 100; i++) opened.push(await open('a.txt'));
                 export default function () {{
                   for (let i = 0; i < 50; i++) {{
                     const file = opened.pop(), other = opened.pop();
                     ws.connect('ws://{0}', (s) => {{
                       s.self = s; s.on('message', () => [s, file]); s.setInterval(() => [s, file], 1000);
                       s.on('open', () => s.close());
                     }});
                     const s = new WebSocket('ws://{0}');
                     s.onopen = () => {{ s.self = [s, other]; s.close(); }};
                     s.addEventListener('message', () => [s, other]);
                   }}
                   const all = []; for (let i = 0; i < 100000 * (1 + 5 * __ITER); i++) all.push({{ i }});
                 }}",
                server.address
            ),
            &[("file:///dir/a.txt", "text")],
        );
        rig.load().await.unwrap();
        let content = rig.script.files().read("file:///dir/a.txt").unwrap();
        let mut vu = rig.vu().await.unwrap();
        let before = Arc::strong_count(&content);
        assert!(before >= 100, "{before}");
        vu.activate(Rig::activation(None)).await;
        vu.iterate(0, 0).await;
        // What has ended in this one is garbage in the next.
        vu.iterate(1, 1).await;
        let left = Arc::strong_count(&content);
        assert!(left < 20, "{left} of {before}");
        vu.close().await;
        let lines = rig.lines();
        assert!(lines.is_empty(), "{lines:?}");
    });
}

#[test]
fn a_stop_closes_sockets_and_calls_no_handler() {
    for (body, code) in [
        (
            "const s = new WebSocket(at); s.onclose = s.onerror = () => console.log('told');",
            1000,
        ),
        ("new WebSocket(at); sleep(60);", 1000),
        (
            "ws.connect(at, (s) => { s.on('close', () => console.log('told')); s.on('error', () => console.log('told')); });",
            1001,
        ),
        (
            "try { ws.connect(at, (s) => { s.on('open', () => { for (;;) {} }); }); } finally { console.log('told'); }",
            1001,
        ),
        (
            "ws.connect(at, (s) => { s.setInterval(() => sleep(60), 1); });",
            1001,
        ),
    ] {
        on_worker(async {
            let server = sockets::Server::start();
            let rig = Rig::new(&format!(
                "import {{ sleep }} from 'k6'; import ws from 'k6/ws';
                 import {{ WebSocket }} from 'k6/websockets';
                 const at = 'ws://{}';
                 export default function () {{ {body} }}",
                server.address
            ));
            rig.load().await.unwrap();
            let mut vu = rig.vu().await.unwrap();
            vu.activate(Rig::activation(None)).await;
            let stopper = vu.stopper();
            let ready = server.ready.clone();
            tokio::task::spawn_local(async move {
                // The server has let it in, and a moment later it has seen that.
                while !ready.load(std::sync::atomic::Ordering::Relaxed) {
                    tokio::time::sleep(Duration::from_millis(1)).await;
                }
                tokio::time::sleep(Duration::from_millis(20)).await;
                stopper.stop();
            });
            assert_eq!(vu.iterate(0, 0).await, IterationEnd::Interrupted, "{body}");
            assert_eq!(server.closed(1), [code], "{body}");
            let lines = rig.lines();
            assert!(lines.is_empty(), "{body}: {lines:?}");
            vu.close().await;
        });
    }
}
