//! From a URL to an open connection: rules, name service, TCP, TLS, and the time of each.
//!
//! Answers of the name service are kept for the whole process, and only one question per name
//! is asked at a time: thousands of VUs that start together must not ask thousands of times.
//! These are the only locks in the crate, and only new connections to a *name* come here.

use std::{
    collections::HashMap,
    future::{Future, poll_fn},
    hash::{BuildHasher, RandomState},
    io,
    net::{IpAddr, SocketAddr, ToSocketAddrs},
    pin::{Pin, pin},
    rc::Rc,
    sync::{
        Arc, LazyLock, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicUsize, Ordering},
    },
    time::{Duration, Instant},
};

use futures_util::future::{BoxFuture, FutureExt, Shared};
use rustls::pki_types::ServerName;
use tokio::{
    net::{TcpSocket, TcpStream},
    time::Instant as Clock,
};
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

/// What other protocols than HTTP want of a connection.
#[derive(Debug, Default)]
pub(crate) struct Wishes {
    /// No proxy.
    pub(crate) direct: bool,
    /// Settings of TLS in place of the test's.
    pub(crate) tls: Option<Arc<rustls::ClientConfig>>,
    /// The name that the server's certificate has to be for, where it is not the host's.
    pub(crate) name: Option<String>,
    /// One request of HTTP/1.1, after which the connection belongs to another protocol: a proxy is
    /// no part of that conversation, and only lets it through.
    pub(crate) upgrade: bool,
}

/// Opens a connection to the URL's host, from this address if one is given.
pub(crate) async fn dial(
    config: &ClientConfig,
    url: &Url,
    local: Option<IpAddr>,
    marks: &Rc<Marks>,
    log: &mut DialLog,
) -> Result<Wire, Error> {
    dial_for(config, url, local, marks, log, &Wishes::default()).await
}

/// The same, for another protocol than HTTP.
pub(crate) async fn dial_for(
    config: &ClientConfig,
    url: &Url,
    local: Option<IpAddr>,
    marks: &Rc<Marks>,
    log: &mut DialLog,
    wishes: &Wishes,
) -> Result<Wire, Error> {
    let host = url.host();
    let Some(port) = url.port() else {
        let text = format!("dial tcp: address {}: invalid port", url.port_text());
        return Err(ErrorKind::Other(text).into());
    };
    if let Some(pattern) = config.blocked(host) {
        return Err(blocked(host, pattern));
    }
    let proxy = config.proxies.of(url).filter(|_| !wishes.direct);
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
        if secure || proxy.kind == Kind::Socks || wishes.upgrade {
            let agent = config.user_agent.as_deref();
            proxy.tunnel(&mut socket, host, port, agent).await?;
        } else {
            log.absolute = true;
        }
    }
    if !secure {
        return Ok(Wire::plain(socket, marks.clone()));
    }
    // Behind a pointer, or its frame, most of which is the session, would be part of this one's.
    let shakes: Pin<Box<dyn Future<Output = _>>> =
        Box::pin(shake_hands(config, host, wishes, socket, marks, log));
    shakes.await
}

