//! The list of the API (`modules/api.txt`) against what there is, and the documentation against it.

use super::{Rig, load_error, on_worker};

const LIST: &str = include_str!("../modules/api.txt");
const DOCUMENT: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../docs/compatibility.md");
const GUIDE: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../docs/upgrade.md");
const BEGIN: &str = "<!-- made from scripting/src/modules/api.txt -->\n";
const END: &str = "<!-- end -->\n";
const REFUSED: &str = "not supported by this version of Volley";

/// How much there is of a module or a name.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum State {
    There,
    /// It says that it is not supported.
    Refuses,
    Missing,
}

struct Row {
    module: &'static str,
    state: State,
    names: Vec<(&'static str, State)>,
}

impl Row {
    fn with(&self, state: State) -> Vec<&'static str> {
        let names = self.names.iter().filter(|(_, known)| *known == state);
        names.map(|(name, _)| *name).collect()
    }
}

fn marked(word: &'static str) -> (&'static str, State) {
    match (word.strip_prefix('-'), word.strip_prefix('!')) {
        (Some(name), _) => (name, State::Missing),
        (_, Some(name)) => (name, State::Refuses),
        _ => (word, State::There),
    }
}

fn rows() -> Vec<Row> {
    LIST.lines()
        .filter(|line| !line.starts_with('#'))
        .map(|line| {
            let (module, names) = line.split_once(':').expect("module: names");
            let (module, state) = marked(module);
            let names = names.split_whitespace().map(marked).collect();
            Row {
                module,
                state,
                names,
            }
        })
        .collect()
}

fn modules() -> impl Iterator<Item = Row> {
    rows().into_iter().filter(|row| row.module != "globals")
}

/// Runs one iteration, answers the log.
fn run(source: &str) -> Vec<String> {
    on_worker(async {
        let rig = Rig::new(source);
        rig.load().await.unwrap();
        let mut vu = rig.vu().await.unwrap();
        vu.activate(Rig::activation(None)).await;
        rig.lines();
        vu.iterate(0, 0).await;
        vu.close().await;
        rig.lines()
    })
}

#[test]
fn modules_export_what_the_list_says() {
    for row in modules() {
        let module = row.module;
        if row.state == State::Missing {
            let text = load_error(&format!("import '{module}'; export default () => 1"));
            assert!(
                text.contains(REFUSED),
                "{module} is there; the list says it is not: {text}"
            );
            continue;
        }
        let lines = run(&format!(
            "import * as names from '{module}'; import whole from '{module}';
             export default () => console.log(typeof whole, ...Object.keys(names).sort());"
        ));
        let mut expected: Vec<&str> = row.with(State::There);
        expected.extend(row.with(State::Refuses));
        expected.sort_unstable();
        expected.insert(0, "object");
        assert_eq!(lines, [expected.join(" ")], "{module}");
    }
}

#[test]
fn functions_refuse_where_the_list_says() {
    for row in modules().filter(|row| row.state == State::There) {
        let module = row.module;
        // Called with nothing: what is supported complains about that, or does it.
        let lines = run(&format!(
            "import * as names from '{module}';
             const texts = async (f) => {{
               const all = [];
               for (const call of [() => f(), () => new f()])
                 try {{ await call() }} catch (e) {{ all.push(String(e)) }}
               return all.join();
             }};
             export default async () => {{
               const refused = [];
               for (const name of Object.keys(names).sort())
                 if (typeof names[name] === 'function' && (await texts(names[name])).includes('{REFUSED}'))
                   refused.push(name);
               console.log('refused', ...refused);
             }}"
        ));
        let mut expected = vec!["refused"];
        expected.extend(row.with(State::Refuses));
        let found = lines.iter().find(|line| line.starts_with("refused"));
        assert_eq!(found, Some(&expected.join(" ")), "{module}: {lines:?}");
    }
}

#[test]
fn globals_are_what_the_list_says() {
    let row = rows().into_iter().find(|row| row.module == "globals");
    let row = row.expect("a row of globals");
    for (name, state) in &row.names {
        let lines = run(&format!(
            "export default () => console.log('{name}' in globalThis)"
        ));
        assert_eq!(lines, [(*state == State::There).to_string()], "{name}");
    }
}

#[test]
fn names_are_in_order_and_once() {
    let all = rows();
    for (before, after) in all.iter().zip(&all[1..]) {
        assert!(
            before.module < after.module || after.module == "globals",
            "{} before {}",
            before.module,
            after.module
        );
    }
    for row in &all {
        for pair in row.names.windows(2) {
            assert!(pair[0].0 < pair[1].0, "{}: {:?}", row.module, pair);
        }
    }
}

#[test]
fn the_guide_for_upgrades_names_every_module_that_is_gone() {
    let guide = std::fs::read_to_string(GUIDE).expect("the guide");
    for name in crate::modules::former_names() {
        assert!(guide.contains(&format!("`{name}`")), "{name}");
    }
}

/// The table of the documentation.
fn table() -> String {
    let list = |names: Vec<&str>| -> String {
        // Constants of one family are one entry.
        let mut entries: Vec<String> = Vec::new();
        for name in names {
            let family = [
                "OCSP_REASON_",
                "OCSP_STATUS_",
                "TLS_1_",
                "Status",
                "HealthCheck",
            ]
            .into_iter()
            .find(|family| name.starts_with(family));
            let entry = match family {
                Some(family) => format!("`{family}*`"),
                None => format!("`{name}`"),
            };
            if entries.last() != Some(&entry) {
                entries.push(entry);
            }
        }
        entries.join(" ")
    };
    let mut table = "| module | there | not yet |\n|---|---|---|\n".to_owned();
    for row in rows() {
        let module = match row.module {
            "globals" => "globals".to_owned(),
            module => format!("`{module}`"),
        };
        let (there, missing) = if row.state == State::Missing {
            let names = list(row.names.iter().map(|(name, _)| *name).collect());
            (String::new(), format!("the module: {names}"))
        } else {
            let mut missing = list(row.with(State::Missing));
            let refuses = row.with(State::Refuses);
            if !refuses.is_empty() {
                let refuses = list(refuses);
                missing = format!("{missing} throw when called: {refuses}");
            }
            (list(row.with(State::There)), missing)
        };
        let line = format!("| {module} | {there} | {missing} |");
        // Cells may be empty, and lists of names too.
        let line = line.replace(": |", " |");
        table.push_str(&format!(
            "{}\n",
            line.split_whitespace().collect::<Vec<_>>().join(" ")
        ));
    }
    table
}

/// `UPDATE_DOCS=1 cargo test -p volley-scripting` writes it anew.
#[test]
fn the_documentation_has_the_list() {
    let document = std::fs::read_to_string(DOCUMENT).expect("the documentation");
    let (head, rest) = document.split_once(BEGIN).expect("the begin of the table");
    let (written, tail) = rest.split_once(END).expect("the end of the table");
    let table = table();
    if std::env::var_os("UPDATE_DOCS").is_some() {
        let document = format!("{head}{BEGIN}{table}{END}{tail}");
        std::fs::write(DOCUMENT, document).expect("a place for the documentation");
        return;
    }
    assert_eq!(
        written, table,
        "docs/compatibility.md is old: UPDATE_DOCS=1 cargo test -p volley-scripting documentation"
    );
}
