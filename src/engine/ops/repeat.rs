//! Loop: a graph repeated, values carried from one round to the next.

use std::sync::Arc;

use super::arguments::{known, optional, required, unknown};
use super::branch::truth;
use super::registry::OpSpec;
use super::stack::stack;
use crate::engine::ir::{Expansion, Fact, Op, Profile, Subgraph, Wire};
use crate::error::{Error, Result};
use crate::tensor::{DType, Shape, Tensor};

/// Nodes that a loop may become when the number of rounds is known beforehand.
const MAX_UNROLLED_NODES: usize = 1 << 16;
/// Rounds of a loop on the host, and bytes that they may collect.
const MAX_ROUNDS: i64 = 1 << 24;
const MAX_COLLECTED_BYTES: usize = 1 << 31;

pub(super) fn repeat(spec: &OpSpec<'_>) -> Result<Arc<dyn Op>> {
    let body = spec.attributes.graph("body")?.ok_or_else(|| Error::invalid_argument("Loop without a body"))?;
    let carried = spec.inputs.saturating_sub(body.captures + 2);
    let (takes, gives) = (body.graph.inputs.len(), body.graph.outputs.len());
    if takes != carried + 2 + body.captures || gives < carried + 1 {
        return Err(Error::invalid_argument(format!(
            "the body of a loop over {carried} values takes {} inputs and gives {gives} outputs",
            takes - body.captures.min(takes)
        )));
    }
    Ok(Arc::new(Loop { body, carried, own_inputs: spec.inputs }))
}

/// Inputs: the most rounds, whether to begin, the values carried, and what the body reads from around it.
#[derive(Debug)]
struct Loop {
    body: Subgraph,
    carried: usize,
    own_inputs: usize,
}

impl Loop {
    /// One round as a graph of its own, over: the round's number, the condition, the values carried, what the body reads.
    fn round(&self) -> Result<Expansion> {
        let mut expansion = Expansion::default();
        let inputs: Vec<Option<Wire>> = (0..self.body.graph.inputs.len()).map(|i| Some(Wire::Input(i))).collect();
        expansion.outputs = expansion.push_graph(&self.body.graph, &inputs)?.into_iter().map(Some).collect();
        Ok(expansion)
    }

    fn captured(&self) -> std::ops::Range<usize> {
        self.own_inputs - self.body.captures..self.own_inputs
    }

    fn collected(&self) -> usize {
        self.body.graph.outputs.len() - 1 - self.carried
    }

    /// Facts of the body's inputs.
    fn entering<'a>(
        &self,
        first: [&'a Fact; 2],
        carried: &'a [Fact],
        inputs: &[Option<&'a Fact>],
    ) -> Vec<Option<&'a Fact>> {
        let captured = self.captured().map(|i| inputs.get(i).copied().flatten());
        first.into_iter().map(Some).chain(carried.iter().map(Some)).chain(captured).collect()
    }

    fn initial(&self, inputs: &[Option<&Fact>]) -> Result<Vec<Fact>> {
        (2..2 + self.carried).map(|i| required(inputs, i).cloned()).collect()
    }

    /// The rounds one after another, when it is known how many there are.
    fn unrolled(&self, inputs: &[Option<&Fact>]) -> Result<Option<Expansion>> {
        let (Some(limit), Some(mut goes_on)) = (limit(inputs)?, begins(inputs)?) else { return Ok(None) };
        let round = self.round()?;
        let mut facts = self.initial(inputs)?;
        let mut expansion = Expansion::default();
        let mut carried: Vec<Wire> = (2..2 + self.carried).map(Wire::Input).collect();
        let mut collected: Vec<Vec<Wire>> = vec![Vec::new(); self.collected()];
        let mut number = 0;
        while goes_on && number < limit {
            if expansion.nodes.len() + round.nodes.len() > MAX_UNROLLED_NODES {
                return Ok(None);
            }
            let first = [Tensor::scalar(number), Tensor::from_bools(Shape::scalar(), vec![1])?];
            let known = [Fact::from(&first[0]), Fact::from(&first[1])];
            let mut given = round.infer(&self.entering([&known[0], &known[1]], &facts, inputs))?;
            let Some(next) = given.first().and_then(|f| f.value.as_ref()) else { return Ok(None) };
            goes_on = truth(next)?;
            let wires = first.into_iter().map(Wire::Constant).chain(carried);
            let wires: Vec<Option<Wire>> = wires.chain(self.captured().map(Wire::Input)).map(Some).collect();
            let mut outputs = expansion.push_graph(&self.body.graph, &wires)?.into_iter().skip(1);
            carried = outputs.by_ref().take(self.carried).collect();
            collected.iter_mut().zip(outputs).for_each(|(all, one)| all.push(one));
            facts = given.drain(1..1 + self.carried).collect();
            number += 1;
        }
        let mut outputs: Vec<Option<Wire>> = carried.into_iter().map(Some).collect();
        let open = if number == 0 { self.open(inputs)? } else { Vec::new() };
        for (index, rounds) in collected.into_iter().enumerate() {
            outputs.push(Some(match rounds.is_empty() {
                true => Wire::Constant(nothing(&open[self.carried + index])?),
                false => stack(&mut expansion, rounds, 0)?,
            }));
        }
        expansion.outputs = outputs;
        Ok(Some(expansion))
    }

