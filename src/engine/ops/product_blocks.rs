//! Products on GPUs: the ways of computing one, the cheapest by estimate first, and their dispatches.

use super::product::{Params, Product, Start};
use super::product_cost::{cost, panel_cost};
use super::product_vector::Vector;
use super::words::word;
use crate::engine::ir::{BufferId, Define, Profile, Recorder, Shader, Storage, Work, linear_groups};
use crate::engine::kernels::{BiasAccess, BlockTile, DEPTH, PanelTile, Reach, Walk, product_sum};
use crate::error::{Error, Result};
use crate::tensor::{DType, Shape};

/// Into how many parts terms are cut.
const PARTS: [u32; 4] = [2, 4, 8, 16];
/// Terms below which a part is not worth a pass of its own.
const LEAST_TERMS: u32 = 128;
/// Ways offered for timing.
const WAYS_MAX: usize = 4;

/// One way of computing a product.
#[derive(Clone, Debug)]
pub(super) enum Way {
    /// By tiles.
    Blocks {
        /// The kernel.
        tile: BlockTile,
        /// Into how many parts the terms are cut, to be added up by a second dispatch.
        parts: u32,
    },
    /// By large tiles of 16-bit floats.
    Panels(PanelTile),
    /// By a kernel for few rows.
    Vector(Vector),
}

impl Way {
    /// What it is called in tables of choices.
    fn name(&self) -> String {
        match self {
            Way::Vector(_) => "vector".to_owned(),
            Way::Panels(tile) => format!("{}x{} panels", tile.rows, tile.columns),
            Way::Blocks { tile, parts } => {
                let whole = if *parts == 1 { String::new() } else { format!("/{parts}") };
                let kind = if tile.fragments.is_some() { " fragments" } else { "" };
                format!("{}x{}{whole}{kind}", tile.rows, tile.columns)
            }
        }
    }
}

/// A bias as kernels that are files count them.
pub(super) fn bias_code(access: BiasAccess) -> u32 {
    match access {
        BiasAccess::None => 0,
        BiasAccess::Channel => 1,
        BiasAccess::Column | BiasAccess::Element => 2,
    }
}

impl Product {
    /// Ways of computing this product with sums of type `sum`, the one that should be fastest first.
    fn ways(&self, profile: &Profile, access: BiasAccess, sum: Storage) -> Vec<Way> {
        let vector = Vector::of(self, access, sum).map(Way::Vector);
        let panel = self.panel(profile, access, sum).map(|tile| (panel_cost(self, &tile), Way::Panels(tile)));
        let blocks = self.blocks(profile, access, sum).into_iter();
        // Panels are always worth timing.
        let most = WAYS_MAX - usize::from(panel.is_some());
        let blocks = blocks.map(|(cost, tile, parts)| (cost, Way::Blocks { tile, parts })).take(most);
        let mut ways: Vec<(f64, Way)> = panel.into_iter().chain(blocks).collect();
        ways.sort_by(|(cost, _), (other, _)| cost.total_cmp(other));
        vector.into_iter().chain(ways.into_iter().map(|(_, way)| way)).take(WAYS_MAX).collect()
    }

    /// Tiles, and into how many parts they cut the terms, by about how long they take in multiply-adds of one core.
    fn blocks(&self, profile: &Profile, access: BiasAccess, sum: Storage) -> Vec<(f64, BlockTile, u32)> {
        let plain = BlockTile { unrolled: profile.unrolls, ..self.plain_tile(access, sum) };
        let sum_bytes = if sum.class().is_wide() { 8 } else { 4 };
        let halves = [self.a.storage, self.b.storage] == [Storage::F16; 2] && sum == Storage::F32;
        let fragments = profile.fragments.filter(|_| halves);
        let sizes: Vec<_> = match fragments {
            Some(_) => BlockTile::FRAGMENT_SIZES.iter().map(|(rows, columns)| (*rows, *columns, 8)).collect(),
            None => BlockTile::SIZES.to_vec(),
        };
        let mut blocks = Vec::new();
        for (rows, columns, side) in sizes {
            let tile = BlockTile { rows, columns, side, fragments, ..plain };
            let fits = tile.invocations() <= profile.max_invocations
                && tile.workgroup_bytes(sum_bytes) <= profile.max_workgroup_bytes;
            let cuts = PARTS.into_iter().filter(|parts| self.can_cut(*parts, sum));
            let parts = std::iter::once(1).chain(cuts).filter(|_| fits);
            let tile = |parts| BlockTile { ragged: self.is_ragged(&tile, parts), ..tile };
            blocks.extend(parts.map(|parts| (cost(self, &tile(parts), parts), tile(parts), parts)));
        }
        blocks.sort_by(|(cost, ..), (other, ..)| cost.total_cmp(other));
        blocks
    }

