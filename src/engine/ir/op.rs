//! The contract that every operator fulfils.

use std::any::Any;
use std::fmt::Debug;
use std::sync::Arc;

use super::chain::{PointwiseBuilder, Reg};
use super::expansion::Expansion;
use super::fact::Fact;
use super::graph::Node;
use super::profile::Profile;
use super::quantized::{Quantized, WeightAxes};
use super::recorder::Recorder;
use super::rows::{Rows, RowsQuery};
use super::strided::Strided;
use super::surroundings::{Fused, Surroundings};
use crate::error::{Error, Result};
use crate::tensor::{Shape, Tensor};

/// One operator instance with its attributes.
///
/// `infer`, `evaluate` and the device's answer must agree: tests hold the latter two against each other on every adapter.
/// Inputs that the model leaves out are `None`; lists may be shorter than the operator's longest form.
pub trait Op: Any + Debug + Send + Sync {
    /// The operator's name as its standard spells it.
    fn name(&self) -> &'static str;

    /// Types and extents of the outputs. Must be exact when all input extents are fixed and shape-giving inputs constant.
    ///
    /// # Errors
    /// `INVALID_ARGUMENT` for inputs that the operator cannot take.
    fn infer(&self, inputs: &[Option<&Fact>]) -> Result<Vec<Fact>>;

    /// The outputs computed on the host: the oracle for kernels, constant folding, and host steps.
    ///
    /// # Errors
    /// `INVALID_ARGUMENT` for inputs that the operator cannot take.
    fn evaluate(&self, inputs: &[Option<&Tensor>]) -> Result<Vec<Tensor>>;

