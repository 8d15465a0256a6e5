//! Whether anything grew.

use coracle::engine::{Engine, EngineOptions, heap_in_use};

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
/// What the heap in use may grow by after that, along the line that fits it best.
const HEAP_GROWTH_MAX: f64 = 0.01;
/// Devices opened to see what the driver keeps of each.
const DEVICES: u64 = 10;
/// Files and threads that come and go.
const SLACK: f64 = 16.0;

fn resident_kib() -> u64 {
    let text = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let line = text.lines().find_map(|l| l.strip_prefix("VmRSS:"));
    line.and_then(|l| l.split_whitespace().next()?.parse().ok()).unwrap_or(0)
}

/// What the driver and the C library keep of each device that was opened, tried and let go.
struct Kept {
    resident_kib: f64,
    heap_bytes: f64,
}

impl Kept {
    /// By a bare loop.
    fn measure() -> Self {
        let cycle = || drop(Engine::start(&EngineOptions::default()));
        let now = || [resident_kib() as f64, heap_in_use().unwrap_or_default() as f64];
        cycle();
        let before = now();
        (0..DEVICES).for_each(|_| cycle());
        let after = now();
        let each = |index: usize| (after[index] - before[index]).max(0.0) / DEVICES as f64;
        Self { resident_kib: each(0), heap_bytes: each(1) }
    }
}

/// The line that fits the heap in use best (least squares): where it begins and where it ends.
fn heap_line(samples: &[Sample]) -> [f64; 2] {
    let times: Vec<f64> = samples.iter().map(|s| s.at.as_secs_f64()).collect();
    let mean = |values: &mut dyn Iterator<Item = f64>| values.sum::<f64>() / samples.len() as f64;
    let middle = [mean(&mut times.iter().copied()), mean(&mut samples.iter().map(|s| s.heap_bytes))];
    let square: f64 = times.iter().map(|t| (t - middle[0]).powi(2)).sum();
    let product: f64 = times.iter().zip(samples).map(|(t, s)| (t - middle[0]) * (s.heap_bytes - middle[1])).sum();
    let slope = product / square.max(f64::MIN_POSITIVE);
    [times[0], times[times.len() - 1]].map(|t| middle[1] + slope * (t - middle[0]))
}

/// What grew that must not.
pub(crate) fn grown(samples: &[Sample], losses: u32) -> Vec<String> {
    let Some(last) = samples.last().filter(|last| last.at.as_secs_f64() >= TIME_MIN_S) else { return Vec::new() };
    let late = samples.iter().position(|s| s.at >= last.at.mul_f64(SETTLED)).expect("the last is later");
    let (settled, late) = (&samples[late], &samples[late..]);
    let kept = Kept::measure();
    let replaced = f64::from(losses) * (1.0 - SETTLED);
    println!(
        "the driver keeps {:.0} KiB of each device, {:.0} bytes of them on the heap; {losses} were lost, {replaced:.0} of them late",
        kept.resident_kib, kept.heap_bytes
    );
    let mut wrong = Vec::new();
    let mut check = |what: &str, from: f64, to: f64, allowed: f64| {
        println!("{what}: {from:.0} after a third of the time, {to:.0} at the end");
        if to > allowed {
            wrong.push(format!("{what} grew from {from:.0} to {to:.0}, at most {allowed:.0} is allowed"));
        }
    };
    let (resident, is_long) = (settled.resident_kib as f64, last.at.as_secs_f64() >= RESIDENT_TIME_MIN_S);
    let allowed =
        if is_long { resident * (1.0 + RESIDENT_GROWTH_MAX) + kept.resident_kib * replaced } else { f64::INFINITY };
    check("resident memory, KiB", resident, last.resident_kib as f64, allowed);
    let [begin, end] = heap_line(late);
    let allowed = if is_long { begin * (1.0 + HEAP_GROWTH_MAX) + kept.heap_bytes * replaced } else { f64::INFINITY };
    check("heap in use by its line, bytes", begin, end, allowed);
    check("device memory, bytes", settled.device_bytes, last.device_bytes, settled.device_bytes * 1.05);
    check("threads", settled.threads as f64, last.threads as f64, settled.threads as f64 + SLACK);
    check("open files", settled.open_files as f64, last.open_files as f64, settled.open_files as f64 + SLACK);
    wrong
}
