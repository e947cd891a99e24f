//! The unsafe floor of the crate: stacks, the coroutine that runs a VU, preemption, bytecode, lazy objects.
//!
//! k6's API blocks (`http.get` returns the response), so each VU runs on a stackful coroutine: a
//! blocking native polls its future right here and, while it is pending, switches back to the
//! worker, which polls other VUs until the waker fires. Everything that needs `unsafe` lives in
//! this file, each block with its reason; the rest of the crate is safe Rust.
//!
//! Invariants:
//! - A suspended coroutine is never dropped: unwinding through the engine's C frames is undefined.
//!   It is resumed with its stop flag set until it ends, or leaked when the process exits.
//! - Any call into the engine may suspend. No `RefCell` borrow, guard or lock lives across one.
#![allow(unsafe_code)]

use std::{
    any::Any,
    cell::{Cell, RefCell},
    ffi::{CStr, CString},
    future::{Future, poll_fn},
    mem::ManuallyDrop,
    pin::pin,
    ptr::{self, NonNull},
    rc::Rc,
    sync::{
        Arc, Mutex, OnceLock,
        atomic::{AtomicBool, AtomicPtr, AtomicU64, Ordering},
    },
    task::{Context as TaskContext, Poll, Waker},
    time::{Duration, Instant},
};

use corosensei::{
    Coroutine, CoroutineResult, Yielder,
    stack::{Stack, StackPointer},
};
use rquickjs::{
    Ctx, Error, Module, Object, Result as JsResult, Value, allocator::Allocator, module::Declared,
    qjs,
};

/// Address space reserved for the stack of one VU. Only touched pages cost memory.
///
/// A JS frame takes up to a kilobyte of C stack and scripts may recurse 50,000 deep.
pub(crate) const STACK_BYTES: usize = 64 << 20;
/// How much of it the engine may use; what is left below is the red zone for native code, whose
/// depth does not depend on the script.
const JS_STACK_BYTES: usize = 56 << 20;
/// Stacks per mapping: few mappings, so that tens of thousands of VUs stay below
/// `vm.max_map_count` (65,530 by default).
const STACKS_PER_SLAB: usize = 64;
/// How long a VU may run before it gives way to its neighbours.
const SLICE: Duration = Duration::from_micros(150);
/// Stack kept resident between iterations; deeper pages are given back.
const RESIDENT_STACK: usize = 256 << 10;
/// Waits from this long on give back all the stack below them: a script's frames are small, those
/// of an HTTP exchange take 25 KB, and a VU that thinks for so long can afford to touch them anew.
const LONG_WAIT: Duration = Duration::from_millis(500);
/// What is left below the frame that gives stack back, for the system call that does it.
const MARGIN: usize = 1 << 10;

/// A VU was told to stop: the blocking call returns at once and the script must not go on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Stopped;

// === Stacks ===

/// A stack cut from a slab. Given back to the free list when dropped.
struct SlabStack {
    base: usize,
}

/// Free stacks of the process, by their base (highest) address.
static FREE_STACKS: Mutex<Vec<usize>> = Mutex::new(Vec::new());

impl SlabStack {
    fn take() -> std::io::Result<Self> {
        let mut free = FREE_STACKS.lock().unwrap_or_else(|e| e.into_inner());
        if free.is_empty() {
            // One more stack's worth at the bottom stays unmapped as the guard of the slab.
            let bytes = STACK_BYTES * (STACKS_PER_SLAB + 1);
            // SAFETY: a fresh anonymous mapping at an address of the kernel's choice.
            let address = unsafe {
                libc::mmap(
                    ptr::null_mut(),
                    bytes,
                    libc::PROT_NONE,
                    libc::MAP_PRIVATE | libc::MAP_ANONYMOUS | libc::MAP_NORESERVE,
                    -1,
                    0,
                )
            };
            if address == libc::MAP_FAILED {
                return Err(std::io::Error::last_os_error());
            }
            // SAFETY: the range lies inside the mapping just made.
            let usable = unsafe {
                let start = address.cast::<u8>().add(STACK_BYTES);
                libc::mprotect(
                    start.cast(),
                    STACK_BYTES * STACKS_PER_SLAB,
                    libc::PROT_READ | libc::PROT_WRITE,
                )
            };
            if usable != 0 {
                return Err(std::io::Error::last_os_error());
            }
            let bottom = address as usize + STACK_BYTES;
            free.extend(
                (1..=STACKS_PER_SLAB)
                    .rev()
                    .map(|n| bottom + n * STACK_BYTES),
            );
        }
        let base = free.pop().expect("a slab was just added");
        Ok(Self { base })
    }

    /// Gives the pages below `keep` bytes from the top back to the kernel.
    fn trim(base: usize, keep: usize) {
        let bottom = base - STACK_BYTES;
        // SAFETY: the range is part of this stack and below everything in use: callers trim only
        // while the coroutine is suspended higher up, or ended.
        unsafe {
            libc::madvise(
                bottom as *mut libc::c_void,
                STACK_BYTES - keep,
                libc::MADV_DONTNEED,
            );
        }
    }
}

impl Drop for SlabStack {
    fn drop(&mut self) {
        Self::trim(self.base, 0);
        FREE_STACKS
            .lock()
            .unwrap_or_else(|e| e.into_inner())
            .push(self.base);
    }
}

// SAFETY: base and limit delimit STACK_BYTES of mapped, page-aligned memory owned by this value.
// There is no guard page between neighbours of a slab (it would cost a mapping per VU); instead
// the engine checks its own limit, JS_STACK_BYTES, at every call, which leaves a red zone of 8 MB
// that native code, whose depth the script cannot choose, never uses up. The test
// `recursion_ends_in_an_error` runs into that limit.
unsafe impl Stack for SlabStack {
    fn base(&self) -> StackPointer {
        StackPointer::new(self.base).expect("a mapping is not at zero")
    }

    fn limit(&self) -> StackPointer {
        StackPointer::new(self.base - STACK_BYTES).expect("a mapping is not at zero")
    }
}

/// Process-wide settings the stacks rely on; call once at start.
///
/// Transparent huge pages are switched off: with them each touched stack would cost 2 MB.
pub fn prepare_process() {
    // SAFETY: prctl with constant arguments; a refusal only costs memory.
    unsafe {
        libc::prctl(libc::PR_SET_THP_DISABLE, 1, 0, 0, 0);
    }
    poll_counter_offset();
}

// === The coroutine ===

/// Why the coroutine gave control back.
enum Yielded {
    /// A future is pending; the waker of the current task will be called.
    Pending,
    /// The VU finished its command and waits for the next.
    Idle,
}

/// The side of a coroutine that code running *on* it uses. Cheap to share inside the VU.
pub(crate) struct Fiber {
    yielder: Cell<*const Yielder<(), Yielded>>,
    task: Cell<*mut TaskContext<'static>>,
    waker: RefCell<Option<Waker>>,
    stop: Cell<bool>,
    slice_start: Cell<Instant>,
    poll_counter: Cell<*mut i32>,
    slot: Arc<WorkerSlot>,
    /// The lowest address of the stack.
    bottom: Cell<usize>,
}

impl Fiber {
    pub(crate) fn new(slot: Arc<WorkerSlot>) -> Rc<Self> {
        Rc::new(Self {
            yielder: Cell::new(ptr::null()),
            task: Cell::new(ptr::null_mut()),
            waker: RefCell::new(None),
            stop: Cell::new(false),
            slice_start: Cell::new(Instant::now()),
            poll_counter: Cell::new(ptr::null_mut()),
            slot,
            bottom: Cell::new(0),
        })
    }

