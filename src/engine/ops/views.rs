//! Operators that only change the shape: they cost nothing on a device.

use std::sync::Arc;

use super::arguments::{axis_of, fixed, ints, known_ints, optional, required, unknown};
use super::registry::OpSpec;
use crate::engine::ir::{Expansion, Fact, Op, Profile, Rows, RowsQuery, Strided, Wire};
use crate::error::{Error, Result};
use crate::tensor::{Dim, Shape, Tensor};

/// How the new shape comes about.
#[derive(Debug)]
enum Kind {
    Identity,
    /// From input 1, or the attribute of opsets before 5; `allow_zero` keeps zeros instead of copying extents.
    Reshape {
        shape: Option<Vec<i64>>,
        allow_zero: bool,
    },
    /// To two axes, the first one made of those before this axis.
    Flatten(i64),
    /// Axes of extent 1 go; from the attribute before opset 13, input 1 since.
    Squeeze(Option<Vec<i64>>),
    /// Axes of extent 1 come, likewise.
    Unsqueeze(Option<Vec<i64>>),
}

pub(super) fn identity(_spec: &OpSpec<'_>) -> Result<Arc<dyn Op>> {
    Ok(nothing())
}

/// The operator that gives what it is given.
pub(super) fn nothing() -> Arc<dyn Op> {
    Arc::new(View(Kind::Identity))
}

/// The operator that gives input 0 this shape.
pub(super) fn reshaping(shape: &[usize]) -> Arc<dyn Op> {
    let shape = Some(shape.iter().map(|d| *d as i64).collect());
    Arc::new(View(Kind::Reshape { shape, allow_zero: true }))
}

pub(super) fn reshape(spec: &OpSpec<'_>) -> Result<Arc<dyn Op>> {
    let shape = spec.attributes.ints("shape")?;
    Ok(Arc::new(View(Kind::Reshape { shape, allow_zero: spec.attributes.flag_or("allowzero", false)? })))
}

pub(super) fn flatten(spec: &OpSpec<'_>) -> Result<Arc<dyn Op>> {
    Ok(Arc::new(View(Kind::Flatten(spec.attributes.int_or("axis", 1)?))))
}

pub(super) fn squeeze(spec: &OpSpec<'_>) -> Result<Arc<dyn Op>> {
    Ok(Arc::new(View(Kind::Squeeze(spec.attributes.ints("axes")?))))
}

pub(super) fn unsqueeze(spec: &OpSpec<'_>) -> Result<Arc<dyn Op>> {
    Ok(Arc::new(View(Kind::Unsqueeze(spec.attributes.ints("axes")?))))
}

/// Output 0 has input 0's elements in the same order.
#[derive(Debug)]
struct View(Kind);

impl View {
    /// The axes or shape that input 1 or an attribute gives: outer `None` when neither is there.
    fn parameter<T: Clone>(
        &self,
        attribute: Option<&Vec<i64>>,
        input: Option<T>,
        read: impl Fn(T) -> Option<Vec<i64>>,
    ) -> Option<Option<Vec<i64>>> {
        match input {
            Some(input) => Some(read(input)),
            None => attribute.map(|a| Some(a.clone())),
        }
    }

    fn given(&self) -> Option<&Vec<i64>> {
        match &self.0 {
            Kind::Reshape { shape, .. } => shape.as_ref(),
            Kind::Squeeze(axes) | Kind::Unsqueeze(axes) => axes.as_ref(),
            _ => None,
        }
    }

