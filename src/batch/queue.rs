//! The queue as plain data: what waits, and which batch goes next. Time is an argument.

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::{Duration, Instant};

use super::policy::Priority;
use super::report::Closed;
use super::row::Row;
use crate::error::{Error, Result};

/// How a request may be merged with others of its key.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Join {
    /// Not at all: it runs as it is.
    Alone,
    /// Along axis 0, up to the last of these batch sizes (ascending, not empty), padded to one of them.
    Rows(Arc<[usize]>),
}

impl Join {
    /// Most rows in one batch, if they are merged at all.
    fn rows_max(&self) -> Option<usize> {
        match self {
            Join::Alone => None,
            Join::Rows(sizes) => Some(sizes.last().copied().unwrap_or(1).max(1)),
        }
    }
}

/// The queue's bounds.
#[derive(Clone, Debug)]
pub struct Bounds {
    /// Longest that the oldest request of a batch waits for company while a slot is free.
    pub delay: Duration,
    /// Batches that may wait.
    pub batches_max: usize,
    /// Rows that count as a batch at least, though sizes as large may not be ready yet.
    pub rows_of_batch: usize,
    /// Whether who is refused learns how many rows there is room for: where requests are divided at somebody's wish.
    pub tells_capacity: bool,
    /// Longest that a request waits, a step of priority, only because more urgent ones came later.
    pub priority_wait_max: Duration,
    /// Bytes that the inputs of a batch may take in which requests are padded to each other's extents.
    pub padded_bytes_max: u64,
}

impl Bounds {
    /// The place of a request in its line: as if it had come the later, the less urgent it is.
    fn rank(&self, arrived: Instant, priority: Priority) -> Instant {
        arrived + self.priority_wait_max * priority.steps_below(Priority::High)
    }
}

/// What the engine is doing when a batch is asked for.
#[derive(Clone, Copy, Debug)]
pub struct Slots {
    /// Batches in flight.
    pub busy: usize,
    /// Batches that may be in flight.
    pub all: usize,
    /// While something is in flight, how long a batch that is not full waits for company even if a slot is free.
    pub hold: Duration,
}

impl Slots {
    /// How long the oldest request of a batch waits for company.
    fn delay(&self, bounds: &Bounds) -> Duration {
        if self.busy == 0 { bounds.delay } else { bounds.delay.max(self.hold) }
    }
}

/// A request that waits.
#[derive(Clone, Debug)]
pub struct Entry<T> {
    /// The request itself.
    pub payload: T,
    /// Its rows, at least 1. Means nothing to [`Join::Alone`].
    pub rows: usize,
    /// When it came.
    pub arrived: Instant,
    /// How urgent it is.
    pub priority: Priority,
    /// Whether sizes were left out of those it may be merged to, since they would take too long.
    pub is_cut: bool,
    /// What it has in each row, where that may differ from others of its key; `None`: it does not.
    pub row: Option<Arc<Row>>,
}

/// A request, or some of its rows, in a batch.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Piece<T> {
    /// The request.
    pub payload: T,
    /// The first of its rows that is in the batch.
    pub start: usize,
    /// How many of its rows are.
    pub rows: usize,
}

/// What to run next.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Batch<T> {
    /// Requests in the order of their arrival; one if it is run alone.
    pub pieces: Vec<Piece<T>>,
    /// Rows to run, padding included; `None` when a request runs alone, as it is.
    pub size: Option<usize>,
    /// What each row is padded to; `None`: they are all alike.
    pub row: Option<Arc<Row>>,
    /// When its oldest request came.
    pub oldest: Instant,
    /// Why it was closed.
    pub closed: Closed,
}

/// Requests of one key, in the order in which they are to leave.
struct Group<K, T> {
    key: K,
    join: Join,
    entries: VecDeque<Entry<T>>,
    /// Rows of the first entry that earlier batches took.
    taken: usize,
    /// Rows still waiting.
    rows: usize,
    /// Whether `join` lacks sizes that take too long.
    is_cut: bool,
    /// Elements of the largest row, where rows differ; else 0.
    elements: u64,
}

impl<K, T> Group<K, T> {
    /// Batches that hold what waits.
    fn batches(&self, bounds: &Bounds) -> usize {
        batches(&self.join, self.entries.len(), self.rows, bounds)
    }

    /// Adds a request behind those of its rank and before those after it, but never into one that is being divided.
    fn insert(&mut self, entry: Entry<T>, bounds: &Bounds) {
        let rank = bounds.rank(entry.arrived, entry.priority);
        let behind = |other: &Entry<T>| bounds.rank(other.arrived, other.priority) <= rank;
        let place = self.entries.iter().rposition(behind).map_or(0, |at| at + 1).max(usize::from(self.taken > 0));
        self.rows += entry.rows;
        self.elements = self.elements.max(elements(&entry));
        self.entries.insert(place, entry);
    }

