//! A model made runnable: proofs, plans and runs by shape.

use std::collections::HashMap;
use std::future::Future;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use tokio::sync::oneshot;

use super::ahead::Ahead;
use super::compile::{prove_rows, specialise};
use super::device::Times;
use super::ir::{Given, Graph, Profile};
use super::load_times::LoadTimes;
use super::plans::Plans;
use super::profiled::{Profiled, profile};
use super::runner;
use crate::error::{Error, Result};
use crate::tensor::{Dim, Shape, Signature, Tensor};

/// Verdicts on sets of inner shapes that are remembered; past it all are forgotten.
const MAX_REMEMBERED: usize = 1024;
/// An input of more elements is not compiled for by value.
const MAX_DECIDING_ELEMENTS: usize = 16;

/// Whether requests may share a batch.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Merging {
    /// Rows are proven independent; batches are padded to one of these sizes, ascending.
    Rows {
        /// Batch sizes that are warm or asked for by the operator. Grows while the rest warm up.
        batch_sizes: Vec<usize>,
    },
    /// One request at a time, and why.
    Alone {
        /// The reason, naming the node.
        reason: String,
    },
}

/// What a run may count on, and what may be counted on of it.
#[derive(Clone, Copy, Debug, Default)]
pub struct Demand {
    /// When nobody waits any more.
    pub deadline: Option<Instant>,
    /// Device time that it is expected to take; zero where nothing is known.
    pub expected: Duration,
    /// It can go elsewhere: where no lane works it is given back as [`NotBegun`] instead of waiting for one.
    pub elsewhere: bool,
}

/// Why a run was given back: no lane works, and none had begun it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("every lane has lost its device, and none had begun the run")]
pub struct NotBegun;

impl From<NotBegun> for Error {
    fn from(cause: NotBegun) -> Self {
        Self::unavailable(cause.to_string()).with_source(cause)
    }
}

/// Where the time of one run went.
#[derive(Clone, Copy, Debug, Default)]
pub struct RunStats {
    /// Which lane ran it.
    pub lane: usize,
    /// Of all its segments together.
    pub times: Times,
}

/// What a run gives.
#[derive(Clone, Debug, Default)]
pub struct RunOutput {
    /// Outputs in the signature's order.
    pub outputs: Vec<Tensor>,
    /// Where the time went.
    pub stats: RunStats,
    /// What ran on the host, `Operator:node:reason` each, in order.
    pub host_steps: Vec<String>,
}

/// What a model's answers can be held against, on the host.
#[derive(Clone, Debug)]
pub struct Reference {
    /// What runs on the device.
    pub graph: Arc<Graph>,
    /// Whether equal inputs give equal outputs.
    pub is_pure: bool,
    /// Whether the device stores floats of 32 bits in 16.
    pub halves: bool,
}

/// The extents behind axis 0 of each input; none for what has no axes.
type Inner = Vec<Option<Vec<usize>>>;

/// A model made runnable on an engine's lanes. Dropping it frees its executables and weights.
#[derive(Debug)]
pub struct Session {
    graph: Arc<Graph>,
    plans: Arc<Plans>,
    /// Why requests with these inner shapes may not be merged; `None` when they may.
    verdicts: Mutex<HashMap<Inner, Option<String>>>,
    /// Why requests are never merged, whatever their shapes.
    single: Option<String>,
    profile: Profile,
    /// Inputs whose values decide shapes or control flow: programs are compiled for what they hold.
    by_value: Vec<bool>,
    released: Mutex<Option<oneshot::Receiver<()>>>,
}

impl Session {
    pub(super) fn new(
        graph: Arc<Graph>,
        (plans, released): (Arc<Plans>, oneshot::Receiver<()>),
        profile: Profile,
        single: Option<String>,
    ) -> Self {
        let (by_value, released) = (deciding_inputs(&graph), Mutex::new(Some(released)));
        Self { graph, plans, verdicts: Mutex::default(), single, profile, by_value, released }
    }

    /// Ends when the session is gone and its device memory given back; the first caller gets it.
    pub fn released(&self) -> Option<oneshot::Receiver<()>> {
        self.released.lock().unwrap_or_else(PoisonError::into_inner).take()
    }

    /// Names, types and declared extents of inputs and outputs.
    pub fn signature(&self) -> &Signature {
        &self.graph.signature
    }

    /// The optimised graph that is run.
    pub fn graph(&self) -> &Graph {
        &self.graph
    }

    /// What its answers can be held against.
    pub fn reference(&self) -> Reference {
        let is_pure = self.graph.nodes.iter().all(|node| node.op.is_pure());
        let halves = self.profile.half_precision && self.profile.stores_f16();
        Reference { graph: Arc::clone(&self.graph), is_pure, halves }
    }

