//! Every tile is valid WGSL, binds what is declared and translates to every backend.

use super::super::tests as checked;
use super::*;
use crate::engine::ir::{CHANNELS_VARY, Define, Storage};

const PLAIN: SpanTile = SpanTile {
    lanes: 8,
    rows: 8,
    vectors: 1,
    taps: 1,
    tail: None,
    stride: 1,
    dilation: 1,
    rest: false,
    bias: BiasAccess::None,
    fours: true,
    lead: 0,
    framed: false,
    scaled: false,
};

fn tiles() -> Vec<SpanTile> {
    let biases = [BiasAccess::None, BiasAccess::Channel, BiasAccess::Column, BiasAccess::Element];
    let mut tiles = Vec::new();
    for (lanes, rows) in [(4, 8), (8, 1), (8, 16), (8, 32), (16, 4), (64, 32)] {
        for (taps, stride, dilation) in [(1, 1, 1), (1, 2, 1), (2, 1, 1), (3, 1, 2), (3, 2, 1), (5, 1, 1), (7, 2, 1)] {
            for vectors in [1, 2] {
                let bias = biases[tiles.len() % biases.len()];
                let fours = tiles.len() % 3 == 0;
                let rest = taps == 1 && vectors == 2;
                let (lead, framed) = (tiles.len() as u32 % 4, fours && taps < 5);
                let tile = SpanTile {
                    lanes,
                    rows,
                    vectors,
                    taps,
                    tail: (taps > 1 && tiles.len() % 2 == 0).then_some(taps - 1),
                    stride,
                    dilation,
                    rest,
                    bias,
                    fours,
                    lead,
                    framed,
                    scaled: taps == 1 && !rest,
                };
                tiles.push(tile);
            }
        }
    }
    tiles
}

#[test]
fn every_tile_is_valid_everywhere() {
    for (tile, vary) in tiles().iter().zip([0, 1].into_iter().cycle()) {
        let scalar = |name| Define::Scalar(name, Storage::F32);
        let defines = [scalar("Left"), scalar("Right"), scalar("Bias"), Define::Const(CHANNELS_VARY, vary)];
        let made = checked::validated(tile, &tile.shader(), &defines, Storage::F32);
        checked::binds_what_is_declared(tile, &tile.shader(), &made.0);
        checked::translates(tile, &made);
    }
}

#[test]
fn spans_hold_what_all_taps_read() {
    assert_eq!(SpanTile { vectors: 2, taps: 3, ..PLAIN }.span(), 3);
    assert_eq!(SpanTile { vectors: 2, taps: 7, stride: 2, ..PLAIN }.span(), 6);
    assert_eq!(PLAIN.span(), 1);
}

#[test]
fn three_taps_read_as_written() {
    let text = SpanTile { rows: 1, taps: 3, bias: BiasAccess::Channel, fours: false, ..PLAIN }.text();
    insta::assert_snapshot!(text[text.find("@compute").expect("an entry point")..]);
}
