//! Doors for the fuzz targets of `fuzz/`: readers that a script reaches through a VU only. They are
//! there with the feature `fuzzing`, and no part of the API.

use std::sync::Arc;

use crate::{
    graph::{analysis, typescript},
    modules::{
        experimental::csv::{Options, Records},
        http::selector,
    },
};

/// Reads a script as the loader does: what kind of module it is, what it imports, and what is left
/// of it without its types. Answers that last text and whether each of its lines and columns has
/// been looked up in the text as written.
///
/// # Errors
/// What is wrong with it, with its line and column.
pub fn strip(text: &str) -> Result<String, (String, (usize, usize))> {
    let told = |problem: analysis::SyntaxProblem| (problem.message, problem.place);
    let _ = analysis::analyse(text);
    let _ = analysis::check(text);
    analysis::likely_exports(text);
    let (stripped, positions) = typescript::strip(text).map_err(told)?;
    for (line, text) in stripped.lines().enumerate() {
        for column in 0..=text.len() {
            positions.original(line + 1, column + 1);
        }
    }
    analysis::analyse(&stripped).map_err(told)?;
    Ok(stripped)
}

/// `response.json(path)` of a body, as JSON; `None` where a script gets `undefined`.
pub fn select(body: &[u8], path: &str) -> Option<String> {
    let document = serde_json::from_slice(body).ok()?;
    let found = selector::select(&document, body.len(), path);
    found.ok()?.map(|value| value.to_string())
}

/// Which records `csv.parse()` is asked for; the members are those of its options.
#[derive(Debug, Clone, Copy)]
pub struct CsvOptions {
    /// One byte.
    pub delimiter: u8,
    /// Whether records are objects.
    pub as_objects: bool,
    /// Whether the first record is left out.
    pub skip_first: bool,
    /// The number of the first record, from 0.
    pub from: usize,
    /// The number of the last.
    pub to: Option<usize>,
}

/// All records of a file, each as JSON.
///
/// # Errors
/// The text with which the promise is rejected.
pub fn records(content: &[u8], options: CsvOptions) -> Result<Vec<Box<str>>, String> {
    let options = Options {
        delimiter: options.delimiter,
        as_objects: options.as_objects,
        skip_first: options.skip_first,
        from: options.from,
        to: options.to,
    };
    let mut records = Records::new(Arc::from(content), options);
    let mut all = Vec::new();
    while let Some(record) = records.next()? {
        all.push(records.json(&record));
    }
    Ok(all)
}
