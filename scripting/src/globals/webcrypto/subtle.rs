//! `crypto.subtle`: arguments become a job, the job runs, its outcome settles the promise.
//!
//! What takes milliseconds runs on another thread, the rest at once; either way the promise
//! settles in a task of its own, as in k6.

use std::{rc::Rc, sync::Arc};

use rquickjs::{
    Coerced, Ctx, Function, IntoJs, Object, Persistent, Promise, Result as JsResult, Value,
    function::Rest,
};

use super::{
    aes::{self, Mode},
    algorithm::{Hash, Name, Operation, Usage, check_usages, unsupported},
    elliptic::{Curve, Private},
    key::{self, Format, Input, Jwk, Key, Material, Output, Params},
    problem::Problem,
    rsa_keys::{self, Scheme},
};
use crate::{binary, engine, error, event_loop::Completion, offload, state::VuState, vu::state_of};

/// From this many bytes on, data is worked on elsewhere.
const MUCH_DATA: usize = 256 << 10;
/// From this many hashes on, keys are derived elsewhere.
const MANY_ROUNDS: u64 = 2_000;

/// What an operation leads to.
enum Outcome {
    Bytes(Vec<u8>),
    Verdict(bool),
    Key(Box<Key>),
    /// Private, public.
    Pair(Box<(Key, Key)>),
    Jwk(Jwk, Vec<Usage>),
}

/// An operation with all that it needs.
struct Job {
    /// It takes long enough to disturb others.
    long: bool,
    work: Box<dyn FnOnce() -> Result<Outcome, Problem> + Send>,
}

impl Job {
    fn new(
        long: bool,
        work: impl FnOnce() -> Result<Outcome, Problem> + Send + 'static,
    ) -> Result<Self, Refusal> {
        Ok(Self {
            long,
            work: Box::new(work),
        })
    }
}

/// Why arguments became no job.
enum Refusal {
    Problem(Problem),
    Thrown(rquickjs::Error),
}

impl From<Problem> for Refusal {
    fn from(problem: Problem) -> Self {
        Self::Problem(problem)
    }
}

impl From<rquickjs::Error> for Refusal {
    fn from(error: rquickjs::Error) -> Self {
        Self::Thrown(error)
    }
}

/// The arguments of a call.
struct Arguments<'js>(Vec<Value<'js>>);

impl<'js> Arguments<'js> {
    fn get(&self, index: usize) -> Option<&Value<'js>> {
        self.0.get(index).filter(|value| !value.is_undefined())
    }
}

type Parse = for<'js> fn(&Arguments<'js>) -> Result<Job, Refusal>;

/// Makes the object.
pub(super) fn object<'js>(ctx: &Ctx<'js>) -> JsResult<Object<'js>> {
    let subtle = Object::new(ctx.clone())?;
    let methods: [(&str, Parse); 10] = [
        ("decrypt", |arguments| crypt(arguments, Operation::Decrypt)),
        ("deriveBits", derive_bits),
        ("deriveKey", derive_key),
        ("digest", digest),
        ("encrypt", |arguments| crypt(arguments, Operation::Encrypt)),
        ("exportKey", export_key),
        ("generateKey", generate_key),
        ("importKey", import_key),
        ("sign", sign),
        ("verify", verify),
    ];
    let state = state_of(ctx);
    for (name, parse) in methods {
        let state = state.clone();
        let method = move |ctx: Ctx<'js>, arguments: Rest<Value<'js>>| {
            state.guard(&ctx)?;
            let job = parse(&Arguments(arguments.0));
            start(&ctx, &state, job)
        };
        let method = Function::new(ctx.clone(), method)?;
        subtle.set(name, method.with_name(name)?)?;
    }
    for name in ["unwrapKey", "wrapKey"] {
        let method = |ctx: Ctx<'js>| Err::<(), _>(error::throw(&ctx, "not implemented"));
        let method = Function::new(ctx.clone(), method)?;
        subtle.set(name, method.with_name(name)?)?;
    }
    Ok(subtle)
}

