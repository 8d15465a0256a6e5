//! What models become.

use std::path::Path;

use super::super::import::{import, import_bytes};
use super::super::proto::attribute_proto::AttributeType;
use super::super::proto::tensor_proto::{DataLocation, DataType};
use super::super::proto::{
    AttributeProto, GraphProto, SparseTensorProto, StringStringEntryProto, TensorProto, TypeProto, ValueInfoProto,
    type_proto,
};
use super::samples::{file, floats, node, twice, value};
use crate::engine::ir::Graph;
use crate::error::{Code, Result};
use crate::tensor::{Dim, Tensor};

fn load(graph: GraphProto) -> Result<Graph> {
    import_bytes(file(graph), Path::new(""))
}

/// The only output of `graph` for its only input, operator by operator.
fn run(graph: &Graph, input: Tensor) -> Tensor {
    let mut values: Vec<Option<Tensor>> = graph.values.iter().map(|v| v.constant.clone()).collect();
    values[graph.inputs[0].0] = Some(input);
    for node in &graph.nodes {
        let inputs: Vec<_> = node.inputs.iter().map(|v| v.and_then(|v| values[v.0].as_ref())).collect();
        let outputs = node.op.evaluate(&inputs).expect("inputs that fit");
        for (value, tensor) in node.outputs.iter().flatten().zip(outputs) {
            values[value.0] = Some(tensor);
        }
    }
    values[graph.outputs[0].0].clone().expect("an output that is written")
}

#[test]
fn a_model_with_old_habits_runs() {
    let graph = load(twice()).expect("a sound model");
    assert_eq!(graph.nodes.iter().map(|n| n.name.as_str()).collect::<Vec<_>>(), ["MatMul_1", "MatMul_0"]);
    let signature = &graph.signature;
    assert_eq!(signature.inputs.len(), 1);
    let batch = Dim::Symbol("batch".into());
    assert_eq!(signature.inputs[0].dims, Some(vec![batch.clone(), Dim::Fixed(2)]));
    // Inference knows better than the declaration.
    assert_eq!(signature.outputs[0].dims, Some(vec![batch, Dim::Fixed(2)]));
    let x = Tensor::from_vec([1, 2], vec![3.0f32, 5.0]).expect("two");
    let y = run(&graph, x);
    assert_eq!(y.values::<f32>().expect("f32").as_ref(), [6.0, 10.0]);
}

#[test]
fn all_that_is_unsupported_is_said_at_once() {
    let mut graph = twice();
    let mut named = node("Warp", &["y: 0"], &["z"]);
    named.name = "w/1".into();
    let mut foreign = node("Bend", &["z"], &["out"]);
    foreign.domain = "com.example".into();
    graph.node.extend([named, foreign]);
    graph.output = vec![value("out", &[])];
    let map = TypeProto { value: Some(type_proto::Value::MapType(Box::default())) };
    graph.input.push(ValueInfoProto { name: "m".into(), r#type: Some(map) });
    let error = load(graph).expect_err("two operators and a map");
    assert_eq!(error.code(), Code::Unimplemented);
    assert_eq!(
        error.message(),
        r#"unsupported: Warp (node "w/1"), com.example:Bend (node "Bend_3"), value "m" is a map"#
    );
}

#[test]
fn weights_come_from_nodes_sparse_tensors_and_files() {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let bytes: Vec<u8> = [9.0f32, 0.0, 1.0, 1.0, 0.0].iter().flat_map(|v| v.to_le_bytes()).collect();
    std::fs::write(folder.path().join("w.data"), bytes).expect("writable");
    let entry = |key: &str, value: &str| StringStringEntryProto { key: key.into(), value: value.into() };
    let swap = TensorProto {
        raw_data: None,
        data_location: DataLocation::External as i32,
        external_data: vec![entry("location", "w.data"), entry("offset", "4"), entry("length", "16")],
        ..floats("swap", &[2, 2], &[])
    };
    let positions =
        TensorProto { dims: vec![2], data_type: DataType::Int64 as i32, int64_data: vec![0, 3], ..Default::default() };
    let double = SparseTensorProto {
        values: Some(floats("double", &[2], &[2.0, 2.0])),
        indices: Some(positions),
        dims: vec![2, 2],
    };
    let mut constant = node("Constant", &[], &["column"]);
    constant.attribute.push(AttributeProto {
        name: "value".into(),
        r#type: AttributeType::Tensor as i32,
        t: Some(floats("", &[2, 1], &[1.0, 10.0])),
        ..Default::default()
    });
    let products = [("x", "swap", "a"), ("a", "double", "b"), ("b", "column", "y")];
    let nodes = products.map(|(a, b, y)| node("MatMul", &[a, b], &[y]));
    let graph = GraphProto {
        node: nodes.into_iter().chain([constant]).collect(),
        initializer: vec![swap],
        sparse_initializer: vec![double],
        input: vec![value("x", &["1", "2"])],
        output: vec![value("y", &[])],
        ..Default::default()
    };
    let path = folder.path().join("model.onnx");
    std::fs::write(&path, file(graph)).expect("writable");
    let graph = import(&path).expect("a sound model");
    let x = Tensor::from_vec([1, 2], vec![3.0f32, 5.0]).expect("two");
    let y = run(&graph, x);
    assert_eq!(y.values::<f32>().expect("f32").as_ref(), [70.0]);
}

#[test]
fn what_is_wrong_is_named() {
    type Damage = fn(&mut GraphProto);
    let broken: [(&str, Damage); 6] = [
        ("\"w\" is given twice", |g| g.initializer.push(floats("w", &[1], &[1.0]))),
        ("nothing writes the output \"q\"", |g| g.output[0].name = "q".into()),
        ("reads \"v\", which nothing writes", |g| g.node[0].input[1] = "v".into()),
        ("\"y: 0\" is listed twice", |g| g.output.push(value("y: 0", &[]))),
        ("\"x: 0\" is given twice", |g| g.input.push(value("x: 0", &[]))),
        ("tensor \"w\"", |g| g.initializer[0].dims = vec![2, 3]),
    ];
    for (message, damage) in broken {
        let mut graph = twice();
        damage(&mut graph);
        let error = load(graph).expect_err(message);
        assert_eq!(error.code(), Code::InvalidArgument, "{error}");
        assert!(error.message().contains(message), "{error} should say {message}");
    }
}
