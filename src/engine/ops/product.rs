//! What convolutions and matrix products share on the device: one strided product, and the choice of its kernel.

use super::product_blocks::Way;
use super::product_tiles::{self, Extents};
use super::span;
use super::words::word;
use crate::engine::ir::{
    BufferId, CHANNELS_VARY, Class, Define, Family, Operand, OperandGrid, Planes, Profile, Recorder, Storage, Work,
    linear_groups,
};
use crate::engine::kernels::{BiasAccess, PackedWeights, ProductTile};
use crate::error::{Error, Result};

/// `shaders/lib/product.wgsl` states the problem.
pub(super) use crate::engine::kernels::product_sum::Params;

/// Multiply-adds from which a larger tile repays the time that its kernel takes to compile.
const LARGE_WORK: u64 = 2_000_000;

/// Multiply-adds up to which starting a kernel costs more than running it: a few tiles serve all such products.
const TINY_WORK: u64 = 16_384;

/// Tiles below which some of an adapter's cores would idle.
const FEW_TILES: usize = 4;

/// Where one batch entry starts: elements of a, b and y, and the channel of its first row.
pub(super) type Start = [u32; 4];

/// An array that is read.
#[derive(Clone, Copy, Debug)]
pub(super) struct Source {
    pub(super) buffer: BufferId,
    pub(super) storage: Storage,
    pub(super) grid: Option<OperandGrid>,
    /// How its images lie, where they are not dense; kernels over rows of vectors read them so.
    pub(super) planes: Option<Planes>,
    /// What each channel of an image is multiplied by first, if it is: kernels over rows of vectors do so.
    pub(super) scale: Option<BufferId>,
}

impl From<&Operand> for Source {
    fn from(operand: &Operand) -> Self {
        Self {
            buffer: operand.buffer,
            storage: operand.storage,
            grid: operand.grid,
            planes: operand.planes,
            scale: None,
        }
    }
}

impl Source {
    /// Whether its scales differ along the terms.
    pub(super) fn is_blocked(&self) -> bool {
        self.grid.is_some_and(|g| g.block.is_some())
    }

    /// How its numbers are restored, where it is packed.
    pub(super) fn packed(&self) -> Option<PackedWeights> {
        let Storage::Packed(packing) = self.storage else { return None };
        let (has_scales, has_zeros) = self.grid.map_or((false, false), |g| (g.has_scales, g.zeros.is_some()));
        Some(PackedWeights { packing, has_scales, has_zeros, blocked: self.is_blocked() })
    }
}

/// One product over a batch, written to output 0 of the node that is recorded.
#[derive(Debug)]
pub(super) struct Product {
    pub(super) a: Source,
    pub(super) b: Source,
    pub(super) bias: Option<(Source, BiasAccess)>,
    pub(super) params: Params,
    pub(super) starts: Vec<Start>,
    /// Whether windows reach outside the input.
    pub(super) padded: bool,
}

impl Product {
    /// The same, of images that lie in planes, as of an array that lies anywhere; `None` where their rows do not follow each other
    /// without gaps.
    fn of_flat(&self) -> Result<Option<Self>> {
        let (mut params, Some(planes)) = (self.params, self.b.planes) else { return Ok(None) };
        let channel = self.params.b_channel;
        if planes.border > 0 || planes.row != params.input[0] as usize || channel == 0 {
            return Ok(None);
        }
        let first = word(planes.first)?;
        (params.b_image, params.b_channel) = (word(planes.image)?, word(planes.plane)?);
        let start = |s: &Start| [s[0], first + s[1] / channel * params.b_channel, s[2], s[3]];
        let starts = self.starts.iter().map(start).collect();
        Ok(Some(Self { a: self.a, b: Source { planes: None, ..self.b }, params, starts, ..*self }))
    }

