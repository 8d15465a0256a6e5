//! Comparisons, logic and selection.

use std::sync::Arc;

use super::arguments::required;
use super::broadcast::{Numbers, common_dims, common_shape, indices};
use super::functions::of_class;
use super::registry::OpSpec;
use crate::engine::ir::{Class, Fact, Op, PointwiseBuilder, Reg, Rows, RowsQuery};
use crate::error::{Error, Result};
use crate::tensor::{DType, Tensor};

/// A predicate over two elements.
#[derive(Debug)]
struct Kind {
    name: &'static str,
    real: fn(f64, f64) -> bool,
    whole: fn(i64, i64) -> bool,
    /// What the shader's functions for it are called, the class left out.
    shader: &'static str,
}

macro_rules! kinds {
    ($($(#[$doc:meta])* $function:ident, $name:literal, $real:expr, $whole:expr, $shader:literal;)*) => {
        $(pub(super) fn $function(_spec: &OpSpec<'_>) -> Result<Arc<dyn Op>> {
            static KIND: Kind = Kind { name: $name, real: $real, whole: $whole, shader: $shader };
            Ok(Arc::new(Compare { kind: &KIND }))
        })*
    };
}

kinds! {
    equal, "Equal", |a, b| a == b, |a, b| a == b, "equal";
    greater, "Greater", |a, b| a > b, |a, b| a > b, "greater";
    greater_or_equal, "GreaterOrEqual", |a, b| a >= b, |a, b| a >= b, "greater_equal";
    less, "Less", |a, b| a < b, |a, b| a < b, "less";
    less_or_equal, "LessOrEqual", |a, b| a <= b, |a, b| a <= b, "less_equal";
    and, "And", |a, b| a != 0.0 && b != 0.0, |a, b| a != 0 && b != 0, "and";
    or, "Or", |a, b| a != 0.0 || b != 0.0, |a, b| a != 0 || b != 0, "or";
    xor, "Xor", |a, b| (a != 0.0) != (b != 0.0), |a, b| (a != 0) != (b != 0), "xor";
}

/// One bool for each pair of elements.
#[derive(Debug)]
struct Compare {
    kind: &'static Kind,
}

impl Op for Compare {
    fn name(&self) -> &'static str {
        self.kind.name
    }

    fn infer(&self, inputs: &[Option<&Fact>]) -> Result<Vec<Fact>> {
        let facts = [required(inputs, 0)?, required(inputs, 1)?];
        if (facts[0].dtype == DType::String) != (facts[1].dtype == DType::String) {
            return Err(Error::invalid_argument(format!("{} compared with {}", facts[0].dtype, facts[1].dtype)));
        }
        Ok(vec![Fact::open(DType::Bool, common_dims(&facts)?)])
    }

    fn evaluate(&self, inputs: &[Option<&Tensor>]) -> Result<Vec<Tensor>> {
        let (a, b) = (required(inputs, 0)?, required(inputs, 1)?);
        let shape = common_shape([a.shape(), b.shape()])?;
        let pairs = indices(a.shape(), &shape).into_iter().zip(indices(b.shape(), &shape));
        let bits: Vec<u8> = if a.dtype() == DType::String || b.dtype() == DType::String {
            if a.dtype() != b.dtype() {
                return Err(Error::invalid_argument("strings are only compared with strings"));
            }
            if self.kind.name != "Equal" {
                return Err(Error::invalid_argument("strings are only compared for equality"));
            }
            pairs.map(|(i, j)| u8::from(a.strings()[i] == b.strings()[j])).collect()
        } else {
            match (Numbers::of(a)?, Numbers::of(b)?) {
                (Numbers::Whole(x), Numbers::Whole(y)) if a.dtype() == DType::U64 => {
                    // Flipping the top bit turns the unsigned order into the signed one.
                    let signed = |v: i64| v ^ i64::MIN;
                    pairs.map(|(i, j)| u8::from((self.kind.whole)(signed(x[i]), signed(y[j])))).collect()
                }
                (Numbers::Whole(x), Numbers::Whole(y)) => {
                    pairs.map(|(i, j)| u8::from((self.kind.whole)(x[i], y[j]))).collect()
                }
                _ => {
                    let (x, y) = (a.to_f64s()?, b.to_f64s()?);
                    pairs.map(|(i, j)| u8::from((self.kind.real)(x[i], y[j]))).collect()
                }
            }
        };
        Ok(vec![Tensor::from_bools(shape, bits)?])
    }

    fn rows(&self, query: &RowsQuery<'_>) -> Vec<Rows> {
        query.elementwise()
    }

    fn pointwise(&self, builder: &mut PointwiseBuilder<'_>) -> Option<Reg> {
        let class = builder.class_of(builder.fact(0)?.dtype)?;
        let function = of_class(self.kind.shader, class)?;
        let (a, b) = (builder.input(0)?, builder.input(1)?);
        Some(builder.call(function, &[a, b], Class::U32))
    }
}

pub(super) fn select(_spec: &OpSpec<'_>) -> Result<Arc<dyn Op>> {
    Ok(Arc::new(Where))
}

/// Elements of one tensor or another, by a third.
#[derive(Debug)]
pub(super) struct Where;

impl Op for Where {
    fn name(&self) -> &'static str {
        "Where"
    }

    fn infer(&self, inputs: &[Option<&Fact>]) -> Result<Vec<Fact>> {
        let facts = [required(inputs, 0)?, required(inputs, 1)?, required(inputs, 2)?];
        Ok(vec![Fact::open(facts[1].dtype, common_dims(&facts)?)])
    }

    fn evaluate(&self, inputs: &[Option<&Tensor>]) -> Result<Vec<Tensor>> {
        let (condition, a, b) = (required(inputs, 0)?, required(inputs, 1)?, required(inputs, 2)?);
        if a.dtype() != b.dtype() {
            return Err(Error::invalid_argument(format!("Where of {} and {}", a.dtype(), b.dtype())));
        }
        let shape = common_shape([condition.shape(), a.shape(), b.shape()])?;
        let chosen = condition.values::<u8>()?;
        let at = |t: &Tensor| indices(t.shape(), &shape);
        let choices = at(condition).into_iter().zip(at(a).into_iter().zip(at(b)));
        if a.dtype() == DType::String {
            let pick = |(c, (i, j)): (usize, (usize, usize))| {
                if chosen[c] != 0 { a.strings()[i].clone() } else { b.strings()[j].clone() }
            };
            return Ok(vec![Tensor::from_strings(shape.clone(), choices.map(pick).collect())?]);
        }
        let size = a.dtype().bytes();
        let mut bytes = Vec::with_capacity(shape.elements() * size);
        for (c, (i, j)) in choices {
            let (from, at) = if chosen[c] != 0 { (a, i) } else { (b, j) };
            bytes.extend_from_slice(&from.bytes()[at * size..(at + 1) * size]);
        }
        Ok(vec![Tensor::from_bytes(a.dtype(), shape.clone(), bytes)?])
    }

    fn rows(&self, query: &RowsQuery<'_>) -> Vec<Rows> {
        query.elementwise()
    }

    fn pointwise(&self, builder: &mut PointwiseBuilder<'_>) -> Option<Reg> {
        let class = builder.class_of(builder.output_dtype())?;
        let function = of_class("where", class)?;
        let (condition, a, b) = (builder.input(0)?, builder.input(1)?, builder.input(2)?);
        Some(builder.call(function, &[condition, a, b], class))
    }
}