/// TLS over a connection.
async fn shake_hands(
    config: &ClientConfig,
    host: &str,
    wishes: &Wishes,
    socket: Socket,
    marks: &Rc<Marks>,
    log: &mut DialLog,
) -> Result<Wire, Error> {
    let name = wishes.name.as_deref().unwrap_or(host);
    let name = ServerName::try_from(name.to_owned())
        .map_err(|_| ErrorKind::Tls(format!("tls: invalid server name {name}")))?;
    let tls = match &wishes.tls {
        Some(tls) => tls.clone(),
        None => config.tls(host)?,
    };
    let connector = TlsConnector::from(tls);
    let handshake = Instant::now();
    let mut ocsp = None;
    let mut shaking = pin!(if wishes.upgrade {
        let one = connector.with_alpn(vec![b"http/1.1".to_vec()]);
        one.connect(name, socket)
    } else {
        connector.connect(name, socket)
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

/// A question that is being asked; what it brings is when the answer came, and the answer.
type Asking = Shared<BoxFuture<'static, (Clock, Answer)>>;

/// One name.
#[derive(Debug, Default)]
struct Slot {
    known: Mutex<Known>,
    /// How often one of its addresses has been taken in turn.
    turn: AtomicUsize,
}

#[derive(Debug, Default)]
struct Known {
    /// The last answer that was one, and when it came.
    answer: Option<(Clock, Arc<[IpAddr]>)>,
    asking: Option<Asking>,
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
        .answer_for(dns.ttl, || ask(host))
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
    /// The answer that is still good, else that of the question which is being asked already, else
    /// that of a new one.
    ///
    /// Whoever waits shares a failure too: otherwise a thousand VUs would wait for the same one
    /// after the other. And a question goes on when all who wait for it have given up, so that a
    /// name service that is slower than the requests' timeout is not asked again for each of them.
    async fn answer_for<F>(&self, ttl: Duration, ask: impl Fn() -> F) -> Answer
    where
        F: Future<Output = (Clock, Answer)> + Send + 'static,
    {
        let asked = Clock::now();
        loop {
            let asking = {
                let mut known = self.known();
                if let Some((at, answer)) = &known.answer
                    && at.elapsed() < ttl
                {
                    return Ok(answer.clone());
                }
                let asking = known.asking.get_or_insert_with(|| ask().boxed().shared());
                asking.clone()
            };
            let (at, answer) = asking.clone().await;
            let mut known = self.known();
            if known.asking.as_ref().is_some_and(|new| new.ptr_eq(&asking)) {
                known.asking = None;
                if let Ok(answer) = &answer {
                    known.answer = Some((at, answer.clone()));
                }
            }
            // One that nobody had waited for may be old.
            if at >= asked || (answer.is_ok() && at.elapsed() < ttl) {
                return answer;
            }
        }
    }

    fn known(&self) -> MutexGuard<'_, Known> {
        self.known.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Asks the system, on a thread that may wait for it.
fn ask(name: &str) -> impl Future<Output = (Clock, Answer)> + Send + 'static {
    let name = name.to_owned();
    let asked = tokio::task::spawn_blocking(move || {
        let found = (name.as_str(), 0).to_socket_addrs();
        let found = found.map(|all| all.map(|address| address.ip()).collect());
        (Clock::now(), found.map_err(|e| lookup_failure(&e)))
    });
    // Only the end of the process takes a question back.
    asked.map(|end| end.unwrap_or_else(|e| (Clock::now(), Err((e.to_string(), false)))))
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

    /// A name service that counts its questions and takes a second for each.
    async fn counted(questions: Arc<AtomicUsize>, outcome: Result<&str, &str>) -> (Clock, Answer) {
        questions.fetch_add(1, Ordering::SeqCst);
        tokio::time::sleep(Duration::from_secs(1)).await;
        let answer = match outcome {
            Ok(ip) => Ok([ip.parse().expect("an address")].into()),
            Err(reason) => Err((reason.to_owned(), false)),
        };
        (Clock::now(), answer)
    }

    #[tokio::test(start_paused = true)]
    async fn answers_are_kept_for_their_time_to_the_millisecond() {
        let (slot, questions) = (Slot::default(), Arc::<AtomicUsize>::default());
        let ask = || counted(questions.clone(), Ok("10.0.0.1"));
        let ttl = Duration::from_millis(250);
        let first = slot.answer_for(ttl, ask).await.expect("an answer");
        // It counts from the answer on, which took longer than it lasts.
        tokio::time::advance(Duration::from_millis(249)).await;
        let again = slot.answer_for(ttl, ask).await.expect("an answer");
        assert!(Arc::ptr_eq(&first, &again), "the kept answer serves");
        tokio::time::advance(Duration::from_millis(1)).await;
        let late = slot.answer_for(ttl, ask).await.expect("an answer");
        assert!(!Arc::ptr_eq(&first, &late), "an outdated answer does not");
        assert_eq!(questions.load(Ordering::SeqCst), 2);
        tokio::time::advance(Duration::from_secs(300_000_000)).await;
        slot.answer_for(Duration::MAX, ask)
            .await
            .expect("an answer");
        assert_eq!(questions.load(Ordering::SeqCst), 2, "for ever");
        slot.answer_for(Duration::ZERO, ask)
            .await
            .expect("an answer");
        assert_eq!(questions.load(Ordering::SeqCst), 3, "never");
    }

    #[tokio::test(start_paused = true)]
    async fn a_thousand_who_ask_at_once_ask_once() {
        for outcome in [Ok("10.0.0.1"), Err("server misbehaving")] {
            let (slot, questions) = (Slot::default(), Arc::<AtomicUsize>::default());
            let ask = || counted(questions.clone(), outcome);
            let all = (0..1_000).map(|_| slot.answer_for(Duration::ZERO, ask));
            let answers = futures_util::future::join_all(all).await;
            assert!(answers.iter().all(|a| a.is_ok() == outcome.is_ok()));
            assert_eq!(questions.load(Ordering::SeqCst), 1);
            // A failure is not kept, nor what is good for no time.
            let _ = slot.answer_for(Duration::ZERO, ask).await;
            assert_eq!(questions.load(Ordering::SeqCst), 2);
        }
    }

    #[tokio::test(start_paused = true)]
    async fn a_question_outlives_who_has_asked_it() {
        let (slot, questions) = (Slot::default(), Arc::<AtomicUsize>::default());
        let ask = || {
            let asked = tokio::spawn(counted(questions.clone(), Ok("10.0.0.1")));
            asked.map(|end| end.expect("an answer"))
        };
        let short = Duration::from_millis(300);
        for _ in 0..3 {
            let asked = slot.answer_for(short, ask);
            tokio::time::timeout(short, asked).await.expect_err("slow");
        }
        slot.answer_for(short, ask).await.expect("an answer");
        assert_eq!(questions.load(Ordering::SeqCst), 1);
        // But what it brings gets old whether or not somebody has heard it.
        tokio::time::sleep(short).await;
        let given_up = slot.answer_for(short, ask);
        tokio::time::timeout(short, given_up)
            .await
            .expect_err("slow");
        tokio::time::sleep(Duration::from_secs(60)).await;
        slot.answer_for(short, ask).await.expect("an answer");
        assert_eq!(questions.load(Ordering::SeqCst), 3);
    }

    #[tokio::test(flavor = "current_thread")]
    async fn the_system_is_asked_beside_the_worker() {
        let (at, answer) = ask("localhost").await;
        assert!(at.elapsed() < Duration::from_secs(3600));
        let answer = answer.expect("localhost");
        assert!(answer.iter().all(|ip| ip.is_loopback()), "{answer:?}");
        let (_, answer) = ask("no such name").await;
        answer.expect_err("no name has blanks");
    }
}
