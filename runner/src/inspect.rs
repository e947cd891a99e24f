//! What `inspect` prints: the options of a test as one JSON document, and on request what running
//! it takes. The k6 operator reads all that is printed as that document, so it is all there is.

use serde_json::Value;

use crate::options::{Options, Resolved, View};

/// The document for options as the script or the archive gives them: nothing merged, no defaults,
/// shortcuts as they stand. It has no line break at its end.
pub(crate) fn given(options: &Options) -> String {
    document(&options.to_json(View::Given))
}

/// The document for options that are ready to run: the scenarios they come to stand beside the
/// shortcuts, and at the end `totalDuration`, as `1m30s` with graceful stops included (`null` without
/// an end), and `maxVUs`, the VUs there can be at once, both for this instance. It has no line break at its end.
///
/// An unset `vus` counts as the one VU that a run has, where k6 2.2 refuses to compute.
pub(crate) fn with_requirements(resolved: &Resolved) -> String {
    let mut json = resolved.options.to_json(View::Derived(&resolved.scenarios));
    let plan = resolved.plan();
    json["totalDuration"] = Value::from(plan.max_duration().map(|end| end.to_string()));
    json["maxVUs"] = Value::from(plan.max_possible());
    document(&json)
}

/// Indented by two, with everything escaped that HTML or JavaScript would take for its own: the
/// way Go prints JSON. Such characters stand in texts only, so the whole document can be replaced in.
fn document(value: &Value) -> String {
    let plain = format!("{value:#}");
    let mut escaped = String::with_capacity(plain.len());
    for c in plain.chars() {
        match c {
            '<' | '>' | '&' | '\u{2028}' | '\u{2029}' => {
                escaped.push_str(&format!("\\u{:04x}", u32::from(c)));
            }
            c => escaped.push(c),
        }
    }
    escaped
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::options::{Layers, merge, resolve};

    fn script(value: &Value) -> Options {
        Options::from_script(value).expect("good options").0
    }

    fn requirements(json: &Value) -> String {
        let (merged, _) = merge(Layers {
            script: script(json),
            ..Layers::default()
        });
        with_requirements(&resolve(merged, &|_| true).expect("they run"))
    }

    fn read(document: &str) -> Value {
        assert!(!document.ends_with('\n'), "no line break at the end");
        serde_json::from_str(document).expect("one JSON document")
    }

    /// The answer to a script without options.
    const NOTHING: &str = r#"{
  "paused": null,
  "vus": null,
  "duration": null,
  "iterations": null,
  "stages": null,
  "scenarios": null,
  "executionSegment": null,
  "executionSegmentSequence": null,
  "noSetup": null,
  "setupTimeout": null,
  "noTeardown": null,
  "teardownTimeout": null,
  "handleSummaryTimeout": null,
  "rps": null,
  "dns": {
    "ttl": null,
    "select": null,
    "policy": null
  },
  "maxRedirects": null,
  "userAgent": null,
  "batch": null,
  "batchPerHost": null,
  "httpDebug": null,
  "insecureSkipTLSVerify": null,
  "tlsCipherSuites": null,
  "tlsVersion": null,
  "tlsAuth": null,
  "throw": null,
  "thresholds": null,
  "blacklistIPs": null,
  "blockHostnames": null,
  "hosts": null,
  "noConnectionReuse": null,
  "noVUConnectionReuse": null,
  "minIterationDuration": null,
  "ext": null,
  "summaryTrendStats": null,
  "summaryTimeUnit": null,
  "systemTags": null,
  "tags": null,
  "metricSamplesBufferSize": null,
  "noCookiesReset": null,
  "discardResponseBodies": null,
  "features": null
}"#;

    #[test]
    fn what_is_unset_is_null() {
        assert_eq!(given(&Options::default()), NOTHING);
    }

    #[test]
    fn given_options_are_printed_as_written() {
        let document = read(&given(&script(&json!({
            "vus": 4,
            "iterations": 40,
            "setupTimeout": "90s",
            "minIterationDuration": 1500,
            "hosts": {"a.test": "127.0.0.1:8080"},
            "blacklistIPs": ["10.0.0.0/8"],
            "blockHostnames": ["*.no.test"],
            "thresholds": {"http_req_duration": [
                "p(95)<300",
                {"threshold": "max<900", "abortOnFail": true, "delayAbortEval": "10s"},
            ]},
            "tags": {"team": "x"},
            "tlsVersion": "tls1.2",
            "dns": {"ttl": "1m", "select": "first", "policy": "onlyIPv4"},
            "discardResponseBodies": true,
            "summaryTrendStats": ["avg", "p(99)"],
            "systemTags": ["status", "url"],
        }))));
        let mut expected = read(NOTHING);
        for (key, value) in [
            ("vus", json!(4)),
            ("iterations", json!(40)),
            ("setupTimeout", json!("1m30s")),
            ("minIterationDuration", json!("1.5s")),
            ("hosts", json!({"a.test": "127.0.0.1:8080"})),
            ("blacklistIPs", json!(["10.0.0.0/8"])),
            ("blockHostnames", json!(["*.no.test"])),
            (
                "thresholds",
                json!({"http_req_duration": [
                    "p(95)<300",
                    {"threshold": "max<900", "abortOnFail": true, "delayAbortEval": "10s"},
                ]}),
            ),
            ("tags", json!({"team": "x"})),
            ("tlsVersion", json!({"min": "tls1.2", "max": "tls1.2"})),
            (
                "dns",
                json!({"ttl": "1m", "select": "first", "policy": "onlyIPv4"}),
            ),
            ("discardResponseBodies", json!(true)),
            ("summaryTrendStats", json!(["avg", "p(99)"])),
            ("systemTags", json!(["status", "url"])),
        ] {
            expected[key] = value;
        }
        assert_eq!(document, expected);
    }

    #[test]
    fn what_html_would_take_is_escaped() {
        let document = given(&script(&json!({
            "thresholds": {"checks": ["rate>0.9"]},
            "userAgent": "a&b<c>\u{2028}\u{2029}\"é",
        })));
        assert!(document.contains(
            "\"thresholds\": {\n    \"checks\": [\n      \"rate\\u003e0.9\"\n    ]\n  }"
        ));
        assert!(document.contains(r#""userAgent": "a\u0026b\u003cc\u003e\u2028\u2029\"é""#));
        assert_eq!(read(&document)["userAgent"], "a&b<c>\u{2028}\u{2029}\"é");
    }

    #[test]
    fn requirements_end_the_document() {
        let document = requirements(&json!({"vus": 3, "duration": "5s"}));
        assert!(document.contains(
            r#"  "vus": 3,
  "duration": "5s",
  "iterations": null,
  "stages": null,
  "scenarios": {
    "default": {
      "executor": "constant-vus",
      "startTime": null,
      "gracefulStop": null,
      "env": null,
      "exec": null,
      "tags": null,
      "vus": 3,
      "duration": "5s"
    }
  },
"#
        ));
        assert!(document.ends_with(
            r#"
  "features": null,
  "totalDuration": "35s",
  "maxVUs": 3
}"#
        ));
    }

    /// Recorded answers, and those where k6 2.2 has none because it counts an unset `vus` as 0.
    #[test]
    fn requirements_are_those_of_the_run() {
        for (options, total_duration, max_vus) in [
            (json!({}), "10m30s", 1),
            (
                json!({"scenarios": {
                    "ramp": {"executor": "ramping-vus", "startVUs": 2, "stages": [{"duration": "10s", "target": 6}, {"duration": "20s", "target": 1}], "gracefulRampDown": "4s", "gracefulStop": "2s"},
                    "rate": {"executor": "constant-arrival-rate", "rate": 9, "timeUnit": "2s", "duration": "25s", "preAllocatedVUs": 3, "maxVUs": 12, "startTime": "10s", "gracefulStop": "15s"},
                    "late": {"executor": "shared-iterations", "vus": 5, "iterations": 50, "maxDuration": "30s", "startTime": "60s"},
                }}),
                "2m0s",
                18,
            ),
            (json!({"duration": "5s"}), "35s", 1),
            (json!({"iterations": 7}), "10m30s", 1),
            (
                json!({"stages": [{"duration": "1m", "target": 0}]}),
                "1m30s",
                1,
            ),
            (
                json!({"vus": 10, "iterations": 20, "executionSegment": "1/4:2/4", "executionSegmentSequence": "0,1/4,2/4,3/4,1"}),
                "10m30s",
                3,
            ),
        ] {
            let document = read(&requirements(&options));
            assert_eq!(document["totalDuration"], total_duration, "{options}");
            assert_eq!(document["maxVUs"], max_vus, "{options}");
        }
        let filled = read(&requirements(&json!({})));
        assert_eq!(
            filled["summaryTrendStats"],
            json!(["avg", "min", "med", "max", "p(90)", "p(95)"])
        );
        assert_eq!(filled["systemTags"].as_array().map(Vec::len), Some(14));
        assert_eq!(filled["vus"], Value::Null);
    }
}
