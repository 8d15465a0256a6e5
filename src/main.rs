//! Arguments in, exit code out.

use std::process::ExitCode;

use clap::{Parser, Subcommand};
use coracle::cli::{bench, devices, inspect, predict, serve, verify};

/// Serves neural networks over gRPC and REST on any GPU, or on none.
#[derive(Debug, Parser)]
#[command(name = "coracle", version, propagate_version = true)]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    Bench(bench::Args),
    Devices(devices::Args),
    Inspect(inspect::Args),
    Predict(predict::Args),
    Serve(serve::Args),
    Verify(verify::Args),
}

/// What the binary is called where start scripts of TensorFlow Serving's look for it.
const TENSORFLOW_MODEL_SERVER: &str = "tensorflow_model_server";

fn main() -> anyhow::Result<ExitCode> {
    let called = std::env::args_os().next().map(std::path::PathBuf::from);
    if called.as_deref().and_then(std::path::Path::file_stem).is_some_and(|stem| stem == TENSORFLOW_MODEL_SERVER) {
        return serve::run_as_tensorflow_model_server();
    }
    match Cli::parse().command {
        Command::Bench(args) => bench::run(&args),
        Command::Devices(args) => devices::run(&args),
        Command::Inspect(args) => inspect::run(&args),
        Command::Predict(args) => predict::run(&args),
        Command::Serve(args) => serve::run(&args),
        Command::Verify(args) => verify::run(&args),
    }
}
