//! Accepting the connections of a listener: as many as there may be, each answered by itself.

use std::net::SocketAddr;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{Semaphore, watch};
use tokio::task::JoinSet;

use super::connection::{Ending, serve, stopped};
use super::limits::Limits;
use super::telemetry::{Metrics, Refused};
use super::tls::{Tls, has_certificate};
use crate::api::{Budget, Peer, Seldom};
use crate::error::{Error, Result};

/// How long accepting rests after the system could not give a connection: files may be closed meanwhile.
const REST: Duration = Duration::from_millis(50);

/// A port: what it is called, what its connections may take, who we are there.
#[derive(Clone, Debug)]
pub(super) struct Port {
    /// As metrics and logs name it.
    pub(super) name: &'static str,
    pub(super) limits: Arc<Limits>,
    /// `None`: in the clear.
    pub(super) tls: Option<Arc<Tls>>,
    /// What the requests of all connections share.
    pub(super) budget: Arc<Budget>,
    /// The part of it that those of one may hold.
    pub(super) connection_fraction: f64,
    pub(super) metrics: Arc<Metrics>,
}

/// Gives connections.
trait Listen {
    type Io: AsyncRead + AsyncWrite + Unpin + Send + 'static;

    async fn next(&self) -> std::io::Result<(Self::Io, Peer)>;
}

impl Listen for TcpListener {
    type Io = TcpStream;

    async fn next(&self) -> std::io::Result<(TcpStream, Peer)> {
        let (connection, address): (TcpStream, SocketAddr) = self.accept().await?;
        // Replies are small and awaited: they must not wait for company. A connection without the option still works.
        drop(connection.set_nodelay(true));
        let is_local = address.ip().to_canonical().is_loopback();
        Ok((connection, Peer { is_local, has_certificate: false }))
    }
}

#[cfg(unix)]
impl Listen for tokio::net::UnixListener {
    type Io = tokio::net::UnixStream;

    async fn next(&self) -> std::io::Result<(Self::Io, Peer)> {
        let (connection, _) = self.accept().await?;
        Ok((connection, Peer { is_local: true, has_certificate: false }))
    }
}

/// Answers what comes over TCP until told to stop; then what is running may finish. Dropping the future breaks it off.
pub(super) async fn answer(listener: TcpListener, app: Router, port: Port, stopping: watch::Receiver<bool>) {
    accept(listener, app, port, stopping).await;
}

async fn accept<L: Listen>(listener: L, app: Router, port: Port, mut stopping: watch::Receiver<bool>) {
    let places = Arc::new(Semaphore::new(port.limits.connections_max.min(Semaphore::MAX_PERMITS)));
    let port = Arc::new(port);
    let mut connections = JoinSet::new();
    loop {
        let accepted = tokio::select! {
            accepted = listener.next() => accepted,
            Some(_) = connections.join_next() => continue,
            () = stopped(&mut stopping) => break,
        };
        let (io, peer) = match accepted {
            Ok(accepted) => accepted,
            Err(error) if is_the_callers(&error) => continue,
            Err(error) => {
                if let Some(left_out) = NO_CONNECTION.pass(port.name) {
                    tracing::warn!(port = port.name, left_out, "a connection cannot be accepted: {error}");
                }
                tokio::time::sleep(REST).await;
                continue;
            }
        };
        let Ok(place) = Arc::clone(&places).try_acquire_owned() else {
            port.metrics.turned_away(port.name, Refused::Full);
            if let Some(left_out) = FULL.pass(port.name) {
                let most = port.limits.connections_max;
                tracing::warn!(
                    port = port.name,
                    left_out,
                    "{most} connections are open (max_connections), more are closed"
                );
            }
            continue;
        };
        let (port, app, stopping) = (Arc::clone(&port), app.clone(), stopping.clone());
        connections.spawn(async move {
            let _open = port.metrics.opened(port.name);
            port.connect(io, peer, app, stopping).await;
            drop(place);
        });
    }
    drop(listener);
    while connections.join_next().await.is_some() {}
}

