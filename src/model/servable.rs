//! A loaded version, answering requests.

use std::future::Future;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, LazyLock};
use std::time::{Duration, Instant};

use arc_swap::ArcSwapOption;
use tokio::sync::oneshot;

use super::checker::{Checker, Sample};
use super::config::Logging;
use super::face::{Face, Faces};
use super::id::ServableId;
use super::loader::{Loaded, Model};
use super::lots::{Lot, Lots, common_rows};
use super::observer::{Observer, Scoped};
use super::warm_up::WarmUp;
use crate::batch::{
    Answer, BatchReport, Batcher, Clock, Closed, Guard, Join, Observer as _, Order, Parameters, Policy, Priority, Ran,
    Request, Rows, Setting, Shapes, Tally, Timing, Turns, Waiting, merge_padded,
};
use crate::engine::{Demand, Merging, RunStats};
use crate::error::{Code, Error, Result};
use crate::tensor::{Dim, Shape, Signature, Tensor};

/// What times of use count from.
static EPOCH: LazyLock<Instant> = LazyLock::new(Instant::now);

/// Rows of the largest batch where requests are padded and nothing says how many.
const PADDED_ROWS_MAX: usize = 64;

/// An answered request.
pub type Prediction = Answer;

/// What a request comes with besides its inputs.
pub struct Asked {
    /// When its caller stops waiting.
    pub deadline: Option<Instant>,
    /// How urgent it is beside other requests to the model.
    pub priority: Priority,
    /// Dropped when the request's memory is given back.
    pub guard: Guard,
}

/// What all versions share.
pub struct Context<C> {
    /// Turns at the engine's lanes.
    pub turns: Arc<Turns>,
    /// Time for the batchers.
    pub clock: Arc<C>,
    /// Receives statistics.
    pub observer: Arc<dyn Observer>,
    /// Replays requests that come with a version before it serves; `None`: they are not.
    pub warm_up: Option<Arc<dyn WarmUp>>,
    /// Checks a part of the answers; `None`: none is.
    pub checker: Option<Arc<Checker>>,
}

impl<C> Clone for Context<C> {
    fn clone(&self) -> Self {
        Self {
            turns: Arc::clone(&self.turns),
            clock: Arc::clone(&self.clock),
            observer: Arc::clone(&self.observer),
            warm_up: self.warm_up.clone(),
            checker: self.checker.clone(),
        }
    }
}

/// A loaded version. Whoever holds it keeps it loaded.
pub struct Servable {
    id: ServableId,
    model: Arc<dyn Model>,
    faces: Faces,
    /// `None`: requests are never merged.
    parameters: Option<Parameters>,
    policy: Policy,
    /// Sizes that padded requests are merged to where the model has none that are ready.
    asked_sizes: Vec<usize>,
    batcher: Batcher,
    observer: Arc<Scoped>,
    lots: Arc<Lots>,
    used_us: AtomicU64,
    logging: ArcSwapOption<Logging>,
    checker: Option<Arc<Checker>>,
    /// Dropped with the version, which tells the manager.
    _alive: oneshot::Sender<()>,
}

/// How a version's requests are batched.
#[derive(Clone, Debug)]
pub struct Batching {
    /// `None`: requests are never merged.
    pub parameters: Option<Parameters>,
    /// What the model is due beside others.
    pub policy: Policy,
    /// Whether requests of the declared shapes may be merged; `None` where more than the rows are open.
    pub merging: Option<Merging>,
    /// What is held now.
    pub waiting: Waiting,
    /// What was counted since the start.
    pub tally: Tally,
}

/// Which way a request goes.
enum Route {
    /// Through the batcher.
    Queue(Join),
    /// Straight to the engine, which has to compile for it first: it must not hold up what is ready.
    Compile,
}

