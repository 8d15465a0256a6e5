//! Coracle: a model server in one small binary. See ARCHITECTURE.md for the map.

// What may cross threads is decided through types of wgpu's that lie deep within each other.
#![recursion_limit = "256"]

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
