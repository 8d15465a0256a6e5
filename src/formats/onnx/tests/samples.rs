//! Small models, made here.

use prost::Message as _;

use super::super::proto::tensor_proto::DataType;
use super::super::proto::tensor_shape_proto::{Dimension, dimension};
use super::super::proto::{
    GraphProto, ModelProto, NodeProto, OperatorSetIdProto, TensorProto, TensorShapeProto, TypeProto, ValueInfoProto,
    type_proto,
};

/// `op_type` from and to these values.
pub(super) fn node(op_type: &str, input: &[&str], output: &[&str]) -> NodeProto {
    let names = |list: &[&str]| list.iter().map(|s| (*s).to_owned()).collect();
    NodeProto { op_type: op_type.into(), input: names(input), output: names(output), ..Default::default() }
}

/// Numbers of a weight.
pub(super) fn floats(name: &str, dims: &[i64], values: &[f32]) -> TensorProto {
    TensorProto {
        name: name.into(),
        dims: dims.to_vec(),
        data_type: DataType::Float as i32,
        raw_data: Some(values.iter().flat_map(|v| v.to_le_bytes()).collect::<Vec<u8>>().into()),
        ..Default::default()
    }
}

/// A float input or output; extents are numbers or names.
pub(super) fn value(name: &str, dims: &[&str]) -> ValueInfoProto {
    let dim = |text: &&str| Dimension {
        value: Some(match text.parse() {
            Ok(n) => dimension::Value::DimValue(n),
            Err(_) => dimension::Value::DimParam((*text).to_owned()),
        }),
    };
    let shape = Some(TensorShapeProto { dim: dims.iter().map(dim).collect() });
    let tensor = type_proto::Tensor { elem_type: DataType::Float as i32, shape };
    ValueInfoProto { name: name.into(), r#type: Some(TypeProto { value: Some(type_proto::Value::TensorType(tensor)) }) }
}

/// The file of a model of opset 17.
pub(super) fn model(graph: GraphProto) -> ModelProto {
    let opset_import = vec![OperatorSetIdProto { domain: String::new(), version: 17 }];
    ModelProto { ir_version: 8, graph: Some(graph), opset_import, ..Default::default() }
}

/// `y: 0 = (x: 0 × w) × w` with its nodes in the wrong order, the weight listed as an input and a wrong output rank.
pub(super) fn twice() -> GraphProto {
    GraphProto {
        node: vec![node("MatMul", &["h", "w"], &["y: 0"]), node("MatMul", &["x: 0", "w"], &["h"])],
        initializer: vec![floats("w", &[2, 2], &[0.0, 2.0, 1.0, 0.0]), floats("unread", &[9], &[])],
        input: vec![value("x: 0", &["batch", "2"]), value("w", &["2", "2"])],
        output: vec![value("y: 0", &["1", "batch", "2"])],
        ..Default::default()
    }
}

/// The bytes of a model around `graph`.
pub(super) fn file(graph: GraphProto) -> bytes::Bytes {
    model(graph).encode_to_vec().into()
}
