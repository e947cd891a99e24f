//! The types that settings have, each with how it is read from JSON and how it is written back.
//!
//! Reading is as lenient as scripts expect: an integer may be a numeric string, a duration a bare
//! number of milliseconds. What flags and environment variables write as text is read here too,
//! so that a value has one meaning wherever it comes from.

use std::{
    collections::{BTreeMap, BTreeSet},
    fmt,
    net::IpAddr,
};

use serde_json::{Value, json};

use super::fields::{Bad, FieldValue, Fields, decode_strict, encode, fields};
use crate::{
    duration::GoDuration,
    segment::{Segment, Sequence},
};

impl FieldValue for bool {
    fn decode(value: &Value) -> Result<Option<Self>, Bad> {
        value
            .as_bool()
            .map(Some)
            .ok_or_else(|| Bad::type_of(value, "bool"))
    }

    fn encode(&self) -> Value {
        json!(self)
    }
}

impl FieldValue for i64 {
    fn decode(value: &Value) -> Result<Option<Self>, Bad> {
        match value {
            Value::String(text) if text.is_empty() => Ok(None),
            Value::String(text) => parse_int(text).map(Some).map_err(Bad::Value),
            // JavaScript has one number type: 2.0 is an integer, 2.5 is not.
            Value::Number(number) => match (number.as_i64(), number.as_f64()) {
                (Some(int), _) => Ok(Some(int)),
                (None, Some(float)) if float.fract() == 0.0 && float.abs() < 9e15 => {
                    Ok(Some(float as i64))
                }
                _ => Err(Bad::type_of(value, "int64")),
            },
            _ => Err(Bad::type_of(value, "int64")),
        }
    }

    fn encode(&self) -> Value {
        json!(self)
    }
}

/// Reads a decimal integer.
///
/// # Errors
/// `strconv.ParseInt: parsing "abc": invalid syntax`, or `value out of range`.
pub(crate) fn parse_int(text: &str) -> Result<i64, String> {
    use std::num::IntErrorKind::{NegOverflow, PosOverflow};
    text.parse().map_err(|error: std::num::ParseIntError| {
        let reason = match error.kind() {
            PosOverflow | NegOverflow => "value out of range",
            _ => "invalid syntax",
        };
        format!("strconv.ParseInt: parsing {text:?}: {reason}")
    })
}

impl FieldValue for GoDuration {
    fn decode(value: &Value) -> Result<Option<Self>, Bad> {
        Self::from_json(value).map(Some).map_err(Bad::Value)
    }

    fn encode(&self) -> Value {
        json!(self.to_string())
    }
}

impl FieldValue for String {
    fn decode(value: &Value) -> Result<Option<Self>, Bad> {
        let text = value
            .as_str()
            .ok_or_else(|| Bad::type_of(value, "string"))?;
        Ok(Some(text.to_owned()))
    }

    fn encode(&self) -> Value {
        json!(self)
    }
}

impl FieldValue for Vec<String> {
    fn decode(value: &Value) -> Result<Option<Self>, Bad> {
        let list = value
            .as_array()
            .ok_or_else(|| Bad::type_of(value, "[]string"))?;
        list.iter()
            .map(|item| {
                let text = item.as_str().ok_or_else(|| Bad::type_of(item, "string"))?;
                Ok(text.to_owned())
            })
            .collect::<Result<_, _>>()
            .map(Some)
    }

    fn encode(&self) -> Value {
        json!(self)
    }
}

impl FieldValue for BTreeMap<String, String> {
    fn decode(value: &Value) -> Result<Option<Self>, Bad> {
        let object = value
            .as_object()
            .ok_or_else(|| Bad::type_of(value, "map[string]string"))?;
        object
            .iter()
            .map(|(key, item)| {
                let text = item.as_str().ok_or_else(|| Bad::type_of(item, "string"))?;
                Ok((key.clone(), text.to_owned()))
            })
            .collect::<Result<_, _>>()
            .map(Some)
    }

    fn encode(&self) -> Value {
        json!(self)
    }
}

