//! The options as a whole: which layer wins, what is refused and in which words, what is needed.

mod errors;
mod layers;
mod parts;
mod vectors;
mod views;

use serde_json::{Value, json};

use super::*;

/// A layer as a script writes it, with nothing to warn about.
#[track_caller]
fn layer(json: Value) -> Options {
    let (options, warnings) = Options::from_script(&json).expect("a good layer");
    assert_eq!(warnings, [], "{json}");
    options
}

/// Resolves options for a script that exports `default` and `other`.
fn resolved(options: Options) -> Result<Resolved, OptionError> {
    resolve(options, &|name| ["default", "other"].contains(&name))
}

/// The warnings' messages.
fn messages(warnings: &[Warning]) -> Vec<&str> {
    warnings
        .iter()
        .map(|warning| warning.msg.as_str())
        .collect()
}
