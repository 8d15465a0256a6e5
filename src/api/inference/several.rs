//! MultiInference: the same examples under several signatures of one model.

use std::collections::BTreeSet;
use std::sync::Arc;

use super::examples::{Classified, classified, parse, regressed};
use super::target::{Target, Terms};
use super::wanted::Wanted;
use crate::error::{Error, Result};
use crate::model::{Example, Face, Manager, Method};
use crate::tensor::Tensor;

/// One of the questions.
#[derive(Clone, Debug)]
pub(in crate::api) struct Task {
    /// The model, and the signature.
    pub(in crate::api) wanted: Wanted,
    /// As the caller spells it: `tensorflow/serving/classify` or `tensorflow/serving/regress`.
    pub(in crate::api) method: String,
}

/// The answer to one.
#[derive(Clone, Debug)]
pub(in crate::api) enum Inferred {
    /// To Classify.
    Classes(Classified),
    /// To Regress.
    Values(Vec<f32>),
}

/// Answers all tasks, in order, with the target of each. The model runs once for tasks that make the same of the examples.
/// `found` is told which servable answers.
///
/// # Errors
/// Those of TensorFlow Serving's MultiInference; then no task is answered.
pub(in crate::api) async fn infer_several(
    manager: &Manager,
    tasks: &[Task],
    examples: &[Example],
    terms: &Terms,
    mut found: impl FnMut(&Target),
) -> Result<Vec<(Target, Inferred)>> {
    let first = tasks.first().ok_or_else(|| Error::invalid_argument("Missing ModelSpec"))?;
    let first = Target::find(manager, &first.wanted)?;
    found(&first);
    let mut names = BTreeSet::new();
    let mut asked: Vec<(Target, Arc<Face>, Method)> = Vec::with_capacity(tasks.len());
    for task in tasks {
        let name = &task.wanted.signature;
        if task.wanted.name != *first.id().name {
            let what = "All ModelSpecs in a MultiInferenceRequest must access the same model name.";
            return Err(Error::invalid_argument(what));
        }
        if !names.insert(name) {
            return Err(Error::invalid_argument(format!("Duplicate evaluation of signature: {name}")));
        }
        let target = Target { signature: name.clone(), ..first.clone() };
        let face = target
            .face()
            .map(Arc::clone)
            .ok_or_else(|| Error::invalid_argument(format!("Requested signature not found in model graph: {name}")))?;
        let known = [Method::Classify, Method::Regress].into_iter().find(|method| method.name() == task.method);
        let method =
            known.ok_or_else(|| Error::unimplemented(format!("Unsupported signature method_name: {}", task.method)))?;
        super::examples::check(&face, method, terms.check_method)?;
        asked.push((target, face, method));
    }
    let mut runs: Vec<(Arc<Face>, Vec<Tensor>)> = Vec::new();
    let mut answers = Vec::with_capacity(asked.len());
    for (target, face, method) in asked {
        let known = runs.iter().position(|(other, _)| other.takes_the_same(&face));
        let at = match known {
            Some(at) => at,
            None => {
                let outputs = target.run(parse(&face, examples, &terms.ledger)?, terms).await?;
                runs.push((Arc::clone(&face), outputs));
                runs.len() - 1
            }
        };
        let outputs = &runs[at].1;
        let inferred = match method {
            Method::Regress => Inferred::Values(regressed(&face, outputs, examples.len())?),
            _ => Inferred::Classes(classified(&face, outputs, examples.len(), &terms.ledger)?),
        };
        answers.push((target, inferred));
    }
    Ok(answers)
}
