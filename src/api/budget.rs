//! The memory that requests may make us hold, all together.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use crate::error::{Error, Result};

/// A number of bytes that requests share. Taken before anything is allocated for a request.
#[derive(Debug)]
pub struct Budget {
    limit: u64,
    used: AtomicU64,
    /// What it is a part of: the requests of one connection may hold so much of what all may.
    whole: Option<Arc<Budget>>,
}

impl Budget {
    /// A budget of `limit` bytes.
    pub fn new(limit: u64) -> Arc<Self> {
        Arc::new(Self { limit, used: AtomicU64::new(0), whole: None })
    }

    /// The part of this budget that one connection may have: what is taken of it is taken of the whole too.
    pub fn part(self: &Arc<Self>, fraction: f64) -> Arc<Self> {
        let limit = (self.limit as f64 * fraction) as u64;
        Arc::new(Self { limit, used: AtomicU64::new(0), whole: Some(Arc::clone(self)) })
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
        let (whose, setting) = match &self.whole {
            None => ("requests", "request_memory_bytes"),
            Some(_) => ("requests of one connection", "connection_memory_fraction"),
        };
        taken.map_err(|used| {
            Error::resource_exhausted(format!(
                "the request needs {bytes} more bytes, {used} of the {} for {whose} are in use ({setting})",
                self.limit
            ))
        })?;
        let whole = self.whole.as_ref().map_or(Ok(()), |whole| whole.take(bytes));
        whole.inspect_err(|_| {
            self.used.fetch_sub(bytes, Ordering::Relaxed);
        })
    }

    fn give_back(&self, bytes: u64) {
        self.used.fetch_sub(bytes, Ordering::Relaxed);
        if let Some(whole) = &self.whole {
            whole.give_back(bytes);
        }
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
    #[test]
    fn one_connection_leaves_room_for_others() {
        let budget = Budget::new(100);
        let (greedy, modest) = (budget.part(0.5), budget.part(0.5));
        let held = Ledger::open(&greedy);
        held.take(50).expect("its part");
        let error = held.take(1).expect_err("more than its part");
        assert!(error.message().contains("50 of the 50 for requests of one connection"), "{error}");
        let (other, third) = (Ledger::open(&modest), Ledger::open(&budget));
        other.take(40).expect("there is room");
        third.take(10).expect("there is room");
        assert!(other.take(1).expect_err("all is in use").message().contains("(request_memory_bytes)"));
        assert_eq!((greedy.used(), modest.used(), budget.used()), (50, 40, 100));
        drop((held, other, third));
        assert_eq!((greedy.used(), modest.used(), budget.used()), (0, 0, 0));
    }
}
