//! How the summary writes numbers: times, data sizes, shares and plain values.
//!
//! k6's summary is a JavaScript program, and its rounding is JavaScript's: shares and times are
//! cut off, fixed units and sizes are rounded half up, and a plain number is written as
//! JavaScript writes it.

use volley_metrics::ValueType;

/// The unit of every time in the summary (`summaryTimeUnit`).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum TimeUnit {
    /// Each time in the unit that suits it.
    Auto,
    Seconds,
    Milliseconds,
    Microseconds,
}

impl TimeUnit {
    /// From the option's text; anything but `s`, `ms` and `us` is the automatic one.
    pub(super) fn parse(text: Option<&str>) -> Self {
        match text {
            Some("s") => Self::Seconds,
            Some("ms") => Self::Milliseconds,
            Some("us") => Self::Microseconds,
            _ => Self::Auto,
        }
    }

    /// A value in milliseconds.
    fn write(self, ms: f64) -> String {
        match self {
            Self::Auto => duration(ms),
            Self::Seconds => to_fixed(ms * 0.001, 2) + "s",
            Self::Milliseconds => to_fixed(ms, 2) + "ms",
            Self::Microseconds => to_fixed(ms * 1000.0, 2) + "µs",
        }
    }
}

/// A value of a metric that holds that type of values.
pub(super) fn value(value: f64, contains: ValueType, unit: TimeUnit) -> String {
    match contains {
        ValueType::Time => unit.write(value),
        ValueType::Data => bytes(value),
        ValueType::Default => plain(value),
    }
}

/// A share, 0 to 1, in percent, cut off after two decimals.
pub(super) fn percent(share: f64) -> String {
    to_fixed((share * 100.0 * 100.0).trunc() / 100.0, 2) + "%"
}

/// At most six decimals, no trailing zeros.
pub(super) fn plain(value: f64) -> String {
    trimmed(value, 6)
}

/// A size in bytes, in units of 1000.
fn bytes(value: f64) -> String {
    const UNITS: [&str; 9] = ["B", "kB", "MB", "GB", "TB", "PB", "EB", "ZB", "YB"];
    if value.is_nan() || value < 10.0 {
        return format!("{} B", js_number(value));
    }
    let mut divisor = 1.0;
    let mut unit = 0;
    while value / divisor >= 1000.0 && unit + 1 < UNITS.len() {
        divisor *= 1000.0;
        unit += 1;
    }
    let rounded = (value / divisor * 10.0 + 0.5).floor() / 10.0;
    let decimals = usize::from(rounded < 10.0);
    format!("{} {}", to_fixed(rounded, decimals), UNITS[unit])
}

/// A time in milliseconds, in the unit that suits it.
fn duration(ms: f64) -> String {
    let cut = |value: f64, decimals: usize| {
        let scale = 10f64.powi(i32::try_from(decimals).unwrap_or(0));
        trimmed((scale * value).trunc() / scale, decimals)
    };
    if ms == 0.0 {
        return "0s".to_owned();
    }
    if ms < 0.001 {
        return js_number((ms * 1_000_000.0).trunc()) + "ns";
    }
    if ms < 1.0 {
        return cut(ms * 1000.0, 2) + "µs";
    }
    if ms < 1000.0 {
        return cut(ms, 2) + "ms";
    }
    let decimals = if ms > 60_000.0 { 0 } else { 2 };
    let seconds = cut(ms % 60_000.0 / 1000.0, decimals);
    let minutes = (ms / 60_000.0).trunc();
    if minutes < 1.0 {
        return format!("{seconds}s");
    }
    let hours = (minutes / 60.0).trunc();
    let minutes = js_number(minutes % 60.0);
    if hours < 1.0 {
        return format!("{minutes}m{seconds}s");
    }
    format!("{}h{minutes}m{seconds}s", js_number(hours))
}

/// JavaScript's `parseFloat(value.toFixed(decimals)).toString()`.
fn trimmed(value: f64, decimals: usize) -> String {
    let fixed = to_fixed(value, decimals);
    js_number(fixed.parse().unwrap_or(value))
}

