//! Where the parts of generated code come from: source maps, for the stacks of errors.

use base64::Engine;
use oxc_sourcemap::SourceMap;

use crate::loader;

/// Line and column, from 0.
type Place = (u32, u32);

/// Places in generated code, each with the place it comes from.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Positions {
    /// In the order of the generated places; the last number is that of the source.
    places: Vec<(Place, Place, u32)>,
    /// URLs of the sources; none when the code was made from its own file, here.
    sources: Vec<Box<str>>,
}

impl Positions {
    /// From pairs of generated and original places in the same file, counted from 0.
    pub(crate) fn new(places: impl Iterator<Item = (Place, Place)>) -> Self {
        Self::sorted(places.map(|(to, from)| (to, from, 0)), Vec::new())
    }

    /// From the JSON of a source map that belongs to the file with this URL.
    ///
    /// # Errors
    /// When it is none.
    pub(crate) fn from_map(json: &[u8], url: &str) -> Result<Self, String> {
        let json = std::str::from_utf8(json).map_err(|error| error.to_string())?;
        let map = SourceMap::from_json_string(json).map_err(|error| error.to_string())?;
        let root = map
            .get_source_root()
            .unwrap_or_default()
            .trim_end_matches('/');
        let sources = map
            .get_sources()
            .map(|source| {
                let named = if root.is_empty() || source.contains("://") {
                    source.to_string()
                } else {
                    format!("{root}/{source}")
                };
                match named.contains("://") {
                    true => named.into(),
                    false => loader::join(loader::folder_of(url), &named).into(),
                }
            })
            .collect();
        let places = map.get_tokens().filter_map(|token| {
            Some((
                (token.get_dst_line(), token.get_dst_col()),
                (token.get_src_line(), token.get_src_col()),
                token.get_source_id()?,
            ))
        });
        Ok(Self::sorted(places, sources))
    }

    fn sorted(places: impl Iterator<Item = (Place, Place, u32)>, sources: Vec<Box<str>>) -> Self {
        let mut places: Vec<_> = places.collect();
        places.sort();
        places.shrink_to_fit();
        Self { places, sources }
    }

    /// Whether the code was made from its own file.
    pub(crate) fn same_file(&self) -> bool {
        self.sources.is_empty()
    }

    /// The original of a place in the generated code, both counted from 1, and its file if that is
    /// another one.
    ///
    /// Between two known places a text of ours is the same up to what was taken away, so columns
    /// go on from the nearest; others may have new names, and the nearest is all one knows.
    pub(crate) fn original(
        &self,
        line: usize,
        column: usize,
    ) -> Option<(Option<&str>, usize, usize)> {
        let line = u32::try_from(line.checked_sub(1)?).ok()?;
        let column = u32::try_from(column.checked_sub(1)?).ok()?;
        let after = self
            .places
            .partition_point(|(generated, ..)| *generated <= (line, column));
        let ((known_line, known_column), (from_line, from_column), source) =
            *self.places.get(after.checked_sub(1)?)?;
        let further = match (self.same_file(), known_line == line) {
            (true, true) => column - known_column,
            (true, false) => 0,
            (false, true) => 0,
            // Nothing of this line is known.
            (false, false) => return None,
        };
        let file = self.sources.get(source as usize).map(|file| &**file);
        Some((
            file,
            from_line as usize + 1,
            (from_column + further) as usize + 1,
        ))
    }
}

/// What a script says of its source map: the URL in its last comment of that kind.
pub(crate) fn mentioned(text: &str) -> Option<&str> {
    let at = ["//# sourceMappingURL=", "//@ sourceMappingURL="]
        .iter()
        .filter_map(|mark| Some(text.rfind(mark)? + mark.len()))
        .max()?;
    let url = text[at..].split(char::is_whitespace).next()?;
    Some(url).filter(|url| !url.is_empty())
}

/// The content of a `data:` URL.
///
/// # Errors
/// When it is damaged.
pub(crate) fn inline(url: &str) -> Result<Vec<u8>, String> {
    let (kind, data) = url.split_once(',').ok_or("a data URL without data")?;
    if !kind.ends_with(";base64") {
        return Ok(loader::unescape(data).into_bytes());
    }
    base64::engine::general_purpose::STANDARD
        .decode(data)
        .map_err(|error| error.to_string())
}

#[cfg(test)]
mod tests {
    use super::{Positions, inline, mentioned};

    #[test]
    fn places_between_known_ones_go_on_from_the_nearest() {
        let positions = Positions::new([((2, 0), (9, 0)), ((0, 4), (1, 8))].into_iter());
        assert_eq!(positions.original(1, 5), Some((None, 2, 9)));
        assert_eq!(positions.original(1, 7), Some((None, 2, 11)));
        assert_eq!(positions.original(2, 1), Some((None, 2, 9)));
        assert_eq!(positions.original(3, 2), Some((None, 10, 2)));
        assert_eq!(positions.original(1, 4), None);
        assert_eq!(positions.original(0, 0), None);
    }

    #[test]
    fn maps_name_their_sources() {
        // Line 1 column 0 is src/a.ts 3:4, line 1 column 8 is webpack://x/b.ts 1:0.
        let json = br#"{"version":3,"sources":["src/a.ts","webpack://x/b.ts"],"names":[],"mappings":"AAEI,QCFJ"}"#;
        let positions = Positions::from_map(json, "file:///dir/out.js").unwrap();
        assert_eq!(
            positions.original(1, 1),
            Some((Some("file:///dir/src/a.ts"), 3, 5))
        );
        assert_eq!(
            positions.original(1, 8),
            Some((Some("file:///dir/src/a.ts"), 3, 5))
        );
        assert_eq!(
            positions.original(1, 9),
            Some((Some("webpack://x/b.ts"), 1, 1))
        );
        assert_eq!(positions.original(2, 1), None);
        let rooted =
            br#"{"version":3,"sourceRoot":"/r/","sources":["a.ts"],"names":[],"mappings":"AAAA"}"#;
        let positions = Positions::from_map(rooted, "file:///dir/out.js").unwrap();
        assert_eq!(
            positions.original(1, 1),
            Some((Some("file:///r/a.ts"), 1, 1))
        );
        assert!(Positions::from_map(b"{", "file:///dir/out.js").is_err());
        assert!(Positions::from_map(b"\xff", "file:///dir/out.js").is_err());
    }

    #[test]
    fn the_last_comment_counts() {
        let text = "//# sourceMappingURL=a.map\nf();\n//# sourceMappingURL=b.map \n";
        assert_eq!(mentioned(text), Some("b.map"));
        assert_eq!(mentioned("f();"), None);
        assert_eq!(mentioned("//# sourceMappingURL=\n"), None);
        assert_eq!(inline("data:application/json;base64,e30=").unwrap(), b"{}");
        assert_eq!(inline("data:application/json,%7B%7D").unwrap(), b"{}");
        assert!(inline("data:application/json;base64,!").is_err());
        assert!(inline("data:").is_err());
    }
}
