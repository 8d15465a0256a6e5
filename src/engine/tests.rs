//! Graphs with sequences, compiled: what is read from them need not leave the device.

mod attention;
mod joins;
mod lanes;
mod norms;
mod rotation;
mod sharing;

use std::sync::Arc;

use super::compile::{compile, optimise, prove_rows};
use super::ir::{
    Attribute, Attributes, Choices, Fact, Family, Given, Graph, Node, Profile, Program, Subgraph, ValueId, oracle,
};
use super::ops::{OpSpec, build};
use crate::error::{Code, Result};
use crate::tensor::{DType, Dim, Shape, Signature, Spec, Tensor};

fn profile() -> Profile {
    Profile::plain(Family::Software)
}

/// A graph under construction; values are known by name.
struct Sketch(Graph);

impl Sketch {
    /// A graph of these inputs.
    fn new(inputs: Vec<Spec>) -> Self {
        let signature = Signature { inputs, outputs: Vec::new() };
        let mut graph = Graph { values: vec![], nodes: vec![], inputs: vec![], outputs: vec![], signature };
        for spec in graph.signature.inputs.clone() {
            let value = graph.add_value(spec.name, None);
            graph.inputs.push(value);
        }
        Self(graph)
    }

    fn constant(mut self, name: &str, tensor: Tensor) -> Self {
        self.0.add_value(name, Some(tensor));
        self
    }

    fn node(mut self, name: &str, inputs: &[&str], output: &str, attributes: &[(&str, Attribute)]) -> Self {
        let mut all = Attributes::new();
        attributes.iter().for_each(|(name, value)| all.set(*name, value.clone()));
        let spec = OpSpec { domain: "", name, opset: 18, attributes: &all, inputs: inputs.len(), outputs: 1 };
        let op = build(&spec).expect("a known operator");
        let find = |name: &&str| self.0.values.iter().position(|v| v.name == **name).map(ValueId);
        let inputs = inputs.iter().map(find).collect();
        let output = self.0.add_value(output, None);
        self.0.nodes.push(Node { name: name.into(), op, inputs, outputs: vec![Some(output)] });
        self.0.outputs = vec![output];
        self
    }
}

fn tensor(name: &str, dims: &[usize]) -> Spec {
    Spec::tensor(name, DType::F32, Some(dims.iter().map(|d| Dim::Fixed(*d)).collect()))
}

fn sequence(name: &str) -> Spec {
    let element = Spec::tensor("", DType::F32, None);
    Spec { element: Some(Box::new(element)), ..Spec::tensor(name, DType::Sequence, Some(Vec::new())) }
}

fn compiled(graph: &Graph, given: &[Given]) -> Result<Program> {
    compile(&optimise(graph.clone(), &profile())?, given, &profile(), &Choices::new())
}

fn shape(dims: &[usize]) -> Given {
    Given::Shape(Shape::from(dims))
}

/// The halves of x, swapped, the first one negated, joined again.
fn swapped() -> Graph {
    let axis = || [("axis", Attribute::Int(1))];
    let sketch = Sketch::new(vec![tensor("x", &[4, 6])])
        .constant("three", Tensor::scalar(3i64))
        .constant("zero", Tensor::scalar(0i64))
        .node("SplitToSequence", &["x", "three"], "halves", &axis())
        .node("SequenceAt", &["halves", "zero"], "first", &[])
        .node("Neg", &["first"], "negated", &[])
        .node("SequenceErase", &["halves", "zero"], "second", &[])
        .node("SequenceInsert", &["second", "negated"], "both", &[])
        .node("Identity", &["both"], "same", &[]);
    sketch.node("ConcatFromSequence", &["same"], "y", &axis()).0
}

