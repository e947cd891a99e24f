//! Every option there is, in the order that archives and `inspect` write them.

use std::collections::BTreeMap;

use serde_json::{Map, Value};

use super::{
    OptionError, Warning,
    fields::{self, Bad, Fields, fields},
    scenario::{Scenario, Scenarios},
    values::{
        Cidr, CipherSuites, Dns, HostPatterns, Hosts, IpRange, Stage, SystemTags, Thresholds,
        TlsAuth, TlsVersions, TrendStats,
    },
};
use crate::{
    duration::GoDuration,
    segment::{Segment, Sequence},
};

fields! {
    /// The options of a test, or of one layer of them: all unset unless somebody said otherwise.
    /// The defaults in the comments are applied by those who use the option.
    Options {
        /// Whether the run waits for a resume after its VUs are made; default false.
        paused: bool = "paused",
        /// Shortcut: the number of VUs; default 1.
        vus: i64 = "vus",
        /// Shortcut: how long to run.
        duration: GoDuration = "duration",
        /// Shortcut: how many iterations all VUs share.
        iterations: i64 = "iterations",
        /// Shortcut: a ramp of VUs.
        stages: Vec<Stage> = "stages",
        /// Named executor configurations.
        scenarios: Scenarios = "scenarios",
        /// The part of the load that this instance generates; default the whole.
        execution_segment: Segment = "executionSegment",
        /// All parts, over all instances.
        execution_segment_sequence: Sequence = "executionSegmentSequence",
        /// Whether `setup()` is skipped; default false.
        no_setup: bool = "noSetup",
        /// The limit of `setup()`; default 60 s.
        setup_timeout: GoDuration = "setupTimeout",
        /// Whether `teardown()` is skipped; default false.
        no_teardown: bool = "noTeardown",
        /// The limit of `teardown()`; default 60 s.
        teardown_timeout: GoDuration = "teardownTimeout",
        /// The limit of `handleSummary()`; default 120 s.
        handle_summary_timeout: GoDuration = "handleSummaryTimeout",
        /// HTTP requests per second over the whole process; default no limit.
        rps: i64 = "rps",
        /// Name resolution.
        dns: Dns = "dns",
        /// How many redirects a request follows; default 10.
        max_redirects: i64 = "maxRedirects",
        /// The `User-Agent` header; empty sends none.
        user_agent: String = "userAgent",
        /// Parallel requests of one `http.batch`; default 20.
        batch: i64 = "batch",
        /// The same per host; default 6.
        batch_per_host: i64 = "batchPerHost",
        /// Logs requests and responses: `headers`, or `full` with bodies.
        http_debug: String = "httpDebug",
        /// Whether any certificate is accepted; default false.
        insecure_skip_tls_verify: bool = "insecureSkipTLSVerify",
        /// Cipher suites that may be spoken; default all.
        tls_cipher_suites: CipherSuites = "tlsCipherSuites",
        /// TLS versions that may be spoken; default all.
        tls_version: TlsVersions = "tlsVersion",
        /// Client certificates.
        tls_auth: Vec<TlsAuth> = "tlsAuth",
        /// Whether failed requests throw; default false.
        throw: bool = "throw",
        /// What the metrics must fulfil.
        thresholds: Thresholds = "thresholds",
        /// Addresses that are never connected to.
        blacklist_ips: Vec<Cidr> = "blacklistIPs",
        /// Host names that are never connected to.
        block_hostnames: HostPatterns = "blockHostnames",
        /// Overrides of name resolution.
        hosts: Hosts = "hosts",
        /// Whether connections serve one request only; default false.
        no_connection_reuse: bool = "noConnectionReuse",
        /// Whether connections end with the iteration; default false.
        no_vu_connection_reuse: bool = "noVUConnectionReuse",
        /// Shorter iterations are followed by a wait for the rest of it.
        min_iteration_duration: GoDuration = "minIterationDuration",
        /// Passed through.
        cloud: Value = "cloud",
        /// Passed through.
        ext: Value = "ext",
        /// Columns of trends in the summary; default avg, min, med, max, p(90), p(95).
        summary_trend_stats: TrendStats = "summaryTrendStats",
        /// The time unit of the summary, `s`, `ms` or `us`; default as fits.
        summary_time_unit: String = "summaryTimeUnit",
        /// Built-in tags that samples carry; default [`SystemTags::DEFAULT`].
        system_tags: SystemTags = "systemTags",
        /// Tags of every sample.
        tags: BTreeMap<String, String> = "tags",
        /// Accepted and without meaning here: nothing queues raw samples.
        metric_samples_buffer_size: i64 = "metricSamplesBufferSize",
        /// Whether cookies survive the iteration; default false.
        no_cookies_reset: bool = "noCookiesReset",
        /// Whether bodies are read and dropped; default false.
        discard_response_bodies: bool = "discardResponseBodies",
        /// Feature flags.
        features: Vec<String> = "features",
    }
    keyless {
        /// A file for `console.*`.
        console_output: String,
        /// Addresses to send from.
        local_ips: Vec<IpRange>,
    }
}

