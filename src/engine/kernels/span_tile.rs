//! Kernels for matrix products and convolutions over rows of vectors of four, for software adapters whose subgroups broadcast.
//!
//! There an access costs as much as dozens of multiply-adds, whatever its width. So both sides are laid out in rows of vectors:
//! a lane reads a row of weights four terms at a time, and a span of the input that holds what all taps along x of its columns
//! need; the taps are then taken from registers.

use std::borrow::Cow;
use std::fmt::Write as _;

use super::patch_tile::COMPONENTS;
use super::product::{BiasAccess, picked};
use crate::engine::ir::{Binding, Shader, Target};

/// a, x, bias, starts, y, params.
const BINDINGS: &[Binding] =
    &[Binding::Read, Binding::Read, Binding::Read, Binding::Read, Binding::ReadWrite, Binding::Uniform];
/// a, x, bias, starts, scale, y, params.
const SCALED: &[Binding] =
    &[Binding::Read, Binding::Read, Binding::Read, Binding::Read, Binding::Read, Binding::ReadWrite, Binding::Uniform];
/// Rows stored in one turn of the loop at a kernel's end.
const BLOCK_ROWS: u32 = 8;

/// Zeros around the group of columns that begins at element `at`: behind a row's last one, and in the rows above and below. The
/// last elements of a row are those before the next one; before the first row of all lies a vector.
const FRAME: &str = "\
fn frame(at: u32, own: Group, columns: u32) {
    let column = own.place * columns;
    let is_last = own.place + 1u == params.row_groups;
    let end = select(column + columns, params.y_line, is_last);
    if is_last {
        for (var x = params.width; x < end; x++) {
            let i = at + x - column;
            y[i >> 2u][i & 3u] = Out(0);
        }
    }
    for (var k = 1u; k <= params.border; k++) {
        let down = k * (params.y_line >> 2u);
        let first = at >> 2u;
        let behind = first + ((end - column) >> 2u);
        if own.line == 0u {
            let before = select(0u, 1u, own.place == 0u && k == params.border);
            for (var i = first - before; i < behind; i++) {
                y[i - down] = vec4<Out>();
            }
        }
        if own.line + 1u == params.out_y {
            for (var i = first; i < behind; i++) {
                y[i + down] = vec4<Out>();
            }
        }
    }
}
";

/// One kernel.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct SpanTile {
    /// Lanes of the subgroup that is the workgroup.
    pub lanes: u32,
    /// Rows of the tile: a power of two up to 32.
    pub rows: u32,
    /// Vectors of four neighbouring columns that each lane owns.
    pub vectors: u32,
    /// Taps along x, or of those as many as are taken at a time: the others count as lines.
    pub taps: u32,
    /// Taps of the last lines, where they have fewer.
    pub tail: Option<u32>,
    /// Input columns between neighbouring output columns, and between taps.
    pub stride: u32,
    /// See `stride`.
    pub dilation: u32,
    /// With one tap along x channels are read in fours: whether some are left over.
    pub rest: bool,
    /// How the bias is added.
    pub bias: BiasAccess,
    /// Whether results are stored in fours: rows of the output start at multiples of four.
    pub fours: bool,
    /// Elements of a span's first vector before the first one that is read.
    pub lead: u32,
    /// Whether zeros are stored around planes.
    pub framed: bool,
    /// With one tap along x and channels in fours: whether each channel of an image is scaled first.
    pub scaled: bool,
}

impl SpanTile {
    /// Columns of a lane.
    pub fn columns(&self) -> u32 {
        4 * self.vectors
    }

    /// Multiply-adds of vectors in one turn of the innermost loop, and so how long the text is.
    pub fn statements(&self) -> u32 {
        let unrolled = if self.taps == 1 { 4 } else { self.taps };
        self.rows * self.vectors * (unrolled + self.tail.unwrap_or(0))
    }

    /// Vectors that hold the inputs of a lane's columns.
    pub fn span(&self) -> u32 {
        self.span_of(self.taps)
    }

