//! What replaying a batch costs the host: `cargo bench --bench replay -- [--replay=MODE] [MODEL.onnx] [BATCH]`. Without a model, a residual
//! network with as many dispatches as ResNet-50 and little arithmetic.

#![allow(clippy::print_stdout, reason = "a benchmark speaks through stdout")]

#[path = "../tests/replay/counting.rs"]
mod counting;
#[path = "../tests/replay/residual.rs"]
mod residual;
#[path = "../tests/replay/rounds.rs"]
mod rounds;

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};

use coracle::engine::compile::{compile, optimise};
use coracle::engine::device::{Adapter, Lane, LaneOptions, Mask, Replay, Times};
use coracle::engine::ir::{Choices, Given, Graph};
use coracle::formats::onnx;
use coracle::tensor::{DType, Shape, Tensor};

use rounds::Rounds;

#[global_allocator]
static ALLOCATOR: counting::Counting = counting::Counting;

/// Runs before anything is measured.
const WARM_RUNS: usize = 10;
/// Runs whose allocations are counted.
const COUNTED_RUNS: usize = 8;
/// Runs are timed for about so long.
const TIMED: Duration = Duration::from_secs(6);

fn model(path: &str, batch: usize) -> (Graph, Vec<Tensor>) {
    let graph = onnx::import(Path::new(path)).expect("a model that can be read");
    let inputs = graph.signature.inputs.iter().map(|spec| {
        let dims = spec.dims.as_ref().expect("a known rank");
        let extents = dims.iter().enumerate().map(|(i, d)| d.fixed().unwrap_or(if i == 0 { batch } else { 1 }));
        let shape = Shape::new(extents.collect::<Vec<_>>());
        let bytes = vec![0; shape.elements() * spec.dtype.bytes()];
        Tensor::from_bytes(spec.dtype, shape, bytes).expect("elements of a fixed size")
    });
    let inputs = inputs.collect();
    (graph, inputs)
}

/// Nanoseconds that each thread of the lane has been on a processor.
fn processor_time() -> BTreeMap<String, u64> {
    let Ok(tasks) = fs::read_dir("/proc/self/task") else { return BTreeMap::new() };
    let read = |task: fs::DirEntry| {
        let name = fs::read_to_string(task.path().join("comm")).ok()?.trim().to_owned();
        let time = fs::read_to_string(task.path().join("schedstat")).ok()?.split(' ').next()?.parse().ok()?;
        name.starts_with("lane-").then_some((name, time))
    };
    tasks.flatten().filter_map(read).collect()
}

fn median(times: &[Times], part: impl Fn(&Times) -> Duration) -> f64 {
    let mut values: Vec<f64> = times.iter().map(|t| part(t).as_secs_f64() * 1e6).collect();
    values.sort_by(f64::total_cmp);
    values[values.len() / 2]
}

/// Microseconds that copying `bytes` from one place to another takes, at the median.
fn copying(bytes: usize) -> f64 {
    let (from, mut to) = (vec![1u8; bytes], vec![0u8; bytes]);
    let mut values: Vec<f64> = (0..101)
        .map(|_| {
            let start = Instant::now();
            std::hint::black_box(&mut to).copy_from_slice(std::hint::black_box(&from));
            start.elapsed().as_secs_f64() * 1e6
        })
        .collect();
    values.sort_by(f64::total_cmp);
    values[50]
}

fn main() {
    counting::prepare();
    let words: Vec<String> = std::env::args().skip(1).filter(|word| !word.starts_with("--")).collect();
    let Ok(adapter) = Adapter::pick("auto") else { return println!("skipped: no adapter") };
    let replay = std::env::args().find_map(|word| Some(word.strip_prefix("--replay=")?.parse().expect("a mode")));
    let options = LaneOptions { replay: replay.unwrap_or(Replay::Auto), ..LaneOptions::default() };
    let lane = Lane::open(&adapter, 0, &options).expect("the adapter gives a device");
    let how = if lane.replays_recordings() { "recorded" } else { "encoded" };
    let profile = adapter.profile(&Mask::default());
    let batch = words.get(1).map_or(1, |word| word.parse().expect("BATCH is a number"));
    let (graph, inputs) = match words.first() {
        Some(path) => model(path, batch),
        None => (residual::graph(), vec![residual::input()]),
    };
    let graph = optimise(graph, &profile).expect("a sound graph");
    let given: Vec<Given> = inputs.iter().map(Given::of).collect();
    let program = Arc::new(compile(&graph, &given, &profile, &Choices::default()).expect("it compiles"));
    assert!(program.is_plain(), "only programs of one segment are replayed");
    let (dispatches, ports) = (program.segments[0].dispatches.len(), &program.segments[0].downloads);
    let moved: usize = inputs.iter().map(|t| t.bytes().len()).sum();
    let out: usize = ports.iter().map(|p| p.shape.elements() * p.dtype.bytes()).sum();
    assert!(ports.iter().all(|p| p.dtype != DType::String), "outputs of a fixed size");
    let executable = lane.prepare(&program).expect("it fits the adapter");
    lane.warm(&executable).expect("it runs");
    let mut rounds = Rounds::new(lane, executable, inputs);
    (0..WARM_RUNS).for_each(|_| _ = rounds.run());

    let (before, start) = (processor_time(), Instant::now());
    let mut times = Vec::new();
    while start.elapsed() < TIMED {
        times.push(rounds.run());
    }
    let after = processor_time();
    println!("{}, {how}, {dispatches} dispatches, {} runs; microseconds a batch:", adapter.name(), times.len());
    let [upload, encode, read_back] =
        [median(&times, |t| t.upload), median(&times, |t| t.encode), median(&times, |t| t.read_back)];
    println!("  inputs, {moved} bytes          {upload:9.1}   (a plain copy of them takes {:.1})", copying(moved));
    println!("  encode and finish           {encode:9.1}");
    println!("  outputs, {out} bytes          {read_back:9.1}   (a plain copy of them takes {:.1})", copying(out));
    println!("  all of these                {:9.1}", upload + encode + read_back);
    println!("  submit                      {:9.1}", median(&times, |t| t.submit));
    println!("  to completion               {:9.1}", median(&times, |t| t.device));
    for (thread, time) in &after {
        let used = time.saturating_sub(before.get(thread).copied().unwrap_or(0));
        println!("  processor, thread {thread:<12}{:7.1}", used as f64 / 1e3 / times.len() as f64);
    }

    let found = counting::allocations(|| (0..COUNTED_RUNS).for_each(|_| _ = rounds.run()));
    let mut owners = BTreeMap::new();
    for (owner, trace) in &found {
        let entry = owners.entry(*owner).or_insert((0, trace));
        entry.0 += 1;
    }
    println!("allocations a batch, over {COUNTED_RUNS} batches:");
    for (owner, (count, trace)) in owners {
        println!("  {owner:?}: {:.1}", count as f64 / COUNTED_RUNS as f64);
        if owner != counting::Owner::Wgpu {
            println!("{trace}");
        }
    }
}
