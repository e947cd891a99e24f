//! The chart and the plain manifests: rendered, checked against the schemas of Kubernetes, and
//! what they run, alert on and show, run, alerted on and shown.
//!
//! The tools are brought by `tests/manifests/install.sh`; promtool and Prometheus are Debian's.
//! Where they are missing a test says so and ends; with `VOLLEY_REQUIRE_PEERS=1` it fails.

mod support;

use std::{
    collections::BTreeSet,
    fs,
    path::{Path, PathBuf},
    time::Duration,
};

use serde_json::Value;
use support::{
    Finished, Folder, Launch, Prometheus, Running, Target, free_port, installed,
    manifests::{Tools, root, yaml_files},
    request, until,
};

/// The oldest version that the chart is for, the ones around a change, and a newer one.
const VERSIONS: [&str; 4] = ["1.24.0", "1.28.9", "1.29.0", "1.33.0"];

/// Without a version Helm takes that of its own time; one that comes later in the line wins.
const TEMPLATE: &str = "template load charts/volley --kube-version 1.30.0";

/// What the chart makes of some values.
fn template(tools: &Tools, values: &Path, more: &str) -> Finished {
    tools
        .helm(&format!("{TEMPLATE} --values"))
        .args([values])
        .words(more)
        .run()
}

#[track_caller]
fn rendered(tools: &Tools, values: &Path, more: &str) -> Vec<Value> {
    let text = template(tools, values, more).expect(0).stdout;
    tools.parse(&text)
}

#[track_caller]
fn of_kind<'a>(objects: &'a [Value], kind: &str) -> &'a Value {
    let mut found = objects.iter().filter(|object| object["kind"] == kind);
    let one = found.next().unwrap_or_else(|| panic!("no {kind}"));
    assert!(found.next().is_none(), "more than one {kind}");
    one
}

fn job_name(objects: &[Value]) -> String {
    let name = &of_kind(objects, "Job")["metadata"]["name"];
    name.as_str().expect("a name").to_owned()
}

/// What the Pod Security Standard "restricted" asks of a pod, as far as these manifests have it.
#[track_caller]
fn is_restricted(what: &str, pod: &Value) {
    let security = &pod["securityContext"];
    assert_eq!(security["runAsNonRoot"], true, "{what}");
    let profile = &security["seccompProfile"]["type"];
    assert_eq!(profile, "RuntimeDefault", "{what}");
    for container in pod["containers"].as_array().expect("containers") {
        let security = &container["securityContext"];
        assert_eq!(security["allowPrivilegeEscalation"], false, "{what}");
        assert_eq!(security["readOnlyRootFilesystem"], true, "{what}");
        let dropped = &security["capabilities"]["drop"];
        assert_eq!(dropped, &serde_json::json!(["ALL"]), "{what}");
    }
}

/// The files of values that there are; at least four.
fn value_sets() -> Vec<PathBuf> {
    let files = yaml_files("examples/chart");
    assert!(files.len() >= 4, "{files:?}");
    files
}

#[test]
fn plain_manifests_are_valid() {
    let Some(tools) = Tools::find() else { return };
    let files = yaml_files("examples/kubernetes");
    let names = tools.validate(&files);
    for kind in [
        "Job",
        "K6",
        "TestRun",
        "PodMonitor",
        "PrometheusRule",
        "StorageClass",
    ] {
        let prefix = format!("{kind} ");
        assert!(
            names.lines().any(|name| name.starts_with(&prefix)),
            "{names}"
        );
    }
    for source in ["configmap", "localfile", "volumeclaim"] {
        let objects = tools.read(format!("examples/kubernetes/job/{source}.yaml"));
        let spec = &of_kind(&objects, "Job")["spec"];
        is_restricted(source, &spec["template"]["spec"]);
        let count = spec["parallelism"].to_string();
        assert_eq!(spec["completions"].to_string(), count);
        let env = &spec["template"]["spec"]["containers"][0]["env"][0];
        assert_eq!(env["name"], "VOLLEY_INSTANCES");
        assert_eq!(
            env["value"], count,
            "the agents must know how many they are"
        );
    }
}