    /// Those that hold what so many taps need.
    fn span_of(&self, taps: u32) -> u32 {
        let columns = (self.columns() - 1).saturating_mul(self.stride);
        let taps = (taps - 1).saturating_mul(self.dilation);
        columns.saturating_add(taps).saturating_add(self.lead + 1).div_ceil(4)
    }

    /// The kernel's text.
    pub fn shader(&self) -> Shader {
        let target = Some(Target { buffer: "y", wide: true });
        Shader {
            name: "span",
            source: Cow::Owned(self.text()),
            bindings: if self.scaled { SCALED } else { BINDINGS },
            target,
        }
    }

    fn text(&self) -> String {
        let (scale, y) = match self.scaled {
            true => ("@group(0) @binding(4) var<storage, read> scale: array<vec4<f32>>;\n", 5),
            false => ("", 4),
        };
        let mut text = format!(
            "{}{}@group(0) @binding(0) var<storage, read> a: array<vec4<Left>>;\n\
             @group(0) @binding(1) var<storage, read> x: array<vec4<Right>>;\n\
             @group(0) @binding(2) var<storage, read> bias: array<Bias>;\n\
             @group(0) @binding(3) var<storage, read> starts: array<vec4<u32>>;\n\
             {scale}@group(0) @binding({y}) var<storage, read_write> y: array<vec4<Out>>;\n\
             @group(0) @binding({}) var<uniform> params: Params;\n",
            include_str!("../../../shaders/lib/index.wgsl"),
            include_str!("../../../shaders/lib/span.wgsl"),
            y + 1,
        );
        if self.framed {
            text.push_str(FRAME);
        }
        self.emit(&mut text).expect("writing to a string cannot fail");
        text
    }

    fn emit(&self, text: &mut String) -> std::fmt::Result {
        let Self { lanes, rows, vectors, .. } = *self;
        writeln!(
            text,
            "@compute @workgroup_size({lanes})\n\
             fn main(@builtin(workgroup_id) group: vec3<u32>, @builtin(num_workgroups) groups: vec3<u32>, @builtin(subgroup_invocation_id) lane: u32) {{\n\
             let tile = group.y * groups.x + group.x;\n\
             let column_tiles = (params.groups + {}u) / {lanes}u;\n\
             let row_block = quotient(tile, column_tiles);\n\
             let first_turn = row_block * params.turns;\n\
             if first_turn * {rows}u >= params.rows {{ return; }}\n\
             let last_row = params.rows - 1u;\n\
             let start = starts[group.z];\n\
             let column_tile = tile - row_block * column_tiles;\n\
             let index = column_tile * {lanes}u + lane;\n\
             let own = group_at(min(index, params.groups - 1u));\n\
             let corner = start.y + own.image * params.x_image + own.slice * params.x_slice + own.line * params.x_row + own.place * {}u + column_tile * params.x_tile;\n\
             for (var turn = first_turn; turn < first_turn + params.turns; turn++) {{\n\
             let first_row = turn * {rows}u;\n\
             if first_row >= params.rows {{ break; }}",
            lanes - 1,
            vectors * self.stride,
        )?;
        for load in 0..self.loads() {
            writeln!(
                text,
                "let row{load} = start.x + min(first_row + {}u + lane, last_row) * params.a_row;",
                load * lanes
            )?;
        }
        for row in 0..rows {
            for vector in 0..vectors {
                writeln!(text, "var s{row}_{vector} = vec4<f32>();")?;
            }
        }
        writeln!(
            text,
            "var tap_y = 0u;\nvar line_at = corner;\nvar plane_at = corner;\n\
             for (var t = 0u; t < params.lines; t++) {{\nvar at = line_at;\nvar left = t * params.a_line;"
        )?;
        match self.tail {
            None if self.taps == 1 => self.emit_fours(text)?,
            None => self.emit_taps(text, self.taps)?,
            Some(tail) => {
                writeln!(text, "if t + params.kernel_y < params.lines {{")?;
                self.emit_taps(text, self.taps)?;
                writeln!(text, "}} else {{")?;
                self.emit_taps(text, tail)?;
                writeln!(text, "}}")?;
            }
        }
        // The next tap: y runs faster than z.
        writeln!(
            text,
            "tap_y += 1u;\nlet ends = tap_y == params.kernel_y;\n\
             plane_at += select(0u, params.x_tap_z, ends);\n\
             line_at = select(line_at + params.x_tap_y, plane_at, ends);\n\
             tap_y = select(tap_y, 0u, ends);\n}}"
        )?;
        self.emit_stores(text)?;
        writeln!(text, "}}\n}}")
    }

