//! A server to call: one connection at a time, made anew for the next call when it has ended.

use std::{
    cell::{Cell, RefCell},
    future::poll_fn,
    net::{IpAddr, SocketAddr},
    rc::Rc,
    sync::Arc,
    task::Poll,
    time::{Duration, Instant},
};

use bytes::Bytes;
use http::HeaderValue;
use rustls::pki_types::{CertificateDer, pem::PemObject};
use tokio::sync::Mutex;

use super::{
    call::{Call, CallRequest, Event, Outcome, Terms},
    metadata::Metadata,
    status::{CLOSING, Status, StatusCode},
};
use crate::{
    config::ClientConfig,
    dial::{self, DialLog, Wishes},
    error::{Error, ErrorKind, Http2Failure, http2_code},
    http::{
        http2::{self, Http2},
        wire::{Marks, Meter},
    },
    tls::Identity,
    url::{Url, quote},
};

/// Longest message that is received by default, in bytes: as Go's library has it.
const RECEIVE: usize = 4 << 20;
/// Longest message that can be sent, in bytes: what an `int` of that library can say.
const SEND: usize = i32::MAX as usize;
/// What tells servers who calls, after the test's own `User-Agent`.
const AGENT: &str = concat!("grpc-rust-volley/", env!("CARGO_PKG_VERSION"));
/// How long to wait before another attempt to connect, and how much longer each time
/// (connection-backoff.md of the gRPC project).
const PAUSE: Duration = Duration::from_secs(1);
const GROWTH: f64 = 1.6;
const LONGEST_PAUSE: Duration = Duration::from_secs(120);

/// How a server is called.
#[derive(Debug)]
pub struct ChannelOptions {
    /// Without TLS.
    pub plaintext: bool,
    /// Who the server is taken for, instead of the host of its address: the `:authority` of calls,
    /// and the name that its certificate has to be for.
    pub authority: Option<String>,
    /// Longest message that is received, in bytes.
    pub max_receive: usize,
    /// Longest message that is sent, in bytes.
    pub max_send: usize,
    /// Certificates of this channel's own.
    pub tls: ChannelTls,
}

impl Default for ChannelOptions {
    fn default() -> Self {
        Self {
            plaintext: false,
            authority: None,
            max_receive: RECEIVE,
            max_send: SEND,
            tls: ChannelTls::default(),
        }
    }
}

/// Certificates of a channel's own.
#[derive(Clone, Debug, Default)]
pub struct ChannelTls {
    /// Whom to trust, instead of the system's.
    roots: Option<Vec<CertificateDer<'static>>>,
    /// What to show to a server that asks for it, instead of the test's.
    identity: Option<Identity>,
}

impl ChannelTls {
    /// Trusts the certificates in these PEM texts only.
    ///
    /// # Errors
    /// That one of them has no certificate.
    pub fn trust(&mut self, texts: &[String]) -> Result<(), String> {
        let mut roots = Vec::new();
        for text in texts {
            let before = roots.len();
            let certificates = CertificateDer::pem_slice_iter(text.as_bytes());
            roots.extend(certificates.filter_map(Result::ok));
            if roots.len() == before {
                return Err(format!("failed to append ca certificate [{text}] from PEM"));
            }
        }
        self.roots = Some(roots).filter(|roots| !roots.is_empty());
        Ok(())
    }

    /// Shows this certificate; all PEM.
    ///
    /// # Errors
    /// What is wrong with them.
    pub fn show(
        &mut self,
        certificate: &str,
        key: &str,
        password: Option<&str>,
    ) -> Result<(), String> {
        let identity = Identity::from_pem(certificate, key, password, Vec::new())?;
        self.identity = Some(identity);
        Ok(())
    }
}

/// The answer to a call with one message each way.
#[derive(Debug)]
pub struct Reply {
    /// The message; `None` if the call failed.
    pub message: Option<Bytes>,
    /// How it ended.
    pub outcome: Outcome,
    /// When it began.
    pub begun: Instant,
    /// The address of the server, if there was a connection.
    pub remote: Option<SocketAddr>,
}

