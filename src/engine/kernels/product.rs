//! Kernels for matrix products and convolutions on software adapters, as text made for a tile size.
//!
//! On a CPU that emulates a GPU, loads from storage cost far more than arithmetic and barriers cost more than loads. So a
//! workgroup is one subgroup and shares nothing but registers: each lane owns some columns, lane *l* loads row *l* of the
//! left operand, and `subgroupBroadcast` hands that element to all lanes. The tile is as large as compile time permits.

use std::borrow::Cow;
use std::fmt::Write as _;

use super::weights::PackedWeights;
use crate::engine::ir::{Binding, Shader, Target};

/// Bindings of every product kernel: a, b, bias, starts, y, params.
pub(super) const BINDINGS: &[Binding] =
    &[Binding::Read, Binding::Read, Binding::Read, Binding::Read, Binding::ReadWrite, Binding::Uniform];
/// Those of one that restores weights: a, b, bias, starts, grid, y, params.
pub(super) const GRID_BINDINGS: &[Binding] =
    &[Binding::Read, Binding::Read, Binding::Read, Binding::Read, Binding::Read, Binding::ReadWrite, Binding::Uniform];

/// Rows stored in one turn of the loop at a kernel's end.
const BLOCK_ROWS: u32 = 8;

/// How a product kernel adds its bias.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum BiasAccess {
    /// Not at all.
    None,
    /// `bias[channel]`, the channel being the row.
    Channel,
    /// `bias[column × bias_column]`.
    Column,
    /// `bias[row × bias_row + column × bias_column]`.
    Element,
}

/// One kernel of the software family.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct ProductTile {
    /// Invocations of a workgroup.
    pub lanes: u32,
    /// Whether the workgroup is one subgroup whose lanes can broadcast.
    pub broadcast: bool,
    /// Rows of the tile: a power of two up to 32.
    pub rows: u32,
    /// Consecutive columns that each lane owns: 1, 2, or a multiple of 4.
    pub columns: u32,
    /// Whether b is read four columns at a time, of 4-bit integers eight: they lie side by side, at multiples of as many
    /// elements.
    pub wide: bool,
    /// How a is restored from packed integers, if it is.
    pub left: Option<PackedWeights>,
    /// How b is.
    pub right: Option<PackedWeights>,
    /// Whether windows may reach outside the input.
    pub padded: bool,
    /// How the bias is added.
    pub bias: BiasAccess,
    /// Whether sums are integers, which wrap: nothing is scaled or added to them.
    pub whole: bool,
}

impl ProductTile {
    /// Columns of the workgroup's tile.
    pub fn tile_columns(&self) -> u32 {
        self.lanes * self.columns
    }

    /// Whether scales or zero points are bound.
    pub fn has_grid(&self) -> bool {
        self.left.iter().chain(&self.right).any(PackedWeights::has_grid)
    }

