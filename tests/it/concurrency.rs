//! Many callers at once: each gets its own answers.

use std::path::Path;

use coracle::api::Client;

use crate::calls::{batch, digits, join_all};
use crate::server::{Server, has_adapter};

/// Callers at once.
const CALLERS: usize = 64;
/// Requests of each.
const ROUNDS: usize = 6;
/// How far an answer from another batch size may be off.
const ROUNDING: f32 = 1e-5;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn sixty_four_callers_get_what_they_get_alone() {
    if !has_adapter() {
        return;
    }
    let server = Server::start(&["digits"], &["--lanes=2"]);
    let client = Client::connect(&server.grpc, None).await.expect("the server answers");
    let (images, _) = digits();
    let rows = |caller: usize| -> Vec<Vec<f32>> {
        // One to three rows, brightened by the caller's number so that no two callers send the same.
        let own = images.iter().cycle().skip(caller).take(1 + caller % 3);
        own.map(|image| image.iter().map(|p| p * (1.0 + caller as f32 / 256.0)).collect()).collect()
    };
    let mut alone = Vec::new();
    for caller in 0..CALLERS {
        let inputs = batch(&rows(caller));
        let ask = async || client.predict("digits", "", &inputs, &[]).await.expect("an answer").outputs.remove(0).1;
        let (first, second) = (ask().await, ask().await);
        assert_eq!(first, second, "the same request in the same batch size gives the same bits");
        alone.push(first.values::<f32>().expect("f32").into_owned());
    }
    let calls = alone.into_iter().enumerate().map(|(caller, expected)| {
        let (address, inputs) = (server.grpc.clone(), batch(&rows(caller)));
        async move {
            let client = Client::connect(&address, None).await.expect("the server answers");
            for _ in 0..ROUNDS {
                let reply = client.predict("digits", "", &inputs, &[]).await.expect("an answer");
                let found = reply.outputs[0].1.values::<f32>().expect("f32").into_owned();
                assert_eq!(found.len(), expected.len());
                let off = found.iter().zip(&expected).map(|(a, b)| (a - b).abs()).fold(0.0, f32::max);
                assert!(off <= ROUNDING, "caller {caller} got an answer that is {off} off");
            }
        }
    });
    join_all(calls).await;
}

/// Kilobytes of a process' memory in use, where the system tells.
pub(crate) fn resident_kib(process: u32) -> Option<u64> {
    let text = std::fs::read_to_string(Path::new("/proc").join(process.to_string()).join("status")).ok()?;
    let line = text.lines().find_map(|l| l.strip_prefix("VmRSS:"))?;
    line.trim().trim_end_matches("kB").trim().parse().ok()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn huge_claims_leave_memory_flat() {
    use coracle::api::wire::serving::prediction_service_client::PredictionServiceClient;
    use coracle::api::wire::serving::{ModelSpec, PredictRequest};
    use coracle::api::wire::{TensorProto, TensorShapeProto, tensor_shape_proto::Dim};

    if !has_adapter() {
        return;
    }
    let server = Server::start(&["half_plus_two"], &[]);
    let claim = TensorProto {
        dtype: 1,
        tensor_shape: Some(TensorShapeProto {
            dim: vec![Dim { size: 2_000_000_000, name: String::new() }],
            unknown_rank: false,
        }),
        float_val: vec![1.0],
        ..TensorProto::default()
    };
    let request = PredictRequest {
        model_spec: Some(ModelSpec { name: "half_plus_two".into(), ..ModelSpec::default() }),
        inputs: [("x".to_owned(), claim)].into(),
        ..PredictRequest::default()
    };
    let before = resident_kib(server.id());
    let calls = (0..64).map(|_| {
        let (address, request) = (format!("http://{}", server.grpc), request.clone());
        async move {
            let mut client = PredictionServiceClient::connect(address).await.expect("the server answers");
            for _ in 0..4 {
                let status = client.predict(request.clone()).await.expect_err("eight gigabytes");
                assert_eq!(status.code(), tonic::Code::ResourceExhausted, "{}", status.message());
            }
        }
    });
    join_all(calls).await;
    if let (Some(before), Some(after)) = (before, resident_kib(server.id())) {
        assert!(after < before + (64 << 10), "{before} KiB before, {after} KiB after");
    }
}
