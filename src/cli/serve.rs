//! `coracle serve`: the daemon.

use std::process::ExitCode;

use crate::server::{self, ServeArgs};

/// Runs the subcommand.
///
/// # Errors
/// What kept the server from starting.
pub fn run(args: &ServeArgs) -> anyhow::Result<ExitCode> {
    server::run(args)?;
    Ok(ExitCode::SUCCESS)
}
