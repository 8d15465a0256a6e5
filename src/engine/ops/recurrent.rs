//! RNN, LSTM and GRU layers: products of all inputs with the weights at once, then the recurrence.

use std::sync::Arc;

use super::arguments::{known, optional, required};
use super::recurrence::{Kind, Recurrence};
use super::recurrent_activation::Activation;
use super::registry::OpSpec;
use super::sketch::{Sketch, ints, number};
use crate::engine::ir::{Attribute, Expansion, Fact, Op, Profile, Rows, RowsQuery, Wire};
use crate::error::{Error, Result};
use crate::tensor::{DType, Dim, Shape, Tensor};

pub(super) fn recurrent(spec: &OpSpec<'_>) -> Result<Arc<dyn Op>> {
    let (name, kind, quantized) = match spec.name {
        "RNN" => ("RNN", Kind::Rnn, false),
        "LSTM" => ("LSTM", Kind::Lstm, false),
        "GRU" => ("GRU", Kind::Gru, false),
        _ => ("DynamicQuantizeLSTM", Kind::Lstm, true),
    };
    let backward = match spec.attributes.string_or("direction", "forward")?.as_str() {
        "forward" => vec![false],
        "reverse" => vec![true],
        "bidirectional" => vec![false, true],
        other => return Err(Error::invalid_argument(format!("direction {other:?}"))),
    };
    let coupled = match kind {
        Kind::Lstm => spec.attributes.flag_or("input_forget", false)?,
        Kind::Gru => spec.attributes.flag_or("linear_before_reset", false)?,
        Kind::Rnn => false,
    };
    Ok(Arc::new(Recurrent {
        name,
        kind,
        quantized,
        activations: activations(spec, kind, backward.len())?,
        backward,
        coupled,
        clip: spec.attributes.float_or("clip", 0.0)?,
        batch_first: spec.attributes.flag_or("layout", false)?,
        outputs: spec.outputs,
    }))
}

fn activations(spec: &OpSpec<'_>, kind: Kind, directions: usize) -> Result<Vec<[Activation; 3]>> {
    let default: &[&str] = match kind {
        Kind::Rnn => &["Tanh"],
        Kind::Lstm => &["Sigmoid", "Tanh", "Tanh"],
        Kind::Gru => &["Sigmoid", "Tanh"],
    };
    let given = spec.attributes.strings("activations")?.filter(|names| !names.is_empty());
    let names = given.unwrap_or_else(|| default.repeat(directions).into_iter().map(str::to_owned).collect());
    if names.len() != default.len() * directions {
        return Err(Error::invalid_argument(format!(
            "{} activations for {directions} directions of {}",
            names.len(),
            spec.name
        )));
    }
    let alphas = spec.attributes.floats("activation_alpha")?.unwrap_or_default();
    let betas = spec.attributes.floats("activation_beta")?.unwrap_or_default();
    let (mut alphas, mut betas) = (&alphas[..], &betas[..]);
    let mut all = Vec::with_capacity(directions);
    for own in names.chunks(default.len()) {
        let mut three = [Activation::named("Tanh", &mut &[][..], &mut &[][..])?; 3];
        for (slot, name) in three.iter_mut().zip(own) {
            *slot = Activation::named(name, &mut alphas, &mut betas)?;
        }
        all.push(three);
    }
    Ok(all)
}

/// Inputs X, W, R, B, sequence_lens, initial_h and, LSTM only, initial_c and P; outputs Y, Y_h and, LSTM only, Y_c. Quantised,
/// W and R are [directions, inputs, gates × hidden], with a scale and zero point each behind P.
#[derive(Debug)]
struct Recurrent {
    name: &'static str,
    kind: Kind,
    quantized: bool,
    backward: Vec<bool>,
    activations: Vec<[Activation; 3]>,
    coupled: bool,
    clip: f32,
    /// The batch is axis 0 of inputs and states, rather than time and direction.
    batch_first: bool,
    outputs: usize,
}