/// A server to call.
#[derive(Debug)]
pub struct Channel {
    config: Arc<ClientConfig>,
    local: Option<IpAddr>,
    meter: Rc<Meter>,
    /// Where to: `http://host:port`, or `https` with TLS.
    url: Url,
    wishes: Wishes,
    terms: Terms,
    current: RefCell<Option<Rc<Http2>>>,
    /// Held while a connection is made: others wait for that one.
    dialing: Mutex<()>,
    closed: Cell<bool>,
}

/// Why there is no connection.
struct Unreachable {
    text: String,
    /// Whether another attempt may do better.
    temporary: bool,
}

impl Unreachable {
    fn lasting(text: String) -> Self {
        Self {
            text,
            temporary: false,
        }
    }
}

impl std::fmt::Display for Unreachable {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "connection error: desc = {}", quote(&self.text))
    }
}

impl Channel {
    pub(crate) fn new(
        config: Arc<ClientConfig>,
        local: Option<IpAddr>,
        meter: Rc<Meter>,
        address: &str,
        options: ChannelOptions,
    ) -> Result<Self, String> {
        let address = plain_address(address);
        let scheme = if options.plaintext { "http" } else { "https" };
        let unreachable = |text: String| Unreachable::lasting(text).to_string();
        if !has_port(address) {
            return Err(unreachable(format!(
                "transport: error while dialing: dial tcp: address {address}: missing port in \
                 address"
            )));
        }
        let url = Url::parse(&format!("{scheme}://{address}"))
            .map_err(|e| unreachable(format!("transport: error while dialing: {e}")))?;
        let name = options.authority.as_deref().map(host_of);
        let wishes = Wishes {
            direct: true,
            tls: match scheme {
                "http" => None,
                _ => {
                    let (host, tls) = (url.host(), options.tls);
                    let made = config.tls_for_grpc(host, tls.roots, tls.identity);
                    Some(made.map_err(|e| unreachable(e.raw()))?)
                }
            },
            name: name.map(str::to_owned),
            upgrade: false,
        };
        let agent = match config.user_agent.as_deref() {
            None | Some("") => AGENT.to_owned(),
            Some(own) => format!("{own} {AGENT}"),
        };
        let agent = HeaderValue::try_from(agent)
            .map_err(|_| "the user agent has characters that cannot be sent".to_owned())?;
        Ok(Self {
            config,
            local,
            meter,
            wishes,
            terms: Terms {
                scheme,
                authority: options.authority.unwrap_or_else(|| address.to_owned()),
                agent,
                most: (options.max_receive, options.max_send.min(SEND)),
            },
            url,
            current: RefCell::default(),
            dialing: Mutex::default(),
            closed: Cell::new(false),
        })
    }

    /// Connects, with further attempts where they may do better, until `timeout` is over.
    ///
    /// # Errors
    /// Why that failed: `connection error: desc = "…"`, or `context deadline exceeded` with the last
    /// such failure.
    pub async fn connect(&self, timeout: Duration) -> Result<(), String> {
        let deadline = deadline(timeout);
        let (mut last, mut pause) = (None, PAUSE);
        loop {
            match tokio::time::timeout_at(deadline, self.ready()).await {
                Ok(Ok(_)) => return Ok(()),
                Ok(Err(failure)) if failure.temporary => last = Some(failure),
                Ok(Err(failure)) => return Err(failure.to_string()),
                Err(_elapsed) => {}
            }
            let next = tokio::time::Instant::now() + pause;
            if next >= deadline {
                tokio::time::sleep_until(deadline).await;
                return Err(match last {
                    Some(last) => format!("context deadline exceeded: {last}"),
                    None => "context deadline exceeded".to_owned(),
                });
            }
            tokio::time::sleep_until(next).await;
            pause = pause.mul_f64(GROWTH).min(LONGEST_PAUSE);
        }
    }

