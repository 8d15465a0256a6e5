//! Which kernels are fastest on the adapter, measured when a model is loaded, never when a request comes.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};
use std::str::FromStr;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use super::device::{Adapter, Lane, Tenancy};
use super::ir::{Choices, Program};
use super::tuning_file::{self, Subject, Unusable};
use crate::error::{Code, Error, Result};

/// Time that the measurements for one program may take; then the rest keeps its defaults.
const TIME_MAX: Duration = Duration::from_secs(120);
/// Each candidate's time is the least of this many runs.
const RUNS: usize = 4;
/// Another candidate must be this much faster than the default: less is noise.
const GAIN_MIN: f64 = 0.03;

/// Where the choice among kernels comes from.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Tune {
    /// From the operators alone: the same on every machine.
    #[default]
    Off,
    /// From the cache folder's file as far as it goes. Nothing is measured.
    Cached,
    /// As [`Tune::Cached`]; what the file lacks is measured when a model is loaded, and added to it.
    Load,
}

impl FromStr for Tune {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self> {
        match text {
            "off" => Ok(Tune::Off),
            "cached" => Ok(Tune::Cached),
            "load" => Ok(Tune::Load),
            other => Err(Error::invalid_argument(format!("tune is {other:?}: say off, cached or load"))),
        }
    }
}

/// The choices for one adapter: those of the file, and those measured since.
#[derive(Debug)]
pub(super) struct Tuning {
    mode: Tune,
    subject: Subject,
    file: Option<PathBuf>,
    choices: Mutex<Arc<Choices>>,
    /// Held while candidates are timed: two at a time would time each other.
    measuring: Mutex<()>,
    /// How often choices could not be kept.
    unkept: AtomicUsize,
}

impl Tuning {
    /// The choices that `folder` holds for `adapter`.
    pub(super) fn open(mode: Tune, folder: Option<&Path>, adapter: &Adapter) -> Self {
        let subject = Subject { adapter: adapter.identity(), kernels: env!("KERNEL_HASH").to_owned() };
        let file = folder.filter(|_| mode != Tune::Off).map(|folder| folder.join("tuning.json"));
        let tuning = Self {
            mode,
            subject,
            file,
            choices: Mutex::default(),
            measuring: Mutex::default(),
            unkept: AtomicUsize::new(0),
        };
        tuning.read();
        tuning
    }

    fn read(&self) {
        let Some(file) = &self.file else { return };
        match tuning_file::read(file, &self.subject) {
            Ok(choices) => *self.choices.lock().unwrap_or_else(PoisonError::into_inner) = Arc::new(choices),
            Err(Unusable::Missing) => {}
            Err(Unusable::Foreign(reason)) => {
                tracing::warn!(file = %file.display(), reason, "the tuning file cannot be used: kernels are the defaults");
            }
            Err(Unusable::Corrupt(reason)) => {
                tracing::warn!(file = %file.display(), reason, "the tuning file is damaged: kernels are the defaults");
            }
        }
    }

    /// What is known now.
    pub(super) fn choices(&self) -> Arc<Choices> {
        Arc::clone(&self.choices.lock().unwrap_or_else(PoisonError::into_inner))
    }

    /// How often measured choices could not be kept.
    pub(super) fn unkept(&self) -> usize {
        self.unkept.load(Ordering::Relaxed)
    }

    /// Whether [`Tuning::measure`] does anything.
    pub(super) fn measures(&self) -> bool {
        self.mode == Tune::Load
    }