    /// Adds its dispatches.
    pub(super) fn record(&self, recorder: &mut Recorder<'_>) -> Result<()> {
        let access = self.bias.map_or(BiasAccess::None, |(_, access)| access);
        let y = recorder.output(0).buffer;
        let max_groups = recorder.profile.max_workgroups;
        let sum = match recorder.output(0).storage.class() {
            Class::F32 => Storage::F32,
            Class::I32 => Storage::I32,
            Class::U32 => Storage::U32,
            Class::I64 => Storage::I64,
            Class::U64 => Storage::U64,
            Class::F64 => Storage::F64,
        };
        // Scales and biases are 32-bit floats: other sums are stored as they are.
        let whole = sum != Storage::F32;
        let grid = self.a.grid.or(self.b.grid);
        if whole && (self.bias.is_some() || grid.is_some_and(|g| g.has_scales)) {
            return Err(Error::unimplemented("a bias or scales on sums that are no 32-bit floats"));
        }
        if recorder.profile.family == Family::Software && span::record(self, recorder)? {
            return Ok(());
        }
        if let Some(flat) = self.of_flat()? {
            return flat.record(recorder);
        }
        let mut params = self.params;
        if let Some(grid) = grid {
            let block = grid.block.map_or(Ok(u32::MAX), word)?;
            params.grid = [block, word(grid.channels)?, word(grid.zeros.unwrap_or(0))?, 0];
        }
        let (bias, defines) = (self.bias_source(), self.defines(sum));
        if recorder.profile.family == Family::Gpu {
            return match self.chosen_way(recorder, access, sum)? {
                Way::Vector(vector) => vector.record(self, recorder),
                Way::Panels(tile) => self.record_panels(recorder, &tile, &defines),
                Way::Blocks { tile, parts } => self.record_blocks(recorder, &tile, parts, &params, &defines),
            };
        }
        let tile = self.chosen_tile(recorder, access, whole);
        let shader = tile.shader();
        let tiles = params.rows.div_ceil(tile.rows) as usize * params.columns.div_ceil(tile.tile_columns()) as usize;
        let [x_groups, y_groups, _] = linear_groups(tiles, 1, max_groups);
        for starts in self.starts.chunks(max_groups as usize) {
            let table = recorder.table(starts.as_flattened());
            let mut buffers = vec![self.a.buffer, self.b.buffer, bias.buffer, table];
            buffers.extend(tile.has_grid().then_some(grid.map_or(self.b.buffer, |g| g.buffer)));
            buffers.push(y);
            recorder.dispatch(&Work {
                shader: &shader,
                defines: &defines,
                buffers: &buffers,
                params: params.words(),
                groups: [x_groups, y_groups, word(starts.len())?],
            })?;
        }
        Ok(())
    }

    /// The types that kernels are told.
    pub(super) fn defines(&self, sum: Storage) -> [Define; 5] {
        [
            Define::Const(CHANNELS_VARY, self.params.channel_column),
            Define::Scalar("Left", self.a.storage),
            Define::Scalar("Right", self.b.storage),
            Define::Scalar("Bias", self.bias_source().storage),
            Define::Scalar("Sum", sum),
        ]
    }

    /// What is bound as bias: where none is read, a side that is not packed.
    pub(super) fn bias_source(&self) -> Source {
        let plain = if self.a.packed().is_some() { self.b } else { self.a };
        self.bias.map_or(plain, |(bias, _)| bias)
    }

    /// The tile that is chosen for this product.
    fn chosen_tile(&self, recorder: &mut Recorder<'_>, bias: BiasAccess, whole: bool) -> ProductTile {
        let default = self.tile(recorder.profile, bias, whole);
        let work = self.work();
        if work <= TINY_WORK {
            return default;
        }
        let Params { rows, columns, .. } = self.params;
        let most_rows = if work >= LARGE_WORK && default.broadcast { 32 } else { 16 };
        let read = self.b.packed().map_or(4, |r| 32 / r.packing.bits);
        let extents = Extents { rows, columns, batch: self.starts.len(), most_rows };
        let tiles = product_tiles::candidates(default, &extents, |columns| columns >= read && self.is_wide(read));
        let names: Vec<String> = tiles.iter().map(product_tiles::name).collect();
        let (epilogue, lanes) = (recorder.epilogue(), if default.broadcast { default.lanes } else { 0 });
        tiles[recorder.choose(|| self.key(&format!("lanes {lanes}"), bias, whole, &epilogue), &names)]
    }

    /// What decides which kernel is fastest.
    pub(super) fn key(&self, kernels: &str, bias: BiasAccess, whole: bool, epilogue: &str) -> String {
        let p = &self.params;
        format!(
            "product {}x{}x{} batch {} kernel {:?} input {:?} stride {:?} terms {},{} {:?} {:?} {bias:?} sum {} {kernels} epilogue {epilogue}",
            p.rows,
            p.columns,
            p.channels,
            self.starts.len(),
            &p.kernel[..3],
            &p.input[..3],
            &p.stride[..3],
            p.a_channel,
            p.b_channel,
            self.a.storage,
            self.b.storage,
            if whole { "whole" } else { "f32" },
        )
    }

    /// Multiply-adds.
    pub(super) fn work(&self) -> u64 {
        let Params { rows, columns, channels, taps, .. } = self.params;
        self.starts.len() as u64 * u64::from(rows) * u64::from(columns) * u64::from(channels * taps)
    }

