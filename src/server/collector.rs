//! Where spans go: to a collector over gRPC or, where its address has a path, by HTTP; either way in the clear or over TLS.

use std::time::Duration;

use http::{HeaderMap, HeaderName, HeaderValue, Uri, header};
use tokio_rustls::rustls::RootCertStore;
use tonic::transport::{ClientTlsConfig, Endpoint};

use super::post::Mailbox;
use super::values::Values;
use crate::api::{Span, SpansClient, encode_spans, refused_spans};
use crate::error::{Error, Result};

/// Headers that a collector wants, such as its key; the first that is set counts. No setting, since settings are shown.
const HEADERS: [&str; 2] = ["OTEL_EXPORTER_OTLP_TRACES_HEADERS", "OTEL_EXPORTER_OTLP_HEADERS"];
/// Longest that a collector may take.
const TIMEOUT: Duration = Duration::from_secs(10);

/// Where spans go, and which.
#[derive(Clone, Debug)]
pub(super) struct Otlp {
    pub(super) address: Address,
    pub(super) headers: HeaderMap,
    pub(super) service: String,
    /// The part of the requests without a trace of their callers' that is recorded.
    pub(super) fraction: f64,
}

/// A collector's address.
#[derive(Clone, Debug)]
pub(super) enum Address {
    Grpc(Box<Endpoint>),
    Http(Mailbox),
}

impl Values {
    /// Where spans go, if anywhere; `variable` reads the environment.
    ///
    /// # Errors
    /// `INVALID_ARGUMENT` naming what is wrong and what was expected. No header's value is shown.
    pub(super) fn otlp(&self, variable: impl Fn(&str) -> Option<String>) -> Result<Option<Otlp>> {
        let text = self.text("otlp_endpoint");
        if text.is_empty() {
            return Ok(None);
        }
        let expected = "http://HOST:PORT or https://HOST:PORT, with a path such as /v1/traces for OTLP over HTTP";
        let uri = uri(text).ok_or_else(|| self.wrong("otlp_endpoint", expected))?;
        let address = address(&uri).map_err(|e| e.at("otlp_endpoint"))?;
        let given = HEADERS.iter().find_map(|name| Some((name, variable(name).filter(|text| !text.is_empty())?)));
        let headers = given.map_or_else(|| Ok(HeaderMap::new()), |(name, text)| headers(&text, name))?;
        let service = self.text("otlp_service_name").to_owned();
        Ok(Some(Otlp { address, headers, service, fraction: self.number("otlp_sample_fraction")? }))
    }
}

/// An address with a scheme of ours, a host, and no secret in it.
fn uri(text: &str) -> Option<Uri> {
    let uri: Uri = text.parse().ok()?;
    let is_known = matches!(uri.scheme_str(), Some("http" | "https"));
    let is_host = uri.authority().is_some_and(|host| !host.host().is_empty() && !host.as_str().contains('@'));
    Some(uri).filter(|uri| is_known && is_host && uri.query().is_none())
}

fn address(uri: &Uri) -> Result<Address> {
    let authorities = (uri.scheme_str() == Some("https")).then(authorities).transpose()?;
    if uri.path() != "/" {
        return Ok(Address::Http(Mailbox::new(uri.clone(), authorities)?));
    }
    let wrong = |e: tonic::transport::Error| Error::invalid_argument(format!("TLS cannot be set up: {e}"));
    let endpoint = Endpoint::from(uri.clone()).timeout(TIMEOUT).connect_timeout(TIMEOUT);
    let endpoint = match authorities {
        None => endpoint,
        Some(authorities) => {
            let tls = ClientTlsConfig::new().trust_anchors(authorities.roots);
            endpoint.tls_config(tls).map_err(wrong)?
        }
    };
    Ok(Address::Grpc(Box::new(endpoint)))
}

/// Whom this machine trusts: the system's, or those of `SSL_CERT_FILE` and `SSL_CERT_DIR`.
fn authorities() -> Result<RootCertStore> {
    let found = rustls_native_certs::load_native_certs();
    let mut store = RootCertStore::empty();
    store.add_parsable_certificates(found.certs);
    if store.is_empty() {
        let why = found.errors.first().map(|e| format!(" ({e})")).unwrap_or_default();
        let expected = "expected some, or a file of them in SSL_CERT_FILE";
        return Err(Error::invalid_argument(format!(
            "this machine has no certificates of authorities{why}, {expected}"
        )));
    }
    Ok(store)
}

