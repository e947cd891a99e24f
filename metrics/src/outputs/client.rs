//! The HTTP client of outputs that push: one receiver, a few connections that are kept, a limit
//! for each request.
//!
//! It is hyper, which scripts' requests need anyway, on the runtime of the output's own thread.
//! The client of scripts (the crate `net`) is another one: it measures, and this must not.

use std::{cell::RefCell, error::Error as _, io, sync::Arc, time::Duration};

use bytes::Bytes;
use http::{HeaderMap, HeaderValue, Method, Request, Response, Uri, header};
use http_body_util::{BodyExt, Full, Limited};
use hyper::{
    body::Incoming,
    client::conn::{http1, http2},
};
use hyper_util::rt::{TokioExecutor, TokioIo};
use rustls::{
    DigitallySignedStruct, RootCertStore, SignatureScheme,
    client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier},
    crypto::{CryptoProvider, verify_tls12_signature, verify_tls13_signature},
    pki_types::{CertificateDer, PrivateKeyDer, ServerName, UnixTime, pem::PemObject},
};
use tokio::{
    io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt},
    net::TcpStream,
};
use tokio_rustls::TlsConnector;

use super::file::reason;

/// How much of an answer is read.
const ANSWER: usize = 1 << 20;
/// What TLS calls HTTP/2.
const H2: &[u8] = b"h2";

/// The version of HTTP that is spoken.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Version {
    Http1,
    /// Without asking for it first where there is no TLS, as gRPC does.
    Http2,
}

/// Where requests go: the parts of a URL.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Endpoint {
    pub(super) https: bool,
    /// Without the brackets of an IPv6 address.
    host: String,
    port: u16,
    /// As in the URL, without name and password.
    pub(super) authority: String,
    /// From the first slash on, with the query.
    pub(super) path: String,
    /// Name and password that stand in the URL.
    pub(super) user: Option<(String, String)>,
}

impl Endpoint {
    /// The URL, without name and password.
    pub(super) fn url(&self) -> String {
        let scheme = if self.https { "https" } else { "http" };
        format!("{scheme}://{}{}", self.authority, self.path)
    }

    /// The header that tells who is named in the URL.
    fn authorization(&self) -> Result<Option<HeaderValue>, String> {
        let user = self.user.as_ref();
        user.map(|(name, password)| basic_auth(name, password))
            .transpose()
    }

    /// # Errors
    /// What is no URL of `http` or `https` with a host.
    pub(super) fn parse(url: &str) -> Result<Self, String> {
        let bad = |problem: &str| format!("parse {url:?}: {problem}");
        let uri: Uri = url.parse().map_err(|_| bad("invalid URL"))?;
        let https = match uri.scheme_str() {
            Some("http") => false,
            Some("https") => true,
            _ => return Err(bad("the scheme must be http or https")),
        };
        let authority = uri.authority().ok_or_else(|| bad("no host in it"))?;
        let (user, plain) = match authority.as_str().rsplit_once('@') {
            Some((user, plain)) => (Some(user), plain),
            None => (None, authority.as_str()),
        };
        let user = user.map(|user| {
            let (name, password) = user.split_once(':').unwrap_or((user, ""));
            (unescape(name), unescape(password))
        });
        let host = authority.host().trim_matches(['[', ']']).to_owned();
        if host.is_empty() {
            return Err(bad("no host in it"));
        }
        let path = uri.path_and_query().map_or("/", |path| path.as_str());
        Ok(Self {
            https,
            host,
            port: authority.port_u16().unwrap_or(if https { 443 } else { 80 }),
            authority: plain.to_owned(),
            path: path.to_owned(),
            user,
        })
    }
}

/// Undoes `%41`; what is not an escape stays.
pub(super) fn unescape(text: &str) -> String {
    let mut bytes = Vec::with_capacity(text.len());
    let mut rest = text.as_bytes();
    while let Some((&byte, tail)) = rest.split_first() {
        let digit = |at: usize| tail.get(at).and_then(|&c| char::from(c).to_digit(16));
        match (byte, digit(0), digit(1)) {
            (b'%', Some(high), Some(low)) => {
                bytes.push((high * 16 + low) as u8);
                rest = &tail[2..];
            }
            _ => {
                bytes.push(byte);
                rest = tail;
            }
        }
    }
    String::from_utf8_lossy(&bytes).into_owned()
}

