//! Which port shows which identity.

use std::sync::Arc;

use super::sealed::Sealed;
use super::tls::{Source, Tls};
use super::values::Values;
use crate::error::{Error, Result};

/// TLS by port; `None`: in the clear.
#[derive(Clone, Debug, Default)]
pub(super) struct Identities {
    pub(super) grpc: Option<Arc<Tls>>,
    pub(super) http: Option<Arc<Tls>>,
}

impl Identities {
    /// Warns when one port has an identity and the other has none.
    pub(super) fn warn_of_bare_port(&self) {
        let (covered, bare) = match (&self.grpc, &self.http) {
            (Some(_), None) => ("gRPC", "HTTP"),
            (None, Some(_)) => ("HTTP", "gRPC"),
            _ => return,
        };
        tracing::warn!(
            "the {covered} port has TLS, the {bare} port has none: what goes over it can be read and changed"
        );
    }

    /// Their files, to be followed.
    pub(super) fn sealed(&self) -> Vec<Sealed> {
        let both = self.grpc.iter().chain(self.http.iter().filter(|http| {
            // One identity for both ports is renewed once.
            !self.grpc.as_ref().is_some_and(|grpc| Arc::ptr_eq(grpc, http))
        }));
        let follow = |tls: &Arc<Tls>| {
            let renewed = Arc::clone(tls);
            Sealed::new("certificates", tls.seen().clone(), Box::new(move || renewed.renew()))
        };
        both.map(follow).collect()
    }
}

impl Values {
    /// The identities that the settings name: a port's own SSLConfig, else the files for all ports.
    ///
    /// # Errors
    /// Each mistake, with its place and what was expected.
    pub(super) fn identities(&self) -> Result<Identities, Vec<Error>> {
        let mut wrong = Vec::new();
        let mut made = |source: Result<Option<Source>>| {
            let source = source.unwrap_or_else(|error| {
                wrong.push(error);
                None
            });
            source.and_then(|source| Tls::new(source).map_err(|errors| wrong.extend(errors)).ok())
        };
        let own = |name: &str| Ok(self.path(name).map(Source::SslConfig));
        let shared = made(self.identity_files());
        let grpc = made(own("ssl_config_file")).or_else(|| shared.clone());
        let http = made(own("rest_ssl_config_file")).or(shared);
        if wrong.is_empty() { Ok(Identities { grpc, http }) } else { Err(wrong) }
    }

    fn identity_files(&self) -> Result<Option<Source>> {
        let clients_must = self.one_of("tls_client_certificates", &["required", "optional"])? == 0;
        let client_ca = self.path("tls_client_ca_file");
        match (self.path("tls_cert_file"), self.path("tls_key_file")) {
            (Some(certificates), Some(key)) => Ok(Some(Source::Files { certificates, key, client_ca, clients_must })),
            (Some(_), None) => Err(self.wrong("tls_cert_file", "tls_key_file beside it")),
            (None, Some(_)) => Err(self.wrong("tls_key_file", "tls_cert_file beside it")),
            (None, None) if client_ca.is_some() => {
                Err(self.wrong("tls_client_ca_file", "tls_cert_file and tls_key_file beside it"))
            }
            (None, None) => Ok(None),
        }
    }
}