    /// Blocks the VU, not its worker, until `future` is done or the VU is told to stop.
    ///
    /// Must be called on the coroutine. On a stop the future is dropped, which cancels it.
    pub(crate) fn wait<F: Future>(&self, future: F) -> Result<F::Output, Stopped> {
        let mut future = pin!(future);
        loop {
            if self.stop.get() {
                return Err(Stopped);
            }
            if let Poll::Ready(value) = self.poll_here(|task| future.as_mut().poll(task)) {
                return Ok(value);
            }
            self.suspend(Yielded::Pending);
        }
    }

    /// Blocks the VU for a time, or until it is told to stop.
    pub(crate) fn pause(&self, until: tokio::time::Instant) -> Result<(), Stopped> {
        if until.saturating_duration_since(tokio::time::Instant::now()) >= LONG_WAIT {
            self.release_stack();
        }
        self.wait(tokio::time::sleep_until(until))
    }

    /// Blocks the VU until `poll` has something, until a time, or until it is told to stop. When
    /// that takes long, pages of the stack go back to the kernel meanwhile.
    pub(crate) fn wait_long<T>(
        &self,
        until: Option<Instant>,
        mut poll: impl FnMut(&mut TaskContext<'_>) -> Poll<T>,
    ) -> Result<Option<T>, Stopped> {
        // Far away is as good as never.
        let far = || Instant::now() + Duration::from_secs(86400 * 365);
        let mut release = Some(Instant::now() + LONG_WAIT);
        loop {
            let next = until.unwrap_or_else(far).min(release.unwrap_or_else(far));
            let mut timer = pin!(tokio::time::sleep_until(next.into()));
            let either = poll_fn(|task| match poll(task) {
                Poll::Ready(found) => Poll::Ready(Some(found)),
                Poll::Pending => timer.as_mut().poll(task).map(|()| None),
            });
            let found = self.wait(either)?;
            if found.is_some() || until == Some(next) {
                return Ok(found);
            }
            release = None;
            self.release_stack();
        }
    }

    /// Gives the pages of the stack that nothing uses now back to the kernel. Must be called on
    /// the coroutine.
    #[inline(never)]
    pub(crate) fn release_stack(&self) {
        let here = 0u8;
        let bottom = self.bottom.get();
        let end = (ptr::from_ref(&here) as usize).saturating_sub(MARGIN) & !4095;
        if bottom == 0 || end <= bottom {
            return;
        }
        // SAFETY: `bottom` is the lowest address of the stack that this code runs on, and stacks
        // grow down: what is more than MARGIN below a local variable belongs to calls that have
        // returned. Touched again, the pages read as zero.
        unsafe {
            libc::madvise(
                bottom as *mut libc::c_void,
                end - bottom,
                libc::MADV_DONTNEED,
            );
        }
    }

    fn poll_here<T>(&self, poll: impl FnOnce(&mut TaskContext<'_>) -> T) -> T {
        let task = self.task.get();
        assert!(!task.is_null(), "a blocking call outside of a VU");
        // SAFETY: set by `Strand::poll` to the context of the task that is resuming this
        // coroutine, which outlives the resume; cleared when the resume returns.
        poll(unsafe { &mut *task })
    }

    fn suspend(&self, why: Yielded) {
        // What took long may have gone deep, and this wait may be one of thousands at a time.
        if self.slice_over() {
            self.release_stack();
        }
        let yielder = self.yielder.get();
        self.slot.leave();
        // SAFETY: the yielder lives at the bottom of the coroutine's stack for as long as the
        // coroutine, and this code runs on that coroutine.
        unsafe { &*yielder }.suspend(why);
        self.slice_start.set(Instant::now());
        self.slot.enter(self.poll_counter.get());
    }

    /// Waits for the next command; returns when the strand is polled again.
    pub(crate) fn idle(&self) {
        self.suspend(Yielded::Idle);
    }

    /// What the engine's interrupt handler asks: gives way when the slice is over and says
    /// whether the script has to end.
    pub(crate) fn interrupt(&self) -> bool {
        if self.stop.get() {
            return true;
        }
        if self.slice_over() {
            // A yield that also lets the worker look at its sockets, so that ready neighbours go first.
            let _ = self.wait(tokio::task::yield_now());
        }
        self.stop.get()
    }

    pub(crate) fn slice_over(&self) -> bool {
        self.slice_start.get().elapsed() >= SLICE
    }

    pub(crate) fn is_stopped(&self) -> bool {
        self.stop.get()
    }

    /// Sets the sticky stop flag and wakes the VU, so that it notices.
    pub(crate) fn stop(&self) {
        self.stop.set(true);
        if let Some(waker) = self.waker.borrow().as_ref() {
            waker.wake_by_ref();
        }
    }

    pub(crate) fn clear_stop(&self) {
        self.stop.set(false);
    }

    /// Lets the watchdog make the engine poll early inside long builtins.
    pub(crate) fn watch(&self, ctx: &Ctx<'_>) {
        // SAFETY: a live context; rquickjs's own call takes more than 16 MB for "no limit".
        unsafe {
            let runtime = qjs::JS_GetRuntime(ctx.as_raw().as_ptr());
            qjs::JS_SetMaxStackSize(runtime, JS_STACK_BYTES as _);
        }
        if let Some(offset) = poll_counter_offset() {
            // SAFETY: the offset was found inside an allocation of the same type in this process.
            let counter = unsafe { ctx.as_raw().as_ptr().cast::<u8>().add(offset).cast::<i32>() };
            self.poll_counter.set(counter);
            self.slot.enter(counter);
        }
    }

    /// Makes the engine ask [`Self::interrupt`] at its next call or loop turn.
    pub(crate) fn poll_soon(&self) {
        let counter = self.poll_counter.get();
        if !counter.is_null() {
            // SAFETY: points into the live context of this VU; cleared before it is freed.
            unsafe { ptr::write_volatile(counter, 1) };
        }
    }

    /// Must be called before the context is freed.
    pub(crate) fn unwatch(&self) {
        self.poll_counter.set(ptr::null_mut());
        self.slot.retire();
    }
}

/// The coroutine of a VU, seen from its worker.
pub(crate) struct Strand {
    coroutine: ManuallyDrop<Coroutine<(), Yielded, (), SlabStack>>,
    fiber: Rc<Fiber>,
    base: usize,
}

impl Strand {
    /// Makes a coroutine that will run `body`; nothing runs before the first poll.
    ///
    /// # Errors
    /// When no address space is left for its stack.
    pub(crate) fn new(fiber: Rc<Fiber>, body: impl FnOnce() + 'static) -> std::io::Result<Self> {
        let stack = SlabStack::take()?;
        let base = stack.base;
        fiber.bottom.set(base - STACK_BYTES);
        let inner = fiber.clone();
        let coroutine = Coroutine::with_stack(stack, move |yielder: &Yielder<(), Yielded>, ()| {
            inner.yielder.set(yielder);
            inner.slice_start.set(Instant::now());
            body();
            inner.slot.leave();
        });
        Ok(Self {
            coroutine: ManuallyDrop::new(coroutine),
            fiber,
            base,
        })
    }

    /// Runs the VU until its command is done ([`Poll::Ready`]) or it waits for something.
    pub(crate) fn poll(&mut self, task: &mut TaskContext<'_>) -> Poll<()> {
        {
            let mut waker = self.fiber.waker.borrow_mut();
            if !waker.as_ref().is_some_and(|w| w.will_wake(task.waker())) {
                *waker = Some(task.waker().clone());
            }
        }
        self.fiber.task.set(ptr::from_mut(task).cast());
        let outcome = self.coroutine.resume(());
        self.fiber.task.set(ptr::null_mut());
        match outcome {
            CoroutineResult::Yield(Yielded::Pending) => Poll::Pending,
            CoroutineResult::Yield(Yielded::Idle) | CoroutineResult::Return(()) => Poll::Ready(()),
        }
    }

    /// Whether the body has returned.
    pub(crate) fn ended(&self) -> bool {
        self.coroutine.done()
    }

    /// Gives the pages of deep recursion back, if there was any. Only while the strand is idle.
    pub(crate) fn trim(&self) {
        let keep = RESIDENT_STACK;
        // Frames are smaller than a page, so whatever went deeper has touched this one.
        let probe = self.base - keep - 4096;
        let mut resident = 0u8;
        // SAFETY: asks about one page of our own stack; the vector has room for one byte.
        let known = unsafe { libc::mincore(probe as *mut libc::c_void, 4096, &mut resident) };
        if known == 0 && resident & 1 == 1 {
            SlabStack::trim(self.base, keep);
        }
    }
}

impl Drop for Strand {
    fn drop(&mut self) {
        if self.coroutine.done() || !self.coroutine.started() {
            // SAFETY: taken once, here; an ended or never started coroutine holds no C frames.
            unsafe { ManuallyDrop::drop(&mut self.coroutine) };
        }
        // Otherwise it is leaked on purpose: see the invariants above.
    }
}

// === Preemption inside long builtins ===

/// What the watchdog knows of one worker: where the engine's poll counter of the VU is that runs
/// there now, and since when.
pub struct WorkerSlot {
    counter: AtomicPtr<i32>,
    turn: AtomicU64,
    freeing: Mutex<()>,
}

impl WorkerSlot {
    /// A slot for a new worker thread, watched until it is dropped.
    pub fn register() -> Arc<Self> {
        let slot = Arc::new(Self {
            counter: AtomicPtr::new(ptr::null_mut()),
            turn: AtomicU64::new(0),
            freeing: Mutex::new(()),
        });
        watchdog()
            .lock()
            .unwrap_or_else(|e| e.into_inner())
            .push(Arc::downgrade(&slot));
        slot
    }

    fn enter(&self, counter: *mut i32) {
        self.turn.store(
            self.turn.load(Ordering::Relaxed).wrapping_add(1),
            Ordering::Relaxed,
        );
        self.counter.store(counter, Ordering::Release);
    }

    fn leave(&self) {
        self.counter.store(ptr::null_mut(), Ordering::Release);
    }

    fn retire(&self) {
        let _freeing = self.freeing.lock().unwrap_or_else(|e| e.into_inner());
        self.leave();
    }

    /// Makes the next poll of the VU that runs there due at once.
    fn poke(&self) {
        let _freeing = self.freeing.lock().unwrap_or_else(|e| e.into_inner());
        let counter = self.counter.load(Ordering::Acquire);
        if !counter.is_null() {
            // SAFETY: the pointer is into a live context: it is cleared under the same lock
            // before a context is freed. The engine decrements the word without
            // synchronisation; losing either write only moves the next poll.
            unsafe { ptr::write_volatile(counter, 1) };
        }
    }
}

type Watched = Mutex<Vec<std::sync::Weak<WorkerSlot>>>;

/// The watchdog thread: the engine polls every 10,000 back-edges, which inside heavy builtins
/// (`JSON.parse` of 20 KB in a loop) takes a second. Every 2 ms it makes the poll of a VU due
/// that still has the turn that it had at the last look.
fn watchdog() -> &'static Watched {
    static WATCHED: OnceLock<Watched> = OnceLock::new();
    static STARTED: AtomicBool = AtomicBool::new(false);
    let watched = WATCHED.get_or_init(|| Mutex::new(Vec::new()));
    if !STARTED.swap(true, Ordering::AcqRel) && poll_counter_offset().is_some() {
        let spawned = std::thread::Builder::new()
            .name("volley-watchdog".into())
            .stack_size(64 << 10)
            .spawn(move || {
                let mut seen: Vec<(usize, u64)> = Vec::new();
                loop {
                    std::thread::sleep(Duration::from_millis(2));
                    let slots: Vec<Arc<WorkerSlot>> = {
                        let mut list = watched.lock().unwrap_or_else(|e| e.into_inner());
                        list.retain(|slot| slot.strong_count() > 0);
                        list.iter().filter_map(std::sync::Weak::upgrade).collect()
                    };
                    let last = std::mem::take(&mut seen);
                    for slot in slots {
                        let running = !slot.counter.load(Ordering::Acquire).is_null();
                        let now = (
                            Arc::as_ptr(&slot) as usize,
                            slot.turn.load(Ordering::Relaxed),
                        );
                        if running && last.contains(&now) {
                            slot.poke();
                        }
                        seen.push(now);
                    }
                }
            });
        if spawned.is_err() {
            STARTED.store(false, Ordering::Release);
        }
    }
    watched
}

/// Where in the engine's context the poll counter is, found once by watching which word counts
/// down while a loop runs; `None` when the search is not unique, and then there is no poking.
pub(crate) fn poll_counter_offset() -> Option<usize> {
    static OFFSET: OnceLock<Option<usize>> = OnceLock::new();
    *OFFSET.get_or_init(find_poll_counter)
}

fn find_poll_counter() -> Option<usize> {
    let runtime = rquickjs::Runtime::new_with_alloc(Recorder).ok()?;
    let context = rquickjs::Context::full(&runtime).ok()?;
    let blocks = RECORDED.take();
    context.with(|ctx| {
        let address = ctx.as_raw().as_ptr().cast::<u8>();
        // From 0.16 on the engine keeps a header before the context, so the block that contains it
        // is looked for; the last, since earlier ones may have been freed there.
        let end = blocks
            .iter()
            .rev()
            .map(|&(start, size)| start..start + size)
            .find(|block| block.contains(&(address as usize)))?
            .end;
        let bytes = end - address as usize;
        let words = bytes.min(4096) / 4;
        let read = || -> Vec<i32> {
            (0..words)
                // SAFETY: inside the block that the engine asked for.
                .map(|i| unsafe { address.add(i * 4).cast::<i32>().read_volatile() })
                .collect()
        };
        ctx.eval::<(), _>("globalThis.__f = function (n) { for (let i = 0; i < n; i++); }")
            .ok()?;
        let spin: rquickjs::Function<'_> = ctx.globals().get("__f").ok()?;
        let mut candidates: Vec<usize> = (0..words).collect();
        for turns in [37, 211, 5, 900] {
            let before = read();
            spin.call::<_, ()>((turns,)).ok()?;
            let after = read();
            candidates.retain(|&i| {
                let fell = before[i].wrapping_sub(after[i]);
                before[i] > 0 && before[i] <= 10_000 && fell >= turns && fell <= 2 * turns + 8
            });
        }
        match candidates[..] {
            [only] => Some(only * 4),
            _ => None,
        }
    })
}

// === Bytecode and errors ===

/// Compiled modules of this process. Made only by [`compile`], so that nothing else is ever
/// handed to the engine's bytecode reader, which trusts its input.
#[derive(Debug, Clone)]
pub(crate) struct Bytecode(Arc<[u8]>);

/// Compiles a module and keeps its bytecode; source text is left out, positions are kept.
pub(crate) fn compile<'js>(
    ctx: &Ctx<'js>,
    name: &str,
    source: &[u8],
) -> JsResult<(Module<'js, Declared>, Bytecode)> {
    let module = Module::declare(ctx.clone(), name, source)?;
    let bytes = module.write(rquickjs::module::WriteOptions {
        strip_source: true,
        ..Default::default()
    })?;
    Ok((module, Bytecode(bytes.into())))
}

