//! Rules of the workspace that show in its files.

use std::{
    collections::{BTreeMap, BTreeSet},
    fs,
    path::{Path, PathBuf},
};

/// The members, and the members that each may depend on.
const ARROWS: &[(&str, &[&str])] = &[
    ("metrics", &[]),
    ("net", &[]),
    ("scripting", &["metrics", "net"]),
    ("runner", &["metrics", "net", "scripting"]),
];

fn root() -> &'static Path {
    Path::new(concat!(env!("CARGO_MANIFEST_DIR"), "/.."))
}

#[track_caller]
fn read(path: impl AsRef<Path>) -> String {
    let path = root().join(path);
    fs::read_to_string(&path).unwrap_or_else(|e| panic!("{}: {e}", path.display()))
}

/// Every Rust file below a folder; none where there is no such folder.
fn rust_files(folder: &str) -> Vec<PathBuf> {
    let (mut folders, mut files) = (vec![root().join(folder)], Vec::new());
    while let Some(folder) = folders.pop() {
        for entry in fs::read_dir(folder).into_iter().flatten() {
            let path = entry.expect("an entry").path();
            if path.is_dir() {
                folders.push(path);
            } else if path.extension().is_some_and(|extension| extension == "rs") {
                files.push(path);
            }
        }
    }
    files
}

/// Every Rust file that is ours.
fn all_rust_files() -> Vec<PathBuf> {
    let members = ARROWS.iter().map(|(member, _)| *member);
    let files: Vec<PathBuf> = members
        .chain(["tests", "benches"])
        .flat_map(rust_files)
        .collect();
    assert!(files.len() > 50, "{} files", files.len());
    files
}

/// The names of all dependencies of a manifest, of whichever kind.
fn dependencies(manifest: &str) -> BTreeSet<String> {
    let mut names = BTreeSet::new();
    let mut inside = false;
    for line in manifest.lines().map(str::trim) {
        if let Some(section) = line.strip_prefix('[') {
            let section = section.trim_end_matches(']');
            inside = section.ends_with("dependencies");
            // A table of its own: `[dependencies.name]`.
            if let Some((_, name)) = section.split_once("dependencies.") {
                names.insert(name.to_owned());
            }
        } else if inside && !line.is_empty() && !line.starts_with('#') {
            let name = line.split(['.', ' ', '=']).next().unwrap_or_default();
            names.insert(name.trim_matches('"').to_owned());
        }
    }
    names
}

#[test]
fn arrows_between_crates_hold() {
    for (member, allowed) in ARROWS {
        let names = dependencies(&read(format!("{member}/Cargo.toml")));
        assert!(names.len() > 3, "{member}: {names:?}");
        let ours: BTreeSet<&str> = names
            .iter()
            .filter_map(|name| name.strip_prefix("volley-"))
            .collect();
        let expected: BTreeSet<&str> = allowed.iter().copied().collect();
        assert_eq!(ours, expected, "{member}");
    }
}

#[test]
fn every_member_is_known_here_and_keeps_the_lints() {
    let workspace = read("Cargo.toml");
    let members = workspace
        .lines()
        .find_map(|line| line.strip_prefix("members = ["))
        .expect("a line of members");
    let members: BTreeSet<&str> = members
        .trim_end_matches(']')
        .split(',')
        .map(|name| name.trim().trim_matches('"'))
        .collect();
    let known: BTreeSet<&str> = ARROWS.iter().map(|(member, _)| *member).collect();
    assert_eq!(members, known);
    assert!(workspace.contains("\nunsafe_code = \"deny\""));
    for member in members {
        let manifest = read(format!("{member}/Cargo.toml"));
        assert!(manifest.contains("[lints]\nworkspace = true\n"), "{member}");
    }
}

#[test]
fn unsafe_code_is_in_one_file_of_a_crate_at_most() {
    // The lint is denied for all; this is how a file opens it again.
    let openings = ["allow", "warn", "expect"].map(|level| format!("{level}(unsafe_code"));
    let opens = |file: &PathBuf| {
        let text = read(file);
        openings.iter().any(|opening| text.contains(opening))
    };
    let members = ARROWS.iter().map(|(member, _)| *member);
    for member in members.chain(["fuzz"]) {
        let open: Vec<PathBuf> = rust_files(member).into_iter().filter(opens).collect();
        assert!(open.len() <= 1, "{member}: {open:?}");
    }
    for folder in ["tests", "benches"] {
        let open: Vec<PathBuf> = rust_files(folder).into_iter().filter(opens).collect();
        assert!(open.is_empty(), "{open:?}");
    }
}

