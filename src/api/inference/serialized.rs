//! `tf.Example` messages as rows of features.

use bytes::Bytes;
use prost::Message as _;

use crate::api::budget::Ledger;
use crate::api::tfs::wire;
use crate::error::{Error, Result};
use crate::model::{Example, Feature};

/// Bytes for each value of a row that is copied.
const VALUE_BYTES: usize = 32;
/// Bytes for each feature of a row that is copied.
const FEATURE_BYTES: usize = 128;

/// The row that a message stands for; features without a kind are left out.
pub(in crate::api) fn row(message: wire::Example) -> Example {
    use wire::feature::Kind;
    let features = message.features.map(|f| f.feature).unwrap_or_default();
    let kept = features.into_iter().filter_map(|(name, feature)| {
        let feature = match feature.kind? {
            Kind::BytesList(list) => Feature::Bytes(list.value),
            Kind::FloatList(list) => Feature::Floats(list.value),
            Kind::Int64List(list) => Feature::Ints(list.value),
        };
        Some((name, feature))
    });
    kept.collect()
}

/// The message that a row is.
pub(in crate::api) fn example(row: &Example) -> wire::Example {
    use wire::feature::Kind;
    let feature = |(name, feature): (&String, &Feature)| {
        let kind = match feature {
            Feature::Bytes(value) => Kind::BytesList(wire::BytesList { value: value.clone() }),
            Feature::Floats(value) => Kind::FloatList(wire::FloatList { value: value.clone() }),
            Feature::Ints(value) => Kind::Int64List(wire::Int64List { value: value.clone() }),
        };
        (name.clone(), wire::Feature { kind: Some(kind) })
    };
    wire::Example { features: Some(wire::Features { feature: row.iter().map(feature).collect() }) }
}

/// The row that the `index`th serialised example stands for.
///
/// # Errors
/// `INVALID_ARGUMENT` for bytes that are none.
pub(super) fn decode_row(index: usize, bytes: Bytes) -> Result<Example> {
    let message = wire::Example::decode(bytes);
    message.map(row).map_err(|e| Error::invalid_argument(format!("Could not parse example input {index}: {e}")))
}

/// `examples`, each with those features of `context` that it has not itself. The copies are taken from `ledger` first.
///
/// # Errors
/// `RESOURCE_EXHAUSTED` when they are more than the ledger gives.
pub(in crate::api) fn with_context(
    context: &Example,
    mut examples: Vec<Example>,
    ledger: &Ledger,
) -> Result<Vec<Example>> {
    let bytes = context.iter().map(|(name, feature)| FEATURE_BYTES + name.len() + feature.len() * VALUE_BYTES);
    ledger.take((bytes.sum::<usize>() as u64).saturating_mul(examples.len() as u64))?;
    for example in &mut examples {
        for (name, feature) in context {
            example.entry(name.clone()).or_insert_with(|| feature.clone());
        }
    }
    Ok(examples)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::api::budget::Budget;

    #[test]
    fn an_examples_own_features_win_over_the_contexts() {
        let ledger = Ledger::open(&Budget::new(1 << 20));
        let floats = |v: f32| Feature::Floats(vec![v]);
        let context: Example = [("a".to_owned(), floats(1.0)), ("b".to_owned(), floats(2.0))].into();
        let rows = vec![[("a".to_owned(), floats(9.0))].into(), Example::new()];
        let merged = with_context(&context, rows, &ledger).expect("it fits");
        assert_eq!((&merged[0]["a"], &merged[0]["b"]), (&floats(9.0), &floats(2.0)));
        assert_eq!(merged[1], context);
        assert_eq!(row(example(&context)), context);
    }

    #[test]
    fn serialised_rows_are_read_and_kinds_that_are_missing_passed_over() {
        let floats = wire::feature::Kind::FloatList(wire::FloatList { value: vec![0.5] });
        let feature = |kind| wire::Feature { kind };
        let features = [("x".to_owned(), feature(Some(floats))), ("none".to_owned(), feature(None))];
        let message = wire::Example { features: Some(wire::Features { feature: features.into() }) };
        let read = decode_row(0, message.encode_to_vec().into()).expect("an example");
        assert_eq!(read, [("x".to_owned(), Feature::Floats(vec![0.5]))].into());
        assert!(decode_row(3, Bytes::from_static(b"\xff")).expect_err("no example").message().contains("input 3"));
    }
}