    /// Times on `lane` the candidates of those problems of a program for which nothing is known, and keeps the winners.
    /// `compile` makes the program under given choices, memory is the tenancy's.
    ///
    /// # Errors
    /// Those of compiling and running it.
    pub(super) fn measure(
        &self,
        lane: &Lane,
        tenancy: &Arc<Tenancy>,
        compile: &dyn Fn(&Choices) -> Result<Program>,
    ) -> Result<()> {
        if !self.measures() {
            return Ok(());
        }
        let _alone = self.measuring.lock().unwrap_or_else(PoisonError::into_inner);
        let (start, known) = (Instant::now(), self.choices());
        let open = open_problems(&compile(&known)?, &known);
        let rounds = open.values().map(Vec::len).max().unwrap_or(0);
        let mut times: BTreeMap<String, BTreeMap<String, Duration>> = BTreeMap::new();
        for round in 0..rounds {
            if start.elapsed() > TIME_MAX {
                tracing::warn!(limit = ?TIME_MAX, "tuning takes too long: some kernels were not tried");
                break;
            }
            let mut choices = Choices::clone(&known);
            let named =
                |(key, candidates): (&String, &Vec<String>)| Some((key.clone(), candidates.get(round)?.clone()));
            choices.extend(open.iter().filter_map(named));
            let timings = match compile(&choices).and_then(|program| timed(lane, tenancy, program)) {
                Ok(timings) => timings,
                // The defaults must run; what else the driver refuses is not chosen.
                Err(error) if round > 0 && error.code() != Code::Unavailable => {
                    tracing::warn!(%error, "some kernels do not run on this adapter");
                    refused(&open, round)
                }
                Err(error) => return Err(error),
            };
            for (key, name, time) in timings {
                if open.contains_key(&key) {
                    let best = times.entry(key).or_default().entry(name).or_insert(Duration::MAX);
                    *best = time.min(*best);
                }
            }
        }
        for (problem, times) in &times {
            tracing::debug!(problem, ?times, "kernels were timed");
        }
        let winners: Choices =
            open.iter().filter_map(|(key, names)| Some((key.clone(), winner(names, times.get(key)?)?))).collect();
        if !winners.is_empty() {
            let changed = winners.iter().filter(|(key, name)| open[*key].first() != Some(*name)).count();
            tracing::info!(problems = winners.len(), changed, elapsed = ?start.elapsed(), "kernels were timed");
            self.keep(&winners);
        }
        Ok(())
    }

    fn keep(&self, winners: &Choices) {
        {
            let mut choices = self.choices.lock().unwrap_or_else(PoisonError::into_inner);
            let mut all = Choices::clone(&choices);
            all.extend(winners.clone());
            *choices = Arc::new(all);
        }
        let Some(file) = &self.file else { return };
        if let Err(error) = tuning_file::add(file, &self.subject, winners)
            && self.unkept.fetch_add(1, Ordering::Relaxed) == 0
        {
            tracing::warn!(file = %file.display(), %error, "measured choices cannot be kept: the next start measures again");
        }
    }
}

/// The problems of `program` that `known` says nothing of, with their candidates.
fn open_problems(program: &Program, known: &Choices) -> BTreeMap<String, Vec<String>> {
    let open = program.problems().filter(|problem| !known.contains_key(&problem.key));
    open.map(|problem| (problem.key.clone(), problem.candidates.clone())).collect()
}

/// A problem's key, the candidate that it was solved with, and the time taken.
type Timing = (String, String, Duration);

/// Runs `program` on `lane` on zeros and times how its problems are solved.
fn timed(lane: &Lane, tenancy: &Arc<Tenancy>, program: Program) -> Result<Vec<Timing>> {
    let executable = lane.prepare_for(tenancy, &Arc::new(program))?;
    lane.warm(&executable)?;
    lane.wake(&executable)?;
    let mut found = Vec::new();
    for (index, segment) in executable.program().segments.iter().enumerate().filter(|(_, s)| !s.problems.is_empty()) {
        let runs = (0..RUNS).map(|_| lane.profile(&executable, index)).collect::<Result<Vec<_>>>()?;
        for problem in &segment.problems {
            let time = runs.iter().map(|times| times[problem.dispatches.clone()].iter().sum()).min();
            let time = time.unwrap_or(Duration::MAX);
            found.push((problem.key.clone(), problem.candidates[problem.chosen].clone(), time));
        }
    }
    Ok(found)
}

/// What is kept of a round that failed.
fn refused(open: &BTreeMap<String, Vec<String>>, round: usize) -> Vec<Timing> {
    let tried = open.iter().filter_map(|(key, names)| Some((key.clone(), names.get(round)?.clone(), Duration::MAX)));
    tried.collect()
}

/// The fastest candidate, or the first if no other is faster by more than noise. `None` if some were not timed.
fn winner(candidates: &[String], times: &BTreeMap<String, Duration>) -> Option<String> {
    let distinct: BTreeSet<_> = candidates.iter().collect();
    if times.len() < distinct.len() {
        return None;
    }
    let default = candidates.first()?;
    let (fastest, time) = times.iter().min_by_key(|(_, time)| **time)?;
    let enough = time.as_secs_f64() < times.get(default)?.as_secs_f64() * (1.0 - GAIN_MIN);
    Some(if enough { fastest } else { default }.clone())
}

#[cfg(test)]
mod tests;
