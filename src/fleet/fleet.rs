//! The engines of a server: one for each adapter that was chosen.

use std::sync::Arc;

use crate::engine::ir::Graph;
use crate::engine::{
    Account, Adapter, Engine, EngineOptions, Lane, LoadOptions, MemoryBound, MemoryShare, NoRoom, Session,
};
use crate::error::{Error, Result};

/// Engines on different adapters, the preferred first; shared by all models. There is one at least.
#[derive(Debug)]
pub struct Fleet {
    /// What each is called, all differently.
    engines: Vec<(String, Arc<Engine>)>,
}

/// Where a model may be loaded: an engine, and the model's account there.
#[derive(Debug)]
pub struct Place {
    /// What the engine is called.
    name: String,
    engine: Arc<Engine>,
    account: Arc<Account>,
}

impl Fleet {
    /// Opens an engine on each adapter that `options.device` names, as [`Adapter::choose`] takes it, with lanes, budget and tests of
    /// its own. One that cannot be opened is left out with a warning, unless it is the last.
    ///
    /// # Errors
    /// `NOT_FOUND` when no adapter is called so, else what keeps the first from working if none does.
    pub fn start(options: &EngineOptions) -> Result<Arc<Self>> {
        let adapters = Adapter::choose(&options.device)?;
        let mut fleet = Self { engines: Vec::new() };
        let mut failure = None;
        for adapter in &adapters {
            let own = EngineOptions {
                device: adapter.index().to_string(),
                memory: part(&options.memory, adapter, &adapters),
                first_lane: fleet.lanes().len(),
                ..options.clone()
            };
            match Engine::start(&own) {
                Ok(engine) => fleet.engines.push((fleet.new_name(adapter.name()), engine)),
                Err(error) if adapters.len() == 1 => return Err(error),
                Err(error) => {
                    tracing::warn!(adapter = adapter.name(), %error, "an adapter is left out: it does not work");
                    failure.get_or_insert(error);
                }
            }
        }
        match failure {
            Some(error) if fleet.engines.is_empty() => Err(error),
            _ => Ok(Arc::new(fleet)),
        }
    }

    /// `name`, with a number where another engine is called so.
    fn new_name(&self, name: &str) -> String {
        let numbered = |number: usize| if number == 1 { name.to_owned() } else { format!("{name} #{number}") };
        let is_new = |new: &String| self.engines.iter().all(|(taken, _)| taken != new);
        (1..).map(numbered).find(is_new).unwrap_or_default()
    }

    /// The engines and what each is called: its adapter's name, with a number where several have that name.
    pub fn engines(&self) -> impl Iterator<Item = (&str, &Arc<Engine>)> {
        self.engines.iter().map(|(name, engine)| (name.as_str(), engine))
    }

    /// The lanes of all engines as they are now, by number.
    pub fn lanes(&self) -> Vec<Arc<Lane>> {
        self.engines().flat_map(|(_, engine)| engine.lanes()).collect()
    }

    /// What the engine of each lane is called, by number.
    pub fn names_by_lane(&self) -> Vec<String> {
        self.engines().flat_map(|(name, engine)| vec![name.to_owned(); engine.lanes().len()]).collect()
    }

    /// Lanes that were replaced so far.
    pub fn lanes_replaced(&self) -> usize {
        self.engines().map(|(_, engine)| engine.lanes_replaced()).sum()
    }

    /// How often what was learnt could not be written into the cache folder.
    pub fn unkept(&self) -> usize {
        self.engines().map(|(_, engine)| engine.unkept()).sum()
    }

    /// Returns once nothing will run any more on any engine.
    pub async fn hopeless(&self) {
        // None of them comes back from that: one after the other will do.
        for (name, engine) in self.engines() {
            engine.hopeless().await;
            if self.engines.len() > 1 {
                tracing::error!(adapter = name, "nothing runs on this adapter any more");
            }
        }
    }

