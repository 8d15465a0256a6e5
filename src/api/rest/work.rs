//! Work that would hold up other requests.

use crate::error::{Error, Result};

/// Inputs of fewer bytes are dealt with at once: moving to another thread costs more.
const INLINE_BYTES: usize = 64 << 10;

/// Does `work`, whose time grows with `bytes`, on a thread for blocking work if it takes long.
///
/// # Errors
/// Those of `work`, and `INTERNAL` when it panics.
pub(super) async fn off_the_runtime<T: Send + 'static>(
    bytes: usize,
    work: impl FnOnce() -> Result<T> + Send + 'static,
) -> Result<T> {
    if bytes < INLINE_BYTES {
        return work();
    }
    let done = tokio::task::spawn_blocking(work).await;
    done.map_err(|e| Error::internal(format!("working on a request failed: {e}")))?
}
