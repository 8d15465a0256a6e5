//! BatchingParameters, one by one, and requests that are late.

use std::path::Path;
use std::time::{Duration, Instant};

use serde_json::{Value, json};

use crate::http::ask;
use crate::server::{Server, command, has_adapter, model};

/// Longest that a change may take to be seen.
const CHANGE_MAX: Duration = Duration::from_secs(120);
const PREDICT: &str = "/v1/models/half_plus_two:predict";

fn flag(folder: &Path, text: &str) -> String {
    let path = folder.join("parameters");
    std::fs::write(&path, text).expect("writable");
    format!("--batching_parameters_file={}", path.display())
}

/// The status and the body of the answer to a request of so many rows.
fn rows(server: &Server, count: usize) -> (u16, Value) {
    let body = json!({"instances": vec![1.0; count]}).to_string();
    let answer = ask(&server.http, "POST", PREDICT, &[], body.as_bytes());
    (answer.code, answer.json())
}

fn answered(server: &Server, count: usize) {
    assert_eq!(rows(server, count), (200, json!({"predictions": vec![2.5; count]})));
}

fn report(server: &Server) -> Value {
    ask(&server.http, "GET", "/v1/models/half_plus_two/batching", &[], b"").json()
}

/// Rows of the batches that have run, padding included, with the rows of padding in all of a size.
fn sizes(server: &Server) -> Vec<(u64, u64)> {
    let report = report(server);
    let sizes = report["sizes"].as_array().expect("a list").iter();
    let number = |value: &Value| value.as_u64().expect("a number");
    sizes.map(|of| (number(&of["rows"]), number(&of["padded_rows"]))).collect()
}

/// Asks for so many rows until what `is_there` looks for has come: right after the start not all sizes are ready.
fn until(server: &Server, count: usize, is_there: impl Fn(&Server) -> bool) {
    let end = Instant::now() + CHANGE_MAX;
    while !is_there(server) {
        answered(server, count);
        assert!(Instant::now() < end, "not within {CHANGE_MAX:?}: {}", report(server));
    }
}

#[test]
fn each_parameter_means_what_tensorflow_serving_says() {
    if !has_adapter() {
        return;
    }
    let folder = tempfile::tempdir().expect("a temporary folder");
    let serve = |text: &str| Server::start(&["half_plus_two"], &[&flag(folder.path(), text)]);

    let server = serve("max_batch_size { value: 4 } enable_large_batch_splitting { value: false }");
    answered(&server, 4);
    let text = "Task size 5 is larger than maximum input batch size 4";
    assert_eq!(rows(&server, 5), (400, json!({"error": text})));

    let server = serve(
        "max_batch_size { value: 4 } enable_large_batch_splitting { value: true } max_execution_batch_size { value: 2 }",
    );
    until(&server, 9, |server| sizes(server).iter().any(|(rows, _)| *rows == 2));
    assert!(sizes(&server).iter().all(|(rows, _)| *rows <= 2), "{:?}", sizes(&server));

    let server = serve("max_batch_size { value: 8 } allowed_batch_sizes: 4 allowed_batch_sizes: 8");
    until(&server, 3, |server| sizes(server).iter().any(|(rows, padded)| *rows == 4 && *padded > 0));

    // Who is alone waits for company as long as the timeout says, and no longer.
    let server = serve(
        "max_batch_size { value: 8 } batch_timeout_micros { value: 20000 } num_batch_threads { value: 1 } thread_pool_name { value: 'pool' }",
    );
    until(&server, 1, |server| report(server)["closed"]["delay"]["batches"].as_u64().is_some_and(|count| count > 0));
    let told = report(&server);
    assert_eq!((&told["mode"], &told["now"]["batches_in_flight_max"]), (&json!("timed"), &json!(1)), "{told}");
    assert_eq!(told["parameters"]["batch_timeout_micros"], 20000);
}

