//! The settings of an output, from the config file, the environment and its argument.

use std::{collections::BTreeMap, time::Duration};

use serde_json::Value;

use super::OutputContext;
use crate::format::parse_go_duration;

/// A setting: its key in the config file, in camel case, and its variable.
pub(super) struct Setting {
    pub(super) key: &'static str,
    pub(super) variable: &'static str,
}

/// Settings by their keys: the argument wins over the environment, that over the config file.
/// Empty texts count as not given.
pub(super) struct Settings {
    values: BTreeMap<&'static str, Given>,
}

/// A value, and where it was given.
struct Given {
    value: Value,
    place: String,
}

impl Settings {
    /// Reads what the config file says under `collector`, and the environment over it. Keys of the
    /// file may also be written in snake case; those that nobody knows are ignored, for the
    /// file may be shared with other versions.
    pub(super) fn read(context: &OutputContext, collector: &str, known: &[Setting]) -> Self {
        let mut values = BTreeMap::new();
        let file = context
            .collectors
            .get(collector)
            .and_then(Value::as_object)
            .into_iter()
            .flatten();
        for (key, value) in file {
            let same = |setting: &&Setting| plain(setting.key).eq(plain(key));
            if let Some(setting) = known.iter().find(same) {
                let place = format!("collectors.{collector}.{key}");
                let value = value.clone();
                values.insert(setting.key, Given { value, place });
            }
        }
        for setting in known {
            if let Some(text) = context.env.get(setting.variable)
                && !text.is_empty()
            {
                let place = setting.variable.to_owned();
                let value = Value::from(text.as_str());
                values.insert(setting.key, Given { value, place });
            }
        }
        values.retain(|_, given| !matches!(&given.value, Value::Null) && given.value != "");
        Self { values }
    }

    /// Sets what the argument says.
    pub(super) fn set(&mut self, key: &'static str, value: impl Into<Value>) {
        let value = value.into();
        let place = key.to_owned();
        self.values.insert(key, Given { value, place });
    }

    pub(super) fn text(&self, key: &str) -> Option<String> {
        match &self.values.get(key)?.value {
            Value::String(text) => Some(text.clone()),
            other => Some(other.to_string()),
        }
    }

    /// # Errors
    /// What is neither `true` nor `false`.
    pub(super) fn flag(&self, key: &str) -> Result<Option<bool>, String> {
        self.parse(key, |text| match text {
            "true" => Ok(true),
            "false" => Ok(false),
            other => Err(format!("invalid input:{other}")),
        })
    }

    /// Go's durations, also with days, or a number of milliseconds.
    ///
    /// # Errors
    /// What is no duration, or not longer than nothing.
    pub(super) fn interval(&self, key: &str) -> Result<Option<Duration>, String> {
        self.parse(key, |text| match duration(text) {
            Some(duration) if !duration.is_zero() => Ok(duration),
            Some(_) => Err(format!("{text:?} is no interval")),
            None => Err(format!("time: invalid duration {text:?}")),
        })
    }

    /// # Errors
    /// What is no whole number from 0 on.
    pub(super) fn number(&self, key: &str) -> Result<Option<usize>, String> {
        self.parse(key, |text| {
            let number = text.parse();
            number.map_err(|_| format!("strconv.ParseInt: parsing {text:?}: invalid syntax"))
        })
    }

    /// A list, separated by commas where it is a text.
    pub(super) fn list(&self, key: &str) -> Option<Vec<String>> {
        Some(match &self.values.get(key)?.value {
            Value::Array(list) => list
                .iter()
                .map(|item| {
                    item.as_str()
                        .map_or_else(|| item.to_string(), str::to_owned)
                })
                .collect(),
            Value::String(text) => text.split(',').map(|item| item.trim().to_owned()).collect(),
            other => vec![other.to_string()],
        })
    }

    /// Pairs: an object, or a text of pairs that commas separate, key and value by `separator`.
    ///
    /// # Errors
    /// A part of the text that is no pair.
    pub(super) fn pairs(
        &self,
        key: &str,
        separator: char,
    ) -> Result<Vec<(String, String)>, String> {
        let Some(given) = self.values.get(key) else {
            return Ok(Vec::new());
        };
        if let Value::Object(object) = &given.value {
            let text = |value: &Value| {
                value
                    .as_str()
                    .map_or_else(|| value.to_string(), str::to_owned)
            };
            return Ok(object
                .iter()
                .map(|(key, value)| (key.clone(), text(value)))
                .collect());
        }
        let parts = self.list(key).unwrap_or_default();
        let pair = |part: &String| {
            part.split_once(separator)
                .map(|(key, value)| (key.trim().to_owned(), value.trim().to_owned()))
                .ok_or_else(|| {
                    format!("{}: {part:?} is no pair of a name and a value", given.place)
                })
        };
        parts
            .iter()
            .filter(|part| !part.is_empty())
            .map(pair)
            .collect()
    }

