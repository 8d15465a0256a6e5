//! Batch sizes: which are made available, and which of them are run beforehand.

use std::time::Duration;

use super::{Plans, Task};
use crate::engine::ir::Given;
use crate::engine::plan::with_rows;
use crate::error::Result;

/// A default batch may keep a lane for this long.
const BATCH_TIME_MAX: Duration = Duration::from_millis(250);
/// The largest default batch.
const DEFAULT_BATCH_MAX: usize = 64;

impl Plans {
    /// Makes `sizes` of these shapes available in turn: the first two at once, the others in the background, or all at once
    /// where kernels are measured, which requests would disturb. Without `asked`, stops at the first that takes longer than
    /// [`BATCH_TIME_MAX`].
    pub(in crate::engine) fn warm_batches(&self, shapes: &[Given], asked: &[usize]) -> Result<()> {
        let default: Vec<usize> = (0..).map(|p| 1 << p).take_while(|n| *n <= DEFAULT_BATCH_MAX).collect();
        let sizes = if asked.is_empty() { default } else { asked.to_vec() };
        for (position, rows) in sizes.iter().enumerate() {
            let key = with_rows(shapes, *rows);
            let rest = sizes[position + 1..].to_vec();
            if position < 2 || self.tuning.measures() {
                if !self.warm_batch(&key, *rows, !asked.is_empty() || position == 0)? {
                    return Ok(());
                }
            } else {
                let asked = !asked.is_empty();
                self.state().background.push_back(Task::Batch { key, rows: *rows, rest, asked });
                self.wake.notify_one();
                return Ok(());
            }
        }
        Ok(())
    }

    /// Whether the batch size is there now: too slow or too large a default one is left out. Only the smallest is run, and
    /// those of which it cannot be told from what was run before whether they are quick enough.
    pub(super) fn warm_batch(&self, key: &[Given], rows: usize, must: bool) -> Result<bool> {
        let too_slow = |time: Duration| {
            tracing::info!(model = self.limits.name, rows, ?time, "larger batches would take too long");
            Ok(false)
        };
        let measured = self.state().measured;
        // More rows never take less time.
        if let Some((_, time)) = measured.filter(|(_, time)| !must && *time > BATCH_TIME_MAX) {
            return too_slow(time);
        }
        let plan = match self.tune(key).and_then(|()| self.build(key, true)) {
            Ok(plan) => plan,
            Err(error) if must => return Err(error),
            Err(error) => {
                tracing::info!(model = self.limits.name, rows, %error, "larger batches do not fit");
                return Ok(false);
            }
        };
        // Nor do they take more than their share more.
        let bound = measured.map(|(fewer, time)| time.mul_f64(rows as f64 / fewer as f64));
        if bound.is_none_or(|bound| !must && bound > BATCH_TIME_MAX) {
            let mut time = self.run_once(&plan)?;
            if time > BATCH_TIME_MAX && time < 2 * BATCH_TIME_MAX {
                // The first run touches memory that later ones find mapped.
                time = time.min(self.run_once(&plan)?);
            }
            self.state().measured = Some((rows, time));
            if !must && time > BATCH_TIME_MAX {
                return too_slow(time);
            }
        }
        self.publish(key, &plan);
        self.state().batch_sizes.push(rows);
        Ok(true)
    }
}