/// Declares a compiled module in a context.
pub(crate) fn load<'js>(ctx: &Ctx<'js>, code: &Bytecode) -> JsResult<Module<'js, Declared>> {
    // SAFETY: the bytes come from `compile` in this process, by the same engine.
    unsafe { Module::load(ctx.clone(), &code.0) }
}

/// A compiled CommonJS file: a function of `module` and `exports`. Made only by
/// [`compile_function`], for the same reason as [`Bytecode`], and kept apart from it, since the
/// engine reads the two differently.
#[derive(Debug, Clone)]
pub(crate) struct FunctionCode(Arc<[u8]>);

/// The parameter of a module that was made a function (`graph/leaf.rs`).
pub(crate) const LEAF_EXPORTS: &str = "__leaf_exports";
/// What stands around the text of a file that is a function, with its parameters in between. The
/// file begins on a line of its own, so that its columns are right, and [`WRAPPED_FROM`] makes that
/// line the first.
const WRAPPER: [&str; 3] = ["(function(", "){\"use strict\";\n\n", "\n})"];
/// The number of the wrapper's first line. Not 0, which the engine takes for 1.
const WRAPPED_FROM: i32 = -1;

/// Compiles a CommonJS file. Nothing of it runs.
pub(crate) fn compile_function(ctx: &Ctx<'_>, name: &str, source: &[u8]) -> JsResult<FunctionCode> {
    compile_wrapped(ctx, name, source, "module,exports")
}

