//! From a version's folder to something that runs.

use std::future::Future;
use std::path::Path;
use std::pin::Pin;
use std::sync::Arc;
use std::time::{Duration, Instant};

use tokio::sync::oneshot;

use super::config::ModelConfig;
use super::face::Faces;
use super::id::ServableId;
use super::settings::Settings;
use super::signatures::faces;
use crate::batch::{Parameters, Policy, Preparing};
use crate::engine::ir::Graph;
use crate::engine::{Demand, LoadOptions, Merging, Reference, RunOutput, Session};
use crate::error::{Error, Result};
use crate::fleet::{Fleet, Spread};
use crate::formats::onnx::{self, ImportOptions};
use crate::tensor::{Shape, Signature, Tensor};

/// A run under way.
pub type Running = Pin<Box<dyn Future<Output = Result<RunOutput>> + Send>>;

/// A model that was loaded: what [`Session`] promises, so that tests can put another in its place.
pub trait Model: Send + Sync + 'static {
    /// Names, types and declared extents of inputs and outputs.
    fn signature(&self) -> &Signature;
    /// Whether requests of these shapes, axis 0 apart, may be merged.
    fn merging(&self, shapes: &[Shape]) -> Merging;
    /// Whether inputs of exactly these shapes run without compiling.
    fn is_ready(&self, shapes: &[Shape]) -> bool;
    /// Checks by inference that the model takes inputs of these shapes.
    ///
    /// # Errors
    /// `INVALID_ARGUMENT` naming the node that does not.
    fn check_shapes(&self, shapes: &[Shape]) -> Result<()>;
    /// Makes inputs of exactly these shapes run without compiling. Dropping the future gives that up.
    fn prepare(&self, shapes: &[Shape]) -> Preparing;
    /// Runs; a dropped or late run is not executed unless it has begun.
    fn run(&self, inputs: Vec<Tensor>, demand: Demand) -> Running;
    /// What its answers can be held against on the host; `None` where there is nothing.
    fn reference(&self) -> Option<Reference> {
        None
    }
    /// All of them end when the model is gone and its device memory given back; none where nothing is to be waited for, and for all
    /// but the first caller.
    fn released(&self) -> Vec<oneshot::Receiver<()>> {
        Vec::new()
    }
}

impl Model for Session {
    fn signature(&self) -> &Signature {
        self.signature()
    }

    fn merging(&self, shapes: &[Shape]) -> Merging {
        self.merging(shapes)
    }

    fn is_ready(&self, shapes: &[Shape]) -> bool {
        self.is_ready(shapes)
    }

    fn check_shapes(&self, shapes: &[Shape]) -> Result<()> {
        self.check_shapes(shapes)
    }

    fn prepare(&self, shapes: &[Shape]) -> Preparing {
        Box::pin(self.prepare(shapes))
    }

    fn run(&self, inputs: Vec<Tensor>, demand: Demand) -> Running {
        Box::pin(self.run(inputs, demand))
    }

    fn reference(&self) -> Option<Reference> {
        Some(self.reference())
    }

    fn released(&self) -> Vec<oneshot::Receiver<()>> {
        self.released().into_iter().collect()
    }
}

impl Model for Spread {
    fn signature(&self) -> &Signature {
        self.signature()
    }

    fn merging(&self, shapes: &[Shape]) -> Merging {
        self.merging(shapes)
    }

    fn is_ready(&self, shapes: &[Shape]) -> bool {
        self.is_ready(shapes)
    }

    fn check_shapes(&self, shapes: &[Shape]) -> Result<()> {
        self.check_shapes(shapes)
    }

    fn prepare(&self, shapes: &[Shape]) -> Preparing {
        Box::pin(self.prepare(shapes))
    }

    fn run(&self, inputs: Vec<Tensor>, demand: Demand) -> Running {
        Box::pin(self.run(inputs, demand))
    }

    fn reference(&self) -> Option<Reference> {
        Some(self.reference())
    }

    fn released(&self) -> Vec<oneshot::Receiver<()>> {
        self.released()
    }
}

/// What runs on one engine, or is spread over several.
fn together(sessions: Vec<Arc<Session>>) -> Arc<dyn Model> {
    match <[_; 1]>::try_from(sessions) {
        Ok([alone]) => alone,
        Err(several) => Arc::new(Spread::new(several)),
    }
}

/// A model and the ways to call it.
#[derive(Clone)]
pub struct Loaded {
    /// What runs.
    pub model: Arc<dyn Model>,
    /// Its signatures.
    pub faces: Faces,
    /// How to batch; `None`: never merge requests.
    pub batching: Option<Parameters>,
    /// Batch sizes that were asked for, ascending; empty: those that the model chose.
    pub batch_sizes: Vec<usize>,
    /// Extents that padded inputs are filled up to where the signature leaves them open, ascending; empty: to the largest of a batch.
    pub padded_extents: Vec<usize>,
    /// What it is due beside others.
    pub policy: Policy,
    /// How long its file took to be read and understood.
    pub read: Duration,
}

/// Understands a version's own batching parameters: the text, and what its file is called.
pub type ReadParameters = fn(&str, &str) -> Result<Parameters>;

/// Where they stand in a version's folder, as TensorFlow Serving has it.
const PARAMETERS_FILE: &str = "batching_params.pbtxt";