/// How an operation ended.
enum End {
    Outcome(Result<Outcome, Problem>),
    /// A getter or a conversion of the script's own threw while arguments were looked at.
    Thrown(Persistent<Value<'static>>),
}

/// Runs a job; answers the promise of its outcome.
fn start<'js>(
    ctx: &Ctx<'js>,
    state: &Rc<VuState>,
    job: Result<Job, Refusal>,
) -> JsResult<Promise<'js>> {
    let (promise, resolve, reject) = ctx.promise()?;
    let (resolve, reject) = (
        Persistent::save(ctx, resolve),
        Persistent::save(ctx, reject),
    );
    let settle = move |end: End| -> Completion {
        Box::new(move |ctx| match end {
            End::Outcome(Ok(outcome)) => {
                let value = to_js(ctx, outcome)?;
                resolve.restore(ctx)?.call((value,))
            }
            End::Outcome(Err(problem)) => {
                let reason = error::rejection(ctx, problem.name, &problem.text)?;
                reject.restore(ctx)?.call((reason,))
            }
            End::Thrown(reason) => reject.restore(ctx)?.call((reason.restore(ctx)?,)),
        })
    };
    let end = match job {
        Ok(Job { long: true, work }) => {
            state.events.start(async move {
                let outcome = offload::run(work).await;
                let outcome =
                    outcome.unwrap_or_else(|| Err(Problem::operation("the operation failed")));
                settle(End::Outcome(outcome))
            });
            return Ok(promise);
        }
        Ok(Job { long: false, work }) => End::Outcome(work()),
        Err(Refusal::Problem(problem)) => End::Outcome(Err(problem)),
        Err(Refusal::Thrown(thrown)) => {
            let thrown = error::thrown(ctx, thrown);
            state.guard(ctx)?;
            End::Thrown(Persistent::save(ctx, thrown))
        }
    };
    state.events.start(async move { settle(end) });
    Ok(promise)
}

fn to_js<'js>(ctx: &Ctx<'js>, outcome: Outcome) -> JsResult<Value<'js>> {
    match outcome {
        Outcome::Bytes(bytes) => engine::array_buffer(ctx, bytes)?.into_js(ctx),
        Outcome::Verdict(verdict) => verdict.into_js(ctx),
        Outcome::Key(key) => key::object(ctx, *key),
        Outcome::Pair(pair) => {
            let (private, public) = *pair;
            let object = Object::new(ctx.clone())?;
            object.set("privateKey", key::object(ctx, private)?)?;
            object.set("publicKey", key::object(ctx, public)?)?;
            object.into_js(ctx)
        }
        Outcome::Jwk(jwk, usages) => {
            let object = Object::new(ctx.clone())?;
            for (name, value) in jwk.0 {
                object.set(name, value)?;
            }
            object.set("ext", true)?;
            let usages: Vec<&str> = usages.iter().map(|usage| usage.text()).collect();
            object.set("key_ops", usages)?;
            object.into_js(ctx)
        }
    }
}

// === Arguments ===

/// An algorithm identifier: its name, and the object with its parameters if it is one.
fn identifier<'js>(value: Option<&Value<'js>>) -> Result<(String, Option<Object<'js>>), Refusal> {
    let missing = || Problem::kind("the algorithm is neither a name nor an object with one");
    let value = value.ok_or_else(missing)?;
    if let Some(name) = value.as_string() {
        return Ok((engine::rust_string(name), None));
    }
    let object = value.as_object().ok_or_else(missing)?;
    let name: Value<'js> = object.get("name")?;
    let name = name.as_string().ok_or_else(missing)?;
    Ok((engine::rust_string(name), Some(object.clone())))
}

fn algorithm<'js>(
    value: Option<&Value<'js>>,
    operation: Operation,
) -> Result<(Name, Option<Object<'js>>), Refusal> {
    let (name, object) = identifier(value)?;
    Ok((Name::find(&name, operation)?, object))
}

/// A member of the parameters; `None` if it is absent.
fn member<'js>(params: Option<&Object<'js>>, name: &str) -> JsResult<Option<Value<'js>>> {
    let Some(params) = params else {
        return Ok(None);
    };
    let value: Value<'js> = params.get(name)?;
    Ok(Some(value).filter(|value| !value.is_undefined() && !value.is_null()))
}

