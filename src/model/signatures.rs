//! `signatures.toml` beside a model: signatures of its own making, each a table.
//!
//! ```toml
//! [read]
//! method = "classify"                    # predict, classify or regress
//! outputs = { scores = "probabilities" } # callers' names of the model's outputs
//! class_labels = ["zero", "one"]         # the output `classes`
//! [read.features.image]                  # the model's input `image`, from each example's feature
//! key = "pixels"
//! kind = "FixedLen"                      # or VarLen
//! dtype = "float"                        # float, int64 or bytes
//! shape = [1, 8, 8]
//! default = 0.0
//! [pair]
//! method = "predict"
//! inputs = { left = "a" }                # callers' names of the model's inputs
//! defaults = { b = [1.0, 2.0, 3.0] }     # by the caller's name, or the model's for what callers do not see
//! ```

use std::collections::{BTreeMap, BTreeSet};
use std::ops::Range;
use std::path::Path;

use serde::Deserialize;
use toml::{Spanned, Value};

use super::beside::beside;
use super::example::{FeatureForm, FeatureKind, FeatureSpec};
use super::face::{Face, Faces, Give, Method, Source, examples_spec, fits};
use super::literal::{feature, filled, tensor};
use crate::error::{Error, Result};
use crate::tensor::{DType, Dim, Shape, Signature, Spec, Tensor};

/// The file's name.
pub(super) const FILE: &str = "signatures.toml";
/// Bytes that such a file may have.
const MAX_BYTES: u64 = 1 << 20;
/// Names of outputs, as TensorFlow's exporters have them.
const CLASSES: &str = "classes";
const SCORES: &str = "scores";
const OUTPUTS: &str = "outputs";

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Written {
    method: Spanned<String>,
    #[serde(default)]
    inputs: BTreeMap<String, Spanned<String>>,
    #[serde(default)]
    outputs: BTreeMap<String, Spanned<String>>,
    #[serde(default)]
    defaults: BTreeMap<String, Spanned<Value>>,
    class_labels: Option<Spanned<Vec<String>>>,
    #[serde(default)]
    features: BTreeMap<String, Spanned<WrittenFeature>>,
}

#[derive(Clone, Default, Deserialize)]
#[serde(deny_unknown_fields)]
struct WrittenFeature {
    key: Option<String>,
    kind: Option<Spanned<String>>,
    dtype: Option<Spanned<String>>,
    shape: Option<Vec<usize>>,
    default: Option<Spanned<Value>>,
}

/// A mistake: where, and what it is.
type Mistake = (Range<usize>, String);

/// The faces of `model`, whose file or version's folder is at `path`: what the file beside it says, and the model as it is.
///
/// # Errors
/// `INVALID_ARGUMENT` with the file's name, the line, and what was expected there.
pub(super) fn faces(path: &Path, model: &Signature) -> Result<Faces> {
    let Some((file, text)) = beside(path, FILE, MAX_BYTES)? else { return Ok(Faces::new(model, BTreeMap::new())) };
    read_signatures(&text, &file.display().to_string(), model)
}

/// The faces of `model` that a file of this text gives it; `file` is what it is called.
///
/// # Errors
/// As if it had been read.
pub fn read_signatures(text: &str, file: &str, model: &Signature) -> Result<Faces> {
    let named = parse(text, model).map_err(|(span, what)| {
        let line = text[..span.start.min(text.len())].matches('\n').count() + 1;
        Error::invalid_argument(format!("{file}:{line}: {what}"))
    })?;
    Ok(Faces::new(model, named))
}

fn parse(text: &str, model: &Signature) -> Result<BTreeMap<String, Face>, Mistake> {
    let written: BTreeMap<String, Spanned<Written>> =
        toml::from_str(text).map_err(|e| (e.span().unwrap_or(0..0), e.message().to_owned()))?;
    let face = |(name, written): (String, Spanned<Written>)| {
        let span = written.span();
        let face = Reading { written: written.into_inner(), span, model }.face();
        face.map(|face| (name.clone(), face)).map_err(|(span, what)| (span, format!("signature {name}: {what}")))
    };
    written.into_iter().map(face).collect()
}

/// What callers send, where the model's inputs come from, and the defaults by the callers' names.
type Takes = (Vec<Spec>, Vec<Source>, BTreeMap<String, Tensor>);

