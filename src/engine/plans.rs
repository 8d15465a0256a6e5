//! The executables of one model, by input shapes: compiled on one thread, demands first, background warming after.

use std::sync::{Arc, Condvar, Mutex, PoisonError, RwLock};
use std::time::{Duration, Instant};

use tokio::sync::oneshot;

use super::batches::{self, Measured};
use super::compile::compile;
use super::demand::{Limits, State, Task};
use super::device::{KeptWeights, Lane};
use super::ir::{Choices, Given, Graph, Profile, Program};
use super::lanes::{Lanes, Tenant, needed};
use super::load_times::LoadTimes;
use super::plan::{Berth, Key, Plan, elements, rows, with_rows};
use super::tuning::Tuning;
use crate::error::{Code, Error, Result};
use crate::tensor::Shape;

/// Lanes that a plan is made on at most, each lost while it was.
const MAX_ATTEMPTS: usize = 3;

/// The plans of one model.
#[derive(Debug)]
pub(super) struct Plans {
    graph: Arc<Graph>,
    profile: Profile,
    lanes: Arc<Lanes>,
    limits: Limits,
    tuning: Arc<Tuning>,
    times: LoadTimes,
    state: Mutex<State>,
    /// There is work for the compile thread, or it shall end.
    wake: Condvar,
    /// A piece of background work is done.
    progress: Condvar,
}

impl Plans {
    /// No plans yet; compiles happen on a thread that ends when the last handle but its own is dropped and [`Plans::close`]
    /// was called.
    pub(super) fn start(
        graph: Arc<Graph>,
        profile: Profile,
        lanes: Arc<Lanes>,
        limits: Limits,
        tuning: Arc<Tuning>,
    ) -> Result<Arc<Self>> {
        let plans = Self::nested(graph, profile, lanes, limits, tuning);
        let tenant: Arc<dyn Tenant> = Arc::clone(&plans) as _;
        plans.lanes.tell(Arc::downgrade(&tenant));
        let worker = Arc::clone(&plans);
        let name = format!("compile-{}", plans.limits.name);
        std::thread::Builder::new().name(name.chars().take(15).collect()).spawn(move || worker.work())?;
        Ok(plans)
    }

    /// Plans for what follows a run: made by [`Plans::follow`] on the threads of those runs, not on one of their own.
    fn nested(
        graph: Arc<Graph>,
        profile: Profile,
        lanes: Arc<Lanes>,
        limits: Limits,
        tuning: Arc<Tuning>,
    ) -> Arc<Self> {
        Arc::new(Self {
            graph,
            profile,
            lanes,
            limits,
            tuning,
            times: LoadTimes::default(),
            state: Mutex::default(),
            wake: Condvar::new(),
            progress: Condvar::new(),
        })
    }

    /// The plan for these inputs on this lane, made now and here if it is not there yet.
    pub(super) fn follow(&self, key: &[Given], index: usize, lane: &Arc<Lane>) -> Result<(Arc<Plan>, Berth)> {
        let plan = match self.ready(key) {
            Some(plan) => plan,
            None => {
                let plan = Arc::new(self.plan(key, false)?);
                let mut state = self.state();
                state.evict();
                Arc::clone(state.ready.entry(key.to_vec()).or_insert(plan))
            }
        };
        let there = plan.berth(index).filter(|berth| Arc::ptr_eq(&berth.lane, lane));
        let berth = match there {
            Some(berth) => berth,
            None => {
                // Another run may have been quicker: then its executable is let go.
                let executable = lane.prepare_for(&self.limits.tenancy, &plan.program)?;
                let berth = Berth { executable, lane: Arc::clone(lane) };
                plan.settle(index, berth.clone());
                berth
            }
        };
        Ok((plan, berth))
    }

    /// Where the time of the load goes.
    pub(super) fn times(&self) -> &LoadTimes {
        &self.times
    }

    /// The lanes that plans run on.
    pub(super) fn lanes(&self) -> &Lanes {
        &self.lanes
    }

    fn state(&self) -> std::sync::MutexGuard<'_, State> {
        // Every change of the state is a single step: a panic elsewhere leaves it whole.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The plan for exactly these shapes, if it can run now.
    pub(super) fn ready(&self, shapes: &[Given]) -> Option<Arc<Plan>> {
        let plan = Arc::clone(self.state().ready.get(shapes)?);
        *plan.last_used.lock().unwrap_or_else(PoisonError::into_inner) = Instant::now();
        Some(plan)
    }

