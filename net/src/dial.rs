//! From a URL to an open connection: rules, name service, TCP, TLS, and the time of each.
//!
//! Answers of the name service are kept for the whole process, and only one question per name
//! is asked at a time: thousands of VUs that start together must not ask thousands of times.
//! This is the only lock in the crate, and only new connections to a *name* come here.

use std::{
    collections::HashMap,
    future::{Future, poll_fn},
    hash::{BuildHasher, RandomState},
    io,
    net::{IpAddr, SocketAddr},
    pin::pin,
    rc::Rc,
    sync::{
        Arc, LazyLock, Mutex, PoisonError,
        atomic::{AtomicUsize, Ordering},
    },
    time::{Duration, Instant},
};

use rustls::pki_types::ServerName;
use tokio::net::{TcpSocket, TcpStream};
use tokio_rustls::TlsConnector;

use crate::{
    config::{ClientConfig, Dns, Policy, Select},
    error::{Error, ErrorKind, message},
    http::{
        exchange::TlsInfo,
        wire::{Marks, Socket, Wire},
    },
    proxy::{Kind, Proxy},
    tls,
    url::Url,
};

/// What became of a dial, filled in as it goes on: it stays true when the dial fails or is
/// dropped half-way.
#[derive(Debug, Default)]
pub(crate) struct DialLog {
    pub(crate) connecting: Duration,
    pub(crate) handshake: Duration,
    pub(crate) remote: Option<SocketAddr>,
    pub(crate) tls: Option<TlsInfo>,
    /// Whether a proxy is at the other end that wants to be told the whole URL.
    pub(crate) absolute: bool,
    /// Whether the two ends have agreed on HTTP/2.
    pub(crate) http2: bool,
}

/// What is to be spoken over a connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Purpose {
    /// Requests, of the version of HTTP that the server chooses.
    Requests,
    /// One request of HTTP/1.1, after which the connection belongs to another protocol: a proxy is
    /// no part of that conversation, and only lets it through.
    Upgrade,
}

/// Opens a connection to the URL's host, from this address if one is given.
pub(crate) async fn dial(
    config: &ClientConfig,
    url: &Url,
    purpose: Purpose,
    local: Option<IpAddr>,
    marks: &Rc<Marks>,
    log: &mut DialLog,
) -> Result<Wire, Error> {
    let host = url.host();
    let Some(port) = url.port() else {
        let text = format!("dial tcp: address {}: invalid port", url.port_text());
        return Err(ErrorKind::Other(text).into());
    };
    if let Some(pattern) = config.blocked(host) {
        return Err(blocked(host, pattern));
    }
    let proxy = config.proxies.of(url);
    let (near, near_port) = match proxy {
        None => (host, port),
        Some(Proxy {
            kind: Kind::Unusable(text),
            ..
        }) => return Err(ErrorKind::Other(text.clone()).into()),
        Some(proxy) => {
            let near = proxy.url.host();
            if let Some(pattern) = config.blocked(near) {
                return Err(blocked(near, pattern));
            }
            (near, proxy.port().unwrap_or_default())
        }
    };
    let remote = match config.hosts.lookup(near, near_port) {
        Some(address) => address,
        None => SocketAddr::new(address_of(near, &config.dns).await?, near_port),
    };
    if let Some(range) = config.blacklisted(remote.ip()) {
        let range = range.to_string();
        return Err(ErrorKind::BlacklistedIp {
            ip: remote.ip(),
            range,
        }
        .into());
    }
    if let Some(local) = local.filter(|local| local.is_ipv4() != remote.is_ipv4()) {
        let text = format!("dial tcp {local}:0->{remote}: mismatched local address type {local}");
        return Err(ErrorKind::Other(text).into());
    }

    let begun = Instant::now();
    let connected = tokio::time::timeout(config.dial_timeout, connect(remote, local)).await;
    let stream = match connected {
        Err(_elapsed) => return Err(ErrorKind::DialTimeout(remote).into()),
        Ok(Err(e)) if e.kind() == io::ErrorKind::TimedOut => {
            return Err(ErrorKind::DialTimeout(remote).into());
        }
        Ok(Err(e)) => {
            let (errno, message) = (e.raw_os_error(), message(&e));
            return Err(ErrorKind::Dial {
                remote,
                errno,
                message,
            }
            .into());
        }
        Ok(Ok(stream)) => stream,
    };
    let open = Instant::now();
    log.connecting = open - begun;
    log.remote = Some(remote);
    // A head and its body may leave as two segments: they must not wait for each other's ACK.
    // A peer that has gone already makes this fail; the first write will tell.
    let _ = stream.set_nodelay(true);
    if let Ok(local) = stream.local_addr() {
        marks.ends.set(Some((local, remote)));
    }
    let mut socket = Socket::new(stream, marks.clone());
    let secure = url.scheme() == "https";
    if let Some(proxy) = proxy {
        if secure || proxy.kind == Kind::Socks || purpose == Purpose::Upgrade {
            let agent = config.user_agent.as_deref();
            proxy.tunnel(&mut socket, host, port, agent).await?;
        } else {
            log.absolute = true;
        }
    }
    if !secure {
        return Ok(Wire::plain(socket, marks.clone()));
    }

    let name = ServerName::try_from(host.to_owned())
        .map_err(|_| ErrorKind::Tls(format!("tls: invalid server name {host}")))?;
    let connector = TlsConnector::from(config.tls(host)?);
    let handshake = Instant::now();
    let mut ocsp = None;
    let mut shaking = pin!(match purpose {
        Purpose::Requests => connector.connect(name, socket),
        Purpose::Upgrade => connector
            .with_alpn(vec![b"http/1.1".to_vec()])
            .connect(name, socket),
    });
    let shaken = poll_fn(|task| {
        // Whatever another connection has left there is not ours.
        tls::noted();
        let outcome = shaking.as_mut().poll(task);
        ocsp = tls::noted().or(ocsp);
        outcome
    });
    match shaken.await {
        Ok(stream) => {
            log.handshake = handshake.elapsed();
            log.http2 = stream.get_ref().1.alpn_protocol() == Some(b"h2");
            log.tls = Some(tls::info(stream.get_ref().1, ocsp));
            Ok(Wire::tls(stream, marks.clone()))
        }
        Err(e) => Err(match (tls::inner(&e), marks.socket_error()) {
            (Some(error), _) => tls::classify(error).into(),
            (None, Some(error)) => error,
            (None, None) if e.kind() == io::ErrorKind::UnexpectedEof => ErrorKind::Eof.into(),
            (None, None) => ErrorKind::Tls(format!("tls: {}", message(&e))).into(),
        }),
    }
}

