//! The kernels of whole attention: which one fits, and its dispatch.

use super::attend::{Attend, Lie, Mask, Masked};
use super::words::word;
use crate::engine::ir::{Define, Family, Profile, Recorder, Storage, Work, linear_groups};
use crate::engine::kernels::attention::Params;
use crate::engine::kernels::{AttentionTile, Masking, attention_blocks};
use crate::error::Result;
use crate::tensor::{DType, Shape};

/// Multiply-adds from which a kernel of its own repays its compiling.
const MIN_WORK: usize = 262_144;
/// Queries below which most of a tile would idle.
const MIN_QUERIES: usize = 12;
/// Keys that a tile for software adapters meets at a time.
const KEYS: u32 = 32;
/// Multiply-adds of vectors in the innermost loop: longer ones leave a CPU's instruction cache.
const MAX_STATEMENTS: u32 = 224;
/// Widths over 32 that `shaders/attention_blocks.wgsl` is compiled for.
const VECTORS: [u32; 5] = [1, 2, 3, 4, 8];

impl Attend {
    /// Whether a kernel fits on an adapter like this.
    pub(super) fn has_kernel(&self, profile: &Profile, dtype: DType) -> bool {
        let work = self.entries * self.heads * self.queries * self.keys * (self.depth + self.width);
        if self.queries < MIN_QUERIES || work < MIN_WORK {
            return false;
        }
        match (profile.family, profile.storage(dtype)) {
            (Family::Gpu, Some(Storage::F32 | Storage::F16)) => self.vectors().is_some(),
            (Family::Software, Some(Storage::F32)) => self.tile(profile).is_some(),
            _ => false,
        }
    }

    /// The width of the kernel by blocks.
    fn vectors(&self) -> Option<u32> {
        VECTORS.into_iter().find(|v| 32 * *v as usize >= self.width)
    }

    /// The tile for a software adapter; `None` where one fits not.
    fn tile(&self, profile: &Profile) -> Option<AttentionTile> {
        let lanes = profile.subgroup.filter(|lanes| [4, 8, 16].contains(lanes))?;
        let in_fours = [self.q, self.k, self.v, self.y].iter().all(Lie::is_in_fours);
        if !in_fours || !self.depth.is_multiple_of(4) || !self.width.is_multiple_of(4) {
            return None;
        }
        let (masking, by_query) = match self.mask {
            None => (Masking::None, false),
            Some(Masked { mask, lie, key }) => {
                let by_query = lie.steps[2] > 0;
                let rows = key == 1 && lie.is_in_fours() && self.keys.is_multiple_of(4);
                if by_query && !rows {
                    return None;
                }
                (masking(mask), by_query)
            }
        };
        let tile = |vectors| AttentionTile { lanes, keys: KEYS, vectors, masking, by_query };
        let columns = self.width / 4;
        // The fewest columns computed in vain; of those the widest, which computes exponentials least often.
        let fits = (1..=4).map(tile).filter(|t| t.statements() <= MAX_STATEMENTS);
        let tile = fits.min_by_key(|t| {
            let at_once = (t.vectors * lanes) as usize;
            (columns.next_multiple_of(at_once), std::cmp::Reverse(at_once))
        })?;
        let fits = self.score_bytes(&tile)? <= profile.max_binding_bytes && profile.max_storage_buffers >= 8;
        fits.then_some(tile)
    }

    /// Workgroups of a kernel that owns so many queries.
    fn groups(&self, queries: u32) -> usize {
        self.queries.div_ceil(queries as usize) * self.heads * self.entries
    }

    /// Vectors of scores that a tile's workgroups store.
    fn score_vectors(&self, tile: &AttentionTile) -> usize {
        self.groups(tile.queries()) * tile.queries() as usize * self.keys.next_multiple_of(tile.keys as usize) / 4
    }

    fn score_bytes(&self, tile: &AttentionTile) -> Option<u64> {
        u64::try_from(self.score_vectors(tile)).ok()?.checked_mul(16)
    }

    fn params(&self) -> Result<Params> {
        let steps = |lie: &Lie| -> Result<[u32; 4]> {
            let [entry, head, row] = lie.steps;
            Ok([word(entry)?, word(head)?, word(row)?, word(lie.first)?])
        };
        let mut params = Params {
            batch: word(self.entries)?,
            heads: word(self.heads)?,
            queries: word(self.queries)?,
            keys: word(self.keys)?,
            depth: word(self.depth)?,
            width: word(self.width)?,
            sharing: word(self.sharing)?,
            q_step: steps(&self.q)?,
            k_step: steps(&self.k)?,
            v_step: steps(&self.v)?,
            y_step: steps(&self.y)?,
            scale: self.scale as f32,
            ..Params::default()
        };
        if let Some(Masked { lie, key, .. }) = &self.mask {
            params.mask_step = steps(lie)?;
            (params.mask_first, params.mask_step[3]) = (word(lie.first)?, word(*key)?);
        }
        Ok(params)
    }
}

fn masking(mask: Mask) -> Masking {
    match mask {
        Mask::Added => Masking::Added,
        Mask::Zero => Masking::Zero,
        Mask::Set => Masking::Set,
    }
}

/// Records the kernel that fits.
pub(super) fn record(attend: &Attend, recorder: &mut Recorder<'_>) -> Result<()> {
    let (q, k, v) = (recorder.input(0)?.clone(), recorder.input(1)?.clone(), recorder.input(2)?.clone());
    let mask = recorder.optional_input(3).unwrap_or(&q).clone();
    let y = recorder.output(0).buffer;
    let params = attend.params()?;
    let max_groups = recorder.profile.max_workgroups;
    if recorder.profile.family == Family::Software
        && let Some(tile) = attend.tile(recorder.profile)
    {
        let shape = Shape::new([attend.score_vectors(&tile), 4]);
        let scores = recorder.scratch(shape, DType::F32, Storage::F32).buffer;
        return recorder.dispatch(&Work {
            shader: &tile.shader(),
            defines: &[Define::Scalar("Mask", mask.storage)],
            buffers: &[q.buffer, k.buffer, v.buffer, mask.buffer, scores, y],
            params: params.words(),
            groups: linear_groups(attend.groups(tile.queries()), 1, max_groups),
        });
    }
    recorder.dispatch(&Work {
        shader: &attention_blocks::SHADER,
        defines: &[
            Define::Scalar("In", q.storage),
            Define::Scalar("Mask", mask.storage),
            Define::Const("MASK", attend.mask.map_or(0, |m| m.mask as u32 + 1)),
            Define::Const("CAUSAL", 0),
            Define::Const("VECTORS", attend.vectors().unwrap_or(VECTORS[0])),
        ],
        buffers: &[q.buffer, k.buffer, v.buffer, mask.buffer, y],
        params: params.words(),
        groups: linear_groups(attend.groups(32), 1, max_groups),
    })
}
