//! Small networks over images: what convolutions, pools and joins hand to each other must lie where the next one reads it.

use std::sync::Arc;

use coracle::engine::compile::{compile, optimise};
use coracle::engine::device::Lane;
use coracle::engine::ir::{Attribute, Attributes, Choices, Fact, Given, Graph, Node, Profile, ValueId, oracle};
use coracle::engine::ops::{OpSpec, build};
use coracle::error::Result;
use coracle::tensor::{DType, Dim, Shape, Signature, Spec, Tensor};

use super::case::{extents, floats, random};
use super::check::{compare, execute};

/// One network, at extents that depend on a seed.
#[derive(Clone, Copy)]
pub(crate) struct Net {
    pub(crate) name: &'static str,
    build: fn(&mut Builder, ValueId) -> Vec<ValueId>,
}

/// Every one.
pub(crate) const NETS: [Net; 13] = [
    Net { name: "bottlenecks", build: bottlenecks },
    Net { name: "fires", build: fires },
    Net { name: "branches", build: branches },
    Net { name: "joins_of_joins", build: joins_of_joins },
    Net { name: "growing", build: growing },
    Net { name: "depthwise", build: depthwise },
    Net { name: "wide_windows", build: wide_windows },
    Net { name: "excited", build: excited },
    Net { name: "dense", build: dense },
    Net { name: "cut_and_joined", build: cut_and_joined },
    Net { name: "gated", build: gated },
    Net { name: "shuffled", build: shuffled },
    Net { name: "rotated", build: rotated },
];

/// Extents at which each is checked: whole vectors, and rows that end inside one.
const SIZES: [[usize; 3]; 6] = [[1, 16, 16], [2, 13, 14], [1, 27, 29], [3, 8, 11], [1, 14, 28], [2, 7, 7]];

impl Net {
    /// Runs it at every size, twice each: what a run leaves in the buffers must not matter to the next one.
    pub(crate) fn check(&self, lane: &Lane, profile: &Profile) -> Result<(), String> {
        for (seed, [images, y, x]) in (0u64..).zip(SIZES) {
            let channels = extents(1, 70, 90, seed)[0];
            let at = |e: coracle::error::Error| format!("{images}x{channels}x{y}x{x}: {e}");
            self.run(lane, profile, &[images, channels, y, x], seed).map_err(at)?;
        }
        Ok(())
    }

    fn run(&self, lane: &Lane, profile: &Profile, shape: &[usize], seed: u64) -> Result<()> {
        let dims = shape.iter().map(|d| Dim::Fixed(*d)).collect();
        let signature = Signature { inputs: vec![Spec::tensor("x", DType::F32, Some(dims))], outputs: Vec::new() };
        let graph = Graph { values: vec![], nodes: vec![], inputs: vec![], outputs: vec![], signature };
        let mut builder = Builder { graph, shapes: Vec::new(), seed: 1000 * seed };
        let input = builder.value(None, Shape::from(shape));
        builder.graph.inputs.push(input);
        builder.graph.outputs = (self.build)(&mut builder, input);
        let outputs = builder.graph.outputs.iter().map(|_| Spec::tensor("y", DType::F32, None));
        builder.graph.signature.outputs = outputs.collect();
        let inputs = [floats(shape, seed)];
        let expected = oracle::evaluate(&builder.graph, &inputs)?;
        let graph = optimise(builder.graph, profile)?;
        let given = [Given::Shape(Shape::from(shape))];
        let program = Arc::new(compile(&graph, &given, profile, &Choices::new())?);
        for _ in 0..2 {
            let tolerance = if profile.half_precision { 1e-2 } else { 1e-4 };
            for (index, (found, expected)) in execute(lane, &program, &inputs)?.iter().zip(&expected).enumerate() {
                compare(found, expected, tolerance).map_err(|e| e.at(format!("output {index}")))?;
            }
        }
        Ok(())
    }
}

/// A graph under construction.
struct Builder {
    graph: Graph,
    shapes: Vec<Shape>,
    seed: u64,
}

impl Builder {
    fn value(&mut self, constant: Option<Tensor>, shape: Shape) -> ValueId {
        self.shapes.push(shape);
        self.graph.add_value("", constant)
    }

    fn node(&mut self, name: &str, attributes: &[(&str, Attribute)], inputs: &[ValueId]) -> ValueId {
        self.nodes(name, attributes, inputs, 1)[0]
    }

