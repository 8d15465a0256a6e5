//! Depthwise convolutions and maxima over windows by patches, for software adapters: what a patch reads of a row is whole vectors
//! of four, each inside the row or outside, and every tap takes its columns from registers.

use std::borrow::Cow;
use std::fmt::Write as _;

use crate::engine::ir::{Binding, Shader, Target};

/// x, weights, bias, y, params.
const WEIGHTED: &[Binding] = &[Binding::Read, Binding::Read, Binding::Read, Binding::ReadWrite, Binding::Uniform];
/// x, y, params.
const PLAIN: &[Binding] = &[Binding::Read, Binding::ReadWrite, Binding::Uniform];
/// The components of a vector of four.
pub(super) const COMPONENTS: [&str; 4] = ["x", "y", "z", "w"];

/// Floats as integers of the same order, NaN above all: drivers compare floats as if there were no NaN.
const ORDERED: &str = "\
fn ordered(bits: vec4<u32>) -> vec4<i32> {
    let negative = bitcast<vec4<i32>>(bits ^ vec4<u32>(0x7fffffffu));
    let own = select(bitcast<vec4<i32>>(bits), negative, bitcast<vec4<i32>>(bits) < vec4<i32>(0));
    return select(own, vec4<i32>(0x7fffffff), (bits & vec4<u32>(0x7fffffffu)) > vec4<u32>(0x7f800000u));
}
fn restored(value: vec4<i32>) -> vec4<f32> {
    return bitcast<vec4<f32>>(select(value, value ^ vec4<i32>(0x7fffffff), value < vec4<i32>(0)));
}
";

/// What is made of the taps of a window.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Taps {
    /// Their sum, each times a weight of the channel.
    Weighted {
        /// Whether the channel's bias is added.
        bias: bool,
    },
    /// The largest of those inside; NaN counts as the largest.
    Largest,
}

/// One kernel.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct PatchTile {
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
    /// What is made of them.
    pub of: Taps,
    /// Whether results are stored in fours: rows of the output start at multiples of four.
    pub fours: bool,
    /// Whether the last vector of a row of x holds elements behind the row.
    pub cut: bool,
}

impl PatchTile {
    /// Multiply-adds of vectors, and so how long the text is.
    pub fn statements(&self) -> u32 {
        self.rows * self.vectors * self.taps()
    }

    /// Vectors read and stored by a patch.
    pub fn accesses(&self) -> u32 {
        self.span_y() * self.span_x() + self.rows * self.vectors + self.tap_vectors()
    }

    fn taps(&self) -> u32 {
        self.kernel[0] * self.kernel[1]
    }

    /// Vectors of weights.
    fn tap_vectors(&self) -> u32 {
        if self.of == Taps::Largest { 0 } else { self.taps().div_ceil(4) }
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
        let bindings = if self.of == Taps::Largest { PLAIN } else { WEIGHTED };
        Shader { name: "patches", source: Cow::Owned(self.text()), bindings, target }
    }

