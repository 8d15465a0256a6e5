//! The turns at the device that all batchers share.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use tokio::sync::Notify;

use super::policy::Priority;
use super::shares::{Due, Shares};

/// Hands out turns at a device, one a batch, by weight and priority.
#[derive(Debug)]
pub struct Turns {
    held: Mutex<Held>,
    all: usize,
}

#[derive(Debug)]
struct Held {
    shares: Shares,
    /// Whom to tell that a flow was given a turn.
    told: Vec<(u64, Arc<Notify>, usize)>,
}

impl Held {
    /// Gives out what can be given, and tells those who get it.
    fn give(&mut self, now: Instant) {
        while let Some(flow) = self.shares.give(now) {
            if let Some((_, told, given)) = self.told.iter_mut().find(|(number, ..)| *number == flow) {
                *given += 1;
                told.notify_one();
            }
        }
    }
}

impl Turns {
    /// Those at `lanes` that take `in_flight` batches each.
    pub fn new(lanes: usize, in_flight: usize) -> Arc<Self> {
        let held = Mutex::new(Held { shares: Shares::new(lanes, in_flight), told: Vec::new() });
        Arc::new(Self { held, all: lanes.max(1) * in_flight.max(1) })
    }

    /// How many there are.
    pub fn all(&self) -> usize {
        self.all
    }

    fn lock(&self) -> MutexGuard<'_, Held> {
        self.held.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Takes part in the sharing, by the time that `now` tells; `told` is told of turns that are given later.
    pub(super) fn join(self: &Arc<Self>, due: Due, told: Arc<Notify>, now: Now) -> Arc<Flow> {
        let mut held = self.lock();
        let number = held.shares.join(due);
        held.told.push((number, told, 0));
        Arc::new(Flow { turns: Arc::clone(self), number, now })
    }
}

/// Tells the time.
pub(super) type Now = Arc<dyn Fn() -> Instant + Send + Sync>;

/// One batcher's part in the sharing; it ends when dropped.
pub(super) struct Flow {
    turns: Arc<Turns>,
    number: u64,
    now: Now,
}

impl Flow {
    /// A turn, if it is this flow's; else it will be told.
    pub(super) fn take(self: &Arc<Self>, priority: Priority) -> Option<Turn> {
        let now = (self.now)();
        let mut held = self.turns.lock();
        let has_one = |held: &mut Held| {
            let (_, _, given) = held.told.iter_mut().find(|(number, ..)| *number == self.number)?;
            *given = given.checked_sub(1)?;
            Some(())
        };
        if has_one(&mut held).is_none() {
            held.shares.wish(self.number, priority, now);
            held.give(now);
            has_one(&mut held)?;
        }
        Some(Turn { flow: Arc::clone(self), state: State::Given })
    }

    /// As [`Flow::take`] for later: it has more to run, but no turn more to have at the same time.
    pub(super) fn wish(&self, priority: Priority) {
        let now = (self.now)();
        self.turns.lock().shares.wish(self.number, priority, now);
    }

    /// There is nothing to run: turns that were given go to others.
    pub(super) fn withdraw(&self) {
        let mut held = self.turns.lock();
        held.shares.withdraw(self.number);
        let own = held.told.iter_mut().find(|(number, ..)| *number == self.number);
        let given = own.map_or(0, |(.., given)| std::mem::take(given));
        (0..given).for_each(|_| held.shares.forgo(self.number));
        held.give((self.now)());
    }

    /// Says how much device time there is work for.
    pub(super) fn queue(&self, queued: Duration) {
        self.turns.lock().shares.queue(self.number, queued);
    }

    /// How long `queued` device time takes to be through, and whether nothing of this flow's is on the device.
    pub(super) fn wait(&self, queued: Duration) -> (Duration, bool) {
        let now = (self.now)();
        let held = self.turns.lock();
        (held.shares.wait(self.number, queued, now), held.shares.is_idle(self.number))
    }

    /// Device time used so far.
    pub(super) fn spent(&self) -> Duration {
        self.turns.lock().shares.spent(self.number)
    }
}

impl Drop for Flow {
    fn drop(&mut self) {
        let mut held = self.turns.lock();
        held.shares.leave(self.number);
        held.told.retain(|(number, ..)| *number != self.number);
    }
}

/// A turn at the device; it is given back when dropped.
pub(super) struct Turn {
    flow: Arc<Flow>,
    state: State,
}

enum State {
    Given,
    /// And its number.
    Begun(u64),
    Over,
}

impl Turn {
    /// Begins a batch that is expected to take so long.
    pub(super) fn begin(&mut self, expected: Duration) {
        let now = (self.flow.now)();
        self.state = State::Begun(self.flow.turns.lock().shares.begin(self.flow.number, expected, now));
    }

    /// The batch took so much device time; `None` if that is not known. The turn is free for others.
    pub(super) fn end(&mut self, spent: Option<Duration>) {
        let (now, flow) = ((self.flow.now)(), self.flow.number);
        let mut held = self.flow.turns.lock();
        match std::mem::replace(&mut self.state, State::Over) {
            State::Given => held.shares.forgo(flow),
            State::Begun(turn) => held.shares.end(flow, turn, spent, now),
            State::Over => return,
        }
        held.give(now);
    }
}

impl Drop for Turn {
    fn drop(&mut self) {
        self.end(None);
    }
}
