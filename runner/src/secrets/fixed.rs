//! Sources whose secrets are known from the start: a file, and the command line.

use std::collections::BTreeMap;

use super::{Env, Source};
use crate::logging::reason;

/// `file=PATH`, or `file=filename=PATH` beside other settings: a line `key=value` for each secret.
/// Neither is trimmed.
pub(super) fn file(items: &[&str], _: Env<'_>) -> Result<Source, String> {
    let [path] = items else {
        return Err("it needs one path, as in file=PATH".to_owned());
    };
    let path = path.strip_prefix("filename=").unwrap_or(path);
    let text =
        std::fs::read_to_string(path).map_err(|error| format!("{path}: {}", reason(&error)))?;
    let mut values = BTreeMap::new();
    for (number, line) in text.lines().enumerate() {
        if line.trim().is_empty() {
            continue;
        }
        // The line is not shown: it may be a secret.
        let (key, value) = line
            .split_once('=')
            .ok_or_else(|| format!("{path}: line {} is not of the form key=value", number + 1))?;
        values.insert(key.to_owned(), value.to_owned());
    }
    Ok(Source::Fixed(values))
}

/// `mock=key=value,…`: for trying scripts out.
pub(super) fn mock(items: &[&str], _: Env<'_>) -> Result<Source, String> {
    let mut values = BTreeMap::new();
    for (index, item) in items.iter().enumerate() {
        let (key, value) = item
            .split_once('=')
            .ok_or_else(|| format!("item {} is not of the form key=value", index + 1))?;
        values.insert(key.to_owned(), value.to_owned());
    }
    Ok(Source::Fixed(values))
}