/// Compiles a module that was made a function of the object it fills. Nothing of it runs.
pub(crate) fn compile_leaf(ctx: &Ctx<'_>, name: &str, source: &[u8]) -> JsResult<FunctionCode> {
    compile_wrapped(ctx, name, source, LEAF_EXPORTS)
}

fn compile_wrapped(
    ctx: &Ctx<'_>,
    name: &str,
    source: &[u8],
    parameters: &str,
) -> JsResult<FunctionCode> {
    let name = CString::new(name)?;
    let mut text = Vec::with_capacity(source.len() + 100);
    for part in [WRAPPER[0], parameters, WRAPPER[1]] {
        text.extend_from_slice(part.as_bytes());
    }
    match source.strip_prefix(b"#!") {
        // A first line for the shell is a comment.
        Some(rest) => {
            text.extend_from_slice(b"//");
            text.extend_from_slice(rest);
        }
        None => text.extend_from_slice(source),
    }
    text.extend_from_slice(WRAPPER[2].as_bytes());
    let length = text.len();
    text.push(0);
    let raw = ctx.as_raw().as_ptr();
    let mut options = qjs::JSEvalOptions {
        version: qjs::JS_EVAL_OPTIONS_VERSION as _,
        eval_flags: (qjs::JS_EVAL_TYPE_GLOBAL
            | qjs::JS_EVAL_FLAG_STRICT
            | qjs::JS_EVAL_FLAG_COMPILE_ONLY) as _,
        filename: name.as_ptr(),
        line_num: WRAPPED_FROM,
    };
    // SAFETY: a live context; the text ends with a zero that is not counted, as the engine wants
    // it; name and options outlive the call. The compiled value is written and then freed once.
    unsafe {
        let code = qjs::JS_Eval2(raw, text.as_ptr().cast(), length as _, &mut options);
        if qjs::JS_IsException(code) {
            return Err(Error::Exception);
        }
        let mut size = 0;
        let flags = qjs::JS_WRITE_OBJ_BYTECODE | qjs::JS_WRITE_OBJ_STRIP_SOURCE;
        let bytes = qjs::JS_WriteObject(raw, &mut size, code, flags as _);
        qjs::JS_FreeValue(raw, code);
        if bytes.is_null() {
            return Err(Error::Exception);
        }
        let copy = std::slice::from_raw_parts(bytes, size as usize).into();
        qjs::js_free(raw, bytes.cast());
        Ok(FunctionCode(copy))
    }
}

/// The function of a compiled CommonJS file in a context.
pub(crate) fn load_function<'js>(
    ctx: &Ctx<'js>,
    code: &FunctionCode,
) -> JsResult<rquickjs::Function<'js>> {
    let raw = ctx.as_raw().as_ptr();
    // SAFETY: the bytes come from `compile_function` in this process, by the same engine. Running
    // what was read takes it over, and gives a new reference that `Value` takes over.
    let value = unsafe {
        let flags = qjs::JS_READ_OBJ_BYTECODE;
        let code = qjs::JS_ReadObject(raw, code.0.as_ptr(), code.0.len() as _, flags as _);
        if qjs::JS_IsException(code) {
            return Err(Error::Exception);
        }
        let function = qjs::JS_EvalFunction(raw, code);
        if qjs::JS_IsException(function) {
            return Err(Error::Exception);
        }
        Value::from_raw(ctx.clone(), function)
    };
    value.into_function().ok_or(Error::Unknown)
}

/// Throws an error that no `catch` or `finally` of the script sees.
pub(crate) fn throw_uncatchable(ctx: &Ctx<'_>) -> Error {
    let Ok(error) = rquickjs::Exception::from_message(ctx.clone(), "interrupted") else {
        return Error::Exception;
    };
    let value = error.into_object().into_value();
    // SAFETY: the value is a live Error object of this context.
    unsafe { qjs::JS_SetUncatchableError(ctx.as_raw().as_ptr(), value.as_raw()) };
    ctx.throw(value)
}

// === Lazy objects ===

/// The fields of an object that makes them when they are first read.
///
/// A response has some twenty members of which a script reads two; an object of this kind costs
/// one allocation, and each member appears when it is asked for, as an own, enumerable property.
pub(crate) trait LazyFields {
    /// Makes the value of field `index` (of the names given to [`LazyClass::register`]).
    fn get<'js>(&self, ctx: &Ctx<'js>, index: usize) -> JsResult<Value<'js>>;
    /// The script has assigned the field; later reads see the script's value.
    fn assigned(&self, index: usize, value: &Value<'_>);
    /// Itself, for who knows what is behind an object.
    fn as_any(&self) -> &dyn Any;
}

/// The class of lazy objects in one runtime.
pub(crate) struct LazyClass {
    id: qjs::JSClassID,
    shape: Rc<LazyShape>,
}

struct LazyShape {
    atoms: Vec<qjs::JSAtom>,
    /// Whether scripts may add properties of their own.
    open: bool,
    runtime: NonNull<qjs::JSRuntime>,
}

impl Drop for LazyShape {
    fn drop(&mut self) {
        for atom in &self.atoms {
            // SAFETY: atoms made by `register` and owned here; the runtime outlives every object
            // and the VU state that hold this shape.
            unsafe { qjs::JS_FreeAtomRT(self.runtime.as_ptr(), *atom) };
        }
    }
}

struct LazyObject {
    shape: Rc<LazyShape>,
    fields: Rc<dyn LazyFields>,
    /// What was made or assigned so far; owned references.
    made: RefCell<Vec<(usize, qjs::JSValue)>>,
}

static LAZY_EXOTIC: qjs::JSClassExoticMethods = qjs::JSClassExoticMethods {
    get_own_property: Some(lazy_get_own_property),
    get_own_property_names: Some(lazy_get_own_property_names),
    delete_property: None,
    define_own_property: None,
    has_property: None,
    get_property: None,
    set_property: Some(lazy_set_property),
};

impl LazyClass {
    /// Makes the class in the runtime of `ctx`, for objects with these fields, in this order.
    pub(crate) fn register(ctx: &Ctx<'_>, name: &CStr, names: &[&str]) -> JsResult<Self> {
        Self::with_shape(ctx, name, names, false)
    }

    /// The same, for objects to which scripts may add properties of their own.
    pub(crate) fn register_open(ctx: &Ctx<'_>, name: &CStr, names: &[&str]) -> JsResult<Self> {
        Self::with_shape(ctx, name, names, true)
    }