/// JavaScript's `Number.prototype.toFixed`: ties go away from zero, where Rust's go to even.
fn to_fixed(value: f64, decimals: usize) -> String {
    if !value.is_finite() || value.abs() >= 1e21 {
        return js_number(value);
    }
    // A tie is an odd multiple of 10^-decimals / 2, and a binary fraction can only be one if it
    // has exactly decimals + 1 binary places: so the next number up is beyond the tie.
    let halves = value.abs() * 2f64.powi(i32::try_from(decimals).unwrap_or(0) + 1);
    let tie = halves % 2.0 == 1.0;
    let magnitude = if tie {
        value.abs().next_up()
    } else {
        value.abs()
    };
    let text = format!("{magnitude:.decimals$}");
    if value < 0.0 {
        format!("-{text}")
    } else {
        text
    }
}

/// JavaScript's `Number.prototype.toString`.
fn js_number(value: f64) -> String {
    if value.is_nan() {
        return "NaN".to_owned();
    }
    if value.is_infinite() {
        return if value > 0.0 { "Infinity" } else { "-Infinity" }.to_owned();
    }
    let magnitude = value.abs();
    if magnitude == 0.0 {
        return "0".to_owned();
    }
    if (1e-6..1e21).contains(&magnitude) {
        return format!("{value}");
    }
    let text = format!("{value:e}");
    match text.split_once('e') {
        Some((digits, exponent)) if !exponent.starts_with('-') => format!("{digits}e+{exponent}"),
        _ => text,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn shares_are_cut_off() {
        for (share, text) in [
            (0.0, "0.00%"),
            (9.0 / 13.0, "69.23%"),
            (2.0 / 12.0, "16.66%"),
            (1.0, "100.00%"),
        ] {
            assert_eq!(percent(share), text);
        }
        assert_eq!(percent(0.999_999), "99.99%");
    }

    #[test]
    fn data_are_in_units_of_a_thousand() {
        for (size, text) in [
            (0.0, "0 B"),
            (9.5, "9.5 B"),
            (10.04, "10 B"),
            (676.0, "676 B"),
            (1_550.0, "1.6 kB"),
            (1_549.0, "1.5 kB"),
            (9_949.0, "9.9 kB"),
            (9_950.0, "10 kB"),
            (103_500.0, "104 kB"),
            (999_990.0, "1000 kB"),
            (1e6, "1.0 MB"),
            (2.5e28, "25000 YB"),
        ] {
            assert_eq!(bytes(size), text, "{size}");
        }
    }

    #[test]
    fn times_choose_their_unit_and_are_cut_off() {
        for (ms, text) in [
            (0.0, "0s"),
            (0.000_5, "500ns"),
            (0.000_500_9, "500ns"),
            (0.012_349, "12.34µs"),
            (0.5, "500µs"),
            (12.3, "12.3ms"),
            (999.999, "999.99ms"),
            (1_239.0, "1.23s"),
            (1_500.0, "1.5s"),
            (59_999.0, "59.99s"),
            (61_999.0, "1m1s"),
            (3_599_999.0, "59m59s"),
            (86_400_000.0, "24h0m0s"),
            (3_661_000.0, "1h1m1s"),
        ] {
            assert_eq!(duration(ms), text, "{ms}");
        }
    }

    #[test]
    fn a_chosen_unit_has_two_decimals() {
        let write = |unit| value(61_500.128, ValueType::Time, TimeUnit::parse(Some(unit)));
        assert_eq!(write("s"), "61.50s");
        assert_eq!(write("ms"), "61500.13ms");
        assert_eq!(write("us"), "61500128.00µs");
        assert_eq!(
            value(0.0, ValueType::Time, TimeUnit::Milliseconds),
            "0.00ms"
        );
    }

    #[test]
    fn plain_numbers_look_like_javascript() {
        for (number, text) in [
            (1_234.567_89, "1234.56789"),
            (0.000_000_4, "0"),
            (-0.000_000_4, "0"),
            (2.0 / 3.0, "0.666667"),
            (1e21, "1e+21"),
            (1.5e300, "1.5e+300"),
            (123_456_789_012_345_680_000.0, "123456789012345680000"),
            (0.007_812_5, "0.007813"),
            (-0.007_812_5, "-0.007813"),
            (f64::NAN, "NaN"),
            (f64::INFINITY, "Infinity"),
        ] {
            assert_eq!(plain(number), text, "{number}");
        }
        assert_eq!(to_fixed(0.125, 2), "0.13");
        assert_eq!(to_fixed(2.5, 0), "3");
        assert_eq!(to_fixed(1.005, 2), "1.00");
    }
}
