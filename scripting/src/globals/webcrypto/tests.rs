//! The object as scripts use it.

use crate::harness::{load_error, run};

/// Runs the body of an async function, once, with helpers at hand.
fn script(body: &str) -> Vec<String> {
    let source = format!(
        "const S = crypto.subtle;
         const hex = (b) => Array.from(new Uint8Array(b), (x) => x.toString(16).padStart(2, '0')).join('');
         const bytes = (s) => new TextEncoder().encode(s);
         const seq = (n) => Uint8Array.from({{ length: n }}, (_, i) => i);
         const tried = async (f) => {{ try {{ await f(); console.log('worked'); }} catch (e) {{ console.log(String(e)); }} }};
         export default async function () {{ {body} }}"
    );
    run(&source, 1)
}

#[test]
fn random_values_fill_every_byte_and_only_what_is_shown() {
    let lines = script(
        "const all = new Uint32Array(40); const some = all.subarray(8, 40);
         console.log(crypto.getRandomValues(some) === some, all.slice(0, 8).every((v) => v === 0), some.some((v) => v > 0xffffff));
         console.log(crypto.getRandomValues(new Uint8ClampedArray(0)).length, crypto.getRandomValues(new Int16Array(65536)).some((v) => v < 0));
         for (const bad of [new Float64Array(1), new BigInt64Array(1), [1], new ArrayBuffer(4), new DataView(new ArrayBuffer(4)), null, undefined, 'x', new Uint8Array(65537)])
           try { crypto.getRandomValues(bad); console.log('worked') } catch (e) { console.log(e.name, e.message.split(':')[0]) }
         const ids = new Set(); for (let i = 0; i < 100; i++) ids.add(crypto.randomUUID());
         console.log(ids.size, [...ids].every((id) => /^[0-9a-f]{8}-[0-9a-f]{4}-4[0-9a-f]{3}-[89ab][0-9a-f]{3}-[0-9a-f]{12}$/.test(id)));
         for (const name of ['subtle', 'randomUUID', 'getRandomValues'])
           try { crypto[name] = 1; console.log('replaced') } catch (e) { console.log(e.name) }
         console.log(crypto === crypto, crypto.subtle === S, Object.keys(crypto).sort().join(), typeof crypto.CryptoKey);
         globalThis.crypto = 7; console.log(crypto);",
    );
    let mismatch = "GoError TypeMismatchError";
    let mut expected = vec!["true true true", "0 true"];
    expected.extend([mismatch; 8]);
    expected.extend([
        "GoError QuotaExceededError",
        "100 true",
        "TypeError",
        "TypeError",
        "TypeError",
        "true true CryptoKey,getRandomValues,randomUUID,subtle object",
        "7",
    ]);
    assert_eq!(lines, expected);
}

#[test]
fn digests_see_what_a_view_shows_when_they_are_called() {
    let lines = script(
        "const abc = bytes('xabcx').subarray(1, 4);
         const before = S.digest('SHA-1', abc); abc.fill(0);
         console.log(hex(await before), before instanceof Promise);
         console.log(hex(await S.digest({ name: 'sha-256' }, new DataView(bytes('xabcx').buffer, 1, 3))));
         for (const [a, d] of [['MD5', abc], [{}, abc], [undefined, abc], ['SHA-1', 'text'], ['SHA-1']]) await tried(() => S.digest(a, d));",
    );
    assert_eq!(
        lines,
        [
            "a9993e364706816aba3e25717850c26c9cd0d89d true",
            "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad",
            "NotSupportedError: algorithm \"MD5\" doesn't support (in implementation) operation \"digest\"",
            "TypeError: the algorithm is neither a name nor an object with one",
            "TypeError: the algorithm is neither a name nor an object with one",
            "TypeError: data must be an ArrayBuffer, TypedArray, or DataView",
            "TypeError: data must be an ArrayBuffer, TypedArray, or DataView",
        ]
    );
}

#[test]
fn promises_settle_in_tasks_of_their_own_in_the_order_of_their_calls() {
    let lines = script(
        "const order = []; const note = (what) => () => order.push(what);
         S.digest('SHA-1', seq(1)).then(note('first'));
         S.digest('MD5', seq(1)).catch(note('second'));
         S.digest('SHA-1', seq(1)).then(note('third'));
         Promise.resolve().then(note('microtask'));
         await S.digest('SHA-1', seq(1));
         console.log(order.join());
         S.digest('SHA-1', seq(1)).then(() => console.log('not awaited'));",
    );
    assert_eq!(lines, ["microtask,first,second,third", "not awaited"]);
}

