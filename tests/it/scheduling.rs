//! What overload is answered with, and what requests may say about their urgency.

use std::io::{Read as _, Write as _};
use std::net::TcpStream;
use std::time::{Duration, Instant};

use coracle::api::wire::TensorProto;
use coracle::api::wire::serving::prediction_service_client::PredictionServiceClient;
use coracle::api::wire::serving::{ModelSpec, PredictRequest};
use coracle::api::wire::{TensorShapeProto, tensor_shape_proto::Dim};
use tonic::{Code, Request, Status};
use tonic_types::StatusExt as _;

use crate::calls::join_all;
use crate::http::ask;
use crate::server::{Server, command, has_adapter, model};

/// Longest that a test tries to bring about what depends on timing.
const TRIES_MAX: Duration = Duration::from_secs(120);
const PREDICT: &str = "/v1/models/half_plus_two:predict";
const ROW: &str = r#"{"instances": [1.0]}"#;

/// Some digits, all of them blank.
fn blanks(rows: usize) -> PredictRequest {
    let dims = [rows as i64, 1, 8, 8].map(|size| Dim { size, name: String::new() });
    let image = TensorProto {
        dtype: 1,
        tensor_shape: Some(TensorShapeProto { dim: dims.to_vec(), unknown_rank: false }),
        float_val: vec![0.0; rows * 64],
        ..TensorProto::default()
    };
    PredictRequest {
        model_spec: Some(ModelSpec { name: "digits".into(), ..ModelSpec::default() }),
        inputs: [("image".to_owned(), image)].into(),
        ..PredictRequest::default()
    }
}

/// Calls from many callers at once until one is refused; all others are answered.
async fn refused(server: &Server) -> Status {
    let end = Instant::now() + TRIES_MAX;
    loop {
        let calls = (0..32).map(|_| {
            let address = format!("http://{}", server.grpc);
            async move {
                let mut client = PredictionServiceClient::connect(address).await.expect("the server answers");
                client.predict(blanks(64)).await.map(drop)
            }
        });
        let refusals: Vec<Status> = join_all(calls).await.into_iter().filter_map(Result::err).collect();
        for status in &refusals {
            assert!(matches!(status.code(), Code::ResourceExhausted | Code::Unavailable), "{status:?}");
        }
        match refusals.into_iter().next() {
            Some(status) => return status,
            None => assert!(Instant::now() < end, "nothing was refused"),
        }
    }
}

