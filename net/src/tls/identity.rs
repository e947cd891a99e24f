//! Client certificates (`tlsAuth`).

use std::sync::Arc;

use base64::{Engine, engine::general_purpose::STANDARD};
use cbc::cipher::{BlockModeDecrypt, KeyIvInit, block_padding::Pkcs7};
use md5::{Digest, Md5};
use pkcs8::EncryptedPrivateKeyInfoRef;
use rustls::{
    InconsistentKeys, SignatureScheme,
    client::ResolvesClientCert,
    pki_types::{CertificateDer, PrivateKeyDer, pem::PemObject},
    sign::CertifiedKey,
};

use super::der::{Der, SEQUENCE, context};
use crate::config::matches;

/// A certificate to show to servers that ask for one, and the domains it is for.
#[derive(Clone, Debug)]
pub struct Identity {
    key: Arc<CertifiedKey>,
    /// Names of those who signed the chain, in DER.
    issuers: Vec<Vec<u8>>,
    domains: Vec<String>,
}

impl Identity {
    /// Reads PEM texts; `password` opens an encrypted key. Domains are exact or begin with `*.`;
    /// none of them means every host.
    ///
    /// # Errors
    /// What is wrong with them.
    pub fn from_pem(
        certificate: &str,
        key: &str,
        password: Option<&str>,
        domains: Vec<String>,
    ) -> Result<Self, String> {
        let chain = CertificateDer::pem_slice_iter(certificate.as_bytes())
            .collect::<Result<Vec<_>, _>>()
            .map_err(|e| format!("tls: failed to parse certificate: {e}"))?;
        if chain.is_empty() {
            return Err("tls: failed to find any PEM data in certificate input".into());
        }
        let issuers = chain.iter().filter_map(|der| issuer(der)).collect();
        let key = private_key(key, password)?;
        let provider = rustls::crypto::ring::default_provider().key_provider;
        let key = provider
            .load_private_key(key)
            .map_err(|e| format!("tls: failed to parse private key: {e}"))?;
        let key = CertifiedKey::new(chain, key);
        // Other errors mean a certificate that webpki does not read, as of version 1; whether it
        // will do is the server's business.
        if let Err(rustls::Error::InconsistentKeys(InconsistentKeys::KeyMismatch)) =
            key.keys_match()
        {
            return Err("tls: private key does not match public key".into());
        }
        Ok(Self {
            key: Arc::new(key),
            issuers,
            domains,
        })
    }

    /// Whether it is for this host.
    pub(super) fn fits(&self, host: &str) -> bool {
        self.domains.is_empty() || self.domains.iter().any(|domain| matches(domain, host))
    }
}

/// Picks the certificate that a server accepts.
#[derive(Debug)]
pub(super) struct Chooser(pub(super) Vec<Identity>);

impl ResolvesClientCert for Chooser {
    fn resolve(
        &self,
        authorities: &[&[u8]],
        schemes: &[SignatureScheme],
    ) -> Option<Arc<CertifiedKey>> {
        let usable = || {
            let all = self.0.iter();
            all.filter(|identity| identity.key.key.choose_scheme(schemes).is_some())
        };
        let known = |identity: &&Identity| {
            let mut issuers = identity.issuers.iter();
            issuers.any(|issuer| authorities.contains(&issuer.as_slice()))
        };
        // One that the server has not asked for is better than none: it may know better than it says.
        let chosen = usable().find(known).or_else(|| usable().next());
        chosen.map(|identity| identity.key.clone())
    }

    fn has_certs(&self) -> bool {
        !self.0.is_empty()
    }
}

/// The name of a certificate's issuer.
fn issuer(certificate: &[u8]) -> Option<Vec<u8>> {
    let mut certificate = Der(certificate).expect(SEQUENCE)?.inside();
    let mut body = certificate.expect(SEQUENCE)?.inside();
    body.optional(context(0));
    // Serial number and signature algorithm.
    body.next()?;
    body.next()?;
    body.expect(SEQUENCE).map(|name| name.whole.to_vec())
}

