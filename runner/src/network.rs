//! From the options of a test to the settings of the network engine.

use std::{collections::BTreeMap, time::Duration};

use volley_net::{Cidr, ClientConfig, Dns, HostMap, Identity, LocalIps, Pace, Proxies, TlsVersion};

use crate::{
    duration::GoDuration,
    options::{self, OptionError, Options},
};

/// What requests say they come from, unless the options say otherwise. Servers that look for k6
/// find it.
pub(crate) const USER_AGENT: &str = concat!(
    "Volley/",
    env!("CARGO_PKG_VERSION"),
    " (compatible; Grafana k6/2.2.0)"
);

/// How long connections take new requests, and how long they are kept between two.
const LIFETIME: &str = "VOLLEY_CONNECTION_LIFETIME";
const IDLE: &str = "VOLLEY_CONNECTION_IDLE";

/// The settings for all clients of a test.
///
/// # Errors
/// A value that means nothing to the engine; 104.
pub(crate) fn config(
    options: &Options,
    env: &BTreeMap<String, String>,
) -> Result<ClientConfig, OptionError> {
    let limit = |value: Option<i64>, default: usize| {
        value.map_or(default, |value| usize::try_from(value).unwrap_or(0))
    };
    let mut hosts = HostMap::default();
    for (pattern, address) in options.hosts.iter().flat_map(|hosts| &hosts.0) {
        hosts
            .insert(pattern, address)
            .map_err(OptionError::config)?;
    }
    let ranges = options.blacklist_ips.iter().flatten();
    let ranges = ranges.map(|range| range.to_string().parse::<Cidr>());
    let patterns = options
        .block_hostnames
        .iter()
        .flat_map(|patterns| &patterns.0);
    let version = |text: &str| match text {
        "" => Ok(None),
        text => text
            .parse::<TlsVersion>()
            .map(Some)
            .map_err(OptionError::config),
    };
    let (tls_min, tls_max) = match &options.tls_version {
        Some(versions) => (version(&versions.min)?, version(&versions.max)?),
        None => (None, None),
    };
    let mut config = ClientConfig::default();
    config.connection_lifetime = limit_of(LIFETIME, env)?;
    config.connection_idle = limit_of(IDLE, env)?;
    let agent = options.user_agent.clone();
    config.user_agent = Some(agent.unwrap_or_else(|| USER_AGENT.to_owned()));
    config.insecure_skip_tls_verify = options.insecure_skip_tls_verify.unwrap_or(false);
    config.no_connection_reuse = options.no_connection_reuse.unwrap_or(false);
    config.max_idle = limit(options.batch, config.max_idle);
    config.max_idle_per_host = limit(options.batch_per_host, config.max_idle_per_host);
    if let Some(dns) = &options.dns {
        config.dns = name_service(dns).map_err(OptionError::config)?;
    }
    let local = options.local_ips.iter().flatten();
    config.local_ips = LocalIps::new(local.map(|range| (range.first, range.last)));
    config.proxies = Proxies::from_env(|name| env.get(name).cloned());
    config.pace = options
        .rps
        .and_then(|rps| u64::try_from(rps).ok())
        .filter(|rps| *rps > 0)
        .map(Pace::new);
    config.hosts = hosts;
    config.blacklist_ips = ranges
        .collect::<Result<_, _>>()
        .map_err(OptionError::config)?;
    config.block_hostnames = patterns.cloned().collect();
    (config.tls_min, config.tls_max) = (tls_min, tls_max);
    let suites = options.tls_cipher_suites.iter();
    config.cipher_suites = suites.flat_map(|suites| suites.0.clone()).collect();
    // Without suites there is no contradiction that single requests do not tell better.
    if !config.cipher_suites.is_empty() {
        config.check_tls().map_err(OptionError::config)?;
    }
    let identities = options.tls_auth.iter().flatten().map(identity);
    config.identities = identities
        .collect::<Result<_, _>>()
        .map_err(OptionError::config)?;
    Ok(config)
}

/// A limit that the environment sets; none of it, and a duration of 0, are none.
fn limit_of(name: &str, env: &BTreeMap<String, String>) -> Result<Option<Duration>, OptionError> {
    let Some(text) = env.get(name).filter(|text| !text.is_empty()) else {
        return Ok(None);
    };
    let limit = GoDuration::parse_extended(text).map(GoDuration::to_std);
    let limit = limit.map_err(|_| {
        let text = format!("{name} has to be a duration, such as 5m or 90s, not '{text}'");
        OptionError::config(text)
    })?;
    Ok(Some(limit).filter(|limit| !limit.is_zero()))
}

