//! Large products of 16-bit floats whose subgroups multiply matrices as one (`wgpu_cooperative_matrix`), as text made for a tile.
//!
//! A tile is as large as the registers of a core hold, which reads least. While the products of a slice are summed up, the next one is
//! under way. The left operand is carried in panels of [`PANEL`] terms, whole cache lines, the right one in slices of half as many.
//! Neighbouring tiles begin at different terms and go round: else all would wait for the same lines at the same time.

use std::borrow::Cow;
use std::fmt::Write as _;

use super::block_fragments::FRAGMENT_DIRECTIVES;
use super::finish::Finish;
use super::fragment_store::{FragmentStore, staged};
use super::product::{BINDINGS, BiasAccess};
use super::tile_order::opening;
use crate::engine::ir::{Define, Fragments, Shader, Target};

/// Terms of a panel.
const PANEL: u32 = 64;

/// Terms of a slice.
const SLICE: u32 = PANEL / 2;

/// Numbers that are read at once, as four words.
const EIGHT: u32 = 8;

/// Numbers between lines in workgroup memory that fall into other banks than those of the line before.
const PADDING: u32 = 8;

/// Subgroups of a workgroup along the rows and the columns.
const SUBGROUPS: [u32; 2] = [2, 4];

/// Constants of a kernel: elements between rows of a, between rows of b, and how many terms there are. As parameters they would
/// cost a register for every read.
const A_ROW: &str = "A_ROW";
const B_ROW: &str = "B_ROW";
const TERMS: &str = "TERMS";

/// One kernel. Terms of a and columns of b lie side by side.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct PanelTile {
    /// Rows and columns of the workgroup's tile: one of [`PanelTile::SIZES`].
    pub rows: u32,
    /// See `rows`.
    pub columns: u32,
    /// What subgroups multiply as one.
    pub fragments: Fragments,
    /// Whether all rows of all tiles exist.
    pub whole_rows: bool,
    /// How the bias is added.
    pub bias: BiasAccess,
}

impl PanelTile {
    /// Rows and columns of the tiles, the largest first: the others are for adapters with little workgroup memory.
    pub const SIZES: [(u32, u32); 3] = [(128, 256), (128, 128), (64, 64)];

    /// What the number of terms is a multiple of.
    pub const TERMS: u32 = PANEL;

    /// What everything that is read begins at, and every step and the number of columns, is a multiple of.
    pub const ALIGNMENT: u32 = EIGHT;

    /// The constants of a kernel for so many terms, by the elements between rows of a and of b.
    pub fn constants(a_row: u32, b_row: u32, terms: u32) -> [Define; 3] {
        [Define::Const(A_ROW, a_row), Define::Const(B_ROW, b_row), Define::Const(TERMS, terms)]
    }

    /// Invocations of a workgroup.
    pub fn invocations(&self) -> u32 {
        SUBGROUPS[0] * SUBGROUPS[1] * self.fragments.lanes
    }

    /// Bytes of workgroup memory.
    pub fn workgroup_bytes(&self) -> u32 {
        2 * (self.left() + self.right()) + 4 * self.staged()
    }

    /// Whether there is such a kernel: subgroups own whole fragments, and all invocations read whole rows at once.
    pub fn is_possible(&self) -> bool {
        let size = self.fragments.size;
        let owned = [self.rows / SUBGROUPS[0], self.columns / SUBGROUPS[1], SLICE];
        let [left, right] = self.pass_rows();
        let divides = |part: u32, whole: u32| part > 0 && whole.is_multiple_of(part);
        let wide = self.fragments.wide && owned.iter().all(|lines| divides(size, *lines));
        wide && divides(left, self.rows) && divides(right, SLICE)
    }

    /// The kernel's text.
    pub fn shader(&self) -> Shader {
        let target = Some(Target { buffer: "y", wide: true });
        Shader { name: "panel", source: Cow::Owned(self.text()), bindings: BINDINGS, target }
    }

    fn left_pitch() -> u32 {
        PANEL + PADDING
    }

    fn right_pitch(&self) -> u32 {
        self.columns + PADDING
    }

    /// Numbers of each operand, and sums, in workgroup memory.
    fn left(&self) -> u32 {
        self.rows * Self::left_pitch()
    }

    fn right(&self) -> u32 {
        SLICE * self.right_pitch()
    }

    fn staged(&self) -> u32 {
        staged(self.fragments, SUBGROUPS[0] * SUBGROUPS[1])
    }

    /// Rows of a panel, and of a slice of b, that all invocations read at once.
    fn pass_rows(&self) -> [u32; 2] {
        [self.invocations() / (PANEL / EIGHT), self.invocations() / (self.columns / EIGHT)]
    }

    /// What an invocation carries of a panel, and of a slice of b: vectors of eight.
    fn carried(&self) -> [u32; 2] {
        let [left, right] = self.pass_rows();
        [self.rows / left, SLICE / right]
    }

