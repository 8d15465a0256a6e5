//! Answers checked in flight: a sample of requests is computed again on the host, on a thread that yields to all others.

use std::collections::HashMap;
use std::fmt;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, mpsc};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use super::id::ServableId;
use super::observer::{CheckOutcome, Observer};
use super::recheck::{Bounds, recheck, size};
use crate::engine::Reference;
use crate::error::{Code, Result};
use crate::tensor::Tensor;

/// What the host is taken to do in a second where nothing was measured.
const FLOPS_PER_S: f64 = 1e9;
/// Measurements older than this are made anew: the host may have been busy.
const FIGURES_AGE_MAX: Duration = Duration::from_secs(60);
/// Versions of which figures are kept; beyond it all begin anew.
const FIGURES_MAX: usize = 1024;
/// Disagreements are logged at most so often.
const ALARM_INTERVAL: Duration = Duration::from_secs(1);

/// Which answers are checked, and what that may take.
#[derive(Clone, Debug)]
pub struct CheckOptions {
    /// The part of requests, 0 to 1.
    pub fraction: f64,
    /// Time of one check.
    pub time_max: Duration,
    /// Memory of all that waits and is checked.
    pub bytes_max: u64,
    /// Requests that may wait.
    pub queued_max: usize,
}

/// An answer to check.
pub(super) struct Sample {
    pub(super) id: ServableId,
    pub(super) reference: Reference,
    pub(super) lane: usize,
    pub(super) inputs: Vec<Tensor>,
    pub(super) outputs: Vec<Tensor>,
}

/// Takes samples of answers and checks them.
pub struct Checker {
    options: CheckOptions,
    drawn: AtomicU64,
    held: Arc<AtomicU64>,
    samples: mpsc::SyncSender<(Sample, u64)>,
    observer: Arc<dyn Observer>,
}

impl fmt::Debug for Checker {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Checker").field("options", &self.options).field("held", &self.held).finish_non_exhaustive()
    }
}

impl Checker {
    /// Starts its thread, which ends when the checker is dropped and what it was given is checked.
    ///
    /// # Errors
    /// When the system gives no thread.
    pub fn start(options: CheckOptions, observer: Arc<dyn Observer>) -> Result<Arc<Self>> {
        let (samples, given) = mpsc::sync_channel(options.queued_max);
        let held = Arc::new(AtomicU64::new(0));
        let mut worker = Worker {
            options: options.clone(),
            held: Arc::clone(&held),
            observer: Arc::clone(&observer),
            paces: HashMap::new(),
            alarm: Alarm::default(),
        };
        std::thread::Builder::new().name("checks".into()).spawn(move || {
            yield_to_others();
            for (sample, bytes) in given {
                worker.check(&sample);
                drop(sample);
                worker.held.fetch_sub(bytes, Ordering::Relaxed);
            }
        })?;
        let seed = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default().as_nanos() as u64;
        Ok(Arc::new(Self { options, drawn: AtomicU64::new(seed), held, samples, observer }))
    }

    /// Whether the next request is among those checked.
    pub(super) fn draws(&self) -> bool {
        // Each number's hash is as good as a random number.
        let number = self.drawn.fetch_add(1, Ordering::Relaxed);
        let fraction = (xxhash_rust::xxh3::xxh3_64(&number.to_le_bytes()) >> 11) as f64 / (1u64 << 53) as f64;
        fraction < self.options.fraction
    }

    /// Takes an answer, unless too much waits already. Does not wait.
    pub(super) fn offer(&self, sample: Sample) {
        let bytes = sample.inputs.iter().chain(&sample.outputs).map(size).sum();
        let before = self.held.fetch_add(bytes, Ordering::Relaxed);
        let refused = if before.saturating_add(bytes) > self.options.bytes_max {
            Some(sample)
        } else {
            let sample = Sample { inputs: copied(sample.inputs), outputs: copied(sample.outputs), ..sample };
            let sent = self.samples.try_send((sample, bytes));
            sent.err()
                .map(|(mpsc::TrySendError::Full((sample, _)) | mpsc::TrySendError::Disconnected((sample, _)))| sample)
        };
        if let Some(sample) = refused {
            self.held.fetch_sub(bytes, Ordering::Relaxed);
            self.observer.checked(&sample.id, CheckOutcome::Skipped);
        }
    }
}

/// The same values in memory of their own: a few rows must not keep a whole batch or message.
fn copied(tensors: Vec<Tensor>) -> Vec<Tensor> {
    let copy = |tensor: Tensor| {
        let copied = Tensor::from_bytes(tensor.dtype(), tensor.shape().clone(), tensor.bytes().to_vec());
        // Those of no fixed size hold their elements apart.
        copied.unwrap_or(tensor)
    };
    tensors.into_iter().map(copy).collect()
}

/// The thread's own.
struct Worker {
    options: CheckOptions,
    held: Arc<AtomicU64>,
    observer: Arc<dyn Observer>,
    /// What the host does in a second, as measured last for each version.
    paces: HashMap<ServableId, (f64, Instant)>,
    alarm: Alarm,
}

