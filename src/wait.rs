//! The one place where the program waits: until something is ready, a deadline has passed, a signal has
//! arrived or a child has ended. (What prints an answer at the end waits for its reader.)
//!
//! Signals are blocked and read from a descriptor, so they interrupt every wait at once and nothing else:
//! code between two waits is never interrupted by a signal. This works as process 1 too: the kernel
//! would drop a signal that has no handler and is not blocked.

use std::io;
use std::os::fd::AsFd;
use std::sync::Arc;
use std::task::{Context, Wake, Waker};
use std::time::Instant;

use nix::errno::Errno;
use nix::libc;
use nix::sys::epoll::{Epoll, EpollCreateFlags, EpollEvent, EpollFlags, EpollTimeout};
use nix::sys::eventfd::{EfdFlags, EventFd};
use nix::sys::signal::{SigHandler, SigSet, Signal, signal};
use nix::sys::signalfd::{SfdFlags, SignalFd};

use crate::process::signal::SignalNumber;
use crate::time::timing::EPOLL_ERROR_PAUSE;

/// Signals that keep their default actions: reports of faults in our own code, and the stops of a shell's
/// job control. (SIGPIPE is ignored, as Rust has it.)
const NOT_OURS: [Signal; 12] = [
    Signal::SIGILL,
    Signal::SIGTRAP,
    Signal::SIGABRT,
    Signal::SIGBUS,
    Signal::SIGFPE,
    Signal::SIGSEGV,
    Signal::SIGSYS,
    Signal::SIGPIPE,
    Signal::SIGCONT,
    Signal::SIGTSTP,
    Signal::SIGTTIN,
    Signal::SIGTTOU,
];

/// Why a wait has ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Woken {
    /// Something may be ready, or the deadline has passed.
    Ready,
    /// A child process has ended, or more than one.
    ChildEnded,
    /// A signal has arrived.
    Signal(ReceivedSignal),
}

/// A signal that was sent to this process.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct ReceivedSignal {
    /// Which one.
    pub(crate) signal: SignalNumber,
    /// Its sender.
    pub(crate) sender: Sender,
}

/// The sender of a signal.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Sender {
    /// A process: the signal has reached us alone. So does the kernel's SIGHUP, for the leader of a session.
    Process,
    /// A terminal (for Ctrl-C, for example): the signal has reached its foreground process group.
    Terminal,
    /// The kernel, about what this process does: it exceeds a limit, for example.
    Kernel,
}

/// From now on, the signals that ask to end do so by themselves, unless we are process 1: for what waits elsewhere than
/// in a [`Waiter`].
pub(crate) fn let_signals_end_us() {
    let signals: SigSet = [Signal::SIGINT, Signal::SIGQUIT, Signal::SIGTERM].into_iter().collect();
    if let Err(cause) = signals.thread_unblock() {
        log::debug!("cannot unblock signals: {}", cause.desc());
    }
}

/// The program's one place to wait.
pub(crate) struct Waiter {
    /// Ready when a signal has arrived, the bell was rung, or a descriptor in [`for_writable`]'s care
    /// can be written to.
    ///
    /// [`for_writable`]: Self::for_writable
    ready: Epoll,
    signals: SignalFd,
    doorbell: Arc<Doorbell>,
    waker: Waker,
}

impl Waiter {
    /// Takes over every signal but a few, which keep their default actions. To be called before any other
    /// thread exists: threads inherit the blocked signals from the thread that starts them.
    pub(crate) fn new() -> io::Result<Self> {
        let mut mask = SigSet::all();
        NOT_OURS.into_iter().for_each(|signal| mask.remove(signal));
        mask.thread_block()?;
        // Our parent may ignore it. The kernel would then tell nothing of our children's ends.
        #[allow(unsafe_code, reason = "nix cannot know what handlers do")]
        // SAFETY: it sets the default action, which runs no code of ours.
        unsafe {
            signal(Signal::SIGCHLD, SigHandler::SigDfl)?;
        }
        let signals = SignalFd::with_flags(&mask, SfdFlags::SFD_CLOEXEC | SfdFlags::SFD_NONBLOCK)?;
        let doorbell =
            Arc::new(Doorbell(EventFd::from_flags(EfdFlags::EFD_CLOEXEC | EfdFlags::EFD_NONBLOCK)?));
        let waker = Waker::from(doorbell.clone());
        let ready = Epoll::new(EpollCreateFlags::EPOLL_CLOEXEC)?;
        ready.add(&signals, EpollEvent::new(EpollFlags::EPOLLIN, 0))?;
        ready.add(&doorbell.0, EpollEvent::new(EpollFlags::EPOLLIN, 0))?;
        Ok(Self { ready, signals, doorbell, waker })
    }