    fn tile(&self, profile: &Profile, bias: BiasAccess, whole: bool) -> ProductTile {
        let Params { rows, columns, .. } = self.params;
        let broadcast = profile.subgroup.is_some();
        let lanes = profile.subgroup.unwrap_or(8);
        let work = self.work();
        let most_rows = match (broadcast, work >= LARGE_WORK) {
            (false, _) => 8,
            (true, false) => 16,
            (true, true) => 32,
        };
        let mut tile_rows = rows.next_power_of_two().min(most_rows);
        let mut tile_columns = columns.div_ceil(lanes).next_power_of_two().min(8);
        if work <= TINY_WORK {
            tile_rows = if rows <= 4 { 4 } else { 8 };
            tile_columns = if columns <= lanes { 1 } else { 4 };
        }
        let tiles = |tile_rows| rows.div_ceil(tile_rows) * columns.div_ceil(tile_columns * lanes);
        while tile_rows > 8 && (tiles(tile_rows) as usize).saturating_mul(self.starts.len()) < FEW_TILES {
            tile_rows /= 2;
        }
        let (left, right) = (self.a.packed(), self.b.packed());
        let read = right.map_or(4, |r| 32 / r.packing.bits);
        ProductTile {
            lanes,
            broadcast,
            rows: tile_rows,
            columns: tile_columns,
            wide: tile_columns >= read && self.is_wide(read),
            left,
            right,
            padded: self.padded,
            bias,
            whole,
        }
    }

    /// Whether four columns side by side lie so in y, too, at multiples of four elements, and make up all columns.
    pub(super) fn stores_fours(&self) -> bool {
        let p = &self.params;
        let fours = |values: &[u32]| values.iter().all(|v| v.is_multiple_of(4));
        let flat = p.y_step[1] == p.output[0] && p.y_step[2] == p.output[0] * p.output[1];
        let lines = fours(&[p.output[0], p.y_step[1], p.y_step[2]]) || (flat && p.output[3].is_multiple_of(4));
        p.y_step[0] == 1
            && lines
            && fours(&[p.columns, p.y_row, p.y_step[3]])
            && self.starts.iter().all(|s| s[2].is_multiple_of(4))
    }

    /// Whether every group of `count` columns lies side by side in b, at a multiple of `count` elements.
    pub(super) fn is_wide(&self, count: u32) -> bool {
        let p = &self.params;
        let linear = p.taps == 1 && p.input[..3] == p.output[..3] && p.stride[..3] == [1; 3] && p.pad[..3] == [0; 3];
        let strides = [p.output[3], p.columns, p.b_image, p.b_channel];
        linear && strides.iter().all(|s| s % count == 0) && self.starts.iter().all(|s| s[1] % count == 0)
    }
}

/// A product of matrices with any strides: y(m, n) = Σ a(m, k) b(k, n).
#[derive(Clone, Copy, Debug)]
pub(super) struct Matrices {
    /// Rows, columns and terms.
    pub(super) extents: [usize; 3],
    /// Elements of a between rows and between terms.
    pub(super) a_strides: [usize; 2],
    /// Elements of b between terms and between columns.
    pub(super) b_strides: [usize; 2],
}

impl Matrices {
    /// Whether the sides should change places: lanes are laid along columns, so a narrow result is made transposed.
    pub(super) fn is_narrow(&self) -> bool {
        let [rows, columns, _] = self.extents;
        columns < 8 && rows > columns
    }

