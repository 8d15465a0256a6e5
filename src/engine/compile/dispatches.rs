//! Units → dispatches: what a kernel and the chain behind it read, and where they store.

use std::ops::Range;
use std::sync::Arc;

use super::lower::{Failure, Lowering, Place};
use super::map::record_map;
use super::rooms::Spot;
use crate::engine::ir::{
    Arithmetic, BufferId, Chain, ChainOperand, Dispatch, Fact, Node, Operand, Planes, Recorder, Room, Scene, Storage,
    ValueId,
};
use crate::engine::kernels;
use crate::error::{Code, Error, Result};
use crate::tensor::Shape;

/// What is done behind a kernel, and to which value.
struct Behind {
    label: Arc<str>,
    chain: Chain,
    chain_buffers: Vec<BufferId>,
    stored: ValueId,
    out: Storage,
}

/// The kernels of one unit: what they read and write.
struct Kernels<'a> {
    facts: &'a [Option<&'a Fact>],
    inputs: Vec<Option<Operand>>,
    outputs: Vec<Operand>,
    behind: Behind,
}

impl Lowering<'_> {
    pub(super) fn device(
        &mut self,
        root: Option<usize>,
        mut chain: Chain,
        members: &[usize],
        stored: ValueId,
    ) -> Result<(), Failure> {
        self.program.nodes += 1;
        let label: Vec<&str> = members.iter().map(|m| self.graph.nodes[*m].name.as_str()).collect();
        let label: Arc<str> = label.join("+").into();
        let fact = self.fact(stored)?;
        let (shape, out) = (fact.concrete()?, self.storage(fact.dtype)?);
        let mut chain_buffers = Vec::with_capacity(chain.operands.len());
        for i in 0..chain.operands.len() {
            let ChainOperand { value, storage, .. } = chain.operands[i];
            let mut read = match storage {
                Storage::Packed(_) => self.constant(value)?,
                _ => self.operand(value)?,
            };
            if read.planes.is_some_and(|planes| chain.read_flat(i, &planes, &read.shape)) {
                read.planes = None;
            }
            chain_buffers.push(self.dense(value, &read)?);
        }
        let behind = Behind { label, chain, chain_buffers, stored, out };
        match root {
            None => {
                let (buffer, dtype) = (self.scratch(&shape, out), fact.dtype);
                let operand = Operand { buffer, storage: out, dtype, shape: shape.clone(), grid: None, planes: None };
                let kernels = Kernels { facts: &[], inputs: Vec::new(), outputs: vec![operand], behind };
                self.record(&kernels, |recorder| record_map(recorder, &shape))?;
            }
            Some(index) => self.record_root(index, behind)?,
        }
        Ok(())
    }

    /// The value as input `i` of `node` takes it.
    fn read(&mut self, node: &Node, i: usize, value: ValueId) -> Result<Operand> {
        match self.weight(value)? {
            Some(weight) => Ok(weight),
            None if node.op.reads_packed(i) => self.constant(value),
            None => self.operand(value),
        }
    }

    fn record_root(&mut self, index: usize, behind: Behind) -> Result<(), Failure> {
        let node = &self.graph.nodes[index];
        let facts = self.known.input_facts(node);
        let mut inputs = Vec::with_capacity(node.inputs.len());
        for value in &node.inputs {
            // Constants without a device form only give shapes: the recorder reads them from the facts.
            inputs.push(match value {
                Some(value) => match self.read(node, inputs.len(), *value) {
                    Ok(operand) => Some(operand),
                    Err(_) if self.known.constant(*value).is_some() => None,
                    Err(error) => return Err(error.at(node.describe()).into()),
                },
                None => None,
            });
        }
        let inferred = node.op.infer(&facts).map_err(|e| e.at(node.describe()))?;
        let used = node.outputs.iter().rposition(Option::is_some).map_or(0, |last| last + 1);
        let mut outputs = Vec::with_capacity(used);
        for (position, (value, fact)) in node.outputs.iter().zip(&inferred).take(used).enumerate() {
            let (shape, storage) = (fact.concrete().map_err(|e| e.at(node.describe()))?, self.storage(fact.dtype)?);
            // The first output's buffer holds what the chain makes of it; an unused one is written all the same.
            let buffer = self.scratch(&shape, if position == 0 { behind.out } else { storage });
            if let Some(value) = value.filter(|_| position > 0) {
                self.places[value.0].buffer = Some(buffer);
            }
            outputs.push(Operand { buffer, storage, dtype: fact.dtype, shape, grid: None, planes: None });
        }
        let flops = node.op.cost(&facts, &inferred).flops;
        let recorded =
            self.record(&Kernels { facts: &facts, inputs, outputs, behind }, |recorder| node.op.record(recorder));
        let dispatches = recorded.map_err(|error| {
            if error.code() == Code::Unimplemented {
                Failure::NoKernel { node: index, error }
            } else {
                Failure::Final(error.at(node.describe()))
            }
        })?;
        if flops > 0.0 {
            self.segment().arithmetic.push(Arithmetic { dispatches, flops });
        }
        Ok(())
    }

    /// Records what `write` does, in the spot that the value stored has if that can be.
    fn record(&mut self, unit: &Kernels<'_>, write: impl Fn(&mut Recorder<'_>) -> Result<()>) -> Result<Range<usize>> {
        self.device_segment();
        let spot = self.rooms.spots.get(&unit.behind.stored).copied();
        let spot = spot.map(|spot| (spot, self.room(&spot)));
        let (buffers, first) = (self.program.buffers.len(), self.segment().dispatches.len());
        let problems = self.segment().problems.len();
        self.attempt(unit, spot, &write)?;
        // No dispatch may read from and write to one buffer.
        let held = |dispatch: &Dispatch, buffer| dispatch.buffers.iter().filter(|b| **b == buffer).count();
        let dispatches = &self.segment().dispatches[first..];
        if spot.is_some_and(|(_, room)| dispatches.iter().any(|dispatch| held(dispatch, room.buffer) > 1)) {
            self.program.buffers.truncate(buffers);
            self.segment().dispatches.truncate(first);
            self.segment().problems.truncate(problems);
            self.attempt(unit, None, &write)?;
        }
        Ok(first..self.segment().dispatches.len())
    }

    fn attempt(
        &mut self,
        unit: &Kernels<'_>,
        spot: Option<(Spot, Room)>,
        write: &impl Fn(&mut Recorder<'_>) -> Result<()>,
    ) -> Result<()> {
        let Behind { label, chain, chain_buffers, stored, out } = &unit.behind;
        let (mut chain, mut outputs) = (chain.clone(), unit.outputs.clone());
        let room_of = |by_chain| spot.filter(|(spot, _)| spot.by_chain == by_chain).map(|(_, room)| room);
        let room = room_of(false);
        let by_chain = room_of(true).filter(|room| chain.store_flat(&room.planes, &outputs[0].shape));
        if let Some(room) = by_chain {
            outputs[0].buffer = room.buffer;
        }
        let last = self.program.segments.len() - 1;
        let segment = &mut self.program.segments[last];
        let mut recorder = Recorder::new(Scene {
            profile: self.profile,
            label: Arc::clone(label),
            facts: unit.facts,
            inputs: unit.inputs.clone(),
            outputs,
            chain: &chain,
            chain_buffers: chain_buffers.clone(),
            out: *out,
            room,
            buffers: &mut self.program.buffers,
            dispatches: &mut segment.dispatches,
            library: &kernels::function,
            choices: self.choices,
            problems: &mut segment.problems,
        });
        write(&mut recorder)?;
        let Operand { buffer, planes, shape, .. } = recorder.output(0);
        let planes = by_chain.map(|room| room.planes).or(*planes).filter(|planes| !planes.is_dense(shape));
        self.places[stored.0] = Place { buffer: Some(*buffer), planes, ..self.places[stored.0] };
        Ok(())
    }

    /// The buffer of a spot, and how the value lies there.
    fn room(&mut self, spot: &Spot) -> Room {
        let Spot { owner, planes, .. } = *spot;
        let held = self.shared.get(&owner).copied();
        let buffer = held.unwrap_or_else(|| self.scratch(&Shape::new([planes.elements]), Storage::F32));
        self.shared.insert(owner, buffer);
        Room { buffer, planes }
    }

    /// Whether all that a node gives is channels of what it reads.
    pub(super) fn is_cut(&self, index: usize) -> bool {
        let mut outputs = self.graph.nodes[index].outputs.iter().flatten();
        outputs.any(|output| self.rooms.channels.contains_key(output))
    }

    /// Lets the outputs of a node lie where its input does.
    pub(super) fn cut(&mut self, index: usize) -> Result<()> {
        let node = &self.graph.nodes[index];
        let mislaid = || Error::internal(format!("{} lacks its input, or channels of it", node.describe()));
        let input = self.operand(node.inputs.first().copied().flatten().ok_or_else(mislaid)?)?;
        let whole = input.planes.or_else(|| Planes::dense(&input.shape)).ok_or_else(mislaid)?;
        for output in node.outputs.iter().flatten() {
            let Some(channels) = self.rooms.channels.get(output).copied() else { continue };
            let shape = self.fact(*output)?.concrete()?;
            let planes = channels.of(whole, &shape).ok_or_else(mislaid)?;
            let planes = Some(planes).filter(|planes| !planes.is_dense(&shape));
            self.places[output.0] = Place { buffer: Some(input.buffer), planes, ..self.places[output.0] };
        }
        Ok(())
    }
}