    /// The context to poll futures with: its waker ends the next [`wait`](Self::wait).
    pub(crate) fn context(&self) -> Context<'_> {
        Context::from_waker(&self.waker)
    }

    /// Waits until something may be ready that was polled before with [`context`](Self::context), until the
    /// deadline, or until a signal, whichever comes first. The next polls find out what is ready.
    ///
    /// A signal goes first, also when the deadline has passed already: a source that is always ready must
    /// not hold off the end. Of several signals, each wait brings one.
    pub(crate) fn wait(&self, deadline: Instant) -> Woken {
        let left = deadline.saturating_duration_since(Instant::now());
        // Rounded up, so that a wait does not end just before its deadline and spin.
        let timeout =
            EpollTimeout::try_from(left.as_nanos().div_ceil(1_000_000)).unwrap_or(EpollTimeout::MAX);
        match self.ready.wait(&mut [EpollEvent::empty(); 4], timeout) {
            Ok(_) | Err(Errno::EINTR) => {}
            // Out of memory, for example. Looks again, though not in a tight loop.
            Err(_) => std::thread::sleep(EPOLL_ERROR_PAUSE),
        }
        // EAGAIN: it had not rung.
        let _ = self.doorbell.0.read();
        self.next_signal().unwrap_or(Woken::Ready)
    }

    /// From now on, a wait ends when the descriptor can be written to: a connection attempt has ended.
    pub(crate) fn for_writable(&self, fd: impl AsFd) -> nix::Result<()> {
        self.ready.add(fd, EpollEvent::new(EpollFlags::EPOLLOUT, 0))
    }

    /// From now on, a wait ends when the descriptor can be read from.
    pub(crate) fn for_readable(&self, fd: impl AsFd) -> nix::Result<()> {
        self.ready.add(fd, EpollEvent::new(EpollFlags::EPOLLIN, 0))
    }

    /// No longer waits on a descriptor.
    pub(crate) fn forget(&self, fd: impl AsFd) -> nix::Result<()> {
        self.ready.delete(fd)
    }

    fn next_signal(&self) -> Option<Woken> {
        while let Ok(Some(info)) = self.signals.read_signal() {
            let signal = i32::try_from(info.ssi_signo).ok().and_then(SignalNumber::new);
            // The C library's own signals have no number here, and are never blocked.
            let Some(signal) = signal else { continue };
            if signal == Signal::SIGCHLD.into() {
                return Some(Woken::ChildEnded);
            }
            let sender = sender(signal, info.ssi_code, info.ssi_pid);
            return Some(Woken::Signal(ReceivedSignal { signal, sender }));
        }
        None
    }
}

fn sender(signal: SignalNumber, code: i32, pid: u32) -> Sender {
    match (code, signal.standard()) {
        // For a file that would become too large, the kernel writes our own number.
        _ if pid == std::process::id() => Sender::Kernel,
        (libc::SI_KERNEL, Some(Signal::SIGINT | Signal::SIGQUIT | Signal::SIGWINCH)) => Sender::Terminal,
        (libc::SI_KERNEL, signal) if signal != Some(Signal::SIGHUP) => Sender::Kernel,
        _ => Sender::Process,
    }
}

/// Whether a signal waits to be read that tells the program to end.
pub(crate) fn is_told_to_end() -> bool {
    let mut pending = std::mem::MaybeUninit::<libc::sigset_t>::zeroed();
    #[allow(unsafe_code, reason = "nix has no sigpending")]
    // SAFETY: both calls get a set that is ours; zeroed, it is the empty one.
    unsafe {
        libc::sigpending(pending.as_mut_ptr()) == 0
            && [libc::SIGTERM, libc::SIGINT, libc::SIGQUIT]
                .iter()
                .any(|signal| libc::sigismember(pending.as_ptr(), *signal) == 1)
    }
}

/// Rung from gRPC's threads when a future may be ready.
struct Doorbell(EventFd);

impl Wake for Doorbell {
    fn wake(self: Arc<Self>) {
        while self.0.write(1) == Err(Errno::EINTR) {}
    }
}