fn required<T>(value: Option<T>, name: &str) -> Result<T, Problem> {
    value.ok_or_else(|| Problem::kind(format!("the algorithm's parameter {name} is missing")))
}

fn optional_bytes<'js>(
    params: Option<&Object<'js>>,
    name: &str,
) -> Result<Option<Vec<u8>>, Refusal> {
    let Some(value) = member(params, name)? else {
        return Ok(None);
    };
    let bytes = binary::source(&value).ok_or_else(|| {
        Problem::kind(format!(
            "{name} is neither an ArrayBuffer, nor a TypedArray nor DataView"
        ))
    })?;
    Ok(Some(bytes))
}

fn bytes<'js>(params: Option<&Object<'js>>, name: &str) -> Result<Vec<u8>, Refusal> {
    Ok(required(optional_bytes(params, name)?, name)?)
}

fn optional_number<'js>(params: Option<&Object<'js>>, name: &str) -> Result<Option<f64>, Refusal> {
    match member(params, name)? {
        Some(value) => Ok(Some(value.get::<Coerced<f64>>()?.0.trunc())),
        None => Ok(None),
    }
}

/// A whole number that fits; what does not is taken for the largest, which no parameter allows.
fn number<'js>(params: Option<&Object<'js>>, name: &str) -> Result<u32, Refusal> {
    Ok(required(optional_number(params, name)?, name)? as u32)
}

fn find_hash(name: &str) -> Result<Hash, Problem> {
    Hash::find(name)
        .ok_or_else(|| Problem::not_supported(format!("the hash {name:?} is not supported")))
}

fn hash<'js>(params: Option<&Object<'js>>) -> Result<Hash, Refusal> {
    let value = required(member(params, "hash")?, "hash")?;
    Ok(find_hash(&identifier(Some(&value))?.0)?)
}

fn curve<'js>(params: Option<&Object<'js>>) -> Result<Curve, Refusal> {
    let value = required(member(params, "namedCurve")?, "namedCurve")?;
    let name = error::to_text(&value);
    let curve = Curve::find(&name);
    Ok(curve.ok_or_else(|| {
        Problem::not_supported(format!("the elliptic curve {name:?} is not supported"))
    })?)
}

fn data(value: Option<&Value<'_>>) -> Result<Vec<u8>, Problem> {
    value
        .and_then(binary::source)
        .ok_or_else(|| Problem::kind("data must be an ArrayBuffer, TypedArray, or DataView"))
}

fn usages(value: Option<&Value<'_>>) -> Result<Vec<Usage>, Refusal> {
    let list = value.and_then(|value| value.as_array());
    let list = list.ok_or_else(|| Problem::kind("the usages are not an array"))?;
    let mut usages = Vec::new();
    for item in list.iter::<Value<'_>>() {
        let usage = Usage::find(&error::to_text(&item?))?;
        if !usages.contains(&usage) {
            usages.push(usage);
        }
    }
    Ok(usages)
}

fn truth(value: Option<&Value<'_>>) -> JsResult<bool> {
    match value {
        Some(value) => Ok(value.get::<Coerced<bool>>()?.0),
        None => Ok(false),
    }
}

/// Refuses a key of another algorithm, or one that is not for this.
fn check_key(key: &Key, name: Name, operation: &str, usage: Usage) -> Result<(), Problem> {
    if key.name != name {
        return Err(Problem::access(format!(
            "{operation}'s algorithm name does not match key algorithm name"
        )));
    }
    if !key.usages.contains(&usage) {
        return Err(Problem::access(format!(
            "the key's usages do not include {}",
            usage.text()
        )));
    }
    Ok(())
}

// === Methods ===

fn digest(arguments: &Arguments<'_>) -> Result<Job, Refusal> {
    let (name, _) = identifier(arguments.get(0))?;
    let hash = Hash::find(&name).ok_or_else(|| unsupported(&name, "digest"))?;
    let data = data(arguments.get(1))?;
    let long = data.len() > MUCH_DATA;
    Job::new(long, move || Ok(Outcome::Bytes(hash.digest(&data))))
}

