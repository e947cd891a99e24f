//! The captured text to the byte, and the rules that it does not reach.

use volley_metrics::ValueType;

use super::{
    super::fixture::{captured, check, counter, judged, metric, options, rate, snapshot, trend},
    *,
};

/// The text without groups and scenarios.
fn compact(snapshot: &Snapshot, options: &SummaryOptions) -> String {
    render(snapshot, &Breakdown::default(), options)
}

/// The lines of the text that hold something, without their indentation.
fn lines(text: &str) -> Vec<&str> {
    text.lines()
        .map(str::trim_start)
        .filter(|line| !line.is_empty())
        .collect()
}

#[test]
fn the_text_of_a_run_is_that_of_k6_to_the_byte() {
    assert_eq!(
        compact(&captured(), &options()),
        include_str!("captured.txt")
    );
}

#[test]
fn colours_change_no_column() {
    let colored = compact(
        &captured(),
        &SummaryOptions {
            colors: true,
            ..options()
        },
    );
    assert!(colored.contains("  █ \x1b[1mTHRESHOLDS\x1b[0m \n"));
    assert!(colored.contains(
        "    \x1b[32m✓\x1b[0m \x1b[37m'count>5'\x1b[0m \x1b[37mcount=\x1b[0m\x1b[36m6\x1b[0m\n"
    ));
    assert!(
        colored
            .contains("    \x1b[31m✗ sometimes\x1b[0m\n      \x1b[31m↳  66% — ✓ 4 / ✗ 2\x1b[0m\n")
    );
    let mut plain = String::new();
    let mut rest = colored.as_str();
    while let Some((before, after)) = rest.split_once('\x1b') {
        plain.push_str(before);
        rest = after.split_once('m').unwrap().1;
    }
    plain.push_str(rest);
    assert_eq!(plain, include_str!("captured.txt"));
}

#[test]
fn full_mode_shows_the_phases_of_a_request() {
    let text = |mode| compact(&captured(), &SummaryOptions { mode, ..options() });
    assert!(!text(SummaryMode::Compact).contains("http_req_waiting"));
    assert!(text(SummaryMode::Full).contains("\n    http_req_waiting...............: avg="));
    assert_eq!(text(SummaryMode::Disabled), "");
}

#[test]
fn columns_and_unit_are_the_users() {
    let options = SummaryOptions {
        trend_stats: ["med", "p(99.9)", "count"].map(str::to_owned).to_vec(),
        time_unit: Some("ms".to_owned()),
        ..options()
    };
    let times = judged(
        metric("think_time", ValueType::Time, trend(&[61_500.0, 61_500.0])),
        &[("p(50)<1", false), ("max<1", false), ("count>1", true)],
    );
    let short = metric("short", ValueType::Time, trend(&[0.5]));
    let text = compact(&snapshot(1.0, vec![times, short]), &options);
    assert_eq!(
        lines(&text),
        [
            "█ THRESHOLDS ",
            "think_time",
            "✗ 'p(50)<1' p(50)=61500.00ms",
            // No column, no value: as in k6.
            "✗ 'max<1' max=",
            "✓ 'count>1' count=2",
            "█ TOTAL RESULTS ",
            "CUSTOM",
            "short........: med=0.50ms     p(99.9)=0.50ms     count=1",
            "think_time...: med=61500.00ms p(99.9)=61500.00ms count=2",
        ]
    );
}

#[test]
fn blocks_follow_each_other_and_take_metrics_by_prefix() {
    let names = [
        "ws_sessions",
        "vus_custom",
        "http_reqs",
        "browser_web_vital_lcp",
        "Zeta",
        "checks_custom",
        "grpc_streams",
        "browser_data_sent",
        "data_sent",
        "alpha",
    ];
    let metrics = names
        .iter()
        .map(|name| metric(name, ValueType::Default, counter(1.0, 1.0)))
        .collect();
    let text = compact(&snapshot(1.0, metrics), &options());
    let firsts: Vec<_> = lines(&text)
        .into_iter()
        .map(|line| line.split('.').next().unwrap())
        .collect();
    assert_eq!(
        firsts[1..],
        [
            "CUSTOM",
            "alpha",
            "Zeta",
            "HTTP",
            "http_reqs",
            "EXECUTION",
            "vus_custom",
            "NETWORK",
            "data_sent",
            "BROWSER",
            "browser_data_sent",
            "WEB_VITALS",
            "browser_web_vital_lcp",
            "GRPC",
            "grpc_streams",
            "WEBSOCKET",
            "ws_sessions",
        ]
    );
}

