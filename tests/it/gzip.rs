//! Compressed requests and replies.

use coracle::api::wire::serving::prediction_service_client::PredictionServiceClient;
use coracle::api::wire::serving::{ModelSpec, PredictRequest};
use coracle::api::wire::{TensorProto, TensorShapeProto, tensor_shape_proto::Dim};
use tonic::codec::CompressionEncoding::Gzip;

use crate::server::{Server, has_adapter};

// Every value is a row: more than the batch sizes hold that are warm right after the start, which are divided and wait.
const VALUES: usize = 5000;

fn request() -> PredictRequest {
    let x = TensorProto {
        dtype: 1,
        tensor_shape: Some(TensorShapeProto {
            dim: vec![Dim { size: VALUES as i64, name: String::new() }],
            unknown_rank: false,
        }),
        float_val: (0..VALUES).map(|i| i as f32).collect(),
        ..TensorProto::default()
    };
    PredictRequest {
        model_spec: Some(ModelSpec { name: "half_plus_two".into(), ..ModelSpec::default() }),
        inputs: [("x".to_owned(), x)].into(),
        ..PredictRequest::default()
    }
}

#[tokio::test]
async fn gzip_is_read_and_written_for_those_who_take_it() {
    if !has_adapter() {
        return;
    }
    // The bound is on the inflated message, about 20 KiB here.
    let server = Server::start(&["half_plus_two"], &["--max_message_bytes=40000"]);
    let plain = PredictionServiceClient::connect(format!("http://{}", server.grpc)).await.expect("the server answers");
    let packed = plain.clone().send_compressed(Gzip);
    let both = packed.clone().accept_compressed(Gzip);
    for (mut client, encoding) in [(plain, None), (packed, None), (both.clone(), Some("gzip"))] {
        let reply = client.predict(request()).await.expect("an answer");
        let told = reply.metadata().get("grpc-encoding").map(|v| v.to_str().expect("text").to_owned());
        assert_eq!(told.as_deref().filter(|e| *e != "identity"), encoding);
        let expected: Vec<f32> = (0..VALUES).map(|i| i as f32 / 2.0 + 2.0).collect();
        assert_eq!(reply.get_ref().outputs["y"].float_val, expected);
    }
    // Zeros pack to next to nothing, and are refused for what they become.
    let mut bomb = request();
    bomb.inputs.get_mut("x").expect("it was put in").float_val = vec![0.0; 1 << 20];
    let status = both.clone().predict(bomb).await.expect_err("4 MiB");
    assert_eq!(status.code(), tonic::Code::ResourceExhausted, "{}", status.message());
    assert!(status.message().contains("max_message_bytes"), "{}", status.message());
}