    /// A node of so many outputs.
    fn nodes(
        &mut self,
        name: &str,
        attributes: &[(&str, Attribute)],
        inputs: &[ValueId],
        outputs: usize,
    ) -> Vec<ValueId> {
        let mut all = Attributes::new();
        attributes.iter().for_each(|(name, value)| all.set(*name, value.clone()));
        let spec = OpSpec { domain: "", name, opset: 18, attributes: &all, inputs: inputs.len(), outputs };
        let op = build(&spec).expect("a known operator");
        let fact = |v: &ValueId| match self.graph.constant(*v) {
            Some(constant) => Fact::constant(constant.clone()),
            None => Fact::of_shape(DType::F32, &self.shapes[v.0]),
        };
        let facts: Vec<_> = inputs.iter().map(fact).collect();
        let facts: Vec<_> = facts.iter().map(Some).collect();
        let shapes = op.infer(&facts).expect("shapes fit").into_iter().map(|fact| fact.shape().expect("known extents"));
        let outputs: Vec<ValueId> = shapes.map(|shape| self.value(None, shape)).collect();
        let node = Node {
            name: format!("{name}{}", outputs[0].0),
            op,
            inputs: inputs.iter().copied().map(Some).collect(),
            outputs: outputs.iter().copied().map(Some).collect(),
        };
        self.graph.nodes.push(node);
        outputs
    }

    /// Weights whose sums stay about as large as what they are taken of.
    fn weights(&mut self, shape: [usize; 4]) -> ValueId {
        self.seed += 1;
        let bound = (3.0 / (shape[1] * shape[2] * shape[3]) as f64).sqrt();
        let weights = random(DType::F32, &shape, -bound, bound, self.seed);
        self.value(Some(weights), Shape::from(&shape[..]))
    }

    /// A convolution that keeps extents, or halves them at step 2.
    fn conv(&mut self, x: ValueId, to: usize, kernel: usize, step: i64) -> ValueId {
        let from = self.shapes[x.0][1];
        let weights = self.weights([to, from, kernel, kernel]);
        self.seed += 1;
        let bias = self.value(Some(floats(&[to], self.seed)), Shape::new([to]));
        let pads = Attribute::Ints(vec![kernel as i64 / 2; 4]);
        self.node("Conv", &[("pads", pads), ("strides", Attribute::Ints(vec![step; 2]))], &[x, weights, bias])
    }

    fn depthwise(&mut self, x: ValueId, kernel: usize, step: i64) -> ValueId {
        let channels = self.shapes[x.0][1];
        let weights = self.weights([channels, 1, kernel, kernel]);
        let attributes = [
            ("group", Attribute::Int(channels as i64)),
            ("pads", Attribute::Ints(vec![kernel as i64 / 2; 4])),
            ("strides", Attribute::Ints(vec![step; 2])),
        ];
        self.node("Conv", &attributes, &[x, weights])
    }

    fn pool(&mut self, x: ValueId, step: i64) -> ValueId {
        let attributes = [
            ("kernel_shape", Attribute::Ints(vec![3, 3])),
            ("pads", Attribute::Ints(vec![1; 4])),
            ("strides", Attribute::Ints(vec![step; 2])),
        ];
        self.node("MaxPool", &attributes, &[x])
    }

    fn relu(&mut self, x: ValueId) -> ValueId {
        self.node("Relu", &[], &[x])
    }

    fn sigmoid(&mut self, x: ValueId) -> ValueId {
        self.node("Sigmoid", &[], &[x])
    }

    /// x times one number a channel, plus another.
    fn scaled(&mut self, x: ValueId) -> ValueId {
        let channels = self.shapes[x.0][1];
        let shape = [channels, 1, 1];
        self.seed += 2;
        let [scale, shift] =
            [0, 1].map(|i| self.value(Some(floats(&shape, self.seed + i)), Shape::new([channels, 1, 1])));
        let scaled = self.node("Mul", &[], &[x, scale]);
        self.node("Add", &[], &[scaled, shift])
    }

    fn split(&mut self, x: ValueId, parts: usize) -> Vec<ValueId> {
        let attributes = [("axis", Attribute::Int(1)), ("num_outputs", Attribute::Int(parts as i64))];
        self.nodes("Split", &attributes, &[x], parts)
    }

    /// Every `step`-th channel from `first` on.
    fn every(&mut self, x: ValueId, first: usize, step: usize) -> ValueId {
        self.slice(x, [first as i64, i64::MAX, 1, step as i64])
    }

    /// What lies between two bounds along an axis, by steps.
    fn slice(&mut self, x: ValueId, numbers: [i64; 4]) -> ValueId {
        let bounds = numbers.map(|n| self.value(Some(Tensor::from_vec([1], vec![n]).expect("one")), Shape::new([1])));
        self.node("Slice", &[], &[x, bounds[0], bounds[1], bounds[2], bounds[3]])
    }

    fn join(&mut self, parts: &[ValueId]) -> ValueId {
        self.node("Concat", &[("axis", Attribute::Int(1))], parts)
    }
}

