//! How subgroups store the fragments that they summed up, by way of workgroup memory: one fragment each a turn.

use std::fmt::Write as _;

use super::block_store::case;
use super::finish::Finish;
use crate::engine::ir::Fragments;

const FOUR_SUMS: &str = "vec4<f32>(staged[held], staged[held + 1u], staged[held + 2u], staged[held + 3u])";

/// Sums that lie in workgroup memory at a time: one fragment of each subgroup. Drivers leave cores half empty where workgroups ask
/// for much memory.
pub(super) fn staged(fragments: Fragments, subgroups: u32) -> u32 {
    subgroups * fragments.size * fragments.size
}

/// A subgroup's fragments `c{i}_{j}`, from `own_row` and `own_column` of the tile on.
#[derive(Clone, Copy)]
pub(super) struct FragmentStore {
    pub(super) fragments: Fragments,
    /// Fragments along the rows and the columns.
    pub(super) grid: [u32; 2],
    pub(super) finish: Finish,
}

impl FragmentStore {
    /// Vectors of four in a line of a fragment.
    fn fours(self) -> u32 {
        self.fragments.size / 4
    }

    /// Lines of a fragment that a subgroup stores at once.
    fn lines(self) -> u32 {
        self.fragments.lanes / self.fours()
    }

    /// Places of a vector of sums in `staged`, whose elements are vectors, or single numbers.
    fn unit(self) -> u32 {
        if self.fragments.wide { 1 } else { 4 }
    }

    /// What begins the stores of column `j` of fragments: where this lane's four columns are.
    fn emit_place(self, j: u32, text: &mut String) -> std::fmt::Result {
        let size = self.fragments.size;
        writeln!(
            text,
            "{{\nlet staging = subgroup * {}u;\nlet place = own_column + {}u + lane % {}u * 4u;",
            size * self.fours() * self.unit(),
            j * size,
            self.fours()
        )
    }

    /// What has the fragment of row `i` and column `j` in workgroup memory.
    fn staging(self, i: u32, j: u32) -> String {
        format!("coopStoreT(c{i}_{j}, &staged[staging], {}u);", self.fours() * self.unit())
    }

    /// The lane's four sums of `line`, and its row.
    fn emit_sums(self, row: &str, line: &str, text: &mut String) -> std::fmt::Result {
        let (fours, unit) = (self.fours(), self.unit());
        let sums = if self.fragments.wide { "staged[held]" } else { FOUR_SUMS };
        writeln!(
            text,
            "let row = first_row + own_row + {row} + {line};\n\
             let held = staging + ({line} * {fours}u + lane % {fours}u) * {unit}u;\n\
             let sums = {sums};\n\
             if row < params.rows {{\n\
             let channel = start.w + row * params.channel_row;"
        )
    }

    /// Stores four columns at once, all that a subgroup does one after the other: loops over it took 0.04 of 0.54 ms (4096³ on an NVIDIA H200).
    pub(super) fn emit_fours(self, text: &mut String) -> std::fmt::Result {
        let ([down, across], size) = (self.grid, self.fragments.size);
        for j in 0..across {
            self.emit_place(j, text)?;
            writeln!(text, "let column = first_column + place;\nlet out = pixel_out(min(column, last_column));")?;
            for i in 0..down {
                writeln!(text, "{}\nworkgroupBarrier();", self.staging(i, j))?;
                for first in (0..size).step_by(self.lines() as usize) {
                    writeln!(text, "{{")?;
                    let line = format!("(lane / {}u + {first}u)", self.fours());
                    self.emit_sums(&format!("{}u", i * size), &line, text)?;
                    writeln!(text, "{}\n}}\n}}", self.finish.stored_four("sums", "column", "out"))?;
                }
                writeln!(text, "workgroupBarrier();")?;
            }
            writeln!(text, "}}")?;
        }
        Ok(())
    }

    /// Stores column by column. Where a tile's columns are spread, four that were carried together lie a quarter of its `columns`
    /// apart.
    pub(super) fn emit_ones(self, spread: Option<u32>, text: &mut String) -> std::fmt::Result {
        let ([down, across], size) = (self.grid, self.fragments.size);
        for j in 0..across {
            self.emit_place(j, text)?;
            for i in 0..4 {
                let column = match spread {
                    Some(columns) => format!("(place + {i}u) % 4u * {}u + (place + {i}u) / 4u", columns / 4),
                    None => format!("place + {i}u"),
                };
                writeln!(
                    text,
                    "let column{i} = first_column + {column};\nlet out{i} = pixel_out(min(column{i}, last_column));"
                )?;
            }
            writeln!(text, "for (var turn = 0u; turn < {down}u; turn++) {{\nswitch turn {{")?;
            for i in 0..down {
                writeln!(text, "{}: {{ {} }}", case(i, down), self.staging(i, j))?;
            }
            writeln!(
                text,
                "}}\nworkgroupBarrier();\nfor (var line = lane / {}u; line < {size}u; line += {}u) {{",
                self.fours(),
                self.lines()
            )?;
            self.emit_sums(&format!("turn * {size}u"), "line", text)?;
            for i in 0..4 {
                let stored = self.finish.stored_one(&format!("column{i}"), &format!("out{i}"));
                writeln!(text, "{{\nlet sum = sums[{i}];\n{stored}\n}}")?;
            }
            writeln!(text, "}}\n}}\nworkgroupBarrier();\n}}\n}}")?;
        }
        Ok(())
    }
}
