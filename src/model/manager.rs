//! The loaded versions, as requests and status calls see them.

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;
use std::time::Duration;

use arc_swap::ArcSwap;
use tokio::sync::{mpsc, oneshot, watch};

use super::config::{ModelConfig, Transition, check_logging};
use super::id::VersionChoice;
use super::loader::Loader;
use super::reconcile::{Command, Reconciler};
use super::reload::check;
use super::room::Wish;
use super::servable::{Context, Servable};
use super::state::{Board, Status};
use crate::batch::Clock;
use crate::error::{Error, Result};

/// Wishes that wait to be heard; those who have more wait to tell them.
const WISHES_MAX: usize = 64;

/// How versions are found and loaded.
#[derive(Clone, Debug)]
pub struct ManagerOptions {
    /// Time between looks at the folders; `None`: once, at start and at each new configuration.
    pub poll_interval: Option<Duration>,
    /// Whether the system is asked to tell of changes in the folders, which are then looked at too.
    pub watch: bool,
    /// Versions that are loaded at a time, at least 1.
    pub load_threads: usize,
    /// How often a load that failed on reading files is tried again.
    pub load_retries_max: usize,
    /// Time between tries.
    pub load_retry_interval: Duration,
    /// How long nothing in a version's folder may have changed before it counts.
    pub settle: Duration,
    /// What happens to versions that are replaced.
    pub transition: Transition,
    /// Labels may stand for versions that are not available.
    pub lenient_labels: bool,
    /// Where device memory does not suffice for a load, versions of other models go, the one asked for least lately first; they
    /// are loaded again when they are asked for.
    pub unload_idle: bool,
    /// Whether there is a place to write requests down; else no model may want that.
    pub logs_requests: bool,
}

impl Default for ManagerOptions {
    fn default() -> Self {
        Self {
            poll_interval: Some(Duration::from_secs(1)),
            watch: true,
            load_threads: 2,
            load_retries_max: 5,
            load_retry_interval: Duration::from_secs(1),
            settle: Duration::from_secs(1),
            transition: Transition::default(),
            lenient_labels: false,
            unload_idle: false,
            logs_requests: false,
        }
    }
}

/// The versions of one model that answer requests.
#[derive(Default)]
pub(super) struct Versions {
    pub(super) loaded: BTreeMap<i64, Arc<Servable>>,
    pub(super) labels: BTreeMap<String, i64>,
}

/// All that answers requests; replaced as a whole, so that readers never wait.
pub(super) type Serving = HashMap<Arc<str>, Versions>;

/// Serves the configured models. Its methods never block; the work is done by a task.
pub struct Manager {
    serving: Arc<ArcSwap<Serving>>,
    board: watch::Receiver<Board>,
    commands: mpsc::Sender<Command>,
    /// Versions to be loaded again.
    pub(super) wanted: mpsc::Sender<Wish>,
    pub(super) options: ManagerOptions,
}

impl Manager {
    /// Starts to load `configs` on the current runtime.
    ///
    /// # Errors
    /// `INVALID_ARGUMENT` when a model has no name or one that is not allowed, stands twice, or has no folder.
    pub fn start<C: Clock>(
        configs: Vec<ModelConfig>,
        options: ManagerOptions,
        loader: Arc<dyn Loader>,
        context: Context<C>,
    ) -> Result<Self> {
        check(&configs)?;
        check_logging(&configs, options.logs_requests)?;
        let serving = Arc::new(ArcSwap::from_pointee(Serving::new()));
        let (publish, board) = watch::channel(Board::default());
        let (commands, orders) = mpsc::channel(1);
        let reconciler = Reconciler::new(configs, options.clone(), loader, context, Arc::clone(&serving), publish);
        let (wanted, wishes) = mpsc::channel(WISHES_MAX);
        tokio::spawn(reconciler.work(orders, wishes));
        Ok(Self { serving, board, commands, wanted, options })
    }

