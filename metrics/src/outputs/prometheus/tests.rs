//! The options, the page of the reference's scrape, and where ours is meant to differ from it.

mod protobuf;

use std::sync::Arc;

use super::*;
use crate::{
    Collector, CollectorConfig, Recorder, Thresholds, ValueType, builtin, series::slice_of,
};

/// A scrape by the extension, of a run of this script with two VUs for four seconds:
///
/// ```js
/// group('main page', () => {
///   const res = http.get('http://127.0.0.1:8099/a');
///   check(res, {'status 200': (x) => x.status === 200, 'bad': (x) => x.status === 500});
/// });
/// http.get('http://127.0.0.1:8099/b', {tags: {kind: 'b'}});
/// c.add(2, {foo: 'bar'}); c.add(1); g.add(7); r.add(true); r.add(false); t.add(12.5);
/// sleep(0.5);
/// ```
const REFERENCE: &str = include_str!("../../../testdata/prometheus-reference.txt");

/// The beginning of a slice of the quantiles' window.
const NOW: i64 = 1_795_333_200_000_000_000;
const MINUTE: i64 = 60 * 1_000_000_000;

/// A run with one shard, whose every sample is of the time it has.
struct Run {
    registry: Arc<Registry>,
    tags: Arc<TagTable>,
    collector: Collector,
    time: i64,
}

impl Run {
    fn new() -> Self {
        Self::with_series(true)
    }

    fn with_series(series: bool) -> Self {
        Self::with(series.then(SeriesOptions::default))
    }

    /// A run that keeps what these options say.
    fn asked(arg: &str) -> Self {
        Self::with(Some(PrometheusOptions::parse(arg).unwrap().series))
    }

    fn with(series: Option<SeriesOptions>) -> Self {
        let (registry, tags) = (Arc::new(Registry::new()), Arc::new(TagTable::new()));
        let collector = Collector::new(CollectorConfig {
            registry: registry.clone(),
            tags: tags.clone(),
            thresholds: Thresholds::none(),
            series,
            breakdown: false,
            default_submetrics: vec![],
        });
        assert_eq!(slice_of(NOW - 1) + 1, slice_of(NOW));
        Self {
            registry,
            tags,
            collector,
            time: NOW,
        }
    }

    fn metric(&self, name: &str, kind: MetricKind) -> MetricId {
        self.registry
            .register(name, kind, ValueType::Default)
            .unwrap()
    }

    fn warnings(&mut self) -> Vec<String> {
        self.collector.take_warnings()
    }

    fn add(&mut self, metric: MetricId, tags: &[(&str, &str)], values: &[f64]) {
        let mut shard = Recorder::new(self.registry.clone(), false);
        let tags = self.tags.intern(tags);
        for &value in values {
            shard.record(metric, tags, value, self.time);
        }
        self.collector.fold(&shard.drain(), self.time);
    }

    fn whole_page(&self, arg: &str) -> String {
        let options = PrometheusOptions::parse(arg).unwrap();
        let page = self.collector.expose(&options, PageFormat::Text, self.time);
        String::from_utf8(page.finish()).unwrap()
    }

    /// The page without the families of the process.
    fn page(&self, arg: &str) -> String {
        let page = self.whole_page(arg);
        let families = families(&page).into_iter();
        families
            .filter(|family| !family.name.starts_with("process_"))
            .map(|family| family.text())
            .collect()
    }
}

/// A family as printed.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
struct Printed {
    name: String,
    help: String,
    kind: String,
    lines: Vec<String>,
}

impl Printed {
    fn text(&self) -> String {
        let Self {
            name, help, kind, ..
        } = self;
        let lines: String = self.lines.iter().map(|line| format!("{line}\n")).collect();
        format!("# HELP {name} {help}\n# TYPE {name} {kind}\n{lines}")
    }
}

/// Splits a page, which must consist of nothing but families: header, type, series.
fn families(page: &str) -> Vec<Printed> {
    let mut families: Vec<Printed> = Vec::new();
    let mut lines = page.lines();
    while let Some(line) = lines.next() {
        if let Some(header) = line.strip_prefix("# HELP ") {
            let (name, help) = header.split_once(' ').unwrap();
            let kind = lines
                .next()
                .and_then(|line| line.strip_prefix(&format!("# TYPE {name} ")))
                .unwrap_or_else(|| panic!("a type after: {line}"));
            families.push(Printed {
                name: name.into(),
                help: help.into(),
                kind: kind.into(),
                lines: vec![],
            });
            continue;
        }
        let family = families.last_mut().expect("a header first");
        let series = line.split(['{', ' ']).next().unwrap();
        let suffix = series.strip_prefix(&family.name);
        let suffixes: &[&str] = match family.kind.as_str() {
            "summary" => &["", "_sum", "_count"],
            "histogram" => &["_bucket", "_sum", "_count"],
            _ => &[""],
        };
        assert!(
            suffix.is_some_and(|suffix| suffixes.contains(&suffix)),
            "{line} in {}",
            family.name
        );
        family.lines.push(line.into());
    }
    families
}

/// A family with the values that differ from run to run masked, and without an order of its
/// series, which means nothing to Prometheus.
fn comparable(mut family: Printed) -> Printed {
    let of_time = family.kind == "summary" || family.help.ends_with(" (current)");
    // The script gives this one the same value each time.
    if of_time && !family.name.starts_with("k6_my_trend") {
        let count = format!("{}_count{{", family.name);
        for line in &mut family.lines {
            if !line.starts_with(&count) {
                let (series, _) = line.rsplit_once(' ').unwrap();
                *line = format!("{series} TIME");
            }
        }
    }
    family.lines.sort();
    family
}

