//! Requests replayed to a version before it serves.

use std::future::Future;
use std::path::{Path, PathBuf};
use std::pin::Pin;
use std::sync::Arc;
use std::time::Instant;

use tokio::runtime::Handle;

use super::id::ServableId;
use super::loader::Loaded;
use super::observer::{Replayed, Silent};
use super::servable::{Context, Servable};
use crate::batch::Clock;
use crate::error::Result;

/// A replay under way.
pub type Replaying = Pin<Box<dyn Future<Output = Replayed> + Send>>;

/// Replays requests that come with a version.
pub trait WarmUp: Send + Sync + 'static {
    /// The file of requests in the version's folder (or beside its file) `version`, if there is one.
    fn requests(&self, version: &Path) -> Option<PathBuf>;
    /// Puts the requests in `file` to `servable`, which does not serve others yet.
    fn replay(&self, servable: Arc<Servable>, file: PathBuf) -> Replaying;
}

/// Replays the requests that come with a version that was loaded, on the calling thread.
///
/// # Errors
/// Those of the first request that fails, and of reading the file.
pub(super) fn warm<C: Clock>(
    id: &ServableId,
    loaded: &Loaded,
    version: &Path,
    context: &Context<C>,
    runtime: &Handle,
) -> Result<()> {
    let Some((warm_up, file)) = context.warm_up.as_ref().and_then(|w| Some((w, w.requests(version)?))) else {
        return Ok(());
    };
    // Such requests are in no statistics.
    let unseen = Context { observer: Arc::new(Silent), checker: None, ..context.clone() };
    let start = Instant::now();
    let replayed = runtime.block_on(async {
        let (servable, _) = Servable::start(id.clone(), loaded.clone(), &unseen);
        warm_up.replay(servable, file).await
    });
    context.observer.warmed(version, &replayed, start.elapsed());
    replayed.result
}
