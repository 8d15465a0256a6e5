//! Classify and Regress: examples in, labels and numbers out.

use bytes::Bytes;

use super::answered::Answered;
use super::serialized::decode_row;
use super::target::{Target, Terms};
use crate::api::budget::Ledger;
use crate::api::trail::note_examples;
use crate::error::{Error, Result};
use crate::model::{EXAMPLES_INPUT, Example, Face, Method};
use crate::tensor::{DType, Tensor};

const CLASSES: &str = "classes";
const SCORES: &str = "scores";
const OUTPUTS: &str = "outputs";
/// Bytes of a parsed value at most: a string's handle.
const VALUE_BYTES: u64 = 32;
/// Bytes of a class at most, beside its label: as it is, as a message, and as text.
const CLASS_BYTES: u64 = 128;
/// How often labels are held likewise.
const LABEL_COPIES: u64 = 3;
/// Bytes that a decoded example takes for each of its own, at most.
const DECODED: u64 = 64;

/// A label with its score; either may be missing from what the model gives.
#[derive(Clone, Debug, Default, PartialEq)]
pub(in crate::api) struct Class {
    /// Empty where the signature has no `classes`.
    pub(in crate::api) label: Bytes,
    /// 0 where it has no `scores`.
    pub(in crate::api) score: f32,
}

/// The classes of each example.
pub(in crate::api) type Classified = Vec<Vec<Class>>;

impl Target {
    /// What each example is, by a face that [`Target::example_face`] gave.
    ///
    /// # Errors
    /// Those of TensorFlow Serving's Classify.
    pub(in crate::api) async fn classify(
        &self,
        face: &Face,
        examples: &[Example],
        terms: &Terms,
    ) -> Result<Classified> {
        let outputs = self.run(parse(face, examples, &terms.ledger)?, terms).await?;
        let classes = classified(face, &outputs, examples.len(), &terms.ledger)?;
        if let Some(drawn) = self.draw(terms) {
            let (signature, examples) = (self.signature.clone(), examples.to_vec());
            drawn.answered(self, Answered::Classify { signature, examples, classes: classes.clone() });
        }
        Ok(classes)
    }

    /// A number for each example, by a face that [`Target::example_face`] gave.
    ///
    /// # Errors
    /// Those of TensorFlow Serving's Regress.
    pub(in crate::api) async fn regress(&self, face: &Face, examples: &[Example], terms: &Terms) -> Result<Vec<f32>> {
        let outputs = self.run(parse(face, examples, &terms.ledger)?, terms).await?;
        let values = regressed(face, &outputs, examples.len())?;
        if let Some(drawn) = self.draw(terms) {
            let (signature, examples) = (self.signature.clone(), examples.to_vec());
            drawn.answered(self, Answered::Regress { signature, examples, values: values.clone() });
        }
        Ok(values)
    }
}

/// The model's inputs from examples. What must be allocated is taken from `ledger` first.
pub(super) fn parse(face: &Face, examples: &[Example], ledger: &Ledger) -> Result<Vec<Tensor>> {
    if examples.is_empty() {
        return Err(Error::invalid_argument("Input is empty."));
    }
    note_examples(examples.len());
    ledger.take((face.count(examples) as u64).saturating_mul(VALUE_BYTES))?;
    face.parse(examples)
}

/// The examples of a Predict request to a face that takes them: one string each.
pub(super) fn sent(face: &Face, inputs: Vec<(String, Tensor)>) -> Result<Tensor> {
    let mut bound = crate::model::bind(&face.signature, &face.defaults, inputs)?;
    let strings = bound.pop().map(|(tensor, _)| tensor);
    strings.ok_or_else(|| Error::internal("a face that takes examples has no input"))
}

/// The model's inputs from serialised examples.
///
/// # Errors
/// `INVALID_ARGUMENT` naming the example or feature that does not fit, `RESOURCE_EXHAUSTED` for what takes more than `ledger` gives.
pub fn read_examples(face: &Face, serialized: &[Bytes], ledger: &Ledger) -> Result<Vec<Tensor>> {
    let bytes: usize = serialized.iter().map(Bytes::len).sum();
    ledger.take((bytes as u64).saturating_mul(DECODED))?;
    let examples = serialized.iter().enumerate().map(|(index, bytes)| decode_row(index, bytes.clone()));
    parse(face, &examples.collect::<Result<Vec<_>>>()?, ledger)
}

/// Whether a face can be called so, by TensorFlow Serving's rules.
///
/// # Errors
/// `INVALID_ARGUMENT` or `FAILED_PRECONDITION` saying what is missing.
pub(super) fn check(face: &Face, method: Method, check_method: bool) -> Result<()> {
    let (noun, signature) = (if method == Method::Classify { "classification" } else { "regression" }, &face.signature);
    let wrong_method = || {
        let (wanted, found) = (method.name(), face.method.name());
        Error::invalid_argument(format!("Expected {noun} signature method_name to be {wanted}. Was: {found}"))
    };
    if check_method && face.method != method {
        return Err(wrong_method());
    }
    if signature.inputs.len() != 1 {
        return Err(Error::invalid_argument("Expected one input Tensor."));
    }
    let (given, shown) = (signature.outputs.len(), || shown(face));
    match method {
        Method::Classify if !(1..=2).contains(&given) => {
            return Err(Error::invalid_argument(format!("Expected one or two output Tensors, found {given}")));
        }
        Method::Regress if given != 1 => return Err(Error::invalid_argument("Expected one output Tensor.")),
        _ => {}
    }
    if signature.inputs[0].name != EXAMPLES_INPUT {
        return Err(Error::failed_precondition(format!("No {noun} inputs found in SignatureDef: {}", shown())));
    }
    let gives = |name: &str| signature.outputs.iter().any(|spec| spec.name == name);
    if method == Method::Classify && !gives(CLASSES) && !gives(SCORES) {
        return Err(Error::failed_precondition(format!(
            "Expected classification signature outputs to contain at least one of \"{CLASSES}\" or \"{SCORES}\". \
             Signature was: {}",
            shown()
        )));
    }
    if method == Method::Regress && !gives(OUTPUTS) {
        return Err(Error::failed_precondition(format!("No regression outputs found in SignatureDef: {}", shown())));
    }
    // Tensors cannot be made of examples without features, whatever the input is called.
    if face.takes_examples() { Ok(()) } else { Err(wrong_method()) }
}

