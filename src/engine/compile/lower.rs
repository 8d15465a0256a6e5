//! Units → a program: buffers, dispatches, and what crosses between host and device.

use std::collections::HashMap;
use std::sync::Arc;

use super::dequantised::{Restored, restored};
use super::fuse::fuse;
use super::group::{Unit, units};
use super::plan::assign_pools;
use super::rooms::{Rooms, rooms};
use super::scales::take_scales;
use super::specialise::{Specialised, specialise};
use crate::engine::ir::{
    Buffer, BufferId, Choices, Fact, Given, Graph, HostStep, Operand, OperandGrid, Planes, Port, Profile, Program,
    Segment, Slot, Storage, ValueId,
};
use crate::error::{Error, Result};
use crate::tensor::{DType, Shape, Tensor};

/// Compiles `graph` for these inputs, in the signature's order: as far as shapes can be known before anything has run; the
/// rest is handed over in [`Program::rest`]. Where there are several ways to do something, `choices` says which is taken.
///
/// # Errors
/// `INVALID_ARGUMENT` naming the node that cannot take the inputs, `RESOURCE_EXHAUSTED` naming a limit of the adapter.
pub fn compile(graph: &Graph, inputs: &[Given], profile: &Profile, choices: &Choices) -> Result<Program> {
    let mut known = specialise(graph, inputs, profile)?;
    fuse(&mut known, profile);
    take_scales(&mut known, profile);
    let graph = &known.graph;
    let mut forced_host = HashMap::new();
    for index in known.live.iter().filter(|n| known.is_dynamic(&graph.nodes[**n])) {
        let reason = graph.nodes[*index].op.host_reason(&known.input_facts(&graph.nodes[*index]), profile);
        forced_host.insert(*index, reason.unwrap_or_else(|| "its output shape depends on data".into()));
    }
    loop {
        match Lowering::new(graph, &known, profile, choices).run(&forced_host) {
            Ok(program) => return Ok(program),
            // A node without a kernel for its case becomes a host step, under its own name in every report.
            Err(Failure::NoKernel { node, error }) => {
                if forced_host.insert(node, error.message().to_owned()).is_some() {
                    return Err(error.at(graph.nodes[node].describe()));
                }
            }
            Err(Failure::Final(error)) => return Err(error),
        }
    }
}

pub(super) enum Failure {
    NoKernel { node: usize, error: Error },
    Final(Error),
}

impl From<Error> for Failure {
    fn from(error: Error) -> Self {
        Failure::Final(error)
    }
}

/// Where a value is.
#[derive(Clone, Copy, Default)]
pub(super) struct Place {
    pub(super) slot: Option<Slot>,
    pub(super) buffer: Option<BufferId>,
    /// A constant's packed form.
    pub(super) packed: Option<BufferId>,
    /// How it lies there, where it is not dense.
    pub(super) planes: Option<Planes>,
}

pub(super) struct Lowering<'a> {
    pub(super) graph: &'a Graph,
    pub(super) known: &'a Specialised,
    pub(super) profile: &'a Profile,
    pub(super) choices: &'a Choices,
    pub(super) places: Vec<Place>,
    restored: HashMap<ValueId, Restored>,
    pub(super) rooms: Rooms,
    /// The buffers of the owners of spots.
    pub(super) shared: HashMap<ValueId, BufferId>,
    pub(super) program: Program,
}

impl<'a> Lowering<'a> {
    fn new(graph: &'a Graph, known: &'a Specialised, profile: &'a Profile, choices: &'a Choices) -> Self {
        let program = Program {
            buffers: Vec::new(),
            segments: vec![Segment::default()],
            slots: 0,
            inputs: Vec::new(),
            outputs: Vec::new(),
            rest: None,
            known: Vec::new(),
            nodes: 0,
            flops: 0.0,
        };
        let places = vec![Place::default(); graph.values.len()];
        let (restored, rooms, shared) = (HashMap::new(), Rooms::default(), HashMap::new());
        Self { graph, known, profile, choices, places, restored, rooms, shared, program }
    }

