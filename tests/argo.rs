//! The workflows of `examples/argo`, carried out: a small engine takes their steps as they are
//! written, the agents are real, and kubectl asks a server that answers as a cluster would.
//!
//! The engine knows what these workflows use: steps, loops over a sequence, conditions, calls of
//! itself, `continueOn`, and outputs from files with their defaults. Pods are processes here: each
//! has a folder for its `/tmp`, and all share one for `/scripts` and one for `/results`.

mod support;

use std::{
    collections::BTreeMap,
    fs,
    io::{Read, Write},
    net::TcpListener,
    os::unix::fs::symlink,
    path::PathBuf,
    sync::{
        Arc, Mutex,
        atomic::{AtomicUsize, Ordering},
    },
};

use serde_json::{Value, json};
use support::{
    Folder, Launch, Target, free_port, installed,
    manifests::{Tools, root, yaml_files},
};

type Values = BTreeMap<String, String>;

/// How a node of a workflow ended.
#[derive(Debug, Default, Clone)]
struct Ended {
    /// The exit code; of steps, 1 when one of them has failed.
    code: i32,
    outputs: Values,
    printed: String,
}

/// A workflow at work.
struct Argo {
    spec: Value,
    globals: Values,
    folder: Folder,
    variables: Vec<(String, String)>,
    /// Kill the agent with this attempt and index, once it runs.
    lose: Option<(&'static str, &'static str)>,
    pods: AtomicUsize,
    /// The nodes that have ended, by the names of their templates.
    ended: Mutex<Vec<(String, Ended)>>,
}

impl Argo {
    fn new(template: &Value, parameters: &[(&str, &str)]) -> Self {
        let spec = template["spec"].clone();
        let mut globals = Values::from([("workflow.name".to_owned(), "load-x7".to_owned())]);
        for parameter in spec["arguments"]["parameters"].as_array().expect("them") {
            let key = format!("workflow.parameters.{}", text(&parameter["name"]));
            globals.insert(key, text(&parameter["value"]));
        }
        for (name, value) in parameters {
            let old = globals.insert(format!("workflow.parameters.{name}"), (*value).to_owned());
            assert!(old.is_some(), "there is no parameter {name}");
        }
        let folder = Folder::new();
        for name in ["bin", "scripts", "results"] {
            fs::create_dir(folder.file(name)).expect("a folder");
        }
        symlink(env!("CARGO_BIN_EXE_volley"), folder.file("bin/k6")).expect("a link");
        Self {
            spec,
            globals,
            folder,
            variables: Vec::new(),
            lose: None,
            pods: AtomicUsize::new(0),
            ended: Mutex::default(),
        }
    }

    fn run(&self) -> Ended {
        self.template(&text(&self.spec["entrypoint"]), &Values::new())
    }

    /// The ends of all nodes of a template.
    fn ends(&self, template: &str) -> Vec<Ended> {
        let ended = self.ended.lock().expect("a lock");
        let of = ended.iter().filter(|(name, _)| name == template);
        of.map(|(_, ended)| ended.clone()).collect()
    }

    fn template(&self, name: &str, inputs: &Values) -> Ended {
        let templates = self.spec["templates"].as_array().expect("templates");
        let template = templates.iter().find(|template| template["name"] == name);
        let template = template.unwrap_or_else(|| panic!("no template {name}"));
        let wanted = template["inputs"]["parameters"].as_array();
        for input in wanted.into_iter().flatten() {
            assert!(
                inputs.contains_key(&text(&input["name"])),
                "{name}: {input}"
            );
        }
        let mut scope = self.globals.clone();
        scope.extend(
            inputs
                .iter()
                .map(|(name, value)| (format!("inputs.parameters.{name}"), value.clone())),
        );
        let ended = match template["steps"].as_array() {
            Some(groups) => self.steps(template, groups, scope),
            None => self.pod(name, template, &scope, inputs),
        };
        self.ended
            .lock()
            .expect("a lock")
            .push((name.to_owned(), ended.clone()));
        ended
    }