/// The time after which the caller may come again, told twice.
fn hint(status: &Status) -> Duration {
    let millis = status.metadata().get("grpc-retry-pushback-ms").expect("a hint").to_str().expect("digits");
    let told = status.get_details_retry_info().and_then(|info| info.retry_delay).expect("a hint in the details");
    let millis: u128 = millis.parse().expect("digits");
    assert_eq!(told.as_millis().max(1), millis);
    told
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_would_come_too_late_is_refused_with_a_hint() {
    if !has_adapter() {
        return;
    }
    let server = Server::start(&["digits"], &["--latency_target_ms=1"]);
    let status = refused(&server).await;
    assert_eq!(status.code(), Code::ResourceExhausted);
    assert!(status.message().contains("digits") && status.message().contains("latency_target_ms (1)"), "{status:?}");
    assert!(hint(&status) > Duration::ZERO);
    assert!(
        server.metric("coracle_dropped_total{model=\"digits\",version=\"1\",reason=\"latency_target\"}") >= Some(1.0)
    );
    assert!(server.metric("coracle_refusal_latency_seconds_count{entrypoint=\"GRPC\"}") >= Some(1.0));
    let (_, report) = server.page("/v1/models/digits/batching");
    let report: serde_json::Value = serde_json::from_str(&report).expect("JSON");
    assert!(report["dropped"]["latency_target"].as_u64().expect("a number") >= 1, "{report}");
    assert_eq!(report["policy"]["latency_target_ms"], 1);
    assert!(report["expected"][0]["device_micros"].as_u64().expect("it was measured") > 0, "{report}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_full_queue_is_unavailable_with_a_hint() {
    if !has_adapter() {
        return;
    }
    let folder = tempfile::tempdir().expect("a temporary folder");
    let parameters = folder.path().join("parameters");
    std::fs::write(&parameters, "max_enqueued_batches { value: 1 }").expect("writable");
    let server = Server::start(&["digits"], &[&format!("--batching_parameters_file={}", parameters.display())]);
    let status = refused(&server).await;
    assert_eq!(status.code(), Code::Unavailable);
    let text = "The batch scheduling queue to which this task was submitted is full; currently ";
    assert!(status.message().starts_with(text), "{status:?}");
    assert!(hint(&status) > Duration::ZERO);
    assert!(server.metric("coracle_dropped_total{model=\"digits\",version=\"1\",reason=\"queue_full\"}") >= Some(1.0));
}

#[test]
fn the_file_of_models_says_what_models_are_due() {
    if !has_adapter() {
        return;
    }
    let (command, folder) = command(&[], &["--latency_target_ms=9000"]);
    let version = folder.path().join("m/1");
    std::fs::create_dir_all(&version).expect("writable");
    std::fs::copy(model("half_plus_two").join("1/model.onnx"), version.join("model.onnx")).expect("readable");
    std::fs::write(version.join("coracle.toml"), "weight = 4\npriority = \"low\"\n").expect("writable");
    let entry = |name: &str, config: &str| {
        let base = folder.path().join("m");
        format!(r#"{{"name": "{name}", "base_path": "{}", "config": {{{config}}}}}"#, base.display())
    };
    let entries = [entry("own", ""), entry("m", r#""scheduling": {"weight": 2, "latency_target_ms": 50}"#)].join(", ");
    std::fs::write(folder.path().join("models.config"), format!(r#"{{"model_config_list": [{entries}]}}"#))
        .expect("writable");
    let server = Server::launch(command, folder);
    for (name, weight, target) in [("own", 4.0, 9000), ("m", 2.0, 50)] {
        let policy = &ask(&server.http, "GET", &format!("/v1/models/{name}/batching"), &[], b"").json()["policy"];
        assert_eq!((policy["weight"].as_f64(), policy["latency_target_ms"].as_u64()), (Some(weight), Some(target)));
        assert_eq!(policy["priority"], "low", "what the one does not say the other does: {policy}");
    }
}

#[test]
fn a_body_that_comes_in_vain_is_not_waited_for() {
    if !has_adapter() {
        return;
    }
    let server = Server::start(&["half_plus_two"], &[]);
    let end = Instant::now() + TRIES_MAX;
    let answer = loop {
        // What it takes must have been measured a moment ago.
        assert_eq!(ask(&server.http, "POST", PREDICT, &[], ROW.as_bytes()).code, 200);
        let mut stream = TcpStream::connect(&server.http).expect("the HTTP port answers");
        let head = format!("POST {PREDICT} HTTP/1.1\r\nHost: test\r\nConnection: close\r\nContent-Length: 9000000\r\n");
        write!(stream, "{head}grpc-timeout: 1u\r\n\r\n").expect("writable");
        let mut text = String::new();
        stream.read_to_string(&mut text).expect("an answer");
        if text.starts_with("HTTP/1.1 429") {
            break text;
        }
        assert!(Instant::now() < end, "{text}");
    };
    assert!(answer.contains("half_plus_two") && answer.contains("its deadline is in 0 ms"), "{answer}");
    assert!(answer.to_lowercase().contains("\r\nretry-after: 1\r\n"), "{answer}");
    assert!(server.metric("coracle_refusal_latency_seconds_count{entrypoint=\"REST\"}") >= Some(1.0));
}

#[tokio::test]
async fn requests_say_how_urgent_they_are() {
    if !has_adapter() {
        return;
    }
    let server = Server::start(&["half_plus_two", "digits"], &[]);
    for (priority, code) in [("high", 200), ("low", 200), ("urgent", 400)] {
        let answer = ask(&server.http, "POST", PREDICT, &[("X-Coracle-Priority", priority)], ROW.as_bytes());
        assert_eq!(answer.code, code, "{priority}: {}", answer.text());
    }
    let mut client =
        PredictionServiceClient::connect(format!("http://{}", server.grpc)).await.expect("the server answers");
    for (priority, expected) in [("normal", None), ("0", Some(Code::InvalidArgument))] {
        let mut request = Request::new(blanks(1));
        request.metadata_mut().insert("x-coracle-priority", priority.parse().expect("a value"));
        let refusal = client.predict(request).await.err();
        assert_eq!(refusal.as_ref().map(Status::code), expected, "{refusal:?}");
        let named = "x-coracle-priority: the priority is \"0\", expected low, normal or high";
        assert!(refusal.is_none_or(|status| status.message() == named));
    }
}

#[test]
fn every_metric_of_the_dashboard_is_there() {
    if !has_adapter() {
        return;
    }
    let server = Server::start(&["half_plus_two"], &["--check_fraction=1.0"]);
    let end = Instant::now() + TRIES_MAX;
    // A request that is answered (which is checked afterwards), one to a model that is not there, and one that is refused.
    loop {
        assert_eq!(ask(&server.http, "POST", PREDICT, &[], ROW.as_bytes()).code, 200);
        let refused = ask(&server.http, "POST", PREDICT, &[("grpc-timeout", "1u")], ROW.as_bytes()).code == 429;
        // What expires in the queue is counted when the queue meets it, which may be after its caller was told.
        let (_, metrics) = server.page("/metrics");
        let is_counted = |name: &str| metrics.contains(&format!("\n{name}{{"));
        if refused && is_counted("coracle_dropped_total") && is_counted("coracle_checked_total") {
            break;
        }
        assert!(Instant::now() < end, "nothing was refused");
    }
    assert_eq!(ask(&server.http, "POST", "/v1/models/nobody:predict", &[], ROW.as_bytes()).code, 404);
    let (_, metrics) = server.page("/metrics");
    let path = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("docs/grafana.json");
    let text = std::fs::read_to_string(path).expect("the dashboard is there");
    let dashboard: serde_json::Value = serde_json::from_str(&text).expect("JSON");
    let panels = dashboard["panels"].as_array().expect("panels");
    let targets = panels.iter().filter_map(|panel| panel["targets"].as_array()).flatten();
    let mut names = 0;
    for expression in targets.map(|target| target["expr"].as_str().expect("an expression")) {
        let words = expression.split(|c: char| !c.is_ascii_alphanumeric() && c != '_' && c != ':');
        for name in words.filter(|word| word.starts_with("coracle_") || word.starts_with(":tensorflow:")) {
            let is_sample = |line: &str| line.strip_prefix(name).is_some_and(|rest| rest.starts_with(['{', ' ']));
            assert!(metrics.lines().any(is_sample), "{name}: {metrics}");
            names += 1;
        }
    }
    assert!(names > 20, "{names} names");
    for line in [
        ":tensorflow:serving:request_count{model_name=\"_unknown\",status=\"NOT_FOUND\"} 1",
        ":tensorflow:serving:request_latency_count{model_name=\"half_plus_two\",API=\"predict\",entrypoint=\"REST\"} ",
        "coracle_request_latency_seconds_count{model=\"half_plus_two\",version=\"1\",signature=\"serving_default\",entrypoint=\"REST\"} ",
        "half_plus_two/1\",status=\"success\"} 1",
        "\n:tensorflow:core:graph_runs ",
    ] {
        assert!(metrics.contains(line), "{line}: {metrics}");
    }
    assert!(metrics.contains("# TYPE :tensorflow:serving:request_count unknown"), "{metrics}");
}
