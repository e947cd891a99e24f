//! Algorithms: their names, and which operation each takes part in.

use hmac::{Hmac, KeyInit, Mac};
use sha1::Sha1;
use sha2::{Sha256, Sha384, Sha512, digest::Digest};

use super::problem::Problem;

/// An algorithm that has keys.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Name {
    AesCbc,
    AesCtr,
    AesGcm,
    AesKw,
    Hmac,
    Ecdsa,
    Ecdh,
    RsaPkcs1,
    RsaPss,
    RsaOaep,
    Pbkdf2,
}

/// What one can ask of an algorithm.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Operation {
    Encrypt,
    Decrypt,
    Sign,
    Verify,
    GenerateKey,
    ImportKey,
    DeriveBits,
    DeriveKey,
}

impl Operation {
    /// The name of the method.
    pub(super) fn name(self) -> &'static str {
        match self {
            Self::Encrypt => "encrypt",
            Self::Decrypt => "decrypt",
            Self::Sign => "sign",
            Self::Verify => "verify",
            Self::GenerateKey => "generateKey",
            Self::ImportKey => "importKey",
            Self::DeriveBits => "deriveBits",
            Self::DeriveKey => "deriveKey",
        }
    }
}

impl Name {
    const ALL: [Self; 11] = [
        Self::AesCbc,
        Self::AesCtr,
        Self::AesGcm,
        Self::AesKw,
        Self::Hmac,
        Self::Ecdsa,
        Self::Ecdh,
        Self::RsaPkcs1,
        Self::RsaPss,
        Self::RsaOaep,
        Self::Pbkdf2,
    ];

    /// The name as keys show it.
    pub(super) fn text(self) -> &'static str {
        match self {
            Self::AesCbc => "AES-CBC",
            Self::AesCtr => "AES-CTR",
            Self::AesGcm => "AES-GCM",
            Self::AesKw => "AES-KW",
            Self::Hmac => "HMAC",
            Self::Ecdsa => "ECDSA",
            Self::Ecdh => "ECDH",
            Self::RsaPkcs1 => "RSASSA-PKCS1-v1_5",
            Self::RsaPss => "RSA-PSS",
            Self::RsaOaep => "RSA-OAEP",
            Self::Pbkdf2 => "PBKDF2",
        }
    }

    /// The algorithm of that name, in any case, if it takes part in `operation`.
    pub(super) fn find(text: &str, operation: Operation) -> Result<Self, Problem> {
        let known = Self::ALL
            .into_iter()
            .find(|name| name.text().eq_ignore_ascii_case(text));
        match known.filter(|name| name.supports(operation)) {
            Some(name) => Ok(name),
            None => Err(unsupported(
                known.map_or(text, |name| name.text()),
                operation.name(),
            )),
        }
    }

    fn supports(self, operation: Operation) -> bool {
        use Operation::{
            Decrypt, DeriveBits, DeriveKey, Encrypt, GenerateKey, ImportKey, Sign, Verify,
        };
        match operation {
            ImportKey => true,
            GenerateKey => self != Self::Pbkdf2,
            Encrypt | Decrypt => matches!(
                self,
                Self::AesCbc | Self::AesCtr | Self::AesGcm | Self::RsaOaep
            ),
            Sign | Verify => matches!(
                self,
                Self::Hmac | Self::Ecdsa | Self::RsaPkcs1 | Self::RsaPss
            ),
            DeriveBits => matches!(self, Self::Ecdh | Self::Pbkdf2),
            DeriveKey => self == Self::Pbkdf2,
        }
    }

    pub(super) fn is_aes(self) -> bool {
        matches!(
            self,
            Self::AesCbc | Self::AesCtr | Self::AesGcm | Self::AesKw
        )
    }

    pub(super) fn is_rsa(self) -> bool {
        matches!(self, Self::RsaPkcs1 | Self::RsaPss | Self::RsaOaep)
    }

    pub(super) fn is_elliptic(self) -> bool {
        matches!(self, Self::Ecdsa | Self::Ecdh)
    }

    /// Keys come in pairs.
    pub(super) fn has_pairs(self) -> bool {
        self.is_rsa() || self.is_elliptic()
    }
}

/// The refusal of an operation.
pub(super) fn unsupported(name: &str, operation: &str) -> Problem {
    Problem::not_supported(format!(
        "algorithm {name:?} doesn't support (in implementation) operation {operation:?}"
    ))
}

/// A hash function.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Hash {
    Sha1,
    Sha256,
    Sha384,
    Sha512,
}

impl Hash {
    pub(super) const ALL: [Self; 4] = [Self::Sha1, Self::Sha256, Self::Sha384, Self::Sha512];

