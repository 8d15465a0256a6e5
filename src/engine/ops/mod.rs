//! The operators: shape inference, host evaluation, and their device work.

mod arguments;
mod arithmetic;
mod batch_normalization;
mod boxes;
mod broadcast;
mod cast;
mod clip;
mod compare;
mod concat;
mod constants;
mod conv;
mod conv_phase;
mod conv_transpose;
mod conv_window;
mod depthwise;
mod gather;
mod gemm;
mod host_product;
mod host_window;
mod lrn;
mod matmul;
mod movement;
mod pad;
mod pool;
mod product;
mod rearrange;
mod reduce;
mod registry;
mod resize;
mod resize_taps;
mod slice;
mod softmax;
mod unary;
mod views;

pub use registry::{OpSpec, build, names};
