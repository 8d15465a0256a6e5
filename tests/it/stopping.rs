//! How a server ends: what it still answers, what it tells, and what it gives up.

use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::net::TcpStream;

use coracle::api::Client;
use coracle::tensor::Tensor;
use tonic_health::pb::health_check_response::ServingStatus;

use crate::health::{Watcher, channel};
use crate::server::{Server, has_adapter};

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
