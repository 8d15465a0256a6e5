//! The operators: shape inference, host evaluation, and their device work.

mod conv;
mod conv_window;
mod host_product;
mod matmul;
mod product;
mod registry;

pub use registry::{OpSpec, build, names};
