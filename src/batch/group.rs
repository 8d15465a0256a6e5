//! Requests of one key in the queue, and the batches that they make.

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::{Duration, Instant};

use super::report::Closed;
use super::row::Row;
use super::terms::{Batch, Bounds, Entry, Join, Piece};

/// Requests of one key, in the order in which they are to leave.
pub(super) struct Group<K, T> {
    pub(super) key: K,
    pub(super) join: Join,
    pub(super) entries: VecDeque<Entry<T>>,
    /// Rows of the first entry that earlier batches took.
    pub(super) taken: usize,
    /// Rows still waiting.
    pub(super) rows: usize,
    /// Whether `join` lacks sizes that take too long.
    pub(super) is_cut: bool,
    /// Elements of the largest row, where rows differ; else 0.
    pub(super) elements: u64,
}

impl<K, T> Group<K, T> {
    /// Batches that hold what waits.
    pub(super) fn batches(&self, bounds: &Bounds) -> usize {
        batches(&self.join, self.entries.len(), self.rows, bounds)
    }

    /// Adds a request behind those of its rank and before those after it, but never into one that is being divided.
    pub(super) fn insert(&mut self, entry: Entry<T>, bounds: &Bounds) {
        let rank = bounds.rank(entry.arrived, entry.priority);
        let behind = |other: &Entry<T>| bounds.rank(other.arrived, other.priority) <= rank;
        let place = self.entries.iter().rposition(behind).map_or(0, |at| at + 1).max(usize::from(self.taken > 0));
        self.rows += entry.rows;
        self.elements = self.elements.max(elements(&entry));
        self.entries.insert(place, entry);
    }

    /// Looks anew how large rows are.
    pub(super) fn measure(&mut self) {
        if self.elements > 0 {
            self.elements = self.entries.iter().map(elements).max().unwrap_or(0);
        }
    }

    /// Requests, and their rows, that leave before one of this rank.
    pub(super) fn ahead_of(&self, rank: Instant, bounds: &Bounds) -> (usize, usize) {
        let behind = self.entries.iter().rev().take_while(|e| bounds.rank(e.arrived, e.priority) > rank);
        let (requests, rows) = behind.fold((0, 0), |(requests, rows), entry| (requests + 1, rows + entry.rows));
        (self.entries.len() - requests, self.rows.saturating_sub(rows))
    }

    /// When it may go although it is not full; `None` when empty.
    pub(super) fn due(&self, delay: Duration) -> Option<Instant> {
        let oldest = self.entries.front()?.arrived;
        let full = self.join.rows_max().is_none_or(|max| self.rows >= max);
        Some(if full { oldest } else { oldest + delay })
    }

    /// Forgets the rest of the first entry.
    pub(super) fn skip(&mut self) {
        if let Some(entry) = self.entries.pop_front() {
            self.rows -= entry.rows - self.taken;
            self.taken = 0;
        }
    }
}

/// Elements of each of its rows, where they may differ from others'; else 0.
pub(super) fn elements<T>(entry: &Entry<T>) -> u64 {
    entry.row.as_ref().map_or(0, |row| row.elements())
}

/// Batches that hold so many requests of so many rows.
pub(super) fn batches(join: &Join, requests: usize, rows: usize, bounds: &Bounds) -> usize {
    join.rows_max().map_or(requests, |max| rows.div_ceil(max.max(bounds.rows_of_batch)))
}

/// The size that so many rows are padded to.
pub(super) fn fitting(sizes: &[usize], rows: usize) -> usize {
    sizes.iter().copied().find(|size| *size >= rows).unwrap_or(rows)
}

/// Device time of (requests, rows) of one key.
pub(super) fn time(join: &Join, (requests, rows): (usize, usize), cost: impl Fn(usize) -> Duration) -> Duration {
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
pub(super) fn take<K, T: Clone>(
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
