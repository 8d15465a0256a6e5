//! Operators that nobody would write, made from bytes: any attributes, types, extents and constants, taken through all that a model
//! goes through before it runs. Shared by the tests and the fuzz targets.

use std::collections::BTreeMap;

use coracle::engine::compile::{compile, optimise, prove_rows};
use coracle::engine::ir::{Attribute, Attributes, Family, Given, Graph, Node, Profile, ValueInfo};
use coracle::engine::ops::{self, OpSpec};
use coracle::tensor::{DType, Dim, Shape, Signature, Spec, Tensor};

/// Domain, operator, versions, inputs, outputs and attributes of the standard's operators.
const OPERATORS: &str = include_str!("../conformance/onnx-versions.tsv");
const INTS: &[i64] = &[0, 1, -1, 2, 3, 4, 5, 7, -2, -7, 16, 64, 1000, 1 << 20, 1 << 31, i64::MAX, i64::MIN];
const FLOATS: &[f32] = &[0.0, 1.0, -1.0, 0.5, 2.0, 1e-30, 1e30, f32::NAN, f32::INFINITY, f32::NEG_INFINITY];
const EXTENTS: &[usize] = &[1, 2, 3, 4, 5, 7, 8, 0, 16, 33, 1 << 12, 1 << 20, 1 << 31, usize::MAX / 2];
const DTYPES: &[DType] = &[
    DType::F32,
    DType::I64,
    DType::Bool,
    DType::F16,
    DType::I32,
    DType::U8,
    DType::I8,
    DType::F64,
    DType::BF16,
    DType::U64,
    DType::String,
    DType::I4,
    DType::F8E4M3FN,
];
const WORDS: &[&str] = &[
    "",
    "NOTSET",
    "SAME_UPPER",
    "SAME_LOWER",
    "VALID",
    "nearest",
    "linear",
    "cubic",
    "constant",
    "reflect",
    "edge",
    "wrap",
    "mean",
    "sum",
    "none",
    "add",
    "mul",
    "max",
    "avg",
    "bilinear",
    "zeros",
    "border",
    "reflection",
    "half_pixel",
    "align_corners",
    "asymmetric",
    "tf_crop_and_resize",
    "forward",
    "reverse",
    "bidirectional",
    "DCR",
    "CRD",
    "LEFT",
    "RIGHT",
    "tanh",
    "linear",
    "circular",
    "ij,jk->ik",
    "...ij,jk",
    "ii->i",
    "i,j->",
    "Tanh",
    "Sigmoid",
    "floor",
    "round_prefer_floor",
    "stretch",
    "not_larger",
    "TF",
    "TFIDF",
];

/// Bytes as choices; zeros when they are used up.
struct Choices<'a>(&'a [u8]);

impl Choices<'_> {
    fn byte(&mut self) -> usize {
        let Some((first, rest)) = self.0.split_first() else { return 0 };
        self.0 = rest;
        usize::from(*first)
    }

    /// One of `all`; those that stand first are likelier.
    fn of<T: Copy>(&mut self, all: &[T]) -> T {
        let (a, b) = (self.byte(), self.byte());
        let at = (a * all.len() / 256).min(b * all.len() / 256);
        all[at]
    }

    fn one_in(&mut self, n: usize) -> bool {
        self.byte() % n == 1
    }

    fn shape(&mut self) -> Vec<usize> {
        let rank = self.of(&[4, 2, 3, 1, 0, 5, 6, 9]);
        (0..rank).map(|_| self.of(EXTENTS)).collect()
    }

    fn tensor(&mut self, dtype: DType, shape: &[usize]) -> Option<Tensor> {
        let count = shape.iter().try_fold(1usize, |n, d| n.checked_mul(*d)).filter(|n| *n <= 64)?;
        if dtype == DType::String {
            let texts = (0..count).map(|_| self.of(WORDS).into()).collect();
            return Tensor::from_strings(shape, texts).ok();
        }
        if dtype == DType::I64 {
            return Tensor::from_vec(shape, (0..count).map(|_| self.of(INTS)).collect::<Vec<i64>>()).ok();
        }
        let values: Vec<f64> = (0..count).map(|_| f64::from(self.of(FLOATS))).collect();
        Tensor::from_f64s(dtype, shape, &values).ok()
    }

    fn attribute(&mut self, name: &str, kind: &str) -> Option<Attribute> {
        let typed = ["to", "dtype", "output_dtype", "output_datatype", "precision"].contains(&name);
        let length = self.of(&[2, 1, 4, 3, 0, 6, 8]);
        Some(match kind {
            "INT" if typed => Attribute::DType(self.of(DTYPES)),
            "INT" => Attribute::Int(self.of(INTS)),
            "FLOAT" => Attribute::Float(self.of(FLOATS)),
            "STRING" => Attribute::String(self.of(WORDS).into()),
            "INTS" => Attribute::Ints((0..length).map(|_| self.of(INTS)).collect()),
            "FLOATS" => Attribute::Floats((0..length).map(|_| self.of(FLOATS)).collect()),
            "STRINGS" => Attribute::Strings((0..length).map(|_| self.of(WORDS).into()).collect()),
            "TENSOR" => {
                let dtype = self.of(DTYPES);
                Attribute::Tensor(self.tensor(dtype, &[length])?)
            }
            _ => return None,
        })
    }
}

