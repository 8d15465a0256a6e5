//! What an operator writes its dispatches to.

use std::fmt::Display;
use std::sync::Arc;

use super::chain::Chain;
use super::choices::{Choices, Problem, chosen};
use super::fact::Fact;
use super::form::Form;
use super::kernel::{Define, Library, Link, Shader};
use super::planes::Planes;
use super::profile::{Profile, Storage};
use super::program::{Buffer, BufferId, Dispatch};
use crate::error::{Error, Result};
use crate::tensor::{DType, Shape, Tensor};

/// A tensor in device memory.
#[derive(Clone, Debug)]
pub struct Operand {
    /// Where.
    pub buffer: BufferId,
    /// How its elements lie.
    pub storage: Storage,
    /// Its type on the host.
    pub dtype: DType,
    /// Its extents.
    pub shape: Shape,
    /// How the numbers it stands for are restored, where its elements are packed integers that stand for others.
    pub grid: Option<OperandGrid>,
    /// How its images lie; `None` where all elements lie side by side.
    pub planes: Option<Planes>,
}

/// A place for output 0 that suits its readers better than a buffer of its own.
#[derive(Clone, Copy, Debug)]
pub struct Room {
    /// The buffer, perhaps with rooms for other values.
    pub buffer: BufferId,
    /// How the output lies there.
    pub planes: Planes,
}

/// A [`Grid`](super::quantized::Grid) in device memory.
#[derive(Clone, Copy, Debug)]
pub struct OperandGrid {
    /// Its values.
    pub buffer: BufferId,
    /// Extent of a block along the terms; `None` when each channel has one block.
    pub block: Option<usize>,
    /// Entries of a row.
    pub channels: usize,
    /// Where zero points start, if there are any.
    pub zeros: Option<usize>,
    /// Whether there are scales.
    pub has_scales: bool,
}

/// One dispatch as an operator states it.
#[derive(Debug)]
pub struct Work<'a> {
    /// What runs.
    pub shader: &'a Shader,
    /// The header that its text expects, besides `Value` and `Out`.
    pub defines: &'a [Define],
    /// The storage buffers, in binding order, the shader's own only.
    pub buffers: &'a [BufferId],
    /// The words of its `Params` uniform; empty when it has none.
    pub params: &'a [u32],
    /// Workgroups along x, y, z.
    pub groups: [u32; 3],
}

/// Records the device work of one node and of the chain fused behind it.
pub struct Recorder<'a> {
    /// What the adapter can do.
    pub profile: &'a Profile,
    label: Arc<str>,
    facts: &'a [Option<&'a Fact>],
    inputs: Vec<Option<Operand>>,
    outputs: Vec<Operand>,
    chain: &'a Chain,
    chain_buffers: Vec<BufferId>,
    out: Storage,
    room: Option<Room>,
    buffers: &'a mut Vec<Buffer>,
    dispatches: &'a mut Vec<Dispatch>,
    library: &'a Library,
    choices: &'a Choices,
    problems: &'a mut Vec<Problem>,
    /// Where the node's own problems start.
    first_problem: usize,
}

/// Everything that a [`Recorder`] works on.
pub struct Scene<'a> {
    /// What the adapter can do.
    pub profile: &'a Profile,
    /// The node, for labels.
    pub label: Arc<str>,
    /// Facts of the node's inputs.
    pub facts: &'a [Option<&'a Fact>],
    /// Where the inputs lie; `None` for those absent.
    pub inputs: Vec<Option<Operand>>,
    /// Where the outputs go, typed as the node itself gives them.
    pub outputs: Vec<Operand>,
    /// What is done to each value of output 0 before it is stored.
    pub chain: &'a Chain,
    /// Where the chain's operands lie.
    pub chain_buffers: Vec<BufferId>,
    /// How the stored result lies: the chain may change the node's own type.
    pub out: Storage,
    /// Where output 0 would better be put: the chain reads nothing there that depends on where an element is stored.
    pub room: Option<Room>,
    /// The program's buffers, to add to.
    pub buffers: &'a mut Vec<Buffer>,
    /// The segment's dispatches, to add to.
    pub dispatches: &'a mut Vec<Dispatch>,
    /// The text of library functions.
    pub library: &'a Library,
    /// What is chosen for which problem.
    pub choices: &'a Choices,
    /// The segment's problems, to add to.
    pub problems: &'a mut Vec<Problem>,
}

