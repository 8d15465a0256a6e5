//! RNN, LSTM and GRU layers, in floats and with states of 8 bits.

use coracle::engine::ir::Attribute;
use coracle::tensor::{DType, Tensor};

use crate::case::{Case, extents, floats, random};

/// Extents of one layer.
struct Layer {
    steps: usize,
    batch: usize,
    inputs: usize,
    hidden: usize,
    directions: usize,
}

impl Layer {
    fn random(directions: usize, seed: u64) -> Self {
        let [steps, batch, inputs, hidden] = extents(4, 1, 6, seed)[..] else { unreachable!("there are four") };
        Self { steps, batch, inputs, hidden, directions }
    }

    fn weights(&self, seed: u64, shape: &[usize]) -> Tensor {
        random(DType::F32, shape, -0.6, 0.6, seed)
    }

    /// X, W, R and B of a case.
    fn fill(&self, case: Case, gates: usize, seed: u64) -> Case {
        let (d, width) = (self.directions, gates * self.hidden);
        case.int("hidden_size", self.hidden as i64)
            .string("direction", if d == 2 { "bidirectional" } else { "reverse" })
            .varying(floats(&[self.steps, self.batch, self.inputs], seed))
            .constant(self.weights(seed + 1, &[d, width, self.inputs]))
            .constant(self.weights(seed + 2, &[d, width, self.hidden]))
            .constant(self.weights(seed + 3, &[d, 2 * width]))
    }

    fn lengths(&self, seed: u64) -> Tensor {
        random(DType::I32, &[self.batch], 0.0, self.steps as f64 + 1.0, seed)
    }

    fn state(&self, seed: u64) -> Tensor {
        floats(&[self.directions, self.batch, self.hidden], seed)
    }
}

pub(crate) fn cases() -> Vec<Case> {
    let mut cases = Vec::new();
    for seed in 0..4u64 {
        let layer = Layer::random(1 + seed as usize % 2, 40 + seed);
        let new = |operator, name| Case::new(operator, name).tolerance(1e-5);
        for (operator, gates, outputs) in [("RNN", 1, 2), ("LSTM", 4, 3), ("GRU", 3, 2)] {
            cases.push(layer.fill(new(operator, "plain").outputs(outputs), gates, seed));
            let lengths = layer.fill(new(operator, "lengths").outputs(outputs), gates, seed);
            cases.push(lengths.varying(layer.lengths(seed)).varying(layer.state(seed + 5)));
        }
        let late = new("GRU", "reset_behind_the_product").int("linear_before_reset", 1).outputs(2);
        cases.push(layer.fill(late, 3, seed));
        let peepholes = floats(&[layer.directions, 3 * layer.hidden], seed + 7);
        let coupled = new("LSTM", "peepholes").int("input_forget", 1).float("clip", 0.8).outputs(3);
        let coupled = layer.fill(coupled, 4, seed).absent().varying(layer.state(seed + 5));
        cases.push(coupled.varying(layer.state(seed + 6)).constant(peepholes));
    }
    let names = ["HardSigmoid", "LeakyRelu", "Elu"].map(str::to_owned).to_vec();
    let bent = Case::new("LSTM", "other_activations").set("activations", Attribute::Strings(names)).tolerance(1e-5);
    let layer = Layer { steps: 3, batch: 2, inputs: 4, hidden: 70, directions: 1 };
    cases.push(layer.fill(bent, 4, 60));
    cases.push(quantized("of_each_column", 30, true));
    cases.push(quantized("of_each_direction", 5, false));
    cases
}

fn quantized(name: &'static str, hidden: usize, per_column: bool) -> Case {
    let (steps, batch, inputs, directions) = (4, 3, 6, 2);
    let columns = if per_column { vec![directions, 4 * hidden] } else { vec![directions] };
    let case = Case::new("com.microsoft:DynamicQuantizeLSTM", name)
        .int("hidden_size", hidden as i64)
        .string("direction", "bidirectional")
        .outputs(3)
        .tolerance(1e-4)
        .varying(floats(&[steps, batch, inputs], 70));
    let weights = |seed, from| random(DType::I8, &[directions, from, 4 * hidden], -128.0, 128.0, seed);
    let lengths = if per_column { Some(Tensor::from_vec([3], vec![4i32, 1, 3]).expect("three")) } else { None };
    let case = case.constant(weights(71, inputs)).constant(weights(72, hidden));
    let case = case.constant(floats(&[directions, 8 * hidden], 73));
    let case = match lengths {
        Some(lengths) => case.varying(lengths),
        None => case.absent(),
    };
    let state = |seed| floats(&[directions, batch, hidden], seed);
    let scales = |seed| random(DType::F32, &columns, 0.002, 0.006, seed);
    let zeros = |seed| random(DType::I8, &columns, -9.0, 9.0, seed);
    let case = case.varying(state(74)).varying(state(75)).absent();
    case.constant(scales(76)).constant(zeros(77)).constant(scales(78)).constant(zeros(79))
}
