//! Depthwise convolutions and maxima over windows by patches, for software adapters: what a patch reads of a row is whole vectors
//! of four, each inside the row or outside, and every tap takes its columns from registers.
//!
//! A patch is made row by row: each row of the input is read once, and added to all rows of the output that it belongs to.

use std::borrow::Cow;
use std::fmt::Write as _;

use super::patch_rows;
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

/// How results are stored.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Stored {
    /// In fours: rows of the output start at multiples of four.
    Fours,
    /// In fours as they fill up: rows of so many elements follow each other without gaps, and patches span them.
    Tight(u32),
    /// One by one.
    Each,
}

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
    /// Vectors of four columns of a patch.
    pub vectors: u32,
    /// Vectors of a row of x, where a patch spans whole rows: nothing lies beside it then.
    pub whole: Option<u32>,
    /// Taps along y and x.
    pub kernel: [u32; 2],
    /// Input rows and columns between neighbouring outputs.
    pub stride: [u32; 2],
    /// Columns before the first one of x.
    pub pad_x: u32,
    /// What is made of them.
    pub of: Taps,
    /// How results are stored.
    pub stored: Stored,
    /// Whether the last vector of a row of x holds elements behind the row.
    pub cut: bool,
    /// Elements of a row of x, where rows follow each other without gaps and so begin anywhere; patches span them.
    pub tight: Option<u32>,
}

impl PatchTile {
    /// Multiply-adds of vectors, and so how long the text is.
    pub fn statements(&self) -> u32 {
        self.vectors * self.kernel[0] * self.kernel[1]
    }

    /// Vectors read and stored by a patch of so many rows.
    pub fn accesses(&self, rows: u32) -> u32 {
        let in_place = (0..self.span_x()).filter(|q| self.reads(*q)).count() as u32;
        let read = self.tight.map_or(in_place, patch_rows::vectors);
        (rows + self.open() - 1) * self.rows_read() * read + rows * self.vectors + self.tap_vectors()
    }

    /// Rows of the output that a row of the input belongs to.
    fn open(&self) -> u32 {
        self.kernel[0].div_ceil(self.stride[0])
    }

    /// Rows of the input read for each of the output: steps longer than windows leave some out.
    fn rows_read(&self) -> u32 {
        self.stride[0].min(self.kernel[0])
    }

    /// Vectors of weights.
    fn tap_vectors(&self) -> u32 {
        if self.of == Taps::Largest { 0 } else { (self.kernel[0] * self.kernel[1]).div_ceil(4) }
    }

    /// Vectors of a row before the patch's own first one.
    fn before(&self) -> u32 {
        self.pad_x.div_ceil(4)
    }

    /// The component of a row's vectors that tap `k` of column `column` reads.
    fn place(&self, column: u32, k: u32) -> u32 {
        column * self.stride[1] + k + 4 * self.before() - self.pad_x
    }

    /// Vectors of a row that a patch spans.
    fn span_x(&self) -> u32 {
        self.place(4 * self.vectors - 1, self.kernel[1] - 1) / 4 + 1
    }

    /// Whether vector `q` of the span may lie inside the row.
    fn reads(&self, q: u32) -> bool {
        self.whole.is_none_or(|row| (self.before()..self.before() + row).contains(&q))
    }