    fn steps(&self, template: &Value, groups: &[Value], mut scope: Values) -> Ended {
        for group in groups {
            for step in group.as_array().expect("a group") {
                if let Some(condition) = step["when"].as_str()
                    && !holds(&fill(condition, &scope))
                {
                    continue;
                }
                let name = text(&step["name"]);
                let ends = self.step(step, &scope);
                let may = |what: &str| step["continueOn"][what] == true;
                let failed = ends.iter().any(|ended| ended.code != 0);
                if failed && !(may("failed") && may("error")) {
                    // As in Argo, steps that have failed have no outputs.
                    return Ended {
                        code: 1,
                        ..Ended::default()
                    };
                }
                if let [ended] = &ends[..] {
                    for (key, value) in &ended.outputs {
                        let key = format!("steps.{name}.outputs.parameters.{key}");
                        scope.insert(key, value.clone());
                    }
                }
            }
        }
        let outputs = template["outputs"]["parameters"].as_array();
        let outputs = outputs.into_iter().flatten().map(|output| {
            let from = &output["valueFrom"];
            assert!(from["default"].is_string(), "{output}");
            (
                text(&output["name"]),
                fill(&text(&from["parameter"]), &scope),
            )
        });
        Ended {
            outputs: outputs.collect(),
            ..Ended::default()
        }
    }

    /// A step, or all of its loop at the same time.
    fn step(&self, step: &Value, scope: &Values) -> Vec<Ended> {
        let template = text(&step["template"]);
        let arguments = |item: Option<usize>| {
            let mut scope = scope.clone();
            scope.extend(item.map(|item| ("item".to_owned(), item.to_string())));
            let given = step["arguments"]["parameters"].as_array();
            let given = given.into_iter().flatten();
            given
                .map(|given| (text(&given["name"]), fill(&text(&given["value"]), &scope)))
                .collect::<Values>()
        };
        let Some(count) = step["withSequence"]["count"].as_str() else {
            return vec![self.template(&template, &arguments(None))];
        };
        let count: usize = fill(count, scope).parse().expect("a number");
        let inputs: Vec<Values> = (0..count).map(|item| arguments(Some(item))).collect();
        std::thread::scope(|threads| {
            let nodes: Vec<_> = inputs
                .iter()
                .map(|inputs| threads.spawn(|| self.template(&template, inputs)))
                .collect();
            let ends = nodes.into_iter().map(|node| node.join().expect("its end"));
            ends.collect()
        })
    }

