//! A loader without an engine, for the tests of this room.

use std::collections::{BTreeMap, HashMap};
use std::path::Path;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use super::config::ModelConfig;
use super::face::Faces;
use super::id::ServableId;
use super::loader::{Loaded, Loader, Model, Running};
use super::observer::Silent;
use super::servable::Context;
use crate::batch::{Clock, Policy, Preparing, Turns};
use crate::engine::{Demand, Merging, RunOutput, RunStats};
use crate::error::{Error, Result};
use crate::tensor::{DType, Dim, Shape, Signature, Spec, Tensor};

/// The runtime's own time, which tests may stop.
pub(super) struct PausedClock;

impl Clock for PausedClock {
    fn now(&self) -> Instant {
        tokio::time::Instant::now().into_std()
    }

    fn sleep_until(&self, at: Instant) -> impl Future<Output = ()> + Send {
        tokio::time::sleep_until(at.into())
    }
}

pub(super) fn context() -> Context<PausedClock> {
    Context {
        turns: Turns::new(1, 2),
        clock: Arc::new(PausedClock),
        observer: Arc::new(Silent),
        warm_up: None,
        checker: None,
    }
}

/// Adds its version to every number of `x`, f32 of two axes with three columns, in 10 ms.
pub(super) struct Adding {
    signature: Signature,
    version: f32,
    merging: Merging,
    /// Batch sizes that are ready.
    pub(super) ready: Mutex<Vec<usize>>,
    /// Rows of each run.
    pub(super) runs: Mutex<Vec<usize>>,
}

impl Adding {
    pub(super) fn new(version: i64, merging: Merging, ready: &[usize]) -> Self {
        let dims = || Some(vec![Dim::Symbol("n".into()), Dim::Fixed(3)]);
        let spec = |name: &str| Spec::tensor(name, DType::F32, dims());
        Self {
            signature: Signature { inputs: vec![spec("x")], outputs: vec![spec("y")] },
            version: version as f32,
            merging,
            ready: Mutex::new(ready.to_vec()),
            runs: Mutex::new(Vec::new()),
        }
    }

    /// The one way to call it.
    pub(super) fn faces(&self) -> Faces {
        Faces::new(&self.signature, BTreeMap::new())
    }
}

impl Model for Adding {
    fn signature(&self) -> &Signature {
        &self.signature
    }

    fn merging(&self, _: &[Shape]) -> Merging {
        self.merging.clone()
    }

    fn is_ready(&self, shapes: &[Shape]) -> bool {
        self.ready.lock().expect("no test panics in it").contains(&shapes[0][0])
    }

    fn check_shapes(&self, shapes: &[Shape]) -> Result<()> {
        match shapes[0].dims() {
            [_, 3] => Ok(()),
            _ => Err(Error::invalid_argument(format!("node Add: {} does not end with 3", shapes[0]))),
        }
    }

    fn prepare(&self, shapes: &[Shape]) -> Preparing {
        self.ready.lock().expect("no test panics in it").push(shapes[0][0]);
        Box::pin(async { Ok(()) })
    }

    fn run(&self, inputs: Vec<Tensor>, _: Demand) -> Running {
        let shape = inputs[0].shape().clone();
        self.runs.lock().expect("no test panics in it").push(shape[0]);
        let version = self.version;
        Box::pin(async move {
            tokio::time::sleep(Duration::from_millis(10)).await;
            let values = inputs[0].values::<f32>()?.iter().map(|v| v + version).collect();
            Ok(RunOutput {
                outputs: vec![Tensor::from_vec(shape, values)?],
                stats: RunStats::default(),
                host_steps: Vec::new(),
            })
        })
    }
}

/// Adds up each row of `x`, f32 of two axes, in 10 ms. New shapes are compiled in 50 ms, but not those of `extent_max` columns and
/// more.
pub(super) struct Summing {
    signature: Signature,
    extent_max: usize,
    /// Shapes that are ready.
    pub(super) ready: Arc<Mutex<Vec<Shape>>>,
    /// Shape of each run.
    pub(super) runs: Mutex<Vec<Shape>>,
}