#[test]
fn an_iteration_ends_with_its_operations_whatever_happens() {
    let lines = run(
        "export default async function () {
           crypto.subtle.digest('SHA-1', new Uint8Array(1)).then(() => { console.log('ended', __ITER); if (__ITER === 0) throw 1 });
           if (__ITER === 0) throw new Error('early');
           if (__ITER === 1) await crypto.subtle.digest('nope', new Uint8Array(1));
         }",
        3,
    );
    assert_eq!(lines[0], "ended 0");
    assert!(
        lines[1].contains("Uncaught (in promise) Error: early"),
        "{lines:?}"
    );
    assert_eq!(
        lines[2..],
        [
            "ended 1",
            "Error: Uncaught (in promise) NotSupportedError: algorithm \"nope\" doesn't support (in implementation) operation \"digest\"",
            "ended 2",
        ]
    );
}

#[test]
fn it_works_at_the_top_level() {
    let lines = run(
        "const key = await crypto.subtle.generateKey({ name: 'RSA-PSS', modulusLength: 1024, publicExponent: new Uint8Array([1, 0, 1]), hash: 'SHA-256' }, false, ['sign', 'verify']);
         export default async function () { console.log(key.publicKey.type, (await crypto.subtle.sign({ name: 'RSA-PSS', saltLength: 8 }, key.privateKey, new Uint8Array(1))).byteLength); }",
        1,
    );
    assert_eq!(lines, ["public 128"]);
    assert!(
        load_error("await crypto.subtle.digest('no', new Uint8Array(1)); export default () => 1")
            .contains("NotSupportedError")
    );
}

#[test]
fn keys_show_what_they_are() {
    let lines = script(
        "const show = (k) => console.log(k.type, k.extractable, JSON.stringify(k.algorithm), k.usages.join(), Object.keys(k).join());
         show(await S.generateKey({ name: 'aes-gcm', length: 192 }, false, ['decrypt', 'encrypt', 'decrypt']));
         show(await S.generateKey({ name: 'HMAC', hash: { name: 'sha-384' } }, true, ['sign']));
         show((await S.generateKey({ name: 'ECDH', namedCurve: 'P-384' }, false, ['deriveBits'])).publicKey);
         show((await S.generateKey({ name: 'RSA-OAEP', modulusLength: 1024, publicExponent: new Uint8Array([1, 0, 1]), hash: 'SHA-1' }, false, ['encrypt', 'decrypt'])).privateKey);
         const k = await S.importKey('raw', bytes('pw'), 'PBKDF2', false, ['deriveBits']); show(k);
         try { k.type = 'x'; console.log('changed') } catch (e) { console.log(e.name) }",
    );
    assert_eq!(
        lines,
        [
            "secret false {\"name\":\"AES-GCM\",\"length\":192} decrypt,encrypt type,extractable,algorithm,usages",
            "secret true {\"name\":\"HMAC\",\"length\":1024,\"hash\":{\"name\":\"SHA-384\"}} sign type,extractable,algorithm,usages",
            "public true {\"name\":\"ECDH\",\"namedCurve\":\"P-384\"}  type,extractable,algorithm,usages",
            "private false {\"name\":\"RSA-OAEP\",\"modulusLength\":1024,\"publicExponent\":{\"0\":1,\"1\":0,\"2\":1},\"hash\":{\"name\":\"SHA-1\"}} decrypt type,extractable,algorithm,usages",
            "secret false {\"name\":\"PBKDF2\"} deriveBits type,extractable,algorithm,usages",
            "TypeError",
        ]
    );
}

