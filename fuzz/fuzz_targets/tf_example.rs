//! Any bytes as serialised examples for a model with features of every form and type: they must be read without panicking or taking
//! more memory than was given.

#![no_main]

use std::sync::LazyLock;

use bytes::Bytes;
use coracle::api::{Budget, Ledger, read_examples};
use coracle::model::{Faces, read_signatures};
use coracle::tensor::{DType, Dim, Signature, Spec};
use libfuzzer_sys::fuzz_target;

/// Bytes that one request may make us hold.
const BUDGET: u64 = 16 << 20;

const SIGNATURES: &str = r#"
[read]
method = "regress"
outputs = { outputs = "y" }
[read.features.x]
kind = "FixedLen"
dtype = "float"
shape = [2]
[read.features.n]
kind = "VarLen"
dtype = "int64"
default = 7
[read.features.s]
key = "text"
kind = "FixedLen"
dtype = "bytes"
shape = []
default = "none"
"#;

static FACES: LazyLock<Faces> = LazyLock::new(|| {
    let rows = |inner: &[Dim]| Some(std::iter::once(Dim::Symbol("batch".into())).chain(inner.iter().cloned()).collect());
    let model = Signature {
        inputs: vec![
            Spec::tensor("x", DType::F32, rows(&[Dim::Fixed(2)])),
            Spec::tensor("n", DType::I64, rows(&[Dim::Unknown])),
            Spec::tensor("s", DType::String, rows(&[])),
        ],
        outputs: vec![Spec::tensor("y", DType::F32, rows(&[]))],
    };
    read_signatures(SIGNATURES, "signatures.toml", &model).expect("the signatures are right")
});

fuzz_target!(|data: &[u8]| {
    let face = FACES.get("read").expect("it was just read");
    let budget = Budget::new(BUDGET);
    let ledger = Ledger::open(&budget);
    let whole = Bytes::copy_from_slice(data);
    // The whole as one, and its halves as two: rows of unequal lengths.
    let half = whole.len() / 2;
    for rows in [vec![whole.clone()], vec![whole.slice(..half), whole.slice(half..)]] {
        drop(read_examples(face, &rows, &ledger));
        assert!(budget.used() <= BUDGET);
    }
});