    /// Whether vector `q` of the span may be the row's last one, some elements of which lie behind it.
    fn is_cut(&self, q: u32) -> bool {
        self.cut && self.whole.is_none_or(|row| q + 1 == self.before() + row)
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
        let Self { lanes, vectors, stride, .. } = *self;
        writeln!(
            text,
            "@compute @workgroup_size({lanes})\n\
             fn main(@builtin(workgroup_id) group: vec3<u32>, @builtin(num_workgroups) groups: vec3<u32>, @builtin(local_invocation_index) local: u32) {{\n\
             let patch_index = linear_index(group, groups, local, {lanes}u);\n\
             if patch_index >= params.patches {{ return; }}\n\
             let line = quotient(patch_index, params.patches_x);\n\
             let plane = quotient(line, params.patches_y);\n\
             let place = patch_index - line * params.patches_x;\n\
             let first_row = (line - plane * params.patches_y) * params.rows;\n\
             let image = quotient(plane, params.channels);\n\
             let channel = plane - image * params.channels;\n\
             let source = params.x_first + image * params.x_image + quotient(channel, params.multiplier) * params.x_plane;\n\
             let drain = params.y_first + image * params.y_image + channel * params.y_plane;\n\
             let left = place * {}u - {}u;\n\
             let zero = vec4<f32>();",
            vectors * stride[1],
            self.before(),
        )?;
        let tap_vectors = self.tap_vectors();
        for vector in 0..tap_vectors {
            writeln!(text, "let t{vector} = weights[channel * {tap_vectors}u + {vector}u];")?;
        }
        let first = match self.of {
            Taps::Weighted { bias: true } => "vec4<f32>(f32(bias[channel]))",
            Taps::Weighted { bias: false } => "zero",
            Taps::Largest => "ordered(vec4<u32>(params.lowest))",
        };
        writeln!(text, "let first = {first};")?;
        for open in 0..self.open() {
            for vector in 0..vectors {
                writeln!(text, "var s{open}_{vector} = first;")?;
            }
        }
        for q in (0..self.span_x()).filter(|q| self.reads(*q)) {
            match self.whole {
                Some(_) => writeln!(text, "let at{q} = {}u;", q - self.before())?,
                None => writeln!(
                    text,
                    "let in{q} = left + {q}u < params.input_x;\nlet at{q} = select(0u, left + {q}u, in{q});"
                )?,
            }
            if self.is_cut(q) {
                writeln!(
                    text,
                    "let kept{q} = vec4<u32>(at{q} * 4u) + vec4<u32>(0u, 1u, 2u, 3u) < vec4<u32>(params.width);"
                )?;
            }
        }
        if matches!(self.stored, Stored::Tight(_)) {
            writeln!(text, "var held = zero;")?;
        }
        let last = self.open() - 1;
        writeln!(
            text,
            "let turns = params.rows + {last}u;\n\
             for (var turn = 0u; turn < turns; turn++) {{\n\
             let top = (first_row + turn) * {}u - params.pad_y;",
            stride[0]
        )?;
        for row in 0..self.rows_read() {
            self.emit_row(text, row)?;
        }
        self.emit_store(text)?;
        for open in 0..self.open() {
            for vector in 0..vectors {
                let next = if open < last { format!("s{}_{vector}", open + 1) } else { "first".to_owned() };
                writeln!(text, "s{open}_{vector} = {next};")?;
            }
        }
        writeln!(text, "}}\n}}")
    }

    /// Row `r` of those that a turn reads, and what it adds to each open row of the output.
    fn emit_row(&self, text: &mut String, r: u32) -> std::fmt::Result {
        writeln!(
            text,
            "let row{r} = top + {r}u < params.input_y;\n\
             let start{r} = source + select(0u, top + {r}u, row{r}) * params.x_row;"
        )?;
        if let Some(width) = self.tight {
            patch_rows::emit_read(text, r, width)?;
        }
        for q in 0..self.span_x() {
            let held = match self.tight {
                Some(_) => format!("v{r}_{}", q.saturating_sub(self.before())),
                None => format!("x[start{r} + at{q}]"),
            };
            let (outside, inside) = match self.of {
                Taps::Weighted { .. } => ("zero", held),
                Taps::Largest => ("first", format!("ordered(bitcast<vec4<u32>>({held}))")),
            };
            if !self.reads(q) {
                writeln!(text, "let x{r}_{q} = {outside};")?;
                continue;
            }
            let inner = if self.whole.is_some() { format!("row{r}") } else { format!("row{r} && in{q}") };
            let kept = if self.is_cut(q) { format!("vec4<bool>({inner}) & kept{q}") } else { inner };
            writeln!(text, "let x{r}_{q} = select({outside}, {inside}, {kept});")?;
        }
        for open in 0..self.open() {
            let tap = r + (self.open() - 1 - open) * self.stride[0];
            if tap >= self.kernel[0] {
                continue;
            }
            for vector in 0..self.vectors {
                for k in 0..self.kernel[1] {
                    let i = tap * self.kernel[1] + k;
                    let element = |column: u32| {
                        let at = self.place(column, k);
                        format!("x{r}_{}.{}", at / 4, COMPONENTS[at as usize % 4])
                    };
                    let columns: Vec<String> = (4 * vector..4 * vector + 4).map(element).collect();
                    if self.of == Taps::Largest {
                        writeln!(text, "s{open}_{vector} = max(s{open}_{vector}, vec4<i32>({}));", columns.join(", "))?;
                        continue;
                    }
                    let weight = format!("t{}.{}", i / 4, COMPONENTS[i as usize % 4]);
                    writeln!(
                        text,
                        "s{open}_{vector} = fma(vec4<f32>({weight}), vec4<f32>({}), s{open}_{vector});",
                        columns.join(", ")
                    )?;
                }
            }
        }
        Ok(())
    }

