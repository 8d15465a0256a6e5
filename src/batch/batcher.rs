//! What takes requests for one model version.

use std::collections::VecDeque;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use futures_util::stream::FuturesUnordered;
use tokio::sync::{Notify, oneshot};
use tokio::task::JoinSet;

use super::admission::{FIGURES_AGE_MAX, Outlook, Wanted, admit};
use super::clock::Clock;
use super::flight::{Order, Ran};
use super::job::{Answer, Job, Key, Request, SharedJob};
use super::merge::Rows;
use super::parameters::Parameters;
use super::policy::Policy;
use super::priced::Priced;
use super::prices::Prices;
use super::queue::Queue;
use super::report::{Dropped, Observer, Waiting};
use super::row::Row;
use super::shapes::Shapes;
use super::shares::Due;
use super::task::{Awaits, Task};
use super::terms::{Bounds, Entry, Join, Slots};
use super::turns::{Flow, Now, Turns};
use crate::error::{Error, Result};
use crate::tensor::Tensor;

/// What callers and the task share.
pub(super) struct Shared {
    held: Mutex<Held>,
    /// Told of every change that the task has not made itself.
    pub(super) changed: Arc<Notify>,
}

pub(super) struct Held {
    pub(super) queue: Queue<Key, SharedJob>,
    pub(super) prices: Prices<Priced>,
    pub(super) closed: bool,
    /// As the task last saw them.
    pub(super) in_flight: usize,
    pub(super) preparing: usize,
    pub(super) hold: Duration,
    pub(super) awaits: Awaits,
    /// The largest size of the latest request, where sizes were cut.
    cut_to: Option<usize>,
}

impl Held {
    /// Device time of what waits.
    pub(super) fn queued(&self) -> Duration {
        self.queue.time(|key, elements, size| self.cost(key, elements, size))
    }

    fn cost(&self, key: &Key, elements: u64, size: usize) -> Duration {
        self.prices.cost(&Priced::new(key, elements), size)
    }

    fn cost_at_least(&self, key: &Key, elements: u64, size: usize) -> Duration {
        self.prices.cost_at_least(&Priced::new(key, elements), size)
    }
}

impl Shared {
    pub(super) fn lock(&self) -> MutexGuard<'_, Held> {
        self.held.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Takes requests for one model version. When it is dropped, what waits is still run; then its task ends.
pub struct Batcher {
    shared: Arc<Shared>,
    flow: Arc<Flow>,
    slots: usize,
    parameters: Parameters,
    policy: Policy,
    /// What the model can run, where requests are padded to each other's extents.
    shapes: Option<Arc<dyn Shapes>>,
    observer: Arc<dyn Observer>,
    now: Now,
}

/// What a batcher works with.
pub struct Setting<C> {
    /// How to batch.
    pub parameters: Parameters,
    /// What the model is due beside others.
    pub policy: Policy,
    /// What the model can run, where requests are to be padded to each other's extents; `None`: they are not.
    pub shapes: Option<Arc<dyn Shapes>>,
    /// The device that all batchers share.
    pub turns: Arc<Turns>,
    /// The time.
    pub clock: Arc<C>,
    /// Receives statistics.
    pub observer: Arc<dyn Observer>,
}

impl Batcher {
    /// Starts the task on the current runtime. `run` runs one batch; as many of its futures exist at a time as the device gives
    /// turns, fewer if the parameters say so.
    pub fn start<R, F, C>(setting: Setting<C>, run: R) -> Self
    where
        R: Fn(Vec<Tensor>, Order) -> F + Send + Sync + 'static,
        F: Future<Output = Result<Ran>> + Send + 'static,
        C: Clock,
    {
        let Setting { parameters, policy, shapes, turns, clock, observer } = setting;
        let bounds = Bounds {
            delay: parameters.batch_timeout,
            batches_max: parameters.max_enqueued_batches,
            rows_of_batch: parameters.execution_rows_max().unwrap_or(1),
            tells_capacity: parameters.enable_large_batch_splitting == Some(true),
            priority_wait_max: policy.priority_wait_max,
            padded_bytes_max: policy.padded_bytes_max,
        };
        let held = Held {
            queue: Queue::new(bounds),
            prices: Prices::default(),
            closed: false,
            in_flight: 0,
            preparing: 0,
            hold: Duration::ZERO,
            awaits: Awaits::Request,
            cut_to: None,
        };
        let shared = Arc::new(Shared { held: Mutex::new(held), changed: Arc::default() });
        let slots = turns.all().min(parameters.num_batch_threads.unwrap_or(usize::MAX)).max(1);
        let due = Due { weight: policy.weight, turns_max: slots, priority_wait_max: policy.priority_wait_max };
        let timer = Arc::clone(&clock);
        let now: Now = Arc::new(move || timer.now());
        let flow = turns.join(due, Arc::clone(&shared.changed), Arc::clone(&now));
        let task = Task {
            shared: Arc::clone(&shared),
            flow: Arc::clone(&flow),
            slots,
            model_priority: policy.priority,
            batch_time_max: policy.batch_time_max,
            clock,
            observer: Arc::clone(&observer),
            run: Arc::new(run),
            shapes: shapes.clone(),
            flights: FuturesUnordered::new(),
            preparing: JoinSet::new(),
            preparing_max: parameters.max_enqueued_batches,
            prepared: VecDeque::new(),
            typical_run: Duration::ZERO,
        };
        tokio::spawn(task.work());
        Self { shared, flow, slots, parameters, policy, shapes, observer, now }
    }

