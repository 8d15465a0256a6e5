//! Wrong requests get their code and text, and cost their neighbours nothing.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use coracle::api::Client;
use coracle::api::wire::serving::model_service_client::ModelServiceClient;
use coracle::api::wire::serving::prediction_service_client::PredictionServiceClient;
use coracle::api::wire::serving::{
    GetModelMetadataRequest, GetModelStatusRequest, ModelSpec, PredictRequest, model_spec::VersionChoice,
};
use coracle::api::wire::{TensorProto, TensorShapeProto, tensor_shape_proto::Dim};
use tonic::{Code, Status};

use crate::calls::{batch, digits};
use crate::server::{Server, has_adapter};

/// Callers beside the wrong ones.
const GOOD_CALLERS: usize = 64;
const TWO: &str = "two_inputs_two_outputs";

fn floats(dims: &[i64], values: usize) -> TensorProto {
    TensorProto {
        dtype: 1,
        tensor_shape: Some(TensorShapeProto {
            dim: dims.iter().map(|size| Dim { size: *size, name: String::new() }).collect(),
            unknown_rank: false,
        }),
        float_val: vec![1.0; values],
        ..TensorProto::default()
    }
}

fn spec(name: &str) -> ModelSpec {
    ModelSpec { name: name.into(), ..ModelSpec::default() }
}

/// A right request for the model of two inputs.
fn right() -> PredictRequest {
    PredictRequest {
        model_spec: Some(spec(TWO)),
        inputs: [("a".to_owned(), floats(&[1, 3], 3)), ("b".to_owned(), floats(&[1, 3], 3))].into(),
        ..PredictRequest::default()
    }
}

/// The right request with one thing wrong.
fn wrong(change: impl FnOnce(&mut PredictRequest)) -> PredictRequest {
    let mut request = right();
    change(&mut request);
    request
}

fn with_version(choice: VersionChoice) -> PredictRequest {
    wrong(|r| r.model_spec = Some(ModelSpec { version_choice: Some(choice), ..spec(TWO) }))
}

/// (what is wrong, the request, the code, the text or its beginning).
fn cases() -> Vec<(&'static str, PredictRequest, Code, &'static str)> {
    let invalid = Code::InvalidArgument;
    let input = |name: &'static str, proto: TensorProto| wrong(move |r| drop(r.inputs.insert(name.to_owned(), proto)));
    vec![
        ("no spec", wrong(|r| r.model_spec = None), invalid, "Missing ModelSpec"),
        ("no name", wrong(|r| r.model_spec = Some(spec(""))), invalid, "ModelSpec has no name specified."),
        (
            "unknown model",
            wrong(|r| r.model_spec = Some(spec("nobody"))),
            Code::NotFound,
            "Servable not found for request: Latest(nobody)",
        ),
        (
            "unknown version",
            with_version(VersionChoice::Version(99)),
            Code::NotFound,
            "Servable not found for request: Specific(two_inputs_two_outputs, 99)",
        ),
        (
            "unknown label",
            with_version(VersionChoice::VersionLabel("blue".into())),
            invalid,
            "Unrecognized servable version label: blue",
        ),
        (
            "unknown signature",
            wrong(|r| r.model_spec = Some(ModelSpec { signature_name: "s".into(), ..spec(TWO) })),
            Code::FailedPrecondition,
            "Serving signature key \"s\" not found.",
        ),
        (
            "missing input",
            wrong(|r| drop(r.inputs.remove("b"))),
            invalid,
            "input size does not match signature: 1!=2 len({a}) != len({a,b}). Sent extra: {}. Missing but required: {b}.",
        ),
        (
            "wrong name",
            wrong(|r| {
                r.inputs.remove("b");
                r.inputs.insert("z".into(), floats(&[1, 3], 3));
            }),
            invalid,
            "Signature input alias: b(feed name: b:0) not found in request and no default value provided.",
        ),
        (
            "content of another length",
            input("a", TensorProto { tensor_content: vec![0; 11].into(), ..floats(&[1, 3], 0) }),
            invalid,
            "tensor parsing error: a",
        ),
        ("negative extent", input("a", floats(&[-1, 3], 3)), invalid, "tensor parsing error: a"),
        (
            "wrong type",
            input("a", TensorProto { dtype: 3, int_val: vec![1; 3], ..floats(&[1, 3], 0) }),
            invalid,
            "Expects arg[0] to be float but int32 is provided",
        ),
        ("wrong inner extent", input("a", floats(&[1, 4], 4)), invalid, ""),
        (
            "unequal rows",
            input("a", floats(&[2, 3], 6)),
            invalid,
            "Batching Run() input tensors must have equal 0th-dimension size",
        ),
        (
            "unknown output",
            wrong(|r| r.output_filter = vec!["y9".into()]),
            invalid,
            "output tensor alias not found in signature: y9 Outputs expected to be in the set {product,sum}.",
        ),
        (
            "repeated output",
            wrong(|r| r.output_filter = vec!["sum".into(), "sum".into()]),
            invalid,
            "duplicate output tensor alias: sum",
        ),
    ]
}