#[test]
fn gauges_pad_their_columns_and_single_extras_do_not() {
    let gauge = |value, min, max| Values::Gauge { value, min, max };
    let text = compact(
        &snapshot(
            1.0,
            vec![
                metric("vus", ValueType::Default, gauge(5.0, 1.0, 5.0)),
                metric("vus_max", ValueType::Default, gauge(10.0, 10.0, 10.0)),
                metric("iterations", ValueType::Default, counter(3.0, 1.0)),
            ],
        ),
        &options(),
    );
    assert_eq!(
        lines(&text)[2..],
        [
            "iterations...: 3  3/s",
            "vus..........: 5  min=1  max=5 ",
            "vus_max......: 10 min=10 max=10"
        ]
    );
}

#[test]
fn sub_metrics_stand_alone_where_their_metric_has_no_threshold() {
    let parent = metric("http_reqs", ValueType::Default, counter(6.0, 2.0));
    let selected = metric(
        "http_reqs{status:200,name:a b}",
        ValueType::Default,
        counter(4.0, 2.0),
    );
    let selected = judged(selected, &[(" rate >= 1 ", true), ("count!=9", true)]);
    let text = compact(&snapshot(2.0, vec![selected, parent]), &options());
    assert_eq!(
        lines(&text),
        [
            "█ THRESHOLDS ",
            "http_reqs{status:200,name:a b}",
            "✓ 'rate >= 1' rate=2/s",
            "✓ 'count!=9' count!=2/s",
            "█ TOTAL RESULTS ",
            "HTTP",
            "http_reqs...................: 6 3/s",
            "{ status:200,name:a b }...: 4 2/s",
        ]
    );
}

fn part(name: &str, metrics: Vec<MetricSnapshot>, checks: Vec<Check>, groups: Vec<Part>) -> Part {
    Part {
        name: name.to_owned(),
        metrics,
        checks,
        groups,
    }
}

/// The second captured example, from the end of its totals on.
#[test]
fn groups_are_those_of_k6_to_the_byte() {
    use ValueType::{Default, Time};
    let seconds = 0.000_319_002;
    let think_time = |ms| metric("think_time", Time, trend(&[ms; 3]));
    let inner = part(
        "inner",
        vec![
            metric("orders", Default, counter(6.0, seconds)),
            metric("checks", Default, rate(2, 1)),
        ],
        vec![check("::zeta::inner", "inner flaky", 2, 1)],
        Vec::new(),
    );
    let zeta = part(
        "zeta",
        vec![
            metric("checks", Default, rate(3, 0)),
            think_time(250.0),
            metric("group_duration", Time, trend(&[1.0])),
        ],
        vec![check("::zeta", "zeta ok", 3, 0)],
        vec![inner],
    );
    let alpha = part("alpha", vec![think_time(1_500.0)], Vec::new(), Vec::new());
    let breakdown = Breakdown {
        groups: vec![zeta, alpha],
        scenarios: Vec::new(),
    };
    let options = SummaryOptions {
        mode: SummaryMode::Full,
        ..options()
    };
    assert_eq!(
        render(&snapshot(seconds, Vec::new()), &breakdown, &options),
        format!(
            "\n\n  █ TOTAL RESULTS \n\n\n{}",
            include_str!("captured_groups.txt")
        )
    );
}

