//! Kernels for matrix products and convolutions on software adapters, as text made for a tile size.
//!
//! On a CPU that emulates a GPU, loads from storage cost far more than arithmetic and barriers cost more than loads. So a
//! workgroup is one subgroup and shares nothing but registers: each lane owns some columns, lane *l* loads row *l* of the
//! left operand, and `subgroupBroadcast` hands that element to all lanes. The tile is as large as compile time permits.

use std::borrow::Cow;
use std::fmt::Write as _;

use crate::engine::ir::{Binding, Shader};

/// Bindings of every product kernel: a, b, bias, starts, y, params.
const BINDINGS: &[Binding] =
    &[Binding::Read, Binding::Read, Binding::Read, Binding::Read, Binding::ReadWrite, Binding::Uniform];

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
    /// Whether b is read four columns at a time: they lie side by side, at multiples of four elements.
    pub wide: bool,
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

    /// The kernel's text.
    pub fn shader(&self) -> Shader {
        Shader { name: "product", source: Cow::Owned(self.text()), bindings: BINDINGS, target: Some("y") }
    }

    fn text(&self) -> String {
        let right = if self.wide { "vec4<Right>" } else { "Right" };
        let mut text = format!(
            "{}{}@group(0) @binding(0) var<storage, read> a: array<Left>;\n\
             @group(0) @binding(1) var<storage, read> b: array<{right}>;\n\
             @group(0) @binding(2) var<storage, read> bias: array<Bias>;\n\
             @group(0) @binding(3) var<storage, read> starts: array<vec4<u32>>;\n\
             @group(0) @binding(4) var<storage, read_write> y: array<Out>;\n\
             @group(0) @binding(5) var<uniform> params: Params;\n",
            include_str!("../../../shaders/lib/index.wgsl"),
            include_str!("../../../shaders/lib/product.wgsl")
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
            for vector in 0..self.vectors() {
                let column = vector * 4;
                writeln!(text, "var at{column} = (image{column} + input_offset(corner{column} + moved)) >> 2u;")?;
            }
            return writeln!(text, "let step = params.b_channel >> 2u;");
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

    /// The loop over channels: one term of every sum.
    fn emit_channels(&self, text: &mut String) -> std::fmt::Result {
        writeln!(text, "for (var k = 0u; k < params.channels; k++) {{")?;
        for load in 0..self.left_loads() {
            writeln!(text, "let a{load} = Sum(a[row{load} + left]);")?;
        }
        for vector in 0..self.vectors() {
            let first = vector * self.width();
            if self.wide {
                writeln!(text, "let b{vector} = vec4<Sum>(b[at{first}]);\nat{first} += step;")?;
                continue;
            }
            let loads: Vec<String> = (first..first + self.width())
                .map(|c| match self.padded {
                    true => format!("select(Sum(0), Sum(b[at{c}]), inside{c})"),
                    false => format!("Sum(b[at{c}])"),
                })
                .collect();
            writeln!(text, "let b{vector} = {}({});", self.vector_type(), loads.join(", "))?;
            for column in first..first + self.width() {
                writeln!(text, "at{column} += step;")?;
            }
        }
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
fn picked(row: u32, vector: u32, blocks: u32) -> String {
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
