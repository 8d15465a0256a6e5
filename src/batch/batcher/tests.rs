use std::sync::atomic::{AtomicUsize, Ordering};

use super::*;
use crate::batch::policy::Priority;
use crate::batch::report::BatchReport;
use crate::error::Code;

/// The runtime's own time, which stands still in these tests unless everyone waits.
pub(super) struct PausedClock;

impl Clock for PausedClock {
    fn now(&self) -> Instant {
        tokio::time::Instant::now().into_std()
    }

    fn sleep_until(&self, at: Instant) -> impl Future<Output = ()> + Send {
        tokio::time::sleep_until(at.into())
    }
}

#[derive(Default)]
pub(super) struct Seen {
    pub(super) batches: Mutex<Vec<BatchReport>>,
    pub(super) dropped: Mutex<Vec<Dropped>>,
}

impl Observer for Seen {
    fn queued(&self, _: usize) {}

    fn batch(&self, report: &BatchReport) {
        self.batches.lock().expect("no test panics in it").push(report.clone());
    }

    fn dropped(&self, why: Dropped) {
        self.dropped.lock().expect("no test panics in it").push(why);
    }
}

pub(super) const RUN: Duration = Duration::from_millis(10);

pub(super) fn setting(parameters: Parameters, slots: usize, seen: &Arc<Seen>) -> Setting<PausedClock> {
    Setting {
        parameters,
        policy: Policy::default(),
        shapes: None,
        turns: Turns::new(1, slots),
        clock: Arc::new(PausedClock),
        observer: seen.clone(),
    }
}

/// A batcher whose engine doubles numbers in 10 ms, and fails on a batch that starts with a negative one.
fn doubling(parameters: Parameters, slots: usize) -> (Batcher, Arc<Seen>) {
    let seen = Arc::new(Seen::default());
    let batcher = Batcher::start(setting(parameters, slots, &seen), |inputs, _| async move {
        tokio::time::sleep(RUN).await;
        let values = inputs[0].values::<f32>()?;
        if values[0] < 0.0 {
            return Err(Error::internal("negative"));
        }
        assert!(values[0].is_finite(), "the engine has a defect");
        let doubled = Tensor::from_vec(inputs[0].shape().clone(), values.iter().map(|v| v * 2.0).collect())?;
        Ok(Ran { outputs: vec![doubled], device: RUN, lane: 0 })
    });
    (batcher, seen)
}

pub(super) fn numbers(values: &[f32]) -> Request {
    let inputs = vec![Tensor::from_vec([values.len(), 1], values.to_vec()).expect("one column")];
    Request {
        inputs,
        join: Join::Rows([1, 2, 4].into()),
        deadline: None,
        priority: Priority::Normal,
        guard: Box::new(()),
    }
}

fn values(answer: Result<Answer>) -> Vec<f32> {
    answer.expect("an answer").outputs[0].values::<f32>().expect("f32").into_owned()
}

#[tokio::test(start_paused = true)]
async fn requests_share_a_batch_and_get_their_own_rows() {
    let (batcher, seen) = doubling(Parameters::default(), 1);
    let pending: Vec<_> = [&[1.0][..], &[2.0, 3.0]].iter().map(|v| batcher.submit(numbers(v)).expect("room")).collect();
    let mut answers = Vec::new();
    for p in pending {
        answers.push(values(p.answer().await));
    }
    assert_eq!(answers, [vec![2.0], vec![4.0, 6.0]]);
    let batches = seen.batches.lock().expect("unpoisoned");
    assert_eq!((batches.len(), batches[0].rows, batches[0].padded_rows), (1, 3, 1));
}

#[tokio::test(start_paused = true)]
async fn while_a_batch_runs_the_next_gathers() {
    let (batcher, seen) = doubling(Parameters::default(), 1);
    let first = batcher.submit(numbers(&[0.0])).expect("room");
    tokio::time::sleep(RUN / 2).await;
    let rest: Vec<_> = (1..4).map(|i| batcher.submit(numbers(&[i as f32])).expect("room")).collect();
    assert_eq!(values(first.answer().await), [0.0]);
    for (i, p) in rest.into_iter().enumerate() {
        let answer = p.answer().await.expect("an answer");
        assert_eq!((answer.timing.batch_rows, answer.timing.queued), (4, RUN / 2), "request {i}");
    }
    let rows: Vec<_> = seen.batches.lock().expect("unpoisoned").iter().map(|b| b.rows).collect();
    assert_eq!(rows, [1, 3]);
}