    /// Inputs whose values must be known before the outputs' extents, or the device work, can be: shapes, axes, conditions.
    fn shape_inputs(&self) -> &'static [usize] {
        &[]
    }

    /// Whether the outputs depend on what the inputs hold, not on their shapes alone.
    fn reads_values(&self) -> bool {
        true
    }

    /// Whether equal inputs always give equal outputs, so that it may be computed beforehand.
    fn is_pure(&self) -> bool {
        true
    }

    /// The operator as others, for inputs of known shapes, where that is how it runs on a device of this profile.
    ///
    /// # Errors
    /// `INVALID_ARGUMENT` for inputs that the operator cannot take.
    fn expand(&self, _inputs: &[Option<&Fact>], _profile: &Profile) -> Result<Option<Expansion>> {
        Ok(None)
    }

    /// Where the rows of a batch go. The default never claims that rows stay apart.
    fn rows(&self, query: &RowsQuery<'_>) -> Vec<Rows> {
        query.default_answer()
    }

    /// A cheaper equivalent, given which inputs are constant; tried once when a model is loaded.
    ///
    /// # Errors
    /// As [`Op::evaluate`], for constants that cannot be transformed.
    fn simplify(&self, _constants: &[Option<&Tensor>], _profile: &Profile) -> Result<Option<Replacement>> {
        Ok(None)
    }

    /// The per-channel scale and shift that this operator is, when its parameters are constant (batch normalisation).
    fn affine(&self, _constants: &[Option<&Tensor>]) -> Option<Affine> {
        None
    }

    /// This operator followed by `affine`, as one (a convolution takes it into weights and bias).
    fn absorb(&self, _constants: &[Option<&Tensor>], _affine: &Affine) -> Option<Replacement> {
        None
    }

    /// The constant of small integers that output 0 stands for, if restoring its numbers is all that is done.
    fn quantized(&self, _constants: &[Option<&Tensor>]) -> Option<Quantized> {
        None
    }

    /// Along which axes the kernels take scales when they restore the numbers of input `i`, of this shape, from packed
    /// integers; `None` if they cannot.
    fn weight_axes(&self, _i: usize, _shape: &Shape) -> Option<WeightAxes> {
        None
    }

    /// This operator reading matrix `i` transposed, where its kernels read packed weights faster so.
    fn reading_transposed(&self, _i: usize) -> Option<Arc<dyn Op>> {
        None
    }

    /// This operator giving the transpose of the matrix that it gives, all of its inputs being constants.
    ///
    /// # Errors
    /// As [`Op::evaluate`], for constants that cannot be transformed.
    fn giving_transposed(&self, _constants: &[Option<&Tensor>]) -> Result<Option<Replacement>> {
        Ok(None)
    }

    /// Whether the kernels read input `i` packed where it is a constant of small integers.
    fn reads_packed(&self, _i: usize) -> bool {
        false
    }

    /// Whether output 0 is input 0's bytes in the same order under another shape.
    fn is_view(&self) -> bool {
        false
    }

    /// Where the elements of an output lie in input 0, if moving them is all that is done; for inputs of known shapes.
    fn arrangement(&self, _output: usize, _inputs: &[Option<&Fact>]) -> Option<Strided> {
        None
    }

    /// What does the work of this node, `node`, and of others around it in one; tried once the shapes are known.
    fn fuse(&self, _node: &Node, _around: &Surroundings<'_>) -> Option<Fused> {
        None
    }

    /// Whether inputs may be sequences and optional values.
    fn takes_sequences(&self) -> bool {
        false
    }

    /// Whether output 0 is the sequence or optional value that holds the inputs, in order.
    fn holds_inputs(&self) -> bool {
        false
    }

    /// Which element of input 0, a sequence or an optional value, output 0 is, if it is one.
    fn element(&self) -> Option<usize> {
        None
    }

    /// Says the operator as a scalar expression over its inputs, if it is one for these types; such operators fuse.
    fn pointwise(&self, _builder: &mut PointwiseBuilder<'_>) -> Option<Reg> {
        None
    }

    /// Whether every element of output 0 is stored once, so that elementwise work can be done on it there.
    fn takes_epilogue(&self) -> bool {
        true
    }

    /// The output axis whose coordinate this operator's kernels pass to the epilogue.
    fn channel_axis(&self, _output_rank: usize) -> Option<usize> {
        None
    }

    /// Why this instance must run on the host, if it must.
    fn host_reason(&self, _inputs: &[Option<&Fact>], _profile: &Profile) -> Option<String> {
        None
    }

    /// Writes the dispatches that compute the outputs on a device.
    ///
    /// # Errors
    /// `UNIMPLEMENTED` for an operator without kernels; `RESOURCE_EXHAUSTED` naming a limit of the adapter.
    fn record(&self, recorder: &mut Recorder<'_>) -> Result<()> {
        let of = recorder.fact(0).map_or_else(String::new, |fact| format!(" of {} values", fact.dtype));
        Err(Error::unimplemented(format!("{}{of} has no kernel", self.name())))
    }

    /// The arithmetic done for these concrete shapes.
    fn cost(&self, _inputs: &[Option<&Fact>], _outputs: &[Fact]) -> Cost {
        Cost::default()
    }
}

/// Arithmetic work.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Cost {
    /// 2 × multiply-adds of convolutions, matrix products and their like.
    pub flops: f64,
}

/// `y = x × scale + shift` with one scale and shift for each entry of axis 1.
#[derive(Clone, Debug)]
pub struct Affine {
    /// Factors, one a channel.
    pub scale: Vec<f64>,
    /// Summands, one a channel.
    pub shift: Vec<f64>,
}

/// What a node becomes: another operator, reading some of the same inputs and new constants.
#[derive(Clone, Debug)]
pub struct Replacement {
    /// The new operator; its outputs are the old one's.
    pub op: Arc<dyn Op>,
    /// Its inputs.
    pub inputs: Vec<Option<Source>>,
}

/// Where a replacement's input comes from.
#[derive(Clone, Debug)]
pub enum Source {
    /// The old node's input of this index.
    Input(usize),
    /// A new constant.
    Constant(Tensor),
}
