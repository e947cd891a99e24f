//! How requests of a whole test are made: built once from the options, shared by every client.

use std::{
    collections::HashMap,
    fmt,
    net::{IpAddr, SocketAddr},
    str::FromStr,
    sync::{Arc, Mutex, OnceLock},
    time::Duration,
};

use crate::{pace::Pace, proxy::Proxies, tls::Identity};

/// Settings shared by all clients of a test. Start from [`ClientConfig::default`] and assign
/// fields; then share it in an `Arc`.
#[derive(Debug)]
pub struct ClientConfig {
    /// `User-Agent` of requests that do not set their own; `None` or empty sends none.
    pub user_agent: Option<String>,
    /// Accepts any server certificate (`insecureSkipTLSVerify`).
    pub insecure_skip_tls_verify: bool,
    /// Opens a connection for every request, and says so with `Connection: close`.
    pub no_connection_reuse: bool,
    /// Idle connections one client keeps, and requests of [`crate::Client::send_all`] at a time,
    /// over all hosts (k6: option `batch`); 0 is no limit.
    pub max_idle: usize,
    /// The same for one host (k6: `batchPerHost`); 0 is no limit.
    pub max_idle_per_host: usize,
    /// How long a connection takes new requests after it was opened; each is given up to a tenth
    /// less, so that they do not all end together. `None` is no limit.
    pub connection_lifetime: Option<Duration>,
    /// How long a connection that waits for its next request is good for it. `None` is no limit.
    pub connection_idle: Option<Duration>,
    /// How names become addresses.
    pub dns: Dns,
    /// Addresses to send from; one client uses one of them.
    pub local_ips: LocalIps,
    /// Proxies to go through.
    pub proxies: Proxies,
    /// How long the connection of one address may take.
    pub dial_timeout: Duration,
    /// Addresses to use instead of asking the name service (`hosts`).
    pub hosts: HostMap,
    /// Ranges never to connect to (`blacklistIPs`).
    pub blacklist_ips: Vec<Cidr>,
    /// Host names never to connect to, each exact or with a leading `*.` (`blockHostnames`).
    pub block_hostnames: Vec<String>,
    /// Oldest TLS version to offer; `None` is the library's oldest, 1.2.
    pub tls_min: Option<TlsVersion>,
    /// Newest TLS version to offer; `None` is 1.3.
    pub tls_max: Option<TlsVersion>,
    /// The only suites of TLS 1.2 to offer, by their IANA names (`tlsCipherSuites`); those of TLS 1.3
    /// cannot be chosen. None at all is the library's choice.
    pub cipher_suites: Vec<String>,
    /// Certificates to show to servers that ask for one (`tlsAuth`).
    pub identities: Vec<Identity>,
    /// Certificates (DER) trusted besides the system's.
    pub extra_roots: Vec<Vec<u8>>,
    /// The limit of requests per second, for all clients together (`rps`).
    pub pace: Option<Pace>,
    /// Made by the first TLS connection: reading the system's certificates takes milliseconds,
    /// and a test against plain HTTP should not pay for it.
    pub(crate) tls: OnceLock<Result<Arc<rustls::ClientConfig>, String>>,
    /// The same with each choice of identities that some host has needed.
    pub(crate) tls_with: Mutex<HashMap<Vec<usize>, Arc<rustls::ClientConfig>>>,
}

impl Default for ClientConfig {
    fn default() -> Self {
        Self {
            user_agent: None,
            insecure_skip_tls_verify: false,
            no_connection_reuse: false,
            max_idle: 20,
            max_idle_per_host: 6,
            connection_lifetime: None,
            connection_idle: None,
            dns: Dns::default(),
            local_ips: LocalIps::default(),
            proxies: Proxies::default(),
            dial_timeout: Duration::from_secs(30),
            hosts: HostMap::default(),
            blacklist_ips: Vec::new(),
            block_hostnames: Vec::new(),
            tls_min: None,
            tls_max: None,
            cipher_suites: Vec::new(),
            identities: Vec::new(),
            extra_roots: Vec::new(),
            pace: None,
            tls: OnceLock::new(),
            tls_with: Mutex::default(),
        }
    }
}

impl ClientConfig {
    /// The pattern of `block_hostnames` that matches this host.
    pub(crate) fn blocked(&self, host: &str) -> Option<&str> {
        self.block_hostnames
            .iter()
            .map(String::as_str)
            .find(|pattern| matches(pattern, host))
    }

    /// The range of `blacklist_ips` that holds this address.
    pub(crate) fn blacklisted(&self, ip: IpAddr) -> Option<&Cidr> {
        self.blacklist_ips.iter().find(|range| range.contains(ip))
    }
}

