//! The page as protocol buffers, read with a library.

use prost::Message as _;

use super::*;

#[derive(Clone, PartialEq, prost::Message)]
struct Family {
    #[prost(string, tag = "1")]
    name: String,
    #[prost(string, tag = "2")]
    help: String,
    #[prost(enumeration = "Kind", tag = "3")]
    kind: i32,
    #[prost(message, repeated, tag = "4")]
    metric: Vec<Metric>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, prost::Enumeration)]
#[repr(i32)]
enum Kind {
    Counter = 0,
    Gauge = 1,
    Summary = 2,
    Untyped = 3,
    Histogram = 4,
}

#[derive(Clone, PartialEq, prost::Message)]
struct Metric {
    #[prost(message, repeated, tag = "1")]
    label: Vec<Pair>,
    #[prost(message, optional, tag = "2")]
    gauge: Option<Value>,
    #[prost(message, optional, tag = "3")]
    counter: Option<Value>,
    #[prost(message, optional, tag = "4")]
    summary: Option<Summary>,
    #[prost(message, optional, tag = "7")]
    histogram: Option<Histogram>,
}

#[derive(Clone, PartialEq, prost::Message)]
struct Pair {
    #[prost(string, tag = "1")]
    name: String,
    #[prost(string, tag = "2")]
    value: String,
}

#[derive(Clone, PartialEq, prost::Message)]
struct Value {
    #[prost(double, tag = "1")]
    value: f64,
}

#[derive(Clone, PartialEq, prost::Message)]
struct Summary {
    #[prost(uint64, tag = "1")]
    count: u64,
    #[prost(double, tag = "2")]
    sum: f64,
    #[prost(message, repeated, tag = "3")]
    quantile: Vec<Quantile>,
}

#[derive(Clone, PartialEq, prost::Message)]
struct Quantile {
    #[prost(double, tag = "1")]
    quantile: f64,
    #[prost(double, tag = "2")]
    value: f64,
}

#[derive(Clone, PartialEq, prost::Message)]
struct Histogram {
    #[prost(uint64, tag = "1")]
    count: u64,
    #[prost(double, tag = "2")]
    sum: f64,
    #[prost(message, repeated, tag = "3")]
    bucket: Vec<Bucket>,
    #[prost(sint32, tag = "5")]
    schema: i32,
    #[prost(double, tag = "6")]
    zero_threshold: f64,
    #[prost(uint64, tag = "7")]
    zero_count: u64,
    #[prost(message, repeated, tag = "9")]
    negative_span: Vec<Span>,
    #[prost(sint64, repeated, tag = "10")]
    negative_delta: Vec<i64>,
    #[prost(message, repeated, tag = "12")]
    positive_span: Vec<Span>,
    #[prost(sint64, repeated, tag = "13")]
    positive_delta: Vec<i64>,
}

#[derive(Clone, PartialEq, prost::Message)]
struct Bucket {
    #[prost(uint64, tag = "1")]
    count: u64,
    #[prost(double, tag = "2")]
    bound: f64,
}

#[derive(Clone, PartialEq, prost::Message)]
struct Span {
    #[prost(sint32, tag = "1")]
    offset: i32,
    #[prost(uint32, tag = "2")]
    length: u32,
}

impl Run {
    /// The page as messages, without the families of the process.
    fn messages(&self, arg: &str) -> Vec<Family> {
        let options = PrometheusOptions::parse(arg).unwrap();
        let page = self
            .collector
            .expose(&options, PageFormat::Protobuf, self.time);
        let page = page.finish();
        let (mut rest, mut families) = (&page[..], Vec::new());
        while !rest.is_empty() {
            families.push(Family::decode_length_delimited(&mut rest).unwrap());
        }
        assert!(families.is_sorted_by(|one, two| one.name < two.name));
        families.retain(|family| !family.name.starts_with("process_"));
        families
    }
}

impl Family {
    /// As the text says it, but for labels without a value.
    fn printed(&self) -> Printed {
        let mut lines = Vec::new();
        let mut push = |suffix: &str, metric: &Metric, last: Option<(&str, f64)>, value: f64| {
            let mut labels = String::new();
            for Pair { name, value } in &metric.label {
                push_text_label(&mut labels, name, value);
            }
            if let Some((name, value)) = last {
                push_text_label(&mut labels, name, &number(value));
            }
            let Self { name, .. } = self;
            lines.push(format!("{name}{suffix}{{{labels}}} {}", number(value)));
        };
        for metric in &self.metric {
            let kinds = [
                metric.counter.is_some(),
                metric.gauge.is_some(),
                metric.summary.is_some(),
                false,
                metric.histogram.is_some(),
            ];
            let one = std::array::from_fn(|kind| kind == self.kind as usize);
            assert_eq!(kinds, one, "the value has the type of the family");
            if let Some(value) = metric.counter.as_ref().or(metric.gauge.as_ref()) {
                push("", metric, None, value.value);
            }
            if let Some(summary) = &metric.summary {
                for &Quantile { quantile, value } in &summary.quantile {
                    push("", metric, Some(("quantile", quantile)), value);
                }
                push("_sum", metric, None, summary.sum);
                push("_count", metric, None, summary.count as f64);
            }
            if let Some(histogram) = &metric.histogram {
                for bucket in &histogram.bucket {
                    push(
                        "_bucket",
                        metric,
                        Some(("le", bucket.bound)),
                        bucket.count as f64,
                    );
                }
                push("_sum", metric, None, histogram.sum);
                push("_count", metric, None, histogram.count as f64);
            }
        }
        Printed {
            name: self.name.clone(),
            help: self.help.clone(),
            kind: format!("{:?}", self.kind()).to_lowercase(),
            lines,
        }
    }
}

