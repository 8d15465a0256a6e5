//! Kernels for whole attention on software adapters whose subgroups broadcast: a subgroup owns four queries a lane.
//!
//! Scores are sums over rows of vectors of both sides, so keys need not be transposed: lanes hold queries and broadcast keys. They
//! are stored as they come, each lane keeping the greatest of its own queries; then lanes hold columns of the values and broadcast
//! exponentials of the scores that they stored themselves, so that nothing is shared and no barrier needed.

use std::borrow::Cow;
use std::fmt::Write as _;

use super::patch_tile::COMPONENTS;
use super::product::picked;
use crate::engine::ir::{Binding, Shader, Target};

/// q, k, v, mask, scores, y, params.
const BINDINGS: &[Binding] = &[
    Binding::Read,
    Binding::Read,
    Binding::Read,
    Binding::Read,
    Binding::ReadWrite,
    Binding::ReadWrite,
    Binding::Uniform,
];
/// Queries of a lane.
const OWN: u32 = 4;
/// Keys or rows stored in one turn of a loop.
const BLOCK: u32 = 8;

/// How scores are masked.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Masking {
    /// They are not.
    None,
    /// By what is added.
    Added,
    /// Where the mask is 0.
    Zero,
    /// Where the mask is not 0.
    Set,
}

/// One kernel.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct AttentionTile {
    /// Lanes of the subgroup that is the workgroup.
    pub lanes: u32,
    /// Keys met at a time: 8, 16 or 32, a multiple of the lanes.
    pub keys: u32,
    /// Vectors of four columns of the values that each lane owns.
    pub vectors: u32,
    /// How scores are masked.
    pub masking: Masking,
    /// Whether each query has a row of the mask, of whole vectors of four keys; else all have the same one, of any stride.
    pub by_query: bool,
}

impl AttentionTile {
    /// Queries of a workgroup.
    pub fn queries(&self) -> u32 {
        OWN * self.lanes
    }

    /// Multiply-adds of vectors in one turn of the longer one of the innermost loops.
    pub fn statements(&self) -> u32 {
        (4 * self.keys).max(4 * self.rows() * self.vectors)
    }

    /// Queries whose results are summed at a time.
    fn rows(&self) -> u32 {
        self.queries() / 2
    }

    /// The kernel's text.
    pub fn shader(&self) -> Shader {
        let target = Some(Target { buffer: "y", wide: true });
        Shader { name: "attention", source: Cow::Owned(self.text()), bindings: BINDINGS, target }
    }

    fn text(&self) -> String {
        let mask = if self.by_query { "vec4<Mask>" } else { "Mask" };
        let mut text = format!(
            "{}{}@group(0) @binding(0) var<storage, read> q: array<vec4<f32>>;\n\
             @group(0) @binding(1) var<storage, read> k: array<vec4<f32>>;\n\
             @group(0) @binding(2) var<storage, read> v: array<vec4<f32>>;\n\
             @group(0) @binding(3) var<storage, read> mask: array<{mask}>;\n\
             @group(0) @binding(4) var<storage, read_write> scores: array<vec4<f32>>;\n\
             @group(0) @binding(5) var<storage, read_write> y: array<vec4<Out>>;\n\
             @group(0) @binding(6) var<uniform> params: Params;\n\
             const LOWEST = -0x1.fffffep127f;\n",
            include_str!("../../../shaders/lib/index.wgsl"),
            include_str!("../../../shaders/lib/attention.wgsl"),
        );
        self.emit(&mut text).expect("writing to a string cannot fail");
        text
    }

