//! A batch that was formed and is not answered yet.

use std::sync::Arc;
use std::time::Instant;

use super::job::{Part, SharedJob};
use super::merge::{Rows, merge, split};
use super::padding::merge_padded;
use super::policy::Priority;
use super::report::Closed;
use super::row::Row;
use super::terms::{Batch, Piece};
use crate::error::{Error, Result};
use crate::tensor::{Shape, Tensor};

/// A batch on its way. If it is dropped, its callers are told.
pub(super) struct Formed {
    pub(super) batch: Batch<SharedJob>,
    /// When it was formed.
    pub(super) at: Instant,
    /// That of the most urgent request that waited then.
    pub(super) priority: Priority,
    /// Whether every job has got its part, or an error, or is in another batch.
    answered: bool,
}

impl Drop for Formed {
    fn drop(&mut self) {
        if !self.answered {
            // The run panicked: callers hold their jobs themselves, so they would wait for ever.
            self.fail_all(&Error::internal("the run of a batch panicked"));
        }
    }
}

impl Formed {
    /// Begins the run of every job in it.
    pub(super) fn new(batch: Batch<SharedJob>, priority: Priority, now: Instant) -> Self {
        batch.pieces.iter().for_each(|piece| piece.payload.start(now));
        Self { batch, at: now, priority, answered: false }
    }

    /// The shapes of its inputs as it runs; `None` of a request that runs as it is.
    pub(super) fn shapes(&self) -> Option<Vec<Shape>> {
        let size = self.batch.size?;
        let own = |tensor: &Tensor| Shape::new([&[size], tensor.shape().get(1..).unwrap_or_default()].concat());
        let first = &self.batch.pieces[0].payload;
        Some(match &self.batch.row {
            Some(row) => row.shapes(size),
            None => first.inputs.iter().map(own).collect(),
        })
    }

    /// Elements of a row as it runs, where rows differ; else 0.
    pub(super) fn elements(&self) -> u64 {
        self.batch.row.as_ref().map_or(0, |row| row.elements())
    }

    /// Bytes of what its requests sent.
    pub(super) fn bytes(&self) -> usize {
        self.batch.pieces.iter().flat_map(|piece| &piece.payload.inputs).map(|tensor| tensor.bytes().len()).sum()
    }

    /// What it runs on.
    pub(super) fn inputs(&self) -> Result<Vec<Tensor>> {
        let Some(size) = self.batch.size else {
            return Ok(self.batch.pieces[0].payload.inputs.clone());
        };
        let part = |p: &Piece<SharedJob>| (p.start, p.rows, Arc::clone(&p.payload));
        let parts: Vec<_> = self.batch.pieces.iter().map(part).collect();
        let rows: Vec<_> = parts
            .iter()
            .map(|(start, count, job)| Rows { tensors: &job.inputs, start: *start, count: *count })
            .collect();
        match &self.batch.row {
            Some(row) => merge_padded(&rows, row, size),
            None => merge(&rows, size),
        }
    }

    /// Each piece's share of `outputs`.
    pub(super) fn parts(&self, outputs: Vec<Tensor>) -> Result<Vec<Vec<Tensor>>> {
        let Some(size) = self.batch.size else { return Ok(vec![outputs]) };
        let counts: Vec<_> = self.batch.pieces.iter().map(|p| p.rows).collect();
        split(&outputs, &counts, size)
    }

    /// The latest deadline of the callers; none if one of them has none.
    pub(super) fn deadline(&self) -> Option<Instant> {
        let deadlines: Option<Vec<_>> = self.batch.pieces.iter().map(|p| p.payload.deadline).collect();
        deadlines?.into_iter().max()
    }

    /// Waits until no caller is left.
    pub(super) async fn all_left(&self) {
        for piece in &self.batch.pieces {
            piece.payload.left().await;
        }
    }

    /// Rows that callers sent.
    pub(super) fn rows(&self) -> usize {
        // A request that runs alone counts as one in the queue, however many rows it has.
        let alone = |p: &Piece<SharedJob>| Rows::all(&p.payload.inputs).count.max(1);
        match self.batch.size {
            Some(_) => self.batch.pieces.iter().map(|p| p.rows).sum(),
            None => self.batch.pieces.iter().map(alone).sum(),
        }
    }

    /// Gives each job its part.
    pub(super) fn answer(mut self, parts: Vec<Vec<Tensor>>, lane: usize, now: Instant) {
        for (piece, outputs) in self.batch.pieces.iter().zip(parts) {
            let batch_rows = self.batch.size.unwrap_or(piece.rows);
            let row = self.batch.row.clone();
            piece.payload.finish(Part { start: piece.start, rows: piece.rows, batch_rows, lane, row, outputs }, now);
        }
        self.answered = true;
    }

    /// Tells every caller.
    pub(super) fn fail(mut self, error: &Error) {
        self.fail_all(error);
        self.answered = true;
    }

    fn fail_all(&self, error: &Error) {
        self.batch.pieces.iter().for_each(|piece| piece.payload.fail(error.clone()));
    }

    /// Its pieces, each as a batch of its own and without padding; as it is if it is nothing else already.
    ///
    /// What one request is padded to is another's doing: what fails so may run well by itself.
    pub(super) fn scatter(mut self) -> Result<Vec<Formed>, Self> {
        if self.batch.size.is_none_or(|size| size == self.batch.pieces[0].rows) {
            return Err(self);
        }
        self.answered = true;
        let alone = |piece: Piece<SharedJob>| {
            let row: Option<Arc<Row>> = piece.payload.row.clone();
            let (size, oldest) = (Some(piece.rows), piece.payload.arrived);
            let batch = Batch { pieces: vec![piece], size, row, oldest, closed: Closed::Apart };
            Formed { batch, at: self.at, priority: self.priority, answered: false }
        };
        Ok(std::mem::take(&mut self.batch.pieces).into_iter().map(alone).collect())
    }
}
