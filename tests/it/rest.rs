//! TensorFlow Serving's REST API, row by row.

use std::io::{Read as _, Write as _};

use serde_json::json;

use crate::http::{Answer, ask};
use crate::server::{Server, has_adapter};

const TWO: &str = "two_inputs_two_outputs";

fn post(server: &Server, path: &str, body: &str) -> Answer {
    ask(&server.http, "POST", path, &[], body.as_bytes())
}

fn get(server: &Server, path: &str) -> Answer {
    ask(&server.http, "GET", path, &[], b"")
}

/// The reply to a request that is right.
fn predict(server: &Server, model: &str, body: &str) -> serde_json::Value {
    let answer = post(server, &format!("/v1/models/{model}:predict"), body);
    assert_eq!(answer.code, 200, "{body}: {}", answer.text());
    assert_eq!(answer.header("content-type"), Some("application/json"));
    answer.json()
}

#[test]
fn rows_come_back_as_rows_and_columns_as_columns() {
    if !has_adapter() {
        return;
    }
    let server = Server::start(&["half_plus_two", TWO, "ints", "f16", "strings"], &[]);
    let half = |body: &str| predict(&server, "half_plus_two", body);
    assert_eq!(half(r#"{"instances": [1.0, 2.0, 5.0]}"#), json!({"predictions": [2.5, 3.0, 4.5]}));
    assert_eq!(half(r#"{"instances": [[1, 2], [3, 4]]}"#), json!({"predictions": [[2.5, 3.0], [3.5, 4.0]]}));
    assert_eq!(half(r#"{"instances": [{"x": [1.0]}, {"x": [2.0]}]}"#), json!({"predictions": [[2.5], [3.0]]}));
    assert_eq!(half(r#"{"inputs": [1.0, 2.0, 5.0]}"#), json!({"outputs": [2.5, 3.0, 4.5]}));
    assert_eq!(half(r#"{"inputs": {"x": [[2e0]]}, "signature_name": "serving_default"}"#), json!({"outputs": [[3.0]]}));
    assert_eq!(half(r#"{"signature_name": "", "other": {"a": []}, "inputs": 4}"#), json!({"outputs": 4.0}));
    // What are no numbers in JSON go in and out as they are.
    let answer =
        post(&server, "/v1/models/half_plus_two:predict", r#"{"instances": [NaN, Infinity, -Infinity, 1e39]}"#);
    assert_eq!(answer.text(), r#"{"predictions":[NaN,Infinity,-Infinity,Infinity]}"#);

    let row = predict(
        &server,
        TWO,
        r#"{"instances": [{"a": [1, 2, 3], "b": [10, 20, 30]}, {"b": [0, 0, 0], "a": [1, 1, 1]}]}"#,
    );
    assert_eq!(row["predictions"][0]["sum"], json!([11.0, 22.0, 33.0]));
    assert_eq!(row["predictions"][1]["product"].as_array().map(Vec::len), Some(2));
    let column = predict(&server, TWO, r#"{"inputs": {"a": [[1, 2, 3]], "b": [[1, 1, 1]], "c": 1}}"#);
    assert_eq!(column["outputs"]["sum"], json!([[2.0, 3.0, 4.0]]));
    // An extension: some outputs only.
    let body = r#"{"inputs": {"a": [[1, 2, 3]], "b": [[1, 1, 1]]}, "output_filter": ["sum"]}"#;
    assert_eq!(predict(&server, TWO, body), json!({"outputs": [[2.0, 3.0, 4.0]]}));

    let ints = predict(&server, "ints", r#"{"instances": [[3, 0, 1, 0, 9]]}"#);
    assert_eq!(ints["predictions"][0]["present"], json!([true, false, true, false, true]));
    assert_eq!(ints["predictions"][0]["ids_or_minus_one"], json!([3, -1, 1, -1, 9]));
    let half = predict(&server, "f16", r#"{"instances": [[0, 0, 0, 0, 0, 0, 0, 0]]}"#);
    assert_eq!(half["predictions"][0].as_array().map(Vec::len), Some(6));

    let strings = predict(&server, "strings", r#"{"instances": ["aé", {"b64": "YmM="}, {"b64": "AP8="}]}"#);
    assert_eq!(strings["predictions"][0], json!({"same": "aé", "same_bytes": {"b64": "YcOp"}}));
    assert_eq!(strings["predictions"][1], json!({"same": "bc", "same_bytes": {"b64": "YmM="}}));
    assert_eq!(strings["predictions"][2], json!({"same": {"b64": "AP8="}, "same_bytes": {"b64": "AP8="}}));

    let versioned = post(&server, "/v1/models/half_plus_two/versions/1:predict", r#"{"instances": [1]}"#);
    assert_eq!(versioned.code, 200);
    let whatever_case = post(&server, "/V1/Models/half_plus_two/Versions/1:PREDICT?a=b", r#"{"instances": [1]}"#);
    assert_eq!(whatever_case.code, 200);
}

#[test]
fn wrong_requests_get_their_codes_and_texts() {
    if !has_adapter() {
        return;
    }
    let flags = ["--max_message_bytes=100000", "--rest_api_json_elements=5000", "--rest_api_json_depth=16"];
    let server = Server::start(&["half_plus_two", TWO, "fixed_batch"], &flags);
    let deep = format!("{{\"instances\": {}1{}}}", "[".repeat(1000), "]".repeat(1000));
    let many = format!("{{\"instances\": [{}1]}}", "1,".repeat(5000));
    let large = format!("{{\"instances\": [{}1]}}", " ".repeat(100_000));
    let half = "half_plus_two";
    for (place, body, code, text) in [
        ("nobody", r#"{"instances": [1]}"#, 404, "Servable not found for request: Latest(nobody)"),
        (
            "half_plus_two/versions/9",
            r#"{"instances": [1]}"#,
            404,
            "Servable not found for request: Specific(half_plus_two, 9)",
        ),
        ("half_plus_two/labels/blue", r#"{"instances": [1]}"#, 400, "Unrecognized servable version label: blue"),
        (
            "half_plus_two/versions/99999999999999999999",
            "{}",
            400,
            "Failed to convert version: 99999999999999999999 to numeric.",
        ),
        (
            half,
            r#"{"signature_name": "s", "instances": [1]}"#,
            400,
            "Serving signature name: \"s\" not found in signature def",
        ),
        (half, r#"{"signature_name": 1, "instances": [1]}"#, 400, "'signature_name' key must be a string value."),
        (half, "", 400, "JSON Parse error: The document is empty"),
        (half, "[]", 400, "JSON Value: [] Is not object"),
        (half, "null", 400, "JSON Value: null Is not object"),
        (
            half,
            r#"{"instances": [1"#,
            400,
            "JSON Parse error: Missing a comma or ] after an array element. at offset: 16",
        ),
        (half, r#"{"instances": [1]} x"#, 400, "The document root must not be followed by other values."),
        (half, "{}", 400, "Missing 'inputs' or 'instances' key"),
        (
            half,
            r#"{"instances": [1], "inputs": [1]}"#,
            400,
            "expecting only one of 'inputs' or 'instances' keys to exist",
        ),
        (half, r#"{"instances": []}"#, 400, "No values in 'instances' array"),
        (half, r#"{"instances": [[1, 2], [3]]}"#, 400, "Expecting tensor size: 2 but got: 1"),
        (
            half,
            r#"{"inputs": [[1, 2], [3]]}"#,
            400,
            "Encountered list at unexpected size: 1 at level: 1 expected size: 2",
        ),
        (half, r#"{"instances": ["a"]}"#, 400, "JSON Value: \"a\" Type: String is not of expected type: float"),
        (half, deep.as_str(), 400, "JSON nested deeper than 15"),
        (half, many.as_str(), 429, "rest_api_json_elements"),
        (half, large.as_str(), 413, "max_message_bytes"),
        (TWO, r#"{"instances": [1]}"#, 400, "expecting list of objects as multiple input tensors"),
        (TWO, r#"{"inputs": {"a": [[1, 2, 3]]}}"#, 400, "Missing named input: b in 'inputs' object."),
        (TWO, r#"{"instances": [{"a": [1, 2, 3]}]}"#, 400, "keys must be equal to: a,b"),
        (
            TWO,
            r#"{"inputs": {"a": [[1, 2, 3]], "b": [[1, 2, 3], [1, 2, 3]]}}"#,
            400,
            "Batching Run() input tensors must have equal 0th-dimension size",
        ),
        (
            TWO,
            r#"{"inputs": {"a": [], "b": []}, "output_filter": "y9"}"#,
            400,
            "output tensor alias not found in signature: y9 Outputs expected to be in the set {product,sum}.",
        ),
    ] {
        let answer = post(&server, &format!("/v1/models/{place}:predict"), body);
        let shown = &body[..body.len().min(80)];
        assert_eq!(answer.code, code, "{place} {shown}: {}", answer.text());
        let json = answer.json();
        let error = json["error"].as_str().expect("an error");
        assert!(error.contains(text), "{place} {shown}: {error}");
        assert_eq!(answer.header("content-type"), Some("application/json"), "{shown}");
        assert_eq!(answer.header("retry-after").is_some(), code == 429, "{shown}");
    }
    // The model that has no rows to give.
    let scalar = post(&server, "/v1/models/half_plus_two:predict", r#"{"inputs": 1.0}"#);
    assert_eq!(scalar.json(), json!({"outputs": 2.5}));
    // A bad shape is the model's to refuse.
    let answer = post(&server, "/v1/models/fixed_batch:predict", r#"{"instances": [[[1, 2]]]}"#);
    assert_eq!(answer.code, 400, "{}", answer.text());
    let (_, metrics) = server.page("/metrics");
    let sample = "coracle_requests_total{model=\"_unknown\",version=\"-1\",entrypoint=\"REST\",method=\"Predict\",code=\"NOT_FOUND\"} 2";
    assert!(metrics.contains(sample), "{metrics}");
}

#[test]
fn models_tell_of_themselves() {
    if !has_adapter() {
        return;
    }
    let server = Server::start(&["half_plus_two", "broken"], &[]);
    let available = json!({"version": "1", "state": "AVAILABLE", "status": {"error_code": "OK", "error_message": ""}});
    let status = json!({"model_version_status": [available]});
    for path in ["", "/versions/1", "/labels/whatever"] {
        let answer = get(&server, &format!("/v1/models/half_plus_two{path}"));
        assert_eq!((answer.code, answer.json()), (200, status.clone()), "{path}");
    }
    let list = get(&server, "/v1/models").json();
    assert_eq!(list["models"][1], json!({"name": "half_plus_two", "model_version_status": [available]}));
    assert_eq!(list["models"][0]["model_version_status"][0]["state"], "END");
    let metadata = get(&server, "/v1/models/half_plus_two/versions/1/metadata").json();
    assert_eq!(metadata["model_spec"], json!({"name": "half_plus_two", "signature_name": "", "version": "1"}));
    let signature = &metadata["metadata"]["signature_def"]["signature_def"]["serving_default"];
    assert_eq!(signature["method_name"], "tensorflow/serving/predict");
    assert_eq!(signature["inputs"]["x"]["dtype"], "DT_FLOAT");
    let shape = json!({"dim": [{"size": "-1", "name": "batch"}], "unknown_rank": false});
    assert_eq!(signature["inputs"]["x"]["tensor_shape"], shape);
    for (path, code, text) in [
        ("/v1/models/nobody", 404, "Could not find any versions of model nobody"),
        ("/v1/models/half_plus_two/versions/9", 404, "Could not find version 9 of model half_plus_two"),
        ("/v1/models/nobody/metadata", 404, "Servable not found for request: Latest(nobody)"),
        ("/v1/foo", 400, "Malformed request: GET /v1/foo"),
        ("/v1/models/half_plus_two:predict", 400, "Malformed request: GET /v1/models/half_plus_two:predict"),
        ("/v1/models/half_plus_two/versions/x", 400, "Malformed request: GET"),
    ] {
        let answer = get(&server, path);
        assert_eq!(answer.code, code, "{path}: {}", answer.text());
        assert!(answer.json()["error"].as_str().expect("an error").contains(text), "{path}: {}", answer.text());
    }
}

#[test]
fn methods_origins_and_codings_are_those_of_http() {
    if !has_adapter() {
        return;
    }
    let server =
        Server::start(&["half_plus_two"], &["--rest_api_enable_cors_support", "--rest_api_gzip_min_bytes=200"]);
    let path = "/v1/models/half_plus_two:predict";
    // Methods.
    let head = ask(&server.http, "HEAD", "/v1/models/half_plus_two", &[], b"");
    assert_eq!((head.code, head.body.len()), (200, 0));
    let put = ask(&server.http, "PUT", path, &[], b"{}");
    assert_eq!(
        (put.code, put.json()["error"].as_str()),
        (400, Some("Malformed request: PUT /v1/models/half_plus_two:predict"))
    );
    assert_eq!(get(&server, "/v2/models").code, 404);
    assert_eq!(ask(&server.http, "POST", "/healthz", &[], b"").code, 405);
    // Other origins.
    let asked = [("Origin", "https://example.org"), ("Access-Control-Request-Method", "POST")];
    let preflight = ask(&server.http, "OPTIONS", path, &asked, b"");
    assert_eq!((preflight.code, preflight.header("access-control-allow-origin")), (200, Some("*")));
    assert_eq!(preflight.header("access-control-allow-methods"), Some("POST, GET"));
    assert_eq!(preflight.header("access-control-allow-headers"), Some("Content-Type"));
    let refused = ask(&server.http, "OPTIONS", path, &[], b"");
    assert_eq!(
        (refused.code, refused.json()["error"].as_str()),
        (400, Some("Origin header is missing in CORS preflight"))
    );
    // Names of requests.
    let named = ask(&server.http, "POST", path, &[("X-Request-Id", "mine")], br#"{"instances": [1]}"#);
    assert_eq!(named.header("x-request-id"), Some("mine"));
    assert_eq!(named.header("access-control-allow-origin"), Some("*"));
    assert!(post(&server, path, "{}").header("x-request-id").is_some_and(|id| id.len() > 16));
    // Compression.
    let body = json!({"instances": (0..200).collect::<Vec<_>>()}).to_string();
    let mut encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
    encoder.write_all(body.as_bytes()).expect("in memory");
    let packed = encoder.finish().expect("in memory");
    let plain = post(&server, path, &body);
    assert_eq!((plain.code, plain.header("content-encoding")), (200, None));
    let coded = [("Content-Encoding", "gzip"), ("Accept-Encoding", "gzip, deflate")];
    let answer = ask(&server.http, "POST", path, &coded, &packed);
    assert_eq!((answer.code, answer.header("content-encoding")), (200, Some("gzip")));
    let mut text = String::new();
    flate2::read::GzDecoder::new(answer.body.as_slice()).read_to_string(&mut text).expect("gzip");
    assert_eq!(text, plain.text());
    let small = ask(&server.http, "POST", path, &[("Accept-Encoding", "gzip")], br#"{"instances": [1]}"#);
    assert_eq!((small.code, small.header("content-encoding")), (200, None));
    let cut = ask(&server.http, "POST", path, &[("Content-Encoding", "gzip")], &packed[..packed.len() / 2]);
    assert_eq!(cut.code, 400, "{}", cut.text());
    let unknown = ask(&server.http, "POST", path, &[("Content-Encoding", "br")], b"x");
    assert_eq!(unknown.code, 501, "{}", unknown.text());
}

#[test]
fn bare_bytes_go_in_and_out() {
    if !has_adapter() {
        return;
    }
    let server = Server::start(&["half_plus_two", TWO], &[]);
    let bytes = |values: &[f32]| values.iter().flat_map(|v| v.to_le_bytes()).collect::<Vec<u8>>();
    let (sent, wanted) = (("Content-Type", "application/octet-stream"), ("Accept", "application/octet-stream"));
    let path = "/v1/models/half_plus_two:predict";
    let answer = ask(&server.http, "POST", path, &[sent, wanted], &bytes(&[1.0, 2.0, 5.0]));
    assert_eq!((answer.code, &answer.body), (200, &bytes(&[2.5, 3.0, 4.5])));
    assert_eq!(answer.header("x-coracle-tensors"), Some(r#"[{"name":"y","dtype":"float","shape":[3]}]"#));
    let answer = ask(&server.http, "POST", &format!("{path}?shape=3,1"), &[sent], &bytes(&[1.0, 2.0, 5.0]));
    assert_eq!(answer.json(), json!({"outputs": [[2.5], [3.0], [4.5]]}));
    let answer = ask(&server.http, "POST", path, &[wanted], br#"{"instances": [1.0]}"#);
    assert_eq!(answer.body, bytes(&[2.5]));
    let path = format!("/v1/models/{TWO}:predict?shape.a=1,3&shape.b=1,3&output_filter=sum");
    let answer = ask(&server.http, "POST", &path, &[sent, wanted], &bytes(&[1.0, 2.0, 3.0, 10.0, 20.0, 30.0]));
    assert_eq!((answer.code, answer.body), (200, bytes(&[11.0, 22.0, 33.0])));
    let answer = ask(&server.http, "POST", &path, &[sent], &bytes(&[1.0; 5]));
    assert_eq!(answer.code, 400, "{}", answer.text());
}

#[test]
fn examples_are_classified_and_regressed() {
    if !has_adapter() {
        return;
    }
    let server = Server::start(&["examples", "half_plus_two"], &[]);
    let ask = |verb: &str, body: &str| post(&server, &format!("/v1/models/examples:{verb}"), body);
    let body = r#"{"signature_name": "classify_x_to_y", "examples": [{"x": 80.0}, {"x": [20.0]}]}"#;
    assert_eq!(
        ask("classify", body).json(),
        json!({"results": [[["half plus two", 42.0]], [["half plus two", 12.0]]]})
    );
    let body = r#"{"signature_name": "regress_x_to_y", "examples": [{"x": 2.0}, {}]}"#;
    assert_eq!(ask("regress", body).json(), json!({"results": [3.0, 2.0]}));
    let body = r#"{"signature_name": "regress_ids", "context": {"tokens": [1, 2]}, "examples": [{}, {"tokens": [5]}]}"#;
    assert_eq!(ask("regress", body).json(), json!({"results": [3.0, 5.0]}));
    for (verb, body, text) in [
        ("classify", r#"{"signature_name": "none", "examples": [{}]}"#, "No signature was found with the name: none"),
        ("classify", "{}", "When method is classify, key 'examples' is expected and was not found"),
        ("regress", r#"{"examples": [1]}"#, "Example must be JSON object but got JSON Number"),
        ("regress", r#"{"signature_name": "regress_x_to_y", "examples": [{"x": "a"}]}"#, ""),
    ] {
        let answer = ask(verb, body);
        assert_eq!(answer.code, 400, "{body}: {}", answer.text());
        assert!(answer.json()["error"].as_str().is_some_and(|e| e.contains(text)), "{body}: {}", answer.text());
    }
}

#[test]
fn batching_is_explained() {
    if !has_adapter() {
        return;
    }
    let server = Server::start(&["half_plus_two", "mixing"], &[]);
    for _ in 0..3 {
        predict(&server, "half_plus_two", r#"{"instances": [1, 2, 3]}"#);
        predict(&server, "mixing", r#"{"instances": [[1, 2, 3, 4]]}"#);
    }
    let half = get(&server, "/v1/models/half_plus_two/batching").json();
    assert_eq!((&half["merging"]["merges"], &half["rows"]), (&json!(true), &json!(9)), "{half}");
    assert_eq!(half["now"]["waiting_requests"], 0);
    assert!(half["run_micros"]["p50"].as_u64().is_some_and(|micros| micros > 0), "{half}");
    assert_eq!(half["latest"].as_array().map(Vec::len), half["batches"].as_u64().map(|n| n as usize));
    let mixing = get(&server, "/v1/models/mixing/versions/1/batching").json();
    assert_eq!(
        (&mixing["merging"]["merges"], &mixing["closed"]["alone"]["batches"]),
        (&json!(false), &json!(3)),
        "{mixing}"
    );
    assert!(mixing["merging"]["reason"].as_str().is_some_and(|reason| reason.contains("mean")), "{mixing}");
    assert_eq!(get(&server, "/v1/models/nobody/batching").code, 404);
}

/// A connection with a request for `half_plus_two` on it, of whose body only some has been sent.
fn half_sent(server: &Server) -> std::net::TcpStream {
    let mut stream = std::net::TcpStream::connect(&server.http).expect("the HTTP port answers");
    let head = "POST /v1/models/half_plus_two:predict HTTP/1.1\r\nHost: test\r\nConnection: close\r\nContent-Length: 18\r\n\r\n";
    write!(stream, "{head}{{\"instan").expect("writable");
    stream
}

fn rest_of(mut stream: std::net::TcpStream) -> String {
    // Where the server has answered already, nobody reads it.
    let _ = stream.write_all(b"ces\": [1]}");
    let mut text = String::new();
    stream.read_to_string(&mut text).expect("an answer");
    text
}

#[test]
fn requests_are_bounded_in_time_and_number_and_finished_at_the_end() {
    if !has_adapter() {
        return;
    }
    let slow = Server::start(&["half_plus_two"], &["--rest_api_timeout_in_ms=200"]);
    let mut stream = half_sent(&slow);
    let mut text = String::new();
    stream.read_to_string(&mut text).expect("an answer");
    assert!(text.starts_with("HTTP/1.1 504") && text.contains("did not come in time"), "{text}");

    let mut server = Server::start(&["half_plus_two"], &["--rest_api_num_threads=1"]);
    // The one place may be taken by a request of ours before the half one gets it: then that is tried again.
    let (held, refused) = loop {
        let held = half_sent(&server);
        let ask = |_| post(&server, "/v1/models/half_plus_two:predict", r#"{"instances": [1]}"#);
        if let Some(refused) = (0..50).map(ask).find(|answer| answer.code != 200) {
            break (held, refused);
        }
    };
    assert_eq!(refused.code, 429, "{}", refused.text());
    assert!(refused.text().contains("rest_api_num_threads") && refused.header("retry-after").is_some());
    if server.terminate() {
        // Pages answer while the one request is waited for.
        while server.page("/readyz").0 == 200 {}
        assert!(rest_of(held).ends_with(r#"{"predictions":[2.5]}"#));
        assert!(server.wait().success());
    }
}

#[test]
fn who_hangs_up_gives_the_request_up() {
    if !has_adapter() {
        return;
    }
    const SIDE: usize = 256;
    let server = Server::start(&["shapes"], &[]);
    let image = vec![0u8; 3 * SIDE * SIDE * 4];
    let path = format!("/v1/models/shapes:predict?shape=1,3,{SIDE},{SIDE}");
    let sent = ("Content-Type", "application/octet-stream");
    assert_eq!(ask(&server.http, "POST", &path, &[sent], &image).code, 200);
    let cancelled = || {
        let (_, metrics) = server.page("/metrics");
        metrics.lines().any(|line| line.starts_with("coracle_dropped_total{") && line.contains("cancelled"))
    };
    while !cancelled() {
        let streams: Vec<_> = (0..8)
            .map(|_| {
                let mut stream = std::net::TcpStream::connect(&server.http).expect("the HTTP port answers");
                let head = format!("POST {path} HTTP/1.1\r\nHost: test\r\nContent-Type: {}\r\n", sent.1);
                write!(stream, "{head}Content-Length: {}\r\n\r\n", image.len()).expect("writable");
                stream.write_all(&image).expect("writable");
                stream
            })
            .collect();
        drop(streams);
    }
}

#[test]
fn metrics_are_where_the_configuration_wants_them() {
    if !has_adapter() {
        return;
    }
    let folder = tempfile::tempdir().expect("a temporary folder");
    let path = folder.path().join("monitoring.config");
    std::fs::write(&path, "prometheus_config { enable: true }").expect("writable");
    let server = Server::start(&["half_plus_two"], &[&format!("--monitoring_config_file={}", path.display())]);
    let answer = get(&server, "/monitoring/prometheus/metrics");
    assert_eq!((answer.code, answer.header("content-type")), (200, Some("text/plain")));
    assert!(answer.text().contains("coracle_model_available"), "{}", answer.text());
    assert_eq!(get(&server, "/metrics").code, 200);
}
