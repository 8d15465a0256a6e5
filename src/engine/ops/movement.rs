//! Operators that only move elements: each says its outputs' extents and the copies that fill them.

use std::sync::Arc;

use bytes::Bytes;

use super::arguments::{known, optional, required};
use super::arranged;
use super::boxes::Copy;
use super::images::record_joined;
use super::joins;
use crate::engine::ir::{
    Expansion, Fact, Fused, Node, Op, Profile, Recorder, Rows, RowsQuery, Strided, Surroundings, Wire,
};
use crate::error::{Error, Result};
use crate::tensor::{Dim, Shape, Tensor};

/// What distinguishes one such operator from another.
pub(super) trait Movement: std::fmt::Debug + Send + Sync + 'static {
    /// The operator's name.
    fn name(&self) -> &'static str;

    /// Extents of every output; `None` where a rank is unknown. `facts` hold the constants that say how to move.
    fn dims(&self, facts: &[Option<&Fact>]) -> Result<Vec<Option<Vec<Dim>>>>;

    /// Copies as (input, output, box), for concrete inputs and constants; together they fill the outputs.
    fn copies(&self, facts: &[Option<&Fact>], outputs: &[Shape]) -> Result<Vec<(usize, usize, Copy)>>;

    /// Where rows go.
    fn rows(&self, query: &RowsQuery<'_>) -> Vec<Rows>;

    /// Inputs that say how elements move.
    fn shape_inputs(&self) -> &'static [usize] {
        &[]
    }

    /// Whether a matrix is transposed and nothing else done.
    fn is_transposition(&self) -> bool {
        false
    }

    /// Whether inputs stand side by side along axis 1 of outputs of this rank.
    fn joins_channels(&self, _rank: usize) -> bool {
        false
    }

    /// How many leading inputs hold elements to move; the others say how.
    fn moved(&self, inputs: usize) -> usize {
        inputs.min(1)
    }
}

/// A movement as an operator.
#[derive(Debug)]
pub(super) struct Moving<M>(pub(super) M);

impl<M: Movement> Moving<M> {
    pub(super) fn op(movement: M) -> Arc<dyn Op> {
        Arc::new(Self(movement))
    }

    fn shapes(&self, facts: &[Option<&Fact>]) -> Result<Vec<Shape>> {
        let dims = self.0.dims(facts)?;
        let fixed = |d: Option<Vec<Dim>>| d?.iter().map(Dim::fixed).collect::<Option<Vec<_>>>().map(Shape::new);
        dims.into_iter()
            .map(fixed)
            .collect::<Option<Vec<_>>>()
            .ok_or_else(|| Error::unimplemented(format!("{}: how to move elements depends on data", self.0.name())))
    }
}

