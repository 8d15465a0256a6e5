//! The shader library: WGSL files embedded and reflected at build time, and kernels made as text.

mod attention_tile;
mod block;
mod block_carry;
mod block_fragments;
mod block_store;
mod block_tile;
mod finish;
mod fragment_store;
mod panel_tile;
mod patch_rows;
mod patch_tile;
mod product;
mod span_tile;
mod tile_order;
mod weights;

#[allow(unreachable_pub)]
mod library {
    include!(concat!(env!("OUT_DIR"), "/shaders.rs"));
}

pub use attention_tile::{AttentionTile, Masking};
pub use block_tile::{BlockTile, DEPTH, Reach, Walk};
pub use library::*;
pub use panel_tile::PanelTile;
pub use patch_tile::{PatchTile, Stored, Taps};
pub use product::{BiasAccess, ProductTile};
pub use span_tile::SpanTile;
pub use weights::PackedWeights;

#[cfg(test)]
mod tests;