    /// Whether requests whose inputs have these shapes, axis 0 apart, may be merged along axis 0. Proven once for each set
    /// of inner shapes; costs milliseconds the first time.
    pub fn merging(&self, shapes: &[Shape]) -> Merging {
        match self.verdict(shapes) {
            Some(reason) => Merging::Alone { reason },
            None => Merging::Rows { batch_sizes: self.plans.batch_sizes() },
        }
    }

    fn verdict(&self, shapes: &[Shape]) -> Option<String> {
        if self.single.is_some() {
            return self.single.clone();
        }
        // A value without axes is not one row of those with one.
        let key: Inner = shapes.iter().map(|s| s.get(1..).map(<[usize]>::to_vec)).collect();
        let mut verdicts = self.verdicts.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(verdict) = verdicts.get(&key) {
            return verdict.clone();
        }
        if verdicts.len() >= MAX_REMEMBERED {
            verdicts.clear();
        }
        let verdict = prove_rows(&self.graph, shapes, &self.profile).err();
        verdicts.insert(key, verdict.clone());
        verdict
    }

    /// Whether an executable for exactly these input shapes is ready, so that `run` will not compile. Where values decide
    /// too, those of one such executable.
    pub fn is_ready(&self, shapes: &[Shape]) -> bool {
        if self.by_value.contains(&true) {
            return self.plans.any_of_shapes(shapes);
        }
        self.plans.ready(&by_shape(shapes)).is_some()
    }

    /// Makes runs of these shapes ready on one lane: compiles for them on the load thread, if need be. Where values decide too, there
    /// is nothing to be done before they are known.
    ///
    /// # Errors
    /// Those of compiling; `RESOURCE_EXHAUSTED` beyond the allowance for new shapes.
    pub fn prepare(&self, shapes: &[Shape]) -> impl Future<Output = Result<()>> + Send + 'static {
        let (plans, key) = (Arc::clone(&self.plans), by_shape(shapes));
        let decided = !self.by_value.contains(&true);
        async move { if decided { plans.demand(key).await.map(drop) } else { Ok(()) } }
    }

    /// As [`Session::prepare`] for exactly these inputs, whatever decides.
    ///
    /// # Errors
    /// Those of [`Session::prepare`].
    pub fn prepare_for(&self, inputs: &[Tensor]) -> impl Future<Output = Result<()>> + Send + 'static {
        let (plans, key) = (Arc::clone(&self.plans), self.key(inputs));
        async move { plans.demand(key).await.map(drop) }
    }

    /// What a run of these inputs would wait for on the lane that it would go to; `None` where it must be compiled first, or no lane
    /// that has it works.
    pub fn ahead(&self, inputs: &[Tensor]) -> Option<Ahead> {
        let plan = self.plans.ready(&self.key(inputs))?;
        runner::pick(&plan).map(|(_, berth)| Ahead::on(&berth.lane))
    }

    /// Whether any lane works.
    pub fn works(&self) -> bool {
        self.plans.lanes().work()
    }

    /// Whether none will work any more.
    pub fn is_hopeless(&self) -> bool {
        self.plans.lanes().is_hopeless()
    }

    /// The time of a row as the runs of the load tell it, which are cold; `None` where there were none.
    pub fn row_time(&self) -> Option<Duration> {
        self.plans.row_time()
    }

    /// Waits until runs of these shapes, asked for before, can use every lane.
    ///
    /// # Errors
    /// `UNAVAILABLE` when that takes longer than `timeout`.
    pub fn wait_for_lanes(&self, shapes: &[Shape], timeout: Duration) -> Result<()> {
        self.plans.wait_for_lanes(&by_shape(shapes), timeout)
    }

    /// Measures which kernels are fastest for these shapes, if the engine's options say so and it is not known yet. A load does
    /// this for declared shapes by itself.
    ///
    /// # Errors
    /// Those of compiling and running for these shapes.
    pub fn tune(&self, shapes: &[Shape]) -> Result<()> {
        self.plans.tune(&by_shape(shapes))
    }

    /// Times the dispatches of a run with these input shapes on every lane that is ready for it, by runs on whatever the last
    /// ones left in memory. Empty before such a run.
    ///
    /// # Errors
    /// `UNAVAILABLE` when a device is lost.
    pub fn profile(&self, shapes: &[Shape], runs: usize) -> Result<Vec<Vec<Profiled>>> {
        let Some(plan) = self.plans.ready(&by_shape(shapes)) else { return Ok(Vec::new()) };
        plan.ready().map(|(_, berth)| profile(&berth.lane, &berth.executable, runs)).collect()
    }

    /// Where the time of the load went so far.
    pub fn load_times(&self) -> &LoadTimes {
        self.plans.times()
    }

    /// 2 × multiply-adds of a run with these input shapes, if its executable is ready.
    pub fn flops(&self, shapes: &[Shape]) -> Option<f64> {
        Some(self.plans.ready(&by_shape(shapes))?.program.flops)
    }

    /// What runs on the host in a run with these input shapes, if its executable is ready: `Operator:node:reason` each.
    pub fn host_steps(&self, shapes: &[Shape]) -> Option<Vec<String>> {
        Some(self.plans.ready(&by_shape(shapes))?.program.host_steps())
    }

    /// Checks that the model can take inputs of these shapes, by shape inference alone.
    ///
    /// # Errors
    /// `INVALID_ARGUMENT` naming the node at which inference fails.
    pub fn check_shapes(&self, shapes: &[Shape]) -> Result<()> {
        if self.is_ready(shapes) || matches!(self.merging(shapes), Merging::Rows { .. }) {
            return Ok(());
        }
        specialise(&self.graph, &by_shape(shapes), &self.profile).map(drop)
    }

    /// Input shapes with every extent that the signature leaves open set to `open`, axis 0 to `rows`; `None` when a rank is
    /// unknown, or an inner extent is open and `open` is `None`.
    pub fn shapes_for(&self, rows: usize, open: Option<usize>) -> Option<Vec<Shape>> {
        declared_shapes(self.signature(), rows, open)
    }

    /// What a program for these inputs may rely on.
    fn key(&self, inputs: &[Tensor]) -> Vec<Given> {
        let given = |(i, tensor): (usize, &Tensor)| {
            let decides = self.by_value.get(i) == Some(&true) && tensor.shape().rank() <= 1;
            // Only elements of a fixed size are worth a program of their own.
            if decides && tensor.dtype().bits() > 0 && tensor.shape().elements() <= MAX_DECIDING_ELEMENTS {
                Given::Value(tensor.clone())
            } else {
                Given::of(tensor)
            }
        };
        inputs.iter().enumerate().map(given).collect()
    }

    /// Runs on the lane where it is done first, by what is expected of the runs before it. `inputs` are in the signature's order with its dtypes, shapes any that the model can
    /// take: a new shape is compiled first, on a load thread. Work whose deadline passes before it is submitted, or whose
    /// future is dropped before, is not executed.
    pub fn run(&self, inputs: Vec<Tensor>, demand: Demand) -> impl Future<Output = Result<RunOutput>> + Send + 'static {
        let plans = Arc::clone(&self.plans);
        let key = self.key(&inputs);
        async move {
            let plan = match plans.ready(&key) {
                Some(plan) => plan,
                None => plans.demand(key).await?,
            };
            runner::run(plans.lanes(), &plan, inputs, demand).await
        }
    }
}