impl<M: Movement> Op for Moving<M> {
    fn name(&self) -> &'static str {
        self.0.name()
    }

    fn infer(&self, inputs: &[Option<&Fact>]) -> Result<Vec<Fact>> {
        let dtype = required(inputs, 0)?.dtype;
        let moved = self.0.moved(inputs.len());
        if let Some(other) = inputs[..moved].iter().flatten().find(|f| f.dtype != dtype) {
            return Err(Error::invalid_argument(format!("inputs of {dtype} and {} cannot be joined", other.dtype)));
        }
        Ok(self.0.dims(inputs)?.into_iter().map(|dims| Fact::open(dtype, dims)).collect())
    }

    fn evaluate(&self, inputs: &[Option<&Tensor>]) -> Result<Vec<Tensor>> {
        let facts = known(inputs);
        let facts: Vec<Option<&Fact>> = facts.iter().map(Option::as_ref).collect();
        let shapes = self.shapes(&facts)?;
        let dtype = required(inputs, 0)?.dtype();
        let copies = self.0.copies(&facts, &shapes)?;
        if dtype == crate::tensor::DType::String {
            return move_strings(inputs, &shapes, &copies);
        }
        let size = dtype.bytes();
        let mut outputs: Vec<Vec<u8>> = shapes.iter().map(|s| vec![0; s.elements() * size]).collect();
        for (input, output, copy) in &copies {
            copy.apply(required(inputs, *input)?.bytes(), &mut outputs[*output], size);
        }
        shapes.into_iter().zip(outputs).map(|(shape, bytes)| Tensor::from_bytes(dtype, shape, bytes)).collect()
    }

    fn shape_inputs(&self) -> &'static [usize] {
        self.0.shape_inputs()
    }

    fn rows(&self, query: &RowsQuery<'_>) -> Vec<Rows> {
        self.0.rows(query)
    }

    fn reading_transposed(&self, _i: usize) -> Option<Arc<dyn Op>> {
        self.0.is_transposition().then(super::views::nothing)
    }

    fn expand(&self, inputs: &[Option<&Fact>], _profile: &Profile) -> Result<Option<Expansion>> {
        let Ok(shapes) = self.shapes(inputs) else { return Ok(None) };
        let [shape] = &shapes[..] else { return Ok(None) };
        let input = required(inputs, 0)?.shape().map(|s| s.elements());
        // Axes of extent 1 that change places, or an axis taken whole: nothing moves.
        let stays = input == Some(shape.elements()) && self.arrangement(0, inputs).is_some_and(|a| a.is_whole());
        Ok(stays.then(|| {
            let mut expansion = Expansion::default();
            let output = expansion.push(super::views::reshaping(shape), vec![Some(Wire::Input(0))], 1);
            Expansion { outputs: vec![Some(output)], ..expansion }
        }))
    }

    fn fuse(&self, node: &Node, around: &Surroundings<'_>) -> Option<Fused> {
        arranged::joined(node, around).or_else(|| joins::shorter(node, around))
    }

    fn arrangement(&self, output: usize, inputs: &[Option<&Fact>]) -> Option<Strided> {
        let shapes = self.shapes(inputs).ok()?;
        let mut copies = self.0.copies(inputs, &shapes).ok()?;
        copies.retain(|(_, to, _)| *to == output);
        match &copies[..] {
            [(0, _, copy)] => copy.arrangement(),
            _ => None,
        }
    }

    fn joins_channels(&self, rank: usize) -> bool {
        self.0.joins_channels(rank)
    }

    fn record(&self, recorder: &mut Recorder<'_>) -> Result<()> {
        if self.0.joins_channels(recorder.output(0).shape.rank()) && recorder.output(0).shape.rank() == 4 {
            return record_joined(recorder);
        }
        let facts: Vec<Option<&Fact>> = (0..recorder.input_count()).map(|i| recorder.fact(i)).collect();
        let shapes = self.shapes(&facts)?;
        for (input, output, copy) in self.0.copies(&facts, &shapes)? {
            if output < recorder.output_count() && shapes[output].elements() > 0 {
                let source = recorder.input(input)?.clone();
                copy.record(recorder, &source, output)?;
            }
        }
        Ok(())
    }
}

/// Strings are moved by their places: a copy of indices, looked up.
fn move_strings(inputs: &[Option<&Tensor>], shapes: &[Shape], copies: &[(usize, usize, Copy)]) -> Result<Vec<Tensor>> {
    let mut outputs: Vec<Vec<Bytes>> = shapes.iter().map(|s| vec![Bytes::new(); s.elements()]).collect();
    for (input, output, copy) in copies {
        let Some(source) = optional(inputs, *input) else { continue };
        let places: Vec<u64> = (1..=source.strings().len() as u64).collect();
        let mut moved = vec![0u64; outputs[*output].len()];
        copy.apply(bytemuck::cast_slice(&places), bytemuck::cast_slice_mut(&mut moved), 8);
        for (target, place) in outputs[*output].iter_mut().zip(moved).filter(|(_, p)| *p > 0) {
            *target = source.strings()[place as usize - 1].clone();
        }
    }
    shapes.iter().cloned().zip(outputs).map(|(shape, strings)| Tensor::from_strings(shape, strings)).collect()
}