    fn text(&self) -> String {
        let (weights, y) = match self.of {
            Taps::Largest => ("", 1),
            Taps::Weighted { .. } => (
                "@group(0) @binding(1) var<storage, read> weights: array<vec4<f32>>;\n\
                 @group(0) @binding(2) var<storage, read> bias: array<Bias>;\n",
                3,
            ),
        };
        let mut text = format!(
            "{}{}@group(0) @binding(0) var<storage, read> x: array<vec4<f32>>;\n\
             {weights}@group(0) @binding({y}) var<storage, read_write> y: array<vec4<Out>>;\n\
             @group(0) @binding({}) var<uniform> params: Params;\n",
            include_str!("../../../shaders/lib/index.wgsl"),
            include_str!("../../../shaders/lib/patches.wgsl"),
            y + 1,
        );
        if self.of == Taps::Largest {
            text.push_str(ORDERED);
        }
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
             let image = quotient(plane, params.channels);\n\
             let channel = plane - image * params.channels;\n\
             let source = params.x_first + image * params.x_image + quotient(channel, params.multiplier) * params.x_plane;\n\
             let drain = params.y_first + image * params.y_image + channel * params.y_plane;\n\
             let left = place * {}u - {}u;\n\
             let top = first_row * {}u - params.pad_y;\n\
             let zero = vec4<f32>();",
            vectors * stride[1],
            self.before(),
            stride[0],
        )?;
        let tap_vectors = self.tap_vectors();
        for vector in 0..tap_vectors {
            writeln!(text, "let t{vector} = weights[channel * {tap_vectors}u + {vector}u];")?;
        }
        let first = match self.of {
            Taps::Weighted { bias: true } => "vec4<f32>(f32(bias[channel]))",
            Taps::Weighted { bias: false } => "zero",
            Taps::Largest => "lowest",
        };
        if self.of == Taps::Largest {
            writeln!(text, "let lowest = ordered(vec4<u32>(params.lowest));")?;
        }
        for row in 0..rows {
            for vector in 0..vectors {
                writeln!(text, "var s{row}_{vector} = {first};")?;
            }
        }
        for q in 0..self.span_x() {
            writeln!(text, "let in{q} = left + {q}u < params.input_x;\nlet at{q} = select(0u, left + {q}u, in{q});")?;
            if self.cut {
                writeln!(
                    text,
                    "let kept{q} = vec4<u32>(at{q} * 4u) + vec4<u32>(0u, 1u, 2u, 3u) < vec4<u32>(params.width);"
                )?;
            }
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
             let start{r} = source + select(0u, top + {r}u, row{r}) * params.x_row;"
        )?;
        for q in 0..self.span_x() {
            let (outside, inside) = match self.of {
                Taps::Weighted { .. } => ("zero", format!("x[start{r} + at{q}]")),
                Taps::Largest => ("lowest", format!("ordered(bitcast<vec4<u32>>(x[start{r} + at{q}]))")),
            };
            let kept =
                if self.cut { format!("vec4<bool>(row{r} && in{q}) & kept{q}") } else { format!("row{r} && in{q}") };
            writeln!(text, "let x{r}_{q} = select({outside}, {inside}, {kept});")?;
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
                    if self.of == Taps::Largest {
                        writeln!(text, "s{row}_{vector} = max(s{row}_{vector}, vec4<i32>({}));", columns.join(", "))?;
                        continue;
                    }
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
             let line_at = drain + (first_row + {row}u) * params.y_row;"
        )?;
        for vector in 0..self.vectors {
            writeln!(
                text,
                "let column{vector} = place * {}u + {}u;\nif column{vector} < params.output_x {{",
                4 * self.vectors,
                4 * vector
            )?;
            let value = if self.of == Taps::Largest { "restored" } else { "" };
            if self.fours {
                writeln!(text, "store4({value}(s{row}_{vector}), line_at + column{vector}, channel);")?;
            } else {
                writeln!(
                    text,
                    "for (var i = 0u; i < min(4u, params.output_x - column{vector}); i++) {{ store({value}(s{row}_{vector})[i], line_at + column{vector} + i, channel); }}"
                )?;
            }
            writeln!(text, "}}")?;
        }
        writeln!(text, "}}")
    }
}

#[cfg(test)]
mod tests {
    use super::super::tests as checked;
    use super::*;
    use crate::engine::ir::{Define, Storage};

    #[test]
    fn every_tile_is_valid_everywhere() {
        for (rows, vectors) in [(1, 1), (2, 4), (4, 2), (8, 2)] {
            for (kernel, stride, pad_x) in
                [([3, 3], [1, 1], 1), ([1, 9], [1, 2], 4), ([5, 5], [2, 2], 2), ([7, 7], [1, 1], 5)]
            {
                for (of, fours) in [
                    (Taps::Weighted { bias: false }, true),
                    (Taps::Weighted { bias: true }, false),
                    (Taps::Largest, true),
                    (Taps::Largest, false),
                ] {
                    let tile = PatchTile {
                        lanes: 8,
                        rows,
                        vectors,
                        kernel,
                        stride,
                        pad_x,
                        of,
                        fours,
                        cut: fours != (rows == 1),
                    };
                    let made = checked::validated(
                        &tile,
                        &tile.shader(),
                        &[Define::Scalar("Bias", Storage::F32)],
                        Storage::F32,
                    );
                    checked::binds_what_is_declared(&tile, &tile.shader(), &made.0);
                    checked::translates(&tile, &made);
                }
            }
        }
    }

    #[test]
    fn patches_read_whole_vectors() {
        let tile = PatchTile {
            lanes: 8,
            rows: 4,
            vectors: 2,
            kernel: [3, 3],
            stride: [1, 1],
            pad_x: 1,
            of: Taps::Weighted { bias: false },
            fours: true,
            cut: false,
        };
        // One vector before the patch's two, and one behind.
        assert_eq!((tile.span_x(), tile.span_y()), (4, 6));
        assert_eq!(PatchTile { stride: [2, 2], pad_x: 0, ..tile }.span_x(), 5);
    }
}
