//! A model loaded and unloaded again and again: memory on the host and on the device stays flat.
//! `cargo test --test cycles -- --cycles=1000` is the long way.

#![allow(clippy::print_stdout, reason = "a test program without a harness speaks through stdout")]

mod live;

use std::path::Path;
use std::sync::Arc;

use coracle::batch::{Policy, Priority, SystemClock, Turns};
use coracle::engine::EngineOptions;
use coracle::fleet::Fleet;
use coracle::formats::onnx::ImportOptions;
use coracle::model::{
    Asked, Context, EngineLoader, Manager, ManagerOptions, ModelConfig, ShapeBounds, Silent, VersionChoice,
};
use coracle::tensor::Tensor;

#[global_allocator]
static ALLOCATOR: live::Counting = live::Counting;

/// Cycles unless the command line says how many.
const CYCLES: usize = 300;
/// Cycles before memory is taken to be flat.
const WARM_CYCLES: usize = 100;
/// How far later cycles may be from that.
const SPREAD_MAX: f64 = 0.05;
/// Bytes that are no growth: tables that double, what threads keep once they had a turn. 164 bytes a cycle are more.
const NOISE_BYTES: f64 = (32 << 10) as f64;

/// What is in use while nothing is loaded.
#[derive(Clone, Copy, Debug)]
struct Usage {
    /// Bytes of the Rust heap.
    heap: u64,
    /// Bytes of the process that are in memory; 0 where that is not told.
    resident: u64,
    /// Bytes allocated on the device.
    device: u64,
}

impl Usage {
    fn now(fleet: &Fleet) -> Self {
        let device = fleet.lanes().iter().map(|lane| lane.memory_bytes()).sum();
        let is_empty = fleet.engines().all(|(_, engine)| engine.memory().accounts.is_empty());
        assert!(is_empty, "an account was left behind");
        Self { heap: live::bytes(), resident: resident(), device }
    }
}

/// The process' resident bytes, where the system has them in /proc.
fn resident() -> u64 {
    let text = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let line = text.lines().find_map(|line| line.strip_prefix("VmRSS:")).unwrap_or_default();
    line.trim().trim_end_matches(" kB").trim().parse::<u64>().unwrap_or(0) * 1024
}

async fn cycle(manager: &Manager) {
    let base = Path::new(env!("CARGO_MANIFEST_DIR")).join("models/digits");
    manager.reconfigure(vec![ModelConfig::new("digits", base)]).await.expect("a good configuration");
    manager.settled().await.expect("the manager lives");
    let servable = manager.servable("digits", &VersionChoice::Latest).expect("it is loaded");
    let pixels = Tensor::from_vec([1, 1, 8, 8], vec![0.5f32; 64]).expect("64 pixels");
    servable
        .predict(vec![pixels], Asked { deadline: None, priority: Priority::default(), guard: Box::new(()) })
        .await
        .expect("an answer");
    drop(servable);
    // Returns when memory was given back.
    manager.shut_down().await.expect("the manager lives");
}

fn check(what: &str, from: u64, now: u64, cycle: usize) {
    let (from, now) = (from as f64, now as f64);
    let spread = (now - from).abs();
    assert!(
        spread <= (from * SPREAD_MAX).max(NOISE_BYTES),
        "cycle {cycle}: {what} is {now} bytes, from {from} at first"
    );
}

fn main() {
    let mut arguments = std::env::args().skip(1);
    let asked = std::env::args().find_map(|argument| argument.strip_prefix("--cycles=")?.parse().ok());
    // A filter of `cargo test` means other tests.
    if arguments.any(|argument| !argument.starts_with('-') && !"cycles".contains(&argument)) {
        return;
    }
    let cycles: usize = asked.unwrap_or(CYCLES);
    let Ok(fleet) = Fleet::start(&EngineOptions::default()) else {
        println!("skipped: no adapter");
        return;
    };
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().expect("threads");
    runtime.block_on(async {
        let context = Context {
            turns: Turns::new(fleet.lanes().len(), 2),
            clock: Arc::new(SystemClock::start().expect("a thread")),
            observer: Arc::new(Silent),
            warm_up: None,
            checker: None,
        };
        let (bounds, import) = (ShapeBounds::default(), ImportOptions::default());
        let loader = Arc::new(EngineLoader::new(Arc::clone(&fleet), bounds, import, None, Policy::default()));
        let manager = Manager::start(Vec::new(), ManagerOptions::default(), loader, context).expect("nothing to load");
        let warm = WARM_CYCLES.min(cycles / 2);
        let mut from: Option<Usage> = None;
        for number in 1..=cycles {
            cycle(&manager).await;
            let now = Usage::now(&fleet);
            if number % 20 == 0 || number == warm || number == cycles {
                println!("cycle {number}: heap {} B, resident {} B, device {} B", now.heap, now.resident, now.device);
            }
            if number < warm {
                continue;
            }
            let from = from.get_or_insert(now);
            check("the heap", from.heap, now.heap, number);
            check("memory on the device", from.device, now.device, number);
            // Short runs are over before the allocators of the system and the driver have found their size.
            if asked.is_some() {
                check("resident memory", from.resident, now.resident, number);
            }
        }
    });
}
