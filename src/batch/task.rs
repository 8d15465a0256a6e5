//! The task that forms batches and runs them.

use std::collections::VecDeque;
use std::panic::AssertUnwindSafe;
use std::pin::Pin;
use std::sync::Arc;
use std::time::{Duration, Instant};

use futures_util::FutureExt as _;
use futures_util::stream::{FuturesUnordered, StreamExt as _};
use tokio::task::JoinSet;

use super::aside::is_much;
use super::batcher::{Held, Shared, is_dead};
use super::clock::Clock;
use super::flight::{Flight, Landed, Order, Ran, is_of_inputs};
use super::formed::Formed;
use super::policy::Priority;
use super::priced::Priced;
use super::report::Observer;
use super::shapes::{Preparing, Shapes};
use super::terms::Slots;
use super::turns::{Flow, Turn};
use crate::error::{Error, Result};
use crate::tensor::Tensor;

/// Longest that a batch waits for company only because others are in flight.
const HOLD_MAX: Duration = Duration::from_millis(2);

/// What the task waits for, besides batches that land and a turn that it has wished for.
#[derive(Clone, Copy, Debug)]
pub(super) enum Awaits {
    /// A request.
    Request,
    /// The time at which the next batch may go.
    Time(Instant),
    /// A turn, wished for with the priority of the most urgent request.
    Turn(Priority),
}

/// A batch in flight; `None` of one whose run panicked, which has told its callers.
type Flying = Pin<Box<dyn Future<Output = Option<Landed>> + Send>>;

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
    /// What batches of padded requests can run as; `None`: nothing is padded.
    pub(super) shapes: Option<Arc<dyn Shapes>>,
    /// Batches in flight.
    pub(super) flights: FuturesUnordered<Flying>,
    /// Batches whose shapes are made ready meanwhile: they hold no turn, and nothing but what their requests hold.
    pub(super) preparing: JoinSet<(Formed, Result<()>)>,
    /// How many of them there may be before no more are formed.
    pub(super) preparing_max: usize,
    /// Those that are, in the order in which they got so.
    pub(super) prepared: VecDeque<Formed>,
    /// Moving average of how long runs take.
    pub(super) typical_run: Duration,
}

impl<R, C> Drop for Task<R, C> {
    fn drop(&mut self) {
        // Nothing waits unless the task was stopped from outside, with its runtime.
        let error = Error::unavailable("the batcher has stopped");
        let mut held = self.shared.lock();
        held.closed = true;
        held.queue.drain().for_each(|job| job.fail(error.clone()));
        self.prepared.drain(..).for_each(|formed| formed.fail(&error));
    }
}

