//! Proxies, as the environment names them (`HTTP_PROXY`, `HTTPS_PROXY`, `NO_PROXY`), by the rules of
//! Go's `httpproxy`: this machine is never reached through one.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use base64::{Engine, engine::general_purpose::STANDARD};
use tokio::io::{AsyncReadExt, AsyncWriteExt};

use crate::{
    config::Cidr,
    error::{Error, ErrorKind, message},
    http::wire::Socket,
    url::{Url, quote},
};

/// Longest head of a proxy's answer to CONNECT.
const HEAD_MAX: usize = 64 << 10;

/// Which requests go through which proxy. The default is none.
#[derive(Clone, Debug, Default)]
pub struct Proxies {
    http: Option<Proxy>,
    https: Option<Proxy>,
    exempt: Vec<Exempt>,
}

/// Hosts that are reached directly.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Exempt {
    Everything,
    Range(Cidr),
    Address(IpAddr, Option<u16>),
    /// A domain with a dot before it, and whether its bare name counts too.
    Domain(String, bool, Option<u16>),
}

/// One proxy.
#[derive(Clone, Debug)]
pub(crate) struct Proxy {
    pub(crate) kind: Kind,
    pub(crate) url: Url,
}

/// What a proxy speaks.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Kind {
    /// Absolute request targets, and CONNECT.
    Http,
    /// SOCKS 5; names are resolved by the proxy.
    Socks,
    /// Nothing that we do: the text of the error of every request.
    Unusable(String),
}

impl Proxies {
    /// Reads the variables, in capitals or not, through `get`.
    pub fn from_env(get: impl Fn(&str) -> Option<String>) -> Self {
        let read = |name: &str| {
            let any = get(name).filter(|value| !value.is_empty());
            any.or_else(|| get(&name.to_ascii_lowercase()))
                .filter(|value| !value.is_empty())
        };
        Self {
            http: read("HTTP_PROXY").map(|text| Proxy::parse(&text)),
            https: read("HTTPS_PROXY").map(|text| Proxy::parse(&text)),
            exempt: read("NO_PROXY")
                .iter()
                .flat_map(|list| list.split(','))
                .filter_map(|entry| Exempt::parse(entry.trim()))
                .collect(),
        }
    }

    /// The proxy for a URL, if it is reached through one.
    pub(crate) fn of(&self, url: &Url) -> Option<&Proxy> {
        let proxy = match url.scheme() {
            "https" => self.https.as_ref(),
            _ => self.http.as_ref(),
        }?;
        let host = url.host().trim_end_matches('.').to_ascii_lowercase();
        let address = host.parse::<IpAddr>().ok();
        let here = host == "localhost" || address.is_some_and(|ip| ip.to_canonical().is_loopback());
        let direct = here
            || self
                .exempt
                .iter()
                .any(|e| e.covers(&host, address, url.port()));
        (!direct).then_some(proxy)
    }
}

impl Exempt {
    fn parse(entry: &str) -> Option<Self> {
        let entry = entry.to_ascii_lowercase();
        if entry.is_empty() {
            return None;
        }
        if entry == "*" {
            return Some(Self::Everything);
        }
        if let Ok(range) = entry.parse() {
            return Some(Self::Range(range));
        }
        let bare = entry.trim_start_matches('[').trim_end_matches(']');
        if let Ok(ip) = bare.parse() {
            return Some(Self::Address(ip, None));
        }
        let (host, port) = match entry.rsplit_once(':') {
            Some((host, port)) => (host, Some(port.parse().ok()?)),
            None => (entry.as_str(), None),
        };
        if let Ok(ip) = host.trim_start_matches('[').trim_end_matches(']').parse() {
            return Some(Self::Address(ip, port));
        }
        let host = host.strip_prefix('*').unwrap_or(host);
        Some(match host.strip_prefix('.') {
            Some("") => return None,
            Some(_) => Self::Domain(host.to_owned(), false, port),
            None => Self::Domain(format!(".{host}"), true, port),
        })
    }

    fn covers(&self, host: &str, address: Option<IpAddr>, port: Option<u16>) -> bool {
        let fits = |wanted: &Option<u16>| wanted.is_none() || *wanted == port;
        match self {
            Self::Everything => true,
            Self::Range(range) => address.is_some_and(|ip| range.contains(ip)),
            Self::Address(ip, wanted) => address == Some(*ip) && fits(wanted),
            Self::Domain(domain, itself, wanted) => {
                let fitting = host.ends_with(domain.as_str()) || (*itself && host == &domain[1..]);
                fitting && fits(wanted)
            }
        }
    }
}

