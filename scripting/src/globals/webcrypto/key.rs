//! Keys: what they are made of, and the formats they come and go in.

use std::sync::Arc;

use base64::{Engine as _, prelude::BASE64_URL_SAFE_NO_PAD};
use rquickjs::{
    Class, Ctx, Object, Result as JsResult, Value,
    class::{JsClass, Readable},
    function::Constructor,
    object::Property,
};

use super::{
    algorithm::{Hash, Name, Usage, check_usages},
    elliptic::{self, Curve},
    problem::Problem,
    rsa_keys,
};
use crate::engine::{self, Native};

/// What a key is made of.
pub(super) enum Material {
    Secret(Vec<u8>),
    EllipticPrivate(elliptic::Private),
    EllipticPublic(elliptic::Public),
    RsaPrivate(Box<rsa::PrivateKey>),
    RsaPublic(Box<rsa::PublicKey>),
}

/// A key with what it may be used for.
pub(super) struct Key {
    pub(super) name: Name,
    pub(super) hash: Option<Hash>,
    pub(super) curve: Option<Curve>,
    pub(super) extractable: bool,
    pub(super) usages: Vec<Usage>,
    pub(super) material: Material,
}

/// What the algorithm of an imported key says about it.
#[derive(Debug, Clone, Copy)]
pub(super) struct Params {
    pub(super) name: Name,
    pub(super) hash: Option<Hash>,
    pub(super) curve: Option<Curve>,
    /// Bits of an HMAC key, where the script says how many it wants.
    pub(super) length: Option<f64>,
}

/// A format of keys.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Format {
    Raw,
    Spki,
    Pkcs8,
    Jwk,
}

impl Format {
    pub(super) fn find(text: &str) -> Result<Self, Problem> {
        Ok(match text {
            "raw" => Self::Raw,
            "spki" => Self::Spki,
            "pkcs8" => Self::Pkcs8,
            "jwk" => Self::Jwk,
            _ => {
                return Err(Problem::implementation(format!(
                    "unsupported format {text}"
                )));
            }
        })
    }

    pub(super) fn text(self) -> &'static str {
        match self {
            Self::Raw => "raw",
            Self::Spki => "spki",
            Self::Pkcs8 => "pkcs8",
            Self::Jwk => "jwk",
        }
    }
}

/// Key data on its way in.
pub(super) enum Input {
    Bytes(Vec<u8>),
    Jwk(Jwk),
}

/// Key data on its way out.
pub(super) enum Output {
    Bytes(Vec<u8>),
    Jwk(Jwk),
}

