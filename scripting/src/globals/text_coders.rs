//! `TextEncoder` and `TextDecoder`: UTF-8, and UTF-16 for reading.

use rquickjs::{
    Class, Coerced, Ctx, Exception, Function, IntoJs, Object, Result as JsResult, Value,
    class::{JsClass, Readable, Writable},
    function::{Constructor, Opt, This},
    object::Accessor,
};

use crate::{
    binary,
    engine::{self, Native},
    error,
};

/// The class `TextEncoder`.
pub(crate) fn encoder<'js>(ctx: &Ctx<'js>) -> JsResult<Value<'js>> {
    constructor::<Encoder>(ctx)
}

/// The class `TextDecoder`.
pub(crate) fn decoder<'js>(ctx: &Ctx<'js>) -> JsResult<Value<'js>> {
    constructor::<Decoder>(ctx)
}

fn constructor<'js, T: 'static>(ctx: &Ctx<'js>) -> JsResult<Value<'js>>
where
    Native<T>: JsClass<'js>,
{
    match Class::<Native<T>>::create_constructor(ctx)? {
        Some(class) => class.into_js(ctx),
        None => Ok(Value::new_undefined(ctx.clone())),
    }
}

// === TextEncoder ===

struct Encoder;

impl<'js> JsClass<'js> for Native<Encoder> {
    const NAME: &'static str = "TextEncoder";
    type Mutable = Readable;

    fn prototype(ctx: &Ctx<'js>) -> JsResult<Option<Object<'js>>> {
        let prototype = Object::new(ctx.clone())?;
        let encode = |ctx: Ctx<'js>, text: Opt<Value<'js>>| {
            let text = text.0.filter(|t| !t.is_undefined() && !t.is_null());
            let text = text.map_or_else(String::new, |text| error::to_text(&text));
            engine::byte_array(&ctx, text)
        };
        let encode = Function::new(ctx.clone(), encode)?;
        prototype.set("encode", encode.with_name("encode")?)?;
        prototype.prop("encoding", Accessor::new_get(|| "utf-8").enumerable())?;
        Ok(Some(prototype))
    }

    fn constructor(ctx: &Ctx<'js>) -> JsResult<Option<Constructor<'js>>> {
        let make = |ctx: Ctx<'js>| Class::instance(ctx, Native(Encoder));
        Constructor::new_class::<Self, _, _>(ctx.clone(), make).map(Some)
    }
}

// === TextDecoder ===

/// An encoding that can be read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Encoding {
    Utf8,
    Utf16Le,
    Utf16Be,
}

impl Encoding {
    /// The encoding that the web knows under this label.
    fn labelled(label: &str) -> Option<Self> {
        let label = label.trim_matches(['\t', '\n', '\u{c}', '\r', ' ']);
        Some(match label.to_ascii_lowercase().as_str() {
            "utf-8" | "utf8" | "unicode-1-1-utf-8" | "unicode11utf8" | "unicode20utf8"
            | "x-unicode20utf8" => Self::Utf8,
            "utf-16le" | "utf-16" | "csunicode" | "iso-10646-ucs-2" | "ucs-2" | "unicode"
            | "unicodefeff" => Self::Utf16Le,
            "utf-16be" | "unicodefffe" => Self::Utf16Be,
            _ => return None,
        })
    }

    fn name(self) -> &'static str {
        match self {
            Self::Utf8 => "utf-8",
            Self::Utf16Le => "utf-16le",
            Self::Utf16Be => "utf-16be",
        }
    }
}

/// A decoder, with what it keeps between the pieces of a stream.
struct Decoder {
    encoding: Encoding,
    fatal: bool,
    ignore_bom: bool,
    /// The beginning of a character whose rest is still to come.
    rest: Vec<u8>,
    /// Nothing of this stream has been given out yet: a byte order mark may still come.
    at_start: bool,
}

/// Bytes that are no text, for a decoder that is strict.
#[derive(Debug, PartialEq, Eq)]
struct Invalid;

impl Decoder {
    fn new(encoding: Encoding, fatal: bool, ignore_bom: bool) -> Self {
        Self {
            encoding,
            fatal,
            ignore_bom,
            rest: Vec::new(),
            at_start: true,
        }
    }

    fn decode(&mut self, piece: &[u8], more: bool) -> Result<String, Invalid> {
        let mut bytes = std::mem::take(&mut self.rest);
        bytes.extend_from_slice(piece);
        let mut text = String::with_capacity(bytes.len());
        let decoded = match self.encoding {
            Encoding::Utf8 => self.utf8(&bytes, more, &mut text),
            Encoding::Utf16Le => self.utf16(&bytes, u16::from_le_bytes, more, &mut text),
            Encoding::Utf16Be => self.utf16(&bytes, u16::from_be_bytes, more, &mut text),
        };
        if self.at_start && !text.is_empty() {
            self.at_start = false;
            if !self.ignore_bom && text.starts_with('\u{feff}') {
                text.drain(..'\u{feff}'.len_utf8());
            }
        }
        if decoded.is_err() || !more {
            self.at_start = true;
            self.rest.clear();
        }
        decoded.map(|()| text)
    }

    fn bad(&self, text: &mut String) -> Result<(), Invalid> {
        if self.fatal {
            return Err(Invalid);
        }
        text.push(char::REPLACEMENT_CHARACTER);
        Ok(())
    }

    fn utf8(&mut self, mut bytes: &[u8], more: bool, text: &mut String) -> Result<(), Invalid> {
        loop {
            let error = match std::str::from_utf8(bytes) {
                Ok(good) => {
                    text.push_str(good);
                    return Ok(());
                }
                Err(error) => error,
            };
            let (good, bad) = bytes.split_at(error.valid_up_to());
            text.push_str(&String::from_utf8_lossy(good));
            match error.error_len() {
                None if more => {
                    self.rest = bad.to_vec();
                    return Ok(());
                }
                None => return self.bad(text),
                Some(length) => {
                    self.bad(text)?;
                    bytes = &bad[length..];
                }
            }
        }
    }

    fn utf16(
        &mut self,
        bytes: &[u8],
        unit: fn([u8; 2]) -> u16,
        more: bool,
        text: &mut String,
    ) -> Result<(), Invalid> {
        let (pairs, odd) = bytes.as_chunks::<2>();
        let mut units: Vec<u16> = pairs.iter().map(|pair| unit(*pair)).collect();
        let mut rest = odd.len();
        if more && units.last().is_some_and(|u| (0xd800..0xdc00).contains(u)) {
            units.pop();
            rest += 2;
        }
        for decoded in char::decode_utf16(units) {
            match decoded {
                Ok(character) => text.push(character),
                Err(_) => self.bad(text)?,
            }
        }
        if more {
            self.rest = bytes[bytes.len() - rest..].to_vec();
        } else if rest > 0 {
            self.bad(text)?;
        }
        Ok(())
    }
}

type This_<'js> = This<Class<'js, Native<Decoder>>>;

impl<'js> JsClass<'js> for Native<Decoder> {
    const NAME: &'static str = "TextDecoder";
    type Mutable = Writable;

    fn prototype(ctx: &Ctx<'js>) -> JsResult<Option<Object<'js>>> {
        let prototype = Object::new(ctx.clone())?;
        let decode = Function::new(ctx.clone(), decode)?;
        prototype.set("decode", decode.with_name("decode")?)?;
        let encoding = |this: This_<'js>| this.0.borrow().0.encoding.name();
        prototype.prop("encoding", Accessor::new_get(encoding).enumerable())?;
        let fatal = |this: This_<'js>| this.0.borrow().0.fatal;
        prototype.prop("fatal", Accessor::new_get(fatal).enumerable())?;
        let ignore_bom = |this: This_<'js>| this.0.borrow().0.ignore_bom;
        prototype.prop("ignoreBOM", Accessor::new_get(ignore_bom).enumerable())?;
        Ok(Some(prototype))
    }

    fn constructor(ctx: &Ctx<'js>) -> JsResult<Option<Constructor<'js>>> {
        let make = |ctx: Ctx<'js>, label: Opt<Value<'js>>, options: Opt<Value<'js>>| {
            let label = label.0.filter(|l| !l.is_undefined());
            let label = label.map_or_else(|| "utf-8".to_owned(), |l| error::to_text(&l));
            let Some(encoding) = Encoding::labelled(&label) else {
                let text = format!("unsupported encoding: {label}");
                return Err(Exception::throw_range(&ctx, &text));
            };
            let fatal = flag(options.0.as_ref(), "fatal")?;
            let ignore_bom = flag(options.0.as_ref(), "ignoreBOM")?;
            Class::instance(ctx, Native(Decoder::new(encoding, fatal, ignore_bom)))
        };
        Constructor::new_class::<Self, _, _>(ctx.clone(), make).map(Some)
    }
}

fn decode<'js>(
    this: This_<'js>,
    ctx: Ctx<'js>,
    input: Opt<Value<'js>>,
    options: Opt<Value<'js>>,
) -> JsResult<String> {
    let more = flag(options.0.as_ref(), "stream")?;
    let input = input.0.filter(|i| !i.is_undefined() && !i.is_null());
    let piece = match input {
        None => Vec::new(),
        Some(input) => binary::source(&input).ok_or_else(|| {
            Exception::throw_type(&ctx, "decode() takes an ArrayBuffer or a view of one")
        })?,
    };
    let decoded = this.0.borrow_mut().0.decode(&piece, more);
    decoded.map_err(|Invalid| Exception::throw_type(&ctx, "decoding text: invalid byte sequence"))
}

/// A member of an options object, as a truth value.
fn flag(options: Option<&Value<'_>>, name: &str) -> JsResult<bool> {
    match options.and_then(|o| o.as_object()) {
        Some(options) => Ok(options.get::<_, Coerced<bool>>(name)?.0),
        None => Ok(false),
    }
}

#[cfg(test)]
mod tests {
    use super::{Decoder, Encoding, Invalid};
    use crate::harness::run;

    /// Decodes `bytes` cut into pieces of `size`.
    fn streamed(decoder: &mut Decoder, bytes: &[u8], size: usize) -> String {
        let mut text = String::new();
        for piece in bytes.chunks(size) {
            text += &decoder.decode(piece, true).unwrap();
        }
        text + &decoder.decode(&[], false).unwrap()
    }

    #[test]
    fn pieces_of_any_size_give_the_same_text() {
        let text = "aé中😀\u{feff}z";
        let little: Vec<u8> = text.encode_utf16().flat_map(u16::to_le_bytes).collect();
        let big: Vec<u8> = text.encode_utf16().flat_map(u16::to_be_bytes).collect();
        for (encoding, bytes) in [
            (Encoding::Utf8, text.as_bytes()),
            (Encoding::Utf16Le, &little),
            (Encoding::Utf16Be, &big),
        ] {
            let mut decoder = Decoder::new(encoding, true, false);
            for size in 1..8 {
                assert_eq!(streamed(&mut decoder, bytes, size), text, "{encoding:?}");
            }
        }
    }

    #[test]
    fn the_byte_order_mark_goes_once_and_only_at_the_start() {
        let bytes = "\u{feff}\u{feff}a".as_bytes();
        for size in 1..8 {
            let mut decoder = Decoder::new(Encoding::Utf8, false, false);
            assert_eq!(streamed(&mut decoder, bytes, size), "\u{feff}a");
            assert_eq!(streamed(&mut decoder, bytes, size), "\u{feff}a", "again");
            let mut decoder = Decoder::new(Encoding::Utf8, false, true);
            assert_eq!(streamed(&mut decoder, bytes, size), "\u{feff}\u{feff}a");
        }
    }

    #[test]
    fn bad_bytes_become_one_mark_each_or_an_error() {
        for (bytes, text) in [
            (&b"A\xffB"[..], "A\u{fffd}B"),
            (b"\xf0\x9f", "\u{fffd}"),
            (b"\xe4\xb8x", "\u{fffd}x"),
            (b"\xc0\x80", "\u{fffd}\u{fffd}"),
            (b"\xed\xa0\x80", "\u{fffd}\u{fffd}\u{fffd}"),
        ] {
            let decode = |fatal| Decoder::new(Encoding::Utf8, fatal, false).decode(bytes, false);
            assert_eq!(decode(false).unwrap(), text);
            assert_eq!(decode(true), Err(Invalid));
        }
        for bytes in [&b"a"[..], b"\x00\xd8", b"\x00\xdca\x00", b"\x00\xd8a"] {
            let decode = |fatal| Decoder::new(Encoding::Utf16Le, fatal, false).decode(bytes, false);
            assert!(decode(false).unwrap().contains('\u{fffd}'), "{bytes:?}");
            assert_eq!(decode(true), Err(Invalid), "{bytes:?}");
        }
    }

    #[test]
    fn a_strict_decoder_is_usable_after_an_error() {
        let mut decoder = Decoder::new(Encoding::Utf8, true, false);
        assert_eq!(decoder.decode(b"\xff", true), Err(Invalid));
        assert_eq!(decoder.decode("é".as_bytes(), false).unwrap(), "é");
    }

    #[test]
    fn scripts_see_classes() {
        let lines = run(
            "export default function () {
               const e = new TextEncoder(), d = new TextDecoder(' UTF-8 ', { ignoreBOM: true });
               console.log(e instanceof TextEncoder, d instanceof TextDecoder, e.encoding, d.encoding, d.fatal, d.ignoreBOM);
               console.log(e.encode('a\\ud800'), e.encode(null).length, e.encode(12), typeof e.encodeInto);
               const view = new DataView(e.encode('xviewx').buffer, 1, 4);
               console.log(d.decode(view), d.decode(new Uint16Array([0x6968])), d.decode(e.encode('abc').subarray(1)), '<' + d.decode() + '>');
               for (const f of [() => new TextDecoder('latin1'), () => d.decode('text'),
                   () => new TextDecoder('utf8', { fatal: true }).decode(new Uint8Array([255])),
                   () => TextDecoder.prototype.decode.call({})])
                 try { f(); console.log('worked') } catch (e) { console.log(e.name, e.message) }
               globalThis.TextEncoder = 5; console.log(TextEncoder, Object.keys(globalThis).includes('TextDecoder'));
             }",
            1,
        );
        assert_eq!(
            lines[..6],
            [
                "true true utf-8 utf-8 false true",
                "Uint8Array(4) [ 97, 239, 191, 189 ] 0 Uint8Array(2) [ 49, 50 ] undefined",
                "view hi bc <>",
                "RangeError unsupported encoding: latin1",
                "TypeError decode() takes an ArrayBuffer or a view of one",
                "TypeError decoding text: invalid byte sequence",
            ]
        );
        assert!(lines[6].starts_with("TypeError"), "{lines:?}");
        assert_eq!(lines[7], "5 true");
    }
}
