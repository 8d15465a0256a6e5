//! Inference without a protocol: what is asked of which model, and the answer.

mod answered;
mod examples;
mod serialized;
mod several;
mod target;
mod wanted;

pub(super) use answered::{Answered, Recorder};
pub(super) use examples::Classified;
pub use examples::read_examples;
pub(super) use serialized::{example, row, with_context};
pub(super) use several::{Inferred, Task, infer_several};
pub(super) use target::{Target, Terms};
pub(super) use wanted::Wanted;
