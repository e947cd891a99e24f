//! The three shapes, on the run that the text's tests use.

use time::macros::datetime;

use super::{
    super::{
        SummaryMode,
        fixture::{captured, check, metric, options, snapshot, trend},
    },
    *,
};

fn grouped() -> Snapshot {
    let mut snapshot = captured();
    snapshot.root_group.groups = vec![Group {
        name: "g one".to_owned(),
        path: "::g one".to_owned(),
        groups: Vec::new(),
        checks: vec![check("::g one", "ok!", 3, 0)],
    }];
    snapshot
}

#[test]
fn handle_summary_gets_groups_options_state_and_every_metric() {
    let setup = json!({"token": "abc"});
    let terminal = Terminal {
        stdout_tty: true,
        ..Terminal::default()
    };
    let data = legacy(&grouped(), &options(), terminal, Some(&setup));
    assert_eq!(
        data["root_group"],
        json!({
            "name": "", "path": "", "id": "d41d8cd98f00b204e9800998ecf8427e",
            "groups": [{
                "name": "g one", "path": "::g one", "id": "fb2031917cfc18ac9bb285bc744fb590", "groups": [],
                "checks": [{"name": "ok!", "path": "::g one::ok!", "id": "8c8f8790823117a7bf8ab4cde5a38a73",
                            "passes": 3, "fails": 0}],
            }],
            "checks": [
                {"name": "status is 200", "path": "::status is 200", "id": path_id("::status is 200"),
                 "passes": 6, "fails": 0},
                {"name": "sometimes", "path": "::sometimes", "id": path_id("::sometimes"), "passes": 4, "fails": 2},
            ],
        })
    );
    assert_eq!(
        data["options"],
        json!({"summaryTrendStats": ["avg", "min", "med", "max", "p(90)", "p(95)"],
               "summaryTimeUnit": "", "noColor": false})
    );
    assert_eq!(
        data["state"],
        json!({"isStdOutTTY": true, "isStdErrTTY": false, "testRunDurationMs": 10.606_269})
    );
    assert_eq!(data["setup_data"], setup);
    let metrics = data["metrics"].as_object().unwrap();
    assert_eq!(metrics.len(), 17);
    assert!(metrics.contains_key("group_duration") && metrics.contains_key("http_req_waiting"));
    assert_eq!(
        metrics["my_rate"],
        json!({"type": "rate", "contains": "default",
               "values": {"rate": 1.0 / 3.0, "passes": 2, "fails": 4}, "thresholds": {"rate>0.9": {"ok": false}}})
    );
    assert_eq!(
        metrics["my_gauge"]["values"],
        json!({"value": 3, "min": 1, "max": 3})
    );
    assert_eq!(metrics["data_sent"]["contains"], "data");
    assert_eq!(metrics["data_sent"]["values"]["count"], 420);
    assert_eq!(metrics["my_gauge"].get("thresholds"), None);
    assert_eq!(
        metrics["http_req_duration{name:home}"]["thresholds"],
        json!({"max<1000": {"ok": true}})
    );
    let without = legacy(&captured(), &options(), Terminal::default(), None);
    assert_eq!(without.get("setup_data"), None);
}

#[test]
fn trends_have_exactly_the_chosen_columns() {
    let options = SummaryOptions {
        trend_stats: ["med", "p(99.9)", "count"].map(str::to_owned).to_vec(),
        mode: SummaryMode::Full,
        ..options()
    };
    let snapshot = snapshot(
        1.0,
        vec![metric("t", ValueType::Time, trend(&[1.0, 2.0, 4.0]))],
    );
    let data = legacy(&snapshot, &options, Terminal::default(), None);
    let values = data["metrics"]["t"]["values"].as_object().unwrap();
    assert_eq!(
        values.keys().collect::<Vec<_>>(),
        ["med", "p(99.9)", "count"]
    );
    assert_eq!((&values["med"], &values["count"]), (&json!(2), &json!(3)));
    assert!((values["p(99.9)"].as_f64().unwrap() - 3.996).abs() < 1e-9);
}

#[test]
fn the_export_is_flat_and_says_which_thresholds_were_crossed() {
    let setup = json!([1]);
    let text = export(&legacy(
        &grouped(),
        &options(),
        Terminal::default(),
        Some(&setup),
    ));
    assert!(text.starts_with("{\n    \"root_group\": {\n        \"name\": \"\",\n"));
    assert!(text.ends_with('}'));
    let data: Value = serde_json::from_str(&text).unwrap();
    assert_eq!(
        data.as_object().unwrap().keys().collect::<Vec<_>>(),
        ["root_group", "metrics", "setup_data"]
    );
    assert_eq!(
        data["metrics"]["my_rate"],
        json!({"value": 1.0 / 3.0, "passes": 2, "fails": 4, "thresholds": {"rate>0.9": true}})
    );
    assert_eq!(
        data["metrics"]["http_reqs"]["thresholds"],
        json!({"count>5": false, "rate>1": false})
    );
    assert!(data["metrics"]["http_reqs"]["rate"].is_f64());
    assert_eq!(
        data["root_group"]["groups"]["g one"]["checks"]["ok!"]["passes"],
        3
    );
    assert_eq!(data["root_group"]["checks"]["sometimes"]["fails"], 2);
    assert_eq!(data["setup_data"], setup);
}

#[test]
fn the_machine_readable_shape_has_totals_and_visible_metrics() {
    let run = RunDescription {
        script: "export default () => {}",
        k6_version: "2.2.0",
        generated_at: datetime!(2026-11-22 07:35:18.000000009 UTC),
    };
    let options = SummaryOptions {
        trend_stats: vec!["p(95)".to_owned()],
        ..options()
    };
    let data = machine_readable(&captured(), &options, run);
    assert_eq!(
        data["config"],
        json!({"duration": 0.010_606_269, "execution": "local", "script": "export default () => {}"})
    );
    assert_eq!(
        data["metadata"]["generated_at"],
        "2026-11-22T07:35:18.000000009Z"
    );
    let checks = &data["results"]["checks"];
    assert_eq!(checks["metrics"][0]["values"], json!({"count": 12}));
    assert_eq!(checks["metrics"][1]["name"], "checks_failed");
    assert_eq!(
        checks["metrics"][2]["values"],
        json!({"matches": 10, "total": 12, "rate": 10.0 / 12.0})
    );
    assert_eq!(
        checks["results"][1],
        json!({"name": "sometimes", "passes": 4, "fails": 2})
    );
    let metrics = data["results"]["metrics"].as_array().unwrap();
    let named = |name: &str| metrics.iter().find(|metric| metric["name"] == name);
    assert!(named("checks").is_none() && named("http_req_waiting").is_none());
    let trend = &named("plain_trend").unwrap()["values"];
    assert_eq!(trend["avg"], Value::Null);
    assert!((trend["p95"].as_f64().unwrap() - 1_234.567_89).abs() < 1e-9);
}

#[test]
fn numbers_that_json_does_not_know_are_null() {
    assert_eq!(number(f64::NAN), Value::Null);
    assert_eq!(number(f64::INFINITY), Value::Null);
    assert_eq!(number(-0.5), json!(-0.5));
    assert_eq!(number(1e300), json!(1e300));
    assert_eq!(number(4.0).to_string(), "4");
}
