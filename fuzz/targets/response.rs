//! Responses: the client against a server that sends the input, over a socket of loopback.
//!
//! The first line says how, in words: `https`, `h2`, `tunnel` (through a proxy's CONNECT), `proxy`,
//! `socks`, `garbage` (where TLS is expected), otherwise plain HTTP/1.1; `HEAD`, `POST`; `digest`,
//! `ntlm`; `discard`; `twice`, `batch`. The rest is what the server sends. [`NEXT`] parts it into
//! connections, [`FLUSH`] into pieces that the client sees one by one.
//!
//! The server closes after its last byte, so no request may come to its timeout.

#![no_main]

use std::{
    cell::{OnceCell, RefCell},
    net::Ipv4Addr,
    rc::Rc,
    sync::Arc,
    time::{Duration, Instant},
};

use libfuzzer_sys::fuzz_target;
use tokio::{
    io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt},
    net::TcpListener,
    runtime::Runtime,
    task::LocalSet,
};
use tokio_rustls::TlsAcceptor;
use volley_fuzz::{first_line, limited};
use volley_net::{Auth, Client, ClientConfig, Exchange, HostMap, Proxies, Request, Url, canonical};

/// Ends what one connection gets.
const NEXT: &[u8] = b"<next>";
/// Ends a piece: what follows is sent when the client has had time to look at it.
const FLUSH: &[u8] = b"<flush>";
/// So long that only a request which waits for nothing gets there.
const TIMEOUT: Duration = Duration::from_secs(20);

/// What is made once.
struct Rig {
    runtime: Runtime,
    tasks: LocalSet,
    listener: Rc<TcpListener>,
    /// For HTTP/1.1 and for HTTP/2.
    acceptors: [TlsAcceptor; 2],
    /// Directly, and through each kind of proxy.
    configs: [Arc<ClientConfig>; 3],
}

/// How an input wants to be sent.
struct Plan<'a> {
    words: Vec<&'a str>,
    connections: Vec<&'a [u8]>,
}

impl Plan<'_> {
    fn has(&self, word: &str) -> bool {
        self.words.contains(&word)
    }
}

impl Rig {
    fn new() -> Self {
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build();
        let runtime = runtime.expect("a runtime");
        let listener = runtime
            .block_on(TcpListener::bind((Ipv4Addr::LOCALHOST, 0)))
            .expect("a port");
        let address = listener.local_addr().expect("an address").to_string();
        let config = |proxy: Option<&str>| {
            let mut hosts = HostMap::default();
            hosts.insert("peer.test", &address).expect("a host");
            let proxy = proxy.map(|scheme| format!("{scheme}://me:secret@{address}"));
            let mut config = ClientConfig::default();
            config.hosts = hosts;
            config.proxies = Proxies::from_env(|name| proxy.clone().filter(|_| name != "NO_PROXY"));
            config.insecure_skip_tls_verify = true;
            Arc::new(config)
        };
        Self {
            configs: [config(None), config(Some("http")), config(Some("socks5"))],
            acceptors: ["http/1.1", "h2"].map(acceptor),
            listener: Rc::new(listener),
            tasks: LocalSet::new(),
            runtime,
        }
    }

    fn run(&self, input: &[u8]) {
        let (line, rest) = first_line(input);
        let plan = Plan {
            words: line.split(' ').collect(),
            connections: parts(rest, NEXT),
        };
        self.tasks.block_on(&self.runtime, async {
            tokio::select! {
                biased;
                () = self.serve(&plan) => unreachable!("the server goes on for ever"),
                () = self.request(&plan) => {}
            }
            // What connected and was not accepted belongs to no later input.
            while let Ok(accepted) =
                tokio::time::timeout(Duration::ZERO, self.listener.accept()).await
            {
                drop(accepted);
            }
        });
    }

    /// The client's side.
    async fn request(&self, plan: &Plan<'_>) {
        let tls = ["https", "h2", "tunnel", "garbage"]
            .iter()
            .any(|word| plan.has(word));
        let config = match () {
            () if plan.has("tunnel") || plan.has("proxy") => &self.configs[1],
            () if plan.has("socks") => &self.configs[2],
            () => &self.configs[0],
        };
        let scheme = if tls { "https" } else { "http" };
        let url = Url::parse(&format!("{scheme}://me:secret@peer.test/a?b")).expect("a URL");
        let method = ["HEAD", "POST"].into_iter().find(|word| plan.has(word));
        let mut request = Request::new(method.unwrap_or("GET"), url);
        request.timeout = TIMEOUT;
        request.body = (method == Some("POST")).then(|| "body".into());
        request.discard_body = plan.has("discard");
        request.auth = match () {
            () if plan.has("digest") => Auth::Digest,
            () if plan.has("ntlm") => Auth::Ntlm,
            () => Auth::Basic,
        };
        let client = Client::new(config.clone());
        let begun = Instant::now();
        let exchanges = if plan.has("batch") {
            client.send_all(vec![request; 3], |_, _| ()).await
        } else {
            let mut exchanges = vec![client.send(request.clone()).await];
            if plan.has("twice") {
                exchanges.push(client.send(request).await);
            }
            exchanges
        };
        let took = begun.elapsed();
        exchanges.iter().for_each(|exchange| check(exchange, took));
        let (_, received) = client.take_data();
        let most: usize = plan.connections.iter().map(|bytes| bytes.len()).sum();
        if !tls {
            assert!(
                received <= most as u64,
                "{received} bytes received, {most} sent"
            );
        }
    }

