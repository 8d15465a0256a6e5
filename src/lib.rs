//! Coracle: a model server in one small binary. See ARCHITECTURE.md for the map.

pub mod api;
pub mod batch;
pub mod cli;
pub mod engine;
pub mod error;
pub mod fleet;
pub mod formats;
pub mod model;
pub mod server;
pub mod tensor;
