//! Runs graphs on devices.

#[allow(clippy::module_inception)]
mod engine;
mod plan;
mod plans;
mod runner;
mod self_test;
mod session;

#[cfg(test)]
mod tests;

pub mod compile;
pub mod device;
pub mod ir;
pub mod kernels;
pub mod ops;

pub use engine::{Engine, EngineOptions, LoadOptions};
pub use ir::Precision;
pub use session::{Merging, RunOutput, RunStats, Session};