    /// A container or a script, as a process.
    fn pod(&self, name: &str, template: &Value, scope: &Values, inputs: &Values) -> Ended {
        let number = self.pods.fetch_add(1, Ordering::Relaxed);
        let tmp = self.folder.file(&format!("tmp{number}"));
        fs::create_dir(&tmp).expect("a folder");
        let mounts = [
            ("/tmp", tmp),
            ("/scripts", self.folder.file("scripts")),
            ("/results", self.folder.file("results")),
        ];
        let here = |text: &str| {
            let filled = fill(text, scope);
            let filled = mounts.iter().fold(filled, |text, (mount, folder)| {
                text.replace(mount, &folder.display().to_string())
            });
            // Pods have an address each; here they share one.
            let port = format!("prometheus=namespace=k6&port={}", free_port());
            filled.replace("prometheus=namespace=k6", &port)
        };
        let (container, source) = match &template["script"] {
            Value::Null => (&template["container"], None),
            script => (script, Some(here(&text(&script["source"])))),
        };
        let mounted: Vec<String> = container["volumeMounts"]
            .as_array()
            .expect("mounts")
            .iter()
            .map(|mount| text(&mount["mountPath"]))
            .collect();
        let whole = container.to_string();
        for (mount, _) in &mounts {
            let used =
                whole.contains(&format!("{mount}/")) || whole.contains(&format!("{mount}\""));
            assert_eq!(used, mounted.iter().any(|m| m == mount), "{name}: {mount}");
        }
        let mut words = container["command"].as_array().expect("a command").iter();
        let program = text(words.next().expect("a program"));
        let mut path = self.folder.file("bin").into_os_string();
        path.push(":");
        path.push(std::env::var_os("PATH").unwrap_or_default());
        let bin = self.folder.file("bin");
        let program = match bin.join(&program) {
            ours if ours.exists() => ours,
            _ => PathBuf::from(program),
        };
        let mut launch = Launch::program(program, &mounts[0].1)
            .env("PATH", path)
            .args(words.map(text));
        for (variable, value) in &self.variables {
            launch = launch.env(variable, value);
        }
        for variable in container["env"].as_array().into_iter().flatten() {
            launch = launch.env(&text(&variable["name"]), here(&text(&variable["value"])));
        }
        if let Some(source) = source {
            // Argo writes it into a file, too.
            fs::write(mounts[0].1.join("source"), source).expect("a file");
            launch = launch.args(["source"]);
        }
        let arguments = container["args"].as_array().into_iter().flatten();
        let mut running = launch.args(arguments.map(|word| here(&text(word)))).start();
        let attempt_and_index = (inputs.get("attempt"), inputs.get("index"));
        let is_lost = self.lose.is_some_and(|(attempt, index)| {
            attempt_and_index == (Some(&attempt.to_owned()), Some(&index.to_owned()))
        });
        let ended = if is_lost {
            let verdict = self.result(&format!(
                "{}/{}/verdict",
                inputs["attempt"], inputs["index"]
            ));
            running.until("its start", |_| verdict.exists().then_some(()));
            drop(running);
            (137, String::new())
        } else {
            let finished = running.finish();
            println!("{name}{}", finished.account());
            (finished.code, finished.stdout)
        };
        let outputs = template["outputs"]["parameters"].as_array();
        let outputs = outputs.into_iter().flatten().map(|output| {
            let from = &output["valueFrom"];
            let file = here(&text(&from["path"]));
            let value = fs::read_to_string(file).map(|value| value.trim_end().to_owned());
            (
                text(&output["name"]),
                value.unwrap_or_else(|_| text(&from["default"])),
            )
        });
        Ended {
            code: ended.0,
            outputs: outputs.collect(),
            printed: ended.1,
        }
    }

    fn result(&self, name: &str) -> PathBuf {
        self.folder.file(&format!("results/load-x7/{name}"))
    }

    fn read(&self, name: &str) -> String {
        self.folder.read(&format!("results/load-x7/{name}"))
    }
}

#[track_caller]
fn text(value: &Value) -> String {
    let text = value.as_str();
    text.unwrap_or_else(|| panic!("not a text: {value}"))
        .to_owned()
}

/// Puts values into a text. What has none is an error, as in Argo.
#[track_caller]
fn fill(text: &str, scope: &Values) -> String {
    let mut filled = String::new();
    let mut rest = text;
    while let Some((before, after)) = rest.split_once("{{") {
        let (key, after) = after.split_once("}}").expect("an end");
        let value = scope
            .get(key)
            .unwrap_or_else(|| panic!("no {key} for {text}"));
        filled += before;
        filled += value;
        rest = after;
    }
    filled + rest
}

fn holds(condition: &str) -> bool {
    let (left, right) = condition.split_once(" == ").expect("a comparison");
    left == right
}

fn workflow(tools: &Tools, file: &str) -> Value {
    tools.read(format!("examples/argo/{file}")).remove(0)
}

#[test]
fn the_workflows_are_valid_and_every_output_has_a_default() {
    let Some(tools) = Tools::find() else { return };
    let names = tools.validate(&yaml_files("examples/argo"));
    for name in [
        "WorkflowTemplate volley",
        "WorkflowTemplate volley-testrun",
        "Role",
    ] {
        assert!(names.contains(name), "{names}");
    }
    let mut outputs = 0;
    for file in ["fan-out.yaml", "testrun.yaml"] {
        let workflow = workflow(&tools, file);
        for template in workflow["spec"]["templates"].as_array().expect("templates") {
            for output in template["outputs"]["parameters"]
                .as_array()
                .into_iter()
                .flatten()
            {
                assert!(output["valueFrom"]["default"].is_string(), "{output}");
                outputs += 1;
            }
            if template["name"] == "agent" {
                // It would run one slice again.
                assert!(template["retryStrategy"].is_null());
            }
        }
    }
    assert!(outputs > 15, "{outputs}");
}

