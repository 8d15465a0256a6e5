//! Any bytes as a model and as a tensor: the importer must answer without panicking or taking memory it was not given.

#![no_main]

use std::path::Path;

use bytes::Bytes;
use coracle::formats::onnx;
use libfuzzer_sys::fuzz_target;

fuzz_target!(|data: &[u8]| {
    let data = Bytes::copy_from_slice(data);
    drop(onnx::import_bytes(data.clone(), Path::new("/nonexistent")));
    drop(onnx::decode(data));
});
