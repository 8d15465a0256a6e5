//! A formed batch on its way through a run.

use std::future::Future;
use std::sync::Arc;
use std::time::{Duration, Instant};

use super::aside::aside;
use super::clock::Clock;
use super::formed::Formed;
use super::priced::Priced;
use super::report::{BatchReport, Observer};
use super::turns::Turn;
use crate::error::{Code, Error, Result};
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
    pub(super) priced: Priced,
    /// The batch's size, 0 for a request that ran alone.
    pub(super) size: usize,
    /// From handing over to having the answers.
    pub(super) ran: Duration,
    /// Time on the device, or all of it where nothing ran there; `None` when the run failed.
    pub(super) spent: Option<Duration>,
    /// What is to be run otherwise, because it failed as it was.
    pub(super) failed: Option<(Formed, Error)>,
}

/// A batch in flight.
pub(super) struct Flight<C> {
    pub(super) formed: Formed,
    /// Given back when the run has ended.
    pub(super) turn: Turn,
    pub(super) priced: Priced,
    /// Device time that it is expected to take.
    pub(super) expected: Duration,
    /// Whether it may be given back if it fails, because of what its requests were padded to.
    pub(super) is_padded: bool,
    pub(super) clock: Arc<C>,
    pub(super) observer: Arc<dyn Observer>,
}

impl<C: Clock> Flight<C> {
    /// Merges, runs, splits and answers; gives how that went.
    pub(super) async fn run<R, F>(mut self, run: Arc<R>, began: Instant) -> Landed
    where
        R: Fn(Vec<Tensor>, Order) -> F,
        F: Future<Output = Result<Ran>>,
    {
        let order = Order { deadline: self.formed.deadline(), expected: self.expected };
        let outcome = match aside(self.formed.bytes(), || self.formed.inputs()) {
            Err(error) => Err(error),
            Ok(inputs) => tokio::select! {
                outcome = run(inputs, order) => outcome,
                () = self.formed.all_left() => Err(Error::cancelled("every caller went away")),
            },
        };
        let device = outcome.as_ref().ok().map(|ran| ran.device);
        let lane = outcome.as_ref().map_or(0, |ran| ran.lane);
        let outcome = outcome.and_then(|ran| self.formed.parts(ran.outputs));
        let now = self.clock.now();
        let ran = now.saturating_duration_since(began);
        // What runs on the host alone occupies no lane, but its callers wait as long.
        let spent = device.map(|device| if device.is_zero() { ran } else { device });
        self.turn.end(spent);
        self.report(ran, device.unwrap_or_default(), outcome.is_ok());
        let Self { formed, priced, is_padded, .. } = self;
        let size = formed.batch.size.unwrap_or(0);
        let failed = match outcome {
            Ok(parts) => {
                formed.answer(parts, lane, now);
                None
            }
            Err(error) if is_padded && is_of_inputs(&error) => Some((formed, error)),
            Err(error) => {
                formed.fail(&error);
                None
            }
        };
        Landed { priced, size, ran, spent, failed }
    }

    fn report(&self, ran: Duration, device: Duration, succeeded: bool) {
        let (batch, rows) = (&self.formed.batch, self.formed.rows());
        self.observer.batch(&BatchReport {
            requests: batch.pieces.len(),
            rows,
            padded_rows: batch.size.map_or(0, |size| size - rows),
            closed: batch.closed,
            queued: self.formed.at.saturating_duration_since(batch.oldest),
            ran,
            device,
            succeeded,
        });
    }
}

/// Whether other inputs might have run: not where the device, the callers or the time are gone.
pub(super) fn is_of_inputs(error: &Error) -> bool {
    !matches!(error.code(), Code::Unavailable | Code::Cancelled | Code::DeadlineExceeded)
}
