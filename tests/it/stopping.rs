//! How a server ends: what it still answers, what it tells, and what it gives up.

use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::net::TcpStream;
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use coracle::api::wire::serving::prediction_log::LogType;
use coracle::api::wire::serving::{ModelSpec, PredictLog, PredictRequest, PredictionLog};
use coracle::api::{Client, Form, encode};
use coracle::tensor::Tensor;
use prost::Message as _;
use tonic_health::pb::health_check_response::ServingStatus;

use crate::calls::join_all;
use crate::health::{Watcher, channel};
use crate::http::ask;
use crate::server::{Server, command, has_adapter, model};

/// Longest that a change may take to be seen.
const CHANGE_MAX: Duration = Duration::from_secs(120);

async fn is_answered(client: &Client) -> bool {
    let x = Tensor::from_vec([1], vec![1.0f32]).expect("one number");
    client.predict("half_plus_two", "", &[("x".to_owned(), x)], &[]).await.is_ok()
}

// On a thread of its own the client goes on answering while the test waits for the process.
#[tokio::test(flavor = "multi_thread", worker_threads = 1)]
async fn a_lame_duck_answers_until_a_second_signal_ends_it_at_once() {
    if !has_adapter() {
        return;
    }
    // An hour: that the process ends before is the second signal's doing.
    let mut server = Server::start(&["half_plus_two"], &["--lame_duck_ms=3600000"]);
    let channel = channel(&server).await;
    let client = Client::connect(&server.grpc, None).await.expect("it answers");
    let mut watchers = Vec::new();
    for name in ["", "PredictionService", "half_plus_two"] {
        let mut watcher = Watcher::new(&channel, name).await;
        assert_eq!(watcher.next().await, Some(ServingStatus::Serving), "{name:?}");
        watchers.push(watcher);
    }
    assert!(server.terminate());
    for watcher in &mut watchers {
        assert_eq!(watcher.next().await, Some(ServingStatus::NotServing));
    }
    assert_eq!(server.page("/readyz").0, 503);
    assert_eq!(server.page("/healthz").0, 200);
    assert!(is_answered(&client).await);
    let late = Client::connect(&server.grpc, None).await.expect("who does not know yet is let in");
    assert!(is_answered(&late).await);
    assert!(server.terminate());
    assert_eq!(server.wait().code(), Some(1));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 1)]
async fn watchers_are_told_goodbye_and_keep_nothing_open() {
    if !has_adapter() {
        return;
    }
    // With watchers to wait for, the test would take an hour.
    let mut server = Server::start(&["half_plus_two"], &["--drain_s=3600"]);
    let mut watcher = Watcher::new(&channel(&server).await, "").await;
    assert_eq!(watcher.next().await, Some(ServingStatus::Serving));
    assert!(server.terminate());
    assert_eq!(watcher.next().await, Some(ServingStatus::NotServing));
    assert_eq!(watcher.next().await, None);
    assert!(server.wait().success());
}

#[test]
fn what_is_not_answered_in_time_is_told_so() {
    if !has_adapter() {
        return;
    }
    let mut server = Server::start(&["half_plus_two"], &["--drain_s=1", "--rest_api_timeout_in_ms=3600000"]);
    let mut stream = BufReader::new(TcpStream::connect(&server.http).expect("it listens"));
    let head = "POST /v1/models/half_plus_two:predict HTTP/1.1\r\nHost: test\r\nExpect: 100-continue\r\n\
                Connection: close\r\nContent-Length: 100\r\n\r\n";
    stream.get_mut().write_all(head.as_bytes()).expect("writable");
    // It is being read.
    let mut line = String::new();
    stream.read_line(&mut line).expect("an answer");
    assert!(line.starts_with("HTTP/1.1 100"), "{line}");
    stream.get_mut().write_all(b"{\"instances\"").expect("writable");
    assert!(server.terminate());
    let mut text = String::new();
    stream.read_to_string(&mut text).expect("an answer");
    assert!(text.contains("HTTP/1.1 503") && text.contains("the server is stopping and gives up"), "{text}");
    assert!(server.wait().success());
}

/// A record of TensorFlow's that asks for a loop that never ends.
fn endless() -> Vec<u8> {
    let tensor = |t: &Tensor| encode(t, Form::Content).expect("a tensor");
    let x = tensor(&Tensor::from_vec([1, 3], vec![1.0f32; 3]).expect("three numbers"));
    let rounds = tensor(&Tensor::scalar(1_i64 << 40));
    let request = PredictRequest {
        model_spec: Some(ModelSpec { name: "endless".into(), ..ModelSpec::default() }),
        inputs: [("x".to_owned(), x), ("rounds".to_owned(), rounds)].into(),
        ..PredictRequest::default()
    };
    let log = PredictLog { request: Some(request), response: None };
    let record = PredictionLog { log_type: Some(LogType::PredictLog(log)), ..PredictionLog::default() }.encode_to_vec();
    let length = (record.len() as u64).to_le_bytes();
    let sum = |bytes: &[u8]| crc32c::crc32c(bytes).rotate_right(15).wrapping_add(0xa282_ead8).to_le_bytes();
    [&length[..], &sum(&length), &record, &sum(&record)].concat()
}

