//! What a test runs: one operator, its attributes and inputs.

use coracle::engine::ir::{Attribute, Attributes};
use coracle::tensor::{DType, Shape, Tensor};

/// One operator on some inputs.
pub(crate) struct Case {
    /// The operator's name, as ONNX spells it; behind `DOMAIN:` for another domain than ONNX's own.
    pub(crate) operator: &'static str,
    /// What is special about it.
    pub(crate) name: &'static str,
    /// The version whose attribute forms are used.
    pub(crate) opset: i64,
    /// Its attributes.
    pub(crate) attributes: Attributes,
    /// Its inputs; `None` for one left out.
    pub(crate) inputs: Vec<Option<Input>>,
    /// How many outputs are asked for.
    pub(crate) outputs: usize,
    /// The largest error allowed, relative to the largest expected magnitude, at least 1.
    pub(crate) tolerance: f64,
    /// Whether it is meant to be computed on the host.
    pub(crate) on_host: bool,
    /// Whether it is meant to be computed on the host where the adapter lacks 64-bit types.
    pub(crate) wide: bool,
    /// Whether constants of 4 and 8 bits are meant to stay packed on the device.
    pub(crate) packed: bool,
}

/// An input and whether the graph holds it as a constant.
pub(crate) struct Input {
    pub(crate) tensor: Tensor,
    pub(crate) is_constant: bool,
    /// What DequantizeLinear restores it with, if it does.
    pub(crate) restored: Option<Restored>,
}

/// Scales and zero points of a quantised constant.
pub(crate) struct Restored {
    pub(crate) scales: Tensor,
    pub(crate) zeros: Option<Tensor>,
    pub(crate) axis: i64,
    /// Entries of the axis for each scale; 0 for one each.
    pub(crate) block: i64,
}

impl Case {
    pub(crate) fn new(operator: &'static str, name: &'static str) -> Self {
        Self {
            operator,
            name,
            opset: 18,
            attributes: Attributes::new(),
            inputs: Vec::new(),
            outputs: 1,
            tolerance: 2e-6,
            on_host: false,
            wide: false,
            packed: false,
        }
    }

    pub(crate) fn opset(mut self, opset: i64) -> Self {
        self.opset = opset;
        self
    }

    pub(crate) fn varying(mut self, tensor: Tensor) -> Self {
        self.inputs.push(Some(Input { tensor, is_constant: false, restored: None }));
        self
    }

    pub(crate) fn constant(mut self, tensor: Tensor) -> Self {
        self.inputs.push(Some(Input { tensor, is_constant: true, restored: None }));
        self
    }

    /// A constant that DequantizeLinear makes of small integers.
    pub(crate) fn quantized(mut self, tensor: Tensor, restored: Restored) -> Self {
        self.inputs.push(Some(Input { tensor, is_constant: true, restored: Some(restored) }));
        self
    }

    pub(crate) fn absent(mut self) -> Self {
        self.inputs.push(None);
        self
    }

    pub(crate) fn set(mut self, name: &str, value: Attribute) -> Self {
        self.attributes.set(name, value);
        self
    }

    pub(crate) fn int(self, name: &str, value: i64) -> Self {
        self.set(name, Attribute::Int(value))
    }

    pub(crate) fn ints(self, name: &str, values: &[i64]) -> Self {
        self.set(name, Attribute::Ints(values.to_vec()))
    }

    pub(crate) fn float(self, name: &str, value: f32) -> Self {
        self.set(name, Attribute::Float(value))
    }

    pub(crate) fn string(self, name: &str, value: &str) -> Self {
        self.set(name, Attribute::String(value.into()))
    }

    pub(crate) fn outputs(mut self, outputs: usize) -> Self {
        self.outputs = outputs;
        self
    }

    pub(crate) fn tolerance(mut self, tolerance: f64) -> Self {
        self.tolerance = tolerance;
        self
    }

    pub(crate) fn wide(mut self) -> Self {
        self.wide = true;
        self
    }

    pub(crate) fn packed(mut self) -> Self {
        self.packed = true;
        self
    }

    pub(crate) fn on_host(mut self) -> Self {
        self.on_host = true;
        self
    }
}

/// `count` numbers in 0..1 that depend on the seed alone (Steele, Lea and Flood's SplitMix64).
fn uniform(count: usize, seed: u64) -> Vec<f64> {
    let mut state = seed.wrapping_mul(0x9e37_79b9_7f4a_7c15);
    let next = |_| {
        state = state.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = state;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        ((z ^ (z >> 31)) >> 11) as f64 / (1u64 << 53) as f64
    };
    (0..count).map(next).collect()
}

/// Extents in `low..=high` for each of so many axes, that depend on the seed alone.
pub(crate) fn extents(rank: usize, low: usize, high: usize, seed: u64) -> Vec<usize> {
    uniform(rank, seed).iter().map(|v| low + (v * (high - low + 1) as f64) as usize).collect()
}

/// Random numbers of any real type, in `low..high`.
pub(crate) fn random(dtype: DType, shape: &[usize], low: f64, high: f64, seed: u64) -> Tensor {
    let values: Vec<f64> =
        uniform(Shape::from(shape).elements(), seed).iter().map(|v| low + v * (high - low)).collect();
    Tensor::from_f64s(dtype, shape, &values).expect("a real type")
}

/// Random floats in −2..2.
pub(crate) fn floats(shape: &[usize], seed: u64) -> Tensor {
    random(DType::F32, shape, -2.0, 2.0, seed)
}

/// These floats, along one axis.
pub(crate) fn vector(values: &[f32]) -> Tensor {
    Tensor::from_vec([values.len()], values.to_vec()).expect("one axis")
}

/// These integers, along one axis.
pub(crate) fn integers(values: &[i64]) -> Tensor {
    Tensor::from_vec([values.len()], values.to_vec()).expect("one axis")
}
