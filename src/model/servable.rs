//! A loaded version, answering requests.

use std::collections::HashMap;
use std::future::Future;
use std::sync::{Arc, Mutex, OnceLock, PoisonError};
use std::time::Instant;

use tokio::sync::oneshot;

use super::binding::bind;
use super::id::ServableId;
use super::loader::Model;
use super::observer::{Observer, Scoped};
use crate::batch::{
    Answer, BatchReport, Batcher, Clock, Closed, Guard, Join, Observer as _, Parameters, Request, Timing,
};
use crate::engine::Merging;
use crate::error::{Error, Result};
use crate::tensor::{Shape, Signature, Tensor};

/// The signature that a request without a name means, and the only one that an ONNX model has.
pub const DEFAULT_SIGNATURE: &str = "serving_default";

/// Inner shapes whose merging is remembered, a version; beyond it all are asked for again.
const LOTS_MAX: usize = 256;

/// An answered request.
pub type Prediction = Answer;

/// What all versions share.
pub struct Context<C> {
    /// Batches of one version that may be in flight: the engine's lanes times what each takes.
    pub slots: usize,
    /// Time for the batchers.
    pub clock: Arc<C>,
    /// Receives statistics.
    pub observer: Arc<dyn Observer>,
}

impl<C> Clone for Context<C> {
    fn clone(&self) -> Self {
        Self { slots: self.slots, clock: Arc::clone(&self.clock), observer: Arc::clone(&self.observer) }
    }
}

/// A loaded version. Whoever holds it keeps it loaded.
pub struct Servable {
    id: ServableId,
    model: Arc<dyn Model>,
    /// `None`: requests are never merged.
    parameters: Option<Parameters>,
    batcher: Batcher,
    observer: Arc<Scoped>,
    lots: Mutex<HashMap<Vec<Shape>, Arc<Lot>>>,
    /// Dropped with the version, which tells the manager.
    _alive: oneshot::Sender<()>,
}

/// What is known of requests that differ in their rows only.
struct Lot {
    merging: Merging,
    /// The batch sizes, once all of them are ready.
    ready: OnceLock<Arc<[usize]>>,
}

/// Which way a request goes.
enum Route {
    /// Through the batcher.
    Queue(Join),
    /// Straight to the engine, which has to compile for it first: it must not hold up what is ready.
    Compile,
}

impl Servable {
    /// Starts to serve `model`, with batching if there are `parameters`. Also gives what ends when nobody holds it any more.
    pub fn start<C: Clock>(
        id: ServableId,
        model: Arc<dyn Model>,
        parameters: Option<Parameters>,
        context: &Context<C>,
    ) -> (Arc<Self>, oneshot::Receiver<()>) {
        let observer = Arc::new(Scoped { id: id.clone(), observer: Arc::clone(&context.observer) });
        let (runner, watcher) = (Arc::clone(&model), Arc::clone(&observer));
        let run = move |inputs, deadline| {
            let (running, watcher) = (runner.run(inputs, deadline), Arc::clone(&watcher));
            async move {
                let output = running.await?;
                watcher.observer.ran(&watcher.id, &output.stats);
                Ok(output.outputs)
            }
        };
        let queue = parameters.clone().unwrap_or_default();
        let batcher = Batcher::start(queue, context.slots, Arc::clone(&context.clock), observer.clone(), run);
        let (alive, ended) = oneshot::channel();
        let lots = Mutex::new(HashMap::new());
        (Arc::new(Self { id, model, parameters, batcher, observer, lots, _alive: alive }), ended)
    }

    /// Its name and version.
    pub fn id(&self) -> &ServableId {
        &self.id
    }

    /// Its signature of this name; an empty name means [`DEFAULT_SIGNATURE`].
    pub fn signature(&self, name: &str) -> Option<&Signature> {
        (name.is_empty() || name == DEFAULT_SIGNATURE).then(|| self.model.signature())
    }

