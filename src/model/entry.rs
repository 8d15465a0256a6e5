//! One model as the reconciler sees it.

use std::collections::{BTreeMap, BTreeSet};
use std::path::PathBuf;
use std::sync::Arc;

use super::aspired::{Fingerprint, Unsettled};
use super::config::{ModelConfig, Transition};
use super::servable::Servable;
use super::state::{ModelStatus, State, Status};
use crate::error::Error;

/// Ended versions that a model's status still lists.
const ENDED_MAX: usize = 32;

/// One model: what is wanted and what is there.
#[derive(Default)]
pub(super) struct Entry {
    /// `None` once it was taken out of the configuration.
    pub(super) config: Option<ModelConfig>,
    /// How the files of versions looked when their load began.
    pub(super) tried: BTreeMap<i64, Fingerprint>,
    /// Versions that are being written.
    pub(super) unsettled: Unsettled,
    pub(super) last_base: Option<PathBuf>,
    /// Versions that were loaded from a folder that is no longer the model's.
    pub(super) stale: BTreeSet<i64>,
    pub(super) loaded: BTreeMap<i64, Arc<Servable>>,
    /// What requests' labels stand for.
    pub(super) labels: BTreeMap<String, i64>,
    pub(super) status: ModelStatus,
}

impl Entry {
    pub(super) fn set(&mut self, version: i64, state: State, error: Option<Error>) {
        self.status.versions.insert(version, Status { state, error, idle: false });
    }

    /// As [`Entry::set`], for a version that was unloaded to make room for others.
    pub(super) fn set_idle(&mut self, version: i64, state: State, error: Option<Error>) {
        self.status.versions.insert(version, Status { state, error, idle: true });
    }

    pub(super) fn is_idle(&self, version: i64) -> bool {
        self.status.versions.get(&version).is_some_and(|status| status.idle)
    }

    /// Goes on to another state, as idle as before.
    pub(super) fn advance(&mut self, version: i64, state: State) {
        let idle = self.is_idle(version);
        self.status.versions.insert(version, Status { state, error: None, idle });
    }

    pub(super) fn state(&self, version: i64) -> Option<State> {
        self.status.versions.get(&version).map(|s| s.state)
    }

    /// Versions that may be unloaded: no longer wanted, and not the last that answers while a wanted one does not yet.
    pub(super) fn surplus(&self, transition: Transition) -> Vec<i64> {
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
    pub(super) fn known(&self) -> BTreeSet<i64> {
        let alive = self.status.versions.iter().filter(|(_, s)| !matches!(s.state, State::Start | State::End));
        alive.map(|(version, _)| *version).filter(|version| !self.stale.contains(version)).collect()
    }

    /// Whether a version that is to be served must wait until others are gone.
    pub(super) fn must_wait(&self, transition: Transition) -> bool {
        let is_leaving = |(version, status): (&i64, &Status)| {
            status.state == State::Unloading
                || (status.state == State::Available && !self.status.aspired.contains(version))
        };
        transition == Transition::SaveMemory && self.status.versions.iter().any(is_leaving)
    }

    /// Brings labels in line with the configuration: each stands for its version from when that is available on, and for the one
    /// before until then. With `lenient` a new one stands for it at once.
    pub(super) fn label(&mut self, lenient: bool) {
        let wanted = self.config.as_ref().map(|config| &config.labels);
        self.labels.retain(|label, _| wanted.is_some_and(|wanted| wanted.contains_key(label)));
        for (label, version) in wanted.into_iter().flatten() {
            let is_new = lenient && !self.labels.contains_key(label);
            if is_new || self.loaded.contains_key(version) {
                self.labels.insert(label.clone(), *version);
            }
        }
    }

    /// Forgets the lowest versions that have ended, beyond so many.
    pub(super) fn prune(&mut self) {
        let is_over = |(v, s): &(&i64, &Status)| s.state == State::End && !self.status.aspired.contains(v);
        let ended = self.status.versions.iter().filter(is_over);
        let ended: Vec<_> = ended.map(|(v, _)| *v).collect();
        for version in &ended[..ended.len().saturating_sub(ENDED_MAX)] {
            self.status.versions.remove(version);
            self.tried.remove(version);
        }
    }
}
