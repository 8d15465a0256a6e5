//! One request on its way through the batcher.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use tokio::sync::{Notify, oneshot};

use super::merge::{Rows, merge};
use super::policy::Priority;
use super::row::Row;
use super::terms::Join;
use crate::error::{Error, Result};
use crate::tensor::{DType, Tensor};

/// Whatever must live as long as a request holds memory (a budget's permit, say); dropped when it is answered.
pub type Guard = Box<dyn Send>;

/// What a caller hands in.
pub struct Request {
    /// Inputs in the signature's order, already checked against the model.
    pub inputs: Vec<Tensor>,
    /// How it may be merged. With [`Join::Rows`] all inputs have the same, non-zero number of rows on axis 0.
    pub join: Join,
    /// When the caller stops waiting.
    pub deadline: Option<Instant>,
    /// How urgent it is beside other requests to the model.
    pub priority: Priority,
    /// Dropped when the request is answered or given up.
    pub guard: Guard,
}

/// What must be equal for requests to share a batch: dtype and extents of every input, and whether they merge at all.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Key(Arc<(bool, Vec<(DType, Extents)>)>);

/// What must be equal of an input's extents.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Extents {
    /// All behind axis 0.
    Inner(Vec<usize>),
    /// How many there are: requests are padded to each other's.
    Rank(usize),
}

impl Key {
    /// The key of a request that is to be padded to others where `row` is given.
    pub(super) fn of(request: &Request, row: Option<&Row>) -> Self {
        let merges = request.join != Join::Alone;
        let extents = |t: &Tensor| match row {
            Some(_) => Extents::Rank(t.shape().rank()),
            None => Extents::Inner(t.shape().get(1..).unwrap_or_default().to_vec()),
        };
        // Requests that run alone wait in one line, whatever their shapes.
        let of_inputs = request.inputs.iter().map(|t| (t.dtype(), extents(t)));
        Self(Arc::new((merges, if merges { of_inputs.collect() } else { Vec::new() })))
    }
}

/// Where a request's time went, and what company it had.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Timing {
    /// From arrival to its first batch being formed.
    pub queued: Duration,
    /// From its first batch being formed to the last answer.
    pub ran: Duration,
    /// Rows of the largest batch it was in, padding included.
    pub batch_rows: usize,
    /// Batches it was spread over.
    pub batches: usize,
    /// The lane that its last batch ran on.
    pub lane: usize,
}

/// What a caller gets.
#[derive(Clone, Debug)]
pub struct Answer {
    /// Outputs in the signature's order.
    pub outputs: Vec<Tensor>,
    /// What the inputs were padded to behind axis 0, where they were.
    pub padded_to: Option<Arc<Row>>,
    /// Where the time went.
    pub timing: Timing,
}

/// A request in the queue or in flight, shared by its caller and its batches.
pub(super) struct Job {
    pub(super) key: Key,
    /// What it has in each row, where that may differ from others of its key.
    pub(super) row: Option<Arc<Row>>,
    /// The sizes that it may be merged to, those too that take too long.
    pub(super) sizes: Arc<[usize]>,
    pub(super) inputs: Vec<Tensor>,
    pub(super) deadline: Option<Instant>,
    pub(super) arrived: Instant,
    started: AtomicBool,
    gone: AtomicBool,
    left: Notify,
    progress: Mutex<Progress>,
}

/// The answers so far; `None` once the caller has been answered.
struct Progress {
    reply: Option<(oneshot::Sender<Result<Answer>>, Guard)>,
    parts: Vec<(usize, Vec<Tensor>)>,
    rows_left: usize,
    padded_to: Option<Arc<Row>>,
    started_at: Option<Instant>,
    timing: Timing,
}

/// One batch's outcome for the part of a job it held.
pub(super) struct Part {
    /// First row of the part within the request.
    pub(super) start: usize,
    /// Rows of the part.
    pub(super) rows: usize,
    /// Rows of the whole batch, padding included.
    pub(super) batch_rows: usize,
    /// The lane that the batch ran on.
    pub(super) lane: usize,
    /// What its rows were padded to.
    pub(super) row: Option<Arc<Row>>,
    /// The part's outputs.
    pub(super) outputs: Vec<Tensor>,
}

