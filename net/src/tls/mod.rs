//! TLS settings: one rustls configuration for the whole test, made when first needed.
//!
//! Trust is the system's certificates, or Mozilla's list where the system has none (an image
//! from scratch). Session resumption stays off, as in the reference: every new connection pays
//! for a whole handshake, so that handshake times and server load do not depend on how often a
//! VU happened to reconnect; it also keeps a lock shared by all VUs off the path.

mod der;
mod identity;
mod listed;
mod ocsp;

use std::{
    io,
    net::IpAddr,
    sync::{Arc, PoisonError},
};

use rustls::{
    CertificateError, DigitallySignedStruct, InvalidMessage, RootCertStore, SignatureScheme,
    SupportedCipherSuite, SupportedProtocolVersion,
    client::{
        Resumption, WebPkiServerVerifier,
        danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier},
        verify_server_name,
    },
    crypto::{CryptoProvider, verify_tls12_signature, verify_tls13_signature},
    pki_types::{CertificateDer, ServerName, UnixTime},
    server::ParsedCertificate,
};

pub(crate) use self::ocsp::noted;
use self::{identity::Chooser, listed::Listed};
pub use self::{identity::Identity, ocsp::Ocsp};
use crate::{
    config::{ClientConfig, TlsVersion},
    error::{Error, ErrorKind},
    http::exchange::TlsInfo,
};

impl ClientConfig {
    /// The TLS settings for a host, made on first use; reading the system's certificates blocks for
    /// some milliseconds then.
    pub(crate) fn tls(&self, host: &str) -> Result<Arc<rustls::ClientConfig>, Error> {
        let made = self.tls.get_or_init(|| self.make_tls().map(Arc::new));
        let plain = match made {
            Ok(plain) => plain.clone(),
            Err(text) => return Err(Error::new(ErrorKind::Tls(text.clone()))),
        };
        if self.identities.is_empty() {
            return Ok(plain);
        }
        let fitting = self.identities.iter().enumerate();
        let fitting = fitting.filter(|(_, identity)| identity.fits(host));
        let (numbers, identities): (Vec<usize>, Vec<Identity>) = fitting
            .map(|(number, identity)| (number, identity.clone()))
            .unzip();
        if identities.is_empty() {
            return Ok(plain);
        }
        let mut known = self.tls_with.lock().unwrap_or_else(PoisonError::into_inner);
        let made = known.entry(numbers).or_insert_with(|| {
            let mut tls = (*plain).clone();
            tls.client_auth_cert_resolver = Arc::new(Chooser(identities));
            Arc::new(tls)
        });
        Ok(made.clone())
    }

    /// The TLS settings of a connection for gRPC, which speaks HTTP/2 only: those for the host, with
    /// roots and a certificate to show that may be the connection's own.
    pub(crate) fn tls_for_grpc(
        &self,
        host: &str,
        roots: Option<Vec<CertificateDer<'static>>>,
        identity: Option<Identity>,
    ) -> Result<Arc<rustls::ClientConfig>, Error> {
        let mut tls = (*self.tls(host)?).clone();
        if let Some(roots) = roots.filter(|_| !self.insecure_skip_tls_verify) {
            let mut store = RootCertStore::empty();
            store.add_parsable_certificates(roots.iter().cloned());
            let provider = tls.crypto_provider().clone();
            let verifier = WebPkiServerVerifier::builder_with_provider(Arc::new(store), provider)
                .build()
                .map_err(|e| ErrorKind::Tls(format!("tls: {e}")))?;
            tls.dangerous().set_certificate_verifier(Arc::new(Listed {
                list: roots,
                usual: Arc::new(NameFirst(verifier)),
            }));
        }
        if let Some(identity) = identity {
            tls.client_auth_cert_resolver = Arc::new(Chooser(vec![identity]));
        }
        tls.alpn_protocols = vec![b"h2".to_vec()];
        Ok(Arc::new(tls))
    }

    /// Looks for contradictions between the TLS options, before any connection is made.
    ///
    /// # Errors
    /// Why no handshake can succeed.
    pub fn check_tls(&self) -> Result<(), String> {
        self.spoken().map(drop)
    }

