//! Rows of named features, as `tf.Example` has them, and how they become a model's inputs.

use std::collections::HashMap;

use bytes::Bytes;

use super::binding::dtype_name;
use crate::error::{Error, Result};
use crate::tensor::{DType, Shape, Tensor};

/// What a feature holds: any number of values of one kind.
#[derive(Clone, Debug, PartialEq)]
pub enum Feature {
    /// Byte strings.
    Bytes(Vec<Bytes>),
    /// Floats.
    Floats(Vec<f32>),
    /// Integers.
    Ints(Vec<i64>),
}

/// One row: its features by name.
pub type Example = HashMap<String, Feature>;

/// The three kinds of features.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum FeatureKind {
    /// Byte strings.
    Bytes,
    /// Floats.
    Float,
    /// Integers.
    Int64,
}

impl FeatureKind {
    /// The element type of its values.
    pub fn dtype(self) -> DType {
        match self {
            FeatureKind::Bytes => DType::String,
            FeatureKind::Float => DType::F32,
            FeatureKind::Int64 => DType::I64,
        }
    }

    fn empty(self) -> Feature {
        match self {
            FeatureKind::Bytes => Feature::Bytes(Vec::new()),
            FeatureKind::Float => Feature::Floats(Vec::new()),
            FeatureKind::Int64 => Feature::Ints(Vec::new()),
        }
    }

    /// What TensorFlow's messages call its values.
    fn noun(self) -> &'static str {
        match self {
            FeatureKind::Bytes => "bytes",
            FeatureKind::Float => "float",
            FeatureKind::Int64 => "int64",
        }
    }
}

impl Feature {
    /// The kind of its values.
    pub fn kind(&self) -> FeatureKind {
        match self {
            Feature::Bytes(_) => FeatureKind::Bytes,
            Feature::Floats(_) => FeatureKind::Float,
            Feature::Ints(_) => FeatureKind::Int64,
        }
    }

    /// How many values there are.
    pub fn len(&self) -> usize {
        match self {
            Feature::Bytes(values) => values.len(),
            Feature::Floats(values) => values.len(),
            Feature::Ints(values) => values.len(),
        }
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Appends `other`'s values; those of another kind are left out, which callers have ruled out.
    fn extend(&mut self, other: &Feature) {
        match (self, other) {
            (Feature::Bytes(all), Feature::Bytes(more)) => all.extend_from_slice(more),
            (Feature::Floats(all), Feature::Floats(more)) => all.extend_from_slice(more),
            (Feature::Ints(all), Feature::Ints(more)) => all.extend_from_slice(more),
            _ => {}
        }
    }
}

/// How many values a row has.
#[derive(Clone, Debug, PartialEq)]
pub enum FeatureForm {
    /// As many as this shape holds; where a row has none, the default's.
    FixedLen {
        /// Extents of one row.
        shape: Shape,
        /// As many values, if a row may go without.
        default: Option<Feature>,
    },
    /// Any number: rows are filled up to the longest with this one value.
    VarLen {
        /// One value.
        padding: Feature,
    },
}

/// How a model's input is made from a feature.
#[derive(Clone, Debug, PartialEq)]
pub struct FeatureSpec {
    /// The feature's name.
    pub key: String,
    /// Its kind.
    pub kind: FeatureKind,
    /// How many values a row has.
    pub form: FeatureForm,
    /// The input's element type.
    pub dtype: DType,
}

impl FeatureSpec {
    /// Values of all rows together in [`FeatureSpec::tensor`]: saturates.
    pub fn count(&self, examples: &[Example]) -> usize {
        let row = match &self.form {
            FeatureForm::FixedLen { shape, .. } => shape.elements(),
            FeatureForm::VarLen { .. } => self.longest(examples),
        };
        row.saturating_mul(examples.len())
    }

    fn longest(&self, examples: &[Example]) -> usize {
        examples.iter().filter_map(|e| e.get(&self.key)).map(Feature::len).max().unwrap_or(0)
    }

    /// The input for these rows: the first axis is the row.
    ///
    /// # Errors
    /// `INVALID_ARGUMENT`, as TensorFlow's `ParseExample` words it, when a row lacks the feature, or it has another kind or
    /// number of values; when an integer does not fit the input's type.
    pub fn tensor(&self, examples: &[Example]) -> Result<Tensor> {
        let mut all = self.kind.empty();
        let longest = self.longest(examples);
        for (index, example) in examples.iter().enumerate() {
            let wrong = |what: String| {
                Error::invalid_argument(format!("Name: <unknown>, Key: {}, Index: {index}.  {what}", self.key))
            };
            let found = example.get(&self.key);
            if let Some(found) = found.filter(|f| f.kind() != self.kind) {
                let (sent, expected) = (dtype_name(found.kind().dtype()), dtype_name(self.kind.dtype()));
                return Err(wrong(format!("Data types don't match. Data type: {sent} but expected type: {expected}")));
            }
            match (&self.form, found) {
                (FeatureForm::FixedLen { shape, .. }, Some(found)) => {
                    if found.len() != shape.elements() {
                        let (noun, size) = (self.kind.noun(), found.len());
                        return Err(wrong(format!(
                            "Number of {noun} values != expected.  Values size: {size} but output shape: {shape}"
                        )));
                    }
                    all.extend(found);
                }
                (FeatureForm::FixedLen { default: Some(default), .. }, None) => all.extend(default),
                (FeatureForm::FixedLen { default: None, .. }, None) => {
                    return Err(Error::invalid_argument(format!(
                        "Name: <unknown>, Feature: {} (data type: {}) is required but could not be found.",
                        self.key,
                        dtype_name(self.kind.dtype())
                    )));
                }
                (FeatureForm::VarLen { padding }, found) => {
                    found.into_iter().for_each(|f| all.extend(f));
                    (found.map_or(0, Feature::len)..longest).for_each(|_| all.extend(padding));
                }
            }
        }
        let mut dims = vec![examples.len()];
        match &self.form {
            FeatureForm::FixedLen { shape, .. } => dims.extend_from_slice(shape),
            FeatureForm::VarLen { .. } => dims.push(longest),
        }
        self.convert(Shape::new(dims), all)
    }

