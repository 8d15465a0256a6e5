//! Where the time of loading a model goes.

use std::fmt;
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

/// Time by part of the load, in the order in which the parts first came.
#[derive(Debug, Default)]
pub struct LoadTimes(Mutex<Vec<(&'static str, Duration)>>);

impl LoadTimes {
    /// Does `work` and counts its time under `part`.
    pub fn time<T>(&self, part: &'static str, work: impl FnOnce() -> T) -> T {
        let start = Instant::now();
        let done = work();
        self.add(part, start.elapsed());
        done
    }

    /// Counts `time` under `part`.
    pub(super) fn add(&self, part: &'static str, time: Duration) {
        let mut parts = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        match parts.iter_mut().find(|(name, _)| *name == part) {
            Some((_, total)) => *total += time,
            None => parts.push((part, time)),
        }
    }

    /// The parts and their times.
    pub fn parts(&self) -> Vec<(&'static str, Duration)> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }
}

impl fmt::Display for LoadTimes {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (i, (part, time)) in self.parts().iter().enumerate() {
            let comma = if i == 0 { "" } else { ", " };
            write!(f, "{comma}{part} {} ms", time.as_millis())?;
        }
        Ok(())
    }
}
