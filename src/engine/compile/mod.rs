//! Graph → Program: folding, fusion, lowering and memory planning, as pure functions.

mod dequantised;
mod dispatches;
mod fuse;
mod group;
mod hand_over;
mod lower;
mod map;
mod optimise;
mod plan;
mod prove;
mod rebatch;
mod rooms;
mod scales;
mod specialise;
mod turned;

pub use fuse::fuse;
pub use lower::compile;
pub use optimise::optimise;
pub use prove::prove_rows;
pub use rebatch::rebatch;
pub use specialise::{Specialised, specialise};
