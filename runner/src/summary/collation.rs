//! The order in which names are listed: as a dictionary has them, not as bytes are.
//!
//! Punctuation before digits before letters; upper and lower case only decide between names
//! that are otherwise the same, and then lower comes first. The order within ASCII punctuation
//! is that of the Unicode collation algorithm's root table (DUCET as tailored by CLDR). Letters
//! beyond ASCII follow by code point; accents are not folded.

use std::cmp::Ordering;

/// ASCII punctuation in collation order.
const PUNCTUATION: &str = " _-,;:!?.'\"()[]{}@*/\\&#%`^+<=>|~$";

/// Compares two names.
pub(super) fn compare(a: &str, b: &str) -> Ordering {
    let primary = |name: &str| name.chars().map(weight).collect::<Vec<_>>();
    primary(a)
        .cmp(&primary(b))
        .then_with(|| {
            a.chars()
                .map(char::is_uppercase)
                .cmp(b.chars().map(char::is_uppercase))
        })
        .then_with(|| a.cmp(b))
}

/// The class of a character and its place in it.
fn weight(c: char) -> (u8, u32) {
    let code = u32::from(c);
    if c.is_control() {
        (0, code)
    } else if let Some(place) = PUNCTUATION.find(c) {
        (1, u32::try_from(place).unwrap_or(u32::MAX))
    } else if c.is_ascii_digit() {
        (2, code)
    } else {
        (3, c.to_lowercase().next().map_or(code, u32::from))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_ordered_as_in_a_dictionary() {
        let mut names = [
            "BB", "abc", "Ab", "_z", "b2", "ab_c", "aB", "a1", "ab", "a_b",
        ];
        names.sort_by(|a, b| compare(a, b));
        assert_eq!(
            names,
            [
                "_z", "a_b", "a1", "ab", "aB", "Ab", "ab_c", "abc", "b2", "BB"
            ]
        );
    }

    #[test]
    fn tags_are_ordered_by_value_and_punctuation() {
        let mut names = [
            "status:500",
            "name:ü",
            "name:z",
            "name:a/b",
            "name:a-b",
            "method:GET",
        ];
        names.sort_by(|a, b| compare(a, b));
        assert_eq!(
            names,
            [
                "method:GET",
                "name:a-b",
                "name:a/b",
                "name:z",
                "name:ü",
                "status:500"
            ]
        );
    }
}
