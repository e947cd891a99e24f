//! Records of a CSV file (RFC 4180), read one at a time from memory.
//!
//! The rules and the texts are those of Go's reader, which are stricter than those of the CSV
//! libraries there are: a stray quote is an error and not a character.

use std::{borrow::Cow, sync::Arc};

/// Where a reader is in a file.
pub(super) struct Reader {
    content: Arc<[u8]>,
    at: usize,
    delimiter: u8,
    /// How many lines have been read.
    line: usize,
    /// How many fields each record must have: as many as the first.
    width: Option<usize>,
}

/// What is wrong with a record.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub(super) enum CsvError {
    #[error("record on line {0}: wrong number of fields")]
    Width(usize),
    #[error("parse error on line {line}, column {column}: bare \" in non-quoted field")]
    BareQuote { line: usize, column: usize },
    #[error("{}: extraneous or missing \" in quoted-field", place(*.start, *.line, *.column))]
    Quote {
        start: usize,
        line: usize,
        column: usize,
    },
}

fn place(start: usize, line: usize, column: usize) -> String {
    if start == line {
        format!("parse error on line {line}, column {column}")
    } else {
        format!("record on line {start}; parse error on line {line}, column {column}")
    }
}

/// The fields of a record.
pub(crate) type Record = Vec<String>;

impl Reader {
    pub(super) fn new(content: Arc<[u8]>, delimiter: u8) -> Self {
        Self {
            content,
            at: 0,
            delimiter,
            line: 0,
            width: None,
        }
    }

