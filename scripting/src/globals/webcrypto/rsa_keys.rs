//! RSA: signatures of both kinds, and encryption with OAEP.

use getrandom::SysRng;
use rsa::{
    BoxedUint, Oaep, Pkcs1v15Sign, PrivateKey, Pss, PublicKey,
    pkcs8::{DecodePrivateKey, DecodePublicKey, EncodePrivateKey, EncodePublicKey},
    traits::{PrivateKeyParts, PublicKeyParts},
};
use sha1::Sha1;
use sha2::{Sha256, Sha384, Sha512};

use super::{algorithm::Hash, problem::Problem};

/// Longest modulus that can be generated: what the library takes back.
const MOST_BITS: u32 = PublicKey::MAX_SIZE as u32;

/// Evaluates an expression in which `$type` is the type of a hash.
macro_rules! for_hash {
    ($hash:expr, $type:ident => $then:expr) => {
        match $hash {
            Hash::Sha1 => {
                type $type = Sha1;
                $then
            }
            Hash::Sha256 => {
                type $type = Sha256;
                $then
            }
            Hash::Sha384 => {
                type $type = Sha384;
                $then
            }
            Hash::Sha512 => {
                type $type = Sha512;
                $then
            }
        }
    };
}

/// A way to sign.
#[derive(Debug, Clone, Copy)]
pub(super) enum Scheme {
    Pkcs1,
    Pss { salt: usize },
}

fn failed(error: rsa::Error) -> Problem {
    Problem::operation(error.to_string())
}

fn malformed<E: std::fmt::Display>(error: E) -> Problem {
    Problem::data(error.to_string())
}

fn number(bytes: &[u8]) -> BoxedUint {
    BoxedUint::from_be_slice_vartime(bytes)
}

pub(super) fn generate(bits: u32, exponent: &[u8]) -> Result<PrivateKey, Problem> {
    if !(PublicKey::MIN_SIZE as u32..=MOST_BITS).contains(&bits) {
        return Err(Problem::operation(format!(
            "invalid modulusLength {bits}: {} to {MOST_BITS} bits are supported",
            PublicKey::MIN_SIZE
        )));
    }
    // An even one would be searched for forever, a long one is refused only after the search.
    let significant = exponent.iter().skip_while(|byte| **byte == 0).count();
    let odd = exponent.last().is_some_and(|byte| byte & 1 == 1);
    if !odd || significant > 4 || exponent.ends_with(&[1]) && significant == 1 {
        return Err(Problem::operation("invalid publicExponent"));
    }
    PrivateKey::new_with_exp(&mut SysRng, bits as usize, number(exponent)).map_err(failed)
}

pub(super) fn private_from_pkcs8(der: &[u8]) -> Result<PrivateKey, Problem> {
    PrivateKey::from_pkcs8_der(der).map_err(malformed)
}

pub(super) fn public_from_spki(der: &[u8]) -> Result<PublicKey, Problem> {
    PublicKey::from_public_key_der(der).map_err(malformed)
}

pub(super) fn public_from_parts(n: &[u8], e: &[u8]) -> Result<PublicKey, Problem> {
    PublicKey::new(number(n), number(e)).map_err(malformed)
}

pub(super) fn private_from_parts(
    n: &[u8],
    e: &[u8],
    d: &[u8],
    p: &[u8],
    q: &[u8],
) -> Result<PrivateKey, Problem> {
    let primes = vec![number(p), number(q)];
    PrivateKey::from_components(number(n), number(e), number(d), primes).map_err(malformed)
}

pub(super) fn to_pkcs8(key: &PrivateKey) -> Result<Vec<u8>, Problem> {
    let der = key.to_pkcs8_der();
    der.map(|der| der.as_bytes().to_vec())
        .map_err(|e| Problem::operation(e.to_string()))
}

pub(super) fn to_spki(key: &PublicKey) -> Result<Vec<u8>, Problem> {
    let der = key.to_public_key_der();
    der.map(|der| der.as_bytes().to_vec())
        .map_err(|e| Problem::operation(e.to_string()))
}

/// The modulus and the public exponent.
pub(super) fn public_parts(key: &PublicKey) -> [Vec<u8>; 2] {
    [key.n_bytes().into_vec(), key.e_bytes().into_vec()]
}

/// `d`, `p`, `q`, `dp`, `dq` and `qi` of a JSON Web Key.
pub(super) fn private_parts(key: &PrivateKey) -> Result<[Vec<u8>; 6], Problem> {
    let text = |number: &BoxedUint| number.to_be_bytes_trimmed_vartime().into_vec();
    let ([p, q], Some(dp), Some(dq), Some(qi)) =
        (key.primes(), key.dp(), key.dq(), key.crt_coefficient())
    else {
        return Err(Problem::operation("the key has more than two primes"));
    };
    Ok([
        text(key.d()),
        text(p.as_ref()),
        text(q.as_ref()),
        text(dp),
        text(dq),
        text(&qi),
    ])
}

