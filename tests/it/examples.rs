//! Classify, Regress and MultiInference over tf.Example, and the signatures that make them possible.

use coracle::api::wire::serving::inference_result::Result as Inferred;
use coracle::api::wire::serving::input::Kind;
use coracle::api::wire::serving::model_spec::VersionChoice;
use coracle::api::wire::serving::prediction_service_client::PredictionServiceClient;
use coracle::api::wire::serving::{
    ClassificationRequest, ExampleList, ExampleListWithContext, GetModelMetadataRequest, InferenceTask, Input,
    ModelSpec, MultiInferenceRequest, PredictRequest, RegressionRequest, SignatureDefMap,
};
use coracle::api::wire::{
    Example, Feature, Features, FloatList, Int64List, TensorProto, TensorShapeProto, feature, tensor_shape_proto::Dim,
};
use prost::Message as _;
use tonic::transport::Channel;
use tonic::{Code, Status};

use crate::calls::digits;
use crate::server::{Server, has_adapter};

const CLASSIFY: &str = "tensorflow/serving/classify";
const REGRESS: &str = "tensorflow/serving/regress";

fn floats(values: &[f32]) -> Feature {
    Feature { kind: Some(feature::Kind::FloatList(FloatList { value: values.to_vec() })) }
}

fn ints(values: &[i64]) -> Feature {
    Feature { kind: Some(feature::Kind::Int64List(Int64List { value: values.to_vec() })) }
}

fn example(features: &[(&str, Feature)]) -> Example {
    let feature = features.iter().map(|(name, feature)| ((*name).to_owned(), feature.clone())).collect();
    Example { features: Some(Features { feature }) }
}

fn list(examples: Vec<Example>) -> Option<Input> {
    Some(Input { kind: Some(Kind::ExampleList(ExampleList { examples })) })
}

fn spec(signature: &str) -> Option<ModelSpec> {
    Some(ModelSpec { name: "examples".into(), signature_name: signature.into(), ..ModelSpec::default() })
}

fn x(value: f32) -> Example {
    example(&[("x", floats(&[value]))])
}

async fn connect(server: &Server) -> PredictionServiceClient<Channel> {
    PredictionServiceClient::connect(format!("http://{}", server.grpc)).await.expect("the server answers")
}

async fn regress(
    client: &mut PredictionServiceClient<Channel>,
    signature: &str,
    input: Option<Input>,
) -> Result<Vec<f32>, Status> {
    let request = RegressionRequest { model_spec: spec(signature), input };
    let reply = client.regress(request).await?.into_inner();
    let answered = reply.model_spec.expect("who answered");
    assert_eq!(
        (answered.signature_name.as_str(), answered.version_choice),
        (signature, Some(VersionChoice::Version(1)))
    );
    Ok(reply.result.expect("a result").regressions.iter().map(|r| r.value).collect())
}

#[tokio::test]
async fn examples_are_classified_and_regressed_by_the_declared_features() {
    if !has_adapter() {
        return;
    }
    let server = Server::start(&["examples", "digits"], &[]);
    let mut client = connect(&server).await;
    // A row without the feature has its default.
    let rows = || list(vec![x(1.0), x(2.0), example(&[])]);
    assert_eq!(regress(&mut client, "regress_x_to_y", rows()).await.expect("three rows"), [2.5, 3.0, 2.0]);
    assert_eq!(regress(&mut client, "regress_x_to_y2", rows()).await.expect("three rows"), [3.5, 4.0, 3.0]);
    // Any number of values: rows are filled up.
    let tokens = |values: &[i64]| example(&[("tokens", ints(values))]);
    let ragged = list(vec![tokens(&[1, 2, 3]), tokens(&[]), tokens(&[40])]);
    assert_eq!(regress(&mut client, "regress_ids", ragged).await.expect("three rows"), [6.0, 0.0, 40.0]);
    // What all have in common; an example's own feature wins.
    let context = Some(example(&[("x", floats(&[4.0]))]));
    let kind = Kind::ExampleListWithContext(ExampleListWithContext { examples: vec![x(1.0), example(&[])], context });
    let values = regress(&mut client, "regress_x_to_y", Some(Input { kind: Some(kind) })).await.expect("two rows");
    assert_eq!(values, [2.5, 4.0]);

    let request = ClassificationRequest { model_spec: spec("classify_x_to_y"), input: rows() };
    let reply = client.classify(request).await.expect("three rows").into_inner();
    let classes = reply.result.expect("a result").classifications;
    assert_eq!(
        (classes.len(), classes[0].classes[0].label.as_str(), classes[0].classes[0].score),
        (3, "half plus two", 2.5)
    );

    let (images, labels) = digits();
    let model_spec =
        Some(ModelSpec { name: "digits".into(), signature_name: "classify".into(), ..ModelSpec::default() });
    let drawings = images.iter().map(|pixels| example(&[("pixels", floats(pixels))])).collect();
    let reply = client.classify(ClassificationRequest { model_spec, input: list(drawings) }).await.expect("digits");
    let result = reply.into_inner().result.expect("a result");
    let read: Vec<usize> = result
        .classifications
        .iter()
        .map(|row| {
            let best = row.classes.iter().max_by(|a, b| a.score.total_cmp(&b.score)).expect("ten classes");
            best.label.parse().expect("a digit")
        })
        .collect();
    assert_eq!(read, labels);
}

