//! Opens the connection to an endpoint.
//!
//! By hand rather than by C-core: a failure then has its errno, C-core's own backoff does not delay the
//! next attempt, and nothing blocks.

use std::os::fd::{AsFd, AsRawFd, OwnedFd};
use std::task::Poll;
use std::time::Instant;

use nix::errno::Errno;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::socket::sockopt::{KeepAlive, SocketError, TcpKeepCount, TcpKeepIdle, TcpKeepInterval};
use nix::sys::socket::{
    AddressFamily, SockFlag, SockType, SockaddrLike, SockaddrStorage, UnixAddr, connect, getsockopt,
    setsockopt, socket,
};

use super::endpoint::Endpoint;
use crate::time::timing::{TCP_CONNECT, TCP_PROBE_AFTER, TCP_PROBE_AGAIN, TCP_PROBES};
use crate::wait::Waiter;

/// A connection that is being made.
pub(crate) struct Connecting<'a> {
    /// `None` once the attempt has ended.
    socket: Option<OwnedFd>,
    waiter: &'a Waiter,
    /// When the attempt counts as failed.
    pub(crate) give_up_at: Instant,
}

impl<'a> Connecting<'a> {
    /// Begins; `waiter` wakes when the attempt has ended.
    pub(crate) fn to(endpoint: &Endpoint, waiter: &'a Waiter, now: Instant) -> Result<Self, Errno> {
        let address: Box<dyn SockaddrLike> = match endpoint {
            Endpoint::Unix(path) => Box::new(UnixAddr::new(path)?),
            Endpoint::Tcp(address) => Box::new(SockaddrStorage::from(*address)),
        };
        let family = address.family().unwrap_or(AddressFamily::Unix);
        let flags = SockFlag::SOCK_NONBLOCK | SockFlag::SOCK_CLOEXEC;
        let socket = socket(family, SockType::Stream, flags, None)?;
        if let Endpoint::Tcp(_) = endpoint {
            keep_alive(&socket)?;
        }
        match connect(socket.as_raw_fd(), &*address) {
            Ok(()) | Err(Errno::EINPROGRESS) => {}
            // EAGAIN: the agent does not accept connections, and its queue is full.
            Err(errno) => return Err(errno),
        }
        waiter.for_writable(&socket)?;
        Ok(Self { socket: Some(socket), waiter, give_up_at: now + TCP_CONNECT })
    }

    /// The connected socket, non-blocking and closed on exec; or why there is none.
    pub(crate) fn poll(&mut self, now: Instant) -> Poll<Result<OwnedFd, Errno>> {
        let Some(socket) = self.socket.take() else { return Poll::Pending };
        if !is_writable(&socket)? {
            if now >= self.give_up_at {
                return Poll::Ready(Err(Errno::ETIMEDOUT));
            }
            self.socket = Some(socket);
            return Poll::Pending;
        }
        // From here on, gRPC waits on it.
        self.waiter.forget(&socket)?;
        Poll::Ready(match getsockopt(&socket, SocketError)? {
            0 => Ok(socket),
            errno => Err(Errno::from_raw(errno)),
        })
    }
}

/// Lets the kernel find out that the agent's machine has vanished without a word.
fn keep_alive(socket: &OwnedFd) -> Result<(), Errno> {
    setsockopt(socket, TcpKeepIdle, &TCP_PROBE_AFTER)?;
    setsockopt(socket, TcpKeepInterval, &TCP_PROBE_AGAIN)?;
    setsockopt(socket, TcpKeepCount, &TCP_PROBES)?;
    setsockopt(socket, KeepAlive, &true)
}

/// A connection attempt that has ended is writable, whether it has succeeded or failed.
fn is_writable(socket: &OwnedFd) -> Result<bool, Errno> {
    let mut fds = [PollFd::new(socket.as_fd(), PollFlags::POLLOUT)];
    match poll(&mut fds, PollTimeout::ZERO) {
        Err(Errno::EINTR) => Ok(false),
        polled => Ok(polled? > 0),
    }
}

#[cfg(test)]
mod tests {
    use std::net::TcpListener;

    use super::*;

    #[test]
    fn a_connection_over_tcp_is_probed_while_it_is_silent() {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let (endpoint, waiter) = (Endpoint::Tcp(listener.local_addr().unwrap()), Waiter::new().unwrap());
        let connecting = Connecting::to(&endpoint, &waiter, Instant::now()).unwrap();
        let socket = connecting.socket.unwrap();
        assert!(getsockopt(&socket, KeepAlive).unwrap());
        let [after, again, probes] = [
            getsockopt(&socket, TcpKeepIdle).unwrap(),
            getsockopt(&socket, TcpKeepInterval).unwrap(),
            getsockopt(&socket, TcpKeepCount).unwrap(),
        ];
        assert!(after + again * probes <= 60, "{after} s, then {probes} times {again} s");
    }
}
