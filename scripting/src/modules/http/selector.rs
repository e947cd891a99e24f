//! The selector language of `response.json(selector)`: GJSON paths (js-api.md §2.11).
//!
//! Keys and indexes joined by dots, wildcards, `#`, queries, and `|`. Modifiers, multipaths and
//! literals are not here yet: a path with one selects nothing.

use serde_json::Value;

/// The value a path selects, or none.
pub(super) fn select(document: &Value, path: &str) -> Option<Value> {
    if path.is_empty() {
        return None;
    }
    walk(document, path)
}

fn walk(value: &Value, path: &str) -> Option<Value> {
    let (part, rest) = split(path);
    match part {
        Part::Key { text, wild } => {
            let next = member(value, &text, wild)?;
            continue_with(next, rest)
        }
        Part::All => {
            let items = value.as_array()?;
            match rest {
                None => Some(Value::from(items.len())),
                Some(Rest { piped: true, .. }) => continue_with(&Value::from(items.len()), rest),
                Some(Rest { path, .. }) => {
                    let (inner, outer) = split_pipe(path);
                    let found: Vec<Value> = items.iter().filter_map(|i| walk(i, inner)).collect();
                    finish(Value::Array(found), outer)
                }
            }
        }
        Part::Query { query, every } => {
            let items = value.as_array()?;
            let mut hits = items.iter().filter(|item| holds(item, &query));
            if !every {
                return continue_with(hits.next()?, rest);
            }
            match rest {
                Some(Rest { path, piped: false }) => {
                    let (inner, outer) = split_pipe(path);
                    let found = hits.filter_map(|i| walk(i, inner)).collect();
                    finish(Value::Array(found), outer)
                }
                rest => {
                    let found = Value::Array(hits.cloned().collect());
                    continue_with(&found, rest)
                }
            }
        }
    }
}

fn continue_with(value: &Value, rest: Option<Rest<'_>>) -> Option<Value> {
    match rest {
        None => Some(value.clone()),
        Some(rest) => walk(value, rest.path),
    }
}

fn finish(value: Value, outer: Option<&str>) -> Option<Value> {
    match outer {
        None => Some(value),
        Some(path) => walk(&value, path),
    }
}

fn member<'a>(value: &'a Value, key: &str, wild: bool) -> Option<&'a Value> {
    match value {
        Value::Object(members) if wild => members
            .iter()
            .find(|(name, _)| glob(name, key))
            .map(|(_, value)| value),
        Value::Object(members) => members.get(key),
        Value::Array(items) => items.get(key.parse::<usize>().ok()?),
        _ => None,
    }
}

enum Part {
    Key { text: String, wild: bool },
    All,
    Query { query: String, every: bool },
}

#[derive(Clone, Copy)]
struct Rest<'a> {
    path: &'a str,
    piped: bool,
}

/// The first part of a path, and what follows its separator.
fn split(path: &str) -> (Part, Option<Rest<'_>>) {
    let bytes = path.as_bytes();
    if bytes.first() == Some(&b'#') && bytes.get(1) == Some(&b'(') {
        let mut depth = 0;
        let mut quoted = false;
        let mut at = 1;
        while at < bytes.len() {
            match bytes[at] {
                b'\\' => at += 1,
                b'"' => quoted = !quoted,
                b'(' if !quoted => depth += 1,
                b')' if !quoted => {
                    depth -= 1;
                    if depth == 0 {
                        break;
                    }
                }
                _ => {}
            }
            at += 1;
        }
        let query = path.get(2..at).unwrap_or_default().to_owned();
        let every = bytes.get(at + 1) == Some(&b'#');
        let after = path.get(at + 1 + usize::from(every)..).unwrap_or_default();
        return (Part::Query { query, every }, rest_of(after));
    }
    let mut text = String::new();
    let mut wild = false;
    let mut escaped = false;
    for (at, c) in path.char_indices() {
        if escaped {
            // In a wildcard pattern the escape has to reach the matcher.
            if wild || matches!(c, '*' | '?') && path.contains(['*', '?']) {
                text.push('\\');
            }
            text.push(c);
            escaped = false;
            continue;
        }
        match c {
            '\\' => escaped = true,
            '.' | '|' => {
                let part = if text == "#" {
                    Part::All
                } else {
                    Part::Key { text, wild }
                };
                return (part, rest_of(&path[at..]));
            }
            '*' | '?' => {
                wild = true;
                text.push(c);
            }
            other => text.push(other),
        }
    }
    if !wild {
        text = text.replace("\\*", "*").replace("\\?", "?");
    }
    let part = if text == "#" {
        Part::All
    } else {
        Part::Key { text, wild }
    };
    (part, None)
}