impl Job {
    /// A request of so many rows; with `row`, one to be padded to others.
    pub(super) fn new(
        request: Request,
        rows: usize,
        row: Option<Row>,
        arrived: Instant,
    ) -> (Self, oneshot::Receiver<Result<Answer>>) {
        let (key, (reply, answer)) = (Key::of(&request, row.as_ref()), oneshot::channel());
        let progress = Progress {
            reply: Some((reply, request.guard)),
            parts: Vec::new(),
            rows_left: rows,
            padded_to: None,
            started_at: None,
            timing: Timing::default(),
        };
        let sizes = match request.join {
            Join::Alone => [].into(),
            Join::Rows(sizes) => sizes,
        };
        let job = Self {
            key,
            row: row.map(Arc::new),
            sizes,
            inputs: request.inputs,
            deadline: request.deadline,
            arrived,
            started: AtomicBool::new(false),
            gone: AtomicBool::new(false),
            left: Notify::new(),
            progress: Mutex::new(progress),
        };
        (job, answer)
    }

    fn progress(&self) -> std::sync::MutexGuard<'_, Progress> {
        self.progress.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Notes that a batch with a part of this job was formed.
    pub(super) fn start(&self, now: Instant) {
        self.started.store(true, Ordering::Release);
        let mut progress = self.progress();
        progress.started_at.get_or_insert(now);
        progress.timing.batches += 1;
    }

    /// Whether a batch with a part of this job was formed.
    pub(super) fn has_started(&self) -> bool {
        self.started.load(Ordering::Acquire)
    }

    /// Notes that the caller went away.
    pub(super) fn leave(&self) {
        self.gone.store(true, Ordering::Release);
        self.left.notify_waiters();
    }

    /// Whether nobody waits for an answer any more: the caller went away, or a part has failed.
    pub(super) fn is_gone(&self) -> bool {
        self.gone.load(Ordering::Acquire)
    }

    /// Waits until [`Job::is_gone`].
    pub(super) async fn left(&self) {
        // The future is made before the flag is read, so a caller leaving in between still wakes it.
        let left = self.left.notified();
        if !self.is_gone() {
            left.await;
        }
    }

    /// Answers with `error` unless an answer was given before; parts not yet run are dropped.
    pub(super) fn fail(&self, error: Error) {
        let reply = self.progress().reply.take();
        if let Some((reply, _guard)) = reply {
            // The caller may have left in the meantime; then nobody needs the error.
            let _ = reply.send(Err(error));
        }
        self.leave();
    }

    /// Adds a part's outputs and answers when it was the last.
    pub(super) fn finish(&self, part: Part, now: Instant) {
        let mut progress = self.progress();
        progress.timing.batch_rows = progress.timing.batch_rows.max(part.batch_rows);
        progress.timing.lane = part.lane;
        progress.rows_left -= part.rows;
        // Where there are several parts, all are padded alike.
        let is_exact = |row: &Row| Row::exact(&self.inputs).is_some_and(|own| own == *row);
        progress.padded_to = part.row.filter(|row| !is_exact(row));
        progress.parts.push((part.start, part.outputs));
        if progress.rows_left > 0 {
            return;
        }
        let Some((reply, _guard)) = progress.reply.take() else { return };
        let started = progress.started_at.unwrap_or(now);
        progress.timing.queued = started.saturating_duration_since(self.arrived);
        progress.timing.ran = now.saturating_duration_since(started);
        let (timing, parts) = (progress.timing, std::mem::take(&mut progress.parts));
        let padded_to = progress.padded_to.take();
        drop(progress);
        // As above: a caller that left needs no answer.
        let _ = reply.send(join(parts).map(|outputs| Answer { outputs, padded_to, timing }));
    }
}

/// Outputs of the parts of one request, put in order and together.
fn join(mut parts: Vec<(usize, Vec<Tensor>)>) -> Result<Vec<Tensor>> {
    if parts.len() == 1 {
        return Ok(parts.swap_remove(0).1);
    }
    parts.sort_by_key(|(start, _)| *start);
    let rows: Vec<_> = parts.iter().map(|(_, outputs)| Rows::all(outputs)).collect();
    let total = rows.iter().map(|r| r.count).sum();
    merge(&rows, total)
}

/// A job as its caller, the queue and its batches hold it.
pub(super) type SharedJob = Arc<Job>;
