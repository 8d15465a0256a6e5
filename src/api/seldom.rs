//! Log lines of one kind at most once a second, so that a storm of errors is no storm of lines.

use std::collections::BTreeMap;
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

/// Between two lines of one kind.
const EVERY: Duration = Duration::from_secs(1);

/// What was written of each kind, and what was not. Kinds must be few: all are kept.
#[derive(Debug)]
pub struct Seldom<K>(Mutex<BTreeMap<K, (Instant, u64)>>);

impl<K: Ord> Seldom<K> {
    /// Of no kind yet.
    pub const fn new() -> Self {
        Self(Mutex::new(BTreeMap::new()))
    }

    /// Whether a line of this kind may be written now: then how many were not since the last.
    pub fn pass(&self, kind: K) -> Option<u64> {
        self.pass_at(kind, Instant::now())
    }

    fn pass_at(&self, kind: K, now: Instant) -> Option<u64> {
        let mut kinds = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        match kinds.get_mut(&kind) {
            Some((last, left_out)) if now.saturating_duration_since(*last) < EVERY => {
                *left_out += 1;
                None
            }
            Some((last, left_out)) => {
                *last = now;
                Some(std::mem::take(left_out))
            }
            None => {
                kinds.insert(kind, (now, 0));
                Some(0)
            }
        }
    }
}

impl<K: Ord> Default for Seldom<K> {
    fn default() -> Self {
        Self::new()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_line_a_kind_a_second_and_the_others_are_counted() {
        let (seldom, start) = (Seldom::new(), Instant::now());
        let at = |ms: u64| start + Duration::from_millis(ms);
        assert_eq!(seldom.pass_at("a", at(0)), Some(0));
        assert_eq!(seldom.pass_at("b", at(1)), Some(0), "another kind");
        for ms in [2, 500, 999] {
            assert_eq!(seldom.pass_at("a", at(ms)), None);
        }
        assert_eq!(seldom.pass_at("a", at(1000)), Some(3));
        assert_eq!(seldom.pass_at("a", at(2000)), Some(0));
    }
}