fn blocked(host: &str, pattern: &str) -> Error {
    let (host, pattern) = (host.to_owned(), pattern.to_owned());
    ErrorKind::BlockedHost { host, pattern }.into()
}

async fn connect(remote: SocketAddr, local: Option<IpAddr>) -> io::Result<TcpStream> {
    let Some(local) = local else {
        return TcpStream::connect(remote).await;
    };
    let socket = if remote.is_ipv4() {
        TcpSocket::new_v4()?
    } else {
        TcpSocket::new_v6()?
    };
    socket.bind(SocketAddr::new(local, 0))?;
    socket.connect(remote).await
}

/// An answer of the name service, or its failure: the words, and whether there is no such name.
type Answer = Result<Arc<[IpAddr]>, (String, bool)>;

/// One name.
#[derive(Debug, Default)]
struct Slot {
    /// Its last answer and when it came. The lock is held while asking.
    answer: tokio::sync::Mutex<Option<(Instant, Answer)>>,
    /// How often one of its addresses has been taken in turn.
    turn: AtomicUsize,
}

static NAMES: LazyLock<Mutex<HashMap<String, Arc<Slot>>>> = LazyLock::new(Mutex::default);

/// One address of the host: itself, or one of those that the name service knows.
async fn address_of(host: &str, dns: &Dns) -> Result<IpAddr, Error> {
    if let Ok(ip) = host.parse() {
        return Ok(ip);
    }
    let failure = |reason: &str, missing| {
        let (host, reason) = (host.to_owned(), reason.to_owned());
        Error::new(ErrorKind::Lookup {
            host,
            reason,
            missing,
        })
    };
    let slot = slot_of(&host.to_ascii_lowercase());
    let found = slot
        .answer_for(host, dns.ttl)
        .await
        .map_err(|(reason, missing)| failure(&reason, missing))?;
    let turn = match dns.select {
        Select::First => 0,
        Select::RoundRobin => slot.turn.fetch_add(1, Ordering::Relaxed),
        // Each new RandomState hashes differently: enough randomness to spread connections.
        Select::Random => RandomState::new().hash_one(0) as usize,
    };
    choose(&found, dns.policy, turn).ok_or_else(|| failure("no such host", true))
}

/// Of the addresses that the policy lets, the one whose turn it is.
fn choose(found: &[IpAddr], policy: Policy, turn: usize) -> Option<IpAddr> {
    let any = |v4: bool| found.iter().any(|ip| ip.is_ipv4() == v4);
    let wanted = match policy {
        Policy::Any => None,
        Policy::OnlyIpv4 => Some(true),
        Policy::OnlyIpv6 => Some(false),
        Policy::PreferIpv4 => Some(any(true)),
        Policy::PreferIpv6 => Some(!any(false)),
    };
    let fitting = || {
        found
            .iter()
            .filter(|ip| wanted.is_none_or(|v4| ip.is_ipv4() == v4))
    };
    let count = fitting().count();
    fitting().nth(turn.checked_rem(count)?).copied()
}

