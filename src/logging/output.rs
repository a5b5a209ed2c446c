//! Writes to stderr without ever waiting for its reader.
//!
//! Other processes share stderr, so O_NONBLOCK must not be set on it. The kind of stderr decides:
//!
//! | stderr is | how a line is written |
//! | --- | --- |
//! | a socket (journald's) | sent with MSG_DONTWAIT |
//! | a pipe or a terminal | through an open file description of our own, non-blocking: `/proc/self/fd/2` opened anew. A terminal stopped by Ctrl-S has no room |
//! | the same, where that may not be opened | after poll(2) says that there is room: a pipe then takes PIPE_BUF bytes at once, unless another writer comes between |
//! | a file or another device | as it is: neither has a reader to wait for |

use std::fs::File;
use std::io::{self, Write};
use std::os::fd::{AsFd, AsRawFd};
use std::os::unix::fs::OpenOptionsExt;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use log::Level;
use nix::errno::Errno;
use nix::libc::{O_NOCTTY, O_NONBLOCK};
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::socket::{MsgFlags, send};
use nix::sys::stat::{FileStat, SFlag, fstat};

use super::line::{Form, own_line};
use crate::time::timing::{FINAL_FLUSH, REPORT_DROPPED};

static OUTPUT: Mutex<Option<Output>> = Mutex::new(None);
static DROPPED: AtomicU64 = AtomicU64::new(0);

fn lock() -> MutexGuard<'static, Option<Output>> {
    OUTPUT.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Finds out the kind of stderr.
pub(super) fn start(form: Form) {
    *lock() = Some(Output { sink: Sink::stderr(), form, rest: Vec::new(), unreported: 0, is_full: false });
}

/// How many lines were dropped since the start.
pub(crate) fn dropped_lines() -> u64 {
    DROPPED.load(Ordering::Relaxed)
}

/// When to look again for room to report dropped lines, if any were dropped.
pub(crate) fn next_deadline(now: Instant) -> Option<Instant> {
    lock().as_ref().is_some_and(|output| output.is_full).then(|| now + REPORT_DROPPED)
}

/// Reports dropped lines, if there are any and stderr has room.
pub(crate) fn run_due() {
    if let Some(output) = lock().as_mut() {
        output.catch_up();
    }
}

/// Gives a slow reader a last moment, and reports dropped lines to it. To be called before the end.
pub(crate) fn finish() {
    if let Some(output) = lock().as_mut().filter(|output| output.has_backlog()) {
        output.sink.wait_for_room(FINAL_FLUSH);
        output.catch_up();
    }
}

/// stderr, for whole lines. Never fails: there is no other place to report to.
pub(super) struct Stderr;

impl Write for Stderr {
    fn write(&mut self, line: &[u8]) -> io::Result<usize> {
        if let Some(output) = lock().as_mut() {
            output.write_line(line);
        }
        Ok(line.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

struct Output {
    sink: Sink,
    form: Form,
    /// The end of a line whose beginning is written.
    rest: Vec<u8>,
    /// Dropped lines that no line has reported yet.
    unreported: u64,
    /// Whether the last attempt to write found no room. It may come; where nobody reads any more, it does not.
    is_full: bool,
}

impl Output {
    fn write_line(&mut self, line: &[u8]) {
        if !(self.catch_up() && self.put(line)) {
            self.unreported += 1;
            DROPPED.fetch_add(1, Ordering::Relaxed);
        }
    }

    fn has_backlog(&self) -> bool {
        self.unreported > 0 || !self.rest.is_empty()
    }

    /// Writes the backlog; returns whether all of it is written.
    fn catch_up(&mut self) -> bool {
        let rest = std::mem::take(&mut self.rest);
        if !rest.is_empty() && !self.put(&rest) {
            self.rest = rest;
        }
        if self.rest.is_empty() && self.unreported > 0 {
            let lines = if self.unreported == 1 { "line" } else { "lines" };
            let message =
                format!("dropped {} log {lines}: the reader of stderr was too slow", self.unreported);
            if self.put(&own_line(self.form, Level::Warn, &message)) {
                self.unreported = 0;
            }
        }
        // The report itself may be written in part.
        !self.has_backlog()
    }

    /// Writes at least the beginning, and keeps the rest for later; returns false if there is no room.
    fn put(&mut self, line: &[u8]) -> bool {
        let written = self.sink.write(line);
        self.is_full = written.as_ref().is_err_and(|error| error.kind() == io::ErrorKind::WouldBlock);
        if let Ok(written) = written {
            self.rest = line.get(written..).unwrap_or_default().to_vec();
            self.is_full = !self.rest.is_empty();
        }
        written.is_ok()
    }
}

/// How stderr is written to.
enum Sink {
    Socket,
    /// An open file description of our own, non-blocking.
    Reopened(File),
    /// Asked for room before each line. A file always has some.
    Shared,
}

impl Sink {
    fn stderr() -> Self {
        let kind =
            fstat(io::stderr()).map(|stat: FileStat| SFlag::from_bits_truncate(stat.st_mode) & SFlag::S_IFMT);
        match kind {
            Ok(SFlag::S_IFSOCK) => Self::Socket,
            // A file opened anew would have a position of its own, and overwrite lines of others.
            Ok(SFlag::S_IFIFO | SFlag::S_IFCHR) => {
                let own =
                    File::options().write(true).custom_flags(O_NONBLOCK | O_NOCTTY).open("/proc/self/fd/2");
                own.map_or(Self::Shared, Self::Reopened)
            }
            _ => Self::Shared,
        }
    }

    /// Writes some of the line; an error if there is no room.
    fn write(&self, line: &[u8]) -> io::Result<usize> {
        match self {
            Self::Socket => {
                Ok(send(io::stderr().as_raw_fd(), line, MsgFlags::MSG_DONTWAIT | MsgFlags::MSG_NOSIGNAL)?)
            }
            Self::Reopened(file) => (&*file).write(line),
            Self::Shared if self.wait_for_room(Duration::ZERO) => Ok(nix::unistd::write(io::stderr(), line)?),
            Self::Shared => Err(Errno::EAGAIN.into()),
        }
    }

    /// Whether there is room within `patience`. A broken pipe has room: writing to it fails.
    fn wait_for_room(&self, patience: Duration) -> bool {
        let stderr = io::stderr();
        let fd = match self {
            Self::Reopened(file) => file.as_fd(),
            Self::Socket | Self::Shared => stderr.as_fd(),
        };
        let patience = PollTimeout::try_from(patience).unwrap_or(PollTimeout::ZERO);
        poll(&mut [PollFd::new(fd, PollFlags::POLLOUT)], patience).is_ok_and(|ready| ready > 0)
    }
}
