//! Whether anything grew.

use coracle::engine::{Engine, EngineOptions};

use super::samples::Sample;

/// Runs shorter than this say nothing of growth, in seconds.
const TIME_MIN_S: f64 = 60.0;
/// Runs shorter than this say nothing of resident memory: the C library keeps memory of each thread that has ended, and what it
/// keeps for the threads of new devices levels off after a dozen of them.
const RESIDENT_TIME_MIN_S: f64 = 600.0;
/// The part of the time after which nothing may grow.
const SETTLED: f64 = 1.0 / 3.0;
/// What resident memory may grow by after that.
const RESIDENT_GROWTH_MAX: f64 = 0.05;
/// Devices opened to see what the driver keeps of each.
const DEVICES: u64 = 10;
/// Files and threads that come and go.
const SLACK: f64 = 16.0;

fn resident_kib() -> u64 {
    let text = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let line = text.lines().find_map(|l| l.strip_prefix("VmRSS:"));
    line.and_then(|l| l.split_whitespace().next()?.parse().ok()).unwrap_or(0)
}

/// KiB that the driver and the C library keep of each device that was opened, tried and let go: a bare loop.
fn driver_growth_kib() -> f64 {
    let cycle = || drop(Engine::start(&EngineOptions::default()));
    cycle();
    let before = resident_kib();
    (0..DEVICES).for_each(|_| cycle());
    resident_kib().saturating_sub(before) as f64 / DEVICES as f64
}

/// What grew that must not.
pub(crate) fn grown(samples: &[Sample], losses: u32) -> Vec<String> {
    let Some(last) = samples.last().filter(|last| last.at.as_secs_f64() >= TIME_MIN_S) else { return Vec::new() };
    let settled = samples.iter().find(|s| s.at >= last.at.mul_f64(SETTLED)).expect("the last is later");
    let driver = driver_growth_kib();
    let replaced = f64::from(losses) * (1.0 - SETTLED);
    println!("the driver keeps {driver:.0} KiB of each device; {losses} were lost, {replaced:.0} of them late");
    let mut wrong = Vec::new();
    let mut check = |what: &str, from: f64, to: f64, allowed: f64| {
        println!("{what}: {from:.0} after a third of the time, {to:.0} at the end");
        if to > allowed {
            wrong.push(format!("{what} grew from {from:.0} to {to:.0}, at most {allowed:.0} is allowed"));
        }
    };
    let (resident, is_long) = (settled.resident_kib as f64, last.at.as_secs_f64() >= RESIDENT_TIME_MIN_S);
    let allowed = if is_long { resident * (1.0 + RESIDENT_GROWTH_MAX) + driver * replaced } else { f64::INFINITY };
    check("resident memory, KiB", resident, last.resident_kib as f64, allowed);
    check("device memory, bytes", settled.device_bytes, last.device_bytes, settled.device_bytes * 1.05);
    check("threads", settled.threads as f64, last.threads as f64, settled.threads as f64 + SLACK);
    check("open files", settled.open_files as f64, last.open_files as f64, settled.open_files as f64 + SLACK);
    wrong
}
