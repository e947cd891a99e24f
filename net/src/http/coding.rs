//! Content codings: what a response says it is packed in, and what a request asks to be packed in.
//!
//! A response is unpacked whether or not the request asked for a coding, as the reference does.
//! Tokens are taken as they are written: `GZIP` and `x-gzip` are unknown, and what is unknown
//! stays as it came. `deflate` is the zlib format (RFC 9110), never the bare stream.

use std::{
    io::{self, Read, Write},
    str::FromStr,
};

use bytes::Bytes;
use flate2::{
    Compression,
    read::{MultiGzDecoder, ZlibDecoder},
    write::{GzEncoder, ZlibEncoder},
};
use http::{HeaderMap, header::CONTENT_ENCODING};
use ruzstd::{
    decoding::{StreamingDecoder, errors::FrameDecoderError, errors::ReadFrameHeaderError},
    encoding::{CompressionLevel, compress_to_vec},
};

/// How many bytes a body may have when it is unpacked: so many, or so many for each byte that came.
/// A single gzip or deflate cannot have more for each; the others can, and lists of codings, in which
/// each unpacks what the one before it has unpacked.
const MOST_UNPACKED: usize = 64 << 20;
const MOST_FOR_EACH: usize = 1100;

/// A content coding.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Coding {
    /// `gzip`.
    Gzip,
    /// `deflate`, in zlib's format.
    Deflate,
    /// `zstd`.
    Zstd,
    /// `br`.
    Brotli,
}

impl Coding {
    /// All of them, in the order in which messages list them.
    pub const ALL: [Self; 4] = [Self::Gzip, Self::Deflate, Self::Zstd, Self::Brotli];

    /// The token of `Content-Encoding`.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Gzip => "gzip",
            Self::Deflate => "deflate",
            Self::Zstd => "zstd",
            Self::Brotli => "br",
        }
    }

    /// Packs a body.
    pub fn pack(self, plain: &[u8]) -> Vec<u8> {
        const INFALLIBLE: &str = "writing to memory does not fail";
        match self {
            Self::Gzip => {
                let mut packer = GzEncoder::new(Vec::new(), Compression::default());
                packer.write_all(plain).expect(INFALLIBLE);
                packer.finish().expect(INFALLIBLE)
            }
            Self::Deflate => {
                let mut packer = ZlibEncoder::new(Vec::new(), Compression::default());
                packer.write_all(plain).expect(INFALLIBLE);
                packer.finish().expect(INFALLIBLE)
            }
            Self::Zstd => compress_to_vec(plain, CompressionLevel::Fastest),
            Self::Brotli => {
                // Quality 6, as the reference has it: the best one takes fifty times as long.
                let mut packer = brotli::CompressorWriter::new(Vec::new(), 4096, 6, 22);
                packer.write_all(plain).expect(INFALLIBLE);
                packer.into_inner()
            }
        }
    }

    /// Unpacks a body, to its end, to the fault, or to `most` bytes; `out` then holds what came
    /// before that.
    fn unpack(self, packed: &[u8], most: usize, out: &mut Vec<u8>) -> Result<(), Fault> {
        self.unpack_past(packed, most, out)?;
        if out.len() > most {
            out.truncate(most);
            return Err(Fault(format!(
                "{}: more than {most} bytes; the response type \"none\" leaves bodies unread",
                self.name()
            )));
        }
        Ok(())
    }

    /// The same, to a byte after `most`.
    fn unpack_past(self, packed: &[u8], most: usize, out: &mut Vec<u8>) -> Result<(), Fault> {
        let limit = (most as u64).saturating_add(1);
        match self {
            Self::Gzip => {
                if !packed.starts_with(&[0x1f, 0x8b]) {
                    return Err(Fault::header("gzip: invalid header", packed, 10));
                }
                MultiGzDecoder::new(packed).take(limit).read_to_end(out)
            }
            Self::Deflate => {
                if !is_zlib(packed) {
                    return Err(Fault::header("zlib: invalid header", packed, 2));
                }
                ZlibDecoder::new(packed).take(limit).read_to_end(out)
            }
            Self::Zstd => return unpack_zstd(packed, limit, out),
            Self::Brotli => brotli::Decompressor::new(packed, 4096)
                .take(limit)
                .read_to_end(out),
        }
        .map(drop)
        .map_err(|error| Fault::within(self, &error))
    }

    /// What the reference's errors call it.
    fn name(self) -> &'static str {
        match self {
            Self::Gzip => "gzip",
            Self::Deflate => "zlib",
            Self::Zstd => "zstd",
            Self::Brotli => "brotli",
        }
    }
}