    /// `values` as elements of the input's type.
    fn convert(&self, shape: Shape, values: Feature) -> Result<Tensor> {
        match values {
            Feature::Bytes(strings) => Tensor::from_strings(shape, strings),
            Feature::Floats(values) if self.dtype == DType::F32 => Tensor::from_vec(shape, values),
            Feature::Floats(values) => {
                Tensor::from_f64s(self.dtype, shape, &values.into_iter().map(f64::from).collect::<Vec<_>>())
            }
            Feature::Ints(values) if self.dtype == DType::I64 => Tensor::from_vec(shape, values),
            Feature::Ints(values) => {
                let (low, high) = range(self.dtype);
                if let Some(value) = values.iter().find(|v| !(low..=high).contains(*v)) {
                    return Err(Error::invalid_argument(format!(
                        "feature {:?} holds {value}, which no {} can be",
                        self.key,
                        dtype_name(self.dtype)
                    )));
                }
                Tensor::from_f64s(self.dtype, shape, &values.into_iter().map(|v| v as f64).collect::<Vec<_>>())
            }
        }
    }
}

/// The integers that a type can hold, of those that an `int64` feature can; all for floats, which round.
pub(super) fn range(dtype: DType) -> (i64, i64) {
    match dtype {
        DType::U32 => (0, u32::MAX.into()),
        DType::I32 => (i32::MIN.into(), i32::MAX.into()),
        // Beyond 2^53 the way over f64 would round.
        DType::U64 => (0, 1 << 53),
        dtype if dtype.is_integer() || dtype == DType::Bool => dtype.small_range(),
        _ => (i64::MIN, i64::MAX),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn row(features: &[(&str, Feature)]) -> Example {
        features.iter().map(|(name, feature)| ((*name).to_owned(), feature.clone())).collect()
    }

    fn fixed(dims: &[usize], default: Option<Feature>, kind: FeatureKind, dtype: DType) -> FeatureSpec {
        FeatureSpec { key: "x".into(), kind, form: FeatureForm::FixedLen { shape: Shape::new(dims), default }, dtype }
    }

    #[test]
    fn rows_are_stacked_and_defaults_fill_gaps() {
        let spec = fixed(&[2], Some(Feature::Floats(vec![7.0, 8.0])), FeatureKind::Float, DType::F32);
        let rows = [row(&[("x", Feature::Floats(vec![1.0, 2.0]))]), row(&[])];
        let tensor = spec.tensor(&rows).expect("two rows");
        assert_eq!(tensor.shape().dims(), [2, 2]);
        assert_eq!(tensor.values::<f32>().expect("f32").as_ref(), [1.0, 2.0, 7.0, 8.0]);
        assert_eq!(spec.count(&rows), 4);
    }

    #[test]
    fn ragged_rows_are_filled_up() {
        let form = FeatureForm::VarLen { padding: Feature::Ints(vec![-1]) };
        let spec = FeatureSpec { key: "x".into(), kind: FeatureKind::Int64, form, dtype: DType::I32 };
        let rows = [row(&[("x", Feature::Ints(vec![1]))]), row(&[("x", Feature::Ints(vec![2, 3]))]), row(&[])];
        let tensor = spec.tensor(&rows).expect("three rows");
        assert_eq!(tensor.shape().dims(), [3, 2]);
        assert_eq!(tensor.values::<i32>().expect("i32").as_ref(), [1, -1, 2, 3, -1, -1]);
        let none = spec.tensor(&[row(&[])]).expect("an empty row");
        assert_eq!(none.shape().dims(), [1, 0]);
    }

    #[test]
    fn what_does_not_fit_is_named_as_tensorflow_does() {
        let spec = fixed(&[1], None, FeatureKind::Float, DType::F32);
        let refusal = |example: Example| spec.tensor(&[example]).expect_err("a wrong row").message().to_owned();
        assert_eq!(
            refusal(row(&[])),
            "Name: <unknown>, Feature: x (data type: float) is required but could not be found."
        );
        assert_eq!(
            refusal(row(&[("x", Feature::Ints(vec![1]))])),
            "Name: <unknown>, Key: x, Index: 0.  Data types don't match. Data type: int64 but expected type: float"
        );
        assert_eq!(
            refusal(row(&[("x", Feature::Floats(vec![1.0, 2.0]))])),
            "Name: <unknown>, Key: x, Index: 0.  Number of float values != expected.  Values size: 2 but output shape: [1]"
        );
        let narrow = fixed(&[1], None, FeatureKind::Int64, DType::U8);
        let error = narrow.tensor(&[row(&[("x", Feature::Ints(vec![256]))])]).expect_err("nine bits");
        assert!(error.message().contains("256"), "{error}");
    }
}