impl Proxy {
    fn parse(text: &str) -> Self {
        let parsed = match Url::parse(text) {
            Ok(url) if !url.host().is_empty() && url.is_absolute() => Ok(url),
            // `proxy.example:3128` has a scheme for some, and for Go it has none.
            Err(error) if text.contains("://") => Err(error),
            _ => Url::parse(&format!("http://{text}")),
        };
        let broken = || Url::parse("http://invalid.invalid/").expect("a good URL");
        let (kind, url) = match parsed {
            Ok(url) => match url.scheme() {
                "http" => (Kind::Http, url),
                "socks5" | "socks5h" => (Kind::Socks, url),
                scheme => {
                    let text = format!(
                        "proxies of the scheme {scheme:?} are not supported: use http, socks5 or socks5h"
                    );
                    (Kind::Unusable(text), url)
                }
            },
            Err(error) => (
                Kind::Unusable(format!("invalid proxy address: {error}")),
                broken(),
            ),
        };
        Self { kind, url }
    }

    /// Where it listens.
    pub(crate) fn port(&self) -> Option<u16> {
        match self.kind {
            Kind::Socks if self.url.port_text().is_empty() => Some(1080),
            _ => self.url.port(),
        }
    }

    /// `Proxy-Authorization`, when the URL has credentials.
    pub(crate) fn authorization(&self) -> Option<String> {
        let (user, word) = self.url.userinfo()?;
        let text = format!("{user}:{}", word.unwrap_or_default());
        Some(format!("Basic {}", STANDARD.encode(text)))
    }

    /// Has the proxy connect to a host.
    pub(crate) async fn tunnel(
        &self,
        socket: &mut Socket,
        host: &str,
        port: u16,
        user_agent: Option<&str>,
    ) -> Result<(), Error> {
        let outcome = match self.kind {
            Kind::Socks => self.socks(socket, host, port).await,
            _ => self.connect(socket, host, port, user_agent).await,
        };
        outcome.map_err(|failure| match (failure, socket.error()) {
            (Failure::Said(text), _) => ErrorKind::Other(text).into(),
            (Failure::Io(_), Some(error)) => error,
            (Failure::Io(e), None) if e.kind() == std::io::ErrorKind::UnexpectedEof => {
                ErrorKind::UnexpectedEof.into()
            }
            (Failure::Io(e), None) => ErrorKind::Other(message(&e)).into(),
        })
    }

    async fn connect(
        &self,
        socket: &mut Socket,
        host: &str,
        port: u16,
        user_agent: Option<&str>,
    ) -> Result<(), Failure> {
        let target = if host.contains(':') {
            format!("[{host}]:{port}")
        } else {
            format!("{host}:{port}")
        };
        let mut head = format!("CONNECT {target} HTTP/1.1\r\nHost: {target}\r\n");
        if let Some(agent) = user_agent.filter(|agent| !agent.is_empty()) {
            head.push_str(&format!("User-Agent: {agent}\r\n"));
        }
        if let Some(authorization) = self.authorization() {
            head.push_str(&format!("Proxy-Authorization: {authorization}\r\n"));
        }
        head.push_str("\r\n");
        socket.write_all(head.as_bytes()).await?;
        let mut answer = Vec::new();
        let end = loop {
            if let Some(at) = answer.windows(4).position(|part| part == b"\r\n\r\n") {
                break at + 4;
            }
            if answer.len() > HEAD_MAX || socket.read_buf(&mut answer).await? == 0 {
                return Err(Failure::Io(std::io::ErrorKind::UnexpectedEof.into()));
            }
        };
        let line = answer.split(|b| *b == b'\r').next().unwrap_or_default();
        let line = String::from_utf8_lossy(line).into_owned();
        let mut words = line.splitn(3, ' ');
        let version = words.next().unwrap_or_default();
        // The server behind it says nothing before we do.
        let alone = answer.len() == end;
        match words.next().filter(|_| version.starts_with("HTTP/1.")) {
            Some("200") if alone => Ok(()),
            Some(status) if status != "200" => {
                let text = words.next().filter(|text| !text.is_empty());
                Err(Failure::Said(text.unwrap_or(status).to_owned()))
            }
            _ => Err(Failure::Said(format!(
                "malformed HTTP response {}",
                quote(&line)
            ))),
        }
    }