    /// Looks anew how large rows are.
    fn measure(&mut self) {
        if self.elements > 0 {
            self.elements = self.entries.iter().map(elements).max().unwrap_or(0);
        }
    }

    /// Requests, and their rows, that leave before one of this rank.
    fn ahead_of(&self, rank: Instant, bounds: &Bounds) -> (usize, usize) {
        let behind = self.entries.iter().rev().take_while(|e| bounds.rank(e.arrived, e.priority) > rank);
        let (requests, rows) = behind.fold((0, 0), |(requests, rows), entry| (requests + 1, rows + entry.rows));
        (self.entries.len() - requests, self.rows.saturating_sub(rows))
    }

    /// When it may go although it is not full; `None` when empty.
    fn due(&self, delay: Duration) -> Option<Instant> {
        let oldest = self.entries.front()?.arrived;
        let full = self.join.rows_max().is_none_or(|max| self.rows >= max);
        Some(if full { oldest } else { oldest + delay })
    }

    /// Forgets the rest of the first entry.
    fn skip(&mut self) {
        if let Some(entry) = self.entries.pop_front() {
            self.rows -= entry.rows - self.taken;
            self.taken = 0;
        }
    }
}

/// Elements of each of its rows, where they may differ from others'; else 0.
fn elements<T>(entry: &Entry<T>) -> u64 {
    entry.row.as_ref().map_or(0, |row| row.elements())
}

/// Batches that hold so many requests of so many rows.
fn batches(join: &Join, requests: usize, rows: usize, bounds: &Bounds) -> usize {
    join.rows_max().map_or(requests, |max| rows.div_ceil(max.max(bounds.rows_of_batch)))
}

/// Device time that lies before a request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Ahead {
    /// Of all batches before its last.
    pub queued: Duration,
    /// Of its last batch.
    pub last: Duration,
}

/// Requests waiting for one model. Requests of one key and priority leave in the order in which they came, the more urgent before
/// those that have not waited long enough; keys take turns by the same rule.
pub struct Queue<K, T> {
    bounds: Bounds,
    groups: Vec<Group<K, T>>,
    batches: usize,
}

impl<K: PartialEq, T: Clone> Queue<K, T> {
    /// An empty queue.
    pub fn new(bounds: Bounds) -> Self {
        Self { bounds, groups: Vec::new(), batches: 0 }
    }

    /// Whether nothing waits.
    pub fn is_empty(&self) -> bool {
        self.groups.is_empty()
    }

    /// Batches that hold what waits.
    pub fn batches(&self) -> usize {
        self.batches
    }

    /// Requests that wait.
    pub fn requests(&self) -> usize {
        self.groups.iter().map(|group| group.entries.len()).sum()
    }

    /// Adds a request. `join` holds for all that wait with the same key from now on. Where nothing waits, a request is taken
    /// however many batches it makes: it is divided, and waits for itself only.
    ///
    /// # Errors
    /// `UNAVAILABLE` when it would need a batch more than may wait.
    pub fn push(&mut self, key: K, join: Join, entry: Entry<T>) -> Result<()> {
        let found = self.groups.iter().position(|g| g.key == key);
        let before = found.map_or(0, |i| self.groups[i].batches(&self.bounds));
        let (waiting, rows) = found.map_or((0, 0), |i| (self.groups[i].entries.len(), self.groups[i].rows));
        let after = batches(&join, waiting + 1, rows.saturating_add(entry.rows), &self.bounds);
        let total = self.batches - before + after;
        if total > self.bounds.batches_max && after > before && self.batches > 0 {
            return Err(self.full(&join, rows, entry.rows));
        }
        let at = found.unwrap_or_else(|| {
            self.groups.push(Group {
                key,
                join: join.clone(),
                entries: VecDeque::new(),
                taken: 0,
                rows: 0,
                is_cut: false,
                elements: 0,
            });
            self.groups.len() - 1
        });
        (self.groups[at].join, self.groups[at].is_cut) = (join, entry.is_cut);
        self.groups[at].insert(entry, &self.bounds);
        self.batches = total;
        Ok(())
    }

    /// Elements of the largest row that waits with this key, where rows differ; else 0.
    pub fn elements(&self, key: &K) -> u64 {
        self.groups.iter().find(|group| group.key == *key).map_or(0, |group| group.elements)
    }

