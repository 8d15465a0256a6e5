//! Every tile is valid WGSL, binds what is declared and translates to every backend.

use super::super::product::BiasAccess;
use super::super::weights::PackedWeights;
use super::*;
use crate::engine::ir::{Chain, Define, Link, Packing, Storage};

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
        tiles.push(BlockTile { rows, columns, side, whole: true, ..PLAIN });
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

fn linked(tile: &BlockTile, storage: Storage) -> String {
    let sum = if tile.whole { Storage::I32 } else { Storage::F32 };
    let storage = if tile.whole { Storage::I32 } else { storage };
    let side = |name, packed: Option<PackedWeights>| {
        Define::Scalar(name, packed.map_or(storage, |p| Storage::Packed(p.packing)))
    };
    let (left, right) = (side("Left", tile.left_packed), side("Right", tile.right_packed));
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

fn validated(tile: &BlockTile, storage: Storage) -> (naga::Module, naga::valid::ModuleInfo) {
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
    for tile in tiles() {
        let (module, info) = validated(&tile, Storage::F16);
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
fn workgroup_memory_is_what_is_declared() {
    for tile in tiles() {
        let (module, _) = validated(&tile, Storage::F16);
        let mut layouter = naga::proc::Layouter::default();
        layouter.update(module.to_ctx()).expect("types have sizes");
        let found: u32 = module
            .global_variables
            .iter()
            .filter(|(_, v)| v.space == naga::AddressSpace::WorkGroup)
            .map(|(_, v)| layouter[v.ty].size)
            .sum();
        assert_eq!(found, tile.workgroup_bytes(4), "{tile:?}");
    }
}

#[test]
fn a_convolution_reads_as_written() {
    let tile = BlockTile { walk: Walk::Taps, padded: true, left: Reach::Lines, bias: BiasAccess::Channel, ..PLAIN };
    let text = tile.text();
    insta::assert_snapshot!(text[text.find("@compute").expect("an entry point")..]);
}
