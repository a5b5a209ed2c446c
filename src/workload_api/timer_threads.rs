//! Lets C-core's timer threads sleep: they wake once a second each, and find no timers. (No call has a
//! deadline of C-core's, no connection a ping, and nothing is connected by it.)
//!
//! A thread's timer slack is how late the kernel may end its sleeps. Only the thread itself may set it, but
//! for privileges; so each of these threads gets a signal, and the handler sets it. The other threads must
//! keep theirs: under contention, C-core's locks sleep for microseconds, and such a sleep could then last as
//! long as the slack.

use std::ffi::OsStr;
use std::fs;
use std::io;

use nix::errno::Errno;
use nix::libc::{self, c_int, c_ulong, c_void, pid_t, siginfo_t};
use nix::sys::prctl::set_timerslack;
use nix::sys::signal::{SaFlags, SigAction, SigHandler, SigSet, Signal, sigaction};
use nix::unistd::getpid;

use crate::timing::TIMER_SLACK;

/// The names that C-core gives them, as the kernel cuts them off.
const NAMES: [&str; 2] = ["grpc_global_tim", "timer_manager"];

/// Ignored by default, and blocked in no thread (see [`Waiter::new`](crate::wait::Waiter::new)).
const SIGNAL: Signal = Signal::SIGURG;

/// The timer threads of this process.
#[derive(Default)]
pub(crate) struct TimerThreads {
    are_asleep: bool,
}

impl TimerThreads {
    /// Lets them sleep, once all are there: gRPC starts one of them with the first call. Without `/proc` they
    /// go on waking up, which does no harm.
    pub(crate) fn let_sleep(&mut self) {
        if !self.are_asleep {
            self.are_asleep = ask_to_sleep().unwrap_or(false);
        }
    }
}

/// Returns whether all were there.
fn ask_to_sleep() -> io::Result<bool> {
    let action = SigAction::new(SigHandler::SigAction(sleep_long), SaFlags::SA_RESTART, SigSet::all());
    #[allow(unsafe_code, reason = "signal handlers are unsafe")]
    // SAFETY: the handler makes one system call, and leaves errno as it was.
    unsafe {
        sigaction(SIGNAL, &action)?;
    }
    let mut missing = NAMES.to_vec();
    for thread in fs::read_dir("/proc/self/task")? {
        let thread = thread?;
        let name = fs::read_to_string(thread.path().join("comm"))?;
        if NAMES.contains(&name.trim_end()) {
            signal(&thread.file_name())?;
            missing.retain(|other| *other != name.trim_end());
        }
    }
    Ok(missing.is_empty())
}

fn signal(thread: &OsStr) -> io::Result<()> {
    let id: Option<pid_t> = thread.to_str().and_then(|id| id.parse().ok());
    #[allow(unsafe_code, reason = "nix has no tgkill")]
    // SAFETY: it takes numbers alone, and reaches no other process.
    let sent =
        unsafe { libc::syscall(libc::SYS_tgkill, getpid().as_raw(), id.unwrap_or(0), SIGNAL as c_int) };
    Errno::result(sent)?;
    Ok(())
}

extern "C" fn sleep_long(_: c_int, info: *mut siginfo_t, _: *mut c_void) {
    let errno = Errno::last_raw();
    #[allow(unsafe_code, reason = "the kernel hands over a pointer")]
    // SAFETY: with SA_SIGINFO, which nix sets, the pointer is good for as long as the handler runs.
    let (code, sender) = unsafe { ((*info).si_code, (*info).si_pid()) };
    // Somebody else's SIGURG, which any thread may get, means nothing.
    if code == libc::SI_TKILL && sender == getpid().as_raw() {
        let _ = set_timerslack(c_ulong::try_from(TIMER_SLACK.as_nanos()).unwrap_or(c_ulong::MAX));
    }
    Errno::set_raw(errno);
}