/// Escapes what has a meaning in a query.
pub(super) fn escape(text: &str) -> String {
    text.bytes()
        .map(|byte| match byte {
            b'a'..=b'z' | b'A'..=b'Z' | b'0'..=b'9' | b'-' | b'_' | b'.' | b'~' => {
                char::from(byte).to_string()
            }
            _ => format!("%{byte:02X}"),
        })
        .collect()
}

/// `Authorization: Basic`.
pub(super) fn basic_auth(name: &str, password: &str) -> Result<HeaderValue, String> {
    use base64::Engine;
    let pair = base64::engine::general_purpose::STANDARD.encode(format!("{name}:{password}"));
    let mut value =
        HeaderValue::try_from(format!("Basic {pair}")).map_err(|error| error.to_string())?;
    value.set_sensitive(true);
    Ok(value)
}

/// How TLS is spoken.
#[derive(Debug, Clone, Default)]
pub(super) struct TlsOptions {
    /// Any certificate will do.
    pub(super) insecure: bool,
    /// TLS 1.2 is not enough.
    pub(super) only_13: bool,
    /// A file of certificates to trust, in place of the system's.
    pub(super) roots: Option<String>,
    /// Files with our certificate and its key.
    pub(super) client: Option<(String, String)>,
}

impl TlsOptions {
    /// # Errors
    /// Files that cannot be read, or do not hold what they should.
    fn connector(&self, version: Version) -> Result<TlsConnector, String> {
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let versions: &[_] = match self.only_13 {
            true => &[&rustls::version::TLS13],
            false => &[&rustls::version::TLS13, &rustls::version::TLS12],
        };
        let builder = rustls::ClientConfig::builder_with_provider(provider.clone())
            .with_protocol_versions(versions)
            .map_err(|error| error.to_string())?;
        let builder = if self.insecure {
            builder
                .dangerous()
                .with_custom_certificate_verifier(Arc::new(AnyCertificate(provider)))
        } else {
            builder.with_root_certificates(self.trusted()?)
        };
        let mut config = match &self.client {
            None => builder.with_no_client_auth(),
            Some((certificates, key)) => {
                let chain = read_certificates(certificates)?;
                let bad = |error: &dyn std::fmt::Display| format!("{key}: {error}");
                let der = PrivateKeyDer::from_pem_file(key).map_err(|error| bad(&error))?;
                builder
                    .with_client_auth_cert(chain, der)
                    .map_err(|error| bad(&error))?
            }
        };
        if version == Version::Http2 {
            config.alpn_protocols = vec![H2.to_vec()];
        }
        Ok(TlsConnector::from(Arc::new(config)))
    }

    fn trusted(&self) -> Result<RootCertStore, String> {
        let mut roots = RootCertStore::empty();
        if let Some(path) = &self.roots {
            for certificate in read_certificates(path)? {
                let added = roots.add(certificate);
                added.map_err(|error| format!("{path}: {error}"))?;
            }
            return Ok(roots);
        }
        roots.add_parsable_certificates(rustls_native_certs::load_native_certs().certs);
        if roots.is_empty() {
            roots.extend(webpki_roots::TLS_SERVER_ROOTS.iter().cloned());
        }
        Ok(roots)
    }
}

fn read_certificates(path: &str) -> Result<Vec<CertificateDer<'static>>, String> {
    let bad = |error: &dyn std::fmt::Display| format!("{path}: {error}");
    let found: Vec<_> = CertificateDer::pem_file_iter(path)
        .map_err(|error| bad(&error))?
        .collect::<Result<_, _>>()
        .map_err(|error| bad(&error))?;
    match found.is_empty() {
        true => Err(format!("{path}: no certificate in it")),
        false => Ok(found),
    }
}

/// Whoever it is, but the handshake must be signed by its key.
#[derive(Debug)]
struct AnyCertificate(Arc<CryptoProvider>);

