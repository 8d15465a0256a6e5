//! Brings what is loaded in line with what is configured and found on disk. One task owns all of it, so there is no lock and
//! no order of events in which two loads or unloads of a version could meet.

use std::collections::{BTreeMap, BTreeSet};
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use arc_swap::ArcSwap;
use tokio::sync::{Semaphore, mpsc, oneshot, watch};

use super::config::ModelConfig;
use super::id::ServableId;
use super::loader::{Loaded, Loader};
use super::manager::{ManagerOptions, Serving, Versions};
use super::repository::scan;
use super::servable::{Context, Servable};
use super::state::{Board, ModelStatus, State, Status};
use crate::batch::Clock;
use crate::error::{Code, Error, Result};

/// Ended versions that a model's status still lists.
const ENDED_MAX: usize = 32;

/// A new configuration.
pub(super) struct Command {
    pub(super) configs: Vec<ModelConfig>,
    /// Told when it has been taken up.
    pub(super) done: oneshot::Sender<()>,
}

/// What load threads and dropped versions report.
enum Event {
    Loaded(ServableId, Result<Loaded>),
    Drained(ServableId),
}

/// One model: what is wanted and what is there.
struct Entry {
    /// `None` once it was taken out of the configuration.
    config: Option<ModelConfig>,
    /// Versions to be served.
    aspired: BTreeSet<i64>,
    loaded: BTreeMap<i64, Arc<Servable>>,
    status: ModelStatus,
}

impl Entry {
    fn set(&mut self, version: i64, state: State, error: Option<Error>) {
        self.status.versions.insert(version, Status { state, error });
    }

    fn state(&self, version: i64) -> Option<State> {
        self.status.versions.get(&version).map(|s| s.state)
    }

    /// Versions that may be unloaded: no longer wanted, and not the last that answers while a wanted one does not yet.
    fn surplus(&self) -> Vec<i64> {
        let replaced = self.aspired.is_empty() || self.aspired.iter().any(|v| self.loaded.contains_key(v));
        self.loaded.keys().copied().filter(|v| replaced && !self.aspired.contains(v)).collect()
    }

    /// Forgets the lowest versions that have ended, beyond so many.
    fn prune(&mut self) {
        let ended = self.status.versions.iter().filter(|(v, s)| s.state == State::End && !self.aspired.contains(v));
        let ended: Vec<_> = ended.map(|(v, _)| *v).collect();
        for version in &ended[..ended.len().saturating_sub(ENDED_MAX)] {
            self.status.versions.remove(version);
        }
    }
}

/// The task behind a manager.
pub(super) struct Reconciler<C> {
    options: ManagerOptions,
    loader: Arc<dyn Loader>,
    context: Context<C>,
    models: BTreeMap<Arc<str>, Entry>,
    serving: Arc<ArcSwap<Serving>>,
    board: watch::Sender<Board>,
    load_slots: Arc<Semaphore>,
    report: mpsc::UnboundedSender<Event>,
    /// Never holds more than one event for each version being loaded or unloaded.
    events: mpsc::UnboundedReceiver<Event>,
}

impl<C: Clock> Reconciler<C> {
    pub(super) fn new(
        configs: Vec<ModelConfig>,
        options: ManagerOptions,
        loader: Arc<dyn Loader>,
        context: Context<C>,
        serving: Arc<ArcSwap<Serving>>,
        board: watch::Sender<Board>,
    ) -> Self {
        let (report, events) = mpsc::unbounded_channel();
        let load_slots = Arc::new(Semaphore::new(options.load_threads.max(1)));
        let models = BTreeMap::new();
        let mut made = Self { options, loader, context, models, serving, board, load_slots, report, events };
        made.configure(configs);
        made
    }

    /// Works until the manager is dropped.
    pub(super) async fn work(mut self, mut commands: mpsc::Receiver<Command>) {
        self.look().await;
        loop {
            let poll = self.options.poll_interval;
            tokio::select! {
                command = commands.recv() => {
                    let Some(Command { configs, done }) = command else { return };
                    self.configure(configs);
                    self.look().await;
                    // Whoever asked may have gone; the configuration holds all the same.
                    let _ = done.send(());
                }
                Some(event) = self.events.recv() => {
                    if self.heed(event) {
                        self.look().await;
                    }
                }
                () = tokio::time::sleep(poll.unwrap_or_default()), if poll.is_some() => self.look().await,
            }
        }
    }

