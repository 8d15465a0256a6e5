//! How long something usually takes, as far as the latest runs tell.

use std::time::{Duration, Instant};

/// Runs that are remembered: enough that a few outliers do not move the median, few enough to follow a change within seconds.
const KEPT: usize = 15;

/// The median of the latest durations.
#[derive(Clone, Debug, Default)]
pub struct Figure {
    latest: [Duration; KEPT],
    count: usize,
    median: Duration,
    measured: Option<Instant>,
}

impl Figure {
    /// Adds a duration that was measured at `now`.
    pub fn add(&mut self, duration: Duration, now: Instant) {
        self.latest[self.count % KEPT] = duration;
        self.count += 1;
        self.measured = Some(now);
        let mut sorted = self.latest;
        let known = &mut sorted[..self.count.min(KEPT)];
        known.sort_unstable();
        self.median = known[known.len() / 2];
    }

    /// The median; `None` before the first.
    pub fn typical(&self) -> Option<Duration> {
        self.measured.map(|_| self.median)
    }

    /// Whether the latest was measured within `age` before `now`.
    pub fn is_newer_than(&self, age: Duration, now: Instant) -> bool {
        self.measured.is_some_and(|at| now.saturating_duration_since(at) < age)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn outliers_do_not_move_it_and_changes_do() {
        let (mut figure, now) = (Figure::default(), Instant::now());
        let millis = Duration::from_millis;
        assert_eq!((figure.typical(), figure.is_newer_than(Duration::MAX, now)), (None, false));
        for i in 0..40 {
            figure.add(if i % 5 == 4 { millis(900) } else { millis(10) }, now);
        }
        assert_eq!(figure.typical(), Some(millis(10)));
        for _ in 0..8 {
            figure.add(millis(30), now);
        }
        assert_eq!(figure.typical(), Some(millis(30)));
        assert!(!figure.is_newer_than(millis(5), now + millis(5)));
    }
}
