//! Sockets to listen on.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

use socket2::{Domain, Protocol, Socket, Type};
use tokio::net::TcpListener;

use crate::error::{Error, Result};

/// Connections that may wait to be accepted.
const BACKLOG: i32 = 1024;

/// Listens on `host`: a name or address, or, when empty, every interface, both IPv6 and IPv4 where IPv6 is on.
///
/// # Errors
/// `UNAVAILABLE` naming the address and why.
pub(super) fn listen(host: &str, port: u16) -> Result<TcpListener> {
    if host.is_empty() {
        let both = SocketAddr::new(IpAddr::V6(Ipv6Addr::UNSPECIFIED), port);
        let old = SocketAddr::new(IpAddr::V4(Ipv4Addr::UNSPECIFIED), port);
        return bind(both).or_else(|_| bind(old));
    }
    let bare = host.trim_start_matches('[').trim_end_matches(']');
    let addresses = std::net::ToSocketAddrs::to_socket_addrs(&(bare, port))
        .map_err(|e| Error::invalid_argument(format!("host {host:?}: {e}")))?;
    let mut failure = Error::unavailable(format!("host {host:?} has no address"));
    for address in addresses {
        match bind(address) {
            Ok(listener) => return Ok(listener),
            Err(error) => failure = error,
        }
    }
    Err(failure)
}

fn bind(address: SocketAddr) -> Result<TcpListener> {
    let open = || -> std::io::Result<TcpListener> {
        let socket = Socket::new(Domain::for_address(address), Type::STREAM, Some(Protocol::TCP))?;
        if address.is_ipv6() {
            socket.set_only_v6(false)?;
        }
        // A restarted server need not wait for old connections to be forgotten; on Windows the option means another thing.
        #[cfg(unix)]
        socket.set_reuse_address(true)?;
        socket.set_nonblocking(true)?;
        socket.bind(&address.into())?;
        socket.listen(BACKLOG)?;
        TcpListener::from_std(socket.into())
    };
    open().map_err(|e| Error::unavailable(format!("cannot listen on {address}: {e}")))
}