#[test]
fn who_is_late_learns_where() {
    if !has_adapter() {
        return;
    }
    let folder = tempfile::tempdir().expect("a temporary folder");
    let parameters = flag(folder.path(), "max_batch_size { value: 8 } batch_timeout_micros { value: 60000000 }");
    let server = Server::start(&["half_plus_two"], &[&parameters, "--rest_api_timeout_in_ms=500"]);
    let end = Instant::now() + CHANGE_MAX;
    // Right after the start a row may fill the only size that is ready, and is answered.
    let late = loop {
        let (code, body) = rows(&server, 1);
        if code != 200 {
            break (code, body);
        }
        assert!(Instant::now() < end, "nothing waits");
    };
    assert_eq!(late, (429, json!({"error": "Run() timeout exceeded while waiting in batching queue"})));
    drop(server);

    let server = Server::start(&["control_flow"], &["--rest_api_timeout_in_ms=500"]);
    let body = json!({"inputs": {"x": [[1, 1, 1]], "rounds": 1_i64 << 40}}).to_string();
    let answer = ask(&server.http, "POST", "/v1/models/control_flow:predict", &[], body.as_bytes());
    assert_eq!((answer.code, answer.json()), (504, json!({"error": "Timed out waiting for notification"})));
}

#[test]
fn parameters_that_contradict_each_other_are_refused_at_start() {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let cases = [
        (
            "max_batch_size { value: 32 } allowed_batch_sizes: 8 allowed_batch_sizes: 16",
            "Last entry in allowed_batch_sizes must match max_batch_size; last entry was 16; expected 32",
        ),
        ("allowed_batch_sizes: 8 allowed_batch_sizes: 4", "allowed_batch_sizes must be positive and ascending"),
        ("max_batch_size { value: 0 }", "max_batch_size must be positive; was 0"),
        ("max_batch_size { value: -1 }", "max_batch_size is -1"),
        ("num_batch_threads { value: 0 }", "num_batch_threads must be positive; was 0"),
        ("batch_timeout_micros { value: -1 }", "batch_timeout_micros is -1"),
        (
            "max_batch_size { value: 4 } max_execution_batch_size { value: 8 } enable_large_batch_splitting { value: true }",
            "max_execution_batch_size must be between 1 and max_batch_size; was 8, max_batch_size is 4",
        ),
        ("\nmax_batch { value: 4 }", "parameters:2: Error parsing text-format tensorflow.serving.BatchingParameters"),
    ];
    for (text, expected) in cases {
        let parameters = flag(folder.path(), text);
        let (mut command, _folder) = command(&["half_plus_two"], &[&parameters, "--check"]);
        let output = command.output().expect("the binary runs");
        let told = String::from_utf8_lossy(&output.stderr);
        assert!(!output.status.success() && told.contains(expected), "{expected}: {told}");
    }
}

#[test]
fn versions_may_bring_their_own() {
    if !has_adapter() {
        return;
    }
    let flags = ["--enable_per_model_batching_parameters", "--version_settle_ms=0"];
    let (command, folder) = command(&[], &flags);
    let cases = [
        ("with", Some("max_batch_size { value: 2 } allowed_batch_sizes: 2")),
        ("without", None),
        ("wrong", Some("max_batch_size { value: 0 }")),
    ];
    let mut entries = String::new();
    for (name, text) in cases {
        let version = folder.path().join(name).join("1");
        std::fs::create_dir_all(&version).expect("writable");
        std::fs::copy(model("half_plus_two").join("1/model.onnx"), version.join("model.onnx")).expect("readable");
        if let Some(text) = text {
            std::fs::write(version.join("batching_params.pbtxt"), text).expect("writable");
        }
        entries += &format!(
            "config {{ name: '{name}' base_path: '{}' model_platform: 'tensorflow' }}\n",
            folder.path().join(name).display()
        );
    }
    let config = format!("model_config_list {{ {entries} }}");
    std::fs::write(folder.path().join("models.config"), config).expect("writable");
    let server = Server::launch(command, folder);
    let page = |path: &str| ask(&server.http, "GET", path, &[], b"").json();
    assert_eq!(page("/v1/models/with/batching")["parameters"]["allowed_batch_sizes"], json!([2]));
    assert_eq!(page("/v1/models/without/batching")["merging"]["merges"], false);
    let wrong = page("/v1/models/wrong")["model_version_status"][0].clone();
    assert_eq!((&wrong["state"], &wrong["status"]["error_code"]), (&json!("END"), &json!("INVALID_ARGUMENT")));
    let told = wrong["status"]["error_message"].as_str().expect("a text");
    assert!(
        told.contains("batching_params.pbtxt") && told.contains("max_batch_size must be positive; was 0"),
        "{told}"
    );
}
