//! Devices that are lost, hang, or compute wrong under requests.

use std::time::{Duration, Instant};

use coracle::api::Client;
use coracle::error::Code;

use crate::calls::{batch, digits, join_all};
use crate::http::ask;
use crate::server::{Server, has_adapter};

/// Callers at once.
const CALLERS: usize = 16;
/// Longest until full service again on a slow machine.
const PATIENCE: Duration = Duration::from_secs(60);

fn inject(server: &Server, fault: &str) {
    assert_eq!(ask(&server.http, "POST", &format!("/faults/lanes/0/{fault}"), &[], b"").code, 200);
}

/// Waits until so many answers were checked with this outcome.
async fn wait_for_checks(server: &Server, outcome: &str, count: f64) {
    let name = format!("coracle_checked_total{{model=\"digits\",version=\"1\",outcome=\"{outcome}\"}}");
    let since = Instant::now();
    while server.metric(&name) < Some(count) {
        assert!(
            since.elapsed() < PATIENCE,
            "{outcome}: {} of {count}: {}",
            server.metric(&name).unwrap_or(0.0),
            server.log()
        );
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
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
            while server.metric("coracle_lanes_replaced") < Some(loss as f64) {
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
    let mut server = Server::start(&["digits"], &["--fault_injection", "--lane_hang_ms=6000"]);
    let (images, _) = digits();
    let inputs = batch(&images[..1]);
    let client = Client::connect(&server.grpc, None).await.expect("the server answers");
    let call = async || client.predict("digits", "", &inputs, &[]).await;
    inject(&server, "hang");
    assert_eq!(call().await.expect_err("it hangs").code(), Code::Unavailable);
    call().await.expect("another device is there");
    inject(&server, "hang");
    assert_eq!(call().await.expect_err("it hangs again").code(), Code::Unavailable);
    assert_eq!(server.wait().code(), Some(70));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_device_that_computes_wrong_is_found() {
    if !has_adapter() {
        return;
    }
    let server = Server::start(&["digits"], &["--fault_injection", "--check_fraction=1"]);
    let (images, _) = digits();
    let inputs = batch(&images[..3]);
    let client = Client::connect(&server.grpc, None).await.expect("the server answers");
    let call = async || {
        let reply = client.predict("digits", "", &inputs, &[]).await.expect("an answer");
        reply.outputs[0].1.values::<f32>().expect("f32").into_owned()
    };
    let right = call().await;
    wait_for_checks(&server, "agreed", 1.0).await;
    assert!(!server.log().contains("ERROR"), "{}", server.log());
    inject(&server, "corrupt");
    assert_ne!(call().await, right, "the fault is there");
    wait_for_checks(&server, "disagreed", 1.0).await;
    let told = server.log();
    let alarm = told.lines().find(|line| line.contains("ERROR")).unwrap_or_else(|| panic!("no alarm: {told}"));
    for part in ["model=digits", "version=1", "lane=0", "output=\"", "element ", " on the device and ", " on the host"]
    {
        assert!(alarm.contains(part), "{part}: {alarm}");
    }
    // Callers are served on: what to do is for people to decide. A new device is sound.
    assert_eq!(server.page("/readyz").0, 200);
    inject(&server, "lose");
    let since = Instant::now();
    while server.metric("coracle_lanes_replaced") < Some(1.0) {
        assert!(since.elapsed() < PATIENCE, "the lane was not replaced");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    let off = call().await.iter().zip(&right).map(|(a, b)| (a - b).abs()).fold(0.0, f32::max);
    assert!(off < 1e-5, "{off} off");
    wait_for_checks(&server, "agreed", 2.0).await;
    assert!(!told.contains("was not checked"), "{told}");
}
