//! What operators see in words.

use std::path::Path;

use tracing_appender::rolling::{RollingFileAppender, Rotation};
use tracing_subscriber::fmt::writer::BoxMakeWriter;

use crate::error::Error;

/// Days whose logs are kept in a folder, this one counted.
const DAYS: usize = 7;

/// Sends logs to standard error, or to a file for each day (UTC) in `folder`.
///
/// # Errors
/// `INVALID_ARGUMENT` for a filter that is none, `UNAVAILABLE` where the folder takes no files.
pub(super) fn start_logging(level: &str, json: bool, folder: Option<&Path>) -> Result<(), Error> {
    let filter = tracing_subscriber::EnvFilter::try_new(format!("wgpu_core=warn,wgpu_hal=error,naga=warn,{level}"))
        .map_err(|e| Error::invalid_argument(format!("log_level is {level:?}: {e}")))?;
    let colours = folder.is_none() && std::io::IsTerminal::is_terminal(&std::io::stderr());
    let writer = match folder {
        Some(folder) => BoxMakeWriter::new(files(folder)?),
        None => BoxMakeWriter::new(std::io::stderr),
    };
    let builder = tracing_subscriber::fmt().with_env_filter(filter).with_ansi(colours).with_writer(writer);
    let started = if json { builder.json().try_init() } else { builder.with_target(false).try_init() };
    started.map_err(|e| Error::internal(format!("logs are set up already: {e}")))
}

fn files(folder: &Path) -> Result<RollingFileAppender, Error> {
    let files = RollingFileAppender::builder().rotation(Rotation::DAILY).max_log_files(DAYS);
    files.filename_prefix("coracle").filename_suffix("log").build(folder).map_err(|e| {
        let cause = std::error::Error::source(&e).map_or_else(|| e.to_string(), ToString::to_string);
        Error::unavailable(format!("log_dir {} takes no logs: {cause}", folder.display()))
    })
}