/// The members of a JSON Web Key that hold text, in order.
#[derive(Default)]
pub(super) struct Jwk(pub(super) Vec<(&'static str, String)>);

impl Jwk {
    /// The members that matter.
    pub(super) const MEMBERS: [&'static str; 14] = [
        "kty", "alg", "crv", "k", "x", "y", "n", "e", "d", "p", "q", "dp", "dq", "qi",
    ];

    fn get(&self, name: &str) -> Option<&str> {
        let member = self.0.iter().find(|(known, _)| *known == name);
        member.map(|(_, value)| value.as_str())
    }

    fn bytes(&self, name: &str) -> Result<Vec<u8>, Problem> {
        let text = self
            .get(name)
            .ok_or_else(|| Problem::data(format!("the JSON Web Key has no {name:?}")))?;
        BASE64_URL_SAFE_NO_PAD
            .decode(text)
            .map_err(|_| Problem::data(format!("{name:?} of the JSON Web Key is not base64url")))
    }

    fn expect(&self, name: &str, value: &str) -> Result<(), Problem> {
        match self.get(name) {
            Some(found) if found == value => Ok(()),
            found => Err(Problem::data(format!(
                "{name:?} of the JSON Web Key must be {value:?}, not {:?}",
                found.unwrap_or_default()
            ))),
        }
    }

    fn set(&mut self, name: &'static str, value: &str) {
        self.0.push((name, value.to_owned()));
    }

    fn set_bytes(&mut self, name: &'static str, value: &[u8]) {
        self.0.push((name, BASE64_URL_SAFE_NO_PAD.encode(value)));
    }
}

/// The usages that a key can have: of a public key the first, of other keys the second.
pub(super) fn allowed(name: Name) -> (&'static [Usage], &'static [Usage]) {
    use Usage::{Decrypt, DeriveBits, DeriveKey, Encrypt, Sign, UnwrapKey, Verify, WrapKey};
    match name {
        Name::AesCbc | Name::AesCtr | Name::AesGcm => {
            (&[], &[Encrypt, Decrypt, WrapKey, UnwrapKey])
        }
        Name::AesKw => (&[], &[WrapKey, UnwrapKey]),
        Name::Hmac => (&[], &[Sign, Verify]),
        Name::Ecdsa | Name::RsaPkcs1 | Name::RsaPss => (&[Verify], &[Sign]),
        Name::Ecdh => (&[], &[DeriveKey, DeriveBits]),
        Name::RsaOaep => (&[Encrypt, WrapKey], &[Decrypt, UnwrapKey]),
        Name::Pbkdf2 => (&[], &[DeriveKey, DeriveBits]),
    }
}

/// The refusal of a secret or private key that is for nothing.
pub(super) const NO_USAGES: &str = "usages cannot not be empty for a secret or private CryptoKey";

impl Key {
    /// A secret key, or the refusal of its usages.
    pub(super) fn secret(
        name: Name,
        hash: Option<Hash>,
        bytes: Vec<u8>,
        extractable: bool,
        usages: Vec<Usage>,
    ) -> Result<Self, Problem> {
        check_usages(&usages, allowed(name).1)?;
        if usages.is_empty() {
            return Err(Problem::syntax(NO_USAGES));
        }
        Ok(Self {
            name,
            hash,
            curve: None,
            extractable,
            usages,
            material: Material::Secret(bytes),
        })
    }

    /// Both halves of a new pair. Each gets the usages that it can have.
    pub(super) fn pair(
        params: Params,
        private: Material,
        public: Material,
        extractable: bool,
        usages: &[Usage],
    ) -> Result<(Self, Self), Problem> {
        let (of_public, of_private) = allowed(params.name);
        let half = |material, allowed: &[Usage], extractable| Self {
            name: params.name,
            hash: params.hash,
            curve: params.curve,
            extractable,
            usages: usages
                .iter()
                .copied()
                .filter(|usage| allowed.contains(usage))
                .collect(),
            material,
        };
        let private = half(private, of_private, extractable);
        if private.usages.is_empty() {
            return Err(Problem::syntax(NO_USAGES));
        }
        Ok((private, half(public, of_public, true)))
    }

    /// `secret`, `private` or `public`.
    pub(super) fn kind(&self) -> &'static str {
        match self.material {
            Material::Secret(_) => "secret",
            Material::EllipticPrivate(_) | Material::RsaPrivate(_) => "private",
            Material::EllipticPublic(_) | Material::RsaPublic(_) => "public",
        }
    }

    /// Makes a key of what a script has.
    pub(super) fn import(
        format: Format,
        input: Input,
        params: Params,
        extractable: bool,
        usages: Vec<Usage>,
    ) -> Result<Self, Problem> {
        let name = params.name;
        if name.has_pairs() {
            return Self::import_half(format, input, params, extractable, usages);
        }
        check_usages(&usages, allowed(name).1)?;
        let bytes = match (format, &input) {
            (Format::Raw, Input::Bytes(bytes)) => bytes.clone(),
            (Format::Jwk, Input::Jwk(jwk)) if name != Name::Pbkdf2 => {
                jwk.expect("kty", "oct")?;
                let bytes = jwk.bytes("k")?;
                if jwk.get("alg").is_some()
                    && let Some(algorithm) = secret_algorithm(name, params.hash, bytes.len())
                {
                    jwk.expect("alg", &algorithm)?;
                }
                bytes
            }
            _ => {
                return Err(Problem::not_supported(format!(
                    "unsupported format {}",
                    format.text()
                )));
            }
        };
        if name.is_aes() && ![16, 24, 32].contains(&bytes.len()) {
            return Err(Problem::data(format!(
                "invalid key length {} bytes",
                bytes.len()
            )));
        }
        if name == Name::Hmac {
            let bits = bytes.len() as f64 * 8.0;
            if bits == 0.0 {
                return Err(Problem::data("invalid key length 0 bytes"));
            }
            if params.length.is_some_and(|length| length != bits) {
                return Err(Problem::data("the length does not match the key data"));
            }
        }
        if name == Name::Pbkdf2 && extractable {
            return Err(Problem::syntax("PBKDF2 keys cannot be extractable"));
        }
        Self::secret(name, params.hash, bytes, extractable, usages)
    }

    fn import_half(
        format: Format,
        input: Input,
        params: Params,
        extractable: bool,
        usages: Vec<Usage>,
    ) -> Result<Self, Problem> {
        let material = match params.curve {
            Some(curve) => import_elliptic(format, &input, curve)?,
            None => import_rsa(format, &input)?,
        };
        let key = Self {
            name: params.name,
            hash: params.hash,
            curve: params.curve,
            extractable,
            usages,
            material,
        };
        let (of_public, of_private) = allowed(params.name);
        if key.kind() == "public" {
            check_usages(&key.usages, of_public)?;
        } else {
            check_usages(&key.usages, of_private)?;
            if key.usages.is_empty() {
                return Err(Problem::syntax(NO_USAGES));
            }
        }
        Ok(key)
    }

    /// Gives the key to the script.
    pub(super) fn export(&self, format: Format) -> Result<Output, Problem> {
        if !self.extractable {
            return Err(Problem::access("the key is not extractable"));
        }
        let wrong_half = || {
            Problem::access(format!(
                "{} is no format of a {} key",
                format.text(),
                self.kind()
            ))
        };
        let unsupported =
            || Problem::implementation(format!("unsupported format {}", format.text()));
        if matches!(self.name, Name::AesKw | Name::Pbkdf2) {
            return Err(super::algorithm::unsupported(self.name.text(), "exportKey"));
        }
        if format == Format::Jwk {
            return Ok(Output::Jwk(self.to_jwk()?));
        }
        let bytes = match (&self.material, format) {
            (Material::Secret(bytes), Format::Raw) => bytes.clone(),
            (Material::Secret(_), _) => {
                return Err(Problem::not_supported(format!(
                    "unsupported format {}",
                    format.text()
                )));
            }
            (Material::EllipticPublic(key), Format::Raw) => key.to_raw(),
            (Material::EllipticPublic(key), Format::Spki) => key.to_spki()?,
            (Material::EllipticPrivate(key), Format::Pkcs8) => key.to_pkcs8()?,
            (Material::RsaPublic(key), Format::Spki) => rsa_keys::to_spki(key)?,
            (Material::RsaPrivate(key), Format::Pkcs8) => rsa_keys::to_pkcs8(key)?,
            (Material::RsaPublic(_) | Material::RsaPrivate(_), Format::Raw) => {
                return Err(unsupported());
            }
            _ => return Err(wrong_half()),
        };
        Ok(Output::Bytes(bytes))
    }

    fn to_jwk(&self) -> Result<Jwk, Problem> {
        let mut jwk = Jwk::default();
        match &self.material {
            Material::Secret(bytes) => {
                jwk.set("kty", "oct");
                jwk.set_bytes("k", bytes);
                if let Some(algorithm) = secret_algorithm(self.name, self.hash, bytes.len()) {
                    jwk.set("alg", &algorithm);
                }
            }
            Material::EllipticPublic(key) => self.elliptic_jwk(&mut jwk, key),
            Material::EllipticPrivate(key) => {
                self.elliptic_jwk(&mut jwk, &key.public());
                jwk.set_bytes("d", &key.scalar());
            }
            Material::RsaPublic(key) => self.rsa_jwk(&mut jwk, key),
            Material::RsaPrivate(key) => {
                self.rsa_jwk(&mut jwk, &key.to_public_key());
                let parts = rsa_keys::private_parts(key)?;
                for (name, part) in ["d", "p", "q", "dp", "dq", "qi"].into_iter().zip(parts) {
                    jwk.set_bytes(name, &part);
                }
            }
        }
        Ok(jwk)
    }

    fn elliptic_jwk(&self, jwk: &mut Jwk, key: &elliptic::Public) {
        jwk.set("kty", "EC");
        jwk.set("crv", self.curve.map_or("", Curve::text));
        let (x, y) = key.coordinates();
        jwk.set_bytes("x", &x);
        jwk.set_bytes("y", &y);
    }

    fn rsa_jwk(&self, jwk: &mut Jwk, key: &rsa::PublicKey) {
        jwk.set("kty", "RSA");
        if let Some(hash) = self.hash {
            let algorithm = match (self.name, hash) {
                (Name::RsaOaep, Hash::Sha1) => "RSA-OAEP".to_owned(),
                (Name::RsaOaep, _) => format!("RSA-OAEP-{}", hash.digits()),
                (Name::RsaPss, _) => format!("PS{}", hash.digits()),
                _ => format!("RS{}", hash.digits()),
            };
            jwk.set("alg", &algorithm);
        }
        let [n, e] = rsa_keys::public_parts(key);
        jwk.set_bytes("n", &n);
        jwk.set_bytes("e", &e);
    }
}

/// What JSON Web Algorithms calls the algorithm of a secret key.
fn secret_algorithm(name: Name, hash: Option<Hash>, bytes: usize) -> Option<String> {
    let mode = match name {
        Name::AesCbc => "CBC",
        Name::AesCtr => "CTR",
        Name::AesGcm => "GCM",
        Name::AesKw => "KW",
        Name::Hmac => return hash.map(|hash| format!("HS{}", hash.digits())),
        _ => return None,
    };
    Some(format!("A{}{mode}", bytes * 8))
}

fn import_elliptic(format: Format, input: &Input, curve: Curve) -> Result<Material, Problem> {
    use elliptic::{Private, Public};
    match (format, input) {
        (Format::Raw, Input::Bytes(point)) => {
            Public::from_raw(curve, point).map(Material::EllipticPublic)
        }
        (Format::Spki, Input::Bytes(der)) => {
            Public::from_spki(curve, der).map(Material::EllipticPublic)
        }
        (Format::Pkcs8, Input::Bytes(der)) => {
            Private::from_pkcs8(curve, der).map(Material::EllipticPrivate)
        }
        (_, Input::Jwk(jwk)) => {
            jwk.expect("kty", "EC")?;
            jwk.expect("crv", curve.text())?;
            let public = Public::from_coordinates(curve, &jwk.bytes("x")?, &jwk.bytes("y")?)?;
            if jwk.get("d").is_none() {
                return Ok(Material::EllipticPublic(public));
            }
            let private = Private::from_scalar(curve, &jwk.bytes("d")?)?;
            if private.public() != public {
                return Err(Problem::data("the halves of the JSON Web Key do not match"));
            }
            Ok(Material::EllipticPrivate(private))
        }
        (Format::Jwk, Input::Bytes(_)) => Err(Problem::data("the key data is no JSON Web Key")),
    }
}

fn import_rsa(format: Format, input: &Input) -> Result<Material, Problem> {
    let private = |key| Material::RsaPrivate(Box::new(key));
    let public = |key| Material::RsaPublic(Box::new(key));
    match (format, input) {
        (Format::Spki, Input::Bytes(der)) => rsa_keys::public_from_spki(der).map(public),
        (Format::Pkcs8, Input::Bytes(der)) => rsa_keys::private_from_pkcs8(der).map(private),
        (_, Input::Jwk(jwk)) => {
            jwk.expect("kty", "RSA")?;
            let (n, e) = (jwk.bytes("n")?, jwk.bytes("e")?);
            if jwk.get("d").is_none() {
                return rsa_keys::public_from_parts(&n, &e).map(public);
            }
            let [d, p, q] = [jwk.bytes("d")?, jwk.bytes("p")?, jwk.bytes("q")?];
            rsa_keys::private_from_parts(&n, &e, &d, &p, &q).map(private)
        }
        (format, Input::Bytes(_)) => Err(Problem::implementation(format!(
            "unsupported format {}",
            format.text()
        ))),
    }
}

// === As scripts see it ===

impl<'js> JsClass<'js> for Native<Arc<Key>> {
    const NAME: &'static str = "CryptoKey";
    type Mutable = Readable;

    fn constructor(_: &Ctx<'js>) -> JsResult<Option<Constructor<'js>>> {
        Ok(None)
    }
}

/// The object that shows a key and stands for it.
pub(super) fn object<'js>(ctx: &Ctx<'js>, key: Key) -> JsResult<Value<'js>> {
    let key = Arc::new(key);
    let object = Class::instance(ctx.clone(), Native(key.clone()))?;
    object.prop("type", Property::from(key.kind()).enumerable())?;
    object.prop("extractable", Property::from(key.extractable).enumerable())?;
    let algorithm = Object::new(ctx.clone())?;
    algorithm.set("name", key.name.text())?;
    match &key.material {
        Material::Secret(bytes) if key.name != Name::Pbkdf2 => {
            algorithm.set("length", bytes.len() as f64 * 8.0)?;
        }
        Material::RsaPrivate(pair) => rsa_algorithm(&algorithm, pair.as_public_key())?,
        Material::RsaPublic(public) => rsa_algorithm(&algorithm, public)?,
        _ => {}
    }
    if let Some(hash) = key.hash {
        let shown = Object::new(ctx.clone())?;
        shown.set("name", hash.text())?;
        algorithm.set("hash", shown)?;
    }
    if let Some(curve) = key.curve {
        algorithm.set("namedCurve", curve.text())?;
    }
    object.prop("algorithm", Property::from(algorithm).enumerable())?;
    let usages: Vec<&str> = key.usages.iter().map(|usage| usage.text()).collect();
    object.prop("usages", Property::from(usages).enumerable())?;
    Ok(object.into_value())
}

fn rsa_algorithm(algorithm: &Object<'_>, key: &rsa::PublicKey) -> JsResult<()> {
    algorithm.set("modulusLength", rsa_keys::bits(key))?;
    let [_, exponent] = rsa_keys::public_parts(key);
    let exponent = engine::byte_array(algorithm.ctx(), exponent)?;
    algorithm.set("publicExponent", exponent)
}

/// The key that an object stands for.
pub(super) fn from_object(value: Option<&Value<'_>>) -> Result<Arc<Key>, Problem> {
    let class = value.and_then(|value| Class::<Native<Arc<Key>>>::from_value(value).ok());
    match class {
        Some(class) => Ok(class.borrow().0.clone()),
        None => Err(Problem::access("the key is not a valid CryptoKey")),
    }
}