static NO_CONNECTION: Seldom<&str> = Seldom::new();
static FULL: Seldom<&str> = Seldom::new();
static HANDSHAKE: Seldom<&str> = Seldom::new();
static UNREAD: Seldom<&str> = Seldom::new();

/// Whether a failure concerns only the connection that would have come.
fn is_the_callers(error: &std::io::Error) -> bool {
    use std::io::ErrorKind::{ConnectionAborted, ConnectionRefused, ConnectionReset};
    matches!(error.kind(), ConnectionAborted | ConnectionRefused | ConnectionReset)
}

impl Port {
    async fn connect<I: AsyncRead + AsyncWrite + Unpin + Send + 'static>(
        &self,
        io: I,
        peer: Peer,
        app: Router,
        stopping: watch::Receiver<bool>,
    ) {
        let budget = self.budget.part(self.connection_fraction);
        let ending = match &self.tls {
            None => serve(io, peer, app, &self.limits, budget, stopping).await,
            Some(tls) => {
                let shaken = tokio::time::timeout(self.limits.handshake, tls.accept(io)).await;
                let shaken = shaken.unwrap_or_else(|_| Err(std::io::Error::other("it took too long")));
                match shaken {
                    Ok(io) => {
                        let peer = Peer { has_certificate: has_certificate(&io), ..peer };
                        serve(io, peer, app, &self.limits, budget, stopping).await
                    }
                    Err(error) => {
                        self.metrics.turned_away(self.name, Refused::Handshake);
                        if let Some(left_out) = HANDSHAKE.pass(self.name) {
                            tracing::info!(port = self.name, left_out, "a TLS handshake failed: {error}");
                        }
                        None
                    }
                }
            }
        };
        match ending {
            Some(Ending::Slow) => self.metrics.turned_away(self.name, Refused::Slow),
            Some(Ending::Unread) => {
                self.metrics.turned_away(self.name, Refused::Unread);
                if let Some(left_out) = UNREAD.pass(self.name) {
                    tracing::info!(port = self.name, left_out, "a client does not take its replies (send_timeout_ms)");
                }
            }
            _ => {}
        }
    }
}

/// Listens at `path` and answers what comes there, as [`answer`]; never with TLS.
///
/// # Errors
/// `UNAVAILABLE` when the socket cannot be made: something that is no socket lies there, or a server answers there.
#[cfg(unix)]
pub(super) fn answer_locally(
    path: &Path,
    app: Router,
    port: Port,
    stopping: watch::Receiver<bool>,
) -> Result<impl Future<Output = ()> + use<>> {
    use std::os::unix::fs::FileTypeExt as _;

    let failed = |e: std::io::Error| Error::unavailable(format!("cannot listen at {}: {e}", path.display()));
    // What an ended server has left behind is in the way; what is alive, or something else, stays.
    let is_left_over = std::fs::symlink_metadata(path).is_ok_and(|m| m.file_type().is_socket())
        && std::os::unix::net::UnixStream::connect(path).is_err();
    if is_left_over {
        std::fs::remove_file(path).map_err(failed)?;
    }
    let listener = tokio::net::UnixListener::bind(path).map_err(failed)?;
    let (port, path) = (Port { tls: None, ..port }, path.to_path_buf());
    Ok(async move {
        accept(listener, app, port, stopping).await;
        drop(std::fs::remove_file(path));
    })
}

/// As above, where there are no unix sockets.
///
/// # Errors
/// `UNIMPLEMENTED`.
#[cfg(not(unix))]
pub(super) fn answer_locally(
    path: &Path,
    _: Router,
    _: Port,
    _: watch::Receiver<bool>,
) -> Result<impl Future<Output = ()> + use<>> {
    let what = format!("grpc_socket_path {}: there are no unix sockets on this system", path.display());
    Err::<std::future::Ready<()>, _>(Error::unimplemented(what))
}