    fn configure(&mut self, configs: Vec<ModelConfig>) {
        for entry in self.models.values_mut() {
            entry.config = None;
        }
        for config in configs {
            let entry = self.models.entry(config.name.as_str().into()).or_insert_with(|| Entry {
                config: None,
                aspired: BTreeSet::new(),
                loaded: BTreeMap::new(),
                status: ModelStatus::default(),
            });
            entry.config = Some(config);
        }
        self.publish();
    }

    /// Reads the folders and starts what follows from them.
    async fn look(&mut self) {
        let bases =
            self.models.iter().filter_map(|(name, e)| Some((Arc::clone(name), e.config.as_ref()?.base_path.clone())));
        let bases: Vec<(Arc<str>, PathBuf)> = bases.collect();
        let scans = tokio::task::spawn_blocking(move || {
            bases.into_iter().map(|(name, base)| (name, scan(&base))).collect::<BTreeMap<_, _>>()
        });
        let Ok(mut scans) = scans.await else { return };
        let names: Vec<_> = self.models.keys().cloned().collect();
        for name in names {
            let found = scans.remove(&name).unwrap_or_else(|| Ok(BTreeMap::new()));
            self.aspire(&name, found);
        }
        self.publish();
    }

    /// Takes up what was found in one model's folder.
    fn aspire(&mut self, name: &Arc<str>, found: Result<BTreeMap<i64, PathBuf>>) {
        let Some(entry) = self.models.get_mut(name) else { return };
        entry.status.scanned = true;
        // A folder that cannot be read changes nothing of what is served, for this model or another.
        let found = match found {
            Ok(found) => found,
            Err(error) => return note(name, entry, Some(error)),
        };
        let config = entry.config.clone();
        let wanted =
            config.as_ref().map_or_else(Vec::new, |c| c.version_policy.select(found.keys().copied().collect()));
        let problem = config.as_ref().filter(|_| wanted.is_empty()).map(|config| {
            Error::not_found(format!(
                "no version to serve in {}: it needs a folder named by a number that holds model.onnx",
                config.base_path.display()
            ))
        });
        note(name, entry, problem);
        let before = std::mem::replace(&mut entry.aspired, wanted.iter().copied().collect());
        let mut starting = Vec::new();
        for version in wanted {
            let again = entry.state(version) == Some(State::End) && !before.contains(&version);
            if entry.state(version).is_none() || again {
                entry.set(version, State::Start, None);
                starting.push(version);
            }
        }
        entry.prune();
        if let Some(config) = config {
            for version in starting {
                let id = ServableId { name: Arc::clone(name), version };
                self.load(id, found[&version].clone(), config.clone());
            }
        }
        self.retire(name);
    }

    /// Loads a version on a thread of its own, when one of the load slots is free.
    fn load(&mut self, id: ServableId, path: PathBuf, config: ModelConfig) {
        if let Some(entry) = self.models.get_mut(&id.name) {
            entry.set(id.version, State::Loading, None);
        }
        let (loader, slots, report) = (Arc::clone(&self.loader), Arc::clone(&self.load_slots), self.report.clone());
        let (retries, interval) = (self.options.load_retries_max, self.options.load_retry_interval);
        tokio::spawn(async move {
            let attempt = Attempt { id: id.clone(), path, config, loader, slots };
            let loaded = attempt.with_retries(retries, interval).await;
            // The manager may have been dropped; then nobody needs the model.
            let _ = report.send(Event::Loaded(id, loaded));
        });
    }

