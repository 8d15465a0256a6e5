//! Tokens for inference and for administration.

use std::time::{Duration, Instant};

use coracle::api::wire::serving::model_service_client::ModelServiceClient;
use coracle::api::wire::serving::prediction_service_client::PredictionServiceClient;
use coracle::api::wire::serving::{
    GetModelMetadataRequest, GetModelStatusRequest, ModelSpec, PredictRequest, ReloadConfigRequest,
};
use coracle::api::wire::{TensorProto, TensorShapeProto, tensor_shape_proto::Dim};
use tonic::Code;
use tonic::transport::{Channel, Endpoint};
use tonic_health::pb::{HealthCheckRequest, health_client::HealthClient};

use crate::http::ask;
use crate::server::{Server, has_adapter};

/// Longest that a change may take to be seen.
const CHANGE_MAX: Duration = Duration::from_secs(60);

fn with<T>(message: T, token: Option<&str>) -> tonic::Request<T> {
    let mut request = tonic::Request::new(message);
    if let Some(token) = token {
        let value = format!("Bearer {token}").parse().expect("ASCII");
        request.metadata_mut().insert("authorization", value);
    }
    request
}

fn spec() -> Option<ModelSpec> {
    Some(ModelSpec { name: "half_plus_two".into(), ..ModelSpec::default() })
}

async fn predict(channel: &Channel, token: Option<&str>) -> Code {
    let shape = TensorShapeProto { dim: vec![Dim { size: 1, name: String::new() }], unknown_rank: false };
    let x = TensorProto { dtype: 1, tensor_shape: Some(shape), float_val: vec![1.0], ..TensorProto::default() };
    let inputs = [("x".to_owned(), x)].into();
    let request = PredictRequest { model_spec: spec(), inputs, ..PredictRequest::default() };
    let reply = PredictionServiceClient::new(channel.clone()).predict(with(request, token)).await;
    reply.map_or_else(|status| status.code(), |_| Code::Ok)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 1)]
async fn each_token_has_its_right_and_may_be_exchanged() {
    if !has_adapter() {
        return;
    }
    let folder = tempfile::tempdir().expect("a folder");
    let (predictors, administrators) = (folder.path().join("predict"), folder.path().join("admin"));
    std::fs::write(&predictors, "# of this year\nnew-token\nold-token\n").expect("writable");
    std::fs::write(&administrators, "admin-token\n").expect("writable");
    let flags = [
        format!("--predict_token_file={}", predictors.display()),
        format!("--admin_token_file={}", administrators.display()),
    ];
    let server = Server::start(&["half_plus_two"], &flags.each_ref().map(String::as_str));
    let endpoint = Endpoint::from_shared(format!("http://{}", server.grpc)).expect("an address");
    let channel = endpoint.connect().await.expect("it answers");
    for (token, code) in [
        (None, Code::Unauthenticated),
        (Some("nobody's"), Code::Unauthenticated),
        (Some("admin-token"), Code::PermissionDenied),
        (Some("new-token"), Code::Ok),
        (Some("old-token"), Code::Ok),
    ] {
        assert_eq!(predict(&channel, token).await, code, "{token:?}");
    }
    let (models, predictions) =
        (ModelServiceClient::new(channel.clone()), PredictionServiceClient::new(channel.clone()));
    for (token, is_answered) in
        [(None, false), (Some("nobody's"), false), (Some("admin-token"), true), (Some("old-token"), true)]
    {
        let request = with(GetModelStatusRequest { model_spec: spec() }, token);
        assert_eq!(models.clone().get_model_status(request).await.is_ok(), is_answered, "{token:?}");
        let metadata_field = vec!["signature_def".to_owned()];
        let request = with(GetModelMetadataRequest { model_spec: spec(), metadata_field }, token);
        assert_eq!(predictions.clone().get_model_metadata(request).await.is_ok(), is_answered, "{token:?}");
    }
    // From the server's own machine anybody may reload; what is asked for is wrong.
    let reload = models.clone().handle_reload_config_request(ReloadConfigRequest::default()).await;
    assert_eq!(reload.expect_err("no list").code(), Code::InvalidArgument);
    let health = HealthClient::new(channel.clone()).check(HealthCheckRequest { service: String::new() }).await;
    assert!(health.is_ok(), "health is for everybody");

    let path = "/v1/models/half_plus_two:predict";
    let rest = |path: &str, method: &str, token: Option<&str>| {
        let value = token.map(|token| format!("Bearer {token}"));
        let headers: Vec<(&str, &str)> = value.iter().map(|value| ("Authorization", value.as_str())).collect();
        ask(&server.http, method, path, &headers, if method == "POST" { br#"{"instances": [1.0]}"# } else { b"" })
    };
    let refused = rest(path, "POST", None);
    assert_eq!((refused.code, refused.header("www-authenticate")), (401, Some("Bearer")));
    assert!(refused.json()["error"].as_str().is_some_and(|text| text.contains("Bearer TOKEN")), "{}", refused.text());
    assert_eq!(rest(path, "POST", Some("admin-token")).code, 403);
    assert_eq!(rest(path, "POST", Some("old-token")).code, 200);
    for page in [
        "/v1/models",
        "/v1/models/half_plus_two",
        "/v1/models/half_plus_two/metadata",
        "/v1/models/half_plus_two/batching",
    ] {
        assert_eq!((rest(page, "GET", None).code, rest(page, "GET", Some("admin-token")).code), (401, 200), "{page}");
    }
    for page in ["/healthz", "/readyz", "/metrics"] {
        assert_eq!(rest(page, "GET", None).code, 200, "{page}");
    }
    let (_, metrics) = server.page("/metrics");
    let counted = r#"method="Predict",code="UNAUTHENTICATED""#;
    assert!(metrics.contains(counted), "{metrics}");

    // A file that is emptied by mistake locks nobody out and lets nobody in; one with other tokens counts.
    std::fs::write(&predictors, "").expect("writable");
    let end = Instant::now() + Duration::from_secs(3);
    while Instant::now() < end {
        assert_eq!(predict(&channel, Some("old-token")).await, Code::Ok);
        assert_eq!(predict(&channel, None).await, Code::Unauthenticated);
        tokio::time::sleep(Duration::from_millis(200)).await;
    }
    std::fs::write(&predictors, "newest-token\nnew-token\n").expect("writable");
    let end = Instant::now() + CHANGE_MAX;
    while predict(&channel, Some("newest-token")).await != Code::Ok {
        assert!(Instant::now() < end, "the change was not taken up within {CHANGE_MAX:?}");
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    assert_eq!(predict(&channel, Some("old-token")).await, Code::Unauthenticated);
    assert_eq!(predict(&channel, Some("new-token")).await, Code::Ok);
}