/// Whether a host pattern (exact, or with a leading `*`) matches, case aside.
pub(crate) fn matches(pattern: &str, host: &str) -> bool {
    match pattern.strip_prefix('*') {
        Some(tail) => {
            host.len() >= tail.len()
                && host.is_char_boundary(host.len() - tail.len())
                && host[host.len() - tail.len()..].eq_ignore_ascii_case(tail)
        }
        None => pattern.eq_ignore_ascii_case(host),
    }
}

/// How a name becomes an address (`dns`).
#[derive(Clone, Copy, Debug)]
pub struct Dns {
    /// How long an answer of the name service is used, by all clients of the process.
    pub ttl: Duration,
    /// Which of several addresses is taken.
    pub select: Select,
    /// Which kinds of addresses are.
    pub policy: Policy,
}

impl Default for Dns {
    fn default() -> Self {
        Self {
            ttl: Duration::from_secs(300),
            select: Select::Random,
            policy: Policy::PreferIpv4,
        }
    }
}

/// Which of several addresses is taken.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Select {
    /// The first of the answer.
    First,
    /// Each in its turn, over all clients.
    RoundRobin,
    /// Any.
    Random,
}

impl FromStr for Select {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        Ok(match text {
            "first" => Self::First,
            "roundRobin" => Self::RoundRobin,
            "random" => Self::Random,
            other => return Err(format!("{other} does not belong to DNSSelect values")),
        })
    }
}

/// Which kinds of addresses are taken.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Policy {
    /// IPv6 only where there is no IPv4.
    PreferIpv4,
    /// IPv4 only where there is no IPv6.
    PreferIpv6,
    /// IPv4.
    OnlyIpv4,
    /// IPv6.
    OnlyIpv6,
    /// Both.
    Any,
}

impl FromStr for Policy {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        Ok(match text {
            "preferIPv4" => Self::PreferIpv4,
            "preferIPv6" => Self::PreferIpv6,
            "onlyIPv4" => Self::OnlyIpv4,
            "onlyIPv6" => Self::OnlyIpv6,
            "any" => Self::Any,
            other => return Err(format!("{other} does not belong to DNSPolicy values")),
        })
    }
}

/// Addresses to send from (`localIPs`): ranges, both ends included.
#[derive(Clone, Debug, Default)]
pub struct LocalIps(Vec<(IpAddr, IpAddr)>);

impl LocalIps {
    /// These ranges; in each both ends are of one kind and in order.
    pub fn new(ranges: impl IntoIterator<Item = (IpAddr, IpAddr)>) -> Self {
        Self(ranges.into_iter().collect())
    }

    /// The address of the client with this number: they go round.
    pub(crate) fn of(&self, number: u64) -> Option<IpAddr> {
        let bits = |ip: IpAddr| match ip {
            IpAddr::V4(ip) => u128::from(u32::from(ip)),
            IpAddr::V6(ip) => u128::from(ip),
        };
        let size = |(first, last): &(IpAddr, IpAddr)| {
            bits(*last).saturating_sub(bits(*first)).saturating_add(1)
        };
        let all = self
            .0
            .iter()
            .fold(0, |all: u128, range| all.saturating_add(size(range)));
        let mut left = u128::from(number).checked_rem(all)?;
        for range in &self.0 {
            if left < size(range) {
                let bits = bits(range.0) + left;
                return Some(match range.0 {
                    IpAddr::V4(_) => IpAddr::V4(u32::try_from(bits).ok()?.into()),
                    IpAddr::V6(_) => IpAddr::V6(bits.into()),
                });
            }
            left -= size(range);
        }
        None
    }
}

/// TLS protocol versions as scripts name them (`tls1.2`).
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum TlsVersion {
    /// TLS 1.0; known by name only, the library does not speak it.
    Tls10,
    /// TLS 1.1; known by name only, the library does not speak it.
    Tls11,
    /// TLS 1.2.
    Tls12,
    /// TLS 1.3.
    Tls13,
}

impl TlsVersion {
    /// The script's name for it.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Tls10 => "tls1.0",
            Self::Tls11 => "tls1.1",
            Self::Tls12 => "tls1.2",
            Self::Tls13 => "tls1.3",
        }
    }
}

impl FromStr for TlsVersion {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        [Self::Tls10, Self::Tls11, Self::Tls12, Self::Tls13]
            .into_iter()
            .find(|version| version.as_str() == text)
            .ok_or_else(|| format!("unknown TLS version '{text}'"))
    }
}

/// A range of addresses, `10.0.0.0/8`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Cidr {
    base: IpAddr,
    bits: u8,
}

