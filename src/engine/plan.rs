//! One program of a model and its executables.

use std::sync::{Arc, Mutex, OnceLock};
use std::time::Instant;

use super::device::Executable;
use super::ir::{Given, Program};
use super::plans::Plans;
use crate::tensor::Shape;

/// What is relied on of each input, in the signature's order.
pub(super) type Key = Vec<Given>;

/// A program for concrete inputs and its executables, one a lane, each there once that lane is warm.
#[derive(Debug)]
pub(super) struct Plan {
    pub(super) program: Arc<Program>,
    pub(super) executables: Vec<OnceLock<Arc<Executable>>>,
    /// Plans for what follows the program, where something follows.
    pub(super) rest: Option<Arc<Plans>>,
    /// Host steps between segments keep state in the executable: one such run at a time.
    pub(super) exclusive: Mutex<()>,
    pub(super) last_used: Mutex<Instant>,
    pub(super) pinned: bool,
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
