//! Standard output, for commands whose result goes there.

use std::io::Write as _;

/// Writes one line and flushes it. A closed pipe is not an error: the reader has seen enough.
#[allow(clippy::let_underscore_must_use)]
pub(super) fn line(text: &str) {
    let mut out = std::io::stdout().lock();
    let _ = writeln!(out, "{text}").and_then(|()| out.flush());
}
