//! The commands in the pages about each way of use, run as they are written there.
//!
//! `k6` is the agent, Helm and the checks of kubectl are real. What needs a cluster or a container
//! is a stand-in: `docker run` starts the agent with the mounts as paths and two seconds for a
//! duration, `kubectl apply` checks the files against their schemas, `helm install` renders, and
//! `argo submit` looks for the template and its parameters.

mod support;

use std::{
    fs,
    os::unix::fs::{PermissionsExt, symlink},
    path::PathBuf,
};

use support::{
    Finished, Folder, Launch, Target, free_port, installed,
    manifests::{Tools, root, yaml_files},
};

const DOCKER: &str = r#"#!/usr/bin/env bash
set -eu
command=$1; shift
case $command in
  run)
    maps=() name=
    while [ "${1#-}" != "$1" ]; do
      case $1 in
        -v) maps+=("$2"); shift ;;
        -e) export "${2?}"; shift ;;
        --name) name=$2; shift ;;
        --user | -p) shift ;;
        --rm | -i | --read-only | --cap-drop=ALL | --security-opt=no-new-privileges) ;;
        *) echo "unknown: $1" >&2; exit 125 ;;
      esac
      shift
    done
    [ "$1" = volley:dev ]; shift
    words=() last=
    for word in "$@"; do
      for map in ${maps[@]+"${maps[@]}"}; do
        here=${map%%:*} there=${map#*:}; there=${there%%:*}
        word=${word//"$there/"/"$here/"}
      done
      word=${word/prometheus=namespace=k6/"prometheus=namespace=k6&port=$PORT"}
      # Ten minutes are there to be stopped.
      if [ "$last" = --duration ] && [ "$word" != 10m ]; then word=2s; fi
      words+=("$word") last=$word
    done
    if [ -n "$name" ]; then echo $$ > "$STATE/$name.pid"; fi
    exec k6 "${words[@]}" ;;
  stop)
    # docker stop -t SECONDS NAME
    kill -TERM "$(cat "$STATE/$3.pid")" ;;
  *) exit 125 ;;
esac
"#;

const KUBECTL: &str = r#"#!/usr/bin/env bash
set -eu
if [ "$1" = -n ]; then shift 2; fi
case $1 in
  apply)
    shift
    while [ $# -gt 0 ]; do
      [ "$1" = -f ]
      "$PYTHON" "$CHECK" validate 1.30 "$2"
      shift 2
    done ;;
  # It makes the object without asking a cluster.
  create) "$REAL_KUBECTL" "$@" --dry-run=client -o name ;;
  # It reads its flags before it prints its help.
  get | logs | label | delete) "$REAL_KUBECTL" "$@" --help > /dev/null ;;
  *) echo "unknown: $1" >&2; exit 1 ;;
esac
"#;

const HELM: &str = r#"#!/usr/bin/env bash
set -eu
command=$1; shift
case $command in
  install | upgrade | template)
    words=()
    for word in "$@"; do if [ "$word" != --reuse-values ]; then words+=("$word"); fi; done
    # What is reused are the values of an earlier line.
    case "$*" in *--reuse-values*) words+=(--values examples/chart/inline.yaml) ;; esac
    "$REAL_HELM" template --kube-version 1.30.0 "${words[@]}" > "$STATE/rendered.yaml"
    "$PYTHON" "$CHECK" validate 1.30 "$STATE/rendered.yaml" ;;
  uninstall) [ $# = 1 ] ;;
  *) echo "unknown: $command" >&2; exit 1 ;;
esac
"#;