    /// The refusal of a request of `task` rows where `rows` of its key wait, in TensorFlow Serving's words.
    fn full(&self, join: &Join, rows: usize, task: usize) -> Error {
        let full = "The batch scheduling queue to which this task was submitted is full";
        let (batches, batches_max) = (self.batches, self.bounds.batches_max);
        let of_batch = join.rows_max().filter(|_| self.bounds.tells_capacity);
        let Some(of_batch) = of_batch.map(|max| max.max(self.bounds.rows_of_batch)) else {
            let state = format!("currently {batches} batches enqueued and max_enqueued_batches is {batches_max}");
            return Error::unavailable(format!("{full}; {state}"));
        };
        // The last batch that is not full yet.
        let open = if rows == 0 { of_batch } else { (rows - 1) % of_batch + 1 };
        let capacity = batches_max.saturating_sub(batches).saturating_mul(of_batch).saturating_add(of_batch - open);
        Error::unavailable(format!(
            "{full}; task size is {task} but scheduling capacity is only {capacity} (num_enqueued_batches={batches}, \
             max_enqueued_batches={batches_max}, open_batch_size={}, max_execution_batch_size={of_batch})",
            if rows == 0 { 0 } else { open }
        ))
    }

    /// What lies before a request that comes now, where `cost` gives the device time of a batch by key, elements of a row (0 where
    /// rows are alike) and size (0: a request that runs alone).
    pub fn ahead(&self, key: &K, join: &Join, entry: &Entry<T>, cost: impl Fn(&K, u64, usize) -> Duration) -> Ahead {
        let rank = self.bounds.rank(entry.arrived, entry.priority);
        let (mut queued, mut own) = (Duration::ZERO, (0, 0));
        let elements = self.elements(key).max(elements(entry));
        for group in &self.groups {
            let ahead = group.ahead_of(rank, &self.bounds);
            if group.key == *key {
                own = ahead;
            } else {
                queued += time(&group.join, ahead, |size| cost(&group.key, group.elements, size));
            }
        }
        let of_size = |size| cost(key, elements, size);
        let Join::Rows(sizes) = join else {
            return Ahead { queued: queued + time(join, own, of_size), last: of_size(0) };
        };
        let (rows, rows_max) = (own.1 + entry.rows, join.rows_max().unwrap_or(1));
        let full = rows.saturating_sub(1) / rows_max;
        queued += of_size(rows_max).saturating_mul(u32::try_from(full).unwrap_or(u32::MAX));
        Ahead { queued, last: of_size(fitting(sizes, rows - full * rows_max)) }
    }

    /// Device time of all that waits; `cost` as in [`Queue::ahead`].
    pub fn time(&self, cost: impl Fn(&K, u64, usize) -> Duration) -> Duration {
        let of = |g: &Group<K, T>| time(&g.join, (g.entries.len(), g.rows), |size| cost(&g.key, g.elements, size));
        self.groups.iter().map(of).sum()
    }

    /// Where sizes were cut for what waits with `key`: has it merged to those that `sizes` gives for its first request, if they are
    /// more by now, and notes whether they still lack some.
    pub fn widen(&mut self, key: &K, sizes: impl FnOnce(&T) -> (Arc<[usize]>, bool)) {
        let Some(group) = self.groups.iter_mut().find(|group| group.is_cut && group.key == *key) else { return };
        let (Join::Rows(now), Some(first)) = (&group.join, group.entries.front()) else { return };
        let (sizes, is_cut) = sizes(&first.payload);
        if sizes.len() > now.len() {
            (group.join, group.is_cut) = (Join::Rows(sizes), is_cut);
            self.tidy();
        }
    }

    /// The priority of the most urgent request.
    pub fn priority(&self) -> Option<Priority> {
        self.groups.iter().filter_map(|g| g.entries.front()).map(|e| e.priority).max()
    }

    /// Drops every request for which `is_dead` says so.
    pub fn purge(&mut self, is_dead: impl Fn(&T) -> bool) {
        for group in &mut self.groups {
            while group.entries.front().is_some_and(|e| is_dead(&e.payload)) {
                group.skip();
            }
            group.entries.retain(|e| !is_dead(&e.payload));
            group.rows = group.entries.iter().map(|e| e.rows).sum::<usize>() - group.taken;
            group.measure();
        }
        self.tidy();
    }

    /// The next batch that may go now, if a slot is free for it. Requests that `is_dead` names are dropped on the way.
    pub fn next(&mut self, now: Instant, slots: Slots, is_dead: impl Fn(&T) -> bool) -> Option<Batch<T>> {
        if slots.busy >= slots.all {
            return None;
        }
        let delay = slots.delay(&self.bounds);
        loop {
            let due = self.groups.iter().enumerate().filter(|(_, g)| g.due(delay).is_some_and(|due| due <= now));
            let rank = |g: &Group<K, T>| g.entries.front().map(|e| self.bounds.rank(e.arrived, e.priority));
            let (at, _) = due.min_by_key(|(_, g)| rank(g))?;
            let batch = take(&mut self.groups[at], &self.bounds, delay, &is_dead);
            self.groups[at].measure();
            self.tidy();
            if batch.is_some() {
                return batch;
            }
        }
    }

