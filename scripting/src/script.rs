//! A script: its files, its compiled modules, what it exports. Shared by all VUs of the process.

use std::{
    collections::{BTreeMap, BTreeSet, HashMap},
    rc::Rc,
    sync::{Arc, Mutex, OnceLock},
};

use prost_reflect::DescriptorPool;

use crate::{
    error::ScriptError,
    graph::Graph,
    host::Host,
    loader::Files,
    modules::data::Shared,
    state::{VuSettings, WorkerContext},
    vu::Vu,
};

/// What a script is made from.
pub struct ScriptSource {
    /// URL of the main module, `file:///dir/script.js`.
    pub url: String,
    /// URL of the folder that `open()` starts from, `file:///dir`.
    pub pwd: String,
    /// The main module's text.
    pub code: Arc<[u8]>,
    /// Everything else.
    pub files: Files,
    /// `__ENV`.
    pub env: Vec<(String, String)>,
    /// Whether there is a global `global` (compatibility mode `extended`).
    pub extended: bool,
}

/// What the first init found in the main module.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Exports {
    /// Names of exported functions.
    pub functions: Vec<String>,
    /// Names of other exports.
    pub others: Vec<String>,
    /// The exported `options` as JSON; `None` when there are none.
    pub options: Option<serde_json::Value>,
}

impl Exports {
    /// Whether a function of that name is exported.
    pub fn has(&self, name: &str) -> bool {
        self.functions.iter().any(|known| known == name)
    }
}

/// A script, ready to be run by VUs.
pub struct Script {
    url: String,
    pwd: String,
    files: Files,
    env: Vec<(String, String)>,
    extended: bool,
    graph: Mutex<Graph>,
    /// What has been said once and need not be said again.
    said: Mutex<BTreeSet<String>>,
    shared_arrays: Mutex<HashMap<String, Arc<Shared>>>,
    /// Descriptions of messages and services, by what they were made of.
    descriptors: Mutex<HashMap<Box<[u8]>, DescriptorPool>>,
    exports: OnceLock<Exports>,
    /// Which of [`RARE_WORDS`] any of the files has as a word; known after the first init.
    mentions: OnceLock<[bool; RARE_WORDS.len()]>,
}

/// Words that most scripts never use, and that need something in each VU: three globals, a
/// function that gives `error.stack` its form, a `Math.random` of our own.
pub(crate) const RARE_WORDS: [&str; 5] = ["require", "module", "exports", "stack", "randomSeed"];

impl Script {
    /// Takes the source; nothing is compiled yet.
    pub fn new(source: ScriptSource) -> Arc<Self> {
        source.files.insert(&source.url, source.code);
        // Sorted, and of equal names the last: that is how it is searched.
        let env: BTreeMap<String, String> = source.env.into_iter().collect();
        Arc::new(Self {
            url: source.url,
            pwd: source.pwd,
            files: source.files,
            env: env.into_iter().collect(),
            extended: source.extended,
            graph: Mutex::default(),
            said: Mutex::default(),
            shared_arrays: Mutex::default(),
            descriptors: Mutex::default(),
            exports: OnceLock::new(),
            mentions: OnceLock::new(),
        })
    }

    /// The first init: resolves and compiles every module, reads every file, finds the exports.
    /// Must run on a worker thread.
    ///
    /// # Errors
    /// When a module cannot be loaded, its top level throws, or nothing runnable is exported.
    pub async fn load(
        self: &Arc<Self>,
        worker: Rc<WorkerContext>,
        host: Arc<dyn Host>,
    ) -> Result<Exports, ScriptError> {
        let settings = Arc::new(VuSettings::default());
        let (vu, exports) = Vu::first(self.clone(), worker, host, settings).await?;
        vu.close().await;
        self.files.close();
        let files = self.files.all();
        // Of everything that was read: text may be run that never was a module.
        let mentions = RARE_WORDS.map(|word| files.values().any(|file| mentions(file, word)));
        let _ = self.mentions.set(mentions);
        if exports.functions.is_empty() {
            return Err(ScriptError::Invalid(
                "no exported functions in script".to_owned(),
            ));
        }
        for name in ["setup", "teardown"] {
            if exports.others.iter().any(|other| other == name) {
                return Err(ScriptError::Invalid(format!(
                    "exported '{name}' must be a function"
                )));
            }
        }
        Ok(self.exports.get_or_init(|| exports).clone())
    }

