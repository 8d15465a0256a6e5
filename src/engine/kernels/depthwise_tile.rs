//! Depthwise convolutions by patches, for software adapters: what a patch reads of a row is whole vectors of four, each inside
//! the row or outside, and every tap takes its columns from registers.

use std::borrow::Cow;
use std::fmt::Write as _;

use crate::engine::ir::{Binding, Shader, Target};

/// x, weights, bias, y, params.
const BINDINGS: &[Binding] = &[Binding::Read, Binding::Read, Binding::Read, Binding::ReadWrite, Binding::Uniform];
const COMPONENTS: [&str; 4] = ["x", "y", "z", "w"];

/// One kernel.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct DepthwiseTile {
    /// Invocations of a workgroup, a patch each.
    pub lanes: u32,
    /// Rows of a patch.
    pub rows: u32,
    /// Vectors of four columns of a patch.
    pub vectors: u32,
    /// Taps along y and x.
    pub kernel: [u32; 2],
    /// Input rows and columns between neighbouring outputs.
    pub stride: [u32; 2],
    /// Columns before the first one of x.
    pub pad_x: u32,
    /// Whether there is a bias.
    pub bias: bool,
    /// Whether results are stored in fours: rows of the output start at multiples of four.
    pub fours: bool,
}

impl DepthwiseTile {
    /// Multiply-adds of vectors, and so how long the text is.
    pub fn statements(&self) -> u32 {
        self.rows * self.vectors * self.taps()
    }

    /// Vectors read and stored by a patch.
    pub fn accesses(&self) -> u32 {
        self.span_y() * self.span_x() + self.rows * self.vectors + self.taps().div_ceil(4)
    }

    fn taps(&self) -> u32 {
        self.kernel[0] * self.kernel[1]
    }

    fn span_y(&self) -> u32 {
        (self.rows - 1) * self.stride[0] + self.kernel[0]
    }

    /// Vectors of a row before the patch's own first one.
    fn before(&self) -> u32 {
        self.pad_x.div_ceil(4)
    }

    /// The component of a row's vectors that tap `k` of column `column` reads.
    fn place(&self, column: u32, k: u32) -> u32 {
        column * self.stride[1] + k + 4 * self.before() - self.pad_x
    }

    /// Vectors of a row that a patch reads.
    fn span_x(&self) -> u32 {
        self.place(4 * self.vectors - 1, self.kernel[1] - 1) / 4 + 1
    }

    /// The kernel's text.
    pub fn shader(&self) -> Shader {
        let target = Some(Target { buffer: "y", wide: true });
        Shader { name: "depthwise", source: Cow::Owned(self.text()), bindings: BINDINGS, target }
    }

    fn text(&self) -> String {
        let mut text = format!(
            "{}{}@group(0) @binding(0) var<storage, read> x: array<vec4<f32>>;\n\
             @group(0) @binding(1) var<storage, read> weights: array<vec4<f32>>;\n\
             @group(0) @binding(2) var<storage, read> bias: array<Bias>;\n\
             @group(0) @binding(3) var<storage, read_write> y: array<vec4<Out>>;\n\
             @group(0) @binding(4) var<uniform> params: Params;\n",
            include_str!("../../../shaders/lib/index.wgsl"),
            include_str!("../../../shaders/lib/depthwise.wgsl"),
        );
        self.emit(&mut text).expect("writing to a string cannot fail");
        text
    }