    /// Fragments of a subgroup along its rows and columns.
    fn grid(&self) -> [u32; 2] {
        [self.rows / SUBGROUPS[0] / self.fragments.size, self.columns / SUBGROUPS[1] / self.fragments.size]
    }

    fn text(&self) -> String {
        let mut text = format!(
            "{FRAGMENT_DIRECTIVES}{}{}\
             @group(0) @binding(0) var<storage, read> a: array<vec4<u32>>;\n\
             @group(0) @binding(1) var<storage, read> b: array<vec4<u32>>;\n\
             @group(0) @binding(2) var<storage, read> bias: array<Bias>;\n\
             @group(0) @binding(3) var<storage, read> starts: array<vec4<u32>>;\n\
             @group(0) @binding(4) var<storage, read_write> y: array<vec4<Out>>;\n\
             @group(0) @binding(5) var<uniform> params: Params;\n\
             var<workgroup> left: array<vec4<f16>, {}>;\n\
             var<workgroup> right: array<vec4<f16>, {}>;\n\
             var<workgroup> staged: array<vec4<f32>, {}>;\n\
             // Fragments are read through pointers to 16-bit floats alone, which single reads of eight cannot be.\n\
             fn four(words: vec2<u32>) -> vec4<f16> {{\n\
             return vec4<f16>(vec4<f32>(unpack2x16float(words.x), unpack2x16float(words.y)));\n}}\n",
            include_str!("../../../shaders/lib/index.wgsl"),
            include_str!("../../../shaders/lib/product.wgsl"),
            self.left() / 4,
            self.right() / 4,
            self.staged() / 4,
        );
        self.emit(&mut text).expect("writing to a string cannot fail");
        text
    }

    fn emit(&self, text: &mut String) -> std::fmt::Result {
        let Self { rows, columns, .. } = *self;
        writeln!(
            text,
            "@compute @workgroup_size({})\n\
             fn main(@builtin(workgroup_id) group: vec3<u32>, @builtin(num_workgroups) groups: vec3<u32>, @builtin(local_invocation_index) index: u32, @builtin(subgroup_id) subgroup: u32, @builtin(subgroup_invocation_id) lane: u32) {{\n\
             {}\n\
             let own_row = subgroup / {}u * {}u;\n\
             let own_column = subgroup % {}u * {}u;\n\
             let panels = {TERMS} / {PANEL}u;\n\
             var panel = tile % panels;",
            self.invocations(),
            opening([rows, columns]),
            SUBGROUPS[1],
            rows / SUBGROUPS[0],
            SUBGROUPS[1],
            columns / SUBGROUPS[1],
        )?;
        self.emit_places(text)?;
        self.emit_fragments(text)?;
        writeln!(text, "{}{}", self.left_loads(), self.right_loads(0))?;
        writeln!(text, "for (var turn = 0u; turn < panels; turn++) {{\nworkgroupBarrier();")?;
        self.emit_left_over(text)?;
        self.emit_right_over(text)?;
        writeln!(text, "workgroupBarrier();\n{}", self.right_loads(1))?;
        self.emit_sums(0, text)?;
        writeln!(text, "workgroupBarrier();")?;
        self.emit_right_over(text)?;
        // The last panel is followed by the first one again: loads stand on no branch.
        writeln!(
            text,
            "workgroupBarrier();\n\
             let wraps = panel + 1u == panels;\n\
             panel = select(panel + 1u, 0u, wraps);\n\
             left_at = select(left_at + {}u, left_at - ({TERMS} - {PANEL}u) / {EIGHT}u, wraps);\n\
             right_at = select(right_at + {PANEL}u * {B_ROW} / {EIGHT}u, right_at - ({TERMS} - {PANEL}u) * {B_ROW} / {EIGHT}u, wraps);\n\
             {}{}",
            PANEL / EIGHT,
            self.left_loads(),
            self.right_loads(0)
        )?;
        self.emit_sums(1, text)?;
        writeln!(text, "}}\nworkgroupBarrier();")?;
        let finish = Finish { bias: self.bias, whole: false };
        FragmentStore { fragments: self.fragments, grid: self.grid(), finish }.emit_fours(text)?;
        writeln!(text, "}}")
    }

