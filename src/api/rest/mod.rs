//! TensorFlow Serving's REST API.

mod batching;
mod body;
mod examples;
mod inputs;
mod json;
mod metadata;
mod outputs;
mod predict;
mod raw;
mod reply;
mod route;
mod service;
mod status;
mod work;

pub use inputs::read_json;
pub use json::JsonLimits;
pub use outputs::{Format, write_json};
pub use service::{Rest, RestOptions};