    /// When [`Queue::next`] will have a batch if nothing else happens; `None` when no slot is free or nothing waits.
    pub fn due(&self, slots: Slots) -> Option<Instant> {
        let delay = slots.delay(&self.bounds);
        self.groups.iter().filter(|_| slots.busy < slots.all).filter_map(|g| g.due(delay)).min()
    }

    /// Takes everything out.
    pub fn drain(&mut self) -> impl Iterator<Item = T> + '_ {
        self.batches = 0;
        self.groups.drain(..).flat_map(|g| g.entries).map(|e| e.payload)
    }

    fn tidy(&mut self) {
        self.groups.retain(|g| !g.entries.is_empty());
        self.batches = self.groups.iter().map(|group| group.batches(&self.bounds)).sum();
    }
}

/// The size that so many rows are padded to.
fn fitting(sizes: &[usize], rows: usize) -> usize {
    sizes.iter().copied().find(|size| *size >= rows).unwrap_or(rows)
}

/// Device time of (requests, rows) of one key.
fn time(join: &Join, (requests, rows): (usize, usize), cost: impl Fn(usize) -> Duration) -> Duration {
    let times = |count: usize| u32::try_from(count).unwrap_or(u32::MAX);
    let Join::Rows(sizes) = join else { return cost(0).saturating_mul(times(requests)) };
    let rows_max = join.rows_max().unwrap_or(1);
    let rest = match rows % rows_max {
        0 => Duration::ZERO,
        rows => cost(fitting(sizes, rows)),
    };
    cost(rows_max).saturating_mul(times(rows / rows_max)) + rest
}

/// Forms a batch of `group`'s oldest live requests; `None` if none lives. A request is divided only when it does not fit
/// into a batch of its own. Where rows differ, one that is divided has no company: its parts must come out alike.
fn take<K, T: Clone>(
    group: &mut Group<K, T>,
    bounds: &Bounds,
    delay: Duration,
    is_dead: impl Fn(&T) -> bool,
) -> Option<Batch<T>> {
    let (mut pieces, mut rows, mut oldest, mut full) = (Vec::new(), 0, None, false);
    let mut row: Option<Arc<Row>> = None;
    let rows_max = group.join.rows_max();
    while let Some(entry) = group.entries.front() {
        if is_dead(&entry.payload) {
            group.skip();
            continue;
        }
        let left = entry.rows - group.taken;
        let room = rows_max.map_or(if pieces.is_empty() { left } else { 0 }, |max| max - rows);
        full = room == 0 || (left > room && !pieces.is_empty());
        let grown = grown(row.as_ref(), entry);
        if let (Join::Rows(sizes), Some(grown), false) = (&group.join, &grown, full || pieces.is_empty()) {
            let size = fitting(sizes, rows + left) as u64;
            full = grown.bytes().saturating_mul(size) > bounds.padded_bytes_max;
        }
        if full {
            break;
        }
        row = grown;
        let piece = Piece { payload: entry.payload.clone(), start: group.taken, rows: left.min(room) };
        oldest = Some(oldest.map_or(entry.arrived, |oldest: Instant| oldest.min(entry.arrived)));
        rows += piece.rows;
        let is_part = piece.rows < entry.rows;
        if piece.rows == left {
            group.skip();
        } else {
            group.taken += piece.rows;
            group.rows -= piece.rows;
        }
        pieces.push(piece);
        if is_part && row.is_some() {
            full = true;
            break;
        }
    }
    let size = match &group.join {
        Join::Alone => None,
        Join::Rows(sizes) => Some(fitting(sizes, rows)),
    };
    let closed = match () {
        () if group.join == Join::Alone => Closed::Alone,
        () if full || rows_max.is_none_or(|max| rows >= max) => {
            if group.is_cut {
                Closed::Time
            } else {
                Closed::Full
            }
        }
        () if delay > Duration::ZERO => Closed::Delay,
        () => Closed::SlotFree,
    };
    oldest.map(|oldest| Batch { pieces, size, row, oldest, closed })
}

/// What holds both the rows of a batch and those of `entry`.
fn grown<T>(row: Option<&Arc<Row>>, entry: &Entry<T>) -> Option<Arc<Row>> {
    match (row, &entry.row) {
        (Some(row), Some(own)) if row != own => Some(Arc::new(row.around(own))),
        _ => entry.row.clone(),
    }
}

#[cfg(test)]
mod tests;
