//! Brings what is loaded in line with what is configured and found on disk. One task owns all of it, so there is no lock and
//! no order of events in which two loads or unloads of a version could meet.

use std::collections::{BTreeMap, BTreeSet};
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use arc_swap::ArcSwap;
use tokio::sync::{Semaphore, mpsc, oneshot, watch};

use super::aspired::{Aspired, Fingerprint, Found, Look, Unsettled};
use super::attempt::Attempt;
use super::config::{ModelConfig, Transition};
use super::id::ServableId;
use super::loader::{Loaded, Loader};
use super::manager::{ManagerOptions, Serving, Versions};
use super::reload::check_platforms;
use super::servable::{Context, Servable};
use super::state::{Board, ModelStatus, State, Status};
use crate::batch::Clock;
use crate::error::{Error, Result};

/// Ended versions that a model's status still lists.
const ENDED_MAX: usize = 32;

/// A new configuration.
pub(super) struct Command {
    pub(super) configs: Vec<ModelConfig>,
    /// Told when it has been taken up, or why not.
    pub(super) done: oneshot::Sender<Result<()>>,
}

/// What load threads and dropped versions report.
enum Event {
    Loaded(ServableId, Result<Box<Loaded>>),
    Drained(ServableId),
}

/// One model: what is wanted and what is there.
struct Entry {
    /// `None` once it was taken out of the configuration.
    config: Option<ModelConfig>,
    /// How the files of versions looked when their load began.
    tried: BTreeMap<i64, Fingerprint>,
    /// Versions that are being written.
    unsettled: Unsettled,
    last_base: Option<PathBuf>,
    /// Versions that were loaded from a folder that is no longer the model's.
    stale: BTreeSet<i64>,
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
    fn surplus(&self, transition: Transition) -> Vec<i64> {
        let aspired = &self.status.aspired;
        let may = match (&self.config, transition) {
            (None, _) => true,
            // What is wanted and cannot be had replaces nothing.
            (Some(_), _) if aspired.is_empty() => false,
            (Some(_), Transition::SaveMemory) => true,
            (Some(_), Transition::KeepServing) => aspired.iter().any(|v| self.loaded.contains_key(v)),
        };
        let goes = |version: &i64| {
            let moved = transition == Transition::SaveMemory && self.stale.contains(version);
            may && (moved || !aspired.contains(version))
        };
        self.loaded.keys().copied().filter(goes).collect()
    }

    /// Versions that are loaded, being loaded, or being unloaded.
    fn known(&self) -> BTreeSet<i64> {
        let alive = self.status.versions.iter().filter(|(_, s)| !matches!(s.state, State::Start | State::End));
        alive.map(|(version, _)| *version).filter(|version| !self.stale.contains(version)).collect()
    }

    /// Whether a version that is to be served must wait until others are gone.
    fn must_wait(&self, transition: Transition) -> bool {
        let is_leaving = |(version, status): (&i64, &Status)| {
            status.state == State::Unloading
                || (status.state == State::Available && !self.status.aspired.contains(version))
        };
        transition == Transition::SaveMemory && self.status.versions.iter().any(is_leaving)
    }