    /// What of TLS is spoken: suites and versions.
    fn spoken(&self) -> Result<(CryptoProvider, Vec<&'static SupportedProtocolVersion>), String> {
        let mut provider = rustls::crypto::ring::default_provider();
        let named = |suite: &SupportedCipherSuite| {
            let name = suite.suite().as_str().unwrap_or_default();
            let short = name.strip_suffix("_SHA256").unwrap_or(name);
            let mut wanted = self.cipher_suites.iter();
            wanted.any(|wanted| wanted == name || (name.contains("CHACHA20") && wanted == short))
        };
        if !self.cipher_suites.is_empty() {
            provider
                .cipher_suites
                .retain(|suite| suite.tls13().is_some() || named(suite));
        }
        let oldest = self.tls_min.unwrap_or(TlsVersion::Tls12);
        let newest = self.tls_max.unwrap_or(TlsVersion::Tls13);
        let known: [(TlsVersion, &'static SupportedProtocolVersion); 2] = [
            (TlsVersion::Tls12, &rustls::version::TLS12),
            (TlsVersion::Tls13, &rustls::version::TLS13),
        ];
        let versions: Vec<_> = known
            .into_iter()
            .filter(|(version, _)| (oldest..=newest).contains(version))
            .map(|(_, version)| version)
            .collect();
        if versions.is_empty() {
            return Err("tls: no supported versions satisfy MinVersion and MaxVersion".into());
        }
        let suited = |version: &&SupportedProtocolVersion| {
            let mut suites = provider.cipher_suites.iter();
            suites.any(|suite| suite.version().version == version.version)
        };
        let usable: Vec<_> = versions.into_iter().filter(suited).collect();
        if usable.is_empty() {
            return Err(format!(
                "tls: none of the cipher suites {} is supported",
                self.cipher_suites.join(", ")
            ));
        }
        Ok((provider, usable))
    }

    fn make_tls(&self) -> Result<rustls::ClientConfig, String> {
        let (provider, versions) = self.spoken()?;
        let provider = Arc::new(provider);
        let builder = rustls::ClientConfig::builder_with_provider(provider.clone())
            .with_protocol_versions(&versions)
            .map_err(|e| format!("tls: {e}"))?;
        let verifier: Arc<dyn ServerCertVerifier> = if self.insecure_skip_tls_verify {
            Arc::new(AnyCertificate(provider))
        } else {
            Arc::new(NameFirst(self.trusted(provider)?))
        };
        let mut tls = builder
            .dangerous()
            .with_custom_certificate_verifier(verifier)
            .with_no_client_auth();
        tls.alpn_protocols = vec![b"h2".to_vec(), b"http/1.1".to_vec()];
        tls.resumption = Resumption::disabled();
        Ok(tls)
    }

    fn trusted(&self, provider: Arc<CryptoProvider>) -> Result<Arc<WebPkiServerVerifier>, String> {
        let mut roots = RootCertStore::empty();
        // Single unreadable certificates are left out, as every TLS client does.
        roots.add_parsable_certificates(rustls_native_certs::load_native_certs().certs);
        if roots.is_empty() {
            roots.extend(webpki_roots::TLS_SERVER_ROOTS.iter().cloned());
        }
        for der in &self.extra_roots {
            let der = CertificateDer::from(der.clone());
            roots
                .add(der)
                .map_err(|e| format!("tls: bad root certificate: {e}"))?;
        }
        WebPkiServerVerifier::builder_with_provider(Arc::new(roots), provider)
            .build()
            .map_err(|e| format!("tls: {e}"))
    }
}

/// The usual verification, but a certificate for another host is reported as that even when its
/// issuer is unknown too: Go looks at the name first, and scripts see which error it was.
#[derive(Debug)]
struct NameFirst(Arc<WebPkiServerVerifier>);

impl ServerCertVerifier for NameFirst {
    fn verify_server_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        server_name: &ServerName<'_>,
        ocsp_response: &[u8],
        now: UnixTime,
    ) -> Result<ServerCertVerified, rustls::Error> {
        ocsp::note(ocsp_response);
        self.0
            .verify_server_cert(end_entity, intermediates, server_name, ocsp_response, now)
            .map_err(|error| {
                ParsedCertificate::try_from(end_entity)
                    .and_then(|certificate| verify_server_name(&certificate, server_name))
                    .err()
                    .filter(|e| hostname_mismatch(e).is_some())
                    .unwrap_or(error)
            })
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        self.0
            .verify_tls12_signature(message, certificate, signature)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        self.0
            .verify_tls13_signature(message, certificate, signature)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.0.supported_verify_schemes()
    }
}

/// `insecureSkipTLSVerify`: whoever it is, but the handshake must be signed by its key.
#[derive(Debug)]
struct AnyCertificate(Arc<CryptoProvider>);

