//! Steps of training: Adagrad (Duchi et al., 2011), Adam (Kingma and Ba, 2015) and momentum.

use std::sync::Arc;

use super::arguments::required;
use super::composed::written;
use super::registry::OpSpec;
use super::sketch::{Sketch, number};
use crate::engine::ir::{Fact, Op, Wire};
use crate::error::{Error, Result};
use crate::tensor::DType;

/// What is optimised, its gradient, and what is remembered of earlier gradients.
struct State {
    dtype: DType,
    x: Wire,
    gradient: Wire,
    memory: Vec<Wire>,
}

/// Arithmetic of scalars and tensors of one type.
struct Formula<'a> {
    sketch: &'a mut Sketch,
    dtype: DType,
}

impl Formula<'_> {
    fn of(&mut self, name: &str, a: &Wire, b: &Wire) -> Result<Wire> {
        self.sketch.op(name, &[a, b])
    }

    fn number(&self, value: f64) -> Result<Wire> {
        number(self.dtype, value)
    }

    fn scaled(&mut self, x: &Wire, factor: f32) -> Result<Wire> {
        let factor = self.number(f64::from(factor))?;
        self.of("Mul", x, &factor)
    }

    /// a × `factor` + b.
    fn scaled_sum(&mut self, a: &Wire, factor: f32, b: &Wire) -> Result<Wire> {
        let scaled = self.scaled(a, factor)?;
        self.of("Add", &scaled, b)
    }

    fn root_above_zero(&mut self, x: &Wire, epsilon: f32) -> Result<Wire> {
        let root = self.sketch.op("Sqrt", &[x])?;
        let epsilon = self.number(f64::from(epsilon))?;
        self.of("Add", &root, &epsilon)
    }

    /// The update count, input 1, as a number.
    fn count(&mut self) -> Result<Wire> {
        self.sketch.cast(&Wire::Input(1), self.dtype)
    }

    /// `a` in every update but the first, `b` in the first.
    fn after_the_first(&mut self, a: &Wire, b: &Wire) -> Result<Wire> {
        let count = self.count()?;
        let zero = self.number(0.0)?;
        let later = self.of("Greater", &count, &zero)?;
        self.sketch.op("Where", &[&later, a, b])
    }
}