    /// The server's side: each connection gets its part of the input, and is closed.
    async fn serve(&self, plan: &Plan<'_>) {
        let mut scripts = plan.connections.iter();
        loop {
            let accepted = self.listener.accept().await;
            let (stream, _) = accepted.expect("a connection");
            let script = scripts.next().copied().unwrap_or_default().to_vec();
            let acceptor = match () {
                () if plan.has("h2") => Some(self.acceptors[1].clone()),
                () if plan.has("https") => Some(self.acceptors[0].clone()),
                () => None,
            };
            tokio::task::spawn_local(async move {
                match acceptor {
                    None => play(stream, &script).await,
                    Some(acceptor) => {
                        if let Ok(stream) = acceptor.accept(stream).await {
                            play(stream, &script).await;
                        }
                    }
                }
            });
        }
    }
}

fn acceptor(protocol: &str) -> TlsAcceptor {
    let certified =
        rcgen::generate_simple_self_signed(vec!["peer.test".to_owned()]).expect("a certificate");
    let key = rustls::pki_types::PrivateKeyDer::try_from(certified.signing_key.serialize_der())
        .expect("a key");
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let mut config = rustls::ServerConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .expect("versions")
        .with_no_client_auth()
        .with_single_cert(vec![certified.cert.der().clone()], key)
        .expect("a configuration");
    config.alpn_protocols = vec![protocol.into()];
    Arc::new(config).into()
}

/// Waits for the client, sends everything, closes, and reads what the client still has to say.
async fn play(stream: impl AsyncRead + AsyncWrite + Unpin, script: &[u8]) {
    let (mut from, mut to) = tokio::io::split(stream);
    let mut buffer = [0; 4096];
    if !matches!(from.read(&mut buffer).await, Ok(1..)) {
        return;
    }
    let send = async {
        for piece in parts(script, FLUSH) {
            if to.write_all(piece).await.is_err() || to.flush().await.is_err() {
                break;
            }
            tokio::task::yield_now().await;
        }
        // The client may have gone already.
        let _ = to.shutdown().await;
    };
    let drain = async { while let Ok(1..) = from.read(&mut buffer).await {} };
    tokio::join!(send, drain);
}

fn parts<'a>(mut bytes: &'a [u8], separator: &[u8]) -> Vec<&'a [u8]> {
    let mut parts = Vec::new();
    while let Some(at) = bytes
        .windows(separator.len())
        .position(|window| window == separator)
    {
        parts.push(&bytes[..at]);
        bytes = &bytes[at + separator.len()..];
    }
    parts.push(bytes);
    parts
}

/// What holds for every exchange, whatever came.
fn check(exchange: &Exchange, took: Duration) {
    let mut sum = Duration::ZERO;
    for hop in exchange.earlier.iter().chain([&exchange.last]) {
        let timings = &hop.timings;
        // Where a handshake has failed, its time is told without `blocked`.
        let opening = timings.connecting + timings.tls_handshaking;
        sum += timings.blocked.max(opening) + timings.duration();
    }
    assert!(sum <= took, "phases of {sum:?} in {took:?}");
    match exchange.error() {
        Some(error) => {
            // Another than a timeout, which nothing here is worth.
            assert_ne!(error.code(), 1050, "{}", error.raw());
            assert!(error.code() >= 1000, "{}", error.raw());
            assert!(!error.short().is_empty() && !error.to_string().is_empty());
            assert_eq!(exchange.last.status, 0);
        }
        None => {
            let response = exchange
                .response
                .as_ref()
                .expect("a response without an error");
            assert_eq!(response.status, exchange.last.status);
            assert!(
                (100..1000).contains(&response.status),
                "{}",
                response.status
            );
        }
    }
    exchange.request_headers();
    if let Some(response) = &exchange.response {
        response.cookies();
        response
            .headers
            .keys()
            .for_each(|name| drop(canonical(name.as_str())));
        assert!(!exchange.request.discard_body || response.body.is_empty());
    }
}

thread_local! {
    static RIG: OnceCell<RefCell<Rig>> = const { OnceCell::new() };
}

fuzz_target!(|input: &[u8]| RIG.with(|rig| {
    let rig = rig.get_or_init(|| Rig::new().into()).borrow();
    limited(512 << 20, || rig.run(input));
}));