    fn loads(&self) -> u32 {
        self.rows.div_ceil(self.lanes)
    }

    /// The loop over channels, four at a time.
    fn emit_fours(&self, text: &mut String) -> std::fmt::Result {
        writeln!(text, "for (var k = 0u; k < (params.channels >> 2u); k++) {{")?;
        self.emit_left(text, 1)?;
        // All reads first: a CPU then waits for them together, where one behind each channel's arithmetic would come too late.
        if self.scaled {
            writeln!(text, "let scales = scale[own.image * (params.channels >> 2u) + k];")?;
        }
        for (channel, component) in COMPONENTS.iter().enumerate() {
            let scale = if self.scaled { format!(" * scales.{component}") } else { String::new() };
            self.emit_span(text, &channel.to_string(), self.span(), &scale)?;
        }
        for (channel, component) in COMPONENTS.iter().enumerate() {
            self.emit_tap(text, 0, &channel.to_string(), &format!("_0.{component}"))?;
        }
        writeln!(text, "left += 1u;\n}}")?;
        if self.rest {
            self.emit_left(text, 1)?;
            writeln!(text, "for (var k = 0u; k < (params.channels & 3u); k++) {{")?;
            self.emit_span(text, "r", self.span(), "")?;
            self.emit_tap(text, 0, "r", "_0[k]")?;
            writeln!(text, "}}")?;
        }
        Ok(())
    }

    /// The loop over channels, `taps` taps along x of one at a time.
    fn emit_taps(&self, text: &mut String, taps: u32) -> std::fmt::Result {
        writeln!(text, "for (var k = 0u; k < params.channels; k++) {{")?;
        self.emit_left(text, taps.div_ceil(4))?;
        self.emit_span(text, "k", self.span_of(taps), "")?;
        for tap in 0..taps {
            self.emit_tap(text, tap, "k", &format!("_{}.{}", tap / 4, COMPONENTS[tap as usize % 4]))?;
        }
        writeln!(text, "left += {}u;\n}}", self.taps.div_ceil(4))
    }

    /// The next `width` vectors of each row of a.
    fn emit_left(&self, text: &mut String, width: u32) -> std::fmt::Result {
        for load in 0..self.loads() {
            for vector in 0..width {
                writeln!(text, "let a{load}_{vector} = vec4<f32>(a[row{load} + left + {vector}u]);")?;
            }
        }
        Ok(())
    }

    /// The span of the current channel, `vectors` long, named by `name`, with `scale` behind it.
    fn emit_span(&self, text: &mut String, name: &str, vectors: u32, scale: &str) -> std::fmt::Result {
        for vector in 0..vectors {
            let at = if vector == 0 { "at".into() } else { format!("min(at + {vector}u, params.x_last)") };
            writeln!(text, "let x{name}_{vector} = vec4<f32>(x[{at}]){scale};")?;
        }
        writeln!(text, "at += params.x_channel;")
    }

