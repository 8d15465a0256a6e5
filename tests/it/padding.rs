//! `pad_variable_length_inputs`: requests of different lengths in one batch.

use std::time::{Duration, Instant};

use coracle::api::Client;
use coracle::batch::{Parameters, Policy};
use coracle::engine::EngineOptions;
use coracle::fleet::Fleet;
use coracle::formats::onnx::ImportOptions;
use coracle::model::{EngineLoader, Loader as _, ModelConfig, ServableId, ShapeBounds};
use coracle::tensor::{Shape, Tensor};
use serde_json::{Value, json};

use crate::calls::join_all;
use crate::http::ask;
use crate::server::{Server, command, has_adapter, model};

/// Longest that answers may take to be checked.
const CHECK_MAX: Duration = Duration::from_secs(120);
/// A batch goes when it has four rows, and not before.
const FOUR: &str =
    "max_batch_size { value: 4 } batch_timeout_micros { value: 600000000 } pad_variable_length_inputs: true";

fn serve(models: &[&str], text: &str, flags: &[&str]) -> Server {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let path = folder.path().join("parameters");
    std::fs::write(&path, text).expect("writable");
    let parameters = format!("--batching_parameters_file={}", path.display());
    Server::start(models, &[&[parameters.as_str()], flags].concat())
}

fn report(server: &Server, name: &str) -> Value {
    ask(&server.http, "GET", &format!("/v1/models/{name}/batching"), &[], b"").json()
}

/// The outputs of requests that are made at the same time, each by a caller of its own.
async fn together(server: &Server, name: &'static str, inputs: Vec<(String, Tensor)>) -> Vec<Vec<(String, Tensor)>> {
    let calls = inputs.into_iter().map(|input| {
        let address = server.grpc.clone();
        async move {
            let client = Client::connect(&address, None).await.expect("the server answers");
            client.predict(name, "", &[input], &[]).await.expect("an answer").outputs
        }
    });
    join_all(calls).await
}

fn texts(lengths: &[usize]) -> Vec<Vec<i64>> {
    // What they begin with is told apart from all else in them.
    lengths
        .iter()
        .enumerate()
        .map(|(i, n)| (0..*n).map(|at| if at == 0 { i as i64 } else { 4 + (at as i64) % 6 }).collect())
        .collect()
}

