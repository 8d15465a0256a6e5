//! How much device memory there may be, and who holds how much of it.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tokio::sync::oneshot;

use crate::error::{Error, Result};

/// Why the budget refused: what is free does not suffice, but less in use elsewhere might.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{needed} bytes are needed, {free} are free")]
pub struct NoRoom {
    /// Bytes asked for.
    pub needed: u64,
    /// Bytes that were free.
    pub free: u64,
}

/// The device memory that all models together may take.
#[derive(Debug)]
pub struct MemoryBudget {
    /// Bytes on all lanes together.
    limit: u64,
    state: Mutex<State>,
}

/// One model's part of it. Dropping it gives back what it had reserved.
#[derive(Debug)]
pub struct Account {
    budget: Arc<MemoryBudget>,
    id: u64,
    name: String,
}

/// How much one account holds.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AccountUse {
    /// The model's name.
    pub name: String,
    /// Bytes of the buffers that it uses, those that other accounts use too included.
    pub held: u64,
    /// Bytes that are kept for it, in use or not.
    pub reserved: u64,
    /// Bytes that it may hold at most.
    pub cap: Option<u64>,
}

/// How much is in use.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct MemoryUse {
    /// Bytes that may be allocated; `None` for any number.
    pub limit: Option<u64>,
    /// Bytes allocated.
    pub allocated: u64,
    /// Of each account.
    pub accounts: Vec<AccountUse>,
}

#[derive(Debug, Default)]
struct State {
    allocated: u64,
    /// The next number of an account or a buffer.
    next: u64,
    books: HashMap<u64, Books>,
}

/// What is written down of one account.
#[derive(Debug, Default)]
struct Books {
    name: String,
    cap: Option<u64>,
    reserved: u64,
    held: u64,
    /// How often each buffer is in use, and its bytes.
    buffers: HashMap<u64, (usize, u64)>,
}

impl Books {
    /// Bytes kept for it beyond those in use.
    fn unspent(&self) -> u64 {
        self.reserved.saturating_sub(self.held)
    }
}

impl MemoryBudget {
    /// A budget of `limit` bytes; `None` for no bound.
    pub fn new(limit: Option<u64>) -> Arc<Self> {
        Arc::new(Self { limit: limit.unwrap_or(u64::MAX), state: Mutex::default() })
    }

    /// An account that may take whatever is free.
    pub fn account(self: &Arc<Self>, name: impl Into<String>) -> Arc<Account> {
        let (mut state, name) = (self.state(), name.into());
        let id = state.number();
        state.books.insert(id, Books { name: name.clone(), ..Books::default() });
        Arc::new(Account { budget: Arc::clone(self), id, name })
    }

    /// How much is in use now, accounts by name.
    pub fn in_use(&self) -> MemoryUse {
        let state = self.state();
        let of = |books: &Books| AccountUse {
            name: books.name.clone(),
            held: books.held,
            reserved: books.reserved,
            cap: books.cap,
        };
        let mut accounts: Vec<_> = state.books.values().map(of).collect();
        accounts.sort_by(|a, b| a.name.cmp(&b.name));
        let limit = Some(self.limit).filter(|limit| *limit < u64::MAX);
        MemoryUse { limit, allocated: state.allocated, accounts }
    }

    fn state(&self) -> MutexGuard<'_, State> {
        // Every change is a few additions: a panic elsewhere leaves it whole.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl State {
    fn number(&mut self) -> u64 {
        self.next += 1;
        self.next
    }

    /// Bytes that account `id` may take or reserve of a budget of `limit` bytes, and those that are kept for others.
    fn free(&self, limit: u64, id: u64) -> (u64, u64) {
        let others: u64 = self.books.iter().filter(|(other, _)| **other != id).map(|(_, b)| b.unspent()).sum();
        (limit.saturating_sub(self.allocated).saturating_sub(others), others)
    }

