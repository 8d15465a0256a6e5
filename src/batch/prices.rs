//! What batches cost in device time, by what may share a batch and by size.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

use super::figure::Figure;

/// Keys whose figures are kept; beyond it those of the one not run for longest are forgotten.
const KEYS_MAX: usize = 64;
/// Sizes of a key.
const SIZES_MAX: usize = 128;
/// A size that was too slow is tried again after so long: what slowed it may be gone.
const RETRIED_AFTER: Duration = Duration::from_secs(60);

/// Device time of batches. A request that runs alone is a batch of size 0, whatever its rows.
#[derive(Clone, Debug)]
pub(super) struct Prices<K> {
    /// The latest run stands last.
    keys: Vec<(K, BTreeMap<usize, Figure>)>,
}

impl<K> Default for Prices<K> {
    fn default() -> Self {
        Self { keys: Vec::new() }
    }
}

impl<K: PartialEq + Clone> Prices<K> {
    /// Takes note of a run.
    pub(super) fn add(&mut self, key: &K, size: usize, spent: Duration, now: Instant) {
        let mut sizes = match self.keys.iter().position(|(known, _)| known == key) {
            Some(at) => self.keys.remove(at).1,
            None => BTreeMap::new(),
        };
        if sizes.len() >= SIZES_MAX && !sizes.contains_key(&size) {
            sizes.pop_last();
        }
        sizes.entry(size).or_default().add(spent, now);
        if self.keys.len() >= KEYS_MAX {
            self.keys.remove(0);
        }
        self.keys.push((key.clone(), sizes));
    }

    fn sizes(&self, key: &K) -> Option<&BTreeMap<usize, Figure>> {
        self.keys.iter().rev().find(|(known, _)| known == key).map(|(_, sizes)| sizes)
    }

    /// Of all that is known the nearest to what is asked, where `distance` says how far that is; those that are not alike have none.
    pub(super) fn nearest(&self, distance: impl Fn(&K) -> Option<u32>) -> Option<(&K, u32)> {
        let mut nearest = None;
        // What is asked for is mostly what ran last.
        for (key, _) in self.keys.iter().rev() {
            match distance(key) {
                Some(0) => return Some((key, 0)),
                Some(far) if nearest.is_none_or(|(_, least)| far < least) => nearest = Some((key, far)),
                _ => {}
            }
        }
        nearest
    }

    /// What a batch of `size` costs: as measured, else in proportion to the next smaller one that was (which is an upper bound:
    /// larger batches are the cheaper ones by the row), else as the next larger one; zero where nothing is known.
    pub(super) fn of(&self, key: &K, size: usize) -> Duration {
        self.sizes(key).and_then(|sizes| estimate(sizes, size)).unwrap_or_default()
    }

    /// What a batch of `size` costs at the least that the figures allow, for who would be refused if it cost more: as measured, else
    /// between the sizes beside it that were (or nothing for no rows), else as the largest that was. What was not measured
    /// refuses nobody: who is let in has it measured.
    pub(super) fn at_least(&self, key: &K, size: usize) -> Duration {
        self.sizes(key).and_then(|sizes| bound(sizes, size)).unwrap_or_default()
    }

    /// Those of `sizes` (ascending, not empty) that take at most `most`, and the smallest at any rate.
    pub(super) fn fitting(&self, key: &K, sizes: &Arc<[usize]>, most: Duration, now: Instant) -> Arc<[usize]> {
        let Some(known) = self.sizes(key) else { return Arc::clone(sizes) };
        let fits = |size: &usize| {
            let is_recent = known.get(size).is_some_and(|figure| figure.is_newer_than(RETRIED_AFTER, now));
            let cost = if is_recent { estimate(known, *size) } else { scaled(known, *size) };
            cost.is_none_or(|cost| cost <= most)
        };
        let count = sizes.iter().take_while(|size| fits(size)).count().max(1);
        if count == sizes.len() { Arc::clone(sizes) } else { sizes[..count].into() }
    }

    /// The least that anything measured within `age` before `now` cost; zero where there is nothing.
    pub(super) fn least(&self, age: Duration, now: Instant) -> Duration {
        let figures = self.keys.iter().flat_map(|(_, sizes)| sizes.values());
        let recent = figures.filter(|figure| figure.is_newer_than(age, now));
        recent.filter_map(Figure::typical).min().unwrap_or_default()
    }

    /// By size what was measured for the key that ran last.
    pub(super) fn latest(&self) -> BTreeMap<usize, Duration> {
        let sizes = self.keys.last().into_iter().flat_map(|(_, sizes)| sizes);
        sizes.filter_map(|(size, figure)| Some((*size, figure.typical()?))).collect()
    }
}

fn estimate(sizes: &BTreeMap<usize, Figure>, size: usize) -> Option<Duration> {
    let measured = sizes.get(&size).and_then(Figure::typical);
    let larger = || sizes.range(size..).find_map(|(_, figure)| figure.typical());
    measured.or_else(|| scaled(sizes, size)).or_else(larger)
}