    /// Whether there is a plan for inputs of these shapes, whatever their values.
    pub(super) fn any_of_shapes(&self, shapes: &[Shape]) -> bool {
        let same = |key: &Key| key.len() == shapes.len() && key.iter().zip(shapes).all(|(g, s)| g.shape() == s);
        self.state().ready.keys().any(same)
    }

    /// Waits until the plan for these shapes is on every lane that has memory for it.
    pub(super) fn wait_for_lanes(&self, shapes: &[Given], timeout: Duration) -> Result<()> {
        let waiting = |state: &mut State| {
            let plan = state.ready.get(shapes);
            plan.is_none_or(|p| p.ready().count() < p.width)
        };
        let (_state, waited) =
            self.progress.wait_timeout_while(self.state(), timeout, waiting).unwrap_or_else(PoisonError::into_inner);
        if waited.timed_out() {
            return Err(Error::unavailable(format!("not every lane was ready within {timeout:?}")));
        }
        Ok(())
    }

    /// Batch sizes that requests are padded to, ascending.
    pub(super) fn batch_sizes(&self) -> Vec<usize> {
        self.state().batch_sizes.clone()
    }

    /// The time of a row in the batch that was run last to warm up.
    pub(super) fn row_time(&self) -> Option<Duration> {
        self.state().measured.map(Measured::of_a_row)
    }

    /// The plan for these shapes, compiled on the load thread if need be. Dropping the future gives up waiting.
    pub(super) async fn demand(&self, key: Key) -> Result<Arc<Plan>> {
        let (sender, receiver) = oneshot::channel();
        {
            let mut state = self.state();
            if let Some(plan) = state.ready.get(&key) {
                return Ok(Arc::clone(plan));
            }
            let waiting: usize = state.waiting.values().map(Vec::len).sum();
            if waiting >= self.limits.max_waiting {
                return Err(Error::resource_exhausted(format!(
                    "model {}: {waiting} requests wait for new shapes to be compiled, which is the limit",
                    self.limits.name
                )));
            }
            if !state.waiting.contains_key(&key) {
                state.admit(&self.limits)?;
                state.demands.push_back(key.clone());
            }
            state.waiting.entry(key).or_default().push(sender);
        }
        self.wake.notify_one();
        let gone = || Error::unavailable(format!("model {} is being unloaded", self.limits.name));
        receiver.await.map_err(|_| gone())?
    }

    /// Makes the plan for these shapes ready on the first lane, on the calling thread, and keeps it for good.
    pub(super) fn pin(&self, key: &[Given]) -> Result<Arc<Plan>> {
        self.tune(key)?;
        let plan = self.build(key, true)?;
        let measured = Measured::of(rows(key), || self.run_once(&plan))?;
        self.state().measured = Some(measured);
        self.publish(key, &plan);
        Ok(plan)
    }

    /// Makes `sizes` of these shapes available in turn: the first two at once, the others in the background, or all at once
    /// where kernels are measured, which requests would disturb. Without `asked`, stops at the first that is slow.
    pub(super) fn warm_batches(&self, shapes: &[Given], asked: &[usize]) -> Result<()> {
        let sizes = batches::sizes(asked);
        for (position, rows) in sizes.iter().enumerate() {
            let key = with_rows(shapes, *rows);
            let rest = sizes[position + 1..].to_vec();
            if position < 2 || self.tuning.measures() {
                if !self.warm_batch(&key, *rows, !asked.is_empty() || position == 0)? {
                    return Ok(());
                }
            } else {
                let asked = !asked.is_empty();
                self.state().background.push_back(Task::Batch { key, rows: *rows, rest, asked });
                self.wake.notify_one();
                return Ok(());
            }
        }
        Ok(())
    }

