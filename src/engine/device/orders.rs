//! What waits for a lane's submission thread.

use std::collections::VecDeque;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError, mpsc};
use std::time::{Duration, Instant};

use super::executable::Executable;
use super::job::Job;
use crate::error::{Error, Result};

/// Jobs that may wait for one lane.
const MAX_QUEUED: usize = 4096;

/// Something for the lane to do.
pub(super) enum Order {
    /// A segment to run, and when it was handed over.
    Run(Job, Instant),
    /// One dispatch with one workgroup, so that the driver compiles it; the answer says when it is done.
    Touch { executable: Arc<Executable>, segment: usize, dispatch: usize, done: mpsc::SyncSender<Result<()>> },
    /// The dispatches of a segment, each timed.
    Profile { executable: Arc<Executable>, segment: usize, done: mpsc::SyncSender<Result<Vec<Duration>>> },
}

/// What the submission thread does next.
pub(super) enum Next {
    /// This.
    Begin(Order),
    /// The part of a run that it had submitted is done, and took so long; or failed.
    GoOn(Result<Duration>),
    /// Nothing any more.
    End,
}

/// The orders of one lane, first in, first out.
#[derive(Default)]
pub(super) struct Orders {
    state: Mutex<State>,
    changed: Condvar,
}

#[derive(Default)]
struct State {
    waiting: VecDeque<Order>,
    landed: Option<Result<Duration>>,
    closed: bool,
}

impl Orders {
    /// # Errors
    /// Gives the order back where too many wait, or none is taken any more.
    pub(super) fn push(&self, order: Order) -> std::result::Result<(), Order> {
        let mut state = self.state();
        if state.closed || state.waiting.len() >= MAX_QUEUED {
            return Err(order);
        }
        state.waiting.push_back(order);
        drop(state);
        self.changed.notify_one();
        Ok(())
    }

    /// Tells that the part of a run that was submitted last is done.
    pub(super) fn landed(&self, how: Result<Duration>) {
        self.state().landed = Some(how);
        self.changed.notify_one();
    }

    /// No more orders come; those that wait are done.
    pub(super) fn close(&self) {
        self.state().closed = true;
        self.changed.notify_one();
    }

    /// No orders are done any more: who waits for one is told by its being dropped.
    pub(super) fn abandon(&self) {
        let mut state = self.state();
        state.closed = true;
        let waiting = std::mem::take(&mut state.waiting);
        drop(state);
        drop(waiting);
    }

    /// Waits for something to do. While parts of a run are still to be submitted, `passing` says what may be done between them: that
    /// goes before the next part.
    pub(super) fn next(&self, passing: Option<&dyn Fn(&Order) -> bool>) -> Next {
        let mut state = self.state();
        loop {
            let at = match passing {
                None => (!state.waiting.is_empty()).then_some(0),
                Some(passes) => state.waiting.iter().position(passes),
            };
            if let Some(order) = at.and_then(|at| state.waiting.remove(at)) {
                return Next::Begin(order);
            }
            if let Some(landed) = state.landed.take() {
                return Next::GoOn(landed);
            }
            if state.closed && passing.is_none() {
                return Next::End;
            }
            state = self.changed.wait(state).unwrap_or_else(PoisonError::into_inner);
        }
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The error for an order that lane `index` did not take.
pub(super) fn not_taken(index: usize) -> Error {
    Error::unavailable(format!("lane {index}: {MAX_QUEUED} jobs wait already, or it has stopped"))
}
