//! `tensorflow.serving.PredictionService`.

use std::sync::Arc;
use std::time::Instant;

use tonic::{Request, Response, Status};

use super::encode::Form;
use super::infer;
use super::metadata::metadata;
use super::predict::predict;
use super::proto::serving::prediction_service_server::PredictionService;
use super::proto::serving::{
    ClassificationRequest, ClassificationResponse, GetModelMetadataRequest, GetModelMetadataResponse,
    MultiInferenceRequest, MultiInferenceResponse, PredictRequest, PredictResponse, RegressionRequest,
    RegressionResponse,
};
use crate::api::budget::{Budget, Ledger};
use crate::api::deadline::deadline;
use crate::api::inference::{Recorder, Terms};
use crate::api::observer::{Answering, Call, Entrypoint, Observer};
use crate::api::status::status;
use crate::batch::Priority;
use crate::error::Result;
use crate::model::Manager;

/// Our request metadata key: `1` asks for `tensor_content` in the reply.
const CONTENT_KEY: &str = "x-coracle-tensor-content";

/// The service over a manager's models.
pub(in crate::api) struct Predictions {
    pub(in crate::api) manager: Arc<Manager>,
    pub(in crate::api) budget: Arc<Budget>,
    pub(in crate::api) observer: Arc<dyn Observer>,
    /// Replies hold `tensor_content` unless a request asks otherwise.
    pub(in crate::api) tensor_content: bool,
    /// Classify and Regress insist on signatures of their own method.
    pub(in crate::api) check_method: bool,
    /// Where requests are written down, if they are.
    pub(in crate::api) log: Option<Arc<dyn Recorder>>,
}

/// A call before its model is known.
struct Asking<T> {
    request: T,
    form: Form,
    terms: Terms,
    start: Instant,
}

impl Predictions {
    fn open<T>(&self, request: Request<T>) -> Asking<T> {
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
        let priority = extensions.remove::<Priority>().unwrap_or_default();
        let terms = Terms { deadline, priority, ledger, check_method: self.check_method, log: self.log.clone() };
        Asking { request, form, terms, start }
    }

    fn observe<T>(&self, method: &'static str, start: Instant, asked: Option<&Answering>, result: &Result<T>) {
        self.observer.called(&Call {
            entrypoint: Entrypoint::Grpc,
            method,
            model: asked.map_or("", |asked| &asked.id.name),
            version: asked.map(|asked| asked.id.version),
            signature: asked.map_or("", |asked| &asked.signature),
            error: result.as_ref().err(),
            latency: start.elapsed(),
        });
    }
}

#[tonic::async_trait]
impl PredictionService for Predictions {
    async fn predict(&self, request: Request<PredictRequest>) -> Result<Response<PredictResponse>, Status> {
        let Asking { request, form, terms, start } = self.open(request);
        let mut asked = None;
        let result = predict(&self.manager, request, form, &terms, &mut asked).await;
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
        request: Request<ClassificationRequest>,
    ) -> Result<Response<ClassificationResponse>, Status> {
        let Asking { request, terms, start, .. } = self.open(request);
        let mut asked = None;
        let result = infer::classify(&self.manager, request, &terms, &mut asked).await;
        self.observe("Classify", start, asked.as_ref(), &result);
        result.map(Response::new).map_err(|error| status(&error))
    }

    async fn regress(&self, request: Request<RegressionRequest>) -> Result<Response<RegressionResponse>, Status> {
        let Asking { request, terms, start, .. } = self.open(request);
        let mut asked = None;
        let result = infer::regress(&self.manager, request, &terms, &mut asked).await;
        self.observe("Regress", start, asked.as_ref(), &result);
        result.map(Response::new).map_err(|error| status(&error))
    }

    async fn multi_inference(
        &self,
        request: Request<MultiInferenceRequest>,
    ) -> Result<Response<MultiInferenceResponse>, Status> {
        let Asking { request, terms, start, .. } = self.open(request);
        let mut asked = None;
        let result = infer::multi_inference(&self.manager, request, &terms, &mut asked).await;
        self.observe("MultiInference", start, asked.as_ref(), &result);
        result.map(Response::new).map_err(|error| status(&error))
    }
}
