//! Elementwise work fused into the kernel before it: a scalar program run on every value that a kernel stores.
//!
//! The program's text holds no shape and no attribute: numbers travel in a uniform array of words, so that equal chains of
//! operators share one pipeline.

use super::fact::Fact;
use super::graph::ValueId;
use super::planes::Planes;
use super::profile::{Class, Profile, Storage};
use crate::tensor::{DType, Shape, Tensor};

/// Outputs of at most this many elements read every operand in the general way: few kernels then serve all small tensors, whose
/// time goes into compiling and starting.
pub const SMALL_ELEMENTS: usize = 512;
/// Axes that the shader function `strided` takes.
pub(super) const STRIDED_AXES: usize = 4;

/// A scalar inside a chain.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Reg(pub(super) usize);

/// How an operand of a chain is read for output element `i`.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Access {
    /// Element `i`.
    Same,
    /// Element 0.
    Scalar,
    /// Element `c`, the coordinate that the kernel passes.
    Channel,
    /// Element `i / inner % count`.
    Cycle {
        /// Output elements for one step.
        inner: usize,
        /// Elements of the operand.
        count: usize,
    },
    /// Element `first + i + i / inner × gap`.
    Flat {
        /// Elements of the operand that lie side by side.
        inner: usize,
        /// Elements between the end of these and the next ones.
        gap: usize,
        /// The first element.
        first: usize,
    },
    /// General broadcasting: (extent, operand stride) of the collapsed output axes, outermost first.
    Strided(Vec<(usize, usize)>),
}

/// The numbers that reading by `access` needs. Those of `strided` are two vectors, innermost axis first.
fn access_words(access: &Access) -> Vec<usize> {
    match access {
        Access::Cycle { inner, count } => vec![*inner, *count],
        Access::Flat { inner, gap, first } => vec![*inner, *gap, *first],
        Access::Strided(axes) if axes.len() <= STRIDED_AXES => {
            let mut words = [1, 1, 1, 1, 0, 0, 0, 0];
            for (at, (extent, stride)) in axes.iter().rev().enumerate() {
                (words[at], words[STRIDED_AXES + at]) = (*extent, *stride);
            }
            words.to_vec()
        }
        Access::Strided(axes) => axes.iter().flat_map(|(n, s)| [*n, *s]).collect(),
        Access::Same | Access::Scalar | Access::Channel => Vec::new(),
    }
}

/// How images of extents `shape` are read element by element in `planes`, if these follow each other without gaps.
fn flat(planes: &Planes, shape: &Shape) -> Option<Access> {
    let inner = shape[1..].iter().product::<usize>();
    let gap = if shape[0] > 1 { planes.image.checked_sub(inner)? } else { 0 };
    planes.is_flat(shape).then_some(Access::Flat { inner, gap, first: planes.first })
}

impl Access {
    /// How an operand of shape `input`, its first axis aligned with output axis `first_axis`, is read under `output`.
    /// `channel_axis` is the output axis whose coordinate the kernel knows.
    fn new(input: &[usize], first_axis: usize, output: &[usize], channel_axis: Option<usize>) -> Self {
        let strides = Shape::from(input).strides();
        let stride = |axis: usize| match axis.checked_sub(first_axis).filter(|i| *i < input.len()) {
            Some(i) if input[i] != 1 => strides[i],
            _ => 0,
        };
        let mut axes: Vec<(usize, usize)> = Vec::new();
        for (axis, extent) in output.iter().copied().enumerate().filter(|(_, extent)| *extent != 1) {
            let next = stride(axis);
            match axes.last_mut() {
                Some((n, s)) if (*s == 0 && next == 0) || (next != 0 && *s == next * extent) => {
                    *n *= extent;
                    *s = next;
                }
                _ => axes.push((extent, next)),
            }
        }
        if output.iter().product::<usize>() <= SMALL_ELEMENTS && axes.len() <= STRIDED_AXES {
            return Access::Strided(axes);
        }
        let varying: Vec<_> = axes.iter().enumerate().filter(|(_, (_, s))| *s != 0).collect();
        match varying[..] {
            [] => Access::Scalar,
            [(_, (_, 1))] if axes.len() == 1 => Access::Same,
            [(position, (count, 1))] => {
                let inner = axes[position + 1..].iter().map(|(n, _)| n).product();
                let channel = channel_axis.map(|a| (output[a], output[a + 1..].iter().product()));
                if channel == Some((*count, inner)) { Access::Channel } else { Access::Cycle { inner, count: *count } }
            }
            _ => Access::Strided(axes),
        }
    }

