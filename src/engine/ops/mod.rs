//! The operators: shape inference, host evaluation, and their device work.

mod registry;

pub use registry::{OpSpec, build, names};
