//! The daemon: configuration, telemetry, ports, and a life from start to drain.

mod args;
mod config;
mod http;
mod listen;
mod memory;
mod serve;
mod settings;
mod stop;
mod summary;
mod telemetry;

pub use args::ServeArgs;
pub use serve::run;
