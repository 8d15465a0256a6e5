//! Normalisations over parts of each row: layer (Ba, Kiros and Hinton, 2016), root mean square (Zhang and Sennrich, 2019),
//! instance (Ulyanov, Vedaldi and Lempitsky, 2016) and group (Wu and He, 2018) normalisation.

use std::sync::Arc;

use super::arguments::{axis_of, optional, required};
use super::patches::rows_of_fours;
use super::registry::OpSpec;
use super::sketch::{Sketch, number};
use super::words::word;
use crate::engine::ir::{
    Define, Expansion, Fact, Family, Op, Profile, Recorder, Rows, RowsQuery, Storage, Wire, Work, linear_groups,
};
use crate::engine::kernels::normalize4::Params;
use crate::engine::kernels::{normalize as kernel, normalize_planes4, normalize4};
use crate::error::{Error, Result};
use crate::tensor::{DType, Dim, Shape, Tensor};

/// Elements of a row from which a GPU uses a workgroup for it.
const GROUP_FROM: usize = 128;

/// What is normalised together.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Kind {
    /// All axes from this one on.
    Layer(i64),
    /// The same, by the root mean square alone.
    Rms(i64),
    /// Each channel of each image.
    Instance,
    /// Channels in so many groups; scale and bias one a channel, or one a group.
    Group { groups: usize, per_channel: bool },
}

pub(super) fn layer_normalization(spec: &OpSpec<'_>) -> Result<Arc<dyn Op>> {
    let axis = spec.attributes.int_or("axis", -1)?;
    Ok(Arc::new(Normalization {
        name: "LayerNormalization",
        kind: Kind::Layer(axis),
        epsilon: spec.attributes.float_or("epsilon", 1e-5)?,
        outputs: spec.outputs,
    }))
}

pub(super) fn rms_normalization(spec: &OpSpec<'_>) -> Result<Arc<dyn Op>> {
    let axis = spec.attributes.int_or("axis", -1)?;
    let simplified = spec.name == "SimplifiedLayerNormalization";
    Ok(Arc::new(Normalization {
        name: if simplified { "SimplifiedLayerNormalization" } else { "RMSNormalization" },
        kind: Kind::Rms(axis),
        epsilon: spec.attributes.float_or("epsilon", 1e-5)?,
        outputs: spec.outputs,
    }))
}

/// Layer normalisation of rows, or root mean square normalisation where they are not `centred`.
pub(super) fn of_rows(centred: bool, epsilon: f32) -> Arc<dyn Op> {
    let (name, kind) = match centred {
        true => ("LayerNormalization", Kind::Layer(-1)),
        false => ("RMSNormalization", Kind::Rms(-1)),
    };
    Arc::new(Normalization { name, kind, epsilon, outputs: 1 })
}

pub(super) fn instance_normalization(spec: &OpSpec<'_>) -> Result<Arc<dyn Op>> {
    let epsilon = spec.attributes.float_or("epsilon", 1e-5)?;
    Ok(Arc::new(Normalization { name: "InstanceNormalization", kind: Kind::Instance, epsilon, outputs: 1 }))
}

pub(super) fn group_normalization(spec: &OpSpec<'_>) -> Result<Arc<dyn Op>> {
    let groups = spec.attributes.int("num_groups")?.and_then(|g| usize::try_from(g).ok()).filter(|g| *g > 0);
    let groups = groups.ok_or_else(|| Error::invalid_argument("GroupNormalization without num_groups"))?;
    let kind = Kind::Group { groups, per_channel: spec.opset >= 21 };
    let epsilon = spec.attributes.float_or("epsilon", 1e-5)?;
    Ok(Arc::new(Normalization { name: "GroupNormalization", kind, epsilon, outputs: 1 }))
}

/// Inputs: x, scale, and bias if any. Outputs: y and, for the first two kinds, means and inverse deviations.
#[derive(Clone, Debug)]
struct Normalization {
    name: &'static str,
    kind: Kind,
    epsilon: f32,
    outputs: usize,
}

/// How rows and scales lie.
struct Plan {
    rows: usize,
    count: usize,
    /// Rows with scales of their own follow each other in this period.
    groups: usize,
    /// Scales from one such row to the next.
    group_scales: usize,
    /// Elements that share a scale.
    element_divisor: usize,
    /// Scales of one row.
    element_scales: usize,
    /// Extents that scale and bias must have.
    scale: Vec<usize>,
}

