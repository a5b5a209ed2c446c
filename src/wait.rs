//! How the program waits: one thread, until something is ready, a deadline has passed, or the
//! process is told to end.
//!
//! SIGTERM and SIGINT are blocked and read from a descriptor, so they interrupt every wait at once
//! and nothing else: between two waits the program cannot be torn. It holds as PID 1 too, where
//! a signal without a handler would be dropped unless it is blocked.

use std::cell::Cell;
use std::fmt;
use std::io;
use std::os::fd::AsFd;
use std::sync::Arc;
use std::task::{Context, Poll, Wake, Waker};
use std::time::{Duration, Instant};

use nix::errno::Errno;
use nix::sys::epoll::{Epoll, EpollCreateFlags, EpollEvent, EpollFlags, EpollTimeout};
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
    /// A child process has ended, or more than one.
    ChildEnded,
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
    /// Ready when a signal has come, the bell was rung, or a descriptor in [`for_writable`]'s care
    /// can be written to.
    ///
    /// [`for_writable`]: Self::for_writable
    ready: Epoll,
    signals: SignalFd,
    stopped: Cell<Option<StopSignal>>,
    doorbell: Arc<Doorbell>,
    waker: Waker,
}

impl Waiter {
    /// Takes over SIGTERM, SIGINT and SIGCHLD. To be called before any other thread exists:
    /// threads inherit the blocked signals from the thread that starts them.
    pub fn new() -> io::Result<Self> {
        let mut mask = SigSet::empty();
        mask.add(Signal::SIGTERM);
        mask.add(Signal::SIGINT);
        mask.add(Signal::SIGCHLD);
        mask.thread_block()?;
        let signals = SignalFd::with_flags(&mask, SfdFlags::SFD_CLOEXEC | SfdFlags::SFD_NONBLOCK)?;
        let doorbell =
            Arc::new(Doorbell(EventFd::from_flags(EfdFlags::EFD_CLOEXEC | EfdFlags::EFD_NONBLOCK)?));
        let waker = Waker::from(doorbell.clone());
        let ready = Epoll::new(EpollCreateFlags::EPOLL_CLOEXEC)?;
        ready.add(&signals, EpollEvent::new(EpollFlags::EPOLLIN, 0))?;
        ready.add(&doorbell.0, EpollEvent::new(EpollFlags::EPOLLIN, 0))?;
        Ok(Self { ready, signals, stopped: None.into(), doorbell, waker })
    }

    /// Waits for the deadline or a signal, whichever comes first.
    pub fn until(&self, deadline: Instant) -> Interrupt {
        match self.for_ready(deadline, |_| Poll::<()>::Pending) {
            Ok(()) => Interrupt::Deadline,
            Err(interrupt) => interrupt,
        }
    }

    /// Waits until `poll` is ready. It is asked at the start, and again whenever its context's
    /// waker is rung or a descriptor becomes writable; it may look at any number of things.
    pub fn for_ready<T>(
        &self,
        deadline: Instant,
        mut poll: impl FnMut(&mut Context<'_>) -> Poll<T>,
    ) -> Result<T, Interrupt> {
        let mut context = Context::from_waker(&self.waker);
        loop {
            // A signal goes first: a stream that is always ready must not hold off the end.
            self.check_signals()?;
            if let Poll::Ready(output) = poll(&mut context) {
                return Ok(output);
            }
            let left = deadline.saturating_duration_since(Instant::now());
            match self.ready.wait(&mut [EpollEvent::empty(); 4], timeout(left)) {
                Ok(_) | Err(Errno::EINTR) => {}
                // Out of memory, say. There is no answer but to look again, though not in a loop.
                Err(_) => std::thread::sleep(AFTER_AN_ERROR),
            }
            self.doorbell.silence();
            if Instant::now() >= deadline {
                self.check_signals()?;
                return Err(Interrupt::Deadline);
            }
        }
    }

    /// From now on, every wait looks again when the descriptor can be written to: how a connection
    /// in progress tells its end.
    pub fn for_writable(&self, fd: impl AsFd) -> nix::Result<()> {
        self.ready.add(fd, EpollEvent::new(EpollFlags::EPOLLOUT, 0))
    }

    /// No longer looks at a descriptor.
    pub fn forget(&self, fd: impl AsFd) -> nix::Result<()> {
        self.ready.delete(fd)
    }

    fn check_signals(&self) -> Result<(), Interrupt> {
        let mut child_ended = false;
        while let Ok(Some(info)) = self.signals.read_signal() {
            match Signal::try_from(info.ssi_signo as i32) {
                Ok(Signal::SIGCHLD) => child_ended = true,
                Ok(signal) if self.stopped.get().is_none() => self.stopped.set(Some(StopSignal(signal))),
                _ => {}
            }
        }
        match self.stopped.get() {
            Some(signal) => Err(Interrupt::Stop(signal)),
            None if child_ended => Err(Interrupt::ChildEnded),
            None => Ok(()),
        }
    }
}

/// Rounded up, so that a wait does not end just before its deadline and spin.
fn timeout(left: Duration) -> EpollTimeout {
    EpollTimeout::try_from(left.as_nanos().div_ceil(1_000_000)).unwrap_or(EpollTimeout::MAX)
}

/// Rung from gRPC's threads when something that is waited for may be ready.
struct Doorbell(EventFd);

impl Doorbell {
    fn silence(&self) {
        // EAGAIN: it had not rung, and the wait was for something else.
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