fn bottlenecks(b: &mut Builder, mut x: ValueId) -> Vec<ValueId> {
    let channels = b.shapes[x.0][1];
    for _ in 0..2 {
        let narrow = b.conv(x, 36, 1, 1);
        let narrow = b.sigmoid(narrow);
        let middle = b.conv(narrow, 40, 3, 1);
        let middle = b.relu(middle);
        let wide = b.conv(middle, channels, 1, 1);
        x = b.node("Add", &[], &[wide, x]);
    }
    let down = b.conv(x, 33, 1, 1);
    vec![b.conv(down, 48, 3, 2)]
}

fn fires(b: &mut Builder, mut x: ValueId) -> Vec<ValueId> {
    for _ in 0..2 {
        let squeezed = b.conv(x, 20, 1, 1);
        let squeezed = b.relu(squeezed);
        let (one, three) = (b.conv(squeezed, 41, 1, 1), b.conv(squeezed, 39, 3, 1));
        let (one, three) = (b.relu(one), b.sigmoid(three));
        let joined = b.join(&[one, three]);
        x = b.pool(joined, 1);
    }
    let squeezed = b.conv(x, 20, 1, 1);
    vec![squeezed, b.pool(squeezed, 2)]
}

fn branches(b: &mut Builder, x: ValueId) -> Vec<ValueId> {
    let first = b.conv(x, 33, 1, 1);
    let second = b.conv(x, 24, 1, 1);
    let second = b.conv(second, 34, 3, 1);
    let third = b.conv(x, 20, 1, 1);
    let third = b.conv(third, 35, 5, 1);
    let fourth = b.pool(x, 1);
    let channels = b.shapes[x.0][1];
    let fifth = b.conv(third, channels, 3, 1);
    let fifth = b.node("Add", &[], &[fifth, x]);
    let joined = b.join(&[first, second, third, fourth, x, fifth]);
    let (again, pooled) = (b.conv(joined, 30, 3, 1), b.pool(joined, 2));
    vec![again, pooled]
}

fn joins_of_joins(b: &mut Builder, x: ValueId) -> Vec<ValueId> {
    let (one, two, three) = (b.conv(x, 33, 1, 1), b.conv(x, 34, 3, 1), b.conv(x, 35, 1, 1));
    let inner = b.join(&[one, two]);
    let twice = b.join(&[three, three]);
    let outer = b.join(&[inner, twice, inner]);
    let last = b.conv(outer, 36, 1, 1);
    let after = b.join(&[last, two]);
    vec![b.pool(outer, 1), b.conv(after, 32, 1, 1), outer]
}

fn growing(b: &mut Builder, x: ValueId) -> Vec<ValueId> {
    let mut all = b.conv(x, 32, 3, 1);
    for _ in 0..3 {
        let inner = b.conv(all, 36, 1, 1);
        let new = b.conv(inner, 33, 3, 1);
        all = b.join(&[all, new]);
    }
    vec![b.conv(all, 32, 1, 1)]
}

fn depthwise(b: &mut Builder, x: ValueId) -> Vec<ValueId> {
    let wide = b.conv(x, 60, 1, 1);
    let wide = b.relu(wide);
    let spread = b.depthwise(wide, 3, 1);
    let spread = b.sigmoid(spread);
    let narrow = b.conv(spread, 33, 1, 1);
    let again = b.depthwise(narrow, 3, 1);
    let again = b.node("Add", &[], &[again, narrow]);
    let halved = b.depthwise(again, 5, 2);
    vec![b.conv(halved, 64, 1, 1)]
}

fn wide_windows(b: &mut Builder, x: ValueId) -> Vec<ValueId> {
    let before = b.conv(x, 32, 1, 1);
    let wide = b.conv(before, 33, 7, 1);
    let wide = b.relu(wide);
    let halved = b.conv(wide, 34, 5, 2);
    let wider = b.conv(halved, 33, 1, 1);
    vec![b.conv(wider, 32, 9, 1)]
}

/// Squeeze and excitation, of channels that are whole vectors and of others.
fn excited(b: &mut Builder, x: ValueId) -> Vec<ValueId> {
    let mut outputs = Vec::new();
    for channels in [40, 42] {
        let wide = b.conv(x, channels, 1, 1);
        let wide = b.depthwise(wide, 3, 1);
        let wide = b.relu(wide);
        let mean = b.node("GlobalAveragePool", &[], &[wide]);
        let few = b.conv(mean, 8, 1, 1);
        let few = b.relu(few);
        let scales = b.conv(few, channels, 1, 1);
        let scales = b.sigmoid(scales);
        let scaled = b.node("Mul", &[], &[wide, scales]);
        let narrow = b.conv(scaled, 36, 1, 1);
        let (again, beside) = (b.node("Mul", &[], &[scales, wide]), b.conv(wide, 33, 1, 1));
        let again = b.conv(again, 34, 1, 2);
        outputs.extend([narrow, again, beside]);
    }
    outputs
}