fn slot_of(name: &str) -> Arc<Slot> {
    let mut names = NAMES.lock().unwrap_or_else(PoisonError::into_inner);
    names.entry(name.to_owned()).or_default().clone()
}

impl Slot {
    async fn answer_for(&self, name: &str, ttl: Duration) -> Answer {
        let asked = Instant::now();
        let mut last = self.answer.lock().await;
        if let Some((at, answer)) = &*last {
            // Whoever waited here while another asked takes that answer, a failure too: otherwise
            // a thousand VUs would wait for the same failure one after the other.
            let shared = *at >= asked;
            if shared || (answer.is_ok() && at.elapsed() < ttl) {
                return answer.clone();
            }
        }
        let answer = match tokio::net::lookup_host((name, 0)).await {
            Ok(addresses) => Ok(addresses.map(|address| address.ip()).collect()),
            Err(e) => Err(lookup_failure(&e)),
        };
        *last = Some((Instant::now(), answer.clone()));
        answer
    }
}

/// The resolver's words (those of `getaddrinfo`, the only thing that the standard library
/// passes on), and whether they mean that the name does not exist.
fn lookup_failure(error: &io::Error) -> (String, bool) {
    let text = message(error);
    let text = text
        .strip_prefix("failed to lookup address information: ")
        .unwrap_or(&text);
    // glibc's EAI_NONAME and EAI_NODATA, then musl's and macOS's.
    const MISSING: [&str; 4] = [
        "Name or service not known",
        "No address associated with hostname",
        "Name does not resolve",
        "nodename nor servname provided",
    ];
    (
        text.to_owned(),
        MISSING.iter().any(|words| text.contains(words)),
    )
}

#[cfg(test)]
mod tests {
    use std::{
        future::Future,
        task::{Context, Waker},
    };

    use super::*;

    #[test]
    fn missing_names_are_told_from_failing_name_services() {
        let failure = |text: &str| {
            lookup_failure(&io::Error::other(format!(
                "failed to lookup address information: {text}"
            )))
        };
        assert_eq!(
            failure("Name or service not known"),
            ("Name or service not known".into(), true)
        );
        assert!(failure("Name does not resolve").1);
        assert_eq!(
            failure("Temporary failure in name resolution"),
            ("Temporary failure in name resolution".into(), false)
        );
    }

    #[test]
    fn the_policy_decides_between_ipv4_and_ipv6() {
        let ip = |text: &str| text.parse::<IpAddr>().expect(text);
        let both = [ip("::1"), ip("10.0.0.1"), ip("::2"), ip("10.0.0.2")];
        let (four, six) = ([both[1], both[3]], [both[0], both[2]]);
        let drawn = |found: &[IpAddr], policy| -> Vec<IpAddr> {
            (0..found.len())
                .filter_map(|turn| choose(found, policy, turn))
                .collect()
        };
        assert_eq!(drawn(&both, Policy::PreferIpv4)[..2], four);
        assert_eq!(drawn(&both, Policy::PreferIpv6)[..2], six);
        assert_eq!(drawn(&both, Policy::Any), both);
        assert_eq!(drawn(&four, Policy::PreferIpv6), four);
        assert_eq!(drawn(&six, Policy::PreferIpv4), six);
        assert!(drawn(&four, Policy::OnlyIpv6).is_empty());
        assert_eq!(drawn(&both, Policy::OnlyIpv4)[1..3], [four[1], four[0]]);
        assert_eq!(choose(&[], Policy::Any, 3), None);
    }

    #[tokio::test(flavor = "current_thread")]
    async fn answers_are_kept_for_their_time_and_shared_by_who_waits() {
        let slot = slot_of("localhost");
        let minute = Duration::from_secs(60);
        let first = slot.answer_for("localhost", minute).await;
        let first = first.expect("localhost");
        let again = slot.answer_for("localhost", minute).await;
        let again = again.expect("localhost");
        assert!(Arc::ptr_eq(&first, &again), "the kept answer serves");
        // Both have asked before either can be answered.
        let held = slot.answer.lock().await;
        let mut one = Box::pin(slot.answer_for("localhost", Duration::ZERO));
        let mut two = Box::pin(slot.answer_for("localhost", Duration::ZERO));
        let mut task = Context::from_waker(Waker::noop());
        assert!(one.as_mut().poll(&mut task).is_pending());
        assert!(two.as_mut().poll(&mut task).is_pending());
        drop(held);
        let (one, two) = tokio::join!(one, two);
        let (one, two) = (one.expect("localhost"), two.expect("localhost"));
        assert!(!Arc::ptr_eq(&first, &one), "an outdated answer does not");
        assert!(Arc::ptr_eq(&one, &two), "who waits shares the answer");
    }
}
