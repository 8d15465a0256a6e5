//! The tiny models over the wire, against the outputs that ONNX's reference evaluator gave.

use bytes::Bytes;
use coracle::api::Client;
use coracle::error::Code;
use coracle::formats::onnx;
use coracle::tensor::Tensor;

use crate::calls::join_all;
use crate::server::{Server, has_adapter, model};

/// Requests of each model at once.
const CALLERS: usize = 8;
/// How far an answer of order 1 may be off.
const ROUNDING: f64 = 1e-4;
/// The same for a model that computes in half precision, whose last place at 1 is worth 2⁻¹⁰.
const ROUNDING_HALF: f64 = 2e-3;

fn tensor(model_name: &str, file: &str) -> (String, Tensor) {
    let path = model(model_name).join("1/test_data_set_0").join(file);
    let bytes = std::fs::read(path).expect("the data set is there");
    onnx::decode(Bytes::from(bytes)).expect("a tensor")
}

/// The input and the first output of a model's data set, with their names.
fn data_set(model_name: &str) -> ((String, Tensor), (String, Tensor)) {
    (tensor(model_name, "input_0.pb"), tensor(model_name, "output_0.pb"))
}

fn assert_near(found: &Tensor, expected: &Tensor, rounding: f64, what: &str) {
    assert_eq!(found.dtype(), expected.dtype(), "{what}");
    assert_eq!(found.shape(), expected.shape(), "{what}");
    let (found, expected) = (found.to_f64s().expect("numbers"), expected.to_f64s().expect("numbers"));
    for (f, e) in found.iter().zip(&expected) {
        assert!((f - e).abs() <= rounding, "{what}: {f} in place of {e}");
    }
}

