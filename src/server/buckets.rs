//! Histograms and where their buckets end.

use std::time::Duration;

use prometheus_client::metrics::histogram::{Histogram, exponential_buckets};

/// Ten microseconds to about a minute.
pub(super) fn seconds() -> Histogram {
    Histogram::new(exponential_buckets(1e-5, 2.0, 23))
}

/// 20 microseconds to a second, finest about a third of a millisecond and about five.
pub(super) fn refusals() -> Histogram {
    let micros = [20, 50, 100, 150, 200, 250, 300, 400, 600, 1000, 1500, 2000, 3000, 4000, 5000, 7000, 10_000, 30_000];
    let ends = micros.iter().chain(&[100_000, 300_000, 1_000_000]);
    Histogram::new(ends.map(|micros| f64::from(*micros) / 1e6))
}

/// 1 to 1024 rows.
pub(super) fn rows() -> Histogram {
    Histogram::new(exponential_buckets(1.0, 2.0, 11))
}

/// TensorFlow Serving's of times: 10 microseconds to about 20 minutes.
pub(super) fn latencies() -> Histogram {
    Histogram::new(exponential_buckets(10.0, 1.8, 33))
}

/// TensorFlow Serving's of waits: 100 microseconds to about a second.
pub(super) fn waits() -> Histogram {
    Histogram::new(exponential_buckets(100.0, 1.2, 52))
}

/// TensorFlow's of graphs' runs: a millisecond to nine minutes.
pub(super) fn graph_runs() -> Histogram {
    Histogram::new(exponential_buckets(1000.0, 2.0, 20))
}

/// TensorFlow Serving's of batches: 1 to 8192 rows.
pub(super) fn sizes() -> Histogram {
    Histogram::new(exponential_buckets(1.0, 2.0, 14))
}

/// TensorFlow Serving's of examples: 1 to 16384.
pub(super) fn example_counts() -> Histogram {
    Histogram::new(exponential_buckets(1.0, 2.0, 15))
}

/// In the unit of theirs.
pub(super) fn micros(duration: Duration) -> f64 {
    duration.as_secs_f64() * 1e6
}
