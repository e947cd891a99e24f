//! What is refused, and the words for it.

use super::*;

/// The text of options that cannot be read.
#[track_caller]
fn unreadable(json: &Value) -> String {
    let error = Options::from_script(json).expect_err("it cannot be read");
    assert_eq!(error.exit, 104, "{json}");
    error.text
}

/// The text of options that can be read and not be run.
#[track_caller]
fn unusable(json: Value) -> String {
    let about = json.to_string();
    let error = resolved(layer(json)).expect_err(&about);
    assert_eq!(error.exit, 104, "{about}");
    error.text
}

/// A scenario `s` with these settings.
fn scenario(settings: &Value) -> Value {
    json!({"scenarios": {"s": settings}})
}

#[test]
fn values_that_cannot_be_read_are_named() {
    let executor = |key: &str, value: Value| {
        let mut settings = json!({"executor": "shared-iterations"});
        settings[key] = value;
        scenario(&settings)
    };
    for (json, expected) in [
        (
            json!({"duration": "5x"}),
            "time: unknown unit \"x\" in duration \"5x\"",
        ),
        (json!({"duration": "abc"}), "time: invalid duration \"abc\""),
        (
            json!({"setupTimeout": true}),
            "'true' is not a valid duration value",
        ),
        (
            json!({"stages": [{"duration": "5x", "target": 1}]}),
            "time: unknown unit \"x\" in duration \"5x\"",
        ),
        (
            json!({"vus": "abc"}),
            "strconv.ParseInt: parsing \"abc\": invalid syntax",
        ),
        (
            json!({"iterations": "several"}),
            "strconv.ParseInt: parsing \"several\": invalid syntax",
        ),
        (
            json!({"rps": "9223372036854775808"}),
            "strconv.ParseInt: parsing \"9223372036854775808\": value out of range",
        ),
        (
            scenario(&json!({"vus": 1})),
            "scenario 's' doesn't have a specified executor type",
        ),
        (
            scenario(&json!({"executor": ""})),
            "scenario 's' doesn't have a specified executor type",
        ),
        (
            scenario(&json!(null)),
            "scenario 's' doesn't have a specified executor type",
        ),
        (
            scenario(&json!({"executor": "bogus"})),
            "unknown executor type 'bogus'",
        ),
        (executor("foo", json!(1)), "json: unknown field \"foo\""),
        (
            executor("rate", json!(null)),
            "json: unknown field \"rate\"",
        ),
        (
            executor("options", json!({"browser": {}, "other": 1})),
            "json: unknown field \"other\"",
        ),
        (
            executor("startTime", json!("1.5d")),
            "time: invalid duration \"1.5d\"",
        ),
        (
            scenario(
                &json!({"executor": "ramping-vus", "stages": [{"duration": 1, "targets": 1}]}),
            ),
            "json: unknown field \"targets\"",
        ),
        (
            json!({"tlsCipherSuites": ["x"]}),
            "unknown cipher suite 'x'",
        ),
        (json!({"tlsVersion": "ssl3"}), "unknown TLS version 'ssl3'"),
        (
            json!({"blacklistIPs": ["foo"]}),
            "invalid CIDR address: foo",
        ),
        (
            json!({"blacklistIPs": ["10.0.0.0/33"]}),
            "invalid CIDR address: 10.0.0.0/33",
        ),
        (
            json!({"blockHostnames": ["a*b"]}),
            "invalid hostname pattern 'a*b'",
        ),
        (
            json!({"hosts": {"a*b": "127.0.0.1"}}),
            "invalid hostname pattern 'a*b'",
        ),
        (
            json!({"dns": {"policy": "foo"}}),
            "foo does not belong to DNSPolicy values",
        ),
        (
            json!({"dns": {"select": "foo"}}),
            "foo does not belong to DNSSelect values",
        ),
        (
            json!({"executionSegment": "foo"}),
            "'foo' is not a valid percentage, decimal, fraction or interval value",
        ),
        (
            json!({"executionSegment": "2/3:1/3"}),
            "segment start(0.67) must be less than its end(0.33)",
        ),
        (
            json!({"executionSegmentSequence": "0"}),
            "at least 2 points are needed for an execution segment sequence, 1 given",
        ),
    ] {
        assert_eq!(unreadable(&json), expected, "{json}");
    }
}

