//! Which shapes a model is ready for: asked when requests are padded, since what comes out of it is not known before.

use std::pin::Pin;
use std::sync::Arc;

use crate::error::Result;
use crate::tensor::Shape;

/// A model's shapes being made ready.
pub type Preparing = Pin<Box<dyn Future<Output = Result<()>> + Send>>;

/// What a model can run.
pub trait Shapes: Send + Sync + 'static {
    /// The extent that padding leaves an input on an axis behind the first at least, if this is its own.
    fn room(&self, input: usize, axis: usize, extent: usize) -> usize;

    /// Whether a batch whose inputs have these shapes can run now: its rows are proven to stay apart, and nothing is left to be
    /// compiled. Asked while the queue is held, so it must be quick.
    fn is_ready(&self, shapes: &[Shape]) -> bool;

    /// Makes it so. Whoever drops the future gives that up.
    ///
    /// # Errors
    /// Why batches of these shapes cannot run.
    fn prepare(self: Arc<Self>, shapes: Vec<Shape>) -> Preparing;
}
