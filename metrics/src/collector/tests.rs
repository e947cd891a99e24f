//! Recorders in front; verdicts, snapshots and warnings behind.

use super::*;
use crate::{Check, Group, Recorder, ThresholdSpec, Values};

/// Any time of day: nothing here depends on it but the Prometheus window.
const NOW: i64 = 1_795_333_220_000_000_000;

/// A run with one shard, and a script's metric of each kind beside the built-in ones.
struct Run {
    registry: Arc<Registry>,
    tags: Arc<TagTable>,
    shard: Recorder,
    collector: Collector,
}

impl Run {
    fn new(thresholds: &[(&str, ThresholdSpec)]) -> Self {
        Self::with(thresholds, &[], false)
    }

    fn with(
        thresholds: &[(&str, ThresholdSpec)],
        default_submetrics: &[&str],
        series: bool,
    ) -> Self {
        let registry = Arc::new(Registry::new());
        for (name, kind) in [
            ("my_counter", MetricKind::Counter),
            ("my_gauge", MetricKind::Gauge),
            ("my_rate", MetricKind::Rate),
            ("my_trend", MetricKind::Trend),
        ] {
            registry.register(name, kind, ValueType::Default).unwrap();
        }
        let list: Vec<_> = thresholds
            .iter()
            .map(|(key, spec)| ((*key).to_owned(), vec![spec.clone()]))
            .collect();
        let thresholds = Thresholds::parse(&list).unwrap();
        thresholds.validate(&registry).unwrap();
        Self::from(registry, thresholds, default_submetrics, series)
    }

    fn from(
        registry: Arc<Registry>,
        thresholds: Thresholds,
        default_submetrics: &[&str],
        series: bool,
    ) -> Self {
        let tags = Arc::new(TagTable::new());
        let collector = Collector::new(CollectorConfig {
            registry: registry.clone(),
            tags: tags.clone(),
            thresholds,
            series: series.then(SeriesOptions::default),
            breakdown: false,
            default_submetrics: default_submetrics.iter().map(|&key| key.into()).collect(),
        });
        Self {
            shard: Recorder::new(registry.clone(), false),
            registry,
            tags,
            collector,
        }
    }

    fn metric(&self, name: &str) -> MetricId {
        self.registry.lookup(name).unwrap()
    }

    /// Records one value and folds it at once.
    fn add(&mut self, metric: &str, tags: &[(&str, &str)], value: f64) {
        let (metric, tags) = (self.metric(metric), self.tags.intern(tags));
        self.shard.record(metric, tags, value, NOW);
        self.collector.fold(&self.shard.drain(), NOW);
    }

    fn tick(&mut self, seconds: u64) -> Verdict {
        self.collector.evaluate(Duration::from_secs(seconds), false)
    }

    fn end(&mut self, seconds: u64) -> Verdict {
        self.collector.evaluate(Duration::from_secs(seconds), true)
    }

    fn snapshot(&self) -> Snapshot {
        self.collector.snapshot(Duration::from_secs(10))
    }

    /// Display names in the order of the snapshot.
    fn listed(&self) -> Vec<String> {
        let snapshot = self.snapshot();
        let names = snapshot.metrics.iter();
        names.map(|metric| metric.name.to_string()).collect()
    }

    fn count(&self, metric: &str) -> f64 {
        match self.snapshot().metric(metric).map(|m| m.values.clone()) {
            Some(Values::Counter { count, .. }) => count,
            other => panic!("{metric}: {other:?}"),
        }
    }

    fn tainted(&self, metric: &str) -> Option<bool> {
        self.snapshot().metric(metric).unwrap().tainted
    }
}

fn spec(source: &str) -> ThresholdSpec {
    ThresholdSpec {
        source: source.into(),
        abort_on_fail: false,
        delay_abort_eval: None,
    }
}

fn aborting(source: &str, delay_seconds: Option<u64>) -> ThresholdSpec {
    ThresholdSpec {
        abort_on_fail: true,
        delay_abort_eval: delay_seconds.map(Duration::from_secs),
        ..spec(source)
    }
}

