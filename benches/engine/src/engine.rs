//! The engine as the program uses it, and what differs between its versions.

use std::{cell::Cell, rc::Rc, time::Duration};

use rquickjs::{
    Context, Ctx, Module, Result, Runtime,
    allocator::{Allocator, RustAllocator},
    context::intrinsic,
    module::Declared,
    qjs,
};

/// The intrinsics of a VU (scripting/src/vu.rs).
type Volley = (
    intrinsic::Date,
    intrinsic::Eval,
    intrinsic::RegExpCompiler,
    intrinsic::RegExp,
    intrinsic::Json,
    intrinsic::Proxy,
    intrinsic::MapSet,
    intrinsic::TypedArrays,
    intrinsic::Promise,
    BigInt,
);
#[cfg(bigint_intrinsic)]
type BigInt = intrinsic::BigInt;
#[cfg(not(bigint_intrinsic))]
type BigInt = ();

/// The allocator of a VU: mimalloc itself, without the size header of rquickjs's own adapter.
struct Mimalloc;

// SAFETY: every function passes on to one allocator, whose blocks are aligned to 16 bytes.
unsafe impl Allocator for Mimalloc {
    fn alloc(&mut self, size: usize) -> *mut u8 {
        // SAFETY: any size may be asked for.
        unsafe { libmimalloc_sys::mi_malloc(size).cast() }
    }
    fn calloc(&mut self, count: usize, size: usize) -> *mut u8 {
        // SAFETY: any size may be asked for.
        unsafe { libmimalloc_sys::mi_calloc(count, size).cast() }
    }
    unsafe fn dealloc(&mut self, ptr: *mut u8) {
        // SAFETY: a block of ours.
        unsafe { libmimalloc_sys::mi_free(ptr.cast()) }
    }
    unsafe fn realloc(&mut self, ptr: *mut u8, new_size: usize) -> *mut u8 {
        // SAFETY: a block of ours.
        unsafe { libmimalloc_sys::mi_realloc(ptr.cast(), new_size).cast() }
    }
    unsafe fn usable_size(ptr: *mut u8) -> usize {
        // SAFETY: a block of ours.
        unsafe { libmimalloc_sys::mi_usable_size(ptr.cast()) }
    }
}

thread_local! {
    /// Allocator calls and bytes asked for, when a runtime was made with `counting`.
    static CALLS: Cell<usize> = const { Cell::new(0) };
    static ASKED: Cell<usize> = const { Cell::new(0) };
}

/// Counts calls on the way to mimalloc.
struct Counting;

// SAFETY: as for `Mimalloc`.
unsafe impl Allocator for Counting {
    fn alloc(&mut self, size: usize) -> *mut u8 {
        CALLS.set(CALLS.get() + 1);
        ASKED.set(ASKED.get() + size);
        Mimalloc.alloc(size)
    }
    fn calloc(&mut self, count: usize, size: usize) -> *mut u8 {
        CALLS.set(CALLS.get() + 1);
        ASKED.set(ASKED.get() + size * count);
        Mimalloc.calloc(count, size)
    }
    unsafe fn dealloc(&mut self, ptr: *mut u8) {
        // SAFETY: passed on.
        unsafe { Mimalloc.dealloc(ptr) }
    }
    unsafe fn realloc(&mut self, ptr: *mut u8, new_size: usize) -> *mut u8 {
        CALLS.set(CALLS.get() + 1);
        // SAFETY: passed on.
        unsafe { Mimalloc.realloc(ptr, new_size) }
    }
    unsafe fn usable_size(ptr: *mut u8) -> usize {
        // SAFETY: passed on.
        unsafe { Mimalloc::usable_size(ptr) }
    }
}

/// A runtime on the named allocator.
pub fn runtime(alloc: &str) -> Runtime {
    match alloc {
        "libc" => Runtime::new(),
        "rust" => Runtime::new_with_alloc(RustAllocator),
        "mimalloc" => Runtime::new_with_alloc(Mimalloc),
        "counting" => Runtime::new_with_alloc(Counting),
        other => panic!("no allocator {other}"),
    }
    .expect("memory for a runtime")
}

/// A context with the named set of intrinsics.
pub fn context(runtime: &Runtime, intrinsics: &str) -> Context {
    match intrinsics {
        "full" => Context::full(runtime),
        "volley" => Context::custom::<Volley>(runtime),
        other => panic!("no intrinsics {other}"),
    }
    .expect("memory for a context")
}

/// Compiles a module to bytecode. `strip` leaves the source text out and keeps positions, where
/// the version can do that: 0.9 cannot.
pub fn compile(ctx: &Ctx<'_>, name: &str, source: &str, strip: bool) -> Result<Vec<u8>> {
    let module = Module::declare(ctx.clone(), name, source)?;
    #[cfg(write_options)]
    {
        module.write(rquickjs::module::WriteOptions {
            strip_source: strip,
            ..Default::default()
        })
    }
    #[cfg(not(write_options))]
    {
        let _ = strip;
        module.write(false)
    }
}