const SCRIPT: &str = "
import http from 'k6/http';
export const options = { thresholds: { http_reqs: ['count>=LEAST'] } };
export default function () { http.get('TARGET/delay/20'); }";

/// The workflow with two agents and that script, in which the threshold is the last argument.
fn fan_out(tools: &Tools, target: &Target, parameters: &[(&str, &str)], least: u32) -> Argo {
    let mut all = vec![
        ("script", "team/test.js"),
        ("vus", "4"),
        ("duration", "1s"),
        ("lead", "6"),
    ];
    all.extend(parameters);
    let argo = Argo::new(&workflow(tools, "fan-out.yaml"), &all);
    let script = SCRIPT.replace("LEAST", &least.to_string());
    let script = script.replace("TARGET", &target.url());
    argo.folder.write("scripts/team/test.js", script);
    argo
}

#[test]
fn all_agents_of_a_fan_out_start_together_and_their_shares_add_up() {
    let Some(tools) = Tools::find() else { return };
    let target = Target::start().expect("a target");
    let argo = fan_out(&tools, &target, &[], 1);
    let load = argo.run();
    assert_eq!(load.code, 0);
    assert_eq!(load.outputs["verdict"], "passed");
    let agents = argo.ends("agent");
    assert_eq!(agents.len(), 2);
    let number = |ended: &Ended, name: &str| ended.outputs[name].parse::<f64>().expect("a number");
    let sum: f64 = agents.iter().map(|agent| number(agent, "http_reqs")).sum();
    assert!(sum >= 4.0);
    assert_eq!(number(&load, "http_reqs"), sum);
    assert_eq!(number(&load, "http_req_failed"), 0.0);
    let p95 = agents
        .iter()
        .map(|agent| number(agent, "http_req_duration_p95"));
    let largest = p95.fold(0.0, f64::max);
    assert!((number(&load, "http_req_duration_p95") - largest).abs() < 1e-6 * largest);
    for index in 0..2 {
        let summary: Value = serde_json::from_str(&argo.read(&format!("1/{index}/summary.json")))
            .expect("a summary");
        // Two of the four VUs each: a slice, and not the whole.
        assert_eq!(summary["metrics"]["vus_max"]["values"]["value"], 2);
        assert!(argo.result(&format!("1/{index}/junit.xml")).exists());
    }
    assert!(!argo.result("2").exists(), "one attempt");
}

#[test]
fn crossed_thresholds_are_the_exit_code_and_nothing_is_tried_again() {
    let Some(tools) = Tools::find() else { return };
    let target = Target::start().expect("a target");
    let argo = fan_out(&tools, &target, &[], 1_000_000);
    assert_eq!(argo.run().code, 1, "the workflow fails");
    let codes: Vec<i32> = argo.ends("agent").iter().map(|agent| agent.code).collect();
    assert_eq!(codes, [99, 99]);
    let report = argo.ends("report").remove(0);
    assert_eq!(report.code, 99);
    assert_eq!(report.outputs["exit_code"], "99");
    assert_eq!(report.outputs["verdict"], "thresholds_failed");
    assert!(report.printed.contains("verdict: thresholds_failed"));
}

