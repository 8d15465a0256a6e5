//! Pad: elements added around a tensor, or taken off it.

use std::sync::Arc;

use super::arguments::{axis_of, known, known_ints, optional, required, unknown};
use super::registry::OpSpec;
use super::words::{signed, word, words_of};
use crate::engine::ir::{Define, Fact, Op, Recorder, Rows, RowsQuery, Work, linear_groups};
use crate::engine::kernels::pad;
use crate::error::{Error, Result};
use crate::tensor::{Dim, Shape, Tensor};

/// Where added elements come from; numbered as `shaders/pad.wgsl` has it.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Mode {
    Constant = 0,
    Reflect = 1,
    Edge = 2,
    Wrap = 3,
}

pub(super) fn pad(spec: &OpSpec<'_>) -> Result<Arc<dyn Op>> {
    let mode = match spec.attributes.string_or("mode", "constant")?.as_str() {
        "constant" => Mode::Constant,
        "reflect" => Mode::Reflect,
        "edge" => Mode::Edge,
        "wrap" => Mode::Wrap,
        other => return Err(Error::invalid_argument(format!("Pad mode {other:?}"))),
    };
    // Amounts and value are attributes before opset 11, inputs since.
    let amounts = spec.attributes.ints("pads")?;
    Ok(Arc::new(Pad { mode, amounts, value: f64::from(spec.attributes.float_or("value", 0.0)?) }))
}

#[derive(Debug)]
struct Pad {
    mode: Mode,
    amounts: Option<Vec<i64>>,
    value: f64,
}

/// The axes that `shaders/pad.wgsl` takes.
const RANKS: [usize; 5] = [1, 2, 3, 4, 8];

impl Pad {
    /// (before, after) for each axis, if known.
    fn amounts(&self, facts: &[Option<&Fact>], rank: usize) -> Result<Option<Vec<(i64, i64)>>> {
        let given = match known_ints(facts, 1)? {
            Some(None) => return Ok(None),
            Some(Some(amounts)) => amounts,
            None => self.amounts.clone().ok_or_else(|| Error::invalid_argument("Pad without pads"))?,
        };
        let axes = match known_ints(facts, 3)? {
            Some(None) => return Ok(None),
            Some(Some(axes)) => axes.iter().map(|a| axis_of(*a, rank)).collect::<Result<Vec<_>>>()?,
            None => (0..rank).collect(),
        };
        if given.len() != 2 * axes.len() {
            return Err(Error::invalid_argument(format!("{} pads for {} axes", given.len(), axes.len())));
        }
        let mut amounts = vec![(0, 0); rank];
        for (i, axis) in axes.iter().enumerate() {
            amounts[*axis] = (given[i], given[axes.len() + i]);
        }
        Ok(Some(amounts))
    }

    fn shape(&self, input: &[usize], amounts: &[(i64, i64)]) -> Result<Shape> {
        let padded = |(extent, (before, after)): (&usize, &(i64, i64))| {
            if *extent == 0 && self.mode != Mode::Constant && (*before > 0 || *after > 0) {
                return Err(Error::invalid_argument("an axis without entries has none to pad it with"));
            }
            let padded = (*extent as i64).checked_add(*before).and_then(|e| e.checked_add(*after));
            padded.and_then(|e| usize::try_from(e).ok()).ok_or_else(|| {
                Error::invalid_argument(format!("pads {before} and {after} of an axis of extent {extent}"))
            })
        };
        Ok(Shape::new(input.iter().zip(amounts).map(padded).collect::<Result<Vec<_>>>()?))
    }

    /// The input coordinate for an output one; `None` where the constant stands.
    fn source(&self, coordinate: i64, extent: i64) -> Option<i64> {
        if (0..extent).contains(&coordinate) {
            return Some(coordinate);
        }
        match self.mode {
            Mode::Constant => None,
            Mode::Edge => Some(coordinate.clamp(0, extent - 1)),
            Mode::Wrap => Some(coordinate.rem_euclid(extent)),
            Mode::Reflect => {
                let period = (2 * (extent - 1)).max(1);
                let folded = coordinate.rem_euclid(period);
                Some(if folded >= extent { period - folded } else { folded })
            }
        }
    }

    fn fill(&self, value: Option<&Tensor>) -> Result<f64> {
        let given = value.map(Tensor::to_f64s).transpose()?;
        Ok(given.and_then(|v| v.first().copied()).unwrap_or(self.value))
    }
}