fn rest_of(text: &str) -> Option<Rest<'_>> {
    let separator = text.chars().next()?;
    Some(Rest {
        path: &text[1..],
        piped: separator == '|',
    })
}

/// Splits at the first `|` outside of parentheses and quotes: what follows applies to the result.
fn split_pipe(path: &str) -> (&str, Option<&str>) {
    let (mut depth, mut quoted, mut escaped) = (0, false, false);
    for (at, c) in path.char_indices() {
        if escaped {
            escaped = false;
            continue;
        }
        match c {
            '\\' => escaped = true,
            '"' => quoted = !quoted,
            '(' if !quoted => depth += 1,
            ')' if !quoted => depth -= 1,
            '|' if depth == 0 && !quoted => return (&path[..at], Some(&path[at + 1..])),
            _ => {}
        }
    }
    (path, None)
}

const OPERATORS: [&str; 9] = ["!%", "==", "!=", "<=", ">=", "=", "<", ">", "%"];

fn holds(item: &Value, query: &str) -> bool {
    let query = query.trim();
    let Some((path, operator, wanted)) = split_query(query) else {
        return !query.is_empty() && walk(item, query).is_some();
    };
    let found = if path.is_empty() {
        Some(item.clone())
    } else {
        walk(item, path)
    };
    found.is_some_and(|found| compare(&found, operator, wanted))
}

fn split_query(query: &str) -> Option<(&str, &str, &str)> {
    let (mut depth, mut quoted) = (0, false);
    for (at, c) in query.char_indices() {
        match c {
            '"' => quoted = !quoted,
            '(' if !quoted => depth += 1,
            ')' if !quoted => depth -= 1,
            _ if quoted || depth > 0 => {}
            _ => {
                if let Some(op) = OPERATORS.iter().find(|op| query[at..].starts_with(**op)) {
                    let value = query[at + op.len()..].trim();
                    return Some((query[..at].trim(), op, value));
                }
            }
        }
    }
    None
}

fn compare(found: &Value, operator: &str, wanted: &str) -> bool {
    if let Some(kind) = wanted.strip_prefix('~') {
        let truth = match found {
            Value::Bool(flag) => *flag,
            Value::Number(number) => number.as_f64() != Some(0.0),
            Value::String(text) => matches!(text.as_str(), "true" | "1" | "t" | "T" | "TRUE"),
            _ => false,
        };
        let same = match kind {
            "true" => truth,
            "false" => !truth,
            "null" => found.is_null(),
            "*" => true,
            _ => false,
        };
        return if operator == "!=" { !same } else { same };
    }
    let wanted: Value = serde_json::from_str(wanted)
        .unwrap_or_else(|_| Value::String(wanted.trim_matches('"').to_owned()));
    use std::cmp::Ordering::{Equal, Greater, Less};
    let order = match (found, &wanted) {
        (Value::String(a), Value::String(b)) => match operator {
            "%" => return glob(a, b),
            "!%" => return !glob(a, b),
            _ => Some(a.cmp(b)),
        },
        (Value::Number(a), Value::Number(b)) => a.as_f64().partial_cmp(&b.as_f64()),
        (Value::Bool(a), Value::Bool(b)) => Some(a.cmp(b)),
        (Value::Null, Value::Null) => Some(Equal),
        _ => None,
    };
    match (operator, order) {
        ("=" | "==", order) => order == Some(Equal),
        ("!=", order) => order != Some(Equal),
        ("<", order) => order == Some(Less),
        ("<=", order) => matches!(order, Some(Less | Equal)),
        (">", order) => order == Some(Greater),
        (">=", order) => matches!(order, Some(Greater | Equal)),
        _ => false,
    }
}

