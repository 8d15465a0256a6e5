//! Who may use the device next, as plain data: fair shares of device time by weight, priorities that waiting makes up for.
//!
//! Each model is a flow with a virtual time: device time used, over its weight (start-time fair queueing: Goyal, Vin and
//! Cheng, 1996). Of the flows that wish for a turn the one whose virtual time is the least gets it, so that over time each
//! gets device time in proportion to its weight, however long its batches are. A flow that was idle starts at the time the others have
//! reached: it saves nothing up. Time is an argument.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use super::policy::Priority;

/// Batches that take longer gain little from being handed over early, and others lose much by it.
const LONG: Duration = Duration::from_millis(10);
/// A flow that wished for something within this time counts as company.
const COMPANY: Duration = Duration::from_secs(1);

/// What a flow is due.
#[derive(Clone, Copy, Debug)]
pub(super) struct Due {
    pub(super) weight: f64,
    /// Turns that it may have at a time.
    pub(super) turns_max: usize,
    /// Longest that it waits, a step of priority, only because others are more urgent.
    pub(super) priority_wait_max: Duration,
}

#[derive(Debug)]
struct Flow {
    due: Due,
    /// Virtual time in seconds.
    used: f64,
    /// Since when it wishes for a turn, and how urgent that is.
    wish: Option<(Instant, Priority)>,
    /// Turns that it has been given and not begun.
    given: usize,
    /// What its turns that have begun are expected to take, oldest first, by number.
    running: Vec<(u64, Duration)>,
    /// What its last turn took.
    last: Duration,
    /// Device time that it has work for.
    queued: Duration,
    /// When it last wished for something.
    seen: Option<Instant>,
    spent: Duration,
}

impl Flow {
    fn turns(&self) -> usize {
        self.given + self.running.len()
    }

    fn is_company(&self, now: Instant) -> bool {
        self.wish.is_some() || self.seen.is_some_and(|at| now.saturating_duration_since(at) < COMPANY)
    }
}

/// The device's turns, and who has them.
#[derive(Debug)]
pub(super) struct Shares {
    /// Batches that the device works on at the same time.
    lanes: usize,
    /// Turns that may be had at a time, those that only wait on the device included.
    turns_max: usize,
    flows: BTreeMap<u64, Flow>,
    /// Numbers of flows and turns that were given out.
    numbers: u64,
    /// Virtual time that the flows with work have reached.
    reached: f64,
    /// When the device last began or ended something while nothing else ran: it has worked since.
    worked_since: Option<Instant>,
}

impl Shares {
    /// Of `lanes`, at least 1, each of which takes `in_flight` batches.
    pub(super) fn new(lanes: usize, in_flight: usize) -> Self {
        let lanes = lanes.max(1);
        let turns_max = lanes * in_flight.max(1);
        Self { lanes, turns_max, flows: BTreeMap::new(), numbers: 0, reached: 0.0, worked_since: None }
    }

    fn number(&mut self) -> u64 {
        self.numbers += 1;
        self.numbers
    }

    /// A new flow.
    pub(super) fn join(&mut self, due: Due) -> u64 {
        let flow = Flow {
            due,
            used: self.reached,
            wish: None,
            given: 0,
            running: Vec::new(),
            last: Duration::ZERO,
            queued: Duration::ZERO,
            seen: None,
            spent: Duration::ZERO,
        };
        let number = self.number();
        self.flows.insert(number, flow);
        number
    }

    /// The flow is gone; turns that it was given are free.
    pub(super) fn leave(&mut self, flow: u64) {
        self.flows.remove(&flow);
    }

    /// The flow wishes for turns from now on, one after the other, until [`Shares::withdraw`].
    pub(super) fn wish(&mut self, flow: u64, priority: Priority, now: Instant) {
        let reached = self.reached;
        let Some(flow) = self.flows.get_mut(&flow) else { return };
        if flow.wish.is_none() && flow.turns() == 0 {
            flow.used = flow.used.max(reached);
        }
        flow.seen = Some(now);
        let since = flow.wish.map_or(now, |(since, _)| since);
        flow.wish = Some((since, priority));
    }

    /// The flow has no wish any more.
    pub(super) fn withdraw(&mut self, flow: u64) {
        if let Some(flow) = self.flows.get_mut(&flow) {
            flow.wish = None;
        }
    }

