//! The engine: the chosen adapter's lanes, and models made runnable on them.

use std::collections::HashMap;
use std::path::PathBuf;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError, Weak};
use std::time::{Duration, Instant};

use super::compile::{optimise, prove_rows, rebatch};
use super::demand::Limits;
use super::device::{
    Account, Adapter, Lane, LaneOptions, Mask, MemoryBudget, MemoryUse, Replay, ShareWeights, Tenancy, Way, WeightUse,
};
use super::ir::{Given, Graph, Precision, Profile};
use super::lane_count::LaneCount;
use super::lanes::{Keeper, Lanes};
use super::memory::{MemoryBound, MemoryShare, part};
use super::plans::Plans;
use super::session::{Session, declared_shapes};
use super::tuning::{Tune, Tuning};
use crate::error::{Error, Result};

/// Which devices to use and how.
#[derive(Clone, Debug)]
pub struct EngineOptions {
    /// `auto`, `software`, an index, or part of an adapter's name.
    pub device: String,
    /// Queues to open on the adapter.
    pub lanes: LaneCount,
    /// The number of the first; the others follow it. Lanes of all engines in a process should have numbers of their own.
    pub first_lane: usize,
    /// Submissions in flight on each lane, at least 2.
    pub in_flight: usize,
    /// Features to do without: `subgroups`, `f16`, `int64`, `f64`, `matrices`.
    pub without: Vec<String>,
    /// Features to use although they are not known to work with this driver: `matrices`.
    pub with: Vec<String>,
    /// `software` or `gpu`, to override what the adapter's kind suggests.
    pub family: Option<String>,
    /// Device memory that models may use in all.
    pub memory: MemoryBound,
    /// How the choice among kernels is made.
    pub tune: Tune,
    /// How the floats of models are stored whose settings do not say.
    pub precision: Precision,
    /// Where measured choices and compiled kernels are kept; `None`: nowhere.
    pub cache: Option<PathBuf>,
    /// Keep bounds checks and loop bounds in kernels.
    pub checked_kernels: bool,
    /// Work of a device that takes longer is taken to never end: the device is given up.
    pub hang_time: Duration,
    /// An adapter none of whose devices has worked for so long is given up.
    pub loss_time: Duration,
    /// When lanes have their weights in common.
    pub share_weights: ShareWeights,
    /// How batches are replayed.
    pub replay: Replay,
}

impl Default for EngineOptions {
    fn default() -> Self {
        Self {
            device: "auto".into(),
            lanes: LaneCount::Exactly(1),
            first_lane: 0,
            in_flight: 2,
            without: Vec::new(),
            with: Vec::new(),
            family: None,
            memory: MemoryBound::default(),
            tune: Tune::Off,
            precision: Precision::Auto,
            cache: None,
            checked_kernels: false,
            hang_time: LaneOptions::default().hang_time,
            loss_time: LaneOptions::default().loss_time,
            share_weights: ShareWeights::Auto,
            replay: Replay::Auto,
        }
    }
}

/// How to load one model.
#[derive(Clone, Debug)]
pub struct LoadOptions {
    /// The model's name, for messages.
    pub name: String,
    /// Batch sizes to compile, ascending; empty: powers of two up to what fits 250 ms and the budget, at most 64.
    pub batch_sizes: Vec<usize>,
    /// Never merge requests.
    pub single: bool,
    /// Compile and run the declared shapes now rather than when a request comes.
    pub warm: bool,
    /// New shapes that requests may make us compile each minute.
    pub max_shapes_per_minute: usize,
    /// Requests that may wait for one compile at a time.
    pub max_waiting: usize,
    /// How floats are stored; `None`: as the engine's options say.
    pub precision: Option<Precision>,
    /// Let requests for a model exported with batch 1 be merged, or refuse the model.
    pub rebatch: bool,
    /// Whose device memory it takes, as [`Engine::account`] gives it; `None`: whatever is free.
    pub account: Option<Arc<Account>>,
}

impl Default for LoadOptions {
    fn default() -> Self {
        Self {
            name: "model".into(),
            batch_sizes: Vec::new(),
            single: false,
            warm: true,
            max_shapes_per_minute: 64,
            max_waiting: 1024,
            precision: None,
            rebatch: false,
            account: None,
        }
    }
}

