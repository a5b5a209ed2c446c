//! Opens the connection to an endpoint.
//!
//! By hand rather than by C-core: a failure then comes with its errno, no backoff of C-core's own
//! stands between an agent's return and the next attempt, and nothing blocks.

use std::net::SocketAddr;
use std::os::fd::{AsFd, AsRawFd, OwnedFd};
use std::path::Path;
use std::task::Poll;
use std::time::{Duration, Instant};

use nix::errno::Errno;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::socket::{
    AddressFamily, SockFlag, SockType, SockaddrLike, SockaddrStorage, UnixAddr, connect, getsockopt, socket,
    sockopt::SocketError,
};

use super::endpoint::Endpoint;
use crate::wait::Waiter;

/// How long a TCP connection may take. (A Unix socket's is there at once, or not at all.)
const TCP_CONNECT_TIMEOUT: Duration = Duration::from_secs(5);

/// A connection on its way.
pub struct Connecting<'a> {
    /// Gone once the way has ended.
    socket: Option<OwnedFd>,
    waiter: &'a Waiter,
    give_up_at: Instant,
}

impl<'a> Connecting<'a> {
    /// Sets out. `waiter` looks again when the connection is there.
    pub fn to(endpoint: &Endpoint, waiter: &'a Waiter) -> Result<Self, Errno> {
        let socket = match endpoint {
            Endpoint::Unix(path) => open_unix(path)?,
            Endpoint::Tcp(address) => open_tcp(*address)?,
        };
        waiter.for_writable(&socket)?;
        Ok(Self { socket: Some(socket), waiter, give_up_at: Instant::now() + TCP_CONNECT_TIMEOUT })
    }

    /// When it is of no use to wait any longer.
    pub fn give_up_at(&self) -> Instant {
        self.give_up_at
    }

    /// The connected socket, non-blocking and closed on exec; or why there is none.
    pub fn poll(&mut self) -> Poll<Result<OwnedFd, Errno>> {
        let Some(socket) = self.socket.take() else { return Poll::Pending };
        match is_writable(&socket) {
            Ok(false) if Instant::now() < self.give_up_at => {
                self.socket = Some(socket);
                return Poll::Pending;
            }
            Ok(false) => return Poll::Ready(Err(Errno::ETIMEDOUT)),
            Ok(true) => {}
            Err(errno) => return Poll::Ready(Err(errno)),
        }
        // From here on, gRPC waits for it.
        let connected = self.waiter.forget(&socket).and_then(|()| getsockopt(&socket, SocketError));
        Poll::Ready(match connected {
            Ok(0) => Ok(socket),
            Ok(errno) => Err(Errno::from_raw(errno)),
            Err(errno) => Err(errno),
        })
    }
}

/// A Unix socket that is not accepted from (a stopped agent with a full queue) says EAGAIN.
fn open_unix(path: &Path) -> Result<OwnedFd, Errno> {
    let socket = new_socket(AddressFamily::Unix)?;
    connect(socket.as_raw_fd(), &UnixAddr::new(path)?)?;
    Ok(socket)
}

fn open_tcp(address: SocketAddr) -> Result<OwnedFd, Errno> {
    let address = SockaddrStorage::from(address);
    let socket = new_socket(address.family().unwrap_or(AddressFamily::Inet))?;
    match connect(socket.as_raw_fd(), &address) {
        Ok(()) | Err(Errno::EINPROGRESS) => Ok(socket),
        Err(errno) => Err(errno),
    }
}

fn new_socket(family: AddressFamily) -> Result<OwnedFd, Errno> {
    let flags = SockFlag::SOCK_NONBLOCK | SockFlag::SOCK_CLOEXEC;
    socket(family, SockType::Stream, flags, None)
}

/// A connection that has succeeded is writable, and one that has failed too.
fn is_writable(socket: &OwnedFd) -> Result<bool, Errno> {
    let mut fds = [PollFd::new(socket.as_fd(), PollFlags::POLLOUT)];
    match poll(&mut fds, PollTimeout::ZERO) {
        Err(Errno::EINTR) => Ok(false),
        polled => Ok(polled? > 0),
    }
}
