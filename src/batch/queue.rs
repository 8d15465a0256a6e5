//! The queue as plain data: what waits, and which batch goes next. Time is an argument.

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::{Duration, Instant};

use super::group::{Group, batches, elements, fitting, take, time};
use super::policy::Priority;
use super::terms::{Batch, Bounds, Entry, Join, Slots};
use crate::error::{Error, Result};

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

#[cfg(test)]
mod tests;