/// Lanes on the chosen adapter; shared by all models.
#[derive(Debug)]
pub struct Engine {
    adapter: Adapter,
    profile: Profile,
    lanes: Arc<Lanes>,
    memory: Arc<MemoryBudget>,
    /// Bytes that fractions are of, if known.
    memory_total: Option<u64>,
    /// By model name.
    accounts: Mutex<HashMap<String, Weak<Account>>>,
    precision: Precision,
    tuning: Arc<Tuning>,
    /// How often compiled kernels could not be kept.
    unkept: AtomicUsize,
    /// Ends the lanes with the engine.
    _keeper: Keeper,
}

impl Engine {
    /// Opens and self-tests the adapter.
    ///
    /// # Errors
    /// `NOT_FOUND` when no adapter fits, `INTERNAL` when its arithmetic is wrong.
    pub fn start(options: &EngineOptions) -> Result<Arc<Self>> {
        let adapter = Adapter::pick(&options.device)?;
        let memory_total = options.memory.total(&adapter);
        let memory = MemoryBudget::new(options.memory.limit(memory_total)?);
        let mask = Mask::new(&options.without, options.family.as_deref())?.with(&options.with)?;
        let profile = adapter.profile(&mask);
        let lane_options = LaneOptions {
            first: options.first_lane,
            in_flight: options.in_flight.max(2),
            checked: options.checked_kernels,
            cache: options.cache.clone(),
            fragments: profile.fragments.is_some(),
            hang_time: options.hang_time,
            loss_time: options.loss_time,
            ended: None,
            sharing: None,
            replay: options.replay,
        };
        let (lanes, keeper) = Lanes::open(&adapter, &profile, lane_options, options.lanes, options.share_weights)?;
        let tuning = Arc::new(Tuning::open(options.tune, options.cache.as_deref(), &adapter));
        Ok(Arc::new(Self {
            adapter,
            profile,
            lanes,
            memory,
            memory_total,
            accounts: Mutex::default(),
            precision: options.precision,
            tuning,
            unkept: AtomicUsize::new(0),
            _keeper: keeper,
        }))
    }

    /// The device memory of the model `name`: one account for all of its versions, while any of them is there.
    ///
    /// # Errors
    /// `RESOURCE_EXHAUSTED` naming the numbers when what is to be reserved is not free, `FAILED_PRECONDITION` for a fraction
    /// where the adapter does not tell of what.
    pub fn account(&self, name: &str, share: MemoryShare) -> Result<Arc<Account>> {
        let (cap, reserved) = self.bounds(share)?;
        let mut accounts = self.accounts.lock().unwrap_or_else(PoisonError::into_inner);
        accounts.retain(|_, account| account.strong_count() > 0);
        let account = match accounts.get(name).and_then(Weak::upgrade) {
            Some(account) => account,
            None => self.memory.account(name),
        };
        accounts.insert(name.to_owned(), Arc::downgrade(&account));
        account.bound(cap, reserved)?;
        Ok(account)
    }

    /// Another share of the device memory for the model `name`, if any of its versions is there. What they hold stays.
    ///
    /// # Errors
    /// Those of [`Engine::account`]; then nothing changes.
    pub fn share_anew(&self, name: &str, share: MemoryShare) -> Result<()> {
        let (cap, reserved) = self.bounds(share)?;
        let accounts = self.accounts.lock().unwrap_or_else(PoisonError::into_inner);
        accounts.get(name).and_then(Weak::upgrade).map_or(Ok(()), |account| account.bound(cap, reserved))
    }

    /// The bytes that a share may hold at most, and those that are reserved for it.
    fn bounds(&self, share: MemoryShare) -> Result<(Option<u64>, u64)> {
        let cap = share.fraction.map(|fraction| part(self.memory_total, fraction)).transpose()?;
        Ok((cap, cap.filter(|_| !share.grows).unwrap_or(0)))
    }

    /// How much device memory is in use, and by which models.
    pub fn memory(&self) -> MemoryUse {
        self.memory.in_use()
    }

    /// The adapter in use.
    pub fn adapter(&self) -> &Adapter {
        &self.adapter
    }

    /// What kernels may use on it.
    pub fn profile(&self) -> &Profile {
        &self.profile
    }

    /// The queues in use, as they are now: one that loses its device is replaced.
    pub fn lanes(&self) -> Vec<Arc<Lane>> {
        self.lanes.all()
    }

    /// How the lanes have weights in common; `None`: each has copies.
    pub fn sharing(&self) -> Option<Way> {
        self.lanes.sharing()
    }

