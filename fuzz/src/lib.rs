//! What all targets share: a limit of the memory that one input may take, and of what stays behind.
//!
//! libFuzzer counts allocations only where a sanitizer hooks them, and looks at the size of the
//! process once a second. The allocator here counts each byte of Rust's heap.

#![allow(unsafe_code)]

use std::{
    alloc::{GlobalAlloc, Layout, System},
    sync::atomic::{AtomicUsize, Ordering::Relaxed},
};

/// Bytes in use.
static LIVE: AtomicUsize = AtomicUsize::new(0);
/// How many may be.
static MOST: AtomicUsize = AtomicUsize::new(usize::MAX);
/// How many were after the inputs that filled the caches.
static USUAL: AtomicUsize = AtomicUsize::new(0);
/// How many inputs there have been.
static INPUTS: AtomicUsize = AtomicUsize::new(0);

/// Inputs after which every cache is taken to be full.
const WARM: usize = 2000;
/// How much more than after those may be in use between two inputs, in bytes.
const GROWTH: usize = 32 << 20;

/// The system's allocator, counting.
struct Counting;

#[global_allocator]
static ALLOCATOR: Counting = Counting;

// SAFETY: every call is the system allocator's own, with the arguments as they came.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        more(layout.size());
        // SAFETY: as the caller promises.
        unsafe { System.alloc(layout) }
    }

    unsafe fn alloc_zeroed(&self, layout: Layout) -> *mut u8 {
        more(layout.size());
        // SAFETY: as the caller promises.
        unsafe { System.alloc_zeroed(layout) }
    }

    unsafe fn dealloc(&self, at: *mut u8, layout: Layout) {
        LIVE.fetch_sub(layout.size(), Relaxed);
        // SAFETY: as the caller promises.
        unsafe { System.dealloc(at, layout) }
    }

    unsafe fn realloc(&self, at: *mut u8, layout: Layout, size: usize) -> *mut u8 {
        more(size);
        LIVE.fetch_sub(layout.size(), Relaxed);
        // SAFETY: as the caller promises.
        unsafe { System.realloc(at, layout, size) }
    }
}

fn more(size: usize) {
    let live = LIVE.fetch_add(size, Relaxed) + size;
    if live > MOST.load(Relaxed) {
        // What comes now allocates too.
        let most = MOST.swap(usize::MAX, Relaxed);
        eprintln!("the input takes more memory than it may: {live} bytes are in use, of {most}");
        // Not a panic: an allocator must not unwind.
        std::process::abort();
    }
}

/// Runs one input, which may take this many bytes of memory and must give them back.
///
/// # Panics
/// When memory that inputs have left behind adds up; ends the process when one takes more.
pub fn limited<T>(bytes: usize, run: impl FnOnce() -> T) -> T {
    let before = LIVE.load(Relaxed);
    MOST.store(before + bytes, Relaxed);
    let result = run();
    MOST.store(usize::MAX, Relaxed);
    let number = INPUTS.fetch_add(1, Relaxed);
    if number == WARM {
        USUAL.store(before, Relaxed);
    } else if number > WARM {
        let grown = before.saturating_sub(USUAL.load(Relaxed));
        assert!(grown < GROWTH, "inputs have left {grown} bytes behind");
    }
    result
}

/// The first line of an input as text, and all that follows it.
pub fn first_line(input: &[u8]) -> (&str, &[u8]) {
    let end = input.iter().position(|byte| *byte == b'\n');
    let (line, rest) = input.split_at(end.unwrap_or(input.len()));
    let line = std::str::from_utf8(line).unwrap_or_default();
    (line, rest.strip_prefix(b"\n").unwrap_or(rest))
}