impl Summing {
    pub(super) fn new(extent_max: usize) -> Self {
        let symbol = |name: &str| Dim::Symbol(name.into());
        let x = Spec::tensor("x", DType::F32, Some(vec![symbol("n"), symbol("length")]));
        let y = Spec::tensor("y", DType::F32, Some(vec![symbol("n")]));
        let signature = Signature { inputs: vec![x], outputs: vec![y] };
        Self { signature, extent_max, ready: Arc::default(), runs: Mutex::default() }
    }
}

impl Model for Summing {
    fn signature(&self) -> &Signature {
        &self.signature
    }

    fn merging(&self, _: &[Shape]) -> Merging {
        Merging::Rows { batch_sizes: Vec::new() }
    }

    fn is_ready(&self, shapes: &[Shape]) -> bool {
        self.ready.lock().expect("no test panics in it").contains(&shapes[0])
    }

    fn check_shapes(&self, shapes: &[Shape]) -> Result<()> {
        match shapes[0].rank() {
            2 => Ok(()),
            _ => Err(Error::invalid_argument(format!("node ReduceSum: {} has no axis 1", shapes[0]))),
        }
    }

    fn prepare(&self, shapes: &[Shape]) -> Preparing {
        let (shape, ready, extent_max) = (shapes[0].clone(), Arc::clone(&self.ready), self.extent_max);
        Box::pin(async move {
            tokio::time::sleep(Duration::from_millis(50)).await;
            if shape[1] >= extent_max {
                return Err(Error::resource_exhausted(format!("{shape} takes too much memory")));
            }
            ready.lock().expect("no test panics in it").push(shape);
            Ok(())
        })
    }

    fn run(&self, inputs: Vec<Tensor>, _: Demand) -> Running {
        let shape = inputs[0].shape().clone();
        assert!(self.is_ready(std::slice::from_ref(&shape)), "{shape} was run before it was ready");
        self.runs.lock().expect("no test panics in it").push(shape.clone());
        Box::pin(async move {
            tokio::time::sleep(Duration::from_millis(10)).await;
            let values = inputs[0].values::<f32>()?;
            if values.contains(&f32::INFINITY) {
                return Err(Error::internal("infinity in a run"));
            }
            let sums = (0..shape[0]).map(|row| values[row * shape[1]..][..shape[1]].iter().sum::<f32>()).collect();
            Ok(RunOutput {
                outputs: vec![Tensor::from_vec([shape[0]], sums)?],
                stats: RunStats::default(),
                host_steps: Vec::new(),
            })
        })
    }
}

/// Loads [`Adding`] for every version but those that are to fail.
#[derive(Default)]
pub(super) struct FakeLoader {
    /// How often each version fails, and why.
    pub(super) failures: Mutex<HashMap<i64, (usize, Error)>>,
    pub(super) loads: AtomicUsize,
}

impl Loader for FakeLoader {
    fn load(&self, id: &ServableId, path: &Path, config: &ModelConfig) -> Result<Loaded> {
        self.loads.fetch_add(1, Ordering::Relaxed);
        assert!(path.is_dir(), "{} is a version's folder", path.display());
        let mut failures = self.failures.lock().expect("no test panics in it");
        if let Some((left, error)) = failures.get_mut(&id.version).filter(|(left, _)| *left > 0) {
            *left -= 1;
            return Err(error.clone());
        }
        let merging = Merging::Rows { batch_sizes: vec![1, 2, 4] };
        let model = Adding::new(id.version, merging, &[1, 2, 4]);
        Ok(Loaded {
            faces: model.faces(),
            model: Arc::new(model),
            batching: config.batching.clone(),
            batch_sizes: Vec::new(),
            padded_extents: Vec::new(),
            policy: Policy::default(),
            read: Duration::ZERO,
        })
    }
}
