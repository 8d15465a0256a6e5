//! How many files, connections among them, the process may have open.

/// Raises the soft limit to the hard one: every connection is a file, and the soft limit is often 1024.
#[cfg(unix)]
pub(super) fn raise_open_files_limit() {
    use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};

    /// What macOS takes at most, whatever its hard limit says.
    const MACOS_MAX: u64 = 10240;
    let limit = getrlimit(Resource::Nofile);
    let most = if cfg!(target_os = "macos") {
        Some(limit.maximum.map_or(MACOS_MAX, |most| most.min(MACOS_MAX)))
    } else {
        limit.maximum
    };
    // No soft limit is as high as it gets.
    if limit.current.is_none() || limit.current >= most && most.is_some() {
        return;
    }
    match setrlimit(Resource::Nofile, Rlimit { current: most, maximum: limit.maximum }) {
        Ok(()) => tracing::debug!(from = ?limit.current, to = ?most, "the limit of open files was raised"),
        Err(error) => tracing::warn!(limit = ?limit.current, "the limit of open files cannot be raised: {error}"),
    }
}

/// As above, where there is no such limit.
#[cfg(not(unix))]
pub(super) fn raise_open_files_limit() {}