impl Servable {
    /// Starts to serve a model. Also gives what ends when nobody holds it any more.
    pub fn start<C: Clock>(
        id: ServableId,
        Loaded { model, faces, batching: parameters, batch_sizes, padded_extents, policy, .. }: Loaded,
        context: &Context<C>,
    ) -> (Arc<Self>, oneshot::Receiver<()>) {
        let observer = Scoped::new(id.clone(), Arc::clone(&context.observer));
        let (runner, watcher) = (Arc::clone(&model), Arc::clone(&observer));
        let run = move |inputs, Order { deadline, expected }| {
            let (running, watcher) =
                (runner.run(inputs, Demand { deadline, expected, ..Demand::default() }), Arc::clone(&watcher));
            async move {
                let output = running.await?;
                watcher.observer.ran(&watcher.id, &output.stats);
                let RunStats { lane, times } = output.stats;
                Ok(Ran { outputs: output.outputs, device: times.device, lane })
            }
        };
        let lots = Lots::new(id.clone(), Arc::clone(&model), parameters.is_some(), padded_extents);
        let pads = parameters.as_ref().is_some_and(|parameters| parameters.pad_variable_length_inputs);
        let asked_sizes = if batch_sizes.is_empty() { Parameters::doubled(PADDED_ROWS_MAX) } else { batch_sizes };
        let setting = Setting {
            parameters: parameters.clone().unwrap_or_default(),
            policy: policy.clone(),
            shapes: pads.then(|| Arc::clone(&lots) as Arc<dyn Shapes>),
            turns: Arc::clone(&context.turns),
            clock: Arc::clone(&context.clock),
            observer: observer.clone(),
        };
        let batcher = Batcher::start(setting, run);
        let (alive, ended) = oneshot::channel();
        let (used_us, logging) = (AtomicU64::new(0), ArcSwapOption::empty());
        let made = Self {
            id,
            model,
            faces,
            parameters,
            policy,
            asked_sizes,
            batcher,
            observer,
            lots,
            used_us,
            logging,
            checker: context.checker.clone(),
            _alive: alive,
        };
        made.touch();
        (Arc::new(made), ended)
    }

    fn touch(&self) {
        self.used_us.store(EPOCH.elapsed().as_micros() as u64, Ordering::Relaxed);
    }

    /// Which of its requests are written down.
    pub fn logging(&self) -> Option<Arc<Logging>> {
        self.logging.load_full()
    }

    /// Has them written down so from now on.
    pub(super) fn set_logging(&self, logging: Option<Arc<Logging>>) {
        self.logging.store(logging);
    }

    /// When a request came last, or it was loaded, in microseconds since some moment.
    pub fn last_used(&self) -> u64 {
        self.used_us.load(Ordering::Relaxed)
    }

    /// Its name and version.
    pub fn id(&self) -> &ServableId {
        &self.id
    }

    /// What the model itself takes and gives.
    pub fn signature(&self) -> &Signature {
        self.model.signature()
    }

    /// Its face of this name; an empty name means `serving_default`.
    pub fn face(&self, name: &str) -> Option<&Arc<Face>> {
        self.faces.get(name)
    }

    /// All its faces.
    pub fn faces(&self) -> &Faces {
        &self.faces
    }

    /// Whether requests of the declared shapes are merged; `None` where more than the rows are open.
    pub fn declared_merging(&self) -> Option<Merging> {
        let extent = |(axis, dim): (usize, &Dim)| if axis == 0 { Some(dim.fixed().unwrap_or(1)) } else { dim.fixed() };
        let shape = |dims: &Vec<Dim>| dims.iter().enumerate().map(extent).collect::<Option<Vec<_>>>().map(Shape::new);
        let shapes: Option<Vec<_>> = self.signature().inputs.iter().map(|spec| shape(spec.dims.as_ref()?)).collect();
        shapes.map(|shapes| self.model.merging(&shapes))
    }

    /// What waits for it now.
    pub fn waiting(&self) -> Waiting {
        self.batcher.waiting()
    }

    /// How its requests are batched, and how that went so far.
    pub fn batching(&self) -> Batching {
        Batching {
            parameters: self.parameters.clone(),
            policy: self.policy.clone(),
            merging: self.declared_merging(),
            waiting: self.batcher.waiting(),
            tally: self.observer.tally().clone(),
        }
    }