fn private_key(pem: &str, password: Option<&str>) -> Result<PrivateKeyDer<'static>, String> {
    let wrong = |e: &dyn std::fmt::Display| format!("tls: failed to parse private key: {e}");
    let Some((label, headers, der)) = section(pem) else {
        return Err("tls: failed to find any PEM data in key input".into());
    };
    let locked = || {
        password
            .ok_or_else(|| "tls: the private key is encrypted, and there is no password".to_owned())
    };
    if label == "ENCRYPTED PRIVATE KEY" {
        let key = EncryptedPrivateKeyInfoRef::try_from(&der[..]).map_err(|e| wrong(&e))?;
        let open = key.decrypt(locked()?).map_err(|e| wrong(&e))?;
        return Ok(PrivateKeyDer::Pkcs8(open.as_bytes().to_vec().into()));
    }
    match headers.iter().find(|(name, _)| name == "DEK-Info") {
        Some((_, info)) => {
            let open = decrypt(info, locked()?, &der).map_err(|e| wrong(&e))?;
            Ok(match label.as_str() {
                "RSA PRIVATE KEY" => PrivateKeyDer::Pkcs1(open.into()),
                "EC PRIVATE KEY" => PrivateKeyDer::Sec1(open.into()),
                _ => PrivateKeyDer::Pkcs8(open.into()),
            })
        }
        None => PrivateKeyDer::from_pem_slice(pem.as_bytes()).map_err(|e| wrong(&e)),
    }
}

type Section = (String, Vec<(String, String)>, Vec<u8>);

/// Label, headers and content of the first section that holds a key.
fn section(pem: &str) -> Option<Section> {
    let mut lines = pem.lines().map(str::trim);
    let label = lines.find_map(|line| {
        let label = line.strip_prefix("-----BEGIN ")?.strip_suffix("-----")?;
        label.ends_with("PRIVATE KEY").then(|| label.to_owned())
    })?;
    let (mut headers, mut text) = (Vec::new(), String::new());
    for line in lines {
        if line.starts_with("-----END ") {
            break;
        }
        match line.split_once(": ") {
            Some((name, value)) => headers.push((name.to_owned(), value.to_owned())),
            None => text.push_str(line),
        }
    }
    Some((label, headers, STANDARD.decode(text).ok()?))
}

/// Opens a key of the old form: `DEK-Info: AES-256-CBC,<vector>`.
fn decrypt(info: &str, password: &str, sealed: &[u8]) -> Result<Vec<u8>, String> {
    let (cipher, vector) = info.split_once(',').unwrap_or((info, ""));
    let vector: Vec<u8> = (0..vector.len() / 2)
        .filter_map(|at| u8::from_str_radix(vector.get(2 * at..2 * at + 2)?, 16).ok())
        .collect();
    if vector.len() < 8 {
        return Err("the initialisation vector is not one".into());
    }
    // OpenSSL's EVP_BytesToKey, with one round of MD5 a block.
    let mut key: Vec<u8> = Vec::new();
    while key.len() < 32 {
        let last = key.len().saturating_sub(16);
        let mut hash = Md5::new();
        hash.update(&key[last..]);
        hash.update(password.as_bytes());
        hash.update(&vector[..8]);
        key.extend_from_slice(&hash.finalize());
    }
    let open = match cipher {
        "AES-128-CBC" => unseal::<cbc::Decryptor<aes::Aes128>>(&key[..16], &vector, sealed),
        "AES-192-CBC" => unseal::<cbc::Decryptor<aes::Aes192>>(&key[..24], &vector, sealed),
        "AES-256-CBC" => unseal::<cbc::Decryptor<aes::Aes256>>(&key[..32], &vector, sealed),
        "DES-EDE3-CBC" => unseal::<cbc::Decryptor<des::TdesEde3>>(&key[..24], &vector, sealed),
        other => return Err(format!("the cipher {other} is not supported")),
    };
    open.ok_or_else(|| "decryption password incorrect".into())
}

fn unseal<C: BlockModeDecrypt + KeyIvInit>(
    key: &[u8],
    vector: &[u8],
    sealed: &[u8],
) -> Option<Vec<u8>> {
    let cipher = C::new_from_slices(key, vector).ok()?;
    cipher.decrypt_padded_vec::<Pkcs7>(sealed).ok()
}

#[cfg(test)]
mod tests;
