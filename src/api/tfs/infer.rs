//! Classify, Regress and MultiInference: examples in, labels and numbers out.

use super::proto::serving::inference_result::Result as WireResult;
use super::proto::serving::input::Kind;
use super::proto::serving::{
    Class, ClassificationRequest, ClassificationResponse, ClassificationResult, Classifications, InferenceResult,
    InferenceTask, Input, MultiInferenceRequest, MultiInferenceResponse, Regression, RegressionRequest,
    RegressionResponse, RegressionResult,
};
use super::spec::{answered, find, wanted};
use crate::api::budget::Ledger;
use crate::api::inference::{Classified, Inferred, Target, Task, Terms, infer_several, row, with_context};
use crate::api::observer::Answering;
use crate::error::{Error, Result};
use crate::model::{Example, Manager, Method};

/// Answers Classify; `asked` is told which servable was found.
///
/// # Errors
/// Those of TensorFlow Serving, with its codes and texts.
pub(super) async fn classify(
    manager: &Manager,
    request: ClassificationRequest,
    terms: &Terms,
    asked: &mut Option<Answering>,
) -> Result<ClassificationResponse> {
    let target = find(manager, request.model_spec, terms.deadline, asked).await?;
    let result = Some(classify_by(&target, request.input, terms).await?);
    Ok(ClassificationResponse { result, model_spec: Some(answered(target.id(), &target.signature)) })
}

/// What the target makes of the examples.
///
/// # Errors
/// As those of [`classify`].
pub(super) async fn classify_by(target: &Target, input: Option<Input>, terms: &Terms) -> Result<ClassificationResult> {
    // Its signature is looked at before its examples.
    let face = target.example_face(Method::Classify, terms)?;
    let classes = target.classify(&face, &examples(input, &terms.ledger)?, terms).await?;
    Ok(classifications(classes))
}

/// Answers Regress; `asked` is told which servable was found.
///
/// # Errors
/// Those of TensorFlow Serving, with its codes and texts.
pub(super) async fn regress(
    manager: &Manager,
    request: RegressionRequest,
    terms: &Terms,
    asked: &mut Option<Answering>,
) -> Result<RegressionResponse> {
    let target = find(manager, request.model_spec, terms.deadline, asked).await?;
    let result = Some(regress_by(&target, request.input, terms).await?);
    Ok(RegressionResponse { result, model_spec: Some(answered(target.id(), &target.signature)) })
}

/// What the target makes of the examples.
///
/// # Errors
/// As those of [`regress`].
pub(super) async fn regress_by(target: &Target, input: Option<Input>, terms: &Terms) -> Result<RegressionResult> {
    let face = target.example_face(Method::Regress, terms)?;
    let values = target.regress(&face, &examples(input, &terms.ledger)?, terms).await?;
    Ok(regressions(values))
}

/// Answers MultiInference; `asked` is told which servable was found.
///
/// # Errors
/// Those of TensorFlow Serving, with its codes and texts.
pub(super) async fn multi_inference(
    manager: &Manager,
    request: MultiInferenceRequest,
    terms: &Terms,
    asked: &mut Option<Answering>,
) -> Result<MultiInferenceResponse> {
    let tasks = tasks(request.tasks)?;
    let examples = examples(request.input, &terms.ledger)?;
    let first = tasks.first().ok_or_else(|| Error::invalid_argument("Missing ModelSpec"))?;
    let target = Target::find(manager, &first.wanted, terms.deadline).await?;
    *asked = Some(target.answering());
    several_by(&target, &tasks, &examples, terms).await
}

/// What a request asks for.
///
/// # Errors
/// `INVALID_ARGUMENT` when one names no model.
pub(super) fn tasks(tasks: Vec<InferenceTask>) -> Result<Vec<Task>> {
    let task = |task: InferenceTask| Ok(Task { wanted: wanted(task.model_spec)?, method: task.method_name });
    tasks.into_iter().map(task).collect()
}

/// What the target makes of the examples, task by task.
///
/// # Errors
/// As those of [`multi_inference`].
pub(super) async fn several_by(
    target: &Target,
    tasks: &[Task],
    examples: &[Example],
    terms: &Terms,
) -> Result<MultiInferenceResponse> {
    let answers = infer_several(target, tasks, examples, terms).await?;
    let results = answers.into_iter().map(|(target, inferred)| InferenceResult {
        model_spec: Some(answered(target.id(), &target.signature)),
        result: Some(inference(inferred)),
    });
    Ok(MultiInferenceResponse { results: results.collect() })
}

pub(super) fn inference(inferred: Inferred) -> WireResult {
    match inferred {
        Inferred::Classes(classes) => WireResult::ClassificationResult(classifications(classes)),
        Inferred::Values(values) => WireResult::RegressionResult(regressions(values)),
    }
}

/// The rows of an input.
pub(super) fn examples(input: Option<Input>, ledger: &Ledger) -> Result<Vec<Example>> {
    let empty = || Error::invalid_argument("Input is empty.");
    match input.and_then(|i| i.kind).ok_or_else(empty)? {
        Kind::ExampleList(list) if list.examples.is_empty() => Err(empty()),
        Kind::ExampleListWithContext(list) if list.examples.is_empty() => Err(empty()),
        Kind::ExampleList(list) => Ok(list.examples.into_iter().map(row).collect()),
        Kind::ExampleListWithContext(list) => {
            let context = list.context.map(row).unwrap_or_default();
            with_context(&context, list.examples.into_iter().map(row).collect(), ledger)
        }
    }
}

pub(super) fn classifications(classes: Classified) -> ClassificationResult {
    let classes = classes.into_iter().map(|row| Classifications {
        classes: row
            .into_iter()
            // The wire has text only.
            .map(|class| Class { label: String::from_utf8_lossy(&class.label).into_owned(), score: class.score })
            .collect(),
    });
    ClassificationResult { classifications: classes.collect() }
}

pub(super) fn regressions(values: Vec<f32>) -> RegressionResult {
    RegressionResult { regressions: values.into_iter().map(|value| Regression { value }).collect() }
}
