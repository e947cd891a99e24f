//! Which layer wins: config file, then script, then environment, then flags.

use std::collections::BTreeMap;

use super::*;

/// Layers from JSON, the weakest first: the form is the same wherever a value comes from.
fn layers(file: Value, script: Value, env: Value, cli: Value) -> Layers {
    Layers {
        file: layer(file),
        script: layer(script),
        env: layer(env),
        cli: layer(cli),
        merge_tags: false,
    }
}

/// An option under its key, with a different value for each layer, the weakest first.
fn every_option() -> Vec<(&'static str, [Value; 4])> {
    let scenarios = |iterations: i64| json!({"s": {"executor": "per-vu-iterations", "startTime": null, "gracefulStop": null, "env": null, "exec": null, "tags": null, "vus": null, "iterations": iterations, "maxDuration": null}});
    let stages = |target: i64| json!([{"duration": "1s", "target": target}]);
    let durations = || ["1s", "2s", "3s", "4s"].map(|text| json!(text));
    let ints = || [1, 2, 3, 4].map(|int| json!(int));
    let bools = || [true, false, true, false].map(|bool| json!(bool));
    let texts = || ["a", "b", "c", "d"].map(|text| json!(text));
    let lists = || [json!(["a"]), json!(["b", "c"]), json!(["d"]), json!(["e"])];
    let objects = || [1, 2, 3, 4].map(|n| json!({ format!("key{n}"): n }));
    vec![
        ("paused", bools()),
        ("vus", ints()),
        ("duration", durations()),
        ("iterations", ints()),
        ("stages", [1, 2, 3, 4].map(stages)),
        ("scenarios", [1, 2, 3, 4].map(scenarios)),
        (
            "executionSegment",
            ["0:1/4", "1/4:1/2", "1/2:3/4", "3/4:1"].map(Value::from),
        ),
        (
            "executionSegmentSequence",
            ["0,1", "0,1/2,1", "0,1/3,1", "0,1/4,1"].map(Value::from),
        ),
        ("noSetup", bools()),
        ("setupTimeout", durations()),
        ("noTeardown", bools()),
        ("teardownTimeout", durations()),
        ("handleSummaryTimeout", durations()),
        ("rps", ints()),
        ("maxRedirects", ints()),
        ("userAgent", texts()),
        ("batch", ints()),
        ("batchPerHost", ints()),
        ("httpDebug", texts()),
        ("insecureSkipTLSVerify", bools()),
        (
            "tlsCipherSuites",
            [
                "TLS_AES_128_GCM_SHA256",
                "TLS_AES_256_GCM_SHA384",
                "TLS_CHACHA20_POLY1305_SHA256",
                "TLS_RSA_WITH_RC4_128_SHA",
            ]
            .map(|name| json!([name])),
        ),
        (
            "tlsVersion",
            ["tls1.0", "tls1.1", "tls1.2", "tls1.3"]
                .map(|version| json!({"min": version, "max": version})),
        ),
        (
            "tlsAuth",
            ["a", "b", "c", "d"]
                .map(|cert| json!([{"cert": cert, "key": "k", "password": null, "domains": null}])),
        ),
        ("throw", bools()),
        (
            "thresholds",
            ["rate<1", "rate<2", "rate<3", "rate<4"].map(|source| json!({source: [source]})),
        ),
        (
            "blacklistIPs",
            [1, 2, 3, 4].map(|n| json!([format!("10.0.0.{n}/32")])),
        ),
        ("blockHostnames", lists()),
        (
            "hosts",
            [1, 2, 3, 4].map(|n| json!({ format!("h{n}"): "127.0.0.1" })),
        ),
        ("noConnectionReuse", bools()),
        ("noVUConnectionReuse", bools()),
        ("minIterationDuration", durations()),
        ("cloud", objects()),
        ("ext", objects()),
        (
            "summaryTrendStats",
            ["avg", "min", "med", "max"].map(|stat| json!([stat])),
        ),
        ("summaryTimeUnit", ["s", "ms", "us", "s"].map(Value::from)),
        (
            "systemTags",
            ["check", "error", "group", "url"].map(|tag| json!([tag])),
        ),
        (
            "tags",
            [1, 2, 3, 4].map(|n| json!({ format!("tag{n}"): "x" })),
        ),
        ("metricSamplesBufferSize", ints()),
        ("noCookiesReset", bools()),
        ("discardResponseBodies", bools()),
    ]
}