    /// Whether the batch size is there now: too slow or too large a default one is left out. Only the smallest is run, and
    /// those of which it cannot be told from what was run before whether they are quick enough.
    fn warm_batch(&self, key: &[Given], rows: usize, must: bool) -> Result<bool> {
        let too_slow = |time: Duration| {
            tracing::info!(model = self.limits.name, rows, ?time, "larger batches would take too long");
            Ok(false)
        };
        let measured = self.state().measured;
        if let Some(fewer) = measured.filter(|fewer| !must && fewer.is_slow()) {
            return too_slow(fewer.time);
        }
        let plan = match self.tune(key).and_then(|()| self.build(key, true)) {
            Ok(plan) => plan,
            Err(error) if must => return Err(error),
            Err(error) => {
                tracing::info!(model = self.limits.name, rows, %error, "larger batches do not fit");
                return Ok(false);
            }
        };
        if measured.is_none_or(|fewer| !must && !fewer.promises(rows)) {
            let measured = Measured::of(rows, || self.run_once(&plan))?;
            self.state().measured = Some(measured);
            if !must && measured.is_slow() {
                return too_slow(measured.time);
            }
        }
        self.publish(key, &plan);
        self.state().batch_sizes.push(rows);
        Ok(true)
    }

    /// The time of a run on zeros.
    fn run_once(&self, plan: &Plan) -> Result<Duration> {
        let Some((_, berth)) = plan.ready().next() else { return Ok(Duration::ZERO) };
        self.times.time("first runs", || berth.lane.warm(&berth.executable))
    }

    /// Measures which kernels are fastest, where that is wanted.
    pub(super) fn tune(&self, key: &[Given]) -> Result<()> {
        if !self.tuning.measures() {
            return Ok(());
        }
        let compile = |choices: &Choices| {
            let program = compile(&self.graph, key, &self.profile, choices)?;
            self.check_memory(&program)?;
            Ok(program)
        };
        let lane = self.lanes.get(self.lanes.working())?;
        self.times.time("tuning", || self.tuning.measure(&lane, &self.limits.tenancy, &compile))
    }

    /// Compiles, and prepares on the first lane that works, so that the driver has compiled too.
    fn build(&self, key: &[Given], pinned: bool) -> Result<Arc<Plan>> {
        let plan = Arc::new(self.plan(key, pinned)?);
        let mut attempts = 1;
        while let Err(error) = self.prepare(&plan, self.lanes.working()) {
            // Lanes that were lost come back.
            if error.code() != Code::Unavailable || attempts == MAX_ATTEMPTS {
                return Err(error);
            }
            self.lanes.wait_for_any()?;
            attempts += 1;
        }
        Ok(plan)
    }

    /// Compiles, for no lane yet.
    fn plan(&self, key: &[Given], pinned: bool) -> Result<Plan> {
        let choices = self.tuning.choices();
        let program = Arc::new(self.times.time("compiling", || compile(&self.graph, key, &self.profile, &choices))?);
        let width = self.check_memory(&program)?;
        let rest = program.rest.as_ref().map(|rest| {
            let limits = self.limits.clone();
            let tuning = Arc::clone(&self.tuning);
            Self::nested(Arc::clone(&rest.graph), self.profile.clone(), Arc::clone(&self.lanes), limits, tuning)
        });
        Ok(Plan {
            program,
            berths: (0..self.lanes.count()).map(|_| RwLock::default()).collect(),
            width,
            rest,
            exclusive: Mutex::default(),
            last_used: Mutex::new(Instant::now()),
            pinned,
        })
    }

    fn prepare(&self, plan: &Plan, index: usize) -> Result<()> {
        let lane = self.lanes.get(index)?;
        let prepare = || lane.prepare_for(&self.limits.tenancy, &plan.program);
        let executable = self.times.time("preparing", prepare)?;
        self.times.time("driver", || lane.touch(&executable))?;
        plan.settle(index, Berth { executable, lane });
        self.lanes.say_changed();
        Ok(())
    }

    /// Counts weights, activations and buffers of `program` on every lane before anything is allocated. On how many lanes there
    /// is memory for it: on all, unless fewer will do.
    fn check_memory(&self, program: &Program) -> Result<usize> {
        let lanes = self.lanes.all();
        let check = |width: usize| {
            let place = |e: Error| e.at(format_args!("model {} on {width} lanes", self.limits.name));
            self.limits.tenancy.account().check(needed(&lanes[..width], program)).map_err(place)
        };
        let Err(error) = check(lanes.len()) else { return Ok(lanes.len()) };
        let fewer = (1..lanes.len()).rev().filter(|_| self.lanes.are_flexible()).find(|width| check(*width).is_ok());
        let width = fewer.ok_or(error)?;
        tracing::info!(
            model = self.limits.name,
            lanes = width,
            of = lanes.len(),
            "there is no memory for it on more lanes"
        );
        Ok(width)
    }