    /// Reads a text; an error says where the text was given.
    ///
    /// # Errors
    /// That of `read`.
    pub(super) fn parse<T>(
        &self,
        key: &str,
        read: impl FnOnce(&str) -> Result<T, String>,
    ) -> Result<Option<T>, String> {
        let (Some(given), Some(text)) = (self.values.get(key), self.text(key)) else {
            return Ok(None);
        };
        let read = read(&text).map(Some);
        read.map_err(|problem| format!("{}: {problem}", given.place))
    }
}

/// A key without what tells camel case from snake case.
fn plain(key: &str) -> impl Iterator<Item = char> {
    key.chars()
        .filter(|&c| c != '_')
        .map(|c| c.to_ascii_lowercase())
}

/// Go's durations, also with days, or a number of milliseconds.
fn duration(text: &str) -> Option<Duration> {
    if let Ok(millis) = text.parse::<f64>() {
        return Duration::try_from_secs_f64(millis / 1e3).ok();
    }
    let Some((days, rest)) = text.split_once('d') else {
        return parse_go_duration(text);
    };
    let days = Duration::from_secs(days.parse::<u32>().ok()?.into()) * 86_400;
    match rest {
        "" => Some(days),
        rest => days.checked_add(parse_go_duration(rest)?),
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use serde_json::json;

    use super::*;
    use crate::outputs::fixture::Run;

    const KNOWN: &[Setting] = &[
        Setting {
            key: "saveInterval",
            variable: "X_SAVE_INTERVAL",
        },
        Setting {
            key: "fileName",
            variable: "X_FILENAME",
        },
    ];

    fn read(env: &[(&str, &str)], file: Value) -> Settings {
        let mut run = Run::new();
        run.env(env);
        let mut context = run.context;
        context.collectors = Arc::new(json!({"x": file}).as_object().unwrap().clone());
        Settings::read(&context, "x", KNOWN)
    }

    #[test]
    fn the_environment_wins_over_the_file_and_an_empty_value_is_none() {
        let file = json!({"file_name": "file", "saveInterval": 1500, "other": 1});
        let settings = read(&[("X_FILENAME", "env")], file.clone());
        assert_eq!(settings.text("fileName").as_deref(), Some("env"));
        let interval = settings.interval("saveInterval").unwrap();
        assert_eq!(interval, Some(Duration::from_millis(1500)));
        let mut settings = read(&[("X_FILENAME", "")], file);
        assert_eq!(settings.text("fileName").as_deref(), Some("file"));
        settings.set("fileName", "argument");
        assert_eq!(settings.text("fileName").as_deref(), Some("argument"));
        let settings = read(&[], json!({"fileName": "", "save_interval": null}));
        assert_eq!(settings.text("fileName"), None);
        assert_eq!(settings.interval("saveInterval"), Ok(None));
    }

    #[test]
    fn values_of_all_kinds_are_read() {
        let text = |text: &str| read(&[("X_FILENAME", text)], Value::Null);
        assert_eq!(text("true").flag("fileName"), Ok(Some(true)));
        assert_eq!(text("12").number("fileName"), Ok(Some(12)));
        for (given, seconds) in [
            ("1m30s", 90.0),
            ("1d2h", 93_600.0),
            ("2d", 172_800.0),
            ("5", 0.005),
        ] {
            let interval = text(given).interval("fileName").unwrap().unwrap();
            assert_eq!(interval, Duration::from_secs_f64(seconds), "{given}");
        }
        let list = text("a, b").list("fileName").unwrap();
        assert_eq!(list, ["a", "b"]);
        let pairs = text("a:b:c, d:e,").pairs("fileName", ':').unwrap();
        let own = |a: &str, b: &str| (a.to_owned(), b.to_owned());
        assert_eq!(pairs, [own("a", "b:c"), own("d", "e")]);
        let file = read(
            &[],
            json!({"fileName": ["a", 1], "saveInterval": {"k": "v", "n": 1}}),
        );
        assert_eq!(file.list("fileName").unwrap(), ["a", "1"]);
        let pairs = file.pairs("saveInterval", ':').unwrap();
        assert_eq!(pairs, [own("k", "v"), own("n", "1")]);
    }

    #[test]
    fn errors_say_where_the_value_was_given() {
        let settings = read(
            &[("X_SAVE_INTERVAL", "soon")],
            json!({"file_name": "maybe"}),
        );
        assert_eq!(
            settings.interval("saveInterval").unwrap_err(),
            "X_SAVE_INTERVAL: time: invalid duration \"soon\""
        );
        assert_eq!(
            settings.flag("fileName").unwrap_err(),
            "collectors.x.file_name: invalid input:maybe"
        );
        assert!(settings.number("fileName").is_err());
        assert!(settings.pairs("fileName", ':').is_err());
        for text in ["0", "0s", "-5", "1d-", "dd"] {
            let settings = read(&[("X_SAVE_INTERVAL", text)], Value::Null);
            assert!(settings.interval("saveInterval").is_err(), "{text}");
        }
    }
}
