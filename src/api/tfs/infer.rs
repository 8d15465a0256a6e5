//! Classify, Regress and MultiInference: examples in, labels and numbers out.

use super::proto::serving::inference_result::Result as WireResult;
use super::proto::serving::input::Kind;
use super::proto::serving::{
    Class, ClassificationRequest, ClassificationResponse, ClassificationResult, Classifications, InferenceResult,
    Input, MultiInferenceRequest, MultiInferenceResponse, Regression, RegressionRequest, RegressionResponse,
    RegressionResult,
};
use super::spec::{answered, find, wanted};
use crate::api::budget::Ledger;
use crate::api::inference::{Classified, Inferred, Task, Terms, infer_several, row, with_context};
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
    let target = find(manager, request.model_spec, asked)?;
    // Its signature is looked at before its examples.
    let face = target.example_face(Method::Classify, terms)?;
    let classes = target.classify(&face, &examples(request.input, &terms.ledger)?, terms).await?;
    let model_spec = Some(answered(target.id(), &target.signature));
    Ok(ClassificationResponse { result: Some(classifications(classes)), model_spec })
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
    let target = find(manager, request.model_spec, asked)?;
    let face = target.example_face(Method::Regress, terms)?;
    let values = target.regress(&face, &examples(request.input, &terms.ledger)?, terms).await?;
    let model_spec = Some(answered(target.id(), &target.signature));
    Ok(RegressionResponse { result: Some(regressions(values)), model_spec })
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
    let tasks =
        request.tasks.into_iter().map(|task| Ok(Task { wanted: wanted(task.model_spec)?, method: task.method_name }));
    let tasks = tasks.collect::<Result<Vec<_>>>()?;
    let examples = examples(request.input, &terms.ledger)?;
    let answers = infer_several(manager, &tasks, &examples, terms, |target| *asked = Some(target.answering())).await?;
    let results = answers.into_iter().map(|(target, inferred)| InferenceResult {
        model_spec: Some(answered(target.id(), &target.signature)),
        result: Some(match inferred {
            Inferred::Classes(classes) => WireResult::ClassificationResult(classifications(classes)),
            Inferred::Values(values) => WireResult::RegressionResult(regressions(values)),
        }),
    });
    Ok(MultiInferenceResponse { results: results.collect() })
}

/// The rows of an input.
fn examples(input: Option<Input>, ledger: &Ledger) -> Result<Vec<Example>> {
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

fn classifications(classes: Classified) -> ClassificationResult {
    let classes = classes.into_iter().map(|row| Classifications {
        classes: row
            .into_iter()
            // The wire has text only.
            .map(|class| Class { label: String::from_utf8_lossy(&class.label).into_owned(), score: class.score })
            .collect(),
    });
    ClassificationResult { classifications: classes.collect() }
}

fn regressions(values: Vec<f32>) -> RegressionResult {
    RegressionResult { regressions: values.into_iter().map(|value| Regression { value }).collect() }
}
