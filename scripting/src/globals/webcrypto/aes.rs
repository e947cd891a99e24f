//! AES in the modes that encrypt.

use aes::{
    Aes128, Aes192, Aes256,
    cipher::{
        BlockCipherDecrypt, BlockCipherEncrypt, BlockModeDecrypt, BlockModeEncrypt, BlockSizeUser,
        KeyInit, KeyIvInit, StreamCipher,
        block_padding::Pkcs7,
        consts::{U12, U13, U14, U15, U16},
    },
};
use aes_gcm::{
    AesGcm, TagSize,
    aead::{Aead, Payload},
};

use super::problem::Problem;

/// A mode with its parameters.
pub(super) enum Mode {
    Cbc {
        iv: [u8; 16],
    },
    /// The low `length` bits of the counter count.
    Ctr {
        counter: [u8; 16],
        length: u32,
    },
    Gcm {
        iv: [u8; 12],
        additional: Vec<u8>,
        tag_bits: u32,
    },
}

/// Encrypts or decrypts with a key of 16, 24 or 32 bytes.
pub(super) fn run(mode: &Mode, key: &[u8], data: &[u8], encrypt: bool) -> Result<Vec<u8>, Problem> {
    match key.len() {
        16 => with::<Aes128>(mode, key, data, encrypt),
        24 => with::<Aes192>(mode, key, data, encrypt),
        _ => with::<Aes256>(mode, key, data, encrypt),
    }
}

fn failed(text: &'static str) -> Problem {
    Problem::operation(text)
}

fn with<C>(mode: &Mode, key: &[u8], data: &[u8], encrypt: bool) -> Result<Vec<u8>, Problem>
where
    C: BlockCipherEncrypt + BlockCipherDecrypt + KeyInit + BlockSizeUser<BlockSize = U16>,
{
    let wrong_key = |_| Problem::data(format!("invalid key length {} bytes", key.len()));
    match mode {
        Mode::Cbc { .. } if data.is_empty() => Err(failed("the data cannot be empty")),
        Mode::Cbc { iv } if encrypt => {
            let cipher = cbc::Encryptor::<C>::new_from_slices(key, iv);
            let cipher = cipher.map_err(|_| failed("invalid key or iv"))?;
            Ok(cipher.encrypt_padded_vec::<Pkcs7>(data))
        }
        Mode::Cbc { iv } => {
            let cipher = cbc::Decryptor::<C>::new_from_slices(key, iv);
            let cipher = cipher.map_err(|_| failed("invalid key or iv"))?;
            let plain = cipher.decrypt_padded_vec::<Pkcs7>(data);
            plain.map_err(|_| failed("invalid ciphertext or padding"))
        }
        Mode::Ctr { counter, length } => ctr::<C>(key, *counter, *length, data),
        Mode::Gcm {
            iv,
            additional,
            tag_bits,
        } => {
            let payload = Payload {
                msg: data,
                aad: additional,
            };
            let iv = (*iv).into();
            macro_rules! gcm {
                ($size:ty) => {{
                    let cipher = AesGcm::<C, U12, $size>::new_from_slice(key).map_err(wrong_key)?;
                    seal(&cipher, &iv, payload, encrypt)
                }};
            }
            match tag_bits {
                96 => gcm!(U12),
                104 => gcm!(U13),
                112 => gcm!(U14),
                120 => gcm!(U15),
                _ => gcm!(U16),
            }
        }
    }
}

fn seal<C, T>(
    cipher: &AesGcm<C, U12, T>,
    iv: &aes_gcm::Nonce<U12>,
    payload: Payload<'_, '_>,
    encrypt: bool,
) -> Result<Vec<u8>, Problem>
where
    T: TagSize,
    AesGcm<C, U12, T>: Aead<NonceSize = U12>,
{
    if encrypt {
        let sealed = cipher.encrypt(iv, payload);
        sealed.map_err(|_| failed("the data is too long"))
    } else {
        let opened = cipher.decrypt(iv, payload);
        opened.map_err(|_| failed("the data could not be authenticated"))
    }
}

/// Counter mode in which only the low bits count: what overflows them starts over at zero, the rest
/// of the counter stays as it is.
fn ctr<C>(key: &[u8], counter: [u8; 16], length: u32, data: &[u8]) -> Result<Vec<u8>, Problem>
where
    C: BlockCipherEncrypt + KeyInit + BlockSizeUser<BlockSize = U16>,
{
    let start = u128::from_be_bytes(counter);
    let mask = u128::MAX >> (128 - length);
    let blocks = data.len().div_ceil(16) as u128;
    // As many as there are values; for 128 bits that is more than any data has.
    if blocks > mask.saturating_add(1) {
        return Err(failed("the data is too long for the counter"));
    }
    let before_wrap = (mask - (start & mask)).saturating_add(1);
    let mut out = data.to_vec();
    let split = usize::try_from(before_wrap.saturating_mul(16)).unwrap_or(usize::MAX);
    let (first, rest) = out.split_at_mut(split.min(data.len()));
    for (piece, from) in [(first, start), (rest, start & !mask)] {
        if piece.is_empty() {
            continue;
        }
        let cipher = ctr::Ctr128BE::<C>::new_from_slices(key, &from.to_be_bytes());
        let mut cipher = cipher.map_err(|_| failed("invalid key or counter"))?;
        let applied = cipher.try_apply_keystream(piece);
        applied.map_err(|_| failed("the data is too long for the counter"))?;
    }
    Ok(out)
}

