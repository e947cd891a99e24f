//! Scripts on a volume that is slow, late or large: what is not there yet is waited for, and the
//! REST API answers all the while.

mod support;

use std::{
    fs::File,
    path::Path,
    process::Command,
    time::{Duration, Instant},
};

use support::{Folder, Launch, Running, free_port, request, until};

/// For one request: a bound for hangs.
const LIMIT: Duration = Duration::from_secs(30);

/// Each kind of file that a script is made of, missing at first: what is run, what is there, and
/// what comes late.
const PARTS: [(&str, &str, &str); 4] = [
    ("the script", "", "script.js"),
    (
        "a module",
        "import './lib/late.js'; export default function () {}",
        "lib/late.js",
    ),
    (
        "data",
        "JSON.parse(open('./data/late.json')); export default function () {}",
        "data/late.json",
    ),
    (
        "a file",
        "import { open } from 'k6/experimental/fs';
         await open('data/late.csv'); export default function () {}",
        "data/late.csv",
    ),
];

/// A folder with everything but the late file.
fn without(script: &str) -> Folder {
    let folder = Folder::with("lib/other.js", "");
    folder.write("data/other.json", "");
    if !script.is_empty() {
        folder.write("script.js", script);
    }
    folder
}

/// A file that is there as a whole or not at all.
fn appear(folder: &Folder, name: &str, content: impl AsRef<[u8]>) {
    let whole = folder.write("whole", content);
    std::fs::rename(whole, folder.file(name)).expect("a file");
}

#[test]
fn a_file_that_appears_late_is_found() {
    let runs = PARTS.map(|(what, script, late)| {
        let folder = without(script);
        let launch = Launch::volley(folder.path()).words("run -q script.js");
        (
            what,
            late,
            launch.env("VOLLEY_FILE_WAIT", "60s").start(),
            folder,
        )
    });
    std::thread::sleep(Duration::from_millis(500));
    for (what, late, mut run, folder) in runs {
        assert!(!run.has_ended(), "{what}: {}", run.stderr());
        let content = match late.ends_with(".json") {
            true => "{}",
            false => "export default function () {}",
        };
        appear(&folder, late, content);
        run.finish().expect(0);
    }
}

#[test]
fn an_archive_that_appears_late_is_found() {
    let made = Folder::with("script.js", "export default function () {}");
    let archive = Launch::volley(made.path()).words("archive script.js -O test.tar");
    archive.run().expect(0);
    let folder = Folder::new();
    let run = Launch::volley(folder.path())
        .words("run -q test.tar")
        .env("VOLLEY_FILE_WAIT", "60s")
        .start();
    std::thread::sleep(Duration::from_millis(500));
    let content = std::fs::read(made.file("test.tar")).expect("an archive");
    appear(&folder, "test.tar", content);
    run.finish().expect(0);
}

/// Asks for the status until the program ends; answers how often it was told.
#[track_caller]
fn answers_until_the_end(run: &mut Running, port: u16) -> usize {
    run.until("an API", |_| status(port).ok());
    let mut answers = 0;
    loop {
        match status(port) {
            Ok(()) => answers += 1,
            // Nobody answers only when nobody is there.
            Err(error) => {
                until("its end", || run.has_ended().then_some(()));
                println!("{answers} answers, then {error}");
                return answers;
            }
        }
        std::thread::sleep(Duration::from_millis(20));
    }
}

fn status(port: u16) -> std::io::Result<()> {
    let reply = request(port, "GET", "/v1/status", None, LIMIT)?;
    assert_eq!(reply.status, 200, "{}", reply.body);
    Ok(())
}

