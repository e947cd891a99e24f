//! The values of form controls, and forms as data: what jQuery calls `val()` and `serialize()`.

use std::fmt::Write as _;

use super::{
    dom::{Document, NodeId},
    selection::Selection,
};

/// The value of a control.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum FormValue {
    /// One text.
    Text(String),
    /// The selected options of a list of which more than one can be selected.
    Many(Vec<String>),
}

/// What `val()` says of an element; `None` for what is no control.
pub(super) fn value(document: &Document, node: NodeId) -> Option<FormValue> {
    let attribute = |name| document.attribute(node, name);
    let text = match document.tag(node) {
        "input" => {
            let default = match attribute("type") {
                Some("checkbox" | "radio") => "on",
                _ => "",
            };
            attribute("value").unwrap_or(default).to_owned()
        }
        "button" => attribute("value").unwrap_or_default().to_owned(),
        // Markup, not text: entities stay as they are, as in the reference.
        "textarea" => document.inner_html(node),
        "option" => option_value(document, node),
        "select" => {
            let mut selected = document.descendants(node).filter(|below| {
                document.tag(*below) == "option" && document.attribute(*below, "selected").is_some()
            });
            if attribute("multiple").is_some() {
                let all = selected.map(|option| option_value(document, option));
                return Some(FormValue::Many(all.collect()));
            }
            let first = selected.next();
            first.map_or_else(String::new, |option| option_value(document, option))
        }
        _ => return None,
    };
    Some(FormValue::Text(text))
}

fn option_value(document: &Document, node: NodeId) -> String {
    match document.attribute(node, "value") {
        Some(value) => value.to_owned(),
        None => document.inner_html(node),
    }
}

/// Names and values of the controls that a browser would send, in the order of the page: those
/// of the forms in a selection, and those that are in it themselves.
pub(super) fn fields(selection: &Selection) -> Vec<(String, FormValue)> {
    let document = &selection.page.document;
    let mut fields = Vec::new();
    for node in &selection.nodes {
        if document.tag(*node) == "form" {
            let controls = document.descendants(*node);
            fields.extend(controls.filter_map(|control| field(document, control)));
        } else {
            fields.extend(field(document, *node));
        }
    }
    fields
}

fn field(document: &Document, node: NodeId) -> Option<(String, FormValue)> {
    let attribute = |name| document.attribute(node, name);
    if !matches!(
        document.tag(node),
        "input" | "select" | "textarea" | "keygen"
    ) {
        return None;
    }
    let name = attribute("name").filter(|name| !name.is_empty())?;
    // Only the long forms of both attributes count, as in the reference.
    if attribute("disabled") == Some("disabled") {
        return None;
    }
    let sent = match attribute("type").unwrap_or_default() {
        "submit" | "button" | "reset" | "image" | "file" => false,
        "checkbox" | "radio" => attribute("checked") == Some("checked"),
        _ => true,
    };
    if !sent {
        return None;
    }
    let value = value(document, node).unwrap_or(FormValue::Text(String::new()));
    Some((name.to_owned(), value))
}

/// The last value of each name, in the order in which the names come first.
pub(super) fn last_of_each(fields: Vec<(String, FormValue)>) -> Vec<(String, FormValue)> {
    let mut places = std::collections::HashMap::new();
    let mut out: Vec<(String, FormValue)> = Vec::new();
    for (name, value) in fields {
        match places.get(&name) {
            Some(place) => {
                let known: &mut (String, FormValue) = &mut out[*place];
                known.1 = value;
            }
            None => {
                places.insert(name.clone(), out.len());
                out.push((name, value));
            }
        }
    }
    out
}

/// Fields as the query of a URL, sorted by name.
pub(super) fn url_encoded(mut fields: Vec<(String, FormValue)>) -> String {
    fields.sort_by(|(a, _), (b, _)| a.cmp(b));
    let mut out = String::new();
    let mut pair = |name: &str, value: &str| {
        if !out.is_empty() {
            out.push('&');
        }
        push_escaped(&mut out, name);
        out.push('=');
        push_escaped(&mut out, value);
    };
    for (name, value) in &fields {
        match value {
            FormValue::Text(text) => pair(name, text),
            FormValue::Many(all) => all.iter().for_each(|text| pair(name, text)),
        }
    }
    out
}

fn push_escaped(out: &mut String, text: &str) {
    for byte in text.bytes() {
        match byte {
            b'A'..=b'Z' | b'a'..=b'z' | b'0'..=b'9' | b'-' | b'_' | b'.' | b'~' => {
                out.push(char::from(byte));
            }
            b' ' => out.push('+'),
            // Writing into a String does not fail.
            _ => drop(write!(out, "%{byte:02X}")),
        }
    }
}
