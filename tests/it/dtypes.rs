//! How tensors are read from messages of every element type, and written into them.

use coracle::api::wire::serving::prediction_service_client::PredictionServiceClient;
use coracle::api::wire::serving::{ModelSpec, PredictRequest};
use coracle::api::wire::{TensorProto, TensorShapeProto, tensor_shape_proto::Dim};
use tonic::transport::Channel;
use tonic::{Code, Request, Status};

use crate::server::{Server, has_adapter};

/// TensorFlow's names and numbers of the element types; the model has an input of each.
const DTYPES: [(&str, i32); 14] = [
    ("float", 1),
    ("double", 2),
    ("int32", 3),
    ("uint8", 4),
    ("int16", 5),
    ("int8", 6),
    ("string", 7),
    ("int64", 9),
    ("bool", 10),
    ("bfloat16", 14),
    ("uint16", 17),
    ("half", 19),
    ("uint32", 22),
    ("uint64", 23),
];

fn shape(dims: &[i64]) -> Option<TensorShapeProto> {
    let dim = dims.iter().map(|size| Dim { size: *size, name: String::new() }).collect();
    Some(TensorShapeProto { dim, unknown_rank: false })
}

/// A tensor without any values.
fn bare(name: &str, dims: &[i64]) -> TensorProto {
    let (_, dtype) = DTYPES.into_iter().find(|(known, _)| *known == name).expect("an element type");
    TensorProto { dtype, tensor_shape: shape(dims), ..TensorProto::default() }
}

/// The model that gives back what it gets, asked for one of its types; the other inputs are zeros of the shape `dims`.
fn request(name: &str, tensor: TensorProto, dims: &[i64]) -> PredictRequest {
    let mut inputs: std::collections::HashMap<_, _> =
        DTYPES.iter().map(|(other, _)| ((*other).to_owned(), bare(other, dims))).collect();
    inputs.insert(name.to_owned(), tensor);
    PredictRequest {
        model_spec: Some(ModelSpec { name: "dtypes".into(), ..ModelSpec::default() }),
        inputs,
        output_filter: vec![format!("same_{name}")],
    }
}

struct Asking(PredictionServiceClient<Channel>);

impl Asking {
    async fn of(server: &Server) -> Self {
        let client = PredictionServiceClient::connect(format!("http://{}", server.grpc)).await;
        Self(client.expect("the server answers"))
    }

    async fn same(&mut self, name: &str, tensor: TensorProto, dims: &[i64]) -> Result<TensorProto, Status> {
        let reply = self.0.predict(request(name, tensor, dims)).await?.into_inner();
        Ok(reply.outputs.into_values().next().expect("one output"))
    }

    async fn packed(&mut self, name: &str, tensor: TensorProto, wanted: &str) -> TensorProto {
        let mut request = Request::new(request(name, tensor, &[2]));
        request.metadata_mut().insert("x-coracle-tensor-content", wanted.parse().expect("ASCII"));
        let reply = self.0.predict(request).await.expect("an answer").into_inner();
        reply.outputs.into_values().next().expect("one output")
    }
}

/// (type, values given for four elements, the four that they become).
fn filled() -> Vec<(&'static str, TensorProto, TensorProto)> {
    let none = TensorProto::default;
    let ints = |given: &[i32]| TensorProto { int_val: given.to_vec(), ..none() };
    let floats = |given: &[f32]| TensorProto { float_val: given.to_vec(), ..none() };
    let halves = |given: &[i32]| TensorProto { half_val: given.to_vec(), ..none() };
    let texts = |given: &[&'static str]| TensorProto {
        string_val: given.iter().map(|text| bytes::Bytes::from_static(text.as_bytes())).collect(),
        ..none()
    };
    vec![
        ("float", floats(&[1.0, 2.0]), floats(&[1.0, 2.0, 2.0, 2.0])),
        ("float", floats(&[1.5]), floats(&[1.5; 4])),
        ("float", none(), floats(&[0.0; 4])),
        ("float", floats(&[1.0, 2.0, 3.0, 4.0, 5.0]), floats(&[1.0, 2.0, 3.0, 4.0])),
        ("double", TensorProto { double_val: vec![0.1], ..none() }, TensorProto { double_val: vec![0.1; 4], ..none() }),
        ("int32", ints(&[-5, 7]), ints(&[-5, 7, 7, 7])),
        // What stands in the field of another type counts for nothing.
        ("int32", floats(&[1.0]), ints(&[0; 4])),
        ("uint8", ints(&[256, 257, -1, 255]), ints(&[0, 1, 255, 255])),
        ("int8", ints(&[300, -129, 128, 127]), ints(&[44, 127, -128, 127])),
        ("int16", ints(&[65537, 40000]), ints(&[1, -25536, -25536, -25536])),
        ("uint16", ints(&[65541, -1]), ints(&[5, 65535, 65535, 65535])),
        ("half", halves(&[0x3c00, 0x4000]), halves(&[0x3c00, 0x4000, 0x4000, 0x4000])),
        ("bfloat16", halves(&[0x3f80]), halves(&[0x3f80; 4])),
        ("string", texts(&["a", "b"]), texts(&["a", "b", "b", "b"])),
        ("string", none(), texts(&[""; 4])),
        (
            "int64",
            TensorProto { int64_val: vec![1 << 40], ..none() },
            TensorProto { int64_val: vec![1 << 40; 4], ..none() },
        ),
        ("bool", TensorProto { bool_val: vec![true], ..none() }, TensorProto { bool_val: vec![true; 4], ..none() }),
        (
            "uint32",
            TensorProto { uint32_val: vec![u32::MAX], ..none() },
            TensorProto { uint32_val: vec![u32::MAX; 4], ..none() },
        ),
        (
            "uint64",
            TensorProto { uint64_val: vec![u64::MAX], ..none() },
            TensorProto { uint64_val: vec![u64::MAX; 4], ..none() },
        ),
    ]
}

