//! Replaying a batch allocates nothing in the engine's own code.

#![allow(clippy::print_stdout, reason = "a test program without a harness speaks through stdout")]

mod counting;
mod residual;
mod rounds;

use std::sync::Arc;

use coracle::engine::compile::compile;
use coracle::engine::device::{Adapter, Lane, LaneOptions, Mask, Replay};
use coracle::engine::ir::{Choices, Given};

use counting::Owner;
use rounds::Rounds;

#[global_allocator]
static ALLOCATOR: counting::Counting = counting::Counting;

/// Runs before any is watched: queues, slots and the memory of outputs reach their size.
const WARM_RUNS: usize = 4;
/// Runs that are watched.
const RUNS: usize = 4;

fn check(adapter: &Adapter, replay: Replay) {
    let options = LaneOptions { replay, ..LaneOptions::default() };
    let lane = Lane::open(adapter, 0, &options).expect("an adapter gives a device");
    let input = residual::input();
    let given = [Given::of(&input)];
    let program = compile(&residual::graph(), &given, &adapter.profile(&Mask::default()), &Choices::default())
        .expect("it compiles");
    let executable = lane.prepare(&Arc::new(program)).expect("it fits");
    lane.warm(&executable).expect("it runs");
    let mut rounds = Rounds::new(lane, executable, vec![input]);
    (0..WARM_RUNS).for_each(|_| _ = rounds.run());
    let found = counting::allocations(|| (0..RUNS).for_each(|_| _ = rounds.run()));
    assert!(found.iter().any(|(owner, _)| *owner == Owner::Wgpu), "{}: nothing was seen at all", adapter.name());
    let others: Vec<_> = found.iter().filter(|(owner, _)| *owner != Owner::Wgpu).collect();
    if let Some((owner, trace)) = others.first() {
        panic!("{}: {} allocations, the first by {owner:?}:\n{trace}", adapter.name(), others.len());
    }
}

fn main() {
    counting::prepare();
    let adapters = Adapter::all();
    if adapters.is_empty() {
        println!("skipped: no adapter");
    }
    for adapter in adapters {
        for replay in [Replay::Auto, Replay::Encoded] {
            check(&adapter, replay);
            println!("{}, {replay:?}: a replay allocates nothing of ours", adapter.name());
        }
    }
}