    /// A loaded version; it stays loaded while it is held.
    ///
    /// # Errors
    /// `NOT_FOUND` when no such version is loaded, `INVALID_ARGUMENT` for an unknown label.
    pub fn servable(&self, name: &str, choice: &VersionChoice) -> Result<Arc<Servable>> {
        let serving = self.serving.load();
        let versions = serving.get(name);
        let specific = |version: i64| {
            versions
                .and_then(|v| v.loaded.get(&version))
                .cloned()
                .ok_or_else(|| Error::not_found(format!("Servable not found for request: Specific({name}, {version})")))
        };
        match choice {
            VersionChoice::Latest => versions
                .and_then(|v| v.loaded.last_key_value())
                .map(|(_, servable)| Arc::clone(servable))
                .ok_or_else(|| Error::not_found(format!("Servable not found for request: Latest({name})"))),
            VersionChoice::Specific(version) => specific(*version),
            VersionChoice::Label(label) => match versions.and_then(|v| v.labels.get(label)) {
                Some(version) => specific(*version),
                None => Err(Error::invalid_argument(format!("Unrecognized servable version label: {label}"))),
            },
        }
    }

    /// The states of a model's versions, highest first, or of one of them.
    ///
    /// # Errors
    /// `NOT_FOUND` when nothing is known of the model or the version.
    pub fn status(&self, name: &str, version: Option<i64>) -> Result<Vec<(i64, Status)>> {
        let board = self.board.borrow();
        let versions = board.models.get(name).map(|model| &model.versions).filter(|v| !v.is_empty());
        let Some(versions) = versions else {
            return Err(Error::not_found(format!("Could not find any versions of model {name}")));
        };
        match version {
            None => Ok(versions.iter().rev().map(|(v, status)| (*v, status.clone())).collect()),
            Some(v) => match versions.get(&v) {
                Some(status) => Ok(vec![(v, status.clone())]),
                None => Err(Error::not_found(format!("Could not find version {v} of model {name}"))),
            },
        }
    }

    /// The states of all models, and their changes.
    pub fn watch(&self) -> watch::Receiver<Board> {
        self.board.clone()
    }

    /// The version that a label of a model stands for.
    ///
    /// # Errors
    /// `INVALID_ARGUMENT` for an unknown label.
    pub fn labelled(&self, name: &str, label: &str) -> Result<i64> {
        let serving = self.serving.load();
        let version = serving.get(name).and_then(|v| v.labels.get(label).copied());
        version.ok_or_else(|| Error::invalid_argument(format!("Unrecognized servable version label: {label}")))
    }

    /// Waits until every configured model is available or has failed for good.
    ///
    /// # Errors
    /// `UNAVAILABLE` when the manager's task has ended.
    pub async fn settled(&self) -> Result<Board> {
        let mut board = self.board.clone();
        let settled = board.wait_for(|board| board.is_configured && board.is_settled()).await;
        settled.map(|board| board.clone()).map_err(|_| stopped())
    }

    /// Replaces the configuration: new models are loaded, those left out are unloaded once their requests are answered.
    /// Returns when the folders have been read and the work has been started.
    ///
    /// # Errors
    /// As [`Manager::start`], and when a model's platform would change; then nothing does.
    pub async fn reconfigure(&self, configs: Vec<ModelConfig>) -> Result<()> {
        check(&configs)?;
        check_logging(&configs, self.options.logs_requests)?;
        let (done, applied) = oneshot::channel();
        self.commands.send(Command { configs, done }).await.map_err(|_| stopped())?;
        applied.await.map_err(|_| stopped())?
    }

    /// Unloads everything: takes no more requests and waits until those being answered are.
    ///
    /// # Errors
    /// `UNAVAILABLE` when the manager's task has ended.
    pub async fn shut_down(&self) -> Result<()> {
        self.reconfigure(Vec::new()).await?;
        let mut board = self.board.clone();
        let empty = board.wait_for(|board| board.models.is_empty()).await;
        empty.map(|_| ()).map_err(|_| stopped())
    }
}

fn stopped() -> Error {
    Error::unavailable("the model manager has stopped")
}

#[cfg(test)]
mod tests;