    /// Extents of the output. `values` is the shape or axes: outer `None` when absent, inner when not constant.
    fn output(&self, dims: &[Dim], values: Option<Option<Vec<i64>>>, count: Option<usize>) -> Result<Option<Vec<Dim>>> {
        Ok(match &self.0 {
            Kind::Identity => Some(dims.to_vec()),
            Kind::Flatten(axis) => {
                let at = if *axis == dims.len() as i64 { dims.len() } else { axis_of(*axis, dims.len().max(1))? };
                Some(vec![product(&dims[..at]), product(&dims[at..])])
            }
            Kind::Reshape { allow_zero, .. } => match values {
                Some(Some(shape)) => Some(reshaped(dims, &shape, *allow_zero)?),
                _ => count.map(unknown),
            },
            Kind::Squeeze(_) => match values {
                Some(Some(axes)) => Some(squeezed(dims, &axes)?),
                Some(None) => count.and_then(|n| dims.len().checked_sub(n)).map(unknown),
                None if dims.iter().all(|d| d.fixed().is_some()) => {
                    Some(dims.iter().filter(|d| **d != Dim::Fixed(1)).cloned().collect())
                }
                None => None,
            },
            Kind::Unsqueeze(_) => match values {
                Some(Some(axes)) => Some(unsqueezed(dims, &axes)?),
                _ => count.map(|n| unknown(dims.len() + n)),
            },
        })
    }
}

/// The product of extents: a lone symbol beside ones stays.
fn product(dims: &[Dim]) -> Dim {
    let mut rest = dims.iter().filter(|d| **d != Dim::Fixed(1));
    match (rest.next(), rest.next()) {
        (None, _) => Dim::Fixed(1),
        (Some(one), None) => one.clone(),
        _ => {
            let all = dims.iter().map(Dim::fixed).try_fold(1usize, |n, d| n.checked_mul(d?));
            all.map_or(Dim::Unknown, Dim::Fixed)
        }
    }
}

fn reshaped(dims: &[Dim], shape: &[i64], allow_zero: bool) -> Result<Vec<Dim>> {
    let mut output = Vec::with_capacity(shape.len());
    for (axis, extent) in shape.iter().enumerate() {
        output.push(match *extent {
            0 if !allow_zero => dims.get(axis).cloned().ok_or_else(|| {
                Error::invalid_argument(format!(
                    "shape {shape:?} copies axis {axis} of an input of rank {}",
                    dims.len()
                ))
            })?,
            -1 => Dim::Unknown,
            extent => Dim::Fixed(
                usize::try_from(extent)
                    .map_err(|_| Error::invalid_argument(format!("shape {shape:?} has the extent {extent}")))?,
            ),
        });
    }
    let total = dims.iter().map(Dim::fixed).try_fold(1usize, |n, d| n.checked_mul(d?));
    let wild = shape.iter().position(|e| *e == -1);
    if shape.iter().filter(|e| **e == -1).count() > 1 {
        return Err(Error::invalid_argument(format!("shape {shape:?} leaves more than one extent open")));
    }
    let mut others = output.iter().enumerate().filter(|(i, _)| Some(*i) != wild).map(|(_, d)| d.fixed());
    let others = others.try_fold(1usize, |n, d| n.checked_mul(d?));
    let mismatch = || {
        let from: Vec<String> = dims.iter().map(Dim::to_string).collect();
        Error::invalid_argument(format!("cannot reshape [{}] to {shape:?}", from.join(",")))
    };
    match (wild, total, others) {
        (Some(wild), Some(total), Some(others)) => {
            if others == 0 || total % others != 0 {
                return Err(mismatch());
            }
            output[wild] = Dim::Fixed(total / others);
        }
        (None, Some(total), Some(others)) if total != others => return Err(mismatch()),
        _ => {}
    }
    if let (Some(wild), None) = (wild, total) {
        output[wild] = open_extent(dims, &output, wild);
    }
    Ok(output)
}

/// The open extent where symbols cancel: the one input symbol that the other outputs do not repeat, the rest being equal.
fn open_extent(dims: &[Dim], output: &[Dim], wild: usize) -> Dim {
    let mut left: Vec<&Dim> = dims.iter().filter(|d| d.fixed().is_none()).collect();
    let inputs: usize = dims.iter().filter_map(Dim::fixed).product();
    let outputs: usize = output.iter().enumerate().filter(|(i, _)| *i != wild).filter_map(|(_, d)| d.fixed()).product();
    for dim in output.iter().filter(|d| d.fixed().is_none()) {
        if let Some(at) = left.iter().position(|l| *l == dim && **l != Dim::Unknown) {
            left.remove(at);
        }
    }
    match left[..] {
        [one] if inputs == outputs => one.clone(),
        [] if outputs != 0 && inputs.is_multiple_of(outputs) => Dim::Fixed(inputs / outputs),
        _ => Dim::Unknown,
    }
}

