//! Batchers that share a device.

use super::tests::{RUN, Seen, numbers, setting};
use super::*;
use crate::batch::policy::Priority;
use crate::batch::report::Closed;
use crate::error::Code;

/// A device that works off batches in order, one at a time, all rows equally long.
#[derive(Clone)]
struct Device {
    turns: Arc<Turns>,
    lane: Arc<tokio::sync::Mutex<()>>,
    row: Duration,
}

impl Device {
    /// One that takes 10 ms a row.
    fn new(in_flight: usize) -> Self {
        Self { turns: Turns::new(1, in_flight), lane: Arc::default(), row: RUN }
    }

    /// A batcher on it, under a policy of its own.
    fn serve(&self, policy: Policy, parameters: Parameters) -> (Batcher, Arc<Seen>) {
        let seen = Arc::new(Seen::default());
        let (turns, lane, row) = (Arc::clone(&self.turns), Arc::clone(&self.lane), self.row);
        let setting = Setting { policy, turns, ..setting(parameters, 1, &seen) };
        let batcher = Batcher::start(setting, move |inputs, order| {
            let lane = Arc::clone(&lane);
            async move {
                let _lane = lane.lock().await;
                let rows = u32::try_from(inputs[0].shape()[0]).expect("a few");
                tokio::time::sleep(row * rows).await;
                assert!(order.expected.is_zero() || order.expected >= row);
                Ok(Ran { outputs: inputs, device: row * rows, lane: 0 })
            }
        });
        (batcher, seen)
    }
}

fn milliseconds(count: u64) -> Option<Duration> {
    Some(Duration::from_millis(count))
}

/// Asks for one row to be doubled so that its device time is known.
async fn measure(batcher: &Batcher) {
    for _ in 0..3 {
        batcher
            .submit(numbers(&[1.0]))
            .expect("nothing is known that speaks against it")
            .answer()
            .await
            .expect("an answer");
    }
}

#[tokio::test(start_paused = true)]
async fn what_cannot_be_answered_in_time_is_refused_at_once() {
    let policy = Policy { latency_target: milliseconds(45), ..Policy::default() };
    let (batcher, seen) = Device::new(1).serve(policy, Parameters::default());
    let one = || Request { join: Join::Alone, ..numbers(&[1.0]) };
    batcher.submit(one()).expect("idle").answer().await.expect("an answer");
    // One runs, three wait: 10 ms each.
    let waiting: Vec<_> = (0..4).map(|i| batcher.submit(one()).unwrap_or_else(|e| panic!("{i}: {e}"))).collect();
    tokio::task::yield_now().await;
    let now = tokio::time::Instant::now();
    let refused = batcher.submit(one()).err().expect("50 ms");
    assert_eq!((refused.code(), refused.wait()), (Code::ResourceExhausted, milliseconds(5)));
    let message = "the request would be answered in about 50 ms, later than latency_target_ms (45) allows";
    assert_eq!(refused.message(), message);
    assert_eq!(now.elapsed(), Duration::ZERO);
    // Its own deadline may be shorter, and is told by the same figures without the request.
    let deadline = Some(now.into_std() + Duration::from_millis(20));
    assert_eq!(batcher.foresee(deadline).expect_err("50 ms").wait(), milliseconds(30));
    assert_eq!(*seen.dropped.lock().expect("unpoisoned"), [Dropped::LatencyTarget, Dropped::Deadline]);
    // What goes before the others is answered sooner.
    batcher.submit(Request { priority: Priority::High, ..one() }).expect("20 ms");
    for pending in waiting {
        pending.answer().await.expect("what was taken is answered");
    }
    batcher.submit(one()).expect("there is room again").answer().await.expect("an answer");
}

#[tokio::test(start_paused = true)]
async fn figures_that_are_old_or_wrong_shut_nobody_out() {
    let policy = Policy { latency_target: milliseconds(1), ..Policy::default() };
    let (batcher, _) = Device::new(1).serve(policy, Parameters::default());
    measure(&batcher).await;
    let hasty = || Request { deadline: Some(tokio::time::Instant::now().into_std() + RUN / 2), ..numbers(&[1.0]) };
    assert_eq!(batcher.submit(hasty()).err().expect("it takes 10 ms").wait(), Some(RUN / 2));
    tokio::time::sleep(FIGURES_AGE_MAX).await;
    let tried = batcher.submit(hasty()).expect("it may be faster by now").answer().await;
    assert_eq!(tried.expect_err("it is not").code(), Code::DeadlineExceeded);
}

#[tokio::test(start_paused = true)]
async fn a_large_request_is_not_refused_for_what_large_batches_might_cost() {
    let seen = Arc::new(Seen::default());
    // A batch takes the same time whatever its rows.
    let batcher = Batcher::start(setting(Parameters::default(), 1, &seen), |inputs, _| async move {
        tokio::time::sleep(RUN).await;
        Ok(Ran { outputs: inputs, device: RUN, lane: 0 })
    });
    measure(&batcher).await;
    let large = |deadline: Duration| {
        let join = Join::Rows([1, 2, 4, 8, 16, 32, 64].into());
        let deadline = Some(tokio::time::Instant::now().into_std() + deadline);
        batcher.submit(Request { join, deadline, ..numbers(&[1.0; 256]) })
    };
    // Row by row it would take 2.5 s, by what was measured four batches of 10 ms at least.
    let error = large(RUN * 3).err().expect("four batches take four times what one row does");
    assert_eq!(error.message(), "the request would be answered in about 40 ms, its deadline is in 30 ms");
    let taken = large(RUN * 50).expect("perhaps it can be done").answer().await.expect("in time");
    // The first batch is cut to what may take 250 ms, and shows that none takes longer than 10.
    assert_eq!((taken.timing.batches, taken.timing.ran), (5, RUN * 5));
}