    fn emit(&self, text: &mut String) -> std::fmt::Result {
        let (lanes, queries, keys) = (self.lanes, self.queries(), self.keys);
        writeln!(
            text,
            "@compute @workgroup_size({lanes})\n\
             fn main(@builtin(workgroup_id) group: vec3<u32>, @builtin(num_workgroups) groups: vec3<u32>, @builtin(subgroup_invocation_id) lane: u32) {{\n\
             let at = group.y * groups.x + group.x;\n\
             let blocks = (params.queries + {}u) / {queries}u;\n\
             let pair = quotient(at, blocks);\n\
             let entry = quotient(pair, params.heads);\n\
             if entry >= params.batch {{ return; }}\n\
             let head = pair - entry * params.heads;\n\
             let owner = quotient(head, params.sharing);\n\
             let first_query = (at - pair * blocks) * {queries}u;\n\
             let last_query = params.queries - 1u;\n\
             let last_key = params.keys - 1u;\n\
             let terms = params.depth >> 2u;\n\
             let score_row = (params.keys + {}u) / {keys}u * {}u;\n\
             let score_first = at * {queries}u * score_row;\n\
             let q_first = params.q_step.w + entry * params.q_step.x + head * params.q_step.y;\n\
             let k_first = params.k_step.w + entry * params.k_step.x + owner * params.k_step.y;\n\
             let v_first = params.v_step.w + entry * params.v_step.x + owner * params.v_step.y;\n\
             let y_first = params.y_step.w + entry * params.y_step.x + head * params.y_step.y;\n\
             let mask_first = params.mask_first + entry * params.mask_step.x + head * params.mask_step.y;",
            queries - 1,
            keys - 1,
            keys / 4
        )?;
        for own in 0..OWN {
            let row = own * lanes;
            writeln!(
                text,
                "let query{own} = min(first_query + {row}u + lane, last_query);\n\
                 let q{own} = (q_first + query{own} * params.q_step.z) >> 2u;\n\
                 let e{own} = score_first + ({row}u + lane) * score_row;\n\
                 var best{own} = LOWEST;"
            )?;
            if self.by_query && self.masking != Masking::None {
                writeln!(text, "let m{own} = (mask_first + query{own} * params.mask_step.z) >> 2u;")?;
            }
        }
        self.emit_scores(text)?;
        self.emit_values(text)?;
        writeln!(text, "}}")
    }

    /// The loop over keys that stores scores.
    fn emit_scores(&self, text: &mut String) -> std::fmt::Result {
        let (lanes, keys) = (self.lanes, self.keys);
        writeln!(text, "for (var first_key = 0u; first_key < params.keys; first_key += {keys}u) {{")?;
        for load in 0..keys / lanes {
            writeln!(
                text,
                "let key{load} = min(first_key + {}u + lane, last_key);\n\
                 let k{load} = (k_first + key{load} * params.k_step.z) >> 2u;",
                load * lanes
            )?;
        }
        for key in 0..keys {
            writeln!(text, "var s{key}_0 = vec4<f32>();")?;
        }
        writeln!(text, "for (var t = 0u; t < terms; t++) {{")?;
        for own in 0..OWN {
            writeln!(text, "let a{own} = q[q{own} + t];")?;
        }
        for load in 0..keys / lanes {
            writeln!(text, "let b{load} = k[k{load} + t];")?;
        }
        for component in COMPONENTS {
            let own: Vec<String> = (0..OWN).map(|own| format!("a{own}.{component}")).collect();
            writeln!(text, "let x{component} = vec4<f32>({});", own.join(", "))?;
            for key in 0..keys {
                let (load, lane) = (key / lanes, key % lanes);
                writeln!(
                    text,
                    "s{key}_0 = fma(vec4<f32>(subgroupBroadcast(b{load}.{component}, {lane}u)), x{component}, s{key}_0);"
                )?;
            }
        }
        writeln!(text, "}}")?;
        self.emit_masked(text)?;
        writeln!(text, "}}")
    }