/// What two VUs record that run the reference's script: by the time of its scrape 12
/// iterations had made their requests and 10 of them had ended.
fn reference_run() -> Run {
    let mut run = Run::new();
    let [counter, gauge, rate, trend] = [
        ("my_counter", MetricKind::Counter),
        ("my_gauge", MetricKind::Gauge),
        ("my_rate", MetricKind::Rate),
        ("my_trend", MetricKind::Trend),
    ]
    .map(|(name, kind)| {
        let contains = match kind {
            MetricKind::Trend => ValueType::Time,
            _ => ValueType::Default,
        };
        run.registry.register(name, kind, contains).unwrap()
    });
    let mut vus = [(); 2].map(|()| Recorder::new(run.registry.clone(), false));
    let tags = run.tags.clone();
    let root = tags.intern(&[("group", ""), ("scenario", "default")]);
    let group = tags.intern(&[("group", "::main page"), ("scenario", "default")]);
    let request = |vu: &mut Recorder, base, url, took, extra: &[(&str, &str)]| {
        let base = tags.overlay(base, extra);
        let tags = tags.overlay(
            base,
            &[
                ("expected_response", "true"),
                ("method", "GET"),
                ("name", url),
                ("proto", "HTTP/1.1"),
                ("status", "200"),
                ("url", url),
            ],
        );
        vu.record(builtin::HTTP_REQS, tags, 1.0, NOW);
        for metric in [
            builtin::HTTP_REQ_DURATION,
            builtin::HTTP_REQ_BLOCKED,
            builtin::HTTP_REQ_CONNECTING,
            builtin::HTTP_REQ_TLS_HANDSHAKING,
            builtin::HTTP_REQ_SENDING,
            builtin::HTTP_REQ_WAITING,
            builtin::HTTP_REQ_RECEIVING,
        ] {
            vu.record(metric, tags, took, NOW);
        }
        vu.record(builtin::HTTP_REQ_FAILED, tags, 0.0, NOW);
    };
    for iteration in 0..12u32 {
        let vu = &mut vus[iteration as usize % 2];
        let took = 0.25 + f64::from(iteration);
        request(vu, group, "http://127.0.0.1:8099/a", took, &[]);
        for (check, value) in [("status 200", 1.0), ("bad", 0.0)] {
            let tags = tags.overlay(group, &[("check", check)]);
            vu.record(builtin::CHECKS, tags, value, NOW);
        }
        vu.record(builtin::GROUP_DURATION, group, took, NOW);
        request(vu, root, "http://127.0.0.1:8099/b", took, &[("kind", "b")]);
        vu.record(counter, tags.overlay(root, &[("foo", "bar")]), 2.0, NOW);
        vu.record(counter, root, 1.0, NOW);
        vu.record(gauge, root, 7.0, NOW);
        vu.record(rate, root, 1.0, NOW);
        vu.record(rate, root, 0.0, NOW);
        vu.record(trend, root, 12.5, NOW);
        if iteration < 10 {
            vu.record(builtin::DATA_SENT, root, 142.0, NOW);
            vu.record(builtin::DATA_RECEIVED, root, 366.0, NOW);
            vu.record(builtin::ITERATION_DURATION, root, 500.0 + took, NOW);
            vu.record(builtin::ITERATIONS, root, 1.0, NOW);
        }
    }
    for vu in &mut vus {
        run.collector.fold(&vu.drain(), NOW);
    }
    run.add(builtin::VUS, &[], &[2.0, 2.0]);
    run.add(builtin::VUS_MAX, &[], &[2.0, 2.0]);
    run
}

#[test]
fn the_page_is_that_of_the_reference_but_for_the_tags_it_lost() {
    // The extension prints every label that the first sample of a metric had, and no other.
    let lost = [
        (
            "name=\"http://127.0.0.1:8099/b\"",
            "method=\"GET\"",
            "kind=\"b\",method=\"GET\"",
        ),
        ("k6_my_counter{foo=\"\",", "foo=\"\",", ""),
    ];
    let mut mended = String::new();
    for line in REFERENCE.lines() {
        let mut line = line.to_owned();
        for (place, theirs, ours) in lost {
            if line.contains(place) {
                line = line.replace(theirs, ours);
            }
        }
        mended.push_str(&line);
        mended.push('\n');
    }
    let expected: Vec<Printed> = families(&mended).into_iter().map(comparable).collect();
    assert_eq!(expected.len(), 31);
    let page = reference_run().page("namespace=k6");
    let found: Vec<Printed> = families(&page).into_iter().map(comparable).collect();
    // One at a time, so that a failure shows one family and not the page.
    for (found, expected) in found.iter().zip(&expected) {
        assert_eq!(found.text(), expected.text());
    }
    assert_eq!(found.len(), expected.len());
}

#[test]
fn families_are_sorted_by_name_with_those_of_the_process() {
    let run = reference_run();
    for arg in ["", "namespace=k6", "namespace=z&subsystem=y"] {
        let page = run.whole_page(arg);
        let names: Vec<String> = families(&page).into_iter().map(|f| f.name).collect();
        assert!(names.is_sorted(), "{names:?}");
        let mut once = names.clone();
        once.dedup();
        assert_eq!(once, names, "each once");
        assert!(names.len() > 31, "the process has some");
    }
}

#[test]
fn names_have_the_parts_that_are_not_empty() {
    let mut run = Run::new();
    run.add(builtin::VUS, &[], &[3.0]);
    for (arg, name) in [
        ("", "vus"),
        ("namespace=k6", "k6_vus"),
        ("subsystem=load", "load_vus"),
        ("namespace=k6&subsystem=load", "k6_load_vus"),
    ] {
        let expected = format!(
            "# HELP {name} Current number of active virtual users\n# TYPE {name} gauge\n{name}{{tls_version=\"\"}} 3\n"
        );
        assert_eq!(run.page(arg), expected);
    }
}

