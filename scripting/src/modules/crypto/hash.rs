//! Hash functions by name, plain and keyed.

use hmac::{EagerHash, Hmac, KeyInit, Mac};
use md4::Md4;
use md5::Md5;
use ripemd::Ripemd160;
use sha1::Sha1;
use sha2::{Sha256, Sha384, Sha512, Sha512_224, Sha512_256, digest::Digest};

/// A hash that is being computed.
pub(crate) trait Running {
    /// Takes more data.
    fn update(&mut self, data: &[u8]);
    /// The hash of all data so far. More may follow.
    fn value(&self) -> Vec<u8>;
}

struct Plain<D>(D);

impl<D: Digest + Clone> Running for Plain<D> {
    fn update(&mut self, data: &[u8]) {
        self.0.update(data);
    }

    fn value(&self) -> Vec<u8> {
        self.0.clone().finalize().to_vec()
    }
}

struct Keyed<M>(M);

impl<M: Mac + Clone> Running for Keyed<M> {
    fn update(&mut self, data: &[u8]) {
        self.0.update(data);
    }

    fn value(&self) -> Vec<u8> {
        self.0.clone().finalize().into_bytes().to_vec()
    }
}

/// A row of the table.
pub(crate) struct Algorithm {
    /// Its name in `k6/crypto`.
    pub(crate) name: &'static str,
    /// Starts a hash.
    pub(crate) start: fn() -> Box<dyn Running>,
    /// Starts an HMAC with this key.
    pub(crate) keyed: fn(&[u8]) -> Box<dyn Running>,
}

/// Every algorithm there is.
pub(crate) const ALGORITHMS: &[Algorithm] = &[
    row::<Md4>("md4"),
    row::<Md5>("md5"),
    row::<Ripemd160>("ripemd160"),
    row::<Sha1>("sha1"),
    row::<Sha256>("sha256"),
    row::<Sha384>("sha384"),
    row::<Sha512>("sha512"),
    row::<Sha512_224>("sha512_224"),
    row::<Sha512_256>("sha512_256"),
];

/// The algorithm of exactly this name.
pub(crate) fn find(name: &str) -> Option<&'static Algorithm> {
    ALGORITHMS.iter().find(|algorithm| algorithm.name == name)
}

const fn row<D>(name: &'static str) -> Algorithm
where
    D: Digest + EagerHash + Clone + 'static,
    Hmac<D>: Mac + KeyInit + Clone,
{
    fn start<D: Digest + Clone + 'static>() -> Box<dyn Running> {
        Box::new(Plain(D::new()))
    }
    fn keyed<D: EagerHash>(key: &[u8]) -> Box<dyn Running>
    where
        Hmac<D>: Mac + KeyInit + Clone + 'static,
    {
        let hmac = <Hmac<D> as KeyInit>::new_from_slice(key);
        Box::new(Keyed(hmac.expect("an HMAC takes keys of any length")))
    }
    Algorithm {
        name,
        start: start::<D>,
        keyed: keyed::<D>,
    }
}
