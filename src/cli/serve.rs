//! `coracle serve`: the daemon.

use std::process::ExitCode;

use crate::server;
pub use crate::server::ServeArgs as Args;

/// Runs the subcommand.
///
/// # Errors
/// What kept the server from starting.
pub fn run(args: &Args) -> anyhow::Result<ExitCode> {
    server::run(args)?;
    Ok(ExitCode::SUCCESS)
}

/// As `tensorflow_model_server`: its command line, its defaults.
///
/// # Errors
/// What kept the server from starting.
pub fn run_as_tensorflow_model_server() -> anyhow::Result<ExitCode> {
    run(&Args::of_tensorflow_model_server())
}