    pub(super) fn text(self) -> &'static str {
        match self {
            Self::Sha1 => "SHA-1",
            Self::Sha256 => "SHA-256",
            Self::Sha384 => "SHA-384",
            Self::Sha512 => "SHA-512",
        }
    }

    /// How the names of JSON Web Algorithms end.
    pub(super) fn digits(self) -> &'static str {
        match self {
            Self::Sha1 => "1",
            Self::Sha256 => "256",
            Self::Sha384 => "384",
            Self::Sha512 => "512",
        }
    }

    /// The hash of that name, in any case.
    pub(super) fn find(text: &str) -> Option<Self> {
        Self::ALL
            .into_iter()
            .find(|hash| hash.text().eq_ignore_ascii_case(text))
    }

    /// Bytes of a block, the natural length of an HMAC's key.
    pub(super) fn block_bytes(self) -> usize {
        match self {
            Self::Sha1 | Self::Sha256 => 64,
            Self::Sha384 | Self::Sha512 => 128,
        }
    }

    pub(super) fn digest(self, data: &[u8]) -> Vec<u8> {
        match self {
            Self::Sha1 => Sha1::digest(data).to_vec(),
            Self::Sha256 => Sha256::digest(data).to_vec(),
            Self::Sha384 => Sha384::digest(data).to_vec(),
            Self::Sha512 => Sha512::digest(data).to_vec(),
        }
    }

    pub(super) fn hmac(self, key: &[u8], data: &[u8]) -> Vec<u8> {
        match self {
            Self::Sha1 => hmac::<Hmac<Sha1>>(key, data),
            Self::Sha256 => hmac::<Hmac<Sha256>>(key, data),
            Self::Sha384 => hmac::<Hmac<Sha384>>(key, data),
            Self::Sha512 => hmac::<Hmac<Sha512>>(key, data),
        }
    }

    /// PBKDF2 with the HMAC of this hash.
    pub(super) fn pbkdf2(self, password: &[u8], salt: &[u8], rounds: u32, out: &mut [u8]) {
        match self {
            Self::Sha1 => pbkdf2::pbkdf2_hmac::<Sha1>(password, salt, rounds, out),
            Self::Sha256 => pbkdf2::pbkdf2_hmac::<Sha256>(password, salt, rounds, out),
            Self::Sha384 => pbkdf2::pbkdf2_hmac::<Sha384>(password, salt, rounds, out),
            Self::Sha512 => pbkdf2::pbkdf2_hmac::<Sha512>(password, salt, rounds, out),
        }
    }
}

fn hmac<M: Mac + KeyInit>(key: &[u8], data: &[u8]) -> Vec<u8> {
    let mac = <M as KeyInit>::new_from_slice(key).expect("an HMAC takes keys of any length");
    mac.chain_update(data).finalize().into_bytes().to_vec()
}

/// What a key may be used for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Usage {
    Encrypt,
    Decrypt,
    Sign,
    Verify,
    DeriveKey,
    DeriveBits,
    WrapKey,
    UnwrapKey,
}

impl Usage {
    const ALL: [Self; 8] = [
        Self::Encrypt,
        Self::Decrypt,
        Self::Sign,
        Self::Verify,
        Self::DeriveKey,
        Self::DeriveBits,
        Self::WrapKey,
        Self::UnwrapKey,
    ];

    pub(super) fn text(self) -> &'static str {
        match self {
            Self::Encrypt => "encrypt",
            Self::Decrypt => "decrypt",
            Self::Sign => "sign",
            Self::Verify => "verify",
            Self::DeriveKey => "deriveKey",
            Self::DeriveBits => "deriveBits",
            Self::WrapKey => "wrapKey",
            Self::UnwrapKey => "unwrapKey",
        }
    }

    /// The usage of that name.
    pub(super) fn find(text: &str) -> Result<Self, Problem> {
        let found = Self::ALL.into_iter().find(|usage| usage.text() == text);
        found.ok_or_else(|| Problem::syntax(format!("invalid key usage: {text}")))
    }
}

/// Refuses usages outside of `allowed`.
pub(super) fn check_usages(usages: &[Usage], allowed: &[Usage]) -> Result<(), Problem> {
    match usages.iter().find(|usage| !allowed.contains(usage)) {
        Some(usage) => Err(Problem::syntax(format!(
            "invalid key usage: {}",
            usage.text()
        ))),
        None => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::{Hash, Name, Operation};
    use crate::binary::hex;

    #[test]
    fn names_are_found_in_any_case_and_refused_for_what_they_cannot_do() {
        assert_eq!(
            Name::find("aes-gcm", Operation::Encrypt).unwrap(),
            Name::AesGcm
        );
        let refused = Name::find("ecdh", Operation::DeriveKey).unwrap_err();
        assert_eq!(refused.name, "NotSupportedError");
        assert_eq!(
            refused.text,
            "algorithm \"ECDH\" doesn't support (in implementation) operation \"deriveKey\""
        );
        assert!(Name::find("HKDF", Operation::ImportKey).is_err());
        assert!(Name::find("PBKDF2", Operation::GenerateKey).is_err());
        assert!(Hash::find("sha-384").is_some() && Hash::find("SHA384").is_none());
    }

    /// RFC 6070, and the vectors of RFC 7914 for SHA-256.
    #[test]
    fn published_vectors_of_pbkdf2() {
        for (hash, password, salt, rounds, key) in [
            (
                Hash::Sha1,
                "password",
                "salt",
                4096,
                "4b007901b765489abead49d926f721d065a429c1",
            ),
            (
                Hash::Sha1,
                "passwordPASSWORDpassword",
                "saltSALTsaltSALTsaltSALTsaltSALTsalt",
                4096,
                "3d2eec4fe41c849b80c8d83662c0e44a8b291a964cf2f07038",
            ),
            (
                Hash::Sha256,
                "passwd",
                "salt",
                1,
                "55ac046e56e3089fec1691c22544b605f94185216dde0465e68b9d57c20dacbc49ca9cccf179b645991664b39d77ef317c71b845b1e30bd509112041d3a19783",
            ),
        ] {
            let mut out = vec![0; key.len() / 2];
            hash.pbkdf2(password.as_bytes(), salt.as_bytes(), rounds, &mut out);
            assert_eq!(hex(&out), key);
        }
    }
}