#[tokio::test(start_paused = true)]
async fn a_large_request_is_divided_and_joined_again() {
    let (batcher, _) = doubling(Parameters::default(), 2);
    let all: Vec<f32> = (0..11).map(|v| v as f32).collect();
    let answer = batcher.submit(numbers(&all)).expect("room").answer().await;
    assert_eq!(answer.as_ref().expect("an answer").timing.batches, 3);
    assert_eq!(values(answer), all.iter().map(|v| v * 2.0).collect::<Vec<_>>());
    let mut broken = all.clone();
    broken[4] = -1.0;
    let error = batcher.submit(numbers(&broken)).expect("room").answer().await.expect_err("its second part fails");
    assert_eq!(error.message(), "negative");
    let (whole, _) = doubling(Parameters { enable_large_batch_splitting: Some(false), ..Parameters::default() }, 1);
    let error = whole.submit(numbers(&all)).err().expect("too large");
    assert_eq!(error.message(), "Task size 11 is larger than maximum input batch size 4");
}

#[tokio::test(start_paused = true)]
async fn other_shapes_and_types_stay_apart() {
    let (batcher, seen) = doubling(Parameters::default(), 4);
    let wide = Tensor::from_vec([1, 2], vec![5.0f32, 6.0]).expect("two numbers");
    let pending = [
        batcher.submit(numbers(&[1.0])).expect("room"),
        batcher.submit(Request { inputs: vec![wide], ..numbers(&[]) }).expect("room"),
        batcher.submit(Request { join: Join::Alone, ..numbers(&[3.0]) }).expect("room"),
    ];
    let mut answers = Vec::new();
    for p in pending {
        answers.push(values(p.answer().await));
    }
    assert_eq!(answers, [vec![2.0], vec![10.0, 12.0], vec![6.0]]);
    assert!(seen.batches.lock().expect("unpoisoned").iter().all(|b| b.requests == 1));
}

#[tokio::test(start_paused = true)]
async fn late_and_left_requests_are_never_run() {
    let (batcher, seen) = doubling(Parameters::default(), 1);
    let running = batcher.submit(numbers(&[1.0])).expect("room");
    tokio::task::yield_now().await;
    let now = tokio::time::Instant::now().into_std();
    let late = batcher.submit(Request { deadline: Some(now + RUN / 2), ..numbers(&[2.0]) }).expect("room");
    drop(batcher.submit(numbers(&[3.0])).expect("room"));
    let error = late.answer().await.expect_err("its deadline passed in the queue");
    assert_eq!(error.code(), Code::ResourceExhausted);
    assert_eq!(error.message(), "Run() timeout exceeded while waiting in batching queue");
    assert_eq!(values(running.answer().await), [2.0]);
    let last = batcher.submit(numbers(&[4.0])).expect("room").answer().await;
    assert_eq!(values(last), [8.0]);
    assert_eq!(seen.batches.lock().expect("unpoisoned").len(), 2);
    assert_eq!(seen.dropped.lock().expect("unpoisoned").len(), 2);
}

#[tokio::test(start_paused = true)]
async fn a_deadline_in_the_run_is_one_callers_own() {
    let (batcher, _) = doubling(Parameters::default(), 1);
    let now = tokio::time::Instant::now().into_std();
    let hasty = batcher.submit(Request { deadline: Some(now + RUN / 2), ..numbers(&[1.0]) }).expect("room");
    let patient = batcher.submit(numbers(&[2.0])).expect("room");
    let error = hasty.answer().await.expect_err("too hasty");
    assert_eq!((error.code(), error.message()), (Code::DeadlineExceeded, "Timed out waiting for notification"));
    assert_eq!(values(patient.answer().await), [4.0]);
}

#[tokio::test(start_paused = true)]
async fn a_run_that_nobody_waits_for_is_given_up() {
    let ended = Arc::new(AtomicUsize::new(0));
    let count = Arc::clone(&ended);
    let seen = Arc::new(Seen::default());
    let batcher = Batcher::start(setting(Parameters::default(), 1, &seen), move |inputs, _| {
        let count = Arc::clone(&count);
        async move {
            tokio::time::sleep(RUN).await;
            count.fetch_add(1, Ordering::Relaxed);
            Ok(Ran { outputs: inputs, device: RUN, lane: 0 })
        }
    });
    let two = [batcher.submit(numbers(&[1.0])).expect("room"), batcher.submit(numbers(&[2.0])).expect("room")];
    tokio::time::sleep(RUN / 2).await;
    drop(two);
    batcher.submit(numbers(&[3.0])).expect("room").answer().await.expect("an answer");
    assert_eq!(ended.load(Ordering::Relaxed), 1);
}

