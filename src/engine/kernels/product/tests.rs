//! Every tile is valid WGSL, binds what is declared and translates to every backend.

use super::*;
use crate::engine::ir::{Chain, Define, Link, Packing, Storage};

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

fn linked(tile: &ProductTile, storage: Storage) -> String {
    let sum = if tile.whole { Storage::I32 } else { Storage::F32 };
    let storage = if tile.whole { Storage::I32 } else { storage };
    let side = |name, packed: Option<PackedWeights>| {
        Define::Scalar(name, packed.map_or(storage, |p| Storage::Packed(p.packing)))
    };
    let (left, right) = (side("Left", tile.left), side("Right", tile.right));
    let defines = [left, right, Define::Scalar("Bias", storage), Define::Scalar("Sum", sum)];
    let chain = Chain::identity(sum.class());
    let link = Link {
        defines: &defines,
        class: sum.class(),
        out: storage,
        chain: &chain,
        library: &crate::engine::kernels::function,
    };
    tile.shader().link(&link).expect("no functions are called").source.to_string()
}

fn validated(tile: &ProductTile, storage: Storage) -> (naga::Module, naga::valid::ModuleInfo) {
    let text = linked(tile, storage);
    let module =
        naga::front::wgsl::parse_str(&text).unwrap_or_else(|error| panic!("{tile:?}: {}", error.emit_to_string(&text)));
    let info = naga::valid::Validator::new(naga::valid::ValidationFlags::all(), naga::valid::Capabilities::all())
        .validate(&module)
        .unwrap_or_else(|error| panic!("{tile:?}: {}", error.emit_to_string(&text)));
    (module, info)
}

#[test]
fn every_tile_is_valid() {
    for tile in tiles() {
        let (module, _) = validated(&tile, Storage::F32);
        let mut bound: Vec<_> =
            module.global_variables.iter().filter_map(|(_, v)| Some((v.binding?.binding, v.space))).collect();
        bound.sort_by_key(|(binding, _)| *binding);
        let kinds: Vec<Binding> = bound
            .iter()
            .map(|(_, space)| match space {
                naga::AddressSpace::Uniform => Binding::Uniform,
                naga::AddressSpace::Storage { access } if access.contains(naga::StorageAccess::STORE) => {
                    Binding::ReadWrite
                }
                _ => Binding::Read,
            })
            .collect();
        assert_eq!(kinds, tile.bindings(), "{tile:?}");
    }
}

#[test]
fn every_backend_takes_the_tiles() {
    use naga::back::{hlsl, msl, spv};
    for tile in tiles().iter().filter(|t| t.lanes == 8 && t.rows != 32) {
        let (module, info) = validated(tile, Storage::F16);
        spv::write_vec(&module, &info, &spv::Options { lang_version: (1, 3), ..Default::default() }, None)
            .unwrap_or_else(|error| panic!("{tile:?}: {error}"));
        let options =
            hlsl::Options { shader_model: hlsl::ShaderModel::V6_2, fake_missing_bindings: true, ..Default::default() };
        let mut text = String::new();
        hlsl::Writer::new(&mut text, &options, &hlsl::PipelineOptions::default())
            .write(&module, &info, None)
            .unwrap_or_else(|error| panic!("{tile:?}: {error}"));
        let options = msl::Options { lang_version: (2, 4), fake_missing_bindings: true, ..Default::default() };
        msl::write_string(&module, &info, &options, &msl::PipelineOptions::default())
            .unwrap_or_else(|error| panic!("{tile:?}: {error}"));
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
