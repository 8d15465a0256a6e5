//! Spans to a collector of OpenTelemetry's: OTLP's messages, and its calls over gRPC.

use http::HeaderMap;
use http::uri::PathAndQuery;
use prost::Message as _;
use tonic::Extensions;
use tonic::metadata::MetadataMap;
use tonic::transport::{Channel, Endpoint};
use tonic_prost::ProstCodec;

use self::wire::{
    ExportTraceServiceRequest, ExportTraceServiceResponse, InstrumentationScope, Resource, ResourceSpans, ScopeSpans,
};
use super::status::code;
use super::trace::TraceParent;
use crate::error::{Error, Result};

/// The messages, generated from proto/.
#[allow(missing_docs, clippy::all, unreachable_pub, unused_qualifications)]
mod wire {
    tonic::include_proto!("opentelemetry.proto.collector.trace.v1");
}

const EXPORT: PathAndQuery = PathAndQuery::from_static("/opentelemetry.proto.collector.trace.v1.TraceService/Export");
/// A span that answers somebody else's request.
const OF_A_SERVER: i32 = 2;
const FAILED: i32 = 2;

/// What is said of a span beyond its times.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Value {
    /// A text.
    Text(String),
    /// A number.
    Number(i64),
}

/// A request that has ended.
#[derive(Clone, Debug)]
pub struct Span {
    /// Its place in a trace.
    pub own: TraceParent,
    /// The place of its caller's span, if it has one.
    pub parent_id: Option<u64>,
    /// What was called.
    pub name: &'static str,
    /// Nanoseconds since 1970.
    pub start_ns: u64,
    /// Nanoseconds since 1970.
    pub end_ns: u64,
    /// Names and values.
    pub attributes: Vec<(&'static str, Value)>,
    /// The canonical code, for errors.
    pub failure: Option<&'static str>,
}

/// Sends spans over gRPC. The connection is made when there is something to send, and again when it is lost.
#[derive(Clone, Debug)]
pub struct SpansClient {
    channel: Channel,
    headers: HeaderMap,
}

impl SpansClient {
    /// To the collector at `address`, with these headers each time. To be called within a runtime.
    pub fn new(address: Endpoint, headers: HeaderMap) -> Self {
        Self { channel: address.connect_lazy(), headers }
    }

    /// Sends spans of the server `service`; gives how many the collector did not take.
    ///
    /// # Errors
    /// Those of the connection and the collector's.
    pub async fn send(&self, service: &str, spans: Vec<Span>) -> Result<u64> {
        let mut client = tonic::client::Grpc::new(self.channel.clone());
        let failed = |status: tonic::Status| Error::new(code(&status), status.message());
        client.ready().await.map_err(|e| Error::unavailable(format!("no collector answers: {e}")))?;
        let headers = MetadataMap::from_headers(self.headers.clone());
        let request = tonic::Request::from_parts(headers, Extensions::new(), request(service, spans));
        let codec = ProstCodec::<ExportTraceServiceRequest, ExportTraceServiceResponse>::default();
        Ok(refused(client.unary(request, EXPORT, codec).await.map_err(failed)?.into_inner()))
    }
}

/// The message that brings a collector spans of the server `service`.
pub fn encode_spans(service: &str, spans: Vec<Span>) -> Vec<u8> {
    request(service, spans).encode_to_vec()
}

/// How many spans the collector did not take that answers `reply`; `None` where that is no answer.
pub fn refused_spans(reply: &[u8]) -> Option<u64> {
    ExportTraceServiceResponse::decode(reply).ok().map(refused)
}

fn refused(reply: ExportTraceServiceResponse) -> u64 {
    reply.partial_success.map_or(0, |partly| u64::try_from(partly.rejected_spans).unwrap_or(0))
}

fn request(service: &str, spans: Vec<Span>) -> ExportTraceServiceRequest {
    let service = attribute("service.name", Value::Text(service.to_owned()));
    let version = attribute("service.version", Value::Text(env!("CARGO_PKG_VERSION").to_owned()));
    let scope = InstrumentationScope { name: "coracle".to_owned(), version: env!("CARGO_PKG_VERSION").to_owned() };
    let spans = ScopeSpans { scope: Some(scope), spans: spans.into_iter().map(message).collect() };
    let resource = Resource { attributes: vec![service, version] };
    ExportTraceServiceRequest {
        resource_spans: vec![ResourceSpans { resource: Some(resource), scope_spans: vec![spans] }],
    }
}

fn message(span: Span) -> wire::Span {
    let id = |id: u64| id.to_be_bytes().to_vec().into();
    wire::Span {
        trace_id: span.own.trace_id.to_be_bytes().to_vec().into(),
        span_id: id(span.own.span_id),
        parent_span_id: span.parent_id.map(id).unwrap_or_default(),
        name: span.name.to_owned(),
        kind: OF_A_SERVER,
        start_time_unix_nano: span.start_ns,
        end_time_unix_nano: span.end_ns,
        attributes: span.attributes.into_iter().map(|(name, value)| attribute(name, value)).collect(),
        status: span.failure.map(|name| wire::Status { message: name.to_owned(), code: FAILED }),
    }
}

fn attribute(name: &str, value: Value) -> wire::KeyValue {
    let value = match value {
        Value::Text(text) => wire::any_value::Value::StringValue(text),
        Value::Number(number) => wire::any_value::Value::IntValue(number),
    };
    wire::KeyValue { key: name.to_owned(), value: Some(wire::AnyValue { value: Some(value) }) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn spans_are_messages() {
        let own = TraceParent { trace_id: 1 << 120, span_id: 2, is_sampled: true };
        let attributes = vec![("model", Value::Text("m".into())), ("version", Value::Number(3))];
        let (start_ns, end_ns) = (5, 6);
        let span =
            Span { own, parent_id: Some(1), name: "Predict", start_ns, end_ns, attributes, failure: Some("INTERNAL") };
        let mut request = ExportTraceServiceRequest::decode(&*encode_spans("s", vec![span])).expect("a message");
        let mut resource = request.resource_spans.remove(0);
        let sent = resource.scope_spans.remove(0).spans.remove(0);
        assert_eq!((sent.trace_id.len(), sent.trace_id[0], &sent.span_id[..]), (16, 1, &[0, 0, 0, 0, 0, 0, 0, 2][..]));
        assert_eq!((sent.parent_span_id[7], sent.status.expect("a failure").code), (1, 2));
        assert_eq!(sent.attributes.len(), 2);
        assert_eq!(resource.resource.expect("a service").attributes[0].key, "service.name");
        // partial_success { rejected_spans: 3 }
        assert_eq!(
            (refused_spans(&[10, 2, 8, 3]), refused_spans(&[]), refused_spans(b"<html>")),
            (Some(3), Some(0), None)
        );
    }
}