    /// Calls a method with one message and waits for the answer. A call that the server has refused
    /// without looking at it is made once more.
    pub async fn unary(&self, request: &CallRequest, message: &Bytes) -> Reply {
        let begun = Instant::now();
        let deadline = request.timeout.map(deadline);
        let mut again = true;
        loop {
            let call = match self.begin_until(request, deadline).await {
                Ok(call) => call,
                Err(status) => {
                    return Reply {
                        message: None,
                        outcome: Outcome::failed(status),
                        begun,
                        remote: None,
                    };
                }
            };
            call.send(message);
            call.finish();
            let (message, outcome) = only_message(&call).await;
            if again && outcome.untouched {
                again = false;
                continue;
            }
            return Reply {
                message: message.filter(|_| outcome.status.is_ok()),
                outcome,
                begun,
                remote: call.remote(),
            };
        }
    }

    /// Begins a call with any number of messages each way.
    ///
    /// # Errors
    /// Why there is no connection for it, or what is wrong with its path.
    pub async fn begin(&self, request: &CallRequest) -> Result<Call, Status> {
        let deadline = request.timeout.map(deadline);
        self.begin_until(request, deadline).await
    }

    async fn begin_until(
        &self,
        request: &CallRequest,
        deadline: Option<tokio::time::Instant>,
    ) -> Result<Call, Status> {
        let ready = match deadline {
            None => self.ready().await,
            Some(at) => match tokio::time::timeout_at(at, self.ready()).await {
                Ok(ready) => ready,
                Err(_elapsed) => return Err(Status::late()),
            },
        };
        if self.closed.get() {
            return Err(Status::new(StatusCode::CANCELED, CLOSING));
        }
        let http2 = ready.map_err(|e| Status::new(StatusCode::UNAVAILABLE, e.to_string()))?;
        Call::open(http2, &self.terms, request, deadline).map_err(|e| Status::of(&e))
    }

    /// The address of the server, if there is a connection.
    pub fn remote(&self) -> Option<SocketAddr> {
        self.current.borrow().as_ref()?.remote
    }

    /// Closes the connection. Calls that go on end with the status `Canceled`, and so does each that
    /// begins afterwards.
    pub fn close(&self) {
        self.closed.set(true);
        if let Some(current) = self.current.take() {
            current.close(Error::other(CLOSING.to_owned()));
        }
    }

    /// The connection, if it can take one more call.
    async fn usable(&self) -> Option<Rc<Http2>> {
        let current = self.current.borrow().clone()?;
        let alive = poll_fn(|task| Poll::Ready(current.alive(task))).await;
        alive.then_some(current)
    }

    /// A connection that can take a call.
    async fn ready(&self) -> Result<Rc<Http2>, Unreachable> {
        if let Some(usable) = self.usable().await {
            return Ok(usable);
        }
        let _alone = self.dialing.lock().await;
        if let Some(usable) = self.usable().await {
            return Ok(usable);
        }
        if self.closed.get() {
            return Err(Unreachable::lasting(CLOSING.to_owned()));
        }
        let made = self.dial().await?;
        *self.current.borrow_mut() = Some(made.clone());
        if self.closed.get() {
            self.close();
        }
        Ok(made)
    }

    async fn dial(&self) -> Result<Rc<Http2>, Unreachable> {
        let marks = Marks::new(self.meter.clone());
        let mut log = DialLog::default();
        let dialed = dial::dial_for(
            &self.config,
            &self.url,
            self.local,
            &marks,
            &mut log,
            &self.wishes,
        );
        let wire = dialed.await.map_err(|error| unreachable(&error))?;
        if self.wishes.tls.is_some() && !log.http2 {
            return Err(Unreachable::lasting(
                "transport: authentication handshake failed: credentials: cannot check peer: \
                 missing selected ALPN property"
                    .to_owned(),
            ));
        }
        // No stream before the server has introduced itself: another server is found out so.
        let opened = async {
            let http2 = http2::over(&self.config, wire, &self.url, marks, &log, 0).await?;
            http2.greeted().await.map(|()| http2)
        };
        opened.await.map_err(|error| Unreachable {
            text: format!("error reading server preface: {}", preface_fault(&error)),
            temporary: true,
        })
    }
}

