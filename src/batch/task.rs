//! The task that forms batches and runs them.

use std::sync::Arc;
use std::time::{Duration, Instant};

use tokio::task::JoinSet;

use super::batcher::{Shared, is_dead};
use super::clock::Clock;
use super::flight::{Flight, Landed, Order, Ran};
use super::policy::Priority;
use super::queue::Slots;
use super::report::Observer;
use super::turns::Flow;
use crate::error::{Error, Result};
use crate::tensor::Tensor;

/// Longest that a batch waits for company only because others are in flight.
const HOLD_MAX: Duration = Duration::from_millis(2);

/// Forms batches as turns at the device come.
pub(super) struct Task<R, C> {
    pub(super) shared: Arc<Shared>,
    pub(super) flow: Arc<Flow>,
    pub(super) slots: usize,
    pub(super) model_priority: Priority,
    /// Longest that a batch may take.
    pub(super) batch_time_max: Duration,
    pub(super) clock: Arc<C>,
    pub(super) observer: Arc<dyn Observer>,
    pub(super) run: Arc<R>,
    /// Batches in flight.
    pub(super) flights: JoinSet<Landed>,
    /// Moving average of how long runs take.
    pub(super) typical_run: Duration,
}

impl<R, C> Drop for Task<R, C> {
    fn drop(&mut self) {
        // Nothing waits unless the task was stopped from outside, with its runtime.
        let mut held = self.shared.lock();
        held.closed = true;
        held.queue.drain().for_each(|job| job.fail(Error::unavailable("the batcher has stopped")));
    }
}

impl<R, F, C> Task<R, C>
where
    R: Fn(Vec<Tensor>, Order) -> F + Send + Sync + 'static,
    F: Future<Output = Result<Ran>> + Send + 'static,
    C: Clock,
{
    pub(super) async fn work(mut self) {
        loop {
            // Whatever woke the task: those that have landed do not count as in flight.
            while let Some(landed) = self.flights.try_join_next() {
                landed.into_iter().for_each(|landed| self.note(&landed));
            }
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
                Some(landed) = self.flights.join_next() => {
                    // A run that panicked has told its callers.
                    landed.into_iter().for_each(|landed| self.note(&landed));
                }
            }
        }
    }

    /// Takes note of what a run took.
    fn note(&mut self, landed: &Landed) {
        self.typical_run = (self.typical_run * 7 + landed.ran) / 8;
        if let Some(spent) = landed.spent {
            let now = self.clock.now();
            let held = &mut *self.shared.lock();
            held.prices.add(&landed.key, landed.size, spent, now);
            // What proved to be fast enough is so for those that wait already.
            held.queue.widen(&landed.key, |job| {
                let sizes = held.prices.fitting(&landed.key, &job.sizes, self.batch_time_max, now);
                let is_cut = sizes.len() < job.sizes.len();
                (sizes, is_cut)
            });
        }
    }

    /// Starts every batch that may go. Gives the time at which the next may, if nothing else wakes the task before, and whether
    /// none will ever come.
    fn launch(&mut self) -> (Option<Instant>, bool) {
        let mut held = self.shared.lock();
        loop {
            // While the device is busy, waiting a fraction of a run for company costs little and saves whole runs.
            let hold = (self.typical_run / 4).min(HOLD_MAX);
            let slots = Slots { busy: self.flights.len(), all: self.slots, hold };
            let now = self.clock.now();
            (held.in_flight, held.hold) = (slots.busy, hold);
            let due = held.queue.due(slots);
            if due.is_none_or(|due| due > now) {
                self.flow.withdraw();
                return (due, held.closed && held.queue.is_empty());
            }
            let priority = held.queue.priority().unwrap_or_default().of_model(self.model_priority);
            // Without a turn the task is woken when there is one.
            let Some(turn) = self.flow.take(priority) else { return (None, false) };
            let batch = held.queue.next(now, slots, |job| is_dead(job, now, &*self.observer));
            self.flow.queue(held.queued());
            let Some(batch) = batch else { continue };
            for piece in &batch.pieces {
                piece.payload.start(now);
            }
            let expected = held.prices.of(&batch.pieces[0].payload.key, batch.size.unwrap_or(0));
            let flight = Flight::begin(batch, turn, expected, Arc::clone(&self.clock), Arc::clone(&self.observer));
            self.flights.spawn(flight.run(Arc::clone(&self.run), now));
        }
    }
}