const ARGO: &str = r#"#!/usr/bin/env bash
set -eu
[ "$1 $2" = 'submit --from' ]
template=${3#workflowtemplate/}
shift 3
while [ $# -gt 0 ]; do
  [ "$1" = -p ]
  grep -qx "$template ${2%%=*}" "$STATE/parameters" || { echo "$template has no ${2%%=*}" >&2; exit 1; }
  shift 2
done
"#;

/// In its place: `tests/smoke.rs` runs the real one.
const SMOKE: &str = r#"#!/usr/bin/env bash
set -eu
[ $# -ge 3 ]
shift 2
ls "$@"
"#;

/// All but sleeping is done at full length.
const SLEEP: &str = "#!/bin/sh\nexec /bin/sleep 3\n";

const SCRIPT: &str = "
import http from 'k6/http';
import { check, sleep } from 'k6';
import { path } from './client.js';
export default function () {
  check(http.get(__ENV.SERVER + path), { ok: (r) => r.status === 200 });
  sleep(0.1);
}";

/// A folder that looks like a clone, with scripts in it and the stand-ins in `bin`.
struct Clone {
    folder: Folder,
    target: Target,
    tools: Tools,
    kubectl: PathBuf,
}

impl Clone {
    fn new() -> Option<Self> {
        let (tools, kubectl) = (Tools::find()?, installed("kubectl")?);
        let folder = Folder::new();
        for (name, text) in [
            ("docker", DOCKER),
            ("kubectl", KUBECTL),
            ("helm", HELM),
            ("argo", ARGO),
            ("sleep", SLEEP),
            ("../examples/smoke.sh", SMOKE),
        ] {
            fs::create_dir_all(folder.file("bin")).expect("a folder");
            let path = folder.write(&format!("bin/{name}"), text);
            fs::set_permissions(path, fs::Permissions::from_mode(0o755)).expect("a program");
        }
        symlink(env!("CARGO_BIN_EXE_volley"), folder.file("bin/k6")).expect("a link");
        for name in [
            "charts",
            "examples/argo",
            "examples/chart",
            "examples/kubernetes",
        ] {
            symlink(root().join(name), folder.file(name)).expect("a link");
        }
        folder.write("test.js", SCRIPT);
        // This one comes from standard input, too, where it has no neighbours.
        let import = "import { path } from './client.js';";
        folder.write("script.js", SCRIPT.replace(import, "const path = '/';"));
        folder.write("client.js", "export const path = '/';");
        folder.write("scripts/test.js", SCRIPT);
        folder.write("scripts/client.js", "export const path = '/';");
        let mut parameters = String::new();
        for file in yaml_files("examples/argo") {
            for object in tools.read(file) {
                let given = object["spec"]["arguments"]["parameters"].as_array();
                for parameter in given.into_iter().flatten() {
                    let name =
                        |value: &serde_json::Value| value.as_str().expect("a name").to_owned();
                    let template = name(&object["metadata"]["name"]);
                    parameters += &format!("{template} {}\n", name(&parameter["name"]));
                }
            }
        }
        folder.write("state/parameters", parameters);
        Some(Self {
            folder,
            target: Target::start().expect("a target"),
            tools,
            kubectl,
        })
    }

    /// A block of commands, each of which has to succeed.
    fn run(&self, block: &str) -> Finished {
        let mut path = self.folder.file("bin").into_os_string();
        path.push(":");
        path.push(std::env::var_os("PATH").unwrap_or_default());
        Launch::program("bash", self.folder.path())
            // The page about Docker shows the exit code of what it stops.
            .args([if block.contains("$?") { "-uc" } else { "-euc" }, block])
            .env("PATH", path)
            .env("STATE", self.folder.file("state"))
            .env("PORT", free_port().to_string())
            .env("SERVER", self.target.url())
            .env("PYTHON", self.tools.python())
            .env("CHECK", root().join("tests/manifests/check.py"))
            .env("REAL_HELM", self.tools.helm_program())
            .env("REAL_KUBECTL", &self.kubectl)
            .run()
    }
}

/// The blocks of that language in a page.
fn blocks(page: &str, language: &str) -> Vec<String> {
    let text = fs::read_to_string(root().join(page)).expect("a page");
    let start = format!("```{language}\n");
    let parts = text.split(&start).skip(1);
    let blocks = parts.map(|rest| rest.split("```").next().expect("a block").to_owned());
    blocks.collect()
}

fn run_all(page: &str, least: usize) {
    let Some(clone) = Clone::new() else { return };
    let blocks = blocks(page, "sh");
    assert!(blocks.len() >= least, "{page} has {} blocks", blocks.len());
    for block in blocks {
        println!("{page}:\n{block}");
        let finished = clone.run(&block);
        // The page says that what is stopped ends with 105.
        if block.contains("docker stop") {
            assert!(finished.stdout.ends_with("105\n"), "{}", finished.account());
        }
        finished.expect(0);
    }
}

#[test]
fn commands_of_the_operator_s_page() {
    run_all("docs/operator.md", 6);
}

#[test]
fn commands_of_the_chart_s_pages() {
    run_all("docs/chart.md", 6);
    run_all("charts/volley/README.md", 1);
    run_all("examples/chart/README.md", 1);
    run_all("examples/kubernetes/README.md", 1);
}

#[test]
fn commands_of_the_pages_for_argo() {
    run_all("docs/argo.md", 3);
    run_all("examples/argo/README.md", 1);
}

#[test]
fn commands_of_the_page_about_older_versions() {
    run_all("docs/upgrade.md", 1);
}

#[test]
fn commands_of_the_page_for_docker() {
    run_all("docs/docker.md", 9);
}

/// What Helm prints after an installation; it has no command to show it without a cluster.
#[test]
fn commands_of_the_chart_s_notes() {
    let Some(clone) = Clone::new() else { return };
    let folder = Folder::new();
    let copied = Launch::program("cp", &root())
        .words("-r charts/volley")
        .args([folder.file("volley")])
        .run();
    copied.expect(0);
    let notes = folder.read("volley/templates/NOTES.txt");
    fs::remove_file(folder.file("volley/templates/NOTES.txt")).expect("it was there");
    folder.write(
        "volley/templates/_notes.tpl",
        format!("{{{{- define \"notes\" -}}}}\n{notes}\n{{{{- end -}}}}"),
    );
    folder.write(
        "volley/templates/notes.yaml",
        "apiVersion: v1\nkind: ConfigMap\nmetadata: { name: notes }\ndata: { text: {{ include \"notes\" . | toJson }} }\n",
    );
    for (values, version, says) in [
        ("inline", "1.30.0", "podMonitor.enabled has them scraped"),
        (
            "efs",
            "1.30.0",
            "The outcome as files is on the claim load-results",
        ),
        (
            "image",
            "1.24.0",
            "Kubernetes 1.29: at once, and the others are stopped)",
        ),
    ] {
        let options = format!("template load --namespace here --kube-version {version}");
        let rendered = clone
            .tools
            .helm(&options)
            .args([folder.file("volley")])
            .words(&format!(
                "--show-only templates/notes.yaml --values examples/chart/{values}.yaml"
            ))
            .run()
            .expect(0);
        let object = clone.tools.parse(&rendered.stdout).remove(0);
        let text = object["data"]["text"].as_str().expect("a text").to_owned();
        assert!(text.contains(says), "{text}");
        let commands: Vec<&str> = text.lines().filter(|line| line.starts_with("  ")).collect();
        assert_eq!(commands.len(), 3, "{text}");
        for command in commands {
            assert!(
                command.contains("-n here") && command.contains("load-"),
                "{command}"
            );
            clone.run(command).expect(0);
        }
    }
}

#[test]
fn a_wrong_command_would_be_found() {
    let Some(clone) = Clone::new() else { return };
    for wrong in [
        "docker run --rm -v \"$PWD:/scripts\" volley:dev run /script/script.js",
        "docker run --rm --read-onli volley:dev run script.js",
        "kubectl apply -f examples/kubernetes/none.yaml",
        "kubectl get pods --lable-selector a=b",
        "helm install load charts/volley --set scripts.inline=a",
        "argo submit --from workflowtemplate/volley -p vuz=1",
        "argo submit --from workflowtemplate/none -p vus=1",
        "examples/smoke.sh a b none.js",
    ] {
        let finished = clone.run(wrong);
        assert_ne!(finished.code, 0, "{wrong}: {}", finished.account());
    }
}

/// A link to a file of the repository leads somewhere.
#[test]
fn links_lead_somewhere() {
    let mut links = 0;
    for page in [
        "README.md",
        "docs/argo.md",
        "docs/chart.md",
        "docs/docker.md",
        "docs/image.md",
        "docs/operator.md",
        "charts/volley/README.md",
        "examples/argo/README.md",
        "examples/chart/README.md",
        "examples/kubernetes/README.md",
    ] {
        let page = root().join(page);
        let text = fs::read_to_string(&page).expect("a page");
        for rest in text.split("](").skip(1) {
            let link = rest.split(')').next().expect("an end");
            let (file, heading) = link.split_once('#').unwrap_or((link, ""));
            if file.starts_with("http") {
                continue;
            }
            links += 1;
            let file = match file {
                "" => page.clone(),
                file => page.parent().expect("a folder").join(file),
            };
            assert!(file.exists(), "{}: {link}", page.display());
            if !heading.is_empty() {
                let text = fs::read_to_string(&file).expect("a page");
                let found = text.lines().any(|line| {
                    let Some(title) = line.strip_prefix('#') else {
                        return false;
                    };
                    let title = title.trim_start_matches('#').trim().to_lowercase();
                    title.replace(' ', "-").replace([',', '.', ':'], "") == heading
                });
                assert!(found, "{}: {link}", page.display());
            }
        }
    }
    assert!(links > 15, "{links}");
}
