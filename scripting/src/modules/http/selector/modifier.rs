//! Modifiers: `@reverse`, `@flatten:{"deep":true}`, …

use serde_json::{Map, Value};

use super::{Limits, bracketed, quoted, walk};

/// What a modifier makes of a value and its argument.
type Modifier = fn(&Value, &str, Limits<'_>) -> Option<Value>;

/// Every modifier. White space is nothing that a value has, so `@ugly` and `@pretty` change nothing.
const MODIFIERS: &[(&str, Modifier)] = &[
    ("dig", dig),
    ("flatten", flatten),
    ("fromstr", from_text),
    ("group", group),
    ("join", join),
    ("keys", keys),
    ("pretty", same),
    ("reverse", reverse),
    ("this", same),
    ("tostr", to_text),
    ("ugly", same),
    ("valid", same),
    ("values", values),
];

/// Applies the modifier at the start of a path; `None` when there is none of that name. Beside the
/// result is what follows.
pub(super) fn apply<'a>(
    value: &Value,
    path: &'a str,
    limits: Limits<'_>,
) -> Option<(Option<Value>, &'a str)> {
    let end = path.find([':', '.', '|']).unwrap_or(path.len());
    let (_, modifier) = MODIFIERS.iter().find(|(name, _)| *name == &path[1..end])?;
    let rest = &path[end..];
    let (argument, rest) = match rest.strip_prefix(':') {
        None => ("", rest),
        Some(rest) => {
            let end = match rest.as_bytes().first() {
                Some(b'"') => quoted(rest),
                Some(b'[' | b'{') => bracketed(rest),
                _ => None,
            };
            rest.split_at(end.unwrap_or_else(|| rest.find('|').unwrap_or(rest.len())))
        }
    };
    let made = modifier(value, argument, limits).and_then(|value| limits.made(value));
    Some((made, rest))
}

/// Whether the argument, an object, has a flag set.
fn flag(argument: &str, name: &str) -> bool {
    let argument = serde_json::from_str::<Value>(argument).ok();
    argument.is_some_and(|argument| argument.get(name) == Some(&Value::Bool(true)))
}

fn same(value: &Value, _: &str, _: Limits<'_>) -> Option<Value> {
    Some(value.clone())
}

fn reverse(value: &Value, _: &str, _: Limits<'_>) -> Option<Value> {
    Some(match value {
        Value::Array(items) => items.iter().rev().cloned().collect(),
        Value::Object(members) => {
            let members = members.iter().rev();
            let members = members.map(|(key, value)| (key.clone(), value.clone()));
            Value::Object(members.collect())
        }
        other => other.clone(),
    })
}

fn keys(value: &Value, _: &str, _: Limits<'_>) -> Option<Value> {
    let members = value.as_object();
    Some(members.map_or_else(
        || Value::Array(Vec::new()),
        |members| members.keys().cloned().collect(),
    ))
}

fn values(value: &Value, _: &str, _: Limits<'_>) -> Option<Value> {
    Some(match value {
        Value::Array(_) => value.clone(),
        Value::Object(members) => members.values().cloned().collect(),
        _ => Value::Array(Vec::new()),
    })
}

fn flatten(value: &Value, argument: &str, _: Limits<'_>) -> Option<Value> {
    fn push(out: &mut Vec<Value>, items: &[Value], deep: bool) {
        for item in items {
            match item {
                Value::Array(inner) if deep => push(out, inner, deep),
                Value::Array(inner) => out.extend_from_slice(inner),
                other => out.push(other.clone()),
            }
        }
    }
    let Some(items) = value.as_array() else {
        return Some(value.clone());
    };
    let mut out = Vec::new();
    push(&mut out, items, flag(argument, "deep"));
    Some(Value::Array(out))
}

fn join(value: &Value, _: &str, _: Limits<'_>) -> Option<Value> {
    let Some(items) = value.as_array() else {
        return Some(value.clone());
    };
    let mut all = Map::new();
    for members in items.iter().filter_map(Value::as_object) {
        for (key, value) in members {
            all.insert(key.clone(), value.clone());
        }
    }
    Some(Value::Object(all))
}

fn group(value: &Value, _: &str, _: Limits<'_>) -> Option<Value> {
    let mut rows: Vec<Map<String, Value>> = Vec::new();
    for (key, column) in value.as_object()? {
        for (at, value) in column.as_array().into_iter().flatten().enumerate() {
            if rows.len() == at {
                rows.push(Map::new());
            }
            rows[at].insert(key.clone(), value.clone());
        }
    }
    Some(rows.into_iter().map(Value::Object).collect())
}

fn to_text(value: &Value, _: &str, _: Limits<'_>) -> Option<Value> {
    Some(Value::String(value.to_string()))
}

fn from_text(value: &Value, _: &str, _: Limits<'_>) -> Option<Value> {
    serde_json::from_str(value.as_str()?).ok()
}

/// All that the path selects in the value and in everything inside.
fn dig(value: &Value, path: &str, limits: Limits<'_>) -> Option<Value> {
    fn search(out: &mut Vec<Value>, value: &Value, path: &str, limits: Limits<'_>) {
        if !path.is_empty() {
            out.extend(walk(value, path, limits));
        }
        match value {
            Value::Array(items) => items.iter().for_each(|v| search(out, v, path, limits)),
            Value::Object(members) => members.values().for_each(|v| search(out, v, path, limits)),
            _ => {}
        }
    }
    let mut out = Vec::new();
    search(&mut out, value, path, limits);
    Some(Value::Array(out))
}