    /// The next line, with `\n` at its end if it has an end and `\r\n` made `\n`.
    fn next_line<'a>(&mut self, content: &'a [u8]) -> Option<Cow<'a, [u8]>> {
        let rest = &content[self.at..];
        if rest.is_empty() {
            return None;
        }
        self.line += 1;
        let Some(end) = rest.iter().position(|byte| *byte == b'\n') else {
            self.at = content.len();
            // A lone carriage return before the end is part of that end.
            return Some(Cow::Borrowed(rest.strip_suffix(b"\r").unwrap_or(rest)));
        };
        self.at += end + 1;
        Some(match rest[..end].strip_suffix(b"\r") {
            Some(text) => {
                let mut line = text.to_vec();
                line.push(b'\n');
                Cow::Owned(line)
            }
            None => Cow::Borrowed(&rest[..=end]),
        })
    }

    /// The next record; `None` at the end. Empty lines are none.
    ///
    /// # Errors
    /// When it is not a record, or has another number of fields than the first.
    pub(super) fn next(&mut self) -> Result<Option<Record>, CsvError> {
        let content = self.content.clone();
        let first = loop {
            match self.next_line(&content) {
                None => return Ok(None),
                Some(line) if *line == *b"\n" || line.is_empty() => {}
                Some(line) => break line,
            }
        };
        let start = self.line;
        let record = self.fields(&content, first)?;
        let width = *self.width.get_or_insert(record.len());
        if record.len() != width {
            return Err(CsvError::Width(start));
        }
        Ok(Some(record))
    }

    fn fields<'a>(&mut self, content: &'a [u8], first: Cow<'a, [u8]>) -> Result<Record, CsvError> {
        let start = self.line;
        let mut record = Record::new();
        let mut line = first;
        let mut at = 0;
        loop {
            if line.get(at) != Some(&b'"') {
                // A field without quotes: up to the next delimiter or the end of the line.
                let rest = line[at..].strip_suffix(b"\n").unwrap_or(&line[at..]);
                let end = rest.iter().position(|byte| *byte == self.delimiter);
                let field = &rest[..end.unwrap_or(rest.len())];
                if let Some(quote) = field.iter().position(|byte| *byte == b'"') {
                    return Err(CsvError::BareQuote {
                        line: self.line,
                        column: at + quote + 1,
                    });
                }
                record.push(text(field));
                match end {
                    Some(end) => at += end + 1,
                    None => return Ok(record),
                }
                continue;
            }
            // A field in quotes, which may go on over lines.
            at += 1;
            let mut field = Vec::new();
            loop {
                let rest = &line[at..];
                let Some(quote) = rest.iter().position(|byte| *byte == b'"') else {
                    field.extend_from_slice(rest);
                    let column = line.len() + 1;
                    match self.next_line(content) {
                        Some(next) => (line, at) = (next, 0),
                        None => {
                            return Err(CsvError::Quote {
                                start,
                                line: self.line,
                                column,
                            });
                        }
                    }
                    continue;
                };
                field.extend_from_slice(&rest[..quote]);
                at += quote + 1;
                match line.get(at) {
                    Some(b'"') => {
                        field.push(b'"');
                        at += 1;
                    }
                    Some(byte) if *byte == self.delimiter => {
                        at += 1;
                        record.push(text(&field));
                        break;
                    }
                    None | Some(b'\n') => {
                        record.push(text(&field));
                        return Ok(record);
                    }
                    Some(_) => {
                        return Err(CsvError::Quote {
                            start,
                            line: self.line,
                            column: at,
                        });
                    }
                }
            }
        }
    }
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::{Reader, Record};

    fn read(source: &[u8], delimiter: u8) -> Result<Vec<Record>, String> {
        let mut reader = Reader::new(source.into(), delimiter);
        let mut all = Vec::new();
        while let Some(record) = reader.next().map_err(|e| e.to_string())? {
            all.push(record);
        }
        Ok(all)
    }

    #[test]
    fn records_are_those_of_gos_reader() {
        // Cases of the tests of Go's encoding/csv, by what they are about.
        for (source, expected) in [
            ("a,b,c\n", "a|b|c"),
            ("a,b\r\nc,d\r\n", "a|b/c|d"),
            ("a,b\rc,d\r\n", "a|b\rc|d"),
            (
                "\"aaa\",\"b\"\"bb\",\"ccc\"\n\"a,a\",\"b\"\"bb\",\"ccc\"\nzzz,yyy,xxx\n",
                "aaa|b\"bb|ccc/a,a|b\"bb|ccc/zzz|yyy|xxx",
            ),
            ("a,b,c", "a|b|c"),
            (
                "\"two\nline\",\"one line\",\"three\nline\nfield\"",
                "two\nline|one line|three\nline\nfield",
            ),
            ("a,b,c\n\nd,e,f\n\n", "a|b|c/d|e|f"),
            ("   a,  b,   c\n", "   a|  b|   c"),
            ("a,b,c\n  d,e,\n", "a|b|c/  d|e|"),
            ("x,,,\n,,,\n", "x|||/|||"),
            ("\"a\r\nb\",c\r\n", "a\nb|c"),
            ("\"\"\"\"\n", "\""),
            ("\"\"", ""),
            ("a\r", "a"),
            ("\r\n\n\r\na\n", "a"),
            ("\u{feff}a,b", "\u{feff}a|b"),
            ("", "none"),
            ("\n\n", "none"),
        ] {
            let records = read(source.as_bytes(), b',').unwrap();
            let shown: Vec<String> = records.iter().map(|r| r.join("|")).collect();
            let shown = if records.is_empty() {
                "none".to_owned()
            } else {
                shown.join("/")
            };
            assert_eq!(shown, expected, "{source:?}");
        }
        assert_eq!(read(b"a\tb c\n", b'\t').unwrap(), [["a", "b c"]]);
        assert_eq!(
            read(b"\xff\xfe,\"\xe9\"", b',').unwrap(),
            [["\u{fffd}\u{fffd}", "\u{fffd}"]]
        );
    }

    #[test]
    fn faults_are_told_with_their_place() {
        for (source, expected) in [
            ("a,b,c\nd,e", "record on line 2: wrong number of fields"),
            (
                "a\n\n\"x\ny\",z",
                "record on line 3: wrong number of fields",
            ),
            (
                "a \"word\",\"b\"",
                "parse error on line 1, column 3: bare \" in non-quoted field",
            ),
            (
                "\"a \"word\",\"b\"",
                "parse error on line 1, column 4: extraneous or missing \" in quoted-field",
            ),
            (
                "\"abc",
                "parse error on line 1, column 5: extraneous or missing \" in quoted-field",
            ),
            (
                "a\n\"abc\ndef",
                "record on line 2; parse error on line 3, column 4: extraneous or missing \" in quoted-field",
            ),
            (
                "\"a\"b",
                "parse error on line 1, column 3: extraneous or missing \" in quoted-field",
            ),
        ] {
            assert_eq!(
                read(source.as_bytes(), b','),
                Err(expected.to_owned()),
                "{source:?}"
            );
        }
    }

    proptest! {
        #[test]
        fn any_bytes_are_records_or_a_fault(source in proptest::collection::vec(any::<u8>(), 0..300), delimiter: u8) {
            let _ = read(&source, delimiter);
        }

        #[test]
        fn what_is_written_is_read(rows in proptest::collection::vec(proptest::collection::vec("[a-z,\";é\n]{0,6}", 3), 1..6)) {
            let field = |f: &String| format!("\"{}\"", f.replace('"', "\"\""));
            let line = |r: &Vec<String>| r.iter().map(field).collect::<Vec<_>>().join(",");
            let source = rows.iter().map(line).collect::<Vec<_>>().join("\n");
            prop_assert_eq!(read(source.as_bytes(), b',').unwrap(), rows);
        }
    }
}
