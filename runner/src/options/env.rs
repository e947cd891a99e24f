//! The `K6_` variables that set options: every one of them is a row of [`VARIABLES`].
//!
//! Scenarios, the segment and its sequence, hosts, thresholds and TLS client certificates have no
//! variable. An empty value leaves the option unset, as if the variable were not there.

use serde_json::Value;

use super::{
    OptionError, Options,
    values::{
        Cidr, CipherSuites, Dns, HostPatterns, IpRange, Stage, SystemTags, TrendStats, parse_int,
    },
};
use crate::duration::GoDuration;

type Setter = fn(&mut Options, &str) -> Result<(), String>;

/// One variable: its name, the name of the option in messages, the type in messages, how it is set.
struct Variable {
    name: &'static str,
    option: &'static str,
    kind: &'static str,
    set: Setter,
}

fn boolean(text: &str) -> Result<Option<bool>, String> {
    match text {
        "true" => Ok(Some(true)),
        "false" => Ok(Some(false)),
        other => Err(format!("invalid input:{other}")),
    }
}

fn int(text: &str) -> Result<Option<i64>, String> {
    parse_int(text).map(Some)
}

fn duration(text: &str) -> Result<Option<GoDuration>, String> {
    GoDuration::from_json(&Value::from(text)).map(Some)
}

/// A comma-separated list.
fn list(text: &str) -> Vec<String> {
    text.split(',').map(str::to_owned).collect()
}

fn all<T>(text: &str, parse: fn(&str) -> Result<T, String>) -> Result<Option<Vec<T>>, String> {
    text.split(',')
        .map(parse)
        .collect::<Result<_, _>>()
        .map(Some)
}

macro_rules! variables {
    ($($name:literal $option:literal $kind:literal $field:ident: $parse:expr;)*) => {
        &[$(Variable {
            name: $name,
            option: $option,
            kind: $kind,
            set: |options, text| {
                let parsed: Result<_, String> = $parse(text);
                options.$field = parsed?;
                Ok(())
            },
        },)*]
    };
}

/// Every variable that sets an option.
const VARIABLES: &[Variable] = variables! {
    "K6_PAUSED" "Paused" "null.Bool" paused: boolean;
    "K6_VUS" "VUs" "null.Int" vus: int;
    "K6_DURATION" "Duration" "types.NullDuration" duration: duration;
    "K6_ITERATIONS" "Iterations" "null.Int" iterations: int;
    "K6_STAGES" "Stages" "[]lib.Stage" stages: |text| all(text, Stage::parse);
    "K6_NO_SETUP" "NoSetup" "null.Bool" no_setup: boolean;
    "K6_SETUP_TIMEOUT" "SetupTimeout" "types.NullDuration" setup_timeout: duration;
    "K6_NO_TEARDOWN" "NoTeardown" "null.Bool" no_teardown: boolean;
    "K6_TEARDOWN_TIMEOUT" "TeardownTimeout" "types.NullDuration" teardown_timeout: duration;
    "K6_HANDLE_SUMMARY_TIMEOUT" "HandleSummaryTimeout" "types.NullDuration"
        handle_summary_timeout: duration;
    "K6_RPS" "RPS" "null.Int" rps: int;
    "K6_DNS" "DNS" "types.DNSConfig" dns: |text| Dns::parse(text).map(Some);
    "K6_MAX_REDIRECTS" "MaxRedirects" "null.Int" max_redirects: int;
    "K6_USER_AGENT" "UserAgent" "null.String" user_agent: |text| Ok(Some(str::to_owned(text)));
    "K6_BATCH" "Batch" "null.Int" batch: int;
    "K6_BATCH_PER_HOST" "BatchPerHost" "null.Int" batch_per_host: int;
    "K6_HTTP_DEBUG" "HTTPDebug" "null.String" http_debug: |text| Ok(Some(str::to_owned(text)));
    "K6_INSECURE_SKIP_TLS_VERIFY" "InsecureSkipTLSVerify" "null.Bool"
        insecure_skip_tls_verify: boolean;
    "K6_TLS_CIPHER_SUITES" "TLSCipherSuites" "lib.TLSCipherSuites"
        tls_cipher_suites: |text| CipherSuites::parse_ids(text).map(Some);
    "K6_THROW" "Throw" "null.Bool" throw: boolean;
    "K6_BLACKLIST_IPS" "BlacklistIPs" "[]lib.IPNet" blacklist_ips: |text| all(text, Cidr::parse);
    "K6_BLOCK_HOSTNAMES" "BlockedHostnames" "types.NullHostnameTrie"
        block_hostnames: |text| HostPatterns::new(list(text)).map(Some);
    "K6_NO_CONNECTION_REUSE" "NoConnectionReuse" "null.Bool" no_connection_reuse: boolean;
    "K6_NO_VU_CONNECTION_REUSE" "NoVUConnectionReuse" "null.Bool" no_vu_connection_reuse: boolean;
    "K6_MIN_ITERATION_DURATION" "MinIterationDuration" "types.NullDuration"
        min_iteration_duration: duration;
    "K6_SUMMARY_TREND_STATS" "SummaryTrendStats" "[]string"
        summary_trend_stats: |text| Ok(Some(TrendStats(list(text))));
    "K6_SUMMARY_TIME_UNIT" "SummaryTimeUnit" "null.String"
        summary_time_unit: |text| Ok(Some(str::to_owned(text)));
    "K6_SYSTEM_TAGS" "SystemTags" "metrics.SystemTagSet"
        system_tags: |text| Ok(Some(SystemTags::new(list(text))));
    "K6_TAGS" "RunTags" "map[string]string" tags: |text| tags(text).map(Some);
    "K6_METRIC_SAMPLES_BUFFER_SIZE" "MetricSamplesBufferSize" "null.Int"
        metric_samples_buffer_size: int;
    "K6_NO_COOKIES_RESET" "NoCookiesReset" "null.Bool" no_cookies_reset: boolean;
    "K6_DISCARD_RESPONSE_BODIES" "DiscardResponseBodies" "null.Bool"
        discard_response_bodies: boolean;
    "K6_CONSOLE_OUTPUT" "ConsoleOutput" "null.String"
        console_output: |text| Ok(Some(str::to_owned(text)));
    "K6_LOCAL_IPS" "LocalIPs" "types.NullIPPool" local_ips: |text| all(text, IpRange::parse);
};

