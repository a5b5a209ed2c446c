//! A signal by its number, real-time signals included: `nix` has an enum of the standard ones alone.

use std::fmt;
use std::str::FromStr;

use nix::errno::Errno;
use nix::libc;
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

use crate::words::{Flaw, flaw};

/// SIGRTMIN as glibc has it and `kill -l` prints it. (musl's is 35.)
const FIRST_REAL_TIME: i32 = 34;
/// SIGRTMAX, the kernel's highest.
const LAST_REAL_TIME: i32 = 64;

/// A signal that exists: a standard one, or a real-time one that no C library keeps for itself.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct SignalNumber(i32);

impl SignalNumber {
    /// The signal of this number, if there is one.
    pub(crate) fn new(number: i32) -> Option<Self> {
        let exists = Signal::try_from(number).is_ok() || (FIRST_REAL_TIME..=LAST_REAL_TIME).contains(&number);
        exists.then_some(Self(number))
    }

    /// The signal of this name: `SIGHUP`, `SIGRTMIN+3`, `SIGRTMAX-1`, each also without `SIG`, in any
    /// case.
    fn named(name: &str) -> Option<Self> {
        let name = name.to_ascii_uppercase();
        let name = name.strip_prefix("SIG").unwrap_or(&name);
        for (prefix, sign, base) in [("RTMIN", '+', FIRST_REAL_TIME), ("RTMAX", '-', LAST_REAL_TIME)] {
            let distance = match name.strip_prefix(prefix) {
                None => continue,
                Some("") => 0,
                Some(signed) if signed.starts_with(sign) => signed.parse::<i8>().ok()?,
                Some(_) => return None,
            };
            let number = base + i32::from(distance);
            return Some(Self(number)).filter(|_| (FIRST_REAL_TIME..=LAST_REAL_TIME).contains(&number));
        }
        format!("SIG{name}").parse::<Signal>().ok().map(Self::from)
    }

    /// The number.
    pub(crate) fn number(self) -> i32 {
        self.0
    }

    /// The standard signal; `None` for a real-time one.
    pub(crate) fn standard(self) -> Option<Signal> {
        Signal::try_from(self.0).ok()
    }

    /// Whether a process ends by it that neither catches, ignores nor blocks it.
    pub(crate) fn ends_by_default(self) -> bool {
        use Signal::*;
        let stops_or_nothing =
            [SIGCHLD, SIGCONT, SIGURG, SIGWINCH, SIGSTOP, SIGTSTP, SIGTTIN, SIGTTOU].map(Self::from);
        !stops_or_nothing.contains(&self)
    }

    /// Whether it asks a program to end: SIGTERM, SIGINT or SIGQUIT (the stop signal of some images).
    pub(crate) fn asks_to_end(self) -> bool {
        [Signal::SIGTERM, Signal::SIGINT, Signal::SIGQUIT].map(Self::from).contains(&self)
    }

    /// Sends it to a process.
    pub(crate) fn send(self, pid: Pid) -> nix::Result<()> {
        #[cfg(test)]
        if let Some(processes) = super::simulated::simulated() {
            return processes.send(pid, self.0);
        }
        if let Some(signal) = self.standard() {
            return kill(pid, signal);
        }
        #[allow(unsafe_code, reason = "nix cannot send real-time signals")]
        // SAFETY: `kill` takes two numbers and touches no memory of ours.
        let sent = unsafe { libc::kill(pid.as_raw(), self.0) };
        Errno::result(sent).map(drop)
    }
}

impl From<Signal> for SignalNumber {
    fn from(signal: Signal) -> Self {
        Self(signal as i32)
    }
}

impl FromStr for SignalNumber {
    type Err = Flaw;

    /// Reads a signal that an application can take as "read your files again", or as "end". Accepts `SIGHUP`,
    /// `HUP`, `SIGRTMIN+1` (in any case) and numbers.
    fn from_str(text: &str) -> Result<Self, Flaw> {
        use Signal::*;
        let number = text.parse().map_or_else(|_| Self::named(text), Self::new);
        let signal = number.ok_or(Flaw::obvious())?;
        match signal.standard() {
            Some(SIGKILL | SIGSTOP) => Err(flaw!("no program can catch {signal}")),
            Some(SIGTSTP | SIGTTIN | SIGTTOU) => Err(flaw!("{signal} stops a program")),
            Some(SIGILL | SIGTRAP | SIGABRT | SIGBUS | SIGFPE | SIGSEGV | SIGSYS) => {
                Err(flaw!("{signal} reports a fault of the program"))
            }
            Some(SIGCHLD | SIGPIPE | SIGXCPU | SIGXFSZ) => {
                Err(flaw!("{signal} has another meaning: the kernel sends it"))
            }
            _ => Ok(signal),
        }
    }
}

impl fmt::Display for SignalNumber {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match (self.standard(), self.0 - FIRST_REAL_TIME) {
            (Some(signal), _) => f.write_str(signal.as_str()),
            (None, 0) => f.write_str("SIGRTMIN"),
            (None, distance) => write!(f, "SIGRTMIN+{distance}"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_real_time_signal_is_named_from_either_end() {
        let names = ["SIGRTMIN", "rtmin+3", "RTMAX-1", "SIGRTMAX"];
        let numbers = names.map(|name| SignalNumber::named(name).map(SignalNumber::number));
        assert_eq!(numbers, [Some(34), Some(37), Some(63), Some(64)]);
        assert_eq!(SignalNumber(37).to_string(), "SIGRTMIN+3");
    }

    #[test]
    fn a_real_time_signal_outside_of_the_range_does_not_exist() {
        for name in ["RTMIN+31", "RTMAX-31", "RTMIN-1", "RTMAX+1", "RTMIN+", "RTMINX", "RTMIN+-1"] {
            assert_eq!(SignalNumber::named(name), None, "{name}");
        }
        // 32 and 33 belong to the C library's threads.
        for number in [-1, 0, 32, 33, 65] {
            assert_eq!(SignalNumber::new(number), None, "{number}");
        }
    }

    #[test]
    fn a_signal_is_a_name_with_or_without_its_prefix_or_a_number() {
        for text in ["SIGUSR1", "usr1", "USR1", "sigusr1", "10"] {
            assert_eq!(text.parse(), Ok(SignalNumber::from(Signal::SIGUSR1)), "{text}");
        }
        for text in ["", "SIG", "SIGNOTHING", "0", "-1", "32", "65", "1.5", "RTMIN++3", "RTMAX-+1"] {
            assert_eq!(text.parse::<SignalNumber>(), Err(Flaw::obvious()), "{text}");
        }
    }

    #[test]
    fn a_real_time_signal_is_accepted_by_name_and_number() {
        for text in ["SIGRTMIN+3", "rtmin+3", "37", "RTMAX-27"] {
            assert_eq!(text.parse::<SignalNumber>().unwrap().to_string(), "SIGRTMIN+3", "{text}");
        }
    }

    #[test]
    fn a_signal_with_another_meaning_is_refused() {
        for text in ["KILL", "9", "STOP", "TSTP", "SEGV", "ABRT", "CHLD", "PIPE"] {
            let refused = text.parse::<SignalNumber>();
            assert!(refused.is_err_and(|error| error != Flaw::obvious()), "{text}");
        }
    }
}