#[test]
fn no_test_is_switched_off() {
    // In two parts, for this file is read too.
    let (ignore, only) = (concat!("#[", "ignore"), concat!("ignore", " = \""));
    for file in all_rust_files() {
        let text = read(&file);
        assert!(
            !text.contains(ignore) && !text.contains(only),
            "{}",
            file.display()
        );
    }
}

#[test]
fn every_file_of_tests_is_run() {
    let manifest = read("runner/Cargo.toml");
    let files = fs::read_dir(root().join("tests")).expect("the tests");
    let mut seen = 0;
    for file in files {
        let name = file.expect("an entry").file_name();
        let name = name.to_string_lossy();
        if name.ends_with(".rs") {
            let line = format!("path = \"../tests/{name}\"");
            assert!(
                manifest.contains(&line),
                "{name} is no target of the runner"
            );
            seen += 1;
        }
    }
    assert!(seen >= 6, "{seen}");
}

#[test]
fn workflows_name_the_version_of_each_action() {
    let mut seen = 0;
    for file in fs::read_dir(root().join(".github/workflows")).expect("workflows") {
        let file = file.expect("an entry").path();
        for line in read(&file).lines() {
            let Some((_, action)) = line.split_once("uses: ") else {
                continue;
            };
            seen += 1;
            let version = action.split_once("@v").map(|(_, version)| version);
            let numbers = version.unwrap_or_default().split('.');
            let numbers: Result<Vec<u32>, _> = numbers.map(str::parse).collect();
            let whole = numbers.is_ok_and(|numbers| numbers.len() == 3);
            assert!(whole, "{}: {action}: as in @v1.2.3", file.display());
        }
    }
    assert!(seen >= 6, "{seen}");
}

#[test]
fn every_fuzz_target_is_built_and_has_seeds() {
    let manifest = read("fuzz/Cargo.toml");
    let mut seen = 0;
    for file in rust_files("fuzz/targets") {
        let name = file.file_stem().expect("a name").to_string_lossy();
        let line = format!("path = \"targets/{name}.rs\"");
        assert!(manifest.contains(&line), "{name} is not in fuzz/Cargo.toml");
        let seeds = fs::read_dir(root().join(format!("fuzz/seeds/{name}")));
        let seeds = seeds.unwrap_or_else(|e| panic!("fuzz/seeds/{name}: {e}"));
        assert!(seeds.count() > 3, "{name} has hardly a seed");
        seen += 1;
    }
    assert!(seen >= 6, "{seen}");
}

// === Variables ===

/// Names that begin with one of the prefixes, found between the marks in a text.
fn names(text: &str, mark: char) -> BTreeSet<String> {
    let mut names = BTreeSet::new();
    for prefix in ["K6_", "VOLLEY_"] {
        let begin = format!("{mark}{prefix}");
        for rest in text.split(&begin).skip(1) {
            let (name, _) = rest.split_once(mark).unwrap_or_default();
            let plain = |c: char| c.is_ascii_uppercase() || c.is_ascii_digit() || c == '_';
            if !name.is_empty() && name.chars().all(plain) {
                names.insert(format!("{prefix}{name}"));
            }
        }
    }
    names
}

#[test]
fn every_variable_is_documented() {
    let mut read_here: BTreeMap<String, PathBuf> = BTreeMap::new();
    for file in ["runner/src", "metrics/src", "tests"]
        .into_iter()
        .flat_map(rust_files)
    {
        for name in names(&read(&file), '"') {
            read_here.entry(name).or_insert_with(|| file.clone());
        }
    }
    assert!(read_here.len() > 50, "{}", read_here.len());
    let page = read("docs/environment.md");
    let documented = names(&page, '`');
    for (name, file) in &read_here {
        assert!(
            documented.contains(name),
            "docs/environment.md does not list {name} of {}",
            file.display()
        );
    }
    // And the page speaks of no variable that nobody reads, but where it says so.
    let (with_effect, _) = page
        .split_once("\n## Without effect\n")
        .expect("a part about variables without effect");
    for name in names(with_effect, '`') {
        assert!(read_here.contains_key(&name), "nobody reads {name}");
    }
}
