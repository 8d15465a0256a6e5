//! Several adapters that share a model's load. Where there is one, it is opened twice: all but the speeds is the same.

use std::collections::HashSet;
use std::sync::Arc;
use std::time::{Duration, Instant};

use coracle::api::Client;
use coracle::engine::device::Adapter;
use coracle::engine::{Demand, EngineOptions, LoadOptions, MemoryBound, MemoryShare, MemoryTotal, RunOutput, Session};
use coracle::error::{Code, Error};
use coracle::fleet::{Fleet, Spread};
use coracle::formats::onnx;
use coracle::tensor::Tensor;

use crate::calls::{batch, digits, join_all};
use crate::http::ask;
use crate::server::{Server, has_adapter, model};

/// Longest that anything here takes on a slow machine.
const PATIENCE: Duration = Duration::from_secs(120);
/// Runs that one lane has begun at a time: two submissions, and the one being written.
const IN_FLIGHT: usize = 3;
const BYTES: u64 = 64 << 20;

/// One adapter twice, and all together where there are several.
fn devices() -> Vec<&'static str> {
    match Adapter::all().len() {
        0 => {
            eprintln!("skipped: no adapter");
            Vec::new()
        }
        1 => vec!["0,0"],
        _ => vec!["0,0", "all"],
    }
}

fn options(device: &str) -> EngineOptions {
    let memory = MemoryBound { total: MemoryTotal::Bytes(BYTES), fraction: None };
    EngineOptions { device: device.into(), memory, ..EngineOptions::default() }
}

/// The sessions of the digits model on a fleet.
fn load(fleet: &Fleet) -> Result<Vec<Arc<Session>>, Error> {
    let places = fleet.places("digits", MemoryShare::default())?;
    let graph = onnx::import(&model("digits").join("1/model.onnx")).expect("a good model");
    Fleet::load(&places, graph, &LoadOptions { batch_sizes: vec![1, 2], ..LoadOptions::default() })
}

fn input() -> Vec<Tensor> {
    vec![batch(&digits().0[..1]).remove(0).1]
}

/// Nobody waits for ever.
fn demand() -> Demand {
    Demand { deadline: Some(Instant::now() + PATIENCE), ..Demand::default() }
}

fn numbers(output: &RunOutput) -> Vec<f32> {
    output.outputs[0].values::<f32>().expect("f32").into_owned()
}

fn is_right(output: &RunOutput, expected: &[f32]) -> bool {
    let found = numbers(output);
    found.len() == expected.len() && found.iter().zip(expected).all(|(a, b)| (a - b).abs() < 1e-4)
}

