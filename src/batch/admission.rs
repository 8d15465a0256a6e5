//! Whether a request can be answered in time: told before anything is spent on it.

use std::time::{Duration, Instant};

use super::report::Dropped;
use crate::error::Error;

/// Figures older than this do not refuse a request that would run at once: without runs they could never be corrected.
pub(super) const FIGURES_AGE_MAX: Duration = Duration::from_secs(5);
/// The least that a refused caller is told to wait.
const RETRY_MIN: Duration = Duration::from_millis(1);

/// What is expected of a request that comes now.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Outlook {
    /// Until its last batch starts.
    pub(super) wait: Duration,
    /// Device time of its last batch.
    pub(super) run: Duration,
    /// Whether nothing of the model's waits or runs.
    pub(super) is_idle: bool,
}

/// When an answer is of use.
#[derive(Clone, Copy, Debug)]
pub(super) struct Wanted {
    /// When the caller stops waiting.
    pub(super) deadline: Option<Instant>,
    /// Longest that an answer may take.
    pub(super) latency_target: Option<Duration>,
}

/// Refuses what cannot be answered in time, saying why and when to come again.
pub(super) fn admit(outlook: Outlook, wanted: Wanted, now: Instant) -> Result<(), (Dropped, Error)> {
    let takes = outlook.wait + outlook.run;
    let refuse = |why, excess: Duration, what: String| {
        let what = format!("the request would be answered in about {} ms, {what}", takes.as_millis());
        Err((why, Error::resource_exhausted(what).retry_after(excess.max(RETRY_MIN))))
    };
    if let Some(left) = wanted.deadline.map(|deadline| deadline.saturating_duration_since(now))
        && takes > left
    {
        return refuse(Dropped::Deadline, takes - left, format!("its deadline is in {} ms", left.as_millis()));
    }
    // The first request of an idle model is answered as fast as can be: nothing would be won by refusing it.
    if let Some(target) = wanted.latency_target
        && takes > target
        && !outlook.is_idle
    {
        let what = format!("later than latency_target_ms ({}) allows", target.as_millis());
        return refuse(Dropped::LatencyTarget, takes - target, what);
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::error::Code;

    const fn millis(millis: u64) -> Duration {
        Duration::from_millis(millis)
    }

    #[test]
    fn what_comes_too_late_is_refused_with_a_hint() {
        let now = Instant::now();
        let outlook = Outlook { wait: millis(80), run: millis(30), is_idle: false };
        let ask = |deadline: Option<u64>, target: Option<u64>, outlook| {
            let wanted = Wanted { deadline: deadline.map(|ms| now + millis(ms)), latency_target: target.map(millis) };
            admit(outlook, wanted, now)
        };
        assert!(ask(None, None, outlook).is_ok());
        assert!(ask(Some(110), Some(110), outlook).is_ok());
        let (why, error) = ask(Some(100), None, outlook).expect_err("ten milliseconds late");
        assert_eq!((why, error.code(), error.wait()), (Dropped::Deadline, Code::ResourceExhausted, Some(millis(10))));
        assert_eq!(error.message(), "the request would be answered in about 110 ms, its deadline is in 100 ms");
        let (why, error) = ask(None, Some(60), outlook).expect_err("fifty milliseconds late");
        assert_eq!((why, error.wait()), (Dropped::LatencyTarget, Some(millis(50))));
        let idle = Outlook { wait: Duration::ZERO, run: millis(110), is_idle: true };
        assert!(ask(None, Some(60), idle).is_ok(), "a target alone never stops an idle model");
        assert!(ask(Some(60), None, idle).is_err(), "a deadline that cannot be met does");
    }
}
