//! The forms in which options are written: for archives, for `inspect`, for scripts.

use super::*;

/// Every key, in the order of archives.
const KEYS: &[&str] = &[
    "paused",
    "vus",
    "duration",
    "iterations",
    "stages",
    "scenarios",
    "executionSegment",
    "executionSegmentSequence",
    "noSetup",
    "setupTimeout",
    "noTeardown",
    "teardownTimeout",
    "handleSummaryTimeout",
    "rps",
    "dns",
    "maxRedirects",
    "userAgent",
    "batch",
    "batchPerHost",
    "httpDebug",
    "insecureSkipTLSVerify",
    "tlsCipherSuites",
    "tlsVersion",
    "tlsAuth",
    "throw",
    "thresholds",
    "blacklistIPs",
    "blockHostnames",
    "hosts",
    "noConnectionReuse",
    "noVUConnectionReuse",
    "minIterationDuration",
    "cloud",
    "ext",
    "summaryTrendStats",
    "summaryTimeUnit",
    "systemTags",
    "tags",
    "metricSamplesBufferSize",
    "noCookiesReset",
    "discardResponseBodies",
    "features",
];

fn keys(value: &Value) -> Vec<&str> {
    let object = value.as_object().expect("an object");
    object.keys().map(String::as_str).collect()
}

#[test]
fn all_keys_are_written_in_their_order() {
    let unset = Options::default().to_json(View::Given);
    let without_cloud: Vec<&str> = KEYS.iter().copied().filter(|k| *k != "cloud").collect();
    assert_eq!(keys(&unset), without_cloud);
    let with_cloud = layer(json!({"cloud": {"name": "N", "projectID": 5}})).to_json(View::Given);
    assert_eq!(keys(&with_cloud), KEYS);
}

/// Whatever was given is read back from what is written.
#[test]
fn written_options_are_read_back() {
    let options = layer(json!({
        "paused": true, "vus": "2", "duration": 1500, "iterations": 3,
        "stages": [{"duration": "1d", "target": 1}, {}],
        "executionSegment": "0.5", "executionSegmentSequence": "0,50%,1",
        "scenarios": {
            "z": {"executor": "ramping-arrival-rate", "stages": [{"target": 1}], "options": {"browser": {"type": "chromium"}}},
            "a": {"executor": "constant-vus", "env": {"B": "b", "A": "a"}, "exec": "x", "tags": {}},
        },
        "dns": {"ttl": 1000, "policy": "any"},
        "tlsVersion": {"min": "tls1.2"}, "tlsCipherSuites": ["TLS_AES_128_GCM_SHA256"],
        "tlsAuth": [{"cert": "c", "key": "k", "domains": ["*.a.test"]}],
        "thresholds": {"checks": [
            {"threshold": "rate>0.9", "abortOnFail": true, "delayAbortEval": "10s"},
            {"threshold": "rate>0.5", "abortOnFail": false, "delayAbortEval": "10s"},
            "rate>0.1",
        ]},
        "blacklistIPs": ["10.1.2.3/8"], "blockHostnames": ["*.no.test"],
        "hosts": {"a.test:80": "127.0.0.1:8080"},
        "cloud": {"b": 1, "a": [null]}, "ext": {"loadimpact": {}},
        "systemTags": ["url", "status", "nonsense"], "summaryTrendStats": ["p(99)"],
        "summaryTimeUnit": "h",
    }));
    let written = options.to_json(View::Given);
    for (key, expected) in [
        ("vus", json!(2)),
        ("duration", json!("1.5s")),
        (
            "stages",
            json!([{"duration": "24h0m0s", "target": 1}, {"duration": null, "target": null}]),
        ),
        ("executionSegment", json!("0:1/2")),
        ("executionSegmentSequence", json!("0,1/2,1")),
        (
            "dns",
            json!({"ttl": "1000", "select": null, "policy": "any"}),
        ),
        ("tlsVersion", json!({"min": "tls1.2", "max": ""})),
        // The delay belongs to the abort, and goes with it.
        (
            "thresholds",
            json!({"checks": [
                {"threshold": "rate>0.9", "abortOnFail": true, "delayAbortEval": "10s"},
                "rate>0.5",
                "rate>0.1",
            ]}),
        ),
        ("blacklistIPs", json!(["10.0.0.0/8"])),
        ("systemTags", json!(["status", "url"])),
        ("cloud", json!({"b": 1, "a": [null]})),
        ("summaryTimeUnit", json!("h")),
    ] {
        assert_eq!(written[key], expected, "{key}");
    }
    let again = layer(written.clone());
    assert_eq!(
        again.to_json(View::Given).to_string(),
        written.to_string(),
        "and in the same order"
    );
}

