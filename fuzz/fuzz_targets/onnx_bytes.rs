//! Any bytes as a model, a tensor, a sequence and an optional value: the importer must answer without panicking or taking memory it was not given.

#![no_main]

use std::path::Path;

use bytes::Bytes;
use coracle::formats::onnx;
use coracle::tensor::DType;
use libfuzzer_sys::fuzz_target;

fuzz_target!(|data: &[u8]| {
    let data = Bytes::copy_from_slice(data);
    drop(onnx::import_bytes(data.clone(), Path::new("/nonexistent")));
    drop(onnx::decode(data.clone()));
    drop(onnx::decode_as(DType::Sequence, data.clone()));
    drop(onnx::decode_as(DType::Optional, data));
});