    /// The parameters; with `transposed`, a and b have changed places and rows are the columns of y.
    pub(super) fn params(&self, transposed: bool) -> Result<Params> {
        let [m, n, k] = self.extents;
        let (rows, columns, [a_row, a_term], [b_term, b_column], y_row, y_column) = match transposed {
            false => (m, n, self.a_strides, self.b_strides, n, 1),
            true => (n, m, [self.b_strides[1], self.b_strides[0]], [self.a_strides[1], self.a_strides[0]], 1, n),
        };
        let columns = word(columns)?;
        Ok(Params {
            rows: word(rows)?,
            columns,
            channels: word(k)?,
            taps: 1,
            a_row: word(a_row)?,
            a_channel: word(a_term)?,
            b_image: 0,
            b_channel: word(b_term)?,
            kernel: [1, 1, 1, 0],
            // One row of as many elements as the columns span.
            input: [columns.saturating_mul(word(b_column)?), 1, 1, 0],
            stride: [word(b_column)?, 1, 1, 0],
            dilation: [1, 1, 1, 0],
            output: [columns, 1, 1, columns],
            y_step: [word(y_column)?, 0, 0, 0],
            y_row: word(y_row)?,
            channel_row: u32::from(transposed),
            channel_column: u32::from(!transposed),
            alpha: 1.0,
            beta: 1.0,
            ..Params::default()
        })
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::super::registry::{OpSpec, build};
    use super::*;
    use crate::engine::ir::{Attributes, Buffer, Chain, Choices, Class, Dispatch, Fact, Scene};
    use crate::tensor::{DType, Shape};

    /// What operator `name` of these inputs records for `profile`.
    fn recorded(name: &str, inputs: &[&[usize]], profile: &Profile) -> Vec<Dispatch> {
        let attributes = Attributes::new();
        let spec = OpSpec { domain: "", name, opset: 13, attributes: &attributes, inputs: inputs.len(), outputs: 1 };
        let op = build(&spec).expect("registered");
        let facts: Vec<Fact> = inputs.iter().map(|shape| Fact::of_shape(DType::F32, shape)).collect();
        let facts: Vec<_> = facts.iter().map(Some).collect();
        let output = op.infer(&facts).expect("shapes fit").remove(0).shape().expect("fixed");
        let (mut buffers, mut dispatches) = (Vec::new(), Vec::new());
        let mut operand = |shape: &[usize]| {
            buffers.push(Buffer::Scratch { bytes: 4, pool: 0 });
            let buffer = BufferId(buffers.len() - 1);
            Operand {
                buffer,
                storage: Storage::F32,
                dtype: DType::F32,
                shape: Shape::from(shape),
                grid: None,
                planes: None,
            }
        };
        let inputs = inputs.iter().map(|shape| Some(operand(shape))).collect();
        let outputs = vec![operand(&output)];
        let chain = Chain::identity(Class::F32);
        let (choices, mut problems) = (Choices::new(), Vec::new());
        let mut recorder = Recorder::new(Scene {
            profile,
            label: Arc::from(name),
            facts: &facts,
            inputs,
            outputs,
            chain: &chain,
            chain_buffers: Vec::new(),
            out: Storage::F32,
            room: None,
            buffers: &mut buffers,
            dispatches: &mut dispatches,
            choices: &choices,
            problems: &mut problems,
            library: &crate::engine::kernels::function,
        });
        op.record(&mut recorder).expect("it has a kernel");
        dispatches
    }

    fn profile(family: Family, subgroup: Option<u32>) -> Profile {
        Profile { subgroup, ..Profile::plain(family) }
    }

    #[test]
    fn each_family_gets_its_own_kernels() {
        let cases: [(&str, &[&[usize]]); 4] = [
            ("MatMul", &[&[70, 40], &[40, 90]]),
            ("Gemm", &[&[1, 40], &[40, 90]]),
            ("Conv", &[&[2, 8, 9, 9], &[40, 8, 3, 3]]),
            ("ConvTranspose", &[&[2, 8, 9, 9], &[8, 4, 3, 3]]),
        ];
        for (name, inputs) in cases {
            let texts = |profile: &Profile| -> Vec<String> {
                recorded(name, inputs, profile).iter().map(|d| d.kernel.source.to_string()).collect()
            };
            let software = texts(&profile(Family::Software, Some(8)));
            assert!(
                software.iter().all(|t| t.contains("subgroupBroadcast") && !t.contains("workgroupBarrier")),
                "{name}"
            );
            let plain = texts(&profile(Family::Software, None));
            assert!(plain.iter().all(|t| !t.contains("subgroup") && !t.contains("workgroupBarrier")), "{name}");
            let gpu = texts(&profile(Family::Gpu, Some(32)));
            assert!(gpu.iter().all(|t| t.contains("workgroupBarrier") && !t.contains("subgroup")), "{name}");
        }
    }

    #[test]
    fn texts_hold_no_shapes() {
        let kernel = |n: usize| {
            let dispatch = recorded("Conv", &[&[n, 8, n, n], &[64, 8, 3, 3]], &profile(Family::Software, Some(8)));
            dispatch[0].kernel.clone()
        };
        assert_eq!(kernel(40), kernel(52));
    }

    #[test]
    fn long_batches_are_cut_to_the_grid() {
        let mut small = profile(Family::Software, Some(8));
        small.max_workgroups = 4;
        let dispatches = recorded("MatMul", &[&[9, 3, 5], &[9, 5, 2]], &small);
        let batches: Vec<u32> = dispatches.iter().map(|d| d.groups[2]).collect();
        assert_eq!(batches, [4, 4, 1]);
    }
}
