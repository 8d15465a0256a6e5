//! Work on much data, done where other requests do not wait for it.

use std::future::poll_fn;
use std::pin::pin;

use tokio::runtime::{Handle, RuntimeFlavor};

/// Work on fewer bytes is done at once: passing on what waits for this thread takes longer.
const INLINE_BYTES: usize = 1 << 20;

/// Whether work on so many bytes takes long.
pub fn is_much(bytes: usize) -> bool {
    bytes >= INLINE_BYTES
}

/// Does `work`, whose time grows with `bytes`. If it takes long, what waits for this thread of the runtime is passed on to another
/// one before, where there are several.
pub(super) fn aside<T>(bytes: usize, work: impl FnOnce() -> T) -> T {
    let has_others = || Handle::try_current().is_ok_and(|handle| handle.runtime_flavor() == RuntimeFlavor::MultiThread);
    if is_much(bytes) && has_others() { tokio::task::block_in_place(work) } else { work() }
}

/// What `future` gives, each step of which may take a time that grows with `bytes`.
pub async fn each_step_aside<F: Future>(bytes: usize, future: F) -> F::Output {
    let mut future = pin!(future);
    poll_fn(|context| aside(bytes, || future.as_mut().poll(context))).await
}

#[cfg(test)]
mod tests {
    use std::sync::mpsc;
    use std::time::Duration;

    use super::*;

    /// Whether a task that is due on the thread that works on `bytes` bytes runs before that work is done.
    fn another_runs_meanwhile(bytes: usize) -> bool {
        let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(1).build().expect("a runtime");
        let working = runtime.spawn(async move {
            let (sender, receiver) = mpsc::channel();
            tokio::spawn(async move { sender.send(()) });
            let patience = Duration::from_secs(if bytes < INLINE_BYTES { 0 } else { 60 });
            each_step_aside(bytes, async move { receiver.recv_timeout(patience).is_ok() }).await
        });
        runtime.block_on(working).expect("no panic")
    }

    #[test]
    fn others_go_on_during_long_work() {
        assert!(another_runs_meanwhile(INLINE_BYTES));
        assert!(!another_runs_meanwhile(INLINE_BYTES - 1));
    }

    #[tokio::test]
    async fn a_runtime_of_one_thread_does_it_at_once() {
        assert_eq!(aside(INLINE_BYTES, || 1), 1);
        assert_eq!(std::thread::spawn(|| aside(INLINE_BYTES, || 2)).join().expect("no panic"), 2);
    }
}
