//! Every gRPC service behind one router.

use std::sync::Arc;
use std::time::Duration;

use tonic::codec::CompressionEncoding::Gzip;
use tonic::server::NamedService;
use tonic::service::Routes;
use tower::Layer as _;

use super::admin::Admin;
use super::budget::Budget;
use super::frames::Frames;
use super::health::{self, Health};
use super::in_flight::InFlight;
use super::observer::Observer;
use super::tfs::serving::model_service_server::ModelServiceServer;
use super::tfs::serving::prediction_service_server::PredictionServiceServer;
use super::tfs::{Models, Predictions, RequestLog};
use crate::error::{Error, Result};
use crate::model::Manager;

/// Every message and service of proto/, for reflection and text formats.
pub const DESCRIPTORS: &[u8] = include_bytes!(concat!(env!("OUT_DIR"), "/descriptors.bin"));

/// The names that health checks may ask for, short as TensorFlow Serving has them and full.
pub const SERVICES: [&str; 4] =
    ["PredictionService", "ModelService", "tensorflow.serving.PredictionService", "tensorflow.serving.ModelService"];

/// How the services behave.
#[derive(Clone, Copy, Debug)]
pub struct Options {
    /// Replies hold `tensor_content` instead of the typed fields.
    pub tensor_content: bool,
    /// Classify and Regress insist on signatures of their own method.
    pub check_method: bool,
    /// Bytes of one request message, inflated.
    pub max_message_bytes: usize,
    /// How long a message may take to come; each quarter of a mebibyte that has come buys as much again.
    pub receive_timeout: Duration,
}

/// What the services work on.
pub struct Services {
    /// The models.
    pub manager: Arc<Manager>,
    /// Memory for requests.
    pub budget: Arc<Budget>,
    /// Requests being answered.
    pub in_flight: Arc<InFlight>,
    /// How they behave.
    pub options: Options,
    /// Receives statistics of calls.
    pub observer: Arc<dyn Observer>,
    /// Who may change what is served, and who may call at all.
    pub admin: Admin,
    /// Tells how the server and its models are.
    pub health: Health,
    /// Where requests are written down, if they are.
    pub log: Option<Arc<RequestLog>>,
}

/// The router, with health and reflection.
///
/// # Errors
/// `INTERNAL` when the embedded descriptors are damaged.
pub fn router(services: Services) -> Result<axum::Router> {
    let Services { manager, budget, in_flight, options, observer, admin, health, log } = services;
    let foreseer = Some(Arc::clone(&manager));
    // Clients ask for either version of the reflection protocol.
    let reflection = reflection_builder().build_v1().map_err(|e| damaged(&e))?;
    let reflection_alpha = reflection_builder().build_v1alpha().map_err(|e| damaged(&e))?;
    let (access, counted) = (Arc::clone(&admin.access), Arc::clone(&observer));
    let models = Models { manager: Arc::clone(&manager), observer: Arc::clone(&observer), admin };
    let predictions = Predictions {
        manager,
        budget: Arc::clone(&budget),
        observer,
        tensor_content: options.tensor_content,
        check_method: options.check_method,
        log: log.map(|log| log as _),
    };
    // The layer in front has bounded and inflated the message already.
    let predictions = PredictionServiceServer::new(predictions)
        .max_decoding_message_size(usize::MAX)
        .max_encoding_message_size(usize::MAX)
        .accept_compressed(Gzip)
        .send_compressed(Gzip);
    let models = ModelServiceServer::new(models).accept_compressed(Gzip).send_compressed(Gzip);
    let Options { max_message_bytes, receive_timeout, .. } = options;
    let frames =
        Frames { budget, max_message_bytes, receive_timeout, in_flight, access, manager: foreseer, observer: counted };
    let routes = Routes::new(reflection).add_service(reflection_alpha).add_service(health::service(health));
    // What the others' methods take is small.
    Ok(routes
        .prepare()
        .into_axum_router()
        .route_service(&methods(&predictions), frames.layer(predictions))
        .route_service(&methods(&models), frames.layer(models)))
}

/// The paths of a service's methods.
fn methods<S: NamedService>(_: &S) -> String {
    format!("/{}/{{*method}}", S::NAME)
}

fn reflection_builder() -> tonic_reflection::server::Builder<'static> {
    tonic_reflection::server::Builder::configure()
        .register_encoded_file_descriptor_set(DESCRIPTORS)
        .register_encoded_file_descriptor_set(tonic_health::pb::FILE_DESCRIPTOR_SET)
}

fn damaged(error: &dyn std::fmt::Display) -> Error {
    Error::internal(format!("the embedded descriptors are damaged: {error}"))
}
