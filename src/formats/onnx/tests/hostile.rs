//! Damaged files: whatever the bytes, the importer answers.

use std::path::{Path, PathBuf};

use bytes::Bytes;
use proptest::prelude::*;

use super::super::data::decode;
use super::super::import::import_bytes;
use super::samples::{file, twice};

/// Our own model, and those that the integration tests load.
fn seeds() -> Vec<Bytes> {
    let mut seeds = vec![file(twice())];
    let models = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/models");
    let mut folders: Vec<PathBuf> =
        std::fs::read_dir(models).into_iter().flatten().filter_map(|e| Some(e.ok()?.path())).collect();
    folders.sort();
    seeds.extend(folders.iter().filter_map(|f| std::fs::read(f.join("1/model.onnx")).ok()).map(Bytes::from));
    seeds
}

/// One wound: where (as a share of the length), of which kind, and with which bytes.
#[derive(Clone, Debug)]
struct Wound {
    place: f64,
    kind: u8,
    bytes: Vec<u8>,
}

fn wound() -> impl Strategy<Value = Wound> {
    let interesting = prop_oneof![
        prop::collection::vec(any::<u8>(), 1..4),
        Just(vec![0x00]),
        Just(vec![0x7f]),
        // Varints: -1, the largest i32, 2^40.
        Just(vec![0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0x01]),
        Just(vec![0xff, 0xff, 0xff, 0xff, 0x07]),
        Just(vec![0x80, 0x80, 0x80, 0x80, 0x80, 0x20]),
    ];
    (0.0..1.0, 0..4u8, interesting).prop_map(|(place, kind, bytes)| Wound { place, kind, bytes })
}

fn apply(data: &mut Vec<u8>, wound: &Wound) {
    let at = (wound.place * data.len() as f64) as usize;
    let end = (at + wound.bytes.len()).min(data.len());
    match wound.kind {
        0 => drop(data.splice(at..end, wound.bytes.iter().copied())),
        1 => drop(data.splice(at..at, wound.bytes.iter().copied())),
        2 => drop(data.drain(at..end)),
        _ => data.truncate(at),
    }
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn damaged_models_are_answered(seed in any::<prop::sample::Index>(), wounds in prop::collection::vec(wound(), 1..6)) {
        let seeds = seeds();
        let mut data = seed.get(&seeds).to_vec();
        for wound in &wounds {
            apply(&mut data, wound);
        }
        let data = Bytes::from(data);
        // Whether it is an error does not matter; that it neither panics nor takes memory does.
        drop(import_bytes(data.clone(), Path::new("/nonexistent")));
        drop(decode(data));
    }
}