#[test]
fn when_an_agent_is_lost_the_whole_run_is_tried_again() {
    let Some(tools) = Tools::find() else { return };
    let target = Target::start().expect("a target");
    let mut argo = fan_out(&tools, &target, &[], 1);
    argo.lose = Some(("1", "1"));
    let load = argo.run();
    assert_eq!((load.code, &*load.outputs["verdict"]), (0, "passed"));
    assert_eq!(argo.ends("agent").len(), 4, "both agents, twice");
    assert!(!argo.result("1/1/exit_code").exists());
    assert_eq!(
        argo.read("2/0/exit_code") + &argo.read("2/1/exit_code"),
        "00"
    );
    let both = ["2/0", "2/1"].map(|agent| argo.read(&format!("{agent}/http_reqs")));
    let sum: u64 = both
        .iter()
        .map(|text| text.parse::<u64>().expect("a number"))
        .sum();
    assert_eq!(
        load.outputs["http_reqs"],
        sum.to_string(),
        "of the last attempt alone"
    );
}

#[test]
fn attempts_come_to_an_end_and_the_script_s_own_errors_are_final() {
    let Some(tools) = Tools::find() else { return };
    let target = Target::start().expect("a target");
    // Nobody is ready by then.
    let argo = fan_out(&tools, &target, &[("lead", "-5"), ("attempts", "3")], 1);
    assert_eq!(argo.run().code, 1);
    let codes: Vec<i32> = argo.ends("agent").iter().map(|agent| agent.code).collect();
    assert_eq!(codes, [96; 6], "three attempts");
    let report = argo.ends("report").remove(0);
    assert_eq!(
        (report.code, &*report.outputs["verdict"]),
        (1, "inconclusive")
    );

    let argo = fan_out(&tools, &target, &[("attempts", "3")], 1);
    argo.folder
        .write("scripts/team/test.js", "throw new Error('no luck');");
    assert_eq!(argo.run().code, 1);
    let codes: Vec<i32> = argo.ends("agent").iter().map(|agent| agent.code).collect();
    assert_eq!(codes, [107; 2], "one attempt");
    let report = argo.ends("report").remove(0);
    assert_eq!((report.code, &*report.outputs["verdict"]), (107, "failed"));
    assert_eq!(report.outputs["http_reqs"], "0");
}

// === testrun.yaml ===

/// What a cluster has: the Jobs of a test, their pods, and the stage of the test.
#[derive(Default)]
struct Cluster {
    /// The stage; none when there is no such resource.
    stage: Option<&'static str>,
    jobs: Vec<Value>,
    pods: Vec<Value>,
    deleted: bool,
}

impl Cluster {
    /// A runner whose Job has that state, and its pod, if it is there, that exit code.
    fn runner(mut self, number: usize, state: &str, code: Option<u8>) -> Self {
        let name = format!("load-x7-{number}");
        self.jobs.push(json!({
            "apiVersion": "batch/v1", "kind": "Job",
            "metadata": { "name": name }, "status": { state: 1 },
        }));
        if let Some(code) = code {
            self.pods.push(json!({
                "apiVersion": "v1", "kind": "Pod",
                "metadata": { "name": format!("{name}-abcde"), "labels": { "job-name": name } },
                "status": { "containerStatuses": [
                    { "name": "istio-proxy", "state": { "terminated": { "exitCode": 0 } } },
                    { "name": "k6", "state": { "terminated": { "exitCode": code } } },
                ] },
            }));
        }
        self
    }

    /// The operator's own Jobs, which are no runners.
    fn started(stage: &'static str) -> Self {
        let job = |name: &str| {
            json!({
                "apiVersion": "batch/v1", "kind": "Job",
                "metadata": { "name": name }, "status": { "succeeded": 1 },
            })
        };
        Self {
            stage: Some(stage),
            jobs: vec![job("load-x7-initializer"), job("load-x7-starter")],
            ..Self::default()
        }
    }

