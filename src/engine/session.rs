//! A model made runnable: executables by shape.

use std::future::Future;
use std::time::{Duration, Instant};

use crate::error::{Error, Result};
use crate::tensor::{Shape, Signature, Tensor};

/// Whether requests may share a batch.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Merging {
    /// Rows are proven independent; batches are padded to one of these sizes, ascending.
    Rows {
        /// Batch sizes compiled at load.
        batch_sizes: Vec<usize>,
    },
    /// One request at a time, and why.
    Alone {
        /// The reason, naming the node.
        reason: String,
    },
}

/// Where the time of one run went.
#[derive(Clone, Copy, Debug, Default)]
pub struct RunStats {
    /// Which lane ran it.
    pub lane: usize,
    /// From handing over to the start of its submission.
    pub wait: Duration,
    /// From submission to the results being in host memory.
    pub device: Duration,
}

/// What a run gives.
#[derive(Clone, Debug)]
pub struct RunOutput {
    /// Outputs in the signature's order.
    pub outputs: Vec<Tensor>,
    /// Where the time went.
    pub stats: RunStats,
}

/// A model made runnable on an engine's lanes. Dropping it frees its executables and weights.
#[derive(Debug)]
pub struct Session {
    signature: Signature,
}

impl Session {
    /// Names, types and declared extents of inputs and outputs.
    pub fn signature(&self) -> &Signature {
        &self.signature
    }

    /// Whether requests whose inputs have these shapes, axis 0 apart, may be merged along axis 0. Proven once for each set
    /// of inner shapes; costs milliseconds the first time.
    pub fn merging(&self, _shapes: &[Shape]) -> Merging {
        Merging::Alone { reason: String::new() }
    }

    /// Whether an executable for exactly these input shapes is ready, so that `run` will not compile.
    pub fn is_ready(&self, _shapes: &[Shape]) -> bool {
        false
    }

    /// Checks that the model can take inputs of these shapes, by shape inference alone.
    ///
    /// # Errors
    /// `INVALID_ARGUMENT` naming the node at which inference fails.
    pub fn check_shapes(&self, _shapes: &[Shape]) -> Result<()> {
        Ok(())
    }

    /// Runs on the least loaded lane. `inputs` are in the signature's order with its dtypes, shapes any that the model can
    /// take: a new shape is compiled first, on a load thread. Work whose `deadline` passes before it is submitted, or whose
    /// future is dropped before, is not executed.
    pub fn run(
        &self,
        _inputs: Vec<Tensor>,
        _deadline: Option<Instant>,
    ) -> impl Future<Output = Result<RunOutput>> + Send + 'static {
        std::future::ready(Err(Error::unimplemented("not yet")))
    }
}
