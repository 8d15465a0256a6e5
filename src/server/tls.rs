//! TLS of one port: who we are, whom we ask for a certificate, renewed while connections come.

use std::fmt;
use std::path::PathBuf;
use std::sync::Arc;

use arc_swap::ArcSwap;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio_rustls::TlsAcceptor;
use tokio_rustls::rustls::pki_types::pem::PemObject as _;
use tokio_rustls::rustls::pki_types::{CertificateDer, PrivateKeyDer};
use tokio_rustls::rustls::server::WebPkiClientVerifier;
use tokio_rustls::rustls::{self, RootCertStore, ServerConfig};
use tokio_rustls::server::TlsStream;

use super::sealed::{Seen, read_sealed};
use crate::api::{Pem, PemText, pem_of_ssl_config};
use crate::error::{Error, Result};

/// Protocols that a port speaks, the preferred first.
const PROTOCOLS: [&[u8]; 2] = [b"h2", b"http/1.1"];

/// Where the texts of a port's TLS come from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Source {
    /// One of TensorFlow Serving's SSLConfig files.
    SslConfig(PathBuf),
    /// A file for each.
    Files {
        certificates: PathBuf,
        key: PathBuf,
        /// `None`: clients are not asked for a certificate.
        client_ca: Option<PathBuf>,
        /// Clients without a certificate are sent away.
        clients_must: bool,
    },
}

impl Source {
    /// The files that are read.
    fn paths(&self) -> Vec<PathBuf> {
        match self {
            Source::SslConfig(path) => vec![path.clone()],
            Source::Files { certificates, key, client_ca, .. } => {
                [certificates, key].into_iter().chain(client_ca).cloned().collect()
            }
        }
    }

    fn read(&self) -> Result<Pem, Vec<Error>> {
        let text = |path: &PathBuf| -> Result<PemText> {
            Ok(PemText { place: path.display().to_string(), text: read_sealed(path)? })
        };
        match self {
            Source::SslConfig(path) => {
                let PemText { place, text } = text(path).map_err(|e| vec![e])?;
                pem_of_ssl_config(&text, &place)
            }
            Source::Files { certificates, key, client_ca, clients_must } => {
                match (text(certificates), text(key), client_ca.as_ref().map(text).transpose()) {
                    (Ok(certificates), Ok(key), Ok(client_ca)) => {
                        Ok(Pem { certificates, key, client_ca, clients_must: *clients_must })
                    }
                    (a, b, c) => Err([a.err(), b.err(), c.err()].into_iter().flatten().collect()),
                }
            }
        }
    }
}

/// A port's TLS.
pub(super) struct Tls {
    source: Source,
    /// The files when they were first read.
    seen: Seen,
    current: ArcSwap<ServerConfig>,
}

impl fmt::Debug for Tls {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Tls").field("source", &self.source).finish_non_exhaustive()
    }
}

impl Tls {
    /// As the files say now.
    ///
    /// # Errors
    /// Each mistake, with its place and what was expected.
    pub(super) fn new(source: Source) -> Result<Arc<Self>, Vec<Error>> {
        let seen = Seen::now(source.paths());
        let current = ArcSwap::from_pointee(server_config(&source.read()?)?);
        Ok(Arc::new(Self { source, seen, current }))
    }

    /// The files that it was made from.
    pub(super) fn seen(&self) -> &Seen {
        &self.seen
    }

    /// Takes up what the files say now, for connections that come from now on.
    ///
    /// # Errors
    /// Each mistake; then nothing changes.
    pub(super) fn renew(&self) -> Result<(), Vec<Error>> {
        self.current.store(Arc::new(server_config(&self.source.read()?)?));
        Ok(())
    }

    /// Shakes hands.
    ///
    /// # Errors
    /// Those of the connection and of the caller's certificate.
    pub(super) async fn accept<I: AsyncRead + AsyncWrite + Unpin>(&self, io: I) -> std::io::Result<TlsStream<I>> {
        TlsAcceptor::from(self.current.load_full()).accept(io).await
    }
}

/// Whether the caller has shown a certificate, which then was verified.
pub(super) fn has_certificate<I>(stream: &TlsStream<I>) -> bool {
    stream.get_ref().1.peer_certificates().is_some_and(|chain| !chain.is_empty())
}

/// # Errors
/// `INVALID_ARGUMENT` for each text that is not what it should be. No error shows a text.
fn server_config(pem: &Pem) -> Result<ServerConfig, Vec<Error>> {
    let (chain, key, roots) = (certificates(&pem.certificates), private_key(&pem.key), roots(pem.client_ca.as_ref()));
    let (chain, key, roots) = match (chain, key, roots) {
        (Ok(chain), Ok(key), Ok(roots)) => (chain, key, roots),
        (a, b, c) => return Err([a.err(), b.err(), c.err()].into_iter().flatten().collect()),
    };
    let broken = |e: rustls::Error| vec![Error::internal(format!("TLS cannot be set up: {e}"))];
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let builder = ServerConfig::builder_with_provider(Arc::clone(&provider)).with_safe_default_protocol_versions();
    let builder = builder.map_err(broken)?;
    let builder = match roots {
        None => builder.with_no_client_auth(),
        Some(roots) => {
            let verifier = WebPkiClientVerifier::builder_with_provider(Arc::new(roots), provider);
            let verifier = if pem.clients_must { verifier } else { verifier.allow_unauthenticated() };
            let verifier = verifier.build().map_err(|e| vec![Error::internal(format!("TLS cannot be set up: {e}"))])?;
            builder.with_client_cert_verifier(verifier)
        }
    };
    let mut config = builder.with_single_cert(chain, key).map_err(|e| {
        let (own, key) = (&pem.certificates.place, &pem.key.place);
        vec![match e {
            rustls::Error::InconsistentKeys(_) => Error::invalid_argument(format!(
                "{own}: the first certificate does not belong to the key of {key}, expected a pair"
            )),
            e => Error::invalid_argument(format!("{own}: {e}, expected a certificate and its key")),
        }]
    })?;
    config.alpn_protocols = PROTOCOLS.map(<[u8]>::to_vec).to_vec();
    Ok(config)
}