/// Bits of the modulus.
pub(super) fn bits(key: &PublicKey) -> u32 {
    key.n().bit_width()
}

pub(super) fn sign(
    key: &PrivateKey,
    scheme: Scheme,
    hash: Hash,
    data: &[u8],
) -> Result<Vec<u8>, Problem> {
    let digest = hash.digest(data);
    for_hash!(hash, D => match scheme {
        Scheme::Pkcs1 => key.sign_with_rng(&mut SysRng, Pkcs1v15Sign::new::<D>(), &digest),
        Scheme::Pss { salt } => {
            key.sign_with_rng(&mut SysRng, Pss::<D>::new_with_salt(salt), &digest)
        }
    })
    .map_err(failed)
}

pub(super) fn verify(
    key: &PublicKey,
    scheme: Scheme,
    hash: Hash,
    data: &[u8],
    signature: &[u8],
) -> bool {
    let digest = hash.digest(data);
    for_hash!(hash, D => match scheme {
        Scheme::Pkcs1 => key.verify(Pkcs1v15Sign::new::<D>(), &digest, signature),
        Scheme::Pss { salt } => key.verify(Pss::<D>::new_with_salt(salt), &digest, signature),
    })
    .is_ok()
}

pub(super) fn encrypt(
    key: &PublicKey,
    hash: Hash,
    label: Vec<u8>,
    data: &[u8],
) -> Result<Vec<u8>, Problem> {
    for_hash!(hash, D => key.encrypt(&mut SysRng, Oaep::<D>::new_with_label(label), data))
        .map_err(failed)
}

pub(super) fn decrypt(
    key: &PrivateKey,
    hash: Hash,
    label: Vec<u8>,
    data: &[u8],
) -> Result<Vec<u8>, Problem> {
    for_hash!(hash, D => {
        key.decrypt_blinded(&mut SysRng, Oaep::<D>::new_with_label(label), data)
    })
    .map_err(failed)
}

#[cfg(test)]
mod tests {
    use super::{
        Hash, Scheme, bits, decrypt, encrypt, generate, private_from_parts, private_from_pkcs8,
        private_parts, public_from_parts, public_from_spki, public_parts, sign, to_pkcs8, to_spki,
        verify,
    };

    #[test]
    fn keys_survive_every_format_and_do_everything() {
        let key = generate(1024, &[1, 0, 1]).unwrap();
        let public = key.to_public_key();
        assert_eq!(bits(&public), 1024);
        let again = private_from_pkcs8(&to_pkcs8(&key).unwrap()).unwrap();
        assert!(again == key);
        assert!(public_from_spki(&to_spki(&public).unwrap()).unwrap() == public);
        let [n, e] = public_parts(&public);
        assert_eq!(e, [1, 0, 1]);
        assert!(public_from_parts(&n, &e).unwrap() == public);
        let [d, p, q, ..] = private_parts(&key).unwrap();
        assert!(private_from_parts(&n, &e, &d, &p, &q).unwrap() == key);
        assert!(private_from_parts(&n, &e, &d, &p, &p).is_err());
        for hash in [Hash::Sha1, Hash::Sha256] {
            for scheme in [Scheme::Pkcs1, Scheme::Pss { salt: 20 }] {
                let signature = sign(&again, scheme, hash, b"text").unwrap();
                assert!(verify(&public, scheme, hash, b"text", &signature));
                assert!(!verify(&public, scheme, hash, b"Text", &signature));
                assert!(!verify(&public, scheme, hash, b"text", &signature[1..]));
            }
            let sealed = encrypt(&public, hash, b"L".to_vec(), b"text").unwrap();
            assert_eq!(
                decrypt(&key, hash, b"L".to_vec(), &sealed).unwrap(),
                b"text"
            );
            assert!(decrypt(&key, hash, Vec::new(), &sealed).is_err());
            assert!(encrypt(&public, hash, Vec::new(), &[0; 128]).is_err());
        }
    }

    #[test]
    fn sizes_and_exponents_that_cannot_be_are_refused_at_once() {
        for (bits, exponent) in [
            (512, &[1, 0, 1][..]),
            (1_000_000, &[1, 0, 1]),
            (1024, &[]),
            (1024, &[1]),
            (1024, &[4]),
            (1024, &[1, 0, 0, 0, 0, 1]),
        ] {
            assert_eq!(generate(bits, exponent).unwrap_err().name, "OperationError");
        }
    }
}