/// `NAME=VALUE,…`, values percent-encoded.
fn headers(text: &str, variable: &str) -> Result<HeaderMap> {
    let mut headers = HeaderMap::new();
    for (index, pair) in text.split(',').map(str::trim).enumerate().filter(|(_, pair)| !pair.is_empty()) {
        let read = || {
            let (name, value) = pair.split_once('=')?;
            let name = HeaderName::from_bytes(name.trim().to_ascii_lowercase().as_bytes()).ok()?;
            let bytes: Vec<u8> = percent_encoding::percent_decode_str(value.trim()).collect();
            let mut value = HeaderValue::from_bytes(&bytes).ok()?;
            value.set_sensitive(true);
            Some((name, value))
        };
        let (name, value) = read().ok_or_else(|| {
            let expected = "expected NAME=VALUE, parted by commas, values percent-encoded";
            Error::invalid_argument(format!("{variable}: part {} is no header, {expected}", index + 1))
        })?;
        headers.append(name, value);
    }
    Ok(headers)
}

/// Sends spans. Over gRPC the connection is kept, and made again when it is lost.
#[derive(Debug)]
pub(super) struct Collector {
    service: String,
    way: Way,
}

#[derive(Debug)]
enum Way {
    Grpc(SpansClient),
    Http(Mailbox, HeaderMap),
}

impl Collector {
    /// To be called within a runtime.
    pub(super) fn new(Otlp { address, mut headers, service, .. }: Otlp) -> Self {
        let way = match address {
            Address::Grpc(endpoint) => Way::Grpc(SpansClient::new(*endpoint, headers)),
            Address::Http(mailbox) => {
                headers.insert(header::CONTENT_TYPE, HeaderValue::from_static("application/x-protobuf"));
                Way::Http(mailbox, headers)
            }
        };
        Self { service, way }
    }

    /// Sends spans; gives how many the collector did not take.
    ///
    /// # Errors
    /// Those of the connection and the collector's.
    pub(super) async fn send(&self, spans: Vec<Span>) -> Result<u64> {
        match &self.way {
            Way::Grpc(client) => client.send(&self.service, spans).await,
            Way::Http(mailbox, headers) => {
                let posting = mailbox.post(headers.clone(), encode_spans(&self.service, spans).into());
                let late = |_| Error::deadline_exceeded("the collector took too long");
                let (status, body) = tokio::time::timeout(TIMEOUT, posting).await.map_err(late)??;
                if !status.is_success() {
                    return Err(Error::unavailable(format!("the collector answers {status}")));
                }
                // Whatever else it says, it has taken them.
                Ok(refused_spans(&body).unwrap_or_default())
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_say_how_a_collector_is_spoken_to() {
        let way = |text: &str| uri(text).map(|uri| address(&uri).expect("an address"));
        assert!(matches!(way("http://localhost:4317"), Some(Address::Grpc(_))));
        assert!(matches!(way("http://localhost:4317/"), Some(Address::Grpc(_))));
        assert!(matches!(way("http://[::1]:4318/v1/traces"), Some(Address::Http(_))));
        for wrong in
            ["localhost:4317", "ftp://localhost:4317", "http://", "http://me:key@localhost:4317", "http://h/?k=1"]
        {
            assert!(uri(wrong).is_none(), "{wrong}");
        }
    }

    #[test]
    fn headers_are_read_and_never_shown() {
        let read = headers("authorization=Bearer%20secret, x-team = a=b,", "V").expect("two headers");
        assert_eq!(read.len(), 2);
        assert_eq!(read.get("authorization").map(HeaderValue::as_bytes), Some(&b"Bearer secret"[..]));
        assert_eq!(read.get("x-team").map(HeaderValue::as_bytes), Some(&b"a=b"[..]));
        assert!(!format!("{read:?}").contains("secret"));
        for wrong in ["a=b,secret", "a b=secret", "a=secret%0A"] {
            let error = headers(wrong, "V").expect_err(wrong);
            assert!(error.message().starts_with("V: part ") && !error.message().contains("secret"), "{error}");
        }
    }
}