#[test]
fn a_file_that_never_appears_is_told_with_what_is_there() {
    for (what, script, late) in PARTS {
        let folder = without(script);
        let port = free_port();
        let started = Instant::now();
        let mut run = Launch::volley(folder.path())
            .words(&format!("run -q script.js --address 127.0.0.1:{port}"))
            .env("VOLLEY_FILE_WAIT", "2s")
            .start();
        let answers = answers_until_the_end(&mut run, port);
        assert!(started.elapsed() >= Duration::from_secs(2), "{what}");
        assert!(answers > 0, "{what}");
        let finished = run.finish();
        let finished = finished.expect(if script.is_empty() { 255 } else { 107 });
        let error = finished.error();
        let told = error.field("missing").unwrap_or(&error.msg);
        let path = folder.file(late);
        let (path, parent) = (path.display(), path.parent().expect("a folder").display());
        let there = match late {
            "script.js" => "data/, lib/",
            "lib/late.js" => "other.js",
            _ => "other.json",
        };
        let account = format!("{path} is not there after a wait of 2 s; {parent} holds: {there}");
        assert!(told.contains(&account), "{what}: {told}");
    }
}

#[test]
fn a_file_that_is_missing_does_not_leave_other_runners_waiting() {
    let folder = without("import './lib/late.js'; export default function () {}");
    let port = free_port();
    let mut run = Launch::volley(folder.path())
        .words(&format!(
            "run script.js --paused --address 127.0.0.1:{port}"
        ))
        .env("VOLLEY_FILE_WAIT", "100ms")
        .start();
    run.until_logged("lib holds: other.js");
    status(port).expect("an answer");
    assert!(!run.has_ended());
    let start = r#"{"data":{"attributes":{"paused":false},"id":"default","type":"status"}}"#;
    request(port, "PATCH", "/v1/status", Some(start), LIMIT).expect("an answer");
    run.finish().expect(107);
}

#[test]
fn whoever_stops_it_does_not_wait_for_the_file() {
    let stop = r#"{"data":{"attributes":{"stopped":true},"id":"default","type":"status"}}"#;
    for script in ["", "import './lib/late.js'; export default function () {}"] {
        let folder = without(script);
        let port = free_port();
        let mut run = Launch::volley(folder.path())
            .words(&format!("run -q script.js --address 127.0.0.1:{port}"))
            .env("VOLLEY_FILE_WAIT", "1h")
            .start();
        run.until("an API", |_| status(port).ok());
        request(port, "PATCH", "/v1/status", Some(stop), LIMIT).expect("an answer");
        run.finish().expect(103);
    }
}

#[test]
fn the_wait_is_for_all_files_together() {
    // Each alone would take an hour, and all together the two seconds that are given.
    let script = "for (let n = 0; n < 1800; n += 1) try { open(`./no${n}.json`) } catch (e) {}
        export default function () {}";
    let folder = without(script);
    let run = Launch::volley(folder.path()).words("run -q script.js");
    run.env("VOLLEY_FILE_WAIT", "2s").run().expect(0);
}

#[test]
fn a_wait_that_is_no_duration_is_refused() {
    let folder = without("export default function () {}");
    let run = Launch::volley(folder.path()).words("run -q script.js");
    let finished = run.env("VOLLEY_FILE_WAIT", "long").run().expect(255);
    assert!(finished.error().msg.starts_with("VOLLEY_FILE_WAIT: time: "));
}

/// Opening it hangs until somebody writes, as opening a file hangs whose server does not answer.
fn hanging(path: &Path) {
    let made = Command::new("mkfifo").arg(path).status();
    assert!(made.expect("mkfifo").success());
}

#[test]
fn an_open_that_hangs_does_not_keep_the_api_from_answering() {
    for (what, script, late) in PARTS {
        let folder = without(script);
        hanging(&folder.file(late));
        let port = free_port();
        let mut run = Launch::volley(folder.path())
            .words(&format!("run -q script.js --address 127.0.0.1:{port}"))
            .start();
        run.until("an API", |_| status(port).ok());
        for _ in 0..20 {
            status(port).expect("an answer");
            std::thread::sleep(Duration::from_millis(20));
        }
        assert!(!run.has_ended(), "{what}: {}", run.stderr());
        let content = match late.ends_with(".json") {
            true => "{}",
            false => "export default function () {}",
        };
        // Waits until the program opens it.
        std::fs::write(folder.file(late), content).expect("a reader");
        run.finish().expect(0);
    }
}