#[tokio::test(start_paused = true)]
async fn batches_are_cut_to_the_time_that_they_may_take() {
    let policy = Policy { batch_time_max: RUN * 2, ..Policy::default() };
    let (batcher, seen) = Device::new(1).serve(policy, Parameters::default());
    measure(&batcher).await;
    let four = batcher.submit(numbers(&[1.0, 2.0, 3.0, 4.0])).expect("room").answer().await.expect("an answer");
    assert_eq!(four.timing.batches, 2);
    assert_eq!(batcher.waiting().cut_to, Some(2));
    let closed: Vec<_> = seen.batches.lock().expect("unpoisoned").iter().rev().take(2).map(|b| b.closed).collect();
    assert_eq!(closed, [Closed::Time, Closed::Time]);
    assert_eq!(batcher.waiting().costs, [(1, RUN), (2, RUN * 2)].into());
    let whole = Parameters { enable_large_batch_splitting: Some(false), ..Parameters::default() };
    let policy = Policy { batch_time_max: RUN / 2, ..Policy::default() };
    let (batcher, _) = Device::new(1).serve(policy, whole);
    measure(&batcher).await;
    let four = batcher.submit(numbers(&[1.0, 2.0, 3.0, 4.0])).expect("room").answer().await.expect("an answer");
    assert_eq!(four.timing.batches, 1, "what may not be divided is run as it is");
    assert_eq!(seen.batches.lock().expect("unpoisoned").len(), 5);
}

#[tokio::test(start_paused = true)]
async fn models_share_the_device_by_weight_and_not_by_batches() {
    let device = Device::new(2);
    let (slow, slow_seen) = device.serve(Policy::default(), Parameters::default());
    let (fast, fast_seen) = device.serve(Policy { weight: 3.0, ..Policy::default() }, Parameters::default());
    for (batcher, rows) in [(Arc::new(slow), 40), (Arc::new(fast), 1)] {
        for _ in 0..4 {
            let batcher = Arc::clone(&batcher);
            // They ask until the test ends.
            tokio::spawn(async move {
                loop {
                    let request = Request { join: Join::Alone, ..numbers(&vec![1.0; rows]) };
                    batcher.submit(request).expect("room").answer().await.expect("an answer");
                }
            });
        }
    }
    tokio::time::sleep(Duration::from_secs(600)).await;
    let spent = |seen: &Seen| seen.batches.lock().expect("unpoisoned").iter().map(|b| b.device).sum::<Duration>();
    let share = spent(&fast_seen).as_secs_f64() / (spent(&fast_seen) + spent(&slow_seen)).as_secs_f64();
    assert!((0.72..0.78).contains(&share), "{share} of the device time for three quarters");
}

#[tokio::test(start_paused = true)]
async fn a_model_that_is_unloaded_leaves_its_turns() {
    let device = Device::new(1);
    let (gone, _) = device.serve(Policy::default(), Parameters::default());
    let (stays, _) = device.serve(Policy::default(), Parameters::default());
    let late = tokio::time::Instant::now().into_std() + RUN / 2;
    let running = stays.submit(numbers(&[1.0])).expect("room");
    tokio::task::yield_now().await;
    // It is given its turn when nobody waits for it any more.
    let waiting = gone.submit(Request { deadline: Some(late), ..numbers(&[2.0]) }).expect("room");
    tokio::task::yield_now().await;
    drop((waiting, gone));
    running.answer().await.expect("an answer");
    stays.submit(numbers(&[3.0])).expect("room").answer().await.expect("the turn is free");
}

#[tokio::test(start_paused = true)]
async fn a_model_with_more_to_run_than_turns_keeps_its_place() {
    let row = Duration::from_millis(1);
    let device = Device { row, ..Device::new(2) };
    let (slow, _) = device.serve(Policy::default(), Parameters::default());
    let (fast, _) = device.serve(Policy::default(), Parameters::default());
    let large = || Request { join: Join::Alone, ..numbers(&[1.0; 100]) };
    measure(&fast).await;
    slow.submit(large()).expect("room").answer().await.expect("an answer");
    let slow: Vec<_> = (0..3).map(|_| slow.submit(large()).expect("room")).collect();
    tokio::time::sleep(row).await;
    let start = tokio::time::Instant::now();
    let fast: Vec<_> = (0..10).map(|_| fast.submit(numbers(&[1.0; 4])).expect("room")).collect();
    for pending in fast {
        pending.answer().await.expect("an answer");
    }
    // The rest of a batch of 100 rows, then all ten of 4: they are due as much device time as it took.
    assert!(start.elapsed() <= row * 145, "{:?}", start.elapsed());
    for pending in slow {
        pending.answer().await.expect("an answer");
    }
}