/// A validator that finds nothing wrong would make all of these tests empty.
#[test]
fn what_is_wrong_is_found() {
    let Some(tools) = Tools::find() else { return };
    let folder = Folder::new();
    let read = |file: &str| fs::read_to_string(root().join(file)).expect("a file");
    for (file, from, to) in [
        ("job/configmap.yaml", "completionMode:", "completionMod:"),
        (
            "job/configmap.yaml",
            "containerPort: 6565",
            "containerPort: api",
        ),
        (
            "job/configmap.yaml",
            "automountServiceAccountToken: false",
            "restartPolicy: Never",
        ),
        ("podmonitor.yaml", "targetLabel:", "targetLable:"),
        ("prometheusrule.yaml", "for: 1m", "fore: 1m"),
        (
            "testrun/configmap.yaml",
            "parallelism: 18",
            "parallelism: many",
        ),
        ("testrun/configmap.yaml", "configMap:", "configmap:"),
        (
            "testrun/configmap.yaml",
            "readOnlyRootFilesystem",
            "readonlyRootFilesystem",
        ),
        ("../argo/fan-out.yaml", "withSequence:", "withsequence:"),
        ("../argo/fan-out.yaml", "failed: true", "failed: [1]"),
    ] {
        let text = read(&format!("examples/kubernetes/{file}"));
        assert!(text.contains(from), "{file} has no {from}");
        let wrong = folder.write("wrong.yaml", text.replace(from, to));
        let found = tools.validation(&[wrong]);
        assert_eq!(found.code, 1, "{file}, {to}: {}", found.account());
    }
}

#[test]
fn the_chart_renders_valid_objects_for_each_version() {
    let Some(tools) = Tools::find() else { return };
    let inline = root().join("examples/chart/inline.yaml");
    tools
        .helm("lint --strict charts/volley --values")
        .args([&inline])
        .run()
        .expect(0);
    for values in value_sets() {
        for version in VERSIONS {
            let options = format!("--kube-version {version}");
            let text = template(&tools, &values, &options).expect(0).stdout;
            let names = tools.validate_text(&text);
            assert!(names.contains("Job load-"), "{names}");
            let objects = tools.parse(&text);
            let spec = &of_kind(&objects, "Job")["spec"];
            is_restricted(&values.display().to_string(), &spec["template"]["spec"]);
            // One of the two, by what the version has.
            let per_index = matches!(version, "1.29.0" | "1.33.0");
            assert_eq!(
                spec["backoffLimitPerIndex"].is_u64(),
                per_index,
                "{version}"
            );
            assert_eq!(spec["backoffLimit"].is_u64(), !per_index, "{version}");
        }
    }
}

#[test]
fn the_chart_refuses_what_would_not_run() {
    let Some(tools) = Tools::find() else { return };
    let inline = root().join("examples/chart/inline.yaml");
    for (options, says) in [
        ("--set script.claim=a", "set exactly one of"),
        ("--set script.inline=", "set exactly one of"),
        ("--set script.file=/test.js", "does not begin with /"),
        ("--set script.file=a/test.js", "a ConfigMap has no folders"),
        (
            "--set script.inline=,script.image=true",
            "a whole path in the image",
        ),
        ("--set parallelism=0", "parallelism"),
        ("--set startAt=soon", "startAt"),
        ("--set metrics.port=80", "metrics.port"),
        ("--set podMonitor.intervall=5s", "intervall"),
        ("--set metrics.trend=histograms", "metrics.trend"),
        ("--set metrics.drop={a&b}", "metrics.drop"),
        ("--set metrics.maxSeries=-1", "metrics.maxSeries"),
        (
            "--set metrics.buckets={1,2}",
            "metrics.buckets are those of",
        ),
        (
            "--set metrics.enabled=false,podMonitor.enabled=true",
            "nothing to scrape",
        ),
    ] {
        let refused = template(&tools, &inline, options);
        assert_ne!(refused.code, 0, "{options}: {}", refused.account());
        assert!(refused.stderr.contains(says), "{}", refused.account());
    }
    let folder = Folder::with("large.js", &"// 345678\n".repeat(100_001));
    let large = tools
        .helm(&format!("{TEMPLATE} --set-file"))
        .args([format!(
            "script.inline={}",
            folder.file("large.js").display()
        )])
        .run();
    assert!(large.stderr.contains("1 MB"), "{}", large.account());
}

