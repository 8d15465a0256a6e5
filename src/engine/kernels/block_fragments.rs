//! Tiles whose subgroups multiply matrices as one (`wgpu_cooperative_matrix`): 16-bit floats in, sums of 32 bits.
//!
//! Four subgroups own a quarter of the tile each, as fragments of a fixed size.

use std::fmt::Write as _;

use super::block_store::case;
use super::block_tile::{BlockTile, Operand};
use crate::engine::ir::Fragments;

/// What stands before all other text. All invocations of a subgroup come to every operation on fragments together, which naga
/// cannot prove where the way there depends on a variable.
pub(super) const FRAGMENT_DIRECTIVES: &str =
    "enable wgpu_cooperative_matrix;\ndiagnostic(off, derivative_uniformity);\n";

/// Subgroups of a workgroup, two by two.
const SUBGROUPS: u32 = 4;

const FOUR_SUMS: &str = "vec4<f32>(staged[held], staged[held + 1u], staged[held + 2u], staged[held + 3u])";

impl Fragments {
    pub(super) fn invocations(self) -> u32 {
        SUBGROUPS * self.lanes
    }

    /// Sums that lie in workgroup memory on their way to storage: one fragment of each subgroup. Drivers leave cores half empty
    /// where workgroups ask for much memory.
    pub(super) fn staged(self) -> u32 {
        SUBGROUPS * self.size * self.size
    }

    /// Fragments of a subgroup along the rows and the columns of its quarter.
    fn grid(self, tile: &BlockTile) -> [u32; 2] {
        [tile.rows / 2 / self.size, tile.columns / 2 / self.size]
    }

    fn matrix(self, scalar: &str, role: &str) -> String {
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

    /// Stores a fragment of each subgroup a turn, by way of workgroup memory: a lane stores four columns of every line that it
    /// comes to, the same ones for all fragments in a column.
    pub(super) fn emit_stores(self, tile: &BlockTile, text: &mut String) -> std::fmt::Result {
        let ([down, across], size, fours) = (self.grid(tile), self.size, self.size / 4);
        // A vector of sums, or a sum, where pointers are to single numbers.
        let (unit, sums) = if self.wide { (4, "staged[held]") } else { (1, FOUR_SUMS) };
        writeln!(text, "let staging = subgroup * {}u;", size * size / unit)?;
        for j in 0..across {
            writeln!(text, "{{\nlet place = own_column + {}u + lane % {fours}u * 4u;", j * size)?;
            for i in 0..if tile.fours { 1 } else { 4 } {
                let column = match tile.is_spread() {
                    true => format!("(place + {i}u) % 4u * {}u + (place + {i}u) / 4u", tile.columns / 4),
                    false => format!("place + {i}u"),
                };
                writeln!(
                    text,
                    "let column{i} = first_column + {column};\nlet out{i} = pixel_out(min(column{i}, last_column));"
                )?;
            }
            writeln!(text, "for (var turn = 0u; turn < {down}u; turn++) {{\nswitch turn {{")?;
            for i in 0..down {
                let label = case(i, down);
                writeln!(text, "{label}: {{ coopStoreT(c{i}_{j}, &staged[staging], {}u); }}", size / unit)?;
            }
            writeln!(
                text,
                "}}\nworkgroupBarrier();\n\
                 for (var line = lane / {fours}u; line < {size}u; line += {}u) {{\n\
                 let row = first_row + own_row + turn * {size}u + line;\n\
                 let held = staging + (line * {fours}u + lane % {fours}u) * {}u;\n\
                 let sums = {sums};\n\
                 if row < params.rows {{\n\
                 let channel = start.w + row * params.channel_row;",
                self.lanes / fours,
                4 / unit
            )?;
            if tile.fours {
                writeln!(text, "{}", tile.stored_four("sums", "column0", "out0"))?;
            } else {
                for i in 0..4 {
                    let stored = tile.stored_one(&format!("column{i}"), &format!("out{i}"));
                    writeln!(text, "{{\nlet sum = sums[{i}];\n{stored}\n}}")?;
                }
            }
            writeln!(text, "}}\n}}\nworkgroupBarrier();\n}}\n}}")?;
        }
        Ok(())
    }
}
