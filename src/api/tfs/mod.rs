//! TensorFlow Serving's API.

pub mod config;
mod decode;
mod encode;
mod infer;
mod metadata;
mod model_entry;
mod model_json;
mod model_service;
mod peek;
mod predict;
mod prediction_service;
mod proto;
mod reload;
mod spec;
mod weigh;

pub(super) use decode::decode;
pub use decode::decode_inputs;
pub use encode::{Form, encode};
pub(super) use metadata::{metadata, specs};
pub(super) use model_service::Models;
pub(super) use peek::{method, peek};
pub(super) use prediction_service::Predictions;
pub(super) use proto::serving;
pub use proto::tensorflow as wire;
pub(super) use weigh::weigh;