    /// Queues a request.
    ///
    /// # Errors
    /// `UNAVAILABLE` when the queue is full, `RESOURCE_EXHAUSTED` when it would be answered too late (both with a hint when to try
    /// again), `INVALID_ARGUMENT` when the request is larger than a batch and may not be divided.
    pub fn submit(&self, request: Request) -> Result<Pending> {
        let now = (self.now)();
        let rows = match &request.join {
            Join::Alone => 1,
            Join::Rows(sizes) => self.checked_rows(&request.inputs, sizes)?,
        };
        let (join, deadline, priority) = (request.join.clone(), request.deadline, request.priority);
        let sent_rows = Rows::all(&request.inputs).count.max(1);
        let row = self.row(&request, rows);
        let (job, answer) = Job::new(request, rows, row, now);
        let (row, job) = (job.row.clone(), Arc::new(job));
        let entry = Entry { payload: Arc::clone(&job), rows, arrived: now, priority, is_cut: false, row };
        if self.enqueue(join, entry)? {
            self.shared.changed.notify_one();
        }
        self.observer.queued(sent_rows);
        Ok(Pending { job, answer, deadline })
    }

    /// Whether a request of one row that came now would be taken, as far as can be told without it.
    ///
    /// # Errors
    /// As [`Batcher::submit`] when it would be answered too late.
    pub fn foresee(&self, deadline: Option<Instant>) -> Result<()> {
        if deadline.is_none() && self.policy.latency_target.is_none() {
            return Ok(());
        }
        let held = self.shared.lock();
        self.admit(self.least_outlook(&held), deadline)
    }

    /// What it holds now.
    pub fn waiting(&self) -> Waiting {
        let held = self.shared.lock();
        let outlook = self.least_outlook(&held);
        Waiting {
            requests: held.queue.requests(),
            batches: held.queue.batches(),
            in_flight: held.in_flight,
            slots: self.slots,
            preparing: held.preparing,
            hold: held.hold,
            queued: held.queued(),
            expected: outlook.wait + outlook.run,
            spent: self.flow.spent(),
            costs: held.prices.latest(),
            cut_to: held.cut_to,
        }
    }

    /// What the least request could expect.
    fn least_outlook(&self, held: &Held) -> Outlook {
        let (wait, nothing_runs) = self.flow.wait(held.queued());
        let run = held.prices.least(FIGURES_AGE_MAX, (self.now)());
        Outlook { wait, run, is_idle: nothing_runs && held.queue.is_empty() }
    }

    fn outlook(&self, held: &Held, join: &Join, entry: &Entry<SharedJob>) -> Outlook {
        let ahead = held
            .queue
            .ahead(&entry.payload.key, join, entry, |key, elements, size| held.cost_at_least(key, elements, size));
        let (wait, nothing_runs) = self.flow.wait(ahead.queued);
        let is_idle = nothing_runs && held.queue.is_empty();
        // Old figures are not believed where a run can tell better.
        let least = || held.prices.least(FIGURES_AGE_MAX, entry.arrived);
        let run = if is_idle && least().is_zero() { Duration::ZERO } else { ahead.last };
        Outlook { wait, run, is_idle }
    }

    fn admit(&self, outlook: Outlook, deadline: Option<Instant>) -> Result<()> {
        let wanted = Wanted { deadline, latency_target: self.policy.latency_target };
        admit(outlook, wanted, (self.now)()).map_err(|(why, error)| {
            self.observer.dropped(why);
            error
        })
    }