    /// Gives a turn to the one that is due it most, if there is one to give. Who was given one says next whether there is more to
    /// run, by beginning it and wishing on, or by withdrawing.
    pub(super) fn give(&mut self, now: Instant) -> Option<u64> {
        if self.flows.values().map(Flow::turns).sum::<usize>() >= self.turns_max {
            return None;
        }
        let wishing = self.flows.iter().filter(|(_, flow)| flow.wish.is_some() && flow.turns() < flow.due.turns_max);
        let top = wishing.clone().filter_map(|(_, flow)| flow.wish).map(|(_, priority)| priority).max()?;
        let urgency = |flow: &Flow| {
            let (since, priority) = flow.wish.unwrap_or((now, Priority::Low));
            // Whoever has waited long enough stands with the most urgent there are, not above.
            let bearable = flow.due.priority_wait_max * priority.steps_below(top);
            if now.saturating_duration_since(since) >= bearable { top } else { priority }
        };
        let order = |a: &Flow, b: &Flow| urgency(b).cmp(&urgency(a)).then(a.used.total_cmp(&b.used));
        let (number, next) = wishing.min_by(|(_, a), (_, b)| order(a, b))?;
        // Nobody else goes in its place while it may have no more, or has not said yet whether it needs more: batches would
        // take turns whatever is due to whom.
        if self.is_held_back(next, now) || next.given > 0 {
            return None;
        }
        let number = *number;
        let flow = self.flows.get_mut(&number)?;
        flow.wish = flow.wish.map(|(_, priority)| (now, priority));
        flow.given += 1;
        self.reached = self.reached.max(flow.used);
        Some(number)
    }

    /// Whether a flow may have no more turns than it has. One with long batches leaves a lane free while there is company, or
    /// where there is one lane has one turn: whoever comes then waits for nothing, or for one of its batches and not for two.
    fn is_held_back(&self, flow: &Flow, now: Instant) -> bool {
        let turns_max = self.lanes.saturating_sub(1).max(1);
        let mut others = self.flows.values().filter(|other| !std::ptr::eq(*other, flow));
        flow.last >= LONG && flow.turns() >= turns_max && others.any(|other| other.is_company(now))
    }

    /// Uses a turn that was given, for a batch that is expected to take so long; gives the turn's number.
    pub(super) fn begin(&mut self, flow: u64, expected: Duration, now: Instant) -> u64 {
        let turn = self.number();
        let is_first = self.flows.values().all(|flow| flow.running.is_empty());
        if let Some(flow) = self.flows.get_mut(&flow) {
            flow.given = flow.given.saturating_sub(1);
            flow.running.push((turn, expected));
            flow.used += expected.as_secs_f64() / flow.due.weight;
        }
        if is_first {
            self.worked_since = Some(now);
        }
        turn
    }

    /// A turn that was given is not used.
    pub(super) fn forgo(&mut self, flow: u64) {
        if let Some(flow) = self.flows.get_mut(&flow) {
            flow.given = flow.given.saturating_sub(1);
        }
    }

    /// A turn has ended after so much device time; `None` if that is not known.
    pub(super) fn end(&mut self, flow: u64, turn: u64, spent: Option<Duration>, now: Instant) {
        self.worked_since = Some(now);
        let Some(flow) = self.flows.get_mut(&flow) else { return };
        let Some(at) = flow.running.iter().position(|(number, _)| *number == turn) else { return };
        let (_, expected) = flow.running.remove(at);
        let spent = spent.unwrap_or(expected);
        flow.used += (spent.as_secs_f64() - expected.as_secs_f64()) / flow.due.weight;
        flow.last = spent;
        flow.spent += spent;
    }

    /// Says how much device time the flow has work for.
    pub(super) fn queue(&mut self, flow: u64, queued: Duration) {
        if let Some(flow) = self.flows.get_mut(&flow) {
            flow.queued = queued;
        }
    }

    /// How long it takes until `queued` device time of this flow's work is done, as far as is known: what runs comes first, and
    /// meanwhile each other flow gets its share, but no more than it has work for.
    pub(super) fn wait(&self, flow: u64, queued: Duration, now: Instant) -> Duration {
        let Some(own) = self.flows.get(&flow) else { return queued };
        let expected: Duration = self.flows.values().flat_map(|flow| &flow.running).map(|(_, time)| *time).sum();
        let running = self.flows.values().map(|flow| flow.running.len()).sum::<usize>();
        let at_once = u32::try_from(self.lanes.min(running)).unwrap_or(u32::MAX);
        let worked = self.worked_since.map_or(Duration::ZERO, |since| now.saturating_duration_since(since));
        let others = self
            .flows
            .iter()
            .filter(|(number, _)| **number != flow)
            .map(|(_, other)| other.queued.min(queued.mul_f64(other.due.weight / own.due.weight)));
        let all = expected.saturating_sub(worked.saturating_mul(at_once)) + queued + others.sum::<Duration>();
        all / u32::try_from(self.lanes).unwrap_or(u32::MAX)
    }

    /// Whether the flow has nothing on the device.
    pub(super) fn is_idle(&self, flow: u64) -> bool {
        self.flows.get(&flow).is_none_or(|flow| flow.turns() == 0)
    }

    /// Device time that the flow has used.
    pub(super) fn spent(&self, flow: u64) -> Duration {
        self.flows.get(&flow).map_or(Duration::ZERO, |flow| flow.spent)
    }
}

#[cfg(test)]
mod tests;
