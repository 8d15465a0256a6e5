//! MultiInference: the same examples under several signatures of one model.

use std::collections::BTreeSet;
use std::sync::Arc;

use super::answered::Answered;
use super::examples::{Classified, classified, parse, regressed};
use super::target::{Target, Terms};
use super::wanted::Wanted;
use crate::error::{Error, Result};
use crate::model::{Example, Face, Method};
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

/// Answers all tasks, in order, with the target of each, which differ from `first` in the signature. The model runs once for
/// tasks that make the same of the examples.
///
/// # Errors
/// Those of TensorFlow Serving's MultiInference; then no task is answered.
pub(in crate::api) async fn infer_several(
    first: &Target,
    tasks: &[Task],
    examples: &[Example],
    terms: &Terms,
) -> Result<Vec<(Target, Inferred)>> {
    let mut names = BTreeSet::new();
    let mut asked: Vec<(Target, Arc<Face>, Method)> = Vec::with_capacity(tasks.len());
    for task in tasks {
        let name = &task.wanted.signature;
        if task.wanted.name != tasks[0].wanted.name {
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
        answers.push((target, method, inferred));
    }
    if let Some(drawn) = first.draw(terms) {
        let task = |(target, method, inferred): &(Target, Method, Inferred)| {
            (target.signature.clone(), *method, inferred.clone())
        };
        let tasks = answers.iter().map(task).collect();
        drawn.answered(first, Answered::Several { examples: examples.to_vec(), tasks });
    }
    Ok(answers.into_iter().map(|(target, _, inferred)| (target, inferred)).collect())
}