    fn with_shape(ctx: &Ctx<'_>, name: &CStr, names: &[&str], open: bool) -> JsResult<Self> {
        let raw = ctx.as_raw().as_ptr();
        // SAFETY: a live context.
        let runtime = unsafe { qjs::JS_GetRuntime(raw) };
        let mut id = qjs::JS_INVALID_CLASS_ID;
        let definition = qjs::JSClassDef {
            class_name: name.as_ptr(),
            finalizer: Some(lazy_finalizer),
            gc_mark: Some(lazy_mark),
            call: None,
            exotic: ptr::from_ref(&LAZY_EXOTIC).cast_mut(),
        };
        // SAFETY: a live runtime; the engine copies the name and only reads the method table,
        // which is static.
        let made = unsafe {
            qjs::JS_NewClassID(runtime, &mut id);
            qjs::JS_NewClass(runtime, id, &definition)
        };
        if made != 0 {
            return Err(Error::Unknown);
        }
        let plain = Object::new(ctx.clone())?;
        if let Some(prototype) = plain.get_prototype() {
            // SAFETY: the context takes over the reference made here.
            unsafe {
                let prototype = qjs::JS_DupValue(raw, prototype.as_value().as_raw());
                qjs::JS_SetClassProto(raw, id, prototype);
            }
        }
        let atoms = names
            .iter()
            // SAFETY: pointer and length of a live string.
            .map(|name| unsafe { qjs::JS_NewAtomLen(raw, name.as_ptr().cast(), name.len() as _) })
            .collect();
        let runtime = NonNull::new(runtime).ok_or(Error::Unknown)?;
        Ok(Self {
            id,
            shape: Rc::new(LazyShape {
                atoms,
                open,
                runtime,
            }),
        })
    }

    /// What is behind the value, when it is an object of this class.
    pub(crate) fn behind(&self, value: &Value<'_>) -> Option<Rc<dyn LazyFields>> {
        // SAFETY: a live value; the engine answers null for what is not of this class, and the
        // opaque of what is of it is a LazyObject that lives as long as the object does.
        let object = unsafe {
            let opaque = qjs::JS_GetOpaque(value.as_raw(), self.id);
            opaque.cast::<LazyObject>().as_ref()
        };
        object.map(|object| object.fields.clone())
    }

    /// A new object with these fields and the prototype of plain objects.
    pub(crate) fn make<'js>(
        &self,
        ctx: &Ctx<'js>,
        fields: Rc<dyn LazyFields>,
    ) -> JsResult<Object<'js>> {
        let opaque = Box::into_raw(Box::new(LazyObject {
            shape: self.shape.clone(),
            fields,
            made: RefCell::new(Vec::new()),
        }));
        // SAFETY: a class of this runtime; the opaque is owned by the object from here on and
        // freed by its finalizer. The value is a new reference which `Value` takes over.
        unsafe {
            let object = qjs::JS_NewObjectClass(ctx.as_raw().as_ptr(), self.id);
            if qjs::JS_IsException(object) {
                drop(Box::from_raw(opaque));
                return Err(Error::Exception);
            }
            qjs::JS_SetOpaque(object, opaque.cast());
            Value::from_raw(ctx.clone(), object)
                .into_object()
                .ok_or(Error::Unknown)
        }
    }
}

/// The lazy part of an object of our class.
///
/// # Safety
/// `object` must be a live object whose class was made by [`LazyClass::register`].
unsafe fn lazy<'a>(object: qjs::JSValue) -> Option<&'a LazyObject> {
    // SAFETY: by the contract the object is live; only our class calls these methods, so its
    // opaque is a LazyObject or still null.
    unsafe {
        let mut class = 0;
        let opaque = qjs::JS_GetAnyOpaque(object, &mut class);
        opaque.cast::<LazyObject>().as_ref()
    }
}

unsafe extern "C" fn lazy_get_own_property(
    ctx: *mut qjs::JSContext,
    descriptor: *mut qjs::JSPropertyDescriptor,
    object: qjs::JSValue,
    atom: qjs::JSAtom,
) -> std::ffi::c_int {
    // SAFETY: called by the engine with a live object of our class.
    let Some(this) = (unsafe { lazy(object) }) else {
        return 0;
    };
    let Some(index) = this.shape.atoms.iter().position(|a| *a == atom) else {
        return 0;
    };
    if descriptor.is_null() {
        return 1;
    }
    let known = this
        .made
        .borrow()
        .iter()
        .find(|(i, _)| *i == index)
        .map(|(_, value)| *value);
    let value = match known {
        Some(value) => value,
        None => {
            // SAFETY: the engine hands over its live context.
            let js = unsafe { Ctx::from_raw(NonNull::new_unchecked(ctx)) };
            match this.fields.get(&js, index) {
                Ok(value) => {
                    // SAFETY: takes one reference of its own, freed by the finalizer.
                    let raw = unsafe { qjs::JS_DupValue(ctx, value.as_raw()) };
                    this.made.borrow_mut().push((index, raw));
                    raw
                }
                Err(error) => {
                    if !error.is_exception() {
                        rquickjs::Exception::throw_internal(&js, &error.to_string());
                    }
                    return -1;
                }
            }
        }
    };
    // SAFETY: the engine owns the descriptor and frees the reference put into it.
    unsafe {
        (*descriptor).flags = (qjs::JS_PROP_C_W_E) as std::ffi::c_int;
        (*descriptor).value = qjs::JS_DupValue(ctx, value);
        (*descriptor).getter = qjs::JS_UNDEFINED;
        (*descriptor).setter = qjs::JS_UNDEFINED;
    }
    1
}

unsafe extern "C" fn lazy_get_own_property_names(
    ctx: *mut qjs::JSContext,
    table: *mut *mut qjs::JSPropertyEnum,
    length: *mut u32,
    object: qjs::JSValue,
) -> std::ffi::c_int {
    // SAFETY: called by the engine with a live object of our class.
    let Some(this) = (unsafe { lazy(object) }) else {
        return -1;
    };
    let count = this.shape.atoms.len();
    // SAFETY: the engine frees the table with its own allocator and each atom once.
    unsafe {
        let bytes = count * std::mem::size_of::<qjs::JSPropertyEnum>();
        let rows = qjs::js_malloc(ctx, bytes as _).cast::<qjs::JSPropertyEnum>();
        if rows.is_null() {
            return -1;
        }
        for (i, atom) in this.shape.atoms.iter().enumerate() {
            rows.add(i).write(qjs::JSPropertyEnum {
                is_enumerable: true,
                atom: qjs::JS_DupAtom(ctx, *atom),
            });
        }
        *table = rows;
        *length = count as u32;
    }
    0
}

unsafe extern "C" fn lazy_set_property(
    ctx: *mut qjs::JSContext,
    object: qjs::JSValue,
    atom: qjs::JSAtom,
    value: qjs::JSValue,
    _receiver: qjs::JSValue,
    _flags: std::ffi::c_int,
) -> std::ffi::c_int {
    // SAFETY: called by the engine with a live context and object of our class.
    let (js, this) = unsafe { (Ctx::from_raw(NonNull::new_unchecked(ctx)), lazy(object)) };
    let Some(this) = this else { return 0 };
    let Some(index) = this.shape.atoms.iter().position(|a| *a == atom) else {
        if this.shape.open {
            let flags = qjs::JS_PROP_C_W_E | qjs::JS_PROP_THROW;
            // SAFETY: a live context and object; the property takes over the reference made here.
            return unsafe {
                let value = qjs::JS_DupValue(ctx, value);
                qjs::JS_DefinePropertyValue(ctx, object, atom, value, flags as _)
            };
        }
        // SAFETY: a live atom; the C string is freed right after the copy.
        let name = unsafe {
            let text = qjs::JS_AtomToCStringLen(ctx, ptr::null_mut(), atom);
            let name = if text.is_null() {
                String::new()
            } else {
                CStr::from_ptr(text).to_string_lossy().into_owned()
            };
            qjs::JS_FreeCString(ctx, text);
            name
        };
        let text = format!("Cannot assign to property {name} of a host object");
        rquickjs::Exception::throw_type(&js, &text);
        return -1;
    };
    // SAFETY: the engine lends the value; both users below take references of their own.
    let (held, wrapped) = unsafe {
        (
            qjs::JS_DupValue(ctx, value),
            Value::from_raw(js, qjs::JS_DupValue(ctx, value)),
        )
    };
    this.fields.assigned(index, &wrapped);
    let mut made = this.made.borrow_mut();
    let old = match made.iter_mut().find(|(i, _)| *i == index) {
        Some(entry) => Some(std::mem::replace(&mut entry.1, held)),
        None => {
            made.push((index, held));
            None
        }
    };
    drop(made);
    if let Some(old) = old {
        // SAFETY: the reference this object held until now.
        unsafe { qjs::JS_FreeValue(ctx, old) };
    }
    1
}

