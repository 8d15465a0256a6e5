//! A model on several adapters: each run goes to the one that is expected to be done with it first.

use std::future::Future;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use tokio::sync::oneshot;

use super::session::{Demand, Merging, Reference, RunOutput, Session};
use crate::error::Result;
use crate::tensor::{Shape, Signature, Tensor};

/// The sessions of one model, one for each adapter that it runs on.
#[derive(Debug)]
pub struct Spread {
    /// At least one.
    sessions: Vec<Arc<Session>>,
    released: Mutex<Option<oneshot::Receiver<()>>>,
}

/// What is known beforehand of a run on one adapter.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Forecast {
    /// Device time until the lane that is free first gets to it.
    pub(super) waits: Duration,
    /// Its own; `None` while none was measured.
    pub(super) takes: Option<Duration>,
}

impl Spread {
    /// That of these sessions, of which there is at least one; `released` ends with the last of them.
    pub(super) fn new(sessions: Vec<Arc<Session>>, released: oneshot::Receiver<()>) -> Self {
        Self { sessions, released: Mutex::new(Some(released)) }
    }

    /// The sessions, the first adapter's first.
    pub fn sessions(&self) -> &[Arc<Session>] {
        &self.sessions
    }

    fn first(&self) -> &Arc<Session> {
        &self.sessions[0]
    }

    /// See [`Session::released`].
    pub fn released(&self) -> Option<oneshot::Receiver<()>> {
        self.released.lock().unwrap_or_else(PoisonError::into_inner).take()
    }

    /// See [`Session::signature`].
    pub fn signature(&self) -> &Signature {
        self.first().signature()
    }

    /// See [`Session::reference`]: 16 bits count wherever an adapter stores so many.
    pub fn reference(&self) -> Reference {
        let halves = self.sessions.iter().any(|session| session.reference().halves);
        Reference { halves, ..self.first().reference() }
    }

    /// See [`Session::merging`]: only what may be merged on every adapter is.
    pub fn merging(&self, shapes: &[Shape]) -> Merging {
        self.sessions.iter().map(|session| session.merging(shapes)).reduce(both).unwrap_or_else(|| Merging::Alone {
            reason: "there is no adapter".into(),
        })
    }

    /// Whether any adapter runs inputs of exactly these shapes without compiling.
    pub fn is_ready(&self, shapes: &[Shape]) -> bool {
        self.sessions.iter().any(|session| session.is_ready(shapes))
    }

    /// See [`Session::check_shapes`].
    ///
    /// # Errors
    /// Those of the first adapter.
    pub fn check_shapes(&self, shapes: &[Shape]) -> Result<()> {
        self.first().check_shapes(shapes)
    }

    /// See [`Session::run`]: on the adapter that is expected to be done first.
    pub fn run(
        &self,
        inputs: Vec<Tensor>,
        demand: Demand,
    ) -> impl Future<Output = Result<RunOutput>> + Send + 'static + use<> {
        let (session, expected) = match self.sessions.as_slice() {
            [only] => (only, demand.expected),
            several => {
                let forecasts: Vec<_> = several.iter().map(|session| session.forecast(&inputs)).collect();
                let at = earliest(&forecasts);
                // What was measured on all adapters together says little of one.
                let own = forecasts[at].and_then(|forecast| forecast.takes);
                (&several[at], own.unwrap_or(demand.expected))
            }
        };
        session.run(inputs, Demand { expected, ..demand })
    }
}

/// Where a run is done first: an adapter that was never measured is tried as if the run took no time. Where none can run it now,
/// the first, which compiles or waits.
fn earliest(forecasts: &[Option<Forecast>]) -> usize {
    let known = forecasts.iter().enumerate().filter_map(|(at, forecast)| Some((at, (*forecast)?)));
    let done = |(_, forecast): &(usize, Forecast)| forecast.waits + forecast.takes.unwrap_or_default();
    known.min_by_key(done).map_or(0, |(at, _)| at)
}

/// How requests are merged that run on either adapter.
fn both(one: Merging, other: Merging) -> Merging {
    match (one, other) {
        (Merging::Rows { batch_sizes: mut sizes }, Merging::Rows { batch_sizes: more }) => {
            sizes.extend(more);
            sizes.sort_unstable();
            sizes.dedup();
            Merging::Rows { batch_sizes: sizes }
        }
        (alone @ Merging::Alone { .. }, _) | (_, alone) => alone,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn runs_go_where_they_are_done_first() {
        let ms = Duration::from_millis;
        let forecast = |waits, takes: Option<u64>| Some(Forecast { waits: ms(waits), takes: takes.map(ms) });
        assert_eq!(earliest(&[forecast(10, Some(1)), forecast(0, Some(12))]), 0, "the quick one, although it waits");
        assert_eq!(earliest(&[forecast(10, Some(1)), forecast(0, Some(10))]), 1);
        assert_eq!(earliest(&[forecast(0, Some(1)), forecast(0, None)]), 1, "who was never measured is tried");
        assert_eq!(earliest(&[None, forecast(500, Some(500))]), 1, "what cannot run is no choice");
        assert_eq!(earliest(&[None, None]), 0);
    }

    #[test]
    fn merging_is_what_every_adapter_allows() {
        let rows = |sizes: &[usize]| Merging::Rows { batch_sizes: sizes.to_vec() };
        let alone = || Merging::Alone { reason: "mixes".into() };
        assert_eq!(both(rows(&[1, 4]), rows(&[1, 2, 8])), rows(&[1, 2, 4, 8]));
        assert_eq!(both(rows(&[1]), alone()), alone());
        assert_eq!(both(alone(), rows(&[1])), alone());
    }
}
