//! Requests written down, and replayed to a version before it serves.

use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use coracle::api::Client;
use coracle::api::wire::serving::input::Kind;
use coracle::api::wire::serving::prediction_service_client::PredictionServiceClient;
use coracle::api::wire::serving::{
    ClassificationRequest, ExampleList, InferenceTask, Input, ModelSpec, MultiInferenceRequest, RegressionRequest,
};
use coracle::api::wire::{Example, Feature, Features, FloatList, feature};
use coracle::tensor::Tensor;

use crate::http;
use crate::server::{Server, command, has_adapter, model};

/// Longest that the log's writer takes on a slow machine.
const PATIENCE: Duration = Duration::from_secs(60);

/// The folder of a model called `examples` with a file of requests, if any.
fn base(folder: &Path, requests: Option<&[u8]>) -> PathBuf {
    let version = folder.join("examples/1");
    std::fs::create_dir_all(version.join("assets.extra")).expect("writable");
    for file in ["model.onnx", "signatures.toml"] {
        std::fs::copy(model("examples").join("1").join(file), version.join(file)).expect("readable");
    }
    if let Some(requests) = requests {
        std::fs::write(version.join("assets.extra/tf_serving_warmup_requests"), requests).expect("writable");
    }
    folder.join("examples")
}

fn config(base: &Path, logging: &str) -> String {
    format!(
        "model_config_list {{ config {{ name: 'examples' base_path: '{}' model_platform: 'tensorflow' {logging} }} }}",
        base.display()
    )
}

const LOGGING: &str = "logging_config { log_collector_config { filename_prefix: 'asked' } \
                       sampling_config { sampling_rate: 1 } }";

fn x(value: f32) -> Example {
    let floats = FloatList { value: vec![value] };
    let feature = Feature { kind: Some(feature::Kind::FloatList(floats)) };
    Example { features: Some(Features { feature: [("x".to_owned(), feature)].into() }) }
}

fn input() -> Option<Input> {
    Some(Input { kind: Some(Kind::ExampleList(ExampleList { examples: vec![x(1.0), x(2.0)] })) })
}

fn spec(signature: &str) -> Option<ModelSpec> {
    Some(ModelSpec { name: "examples".into(), signature_name: signature.into(), ..ModelSpec::default() })
}