#[test]
fn secret_keys_encrypt_sign_and_travel() {
    let lines = script(
        "for (const p of [{ name: 'AES-CBC', iv: seq(16) }, { name: 'AES-CTR', counter: seq(16), length: 1 }, { name: 'AES-GCM', iv: seq(12), tagLength: 104 }]) {
           const k = await S.generateKey({ name: p.name, length: 256 }, true, ['encrypt', 'decrypt']);
           const jwk = await S.exportKey('jwk', k);
           const again = await S.importKey('jwk', jwk, p.name, false, ['decrypt']);
           const sealed = await S.encrypt(p, k, bytes('some text'));
           console.log(jwk.kty, jwk.alg, jwk.ext, jwk.key_ops.join(), sealed.byteLength, new TextDecoder().decode(await S.decrypt(p, again, sealed)));
           await tried(() => S.encrypt(p, again, seq(3)));
           await tried(() => S.exportKey('raw', again));
         }
         const k = await S.importKey('raw', bytes('Jefe'), { name: 'HMAC', hash: 'SHA-256', length: 32 }, true, ['sign', 'verify']);
         const s = await S.sign('HMAC', k, bytes('what do ya want for nothing?'));
         console.log(hex(s), await S.verify('hmac', k, s, bytes('what do ya want for nothing?')), await S.verify('HMAC', k, s.slice(1), seq(1)), JSON.stringify(await S.exportKey('jwk', k)));",
    );
    let denied = [
        "InvalidAccessError: the key's usages do not include encrypt",
        "InvalidAccessError: the key is not extractable",
    ];
    assert_eq!(lines[0], "oct A256CBC true encrypt,decrypt 16 some text");
    assert_eq!(lines[1..3], denied);
    assert_eq!(lines[3], "oct A256CTR true encrypt,decrypt 9 some text");
    assert_eq!(lines[6], "oct A256GCM true encrypt,decrypt 22 some text");
    assert_eq!(
        lines[9],
        "5bdcc146bf60754e6a042426089575c75a003f089d2739839dec58b964ec3843 true false {\"kty\":\"oct\",\"k\":\"SmVmZQ\",\"alg\":\"HS256\",\"ext\":true,\"key_ops\":[\"sign\",\"verify\"]}"
    );
}

#[test]
fn pairs_sign_agree_and_travel() {
    let lines = script(
        "for (const namedCurve of ['P-256', 'P-521']) {
           const alg = { name: 'ECDSA', namedCurve }, how = { name: 'ECDSA', hash: 'SHA-512' };
           const { privateKey, publicKey } = await S.generateKey(alg, true, ['sign', 'verify']);
           const jwk = await S.exportKey('jwk', privateKey);
           const again = await S.importKey('jwk', jwk, alg, false, ['sign']);
           const pub = await S.importKey('raw', await S.exportKey('raw', publicKey), alg, true, ['verify']);
           const s = await S.sign(how, again, seq(9));
           console.log(jwk.kty, jwk.crv, jwk.d.length, await S.verify(how, pub, s, seq(9)), await S.verify(how, pub, s, seq(8)), hex(await S.sign(how, again, seq(9))) !== hex(s));
         }
         const dh = { name: 'ECDH', namedCurve: 'P-256' };
         const a = await S.generateKey(dh, false, ['deriveBits']), b = await S.generateKey(dh, true, ['deriveKey', 'deriveBits']);
         const bits = (k, p, n) => S.deriveBits({ name: 'ECDH', public: p.publicKey }, k.privateKey, n);
         console.log(hex(await bits(a, b, 256)) === hex(await bits(b, a, null)), (await bits(a, b, 128)).byteLength, a.privateKey.usages.join(), b.publicKey.usages.length);
         const pkcs8 = await S.exportKey('pkcs8', b.privateKey);
         console.log((await S.importKey('pkcs8', pkcs8, dh, true, ['deriveBits'])).type);
         for (const f of [() => bits(a, b, 0), () => bits(a, b, 12), () => bits(a, b, 512), () => bits({ privateKey: a.publicKey }, b, 128),
             () => S.deriveBits({ name: 'ECDH', public: b.privateKey }, a.privateKey, 8), () => S.deriveKey({ name: 'ECDH', public: a.publicKey }, b.privateKey, { name: 'AES-CBC', length: 128 }, true, ['encrypt']),
             () => S.importKey('spki', pkcs8, dh, true, []), () => S.exportKey('raw', b.privateKey), () => S.exportKey('pkcs8', a.privateKey)])
           await tried(f);",
    );
    assert_eq!(
        lines,
        [
            "EC P-256 43 true false true",
            "EC P-521 88 true false true",
            "true 16 deriveBits 0",
            "private",
            "OperationError: length can not be 0",
            "OperationError: currently only multiples of 8 are supported for length",
            "OperationError: length is larger than the shared secret",
            "InvalidAccessError: the key's usages do not include deriveBits",
            "InvalidAccessError: a private key cannot do that",
            "NotSupportedError: algorithm \"ECDH\" doesn't support (in implementation) operation \"deriveKey\"",
            "DataError: the key is not valid for its curve",
            "InvalidAccessError: raw is no format of a private key",
            "InvalidAccessError: the key is not extractable",
        ]
    );
}