impl Op for Pad {
    fn name(&self) -> &'static str {
        "Pad"
    }

    fn shape_inputs(&self) -> &'static [usize] {
        &[1, 3]
    }

    fn infer(&self, inputs: &[Option<&Fact>]) -> Result<Vec<Fact>> {
        let input = required(inputs, 0)?;
        let Some(dims) = &input.dims else { return Ok(vec![Fact::of_unknown_rank(input.dtype)]) };
        let Some(amounts) = self.amounts(inputs, dims.len())? else {
            return Ok(vec![Fact::new(input.dtype, unknown(dims.len()))]);
        };
        let padded = |(dim, amount): (&Dim, &(i64, i64))| match dim.fixed() {
            Some(extent) => Ok(Dim::Fixed(self.shape(&[extent], &[*amount])?[0])),
            None if *amount == (0, 0) => Ok(dim.clone()),
            None => Ok(Dim::Unknown),
        };
        let dims = dims.iter().zip(&amounts).map(padded).collect::<Result<Vec<_>>>()?;
        Ok(vec![Fact::new(input.dtype, dims)])
    }

    fn evaluate(&self, inputs: &[Option<&Tensor>]) -> Result<Vec<Tensor>> {
        let input = required(inputs, 0)?;
        let facts = known(inputs);
        let facts: Vec<Option<&Fact>> = facts.iter().map(Option::as_ref).collect();
        let amounts = self.amounts(&facts, input.shape().rank())?.unwrap_or_default();
        let shape = self.shape(input.shape(), &amounts)?;
        let size = input.dtype().bytes();
        let fill = Tensor::from_f64s(input.dtype(), Shape::scalar(), &[self.fill(optional(inputs, 2))?])?;
        if shape.elements() == 0 {
            return Ok(vec![Tensor::from_bytes(input.dtype(), shape, Vec::new())?]);
        }
        // For each output element the input's place, or none: axis by axis, outermost first.
        let mut places: Vec<Option<usize>> = vec![Some(0)];
        for (axis, extent) in input.shape().iter().enumerate() {
            let along: Vec<Option<usize>> = (0..shape[axis] as i64)
                .map(|c| self.source(c - amounts[axis].0, *extent as i64).map(|c| c as usize))
                .collect();
            let step = |base: &Option<usize>| {
                let base = *base;
                along.iter().map(move |c| base.zip(*c).map(|(b, c)| b * extent + c)).collect::<Vec<_>>()
            };
            places = places.iter().flat_map(step).collect();
        }
        let mut bytes = Vec::with_capacity(places.len() * size);
        for place in places {
            match place {
                Some(at) => bytes.extend_from_slice(&input.bytes()[at * size..(at + 1) * size]),
                None => bytes.extend_from_slice(fill.bytes()),
            }
        }
        Ok(vec![Tensor::from_bytes(input.dtype(), shape, bytes)?])
    }

    fn rows(&self, query: &RowsQuery<'_>) -> Vec<Rows> {
        let rank = optional(query.inputs, 0).and_then(Fact::rank).unwrap_or(0);
        match self.amounts(query.inputs, rank) {
            Ok(Some(amounts)) => {
                let touched: Vec<usize> = (0..rank).filter(|a| amounts[*a] != (0, 0)).collect();
                query.except_axes(&touched)
            }
            _ => query.default_answer(),
        }
    }

    fn record(&self, recorder: &mut Recorder<'_>) -> Result<()> {
        let facts: Vec<Option<&Fact>> = (0..recorder.input_count()).map(|i| recorder.fact(i)).collect();
        let input = recorder.input(0)?.clone();
        let rank = input.shape.rank();
        let Some(amounts) = self.amounts(&facts, rank)? else {
            return Err(Error::unimplemented("pads that depend on data"));
        };
        let output = recorder.output(0).clone();
        let Some(size) = RANKS.into_iter().find(|r| *r >= rank) else {
            return Err(Error::unimplemented(format!("Pad of rank {rank}")));
        };
        let mut params = pad::Params {
            count: word(output.shape.elements())?,
            extents: [[1; 4]; 2],
            input_extents: [[1; 4]; 2],
            ..pad::Params::default()
        };
        let fill = match recorder.optional_input(2) {
            Some(given) if self.mode == Mode::Constant && given.storage == input.storage => given.buffer,
            Some(_) if self.mode == Mode::Constant => {
                return Err(Error::unimplemented("a padding value of another type"));
            }
            None if self.mode == Mode::Constant => recorder.table(words_of(self.value, input.storage)),
            // Nothing reads it.
            _ => input.buffer,
        };
        for (axis, (before, _)) in amounts.iter().enumerate() {
            let at = size - rank + axis;
            params.extents[at / 4][at % 4] = word(output.shape[axis])?;
            params.input_extents[at / 4][at % 4] = signed(input.shape[axis] as i64)?;
            params.before[at / 4][at % 4] = signed(*before)?;
        }
        recorder.dispatch(&Work {
            shader: &pad::SHADER,
            defines: &[
                Define::Scalar("In", input.storage),
                Define::Const("RANK", size as u32),
                Define::Const("MODE", self.mode as u32),
            ],
            buffers: &[input.buffer, fill, output.buffer],
            params: params.words(),
            groups: linear_groups(output.shape.elements(), 64, recorder.profile.max_workgroups),
        })
    }
}