impl<'a> Recorder<'a> {
    /// A recorder for one node.
    pub fn new(scene: Scene<'a>) -> Self {
        Self {
            profile: scene.profile,
            label: scene.label,
            facts: scene.facts,
            inputs: scene.inputs,
            outputs: scene.outputs,
            chain: scene.chain,
            chain_buffers: scene.chain_buffers,
            out: scene.out,
            room: scene.room,
            buffers: scene.buffers,
            dispatches: scene.dispatches,
            library: scene.library,
            choices: scene.choices,
            first_problem: scene.problems.len(),
            problems: scene.problems,
        }
    }

    /// Facts of input `i`: shape-giving inputs have their value here and need not be read on the device.
    pub fn fact(&self, i: usize) -> Option<&'a Fact> {
        self.facts.get(i).copied().flatten()
    }

    /// Input `i` in device memory, if it is given.
    pub fn optional_input(&self, i: usize) -> Option<&Operand> {
        self.inputs.get(i)?.as_ref()
    }

    /// Input `i` in device memory.
    ///
    /// # Errors
    /// `INVALID_ARGUMENT` when the model leaves it out.
    pub fn input(&self, i: usize) -> Result<&Operand> {
        self.optional_input(i).ok_or_else(|| Error::invalid_argument(format!("input {i} is missing")))
    }

    /// How many inputs the node has.
    pub fn input_count(&self) -> usize {
        self.inputs.len()
    }

    /// Output `i`, with the node's own type (before the chain).
    pub fn output(&self, i: usize) -> &Operand {
        &self.outputs[i]
    }

    /// How output 0 would better lie. A kernel that can store it so calls [`Recorder::take_room`] first. Where that makes one of
    /// its dispatches read from and write to one buffer, all is recorded again without a room.
    pub fn room(&self) -> Option<Room> {
        self.room
    }

    /// Puts output 0 where its readers would have it.
    pub fn take_room(&mut self) {
        if let Some(room) = self.room.take() {
            self.outputs[0].buffer = room.buffer;
            self.outputs[0].planes = Some(room.planes);
        }
    }

    /// How many outputs the node has.
    pub fn output_count(&self) -> usize {
        self.outputs.len()
    }

    /// Which of `candidates` does the device work that this node records from here on: the first, the deterministic default,
    /// unless another is chosen for the problem of this `key`. Candidates are named by their text.
    pub fn choose<T: Display>(&mut self, key: impl FnOnce() -> String, candidates: &[T]) -> usize {
        if candidates.len() < 2 {
            return 0;
        }
        let (key, candidates) = (key(), candidates.iter().map(T::to_string).collect::<Vec<_>>());
        let chosen = chosen(self.choices, &key, &candidates);
        let dispatches = self.dispatches.len()..self.dispatches.len();
        self.problems.push(Problem { key, candidates, chosen, dispatches });
        chosen
    }

    /// What is done to values of output 0 before they are stored, in a word for the keys of problems.
    pub fn epilogue(&self) -> String {
        let functions: Vec<_> = self.chain.functions().into_iter().collect();
        if functions.is_empty() { "none".into() } else { functions.join("+") }
    }

    /// A buffer for intermediate results of this node.
    pub fn scratch(&mut self, shape: Shape, dtype: DType, storage: Storage) -> Operand {
        let bytes = (storage.size(shape.elements()) as u64).next_multiple_of(4).max(4);
        let buffer = self.add(Buffer::Scratch { bytes, pool: 0 });
        Operand { buffer, storage, dtype, shape, grid: None, planes: None }
    }

    /// Whether a buffer holds a constant.
    pub fn is_constant(&self, buffer: BufferId) -> bool {
        matches!(self.buffers[buffer.0], Buffer::Constant { .. })
    }

    /// The constant in `buffer`, laid out anew; `None` where that holds no constant as it is.
    pub fn formed(&mut self, buffer: BufferId, form: &Form) -> Option<BufferId> {
        let Buffer::Constant { tensor, storage, form: None } = &self.buffers[buffer.0] else { return None };
        let (tensor, storage) = (tensor.clone(), *storage);
        Some(self.add(Buffer::Constant { tensor, storage, form: Some(form.clone()) }))
    }

    /// Vectors of four words in a buffer, a last one that is not full among them: it can be read all the same.
    pub fn vectors(&self, buffer: BufferId) -> usize {
        match &self.buffers[buffer.0] {
            Buffer::Scratch { bytes, .. } => bytes.div_ceil(16) as usize,
            constant @ Buffer::Constant { .. } => constant.constant_bytes().div_ceil(16),
            Buffer::Table(words) => words.len().div_ceil(4),
        }
    }

    /// A constant of the operator's own.
    pub fn constant(&mut self, tensor: Tensor, storage: Storage) -> Operand {
        let (dtype, shape) = (tensor.dtype(), tensor.shape().clone());
        let buffer = self.add(Buffer::Constant { tensor, storage, form: None });
        Operand { buffer, storage, dtype, shape, grid: None, planes: None }
    }

    /// A read-only table of words.
    pub fn table(&mut self, words: impl Into<Arc<[u32]>>) -> BufferId {
        self.add(Buffer::Table(words.into()))
    }

    fn add(&mut self, buffer: Buffer) -> BufferId {
        self.buffers.push(buffer);
        BufferId(self.buffers.len() - 1)
    }

    /// Adds a dispatch that stores values of output 0: the fused chain runs on each of them.
    ///
    /// # Errors
    /// `INTERNAL` when shader and buffers do not fit; `RESOURCE_EXHAUSTED` naming a limit of the adapter.
    pub fn dispatch(&mut self, work: &Work<'_>) -> Result<()> {
        let chain = self.chain;
        let buffers = self.chain_buffers.clone();
        self.push(work, chain, &buffers, self.out)
    }

    /// Adds a dispatch that stores values as they are into a buffer of storage `out`: intermediate results, and outputs
    /// other than output 0.
    ///
    /// # Errors
    /// As [`Recorder::dispatch`].
    pub fn dispatch_plain(&mut self, work: &Work<'_>, out: Storage) -> Result<()> {
        self.push(work, &Chain::identity(out.class()), &[], out)
    }

    fn push(&mut self, work: &Work<'_>, chain: &Chain, operands: &[BufferId], out: Storage) -> Result<()> {
        if work.groups.contains(&0) {
            return Ok(());
        }
        if let Some(groups) = work.groups.iter().find(|g| **g > self.profile.max_workgroups) {
            return Err(Error::resource_exhausted(format!(
                "{} needs {groups} workgroups along one axis, the adapter takes {}",
                work.shader.name, self.profile.max_workgroups
            )));
        }
        // The value's class is the node's own output type, except for plain dispatches, which store what they compute.
        let class = if std::ptr::eq(chain, self.chain) { self.outputs[0].storage.class() } else { out.class() };
        let link = Link { defines: work.defines, class, out, chain, library: self.library };
        let kernel = work.shader.link(&link)?;
        let mut buffers = work.buffers.to_vec();
        buffers.extend(operands);
        let mut uniforms = Vec::new();
        if !work.params.is_empty() {
            uniforms.push(work.params.to_vec());
        }
        if work.shader.target.is_some() && !chain.words.is_empty() {
            uniforms.push(chain.words.clone());
        }
        let storage_bindings = kernel.bindings.len() - uniforms.len();
        if storage_bindings != buffers.len() {
            return Err(Error::internal(format!(
                "{} has {} bindings, got {} buffers and {} uniforms",
                work.shader.name,
                kernel.bindings.len(),
                buffers.len(),
                uniforms.len()
            )));
        }
        let label = Arc::clone(&self.label);
        for problem in &mut self.problems[self.first_problem..] {
            problem.dispatches.end += 1;
        }
        self.dispatches.push(Dispatch { label, kernel, buffers, uniforms, groups: work.groups });
        Ok(())
    }
}

/// The grid for `count` invocations in workgroups of `group` along x, folded into y where x would pass `max` groups.
/// Kernels find their index as `(group.y × groups.x + group.x) × size + local` and stop past the end.
pub fn linear_groups(count: usize, group: u32, max: u32) -> [u32; 3] {
    let groups = u32::try_from(count.div_ceil(group as usize)).unwrap_or(u32::MAX);
    if groups <= max { [groups, 1, 1] } else { [max, groups.div_ceil(max), 1] }
}
