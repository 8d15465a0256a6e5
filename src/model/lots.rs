//! Shapes that have passed a version's checks, which cost milliseconds the first time.

use std::collections::HashMap;
use std::hash::Hash;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::time::Instant;

use super::id::ServableId;
use super::loader::Model;
use crate::batch::{Preparing, Shapes};
use crate::engine::Merging;
use crate::error::{Code, Error, Result};
use crate::tensor::Shape;

/// Inner shapes that are remembered, a version; beyond it all are asked for again. As many shapes that failed.
const LOTS_MAX: usize = 256;
/// Shapes that could not be made ready are not tried again sooner.
const FAILED_FOR: Duration = Duration::from_secs(10);

/// The lots of one version.
pub(super) struct Lots {
    id: ServableId,
    model: Arc<dyn Model>,
    /// Whether requests are merged at all.
    merges: bool,
    /// What padded inputs are filled up to, ascending.
    padded_extents: Vec<usize>,
    known: Mutex<HashMap<Vec<Shape>, Arc<Lot>>>,
    /// What batches of these shapes could not be made ready for.
    failed: Mutex<HashMap<Vec<Shape>, (Instant, Error)>>,
}

/// Requests that differ in their rows only, and have passed the checks once.
pub(super) struct Lot {
    /// Whether their rows are proven to stay apart.
    merges: bool,
    /// The last batch sizes that were found to be ready, all of those there were.
    ready: Mutex<Arc<[usize]>>,
}

impl Lots {
    pub(super) fn new(id: ServableId, model: Arc<dyn Model>, merges: bool, padded_extents: Vec<usize>) -> Arc<Self> {
        Arc::new(Self { id, model, merges, padded_extents, known: Mutex::default(), failed: Mutex::default() })
    }

    /// The lot to which requests of these shapes belong, and whether they merge.
    ///
    /// # Errors
    /// `INVALID_ARGUMENT` for shapes that the model does not take.
    pub(super) async fn of(&self, shapes: &[Shape]) -> Result<(Arc<Lot>, Merging)> {
        let key = all_with_rows(shapes, 0);
        let known = lock(&self.known).get(&key).cloned();
        if let Some(lot) = known {
            // Remembered by the model, which also knows what has got ready since.
            return Ok((lot, merging(&*self.model, shapes, self.merges)));
        }
        let (model, shapes, merges) = (Arc::clone(&self.model), shapes.to_vec(), self.merges);
        // Inference and proof take milliseconds the first time.
        let asked = tokio::task::spawn_blocking(move || {
            let merging = merging(&*model, &shapes, merges);
            if matches!(merging, Merging::Rows { .. }) {
                common_rows(&shapes)?;
            }
            model.check_shapes(&shapes)?;
            Ok(merging)
        })
        .await;
        let merging =
            asked.unwrap_or_else(|_| Err(Error::internal(format!("checking the shapes for {} panicked", self.id))))?;
        let merges = matches!(merging, Merging::Rows { .. });
        let lot = Arc::new(Lot { merges, ready: Mutex::new(Arc::default()) });
        remember(&self.known, key, Arc::clone(&lot));
        Ok((lot, merging))
    }

    /// Those of `sizes` that run without compiling for requests of the lot, of which `shapes` are one's.
    pub(super) fn ready(&self, lot: &Lot, shapes: &[Shape], sizes: Vec<usize>) -> Arc<[usize]> {
        let mut known = lock(&lot.ready);
        if **known == *sizes {
            return Arc::clone(&known);
        }
        let is_ready = |size: &usize| self.model.is_ready(&all_with_rows(shapes, *size));
        let ready: Arc<[usize]> = sizes.iter().copied().filter(is_ready).collect();
        if ready.len() == sizes.len() {
            *known = Arc::clone(&ready);
        }
        ready
    }

    async fn make_ready(&self, shapes: &[Shape]) -> Result<()> {
        match self.of(shapes).await? {
            (_, Merging::Rows { .. }) => self.model.prepare(shapes).await,
            (_, Merging::Alone { reason }) => Err(Error::failed_precondition(reason)),
        }
    }
}

impl Shapes for Lots {
    fn room(&self, input: usize, axis: usize, extent: usize) -> usize {
        let spec = self.model.signature().inputs.get(input);
        let is_fixed = spec.and_then(|spec| spec.dims.as_ref()?.get(axis)?.fixed()).is_some();
        let next = self.padded_extents.iter().copied().find(|room| *room >= extent);
        next.filter(|_| !is_fixed).unwrap_or(extent)
    }

    fn is_ready(&self, shapes: &[Shape]) -> bool {
        let is_proven = lock(&self.known).get(&all_with_rows(shapes, 0)).is_some_and(|lot| lot.merges);
        is_proven && self.model.is_ready(shapes)
    }

    fn prepare(self: Arc<Self>, shapes: Vec<Shape>) -> Preparing {
        Box::pin(async move {
            let failed = lock(&self.failed).get(&shapes).filter(|(at, _)| at.elapsed() < FAILED_FOR).cloned();
            if let Some((_, error)) = failed {
                return Err(error);
            }
            let outcome = self.make_ready(&shapes).await;
            if let Err(error) = &outcome
                && !matches!(error.code(), Code::Unavailable | Code::Cancelled)
            {
                remember(&self.failed, shapes, (Instant::now(), error.clone()));
            }
            outcome
        })
    }
}

/// Whether requests of these shapes merge, where batching is on.
fn merging(model: &dyn Model, shapes: &[Shape], batching: bool) -> Merging {
    if batching { model.merging(shapes) } else { Merging::Alone { reason: "batching is off".into() } }
}

/// The number of rows on axis 0 that all inputs have.
///
/// # Errors
/// `INVALID_ARGUMENT`, with TensorFlow Serving's text, where they have not.
pub(super) fn common_rows(shapes: &[Shape]) -> Result<usize> {
    let rows = shapes.first().ok_or("Batching Run() must have at least one input tensor").and_then(|first| {
        let rows = first.first().ok_or("Batching Run() input tensors must have at least one dimension")?;
        let equal = shapes.iter().all(|shape| shape.first() == Some(rows));
        equal.then_some(*rows).ok_or("Batching Run() input tensors must have equal 0th-dimension size")
    });
    rows.map_err(Error::invalid_argument)
}

/// `shapes` with another extent on axis 0, where they have one.
fn all_with_rows(shapes: &[Shape], rows: usize) -> Vec<Shape> {
    let resized = shapes.iter().map(|shape| {
        let mut dims = shape.dims().to_vec();
        if let Some(first) = dims.first_mut() {
            *first = rows;
        }
        Shape::from(dims)
    });
    resized.collect()
}

fn remember<K: Eq + Hash, V>(map: &Mutex<HashMap<K, V>>, key: K, value: V) {
    let mut map = lock(map);
    if map.len() >= LOTS_MAX {
        map.clear();
    }
    map.insert(key, value);
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