fn certificates(pem: &PemText) -> Result<Vec<CertificateDer<'static>>> {
    let expected = |what: &str| Error::invalid_argument(format!("{}: {what}, expected certificates in PEM", pem.place));
    let chain: Result<Vec<_>, _> = CertificateDer::pem_slice_iter(pem.text.as_bytes()).collect();
    match chain {
        Ok(chain) if chain.is_empty() => Err(expected("no certificate")),
        Ok(chain) => Ok(chain),
        Err(_) => Err(expected("damaged text")),
    }
}

fn private_key(pem: &PemText) -> Result<PrivateKeyDer<'static>> {
    PrivateKeyDer::from_pem_slice(pem.text.as_bytes()).map_err(|_| {
        let what = if pem.text.contains("ENCRYPTED") { "the key needs a pass phrase" } else { "no private key" };
        let expected = "a plain one in PEM (PKCS#8, PKCS#1 or SEC1)";
        Error::invalid_argument(format!("{}: {what}, expected {expected}", pem.place))
    })
}

fn roots(pem: Option<&PemText>) -> Result<Option<RootCertStore>> {
    let Some(pem) = pem else { return Ok(None) };
    let mut roots = RootCertStore::empty();
    for (index, certificate) in certificates(pem)?.into_iter().enumerate() {
        roots.add(certificate).map_err(|e| {
            let expected = "one that signs those of clients";
            Error::invalid_argument(format!("{}: certificate {}: {e}, expected {expected}", pem.place, index + 1))
        })?;
    }
    Ok(Some(roots))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A certificate and its key, in PEM.
    fn pair() -> (String, String) {
        let made = rcgen::generate_simple_self_signed(["localhost".to_owned()]).expect("it can be made");
        (made.cert.pem(), made.signing_key.serialize_pem())
    }

    fn pem(certificates: &str, key: &str, client_ca: Option<&str>) -> Pem {
        let text = |place: &str, text: &str| PemText { place: place.into(), text: text.into() };
        Pem {
            certificates: text("c.pem", certificates),
            key: text("k.pem", key),
            client_ca: client_ca.map(|ca| text("ca.pem", ca)),
            clients_must: true,
        }
    }

    #[test]
    fn mistakes_are_told_with_their_place_and_show_no_key() {
        let ((certificate, key), (_, other)) = (pair(), pair());
        assert!(server_config(&pem(&certificate, &key, Some(&certificate))).is_ok());
        let cases = [
            (pem("", &key, None), "c.pem: no certificate, expected certificates in PEM"),
            (pem(&key, &key, None), "c.pem: no certificate, expected certificates in PEM"),
            (pem(&certificate[..80], &key, None), "c.pem: damaged text, expected certificates in PEM"),
            (pem(&certificate, &certificate, None), "k.pem: no private key, expected a plain one in PEM"),
            (
                pem(&certificate, &key.replace("PRIVATE", "ENCRYPTED PRIVATE"), None),
                "k.pem: the key needs a pass phrase",
            ),
            (pem(&certificate, &other, None), "c.pem: the first certificate does not belong to the key of k.pem"),
            (pem(&certificate, &key, Some("")), "ca.pem: no certificate, expected certificates in PEM"),
        ];
        for (pem, expected) in cases {
            let told = server_config(&pem).expect_err(expected).iter().map(ToString::to_string).collect::<String>();
            assert!(told.contains(expected), "{expected}\n{told}");
            assert!(key.lines().skip(1).all(|line| line.starts_with("---") || !told.contains(line)), "{told}");
        }
        assert_eq!(server_config(&pem("", "", None)).expect_err("both").len(), 2, "all at once");
    }

    #[test]
    fn a_broken_new_pair_leaves_the_old_one() {
        let folder = tempfile::tempdir().expect("a folder");
        let (own, secret) = (folder.path().join("c.pem"), folder.path().join("k.pem"));
        let ((certificate, key), (_, other)) = (pair(), pair());
        let write = |path: &PathBuf, text: &str| std::fs::write(path, text).expect("writable");
        write(&own, &certificate);
        write(&secret, &key);
        let source = Source::Files { certificates: own, key: secret.clone(), client_ca: None, clients_must: false };
        let tls = Tls::new(source).expect("a pair");
        let before = tls.current.load_full();
        write(&secret, &other);
        assert!(tls.renew().is_err());
        assert!(Arc::ptr_eq(&before, &tls.current.load_full()));
        write(&secret, &key);
        tls.renew().expect("a pair again");
        assert!(!Arc::ptr_eq(&before, &tls.current.load_full()));
    }
}