#[test]
fn shards_add_up_whatever_the_order_of_their_batches() {
    let mut run = Run::new(&[]);
    let mut other = Recorder::new(run.registry.clone(), false);
    let [counter, rate, trend] = ["my_counter", "my_rate", "my_trend"].map(|name| run.metric(name));
    // The tag sets differ: a metric also gathers what is spread over its series.
    let tags = run.tags.intern(&[("shard", "other")]);
    for (shard, tags, values) in [
        (&mut run.shard, TagSetId::EMPTY, [4.0, 0.0, -1.0]),
        (&mut other, tags, [7.0, 9.0, 0.0]),
    ] {
        for value in values {
            for metric in [counter, rate, trend] {
                shard.record(metric, tags, value, NOW);
            }
        }
    }
    let (first, second) = (run.shard.drain(), other.drain());
    run.collector.fold(&second, NOW);
    run.collector.fold(&first, NOW);
    // A second tick of a shard adds to its first.
    other.record(counter, tags, 0.5, NOW);
    run.collector.fold(&other.drain(), NOW);

    let snapshot = run.snapshot();
    let values = |name: &str| &snapshot.metric(name).unwrap().values;
    assert!(matches!(
        values("my_counter"),
        Values::Counter { count: 19.5, .. }
    ));
    assert!(matches!(
        values("my_rate"),
        Values::Rate {
            passes: 4,
            fails: 2,
            ..
        }
    ));
    let Values::Trend(trend) = values("my_trend") else {
        panic!("trend")
    };
    assert_eq!(
        (trend.count(), trend.sum(), trend.min(), trend.max()),
        (6, 19.0, -1.0, 9.0)
    );
    assert_eq!(trend.med(), 2.0);
}

#[test]
fn a_gauge_is_its_newest_sample_whichever_batch_is_folded_first() {
    for newest_first in [false, true] {
        let mut run = Run::new(&[]);
        let gauge = run.metric("my_gauge");
        let mut batches = [([7.0, 9.0], 10), ([-1.0, 4.0], 20)].map(|(values, time)| {
            for value in values {
                run.shard.record(gauge, TagSetId::EMPTY, value, NOW + time);
            }
            run.shard.drain()
        });
        if newest_first {
            batches.reverse();
        }
        for batch in &batches {
            run.collector.fold(batch, NOW);
        }
        assert!(matches!(
            run.snapshot().metric("my_gauge").unwrap().values,
            Values::Gauge {
                value: 4.0,
                min: -1.0,
                max: 9.0
            }
        ));
    }
}

#[test]
fn a_submetric_takes_the_series_that_have_all_its_tags() {
    let mut run = Run::new(&[
        ("http_reqs{status:200}", spec("count>=0")),
        ("http_reqs{ status:200 , method:GET }", spec("count>=0")),
        // The value is all that follows the first colon.
        ("http_reqs{group:::outer::inner}", spec("count>=0")),
        ("http_reqs{url:'http://h:8080/a?b=c:d'}", spec("count>=0")),
        ("http_reqs{status:20}", spec("count>=0")),
    ]);
    for (tags, value) in [
        (&[][..], 1.0),
        (&[("status", "200")], 2.0),
        (&[("method", "GET"), ("status", "200")], 4.0),
        (&[("method", "POST"), ("status", "200")], 8.0),
        (&[("method", "GET"), ("status", "404")], 16.0),
        (&[("group", "::outer::inner"), ("method", "GET")], 32.0),
        (&[("group", "::outer")], 64.0),
        (&[("url", "http://h:8080/a?b=c:d")], 128.0),
        (&[("url", "http://h:8080/a?b=c")], 256.0),
    ] {
        run.add("http_reqs", tags, value);
    }
    assert_eq!(run.count("http_reqs"), 511.0);
    assert_eq!(run.count("http_reqs{status:200}"), 14.0);
    assert_eq!(run.count("http_reqs{status:200 , method:GET}"), 4.0);
    assert_eq!(run.count("http_reqs{group:::outer::inner}"), 32.0);
    assert_eq!(run.count("http_reqs{url:'http://h:8080/a?b=c:d'}"), 128.0);
    // A value is compared whole.
    assert_eq!(run.count("http_reqs{status:20}"), 0.0);
    let parent = run
        .snapshot()
        .metric("http_reqs{status:200}")
        .unwrap()
        .parent
        .clone();
    assert_eq!(parent, Some(("http_reqs".into(), "status:200".into())));
    assert_eq!(run.snapshot().metric("http_reqs").unwrap().parent, None);
}

