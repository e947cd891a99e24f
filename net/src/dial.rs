//! From a URL to an open connection: rules, name service, TCP, TLS, and the time of each.
//!
//! Answers of the name service are kept for the whole process, and only one question per name
//! is asked at a time: thousands of VUs that start together must not ask thousands of times.
//! This is the only lock in the crate, and only new connections to a *name* come here.

use std::{
    collections::HashMap,
    hash::{BuildHasher, RandomState},
    io,
    net::{IpAddr, SocketAddr},
    rc::Rc,
    sync::{Arc, LazyLock, Mutex, PoisonError},
    time::{Duration, Instant},
};

use rustls::pki_types::ServerName;
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;

use crate::{
    config::ClientConfig,
    error::{Error, ErrorKind, message},
    http::{
        exchange::TlsInfo,
        wire::{Marks, Socket, Wire},
    },
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
}

/// Opens a connection to the URL's host.
pub(crate) async fn dial(
    config: &ClientConfig,
    url: &Url,
    marks: &Rc<Marks>,
    log: &mut DialLog,
) -> Result<Wire, Error> {
    let host = url.host();
    if let Some(pattern) = config.blocked(host) {
        let (host, pattern) = (host.to_owned(), pattern.to_owned());
        return Err(ErrorKind::BlockedHost { host, pattern }.into());
    }
    let Some(port) = url.port() else {
        let text = format!("dial tcp: address {}: invalid port", url.port_text());
        return Err(ErrorKind::Other(text).into());
    };
    let remote = match config.hosts.lookup(host, port) {
        Some(address) => address,
        None => SocketAddr::new(address_of(host, config.dns_ttl).await?, port),
    };
    if let Some(range) = config.blacklisted(remote.ip()) {
        let range = range.to_string();
        return Err(ErrorKind::BlacklistedIp {
            ip: remote.ip(),
            range,
        }
        .into());
    }

    let begun = Instant::now();
    let connected = tokio::time::timeout(config.dial_timeout, TcpStream::connect(remote)).await;
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
    let socket = Socket::new(stream, marks.clone());
    if url.scheme() != "https" {
        return Ok(Wire::plain(socket, marks.clone()));
    }

    let name = ServerName::try_from(host.to_owned())
        .map_err(|_| ErrorKind::Tls(format!("tls: invalid server name {host}")))?;
    let connector = TlsConnector::from(config.tls()?);
    let handshake = Instant::now();
    match connector.connect(name, socket).await {
        Ok(stream) => {
            log.handshake = handshake.elapsed();
            log.tls = Some(tls::info(stream.get_ref().1));
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

/// An answer of the name service, or its failure: the words, and whether there is no such name.
type Answer = Result<Arc<[IpAddr]>, (String, bool)>;

/// One name: its last answer and when it came. The lock is held while asking.
type Slot = Arc<tokio::sync::Mutex<Option<(Instant, Answer)>>>;

static NAMES: LazyLock<Mutex<HashMap<String, Slot>>> = LazyLock::new(Mutex::default);

/// One address of the host: itself, or a random one of its IPv4 addresses, else of its IPv6
/// addresses (k6's defaults `select=random`, `policy=preferIPv4`).
async fn address_of(host: &str, ttl: Duration) -> Result<IpAddr, Error> {
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
    let found = answer_for(host, ttl)
        .await
        .map_err(|(reason, missing)| failure(&reason, missing))?;
    choose(&found).ok_or_else(|| failure("no such host", true))
}

fn choose(found: &[IpAddr]) -> Option<IpAddr> {
    let any4 = found.iter().any(IpAddr::is_ipv4);
    let fitting = || found.iter().filter(|ip| ip.is_ipv4() == any4);
    let count = fitting().count();
    if count < 2 {
        return fitting().next().copied();
    }
    // Each new RandomState hashes differently: enough randomness to spread connections.
    let draw = RandomState::new().hash_one(count) as usize;
    fitting().nth(draw % count).copied()
}

fn slot_of(name: &str) -> Slot {
    let mut names = NAMES.lock().unwrap_or_else(PoisonError::into_inner);
    names.entry(name.to_owned()).or_default().clone()
}

async fn answer_for(host: &str, ttl: Duration) -> Answer {
    let asked = Instant::now();
    let name = host.to_ascii_lowercase();
    let slot = slot_of(&name);
    let mut last = slot.lock().await;
    if let Some((at, answer)) = &*last {
        // Whoever waited here while another asked takes that answer, a failure too: otherwise a
        // thousand VUs would wait for the same failure one after the other.
        let shared = *at >= asked;
        if shared || (answer.is_ok() && at.elapsed() < ttl) {
            return answer.clone();
        }
    }
    let answer = match tokio::net::lookup_host((name.as_str(), 0)).await {
        Ok(addresses) => Ok(addresses.map(|address| address.ip()).collect()),
        Err(e) => Err(lookup_failure(&e)),
    };
    *last = Some((Instant::now(), answer.clone()));
    answer
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
    fn ipv4_goes_before_ipv6() {
        let ip = |text: &str| text.parse::<IpAddr>().expect(text);
        assert_eq!(choose(&[ip("::1"), ip("127.0.0.1")]), Some(ip("127.0.0.1")));
        assert_eq!(choose(&[ip("::1")]), Some(ip("::1")));
        assert_eq!(choose(&[]), None);
        let both = [ip("10.0.0.1"), ip("10.0.0.2"), ip("::1")];
        let drawn: std::collections::HashSet<_> = (0..200).filter_map(|_| choose(&both)).collect();
        assert_eq!(drawn, both[..2].iter().copied().collect());
    }

    #[tokio::test(flavor = "current_thread")]
    async fn answers_are_kept_for_their_time_and_shared_by_who_waits() {
        let first = answer_for("localhost", Duration::from_secs(60))
            .await
            .expect("localhost");
        let again = answer_for("LOCALHOST", Duration::from_secs(60))
            .await
            .expect("localhost");
        assert!(Arc::ptr_eq(&first, &again), "the kept answer serves");
        // Both have asked before either can be answered.
        let slot = slot_of("localhost");
        let held = slot.lock().await;
        let mut one = Box::pin(answer_for("localhost", Duration::ZERO));
        let mut two = Box::pin(answer_for("localhost", Duration::ZERO));
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
