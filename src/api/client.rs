//! A client of the Predict API, for the commands that call servers.

use std::time::Duration;

use tonic::transport::{Channel, Endpoint};

use super::budget::{Budget, Ledger};
use super::status::code;
use super::tfs::serving::prediction_service_client::PredictionServiceClient;
use super::tfs::serving::{GetModelMetadataRequest, ModelSpec, PredictRequest};
use super::tfs::{Form, decode, encode, specs};
use crate::error::{Error, Result};
use crate::tensor::{Signature, Tensor};

/// What a server answered.
#[derive(Clone, Debug)]
pub struct ClientReply {
    /// The version that answered, if the server says so.
    pub version: Option<i64>,
    /// Outputs by name, sorted.
    pub outputs: Vec<(String, Tensor)>,
}

/// A connection to one server. Clones share it.
#[derive(Clone, Debug)]
pub struct Client {
    service: PredictionServiceClient<Channel>,
    timeout: Option<Duration>,
}

fn failed(status: &tonic::Status) -> Error {
    Error::new(code(status), status.message())
}

impl Client {
    /// Connects to `HOST:PORT`.
    ///
    /// # Errors
    /// `INVALID_ARGUMENT` for an address that is none, `UNAVAILABLE` when nobody answers there.
    pub async fn connect(address: &str, timeout: Option<Duration>) -> Result<Self> {
        let endpoint = Endpoint::from_shared(format!("http://{address}"))
            .map_err(|e| Error::invalid_argument(format!("{address:?} is not HOST:PORT: {e}")))?
            .tcp_nodelay(true)
            .connect_timeout(timeout.unwrap_or(Duration::from_secs(20)));
        let channel = endpoint
            .connect()
            .await
            .map_err(|e| Error::unavailable(format!("no server answers at {address}: {e}")).with_source(e))?;
        let service = PredictionServiceClient::new(channel)
            .max_decoding_message_size(usize::MAX)
            .max_encoding_message_size(usize::MAX);
        Ok(Self { service, timeout })
    }

    fn request<T>(&self, message: T) -> tonic::Request<T> {
        let mut request = tonic::Request::new(message);
        if let Some(timeout) = self.timeout {
            request.set_timeout(timeout);
        }
        request
    }

    /// Inputs and outputs of a model's signature, sorted by name.
    ///
    /// # Errors
    /// The server's.
    pub async fn signature(&self, model: &str, signature: &str) -> Result<Signature> {
        let request = GetModelMetadataRequest {
            model_spec: Some(ModelSpec { name: model.to_owned(), ..ModelSpec::default() }),
            metadata_field: vec!["signature_def".to_owned()],
        };
        let response = self.service.clone().get_model_metadata(self.request(request)).await;
        specs(response.map_err(|s| failed(&s))?.get_ref(), signature)
    }

    /// Runs a model. `filter` names the outputs wanted; all when empty.
    ///
    /// # Errors
    /// The server's.
    pub async fn predict(
        &self,
        model: &str,
        signature: &str,
        inputs: &[(String, Tensor)],
        filter: &[String],
    ) -> Result<ClientReply> {
        let mut request = PredictRequest {
            model_spec: Some(ModelSpec {
                name: model.to_owned(),
                signature_name: signature.to_owned(),
                ..ModelSpec::default()
            }),
            output_filter: filter.to_vec(),
            ..PredictRequest::default()
        };
        for (name, tensor) in inputs {
            request.inputs.insert(name.clone(), encode(tensor, Form::Content)?);
        }
        let response = self.service.clone().predict(self.request(request)).await;
        let response = response.map_err(|s| failed(&s))?.into_inner();
        let ledger = Ledger::open(&Budget::new(u64::MAX));
        let outputs = response.outputs.into_iter().map(|(name, proto)| {
            let tensor = decode(&name, proto, &ledger)?;
            Ok((name, tensor))
        });
        let mut outputs = outputs.collect::<Result<Vec<_>>>()?;
        outputs.sort_by(|a, b| a.0.cmp(&b.0));
        let version = response.model_spec.and_then(|spec| match spec.version_choice {
            Some(super::tfs::serving::model_spec::VersionChoice::Version(version)) => Some(version),
            _ => None,
        });
        Ok(ClientReply { version, outputs })
    }
}