    /// The memory that weights take on the lanes as they are now.
    pub fn weights(&self) -> WeightUse {
        WeightUse::on(&self.lanes.all())
    }

    /// Lanes that were replaced so far.
    pub fn lanes_replaced(&self) -> usize {
        self.lanes.replaced()
    }

    /// Whether any lane works.
    pub fn works(&self) -> bool {
        self.lanes.work()
    }

    /// Returns once devices have hung so often, or none has worked for so long, that no other is opened: nothing will run any more.
    pub async fn hopeless(&self) {
        self.lanes.hopeless().await;
    }

    /// What kernels of a model loaded under `options` may use.
    fn profile_for(&self, options: &LoadOptions) -> Profile {
        let mut profile = self.profile.clone();
        let precision = options.precision.unwrap_or(self.precision);
        profile.apply(precision);
        if precision == Precision::F16 && !profile.half_precision {
            tracing::warn!(model = options.name, "this adapter stores no 16-bit floats: precision f16 has no effect");
        }
        profile
    }

    /// Makes `graph` runnable: optimised, weights uploaded, its two smallest batch sizes warm on one lane. The rest warm in
    /// the background. Blocks for seconds; call it on a thread of its own.
    ///
    /// # Errors
    /// `UNIMPLEMENTED` for what cannot run here, `RESOURCE_EXHAUSTED` naming the numbers when memory does not suffice.
    pub fn load(self: &Arc<Self>, graph: Graph, options: LoadOptions) -> Result<Arc<Session>> {
        let profile = self.profile_for(&options);
        let start = Instant::now();
        let graph = if options.rebatch { rebatch(graph)? } else { graph };
        let graph = Arc::new(optimise(graph, &profile)?);
        let optimising = start.elapsed();
        let account = options.account.clone().unwrap_or_else(|| self.memory.account(&options.name));
        let (tenancy, released) = Tenancy::begin(account);
        let limits = Limits {
            name: options.name.clone(),
            max_shapes_per_minute: options.max_shapes_per_minute,
            max_waiting: options.max_waiting,
            tenancy,
        };
        let tuning = Arc::clone(&self.tuning);
        let plans = Plans::start(Arc::clone(&graph), profile.clone(), Arc::clone(&self.lanes), limits, tuning)?;
        plans.times().add("optimising", optimising);
        let single = options.single.then(|| "merging is switched off".to_owned());
        let session = Session::new(Arc::clone(&graph), (Arc::clone(&plans), released), profile.clone(), single);
        let Some(shapes) = declared_shapes(&graph.signature, 1, None) else {
            if options.rebatch {
                return Err(Error::failed_precondition("batch_axis is set, but extents other than axis 0's are open"));
            }
            tracing::info!(model = options.name, "input shapes are open: each is compiled when it first comes");
            return Ok(Arc::new(session));
        };
        let proven = plans.times().time("proving rows", || prove_rows(&graph, &shapes, &profile));
        if let (true, Err(reason)) = (options.rebatch, &proven) {
            return Err(Error::failed_precondition(format!("batch_axis is set, but rows do not stay apart: {reason}")));
        }
        if !options.warm {
            return Ok(Arc::new(session));
        }
        let given: Vec<Given> = shapes.iter().map(Given::from).collect();
        let proof = if options.single { Err("merging is switched off".into()) } else { proven };
        match proof {
            Ok(()) => plans.warm_batches(&given, &options.batch_sizes)?,
            Err(reason) => {
                tracing::info!(model = options.name, reason, "requests are not merged");
                plans.pin(&given)?;
            }
        }
        if let Some(steps) = session.host_steps(&shapes).filter(|s| !s.is_empty()) {
            tracing::info!(model = options.name, ?steps, "some operators run on the host");
        }
        self.keep_pipelines();
        Ok(Arc::new(session))
    }

    /// How often what was learnt could not be written into the cache folder.
    pub fn unkept(&self) -> usize {
        self.unkept.load(Ordering::Relaxed) + self.tuning.unkept()
    }

    /// Keeps compiled kernels for the next start. All lanes compile the same ones.
    fn keep_pipelines(&self) {
        let kept = self.lanes.get(0).and_then(|lane| Ok(lane.keep_pipelines()?));
        if let Err(error) = kept
            && self.unkept.fetch_add(1, Ordering::Relaxed) == 0
        {
            tracing::warn!(%error, "compiled kernels cannot be kept: the next start compiles them again");
        }
    }
}
