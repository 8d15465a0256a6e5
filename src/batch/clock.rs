//! Time as the batcher sees it.

use std::cmp::Reverse;
use std::collections::BinaryHeap;
use std::future::Future;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::Instant;

use tokio::sync::oneshot;

/// The time, and waiting for it.
pub trait Clock: Send + Sync + 'static {
    /// The time now.
    fn now(&self) -> Instant;
    /// Ends at `at`, or soon after.
    fn sleep_until(&self, at: Instant) -> impl Future<Output = ()> + Send;
}

/// The machine's monotonic clock. Its timers are exact to some tens of microseconds, where the runtime's own count
/// whole milliseconds: one thread holds them all and sleeps until the next is due.
pub struct SystemClock {
    timers: Arc<Timers>,
}

/// What the clock and its thread share.
#[derive(Default)]
struct Timers {
    held: Mutex<Held>,
    /// Told of timers that are due before all others, and of the end.
    sooner: Condvar,
}

#[derive(Default)]
struct Held {
    waiting: BinaryHeap<Reverse<Timer>>,
    closed: bool,
}

/// Something waiting for a time.
struct Timer {
    at: Instant,
    due: oneshot::Sender<()>,
}

impl SystemClock {
    /// Starts the timer thread; it ends with the clock.
    ///
    /// # Errors
    /// When the system gives no thread.
    pub fn start() -> std::io::Result<Self> {
        let timers = Arc::<Timers>::default();
        let kept = Arc::clone(&timers);
        std::thread::Builder::new().name("batch-timer".into()).spawn(move || kept.keep())?;
        Ok(Self { timers })
    }
}

impl Clock for SystemClock {
    fn now(&self) -> Instant {
        Instant::now()
    }

    fn sleep_until(&self, at: Instant) -> impl Future<Output = ()> + Send {
        let (due, wake) = oneshot::channel();
        self.timers.add(Timer { at, due });
        async move {
            // The thread lives as long as the clock; were it to end, so would the sleep.
            let _ = wake.await;
        }
    }
}

impl Drop for SystemClock {
    fn drop(&mut self) {
        self.timers.lock().closed = true;
        self.timers.sooner.notify_one();
    }
}

impl Timers {
    fn lock(&self) -> MutexGuard<'_, Held> {
        self.held.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The thread is woken only if it would sleep too long.
    fn add(&self, timer: Timer) {
        let mut held = self.lock();
        let is_next = held.waiting.peek().is_none_or(|Reverse(next)| timer.at < next.at);
        held.waiting.push(Reverse(timer));
        drop(held);
        if is_next {
            self.sooner.notify_one();
        }
    }

    /// Wakes each timer when it is due, until the clock is dropped. Holds no more timers than there are sleepers: those whose
    /// sleeper has gone are dropped when due.
    fn keep(&self) {
        let mut held = self.lock();
        while !held.closed {
            let now = Instant::now();
            while held.waiting.peek().is_some_and(|Reverse(timer)| timer.at <= now || timer.due.is_closed()) {
                if let Some(Reverse(timer)) = held.waiting.pop() {
                    // A sleeper that stopped waiting is not an error.
                    let _ = timer.due.send(());
                }
            }
            let wait = held.waiting.peek().map(|Reverse(next)| next.at.saturating_duration_since(now));
            held = match wait {
                Some(wait) => self.sooner.wait_timeout(held, wait).unwrap_or_else(PoisonError::into_inner).0,
                None => self.sooner.wait(held).unwrap_or_else(PoisonError::into_inner),
            };
        }
    }
}

impl PartialEq for Timer {
    fn eq(&self, other: &Self) -> bool {
        self.at == other.at
    }
}

impl Eq for Timer {}

impl PartialOrd for Timer {
    fn partial_cmp(&self, other: &Self) -> Option<std::cmp::Ordering> {
        Some(self.cmp(other))
    }
}

impl Ord for Timer {
    fn cmp(&self, other: &Self) -> std::cmp::Ordering {
        self.at.cmp(&other.at)
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    #[tokio::test]
    async fn timers_end_in_the_order_of_their_times() {
        let clock = SystemClock::start().expect("a thread");
        let start = clock.now();
        let (late, soon) = (
            clock.sleep_until(start + Duration::from_millis(3)),
            clock.sleep_until(start + Duration::from_micros(200)),
        );
        tokio::pin!(late);
        tokio::select! {
            // On a busy machine both may have ended by the time this task runs.
            biased;
            () = soon => {}
            () = &mut late => panic!("the later timer ended first"),
        }
        late.await;
        assert!(clock.now() - start >= Duration::from_millis(3));
    }
}