fn shown(face: &Face) -> String {
    let list = |specs: &[crate::tensor::Spec]| specs.iter().map(ToString::to_string).collect::<Vec<_>>().join(", ");
    format!("{} -> {} ({})", list(&face.signature.inputs), list(&face.signature.outputs), face.method.name())
}

/// The face's output of this name, if it has one.
fn output(face: &Face, outputs: &[Tensor], name: &str) -> Result<Option<Tensor>> {
    let at = face.signature.outputs.iter().position(|spec| spec.name == name);
    at.map(|at| face.output(at, outputs)).transpose()
}

/// TensorFlow's name for an element type, e.g. `DT_FLOAT`.
fn wire_name(dtype: DType) -> String {
    format!("DT_{}", crate::model::dtype_name(dtype).to_uppercase())
}

/// The result of Classify from what the model gave.
///
/// # Errors
/// `INVALID_ARGUMENT` when outputs are not one row of labels or scores for each example, `RESOURCE_EXHAUSTED` when the answer is
/// more than `ledger` gives.
pub(super) fn classified(face: &Face, outputs: &[Tensor], examples: usize, ledger: &Ledger) -> Result<Classified> {
    let (labels, scores) = (output(face, outputs, CLASSES)?, output(face, outputs, SCORES)?);
    let columns = |tensor: &Option<Tensor>, name: &str, dtype: DType| -> Result<Option<usize>> {
        let Some(tensor) = tensor else { return Ok(None) };
        let (shape, found) = (tensor.shape(), wire_name(tensor.dtype()));
        let [rows, columns] = shape.dims() else {
            let what = format!("Expected Tensor shape: [batch_size num_classes] but got {shape}");
            return Err(Error::invalid_argument(what));
        };
        if tensor.dtype() != dtype {
            let expected = wire_name(dtype);
            return Err(Error::invalid_argument(format!("Expected {name} Tensor of {expected}. Got: {found}")));
        }
        if *rows != examples {
            let what = format!("Expected {name} output batch size of {examples}. Got: {rows}");
            return Err(Error::invalid_argument(what));
        }
        Ok(Some(*columns))
    };
    let counts = (columns(&labels, CLASSES, DType::String)?, columns(&scores, SCORES, DType::F32)?);
    let count = match counts {
        (Some(a), Some(b)) if a != b => {
            let what = format!("Tensors class and score should match in dim_size(1). Got {a} vs. {b}");
            return Err(Error::invalid_argument(what));
        }
        (Some(count), _) | (None, Some(count)) => count,
        (None, None) => 0,
    };
    let text: usize = labels.iter().flat_map(|labels| labels.strings()).map(Bytes::len).sum();
    let bytes = (examples as u64).saturating_mul(count as u64).saturating_mul(CLASS_BYTES);
    ledger.take(bytes.saturating_add((text as u64).saturating_mul(LABEL_COPIES)))?;
    let numbers = scores.as_ref().map(Tensor::to_f32s).transpose()?;
    let class = |at: usize| Class {
        label: labels.as_ref().map(|l| l.strings()[at].clone()).unwrap_or_default(),
        score: numbers.as_ref().map_or(0.0, |n| n[at]),
    };
    Ok((0..examples).map(|row| (row * count..(row + 1) * count).map(class).collect()).collect())
}

/// The result of Regress from what the model gave.
///
/// # Errors
/// `INVALID_ARGUMENT` when its output is not one number for each example.
pub(super) fn regressed(face: &Face, outputs: &[Tensor], examples: usize) -> Result<Vec<f32>> {
    let tensor = output(face, outputs, OUTPUTS)?
        .ok_or_else(|| Error::invalid_argument(format!("Could not find output tensor '{OUTPUTS}'")))?;
    let rows = match tensor.shape().dims() {
        [rows] | [rows, 1] => *rows,
        _ => {
            return Err(Error::invalid_argument(format!(
                "Expected output Tensor shape to be either [batch_size] or [batch_size, 1] but got {}",
                tensor.shape()
            )));
        }
    };
    if rows != examples {
        let what = format!("Input batch size did not match output batch size: {examples} vs. {rows}");
        return Err(Error::invalid_argument(what));
    }
    if tensor.dtype() != DType::F32 {
        let found = wire_name(tensor.dtype());
        return Err(Error::invalid_argument(format!("Expected output Tensor of DT_FLOAT.  Got: {found}")));
    }
    Ok(tensor.to_f32s()?.into_owned())
}
