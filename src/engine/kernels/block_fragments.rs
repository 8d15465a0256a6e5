//! Tiles whose subgroups multiply matrices as one (`wgpu_cooperative_matrix`): 16-bit floats in, sums of 32 bits.
//!
//! Four subgroups own a quarter of the tile each, as fragments of a fixed size.

use std::fmt::Write as _;

use super::block_tile::{BlockTile, Operand};
use super::fragment_store::{FragmentStore, staged};
use crate::engine::ir::Fragments;

/// What stands before all other text. All invocations of a subgroup come to every operation on fragments together, which naga
/// cannot prove where the way there depends on a variable.
pub(super) const FRAGMENT_DIRECTIVES: &str =
    "enable wgpu_cooperative_matrix;\ndiagnostic(off, derivative_uniformity);\n";

/// Subgroups of a workgroup, two by two.
const SUBGROUPS: u32 = 4;

impl Fragments {
    pub(super) fn invocations(self) -> u32 {
        SUBGROUPS * self.lanes
    }

    /// Sums that lie in workgroup memory on their way to storage.
    pub(super) fn staged(self) -> u32 {
        staged(self, SUBGROUPS)
    }

    /// Fragments of a subgroup along the rows and the columns of its quarter.
    fn grid(self, tile: &BlockTile) -> [u32; 2] {
        [tile.rows / 2 / self.size, tile.columns / 2 / self.size]
    }

    pub(super) fn matrix(self, scalar: &str, role: &str) -> String {
        format!("coop_mat{0}x{0}<{scalar}, {role}>", self.size)
    }

    pub(super) fn workgroup_memory(self, tile: &BlockTile) -> String {
        let array = |vectors: u32, element: &str| match self.wide {
            true => format!("array<vec4<{element}>, {vectors}>"),
            false => format!("array<{element}, {}>", 4 * vectors),
        };
        format!(
            "alias Held = f16;\n\
             var<workgroup> left: {};\n\
             var<workgroup> right: {};\n\
             var<workgroup> staged: {};\n",
            array(tile.held_vectors(Operand::Left), "Held"),
            array(tile.held_vectors(Operand::Right), "Held"),
            array(self.staged() / 4, "f32")
        )
    }

    pub(super) fn emit_start(self, tile: &BlockTile, text: &mut String) -> std::fmt::Result {
        let [down, across] = self.grid(tile);
        writeln!(
            text,
            "let own_row = subgroup / 2u * {}u;\nlet own_column = subgroup % 2u * {}u;",
            tile.rows / 2,
            tile.columns / 2
        )?;
        for i in 0..down {
            for j in 0..across {
                writeln!(text, "var c{i}_{j} = {}();", self.matrix("f32", "C"))?;
            }
        }
        Ok(())
    }

    /// The fragment of an operand, from term `term` and line `own + line` on.
    fn loaded(self, tile: &BlockTile, operand: Operand, term: u32, line: u32) -> String {
        let (side, own, role) = match operand {
            Operand::Left => ("left", "own_row", "A"),
            Operand::Right => ("right", "own_column", "B"),
        };
        let pitch = tile.pitch(operand);
        let at = match tile.is_by_line(operand) {
            true => format!("({own} + {line}u) * {pitch}u + {}u", term / 4),
            false => format!("{}u + ({own} + {line}u) / 4u", term * pitch),
        };
        // Rows of a, or terms of b, follow each other at the pitch; else the matrix lies column by column.
        let turned = if tile.is_by_line(operand) == (operand == Operand::Left) { "T" } else { "" };
        let (at, pitch) = if self.wide { (at, pitch) } else { (format!("({at}) * 4u"), 4 * pitch) };
        format!("coopLoad{turned}<{}>(&{side}[{at}], {pitch}u)", self.matrix("f16", role))
    }

    pub(super) fn emit_sums(self, tile: &BlockTile, text: &mut String) -> std::fmt::Result {
        let ([down, across], size) = (self.grid(tile), self.size);
        for step in 0..tile.depth() / size {
            let term = step * size;
            for i in 0..down {
                writeln!(text, "let a{step}_{i} = {};", self.loaded(tile, Operand::Left, term, i * size))?;
            }
            for j in 0..across {
                writeln!(text, "let b{step}_{j} = {};", self.loaded(tile, Operand::Right, term, j * size))?;
            }
            for i in 0..down {
                for j in 0..across {
                    writeln!(text, "c{i}_{j} = coopMultiplyAdd(a{step}_{i}, b{step}_{j}, c{i}_{j});")?;
                }
            }
        }
        Ok(())
    }

    pub(super) fn emit_stores(self, tile: &BlockTile, text: &mut String) -> std::fmt::Result {
        let store = FragmentStore { fragments: self, grid: self.grid(tile), finish: tile.finish() };
        if tile.fours {
            store.emit_fours(text)
        } else {
            store.emit_ones(tile.is_spread().then_some(tile.columns), text)
        }
    }
}