/// Anything: passed through as it is.
impl FieldValue for Value {
    fn decode(value: &Value) -> Result<Option<Self>, Bad> {
        Ok(Some(value.clone()))
    }

    fn encode(&self) -> Value {
        self.clone()
    }
}

impl FieldValue for Segment {
    fn decode(value: &Value) -> Result<Option<Self>, Bad> {
        let text = value
            .as_str()
            .ok_or_else(|| Bad::type_of(value, "string"))?;
        Self::parse(text).map(Some).map_err(Bad::Value)
    }

    fn encode(&self) -> Value {
        json!(self.to_string())
    }
}

impl FieldValue for Sequence {
    fn decode(value: &Value) -> Result<Option<Self>, Bad> {
        let text = value
            .as_str()
            .ok_or_else(|| Bad::type_of(value, "string"))?;
        Self::parse(text).map(Some).map_err(Bad::Value)
    }

    fn encode(&self) -> Value {
        json!(self.to_string())
    }
}

fields! {
    /// A stretch of a ramp: over this time, to this target (VUs, or iterations per time unit).
    Stage {
        /// How long the change takes; 0 is a jump.
        duration: GoDuration = "duration",
        /// What is reached at the end.
        target: i64 = "target",
    }
}

impl Stage {
    /// Reads `duration:target` as flags and `K6_STAGES` write it. An empty duration is unset.
    ///
    /// # Errors
    /// The bare text of the part that failed.
    pub(crate) fn parse(text: &str) -> Result<Self, String> {
        let (duration, target) = text.split_once(':').unwrap_or((text, ""));
        Ok(Self {
            duration: match duration {
                "" => None,
                duration => Some(GoDuration::parse(duration)?),
            },
            target: match target {
                "" => None,
                target => Some(parse_int(target)?),
            },
        })
    }

    fn encode(&self) -> Value {
        let mut object = serde_json::Map::new();
        self.encode_into(&mut object);
        Value::Object(object)
    }
}

fn decode_stages(value: &Value, strict: bool) -> Result<Vec<Stage>, Bad> {
    let list = value
        .as_array()
        .ok_or_else(|| Bad::type_of(value, "[]Stage"))?;
    list.iter()
        .map(|item| {
            let mut stage = Stage::default();
            match item {
                Value::Null => {}
                item if strict => decode_strict(&mut stage, item)?,
                item => {
                    let object = item
                        .as_object()
                        .ok_or_else(|| Bad::type_of(item, "Stage"))?;
                    for (key, value) in object {
                        stage.set(key, value)?;
                    }
                }
            }
            Ok(stage)
        })
        .collect()
}

/// The stages of the `stages` shortcut, whose unknown keys are ignored.
impl FieldValue for Vec<Stage> {
    fn decode(value: &Value) -> Result<Option<Self>, Bad> {
        decode_stages(value, false).map(Some)
    }

    fn encode(&self) -> Value {
        self.iter().map(Stage::encode).collect()
    }
}

/// The stages of a scenario, whose unknown keys are errors.
#[derive(Debug, Clone, Default, PartialEq)]
pub(crate) struct ScenarioStages(pub(crate) Vec<Stage>);

impl FieldValue for ScenarioStages {
    fn decode(value: &Value) -> Result<Option<Self>, Bad> {
        decode_stages(value, true).map(|stages| Some(Self(stages)))
    }

    fn encode(&self) -> Value {
        self.0.encode()
    }
}

/// One threshold of a metric; the metrics crate gives the expression its meaning.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct ThresholdSpec {
    /// The expression as written, `p(95)<500`.
    pub(crate) source: String,
    /// Whether a breach ends the test.
    pub(crate) abort_on_fail: bool,
    /// How much test time must pass before a breach may end the test.
    pub(crate) delay_abort_eval: Option<GoDuration>,
}

fields! {
    ThresholdFields {
        threshold: String = "threshold",
        abort_on_fail: bool = "abortOnFail",
        delay_abort_eval: GoDuration = "delayAbortEval",
    }
}