/// The only message of a call, and how it ended.
async fn only_message(call: &Call) -> (Option<Bytes>, Outcome) {
    let mut only = None;
    loop {
        match call.next().await {
            Event::Message(message) if only.is_none() => only = Some(message),
            Event::Message(_) => {
                let text = "cardinality violation: expected <EOF> for non server-streaming RPCs, but \
                            received another message";
                let status = Status::new(StatusCode::INTERNAL, text);
                return (None, Outcome::failed(status));
            }
            Event::End(mut outcome) => {
                if outcome.status.is_ok() && only.is_none() {
                    let text = "cardinality violation: received no response message from \
                                non-server-streaming RPC";
                    outcome.status = Status::new(StatusCode::INTERNAL, text);
                }
                return (only, *outcome);
            }
        }
    }
}

/// When a time from now is over. Far away is as good as never, and must not overflow.
fn deadline(timeout: Duration) -> tokio::time::Instant {
    const LONGEST: Duration = Duration::from_secs(86400 * 365);
    tokio::time::Instant::now() + timeout.min(LONGEST)
}

/// An address without the name of its resolver: `dns:///host:port` is `host:port`.
fn plain_address(address: &str) -> &str {
    let schemes = ["dns:///", "passthrough:///", "dns:"];
    let plain = schemes.iter().find_map(|s| address.strip_prefix(s));
    plain.unwrap_or(address)
}

fn has_port(address: &str) -> bool {
    let after = address.rsplit_once(']').map_or(address, |(_, after)| after);
    after.contains(':')
}

/// The host of `host:port`, `[::1]:port` or `host`.
fn host_of(authority: &str) -> &str {
    if let Some((inside, _)) = authority.strip_prefix('[').and_then(|a| a.split_once(']')) {
        return inside;
    }
    match authority.rsplit_once(':') {
        Some((host, _)) if !host.contains(':') => host,
        _ => authority,
    }
}

/// A dial that has failed.
fn unreachable(error: &Error) -> Unreachable {
    let raw = error.raw();
    let (text, temporary) = match error.kind() {
        ErrorKind::TlsRecord(_)
        | ErrorKind::TlsAuthority
        | ErrorKind::TlsHostname(_)
        | ErrorKind::Tls(_) => (
            format!("transport: authentication handshake failed: {raw}"),
            false,
        ),
        kind => {
            let temporary = matches!(
                kind,
                ErrorKind::DialTimeout(_)
                    | ErrorKind::Eof
                    | ErrorKind::UnexpectedEof
                    | ErrorKind::Socket { .. }
                    | ErrorKind::Lookup { missing: false, .. }
            );
            (format!("transport: error while dialing: {raw}"), temporary)
        }
    };
    Unreachable { text, temporary }
}

/// Why a server's introduction was none.
fn preface_fault(error: &Error) -> String {
    const FRAME_SIZE_ERROR: u32 = 6;
    match error.kind() {
        ErrorKind::Http2(Http2Failure::Connection, FRAME_SIZE_ERROR) => {
            "http2: frame too large".to_owned()
        }
        ErrorKind::Http2(_, code) => format!("connection error: {}", http2_code(*code)),
        ErrorKind::Eof | ErrorKind::UnexpectedEof => "EOF".to_owned(),
        _ => error.raw(),
    }
}

impl Reply {
    /// How it ended.
    pub fn status(&self) -> &Status {
        &self.outcome.status
    }

    /// What came before the message, and after it.
    pub fn metadata(&self) -> (&Metadata, &Metadata) {
        (&self.outcome.headers, &self.outcome.trailers)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_are_taken_apart() {
        assert_eq!(plain_address("dns:///a:1"), "a:1");
        assert_eq!(plain_address("a:1"), "a:1");
        assert!(has_port("a:1") && has_port("[::1]:2") && !has_port("a") && !has_port("[::1]"));
        assert_eq!(host_of("a.b:1"), "a.b");
        assert_eq!(host_of("[::1]:1"), "::1");
        assert_eq!(host_of("a.b"), "a.b");
    }
}