    fn bindings(&self) -> &'static [Binding] {
        if self.has_grid() { GRID_BINDINGS } else { BINDINGS }
    }

    /// The kernel's text.
    pub fn shader(&self) -> Shader {
        let target = Some(Target { buffer: "y", wide: false });
        Shader { name: "product", source: Cow::Owned(self.text()), bindings: self.bindings(), target }
    }

    fn text(&self) -> String {
        // A word of packed integers holds as many columns as are read at once.
        let right = if self.wide && self.right.is_none() { "vec4<Right>" } else { "Right" };
        let entry = if self.wide && self.right.is_some() { "vec4<f32>" } else { "f32" };
        let (grid, y) = match self.has_grid() {
            true => (format!("@group(0) @binding(4) var<storage, read> grid: array<{entry}>;\n"), 5),
            false => (String::new(), 4),
        };
        let mut text = format!(
            "{}{}@group(0) @binding(0) var<storage, read> a: array<Left>;\n\
             @group(0) @binding(1) var<storage, read> b: array<{right}>;\n\
             @group(0) @binding(2) var<storage, read> bias: array<Bias>;\n\
             @group(0) @binding(3) var<storage, read> starts: array<vec4<u32>>;\n\
             {grid}@group(0) @binding({y}) var<storage, read_write> y: array<Out>;\n\
             @group(0) @binding({}) var<uniform> params: Params;\n",
            include_str!("../../../shaders/lib/index.wgsl"),
            include_str!("../../../shaders/lib/product.wgsl"),
            y + 1
        );
        self.emit(&mut text).expect("writing to a string cannot fail");
        text
    }

    /// Columns of one accumulator vector.
    fn width(&self) -> u32 {
        self.columns.min(4)
    }

    fn vectors(&self) -> u32 {
        self.columns / self.width()
    }

    fn vector_type(&self) -> &'static str {
        match self.width() {
            1 => "Sum",
            2 => "vec2<Sum>",
            _ => "vec4<Sum>",
        }
    }

    fn emit(&self, text: &mut String) -> std::fmt::Result {
        let Self { lanes, rows, columns, .. } = *self;
        let lane = if self.broadcast { "subgroup_invocation_id" } else { "local_invocation_index" };
        let tile = self.tile_columns();
        writeln!(
            text,
            "@compute @workgroup_size({lanes})\n\
             fn main(@builtin(workgroup_id) group: vec3<u32>, @builtin(num_workgroups) groups: vec3<u32>, @builtin({lane}) lane: u32) {{\n\
             let tile = group.y * groups.x + group.x;\n\
             let column_tiles = (params.columns + {}u) / {tile}u;\n\
             let row_tile = quotient(tile, column_tiles);\n\
             let first_row = row_tile * {rows}u;\n\
             if first_row >= params.rows {{ return; }}\n\
             let last_row = params.rows - 1u;\n\
             let start = starts[group.z];\n\
             let first_column = (tile - row_tile * column_tiles) * {tile}u + lane * {columns}u;\n\
             var pixel = pixel_at(min(first_column, params.columns - 1u));",
            tile - 1
        )?;
        self.emit_columns(text)?;
        for row in 0..rows {
            for vector in 0..self.vectors() {
                writeln!(text, "var s{row}_{vector} = {}();", self.vector_type())?;
            }
        }
        self.emit_left_rows(text)?;
        if self.right.is_some_and(|r| r.has_grid() && !r.blocked) {
            self.emit_right_grid(text, "0u")?;
        }
        writeln!(text, "var tap = vec3<u32>();\nfor (var t = 0u; t < params.taps; t++) {{")?;
        self.emit_tap(text)?;
        self.emit_channels(text)?;
        // The next tap: x runs fastest.
        writeln!(
            text,
            "tap.x += 1u;\n\
             let x_ends = tap.x == params.kernel.x;\n\
             tap = select(tap, vec3<u32>(0u, tap.y + 1u, tap.z), x_ends);\n\
             let y_ends = tap.y == params.kernel.y;\n\
             tap = select(tap, vec3<u32>(0u, 0u, tap.z + 1u), y_ends);\n}}"
        )?;
        self.emit_stores(text)?;
        writeln!(text, "}}")
    }

    /// The lane's columns: corner of the window, start of the image, place in the output.
    fn emit_columns(&self, text: &mut String) -> std::fmt::Result {
        for column in 0..self.columns {
            if column > 0 {
                writeln!(text, "pixel = pixel_after(pixel, first_column + {column}u < params.columns);")?;
            }
            writeln!(text, "let out{column} = start.z + output_offset(pixel);")?;
            if !self.wide || column % 4 == 0 {
                writeln!(
                    text,
                    "let corner{column} = corner_of(pixel);\n\
                     let image{column} = start.y + pixel.image * params.b_image;"
                )?;
            }
        }
        Ok(())
    }

    /// Where the rows of a start, clamped to the last one: one row a lane, or all of them in every lane.
    fn emit_left_rows(&self, text: &mut String) -> std::fmt::Result {
        for load in 0..self.left_loads() {
            let row = if self.broadcast { format!("{}u + lane", load * self.lanes) } else { format!("{load}u") };
            writeln!(text, "let row{load} = start.x + min(first_row + {row}, last_row) * params.a_row;")?;
            if let Some(left) = self.left.filter(PackedWeights::has_grid) {
                writeln!(text, "let unit{load} = start.w + min(first_row + {row}, last_row);")?;
                text.push_str(&left.grid("Sum", &format!("_left{load}"), &format!("unit{load}"), "params.grid.z"));
            }
        }
        Ok(())
    }

    fn left_loads(&self) -> u32 {
        if self.broadcast { self.rows.div_ceil(self.lanes) } else { self.rows }
    }

    /// Where the columns of b start for the current tap. Outside the input they point at its start and count as zero.
    fn emit_tap(&self, text: &mut String) -> std::fmt::Result {
        writeln!(text, "var left = dot(tap, params.a_tap.xyz);\nlet moved = tap * params.dilation.xyz;")?;
        if self.wide {
            let read = self.read_columns();
            for column in (0..self.columns).step_by(read as usize) {
                let offset = format!("image{column} + input_offset(corner{column} + moved)");
                writeln!(text, "var at{column} = ({offset}) >> {}u;", read.ilog2())?;
            }
            return writeln!(text, "let step = params.b_channel >> {}u;", read.ilog2());
        }
        for column in 0..self.columns {
            writeln!(text, "let window{column} = corner{column} + moved;")?;
            if self.padded {
                writeln!(
                    text,
                    "let inside{column} = is_inside(window{column});\n\
                     var at{column} = image{column} + select(0u, input_offset(window{column}), inside{column});"
                )?;
            } else {
                writeln!(text, "var at{column} = image{column} + input_offset(window{column});")?;
            }
        }
        writeln!(text, "let step = params.b_channel;")
    }

    /// Columns of b in one read.
    fn read_columns(&self) -> u32 {
        self.right.map_or(4, |r| 32 / r.packing.bits)
    }

    /// Scales and zero points of the lane's columns, from entry `row` of the grid on.
    fn emit_right_grid(&self, text: &mut String, row: &str) -> std::fmt::Result {
        let Some(right) = self.right else { return Ok(()) };
        for vector in 0..self.vectors() {
            let first = vector * self.width();
            if self.wide {
                writeln!(
                    text,
                    "let unit_right{vector} = ({row} + min(first_column + {first}u, params.columns - 4u)) >> 2u;"
                )?;
                let (place, at) = (format!("_right{vector}"), format!("unit_right{vector}"));
                text.push_str(&right.grid("vec4<Sum>", &place, &at, "(params.grid.z >> 2u)"));
                continue;
            }
            for column in first..first + self.width() {
                writeln!(
                    text,
                    "let unit_column{column} = {row} + min(first_column + {column}u, params.columns - 1u);"
                )?;
                let (place, at) = (format!("_column{column}"), format!("unit_column{column}"));
                text.push_str(&right.grid("Sum", &place, &at, "params.grid.z"));
            }
        }
        Ok(())
    }

    /// The loop over channels, block by block where scales differ between blocks.
    fn emit_channels(&self, text: &mut String) -> std::fmt::Result {
        if self.right.is_none_or(|r| !r.blocked) {
            writeln!(text, "for (var k = 0u; k < params.channels; k++) {{")?;
            return self.emit_term(text);
        }
        writeln!(
            text,
            "var grid_row = 0u;\n\
             for (var first = 0u; first < params.channels; first += params.grid.x) {{\n\
             let end = min(first + params.grid.x, params.channels);"
        )?;
        self.emit_right_grid(text, "grid_row")?;
        writeln!(text, "grid_row += params.grid.y;\nfor (var k = first; k < end; k++) {{")?;
        self.emit_term(text)?;
        writeln!(text, "}}")
    }

    /// Column `c` of b, a scalar.
    fn right_value(&self, c: u32) -> String {
        let value = match self.right {
            Some(right) => {
                let code = right.packing.element("b", &format!("at{c}"));
                right.restored(&code, "Sum", &format!("_column{c}"))
            }
            None => format!("Sum(b[at{c}])"),
        };
        if self.padded { format!("select(Sum(0), {value}, inside{c})") } else { value }
    }

    /// The lane's columns of b, one vector after the other.
    fn emit_right(&self, text: &mut String) -> std::fmt::Result {
        for vector in 0..self.vectors() {
            let first = vector * self.width();
            let read = self.read_columns();
            match self.right {
                Some(right) if self.wide => {
                    if first.is_multiple_of(read) {
                        writeln!(text, "let codes{first} = b[at{first}];\nat{first} += step;")?;
                    }
                    let word = format!("codes{}", first / read * read);
                    let codes = right.four(&word, first % read * right.packing.bits);
                    let restored = right.restored(&codes, "vec4<Sum>", &format!("_right{vector}"));
                    writeln!(text, "let b{vector} = {restored};")?;
                }
                None if self.wide => {
                    writeln!(text, "let b{vector} = vec4<Sum>(b[at{first}]);\nat{first} += step;")?;
                }
                _ => {
                    let values: Vec<String> = (first..first + self.width()).map(|c| self.right_value(c)).collect();
                    writeln!(text, "let b{vector} = {}({});", self.vector_type(), values.join(", "))?;
                    for column in first..first + self.width() {
                        writeln!(text, "at{column} += step;")?;
                    }
                }
            }
        }
        Ok(())
    }

    /// The rest of the innermost loop: one term of every sum.
    fn emit_term(&self, text: &mut String) -> std::fmt::Result {
        for load in 0..self.left_loads() {
            match self.left {
                Some(packed) => {
                    let code = packed.packing.element("a", &format!("place{load}"));
                    let value = packed.restored(&code, "Sum", &format!("_left{load}"));
                    writeln!(text, "let place{load} = row{load} + left;\nlet a{load} = {value};")?;
                }
                None => writeln!(text, "let a{load} = Sum(a[row{load} + left]);")?,
            }
        }
        self.emit_right(text)?;
        for row in 0..self.rows {
            if self.broadcast {
                let (load, lane) = (row / self.lanes, row % self.lanes);
                writeln!(text, "let x{row} = {}(subgroupBroadcast(a{load}, {lane}u));", self.vector_type())?;
            } else {
                writeln!(text, "let x{row} = {}(a{row});", self.vector_type())?;
            }
            for vector in 0..self.vectors() {
                let sum = if self.whole {
                    format!("x{row} * b{vector} + s{row}_{vector}")
                } else {
                    format!("fma(x{row}, b{vector}, s{row}_{vector})")
                };
                writeln!(text, "s{row}_{vector} = {sum};")?;
            }
        }
        writeln!(text, "left += params.a_channel;\n}}")
    }

    /// Stores in a loop over blocks of rows: unrolled, they would take longer to compile than all arithmetic.
    fn emit_stores(&self, text: &mut String) -> std::fmt::Result {
        if self.bias == BiasAccess::Column {
            for column in 0..self.columns {
                writeln!(
                    text,
                    "let c{column} = params.beta * f32(bias[min(first_column + {column}u, params.columns - 1u) * params.bias_column]);"
                )?;
            }
        }
        let blocks = self.rows.div_ceil(BLOCK_ROWS);
        writeln!(
            text,
            "for (var block = 0u; block < {blocks}u; block++) {{\n\
             let block_row = first_row + block * {BLOCK_ROWS}u;\n\
             let odd = (block & 1u) == 1u;\n\
             let upper = block >= 2u;"
        )?;
        for row in 0..self.rows.min(BLOCK_ROWS) {
            writeln!(
                text,
                "if block_row + {row}u < params.rows {{\n\
                 let row = block_row + {row}u;\n\
                 let line = row * params.y_row;\n\
                 let channel = start.w + row * params.channel_row;"
            )?;
            if self.bias == BiasAccess::Channel {
                writeln!(text, "let c = params.beta * f32(bias[start.w + row]);")?;
            }
            for vector in 0..self.vectors() {
                writeln!(text, "let v{vector} = {};", picked(row, vector, blocks))?;
            }
            for column in 0..self.columns {
                self.emit_store(text, column)?;
            }
            writeln!(text, "}}")?;
        }
        writeln!(text, "}}")
    }

    fn emit_store(&self, text: &mut String, column: u32) -> std::fmt::Result {
        let vector = column / self.width();
        let component = if self.width() == 1 { "" } else { [".x", ".y", ".z", ".w"][(column % self.width()) as usize] };
        if self.whole {
            return writeln!(
                text,
                "if first_column + {column}u < params.columns {{ \
                 store(v{vector}{component}, out{column} + line, channel + (first_column + {column}u) * params.channel_column); }}"
            );
        }
        let bias = match self.bias {
            BiasAccess::None => String::new(),
            BiasAccess::Channel => " + c".to_owned(),
            BiasAccess::Column => format!(" + c{column}"),
            BiasAccess::Element => format!(
                " + params.beta * f32(bias[row * params.bias_row + (first_column + {column}u) * params.bias_column])"
            ),
        };
        writeln!(
            text,
            "if first_column + {column}u < params.columns {{ \
             store(v{vector}{component} * params.alpha{bias}, out{column} + line, \
             channel + (first_column + {column}u) * params.channel_column); }}"
        )
    }
}

/// The sum of a row of the current block, chosen among those of `blocks` blocks.
pub(super) fn picked(row: u32, vector: u32, blocks: u32) -> String {
    let sum = |block: u32| format!("s{}_{vector}", row + block * BLOCK_ROWS);
    match blocks {
        1 => sum(0),
        2 => format!("select({}, {}, odd)", sum(0), sum(1)),
        _ => {
            format!("select(select({}, {}, odd), select({}, {}, odd), upper)", sum(0), sum(1), sum(2), sum(3))
        }
    }
}

#[cfg(test)]
mod tests;