#[test]
fn scenarios_are_written_by_name_with_all_their_keys() {
    let common = "executor startTime gracefulStop env exec tags";
    for (executor, own) in [
        ("shared-iterations", "vus iterations maxDuration"),
        ("per-vu-iterations", "vus iterations maxDuration"),
        ("constant-vus", "vus duration"),
        ("ramping-vus", "startVUs stages gracefulRampDown"),
        (
            "constant-arrival-rate",
            "rate timeUnit duration preAllocatedVUs maxVUs",
        ),
        (
            "ramping-arrival-rate",
            "startRate timeUnit stages preAllocatedVUs maxVUs",
        ),
    ] {
        let written = layer(json!({"scenarios": {
            "b": {"executor": executor},
            "a": {"executor": executor, "options": {"browser": {"type": "chromium"}}},
        }}))
        .to_json(View::Given);
        let scenarios = &written["scenarios"];
        assert_eq!(keys(scenarios), ["a", "b"]);
        assert_eq!(
            keys(&scenarios["b"]).join(" "),
            format!("{common} {own}"),
            "{executor}"
        );
        assert_eq!(
            keys(&scenarios["a"]).join(" "),
            format!("{common} options {own}"),
            "{executor}"
        );
        for (key, value) in scenarios["b"].as_object().expect("an object") {
            assert_eq!(value.is_null(), key != "executor", "{key}");
        }
    }
}

#[test]
fn derived_scenarios_stand_beside_the_shortcuts() {
    let options = layer(json!({"vus": 3, "duration": "5s"}));
    assert_eq!(options.to_json(View::Given)["scenarios"], Value::Null);
    let resolved = resolved(options).expect("they run");
    let written = resolved.options.to_json(View::Derived(&resolved.scenarios));
    assert_eq!(written["vus"], json!(3));
    assert_eq!(
        written["scenarios"].to_string(),
        json!({"default": {
            "executor": "constant-vus", "startTime": null, "gracefulStop": null, "env": null,
            "exec": null, "tags": null, "vus": 3, "duration": "5s",
        }})
        .to_string()
    );
}

/// Scenarios are run by start time, and shown by name.
#[test]
fn scenarios_are_sorted_for_their_reader() {
    let resolved = resolved(layer(json!({"scenarios": {
        "a": {"executor": "per-vu-iterations", "startTime": "10s"},
        "c": {"executor": "per-vu-iterations"},
        "b": {"executor": "per-vu-iterations"},
        "d": {"executor": "per-vu-iterations", "startTime": "5s"},
    }})))
    .expect("they run");
    let order: Vec<&str> = resolved.scenarios.iter().map(|s| s.name.as_str()).collect();
    assert_eq!(order, ["b", "c", "d", "a"]);
    assert_eq!(
        keys(&resolved.script_json()["scenarios"]),
        ["a", "b", "c", "d"]
    );
}

/// What the recorded runs of scripts saw.
#[test]
fn scripts_see_scenarios_instead_of_shortcuts() {
    let seen = |given: Value| {
        let (merged, _) = merge(Layers {
            cli: layer(given),
            ..Layers::default()
        });
        resolved(merged).expect("they run").script_json()
    };
    let json = seen(json!({"iterations": 3, "tags": {"from": "cli"}}));
    for gone in ["vus", "duration", "iterations", "stages", "cloud"] {
        assert_eq!(json.get(gone), None, "{gone}");
    }
    for unset in ["consoleOutput", "localIPs", "hosts", "paused"] {
        assert_eq!(json.get(unset), Some(&Value::Null), "{unset}");
    }
    assert_eq!(json["tags"], json!({"from": "cli"}));
    for (given, key, expected) in [
        (json!({"iterations": 3}), "vus", json!(1)),
        (json!({"iterations": 3}), "iterations", json!(3)),
        (json!({"iterations": 3}), "maxDuration", json!(null)),
        (json!({"duration": "1s"}), "vus", json!(1)),
        (json!({"duration": "1s", "vus": 2}), "vus", json!(2)),
        (json!({}), "executor", json!("per-vu-iterations")),
        (json!({}), "vus", json!(null)),
        (json!({}), "iterations", json!(null)),
        (
            json!({"stages": [{"duration": "1s", "target": 2}]}),
            "startVUs",
            json!(null),
        ),
        (
            json!({"stages": [{"duration": "1s", "target": 2}]}),
            "stages",
            json!([{"duration": "1s", "target": 2}]),
        ),
    ] {
        let json = seen(given.clone());
        assert_eq!(
            json["scenarios"]["default"][key], expected,
            "{key} of {given}"
        );
    }
    let own = Options {
        console_output: Some("a.log".to_owned()),
        local_ips: Some(vec![IpRange::parse("10.0.0.0/30").expect("a block")]),
        ..Options::default()
    };
    let json = resolved(own).expect("they run").script_json();
    assert_eq!(json["consoleOutput"], json!("a.log"));
    assert_eq!(json["localIPs"], json!(["10.0.0.0-10.0.0.3"]));
}
