//! Callers that do not take what they asked for.

use std::io::{Read as _, Write as _};
use std::net::TcpStream;
use std::time::{Duration, Instant};

use coracle::api::Client;
use coracle::api::wire::serving::{ModelSpec, PredictRequest};
use coracle::api::wire::{TensorProto, TensorShapeProto, tensor_shape_proto::Dim};
use coracle::tensor::Tensor;
use socket2::{Domain, Socket, Type};

use crate::concurrency::resident_kib;
use crate::h2::{INITIAL_WINDOW, Raw};
use crate::server::{Server, has_adapter};

/// Longest that a change may take to be seen.
const CHANGE_MAX: Duration = Duration::from_secs(120);
const PREDICT: &str = "/tensorflow.serving.PredictionService/Predict";
/// Numbers in a large reply: more than the system's buffers take, which grow to some megabytes.
const LARGE: usize = 4 << 20;
/// What all requests may hold, and those of one connection.
const BUDGET: u64 = 512 << 20;
const PART: u64 = 128 << 20;

fn serve() -> Server {
    let (budget, depth) = (format!("--request_memory_bytes={BUDGET}"), "--connection_memory_fraction=0.25");
    Server::start(&["half_plus_two"], &[&budget, depth, "--send_timeout_ms=2000", "--keepalive_time_ms=0"])
}

/// A connection whose end here takes as little as possible.
fn narrow(address: &str) -> TcpStream {
    let socket = Socket::new(Domain::IPV4, Type::STREAM, None).expect("a socket");
    socket.set_recv_buffer_size(4096).expect("a size");
    let address: std::net::SocketAddr = address.parse().expect("an address");
    socket.connect(&address.into()).expect("it listens");
    socket.into()
}

/// Few bytes that ask for many: the last value is repeated.
fn request(values: usize) -> PredictRequest {
    // One row of them: rows would be divided into batches.
    let dim = [1, values as i64].map(|size| Dim { size, name: String::new() }).to_vec();
    let x = TensorProto {
        dtype: 1,
        tensor_shape: Some(TensorShapeProto { dim, unknown_rank: false }),
        float_val: vec![1.0],
        ..TensorProto::default()
    };
    PredictRequest {
        model_spec: Some(ModelSpec { name: "half_plus_two".into(), ..ModelSpec::default() }),
        inputs: [("x".to_owned(), x)].into(),
        ..PredictRequest::default()
    }
}

async fn is_answered(client: &Client) {
    let x = Tensor::from_vec([1], vec![1.0f32]).expect("one number");
    let reply = client.predict("half_plus_two", "", &[("x".to_owned(), x)], &[]).await.expect("others are answered");
    assert_eq!(reply.outputs[0].1.values::<f32>().expect("f32")[0], 2.5);
}

/// Has others call until so many connections of the port were ended for not reading; gives the most that requests held meanwhile.
async fn until_unread(server: &Server, client: &Client, port: &str, count: f64) -> f64 {
    let name = format!("coracle_connections_refused_total{{port=\"{port}\",reason=\"unread\"}}");
    let (end, mut held) = (Instant::now() + CHANGE_MAX, 0.0_f64);
    while server.metric(&name) < Some(count) {
        assert!(Instant::now() < end, "{:?} of {count} were ended: {}", server.metric(&name), server.log());
        is_answered(client).await;
        held = held.max(server.metric("coracle_request_memory_bytes").expect("it is told"));
    }
    held
}

/// Waits until requests hold nothing any more.
async fn until_given_back(server: &Server) {
    let end = Instant::now() + CHANGE_MAX;
    while server.metric("coracle_request_memory_bytes") != Some(0.0) {
        assert!(Instant::now() < end, "{:?} bytes are held", server.metric("coracle_request_memory_bytes"));
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}

/// Whether the connection has ended; what had been sent before is passed over.
fn has_ended(mut stream: TcpStream) -> bool {
    stream.set_read_timeout(Some(CHANGE_MAX)).expect("a time");
    let mut bytes = vec![0; 1 << 20];
    loop {
        match stream.read(&mut bytes) {
            Ok(0) => return true,
            Ok(_) => {}
            Err(error) => return error.kind() == std::io::ErrorKind::ConnectionReset,
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn who_does_not_read_over_rest_is_ended_and_costs_others_nothing() {
    if !has_adapter() {
        return;
    }
    let server = serve();
    let client = Client::connect(&server.grpc, None).await.expect("it answers");
    is_answered(&client).await;
    let streams: Vec<TcpStream> = (0..3)
        .map(|_| {
            let mut stream = narrow(&server.http);
            let path = format!("/v1/models/half_plus_two:predict?shape=1,{LARGE}");
            let sent = "application/octet-stream";
            let head = format!("POST {path} HTTP/1.1\r\nHost: test\r\nContent-Type: {sent}\r\nAccept: {sent}\r\n");
            write!(stream, "{head}Content-Length: {}\r\n\r\n", 4 * LARGE).expect("writable");
            stream.write_all(&vec![0; 4 * LARGE]).expect("writable");
            stream
        })
        .collect();
    let held = until_unread(&server, &client, "http", streams.len() as f64).await;
    assert!(held >= (4 * LARGE) as f64, "at most {held} bytes were held");
    assert!(streams.into_iter().all(has_ended));
    until_given_back(&server).await;
    assert!(server.log().contains("a client does not take its replies (send_timeout_ms)"), "{}", server.log());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn who_does_not_read_over_grpc_is_ended_and_costs_others_nothing() {
    if !has_adapter() {
        return;
    }
    let server = serve();
    let client = Client::connect(&server.grpc, None).await.expect("it answers");
    is_answered(&client).await;
    let before = resident_kib(server.id());
    // One that lets nothing be sent to its streams, one whose streams take everything but whose connection takes nothing.
    for (window, count) in [(0, 1.0), (i32::MAX as u32, 2.0)] {
        let mut raw = Raw::over(narrow(&server.grpc), &[(INITIAL_WINDOW, window)]);
        if window > 0 {
            raw.widen(i32::MAX as u32 - 65535);
        }
        for stream in 0..32 {
            raw.call(2 * stream + 1, PREDICT, &request(LARGE));
        }
        let held = until_unread(&server, &client, "grpc", count).await;
        // What good callers hold comes to it.
        assert!(held <= (PART + (1 << 20)) as f64, "{held} bytes were held");
        assert!(has_ended(raw.0));
        until_given_back(&server).await;
    }
    if let (Some(before), Some(after)) = (before, resident_kib(server.id())) {
        // Besides what requests hold: buffers of models and the allocator's own.
        assert!(after < before + (PART >> 9), "{before} KiB before, {after} KiB after");
    }
}
