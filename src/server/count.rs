//! A counter under a name of somebody else's.

use prometheus_client::encoding::{EncodeMetric, MetricEncoder};
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::{MetricType, TypedMetric};

/// A counter whose name does not end in `_total`, as TensorFlow Serving's do not; OpenMetrics then calls it unknown.
#[derive(Clone, Debug, Default)]
pub(super) struct Count(pub(super) Counter);

impl EncodeMetric for Count {
    fn encode(&self, mut encoder: MetricEncoder<'_>) -> std::fmt::Result {
        encoder.encode_gauge(&i64::try_from(self.0.get()).unwrap_or(i64::MAX))
    }

    fn metric_type(&self) -> MetricType {
        MetricType::Unknown
    }
}

impl TypedMetric for Count {
    const TYPE: MetricType = MetricType::Unknown;
}
