//! Rows turned by angles, in one kernel: what rotary embeddings become, the operator's and those that exporters write out.

use super::arguments::required;
use super::attend::Lie;
use super::words::word;
use crate::engine::ir::{Define, Fact, Op, Recorder, Work, linear_groups};
use crate::engine::kernels::rotate4::{Params, SHADER};
use crate::error::{Error, Result};
use crate::tensor::{Shape, Tensor};

/// Where cosines or sines of rows lie.
#[derive(Clone, Copy, Debug)]
pub(super) struct Angles {
    pub(super) lie: Lie,
    /// Elements between those of the two halves of a row.
    pub(super) half: usize,
}

/// `y = (a × cos − b × sin, b × cos′ + a × sin′)` of rows (a, b). Inputs: the arrays that rows, cosines and sines lie in.
#[derive(Debug)]
pub(super) struct Rotation {
    /// Extents of the three axes of rows.
    pub(super) rows: [usize; 3],
    /// Elements of half a row.
    pub(super) half: usize,
    pub(super) x: Lie,
    pub(super) cosine: Angles,
    pub(super) sine: Angles,
    /// Of the output, all of which rows fill side by side.
    pub(super) shape: Shape,
}

impl Rotation {
    /// Whether all that is read begins at multiples of four elements.
    pub(super) fn is_in_fours(&self) -> bool {
        let fours = |angles: &Angles| angles.lie.is_in_fours() && angles.half.is_multiple_of(4);
        self.half.is_multiple_of(4) && self.x.is_in_fours() && fours(&self.cosine) && fours(&self.sine)
    }
}

impl Op for Rotation {
    fn name(&self) -> &'static str {
        "RotaryEmbedding"
    }

    fn infer(&self, inputs: &[Option<&Fact>]) -> Result<Vec<Fact>> {
        Ok(vec![Fact::of_shape(required(inputs, 0)?.dtype, &self.shape)])
    }

    fn evaluate(&self, inputs: &[Option<&Tensor>]) -> Result<Vec<Tensor>> {
        let read: Vec<Vec<f64>> = inputs.iter().flatten().map(|t| t.to_f64s()).collect::<Result<_>>()?;
        let [x, cosine, sine] = &read[..] else {
            return Err(Error::invalid_argument("a rotary embedding takes rows, cosines and sines"));
        };
        let [outer, middle, inner] = self.rows;
        let mut y = Vec::with_capacity(self.shape.elements());
        for at in (0..outer * middle * inner).map(|i| [i / (middle * inner), i / inner % middle, i % inner]) {
            let row = &x[self.x.at(at)..][..2 * self.half];
            let (turn, lift) = (&cosine[self.cosine.lie.at(at)..], &sine[self.sine.lie.at(at)..]);
            let first = |i: usize| row[i] * turn[i] - row[self.half + i] * lift[i];
            let second = |i: usize| row[self.half + i] * turn[self.cosine.half + i] + row[i] * lift[self.sine.half + i];
            y.extend((0..self.half).map(first).chain((0..self.half).map(second)));
        }
        Ok(vec![Tensor::from_f64s(required(inputs, 0)?.dtype(), self.shape.clone(), &y)?])
    }

    fn record(&self, recorder: &mut Recorder<'_>) -> Result<()> {
        let [x, cosine, sine] = [0, 1, 2].map(|i| recorder.input(i));
        let (x, cosine, sine) = (x?, cosine?, sine?);
        if !self.is_in_fours() {
            return Err(Error::unimplemented("rows that are no whole vectors of four have no kernel"));
        }
        let fours = |lie: &Lie| -> Result<[u32; 4]> {
            let [outer, middle, inner] = lie.steps;
            Ok([word(outer / 4)?, word(middle / 4)?, word(inner / 4)?, word(lie.first / 4)?])
        };
        let count = self.rows.iter().product::<usize>() * self.half / 4;
        let params = Params {
            count: word(count)?,
            half: word(self.half / 4)?,
            middle: word(self.rows[1])?,
            inner: word(self.rows[2])?,
            x_steps: fours(&self.x)?,
            cosine_steps: fours(&self.cosine.lie)?,
            sine_steps: fours(&self.sine.lie)?,
            cosine_half: word(self.cosine.half / 4)?,
            sine_half: word(self.sine.half / 4)?,
        };
        let defines = [
            Define::Scalar("In", x.storage),
            Define::Scalar("Cosine", cosine.storage),
            Define::Scalar("Sine", sine.storage),
        ];
        let buffers = [x.buffer, cosine.buffer, sine.buffer, recorder.output(0).buffer];
        recorder.dispatch(&Work {
            shader: &SHADER,
            defines: &defines,
            buffers: &buffers,
            params: params.words(),
            groups: linear_groups(count, 64, recorder.profile.max_workgroups),
        })
    }
}