impl Recurrent {
    /// (input, hidden) extents, when W and R are known to go together.
    fn sizes(&self, w: &Fact, r: &Fact) -> Result<Option<(usize, usize)>> {
        let (Some(w), Some(r)) = (w.shape(), r.shape()) else { return Ok(None) };
        let (directions, gates) = (self.backward.len(), self.kind.gates());
        let sizes = match (&w[..], &r[..]) {
            (&[d, i, gh], &[e, h, _]) if self.quantized && d == directions && e == d && gh == gates * h => (i, h),
            (&[d, gh, i], &[e, _, h]) if !self.quantized && d == directions && e == d && gh == gates * h => (i, h),
            _ => return Err(Error::invalid_argument(format!("{} with weights {w} and {r}", self.name))),
        };
        Ok(Some(sizes))
    }

    /// Optional inputs must fit the extents [directions, batch, hidden].
    fn check(&self, inputs: &[Option<&Fact>], [directions, batch, hidden]: [usize; 3]) -> Result<()> {
        let state = if self.batch_first { [batch, directions, hidden] } else { [directions, batch, hidden] };
        let fits: [(usize, &[usize]); 5] = [
            (3, &[directions, 2 * self.kind.gates() * hidden]),
            (4, &[batch]),
            (5, &state),
            (6, &state),
            (7, &[directions, 3 * hidden]),
        ];
        for (input, wanted) in fits.iter().take(if self.kind == Kind::Lstm { 5 } else { 3 }) {
            let given = optional(inputs, *input).and_then(Fact::shape);
            if let Some(given) = given.filter(|g| g[..] != **wanted) {
                let wanted = Shape::from(*wanted);
                return Err(Error::invalid_argument(format!(
                    "{} with input {input} of {given}, not {wanted}",
                    self.name
                )));
            }
        }
        Ok(())
    }

    /// The products of x, as integers where it was quantised, with the weights of all directions side by side.
    fn quantized_products(
        &self,
        sketch: &mut Sketch,
        inputs: &[Option<&Fact>],
        x: &Wire,
        width: usize,
    ) -> Result<Wire> {
        let all = self.backward.len() * width;
        let w = sketch.transpose(&Wire::Input(1), &[1, 0, 2])?;
        let w = sketch.reshape(&w, &[required(inputs, 1)?.concrete()?[1], all])?;
        let mut columns = [8, 9].map(|input| optional(inputs, input).map(|_| Wire::Input(input)));
        for column in columns.iter_mut().flatten() {
            let split = sketch.op("Reshape", &[column, &ints([self.backward.len() as i64, -1])?])?;
            let spread = sketch.expand(&split, &[self.backward.len(), width])?;
            *column = sketch.reshape(&spread, &[all])?;
        }
        let [scale, zero] = columns;
        let given = vec![Some(x.clone()), Some(w), scale, zero];
        Ok(sketch.many(("com.microsoft", "DynamicQuantizeMatMul"), given, &[], 1)?.remove(0))
    }

    /// The weights of the hidden states as [directions, hidden, gates × hidden].
    fn recurrent_weights(&self, sketch: &mut Sketch) -> Result<Wire> {
        if !self.quantized {
            return sketch.transpose(&Wire::Input(2), &[0, 2, 1]);
        }
        // One scale and zero point a direction, or one for each of its columns.
        let columns = ints([self.backward.len() as i64, 1, -1])?;
        let scale = sketch.op("Reshape", &[&Wire::Input(10), &columns])?;
        let zero = sketch.op("Reshape", &[&Wire::Input(11), &columns])?;
        let weights = sketch.cast(&Wire::Input(2), DType::F32)?;
        let zero = sketch.cast(&zero, DType::F32)?;
        let centred = sketch.op("Sub", &[&weights, &zero])?;
        sketch.op("Mul", &[&centred, &scale])
    }

