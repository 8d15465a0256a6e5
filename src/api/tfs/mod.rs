//! TensorFlow Serving's API.

pub mod config;
mod decode;
mod encode;
mod infer;
mod log_file;
mod metadata;
mod model_entry;
mod model_json;
mod model_service;
mod peek;
mod predict;
mod prediction_service;
mod proto;
mod record;
mod reload;
mod request_log;
mod spec;
mod ssl_config;
mod warm_up;
mod weigh;

pub(super) use decode::decode;
pub use decode::decode_inputs;
pub use encode::{Form, encode};
pub(super) use metadata::{metadata, specs};
pub(super) use model_service::Models;
pub(super) use peek::peek;
pub(super) use prediction_service::Predictions;
pub(super) use proto::serving;
pub use proto::tensorflow as wire;
pub use record::Records;
pub use request_log::RequestLog;
pub use ssl_config::{Pem, PemText, pem_of_ssl_config};
pub use warm_up::Replay;
pub(super) use weigh::weigh;
