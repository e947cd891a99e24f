//! Secrets for scripts (`--secret-source`): where they come from, and that they stay out of the log.

mod fixed;
mod url;

use std::{
    collections::BTreeMap,
    sync::{Arc, Mutex, PoisonError},
};

use tokio::sync::OnceCell;
use volley_scripting::SecretAnswer;

use crate::logging::Logger;

/// The environment, of which some kinds of sources read their settings.
type Env<'a> = &'a BTreeMap<String, String>;

/// Makes a source of the items of its configuration.
type Open = fn(&[&str], Env<'_>) -> Result<Source, String>;

/// Every kind of source there is.
const KINDS: &[(&str, Open)] = &[
    ("file", fixed::file),
    ("mock", fixed::mock),
    ("url", url::open),
];

/// The name under which scripts find the source that they do not name.
const DEFAULT: &str = "default";

/// Where secrets come from.
enum Source {
    /// They are all known from the start.
    Fixed(BTreeMap<String, String>),
    /// A server is asked.
    Url(url::Server),
}

struct Named {
    name: String,
    source: Source,
    /// What a server has answered so far, and what it is being asked.
    known: Mutex<BTreeMap<String, Arc<OnceCell<String>>>>,
}

/// All sources of the run.
pub(crate) struct Secrets {
    logger: Arc<Logger>,
    sources: Vec<Arc<Named>>,
    /// The one that is meant when a script names none.
    default: Option<usize>,
}

impl Secrets {
    /// Opens the sources that the flags name, each `TYPE[=CONFIGURATION]`.
    ///
    /// # Errors
    /// The text for the user; exit code 255.
    pub(crate) fn open(
        specs: &[String],
        env: Env<'_>,
        logger: Arc<Logger>,
    ) -> Result<Self, String> {
        let mut secrets = Self {
            logger,
            sources: Vec::new(),
            default: None,
        };
        for spec in specs {
            secrets.add(spec, env)?;
        }
        if secrets.sources.len() == 1 {
            secrets.default = Some(0);
        }
        Ok(secrets)
    }

    fn add(&mut self, spec: &str, env: Env<'_>) -> Result<(), String> {
        let (kind, configuration) = spec.split_once('=').unwrap_or((spec, ""));
        let Some((_, open)) = KINDS.iter().find(|(known, _)| *known == kind) else {
            let known: Vec<&str> = KINDS.iter().map(|(known, _)| *known).collect();
            return Err(format!(
                "the secret source {kind:?} is not supported; there are {}",
                known.join(", ")
            ));
        };
        let mut name = kind;
        let mut default = false;
        let mut items = Vec::new();
        for item in configuration.split(',').filter(|item| !item.is_empty()) {
            match item.split_once('=') {
                Some(("name", value)) => name = value,
                None if item == DEFAULT => default = true,
                _ => items.push(item),
            }
        }
        if self.sources.iter().any(|source| source.name == name) {
            return Err(format!(
                "there is already a secret source with name {name:?}; give this one another with name=NAME"
            ));
        }
        if default && self.default.replace(self.sources.len()).is_some() {
            return Err(format!(
                "the secret source {name:?} cannot be the default: another one is"
            ));
        }
        let source = open(&items, env)
            .map_err(|problem| format!("could not open the secret source {name:?}: {problem}"))?;
        self.sources.push(Arc::new(Named {
            name: name.to_owned(),
            source,
            known: Mutex::default(),
        }));
        Ok(())
    }

    /// The secret `key` of the source of that name, or of the default one. From then on it does
    /// not appear in the log.
    pub(crate) fn get(&self, source: Option<&str>, key: &str) -> SecretAnswer {
        let logger = self.logger.clone();
        let source = self.find(source).cloned();
        let key = key.to_owned();
        Box::pin(async move {
            let value = source?.get(key).await?;
            logger.redact(&value);
            Ok(value)
        })
    }

    fn find(&self, name: Option<&str>) -> Result<&Arc<Named>, String> {
        if self.sources.is_empty() {
            return Err("no secret sources are configured".to_owned());
        }
        let name = name.unwrap_or(DEFAULT);
        let named = self.sources.iter().find(|source| source.name == name);
        let default = self.default.filter(|_| name == DEFAULT);
        let found = default.and_then(|default| self.sources.get(default));
        let found = found.or(named);
        found.ok_or_else(|| format!("no secret source with name {name:?} is configured"))
    }
}

impl Named {
    async fn get(&self, key: String) -> Result<String, String> {
        let server = match &self.source {
            Source::Fixed(values) => {
                let value = values.get(&key);
                return value.cloned().ok_or_else(|| "no value".to_owned());
            }
            Source::Url(server) => server,
        };
        let cell = {
            let mut known = self.known.lock().unwrap_or_else(PoisonError::into_inner);
            known.entry(key.clone()).or_default().clone()
        };
        // Whoever asks for the same in the meantime waits for the same answer.
        let value = cell.get_or_try_init(|| server.fetch(&key)).await;
        value.cloned()
    }
}

#[cfg(test)]
mod tests;
