//! Every gRPC service behind one router.

use std::sync::Arc;

use tonic::codec::CompressionEncoding::Gzip;
use tonic::service::Routes;

use super::admin::Admin;
use super::budget::Budget;
use super::frames::Frames;
use super::in_flight::InFlight;
use super::observer::Observer;
use super::tfs::serving::model_service_server::ModelServiceServer;
use super::tfs::serving::prediction_service_server::PredictionServiceServer;
use super::tfs::{Models, Predictions};
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
    /// Who may change what is served.
    pub admin: Admin,
}

/// The router, with reflection; `health` is added as it is.
///
/// # Errors
/// `INTERNAL` when the embedded descriptors are damaged.
pub fn router<H>(services: Services, health: H) -> Result<axum::Router>
where
    H: tower::Service<
            http::Request<tonic::body::Body>,
            Response = http::Response<tonic::body::Body>,
            Error = std::convert::Infallible,
        > + tonic::server::NamedService
        + Clone
        + Send
        + Sync
        + 'static,
    H::Future: Send + 'static,
{
    let Services { manager, budget, in_flight, options, observer, admin } = services;
    let (foreseer, refusals) = (Some(Arc::clone(&manager)), Arc::clone(&observer));
    // Clients ask for either version of the reflection protocol.
    let reflection = reflection_builder().build_v1().map_err(|e| damaged(&e))?;
    let reflection_alpha = reflection_builder().build_v1alpha().map_err(|e| damaged(&e))?;
    let models = Models { manager: Arc::clone(&manager), observer: Arc::clone(&observer), admin };
    let predictions = Predictions {
        manager,
        budget: Arc::clone(&budget),
        observer,
        tensor_content: options.tensor_content,
        check_method: options.check_method,
    };
    // The layer in front has bounded and inflated the message already.
    let predictions = PredictionServiceServer::new(predictions)
        .max_decoding_message_size(usize::MAX)
        .max_encoding_message_size(usize::MAX)
        .accept_compressed(Gzip)
        .send_compressed(Gzip);
    let models = ModelServiceServer::new(models).accept_compressed(Gzip).send_compressed(Gzip);
    let frames = Frames {
        budget,
        max_message_bytes: options.max_message_bytes,
        in_flight,
        manager: foreseer,
        observer: refusals,
    };
    let routes = Routes::new(predictions)
        .add_service(models)
        .add_service(reflection)
        .add_service(reflection_alpha)
        .add_service(health);
    Ok(routes.prepare().into_axum_router().layer(frames))
}

fn reflection_builder() -> tonic_reflection::server::Builder<'static> {
    tonic_reflection::server::Builder::configure()
        .register_encoded_file_descriptor_set(DESCRIPTORS)
        .register_encoded_file_descriptor_set(tonic_health::pb::FILE_DESCRIPTOR_SET)
}

fn damaged(error: &dyn std::fmt::Display) -> Error {
    Error::internal(format!("the embedded descriptors are damaged: {error}"))
}