impl ServerCertVerifier for AnyCertificate {
    fn verify_server_cert(
        &self,
        _: &CertificateDer<'_>,
        _: &[CertificateDer<'_>],
        _: &ServerName<'_>,
        _: &[u8],
        _: UnixTime,
    ) -> Result<ServerCertVerified, rustls::Error> {
        Ok(ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        let algorithms = &self.0.signature_verification_algorithms;
        verify_tls12_signature(message, certificate, signature, algorithms)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        let algorithms = &self.0.signature_verification_algorithms;
        verify_tls13_signature(message, certificate, signature, algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.0.signature_verification_algorithms.supported_schemes()
    }
}

/// A request to be made.
#[derive(Debug, Clone)]
pub(super) struct Post {
    /// With the query.
    pub(super) path: String,
    pub(super) headers: HeaderMap,
    pub(super) body: Bytes,
}

/// An answer.
#[derive(Debug)]
pub(super) struct Reply {
    pub(super) status: u16,
    /// Those before the body, and those after it.
    pub(super) headers: HeaderMap,
    pub(super) body: Bytes,
}

/// A connection that takes requests.
enum Sender {
    Http1(http1::SendRequest<Full<Bytes>>),
    Http2(http2::SendRequest<Full<Bytes>>),
}

impl Sender {
    async fn ready(&mut self) -> hyper::Result<()> {
        match self {
            Self::Http1(sender) => sender.ready().await,
            Self::Http2(sender) => sender.ready().await,
        }
    }

    async fn send(&mut self, request: Request<Full<Bytes>>) -> hyper::Result<Response<Incoming>> {
        match self {
            Self::Http1(sender) => sender.send_request(request).await,
            Self::Http2(sender) => sender.send_request(request).await,
        }
    }
}

/// Sends requests to one receiver. It belongs to one thread.
pub(super) struct Client {
    endpoint: Endpoint,
    version: Version,
    tls: Option<TlsConnector>,
    proxy: Option<Endpoint>,
    limit: Duration,
    idle: RefCell<Vec<Sender>>,
}

impl Client {
    /// A client whose requests take at most `limit`, connecting included.
    ///
    /// # Errors
    /// Files of the TLS options that cannot be used; they are read only for `https`.
    pub(super) fn new(
        endpoint: Endpoint,
        version: Version,
        tls: &TlsOptions,
        limit: Duration,
    ) -> Result<Self, String> {
        let tls = endpoint.https.then(|| tls.connector(version)).transpose()?;
        Ok(Self {
            endpoint,
            version,
            tls,
            proxy: None,
            limit,
            idle: RefCell::default(),
        })
    }

    /// The same, by way of a proxy; it is spoken to without TLS, and in HTTP/1.1.
    pub(super) fn through(mut self, proxy: Option<Endpoint>) -> Self {
        self.proxy = proxy;
        self
    }

    /// Sends one request.
    ///
    /// # Errors
    /// Why there was no answer.
    pub(super) async fn post(&self, post: Post) -> Result<Reply, String> {
        let scheme = if self.endpoint.https { "https" } else { "http" };
        let path = post.path.split('?').next().unwrap_or_default();
        let url = format!("{scheme}://{}{path}", self.endpoint.authority);
        let answered = tokio::time::timeout(self.limit, self.exchange(post)).await;
        let answered = answered.unwrap_or_else(|_| {
            let limit = crate::format::go_duration(self.limit);
            Err(format!("no answer within {limit}"))
        });
        answered.map_err(|problem| format!("Post {url:?}: {problem}"))
    }

    async fn exchange(&self, post: Post) -> Result<Reply, String> {
        // A connection that was kept may be closed by the other end in the moment of its use.
        loop {
            let kept = self.idle.borrow_mut().pop();
            let Some(mut sender) = kept else { break };
            if sender.ready().await.is_err() {
                continue;
            }
            match self.send(sender, &post).await {
                Err(error) if error.is_canceled() || error.is_incomplete_message() => break,
                sent => return sent.map_err(|error| words(&error))?,
            }
        }
        let sender = self.connect().await?;
        self.send(sender, &post)
            .await
            .map_err(|error| words(&error))?
    }

    async fn connect(&self) -> Result<Sender, String> {
        let Endpoint { host, port, .. } = self.proxy.as_ref().unwrap_or(&self.endpoint);
        let stream = TcpStream::connect((host.as_str(), *port)).await;
        let mut stream = stream.map_err(|error| reason(&error))?;
        // A request is one write: nothing to wait for.
        let _ = stream.set_nodelay(true);
        let Some(tls) = &self.tls else {
            return handshake(stream, self.version).await;
        };
        if let Some(proxy) = &self.proxy {
            let tunnel = tunnel(&mut stream, &self.endpoint, proxy);
            tunnel
                .await
                .map_err(|error| format!("the proxy: {}", reason(&error)))?;
        }
        let name =
            ServerName::try_from(self.endpoint.host.clone()).map_err(|error| error.to_string())?;
        let stream = tls.connect(name, stream).await;
        let stream = stream.map_err(|error| reason(&error))?;
        let agreed = stream.get_ref().1.alpn_protocol();
        if self.version == Version::Http2 && agreed != Some(H2) {
            return Err("the receiver does not speak HTTP/2 over TLS, which gRPC needs".to_owned());
        }
        handshake(stream, self.version).await
    }

    async fn send(
        &self,
        mut sender: Sender,
        post: &Post,
    ) -> Result<Result<Reply, String>, hyper::Error> {
        let mut request = Request::new(Full::new(post.body.clone()));
        *request.method_mut() = Method::POST;
        *request.headers_mut() = post.headers.clone();
        let mut target = post.path.clone();
        if self.version == Version::Http2 {
            // What HTTP/1.1 has in `Host` is part of the target here.
            let scheme = if self.endpoint.https { "https" } else { "http" };
            target.insert_str(0, &format!("{scheme}://{}", self.endpoint.authority));
        } else if let Some(proxy) = &self.proxy
            && !self.endpoint.https
        {
            target.insert_str(0, &format!("http://{}", self.endpoint.authority));
            match proxy.authorization() {
                Ok(Some(value)) => {
                    request
                        .headers_mut()
                        .insert(header::PROXY_AUTHORIZATION, value);
                }
                Ok(None) => {}
                Err(problem) => return Ok(Err(problem)),
            }
        }
        *request.uri_mut() = match target.parse() {
            Ok(uri) => uri,
            Err(_) => return Ok(Err(format!("{target:?} is no path"))),
        };
        if self.version == Version::Http1 {
            match HeaderValue::try_from(&self.endpoint.authority) {
                Ok(host) => request.headers_mut().insert(header::HOST, host),
                Err(error) => return Ok(Err(error.to_string())),
            };
        }
        let response = sender.send(request).await?;
        let (head, body) = response.into_parts();
        let body: Limited<Incoming> = Limited::new(body, ANSWER);
        let body = match body.collect().await {
            Ok(body) => body,
            Err(error) => return Ok(Err(error.to_string())),
        };
        self.idle.borrow_mut().push(sender);
        let mut headers = head.headers;
        headers.extend(body.trailers().cloned().unwrap_or_default());
        Ok(Ok(Reply {
            status: head.status.as_u16(),
            headers,
            body: body.to_bytes(),
        }))
    }
}

/// Has a proxy connect the stream with the one that is meant.
async fn tunnel(stream: &mut TcpStream, to: &Endpoint, proxy: &Endpoint) -> io::Result<()> {
    let authority = match to.authority.rsplit_once(':') {
        Some((_, port)) if !port.ends_with(']') => to.authority.clone(),
        _ => format!("{}:{}", to.authority, to.port),
    };
    let mut head = format!("CONNECT {authority} HTTP/1.1\r\nHost: {authority}\r\n");
    if let Some(value) = proxy.authorization().map_err(io::Error::other)? {
        let value = value.to_str().unwrap_or_default();
        head.extend(["Proxy-Authorization: ", value, "\r\n"]);
    }
    head.push_str("\r\n");
    stream.write_all(head.as_bytes()).await?;
    // Byte by byte, for what follows is not ours.
    let mut answer = Vec::new();
    while !answer.ends_with(b"\r\n\r\n") && answer.len() < ANSWER {
        answer.push(stream.read_u8().await?);
    }
    let line = String::from_utf8_lossy(&answer);
    let line = line.lines().next().unwrap_or_default();
    match line.split(' ').nth(1) {
        Some(status) if status.starts_with('2') => Ok(()),
        _ => Err(io::Error::other(format!("it answers {line:?}"))),
    }
}

/// A connection, whose other half works on the runtime for as long as it lives.
async fn handshake(
    stream: impl AsyncRead + AsyncWrite + Unpin + Send + 'static,
    version: Version,
) -> Result<Sender, String> {
    let stream = TokioIo::new(stream);
    match version {
        Version::Http1 => {
            let made = http1::handshake(stream).await;
            let (sender, connection) = made.map_err(|error| words(&error))?;
            tokio::spawn(connection);
            Ok(Sender::Http1(sender))
        }
        Version::Http2 => {
            let made = http2::handshake(TokioExecutor::new(), stream).await;
            let (sender, connection) = made.map_err(|error| words(&error))?;
            tokio::spawn(connection);
            Ok(Sender::Http2(sender))
        }
    }
}

/// An error with its cause, which hyper leaves out.
fn words(error: &hyper::Error) -> String {
    match error.source() {
        Some(cause) => match cause.downcast_ref::<io::Error>() {
            Some(cause) => format!("{error}: {}", reason(cause)),
            None => format!("{error}: {cause}"),
        },
        None => error.to_string(),
    }
}

#[cfg(test)]
mod tests {
    use std::{
        io::{Read, Write},
        net::TcpListener,
        path::Path,
    };

    use rustls::{
        ServerConfig, ServerConnection, StreamOwned, pki_types::PrivatePkcs8KeyDer,
        server::WebPkiClientVerifier,
    };

    use super::*;

    /// A certificate for localhost that signed itself, with its key, and both as files.
    struct Identity {
        certificate: CertificateDer<'static>,
        key: Vec<u8>,
        paths: (String, String),
    }

    impl Identity {
        fn new(folder: &Path, name: &str) -> Self {
            let made = rcgen::generate_simple_self_signed(["localhost".to_owned()]).unwrap();
            let path = |end: &str| folder.join(format!("{name}.{end}"));
            let paths = (path("pem"), path("key"));
            std::fs::write(&paths.0, made.cert.pem()).unwrap();
            std::fs::write(&paths.1, made.signing_key.serialize_pem()).unwrap();
            let text = |path: std::path::PathBuf| path.to_str().unwrap().to_owned();
            Self {
                certificate: made.cert.der().clone(),
                key: made.signing_key.serialize_der(),
                paths: (text(paths.0), text(paths.1)),
            }
        }
    }

    /// A server that answers each request with 204, whichever it is; its URL.
    fn serve(
        own: &Identity,
        client: Option<&Identity>,
        version: &'static rustls::SupportedProtocolVersion,
    ) -> String {
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let builder = ServerConfig::builder_with_provider(provider.clone());
        let builder = builder.with_protocol_versions(&[version]).unwrap();
        let builder = match client {
            None => builder.with_no_client_auth(),
            Some(client) => {
                let mut roots = RootCertStore::empty();
                roots.add(client.certificate.clone()).unwrap();
                let verifier =
                    WebPkiClientVerifier::builder_with_provider(Arc::new(roots), provider);
                builder.with_client_cert_verifier(verifier.build().unwrap())
            }
        };
        let key = PrivatePkcs8KeyDer::from(own.key.clone()).into();
        let config = builder.with_single_cert(vec![own.certificate.clone()], key);
        let config = Arc::new(config.unwrap());
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let port = listener.local_addr().unwrap().port();
        std::thread::spawn(move || {
            while let Ok((stream, _)) = listener.accept() {
                let session = ServerConnection::new(config.clone()).unwrap();
                let mut stream = StreamOwned::new(session, stream);
                let mut request = Vec::new();
                let mut byte = [0];
                while !request.ends_with(b"\r\n\r\n") {
                    match stream.read(&mut byte) {
                        Ok(1) => request.push(byte[0]),
                        _ => break,
                    }
                }
                let _ = stream.write_all(b"HTTP/1.1 204 No Content\r\n\r\n");
            }
        });
        format!("https://localhost:{port}/")
    }

    fn post(url: &str, tls: &TlsOptions) -> Result<u16, String> {
        let endpoint = Endpoint::parse(url)?;
        let post = Post {
            path: endpoint.path.clone(),
            headers: HeaderMap::new(),
            body: Bytes::new(),
        };
        let client = Client::new(endpoint, Version::Http1, tls, Duration::from_secs(60))?;
        let runtime = tokio::runtime::Builder::new_current_thread();
        let runtime = { runtime }.enable_all().build().unwrap();
        runtime
            .block_on(client.post(post))
            .map(|reply| reply.status)
    }

    #[test]
    fn tls_is_spoken_as_the_options_say() {
        let folder = tempfile::tempdir().unwrap();
        let own = Identity::new(folder.path(), "own");
        let me = Identity::new(folder.path(), "me");
        let (tls12, tls13) = (&rustls::version::TLS12, &rustls::version::TLS13);
        let strict = TlsOptions::default();
        let trusting = TlsOptions {
            roots: Some(own.paths.0.clone()),
            ..strict.clone()
        };
        let modern = TlsOptions {
            insecure: true,
            only_13: true,
            ..strict.clone()
        };
        let known = TlsOptions {
            client: Some(me.paths.clone()),
            ..trusting.clone()
        };
        for version in [tls12, tls13] {
            let url = serve(&own, None, version);
            let refused = post(&url, &strict).unwrap_err();
            assert!(refused.contains("invalid peer certificate"), "{refused}");
            assert_eq!(post(&url, &trusting), Ok(204));
            assert_eq!(post(&url, &modern).is_ok(), version == tls13);
            let url = serve(&own, Some(&me), version);
            assert!(post(&url, &trusting).is_err());
            assert_eq!(post(&url, &known), Ok(204));
        }
    }

    #[test]
    fn files_that_are_no_certificates_are_refused_before_the_first_request() {
        let folder = tempfile::tempdir().unwrap();
        let empty = folder.path().join("empty.pem");
        std::fs::write(&empty, "").unwrap();
        let empty = empty.to_str().unwrap();
        let https = |tls: &TlsOptions| {
            let endpoint = Endpoint::parse("https://localhost/").unwrap();
            Client::new(endpoint, Version::Http1, tls, Duration::ZERO)
                .err()
                .unwrap()
        };
        let tls = |path: &str| TlsOptions {
            roots: Some(path.to_owned()),
            ..TlsOptions::default()
        };
        assert_eq!(https(&tls(empty)), format!("{empty}: no certificate in it"));
        assert!(https(&tls("/no/such")).starts_with("/no/such: "));
        let tls = TlsOptions {
            client: Some((empty.to_owned(), empty.to_owned())),
            ..TlsOptions::default()
        };
        assert_eq!(https(&tls), format!("{empty}: no certificate in it"));
        // Nothing is read where no TLS is spoken.
        let endpoint = Endpoint::parse("http://localhost/").unwrap();
        assert!(Client::new(endpoint, Version::Http1, &tls, Duration::ZERO).is_ok());
    }

    #[test]
    fn urls_are_taken_apart() {
        let parts = |url: &str| Endpoint::parse(url).unwrap();
        let endpoint = parts("http://localhost:9090/api/v1/write?a=b");
        assert_eq!((endpoint.https, endpoint.port), (false, 9090));
        assert_eq!(endpoint.authority, "localhost:9090");
        assert_eq!(endpoint.path, "/api/v1/write?a=b");
        assert_eq!(endpoint.user, None);
        let endpoint = parts("https://us%40er:p:w%2f@[::1]");
        assert_eq!((endpoint.https, endpoint.port), (true, 443));
        assert_eq!((&*endpoint.host, &*endpoint.authority), ("::1", "[::1]"));
        assert_eq!(endpoint.path, "/");
        assert_eq!(endpoint.user, Some(("us@er".into(), "p:w/".into())));
        for bad in [
            "",
            "localhost",
            "/path",
            "ftp://host/",
            "http://",
            "http://a b/",
            "x:1",
        ] {
            assert!(Endpoint::parse(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn escapes_come_and_go() {
        assert_eq!(escape("a b&c=\"é\""), "a%20b%26c%3D%22%C3%A9%22");
        assert_eq!(unescape(&escape("a b&c=\"é\"%")), "a b&c=\"é\"%");
        assert_eq!(unescape("100%, %4, %zz, %41"), "100%, %4, %zz, A");
    }
}
