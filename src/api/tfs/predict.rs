//! Predict: tensors in, tensors out.

use super::decode::decode;
use super::encode::{Form, encode};
use super::proto::serving::{PredictRequest, PredictResponse};
use super::spec::{answered, find};
use crate::api::inference::Terms;
use crate::api::observer::Answering;
use crate::error::Result;
use crate::model::Manager;

/// Answers a request; `asked` is told which servable was found.
///
/// # Errors
/// Those of TensorFlow Serving, with its codes and texts.
pub(super) async fn predict(
    manager: &Manager,
    request: PredictRequest,
    form: Form,
    terms: &Terms,
    asked: &mut Option<Answering>,
) -> Result<PredictResponse> {
    let target = find(manager, request.model_spec, asked)?;
    let mut inputs = Vec::with_capacity(request.inputs.len());
    for (alias, proto) in request.inputs {
        let tensor = decode(&alias, proto, &terms.ledger)?;
        inputs.push((alias, tensor));
    }
    let outputs = target.predict(inputs, &request.output_filter, terms).await?;
    let mut response =
        PredictResponse { model_spec: Some(answered(target.id(), &target.signature)), ..PredictResponse::default() };
    for (name, tensor) in outputs {
        response.outputs.insert(name, encode(&tensor, form)?);
    }
    Ok(response)
}
