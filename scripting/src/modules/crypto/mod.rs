//! `k6/crypto`: hashes, HMACs, random bytes.

pub(crate) mod hash;
pub(crate) mod x509;

use std::{cell::RefCell, rc::Rc};

use base64::{
    Engine as _,
    prelude::{BASE64_STANDARD, BASE64_URL_SAFE, BASE64_URL_SAFE_NO_PAD},
};
use rquickjs::{
    ArrayBuffer, Coerced, Ctx, Function, IntoJs, Object, Result as JsResult, Value,
    function::Opt,
    module::{Declarations, Exports, ModuleDef},
};

use self::hash::{ALGORITHMS, Algorithm, Running};
use super::{export_all, string_argument};
use crate::{binary, engine, error};

/// What is there beside a function for each algorithm.
const NAMES: &[&str] = &[
    "createHMAC",
    "createHash",
    "hexEncode",
    "hmac",
    "randomBytes",
];

/// What `randomBytes` gives at most: as much as an array can hold.
const MOST_BYTES: f64 = i32::MAX as f64;

/// The module `k6/crypto`.
pub(crate) struct Crypto;

impl ModuleDef for Crypto {
    fn declare(decl: &Declarations<'_>) -> JsResult<()> {
        for name in NAMES {
            decl.declare(*name)?;
        }
        for algorithm in ALGORITHMS {
            decl.declare(algorithm.name)?;
        }
        decl.declare("default")?;
        Ok(())
    }

    fn evaluate<'js>(ctx: &Ctx<'js>, exports: &Exports<'js>) -> JsResult<()> {
        let module = Object::new(ctx.clone())?;
        for algorithm in ALGORITHMS {
            let digest = |ctx: Ctx<'js>, data: Opt<Value<'js>>, encoding: Opt<Value<'js>>| {
                digest(&ctx, algorithm, data.0.as_ref(), encoding.0)
            };
            let digest = Function::new(ctx.clone(), digest)?.with_name(algorithm.name)?;
            module.set(algorithm.name, digest.clone())?;
            exports.export(algorithm.name, digest)?;
        }
        let function = Function::new(ctx.clone(), create_hmac)?;
        module.set("createHMAC", function.with_name("createHMAC")?)?;
        let function = Function::new(ctx.clone(), create_hash)?;
        module.set("createHash", function.with_name("createHash")?)?;
        let function = Function::new(ctx.clone(), hex_encode)?;
        module.set("hexEncode", function.with_name("hexEncode")?)?;
        let function = Function::new(ctx.clone(), hmac)?;
        module.set("hmac", function.with_name("hmac")?)?;
        let function = Function::new(ctx.clone(), random_bytes)?;
        module.set("randomBytes", function.with_name("randomBytes")?)?;
        export_all(exports, &module, NAMES)
    }
}

fn digest<'js>(
    ctx: &Ctx<'js>,
    algorithm: &Algorithm,
    data: Option<&Value<'js>>,
    encoding: Option<Value<'js>>,
) -> JsResult<Value<'js>> {
    let data = binary::data(data).map_err(|text| {
        let text = format!("{} failed: {text}", algorithm.name);
        error::throw(ctx, &text)
    })?;
    let mut running = (algorithm.start)();
    running.update(&data);
    output(ctx, running.value(), encoding)
}

fn create_hash<'js>(ctx: Ctx<'js>, name: Opt<Value<'js>>) -> JsResult<Object<'js>> {
    let algorithm = find(&ctx, name.0)?;
    hasher(&ctx, (algorithm.start)())
}

fn create_hmac<'js>(
    ctx: Ctx<'js>,
    name: Opt<Value<'js>>,
    key: Opt<Value<'js>>,
) -> JsResult<Object<'js>> {
    let running = start_hmac(&ctx, name.0, key.0.as_ref())?;
    hasher(&ctx, running)
}

fn hmac<'js>(
    ctx: Ctx<'js>,
    name: Opt<Value<'js>>,
    key: Opt<Value<'js>>,
    data: Opt<Value<'js>>,
    encoding: Opt<Value<'js>>,
) -> JsResult<Value<'js>> {
    let mut running = start_hmac(&ctx, name.0, key.0.as_ref())?;
    running.update(&bytes(&ctx, data.0.as_ref())?);
    output(&ctx, running.value(), encoding.0)
}