#[test]
fn the_default_submetric_appears_with_its_first_sample() {
    let name = "http_req_duration{expected_response:true}";
    let mut run = Run::with(&[], &[name], false);
    assert!(run.listed().is_empty());
    run.add("http_req_duration", &[("expected_response", "false")], 70.0);
    assert_eq!(run.listed(), ["http_req_duration"]);
    run.add("http_req_duration", &[("expected_response", "true")], 5.0);
    assert_eq!(run.listed(), ["http_req_duration", name]);
    let snapshot = run.snapshot();
    let [all, expected] = ["http_req_duration", name].map(|name| {
        let metric = snapshot.metric(name).unwrap();
        assert_eq!(metric.contains, ValueType::Time);
        match &metric.values {
            Values::Trend(trend) => (trend.count(), trend.max()),
            other => panic!("{other:?}"),
        }
    });
    assert_eq!((all, expected), ((2, 70.0), (1, 5.0)));
}

#[test]
fn a_threshold_on_the_default_submetric_does_not_make_a_second_one() {
    let name = "http_req_duration{expected_response:true}";
    let mut run = Run::with(&[(name, spec("max<5"))], &[name], false);
    run.add("http_req_duration", &[("expected_response", "true")], 5.0);
    assert_eq!(run.listed(), ["http_req_duration", name]);
    assert_eq!(run.end(1).crossed, [name]);
}

#[test]
fn without_thresholds_their_submetrics_are_still_measured() {
    let registry = Arc::new(Registry::new());
    let keys = ["http_reqs{kind:b}"];
    let (thresholds, warnings) = Thresholds::submetrics_only(&keys, &registry);
    assert!(warnings.is_empty());
    let mut run = Run::from(registry, thresholds, &[], false);
    run.add("http_reqs", &[], 1.0);
    run.add("http_reqs", &[("kind", "b")], 1.0);
    assert_eq!(run.count("http_reqs{kind:b}"), 1.0);
    assert_eq!(run.end(1), Verdict::default());
    assert_eq!(run.tainted("http_reqs{kind:b}"), None);
}

#[test]
fn metrics_are_listed_with_their_threshold_or_first_sample() {
    let mut run = Run::new(&[
        ("my_trend", spec("avg>=0")),
        ("checks{check:ok}", spec("rate>=0")),
    ]);
    // A threshold on a sub-metric shows the metric itself too.
    let defined = ["my_trend", "checks", "checks{check:ok}"];
    assert_eq!(run.listed(), defined);
    run.add("my_gauge", &[], 1.0);
    run.add("my_trend", &[], 1.0);
    run.add("iterations", &[], 1.0);
    run.add("my_gauge", &[("a", "b")], 1.0);
    let seen = ["my_gauge", "iterations"];
    assert_eq!(run.listed(), [&defined[..], &seen[..]].concat());
}

/// Every row of spec/metrics.md §6.5 on empty sinks: metric, expression, whether it passes.
const EMPTY: &[(&str, &str, bool)] = &[
    ("my_counter", "count>0", false),
    ("my_counter", "count<1", true),
    ("my_counter", "rate<1", true),
    ("my_counter", "rate>0", false),
    ("my_gauge", "value==0", true),
    ("my_gauge", "value>0", false),
    ("my_rate", "rate>0.5", true),
    ("my_rate", "rate<0.5", true),
    ("my_rate", "rate==7", true),
    ("my_trend", "p(95)<200", true),
    ("my_trend", "p(99.9)>0", false),
    ("my_trend", "avg>5", false),
    ("my_trend", "avg==0", true),
    ("my_trend", "min==0", true),
    ("my_trend", "max==0", true),
    ("my_trend", "med==0", true),
    ("my_trend", "med!=0", false),
];

#[test]
fn the_final_evaluation_judges_empty_sinks() {
    for &(metric, expression, passes) in EMPTY {
        let mut run = Run::new(&[(metric, spec(expression))]);
        let verdict = run.end(10);
        let crossed = if passes { vec![] } else { vec![metric] };
        assert_eq!(verdict.crossed, crossed, "{metric}: {expression}");
        assert_eq!(run.tainted(metric), Some(!passes), "{metric}: {expression}");
    }
}

#[test]
fn a_submetric_that_no_sample_matched_is_judged_as_empty() {
    for &(metric, expression, passes) in EMPTY {
        let key = format!("{metric}{{a:b}}");
        let mut run = Run::new(&[(&key, spec(expression))]);
        // The metric itself is not empty, and would give another verdict on most rows.
        run.add(metric, &[("a", "c")], 9.0);
        let crossed = if passes { vec![] } else { vec![key.clone()] };
        assert_eq!(run.end(10).crossed, crossed, "{key}: {expression}");
    }
}

