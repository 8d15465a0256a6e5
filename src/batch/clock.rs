//! Time as the batcher sees it.

use std::cmp::Reverse;
use std::collections::BinaryHeap;
use std::future::Future;
use std::sync::mpsc::{Receiver, RecvTimeoutError, Sender, channel};
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
    timers: Sender<Timer>,
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
        let (timers, waiting) = channel();
        std::thread::Builder::new().name("batch-timer".into()).spawn(move || keep(&waiting))?;
        Ok(Self { timers })
    }
}

impl Clock for SystemClock {
    fn now(&self) -> Instant {
        Instant::now()
    }

    fn sleep_until(&self, at: Instant) -> impl Future<Output = ()> + Send {
        let (due, wake) = oneshot::channel();
        // The thread lives as long as this sender, so the send cannot fail; were it to, the sleep would end at once.
        let _ = self.timers.send(Timer { at, due });
        async move {
            let _ = wake.await;
        }
    }
}

/// Wakes each timer when it is due, until the clock is dropped. Holds no more timers than there are sleepers: those whose
/// sleeper has gone are dropped when due.
fn keep(waiting: &Receiver<Timer>) {
    let mut timers = BinaryHeap::new();
    loop {
        let now = Instant::now();
        while timers.peek().is_some_and(|Reverse(timer): &Reverse<Timer>| timer.at <= now || timer.due.is_closed()) {
            if let Some(Reverse(timer)) = timers.pop() {
                // A sleeper that stopped waiting is not an error.
                let _ = timer.due.send(());
            }
        }
        let next = match timers.peek() {
            Some(Reverse(timer)) => waiting.recv_timeout(timer.at.saturating_duration_since(now)),
            None => waiting.recv().map_err(|_| RecvTimeoutError::Disconnected),
        };
        match next {
            Ok(timer) => timers.push(Reverse(timer)),
            Err(RecvTimeoutError::Timeout) => {}
            Err(RecvTimeoutError::Disconnected) => return,
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