    /// Whether `bytes` more for account `id`, of which `shared` are allocated already, are within its cap and the budget.
    fn check(&self, limit: u64, id: u64, bytes: u64, shared: u64) -> Result<()> {
        let Some(books) = self.books.get(&id) else { return Err(Error::internal("a memory account is gone")) };
        if let Some(cap) = books.cap.filter(|cap| books.held.saturating_add(bytes) > *cap) {
            return Err(Error::resource_exhausted(format!(
                "{bytes} more bytes of device memory are needed, {} of the {cap} that model {} may have are in use \
                 (its per_process_gpu_memory_fraction)",
                books.held, books.name
            )));
        }
        let (free, others) = self.free(limit, id);
        let left = books.reserved.saturating_sub(books.held.saturating_add(bytes));
        let needed = bytes.saturating_sub(shared).saturating_add(left);
        if needed > free {
            let error = Error::resource_exhausted(format!(
                "{bytes} more bytes of device memory are needed, {free} are free: the budget is {limit}, {} are in use, \
                 {others} are reserved for other models",
                self.allocated
            ));
            // Beyond the whole budget nobody could make room.
            return Err(if needed > limit { error } else { error.with_source(NoRoom { needed, free }) });
        }
        Ok(())
    }
}

impl Account {
    /// The model's name.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Lets it hold at most `cap` bytes from now on, and keeps `reserved` bytes for it. What it holds beyond that stays.
    ///
    /// # Errors
    /// `RESOURCE_EXHAUSTED` naming the numbers when so much cannot be reserved; then nothing changes.
    pub fn bound(&self, cap: Option<u64>, reserved: u64) -> Result<()> {
        let mut state = self.budget.state();
        let (free, others) = state.free(self.budget.limit, self.id);
        let Some(books) = state.books.get_mut(&self.id) else { return Ok(()) };
        let needed = reserved.saturating_sub(books.held);
        if needed > free {
            let error = Error::resource_exhausted(format!(
                "{reserved} bytes of device memory are to be reserved for model {} (its per_process_gpu_memory_fraction, \
                 without allow_growth), {free} are free: the budget is {}, {others} are reserved for other models",
                self.name, self.budget.limit
            ));
            let is_too_much = reserved > self.budget.limit;
            return Err(if is_too_much { error } else { error.with_source(NoRoom { needed, free }) });
        }
        (books.cap, books.reserved) = (cap, reserved);
        Ok(())
    }

    /// Whether `bytes` more can be had.
    ///
    /// # Errors
    /// `RESOURCE_EXHAUSTED` naming the numbers.
    pub fn check(&self, bytes: u64) -> Result<()> {
        self.budget.state().check(self.budget.limit, self.id, bytes, 0)
    }

    /// Takes `bytes` for a buffer to be made, and counts its first use: both at once, so that no byte is in use and reserved.
    ///
    /// # Errors
    /// `RESOURCE_EXHAUSTED` naming the numbers; then nothing is taken.
    pub(super) fn take(&self, bytes: u64) -> Result<Allocation> {
        let mut state = self.budget.state();
        state.check(self.budget.limit, self.id, bytes, 0)?;
        state.allocated += bytes;
        let key = state.number();
        self.count(&mut state, key, bytes);
        Ok(Allocation { budget: Arc::clone(&self.budget), key, bytes })
    }

    /// Counts one more use of what was taken.
    ///
    /// # Errors
    /// `RESOURCE_EXHAUSTED` when it is new to this account and over its cap.
    pub(super) fn hold(&self, Allocation { key, bytes, .. }: &Allocation) -> Result<()> {
        let mut state = self.budget.state();
        if state.books.get(&self.id).is_some_and(|books| !books.buffers.contains_key(key)) {
            state.check(self.budget.limit, self.id, *bytes, *bytes)?;
        }
        self.count(&mut state, *key, *bytes);
        Ok(())
    }

    fn count(&self, state: &mut State, key: u64, bytes: u64) {
        let Some(books) = state.books.get_mut(&self.id) else { return };
        let (uses, _) = books.buffers.entry(key).or_insert((0, bytes));
        books.held += if *uses == 0 { bytes } else { 0 };
        *uses += 1;
    }