#[test]
fn rsa_keys_do_what_they_are_for() {
    let lines = script(
        "const make = (name, usages, hash = 'SHA-256') => S.generateKey({ name, modulusLength: 1024, publicExponent: new Uint8Array([1, 0, 1]), hash }, true, usages);
         const sign = await make('RSASSA-PKCS1-v1_5', ['sign', 'verify']);
         const s = await S.sign('RSASSA-PKCS1-v1_5', sign.privateKey, seq(5));
         console.log(await S.verify('RSASSA-PKCS1-v1_5', sign.publicKey, s, seq(5)), await S.verify('RSASSA-PKCS1-v1_5', sign.publicKey, s, seq(6)));
         const pss = await S.importKey('pkcs8', await S.exportKey('pkcs8', sign.privateKey), { name: 'RSA-PSS', hash: 'SHA-1' }, true, ['sign']);
         const pub = await S.importKey('jwk', await S.exportKey('jwk', sign.publicKey), { name: 'RSA-PSS', hash: 'SHA-1' }, true, ['verify']);
         const p = { name: 'RSA-PSS', saltLength: 20 };
         console.log(await S.verify(p, pub, await S.sign(p, pss, seq(5)), seq(5)), await S.verify({ name: 'RSA-PSS', saltLength: 8 }, pub, await S.sign(p, pss, seq(5)), seq(5)));
         const box = await make('RSA-OAEP', ['encrypt', 'decrypt'], 'SHA-1'); const label = bytes('L');
         const sealed = await S.encrypt({ name: 'RSA-OAEP', label }, box.publicKey, bytes('text'));
         console.log(new TextDecoder().decode(await S.decrypt({ name: 'RSA-OAEP', label }, box.privateKey, sealed)));
         const jwk = await S.exportKey('jwk', box.privateKey);
         console.log(Object.keys(jwk).join(), jwk.alg, (await S.importKey('jwk', jwk, { name: 'RSA-OAEP', hash: 'SHA-1' }, true, ['decrypt'])).type);
         for (const f of [() => S.decrypt('RSA-OAEP', box.privateKey, sealed), () => S.encrypt('RSA-OAEP', box.publicKey, seq(100)), () => S.sign({ name: 'RSA-PSS', saltLength: 0 }, pss, seq(1)),
             () => make('RSA-PSS', ['verify']), () => make('RSA-PSS', ['encrypt']), () => S.exportKey('raw', box.publicKey), () => S.exportKey('spki', box.privateKey), () => S.importKey('raw', seq(5), { name: 'RSA-PSS', hash: 'SHA-1' }, true, ['verify']),
             () => S.importKey('spki', seq(50), { name: 'RSA-PSS', hash: 'SHA-1' }, true, ['verify']), () => S.generateKey({ name: 'RSA-PSS', modulusLength: 100, publicExponent: new Uint8Array([1, 0, 1]), hash: 'SHA-256' }, true, ['sign'])])
           try { await f(); console.log('worked') } catch (e) { console.log(e.name) }",
    );
    assert_eq!(
        lines,
        [
            "true false",
            "true false",
            "text",
            "kty,alg,n,e,d,p,q,dp,dq,qi,ext,key_ops RSA-OAEP private",
            "OperationError",
            "OperationError",
            "ImplementationError",
            "SyntaxError",
            "SyntaxError",
            "ImplementationError",
            "InvalidAccessError",
            "ImplementationError",
            "DataError",
            "OperationError",
        ]
    );
}

/// The key of RFC 6070's fourth vector, as bits and as a key.
#[test]
fn passwords_become_bits_and_keys() {
    let lines = script(
        "const k = await S.importKey('raw', bytes('password'), 'PBKDF2', false, ['deriveBits', 'deriveKey']);
         const p = { name: 'PBKDF2', hash: 'SHA-1', salt: bytes('salt'), iterations: 4096 };
         console.log(hex(await S.deriveBits(p, k, 160)));
         const aes = await S.deriveKey(p, k, { name: 'AES-CBC', length: 128 }, true, ['encrypt']);
         console.log(aes.type, aes.algorithm.name, aes.usages.join(), hex(await S.exportKey('raw', aes)));
         for (const f of [() => S.importKey('raw', bytes('x'), 'PBKDF2', true, ['deriveBits']), () => S.importKey('jwk', { kty: 'oct', k: 'AA' }, 'PBKDF2', false, ['deriveBits']), () => S.importKey('raw', bytes('x'), 'PBKDF2', false, ['sign']),
             () => S.deriveBits({ ...p, iterations: 0 }, k, 160), () => S.deriveBits(p, k, null), () => S.deriveBits(p, k, 1e12), () => S.deriveKey(p, k, { name: 'HMAC', hash: 'SHA-1' }, true, ['sign']), () => S.deriveKey(p, k, { name: 'AES-CBC', length: 100 }, true, ['encrypt']),
             () => S.deriveKey(p, k, { name: 'AES-CBC', length: 128 }, true, []), () => S.generateKey('PBKDF2', false, ['deriveBits']), () => S.exportKey('raw', k)])
           try { await f(); console.log('worked') } catch (e) { console.log(e.name) }",
    );
    assert_eq!(
        lines,
        [
            "4b007901b765489abead49d926f721d065a429c1",
            "secret AES-CBC encrypt 4b007901b765489abead49d926f721d0",
            "SyntaxError",
            "NotSupportedError",
            "SyntaxError",
            "OperationError",
            "OperationError",
            "OperationError",
            "NotSupportedError",
            "OperationError",
            "SyntaxError",
            "NotSupportedError",
            "InvalidAccessError",
        ]
    );
}