#[tokio::test(start_paused = true)]
async fn a_full_queue_refuses_and_forgets_nobody() {
    let (batcher, seen) = doubling(Parameters { max_enqueued_batches: 1, ..Parameters::default() }, 1);
    let running = batcher.submit(numbers(&[1.0])).expect("room");
    tokio::task::yield_now().await;
    let waiting = batcher.submit(numbers(&[1.0, 2.0, 3.0, 4.0])).expect("room for one batch");
    let error = batcher.submit(numbers(&[5.0])).err().expect("a second batch");
    assert_eq!(error.code(), Code::Unavailable);
    assert_eq!(*seen.dropped.lock().expect("unpoisoned"), [Dropped::QueueFull]);
    drop(waiting);
    let next = batcher.submit(numbers(&[5.0])).expect("the one that left made room");
    drop(batcher);
    assert_eq!(values(running.answer().await), [2.0]);
    assert_eq!(values(next.answer().await), [10.0], "what waits is run although the batcher is gone");
}

#[tokio::test(start_paused = true)]
async fn the_guard_goes_with_the_answer() {
    let (batcher, _) = doubling(Parameters::default(), 1);
    let held = Arc::new(());
    let guard = Box::new(Arc::clone(&held));
    let pending = batcher.submit(Request { guard, ..numbers(&[1.0]) }).expect("room");
    tokio::time::sleep(RUN / 2).await;
    assert_eq!(Arc::strong_count(&held), 2);
    pending.answer().await.expect("an answer");
    assert_eq!(Arc::strong_count(&held), 1);
}

#[tokio::test(start_paused = true)]
async fn callers_that_ask_again_at_once_fill_batches() {
    const CALLERS: usize = 64;
    const ROUNDS: usize = 20;
    for slots in [1, 2, 4] {
        let (batcher, seen) = doubling(Parameters::default(), slots);
        let batcher = Arc::new(batcher);
        let sizes: Arc<[usize]> = [1, 2, 4, 8, 16, 32, 64].into();
        let callers: Vec<_> = (0..CALLERS)
            .map(|i| {
                let (batcher, sizes) = (Arc::clone(&batcher), Arc::clone(&sizes));
                tokio::spawn(async move {
                    for _ in 0..ROUNDS {
                        let request = Request { join: Join::Rows(Arc::clone(&sizes)), ..numbers(&[i as f32]) };
                        assert_eq!(values(batcher.submit(request).expect("room").answer().await), [2.0 * i as f32]);
                        tokio::time::sleep(Duration::from_millis(i as u64 % 3)).await;
                    }
                })
            })
            .collect();
        for caller in callers {
            caller.await.expect("every caller gets its own answers");
        }
        let batches = seen.batches.lock().expect("unpoisoned").len();
        assert!(CALLERS * ROUNDS / batches >= CALLERS / (2 * slots), "{batches} batches over {slots} slots");
    }
}

#[tokio::test(start_paused = true)]
async fn a_run_that_panics_is_an_error_to_its_callers_only() {
    let (batcher, _) = doubling(Parameters::default(), 1);
    let error = batcher.submit(numbers(&[f32::INFINITY])).expect("room").answer().await.expect_err("it panics");
    assert_eq!((error.code(), error.message()), (Code::Internal, "the run of a batch panicked"));
    assert_eq!(values(batcher.submit(numbers(&[1.0])).expect("room").answer().await), [2.0]);
}

#[test]
fn requests_end_with_the_runtime() {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_time().build().expect("a runtime");
    let (batcher, pending) = runtime.block_on(async {
        let (batcher, _) = doubling(Parameters::default(), 1);
        let pending = batcher.submit(numbers(&[1.0])).expect("room");
        (batcher, pending)
    });
    drop(runtime);
    assert_eq!(batcher.submit(numbers(&[1.0])).err().expect("nobody runs it").code(), Code::Unavailable);
    assert_eq!(pollster::block_on(pending.answer()).expect_err("nobody ran it").code(), Code::Unavailable);
}
