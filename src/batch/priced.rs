//! What batches of one model cost, where rows may be of different lengths.

use std::sync::Arc;
use std::time::{Duration, Instant};

use super::job::Key;
use super::prices::Prices;

/// Doublings beyond which no cost is told by that of another class.
const DISTANCE_MAX: u32 = 24;

/// What batches have in common that cost about the same: their requests' key and, where rows differ, how often the elements of the
/// widest row can be halved. So rows of a class differ by a factor of two at most.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Priced {
    key: Key,
    class: u32,
}

impl Priced {
    /// For a batch whose rows have so many elements; 0 where they are alike.
    pub(super) fn new(key: &Key, elements: u64) -> Self {
        Self { key: key.clone(), class: elements.max(1).ilog2() }
    }

    /// What their requests have in common.
    pub(super) fn key(&self) -> &Key {
        &self.key
    }

    /// Doublings from `other`, of a smaller class, to this.
    fn above(&self, other: &Self) -> Option<u32> {
        let distance = self.class.checked_sub(other.class).filter(|distance| *distance <= DISTANCE_MAX)?;
        (self.key == other.key).then_some(distance)
    }
}

impl Prices<Priced> {
    /// What a batch of `size` costs. Where nothing of its class is known, the next smaller one tells, in proportion.
    pub(super) fn cost(&self, priced: &Priced, size: usize) -> Duration {
        match self.nearest(|known| priced.above(known)) {
            Some((known, distance)) => self.of(known, size).saturating_mul(1 << distance),
            None => Duration::ZERO,
        }
    }

    /// As [`Prices::at_least`]. Where nothing of its class is known, longer rows cost no less than those of the next smaller one.
    pub(super) fn cost_at_least(&self, priced: &Priced, size: usize) -> Duration {
        self.nearest(|known| priced.above(known)).map_or(Duration::ZERO, |(known, _)| self.at_least(known, size))
    }

    /// As [`Prices::fitting`], with costs as [`Prices::cost`] tells them.
    pub(super) fn fitting_sizes(
        &self,
        priced: &Priced,
        sizes: &Arc<[usize]>,
        most: Duration,
        now: Instant,
    ) -> Arc<[usize]> {
        match self.nearest(|known| priced.above(known)) {
            Some((known, distance)) => self.fitting(known, sizes, most / (1 << distance), now),
            None => Arc::clone(sizes),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::batch::job::Request;
    use crate::batch::policy::Priority;
    use crate::batch::row::Row;
    use crate::batch::terms::Join;
    use crate::tensor::Tensor;

    /// The key of requests that are padded to each other, with `inputs` inputs.
    fn key(inputs: usize) -> Key {
        let tensor = Tensor::from_vec([1, 1], vec![0.0f32]).expect("one");
        let inputs = vec![tensor; inputs];
        let row = Row::exact(&inputs);
        let (join, guard) = (Join::Rows([1].into()), Box::new(()));
        Key::of(&Request { inputs, join, deadline: None, priority: Priority::Normal, guard }, row.as_ref())
    }

    #[test]
    fn longer_rows_are_told_by_shorter_ones() {
        let (mut prices, now) = (Prices::default(), Instant::now());
        let millis = Duration::from_millis;
        let of = |elements| Priced::new(&key(1), elements);
        assert_eq!(prices.cost(&of(64), 1), Duration::ZERO);
        prices.add(&of(60), 2, millis(10), now);
        prices.add(&Priced::new(&key(2), 1024), 2, millis(1), now);
        for (elements, expected) in [(32, 10), (63, 10), (64, 20), (500, 80), (31, 0)] {
            assert_eq!(prices.cost(&of(elements), 2), millis(expected), "{elements}");
        }
        prices.add(&of(500), 2, millis(25), now);
        assert_eq!((prices.cost(&of(500), 2), prices.cost(&of(1000), 4)), (millis(25), millis(100)));
        let sizes: Arc<[usize]> = [1, 2, 4, 8].into();
        let fitting = |elements| prices.fitting_sizes(&of(elements), &sizes, millis(60), now).to_vec();
        assert_eq!((fitting(60), fitting(500), fitting(1000)), (vec![1, 2, 4, 8], vec![1, 2, 4], vec![1, 2]));
        assert_eq!(fitting(31), [1, 2, 4, 8], "nothing is known of shorter ones");
        assert_eq!(prices.cost(&of(u64::MAX), 2), Duration::ZERO, "it is too far away");
    }
}
