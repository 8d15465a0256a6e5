//! What becomes known of requests in logs and traces.

use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use axum::body::Body;
use axum::response::Response;
use coracle::api::DESCRIPTORS;
use coracle::api::wire::serving::prediction_service_client::PredictionServiceClient;
use coracle::api::wire::serving::{ModelSpec, PredictRequest};
use coracle::api::wire::{TensorProto, TensorShapeProto, tensor_shape_proto::Dim};
use http_body_util::{BodyExt as _, Full};
use hyper_util::rt::{TokioExecutor, TokioIo};
use hyper_util::server::conn::auto;
use hyper_util::service::TowerToHyperService;
use prost_reflect::{DescriptorPool, DynamicMessage, Value};
use tokio_rustls::TlsAcceptor;
use tokio_rustls::rustls::pki_types::pem::PemObject as _;
use tokio_rustls::rustls::pki_types::{CertificateDer, PrivateKeyDer};
use tokio_rustls::rustls::{ServerConfig, crypto};

use crate::health::channel;
use crate::http::ask;
use crate::identity::Authority;
use crate::server::{Server, command, has_adapter};

/// Longest that a change may take to be seen.
const CHANGE_MAX: Duration = Duration::from_secs(60);

const PARENT: &str = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01";
const UNSAMPLED: &str = "00-1af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-00";
const PATH: &str = "/v1/models/half_plus_two:predict";

/// A span, as far as the test looks at it.
#[derive(Clone, Debug, Default)]
struct Told {
    trace_id: String,
    parent_id: String,
    name: String,
    failed: bool,
    attributes: Vec<(String, String)>,
}

impl Told {
    fn value(&self, name: &str) -> Option<&str> {
        self.attributes.iter().find(|(key, _)| key == name).map(|(_, value)| value.as_str())
    }
}

fn hex(value: &Value) -> String {
    value.as_bytes().map(|bytes| bytes.iter().map(|b| format!("{b:02x}")).collect()).unwrap_or_default()
}

fn field(message: &DynamicMessage, name: &str) -> Value {
    message.get_field_by_name(name).unwrap_or_else(|| panic!("no field {name}")).into_owned()
}

fn messages(message: &DynamicMessage, name: &str) -> Vec<DynamicMessage> {
    let list = field(message, name);
    list.as_list().expect("a list").iter().map(|value| value.as_message().expect("messages").clone()).collect()
}

/// The spans of a message to a collector.
fn spans(message: &[u8]) -> Vec<Told> {
    let pool = DescriptorPool::decode(DESCRIPTORS).expect("descriptors");
    let name = "opentelemetry.proto.collector.trace.v1.ExportTraceServiceRequest";
    let descriptor = pool.get_message_by_name(name).expect("it is described");
    let request = DynamicMessage::decode(descriptor, message).expect("a message");
    let scopes =
        messages(&request, "resource_spans").into_iter().flat_map(|resource| messages(&resource, "scope_spans"));
    let told = |span: DynamicMessage| {
        let attribute = |pair: DynamicMessage| {
            let value = field(&pair, "value").as_message().expect("a value").clone();
            let text = field(&value, "string_value").as_str().map(str::to_owned).filter(|text| !text.is_empty());
            let number = || field(&value, "int_value").as_i64().expect("a number").to_string();
            (field(&pair, "key").as_str().expect("a name").to_owned(), text.unwrap_or_else(number))
        };
        Told {
            trace_id: hex(&field(&span, "trace_id")),
            parent_id: hex(&field(&span, "parent_span_id")),
            name: field(&span, "name").as_str().expect("a name").to_owned(),
            failed: span.has_field_by_name("status"),
            attributes: messages(&span, "attributes").into_iter().map(attribute).collect(),
        }
    };
    scopes.flat_map(|scope| messages(&scope, "spans")).map(told).collect()
}

/// What a collector was told: spans, and the `authorization` of who brought them.
type Heard = Arc<Mutex<Vec<(Told, Option<String>)>>>;

/// The pages of a collector: gRPC's, whose messages are framed, and that of OTLP over HTTP.
fn pages() -> (axum::Router, Heard) {
    let heard = Heard::default();
    let hear = |heard: &Heard, headers: &http::HeaderMap, message: &[u8]| {
        let key = headers.get("authorization").map(|key| key.to_str().expect("ASCII").to_owned());
        let mut heard = heard.lock().expect("no panic");
        heard.extend(spans(message).into_iter().map(|span| (span, key.clone())));
    };
    let (by_grpc, by_http) = (Arc::clone(&heard), Arc::clone(&heard));
    let export = axum::routing::post(move |headers: http::HeaderMap, body: Body| async move {
        let frame = body.collect().await.expect("a request").to_bytes();
        hear(&by_grpc, &headers, &frame[5..]);
        let status = http::HeaderMap::from_iter([(
            http::HeaderName::from_static("grpc-status"),
            http::HeaderValue::from_static("0"),
        )]);
        let reply = Full::from(vec![0u8; 5]).with_trailers(async move { Some(Ok(status)) });
        Response::builder().header("content-type", "application/grpc").body(Body::new(reply)).expect("a reply")
    });
    let post = axum::routing::post(move |headers: http::HeaderMap, body: Body| async move {
        assert_eq!(headers.get("content-type").expect("a type"), "application/x-protobuf");
        hear(&by_http, &headers, &body.collect().await.expect("a request").to_bytes());
        Response::new(Body::empty())
    });
    let app = axum::Router::new().route("/opentelemetry.proto.collector.trace.v1.TraceService/Export", export);
    (app.route("/v1/traces", post), heard)
}

