//! The states that versions go through, for whoever watches.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use super::id::ServableId;
use crate::error::Error;

/// Where a version is in its life.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum State {
    /// It is to be loaded.
    Start,
    /// It is being loaded.
    Loading,
    /// It answers requests.
    Available,
    /// It takes no more requests, but some are being answered.
    Unloading,
    /// It is gone, or could not be loaded: then there is an error.
    End,
}

impl State {
    /// TensorFlow Serving's name for it, e.g. `AVAILABLE`.
    pub fn name(self) -> &'static str {
        match self {
            State::Start => "START",
            State::Loading => "LOADING",
            State::Available => "AVAILABLE",
            State::Unloading => "UNLOADING",
            State::End => "END",
        }
    }
}

/// A version's state and, if it failed, why.
#[derive(Clone, Debug)]
pub struct Status {
    /// Where it is in its life.
    pub state: State,
    /// What went wrong.
    pub error: Option<Error>,
    /// It was unloaded to make room for others, and is loaded again when a request asks for it.
    pub idle: bool,
}

/// Everything known about one configured model.
#[derive(Clone, Debug, Default)]
pub struct ModelStatus {
    /// Every version that was ever to be served, the last to have ended among a bounded number.
    pub versions: BTreeMap<i64, Status>,
    /// Why its folder could not be read, if so.
    pub error: Option<Error>,
    /// Whether its folder was read at least once, or could not be.
    pub scanned: bool,
    /// Versions that are to be served, as far as their files are complete.
    pub aspired: BTreeSet<i64>,
    /// Whether there are versions whose files are still being written.
    pub unsettled: bool,
}

impl ModelStatus {
    /// Whether nothing more is loaded unless its folder changes.
    pub fn is_settled(&self) -> bool {
        let is_due = |(version, status): (&i64, &Status)| match status.state {
            State::Start | State::Loading => true,
            State::Available => false,
            // It makes room for what is to come.
            State::Unloading => self.aspired.contains(version),
            State::End => self.aspired.contains(version) && status.error.is_none() && !status.idle,
        };
        self.scanned && !self.unsettled && !self.versions.iter().any(is_due)
    }

    /// What went wrong with its folder and with the versions that are to be served, the highest first.
    pub fn failures(&self) -> Vec<Error> {
        let of = |version: &i64| {
            let error = self.versions.get(version)?.error.clone()?;
            Some(error.at(format_args!("version {version}")))
        };
        self.error.iter().cloned().chain(self.aspired.iter().rev().filter_map(of)).collect()
    }

    /// Whether a version answers requests, or would be loaded for one.
    pub fn is_available(&self) -> bool {
        self.versions.values().any(|s| s.state == State::Available || s.idle)
    }

    /// Why no version answers requests, as far as known.
    pub fn failure(&self) -> Option<&Error> {
        if self.is_available() {
            return None;
        }
        self.error.as_ref().or_else(|| self.versions.values().rev().find_map(|s| s.error.as_ref()))
    }
}

/// All configured models by name.
#[derive(Clone, Debug, Default)]
pub struct Board {
    /// Status by model name.
    pub models: BTreeMap<Arc<str>, ModelStatus>,
    /// Whether the first configuration was taken up.
    pub is_configured: bool,
}

impl Board {
    /// Whether each model is settled.
    pub fn is_settled(&self) -> bool {
        self.models.values().all(ModelStatus::is_settled)
    }

    /// The versions in a state, e.g. to count those that are available.
    pub fn in_state(&self, state: State) -> Vec<ServableId> {
        let of = |(name, model): (&Arc<str>, &ModelStatus)| -> Vec<ServableId> {
            let hits = model.versions.iter().filter(|(_, s)| s.state == state);
            hits.map(|(version, _)| ServableId { name: Arc::clone(name), version: *version }).collect()
        };
        self.models.iter().flat_map(of).collect()
    }
}
