//! Kubernetes objects as the tests see them: read from YAML, checked against their schemas.

use std::path::{Path, PathBuf};

use serde_json::Value;

use super::{Finished, Folder, Launch, peers};

/// The version whose schemas objects are checked against.
pub(crate) const KUBERNETES: &str = "1.30";

/// The root of the repository.
pub(crate) fn root() -> PathBuf {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("..");
    root.canonicalize().expect("the root")
}

/// What `tests/manifests/install.sh` installs.
pub(crate) struct Tools {
    folder: Folder,
    python: PathBuf,
    helm: PathBuf,
}

impl Tools {
    /// `None` where they are not installed.
    pub(crate) fn find() -> Option<Self> {
        let tools = root().join("target/tools");
        let found = Self {
            folder: Folder::new(),
            python: tools.join("venv/bin/python"),
            helm: tools.join("node_modules/.bin/helm"),
        };
        if found.python.exists() && found.helm.exists() {
            return Some(found);
        }
        peers::missing("what tests/manifests/install.sh brings")
    }

    fn check(&self, command: &str) -> Launch {
        let script = root().join("tests/manifests/check.py");
        Launch::program(&self.python, &root())
            .args([&script])
            .words(command)
    }

    /// Every object of a file.
    #[track_caller]
    pub(crate) fn read(&self, file: impl AsRef<Path>) -> Vec<Value> {
        let file = root().join(file);
        let read = self.check("json").args([file]).run().expect(0);
        let objects: Value = serde_json::from_str(&read.stdout).expect("JSON");
        objects.as_array().expect("an array").clone()
    }

    /// Every object of a text.
    #[track_caller]
    pub(crate) fn parse(&self, text: &str) -> Vec<Value> {
        self.read(self.folder.write("text.yaml", text))
    }

    /// Checks every object of the files; answers their kinds and names, one a line.
    #[track_caller]
    pub(crate) fn validate(&self, files: &[PathBuf]) -> String {
        self.validation(files).expect(0).stdout
    }

    /// The same, whatever comes of it.
    #[track_caller]
    pub(crate) fn validation(&self, files: &[PathBuf]) -> Finished {
        let files = files.iter().map(|file| root().join(file));
        self.check(&format!("validate {KUBERNETES}"))
            .args(files)
            .run()
    }

    /// Checks every object of a text.
    #[track_caller]
    pub(crate) fn validate_text(&self, text: &str) -> String {
        self.validate(&[self.folder.write("text.yaml", text)])
    }

    /// The Python that check.py runs in.
    pub(crate) fn python(&self) -> &Path {
        &self.python
    }

    /// Where Helm is.
    pub(crate) fn helm_program(&self) -> &Path {
        &self.helm
    }

    /// Helm, at the root of the repository.
    pub(crate) fn helm(&self, words: &str) -> Launch {
        Launch::program(&self.helm, &root()).words(words)
    }
}

/// Every YAML file below a folder of the repository.
#[track_caller]
pub(crate) fn yaml_files(folder: &str) -> Vec<PathBuf> {
    let (mut folders, mut files) = (vec![root().join(folder)], Vec::new());
    while let Some(folder) = folders.pop() {
        for entry in std::fs::read_dir(folder).expect("a folder") {
            let path = entry.expect("an entry").path();
            if path.is_dir() {
                folders.push(path);
            } else if path.extension().is_some_and(|end| end == "yaml") {
                files.push(path);
            }
        }
    }
    files.sort();
    files
}
