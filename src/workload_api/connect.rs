//! Opens the connection to an endpoint.
//!
//! By hand rather than by C-core: a failure then comes with its errno, no backoff of C-core's own
//! stands between an agent's return and the next attempt, and a signal interrupts the attempt.

use std::net::SocketAddr;
use std::os::fd::{AsFd, AsRawFd, OwnedFd};
use std::path::Path;
use std::time::{Duration, Instant};

use nix::errno::Errno;
use nix::sys::socket::{
    AddressFamily, SockFlag, SockType, SockaddrLike, SockaddrStorage, UnixAddr, connect, getsockopt, socket,
    sockopt::SocketError,
};

use super::endpoint::Endpoint;
use crate::wait::{Interrupt, Waiter};

/// How long a TCP connection may take. (A Unix socket's is there at once, or not at all.)
const TCP_CONNECT_TIMEOUT: Duration = Duration::from_secs(5);

/// Why there is no connection.
#[derive(Debug)]
pub enum ConnectError {
    /// The system's answer to the attempt.
    Failed(Errno),
    /// The wait for it was interrupted.
    Interrupted(Interrupt),
}

impl From<Errno> for ConnectError {
    fn from(errno: Errno) -> Self {
        Self::Failed(errno)
    }
}

/// Connects, without blocking for longer than the deadline. The descriptor is non-blocking and
/// closed on exec.
pub fn open(endpoint: &Endpoint, waiter: &Waiter, deadline: Instant) -> Result<OwnedFd, ConnectError> {
    match endpoint {
        Endpoint::Unix(path) => Ok(open_unix(path)?),
        Endpoint::Tcp(address) => open_tcp(*address, waiter, deadline),
    }
}

/// A Unix socket that is not accepted from (a stopped agent with a full queue) says EAGAIN.
fn open_unix(path: &Path) -> Result<OwnedFd, Errno> {
    let socket = new_socket(AddressFamily::Unix)?;
    connect(socket.as_raw_fd(), &UnixAddr::new(path)?)?;
    Ok(socket)
}

fn open_tcp(address: SocketAddr, waiter: &Waiter, deadline: Instant) -> Result<OwnedFd, ConnectError> {
    let address = SockaddrStorage::from(address);
    let socket = new_socket(address.family().unwrap_or(AddressFamily::Inet))?;
    match connect(socket.as_raw_fd(), &address) {
        Err(Errno::EINPROGRESS) => {}
        done => {
            done?;
            return Ok(socket);
        }
    }
    let own_deadline = Instant::now() + TCP_CONNECT_TIMEOUT;
    match waiter.for_writable(socket.as_fd(), own_deadline.min(deadline)) {
        Err(Interrupt::Deadline) if own_deadline <= deadline => return Err(Errno::ETIMEDOUT.into()),
        ended => ended.map_err(ConnectError::Interrupted)?,
    }
    match getsockopt(&socket, SocketError)? {
        0 => Ok(socket),
        errno => Err(Errno::from_raw(errno).into()),
    }
}

fn new_socket(family: AddressFamily) -> Result<OwnedFd, Errno> {
    let flags = SockFlag::SOCK_NONBLOCK | SockFlag::SOCK_CLOEXEC;
    socket(family, SockType::Stream, flags, None)
}
