//! `check FOLDER`: which scripts of a folder run, and what the others need.

mod support;

use std::{net::TcpListener, os::unix::fs::symlink};

use serde_json::{Value, json};
use support::{Finished, Folder, Launch};

const GOOD: &str = "import http from 'k6/http';
import { host } from './lib/host.js';
export const options = { vus: 3, duration: '10s' };
export default function () { http.get(host); }";

fn check(folder: &Folder, arguments: &[&str]) -> Finished {
    let launch = Launch::volley(folder.path()).args(["check", "scripts"]);
    launch.args(arguments).run()
}

/// The report as JSON, and the exit code.
fn report(folder: &Folder, arguments: &[&str]) -> (Value, i32) {
    let finished = check(folder, &[&["--json"], arguments].concat());
    let report = serde_json::from_str(&finished.stdout);
    let report = report.unwrap_or_else(|e| panic!("{e}: {}", finished.account()));
    assert_eq!(finished.stderr, "", "{}", finished.account());
    (report, finished.code)
}

/// Path, verdict, and place and kind of each finding.
fn short(report: &Value) -> Vec<(String, String, Vec<String>)> {
    let text = |value: &Value| value.as_str().expect("a text").to_owned();
    let scripts = report["scripts"].as_array().expect("scripts").iter();
    scripts
        .map(|script| {
            let findings = script["findings"].as_array().expect("findings").iter();
            let findings = findings.map(|finding| {
                let line = match &finding["line"] {
                    Value::Null => String::new(),
                    line => format!(":{line}"),
                };
                format!(
                    "{}{line} {}",
                    text(&finding["file"]),
                    text(&finding["kind"])
                )
            });
            let findings = findings.collect();
            (text(&script["path"]), text(&script["verdict"]), findings)
        })
        .collect()
}

/// The one script of a folder: its verdict, the place and kind of each finding, and their texts.
#[track_caller]
fn one(script: &str, code: i32) -> (String, Vec<String>, Vec<String>) {
    let folder = Folder::with("scripts/test.js", script);
    let (report, ended) = report(&folder, &[]);
    assert_eq!(ended, code, "{report:#}");
    let (_, verdict, findings) = short(&report).pop().expect("a script");
    let texts = report["scripts"][0]["findings"].as_array().expect("a list");
    let texts = texts
        .iter()
        .map(|it| it["text"].as_str().expect("a text").to_owned());
    (verdict, findings, texts.collect())
}

#[test]
fn a_folder_whose_scripts_run_is_clean() {
    let folder = Folder::with("scripts/team/a/test.js", GOOD);
    folder.write(
        "scripts/team/a/lib/host.js",
        "export const host = 'http://127.0.0.1';",
    );
    folder.write(
        "scripts/typed.ts",
        "export default function (data: unknown): void {}",
    );
    folder.write("scripts/old.js", "module.exports.default = function () {};");
    folder.write("scripts/README.md", "no script");
    folder.write("scripts/helpers.js", "export function help() {}");
    folder.write("scripts/node_modules/x/index.js", "export default () => {}");
    // As in the volume of a ConfigMap: links to files, older copies under hidden names, and a
    // link that leads back.
    folder.write("scripts/..data/test.js", "export default ;");
    folder.write("elsewhere.js", "export default () => {}");
    symlink(
        folder.file("elsewhere.js"),
        folder.file("scripts/linked.js"),
    )
    .expect("a link");
    symlink(folder.file("scripts"), folder.file("scripts/again")).expect("a link");
    let archive = "archive scripts/team/a/test.js -O scripts/test.tar";
    Launch::volley(folder.path()).words(archive).run().expect(0);

    let finished = check(&folder, &[]).expect(0);
    let rows: Vec<&str> = finished.stdout.lines().collect();
    let expected = [
        "runs            linked.js  (1 VU, at most 10m30s)",
        "runs            old.js  (1 VU, at most 10m30s)",
        "runs            team/a/test.js  (3 VUs, at most 40s)",
        "runs            test.tar  (3 VUs, at most 40s)",
        "runs            typed.ts  (1 VU, at most 10m30s)",
        "",
        "5 scripts: 5 run; 2 modules",
    ];
    assert_eq!(rows, expected, "{}", finished.account());
    let (report, code) = report(&folder, &[]);
    assert_eq!(code, 0);
    assert_eq!(report["modules"], 2);
    assert_eq!(report["arguments"], json!([]));
    let script = json!({
        "path": "team/a/test.js", "verdict": "runs", "maxVUs": 3, "totalDuration": "40s",
        "findings": [],
    });
    assert_eq!(report["scripts"][2], script);
}

#[test]
fn every_import_that_cannot_be_had_is_named_with_its_line() {
    let folder = Folder::with(
        "scripts/test.js",
        "import redis from 'k6/experimental/redis';
import './lib/more.js';
import { setTimeout } from 'k6/experimental/timers';
export default function () {}",
    );
    folder.write(
        "scripts/lib/more.js",
        "\n\nimport sql from 'k6/x/sql';\nrequire('github.com/a/b.js');",
    );
    let (report, code) = report(&folder, &[]);
    assert_eq!(code, 1);
    let findings = [
        "lib/more.js:3 unsupported",
        "lib/more.js:4 change",
        "test.js:1 change",
        "test.js:3 runs",
    ];
    let findings = findings.map(str::to_owned).to_vec();
    let expected = ("test.js".to_owned(), "unsupported".to_owned(), findings);
    assert_eq!(short(&report), [expected]);
    let finished = check(&folder, &[]).expect(1);
    for line in [
        "unsupported     test.js\n",
        "    lib/more.js:3: the module \"k6/x/sql\" is an extension of k6, and there are none here\n",
        "    test.js:1: k6/experimental/redis has been removed. Please migrate",
        "\n1 script: 1 uses something unsupported; 1 module\n",
    ] {
        assert!(
            finished.stdout.contains(line),
            "{line}{}",
            finished.account()
        );
    }
}