impl<R, F, C> Task<R, C>
where
    R: Fn(Vec<Tensor>, Order) -> F + Send + Sync + 'static,
    F: Future<Output = Result<Ran>> + Send + 'static,
    C: Clock,
{
    pub(super) async fn work(mut self) {
        let clock = Arc::clone(&self.clock);
        let mut alarm = None;
        loop {
            // Whatever woke the task: those that have landed do not count as in flight.
            while let Some(Some(landed)) = self.flights.next().now_or_never() {
                landed.into_iter().for_each(|landed| self.note(landed));
            }
            let (due, finished) = self.launch();
            if finished && self.flights.is_empty() && self.preparing.is_empty() {
                return;
            }
            // One that rings too soon costs less than another for each request.
            if let Some(at) = due.filter(|due| alarm.as_ref().is_none_or(|(at, _)| at > due)) {
                alarm = Some((at, Box::pin(clock.sleep_until(at))));
            }
            let rings = async {
                match &mut alarm {
                    Some((_, ringing)) => ringing.await,
                    None => std::future::pending().await,
                }
            };
            tokio::select! {
                () = self.shared.changed.notified() => {}
                () = rings => alarm = None,
                Some(landed) = self.flights.next() => landed.into_iter().for_each(|landed| self.note(landed)),
                Some(prepared) = self.preparing.join_next() => {
                    // As above.
                    prepared.into_iter().for_each(|(formed, outcome)| match outcome {
                        Ok(()) => self.prepared.push_back(formed),
                        Err(error) => self.scatter(formed, &error),
                    });
                }
            }
        }
    }

    /// Takes note of what a run took.
    fn note(&mut self, landed: Landed) {
        self.typical_run = (self.typical_run * 7 + landed.ran) / 8;
        if let Some(spent) = landed.spent {
            let now = self.clock.now();
            let (priced, held) = (&landed.priced, &mut *self.shared.lock());
            held.prices.add(priced, landed.size, spent, now);
            // What proved to be fast enough is so for those that wait already.
            let widest = Priced::new(priced.key(), held.queue.elements(priced.key()));
            held.queue.widen(priced.key(), |job| {
                let sizes = held.prices.fitting_sizes(&widest, &job.sizes, self.batch_time_max, now);
                let is_cut = sizes.len() < job.sizes.len();
                (sizes, is_cut)
            });
        }
        if let Some((formed, error)) = landed.failed {
            self.scatter(formed, &error);
        }
    }

    /// Starts every batch that may go. Gives the time at which the next may, if nothing else wakes the task before, and whether
    /// none will ever come.
    fn launch(&mut self) -> (Option<Instant>, bool) {
        let shared = Arc::clone(&self.shared);
        let mut held = shared.lock();
        loop {
            // While the device is busy, waiting a fraction of a run for company costs little and saves whole runs.
            let hold = (self.typical_run / 4).min(HOLD_MAX);
            let slots = Slots { busy: self.flights.len(), all: self.slots, hold };
            let now = self.clock.now();
            (held.in_flight, held.hold) = (slots.busy, hold);
            held.preparing = self.preparing.len() + self.prepared.len();
            let ready = self.prepared.front().map(|formed| formed.priority);
            let waiting = held.queue.priority().filter(|_| held.preparing < self.preparing_max);
            let Some(priority) = waiting.max(ready) else {
                self.flow.withdraw();
                held.awaits = Awaits::Request;
                return (None, held.closed && held.queue.is_empty());
            };
            let due = if ready.is_some() && slots.busy < slots.all { Some(now) } else { held.queue.due(slots) };
            if let Some(due) = due.filter(|due| *due > now) {
                self.flow.withdraw();
                held.awaits = Awaits::Time(due);
                return (Some(due), false);
            }
            held.awaits = Awaits::Turn(priority);
            let of_model = priority.of_model(self.model_priority);
            if due.is_none() {
                // The turn of the first that lands is for those who wish for one by then.
                self.flow.wish(of_model);
                return (None, false);
            }
            // Without a turn the task is woken when there is one.
            let Some(turn) = self.flow.take(of_model) else { return (None, false) };
            // What had to wait for its shapes has waited longest.
            if let Some(formed) = self.prepared.pop_front() {
                if self.is_wanted(&formed, now) {
                    self.fly(formed, turn, &held, now);
                } else {
                    formed.fail(&nobody_waits());
                }
                continue;
            }
            let batch = held.queue.next(now, slots, |job| is_dead(job, now, &*self.observer));
            self.flow.queue(held.queued());
            let Some(batch) = batch else { continue };
            let formed = Formed::new(batch, priority, now);
            match self.unready(&formed) {
                // Others may have the turn.
                Some(preparing) => self.prepare(formed, preparing),
                None => self.fly(formed, turn, &held, now),
            }
        }
    }

    fn fly(&mut self, formed: Formed, mut turn: Turn, held: &Held, now: Instant) {
        let priced = Priced::new(&formed.batch.pieces[0].payload.key, formed.elements());
        let expected = held.prices.cost(&priced, formed.batch.size.unwrap_or(0));
        turn.begin(expected);
        let (clock, observer) = (Arc::clone(&self.clock), Arc::clone(&self.observer));
        let is_padded = self.shapes.is_some() && formed.batch.pieces.len() > 1;
        let bytes = formed.bytes();
        let flight = Flight { formed, turn, priced, expected, is_padded, clock, observer };
        let landing = AssertUnwindSafe(flight.run(Arc::clone(&self.run), now)).catch_unwind().map(|landed| landed.ok());
        // A task of its own costs a small batch more than the work that this task waits for meanwhile.
        self.flights.push(if is_much(bytes) {
            tokio::spawn(landing).map(|landed| landed.ok().flatten()).boxed()
        } else {
            landing.boxed()
        });
    }

    /// Whether somebody waits for it. Those whose time is over are told.
    fn is_wanted(&self, formed: &Formed, now: Instant) -> bool {
        let dead = formed.batch.pieces.iter().filter(|piece| is_dead(&piece.payload, now, &*self.observer));
        dead.count() < formed.batch.pieces.len()
    }

    /// What makes its shapes ready, if they are not.
    fn unready(&self, formed: &Formed) -> Option<Preparing> {
        let (model, shapes) = (self.shapes.as_ref()?, formed.shapes()?);
        (!model.is_ready(&shapes)).then(|| Arc::clone(model).prepare(shapes))
    }

    /// Has its shapes made ready while others go on.
    fn prepare(&mut self, formed: Formed, preparing: Preparing) {
        self.preparing.spawn(async move {
            let outcome = tokio::select! {
                outcome = preparing => outcome,
                () = formed.all_left() => Err(nobody_waits()),
            };
            (formed, outcome)
        });
    }

    /// What cannot run as it is runs request by request, each without padding; the callers of one that cannot run alone either are
    /// told why.
    fn scatter(&mut self, formed: Formed, error: &Error) {
        let scattered = if is_of_inputs(error) { formed.scatter() } else { Err(formed) };
        let parts = match scattered {
            Err(formed) => return formed.fail(error),
            Ok(parts) => parts,
        };
        tracing::debug!(%error, requests = parts.len(), "what was padded runs request by request");
        let now = self.clock.now();
        for formed in parts {
            match self.unready(&formed) {
                _ if !self.is_wanted(&formed, now) => formed.fail(&nobody_waits()),
                Some(preparing) => self.prepare(formed, preparing),
                None => self.prepared.push_back(formed),
            }
        }
    }
}

fn nobody_waits() -> Error {
    Error::cancelled("every caller went away")
}
