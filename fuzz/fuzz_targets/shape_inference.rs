//! Any bytes as an operator with inputs of any types and extents: folding, the proof of its rows, shape inference and lowering must
//! answer without panicking, hanging or taking memory for sizes that nobody has.

#![no_main]

#[path = "../../tests/hostile/operator.rs"]
mod operator;

use libfuzzer_sys::fuzz_target;

fuzz_target!(|data: &[u8]| operator::compile_any(data));
