//! The JSON config file: the weakest layer of options, and a few settings that scripts do not have.

use std::{
    io,
    path::{Path, PathBuf},
};

use serde_json::{Map, Value};

use super::{
    OptionError, Options,
    fields::{self, Bad, Fields},
};
use crate::logging;

/// What a config file says.
#[derive(Debug, Clone, Default, PartialEq)]
pub(crate) struct ConfigFile {
    /// The layer of options.
    pub(crate) options: Options,
    /// Outputs, each `type` or `type=argument`.
    pub(crate) out: Option<Vec<String>>,
    /// Whether the process stays after the end.
    pub(crate) linger: Option<bool>,
    /// Settings of outputs by their type.
    pub(crate) collectors: Map<String, Value>,
}

const FAILED: &str = "failed to load the configuration file from the local file system: ";

impl ConfigFile {
    /// Reads the file that `explicit` names (`--config`, `K6_CONFIG`), or the one of the user,
    /// `$XDG_CONFIG_HOME/k6/config.json` or `$HOME/.config/k6/config.json`, which may be missing.
    ///
    /// # Errors
    /// An explicit file that is missing, and any file that cannot be read or understood; 104.
    pub(crate) fn load(
        explicit: Option<&str>,
        env: &dyn Fn(&str) -> Option<String>,
        read: &dyn Fn(&Path) -> io::Result<Vec<u8>>,
    ) -> Result<Self, OptionError> {
        let path = match explicit {
            Some(path) => PathBuf::from(path),
            None => match Self::default_path(env) {
                Some(path) => path,
                None => return Ok(Self::default()),
            },
        };
        let bytes = match read(&path) {
            Ok(bytes) => bytes,
            Err(error) if explicit.is_none() && error.kind() == io::ErrorKind::NotFound => {
                return Ok(Self::default());
            }
            Err(error) => {
                let (verb, reason) = match error.kind() {
                    io::ErrorKind::NotFound => ("stat", "no such file or directory".to_owned()),
                    io::ErrorKind::PermissionDenied => ("open", "permission denied".to_owned()),
                    _ => ("read", logging::reason(&error)),
                };
                return Err(OptionError::config(format!(
                    "{FAILED}{verb} {}: {reason}",
                    path.display()
                )));
            }
        };
        Self::parse(&bytes).map_err(|reason| {
            OptionError::config(format!(
                "{FAILED}couldn't parse the configuration from {:?}: {reason}",
                path.display().to_string()
            ))
        })
    }

    fn default_path(env: &dyn Fn(&str) -> Option<String>) -> Option<PathBuf> {
        let set = |name| env(name).filter(|folder| !folder.is_empty());
        let folder = match set("XDG_CONFIG_HOME") {
            Some(folder) => PathBuf::from(folder),
            None => PathBuf::from(set("HOME")?).join(".config"),
        };
        Some(folder.join("k6/config.json"))
    }

    fn parse(bytes: &[u8]) -> Result<Self, String> {
        let json: Value = serde_json::from_slice(bytes).map_err(|error| error.to_string())?;
        let object = match json {
            Value::Null => return Ok(Self::default()),
            Value::Object(object) => object,
            other => {
                return Err(format!(
                    "json: cannot unmarshal {other} into a configuration, it should be an object"
                ));
            }
        };
        let mut config = Self::default();
        for (key, value) in &object {
            config.set(key, value).map_err(|bad| match bad {
                Bad::Value(text) => text,
                Bad::Type(found, wanted) => {
                    format!("json: cannot unmarshal {found} into {key} of type {wanted}")
                }
            })?;
        }
        Ok(config)
    }

    /// Unknown keys are ignored: the file may be shared with other versions.
    fn set(&mut self, key: &str, value: &Value) -> Result<(), Bad> {
        match key {
            "out" => {
                self.out = match value {
                    // A single output may stand without its list.
                    Value::String(one) => Some(vec![one.clone()]),
                    value => fields::decode(value)?,
                }
            }
            "linger" => self.linger = fields::decode(value)?,
            "collectors" => {
                if let Some(object) = value.as_object() {
                    self.collectors = object.clone();
                } else if !value.is_null() {
                    return Err(Bad::type_of(value, "object"));
                }
            }
            key => {
                self.options.set(key, value)?;
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn no_env(_: &str) -> Option<String> {
        None
    }

    fn missing(_: &Path) -> io::Result<Vec<u8>> {
        Err(io::ErrorKind::NotFound.into())
    }

    #[test]
    fn the_users_file_is_looked_for_and_may_be_missing() {
        for (name, value, expected) in [
            ("XDG_CONFIG_HOME", "/xdg", "/xdg/k6/config.json"),
            ("HOME", "/home/u", "/home/u/.config/k6/config.json"),
        ] {
            let env = |asked: &str| (asked == name).then(|| value.to_owned());
            let read = |path: &Path| {
                assert_eq!(path, Path::new(expected));
                Ok(
                    br#"{"vus": "3", "linger": true, "out": ["json=x"], "noSuch": 1,
                    "collectors": {"csv": {"file_name": "x.csv"}}}"#
                        .to_vec(),
                )
            };
            let config = ConfigFile::load(None, &env, &read).expect("a good file");
            assert_eq!(config.options.vus, Some(3));
            assert_eq!(config.linger, Some(true));
            assert_eq!(config.out.as_deref(), Some(&["json=x".to_owned()][..]));
            assert_eq!(config.collectors["csv"]["file_name"], "x.csv");
            let config = ConfigFile::load(None, &env, &missing).expect("may be missing");
            assert_eq!(config, ConfigFile::default());
        }
        let config = ConfigFile::load(None, &no_env, &|_| panic!("no place to look"));
        assert_eq!(config, Ok(ConfigFile::default()));
    }

    #[test]
    fn explicit_files_must_be_there_and_be_json() {
        let error = ConfigFile::load(Some("nosuch.json"), &no_env, &missing).expect_err("missing");
        assert_eq!(
            error.text,
            "failed to load the configuration file from the local file system: \
             stat nosuch.json: no such file or directory"
        );
        assert_eq!(error.exit, 104);
        for bad in [
            r#"{ "vus": 1, oops }"#,
            r#"{"vus": "x"}"#,
            r#"{"paused": 1}"#,
            "[]",
        ] {
            let read = |_: &Path| Ok(bad.as_bytes().to_vec());
            let error = ConfigFile::load(Some("bad.json"), &no_env, &read).expect_err(bad);
            assert!(
                error
                    .text
                    .contains("couldn't parse the configuration from \"bad.json\": "),
                "{}",
                error.text
            );
        }
    }
}
