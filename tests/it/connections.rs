//! Connections that come slowly, in great number, or stay for long.

use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::net::TcpStream;
use std::time::{Duration, Instant};

use coracle::api::Client;
use coracle::tensor::Tensor;

use crate::h2::{PING, Raw};
use crate::server::{Server, has_adapter};

/// Longest that a change may take to be seen.
const CHANGE_MAX: Duration = Duration::from_secs(60);

fn connect(address: &str) -> TcpStream {
    let stream = TcpStream::connect(address).expect("it listens");
    stream.set_read_timeout(Some(CHANGE_MAX)).expect("a time");
    stream
}

/// Asks for a page and leaves the connection open. False when it has been closed.
fn is_answered(stream: &mut BufReader<TcpStream>) -> bool {
    let asked = stream.get_mut().write_all(b"GET /healthz HTTP/1.1\r\nHost: test\r\n\r\n");
    let mut lines = String::new();
    // The head, an empty line, and the body: `ok`.
    while asked.is_ok() && !lines.ends_with("\r\n\r\nok\n") {
        match stream.read_line(&mut lines) {
            Ok(bytes) if bytes > 0 => {}
            _ => return false,
        }
    }
    lines.starts_with("HTTP/1.1 200")
}

/// Waits until the server closes the connection.
fn is_closed(mut stream: TcpStream) -> bool {
    let mut bytes = Vec::new();
    match stream.read_to_end(&mut bytes) {
        Ok(_) => true,
        // A time that is over would be another kind.
        Err(error) => error.kind() == std::io::ErrorKind::ConnectionReset,
    }
}

/// A client may meet the end of its connection with a request in hand: it then asks again.
async fn predict(client: &Client) -> f32 {
    let x = Tensor::from_vec([1], vec![1.0f32]).expect("one number");
    let inputs = [("x".to_owned(), x)];
    let mut tries = 3;
    let reply = loop {
        tries -= 1;
        match client.predict("half_plus_two", "", &inputs, &[]).await {
            Ok(reply) => break reply,
            Err(error) if tries == 0 => panic!("{error}"),
            Err(_) => {}
        }
    };
    reply.outputs[0].1.values::<f32>().expect("f32")[0]
}

#[tokio::test(flavor = "multi_thread", worker_threads = 1)]
async fn slow_callers_are_sent_away_and_cost_others_nothing() {
    if !has_adapter() {
        return;
    }
    let server = Server::start(&["half_plus_two"], &["--first_request_timeout_ms=2000"]);
    let client = Client::connect(&server.grpc, None).await.expect("it answers");
    let starts: [&[u8]; 4] = [
        b"",
        b"GET /healthz HTTP/1.1\r\nHost: te",
        b"PRI * HTTP/2.0\r\n",
        // All of HTTP/2's preface, and no request behind it.
        b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\x00\x00\x00\x04\x00\x00\x00\x00\x00",
    ];
    let mut slow = Vec::new();
    for address in [&server.grpc, &server.http] {
        for start in starts {
            let mut stream = connect(address);
            stream.write_all(start).expect("writable");
            slow.push(stream);
        }
    }
    assert_eq!(predict(&client).await, 2.5);
    assert_eq!(server.page("/healthz").0, 200);
    assert!(slow.into_iter().all(is_closed));
    let refused =
        |port| server.metric(&format!("coracle_connections_refused_total{{port=\"{port}\",reason=\"slow\"}}"));
    // Each is counted when its end is seen, which may be after its caller has seen it.
    let end = Instant::now() + Duration::from_secs(30);
    while (refused("grpc"), refused("http")) != (Some(4.0), Some(4.0)) {
        assert!(Instant::now() < end, "{:?} and {:?} were counted", refused("grpc"), refused("http"));
    }
    assert_eq!(predict(&client).await, 2.5);
}

