//! The faces of a model: each a signature with names of its own, a method, defaults, labels and features.

use std::collections::BTreeMap;
use std::sync::Arc;

use bytes::Bytes;

use super::binding::bind;
use super::example::{Example, FeatureSpec};
use crate::error::{Error, Result};
use crate::tensor::{DType, Dim, Shape, Signature, Spec, Tensor};

/// The signature that a request without a name means.
pub const DEFAULT_SIGNATURE: &str = "serving_default";

/// What callers of Classify and Regress call the examples, as TensorFlow's exporters name the input.
pub const EXAMPLES_INPUT: &str = "inputs";

/// How a signature is meant to be called.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Method {
    /// Tensors in, tensors out.
    Predict,
    /// Examples in, labels and scores out.
    Classify,
    /// Examples in, one number for each out.
    Regress,
}

impl Method {
    /// TensorFlow Serving's name for it.
    pub fn name(self) -> &'static str {
        match self {
            Method::Predict => "tensorflow/serving/predict",
            Method::Classify => "tensorflow/serving/classify",
            Method::Regress => "tensorflow/serving/regress",
        }
    }
}

/// Where one of the model's inputs comes from.
#[derive(Clone, Debug, PartialEq)]
pub(super) enum Source {
    /// From the face's input at this place.
    Input(usize),
    /// From a feature of each example.
    Feature(FeatureSpec),
    /// It is always this.
    Constant(Tensor),
}

/// Where one of the face's outputs comes from.
#[derive(Clone, Debug, PartialEq)]
pub(super) enum Give {
    /// From the model's output at this place.
    Output(usize),
    /// The same labels for each row.
    Labels(Arc<[Bytes]>),
}

/// One way to call a model.
#[derive(Clone, Debug)]
pub struct Face {
    /// How it is meant to be called.
    pub method: Method,
    /// Inputs and outputs under the names that callers use.
    pub signature: Signature,
    /// What stands for inputs that a request leaves out, by the caller's name.
    pub defaults: BTreeMap<String, Tensor>,
    /// For each of the model's inputs, in its order.
    pub(super) sources: Vec<Source>,
    /// For each of the face's outputs.
    pub(super) gives: Vec<Give>,
}

impl Face {
    /// The model as it is.
    pub fn plain(model: &Signature) -> Self {
        Self {
            method: Method::Predict,
            signature: model.clone(),
            defaults: BTreeMap::new(),
            sources: (0..model.inputs.len()).map(Source::Input).collect(),
            gives: (0..model.outputs.len()).map(Give::Output).collect(),
        }
    }

    /// Whether its one input is examples: strings, each a serialised `tf.Example`.
    pub fn takes_examples(&self) -> bool {
        self.sources.iter().any(|source| matches!(source, Source::Feature(_)))
    }

    /// Whether the model gives both the same for the same examples.
    pub fn takes_the_same(&self, other: &Face) -> bool {
        self.sources == other.sources
    }

    /// The model's inputs, in its order, from a request's. For the bytes that defaults and constants come to `take` is asked first.
    ///
    /// # Errors
    /// `INVALID_ARGUMENT` when a name is missing or unknown, or a dtype is not the signature's; those of `take`.
    pub fn bind(&self, inputs: Vec<(String, Tensor)>, take: impl Fn(u64) -> Result<()>) -> Result<Vec<Tensor>> {
        let bound = bind(&self.signature, &self.defaults, inputs)?;
        let rows = bound.iter().find_map(|(tensor, sent)| sent.then(|| tensor.shape().first().copied()).flatten());
        let filled = |tensor: &Tensor| {
            let row = tensor.bytes().len() + size_of_val(tensor.strings());
            take((row as u64).saturating_mul(rows.unwrap_or(1) as u64))?;
            repeated(tensor, rows)
        };
        let input = |source: &Source| match source {
            Source::Input(at) => {
                let (tensor, sent) = &bound[*at];
                let open = !matches!(self.signature.inputs[*at].dims.as_deref(), Some([Dim::Fixed(_), ..]));
                if *sent || !open { Ok(tensor.clone()) } else { filled(tensor) }
            }
            Source::Constant(tensor) => filled(tensor),
            Source::Feature(spec) => Err(Error::internal(format!("feature {} is no input", spec.key))),
        };
        self.sources.iter().map(input).collect()
    }

    /// Values that [`Face::parse`] makes of these examples: saturates.
    pub fn count(&self, examples: &[Example]) -> usize {
        let counts = self.sources.iter().map(|source| match source {
            Source::Feature(spec) => spec.count(examples),
            Source::Constant(tensor) => tensor.shape().elements().saturating_mul(examples.len()),
            Source::Input(_) => 0,
        });
        counts.fold(0, usize::saturating_add)
    }

    /// The model's inputs, in its order, from examples.
    ///
    /// # Errors
    /// `INVALID_ARGUMENT` naming the feature that does not fit.
    pub fn parse(&self, examples: &[Example]) -> Result<Vec<Tensor>> {
        let input = |source: &Source| match source {
            Source::Feature(spec) => spec.tensor(examples),
            Source::Constant(tensor) => repeated(tensor, Some(examples.len())),
            Source::Input(at) => Err(Error::internal(format!("input {at} is no feature"))),
        };
        self.sources.iter().map(input).collect()
    }