fn crypt(arguments: &Arguments<'_>, operation: Operation) -> Result<Job, Refusal> {
    let encrypt = operation == Operation::Encrypt;
    let usage = if encrypt {
        Usage::Encrypt
    } else {
        Usage::Decrypt
    };
    let (name, params) = algorithm(arguments.get(0), operation)?;
    let key = key::from_object(arguments.get(1))?;
    check_key(&key, name, operation.name(), usage)?;
    let data = data(arguments.get(2))?;
    if name == Name::RsaOaep {
        let label = optional_bytes(params.as_ref(), "label")?.unwrap_or_default();
        return Job::new(!encrypt, move || {
            let hash = key.hash.ok_or_else(|| no_half(&key))?;
            let bytes = match &key.material {
                Material::RsaPublic(public) => rsa_keys::encrypt(public, hash, label, &data),
                Material::RsaPrivate(private) => rsa_keys::decrypt(private, hash, label, &data),
                _ => Err(no_half(&key)),
            };
            bytes.map(Outcome::Bytes)
        });
    }
    let mode = mode(name, params.as_ref())?;
    Job::new(data.len() > MUCH_DATA, move || match &key.material {
        Material::Secret(secret) => aes::run(&mode, secret, &data, encrypt).map(Outcome::Bytes),
        _ => Err(no_half(&key)),
    })
}

/// A key whose usages promise what its material cannot do.
fn no_half(key: &Key) -> Problem {
    Problem::access(format!("a {} key cannot do that", key.kind()))
}

fn mode<'js>(name: Name, params: Option<&Object<'js>>) -> Result<Mode, Refusal> {
    let wrong = |what: &str, bytes: Vec<u8>| {
        Problem::operation(format!("invalid {what}: {} bytes", bytes.len()))
    };
    Ok(match name {
        Name::AesCbc => Mode::Cbc {
            iv: bytes(params, "iv")?
                .try_into()
                .map_err(|iv| wrong("iv length, it must be 16 bytes", iv))?,
        },
        Name::AesCtr => {
            let counter = bytes(params, "counter")?;
            let length = number(params, "length")?;
            if !(1..=128).contains(&length) {
                return Err(Problem::operation("invalid counter length, must be 1 to 128").into());
            }
            Mode::Ctr {
                counter: counter
                    .try_into()
                    .map_err(|counter| wrong("counter, it must be 16 bytes", counter))?,
                length,
            }
        }
        _ => {
            let tag_bits = optional_number(params, "tagLength")?.map_or(128, |bits| bits as u32);
            if ![96, 104, 112, 120, 128].contains(&tag_bits) {
                return Err(Problem::operation(format!("invalid tagLength {tag_bits}")).into());
            }
            let iv = bytes(params, "iv")?;
            let iv = iv.try_into().map_err(|iv: Vec<u8>| {
                Problem::not_supported(format!(
                    "only an iv of 12 bytes is supported, this one has {}",
                    iv.len()
                ))
            })?;
            Mode::Gcm {
                iv,
                additional: optional_bytes(params, "additionalData")?.unwrap_or_default(),
                tag_bits,
            }
        }
    })
}

/// How a key signs.
enum Signing {
    Hmac,
    Ecdsa(Hash),
    Rsa(Scheme),
}

fn signing<'js>(name: Name, params: Option<&Object<'js>>) -> Result<Signing, Refusal> {
    Ok(match name {
        Name::Ecdsa => Signing::Ecdsa(hash(params)?),
        Name::RsaPss => {
            let salt = number(params, "saltLength")?;
            if salt == 0 {
                let text = "a saltLength of 0 is not supported";
                return Err(Problem::implementation(text).into());
            }
            Signing::Rsa(Scheme::Pss {
                salt: salt as usize,
            })
        }
        Name::RsaPkcs1 => Signing::Rsa(Scheme::Pkcs1),
        _ => Signing::Hmac,
    })
}

