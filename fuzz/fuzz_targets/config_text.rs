//! Any text as each kind of configuration: mistakes must be told, with their line, without panicking or taking long.

#![no_main]

use coracle::api::{config, pem_of_ssl_config};
use coracle::model::{Settings, read_signatures};
use coracle::tensor::{DType, Dim, Signature, Spec};
use libfuzzer_sys::fuzz_target;

const FILE: &str = "file";

fuzz_target!(|data: &[u8]| {
    let Some((kind, rest)) = data.split_first() else { return };
    let Ok(text) = std::str::from_utf8(rest) else { return };
    // Letters, so that seeds can be written by hand.
    match kind {
        b'm' => drop(config::model_configs(text, FILE)),
        b'b' => drop(config::batching_parameters(text, FILE)),
        b'p' => drop(config::metrics_path(text, FILE)),
        b's' => drop(pem_of_ssl_config(text, FILE)),
        b'c' => drop(Settings::read(text)),
        b'f' => drop(read_signatures(text, FILE, &model())),
        _ => {}
    }
});

/// A model of an image and a number, which gives scores and labels.
fn model() -> Signature {
    let rows = |inner: &[usize]| {
        let batch = Dim::Symbol("batch".into());
        Some(std::iter::once(batch).chain(inner.iter().map(|n| Dim::Fixed(*n))).collect())
    };
    Signature {
        inputs: vec![Spec::tensor("image", DType::F32, rows(&[1, 8, 8])), Spec::tensor("b", DType::I64, rows(&[1]))],
        outputs: vec![
            Spec::tensor("probabilities", DType::F32, rows(&[3])),
            Spec::tensor("labels", DType::String, rows(&[3])),
        ],
    }
}