    /// The face's output at a place, from the model's.
    ///
    /// # Errors
    /// `INTERNAL` when the model gave fewer.
    pub fn output(&self, at: usize, outputs: &[Tensor]) -> Result<Tensor> {
        match &self.gives[at] {
            Give::Output(source) => outputs.get(*source).cloned().ok_or_else(|| {
                Error::internal(format!("the model gave no output {}", self.signature.outputs[at].name))
            }),
            Give::Labels(labels) => {
                let rows = outputs.first().and_then(|o| o.shape().first().copied()).unwrap_or(0);
                let strings = (0..rows).flat_map(|_| labels.iter().cloned()).collect();
                Tensor::from_strings([rows, labels.len()], strings)
            }
        }
    }
}

/// A tensor of one row as often as there are rows.
fn repeated(tensor: &Tensor, rows: Option<usize>) -> Result<Tensor> {
    let (Some(rows), Some((1, inner))) = (rows.filter(|r| *r != 1), tensor.shape().split_first()) else {
        return Ok(tensor.clone());
    };
    let mut dims = vec![rows];
    dims.extend_from_slice(inner);
    if tensor.dtype() == DType::String {
        let strings = (0..rows).flat_map(|_| tensor.strings().iter().cloned()).collect();
        return Tensor::from_strings(dims, strings);
    }
    Tensor::from_bytes(tensor.dtype(), dims, tensor.bytes().repeat(rows))
}

/// The input of faces that take examples.
pub(super) fn examples_spec() -> Spec {
    Spec::tensor(EXAMPLES_INPUT, DType::String, Some(vec![Dim::Unknown]))
}

/// All faces of a model, by name.
#[derive(Clone, Debug)]
pub struct Faces(BTreeMap<String, Arc<Face>>);

impl Faces {
    /// `named`, and the model as it is for [`DEFAULT_SIGNATURE`] unless that is among them.
    pub fn new(model: &Signature, named: BTreeMap<String, Face>) -> Self {
        let mut faces: BTreeMap<_, _> = named.into_iter().map(|(name, face)| (name, Arc::new(face))).collect();
        faces.entry(DEFAULT_SIGNATURE.to_owned()).or_insert_with(|| Arc::new(Face::plain(model)));
        Self(faces)
    }

    /// The face of this name; an empty name means [`DEFAULT_SIGNATURE`].
    pub fn get(&self, name: &str) -> Option<&Arc<Face>> {
        self.0.get(if name.is_empty() { DEFAULT_SIGNATURE } else { name })
    }

    /// All of them, by name.
    pub fn iter(&self) -> impl Iterator<Item = (&str, &Face)> {
        self.0.iter().map(|(name, face)| (name.as_str(), &**face))
    }
}

/// Whether a row of `shape` can be an input of these extents, the first axis apart.
pub(super) fn fits(shape: &Shape, dims: Option<&[Dim]>) -> bool {
    let Some(dims) = dims else { return true };
    dims.len() == shape.rank() + 1
        && dims[1..].iter().zip(shape.iter()).all(|(dim, extent)| dim.fixed().is_none_or(|n| n == *extent))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn spec(name: &str) -> Spec {
        Spec::tensor(name, DType::F32, Some(vec![Dim::Symbol("n".into()), Dim::Fixed(2)]))
    }

    #[test]
    fn aliases_defaults_and_constants_become_the_models_inputs() {
        let row = |a: f32, b: f32| Tensor::from_vec([1, 2], vec![a, b]).expect("two numbers");
        let face = Face {
            method: Method::Predict,
            signature: Signature { inputs: vec![spec("second"), spec("first")], outputs: vec![spec("sum")] },
            defaults: [("second".to_owned(), row(5.0, 6.0))].into(),
            sources: vec![Source::Input(1), Source::Input(0), Source::Constant(row(7.0, 8.0))],
            gives: vec![Give::Output(0)],
        };
        let sent = Tensor::from_vec([2, 2], vec![1.0f32, 2.0, 3.0, 4.0]).expect("four numbers");
        let bound = face.bind(vec![("first".into(), sent.clone())], |_| Ok(())).expect("one is left out");
        assert_eq!(bound[0], sent);
        assert_eq!(bound[1].values::<f32>().expect("f32").as_ref(), [5.0, 6.0, 5.0, 6.0]);
        assert_eq!(bound[2].shape().dims(), [2, 2]);
        let error = face.bind(vec![("second".into(), sent.clone())], |_| Ok(())).expect_err("no default");
        assert_eq!(
            error.message(),
            "Signature input alias: first(feed name: first:0) not found in request and no default value provided. Inputs \
             expected to be in the request {second}, or default input alias set: second"
        );
        let error = face
            .bind(vec![("first".into(), sent.clone()), ("third".into(), sent.clone())], |_| Ok(()))
            .expect_err("one too many");
        assert_eq!(
            error.message(),
            "Inputs contains invalid name. Used request inputs: first, request input: first,third"
        );
        let refuse = |bytes| Err(Error::resource_exhausted(format!("{bytes} bytes")));
        let error = face.bind(vec![("first".into(), sent)], refuse).expect_err("two rows of two numbers are too much");
        assert_eq!(error.message(), "16 bytes");
    }

    #[test]
    fn labels_are_given_for_each_row() {
        let model = Signature { inputs: vec![spec("x")], outputs: vec![spec("y")] };
        let mut face = Face::plain(&model);
        face.gives.push(Give::Labels([Bytes::from("a"), Bytes::from("b")].into()));
        let y = Tensor::from_vec([2, 2], vec![0.0f32; 4]).expect("four numbers");
        let labels = face.output(1, &[y]).expect("two rows");
        assert_eq!(labels.shape().dims(), [2, 2]);
        assert_eq!(labels.strings(), ["a", "b", "a", "b"].map(Bytes::from));
    }
}
