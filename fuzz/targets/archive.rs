//! Archives: the input is a tar file, of which the checksums are put right. What can be read can be
//! written and read again.

#![no_main]

use libfuzzer_sys::fuzz_target;
use volley_fuzz::limited;

// The program is no library; this file of it stands alone.
#[allow(dead_code, unreachable_pub)]
#[path = "../../runner/src/archive.rs"]
mod archive;

use archive::{Archive, Contents};

/// Where a header has its checksum, and what marks a header.
const CHECKSUM: std::ops::Range<usize> = 148..156;
const MARK: (usize, &[u8]) = (257, b"ustar");

/// Puts the sum of its bytes into each header: no random change does.
fn with_checksums(input: &[u8]) -> Vec<u8> {
    let mut bytes = input.to_vec();
    for block in bytes.chunks_exact_mut(512) {
        if block[MARK.0..].starts_with(MARK.1) {
            block[CHECKSUM].fill(b' ');
            let sum: u32 = block.iter().map(|byte| u32::from(*byte)).sum();
            block[CHECKSUM].copy_from_slice(format!("{sum:06o}\0 ").as_bytes());
        }
    }
    bytes
}

fuzz_target!(|input: &[u8]| limited(64 << 20, || {
    let read = match Archive::read(&with_checksums(input)) {
        Ok(read) => read,
        Err(text) => return assert!(!text.is_empty()),
    };
    let contents = Contents {
        options: &read.options,
        filename: &read.filename,
        pwd: "file:///dir",
        env: Some(&read.env),
        compatibility_mode: "extended",
        script: &read.data,
        files: &read.files,
        modified: 0,
    };
    let again = Archive::read(&contents.to_tar());
    // Not every name that can be read can be written: that of another scheme, or of no file.
    if let Ok(again) = again {
        assert_eq!((again.data, again.env), (read.data, read.env));
    }
}));