#[test]
fn values_of_the_wrong_type_show_the_json() {
    for json in [
        json!(5),
        json!("text"),
        json!([]),
        json!({"vus": 1.5}),
        json!({"vus": true}),
        json!({"paused": "true"}),
        json!({"userAgent": 1}),
        json!({"tags": {"a": 1}}),
        json!({"tags": ["a"]}),
        json!({"thresholds": {"checks": "rate>0"}}),
        json!({"thresholds": {"checks": [7]}}),
        json!({"stages": {"duration": "1s"}}),
        json!({"scenarios": []}),
        json!({"scenarios": {"s": {"executor": 1}}}),
        json!({"scenarios": {"s": {"executor": "constant-vus", "vus": 1.5}}}),
        json!({"scenarios": {"s": {"executor": "constant-vus", "env": {"A": 1}}}}),
        json!({"scenarios": {"s": {"executor": "constant-vus", "tags": {"a": null}}}}),
        json!({"dns": "ttl=1m"}),
        json!({"tlsAuth": [1]}),
        json!({"systemTags": "url"}),
    ] {
        let text = unreadable(&json);
        assert!(
            text.starts_with("parsing options from script got error while parsing \"")
                && text.contains("\": json: cannot unmarshal "),
            "{json}: {text}"
        );
    }
    assert_eq!(
        unreadable(&json!({"userAgent": 1})),
        "parsing options from script got error while parsing \"1\": \
         json: cannot unmarshal number into userAgent of type string"
    );
}

#[test]
fn null_and_empty_numbers_are_unset() {
    let options = layer(json!({
        "vus": "", "iterations": null, "duration": null, "stages": null, "scenarios": null,
        "tags": null, "dns": {"ttl": null}, "thresholds": null, "features": null, "ext": null,
    }));
    let mut unset = options.clone();
    unset.dns = None;
    assert_eq!(unset, Options::default());
    assert_eq!(Options::from_script(&Value::Null), Ok((unset, vec![])));
    let options = layer(scenario(&json!({
        "executor": "constant-vus", "vus": null, "duration": "3s", "gracefulStop": null,
        "exec": null, "env": null, "tags": null, "options": null, "startTime": null,
    })));
    let resolved = resolved(options).expect("they run");
    assert_eq!(
        resolved.scenarios[0].description(&resolved.tuple),
        "1 looping VUs for 3s (gracefulStop: 30s)"
    );
}

#[test]
fn unknown_keys_cost_one_warning() {
    let json = json!({"vuss": 9, "iterations": 2, "linger": true, "out": [], "consoleOutput": "x"});
    let (options, warnings) = Options::from_script(&json).expect("it can be read");
    assert_eq!(options.iterations, Some(2));
    assert_eq!(
        warnings,
        [
            Warning::new("There were unknown fields in the options exported in the script")
                .with("error", "json: unknown field \"consoleOutput\"")
        ]
    );
    // In a stage of the shortcut they are not even that.
    let options = layer(json!({"stages": [{"duration": "1s", "target": 2, "typo": 1}]}));
    assert_eq!(options.stages.map(|stages| stages.len()), Some(1));
    let (options, warnings) =
        Options::from_script(&json!({"features": ["x"]})).expect("it can be read");
    assert_eq!((options.features, warnings.len()), (None, 1));
}

#[test]
fn shortcuts_of_one_layer_exclude_each_other() {
    let stages = json!([{"duration": "1s", "target": 1}]);
    let scenarios = json!({"s": {"executor": "per-vu-iterations"}});
    for (first, second, json) in [
        (
            "iterations",
            "stages",
            json!({"iterations": 1, "stages": stages}),
        ),
        (
            "iterations",
            "scenarios",
            json!({"iterations": 1, "scenarios": scenarios}),
        ),
        (
            "duration",
            "stages",
            json!({"duration": "1s", "stages": stages}),
        ),
        (
            "duration",
            "scenarios",
            json!({"duration": "1s", "scenarios": scenarios}),
        ),
        (
            "stages",
            "scenarios",
            json!({"stages": stages, "scenarios": scenarios}),
        ),
    ] {
        let expected =
            format!("using `{first}` and `{second}` options simultaneously is not allowed");
        assert_eq!(unusable(json.clone()), expected);
        // Merging keeps what stands in one layer together, so that it can be complained about.
        let (merged, _) = merge(Layers {
            script: layer(json!({"iterations": 5})),
            cli: layer(json),
            ..Layers::default()
        });
        let error = resolved(merged).expect_err("they exclude each other");
        assert_eq!(error, OptionError::config(expected));
    }
    // A duration beside empty stages is none of this.
    assert!(resolved(layer(json!({"duration": "1s", "stages": []}))).is_ok());
    for duration in [json!(0), json!("-1s")] {
        assert_eq!(
            unusable(json!({ "duration": duration })),
            "`duration` option should be more than 0, for infinite duration use the \
             externally-controlled executor"
        );
    }
}

