//! What a driver told us outside any call: whether a device still works.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Mutex, PoisonError, mpsc};

/// See the module.
#[derive(Debug, Default)]
pub(super) struct Fate {
    lost: AtomicBool,
    /// Work that was given to it never ends.
    hung: AtomicBool,
    /// The driver itself said that it is lost: it executes nothing any more.
    gone: AtomicBool,
    reason: Mutex<Option<String>>,
    ended: Option<mpsc::Sender<()>>,
}

impl Fate {
    /// That of a device that works. `ended` is told when it stops.
    pub(super) fn new(ended: Option<mpsc::Sender<()>>) -> Self {
        Self { ended, ..Self::default() }
    }

    /// Notes that it stopped working.
    pub(super) fn record(&self, reason: String) {
        tracing::error!(reason, "a device stopped working");
        self.reason.lock().unwrap_or_else(PoisonError::into_inner).get_or_insert(reason);
        self.lost.store(true, Ordering::Release);
        if let Some(ended) = &self.ended {
            // Nobody listens once the engine has ended.
            let _ = ended.send(());
        }
    }

    /// Notes that the driver has lost it.
    pub(super) fn record_gone(&self, reason: String) {
        self.gone.store(true, Ordering::Release);
        self.record(reason);
    }

    /// Notes that its work never ends.
    pub(super) fn record_hang(&self, reason: String) {
        self.hung.store(true, Ordering::Release);
        self.record(reason);
    }

    pub(super) fn is_lost(&self) -> bool {
        self.lost.load(Ordering::Acquire)
    }

    pub(super) fn is_hung(&self) -> bool {
        self.hung.load(Ordering::Acquire)
    }

    #[cfg(not(target_os = "macos"))]
    pub(super) fn is_gone(&self) -> bool {
        self.gone.load(Ordering::Acquire)
    }

    /// Why it is lost.
    pub(super) fn reason(&self) -> String {
        let reason = self.reason.lock().unwrap_or_else(PoisonError::into_inner).clone();
        reason.unwrap_or_else(|| "the device is lost".into())
    }
}
