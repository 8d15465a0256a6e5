//! A residual network with as many dispatches as ResNet-50 and little arithmetic: what remains is the work of replaying it.

use coracle::engine::ir::{Attribute, Attributes, Graph, Node, ValueId};
use coracle::engine::ops::{OpSpec, build};
use coracle::tensor::{DType, Dim, Signature, Spec, Tensor};

/// Blocks in each stage of ResNet-50.
const STAGES: [usize; 4] = [3, 4, 6, 3];
/// Channels of the first stage; later ones have as many.
const CHANNELS: usize = 8;
/// Height and width of the input.
const EXTENT: usize = 16;

/// The input of one run.
pub(crate) fn input() -> Tensor {
    noise(&[1, 3, EXTENT, EXTENT])
}

fn noise(dims: &[usize]) -> Tensor {
    let count = dims.iter().product();
    let values = (0..count).map(|i: usize| ((i * 2_654_435_761) % 1000) as f32 / 1000.0 - 0.5).collect();
    Tensor::from_vec(dims, values).expect("the count is the shape's")
}

struct Builder(Graph);

impl Builder {
    fn node(&mut self, name: &str, attributes: &[(&str, Vec<i64>)], inputs: Vec<ValueId>) -> ValueId {
        let mut given = Attributes::new();
        for (key, values) in attributes {
            given.set(*key, Attribute::Ints(values.clone()));
        }
        let spec = OpSpec { domain: "", name, opset: 17, attributes: &given, inputs: inputs.len(), outputs: 1 };
        let op = build(&spec).expect("a known operator");
        let output = self.0.add_value("", None);
        let inputs = inputs.into_iter().map(Some).collect();
        self.0.nodes.push(Node { name: name.into(), op, inputs, outputs: vec![Some(output)] });
        output
    }

    fn conv(&mut self, x: ValueId, kernel: usize, from: usize, to: usize) -> ValueId {
        let (weight, bias) = (noise(&[to, from, kernel, kernel]), noise(&[to]));
        let (weight, bias) = (self.0.add_value("w", Some(weight)), self.0.add_value("b", Some(bias)));
        let pad = vec![kernel as i64 / 2; 4];
        self.node("Conv", &[("pads", pad), ("kernel_shape", vec![kernel as i64; 2])], vec![x, weight, bias])
    }
}

/// Stem, sixteen bottleneck blocks of three convolutions, pooling and a product.
pub(crate) fn graph() -> Graph {
    let dims = [1, 3, EXTENT, EXTENT].map(Dim::Fixed).to_vec();
    let mut builder = Builder(Graph {
        values: Vec::new(),
        nodes: Vec::new(),
        inputs: Vec::new(),
        outputs: Vec::new(),
        signature: Signature {
            inputs: vec![Spec::tensor("x", DType::F32, Some(dims))],
            outputs: vec![Spec::tensor("y", DType::F32, None)],
        },
    });
    let input = builder.0.add_value("x", None);
    builder.0.inputs.push(input);
    let mut x = builder.conv(input, 7, 3, CHANNELS);
    x = builder.node("Relu", &[], vec![x]);
    x = builder.node("MaxPool", &[("kernel_shape", vec![2, 2]), ("strides", vec![2, 2])], vec![x]);
    let mut channels = CHANNELS;
    for blocks in STAGES {
        for block in 0..blocks {
            let wide = CHANNELS * 4;
            let mut y = builder.conv(x, 1, channels, CHANNELS);
            y = builder.node("Relu", &[], vec![y]);
            y = builder.conv(y, 3, CHANNELS, CHANNELS);
            y = builder.node("Relu", &[], vec![y]);
            y = builder.conv(y, 1, CHANNELS, wide);
            if block == 0 {
                x = builder.conv(x, 1, channels, wide);
                channels = wide;
            }
            x = builder.node("Add", &[], vec![y, x]);
            x = builder.node("Relu", &[], vec![x]);
        }
    }
    x = builder.node("GlobalAveragePool", &[], vec![x]);
    x = builder.node("Flatten", &[], vec![x]);
    let weight = builder.0.add_value("w", Some(noise(&[channels, 10])));
    x = builder.node("MatMul", &[], vec![x, weight]);
    builder.0.outputs.push(x);
    builder.0
}
