//! Products on GPUs by panels: which can be computed so, and how.

use super::product::{Params, Product};
use crate::engine::ir::{Define, Profile, Recorder, Storage};
use crate::engine::kernels::{BiasAccess, PanelTile};
use crate::error::Result;

impl Product {
    /// The largest tile that this product with sums of type `sum` can be computed by, if there is one.
    pub(super) fn panel(&self, profile: &Profile, bias: BiasAccess, sum: Storage) -> Option<PanelTile> {
        let halves = [self.a.storage, self.b.storage] == [Storage::F16; 2] && sum == Storage::F32;
        let fragments = profile.fragments.filter(|_| halves)?;
        if !self.reads_panels() || !self.stores_fours() {
            return None;
        }
        let tile = |(rows, columns)| PanelTile {
            rows,
            columns,
            fragments,
            whole_rows: self.params.rows.is_multiple_of(rows),
            bias,
        };
        let fits = |tile: &PanelTile| {
            tile.is_possible()
                && tile.invocations() <= profile.max_invocations
                && tile.workgroup_bytes() <= profile.max_workgroup_bytes
        };
        PanelTile::SIZES.into_iter().map(tile).find(fits)
    }

    /// Whether eight terms side by side of a, and eight columns of b, can be read at once, and the terms make whole panels.
    fn reads_panels(&self) -> bool {
        let p = &self.params;
        let aligned = |value: &u32| value.is_multiple_of(PanelTile::ALIGNMENT);
        let left = p.a_channel == 1 && aligned(&p.a_row) && self.starts.iter().all(|s| aligned(&s[0]));
        left && p.channels.is_multiple_of(PanelTile::TERMS) && !self.padded && self.is_wide(PanelTile::ALIGNMENT)
    }

    /// Adds the dispatches of `tile`.
    pub(super) fn record_panels(
        &self,
        recorder: &mut Recorder<'_>,
        tile: &PanelTile,
        defines: &[Define],
    ) -> Result<()> {
        let Params { channels, a_row, b_channel, .. } = self.params;
        let defines = [defines, &PanelTile::constants(a_row, b_channel, channels)].concat();
        self.record_whole(recorder, &tile.shader(), [tile.rows, tile.columns], &self.params, &defines, None)
    }
}
