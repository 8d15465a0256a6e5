//! A formed batch on its way through a run.

use std::future::Future;
use std::sync::Arc;
use std::time::{Duration, Instant};

use super::clock::Clock;
use super::job::{Key, Part, SharedJob};
use super::merge::{Rows, merge, split};
use super::queue::{Batch, Piece};
use super::report::{BatchReport, Observer};
use super::turns::Turn;
use crate::error::{Error, Result};
use crate::tensor::Tensor;

/// What a run is told.
#[derive(Clone, Copy, Debug)]
pub struct Order {
    /// The time after which nobody waits for the outputs.
    pub deadline: Option<Instant>,
    /// Device time that it is expected to take; zero where nothing is known.
    pub expected: Duration,
}

/// What a run gives.
#[derive(Clone, Debug)]
pub struct Ran {
    /// Outputs in the signature's order.
    pub outputs: Vec<Tensor>,
    /// Time on the device; zero where nothing ran there.
    pub device: Duration,
    /// The lane that it ran on.
    pub lane: usize,
}

/// How a run went, for what is expected of later ones.
pub(super) struct Landed {
    pub(super) key: Key,
    /// The batch's size, 0 for a request that ran alone.
    pub(super) size: usize,
    /// From handing over to having the answers.
    pub(super) ran: Duration,
    /// Time on the device, or all of it where nothing ran there; `None` when the run failed.
    pub(super) spent: Option<Duration>,
}

/// A batch in flight.
pub(super) struct Flight<C> {
    batch: Batch<SharedJob>,
    /// Given back when the run has ended.
    turn: Turn,
    expected: Duration,
    clock: Arc<C>,
    observer: Arc<dyn Observer>,
    /// Whether every job has got its part, or an error.
    answered: bool,
}

impl<C> Drop for Flight<C> {
    fn drop(&mut self) {
        if !self.answered {
            // The run panicked: callers hold their jobs themselves, so they would wait for ever.
            let error = Error::internal("the run of a batch panicked");
            self.batch.pieces.iter().for_each(|piece| piece.payload.fail(error.clone()));
        }
    }
}

impl<C: Clock> Flight<C> {
    /// Begins the turn for a batch that is expected to take so long on the device.
    pub(super) fn begin(
        batch: Batch<SharedJob>,
        mut turn: Turn,
        expected: Duration,
        clock: Arc<C>,
        observer: Arc<dyn Observer>,
    ) -> Self {
        turn.begin(expected);
        Self { batch, turn, expected, clock, observer, answered: false }
    }

    /// Merges, runs, splits and answers; gives how that went.
    pub(super) async fn run<R, F>(mut self, run: Arc<R>, formed: Instant) -> Landed
    where
        R: Fn(Vec<Tensor>, Order) -> F,
        F: Future<Output = Result<Ran>>,
    {
        let order = Order { deadline: self.deadline(), expected: self.expected };
        let outcome = match self.inputs() {
            Err(error) => Err(error),
            Ok(inputs) => tokio::select! {
                outcome = run(inputs, order) => outcome,
                () = self.all_left() => Err(Error::cancelled("every caller went away")),
            },
        };
        let device = outcome.as_ref().ok().map(|ran| ran.device);
        let lane = outcome.as_ref().map_or(0, |ran| ran.lane);
        let outcome = outcome.and_then(|ran| self.parts(ran.outputs));
        let now = self.clock.now();
        let ran = now.saturating_duration_since(formed);
        // What runs on the host alone occupies no lane, but its callers wait as long.
        let spent = device.map(|device| if device.is_zero() { ran } else { device });
        self.turn.end(spent);
        self.report(formed, ran, device.unwrap_or_default(), outcome.is_ok());
        let landed =
            Landed { key: self.batch.pieces[0].payload.key.clone(), size: self.batch.size.unwrap_or(0), ran, spent };
        match outcome {
            Ok(parts) => {
                for (piece, outputs) in self.batch.pieces.iter().zip(parts) {
                    let batch_rows = self.batch.size.unwrap_or(piece.rows);
                    let part = Part { start: piece.start, rows: piece.rows, batch_rows, lane, outputs };
                    piece.payload.finish(part, now);
                }
            }
            Err(error) => self.batch.pieces.iter().for_each(|piece| piece.payload.fail(error.clone())),
        }
        self.answered = true;
        landed
    }

    fn inputs(&self) -> Result<Vec<Tensor>> {
        let Some(size) = self.batch.size else {
            return Ok(self.batch.pieces[0].payload.inputs.clone());
        };
        let part = |p: &Piece<SharedJob>| (p.start, p.rows, Arc::clone(&p.payload));
        let parts: Vec<_> = self.batch.pieces.iter().map(part).collect();
        let rows: Vec<_> = parts
            .iter()
            .map(|(start, count, job)| Rows { tensors: &job.inputs, start: *start, count: *count })
            .collect();
        merge(&rows, size)
    }

    /// Each piece's share of `outputs`.
    fn parts(&self, outputs: Vec<Tensor>) -> Result<Vec<Vec<Tensor>>> {
        let Some(size) = self.batch.size else { return Ok(vec![outputs]) };
        let counts: Vec<_> = self.batch.pieces.iter().map(|p| p.rows).collect();
        split(&outputs, &counts, size)
    }

    /// The latest deadline of the callers; none if one of them has none.
    fn deadline(&self) -> Option<Instant> {
        let deadlines: Option<Vec<_>> = self.batch.pieces.iter().map(|p| p.payload.deadline).collect();
        deadlines?.into_iter().max()
    }

    /// Waits until no caller is left.
    async fn all_left(&self) {
        for piece in &self.batch.pieces {
            piece.payload.left().await;
        }
    }

    fn report(&self, formed: Instant, ran: Duration, device: Duration, succeeded: bool) {
        // A request that runs alone counts as one in the queue, however many rows it has.
        let alone = |p: &Piece<SharedJob>| Rows::all(&p.payload.inputs).count.max(1);
        let rows = match self.batch.size {
            Some(_) => self.batch.pieces.iter().map(|p| p.rows).sum(),
            None => self.batch.pieces.iter().map(alone).sum(),
        };
        self.observer.batch(&BatchReport {
            requests: self.batch.pieces.len(),
            rows,
            padded_rows: self.batch.size.map_or(0, |size| size - rows),
            closed: self.batch.closed,
            queued: formed.saturating_duration_since(self.batch.oldest),
            ran,
            device,
            succeeded,
        });
    }
}
