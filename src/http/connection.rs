//! One connection: reads a head, writes an answer, and discards the rest.

use std::io::{ErrorKind, Read, Write};
use std::net::{Shutdown, TcpStream};
use std::time::Instant;

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
    Reading {
        head: Vec<u8>,
    },
    Writing {
        answer: Vec<u8>,
        sent: usize,
    },
    /// Our side is closed. To close both while bytes are unread would reset the connection, and the
    /// answer could be lost.
    Draining,
}

/// What a connection waits for next.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Next {
    Readable,
    Writable,
    /// Nothing: it has ended.
    Closed,
}

impl Connection {
    /// `stream` must be non-blocking.
    pub(super) fn new(stream: TcpStream, token: u64, deadline: Instant) -> Self {
        Self { stream, token, deadline, state: State::Reading { head: Vec::new() } }
    }

    /// Goes on as far as it can without waiting. Reads at most [`LONGEST_HEAD`] bytes.
    pub(super) fn advance(&mut self, readiness: &mut Readiness, ask: &mut Ask<'_>) -> Next {
        if let State::Reading { head } = &mut self.state {
            match read(&mut self.stream, head, LONGEST_HEAD) {
                Progress::Some => {}
                Progress::Blocked => return Next::Readable,
                Progress::Ended => return Next::Closed,
            }
            match answer(head, readiness, ask) {
                Some(answer) => self.state = State::Writing { answer, sent: 0 },
                None => return Next::Readable,
            }
        }
        if let State::Writing { answer, sent } = &mut self.state {
            while *sent < answer.len() {
                match self.stream.write(&answer[*sent..]) {
                    Ok(written) => *sent += written,
                    Err(error) if error.kind() == ErrorKind::WouldBlock => return Next::Writable,
                    Err(error) if error.kind() == ErrorKind::Interrupted => {}
                    Err(_) => return Next::Closed,
                }
            }
            if self.stream.shutdown(Shutdown::Write).is_err() {
                return Next::Closed;
            }
            self.state = State::Draining;
        }
        match read(&mut self.stream, &mut Vec::new(), LONGEST_HEAD) {
            Progress::Some | Progress::Blocked => Next::Readable,
            Progress::Ended => Next::Closed,
        }
    }
}

enum Progress {
    Some,
    Blocked,
    /// By the peer, or by an error.
    Ended,
}

/// Reads once, until `buffer` holds `limit` bytes at most.
fn read(stream: &mut TcpStream, buffer: &mut Vec<u8>, limit: usize) -> Progress {
    let mut chunk = [0; LONGEST_HEAD];
    let room = limit.saturating_sub(buffer.len());
    loop {
        return match stream.read(&mut chunk[..room]) {
            Ok(0) => Progress::Ended,
            Ok(length) => {
                buffer.extend_from_slice(&chunk[..length]);
                Progress::Some
            }
            Err(error) if error.kind() == ErrorKind::WouldBlock => Progress::Blocked,
            Err(error) if error.kind() == ErrorKind::Interrupted => continue,
            Err(_) => Progress::Ended,
        };
    }
}