#[test]
fn an_open_that_hangs_can_be_ended_by_a_signal() {
    let folder = without("");
    hanging(&folder.file("script.js"));
    let port = free_port();
    let mut run = Launch::volley(folder.path())
        .words(&format!("run -q script.js --address 127.0.0.1:{port}"))
        .start();
    run.until("an API", |_| status(port).ok());
    run.terminate();
    run.finish().expect(105);
}

// === A large script ===

const MODULES: usize = 40;
/// Of all files together.
const BYTES: usize = 3_000_000;

/// A script of 40 modules, each of which has a table and imports the next but one; what it prints.
fn large(folder: &Folder) -> String {
    let mut imports = String::new();
    let mut rows = 0;
    for n in 0..MODULES {
        let mut text = match n + 2 < MODULES {
            true => format!("import {{ size as next }} from './m{}.js';\n", n + 2),
            false => "const next = 0;\n".to_owned(),
        };
        text.push_str("const rows = [\n");
        let mut own = 0;
        while text.len() < BYTES / MODULES {
            text.push_str(&format!(
                "  {{ id: {own}, name: 'row {own} of module {n}', tags: ['a', 'b'], f: (x) => x + {own} }},\n"
            ));
            own += 1;
        }
        text.push_str("];\nexport const size = rows.length;\nexport const seen = () => next;\n");
        folder.write(&format!("lib/m{n}.js"), text);
        imports.push_str(&format!("import * as m{n} from 'LIB/m{n}.js';\n"));
        rows += own;
    }
    let all: Vec<String> = (0..MODULES).map(|n| format!("m{n}")).collect();
    let script = format!(
        "{imports}const all = [{}];
        const users = JSON.parse(open('DATA/users.json'));
        export default function () {{
          const rows = all.reduce((sum, m) => sum + m.size, 0);
          console.log(rows, all[0].seen() === all[2].size, users.length);
        }}",
        all.join(", ")
    );
    let here = folder.path().display().to_string();
    folder.write("data/users.json", "[1, 2, 3]");
    folder.write(
        "script.js",
        script.replace("LIB", "./lib").replace("DATA", "./data"),
    );
    // Modules of a script from standard input start at the root, as in k6.
    let absolute = script.replace("LIB", &format!("{here}/lib"));
    folder.write("stdin.js", absolute.replace("DATA", "./data"));
    format!("{rows} true 3")
}

#[test]
fn a_large_script_runs_from_a_folder_an_archive_and_standard_input() {
    let folder = Folder::new();
    let expected = large(&folder);
    let run = |line: &str| Launch::volley(folder.path()).words(line);
    let stdin = |name: &str| File::open(folder.file(name)).expect("a file");
    let archived = run("archive script.js -O test.tar").run().expect(0);
    assert_eq!(archived.stdout, "");
    let archive = std::fs::metadata(folder.file("test.tar")).expect("an archive");
    assert!(archive.len() > BYTES as u64, "{}", archive.len());
    let ways = [
        ("a folder", run("run -q -u 3 -i 3 script.js")),
        ("an archive", run("run -q -u 3 -i 3 test.tar")),
        (
            "an archive from stdin",
            run("run -q -u 3 -i 3 -").stdin(stdin("test.tar")),
        ),
        ("stdin", run("run -q -u 3 -i 3 -").stdin(stdin("stdin.js"))),
    ];
    for (what, launch) in ways {
        let finished = launch.run().expect(0);
        let said: Vec<String> = finished.log().into_iter().map(|line| line.msg).collect();
        assert_eq!(said, vec![expected.clone(); 3], "{what}");
    }
}