impl ThresholdSpec {
    fn decode(value: &Value) -> Result<Self, Bad> {
        let fields = match value {
            Value::String(text) => ThresholdFields {
                threshold: Some(text.clone()),
                ..ThresholdFields::default()
            },
            Value::Object(object) => {
                let mut fields = ThresholdFields::default();
                for (key, value) in object {
                    fields.set(key, value)?;
                }
                fields
            }
            _ => return Err(Bad::type_of(value, "threshold")),
        };
        Ok(Self {
            source: fields.threshold.unwrap_or_default(),
            abort_on_fail: fields.abort_on_fail.unwrap_or(false),
            delay_abort_eval: fields.delay_abort_eval,
        })
    }

    /// A threshold that does not abort is written as its bare expression, whatever form it had.
    fn encode(&self) -> Value {
        if !self.abort_on_fail {
            return json!(self.source);
        }
        json!({
            "threshold": self.source,
            "abortOnFail": true,
            "delayAbortEval": encode(self.delay_abort_eval.as_ref()),
        })
    }
}

/// Thresholds by metric name.
pub(crate) type Thresholds = BTreeMap<String, Vec<ThresholdSpec>>;

impl FieldValue for Thresholds {
    fn decode(value: &Value) -> Result<Option<Self>, Bad> {
        let object = value
            .as_object()
            .ok_or_else(|| Bad::type_of(value, "thresholds"))?;
        object
            .iter()
            .map(|(metric, value)| {
                let list = match value {
                    Value::Null => &Vec::new(),
                    value => value
                        .as_array()
                        .ok_or_else(|| Bad::type_of(value, "[]threshold"))?,
                };
                let specs = list.iter().map(ThresholdSpec::decode);
                Ok((metric.clone(), specs.collect::<Result<_, _>>()?))
            })
            .collect::<Result<_, _>>()
            .map(Some)
    }

    fn encode(&self) -> Value {
        self.iter()
            .map(|(metric, specs)| {
                let specs: Value = specs.iter().map(ThresholdSpec::encode).collect();
                (metric.clone(), specs)
            })
            .collect()
    }
}

fields! {
    /// How names are resolved; each part is layered on its own.
    Dns {
        /// How long an answer is kept: a duration, `0` or `inf`, as written.
        ttl: String = "ttl",
        /// Which of several addresses is taken: `first`, `roundRobin` or `random`.
        select: String = "select",
        /// Which address families are wanted, `preferIPv4` for example.
        policy: String = "policy",
    }
}

impl Dns {
    /// Checks the parts that have fixed words.
    fn check_words(&self) -> Result<(), String> {
        for (word, words, kind) in [
            (
                &self.select,
                &["first", "roundRobin", "random"][..],
                "DNSSelect",
            ),
            (
                &self.policy,
                &["preferIPv4", "preferIPv6", "onlyIPv4", "onlyIPv6", "any"][..],
                "DNSPolicy",
            ),
        ] {
            if let Some(word) = word
                && !words.contains(&word.as_str())
            {
                return Err(format!("{word} does not belong to {kind} values"));
            }
        }
        Ok(())
    }

    /// Checks the time to live.
    ///
    /// # Errors
    /// `invalid DNS TTL: foo`
    pub(crate) fn check_ttl(&self) -> Result<(), String> {
        match self.ttl.as_deref() {
            None | Some("inf") => Ok(()),
            Some(ttl) => match GoDuration::parse_extended(ttl) {
                Ok(span) if span >= GoDuration::ZERO => Ok(()),
                _ => Err(format!("invalid DNS TTL: {ttl}")),
            },
        }
    }

    /// Reads `ttl=5m,select=random,policy=preferIPv4`, any part of which may be missing.
    ///
    /// # Errors
    /// A sentence that names the failing part.
    pub(crate) fn parse(text: &str) -> Result<Self, String> {
        let mut dns = Self::default();
        for part in text.split(',').filter(|part| !part.is_empty()) {
            let (key, value) = part
                .split_once('=')
                .ok_or_else(|| format!("no value for key {part}"))?;
            let known = dns.set(key, &json!(value)).unwrap_or(false);
            if !known {
                return Err(format!("unknown DNS configuration field: {key}"));
            }
        }
        dns.check_words()?;
        dns.check_ttl()?;
        Ok(dns)
    }
}

