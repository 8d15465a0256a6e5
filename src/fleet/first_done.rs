//! Which engine is done first with a run, as plain data.

use std::time::Duration;

use super::costs::Cost;
use crate::engine::Ahead;

/// What compiling a kernel holds up a lane for, more or less.
const WARMING: Duration = Duration::from_millis(50);

/// What one engine has to offer to a run.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Offer {
    /// What the run would wait for.
    pub(super) ahead: Ahead,
    /// What it costs there.
    pub(super) cost: Cost,
}

impl Offer {
    fn wait(&self) -> Duration {
        self.ahead.promised + if self.ahead.warming { WARMING } else { Duration::ZERO }
    }

    fn is_idle(&self) -> bool {
        self.wait().is_zero() && self.ahead.jobs == 0
    }

    /// When the run would be done, as far as is known.
    fn expected(&self) -> Duration {
        self.wait() + self.cost.expected
    }
}

/// The position of the engine that is done first with a run. Those that make no offer are out. Where the first one is busy, another
/// gets the run if it may be done sooner than its doubtful figures say: so it is measured again, at nobody's cost while the first
/// is idle. `left` is the time until nobody waits any more: beyond it there is no hoping.
pub(super) fn first_done(offers: &[Option<Offer>], left: Option<Duration>) -> Option<usize> {
    let offers = || offers.iter().enumerate().filter_map(|(engine, offer)| Some((engine, offer.as_ref()?)));
    let (first, best) = offers().min_by_key(|(_, offer)| (offer.expected(), offer.ahead.jobs))?;
    if best.is_idle() {
        return Some(first);
    }
    let may_hope = |offer: &Offer| left.is_none_or(|left| offer.expected() <= left);
    let hoped = |(engine, offer): &(usize, &Offer)| {
        let cost = if may_hope(offer) { offer.cost.hoped } else { offer.cost.expected };
        (offer.wait() + cost, offer.ahead.jobs, *engine != first)
    };
    offers().min_by_key(hoped).map(|(engine, _)| engine)
}

#[cfg(test)]
mod tests {
    use super::*;

    const fn millis(millis: u64) -> Duration {
        Duration::from_millis(millis)
    }

    /// An engine with so many milliseconds of work on its way, on which the run takes so many, freshly measured.
    fn offer(promised: u64, cost: u64) -> Option<Offer> {
        let ahead = Ahead { promised: millis(promised), jobs: usize::from(promised > 0), warming: false };
        Some(Offer { ahead, cost: Cost { expected: millis(cost), hoped: millis(cost) } })
    }

    /// As above, measured long ago.
    fn doubtful(promised: u64, cost: u64, hoped: u64) -> Option<Offer> {
        let mut offer = offer(promised, cost)?;
        offer.cost.hoped = millis(hoped);
        Some(offer)
    }

    #[test]
    fn runs_go_where_they_are_done_first_and_not_where_least_waits() {
        for (offers, chosen) in [
            ([offer(0, 1), offer(0, 100)], Some(0)),
            ([offer(50, 1), offer(0, 100)], Some(0)),
            ([offer(120, 1), offer(0, 100)], Some(1)),
            ([offer(98, 1), offer(0, 100)], Some(0)),
            ([None, offer(900, 100)], Some(1)),
            ([None, None], None),
        ] {
            assert_eq!(first_done(&offers, None), chosen, "{offers:?}");
        }
    }

    #[test]
    fn where_nothing_was_measured_the_number_of_jobs_decides() {
        let with_jobs = |jobs| Some(Offer { ahead: Ahead { jobs, ..Ahead::default() }, ..Offer::default() });
        assert_eq!(first_done(&[with_jobs(2), with_jobs(1), with_jobs(1)], None), Some(1));
        assert_eq!(first_done(&[with_jobs(0), with_jobs(0)], None), Some(0));
    }

    #[test]
    fn what_compiles_counts_as_busy_for_a_while() {
        let mut warming = offer(0, 10);
        warming.as_mut().expect("one").ahead.warming = true;
        assert_eq!(first_done(&[warming, offer(0, 20)], None), Some(1));
        assert_eq!(first_done(&[warming, offer(0, 90)], None), Some(0), "it is not as bad as that");
    }

    #[test]
    fn doubtful_figures_are_tried_where_the_first_is_busy_and_there_is_time() {
        assert_eq!(first_done(&[offer(0, 10), doubtful(0, 80, 5)], None), Some(0), "nobody waits");
        assert_eq!(first_done(&[offer(10, 10), doubtful(0, 80, 5)], None), Some(1));
        assert_eq!(first_done(&[offer(10, 10), doubtful(0, 80, 5)], Some(millis(79))), Some(0));
        assert_eq!(first_done(&[offer(10, 10), doubtful(0, 800, 50)], None), Some(0), "no hope");
        // What is late at any rate still goes where it is done first.
        assert_eq!(first_done(&[offer(10, 10), offer(0, 80)], Some(millis(1))), Some(0));
    }

    /// Batches that come as fast as they are taken, a few in flight: each engine gets a share by its speed.
    #[test]
    fn each_gets_its_share_of_a_steady_load() {
        for (costs, shares) in [([10, 10], [0.5, 0.5]), ([10, 20], [0.67, 0.33]), ([1, 100], [1.0, 0.0])] {
            let (mut free_at, mut counts) = ([0u64; 2], [0u32; 2]);
            let mut under_way: Vec<u64> = Vec::new();
            let mut now = 0;
            for _ in 0..3000 {
                if under_way.len() == 4 {
                    under_way.sort_unstable();
                    now = under_way.remove(0);
                }
                let offers = [0, 1].map(|engine: usize| offer(free_at[engine].saturating_sub(now), costs[engine]));
                let chosen = first_done(&offers, None).expect("two offers");
                free_at[chosen] = free_at[chosen].max(now) + costs[chosen];
                under_way.push(free_at[chosen]);
                counts[chosen] += 1;
            }
            let share = f64::from(counts[0]) / 3000.0;
            assert!((share - shares[0]).abs() < 0.02, "{costs:?}: {counts:?}, expected {shares:?}");
        }
    }
}
