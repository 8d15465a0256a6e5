//! What runs of one model cost on each engine, in device time.

use std::collections::HashMap;
use std::time::{Duration, Instant};

use crate::batch::Figure;
use crate::tensor::Shape;

/// Sets of input shapes that are remembered; beyond it all are measured again.
const KNOWN_MAX: usize = 256;
/// After so long a figure counts half when engines are compared, after twice that a quarter, and so on: who was measured at a
/// bad moment gets another chance, ever more rarely the slower it was.
const HALVED_AFTER: Duration = Duration::from_secs(10);
/// How often at most. What is still too slow then is not tried any more.
const HALVINGS_MAX: u32 = 4;
/// An engine that could not be made ready for some shapes is not asked again sooner.
const ASKED_AGAIN_AFTER: Duration = Duration::from_secs(60);

/// What a run costs on one engine.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Cost {
    /// Device time that it is expected to take; zero where nothing is known.
    pub(super) expected: Duration,
    /// What it may take if that is not to be trusted, because it was measured long ago or never.
    pub(super) hoped: Duration,
}

/// What is known of runs with inputs of some shapes, by engine.
#[derive(Clone, Debug)]
struct Known {
    figures: Vec<Figure>,
    /// When the engine was asked to get ready for them.
    asked: Vec<Option<Instant>>,
}

/// The costs of one model's runs. Engines are told apart by position.
#[derive(Debug)]
pub(super) struct Costs {
    /// Times of a row as the load of each tells them.
    row_times: Vec<Option<Duration>>,
    known: HashMap<Vec<Shape>, Known>,
}

impl Costs {
    /// Nothing was run yet but what the loads ran, one an engine.
    pub(super) fn new(row_times: Vec<Option<Duration>>) -> Self {
        Self { row_times, known: HashMap::new() }
    }

    /// Takes note of a run.
    pub(super) fn add(&mut self, shapes: &[Shape], engine: usize, spent: Duration, now: Instant) {
        self.known(shapes).figures[engine].add(spent, now);
    }

    /// Whether the engine should be asked to get ready for these shapes; it counts as asked then.
    pub(super) fn ask(&mut self, shapes: &[Shape], engine: usize, now: Instant) -> bool {
        let asked = &mut self.known(shapes).asked[engine];
        let is_due = asked.is_none_or(|at| now.saturating_duration_since(at) >= ASKED_AGAIN_AFTER);
        if is_due {
            *asked = Some(now);
        }
        is_due
    }

    fn known(&mut self, shapes: &[Shape]) -> &mut Known {
        if self.known.len() >= KNOWN_MAX && !self.known.contains_key(shapes) {
            self.known.clear();
        }
        let engines = self.row_times.len();
        let unknown = || Known { figures: vec![Figure::default(); engines], asked: vec![None; engines] };
        self.known.entry(shapes.to_vec()).or_insert_with(unknown)
    }

    /// What a run of these shapes costs on the engine: as measured there, else as on another by how the two compare elsewhere,
    /// else in proportion to what the load ran.
    pub(super) fn of(&self, shapes: &[Shape], engine: usize, now: Instant) -> Cost {
        let figures = self.known.get(shapes).map(|known| &known.figures);
        if let Some(figure) = figures.map(|figures| &figures[engine])
            && let Some(expected) = figure.typical()
        {
            let is_old = |halvings: &u32| !figure.is_newer_than(HALVED_AFTER * (halvings + 1), now);
            let halvings = (0..HALVINGS_MAX).take_while(is_old).count();
            return Cost { expected, hoped: expected / (1 << halvings) };
        }
        let told_by = |other: usize| Some(figures?[other].typical()?.mul_f64(self.ratio(engine, other)));
        let told = (0..self.row_times.len()).find_map(told_by);
        let expected = told.unwrap_or_else(|| {
            let rows = shapes.first().and_then(|shape| shape.first().copied()).unwrap_or(1);
            self.row_times[engine].map_or(Duration::ZERO, |time| time.mul_f64(rows as f64))
        });
        Cost { expected, hoped: expected / (1 << HALVINGS_MAX) }
    }

    /// How many times longer runs take on `engine` than on `other`; 1 where nobody knows.
    fn ratio(&self, engine: usize, other: usize) -> f64 {
        let both = |known: &Known| Some([known.figures[engine].typical()?, known.figures[other].typical()?]);
        let sums = self.known.values().filter_map(both).fold([Duration::ZERO; 2], |[a, b], [c, d]| [a + c, b + d]);
        let at_load = || Some([self.row_times[engine]?, self.row_times[other]?]);
        let known = Some(sums).filter(|[_, other]| !other.is_zero()).or_else(at_load);
        known.filter(|[_, other]| !other.is_zero()).map_or(1.0, |[own, other]| own.div_duration_f64(other))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const fn millis(millis: u64) -> Duration {
        Duration::from_millis(millis)
    }

    fn rows(rows: usize) -> [Shape; 1] {
        [Shape::new([rows, 3])]
    }

    #[test]
    fn what_was_not_measured_is_told_by_the_load_and_by_other_engines() {
        let now = Instant::now();
        let mut costs = Costs::new(vec![Some(millis(2)), Some(millis(20)), None]);
        let expected = |costs: &Costs, count| [0, 1, 2].map(|engine| costs.of(&rows(count), engine, now).expected);
        assert_eq!(expected(&costs, 8), [16, 160, 0].map(millis), "as the load's runs, in proportion");
        costs.add(&rows(8), 0, millis(4), now);
        assert_eq!(expected(&costs, 8), [4, 40, 4].map(millis), "ten times slower, and nothing known of the third");
        costs.add(&rows(8), 1, millis(12), now);
        costs.add(&rows(1), 0, millis(1), now);
        assert_eq!(expected(&costs, 1), [1, 3, 1].map(millis), "what both have run says more than the loads");
        assert_eq!(expected(&costs, 8)[..2], [4, 12].map(millis));
    }

    #[test]
    fn what_was_measured_long_ago_is_doubted_but_not_without_bound() {
        let start = Instant::now();
        let mut costs = Costs::new(vec![None; 2]);
        costs.add(&rows(1), 0, millis(160), start);
        let at = |seconds| costs.of(&rows(1), 0, start + Duration::from_secs(seconds));
        assert_eq!([0, 9, 10, 20, 40, 4000].map(|seconds| at(seconds).hoped), [160, 160, 80, 40, 10, 10].map(millis));
        assert_eq!(at(4000).expected, millis(160));
        assert_eq!(costs.of(&rows(1), 1, start), Cost { expected: millis(160), hoped: millis(10) }, "never measured");
    }

    #[test]
    fn an_engine_is_asked_once_a_minute_and_memory_is_bounded() {
        let start = Instant::now();
        let mut costs = Costs::new(vec![None; 2]);
        let mut ask = |engine, seconds| costs.ask(&rows(1), engine, start + Duration::from_secs(seconds));
        assert_eq!([ask(0, 0), ask(0, 59), ask(1, 59), ask(0, 60), ask(0, 61)], [true, false, true, true, false]);
        for count in 0..2 * KNOWN_MAX {
            costs.add(&rows(count), 0, millis(1), start);
        }
        assert!(costs.known.len() <= KNOWN_MAX);
    }
}