/// Declares a module from what [`compile`] made.
pub fn load<'js>(ctx: &Ctx<'js>, code: &[u8]) -> Result<Module<'js, Declared>> {
    // SAFETY: the bytes come from `compile` in this process, by the same engine.
    unsafe { Module::load(ctx.clone(), code) }
}

/// Runs jobs until none is left. Not with `Runtime::execute_pending_job`, which before 0.12 frees
/// the context once too often when a job throws.
pub fn drain(context: &Context) {
    context.with(|ctx| while ctx.execute_pending_job() {});
}

pub fn version() {
    println!("rquickjs\t{}", env!("RQUICKJS_VERSION"));
    println!("engine\t{}", quickjs());
    CALLS.set(0);
    ASKED.set(0);
    let runtime = runtime("counting");
    let context = context(&runtime, "volley");
    println!("allocator calls per runtime\t{}", CALLS.get());
    println!("bytes asked per runtime\t{}", ASKED.get());
    // With the arenas of QuickJS-ng 0.16 a runtime asks for some dozens of 4 KB pieces, without
    // them for more than a thousand small ones.
    println!("arenas\t{}", if CALLS.get() < 500 { "yes" } else { "no" });
    drop(context);
}

/// CPU time (user + system) of this thread.
pub fn cpu() -> Duration {
    let mut time = libc::timespec {
        tv_sec: 0,
        tv_nsec: 0,
    };
    // SAFETY: writes one timespec.
    unsafe { libc::clock_gettime(libc::CLOCK_THREAD_CPUTIME_ID, &mut time) };
    Duration::new(time.tv_sec as u64, time.tv_nsec as u32)
}

/// The search of scripting/src/engine.rs for the word that counts down to the next poll.
pub fn poll_counter() {
    for alloc in ["libc", "mimalloc"] {
        for intrinsics in ["full", "volley"] {
            let runtime = runtime(alloc);
            let context = context(&runtime, intrinsics);
            let polls = Rc::new(Cell::new(0));
            let seen = polls.clone();
            runtime.set_interrupt_handler(Some(Box::new(move || {
                seen.set(seen.get() + 1);
                false
            })));
            context.with(|ctx| {
                let address = ctx.as_raw().as_ptr().cast::<u8>();
                // SAFETY: the block of a context, from that allocator. In 0.16 the block starts a
                // header of 8 bytes earlier, and is larger than an arena's blocks.
                let bytes = unsafe {
                    let start = address.sub(if block_headers() { 8 } else { 0 });
                    let size = if alloc == "libc" {
                        libc::malloc_usable_size(start.cast())
                    } else {
                        libmimalloc_sys::mi_usable_size(start.cast())
                    };
                    size - (address as usize - start as usize)
                };
                let words = bytes.min(4096) / 4;
                let read = || -> Vec<i32> {
                    (0..words)
                        // SAFETY: inside the block.
                        .map(|i| unsafe { address.add(i * 4).cast::<i32>().read_volatile() })
                        .collect()
                };
                ctx.eval::<(), _>("globalThis.__f = function (n) { for (let i = 0; i < n; i++); }")
                    .unwrap();
                let spin: rquickjs::Function<'_> = ctx.globals().get("__f").unwrap();
                let mut candidates: Vec<usize> = (0..words).collect();
                for turns in [37, 211, 5, 900] {
                    let before = read();
                    spin.call::<_, ()>((turns,)).unwrap();
                    let after = read();
                    candidates.retain(|&i| {
                        let fell = before[i].wrapping_sub(after[i]);
                        before[i] > 0
                            && before[i] <= 10_000
                            && fell >= turns
                            && fell <= 2 * turns + 8
                    });
                }
                let places: Vec<usize> = candidates.iter().map(|i| i * 4).collect();
                println!("poll counter, {alloc}, {intrinsics}\t{places:?} of {bytes} bytes");
                // Whether writing 1 there makes the handler run at once.
                let [place] = places[..] else { return };
                polls.set(0);
                for _ in 0..50 {
                    // SAFETY: the word found above, in a live context.
                    unsafe { address.add(place).cast::<i32>().write_volatile(1) };
                    spin.call::<_, ()>((3,)).unwrap();
                }
                println!(
                    "polls after 50 writes, {alloc}, {intrinsics}\t{}",
                    polls.get()
                );
            });
        }
    }
}

/// The version of QuickJS-ng.
fn quickjs() -> String {
    // SAFETY: the engine returns a constant string.
    let text = unsafe { std::ffi::CStr::from_ptr(qjs::JS_GetVersion()) };
    text.to_string_lossy().into_owned()
}

/// Whether the engine has the block headers of QuickJS-ng 0.16.
fn block_headers() -> bool {
    let minor = quickjs()
        .split('.')
        .nth(1)
        .and_then(|m| m.parse::<u32>().ok());
    minor.is_some_and(|minor| minor >= 16)
}