#[test]
fn sequences_of_known_length_vanish() {
    let program = compiled(&swapped(), &[shape(&[4, 6])]).expect("sound");
    assert_eq!((program.host_steps(), program.segments.len()), (vec![], 1));
    assert!(program.rest.is_none());
    // A batch of rows passes through as well.
    let mut open = swapped();
    open.signature.inputs[0].dims = Some(vec![Dim::Symbol("batch".into()), Dim::Fixed(6)]);
    open.signature.outputs = vec![tensor("y", &[4, 6])];
    assert_eq!(prove_rows(&open, &[Shape::new([4, 6])], &profile()), Ok(()));
}

#[test]
fn what_counts_rows_is_no_constant() {
    let sketch =
        Sketch::new(vec![Spec::tensor("x", DType::F32, Some(vec![Dim::Symbol("batch".into()), Dim::Fixed(6)]))]);
    let mut graph = sketch
        .node("Size", &["x"], "size", &[])
        .node("Cast", &["size"], "divisor", &[("to", Attribute::DType(DType::F32))])
        .node("Div", &["x", "divisor"], "y", &[])
        .0;
    graph.signature.outputs = vec![tensor("y", &[4, 6])];
    assert!(prove_rows(&graph, &[Shape::new([4, 6])], &profile()).is_err());
}

#[test]
fn given_sequences_are_taken_apart_on_the_host() {
    let graph =
        Sketch::new(vec![sequence("s")]).node("ConcatFromSequence", &["s"], "y", &[("axis", Attribute::Int(0))]).0;
    let part = |rows: usize| Tensor::from_vec([rows, 2], vec![1.0f32; rows * 2]).expect("as many");
    let given = Given::of(&Tensor::sequence(vec![part(1), part(3)]).expect("one type"));
    let program = compiled(&graph, std::slice::from_ref(&given)).expect("sound");
    let steps = program.host_steps();
    assert!(steps.len() == 2 && steps.iter().all(|s| s.starts_with("SequenceAt")), "{steps:?}");
    // Sequences of other extents are other inputs.
    assert_ne!(given, Given::of(&Tensor::sequence(vec![part(3), part(1)]).expect("one type")));
    // One whose elements are not known is joined on the host.
    let steps = compiled(&graph, &[shape(&[])]).expect("sound").host_steps();
    assert!(steps.len() == 1 && steps[0].starts_with("ConcatFromSequence"), "{steps:?}");
}

#[test]
fn what_data_choose_is_taken_before_the_rest_is_compiled() {
    let inputs = vec![sequence("s"), Spec::tensor("i", DType::I64, Some(Vec::new()))];
    let graph = Sketch::new(inputs).node("SequenceAt", &["s", "i"], "t", &[]).node("Neg", &["t"], "y", &[]).0;
    let parts = vec![Tensor::from_vec([1], vec![1.0f32]).expect("one"), Tensor::scalar(2.0f32)];
    let parts = Tensor::sequence(parts).expect("one type");
    let program = compiled(&graph, &[Given::of(&parts), shape(&[])]).expect("sound");
    let rest = program.rest.expect("its rank is not known");
    assert_eq!(rest.graph.nodes.len(), 1);
    assert_eq!(rest.graph.signature.inputs[0].dtype, DType::F32);
    // Where the index is known, so is what it chooses.
    let chosen = [Given::of(&parts), Given::Value(Tensor::scalar(1i64))];
    assert!(compiled(&graph, &chosen).expect("sound").rest.is_none());
    let outside = [Given::of(&parts), Given::Value(Tensor::scalar(2i64))];
    assert_eq!(compiled(&graph, &outside).expect_err("two elements").code(), Code::InvalidArgument);
    let y = oracle::evaluate(&graph, &[parts, Tensor::scalar(1i64)]).expect("inside");
    assert_eq!(y, [Tensor::scalar(-2.0f32)]);
}

