//! Brings what is loaded in line with what is configured and found on disk. One task owns all of it, so there is no lock and
//! no order of events in which two loads or unloads of a version could meet.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use arc_swap::ArcSwap;
use tokio::sync::{Notify, Semaphore, mpsc, oneshot, watch};
use tokio::time::Instant;

use super::aspired::{Aspired, Fingerprint, Found, Look};
use super::attempt::Attempt;
use super::config::{ModelConfig, Transition};
use super::entry::Entry;
use super::id::ServableId;
use super::loader::{Loaded, Loader};
use super::manager::{ManagerOptions, Serving, Versions};
use super::reload::check_platforms;
use super::room::Wish;
use super::servable::{Context, Servable};
use super::state::{Board, State};
use super::watcher::Watcher;
use crate::batch::Clock;
use crate::error::{Error, Result};

/// How long changes in folders are gathered before they are read.
const GATHER: Duration = Duration::from_millis(50);

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

/// The task behind a manager.
pub(super) struct Reconciler<C> {
    pub(super) options: ManagerOptions,
    loader: Arc<dyn Loader>,
    context: Context<C>,
    pub(super) models: BTreeMap<Arc<str>, Entry>,
    serving: Arc<ArcSwap<Serving>>,
    board: watch::Sender<Board>,
    load_slots: Arc<Semaphore>,
    /// `None` where nothing is watched.
    watcher: Option<Watcher>,
    changed: Arc<Notify>,
    /// When the folders are to be read because something has changed in them.
    due: Option<Instant>,
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
        let changed = Arc::new(Notify::new());
        let watcher = options.watch.then(|| Watcher::start(Arc::clone(&changed)));
        let (models, due) = (BTreeMap::new(), None);
        let mut made = Self {
            options,
            loader,
            context,
            models,
            serving,
            board,
            load_slots,
            watcher,
            changed,
            due,
            report,
            events,
        };
        made.configure(configs);
        made
    }

    /// Works until the manager is dropped.
    pub(super) async fn work(mut self, mut commands: mpsc::Receiver<Command>, mut wishes: mpsc::Receiver<Wish>) {
        self.look().await;
        let changed = Arc::clone(&self.changed);
        loop {
            let poll = self.next_look();
            tokio::select! {
                // More changes mostly follow the first: all of them are read at once.
                () = changed.notified() => {
                    self.due.get_or_insert_with(|| Instant::now() + GATHER);
                }
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
                Some(Wish { id, begun }) = wishes.recv() => {
                    if self.wake(&id) {
                        self.look().await;
                    }
                    // Whoever wished may have gone.
                    let _ = begun.send(());
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
        let due = self.due.map(|due| due.saturating_duration_since(Instant::now()));
        self.options.poll_interval.into_iter().chain(settle).chain(due).min()
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
            let entry = self.models.entry(config.name.as_str().into()).or_default();
            if entry.last_base.as_ref().is_some_and(|base| *base != config.base_path) {
                entry.stale = entry.loaded.keys().copied().collect();
            }
            entry.last_base = Some(config.base_path.clone());
            self.loader.configured(&config);
            entry.loaded.values().for_each(|servable| servable.set_logging(config.logging.clone()));
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
        let mut watcher = self.watcher.take();
        self.due = None;
        let scans = tokio::task::spawn_blocking(move || {
            // Watched before it is read: what changes meanwhile is told.
            if let Some(watcher) = &mut watcher {
                let bases: Vec<PathBuf> = asked.iter().map(|(_, base, ..)| base.clone()).collect();
                watcher.follow(&bases);
            }
            let look = |(name, base, policy, known, unsettled): (Arc<str>, PathBuf, _, _, _)| {
                let look = Look { policy: &policy, known: &known, unsettled: &unsettled, settle };
                (name, look.at(&base))
            };
            (asked.into_iter().map(look).collect::<BTreeMap<_, _>>(), watcher)
        });
        let Ok((mut scans, watcher)) = scans.await else { return };
        self.watcher = watcher;
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
                    && !s.idle
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
            entry.advance(id.version, State::Loading);
            entry.tried.extend(files.map(|files| (id.version, files)));
        }
        let (loader, slots, report) = (Arc::clone(&self.loader), Arc::clone(&self.load_slots), self.report.clone());
        let (retries, interval) = (self.options.load_retries_max, self.options.load_retry_interval);
        let context = self.context.clone();
        tokio::spawn(async move {
            let attempt = Attempt { id: id.clone(), path, config, loader, context, slots };
            let loaded = attempt.with_retries(retries, interval).await;
            // The manager may have been dropped; then nobody needs the model.
            let _ = report.send(Event::Loaded(id, loaded.map(Box::new)));
        });
    }

    /// Takes up an event; whether the folders must be read again because of it.
    fn heed(&mut self, event: Event) -> bool {
        let mut came_back = false;
        match event {
            Event::Loaded(id, Ok(loaded)) => self.serve(id, *loaded),
            Event::Loaded(id, Err(error)) => {
                if self.make_room(&id, &error) {
                    self.publish();
                    // It is tried again when something has gone or come.
                    return false;
                }
                tracing::error!(model = %id.name, version = id.version, code = error.code().name(), "not loaded: {error}");
                if let Some(entry) = self.models.get_mut(&id.name) {
                    let serves = entry.loaded.contains_key(&id.version);
                    let state = if serves { State::Available } else { State::End };
                    match entry.is_idle(id.version) {
                        true => entry.set_idle(id.version, state, Some(error)),
                        false => entry.set(id.version, state, Some(error)),
                    }
                }
            }
            Event::Drained(id) => {
                tracing::info!(model = %id.name, version = id.version, "unloaded");
                // One that another has taken the place of says nothing of it.
                let gone = self.models.get_mut(&id.name).filter(|entry| !entry.loaded.contains_key(&id.version));
                if let Some(entry) = gone {
                    entry.stale.remove(&id.version);
                    entry.advance(id.version, State::End);
                    // Perhaps while its last requests were being answered.
                    came_back = entry.status.aspired.contains(&id.version) && !entry.is_idle(id.version);
                }
                self.retry_for_room();
            }
        }
        self.publish();
        // Others may have waited for this one's memory.
        came_back || self.any_in(State::Start)
    }

    /// Makes a loaded version answer requests, unless it is no longer wanted.
    fn serve(&mut self, id: ServableId, loaded: Loaded) {
        let Some(entry) = self.models.get_mut(&id.name) else { return };
        let wanted = entry.config.as_ref().filter(|_| entry.status.aspired.contains(&id.version));
        let Some(logging) = wanted.map(|config| config.logging.clone()) else {
            entry.set(id.version, State::End, None);
            return;
        };
        let released = loaded.model.released();
        let (servable, ended) = Servable::start(id.clone(), loaded, &self.context);
        servable.set_logging(logging);
        let (report, drained) = (self.report.clone(), id.clone());
        tokio::spawn(async move {
            // The senders are dropped, never used: the error is the news.
            let _ = ended.await;
            for released in released {
                let _ = released.await;
            }
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
    pub(super) fn publish(&mut self) {
        self.models.retain(|_, entry| {
            entry.config.is_some() || !entry.status.versions.values().all(|status| status.state == State::End)
        });
        let lenient = self.options.lenient_labels;
        let serving = self.models.iter_mut().map(|(name, entry)| {
            entry.label(lenient);
            (Arc::clone(name), Versions { loaded: entry.loaded.clone(), labels: entry.labels.clone() })
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