    /// Forgets the lowest versions that have ended, beyond so many.
    fn prune(&mut self) {
        let is_over = |(v, s): &(&i64, &Status)| s.state == State::End && !self.status.aspired.contains(v);
        let ended = self.status.versions.iter().filter(is_over);
        let ended: Vec<_> = ended.map(|(v, _)| *v).collect();
        for version in &ended[..ended.len().saturating_sub(ENDED_MAX)] {
            self.status.versions.remove(version);
            self.tried.remove(version);
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
            let poll = self.next_look();
            tokio::select! {
                command = commands.recv() => {
                    let Some(Command { configs, done }) = command else { return };
                    let checked = check_platforms(&self.platforms(), &configs);
                    if checked.is_ok() {
                        self.configure(configs);
                        self.look().await;
                    }
                    // Whoever asked may have gone; the configuration holds all the same.
                    let _ = done.send(checked);
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

    /// Time until the folders are to be read again.
    fn next_look(&self) -> Option<Duration> {
        let settling = self.models.values().any(|entry| !entry.unsettled.is_empty());
        let settle = settling.then_some(self.options.settle);
        self.options.poll_interval.into_iter().chain(settle).min()
    }

    fn platforms(&self) -> BTreeMap<Arc<str>, String> {
        let of = |(name, entry): (&Arc<str>, &Entry)| Some((Arc::clone(name), entry.config.as_ref()?.platform.clone()));
        self.models.iter().filter_map(of).collect()
    }

    fn configure(&mut self, configs: Vec<ModelConfig>) {
        for entry in self.models.values_mut() {
            entry.config = None;
        }
        for config in configs {
            let entry = self.models.entry(config.name.as_str().into()).or_insert_with(|| Entry {
                config: None,
                tried: BTreeMap::new(),
                unsettled: Unsettled::new(),
                last_base: None,
                stale: BTreeSet::new(),
                loaded: BTreeMap::new(),
                status: ModelStatus::default(),
            });
            if entry.last_base.as_ref().is_some_and(|base| *base != config.base_path) {
                entry.stale = entry.loaded.keys().copied().collect();
            }
            entry.last_base = Some(config.base_path.clone());
            entry.config = Some(config);
        }
        self.publish();
    }

    /// Reads the folders and starts what follows from them.
    async fn look(&mut self) {
        let asked = self.models.iter().filter_map(|(name, entry)| {
            let config = entry.config.as_ref()?;
            let (base, policy) = (config.base_path.clone(), config.version_policy.clone());
            Some((Arc::clone(name), base, policy, entry.known(), entry.unsettled.clone()))
        });
        let (asked, settle): (Vec<_>, _) = (asked.collect(), self.options.settle);
        let scans = tokio::task::spawn_blocking(move || {
            let look = |(name, base, policy, known, unsettled): (Arc<str>, PathBuf, _, _, _)| {
                let look = Look { policy: &policy, known: &known, unsettled: &unsettled, settle };
                (name, look.at(&base))
            };
            asked.into_iter().map(look).collect::<BTreeMap<_, _>>()
        });
        let Ok(mut scans) = scans.await else { return };
        let names: Vec<_> = self.models.keys().cloned().collect();
        for name in names {
            let found = scans.remove(&name).unwrap_or_else(|| Ok(Aspired::default()));
            self.aspire(&name, found);
        }
        self.publish();
    }

    /// Takes up what was found in one model's folder.
    fn aspire(&mut self, name: &Arc<str>, found: Result<Aspired>) {
        let transition = self.options.transition;
        let Some(entry) = self.models.get_mut(name) else { return };
        entry.status.scanned = true;
        // A folder that cannot be read changes nothing of what is served, for this model or another.
        let found = match found {
            Ok(found) => found,
            Err(error) => return note(name, entry, Some(error)),
        };
        entry.status.unsettled = !found.unsettled.is_empty();
        let nothing = found.versions.is_empty() && !entry.status.unsettled;
        let problem = entry.config.as_ref().filter(|_| nothing).map(|config| {
            Error::not_found(format!(
                "no version to serve in {}: it needs a folder named by a number that holds model.onnx",
                config.base_path.display()
            ))
        });
        note(name, entry, problem);
        entry.unsettled = found.unsettled;
        if !(entry.config.is_some() && found.versions.is_empty()) {
            entry.status.aspired = found.versions.iter().map(|found| found.version).collect();
        }
        for Found { version, files, .. } in &found.versions {
            let moved = entry.stale.contains(version) && entry.state(*version) == Some(State::Available);
            if moved && transition == Transition::KeepServing {
                // The new one takes its place when it is loaded.
                entry.stale.remove(version);
                entry.set(*version, State::Start, None);
            }
            let status = entry.status.versions.get(version);
            // One that failed is tried again when its files change; one that was unloaded, when it is wanted again.
            let again = status.is_some_and(|s| {
                s.state == State::End
                    && (s.error.is_none() || files.is_some_and(|f| entry.tried.get(version) != Some(&f)))
            });
            if status.is_none() || again {
                entry.set(*version, State::Start, None);
            }
        }
        entry.prune();
        self.retire(name);
        let Some(entry) = self.models.get_mut(name).filter(|entry| !entry.must_wait(transition)) else { return };
        let Some(config) = entry.config.clone() else { return };
        let starting = found.versions.into_iter().filter(|found| entry.state(found.version) == Some(State::Start));
        let starting: Vec<_> = starting.collect();
        for Found { version, path, files } in starting {
            self.load(ServableId { name: Arc::clone(name), version }, path, files, config.clone());
        }
    }

    /// Loads a version on a thread of its own, when one of the load slots is free.
    fn load(&mut self, id: ServableId, path: PathBuf, files: Option<Fingerprint>, config: ModelConfig) {
        if let Some(entry) = self.models.get_mut(&id.name) {
            entry.set(id.version, State::Loading, None);
            entry.tried.extend(files.map(|files| (id.version, files)));
        }
        let (loader, slots, report) = (Arc::clone(&self.loader), Arc::clone(&self.load_slots), self.report.clone());
        let (retries, interval) = (self.options.load_retries_max, self.options.load_retry_interval);
        tokio::spawn(async move {
            let attempt = Attempt { id: id.clone(), path, config, loader, slots };
            let loaded = attempt.with_retries(retries, interval).await;
            // The manager may have been dropped; then nobody needs the model.
            let _ = report.send(Event::Loaded(id, loaded.map(Box::new)));
        });
    }

    /// Takes up an event; whether the folders must be read again because of it.
    fn heed(&mut self, event: Event) -> bool {
        let mut wanted_again = false;
        match event {
            Event::Loaded(id, Ok(loaded)) => self.serve(id, *loaded),
            Event::Loaded(id, Err(error)) => {
                tracing::error!(model = %id.name, version = id.version, code = error.code().name(), "not loaded: {error}");
                if let Some(entry) = self.models.get_mut(&id.name) {
                    let serves = entry.loaded.contains_key(&id.version);
                    entry.set(id.version, if serves { State::Available } else { State::End }, Some(error));
                }
            }
            Event::Drained(id) => {
                tracing::info!(model = %id.name, version = id.version, "unloaded");
                // One that another has taken the place of says nothing of it.
                let gone = self.models.get_mut(&id.name).filter(|entry| !entry.loaded.contains_key(&id.version));
                if let Some(entry) = gone {
                    entry.stale.remove(&id.version);
                    entry.set(id.version, State::End, None);
                    // It came back while its last requests were being answered, or others wait for its memory.
                    wanted_again = entry.status.aspired.contains(&id.version)
                        || entry.status.versions.values().any(|status| status.state == State::Start);
                }
            }
        }
        self.publish();
        wanted_again
    }

    /// Makes a loaded version answer requests, unless it is no longer wanted.
    fn serve(&mut self, id: ServableId, loaded: Loaded) {
        let Some(entry) = self.models.get_mut(&id.name) else { return };
        if entry.config.is_none() || !entry.status.aspired.contains(&id.version) {
            entry.set(id.version, State::End, None);
            return;
        }
        let (servable, ended) = Servable::start(id.clone(), loaded, &self.context);
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
        let transition = self.options.transition;
        let Some(entry) = self.models.get_mut(name) else { return };
        let surplus: Vec<_> =
            entry.surplus(transition).into_iter().filter_map(|v| entry.loaded.remove_entry(&v)).collect();
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
