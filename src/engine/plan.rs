//! One program of a model and its executables.

use std::sync::{Arc, Mutex, PoisonError, RwLock};
use std::time::Instant;

use super::device::{Executable, KeptWeights, Lane};
use super::ir::{Given, Program};
use super::plans::Plans;
use crate::tensor::Shape;

/// What is relied on of each input, in the signature's order.
pub(super) type Key = Vec<Given>;

/// An executable and the lane that it is on, which goes after it.
#[derive(Clone, Debug)]
pub(super) struct Berth {
    pub(super) executable: Arc<Executable>,
    pub(super) lane: Arc<Lane>,
}

/// A program for concrete inputs and its executables, one a lane, each there once that lane is warm.
#[derive(Debug)]
pub(super) struct Plan {
    pub(super) program: Arc<Program>,
    pub(super) berths: Vec<RwLock<Option<Berth>>>,
    /// On how many lanes, from the first on, there is memory for it.
    pub(super) width: usize,
    /// Plans for what follows the program, where something follows.
    pub(super) rest: Option<Arc<Plans>>,
    /// Host steps between segments keep state in the executable: one such run at a time.
    pub(super) exclusive: Mutex<()>,
    pub(super) last_used: Mutex<Instant>,
    pub(super) pinned: bool,
}

impl Plan {
    /// Where it can run on lane `index`: nowhere if it was not made there, or the lane is lost.
    pub(super) fn berth(&self, index: usize) -> Option<Berth> {
        let berth = self.berths.get(index)?.read().unwrap_or_else(PoisonError::into_inner).clone();
        berth.filter(|berth| !berth.lane.is_lost())
    }

    /// Where it can run, by lane.
    pub(super) fn ready(&self) -> impl Iterator<Item = (usize, Berth)> {
        (0..self.berths.len()).filter_map(|index| Some((index, self.berth(index)?)))
    }

    /// It cannot run there any more, nor can what follows it. Gives the weights that it had there in common with other lanes.
    pub(super) fn vacate(&self, index: usize) -> KeptWeights {
        let Some(place) = self.berths.get(index) else { return KeptWeights::default() };
        let before = place.write().unwrap_or_else(PoisonError::into_inner).take();
        let kept = before.as_ref().map(|berth| berth.executable.kept_weights()).unwrap_or_default();
        drop(before);
        if let Some(rest) = &self.rest {
            rest.vacate(index);
        }
        kept
    }

    /// It can run there from now on.
    pub(super) fn settle(&self, index: usize, berth: Berth) {
        let Some(place) = self.berths.get(index) else { return };
        let before = place.write().unwrap_or_else(PoisonError::into_inner).replace(berth);
        // What was there goes when nobody is locked out.
        drop(before);
    }
}

/// Elements of all inputs together.
pub(super) fn elements(key: &[Given]) -> usize {
    key.iter().map(|given| given.shape().elements()).sum()
}

/// Entries along axis 0 of the first input; 1 where it has no axes.
pub(super) fn rows(key: &[Given]) -> usize {
    key.first().and_then(|given| given.shape().first().copied()).unwrap_or(1)
}

/// `inputs` with `rows` entries along axis 0.
pub(super) fn with_rows(inputs: &[Given], rows: usize) -> Key {
    let resized = inputs.iter().map(|given| {
        let mut dims = given.shape().to_vec();
        if let Some(first) = dims.first_mut() {
            *first = rows;
        }
        Given::Shape(Shape::new(dims))
    });
    resized.collect()
}