fn hex_encode<'js>(ctx: Ctx<'js>, data: Opt<Value<'js>>) -> JsResult<String> {
    Ok(binary::hex(&bytes(&ctx, data.0.as_ref())?))
}

fn random_bytes<'js>(ctx: Ctx<'js>, size: Opt<Coerced<f64>>) -> JsResult<ArrayBuffer<'js>> {
    let size = size.0.map_or(0.0, |size| size.0).trunc();
    if !(1.0..=MOST_BYTES).contains(&size) {
        return Err(error::throw(&ctx, "invalid size"));
    }
    let mut bytes = vec![0u8; size as usize];
    getrandom::fill(&mut bytes).map_err(|problem| error::throw(&ctx, &problem.to_string()))?;
    engine::array_buffer(&ctx, bytes)
}

fn find<'js>(ctx: &Ctx<'js>, name: Option<Value<'js>>) -> JsResult<&'static Algorithm> {
    let name = string_argument(name);
    hash::find(&name).ok_or_else(|| error::throw(ctx, &format!("invalid algorithm: {name}")))
}

fn start_hmac<'js>(
    ctx: &Ctx<'js>,
    name: Option<Value<'js>>,
    key: Option<&Value<'js>>,
) -> JsResult<Box<dyn Running>> {
    let key = bytes(ctx, key)?;
    Ok((find(ctx, name)?.keyed)(&key))
}

/// The object that takes data piece by piece.
fn hasher<'js>(ctx: &Ctx<'js>, running: Box<dyn Running>) -> JsResult<Object<'js>> {
    let running = Rc::new(RefCell::new(running));
    let object = Object::new(ctx.clone())?;
    let state = running.clone();
    let update = move |ctx: Ctx<'js>, data: Opt<Value<'js>>| {
        let data = bytes(&ctx, data.0.as_ref())?;
        state.borrow_mut().update(&data);
        Ok::<_, rquickjs::Error>(())
    };
    let update = Function::new(ctx.clone(), update)?;
    object.set("update", update.with_name("update")?)?;
    let digest = move |ctx: Ctx<'js>, encoding: Opt<Value<'js>>| {
        let value = running.borrow().value();
        output(&ctx, value, encoding.0)
    };
    let digest = Function::new(ctx.clone(), digest)?;
    object.set("digest", digest.with_name("digest")?)?;
    Ok(object)
}

/// A hash in the form that the script wants.
fn output<'js>(
    ctx: &Ctx<'js>,
    hash: Vec<u8>,
    encoding: Option<Value<'js>>,
) -> JsResult<Value<'js>> {
    let encoding = string_argument(encoding);
    let text = match encoding.as_str() {
        "hex" => binary::hex(&hash),
        "base64" => BASE64_STANDARD.encode(hash),
        "base64url" => BASE64_URL_SAFE.encode(hash),
        "base64rawurl" => BASE64_URL_SAFE_NO_PAD.encode(hash),
        "binary" => return engine::array_buffer(ctx, hash)?.into_js(ctx),
        _ => {
            let text = format!("invalid output encoding: {encoding}");
            return Err(error::throw(ctx, &text));
        }
    };
    text.into_js(ctx)
}

fn bytes<'js>(ctx: &Ctx<'js>, value: Option<&Value<'js>>) -> JsResult<Vec<u8>> {
    binary::data(value).map_err(|text| error::throw(ctx, &text))
}

#[cfg(test)]
mod tests {
    use super::hash::{ALGORITHMS, find};
    use crate::{binary::hex, harness::run};