    /// Whether the task must know of it.
    fn enqueue(&self, join: Join, mut entry: Entry<SharedJob>) -> Result<bool> {
        let (now, key) = (entry.arrived, entry.payload.key.clone());
        let mut held = self.shared.lock();
        if held.closed {
            return Err(Error::unavailable("the batcher has stopped"));
        }
        let elements = entry.row.as_ref().map_or(0, |row| row.elements().max(held.queue.elements(&key)));
        let whole = join;
        let join = self.cut(&mut held, &Priced::new(&key, elements), whole.clone(), entry.rows, now);
        entry.is_cut = join != Join::Alone && held.cut_to.is_some();
        if entry.payload.deadline.is_some() || self.policy.latency_target.is_some() {
            let mut outlook = self.outlook(&held, &join, &entry);
            if entry.is_cut {
                // Sizes that were cut come back as soon as they prove to be fast enough.
                let uncut = self.outlook(&held, &whole, &entry);
                outlook = std::cmp::min_by_key(outlook, uncut, |outlook| outlook.wait + outlook.run);
            }
            self.admit(outlook, entry.payload.deadline)?;
        }
        if held.queue.push(key.clone(), join.clone(), entry.clone()).is_err() {
            // Those that nobody waits for any more do not count against the bound.
            held.queue.purge(|job| is_dead(job, now, &*self.observer));
            if let Err(error) = held.queue.push(key, join, entry) {
                self.observer.dropped(Dropped::QueueFull);
                let room_in = self.flow.wait(held.queued() / 2).0;
                return Err(error.retry_after(room_in.max(Duration::from_millis(1))));
            }
        }
        self.flow.queue(held.queued());
        Ok(match held.awaits {
            Awaits::Request => true,
            Awaits::Time(before) => {
                let slots = Slots { busy: held.in_flight, all: self.slots, hold: held.hold };
                held.queue.due(slots).is_some_and(|due| due < before)
            }
            Awaits::Turn(wished) => held.queue.priority().is_some_and(|priority| priority > wished),
        })
    }

    /// `join` without the sizes that take longer than a batch may.
    fn cut(&self, held: &mut Held, priced: &Priced, join: Join, rows: usize, now: Instant) -> Join {
        let Join::Rows(sizes) = &join else { return join };
        let mut fitting = held.prices.fitting_sizes(priced, sizes, self.policy.batch_time_max, now);
        let largest = fitting.last().copied().unwrap_or(1);
        if rows > largest && !self.parameters.divides() {
            // What may not be divided is run as it is.
            let enough = sizes.iter().position(|size| *size >= rows).map_or(sizes.len(), |at| at + 1);
            fitting = sizes[..enough.max(fitting.len())].into();
        }
        held.cut_to = fitting.last().copied().filter(|_| fitting.len() < sizes.len());
        Join::Rows(fitting)
    }

    /// What a request of so many rows is padded to at least, if it is to be padded to others at all.
    fn row(&self, request: &Request, rows: usize) -> Option<Row> {
        let (Some(shapes), Join::Rows(sizes)) = (&self.shapes, &request.join) else { return None };
        let room = Row::of(&request.inputs, |input, axis, extent| shapes.room(input, axis, extent))?;
        let size = sizes.iter().copied().find(|size| *size >= rows).unwrap_or(rows);
        // Room on several axes multiplies.
        let fits = room.bytes().saturating_mul(size as u64) <= self.policy.padded_bytes_max;
        if fits { Some(room) } else { Row::exact(&request.inputs) }
    }

    fn checked_rows(&self, inputs: &[Tensor], sizes: &[usize]) -> Result<usize> {
        let rows = Rows::all(inputs).count;
        if rows == 0 || inputs.iter().any(|t| t.shape().first() != Some(&rows)) {
            return Err(Error::internal("a request without rows, or with unequal ones, was to be merged"));
        }
        let rows_max = sizes.last().copied().unwrap_or(1);
        if rows > rows_max && !self.parameters.divides() {
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
pub(super) fn is_dead(job: &Job, now: Instant, observer: &dyn Observer) -> bool {
    let late = job.deadline.is_some_and(|deadline| deadline <= now);
    if late {
        observer.dropped(Dropped::Expired);
        job.fail(expired(job));
    } else if job.is_gone() {
        observer.dropped(Dropped::Cancelled);
    }
    late || job.is_gone()
}

#[cfg(test)]
mod device_tests;
#[cfg(test)]
mod tests;
