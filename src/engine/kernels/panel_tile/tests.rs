//! Every tile is valid WGSL, binds what is declared and translates to the backends that know fragments.

use super::super::tests as checked;
use super::*;
use crate::engine::ir::{CHANNELS_VARY, Storage};

/// Every size × fragments as GPUs have them and as a CPU does, biases in turn.
fn tiles() -> Vec<PanelTile> {
    let biases = [BiasAccess::None, BiasAccess::Channel, BiasAccess::Column, BiasAccess::Element];
    let fragments = [Fragments { size: 16, lanes: 32, wide: true }, Fragments { size: 8, lanes: 8, wide: true }];
    let mut tiles = Vec::new();
    for fragments in fragments {
        for (rows, columns) in PanelTile::SIZES {
            for whole_rows in [false, true] {
                tiles.push(PanelTile { rows, columns, fragments, whole_rows, bias: biases[tiles.len() / 2 % 4] });
            }
        }
    }
    tiles
}

fn validated(tile: &PanelTile) -> (naga::Module, naga::valid::ModuleInfo) {
    let mut defines = vec![Define::Const(CHANNELS_VARY, u32::from(tile.bias == BiasAccess::Column))];
    defines.extend(["Left", "Right", "Bias"].map(|name| Define::Scalar(name, Storage::F16)));
    defines.push(Define::Scalar("Sum", Storage::F32));
    defines.extend(PanelTile::constants(512, 264, 128));
    checked::validated(tile, &tile.shader(), &defines, Storage::F16)
}

#[test]
fn every_tile_is_valid() {
    for tile in tiles() {
        assert!(tile.is_possible(), "{tile:?}");
        let made = validated(&tile);
        checked::binds_what_is_declared(&tile, &tile.shader(), &made.0);
        checked::translates_but_for_hlsl(&tile, &made);
    }
}

#[test]
fn workgroup_memory_is_what_is_declared() {
    for tile in tiles() {
        assert_eq!(checked::workgroup_bytes(&validated(&tile).0), tile.workgroup_bytes(), "{tile:?}");
    }
}

#[test]
fn what_cannot_be_carried_is_not_possible() {
    let plain = PanelTile { rows: 64, columns: 64, ..tiles()[0] };
    let metal = Fragments { size: 8, lanes: 32, wide: false };
    // Twice as many invocations as a slice of b has vectors.
    let crowd = Fragments { size: 16, lanes: 64, wide: true };
    for fragments in [metal, crowd] {
        assert!(!PanelTile { fragments, ..plain }.is_possible(), "{fragments:?}");
    }
    assert!(PanelTile { fragments: crowd, columns: 128, ..plain }.is_possible());
}