impl FromStr for Coding {
    type Err = ();

    fn from_str(token: &str) -> Result<Self, ()> {
        let mut known = Self::ALL.into_iter();
        known.find(|coding| coding.as_str() == token).ok_or(())
    }
}

/// Whether the bytes begin with the two of zlib's header.
fn is_zlib(bytes: &[u8]) -> bool {
    let [first, second, ..] = bytes else {
        return false;
    };
    first & 0x0f == 8 && first >> 4 <= 7 && (u16::from(*first) << 8 | u16::from(*second)) % 31 == 0
}

/// All frames, one after the other; those that hold no data are skipped.
fn unpack_zstd(mut packed: &[u8], limit: u64, out: &mut Vec<u8>) -> Result<(), Fault> {
    while !packed.is_empty() && (out.len() as u64) < limit {
        match StreamingDecoder::new(&mut packed) {
            Ok(frame) => {
                frame
                    .take(limit - out.len() as u64)
                    .read_to_end(out)
                    .map_err(|error| Fault::within(Coding::Zstd, &error))?;
            }
            Err(FrameDecoderError::ReadFrameHeaderError(ReadFrameHeaderError::SkipFrame {
                length,
                ..
            })) => packed = packed.get(length as usize..).unwrap_or_default(),
            Err(FrameDecoderError::ReadFrameHeaderError(ReadFrameHeaderError::BadMagicNumber(
                _,
            ))) => {
                return Err(Fault::header(
                    "invalid input: magic number mismatch",
                    packed,
                    4,
                ));
            }
            Err(error) => return Err(Fault::header(&error.to_string(), packed, 0)),
        }
    }
    Ok(())
}

/// Why a body could not be unpacked.
#[derive(Debug, PartialEq, Eq)]
struct Fault(String);

impl Fault {
    /// The start of the body is wrong. The reference says so twice, one time where the unpacker
    /// is made and one time around the whole.
    fn header(text: &str, packed: &[u8], least: usize) -> Self {
        let text = if packed.len() < least {
            "unexpected EOF"
        } else {
            text
        };
        Self(format!("error decompressing response body ({text})"))
    }

    /// Something later is wrong.
    fn within(coding: Coding, error: &io::Error) -> Self {
        Self(match error.kind() {
            io::ErrorKind::UnexpectedEof => "unexpected EOF".to_owned(),
            _ => format!("{}: {error}", coding.name()),
        })
    }
}

/// The codings a response names, in the order of unpacking; `None` when there is nothing that can
/// be unpacked. A token nobody knows ends the list: what is under it stays as it is.
fn codings(headers: &HeaderMap) -> Option<Vec<Coding>> {
    let lines = headers.get_all(CONTENT_ENCODING);
    let mut found = Vec::new();
    for line in lines {
        for token in line.to_str().unwrap_or_default().split(',') {
            found.push(token.trim().parse::<Coding>());
        }
    }
    let known: Vec<Coding> = found.into_iter().rev().map_while(Result::ok).collect();
    (!known.is_empty()).then_some(known)
}

