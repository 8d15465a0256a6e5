//! Coracle: a model server in one small binary. See ARCHITECTURE.md for the map.

pub mod engine;
pub mod error;
pub mod formats;
pub mod tensor;
