//! com.microsoft's MatMulNBits: a product with weights of 4 or 8 bits, a scale for each block of terms of a column.

use std::sync::Arc;

use super::arguments::{known, optional, required};
use super::registry::OpSpec;
use super::sketch::Sketch;
use crate::engine::ir::{Attribute, Expansion, Fact, Op, Profile, Replacement, Rows, RowsQuery, Source, Wire};
use crate::error::{Error, Result};
use crate::tensor::{DType, Dim, Shape, Tensor};

/// Inputs A \[…, terms\], B \[columns, blocks, block × bits ÷ 8\] of bytes whose low bits come first, scales \[columns ×
/// blocks\], zero points (packed like B, the bytes of each column apart, or of the scales' type; the middle of the range where
/// left out), group indices (refused), bias \[columns\].
#[derive(Clone, Copy, Debug)]
struct MatMulBits {
    terms: usize,
    columns: usize,
    bits: usize,
    block: usize,
    /// Whether B is integers \[terms, columns\] around 0 already, scales and zero points \[blocks, columns\].
    unpacked: bool,
}

pub(super) fn matmul_nbits(spec: &OpSpec<'_>) -> Result<Arc<dyn Op>> {
    let extent = |name: &str, default: i64| {
        let value = spec.attributes.int_or(name, default)?;
        usize::try_from(value)
            .ok()
            .filter(|v| (1..=1 << 31).contains(v))
            .ok_or_else(|| Error::invalid_argument(format!("{name} is {value}, should be at least 1")))
    };
    let (bits, block) = (extent("bits", 4)?, extent("block_size", 0)?);
    if bits != 4 && bits != 8 {
        return Err(Error::unimplemented(format!("weights of {bits} bits are not supported, only of 4 or 8")));
    }
    if block < 16 || !block.is_power_of_two() {
        return Err(Error::invalid_argument(format!("block_size is {block}, should be a power of two from 16 on")));
    }
    Ok(Arc::new(MatMulBits { terms: extent("K", 0)?, columns: extent("N", 0)?, bits, block, unpacked: false }))
}

impl MatMulBits {
    fn blocks(&self) -> usize {
        self.terms.div_ceil(self.block)
    }

    /// The middle of the range, which codes are counted from.
    fn middle(&self) -> u8 {
        1 << (self.bits - 1)
    }

    /// Code `i` of packed bytes.
    fn code(&self, bytes: &[u8], i: usize) -> u8 {
        match self.bits {
            4 => bytes[i / 2] >> (i % 2 * 4) & 15,
            _ => bytes[i],
        }
    }

    fn check(&self, what: &str, shape: &Shape, elements: usize) -> Result<()> {
        if shape.elements() == elements {
            return Ok(());
        }
        let Self { terms, columns, block, .. } = self;
        Err(Error::invalid_argument(format!(
            "{what} of shape {shape} for {terms} terms, {columns} columns and blocks of {block}"
        )))
    }

    /// B, scales and zero points as this operator takes them unpacked.
    fn unpack(&self, inputs: &[Option<&Tensor>]) -> Result<(Tensor, Tensor, Option<Tensor>)> {
        let (Self { terms, columns, .. }, blocks) = (*self, self.blocks());
        let (weights, scales) = (required(inputs, 1)?, required(inputs, 2)?);
        let column_bytes = blocks * self.block * self.bits / 8;
        self.check("weights", weights.shape(), columns * column_bytes)?;
        self.check("scales", scales.shape(), columns * blocks)?;
        let packed = weights.values::<u8>()?;
        let mut codes = vec![0u8; terms * columns];
        for (column, bytes) in packed.chunks_exact(column_bytes).enumerate() {
            for term in 0..terms {
                codes[term * columns + column] = self.code(bytes, term).wrapping_sub(self.middle());
            }
        }
        let codes = Tensor::from_bytes(if self.bits == 4 { DType::I4 } else { DType::I8 }, [terms, columns], codes)?;
        let turned = |dtype: DType, value: &dyn Fn(usize, usize) -> f64| {
            let values: Vec<f64> = (0..blocks).flat_map(|b| (0..columns).map(move |c| value(c, b))).collect();
            Tensor::from_f64s(dtype, [blocks, columns], &values)
        };
        let given = scales.to_f64s()?;
        let turned_scales = turned(scales.dtype(), &|column, block| given[column * blocks + block])?;
        let middle = f64::from(self.middle());
        let zeros = match optional(inputs, 3) {
            None => None,
            Some(zeros) if zeros.dtype() == DType::U8 => {
                let row = (blocks * self.bits).div_ceil(8);
                self.check("zero points", zeros.shape(), columns * row)?;
                let bytes = zeros.values::<u8>()?;
                let zero = |column: usize, block| f64::from(self.code(&bytes[column * row..], block)) - middle;
                Some(turned(DType::F32, &zero)?)
            }
            Some(zeros) => {
                self.check("zero points", zeros.shape(), columns * blocks)?;
                let zeros = zeros.to_f64s()?;
                Some(turned(DType::F32, &|column, block| zeros[column * blocks + block] - middle)?)
            }
        };
        Ok((codes, turned_scales, zeros))
    }

