//! ONNX files: models as graphs, tensors as test data.

mod attributes;
mod dtype;
mod external;
mod functions;
mod import;
mod limits;
mod nodes;
mod opset;
mod order;
mod proto;
mod signature;
mod sparse;
mod tensor;
mod unsupported;
mod weights;

pub use import::{ImportOptions, import, import_bytes, import_with};
pub use tensor::{decode, encode};