impl FieldValue for Dns {
    fn decode(value: &Value) -> Result<Option<Self>, Bad> {
        let object = value
            .as_object()
            .ok_or_else(|| Bad::type_of(value, "DNSConfig"))?;
        let mut dns = Self::default();
        for (key, value) in object {
            // A ttl in milliseconds is usual, and kept in the form it was written in.
            match (key.as_str(), value) {
                ("ttl", Value::Number(millis)) => dns.ttl = Some(millis.to_string()),
                _ => {
                    dns.set(key, value)?;
                }
            }
        }
        dns.check_words().map_err(Bad::Value)?;
        Ok(Some(dns))
    }

    fn encode(&self) -> Value {
        let mut object = serde_json::Map::new();
        self.encode_into(&mut object);
        Value::Object(object)
    }
}

/// The TLS versions that may be spoken, from `min` to `max`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct TlsVersions {
    /// `tls1.0` to `tls1.3`; empty for any.
    pub(crate) min: String,
    /// `tls1.0` to `tls1.3`; empty for any.
    pub(crate) max: String,
}

impl FieldValue for TlsVersions {
    fn decode(value: &Value) -> Result<Option<Self>, Bad> {
        let versions = match value {
            Value::String(both) => Self {
                min: both.clone(),
                max: both.clone(),
            },
            Value::Object(object) => {
                let part = |key| match object.get(key) {
                    None | Some(Value::Null) => Ok(String::new()),
                    Some(Value::String(text)) => Ok(text.clone()),
                    Some(other) => Err(Bad::type_of(other, "string")),
                };
                Self {
                    min: part("min")?,
                    max: part("max")?,
                }
            }
            _ => return Err(Bad::type_of(value, "TLSVersions")),
        };
        for version in [&versions.min, &versions.max] {
            if !["", "tls1.0", "tls1.1", "tls1.2", "tls1.3"].contains(&version.as_str()) {
                return Err(Bad::Value(format!("unknown TLS version '{version}'")));
            }
        }
        Ok(Some(versions))
    }

    fn encode(&self) -> Value {
        json!({"min": self.min, "max": self.max})
    }
}

/// Cipher suites by their IANA numbers; the names are those scripts use.
const CIPHER_SUITES: &[(u16, &str)] = &[
    (0x0005, "TLS_RSA_WITH_RC4_128_SHA"),
    (0x000a, "TLS_RSA_WITH_3DES_EDE_CBC_SHA"),
    (0x002f, "TLS_RSA_WITH_AES_128_CBC_SHA"),
    (0x0035, "TLS_RSA_WITH_AES_256_CBC_SHA"),
    (0x003c, "TLS_RSA_WITH_AES_128_CBC_SHA256"),
    (0x009c, "TLS_RSA_WITH_AES_128_GCM_SHA256"),
    (0x009d, "TLS_RSA_WITH_AES_256_GCM_SHA384"),
    (0x1301, "TLS_AES_128_GCM_SHA256"),
    (0x1302, "TLS_AES_256_GCM_SHA384"),
    (0x1303, "TLS_CHACHA20_POLY1305_SHA256"),
    (0xc007, "TLS_ECDHE_ECDSA_WITH_RC4_128_SHA"),
    (0xc009, "TLS_ECDHE_ECDSA_WITH_AES_128_CBC_SHA"),
    (0xc00a, "TLS_ECDHE_ECDSA_WITH_AES_256_CBC_SHA"),
    (0xc011, "TLS_ECDHE_RSA_WITH_RC4_128_SHA"),
    (0xc012, "TLS_ECDHE_RSA_WITH_3DES_EDE_CBC_SHA"),
    (0xc013, "TLS_ECDHE_RSA_WITH_AES_128_CBC_SHA"),
    (0xc014, "TLS_ECDHE_RSA_WITH_AES_256_CBC_SHA"),
    (0xc023, "TLS_ECDHE_ECDSA_WITH_AES_128_CBC_SHA256"),
    (0xc027, "TLS_ECDHE_RSA_WITH_AES_128_CBC_SHA256"),
    (0xc02b, "TLS_ECDHE_ECDSA_WITH_AES_128_GCM_SHA256"),
    (0xc02c, "TLS_ECDHE_ECDSA_WITH_AES_256_GCM_SHA384"),
    (0xc02f, "TLS_ECDHE_RSA_WITH_AES_128_GCM_SHA256"),
    (0xc030, "TLS_ECDHE_RSA_WITH_AES_256_GCM_SHA384"),
    (0xcca8, "TLS_ECDHE_RSA_WITH_CHACHA20_POLY1305"),
    (0xcca8, "TLS_ECDHE_RSA_WITH_CHACHA20_POLY1305_SHA256"),
    (0xcca9, "TLS_ECDHE_ECDSA_WITH_CHACHA20_POLY1305"),
    (0xcca9, "TLS_ECDHE_ECDSA_WITH_CHACHA20_POLY1305_SHA256"),
];

