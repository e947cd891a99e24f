//! `k6/encoding`: base64 in four variants.

use base64::{
    Engine as _,
    prelude::{BASE64_STANDARD, BASE64_STANDARD_NO_PAD, BASE64_URL_SAFE, BASE64_URL_SAFE_NO_PAD},
};
use rquickjs::{
    Ctx, Function, IntoJs, Object, Result as JsResult, Value,
    function::Opt,
    module::{Declarations, Exports, ModuleDef},
};

use super::{export_all, string_argument};
use crate::{binary, engine, error};

const NAMES: &[&str] = &["b64decode", "b64encode"];

/// The module `k6/encoding`.
pub(crate) struct Encoding;

impl ModuleDef for Encoding {
    fn declare(decl: &Declarations<'_>) -> JsResult<()> {
        for name in NAMES {
            decl.declare(*name)?;
        }
        decl.declare("default")?;
        Ok(())
    }

    fn evaluate<'js>(ctx: &Ctx<'js>, exports: &Exports<'js>) -> JsResult<()> {
        let module = Object::new(ctx.clone())?;
        let function = Function::new(ctx.clone(), b64decode)?;
        module.set("b64decode", function.with_name("b64decode")?)?;
        let function = Function::new(ctx.clone(), b64encode)?;
        module.set("b64encode", function.with_name("b64encode")?)?;
        export_all(exports, &module, NAMES)
    }
}

/// An alphabet with its padding.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Variant {
    url: bool,
    padded: bool,
}

impl Variant {
    /// The variant of that name; any other name means the standard one.
    fn named(name: &str) -> Self {
        let (url, padded) = match name {
            "rawstd" => (false, false),
            "url" => (true, true),
            "rawurl" => (true, false),
            _ => (false, true),
        };
        Self { url, padded }
    }
}

fn b64encode<'js>(
    ctx: Ctx<'js>,
    data: Opt<Value<'js>>,
    variant: Opt<Value<'js>>,
) -> JsResult<String> {
    let data = binary::data(data.0.as_ref()).map_err(|text| error::throw(&ctx, &text))?;
    Ok(encode(&data, Variant::named(&string_argument(variant.0))))
}

fn b64decode<'js>(
    ctx: Ctx<'js>,
    text: Opt<Value<'js>>,
    variant: Opt<Value<'js>>,
    format: Opt<Value<'js>>,
) -> JsResult<Value<'js>> {
    let text = string_argument(text.0);
    let variant = Variant::named(&string_argument(variant.0));
    let bytes = decode(text.as_bytes(), variant).map_err(|at| {
        let text = format!("illegal base64 data at input byte {at}");
        error::throw(&ctx, &text)
    })?;
    if string_argument(format.0) == "s" {
        engine::js_string(&ctx, &bytes)?.into_js(&ctx)
    } else {
        engine::array_buffer(&ctx, bytes)?.into_js(&ctx)
    }
}

fn encode(data: &[u8], variant: Variant) -> String {
    match (variant.url, variant.padded) {
        (false, true) => BASE64_STANDARD.encode(data),
        (false, false) => BASE64_STANDARD_NO_PAD.encode(data),
        (true, true) => BASE64_URL_SAFE.encode(data),
        (true, false) => BASE64_URL_SAFE_NO_PAD.encode(data),
    }
}

/// Decodes; line ends are skipped. The error is where in the input it is, as Go counts it, which
/// is why this is not the library's decoder: that one knows neither.
fn decode(input: &[u8], variant: Variant) -> Result<Vec<u8>, usize> {
    let mut out = Vec::with_capacity(input.len() / 4 * 3 + 3);
    let mut at = 0;
    loop {
        // Four characters at a time: the last group may have fewer.
        let mut group = [0u8; 4];
        let mut count = 0;
        let mut last = false;
        while count < 4 {
            let Some(&byte) = input.get(at) else {
                if count == 0 {
                    return Ok(out);
                }
                if count == 1 || variant.padded {
                    return Err(at - count);
                }
                last = true;
                break;
            };
            at += 1;
            if matches!(byte, b'\r' | b'\n') {
                continue;
            }
            if let Some(six) = value_of(byte, variant) {
                group[count] = six;
                count += 1;
                continue;
            }
            if byte != b'=' || !variant.padded || count < 2 {
                return Err(at - 1);
            }
            at = skip_lines(input, at);
            if count == 2 {
                match input.get(at) {
                    None => return Err(input.len()),
                    Some(b'=') => at = skip_lines(input, at + 1),
                    Some(_) => return Err(at - 1),
                }
            }
            if at < input.len() {
                return Err(at);
            }
            last = true;
            break;
        }
        let [a, b, c, d] = group.map(u32::from);
        let bits = a << 18 | b << 12 | c << 6 | d;
        out.extend_from_slice(&bits.to_be_bytes()[1..count]);
        if last {
            return Ok(out);
        }
    }
}