impl Cidr {
    /// Whether the address lies in the range; an IPv4 address written in IPv6 form counts as
    /// IPv4.
    pub fn contains(&self, ip: IpAddr) -> bool {
        match (self.base, ip.to_canonical()) {
            (IpAddr::V4(base), IpAddr::V4(ip)) => same_prefix(
                u128::from(u32::from(base)),
                u128::from(u32::from(ip)),
                32 - self.bits,
            ),
            (IpAddr::V6(base), IpAddr::V6(ip)) => {
                same_prefix(u128::from(base), u128::from(ip), 128 - self.bits)
            }
            _ => false,
        }
    }
}

fn same_prefix(a: u128, b: u128, free: u8) -> bool {
    // A shift by the whole width is an overflow, and then every address is inside.
    (a ^ b).checked_shr(u32::from(free)).unwrap_or(0) == 0
}

impl FromStr for Cidr {
    type Err = String;

    /// Reads `address/bits`; the address is cut to its range (`10.1.2.3/8` is `10.0.0.0/8`).
    fn from_str(text: &str) -> Result<Self, String> {
        let fail = || format!("invalid CIDR address: {text}");
        let (base, bits) = text.split_once('/').ok_or_else(fail)?;
        let base: IpAddr = base.parse().map_err(|_| fail())?;
        let width = if base.is_ipv4() { 32 } else { 128 };
        if bits.is_empty() || !bits.bytes().all(|b| b.is_ascii_digit()) {
            return Err(fail());
        }
        let bits: u8 = bits
            .parse()
            .ok()
            .filter(|bits| *bits <= width)
            .ok_or_else(fail)?;
        let base = match base {
            IpAddr::V4(ip) => {
                let mask = u32::MAX.checked_shl(u32::from(width - bits)).unwrap_or(0);
                IpAddr::from((u32::from(ip) & mask).to_be_bytes())
            }
            IpAddr::V6(ip) => {
                let mask = u128::MAX.checked_shl(u32::from(width - bits)).unwrap_or(0);
                IpAddr::from((u128::from(ip) & mask).to_be_bytes())
            }
        };
        Ok(Self { base, bits })
    }
}

impl fmt::Display for Cidr {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.base, self.bits)
    }
}

/// Host patterns and the addresses that stand in for them (`hosts`).
///
/// A pattern is `host` or `host:port`, either with a leading `*`. The exact pattern wins over a
/// wildcard, one with the port over one without, a longer wildcard over a shorter.
#[derive(Clone, Debug, Default)]
pub struct HostMap {
    rows: Vec<HostRow>,
}

#[derive(Clone, Debug)]
struct HostRow {
    host: String,
    port: Option<u16>,
    ip: IpAddr,
    to_port: Option<u16>,
}

impl HostMap {
    /// Whether nothing is mapped.
    pub fn is_empty(&self) -> bool {
        self.rows.is_empty()
    }

    /// Maps a pattern to `ip` or `ip:port` (`[v6]:port`).
    ///
    /// # Errors
    /// What is wrong with the pattern or the address.
    pub fn insert(&mut self, pattern: &str, address: &str) -> Result<(), String> {
        let (host, port) = match pattern.rsplit_once(':') {
            Some((host, port)) if !host.contains(':') => {
                let port = port
                    .parse()
                    .map_err(|_| format!("invalid host pattern '{pattern}'"))?;
                (host, Some(port))
            }
            _ => (pattern, None),
        };
        if host.is_empty() || host.trim_start_matches('*').contains('*') || host.starts_with("**") {
            return Err(format!("invalid host pattern '{pattern}'"));
        }
        let (ip, to_port) = if let Ok(ip) = address.parse::<IpAddr>() {
            (ip, None)
        } else if let Ok(address) = address.parse::<SocketAddr>() {
            (address.ip(), Some(address.port()))
        } else {
            return Err(format!(
                "invalid IP address '{address}' for host '{pattern}'"
            ));
        };
        self.rows.push(HostRow {
            host: host.to_ascii_lowercase(),
            port,
            ip,
            to_port,
        });
        Ok(())
    }

