//! The task that forms batches and runs them.

use std::future::Future;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use tokio::sync::{Notify, oneshot};
use tokio::task::JoinSet;

use super::clock::Clock;
use super::flight::Flight;
use super::job::{Answer, Job, Request, SharedJob};
use super::merge::Rows;
use super::parameters::Parameters;
use super::queue::{Bounds, Entry, Join, Queue, Slots};
use super::report::{Dropped, Observer, Waiting};
use crate::error::{Error, Result};
use crate::tensor::{DType, Tensor};

/// Longest that a batch waits for company only because others are in flight.
const HOLD_MAX: Duration = Duration::from_millis(2);

/// What must be equal for requests to share a batch: dtype and inner extents of every input, and whether they merge at all.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Key {
    merges: bool,
    inputs: Vec<(DType, Vec<usize>)>,
}

impl Key {
    fn of(request: &Request) -> Self {
        let merges = request.join != Join::Alone;
        let inner = |t: &Tensor| (t.dtype(), t.shape().get(1..).unwrap_or_default().to_vec());
        // Requests that run alone wait in one line, whatever their shapes.
        Self { merges, inputs: if merges { request.inputs.iter().map(inner).collect() } else { Vec::new() } }
    }
}

/// What callers and the task share.
struct Shared {
    queue: Mutex<Held>,
    /// Told of every change that the task has not made itself.
    changed: Notify,
}

struct Held {
    queue: Queue<Key, SharedJob>,
    closed: bool,
    /// As the task last saw them.
    in_flight: usize,
    hold: Duration,
}

impl Shared {
    fn lock(&self) -> MutexGuard<'_, Held> {
        self.queue.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Takes requests for one model version. When it is dropped, what waits is still run; then its task ends.
pub struct Batcher {
    shared: Arc<Shared>,
    slots: usize,
    parameters: Parameters,
    observer: Arc<dyn Observer>,
    now: Box<dyn Fn() -> Instant + Send + Sync>,
}

impl Batcher {
    /// Starts the task on the current runtime. `run` runs one batch, given inputs and the time after which nobody waits for
    /// the outputs; at most `slots` of its futures exist at a time, fewer if `parameters` say so.
    pub fn start<R, F, C>(
        parameters: Parameters,
        slots: usize,
        clock: Arc<C>,
        observer: Arc<dyn Observer>,
        run: R,
    ) -> Self
    where
        R: Fn(Vec<Tensor>, Option<Instant>) -> F + Send + Sync + 'static,
        F: Future<Output = Result<Vec<Tensor>>> + Send + 'static,
        C: Clock,
    {
        let bounds = Bounds { delay: parameters.batch_timeout, batches_max: parameters.max_enqueued_batches };
        let waiting = Held { queue: Queue::new(bounds), closed: false, in_flight: 0, hold: Duration::ZERO };
        let shared = Arc::new(Shared { queue: Mutex::new(waiting), changed: Notify::new() });
        let slots = slots.min(parameters.num_batch_threads.unwrap_or(usize::MAX)).max(1);
        let task = Task {
            shared: Arc::clone(&shared),
            slots,
            clock: Arc::clone(&clock),
            observer: Arc::clone(&observer),
            run: Arc::new(run),
            flights: JoinSet::new(),
            typical_run: Duration::ZERO,
        };
        tokio::spawn(task.work());
        Self { shared, slots, parameters, observer, now: Box::new(move || clock.now()) }
    }

    /// Queues a request.
    ///
    /// # Errors
    /// `UNAVAILABLE` when the queue is full, `INVALID_ARGUMENT` when the request is larger than a batch and may not be
    /// divided.
    pub fn submit(&self, request: Request) -> Result<Pending> {
        let now = (self.now)();
        let rows = match &request.join {
            Join::Alone => 1,
            Join::Rows(sizes) => self.checked_rows(&request.inputs, sizes)?,
        };
        let (key, join, deadline) = (Key::of(&request), request.join.clone(), request.deadline);
        let (job, answer) = Job::new(request, rows, now);
        let job = Arc::new(job);
        self.enqueue(key, join, Entry { payload: Arc::clone(&job), rows, arrived: now })?;
        self.shared.changed.notify_one();
        Ok(Pending { job, answer, deadline })
    }

    /// What it holds now.
    pub fn waiting(&self) -> Waiting {
        let held = self.shared.lock();
        Waiting {
            requests: held.queue.requests(),
            batches: held.queue.batches(),
            in_flight: held.in_flight,
            slots: self.slots,
            hold: held.hold,
        }
    }

    fn enqueue(&self, key: Key, join: Join, entry: Entry<SharedJob>) -> Result<()> {
        let now = entry.arrived;
        let mut waiting = self.shared.lock();
        if waiting.closed {
            return Err(Error::unavailable("the batcher has stopped"));
        }
        if waiting.queue.push(key.clone(), join.clone(), entry.clone()).is_ok() {
            return Ok(());
        }
        // Those that nobody waits for any more do not count against the bound.
        waiting.queue.purge(|job| is_dead(job, now, &*self.observer));
        waiting.queue.push(key, join, entry).inspect_err(|_| self.observer.dropped(Dropped::QueueFull))
    }