    /// Takes up an event; whether the folders must be read again because of it.
    fn heed(&mut self, event: Event) -> bool {
        let mut wanted_again = false;
        match event {
            Event::Loaded(id, Ok(loaded)) => self.serve(id, loaded),
            Event::Loaded(id, Err(error)) => {
                tracing::error!(model = %id.name, version = id.version, code = error.code().name(), "not loaded: {error}");
                if let Some(entry) = self.models.get_mut(&id.name) {
                    entry.set(id.version, State::End, Some(error));
                }
            }
            Event::Drained(id) => {
                tracing::info!(model = %id.name, version = id.version, "unloaded");
                if let Some(entry) = self.models.get_mut(&id.name) {
                    entry.set(id.version, State::End, None);
                    // It came back while its last requests were being answered.
                    wanted_again = entry.aspired.remove(&id.version);
                }
            }
        }
        self.publish();
        wanted_again
    }

    /// Makes a loaded version answer requests, unless it is no longer wanted.
    fn serve(&mut self, id: ServableId, loaded: Loaded) {
        let Some(entry) = self.models.get_mut(&id.name) else { return };
        let Some(config) = entry.config.as_ref().filter(|_| entry.aspired.contains(&id.version)) else {
            entry.set(id.version, State::End, None);
            return;
        };
        let (servable, ended) = Servable::start(id.clone(), loaded, config.batching.clone(), &self.context);
        let (report, drained) = (self.report.clone(), id.clone());
        tokio::spawn(async move {
            // The sender is dropped, never used: the error is the news.
            let _ = ended.await;
            let _ = report.send(Event::Drained(drained));
        });
        tracing::info!(model = %id.name, version = id.version, "available");
        entry.loaded.insert(id.version, servable);
        entry.set(id.version, State::Available, None);
        self.retire(&id.name);
    }

    /// Takes versions that are no longer wanted out of service. Requests being answered hold them; the last lets go.
    fn retire(&mut self, name: &Arc<str>) {
        let Some(entry) = self.models.get_mut(name) else { return };
        let surplus: Vec<_> = entry.surplus().into_iter().filter_map(|v| entry.loaded.remove_entry(&v)).collect();
        for (version, _) in &surplus {
            entry.set(*version, State::Unloading, None);
        }
        // Published before they are let go, so that no request finds a version that is being unloaded.
        self.publish();
    }

    /// Lets requests and watchers see how things are.
    fn publish(&mut self) {
        self.models.retain(|_, entry| {
            entry.config.is_some() || !entry.status.versions.values().all(|status| status.state == State::End)
        });
        let serving = self.models.iter().map(|(name, entry)| {
            let labels = entry.config.as_ref().map(|c| c.labels.clone()).unwrap_or_default();
            (Arc::clone(name), Versions { loaded: entry.loaded.clone(), labels })
        });
        self.serving.store(Arc::new(serving.collect()));
        let models = self.models.iter().map(|(name, entry)| (Arc::clone(name), entry.status.clone())).collect();
        self.board.send_replace(Board { models, is_configured: true });
    }
}

/// Keeps the reason why a model has nothing to serve, and logs it when it is new.
fn note(name: &str, entry: &mut Entry, problem: Option<Error>) {
    let text = |error: &Option<Error>| error.as_ref().map(|e| e.message().to_string());
    if text(&problem) != text(&entry.status.error)
        && let Some(error) = &problem
    {
        tracing::warn!(model = name, "{error}");
    }
    entry.status.error = problem;
}

/// One version to be loaded.
struct Attempt {
    id: ServableId,
    path: PathBuf,
    config: ModelConfig,
    loader: Arc<dyn Loader>,
    slots: Arc<Semaphore>,
}

impl Attempt {
    async fn with_retries(self, retries_max: usize, interval: Duration) -> Result<Loaded> {
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
        let attempt = Arc::clone(&self);
        std::thread::Builder::new().name(format!("load {}", self.id)).spawn(move || {
            // Fails only when the manager is gone.
            let _ = send.send(attempt.loader.load(&attempt.id, &attempt.path, &attempt.config));
        })?;
        receive.await.unwrap_or_else(|_| Err(Error::internal(format!("loading {} panicked", self.id))))
    }
}

/// Whether a failed load may succeed later: the files could not be read, or not all of them were there yet.
fn may_pass(error: &Error) -> bool {
    let from_reading = std::error::Error::source(error).is_some_and(|source| source.is::<std::io::Error>());
    error.code() == Code::Unavailable || from_reading
}