/// A server that loads for ever, because its model is warmed by a request without an end; once it has begun to.
fn loading() -> (std::process::Child, tempfile::TempDir) {
    let (mut command, folder) = command(&[], &["--version_settle_ms=0"]);
    let version = folder.path().join("endless/1");
    std::fs::create_dir_all(version.join("assets.extra")).expect("writable");
    std::fs::copy(model("control_flow").join("1/model.onnx"), version.join("model.onnx")).expect("readable");
    std::fs::write(version.join("assets.extra/tf_serving_warmup_requests"), endless()).expect("writable");
    let base = folder.path().join("endless");
    let config = format!(
        "model_config_list {{ config {{ name: 'endless' base_path: '{}' model_platform: 'tensorflow' }} }}",
        base.display()
    );
    std::fs::write(folder.path().join("models.config"), config).expect("writable");
    let log = std::fs::File::create(folder.path().join("log")).expect("writable");
    let process = command.stderr(Stdio::from(log)).spawn().expect("the binary runs");
    let end = Instant::now() + CHANGE_MAX;
    while !read(&folder.path().join("log")).contains("loaded: importing") {
        assert!(Instant::now() < end, "it does not load: {}", read(&folder.path().join("log")));
        std::thread::park_timeout(Duration::from_millis(5));
    }
    (process, folder)
}

fn read(log: &Path) -> String {
    std::fs::read_to_string(log).expect("readable")
}

#[test]
fn who_is_told_to_stop_while_loading_stops_at_once() {
    if !has_adapter() {
        return;
    }
    let (mut process, folder) = loading();
    let told = Command::new("kill").args(["-TERM", &process.id().to_string()]).status();
    assert!(told.is_ok_and(|status| status.success()));
    let end = Instant::now() + CHANGE_MAX;
    let status = loop {
        match process.try_wait().expect("it can be asked") {
            Some(status) => break status,
            None if Instant::now() < end => std::thread::park_timeout(Duration::from_millis(5)),
            None => {
                process.kill().expect("it runs");
                panic!("it did not stop: {}", read(&folder.path().join("log")));
            }
        }
    };
    let log = read(&folder.path().join("log"));
    assert_eq!(status.code(), Some(0), "{status}: {log}");
    assert!(log.contains("told to stop while models are being loaded"), "{log}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_waits_in_a_queue_is_answered_before_the_end() {
    if !has_adapter() {
        return;
    }
    let folder = tempfile::tempdir().expect("a temporary folder");
    let parameters = folder.path().join("parameters");
    // Who waits does so for long, but not for as long as the server would wait for them.
    let text = "max_batch_size { value: 64 } batch_timeout_micros { value: 5000000 }";
    std::fs::write(&parameters, text).expect("writable");
    let flags = [&format!("--batching_parameters_file={}", parameters.display()), "--drain_s=3600"];
    let mut server = Server::start(&["half_plus_two"], &flags);
    let client = Client::connect(&server.grpc, None).await.expect("it answers");
    // Right after the start a row may fill the only size that is ready.
    while !warm(&server) {
        assert!(is_answered(&client).await);
    }
    let end = Instant::now() + CHANGE_MAX;
    let calls = loop {
        let callers = std::iter::repeat_n(client.clone(), 8);
        let calls = tokio::spawn(join_all(callers.map(|client| async move { is_answered(&client).await })));
        while waiting(&server) < 8 && !calls.is_finished() {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
        // On a slow machine the first may have been answered before the last came.
        if !calls.is_finished() {
            break calls;
        }
        assert!(Instant::now() < end, "they never wait together");
    };
    assert!(server.terminate());
    assert!(calls.await.expect("no call failed").into_iter().all(|answered| answered));
    drop(client);
    assert!(server.wait().success());
}

fn report(server: &Server) -> serde_json::Value {
    ask(&server.http, "GET", "/v1/models/half_plus_two/batching", &[], b"").json()
}

fn waiting(server: &Server) -> u64 {
    report(server)["now"]["waiting_requests"].as_u64().expect("a number")
}

/// Whether a batch has been closed because nobody else came.
fn warm(server: &Server) -> bool {
    report(server)["closed"]["delay"]["batches"].as_u64().is_some_and(|count| count > 0)
}