/// Starts a collector; gives its port and what it was told.
async fn collector() -> (u16, Heard) {
    let (app, heard) = pages();
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.expect("a port");
    let port = listener.local_addr().expect("an address").port();
    tokio::spawn(async move { axum::serve(listener, app).await });
    (port, heard)
}

/// As [`collector`], one over TLS that `authority` has signed.
async fn sealed_collector(authority: &Authority) -> (u16, Heard) {
    let own = authority.issue();
    let chain = vec![CertificateDer::from_pem_slice(own.certificate.as_bytes()).expect("a certificate")];
    let key = PrivateKeyDer::from_pem_slice(own.key.as_bytes()).expect("a key");
    let mut config = ServerConfig::builder_with_provider(Arc::new(crypto::ring::default_provider()))
        .with_safe_default_protocol_versions()
        .expect("there are some")
        .with_no_client_auth()
        .with_single_cert(chain, key)
        .expect("a pair");
    config.alpn_protocols = vec![b"h2".to_vec(), b"http/1.1".to_vec()];
    let (acceptor, (app, heard)) = (TlsAcceptor::from(Arc::new(config)), pages());
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.expect("a port");
    let port = listener.local_addr().expect("an address").port();
    tokio::spawn(async move {
        while let Ok((stream, _)) = listener.accept().await {
            let (acceptor, service) = (acceptor.clone(), TowerToHyperService::new(app.clone()));
            tokio::spawn(async move {
                let stream = acceptor.accept(stream).await.expect("the server trusts the collector");
                let serving = auto::Builder::new(TokioExecutor::new());
                // Who asked may be gone.
                drop(serving.serve_connection(TokioIo::new(stream), service).await);
            });
        }
    });
    (port, heard)
}