#[test]
fn a_metric_without_a_text_of_its_own_is_described_by_kind() {
    let mut run = Run::new();
    for kind in [
        MetricKind::Counter,
        MetricKind::Gauge,
        MetricKind::Rate,
        MetricKind::Trend,
    ] {
        let metric = run.metric(&format!("own_{kind}"), kind);
        run.add(metric, &[], &[1.0]);
    }
    run.add(builtin::WS_PING, &[], &[1.0]);
    // The name in the text has no namespace; the name of the family has one.
    let page = run.page("namespace=k6");
    let headers: Vec<&str> = page.lines().filter(|line| line.starts_with('#')).collect();
    let expected = "\
# HELP k6_own_counter own_counter k6 counter
# TYPE k6_own_counter counter
# HELP k6_own_gauge own_gauge k6 gauge
# TYPE k6_own_gauge gauge
# HELP k6_own_rate own_rate k6 rate
# TYPE k6_own_rate histogram
# HELP k6_own_trend own_trend k6 trend
# TYPE k6_own_trend summary
# HELP k6_own_trend_current own_trend_current k6 trend (current)
# TYPE k6_own_trend_current gauge
# HELP k6_ws_ping ws_ping k6 trend
# TYPE k6_ws_ping summary
# HELP k6_ws_ping_current ws_ping_current k6 trend (current)
# TYPE k6_ws_ping_current gauge";
    assert_eq!(headers.join("\n"), expected);
}

#[test]
fn no_tag_is_dropped_because_the_first_sample_lacked_it() {
    let mut run = Run::new();
    run.add(builtin::HTTP_REQS, &[("status", "200")], &[1.0]);
    run.add(
        builtin::HTTP_REQS,
        &[("error_code", "1212"), ("kind", "b"), ("status", "0")],
        &[1.0, 1.0],
    );
    run.add(
        builtin::HTTP_REQS,
        &[("status", "200"), ("tls_version", "tls1.3")],
        &[4.0],
    );
    let page = run.page("");
    let lines: Vec<&str> = page.lines().skip(2).collect();
    assert_eq!(
        lines,
        [
            "http_reqs{error_code=\"1212\",kind=\"b\",status=\"0\",tls_version=\"\"} 2",
            "http_reqs{status=\"200\",tls_version=\"\"} 1",
            "http_reqs{status=\"200\",tls_version=\"tls1.3\"} 4",
        ]
    );
}

/// To Prometheus an empty label is none, and the same series twice is an error of the scrape.
#[test]
fn series_that_differ_only_in_empty_labels_are_one() {
    let mut run = Run::new();
    let [counter, gauge, rate, trend] = [
        ("my_counter", MetricKind::Counter),
        ("my_gauge", MetricKind::Gauge),
        ("my_rate", MetricKind::Rate),
        ("my_trend", MetricKind::Trend),
    ]
    .map(|(name, kind)| run.metric(name, kind));
    for (tags, values) in [
        (&[("group", ""), ("kind", "b")][..], &[4.0, 0.0][..]),
        (&[("kind", "b")], &[8.0]),
        (&[("kind", "b"), ("tls_version", "")], &[2.0]),
    ] {
        run.time += 1;
        for metric in [counter, gauge, rate, trend] {
            run.add(metric, tags, values);
        }
    }
    let expected = r#"# HELP my_counter my_counter k6 counter
# TYPE my_counter counter
my_counter{group="",kind="b",tls_version=""} 14
# HELP my_gauge my_gauge k6 gauge
# TYPE my_gauge gauge
my_gauge{group="",kind="b",tls_version=""} 2
# HELP my_rate my_rate k6 rate
# TYPE my_rate histogram
my_rate_bucket{group="",kind="b",tls_version="",le="0"} 1
my_rate_bucket{group="",kind="b",tls_version="",le="+Inf"} 4
my_rate_sum{group="",kind="b",tls_version=""} 14
my_rate_count{group="",kind="b",tls_version=""} 4
# HELP my_trend my_trend k6 trend
# TYPE my_trend summary
my_trend{group="",kind="b",tls_version="",quantile="0.5"} 2
my_trend{group="",kind="b",tls_version="",quantile="0.9"} 8
my_trend{group="",kind="b",tls_version="",quantile="0.95"} 8
my_trend{group="",kind="b",tls_version="",quantile="1"} 8
my_trend_sum{group="",kind="b",tls_version=""} 14
my_trend_count{group="",kind="b",tls_version=""} 4
# HELP my_trend_current my_trend_current k6 trend (current)
# TYPE my_trend_current gauge
my_trend_current{group="",kind="b",tls_version=""} 2
"#;
    assert_eq!(run.page(""), expected);
    assert_eq!(run.page(""), expected, "reading changes nothing");
}

#[test]
fn label_names_become_legal_and_stay_apart() {
    for (tags, labels) in [
        (&["a b"][..], &["a_b"][..]),
        (&["a-b.c/d"], &["a_b_c_d"]),
        (&["größe"], &["gr__e"]),
        (&["1st"], &["_1st"]),
        (&[""], &["_"]),
        (&["Case", "case"], &["Case", "case"]),
        // Kept by Prometheus for itself.
        (&["le"], &["tag_le"]),
        (&["quantile"], &["tag_quantile"]),
        (&["__name__"], &["tag___name__"]),
        (&["é°"], &["tag___"]),
        // Each tag stays, and one that is legal as it is stays as it is.
        (&["a b", "a-b", "a.b"], &["a_b", "a_b_2", "a_b_3"]),
        (&["a b", "a_b"], &["a_b_2", "a_b"]),
        (&["a b", "a_b", "a_b_2"], &["a_b_3", "a_b", "a_b_2"]),
        (&["le", "tag_le"], &["tag_le_2", "tag_le"]),
    ] {
        let mut run = Run::new();
        let pairs: Vec<_> = tags.iter().map(|&tag| (tag, tag)).collect();
        run.add(builtin::VUS, &pairs, &[1.0]);
        let mut expected: Vec<_> = labels
            .iter()
            .zip(tags)
            .map(|(label, tag)| format!("{label}=\"{tag}\""))
            .collect();
        expected.push("tls_version=\"\"".into());
        expected.sort();
        assert_eq!(
            run.page("").lines().last(),
            Some(&*format!("vus{{{}}} 1", expected.join(",")))
        );
    }
}