impl ServerCertVerifier for AnyCertificate {
    fn verify_server_cert(
        &self,
        _: &CertificateDer<'_>,
        _: &[CertificateDer<'_>],
        _: &ServerName<'_>,
        ocsp_response: &[u8],
        _: UnixTime,
    ) -> Result<ServerCertVerified, rustls::Error> {
        ocsp::note(ocsp_response);
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

/// What a finished handshake agreed on.
pub(crate) fn info(session: &rustls::ClientConnection, ocsp: Option<Ocsp>) -> TlsInfo {
    let version = match session.protocol_version() {
        Some(rustls::ProtocolVersion::TLSv1_2) => TlsVersion::Tls12,
        _ => TlsVersion::Tls13,
    };
    let suite = session
        .negotiated_cipher_suite()
        .and_then(|s| s.suite().as_str());
    // rustls marks the suites of TLS 1.3 in their names; IANA does not.
    let cipher = match suite.unwrap_or_default() {
        "TLS13_AES_128_GCM_SHA256" => "TLS_AES_128_GCM_SHA256",
        "TLS13_AES_256_GCM_SHA384" => "TLS_AES_256_GCM_SHA384",
        "TLS13_CHACHA20_POLY1305_SHA256" => "TLS_CHACHA20_POLY1305_SHA256",
        other => other,
    };
    TlsInfo {
        version: version.as_str(),
        cipher,
        ocsp,
    }
}

/// The rustls error inside an I/O error, if that is what it is.
pub(crate) fn inner(error: &io::Error) -> Option<&rustls::Error> {
    error
        .get_ref()
        .and_then(|e| e.downcast_ref::<rustls::Error>())
}

/// Go's account of a TLS failure.
pub(crate) fn classify(error: &rustls::Error) -> ErrorKind {
    if let Some(text) = hostname_mismatch(error) {
        return ErrorKind::TlsHostname(text);
    }
    match error {
        rustls::Error::InvalidMessage(
            InvalidMessage::InvalidContentType | InvalidMessage::UnknownProtocolVersion,
        ) => ErrorKind::TlsRecord("tls: first record does not look like a TLS handshake".into()),
        rustls::Error::InvalidCertificate(CertificateError::UnknownIssuer) => {
            ErrorKind::TlsAuthority
        }
        // webpki refuses a CA certificate in the place of a server's before it looks for its
        // issuer; such a certificate is nearly always a self-signed one that nobody trusts.
        rustls::Error::InvalidCertificate(CertificateError::Other(other))
            if format!("{other:?}").contains("CaUsedAsEndEntity") =>
        {
            ErrorKind::TlsAuthority
        }
        rustls::Error::InvalidCertificate(
            CertificateError::Expired
            | CertificateError::ExpiredContext { .. }
            | CertificateError::NotValidYet
            | CertificateError::NotValidYetContext { .. },
        ) => ErrorKind::Tls(
            "tls: failed to verify certificate: x509: certificate has expired or is not yet valid"
                .into(),
        ),
        rustls::Error::AlertReceived(alert) => ErrorKind::Tls(format!(
            "remote error: tls: {}",
            words(&format!("{alert:?}"))
        )),
        other => ErrorKind::Tls(format!("tls: {other}")),
    }
}

/// `HandshakeFailure` → `handshake failure`.
fn words(name: &str) -> String {
    let mut out = String::with_capacity(name.len() + 4);
    for c in name.chars() {
        if c.is_ascii_uppercase() && !out.is_empty() {
            out.push(' ');
        }
        out.push(c.to_ascii_lowercase());
    }
    out
}

/// Go's words for a certificate of another host, when the error is that.
fn hostname_mismatch(error: &rustls::Error) -> Option<String> {
    let (wanted, presented) = match error {
        rustls::Error::InvalidCertificate(CertificateError::NotValidForName) => {
            return Some("certificate is not valid for the requested name".into());
        }
        rustls::Error::InvalidCertificate(CertificateError::NotValidForNameContext {
            expected,
            presented,
        }) => (expected.to_str(), presented),
        _ => return None,
    };
    // webpki shows names as `DnsName("a.test")` and addresses as `IpAddress(10.0.0.1)`.
    let plain = |name: &String| -> String {
        let inside = name.split_once('(').map_or(name.as_str(), |(_, rest)| rest);
        inside.trim_matches(|c| matches!(c, '"' | ')')).to_owned()
    };
    let is_ip = wanted.parse::<IpAddr>().is_ok();
    let names: Vec<String> = presented
        .iter()
        .map(plain)
        .filter(|name| name.parse::<IpAddr>().is_ok() == is_ip)
        .collect();
    Some(if !names.is_empty() {
        format!(
            "certificate is valid for {}, not {wanted}",
            names.join(", ")
        )
    } else if is_ip {
        format!("cannot validate certificate for {wanted} because it doesn't contain any IP SANs")
    } else {
        format!("certificate is not valid for any names, but wanted to match {wanted}")
    })
}

#[cfg(test)]
pub(crate) mod tests {
    /// An OCSP response that says `good`.
    pub(crate) fn good_staple() -> Vec<u8> {
        super::ocsp::tests::bytes(super::ocsp::tests::GOOD)
    }
}
