//! Watchers of gRPC health.

use std::time::Duration;

use coracle::api::wire::serving::model_service_client::ModelServiceClient;
use coracle::api::wire::serving::{ModelConfig, ModelConfigList, ModelServerConfig, ReloadConfigRequest};
use tonic::Streaming;
use tonic::transport::{Channel, Endpoint};
use tonic_health::pb::health_check_response::ServingStatus;
use tonic_health::pb::{HealthCheckRequest, HealthCheckResponse, health_client::HealthClient};

use crate::server::{Server, has_adapter, model};

/// Longest that a change may take to be seen.
const CHANGE_MAX: Duration = Duration::from_secs(60);

/// A channel to the server's gRPC port.
pub(crate) async fn channel(server: &Server) -> Channel {
    let endpoint = Endpoint::from_shared(format!("http://{}", server.grpc)).expect("an address");
    endpoint.connect().await.expect("it answers")
}

/// What is told of one service.
pub(crate) struct Watcher(Streaming<HealthCheckResponse>);

impl Watcher {
    pub(crate) async fn new(channel: &Channel, service: &str) -> Self {
        let request = HealthCheckRequest { service: service.to_owned() };
        Self(HealthClient::new(channel.clone()).watch(request).await.expect("it is told").into_inner())
    }

    /// The next change; `None`: there will be none.
    pub(crate) async fn next(&mut self) -> Option<ServingStatus> {
        let told = tokio::time::timeout(CHANGE_MAX, self.0.message()).await.expect("it is told in time");
        told.expect("no error").map(|reply| reply.status())
    }
}

#[tokio::test]
async fn watchers_see_models_come_and_go() {
    if !has_adapter() {
        return;
    }
    let server = Server::start(&["half_plus_two"], &[]);
    let channel = channel(&server).await;
    let (mut kept, mut other) = (Watcher::new(&channel, "half_plus_two").await, Watcher::new(&channel, "other").await);
    let mut services = Vec::new();
    for name in ["", "ModelService", "tensorflow.serving.PredictionService"] {
        services.push(Watcher::new(&channel, name).await);
    }
    for watcher in services.iter_mut().chain([&mut kept]) {
        assert_eq!(watcher.next().await, Some(ServingStatus::Serving));
    }
    assert_eq!(other.next().await, Some(ServingStatus::ServiceUnknown));
    let unknown = HealthClient::new(channel.clone()).check(HealthCheckRequest { service: "other".into() }).await;
    assert_eq!(unknown.expect_err("nobody is called so").code(), tonic::Code::NotFound);

    let base_path = model("half_plus_two").display().to_string();
    let reload = async |names: &[&str]| {
        let entry = |name: &&str| ModelConfig {
            name: (*name).to_owned(),
            base_path: base_path.clone(),
            model_platform: "tensorflow".to_owned(),
            ..ModelConfig::default()
        };
        let list = ModelConfigList { config: names.iter().map(entry).collect() };
        let config = Some(ModelServerConfig { model_config_list: Some(list) });
        let request = ReloadConfigRequest { config, metric_names: Vec::new() };
        ModelServiceClient::new(channel.clone()).handle_reload_config_request(request).await.expect("right");
    };
    // What lies between two looks may be told or not; where it leads is told.
    let until = async |watcher: &mut Watcher, status: ServingStatus| {
        while watcher.next().await.expect("the server runs") != status {}
    };
    reload(&["half_plus_two", "other"]).await;
    until(&mut other, ServingStatus::Serving).await;
    reload(&["half_plus_two"]).await;
    until(&mut other, ServingStatus::ServiceUnknown).await;
    reload(&["other"]).await;
    until(&mut other, ServingStatus::Serving).await;
    until(&mut kept, ServingStatus::ServiceUnknown).await;
}
