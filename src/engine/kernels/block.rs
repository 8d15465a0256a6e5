//! Kernels for matrix products and convolutions on GPUs, as text made for a tile size.
//!
//! A workgroup owns a tile of the result and walks along the terms in slices of [`DEPTH`]. Its invocations carry a slice of
//! both operands from storage through registers into workgroup memory, and sum up products of it from there, each a few
//! rows × a few columns in registers. The loads of a slice are issued before the sums of the slice before it, and their
//! results are not touched until those are done.
//!
//! Both operands lie in workgroup memory term by term, a vector holding four lines (rows of a, columns of b), so that every
//! read of the innermost loop is of a whole vector and the lanes of a subgroup read neighbouring ones.

use std::borrow::Cow;
use std::fmt::Write as _;

use self::carry::{Operand, WINDOWS};
use super::product::{BINDINGS, BiasAccess, GRID_BINDINGS};
use super::weights::PackedWeights;
use crate::engine::ir::{Binding, Shader, Target};

/// Terms of a slice.
pub const DEPTH: u32 = 16;

/// Rows of tiles that are walked column by column before the next ones: what neighbouring workgroups read stays in caches.
const BAND: u32 = 8;

/// How an operand is read.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Reach {
    /// Element by element.
    Single,
    /// Four lines side by side at once, at multiples of four elements.
    Lines,
    /// Four terms side by side at once, at multiples of four elements, and as many as make whole fours.
    Terms,
}

/// How the terms are walked.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Walk {
    /// There is one tap: along the channels.
    Channels,
    /// Along the channels of one tap after the other.
    Taps,
    /// Along the taps of one channel after the other: less is wasted where there are few channels.
    Windows,
}

/// One kernel of the GPU family.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct BlockTile {
    /// Rows and columns of the workgroup's tile: multiples of 32 up to 128.
    pub rows: u32,
    /// See `rows`.
    pub columns: u32,
    /// Rows and columns of an invocation: 4 or 8 of each.
    pub side: u32,
    /// How a is read.
    pub left: Reach,
    /// How b is.
    pub right: Reach,
    /// How a is restored from packed integers, if it is. It is read element by element then.
    pub left_packed: Option<PackedWeights>,
    /// How b is.
    pub right_packed: Option<PackedWeights>,
    /// How the terms are walked.
    pub walk: Walk,
    /// Whether windows may reach outside the input.
    pub padded: bool,
    /// Whether a and b are arrays of one type, so that their elements are carried as they are.
    pub alike: bool,
    /// How the bias is added.
    pub bias: BiasAccess,
    /// Whether sums are no 32-bit floats: nothing is scaled or added to them.
    pub whole: bool,
}

impl BlockTile {
    /// Rows, columns and side of the tiles worth having, the largest first.
    pub const SIZES: [(u32, u32, u32); 7] =
        [(128, 128, 8), (128, 64, 8), (64, 128, 8), (64, 64, 8), (128, 32, 8), (32, 128, 8), (32, 32, 4)];

    /// Invocations of a workgroup.
    pub fn invocations(&self) -> u32 {
        self.rows / self.side * (self.columns / self.side)
    }

    /// Bytes of workgroup memory, sums being of `sum_bytes` bytes.
    pub fn workgroup_bytes(&self, sum_bytes: u32) -> u32 {
        let slots = if self.walk == Walk::Windows { 20 * DEPTH } else { 0 };
        (self.rows + self.columns) * DEPTH * sum_bytes + slots
    }

    /// Whether scales or zero points are bound.
    pub fn has_grid(&self) -> bool {
        self.left_packed.iter().chain(&self.right_packed).any(PackedWeights::has_grid)
    }

