//! Any bytes as a Predict request: its tensors must be decoded without panicking or taking more memory than was given.

#![no_main]

use coracle::api::{Budget, Ledger, decode_inputs};
use libfuzzer_sys::fuzz_target;

/// Bytes that one request may make us hold.
const BUDGET: u64 = 16 << 20;

fuzz_target!(|data: &[u8]| {
    let budget = Budget::new(BUDGET);
    let ledger = Ledger::open(&budget);
    drop(decode_inputs(data, &ledger));
    assert!(budget.used() <= BUDGET);
});
