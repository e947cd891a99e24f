//! Keys on the curves P-256, P-384 and P-521.

use std::borrow::Cow;

use getrandom::SysRng;
use p256::{
    ecdsa::signature::hazmat::{PrehashVerifier, RandomizedPrehashSigner},
    pkcs8::{DecodePrivateKey, DecodePublicKey, EncodePrivateKey, EncodePublicKey},
};

use super::{algorithm::Hash, problem::Problem};

/// A curve.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Curve {
    P256,
    P384,
    P521,
}

impl Curve {
    pub(super) fn text(self) -> &'static str {
        match self {
            Self::P256 => "P-256",
            Self::P384 => "P-384",
            Self::P521 => "P-521",
        }
    }

    pub(super) fn find(text: &str) -> Option<Self> {
        let all = [Self::P256, Self::P384, Self::P521];
        all.into_iter().find(|curve| curve.text() == text)
    }

    /// Bytes of a coordinate.
    fn field_bytes(self) -> usize {
        match self {
            Self::P256 => 32,
            Self::P384 => 48,
            Self::P521 => 66,
        }
    }
}

/// A private key.
#[derive(Clone)]
pub(super) enum Private {
    P256(p256::SecretKey),
    P384(p384::SecretKey),
    P521(p521::SecretKey),
}

/// A public key.
#[derive(Clone, PartialEq, Eq)]
pub(super) enum Public {
    P256(p256::PublicKey),
    P384(p384::PublicKey),
    P521(p521::PublicKey),
}

/// Makes a key of the right variant, for `$curve`, out of an expression in which `$lib` is the
/// crate of that curve.
macro_rules! for_curve {
    ($curve:expr, $kind:ident, $lib:ident => $make:expr) => {
        match $curve {
            Curve::P256 => {
                use p256 as $lib;
                $make.map($kind::P256)
            }
            Curve::P384 => {
                use p384 as $lib;
                $make.map($kind::P384)
            }
            Curve::P521 => {
                use p521 as $lib;
                $make.map($kind::P521)
            }
        }
    };
}

/// Evaluates an expression for the key inside, in which `$lib` is the crate of its curve.
macro_rules! with_key {
    ($value:expr, $kind:ident, ($lib:ident, $key:ident) => $then:expr) => {
        match $value {
            $kind::P256($key) => {
                use p256 as $lib;
                $then
            }
            $kind::P384($key) => {
                use p384 as $lib;
                $then
            }
            $kind::P521($key) => {
                use p521 as $lib;
                $then
            }
        }
    };
}

fn malformed<E>(_: E) -> Problem {
    Problem::data("the key is not valid for its curve")
}

impl Private {
    pub(super) fn generate(curve: Curve) -> Result<Self, Problem> {
        // A random string is a key unless it is zero or not below the order, which is rare.
        for _ in 0..64 {
            let mut bytes = vec![0u8; curve.field_bytes()];
            getrandom::fill(&mut bytes).map_err(|e| Problem::operation(e.to_string()))?;
            if curve == Curve::P521 {
                bytes[0] &= 1;
            }
            if let Ok(key) = Self::from_scalar(curve, &bytes) {
                return Ok(key);
            }
        }
        Err(Problem::operation("no key could be generated"))
    }

    pub(super) fn from_pkcs8(curve: Curve, der: &[u8]) -> Result<Self, Problem> {
        for_curve!(curve, Self, lib => lib::SecretKey::from_pkcs8_der(der)).map_err(malformed)
    }

    /// From the number of a JSON Web Key.
    pub(super) fn from_scalar(curve: Curve, bytes: &[u8]) -> Result<Self, Problem> {
        if bytes.len() != curve.field_bytes() {
            return Err(malformed(()));
        }
        for_curve!(curve, Self, lib => lib::SecretKey::from_slice(bytes)).map_err(malformed)
    }

    pub(super) fn public(&self) -> Public {
        match self {
            Self::P256(key) => Public::P256(key.public_key()),
            Self::P384(key) => Public::P384(key.public_key()),
            Self::P521(key) => Public::P521(key.public_key()),
        }
    }

    pub(super) fn to_pkcs8(&self) -> Result<Vec<u8>, Problem> {
        let der = with_key!(self, Self, (lib, key) => {
            let _ = lib::SecretKey::from_slice;
            key.to_pkcs8_der().map(|der| der.as_bytes().to_vec())
        });
        der.map_err(|e| Problem::operation(e.to_string()))
    }