#[tokio::test(flavor = "multi_thread", worker_threads = 1)]
async fn every_element_type_is_read_by_tensorflows_rules() {
    if !has_adapter() {
        return;
    }
    let server = Server::start(&["dtypes"], &["--enable_batching=false"]);
    let mut asking = Asking::of(&server).await;
    for (name, given, expected) in filled() {
        let of = |values: TensorProto| {
            let TensorProto { dtype, tensor_shape, .. } = bare(name, &[4]);
            TensorProto { dtype, tensor_shape, ..values }
        };
        let found = asking.same(name, of(given.clone()), &[4]).await;
        assert_eq!(found.expect("an answer"), of(expected), "{name} {given:?}");
    }
    // No shape and an unknown rank are a scalar's; extents may be 0.
    let three = TensorProto { float_val: vec![3.0], ..bare("float", &[]) };
    let unknown = TensorShapeProto { dim: Vec::new(), unknown_rank: true };
    for tensor_shape in [None, Some(unknown), shape(&[])] {
        let scalar = TensorProto { tensor_shape, ..three.clone() };
        assert_eq!(asking.same("float", scalar, &[]).await.expect("an answer"), three);
    }
    assert_eq!(asking.same("float", bare("float", &[0]), &[0]).await.expect("no rows"), bare("float", &[0]));

    // Bytes win over values; replies are typed unless bytes are asked for.
    let pair = [0.5f32, -2.0];
    let content: bytes::Bytes = pair.iter().flat_map(|v| v.to_le_bytes()).collect();
    let both = TensorProto { tensor_content: content.clone(), float_val: vec![9.0], ..bare("float", &[2]) };
    let typed = TensorProto { float_val: pair.to_vec(), ..bare("float", &[2]) };
    assert_eq!(asking.same("float", both.clone(), &[2]).await.expect("an answer"), typed);
    let packed = TensorProto { tensor_content: content, ..bare("float", &[2]) };
    assert_eq!(asking.packed("float", both.clone(), "1").await, packed);

    let wrong = [
        TensorProto { tensor_content: vec![0; 7].into(), ..bare("float", &[2]) },
        TensorProto { tensor_content: vec![0; 9].into(), ..bare("float", &[2]) },
        bare("float", &[-1]),
        bare("float", &[1 << 62, 4]),
        bare("float", &[1 << 62, 4, 0]),
        TensorProto::default(),
        TensorProto { dtype: 20, ..bare("float", &[2]) },
        TensorProto { dtype: 1000, ..bare("float", &[2]) },
    ];
    for tensor in wrong {
        let status = asking.same("float", tensor, &[2]).await.expect_err("no tensor");
        assert_eq!((status.code(), status.message()), (Code::InvalidArgument, "tensor parsing error: float"));
    }
    for (dtype, name) in [(8, "complex64"), (18, "complex128"), (2, "double"), (7, "string"), (19, "half")] {
        let other = TensorProto { dtype, ..bare("float", &[2]) };
        let status = asking.same("float", other, &[2]).await.expect_err("another type");
        let text = format!("Expects arg[0] to be float but {name} is provided");
        assert_eq!((status.code(), status.message()), (Code::InvalidArgument, text.as_str()));
    }
    drop(server);

    let flags = ["--enable_batching=false", "--enable_serialization_as_tensor_content"];
    let server = Server::start(&["dtypes"], &flags);
    let mut asking = Asking::of(&server).await;
    assert_eq!(asking.same("float", both.clone(), &[2]).await.expect("an answer"), packed);
    assert_eq!(asking.packed("float", both, "0").await, typed);
}