#[test]
fn the_name_of_the_job_changes_with_what_it_runs_only() {
    let Some(tools) = Tools::find() else { return };
    let inline = root().join("examples/chart/inline.yaml");
    let name = |options: &str| job_name(&rendered(&tools, &inline, options));
    let first = name("");
    assert_eq!(name(""), first);
    let watching = "--set podMonitor.enabled=true,prometheusRule.enabled=true,\
                    dashboard.enabled=true,ttlSecondsAfterFinished=60,labels.team=a";
    assert_eq!(name(watching), first);
    let mut names = BTreeSet::from([first]);
    for options in [
        "--set runId=2",
        "--set parallelism=4",
        "--set image.tag=other",
        "--set arguments={--vus,6}",
        "--set results.claim=results",
    ] {
        assert!(names.insert(name(options)), "{options}: {names:?}");
    }
    // As long as Helm allows. Of the Job's name pods get theirs, and labels, which hold 63 characters.
    let release = "a-name-of-fifty-three-characters-is-the-longest-of-al";
    let long = tools
        .helm(&TEMPLATE.replace(" load ", &format!(" {release} ")))
        .words("--values examples/chart/inline.yaml")
        .run()
        .expect(0);
    let name = job_name(&tools.parse(&long.stdout));
    assert!(
        name.starts_with("a-name-of-fifty") && name.len() < 60,
        "{name}"
    );
}

#[test]
fn settings_of_the_metrics_are_arguments_of_the_agent() {
    let Some(tools) = Tools::find() else { return };
    let inline = root().join("examples/chart/inline.yaml");
    let out = |options: &str| {
        let objects = rendered(&tools, &inline, options);
        let job = of_kind(&objects, "Job");
        let words = &job["spec"]["template"]["spec"]["containers"][0]["args"];
        let mut words = words.as_array().expect("arguments").iter();
        let found = words.find_map(|word| word.as_str()?.strip_prefix("--out="));
        found.expect("an output").to_owned()
    };
    let plain = "prometheus=namespace=k6&port=5656";
    assert_eq!(out(""), plain);
    for (options, more) in [
        ("--set metrics.trend=both", "trend=both"),
        (
            "--set metrics.trend=histogram,metrics.buckets={1,2.5,1000}",
            "buckets=1,2.5,1000&trend=histogram",
        ),
        ("--set metrics.labels={name,status}", "labels=name,status"),
        (
            "--set metrics.drop={url,vu},metrics.maxSeries=20000",
            "drop=url,vu&max_series=20000",
        ),
        ("--set metrics.settings.linger=0", "linger=0"),
        (
            "--set metrics.trend=native,metrics.settings.trend=both",
            "trend=both",
        ),
    ] {
        assert_eq!(out(options), format!("{plain}&{more}"), "{options}");
    }
}

#[test]
fn a_script_survives_the_way_through_the_chart() {
    let Some(tools) = Tools::find() else { return };
    let script =
        "  // indented first, \"quotes\", {{ braces }} and a tab\t\nexport default () => {};\n";
    let folder = Folder::with("script.js", script);
    let objects = tools
        .helm(&format!("{TEMPLATE} --set-file"))
        .args([format!(
            "script.inline={}",
            folder.file("script.js").display()
        )])
        .run()
        .expect(0);
    let objects = tools.parse(&objects.stdout);
    assert_eq!(of_kind(&objects, "ConfigMap")["data"]["script.js"], script);
}

/// Each runner needs a VU: the operator refuses a test that has fewer.
#[test]
fn the_scripts_of_the_examples_have_enough_vus() {
    let Some(tools) = Tools::find() else { return };
    let mut seen = 0;
    let mut check = |what: &str, script: &str, parallelism: &Value| {
        let folder = Folder::with("test.js", script);
        let requirements = Launch::volley(folder.path())
            .words("inspect --execution-requirements test.js")
            .run()
            .expect(0);
        let requirements: Value = serde_json::from_str(&requirements.stdout).expect("JSON");
        let (vus, agents) = (requirements["maxVUs"].as_u64(), parallelism.as_u64());
        assert!(
            agents.is_some() && vus >= agents,
            "{what}: {vus:?}, {agents:?}"
        );
        seen += 1;
    };
    for kind in ["k6", "testrun", "job"] {
        let file = format!("examples/kubernetes/{kind}/configmap.yaml");
        let objects = tools.read(&file);
        let script = objects[0]["data"]["test.js"].as_str().expect("a script");
        check(&file, script, &objects[1]["spec"]["parallelism"]);
    }
    for values in value_sets() {
        let values = tools.read(values).remove(0);
        if let Some(script) = values["script"]["inline"].as_str() {
            check("values", script, &values["parallelism"]);
        }
    }
    assert_eq!(seen, 4);
}

