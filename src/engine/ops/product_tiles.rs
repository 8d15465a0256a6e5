//! Tiles among which the fastest is chosen for a product on a software adapter.

use crate::engine::ir::prune;
use crate::engine::kernels::ProductTile;

/// Candidates that are timed at most.
const CANDIDATES_MAX: usize = 4;
/// Time of one multiply-add of a subgroup, in those of one element loaded.
const MULTIPLY_ADD_COST: f64 = 0.5;
/// Cores that a software adapter has at least.
const CORES: u32 = 2;

/// What the choice depends on.
#[derive(Clone, Copy, Debug)]
pub(super) struct Extents {
    pub(super) rows: u32,
    pub(super) columns: u32,
    /// Tiles are made for each batch entry.
    pub(super) batch: usize,
    /// Rows beyond which a kernel takes too long to compile for this product.
    pub(super) most_rows: u32,
}

/// `default` and the most promising other tiles. `wide` says whether groups of so many columns can be read at a time.
pub(super) fn candidates(default: ProductTile, extents: &Extents, wide: impl Fn(u32) -> bool) -> Vec<ProductTile> {
    let mut tiles = vec![default];
    for rows in [4, 8, 16, 32] {
        for columns in [1, 2, 4, 8] {
            // Half a tile may be empty at most.
            let fits = rows < extents.rows.saturating_mul(2)
                && columns * default.lanes < extents.columns.max(default.lanes).saturating_mul(2);
            let tile = ProductTile { rows, columns, wide: wide(columns), ..default };
            if fits && rows <= extents.most_rows && tile != default {
                tiles.push(tile);
            }
        }
    }
    prune(tiles, CANDIDATES_MAX, |tile| cost(tile, extents))
}

/// Estimated time of one term of the whole product, in those of one element loaded.
fn cost(tile: &ProductTile, extents: &Extents) -> f64 {
    let grid = f64::from(extents.rows.div_ceil(tile.rows)) * f64::from(extents.columns.div_ceil(tile.tile_columns()));
    let tiles = grid * extents.batch as f64;
    let turns = (tiles / f64::from(CORES)).ceil();
    turns * (f64::from(tile.rows + tile.tile_columns()) + f64::from(tile.rows * tile.columns) * MULTIPLY_ADD_COST)
}

/// Rows × columns of a lane, as problems name their candidates.
pub(super) fn name(tile: &ProductTile) -> String {
    format!("{}x{}", tile.rows, tile.columns)
}