/// The operator that makes, for each tensor optimised, its new value and `remembered` new memories of `one`. Inputs: rate,
/// update count, all tensors, all gradients, all first memories, ….
fn optimizer(
    name: &'static str,
    spec: &OpSpec<'_>,
    remembered: usize,
    one: impl Fn(&mut Formula<'_>, &State) -> Result<Vec<Wire>> + Send + Sync + 'static,
) -> Result<Arc<dyn Op>> {
    let kinds = 2 + remembered;
    let given = spec.inputs.saturating_sub(2);
    if given == 0 || !given.is_multiple_of(kinds) {
        return Err(Error::invalid_argument(format!("{name} of {given} tensors, {kinds} for each optimised")));
    }
    let count = given / kinds;
    written(name, spec, move |sketch, inputs| {
        let mut outputs = vec![Vec::new(); 1 + remembered];
        for i in 0..count {
            let place = |kind: usize| Wire::Input(2 + kind * count + i);
            let same_shape = |kind: usize| required(inputs, 2 + kind * count + i).map(Fact::shape);
            for kind in 1..kinds {
                if same_shape(kind)? != same_shape(0)? {
                    return Err(Error::invalid_argument(format!("{name} of tensors of several shapes")));
                }
            }
            let dtype = required(inputs, 2 + i)?.dtype;
            let memory = (2..kinds).map(place).collect();
            let state = State { dtype, x: place(0), gradient: place(1), memory };
            let new = one(&mut Formula { sketch, dtype }, &state)?;
            outputs.iter_mut().zip(new).for_each(|(all, one)| all.push(one));
        }
        Ok(outputs.into_iter().flatten().collect())
    })
}

/// The learning rate, input 0, as a number.
fn rate(f: &mut Formula<'_>, state: &State) -> Result<Wire> {
    f.sketch.cast(&Wire::Input(0), state.dtype)
}

pub(super) fn adagrad(spec: &OpSpec<'_>) -> Result<Arc<dyn Op>> {
    let norm = spec.attributes.float_or("norm_coefficient", 0.0)?;
    let decay = spec.attributes.float_or("decay_factor", 0.0)?;
    let epsilon = spec.attributes.float_or("epsilon", 1e-6)?;
    optimizer("Adagrad", spec, 1, move |f, state| {
        let (count, one) = (f.count()?, f.number(1.0)?);
        let divisor = f.scaled_sum(&count, decay, &one)?;
        let rate = rate(f, state)?;
        let rate = f.of("Div", &rate, &divisor)?;
        let gradient = f.scaled_sum(&state.x, norm, &state.gradient)?;
        let square = f.of("Mul", &gradient, &gradient)?;
        let squares = f.of("Add", &state.memory[0], &square)?;
        let divisor = f.root_above_zero(&squares, epsilon)?;
        let step = f.of("Mul", &rate, &gradient)?;
        let step = f.of("Div", &step, &divisor)?;
        Ok(vec![f.of("Sub", &state.x, &step)?, squares])
    })
}

pub(super) fn adam(spec: &OpSpec<'_>) -> Result<Arc<dyn Op>> {
    let [norm, norm_after] =
        [spec.attributes.float_or("norm_coefficient", 0.0)?, spec.attributes.float_or("norm_coefficient_post", 0.0)?];
    let [alpha, beta] = [spec.attributes.float_or("alpha", 0.9)?, spec.attributes.float_or("beta", 0.999)?];
    let epsilon = spec.attributes.float_or("epsilon", 1e-6)?;
    optimizer("Adam", spec, 2, move |f, state| {
        let gradient = f.scaled_sum(&state.x, norm, &state.gradient)?;
        let fresh = f.scaled(&gradient, 1.0 - alpha)?;
        let mean = f.scaled_sum(&state.memory[0], alpha, &fresh)?;
        let square = f.of("Mul", &gradient, &gradient)?;
        let fresh = f.scaled(&square, 1.0 - beta)?;
        let squares = f.scaled_sum(&state.memory[1], beta, &fresh)?;
        let divisor = f.root_above_zero(&squares, epsilon)?;
        // Averages that began at 0 are too small at first.
        let (count, one) = (f.count()?, f.number(1.0)?);
        let mut left = [alpha, beta].map(|decay| {
            let base = f.number(f64::from(decay))?;
            let power = f.of("Pow", &base, &count)?;
            f.of("Sub", &one, &power)
        });
        let [of_mean, of_squares] = left.each_mut().map(|l| std::mem::replace(l, Ok(one.clone())));
        let root = f.sketch.op("Sqrt", &[&of_squares?])?;
        let given = rate(f, state)?;
        let rate = f.of("Mul", &given, &root)?;
        let rate = f.of("Div", &rate, &of_mean?)?;
        let rate = f.after_the_first(&rate, &given)?;
        let step = f.of("Mul", &rate, &mean)?;
        let step = f.of("Div", &step, &divisor)?;
        let x = f.of("Sub", &state.x, &step)?;
        Ok(vec![f.scaled(&x, 1.0 - norm_after)?, mean, squares])
    })
}

pub(super) fn momentum(spec: &OpSpec<'_>) -> Result<Arc<dyn Op>> {
    let needed = |name: &str| {
        let value = spec.attributes.float(name)?;
        value.ok_or_else(|| Error::invalid_argument(format!("Momentum without {name}")))
    };
    let [norm, alpha, beta] = [needed("norm_coefficient")?, needed("alpha")?, needed("beta")?];
    let nesterov = match spec.attributes.string_or("mode", "standard")?.as_str() {
        "standard" => false,
        "nesterov" => true,
        other => return Err(Error::invalid_argument(format!("mode {other:?}"))),
    };
    optimizer("Momentum", spec, 1, move |f, state| {
        let gradient = f.scaled_sum(&state.x, norm, &state.gradient)?;
        let (beta, one) = (f.number(f64::from(beta))?, f.number(1.0)?);
        let beta = f.after_the_first(&beta, &one)?;
        let fresh = f.of("Mul", &beta, &gradient)?;
        let momentum = f.scaled_sum(&state.memory[0], alpha, &fresh)?;
        let direction = if nesterov { f.scaled_sum(&momentum, alpha, &gradient)? } else { momentum.clone() };
        let rate = rate(f, state)?;
        let step = f.of("Mul", &rate, &direction)?;
        Ok(vec![f.of("Sub", &state.x, &step)?, momentum])
    })
}
