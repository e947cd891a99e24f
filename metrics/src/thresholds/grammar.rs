//! The text of thresholds: `p(95) < 200` and `http_reqs{status:200}`.
//!
//! Both grammars, with their quirks, and every error text are a contract with k6
//! (spec/metrics.md §6.2 to §6.4).

use crate::MetricKind;

/// What an expression reads from a sink.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) enum Method {
    Value,
    Count,
    Rate,
    Avg,
    Min,
    Med,
    Max,
    /// A share from 0 to 1.
    Percentile(f64),
}

impl Method {
    /// The method's name; a percentile's without its argument.
    pub(super) fn name(self) -> &'static str {
        match self {
            Method::Value => "value",
            Method::Count => "count",
            Method::Rate => "rate",
            Method::Avg => "avg",
            Method::Min => "min",
            Method::Med => "med",
            Method::Max => "max",
            Method::Percentile(_) => "p",
        }
    }

    pub(super) fn fits(self, kind: MetricKind) -> bool {
        supported(kind).split(", ").any(|name| name == self.name())
    }
}

/// The methods that a kind of metric has, as error texts list them.
pub(super) fn supported(kind: MetricKind) -> &'static str {
    match kind {
        MetricKind::Counter => "count, rate",
        MetricKind::Gauge => "value",
        MetricKind::Rate => "rate",
        MetricKind::Trend => "avg, min, max, med, p",
    }
}

#[derive(Debug, Clone, Copy, PartialEq)]
enum Operator {
    LessOrEqual,
    Less,
    GreaterOrEqual,
    Greater,
    Equal,
    NotEqual,
}

/// In the order in which they are looked for: the first one with a right side wins.
const OPERATORS: &[(&str, Operator)] = &[
    ("<=", Operator::LessOrEqual),
    ("<", Operator::Less),
    (">=", Operator::GreaterOrEqual),
    (">", Operator::Greater),
    ("===", Operator::Equal),
    ("==", Operator::Equal),
    ("!=", Operator::NotEqual),
];

/// A parsed expression.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) struct Expression {
    pub(super) method: Method,
    operator: Operator,
    number: f64,
}

impl Expression {
    /// Parses `method operator number`; the error is the whole text that the user sees.
    pub(super) fn parse(source: &str) -> Result<Self, String> {
        let split = OPERATORS.iter().find_map(|&(text, operator)| {
            let (left, right) = source.split_once(text)?;
            (!right.is_empty()).then_some((left.trim(), operator, right.trim()))
        });
        let Some((left, operator, right)) = split else {
            return Err(format!(
                "failed parsing threshold expression {source:?}; reason: malformed threshold expression"
            ));
        };
        let method = parse_method(left).map_err(|reason| {
            format!(
                "failed parsing threshold expression's {source:?} left hand side; reason: {reason}"
            )
        })?;
        // "expresion" is how the reference spells it.
        let number = parse_float(right).map_err(|reason| {
            format!(
                "failed parsing threshold expresion's {source:?} right hand side; reason: {reason}"
            )
        })?;
        Ok(Self {
            method,
            operator,
            number,
        })
    }

    /// Whether a value passes. A comparison with NaN is false, but for `!=`.
    pub(super) fn holds(&self, value: f64) -> bool {
        match self.operator {
            Operator::LessOrEqual => value <= self.number,
            Operator::Less => value < self.number,
            Operator::GreaterOrEqual => value >= self.number,
            Operator::Greater => value > self.number,
            Operator::Equal => value == self.number,
            Operator::NotEqual => value != self.number,
        }
    }
}

fn parse_method(text: &str) -> Result<Method, String> {
    Ok(match text {
        "value" => Method::Value,
        "count" => Method::Count,
        "rate" => Method::Rate,
        "avg" => Method::Avg,
        "min" => Method::Min,
        "med" => Method::Med,
        "max" => Method::Max,
        // Accepted by the reference without an argument.
        "p" => Method::Percentile(0.0),
        _ => {
            let percent = text
                .strip_prefix("p(")
                .and_then(|rest| rest.strip_suffix(')'))
                .ok_or("failed parsing method from expression")?;
            let percent = parse_float(percent)
                .map_err(|reason| format!("malformed percentile value; reason: {reason}"))?;
            if !(0.0..=100.0).contains(&percent) {
                return Err(
                    "malformed percentile value, provide a number between 0 and 100".to_owned(),
                );
            }
            Method::Percentile(percent / 100.0)
        }
    })
}

