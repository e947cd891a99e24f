//! Numbers, durations, times and strings as the reference's outputs spell them.
//!
//! The reference is a Go program, so these are Go's formats: shortest digits that read back
//! as the same number, exponents of at least two digits, `1m30s`, RFC 3339 with as many
//! decimals as needed. All append to a buffer: they run once per line of an output.

use std::{fmt::Write, time::Duration};

/// Appends a finite number as JSON: plain from 1e-6 up to 1e21, else with an exponent.
pub(crate) fn push_json_number(out: &mut String, value: f64) {
    let magnitude = value.abs();
    push_number(
        out,
        value,
        magnitude == 0.0 || (1e-6..1e21).contains(&magnitude),
    );
}

/// Appends a number as Prometheus' text format does: plain from 1e-4 up to 1e6, else with an
/// exponent; `NaN`, `+Inf` and `-Inf`.
pub(crate) fn push_exposition_number(out: &mut String, value: f64) {
    if value.is_finite() {
        let magnitude = value.abs();
        push_number(
            out,
            value,
            magnitude == 0.0 || (1e-4..1e6).contains(&magnitude),
        );
    } else if value.is_nan() {
        out.push_str("NaN");
    } else {
        out.push_str(if value > 0.0 { "+Inf" } else { "-Inf" });
    }
}

fn push_number(out: &mut String, value: f64, plain: bool) {
    // Writing to a String cannot fail.
    if plain {
        let _ = write!(out, "{value}");
        return;
    }
    let start = out.len();
    let _ = write!(out, "{value:e}");
    if let Some(at) = out[start..].find('e') {
        let exponent = out.split_off(start + at + 1);
        let (sign, digits) = match exponent.strip_prefix('-') {
            Some(digits) => ('-', digits),
            None => ('+', &*exponent),
        };
        let _ = write!(out, "{sign}{digits:0>2}");
    }
}

/// Appends a JSON string with its quotes. As the reference's JSON output: `<`, `>` and `&`
/// stay as they are.
pub(crate) fn push_json_string(out: &mut String, text: &str) {
    out.push('"');
    let mut copied = 0;
    for (at, character) in text.char_indices() {
        let escape = match character {
            '"' => "\\\"",
            '\\' => "\\\\",
            '\n' => "\\n",
            '\r' => "\\r",
            '\t' => "\\t",
            '\u{2028}' => "\\u2028",
            '\u{2029}' => "\\u2029",
            '\0'..='\u{1f}' => "",
            _ => continue,
        };
        out.push_str(&text[copied..at]);
        if escape.is_empty() {
            let _ = write!(out, "\\u{:04x}", character as u32);
        } else {
            out.push_str(escape);
        }
        copied = at + character.len_utf8();
    }
    out.push_str(&text[copied..]);
    out.push('"');
}

/// Go's `Duration.String`: `0s`, `1.5ms`, `5s`, `1h0m30s`.
pub(crate) fn go_duration(duration: Duration) -> String {
    let nanos = duration.as_nanos();
    let below_second = |unit: &str, size: u32| format!("{}{unit}", nanos as f64 / f64::from(size));
    match nanos {
        0 => "0s".to_owned(),
        1..1_000 => format!("{nanos}ns"),
        1_000..1_000_000 => below_second("µs", 1_000),
        1_000_000..1_000_000_000 => below_second("ms", 1_000_000),
        _ => {
            let seconds = duration.as_secs();
            let (hours, minutes) = (seconds / 3600, seconds / 60 % 60);
            let mut text = String::new();
            if hours > 0 {
                let _ = write!(text, "{hours}h");
            }
            if seconds >= 60 {
                let _ = write!(text, "{minutes}m");
            }
            let _ = write!(text, "{}", seconds % 60);
            let decimals = format!("{:09}", duration.subsec_nanos());
            let decimals = decimals.trim_end_matches('0');
            if !decimals.is_empty() {
                let _ = write!(text, ".{decimals}");
            }
            text.push('s');
            text
        }
    }
}

/// Reads Go's duration syntax (`30s`, `1m30s`, `1.5h`, `0`), without a sign.
pub(crate) fn parse_go_duration(text: &str) -> Option<Duration> {
    if text == "0" {
        return Some(Duration::ZERO);
    }
    let mut seconds = 0.0;
    let mut rest = text;
    while !rest.is_empty() {
        let number_ends = rest.find(|c: char| !c.is_ascii_digit() && c != '.')?;
        let (number, tail) = rest.split_at(number_ends);
        let unit_ends = tail
            .find(|c: char| c.is_ascii_digit() || c == '.')
            .unwrap_or(tail.len());
        let (unit, tail) = tail.split_at(unit_ends);
        let size = match unit {
            "ns" => 1e-9,
            "us" | "µs" | "μs" => 1e-6,
            "ms" => 1e-3,
            "s" => 1.0,
            "m" => 60.0,
            "h" => 3600.0,
            _ => return None,
        };
        seconds += number.parse::<f64>().ok()? * size;
        rest = tail;
    }
    if text.is_empty() {
        None
    } else {
        Duration::try_from_secs_f64(seconds).ok()
    }
}

/// Writes Unix times as RFC 3339 in UTC, remembering the second it wrote last.
#[derive(Debug, Default)]
pub(crate) struct TimeWriter {
    second: Option<i64>,
    text: String,
}