    fn run(mut self, forced_host: &HashMap<usize, String>) -> Result<Program, Failure> {
        for input in &self.graph.inputs {
            let slot = self.new_slot();
            self.places[input.0].slot = Some(slot);
            self.program.inputs.push(slot);
        }
        for index in &self.known.live {
            let node = &self.graph.nodes[*index];
            let (inputs, outputs) = (self.known.input_facts(node), self.known.output_facts(node));
            self.program.flops += node.op.cost(&inputs, &outputs).flops;
        }
        self.restored = restored(self.graph, self.known, self.profile, forced_host);
        let units = units(self.graph, self.known, self.profile, forced_host, &self.restored);
        self.rooms = rooms(self.graph, self.known, self.profile, &units);
        for unit in units {
            match unit {
                Unit::Device { root: Some(root), .. } if self.is_cut(root) => self.cut(root)?,
                Unit::Device { root, chain, members, output } => self.device(root, chain, &members, output)?,
                Unit::View(index) => self.view(index)?,
                Unit::Host(index, reason) => self.host(index, reason)?,
            }
        }
        self.hand_over()?;
        assign_pools(&mut self.program);
        Ok(self.program)
    }

    pub(super) fn name(&self, value: ValueId) -> &str {
        &self.graph.values[value.0].name
    }