    /// Scales, masks and stores scores, four keys of a query at a time, in a loop over blocks of keys: unrolled, stores would take
    /// longer to compile than all arithmetic.
    fn emit_masked(&self, text: &mut String) -> std::fmt::Result {
        let blocks = self.keys / BLOCK;
        writeln!(
            text,
            "for (var block = 0u; block < {blocks}u; block++) {{\n\
             let odd = (block & 1u) == 1u;\n\
             let upper = block >= 2u;\n\
             let block_key = first_key + block * {BLOCK}u;\n\
             let place = block_key >> 2u;"
        )?;
        for key in 0..BLOCK {
            writeln!(text, "let p{key} = {};", picked(key, 0, blocks))?;
        }
        let (for_all, at_once) = (self.masking != Masking::None && !self.by_query, self.lanes.min(BLOCK));
        for load in (0..BLOCK / at_once).filter(|_| for_all) {
            writeln!(
                text,
                "let m{load} = mask[mask_first + min(block_key + {}u + lane % {at_once}u, last_key) * params.mask_step.w];",
                load * at_once
            )?;
        }
        for four in 0..BLOCK / 4 {
            writeln!(
                text,
                "let behind{four} = vec4<u32>(block_key) + vec4<u32>({0}u, {0}u + 1u, {0}u + 2u, {0}u + 3u) > vec4<u32>(last_key);",
                4 * four
            )?;
            if for_all {
                let of = |key: u32| format!("subgroupBroadcast(m{}, {}u)", key / at_once, key % at_once);
                let masks: Vec<String> = (4 * four..4 * four + 4).map(of).collect();
                writeln!(text, "let masks{four} = vec4<Mask>({});", masks.join(", "))?;
            }
            for own in 0..OWN {
                self.emit_score(text, four, own)?;
            }
        }
        writeln!(text, "}}")
    }

    /// Stores the scores of a lane's query `own` and the keys of vector `four` of a block.
    fn emit_score(&self, text: &mut String, four: u32, own: u32) -> std::fmt::Result {
        let component = COMPONENTS[own as usize];
        let values: Vec<String> = (4 * four..4 * four + 4).map(|key| format!("p{key}.{component}")).collect();
        let masks = match self.by_query {
            // Rows are whole vectors here.
            true => format!("mask[m{own} + min(place + {four}u, last_key >> 2u)]"),
            false => format!("masks{four}"),
        };
        let value = format!("vec4<f32>({}) * params.scale", values.join(", "));
        let masked = match self.masking {
            Masking::None => value,
            Masking::Added => format!("{value} + vec4<f32>({masks})"),
            Masking::Zero => format!("select(vec4<f32>(LOWEST), {value}, {masks} != vec4<Mask>())"),
            Masking::Set => format!("select({value}, vec4<f32>(LOWEST), {masks} != vec4<Mask>())"),
        };
        let name = format!("r{four}_{own}");
        writeln!(
            text,
            "let {name} = select({masked}, vec4<f32>(LOWEST), behind{four});\n\
             best{own} = max(best{own}, max(max({name}.x, {name}.y), max({name}.z, {name}.w)));\n\
             scores[e{own} + place + {four}u] = {name};"
        )
    }

    /// The sums of values, for half of the queries at a time.
    fn emit_values(&self, text: &mut String) -> std::fmt::Result {
        let (lanes, rows, vectors) = (self.lanes, self.rows(), self.vectors);
        writeln!(
            text,
            "let last_column = (params.width >> 2u) - 1u;\n\
             let fours = (params.keys + 3u) >> 2u;\n\
             for (var half = 0u; half < 2u; half++) {{\n\
             let first_row = first_query + half * {rows}u;\n\
             if first_row > last_query {{ break; }}\n\
             let best_0 = select(best0, best2, half == 1u);\n\
             let best_1 = select(best1, best3, half == 1u);\n\
             let e_0 = select(e0, e2, half == 1u);\n\
             let e_1 = select(e1, e3, half == 1u);\n\
             for (var first_column = 0u; first_column <= last_column; first_column += {}u) {{",
            lanes * vectors
        )?;
        for vector in 0..vectors {
            writeln!(text, "let column{vector} = min(first_column + {}u + lane, last_column);", vector * lanes)?;
        }
        for row in 0..rows {
            for vector in 0..vectors {
                writeln!(text, "var s{row}_{vector} = vec4<f32>();")?;
            }
        }
        writeln!(
            text,
            "var total_0 = vec4<f32>();\nvar total_1 = vec4<f32>();\nfor (var t = 0u; t < fours; t++) {{\n\
             let behind = vec4<u32>(4u * t) + vec4<u32>(0u, 1u, 2u, 3u) > vec4<u32>(last_key);"
        )?;
        for own in 0..2 {
            let hidden = match self.masking {
                Masking::Zero | Masking::Set => format!("behind | (score{own} <= vec4<f32>(LOWEST))"),
                _ => "behind".to_owned(),
            };
            writeln!(
                text,
                "let score{own} = scores[e_{own} + t];\n\
                 let w{own} = select(exp(score{own} - best_{own}), vec4<f32>(), {hidden});\n\
                 total_{own} += w{own};"
            )?;
        }
        for key in 0..4 {
            writeln!(text, "let line{key} = (v_first + min(4u * t + {key}u, last_key) * params.v_step.z) >> 2u;")?;
            for vector in 0..vectors {
                writeln!(text, "let b{key}_{vector} = v[line{key} + column{vector}];")?;
            }
        }
        for (key, component) in COMPONENTS.iter().enumerate() {
            for row in 0..rows {
                let (own, lane) = (row / lanes, row % lanes);
                writeln!(text, "let f{key}_{row} = vec4<f32>(subgroupBroadcast(w{own}.{component}, {lane}u));")?;
                for vector in 0..vectors {
                    writeln!(text, "s{row}_{vector} = fma(f{key}_{row}, b{key}_{vector}, s{row}_{vector});")?;
                }
            }
        }
        writeln!(text, "}}")?;
        self.emit_stores(text)?;
        writeln!(text, "}}\n}}")
    }

