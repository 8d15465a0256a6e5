//! A global allocator that can be told to remember who asks it for memory. C code in drivers has an allocator of its own and
//! is not seen.

use std::alloc::{GlobalAlloc, Layout, System};
use std::backtrace::Backtrace;
use std::cell::Cell;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Mutex, PoisonError};

/// Allocations remembered at most; the others are counted as lost.
const MAX_REMEMBERED: usize = 100_000;

static ARMED: AtomicBool = AtomicBool::new(false);
static REMEMBERED: Mutex<Vec<Backtrace>> = Mutex::new(Vec::new());

thread_local! {
    /// Remembering allocates, too.
    static INSIDE: Cell<bool> = const { Cell::new(false) };
}

/// The system's allocator, watched.
pub(crate) struct Counting;

fn remember() {
    // A panic is told of under a lock that taking a backtrace needs.
    if !ARMED.load(Ordering::Relaxed) || std::thread::panicking() {
        return;
    }
    // A thread that is ending has no such variable any more: what it allocates then is nobody's run.
    let _ = INSIDE.try_with(|inside| {
        if inside.replace(true) {
            return;
        }
        let trace = Backtrace::force_capture();
        let mut remembered = REMEMBERED.lock().unwrap_or_else(PoisonError::into_inner);
        if remembered.len() < MAX_REMEMBERED {
            remembered.push(trace);
        }
        drop(remembered);
        inside.set(false);
    });
}

// SAFETY: every call is passed on to the system's allocator as it came.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        remember();
        // SAFETY: the caller's promise, passed on.
        unsafe { System.alloc(layout) }
    }

    unsafe fn alloc_zeroed(&self, layout: Layout) -> *mut u8 {
        remember();
        // SAFETY: the caller's promise, passed on.
        unsafe { System.alloc_zeroed(layout) }
    }

    unsafe fn realloc(&self, place: *mut u8, layout: Layout, size: usize) -> *mut u8 {
        remember();
        // SAFETY: the caller's promise, passed on.
        unsafe { System.realloc(place, layout, size) }
    }

    unsafe fn dealloc(&self, place: *mut u8, layout: Layout) {
        // SAFETY: the caller's promise, passed on.
        unsafe { System.dealloc(place, layout) }
    }
}

/// Whose code asked for memory.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Owner {
    /// The engine.
    Coracle,
    /// wgpu and what it stands on.
    Wgpu,
    /// The program that measures.
    Harness,
    /// Nobody that is known.
    Other,
}

/// To be called before any thread is started: under RUST_BACKTRACE wgpu's debug build takes backtraces while it works, and
/// allocates under the lock that ours need.
pub(crate) fn prepare() {
    // SAFETY: no other thread reads the environment yet.
    unsafe { std::env::set_var("RUST_BACKTRACE", "0") };
}

/// Who asked for memory while `work` ran, on every thread, and by which way.
pub(crate) fn allocations(work: impl FnOnce()) -> Vec<(Owner, String)> {
    ARMED.store(true, Ordering::SeqCst);
    work();
    ARMED.store(false, Ordering::SeqCst);
    let taken = std::mem::take(&mut *REMEMBERED.lock().unwrap_or_else(PoisonError::into_inner));
    let name = |trace: &Backtrace| {
        let text = trace.to_string();
        (owner(&text), text)
    };
    taken.iter().map(name).collect()
}

/// The crate of the innermost frame that is neither the standard library's nor a container's.
fn owner(trace: &str) -> Owner {
    let frames = trace.lines().filter_map(|line| {
        let (number, name) = line.trim_start().split_once(": ")?;
        number.parse::<u32>().is_ok().then_some(name)
    });
    for frame in frames {
        let path = frame.trim_start_matches(['<', '&', '*', '[', '(']).trim_start_matches("dyn ");
        let own = frame.contains("counting::");
        match path.split("::").next().unwrap_or_default() {
            "coracle" => return Owner::Coracle,
            "replay" if !own => return Owner::Harness,
            "wgpu" | "wgpu_core" | "wgpu_hal" | "wgpu_types" | "naga" | "ash" | "gpu_allocator" | "gpu_descriptor" => {
                return Owner::Wgpu;
            }
            _ => {}
        }
    }
    Owner::Other
}
