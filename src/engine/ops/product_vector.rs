//! Products of few rows on GPUs: what matters is that every element of b is read once.

use super::product::{Params, Product};
use super::product_blocks::bias_code;
use super::words::word;
use crate::engine::ir::{Define, Recorder, Storage, Work, linear_groups};
use crate::engine::kernels::{BiasAccess, Reach, product_vector};
use crate::error::Result;

/// Rows of a from which tiles read b less often.
const ROWS_MAX: u32 = 4;

/// How `product_vector` computes a product.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Vector {
    /// Rows at most: 1, 2 or 4.
    rows: u32,
    /// Whether b's terms lie side by side rather than its columns.
    along_terms: bool,
    bias: BiasAccess,
}

impl Vector {
    /// How it computes `product`, if it can.
    pub(super) fn of(product: &Product, bias: BiasAccess, sum: Storage) -> Option<Self> {
        let Params { rows, taps, .. } = product.params;
        let packed = product.a.packed().or(product.b.packed()).is_some();
        if rows > ROWS_MAX || taps != 1 || product.padded || packed || sum != Storage::F32 {
            return None;
        }
        let along_terms = match product.right_reach() {
            Reach::Lines => false,
            Reach::Terms => true,
            Reach::Single => return None,
        };
        Some(Self { rows: rows.next_power_of_two(), along_terms, bias })
    }

    /// Adds the dispatches.
    pub(super) fn record(&self, product: &Product, recorder: &mut Recorder<'_>) -> Result<()> {
        let bias = product.bias_source();
        let width = if self.along_terms { 8 } else { 32 };
        let max_groups = recorder.profile.max_workgroups;
        let [x, y, _] = linear_groups(product.params.columns as usize, width, max_groups);
        for starts in product.starts.chunks(max_groups as usize) {
            let table = recorder.table(starts.as_flattened());
            recorder.dispatch(&Work {
                shader: &product_vector::SHADER,
                defines: &[
                    Define::Scalar("Left", product.a.storage),
                    Define::Scalar("Right", product.b.storage),
                    Define::Scalar("Bias", bias.storage),
                    Define::Const("BIAS", bias_code(self.bias)),
                    Define::Const("ROWS", self.rows),
                    Define::Const("ALONG", u32::from(self.along_terms)),
                ],
                buffers: &[product.a.buffer, product.b.buffer, bias.buffer, table, recorder.output(0).buffer],
                params: product.params.words(),
                groups: [x, y, word(starts.len())?],
            })?;
        }
        Ok(())
    }
}
