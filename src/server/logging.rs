//! What operators see in words.

use crate::error::Error;

/// Sends logs to standard error.
///
/// # Errors
/// `INVALID_ARGUMENT` for a filter that is none.
pub(super) fn start_logging(level: &str, json: bool) -> Result<(), Error> {
    let filter = tracing_subscriber::EnvFilter::try_new(format!("wgpu_core=warn,wgpu_hal=error,naga=warn,{level}"))
        .map_err(|e| Error::invalid_argument(format!("log_level is {level:?}: {e}")))?;
    let colours = std::io::IsTerminal::is_terminal(&std::io::stderr());
    let builder = tracing_subscriber::fmt().with_env_filter(filter).with_ansi(colours).with_writer(std::io::stderr);
    let started = if json { builder.json().try_init() } else { builder.with_target(false).try_init() };
    started.map_err(|e| Error::internal(format!("logs are set up already: {e}")))
}