/// Go's `strconv.ParseFloat` for decimal numbers, with its error texts.
fn parse_float(text: &str) -> Result<f64, String> {
    let failed = |reason: &str| Err(format!("strconv.ParseFloat: parsing {text:?}: {reason}"));
    let bytes = text.as_bytes();
    // Underscores may stand between digits.
    let digit = |at: Option<&u8>| at.is_some_and(u8::is_ascii_digit);
    let separates = |at: usize| at > 0 && digit(bytes.get(at - 1)) && digit(bytes.get(at + 1));
    if (0..bytes.len()).any(|at| bytes[at] == b'_' && !separates(at)) {
        return failed("invalid syntax");
    }
    match text.replace('_', "").parse::<f64>() {
        Ok(number) if number.is_infinite() && bytes.iter().any(u8::is_ascii_digit) => {
            failed("value out of range")
        }
        Ok(number) => Ok(number),
        Err(_) => failed("invalid syntax"),
    }
}

/// The parts of `metric` or `metric{tag:value,…}`.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Key {
    /// The metric's name.
    pub(super) base: String,
    /// The text between the braces, and the tags it asks for; `None` without braces.
    pub(super) selector: Option<(String, Vec<(String, String)>)>,
}

impl Key {
    /// Parses a key of the `thresholds` option; the error is the whole text that the user sees.
    pub(super) fn parse(text: &str) -> Result<Self, String> {
        let failed = |reason: String| {
            Err(format!(
                "unable to validate threshold expressions; reason: parsing metric name failed, metric {reason}"
            ))
        };
        let (open, close) = match (text.find('{'), text.rfind('}')) {
            (None, None) => {
                return Ok(Self {
                    base: text.to_owned(),
                    selector: None,
                });
            }
            (Some(open), Some(close)) => (open, close),
            _ => return failed(format!("{text:?} has unmatched opening/close curly brace")),
        };
        if close < open {
            return failed(format!(
                "{text:?} closing curly brace appears before opening one"
            ));
        }
        if close + 1 != text.len() {
            return failed(format!(
                "{text:?} lacks a closing curly brace in its last position"
            ));
        }
        let suffix = &text[open + 1..close];
        let mut tags = Vec::new();
        for part in suffix.split(',') {
            match part.split_once(':') {
                Some((key, value)) if !value.is_empty() => {
                    tags.push((unquote(key), unquote(value)))
                }
                _ => return failed(format!("{part:?} tag expression is malformed")),
            }
        }
        let selector = Some((suffix.trim().to_owned(), tags));
        Ok(Self {
            base: text[..open].to_owned(),
            selector,
        })
    }

    /// The name it is displayed under.
    pub(super) fn display(&self) -> String {
        match &self.selector {
            None => self.base.clone(),
            Some((suffix, _)) => format!("{}{{{suffix}}}", self.base),
        }
    }
}