impl Normalization {
    fn plan(&self, shape: &[usize]) -> Result<Plan> {
        let channels = || match shape.get(1) {
            Some(channels) if shape.len() >= 2 => Ok((*channels, shape[2..].iter().product::<usize>())),
            _ => Err(Error::invalid_argument(format!("{} of {shape:?}", self.name))),
        };
        Ok(match self.kind {
            Kind::Layer(axis) | Kind::Rms(axis) => {
                let axis = axis_of(axis, shape.len())?;
                let count: usize = shape[axis..].iter().product();
                Plan {
                    rows: shape[..axis].iter().product(),
                    count,
                    groups: 1,
                    group_scales: 0,
                    element_divisor: 1,
                    element_scales: count,
                    scale: shape[axis..].to_vec(),
                }
            }
            Kind::Instance => {
                let (channels, inner) = channels()?;
                Plan {
                    rows: shape[0] * channels,
                    count: inner,
                    groups: channels,
                    group_scales: 1,
                    element_divisor: inner,
                    element_scales: 1,
                    scale: vec![channels],
                }
            }
            Kind::Group { groups, per_channel } => {
                let (channels, inner) = channels()?;
                if channels % groups != 0 {
                    return Err(Error::invalid_argument(format!("{channels} channels in {groups} groups")));
                }
                let own = channels / groups;
                Plan {
                    rows: shape[0] * groups,
                    count: own * inner,
                    groups,
                    group_scales: if per_channel { own } else { 1 },
                    element_divisor: if per_channel { inner } else { own * inner },
                    element_scales: if per_channel { own } else { 1 },
                    scale: vec![if per_channel { channels } else { groups }],
                }
            }
        })
    }

    /// Means and inverse deviations have the axes of x, extents of 1 where all is one row.
    fn statistics(&self, dims: &[Dim]) -> Result<Vec<Dim>> {
        let (Kind::Layer(axis) | Kind::Rms(axis)) = self.kind else {
            return Err(Error::internal(format!("{} gives no statistics", self.name)));
        };
        let axis = axis_of(axis, dims.len())?;
        Ok(dims.iter().enumerate().map(|(a, d)| if a < axis { d.clone() } else { Dim::Fixed(1) }).collect())
    }

    /// With statistics as outputs, or scales of other extents, as operators of their own.
    fn spelled_out(&self, shape: &Shape, inputs: &[Option<&Fact>], plan: &Plan) -> Result<Expansion> {
        let dtype = required(inputs, 0)?.dtype;
        let mut sketch = Sketch::new();
        let x = Wire::Input(0);
        if self.outputs <= 1 {
            let mut parameters = vec![x];
            for i in 1..inputs.len() {
                parameters.push(sketch.expand(&Wire::Input(i), &plan.scale)?);
            }
            let parameters: Vec<&Wire> = parameters.iter().collect();
            let y = sketch.push(Arc::new(self.clone()), &parameters);
            return Ok(sketch.finish([y]));
        }
        let axes: Vec<usize> = (shape.rank() - plan.scale.len()..shape.rank()).collect();
        // Statistics of half floats are 32-bit ones.
        let x = if dtype == DType::F32 { x } else { sketch.cast(&x, DType::F32)? };
        let (centred, mean) = if matches!(self.kind, Kind::Rms(_)) {
            (x, None)
        } else {
            let mean = sketch.reduce("ReduceMean", &x, &axes, true)?;
            (sketch.op("Sub", &[&x, &mean])?, Some(mean))
        };
        let squared = sketch.op("Mul", &[&centred, &centred])?;
        let variance = sketch.reduce("ReduceMean", &squared, &axes, true)?;
        let raised = sketch.op("Add", &[&variance, &number(DType::F32, f64::from(self.epsilon))?])?;
        let deviation = sketch.op("Sqrt", &[&raised])?;
        let inverse = sketch.op("Reciprocal", &[&deviation])?;
        let mut y = sketch.op("Mul", &[&centred, &inverse])?;
        for (i, operator) in [(1, "Mul"), (2, "Add")] {
            if optional(inputs, i).is_some() {
                let parameter = sketch.cast(&Wire::Input(i), DType::F32)?;
                y = sketch.op(operator, &[&y, &parameter])?;
            }
        }
        let y = sketch.cast(&y, dtype)?;
        Ok(match mean {
            Some(mean) => sketch.finish([y, mean, inverse].into_iter().take(self.outputs)),
            None => sketch.finish([y, inverse].into_iter().take(self.outputs)),
        })
    }