    pub(super) fn fact(&self, value: ValueId) -> Result<&'a Fact> {
        let fact = self.known.fact(value);
        fact.ok_or_else(|| Error::internal(format!("nothing is known of value {:?}", self.name(value))))
    }

    fn new_slot(&mut self) -> Slot {
        self.program.slots += 1;
        Slot(self.program.slots - 1)
    }

    pub(super) fn segment(&mut self) -> &mut Segment {
        if self.program.segments.is_empty() {
            self.program.segments.push(Segment::default());
        }
        let last = self.program.segments.len() - 1;
        &mut self.program.segments[last]
    }

    /// The segment that device work may be added to: a new one after host steps.
    pub(super) fn device_segment(&mut self) -> &mut Segment {
        if !self.segment().host_steps.is_empty() {
            self.program.segments.push(Segment::default());
        }
        self.segment()
    }

    /// The value in host memory when the current segment is done.
    pub(super) fn host_slot(&mut self, value: ValueId) -> Result<Slot> {
        if let Some(slot) = self.places[value.0].slot {
            return Ok(slot);
        }
        let slot = self.new_slot();
        self.places[value.0].slot = Some(slot);
        let fact = self.fact(value)?;
        if let Some(constant) = &fact.value {
            self.program.known.push((slot, constant.clone()));
            return Ok(slot);
        }
        let Place { buffer, planes, .. } = self.places[value.0];
        let buffer = buffer.filter(|_| planes.is_none());
        let buffer = buffer.ok_or_else(|| Error::internal(format!("{:?} is nowhere", self.name(value))))?;
        let port = self.port(value, slot, buffer)?;
        // Scratch of a program with host steps is private to the run, so a later segment may still read it.
        self.segment().downloads.push(port);
        Ok(slot)
    }

    /// The buffer of an operand whose elements lie side by side: others are handed to kernels that say that they read them.
    pub(super) fn dense(&self, value: ValueId, operand: &Operand) -> Result<BufferId> {
        let mislaid = || Error::internal(format!("{:?} lies in planes", self.name(value)));
        if operand.planes.is_some() { Err(mislaid()) } else { Ok(operand.buffer) }
    }

    fn port(&self, value: ValueId, slot: Slot, buffer: BufferId) -> Result<Port> {
        let fact = self.fact(value)?;
        Ok(Port { slot, buffer, dtype: fact.dtype, storage: self.storage(fact.dtype)?, shape: fact.concrete()? })
    }

    pub(super) fn storage(&self, dtype: DType) -> Result<Storage> {
        let storage = self.profile.storage(dtype);
        storage.ok_or_else(|| Error::unimplemented(format!("{dtype} values stay on the host")))
    }

    pub(super) fn scratch(&mut self, shape: &Shape, storage: Storage) -> BufferId {
        let bytes = ((shape.elements().saturating_mul(storage.bytes())) as u64).next_multiple_of(4).max(4);
        self.program.buffers.push(Buffer::Scratch { bytes, pool: 0 });
        BufferId(self.program.buffers.len() - 1)
    }

    /// The value in device memory: uploaded or computed there already, or a constant.
    pub(super) fn operand(&mut self, value: ValueId) -> Result<Operand> {
        let fact = self.fact(value)?;
        let shape = fact.concrete()?;
        let storage = self.storage(fact.dtype)?;
        let buffer = match (self.places[value.0].buffer, &fact.value) {
            (Some(buffer), _) => buffer,
            (None, Some(constant)) => self.upload(constant, storage),
            (None, None) => {
                let buffer = self.scratch(&shape, storage);
                let slot = self.host_slot(value)?;
                let port = self.port(value, slot, buffer)?;
                self.device_segment().uploads.push(port);
                buffer
            }
        };
        self.places[value.0].buffer = Some(buffer);
        let planes = self.places[value.0].planes;
        Ok(Operand { buffer, storage, dtype: fact.dtype, shape, grid: None, planes })
    }

    /// A constant in device memory for a reader that takes small integers packed; other values as [`Self::operand`].
    pub(super) fn constant(&mut self, value: ValueId) -> Result<Operand> {
        let fact = self.fact(value)?;
        let Some((tensor, storage)) = fact.value.as_ref().and_then(|c| Some((c, self.profile.constant_storage(c)?)))
        else {
            return self.operand(value);
        };
        if !matches!(storage, Storage::Packed(_)) {
            return self.operand(value);
        }
        let buffer = self.places[value.0].packed.unwrap_or_else(|| self.upload(tensor, storage));
        self.places[value.0].packed = Some(buffer);
        Ok(Operand { buffer, storage, dtype: fact.dtype, shape: tensor.shape().clone(), grid: None, planes: None })
    }

    fn upload(&mut self, tensor: &Tensor, storage: Storage) -> BufferId {
        self.program.buffers.push(Buffer::Constant { tensor: tensor.clone(), storage, form: None });
        BufferId(self.program.buffers.len() - 1)
    }

    /// A weight as packed integers and what restores its numbers.
    pub(super) fn weight(&mut self, value: ValueId) -> Result<Option<Operand>> {
        let Some(Restored { weight, axes }) = self.restored.get(&value) else { return Ok(None) };
        let (dtype, codes) = (self.fact(value)?.dtype, weight.codes.clone());
        let grid = weight.grid(*axes)?;
        let storage = weight.packing(*axes).map(Storage::Packed);
        let storage = storage.ok_or_else(|| Error::internal("a weight cannot be packed"))?;
        let buffer = self.upload(&codes, storage);
        let grid = grid.map(|grid| {
            let buffer = self.upload(&grid.values, Storage::F32);
            let zeros = grid.has_zeros.then(|| grid.values.shape().elements() / if grid.has_scales { 2 } else { 1 });
            let zeros = zeros.map(|plane| if grid.has_scales { plane } else { 0 });
            OperandGrid { buffer, block: grid.block, channels: grid.channels, zeros, has_scales: grid.has_scales }
        });
        Ok(Some(Operand { buffer, storage, dtype, shape: codes.shape().clone(), grid, planes: None }))
    }

    fn view(&mut self, index: usize) -> Result<()> {
        let node = &self.graph.nodes[index];
        let (Some(input), Some(output)) = (node.inputs.first().copied().flatten(), node.outputs[0]) else {
            return Err(Error::internal(format!("{} lacks its input or output", node.describe())));
        };
        let operand = self.operand(input).map_err(|e| e.at(node.describe()))?;
        self.places[output.0].buffer = Some(self.dense(input, &operand)?);
        Ok(())
    }

    fn host(&mut self, index: usize, reason: String) -> Result<()> {
        self.program.nodes += 1;
        let node = &self.graph.nodes[index];
        let mut inputs = Vec::with_capacity(node.inputs.len());
        for value in &node.inputs {
            inputs.push(match value {
                Some(value) => Some(self.host_slot(*value)?),
                None => None,
            });
        }
        let mut outputs = Vec::with_capacity(node.outputs.len());
        for value in &node.outputs {
            outputs.push(value.map(|value| {
                let slot = self.new_slot();
                self.places[value.0].slot = Some(slot);
                slot
            }));
        }
        let step = HostStep { node: node.name.clone(), op: Arc::clone(&node.op), reason, inputs, outputs };
        self.segment().host_steps.push(step);
        Ok(())
    }
}