impl TimeWriter {
    /// Appends `2026-11-22T07:40:20.477235185Z`; trailing zeros of the fraction are left out.
    pub(crate) fn push(&mut self, out: &mut String, unix_ns: i64) {
        let second = unix_ns.div_euclid(1_000_000_000);
        if self.second != Some(second) {
            self.second = Some(second);
            self.text.clear();
            let (year, month, day) = civil_date(second.div_euclid(86_400));
            let clock = second.rem_euclid(86_400);
            let (hour, minute, rest) = (clock / 3600, clock / 60 % 60, clock % 60);
            let _ = write!(
                self.text,
                "{year:04}-{month:02}-{day:02}T{hour:02}:{minute:02}:{rest:02}"
            );
        }
        out.push_str(&self.text);
        let fraction = unix_ns.rem_euclid(1_000_000_000);
        if fraction != 0 {
            let _ = write!(out, ".{fraction:09}");
            out.truncate(out.trim_end_matches('0').len());
        }
        out.push('Z');
    }
}

/// Year, month and day of a day counted from 1970-01-01 in the Gregorian calendar: eras of
/// 400 years, years that begin in March so that the leap day comes last (H. Hinnant,
/// "chrono-Compatible Low-Level Date Algorithms").
fn civil_date(days: i64) -> (i64, i64, i64) {
    let days = days + 719_468;
    let era = days.div_euclid(146_097);
    let day_of_era = days.rem_euclid(146_097);
    let year_of_era =
        (day_of_era - day_of_era / 1_460 + day_of_era / 36_524 - day_of_era / 146_096) / 365;
    let day_of_year = day_of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let shifted_month = (5 * day_of_year + 2) / 153;
    let day = day_of_year - (153 * shifted_month + 2) / 5 + 1;
    let month = if shifted_month < 10 {
        shifted_month + 3
    } else {
        shifted_month - 9
    };
    (year_of_era + era * 400 + i64::from(month <= 2), month, day)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn json_numbers_are_go_s() {
        for (value, text) in [
            (0.0, "0"),
            (-0.0, "-0"),
            (1.0, "1"),
            (-2.5, "-2.5"),
            (0.291192, "0.291192"),
            (1e6, "1000000"),
            (1e20, "100000000000000000000"),
            (1e21, "1e+21"),
            (1.5e-7, "1.5e-07"),
            (-1e300, "-1e+300"),
            (0.000001, "0.000001"),
        ] {
            let mut out = String::new();
            push_json_number(&mut out, value);
            assert_eq!(out, text);
            assert_eq!(out.parse::<f64>().unwrap().to_bits(), value.to_bits());
        }
    }

    #[test]
    fn exposition_numbers_are_go_s() {
        for (value, text) in [
            (0.0, "0"),
            (5024.465996000001, "5024.465996000001"),
            (999_999.5, "999999.5"),
            (1e6, "1e+06"),
            (1_234_567.0, "1.234567e+06"),
            (0.0001, "0.0001"),
            (0.00001, "1e-05"),
            (f64::NAN, "NaN"),
            (f64::INFINITY, "+Inf"),
            (f64::NEG_INFINITY, "-Inf"),
        ] {
            let mut out = String::new();
            push_exposition_number(&mut out, value);
            assert_eq!(out, text);
        }
    }

    #[test]
    fn strings_are_escaped_without_html() {
        let mut out = String::new();
        push_json_string(&mut out, "a<b>&\"\\\n\r\t\u{1}\u{2028}é😀\u{7f}");
        assert_eq!(out, "\"a<b>&\\\"\\\\\\n\\r\\t\\u0001\\u2028é😀\u{7f}\"");
        assert_eq!(
            serde_json::from_str::<String>(&out).unwrap(),
            "a<b>&\"\\\n\r\t\u{1}\u{2028}é😀\u{7f}"
        );
    }

    #[test]
    fn durations_read_and_write_as_in_go() {
        for (text, millis) in [
            ("5s", 5_000.0),
            ("1m30s", 90_000.0),
            ("1h0m0.5s", 3_600_500.0),
            ("1.5ms", 1.5),
            ("0s", 0.0),
        ] {
            let duration = Duration::from_secs_f64(millis / 1e3);
            assert_eq!(go_duration(duration), text);
            assert_eq!(parse_go_duration(text), Some(duration));
        }
        assert_eq!(go_duration(Duration::from_nanos(1_500)), "1.5µs");
        assert_eq!(parse_go_duration("1.5h"), Some(Duration::from_secs(5_400)));
        assert_eq!(parse_go_duration("0"), Some(Duration::ZERO));
        for bad in ["", "5", "s", "5x", "5s3", "-5s", "1..5s", "soon"] {
            assert_eq!(parse_go_duration(bad), None, "{bad}");
        }
    }

    #[test]
    fn times_are_rfc3339_with_the_decimals_they_need() {
        let mut writer = TimeWriter::default();
        for (nanos, text) in [
            (0, "1970-01-01T00:00:00Z"),
            (1_795_333_220_477_235_185, "2026-11-22T07:40:20.477235185Z"),
            (1_795_333_220_477_000_000, "2026-11-22T07:40:20.477Z"),
            (951_782_400_000_000_000, "2000-02-29T00:00:00Z"),
            (4_107_542_399_000_000_001, "2100-02-28T23:59:59.000000001Z"),
            (-1, "1969-12-31T23:59:59.999999999Z"),
        ] {
            let mut out = String::new();
            writer.push(&mut out, nanos);
            assert_eq!(out, text);
        }
    }
}
