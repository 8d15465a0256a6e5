//! Every tile is valid WGSL, binds what is declared and translates to every backend.

use super::super::product::BiasAccess;
use super::super::tests as checked;
use super::super::weights::PackedWeights;
use super::*;
use crate::engine::ir::{CHANNELS_VARY, Define, Fragments, Packing, Storage};

/// A tile to change.
const PLAIN: BlockTile = BlockTile {
    rows: 32,
    columns: 32,
    side: 4,
    left: Reach::Single,
    right: Reach::Single,
    left_packed: None,
    right_packed: None,
    walk: Walk::Channels,
    padded: false,
    alike: true,
    bias: BiasAccess::None,
    whole: false,
    fragments: None,
    ragged: true,
    unrolled: false,
    fours: false,
};

/// Every size × every way of reading × every way of walking, biases in turn.
fn tiles() -> Vec<BlockTile> {
    let biases = [BiasAccess::None, BiasAccess::Channel, BiasAccess::Column, BiasAccess::Element];
    let reaches = [Reach::Single, Reach::Lines, Reach::Terms];
    let mut tiles = Vec::new();
    for (rows, columns, side) in BlockTile::SIZES {
        for left in reaches {
            for right in reaches {
                let bias = biases[tiles.len() % 4];
                tiles.push(BlockTile { rows, columns, side, left, right, bias, ..PLAIN });
            }
            for (walk, padded) in
                [(Walk::Taps, false), (Walk::Taps, true), (Walk::Windows, false), (Walk::Windows, true)]
            {
                let bias = biases[tiles.len() % 4];
                tiles.push(BlockTile { rows, columns, side, left, walk, padded, bias, ..PLAIN });
            }
        }
        for reach in reaches {
            tiles.push(BlockTile { rows, columns, side, left: reach, right: reach, ragged: false, ..PLAIN });
        }
        for bias in biases {
            tiles.push(BlockTile { rows, columns, side, right: Reach::Lines, fours: true, bias, ..PLAIN });
        }
        tiles.push(BlockTile { rows, columns, side, unrolled: true, left: Reach::Terms, ..PLAIN });
        tiles.push(BlockTile { rows, columns, side, whole: true, unrolled: true, ..PLAIN });
        tiles.push(BlockTile { rows, columns, side, right: Reach::Terms, whole: true, fours: true, ..PLAIN });
    }
    for (bits, signed) in [(4, true), (8, true), (8, false)] {
        for (has_scales, has_zeros, blocked) in
            [(false, false, false), (true, false, false), (true, true, false), (true, true, true), (false, true, false)]
        {
            let packed = Some(PackedWeights { packing: Packing { bits, signed }, has_scales, has_zeros, blocked });
            let plain = BlockTile { alike: false, whole: !has_scales, ..PLAIN };
            tiles.push(BlockTile { right_packed: packed, ..plain });
            if !blocked {
                tiles.push(BlockTile { left_packed: packed, walk: Walk::Taps, padded: true, ..plain });
                tiles.push(BlockTile { left_packed: packed, walk: Walk::Windows, padded: true, ..plain });
            }
        }
    }
    tiles
}

/// Those of [`tiles`] that fragments can be multiplied for: as Vulkan has them, and as Metal does.
fn fragment_tiles() -> Vec<BlockTile> {
    let fragments = [Fragments { size: 16, lanes: 32, wide: true }, Fragments { size: 8, lanes: 32, wide: false }];
    let plain = |tile: &BlockTile| !tile.whole && tile.left_packed.or(tile.right_packed).is_none();
    let mut tiles: Vec<BlockTile> = tiles().into_iter().filter(plain).collect();
    tiles.retain(|tile| BlockTile::FRAGMENT_SIZES.contains(&(tile.rows, tile.columns)));
    fragments.into_iter().flat_map(|f| tiles.iter().map(move |t| BlockTile { fragments: Some(f), ..*t })).collect()
}

fn validated(tile: &BlockTile, storage: Storage) -> (naga::Module, naga::valid::ModuleInfo) {
    let sum = if tile.whole { Storage::I32 } else { Storage::F32 };
    let storage = if tile.whole { Storage::I32 } else { storage };
    let side = |name, packed: Option<PackedWeights>| {
        Define::Scalar(name, packed.map_or(storage, |p| Storage::Packed(p.packing)))
    };
    let (left, right) = (side("Left", tile.left_packed), side("Right", tile.right_packed));
    let vary = Define::Const(CHANNELS_VARY, u32::from(tile.bias == BiasAccess::Column));
    let defines = [vary, left, right, Define::Scalar("Bias", storage), Define::Scalar("Sum", sum)];
    checked::validated(tile, &tile.shader(), &defines, if tile.whole { sum } else { storage })
}

#[test]
fn every_tile_is_valid() {
    for tile in tiles() {
        let (module, _) = validated(&tile, Storage::F32);
        checked::binds_what_is_declared(&tile, &tile.shader(), &module);
    }
    for tile in fragment_tiles() {
        let (module, _) = validated(&tile, Storage::F16);
        checked::binds_what_is_declared(&tile, &tile.shader(), &module);
    }
}

#[test]
fn every_backend_takes_the_tiles() {
    for tile in tiles() {
        checked::translates(&tile, &validated(&tile, Storage::F16));
    }
    // HLSL knows no fragments.
    for tile in fragment_tiles() {
        checked::translates_but_for_hlsl(&tile, &validated(&tile, Storage::F16));
    }
}

#[test]
fn workgroup_memory_is_what_is_declared() {
    for tile in tiles().into_iter().chain(fragment_tiles()) {
        let found = checked::workgroup_bytes(&validated(&tile, Storage::F16).0);
        assert_eq!(found, tile.workgroup_bytes(4), "{tile:?}");
    }
}

#[test]
fn a_convolution_reads_as_written() {
    let tile = BlockTile { walk: Walk::Taps, padded: true, left: Reach::Lines, bias: BiasAccess::Channel, ..PLAIN };
    let text = tile.text();
    insta::assert_snapshot!(text[text.find("@compute").expect("an entry point")..]);
}