/// One signature being read.
struct Reading<'a> {
    written: Written,
    span: Range<usize>,
    model: &'a Signature,
}

impl Reading<'_> {
    fn face(self) -> Result<Face, Mistake> {
        let method = match self.written.method.get_ref().trim_start_matches("tensorflow/serving/") {
            "predict" => Method::Predict,
            "classify" => Method::Classify,
            "regress" => Method::Regress,
            other => {
                let what = format!("method {other:?}, expected predict, classify or regress");
                return Err((self.written.method.span(), what));
            }
        };
        let (outputs, gives) = self.outputs(method)?;
        let (inputs, sources, defaults) = if method == Method::Predict { self.tensors()? } else { self.features()? };
        Ok(Face { method, signature: Signature { inputs, outputs }, defaults, sources, gives })
    }

    /// The place of a named value of the model.
    fn place(specs: &[Spec], name: &Spanned<String>, what: &str) -> Result<usize, Mistake> {
        specs.iter().position(|spec| spec.name == *name.get_ref()).ok_or_else(|| {
            let names: Vec<_> = specs.iter().map(|s| s.name.as_str()).collect();
            (name.span(), format!("the model has no {what} {:?}, expected one of {}", name.get_ref(), names.join(", ")))
        })
    }

    fn outputs(&self, method: Method) -> Result<(Vec<Spec>, Vec<Give>), Mistake> {
        let model = &self.model.outputs;
        let mut named = Vec::new();
        for (alias, name) in &self.written.outputs {
            named.push((alias.clone(), Self::place(model, name, "output")?));
        }
        let alone = match method {
            Method::Predict => None,
            Method::Classify => Some(SCORES),
            Method::Regress => Some(OUTPUTS),
        };
        match alone {
            None if named.is_empty() => {
                named.extend(model.iter().enumerate().map(|(place, spec)| (spec.name.clone(), place)));
            }
            Some(alias) if named.is_empty() && model.len() == 1 => named.push((alias.to_owned(), 0)),
            Some(alias) if named.is_empty() => {
                let what = format!("the model has {} outputs, expected outputs = {{ {alias} = \"…\" }}", model.len());
                return Err((self.span.clone(), what));
            }
            _ => {}
        }
        let allowed: &[&str] = match method {
            Method::Predict => &[],
            Method::Classify => &[CLASSES, SCORES],
            Method::Regress => &[OUTPUTS],
        };
        if let Some((alias, _)) = named.iter().find(|(a, _)| !allowed.is_empty() && !allowed.contains(&a.as_str())) {
            let span = self.written.outputs.get(alias).map_or(self.span.clone(), Spanned::span);
            return Err((span, format!("output {alias:?}, expected only {}", allowed.join(" and "))));
        }
        let mut specs: Vec<Spec> =
            named.iter().map(|(alias, place)| Spec { name: alias.clone(), ..model[*place].clone() }).collect();
        let mut gives: Vec<Give> = named.iter().map(|(_, place)| Give::Output(*place)).collect();
        if let Some(labels) = &self.written.class_labels {
            let scores = specs.iter().find(|s| s.name == SCORES).and_then(|s| s.dims.clone());
            self.check_labels(method, labels, &named, scores.as_deref())?;
            let labels = labels.get_ref();
            let dims = vec![Dim::Unknown, Dim::Fixed(labels.len())];
            specs.push(Spec::tensor(CLASSES, DType::String, Some(dims)));
            gives.push(Give::Labels(labels.iter().map(|l| l.clone().into()).collect()));
        }
        Ok((specs, gives))
    }

    fn check_labels(
        &self,
        method: Method,
        labels: &Spanned<Vec<String>>,
        named: &[(String, usize)],
        scores: Option<&[Dim]>,
    ) -> Result<(), Mistake> {
        let count = labels.get_ref().len();
        let what = match scores {
            _ if method != Method::Classify => "class_labels, expected only with method = \"classify\"".to_owned(),
            _ if named.iter().any(|(alias, _)| alias == CLASSES) => {
                "class_labels beside an output for classes, expected one of them".to_owned()
            }
            Some([_, Dim::Fixed(n)]) if *n != count => {
                format!("{count} class_labels, expected {n}: one for each score")
            }
            _ => return Ok(()),
        };
        Err((labels.span(), what))
    }

    /// Inputs, sources and defaults of a signature that takes tensors.
    fn tensors(&self) -> Result<Takes, Mistake> {
        if let Some(feature) = self.written.features.values().next() {
            return Err((feature.span(), "features, expected only with method classify or regress".to_owned()));
        }
        let model = &self.model.inputs;
        let mut aliases: BTreeMap<usize, &str> = BTreeMap::new();
        for (alias, name) in &self.written.inputs {
            if let Some(other) = aliases.insert(Self::place(model, name, "input")?, alias) {
                let what = format!("input {:?} is called {other} and {alias}, expected one name", name.get_ref());
                return Err((name.span(), what));
            }
        }
        let mut unused: BTreeSet<&str> = self.written.defaults.keys().map(String::as_str).collect();
        let (mut inputs, mut sources, mut defaults) = (Vec::new(), Vec::new(), BTreeMap::new());
        for (place, spec) in model.iter().enumerate() {
            // Without a table of inputs each has the model's name.
            let seen = aliases.get(&place).copied().or(aliases.is_empty().then_some(spec.name.as_str()));
            let name = seen.unwrap_or(&spec.name);
            let default = self.written.defaults.get(name).map(|v| default_of(v, spec)).transpose()?;
            unused.remove(name);
            match (seen, default) {
                (Some(alias), default) => {
                    sources.push(Source::Input(inputs.len()));
                    inputs.push(Spec { name: alias.to_owned(), ..spec.clone() });
                    defaults.extend(default.map(|d| (alias.to_owned(), d)));
                }
                (None, Some(constant)) => sources.push(Source::Constant(constant)),
                (None, None) => {
                    let what =
                        format!("the model's input {:?} has no name here, expected one, or a default", spec.name);
                    return Err((self.span.clone(), what));
                }
            }
        }
        self.refuse_unused(&unused)?;
        Ok((inputs, sources, defaults))
    }

    /// The same of a signature that takes examples.
    fn features(&self) -> Result<Takes, Mistake> {
        if let Some(input) = self.written.inputs.values().next() {
            return Err((input.span(), "inputs, expected features: classify and regress take examples".to_owned()));
        }
        let model = &self.model.inputs;
        for (name, feature) in &self.written.features {
            Self::place(model, &Spanned::new(feature.span(), name.clone()), "input")?;
        }
        let mut unused: BTreeSet<&str> = self.written.defaults.keys().map(String::as_str).collect();
        let mut sources = Vec::new();
        for spec in model {
            let feature = self.written.features.get(&spec.name);
            if let Some(value) = self.written.defaults.get(&spec.name).filter(|_| feature.is_none()) {
                unused.remove(spec.name.as_str());
                sources.push(Source::Constant(default_of(value, spec)?));
                continue;
            }
            let (written, span) = match feature {
                Some(feature) => (feature.get_ref().clone(), feature.span()),
                None => (WrittenFeature::default(), self.span.clone()),
            };
            sources.push(Source::Feature(feature_of(&written, &span, spec)?));
        }
        self.refuse_unused(&unused)?;
        if !sources.iter().any(|source| matches!(source, Source::Feature(_))) {
            return Err((self.span.clone(), "every input has a default, expected a feature".to_owned()));
        }
        Ok((vec![examples_spec()], sources, BTreeMap::new()))
    }

    fn refuse_unused(&self, unused: &BTreeSet<&str>) -> Result<(), Mistake> {
        let Some(name) = unused.first() else { return Ok(()) };
        let span = self.written.defaults.get(*name).map_or(self.span.clone(), Spanned::span);
        Err((span, format!("a default for {name:?}, expected the name of an input that has no feature")))
    }
}