    fn bindings(&self) -> &'static [Binding] {
        if self.has_grid() { GRID_BINDINGS } else { BINDINGS }
    }

    /// The kernel's text.
    pub fn shader(&self) -> Shader {
        let target = Some(Target { buffer: "y", wide: false });
        Shader { name: "block", source: Cow::Owned(self.text()), bindings: self.bindings(), target }
    }

    fn text(&self) -> String {
        let array = |side: &str, reach| if reach == Reach::Single { side.to_owned() } else { format!("vec4<{side}>") };
        let (grid, y) = match self.has_grid() {
            true => ("@group(0) @binding(4) var<storage, read> grid: array<f32>;\n", 5),
            false => ("", 4),
        };
        let mut text = format!(
            "{}{}alias Carried = {};\n\
             @group(0) @binding(0) var<storage, read> a: array<{}>;\n\
             @group(0) @binding(1) var<storage, read> b: array<{}>;\n\
             @group(0) @binding(2) var<storage, read> bias: array<Bias>;\n\
             @group(0) @binding(3) var<storage, read> starts: array<vec4<u32>>;\n\
             {grid}@group(0) @binding({y}) var<storage, read_write> y: array<Out>;\n\
             @group(0) @binding({}) var<uniform> params: Params;\n\
             var<workgroup> left: array<vec4<Sum>, {}>;\n\
             var<workgroup> right: array<vec4<Sum>, {}>;\n",
            include_str!("../../../shaders/lib/index.wgsl"),
            include_str!("../../../shaders/lib/product.wgsl"),
            if self.alike { "Left" } else { "Sum" },
            array("Left", self.left),
            array("Right", self.right),
            y + 1,
            self.rows * DEPTH / 4,
            self.columns * DEPTH / 4,
        );
        self.emit(&mut text).expect("writing to a string cannot fail");
        text
    }

    fn emit(&self, text: &mut String) -> std::fmt::Result {
        let Self { rows, columns, .. } = *self;
        self.emit_restoring(text)?;
        if self.walk == Walk::Windows {
            text.push_str(WINDOWS);
        }
        writeln!(
            text,
            "@compute @workgroup_size({})\n\
             fn main(@builtin(workgroup_id) group: vec3<u32>, @builtin(num_workgroups) groups: vec3<u32>, @builtin(local_invocation_index) index: u32) {{\n\
             let tile = group.y * groups.x + group.x;\n\
             let row_tiles = (params.rows + {}u) / {rows}u;\n\
             let column_tiles = (params.columns + {}u) / {columns}u;\n\
             if tile >= row_tiles * column_tiles {{ return; }}\n\
             let band = tile / ({BAND}u * column_tiles) * {BAND}u;\n\
             let inside_band = tile - band * column_tiles;\n\
             let band_rows = min(row_tiles - band, {BAND}u);\n\
             let first_row = (band + inside_band % band_rows) * {rows}u;\n\
             let first_column = inside_band / band_rows * {columns}u;\n\
             let last_row = params.rows - 1u;\n\
             let last_column = params.columns - 1u;\n\
             let start = starts[group.z];",
            self.invocations(),
            rows - 1,
            columns - 1
        )?;
        self.emit_places(text)?;
        self.emit_owner(text)?;
        for row in 0..self.side {
            for vector in 0..self.side / 4 {
                writeln!(text, "var s{row}_{vector} = vec4<Sum>();")?;
            }
        }
        let terms = if self.walk == Walk::Windows { "params.channels * params.taps" } else { "params.channels" };
        let slices = if self.walk == Walk::Taps { " * params.taps" } else { "" };
        writeln!(
            text,
            "let terms = {terms};\nlet slices = (terms + {}u) / {DEPTH}u{slices};\nvar k = 0u;\nvar rest = 0u;",
            DEPTH - 1
        )?;
        match self.walk {
            Walk::Channels => {}
            Walk::Taps => writeln!(text, "var tap = vec3<u32>();")?,
            Walk::Windows => writeln!(text, "if index < {DEPTH}u {{ open_term(index, index); }}\nworkgroupBarrier();")?,
        }
        // Turn n loads slice n while it sums up slice n − 1.
        writeln!(
            text,
            "for (var slice = 0u; slice <= slices; slice++) {{\nif slice < slices {{\nrest = terms - k;\nlet last_term = terms - 1u;"
        )?;
        self.emit_loads(text)?;
        writeln!(text, "k += {DEPTH}u;")?;
        if self.walk == Walk::Taps {
            // The next tap: x runs fastest.
            writeln!(
                text,
                "if k >= terms {{\n\
                 k = 0u;\n\
                 tap.x += 1u;\n\
                 if tap.x == params.kernel.x {{ tap = vec3<u32>(0u, tap.y + 1u, tap.z); }}\n\
                 if tap.y == params.kernel.y {{ tap = vec3<u32>(0u, 0u, tap.z + 1u); }}\n}}"
            )?;
        }
        writeln!(text, "}}\nif slice > 0u {{")?;
        self.emit_sums(text)?;
        writeln!(text, "}}\nworkgroupBarrier();\nif slice < slices {{")?;
        self.emit_hand_over(text)?;
        if self.walk == Walk::Windows {
            writeln!(text, "if index < {DEPTH}u {{ open_term(index, k + index); }}")?;
        }
        writeln!(text, "}}\nworkgroupBarrier();\n}}")?;
        self.emit_stores(text)?;
        writeln!(text, "}}")
    }

    /// Invocations along the rows and the columns of the tile.
    fn grid(&self) -> [u32; 2] {
        [self.rows / self.side, self.columns / self.side]
    }

    /// Which rows and columns an invocation owns: vectors of four, one from each eighth (or quarter) of the tile. The lanes of
    /// a subgroup make a block as square as can be, which reads least.
    fn emit_owner(&self, text: &mut String) -> std::fmt::Result {
        let [_, across] = self.grid();
        let wide = across.min(8);
        writeln!(
            text,
            "let own_column = index % {wide}u + index / 32u % {}u * {wide}u;\n\
             let own_row = index % 32u / {wide}u + index / {}u * {}u;",
            across / wide,
            32 * across / wide,
            32 / wide
        )
    }

    /// Adds the slice in workgroup memory to the sums.
    fn emit_sums(&self, text: &mut String) -> std::fmt::Result {
        let [down, across] = self.grid();
        let turn = |operand| if self.is_turned(operand) { " ^ (four << 1u)" } else { "" };
        writeln!(text, "for (var four = 0u; four < {}u; four++) {{", DEPTH / 4)?;
        for vector in 0..self.side / 4 {
            writeln!(
                text,
                "let left{vector} = four * {}u + ((own_row + {}u){});\n\
                 let right{vector} = four * {}u + ((own_column + {}u){});",
                self.rows,
                vector * down,
                turn(Operand::Left),
                self.columns,
                vector * across,
                turn(Operand::Right)
            )?;
        }
        for term in 0..4 {
            for vector in 0..self.side / 4 {
                writeln!(
                    text,
                    "let a{term}_{vector} = left[left{vector} + {}u];\nlet b{term}_{vector} = right[right{vector} + {}u];",
                    term * self.rows / 4,
                    term * self.columns / 4
                )?;
            }
            for row in 0..self.side {
                for vector in 0..self.side / 4 {
                    let (x, b) = (format!("vec4<Sum>(a{term}_{}[{}])", row / 4, row % 4), format!("b{term}_{vector}"));
                    let sum = match self.whole {
                        true => format!("{x} * {b} + s{row}_{vector}"),
                        false => format!("fma({x}, {b}, s{row}_{vector})"),
                    };
                    writeln!(text, "s{row}_{vector} = {sum};")?;
                }
            }
        }
        writeln!(text, "}}")
    }

    /// Stores the sums by way of workgroup memory, one row of every invocation a turn: neighbouring invocations store
    /// neighbouring columns, and the text of a store stands here once for all rows.
    fn emit_stores(&self, text: &mut String) -> std::fmt::Result {
        let [down, across] = self.grid();
        let (invocations, columns) = (self.invocations(), self.columns);
        let (together, apart) = (columns.div_ceil(invocations), invocations.div_ceil(columns));
        for column in 0..together {
            writeln!(
                text,
                "let slot{column} = index % {}u + {}u;\n\
                 let column{column} = first_column + slot{column};\n\
                 let out{column} = start.z + output_offset(pixel_at(min(column{column}, last_column)));",
                columns.min(invocations),
                column * invocations
            )?;
        }
        writeln!(text, "for (var turn = 0u; turn < {}u; turn++) {{\nswitch turn {{", self.side)?;
        for row in 0..self.side {
            let case = if row + 1 == self.side { "default".to_owned() } else { format!("case {row}u") };
            writeln!(text, "{case}: {{")?;
            for vector in 0..self.side / 4 {
                writeln!(
                    text,
                    "left[own_row * {}u + own_column + {}u] = s{row}_{vector};",
                    columns / 4,
                    vector * across
                )?;
            }
            writeln!(text, "}}")?;
        }
        writeln!(
            text,
            "}}\nworkgroupBarrier();\nfor (var line = index / {columns}u; line < {down}u; line += {apart}u) {{\n\
             let row = first_row + (turn / 4u * {down}u + line) * 4u + turn % 4u;\n\
             if row < params.rows {{\n\
             let channel = start.w + row * params.channel_row;"
        )?;
        for column in 0..together {
            let slot = match self.is_spread() {
                true => format!("slot{column} % {}u * 4u + slot{column} / {}u", columns / 4, columns / 4),
                false => format!("slot{column}"),
            };
            let bias = match self.bias {
                BiasAccess::None => String::new(),
                BiasAccess::Channel => " + params.beta * f32(bias[start.w + row])".to_owned(),
                BiasAccess::Column | BiasAccess::Element => {
                    format!(" + params.beta * f32(bias[row * params.bias_row + column{column} * params.bias_column])")
                }
            };
            let value = if self.whole { "Value(sum)".to_owned() } else { format!("sum * params.alpha{bias}") };
            writeln!(
                text,
                "if column{column} < params.columns {{\n\
                 let held = {slot};\n\
                 let sum = left[line * {}u + held / 4u][held % 4u];\n\
                 store({value}, out{column} + row * params.y_row, channel + column{column} * params.channel_column);\n}}",
                columns / 4
            )?;
        }
        writeln!(text, "}}\n}}\nworkgroupBarrier();\n}}")
    }
}

mod carry;
#[cfg(test)]
mod tests;