fn squeezed(dims: &[Dim], axes: &[i64]) -> Result<Vec<Dim>> {
    let axes = axes.iter().map(|a| axis_of(*a, dims.len())).collect::<Result<Vec<_>>>()?;
    if let Some(axis) = axes.iter().find(|a| dims[**a].fixed().is_some_and(|d| d != 1)) {
        return Err(Error::invalid_argument(format!("axis {axis} of extent {} cannot be squeezed", dims[*axis])));
    }
    Ok(dims.iter().enumerate().filter(|(i, _)| !axes.contains(i)).map(|(_, d)| d.clone()).collect())
}

fn unsqueezed(dims: &[Dim], axes: &[i64]) -> Result<Vec<Dim>> {
    let rank = dims.len() + axes.len();
    let axes = axes.iter().map(|a| axis_of(*a, rank)).collect::<Result<Vec<_>>>()?;
    let mut old = dims.iter().cloned();
    let output: Vec<Dim> =
        (0..rank).map(|i| if axes.contains(&i) { Some(Dim::Fixed(1)) } else { old.next() }).map_while(|d| d).collect();
    if output.len() != rank {
        return Err(Error::invalid_argument(format!("axes {axes:?} repeat an axis")));
    }
    Ok(output)
}

impl Op for View {
    fn name(&self) -> &'static str {
        match self.0 {
            Kind::Identity => "Identity",
            Kind::Reshape { .. } => "Reshape",
            Kind::Flatten(_) => "Flatten",
            Kind::Squeeze(_) => "Squeeze",
            Kind::Unsqueeze(_) => "Unsqueeze",
        }
    }

    fn infer(&self, inputs: &[Option<&Fact>]) -> Result<Vec<Fact>> {
        let input = required(inputs, 0)?;
        if let Kind::Identity = self.0 {
            return Ok(vec![input.clone()]);
        }
        let reads = matches!(self.0, Kind::Reshape { .. } | Kind::Squeeze(_) | Kind::Unsqueeze(_));
        let second = optional(inputs, 1).filter(|_| reads);
        let known = if reads { known_ints(inputs, 1)? } else { None };
        let values = self.parameter(self.given(), second, |_| known.clone().flatten());
        let count = second.and_then(Fact::shape).map(|s| s.elements());
        let dims = match &input.dims {
            Some(dims) => self.output(dims, values, count)?,
            None => None,
        };
        let value = input.value.as_ref().zip(dims.as_ref().and_then(|d| d.iter().map(Dim::fixed).collect()));
        let value = value.map(|(tensor, shape): (_, Vec<usize>)| tensor.reshaped(shape)).transpose()?;
        Ok(vec![Fact { value, ..Fact::open(input.dtype, dims) }])
    }

    fn evaluate(&self, inputs: &[Option<&Tensor>]) -> Result<Vec<Tensor>> {
        let input = required(inputs, 0)?;
        let reads = matches!(self.0, Kind::Reshape { .. } | Kind::Squeeze(_) | Kind::Unsqueeze(_));
        let values = if reads { ints(inputs, 1)? } else { None };
        let values = values.or_else(|| self.given().cloned());
        let dims = self.output(&fixed(input.shape()), values.map(Some), None)?;
        let shape = dims.and_then(|d| d.iter().map(Dim::fixed).collect::<Option<Vec<_>>>());
        let shape = shape.ok_or_else(|| Error::invalid_argument("the new shape is not given"))?;
        Ok(vec![input.reshaped(shape)?])
    }

    fn rows(&self, query: &RowsQuery<'_>) -> Vec<Rows> {
        let (Some(Rows::Along { axis, outer, .. }), Some(Some(input)), Some(output)) =
            (query.rows.first().copied(), query.inputs.first(), query.outputs.first())
        else {
            return query.default_answer();
        };
        let (Some(input), Some(output)) = (input.shape(), output.shape()) else { return query.all(Rows::Mixed) };
        query.all(regrouped(&input, [axis, outer], &output, query.batch))
    }

    fn shape_inputs(&self) -> &'static [usize] {
        match self.0 {
            Kind::Reshape { .. } | Kind::Squeeze(_) | Kind::Unsqueeze(_) => &[1],
            _ => &[],
        }
    }

    fn is_view(&self) -> bool {
        true
    }

    fn arrangement(&self, _output: usize, inputs: &[Option<&Fact>]) -> Option<Strided> {
        Some(Strided::whole(optional(inputs, 0)?.shape()?.elements()))
    }

    fn takes_sequences(&self) -> bool {
        matches!(self.0, Kind::Identity)
    }

    fn expand(&self, inputs: &[Option<&Fact>], _profile: &Profile) -> Result<Option<Expansion>> {
        // A tensor's copy costs nothing on the device; a sequence is not there.
        let same = matches!(self.0, Kind::Identity) && required(inputs, 0)?.dtype.is_compound();
        Ok(same.then(|| Expansion { nodes: Vec::new(), outputs: vec![Some(Wire::Input(0))] }))
    }
}