/// What a server wrote down that was asked each way.
async fn recorded() -> Vec<u8> {
    let logs = tempfile::tempdir().expect("a folder");
    let (mut command, folder) = command(&[], &[]);
    std::fs::write(folder.path().join("models.config"), config(&base(folder.path(), None), LOGGING)).expect("writable");
    command.arg(format!("--request_log_dir={}", logs.path().display()));
    let mut server = Server::launch(command, folder);
    let client = Client::connect(&server.grpc, None).await.expect("the server answers");
    let left = Tensor::from_vec([2, 1], vec![1.0f32, 2.0]).expect("two numbers");
    client.predict("examples", "renamed", &[("left".to_owned(), left)], &[]).await.expect("an answer");
    client.predict("examples", "renamed", &[], &[]).await.expect_err("what fails is not written down");
    let mut service =
        PredictionServiceClient::connect(format!("http://{}", server.grpc)).await.expect("the server answers");
    let request = ClassificationRequest { model_spec: spec("classify_x_to_y"), input: input() };
    service.classify(request).await.expect("an answer");
    let task = |signature: &str| InferenceTask {
        model_spec: spec(signature),
        method_name: "tensorflow/serving/regress".into(),
    };
    let tasks = vec![task("regress_x_to_y"), task("regress_x_to_y2")];
    service.multi_inference(MultiInferenceRequest { tasks, input: input() }).await.expect("an answer");
    let request = RegressionRequest { model_spec: spec("regress_x_to_y"), input: input() };
    service.regress(request).await.expect("an answer");
    let body = br#"{"signature_name": "renamed", "instances": [{"left": [3.0], "right": [1.0]}]}"#;
    let answer = http::ask(&server.http, "POST", "/v1/models/examples:predict", &[], body);
    assert_eq!(answer.code, 200, "{}", answer.text());
    // The writer counts when it has written.
    let (end, five) = (Instant::now() + PATIENCE, "request_log_count{model_name=\"examples\",status_code=\"OK\"} 5\n");
    while !server.page("/metrics").1.contains(five) {
        assert!(Instant::now() < end, "{}", server.page("/metrics").1);
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    let (_, metrics) = server.page("/metrics");
    for sample in [
        "request_example_count_total{model=\"examples\"} 6\n",
        "request_example_counts_count{model=\"examples\"} 3\n",
        "request_example_counts_bucket{le=\"2.0\",model=\"examples\"} 3\n",
        "batching_session:input_batch_size_count{thread_pool_name=\"\"} ",
    ] {
        assert!(metrics.contains(&format!(":tensorflow:serving:{sample}")), "{sample}: {metrics}");
    }
    drop((client, service));
    assert!(server.terminate(), "there is a kill");
    assert!(server.wait().success());
    std::fs::read(logs.path().join("asked.tfrecord")).expect("the log")
}

#[cfg(unix)]
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_was_written_down_warms_a_version() {
    if !has_adapter() {
        return;
    }
    let log = recorded().await;
    let run = |requests: &[u8], flags: &[&str]| {
        let (mut command, folder) = command(&[], flags);
        let text = config(&base(folder.path(), Some(requests)), "");
        std::fs::write(folder.path().join("models.config"), text).expect("writable");
        command.arg("--log_level=info");
        (command, folder)
    };
    // All five, twice each.
    let (mut command, folder) = run(&log, &["--num_request_iterations_for_warmup=2", "--log_format=json"]);
    let errors = std::fs::File::create(folder.path().join("log")).expect("writable");
    let server = Server::launch_with(&mut command, folder, errors.into());
    let told = std::fs::read_to_string(server.folder.path().join("log")).expect("the log");
    let warmed =
        told.lines().find(|line| line.contains("warmed with recorded requests")).unwrap_or_else(|| panic!("{told}"));
    assert!(warmed.contains("\"requests\":5"), "{warmed}");
    // They are in no statistics.
    let (_, metrics) = server.page("/metrics");
    assert!(!metrics.contains("coracle_batches_total{"), "{metrics}");
    for (metric, count) in [("model_warmup_records_read", 5), ("model_warmup_latency_count", 1)] {
        let is_it = |line: &&str| line.starts_with(&format!(":tensorflow:serving:{metric}{{model_path=\""));
        let line = metrics.lines().find(is_it).unwrap_or_else(|| panic!("{metric}: {metrics}"));
        assert!(line.ends_with(&format!("/examples/1\",status=\"OK\"}} {count}")), "{line}");
    }
    drop(server);

    let failing = |requests: &[u8], flags: &[&str]| {
        let (mut command, _folder) = run(requests, flags);
        let output = command.output().expect("the binary runs");
        assert!(!output.status.success());
        String::from_utf8_lossy(&output.stderr).into_owned()
    };
    let told = failing(&log[..log.len() - 3], &[]);
    assert!(told.contains("tf_serving_warmup_requests: truncated record at byte "), "{told}");
    assert!(told.contains("Please verify your warmup data is in TFRecord format."), "{told}");
    let mut changed = log.clone();
    changed[40] ^= 1;
    let told = failing(&changed, &[]);
    assert!(told.contains("tf_serving_warmup_requests: corrupted record at byte 0. Please verify"), "{told}");
    let many = log.repeat(201);
    let told = failing(&many, &[]);
    assert!(told.contains("Number of warmup records exceeds the maximum (1000) at "), "{told}");
    // Not looked at where that is switched off.
    let (command, folder) = run(b"no records", &["--enable_model_warmup=false"]);
    drop(Server::launch(command, folder));
}

#[test]
fn logs_go_only_where_they_may() {
    let check = |logging: &str, flags: &[&str]| {
        let (mut command, folder) = command(&[], flags);
        let text = config(&model("examples"), logging);
        std::fs::write(folder.path().join("models.config"), text).expect("writable");
        let output = command.arg("--check").output().expect("the binary runs");
        (output.status.success(), String::from_utf8_lossy(&output.stderr).into_owned())
    };
    let logs = tempfile::tempdir().expect("a folder");
    let there = format!("--request_log_dir={}", logs.path().display());
    let (is_right, told) = check(LOGGING, &[&there]);
    assert!(is_right, "{told}");
    let cases = [
        (LOGGING.to_owned(), vec![], "model examples has a logging_config, but no --request_log_dir"),
        (
            LOGGING.to_owned(),
            vec!["--request_log_dir=/no/such/folder"],
            "request_log_dir is \"/no/such/folder\", expected a folder",
        ),
        (
            LOGGING.replace("asked", "../asked"),
            vec![there.as_str()],
            "filename_prefix \"../asked\", expected a name of letters",
        ),
        (LOGGING.replace("asked", ".asked"), vec![there.as_str()], "filename_prefix \".asked\""),
        (
            LOGGING.replace("rate: 1", "rate: 1.5"),
            vec![there.as_str()],
            "sampling_rate 1.5, expected a number between 0 and 1",
        ),
        (
            LOGGING.replace("filename", "type: 'kafka' filename"),
            vec![there.as_str()],
            "type \"kafka\", expected tfrecord",
        ),
    ];
    for (logging, flags, expected) in cases {
        let (is_right, told) = check(&logging, &flags);
        assert!(!is_right && told.contains(expected), "{expected}: {told}");
    }
}
