//! Any bytes as the body of a REST predict request: its tensors must be read without panicking or taking more memory than was
//! given.

#![no_main]

use coracle::api::{Budget, JsonLimits, Ledger, read_json};
use coracle::tensor::{DType, Signature, Spec};
use libfuzzer_sys::fuzz_target;

/// Bytes that one request may make us hold.
const BUDGET: u64 = 16 << 20;

fuzz_target!(|data: &[u8]| {
    let inputs = [("x", DType::F32), ("s", DType::String), ("i", DType::I64)];
    let budget = Budget::new(BUDGET);
    for count in [1, inputs.len()] {
        let inputs = inputs[..count].iter().map(|(name, dtype)| Spec::tensor(*name, *dtype, None)).collect();
        let signature = Signature { inputs, outputs: Vec::new() };
        let ledger = Ledger::open(&budget);
        let limits = JsonLimits { depth_max: 16, elements_max: 1 << 20 };
        drop(read_json(data, &signature, limits, &ledger));
        assert!(budget.used() <= BUDGET);
    }
});