#[test]
fn a_periodic_evaluation_passes_over_empty_sinks() {
    let failing = EMPTY.iter().filter(|(.., passes)| !passes);
    for &(metric, expression, _) in failing {
        let mut run = Run::new(&[(metric, aborting(expression, None))]);
        assert_eq!(run.tick(10), Verdict::default(), "{metric}: {expression}");
        assert_eq!(run.tainted(metric), None, "not judged yet");
        assert_eq!(run.end(10).crossed, [metric]);
    }
}

#[test]
fn the_rate_of_a_counter_has_no_value_while_the_run_clock_is_zero() {
    for expression in ["rate>1000", "rate<0", "rate==0"] {
        let mut run = Run::new(&[("my_counter", spec(expression))]);
        run.add("my_counter", &[], 5.0);
        assert_eq!(run.tick(0), Verdict::default(), "{expression}");
        assert_eq!(run.end(0), Verdict::default(), "{expression}");
        assert_eq!(run.end(1).crossed, ["my_counter"], "{expression}");
    }
    // The sum needs no clock.
    let mut run = Run::new(&[("my_counter", spec("count<5"))]);
    run.add("my_counter", &[], 5.0);
    assert_eq!(run.end(0).crossed, ["my_counter"]);
}

#[test]
fn the_rate_of_a_counter_is_per_second_of_the_run_clock() {
    let mut run = Run::new(&[("my_counter", spec("rate==2.5"))]);
    run.add("my_counter", &[], 10.0);
    assert_eq!(run.end(4), Verdict::default());
    assert_eq!(run.end(5).crossed, ["my_counter"]);
}

#[test]
fn each_kind_is_judged_by_what_it_gathered() {
    let rows = [
        ("my_counter", "count==6"),
        ("my_gauge", "value==3"),
        ("my_rate", "rate==1"),
        ("my_trend", "avg==2"),
        ("my_trend", "min==1"),
        ("my_trend", "max==3"),
        ("my_trend", "med==2"),
        ("my_trend", "p(75)==2.5"),
    ];
    for (metric, expression) in rows {
        let opposite = expression.replace("==", "!=");
        let mut run = Run::new(&[(metric, spec(expression)), (metric, spec(&opposite))]);
        for value in [2.0, 1.0, 3.0] {
            run.add(metric, &[], value);
            // Reading in between must not change what is read later.
            run.tick(1);
        }
        run.end(1);
        let results = run.snapshot().metric(metric).unwrap().thresholds.clone();
        let results: Vec<_> = results.iter().map(|r| (&*r.source, r.ok)).collect();
        assert_eq!(results, [(expression, true), (&*opposite, false)]);
    }
}

#[test]
fn only_a_periodic_evaluation_aborts() {
    let mut run = Run::new(&[("my_counter", aborting("count<5", None))]);
    run.add("my_counter", &[], 4.0);
    assert_eq!(run.tick(2), Verdict::default());
    run.add("my_counter", &[], 1.0);
    let crossed = vec!["my_counter".to_owned()];
    let (periodic, last) = (run.tick(4), run.end(6));
    assert_eq!((periodic.abort, &periodic.crossed), (true, &crossed));
    assert_eq!((last.abort, &last.crossed), (false, &crossed));
}

#[test]
fn a_crossed_threshold_without_abort_does_not_borrow_it_from_its_neighbour() {
    let mut run = Run::new(&[
        ("my_counter", spec("count<1")),
        ("my_counter", aborting("count<10", None)),
        ("my_gauge", aborting("value>100", None)),
    ]);
    run.add("my_counter", &[], 5.0);
    let verdict = run.tick(2);
    assert_eq!(verdict.crossed, ["my_counter"]);
    assert!(!verdict.abort, "the one that may abort still holds");
    run.add("my_counter", &[], 5.0);
    assert!(run.tick(4).abort);
}

#[test]
fn a_delay_must_be_less_than_the_run_clock() {
    let mut run = Run::new(&[("my_counter", aborting("count<1", Some(5)))]);
    run.add("my_counter", &[], 1.0);
    let five = Duration::from_secs(5);
    for (clock, abort) in [
        (Duration::from_secs(2), false),
        (Duration::from_secs(4), false),
        (five, false),
        (five + Duration::from_nanos(1), true),
        (Duration::from_secs(6), true),
    ] {
        let verdict = run.collector.evaluate(clock, false);
        assert_eq!(verdict.abort, abort, "{clock:?}");
        // Delayed is the abort, not the verdict.
        assert_eq!(verdict.crossed, ["my_counter"], "{clock:?}");
    }
}