/// Each problem of a scenario, in the order of its checks.
#[test]
fn problems_of_scenarios_are_listed_in_order() {
    let constant_rate = "constant-arrival-rate";
    for (executor, settings, expected) in [
        (
            "shared-iterations",
            json!({"vus": 0, "iterations": 0}),
            &["the number of VUs must be more than 0"][..],
        ),
        (
            "shared-iterations",
            json!({"vus": 5, "iterations": 3, "maxDuration": "500ms"}),
            &[
                "the number of iterations (3) can't be less than the number of VUs (5)",
                "the maxDuration must be at least 1s, but is 500ms",
            ],
        ),
        (
            "per-vu-iterations",
            json!({"vus": -1, "iterations": 0, "maxDuration": 100}),
            &[
                "the number of VUs must be more than 0",
                "the number of iterations must be more than 0",
                "the maxDuration must be at least 1s, but is 100ms",
            ],
        ),
        (
            "constant-vus",
            json!({"vus": 0}),
            &[
                "the number of VUs must be more than 0",
                "the duration is unspecified",
            ],
        ),
        (
            "constant-vus",
            json!({"duration": "500ms", "exec": "", "startTime": "-1s", "gracefulStop": "-1s"}),
            &[
                "exec value cannot be empty",
                "the startTime can't be negative",
                "the gracefulStop timeout can't be negative",
                "the duration must be at least 1s, but is 500ms",
            ],
        ),
        (
            "ramping-vus",
            json!({}),
            &["at least one stage has to be specified"],
        ),
        (
            "ramping-vus",
            json!({"startVUs": -1, "stages": []}),
            &[
                "the number of start VUs can't be negative",
                "either startVUs or one of the stages' target values must be greater than 0",
                "at least one stage has to be specified",
            ],
        ),
        (
            "ramping-vus",
            json!({"stages": [
                {"duration": "-1s", "target": 1},
                {"target": -2},
                {"duration": "1s"},
            ], "gracefulRampDown": "-1s"}),
            &[
                "the duration for stage 1 can't be negative",
                "stage 2 doesn't have a duration",
                "the target for stage 2 can't be negative",
                "stage 3 doesn't have a target",
            ],
        ),
        (
            "ramping-vus",
            json!({"startVUs": 0, "stages": [{"duration": "0s", "target": 0}]}),
            &["either startVUs or one of the stages' target values must be greater than 0"],
        ),
        (
            "ramping-vus",
            json!({"startVUs": 100_000_001, "stages": [
                {"duration": "1s", "target": 100_000_000},
                {"duration": "1s", "target": 100_000_001},
            ]}),
            &[
                "the startVUs exceed max limit of 100000000",
                "target for stage 2 exceeds max limit of 100000000",
            ],
        ),
        (
            constant_rate,
            json!({}),
            &[
                "the iteration rate isn't specified",
                "the duration is unspecified",
                "the number of preAllocatedVUs isn't specified",
            ],
        ),
        (
            constant_rate,
            json!({"rate": 0, "timeUnit": 0, "duration": 999, "preAllocatedVUs": -1, "maxVUs": -2}),
            &[
                "the iteration rate must be more than 0",
                "the timeUnit must be more than 0",
                "the duration must be at least 1s, but is 999ms",
                "the number of preAllocatedVUs can't be negative",
                "maxVUs can't be less than preAllocatedVUs",
            ],
        ),
        (
            "ramping-arrival-rate",
            json!({"startRate": -1, "timeUnit": "-1s", "preAllocatedVUs": 2, "maxVUs": 1}),
            &[
                "the startRate value can't be negative",
                "the timeUnit must be more than 0",
                "at least one stage has to be specified",
                "maxVUs can't be less than preAllocatedVUs",
            ],
        ),
        (
            "externally-controlled",
            json!({"vus": 3, "maxVUs": 2, "gracefulStop": "1s"}),
            &[
                "gracefulStop is not supported by the externally controlled executor",
                "the number of active VUs (3) must be less than or equal to the number of \
                 maxVUs (2)",
                "the duration must be specified, for infinite duration use 0",
            ],
        ),
        (
            "externally-controlled",
            json!({"vus": -1, "duration": "-1s"}),
            &[
                "the number of VUs can't be negative",
                "the duration can't be negative, for infinite duration use 0",
            ],
        ),
        (
            "ramping-arrival-rate",
            json!({"stages": [{"duration": "1s"}, {"target": -1}]}),
            &[
                "stage 1 doesn't have a target",
                "stage 2 doesn't have a duration",
                "the target for stage 2 can't be negative",
                "the number of preAllocatedVUs isn't specified",
            ],
        ),
    ] {
        let mut settings = settings;
        settings["executor"] = json!(executor);
        let about = settings.to_string();
        let text = unusable(scenario(&settings));
        let expected = format!(
            "There were problems with the specified script configuration:\n\t\
             - scenario s has configuration errors: {}",
            expected.join(", ")
        );
        assert_eq!(text, expected, "{about}");
    }
}