#[test]
fn whatever_the_tags_each_is_a_label_of_its_own() {
    // Names that are cleaned to one another, to a suffix of one another or to a reserved one.
    const KEYS: [&str; 16] = [
        "",
        " ",
        "_",
        "__",
        "_2",
        "2",
        "é",
        "a b",
        "a-b",
        "a_b",
        "a_b_2",
        "le",
        "tag_le",
        "tag_le_2",
        "tls version",
        "tls_version",
    ];
    let table = TagTable::new();
    // Every choice of four.
    for chosen in (0u32..1 << KEYS.len()).filter(|bits| bits.count_ones() == 4) {
        let keys = (0..KEYS.len()).filter(|bit| chosen & (1 << bit) != 0);
        let mut keys: Vec<&str> = keys.map(|bit| KEYS[bit]).collect();
        let pairs: Vec<_> = keys.iter().map(|&key| (key, key)).collect();
        let page = Exposition::new(PageFormat::Text);
        let named = name_labels(
            &table.get(table.intern(&pairs)),
            &SeriesOptions::default(),
            &page,
        );
        let printed = named.labels.text;
        // No value here has a quote or a comma.
        let labels: Vec<_> = printed
            .split(',')
            .map(|label| label.strip_suffix('"').unwrap().split_once("=\"").unwrap())
            .collect();
        for &(name, _) in &labels {
            let legal = name.chars().all(|c| c.is_ascii_alphanumeric() || c == '_')
                && !name.starts_with(|c: char| c.is_ascii_digit());
            let reserved = matches!(name, "" | "le" | "quantile") || name.starts_with("__");
            assert!(legal && !reserved, "{keys:?}: {printed}");
        }
        let names = labels.iter().map(|&(name, _)| name);
        assert!(
            names.is_sorted_by(|one, two| one < two),
            "{keys:?}: {printed}"
        );
        // All are there, and the one label that always is.
        if !keys.contains(&"tls_version") && !keys.contains(&"tls version") {
            assert!(labels.contains(&("tls_version", "")), "{keys:?}: {printed}");
            keys.push("");
        }
        let mut values: Vec<_> = labels.iter().map(|&(_, value)| value).collect();
        values.sort();
        keys.sort();
        assert_eq!(values, keys, "{printed}");
    }
}

#[test]
fn a_tag_named_as_a_bucket_or_quantile_does_not_hide_it() {
    let mut run = Run::new();
    run.add(builtin::CHECKS, &[("le", "x")], &[1.0]);
    run.add(builtin::WS_PING, &[("quantile", "x")], &[1.0]);
    let page = run.page("");
    for line in [
        "checks_bucket{tag_le=\"x\",tls_version=\"\",le=\"0\"} 0\n",
        "ws_ping{tag_quantile=\"x\",tls_version=\"\",quantile=\"0.5\"} 1\n",
    ] {
        assert!(page.contains(line), "{page}");
    }
}

