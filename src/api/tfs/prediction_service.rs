//! `tensorflow.serving.PredictionService`.

use std::sync::Arc;
use std::time::Instant;

use tonic::{Request, Response, Status};

use super::encode::Form;
use super::metadata::metadata;
use super::predict::Predict;
use super::proto::serving::prediction_service_server::PredictionService;
use super::proto::serving::{
    ClassificationRequest, ClassificationResponse, GetModelMetadataRequest, GetModelMetadataResponse,
    MultiInferenceRequest, MultiInferenceResponse, PredictRequest, PredictResponse, RegressionRequest,
    RegressionResponse,
};
use crate::api::budget::{Budget, Ledger};
use crate::api::deadline::deadline;
use crate::api::observer::{Call, Entrypoint, Observer};
use crate::api::status::status;
use crate::error::{Error, Result};
use crate::model::{Manager, ServableId};

/// Our request metadata key: `1` asks for `tensor_content` in the reply.
const CONTENT_KEY: &str = "x-coracle-tensor-content";

/// The service over a manager's models.
pub(in crate::api) struct Predictions {
    pub(in crate::api) manager: Arc<Manager>,
    pub(in crate::api) budget: Arc<Budget>,
    pub(in crate::api) observer: Arc<dyn Observer>,
    /// Replies hold `tensor_content` unless a request asks otherwise.
    pub(in crate::api) tensor_content: bool,
}

impl Predictions {
    fn observe<T>(&self, method: &'static str, start: Instant, asked: Option<&ServableId>, result: &Result<T>) {
        self.observer.called(&Call {
            entrypoint: Entrypoint::Grpc,
            method,
            model: asked.map_or("", |id| &id.name),
            version: asked.map(|id| id.version),
            code: result.as_ref().err().map(Error::code),
            latency: start.elapsed(),
        });
    }
}

fn unsupported(method: &str) -> Status {
    status(&Error::unimplemented(format!("{method} is not supported yet: use Predict")))
}

#[tonic::async_trait]
impl PredictionService for Predictions {
    async fn predict(&self, request: Request<PredictRequest>) -> Result<Response<PredictResponse>, Status> {
        let start = Instant::now();
        let (metadata, mut extensions, request) = request.into_parts();
        // The layer in front puts it there; calls that come another way open their own.
        let ledger = extensions.remove::<Arc<Ledger>>().unwrap_or_else(|| Ledger::open(&self.budget));
        let form = match metadata.get(CONTENT_KEY).map(|v| v.as_bytes()) {
            Some(b"1") => Form::Content,
            Some(b"0") => Form::Typed,
            _ if self.tensor_content => Form::Content,
            _ => Form::Typed,
        };
        let deadline = deadline(&metadata.into_headers(), start);
        let mut asked = None;
        let predict = Predict { request, deadline, form, ledger };
        let result = predict.answer(&self.manager, &mut asked).await;
        self.observe("Predict", start, asked.as_ref(), &result);
        result.map(Response::new).map_err(|error| status(&error))
    }

    async fn get_model_metadata(
        &self,
        request: Request<GetModelMetadataRequest>,
    ) -> Result<Response<GetModelMetadataResponse>, Status> {
        let start = Instant::now();
        let mut asked = None;
        let result = metadata(&self.manager, request.into_inner(), &mut asked);
        self.observe("GetModelMetadata", start, asked.as_ref(), &result);
        result.map(Response::new).map_err(|error| status(&error))
    }

    async fn classify(
        &self,
        _request: Request<ClassificationRequest>,
    ) -> Result<Response<ClassificationResponse>, Status> {
        Err(unsupported("Classify"))
    }

    async fn regress(&self, _request: Request<RegressionRequest>) -> Result<Response<RegressionResponse>, Status> {
        Err(unsupported("Regress"))
    }

    async fn multi_inference(
        &self,
        _request: Request<MultiInferenceRequest>,
    ) -> Result<Response<MultiInferenceResponse>, Status> {
        Err(unsupported("MultiInference"))
    }
}
