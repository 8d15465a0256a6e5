//! Which models are served: from folders to loaded versions that answer requests.

mod agreement;
mod aspired;
mod attempt;
mod beside;
mod binding;
mod check;
mod checker;
mod config;
mod entry;
mod example;
mod face;
#[cfg(test)]
mod fake;
mod id;
mod literal;
mod loader;
mod manager;
mod observer;
mod recheck;
mod reconcile;
mod reload;
mod repository;
mod room;
mod servable;
mod settings;
mod signatures;
mod state;
mod warm_up;
mod watcher;

pub use binding::{bind, dtype_name, select_outputs};
pub use check::check_versions;
pub use checker::{CheckOptions, Checker};
pub use config::{Logging, ModelConfig, Transition, VersionPolicy, check_logging, check_model_name};
pub use example::{Example, Feature, FeatureForm, FeatureKind, FeatureSpec};
pub use face::{DEFAULT_SIGNATURE, EXAMPLES_INPUT, Face, Faces, Method};
pub use id::{ServableId, VersionChoice};
pub use loader::{EngineLoader, Loaded, Loader, Model, ReadParameters, Running, ShapeBounds};
pub use manager::{Manager, ManagerOptions};
pub use observer::{CheckOutcome, Observer, Replayed, Silent, Tried};
pub use reload::Failures;
pub use repository::scan;
pub use servable::{Asked, Batching, Context, Prediction, Servable};
pub use settings::{Named, Settings};
pub use signatures::read_signatures;
pub use state::{Board, ModelStatus, State, Status};
pub use warm_up::{Replaying, WarmUp};