fn identity(auth: &options::TlsAuth) -> Result<Identity, String> {
    let text = |part: &Option<String>| part.clone().unwrap_or_default();
    let password = auth.password.as_deref().filter(|word| !word.is_empty());
    let domains = auth.domains.clone().unwrap_or_default();
    Identity::from_pem(&text(&auth.cert), &text(&auth.key), password, domains)
}

fn name_service(dns: &options::Dns) -> Result<Dns, String> {
    let mut read = Dns::default();
    match dns.ttl.as_deref() {
        None => {}
        Some("inf") => read.ttl = Duration::MAX,
        Some(ttl) => read.ttl = GoDuration::parse_extended(ttl)?.to_std(),
    }
    if let Some(select) = &dns.select {
        read.select = select.parse()?;
    }
    if let Some(policy) = &dns.policy {
        read.policy = policy.parse()?;
    }
    Ok(read)
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use volley_net::{Policy, Select};

    use super::*;

    fn of(options: serde_json::Value) -> Result<ClientConfig, OptionError> {
        let (options, _) = Options::from_script(&options).expect("options");
        config(&options, &BTreeMap::new())
    }

    #[test]
    fn options_reach_the_engine() {
        let config = of(json!({
            "userAgent": "me", "batch": 7, "batchPerHost": 0, "dns": {"ttl": "1m", "select": "roundRobin", "policy": "any"},
            "hosts": {"a.test": "127.0.0.1:8080"}, "blacklistIPs": ["10.0.0.0/8"],
            "blockHostnames": ["*.bad.test"], "tlsVersion": {"min": "tls1.2", "max": "tls1.3"},
            "insecureSkipTLSVerify": true, "noConnectionReuse": true,
        }))
        .expect("a configuration");
        assert_eq!(config.user_agent.as_deref(), Some("me"));
        assert_eq!((config.max_idle, config.max_idle_per_host), (7, 0));
        assert_eq!(config.dns.ttl.as_secs(), 60);
        assert_eq!(
            (config.dns.select, config.dns.policy),
            (Select::RoundRobin, Policy::Any)
        );
        assert_eq!(
            config.hosts.lookup("a.test", 80).map(|a| a.to_string()),
            Some("127.0.0.1:8080".into())
        );
        assert_eq!(config.blacklist_ips.len(), 1);
        assert_eq!(config.block_hostnames, ["*.bad.test"]);
        assert_eq!(
            (config.tls_min, config.tls_max),
            (Some(TlsVersion::Tls12), Some(TlsVersion::Tls13))
        );
        assert!(config.insecure_skip_tls_verify && config.no_connection_reuse);
    }

    #[test]
    fn limits_of_zero_are_none() {
        assert!(of(json!({"rps": 0})).is_ok_and(|config| config.pace.is_none()));
        assert!(of(json!({"rps": 5})).is_ok_and(|config| config.pace.is_some()));
    }

    #[test]
    fn the_environment_limits_the_life_of_connections() {
        let with = |value: &str| {
            let set = |name: &&str| ((*name).to_owned(), value.to_owned());
            let env = [LIFETIME, IDLE].iter().map(set).collect();
            config(&Options::default(), &env)
                .map(|config| (config.connection_lifetime, config.connection_idle))
        };
        let minute = Some(Duration::from_secs(60));
        assert_eq!(with("1m").expect("a limit"), (minute, minute));
        assert_eq!(with("60000").expect("a limit"), (minute, minute));
        for none in ["", "0", "-5s"] {
            assert_eq!(with(none).expect("no limit"), (None, None), "{none}");
        }
        let error = with("soon").expect_err("no duration");
        assert_eq!(
            (error.text.as_str(), error.exit),
            (
                "VOLLEY_CONNECTION_LIFETIME has to be a duration, such as 5m or 90s, not 'soon'",
                104
            )
        );
    }

    #[test]
    fn tls_that_cannot_work_is_refused() {
        for (options, text) in [
            (
                json!({"tlsCipherSuites": ["TLS_RSA_WITH_RC4_128_SHA"], "tlsVersion": "tls1.2"}),
                "tls: none of the cipher suites TLS_RSA_WITH_RC4_128_SHA is supported",
            ),
            (
                json!({"tlsAuth": [{"cert": "", "key": ""}]}),
                "tls: failed to find any PEM data in certificate input",
            ),
        ] {
            let error = of(options.clone()).expect_err("refused");
            assert_eq!((error.text.as_str(), error.exit), (text, 104), "{options}");
        }
        let both = json!({"tlsCipherSuites": [
            "TLS_RSA_WITH_RC4_128_SHA", "TLS_ECDHE_RSA_WITH_CHACHA20_POLY1305"
        ], "tlsVersion": "tls1.2"});
        assert!(of(both).is_ok());
    }
}