#[test]
fn what_makes_no_sense_is_refused_by_name() {
    let lines = script(
        "const gcm = await S.generateKey({ name: 'AES-GCM', length: 128 }, true, ['encrypt', 'decrypt']);
         const cbc = await S.generateKey({ name: 'AES-CBC', length: 128 }, true, ['encrypt', 'decrypt']);
         const fake = { type: 'secret', algorithm: { name: 'AES-CBC' }, usages: ['encrypt'] };
         for (const f of [
             () => S.encrypt({ name: 'AES-CBC', iv: seq(16) }, gcm, seq(1)), () => S.encrypt({ name: 'AES-CBC', iv: seq(16) }, fake, seq(1)), () => S.encrypt({ name: 'AES-CBC' }, cbc, seq(1)),
             () => S.encrypt({ name: 'AES-CBC', iv: seq(16) }, cbc, seq(0)), () => S.encrypt({ name: 'AES-CBC', iv: seq(15) }, cbc, seq(1)), () => S.encrypt({ name: 'AES-GCM', iv: seq(16) }, gcm, seq(1)),
             () => S.encrypt({ name: 'AES-GCM', iv: seq(12), tagLength: 33 }, gcm, seq(1)), () => S.importKey('raw', 'text', 'AES-CBC', true, ['encrypt']), () => S.importKey('raw', seq(15), 'AES-CBC', true, ['encrypt']),
             () => S.importKey('raw', seq(16), 'AES-CBC', true, []), () => S.importKey('raw', seq(16), 'AES-CBC', true, ['nonsense']), () => S.importKey('odd', seq(16), 'AES-CBC', true, ['encrypt']),
             () => S.importKey('jwk', { kty: 'oct', k: 'AAAAAAAAAAAAAAAAAAAAAA', alg: 'A128GCM' }, 'AES-CBC', true, ['encrypt']), () => S.importKey('jwk', { kty: 'oct', k: '***' }, 'AES-CBC', true, ['encrypt']),
             () => S.importKey('raw', seq(33), { name: 'ECDSA', namedCurve: 'P-257' }, true, ['verify']), () => S.generateKey({ name: 'HMAC', hash: 'SHA-1', length: 12 }, true, ['sign']), () => S.generateKey('AES-CBC', true, ['encrypt']),
             () => S.wrapKey('raw', gcm, cbc, 'AES-CBC'), () => S.encrypt({ get name() { throw new RangeError('mine') } }, gcm, seq(1)), () => S.encrypt()])
           await tried(f);",
    );
    assert_eq!(
        lines,
        [
            "InvalidAccessError: encrypt's algorithm name does not match key algorithm name",
            "InvalidAccessError: the key is not a valid CryptoKey",
            "TypeError: the algorithm's parameter iv is missing",
            "OperationError: the data cannot be empty",
            "OperationError: invalid iv length, it must be 16 bytes: 15 bytes",
            "NotSupportedError: only an iv of 12 bytes is supported, this one has 16",
            "OperationError: invalid tagLength 33",
            "TypeError: data is neither an ArrayBuffer, nor a TypedArray nor DataView",
            "DataError: invalid key length 15 bytes",
            "SyntaxError: usages cannot not be empty for a secret or private CryptoKey",
            "SyntaxError: invalid key usage: nonsense",
            "ImplementationError: unsupported format odd",
            "DataError: \"alg\" of the JSON Web Key must be \"A128CBC\", not \"A128GCM\"",
            "DataError: \"k\" of the JSON Web Key is not base64url",
            "NotSupportedError: the elliptic curve \"P-257\" is not supported",
            "OperationError: currently only multiples of 8 are supported for length",
            "TypeError: the algorithm's parameter length is missing",
            "GoError: not implemented",
            "RangeError: mine",
            "TypeError: the algorithm is neither a name nor an object with one",
        ]
    );
}