#[tokio::test]
async fn several_questions_are_answered_at_once() {
    if !has_adapter() {
        return;
    }
    let server = Server::start(&["examples"], &[]);
    let mut client = connect(&server).await;
    let task =
        |signature: &str, method: &str| InferenceTask { model_spec: spec(signature), method_name: method.into() };
    let ask = |tasks: Vec<InferenceTask>| MultiInferenceRequest { tasks, input: list(vec![x(1.0), x(2.0)]) };
    let three =
        vec![task("regress_x_to_y", REGRESS), task("classify_x_to_y", CLASSIFY), task("regress_x_to_y2", REGRESS)];
    let results = client.multi_inference(ask(three)).await.expect("three answers").into_inner().results;
    let values = |at: usize| match results[at].result.as_ref().expect("a result") {
        Inferred::RegressionResult(result) => result.regressions.iter().map(|r| r.value).collect::<Vec<_>>(),
        Inferred::ClassificationResult(result) => result.classifications.iter().map(|c| c.classes[0].score).collect(),
    };
    assert_eq!((values(0), values(1), values(2)), (vec![2.5, 3.0], vec![2.5, 3.0], vec![3.5, 4.0]));
    let signatures: Vec<_> =
        results.iter().map(|r| r.model_spec.clone().expect("who answered").signature_name).collect();
    assert_eq!(signatures, ["regress_x_to_y", "classify_x_to_y", "regress_x_to_y2"]);

    let other = ModelSpec { name: "other".into(), ..ModelSpec::default() };
    let cases = [
        (vec![], Code::InvalidArgument, "Missing ModelSpec"),
        (
            vec![
                task("regress_x_to_y", REGRESS),
                InferenceTask { model_spec: Some(other), method_name: REGRESS.into() },
            ],
            Code::InvalidArgument,
            "All ModelSpecs in a MultiInferenceRequest must access the same model name.",
        ),
        (
            vec![task("regress_x_to_y", REGRESS), task("regress_x_to_y", REGRESS)],
            Code::InvalidArgument,
            "Duplicate evaluation of signature: regress_x_to_y",
        ),
        (vec![task("s", REGRESS)], Code::InvalidArgument, "Requested signature not found in model graph: s"),
        (vec![task("regress_x_to_y", "m")], Code::Unimplemented, "Unsupported signature method_name: m"),
    ];
    for (tasks, code, text) in cases {
        let status = client.multi_inference(ask(tasks)).await.expect_err(text);
        assert_eq!((status.code(), status.message()), (code, text));
    }
}

#[tokio::test]
async fn what_cannot_be_asked_is_named_as_tensorflow_serving_does() {
    if !has_adapter() {
        return;
    }
    let server = Server::start(&["examples"], &["--enable_signature_method_name_check"]);
    let mut client = connect(&server).await;
    let one = || list(vec![x(1.0)]);
    let no_examples = Some(Input { kind: Some(Kind::ExampleList(ExampleList::default())) });
    let invalid = Code::InvalidArgument;
    let cases = [
        ("s", one(), invalid, "No signature was found with the name: s"),
        ("regress_x_to_y", None, invalid, "Input is empty."),
        ("regress_x_to_y", no_examples, invalid, "Input is empty."),
        (
            "classify_x_to_y",
            one(),
            invalid,
            "Expected regression signature method_name to be tensorflow/serving/regress. Was: tensorflow/serving/classify",
        ),
        (
            "regress_all",
            one(),
            invalid,
            "Name: <unknown>, Feature: x2 (data type: float) is required but could not be found.",
        ),
        (
            "regress_x_to_y",
            list(vec![x(1.0), example(&[("x", ints(&[1]))])]),
            invalid,
            "Name: <unknown>, Key: x, Index: 1.  Data types don't match. Data type: int64 but expected type: float",
        ),
        (
            "regress_x_to_y",
            list(vec![example(&[("x", floats(&[1.0, 2.0]))])]),
            invalid,
            "Name: <unknown>, Key: x, Index: 0.  Number of float values != expected.  Values size: 2 but output shape: [1]",
        ),
    ];
    for (signature, input, code, text) in cases {
        let status = regress(&mut client, signature, input).await.expect_err(text);
        assert_eq!((status.code(), status.message()), (code, text));
    }
    let request = ClassificationRequest { model_spec: None, input: one() };
    assert_eq!(client.classify(request).await.expect_err("no spec").message(), "Missing ModelSpec");
}