impl Worker {
    fn check(&mut self, sample: &Sample) {
        let start = Instant::now();
        let pace = self.paces.get(&sample.id).filter(|(_, at)| at.elapsed() < FIGURES_AGE_MAX);
        let bounds = Bounds {
            time_max: self.options.time_max,
            // What waits is held, too.
            bytes_max: self.options.bytes_max.saturating_sub(self.held.load(Ordering::Relaxed)),
            flops_per_s: pace.map_or(FLOPS_PER_S, |(pace, _)| *pace),
        };
        let outcome = match recheck(&sample.reference, &sample.inputs, &sample.outputs, bounds) {
            Ok(checked) => {
                self.note(&sample.id, checked.flops, start);
                match checked.disagreement {
                    None => CheckOutcome::Agreed,
                    Some((output, what)) => {
                        self.alarm.sound(sample, &output, &what);
                        CheckOutcome::Disagreed
                    }
                }
            }
            Err(error) => {
                let elapsed = start.elapsed();
                if error.code() == Code::ResourceExhausted && elapsed >= self.options.time_max {
                    // So slow is it at most: not tried again at once.
                    self.slow(&sample.id);
                }
                tracing::debug!(model = %sample.id, ?elapsed, "an answer was not checked: {error}");
                CheckOutcome::Skipped
            }
        };
        self.observer.checked(&sample.id, outcome);
    }

    fn note(&mut self, id: &ServableId, flops: f64, start: Instant) {
        let pace = flops / start.elapsed().as_secs_f64().max(1e-6);
        self.keep(id, pace.max(1.0));
    }

    fn slow(&mut self, id: &ServableId) {
        self.keep(id, 1.0);
    }

    fn keep(&mut self, id: &ServableId, pace: f64) {
        if self.paces.len() >= FIGURES_MAX {
            self.paces.clear();
        }
        self.paces.insert(id.clone(), (pace, Instant::now()));
    }
}

/// Tells of disagreements, but not of all when they come in masses.
#[derive(Default)]
struct Alarm {
    last: Option<Instant>,
    left_out: u64,
}

impl Alarm {
    fn sound(&mut self, sample: &Sample, output: &str, what: &str) {
        if self.last.is_some_and(|last| last.elapsed() < ALARM_INTERVAL) {
            self.left_out += 1;
            return;
        }
        let left_out = std::mem::take(&mut self.left_out);
        self.last = Some(Instant::now());
        tracing::error!(
            model = %sample.id.name, version = sample.id.version, output, lane = sample.lane, left_out,
            "the device computes something else than the host: {what}"
        );
    }
}

/// Has the calling thread run only when no other wants to, where the system has priorities of threads.
#[cfg(target_os = "linux")]
fn yield_to_others() {
    /// The kindest that Linux knows; there it is the thread's own.
    const NICE: i32 = 19;
    if let Err(error) = rustix::process::setpriority_process(None, NICE) {
        tracing::warn!("checks run at the priority of requests: {error}");
    }
}

/// As above, where priorities are the process's.
#[cfg(not(target_os = "linux"))]
fn yield_to_others() {}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::super::observer::{Replayed, Tried};
    use super::*;
    use crate::batch::{BatchReport, Dropped};
    use crate::engine::RunStats;
    use crate::engine::ir::Graph;
    use crate::tensor::Signature;

    /// Passes outcomes on.
    struct Told(mpsc::Sender<CheckOutcome>);

    impl Observer for Told {
        fn queued(&self, _: &ServableId, _: usize) {}
        fn batch(&self, _: &ServableId, _: &BatchReport) {}
        fn dropped(&self, _: &ServableId, _: Dropped) {}
        fn ran(&self, _: &ServableId, _: &RunStats) {}
        fn checked(&self, _: &ServableId, outcome: CheckOutcome) {
            // The test may have seen enough.
            let _ = self.0.send(outcome);
        }
        fn tried(&self, _: &Path, _: &Tried) {}
        fn warmed(&self, _: &Path, _: &Replayed, _: Duration) {}
    }

    /// What passes its input on, and an answer of such a model to 2.
    fn sample(answer: f32) -> Sample {
        let mut graph = Graph {
            values: Vec::new(),
            nodes: Vec::new(),
            inputs: Vec::new(),
            outputs: Vec::new(),
            signature: Signature { inputs: Vec::new(), outputs: Vec::new() },
        };
        let x = graph.add_value("x", None);
        (graph.inputs, graph.outputs) = (vec![x], vec![x]);
        let reference = Reference { graph: Arc::new(graph), is_pure: true, halves: false };
        let (id, inputs) = (ServableId { name: "m".into(), version: 1 }, vec![Tensor::scalar(2.0f32)]);
        Sample { id, reference, lane: 0, inputs, outputs: vec![Tensor::scalar(answer)] }
    }

    fn checker(fraction: f64, bytes_max: u64) -> (Arc<Checker>, mpsc::Receiver<CheckOutcome>) {
        let (tell, told) = mpsc::channel();
        let options = CheckOptions { fraction, time_max: Duration::from_secs(600), bytes_max, queued_max: 4 };
        (Checker::start(options, Arc::new(Told(tell))).expect("a thread"), told)
    }

    #[test]
    fn each_answer_has_one_outcome() {
        let (checker, told) = checker(1.0, 1 << 20);
        checker.offer(sample(2.0));
        assert_eq!(told.recv(), Ok(CheckOutcome::Agreed));
        checker.offer(sample(3.0));
        assert_eq!(told.recv(), Ok(CheckOutcome::Disagreed));
    }

    #[test]
    fn what_there_is_no_memory_for_is_skipped() {
        let (checker, told) = checker(1.0, 7);
        checker.offer(sample(3.0));
        assert_eq!(told.recv(), Ok(CheckOutcome::Skipped));
        assert_eq!(checker.held.load(Ordering::Relaxed), 0);
    }

    #[test]
    fn about_as_many_are_drawn_as_the_fraction_says() {
        let (all, none, quarter) = (checker(1.0, 0).0, checker(0.0, 0).0, checker(0.25, 0).0);
        let drawn = |checker: &Checker| (0..10_000).filter(|_| checker.draws()).count();
        assert_eq!((drawn(&all), drawn(&none)), (10_000, 0));
        // Ten standard deviations.
        let quarter = drawn(&quarter);
        assert!((2070..=2930).contains(&quarter), "{quarter}");
    }
}