    /// Checks a request and answers it, alone or in a batch. `guard` is dropped when the request's memory is given back.
    /// Dropping the future gives the request up.
    ///
    /// # Errors
    /// `INVALID_ARGUMENT` for inputs that the model does not take, `UNAVAILABLE` when the queue is full,
    /// `RESOURCE_EXHAUSTED` or `DEADLINE_EXCEEDED` when the deadline passes before or in the run, or what the run gives.
    pub fn predict(
        self: &Arc<Self>,
        inputs: Vec<(String, Tensor)>,
        deadline: Option<Instant>,
        guard: Guard,
    ) -> impl Future<Output = Result<Prediction>> + Send + 'static {
        let servable = Arc::clone(self);
        async move {
            let inputs = bind(servable.model.signature(), inputs)?;
            let shapes: Vec<_> = inputs.iter().map(|t| t.shape().clone()).collect();
            let lot = servable.lot(&shapes).await?;
            match servable.route(&lot, &shapes)? {
                Route::Queue(join) => {
                    servable.batcher.submit(Request { inputs, join, deadline, guard })?.answer().await
                }
                Route::Compile => servable.compile_and_run(inputs, &shapes, deadline, guard).await,
            }
        }
    }

    /// What is known of requests of these shapes, rows apart; asks the model the first time.
    async fn lot(&self, shapes: &[Shape]) -> Result<Arc<Lot>> {
        let key: Vec<_> = shapes.iter().map(|shape| with_rows(shape, 0)).collect();
        let known = self.lots().get(&key).cloned();
        if let Some(lot) = known {
            return Ok(lot);
        }
        let (model, shapes, merges) = (Arc::clone(&self.model), shapes.to_vec(), self.parameters.is_some());
        // Inference and proof take milliseconds.
        let asked = tokio::task::spawn_blocking(move || {
            let single = || Merging::Alone { reason: "batching is off".into() };
            let merging = if merges { model.merging(&shapes) } else { single() };
            if matches!(merging, Merging::Rows { .. }) {
                common_rows(&shapes)?;
            }
            model.check_shapes(&shapes)?;
            Ok(merging)
        });
        let merging = asked.await.unwrap_or_else(|_| Err(Error::internal("checking the shapes failed")))?;
        let lot = Arc::new(Lot { merging, ready: OnceLock::new() });
        let mut lots = self.lots();
        if lots.len() >= LOTS_MAX {
            lots.clear();
        }
        lots.insert(key, Arc::clone(&lot));
        Ok(lot)
    }

    fn lots(&self) -> std::sync::MutexGuard<'_, HashMap<Vec<Shape>, Arc<Lot>>> {
        self.lots.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn route(&self, lot: &Lot, shapes: &[Shape]) -> Result<Route> {
        let exact = || if self.model.is_ready(shapes) { Route::Queue(Join::Alone) } else { Route::Compile };
        let (Merging::Rows { batch_sizes }, Some(parameters)) = (&lot.merging, &self.parameters) else {
            // Rows that are not proven independent say nothing about each other's shapes.
            if !self.model.is_ready(shapes) {
                self.model.check_shapes(shapes)?;
            }
            return Ok(exact());
        };
        let rows = common_rows(shapes)?;
        let sizes = usable(batch_sizes, parameters);
        let splits = parameters.enable_large_batch_splitting;
        let (ready, rows_max) = (self.ready(lot, shapes, &sizes), sizes.last().copied().unwrap_or(1));
        Ok(match ready.last() {
            _ if rows == 0 => exact(),
            Some(last) if rows <= *last || splits => Route::Queue(Join::Rows(ready)),
            // The batcher refuses it.
            _ if rows > rows_max && !splits => Route::Queue(Join::Rows(sizes.into())),
            _ => exact(),
        })
    }

    /// Those of `sizes` that run without compiling.
    fn ready(&self, lot: &Lot, shapes: &[Shape], sizes: &[usize]) -> Arc<[usize]> {
        if let Some(all) = lot.ready.get() {
            return Arc::clone(all);
        }
        let is_ready = |size: &usize| {
            let shapes: Vec<_> = shapes.iter().map(|shape| with_rows(shape, *size)).collect();
            self.model.is_ready(&shapes)
        };
        let ready: Arc<[usize]> = sizes.iter().copied().filter(is_ready).collect();
        if ready.len() == sizes.len() {
            return Arc::clone(lot.ready.get_or_init(|| ready));
        }
        ready
    }

    /// Runs a request of a new shape beside the queue; the engine bounds how many wait for a compile.
    async fn compile_and_run(
        &self,
        inputs: Vec<Tensor>,
        shapes: &[Shape],
        deadline: Option<Instant>,
        _guard: Guard,
    ) -> Result<Prediction> {
        let started = tokio::time::Instant::now();
        let running = self.model.run(inputs, deadline);
        let outcome = match deadline {
            None => running.await,
            Some(deadline) => tokio::time::timeout_at(deadline.into(), running)
                .await
                .unwrap_or_else(|_| Err(Error::deadline_exceeded("Timed out waiting for notification"))),
        };
        let rows = shapes.first().and_then(|s| s.first().copied()).unwrap_or(1);
        let timing = Timing { ran: started.elapsed(), batch_rows: rows, batches: 1, ..Timing::default() };
        self.observer.batch(&BatchReport {
            requests: 1,
            rows,
            padded_rows: 0,
            closed: Closed::SlotFree,
            queued: timing.queued,
            ran: timing.ran,
            succeeded: outcome.is_ok(),
        });
        let output = outcome?;
        self.observer.observer.ran(&self.id, &output.stats);
        Ok(Answer { outputs: output.outputs, timing })
    }
}

/// The batch sizes of the engine that `parameters` allow; never empty.
fn usable(batch_sizes: &[usize], parameters: &Parameters) -> Vec<usize> {
    let rows_max = parameters.execution_rows_max().unwrap_or(usize::MAX);
    let sizes: Vec<_> = batch_sizes.iter().copied().filter(|size| *size <= rows_max).collect();
    if sizes.is_empty() { vec![1] } else { sizes }
}

/// The number of rows on axis 0 that all inputs have.
fn common_rows(shapes: &[Shape]) -> Result<usize> {
    let rows = shapes.first().ok_or("Batching Run() must have at least one input tensor").and_then(|first| {
        let rows = first.first().ok_or("Batching Run() input tensors must have at least one dimension")?;
        let equal = shapes.iter().all(|shape| shape.first() == Some(rows));
        equal.then_some(*rows).ok_or("Batching Run() input tensors must have equal 0th-dimension size")
    });
    rows.map_err(Error::invalid_argument)
}

/// `shape` with another extent on axis 0, if it has one.
fn with_rows(shape: &Shape, rows: usize) -> Shape {
    let mut dims = shape.dims().to_vec();
    if let Some(first) = dims.first_mut() {
        *first = rows;
    }
    Shape::from(dims)
}

#[cfg(test)]
mod tests;
