//! Batch sizes: which are made by default, and what the time of one says of larger ones.

use std::time::Duration;

use crate::error::Result;

/// A default batch may keep a lane for this long.
const TIME_MAX: Duration = Duration::from_millis(250);
/// The largest default batch.
const DEFAULT_MAX: usize = 64;

/// The sizes `asked` for, or powers of two.
pub(super) fn sizes(asked: &[usize]) -> Vec<usize> {
    match asked {
        [] => (0..).map(|power| 1 << power).take_while(|rows| *rows <= DEFAULT_MAX).collect(),
        asked => asked.to_vec(),
    }
}

/// A batch that was run.
#[derive(Clone, Copy, Debug)]
pub(super) struct Measured {
    /// Its rows.
    pub(super) rows: usize,
    /// How long it took.
    pub(super) time: Duration,
}

impl Measured {
    /// Measures by `run`.
    pub(super) fn of(rows: usize, run: impl Fn() -> Result<Duration>) -> Result<Self> {
        let mut time = run()?;
        if time > TIME_MAX && time < 2 * TIME_MAX {
            // The first run touches memory that later ones find mapped.
            time = time.min(run()?);
        }
        Ok(Self { rows, time })
    }

    /// The time of one of its rows.
    pub(super) fn of_a_row(self) -> Duration {
        self.time.div_f64(self.rows.max(1) as f64)
    }

    /// Whether it keeps a lane too long, and so do batches of more rows.
    pub(super) fn is_slow(&self) -> bool {
        self.time > TIME_MAX
    }

    /// Whether as many `rows` are quick enough for sure: more rows take at most as many times longer.
    pub(super) fn promises(&self, rows: usize) -> bool {
        self.time.mul_f64(rows as f64 / self.rows.max(1) as f64) <= TIME_MAX
    }
}

#[cfg(test)]
mod tests {
    use std::cell::Cell;

    use super::*;

    fn measured(rows: usize, millis: u64) -> Measured {
        Measured { rows, time: Duration::from_millis(millis) }
    }

    #[test]
    fn one_batch_tells_of_larger_ones() {
        assert!(measured(1, 10).promises(16) && !measured(1, 10).promises(32));
        assert!(measured(8, 200).promises(8) && !measured(8, 200).promises(16));
        assert!(measured(1, 300).is_slow() && !measured(1, 200).is_slow());
    }

    #[test]
    fn slow_first_runs_get_a_second_chance() {
        for (first, second, runs, time) in [(300, 200, 2, 200), (100, 50, 1, 100), (600, 100, 1, 600)] {
            let done = Cell::new(0);
            let run = || {
                done.set(done.get() + 1);
                Ok(Duration::from_millis(if done.get() == 1 { first } else { second }))
            };
            let found = Measured::of(1, run).expect("it runs");
            assert_eq!((done.get(), found.time), (runs, Duration::from_millis(time)));
        }
    }

    #[test]
    fn default_sizes_are_powers_of_two() {
        assert_eq!(sizes(&[]), [1, 2, 4, 8, 16, 32, 64]);
        assert_eq!(sizes(&[3, 5]), [3, 5]);
    }
}