    /// The biases that the products of the inputs take, [directions × gates × hidden], and GRU's that comes later.
    fn biases(&self, sketch: &mut Sketch, hidden: usize) -> Result<(Wire, Option<Wire>)> {
        let (directions, width) = (self.backward.len(), self.kind.gates() * hidden);
        let input = sketch.slice(&Wire::Input(3), 1, 0, width)?;
        let recurrent = sketch.slice(&Wire::Input(3), 1, width, 2 * width)?;
        let mut later = None;
        let sum = if self.kind == Kind::Gru && self.coupled {
            let early = sketch.slice(&recurrent, 1, 0, 2 * hidden)?;
            later = Some(sketch.slice(&recurrent, 1, 2 * hidden, width)?);
            let gates = sketch.slice(&input, 1, 0, 2 * hidden)?;
            let gates = sketch.op("Add", &[&gates, &early])?;
            let fresh = sketch.slice(&input, 1, 2 * hidden, width)?;
            sketch.concat(&[&gates, &fresh], 1)?
        } else {
            sketch.op("Add", &[&input, &recurrent])?
        };
        Ok((sketch.reshape(&sum, &[directions * width])?, later))
    }

    /// The first states as [states, directions, batch, hidden].
    fn initial(&self, sketch: &mut Sketch, inputs: &[Option<&Fact>], dtype: DType, shape: [usize; 3]) -> Result<Wire> {
        let mut states = Vec::new();
        for input in 5..5 + self.kind.states() {
            let state = if optional(inputs, input).is_none() {
                let zeros = vec![0; shape.iter().product::<usize>() * dtype.bytes()];
                Wire::Constant(Tensor::from_bytes(dtype, shape, zeros)?)
            } else if self.batch_first {
                sketch.transpose(&Wire::Input(input), &[1, 0, 2])?
            } else {
                Wire::Input(input)
            };
            states.push(sketch.unsqueeze(&state, &[0])?);
        }
        sketch.concat(&states.iter().collect::<Vec<_>>(), 0)
    }

    fn composition(&self, inputs: &[Option<&Fact>]) -> Result<Option<Expansion>> {
        let x = required(inputs, 0)?;
        let (dtype, sizes) = (x.dtype, self.sizes(required(inputs, 1)?, required(inputs, 2)?)?);
        let (Some(shape), Some((from, hidden))) = (x.shape(), sizes) else { return Ok(None) };
        let &[first, second, given] = &shape[..] else {
            return Err(Error::invalid_argument(format!("{} over {shape}", self.name)));
        };
        if given != from {
            return Err(Error::invalid_argument(format!("{} of weights for {from} over {given} inputs", self.name)));
        }
        let (steps, batch) = if self.batch_first { (second, first) } else { (first, second) };
        let (directions, width) = (self.backward.len(), self.kind.gates() * hidden);
        let mut sketch = Sketch::new();
        self.check(inputs, [directions, batch, hidden])?;
        let x = if self.batch_first { sketch.transpose(&Wire::Input(0), &[1, 0, 2])? } else { Wire::Input(0) };
        let mut products = if self.quantized {
            let x = running(&mut sketch, inputs, x, steps)?;
            self.quantized_products(&mut sketch, inputs, &x, width)?
        } else {
            // All directions in one product: weights side by side.
            let w = sketch.transpose(&Wire::Input(1), &[2, 0, 1])?;
            let w = sketch.reshape(&w, &[from, directions * width])?;
            sketch.op("MatMul", &[&x, &w])?
        };
        let mut extra = optional(inputs, 7).filter(|_| self.kind == Kind::Lstm).map(|_| Wire::Input(7));
        if optional(inputs, 3).is_some() {
            let (bias, later) = self.biases(&mut sketch, hidden)?;
            products = sketch.op("Add", &[&products, &bias])?;
            extra = extra.or(later);
        }
        let products = sketch.reshape(&products, &[steps, batch, directions, width])?;
        let r = self.recurrent_weights(&mut sketch)?;
        let initial = self.initial(&mut sketch, inputs, dtype, [directions, batch, hidden])?;
        let lengths = match optional(inputs, 4) {
            Some(_) => Wire::Input(4),
            None => Wire::Constant(Tensor::from_vec([batch], vec![i32::try_from(steps).unwrap_or(i32::MAX); batch])?),
        };
        let op = Arc::new(Recurrence {
            kind: self.kind,
            backward: self.backward.clone(),
            activations: self.activations.clone(),
            coupled: self.coupled,
            clip: self.clip,
            quantized: self.quantized,
        });
        let all = vec![Some(products), Some(r), extra, Some(initial), Some(lengths)];
        let [y, last] = sketch.push_two(op, all);
        let mut outputs = vec![if self.batch_first { sketch.transpose(&y, &[2, 0, 1, 3])? } else { y }];
        for state in 0..self.outputs.saturating_sub(1).min(self.kind.states()) {
            let along = [("axis", Attribute::Int(0))];
            let one = sketch.with("Gather", &[&last, &Wire::Constant(Tensor::scalar(state as i64))], &along)?;
            let one = if self.batch_first { sketch.transpose(&one, &[1, 0, 2])? } else { one };
            outputs.push(sketch.cast(&one, dtype)?);
        }
        Ok(Some(sketch.finish(outputs)))
    }
}