    /// RFC 1928, with user and password (RFC 1929) when the URL has them.
    async fn socks(&self, socket: &mut Socket, host: &str, port: u16) -> Result<(), Failure> {
        let refused = |why: &str| Failure::Said(format!("socks connect tcp {host}:{port}: {why}"));
        let credentials = self.url.userinfo();
        let greeting: &[u8] = if credentials.is_some() {
            &[5, 2, 0, 2]
        } else {
            &[5, 1, 0]
        };
        socket.write_all(greeting).await?;
        let mut chosen = [0; 2];
        socket.read_exact(&mut chosen).await?;
        match (chosen, credentials) {
            ([5, 0], _) => {}
            ([5, 2], Some((user, word))) => {
                let word = word.unwrap_or_default();
                let mut message = vec![1];
                for text in [user, word] {
                    let length = u8::try_from(text.len())
                        .map_err(|_| refused("user or password too long"))?;
                    message.push(length);
                    message.extend_from_slice(text.as_bytes());
                }
                socket.write_all(&message).await?;
                socket.read_exact(&mut chosen).await?;
                if chosen[1] != 0 {
                    return Err(refused("username/password authentication failed"));
                }
            }
            ([5, _], _) => return Err(refused("no acceptable authentication methods")),
            _ => return Err(refused("unexpected protocol version")),
        }
        let mut message = vec![5, 1, 0];
        match host.parse() {
            Ok(IpAddr::V4(ip)) => {
                message.push(1);
                message.extend_from_slice(&Ipv4Addr::octets(&ip));
            }
            Ok(IpAddr::V6(ip)) => {
                message.push(4);
                message.extend_from_slice(&Ipv6Addr::octets(&ip));
            }
            Err(_) => {
                let length = u8::try_from(host.len()).map_err(|_| refused("FQDN too long"))?;
                message.extend_from_slice(&[3, length]);
                message.extend_from_slice(host.as_bytes());
            }
        }
        message.extend_from_slice(&port.to_be_bytes());
        socket.write_all(&message).await?;
        let mut answer = [0; 4];
        socket.read_exact(&mut answer).await?;
        let why = match answer[1] {
            0 => "",
            1 => "general SOCKS server failure",
            2 => "connection not allowed by ruleset",
            3 => "network unreachable",
            4 => "host unreachable",
            5 => "connection refused",
            6 => "TTL expired",
            7 => "command not supported",
            8 => "address type not supported",
            _ => "unknown code",
        };
        if !why.is_empty() {
            return Err(refused(&format!("unknown error {why}")));
        }
        let length = match answer[3] {
            1 => 4,
            4 => 16,
            3 => usize::from(socket.read_u8().await?),
            _ => return Err(refused("unknown address type")),
        };
        socket.read_exact(&mut vec![0; length + 2]).await?;
        Ok(())
    }
}

/// Why a proxy did not connect.
enum Failure {
    Said(String),
    Io(std::io::Error),
}

impl From<std::io::Error> for Failure {
    fn from(error: std::io::Error) -> Self {
        Self::Io(error)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn proxies(variables: &[(&str, &str)]) -> Proxies {
        Proxies::from_env(|name| {
            let mut found = variables.iter();
            found
                .find(|(known, _)| *known == name)
                .map(|(_, value)| (*value).to_owned())
        })
    }

    fn of(proxies: &Proxies, url: &str) -> Option<String> {
        let url = Url::parse(url).expect(url);
        proxies.of(&url).map(|proxy| proxy.url.as_str().to_owned())
    }

    #[test]
    fn the_scheme_of_the_request_decides() {
        let all = proxies(&[
            ("HTTP_PROXY", "p.test:3128"),
            ("https_proxy", "socks5://s.test"),
        ]);
        assert_eq!(
            of(&all, "http://a.test/").as_deref(),
            Some("http://p.test:3128")
        );
        assert_eq!(
            of(&all, "https://a.test/").as_deref(),
            Some("socks5://s.test")
        );
        let url = Url::parse("https://a.test/").expect("a URL");
        let proxy = all.of(&url).expect("a proxy");
        assert_eq!((&proxy.kind, proxy.port()), (&Kind::Socks, Some(1080)));
        assert_eq!(of(&proxies(&[]), "http://a.test/"), None);
        assert_eq!(of(&proxies(&[("HTTP_PROXY", "")]), "http://a.test/"), None);
    }

    #[test]
    fn this_machine_and_exempt_hosts_are_reached_directly() {
        let all = proxies(&[
            ("HTTP_PROXY", "http://p.test"),
            (
                "NO_PROXY",
                "exact.test, .below.test,*.star.test,10.0.0.0/8,192.0.2.7:81,port.test:8080,[2001:db8::1]",
            ),
        ]);
        for direct in [
            "http://localhost:9/",
            "http://127.0.0.2/",
            "http://[::1]/",
            "http://exact.test/",
            "http://Sub.Exact.test/",
            "http://a.below.test/",
            "http://a.star.test/",
            "http://10.9.8.7/",
            "http://192.0.2.7:81/",
            "http://port.test:8080/",
            "http://[2001:db8::1]/",
        ] {
            assert_eq!(of(&all, direct), None, "{direct}");
        }
        for through in [
            "http://below.test/",
            "http://star.test/",
            "http://notexact.test/",
            "http://192.0.2.7/",
            "http://port.test/",
            "http://11.0.0.1/",
            "http://[2001:db8::2]/",
        ] {
            assert!(of(&all, through).is_some(), "{through}");
        }
        let none = proxies(&[("HTTP_PROXY", "http://p.test"), ("no_proxy", "*")]);
        assert_eq!(of(&none, "http://a.test/"), None);
    }

    #[test]
    fn unusable_proxies_say_so_when_they_are_used() {
        for text in ["https://p.test", "ftp://p.test", "http://[::1"] {
            let proxy = Proxy::parse(text);
            assert!(
                matches!(proxy.kind, Kind::Unusable(_)),
                "{text}: {:?}",
                proxy.kind
            );
        }
        let proxy = Proxy::parse("http://me:it%40s@p.test");
        assert_eq!(proxy.authorization().as_deref(), Some("Basic bWU6aXRAcw=="));
    }
}