#[test]
fn label_values_are_escaped() {
    let mut run = Run::new();
    run.add(builtin::VUS, &[("tag", "a\"b\\c\nd é {x=\"y\"}")], &[1.0]);
    assert_eq!(
        run.page("").lines().last(),
        Some(r#"vus{tag="a\"b\\c\nd é {x=\"y\"}",tls_version=""} 1"#)
    );
}

#[test]
fn a_metric_of_the_script_goes_before_the_twin_of_its_name() {
    let mut run = Run::new();
    let trend = run.metric("my_trend", MetricKind::Trend);
    run.add(trend, &[], &[5.0]);
    assert!(
        run.page("")
            .contains("my_trend_current{tls_version=\"\"} 5\n")
    );
    let own = run.metric("my_trend_current", MetricKind::Counter);
    run.add(own, &[], &[7.0]);
    let page = run.page("");
    let own: Vec<Printed> = families(&page)
        .into_iter()
        .filter(|family| family.name == "my_trend_current")
        .collect();
    let [own] = &own[..] else {
        panic!("one family of the name: {page}")
    };
    assert_eq!(
        own.text(),
        "# HELP my_trend_current my_trend_current k6 counter\n# TYPE my_trend_current counter\n\
         my_trend_current{tls_version=\"\"} 7\n"
    );
    assert!(page.contains("my_trend_count{tls_version=\"\"} 1\n"));
}

#[test]
fn a_metric_of_the_script_goes_before_the_agent_s_own_of_its_name() {
    let mut run = Run::new();
    for name in ["process_open_fds", REFUSED] {
        let metric = run.metric(name, MetricKind::Gauge);
        run.add(metric, &[], &[-7.0]);
    }
    run.add(builtin::ITERATIONS, &[], &[-1.0]);
    let page = run.whole_page("");
    for name in ["process_open_fds", REFUSED] {
        let found: Vec<_> = families(&page)
            .into_iter()
            .filter(|family| family.name == name)
            .map(|family| family.lines)
            .collect();
        assert_eq!(found, [[format!("{name}{{tls_version=\"\"}} -7")]]);
    }
    // With a namespace there is nothing to settle.
    let page = run.whole_page("namespace=k6");
    assert!(page.contains(&format!("\nk6_{REFUSED}{{tls_version=\"\"}} -7\n")));
    assert!(page.contains(&format!("\n{REFUSED}{{metric=\"iterations\"}} 1\n")));
}

#[test]
fn a_rate_is_a_histogram_of_zeros_and_all() {
    let mut run = Run::new();
    run.add(builtin::CHECKS, &[], &[1.0, 0.0, 1.0, 1.0, 0.0]);
    // A script's own rate may get any number; what is not zero is true.
    let own = run.metric("my_rate", MetricKind::Rate);
    run.add(own, &[], &[2.5, 0.0]);
    let expected = r#"# HELP checks The rate of successful checks
# TYPE checks histogram
checks_bucket{tls_version="",le="0"} 2
checks_bucket{tls_version="",le="+Inf"} 5
checks_sum{tls_version=""} 3
checks_count{tls_version=""} 5
# HELP my_rate my_rate k6 rate
# TYPE my_rate histogram
my_rate_bucket{tls_version="",le="0"} 1
my_rate_bucket{tls_version="",le="+Inf"} 2
my_rate_sum{tls_version=""} 2.5
my_rate_count{tls_version=""} 2
"#;
    assert_eq!(run.page(""), expected);
}

#[test]
fn a_trend_is_a_summary_and_its_last_value() {
    let mut run = Run::new();
    // Of 0 to 9 the reference gives 4, 8, 9 and 9 (spec/metrics.md §11.2).
    let values: Vec<f64> = (0..10).rev().map(f64::from).collect();
    run.add(builtin::HTTP_REQ_DURATION, &[], &values);
    let expected = r#"# HELP http_req_duration Total time for the request
# TYPE http_req_duration summary
http_req_duration{tls_version="",quantile="0.5"} 4
http_req_duration{tls_version="",quantile="0.9"} 8
http_req_duration{tls_version="",quantile="0.95"} 9
http_req_duration{tls_version="",quantile="1"} 9
http_req_duration_sum{tls_version=""} 45
http_req_duration_count{tls_version=""} 10
# HELP http_req_duration_current Total time for the request (current)
# TYPE http_req_duration_current gauge
http_req_duration_current{tls_version=""} 0
"#;
    assert_eq!(run.page(""), expected);
}

#[test]
fn quantiles_end_with_their_window_and_totals_do_not() {
    let mut run = Run::new();
    run.add(builtin::WS_PING, &[("url", "/a")], &[10.0, 20.0]);
    let page_of_a = |run: &Run| -> Vec<String> {
        let page = run.page("");
        let lines = page.lines().filter(|line| line.contains("url=\"/a\""));
        lines
            .map(|line| line.rsplit(' ').next().unwrap().to_owned())
            .collect()
    };
    // The window is made of slices of two minutes, which it forgets one by one.
    run.time = NOW + 2 * MINUTE;
    run.add(builtin::WS_PING, &[("url", "/a")], &[30.0]);
    run.time = NOW + 10 * MINUTE - 1;
    assert_eq!(page_of_a(&run), ["20", "30", "30", "30", "60", "3", "30"]);
    run.time = NOW + 10 * MINUTE;
    assert_eq!(page_of_a(&run), ["30", "30", "30", "30", "60", "3", "30"]);
    run.time = NOW + 12 * MINUTE;
    let silent = ["NaN", "NaN", "NaN", "NaN", "60", "3", "30"];
    assert_eq!(page_of_a(&run), silent);
    // Another series' sample makes the collector tidy up, and the page stays the same.
    run.add(builtin::WS_PING, &[("url", "/b")], &[1.0]);
    assert_eq!(page_of_a(&run), silent);
    run.add(builtin::WS_PING, &[("url", "/a")], &[5.0]);
    assert_eq!(page_of_a(&run), ["5", "5", "5", "5", "65", "4", "5"]);
}

#[test]
fn negative_counter_values_are_left_out_and_counted() {
    let mut run = Run::new();
    let own = run.metric("my_counter", MetricKind::Counter);
    run.add(own, &[], &[5.0]);
    assert!(!run.page("").contains(REFUSED), "nothing was refused");
    run.add(own, &[], &[-1.0, 2.0, -10.0]);
    run.add(own, &[("kind", "b")], &[-1.0]);
    run.add(builtin::ITERATIONS, &[], &[-1.0]);
    // A gauge may be negative.
    run.add(builtin::VUS, &[], &[-1.0]);
    let page = run.page("");
    assert!(page.contains("my_counter{tls_version=\"\"} 7\n"), "{page}");
    assert!(page.contains("vus{tls_version=\"\"} -1\n"), "{page}");
    let refused = families(&page).into_iter().find(|f| f.name == REFUSED);
    assert_eq!(
        refused.unwrap().text(),
        "# HELP volley_prometheus_refused_values_total Negative counter values, which the Prometheus output leaves out\n\
         # TYPE volley_prometheus_refused_values_total counter\n\
         volley_prometheus_refused_values_total{metric=\"iterations\"} 1\n\
         volley_prometheus_refused_values_total{metric=\"my_counter\"} 3\n"
    );
}

#[test]
fn the_process_is_described_even_before_the_first_sample() {
    // Without series, what was measured is kept from the page, the process is not.
    for series in [true, false] {
        let mut run = Run::with_series(series);
        if !series {
            run.add(builtin::VUS, &[], &[1.0]);
        }
        let page = run.whole_page("namespace=k6");
        let families = families(&page);
        for (name, kind) in [
            ("process_cpu_seconds_total", "counter"),
            ("process_open_fds", "gauge"),
            ("process_resident_memory_bytes", "gauge"),
            ("process_start_time_seconds", "gauge"),
        ] {
            let family = families.iter().find(|family| family.name == name);
            let family = family.unwrap_or_else(|| panic!("{name}: {page}"));
            assert_eq!(family.kind, kind);
            let [line] = &family.lines[..] else {
                panic!("{family:?}")
            };
            let value: f64 = line.rsplit(' ').next().unwrap().parse().unwrap();
            assert!(value >= 0.0, "{line}");
        }
        let others = families.iter().filter(|f| !f.name.starts_with("process_"));
        assert_eq!(others.count(), 0);
    }
}

#[test]
fn options_have_the_reference_s_defaults() {
    let defaults = PrometheusOptions {
        namespace: String::new(),
        subsystem: String::new(),
        host: String::new(),
        port: 5656,
        linger: Linger::Auto,
        series: SeriesOptions::default(),
    };
    assert_eq!(PrometheusOptions::default(), defaults);
    for arg in ["", "&", "namespace=&subsystem=&host="] {
        assert_eq!(PrometheusOptions::parse(arg).as_ref(), Ok(&defaults));
    }
    assert_eq!(defaults.describe(), "prometheus (:5656)");
}

#[test]
fn options_are_a_query_whose_keys_have_any_case() {
    let expected = PrometheusOptions {
        namespace: "k6".into(),
        subsystem: "load".into(),
        host: "127.0.0.1".into(),
        port: 9100,
        linger: Linger::For(Duration::from_secs(90)),
        series: SeriesOptions::default(),
    };
    for arg in [
        "namespace=k6&subsystem=load&host=127.0.0.1&port=9100&linger=1m30s",
        "LINGER=90s&Port=9100&hOsT=127.0.0.1&SubSystem=load&NAMESPACE=k6",
        "name%73pace=k%36&subsystem=lo%61d&host=127%2e0%2E0.1&port=9100&linger=1.5m",
        // Of equal keys the last one counts.
        "port=1&namespace=k6&subsystem=load&host=127.0.0.1&PORT=9100&linger=0&linger=90s",
    ] {
        assert_eq!(PrometheusOptions::parse(arg).as_ref(), Ok(&expected));
    }
    assert_eq!(expected.describe(), "prometheus (127.0.0.1:9100)");
}

#[test]
fn linger_is_auto_or_a_duration_or_nothing() {
    for (value, linger) in [
        ("auto", Linger::Auto),
        ("30s", Linger::For(Duration::from_secs(30))),
        ("1h0m1.5s", Linger::For(Duration::from_millis(3_601_500))),
        ("0", Linger::Off),
        ("0s", Linger::Off),
    ] {
        let options = PrometheusOptions::parse(&format!("linger={value}")).unwrap();
        assert_eq!(options.linger, linger, "{value}");
    }
    for value in ["", "30", "soon", "-5s"] {
        assert_eq!(
            PrometheusOptions::parse(&format!("linger={value}")).unwrap_err(),
            format!(
                "schema: linger \"{value}\" is neither auto, nor a duration such as 30s, nor 0"
            )
        );
    }
}

#[test]
fn options_that_do_not_fit_are_named() {
    let unknown = |key: &str| {
        format!(
            "schema: unknown key \"{key}\", the keys are namespace, subsystem, host, port, linger, trend, buckets, labels, drop and max_series"
        )
    };
    let port =
        |value: &str| format!("schema: port \"{value}\" is not a whole number from 0 to 65535");
    let part = |key: &str, value: &str| {
        format!(
            "schema: {key} \"{value}\" cannot be part of a metric name ([a-zA-Z_:][a-zA-Z0-9_:]*)"
        )
    };
    for (arg, text) in [
        ("prefix=k6", unknown("prefix")),
        ("namespace=k6&Prefix", unknown("Prefix")),
        ("port=abc", port("abc")),
        ("port=", port("")),
        ("port=65536", port("65536")),
        ("port=-1", port("-1")),
        ("port=80.5", port("80.5")),
        ("namespace=my-app", part("namespace", "my-app")),
        ("namespace=a+b", part("namespace", "a b")),
        ("subsystem=6k", part("subsystem", "6k")),
        ("host=%zz", "invalid URL escape in \"%zz\"".into()),
        ("host=a%2", "invalid URL escape in \"a%2\"".into()),
        ("host=%ff", "\"%ff\" is not UTF-8".into()),
    ] {
        assert_eq!(PrometheusOptions::parse(arg), Err(text), "{arg}");
    }
}

// === Histograms of trends ===

#[test]
fn a_trend_has_a_histogram_of_its_own_name_when_asked() {
    let arg = "trend=histogram&buckets=-1,0.5,10,1000000";
    let mut run = Run::asked(arg);
    let own = run
        .registry
        .register("own", MetricKind::Trend, ValueType::Time)
        .unwrap();
    // A value on a bound belongs to it, and what is over for ten minutes still counts.
    run.add(own, &[("kind", "b")], &[0.5, 10.0, 10.5, -1.0]);
    run.time += 15 * MINUTE;
    run.add(own, &[("kind", "b")], &[2e6]);
    run.add(own, &[], &[3.0]);
    // Its labels are those of the series before.
    run.add(own, &[("kind", "b"), ("group", "")], &[3.0]);
    let expected = r#"# HELP own own k6 trend
# TYPE own summary
own{tls_version="",quantile="0.5"} 3
own{tls_version="",quantile="0.9"} 3
own{tls_version="",quantile="0.95"} 3
own{tls_version="",quantile="1"} 3
own_sum{tls_version=""} 3
own_count{tls_version=""} 1
own{kind="b",tls_version="",quantile="0.5"} 3
own{kind="b",tls_version="",quantile="0.9"} 2e+06
own{kind="b",tls_version="",quantile="0.95"} 2e+06
own{kind="b",tls_version="",quantile="1"} 2e+06
own_sum{kind="b",tls_version=""} 2.000023e+06
own_count{kind="b",tls_version=""} 6
# HELP own_current own_current k6 trend (current)
# TYPE own_current gauge
own_current{tls_version=""} 3
own_current{kind="b",tls_version=""} 3
# HELP own_histogram own_histogram k6 trend (histogram)
# TYPE own_histogram histogram
own_histogram_bucket{tls_version="",le="-1"} 0
own_histogram_bucket{tls_version="",le="0.5"} 0
own_histogram_bucket{tls_version="",le="10"} 1
own_histogram_bucket{tls_version="",le="1e+06"} 1
own_histogram_bucket{tls_version="",le="+Inf"} 1
own_histogram_sum{tls_version=""} 3
own_histogram_count{tls_version=""} 1
own_histogram_bucket{kind="b",tls_version="",le="-1"} 1
own_histogram_bucket{kind="b",tls_version="",le="0.5"} 2
own_histogram_bucket{kind="b",tls_version="",le="10"} 4
own_histogram_bucket{kind="b",tls_version="",le="1e+06"} 5
own_histogram_bucket{kind="b",tls_version="",le="+Inf"} 6
own_histogram_sum{kind="b",tls_version=""} 2.000023e+06
own_histogram_count{kind="b",tls_version=""} 6
"#;
    assert_eq!(run.page(arg), expected);
    assert_eq!(run.page(arg), expected, "reading changes nothing");
}

#[test]
fn histograms_leave_the_page_of_the_reference_as_it_is() {
    let record = |arg: &str| {
        let mut run = Run::asked(arg);
        run.add(builtin::HTTP_REQ_DURATION, &[("name", "a")], &[7.0, 9.5]);
        run.add(builtin::HTTP_REQS, &[("name", "a")], &[1.0]);
        run.page("namespace=k6")
    };
    let [plain, page] = ["", "trend=both"].map(record);
    let kept = families(&page)
        .into_iter()
        .filter(|f| !f.name.ends_with("_histogram"));
    assert_eq!(kept.collect::<Vec<_>>(), families(&plain));
    assert!(!plain.contains("_histogram"));
    // The bounds that are for times.
    let family = families(&page)
        .into_iter()
        .find(|f| f.name == "k6_http_req_duration_histogram");
    let family = family.expect("a histogram");
    assert_eq!(family.help, "Total time for the request (histogram)");
    let bounds = family.lines.iter().filter_map(|line| {
        let (_, rest) = line.split_once("le=\"")?;
        Some(rest.split_once('"')?.0)
    });
    assert_eq!(
        bounds.collect::<Vec<_>>().join(" "),
        "0.5 1 2.5 5 10 25 50 100 250 500 1000 2500 5000 10000 30000 60000 +Inf"
    );
}

#[test]
fn a_script_s_own_metric_keeps_its_name_from_a_histogram() {
    let mut run = Run::asked("trend=histogram");
    let [own, other] = ["own", "own_histogram"].map(|name| run.metric(name, MetricKind::Trend));
    run.add(own, &[], &[1.0]);
    run.add(other, &[], &[2.0]);
    let names: Vec<String> = families(&run.page(""))
        .into_iter()
        .map(|f| f.name)
        .collect();
    assert_eq!(
        names,
        [
            "own",
            "own_current",
            "own_histogram",
            "own_histogram_current",
            "own_histogram_histogram"
        ]
    );
}

#[test]
fn histograms_are_asked_for_by_name_and_bounds_must_rise() {
    let forms = |arg: &str| PrometheusOptions::parse(arg).unwrap().series.trends;
    for (arg, classic, native) in [
        ("", 0, false),
        ("trend=summary", 0, false),
        ("trend=histogram", BUCKETS.len(), false),
        ("trend=native", 0, true),
        ("trend=both", BUCKETS.len(), true),
        ("buckets=1,2.5,1e3&trend=both", 3, true),
        ("trend=histogram&buckets=-7", 1, false),
    ] {
        let found = forms(arg);
        assert_eq!(
            found.classic.map_or(0, |bounds| bounds.len()),
            classic,
            "{arg}"
        );
        assert_eq!(found.native, native, "{arg}");
    }
    let many: Vec<String> = (0..201).map(|number| number.to_string()).collect();
    for value in [
        "",
        "a",
        "1,,2",
        "2,1",
        "1,1",
        "1,inf",
        "nan",
        &many.join(","),
    ] {
        let error = PrometheusOptions::parse(&format!("trend=histogram&buckets={value}"));
        let text = format!(
            "schema: buckets \"{value}\" are not rising numbers such as 10,100,1000, 200 at most"
        );
        assert_eq!(error, Err(text));
    }
    for (arg, text) in [
        (
            "trend=sum",
            "schema: trend \"sum\" is none of summary, histogram, native and both",
        ),
        (
            "trend=native&buckets=1",
            "schema: buckets are those of classic histograms, which need trend=histogram or trend=both",
        ),
    ] {
        assert_eq!(PrometheusOptions::parse(arg), Err(text.to_owned()));
    }
}

// === Which series ===

/// Series of each kind that differ in their `url` and `vu`.
fn run_with_urls(arg: &str) -> Run {
    let mut run = Run::asked(arg);
    let kinds = [
        ("my_counter", MetricKind::Counter),
        ("my_gauge", MetricKind::Gauge),
        ("my_rate", MetricKind::Rate),
        ("my_trend", MetricKind::Trend),
    ];
    let metrics = kinds.map(|(name, kind)| run.metric(name, kind));
    for (url, vu, values) in [
        ("/1", "1", &[4.0, 0.0][..]),
        ("/2", "1", &[8.0]),
        ("/3", "2", &[2.0, 3.0]),
        ("/1", "1", &[1.0]),
    ] {
        run.time += 1;
        let tags = [("kind", "b"), ("url", url), ("vu", vu), ("a b", "c")];
        metrics
            .iter()
            .for_each(|&metric| run.add(metric, &tags, values));
    }
    run
}

#[test]
fn series_that_differ_in_dropped_labels_are_one() {
    let expected = r#"# HELP my_counter my_counter k6 counter
# TYPE my_counter counter
my_counter{kind="b"} 18
# HELP my_gauge my_gauge k6 gauge
# TYPE my_gauge gauge
my_gauge{kind="b"} 1
# HELP my_rate my_rate k6 rate
# TYPE my_rate histogram
my_rate_bucket{kind="b",le="0"} 1
my_rate_bucket{kind="b",le="+Inf"} 6
my_rate_sum{kind="b"} 18
my_rate_count{kind="b"} 6
# HELP my_trend my_trend k6 trend
# TYPE my_trend summary
my_trend{kind="b",quantile="0.5"} 2
my_trend{kind="b",quantile="0.9"} 8
my_trend{kind="b",quantile="0.95"} 8
my_trend{kind="b",quantile="1"} 8
my_trend_sum{kind="b"} 18
my_trend_count{kind="b"} 6
# HELP my_trend_current my_trend_current k6 trend (current)
# TYPE my_trend_current gauge
my_trend_current{kind="b"} 1
"#;
    for arg in [
        "labels=kind",
        // A tag by its own name, and by that of its label.
        "drop=url,vu,a b,tls_version",
        "drop=url,vu,a_b,tls_version",
        "labels=kind,url&drop=url",
        // As in a list of outputs.
        "labels=kind%2Curl&drop=url",
    ] {
        let mut run = run_with_urls(arg);
        assert_eq!(run.page(arg), expected, "{arg}");
        assert_eq!(run.warnings(), Vec::<String>::new());
    }
    let histogram = "labels=kind&trend=histogram&buckets=2";
    let page = run_with_urls(histogram).page("");
    let lines = "my_trend_histogram_bucket{kind=\"b\",le=\"2\"} 3\n\
                 my_trend_histogram_bucket{kind=\"b\",le=\"+Inf\"} 6\n\
                 my_trend_histogram_sum{kind=\"b\"} 18\n";
    assert!(page.contains(lines), "{page}");
}

#[test]
fn a_page_without_any_label_is_still_one() {
    let mut run = Run::asked("labels=none");
    run.add(builtin::HTTP_REQS, &[("url", "/a")], &[1.0]);
    run.add(builtin::HTTP_REQ_DURATION, &[("url", "/a")], &[2.0]);
    run.add(builtin::HTTP_REQS, &[("url", "/b")], &[1.0]);
    let page = run.page("");
    let lines: Vec<&str> = page.lines().filter(|line| !line.starts_with('#')).collect();
    assert_eq!(
        lines,
        [
            "http_req_duration{quantile=\"0.5\"} 2",
            "http_req_duration{quantile=\"0.9\"} 2",
            "http_req_duration{quantile=\"0.95\"} 2",
            "http_req_duration{quantile=\"1\"} 2",
            "http_req_duration_sum 2",
            "http_req_duration_count 1",
            "http_req_duration_current 2",
            "http_reqs 2",
        ]
    );
}

#[test]
fn series_beyond_the_limit_are_counted_and_stay_in_the_summary() {
    let mut run = Run::asked("max_series=3");
    let url = |n: u32| format!("/{n}");
    for n in 0..5 {
        run.add(builtin::HTTP_REQS, &[("url", &url(n))], &[1.0]);
    }
    run.add(builtin::VUS, &[], &[1.0]);
    // What has a place keeps it, and what has none is counted once.
    for n in 0..5 {
        run.add(builtin::HTTP_REQS, &[("url", &url(n))], &[10.0]);
    }
    let page = run.page("");
    let expected = r#"# HELP http_reqs How many HTTP requests has k6 generated, in total
# TYPE http_reqs counter
http_reqs{tls_version="",url="/0"} 11
http_reqs{tls_version="",url="/1"} 11
http_reqs{tls_version="",url="/2"} 11
# HELP volley_prometheus_overflow_series_total Series that the Prometheus output leaves out because there are too many
# TYPE volley_prometheus_overflow_series_total counter
volley_prometheus_overflow_series_total{metric="http_reqs"} 2
volley_prometheus_overflow_series_total{metric="vus"} 1
"#;
    assert_eq!(page, expected);
    let warnings = run.warnings();
    assert_eq!(warnings.len(), 1, "{warnings:?}");
    assert!(
        warnings[0].starts_with(
            "the Prometheus output has as many series as it may have, 3 (max_series):"
        ),
        "{warnings:?}"
    );
    let snapshot = run.collector.snapshot(Duration::from_secs(1));
    let total = snapshot
        .metrics
        .iter()
        .find(|m| &*m.name == "http_reqs")
        .expect("a metric");
    assert!(
        matches!(total.values, crate::Values::Counter { count, .. } if count == 55.0),
        "{:?}",
        total.values
    );
}

#[test]
fn series_that_share_a_place_are_not_too_many() {
    let mut run = Run::asked("max_series=2&drop=url");
    for n in 0..100 {
        run.add(builtin::HTTP_REQS, &[("url", &n.to_string())], &[1.0]);
        run.add(builtin::ITERATIONS, &[], &[1.0]);
    }
    assert_eq!(run.warnings(), Vec::<String>::new());
    run.add(builtin::HTTP_REQS, &[("url", "7")], &[-1.0]);
    let page = run.page("");
    assert!(page.contains(&format!("{REFUSED}{{metric=\"http_reqs\"}} 1\n")));
    assert!(page.contains("http_reqs{tls_version=\"\"} 100\n"), "{page}");
    assert!(
        page.contains("iterations{tls_version=\"\"} 100\n"),
        "{page}"
    );
    assert!(!page.contains(OVERFLOW));
}

#[test]
fn lists_of_labels_and_the_limit_are_checked() {
    let options = |arg: &str| PrometheusOptions::parse(arg).unwrap().series;
    assert_eq!(options("labels=&drop="), SeriesOptions::default());
    assert_eq!(SeriesOptions::default().most, 100_000);
    let found = options("Labels=a,b c&DROP=d&max_series=7");
    let list = |names: &[&str]| -> Vec<String> { names.iter().map(|&name| name.into()).collect() };
    assert_eq!(found.labels.only, Some(list(&["a", "b c"])));
    assert_eq!(found.labels.drop, list(&["d"]));
    assert_eq!(found.most, 7);
    for (arg, text) in [
        (
            "labels=a,,b",
            "schema: labels \"a,,b\" is not a list of names such as url,vu",
        ),
        (
            "drop=,",
            "schema: drop \",\" is not a list of names such as url,vu",
        ),
        (
            "max_series=0",
            "schema: max_series \"0\" is not a whole number from 1 on",
        ),
        (
            "max_series=many",
            "schema: max_series \"many\" is not a whole number from 1 on",
        ),
    ] {
        assert_eq!(PrometheusOptions::parse(arg), Err(text.to_owned()));
    }
}
