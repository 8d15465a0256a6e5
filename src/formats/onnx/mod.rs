//! ONNX files: models as graphs, values as test data.

mod attributes;
mod data;
mod dtype;
mod external;
mod functions;
mod import;
mod limits;
mod locate;
mod nodes;
mod opset;
mod order;
mod packed;
mod proto;
mod scan;
mod signature;
mod sparse;
mod subgraph;
mod tensor;
mod unsupported;
mod weights;

#[cfg(test)]
mod tests;

pub use data::{decode, decode_as, encode};
pub use import::{ImportOptions, import, import_bytes, import_with};
pub use locate::locate;
