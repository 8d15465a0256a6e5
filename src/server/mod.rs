//! The daemon: configuration, telemetry, ports, and a life from start to drain.

mod args;
mod buckets;
mod collector;
mod config;
mod connection;
mod connections;
mod count;
mod doors;
mod faults;
mod foreign;
mod gauges;
mod http;
mod identity;
mod journal;
mod labels;
mod leaving;
mod limits;
mod listen;
mod logging;
mod memory;
mod metered;
mod model_file;
mod open_files;
mod post;
mod replies;
mod runtime_metrics;
mod sealed;
mod series;
mod serve;
#[cfg(windows)]
mod service;
mod settings;
mod spans;
mod stop;
mod streams;
mod summary;
mod telemetry;
mod tensorflow_metrics;
mod tls;
mod token_files;
mod values;

pub use args::ServeArgs;
pub use serve::{Ended, run};
#[cfg(windows)]
pub use service::as_service;
