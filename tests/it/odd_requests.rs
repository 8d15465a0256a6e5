//! Requests that no client of good manners sends: each gets an answer, and the server stays as it is.

use std::io::{Read as _, Write as _};
use std::net::TcpStream;
use std::time::{Duration, Instant};

use bytes::{Buf as _, BufMut as _};
use coracle::api::Client;
use coracle::tensor::Tensor;
use serde_json::{Value, json};
use tonic::codec::{Codec, DecodeBuf, Decoder, EncodeBuf, Encoder};
use tonic::{Code, Request, Status};

use crate::concurrency::resident_kib;
use crate::health::channel;
use crate::http::{Answer, ask};
use crate::onnx::{field, model, node, number, output};
use crate::server::{Server, command, has_adapter};

/// Longest that a change may take to be seen.
const CHANGE_MAX: Duration = Duration::from_secs(120);
const PREDICT: &str = "/v1/models/half_plus_two:predict";

/// Messages as they are.
struct Bare;

impl Codec for Bare {
    type Encode = Vec<u8>;
    type Decode = Vec<u8>;
    type Encoder = Self;
    type Decoder = Self;

    fn encoder(&mut self) -> Self {
        Self
    }

    fn decoder(&mut self) -> Self {
        Self
    }
}

impl Encoder for Bare {
    type Item = Vec<u8>;
    type Error = Status;

    fn encode(&mut self, item: Vec<u8>, into: &mut EncodeBuf<'_>) -> Result<(), Status> {
        into.put_slice(&item);
        Ok(())
    }
}

impl Decoder for Bare {
    type Item = Vec<u8>;
    type Error = Status;

    fn decode(&mut self, from: &mut DecodeBuf<'_>) -> Result<Option<Vec<u8>>, Status> {
        Ok(Some(from.copy_to_bytes(from.remaining()).to_vec()))
    }
}

/// What a call of `method` with this message is answered with.
async fn call(server: &Server, method: &'static str, message: Vec<u8>) -> Result<Vec<u8>, Status> {
    let mut grpc = tonic::client::Grpc::new(channel(server).await);
    grpc.ready().await.expect("it answers");
    let path = http::uri::PathAndQuery::from_static(method);
    grpc.unary(Request::new(message), path, Bare).await.map(tonic::Response::into_inner)
}

/// A request for `half_plus_two` whose tensor `x` has these fields besides its type.
fn predict(dtype: i64, tensor: &[Vec<u8>]) -> Vec<u8> {
    let spec = field(1, &field(1, b"half_plus_two"));
    let tensor = [number(1, dtype), tensor.concat()].concat();
    [spec, field(2, &[field(1, b"x"), field(2, &tensor)].concat())].concat()
}

fn shape(dims: &[i64]) -> Vec<u8> {
    let dims = dims.iter().flat_map(|size| field(2, &number(1, *size)));
    field(2, &dims.collect::<Vec<u8>>())
}

