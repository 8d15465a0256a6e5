//! Predict: tensors in, tensors out.

use std::sync::Arc;
use std::time::Instant;

use super::decode::decode;
use super::encode::{Form, encode};
use super::proto::serving::{PredictRequest, PredictResponse};
use super::spec::{Wanted, answered};
use crate::api::budget::Ledger;
use crate::error::{Error, Result};
use crate::model::{Manager, ServableId, select_outputs};
use crate::tensor::Tensor;

/// Bytes held for each byte of an output while it is a tensor, a message and a frame.
const OUTPUT_COPIES: u64 = 3;

/// One Predict request and what it came with.
pub(super) struct Predict {
    pub(super) request: PredictRequest,
    pub(super) deadline: Option<Instant>,
    pub(super) form: Form,
    pub(super) ledger: Arc<Ledger>,
}

impl Predict {
    /// Answers it; `asked` is told which servable was found.
    ///
    /// # Errors
    /// Those of TensorFlow Serving, with its codes and texts.
    pub(super) async fn answer(self, manager: &Manager, asked: &mut Option<ServableId>) -> Result<PredictResponse> {
        let Self { request, deadline, form, ledger } = self;
        let wanted = Wanted::new(request.model_spec)?;
        let servable = manager.servable(&wanted.name, &wanted.version)?;
        *asked = Some(servable.id().clone());
        let signature = servable.signature(&wanted.signature).ok_or_else(|| {
            Error::failed_precondition(format!("Serving signature key \"{}\" not found.", wanted.signature))
        })?;
        let outputs = select_outputs(signature, &request.output_filter)?;
        let mut inputs = Vec::with_capacity(request.inputs.len());
        for (alias, proto) in request.inputs {
            let tensor = decode(&alias, proto, &ledger)?;
            inputs.push((alias, tensor));
        }
        // A merged and padded copy may be twice as long.
        let bytes: u64 = inputs.iter().map(|(_, tensor)| size(tensor)).sum();
        ledger.take(bytes.saturating_mul(2))?;
        let running = servable.predict(inputs, deadline, Box::new(Arc::clone(&ledger)));
        let answer = match deadline {
            None => running.await?,
            Some(deadline) => tokio::time::timeout_at(deadline.into(), running)
                .await
                .map_err(|_| Error::deadline_exceeded("Timed out waiting for notification"))??,
        };
        let mut response =
            PredictResponse { model_spec: Some(answered(servable.id(), &wanted.signature)), ..Default::default() };
        for index in outputs {
            let tensor = &answer.outputs[index];
            ledger.take(size(tensor).saturating_mul(OUTPUT_COPIES))?;
            response.outputs.insert(signature.outputs[index].name.clone(), encode(tensor, form)?);
        }
        Ok(response)
    }
}

fn size(tensor: &Tensor) -> u64 {
    let strings: usize = tensor.strings().iter().map(|s| s.len() + 32).sum();
    (tensor.bytes().len() + strings) as u64
}