    /// Lets go of everything on lane `index`; gives the plans that had it, with the size of their inputs and the weights that
    /// stay.
    pub(super) fn vacate(&self, index: usize) -> Vec<(usize, Arc<Plan>, KeptWeights)> {
        let plans: Vec<_> = self.state().ready.iter().map(|(key, plan)| (elements(key), Arc::clone(plan))).collect();
        let vacate = |(elements, plan): (usize, Arc<Plan>)| {
            let kept = plan.vacate(index);
            (elements, plan, kept)
        };
        plans.into_iter().map(vacate).collect()
    }

    fn publish(&self, key: &[Given], plan: &Arc<Plan>) {
        let mut state = self.state();
        state.evict();
        state.ready.insert(key.to_vec(), Arc::clone(plan));
        let others = (0..plan.width).filter(|index| plan.berth(*index).is_none());
        let task = |lane| Task::Lane { plan: Arc::clone(plan), lane, _kept: KeptWeights::default() };
        state.background.extend(others.map(task));
        drop(state);
        self.wake.notify_one();
    }

    /// Ends the compile thread once it is idle; requests that wait are told.
    pub(super) fn close(&self) {
        let mut state = self.state();
        state.closed = true;
        state.background.clear();
        state.demands.clear();
        state.waiting.clear();
        drop(state);
        self.wake.notify_all();
    }

    fn work(&self) {
        loop {
            let mut state = self.state();
            while !state.closed && state.demands.is_empty() && state.background.is_empty() {
                state = self.wake.wait(state).unwrap_or_else(PoisonError::into_inner);
            }
            if state.closed {
                return;
            }
            if let Some(key) = state.demands.pop_front() {
                drop(state);
                self.serve_demand(&key);
            } else if let Some(task) = state.background.pop_front() {
                drop(state);
                self.serve_task(task);
                // Waiters look under the lock: taking it here lets none of them miss this.
                drop(self.state());
                self.progress.notify_all();
            }
        }
    }

    fn serve_demand(&self, key: &[Given]) {
        // Nobody compiles for callers that have given up.
        let wanted = self.state().waiting.get(key).is_some_and(|w| w.iter().any(|s| !s.is_closed()));
        let result = if wanted { Some(self.build(key, false)) } else { None };
        if let Some(Ok(plan)) = &result {
            self.publish(key, plan);
        }
        let waiters = self.state().waiting.remove(key).unwrap_or_default();
        for waiter in waiters {
            let answer = match &result {
                Some(answer) => answer.clone(),
                None => Err(Error::cancelled("the caller gave up")),
            };
            // A caller that left needs no answer.
            let _ = waiter.send(answer);
        }
    }

    fn serve_task(&self, task: Task) {
        match task {
            Task::Lane { plan, lane, _kept } => {
                if plan.berth(lane).is_some() {
                    return;
                }
                if let Err(error) = self.prepare(&plan, lane) {
                    let (model, lane) = (&self.limits.name, self.lanes.number(lane));
                    tracing::warn!(model, lane, %error, "a plan could not be prepared on a lane");
                }
            }
            Task::Batch { key, rows, mut rest, asked } => {
                // Sizes that the operator asked for are all wanted; the default ones stop where they grow slow.
                match self.warm_batch(&key, rows, asked) {
                    Ok(true) if !rest.is_empty() => {
                        let rows = rest.remove(0);
                        let key = with_rows(&key, rows);
                        self.state().background.push_back(Task::Batch { key, rows, rest, asked });
                    }
                    Ok(_) => {}
                    Err(error) => tracing::warn!(model = self.limits.name, rows, %error, "a batch size failed to warm"),
                }
            }
        }
    }
}

impl Tenant for Plans {
    /// What was on it is made again: the smallest batch first, before anything else that can wait.
    fn replaced(&self, index: usize) {
        // Memory that the lost device held must not count beside what takes its place.
        let mut plans = self.vacate(index);
        plans.sort_by_key(|(elements, ..)| *elements);
        let mut state = self.state();
        for (_, plan, kept) in plans.into_iter().rev().filter(|(_, plan, _)| index < plan.width) {
            state.background.push_front(Task::Lane { plan, lane: index, _kept: kept });
        }
        drop(state);
        self.wake.notify_one();
    }
}

impl Drop for Plans {
    /// Executables go before the lanes that they are on: who waits for a lane's last holder waits for them, too.
    fn drop(&mut self) {
        *self.state.get_mut().unwrap_or_else(PoisonError::into_inner) = State::default();
    }
}