    /// Checks a request, inputs as [`Face::bind`] or [`Face::parse`] gives them, and answers it, alone or in a batch: outputs
    /// are the model's, in its order. Dropping the future gives the request up.
    ///
    /// # Errors
    /// `INVALID_ARGUMENT` for inputs that the model does not take, `UNAVAILABLE` when the queue is full, `RESOURCE_EXHAUSTED` when
    /// it would be answered too late, `RESOURCE_EXHAUSTED` or `DEADLINE_EXCEEDED` when the deadline passes before or in the run,
    /// or what the run gives.
    pub fn predict(
        self: &Arc<Self>,
        inputs: Vec<Tensor>,
        asked: Asked,
    ) -> impl Future<Output = Result<Prediction>> + Send + 'static {
        let servable = Arc::clone(self);
        self.touch();
        async move {
            let shapes: Vec<_> = inputs.iter().map(|t| t.shape().clone()).collect();
            let (lot, merging) = servable.lots.of(&shapes).await?;
            let checker = servable.checker.as_ref().filter(|checker| checker.draws());
            let drawn = checker.map(|checker| (checker, inputs.clone()));
            let answer = match servable.route(&lot, &merging, &shapes)? {
                Route::Queue(join) => {
                    let Asked { deadline, priority, guard } = asked;
                    let request = Request { inputs, join, deadline, priority, guard };
                    servable.batcher.submit(request).map_err(|e| servable.named(e))?.answer().await
                }
                Route::Compile => servable.compile_and_run(inputs, &shapes, asked).await,
            }?;
            if let Some((checker, inputs)) = drawn {
                servable.have_checked(checker, inputs, &answer);
            }
            Ok(answer)
        }
    }

    fn have_checked(&self, checker: &Checker, inputs: Vec<Tensor>, answer: &Prediction) {
        let Some(reference) = self.model.reference() else { return };
        // The host is to compute what the device did.
        let inputs = match &answer.padded_to {
            None => inputs,
            Some(row) => {
                let rows = Rows::all(&inputs);
                match merge_padded(&[rows], row, rows.count) {
                    Ok(padded) => padded,
                    Err(error) => return tracing::warn!(model = %self.id, %error, "an answer cannot be checked"),
                }
            }
        };
        let (lane, outputs) = (answer.timing.lane, answer.outputs.clone());
        checker.offer(Sample { id: self.id.clone(), reference, lane, inputs, outputs });
    }

    /// Whether a request of one row that came now would be taken, as far as can be told without it.
    ///
    /// # Errors
    /// `RESOURCE_EXHAUSTED` when it would be answered too late.
    pub fn foresee(&self, deadline: Option<Instant>) -> Result<()> {
        self.batcher.foresee(deadline).map_err(|e| self.named(e))
    }

    /// A refusal that names the version; the queue's own has TensorFlow Serving's text.
    fn named(&self, error: Error) -> Error {
        if error.code() == Code::ResourceExhausted { error.at(&self.id) } else { error }
    }

    fn route(&self, lot: &Lot, merging: &Merging, shapes: &[Shape]) -> Result<Route> {
        let exact = || if self.model.is_ready(shapes) { Route::Queue(Join::Alone) } else { Route::Compile };
        let (Merging::Rows { batch_sizes }, Some(parameters)) = (merging, &self.parameters) else {
            // The lot's first request says nothing about this one's rows.
            self.model.check_shapes(shapes)?;
            return Ok(exact());
        };
        let (rows, rows_max) = (common_rows(shapes)?, parameters.execution_rows_max());
        let splits = parameters.divides();
        if let Some(rows_max) = rows_max.filter(|max| rows > *max && !splits) {
            // The batcher refuses it.
            return Ok(Route::Queue(Join::Rows([rows_max].into())));
        }
        let pads = parameters.pad_variable_length_inputs;
        let sizes = if pads && batch_sizes.is_empty() { &self.asked_sizes } else { batch_sizes };
        let sizes = sizes.iter().copied().filter(|size| *size <= rows_max.unwrap_or(usize::MAX));
        // What padded requests will run as is not known yet: their batches are made ready when they are formed.
        let ready = if pads { sizes.collect() } else { self.lots.ready(lot, shapes, sizes.collect()) };
        Ok(match ready.last() {
            Some(last) if rows > 0 && (rows <= *last || splits) => Route::Queue(Join::Rows(ready)),
            _ => exact(),
        })
    }

    /// Runs a request of a new shape beside the queue; the engine bounds how many wait for a compile.
    async fn compile_and_run(
        &self,
        inputs: Vec<Tensor>,
        shapes: &[Shape],
        Asked { deadline, guard: _guard, .. }: Asked,
    ) -> Result<Prediction> {
        let started = tokio::time::Instant::now();
        let running = self.model.run(inputs, Demand { deadline, ..Demand::default() });
        let outcome = match deadline {
            None => running.await,
            Some(deadline) => tokio::time::timeout_at(deadline.into(), running)
                .await
                .unwrap_or_else(|_| Err(Error::deadline_exceeded("Timed out waiting for notification"))),
        };
        let rows = shapes.first().and_then(|s| s.first().copied()).unwrap_or(1);
        let lane = outcome.as_ref().map_or(0, |output| output.stats.lane);
        let timing = Timing { ran: started.elapsed(), batch_rows: rows, batches: 1, lane, ..Timing::default() };
        self.observer.batch(&BatchReport {
            requests: 1,
            rows,
            padded_rows: 0,
            closed: Closed::Alone,
            queued: timing.queued,
            ran: timing.ran,
            device: outcome.as_ref().map_or(Duration::ZERO, |output| output.stats.times.device),
            succeeded: outcome.is_ok(),
        });
        let output = outcome?;
        self.observer.observer.ran(&self.id, &output.stats);
        Ok(Answer { outputs: output.outputs, padded_to: None, timing })
    }
}

#[cfg(test)]
mod padded_tests;
#[cfg(test)]
mod tests;