fn padded<T: Clone>(row: &[T], length: usize) -> Vec<T> {
    row.iter().chain(std::iter::repeat_n(&row[0], length - row.len())).cloned().collect()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn callers_of_different_lengths_share_batches() {
    if !has_adapter() {
        return;
    }
    let server = serve(&["lengths"], FOUR, &["--lanes=2", "--padded_batch_bytes_max=1000", "--check_fraction=1"]);
    let mut batches = 0;
    for lengths in [[1, 3, 5, 2], [7, 7, 7, 7], [2, 1, 5, 4], [1, 3, 5, 2]] {
        let longest = lengths.iter().copied().max().expect("four");
        let rows: Vec<Vec<f32>> = (0..4).map(|i| (0..lengths[i]).map(|at| (1 + i * 8 + at) as f32).collect()).collect();
        let inputs = rows.iter().map(|row| Tensor::from_vec([1, row.len()], row.clone()).expect("a row"));
        let answers = together(&server, "lengths", inputs.map(|x| ("x".to_owned(), x)).collect()).await;
        for (row, outputs) in rows.iter().zip(answers) {
            let sum: f32 = padded(row, longest).iter().sum();
            assert_eq!(outputs[0].1.values::<f32>().expect("f32").as_ref(), [sum], "{row:?} to {longest}");
        }
        batches += 1;
    }
    let told = report(&server, "lengths");
    assert_eq!((&told["batches"], &told["closed"]["full"]["batches"]), (&json!(batches), &json!(batches)), "{told}");
    assert_eq!(told["sizes"], json!([{"rows": 4, "batches": batches, "requests": 4 * batches, "padded_rows": 0}]));
    assert_eq!(told["parameters"]["pad_variable_length_inputs"], true);
    assert_eq!(told["policy"]["padded_batch_bytes_max"], 1000);
    // What was padded is checked as it was run.
    let checked = |outcome: &str| {
        let name = format!("coracle_checked_total{{model=\"lengths\",version=\"1\",outcome=\"{outcome}\"}}");
        server.metric(&name).unwrap_or(0.0)
    };
    let end = Instant::now() + CHECK_MAX;
    while ["agreed", "disagreed", "skipped"].map(checked).iter().sum::<f64>() < f64::from(4 * batches) {
        assert!(Instant::now() < end, "not within {CHECK_MAX:?}: {}", server.log());
        std::thread::park_timeout(Duration::from_millis(20));
    }
    assert!(checked("agreed") > 0.0 && checked("disagreed") == 0.0, "{}", server.log());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn texts_are_padded_with_their_own_first_token() {
    if !has_adapter() {
        return;
    }
    let server = serve(&["tokens"], FOUR, &[]);
    for lengths in [[1, 6, 3, 2], [4, 1, 1, 5]] {
        let longest = lengths.iter().copied().max().expect("four");
        let rows = texts(&lengths);
        let of = |row: &[i64]| ("ids".to_owned(), Tensor::from_vec([1, row.len()], row.to_vec()).expect("a row"));
        let answers = together(&server, "tokens", rows.iter().map(|row| of(row)).collect()).await;
        // The same as if callers had padded their texts themselves.
        let by_hand: Vec<Vec<i64>> = rows.iter().map(|row| padded(row, longest)).collect();
        let expected = together(&server, "tokens", by_hand.iter().map(|row| of(row)).collect()).await;
        for ((found, expected), row) in answers.iter().zip(&expected).zip(&by_hand) {
            let ids = &found.iter().find(|(name, _)| name == "same_ids").expect("it is there").1;
            assert_eq!((ids.shape().dims(), ids.values::<i64>().expect("i64").as_ref()), (&[1, longest][..], &row[..]));
            assert_eq!(found, expected, "{row:?}");
        }
    }
    assert_eq!(report(&server, "tokens")["batches"], 4);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn many_callers_of_any_length_get_their_own_answers() {
    if !has_adapter() {
        return;
    }
    const CALLERS: usize = 12;
    const ROUNDS: usize = 8;
    let folder = tempfile::tempdir().expect("a temporary folder");
    let base = folder.path().join("tokens");
    std::fs::create_dir_all(base.join("1")).expect("writable");
    std::fs::copy(model("tokens").join("1/model.onnx"), base.join("1/model.onnx")).expect("readable");
    // Two lengths in place of sixteen.
    std::fs::write(base.join("1/coracle.toml"), "padded_extents = [8, 16]").expect("writable");
    let parameters = folder.path().join("parameters");
    std::fs::write(&parameters, "max_batch_size { value: 8 } pad_variable_length_inputs: true").expect("writable");
    let config = format!(
        "model_config_list {{ config {{ name: 'tokens' base_path: '{}' model_platform: 'tensorflow' }} }}",
        base.display()
    );
    let flag = format!("--batching_parameters_file={}", parameters.display());
    let (command, folder_of_server) = command(&[], &[&flag, "--lanes=2"]);
    std::fs::write(folder_of_server.path().join("models.config"), config).expect("writable");
    let server = Server::launch(command, folder_of_server);
    let calls = (0..CALLERS).map(|caller| {
        let address = server.grpc.clone();
        async move {
            let client = Client::connect(&address, None).await.expect("the server answers");
            for round in 0..ROUNDS {
                let length = 1 + (caller * 5 + round * 3) % 16;
                let row: Vec<i64> = (0..length).map(|at| ((caller + at * round) % 10) as i64).collect();
                let input = Tensor::from_vec([1, length], row.clone()).expect("a row");
                let outputs =
                    client.predict("tokens", "", &[("ids".to_owned(), input)], &[]).await.expect("an answer").outputs;
                let ids = &outputs.iter().find(|(name, _)| name == "same_ids").expect("it is there").1;
                let extent = ids.shape()[1];
                assert!([8, 16].contains(&extent), "{extent}");
                assert_eq!(ids.values::<i64>().expect("i64").as_ref(), padded(&row, extent), "caller {caller}");
            }
        }
    });
    join_all(calls).await;
    let told = report(&server, "tokens");
    assert_eq!((&told["rows"], &told["failed"]), (&json!(CALLERS * ROUNDS), &json!(0)), "{told}");
}

#[test]
fn extents_that_are_padded_to_are_compiled_before_the_version_serves() {
    if !has_adapter() {
        return;
    }
    let folder = tempfile::tempdir().expect("a temporary folder");
    let path = folder.path().join("1");
    std::fs::create_dir_all(&path).expect("writable");
    std::fs::copy(model("tokens").join("1/model.onnx"), path.join("model.onnx")).expect("readable");
    std::fs::write(path.join("coracle.toml"), "padded_extents = [8, 16]").expect("writable");
    let fleet = Fleet::start(&EngineOptions { cache: None, ..EngineOptions::default() }).expect("there is an adapter");
    let loader = EngineLoader::new(fleet, ShapeBounds::default(), ImportOptions::default(), None, Policy::default());
    let ready = |pads: bool| {
        let parameters = Parameters { pad_variable_length_inputs: pads, ..Parameters::default() };
        let config = ModelConfig { batching: Some(parameters), ..ModelConfig::new("tokens", folder.path()) };
        let id = ServableId { name: "tokens".into(), version: 1 };
        let loaded = loader.load(&id, &path, &config).expect("a good model");
        [4, 8, 16].map(|extent| loaded.model.is_ready(&[Shape::new([1, extent])]))
    };
    assert_eq!(ready(true), [false, true, true]);
    assert_eq!(ready(false), [false; 3], "nobody pads");
}