    fn emit(&self, text: &mut String) -> std::fmt::Result {
        let Self { lanes, rows, vectors, stride, .. } = *self;
        writeln!(
            text,
            "@compute @workgroup_size({lanes})\n\
             fn main(@builtin(workgroup_id) group: vec3<u32>, @builtin(num_workgroups) groups: vec3<u32>, @builtin(local_invocation_index) local: u32) {{\n\
             let patch_index = linear_index(group, groups, local, {lanes}u);\n\
             if patch_index >= params.patches {{ return; }}\n\
             let line = quotient(patch_index, params.patches_x);\n\
             let plane = quotient(line, params.patches_y);\n\
             let place = patch_index - line * params.patches_x;\n\
             let first_row = (line - plane * params.patches_y) * {rows}u;\n\
             let channel = plane - quotient(plane, params.channels) * params.channels;\n\
             let source = quotient(plane, params.multiplier) * params.input_y;\n\
             let left = place * {}u - {}u;\n\
             let top = first_row * {}u - params.pad_y;\n\
             let zero = vec4<f32>();",
            vectors * stride[1],
            self.before(),
            stride[0],
        )?;
        let tap_vectors = self.taps().div_ceil(4);
        for vector in 0..tap_vectors {
            writeln!(text, "let t{vector} = weights[channel * {tap_vectors}u + {vector}u];")?;
        }
        let first = if self.bias { "vec4<f32>(f32(bias[channel]))" } else { "zero" };
        for row in 0..rows {
            for vector in 0..vectors {
                writeln!(text, "var s{row}_{vector} = {first};")?;
            }
        }
        for q in 0..self.span_x() {
            writeln!(text, "let in{q} = left + {q}u < params.input_x;\nlet at{q} = select(0u, left + {q}u, in{q});")?;
        }
        for row in 0..self.span_y() {
            self.emit_row(text, row)?;
        }
        for row in 0..rows {
            self.emit_store(text, row)?;
        }
        writeln!(text, "}}")
    }

    /// Row `r` of what the patch reads, and what it adds to each row of the patch.
    fn emit_row(&self, text: &mut String, r: u32) -> std::fmt::Result {
        writeln!(
            text,
            "let row{r} = top + {r}u < params.input_y;\n\
             let start{r} = (source + select(0u, top + {r}u, row{r})) * params.input_x;"
        )?;
        for q in 0..self.span_x() {
            writeln!(text, "let x{r}_{q} = select(zero, x[start{r} + at{q}], row{r} && in{q});")?;
        }
        for row in 0..self.rows {
            let Some(tap) = r.checked_sub(row * self.stride[0]).filter(|tap| *tap < self.kernel[0]) else { continue };
            for vector in 0..self.vectors {
                for k in 0..self.kernel[1] {
                    let i = tap * self.kernel[1] + k;
                    let element = |column: u32| {
                        let at = self.place(column, k);
                        format!("x{r}_{}.{}", at / 4, COMPONENTS[at as usize % 4])
                    };
                    let columns: Vec<String> = (4 * vector..4 * vector + 4).map(element).collect();
                    let weight = format!("t{}.{}", i / 4, COMPONENTS[i as usize % 4]);
                    writeln!(
                        text,
                        "s{row}_{vector} = fma(vec4<f32>({weight}), vec4<f32>({}), s{row}_{vector});",
                        columns.join(", ")
                    )?;
                }
            }
        }
        Ok(())
    }

    fn emit_store(&self, text: &mut String, row: u32) -> std::fmt::Result {
        writeln!(
            text,
            "if first_row + {row}u < params.output_y {{\n\
             let line_at = (plane * params.output_y + first_row + {row}u) * params.output_x;"
        )?;
        for vector in 0..self.vectors {
            writeln!(
                text,
                "let column{vector} = place * {}u + {}u;\nif column{vector} < params.output_x {{",
                4 * self.vectors,
                4 * vector
            )?;
            if self.fours {
                writeln!(text, "store4(s{row}_{vector}, line_at + column{vector}, channel);")?;
            } else {
                writeln!(
                    text,
                    "for (var i = 0u; i < min(4u, params.output_x - column{vector}); i++) {{ store(s{row}_{vector}[i], line_at + column{vector} + i, channel); }}"
                )?;
            }
            writeln!(text, "}}")?;
        }
        writeln!(text, "}}")
    }
}