/// What a plain adapter can do; with a bit set, one with all that kernels may ask for.
fn profile(choices: &mut Choices<'_>) -> Profile {
    let rich = choices.one_in(2);
    let family = if choices.one_in(2) { Family::Gpu } else { Family::Software };
    Profile { f16: rich, int64: rich, f64: rich, subgroup: rich.then_some(8), ..Profile::plain(family) }
}

/// Makes one operator of `data`, with its inputs, and takes it through folding, the proof of its rows, shape inference and
/// lowering. Errors are answers; panics, hangs and large allocations are not.
pub(crate) fn compile_any(data: &[u8]) {
    let mut choices = Choices(data);
    let lines: Vec<&str> = OPERATORS.lines().collect();
    let place = choices.byte() << 8 | choices.byte();
    let columns: Vec<&str> = lines[place % lines.len()].split('\t').collect();
    let (domain, name) = (columns[0], columns[1]);
    let versions: Vec<i64> = columns[2].split(' ').filter_map(|v| v.parse().ok()).collect();
    let opset = choices.of(&versions.iter().rev().copied().collect::<Vec<_>>());
    let most = |i: usize| columns.get(i).and_then(|c| c.parse::<usize>().ok()).unwrap_or(1);
    let mut attributes = Attributes::new();
    for (name, kind) in columns.get(5).unwrap_or(&"").split(' ').filter_map(|a| a.split_once(':')) {
        if choices.one_in(2)
            && let Some(value) = choices.attribute(name, kind)
        {
            attributes.set(name, value);
        }
    }
    let count = most(3).saturating_sub(choices.of(&[0, 0, 0, 1, 2, 3, 4, 8]));
    let outputs = (choices.byte() % most(4).max(1)) + 1;
    let spec = OpSpec { domain, name, opset, attributes: &attributes, inputs: count, outputs };
    let Ok(op) = ops::build(&spec) else { return };

    let signature = Signature { inputs: Vec::new(), outputs: Vec::new() };
    let mut graph = Graph { values: Vec::new(), nodes: Vec::new(), inputs: Vec::new(), outputs: Vec::new(), signature };
    let (common, usual) = (choices.of(DTYPES), choices.shape());
    let (mut inputs, mut given) = (Vec::new(), Vec::new());
    for _ in 0..count {
        if choices.one_in(12) {
            inputs.push(None);
            continue;
        }
        let dtype = if choices.one_in(3) { choices.of(DTYPES) } else { common };
        let shape = if choices.one_in(2) { choices.shape() } else { usual.clone() };
        let constant = if choices.one_in(3) { choices.tensor(dtype, &shape) } else { None };
        let value = graph.add_value("x", constant);
        inputs.push(Some(value));
        if graph.constant(value).is_none() {
            let dims = shape.iter().map(|d| if choices.one_in(4) { Dim::Unknown } else { Dim::Fixed(*d) }).collect();
            graph.inputs.push(value);
            graph.signature.inputs.push(Spec::tensor("x", dtype, Some(dims)));
            given.push(Given::Shape(Shape::new(shape)));
        }
    }
    let written: Vec<_> = (0..outputs).map(|_| Some(graph.add_value("y", None))).collect();
    graph.outputs.push(written[0].expect("there is an output"));
    graph.signature.outputs.push(Spec::tensor("y", common, None));
    graph.nodes.push(Node { name: "n".into(), op, inputs, outputs: written });
    debug_assert!(graph.values.iter().all(|v: &ValueInfo| v.name.len() == 1));

    let profile = profile(&mut choices);
    let Ok(graph) = optimise(graph, &profile) else { return };
    let shapes: Vec<Shape> = given.iter().map(|g| g.shape().clone()).collect();
    drop(prove_rows(&graph, &shapes, &profile));
    drop(compile(&graph, &given, &profile, &BTreeMap::new()));
}
