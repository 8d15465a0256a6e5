//! Processes that are killed: what they leave behind is whole, or known to be damaged.

use std::path::Path;
use std::process::{Child, Stdio};
use std::time::{Duration, Instant};

use coracle::api::Client;

use crate::calls::{batch, digits, join_all};
use crate::server::{Server, command, has_adapter};

/// Longest that a start may take, measuring included.
const START_MAX: Duration = Duration::from_secs(180);
/// Starts that are killed.
const ROUNDS: usize = 6;

/// What changes in a cache folder while it is written: names and sizes of its files.
fn state(folder: &Path) -> Vec<(std::ffi::OsString, u64)> {
    let entries = std::fs::read_dir(folder).into_iter().flatten().flatten();
    let mut files: Vec<_> =
        entries.filter_map(|entry| Some((entry.file_name(), entry.metadata().ok()?.len()))).collect();
    files.sort();
    files
}

/// A start that is killed at the `number`th change in the cache folder, or when it is over.
fn killed_at(number: usize, cache: &Path) {
    let flags = [&format!("--cache_dir={}", cache.display()), "--tune=load", "--enable_batching=false"];
    let (mut command, folder) = command(&["digits"], &flags);
    let mut process: Child = command.stderr(Stdio::null()).spawn().expect("the binary runs");
    let (mut before, mut changes, end) = (state(cache), 0, Instant::now() + START_MAX);
    // Looking never stops: what is waited for lasts for moments.
    while changes < number && !folder.path().join("ports").exists() {
        assert!(Instant::now() < end, "it does not start");
        assert!(process.try_wait().expect("it can be asked").is_none(), "it ended by itself");
        let now = state(cache);
        changes += usize::from(now != before);
        before = now;
        std::thread::yield_now();
    }
    process.kill().expect("it runs");
    process.wait().expect("it can be waited for");
}

#[test]
fn what_is_killed_while_it_writes_its_caches_leaves_whole_ones() {
    if !has_adapter() {
        return;
    }
    let folder = tempfile::tempdir().expect("a temporary folder");
    let cache = folder.path().join("cache");
    for round in 1..=ROUNDS {
        killed_at(round, &cache);
        let path = cache.join("tuning.json");
        if let Ok(text) = std::fs::read_to_string(&path) {
            let json: serde_json::Value = serde_json::from_str(&text).expect("a whole file");
            assert_eq!(json["version"], 1);
        }
    }
    let server = Server::start(&["digits"], &[&format!("--cache_dir={}", cache.display()), "--enable_batching=false"]);
    let log = server.log();
    assert!(!log.contains("damaged"), "{log}");
    assert_eq!(server.page("/readyz").0, 200);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_is_killed_under_load_answers_rightly_after_the_next_start() {
    if !has_adapter() {
        return;
    }
    let folder = tempfile::tempdir().expect("a temporary folder");
    let flag = format!("--cache_dir={}", folder.path().join("cache").display());
    let (images, labels) = digits();
    let read = async |server: &Server| {
        let client = Client::connect(&server.grpc, None).await.expect("it answers");
        let reply = client.predict("digits", "", &batch(&images), &[]).await.expect("an answer");
        let scores = reply.outputs[0].1.values::<f32>().expect("f32").into_owned();
        let best = |row: &[f32]| (0..10).max_by(|a, b| row[*a].total_cmp(&row[*b])).expect("ten");
        scores.chunks(10).map(best).collect::<Vec<usize>>()
    };
    for _ in 0..2 {
        let server = Server::start(&["digits"], &[&flag]);
        assert_eq!(read(&server).await, labels);
        let (address, inputs) = (server.grpc.clone(), batch(&images[..2]));
        let calls = tokio::spawn(join_all((0..16).map(move |_| {
            let (address, inputs) = (address.clone(), inputs.clone());
            async move {
                let client = Client::connect(&address, None).await.expect("it answers");
                let mut answered = 0;
                while client.predict("digits", "", &inputs, &[]).await.is_ok() {
                    answered += 1;
                }
                answered
            }
        })));
        let end = Instant::now() + START_MAX;
        let count =
            "coracle_requests_total{model=\"digits\",version=\"1\",entrypoint=\"GRPC\",method=\"Predict\",code=\"OK\"}";
        while server.metric(count) < Some(64.0) {
            assert!(Instant::now() < end, "{:?}", server.metric(count));
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
        // It is killed where it stands.
        drop(server);
        assert!(calls.await.expect("no caller panicked").iter().sum::<u64>() > 0);
    }
    let server = Server::start(&["digits"], &[&flag]);
    assert_eq!(read(&server).await, labels);
    assert!(!server.log().contains("damaged"), "{}", server.log());
}