    /// About how long it takes, in multiply-adds of one core.
    pub(super) fn estimate(&self, profile: &Profile) -> f64 {
        self.blocks(profile, BiasAccess::None, Storage::F32).first().map_or(f64::INFINITY, |(cost, ..)| *cost)
    }

    /// The way that is chosen for this product.
    pub(super) fn chosen_way(&self, recorder: &mut Recorder<'_>, access: BiasAccess, sum: Storage) -> Result<Way> {
        let mut ways = self.ways(recorder.profile, access, sum);
        let names: Vec<String> = ways.iter().map(Way::name).collect();
        let epilogue = recorder.epilogue();
        let chosen = recorder.choose(|| self.key("blocks", access, sum != Storage::F32, &epilogue), &names);
        if ways.is_empty() {
            return Err(too_small());
        }
        Ok(ways.swap_remove(chosen))
    }

    /// The tile without its size.
    fn plain_tile(&self, bias: BiasAccess, sum: Storage) -> BlockTile {
        let (left_packed, right_packed) = (self.a.packed(), self.b.packed());
        let walk = self.walk();
        let right = if right_packed.is_some() || walk != Walk::Channels { Reach::Single } else { self.right_reach() };
        BlockTile {
            rows: 32,
            columns: 32,
            side: 4,
            left: if left_packed.is_some() { Reach::Single } else { self.left_reach(walk) },
            right,
            left_packed,
            right_packed,
            walk,
            padded: self.padded,
            alike: self.a.storage == self.b.storage && left_packed.is_none(),
            bias,
            whole: sum != Storage::F32,
            fragments: None,
            ragged: true,
            unrolled: false,
            // Columns that are read one by one lie apart in a tile.
            fours: right != Reach::Single && self.stores_fours(),
        }
    }

    /// Channel by channel of each tap, unless that leaves slices half empty or spreads what is read of a.
    fn walk(&self) -> Walk {
        let Params { channels, taps, .. } = self.params;
        if taps == 1 && !self.padded {
            return Walk::Channels;
        }
        let by_tap = u64::from(channels.div_ceil(DEPTH)) * u64::from(taps);
        let by_window = u64::from(channels * taps).div_ceil(u64::from(DEPTH));
        let is_spread = self.left_reach(Walk::Taps) == Reach::Single && self.a.packed().is_none();
        if 4 * by_tap > 5 * by_window || is_spread { Walk::Windows } else { Walk::Taps }
    }

    /// Whether the last slice is not whole where the terms are cut into `parts`.
    fn is_ragged(&self, tile: &BlockTile, parts: u32) -> bool {
        let Params { channels, taps, .. } = self.params;
        let terms = if tile.walk == Walk::Windows { channels / parts * taps } else { channels / parts };
        !terms.is_multiple_of(tile.depth())
    }

    /// How a can be read, if it is not packed.
    fn left_reach(&self, walk: Walk) -> Reach {
        let p = &self.params;
        let fours = |values: &[u32]| values.iter().all(|v| v.is_multiple_of(4));
        let start = self.starts.iter().all(|s| s[0].is_multiple_of(4));
        let taps = match walk {
            Walk::Channels => &[][..],
            _ => &p.a_tap[..3],
        };
        if start && p.a_row == 1 && fours(&[p.rows, p.a_channel]) && fours(taps) {
            return Reach::Lines;
        }
        let together = match walk {
            Walk::Windows => {
                p.a_tap[..3] == [1, p.kernel[0], p.kernel[0] * p.kernel[1]]
                    && p.a_channel == p.taps
                    && fours(&[p.channels * p.taps])
            }
            _ => p.a_channel == 1 && fours(&[p.channels]) && fours(taps),
        };
        if start && together && fours(&[p.a_row]) { Reach::Terms } else { Reach::Single }
    }

    /// How b can be read, if it is not packed and there is one tap.
    pub(super) fn right_reach(&self) -> Reach {
        let p = &self.params;
        if self.is_wide(4) {
            return Reach::Lines;
        }
        let steps = [p.channels, p.stride[0], p.input[0], p.b_image];
        let lines = p.output[1..3] == [1, 1] && p.pad[..3] == [0; 3] && steps.iter().all(|s| s.is_multiple_of(4));
        let start = self.starts.iter().all(|s| s[1].is_multiple_of(4));
        if lines && p.b_channel == 1 && start { Reach::Terms } else { Reach::Single }
    }

    /// Whether the terms can be cut into `parts` of equal size.
    fn can_cut(&self, parts: u32, sum: Storage) -> bool {
        let Params { channels, taps, .. } = self.params;
        sum == Storage::F32
            && !self.b.is_blocked()
            && channels.is_multiple_of(parts * DEPTH)
            && channels / parts * taps >= LEAST_TERMS
    }