/// The cipher suites that may be spoken, by name.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct CipherSuites(pub(crate) Vec<String>);

impl CipherSuites {
    /// Reads comma-separated numeric ids, the form of `K6_TLS_CIPHER_SUITES`.
    ///
    /// # Errors
    /// `unknown cipher suite '7'`
    pub(crate) fn parse_ids(text: &str) -> Result<Self, String> {
        text.split(',')
            .map(|id| {
                CIPHER_SUITES
                    .iter()
                    .find(|(number, _)| id.trim().parse() == Ok(*number))
                    .map(|(_, name)| (*name).to_owned())
                    .ok_or_else(|| format!("unknown cipher suite '{id}'"))
            })
            .collect::<Result<_, _>>()
            .map(Self)
    }
}

impl FieldValue for CipherSuites {
    fn decode(value: &Value) -> Result<Option<Self>, Bad> {
        let Some(names) = Vec::<String>::decode(value)? else {
            return Ok(None);
        };
        let known = |name: &String| CIPHER_SUITES.iter().any(|(_, known)| known == name);
        match names.iter().find(|name| !known(name)) {
            Some(name) => Err(Bad::Value(format!("unknown cipher suite '{name}'"))),
            None => Ok(Some(Self(names))),
        }
    }

    fn encode(&self) -> Value {
        json!(self.0)
    }
}

fields! {
    /// A client certificate and the domains it is shown to.
    TlsAuth {
        /// PEM text.
        cert: String = "cert",
        /// PEM text.
        key: String = "key",
        /// Opens an encrypted key.
        password: String = "password",
        /// Host names or `*.` patterns; none means every host.
        domains: Vec<String> = "domains",
    }
}

impl FieldValue for Vec<TlsAuth> {
    fn decode(value: &Value) -> Result<Option<Self>, Bad> {
        let list = value
            .as_array()
            .ok_or_else(|| Bad::type_of(value, "[]TLSAuth"))?;
        list.iter()
            .map(|item| {
                let object = item
                    .as_object()
                    .ok_or_else(|| Bad::type_of(item, "TLSAuth"))?;
                let mut auth = TlsAuth::default();
                for (key, value) in object {
                    auth.set(key, value)?;
                }
                Ok(auth)
            })
            .collect::<Result<_, _>>()
            .map(Some)
    }

    fn encode(&self) -> Value {
        self.iter()
            .map(|auth| {
                let mut object = serde_json::Map::new();
                auth.encode_into(&mut object);
                Value::Object(object)
            })
            .collect()
    }
}

/// A block of IP addresses.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Cidr {
    /// The first address of the block.
    pub(crate) first: IpAddr,
    /// How many leading bits are fixed.
    pub(crate) prefix: u8,
}

impl Cidr {
    /// Reads `10.0.0.0/8`; host bits are cleared.
    ///
    /// # Errors
    /// `invalid CIDR address: foo`
    pub(crate) fn parse(text: &str) -> Result<Self, String> {
        Self::read(text).ok_or_else(|| format!("invalid CIDR address: {text}"))
    }

