//! Every tile is valid WGSL, binds what is declared and translates to every backend.

use super::*;
use crate::engine::ir::{Chain, Define, Link, Storage};

fn tiles() -> Vec<ProductTile> {
    let mut tiles = Vec::new();
    let biases = [BiasAccess::None, BiasAccess::Channel, BiasAccess::Column, BiasAccess::Element];
    for (lanes, broadcast) in [(4, true), (8, true), (16, true), (32, true), (64, true), (8, false)] {
        for rows in [1, 2, 4, 8, 16, 32] {
            for columns in [1, 2, 4, 8] {
                for (wide, padded) in [(false, false), (false, true), (true, false)] {
                    let bias = biases[(rows + columns) as usize % 4];
                    if !wide || columns % 4 == 0 {
                        tiles.push(ProductTile { lanes, broadcast, rows, columns, wide, padded, bias, whole: false });
                        tiles.push(ProductTile {
                            lanes,
                            broadcast,
                            rows,
                            columns,
                            wide,
                            padded,
                            bias: BiasAccess::None,
                            whole: true,
                        });
                    }
                }
            }
        }
    }
    tiles.extend(biases.map(|bias| ProductTile {
        lanes: 8,
        broadcast: true,
        rows: 16,
        columns: 8,
        wide: false,
        padded: true,
        bias,
        whole: false,
    }));
    tiles
}

fn linked(tile: &ProductTile, storage: Storage) -> String {
    let sum = if tile.whole { Storage::I32 } else { Storage::F32 };
    let storage = if tile.whole { Storage::I32 } else { storage };
    let [left, right, bias] = ["Left", "Right", "Bias"].map(|name| Define::Scalar(name, storage));
    let defines = [left, right, bias, Define::Scalar("Sum", sum)];
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
        assert_eq!(kinds, BINDINGS, "{tile:?}");
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
    };
    let text = tile.text();
    insta::assert_snapshot!(text[text.find("@compute").expect("an entry point")..]);
}
