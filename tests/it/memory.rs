//! Device memory: budgets, refusals with their numbers, models that make room for others, and weights that lanes share.

use std::time::{Duration, Instant};

use coracle::api::Client;
use coracle::engine::device::Adapter;
use coracle::error::Code;
use coracle::tensor::Tensor;

use crate::calls::join_all;
use crate::server::{Server, command, has_adapter, model};

/// A server with copies of one model under these names, each with these GPU options.
fn serve(names: &[&str], gpu_options: &str, flags: &[&str]) -> Server {
    let (command, folder) = command(&[], flags);
    let base = model("half_plus_two").display().to_string();
    let entry = |name: &&str| {
        format!(r#"{{"name": "{name}", "base_path": "{base}", "config": {{"gpu_options": {{{gpu_options}}}}}}}"#)
    };
    let entries: Vec<String> = names.iter().map(entry).collect();
    let text = format!(r#"{{"model_config_list": [{}]}}"#, entries.join(", "));
    std::fs::write(folder.path().join("models.config"), text).expect("writable");
    Server::launch(command, folder)
}

async fn ask(client: &Client, name: &str) -> Result<f32, coracle::error::Error> {
    let x = Tensor::from_vec([1], vec![1.0f32])?;
    let reply = client.predict(name, "", &[("x".to_owned(), x)], &[]).await?;
    Ok(reply.outputs[0].1.values::<f32>()?[0])
}

/// What its status says of a model's one version: the state and the message.
fn status(server: &Server, name: &str) -> (String, String) {
    let (_, text) = server.page(&format!("/v1/models/{name}"));
    let json: serde_json::Value = serde_json::from_str(&text).expect("JSON");
    let version = &json["model_version_status"][0];
    let part = |value: &serde_json::Value| value.as_str().unwrap_or_default().to_owned();
    (part(&version["state"]), part(&version["status"]["error_message"]))
}

#[tokio::test]
async fn what_is_reserved_for_a_model_is_kept_from_others() {
    if !has_adapter() {
        return;
    }
    let names = ["a", "b", "c"];
    let half = r#""per_process_gpu_memory_fraction": 0.5"#;
    let server = serve(&names, half, &["--device_memory_bytes=67108864"]);
    let client = Client::connect(&server.grpc, None).await.expect("the server answers");
    let (served, refused): (Vec<&str>, Vec<&str>) =
        names.iter().partition(|name| status(&server, name).0 == "AVAILABLE");
    assert_eq!((served.len(), refused.len()), (2, 1));
    for name in &served {
        assert_eq!(ask(&client, name).await.expect("it is served"), 2.5);
        assert_eq!(
            server.metric_sum(&format!("coracle_model_memory_reserved_bytes{{model=\"{name}\"")),
            Some(33554432.0)
        );
        let held = server.metric_sum(&format!("coracle_model_memory_bytes{{model=\"{name}\"")).expect("it is told");
        assert!(held > 0.0 && held < 33554432.0, "{held}");
    }
    let (state, message) = status(&server, refused[0]);
    assert_eq!(state, "END");
    let expected = format!("33554432 bytes of device memory are to be reserved for model {}", refused[0]);
    assert!(message.starts_with(&expected) && message.contains("the budget is 67108864"), "{message}");
    assert_eq!(server.metric_sum("coracle_device_memory_limit_bytes{"), Some(67108864.0));
}

#[tokio::test]
async fn a_models_own_fraction_caps_it() {
    if !has_adapter() {
        return;
    }
    let tiny = r#""allow_growth": true, "per_process_gpu_memory_fraction": 0.000001"#;
    let (mut command, folder) = command(&[], &["--device_memory_bytes=67108864"]);
    let base = model("half_plus_two").display().to_string();
    let text = format!(
        r#"{{"model_config_list": [{{"name": "capped", "base_path": "{base}", "config": {{"gpu_options": {{{tiny}}}}}}}]}}"#
    );
    std::fs::write(folder.path().join("models.config"), text).expect("writable");
    let output = command.output().expect("the binary runs");
    let told = String::from_utf8_lossy(&output.stderr);
    assert!(!output.status.success(), "{told}");
    assert!(told.contains("of the 67 that model capped may have are in use"), "{told}");
    assert!(told.contains("model capped version 1 on 1 lanes: "), "{told}");
}

#[tokio::test]
async fn models_that_do_not_fit_together_take_turns() {
    if !has_adapter() {
        return;
    }
    let names = ["a", "b", "c"];
    let half = r#""per_process_gpu_memory_fraction": 0.5"#;
    let server = serve(&names, half, &["--device_memory_bytes=67108864", "--unload_idle_models", "--ready=all"]);
    assert_eq!(server.page("/readyz").0, 200);
    let client = Client::connect(&server.grpc, None).await.expect("the server answers");
    for _ in 0..2 {
        for name in names {
            assert_eq!(ask(&client, name).await.expect("it is loaded for the request"), 2.5);
            assert_eq!(status(&server, name).0, "AVAILABLE");
        }
    }
    let available = names.iter().filter(|name| status(&server, name).0 == "AVAILABLE").count();
    assert_eq!(available, 2);
    let error = ask(&client, "nobody").await.expect_err("unknown all the same");
    assert_eq!(error.code(), Code::NotFound);
}

/// What the weights of a model on two lanes of `adapter` take, as a multiple of the weights, once both lanes have the same of it.
fn copies_on_two_lanes(adapter: &Adapter, share: &str) -> f64 {
    let device = format!("--device={}", adapter.index());
    let server = Server::start(&["digits"], &[&device, "--lanes=2", &format!("--share_weights={share}")]);
    let end = Instant::now() + Duration::from_secs(120);
    loop {
        // All of one page: the lanes go on warming larger batches meanwhile, which bring small weights of their own.
        let (_, page) = server.page("/metrics");
        let value = |start: &str, label: &str| -> f64 {
            let line = page.lines().find(|line| line.starts_with(start) && line.contains(label));
            line.and_then(|line| line.rsplit(' ').next()?.parse().ok()).unwrap_or_default()
        };
        let lane = |number| value("coracle_lane_memory_bytes{", &format!("lane=\"{number}\"}}"));
        if lane(1) > 0.0 && lane(0) == lane(1) {
            assert_eq!(server.log().contains("lanes have one copy of weights"), share != "off");
            return value("coracle_weight_copies_bytes{", "") / value("coracle_weights_bytes{", "");
        }
        assert!(Instant::now() < end, "lane 0 has {} bytes, lane 1 {}", lane(0), lane(1));
        std::thread::park_timeout(Duration::from_millis(20));
    }
}

#[test]
fn lanes_have_weights_once_unless_they_are_told_not_to() {
    let Some(adapter) = Adapter::all().into_iter().find(|adapter| adapter.way_trusted().is_some()) else {
        eprintln!("skipped: no adapter shares weights");
        return;
    };
    // A page is not one moment: what a lane gets between two of its figures makes a few hundred bytes.
    let apart = copies_on_two_lanes(&adapter, "off");
    assert!((1.9..2.1).contains(&apart), "{apart} copies");
    // Small ones each lane has for itself.
    let shared = copies_on_two_lanes(&adapter, "auto");
    assert!((1.0..1.6).contains(&shared), "{shared} copies");
}

/// What the model `shapes` answers to an image of this height and width: its shape.
async fn shape(client: &Client, height: usize, width: usize) -> Result<Vec<usize>, coracle::error::Error> {
    let image = Tensor::from_vec([1, 3, height, width], vec![0.5f32; 3 * height * width])?;
    let reply = client.predict("shapes", "", &[("image".to_owned(), image)], &[]).await?;
    Ok(reply.outputs[0].1.shape().dims().to_vec())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn without_memory_left_what_is_new_is_refused_and_what_is_known_runs_on() {
    if !has_adapter() {
        return;
    }
    let server = Server::start(&["shapes", "half_plus_two"], &["--fault_injection", "--lanes=1"]);
    let client = Client::connect(&server.grpc, None).await.expect("the server answers");
    let known = shape(&client, 16, 16).await.expect("there is memory");
    let inject = |fault: &str| {
        let path = format!("/faults/lanes/0/{fault}");
        assert_eq!(crate::http::ask(&server.http, "POST", &path, &[], b"").code, 200);
    };
    inject("starve");
    let error = shape(&client, 24, 40).await.expect_err("a new shape needs memory");
    assert_eq!(error.code(), Code::ResourceExhausted, "{error}");
    assert!(error.message().contains("out of device memory") && error.message().contains("shapes"), "{error}");
    // More at once than there are buffers for: they take turns.
    let calls = (0..16).map(|_| {
        let client = client.clone();
        async move { shape(&client, 16, 16).await }
    });
    for answer in join_all(calls).await {
        assert_eq!(answer.expect("it was compiled before"), known);
    }
    assert_eq!(ask(&client, "half_plus_two").await.expect("another model"), 2.5);
    assert_eq!(server.page("/readyz").0, 200);
    inject("feed");
    shape(&client, 24, 40).await.expect("there is memory again");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_request_that_the_budget_cannot_hold_is_refused_with_the_numbers() {
    if !has_adapter() {
        return;
    }
    let server = Server::start(&["shapes", "half_plus_two"], &["--device_memory_bytes=33554432"]);
    let client = Client::connect(&server.grpc, None).await.expect("the server answers");
    shape(&client, 16, 16).await.expect("it fits");
    let held = server.metric_sum("coracle_device_memory_bytes{").expect("it is told");
    for _ in 0..3 {
        let error = shape(&client, 2048, 2048).await.expect_err("48 MiB of input alone");
        assert_eq!(error.code(), Code::ResourceExhausted, "{error}");
        assert!(error.message().contains("33554432"), "{error}");
    }
    assert_eq!(server.metric_sum("coracle_device_memory_bytes{"), Some(held), "nothing stays of what was refused");
    shape(&client, 16, 16).await.expect("it fits");
    assert_eq!(ask(&client, "half_plus_two").await.expect("another model"), 2.5);
}
