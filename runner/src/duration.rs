//! Durations as scripts, flags and messages write them: Go's notation (`1h2m3.5s`), with the two
//! additions that options accept, a leading count of days (`2d12h`) and bare milliseconds (`1500`).
//!
//! A duration may be negative here: `startTime: '-1s'` has to survive decoding, so that validation
//! can name the scenario it stands in.

use std::{fmt, time::Duration};

use serde_json::Value;

/// A signed span of time in whole nanoseconds, printed and read in Go's notation.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub(crate) struct GoDuration(pub(crate) i64);

const NANOS_PER_MILLI: i64 = 1_000_000;
const NANOS_PER_SECOND: i64 = 1_000_000_000;
const NANOS_PER_DAY: i64 = 86_400 * NANOS_PER_SECOND;

impl GoDuration {
    /// No time at all.
    pub(crate) const ZERO: Self = Self(0);

    /// A whole number of seconds.
    pub(crate) const fn from_secs(seconds: i64) -> Self {
        Self(seconds * NANOS_PER_SECOND)
    }

    /// Nanoseconds, possibly negative.
    pub(crate) const fn nanos(self) -> i64 {
        self.0
    }

    /// A span of the standard library, the longest one if it is longer.
    pub(crate) fn from_std(span: Duration) -> Self {
        Self(i64::try_from(span.as_nanos()).unwrap_or(i64::MAX))
    }

    /// The same span for timers; a negative one is over before it starts.
    pub(crate) fn to_std(self) -> Duration {
        Duration::from_nanos(u64::try_from(self.0).unwrap_or(0))
    }

    /// Reads Go's notation: an optional sign, then numbers that each have a unit of
    /// `ns us µs ms s m h`. This is what command-line flags accept.
    ///
    /// # Errors
    /// The text Go's standard library gives, for example `time: unknown unit "x" in duration "10x"`.
    pub(crate) fn parse(text: &str) -> Result<Self, String> {
        let invalid = || format!("time: invalid duration {text:?}");
        let (negative, mut rest) = match text.as_bytes().first() {
            Some(b'-') => (true, &text[1..]),
            Some(b'+') => (false, &text[1..]),
            _ => (false, text),
        };
        if rest == "0" {
            return Ok(Self::ZERO);
        }
        if rest.is_empty() {
            return Err(invalid());
        }
        // i128 holds any sum of i64 terms that a text of sane length can have; checked at the end.
        let mut total: i128 = 0;
        while !rest.is_empty() {
            let (whole, after) = split_digits(rest);
            let (fraction, after) = match after.strip_prefix('.') {
                Some(after) => split_digits(after),
                None => ("", after),
            };
            if whole.is_empty() && fraction.is_empty() {
                return Err(invalid());
            }
            let end = after
                .find(|c: char| c == '.' || c.is_ascii_digit())
                .unwrap_or(after.len());
            let (unit, after) = after.split_at(end);
            if unit.is_empty() {
                return Err(format!("time: missing unit in duration {text:?}"));
            }
            let nanos: i64 = match unit {
                "ns" => 1,
                "us" | "µs" | "μs" => 1_000,
                "ms" => NANOS_PER_MILLI,
                "s" => NANOS_PER_SECOND,
                "m" => 60 * NANOS_PER_SECOND,
                "h" => 3_600 * NANOS_PER_SECOND,
                _ => return Err(format!("time: unknown unit {unit:?} in duration {text:?}")),
            };
            let whole: i64 = if whole.is_empty() {
                0
            } else {
                whole.parse().map_err(|_| invalid())?
            };
            total += i128::from(whole) * i128::from(nanos) + fraction_of(fraction, nanos);
            if total > 1 << 63 {
                return Err(invalid());
            }
            rest = after;
        }
        let signed = if negative { -total } else { total };
        i64::try_from(signed).map(Self).map_err(|_| invalid())
    }

    /// Reads what script options, config files and environment variables accept: everything of
    /// [`GoDuration::parse`], a leading count of days whose sign covers both parts (`-1d2h`), and a
    /// bare number of milliseconds.
    ///
    /// # Errors
    /// The text of [`GoDuration::parse`].
    pub(crate) fn parse_extended(text: &str) -> Result<Self, String> {
        let numeric = text
            .bytes()
            .all(|b| b.is_ascii_digit() || matches!(b, b'+' | b'-' | b'.' | b'e' | b'E'));
        if numeric && let Ok(millis) = text.parse::<f64>() {
            return Self::from_millis(millis)
                .ok_or_else(|| format!("time: invalid duration {text:?}"));
        }
        let Some((days, rest)) = text.split_once('d') else {
            return Self::parse(text);
        };
        let invalid = || format!("time: invalid duration {text:?}");
        let negative = days.starts_with('-');
        let days: i64 = days.parse().map_err(|_| invalid())?;
        let rest = if rest.is_empty() {
            Self::ZERO
        } else {
            Self::parse(rest)?
        };
        if rest.0 < 0 {
            return Err(invalid());
        }
        let rest = if negative { -rest.0 } else { rest.0 };
        days.checked_mul(NANOS_PER_DAY)
            .and_then(|days| days.checked_add(rest))
            .map(Self)
            .ok_or_else(invalid)
    }

    /// Reads a JSON value: a number of milliseconds, or a text of [`GoDuration::parse_extended`].
    ///
    /// # Errors
    /// The text of the failing notation, or `'true' is not a valid duration value`.
    pub(crate) fn from_json(value: &Value) -> Result<Self, String> {
        let unfit = || format!("'{value}' is not a valid duration value");
        match value {
            Value::String(text) => Self::parse_extended(text),
            Value::Number(number) => number
                .as_f64()
                .and_then(Self::from_millis)
                .ok_or_else(unfit),
            _ => Err(unfit()),
        }
    }

