//! Predict: tensors in, tensors out.

use super::decode::decode;
use super::encode::{Form, encode};
use super::proto::serving::{PredictRequest, PredictResponse};
use super::proto::tensorflow::TensorProto;
use super::spec::{answered, find};
use crate::api::inference::{Target, Terms};
use crate::api::observer::Answering;
use crate::error::Result;
use crate::model::Manager;
use crate::tensor::Tensor;

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
    let target = find(manager, request.model_spec, terms.deadline, asked).await?;
    let outputs = predict_by(&target, request.inputs, &request.output_filter, terms).await?;
    let mut response =
        PredictResponse { model_spec: Some(answered(target.id(), &target.signature)), ..PredictResponse::default() };
    for (name, tensor) in outputs {
        response.outputs.insert(name, encode(&tensor, form)?);
    }
    Ok(response)
}

/// What the target makes of the inputs.
///
/// # Errors
/// As those of [`predict`].
pub(super) async fn predict_by(
    target: &Target,
    inputs: impl IntoIterator<Item = (String, TensorProto)>,
    filter: &[String],
    terms: &Terms,
) -> Result<Vec<(String, Tensor)>> {
    let decoded = inputs.into_iter().map(|(alias, proto)| {
        let tensor = decode(&alias, proto, &terms.ledger)?;
        Ok((alias, tensor))
    });
    target.predict(decoded.collect::<Result<_>>()?, filter, terms).await
}