    /// Whether any four elements in a row, from a multiple of four on, lie so in the operand too; of images that lie flat.
    pub(super) fn keeps_fours(&self) -> bool {
        match self {
            Access::Flat { inner, gap, first } => {
                first.is_multiple_of(4) && (*gap == 0 || [inner, gap].iter().all(|n| n.is_multiple_of(4)))
            }
            _ => false,
        }
    }
}

/// A tensor that a chain reads beside the kernel's own inputs.
#[derive(Clone, Debug)]
pub struct ChainOperand {
    /// Which value of the graph.
    pub value: ValueId,
    /// How it lies on the device.
    pub storage: Storage,
    /// Which element belongs to which output.
    pub access: Access,
}

#[derive(Clone, Debug)]
pub(super) enum Step {
    /// The value that the kernel computed.
    Value,
    /// An element of an operand.
    Load { operand: usize, words: usize },
    /// A number from the words: one, or two for 64 bits, the lower first.
    Word { word: usize },
    /// A function of the shader library.
    Call { function: &'static str, arguments: Vec<Reg> },
    /// A WGSL conversion.
    Convert { from: Reg },
}

/// A scalar program. Its last register is what is stored.
#[derive(Clone, Debug, Default)]
pub struct Chain {
    pub(super) steps: Vec<(Step, Class)>,
    /// Tensors read, in binding order.
    pub operands: Vec<ChainOperand>,
    /// Numbers read, as bits.
    pub words: Vec<u32>,
    pub(super) result: Option<Reg>,
    /// Where element `i` is stored and the first word that says so; `None` for place `i`.
    pub(super) stored: Option<(Access, usize)>,
}

impl Chain {
    /// A chain that stores the kernel's value as it is.
    pub fn identity(class: Class) -> Self {
        let mut chain = Self::default();
        let value = chain.value(class);
        chain.finish(value);
        chain
    }

    /// The kernel's value, to build on.
    pub fn value(&mut self, class: Class) -> Reg {
        self.push(Step::Value, class)
    }

    /// Makes `result` what is stored.
    pub fn finish(&mut self, result: Reg) {
        self.result = Some(result);
    }

    /// What is stored so far.
    pub fn result(&self) -> Option<Reg> {
        self.result
    }

    /// Whether nothing is done to the value.
    pub fn is_identity(&self) -> bool {
        self.steps.len() == 1 && matches!(self.steps[0].0, Step::Value)
    }

    /// Reads operand `i`, images of extents `shape` that are read element by element, where they lie in `planes`; says whether that
    /// can be done.
    pub fn read_flat(&mut self, i: usize, planes: &Planes, shape: &Shape) -> bool {
        let flat = flat(planes, shape).filter(|_| self.operands[i].access == Access::Same);
        let Some((access, words)) = flat.and_then(|access| self.push_access(access)) else { return false };
        for (step, _) in &mut self.steps {
            match step {
                Step::Load { operand, words: own } if *operand == i => *own = words,
                _ => {}
            }
        }
        self.operands[i].access = access;
        true
    }

    /// Stores results, images of extents `shape`, where they lie in `planes`; says whether that can be done.
    pub fn store_flat(&mut self, planes: &Planes, shape: &Shape) -> bool {
        self.stored = flat(planes, shape).filter(Access::keeps_fours).and_then(|access| self.push_access(access));
        self.stored.is_some()
    }

