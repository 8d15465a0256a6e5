//! Loading one version, with its retries.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Duration, Instant};

use tokio::runtime::Handle;
use tokio::sync::{Semaphore, oneshot};

use super::config::ModelConfig;
use super::id::ServableId;
use super::loader::{Loaded, Loader};
use super::observer::Tried;
use super::servable::Context;
use super::warm_up::warm;
use crate::batch::Clock;
use crate::error::{Code, Error, Result};

/// One version to be loaded.
pub(super) struct Attempt<C> {
    pub(super) id: ServableId,
    pub(super) path: PathBuf,
    pub(super) config: ModelConfig,
    pub(super) loader: Arc<dyn Loader>,
    pub(super) context: Context<C>,
    /// Loads that may go on at a time.
    pub(super) slots: Arc<Semaphore>,
}

impl<C: Clock> Attempt<C> {
    /// Loads it; what failed because files could not be read is tried again.
    ///
    /// # Errors
    /// The last failure.
    pub(super) async fn with_retries(self, retries_max: usize, interval: Duration) -> Result<Loaded> {
        let attempt = Arc::new(self);
        let mut tried = 0;
        loop {
            match Arc::clone(&attempt).on_thread().await {
                Err(error) if tried < retries_max && may_pass(&error) => {
                    tried += 1;
                    let id = &attempt.id;
                    tracing::warn!(model = %id.name, version = id.version, tried, "loading failed, trying again: {error}");
                    tokio::time::sleep(interval).await;
                }
                outcome => return outcome,
            }
        }
    }

    async fn on_thread(self: Arc<Self>) -> Result<Loaded> {
        let _slot = self.slots.acquire().await;
        let (send, receive) = oneshot::channel();
        let (attempt, runtime) = (Arc::clone(&self), Handle::current());
        std::thread::Builder::new().name(format!("load {}", self.id)).spawn(move || {
            let Attempt { id, path, config, loader, context, .. } = &*attempt;
            let start = Instant::now();
            let loaded = loader.load(id, path, config);
            let read = loaded.as_ref().ok().map(|loaded| loaded.read);
            context.observer.tried(path, &Tried { elapsed: start.elapsed(), read });
            let loaded = loaded.and_then(|loaded| {
                warm(id, &loaded, path, context, &runtime)?;
                Ok(loaded)
            });
            // Fails only when the manager is gone.
            let _ = send.send(loaded);
        })?;
        receive.await.unwrap_or_else(|_| Err(Error::internal(format!("loading {} panicked", self.id))))
    }
}

/// Whether a failed load may succeed later: the files could not be read, or not all of them were there yet.
fn may_pass(error: &Error) -> bool {
    let from_reading = std::error::Error::source(error).is_some_and(|source| source.is::<std::io::Error>());
    error.code() == Code::Unavailable || from_reading
}
