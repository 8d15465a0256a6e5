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
