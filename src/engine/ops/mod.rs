//! The operators: shape inference, host evaluation, and their device work.

mod conv;
mod conv_phase;
mod conv_transpose;
mod conv_window;
mod gemm;
mod host_product;
mod matmul;
mod product;
mod registry;

pub use registry::{OpSpec, build, names};
