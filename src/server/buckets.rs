//! Histograms and where their buckets end.

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