    pub(super) fn scalar(&self) -> Vec<u8> {
        match self {
            Self::P256(key) => key.to_bytes().to_vec(),
            Self::P384(key) => key.to_bytes().to_vec(),
            Self::P521(key) => key.to_bytes().to_vec(),
        }
    }

    /// The signature of `data`: its two numbers, one after the other.
    pub(super) fn sign(&self, hash: Hash, data: &[u8]) -> Result<Vec<u8>, Problem> {
        let digest = hash.digest(data);
        with_key!(self, Self, (lib, key) => {
            let key = lib::ecdsa::SigningKey::from(key);
            let signed: Result<lib::ecdsa::Signature, _> =
                key.sign_prehash_with_rng(&mut SysRng, &digest);
            signed.map(|signature| signature.to_bytes().to_vec())
        })
        .map_err(|e| Problem::operation(e.to_string()))
    }

    /// What both sides of an exchange arrive at.
    pub(super) fn agree(&self, public: &Public) -> Result<Vec<u8>, Problem> {
        match (self, public) {
            (Self::P256(key), Public::P256(public)) => {
                Ok(key.diffie_hellman(public).raw_secret_bytes().to_vec())
            }
            (Self::P384(key), Public::P384(public)) => {
                Ok(key.diffie_hellman(public).raw_secret_bytes().to_vec())
            }
            (Self::P521(key), Public::P521(public)) => {
                Ok(key.diffie_hellman(public).raw_secret_bytes().to_vec())
            }
            _ => Err(Problem::access("the keys are not on the same curve")),
        }
    }
}

impl Public {
    pub(super) fn from_spki(curve: Curve, der: &[u8]) -> Result<Self, Problem> {
        for_curve!(curve, Self, lib => lib::PublicKey::from_public_key_der(der)).map_err(malformed)
    }

    pub(super) fn from_raw(curve: Curve, point: &[u8]) -> Result<Self, Problem> {
        for_curve!(curve, Self, lib => lib::PublicKey::from_sec1_bytes(point)).map_err(malformed)
    }

    /// From the coordinates of a JSON Web Key.
    pub(super) fn from_coordinates(curve: Curve, x: &[u8], y: &[u8]) -> Result<Self, Problem> {
        let length = curve.field_bytes();
        if x.len() != length || y.len() != length {
            return Err(malformed(()));
        }
        Self::from_raw(curve, &[&[4], x, y].concat())
    }

    pub(super) fn to_spki(&self) -> Result<Vec<u8>, Problem> {
        match self {
            Self::P256(key) => key.to_public_key_der(),
            Self::P384(key) => key.to_public_key_der(),
            Self::P521(key) => key.to_public_key_der(),
        }
        .map(|der| der.as_bytes().to_vec())
        .map_err(|e| Problem::operation(e.to_string()))
    }

    /// The uncompressed point.
    pub(super) fn to_raw(&self) -> Vec<u8> {
        match self {
            Self::P256(key) => key.to_sec1_bytes().into_vec(),
            Self::P384(key) => key.to_sec1_bytes().into_vec(),
            Self::P521(key) => key.to_sec1_bytes().into_vec(),
        }
    }

    /// The two coordinates.
    pub(super) fn coordinates(&self) -> (Vec<u8>, Vec<u8>) {
        let point = self.to_raw();
        let (x, y) = point[1..].split_at(point.len() / 2);
        (x.to_vec(), y.to_vec())
    }

    pub(super) fn verify(&self, hash: Hash, data: &[u8], signature: &[u8]) -> bool {
        let digest = Cow::from(hash.digest(data));
        with_key!(self, Self, (lib, key) => {
            lib::ecdsa::Signature::from_slice(signature).is_ok_and(|signature| {
                lib::ecdsa::VerifyingKey::from(key)
                    .verify_prehash(&digest, &signature)
                    .is_ok()
            })
        })
    }
}

#[cfg(test)]
mod tests {
    use super::{Curve, Private, Public};
    use crate::{binary::hex, globals::webcrypto::algorithm::Hash};

    fn bytes(text: &str) -> Vec<u8> {
        (0..text.len())
            .step_by(2)
            .map(|at| u8::from_str_radix(&text[at..at + 2], 16).unwrap())
            .collect()
    }