    /// Adds the dispatch that writes the product as it is, 32-bit floats, to `y` instead of the node's output.
    pub(super) fn record_into(&self, recorder: &mut Recorder<'_>, y: BufferId) -> Result<()> {
        let blocks = self.blocks(recorder.profile, BiasAccess::None, Storage::F32);
        let whole = blocks.into_iter().filter(|(.., parts)| *parts == 1).map(|(_, tile, _)| tile);
        let tiles: Vec<BlockTile> = whole.take(WAYS_MAX).collect();
        let names: Vec<String> = tiles.iter().map(|tile| Way::Blocks { tile: *tile, parts: 1 }.name()).collect();
        let chosen = recorder.choose(|| self.key("blocks alone", BiasAccess::None, false, "none"), &names);
        let tile = tiles.get(chosen).ok_or_else(too_small)?;
        let max_groups = recorder.profile.max_workgroups;
        let Params { rows, columns, .. } = self.params;
        let tiles = rows.div_ceil(tile.rows) as usize * columns.div_ceil(tile.columns) as usize;
        let [x_groups, y_groups, _] = linear_groups(tiles, 1, max_groups);
        for starts in self.starts.chunks(max_groups as usize) {
            let table = recorder.table(starts.as_flattened());
            let work = Work {
                shader: &tile.shader(),
                defines: &self.defines(Storage::F32),
                buffers: &self.bound(table, self.grid(tile), y),
                params: self.params.words(),
                groups: [x_groups, y_groups, word(starts.len())?],
            };
            recorder.dispatch_plain(&work, Storage::F32)?;
        }
        Ok(())
    }

    /// Adds the dispatches of a kernel whose tiles are of such rows and columns and sum up all terms.
    pub(super) fn record_whole(
        &self,
        recorder: &mut Recorder<'_>,
        shader: &Shader,
        [rows, columns]: [u32; 2],
        params: &Params,
        defines: &[Define],
        grid: Option<BufferId>,
    ) -> Result<()> {
        let max_groups = recorder.profile.max_workgroups;
        let tiles = params.rows.div_ceil(rows) as usize * params.columns.div_ceil(columns) as usize;
        let [x, y, _] = linear_groups(tiles, 1, max_groups);
        for starts in self.starts.chunks(max_groups as usize) {
            let table = recorder.table(starts.as_flattened());
            let buffers = self.bound(table, grid, recorder.output(0).buffer);
            let (params, groups) = (params.words(), [x, y, word(starts.len())?]);
            recorder.dispatch(&Work { shader, defines, buffers: &buffers, params, groups })?;
        }
        Ok(())
    }

    /// Adds the dispatches of tiles. `params` are those of the product, what packed weights are restored by included.
    pub(super) fn record_blocks(
        &self,
        recorder: &mut Recorder<'_>,
        tile: &BlockTile,
        parts: u32,
        params: &Params,
        defines: &[Define],
    ) -> Result<()> {
        if parts == 1 {
            let (shader, sides) = (tile.shader(), [tile.rows, tile.columns]);
            return self.record_whole(recorder, &shader, sides, params, defines, self.grid(tile));
        }
        let max_groups = recorder.profile.max_workgroups;
        let tiles = params.rows.div_ceil(tile.rows) as usize * params.columns.div_ceil(tile.columns) as usize;
        let [x, y, _] = linear_groups(tiles, 1, max_groups);
        for starts in self.starts.chunks((max_groups / parts) as usize) {
            let (rows, columns) = (params.rows as usize, params.columns as usize);
            let shape = Shape::from([starts.len(), parts as usize, rows, columns]);
            let partial = recorder.scratch(shape, DType::F32, Storage::F32).buffer;
            let mut cut = Vec::new();
            for [a, b, _, row] in starts {
                for part in 0..parts {
                    let first = part * (params.channels / parts);
                    let at = word(cut.len() * rows * columns)?;
                    cut.push([a + first * params.a_channel, b + first * params.b_channel, at, *row]);
                }
            }
            let [width, height, _, image] = params.output;
            let summing = Params {
                channels: params.channels / parts,
                // Every pixel where its column is.
                y_step: [1, width, width * height, image],
                y_row: params.columns,
                alpha: 1.0,
                ..*params
            };
            let fours = tile.right != Reach::Single && params.columns.is_multiple_of(4);
            let plain = BlockTile { bias: BiasAccess::None, fours, ..*tile };
            let table = recorder.table(cut.as_flattened());
            let buffers = self.bound(table, self.grid(&plain), partial);
            let groups = [x, y, word(cut.len())?];
            let (shader, words) = (&plain.shader(), summing.words());
            recorder
                .dispatch_plain(&Work { shader, defines, buffers: &buffers, params: words, groups }, Storage::F32)?;
            self.record_sum(recorder, partial, starts, params, &[Define::Const("PARTS", parts), bias_define(tile)])?;
        }
        Ok(())
    }

