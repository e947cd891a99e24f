//! The selector language of `response.json(selector)`: GJSON paths (js-api.md §2.11).
//!
//! Keys and indexes joined by dots, wildcards, `#`, queries, `|`, modifiers, multipaths, literals.

mod modifier;

use std::cell::Cell;

use serde_json::{Map, Value};

/// How deep a path may nest: one that goes on for ever must not use up the stack.
const DEPTH_MAX: u32 = 400;

/// How much a path may make of a document: so many values, and some for each byte of the body.
/// `[@this,@this].[@this,@this]…` doubles with each step, `@dig:@dig:…` visits everything that often.
const VALUES_MAX: usize = 1 << 18;
const VALUES_PER_BYTE: usize = 4;
/// So many bytes of text, of a path or a value, count as one value.
const BYTES_PER_VALUE: usize = 16;

/// A path would make more of a document than fits into memory, or take for ever.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error(
    "the selector makes more than {0} values of this body: select less of it, or parse it with \
     json() and go on from there"
)]
pub(crate) struct TooMuch(usize);

/// The value that a path selects in a document of this many bytes, or none.
///
/// # Errors
/// When it would be too much.
pub(crate) fn select(document: &Value, bytes: usize, path: &str) -> Result<Option<Value>, TooMuch> {
    if path.is_empty() {
        return Ok(None);
    }
    let most = VALUES_MAX.saturating_add(bytes.saturating_mul(VALUES_PER_BYTE));
    let left = Cell::new(Some(most));
    let limits = Limits {
        depth: 0,
        left: &left,
    };
    // A document of lines of JSON; ours is one line.
    let found = match path.strip_prefix("..") {
        Some(path) => limits
            .copy(document)
            .and_then(|only| walk(&Value::Array(vec![only]), path, limits)),
        None => walk(document, path, limits),
    };
    match left.get() {
        Some(_) => Ok(found),
        None => Err(TooMuch(most)),
    }
}

/// How far a selection may still go.
#[derive(Clone, Copy)]
struct Limits<'a> {
    depth: u32,
    /// How many values may still be made; `None` once there were too many.
    left: &'a Cell<Option<usize>>,
}

impl Limits<'_> {
    /// Those of a path inside, of which every step counts.
    fn deeper(self, path: &str) -> Option<Self> {
        if self.depth > DEPTH_MAX {
            return None;
        }
        self.pay(1 + path.len() / BYTES_PER_VALUE)?;
        Some(Self {
            depth: self.depth + 1,
            ..self
        })
    }

    fn pay(self, values: usize) -> Option<()> {
        let left = self.left.get().and_then(|left| left.checked_sub(values));
        self.left.set(left);
        left.map(drop)
    }

    /// A value that has been made.
    fn made(self, value: Value) -> Option<Value> {
        self.pay(size(&value))?;
        Some(value)
    }

    fn copy(self, value: &Value) -> Option<Value> {
        self.pay(size(value))?;
        Some(value.clone())
    }
}

fn size(value: &Value) -> usize {
    let inside: usize = match value {
        Value::String(text) => text.len() / BYTES_PER_VALUE,
        Value::Array(items) => items.iter().map(size).sum(),
        Value::Object(members) => members
            .iter()
            .map(|(key, value)| key.len() / BYTES_PER_VALUE + size(value))
            .sum(),
        _ => 0,
    };
    1 + inside
}