/// Unpacks the body of a response with these headers; `None` when it stays as it came.
///
/// # Errors
/// Why it cannot be unpacked, and as much as could.
pub(super) fn unpack(headers: &HeaderMap, body: &Bytes) -> Option<Result<Bytes, (Bytes, String)>> {
    if body.is_empty() || !headers.contains_key(CONTENT_ENCODING) {
        return None;
    }
    let mut body = body.clone();
    // For all codings together: each of a long list could take its time over as much.
    let mut left = MOST_UNPACKED.max(body.len().saturating_mul(MOST_FOR_EACH));
    for coding in codings(headers)? {
        let mut out = Vec::with_capacity(body.len().saturating_mul(3).min(left));
        let outcome = coding.unpack(&body, left, &mut out);
        left -= out.len();
        body = out.into();
        if let Err(Fault(text)) = outcome {
            return Some(Err((body, text)));
        }
    }
    Some(Ok(body))
}

#[cfg(test)]
mod tests {
    use http::HeaderValue;

    use super::*;

    fn headers(encodings: &[&str]) -> HeaderMap {
        let mut headers = HeaderMap::new();
        for encoding in encodings {
            headers.append(
                CONTENT_ENCODING,
                HeaderValue::from_str(encoding).expect("ASCII"),
            );
        }
        headers
    }

    fn unpacked(encoding: &str, body: &[u8]) -> Option<Result<Bytes, (Bytes, String)>> {
        unpack(&headers(&[encoding]), &Bytes::copy_from_slice(body))
    }

    const HELLO_GZIP: &[u8] = &[
        0x1f, 0x8b, 8, 0, 0, 0, 0, 0, 0, 0xff, 0xcb, 0x48, 0xcd, 0xc9, 0xc9, 7, 0, 0x86, 0xa6,
        0x10, 0x36, 5, 0, 0, 0,
    ];
    const HELLO_ZLIB: &[u8] = &[
        0x78, 0x9c, 0xcb, 0x48, 0xcd, 0xc9, 0xc9, 7, 0, 6, 0x2c, 2, 0x15,
    ];
    /// One raw block, as RFC 8878 has it.
    const HELLO_ZSTD: &[u8] = &[
        0x28, 0xb5, 0x2f, 0xfd, 0x20, 5, 0x29, 0, 0, b'h', b'e', b'l', b'l', b'o',
    ];
    /// An uncompressed meta-block, as RFC 7932 has it.
    const HELLO_BR: &[u8] = &[0x0b, 2, 0x80, b'h', b'e', b'l', b'l', b'o', 3];

    #[test]
    fn known_bodies_are_unpacked() {
        for (encoding, body) in [
            ("gzip", HELLO_GZIP),
            ("deflate", HELLO_ZLIB),
            ("zstd", HELLO_ZSTD),
            ("br", HELLO_BR),
        ] {
            let hello = unpacked(encoding, body).expect("known");
            assert_eq!(hello, Ok(Bytes::from_static(b"hello")), "{encoding}");
        }
    }

    #[test]
    fn all_members_and_frames_count() {
        let twice = |body: &[u8]| [body, body].concat();
        let expected = Some(Ok(Bytes::from_static(b"hellohello")));
        assert_eq!(unpacked("gzip", &twice(HELLO_GZIP)), expected);
        assert_eq!(unpacked("zstd", &twice(HELLO_ZSTD)), expected);
        let skippable = [&[0x50, 0x2a, 0x4d, 0x18, 3, 0, 0, 0, 1, 2, 3], HELLO_ZSTD].concat();
        assert_eq!(
            unpacked("zstd", &skippable),
            Some(Ok(Bytes::from_static(b"hello")))
        );
    }

    #[test]
    fn what_is_packed_is_unpacked_from_right_to_left() {
        let plain: Vec<u8> = (0..100_000u32)
            .flat_map(|n| (n / 7).to_le_bytes())
            .collect();
        let mut body = plain.clone();
        for coding in Coding::ALL {
            body = coding.pack(&body);
        }
        for list in [
            vec!["gzip, deflate,zstd , br"],
            vec!["gzip, deflate", "zstd, br"],
        ] {
            let whole = unpack(&headers(&list), &body.clone().into()).expect("known");
            assert!(whole.expect("good") == plain, "{list:?}");
        }
    }