unsafe extern "C" fn lazy_finalizer(runtime: *mut qjs::JSRuntime, object: qjs::JSValue) {
    // SAFETY: called once, when the object dies; nobody else has the opaque.
    unsafe {
        let mut class = 0;
        let opaque = qjs::JS_GetAnyOpaque(object, &mut class).cast::<LazyObject>();
        if opaque.is_null() {
            return;
        }
        let this = Box::from_raw(opaque);
        for (_, value) in this.made.borrow_mut().drain(..) {
            qjs::JS_FreeValueRT(runtime, value);
        }
    }
}

unsafe extern "C" fn lazy_mark(
    runtime: *mut qjs::JSRuntime,
    object: qjs::JSValue,
    mark: qjs::JS_MarkFunc,
) {
    // SAFETY: called by the collector with a live object; it visits each reference we hold.
    unsafe {
        if let Some(this) = lazy(object)
            && let Ok(made) = this.made.try_borrow()
        {
            for (_, value) in made.iter() {
                qjs::JS_MarkValue(runtime, *value, mark);
            }
        }
    }
}

// === Lazy globals ===

/// Globals that are made together, when a script first looks at one of them: a VU has no memory to
/// spare for what its script never touches.
pub(crate) struct LazyGlobals {
    /// Their names.
    pub(crate) names: &'static [&'static str],
    /// Defines all of them on the global object.
    pub(crate) make: for<'js> fn(&Ctx<'js>) -> JsResult<()>,
}

/// Which rows of a table are still to be made, in one context.
struct Unmade {
    rows: &'static [LazyGlobals],
    made: Cell<u64>,
}

impl Unmade {
    /// The row that has the name, if it has not been made.
    fn find(&self, name: &str) -> Option<(usize, &'static str)> {
        let rows = self.rows.iter().enumerate();
        let mut open = rows.filter(|(row, _)| self.made.get() & (1 << row) == 0);
        open.find_map(|(row, globals)| {
            let name = globals.names.iter().find(|known| **known == name)?;
            Some((row, *name))
        })
    }

    /// Makes a row; once.
    fn make(&self, ctx: &Ctx<'_>, row: usize) -> JsResult<()> {
        let bit = 1 << row;
        if self.made.get() & bit != 0 {
            return Ok(());
        }
        // Before it is made: what it defines would be looked up here again.
        self.made.set(self.made.get() | bit);
        (self.rows[row].make)(ctx)
    }
}

static GLOBALS_EXOTIC: qjs::JSClassExoticMethods = qjs::JSClassExoticMethods {
    get_own_property: Some(globals_get_own_property),
    get_own_property_names: None,
    delete_property: None,
    define_own_property: None,
    has_property: None,
    get_property: None,
    set_property: None,
};

/// Puts an object between the global object and its prototype that makes these globals when the
/// engine comes to look for them there, because they are nowhere else. At most 64 rows.
pub(crate) fn install_lazy_globals<'js>(
    ctx: &Ctx<'js>,
    rows: &'static [LazyGlobals],
) -> JsResult<()> {
    let raw = ctx.as_raw().as_ptr();
    // SAFETY: a live context.
    let runtime = unsafe { qjs::JS_GetRuntime(raw) };
    let mut id = qjs::JS_INVALID_CLASS_ID;
    let definition = qjs::JSClassDef {
        class_name: c"Globals".as_ptr(),
        finalizer: Some(globals_finalizer),
        gc_mark: None,
        call: None,
        exotic: ptr::from_ref(&GLOBALS_EXOTIC).cast_mut(),
    };
    // SAFETY: a live runtime; the engine copies the name and only reads the method table, which is
    // static.
    let made = unsafe {
        qjs::JS_NewClassID(runtime, &mut id);
        qjs::JS_NewClass(runtime, id, &definition)
    };
    if made != 0 {
        return Err(Error::Unknown);
    }
    let globals = ctx.globals();
    let above = globals.get_prototype();
    let unmade = Rc::new(Unmade {
        rows,
        made: Cell::new(0),
    });
    // SAFETY: a class of this runtime; the object owns the reference to the table from here on,
    // and its finalizer gives it back. The value is a new reference which `Value` takes over.
    let between = unsafe {
        let object = qjs::JS_NewObjectClass(raw, id);
        if qjs::JS_IsException(object) {
            return Err(Error::Exception);
        }
        qjs::JS_SetOpaque(object, Rc::into_raw(unmade).cast_mut().cast());
        Value::from_raw(ctx.clone(), object)
            .into_object()
            .ok_or(Error::Unknown)?
    };
    between.set_prototype(above.as_ref())?;
    globals.set_prototype(Some(&between))
}

unsafe extern "C" fn globals_get_own_property(
    ctx: *mut qjs::JSContext,
    descriptor: *mut qjs::JSPropertyDescriptor,
    object: qjs::JSValue,
    atom: qjs::JSAtom,
) -> std::ffi::c_int {
    // SAFETY: called by the engine with a live object of our class, whose opaque is a table or
    // still null; a reference of our own keeps it while script code runs. The C string is freed
    // right after its look-up.
    let (unmade, found) = unsafe {
        let mut class = 0;
        let opaque = qjs::JS_GetAnyOpaque(object, &mut class).cast::<Unmade>();
        if opaque.is_null() {
            return 0;
        }
        Rc::increment_strong_count(opaque);
        let unmade = Rc::from_raw(opaque.cast_const());
        let mut length = 0;
        let text = qjs::JS_AtomToCStringLen(ctx, &mut length, atom);
        if text.is_null() {
            return -1;
        }
        let name = std::slice::from_raw_parts(text.cast::<u8>(), length as usize);
        let found = std::str::from_utf8(name)
            .ok()
            .and_then(|name| unmade.find(name));
        qjs::JS_FreeCString(ctx, text);
        (unmade, found)
    };
    let Some((row, name)) = found else {
        return 0;
    };
    if descriptor.is_null() {
        return 1;
    }
    // An accessor: the engine goes on to assign where it finds a value, as if nothing had been
    // defined meanwhile.
    // SAFETY: the engine hands over its live context.
    let js = unsafe { Ctx::from_raw(NonNull::new_unchecked(ctx)) };
    let Ok((getter, setter)) = accessors(&js, &unmade, row, name) else {
        return -1;
    };
    // SAFETY: the engine owns the descriptor and frees the references put into it.
    unsafe {
        (*descriptor).flags = (qjs::JS_PROP_GETSET | qjs::JS_PROP_CONFIGURABLE) as std::ffi::c_int;
        (*descriptor).value = qjs::JS_UNDEFINED;
        (*descriptor).getter = qjs::JS_DupValue(ctx, getter.as_value().as_raw());
        (*descriptor).setter = qjs::JS_DupValue(ctx, setter.as_value().as_raw());
    }
    1
}

/// What reading and assigning an unmade global does: it makes the row, and from then on there is a
/// plain property.
fn accessors<'js>(
    ctx: &Ctx<'js>,
    unmade: &Rc<Unmade>,
    row: usize,
    name: &'static str,
) -> JsResult<(rquickjs::Function<'js>, rquickjs::Function<'js>)> {
    let (get, set) = (unmade.clone(), unmade.clone());
    let getter = move |ctx: Ctx<'js>| {
        get.make(&ctx, row)?;
        ctx.globals().get::<_, Value<'js>>(name)
    };
    let setter = move |ctx: Ctx<'js>, value: Value<'js>| {
        set.make(&ctx, row)?;
        let property = rquickjs::object::Property::from(value);
        let property = property.configurable().enumerable().writable();
        ctx.globals().prop(name, property)
    };
    Ok((
        rquickjs::Function::new(ctx.clone(), getter)?,
        rquickjs::Function::new(ctx.clone(), setter)?,
    ))
}

