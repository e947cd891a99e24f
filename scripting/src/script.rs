//! A script: its files, its compiled modules, what it exports. Shared by all VUs of the process.

use std::{
    collections::{BTreeMap, HashMap},
    rc::Rc,
    sync::{Arc, Mutex, OnceLock},
};

use crate::{
    engine::Bytecode,
    error::ScriptError,
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
    compiled: Mutex<HashMap<String, Bytecode>>,
    shared_arrays: Mutex<HashMap<String, Arc<Shared>>>,
    exports: OnceLock<Exports>,
    seeds_random: OnceLock<bool>,
}

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
            compiled: Mutex::default(),
            shared_arrays: Mutex::default(),
            exports: OnceLock::new(),
            seeds_random: OnceLock::new(),
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

    pub(crate) fn compiled(&self, url: &str) -> Option<Bytecode> {
        let compiled = self.compiled.lock().unwrap_or_else(|e| e.into_inner());
        compiled.get(url).cloned()
    }

    pub(crate) fn keep_compiled(&self, url: &str, code: Bytecode) {
        let mut compiled = self.compiled.lock().unwrap_or_else(|e| e.into_inner());
        compiled.insert(url.to_owned(), code);
    }

    /// Whether a module speaks of `randomSeed`. To be asked after the first init, which loads them.
    pub(crate) fn seeds_random(&self) -> bool {
        *self.seeds_random.get_or_init(|| {
            let urls: Vec<String> = {
                let compiled = self.compiled.lock().unwrap_or_else(|e| e.into_inner());
                compiled.keys().cloned().collect()
            };
            urls.iter().any(|url| {
                let source = self.files.read(url).unwrap_or_default();
                std::str::from_utf8(&source).is_ok_and(|text| text.contains("randomSeed"))
            })
        })
    }

    pub(crate) fn shared_array(&self, name: &str) -> Option<Arc<Shared>> {
        let arrays = self.shared_arrays.lock().unwrap_or_else(|e| e.into_inner());
        arrays.get(name).cloned()
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