    fn read(text: &str) -> Option<Self> {
        let (address, prefix) = text.split_once('/')?;
        if prefix.is_empty() || !prefix.bytes().all(|b| b.is_ascii_digit()) {
            return None;
        }
        let prefix: u8 = prefix.parse().ok()?;
        let first = match address.parse().ok()? {
            IpAddr::V4(address) => {
                let kept = u32::MAX.checked_shl(32_u32.checked_sub(prefix.into())?);
                IpAddr::V4((address.to_bits() & kept.unwrap_or(0)).into())
            }
            IpAddr::V6(address) => {
                let kept = u128::MAX.checked_shl(128_u32.checked_sub(prefix.into())?);
                IpAddr::V6((address.to_bits() & kept.unwrap_or(0)).into())
            }
        };
        Some(Self { first, prefix })
    }

    /// Its last address.
    fn last(&self) -> IpAddr {
        match self.first {
            IpAddr::V4(first) => {
                let open = u32::MAX.checked_shr(self.prefix.into()).unwrap_or(0);
                IpAddr::V4((first.to_bits() | open).into())
            }
            IpAddr::V6(first) => {
                let open = u128::MAX.checked_shr(self.prefix.into()).unwrap_or(0);
                IpAddr::V6((first.to_bits() | open).into())
            }
        }
    }
}

impl fmt::Display for Cidr {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.first, self.prefix)
    }
}

impl FieldValue for Vec<Cidr> {
    fn decode(value: &Value) -> Result<Option<Self>, Bad> {
        let texts = Vec::<String>::decode(value)?.unwrap_or_default();
        texts
            .iter()
            .map(|text| Cidr::parse(text).map_err(Bad::Value))
            .collect::<Result<_, _>>()
            .map(Some)
    }

    fn encode(&self) -> Value {
        self.iter().map(Cidr::to_string).collect()
    }
}

/// A range of addresses to send from.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct IpRange {
    /// The first address.
    pub(crate) first: IpAddr,
    /// The last address, included.
    pub(crate) last: IpAddr,
}

impl IpRange {
    /// Reads an address, `first-last`, or a CIDR block.
    ///
    /// # Errors
    /// `foo is not a valid IP, IP range or CIDR`
    pub(crate) fn parse(text: &str) -> Result<Self, String> {
        let read = || {
            if let Ok(cidr) = Cidr::parse(text) {
                return Some(Self {
                    first: cidr.first,
                    last: cidr.last(),
                });
            }
            let (first, last) = text.split_once('-').unwrap_or((text, text));
            let range = Self {
                first: first.parse().ok()?,
                last: last.parse().ok()?,
            };
            (range.first.is_ipv4() == range.last.is_ipv4() && range.first <= range.last)
                .then_some(range)
        };
        read().ok_or_else(|| format!("{text} is not a valid IP, IP range or CIDR"))
    }
}

impl fmt::Display for IpRange {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}-{}", self.first, self.last)
    }
}

/// Host names, of which a leading `*.` stands for any labels.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct HostPatterns(pub(crate) Vec<String>);

/// Checks a host pattern.
///
/// # Errors
/// `invalid hostname pattern 'a*b'`
pub(crate) fn check_host_pattern(pattern: &str) -> Result<(), String> {
    let rest = pattern.strip_prefix('*').unwrap_or(pattern);
    let rest = rest.strip_prefix('.').unwrap_or(rest);
    let valid = if rest.is_empty() {
        pattern == "*"
    } else {
        rest.split('.').all(|label| {
            !label.is_empty()
                && label
                    .chars()
                    .all(|c| c.is_alphanumeric() || c == '-' || c == '_')
        })
    };
    if valid {
        Ok(())
    } else {
        Err(format!("invalid hostname pattern '{pattern}'"))
    }
}