    fn answer(&mut self, method: &str, path: &str) -> (u16, Value) {
        let resource = |name: &str, kind: &str| {
            let verbs = ["get", "list", "delete"];
            json!({ "name": name, "singularName": kind.to_lowercase(), "kind": kind,
                    "namespaced": true, "verbs": verbs })
        };
        let resources = |version: &str, resources: Value| {
            json!({ "kind": "APIResourceList", "apiVersion": "v1", "groupVersion": version,
                    "resources": resources })
        };
        let list = |kind: &str, version: &str, items: &[Value]| json!({ "kind": kind, "apiVersion": version, "metadata": {}, "items": items });
        let group = |name: &str, version: &str| {
            let version =
                json!({ "groupVersion": format!("{name}/{version}"), "version": version });
            json!({ "name": name, "versions": [version], "preferredVersion": version })
        };
        let (path, query) = path.split_once('?').unwrap_or((path, ""));
        let selected = query.contains("labelSelector=k6_cr%3Dload-x7");
        let found = match path {
            "/api" => json!({ "kind": "APIVersions", "versions": ["v1"] }),
            "/apis" => json!({ "kind": "APIGroupList", "apiVersion": "v1",
                               "groups": [group("batch", "v1"), group("k6.io", "v1alpha1")] }),
            "/api/v1" => resources("v1", json!([resource("pods", "Pod")])),
            "/apis/batch/v1" => resources("batch/v1", json!([resource("jobs", "Job")])),
            "/apis/k6.io/v1alpha1" => {
                resources("k6.io/v1alpha1", json!([resource("testruns", "TestRun")]))
            }
            "/apis/batch/v1/namespaces/default/jobs" if selected => {
                list("JobList", "batch/v1", &self.jobs)
            }
            "/api/v1/namespaces/default/pods" if selected => list("PodList", "v1", &self.pods),
            "/apis/k6.io/v1alpha1/namespaces/default/testruns/load-x7" if self.stage.is_some() => {
                self.deleted |= method == "DELETE";
                json!({ "apiVersion": "k6.io/v1alpha1", "kind": "TestRun",
                        "metadata": { "name": "load-x7", "uid": "1" }, "status": { "stage": self.stage } })
            }
            _ => {
                let status = json!({ "kind": "Status", "apiVersion": "v1", "metadata": {},
                    "status": "Failure", "reason": "NotFound", "code": 404,
                    "message": format!("no {path}?{query}") });
                return (404, status);
            }
        };
        (200, found)
    }
}

/// A server that answers kubectl; the file tells kubectl where it is.
fn serve(cluster: Arc<Mutex<Cluster>>, folder: &Folder) -> PathBuf {
    let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
    let port = listener.local_addr().expect("an address").port();
    std::thread::spawn(move || {
        for mut stream in listener.incoming().flatten() {
            let mut head = Vec::new();
            let mut chunk = [0; 4096];
            while !head.windows(4).any(|part| part == b"\r\n\r\n") {
                match stream.read(&mut chunk) {
                    Ok(read) if read > 0 => head.extend_from_slice(&chunk[..read]),
                    _ => break,
                }
            }
            let head = String::from_utf8_lossy(&head).into_owned();
            let mut words = head.split(' ');
            let (method, path) = (words.next().unwrap_or(""), words.next().unwrap_or(""));
            let (status, body) = cluster.lock().expect("a lock").answer(method, path);
            let body = body.to_string();
            let _ = write!(
                stream,
                "HTTP/1.1 {status} OK\r\nContent-Type: application/json\r\nContent-Length: {}\r\n\
                 Connection: close\r\n\r\n{body}",
                body.len()
            );
        }
    });
    let config = json!({
        "apiVersion": "v1", "kind": "Config", "current-context": "test",
        "clusters": [{ "name": "test", "cluster": { "server": format!("http://127.0.0.1:{port}") } }],
        "contexts": [{ "name": "test", "context": { "cluster": "test", "user": "test", "namespace": "default" } }],
        "users": [{ "name": "test", "user": {} }],
    });
    folder.write("kubeconfig", config.to_string())
}

/// A step of the workflow, with what the cluster is; whether it has deleted the test.
fn with_cluster(tools: &Tools, template: &str, cluster: Cluster, deadline: &str) -> (Ended, bool) {
    let parameters = [("parallelism", "3"), ("deadline", deadline)];
    let mut argo = Argo::new(&workflow(tools, "testrun.yaml"), &parameters);
    let cluster = Arc::new(Mutex::new(cluster));
    let config = serve(cluster.clone(), &argo.folder);
    argo.variables = vec![("KUBECONFIG".to_owned(), config.display().to_string())];
    let ended = argo.template(template, &Values::new());
    let deleted = cluster.lock().expect("a lock").deleted;
    (ended, deleted)
}

