//! About how long products take on GPUs, by their tiles.

use super::product::{Params, Product};
use crate::engine::kernels::{BlockTile, PanelTile};

/// Cores that an adapter is taken to have: none says how many. Middling GPUs have 20 to 60, large ones 130.
pub(super) const CORES: f64 = 100.0;
/// Invocations that keep a core busy.
const BUSY: f64 = 256.0;
/// Multiply-adds of a core in the time that one more dispatch takes.
pub(super) const DISPATCH: f64 = 5e5;
/// Multiply-adds of a core in the time that it reads or writes one number of a partial sum.
pub(super) const TRAFFIC: f64 = 60.0;
/// What a multiply-add of fragments costs.
const FRAGMENT_COST: f64 = 0.2;
/// What storing a sum costs more where the fragments of a tile leave few registers for anything else.
const CROWDED_STORE: f64 = 150.0;

/// About how long tiles take, in multiply-adds of one core. They go to cores evenly; larger ones read less for each
/// multiply-add, and a core needs [`BUSY`] invocations.
pub(super) fn cost(product: &Product, tile: &BlockTile, parts: u32) -> f64 {
    let Params { rows, columns, .. } = product.params;
    let entries = product.starts.len() as f64;
    let (down, across) = (f64::from(tile.rows), f64::from(tile.columns));
    let each = match tile.fragments {
        Some(_) => fragment_cost(down, across),
        None => 1.0 + 16.0 / f64::from(tile.side * tile.side) + 2.0 * (1.0 / down + 1.0 / across),
    };
    let crowded = tile.fragments.is_some() && tile.rows * tile.columns == 128 * 128;
    let stored = if crowded { CROWDED_STORE } else { 0.0 };
    let sums = sums_cost(product, [tile.rows, tile.columns], parts, tile.invocations(), each, stored);
    let partial = f64::from(rows) * f64::from(columns) * entries * f64::from(parts + 1);
    if parts == 1 { sums } else { sums + DISPATCH + partial * TRAFFIC / CORES }
}

/// The same of tiles of panels.
pub(super) fn panel_cost(product: &Product, tile: &PanelTile) -> f64 {
    let each = fragment_cost(f64::from(tile.rows), f64::from(tile.columns));
    sums_cost(product, [tile.rows, tile.columns], 1, tile.invocations(), each, CROWDED_STORE)
}

/// A multiply-add of fragments, and reads of workgroup memory and of storage beside it.
fn fragment_cost(rows: f64, columns: f64) -> f64 {
    FRAGMENT_COST + 8.0 * (1.0 / rows + 1.0 / columns)
}

/// What the tiles take whose invocations spend `each` on a multiply-add and `stored` more on storing a sum.
fn sums_cost(product: &Product, tile: [u32; 2], parts: u32, invocations: u32, each: f64, stored: f64) -> f64 {
    let (Params { rows, columns, channels, taps, .. }, [down, across]) = (product.params, tile);
    let tiles = f64::from(rows.div_ceil(down)) * f64::from(columns.div_ceil(across)) * product.starts.len() as f64;
    let rounds = (tiles * f64::from(parts) / CORES).ceil();
    let busy = (rounds * f64::from(invocations) / BUSY).min(1.0);
    let terms = f64::from(channels) * f64::from(taps) / f64::from(parts);
    rounds * f64::from(down) * f64::from(across) * (terms * each + stored) / busy
}