#[test]
fn what_an_executor_may_do_without_is_no_problem() {
    for settings in [
        json!({"executor": "shared-iterations"}),
        json!({"executor": "per-vu-iterations"}),
        json!({"executor": "constant-vus", "duration": "1s"}),
        json!({"executor": "ramping-vus", "stages": [{"duration": 0, "target": 0}], "gracefulRampDown": "-1s"}),
        json!({"executor": "constant-arrival-rate", "rate": 1, "duration": "1s", "preAllocatedVUs": 0}),
        json!({"executor": "ramping-arrival-rate", "stages": [{"duration": "0s", "target": 0}], "preAllocatedVUs": 0}),
    ] {
        let resolved = resolved(layer(scenario(&settings))).map(|resolved| resolved.warnings);
        assert_eq!(resolved, Ok(vec![]), "{settings}");
    }
}

#[test]
fn all_problems_are_gathered_functions_last() {
    let text = unusable(json!({
        "executionSegment": "0:1/3",
        "executionSegmentSequence": "0,1/2,1",
        "setupTimeout": "0s",
        "scenarios": {
            "a": {"executor": "constant-vus", "duration": "1s", "exec": "nope"},
            "b c": {"executor": "per-vu-iterations", "vus": 0, "exec": "other"},
            "": {"executor": "per-vu-iterations"},
        },
    }));
    let name = "the scenario name should contain only numbers, latin letters, underscores, \
                and dashes";
    let expected = [
        "There were problems with the specified script configuration:".to_owned(),
        "provided segment 0:1/3 can't be found in sequence 0,1/2,1".to_owned(),
        "setupTimeout must be positive".to_owned(),
        format!("scenario  has configuration errors: scenario name can't be empty, {name}"),
        format!(
            "scenario b c has configuration errors: {name}, the number of VUs must be more than 0"
        ),
        "executor a: function 'nope' not found in exports".to_owned(),
    ];
    assert_eq!(text, expected.join("\n\t- "));
}

#[test]
fn shortcuts_are_checked_as_the_scenario_they_are() {
    for (json, expected) in [
        (json!({"vus": 0}), "the number of VUs must be more than 0"),
        (
            json!({"vus": 0, "duration": "5s"}),
            "the number of VUs must be more than 0",
        ),
        (
            json!({"iterations": 0}),
            "the number of iterations (0) can't be less than the number of VUs (1)",
        ),
        (
            json!({"iterations": 2, "vus": 5}),
            "the number of iterations (2) can't be less than the number of VUs (5)",
        ),
        (
            json!({"duration": "100ms"}),
            "the duration must be at least 1s, but is 100ms",
        ),
        (
            json!({"stages": [{"target": 5}]}),
            "at least one stage has to be specified",
        ),
    ] {
        let text = unusable(json);
        assert_eq!(
            text,
            format!(
                "There were problems with the specified script configuration:\n\t\
                 - scenario default has configuration errors: {expected}"
            )
        );
    }
}

