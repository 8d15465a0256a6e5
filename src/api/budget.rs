//! The memory that requests may make us hold, all together.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use crate::error::{Error, Result};

/// A number of bytes that all requests share. Taken before anything is allocated for a request.
#[derive(Debug)]
pub struct Budget {
    limit: u64,
    used: AtomicU64,
}

impl Budget {
    /// A budget of `limit` bytes.
    pub fn new(limit: u64) -> Arc<Self> {
        Arc::new(Self { limit, used: AtomicU64::new(0) })
    }

    /// Bytes held now.
    pub fn used(&self) -> u64 {
        self.used.load(Ordering::Relaxed)
    }

    /// Bytes that may be held.
    pub fn limit(&self) -> u64 {
        self.limit
    }

    fn take(&self, bytes: u64) -> Result<()> {
        let taken = self.used.fetch_update(Ordering::Relaxed, Ordering::Relaxed, |used| {
            used.checked_add(bytes).filter(|total| *total <= self.limit)
        });
        taken.map(drop).map_err(|used| {
            Error::resource_exhausted(format!(
                "the request needs {bytes} more bytes, {used} of the {} for requests are in use (request_memory_bytes)",
                self.limit
            ))
        })
    }

    fn give_back(&self, bytes: u64) {
        self.used.fetch_sub(bytes, Ordering::Relaxed);
    }
}

/// What one request has taken; given back when the last part of the request that holds it is gone.
#[derive(Debug)]
pub struct Ledger {
    budget: Arc<Budget>,
    taken: Mutex<u64>,
}

impl Ledger {
    /// An empty one.
    pub fn open(budget: &Arc<Budget>) -> Arc<Self> {
        Arc::new(Self { budget: Arc::clone(budget), taken: Mutex::new(0) })
    }

    /// Takes `bytes` more.
    ///
    /// # Errors
    /// `RESOURCE_EXHAUSTED` naming the numbers; nothing is taken then.
    pub fn take(&self, bytes: u64) -> Result<()> {
        self.budget.take(bytes)?;
        *self.taken.lock().unwrap_or_else(PoisonError::into_inner) += bytes;
        Ok(())
    }
}

impl Drop for Ledger {
    fn drop(&mut self) {
        self.budget.give_back(*self.taken.get_mut().unwrap_or_else(PoisonError::into_inner));
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::error::Code;

    #[test]
    fn what_is_refused_is_not_taken_and_what_is_dropped_is_given_back() {
        let budget = Budget::new(100);
        let ledger = Ledger::open(&budget);
        ledger.take(60).expect("it fits");
        assert_eq!(ledger.take(41).expect_err("too much").code(), Code::ResourceExhausted);
        assert_eq!(ledger.take(u64::MAX).expect_err("too much").code(), Code::ResourceExhausted);
        assert_eq!(budget.used(), 60);
        drop(ledger);
        assert_eq!(budget.used(), 0);
    }
}