    /// RFC 6979, A.2.5, A.2.6 and A.2.7: signatures of "sample".
    #[test]
    fn published_signatures_verify() {
        for (curve, key, x, hash, r, s) in [
            (
                Curve::P256,
                "c9afa9d845ba75166b5c215767b1d6934e50c3db36e89b127b8a622b120f6721",
                "60fed4ba255a9d31c961eb74c6356d68c049b8923b61fa6ce669622e60f29fb6",
                Hash::Sha256,
                "efd48b2aacb6a8fd1140dd9cd45e81d69d2c877b56aaf991c34d0ea84eaf3716",
                "f7cb1c942d657c41d436c7a1b6e29f65f3e900dbb9aff4064dc4ab2f843acda8",
            ),
            (
                Curve::P384,
                "6b9d3dad2e1b8c1c05b19875b6659f4de23c3b667bf297ba9aa47740787137d896d5724e4c70a825f872c9ea60d2edf5",
                "ec3a4e415b4e19a4568618029f427fa5da9a8bc4ae92e02e06aae5286b300c64def8f0ea9055866064a254515480bc13",
                Hash::Sha1,
                "ec748d839243d6fbef4fc5c4859a7dffd7f3abddf72014540c16d73309834fa37b9ba002899f6fda3a4a9386790d4eb2",
                "a3bcfa947beef4732bf247ac17f71676cb31a847b9ff0cbc9c9ed4c1a5b3facf26f49ca031d4857570ccb5ca4424a443",
            ),
            (
                Curve::P521,
                "00fad06daa62ba3b25d2fb40133da757205de67f5bb0018fee8c86e1b68c7e75caa896eb32f1f47c70855836a6d16fcc1466f6d8fbec67db89ec0c08b0e996b83538",
                "01894550d0785932e00eaa23b694f213f8c3121f86dc97a04e5a7167db4e5bcd371123d46e45db6b5d5370a7f20fb633155d38ffa16d2bd761dcac474b9a2f5023a4",
                Hash::Sha1,
                "00343b6ec45728975ea5cba6659bbb6062a5ff89eea58be3c80b619f322c87910fe092f7d45bb0f8eee01ed3f20babec079d202ae677b243ab40b5431d497c55d75d",
                "00e7b0e675a9b24413d448b8cc119d2bf7b2d2df032741c096634d6d65d0dbe3d5694625fb9e8104d3b842c1b0e2d0b98bea19341e8676aef66ae4eba3d5475d5d16",
            ),
        ] {
            let key = Private::from_scalar(curve, &bytes(key)).unwrap();
            let public = key.public();
            assert_eq!(hex(&public.coordinates().0), x);
            let signature = [bytes(r), bytes(s)].concat();
            assert!(public.verify(hash, b"sample", &signature), "{curve:?}");
            assert!(!public.verify(hash, b"Sample", &signature), "{curve:?}");
            assert!(
                !public.verify(hash, b"sample", &signature[1..]),
                "{curve:?}"
            );
            for hash in Hash::ALL {
                let own = key.sign(hash, b"text").unwrap();
                assert_eq!(own.len(), signature.len());
                assert!(public.verify(hash, b"text", &own), "{curve:?} {hash:?}");
            }
        }
    }

    #[test]
    fn keys_survive_every_format_and_agree() {
        for curve in [Curve::P256, Curve::P384, Curve::P521] {
            let (one, other) = (
                Private::generate(curve).unwrap(),
                Private::generate(curve).unwrap(),
            );
            let shared = one.agree(&other.public()).unwrap();
            assert_eq!(other.agree(&one.public()).unwrap(), shared);
            assert_ne!(one.scalar(), other.scalar());
            let again = Private::from_pkcs8(curve, &one.to_pkcs8().unwrap()).unwrap();
            assert_eq!(again.scalar(), one.scalar());
            let public = one.public();
            let (x, y) = public.coordinates();
            let spki = public.to_spki().unwrap();
            for again in [
                Public::from_raw(curve, &public.to_raw()),
                Public::from_spki(curve, &spki),
                Public::from_coordinates(curve, &x, &y),
            ] {
                assert!(again.unwrap() == public, "{curve:?}");
            }
            assert!(Public::from_coordinates(curve, &y, &x).is_err());
            assert!(Private::from_pkcs8(curve, &spki).is_err());
        }
        let small = Private::generate(Curve::P256).unwrap();
        let big = Private::generate(Curve::P384).unwrap().public();
        assert!(small.agree(&big).is_err());
        assert!(Public::from_spki(Curve::P256, &big.to_spki().unwrap()).is_err());
    }
}
