//! Weights that lanes have in common: equal answers, less memory, and devices that are lost meanwhile.

use std::collections::HashSet;
use std::future::Future;
use std::task::{Context, Poll, Waker};
use std::time::{Duration, Instant};

use super::super::device::{Adapter, ShareWeights, WeightUse};
use super::super::engine::{Engine, EngineOptions, LoadOptions};
use super::super::lane_count::{LaneCount, key};
use super::super::lane_file::{self, Rates};
use super::super::memory::{MemoryBound, MemoryTotal};
use super::super::session::{Demand, Session};
use super::*;

/// Longest that anything here takes on a slow machine.
const PATIENCE: Duration = Duration::from_secs(120);
/// Rows and columns of the weight: 256 KiB of it.
const WIDTH: usize = 256;
const WEIGHT_BYTES: u64 = (WIDTH * WIDTH * 4) as u64;

/// An engine of so many lanes on this adapter, which share or do not.
fn engine(adapter: &Adapter, lanes: usize, share_weights: ShareWeights) -> Arc<Engine> {
    let device = adapter.index().to_string();
    let options = EngineOptions { device, lanes: LaneCount::Exactly(lanes), share_weights, ..EngineOptions::default() };
    Engine::start(&options).expect("an adapter that computes right")
}

/// The adapters whose lanes can share.
fn adapters() -> Vec<Adapter> {
    let found: Vec<_> = Adapter::all().into_iter().filter(|adapter| adapter.way_to_share().is_some()).collect();
    if found.is_empty() {
        eprintln!("skipped: no adapter has a way to share");
    }
    found
}

fn numbers(count: usize, step: usize) -> Vec<f32> {
    (0..count).map(|i| ((i * step) % 61) as f32 / 61.0 - 0.5).collect()
}

/// A product with one large weight.
fn graph() -> Graph {
    let weight = Tensor::from_vec([WIDTH, WIDTH], numbers(WIDTH * WIDTH, 7)).expect("as many");
    Sketch::new(vec![tensor("x", &[4, WIDTH])]).constant("w", weight).node("MatMul", &["x", "w"], "y", &[]).0
}

/// That on every lane that it fits on.
fn load(engine: &Arc<Engine>) -> Arc<Session> {
    let session = engine.load(graph(), LoadOptions::default()).expect("it loads");
    wait(&session);
    session
}

fn wait(session: &Session) {
    let shapes = session.shapes_for(4, None).expect("known shapes");
    session.wait_for_lanes(&shapes, PATIENCE).expect("every lane is ready");
}

fn answer(session: &Session, turn: usize) -> Result<Tensor> {
    let x = Tensor::from_vec([4, WIDTH], numbers(4 * WIDTH, turn + 1)).expect("as many");
    let demand = Demand { deadline: Some(Instant::now() + PATIENCE), ..Demand::default() };
    Ok(pollster::block_on(session.run(vec![x], demand))?.outputs[0].clone())
}

/// Answers asked for at once, so that every lane gives some.
fn answers(engine: &Arc<Engine>, session: &Session) -> Vec<Tensor> {
    let run = |turn: usize| {
        let x = Tensor::from_vec([4, WIDTH], numbers(4 * WIDTH, turn + 1)).expect("as many");
        Box::pin(session.run(vec![x], Demand::default()))
    };
    let mut runs: Vec<_> = (0..32).map(run).collect();
    let mut context = Context::from_waker(Waker::noop());
    let done: Vec<_> = runs.iter_mut().map(|run| run.as_mut().poll(&mut context)).collect();
    let outputs = runs.into_iter().zip(done).map(|(run, done)| match done {
        Poll::Ready(outcome) => outcome.expect("an answer"),
        Poll::Pending => pollster::block_on(run).expect("an answer"),
    });
    let outputs: Vec<_> = outputs.collect();
    let lanes: HashSet<usize> = outputs.iter().map(|output| output.stats.lane).collect();
    assert_eq!(lanes.len(), engine.lanes().len(), "every lane answers");
    outputs.into_iter().map(|output| output.outputs[0].clone()).collect()
}