unsafe extern "C" fn globals_finalizer(_: *mut qjs::JSRuntime, object: qjs::JSValue) {
    // SAFETY: called once, when the object dies; the reference is the object's own.
    unsafe {
        let mut class = 0;
        let opaque = qjs::JS_GetAnyOpaque(object, &mut class).cast::<Unmade>();
        if !opaque.is_null() {
            drop(Rc::from_raw(opaque.cast_const()));
        }
    }
}

/// Gives a context `Date`.
pub(crate) fn add_date(ctx: &Ctx<'_>) -> JsResult<()> {
    // SAFETY: a live context that does not have it yet.
    intrinsic(unsafe { qjs::JS_AddIntrinsicDate(ctx.as_raw().as_ptr()) })
}

/// Gives a context `Map`, `Set` and their weak kin.
pub(crate) fn add_collections(ctx: &Ctx<'_>) -> JsResult<()> {
    // SAFETY: a live context that does not have them yet.
    intrinsic(unsafe { qjs::JS_AddIntrinsicMapSet(ctx.as_raw().as_ptr()) })
}

/// Gives a context `ArrayBuffer`, `DataView` and the typed arrays.
pub(crate) fn add_typed_arrays(ctx: &Ctx<'_>) -> JsResult<()> {
    // SAFETY: a live context that does not have them yet.
    intrinsic(unsafe { qjs::JS_AddIntrinsicTypedArrays(ctx.as_raw().as_ptr()) })
}

fn intrinsic(outcome: std::ffi::c_int) -> JsResult<()> {
    match outcome {
        0.. => Ok(()),
        _ => Err(Error::Exception),
    }
}

/// A new `ArrayBuffer` with these bytes. Not to be made otherwise: the class of one may have to be
/// made first.
pub(crate) fn array_buffer<'js>(
    ctx: &Ctx<'js>,
    bytes: impl Into<Vec<u8>>,
) -> JsResult<rquickjs::ArrayBuffer<'js>> {
    ctx.globals()
        .get::<_, Value<'js>>(rquickjs::atom::PredefinedAtom::ArrayBuffer)?;
    rquickjs::ArrayBuffer::new(ctx.clone(), bytes.into())
}

/// A new `Uint8Array` with these bytes.
pub(crate) fn byte_array<'js>(
    ctx: &Ctx<'js>,
    bytes: impl Into<Vec<u8>>,
) -> JsResult<rquickjs::TypedArray<'js, u8>> {
    rquickjs::TypedArray::from_arraybuffer(array_buffer(ctx, bytes)?)
}

// === Memory ===

/// Where the heaps of VUs get their memory: mimalloc, which has no header before each of a heap's
/// thousands of small blocks.
struct HeapAllocator;

// SAFETY: all functions pass on to one allocator, whose blocks are aligned to 16 bytes.
unsafe impl Allocator for HeapAllocator {
    fn alloc(&mut self, size: usize) -> *mut u8 {
        // SAFETY: any size may be asked for.
        unsafe { libmimalloc_sys::mi_malloc(size).cast() }
    }

    fn calloc(&mut self, count: usize, size: usize) -> *mut u8 {
        // SAFETY: any size may be asked for; the product is checked.
        unsafe { libmimalloc_sys::mi_calloc(count, size).cast() }
    }

    unsafe fn dealloc(&mut self, ptr: *mut u8) {
        // SAFETY: by the contract of the trait the block is one of ours.
        unsafe { libmimalloc_sys::mi_free(ptr.cast()) }
    }

    unsafe fn realloc(&mut self, ptr: *mut u8, new_size: usize) -> *mut u8 {
        // SAFETY: by the contract of the trait the block is one of ours.
        unsafe { libmimalloc_sys::mi_realloc(ptr.cast(), new_size).cast() }
    }

    unsafe fn usable_size(ptr: *mut u8) -> usize {
        // SAFETY: by the contract of the trait the block is one of ours.
        unsafe { libmimalloc_sys::mi_usable_size(ptr.cast()) }
    }
}

thread_local! {
    /// Start and size of the blocks that runtimes with a [`Recorder`] asked for.
    static RECORDED: RefCell<Vec<(usize, usize)>> = const { RefCell::new(Vec::new()) };
}

/// Remembers the blocks that it gives.
struct Recorder;

// SAFETY: passes everything on to one allocator.
unsafe impl Allocator for Recorder {
    fn alloc(&mut self, size: usize) -> *mut u8 {
        let block = HeapAllocator.alloc(size);
        RECORDED.with_borrow_mut(|all| all.push((block as usize, size)));
        block
    }

    fn calloc(&mut self, count: usize, size: usize) -> *mut u8 {
        let block = HeapAllocator.calloc(count, size);
        RECORDED.with_borrow_mut(|all| all.push((block as usize, count * size)));
        block
    }

    unsafe fn dealloc(&mut self, ptr: *mut u8) {
        // SAFETY: by the contract of the trait the block is one of ours.
        unsafe { HeapAllocator.dealloc(ptr) }
    }

    unsafe fn realloc(&mut self, ptr: *mut u8, new_size: usize) -> *mut u8 {
        // SAFETY: by the contract of the trait the block is one of ours.
        unsafe { HeapAllocator.realloc(ptr, new_size) }
    }

    unsafe fn usable_size(ptr: *mut u8) -> usize {
        // SAFETY: by the contract of the trait the block is one of ours.
        unsafe { HeapAllocator::usable_size(ptr) }
    }
}

/// Blocks that a new runtime and context ask for: some dozens when the engine was built with its
/// arenas, which cost each VU 70 KB, and more than a thousand without (docs/engine.md).
#[cfg(test)]
pub(crate) fn blocks_of_a_runtime() -> usize {
    let runtime = rquickjs::Runtime::new_with_alloc(Recorder).expect("memory");
    let _context = rquickjs::Context::full(&runtime).expect("memory");
    RECORDED.take().len()
}

/// The engine's part of a VU.
pub(crate) fn new_runtime() -> JsResult<rquickjs::Runtime> {
    rquickjs::Runtime::new_with_alloc(HeapAllocator)
}

// === The VU behind a context ===

/// Gives natives their VU, as the user data of its context.
pub(crate) struct VuHandle(pub(crate) Rc<crate::state::VuState>);

// SAFETY: the handle holds nothing with the engine's lifetime, so changing it changes nothing.
unsafe impl<'js> rquickjs::JsLifetime<'js> for VuHandle {
    type Changed<'to> = VuHandle;
}

// === Objects of Rust's ===

/// What is behind a script's view of an object of Rust's (`host_object.rs`), or an instance of a
/// class that scripts can make.
pub(crate) struct Native<T>(pub(crate) T);

// SAFETY: what is `'static` holds nothing with the engine's lifetime, so changing it changes nothing.
unsafe impl<'js, T: 'static> rquickjs::JsLifetime<'js> for Native<T> {
    type Changed<'to> = Native<T>;
}

/// A kind of Rust data that holds values of a script, which the collector has to see.
pub(crate) trait Kind: 'static {
    /// The data; its `Trace` names every value in it, each as often as it is held.
    type Data<'js>: rquickjs::class::Trace<'js>;
}

/// Such data, behind an object.
pub(crate) struct Managed<'js, K: Kind>(pub(crate) K::Data<'js>);