/// Every option in every combination of layers that set it: the strongest of them wins, and no
/// other option changes.
#[test]
fn the_strongest_layer_that_sets_an_option_wins() {
    let all = every_option();
    let nothing = merge(Layers::default()).0.to_json(View::Given);
    for (key, values) in &all {
        for setters in 0..16_u32 {
            let mut objects = [0, 1, 2, 3].map(|layer| {
                if setters >> layer & 1 == 1 {
                    json!({ *key: values[layer] })
                } else {
                    json!({})
                }
            });
            let [file, script, env, cli] = objects.each_mut().map(Value::take);
            let (merged, _) = merge(layers(file, script, env, cli));
            let mut expected = nothing.clone();
            if let Some(strongest) = setters.checked_ilog2() {
                expected[*key] = values[strongest as usize].clone();
            }
            // `cloud` is written only when it is set, but then in its place.
            let found = merged.to_json(View::Given);
            assert_eq!(found, expected, "{key} set by layers {setters:04b}");
        }
    }
    // `dns` is layered part by part, and scripts cannot set `features`: both have their own tests.
    let mut known: Vec<&str> = all.iter().map(|(key, _)| *key).collect();
    known.extend(["dns", "features"]);
    let written = nothing.as_object().expect("an object").keys();
    let missing: Vec<&String> = written
        .filter(|key| !known.contains(&key.as_str()))
        .collect();
    assert_eq!(missing, Vec::<&String>::new());
}

#[test]
fn what_only_flags_and_variables_set_is_layered_too() {
    let env = from_env(&|name| match name {
        "K6_CONSOLE_OUTPUT" => Some("env.log".to_owned()),
        "K6_LOCAL_IPS" => Some("10.0.0.1".to_owned()),
        _ => None,
    })
    .expect("good variables");
    let cli = Options {
        console_output: Some("cli.log".to_owned()),
        ..Options::default()
    };
    let (merged, _) = merge(Layers {
        env,
        cli,
        ..Layers::default()
    });
    assert_eq!(merged.console_output.as_deref(), Some("cli.log"));
    assert_eq!(merged.local_ips.map(|ranges| ranges.len()), Some(1));
}

