//! Lanes that lose their devices, or hang, under runs.

use std::future::Future;
use std::task::{Context, Poll, Waker};
use std::time::{Duration, Instant};

use futures_util::FutureExt as _;

use super::super::device::Adapter;
use super::super::engine::{Engine, EngineOptions, LoadOptions};
use super::super::lane_count::LaneCount;
use super::super::session::{Demand, RunOutput, Session};
use super::*;

/// Longest that anything here takes on a slow machine.
const PATIENCE: Duration = Duration::from_secs(120);

/// Runs that one lane has begun at a time: two submissions, and the one being written.
const IN_FLIGHT: usize = 3;

/// An engine of so many lanes, and a model on it; none where there is no adapter.
fn engine(lanes: usize, patience: Duration) -> Option<(Arc<Engine>, Arc<Session>)> {
    if Adapter::all().is_empty() {
        eprintln!("skipped: no adapter");
        return None;
    }
    let (lanes, hang_time, loss_time) = (LaneCount::Exactly(lanes), patience, patience);
    let options = EngineOptions { lanes, hang_time, loss_time, ..EngineOptions::default() };
    let engine = Engine::start(&options).expect("an adapter that computes right");
    let graph = Sketch::new(vec![tensor("x", &[4, 6])]).node("Relu", &["x"], "y", &[]).0;
    let session = engine.load(graph, LoadOptions::default()).expect("it loads");
    Some((engine, session))
}

fn input(turn: usize) -> Vec<Tensor> {
    vec![Tensor::from_vec([4, 6], (0..24).map(|i| i as f32 - turn as f32).collect()).expect("24 elements")]
}

fn is_right(turn: usize, output: &RunOutput) -> bool {
    let expected: Vec<f32> = (0..24).map(|i| (i as f32 - turn as f32).max(0.0)).collect();
    output.outputs[0].to_f32s().is_ok_and(|found| *found == *expected)
}

/// Nobody waits for ever.
fn demand() -> Demand {
    Demand { deadline: Some(Instant::now() + PATIENCE), ..Demand::default() }
}

fn run(session: &Session, turn: usize) -> Result<RunOutput> {
    pollster::block_on(session.run(input(turn), demand()))
}

#[test]
fn what_waits_when_a_lane_is_lost_runs_on_its_replacement() {
    for lanes in [1, 2] {
        let Some((engine, session)) = engine(lanes, PATIENCE) else { return };
        for round in 0..3 {
            let run = |turn| Box::pin(session.run(input(turn), demand()));
            let mut runs: Vec<_> = (0..64).map(run).collect();
            let mut context = Context::from_waker(Waker::noop());
            // Asked once, each hands its work over to a lane, and is perhaps done already.
            let done: Vec<_> = runs.iter_mut().map(|run| run.as_mut().poll(&mut context)).collect();
            engine.lanes()[0].simulate_loss();
            let mut failed = 0;
            for (turn, (run, done)) in runs.into_iter().zip(done).enumerate() {
                let outcome = match done {
                    Poll::Ready(outcome) => outcome,
                    Poll::Pending => pollster::block_on(run),
                };
                match outcome {
                    Ok(output) => assert!(is_right(turn, &output), "run {turn} has somebody else's answer"),
                    Err(error) => {
                        assert_eq!(error.code(), Code::Unavailable, "{error}");
                        failed += 1;
                    }
                }
            }
            assert!(failed <= IN_FLIGHT, "{failed} runs failed, only those on the device may");
            let before = Instant::now();
            while engine.lanes_replaced() <= round && before.elapsed() < PATIENCE {
                std::thread::yield_now();
            }
            assert_eq!(engine.lanes_replaced(), round + 1);
        }
        session.wait_for_lanes(&session.shapes_for(4, None).expect("known shapes"), PATIENCE).expect("all are back");
    }
}

#[test]
fn a_lane_that_hangs_is_replaced_once_and_the_second_is_the_last() {
    let Some((engine, session)) = engine(1, Duration::from_secs(2)) else { return };
    assert!(is_right(1, &run(&session, 1).expect("it works")));
    engine.lanes()[0].faults().hang();
    assert_eq!(run(&session, 2).expect_err("it was on the device").code(), Code::Unavailable);
    assert!(is_right(3, &run(&session, 3).expect("another device is there")));
    assert_eq!(engine.lanes_replaced(), 1);
    engine.lanes()[0].faults().hang();
    assert_eq!(run(&session, 4).expect_err("it was on the device").code(), Code::Unavailable);
    pollster::block_on(engine.hopeless());
    assert_eq!(run(&session, 5).expect_err("nothing runs any more").code(), Code::Unavailable);
}

#[test]
fn an_adapter_whose_devices_stay_lost_is_given_up() {
    let Some((engine, session)) = engine(2, Duration::from_millis(500)) else { return };
    let lanes = engine.lanes();
    lanes.iter().for_each(|lane| lane.faults().bury());
    lanes[0].simulate_loss();
    std::thread::sleep(Duration::from_millis(700));
    assert!(engine.hopeless().now_or_never().is_none(), "the other lane works");
    assert!(is_right(1, &run(&session, 1).expect("the other lane works")));
    lanes[1].simulate_loss();
    pollster::block_on(engine.hopeless());
    assert_eq!(run(&session, 2).expect_err("nothing runs any more").code(), Code::Unavailable);
    assert_eq!(engine.lanes_replaced(), 0);
}