#[test]
fn one_copy_gives_the_bits_that_two_give_and_takes_less() {
    for adapter in adapters() {
        let (with, without) = (engine(&adapter, 2, ShareWeights::On), engine(&adapter, 2, ShareWeights::Off));
        assert!(with.sharing().is_some() && without.sharing().is_none());
        let (session, plain) = (load(&with), load(&without));
        let twice = WeightUse { distinct: WEIGHT_BYTES, taken: 2 * WEIGHT_BYTES };
        assert_eq!(without.weights(), twice);
        assert_eq!(with.weights(), WeightUse { taken: WEIGHT_BYTES, ..twice });
        let (less, more) = (with.memory(), without.memory());
        assert_eq!(less.allocated + WEIGHT_BYTES, more.allocated);
        assert_eq!(less.accounts[0].held, less.allocated, "what lanes share is held once");
        let own = |engine: &Engine| engine.lanes().iter().map(|lane| lane.memory_bytes()).collect::<Vec<_>>();
        let expected: Vec<_> = own(&without).iter().map(|bytes| bytes - WEIGHT_BYTES).collect();
        assert_eq!(own(&with), expected, "each lane has only its own");
        for (turn, (a, b)) in answers(&with, &session).iter().zip(answers(&without, &plain)).enumerate() {
            assert_eq!(a.bytes(), b.bytes(), "{adapter:?} turn {turn}");
        }
        // The second model of equal weights takes none.
        let before = with.weights();
        let again = load(&with);
        assert_eq!(with.weights(), before);
        drop((session, plain));
        assert_eq!(answer(&again, 3).expect("it works").bytes(), answer(&load(&without), 3).expect("it works").bytes());
    }
}

#[test]
fn lost_lanes_import_what_is_there() {
    for adapter in adapters() {
        for lanes in [1, 2] {
            let engine = engine(&adapter, lanes, ShareWeights::On);
            let session = load(&engine);
            let (expected, weights, memory) =
                (answer(&session, 5).expect("it works"), engine.weights(), engine.memory());
            for round in 0..3 {
                engine.lanes().iter().for_each(|lane| lane.simulate_loss());
                assert_eq!(answer(&session, 5).expect("a lane is back").bytes(), expected.bytes(), "round {round}");
                wait(&session);
                assert_eq!(engine.weights(), weights);
                let before = Instant::now();
                // A second slot is made where a run comes before the last one has given its own back; another copy of the weights
                // would be more than that.
                let most = memory.allocated + weights.distinct / 2;
                // What the lost device held goes when its last holder does.
                while engine.memory().allocated > most && before.elapsed() < PATIENCE {
                    std::thread::yield_now();
                }
                let now = engine.memory().allocated;
                assert!(now <= most, "{now} bytes, before {}", memory.allocated);
            }
            assert_eq!(engine.lanes_replaced(), 3 * lanes);
        }
    }
}

#[test]
fn loading_again_and_again_leaves_nothing() {
    for adapter in adapters() {
        let engine = engine(&adapter, 2, ShareWeights::On);
        let mut expected = None;
        for cycle in 0..12 {
            let session = load(&engine);
            let found = answer(&session, cycle % 3).expect("an answer");
            if cycle % 3 == 0 {
                let first = expected.get_or_insert_with(|| found.clone());
                assert_eq!(first.bytes(), found.bytes(), "cycle {cycle}");
            }
            if cycle % 4 == 3 {
                engine.lanes()[cycle / 4 % 2].simulate_loss();
            }
            let released = session.released().expect("asked for once");
            drop(session);
            // Over when nothing of it is left.
            assert!(pollster::block_on(released).is_err());
            assert_eq!((engine.memory().allocated, engine.weights()), (0, WeightUse::default()), "cycle {cycle}");
        }
    }
}

#[test]
fn a_model_is_put_on_fewer_lanes_where_memory_is_short() {
    let folder = tempfile::tempdir().expect("a temporary folder");
    for adapter in Adapter::all() {
        // As if two lanes had been found to help.
        let rates = [Rates { small: 1.0, large: 1.0 }, Rates { small: 2.0, large: 2.0 }];
        lane_file::add(&folder.path().join("lanes.json"), &key(&adapter), &rates).expect("writable");
        let start = |lanes, bytes| {
            let options = EngineOptions {
                device: adapter.index().to_string(),
                lanes,
                memory: MemoryBound { total: MemoryTotal::Bytes(bytes), fraction: None },
                cache: Some(folder.path().to_owned()),
                share_weights: ShareWeights::Off,
                ..EngineOptions::default()
            };
            Engine::start(&options).expect("an adapter that computes right")
        };
        let plenty = start(LaneCount::Auto, 64 << 20);
        assert_eq!(plenty.lanes().len(), 2);
        let session = load(&plenty);
        let (weights, allocated) = (plenty.weights(), plenty.memory().allocated);
        assert_eq!(weights.taken, 2 * weights.distinct);
        let short = start(LaneCount::Auto, allocated * 3 / 4);
        let narrow = load(&short);
        assert_eq!((short.lanes().len(), short.weights().taken), (2, WEIGHT_BYTES));
        assert_eq!(answer(&narrow, 3).expect("one lane").bytes(), answer(&session, 3).expect("two lanes").bytes());
        // Who says how many wants them all.
        let exact = start(LaneCount::Exactly(2), allocated * 3 / 4);
        let error = exact.load(graph(), LoadOptions::default()).expect_err("two lanes do not fit");
        assert_eq!(error.code(), Code::ResourceExhausted);
        assert!(error.message().starts_with("model model on 2 lanes: "), "{error}");
    }
}
