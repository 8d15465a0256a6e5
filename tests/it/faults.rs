//! Devices that are lost, or hang, under requests.

use std::io::{Read as _, Write as _};
use std::time::{Duration, Instant};

use coracle::api::Client;
use coracle::error::Code;

use crate::calls::{batch, digits, join_all};
use crate::server::{Server, has_adapter};

/// Callers at once.
const CALLERS: usize = 16;
/// Longest until full service again on a slow machine.
const PATIENCE: Duration = Duration::from_secs(60);

fn inject(server: &Server, fault: &str) {
    let mut stream = std::net::TcpStream::connect(&server.http).expect("the HTTP port answers");
    let head = format!(
        "POST /faults/lanes/0/{fault} HTTP/1.1\r\nHost: test\r\nContent-Length: 0\r\nConnection: close\r\n\r\n"
    );
    stream.write_all(head.as_bytes()).expect("writable");
    let mut text = String::new();
    stream.read_to_string(&mut text).expect("an answer");
    assert!(text.starts_with("HTTP/1.1 200"), "{text}");
}

/// The number that a metric without labels has.
fn metric(server: &Server, name: &str) -> f64 {
    let (_, text) = server.page("/metrics");
    let line = text.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(' '));
    line.and_then(|number| number.parse().ok()).unwrap_or_else(|| panic!("no {name} in {text}"))
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn lost_devices_cost_those_on_them_a_retry_and_nobody_else_anything() {
    if !has_adapter() {
        return;
    }
    let server = Server::start(&["digits"], &["--fault_injection"]);
    let (images, _) = digits();
    let inputs = batch(&images[..2]);
    let client = Client::connect(&server.grpc, None).await.expect("the server answers");
    let expected = client.predict("digits", "", &inputs, &[]).await.expect("an answer").outputs.remove(0).1;
    let expected = expected.values::<f32>().expect("f32").into_owned();
    let losses = 3;
    let calls = (0..CALLERS).map(|_| {
        let (address, inputs, expected) = (server.grpc.clone(), inputs.clone(), expected.clone());
        async move {
            let client = Client::connect(&address, None).await.expect("the server answers");
            let (mut right, mut refused, end) = (0, 0, Instant::now() + Duration::from_secs(6));
            while Instant::now() < end {
                match client.predict("digits", "", &inputs, &[]).await {
                    Ok(reply) => {
                        let found = reply.outputs[0].1.values::<f32>().expect("f32").into_owned();
                        let off = found.iter().zip(&expected).map(|(a, b)| (a - b).abs()).fold(0.0, f32::max);
                        assert!(found.len() == expected.len() && off < 1e-5, "an answer is {off} off");
                        right += 1;
                    }
                    Err(error) => {
                        assert_eq!(error.code(), Code::Unavailable, "{error}");
                        refused += 1;
                    }
                }
            }
            assert!(right > 0, "this caller got no answer at all");
            assert!(refused <= losses, "{refused} refusals for {losses} losses");
        }
    });
    let breaking = async {
        for loss in 1..=losses {
            inject(&server, "lose");
            let since = Instant::now();
            while metric(&server, "coracle_lanes_replaced") < loss as f64 {
                assert!(since.elapsed() < PATIENCE, "loss {loss} was not mended");
                tokio::time::sleep(Duration::from_millis(50)).await;
            }
        }
    };
    tokio::join!(join_all(calls), breaking);
    assert_eq!(server.page("/readyz").0, 200);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_second_device_that_hangs_ends_the_process_for_its_supervisor() {
    if !has_adapter() {
        return;
    }
    let mut server = Server::start(&["digits"], &["--fault_injection", "--lane_hang_ms=3000"]);
    let (images, _) = digits();
    let inputs = batch(&images[..1]);
    let client = Client::connect(&server.grpc, None).await.expect("the server answers");
    let ask = async || client.predict("digits", "", &inputs, &[]).await;
    inject(&server, "hang");
    assert_eq!(ask().await.expect_err("it hangs").code(), Code::Unavailable);
    ask().await.expect("another device is there");
    inject(&server, "hang");
    assert_eq!(ask().await.expect_err("it hangs again").code(), Code::Unavailable);
    assert_eq!(server.wait().code(), Some(70));
}
