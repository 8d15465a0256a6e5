//! Model files → graphs.

pub mod onnx;
