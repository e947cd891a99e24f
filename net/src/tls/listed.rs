//! Trust in a list of certificates of a connection's own (`cacerts` of gRPC).
//!
//! webpki takes no certificate of an authority in the place of a server's. One that a server has signed
//! itself often is both, as `openssl req -x509` makes it; Go trusts it when it is in the list, and so
//! does this: it is looked for there byte by byte, and then has to be for the host and of this time.

use std::sync::Arc;

use rustls::{
    CertificateError, DigitallySignedStruct, SignatureScheme,
    client::{
        danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier},
        verify_server_name,
    },
    pki_types::{CertificateDer, ServerName, UnixTime},
    server::ParsedCertificate,
};

use super::{
    der::{Der, SEQUENCE, TIME, context},
    ocsp,
};

/// The tag of a time with two digits for the year.
const SHORT_TIME: u8 = 0x17;

/// Trusts what `usual` trusts, and the certificates of the list themselves.
#[derive(Debug)]
pub(super) struct Listed {
    pub(super) list: Vec<CertificateDer<'static>>,
    pub(super) usual: Arc<dyn ServerCertVerifier>,
}

impl ServerCertVerifier for Listed {
    fn verify_server_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        server_name: &ServerName<'_>,
        ocsp_response: &[u8],
        now: UnixTime,
    ) -> Result<ServerCertVerified, rustls::Error> {
        if !self.list.contains(end_entity) {
            return self.usual.verify_server_cert(
                end_entity,
                intermediates,
                server_name,
                ocsp_response,
                now,
            );
        }
        ocsp::note(ocsp_response);
        verify_server_name(&ParsedCertificate::try_from(end_entity)?, server_name)?;
        let now = i64::try_from(now.as_secs()).unwrap_or(i64::MAX);
        match validity(end_entity) {
            Some((from, to)) if from <= now && now <= to => Ok(ServerCertVerified::assertion()),
            Some(_) => Err(CertificateError::Expired.into()),
            None => Err(CertificateError::BadEncoding.into()),
        }
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        self.usual
            .verify_tls12_signature(message, certificate, signature)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        self.usual
            .verify_tls13_signature(message, certificate, signature)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.usual.supported_verify_schemes()
    }
}

/// From when to when a certificate holds, in seconds since 1970 (RFC 5280, 4.1.2.5).
fn validity(certificate: &[u8]) -> Option<(i64, i64)> {
    let mut certificate = Der(certificate).expect(SEQUENCE)?.inside();
    let mut body = certificate.expect(SEQUENCE)?.inside();
    body.optional(context(0));
    // Serial number, signature algorithm and issuer.
    body.next()?;
    body.next()?;
    body.next()?;
    let mut times = body.expect(SEQUENCE)?.inside();
    let mut time = || {
        let element = times.next()?;
        match element.tag {
            TIME => ocsp::time(element.content),
            SHORT_TIME => {
                let old = element.content.first().is_some_and(|digit| *digit >= b'5');
                let century: &[u8] = if old { b"19" } else { b"20" };
                ocsp::time(&[century, element.content].concat())
            }
            _ => None,
        }
    };
    Some((time()?, time()?))
}

#[cfg(test)]
mod tests {
    use super::validity;

    #[test]
    fn certificates_say_from_when_to_when_they_hold() {
        let mut params = rcgen::CertificateParams::new(vec!["a.test".to_owned()]).expect("it");
        params.not_before = rcgen::date_time_ymd(1999, 12, 31);
        params.not_after = rcgen::date_time_ymd(2100, 1, 1);
        let key = rcgen::KeyPair::generate().expect("a key");
        let certificate = params.self_signed(&key).expect("a certificate");
        assert_eq!(
            validity(certificate.der()),
            Some((946_598_400, 4_102_444_800))
        );
        assert_eq!(validity(b"\x30\x03abc"), None);
    }
}
