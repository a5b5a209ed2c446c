//! Ends the process where gRPC would not let it end.
//!
//! Without memory or threads, C-core aborts, waits for ever for a thread that could not be started, or
//! never returns from its destructors. So nothing of it is taken apart at the end; an abort becomes a
//! clear line and a failure; and `init` has an alarm that needs no thread.

use std::io;
use std::os::fd::AsFd;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use nix::libc::{self, c_int, c_void, siginfo_t};
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::signal::{SaFlags, SigAction, SigHandler, SigSet, Signal, sigaction};
use nix::unistd::{alarm, write};

use crate::time::timing::{ALARM_GRACE, FINAL_FLUSH};

/// The exit code of a failure.
pub(crate) const FAILURE: u8 = 1;

/// Whether the log is JSON.
static IS_JSON: AtomicBool = AtomicBool::new(false);

/// A line as text and as JSON. A handler may not allocate, so neither has the time.
macro_rules! last_line {
    ($message:literal) => {
        [
            concat!("pod-svid-helper: ", $message, "\n"),
            concat!(r#"{"level":"error","message":""#, $message, "\"}\n"),
        ]
    };
}

const ABORTED: [&str; 2] = last_line!(
    "aborted: out of memory or threads (check the limits on memory, address space and processes, and whether the container's seccomp profile refuses clone3), or a defect of gRPC"
);
const OVERDUE: [&str; 2] = last_line!(
    "still running after --init-timeout: a gRPC or file-system call hangs (check the limits on memory, address space and processes)"
);

const KILLED: [&str; 2] = last_line!(
    "ended by a SIGABRT of another process: systemd sends one when the watchdog of the service has waited for too long (does a file system hang, or is the machine overloaded?)"
);

/// Ends the process at once, without destructors, those of C and C++ among them.
pub(crate) fn leave(code: u8) -> ! {
    #[allow(unsafe_code, reason = "neither std nor nix has it")]
    // SAFETY: it does not return, and may be called at any time, in a signal handler too.
    unsafe {
        libc::_exit(code.into())
    }
}

/// From now on, an abort is a line on stderr, in the form of the log, and a failure.
pub(crate) fn explain_aborts(is_json: bool) {
    IS_JSON.store(is_json, Ordering::Relaxed);
    handle(Signal::SIGABRT, SigHandler::SigAction(aborted));
}

/// From now on, the process ends by a failure when this time and a grace have passed, whatever it does.
pub(crate) fn end_within(time: Duration) {
    handle(Signal::SIGALRM, SigHandler::SigAction(overdue));
    let alarm_only: SigSet = [Signal::SIGALRM].into_iter().collect();
    let seconds = u32::try_from((time + ALARM_GRACE).as_secs() + 1).unwrap_or(u32::MAX);
    if alarm_only.thread_unblock().is_ok() {
        alarm::set(seconds);
    }
}

/// Takes [`end_within`] back.
pub(crate) fn end_at_will() {
    alarm::cancel();
}

fn handle(signal: Signal, handler: SigHandler) {
    let action = SigAction::new(handler, SaFlags::SA_RESTART, SigSet::all());
    #[allow(unsafe_code, reason = "signal handlers are unsafe")]
    // SAFETY: both handlers call only what may be called in one: poll, write and _exit.
    let installed = unsafe { sigaction(signal, &action) };
    if let Err(cause) = installed {
        log::debug!("cannot handle {signal}: {}", cause.desc());
    }
}

extern "C" fn aborted(_: c_int, info: *mut siginfo_t, _: *mut c_void) {
    say(if origin(info) == libc::SI_USER { KILLED } else { ABORTED });
    leave(FAILURE);
}

extern "C" fn overdue(_: c_int, info: *mut siginfo_t, _: *mut c_void) {
    // Somebody else's SIGALRM means nothing.
    if origin(info) == libc::SI_KERNEL {
        say(OVERDUE);
        leave(FAILURE);
    }
}

/// Where a signal comes from.
fn origin(info: *const siginfo_t) -> c_int {
    #[allow(unsafe_code, reason = "the kernel hands over a pointer")]
    // SAFETY: with SA_SIGINFO, which nix sets, the pointer is good for as long as the handler runs.
    unsafe {
        (*info).si_code
    }
}

/// Writes a line if there is room for it, or soon will be.
fn say([text, json]: [&str; 2]) {
    let line = if IS_JSON.load(Ordering::Relaxed) { json } else { text };
    let stderr = io::stderr();
    let patience = PollTimeout::try_from(FINAL_FLUSH).unwrap_or(PollTimeout::ZERO);
    if poll(&mut [PollFd::new(stderr.as_fd(), PollFlags::POLLOUT)], patience).is_ok_and(|ready| ready > 0) {
        let _ = write(&stderr, line.as_bytes());
    }
}
