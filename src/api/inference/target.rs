//! One request to one model.

use std::sync::Arc;
use std::time::Instant;

use super::answered::{Answered, Recorder};
use super::wanted::Wanted;
use crate::api::budget::Ledger;
use crate::api::observer::Answering;
use crate::api::trail::note;
use crate::batch::Priority;
use crate::error::{Error, Result};
use crate::model::{Asked, DEFAULT_SIGNATURE, Face, Manager, Method, Servable, ServableId, select_outputs};
use crate::tensor::Tensor;

/// Bytes held for each byte of an output while it is a tensor, a message and a frame.
const OUTPUT_COPIES: u64 = 3;

/// What a request comes with besides its inputs.
#[derive(Clone, Debug)]
pub(in crate::api) struct Terms {
    /// When its caller stops waiting.
    pub(in crate::api) deadline: Option<Instant>,
    /// How urgent it is.
    pub(in crate::api) priority: Priority,
    /// What it holds of the memory for requests.
    pub(in crate::api) ledger: Arc<Ledger>,
    /// Whether Classify and Regress insist on signatures of their own method.
    pub(in crate::api) check_method: bool,
    /// Where requests are written down, if they are.
    pub(in crate::api) log: Option<Arc<dyn Recorder>>,
}

/// The loaded version that answers a request; it stays loaded while this is held.
#[derive(Clone)]
pub(in crate::api) struct Target {
    pub(super) servable: Arc<Servable>,
    /// The signature's name, which the version need not have.
    pub(in crate::api) signature: String,
}

impl Target {
    /// A signature of `servable`.
    pub(in crate::api) fn of(servable: Arc<Servable>, signature: String) -> Self {
        Self { servable, signature }
    }

    /// Finds it; one that had made room for others is loaded again first.
    ///
    /// # Errors
    /// `NOT_FOUND` when no such version is loaded, `INVALID_ARGUMENT` for an unknown label, or what kept it from being loaded
    /// again until `deadline`.
    pub(in crate::api) async fn find(manager: &Manager, wanted: &Wanted, deadline: Option<Instant>) -> Result<Self> {
        let servable = manager.servable_by(&wanted.name, &wanted.version, deadline).await?;
        Ok(Self { servable, signature: wanted.signature.clone() })
    }

    /// It, if it is loaded now.
    pub(in crate::api) fn present(manager: &Manager, wanted: &Wanted) -> Option<Self> {
        let servable = manager.servable(&wanted.name, &wanted.version).ok()?;
        Some(Self { servable, signature: wanted.signature.clone() })
    }

    /// The model and its version.
    pub(in crate::api) fn id(&self) -> &ServableId {
        self.servable.id()
    }

    /// How calls to it are counted.
    pub(in crate::api) fn answering(&self) -> Answering {
        // Names that no version has would fill memory.
        let name = if self.signature.is_empty() { DEFAULT_SIGNATURE } else { &self.signature };
        let signature = if self.face().is_some() { name.to_owned() } else { String::new() };
        Answering { id: self.id().clone(), signature }
    }

    /// Whether a request that comes now would be answered in time, as far as can be told without it.
    ///
    /// # Errors
    /// `RESOURCE_EXHAUSTED` when it would not.
    pub(in crate::api) fn foresee(&self, deadline: Option<Instant>) -> Result<()> {
        self.servable.foresee(deadline)
    }

    /// The face that the signature names, if there is one.
    pub(in crate::api) fn face(&self) -> Option<&Arc<Face>> {
        self.servable.face(&self.signature)
    }

    /// The face that Classify (or Regress) is to use.
    ///
    /// # Errors
    /// `INVALID_ARGUMENT` or `FAILED_PRECONDITION` when there is none of the name, or it cannot be called so.
    pub(in crate::api) fn example_face(&self, method: Method, terms: &Terms) -> Result<Arc<Face>> {
        let face = self.face().ok_or_else(|| {
            Error::invalid_argument(format!("No signature was found with the name: {}", self.signature))
        })?;
        super::examples::check(face, method, terms.check_method)?;
        Ok(Arc::clone(face))
    }

    /// Tensors in, tensors out. `filter` names the outputs wanted; all of the signature's when empty.
    ///
    /// # Errors
    /// Those of TensorFlow Serving, with its codes and texts.
    pub(in crate::api) async fn predict(
        &self,
        inputs: Vec<(String, Tensor)>,
        filter: &[String],
        terms: &Terms,
    ) -> Result<Vec<(String, Tensor)>> {
        let face = self.face().ok_or_else(|| {
            Error::failed_precondition(format!("Serving signature key \"{}\" not found.", self.signature))
        })?;
        let chosen = select_outputs(&face.signature, filter)?;
        let drawn = self.draw(terms).map(|drawn| (drawn, inputs.clone()));
        let inputs = if face.takes_examples() {
            super::examples::read_examples(face, super::examples::sent(face, inputs)?.strings(), &terms.ledger)?
        } else {
            face.bind(inputs, |bytes| terms.ledger.take(bytes))?
        };
        let outputs = self.run(inputs, terms).await?;
        let named = chosen.into_iter().map(|at| {
            let tensor = face.output(at, &outputs)?;
            terms.ledger.take(size(&tensor).saturating_mul(OUTPUT_COPIES))?;
            Ok((face.signature.outputs[at].name.clone(), tensor))
        });
        let named: Vec<_> = named.collect::<Result<_>>()?;
        if let Some((drawn, inputs)) = drawn {
            let (signature, filter, outputs) = (self.signature.clone(), filter.to_vec(), named.clone());
            drawn.answered(self, Answered::Predict { signature, inputs, filter, outputs });
        }
        Ok(named)
    }

    /// Runs the model: its inputs and outputs, in its order.
    ///
    /// # Errors
    /// What the model gives; `DEADLINE_EXCEEDED` once nobody waits any more.
    pub(super) async fn run(&self, inputs: Vec<Tensor>, terms: &Terms) -> Result<Vec<Tensor>> {
        // A merged and padded copy may be twice as long.
        let bytes: u64 = inputs.iter().map(size).sum();
        terms.ledger.take(bytes.saturating_mul(2))?;
        let guard = Box::new(Arc::clone(&terms.ledger));
        let asked = Asked { deadline: terms.deadline, priority: terms.priority, guard };
        let running = self.servable.predict(inputs, asked);
        let answer = match terms.deadline {
            None => running.await?,
            Some(deadline) => tokio::time::timeout_at(deadline.into(), running)
                .await
                .map_err(|_| Error::deadline_exceeded("Timed out waiting for notification"))??,
        };
        note(&self.signature, answer.timing);
        Ok(answer.outputs)
    }
}

/// Bytes that a tensor holds.
pub(super) fn size(tensor: &Tensor) -> u64 {
    let strings: usize = tensor.strings().iter().map(|s| s.len() + 32).sum();
    (tensor.bytes().len() + strings) as u64
}