#[test]
fn what_the_top_level_says_is_placed() {
    let syntax = "export default function () {\n  const a = ;\n}";
    let thrown = "const a = 1;\nfunction f() {\n  throw new Error('no config');\n}\nf();\n\
        export default function () {}";
    let missing = "export default function () {}\nconst d = open('./users.json');";
    let options = "export const options = {\n  vus: 'many',\n};\nexport default function () {}";
    for (script, place, words) in [
        (syntax, "test.js:2 change", "Unexpected"),
        (thrown, "test.js:3 change", "Error: no config"),
        (missing, "test.js:2 change", "users.json: no such file"),
        (options, "test.js change", "parsing \"many\""),
    ] {
        let (verdict, findings, texts) = one(script, 1);
        assert_eq!(verdict, "change", "{texts:?}");
        assert_eq!(findings, [place], "{texts:?}");
        assert!(texts[0].contains(words), "{texts:?}");
        assert!(!texts[0].contains("could not initialize"), "{texts:?}");
    }
}

#[test]
fn a_data_file_that_is_missing_is_told_with_what_is_there() {
    let (_, _, texts) = one("open('./users.json'); export default () => {}", 1);
    assert!(texts[0].ends_with("holds: test.js)"), "{texts:?}");
}

#[test]
fn what_fails_later_is_found() {
    let script = "import { check, group } from 'k6';
export default async function () {
  group('a', async () => {});
  const m = await import('./lib.js');
}";
    let (verdict, findings, _) = one(script, 1);
    assert_eq!(verdict, "change");
    assert_eq!(findings, ["test.js:3 change", "test.js:4 change"]);
}

#[test]
fn options_without_effect_are_no_failure() {
    let script = "export const options = {
  vus: 1,
  consoleOutput: 'x',
  ext: { loadimpact: { name: 'a' } },
};
export default function () { console.log(1); }";
    let (verdict, findings, texts) = one(script, 0);
    assert_eq!(verdict, "runs", "{texts:?}");
    assert_eq!(findings, ["test.js:3 runs", "test.js:4 runs"], "{texts:?}");
    assert!(texts[0].contains("consoleOutput"), "{texts:?}");
}

#[test]
fn a_browser_is_unsupported() {
    let script = "export const options = { scenarios: { ui: {
  executor: 'shared-iterations',
  options: { browser: { type: 'chromium' } },
} } };
export default function () {}";
    let (verdict, findings, texts) = one(script, 1);
    assert_eq!(verdict, "unsupported", "{texts:?}");
    assert_eq!(findings, ["test.js:3 unsupported"], "{texts:?}");
}

#[test]
fn nothing_is_fetched() {
    let server = TcpListener::bind("127.0.0.1:0").expect("a port");
    server.set_nonblocking(true).expect("a socket");
    let address = server.local_addr().expect("an address");
    let script = format!("import 'https://{address}/a.js';\nexport default function () {{}}");
    let (verdict, findings, texts) = one(&script, 1);
    assert_eq!(verdict, "unchecked", "{texts:?}");
    assert_eq!(findings, ["test.js:1 unchecked"], "{texts:?}");
    // By a name that only the top level knows.
    let script = format!(
        "const a = 'https://{address}/a.js';\nrequire(a);\nexport {{}}; export default () => 1"
    );
    let (verdict, _, texts) = one(&script, 1);
    assert_eq!(verdict, "change", "{texts:?}");
    assert!(
        texts[0].contains("with --offline nothing is fetched"),
        "{texts:?}"
    );
    assert!(server.accept().is_err(), "somebody came");
}

#[test]
fn variables_come_from_flags_and_from_the_arguments_of_the_resource() {
    let script = "if (__ENV.A !== '1' || __ENV.B !== '2') throw new Error('no variables');
export default function () {}";
    let folder = Folder::with("scripts/test.js", script);
    check(&folder, &[]).expect(1);
    check(&folder, &["-e", "A=1", "--arguments", "--vus 3 -e B=2"]).expect(0);
}

#[test]
fn arguments_of_the_resource_are_checked() {
    let folder = Folder::with("scripts/test.js", "export default function () {}");
    for (arguments, code, words) in [
        (
            "--out prometheus=namespace=k6 --no-usage-report",
            0,
            "1 run",
        ),
        ("--no-summary", 0, "write --summary-mode=disabled"),
        (
            "--logformat raw",
            1,
            "unknown flag: --logformat; did you mean --log-format",
        ),
        (
            "--summary-mode=legacy",
            1,
            "use 'compact', 'full' or 'disabled'",
        ),
        ("--out statsd", 1, "invalid output type 'statsd'"),
    ] {
        let finished = check(&folder, &["--arguments", arguments]).expect(code);
        assert!(finished.stdout.contains(words), "{}", finished.account());
    }
}

#[test]
fn a_folder_without_scripts_and_no_folder() {
    let folder = Folder::with("scripts/lib.js", "export const a = 1;");
    let finished = check(&folder, &[]).expect(0);
    assert_eq!(finished.stdout, "\n0 scripts; 1 module\n");
    let launch = |line: &str| Launch::volley(folder.path()).words(line).run().expect(255);
    let error = launch("check nowhere").error();
    assert_eq!(
        error.msg,
        "could not read the folder 'nowhere': no such file or directory"
    );
    assert_eq!(launch("check").error().msg, "check takes one folder, not 0");
}
