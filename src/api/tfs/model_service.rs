//! `tensorflow.serving.ModelService`.

use std::sync::Arc;
use std::time::Instant;

use axum::extract::ConnectInfo;
use tonic::{Request, Response, Status};

use super::proto::serving::model_service_server::ModelService;
use super::proto::serving::model_version_status::State as WireState;
use super::proto::serving::{
    GetModelStatusRequest, GetModelStatusResponse, ModelVersionStatus, ReloadConfigRequest, ReloadConfigResponse,
    StatusProto,
};
use super::reload::reload;
use super::spec::wanted;
use crate::api::admin::{Admin, Peer};
use crate::api::observer::{Call, Entrypoint, Observer};
use crate::api::status::status;
use crate::error::Result;
use crate::model::{Manager, State, VersionChoice};

/// The service over a manager's models.
pub(in crate::api) struct Models {
    pub(in crate::api) manager: Arc<Manager>,
    pub(in crate::api) observer: Arc<dyn Observer>,
    pub(in crate::api) admin: Admin,
}

impl Models {
    fn status(&self, request: GetModelStatusRequest) -> Result<GetModelStatusResponse> {
        let wanted = wanted(request.model_spec)?;
        let version = match &wanted.version {
            VersionChoice::Latest => None,
            VersionChoice::Specific(version) => Some(*version),
            VersionChoice::Label(label) => Some(self.manager.labelled(&wanted.name, label)?),
        };
        let versions = self.manager.status(&wanted.name, version)?;
        let model_version_status = versions.into_iter().map(|(version, status)| ModelVersionStatus {
            version,
            state: wire(status.state).into(),
            status: Some(match &status.error {
                None => StatusProto::default(),
                Some(error) => {
                    StatusProto { error_code: error.code() as i32, error_message: error.message().to_owned() }
                }
            }),
        });
        Ok(GetModelStatusResponse { model_version_status: model_version_status.collect() })
    }
}

fn wire(state: State) -> WireState {
    match state {
        State::Start => WireState::Start,
        State::Loading => WireState::Loading,
        State::Available => WireState::Available,
        State::Unloading => WireState::Unloading,
        State::End => WireState::End,
    }
}

#[tonic::async_trait]
impl ModelService for Models {
    async fn get_model_status(
        &self,
        request: Request<GetModelStatusRequest>,
    ) -> Result<Response<GetModelStatusResponse>, Status> {
        let start = Instant::now();
        let request = request.into_inner();
        let name = request.model_spec.as_ref().map(|s| s.name.clone()).unwrap_or_default();
        let result = self.status(request);
        self.observer.called(&Call {
            entrypoint: Entrypoint::Grpc,
            method: "GetModelStatus",
            model: if result.is_ok() { &name } else { "" },
            version: None,
            signature: "",
            error: result.as_ref().err(),
            latency: start.elapsed(),
        });
        result.map(Response::new).map_err(|error| status(&error))
    }

    async fn handle_reload_config_request(
        &self,
        request: Request<ReloadConfigRequest>,
    ) -> Result<Response<ReloadConfigResponse>, Status> {
        let start = Instant::now();
        let (metadata, extensions, request) = request.into_parts();
        let peer = extensions.get::<ConnectInfo<Peer>>().map(|info| info.0).unwrap_or_default();
        let permitted = self.admin.permit(&metadata.into_headers(), peer);
        let result = match permitted {
            Ok(()) => reload(&self.manager, &self.admin, request).await,
            Err(error) => Err(error),
        };
        if let Err(error) = &result {
            tracing::warn!(code = error.code().name(), "a configuration over the wire was refused: {error}");
        }
        self.observer.called(&Call {
            entrypoint: Entrypoint::Grpc,
            method: "HandleReloadConfigRequest",
            model: "",
            version: None,
            signature: "",
            error: result.as_ref().err(),
            latency: start.elapsed(),
        });
        result.map(Response::new).map_err(|error| status(&error))
    }
}