fn walk(value: &Value, path: &str, limits: Limits<'_>) -> Option<Value> {
    let limits = limits.deeper(path)?;
    let special = match path.as_bytes().first() {
        Some(b'@') => modifier::apply(value, path, limits),
        Some(b'[' | b'{') => multipath(value, path, limits),
        Some(b'!') => Some(literal(path)),
        _ => None,
    };
    if let Some((found, rest)) = special {
        let found = found?;
        return match rest_of(rest) {
            Some(rest) if !rest.path.is_empty() => walk(&found, rest.path, limits),
            _ => Some(found),
        };
    }
    let (part, rest) = split(path);
    match part {
        Part::Key { text, wild } => {
            let next = member(value, &text, wild)?;
            continue_with(next, rest, limits)
        }
        Part::All => {
            let items = value.as_array()?;
            match rest {
                None => Some(Value::from(items.len())),
                Some(Rest { piped: true, .. }) => {
                    continue_with(&Value::from(items.len()), rest, limits)
                }
                Some(Rest { path, .. }) => {
                    let (inner, outer) = split_pipe(path);
                    let found: Vec<Value> = items
                        .iter()
                        .filter_map(|i| walk(i, inner, limits))
                        .collect();
                    finish(Value::Array(found), outer, limits)
                }
            }
        }
        Part::Query { query, every } => {
            let items = value.as_array()?;
            let mut hits = items.iter().filter(|item| holds(item, &query, limits));
            if !every {
                return continue_with(hits.next()?, rest, limits);
            }
            match rest {
                Some(Rest { path, piped: false }) => {
                    let (inner, outer) = split_pipe(path);
                    let found = hits.filter_map(|i| walk(i, inner, limits)).collect();
                    finish(Value::Array(found), outer, limits)
                }
                rest => {
                    let found: Option<Vec<Value>> = hits.map(|hit| limits.copy(hit)).collect();
                    continue_with(&Value::Array(found?), rest, limits)
                }
            }
        }
    }
}

fn continue_with(value: &Value, rest: Option<Rest<'_>>, limits: Limits<'_>) -> Option<Value> {
    match rest {
        None => limits.copy(value),
        Some(rest) => walk(value, rest.path, limits),
    }
}

fn finish(value: Value, outer: Option<&str>, limits: Limits<'_>) -> Option<Value> {
    match outer {
        None => Some(value),
        Some(path) => walk(&value, path, limits),
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
        path: &text[separator.len_utf8()..],
        piped: separator == '|',
    })
}

/// Splits at the first `|` outside of brackets and quotes: what follows applies to the result.
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
            '(' | '[' | '{' if !quoted => depth += 1,
            ')' | ']' | '}' if !quoted => depth -= 1,
            '|' if depth == 0 && !quoted => return (&path[..at], Some(&path[at + 1..])),
            _ => {}
        }
    }
    (path, None)
}

/// `[a,b]` and `{a,"k":b}`: an array or an object of what the paths in it select; and what follows.
fn multipath<'a>(
    value: &Value,
    path: &'a str,
    limits: Limits<'_>,
) -> Option<(Option<Value>, &'a str)> {
    let end = bracketed(path)?;
    let (inside, rest) = (&path[1..end - 1], &path[end..]);
    if path.starts_with('[') {
        let parts = commas(inside).into_iter();
        let found = parts.filter_map(|part| walk(value, part.trim(), limits));
        return Some((Some(Value::Array(found.collect())), rest));
    }
    let mut object = Map::new();
    for part in commas(inside) {
        let part = part.trim();
        let (name, path) = named(part);
        if let Some(found) = walk(value, path, limits) {
            object.insert(name, found);
        }
    }
    Some((Some(Value::Object(object)), rest))
}

/// The name of a part of `{…}`: its own, or that of the last key of its path.
fn named(part: &str) -> (String, &str) {
    if part.starts_with('"')
        && let Some(end) = quoted(part)
        && let Some(path) = part[end..].trim_start().strip_prefix(':')
        && let Ok(name) = serde_json::from_str(&part[..end])
    {
        return (name, path.trim_start());
    }
    let mut last = part;
    for (at, c) in part.char_indices().rev() {
        if matches!(c, '.' | '|') && !part[..at].ends_with('\\') {
            last = &part[at + 1..];
            break;
        }
    }
    let plain = |c: char| c >= ' ' && !"[]{}()#|!".contains(c);
    let name = if last.chars().all(plain) { last } else { "_" };
    (name.replace('\\', ""), part)
}

