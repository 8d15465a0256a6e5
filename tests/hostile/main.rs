//! Operators made of random bytes must be answered: no panic, no hang, and no allocation beyond a bound.

mod operator;

use std::alloc::{GlobalAlloc, Layout, System};
use std::collections::BTreeMap;
use std::sync::Mutex;
use std::sync::atomic::{AtomicU64, Ordering};

/// Bytes that one operator may make us take at once before anything is known of its size.
const ALLOCATION_MAX: usize = 512 << 20;
const ROUNDS: u64 = 30_000;

/// The system's allocator, without what is larger than any operator may ask for.
struct Bounded;

// SAFETY: what is not refused is the system allocator's doing, and refusing is what null is for.
unsafe impl GlobalAlloc for Bounded {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        if layout.size() > ALLOCATION_MAX {
            // The process ends where memory is refused: this says how to come back. Numbers are printed without allocating.
            eprintln!("CORACLE_HOSTILE_SEED={} wants {} bytes", SEED.load(Ordering::Relaxed), layout.size());
            return std::ptr::null_mut();
        }
        // SAFETY: the caller's promises hold for the system allocator too.
        unsafe { System.alloc(layout) }
    }

    unsafe fn dealloc(&self, pointer: *mut u8, layout: Layout) {
        // SAFETY: the pointer came from the system allocator.
        unsafe { System.dealloc(pointer, layout) }
    }
}

#[global_allocator]
static ALLOCATOR: Bounded = Bounded;

/// What is being tried.
static SEED: AtomicU64 = AtomicU64::new(0);
/// Where it panicked, what it said, and for which seed first.
static PANICS: Mutex<BTreeMap<String, (u64, String)>> = Mutex::new(BTreeMap::new());

/// SplitMix64 (Steele, Lea and Flood, "Fast Splittable Pseudorandom Number Generators", 2014).
fn random(state: &mut u64) -> u64 {
    *state = state.wrapping_add(0x9e37_79b9_7f4a_7c15);
    let mut z = *state;
    z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    z ^ (z >> 31)
}

fn setting(name: &str, default: u64) -> u64 {
    std::env::var(name).ok().and_then(|text| text.parse().ok()).unwrap_or(default)
}

#[test]
fn operators_of_random_bytes_are_answered() {
    std::panic::set_hook(Box::new(|info| {
        // The innermost line of ours: what panics may be a library.
        let trace = std::backtrace::Backtrace::force_capture().to_string();
        let ours = |line: &&str| line.contains("/src/") && !line.contains("/rustc/") && !line.contains("/tests/");
        let place = trace.lines().find(ours).map_or_else(String::new, |line| line.trim().to_owned());
        let mut panics = PANICS.lock().expect("nothing panics while it is held");
        panics.entry(place).or_insert_with(|| (SEED.load(Ordering::Relaxed), info.to_string()));
    }));
    let first = setting("CORACLE_HOSTILE_SEED", 0);
    for seed in first..first + setting("CORACLE_HOSTILE_ROUNDS", ROUNDS) {
        SEED.store(seed, Ordering::Relaxed);
        let mut state = seed;
        let data: Vec<u8> = (0..64).flat_map(|_| random(&mut state).to_le_bytes()).collect();
        // What it panicked about is in PANICS.
        let _ = std::panic::catch_unwind(|| operator::compile_any(&data));
    }
    let _ = std::panic::take_hook();
    let panics = PANICS.lock().expect("nothing panics while it is held");
    let line =
        |(place, (seed, what)): (&String, &(u64, String))| format!("CORACLE_HOSTILE_SEED={seed} {place}: {what}");
    let lines: Vec<String> = panics.iter().map(line).collect();
    assert!(lines.is_empty(), "{} different panics:\n{}", lines.len(), lines.join("\n"));
}