    #[test]
    fn unknown_tokens_stay_as_they_came() {
        for encoding in ["GZIP", "x-gzip", "identity", "", "gzip, compress"] {
            assert_eq!(unpacked(encoding, HELLO_GZIP), None, "{encoding}");
        }
        let inner = unpacked("compress, gzip", HELLO_GZIP);
        assert_eq!(inner, Some(Ok(Bytes::from_static(b"hello"))));
        assert_eq!(unpacked("gzip", b""), None, "the answer to a HEAD");
    }

    #[test]
    fn bad_headers_are_told_twice() {
        for (encoding, text) in [
            ("gzip", "gzip: invalid header"),
            ("deflate", "zlib: invalid header"),
            ("zstd", "invalid input: magic number mismatch"),
        ] {
            let (body, told) = unpacked(encoding, b"this is not packed")
                .expect("known")
                .expect_err(encoding);
            assert!(body.is_empty());
            assert_eq!(told, format!("error decompressing response body ({text})"));
        }
        // The bare stream is not what `deflate` means.
        let bare = &HELLO_ZLIB[2..HELLO_ZLIB.len() - 4];
        assert!(matches!(unpacked("deflate", bare), Some(Err(_))));
    }

    #[test]
    fn what_came_before_a_fault_is_kept() {
        let plain = "line of text\n".repeat(20_000);
        for coding in Coding::ALL {
            let packed = coding.pack(plain.as_bytes());
            let cut = &packed[..packed.len() - packed.len() / 4];
            let (body, text) = unpacked(coding.as_str(), cut)
                .expect("known")
                .expect_err(coding.as_str());
            assert!(plain.as_bytes().starts_with(&body), "{coding:?}");
            assert!(!text.is_empty());
        }
        let mut wrong_sum = HELLO_GZIP.to_vec();
        wrong_sum[18] ^= 1;
        let (_, text) = unpacked("gzip", &wrong_sum)
            .expect("known")
            .expect_err("a checksum");
        assert!(text.starts_with("gzip: "), "{text}");
    }

    #[test]
    fn what_grows_without_measure_is_refused() {
        let zeros = vec![0; MOST_UNPACKED + 1];
        let told = |list: &str, packed: &[u8]| {
            let (body, text) = unpacked(list, packed).expect("known").expect_err(list);
            assert!(body.len() <= MOST_UNPACKED && body.iter().all(|byte| *byte == 0));
            text
        };
        for coding in Coding::ALL {
            // One packed again is a few bytes for each megabyte.
            let once = coding.pack(&zeros);
            let twice = Coding::Brotli.pack(&once);
            let text = told(&format!("{}, br", coding.as_str()), &twice);
            assert!(text.contains(": more than "), "{coding:?}: {text}");
        }
        // A frame of zstd and many skipped ones, none of which is read to its end.
        let frame = Coding::Zstd.pack(&zeros[..1 << 20]);
        let text = told("zstd", &frame.repeat(70));
        assert!(text.starts_with("zstd: more than 67108864 bytes"), "{text}");
        // One that is merely large, and comes as such, is not.
        let plain = vec![1; 2 * MOST_UNPACKED];
        let body = unpacked("gzip", &Coding::Gzip.pack(&plain)).expect("known");
        assert!(body.expect("good") == plain);
    }

    proptest::proptest! {
        /// Whatever a peer sends, there is an answer, and what it gives is no more than it should.
        #[test]
        fn bodies_that_are_damaged_come_to_an_end(
            plain in proptest::collection::vec(0u8..4, 0..600),
            changes in proptest::collection::vec((0usize..1000, 0u8..=255), 0..6),
            cut in 0usize..1000,
        ) {
            for coding in Coding::ALL {
                let mut packed = coding.pack(&plain);
                for (at, byte) in &changes {
                    let at = at % packed.len();
                    packed[at] = *byte;
                }
                packed.truncate(packed.len().saturating_sub(cut % 50));
                let mut out = Vec::new();
                let _ = coding.unpack(&packed, usize::MAX, &mut out);
                let whole = unpacked(coding.as_str(), &packed);
                if let Some(Ok(body)) = whole {
                    proptest::prop_assert_eq!(&body[..], &out[..]);
                }
            }
        }
    }
}