/// x, 0 where all entries have ended: steps that nothing computes have no part in the range that it is quantised over.
fn running(sketch: &mut Sketch, inputs: &[Option<&Fact>], x: Wire, steps: usize) -> Result<Wire> {
    if optional(inputs, 4).is_none() {
        return Ok(x);
    }
    let places = Tensor::from_vec([steps, 1, 1], (0..i32::try_from(steps).unwrap_or(i32::MAX)).collect())?;
    let lengths = sketch.cast(&Wire::Input(4), DType::I32)?;
    let longest = sketch.reduce("ReduceMax", &lengths, &[0], true)?;
    let runs = sketch.op("Less", &[&Wire::Constant(places), &longest])?;
    sketch.op("Where", &[&runs, &x, &number(DType::F32, 0.0)?])
}

impl Op for Recurrent {
    fn name(&self) -> &'static str {
        self.name
    }

    fn infer(&self, inputs: &[Option<&Fact>]) -> Result<Vec<Fact>> {
        let x = required(inputs, 0)?;
        let sizes = self.sizes(required(inputs, 1)?, required(inputs, 2)?)?;
        let open = || (0..self.outputs.max(1)).map(|_| Fact::of_unknown_rank(x.dtype)).collect();
        let (Some(dims), Some((_, hidden))) = (&x.dims, sizes) else { return Ok(open()) };
        let [first, second, _] = dims.as_slice() else {
            return Err(Error::invalid_argument(format!("{} over an input of rank {}", self.name, dims.len())));
        };
        let (directions, hidden) = (Dim::Fixed(self.backward.len()), Dim::Fixed(hidden));
        let (y, state) = if self.batch_first {
            let state = [first.clone(), directions.clone(), hidden.clone()];
            (vec![first.clone(), second.clone(), directions, hidden], state)
        } else {
            let state = [directions.clone(), second.clone(), hidden.clone()];
            (vec![first.clone(), directions, second.clone(), hidden], state)
        };
        let states = (1..self.outputs).map(|_| Fact::new(x.dtype, state.clone()));
        Ok(std::iter::once(Fact::new(x.dtype, y)).chain(states).collect())
    }

    fn evaluate(&self, inputs: &[Option<&Tensor>]) -> Result<Vec<Tensor>> {
        let facts = known(inputs);
        let facts: Vec<Option<&Fact>> = facts.iter().map(Option::as_ref).collect();
        let expansion = self.composition(&facts)?;
        expansion.ok_or_else(|| Error::internal("a layer of tensors of unknown extents"))?.evaluate(inputs)
    }

    fn expand(&self, inputs: &[Option<&Fact>], _profile: &Profile) -> Result<Option<Expansion>> {
        self.composition(inputs)
    }

    fn rows(&self, query: &RowsQuery<'_>) -> Vec<Rows> {
        query.default_answer()
    }
}