fn check(what: &str, status: &Status, code: Code, text: &str) {
    assert_eq!(status.code(), code, "{what}: {}", status.message());
    assert!(status.message().starts_with(text), "{what}: {}", status.message());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn each_wrong_request_gets_its_answer_beside_good_callers() {
    if !has_adapter() {
        return;
    }
    let server = Server::start(&["digits", TWO], &["--max_message_bytes=1000000"]);
    let (images, _) = digits();
    let stop = Arc::new(AtomicBool::new(false));
    let good: Vec<_> = (0..GOOD_CALLERS)
        .map(|caller| {
            let (address, stop) = (server.grpc.clone(), Arc::clone(&stop));
            let inputs = batch(&images[caller % images.len()..][..1]);
            tokio::spawn(async move {
                let client = Client::connect(&address, None).await.expect("the server answers");
                let mut answered = 0;
                while !stop.load(Ordering::Relaxed) {
                    client.predict("digits", "", &inputs, &[]).await.expect("a good caller loses nothing");
                    answered += 1;
                }
                answered
            })
        })
        .collect();

    let address = format!("http://{}", server.grpc);
    let mut client = PredictionServiceClient::connect(address.clone()).await.expect("the server answers");
    for (what, request, code, text) in cases() {
        let status = client.predict(request).await.expect_err(what);
        check(what, &status, code, text);
    }
    let large = wrong(|r| drop(r.inputs.insert("a".into(), floats(&[100_000, 3], 300_000))));
    check("too large", &client.predict(large).await.expect_err("too large"), Code::ResourceExhausted, "a message of");
    client.predict(right()).await.expect("the right request is answered");
    metadata_and_status(&mut client, &address).await;

    stop.store(true, Ordering::Relaxed);
    for caller in good {
        assert!(caller.await.expect("no good caller failed") > 0);
    }
}

async fn metadata_and_status(client: &mut PredictionServiceClient<tonic::transport::Channel>, address: &str) {
    let ask = |name: &str, fields: &[&str]| GetModelMetadataRequest {
        model_spec: Some(spec(name)),
        metadata_field: fields.iter().map(|f| (*f).to_owned()).collect(),
    };
    let cases = [
        (ask(TWO, &[]), Code::InvalidArgument, "GetModelMetadataRequest must specify at least one metadata_field"),
        (ask(TWO, &["weights"]), Code::InvalidArgument, "Metadata field weights is not supported"),
        (ask("nobody", &["signature_def"]), Code::NotFound, "Servable not found for request: Latest(nobody)"),
    ];
    for (request, code, text) in cases {
        let status = client.get_model_metadata(request).await.expect_err(text);
        check("metadata", &status, code, text);
    }
    let mut models = ModelServiceClient::connect(address.to_owned()).await.expect("the server answers");
    let ask = |spec| GetModelStatusRequest { model_spec: Some(spec) };
    let status = models.get_model_status(ask(spec("nobody"))).await.expect_err("unknown");
    check("status", &status, Code::NotFound, "Could not find any versions of model nobody");
    let ninth = ModelSpec { version_choice: Some(VersionChoice::Version(9)), ..spec(TWO) };
    let status = models.get_model_status(ask(ninth)).await.expect_err("unknown");
    check("status", &status, Code::NotFound, "Could not find version 9 of model two_inputs_two_outputs");
    let reply = models.get_model_status(ask(spec(TWO))).await.expect("known").into_inner();
    assert_eq!((reply.model_version_status[0].version, reply.model_version_status[0].state), (1, 30));
}