// SAFETY: the data of a kind is one type with the lifetime as its parameter, and nothing else of
// the struct depends on it.
unsafe impl<'js, K: Kind> rquickjs::JsLifetime<'js> for Managed<'js, K> {
    type Changed<'to> = Managed<'to, K>;
}

// === Strings and bytes ===

/// A copy of the bytes of a buffer; none when it is detached.
pub(crate) fn buffer_bytes(buffer: &rquickjs::ArrayBuffer<'_>) -> Vec<u8> {
    // SAFETY: no script runs while the slice lives, which ends with the copy.
    unsafe { buffer.as_bytes() }.unwrap_or_default().to_vec()
}

/// A copy of the bytes of a typed array; none when it is detached.
pub(crate) fn array_bytes(array: &rquickjs::TypedArray<'_, u8>) -> Vec<u8> {
    // SAFETY: no script runs while the slice lives, which ends with the copy.
    unsafe { array.as_bytes() }.unwrap_or_default().to_vec()
}

/// What a typed array shows of its buffer.
///
/// The pointer is good until script code runs again.
fn view(value: &Value<'_>) -> Option<(ViewKind, NonNull<[u8]>)> {
    let (raw, ctx) = (value.as_raw(), value.ctx());
    // SAFETY: a live value.
    let kind = ViewKind::from_engine(unsafe { qjs::JS_GetTypedArrayType(raw) })?;
    let (mut offset, mut length, mut size) = (0, 0, 0);
    // SAFETY: a live typed array; the buffer comes with a reference of its own, given back below.
    // The view keeps its buffer alive beyond that.
    let start = unsafe {
        let context = ctx.as_raw().as_ptr();
        let mut item = 0;
        let buffer = qjs::JS_GetTypedArrayBuffer(context, raw, &mut offset, &mut length, &mut item);
        let start = if qjs::JS_IsException(buffer) {
            ptr::null_mut()
        } else {
            qjs::JS_GetArrayBuffer(context, &mut size, buffer)
        };
        qjs::JS_FreeValue(context, buffer);
        start
    };
    let (offset, length, size) = (offset as usize, length as usize, size as usize);
    let Some(start) = NonNull::new(start).filter(|_| offset + length <= size) else {
        // Detached, or cut short: it shows nothing.
        let _ = ctx.catch();
        return Some((kind, NonNull::slice_from_raw_parts(NonNull::dangling(), 0)));
    };
    // SAFETY: the offset lies inside the buffer.
    let start = unsafe { start.add(offset) };
    Some((kind, NonNull::slice_from_raw_parts(start, length)))
}

/// What the items of a typed array are.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum ViewKind {
    /// `Uint8Array` and `Uint8ClampedArray`.
    Bytes,
    /// Other whole numbers of at most 32 bits.
    Integers,
    /// Floating point, and `BigInt`.
    Other,
}

impl ViewKind {
    fn from_engine(kind: std::ffi::c_int) -> Option<Self> {
        let kind = u32::try_from(kind).ok()?;
        Some(match kind {
            qjs::JSTypedArrayEnum_JS_TYPED_ARRAY_UINT8C
            | qjs::JSTypedArrayEnum_JS_TYPED_ARRAY_UINT8 => Self::Bytes,
            qjs::JSTypedArrayEnum_JS_TYPED_ARRAY_INT8
            | qjs::JSTypedArrayEnum_JS_TYPED_ARRAY_INT16
            | qjs::JSTypedArrayEnum_JS_TYPED_ARRAY_UINT16
            | qjs::JSTypedArrayEnum_JS_TYPED_ARRAY_INT32
            | qjs::JSTypedArrayEnum_JS_TYPED_ARRAY_UINT32 => Self::Integers,
            _ => Self::Other,
        })
    }
}

/// What the items of a typed array are; `None` for other values.
pub(crate) fn view_kind(value: &Value<'_>) -> Option<ViewKind> {
    // SAFETY: a live value.
    ViewKind::from_engine(unsafe { qjs::JS_GetTypedArrayType(value.as_raw()) })
}

/// A copy of the bytes that a typed array shows; `None` for other values.
pub(crate) fn view_bytes(value: &Value<'_>) -> Option<Vec<u8>> {
    let (_, bytes) = view(value)?;
    // SAFETY: no script runs while the slice lives, which ends with the copy.
    Some(unsafe { bytes.as_ref() }.to_vec())
}

/// Lets `fill` write into what a typed array shows. It must not call into the engine.
pub(crate) fn fill_view(value: &Value<'_>, fill: impl FnOnce(&mut [u8])) {
    if let Some((_, mut bytes)) = view(value) {
        // SAFETY: no script runs while the slice lives, and nobody else looks at the buffer.
        fill(unsafe { bytes.as_mut() });
    }
}

/// Copies the start of `bytes` into an array, as much as fits; answers how much that was.
pub(crate) fn fill_array(array: &rquickjs::TypedArray<'_, u8>, bytes: &[u8]) -> usize {
    let Some(target) = array.as_raw() else {
        return 0;
    };
    let count = target.len().min(bytes.len());
    // SAFETY: the array's own bytes, which no script changes before the copy ends; `bytes` are
    // Rust's, so the two do not overlap.
    unsafe { ptr::copy_nonoverlapping(bytes.as_ptr(), target.as_ptr().cast::<u8>(), count) };
    count
}

/// A JS string from bytes that may not be UTF-8: bad sequences become U+FFFD. No copy for good ones
/// beside the engine's own.
pub(crate) fn js_string<'js>(ctx: &Ctx<'js>, bytes: &[u8]) -> JsResult<rquickjs::String<'js>> {
    match std::str::from_utf8(bytes) {
        Ok(text) => rquickjs::String::from_str(ctx.clone(), text),
        Err(_) => rquickjs::String::from_str(ctx.clone(), &String::from_utf8_lossy(bytes)),
    }
}

/// The UTF-8 bytes of a JS string; lone surrogates become U+FFFD.
pub(crate) fn rust_string(value: &rquickjs::String<'_>) -> String {
    match value.to_string() {
        Ok(text) => text,
        Err(_) => {
            let ctx = value.ctx().as_raw().as_ptr();
            let mut length = 0;
            // SAFETY: a live string; the bytes are copied before they are freed.
            unsafe {
                let text = qjs::JS_ToCStringLen(ctx, &mut length, value.as_value().as_raw());
                if text.is_null() {
                    return String::new();
                }
                let bytes = std::slice::from_raw_parts(text.cast::<u8>(), length);
                let copy = lossy_wtf8(bytes);
                qjs::JS_FreeCString(ctx, text);
                copy
            }
        }
    }
}

/// The text of a property's name; lone surrogates become U+FFFD.
pub(crate) fn atom_string(name: &rquickjs::Atom<'_>) -> String {
    name.to_string()
        .or_else(|_| name.to_js_string().map(|text| rust_string(&text)))
        .unwrap_or_default()
}

/// Whether a value is an `async` function that is no generator.
pub(crate) fn is_async_function(value: &Value<'_>) -> bool {
    // SAFETY: only the tag and the class of a live value are read.
    unsafe { qjs::JS_IsAsyncFunction(value.as_raw()) }
}

/// Decodes the engine's encoding, in which a lone surrogate is a three-byte sequence.
fn lossy_wtf8(bytes: &[u8]) -> String {
    let mut out = String::with_capacity(bytes.len());
    let mut rest = bytes;
    while !rest.is_empty() {
        match std::str::from_utf8(rest) {
            Ok(text) => {
                out.push_str(text);
                break;
            }
            Err(error) => {
                let (good, bad) = rest.split_at(error.valid_up_to());
                out.push_str(&String::from_utf8_lossy(good));
                out.push('\u{fffd}');
                let surrogate = bad.len() >= 3 && bad[0] == 0xed && bad[1] >= 0xa0;
                rest = &bad[if surrogate { 3 } else { 1 }..];
            }
        }
    }
    out
}