    /// Adds the dispatch that adds up partial sums.
    fn record_sum(
        &self,
        recorder: &mut Recorder<'_>,
        partial: BufferId,
        starts: &[Start],
        params: &Params,
        defines: &[Define],
    ) -> Result<()> {
        let bias = self.bias_source();
        let elements = params.rows as usize * params.columns as usize;
        let [x, y, _] = linear_groups(elements, 64, recorder.profile.max_workgroups);
        let table = recorder.table(starts.as_flattened());
        let mut defines = defines.to_vec();
        defines.push(Define::Scalar("Bias", bias.storage));
        recorder.dispatch(&Work {
            shader: &product_sum::SHADER,
            defines: &defines,
            buffers: &[partial, bias.buffer, table, recorder.output(0).buffer],
            params: params.words(),
            groups: [x, y, word(starts.len())?],
        })
    }

    /// The buffers of a tile's kernel.
    fn bound(&self, table: BufferId, grid: Option<BufferId>, y: BufferId) -> Vec<BufferId> {
        let mut buffers = vec![self.a.buffer, self.b.buffer, self.bias_source().buffer, table];
        buffers.extend(grid);
        buffers.push(y);
        buffers
    }

    /// Where the tile's scales and zero points lie, if it reads some.
    fn grid(&self, tile: &BlockTile) -> Option<BufferId> {
        tile.has_grid().then(|| self.a.grid.or(self.b.grid).map_or(self.b.buffer, |g| g.buffer))
    }
}

fn too_small() -> Error {
    Error::resource_exhausted("workgroups of this adapter are too small for matrix products")
}

fn bias_define(tile: &BlockTile) -> Define {
    Define::Const("BIAS", bias_code(tile.bias))
}

#[cfg(test)]
mod tests {
    use super::super::product::{Matrices, Source};
    use super::*;
    use crate::engine::ir::{Family, Fragments, Operand};

    /// The ways of a product of contiguous matrices of `storage`.
    fn ways(rows: usize, columns: usize, terms: usize, storage: Storage, profile: &Profile) -> Vec<String> {
        let extents = [rows, columns, terms];
        let matrices = Matrices { extents, a_strides: [terms, 1], b_strides: [columns, 1] };
        let (buffer, dtype) = (BufferId(0), DType::F32);
        let operand = Operand { buffer, storage, dtype, shape: Shape::from([rows, terms]), grid: None, planes: None };
        let (a, b) = (Source::from(&operand), Source::from(&operand));
        let params = matrices.params(false).expect("small");
        let product = Product { a, b, bias: None, params, starts: vec![[0; 4]], padded: false };
        product.ways(profile, BiasAccess::None, Storage::F32).iter().map(Way::name).collect()
    }

    /// What is done for it, in 32-bit floats, on an adapter with 32 KiB of workgroup memory.
    fn first(rows: usize, columns: usize, terms: usize) -> String {
        let profile = Profile { max_workgroup_bytes: 32 << 10, ..Profile::plain(Family::Gpu) };
        ways(rows, columns, terms, Storage::F32, &profile).remove(0)
    }

    #[test]
    fn tiles_follow_the_shape() {
        let shapes = [
            [4096, 4096, 4096],
            [512, 512, 512],
            [64, 12544, 576],
            [512, 49, 4608],
            [128, 768, 768],
            [1, 1000, 2048],
            [32, 4096, 1024],
            [256, 3136, 64],
            [128, 3072, 768],
            [200, 20, 30],
        ];
        let found: Vec<String> = shapes.iter().map(|[m, n, k]| format!("{m}x{n}x{k}: {}", first(*m, *n, *k))).collect();
        insta::assert_snapshot!(found.join("\n"));
    }

    #[test]
    fn panels_are_for_large_products_and_always_tried() {
        let fragments = Some(Fragments { size: 16, lanes: 32, wide: true });
        let profile = Profile { fragments, max_workgroup_bytes: 48 << 10, ..Profile::plain(Family::Gpu) };
        let ways = |rows, columns, terms| ways(rows, columns, terms, Storage::F16, &profile);
        assert_eq!(ways(4096, 4096, 4096)[0], "128x256 panels");
        let small = ways(256, 520, 192);
        assert!(!small[0].ends_with("panels") && small.iter().any(|way| way.ends_with("panels")), "{small:?}");
        for (columns, terms) in [(516, 192), (520, 160)] {
            assert!(ways(256, columns, terms).iter().all(|way| !way.ends_with("panels")), "{columns}x{terms}");
        }
    }
}