#[cfg(test)]
mod tests {
    use super::{Mode, run};
    use crate::binary::hex;

    fn bytes<const N: usize>(text: &str) -> [u8; N] {
        let mut out = [0; N];
        for (byte, pair) in out.iter_mut().zip(text.as_bytes().chunks(2)) {
            *byte = u8::from_str_radix(std::str::from_utf8(pair).unwrap(), 16).unwrap();
        }
        out
    }

    const PLAIN: &str = "6bc1bee22e409f96e93d7e117393172aae2d8a571e03ac9c9eb76fac45af8e51";

    /// NIST SP 800-38A, F.2.1 and F.2.5: the first two blocks.
    #[test]
    fn published_vectors_of_cbc() {
        let iv = bytes("000102030405060708090a0b0c0d0e0f");
        for (key, sealed) in [
            (
                &bytes::<16>("2b7e151628aed2a6abf7158809cf4f3c")[..],
                "7649abac8119b246cee98e9b12e9197d5086cb9b507219ee95db113a917678b2",
            ),
            (
                &bytes::<24>("8e73b0f7da0e6452c810f32b809079e562f8ead2522c6b7b"),
                "4f021db243bc633d7178183a9fa071e8b4d9ada9ad7dedf4e5e738763f69145a",
            ),
            (
                &bytes::<32>("603deb1015ca71be2b73aef0857d77811f352c073b6108d72d9810a30914dff4"),
                "f58c4c04d6e5f1ba779eabfb5f7bfbd69cfc4e967edb808d679f777bc6702c7d",
            ),
        ] {
            let found = run(&Mode::Cbc { iv }, key, &bytes::<32>(PLAIN), true).unwrap();
            assert_eq!(hex(&found[..32]), sealed);
            assert_eq!(found.len(), 48, "a whole block of padding");
            assert_eq!(
                run(&Mode::Cbc { iv }, key, &found, false).unwrap(),
                bytes::<32>(PLAIN)
            );
            assert!(run(&Mode::Cbc { iv }, key, &found[..47], false).is_err());
        }
    }

    /// NIST SP 800-38A, F.5.1.
    #[test]
    fn published_vectors_of_ctr() {
        let key: [u8; 16] = bytes("2b7e151628aed2a6abf7158809cf4f3c");
        let counter = bytes("f0f1f2f3f4f5f6f7f8f9fafbfcfdfeff");
        for length in [1, 8, 64, 128] {
            let mode = Mode::Ctr { counter, length };
            let found = run(&mode, &key, &bytes::<32>(PLAIN), true).unwrap();
            assert_eq!(
                hex(&found[..16]),
                "874d6191b620e3261bef6864990db6ce",
                "{length}"
            );
            // The counter ends in ff: the second block differs where few bits count.
            let carried = hex(&found[16..]) == "9806f66b7970fdff8617187bb9fffdff";
            assert_eq!(carried, length > 8, "{length}");
        }
    }

    #[test]
    fn a_counter_wraps_within_its_bits_and_does_not_repeat() {
        let key = [7; 16];
        let mut counter = [9; 16];
        counter[15] = 0xfe;
        let zeros = [0; 64];
        let stream =
            |counter, length, data: &[u8]| run(&Mode::Ctr { counter, length }, &key, data, true);
        let found = stream(counter, 8, &zeros).unwrap();
        let mut wrapped = counter;
        wrapped[15] = 0;
        assert_eq!(found[32..], stream(wrapped, 8, &zeros).unwrap()[..32]);
        assert!(stream(counter, 2, &zeros).is_ok());
        assert!(stream(counter, 1, &zeros).is_err());
        assert!(stream(counter, 2, &[0; 65]).is_err());
    }

    /// Test cases 4 and 16 of the specification of GCM, and shorter tags.
    #[test]
    fn published_vectors_of_gcm() {
        let plain: [u8; 60] = bytes(
            "d9313225f88406e5a55909c5aff5269a86a7a9531534f7da2e4c303d8a318a721c3c0c95956809532fcf0e2449a6b525b16aedf5aa0de657ba637b39",
        );
        let mode = |tag_bits| Mode::Gcm {
            iv: bytes("cafebabefacedbaddecaf888"),
            additional: bytes::<20>("feedfacedeadbeeffeedfacedeadbeefabaddad2").to_vec(),
            tag_bits,
        };
        for (key, tag) in [
            (
                &bytes::<16>("feffe9928665731c6d6a8f9467308308")[..],
                "5bc94fbc3221a5db94fae95ae7121a47",
            ),
            (
                &bytes::<32>("feffe9928665731c6d6a8f9467308308feffe9928665731c6d6a8f9467308308"),
                "76fc6ece0f4e1768cddf8853bb2d551b",
            ),
        ] {
            for tag_bits in [96, 104, 112, 120, 128] {
                let sealed = run(&mode(tag_bits), key, &plain, true).unwrap();
                let length = tag_bits as usize / 8;
                assert_eq!(hex(&sealed[60..]), tag[..2 * length], "{tag_bits}");
                assert_eq!(run(&mode(tag_bits), key, &sealed, false).unwrap(), plain);
                let mut forged = sealed;
                forged[60] ^= 1;
                assert!(run(&mode(tag_bits), key, &forged, false).is_err());
            }
        }
    }
}