    /// What is known of the outputs however many rounds there are: extents that change from one to the next are open.
    fn open(&self, inputs: &[Option<&Fact>]) -> Result<Vec<Fact>> {
        let round = self.round()?;
        let first = [Fact::of_shape(DType::I64, &[]), Fact::of_shape(DType::Bool, &[])];
        let mut carried: Vec<Fact> = self.initial(inputs)?.into_iter().map(|f| Fact { value: None, ..f }).collect();
        // Each pass opens an extent, a rank, what a sequence holds, or nothing.
        loop {
            let given = round.infer(&self.entering([&first[0], &first[1]], &carried, inputs))?;
            let (next, collected) = given[1..].split_at(self.carried);
            let widened: Vec<Fact> = carried.iter().zip(next).map(|(a, b)| a.clone().join(b.clone())).collect();
            if widened == carried {
                let stacked = collected.iter().map(|fact| {
                    let dims = fact.dims.as_ref().map(|d| unknown(1).into_iter().chain(d.iter().cloned()).collect());
                    Fact::open(fact.dtype, dims)
                });
                return Ok(carried.iter().cloned().chain(stacked).collect());
            }
            carried = widened;
        }
    }
}

/// What no rounds collect.
fn nothing(fact: &Fact) -> Result<Tensor> {
    let dims: Vec<usize> = fact.dims.iter().flatten().skip(1).map(|d| d.fixed().unwrap_or(0)).collect();
    let shape: Shape = std::iter::once(0).chain(dims).collect::<Vec<_>>().into();
    match fact.dtype {
        DType::String => Tensor::from_strings(shape, Vec::new()),
        dtype => Tensor::from_bytes(dtype, shape, Vec::new()),
    }
}

fn rounds(most: &Tensor) -> Result<i64> {
    most.to_i64s()?.first().copied().ok_or_else(|| Error::invalid_argument("the number of rounds is empty"))
}

/// The most rounds there are: `None` while it is not known.
fn limit(inputs: &[Option<&Fact>]) -> Result<Option<i64>> {
    match optional(inputs, 0) {
        None => Ok(Some(i64::MAX)),
        Some(fact) => fact.value.as_ref().map(rounds).transpose(),
    }
}

fn begins(inputs: &[Option<&Fact>]) -> Result<Option<bool>> {
    match optional(inputs, 1) {
        None => Ok(Some(true)),
        Some(fact) => fact.value.as_ref().map(truth).transpose(),
    }
}

impl Op for Loop {
    fn name(&self) -> &'static str {
        "Loop"
    }

    fn infer(&self, inputs: &[Option<&Fact>]) -> Result<Vec<Fact>> {
        match self.unrolled(inputs)? {
            Some(expansion) => expansion.infer(inputs),
            None => self.open(inputs),
        }
    }

    fn evaluate(&self, inputs: &[Option<&Tensor>]) -> Result<Vec<Tensor>> {
        let limit = optional(inputs, 0).map_or(Ok(i64::MAX), rounds)?;
        let mut goes_on = optional(inputs, 1).map_or(Ok(true), truth)?;
        let round = self.round()?;
        let mut carried: Vec<Tensor> =
            (2..2 + self.carried).map(|i| required(inputs, i).cloned()).collect::<Result<_>>()?;
        let mut collected: Vec<Vec<Tensor>> = vec![Vec::new(); self.collected()];
        let (mut number, mut bytes) = (0, 0);
        while goes_on && number < limit {
            if number >= MAX_ROUNDS || bytes > MAX_COLLECTED_BYTES {
                return Err(Error::resource_exhausted(format!(
                    "a loop of more than {MAX_ROUNDS} rounds or {MAX_COLLECTED_BYTES} bytes"
                )));
            }
            let first = [Tensor::scalar(number), Tensor::from_bools(Shape::scalar(), vec![1])?];
            let captured = self.captured().map(|i| inputs.get(i).copied().flatten());
            let entering: Vec<Option<&Tensor>> = first.iter().chain(&carried).map(Some).chain(captured).collect();
            let mut given = round.evaluate(&entering)?.into_iter();
            goes_on = given.next().map_or(Ok(false), |next| truth(&next))?;
            carried = given.by_ref().take(self.carried).collect();
            for (all, one) in collected.iter_mut().zip(given) {
                bytes += one.bytes().len();
                all.push(one);
            }
            number += 1;
        }
        let open = if number == 0 { Some(facts_of(inputs, |facts| self.open(facts))?) } else { None };
        for (index, rounds) in collected.into_iter().enumerate() {
            carried.push(match &open {
                Some(open) => nothing(&open[self.carried + index])?,
                None => stacked(&rounds)?,
            });
        }
        Ok(carried)
    }

    fn is_pure(&self) -> bool {
        self.body.is_pure()
    }

    fn takes_sequences(&self) -> bool {
        true
    }

    fn shape_inputs(&self) -> &'static [usize] {
        &[0, 1]
    }

    fn expand(&self, inputs: &[Option<&Fact>], _profile: &Profile) -> Result<Option<Expansion>> {
        self.unrolled(inputs)
    }

    fn host_reason(&self, _inputs: &[Option<&Fact>], _profile: &Profile) -> Option<String> {
        Some("how often it repeats depends on data".into())
    }
}

fn facts_of<T>(inputs: &[Option<&Tensor>], get: impl FnOnce(&[Option<&Fact>]) -> Result<T>) -> Result<T> {
    let facts = known(inputs);
    let facts: Vec<Option<&Fact>> = facts.iter().map(Option::as_ref).collect();
    get(&facts)
}

/// The tensors, of one shape, along a new axis 0.
fn stacked(rounds: &[Tensor]) -> Result<Tensor> {
    let mut expansion = Expansion::default();
    let wire = stack(&mut expansion, (0..rounds.len()).map(Wire::Input).collect(), 0)?;
    expansion.outputs = vec![Some(wire)];
    let inputs: Vec<Option<&Tensor>> = rounds.iter().map(Some).collect();
    expansion.evaluate(&inputs)?.pop().ok_or_else(|| Error::internal("a stack of nothing"))
}