fn skip_lines(input: &[u8], mut at: usize) -> usize {
    while matches!(input.get(at), Some(b'\r' | b'\n')) {
        at += 1;
    }
    at
}

fn value_of(byte: u8, variant: Variant) -> Option<u8> {
    Some(match byte {
        b'A'..=b'Z' => byte - b'A',
        b'a'..=b'z' => byte - b'a' + 26,
        b'0'..=b'9' => byte - b'0' + 52,
        b'+' if !variant.url => 62,
        b'/' if !variant.url => 63,
        b'-' if variant.url => 62,
        b'_' if variant.url => 63,
        _ => return None,
    })
}

#[cfg(test)]
mod tests {
    use super::{Variant, decode, encode};
    use crate::harness::run;

    const NAMES: [&str; 4] = ["std", "rawstd", "url", "rawurl"];

    #[test]
    fn every_variant_reads_what_it_writes() {
        for name in NAMES {
            let variant = Variant::named(name);
            for length in 0..70u8 {
                let data: Vec<u8> = (0..length).map(|i| i.wrapping_mul(37) ^ 0xa5).collect();
                let text = encode(&data, variant);
                assert_eq!(decode(text.as_bytes(), variant), Ok(data), "{name} {text}");
            }
        }
    }

    #[test]
    fn vectors_of_rfc_4648() {
        for (plain, text) in [
            ("", ""),
            ("f", "Zg=="),
            ("fo", "Zm8="),
            ("foo", "Zm9v"),
            ("foob", "Zm9vYg=="),
            ("fooba", "Zm9vYmE="),
            ("foobar", "Zm9vYmFy"),
        ] {
            let standard = Variant::named("");
            assert_eq!(encode(plain.as_bytes(), standard), text);
            assert_eq!(decode(text.as_bytes(), standard).unwrap(), plain.as_bytes());
            let broken: String = text.chars().flat_map(|c| [c, '\n']).collect();
            assert_eq!(
                decode(broken.as_bytes(), standard).unwrap(),
                plain.as_bytes()
            );
        }
    }

    #[test]
    fn errors_say_where_they_are() {
        for (text, variant, at) in [
            ("Zm9", "std", 0),
            ("Zm9v!", "std", 4),
            ("_-8=", "std", 0),
            ("/+8=", "url", 0),
            ("Zg==", "rawstd", 2),
            ("====", "std", 0),
            ("Z", "rawurl", 0),
            ("Zm 9v", "std", 2),
            ("Zg=", "std", 3),
            ("Zg=a", "std", 2),
            ("Zg==Zg==", "std", 4),
            ("Zm9vZm8=x", "std", 8),
        ] {
            let found = decode(text.as_bytes(), Variant::named(variant));
            assert_eq!(found, Err(at), "{text} {variant}");
        }
    }

    #[test]
    fn scripts_give_text_and_bytes_and_get_both() {
        let lines = run(
            "import encoding, { b64encode, b64decode } from 'k6/encoding';
             const bytes = new Uint8Array([0, 251, 255, 0]).subarray(1, 3);
             export default function () {
               console.log(b64encode('h\\u00e9'), b64encode(bytes), b64encode(bytes, 'rawurl'), b64encode(bytes.buffer));
               console.log(b64decode('aMOp', 'std', 's'), b64decode('-_8', 'rawurl'), encoding.b64decode().byteLength);
               for (const bad of [5, 1.5, null, undefined, {}, [1], true, new Uint16Array(1)])
                 try { b64encode(bad) } catch (e) { console.log(String(e)) }
               try { b64decode('Zm9') } catch (e) { console.log(String(e)) }
             }",
            1,
        );
        assert_eq!(
            lines[..2],
            [
                "aMOp +/8= -_8 APv/AA==",
                "hé ArrayBuffer { [Uint8Contents]: <fb ff>, byteLength: 2 } 0"
            ]
        );
        let types = [
            "int64",
            "float64",
            "<nil>",
            "<nil>",
            "map[string]interface {}",
            "[]interface {}",
            "bool",
            "[]uint16",
        ];
        for (line, kind) in lines[2..].iter().zip(types) {
            let text =
                format!("GoError: invalid type {kind}, expected string, []byte or ArrayBuffer");
            assert_eq!(*line, text);
        }
        assert_eq!(lines[10], "GoError: illegal base64 data at input byte 0");
    }
}
