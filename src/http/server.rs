//! The listener and its connections.
//!
//! They have an epoll of their own, which is one descriptor to the loop: it becomes readable when
//! any of them has something to do.

use std::collections::VecDeque;
use std::io;
use std::net::{SocketAddr, TcpListener};
use std::os::fd::AsRawFd;
use std::time::Instant;

use log::Level;
use nix::errno::Errno;
use nix::sys::epoll::{Epoll, EpollCreateFlags, EpollEvent, EpollFlags, EpollTimeout};
use nix::sys::resource::{Resource, getrlimit};
use nix::sys::socket::{
    AddressFamily, Backlog, SockFlag, SockType, SockaddrLike, SockaddrStorage, bind, listen, setsockopt,
    socket, sockopt,
};

use super::connection::Connection;
use super::request::{Ask, Readiness};
use crate::logging::{Repetition, SharedReminder, retrying_in};
use crate::time::backoff::Backoff;
use crate::time::timing::{ACCEPT_AGAIN, CONNECTION, LISTEN_AGAIN};
use crate::wait::Waiter;

/// The most connections at a time. One more closes the oldest: even under a flood of idle connections,
/// a probe is served in the turn that accepts it.
const MOST_CONNECTIONS: usize = 32;
/// At most one in four of the process's descriptors is a connection: the store and the Workload API
/// need the others.
const SHARE: u64 = 4;
/// The most connections that one turn accepts.
const ACCEPTED_IN_A_TURN: usize = 64;

const LISTENER: u64 = 0;

/// Serves HTTP from within the main loop.
pub(crate) struct HttpServer<'a> {
    address: SocketAddr,
    waiter: &'a Waiter,
    listening: Listening,
    listen_backoff: Backoff,
    trouble: Repetition,
    readiness: Readiness,
}

enum Listening {
    /// Not yet, or not any more.
    Due(Instant),
    Yes(Open),
}

/// A listener with its connections.
struct Open {
    ready: Epoll,
    listener: TcpListener,
    /// No connection is accepted before this.
    paused_until: Option<Instant>,
    /// The oldest first, and with it the earliest deadline.
    connections: VecDeque<Connection>,
    limit: usize,
    next_token: u64,
}

impl<'a> HttpServer<'a> {
    /// Listens at the first [`run_due`](Self::run_due).
    pub(crate) fn new(address: SocketAddr, waiter: &'a Waiter, share: &SharedReminder, now: Instant) -> Self {
        Self {
            address,
            waiter,
            listening: Listening::Due(now),
            listen_backoff: LISTEN_AGAIN,
            trouble: Repetition::sharing(share.clone()),
            readiness: Readiness::default(),
        }
    }

    /// When something is due even if nobody connects.
    pub(crate) fn next_deadline(&self) -> Option<Instant> {
        match &self.listening {
            Listening::Due(at) => Some(*at),
            Listening::Yes(open) => {
                let oldest = open.connections.front().map(|connection| connection.deadline);
                oldest.into_iter().chain(open.paused_until).min()
            }
        }
    }

    /// Does what is due: listens, accepts, reads, answers, closes. Never waits, and its work is bounded:
    /// if there is more, the next [`Waiter::wait`] ends at once.
    pub(crate) fn run_due(&mut self, now: Instant, ask: &mut Ask<'_>) {
        match &mut self.listening {
            Listening::Due(at) if *at <= now => self.listen(now),
            Listening::Due(_) => {}
            Listening::Yes(open) => match open.run_due(now, &mut self.readiness, ask) {
                Ok(()) if open.paused_until.is_none() => self.trouble.end(),
                Ok(()) => {}
                Err(cause) => {
                    let message = format!("cannot accept connections on {}: {}", self.address, cause.desc());
                    self.trouble.log(Level::Error, &message, &retrying_in(ACCEPT_AGAIN), now);
                }
            },
        }
    }

    /// Logs a failure, and retries later.
    fn listen(&mut self, now: Instant) {
        match Open::on(self.address, self.waiter) {
            Ok((open, port)) => {
                self.trouble.end();
                self.listen_backoff.reset();
                let address = SocketAddr::new(self.address.ip(), port);
                log::info!("serving /live, /ready and /metrics on {address}");
                self.listening = Listening::Yes(open);
            }
            Err(error) => {
                let delay = self.listen_backoff.advance();
                let message = format!("cannot serve HTTP on {}: {error}{}", self.address, hint(&error));
                self.trouble.log(Level::Error, &message, &retrying_in(delay), now);
                self.listening = Listening::Due(now + delay);
            }
        }
    }
}

/// A hint for the message.
fn hint(error: &io::Error) -> &'static str {
    match error.raw_os_error().map(Errno::from_raw) {
        Some(Errno::EADDRINUSE) => {
            " (another process has this port, perhaps another helper of this pod; give --http-address another one)"
        }
        Some(Errno::EADDRNOTAVAIL) => " (this is not an address of this machine or pod)",
        Some(Errno::EAFNOSUPPORT) => " (IPv6 is off here; give --http-address an IPv4 address)",
        Some(Errno::EACCES) => " (ports below 1024 need CAP_NET_BIND_SERVICE)",
        _ => "",
    }
}

