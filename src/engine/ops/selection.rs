//! Operators whose results are as long as the data say: NonZero, Compress, Unique.

use std::collections::HashMap;
use std::sync::Arc;

use super::arguments::{around, axis_of, made, required, unknown};
use super::registry::OpSpec;
use crate::engine::ir::{Fact, Op};
use crate::error::{Error, Result};
use crate::tensor::{DType, Dim, Shape, Tensor};

pub(super) fn non_zero(_spec: &OpSpec<'_>) -> Result<Arc<dyn Op>> {
    Ok(Arc::new(NonZero))
}

/// The coordinates of all elements that are not zero, one line an axis.
#[derive(Debug)]
struct NonZero;

impl Op for NonZero {
    fn name(&self) -> &'static str {
        "NonZero"
    }

    fn infer(&self, inputs: &[Option<&Fact>]) -> Result<Vec<Fact>> {
        let rank = required(inputs, 0)?.rank();
        Ok(vec![Fact::new(DType::I64, [rank.map_or(Dim::Unknown, |r| Dim::Fixed(r.max(1))), Dim::Unknown])])
    }

    fn evaluate(&self, inputs: &[Option<&Tensor>]) -> Result<Vec<Tensor>> {
        let input = required(inputs, 0)?;
        let places: Vec<usize> = match input.dtype() {
            DType::String => (0..input.strings().len()).filter(|i| !input.strings()[*i].is_empty()).collect(),
            _ => input.to_f64s()?.iter().enumerate().filter(|(_, v)| **v != 0.0).map(|(i, _)| i).collect(),
        };
        let shape = if input.shape().rank() == 0 { Shape::new(vec![1]) } else { input.shape().clone() };
        let strides = shape.strides();
        let coordinates = (0..shape.rank())
            .flat_map(|axis| places.iter().map(move |p| (axis, *p)))
            .map(|(axis, place)| (place / strides[axis] % shape[axis]) as i64);
        Ok(vec![Tensor::from_vec([shape.rank(), places.len()], coordinates.collect())?])
    }
}

/// Entries of an axis of `input`, chosen by number.
fn taken(input: &Tensor, axis: usize, chosen: &[usize]) -> Result<Tensor> {
    let [outer, extent, inner] = around(input.shape(), axis);
    let mut dims = input.shape().to_vec();
    dims[axis] = chosen.len();
    let blocks = (0..outer).flat_map(|o| chosen.iter().map(move |c| (o * extent + c) * inner));
    if input.dtype() == DType::String {
        return Tensor::from_strings(dims, blocks.flat_map(|at| input.strings()[at..at + inner].to_vec()).collect());
    }
    let size = input.dtype().bytes();
    let bytes: Vec<u8> = blocks.flat_map(|at| &input.bytes()[at * size..(at + inner) * size]).copied().collect();
    Tensor::from_bytes(input.dtype(), dims, bytes)
}

pub(super) fn compress(spec: &OpSpec<'_>) -> Result<Arc<dyn Op>> {
    Ok(Arc::new(Compress { axis: spec.attributes.int("axis")? }))
}

/// The entries for which input 1 holds; without an axis those of the flattened input.
#[derive(Debug)]
struct Compress {
    axis: Option<i64>,
}

impl Op for Compress {
    fn name(&self) -> &'static str {
        "Compress"
    }

    fn infer(&self, inputs: &[Option<&Fact>]) -> Result<Vec<Fact>> {
        let input = required(inputs, 0)?;
        let dims = match (&input.dims, self.axis) {
            (_, None) => Some(unknown(1)),
            (Some(dims), Some(axis)) => {
                let mut dims = dims.clone();
                let axis = axis_of(axis, dims.len())?;
                dims[axis] = Dim::Unknown;
                Some(dims)
            }
            (None, Some(_)) => None,
        };
        Ok(vec![Fact::open(input.dtype, dims)])
    }

    fn evaluate(&self, inputs: &[Option<&Tensor>]) -> Result<Vec<Tensor>> {
        let (input, condition) = (required(inputs, 0)?, required(inputs, 1)?);
        let flat;
        let (input, axis) = match self.axis {
            Some(axis) => (input, axis_of(axis, input.shape().rank())?),
            None => {
                flat = input.reshaped([input.shape().elements()])?;
                (&flat, 0)
            }
        };
        // A shorter condition leaves the rest out.
        let extent = input.shape()[axis];
        let chosen: Vec<usize> =
            condition.bytes().iter().take(extent).enumerate().filter(|(_, c)| **c != 0).map(|(i, _)| i).collect();
        Ok(vec![taken(input, axis, &chosen)?])
    }
}

pub(super) fn unique(spec: &OpSpec<'_>) -> Result<Arc<dyn Op>> {
    Ok(Arc::new(Unique {
        axis: spec.attributes.int("axis")?,
        sorted: spec.attributes.flag_or("sorted", true)?,
        outputs: spec.outputs,
    }))
}