fn unquote(text: &str) -> String {
    text.trim().trim_matches(['\'', '"']).to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn expressions_parse() {
        for (source, method, operator, number) in [
            ("p(95)<200", Method::Percentile(0.95), Operator::Less, 200.0),
            (" avg  <=  5 ", Method::Avg, Operator::LessOrEqual, 5.0),
            ("rate===1", Method::Rate, Operator::Equal, 1.0),
            ("rate == 1", Method::Rate, Operator::Equal, 1.0),
            ("value!=-1", Method::Value, Operator::NotEqual, -1.0),
            ("count>=.5", Method::Count, Operator::GreaterOrEqual, 0.5),
            ("min>5.", Method::Min, Operator::Greater, 5.0),
            ("med<1e3", Method::Med, Operator::Less, 1000.0),
            ("max<1_000", Method::Max, Operator::Less, 1000.0),
            ("max<Inf", Method::Max, Operator::Less, f64::INFINITY),
            ("p<1", Method::Percentile(0.0), Operator::Less, 1.0),
            ("p(9e1)<1", Method::Percentile(0.9), Operator::Less, 1.0),
            (
                "p(99.9)<1",
                Method::Percentile(99.9 / 100.0),
                Operator::Less,
                1.0,
            ),
        ] {
            assert_eq!(
                Expression::parse(source),
                Ok(Expression {
                    method,
                    operator,
                    number
                }),
                "{source}"
            );
        }
        assert!(Expression::parse("avg<NaN").unwrap().number.is_nan());
    }

    /// Every row of spec/metrics.md §6.3 that the grammar alone decides.
    #[test]
    fn bad_expressions_have_the_reference_s_texts() {
        for source in ["avg=5", "avg", "avg<", ""] {
            assert_eq!(
                Expression::parse(source).unwrap_err(),
                format!(
                    "failed parsing threshold expression \"{source}\"; reason: malformed threshold expression"
                )
            );
        }
        let left = |source: &str| {
            let text = Expression::parse(source).unwrap_err();
            let start = format!(
                "failed parsing threshold expression's \"{source}\" left hand side; reason: "
            );
            text.strip_prefix(&start)
                .unwrap_or_else(|| panic!("{text}"))
                .to_owned()
        };
        for source in ["foo<5", "p90<5", "AVG<5", "avg=>5", "<5"] {
            assert_eq!(left(source), "failed parsing method from expression");
        }
        for source in ["p(101)<5", "p(-1)<5", "p(NaN)<4"] {
            assert_eq!(
                left(source),
                "malformed percentile value, provide a number between 0 and 100"
            );
        }
        for argument in ["abc", "", " 90 "] {
            assert_eq!(
                left(&format!("p({argument})<5")),
                format!(
                    "malformed percentile value; reason: strconv.ParseFloat: parsing \"{argument}\": invalid syntax"
                )
            );
        }
        for (source, number) in [
            ("avg<abc", "abc"),
            ("avg < 200 ms", "200 ms"),
            ("avg<5 && med<3", "5 && med<3"),
            ("avg<0x10", "0x10"),
            ("avg<_1", "_1"),
            ("avg<1__0", "1__0"),
        ] {
            assert_eq!(
                Expression::parse(source).unwrap_err(),
                format!(
                    "failed parsing threshold expresion's \"{source}\" right hand side; reason: \
                     strconv.ParseFloat: parsing \"{number}\": invalid syntax"
                )
            );
        }
        assert!(
            Expression::parse("avg<1e999")
                .unwrap_err()
                .ends_with("value out of range")
        );
    }

    #[test]
    fn comparisons_with_nan_are_false_but_for_not_equal() {
        for (operator, expected) in [("<", false), (">=", false), ("==", false), ("!=", true)] {
            let expression = Expression::parse(&format!("avg{operator}NaN")).unwrap();
            assert_eq!(expression.holds(1.0), expected, "{operator}");
        }
    }

    #[test]
    fn keys_split_into_metric_and_tags() {
        let plain = Key::parse("http_reqs").unwrap();
        assert_eq!(
            (plain.display(), plain.selector),
            ("http_reqs".to_owned(), None)
        );
        let key = Key::parse("http_reqs{ group:::main page , 'kind':\"a:b\" }").unwrap();
        assert_eq!(key.base, "http_reqs");
        assert_eq!(
            key.display(),
            "http_reqs{group:::main page , 'kind':\"a:b\"}"
        );
        let tags = key.selector.unwrap().1;
        let pair = |key: &str, value: &str| (key.to_owned(), value.to_owned());
        assert_eq!(tags, [pair("group", "::main page"), pair("kind", "a:b")]);
    }

    /// Every row of spec/metrics.md §6.4.
    #[test]
    fn bad_keys_have_the_reference_s_texts() {
        for (key, text) in [
            (
                "tt{tag:a b",
                "\"tt{tag:a b\" has unmatched opening/close curly brace",
            ),
            ("tt}", "\"tt}\" has unmatched opening/close curly brace"),
            (
                "tt}tag:a{",
                "\"tt}tag:a{\" closing curly brace appears before opening one",
            ),
            (
                "tt{tag:a b}x",
                "\"tt{tag:a b}x\" lacks a closing curly brace in its last position",
            ),
            ("tt{}", "\"\" tag expression is malformed"),
            ("tt{tag}", "\"tag\" tag expression is malformed"),
            ("tt{tag:}", "\"tag:\" tag expression is malformed"),
            ("tt{tag:a,}", "\"\" tag expression is malformed"),
        ] {
            assert_eq!(
                Key::parse(key).unwrap_err(),
                format!(
                    "unable to validate threshold expressions; reason: parsing metric name failed, metric {text}"
                )
            );
        }
    }
}