#[test]
fn a_segment_must_be_one_of_its_sequence() {
    for (segment, sequence) in [
        (Some("0:1/3"), "0,1/2,1"),
        (Some("0:1/4"), "0,1/3,2/3,1"),
        (None, "0,1/2,1"),
    ] {
        let text = unusable(json!({
            "executionSegment": segment, "executionSegmentSequence": sequence,
        }));
        let segment = segment.unwrap_or("0:1");
        assert_eq!(
            text,
            format!(
                "There were problems with the specified script configuration:\n\t\
                 - provided segment {segment} can't be found in sequence {sequence}"
            )
        );
    }
    // By value, not by text.
    let options = layer(json!({
        "vus": 10, "iterations": 20, "executionSegment": "25%:0.5",
        "executionSegmentSequence": "0,1/4,2/4,3/4,1",
    }));
    let resolved = resolved(options).expect("it is a member");
    assert_eq!(
        resolved.scenarios[0].description(&resolved.tuple),
        "6 iterations shared among 3 VUs (maxDuration: 10m0s, gracefulStop: 30s)"
    );
}

#[test]
fn trend_columns_and_dns_are_checked_last() {
    for stat in ["foo", "p(101)", "p(", "p()", "95"] {
        let error = resolved(layer(json!({"summaryTrendStats": ["avg", stat]})));
        assert_eq!(
            error.map(|_| ()),
            Err(OptionError::usage(format!(
                "invalid trend stat '{stat}', unknown format"
            )))
        );
    }
    let all = json!(["avg", "min", "med", "max", "count", "p(0)", "p(99.99)"]);
    assert!(resolved(layer(json!({ "summaryTrendStats": all }))).is_ok());
    for ttl in ["foo", "-1s"] {
        let text = unusable(json!({"dns": {"ttl": ttl}}));
        assert_eq!(text, format!("invalid DNS TTL: {ttl}"));
    }
    for ttl in [json!("inf"), json!("0"), json!(1500), json!("1d")] {
        assert!(
            resolved(layer(json!({"dns": {"ttl": ttl}}))).is_ok(),
            "{ttl}"
        );
    }
}

#[test]
fn functions_are_looked_up_for_shortcuts_too() {
    let error = resolve(Options::default(), &|_| false).expect_err("no default function");
    assert_eq!(
        error.text,
        "There were problems with the specified script configuration:\n\t\
         - executor default: function 'default' not found in exports"
    );
}

/// The words of values that come as text: flags show them as they are, variables with their name.
#[test]
fn texts_of_flags_and_variables_have_the_same_words() {
    for (name, option, kind, text, details) in [
        (
            "K6_VUS",
            "VUs",
            "null.Int",
            "abc",
            parse_int("abc").expect_err("no number"),
        ),
        (
            "K6_STAGES",
            "Stages",
            "[]lib.Stage",
            "foo:1",
            Stage::parse("foo:1").map(|_| ()).expect_err("no duration"),
        ),
        (
            "K6_BLACKLIST_IPS",
            "BlacklistIPs",
            "[]lib.IPNet",
            "foo",
            "invalid CIDR address: foo".to_owned(),
        ),
        (
            "K6_BLOCK_HOSTNAMES",
            "BlockedHostnames",
            "types.NullHostnameTrie",
            "a*b",
            "invalid hostname pattern 'a*b'".to_owned(),
        ),
        (
            "K6_LOCAL_IPS",
            "LocalIPs",
            "types.NullIPPool",
            "foo",
            "foo is not a valid IP, IP range or CIDR".to_owned(),
        ),
        (
            "K6_DNS",
            "DNS",
            "types.DNSConfig",
            "ttl=foo",
            "invalid DNS TTL: foo".to_owned(),
        ),
        (
            "K6_DNS",
            "DNS",
            "types.DNSConfig",
            "policy=foo",
            "foo does not belong to DNSPolicy values".to_owned(),
        ),
        (
            "K6_NO_SETUP",
            "NoSetup",
            "null.Bool",
            "True",
            "invalid input:True".to_owned(),
        ),
    ] {
        let error = from_env(&|asked| (asked == name).then(|| text.to_owned()));
        assert_eq!(
            error,
            Err(OptionError::config(format!(
                "envconfig.Process: assigning {name} to {option}: converting '{text}' to type \
                 {kind}. details: {details}"
            )))
        );
    }
}