    /// Stores in a loop over blocks of rows: unrolled, they would take longer to compile than all arithmetic.
    fn emit_stores(&self, text: &mut String) -> std::fmt::Result {
        let blocks = self.rows().div_ceil(BLOCK);
        for own in 0..2 {
            writeln!(
                text,
                "let sum_{own} = dot(total_{own}, vec4<f32>(1.0));\n\
                 let part_{own} = select(0.0, 1.0 / sum_{own}, sum_{own} > 0.0);"
            )?;
        }
        for row in 0..self.rows() {
            let (own, lane) = (row / self.lanes, row % self.lanes);
            writeln!(text, "let part{row} = subgroupBroadcast(part_{own}, {lane}u);")?;
        }
        writeln!(
            text,
            "for (var block = 0u; block < {blocks}u; block++) {{\n\
             let block_row = first_row + block * {BLOCK}u;\n\
             let odd = (block & 1u) == 1u;\n\
             let upper = block >= 2u;"
        )?;
        for row in 0..self.rows().min(BLOCK) {
            let part = |block: u32| format!("part{}", row + block * BLOCK);
            let part = match blocks {
                1 => part(0),
                2 => format!("select({}, {}, odd)", part(0), part(1)),
                _ => format!(
                    "select(select({}, {}, odd), select({}, {}, odd), upper)",
                    part(0),
                    part(1),
                    part(2),
                    part(3)
                ),
            };
            writeln!(
                text,
                "if block_row + {row}u <= last_query {{\n\
                 let line = y_first + (block_row + {row}u) * params.y_step.z;\n\
                 let part = {part};"
            )?;
            for vector in 0..self.vectors {
                let first = vector * self.lanes;
                writeln!(
                    text,
                    "if first_column + {first}u + lane <= last_column {{ store4({} * part, line + 4u * column{vector}, 0u); }}",
                    picked(row, vector, blocks)
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
        let maskings = [
            (Masking::None, false, Storage::F32),
            (Masking::Added, false, Storage::F32),
            (Masking::Added, true, Storage::F32),
            (Masking::Zero, false, Storage::U32),
            (Masking::Set, true, Storage::U32),
        ];
        for (masking, by_query, storage) in maskings {
            for (lanes, keys, vectors) in [(4, 16, 1), (8, 32, 1), (8, 32, 2), (8, 16, 3), (16, 32, 1)] {
                let tile = AttentionTile { lanes, keys, vectors, masking, by_query };
                let defines = [Define::Scalar("Mask", storage)];
                let made = checked::validated(&tile, &tile.shader(), &defines, Storage::F32);
                checked::binds_what_is_declared(&tile, &tile.shader(), &made.0);
                checked::translates(&tile, &made);
            }
        }
    }

    #[test]
    fn the_smallest_tile_reads_as_written() {
        let tile = AttentionTile { lanes: 4, keys: 8, vectors: 1, masking: Masking::Added, by_query: false };
        let text = tile.text();
        insta::assert_snapshot!(text[text.find("@compute").expect("an entry point")..]);
    }
}