    /// Stores the row of the output that this turn completes.
    fn emit_store(&self, text: &mut String) -> std::fmt::Result {
        let last = self.open() - 1;
        writeln!(
            text,
            "let row = first_row + turn - {last}u;\n\
             if turn >= {last}u && row < params.output_y {{\n\
             let line_at = drain + row * params.y_row;"
        )?;
        let value = if self.of == Taps::Largest { "restored" } else { "" };
        if let Stored::Tight(width) = self.stored {
            for vector in 0..self.vectors {
                writeln!(text, "let o{vector} = {value}(s0_{vector});")?;
            }
            patch_rows::emit_store(text, width)?;
            return writeln!(text, "}}");
        }
        for vector in 0..self.vectors {
            writeln!(
                text,
                "let column{vector} = place * {}u + {}u;\nif column{vector} < params.output_x {{",
                4 * self.vectors,
                4 * vector
            )?;
            if self.stored == Stored::Fours {
                writeln!(text, "store4({value}(s0_{vector}), line_at + column{vector}, channel);")?;
            } else {
                writeln!(
                    text,
                    "for (var i = 0u; i < min(4u, params.output_x - column{vector}); i++) {{ store({value}(s0_{vector})[i], line_at + column{vector} + i, channel); }}"
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

    const THREE: PatchTile = PatchTile {
        lanes: 8,
        vectors: 2,
        whole: None,
        kernel: [3, 3],
        stride: [1, 1],
        pad_x: 1,
        of: Taps::Weighted { bias: false },
        stored: Stored::Fours,
        cut: false,
        tight: None,
    };

    #[test]
    fn every_tile_is_valid_everywhere() {
        for (vectors, whole) in [(1, None), (2, Some(2)), (4, Some(7)), (7, None), (14, Some(14))] {
            for (kernel, stride, pad_x) in
                [([3, 3], [1, 1], 1), ([1, 9], [2, 2], 4), ([5, 5], [2, 2], 2), ([7, 7], [1, 1], 5)]
            {
                for (of, stored) in [
                    (Taps::Weighted { bias: false }, Stored::Fours),
                    (Taps::Weighted { bias: true }, Stored::Each),
                    (Taps::Largest, Stored::Fours),
                    (Taps::Largest, Stored::Tight((4 * vectors - 1).max(4))),
                    (Taps::Weighted { bias: true }, Stored::Tight((4 * vectors - 2).max(4))),
                ] {
                    let cut = (stored == Stored::Fours) != (vectors == 2);
                    let tight = whole.filter(|_| cut).map(|row| 4 * row - vectors % 4);
                    let tile = PatchTile { vectors, whole, kernel, stride, pad_x, of, stored, cut, tight, ..THREE };
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
    fn patches_read_each_row_once() {
        // One vector before the patch's two and one behind, six rows and two weights and a half.
        assert_eq!((THREE.span_x(), THREE.open()), (4, 3));
        assert_eq!(THREE.accesses(4), 6 * 4 + 4 * 2 + 3);
        // Nothing lies beside whole rows.
        assert_eq!(PatchTile { whole: Some(2), ..THREE }.accesses(4), 6 * 2 + 4 * 2 + 3);
        let halved = PatchTile { stride: [2, 2], pad_x: 0, ..THREE };
        assert_eq!((halved.span_x(), halved.open(), halved.accesses(1)), (5, 2, 2 * 2 * 5 + 2 + 3));
        // One row of every two is left out.
        assert_eq!(PatchTile { kernel: [1, 3], ..halved }.accesses(1), 5 + 2 + 1);
    }
}
