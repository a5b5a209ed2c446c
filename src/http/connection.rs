//! One connection: reads a head, writes an answer, and discards the rest.

use std::io::{ErrorKind, Read, Write};
use std::net::{Shutdown, TcpStream};
use std::time::Instant;

use nix::sys::epoll::EpollFlags;

use super::request::{Ask, LONGEST_HEAD, Readiness, answer};

/// An accepted connection; dropping it closes it.
pub(super) struct Connection {
    pub(super) stream: TcpStream,
    /// Its name in epoll's events.
    pub(super) token: u64,
    /// When it is closed at the latest.
    pub(super) deadline: Instant,
    state: State,
}

enum State {
    /// The head, as far as it has arrived.
    Reading(Vec<u8>),
    /// What is left of the answer.
    Writing(Vec<u8>),
    /// Our side is closed. To close both while bytes are unread would reset the connection, and the
    /// answer could be lost.
    Draining,
}

impl Connection {
    /// `stream` must be non-blocking.
    pub(super) fn new(stream: TcpStream, token: u64, deadline: Instant) -> Self {
        Self { stream, token, deadline, state: State::Reading(Vec::new()) }
    }

    /// Goes on as far as it can without waiting. Reads at most [`LONGEST_HEAD`] bytes of the head, and as
    /// many of what follows. Returns what the connection waits for next; `None`: it has ended.
    pub(super) fn advance(&mut self, readiness: &mut Readiness, ask: &mut Ask<'_>) -> Option<EpollFlags> {
        if let State::Reading(head) = &mut self.state {
            let goes_on = read(&self.stream, head);
            match answer(head, readiness, ask) {
                Some(answer) => self.state = State::Writing(answer),
                None => return goes_on.then_some(EpollFlags::EPOLLIN),
            }
        }
        if let State::Writing(answer) = &mut self.state {
            while !answer.is_empty() {
                match self.stream.write(answer) {
                    Ok(written) => drop(answer.drain(..written)),
                    Err(error) if error.kind() == ErrorKind::WouldBlock => return Some(EpollFlags::EPOLLOUT),
                    Err(error) if error.kind() == ErrorKind::Interrupted => {}
                    Err(_) => return None,
                }
            }
            self.stream.shutdown(Shutdown::Write).ok()?;
            self.state = State::Draining;
        }
        read(&self.stream, &mut Vec::new()).then_some(EpollFlags::EPOLLIN)
    }
}

/// Reads what has arrived, until `buffer` holds [`LONGEST_HEAD`] bytes at most. Returns whether more may follow: neither
/// the peer nor an error has ended the stream.
fn read(stream: &TcpStream, buffer: &mut Vec<u8>) -> bool {
    let room = LONGEST_HEAD.saturating_sub(buffer.len());
    match stream.take(room as u64).read_to_end(buffer) {
        Ok(length) => length == room,
        Err(error) => error.kind() == ErrorKind::WouldBlock,
    }
}