/// Where rows along `axis` of `input`, which goes `outer` times through them, are after its elements, in the same order, take
/// the shape `output`: at the axis before or within which as many elements are counted, if the rest of its extent is a
/// multiple of the batch.
fn regrouped(input: &Shape, [axis, outer]: [usize; 2], output: &Shape, batch: usize) -> Rows {
    let before: usize = input[..axis].iter().product::<usize>() * outer;
    let mut counted = 1;
    for (at, extent) in output.iter().enumerate() {
        let outer = before.checked_div(counted).unwrap_or(0);
        if outer * counted == before && outer > 0 && extent % (outer * batch) == 0 && *extent > 0 {
            return Rows::Along { axis: at, per_row: extent / (outer * batch), outer };
        }
        counted *= extent;
    }
    Rows::Mixed
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reshapes_resolve_open_extents() {
        let symbol = Dim::Symbol("n".into());
        let dims = [symbol.clone(), Dim::Fixed(3), Dim::Fixed(4)];
        assert_eq!(reshaped(&dims, &[-1, 12], false).expect("fits"), [symbol.clone(), Dim::Fixed(12)]);
        assert_eq!(reshaped(&dims, &[0, -1], false).expect("fits"), [symbol, Dim::Fixed(12)]);
        assert!(reshaped(&fixed(&[2, 3]), &[4, -1], false).is_err());
        assert_eq!(reshaped(&fixed(&[0, 3]), &[3, 0], true).expect("fits"), fixed(&[3, 0]));
    }

    #[test]
    fn rows_survive_where_their_order_does() {
        let along = |axis, per_row| Rows::Along { axis, per_row, outer: 1 };
        let shape = |dims: &[usize]| Shape::from(dims);
        assert_eq!(regrouped(&shape(&[61, 3, 4]), [0, 1], &shape(&[61, 12]), 61), along(0, 1));
        assert_eq!(regrouped(&shape(&[61, 3, 4]), [0, 1], &shape(&[183, 4]), 61), along(0, 3));
        assert_eq!(regrouped(&shape(&[183, 4]), [0, 1], &shape(&[61, 3, 4]), 61), along(0, 1));
        let folded = Rows::Along { axis: 0, per_row: 2, outer: 5 };
        assert_eq!(regrouped(&shape(&[5, 61, 2, 3]), [1, 1], &shape(&[610, 3]), 61), folded);
        assert_eq!(regrouped(&shape(&[610, 3]), [0, 5], &shape(&[5, 61, 6]), 61), along(1, 1));
        assert_eq!(regrouped(&shape(&[5, 61]), [1, 1], &shape(&[61, 5]), 61), Rows::Mixed);
    }
}
