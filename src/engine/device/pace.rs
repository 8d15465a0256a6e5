//! Where a segment's commands are cut into parts, each a submission of its own: other work goes on between them, and no part is so
//! long that a system takes its device for hung (Windows: two seconds).

use std::ops::Range;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

/// What a part is to take.
const PART: Duration = Duration::from_millis(50);
/// A part of several dispatches that took longer is cut again.
const PART_MAX: Duration = Duration::from_millis(100);
/// Operations a second of a slow device, for programs that have not run yet.
const FLOPS_PER_S: f64 = 100e9;

/// Where the parts of a run end, as numbers of dispatches; the last is that of all.
pub(super) type Cuts = Arc<[usize]>;

/// How long the dispatches of a segment take, as far as its runs tell.
#[derive(Debug)]
pub(super) struct Pace(Mutex<State>);

#[derive(Debug)]
struct State {
    /// Of each dispatch, in seconds.
    costs: Vec<f64>,
    cuts: Cuts,
}

impl Pace {
    /// For `dispatches` dispatches of a program of `flops` floating-point operations.
    pub(super) fn new(dispatches: usize, flops: f64) -> Self {
        let costs = vec![flops / FLOPS_PER_S / dispatches.max(1) as f64; dispatches];
        let cuts = cut(&costs);
        Self(Mutex::new(State { costs, cuts }))
    }

    /// The parts of the next run.
    pub(super) fn cuts(&self) -> Cuts {
        Arc::clone(&self.state().cuts)
    }

    /// Takes note of a run cut at `cuts`, whose parts took `times`.
    pub(super) fn learn(&self, cuts: &Cuts, times: &[Duration]) {
        let mut state = self.state();
        let needed = times.iter().sum::<Duration>().div_duration_f64(PART).ceil();
        let too_long = parts(cuts).zip(times).any(|(part, time)| part.len() > 1 && *time > PART_MAX);
        let too_many = cuts.len() > 1 && cuts.len() as f64 > 2.0 * needed;
        if !(too_long || too_many) || times.len() != cuts.len() || !Arc::ptr_eq(cuts, &state.cuts) {
            return;
        }
        for (part, time) in parts(cuts).zip(times) {
            let costs = &mut state.costs[part];
            let known: f64 = costs.iter().sum();
            let even = time.as_secs_f64() / costs.len().max(1) as f64;
            for cost in costs {
                *cost = if known > 0.0 { *cost * time.as_secs_f64() / known } else { even };
            }
        }
        state.cuts = cut(&state.costs);
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The dispatches of each part.
pub(super) fn parts(cuts: &[usize]) -> impl Iterator<Item = Range<usize>> {
    let starts = std::iter::once(0).chain(cuts.iter().copied());
    starts.zip(cuts).map(|(start, end)| start..*end)
}

/// Parts of [`PART`] at most, where a dispatch does not take longer.
fn cut(costs: &[f64]) -> Cuts {
    let (mut cuts, mut sum) = (Vec::new(), 0.0);
    for (index, cost) in costs.iter().enumerate() {
        if index > 0 && sum + cost > PART.as_secs_f64() {
            cuts.push(index);
            sum = 0.0;
        }
        sum += cost;
    }
    cuts.push(costs.len());
    cuts.into()
}

#[cfg(test)]
mod tests {
    use super::*;

    const fn millis(millis: u64) -> Duration {
        Duration::from_millis(millis)
    }

    #[test]
    fn parts_become_as_long_as_they_are_to_be() {
        // Dispatches that take longer and longer: 1 ms to 40 ms, 820 ms together.
        let truth: Vec<u64> = (1..=40).collect();
        let pace = Pace::new(truth.len(), 0.0);
        assert_eq!(*pace.cuts(), [40], "nothing is known");
        let run = |pace: &Pace| {
            let cuts = pace.cuts();
            let times: Vec<_> = parts(&cuts).map(|part| millis(truth[part].iter().sum())).collect();
            pace.learn(&cuts, &times);
            times
        };
        (0..8).for_each(|_| drop(run(&pace)));
        let times = run(&pace);
        assert_eq!(times.iter().sum::<Duration>(), millis(820));
        assert!(times.iter().all(|time| *time <= PART_MAX), "{times:?}");
        assert!(times.len() <= 32, "{times:?}");
        let settled = pace.cuts();
        run(&pace);
        assert!(Arc::ptr_eq(&settled, &pace.cuts()), "what is right stays");
    }

    #[test]
    fn what_runs_fast_is_not_cut() {
        // Taken for two seconds' work, which takes 8 ms.
        let pace = Pace::new(50, 200e9);
        let cuts = pace.cuts();
        assert_eq!((cuts.len(), cuts.last()), (50, Some(&50)));
        pace.learn(&cuts, &[Duration::from_micros(160); 50]);
        assert_eq!(*pace.cuts(), [50]);
        pace.learn(&cuts, &[millis(200); 50]);
        assert_eq!(*pace.cuts(), [50], "a run that was cut otherwise says nothing");
        assert_eq!(*Pace::new(0, 0.0).cuts(), [0], "copies alone are one part");
        let one = Pace::new(1, 0.0);
        one.learn(&one.cuts(), &[millis(900)]);
        assert_eq!(*one.cuts(), [1], "a dispatch cannot be cut");
    }
}
