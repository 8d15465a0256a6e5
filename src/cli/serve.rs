//! `coracle serve`: the daemon.

use std::process::ExitCode;

use crate::server;
pub use crate::server::ServeArgs as Args;

/// The exit code when devices hang, for a supervisor that starts another process: sysexits.h's EX_SOFTWARE.
const HOPELESS: u8 = 70;
/// The exit code of a Windows service that could not start, as a process has it.
#[cfg(windows)]
const FAILED: u8 = 1;

/// Runs the subcommand.
///
/// # Errors
/// What kept the server from starting.
pub fn run(args: &Args) -> anyhow::Result<ExitCode> {
    #[cfg(windows)]
    {
        let args = args.clone();
        let live = move || {
            let ended = server::run(&args);
            ended.map(code).unwrap_or_else(|error| {
                tracing::error!(%error, "the service ended");
                FAILED
            })
        };
        if server::as_service(live) {
            return Ok(ExitCode::SUCCESS);
        }
    }
    Ok(ExitCode::from(code(server::run(args)?)))
}

fn code(ended: server::Ended) -> u8 {
    match ended {
        server::Ended::Told => 0,
        server::Ended::Hopeless => HOPELESS,
    }
}

/// As `tensorflow_model_server`: its command line, its defaults.
///
/// # Errors
/// What kept the server from starting.
pub fn run_as_tensorflow_model_server() -> anyhow::Result<ExitCode> {
    run(&Args::of_tensorflow_model_server())
}