/// The default of an input: its type and, where the first axis is open and the value has none for it, one row.
fn default_of(value: &Spanned<Value>, spec: &Spec) -> Result<Tensor, Mistake> {
    let fault = |what: String| (value.span(), what);
    let made = tensor(value.get_ref(), spec.dtype).map_err(|e| fault(e.message().to_owned()))?;
    let Some(dims) = &spec.dims else { return Ok(made) };
    // One value stands for a whole row.
    let inner = dims.get(1..).and_then(|inner| inner.iter().map(Dim::fixed).collect::<Option<Vec<_>>>());
    let made = match inner {
        Some(inner) if made.shape().rank() == 0 => {
            filled(value.get_ref(), spec.dtype, &inner).map_err(|e| fault(e.message().to_owned()))?
        }
        _ => made,
    };
    let agrees = |shape: &Shape| {
        dims.len() == shape.rank() && dims.iter().zip(shape.iter()).all(|(d, n)| d.fixed().is_none_or(|f| f == *n))
    };
    if agrees(made.shape()) {
        return Ok(made);
    }
    if dims.first().is_some_and(|d| d.fixed().is_none()) && fits(made.shape(), Some(dims)) {
        let mut row = vec![1];
        row.extend_from_slice(made.shape());
        return made.reshaped(row).map_err(|e| fault(e.message().to_owned()));
    }
    Err(fault(format!("a default of shape {}, expected that of {spec}", made.shape())))
}