impl Open {
    /// Listens; returns the port too.
    fn on(address: SocketAddr, waiter: &Waiter) -> io::Result<(Self, u16)> {
        let listener = listener(address)?;
        let port = listener.local_addr()?.port();
        let ready = Epoll::new(EpollCreateFlags::EPOLL_CLOEXEC)?;
        ready.add(&listener, EpollEvent::new(EpollFlags::EPOLLIN, LISTENER))?;
        waiter.for_readable(&ready.0)?;
        let descriptors = getrlimit(Resource::RLIMIT_NOFILE).map_or(u64::MAX, |(soft, _)| soft);
        let limit =
            usize::try_from(descriptors / SHARE).unwrap_or(MOST_CONNECTIONS).clamp(1, MOST_CONNECTIONS);
        let connections = VecDeque::new();
        Ok((Self { ready, listener, paused_until: None, connections, limit, next_token: LISTENER + 1 }, port))
    }

    fn run_due(&mut self, now: Instant, readiness: &mut Readiness, ask: &mut Ask<'_>) -> Result<(), Errno> {
        self.connections.retain(|connection| connection.deadline > now);
        if self.paused_until.take_if(|at| *at <= now).is_some() {
            self.ready.modify(&self.listener, &mut EpollEvent::new(EpollFlags::EPOLLIN, LISTENER))?;
        }
        // Level-triggered: a socket for which there is no space here is ready at the next look.
        let mut events = [EpollEvent::empty(); MOST_CONNECTIONS + 1];
        let count = self.ready.wait(&mut events, EpollTimeout::ZERO).unwrap_or(0);
        let mut accepted = Ok(());
        for event in &events[..count] {
            match event.data() {
                LISTENER => accepted = self.accept(now, readiness, ask),
                token => self.advance(token, readiness, ask),
            }
        }
        accepted
    }

    /// Accepts waiting connections. A request that has arrived is answered at once.
    fn accept(&mut self, now: Instant, readiness: &mut Readiness, ask: &mut Ask<'_>) -> Result<(), Errno> {
        for _ in 0..ACCEPTED_IN_A_TURN {
            let stream = match self.listener.accept() {
                Ok((stream, _)) => stream,
                Err(error) => match error.raw_os_error().map(Errno::from_raw) {
                    Some(Errno::EAGAIN) | None => return Ok(()),
                    // No descriptors or no memory: frees the connections'.
                    Some(cause @ (Errno::EMFILE | Errno::ENFILE | Errno::ENOBUFS | Errno::ENOMEM)) => {
                        self.connections.clear();
                        self.paused_until = Some(now + ACCEPT_AGAIN);
                        let nothing = &mut EpollEvent::new(EpollFlags::empty(), LISTENER);
                        return self.ready.modify(&self.listener, nothing).and(Err(cause));
                    }
                    // A failure of this connection alone (accept(2)).
                    Some(_) => continue,
                },
            };
            if self.connections.len() >= self.limit {
                self.connections.pop_front();
            }
            let token = self.next_token;
            self.next_token += 1;
            let is_watched = stream.set_nonblocking(true).is_ok()
                && self.ready.add(&stream, EpollEvent::new(EpollFlags::EPOLLIN, token)).is_ok();
            if is_watched {
                self.connections.push_back(Connection::new(stream, token, now + CONNECTION));
                self.advance(token, readiness, ask);
            }
        }
        Ok(())
    }

    fn advance(&mut self, token: u64, readiness: &mut Readiness, ask: &mut Ask<'_>) {
        // A newer connection may have replaced it in this turn.
        let Some(index) = self.connections.iter().position(|connection| connection.token == token) else {
            return;
        };
        let connection = &mut self.connections[index];
        let is_watched = match connection.advance(readiness, ask) {
            Some(flags) => self.ready.modify(&connection.stream, &mut EpollEvent::new(flags, token)).is_ok(),
            None => false,
        };
        if !is_watched {
            // Closing it ends its registration.
            self.connections.remove(index);
        }
    }
}

/// Not the standard library's: its queue holds 128 connections, and a flood would make probes wait.
fn listener(address: SocketAddr) -> io::Result<TcpListener> {
    let storage = SockaddrStorage::from(address);
    let family = storage.family().unwrap_or(AddressFamily::Inet);
    let flags = SockFlag::SOCK_NONBLOCK | SockFlag::SOCK_CLOEXEC;
    let socket = socket(family, SockType::Stream, flags, None)?;
    // A restarted helper must not wait for its predecessor's closed connections. Two running helpers
    // still cannot share the port.
    setsockopt(&socket, sockopt::ReuseAddr, &true)?;
    if address.is_ipv6() {
        // `[::]` is every address, IPv4 too, whatever this machine's default.
        setsockopt(&socket, sockopt::Ipv6V6Only, &false)?;
    }
    bind(socket.as_raw_fd(), &storage)?;
    listen(&socket, Backlog::MAXCONN)?;
    Ok(TcpListener::from(socket))
}