fn tensor(values: &[f32]) -> TensorProto {
    let dim = [values.len() as i64, 1].map(|size| Dim { size, name: String::new() }).to_vec();
    let tensor_shape = Some(TensorShapeProto { dim, unknown_rank: false });
    TensorProto { dtype: 1, tensor_shape, float_val: values.to_vec(), ..TensorProto::default() }
}

#[tokio::test]
async fn predict_knows_aliases_defaults_and_serialised_examples() {
    if !has_adapter() {
        return;
    }
    let server = Server::start(&["examples"], &[]);
    let mut client = connect(&server).await;
    let ask = |signature: &str, inputs: Vec<(&str, TensorProto)>, filter: &[&str]| PredictRequest {
        model_spec: spec(signature),
        inputs: inputs.into_iter().map(|(name, t)| (name.to_owned(), t)).collect(),
        output_filter: filter.iter().map(|f| (*f).to_owned()).collect(),
    };
    // `right` is left out: its default stands for it in each row.
    let reply = client.predict(ask("renamed", vec![("left", tensor(&[1.0, 2.0, 3.0]))], &[])).await;
    let outputs = reply.expect("an answer").into_inner().outputs;
    assert_eq!((&outputs["half"].float_val, &outputs["other"].float_val), (&vec![2.5, 3.0, 3.5], &vec![3.5; 3]));
    let both = vec![("left", tensor(&[1.0])), ("right", tensor(&[3.0]))];
    let reply = client.predict(ask("renamed", both, &["other"])).await.expect("an answer").into_inner();
    assert_eq!((reply.outputs.len(), &reply.outputs["other"].float_val), (1, &vec![4.5]));
    let refused = [
        (
            vec![("right", tensor(&[1.0]))],
            "Signature input alias: left(feed name: left:0) not found in request and no default value provided. Inputs \
             expected to be in the request {right}, or default input alias set: right",
        ),
        (
            vec![("left", tensor(&[1.0])), ("x", tensor(&[1.0]))],
            "Inputs contains invalid name. Used request inputs: left, request input: left,x",
        ),
    ];
    for (inputs, text) in refused {
        let status = client.predict(ask("renamed", inputs, &[])).await.expect_err(text);
        assert_eq!((status.code(), status.message()), (Code::InvalidArgument, text));
    }
    // A signature that takes examples can be asked for its tensors too.
    let rows = [x(1.0), x(2.0)].map(|e| e.encode_to_vec().into()).to_vec();
    let dim = vec![Dim { size: 2, name: String::new() }];
    let shape = Some(TensorShapeProto { dim, unknown_rank: false });
    let serialised = TensorProto { dtype: 7, tensor_shape: shape, string_val: rows, ..TensorProto::default() };
    let reply = client.predict(ask("classify_x_to_y", vec![("inputs", serialised)], &[])).await;
    let outputs = reply.expect("an answer").into_inner().outputs;
    assert_eq!(outputs["scores"].float_val, [2.5, 3.0]);
    assert_eq!(outputs["classes"].string_val, ["half plus two", "half plus two"]);
    // The content form, asked for by request metadata.
    let mut request = tonic::Request::new(ask("renamed", vec![("left", tensor(&[1.0]))], &["half"]));
    request.metadata_mut().insert("x-coracle-tensor-content", "1".parse().expect("ASCII"));
    let output = client.predict(request).await.expect("an answer").into_inner().outputs.remove("half").expect("half");
    assert_eq!((output.float_val.len(), output.tensor_content.as_ref()), (0, 2.5f32.to_le_bytes().as_slice()));
}

#[tokio::test]
async fn metadata_shows_every_signature() {
    if !has_adapter() {
        return;
    }
    let server = Server::start(&["examples"], &[]);
    let mut client = connect(&server).await;
    let request = GetModelMetadataRequest { model_spec: spec(""), metadata_field: vec!["signature_def".into()] };
    let reply = client.get_model_metadata(request).await.expect("metadata").into_inner();
    let answered = reply.model_spec.expect("who answered");
    assert_eq!((answered.name.as_str(), answered.signature_name.as_str()), ("examples", ""));
    let any = &reply.metadata["signature_def"];
    assert_eq!(any.type_url, "type.googleapis.com/tensorflow.serving.SignatureDefMap");
    let map = SignatureDefMap::decode(any.value.as_ref()).expect("a map").signature_def;
    assert_eq!(map.len(), 8);
    let classify = &map["classify_x_to_y"];
    assert_eq!((classify.method_name.as_str(), classify.inputs["inputs"].dtype), (CLASSIFY, 7));
    assert_eq!((classify.outputs["classes"].dtype, classify.outputs["scores"].dtype), (7, 1));
    assert_eq!(map["renamed"].defaults["right"].float_val, [1.0]);
    assert_eq!(map["serving_default"].inputs["x"].name, "x:0");
    assert_eq!(map["serving_default"].method_name, "tensorflow/serving/predict");
}