    /// Another share of device memory for the model `name`, on each engine that has it.
    pub fn share_anew(&self, name: &str, share: MemoryShare) {
        for (adapter, engine) in self.engines() {
            if let Err(error) = engine.share_anew(name, share) {
                tracing::warn!(model = name, adapter, "its memory stays as it was: {error}");
            }
        }
    }

    /// The engines that the model `name` may have this share of memory of.
    ///
    /// # Errors
    /// Those of [`Engine::account`] where that is so nowhere.
    pub fn places(&self, name: &str, share: MemoryShare) -> Result<Vec<Place>> {
        let place = |(called, engine): (&str, &Arc<Engine>)| {
            Ok(Place { name: called.to_owned(), engine: Arc::clone(engine), account: engine.account(name, share)? })
        };
        which_work(name, self.engines().map(|(called, engine)| (called, place((called, engine)))))
    }

    /// Makes `graph` runnable in each of these places in turn, as [`Engine::load`] does. One that cannot hold or run it is left out
    /// with a warning.
    ///
    /// # Errors
    /// Those of [`Engine::load`] where it runs nowhere.
    pub fn load(places: &[Place], graph: Graph, options: &LoadOptions) -> Result<Vec<Arc<Session>>> {
        // The last has the graph for itself: it lets go of weights that it makes others of.
        let mut graphs = vec![graph; places.len()];
        let mut load = |place: &Place| {
            let graph = graphs.pop().ok_or_else(|| Error::internal("there is a graph for each"))?;
            let account = Some(Arc::clone(&place.account));
            place.engine.load(graph, LoadOptions { account, ..options.clone() })
        };
        which_work(&options.name, places.iter().map(|place| (place.name.as_str(), load(place))))
    }
}

/// The part of the memory that an engine on `adapter` may use, beside those on the others of `adapters`.
fn part(memory: &MemoryBound, adapter: &Adapter, adapters: &[Adapter]) -> MemoryBound {
    // Software adapters all have the machine's.
    let is_common =
        |other: &&Adapter| other.index() == adapter.index() || (other.is_software() && adapter.is_software());
    memory.divided(adapter, adapters.iter().filter(is_common).count() as u64)
}

/// What came of something that was tried on several adapters for a model: all that works, with a warning for each that does not.
fn which_work<'a, T>(model: &str, tried: impl Iterator<Item = (&'a str, Result<T>)>) -> Result<Vec<T>> {
    let (mut working, mut failed) = (Vec::new(), Vec::new());
    for (adapter, outcome) in tried {
        match outcome {
            Ok(made) => working.push(made),
            Err(error) => failed.push((adapter, error)),
        }
    }
    if working.is_empty() {
        // Where room could be made for it, it is worth another try.
        let at = failed.iter().position(|(_, error)| needs_room(error)).unwrap_or(0);
        return Err(failed.into_iter().nth(at).map_or_else(|| Error::internal("there is no engine"), |(_, e)| e));
    }
    for (adapter, error) in failed {
        tracing::warn!(model, adapter, %error, "this adapter does not serve the model, the others do");
    }
    Ok(working)
}

fn needs_room(error: &Error) -> bool {
    std::error::Error::source(error).is_some_and(|source| source.is::<NoRoom>())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::error::Code;

    #[test]
    fn who_cannot_is_left_out_unless_nobody_can() {
        let fail = |code| Err(Error::new(code, "no"));
        let tried = [("a", Ok(1)), ("b", fail(Code::Unimplemented)), ("c", Ok(3))];
        assert_eq!(which_work("m", tried.into_iter()).expect("two can"), [1, 3]);
        let tried = [
            ("a", fail(Code::Unimplemented)),
            ("b", Err(Error::resource_exhausted("full").with_source(NoRoom { needed: 2, free: 1 }))),
        ];
        let error = which_work("m", tried.into_iter()).expect_err("nobody can");
        assert!(needs_room(&error), "{error}");
        let tried = [("a", fail(Code::Unimplemented)), ("b", fail(Code::Internal))];
        assert_eq!(which_work("m", tried.into_iter()).expect_err("nobody can").code(), Code::Unimplemented);
    }
}