    /// The digests of "abc" in the publications that define them: RFC 1320, RFC 1321, FIPS 180-4,
    /// and the page of RIPEMD's authors.
    #[test]
    fn published_digests() {
        for (name, digest) in [
            ("md4", "a448017aaf21d8525fc10ae87aa6729d"),
            ("md5", "900150983cd24fb0d6963f7d28e17f72"),
            ("ripemd160", "8eb208f7e05d987a9b044a8e98c6b087f15a0bfc"),
            ("sha1", "a9993e364706816aba3e25717850c26c9cd0d89d"),
            (
                "sha256",
                "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad",
            ),
            (
                "sha384",
                "cb00753f45a35e8bb5a03d699ac65007272c32ab0eded1631a8b605a43ff5bed8086072ba1e7cc2358baeca134c825a7",
            ),
            (
                "sha512",
                "ddaf35a193617abacc417349ae20413112e6fa4e89a97ea20a9eeee64b55d39a2192992a274fc1a836ba3c23a3feebbd454d4423643ce80e2a9ac94fa54ca49f",
            ),
            (
                "sha512_224",
                "4634270f707b6a54daae7530460842e20e37ed265ceee9a43e8924aa",
            ),
            (
                "sha512_256",
                "53048e2681941ef99b2e29b76b4c7dabe4c2d0c634fc6d46e0e2f13107e7af23",
            ),
        ] {
            let mut running = (find(name).unwrap().start)();
            running.update(b"a");
            let _ = running.value();
            running.update(b"bc");
            assert_eq!(hex(&running.value()), digest, "{name}");
        }
        assert_eq!(ALGORITHMS.len(), 9);
    }

    /// Test case 2 of RFC 2202 and RFC 4231, and a key longer than a block (case 6).
    #[test]
    fn published_hmacs() {
        let long = [0xaa; 131];
        let question = b"what do ya want for nothing?";
        let test = b"Test Using Larger Than Block-Size Key - Hash Key First";
        for (name, key, data, value) in [
            (
                "md5",
                &b"Jefe"[..],
                &question[..],
                "750c783e6ab0b503eaa86e310a5db738",
            ),
            (
                "sha1",
                b"Jefe",
                question,
                "effcdf6ae5eb2fa2d27416d5f184df9c259a7c79",
            ),
            (
                "sha256",
                b"Jefe",
                question,
                "5bdcc146bf60754e6a042426089575c75a003f089d2739839dec58b964ec3843",
            ),
            (
                "sha256",
                &long,
                test,
                "60e431591ee0b67f0d8a26aacbf5b77f8e0bc6213728c5140546040f0ee37f54",
            ),
        ] {
            let mut running = (find(name).unwrap().keyed)(key);
            running.update(data);
            assert_eq!(hex(&running.value()), value, "{name}");
        }
    }

    #[test]
    fn scripts_hash_in_one_go_and_piece_by_piece() {
        let lines = run(
            "import crypto, { md5, hmac, createHash, createHMAC, randomBytes, hexEncode } from 'k6/crypto';
             export default function () {
               const h = createHash('md5'); const { update, digest } = h;
               update('a'); update(new Uint8Array([0, 98, 99]).subarray(1)); console.log(digest('hex'), h.digest('base64rawurl'), md5('abc', 'binary').byteLength);
               const m = createHMAC('sha1', 'Jefe'); m.update('what do ya want '); m.update('for nothing?');
               console.log(m.digest('hex'), hmac('sha1', 'Jefe', 'what do ya want for nothing?', 'base64url'));
               console.log(hexEncode('az'), randomBytes('8').byteLength, hexEncode(randomBytes(16)) === hexEncode(randomBytes(16)));
               for (const f of [() => createHash('SHA1'), () => hmac('sha3', 'k', 'd', 'hex'), () => md5('x'), () => h.digest('HEX'),
                   () => crypto.sha256(5, 'hex'), () => h.update({}), () => hmac('md5', 'k', [1], 'hex'), () => randomBytes(-1), () => randomBytes(NaN), () => randomBytes(1e18)])
                 try { f(); console.log('worked') } catch (e) { console.log(String(e)) }
             }",
            1,
        );
        assert_eq!(
            lines,
            [
                "900150983cd24fb0d6963f7d28e17f72 kAFQmDzST7DWlj99KOF_cg 16",
                "effcdf6ae5eb2fa2d27416d5f184df9c259a7c79 7_zfauXrL6LSdBbV8YTfnCWafHk=",
                "617a 8 false",
                "GoError: invalid algorithm: SHA1",
                "GoError: invalid algorithm: sha3",
                "GoError: invalid output encoding: ",
                "GoError: invalid output encoding: HEX",
                "GoError: sha256 failed: invalid type int64, expected string, []byte or ArrayBuffer",
                "GoError: invalid type map[string]interface {}, expected string, []byte or ArrayBuffer",
                "GoError: invalid type []interface {}, expected string, []byte or ArrayBuffer",
                "GoError: invalid size",
                "GoError: invalid size",
                "GoError: invalid size",
            ]
        );
    }
}