    fn checked_rows(&self, inputs: &[Tensor], sizes: &[usize]) -> Result<usize> {
        let rows = Rows::all(inputs).count;
        if rows == 0 || inputs.iter().any(|t| t.shape().first() != Some(&rows)) {
            return Err(Error::internal("a request without rows, or with unequal ones, was to be merged"));
        }
        let rows_max = sizes.last().copied().unwrap_or(1);
        if rows > rows_max && !self.parameters.enable_large_batch_splitting {
            return Err(Error::invalid_argument(format!(
                "Task size {rows} is larger than maximum input batch size {rows_max}"
            )));
        }
        Ok(rows)
    }
}

impl Drop for Batcher {
    fn drop(&mut self) {
        self.shared.lock().closed = true;
        self.shared.changed.notify_one();
    }
}

/// A queued request. Dropping it gives the request up.
pub struct Pending {
    job: SharedJob,
    answer: oneshot::Receiver<Result<Answer>>,
    deadline: Option<Instant>,
}

impl Pending {
    /// Waits for the answer, at most until the request's deadline.
    ///
    /// # Errors
    /// Whatever the run gives; `RESOURCE_EXHAUSTED` when the deadline passes in the queue, `DEADLINE_EXCEEDED` when it
    /// passes in the run.
    pub async fn answer(mut self) -> Result<Answer> {
        let answer = match self.deadline {
            None => (&mut self.answer).await,
            Some(deadline) => match tokio::time::timeout_at(deadline.into(), &mut self.answer).await {
                Ok(answer) => answer,
                Err(_) => return Err(expired(&self.job)),
            },
        };
        answer.unwrap_or_else(|_| Err(Error::internal("the batch was given up without an answer")))
    }
}

impl Drop for Pending {
    fn drop(&mut self) {
        self.job.leave();
    }
}

/// The error of a job whose deadline has passed.
fn expired(job: &Job) -> Error {
    if job.has_started() {
        Error::deadline_exceeded("Timed out waiting for notification")
    } else {
        Error::resource_exhausted("Run() timeout exceeded while waiting in batching queue")
    }
}

/// Whether a waiting job need not be run; one that expired is told so.
fn is_dead(job: &Job, now: Instant, observer: &dyn Observer) -> bool {
    let late = job.deadline.is_some_and(|deadline| deadline <= now);
    if late {
        observer.dropped(Dropped::Expired);
        job.fail(expired(job));
    } else if job.is_gone() {
        observer.dropped(Dropped::Cancelled);
    }
    late || job.is_gone()
}

/// Forms batches as slots get free.
struct Task<R, C> {
    shared: Arc<Shared>,
    slots: usize,
    clock: Arc<C>,
    observer: Arc<dyn Observer>,
    run: Arc<R>,
    /// Batches in flight; each gives how long it ran.
    flights: JoinSet<Duration>,
    /// Moving average of how long runs take.
    typical_run: Duration,
}

impl<R, C> Drop for Task<R, C> {
    fn drop(&mut self) {
        // Nothing waits unless the task was stopped from outside, with its runtime.
        let mut waiting = self.shared.lock();
        waiting.closed = true;
        waiting.queue.drain().for_each(|job| job.fail(Error::unavailable("the batcher has stopped")));
    }
}

impl<R, F, C> Task<R, C>
where
    R: Fn(Vec<Tensor>, Option<Instant>) -> F + Send + Sync + 'static,
    F: Future<Output = Result<Vec<Tensor>>> + Send + 'static,
    C: Clock,
{
    async fn work(mut self) {
        loop {
            let (due, finished) = self.launch();
            if finished && self.flights.is_empty() {
                return;
            }
            let wake = async {
                match due {
                    Some(at) => self.clock.sleep_until(at).await,
                    None => std::future::pending().await,
                }
            };
            tokio::select! {
                () = self.shared.changed.notified() => {}
                () = wake => {}
                Some(ran) = self.flights.join_next() => {
                    // A run that panicked has told its callers.
                    let ran = ran.unwrap_or(self.typical_run);
                    self.typical_run = (self.typical_run * 7 + ran) / 8;
                }
            }
        }
    }

    /// Starts every batch that may go. Gives the time at which the next may, and whether none will ever come.
    fn launch(&mut self) -> (Option<Instant>, bool) {
        let mut waiting = self.shared.lock();
        loop {
            // While the device is busy, waiting a fraction of a run for company costs little and saves whole runs.
            let hold = (self.typical_run / 4).min(HOLD_MAX);
            let slots = Slots { busy: self.flights.len(), all: self.slots, hold };
            let now = self.clock.now();
            (waiting.in_flight, waiting.hold) = (slots.busy, hold);
            let Some(batch) = waiting.queue.next(now, slots, |job| is_dead(job, now, &*self.observer)) else {
                return (waiting.queue.due(slots), waiting.closed && waiting.queue.is_empty());
            };
            for piece in &batch.pieces {
                piece.payload.start(now);
            }
            let flight = Flight::new(batch, Arc::clone(&self.clock), Arc::clone(&self.observer));
            let run = Arc::clone(&self.run);
            self.flights.spawn(flight.run(run, now));
        }
    }
}

#[cfg(test)]
mod tests;