fn sign(arguments: &Arguments<'_>) -> Result<Job, Refusal> {
    let (name, params) = algorithm(arguments.get(0), Operation::Sign)?;
    let key = key::from_object(arguments.get(1))?;
    check_key(&key, name, "sign", Usage::Sign)?;
    let how = signing(name, params.as_ref())?;
    let data = data(arguments.get(2))?;
    let long = name.is_rsa() || data.len() > MUCH_DATA;
    Job::new(long, move || {
        let signature = match (&key.material, how) {
            (Material::Secret(secret), Signing::Hmac) => {
                let hash = key.hash.ok_or_else(|| no_half(&key))?;
                Ok(hash.hmac(secret, &data))
            }
            (Material::EllipticPrivate(private), Signing::Ecdsa(hash)) => private.sign(hash, &data),
            (Material::RsaPrivate(private), Signing::Rsa(scheme)) => {
                let hash = key.hash.ok_or_else(|| no_half(&key))?;
                rsa_keys::sign(private, scheme, hash, &data)
            }
            _ => Err(no_half(&key)),
        };
        signature.map(Outcome::Bytes)
    })
}

fn verify(arguments: &Arguments<'_>) -> Result<Job, Refusal> {
    let (name, params) = algorithm(arguments.get(0), Operation::Verify)?;
    let key = key::from_object(arguments.get(1))?;
    check_key(&key, name, "verify", Usage::Verify)?;
    let how = signing(name, params.as_ref())?;
    let signature = data(arguments.get(2))?;
    let data = data(arguments.get(3))?;
    Job::new(data.len() > MUCH_DATA, move || {
        let verdict = match (&key.material, how) {
            (Material::Secret(secret), Signing::Hmac) => {
                let hash = key.hash.ok_or_else(|| no_half(&key))?;
                hash.hmac(secret, &data) == signature
            }
            (Material::EllipticPublic(public), Signing::Ecdsa(hash)) => {
                public.verify(hash, &data, &signature)
            }
            (Material::RsaPublic(public), Signing::Rsa(scheme)) => {
                let hash = key.hash.ok_or_else(|| no_half(&key))?;
                rsa_keys::verify(public, scheme, hash, &data, &signature)
            }
            _ => return Err(no_half(&key)),
        };
        Ok(Outcome::Verdict(verdict))
    })
}

/// Bytes of a new AES key.
fn aes_bytes<'js>(params: Option<&Object<'js>>) -> Result<usize, Refusal> {
    match number(params, "length")? {
        bits @ (128 | 192 | 256) => Ok(bits as usize / 8),
        _ => Err(Problem::operation("invalid key length, it must be 128, 192 or 256").into()),
    }
}

fn random(length: usize) -> Result<Vec<u8>, Problem> {
    let mut bytes = vec![0; length];
    getrandom::fill(&mut bytes).map_err(|e| Problem::operation(e.to_string()))?;
    Ok(bytes)
}

fn generate_key(arguments: &Arguments<'_>) -> Result<Job, Refusal> {
    let (name, params) = algorithm(arguments.get(0), Operation::GenerateKey)?;
    let params = params.as_ref();
    let extractable = truth(arguments.get(1))?;
    let usages = usages(arguments.get(2))?;
    if !name.has_pairs() {
        let hash = if name == Name::Hmac {
            Some(hash(params)?)
        } else {
            None
        };
        check_usages(&usages, key::allowed(name).1)?;
        let length = match hash {
            Some(hash) => hmac_bytes(hash, optional_number(params, "length")?)?,
            None => aes_bytes(params)?,
        };
        return Job::new(false, move || {
            let key = Key::secret(name, hash, random(length)?, extractable, usages)?;
            Ok(Outcome::Key(Box::new(key)))
        });
    }
    let (of_public, of_private) = key::allowed(name);
    check_usages(&usages, &[of_public, of_private].concat())?;
    if name.is_elliptic() {
        let curve = curve(params)?;
        let params = Params {
            name,
            hash: None,
            curve: Some(curve),
            length: None,
        };
        return Job::new(false, move || {
            let private = Private::generate(curve)?;
            let public = Material::EllipticPublic(private.public());
            let private = Material::EllipticPrivate(private);
            let pair = Key::pair(params, private, public, extractable, &usages)?;
            Ok(Outcome::Pair(Box::new(pair)))
        });
    }
    let hash = hash(params)?;
    let bits = number(params, "modulusLength")?;
    let exponent = bytes(params, "publicExponent")?;
    let params = Params {
        name,
        hash: Some(hash),
        curve: None,
        length: None,
    };
    // Seconds of search should not be what tells that nobody could use the key.
    if !usages.iter().any(|usage| of_private.contains(usage)) {
        return Err(Problem::syntax(key::NO_USAGES).into());
    }
    Job::new(true, move || {
        let private = rsa_keys::generate(bits, &exponent)?;
        let public = Material::RsaPublic(Box::new(private.to_public_key()));
        let private = Material::RsaPrivate(Box::new(private));
        let pair = Key::pair(params, private, public, extractable, &usages)?;
        Ok(Outcome::Pair(Box::new(pair)))
    })
}