/// The alerts of the chart's file, and what the manifests make of them.
#[test]
fn alerts_fire_when_they_should() {
    let (Some(tools), Some(promtool)) = (Tools::find(), installed("promtool")) else {
        return;
    };
    let rules = root().join("charts/volley/files/rules.yaml");
    let folder = Folder::new();
    let promtool = |words: &str| Launch::program(&promtool, folder.path()).words(words);
    let mut sources = vec![("the file", tools.read(&rules).remove(0))];
    let plain = tools.read("examples/kubernetes/prometheusrule.yaml");
    sources.push(("the manifest", plain[0]["spec"].clone()));
    let efs = root().join("examples/chart/efs.yaml");
    let objects = rendered(&tools, &efs, "");
    sources.push((
        "the chart",
        of_kind(&objects, "PrometheusRule")["spec"].clone(),
    ));
    let expected = fs::read_to_string(root().join("tests/manifests/rules-test.yaml"));
    let expected = expected.expect("the cases");
    for (what, mut groups) in sources {
        for rule in groups["groups"][0]["rules"].as_array_mut().expect("rules") {
            let labels = rule.as_object_mut().expect("a rule").remove("labels");
            let severity = labels.map(|labels| labels["severity"].clone());
            let expected = (what != "the file").then(|| Value::from("warning"));
            assert_eq!(severity, expected, "{what}");
        }
        // JSON is YAML.
        let file = folder.write("rules.yaml", groups.to_string());
        promtool("check rules rules.yaml").run().expect(0);
        let cases = expected.replace("RULES", &file.display().to_string());
        folder.write("cases.yaml", cases);
        promtool("test rules cases.yaml").run().expect(0);
    }
    // The cases can fail.
    let text = fs::read_to_string(&rules).expect("the rules");
    let wrong = folder.write("wrong.yaml", text.replace("> 0.01", "> 0.5"));
    let cases = expected.replace("RULES", &wrong.display().to_string());
    folder.write("cases.yaml", cases);
    promtool("test rules cases.yaml").run().expect(1);
}

const SCRIPT: &str = "
import http from 'k6/http';
import { check } from 'k6';
export const options = { scenarios: { rate: {
  executor: 'constant-arrival-rate', rate: 40, timeUnit: '1s', duration: '10m', preAllocatedVUs: 4,
} } };
export default function () {
  check(http.get(__ENV.TARGET), { ok: (r) => r.status === 200 });
}";

/// Starts an agent as the Job of the chart does, in a folder that stands for its volume.
fn start_agent(job: &Value, index: usize, folder: &Folder, target: &Target) -> (Running, u16) {
    let container = &job["spec"]["template"]["spec"]["containers"][0];
    let (api, metrics) = (free_port(), free_port());
    let words = container["args"].as_array().expect("arguments");
    let words = words.iter().map(|word| {
        let word = word.as_str().expect("a text");
        // Pods have an address each; here they share one.
        word.replace("$(JOB_COMPLETION_INDEX)", &index.to_string())
            .replace("=:6565", &format!("=:{api}"))
            .replace("port=5656", &format!("port={metrics}"))
            .replace("/scripts", &folder.path().display().to_string())
            .replace("/results", &folder.file("results").display().to_string())
    });
    let mut launch = Launch::volley(folder.path()).args(words);
    for variable in container["env"].as_array().expect("variables") {
        let text = |key: &str| variable[key].as_str().expect("a text").to_owned();
        launch = launch.env(&text("name"), text("value"));
    }
    let agent = launch
        .env("JOB_COMPLETION_INDEX", index.to_string())
        .env("TARGET", target.url())
        .start();
    (agent, metrics)
}