    /// The address that stands in for this host and port.
    pub fn lookup(&self, host: &str, port: u16) -> Option<SocketAddr> {
        self.rows
            .iter()
            .filter(|row| row.port.is_none_or(|p| p == port) && matches(&row.host, host))
            .max_by_key(|row| {
                (
                    !row.host.starts_with('*'),
                    row.port.is_some(),
                    row.host.len(),
                )
            })
            .map(|row| SocketAddr::new(row.ip, row.to_port.unwrap_or(port)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ranges_hold_their_addresses_and_no_others() {
        let holds = |range: &str, ip: &str| {
            range
                .parse::<Cidr>()
                .expect(range)
                .contains(ip.parse().expect(ip))
        };
        assert!(holds("10.0.0.0/8", "10.255.1.2"));
        assert!(!holds("10.0.0.0/8", "11.0.0.1"));
        assert!(holds("10.0.0.0/8", "::ffff:10.1.1.1"));
        assert!(holds("0.0.0.0/0", "203.0.113.9"));
        assert!(!holds("0.0.0.0/0", "::1"));
        assert!(holds("::/0", "2001:db8::1"));
        assert!(holds("2001:db8::/33", "2001:db8:7fff::1"));
        assert!(!holds("2001:db8::/33", "2001:db8:8000::1"));
        assert!(holds("192.0.2.7/32", "192.0.2.7"));
        assert!(!holds("192.0.2.7/32", "192.0.2.6"));
    }

    #[test]
    fn clients_go_round_over_the_addresses_to_send_from() {
        let ip = |text: &str| text.parse::<IpAddr>().expect(text);
        let ips = LocalIps::new([(ip("10.0.0.254"), ip("10.0.1.1")), (ip("::1"), ip("::1"))]);
        let of: Vec<String> = (0..6)
            .filter_map(|n| Some(ips.of(n)?.to_string()))
            .collect();
        assert_eq!(
            of,
            [
                "10.0.0.254",
                "10.0.0.255",
                "10.0.1.0",
                "10.0.1.1",
                "::1",
                "10.0.0.254"
            ]
        );
        assert_eq!(LocalIps::default().of(7), None);
        let whole = LocalIps::new([(ip("::"), ip("ffff:ffff:ffff:ffff:ffff:ffff:ffff:ffff"))]);
        assert_eq!(whole.of(258), Some(ip("::102")));
    }

    #[test]
    fn ranges_are_shown_without_their_host_bits() {
        assert_eq!(
            "10.1.2.3/8".parse::<Cidr>().map(|r| r.to_string()),
            Ok("10.0.0.0/8".into())
        );
    }

    #[test]
    fn bad_ranges_say_so() {
        for text in [
            "10.0.0.0",
            "10.0.0.0/33",
            "x/8",
            "10.0.0.0/",
            "10.0.0.0/+8",
            "::/129",
        ] {
            assert_eq!(
                text.parse::<Cidr>(),
                Err(format!("invalid CIDR address: {text}")),
                "{text}"
            );
        }
    }

    #[test]
    fn hosts_prefer_exact_over_wildcard_and_port_over_none() {
        let mut hosts = HostMap::default();
        for (pattern, to) in [
            ("*.example.com", "10.0.0.1"),
            ("*.deep.example.com", "10.0.0.2"),
            ("a.deep.example.com", "10.0.0.3:8080"),
            ("a.deep.example.com:443", "10.0.0.4"),
            ("six.example.com", "[::1]:9"),
        ] {
            hosts.insert(pattern, to).expect(pattern);
        }
        let found = |host, port| hosts.lookup(host, port).map(|a| a.to_string());
        assert_eq!(found("X.example.com", 80), Some("10.0.0.1:80".into()));
        assert_eq!(found("b.deep.example.com", 80), Some("10.0.0.2:80".into()));
        assert_eq!(
            found("a.deep.example.com", 80),
            Some("10.0.0.3:8080".into())
        );
        assert_eq!(
            found("a.deep.example.com", 443),
            Some("10.0.0.4:443".into())
        );
        assert_eq!(found("six.example.com", 80), Some("[::1]:9".into()));
        assert_eq!(found("example.com", 80), None);
    }

    #[test]
    fn bad_host_patterns_and_addresses_are_refused() {
        let mut hosts = HostMap::default();
        assert!(hosts.insert("a.*.com", "10.0.0.1").is_err());
        assert!(hosts.insert("", "10.0.0.1").is_err());
        assert!(hosts.insert("a.com:http", "10.0.0.1").is_err());
        assert!(hosts.insert("a.com", "ten").is_err());
        assert!(hosts.is_empty());
    }

    #[test]
    fn blocked_hosts_are_exact_or_wildcards() {
        let config = ClientConfig {
            block_hostnames: vec!["*.blocked.test".into(), "Exact.test".into()],
            ..ClientConfig::default()
        };
        assert_eq!(config.blocked("a.b.blocked.test"), Some("*.blocked.test"));
        assert_eq!(config.blocked("blocked.test"), None);
        assert_eq!(config.blocked("exact.test"), Some("Exact.test"));
        assert_eq!(config.blocked("not-exact.test"), None);
    }
}