fn bound(sizes: &BTreeMap<usize, Figure>, size: usize) -> Option<Duration> {
    let typical = |(size, figure): (&usize, &Figure)| Some((*size, figure.typical()?));
    if size == 0 || sizes.contains_key(&size) {
        return sizes.get(&size).and_then(Figure::typical);
    }
    let smaller = sizes.range(1..size).next_back().and_then(typical);
    let Some((above, cost)) = sizes.range(size..).next().and_then(typical) else {
        return smaller.map(|(_, cost)| cost);
    };
    // Each further row costs no more than those before it, so that the straight line lies below.
    let (below, base) = smaller.unwrap_or_default();
    let part = (size - below) as f64 / (above - below) as f64;
    Some(base + cost.saturating_sub(base).mul_f64(part))
}

/// In proportion to the next smaller size.
fn scaled(sizes: &BTreeMap<usize, Figure>, size: usize) -> Option<Duration> {
    let (rows, figure) = sizes.range(1..size.max(1)).next_back()?;
    Some(figure.typical()?.mul_f64(size as f64 / *rows as f64))
}

#[cfg(test)]
mod tests {
    use super::*;

    const fn millis(millis: u64) -> Duration {
        Duration::from_millis(millis)
    }

    #[test]
    fn what_was_not_measured_is_told_by_its_neighbours() {
        let (mut prices, now) = (Prices::default(), Instant::now());
        assert_eq!(prices.of(&'a', 4), Duration::ZERO);
        prices.add(&'a', 2, millis(10), now);
        prices.add(&'a', 8, millis(25), now);
        prices.add(&'b', 0, millis(3), now);
        assert_eq!([1, 2, 4, 8, 16].map(|size| prices.of(&'a', size)), [10, 10, 20, 25, 50].map(millis));
        assert_eq!(prices.of(&'b', 0), millis(3));
        assert_eq!(prices.least(millis(1), now), millis(3));
        assert_eq!(prices.least(millis(1), now + millis(2)), Duration::ZERO);
        assert_eq!(prices.latest(), [(0, millis(3))].into());
    }

    #[test]
    fn nobody_is_refused_for_what_was_not_measured() {
        let (mut prices, now) = (Prices::default(), Instant::now());
        assert_eq!(prices.at_least(&'a', 4), Duration::ZERO);
        prices.add(&'a', 4, millis(16), now);
        assert_eq!([1, 2, 4, 8, 1 << 20].map(|size| prices.at_least(&'a', size)), [4, 8, 16, 16, 16].map(millis));
        prices.add(&'a', 8, millis(20), now);
        assert_eq!([1, 4, 6, 8, 64].map(|size| prices.at_least(&'a', size)), [4, 16, 18, 20, 20].map(millis));
        // What runs alone says nothing of rows.
        prices.add(&'b', 0, millis(3), now);
        assert_eq!([0, 1, 8].map(|size| prices.at_least(&'b', size)), [3, 0, 0].map(millis));
        assert_eq!(prices.at_least(&'a', 0), Duration::ZERO);
        // Noise makes larger sizes the cheaper ones: the dearer of both is at least what the smaller costs.
        prices.add(&'c', 2, millis(9), now);
        prices.add(&'c', 8, millis(7), now);
        assert_eq!([2, 4, 8].map(|size| prices.at_least(&'c', size)), [9, 9, 7].map(millis));
    }

    #[test]
    fn sizes_end_where_they_take_too_long_but_one_is_left() {
        let (mut prices, now) = (Prices::default(), Instant::now());
        let sizes: Arc<[usize]> = [1, 2, 4, 8].into();
        let fitting = |prices: &Prices<char>, most, now| prices.fitting(&'a', &sizes, most, now).to_vec();
        assert_eq!(fitting(&prices, millis(1), now), [1, 2, 4, 8], "nothing is known yet");
        prices.add(&'a', 1, millis(40), now);
        assert_eq!(fitting(&prices, millis(100), now), [1, 2], "four rows may take 160 ms");
        prices.add(&'a', 2, millis(50), now);
        assert_eq!(fitting(&prices, millis(100), now), [1, 2, 4]);
        prices.add(&'a', 4, millis(120), now);
        assert_eq!(fitting(&prices, millis(100), now), [1, 2]);
        assert_eq!(fitting(&prices, millis(100), now + RETRIED_AFTER), [1, 2, 4], "it is given another chance");
        assert_eq!(fitting(&prices, millis(10), now), [1]);
    }

    #[test]
    fn what_ran_long_ago_is_forgotten() {
        let (mut prices, now) = (Prices::default(), Instant::now());
        for key in 0..=KEYS_MAX {
            prices.add(&key, 1, millis(1), now);
        }
        assert_eq!((prices.keys.len(), prices.of(&0, 1), prices.of(&1, 1)), (KEYS_MAX, Duration::ZERO, millis(1)));
        for size in 1..=2 * SIZES_MAX {
            prices.add(&1, size, millis(1), now);
        }
        assert_eq!(prices.latest().len(), SIZES_MAX);
    }
}
