//! The shader library: WGSL files embedded and reflected at build time, and kernels made as text.

mod block;
mod product;
mod weights;

#[allow(unreachable_pub)]
mod library {
    include!(concat!(env!("OUT_DIR"), "/shaders.rs"));
}

pub use block::{BlockTile, DEPTH, Reach, Walk};
pub use library::*;
pub use product::{BiasAccess, ProductTile};
pub use weights::PackedWeights;