    fn push_access(&mut self, access: Access) -> Option<(Access, usize)> {
        let words = access_words(&access).into_iter().map(u32::try_from).collect::<Result<Vec<_>, _>>().ok()?;
        if matches!(access, Access::Strided(_)) {
            self.align_words();
        }
        Some((access, self.push_words(words)))
    }

    fn push(&mut self, step: Step, class: Class) -> Reg {
        self.steps.push((step, class));
        Reg(self.steps.len() - 1)
    }

    pub(super) fn class(&self, reg: Reg) -> Class {
        self.steps[reg.0].1
    }

    fn push_words(&mut self, words: impl IntoIterator<Item = u32>) -> usize {
        let at = self.words.len();
        self.words.extend(words);
        at
    }

    /// Lets the next words begin a vector.
    fn align_words(&mut self) {
        self.words.resize(self.words.len().next_multiple_of(4), 0);
    }
}

/// One input of a pointwise operator while a chain is built.
#[derive(Clone, Debug)]
pub struct PointwiseInput<'a> {
    /// What is known of it.
    pub fact: &'a Fact,
    /// Which value it is.
    pub value: ValueId,
    /// Where the chain holds it, if it was computed there.
    pub reg: Option<Reg>,
}

/// Lets an operator say itself as a scalar program. Methods return `None` for what cannot be said on this device; the
/// operator passes that on with `?` and is run in another way.
#[derive(Debug)]
pub struct PointwiseBuilder<'a> {
    chain: &'a mut Chain,
    inputs: &'a [Option<PointwiseInput<'a>>],
    output: &'a Fact,
    output_shape: Shape,
    channel_axis: Option<usize>,
    profile: &'a Profile,
}