    /// Where this invocation reads in storage, in vectors of eight, and writes in workgroup memory, in vectors of four. Lines past
    /// the end are read as the last one; nothing comes of them.
    fn emit_places(&self, text: &mut String) -> std::fmt::Result {
        let across = self.columns / EIGHT;
        writeln!(
            text,
            "let left_row = index / {0}u;\n\
             let left_vector = index % {0}u;\n\
             let left_to = left_row * {1}u + left_vector * 2u;\n\
             let right_row = index / {across}u;\n\
             let right_vector = index % {across}u;\n\
             let right_to = right_row * {2}u + right_vector * 2u;\n\
             let pixel = pixel_at(min(first_column + right_vector * {EIGHT}u, params.columns - {EIGHT}u));\n\
             let right_place = start.y + pixel.image * params.b_image + input_offset(corner_of(pixel));\n\
             var right_at = right_place / {EIGHT}u + (panel * {PANEL}u + right_row) * ({B_ROW} / {EIGHT}u);",
            PANEL / EIGHT,
            Self::left_pitch() / 4,
            self.right_pitch() / 4,
        )?;
        let first = format!("start.x / {EIGHT}u + panel * {}u + left_vector", PANEL / EIGHT);
        if self.whole_rows {
            return writeln!(text, "var left_at = {first} + (first_row + left_row) * ({A_ROW} / {EIGHT}u);");
        }
        writeln!(text, "var left_at = {first};")?;
        for part in 0..self.carried()[0] {
            let row = part * self.pass_rows()[0];
            writeln!(text, "let row{part} = min(first_row + left_row + {row}u, last_row) * ({A_ROW} / {EIGHT}u);")?;
        }
        Ok(())
    }

    fn emit_fragments(&self, text: &mut String) -> std::fmt::Result {
        let [down, across] = self.grid();
        for i in 0..down {
            for j in 0..across {
                writeln!(text, "var c{i}_{j} = {}();", self.fragments.matrix("f32", "C"))?;
            }
        }
        let [left, right] = self.carried();
        for part in 0..left {
            writeln!(text, "var l{part} = vec4<u32>();")?;
        }
        for part in 0..right {
            writeln!(text, "var r{part} = vec4<u32>();")?;
        }
        Ok(())
    }

    /// What loads the panel at `left_at`.
    fn left_loads(&self) -> String {
        let load = |part| match self.whole_rows {
            true => format!("l{part} = a[left_at + {}u * ({A_ROW} / {EIGHT}u)];\n", part * self.pass_rows()[0]),
            false => format!("l{part} = a[left_at + row{part}];\n"),
        };
        (0..self.carried()[0]).map(load).collect()
    }

    /// What loads slice `slice` of b beside the panel.
    fn right_loads(&self, slice: u32) -> String {
        let row = |part| slice * SLICE + part * self.pass_rows()[1];
        let load = |part| format!("r{part} = b[right_at + {}u * ({B_ROW} / {EIGHT}u)];\n", row(part));
        (0..self.carried()[1]).map(load).collect()
    }

    /// Lays the panel in workgroup memory, line by line.
    fn emit_left_over(&self, text: &mut String) -> std::fmt::Result {
        for part in 0..self.carried()[0] {
            let at = part * self.pass_rows()[0] * Self::left_pitch() / 4;
            writeln!(
                text,
                "left[left_to + {at}u] = four(l{part}.xy);\nleft[left_to + {}u] = four(l{part}.zw);",
                at + 1
            )?;
        }
        Ok(())
    }

    /// Lays a slice of b there, term by term.
    fn emit_right_over(&self, text: &mut String) -> std::fmt::Result {
        for part in 0..self.carried()[1] {
            let at = part * self.pass_rows()[1] * self.right_pitch() / 4;
            writeln!(
                text,
                "right[right_to + {at}u] = four(r{part}.xy);\nright[right_to + {}u] = four(r{part}.zw);",
                at + 1
            )?;
        }
        Ok(())
    }

    /// Adds slice `slice` of the panel to the sums.
    fn emit_sums(&self, slice: u32, text: &mut String) -> std::fmt::Result {
        let ([down, across], size) = (self.grid(), self.fragments.size);
        let (left_pitch, right_pitch) = (Self::left_pitch() / 4, self.right_pitch() / 4);
        writeln!(
            text,
            "{{\nlet left_from = own_row * {left_pitch}u + {}u;\nlet right_from = own_column / 4u;",
            slice * SLICE / 4
        )?;
        for step in 0..SLICE / size {
            for i in 0..down {
                let (a, at) = (self.fragments.matrix("f16", "A"), i * size * left_pitch + step * size / 4);
                writeln!(text, "let a{step}_{i} = coopLoadT<{a}>(&left[left_from + {at}u], {left_pitch}u);")?;
            }
            for j in 0..across {
                let (b, at) = (self.fragments.matrix("f16", "B"), step * size * right_pitch + j * size / 4);
                writeln!(text, "let b{step}_{j} = coopLoadT<{b}>(&right[right_from + {at}u], {right_pitch}u);")?;
            }
            for i in 0..down {
                for j in 0..across {
                    writeln!(text, "c{i}_{j} = coopMultiplyAdd(a{step}_{i}, b{step}_{j}, c{i}_{j});")?;
                }
            }
        }
        writeln!(text, "}}")
    }
}

#[cfg(test)]
mod tests;
