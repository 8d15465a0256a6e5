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

/// The owner of the innermost frame that is neither the standard library's nor a container's.
fn owner(trace: &str) -> Owner {
    let mut lines = trace.lines().map(str::trim_start).peekable();
    while let Some(line) = lines.next() {
        let Some((number, name)) = line.split_once(": ") else { continue };
        // The allocator's own entries lie in the file that installs it.
        if number.parse::<u32>().is_err() || name.contains("__rust_") {
            lines.next_if(|next| next.starts_with("at "));
            continue;
        }
        // Where code was inlined, names lack their crates and files tell.
        let file = lines.next_if(|next| next.starts_with("at ")).map(|next| &next["at ".len()..]);
        if let Some(owner) = file.map_or_else(|| owner_by_name(name), owner_by_file) {
            return owner;
        }
    }
    Owner::Other
}

fn owner_by_file(file: &str) -> Option<Owner> {
    if let Some((_, dependency)) = file.split_once("/registry/src/") {
        return dependency.split('/').nth(1).and_then(|folder| is_wgpu(folder).then_some(Owner::Wgpu));
    }
    let own = file.trim_start_matches(env!("CARGO_MANIFEST_DIR")).trim_start_matches("./").trim_start_matches('/');
    match own {
        _ if own.starts_with("tests/replay/counting.rs") => None,
        _ if own.starts_with("src/") => Some(Owner::Coracle),
        _ if own.starts_with("tests/") || own.starts_with("benches/") => Some(Owner::Harness),
        _ => None,
    }
}

fn owner_by_name(name: &str) -> Option<Owner> {
    let path = name.trim_start_matches(['<', '&', '*', '[', '(']).trim_start_matches("dyn ");
    match path.split("::").next().unwrap_or_default() {
        "coracle" => Some(Owner::Coracle),
        "replay" if !name.contains("counting::") => Some(Owner::Harness),
        other => is_wgpu(other).then_some(Owner::Wgpu),
    }
}

/// Whether a crate, or the folder of its sources, belongs to wgpu or what it stands on.
fn is_wgpu(name: &str) -> bool {
    ["wgpu", "naga", "ash", "gpu_allocator", "gpu-allocator", "gpu_descriptor", "gpu-descriptor"]
        .iter()
        .any(|part| name.strip_prefix(part).is_some_and(|rest| rest.is_empty() || rest.starts_with(['-', '_'])))
}