#[test]
fn crossed_names_are_display_names_sorted_and_each_once() {
    let mut run = Run::new(&[
        ("my_trend", spec("avg<1")),
        ("http_reqs{ kind:b }", spec("count<1")),
        ("my_trend", spec("max<1")),
        ("http_reqs", spec("count<1")),
        ("checks", spec("rate==1")),
        ("my_gauge", spec("value<100")),
    ]);
    run.add("my_trend", &[], 5.0);
    run.add("http_reqs", &[("kind", "b")], 1.0);
    run.add("checks", &[], 0.0);
    run.add("my_gauge", &[], 5.0);
    let crossed = ["checks", "http_reqs", "http_reqs{kind:b}", "my_trend"];
    assert_eq!(run.tick(2).crossed, crossed);
    assert_eq!(run.end(3).crossed, crossed);
}

#[test]
fn taint_follows_the_last_evaluation() {
    let mut run = Run::new(&[("my_gauge", spec("value<10"))]);
    run.add("my_gauge", &[], 50.0);
    run.add("my_counter", &[], 1.0);
    assert_eq!(run.tainted("my_gauge"), None);
    assert_eq!(run.tick(2).crossed, ["my_gauge"]);
    assert_eq!(run.tainted("my_gauge"), Some(true));
    // What recovers before the end is not failed.
    run.add("my_gauge", &[], 5.0);
    assert_eq!(run.end(4), Verdict::default());
    assert_eq!(run.tainted("my_gauge"), Some(false));
    assert_eq!(run.tainted("my_counter"), None, "it has no threshold");
}

#[test]
fn groups_and_checks_form_a_tree() {
    let mut run = Run::new(&[]);
    let outer: &[_] = &[("check", "up"), ("group", "::outer")];
    // A group is known from any metric, checks only from theirs.
    run.add(
        "http_reqs",
        &[("check", "no"), ("group", "::outer::inner")],
        1.0,
    );
    run.add("checks", &[("check", "root check")], 1.0);
    for value in [1.0, 0.0, 1.0] {
        run.add("checks", outer, value);
    }
    // Another series of the same check: its counts go to the same place.
    run.add(
        "checks",
        &[("check", "up"), ("group", "::outer"), ("kind", "b")],
        0.0,
    );
    run.add(
        "checks",
        &[("check", "up"), ("group", "::outer::inner")],
        1.0,
    );
    // A second shard knows nothing of the first, and counts on.
    let mut other = Recorder::new(run.registry.clone(), false);
    other.record(builtin::CHECKS, run.tags.intern(outer), 1.0, NOW);
    run.collector.fold(&other.drain(), NOW);

    let check = |name: &str, path: &str, passes, fails| Check {
        name: name.into(),
        path: path.into(),
        passes,
        fails,
    };
    let inner = Group {
        name: "inner".into(),
        path: "::outer::inner".into(),
        groups: vec![],
        checks: vec![check("up", "::outer::inner::up", 1, 0)],
    };
    let outer = Group {
        name: "outer".into(),
        path: "::outer".into(),
        groups: vec![inner],
        checks: vec![check("up", "::outer::up", 3, 2)],
    };
    let root = Group {
        name: String::new(),
        path: String::new(),
        groups: vec![outer],
        checks: vec![check("root check", "::root check", 1, 0)],
    };
    assert_eq!(run.snapshot().root_group, root);
}