#[test]
fn sequences_are_no_tensors() {
    let graph = Sketch::new(vec![sequence("s"), tensor("x", &[1])]).node("Add", &["s", "x"], "y", &[]).0;
    let error = compiled(&graph, &[shape(&[]), shape(&[1])]).expect_err("no sum");
    assert_eq!(
        (error.code(), error.message()),
        (Code::InvalidArgument, r#"Add node "Add": Add takes tensors, got a sequence value"#)
    );
}

#[test]
fn what_is_drawn_is_drawn_anew_and_never_merged() {
    let mut graph = Sketch::new(vec![tensor("x", &[2])])
        .node("RandomUniformLike", &["x"], "r", &[("seed", Attribute::Float(1.0))])
        .node("Add", &["r", "x"], "y", &[])
        .0;
    let program = compiled(&graph, &[shape(&[2])]).expect("sound");
    assert_eq!(program.host_steps(), ["RandomUniformLike:RandomUniformLike:random numbers are drawn on the host"]);
    graph.signature.inputs[0].dims = Some(vec![Dim::Symbol("batch".into())]);
    graph.signature.outputs = vec![tensor("y", &[2])];
    let reason = prove_rows(&graph, &[Shape::new([2])], &profile()).expect_err("rows share a draw");
    assert!(reason.contains("mixes rows"), "{reason}");
    // Nothing is drawn when a model is loaded.
    let constant = Sketch::new(vec![]).node("RandomUniform", &[], "y", &[("shape", Attribute::Ints(vec![2]))]).0;
    assert_eq!(compiled(&constant, &[]).expect("sound").host_steps().len(), 1);
    // Not even inside a graph that reads constants alone.
    let mut attributes = Attributes::new();
    for name in ["then_branch", "else_branch"] {
        attributes.set(name, Attribute::Graph(Subgraph { graph: Arc::new(constant.clone()), captures: 0 }));
    }
    let spec = OpSpec { domain: "", name: "If", opset: 16, attributes: &attributes, inputs: 1, outputs: 1 };
    let mut branch = Sketch::new(vec![]).constant("c", Tensor::from_bools([], vec![1]).expect("one")).0;
    let y = branch.add_value("y", None);
    let op = build(&spec).expect("two branches");
    branch.nodes.push(Node { name: "if".into(), op, inputs: vec![Some(ValueId(0))], outputs: vec![Some(y)] });
    branch.outputs.push(y);
    assert_eq!(compiled(&branch, &[]).expect("sound").host_steps().len(), 1);
}

#[test]
fn what_grows_deeper_in_every_round_is_refused() {
    // Each round wraps what it carries in an optional value once more.
    let flag = |name: &str| Spec::tensor(name, DType::Bool, Some(Vec::new()));
    let inputs = vec![Spec::tensor("i", DType::I64, Some(Vec::new())), flag("go"), tensor("v", &[1])];
    let mut body = Sketch::new(inputs).node("Identity", &["go"], "on", &[]).node("Optional", &["v"], "w", &[]).0;
    body.outputs.insert(0, body.nodes[0].outputs[0].expect("one output"));
    let mut attributes = Attributes::new();
    attributes.set("body", Attribute::Graph(Subgraph { graph: Arc::new(body), captures: 0 }));
    let spec = OpSpec { domain: "", name: "Loop", opset: 16, attributes: &attributes, inputs: 3, outputs: 1 };
    let op = build(&spec).expect("a body that fits");
    let carried = Fact::of_shape(DType::F32, &[1]);
    let rounds = |rounds: i64| op.infer(&[Some(&Fact::constant(Tensor::scalar(rounds))), None, Some(&carried)]);
    assert_eq!(rounds(3).expect("three deep")[0].nesting(), 3);
    assert_eq!(rounds(100).expect_err("too deep").code(), Code::InvalidArgument);
    let open = op.infer(&[Some(&Fact::of_shape(DType::I64, &[])), None, Some(&carried)]);
    assert_eq!(open.expect_err("as deep as there are rounds").code(), Code::InvalidArgument);
    let tensors = [Tensor::scalar(1i64 << 40), Tensor::from_vec([1], vec![0.0f32]).expect("one")];
    assert!(op.evaluate(&[Some(&tensors[0]), None, Some(&tensors[1])]).is_err());
}
