//! The engines of several adapters, and models on all of them.

use std::sync::Arc;

use super::device::{Account, AccountUse, Adapter, Lane, MemoryUse, Stay, WeightUse};
use super::engine::{Engine, EngineOptions, LoadOptions};
use super::ir::Graph;
use super::memory::MemoryShare;
use super::spread::Spread;
use crate::error::{Error, Result};

/// One engine for each adapter; lanes are numbered through all of them.
#[derive(Debug)]
pub struct Fleet {
    engines: Vec<Arc<Engine>>,
}

impl Fleet {
    /// Opens and self-tests every adapter that `options.device` names, in that order. The other options hold for each.
    ///
    /// # Errors
    /// Those of [`Engine::start`], and `INVALID_ARGUMENT` for an adapter that is named twice.
    pub fn start(options: &EngineOptions) -> Result<Arc<Self>> {
        let mut fleet = Self { engines: Vec::new() };
        for adapter in Adapter::pick_all(&options.device)? {
            let first_lane = fleet.lanes().len();
            fleet.engines.push(Engine::open(&adapter, options, first_lane)?);
        }
        Ok(Arc::new(fleet))
    }

    /// Of these engines, whose lanes are numbered through.
    #[cfg(test)]
    pub(super) fn of(engines: Vec<Arc<Engine>>) -> Self {
        Self { engines }
    }

    /// The engines, at least one.
    pub fn engines(&self) -> &[Arc<Engine>] {
        &self.engines
    }

    /// The lanes of all, in the order of their numbers, as they are now.
    pub fn lanes(&self) -> Vec<Arc<Lane>> {
        self.engines.iter().flat_map(|engine| engine.lanes()).collect()
    }

    /// The adapter's name for each lane.
    pub fn lane_devices(&self) -> Vec<String> {
        let names = |engine: &Arc<Engine>| vec![engine.adapter().name().to_owned(); engine.lanes().len()];
        self.engines.iter().flat_map(names).collect()
    }

    /// Lanes that were replaced so far.
    pub fn lanes_replaced(&self) -> usize {
        self.engines.iter().map(|engine| engine.lanes_replaced()).sum()
    }

    /// The memory that weights take, on all adapters together: what is on two of them is two.
    pub fn weights(&self) -> WeightUse {
        self.engines.iter().map(|engine| engine.weights()).fold(WeightUse::default(), |all, weights| WeightUse {
            distinct: all.distinct + weights.distinct,
            taken: all.taken + weights.taken,
        })
    }

    /// How much device memory is in use, on all adapters together.
    pub fn memory(&self) -> MemoryUse {
        self.engines.iter().map(|engine| engine.memory()).reduce(together).unwrap_or_default()
    }

    /// Returns once devices of every adapter have hung so often that no other is opened: nothing will run any more.
    pub async fn hopeless(&self) {
        for engine in &self.engines {
            engine.hopeless().await;
        }
    }

    /// The device memory of the model `name` on each adapter; see [`Engine::account`].
    ///
    /// # Errors
    /// The first adapter's, where none has what is to be reserved.
    pub fn accounts(&self, name: &str, share: MemoryShare) -> Result<Vec<Option<Arc<Account>>>> {
        let accounts: Vec<_> = self.engines.iter().map(|engine| engine.account(name, share)).collect();
        match accounts.iter().find_map(|account| account.as_ref().err()) {
            Some(error) if accounts.iter().all(Result::is_err) => Err(error.clone()),
            _ => Ok(accounts.into_iter().map(Result::ok).collect()),
        }
    }

    /// Another share of every adapter's memory for the model `name`; see [`Engine::share_anew`].
    ///
    /// # Errors
    /// The first adapter's that refuses; on the others it holds.
    pub fn share_anew(&self, name: &str, share: MemoryShare) -> Result<()> {
        let results: Vec<_> = self.engines.iter().map(|engine| engine.share_anew(name, share)).collect();
        results.into_iter().collect()
    }

    /// Makes `graph` runnable on every adapter that can; see [`Engine::load`]. `accounts` are those of [`Fleet::accounts`].
    ///
    /// # Errors
    /// The first adapter's, where none can.
    pub fn load(
        &self,
        graph: &Graph,
        options: &LoadOptions,
        accounts: &[Option<Arc<Account>>],
    ) -> Result<Arc<Spread>> {
        let (stay, released) = Stay::begin();
        let (mut sessions, mut refused) = (Vec::new(), None);
        for (engine, account) in self.engines.iter().zip(accounts) {
            let Some(account) = account else { continue };
            let options = LoadOptions { account: Some(Arc::clone(account)), ..options.clone() };
            match engine.load_during(graph.clone(), options.clone(), &stay) {
                Ok(session) => sessions.push(session),
                Err(error) => {
                    if self.engines.len() > 1 {
                        let adapter = engine.adapter().name();
                        tracing::warn!(model = options.name, adapter, %error, "it does not run on this adapter");
                    }
                    refused.get_or_insert(error);
                }
            }
        }
        if sessions.is_empty() {
            return Err(refused.unwrap_or_else(|| Error::internal("there is no adapter to load on")));
        }
        Ok(Arc::new(Spread::new(sessions, released)))
    }
}

/// The use of two adapters as one.
fn together(one: MemoryUse, other: MemoryUse) -> MemoryUse {
    let mut accounts = one.accounts;
    for account in other.accounts {
        match accounts.iter_mut().find(|known| known.name == account.name) {
            Some(known) => {
                *known = AccountUse {
                    held: known.held + account.held,
                    reserved: known.reserved + account.reserved,
                    cap: known.cap.zip(account.cap).map(|(a, b)| a + b),
                    name: account.name,
                };
            }
            None => accounts.push(account),
        }
    }
    accounts.sort_by(|a, b| a.name.cmp(&b.name));
    let limit = one.limit.zip(other.limit).map(|(a, b)| a.saturating_add(b));
    MemoryUse { limit, allocated: one.allocated + other.allocated, accounts }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn memory_of_adapters_adds_up() {
        let account = |name: &str, held, cap| AccountUse { name: name.into(), held, reserved: 1, cap };
        let one = MemoryUse {
            limit: Some(100),
            allocated: 30,
            accounts: vec![account("b", 10, Some(50)), account("c", 20, None)],
        };
        let other = MemoryUse {
            limit: Some(50),
            allocated: 5,
            accounts: vec![account("a", 1, None), account("b", 4, Some(25))],
        };
        let all = together(one.clone(), other.clone());
        assert_eq!((all.limit, all.allocated), (Some(150), 35));
        let found: Vec<_> = all.accounts.iter().map(|a| (a.name.as_str(), a.held, a.reserved, a.cap)).collect();
        assert_eq!(found, [("a", 1, 1, None), ("b", 14, 2, Some(75)), ("c", 20, 1, None)]);
        assert_eq!(together(one, MemoryUse { limit: None, ..other }).limit, None);
    }
}
