//! How the program waits: one thread, until something is ready, a deadline has passed, or the
//! process is told to end.
//!
//! SIGTERM and SIGINT are blocked and read from a descriptor, so they interrupt every wait at once
//! and nothing else: between two waits the program cannot be torn. It holds as PID 1 too, where
//! a signal without a handler would be dropped unless it is blocked.

use std::fmt;
use std::future::Future;
use std::io;
use std::os::fd::{AsFd, BorrowedFd};
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, Wake, Waker};
use std::time::{Duration, Instant};

use nix::errno::Errno;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::eventfd::{EfdFlags, EventFd};
use nix::sys::signal::{SigSet, Signal};
use nix::sys::signalfd::{SfdFlags, SignalFd};

/// How long to hold off when the system cannot wait for us.
const AFTER_AN_ERROR: Duration = Duration::from_millis(10);

/// Why a wait ended before what it waited for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Interrupt {
    /// The deadline has passed.
    Deadline,
    /// The process was told to end. Every later wait ends at once with the same.
    Stop(StopSignal),
}

/// The signal that told the process to end.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct StopSignal(Signal);

impl fmt::Display for StopSignal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.0.as_str())
    }
}

/// The program's one place to wait.
pub struct Waiter {
    signals: SignalFd,
    stopped: std::cell::Cell<Option<StopSignal>>,
    doorbell: Arc<Doorbell>,
    waker: Waker,
}

impl Waiter {
    /// Takes over SIGTERM and SIGINT. To be called before any other thread exists: threads inherit
    /// the blocked signals from the thread that starts them.
    pub fn new() -> io::Result<Self> {
        let mut mask = SigSet::empty();
        mask.add(Signal::SIGTERM);
        mask.add(Signal::SIGINT);
        mask.thread_block()?;
        let signals = SignalFd::with_flags(&mask, SfdFlags::SFD_CLOEXEC | SfdFlags::SFD_NONBLOCK)?;
        let doorbell =
            Arc::new(Doorbell(EventFd::from_flags(EfdFlags::EFD_CLOEXEC | EfdFlags::EFD_NONBLOCK)?));
        let waker = Waker::from(doorbell.clone());
        Ok(Self { signals, stopped: None.into(), doorbell, waker })
    }

    /// Waits for the deadline or a signal, whichever comes first.
    pub fn until(&self, deadline: Instant) -> Interrupt {
        match self.for_future(&mut std::future::pending::<()>(), deadline) {
            Ok(()) => Interrupt::Deadline,
            Err(interrupt) => interrupt,
        }
    }

    /// Waits for a future, which keeps its state when the wait is interrupted.
    pub fn for_future<F>(&self, future: &mut F, deadline: Instant) -> Result<F::Output, Interrupt>
    where
        F: Future + Unpin,
    {
        let mut context = Context::from_waker(&self.waker);
        loop {
            // A signal goes first: a stream that is always ready must not hold off the end.
            self.check_for_stop()?;
            if let Poll::Ready(output) = Pin::new(&mut *future).poll(&mut context) {
                return Ok(output);
            }
            self.wait(self.doorbell.0.as_fd(), PollFlags::POLLIN, deadline)?;
            self.doorbell.silence();
        }
    }

    /// Waits until a descriptor can be written to: how a connection in progress tells its end.
    pub fn for_writable(&self, fd: BorrowedFd<'_>, deadline: Instant) -> Result<(), Interrupt> {
        self.wait(fd, PollFlags::POLLOUT, deadline)
    }

    fn wait(&self, fd: BorrowedFd<'_>, events: PollFlags, deadline: Instant) -> Result<(), Interrupt> {
        loop {
            self.check_for_stop()?;
            let left = deadline.saturating_duration_since(Instant::now());
            let mut fds = [PollFd::new(self.signals.as_fd(), PollFlags::POLLIN), PollFd::new(fd, events)];
            match poll(&mut fds, poll_timeout(left)) {
                Ok(_) if fds[1].any().unwrap_or(false) => return Ok(()),
                Ok(_) | Err(Errno::EINTR) => {}
                // Out of memory, say. There is no answer but to look again, though not in a loop.
                Err(_) => std::thread::sleep(AFTER_AN_ERROR),
            }
            if Instant::now() >= deadline {
                self.check_for_stop()?;
                return Err(Interrupt::Deadline);
            }
        }
    }

    fn check_for_stop(&self) -> Result<(), Interrupt> {
        if self.stopped.get().is_none()
            && let Ok(Some(info)) = self.signals.read_signal()
            && let Ok(signal) = Signal::try_from(info.ssi_signo as i32)
        {
            self.stopped.set(Some(StopSignal(signal)));
        }
        match self.stopped.get() {
            Some(signal) => Err(Interrupt::Stop(signal)),
            None => Ok(()),
        }
    }
}

/// Rounded up, so that a wait does not end just before its deadline and spin.
fn poll_timeout(left: Duration) -> PollTimeout {
    PollTimeout::try_from(left.as_nanos().div_ceil(1_000_000)).unwrap_or(PollTimeout::MAX)
}

/// Rung from gRPC's threads when the future that is waited for may be ready.
struct Doorbell(EventFd);

impl Doorbell {
    fn silence(&self) {
        // EAGAIN: it had not rung, and the wait was for a deadline.
        let _ = self.0.read();
    }
}

impl Wake for Doorbell {
    fn wake(self: Arc<Self>) {
        self.wake_by_ref();
    }

    fn wake_by_ref(self: &Arc<Self>) {
        while self.0.write(1) == Err(Errno::EINTR) {}
    }
}
