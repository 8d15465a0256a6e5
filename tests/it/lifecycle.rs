//! How a server starts, tells of itself and ends.

use std::process::Command;

use coracle::api::Client;
use coracle::tensor::Tensor;
use tonic_health::pb::health_check_response::ServingStatus;
use tonic_health::pb::{HealthCheckRequest, health_client::HealthClient};

use crate::server::{Server, command, has_adapter, model};

/// What dashboards are built on, after `coracle_`, once a request was answered. (`dropped` is shown after the first.)
const METRICS: [&str; 13] = [
    "requests",
    "request_latency_seconds",
    "batch_rows",
    "padded_rows",
    "batches",
    "queue_time_seconds",
    "device_time_seconds",
    "request_memory_bytes",
    "lane_busy_seconds",
    "lane_backlog",
    "lane_memory_bytes",
    "lane_lost",
    "model_available",
];

// On a thread of its own the client goes on answering while the test waits for the process: a server that says goodbye
// drains only as fast as its clients hang up.
#[tokio::test(flavor = "multi_thread", worker_threads = 1)]
async fn a_bad_model_does_not_keep_a_good_one_from_serving() {
    if !has_adapter() {
        return;
    }
    let mut server = Server::start(&["half_plus_two", "broken"], &[]);
    assert_eq!(server.page("/healthz").0, 200);
    assert_eq!(server.page("/readyz").0, 200);
    let client = Client::connect(&server.grpc, None).await.expect("the server answers");
    let x = Tensor::from_vec([1], vec![1.0f32]).expect("one number");
    client.predict("half_plus_two", "", &[("x".to_owned(), x)], &[]).await.expect("an answer");
    let (_, metrics) = server.page("/metrics");
    assert!(metrics.contains("coracle_model_available{model=\"half_plus_two\",version=\"1\"} 1"), "{metrics}");
    for name in METRICS {
        assert!(metrics.contains(&format!("# HELP coracle_{name} ")), "{name}: {metrics}");
    }
    let mut health = {
        let endpoint = tonic::transport::Endpoint::from_shared(format!("http://{}", server.grpc));
        let channel = endpoint.expect("an address").connect().await.expect("the server answers");
        HealthClient::new(channel)
    };
    let mut check = async |service: &str| {
        let request = HealthCheckRequest { service: service.to_owned() };
        health.check(request).await.map(|reply| reply.into_inner().status())
    };
    for service in ["", "PredictionService", "tensorflow.serving.ModelService", "half_plus_two"] {
        assert_eq!(check(service).await.expect("it is known"), ServingStatus::Serving, "{service:?}");
    }
    assert_eq!(check("broken").await.expect("it is known"), ServingStatus::NotServing);
    assert_eq!(check("nobody").await.expect_err("unknown").code(), tonic::Code::NotFound);
    // Where there is no kill, the guard ends the server.
    if server.terminate() {
        assert!(server.wait().success());
    }
}

#[test]
fn a_server_without_any_model_ends_and_says_why() {
    if !has_adapter() {
        return;
    }
    // Every unsupported operator is named at once, with its nodes.
    let unsupported = [
        "unsupported:",
        "example.coracle:Obfuscate (node \"make_y\")",
        "example.coracle:Transmogrify (node \"make_first\")",
    ];
    let broken = ["broken:", "the file is not an ONNX model"];
    let both: Vec<&str> = unsupported.iter().chain(&broken).copied().collect();
    let cases: [(&[&str], &[&str]); 3] =
        [(&["unsupported"], &unsupported), (&["broken"], &broken), (&["unsupported", "broken"], &both)];
    for (models, reasons) in cases {
        let (mut command, _folder) = command(models, &[]);
        let output = command.output().expect("the binary runs");
        let text = String::from_utf8_lossy(&output.stderr);
        assert_eq!(output.status.code(), Some(1), "{text}");
        let line = text.lines().find(|l| l.contains("no model could be loaded")).unwrap_or_else(|| panic!("{text}"));
        for reason in reasons {
            assert!(line.contains(reason), "{reason}: {line}");
        }
    }
}

#[test]
fn the_printed_configuration_is_a_configuration() {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let binary = env!("CARGO_BIN_EXE_coracle");
    let print = |arguments: &[String]| {
        let output = Command::new(binary).arg("serve").args(arguments).output().expect("the binary runs");
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        String::from_utf8(output.stdout).expect("text")
    };
    let first = print(&["--port".into(), "9000".into(), "--enable_batching=false".into(), "--print-config".into()]);
    assert!(first.contains("port = 9000") && first.contains("(from --port)"), "{first}");
    let path = folder.path().join("coracle.toml");
    std::fs::write(&path, &first).expect("writable");
    let second = print(&[format!("--config={}", path.display()), "--print-config".into()]);
    let settings =
        |text: &str| -> Vec<String> { text.lines().filter(|l| !l.starts_with('#')).map(str::to_owned).collect() };
    assert_eq!(settings(&first), settings(&second));
    let unknown = Command::new(binary).args(["serve", "--prot=1"]).output().expect("the binary runs");
    assert!(!unknown.status.success());
    let text = String::from_utf8_lossy(&unknown.stderr);
    assert!(text.contains("--prot"), "{text}");
}

#[test]
fn the_check_reads_what_stands_beside_models() {
    let base = tempfile::tempdir().expect("a temporary folder");
    let version = base.path().join("1");
    std::fs::create_dir(&version).expect("writable");
    std::fs::copy(model("half_plus_two").join("1/model.onnx"), version.join("model.onnx")).expect("readable");
    let check = |signatures: &str, settings: &str| {
        std::fs::write(version.join("signatures.toml"), signatures).expect("writable");
        std::fs::write(version.join("coracle.toml"), settings).expect("writable");
        let (mut command, folder) = command(&[], &["--check"]);
        let config = format!(
            "model_config_list {{ config {{ name: 'm' base_path: '{}' model_platform: 'tensorflow' }} }}",
            base.path().display()
        );
        std::fs::write(folder.path().join("models.config"), config).expect("writable");
        let output = command.output().expect("the binary runs");
        (output.status.success(), String::from_utf8_lossy(&output.stderr).into_owned())
    };
    let right = "[half]\nmethod = \"predict\"\ninputs = { number = \"x\" }\n";
    let (is_right, text) = check(right, "precision = \"f32\"\n");
    assert!(is_right, "{text}");
    let (is_right, text) = check(&right.replace("\"x\"", "\"z\""), "");
    assert!(!is_right && text.contains("signatures.toml:3: signature half: the model has no input \"z\""), "{text}");
    let (is_right, text) = check(right, "precison = \"f32\"\n");
    assert!(!is_right && text.contains("coracle.toml"), "{text}");
}