/// The value of the first sample that starts so.
fn sample(metrics: &str, start: &str) -> f64 {
    let line = metrics.lines().find(|l| l.starts_with(start));
    line.and_then(|l| l.rsplit(' ').next()).and_then(|v| v.parse().ok()).expect("a sample with a number")
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn each_model_answers_as_the_reference_does_and_a_fixed_batch_is_never_merged() {
    if !has_adapter() {
        return;
    }
    let models = [
        ("fixed_batch", ROUNDING),
        ("mixing", ROUNDING),
        ("shapes", ROUNDING),
        ("ints", ROUNDING),
        ("f16", ROUNDING_HALF),
    ];
    let names: Vec<&str> = models.iter().map(|(name, _)| *name).collect();
    let server = Server::start(&names, &[]);
    let client = Client::connect(&server.grpc, None).await.expect("the server answers");
    for (name, rounding) in models {
        let (input, (output_name, expected)) = data_set(name);
        let replies = join_all((0..CALLERS).map(|_| {
            let (client, inputs) = (client.clone(), [input.clone()]);
            async move { client.predict(name, "", &inputs, &[]).await }
        }));
        for reply in replies.await {
            let outputs = reply.expect("an answer").outputs;
            let (_, found) = outputs.iter().find(|(n, _)| *n == output_name).expect("the output is there");
            assert_near(found, &expected, rounding, name);
        }
    }
    // Its one row a request is also the one row of every run.
    let (_, metrics) = server.page("/metrics");
    for part in ["sum", "count"] {
        let start = format!("coracle_batch_rows_{part}{{model=\"fixed_batch\"");
        assert_eq!(sample(&metrics, &start), CALLERS as f64, "{part}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_model_exported_for_one_row_takes_more_where_its_settings_say_so() {
    if !has_adapter() {
        return;
    }
    let server = Server::start(&["rebatched"], &[]);
    let client = Client::connect(&server.grpc, None).await.expect("the server answers");
    let ((name, one), (_, expected)) = data_set("rebatched");
    let three = Tensor::from_bytes(one.dtype(), [3, 1, 8, 8], one.bytes().repeat(3)).expect("three times the row");
    let reply = client.predict("rebatched", "", &[(name, three)], &[]).await.expect("an answer");
    let thrice = Tensor::from_bytes(expected.dtype(), [3, 3], expected.bytes().repeat(3)).expect("three times the row");
    assert_near(&reply.outputs[0].1, &thrice, ROUNDING, "three rows");
}

#[tokio::test]
async fn loops_and_branches_follow_the_data() {
    if !has_adapter() {
        return;
    }
    let server = Server::start(&["control_flow"], &[]);
    let client = Client::connect(&server.grpc, None).await.expect("the server answers");
    let inputs = [tensor("control_flow", "input_0.pb"), tensor("control_flow", "input_1.pb")];
    let outputs = client.predict("control_flow", "", &inputs, &[]).await.expect("an answer").outputs;
    for file in ["output_0.pb", "output_1.pb"] {
        let (name, expected) = tensor("control_flow", file);
        let (_, found) = outputs.iter().find(|(n, _)| *n == name).expect("the output is there");
        assert_near(found, &expected, ROUNDING, &name);
    }
}

#[tokio::test]
async fn sequences_are_followed_and_refused_as_answers() {
    if !has_adapter() {
        return;
    }
    let server = Server::start(&["sequences"], &[]);
    let client = Client::connect(&server.grpc, None).await.expect("the server answers");
    let inputs = [tensor("sequences", "input_0.pb"), tensor("sequences", "input_1.pb")];
    let wanted = ["picked".to_owned(), "joined".to_owned()];
    let outputs = client.predict("sequences", "", &inputs, &wanted).await.expect("an answer").outputs;
    for file in ["output_0.pb", "output_1.pb"] {
        let (name, expected) = tensor("sequences", file);
        let (_, found) = outputs.iter().find(|(n, _)| *n == name).expect("the output is there");
        assert_near(found, &expected, ROUNDING, &name);
    }
    let error = client.predict("sequences", "", &inputs, &[]).await.expect_err("no message holds a sequence");
    assert_eq!((error.code(), error.message()), (Code::Unimplemented, "sequence values cannot be sent"));
}

#[tokio::test]
async fn new_shapes_are_compiled_on_demand_within_the_allowance() {
    if !has_adapter() {
        return;
    }
    let server = Server::start(&["shapes"], &["--max_shapes_per_model=1"]);
    let client = Client::connect(&server.grpc, None).await.expect("the server answers");
    let ask = async |input: Tensor| client.predict("shapes", "", &[("image".to_owned(), input)], &[]).await;
    let ((_, image), (_, expected)) = data_set("shapes");
    // Shapes once compiled cost no allowance.
    for _ in 0..3 {
        let reply = ask(image.clone()).await.expect("the first new shape is compiled");
        assert_near(&reply.outputs[0].1, &expected, ROUNDING, "the image of the data set");
    }
    let other = Tensor::from_vec([2, 3, 5, 4], vec![0.5f32; 120]).expect("120 numbers");
    let error = ask(other).await.expect_err("a second new shape within the minute");
    assert_eq!(error.code(), Code::ResourceExhausted, "{error}");
    assert!(error.message().contains("max_shapes_per_model"), "{error}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn running_requests_are_answered_after_the_server_is_told_to_stop() {
    if !has_adapter() || cfg!(not(unix)) {
        return;
    }
    let mut server = Server::start(&["shapes"], &[]);
    let client = Client::connect(&server.grpc, None).await.expect("the server answers");
    const SIDE: usize = 384;
    let image = Tensor::from_vec([1, 3, SIDE, SIDE], vec![0.5f32; 3 * SIDE * SIDE]).expect("as many");
    let bytes = image.bytes().len() as f64;
    let calls: Vec<_> = (0..4)
        .map(|_| {
            let (client, inputs) = (client.clone(), [("image".to_owned(), image.clone())]);
            tokio::spawn(async move { client.predict("shapes", "", &inputs, &[]).await })
        })
        .collect();
    // The server holds all four once their memory is counted; one answered by then is no failure.
    while !calls.iter().any(tokio::task::JoinHandle::is_finished) {
        let (_, metrics) = server.page("/metrics");
        if sample(&metrics, "coracle_request_memory_bytes ") >= 4.0 * bytes {
            break;
        }
    }
    assert!(server.terminate(), "there is a kill");
    for call in calls {
        let reply = call.await.expect("no panic").expect("a request that the server holds is answered");
        assert_eq!(reply.outputs[0].1.shape().dims(), [1, 5]);
    }
    drop(client);
    assert!(server.wait().success());
}