#[test]
fn a_test_run_is_judged_by_its_jobs() {
    let Some(tools) = Tools::find() else { return };
    if installed("kubectl").is_none() {
        return;
    }
    let runners = |ends: [(&str, Option<u8>); 3]| {
        let cluster = Cluster::started("finished");
        (1..)
            .zip(ends)
            .fold(cluster, |cluster, (number, (state, code))| {
                cluster.runner(number, state, code)
            })
    };
    let well = ("succeeded", Some(0));
    for (ends, verdict, code, says) in [
        ([well; 3], "passed", 0, "all 3 runners"),
        (
            [well, ("failed", Some(99)), well],
            "thresholds_failed",
            99,
            "on 1 of 3 runners",
        ),
        (
            [well, well, ("failed", None)],
            "inconclusive",
            1,
            "1 of 3 runners were lost",
        ),
        (
            [("failed", Some(99)), ("failed", Some(137)), well],
            "inconclusive",
            1,
            "1 of 3",
        ),
        ([("failed", Some(107)); 3], "failed", 107, "exit code 107"),
    ] {
        let (ended, deleted) = with_cluster(&tools, "wait", runners(ends), "30");
        assert_eq!(
            (ended.code, &*ended.outputs["verdict"]),
            (code, verdict),
            "{}",
            ended.printed
        );
        assert_eq!(ended.outputs["exit_code"], code.to_string());
        assert!(ended.printed.contains(says), "{}", ended.printed);
        assert!(!deleted, "what has ended stays");
        // The exit handler leaves it alone, too.
        let (ended, deleted) = with_cluster(&tools, "stop", runners(ends), "30");
        assert_eq!((ended.code, deleted), (0, false));
    }
}

#[test]
fn a_test_run_that_does_not_end_is_given_up_and_stopped() {
    let Some(tools) = Tools::find() else { return };
    if installed("kubectl").is_none() {
        return;
    }
    let running = || {
        Cluster::started("started")
            .runner(1, "succeeded", Some(0))
            .runner(2, "active", None)
    };
    let (ended, deleted) = with_cluster(&tools, "wait", running(), "0");
    assert_eq!(
        (ended.code, &*ended.outputs["verdict"], deleted),
        (1, "inconclusive", true)
    );
    let says = "after 0 s 1 of 3 runners have ended, stage started";
    assert!(ended.printed.contains(says), "{}", ended.printed);
    let (ended, deleted) = with_cluster(&tools, "stop", running(), "0");
    assert_eq!((ended.code, deleted), (0, true));

    let (ended, deleted) = with_cluster(&tools, "wait", Cluster::started("error"), "30");
    assert_eq!(
        (ended.code, &*ended.outputs["verdict"], deleted),
        (1, "error", false)
    );
    let (ended, deleted) = with_cluster(&tools, "stop", Cluster::default(), "0");
    assert_eq!((ended.code, deleted), (0, false), "{}", ended.printed);
}

#[test]
fn the_test_run_of_the_workflow_is_one_that_the_operator_takes() {
    let Some(tools) = Tools::find() else { return };
    let argo = Argo::new(&workflow(&tools, "testrun.yaml"), &[]);
    let templates = argo.spec["templates"].as_array().expect("templates");
    let create = templates
        .iter()
        .find(|template| template["name"] == "create");
    let resource = &create.expect("it")["resource"];
    assert_eq!(resource["action"], "create");
    let manifest = fill(&text(&resource["manifest"]), &argo.globals);
    assert_eq!(tools.validate_text(&manifest), "TestRun load-x7\n");
    assert!(
        !manifest.contains("cleanup"),
        "it deletes the Jobs, and the verdict with them"
    );
    assert!(root().join("examples/argo/rbac.yaml").exists());
}