/// So many runs at once.
async fn runs(spread: &Spread, count: usize, then: impl FnOnce()) -> Vec<Result<RunOutput, Error>> {
    let runs: Vec<_> = (0..count).map(|_| tokio::spawn(spread.run(input(), demand()))).collect();
    then();
    let mut outcomes = Vec::new();
    for run in runs {
        outcomes.push(run.await.expect("no panic"));
    }
    outcomes
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn all_adapters_share_the_load_and_a_lost_device_costs_what_it_had_begun() {
    for device in devices() {
        let fleet = Fleet::start(&options(device)).expect("adapters that compute right");
        let names: HashSet<String> = fleet.names_by_lane().into_iter().collect();
        let numbered: Vec<usize> = fleet.lanes().iter().map(|lane| lane.number()).collect();
        assert!(names.len() > 1 && names.len() == numbered.len(), "{device}: {names:?}");
        assert_eq!(numbered, (0..names.len()).collect::<Vec<_>>());
        let sessions = load(&fleet).expect("it loads");
        let expected = numbers(&sessions[0].run(input(), demand()).await.expect("it runs"));
        let spread = Spread::new(sessions);
        let outcomes = runs(&spread, 256, || ()).await;
        assert!(outcomes.iter().all(|outcome| outcome.as_ref().is_ok_and(|output| is_right(output, &expected))));
        let used: HashSet<usize> = outcomes.iter().flatten().map(|output| output.stats.lane).collect();
        assert_eq!(used.len(), names.len(), "{device}: only {used:?} were used");
        for lost in 0..names.len() {
            let replaced = fleet.lanes_replaced();
            let outcomes = runs(&spread, 64, || fleet.lanes()[lost].simulate_loss()).await;
            let failed: Vec<&Error> = outcomes.iter().filter_map(|outcome| outcome.as_ref().err()).collect();
            assert!(failed.len() <= IN_FLIGHT, "{device}: {} runs failed, only those on the device may", failed.len());
            assert!(failed.iter().all(|error| error.code() == Code::Unavailable), "{failed:?}");
            assert!(outcomes.iter().flatten().all(|output| is_right(output, &expected)));
            let since = Instant::now();
            while fleet.lanes_replaced() == replaced && since.elapsed() < PATIENCE {
                tokio::task::yield_now().await;
            }
        }
        // Where all are lost at once, what was not begun waits for one.
        fleet.lanes().iter().for_each(|lane| lane.simulate_loss());
        let output = spread.run(input(), demand()).await.expect("a lane comes back");
        assert!(is_right(&output, &expected));
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn nothing_is_hopeless_while_one_adapter_is_left() {
    if !has_adapter() {
        return;
    }
    let options = EngineOptions { hang_time: Duration::from_secs(2), ..options("0,0") };
    let fleet = Fleet::start(&options).expect("an adapter that computes right");
    let sessions = load(&fleet).expect("it loads");
    let spread = Spread::new(sessions.clone());
    for (engine, session) in sessions.iter().enumerate() {
        for _ in 0..2 {
            let left = tokio::time::timeout(Duration::ZERO, fleet.hopeless()).await;
            assert!(left.is_err(), "there is another engine, or another chance");
            spread.run(input(), demand()).await.expect("it runs on what is left");
            session.run(input(), demand()).await.expect("it works, or does again");
            fleet.lanes()[engine].faults().hang();
            let error = session.run(input(), demand()).await.expect_err("it hangs");
            assert_eq!(error.code(), Code::Unavailable, "{error}");
        }
    }
    tokio::time::timeout(PATIENCE, fleet.hopeless()).await.expect("both hung twice");
    assert_eq!(spread.run(input(), demand()).await.expect_err("nothing runs").code(), Code::Unavailable);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_one_adapter_cannot_hold_the_others_serve() {
    for device in devices() {
        let fleet = Fleet::start(&options(device)).expect("adapters that compute right");
        let own: u64 = fleet.engines().filter_map(|(_, engine)| engine.memory().limit).sum();
        assert!(device == "all" || own == BYTES, "each has a part of what there is once: {own}");
        let all = MemoryShare { fraction: Some(1.0), grows: false };
        let mut full = Vec::new();
        for (taken, (_, engine)) in fleet.engines().enumerate() {
            let sessions = load(&fleet).expect("others have room");
            assert_eq!(sessions.len(), fleet.engines().count() - taken);
            drop(sessions);
            let gone = Instant::now() + PATIENCE;
            // The load's threads end when they like.
            while let Err(error) = engine.account("greedy", all).map(|account| full.push(account)) {
                assert!(Instant::now() < gone, "{error}");
                tokio::time::sleep(Duration::from_millis(5)).await;
            }
        }
        let error = load(&fleet).expect_err("there is no room anywhere");
        assert_eq!(error.code(), Code::ResourceExhausted, "{error}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_server_of_two_adapters_tells_them_apart_and_outlives_one() {
    for device in devices() {
        let server = Server::start(&["digits"], &["--fault_injection", &format!("--device={device}")]);
        let inputs = batch(&digits().0[..2]);
        let calls = (0..8).map(|_| {
            let (address, inputs) = (server.grpc.clone(), inputs.clone());
            async move {
                let client = Client::connect(&address, None).await.expect("the server answers");
                let (mut right, mut refused, end) = (0, 0, Instant::now() + Duration::from_secs(4));
                while Instant::now() < end {
                    match client.predict("digits", "", &inputs, &[]).await {
                        Ok(_) => right += 1,
                        Err(error) if error.code() == Code::Unavailable => refused += 1,
                        Err(error) => panic!("{error}"),
                    }
                }
                [right, refused]
            }
        });
        let breaking = async {
            tokio::time::sleep(Duration::from_secs(1)).await;
            for lane in 0..2 {
                let answer = ask(&server.http, "POST", &format!("/faults/lanes/{lane}/lose"), &[], b"");
                assert_eq!(answer.code, 200);
                assert_eq!(server.page("/readyz").0, 200, "one is left");
                let since = Instant::now();
                while server.metric("coracle_lanes_replaced") < Some(lane as f64 + 1.0) {
                    assert!(since.elapsed() < PATIENCE, "lane {lane} was not replaced");
                    tokio::time::sleep(Duration::from_millis(20)).await;
                }
            }
        };
        let (counts, ()) = tokio::join!(join_all(calls), breaking);
        assert!(counts.iter().all(|[right, refused]| *right > 0 && *refused <= 2), "{counts:?} for two losses");
        let values = |name: &str| -> Vec<f64> {
            let (_, metrics) = server.page("/metrics");
            let lines = metrics.lines().filter(|line| line.starts_with(name));
            lines.map(|line| line.rsplit(' ').next().and_then(|n| n.parse().ok()).unwrap_or(0.0)).collect()
        };
        let names = ["device_memory_bytes", "weights_bytes", "model_memory_bytes", "device_time_seconds_count"]
            .map(|name| format!("coracle_{name}{{"));
        for name in names {
            // What a device that was replaced is to hold comes after it.
            let since = Instant::now();
            while values(&name).len() < 2 || values(&name).contains(&0.0) {
                assert!(since.elapsed() < PATIENCE, "{name} of each device: {:?}", values(&name));
                tokio::time::sleep(Duration::from_millis(20)).await;
            }
        }
    }
}