/// Whether `text` matches a pattern with `*` and `?`. Linear in memory, no recursion.
fn glob(text: &str, pattern: &str) -> bool {
    let text: Vec<char> = text.chars().collect();
    let pattern: Vec<char> = pattern.chars().collect();
    let (mut t, mut p) = (0, 0);
    let mut star: Option<(usize, usize)> = None;
    while t < text.len() {
        let escaped = pattern.get(p) == Some(&'\\') && p + 1 < pattern.len();
        let literal = if escaped {
            pattern.get(p + 1)
        } else {
            pattern.get(p)
        };
        match literal {
            Some('*') if !escaped => {
                star = Some((p, t));
                p += 1;
            }
            Some('?') if !escaped => {
                t += 1;
                p += 1;
            }
            Some(c) if *c == text[t] => {
                t += 1;
                p += if escaped { 2 } else { 1 };
            }
            _ => match star {
                Some((at, from)) => {
                    star = Some((at, from + 1));
                    p = at + 1;
                    t = from + 1;
                }
                None => return false,
            },
        }
    }
    pattern[p..].iter().all(|c| *c == '*')
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    fn document() -> Value {
        json!({
            "name": {"first": "Tom", "last": "Anderson"},
            "age": 37,
            "children": ["Sara", "Alex", "Jack"],
            "fav.movie": "Deer Hunter",
            "friends": [
                {"first": "Dale", "last": "Murphy", "age": 44, "nets": ["ig", "fb"]},
                {"first": "Roger", "last": "Craig", "age": 68, "nets": ["fb", "tw"]},
                {"first": "Jane", "last": "Murphy", "age": 47, "nets": ["ig", "tw"]}
            ]
        })
    }

    #[test]
    fn paths_select_as_documented() {
        let cases = [
            ("name.last", json!("Anderson")),
            ("age", json!(37)),
            ("children", json!(["Sara", "Alex", "Jack"])),
            ("children.#", json!(3)),
            ("children.1", json!("Alex")),
            ("child*.2", json!("Jack")),
            ("c?ildren.0", json!("Sara")),
            ("fav\\.movie", json!("Deer Hunter")),
            ("friends.#.first", json!(["Dale", "Roger", "Jane"])),
            ("friends.1.last", json!("Craig")),
            ("friends.#(last==\"Murphy\").first", json!("Dale")),
            (
                "friends.#(last==\"Murphy\")#.first",
                json!(["Dale", "Jane"]),
            ),
            ("friends.#(age>45)#.last", json!(["Craig", "Murphy"])),
            ("friends.#(first%\"D*\").last", json!("Murphy")),
            (
                "friends.#(nets.#(==\"fb\"))#.first",
                json!(["Dale", "Roger"]),
            ),
            ("friends.#(age>100)#", json!([])),
            ("friends.#(last=\"Murphy\")#|0.first", json!("Dale")),
            ("children|1", json!("Alex")),
        ];
        for (path, expected) in cases {
            assert_eq!(super::select(&document(), path), Some(expected), "{path}");
        }
        for path in [
            "",
            "nope",
            "children.9",
            "children.-1",
            "age.x",
            "friends.#(age>100)",
        ] {
            assert_eq!(super::select(&document(), path), None, "{path}");
        }
    }
}