#[test]
fn many_series_warn_past_each_doubling_of_the_limit() {
    let mut run = Run::new(&[]);
    // Metrics times tag sets: a series each, at the price of few of either.
    let sets: Vec<TagSetId> = (0..1_000)
        .map(|number| run.tags.intern(&[("id", &number.to_string())]))
        .collect();
    let add_series = |run: &mut Run, metrics: std::ops::Range<u32>| {
        for number in metrics {
            let name = format!("own_{number}");
            let metric = run
                .registry
                .register(&name, MetricKind::Counter, ValueType::Default)
                .unwrap();
            for &tags in &sets {
                run.shard.record(metric, tags, 1.0, NOW);
            }
        }
        run.collector.fold(&run.shard.drain(), NOW);
        run.collector.take_warnings()
    };
    assert!(add_series(&mut run, 0..100).is_empty());
    let warnings = add_series(&mut run, 100..101);
    let [warning] = &warnings[..] else {
        panic!("one warning: {warnings:?}")
    };
    assert_eq!(
        warning,
        "The test has generated metrics with 100001 unique time series, which is higher than the suggested limit of \
         100000 and could cause high memory usage. Consider not using high-cardinality values like unique IDs as \
         metric tags or, if you need them in the URL, use the name metric tag or URL grouping. See \
         https://grafana.com/docs/k6/latest/using-k6/tags-and-groups/ for details."
    );
    assert!(run.collector.take_warnings().is_empty(), "said once");
    assert!(add_series(&mut run, 0..200).is_empty());
    let warnings = add_series(&mut run, 200..202);
    let [warning] = &warnings[..] else {
        panic!("one warning: {warnings:?}")
    };
    assert!(warning.contains(" 200001 unique time series"), "{warning}");
}

#[test]
fn a_counter_s_negative_values_count_but_are_refused_for_prometheus_with_one_warning() {
    let mut run = Run::with(&[], &[], true);
    for (metric, tags, value) in [
        ("my_counter", &[][..], 10.0),
        ("my_counter", &[], -1.0),
        ("my_counter", &[("a", "b")], -2.5),
        ("my_counter", &[], -1.0),
        ("iterations", &[], -1.0),
        ("my_gauge", &[], -1.0),
        ("my_trend", &[], -1.0),
    ] {
        run.add(metric, tags, value);
    }
    // As in the reference, a counter may go down.
    assert_eq!(run.count("my_counter"), 5.5);
    let text = |metric: &str| {
        format!(
            "the counter '{metric}' got a negative value, which a Prometheus counter cannot take: such values are \
             left out of the Prometheus output and counted in volley_prometheus_refused_values_total"
        )
    };
    assert_eq!(
        run.collector.take_warnings(),
        [text("my_counter"), text("iterations")]
    );
    run.add("my_counter", &[], -1.0);
    assert!(run.collector.take_warnings().is_empty());
}

#[test]
fn negative_values_need_no_warning_where_nobody_scrapes() {
    let mut run = Run::new(&[]);
    run.add("my_counter", &[], -1.0);
    assert_eq!(run.count("my_counter"), -1.0);
    assert!(run.collector.take_warnings().is_empty());
}

#[test]
fn snapshot_rates_are_per_second_of_the_run_clock() {
    let mut run = Run::new(&[]);
    run.add("my_counter", &[], 26.0);
    for (clock, expected) in [
        (Duration::from_secs(10), 2.6),
        (Duration::from_millis(500), 52.0),
        // Nothing has happened yet: 0, and not the infinity of a division.
        (Duration::ZERO, 0.0),
    ] {
        let snapshot = run.collector.snapshot(clock);
        assert_eq!(snapshot.run_seconds, clock.as_secs_f64());
        let Values::Counter { count, rate } = snapshot.metric("my_counter").unwrap().values else {
            panic!("counter")
        };
        assert_eq!((count, rate), (26.0, expected));
    }
    for value in [1.0, 1.0, 0.0, 1.0] {
        run.add("my_rate", &[], value);
    }
    assert!(matches!(
        run.snapshot().metric("my_rate").unwrap().values,
        Values::Rate {
            rate: 0.75,
            passes: 3,
            fails: 1
        }
    ));
}

#[test]
fn a_metric_with_a_threshold_and_no_sample_has_zero_values() {
    let run = Run::new(&[
        ("my_counter", spec("count>0")),
        ("my_gauge", spec("value>0")),
        ("my_rate", spec("rate>0")),
        ("my_trend", spec("avg>0")),
    ]);
    let snapshot = run.snapshot();
    let values = |name: &str| &snapshot.metric(name).unwrap().values;
    assert!(matches!(
        values("my_counter"),
        Values::Counter {
            count: 0.0,
            rate: 0.0
        }
    ));
    assert!(matches!(
        values("my_gauge"),
        Values::Gauge {
            value: 0.0,
            min: 0.0,
            max: 0.0
        }
    ));
    assert!(matches!(
        values("my_rate"),
        Values::Rate {
            rate: 0.0,
            passes: 0,
            fails: 0
        }
    ));
    assert!(matches!(values("my_trend"), Values::Trend(trend) if trend.is_empty()));
    assert!(snapshot.metric("nope").is_none());
}