#[test]
fn the_job_runs_and_every_panel_of_the_dashboard_shows_it() {
    let Some(tools) = Tools::find() else { return };
    if installed("prometheus").is_none() {
        return;
    }
    let target = Target::start().expect("a target");
    let folder = Folder::with("test.js", SCRIPT);
    let values = folder.write(
        "values.yaml",
        "parallelism: 2\nscript: { claim: scripts, file: test.js }\nresults: { claim: results }\n\
         dashboard: { enabled: true }\n\
         metrics: { trend: histogram, buckets: [5, 250], drop: [url, proto], maxSeries: 500 }\n",
    );
    let objects = rendered(&tools, &values, "");
    let job = of_kind(&objects, "Job");
    let agents: Vec<_> = (0..2)
        .map(|index| start_agent(job, index, &folder, &target))
        .collect();
    let page = |port| {
        let reply = request(port, "GET", "/metrics", None, Duration::from_secs(5)).ok()?;
        (reply.status == 200).then_some(reply.body)
    };
    let ports: Vec<u16> = agents.iter().map(|(_, port)| *port).collect();
    let has = until("requests on the page", || {
        page(ports[0]).filter(|page| page.contains("k6_http_reqs{"))
    });
    // As the values say.
    assert!(
        !has.contains("url=\"") && !has.contains("proto=\""),
        "{has}"
    );
    assert!(
        has.contains("k6_http_req_duration_histogram_bucket{") && has.contains("le=\"250\""),
        "{has}"
    );
    let prometheus = Prometheus::start(&ports).expect("it is installed");

    let dashboard = &of_kind(&objects, "ConfigMap")["data"]["volley.json"];
    let dashboard: Value =
        serde_json::from_str(dashboard.as_str().expect("a text")).expect("a dashboard");
    let mut queries = 0;
    for panel in dashboard["panels"].as_array().expect("panels") {
        for wanted in panel["targets"].as_array().into_iter().flatten() {
            let query = wanted["expr"].as_str().expect("a query");
            // What Grafana puts there when all tests are chosen.
            let query = query
                .replace("$__rate_interval", "8s")
                .replace("$testrun", ".*");
            queries += 1;
            if query.contains("volley_cpu_throttled") && !has.contains("volley_cpu_throttled") {
                // No control group here counts it.
                assert_eq!(prometheus.count(&query), 0);
                continue;
            }
            until(&format!("{}: {query}", panel["title"]), || {
                (prometheus.count(&query) > 0).then_some(())
            });
        }
    }
    assert!(queries > 15, "{queries}");
    for page in ["docs/operator.md", "docs/chart.md"] {
        let text = fs::read_to_string(root().join(page)).expect("a page");
        for rest in text.split("```promql\n").skip(1) {
            let query = rest.split("```").next().expect("a query").trim();
            queries += 1;
            until(query, || (prometheus.count(query) > 0).then_some(()));
        }
    }
    assert!(queries > 20, "{queries}");
    // The query of docs/operator.md that tells how many agents are seen, of how many.
    let seen = "count by (instances) (group by (testrun, segment, instances) (volley_run_info))";
    prometheus.until(seen, 2.0);

    let job = job_name(&objects);
    let mut agents = agents.into_iter().map(|(agent, _)| agent);
    let (first, second) = (agents.next().expect("one"), agents.next().expect("another"));
    // Killed, as by an eviction: it says nothing any more, and leaves no outcome.
    drop(second);
    prometheus.until(seen, 1.0);
    assert_eq!(prometheus.count("volley_run_info{instances=\"2\"}"), 1);
    assert!(!folder.file(&format!("results/{job}/1/exit_code")).exists());
    first.terminate();
    first.finish().expect(105);
    assert_eq!(folder.read(&format!("results/{job}/0/exit_code")), "105");
}

#[test]
fn the_dashboard_follows_the_prefix_of_the_metrics() {
    let Some(tools) = Tools::find() else { return };
    let efs = root().join("examples/chart/efs.yaml");
    let of = |prefix: &str| {
        let objects = rendered(&tools, &efs, &format!("--set metrics.namespace={prefix}"));
        let board = &of_kind(&objects, "ConfigMap")["data"]["volley.json"];
        board.as_str().expect("a text").to_owned()
    };
    assert!(of("load").contains("sum(load_http_reqs{"));
    assert!(of("").contains("sum(http_reqs{"));
    assert!(!of("").contains("k6_"));
}