/// Most bits of an HMAC key that can be asked for.
const MOST_HMAC_BITS: f64 = 8.0 * 65_536.0;

fn hmac_bytes(hash: Hash, bits: Option<f64>) -> Result<usize, Problem> {
    let Some(bits) = bits else {
        return Ok(hash.block_bytes());
    };
    if bits == 0.0 {
        return Err(Problem::operation("length can not be 0"));
    }
    if bits % 8.0 != 0.0 {
        return Err(Problem::operation(
            "currently only multiples of 8 are supported for length",
        ));
    }
    if !(1.0..=MOST_HMAC_BITS).contains(&bits) {
        return Err(Problem::operation(format!("invalid length {bits}")));
    }
    Ok(bits as usize / 8)
}

fn import_key(arguments: &Arguments<'_>) -> Result<Job, Refusal> {
    let format = arguments.get(0).map(error::to_text).unwrap_or_default();
    let format = Format::find(&format)?;
    let (name, params) = algorithm(arguments.get(2), Operation::ImportKey)?;
    let params = params.as_ref();
    let extractable = truth(arguments.get(3))?;
    let usages = usages(arguments.get(4))?;
    let has_hash = name == Name::Hmac || name.is_rsa();
    let params = Params {
        name,
        hash: if has_hash { Some(hash(params)?) } else { None },
        curve: if name.is_elliptic() {
            Some(curve(params)?)
        } else {
            None
        },
        length: if name == Name::Hmac {
            optional_number(params, "length")?
        } else {
            None
        },
    };
    let value = arguments.get(1);
    let input = if format == Format::Jwk {
        let object = value.and_then(|value| value.as_object());
        Input::Jwk(jwk(object.ok_or_else(|| {
            Problem::data("the key data is no JSON Web Key")
        })?)?)
    } else {
        Input::Bytes(value.and_then(binary::source).ok_or_else(|| {
            Problem::kind("data is neither an ArrayBuffer, nor a TypedArray nor DataView")
        })?)
    };
    // The factors of a private RSA key are checked, which takes as long as to sign.
    Job::new(name.is_rsa() && format != Format::Spki, move || {
        let key = Key::import(format, input, params, extractable, usages)?;
        Ok(Outcome::Key(Box::new(key)))
    })
}

fn jwk(object: &Object<'_>) -> Result<Jwk, Refusal> {
    let mut jwk = Jwk::default();
    for name in Jwk::MEMBERS {
        let value: Value<'_> = object.get(name)?;
        if let Some(text) = value.as_string() {
            jwk.0.push((name, engine::rust_string(text)));
        }
    }
    Ok(jwk)
}

fn export_key(arguments: &Arguments<'_>) -> Result<Job, Refusal> {
    let format = arguments.get(0).map(error::to_text).unwrap_or_default();
    let format = Format::find(&format)?;
    let key = key::from_object(arguments.get(1))?;
    Job::new(false, move || {
        Ok(match key.export(format)? {
            Output::Bytes(bytes) => Outcome::Bytes(bytes),
            Output::Jwk(jwk) => Outcome::Jwk(jwk, key.usages.clone()),
        })
    })
}