#[tokio::test]
async fn odd_messages_are_answered() {
    const OF: &str = "/tensorflow.serving.PredictionService/Predict";
    if !has_adapter() {
        return;
    }
    let server = Server::start(&["half_plus_two"], &[]);
    let (content, one) = (|bytes: &[u8]| field(4, bytes), field(5, &1.0_f32.to_le_bytes()));
    let cases: Vec<(&str, &'static str, Vec<u8>, Code)> = vec![
        ("nothing", OF, Vec::new(), Code::InvalidArgument),
        ("garbage", OF, vec![0xff; 64], Code::Internal),
        ("a field that ends too early", OF, vec![0x0a, 0x7f, 1], Code::Internal),
        ("no type", OF, predict(0, &[shape(&[1])]), Code::InvalidArgument),
        ("an unknown type", OF, predict(99, &[shape(&[1])]), Code::InvalidArgument),
        ("2^62 rows of nothing", OF, predict(1, &[shape(&[1 << 62]), content(&[])]), Code::InvalidArgument),
        (
            "a product that wraps to 0",
            OF,
            predict(1, &[shape(&[1 << 32, 1 << 32]), content(&[])]),
            Code::InvalidArgument,
        ),
        (
            "a product that wraps to 4",
            OF,
            predict(1, &[shape(&[(1 << 62) + 1, 4]), content(&[0; 4])]),
            Code::InvalidArgument,
        ),
        ("less than nothing", OF, predict(1, &[shape(&[i64::MIN]), content(&[])]), Code::InvalidArgument),
        ("hundreds of extents", OF, predict(1, &[shape(&[1; 300]), one.clone()]), Code::InvalidArgument),
        ("an unknown method", "/tensorflow.serving.PredictionService/Guess", predict(1, &[]), Code::Unimplemented),
        ("an unknown service", "/tensorflow.serving.Oracle/Predict", predict(1, &[]), Code::Unimplemented),
    ];
    let mut wrong = Vec::new();
    for (what, method, message, code) in cases {
        let status = call(&server, method, message).await.expect_err(what);
        if status.code() != code {
            wrong.push(format!("{what}: {status:?}, expected {code:?}"));
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
    call(&server, OF, predict(1, &[shape(&[1]), one])).await.expect("a right one is answered");
    assert!(!server.log().contains("panicked"), "{}", server.log());
}

/// What the HTTP port says to these bytes before it closes the connection; empty when it says nothing.
fn said(server: &Server, bytes: &[u8]) -> String {
    let mut stream = TcpStream::connect(&server.http).expect("it listens");
    stream.set_read_timeout(Some(CHANGE_MAX)).expect("a time");
    // It may hang up before all has been sent.
    let _ = stream.write_all(bytes);
    let mut text = Vec::new();
    match stream.read_to_end(&mut text) {
        Err(error) if error.kind() != std::io::ErrorKind::ConnectionReset => panic!("{error}"),
        _ => String::from_utf8_lossy(&text).into_owned(),
    }
}

#[test]
fn what_is_no_http_is_sent_away() {
    if !has_adapter() {
        return;
    }
    // None of these may be waited for until a time is over.
    let hour = ["--rest_api_timeout_in_ms=3600000", "--first_request_timeout_ms=3600000"];
    let server = Server::start(&["half_plus_two"], &hour);
    let post =
        |headers: &str| format!("POST {PREDICT} HTTP/1.1\r\nHost: test\r\nConnection: close\r\n{headers}\r\n\r\n");
    let long = "x".repeat(1 << 20);
    let hello = [0x16, 3, 1, 2, 0, 1, 0, 1, 0xfc, 3, 3];
    let cases: [(&str, Vec<u8>, &str); 8] = [
        ("a negative length", post("Content-Length: -5").into(), "HTTP/1.1 400"),
        ("a length that is none", post("Content-Length: many").into(), "HTTP/1.1 400"),
        ("two lengths", post("Content-Length: 5\r\nContent-Length: 6").into(), "HTTP/1.1 400"),
        ("10^14 bytes", post("Content-Length: 100000000000000").into(), "HTTP/1.1 413"),
        ("a long header", post(&format!("X-Long: {long}")).into(), "HTTP/1.1 431"),
        ("a long path", format!("GET /{long} HTTP/1.1\r\nHost: test\r\n\r\n").into(), "HTTP/1.1 4"),
        ("a line that is none", b"hello there\r\n\r\n".to_vec(), "HTTP/1.1 400"),
        ("TLS", [&hello[..], &[0; 512]].concat(), ""),
    ];
    for (what, bytes, start) in cases {
        let told = said(&server, &bytes);
        assert!(told.starts_with(start), "{what}: {told}");
        assert!(!told.starts_with("HTTP/1.1 2"), "{what}: {told}");
    }
    assert_eq!(ask(&server.http, "POST", PREDICT, &[], br#"{"instances": [1]}"#).code, 200);
}

fn packed_blanks(bytes: usize) -> Vec<u8> {
    let mut encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
    let blanks = vec![b' '; 1 << 20];
    (0..bytes >> 20).for_each(|_| encoder.write_all(&blanks).expect("in memory"));
    encoder.finish().expect("in memory")
}

#[test]
fn bodies_that_swell_stop_at_their_bound() {
    const BOUND: usize = 100 << 20;
    if !has_adapter() {
        return;
    }
    let server = Server::start(&["half_plus_two"], &[&format!("--max_message_bytes={BOUND}")]);
    let bomb = packed_blanks(1 << 28);
    assert!(bomb.len() < 8 << 20, "{} bytes", bomb.len());
    let send = || ask(&server.http, "POST", PREDICT, &[("Content-Encoding", "gzip")], &bomb);
    let told = |answer: &Answer| answer.json()["error"].as_str().unwrap_or_default().to_owned();
    let first = send();
    assert_eq!(first.code, 413, "{}", told(&first));
    assert!(told(&first).contains("104857600 (max_message_bytes)"), "{}", told(&first));
    let before = resident_kib(server.id());
    for _ in 0..3 {
        assert_eq!(send().code, 413);
    }
    if let Some((before, after)) = before.zip(resident_kib(server.id())) {
        assert!(after < before + (32 << 10), "{before} KiB before, {after} KiB after");
    }
    assert_eq!(server.metric("coracle_request_memory_bytes"), Some(0.0));
}

#[test]
fn a_body_in_crumbs_is_read() {
    const CRUMBS: usize = 20_000;
    if !has_adapter() {
        return;
    }
    let server = Server::start(&["half_plus_two"], &[]);
    let before = resident_kib(server.id());
    for _ in 0..3 {
        let head =
            format!("POST {PREDICT} HTTP/1.1\r\nHost: test\r\nConnection: close\r\nTransfer-Encoding: chunked\r\n\r\n");
        let body = br#"{"instances": [1]}"#;
        let blanks = std::iter::repeat_n(&b' ', CRUMBS);
        let crumbs = blanks.chain(body).flat_map(|byte| [b'1', b'\r', b'\n', *byte, b'\r', b'\n']);
        let bytes: Vec<u8> = head.bytes().chain(crumbs).chain(*b"0\r\n\r\n").collect();
        let told = said(&server, &bytes);
        assert!(told.starts_with("HTTP/1.1 200") && told.ends_with(r#"{"predictions":[2.5]}"#), "{told}");
    }
    if let Some((before, after)) = before.zip(resident_kib(server.id())) {
        assert!(after < before + (16 << 10), "{before} KiB before, {after} KiB after");
    }
}

fn report(server: &Server) -> Value {
    ask(&server.http, "GET", "/v1/models/half_plus_two/batching", &[], b"").json()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn who_cancels_a_call_that_waits_is_not_run() {
    if !has_adapter() {
        return;
    }
    let folder = tempfile::tempdir().expect("a temporary folder");
    let parameters = folder.path().join("parameters");
    std::fs::write(&parameters, "max_batch_size { value: 64 } batch_timeout_micros { value: 2000000 }")
        .expect("writable");
    let server = Server::start(&["half_plus_two"], &[&format!("--batching_parameters_file={}", parameters.display())]);
    let client = Client::connect(&server.grpc, None).await.expect("it answers");
    let x = [("x".to_owned(), Tensor::from_vec([1], vec![1.0f32]).expect("one number"))];
    let call = || {
        let (client, x) = (client.clone(), x.clone());
        tokio::spawn(async move { client.predict("half_plus_two", "", &x, &[]).await.map(drop) })
    };
    let cancelled = || report(&server)["dropped"]["cancelled"].as_u64().unwrap_or(0);
    let end = Instant::now() + CHANGE_MAX;
    let rows = loop {
        assert!(Instant::now() < end, "nothing waits: {}", report(&server));
        let waiting = call();
        while report(&server)["now"]["waiting_requests"] != 1 && !waiting.is_finished() {
            tokio::time::sleep(Duration::from_millis(2)).await;
        }
        let rows = report(&server)["rows"].clone();
        // The stream is reset.
        waiting.abort();
        while report(&server)["now"]["waiting_requests"] != 0 {
            assert!(Instant::now() < end, "it waits on: {}", report(&server));
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
        // Right after the start a row may fill the only size that is ready, and on a slow machine be answered first.
        if cancelled() > 0 {
            break rows;
        }
    };
    let told = report(&server);
    assert_eq!(told["rows"], rows, "it was not run: {told}");
    assert_eq!(
        server.metric("coracle_dropped_total{model=\"half_plus_two\",version=\"1\",reason=\"cancelled\"}"),
        Some(cancelled() as f64)
    );
    call().await.expect("no panic").expect("who stays is answered");
}

#[tokio::test]
async fn a_model_without_inputs_answers_requests_without_any() {
    if !has_adapter() {
        return;
    }
    let (command, folder) = command(&[], &["--version_settle_ms=0"]);
    let version = folder.path().join("silent/1");
    std::fs::create_dir_all(&version).expect("writable");
    let bytes: Vec<u8> = [0.25_f32, 0.75].iter().flat_map(|v| v.to_le_bytes()).collect();
    let value = [number(1, 2), number(2, 1), field(9, &bytes)].concat();
    let value = field(5, &[field(1, b"value"), field(5, &value), number(20, 4)].concat());
    let file = model(&[node("Constant", &[], &["c"], &value), node("Neg", &["c"], &["y"], &[]), output("y", &[2])]);
    std::fs::write(version.join("model.onnx"), file).expect("writable");
    let base = folder.path().join("silent");
    let config = format!(
        "model_config_list {{ config {{ name: 'silent' base_path: '{}' model_platform: 'tensorflow' }} }}",
        base.display()
    );
    std::fs::write(folder.path().join("models.config"), config).expect("writable");
    let server = Server::launch(command, folder);
    let client = Client::connect(&server.grpc, None).await.expect("it answers");
    let reply = client.predict("silent", "", &[], &[]).await.expect("an answer");
    assert_eq!(reply.outputs[0].1.values::<f32>().expect("f32").as_ref(), [-0.25, -0.75]);
    let answer = ask(&server.http, "POST", "/v1/models/silent:predict", &[], br#"{"inputs": {}}"#);
    assert_eq!((answer.code, answer.json()), (200, json!({"outputs": [-0.25, -0.75]})), "{}", answer.text());
    let x = [("x".to_owned(), Tensor::from_vec([1], vec![1.0f32]).expect("one number"))];
    let error = client.predict("silent", "", &x, &[]).await.expect_err("it has no x");
    assert!(error.message().starts_with("input size does not match signature: 1!=0"), "{error}");
}