    /// The product, of unpacked inputs.
    fn composition(&self, inputs: &[Option<&Fact>]) -> Result<Expansion> {
        let mut sketch = Sketch::new();
        let along = [("axis", Attribute::Int(0)), ("block_size", Attribute::Int(self.block as i64))];
        let mut all = vec![Some(Wire::Input(1)), Some(Wire::Input(2))];
        all.extend(optional(inputs, 3).map(|_| Some(Wire::Input(3))));
        let weights = sketch.many(("", "DequantizeLinear"), all, &along, 1)?.remove(0);
        let mut y = sketch.op("MatMul", &[&Wire::Input(0), &weights])?;
        if optional(inputs, 5).is_some() {
            y = sketch.op("Add", &[&y, &Wire::Input(5)])?;
        }
        Ok(sketch.finish([y]))
    }

    fn as_unpacked(self) -> Self {
        Self { unpacked: true, ..self }
    }
}

impl Op for MatMulBits {
    fn name(&self) -> &'static str {
        "MatMulNBits"
    }

    fn infer(&self, inputs: &[Option<&Fact>]) -> Result<Vec<Fact>> {
        if optional(inputs, 4).is_some() {
            return Err(Error::unimplemented("group indices (g_idx) of MatMulNBits are not supported"));
        }
        if self.unpacked && optional(inputs, 3).is_some_and(|zeros| zeros.value.is_none()) {
            return Err(Error::unimplemented("zero points of MatMulNBits that vary are not supported"));
        }
        let a = required(inputs, 0)?;
        let Some([outer @ .., terms]) = a.dims.as_deref() else { return Ok(vec![Fact::of_unknown_rank(a.dtype)]) };
        if terms.fixed().is_some_and(|n| n != self.terms) {
            return Err(Error::invalid_argument(format!("{terms} terms against {} of the weights", self.terms)));
        }
        let dims = outer.iter().cloned().chain([Dim::Fixed(self.columns)]);
        Ok(vec![Fact::new(a.dtype, dims)])
    }

    fn evaluate(&self, inputs: &[Option<&Tensor>]) -> Result<Vec<Tensor>> {
        if self.unpacked {
            let facts = known(inputs);
            let facts: Vec<Option<&Fact>> = facts.iter().map(Option::as_ref).collect();
            return self.composition(&facts)?.evaluate(inputs);
        }
        let (codes, scales, zeros) = self.unpack(inputs)?;
        let all = [optional(inputs, 0), Some(&codes), Some(&scales), zeros.as_ref(), None, optional(inputs, 5)];
        self.as_unpacked().evaluate(&all)
    }

    fn simplify(&self, constants: &[Option<&Tensor>], _profile: &Profile) -> Result<Option<Replacement>> {
        let is_constant = |i: usize| optional(constants, i).is_some();
        if self.unpacked || !is_constant(1) || !is_constant(2) {
            return Ok(None);
        }
        let (codes, scales, zeros) = self.unpack(constants)?;
        let mut inputs = vec![Some(Source::Input(0)), Some(Source::Constant(codes)), Some(Source::Constant(scales))];
        // What is not constant is absent: `infer` makes sure.
        let zeros = zeros.map_or(Source::Input(3), Source::Constant);
        inputs.extend([Some(zeros), Some(Source::Input(4)), Some(Source::Input(5))]);
        Ok(Some(Replacement { op: Arc::new(self.as_unpacked()), inputs }))
    }

    fn expand(&self, inputs: &[Option<&Fact>], _profile: &Profile) -> Result<Option<Expansion>> {
        if self.unpacked { self.composition(inputs).map(Some) } else { Ok(None) }
    }

    fn rows(&self, query: &RowsQuery<'_>) -> Vec<Rows> {
        query.default_answer()
    }

    fn host_reason(&self, _inputs: &[Option<&Fact>], _profile: &Profile) -> Option<String> {
        (!self.unpacked).then(|| "its packed weights vary".to_owned())
    }
}