    /// One term of every sum: tap `tap` of span `name`, times component `term` of the rows' vectors.
    fn emit_tap(&self, text: &mut String, tap: u32, name: &str, term: &str) -> std::fmt::Result {
        let element = |column: u32| {
            let at = self.lead + column * self.stride + tap * self.dilation;
            format!("x{name}_{}.{}", at / 4, COMPONENTS[at as usize % 4])
        };
        for vector in 0..self.vectors {
            let columns: Vec<String> = (4 * vector..4 * vector + 4).map(element).collect();
            writeln!(text, "let b{name}_{tap}_{vector} = vec4<f32>({});", columns.join(", "))?;
        }
        for row in 0..self.rows {
            let (load, lane) = (row / self.lanes, row % self.lanes);
            writeln!(text, "let w{name}_{tap}_{row} = vec4<f32>(subgroupBroadcast(a{load}{term}, {lane}u));")?;
            for vector in 0..self.vectors {
                writeln!(text, "s{row}_{vector} = fma(w{name}_{tap}_{row}, b{name}_{tap}_{vector}, s{row}_{vector});")?;
            }
        }
        Ok(())
    }

    /// Stores in a loop over blocks of rows: unrolled, they would take longer to compile than all arithmetic.
    fn emit_stores(&self, text: &mut String) -> std::fmt::Result {
        let blocks = self.rows.div_ceil(BLOCK_ROWS);
        writeln!(
            text,
            "if index < params.groups {{\n\
             let first_column = own.place * {}u;\n\
             let base = start.z + own.image * params.y_image + own.slice * params.y_slice + own.line * params.y_line + first_column * params.y_column;",
            self.columns()
        )?;
        if self.bias == BiasAccess::Column {
            for column in 0..self.columns() {
                writeln!(
                    text,
                    "let c{column} = params.beta * f32(bias[min(first_column + {column}u, params.width - 1u) * params.bias_column]);"
                )?;
            }
        }
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
                 let channel = start.w + row * params.channel_row + first_column * CHANNELS_VARY;"
            )?;
            if self.bias == BiasAccess::Channel {
                writeln!(text, "let c = params.beta * f32(bias[start.w + row]);")?;
            }
            for vector in 0..self.vectors {
                self.emit_store(text, vector, &picked(row, vector, blocks))?;
            }
            writeln!(text, "}}")?;
        }
        writeln!(text, "}}")?;
        if self.framed {
            let (rows, columns) = (self.rows, self.columns());
            writeln!(
                text,
                "for (var row = first_row; row < min(first_row + {rows}u, params.rows); row++) {{ frame(base + row * params.y_row, own, {columns}u); }}"
            )?;
        }
        writeln!(text, "}}")
    }

    fn emit_store(&self, text: &mut String, vector: u32, sum: &str) -> std::fmt::Result {
        let first = 4 * vector;
        let each = |value: &dyn Fn(u32) -> String| {
            let values: Vec<String> = (first..first + 4).map(value).collect();
            format!(" + vec4<f32>({})", values.join(", "))
        };
        let bias = match self.bias {
            BiasAccess::None => String::new(),
            BiasAccess::Channel => " + vec4<f32>(c)".to_owned(),
            BiasAccess::Column => each(&|column| format!("c{column}")),
            BiasAccess::Element => each(&|column| {
                format!(
                    "params.beta * f32(bias[row * params.bias_row + min(first_column + {column}u, params.width - 1u) * params.bias_column])"
                )
            }),
        };
        writeln!(
            text,
            "if first_column + {first}u < params.width {{\n\
             let value = {sum} * params.alpha{bias};\n\
             let at = base + row * params.y_row + {first}u * params.y_column;"
        )?;
        if self.fours {
            writeln!(text, "store4(value, at, channel + {first}u * CHANNELS_VARY);")?;
        } else {
            writeln!(
                text,
                "for (var i = 0u; i < min(4u, params.width - first_column - {first}u); i++) {{\n\
                 store(value[i], at + i * params.y_column, channel + ({first}u + i) * CHANNELS_VARY);\n}}"
            )?;
        }
        writeln!(text, "}}")
    }
}

#[cfg(test)]
mod tests;