fn number(value: f64) -> String {
    let mut text = String::new();
    crate::format::push_exposition_number(&mut text, value);
    text
}

/// The labels of a line without those that have no value.
fn without_empty(line: &str) -> String {
    let (series, value) = line.rsplit_once(' ').unwrap();
    let (name, labels) = series.split_once('{').unwrap();
    // No value here has a comma.
    let labels = labels.trim_end_matches('}').split(',');
    let labels: Vec<&str> = labels.filter(|label| !label.ends_with("=\"\"")).collect();
    format!("{name}{{{}}} {value}", labels.join(","))
}

#[test]
fn both_forms_say_the_same() {
    let mut run = Run::asked("trend=both&buckets=1,10");
    for (metric, kind) in [
        ("my_counter", MetricKind::Counter),
        ("my_gauge", MetricKind::Gauge),
        ("my_rate", MetricKind::Rate),
        ("my_trend", MetricKind::Trend),
    ] {
        let metric = run.metric(metric, kind);
        run.add(
            metric,
            &[("kind", "a\n\"\\é"), ("none", "")],
            &[4.0, 0.0, 2.5],
        );
        run.add(metric, &[], &[20.0, f64::INFINITY]);
        run.add(metric, &[], &[-1.0]);
    }
    let mut expected = families(&run.page("namespace=k6"));
    for line in expected.iter_mut().flat_map(|family| &mut family.lines) {
        *line = without_empty(line);
    }
    let found = run.messages("namespace=k6");
    let found: Vec<Printed> = found.iter().map(Family::printed).collect();
    assert_eq!(found, expected);
    assert_eq!(found.len(), 7);
}

#[test]
fn native_histograms_have_the_buckets_of_all_values_of_the_run() {
    let mut run = Run::asked("trend=native");
    let own = run.metric("own", MetricKind::Trend);
    run.add(own, &[("kind", "b")], &[1.0, 1.5, 1.5, 0.0]);
    run.time += 15 * MINUTE;
    run.add(own, &[("kind", "b")], &[2.0, -4.0]);
    // The same to Prometheus: merged.
    run.add(own, &[("kind", "b"), ("none", "")], &[1.5, 0.5]);
    let families = run.messages("");
    let family = families
        .iter()
        .find(|family| family.name == "own_histogram");
    let family = family.expect("a family of its own");
    assert_eq!(family.kind(), Kind::Histogram);
    let [metric] = &family.metric[..] else {
        panic!("{family:?}")
    };
    let span = |offset, length| Span { offset, length };
    assert_eq!(
        *metric.histogram.as_ref().unwrap(),
        Histogram {
            count: 8,
            sum: 4.0,
            bucket: vec![],
            schema: 3,
            zero_threshold: 2f64.powi(-128),
            zero_count: 1,
            // 4 = 2^(16/8).
            negative_span: vec![span(16, 1)],
            negative_delta: vec![1],
            // 0.5 = 2^(-8/8), 1 = 2^0, 1.5 below 2^(5/8), 2 = 2^(8/8).
            positive_span: vec![span(-8, 1), span(7, 1), span(4, 1), span(2, 1)],
            positive_delta: vec![1, 0, 2, -2],
        }
    );
    // In text all values are in one bucket.
    let text = run.page("");
    let family = families_of(&text, "own_histogram");
    assert_eq!(
        family.lines,
        [
            "own_histogram_bucket{kind=\"b\",tls_version=\"\",le=\"+Inf\"} 8",
            "own_histogram_sum{kind=\"b\",tls_version=\"\"} 4",
            "own_histogram_count{kind=\"b\",tls_version=\"\"} 8",
        ]
    );
}

fn families_of(page: &str, name: &str) -> Printed {
    let mut families = super::families(page).into_iter();
    families.find(|family| family.name == name).expect(name)
}

#[test]
fn protocol_buffers_are_offered_with_native_histograms_alone() {
    for (arg, formats) in [
        ("", &[PageFormat::Text][..]),
        ("trend=histogram", &[PageFormat::Text]),
        ("trend=native", &[PageFormat::Protobuf, PageFormat::Text]),
        ("trend=both", &[PageFormat::Protobuf, PageFormat::Text]),
    ] {
        assert_eq!(PrometheusOptions::parse(arg).unwrap().formats(), formats);
    }
}
