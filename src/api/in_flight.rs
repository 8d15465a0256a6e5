//! Requests being answered: how many there may be, and when there are none left.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};

use tokio::sync::Notify;

use crate::error::{Error, Result};

/// Counts the requests of one port.
#[derive(Debug)]
pub struct InFlight {
    /// At most so many, and the setting that says so; `None`: any number.
    bound: Option<(usize, &'static str)>,
    now: AtomicUsize,
    left: Notify,
    is_given_up: AtomicBool,
    given_up: Notify,
}

impl InFlight {
    /// At most `most` at a time, as the setting called `setting` says; 0: any number.
    pub fn new(most: usize, setting: &'static str) -> Arc<Self> {
        let bound = Some((most, setting)).filter(|(most, _)| *most > 0);
        let (is_given_up, given_up) = (AtomicBool::new(false), Notify::new());
        Arc::new(Self { bound, now: AtomicUsize::new(0), left: Notify::new(), is_given_up, given_up })
    }

    /// A place among them.
    ///
    /// # Errors
    /// `RESOURCE_EXHAUSTED` naming the bound.
    pub(super) fn enter(self: &Arc<Self>) -> Result<Place> {
        let before = self.now.fetch_add(1, Ordering::AcqRel);
        let place = Place(Arc::clone(self));
        match self.bound {
            Some((most, setting)) if before >= most => Err(Error::resource_exhausted(format!(
                "{most} requests are being answered, which is as many as may be at a time ({setting})"
            ))),
            _ => Ok(place),
        }
    }

    /// How many there are now.
    pub fn now(&self) -> usize {
        self.now.load(Ordering::Acquire)
    }

    /// Has those that are running, and those that come, answered with an error.
    pub fn give_up(&self) {
        self.is_given_up.store(true, Ordering::Release);
        self.given_up.notify_waiters();
    }

    /// Waits until requests are given up; gives the error that they are answered with: `UNAVAILABLE`.
    pub(super) async fn given_up(&self) -> Error {
        // The future is made before the flag is read, so that a change in between still wakes it.
        let given_up = self.given_up.notified();
        if !self.is_given_up.load(Ordering::Acquire) {
            given_up.await;
        }
        Error::unavailable("the server is stopping and gives up what has not been answered in time")
    }

    /// Waits until there are none.
    pub async fn none(&self) {
        loop {
            let left = self.left.notified();
            if self.now() == 0 {
                return;
            }
            left.await;
        }
    }
}

/// A request's place, given up when dropped.
#[derive(Debug)]
pub(super) struct Place(Arc<InFlight>);

impl Drop for Place {
    fn drop(&mut self) {
        if self.0.now.fetch_sub(1, Ordering::AcqRel) == 1 {
            self.0.left.notify_waiters();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::error::Code;

    #[tokio::test]
    async fn places_are_bounded_and_given_up() {
        let two = InFlight::new(2, "threads");
        let places = [two.enter().expect("the first"), two.enter().expect("the second")];
        let refused = two.enter().expect_err("a third");
        assert_eq!(refused.code(), Code::ResourceExhausted);
        assert!(refused.message().contains("2 requests") && refused.message().contains("(threads)"), "{refused}");
        assert_eq!(two.now(), 2);
        drop(places);
        two.none().await;
        drop(two.enter().expect("there is room again"));
        let waiting = two.given_up();
        two.give_up();
        assert_eq!(waiting.await.code(), Code::Unavailable);
        assert_eq!(two.given_up().await.code(), Code::Unavailable, "those who come later are told too");
        let any = InFlight::new(0, "threads");
        let held: Vec<_> = (0..100).map(|_| any.enter().expect("no bound")).collect();
        assert_eq!(held.len(), 100);
    }
}