/// The third captured example, from the end of its totals on.
#[test]
fn scenarios_are_those_of_k6_to_the_byte() {
    use ValueType::{Data, Default, Time};
    let seconds = 0.000_290_334;
    let counted = |name, count| metric(name, Default, counter(count, seconds));
    let traffic =
        || ["data_sent", "data_received"].map(|name| metric(name, Data, counter(0.0, 1.0)));
    let login = || check("::login", "logged in", 2, 0);
    let think_time = || metric("think_time", Time, trend(&[61_500.0; 2]));
    let api = [
        metric("think_time", Time, trend(&[0.5])),
        metric("iteration_duration", Time, trend(&[0.004])),
        counted("iterations", 1.0),
    ];
    let web = [
        think_time(),
        metric("checks", Default, rate(2, 0)),
        metric("iteration_duration", Time, trend(&[0.01, 0.130_06])),
        counted("iterations", 2.0),
    ];
    let in_login = vec![think_time(), metric("checks", Default, rate(2, 0))];
    let breakdown = Breakdown {
        groups: Vec::new(),
        scenarios: vec![
            part(
                "api",
                [&api[..], &traffic()].concat(),
                Vec::new(),
                Vec::new(),
            ),
            part(
                "web",
                [&web[..], &traffic()].concat(),
                vec![login()],
                vec![part("login", in_login, vec![login()], Vec::new())],
            ),
        ],
    };
    let options = SummaryOptions {
        trend_stats: ["med", "p(99.9)", "count"].map(str::to_owned).to_vec(),
        time_unit: Some("ms".to_owned()),
        mode: SummaryMode::Full,
        ..options()
    };
    assert_eq!(
        render(&snapshot(seconds, Vec::new()), &breakdown, &options),
        format!(
            "\n\n  █ TOTAL RESULTS \n\n\n{}",
            include_str!("captured_scenarios.txt")
        )
    );
}

#[test]
fn deeper_groups_are_indented_further_and_empty_ones_have_their_title() {
    let failing = || vec![check("", "never", 0, 1)];
    let checks = || vec![metric("checks", ValueType::Default, rate(0, 1))];
    let third = part("third", checks(), failing(), Vec::new());
    let second = part("second", checks(), failing(), vec![third]);
    let breakdown = Breakdown {
        groups: vec![part("setup", Vec::new(), Vec::new(), vec![second])],
        scenarios: Vec::new(),
    };
    let options = SummaryOptions {
        colors: true,
        mode: SummaryMode::Full,
        ..options()
    };
    let text = render(&snapshot(1.0, Vec::new()), &breakdown, &options);
    let shown: Vec<&str> = text
        .lines()
        .filter(|line| {
            ["█", "GROUP", "never", "✓ 0"]
                .iter()
                .any(|part| line.contains(part))
        })
        .collect();
    assert_eq!(
        shown,
        [
            "  █ \x1b[1mTOTAL RESULTS\x1b[0m ",
            "  █ \x1b[1mGROUP: setup\x1b[0m ",
            "    ↳ \x1b[1mGROUP: second\x1b[0m ",
            "      \x1b[31m✗ never\x1b[0m",
            "          \x1b[31m↳  0% — ✓ 0 / ✗ 1\x1b[0m",
            "      ↳ \x1b[1mGROUP: third\x1b[0m ",
            "        \x1b[31m✗ never\x1b[0m",
            "              \x1b[31m↳  0% — ✓ 0 / ✗ 1\x1b[0m",
        ]
    );
    let title = text.split("GROUP: setup").nth(1).unwrap();
    assert!(title.starts_with("\x1b[0m \n\n    ↳ "), "{title:?}");
}

#[test]
fn checks_have_their_lines_in_the_order_given_and_percent_rounded_down() {
    let mut snapshot = snapshot(2.0, vec![metric("checks", ValueType::Default, rate(5, 4))]);
    snapshot.checks = vec![
        check("::outer", "same", 2, 1),
        check("", "first", 3, 0),
        check("", "never", 0, 3),
    ];
    let text = compact(&snapshot, &options());
    assert_eq!(
        lines(&text),
        [
            "█ TOTAL RESULTS ",
            "checks_total.......: 9      4.5/s",
            "checks_succeeded...: 55.55% 5 out of 9",
            "checks_failed......: 44.44% 4 out of 9",
            "✗ same",
            "↳  66% — ✓ 2 / ✗ 1",
            "✓ first",
            "✗ never",
            "↳  0% — ✓ 0 / ✗ 3",
        ]
    );
}

#[test]
fn nothing_measured_is_an_empty_report_and_one_metric_has_no_dots() {
    assert_eq!(
        compact(&snapshot(0.0, Vec::new()), &options()),
        "\n\n  █ TOTAL RESULTS \n\n\n\n"
    );
    let one = metric(
        "http_reqs",
        ValueType::Default,
        Values::Counter {
            count: 0.0,
            rate: 0.0,
        },
    );
    assert_eq!(
        compact(&snapshot(0.0, vec![one]), &options()),
        "\n\n  █ TOTAL RESULTS \n\n    HTTP\n    http_reqs: 0 0/s\n\n\n\n"
    );
}