/// `!"text"` or `!123`, and what follows; what is no JSON is nothing.
fn literal(path: &str) -> (Option<Value>, &str) {
    let text = &path[1..];
    let end = match text.as_bytes().first() {
        Some(b'"') => quoted(text),
        Some(b'[' | b'{') => bracketed(text),
        _ => text
            .find(['.', '|'])
            .filter(|_| !text.starts_with(|c: char| c.is_ascii_digit() || c == '-')),
    };
    let end = end.unwrap_or_else(|| text.find('|').unwrap_or(text.len()));
    (serde_json::from_str(&text[..end]).ok(), &text[end..])
}

/// Where a text in quotes ends.
fn quoted(text: &str) -> Option<usize> {
    let mut escaped = false;
    for (at, c) in text.char_indices().skip(1) {
        match c {
            _ if escaped => escaped = false,
            '\\' => escaped = true,
            '"' => return Some(at + 1),
            _ => {}
        }
    }
    None
}

/// Where a text in brackets of whatever kind ends.
fn bracketed(text: &str) -> Option<usize> {
    let (mut depth, mut quoted, mut escaped) = (0, false, false);
    for (at, c) in text.char_indices() {
        match c {
            _ if escaped => escaped = false,
            '\\' => escaped = true,
            '"' => quoted = !quoted,
            '(' | '[' | '{' if !quoted => depth += 1,
            ')' | ']' | '}' if !quoted => {
                depth -= 1;
                if depth == 0 {
                    return Some(at + 1);
                }
            }
            _ => {}
        }
    }
    None
}

/// Splits at commas outside of brackets and quotes; of nothing there are no parts.
fn commas(text: &str) -> Vec<&str> {
    let (mut depth, mut quoted, mut escaped) = (0, false, false);
    let (mut parts, mut start) = (Vec::new(), 0);
    for (at, c) in text.char_indices() {
        match c {
            _ if escaped => escaped = false,
            '\\' => escaped = true,
            '"' => quoted = !quoted,
            '(' | '[' | '{' if !quoted => depth += 1,
            ')' | ']' | '}' if !quoted => depth -= 1,
            ',' if !quoted && depth == 0 => {
                parts.push(&text[start..at]);
                start = at + 1;
            }
            _ => {}
        }
    }
    parts.push(&text[start..]);
    parts.retain(|part| !part.trim().is_empty());
    parts
}

const OPERATORS: [&str; 9] = ["!%", "==", "!=", "<=", ">=", "=", "<", ">", "%"];

