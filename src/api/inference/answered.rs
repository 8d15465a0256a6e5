//! A request with its answer, for whoever writes them down.

use std::fmt;
use std::sync::Arc;

use super::examples::Classified;
use super::several::Inferred;
use super::target::{Target, Terms};
use crate::model::{Example, Feature, Logging, Method, ServableId};
use crate::tensor::Tensor;

/// A request that was answered, and how.
#[derive(Clone, Debug)]
pub(in crate::api) enum Answered {
    /// Tensors under the callers' names.
    Predict { signature: String, inputs: Vec<(String, Tensor)>, filter: Vec<String>, outputs: Vec<(String, Tensor)> },
    /// Examples and what they are.
    Classify { signature: String, examples: Vec<Example>, classes: Classified },
    /// Examples and a number for each.
    Regress { signature: String, examples: Vec<Example>, values: Vec<f32> },
    /// Examples under several signatures.
    Several { examples: Vec<Example>, tasks: Vec<(String, Method, Inferred)> },
}

impl Answered {
    /// Bytes that it holds, nearly.
    pub(in crate::api) fn bytes(&self) -> u64 {
        let tensors =
            |list: &[(String, Tensor)]| list.iter().map(|(_, tensor)| super::target::size(tensor)).sum::<u64>();
        match self {
            Answered::Predict { inputs, outputs, .. } => tensors(inputs) + tensors(outputs),
            Answered::Classify { examples, classes, .. } => held(examples) + classed(classes),
            Answered::Regress { examples, values, .. } => held(examples) + 4 * values.len() as u64,
            Answered::Several { examples, tasks } => {
                let inferred = |inferred: &Inferred| match inferred {
                    Inferred::Classes(classes) => classed(classes),
                    Inferred::Values(values) => 4 * values.len() as u64,
                };
                held(examples) + tasks.iter().map(|(_, _, answer)| inferred(answer)).sum::<u64>()
            }
        }
    }
}

fn classed(classes: &Classified) -> u64 {
    classes.iter().flatten().map(|class| 40 + class.label.len() as u64).sum()
}

fn held(examples: &[Example]) -> u64 {
    let bytes = |feature: &Feature| match feature {
        Feature::Bytes(values) => values.iter().map(|value| 32 + value.len()).sum(),
        Feature::Floats(values) => 4 * values.len(),
        Feature::Ints(values) => 8 * values.len(),
    };
    examples.iter().flatten().map(|(name, feature)| (128 + name.len() + bytes(feature)) as u64).sum()
}

/// Writes requests down; must be quick and never block.
pub(in crate::api) trait Recorder: fmt::Debug + Send + Sync {
    /// Whether the next request is among those written down.
    fn draws(&self, logging: &Logging) -> bool;
    /// Takes a request that was answered.
    fn offer(&self, id: &ServableId, logging: Arc<Logging>, answered: Answered);
}

/// Where a request goes that was drawn.
pub(super) struct Drawn {
    log: Arc<dyn Recorder>,
    logging: Arc<Logging>,
}

impl Drawn {
    /// Writes it down.
    pub(super) fn answered(self, target: &Target, answered: Answered) {
        self.log.offer(target.id(), self.logging, answered);
    }
}

impl Target {
    /// Whether this request is to be written down, and where.
    pub(super) fn draw(&self, terms: &Terms) -> Option<Drawn> {
        let log = terms.log.as_ref()?;
        let logging = self.servable.logging()?;
        log.draws(&logging).then(|| Drawn { log: Arc::clone(log), logging })
    }
}