/// What the layers come to: the one scenario, and the warnings.
#[test]
fn shortcuts_of_a_layer_replace_those_of_weaker_ones() {
    let overrode = |layer: &str| {
        vec![format!(
            "\"{layer}\" level configuration overrode scenarios configuration entirely"
        )]
    };
    let own = json!({"mine": {"executor": "constant-vus", "vus": 9, "duration": "9s"}});
    let none = || json!({});
    for (about, [file, script, env, cli], expected, warnings) in [
        (
            "nothing is set",
            [none(), none(), none(), none()],
            "default: 1 iterations for each of 1 VUs (maxDuration: 10m0s, gracefulStop: 30s)",
            vec![],
        ),
        (
            "the strongest iterations",
            [
                json!({"iterations": 2}),
                json!({"iterations": 7}),
                json!({"iterations": 5}),
                json!({"iterations": 3}),
            ],
            "default: 3 iterations shared among 1 VUs (maxDuration: 10m0s, gracefulStop: 30s)",
            vec![],
        ),
        (
            "a duration clears the stages below, vus survives",
            [
                json!({"stages": [{"duration": "1s", "target": 1}], "vus": 4}),
                none(),
                none(),
                json!({"duration": "5s"}),
            ],
            "default: 4 looping VUs for 5s (gracefulStop: 30s)",
            vec![],
        ),
        (
            "iterations clear the duration below",
            [
                none(),
                json!({"duration": "5s", "vus": 2}),
                json!({"iterations": 8}),
                none(),
            ],
            "default: 8 iterations shared among 2 VUs (maxDuration: 10m0s, gracefulStop: 30s)",
            vec![],
        ),
        (
            "both in one layer: the duration is the limit",
            [
                none(),
                none(),
                none(),
                json!({"iterations": 8, "duration": "5s"}),
            ],
            "default: 8 iterations shared among 1 VUs (maxDuration: 5s, gracefulStop: 30s)",
            vec![],
        ),
        (
            "stages over iterations, from vus of another layer",
            [
                json!({"iterations": 8}),
                json!({"vus": 6}),
                json!({"stages": [{"duration": "10s", "target": 3}, {"target": 99}]}),
                none(),
            ],
            "default: Up to 6 looping VUs for 10s over 1 stages \
             (gracefulRampDown: 30s, gracefulStop: 30s)",
            vec![],
        ),
        (
            "scenarios of the script over the file's stages",
            [
                json!({"stages": [{"duration": "1s", "target": 1}]}),
                json!({ "scenarios": own }),
                none(),
                none(),
            ],
            "mine: 9 looping VUs for 9s (gracefulStop: 30s)",
            vec![],
        ),
        (
            "scenarios of the script over the file's scenarios",
            [
                json!({"scenarios": {"x": {"executor": "per-vu-iterations"}}}),
                json!({ "scenarios": own }),
                none(),
                none(),
            ],
            "mine: 9 looping VUs for 9s (gracefulStop: 30s)",
            overrode("script"),
        ),
        (
            "variables over scenarios",
            [
                none(),
                json!({ "scenarios": own }),
                json!({"iterations": 1}),
                none(),
            ],
            "default: 1 iterations shared among 1 VUs (maxDuration: 10m0s, gracefulStop: 30s)",
            overrode("env"),
        ),
        (
            "flags over scenarios",
            [
                none(),
                json!({ "scenarios": own }),
                none(),
                json!({"vus": 3, "iterations": 6}),
            ],
            "default: 6 iterations shared among 3 VUs (maxDuration: 10m0s, gracefulStop: 30s)",
            overrode("cli"),
        ),
        (
            "a lone vus over scenarios",
            [
                none(),
                json!({ "scenarios": own }),
                none(),
                json!({"vus": 4}),
            ],
            "default: 4 iterations shared among 4 VUs (maxDuration: 10m0s, gracefulStop: 30s)",
            vec!["`vus=4` overrides scenarios configuration".to_owned()],
        ),
        (
            "a lone vus",
            [none(), none(), json!({"vus": 5}), none()],
            "default: 5 iterations shared among 5 VUs (maxDuration: 10m0s, gracefulStop: 30s)",
            vec![],
        ),
        (
            "stages that are empty",
            [none(), json!({"vus": 2, "stages": []}), none(), none()],
            "default: 1 iterations for each of 1 VUs (maxDuration: 10m0s, gracefulStop: 30s)",
            vec![
                "`stages` was explicitly set to an empty value, running the script with \
                 1 iteration in 1 VU"
                    .to_owned(),
            ],
        ),
        (
            "scenarios that are empty",
            [none(), json!({"scenarios": {}}), none(), none()],
            "default: 1 iterations for each of 1 VUs (maxDuration: 10m0s, gracefulStop: 30s)",
            vec![
                "`scenarios` was explicitly set to an empty value, running the script with \
                 1 iteration in 1 VU"
                    .to_owned(),
            ],
        ),
    ] {
        let (merged, mut found) = merge(layers(file, script, env, cli));
        let resolved = resolved(merged).expect(about);
        found.extend(resolved.warnings);
        assert_eq!(messages(&found), warnings, "{about}");
        let texts: Vec<String> = resolved
            .scenarios
            .iter()
            .map(|it| format!("{}: {}", it.name, it.description(&resolved.tuple)))
            .collect();
        assert_eq!(texts, [expected], "{about}");
    }
}