    fn fits(&self, inputs: &[Option<&Fact>], plan: &Plan) -> bool {
        let fits = |fact: &Fact| fact.shape().is_some_and(|s| s[..] == plan.scale[..]);
        (1..inputs.len()).filter_map(|i| inputs[i]).all(fits)
    }
}

impl Op for Normalization {
    fn name(&self) -> &'static str {
        self.name
    }

    fn infer(&self, inputs: &[Option<&Fact>]) -> Result<Vec<Fact>> {
        let input = required(inputs, 0)?;
        required(inputs, 1)?;
        if let Some(shape) = input.shape() {
            let plan = self.plan(&shape)?;
            for fact in inputs[1..].iter().flatten() {
                let broadcasts = fact.shape().is_none_or(|s| {
                    crate::tensor::broadcast(&s, &Shape::from(&plan.scale[..])).is_ok_and(|b| b[..] == plan.scale[..])
                });
                if !broadcasts {
                    let (got, wanted) = (fact.shape().unwrap_or(Shape::scalar()), &plan.scale);
                    return Err(Error::invalid_argument(format!("scale or bias {got} where {wanted:?} are needed")));
                }
            }
        }
        let mut outputs = vec![Fact { value: None, ..input.clone() }];
        for _ in 1..self.outputs {
            let dims = input.dims.as_ref().map(|d| self.statistics(d)).transpose()?;
            outputs.push(Fact::open(DType::F32, dims));
        }
        Ok(outputs)
    }

    fn evaluate(&self, inputs: &[Option<&Tensor>]) -> Result<Vec<Tensor>> {
        let input = required(inputs, 0)?;
        let plan = self.plan(input.shape())?;
        let parameter = |i| -> Result<Option<Vec<f64>>> {
            let Some(tensor) = optional(inputs, i) else { return Ok(None) };
            let values = tensor.to_f64s()?;
            let places = super::broadcast::indices(tensor.shape(), &plan.scale);
            Ok(Some(places.into_iter().map(|p| values[p]).collect()))
        };
        let (scale, bias) = (parameter(1)?, parameter(2)?);
        let mut values = input.to_f64s()?;
        let (mut means, mut inverses) = (Vec::new(), Vec::new());
        for (row, chunk) in values.chunks_mut(plan.count.max(1)).enumerate() {
            let count = chunk.len() as f64;
            let mean = if matches!(self.kind, Kind::Rms(_)) { 0.0 } else { chunk.iter().sum::<f64>() / count };
            let variance = chunk.iter().map(|v| (v - mean).powi(2)).sum::<f64>() / count;
            let inverse = 1.0 / (variance + f64::from(self.epsilon)).sqrt();
            for (i, value) in chunk.iter_mut().enumerate() {
                let own = row % plan.groups * plan.group_scales + i / plan.element_divisor % plan.element_scales;
                *value = (*value - mean) * inverse * scale.as_ref().map_or(1.0, |s| s[own]);
                *value += bias.as_ref().map_or(0.0, |b| b[own]);
            }
            means.push(mean);
            inverses.push(inverse);
        }
        let mut outputs = vec![Tensor::from_f64s(input.dtype(), input.shape().clone(), &values)?];
        if self.outputs > 1 {
            let dims = self.statistics(&super::arguments::fixed(input.shape()))?;
            let shape = Shape::new(dims.iter().filter_map(Dim::fixed).collect::<Vec<_>>());
            let lists = if matches!(self.kind, Kind::Rms(_)) { vec![inverses] } else { vec![means, inverses] };
            for list in lists.into_iter().take(self.outputs - 1) {
                outputs.push(Tensor::from_f64s(DType::F32, shape.clone(), &list)?);
            }
        }
        Ok(outputs)
    }

    fn expand(&self, inputs: &[Option<&Fact>], _profile: &Profile) -> Result<Option<Expansion>> {
        let Some(shape) = required(inputs, 0)?.shape() else { return Ok(None) };
        let plan = self.plan(&shape)?;
        if self.outputs <= 1 && self.fits(inputs, &plan) {
            return Ok(None);
        }
        self.spelled_out(&shape, inputs, &plan).map(Some)
    }

    fn rows(&self, query: &RowsQuery<'_>) -> Vec<Rows> {
        let rank = optional(query.inputs, 0).and_then(Fact::rank).unwrap_or(0);
        match self.kind {
            Kind::Layer(axis) | Kind::Rms(axis) => match axis_of(axis, rank) {
                Ok(axis) => query.except_axes(&(axis..rank).collect::<Vec<_>>()),
                Err(_) => query.default_answer(),
            },
            Kind::Instance | Kind::Group { .. } => query.leading_of_first(),
        }
    }

    fn host_reason(&self, inputs: &[Option<&Fact>], _profile: &Profile) -> Option<String> {
        let dtype = required(inputs, 0).ok()?.dtype;
        (!matches!(dtype, DType::F32 | DType::F16 | DType::BF16)).then(|| format!("{dtype} values"))
    }

    fn record(&self, recorder: &mut Recorder<'_>) -> Result<()> {
        let (input, scale) = (recorder.input(0)?.clone(), recorder.input(1)?.clone());
        let bias = recorder.optional_input(2).cloned();
        let output = recorder.output(0).clone();
        let plan = self.plan(&input.shape)?;
        if bias.as_ref().is_some_and(|b| b.storage != scale.storage) {
            return Err(Error::unimplemented("scale and bias of different types"));
        }
        let floats = [&input, &scale, &output].iter().all(|o| o.storage == Storage::F32);
        let by_element = plan.groups <= 1 && plan.element_divisor <= 1 && plan.element_scales == plan.count;
        let by_vectors = plan.element_divisor.is_multiple_of(4) && !matches!(self.kind, Kind::Rms(_));
        if floats && (by_element || by_vectors) && rows_of_fours(recorder, plan.rows, plan.count) {
            let group = recorder.profile.subgroup.unwrap_or(8);
            let params = Params {
                rows: word(plan.rows)?,
                vectors: word(plan.count / 4)?,
                has_bias: u32::from(bias.is_some()),
                epsilon: self.epsilon,
                groups: word(plan.groups)?,
                group_scales: word(plan.group_scales)?,
                scale_vectors: word(plan.element_divisor / 4)?,
            };
            let rms = Define::Const("RMS", u32::from(matches!(self.kind, Kind::Rms(_))));
            let group_size = Define::Const("GROUP", group);
            let (shader, defines) = match by_element {
                true => (&normalize4::SHADER, vec![rms, group_size]),
                false => (&normalize_planes4::SHADER, vec![group_size]),
            };
            return recorder.dispatch(&Work {
                shader,
                defines: &defines,
                buffers: &[input.buffer, scale.buffer, bias.map_or(scale.buffer, |b| b.buffer), output.buffer],
                params: params.words(),
                groups: linear_groups(plan.rows, group, recorder.profile.max_workgroups),
            });
        }
        let params = kernel::Params {
            rows: word(plan.rows)?,
            count: word(plan.count)?,
            groups: word(plan.groups)?,
            group_scales: word(plan.group_scales)?,
            element_divisor: word(plan.element_divisor.max(1))?,
            element_scales: word(plan.element_scales.max(1))?,
            has_bias: u32::from(bias.is_some()),
            epsilon: self.epsilon,
        };
        let grouped = recorder.profile.family == Family::Gpu && plan.count >= GROUP_FROM;
        // Without a bias something must be bound all the same.
        let bias = bias.map_or(scale.buffer, |b| b.buffer);
        recorder.dispatch(&Work {
            shader: &kernel::SHADER,
            defines: &[
                Define::Scalar("In", input.storage),
                Define::Scalar("Scale", scale.storage),
                Define::Const("RMS", u32::from(matches!(self.kind, Kind::Rms(_)))),
                Define::Const("GROUP", u32::from(grouped)),
            ],
            buffers: &[input.buffer, scale.buffer, bias, output.buffer],
            params: params.words(),
            groups: linear_groups(plan.rows, if grouped { 1 } else { 64 }, recorder.profile.max_workgroups),
        })
    }
}