fn holds(item: &Value, query: &str, limits: Limits<'_>) -> bool {
    let query = query.trim();
    let Some((path, operator, wanted)) = split_query(query) else {
        return !query.is_empty() && walk(item, query, limits).is_some();
    };
    if path.is_empty() {
        return compare(item, operator, wanted);
    }
    walk(item, path, limits).is_some_and(|found| compare(&found, operator, wanted))
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

    use super::TooMuch;

    fn select(document: &Value, path: &str) -> Option<Value> {
        super::select(document, 1000, path).unwrap()
    }

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
            ("children.@reverse", json!(["Jack", "Alex", "Sara"])),
            ("children|@reverse|0", json!("Jack")),
            ("children.@reverse.0", json!("Jack")),
            ("name.@reverse", json!({"last": "Anderson", "first": "Tom"})),
            ("name.@keys", json!(["first", "last"])),
            ("name.@values", json!(["Tom", "Anderson"])),
            ("age.@keys", json!([])),
            (
                "name|@ugly|@pretty:{\"indent\":\"x.y\"}.first",
                json!("Tom"),
            ),
            ("@this.age", json!(37)),
            ("@valid.age", json!(37)),
            ("age.@tostr", json!("37")),
            ("name.@tostr.@fromstr.first", json!("Tom")),
            (
                "[children,[age],[[!1]]].@flatten",
                json!(["Sara", "Alex", "Jack", 37, [1]]),
            ),
            (
                "[[[!1,[!2]]],!3].@flatten:{\"deep\":true}",
                json!([1, 2, 3]),
            ),
            (
                "[name,{age},!{\"age\":1}].@join",
                json!({"first": "Tom", "last": "Anderson", "age": 1}),
            ),
            (
                "{\"id\":children,\"n\":![1,2]}.@group",
                json!([{"id": "Sara", "n": 1}, {"id": "Alex", "n": 2}, {"id": "Jack"}]),
            ),
            (
                "@dig:last",
                json!(["Anderson", "Murphy", "Craig", "Murphy"]),
            ),
            ("friends|@dig:nets.0|#", json!(3)),
            ("[name.first,age,nope]", json!(["Tom", 37])),
            (
                "{name.first,\"years\":age,friends.#.last,children.#,fav\\.movie}",
                json!({"first": "Tom", "years": 37, "last": ["Murphy", "Craig", "Murphy"], "_": 3, "fav.movie": "Deer Hunter"}),
            ),
            (
                "friends.#.{first,\"n\":nets.#}|1",
                json!({"first": "Roger", "n": 2}),
            ),
            (
                "{\"a\":!\"x.y\",\"b\":!true,\"c\":!-1.5}",
                json!({"a": "x.y", "b": true, "c": -1.5}),
            ),
            ("..#", json!(1)),
            ("..0.age", json!(37)),
            ("..#.name.first", json!(["Tom"])),
            ("{}", json!({})),
        ];
        for (path, expected) in cases {
            assert_eq!(select(&document(), path), Some(expected), "{path}");
        }
        for path in [
            "",
            "nope",
            "children.9",
            "children.-1",
            "age.x",
            "friends.#(age>100)",
            "@nope",
            "age.@fromstr",
            "age.@group",
            "!nonsense",
            "[age",
            "{age",
        ] {
            assert_eq!(select(&document(), path), None, "{path}");
        }
    }
    #[test]
    fn what_follows_a_bracket_may_be_any_character() {
        assert_eq!(select(&document(), "[age]é"), Some(json!([37])));
        assert_eq!(select(&document(), "!\"a\"😀"), Some(json!("a")));
        assert_eq!(select(&document(), "friends.#(age>44)é"), None);
    }

    #[test]
    fn paths_that_make_too_much_are_refused() {
        for path in [
            // Each step doubles what there is, or what is escaped in it.
            "[@this,@this]".to_owned() + &".[@this,@this]".repeat(100),
            "[name,children]|".repeat(20) + &"{\"a\":@this,\"b\":@this}|".repeat(60) + "@keys",
            "@tostr".to_owned() + &".@tostr".repeat(60),
            // Each step goes through everything.
            "@dig:".repeat(200) + "age",
            "[[@this,@this],[@this,@this]]".to_owned() + &"|@flatten|[@this,@this]".repeat(90),
        ] {
            let most = (1 << 18) + 4000;
            let outcome = super::select(&document(), 1000, &path);
            assert_eq!(outcome, Err(TooMuch(most)), "{path}");
        }
        // What is large because the body is, is not too much.
        let items: Value = (0..200_000).map(|n| json!({"a": n, "b": [n]})).collect();
        let bytes = items.to_string().len();
        for path in [
            "#.a",
            "[#.a,#.b.0]",
            "#(a>=0)#.b",
            "@this|@reverse|@flatten",
            "@dig:b",
        ] {
            let found = super::select(&items, bytes, path).unwrap();
            assert!(found.is_some_and(|found| found.is_array()), "{path}");
        }
    }

    #[test]
    fn paths_without_end_select_nothing() {
        let deep = "@this.".repeat(100_000) + "age";
        assert!(super::select(&document(), 1000, &deep).is_err());
        let nested = "[".repeat(5_000) + &"]".repeat(5_000);
        // Far outside there are arrays, far inside nothing.
        assert!(select(&document(), &nested).is_some_and(|v| v.is_array()));
        for odd in [
            "\\", "@", "@:", "!", "[", "]", "{\"", "#(", "..", "{a:}", "[,,]", "\"|", "@dig",
            "@join:\"",
        ] {
            let _ = select(&document(), odd);
        }
    }
}
