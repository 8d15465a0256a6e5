//! The messages of `proto/onnx.proto`.

#![allow(missing_docs, unreachable_pub, unused_qualifications, clippy::all)]

include!(concat!(env!("OUT_DIR"), "/onnx.rs"));
