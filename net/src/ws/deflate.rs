//! Packed messages (RFC 7692), each for itself.
//!
//! The state of a packer has hundreds of kilobytes. As no message needs that of the one before,
//! all sockets of a thread share one.

use std::cell::RefCell;

use flate2::{Compress, Compression, Decompress, FlushCompress, FlushDecompress, Status};

use super::close::Error;

/// What a packed message ends with, and which is not sent (RFC 7692, 7.2.1).
const TAIL: [u8; 4] = [0, 0, 0xff, 0xff];

/// By how much a buffer grows at least, in bytes.
const STEP: usize = 4096;

thread_local! {
    static PACKER: RefCell<Option<Compress>> = const { RefCell::new(None) };
    static UNPACKER: RefCell<Option<Decompress>> = const { RefCell::new(None) };
}

/// Packs a message.
pub(super) fn pack(data: &[u8]) -> Vec<u8> {
    PACKER.with_borrow_mut(|packer| {
        let packer = packer.get_or_insert_with(|| Compress::new(Compression::fast(), false));
        packer.reset();
        let mut packed = Vec::with_capacity(data.len() / 2 + 64);
        loop {
            let taken = packer.total_in() as usize;
            // Into memory, nothing fails: there is always room.
            let _ = packer.compress_vec(&data[taken..], &mut packed, FlushCompress::Sync);
            if packer.total_in() as usize == data.len() && packed.len() < packed.capacity() {
                break;
            }
            packed.reserve(STEP);
        }
        if packed.ends_with(&TAIL) {
            packed.truncate(packed.len() - TAIL.len());
        }
        packed
    })
}

/// Unpacks a message of at most so many bytes.
///
/// # Errors
/// When it is larger, or not packed.
pub(super) fn unpack(packed: &[u8], most: usize) -> Result<Vec<u8>, Error> {
    UNPACKER.with_borrow_mut(|unpacker| {
        let unpacker = unpacker.get_or_insert_with(|| Decompress::new(false));
        unpacker.reset(false);
        let mut data = Vec::with_capacity((packed.len() * 3).min(most) + 64);
        for part in [packed, &TAIL] {
            let begun = unpacker.total_in();
            loop {
                let (taken, had) = ((unpacker.total_in() - begun) as usize, data.len());
                if had == data.capacity() {
                    data.reserve(had.max(STEP).min(most + 1 - had));
                }
                let status = unpacker
                    .decompress_vec(&part[taken..], &mut data, FlushDecompress::Sync)
                    .map_err(|_| Error::Deflate)?;
                if data.len() > most {
                    return Err(Error::TooLarge);
                }
                if status == Status::StreamEnd {
                    return Ok(data);
                }
                let now = (unpacker.total_in() - begun) as usize;
                if (now, data.len()) == (taken, had) {
                    // There was room, so nothing more comes of this part.
                    if now < part.len() {
                        return Err(Error::Deflate);
                    }
                    break;
                }
            }
        }
        Ok(data)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn messages_come_out_as_they_went_in() {
        let noise: Vec<u8> = (0..200_000_u32)
            .map(|n| (n.wrapping_mul(2_654_435_761) >> 24) as u8)
            .collect();
        let zeros = vec![0; 1 << 20];
        for message in [&b""[..], b"a", b"Hello", &noise, &zeros] {
            let packed = pack(message);
            assert!(!packed.ends_with(&TAIL));
            let back = unpack(&packed, message.len()).expect("it is packed");
            assert!(back == message, "{} bytes", message.len());
        }
        assert!(pack(&zeros).len() < 10_000);
    }

    #[test]
    fn the_examples_of_the_standard_are_understood() {
        // RFC 7692, 7.2.3: one block, no compression, and a final block.
        for packed in [
            &[0xf2, 0x48, 0xcd, 0xc9, 0xc9, 0x07, 0x00][..],
            &[
                0x00, 0x05, 0x00, 0xfa, 0xff, 0x48, 0x65, 0x6c, 0x6c, 0x6f, 0x00,
            ],
            &[0xf3, 0x48, 0xcd, 0xc9, 0xc9, 0x07, 0x00, 0x00],
            &[
                0xf2, 0x48, 0x05, 0x00, 0x00, 0x00, 0xff, 0xff, 0xca, 0xc9, 0xc9, 0x07, 0x00,
            ],
        ] {
            assert_eq!(
                unpack(packed, 5).expect("it is packed"),
                b"Hello",
                "{packed:?}"
            );
        }
        assert_eq!(unpack(&[0x00], 0).expect("nothing"), b"");
    }

    #[test]
    fn bombs_and_garbage_are_errors() {
        let bomb = pack(&vec![0; 10 << 20]);
        assert!(matches!(unpack(&bomb, 1 << 20), Err(Error::TooLarge)));
        assert!(matches!(unpack(b"\xff\xff\xff", 100), Err(Error::Deflate)));
        // And the next one is not disturbed by them.
        assert_eq!(unpack(&pack(b"next"), 4).expect("it is packed"), b"next");
    }
}