/// Loads versions. Called on a thread of its own for each; may block for as long as it takes.
pub trait Loader: Send + Sync + 'static {
    /// Makes the version in folder (or file) `path` runnable.
    ///
    /// # Errors
    /// Whatever keeps it from running. Those caused by reading files are tried again.
    fn load(&self, id: &ServableId, path: &Path, config: &ModelConfig) -> Result<Loaded>;
    /// Takes up what another configuration says of a model that may be loaded.
    fn configured(&self, _config: &ModelConfig) {}
}

/// Bounds on the shapes that requests may make the engine compile.
#[derive(Clone, Copy, Debug)]
pub struct ShapeBounds {
    /// New shapes a model a minute.
    pub per_minute_max: usize,
    /// Requests a model that may wait for a compile at a time.
    pub waiting_max: usize,
}

impl Default for ShapeBounds {
    fn default() -> Self {
        Self { per_minute_max: 64, waiting_max: 256 }
    }
}

/// Loads onto all engines what the formats read.
pub struct EngineLoader {
    fleet: Arc<Fleet>,
    bounds: ShapeBounds,
    import: ImportOptions,
    own_parameters: Option<ReadParameters>,
    policy: Policy,
}

impl EngineLoader {
    /// Loads onto the engines of `fleet` what is imported under `import`. With `own_parameters` the file in a version's folder says how to
    /// batch; without the file its requests are not merged. `policy` holds for models whose settings say nothing else.
    pub fn new(
        fleet: Arc<Fleet>,
        bounds: ShapeBounds,
        import: ImportOptions,
        own_parameters: Option<ReadParameters>,
        policy: Policy,
    ) -> Self {
        Self { fleet, bounds, import, own_parameters, policy }
    }

    fn batching(&self, path: &Path, config: &ModelConfig) -> Result<Option<Parameters>> {
        let Some(read) = self.own_parameters else { return Ok(config.batching.clone()) };
        let file = path.join(PARAMETERS_FILE);
        match std::fs::read_to_string(&file) {
            Err(e) if !file.exists() => {
                tracing::debug!("{}: {e}: requests are not merged", file.display());
                Ok(None)
            }
            Err(e) => Err(Error::from(e).at(file.display())),
            Ok(text) => read(&text, &file.display().to_string()).map(Some),
        }
    }
}

/// The graph in the version's folder (or file) `path`.
pub(super) fn graph(path: &Path, import: ImportOptions) -> Result<Graph> {
    if path.is_file() {
        onnx::import_with(path, import)
    } else if path.join("model.onnx").is_file() {
        onnx::import_with(&path.join("model.onnx"), import)
    } else if path.join("saved_model.pb").is_file() {
        Err(Error::unimplemented(format!("{}: SavedModel is not supported yet", path.display())))
    } else {
        let missing = std::io::Error::new(std::io::ErrorKind::NotFound, "no model.onnx in the folder");
        Err(Error::from(missing).at(path.display()))
    }
}

/// Compiles for a batch of `rows` whose open extents are all `extent`, so that no request waits for that; what cannot be compiled is
/// told to whoever asks for it.
fn have_ready(id: &ServableId, session: &Session, rows: usize, extent: usize) {
    let Some(shapes) = session.shapes_for(rows, Some(extent)) else { return };
    if matches!(session.merging(&shapes), Merging::Rows { .. })
        && let Err(error) = pollster::block_on(session.prepare(&shapes))
    {
        tracing::warn!(model = %id, extent, %error, "padded inputs of this extent are not ready");
    }
}

impl Loader for EngineLoader {
    fn configured(&self, config: &ModelConfig) {
        self.fleet.share_anew(&config.name, config.memory);
    }

    fn load(&self, id: &ServableId, path: &Path, config: &ModelConfig) -> Result<Loaded> {
        let start = Instant::now();
        let places = self.fleet.places(&id.name, config.memory)?;
        let graph = graph(path, self.import)?;
        let imported = start.elapsed();
        let settings = Settings::beside(path)?;
        let batching = self.batching(path, config)?;
        let batch_sizes = match &batching {
            Some(_) if !settings.batch_sizes.is_empty() => settings.batch_sizes.clone(),
            batching => batching.as_ref().map_or_else(Vec::new, Parameters::batch_sizes),
        };
        let options = LoadOptions {
            name: id.to_string(),
            batch_sizes: batch_sizes.clone(),
            single: batching.is_none(),
            warm: true,
            max_shapes_per_minute: self.bounds.per_minute_max,
            max_waiting: self.bounds.waiting_max,
            ..LoadOptions::default()
        };
        let faces = faces(path, &graph.signature)?;
        let loaded = Fleet::load(&places, graph, &settings.apply(options));
        let sessions = loaded.map_err(|e| e.at(path.display()))?;
        let parts: Vec<_> = sessions.iter().map(|session| session.load_times().to_string()).collect();
        let (total, parts) = (start.elapsed().as_millis(), parts.join("; "));
        tracing::info!(model = %id, total_ms = total, "loaded: importing {} ms, {parts}", imported.as_millis());
        // The nearer to whoever runs the server, the later it is said.
        let policy = config.scheduling.over(settings.scheduling().over(self.policy.clone()));
        let padded_extents = settings.padded_extents;
        if batching.as_ref().is_some_and(|parameters| parameters.pad_variable_length_inputs) {
            let rows = batch_sizes.first().copied().unwrap_or(1);
            for (session, extent) in
                sessions.iter().flat_map(|session| padded_extents.iter().map(move |e| (session, *e)))
            {
                have_ready(id, session, rows, extent);
            }
        }
        let model = together(sessions);
        Ok(Loaded { model, faces, batching, batch_sizes, padded_extents, policy, read: imported })
    }
}