#[test]
fn more_connections_than_there_may_be_are_closed() {
    if !has_adapter() {
        return;
    }
    let server = Server::start(&["half_plus_two"], &["--max_connections=2"]);
    let mut held: Vec<_> = (0..2).map(|_| BufReader::new(connect(&server.http))).collect();
    assert!(held.iter_mut().all(is_answered));
    assert!(is_closed(connect(&server.http)), "a third");
    assert!(held.iter_mut().all(is_answered), "those that were there stay");
    held.pop();
    let end = Instant::now() + CHANGE_MAX;
    while !is_answered(&mut BufReader::new(connect(&server.http))) {
        assert!(Instant::now() < end, "no place was given up");
    }
    let log = server.log();
    assert!(log.contains("2 connections are open (max_connections), more are closed"), "{log}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 1)]
async fn old_and_idle_connections_end_and_requests_go_on() {
    if !has_adapter() {
        return;
    }
    let server = Server::start(&["half_plus_two"], &["--max_connection_age_ms=500"]);
    let client = Client::connect(&server.grpc, None).await.expect("it answers");
    let mut page = BufReader::new(connect(&server.http));
    let end = Instant::now() + CHANGE_MAX;
    let mut answered = 0;
    // The client changes connections by itself.
    while is_answered(&mut page) {
        answered += 1;
        assert_eq!(predict(&client).await, 2.5);
        assert!(Instant::now() < end, "the connection did not grow old");
    }
    assert!(answered > 0);
    let start = Instant::now();
    while start.elapsed() < Duration::from_secs(2) {
        assert_eq!(predict(&client).await, 2.5);
    }

    let server = Server::start(&["half_plus_two"], &["--max_connection_idle_ms=500"]);
    let client = Client::connect(&server.grpc, None).await.expect("it answers");
    let mut page = BufReader::new(connect(&server.http));
    assert_eq!(predict(&client).await, 2.5);
    assert!(is_answered(&mut page) && is_closed(page.into_inner()));
    assert_eq!(predict(&client).await, 2.5, "over a connection of its own choice");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 1)]
async fn a_message_that_stops_coming_is_given_up_and_costs_others_nothing() {
    const PREDICT: &str = "/tensorflow.serving.PredictionService/Predict";
    if !has_adapter() {
        return;
    }
    let server = Server::start(&["half_plus_two"], &["--receive_timeout_ms=1000"]);
    let client = Client::connect(&server.grpc, None).await.expect("it answers");
    // Heads without bodies, and bodies that stop in their header and behind it.
    let slow: Vec<Raw> = [&[][..], &[0, 0, 0], &[0, 0, 0, 0, 100, 1, 2, 3]]
        .into_iter()
        .map(|beginning| {
            let mut raw = Raw::over(connect(&server.grpc), &[]);
            for stream in [1, 3, 5] {
                raw.head(stream, PREDICT);
                raw.data(stream, beginning);
            }
            raw
        })
        .collect();
    let late = "coracle_requests_total{model=\"_unknown\",version=\"-1\",entrypoint=\"GRPC\",method=\"Predict\",code=\"DEADLINE_EXCEEDED\"}";
    let end = Instant::now() + CHANGE_MAX;
    while server.metric(late) != Some(9.0) {
        assert_eq!(predict(&client).await, 2.5);
        assert!(Instant::now() < end, "{:?} of 9 were given up", server.metric(late));
    }
    assert_eq!(server.metric("coracle_request_memory_bytes"), Some(0.0));
    drop(slow);
}

#[test]
fn who_does_not_answer_pings_is_gone() {
    if !has_adapter() {
        return;
    }
    let flags = ["--keepalive_time_ms=200", "--keepalive_timeout_ms=1000", "--first_request_timeout_ms=3600000"];
    let server = Server::start(&["half_plus_two"], &flags);
    for address in [&server.grpc, &server.http] {
        let mut raw = Raw::over(connect(address), &[]);
        // Its other end may have vanished: it says nothing any more.
        let mut kinds = Vec::new();
        while let Some((kind, ..)) = raw.next() {
            kinds.push(kind);
        }
        assert!(kinds.contains(&PING), "{kinds:?}");
        assert!(is_closed(raw.0));
    }
}
