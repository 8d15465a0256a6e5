//! The daemon: configuration, telemetry, ports, and a life from start to drain.

mod args;
mod buckets;
mod config;
mod connection;
mod connections;
mod faults;
mod foreign;
mod http;
mod identity;
mod journal;
mod leaving;
mod limits;
mod listen;
mod logging;
mod memory;
mod metered;
mod model_file;
mod open_files;
mod replies;
mod sealed;
mod series;
mod serve;
mod settings;
mod spans;
mod stop;
mod summary;
mod telemetry;
mod tensorflow_metrics;
mod tls;
mod token_files;
mod values;

pub use args::ServeArgs;
pub use serve::{Ended, run};