impl<'a> PointwiseBuilder<'a> {
    /// A builder that appends to `chain` for an operator with these inputs and this output of concrete shape.
    pub fn new(
        chain: &'a mut Chain,
        inputs: &'a [Option<PointwiseInput<'a>>],
        output: &'a Fact,
        channel_axis: Option<usize>,
        profile: &'a Profile,
    ) -> Option<Self> {
        let output_shape = output.shape()?;
        Some(Self { chain, inputs, output, output_shape, channel_axis, profile })
    }

    /// What is known of input `i`, if it is given.
    pub fn fact(&self, i: usize) -> Option<&'a Fact> {
        Some(self.inputs.get(i)?.as_ref()?.fact)
    }

    /// The dtype of the output.
    pub fn output_dtype(&self) -> DType {
        self.output.dtype
    }

    /// How many inputs there are.
    pub fn input_count(&self) -> usize {
        self.inputs.len()
    }

    /// The class that a value of `dtype` is computed in here.
    pub fn class_of(&self, dtype: DType) -> Option<Class> {
        Some(self.profile.storage(dtype)?.class())
    }

    /// Input `i`, broadcast to the output by trailing axes.
    pub fn input(&mut self, i: usize) -> Option<Reg> {
        let rank = self.fact(i)?.rank()?;
        let first_axis = self.output_shape.rank().checked_sub(rank)?;
        self.input_at(i, first_axis)
    }

    /// Input `i` with its first axis aligned to output axis `first_axis`.
    pub fn input_at(&mut self, i: usize, first_axis: usize) -> Option<Reg> {
        let shape = self.fact(i)?.shape()?;
        let (output, channel_axis) = (self.output_shape.clone(), self.channel_axis);
        self.read(i, || Access::new(&shape, first_axis, &output, channel_axis))
    }

    /// Input `i` as if it had the shape `input` and the output the shape `output`, of as many elements each as they have,
    /// broadcast by trailing axes.
    pub fn input_viewed(&mut self, i: usize, input: &[usize], output: &[usize]) -> Option<Reg> {
        let first_axis = output.len().checked_sub(input.len())?;
        self.read(i, || Access::new(input, first_axis, output, None))
    }

    fn read(&mut self, i: usize, access: impl FnOnce() -> Access) -> Option<Reg> {
        let input = self.inputs.get(i)?.as_ref()?;
        if let Some(reg) = input.reg {
            return Some(reg);
        }
        let shape = input.fact.shape()?;
        if let Some(constant) = input.fact.value.as_ref().filter(|_| shape.elements() == 1) {
            return self.constant(constant);
        }
        let storage = match &input.fact.value {
            Some(constant) => self.profile.constant_storage(constant)?,
            None => self.profile.storage(input.fact.dtype)?,
        };
        let (access, words) = self.chain.push_access(access())?;
        self.chain.operands.push(ChainOperand { value: input.value, storage, access });
        let operand = self.chain.operands.len() - 1;
        Some(self.chain.push(Step::Load { operand, words }, storage.class()))
    }

    /// The one element of `tensor`, which does not show in the text.
    fn constant(&mut self, tensor: &Tensor) -> Option<Reg> {
        let whole = || tensor.to_i64s().ok().map(|v| v[0]);
        match self.class_of(tensor.dtype())? {
            Class::F32 => Some(self.constant_f32(tensor.to_f32s().ok()?[0])),
            Class::I32 => Some(self.constant_i32(i32::try_from(whole()?).ok()?)),
            Class::U32 => Some(self.constant_u32(u32::try_from(whole()?).ok()?)),
            class @ Class::I64 => Some(self.wide(whole()?.cast_unsigned(), class)),
            class @ Class::U64 => Some(self.wide(tensor.values::<u64>().ok()?[0], class)),
            class @ Class::F64 => Some(self.wide(tensor.to_f64s().ok()?[0].to_bits(), class)),
        }
    }

    fn wide(&mut self, bits: u64, class: Class) -> Reg {
        let word = self.chain.push_words([bits as u32, (bits >> 32) as u32]);
        self.chain.push(Step::Word { word }, class)
    }

    /// A float that does not show in the text.
    pub fn constant_f32(&mut self, value: f32) -> Reg {
        self.word(value.to_bits(), Class::F32)
    }

    /// A signed integer that does not show in the text.
    pub fn constant_i32(&mut self, value: i32) -> Reg {
        self.word(value.cast_unsigned(), Class::I32)
    }

    /// An unsigned integer that does not show in the text.
    pub fn constant_u32(&mut self, value: u32) -> Reg {
        self.word(value, Class::U32)
    }

    fn word(&mut self, bits: u32, class: Class) -> Reg {
        let word = self.chain.push_words([bits]);
        self.chain.push(Step::Word { word }, class)
    }

    /// A function of `shaders/lib/pointwise*.wgsl` that returns a value of `class`.
    pub fn call(&mut self, function: &'static str, arguments: &[Reg], class: Class) -> Reg {
        self.chain.push(Step::Call { function, arguments: arguments.to_vec() }, class)
    }

    /// `reg` converted as WGSL converts scalars; itself where the class is the same.
    pub fn convert(&mut self, reg: Reg, class: Class) -> Reg {
        if self.chain.class(reg) == class { reg } else { self.chain.push(Step::Convert { from: reg }, class) }
    }

    /// The class of a scalar.
    pub fn class(&self, reg: Reg) -> Class {
        self.chain.class(reg)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn accesses_are_recognised() {
        let output = [200, 3, 4];
        assert_eq!(Access::new(&[200, 3, 4], 0, &output, None), Access::Same);
        assert_eq!(Access::new(&[1, 1], 1, &output, None), Access::Scalar);
        assert_eq!(Access::new(&[3, 1], 1, &output, None), Access::Cycle { inner: 4, count: 3 });
        assert_eq!(Access::new(&[3, 1], 1, &output, Some(1)), Access::Channel);
        assert_eq!(Access::new(&[4], 2, &output, None), Access::Cycle { inner: 1, count: 4 });
        assert_eq!(Access::new(&[200, 1, 4], 0, &output, None), Access::Strided(vec![(200, 4), (3, 0), (4, 1)]));
        assert_eq!(Access::new(&[200, 1, 1], 0, &output, None), Access::Cycle { inner: 12, count: 200 });
        // Small ones are all read alike.
        assert_eq!(Access::new(&[3, 1], 1, &[2, 3, 4], None), Access::Strided(vec![(2, 0), (3, 1), (4, 0)]));
    }
}
