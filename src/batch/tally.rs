//! How a batcher has done since it started, for whoever asks why its batches are as they are.

use std::collections::{BTreeMap, VecDeque};
use std::time::Duration;

use super::report::{BatchReport, Closed, Dropped};

/// Batches of which everything is remembered.
const RECENT_MAX: usize = 16;
/// Sizes counted apart; of more, the rest count as the largest.
const SIZES_MAX: usize = 64;
/// Parts of each doubling that durations are counted in.
const PARTS: u32 = 4;
const BUCKETS: usize = 40 * PARTS as usize;

/// How durations spread, in buckets a fifth wide.
#[derive(Clone, Debug)]
pub struct Spread {
    counts: [u64; BUCKETS],
    count: u64,
    sum: Duration,
    max: Duration,
}

impl Default for Spread {
    fn default() -> Self {
        Self { counts: [0; BUCKETS], count: 0, sum: Duration::ZERO, max: Duration::ZERO }
    }
}

impl Spread {
    /// Counts one.
    pub fn add(&mut self, duration: Duration) {
        self.counts[bucket(duration)] += 1;
        self.count += 1;
        self.sum += duration;
        self.max = self.max.max(duration);
    }

    /// Their mean; zero of none.
    pub fn mean(&self) -> Duration {
        let count = u32::try_from(self.count.max(1)).unwrap_or(u32::MAX);
        self.sum / count
    }

    /// What `share` of them do not exceed, to a fifth; zero of none.
    pub fn quantile(&self, share: f64) -> Duration {
        let wanted = (self.count as f64 * share).ceil() as u64;
        let mut seen = 0;
        for (at, count) in self.counts.iter().enumerate() {
            seen += count;
            if *count > 0 && seen >= wanted {
                return end(at).min(self.max);
            }
        }
        self.max
    }

    /// The longest.
    pub fn max(&self) -> Duration {
        self.max
    }
}

/// Microseconds below `PARTS` have a bucket each; above, each doubling is cut into `PARTS`.
fn bucket(duration: Duration) -> usize {
    let micros = u64::try_from(duration.as_micros()).unwrap_or(u64::MAX);
    let bits = PARTS.ilog2();
    let at = match micros.checked_ilog2() {
        Some(doubling) if doubling >= bits => {
            (doubling - bits + 1) * PARTS + ((micros >> (doubling - bits)) as u32 & (PARTS - 1))
        }
        _ => micros as u32,
    };
    (at as usize).min(BUCKETS - 1)
}

/// Where a bucket ends.
fn end(at: usize) -> Duration {
    let (doubling, part) = (at as u32 / PARTS, at as u32 % PARTS);
    let micros = match doubling {
        0 => u64::from(part),
        _ => (u64::from(PARTS + part + 1) << (doubling - 1)) - 1,
    };
    Duration::from_micros(micros)
}

/// What batches of one size did.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct OfSize {
    /// How many there were.
    pub batches: u64,
    /// Requests, or parts of requests, in them.
    pub requests: u64,
    /// Rows added to reach the size.
    pub padded_rows: u64,
}

/// Everything counted since the start.
#[derive(Clone, Debug, Default)]
pub struct Tally {
    /// Batches run.
    pub batches: u64,
    /// Those whose run failed.
    pub failed: u64,
    /// Requests, or parts of requests, in them.
    pub requests: u64,
    /// Rows that callers sent.
    pub rows: u64,
    /// Rows added to reach an allowed size.
    pub padded_rows: u64,
    /// Batches by why they were closed.
    pub closed: BTreeMap<Closed, u64>,
    /// Requests not run, by why.
    pub dropped: BTreeMap<Dropped, u64>,
    /// By rows run, padding included.
    pub sizes: BTreeMap<usize, OfSize>,
    /// How long the oldest request of each batch waited.
    pub queued: Spread,
    /// How long runs took.
    pub ran: Spread,
    /// The latest batches, oldest first.
    pub recent: VecDeque<BatchReport>,
}

impl Tally {
    /// Counts a batch.
    pub fn batch(&mut self, report: &BatchReport) {
        let size = report.rows + report.padded_rows;
        self.batches += 1;
        self.failed += u64::from(!report.succeeded);
        self.requests += report.requests as u64;
        self.rows += report.rows as u64;
        self.padded_rows += report.padded_rows as u64;
        *self.closed.entry(report.closed).or_default() += 1;
        let known = self.sizes.len() < SIZES_MAX || self.sizes.contains_key(&size);
        let largest = self.sizes.last_key_value().map_or(size, |(largest, _)| *largest);
        let of_size = self.sizes.entry(if known { size } else { largest }).or_default();
        of_size.batches += 1;
        of_size.requests += report.requests as u64;
        of_size.padded_rows += report.padded_rows as u64;
        self.queued.add(report.queued);
        self.ran.add(report.ran);
        if self.recent.len() == RECENT_MAX {
            self.recent.pop_front();
        }
        self.recent.push_back(report.clone());
    }

    /// Counts a request that was not run.
    pub fn dropped(&mut self, why: Dropped) {
        *self.dropped.entry(why).or_default() += 1;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn quantiles_are_right_to_a_fifth() {
        let mut spread = Spread::default();
        assert_eq!((spread.quantile(0.5), spread.mean()), (Duration::ZERO, Duration::ZERO));
        for micros in 1..=1000 {
            spread.add(Duration::from_micros(micros));
        }
        for (share, exact) in [(0.5, 500.0), (0.9, 900.0), (0.99, 990.0)] {
            let found = spread.quantile(share).as_micros() as f64;
            assert!(found >= exact && found <= exact * 1.25, "{share}: {found}");
        }
        assert_eq!(spread.max(), Duration::from_micros(1000));
        assert_eq!(spread.mean(), Duration::from_nanos(500_500));
        spread.add(Duration::MAX / 2);
        assert_eq!(spread.quantile(1.0), end(BUCKETS - 1));
        for at in 0..BUCKETS - 1 {
            assert_eq!(bucket(end(at)), at, "a bucket's end is in it");
            assert_eq!(bucket(end(at) + Duration::from_micros(1)), at + 1, "and what follows in the next");
        }
    }

    #[test]
    fn batches_are_counted_by_size_and_reason() {
        let mut tally = Tally::default();
        let report = |rows, padded_rows, closed| BatchReport {
            requests: rows,
            rows,
            padded_rows,
            closed,
            queued: Duration::from_micros(10),
            ran: Duration::from_micros(20),
            device: Duration::from_micros(15),
            succeeded: true,
        };
        tally.batch(&report(3, 1, Closed::Delay));
        tally.batch(&report(4, 0, Closed::Full));
        for size in 0..200 {
            tally.batch(&report(100 + size, 0, Closed::SlotFree));
        }
        tally.dropped(Dropped::Expired);
        let four = OfSize { batches: 2, requests: 7, padded_rows: 1 };
        assert_eq!(tally.sizes[&4], four);
        assert_eq!(tally.sizes.len(), SIZES_MAX);
        assert_eq!(tally.sizes.values().map(|s| s.batches).sum::<u64>(), tally.batches);
        assert_eq!((tally.closed[&Closed::Full], tally.closed[&Closed::Delay]), (1, 1));
        assert_eq!((tally.recent.len(), tally.dropped[&Dropped::Expired]), (RECENT_MAX, 1));
    }
}
