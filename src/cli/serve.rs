//! `coracle serve`: the daemon.

use std::process::ExitCode;

use crate::server;
pub use crate::server::ServeArgs as Args;

/// The exit code when devices hang, for a supervisor that starts another process: sysexits.h's EX_SOFTWARE.
const HOPELESS: u8 = 70;

/// Runs the subcommand.
///
/// # Errors
/// What kept the server from starting.
pub fn run(args: &Args) -> anyhow::Result<ExitCode> {
    Ok(match server::run(args)? {
        server::Ended::Told => ExitCode::SUCCESS,
        server::Ended::Hopeless => ExitCode::from(HOPELESS),
    })
}

/// As `tensorflow_model_server`: its command line, its defaults.
///
/// # Errors
/// What kept the server from starting.
pub fn run_as_tensorflow_model_server() -> anyhow::Result<ExitCode> {
    run(&Args::of_tensorflow_model_server())
}