/// Which reader the JSON of the options is for.
#[derive(Debug, Clone, Copy)]
pub(crate) enum View<'a> {
    /// As given: archives, and `inspect` without requirements.
    Given,
    /// With the scenarios that shortcuts stand for, beside the shortcuts: `inspect` with them.
    Derived(&'a [Scenario]),
    /// With scenarios instead of shortcuts: what scripts see as `exec.test.options`.
    Script(&'a [Scenario]),
}

impl Options {
    /// Reads the `options` a script exports, or those an archive stores. Keys that are not options
    /// cost one warning.
    ///
    /// # Errors
    /// The bare text of what cannot be read, exit code 104.
    pub(crate) fn from_script(value: &Value) -> Result<(Self, Vec<Warning>), OptionError> {
        let mut warnings = Vec::new();
        let wrong_type = |part: &Value, key: &str, found: &str, wanted: &str| {
            let place = if key.is_empty() { "value" } else { key };
            OptionError::config(format!(
                "parsing options from script got error while parsing {}: \
                 json: cannot unmarshal {found} into {place} of type {wanted}",
                Value::from(part.to_string())
            ))
        };
        let object = match value {
            Value::Null => return Ok((Self::default(), warnings)),
            Value::Object(object) => object,
            other => {
                let Bad::Type(found, wanted) = Bad::type_of(other, "options") else {
                    return Err(OptionError::config(other.to_string()));
                };
                return Err(wrong_type(other, "", &found, wanted));
            }
        };
        let mut options = Self::default();
        let mut unknown = Vec::new();
        for (key, value) in object {
            match options.set(key, value) {
                Ok(true) => {}
                Ok(false) => unknown.push(key),
                Err(Bad::Value(text)) => return Err(OptionError::config(text)),
                Err(Bad::Type(found, wanted)) => {
                    return Err(wrong_type(value, key, &found, wanted));
                }
            }
        }
        if let Some(first) = unknown.into_iter().min() {
            warnings.push(
                Warning::new("There were unknown fields in the options exported in the script")
                    .with("error", fields::unknown_field(first)),
            );
        }
        if options.features.take().is_some() {
            warnings.push(Warning::new(
                "`features` cannot be set by a script, it is ignored; use --features or K6_FEATURES",
            ));
        }
        Ok((options, warnings))
    }

    /// The options as JSON, all keys in their order, the unset ones null.
    pub(crate) fn to_json(&self, view: View<'_>) -> Value {
        let mut object = Map::new();
        self.encode_into(&mut object);
        if self.cloud.is_none() {
            object.shift_remove("cloud");
        }
        if self.dns.is_none() {
            object.insert(
                "dns".to_owned(),
                fields::FieldValue::encode(&Dns::default()),
            );
        }
        if let View::Derived(scenarios) | View::Script(scenarios) = view {
            let mut sorted: Vec<&Scenario> = scenarios.iter().collect();
            sorted.sort_by(|a, b| a.name.cmp(&b.name));
            let scenarios = sorted
                .into_iter()
                .map(|scenario| (scenario.name.clone(), scenario.encode()))
                .collect();
            object.insert("scenarios".to_owned(), scenarios);
        }
        if let View::Script(_) = view {
            for shortcut in ["vus", "duration", "iterations", "stages"] {
                object.shift_remove(shortcut);
            }
            // No script can set these two, but it can see them.
            object.insert(
                "consoleOutput".to_owned(),
                fields::encode(self.console_output.as_ref()),
            );
            let ranges = |ranges: &Vec<IpRange>| ranges.iter().map(IpRange::to_string).collect();
            object.insert(
                "localIPs".to_owned(),
                self.local_ips.as_ref().map_or(Value::Null, ranges),
            );
        }
        Value::Object(object)
    }
}
