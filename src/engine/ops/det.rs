//! Det: determinants of square matrices.

use std::sync::Arc;

use super::arguments::{optional, required};
use super::registry::OpSpec;
use super::words::word;
use crate::engine::ir::{Define, Fact, Op, Profile, Recorder, Rows, RowsQuery, Storage, Work, linear_groups};
use crate::engine::kernels::det as kernel;
use crate::error::{Error, Result};
use crate::tensor::{DType, Tensor};

pub(super) fn det(_spec: &OpSpec<'_>) -> Result<Arc<dyn Op>> {
    Ok(Arc::new(Det))
}

#[derive(Debug)]
struct Det;

/// Gaussian elimination with row pivoting.
fn determinant(matrix: &mut [f64], n: usize) -> f64 {
    let mut result = 1.0;
    for k in 0..n {
        let size = |row: usize| matrix[row * n + k].abs();
        let pivot = (k..n).max_by(|a, b| size(*a).total_cmp(&size(*b))).unwrap_or(k);
        let head = matrix[pivot * n + k];
        if head == 0.0 {
            return 0.0;
        }
        result *= if pivot == k { head } else { -head };
        for column in k..n {
            matrix.swap(k * n + column, pivot * n + column);
        }
        for row in k + 1..n {
            let factor = matrix[row * n + k] / head;
            for column in k..n {
                matrix[row * n + column] -= factor * matrix[k * n + column];
            }
        }
    }
    result
}

impl Op for Det {
    fn name(&self) -> &'static str {
        "Det"
    }

    fn infer(&self, inputs: &[Option<&Fact>]) -> Result<Vec<Fact>> {
        let x = required(inputs, 0)?;
        let Some(dims) = &x.dims else { return Ok(vec![Fact::of_unknown_rank(x.dtype)]) };
        let [outer @ .., rows, columns] = dims.as_slice() else {
            return Err(Error::invalid_argument(format!("the determinant of a value of rank {}", dims.len())));
        };
        if matches!((rows.fixed(), columns.fixed()), (Some(a), Some(b)) if a != b) {
            return Err(Error::invalid_argument(format!("the determinant of a {rows} × {columns} matrix")));
        }
        Ok(vec![Fact::new(x.dtype, outer.iter().cloned())])
    }

    fn evaluate(&self, inputs: &[Option<&Tensor>]) -> Result<Vec<Tensor>> {
        let x = required(inputs, 0)?;
        let output = self.infer(&[Some(&Fact::from(x))])?[0].concrete()?;
        let n = x.shape()[x.shape().rank() - 1];
        let mut values = x.to_f64s()?;
        let result: Vec<f64> = match n {
            0 => vec![1.0; output.elements()],
            n => values.chunks_mut(n * n).map(|matrix| determinant(matrix, n)).collect(),
        };
        Ok(vec![Tensor::from_f64s(x.dtype(), output, &result)?])
    }

    fn rows(&self, query: &RowsQuery<'_>) -> Vec<Rows> {
        let rank = optional(query.inputs, 0).and_then(Fact::rank).unwrap_or(0);
        query.except_axes(&[rank.saturating_sub(2), rank.saturating_sub(1)])
    }

    fn host_reason(&self, inputs: &[Option<&Fact>], _profile: &Profile) -> Option<String> {
        let x = optional(inputs, 0)?;
        (!matches!(x.dtype, DType::F32 | DType::F16)).then(|| format!("determinants of {} matrices", x.dtype))
    }

    fn record(&self, recorder: &mut Recorder<'_>) -> Result<()> {
        let (x, output) = (recorder.input(0)?.clone(), recorder.output(0).clone());
        let rest = recorder.scratch(x.shape.clone(), DType::F32, Storage::F32);
        let total = output.shape.elements();
        let params = kernel::Params { total: word(total)?, n: word(x.shape[x.shape.rank() - 1])? };
        recorder.dispatch(&Work {
            shader: &kernel::SHADER,
            defines: &[Define::Scalar("In", x.storage)],
            buffers: &[x.buffer, rest.buffer, output.buffer],
            params: params.words(),
            groups: linear_groups(total, 64, recorder.profile.max_workgroups),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_swap_of_rows_turns_the_sign() {
        assert_eq!(determinant(&mut [0.0, 2.0, 3.0, 4.0], 2), -6.0);
        assert_eq!(determinant(&mut [1.0, 2.0, 2.0, 4.0], 2), 0.0);
    }
}