    /// Milliseconds, truncated to whole nanoseconds; `None` when they do not fit.
    fn from_millis(millis: f64) -> Option<Self> {
        // A power of two, so exact as a float; NaN fails the comparison.
        const LIMIT: f64 = (1_u64 << 63) as f64;
        let nanos = millis * NANOS_PER_MILLI as f64;
        (nanos.abs() < LIMIT).then_some(Self(nanos as i64))
    }
}

/// The leading ASCII digits and what follows them.
fn split_digits(text: &str) -> (&str, &str) {
    let end = text
        .find(|c: char| !c.is_ascii_digit())
        .unwrap_or(text.len());
    text.split_at(end)
}

/// `0.<digits>` of a unit, in whole nanoseconds. Digits beyond the 18th are below a nanosecond of
/// every unit there is.
fn fraction_of(digits: &str, unit: i64) -> i128 {
    let kept = &digits[..digits.len().min(18)];
    let value: i128 = kept.parse().unwrap_or(0);
    value * i128::from(unit) / 10_i128.pow(kept.len() as u32)
}

impl fmt::Display for GoDuration {
    /// `1m30s`, `500ms`, `1.5s`, `0s`: hours and minutes only when there are any, and a sub-second
    /// span in its largest whole unit.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.0 == 0 {
            return f.write_str("0s");
        }
        if self.0 < 0 {
            f.write_str("-")?;
        }
        let nanos = self.0.unsigned_abs();
        let (unit, per_unit) = match nanos {
            0..1_000 => ("ns", 1),
            1_000..1_000_000 => ("µs", 1_000),
            1_000_000..1_000_000_000 => ("ms", 1_000_000),
            _ => ("s", 1_000_000_000),
        };
        let mut whole = nanos / per_unit;
        if unit == "s" {
            let minutes = whole / 60;
            whole %= 60;
            if minutes >= 60 {
                write!(f, "{}h", minutes / 60)?;
            }
            if minutes > 0 {
                write!(f, "{}m", minutes % 60)?;
            }
        }
        write!(f, "{whole}")?;
        let fraction = nanos % per_unit;
        if fraction > 0 {
            let width = per_unit.ilog10() as usize;
            let digits = format!("{fraction:0width$}");
            write!(f, ".{}", digits.trim_end_matches('0'))?;
        }
        f.write_str(unit)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use serde_json::json;

    use super::*;

    fn printed(text: &str) -> Result<String, String> {
        GoDuration::parse_extended(text).map(|d| d.to_string())
    }

    #[test]
    fn go_notation_is_read_and_printed() {
        for (text, expected) in [
            ("0", "0s"),
            ("90s", "1m30s"),
            ("1h2m3.5s", "1h2m3.5s"),
            ("180m", "3h0m0s"),
            ("60m", "1h0m0s"),
            ("500ms", "500ms"),
            ("1500ms", "1.5s"),
            ("1.5us", "1.5µs"),
            ("7ns", "7ns"),
            ("-1m", "-1m0s"),
            (".5s", "500ms"),
            ("1.s", "1s"),
            ("2562047h47m16.854775807s", "2562047h47m16.854775807s"),
        ] {
            assert_eq!(
                GoDuration::parse(text).map(|d| d.to_string()).as_deref(),
                Ok(expected),
                "{text}"
            );
        }
    }

    #[test]
    fn options_also_accept_days_and_bare_milliseconds() {
        for (text, expected) in [
            ("1500", "1.5s"),
            ("0.5", "500µs"),
            ("2d", "48h0m0s"),
            ("1d12h", "36h0m0s"),
            ("-1d2h", "-26h0m0s"),
            ("3s", "3s"),
        ] {
            assert_eq!(printed(text).as_deref(), Ok(expected), "{text}");
        }
        assert_eq!(
            GoDuration::from_json(&json!(1500)),
            Ok(GoDuration(1_500_000_000))
        );
        assert_eq!(GoDuration::from_json(&json!(0.25)), Ok(GoDuration(250_000)));
        assert_eq!(
            GoDuration::from_json(&json!("10")),
            Ok(GoDuration(10_000_000))
        );
    }

    #[test]
    fn bad_texts_are_named() {
        for (text, expected) in [
            ("10x", r#"time: unknown unit "x" in duration "10x""#),
            ("abc", r#"time: invalid duration "abc""#),
            ("", r#"time: invalid duration """#),
            (
                "3 parsecs",
                r#"time: unknown unit " parsecs" in duration "3 parsecs""#,
            ),
            ("1.5d", r#"time: invalid duration "1.5d""#),
            ("1d-2h", r#"time: invalid duration "1d-2h""#),
            (
                "9999999999999d",
                r#"time: invalid duration "9999999999999d""#,
            ),
            ("99999999999h", r#"time: invalid duration "99999999999h""#),
            ("1e300", r#"time: invalid duration "1e300""#),
        ] {
            assert_eq!(printed(text), Err(expected.to_owned()), "{text}");
        }
        assert_eq!(
            GoDuration::parse("500"),
            Err(r#"time: missing unit in duration "500""#.to_owned())
        );
        assert_eq!(
            GoDuration::from_json(&json!(true)),
            Err("'true' is not a valid duration value".to_owned())
        );
    }

    proptest! {
        #[test]
        fn what_is_printed_is_read_back(nanos in any::<i64>()) {
            prop_assume!(nanos != i64::MIN);
            let text = GoDuration(nanos).to_string();
            prop_assert_eq!(GoDuration::parse(&text), Ok(GoDuration(nanos)));
        }

        #[test]
        fn no_text_panics(text in "\\PC{0,24}") {
            let _ = GoDuration::parse(&text);
            let _ = GoDuration::parse_extended(&text);
        }
    }
}
