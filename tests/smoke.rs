//! `examples/smoke.sh`, with real agents and a stand-in for kubectl and the operator behind it.

mod support;

use std::{
    fs,
    os::unix::fs::{PermissionsExt, symlink},
};

use support::{
    Finished, Folder, Launch, Target, installed,
    manifests::{Tools, root},
};

/// What kubectl does for the script: a resource is run at once, with the slices of the operator.
/// The image decides what it does differently: `image:fewer` runs one iteration,
/// `image:crossed` crosses a threshold, `image:hangs` never ends.
const KUBECTL: &str = r#"#!/usr/bin/env bash
set -u
case "$*" in
  'create configmap '*)
    cp -r "${4#--from-file=}" "$STATE/scripts" ;;
  'apply -f -')
    cat > "$STATE/resource.yaml"
    of() { sed -n "s/^ *$1: //p" "$STATE/resource.yaml" | head -n 1 | tr -d '"'; }
    cp "$STATE/resource.yaml" "$STATE/$(of name).yaml"
    n=$(of parallelism)
    arguments=$(of arguments)
    case $(of image) in
      *:fewer) arguments='--vus 2 --iterations 2' ;;
      *:crossed) arguments="$arguments -e LEAST=1000" ;;
      *:hangs) exit 0 ;;
    esac
    sequence=0; for i in $(seq 1 "$n"); do sequence=$sequence,$i/$n; done
    sequence=${sequence%,*},1
    for i in $(seq 1 "$n"); do
      # shellcheck disable=SC2086
      k6 run --quiet --execution-segment="$((i - 1))/$n:$i/$n" --execution-segment-sequence="$sequence" \
        $arguments "$STATE/scripts/$(of file)" --tag instance_id="$i" > "$STATE/$(of name)-$i.log" 2>&1
      echo $? > "$STATE/$(of name)-$i.code"
    done ;;
  'get jobs '*)
    name=${4#k6_cr=}
    echo "$name-initializer|1|"
    for code in "$STATE/$name"-*.code; do
      [ -e "$code" ] || continue
      job=$(basename "$code" .code)
      if [ "$(cat "$code")" = 0 ]; then echo "$job|1|"; else echo "$job||1"; fi
    done
    echo "$name-starter|1|" ;;
  'get pods '*)
    name=${4#k6_cr=}
    cat "$STATE/${name%,runner=true}"-*.code ;;
  'logs '*)
    cat "$STATE/${2#job/}.log" ;;
  'delete '*)
    echo "$*" >> "$STATE/deleted" ;;
  *) echo "unexpected: $*" >&2; exit 1 ;;
esac
"#;

const SCRIPT: &str = "
import { check } from 'k6';
import { get } from './client.js';
export const options = {
  vus: 4,
  iterations: 40,
  thresholds: { http_reqs: [`count>=${__ENV.LEAST || 1}`] },
};
export default function () { check(get(), { ok: (r) => r.status === 200 }); }
export function handleSummary() { return {}; }";

fn smoke(folder: &Folder, target: &Target, kind: &str, new: &str) -> Finished {
    let client = format!(
        "import http from 'k6/http';\nexport const get = () => http.get('{}');",
        target.url()
    );
    folder.write("client.js", client);
    folder.write("test.js", SCRIPT);
    let kubectl = folder.write("bin/kubectl", KUBECTL);
    fs::set_permissions(kubectl, fs::Permissions::from_mode(0o755)).expect("a program");
    symlink(env!("CARGO_BIN_EXE_volley"), folder.file("bin/k6")).expect("a link");
    fs::create_dir(folder.file("state")).expect("a folder");
    let mut path = folder.file("bin").into_os_string();
    path.push(":");
    path.push(std::env::var_os("PATH").unwrap_or_default());
    Launch::program(root().join("examples/smoke.sh"), folder.path())
        .words(&format!("image:old {new} test.js client.js"))
        .env("PATH", path)
        .env("STATE", folder.file("state"))
        .env("TMPDIR", folder.path())
        .env("KIND", kind)
        .env("TIMEOUT", "3")
        .run()
}

#[test]
fn the_same_image_agrees_with_itself() {
    let Some(tools) = Tools::find() else { return };
    let target = Target::start().expect("a target");
    for kind in ["TestRun", "K6"] {
        let folder = Folder::new();
        smoke(&folder, &target, kind, "image:new")
            .expect(0)
            .prints("same verdict: exit codes 0 0\n")
            .prints("same metrics: ")
            .prints("about the same http_reqs: 40 and 40\n")
            .prints("about the same iterations: 40 and 40\n")
            .prints("about the same checks: 40 and 40\n");
        // The resources are ones that the operator takes, and nothing of them stays.
        let state = fs::read_dir(folder.file("state")).expect("a folder");
        let resources: Vec<_> = state
            .map(|entry| entry.expect("an entry").path())
            .filter(|path| path.extension().is_some_and(|end| end == "yaml"))
            .collect();
        let valid = tools.validate(&resources);
        // One of each image, and the last one once more.
        assert_eq!(valid.lines().count(), 3, "{valid}");
        assert!(valid.lines().all(|name| name.starts_with(kind)), "{valid}");
        let deleted = folder.read("state/deleted");
        assert_eq!(deleted.lines().count(), 2, "{deleted}");
    }
}

#[test]
fn what_differs_is_told() {
    let (folder, target) = (Folder::new(), Target::start().expect("a target"));
    smoke(&folder, &target, "TestRun", "image:fewer")
        .expect(1)
        .prints("same verdict")
        .prints("DIFFERENT http_reqs: 40 and 2, over 10 % apart\n");
    let folder = Folder::new();
    smoke(&folder, &target, "K6", "image:crossed")
        .expect(1)
        .prints("DIFFERENT verdict: exit codes 0 0 and 99 99\n")
        .prints("about the same http_reqs");
    let folder = Folder::new();
    let hung = smoke(&folder, &target, "TestRun", "image:hangs").expect(2);
    assert!(
        hung.stderr.contains("has not ended after 3 s"),
        "{}",
        hung.account()
    );
    assert!(folder.read("state/deleted").contains("-new"));
}

#[test]
fn shell_scripts_are_clean() {
    let Some(shellcheck) = installed("shellcheck") else {
        return;
    };
    Launch::program(shellcheck, &root())
        .words("examples/smoke.sh tests/manifests/install.sh .ci/run")
        .run()
        .expect(0);
}
