//! What a lane is expected to be busy with: the device time of the runs on their way to it.

use std::sync::Arc;
use std::time::{Duration, Instant};

use super::lane::Shared;

/// The runs on their way to one lane.
#[derive(Debug, Default)]
pub(super) struct Promises {
    total: Duration,
    /// When the lane last ended something, or got something to do.
    pub(super) working_since: Option<Instant>,
}

impl Promises {
    pub(super) fn add(&mut self, expected: Duration) {
        if self.total.is_zero() {
            self.working_since = Some(Instant::now());
        }
        self.total += expected;
    }

    /// What is left of them: the lane has worked on one since it ended the last.
    pub(super) fn left(&self) -> Duration {
        self.total.saturating_sub(self.working_since.map_or(Duration::ZERO, |since| since.elapsed()))
    }
}

/// A run on its way to a lane; it is done, or given up, when dropped.
pub struct Promise {
    pub(super) shared: Arc<Shared>,
    pub(super) expected: Duration,
}

impl Drop for Promise {
    fn drop(&mut self) {
        let mut promises = self.shared.promises();
        promises.total = promises.total.saturating_sub(self.expected);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_promised_shrinks_while_the_lane_works_on_it() {
        let (mut promises, hour) = (Promises::default(), Duration::from_secs(3600));
        assert_eq!(promises.left(), Duration::ZERO);
        promises.add(hour);
        let first = promises.left();
        assert!(first <= hour && first > hour / 2);
        promises.add(hour);
        assert!(promises.left() > hour, "the second waits");
        promises.working_since = Some(Instant::now() - Duration::from_secs(3));
        assert!(promises.left() <= 2 * hour - Duration::from_secs(3));
    }
}
