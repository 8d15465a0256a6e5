//! Every tile is valid WGSL, binds what is declared and translates to every backend.

use super::super::tests as checked;
use super::*;
use crate::engine::ir::{Define, Packing, Storage};

/// A tile to change.
const PLAIN: ProductTile = ProductTile {
    lanes: 8,
    broadcast: true,
    rows: 8,
    columns: 8,
    wide: false,
    left: None,
    right: None,
    padded: false,
    bias: BiasAccess::None,
    whole: false,
};

/// Every way of restoring weights on either side.
fn packed() -> Vec<ProductTile> {
    let mut tiles = Vec::new();
    for (bits, signed) in [(4, true), (8, true), (8, false)] {
        for (has_scales, has_zeros, blocked) in
            [(false, false, false), (true, false, false), (true, true, false), (true, true, true), (false, true, false)]
        {
            let packed = Some(PackedWeights { packing: Packing { bits, signed }, has_scales, has_zeros, blocked });
            let whole = !has_scales;
            for (columns, wide) in [(1, false), (2, false), (8, false), (8, true), (4, true)] {
                if columns >= 32 / bits || !wide {
                    tiles.push(ProductTile { right: packed, columns, wide, whole, ..PLAIN });
                }
            }
            if !blocked {
                tiles.push(ProductTile { left: packed, padded: true, rows: 16, whole, ..PLAIN });
                tiles.push(ProductTile { left: packed, broadcast: false, wide: true, whole, ..PLAIN });
            }
        }
    }
    tiles
}

fn tiles() -> Vec<ProductTile> {
    let mut tiles = Vec::new();
    let biases = [BiasAccess::None, BiasAccess::Channel, BiasAccess::Column, BiasAccess::Element];
    for (lanes, broadcast) in [(4, true), (8, true), (16, true), (32, true), (64, true), (8, false)] {
        for rows in [1, 2, 4, 8, 16, 32] {
            for columns in [1, 2, 4, 8] {
                for (wide, padded) in [(false, false), (false, true), (true, false)] {
                    if wide && columns % 4 != 0 {
                        continue;
                    }
                    for (bias, whole) in [(biases[(rows + columns) as usize % 4], false), (BiasAccess::None, true)] {
                        tiles.push(ProductTile { lanes, broadcast, rows, columns, wide, padded, bias, whole, ..PLAIN });
                    }
                }
            }
        }
    }
    tiles.extend(packed());
    tiles.extend(biases.map(|bias| ProductTile {
        lanes: 8,
        broadcast: true,
        rows: 16,
        columns: 8,
        wide: false,
        padded: true,
        bias,
        whole: false,
        ..PLAIN
    }));
    tiles
}

fn validated(tile: &ProductTile, storage: Storage) -> (naga::Module, naga::valid::ModuleInfo) {
    let sum = if tile.whole { Storage::I32 } else { Storage::F32 };
    let storage = if tile.whole { Storage::I32 } else { storage };
    let side = |name, packed: Option<PackedWeights>| {
        Define::Scalar(name, packed.map_or(storage, |p| Storage::Packed(p.packing)))
    };
    let (left, right) = (side("Left", tile.left), side("Right", tile.right));
    let defines = [left, right, Define::Scalar("Bias", storage), Define::Scalar("Sum", sum)];
    checked::validated(tile, &tile.shader(), &defines, if tile.whole { sum } else { storage })
}

#[test]
fn every_tile_is_valid() {
    for tile in tiles() {
        let (module, _) = validated(&tile, Storage::F32);
        checked::binds_what_is_declared(&tile, &tile.shader(), &module);
    }
}

#[test]
fn every_backend_takes_the_tiles() {
    for tile in tiles().iter().filter(|t| t.lanes == 8 && t.rows != 32) {
        checked::translates(tile, &validated(tile, Storage::F16));
    }
}

#[test]
fn the_smallest_tile_reads_as_written() {
    let tile = ProductTile {
        lanes: 8,
        broadcast: true,
        rows: 2,
        columns: 2,
        wide: false,
        padded: true,
        bias: BiasAccess::Channel,
        whole: false,
        ..PLAIN
    };
    let text = tile.text();
    insta::assert_snapshot!(text[text.find("@compute").expect("an entry point")..]);
}

#[test]
fn weights_of_four_bits_are_restored_eight_columns_at_a_time() {
    let packing = Packing { bits: 4, signed: true };
    let right = Some(PackedWeights { packing, has_scales: true, has_zeros: true, blocked: true });
    let text = ProductTile { right, rows: 1, wide: true, ..PLAIN }.text();
    insta::assert_snapshot!(text[text.find("var tap").expect("a loop")..text.find("tap.x +=").expect("its end")]);
}
