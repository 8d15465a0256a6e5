//! Making room in the device's memory: versions that nobody has asked for lately go, and come back when they are asked for.

use std::sync::Arc;
use std::time::Instant;

use tokio::sync::oneshot;

use super::entry::Entry;
use super::id::{ServableId, VersionChoice};
use super::manager::Manager;
use super::reconcile::Reconciler;
use super::servable::Servable;
use super::state::{Board, State, Status};
use crate::batch::Clock;
use crate::engine::NoRoom;
use crate::error::{Code, Error, Result};

/// That a version is to be loaded again.
pub(super) struct Wish {
    pub(super) id: ServableId,
    /// Told when that has begun.
    pub(super) begun: oneshot::Sender<()>,
}

/// Whether a load failed because others hold the memory that it needs.
fn needs_room(error: &Error) -> bool {
    std::error::Error::source(error).is_some_and(|source| source.is::<NoRoom>())
}

impl<C: Clock> Reconciler<C> {
    /// Where a load failed for want of memory, has the version that was not asked for longest go, of another model; the load
    /// is tried again when it has gone. False where that is not wanted, would not help, or nothing can go.
    pub(super) fn make_room(&mut self, id: &ServableId, error: &Error) -> bool {
        let is_wanted = |entry: &&Entry| entry.config.is_some() && entry.status.aspired.contains(&id.version);
        let wanted = self.models.get(&id.name).filter(is_wanted).is_some();
        if !self.options.unload_idle || !wanted || !needs_room(error) {
            return false;
        }
        if let Some(entry) = self.models.get_mut(&id.name) {
            entry.advance(id.version, State::Start);
        }
        // Who is on the way out makes room; who is on the way in may have to, but not before it serves.
        self.any_in(State::Unloading) || self.unload_least_used(id) || self.any_in(State::Loading)
    }

    /// Whether any version, of whatever model, is in this state.
    pub(super) fn any_in(&self, state: State) -> bool {
        self.models.values().any(|entry| entry.status.versions.values().any(|status| status.state == state))
    }

    fn unload_least_used(&mut self, newcomer: &ServableId) -> bool {
        let others = self.models.iter().filter(|(name, _)| **name != newcomer.name);
        let candidates = others.flat_map(|(_, entry)| entry.loaded.values());
        let Some(id) = candidates.min_by_key(|servable| servable.last_used()).map(|servable| servable.id().clone())
        else {
            return false;
        };
        tracing::info!(model = %id.name, version = id.version, "unloaded to make room for {newcomer}, until it is asked for");
        let Some(entry) = self.models.get_mut(&id.name) else { return false };
        let gone = entry.loaded.remove(&id.version);
        entry.set_idle(id.version, State::Unloading, None);
        // Published before it is let go, so that no request finds it.
        self.publish();
        drop(gone);
        true
    }

    /// Tries those again that failed for want of memory, now that some was given back.
    pub(super) fn retry_for_room(&mut self) {
        for entry in self.models.values_mut() {
            let failed = |status: &Status| {
                status.state == State::End && !status.idle && status.error.as_ref().is_some_and(needs_room)
            };
            let again: Vec<i64> = entry
                .status
                .versions
                .iter()
                .filter(|(_, status)| failed(status))
                .map(|(version, _)| *version)
                .collect();
            for version in again {
                entry.set(version, State::Start, None);
            }
        }
    }

    /// Has a version loaded again that was unloaded to make room. Whether there is something to load.
    pub(super) fn wake(&mut self, id: &ServableId) -> bool {
        let Some(entry) = self.models.get_mut(&id.name).filter(|entry| entry.is_idle(id.version)) else { return false };
        match entry.state(id.version) {
            Some(State::End) => entry.advance(id.version, State::Start),
            // It comes back as soon as it has gone.
            Some(State::Unloading) => entry.set(id.version, State::Unloading, None),
            _ => return false,
        }
        true
    }
}

impl Manager {
    /// As [`Manager::servable`]; a version that was unloaded to make room is loaded again first, which is waited for until
    /// `deadline`.
    ///
    /// # Errors
    /// Those of [`Manager::servable`], `DEADLINE_EXCEEDED`, or what kept it from being loaded again.
    pub async fn servable_by(
        &self,
        name: &str,
        choice: &VersionChoice,
        deadline: Option<Instant>,
    ) -> Result<Arc<Servable>> {
        let missing = match self.servable(name, choice) {
            Ok(servable) => return Ok(servable),
            Err(error) => error,
        };
        let Some(version) = self.idle_version(name, choice) else { return Err(missing) };
        let again = self.load_again(name, choice, version, missing);
        match deadline {
            None => again.await,
            Some(deadline) => tokio::time::timeout_at(deadline.into(), again).await.unwrap_or_else(|_| {
                let what = format!("{name} version {version} had made room and is still being loaded again");
                Err(Error::deadline_exceeded(what))
            }),
        }
    }

    async fn load_again(
        &self,
        name: &str,
        choice: &VersionChoice,
        version: i64,
        missing: Error,
    ) -> Result<Arc<Servable>> {
        let mut board = self.watch();
        loop {
            let (begun, has_begun) = oneshot::channel();
            let wish = Wish { id: ServableId { name: name.into(), version }, begun };
            self.wanted.send(wish).await.map_err(|_| missing.clone())?;
            has_begun.await.map_err(|_| missing.clone())?;
            let status = {
                let board = board.wait_for(|board| !is_coming(board, name, version)).await;
                status(&*board.map_err(|_| missing.clone())?, name, version)
            };
            if let Ok(servable) = self.servable(name, choice) {
                return Ok(servable);
            }
            match status {
                Some(Status { state: State::End, error: Some(error), .. }) => {
                    let place = format!("{name} version {version} had made room and could not be loaded again");
                    return Err(Error::new(Code::Unavailable, error.message()).at(place));
                }
                // It has made room once more before it was seen.
                Some(Status { idle: true, .. } | Status { state: State::Available, .. }) => {}
                _ => return Err(missing),
            }
        }
    }

    /// The version that a request means, if it was unloaded to make room.
    fn idle_version(&self, name: &str, choice: &VersionChoice) -> Option<i64> {
        if !self.options.unload_idle {
            return None;
        }
        let board = self.watch().borrow().clone();
        let model = board.models.get(name)?;
        let is_idle = |version: &i64| model.versions.get(version).is_some_and(|status| status.idle);
        let version = match choice {
            VersionChoice::Latest => {
                model.versions.iter().rev().find(|(_, status)| status.idle).map(|(version, _)| *version)
            }
            VersionChoice::Specific(version) => Some(*version),
            VersionChoice::Label(label) => self.labelled(name, label).ok(),
        };
        version.filter(is_idle)
    }
}

/// Whether a version is on its way to being available.
fn is_coming(board: &Board, name: &str, version: i64) -> bool {
    let Some(model) = board.models.get(name) else { return false };
    match model.versions.get(&version) {
        Some(status) if status.state == State::End => {
            !status.idle && status.error.is_none() && model.aspired.contains(&version)
        }
        Some(status) => status.state != State::Available,
        None => false,
    }
}

fn status(board: &Board, name: &str, version: i64) -> Option<Status> {
    board.models.get(name)?.versions.get(&version).cloned()
}
