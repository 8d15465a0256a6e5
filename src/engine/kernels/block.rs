//! Kernels for matrix products and convolutions on GPUs, as text made for a tile.
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

use super::block_fragments::FRAGMENT_DIRECTIVES;
use super::block_tile::{BlockTile, DEPTH, Operand, Reach, Walk};
use super::product::{BINDINGS, GRID_BINDINGS};
use super::tile_order::opening;
use crate::engine::ir::{Binding, Shader, Target};

impl BlockTile {
    fn bindings(&self) -> &'static [Binding] {
        if self.has_grid() { GRID_BINDINGS } else { BINDINGS }
    }

    /// The kernel's text.
    pub fn shader(&self) -> Shader {
        let target = Some(Target { buffer: "y", wide: self.fours });
        Shader { name: "block", source: Cow::Owned(self.text()), bindings: self.bindings(), target }
    }

    fn text(&self) -> String {
        let array = |side: &str, reach| if reach == Reach::Single { side.to_owned() } else { format!("vec4<{side}>") };
        let (grid, y) = match self.has_grid() {
            true => ("@group(0) @binding(4) var<storage, read> grid: array<f32>;\n", 5),
            false => ("", 4),
        };
        let out = if self.fours { "vec4<Out>" } else { "Out" };
        let mut text = format!(
            "{}{}{}alias Carried = {};\n\
             @group(0) @binding(0) var<storage, read> a: array<{}>;\n\
             @group(0) @binding(1) var<storage, read> b: array<{}>;\n\
             @group(0) @binding(2) var<storage, read> bias: array<Bias>;\n\
             @group(0) @binding(3) var<storage, read> starts: array<vec4<u32>>;\n\
             {grid}@group(0) @binding({y}) var<storage, read_write> y: array<{out}>;\n\
             @group(0) @binding({}) var<uniform> params: Params;\n\
             {}",
            if self.fragments.is_some() { FRAGMENT_DIRECTIVES } else { "" },
            include_str!("../../../shaders/lib/index.wgsl"),
            include_str!("../../../shaders/lib/product.wgsl"),
            if self.alike { "Left" } else { "Sum" },
            array("Left", self.left),
            array("Right", self.right),
            y + 1,
            self.workgroup_memory(),
        );
        self.emit(&mut text).expect("writing to a string cannot fail");
        text
    }

    fn workgroup_memory(&self) -> String {
        let (left, right) = (self.held_vectors(Operand::Left), self.held_vectors(Operand::Right));
        match self.fragments {
            Some(fragments) => fragments.workgroup_memory(self),
            None => format!(
                "alias Held = Sum;\nvar<workgroup> left: array<vec4<Held>, {left}>;\nvar<workgroup> right: array<vec4<Held>, {right}>;\n"
            ),
        }
    }

    fn emit(&self, text: &mut String) -> std::fmt::Result {
        let Self { rows, columns, .. } = *self;
        self.emit_restoring(text)?;
        if self.walk == Walk::Windows {
            self.emit_windows(text)?;
        }
        let depth = self.depth();
        let subgroups = match self.fragments {
            Some(_) => ", @builtin(subgroup_id) subgroup: u32, @builtin(subgroup_invocation_id) lane: u32",
            None => "",
        };
        writeln!(
            text,
            "@compute @workgroup_size({})\n\
             fn main(@builtin(workgroup_id) group: vec3<u32>, @builtin(num_workgroups) groups: vec3<u32>, @builtin(local_invocation_index) index: u32{subgroups}) {{\n\
             {}",
            self.invocations(),
            opening([rows, columns])
        )?;
        self.emit_places(text)?;
        match self.fragments {
            Some(fragments) => fragments.emit_start(self, text)?,
            None => self.emit_start(text)?,
        }
        let terms = if self.walk == Walk::Windows { "params.channels * params.taps" } else { "params.channels" };
        let slices = if self.walk == Walk::Taps { " * params.taps" } else { "" };
        writeln!(
            text,
            "let terms = {terms};\nlet slices = (terms + {}u) / {depth}u{slices};\nvar k = 0u;\nvar rest = 0u;",
            depth - 1
        )?;
        match self.walk {
            Walk::Channels => {}
            Walk::Taps => writeln!(text, "var tap = vec3<u32>();")?,
            Walk::Windows => writeln!(text, "if index < {depth}u {{ open_term(index, index); }}\nworkgroupBarrier();")?,
        }
        writeln!(text, "let last_term = terms - 1u;")?;
        self.emit_slice(text)?;
        // A turn hands over a slice and loads the next one (the last one again at the end) while it sums up what it handed over.
        // Loads stand on no branch: they are under way while the sums are made.
        writeln!(text, "for (var slice = 1u; slice <= slices; slice++) {{\nworkgroupBarrier();")?;
        self.emit_hand_over(text)?;
        writeln!(text, "if slice < slices {{\nk += {depth}u;")?;
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
        writeln!(text, "}}")?;
        if self.walk == Walk::Windows {
            writeln!(text, "if index < {depth}u {{ open_term(index, k + index); }}")?;
        }
        writeln!(text, "workgroupBarrier();")?;
        self.emit_slice(text)?;
        match self.fragments {
            Some(fragments) => fragments.emit_sums(self, text)?,
            None => self.emit_sums(text)?,
        }
        writeln!(text, "}}\nworkgroupBarrier();")?;
        match self.fragments {
            Some(fragments) => fragments.emit_stores(self, text)?,
            None => self.emit_stores(text)?,
        }
        writeln!(text, "}}")
    }

    /// Loads the slice from term `k` on.
    fn emit_slice(&self, text: &mut String) -> std::fmt::Result {
        if self.ragged {
            writeln!(text, "rest = terms - k;")?;
        }
        writeln!(text, "{{")?;
        self.emit_loads(text)?;
        writeln!(text, "}}")
    }

    /// Which rows and columns an invocation owns: vectors of four, one from each eighth (or quarter) of the tile. The lanes of
    /// a subgroup make a block as square as can be, which reads least.
    fn emit_start(&self, text: &mut String) -> std::fmt::Result {
        for row in 0..self.side {
            for vector in 0..self.side / 4 {
                writeln!(text, "var s{row}_{vector} = vec4<Sum>();")?;
            }
        }
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

    /// Adds the slice in workgroup memory to the sums, four terms a turn.
    fn emit_sums(&self, text: &mut String) -> std::fmt::Result {
        if !self.unrolled {
            writeln!(text, "for (var four = 0u; four < {}u; four++) {{", DEPTH / 4)?;
            self.emit_four("four", text)?;
            return writeln!(text, "}}");
        }
        for four in 0..DEPTH / 4 {
            writeln!(text, "{{")?;
            self.emit_four(&format!("{four}u"), text)?;
            writeln!(text, "}}")?;
        }
        Ok(())
    }

    fn emit_four(&self, four: &str, text: &mut String) -> std::fmt::Result {
        let [down, across] = self.grid();
        let turn = |operand| if self.is_turned(operand) { format!(" ^ ({four} << 1u)") } else { String::new() };
        for vector in 0..self.side / 4 {
            writeln!(
                text,
                "let left{vector} = {four} * {}u + ((own_row + {}u){});\n\
                 let right{vector} = {four} * {}u + ((own_column + {}u){});",
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
        Ok(())
    }
}

#[cfg(test)]
mod tests;