/// How an input is made from a feature; what is not written follows from the input.
fn feature_of(written: &WrittenFeature, span: &Range<usize>, spec: &Spec) -> Result<FeatureSpec, Mistake> {
    let kind = match written.dtype.as_ref().map(|d| (d.get_ref().as_str(), d.span())) {
        Some(("float", _)) => FeatureKind::Float,
        Some(("int64", _)) => FeatureKind::Int64,
        Some(("bytes" | "string", _)) => FeatureKind::Bytes,
        Some((other, span)) => return Err((span, format!("dtype {other:?}, expected float, int64 or bytes"))),
        None if spec.dtype.is_float() => FeatureKind::Float,
        None if spec.dtype == DType::String => FeatureKind::Bytes,
        None => FeatureKind::Int64,
    };
    let can = match kind {
        FeatureKind::Bytes => spec.dtype == DType::String,
        FeatureKind::Float => spec.dtype.is_float(),
        FeatureKind::Int64 => spec.dtype.is_integer() || spec.dtype == DType::Bool || spec.dtype.is_float(),
    };
    if !can {
        let (span, dtype) = (written.dtype.as_ref().map_or(span.clone(), Spanned::span), kind.dtype());
        return Err((span, format!("a feature of {dtype}, expected one that makes {spec}")));
    }
    let default = |count: usize| {
        let fault = |value: &Spanned<Value>, e: &Error| (value.span(), e.message().to_owned());
        let made = written.default.as_ref().map(|v| feature(v.get_ref(), kind, count).map_err(|e| fault(v, &e)));
        made.transpose()
    };
    let form = match written.kind.as_ref().map_or("FixedLen", |k| k.get_ref()) {
        "FixedLen" => {
            let inner = || spec.dims.as_ref()?.get(1..)?.iter().map(Dim::fixed).collect::<Option<Vec<_>>>();
            let Some(shape) = written.shape.clone().or_else(inner).map(Shape::new) else {
                return Err((span.clone(), format!("no shape, expected that of a row of {spec}")));
            };
            if !fits(&shape, spec.dims.as_deref()) {
                return Err((span.clone(), format!("rows of shape {shape}, expected such that make {spec}")));
            }
            FeatureForm::FixedLen { default: default(shape.elements())?, shape }
        }
        "VarLen" => {
            if written.shape.is_some() || !fits(&Shape::new([0]), spec.dims.as_deref()) {
                let what = format!("VarLen makes rows of one open axis, expected FixedLen for {spec}");
                return Err((span.clone(), what));
            }
            let zero = || feature(&zero(kind), kind, 1).map_err(|e| (span.clone(), e.message().to_owned()));
            FeatureForm::VarLen { padding: default(1)?.map_or_else(zero, Ok)? }
        }
        other => {
            let span = written.kind.as_ref().map_or(span.clone(), Spanned::span);
            return Err((span, format!("kind {other:?}, expected FixedLen or VarLen")));
        }
    };
    Ok(FeatureSpec { key: written.key.clone().unwrap_or_else(|| spec.name.clone()), kind, form, dtype: spec.dtype })
}

fn zero(kind: FeatureKind) -> Value {
    match kind {
        FeatureKind::Bytes => Value::String(String::new()),
        FeatureKind::Float => Value::Float(0.0),
        FeatureKind::Int64 => Value::Integer(0),
    }
}

#[cfg(test)]
mod tests;