/// Waits until the collector has been told so many spans.
async fn told(heard: &Heard, count: usize) -> Vec<(Told, Option<String>)> {
    let end = Instant::now() + CHANGE_MAX;
    while heard.lock().expect("no panic").len() < count {
        assert!(Instant::now() < end, "no spans came within {CHANGE_MAX:?}");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    heard.lock().expect("no panic").clone()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn spans_go_over_tls_and_by_http_with_a_key_that_is_never_shown() {
    if !has_adapter() {
        return;
    }
    let authority = Authority::new("collectors");
    let ((sealed, by_tls), (open, in_the_clear)) = (sealed_collector(&authority).await, collector().await);
    for (address, heard) in [
        (format!("https://localhost:{sealed}"), &by_tls),
        (format!("https://localhost:{sealed}/v1/traces"), &by_tls),
        (format!("http://127.0.0.1:{open}/v1/traces"), &in_the_clear),
    ] {
        heard.lock().expect("no panic").clear();
        let (mut command, folder) = command(&["half_plus_two"], &[&format!("--otlp_endpoint={address}")]);
        std::fs::write(folder.path().join("ca.pem"), authority.pem()).expect("writable");
        command
            .env("SSL_CERT_FILE", folder.path().join("ca.pem"))
            .env("OTEL_EXPORTER_OTLP_HEADERS", "authorization=Bearer%20secret");
        let server = Server::launch(command, folder);
        assert_eq!(ask(&server.http, "POST", PATH, &[("traceparent", PARENT)], b"{\"instances\": [1]}").code, 200);
        let spans = told(heard, 1).await;
        assert_eq!((spans[0].0.name.as_str(), spans[0].1.as_deref()), ("Predict", Some("Bearer secret")), "{address}");
        assert!(!server.log().contains("secret"), "{}", server.log());
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn spans_say_what_became_of_requests() {
    if !has_adapter() {
        return;
    }
    let (port, heard) = collector().await;
    let flags = [format!("--otlp_endpoint=http://127.0.0.1:{port}"), "--otlp_sample_fraction=0".to_owned()];
    let server = Server::start(&["half_plus_two"], &flags.each_ref().map(String::as_str));
    let shape = TensorShapeProto { dim: vec![Dim { size: 1, name: String::new() }], unknown_rank: false };
    let x = TensorProto { dtype: 1, tensor_shape: Some(shape), float_val: vec![1.0], ..TensorProto::default() };
    let model_spec = Some(ModelSpec {
        name: "half_plus_two".into(),
        signature_name: "serving_default".into(),
        ..ModelSpec::default()
    });
    let message = PredictRequest { model_spec, inputs: [("x".to_owned(), x)].into(), ..PredictRequest::default() };
    let mut request = tonic::Request::new(message);
    request.metadata_mut().insert("traceparent", PARENT.parse().expect("ASCII"));
    request.metadata_mut().insert("x-request-id", "mine".parse().expect("ASCII"));
    let reply = PredictionServiceClient::new(channel(&server).await).predict(request).await.expect("an answer");
    assert_eq!(reply.metadata().get("x-request-id").expect("its name"), "mine");
    let place = reply.metadata().get("traceparent").expect("a place").to_str().expect("ASCII");
    assert!(place.starts_with(&PARENT[..36]) && place != PARENT, "{place}");

    // A failure by REST, in the same trace; then one that its caller does not record, and one in no trace.
    let failing = ask(&server.http, "POST", PATH, &[("traceparent", PARENT)], b"{\"instances\": [\"secret\"]}");
    assert_eq!(failing.code, 400);
    assert!(failing.header("traceparent").is_some_and(|place| place.starts_with(&PARENT[..36])));
    for headers in [&[("traceparent", UNSAMPLED)][..], &[]] {
        assert_eq!(ask(&server.http, "POST", PATH, headers, b"{\"instances\": [1]}").code, 200);
    }
    let (mut spans, keys): (Vec<Told>, Vec<_>) = told(&heard, 2).await.into_iter().unzip();
    assert_eq!(keys, [None, None]);
    spans.sort_by_key(|span| span.failed);
    let [good, bad] = &spans[..] else { panic!("two spans: {spans:?}") };
    for span in [good, bad] {
        assert_eq!((span.trace_id.as_str(), span.parent_id.as_str()), (&PARENT[3..35], &PARENT[36..52]));
        assert_eq!(span.name, "Predict");
        assert!(!format!("{span:?}").contains("secret"), "{span:?}");
    }
    assert!(!good.failed && bad.failed);
    assert_eq!(good.value("coracle.request_id"), Some("mine"));
    assert_eq!(good.value("coracle.model"), Some("half_plus_two"));
    assert_eq!(good.value("coracle.version"), Some("1"));
    assert_eq!(good.value("coracle.signature"), Some("serving_default"));
    assert!(["coracle.batch_rows", "coracle.queue_us", "coracle.run_us"].iter().all(|name| good.value(name).is_some()));
    assert_eq!(bad.value("coracle.entrypoint"), Some("REST"));
}

#[test]
fn one_line_a_kind_of_failure_a_second_and_nothing_that_callers_sent() {
    if !has_adapter() {
        return;
    }
    let server = Server::start(&["half_plus_two"], &["--log_format=json"]);
    let fail = || {
        assert_eq!(
            ask(&server.http, "POST", PATH, &[("X-Request-Id", "mine")], b"{\"instances\": [\"secret\"]}").code,
            400
        )
    };
    (0..30).for_each(|_| fail());
    // The next second's first line tells how many were left out.
    std::thread::sleep(Duration::from_millis(1100));
    fail();
    let log = server.log();
    let lines: Vec<serde_json::Value> = log.lines().filter_map(|line| serde_json::from_str(line).ok()).collect();
    let refused: Vec<_> =
        lines.iter().map(|line| &line["fields"]).filter(|f| f["message"] == "a call was refused").collect();
    let left_out: u64 = refused.iter().filter_map(|fields| fields["left_out"].as_u64()).sum();
    assert_eq!(refused.len() as u64 + left_out, 31, "{log}");
    assert!(refused.len() < 31, "{log}");
    assert!(refused.iter().all(|f| f["code"] == "INVALID_ARGUMENT" && f["request_id"] == "mine"), "{log}");
    assert!(!log.contains("secret"), "{log}");
}

#[test]
fn logs_go_to_a_folder_where_one_is_named() {
    if !has_adapter() {
        return;
    }
    let folder = tempfile::tempdir().expect("a folder");
    let logs = folder.path().join("logs");
    let server = Server::start(&["half_plus_two"], &[&format!("--log_dir={}", logs.display())]);
    assert!(!server.log().contains("answering requests"));
    let files: Vec<_> = std::fs::read_dir(&logs).expect("it was made").flatten().map(|entry| entry.path()).collect();
    let [file] = &files[..] else { panic!("{files:?}") };
    let name = file.file_name().and_then(|name| name.to_str()).expect("text");
    assert!(name.starts_with("coracle.") && name.ends_with(".log"), "{name}");
    let text = std::fs::read_to_string(file).expect("text");
    assert!(text.contains("answering requests"), "{text}");
}