/// Something that keys and bits can be derived from.
struct Derivation {
    long: bool,
    derive: Box<dyn FnOnce() -> Result<Vec<u8>, Problem> + Send>,
}

fn pbkdf2<'js>(
    key: Arc<Key>,
    params: Option<&Object<'js>>,
    length: usize,
) -> Result<Derivation, Refusal> {
    let hash = hash(params)?;
    let salt = bytes(params, "salt")?;
    let rounds = number(params, "iterations")?;
    if rounds == 0 {
        return Err(Problem::operation("iterations can not be 0").into());
    }
    let blocks = length.div_ceil(20) as u64;
    Ok(Derivation {
        long: u64::from(rounds).saturating_mul(blocks) > MANY_ROUNDS,
        derive: Box::new(move || match &key.material {
            Material::Secret(password) => {
                let mut out = vec![0; length];
                hash.pbkdf2(password, &salt, rounds, &mut out);
                Ok(out)
            }
            _ => Err(no_half(&key)),
        }),
    })
}

/// Most bytes that can be derived at a time.
const MOST_DERIVED: f64 = 65_536.0;

fn derive_bits(arguments: &Arguments<'_>) -> Result<Job, Refusal> {
    let (name, params) = algorithm(arguments.get(0), Operation::DeriveBits)?;
    let key = key::from_object(arguments.get(1))?;
    check_key(&key, name, "deriveBits", Usage::DeriveBits)?;
    let length = match arguments.get(2).filter(|value| !value.is_null()) {
        Some(value) => Some(value.get::<Coerced<f64>>()?.0.trunc()),
        None => None,
    };
    if length == Some(0.0) {
        return Err(Problem::operation("length can not be 0").into());
    }
    if length.is_some_and(|length| length % 8.0 != 0.0) {
        let text = "currently only multiples of 8 are supported for length";
        return Err(Problem::operation(text).into());
    }
    let length = length.map(|bits| bits / 8.0);
    if length.is_some_and(|length| !(1.0..=MOST_DERIVED).contains(&length)) {
        return Err(Problem::operation("invalid length").into());
    }
    let length = length.map(|length| length as usize);
    if name == Name::Pbkdf2 {
        let length = length.ok_or_else(|| Problem::operation("length can not be null"))?;
        let Derivation { long, derive } = pbkdf2(key, params.as_ref(), length)?;
        return Job::new(long, move || derive().map(Outcome::Bytes));
    }
    let public = required(member(params.as_ref(), "public")?, "public")?;
    let public = key::from_object(Some(&public))?;
    Job::new(false, move || {
        if public.name != Name::Ecdh {
            return Err(Problem::access("the public key is not one for ECDH"));
        }
        let shared = match (&key.material, &public.material) {
            (Material::EllipticPrivate(private), Material::EllipticPublic(public)) => {
                private.agree(public)
            }
            (Material::EllipticPrivate(_), _) => Err(no_half(&public)),
            _ => Err(no_half(&key)),
        };
        let mut shared = shared?;
        match length {
            Some(length) if length > shared.len() => Err(Problem::operation(
                "length is larger than the shared secret",
            )),
            length => {
                shared.truncate(length.unwrap_or(shared.len()));
                Ok(Outcome::Bytes(shared))
            }
        }
    })
}

fn derive_key(arguments: &Arguments<'_>) -> Result<Job, Refusal> {
    let (name, params) = algorithm(arguments.get(0), Operation::DeriveKey)?;
    let key = key::from_object(arguments.get(1))?;
    check_key(&key, name, "deriveKey", Usage::DeriveKey)?;
    let (derived, derived_params) = algorithm(arguments.get(2), Operation::GenerateKey)?;
    if !derived.is_aes() {
        return Err(unsupported(derived.text(), "deriveKey").into());
    }
    let length = aes_bytes(derived_params.as_ref())?;
    let extractable = truth(arguments.get(3))?;
    let usages = usages(arguments.get(4))?;
    let Derivation { long, derive } = pbkdf2(key, params.as_ref(), length)?;
    Job::new(long, move || {
        let key = Key::secret(derived, None, derive()?, extractable, usages)?;
        Ok(Outcome::Key(Box::new(key)))
    })
}
