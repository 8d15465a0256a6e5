//! Any bytes as a file of recorded requests: its records must be read without panicking or taking memory for lengths that are not
//! there. What claims to be a record is also taken for one whatever its checksums say.

#![no_main]

use coracle::api::wire::serving::PredictionLog;
use coracle::api::{Budget, Ledger, Records, decode_inputs};
use libfuzzer_sys::fuzz_target;
use prost::Message as _;

/// Bytes that one request may make us hold.
const BUDGET: u64 = 16 << 20;
const RECORD_BYTES_MAX: u64 = 1 << 20;

fuzz_target!(|data: &[u8]| {
    let budget = Budget::new(BUDGET);
    let ledger = Ledger::open(&budget);
    let mut records = Records::new(data, RECORD_BYTES_MAX);
    while let Ok(Some(record)) = records.next(|bytes| ledger.take(bytes)) {
        drop(PredictionLog::decode(record));
    }
    assert!(records.offset() <= data.len() as u64);
    drop(PredictionLog::decode(data));
    drop(decode_inputs(data, &ledger));
    assert!(budget.used() <= BUDGET);
});
