//! Posts to another server over HTTP/1.1, each on a connection of its own: for what is sent once a second at most.

use std::fmt;
use std::sync::Arc;

use bytes::Bytes;
use http::{HeaderMap, Request, StatusCode, Uri, header};
use http_body_util::{BodyExt as _, Full, Limited};
use hyper::client::conn::http1;
use hyper_util::rt::TokioIo;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;
use tokio_rustls::rustls::pki_types::ServerName;
use tokio_rustls::rustls::{ClientConfig, RootCertStore, crypto};

use crate::error::{Error, Result};

/// Bytes of a reply.
const REPLY_MAX: usize = 64 << 10;

/// Where to post to.
#[derive(Clone)]
pub(super) struct Mailbox {
    uri: Uri,
    host: String,
    port: u16,
    /// `None`: in the clear.
    tls: Option<(TlsConnector, ServerName<'static>)>,
}

impl fmt::Debug for Mailbox {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Mailbox").field("uri", &self.uri).finish_non_exhaustive()
    }
}

impl Mailbox {
    /// The one at `uri`; over TLS, with those whom `authorities` have signed, where they are given.
    ///
    /// # Errors
    /// `INVALID_ARGUMENT` where the host can be no name of a certificate, and what keeps TLS from being set up.
    pub(super) fn new(uri: Uri, authorities: Option<RootCertStore>) -> Result<Self> {
        let host = uri.host().unwrap_or_default().trim_matches(['[', ']']).to_owned();
        let tls = authorities.map(|authorities| {
            let name = ServerName::try_from(host.clone())
                .map_err(|e| Error::invalid_argument(format!("{host}: {e}, expected a host's name or address")))?;
            let config = ClientConfig::builder_with_provider(Arc::new(crypto::ring::default_provider()))
                .with_safe_default_protocol_versions()
                .map_err(|e| Error::internal(format!("TLS cannot be set up: {e}")))?
                .with_root_certificates(authorities)
                .with_no_client_auth();
            Ok::<_, Error>((TlsConnector::from(Arc::new(config)), name))
        });
        let tls = tls.transpose()?;
        let port = uri.port_u16().unwrap_or(if tls.is_some() { 443 } else { 80 });
        Ok(Self { uri, host, port, tls })
    }

    /// Posts `body`; gives what was answered.
    ///
    /// # Errors
    /// `UNAVAILABLE` where nobody answers.
    pub(super) async fn post(&self, headers: HeaderMap, body: Bytes) -> Result<(StatusCode, Bytes)> {
        let stream = TcpStream::connect((self.host.as_str(), self.port)).await.map_err(silent)?;
        match &self.tls {
            None => self.ask(stream, headers, body).await,
            Some((connector, name)) => {
                let stream = connector.connect(name.clone(), stream).await.map_err(silent)?;
                self.ask(stream, headers, body).await
            }
        }
    }

    async fn ask<I>(&self, io: I, headers: HeaderMap, body: Bytes) -> Result<(StatusCode, Bytes)>
    where
        I: AsyncRead + AsyncWrite + Unpin + Send + 'static,
    {
        let (mut sender, connection) = http1::handshake(TokioIo::new(io)).await.map_err(silent)?;
        // Ends with the sender; what goes wrong is told to it.
        tokio::spawn(connection);
        let host = self.uri.authority().map_or("", |authority| authority.as_str());
        let mut request =
            Request::post(self.uri.path()).header(header::HOST, host).body(Full::new(body)).map_err(silent)?;
        request.headers_mut().extend(headers);
        let (head, body) = sender.send_request(request).await.map_err(silent)?.into_parts();
        let body = Limited::new(body, REPLY_MAX).collect().await;
        let body = body.map_err(|e| Error::unavailable(format!("the reply cannot be read: {e}")))?;
        Ok((head.status, body.to_bytes()))
    }
}

fn silent(why: impl fmt::Display) -> Error {
    Error::unavailable(format!("no collector answers: {why}"))
}