    /// Counts one use less, after what it was of may have been given back.
    pub(super) fn let_go(&self, key: u64) {
        let mut state = self.budget.state();
        let Some(books) = state.books.get_mut(&self.id) else { return };
        let Some((uses, bytes)) = books.buffers.get_mut(&key) else { return };
        *uses -= 1;
        if *uses == 0 {
            books.held -= *bytes;
            books.buffers.remove(&key);
        }
    }
}

impl Drop for Account {
    fn drop(&mut self) {
        self.budget.state().books.remove(&self.id);
    }
}

/// The stay of one version of a model: over, and told to be, when all that was made for it is gone.
#[derive(Debug)]
pub struct Tenancy {
    account: Arc<Account>,
    /// Goes after the account.
    _over: oneshot::Sender<()>,
}

impl Tenancy {
    /// Begins one. Also gives what ends with it.
    pub fn begin(account: Arc<Account>) -> (Arc<Self>, oneshot::Receiver<()>) {
        let (over, is_over) = oneshot::channel();
        (Arc::new(Self { account, _over: over }), is_over)
    }

    /// One of an account of its own, without bound: for work that is no model's.
    pub fn unbounded() -> Arc<Self> {
        Self::begin(MemoryBudget::new(None).account("")).0
    }

    /// Whose memory it takes.
    pub fn account(&self) -> &Arc<Account> {
        &self.account
    }
}

/// Bytes allocated, given back when dropped.
#[derive(Debug)]
pub(super) struct Allocation {
    budget: Arc<MemoryBudget>,
    /// What accounts know it by.
    pub(super) key: u64,
    bytes: u64,
}

impl Drop for Allocation {
    fn drop(&mut self) {
        self.budget.state().allocated -= self.bytes;
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::error::Code;

    fn refused(result: Result<impl Sized>) -> String {
        let error = result.err().expect("too much");
        assert_eq!(error.code(), Code::ResourceExhausted);
        error.message().to_owned()
    }

    #[test]
    fn the_sum_is_bounded_and_given_back() {
        let budget = MemoryBudget::new(Some(100));
        let (a, b) = (budget.account("a"), budget.account("b"));
        let taken = a.take(60).expect("it fits");
        assert_eq!(
            refused(b.take(41)),
            "41 more bytes of device memory are needed, 40 are free: the budget is 100, 60 are in use, 0 are reserved for \
             other models"
        );
        let rest = b.take(40).expect("it just fits");
        drop(taken);
        assert_eq!(budget.in_use().allocated, 40);
        drop(rest);
        assert_eq!(budget.in_use().allocated, 0);
        refused(a.check(u64::MAX));
    }

    #[test]
    fn a_model_has_its_cap_and_its_reserve() {
        let budget = MemoryBudget::new(Some(100));
        let (a, b) = (budget.account("a"), budget.account("b"));
        a.bound(Some(70), 70).expect("it is free");
        assert!(refused(b.bound(Some(70), 70)).contains("30 are free"));
        b.bound(Some(70), 0).expect("nothing is reserved");
        assert!(refused(b.take(31)).contains("70 are reserved for other models"));
        let rest = b.take(30).expect("what is not reserved");
        let own = a.take(50).expect("its reserve");
        assert!(refused(b.take(1)).contains("0 are free"), "what is taken of a reserve is not reserved any more");
        assert_eq!(
            refused(a.take(21)),
            "21 more bytes of device memory are needed, 50 of the 70 that model a may have are in use (its \
             per_process_gpu_memory_fraction)"
        );
        // Held twice, counted once; what others have allocated counts against the cap too.
        a.hold(&own).expect("known");
        let more = a.take(20).expect("within the cap");
        assert!(refused(a.hold(&rest)).contains("70 of the 70"));
        a.let_go(own.key);
        assert_eq!(budget.in_use().accounts[0].held, 70);
        a.let_go(own.key);
        assert_eq!(budget.in_use().accounts[0].held, 20);
        drop((own, rest, more, a));
        assert_eq!(budget.in_use().accounts.len(), 1);
        b.bound(None, 0).expect("no cap");
        drop(b.take(100).expect("the reserve went with its account"));
    }
}