impl HostPatterns {
    /// Takes patterns that have been checked.
    ///
    /// # Errors
    /// The text of [`check_host_pattern`].
    pub(crate) fn new(patterns: Vec<String>) -> Result<Self, String> {
        patterns.iter().try_for_each(|p| check_host_pattern(p))?;
        Ok(Self(patterns))
    }
}

impl FieldValue for HostPatterns {
    fn decode(value: &Value) -> Result<Option<Self>, Bad> {
        let patterns = Vec::<String>::decode(value)?.unwrap_or_default();
        Self::new(patterns).map(Some).map_err(Bad::Value)
    }

    fn encode(&self) -> Value {
        json!(self.0)
    }
}

/// Overrides of name resolution: host pattern (with an optional port) to `ip[:port]`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Hosts(pub(crate) BTreeMap<String, String>);

impl FieldValue for Hosts {
    fn decode(value: &Value) -> Result<Option<Self>, Bad> {
        let hosts = BTreeMap::<String, String>::decode(value)?.unwrap_or_default();
        for pattern in hosts.keys() {
            let host = match pattern.rsplit_once(':') {
                Some((host, port)) if port.parse::<u16>().is_ok() => host,
                _ => pattern,
            };
            check_host_pattern(host).map_err(Bad::Value)?;
        }
        Ok(Some(Self(hosts)))
    }

    fn encode(&self) -> Value {
        json!(self.0)
    }
}

/// Which built-in tags samples carry, sorted.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct SystemTags(pub(crate) BTreeSet<String>);

impl SystemTags {
    /// Carried unless the options say otherwise.
    pub(crate) const DEFAULT: [&'static str; 14] = [
        "check",
        "error",
        "error_code",
        "expected_response",
        "group",
        "method",
        "name",
        "proto",
        "scenario",
        "service",
        "status",
        "subproto",
        "tls_version",
        "url",
    ];
    /// Carried only on request.
    const OPTIONAL: [&'static str; 4] = ["ip", "iter", "ocsp_status", "vu"];

    /// Keeps the names that exist; others are dropped silently.
    pub(crate) fn new<T: AsRef<str>>(names: impl IntoIterator<Item = T>) -> Self {
        let known = |name: &str| Self::DEFAULT.contains(&name) || Self::OPTIONAL.contains(&name);
        let names = names.into_iter().map(|name| name.as_ref().to_owned());
        Self(names.filter(|name| known(name)).collect())
    }
}

impl Default for SystemTags {
    fn default() -> Self {
        Self::new(Self::DEFAULT)
    }
}

impl FieldValue for SystemTags {
    fn decode(value: &Value) -> Result<Option<Self>, Bad> {
        Ok(Vec::<String>::decode(value)?.map(Self::new))
    }

    fn encode(&self) -> Value {
        json!(self.0)
    }
}

/// The columns of trends in the summary.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct TrendStats(pub(crate) Vec<String>);

impl TrendStats {
    /// Checks that every name is `avg min med max count` or a percentile `p(N)`.
    ///
    /// # Errors
    /// `invalid trend stat 'foo', unknown format`
    pub(crate) fn check(&self) -> Result<(), String> {
        let known = |name: &str| {
            ["avg", "min", "med", "max", "count"].contains(&name)
                || name
                    .strip_prefix("p(")
                    .and_then(|rest| rest.strip_suffix(')'))
                    .and_then(|number| number.parse::<f64>().ok())
                    .is_some_and(|percent| (0.0..=100.0).contains(&percent))
        };
        match self.0.iter().find(|name| !known(name)) {
            Some(name) => Err(format!("invalid trend stat '{name}', unknown format")),
            None => Ok(()),
        }
    }
}

impl Default for TrendStats {
    fn default() -> Self {
        Self(
            ["avg", "min", "med", "max", "p(90)", "p(95)"]
                .map(str::to_owned)
                .into(),
        )
    }
}

impl FieldValue for TrendStats {
    fn decode(value: &Value) -> Result<Option<Self>, Bad> {
        Ok(Vec::<String>::decode(value)?.map(Self))
    }

    fn encode(&self) -> Value {
        json!(self.0)
    }
}