/// Each layer reads all that those before it gave, as densely connected networks do.
fn dense(b: &mut Builder, x: ValueId) -> Vec<ValueId> {
    let mut parts = vec![b.pool(x, 1)];
    for _ in 0..3 {
        let all = b.join(&parts);
        let all = b.scaled(all);
        let all = b.relu(all);
        let inner = b.conv(all, 40, 1, 1);
        parts.push(b.conv(inner, 32, 3, 1));
    }
    let all = b.join(&parts);
    let [pooled, halved] = [b.pool(all, 2), b.depthwise(all, 3, 2)];
    let all = b.scaled(all);
    vec![b.sigmoid(all), pooled, halved]
}

/// Blocks that cut their channels in two, work on one half and join all.
fn cut_and_joined(b: &mut Builder, mut x: ValueId) -> Vec<ValueId> {
    for round in 0..2 {
        let wide = b.conv(x, 64, 1, 1);
        let wide = b.sigmoid(wide);
        let mut parts = b.split(wide, 2);
        let mut last = parts[1];
        for _ in 0..2 {
            let inner = b.conv(last, 32, 3, 1);
            let inner = b.relu(inner);
            let inner = b.conv(inner, 32, 3, 1);
            last = if round == 0 { b.node("Add", &[], &[inner, last]) } else { inner };
            parts.push(last);
        }
        let joined = b.join(&parts);
        x = b.conv(joined, 40, 1, 1);
    }
    // Pieces in another order, and one of them twice.
    let parts = b.split(x, 4);
    let turned = b.join(&[parts[1], parts[0], parts[2], parts[3], parts[2]]);
    let (pooled, narrow) = (b.pool(parts[3], 2), b.conv(turned, 33, 1, 1));
    vec![pooled, narrow, b.depthwise(parts[2], 3, 1)]
}

/// Every other channel goes on as it is, the rest is worked on.
fn shuffled(b: &mut Builder, x: ValueId) -> Vec<ValueId> {
    let mut x = b.conv(x, 64, 1, 1);
    for _ in 0..2 {
        let [even, odd] = [0, 1].map(|first| b.every(x, first, 2));
        let inner = b.conv(odd, 32, 1, 1);
        let inner = b.depthwise(inner, 3, 1);
        let inner = b.conv(inner, 32, 1, 1);
        x = b.join(&[even, inner]);
    }
    let [first, third] = [0, 2].map(|first| b.every(x, first, 3));
    let (sum, spread) = (b.sigmoid(third), b.depthwise(first, 3, 1));
    vec![sum, spread, b.pool(third, 2), b.conv(first, 33, 3, 1)]
}

/// One half of the channels times what the other half says, of channels that are whole vectors and of others.
fn gated(b: &mut Builder, x: ValueId) -> Vec<ValueId> {
    let mut outputs = Vec::new();
    for channels in [64, 66] {
        let wide = b.conv(x, channels, 1, 1);
        let wide = b.depthwise(wide, 3, 1);
        let parts = b.split(wide, 2);
        let gate = b.sigmoid(parts[1]);
        let open = b.node("Mul", &[], &[parts[0], gate]);
        let narrow = b.conv(open, 36, 1, 1);
        let beside = b.conv(parts[1], 32, 3, 2);
        outputs.extend([narrow, beside]);
    }
    outputs
}

/// Rows of columns that lie apart, turned by angles of their own, as rotary embeddings do.
fn rotated(b: &mut Builder, x: ValueId) -> Vec<ValueId> {
    let x = b.node("Transpose", &[("perm", Attribute::Ints(vec![0, 2, 1, 3]))], &[x]);
    let [rows, width] = [b.shapes[x.0][2], b.shapes[x.0][3]];
    let half = width as i64 / 2;
    b.seed += 2;
    let [cosine, sine] = [(0, [1, rows, width]), (1, [1, 1, width])]
        .map(|(i, shape)| b.value(Some(floats(&shape, b.seed + i)), Shape::from(&shape[..])));
    let [first, second] = [[0, half, 3, 1], [half, i64::MAX, 3, 1]].map(|bounds| b.slice(x, bounds));
    let second = b.node("Neg", &[], &[second]);
    let turned = b.node("Concat", &[("axis", Attribute::Int(-1))], &[second, first]);
    let (plain, turned) = (b.node("Mul", &[], &[x, cosine]), b.node("Mul", &[], &[sine, turned]));
    let sum = b.node("Add", &[], &[plain, turned]);
    vec![b.sigmoid(sum)]
}