/// Each different entry once; then where it is first, which one each entry is, and how many there are of it.
#[derive(Debug)]
struct Unique {
    axis: Option<i64>,
    sorted: bool,
    outputs: usize,
}

/// What entries are compared by.
#[derive(Clone, Copy, Debug)]
enum Keys<'a> {
    Numbers(&'a [f64]),
    Whole(&'a [i64]),
    Texts(&'a [bytes::Bytes]),
}

impl Keys<'_> {
    fn compare(self, a: usize, b: usize) -> std::cmp::Ordering {
        match self {
            Keys::Numbers(v) => v[a].partial_cmp(&v[b]).unwrap_or_else(|| v[a].is_nan().cmp(&v[b].is_nan())),
            Keys::Whole(v) => v[a].cmp(&v[b]),
            Keys::Texts(v) => v[a].cmp(&v[b]),
        }
    }

    fn hash(self, at: usize, hasher: &mut impl std::hash::Hasher) {
        use std::hash::Hash as _;
        match self {
            // Zero of either sign is the same.
            Keys::Numbers(v) => (v[at] + 0.0).to_bits().hash(hasher),
            Keys::Whole(v) => v[at].hash(hasher),
            Keys::Texts(v) => v[at].hash(hasher),
        }
    }
}

impl Unique {
    /// For each different entry, in order, all entries equal to it.
    fn groups(&self, keys: Keys<'_>, [outer, extent, inner]: [usize; 3]) -> Vec<Vec<usize>> {
        let elements =
            |entry: usize| (0..outer).flat_map(move |o| (0..inner).map(move |i| (o * extent + entry) * inner + i));
        let compare = |a: usize, b: usize| {
            let mut pairs = elements(a).zip(elements(b)).map(|(x, y)| keys.compare(x, y));
            pairs.find(|o| o.is_ne()).unwrap_or(std::cmp::Ordering::Equal)
        };
        let mut buckets: HashMap<u64, Vec<usize>> = HashMap::new();
        let mut groups: Vec<Vec<usize>> = Vec::new();
        for entry in 0..extent {
            let mut hasher = std::hash::DefaultHasher::new();
            elements(entry).for_each(|at| keys.hash(at, &mut hasher));
            let bucket = buckets.entry(std::hash::Hasher::finish(&hasher)).or_default();
            match bucket.iter().find(|g| compare(groups[**g][0], entry).is_eq()) {
                Some(group) => groups[*group].push(entry),
                None => {
                    bucket.push(groups.len());
                    groups.push(vec![entry]);
                }
            }
        }
        if self.sorted {
            groups.sort_by(|a, b| compare(a[0], b[0]));
        }
        groups
    }
}

impl Op for Unique {
    fn name(&self) -> &'static str {
        "Unique"
    }

    fn infer(&self, inputs: &[Option<&Fact>]) -> Result<Vec<Fact>> {
        let input = required(inputs, 0)?;
        let dims = match (&input.dims, self.axis) {
            (_, None) => Some(unknown(1)),
            (Some(dims), Some(axis)) => {
                let axis = axis_of(axis, dims.len())?;
                let mut dims = dims.clone();
                dims[axis] = Dim::Unknown;
                Some(dims)
            }
            (None, Some(_)) => None,
        };
        let first = Fact::open(input.dtype, dims);
        let numbers = (1..self.outputs).map(|_| Fact::new(DType::I64, unknown(1)));
        Ok(std::iter::once(first).chain(numbers).collect())
    }

    fn evaluate(&self, inputs: &[Option<&Tensor>]) -> Result<Vec<Tensor>> {
        let input = required(inputs, 0)?;
        let flat;
        let (input, axis) = match self.axis {
            Some(axis) => (input, axis_of(axis, input.shape().rank())?),
            None => {
                flat = input.reshaped([input.shape().elements()])?;
                (&flat, 0)
            }
        };
        let lines = around(input.shape(), axis);
        made([lines[1]])?;
        let groups = match input.dtype() {
            DType::String => self.groups(Keys::Texts(input.strings()), lines),
            dtype if dtype.is_float() => self.groups(Keys::Numbers(&input.to_f64s()?), lines),
            DType::U64 => return Err(Error::unimplemented("Unique of u64 values")),
            _ => self.groups(Keys::Whole(&input.to_i64s()?), lines),
        };
        let firsts: Vec<usize> = groups.iter().map(|g| g[0]).collect();
        let mut inverse = vec![0i64; lines[1]];
        for (number, group) in groups.iter().enumerate() {
            group.iter().for_each(|entry| inverse[*entry] = number as i64);
        }
        let indices: Vec<i64> = firsts.iter().map(|f| *f as i64).collect();
        let counts: Vec<i64> = groups.iter().map(|g| g.len() as i64).collect();
        let mut outputs = vec![taken(input, axis, &firsts)?];
        for numbers in [indices, inverse, counts].into_iter().take(self.outputs.saturating_sub(1)) {
            outputs.push(Tensor::from_vec([numbers.len()], numbers)?);
        }
        Ok(outputs)
    }
}