fn tags(text: &str) -> Result<std::collections::BTreeMap<String, String>, String> {
    text.split(',')
        .map(|pair| {
            let (key, value) = pair
                .split_once(':')
                .ok_or_else(|| format!("invalid map item: {pair:?}"))?;
            Ok((key.to_owned(), value.to_owned()))
        })
        .collect()
}

/// The layer of options that the environment sets.
///
/// # Errors
/// The first variable whose value cannot be read, exit code 104.
pub(crate) fn from_env(env: &dyn Fn(&str) -> Option<String>) -> Result<Options, OptionError> {
    let mut options = Options::default();
    for variable in VARIABLES {
        let Some(text) = env(variable.name).filter(|text| !text.is_empty()) else {
            continue;
        };
        (variable.set)(&mut options, &text).map_err(|details| {
            OptionError::config(format!(
                "envconfig.Process: assigning {} to {}: converting '{text}' to type {}. \
                 details: {details}",
                variable.name, variable.option, variable.kind
            ))
        })?;
    }
    Ok(options)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn set(pairs: &[(&str, &str)]) -> Result<Options, OptionError> {
        from_env(&|name| {
            let found = pairs.iter().find(|(known, _)| *known == name);
            found.map(|(_, value)| (*value).to_owned())
        })
    }

    #[test]
    fn every_kind_of_value_is_read() {
        let options = set(&[
            ("K6_PAUSED", "true"),
            ("K6_VUS", "7"),
            ("K6_DURATION", "1500"),
            ("K6_SETUP_TIMEOUT", "1d2h"),
            ("K6_STAGES", "5s:10,10s:20"),
            ("K6_TAGS", "k:v,k2:v:w"),
            ("K6_DNS", "ttl=1m,policy=any"),
            ("K6_TLS_CIPHER_SUITES", "4865,49199"),
            ("K6_SYSTEM_TAGS", "url,vu,nonsense"),
            ("K6_BLACKLIST_IPS", "10.1.2.3/8,::1/128"),
            ("K6_LOCAL_IPS", "10.0.0.0/30,10.1.0.1-10.1.0.9"),
            ("K6_USER_AGENT", ""),
            ("K6_EXECUTION_SEGMENT", "nonsense"),
        ])
        .expect("all are valid");
        assert_eq!(options.paused, Some(true));
        assert_eq!(options.vus, Some(7));
        assert_eq!(
            options.duration.map(|d| d.to_string()).as_deref(),
            Some("1.5s")
        );
        assert_eq!(
            options.setup_timeout,
            Some(GoDuration::from_secs(26 * 3600))
        );
        let stages = options.stages.expect("stages");
        assert_eq!(stages[1].target, Some(20));
        assert_eq!(options.tags.expect("tags")["k2"], "v:w");
        assert_eq!(options.dns.expect("dns").policy.as_deref(), Some("any"));
        assert_eq!(
            options.tls_cipher_suites.expect("suites").0,
            [
                "TLS_AES_128_GCM_SHA256",
                "TLS_ECDHE_RSA_WITH_AES_128_GCM_SHA256"
            ]
        );
        let tags: Vec<String> = options.system_tags.expect("tags").0.into_iter().collect();
        assert_eq!(tags, ["url", "vu"]);
        let blocks = options.blacklist_ips.expect("blocks");
        assert_eq!(blocks[0].to_string(), "10.0.0.0/8");
        let ranges = options.local_ips.expect("ranges");
        assert_eq!(ranges[0].last.to_string(), "10.0.0.3");
        assert_eq!(ranges[1].last.to_string(), "10.1.0.9");
        assert_eq!(options.user_agent, None);
        assert_eq!(options.execution_segment, None);
    }

    #[test]
    fn what_cannot_be_read_is_named() {
        for (name, value, text) in [
            (
                "K6_VUS",
                "plenty",
                "assigning K6_VUS to VUs: converting 'plenty' to type null.Int. \
                 details: strconv.ParseInt: parsing \"plenty\": invalid syntax",
            ),
            (
                "K6_PAUSED",
                "1",
                "assigning K6_PAUSED to Paused: converting '1' to type null.Bool. \
                 details: invalid input:1",
            ),
            (
                "K6_DURATION",
                "5x",
                "assigning K6_DURATION to Duration: converting '5x' to type types.NullDuration. \
                 details: time: unknown unit \"x\" in duration \"5x\"",
            ),
        ] {
            let error = set(&[(name, value)]).expect_err(name);
            assert_eq!(error.text, format!("envconfig.Process: {text}"));
            assert_eq!(error.exit, 104);
        }
        for (name, value) in [
            ("K6_STAGES", "5s:x"),
            ("K6_TAGS", "x"),
            ("K6_DNS", "policy=foo"),
            ("K6_TLS_CIPHER_SUITES", "7"),
            ("K6_BLACKLIST_IPS", "foo"),
            ("K6_BLOCK_HOSTNAMES", "a*b"),
            ("K6_LOCAL_IPS", "foo"),
        ] {
            assert!(set(&[(name, value)]).is_err(), "{name}={value}");
        }
    }
}
