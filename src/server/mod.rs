//! The daemon: configuration, telemetry, ports, and a life from start to drain.

mod args;
mod config;
mod connections;
mod foreign;
mod http;
mod listen;
mod memory;
mod model_file;
mod series;
mod serve;
mod settings;
mod stop;
mod summary;
mod telemetry;
mod tensorflow_metrics;
mod values;

pub use args::ServeArgs;
pub use serve::run;