#[test]
fn dns_is_layered_part_by_part() {
    let set = |dns: &str| Options {
        dns: Some(Dns::parse(dns).expect("good DNS settings")),
        ..Options::default()
    };
    for (file, script, env, cli, expected) in [
        (
            "ttl=1m,select=first",
            "select=random",
            "policy=any",
            "ttl=0",
            json!({"ttl": "0", "select": "random", "policy": "any"}),
        ),
        (
            "ttl=1m",
            "",
            "",
            "",
            json!({"ttl": "1m", "select": null, "policy": null}),
        ),
        (
            "",
            "policy=onlyIPv6",
            "",
            "",
            json!({"ttl": null, "select": null, "policy": "onlyIPv6"}),
        ),
        (
            "",
            "",
            "",
            "select=roundRobin",
            json!({"ttl": null, "select": "roundRobin", "policy": null}),
        ),
        (
            "ttl=inf",
            "ttl=5s",
            "",
            "policy=any",
            json!({"ttl": "5s", "select": null, "policy": "any"}),
        ),
    ] {
        let layer = |dns: &str| {
            if dns.is_empty() {
                Options::default()
            } else {
                set(dns)
            }
        };
        let (merged, _) = merge(Layers {
            file: layer(file),
            script: layer(script),
            env: layer(env),
            cli: layer(cli),
            merge_tags: false,
        });
        assert_eq!(merged.to_json(View::Given)["dns"], expected);
    }
}

#[test]
fn tags_are_replaced_unless_they_are_empty() {
    let tags = |pairs: &[(&str, &str)]| {
        let pairs = pairs.iter();
        pairs
            .map(|(key, value)| ((*key).to_owned(), (*value).to_owned()))
            .collect::<BTreeMap<String, String>>()
    };
    let both = || {
        layers(
            json!({}),
            json!({"tags": {"a": "script", "b": "script"}}),
            json!({"tags": {}}),
            json!({"tags": {"b": "cli", "c": "cli"}}),
        )
    };
    let (merged, _) = merge(both());
    assert_eq!(merged.tags, Some(tags(&[("b", "cli"), ("c", "cli")])));
    let (merged, _) = merge(Layers {
        merge_tags: true,
        ..both()
    });
    assert_eq!(
        merged.tags,
        Some(tags(&[("a", "script"), ("b", "cli"), ("c", "cli")]))
    );
    for merge_tags in [false, true] {
        for place in 0..4 {
            let mut objects = [json!({}), json!({}), json!({}), json!({})];
            objects[place] = json!({"tags": {"only": "here"}});
            let [file, script, env, cli] = objects;
            let (merged, _) = merge(Layers {
                merge_tags,
                ..layers(file, script, env, cli)
            });
            assert_eq!(
                merged.tags,
                Some(tags(&[("only", "here")])),
                "layer {place}"
            );
        }
    }
}

#[test]
fn only_two_defaults_are_filled_in() {
    let (merged, warnings) = merge(Layers::default());
    assert_eq!(warnings, []);
    let shown = merged.to_json(View::Given);
    for (key, value) in shown.as_object().expect("an object") {
        match key.as_str() {
            "summaryTrendStats" => assert_eq!(
                *value,
                json!(["avg", "min", "med", "max", "p(90)", "p(95)"])
            ),
            "systemTags" => assert_eq!(*value, json!(SystemTags::DEFAULT)),
            "dns" => assert_eq!(*value, json!({"ttl": null, "select": null, "policy": null})),
            key => assert_eq!(*value, Value::Null, "{key}"),
        }
    }
}
