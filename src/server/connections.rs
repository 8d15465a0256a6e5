//! Answering the connections of a listener, each with what is known of its other end.

use std::net::SocketAddr;
use std::path::Path;

use axum::Router;
use axum::extract::connect_info::Connected;
use axum::serve::{IncomingStream, Listener};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;

use crate::api::Peer;
use crate::error::{Error, Result};

/// Connections over TCP. Replies are small and awaited: they must not wait for company.
struct Hurrying(TcpListener);

impl Listener for Hurrying {
    type Io = TcpStream;
    type Addr = SocketAddr;

    async fn accept(&mut self) -> (TcpStream, SocketAddr) {
        let (connection, address) = Listener::accept(&mut self.0).await;
        // A connection without the option still works.
        drop(connection.set_nodelay(true));
        (connection, address)
    }

    fn local_addr(&self) -> std::io::Result<SocketAddr> {
        self.0.local_addr()
    }
}

impl Connected<IncomingStream<'_, Hurrying>> for Peer {
    fn connect_info(stream: IncomingStream<'_, Hurrying>) -> Self {
        let is_local = stream.remote_addr().ip().to_canonical().is_loopback();
        Self { is_local, has_certificate: false }
    }
}

/// Answers what comes over TCP until told to stop; then what is running may finish.
///
/// # Errors
/// Those of the listener.
pub(super) async fn answer(listener: TcpListener, app: Router, stopping: watch::Receiver<bool>) -> Result<()> {
    let app = app.into_make_service_with_connect_info::<Peer>();
    Ok(axum::serve(Hurrying(listener), app).with_graceful_shutdown(stopped(stopping)).await?)
}

async fn stopped(mut stopping: watch::Receiver<bool>) {
    // An error means that the sender is gone, which ends the server too.
    drop(stopping.wait_for(|stop| *stop).await);
}

#[cfg(unix)]
impl Connected<IncomingStream<'_, tokio::net::UnixListener>> for Peer {
    fn connect_info(_: IncomingStream<'_, tokio::net::UnixListener>) -> Self {
        Self { is_local: true, has_certificate: false }
    }
}

/// Listens at `path` and answers what comes there, as [`answer`].
///
/// # Errors
/// `UNAVAILABLE` when the socket cannot be made: something that is no socket lies there, or a server answers there.
#[cfg(unix)]
pub(super) fn answer_locally(
    path: &Path,
    app: Router,
    stopping: watch::Receiver<bool>,
) -> Result<impl Future<Output = Result<()>> + use<>> {
    use std::os::unix::fs::FileTypeExt as _;

    let failed = |e: std::io::Error| Error::unavailable(format!("cannot listen at {}: {e}", path.display()));
    // What an ended server has left behind is in the way; what is alive, or something else, stays.
    let is_left_over = std::fs::symlink_metadata(path).is_ok_and(|m| m.file_type().is_socket())
        && std::os::unix::net::UnixStream::connect(path).is_err();
    if is_left_over {
        std::fs::remove_file(path).map_err(failed)?;
    }
    let listener = tokio::net::UnixListener::bind(path).map_err(failed)?;
    let (app, path) = (app.into_make_service_with_connect_info::<Peer>(), path.to_path_buf());
    Ok(async move {
        let served = axum::serve(listener, app).with_graceful_shutdown(stopped(stopping)).await;
        drop(std::fs::remove_file(path));
        Ok(served?)
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
    _: watch::Receiver<bool>,
) -> Result<impl Future<Output = Result<()>> + use<>> {
    let what = format!("grpc_socket_path {}: there are no unix sockets on this system", path.display());
    Err::<std::future::Ready<Result<()>>, _>(Error::unimplemented(what))
}
