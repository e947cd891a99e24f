//! The agent's log as its readers take it: one line an entry, `key=value` by `key=value`.

use std::str::Chars;

/// One entry.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct LogLine {
    /// `error`, `warning`, …
    pub(crate) level: String,
    /// The message; empty when there is none.
    pub(crate) msg: String,
    /// All other fields but the time.
    pub(crate) fields: Vec<(String, String)>,
}

impl LogLine {
    /// Reads a line.
    ///
    /// # Panics
    /// When it is not an entry of the text format.
    #[track_caller]
    pub(crate) fn parse(line: &str) -> Self {
        let pairs = pairs(line).unwrap_or_else(|| panic!("not an entry of a log: {line}"));
        let mut entry = Self {
            level: String::new(),
            msg: String::new(),
            fields: Vec::new(),
        };
        let mut time = false;
        for (key, value) in pairs {
            match key.as_str() {
                "time" => time = true,
                "level" => entry.level = value,
                "msg" => entry.msg = value,
                _ => entry.fields.push((key, value)),
            }
        }
        assert!(time && !entry.level.is_empty(), "no time or level: {line}");
        entry
    }

    /// The value of a field.
    pub(crate) fn field(&self, key: &str) -> Option<&str> {
        let field = self.fields.iter().find(|(name, _)| name == key);
        field.map(|(_, value)| value.as_str())
    }
}

fn pairs(line: &str) -> Option<Vec<(String, String)>> {
    let mut pairs = Vec::new();
    let mut rest = line.chars();
    while !rest.as_str().is_empty() {
        let (key, _) = rest.as_str().split_once('=')?;
        if key.is_empty() || key.contains([' ', '"']) {
            return None;
        }
        rest.nth(key.chars().count())?;
        let value = if rest.as_str().starts_with('"') {
            quoted(&mut rest)?
        } else {
            let value = rest.as_str().split(' ').next()?.to_owned();
            rest = rest.as_str()[value.len()..].chars();
            value
        };
        pairs.push((key.to_owned(), value));
        if !matches!(rest.next(), None | Some(' ')) {
            return None;
        }
    }
    Some(pairs)
}

/// Reads a quoted text and takes it off the rest.
fn quoted(rest: &mut Chars<'_>) -> Option<String> {
    rest.next();
    let mut text = String::new();
    loop {
        match rest.next()? {
            '"' => return Some(text),
            '\\' => match rest.next()? {
                'n' => text.push('\n'),
                't' => text.push('\t'),
                'r' => text.push('\r'),
                'u' => {
                    let digits: String = rest.by_ref().take(4).collect();
                    text.push(char::from_u32(u32::from_str_radix(&digits, 16).ok()?)?);
                }
                'x' => {
                    let digits: String = rest.by_ref().take(2).collect();
                    text.push(char::from_u32(u32::from_str_radix(&digits, 16).ok()?)?);
                }
                other => text.push(other),
            },
            other => text.push(other),
        }
    }
}