    /// What the first init found; empty before it.
    pub fn exports(&self) -> Exports {
        self.exports.get().cloned().unwrap_or_default()
    }

    /// URL of the main module.
    pub fn url(&self) -> &str {
        &self.url
    }

    /// The main module's text.
    pub fn source(&self) -> Arc<[u8]> {
        // It was put there first of all, and nothing takes it away.
        self.files.read(&self.url).unwrap_or_default()
    }

    /// URL of the folder `open()` starts from.
    pub fn pwd(&self) -> &str {
        &self.pwd
    }

    /// The script's files.
    pub fn files(&self) -> &Files {
        &self.files
    }

    /// `__ENV`, sorted by name.
    pub fn env(&self) -> &[(String, String)] {
        &self.env
    }

    pub(crate) fn extended(&self) -> bool {
        self.extended
    }

    /// Whether a word of [`RARE_WORDS`] is used; taken for granted in the first init.
    pub(crate) fn uses(&self, name: &str) -> bool {
        let at = RARE_WORDS.iter().position(|known| *known == name);
        match (self.mentions.get(), at) {
            (Some(mentions), Some(at)) => mentions[at],
            _ => true,
        }
    }

    /// Looks at, or adds to, what is known of the modules. No script runs meanwhile.
    pub(crate) fn graph<T>(&self, look: impl FnOnce(&mut Graph) -> T) -> T {
        look(&mut self.graph.lock().unwrap_or_else(|e| e.into_inner()))
    }

    /// Whether this is the first time in the process that this is to be said.
    pub(crate) fn first_time(&self, what: &str) -> bool {
        let mut said = self.said.lock().unwrap_or_else(|e| e.into_inner());
        said.insert(what.to_owned())
    }

    pub(crate) fn shared_array(&self, name: &str) -> Option<Arc<Shared>> {
        let arrays = self.shared_arrays.lock().unwrap_or_else(|e| e.into_inner());
        arrays.get(name).cloned()
    }

    /// The descriptions that are known under that key; the first who asks makes them, and others wait
    /// for that.
    ///
    /// # Errors
    /// Those of `make`.
    pub(crate) fn descriptors(
        &self,
        key: &[u8],
        make: impl FnOnce() -> Result<DescriptorPool, String>,
    ) -> Result<DescriptorPool, String> {
        let mut known = self.descriptors.lock().unwrap_or_else(|e| e.into_inner());
        if let Some(pool) = known.get(key) {
            return Ok(pool.clone());
        }
        let pool = make()?;
        known.insert(key.into(), pool.clone());
        Ok(pool)
    }

    /// Keeps the array unless another VU was faster; answers the one that counts.
    pub(crate) fn keep_shared_array(&self, name: String, array: Shared) -> Arc<Shared> {
        let mut arrays = self.shared_arrays.lock().unwrap_or_else(|e| e.into_inner());
        arrays
            .entry(name)
            .or_insert_with(|| Arc::new(array))
            .clone()
    }
}

fn mentions(file: &[u8], word: &str) -> bool {
    file.utf8_chunks().any(|chunk| chunk.valid().contains(word))
}

#[cfg(test)]
mod tests {
    use super::mentions;

    #[test]
    fn words_are_found_beside_bytes_that_are_no_text() {
        assert!(mentions(b"\xff\xferequire('k6')", "require"));
        assert!(!mentions(b"req\xffuire", "require"));
    }
}