impl Drop for Session {
    fn drop(&mut self) {
        self.plans.close();
    }
}

fn by_shape(shapes: &[Shape]) -> Vec<Given> {
    shapes.iter().map(Given::from).collect()
}

/// Which inputs the values of shapes, axes or conditions are computed from, as far as the graph alone can tell.
fn deciding_inputs(graph: &Graph) -> Vec<bool> {
    let mut decides = vec![false; graph.values.len()];
    for node in graph.nodes.iter().rev() {
        let passes_on = node.op.reads_values() && node.outputs.iter().flatten().any(|v| decides[v.0]);
        for (i, value) in node.inputs.iter().enumerate() {
            if let Some(value) = value {
                decides[value.0] |= passes_on || node.op.shape_inputs().contains(&i);
            }
        }
    }
    let small = |dims: &Option<Vec<Dim>>| dims.as_ref().is_none_or(|d| d.len() <= 1);
    graph.inputs.iter().zip(&graph.signature.inputs).map(|(v, spec)| decides[v.0] && small(&spec.dims)).collect()
}

/// See [`Session::shapes_for`]. There are none for sequences and optional values.
pub(super) fn declared_shapes(signature: &Signature, rows: usize, open: Option<usize>) -> Option<Vec<Shape>> {
    let shape = |dims: &Vec<Dim>| {
        let extents = dims.iter().enumerate().map(|(axis, dim)| match (axis, dim.fixed()) {
            (_, Some(n)) => Some(n),
            (0, None) => Some(rows),
            (_, None) => open,
        });
        extents.collect::<Option<Vec<_>>>().map(Shape::new)
    };
    signature.inputs.iter().map(|spec| shape(spec.dims.as_ref().filter(|_| !spec.dtype.is_compound())?)).collect()
}
