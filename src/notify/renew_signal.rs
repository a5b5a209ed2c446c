//! The signal that notifies an application of new files.

use std::fmt;
use std::str::FromStr;

use nix::sys::signal::Signal;

use crate::process::signal::SignalNumber;
use crate::words::{Flaw, flaw};

/// A signal that an application can take as "read your files again", or as "end".
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct RenewSignal(SignalNumber);

impl RenewSignal {
    /// Which signal it is.
    pub(crate) fn number(self) -> SignalNumber {
        self.0
    }
}

impl Default for RenewSignal {
    fn default() -> Self {
        Self(Signal::SIGHUP.into())
    }
}

impl FromStr for RenewSignal {
    type Err = Flaw;

    /// Accepts `SIGHUP`, `HUP`, `SIGRTMIN+1` (in any case) and numbers.
    fn from_str(text: &str) -> Result<Self, Flaw> {
        use Signal::*;
        let number = text.parse().map_or_else(|_| SignalNumber::named(text), SignalNumber::new);
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
            _ => Ok(Self(signal)),
        }
    }
}

impl fmt::Display for RenewSignal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_signal_is_a_name_with_or_without_its_prefix_or_a_number() {
        for text in ["SIGUSR1", "usr1", "USR1", "sigusr1", "10"] {
            assert_eq!(text.parse(), Ok(RenewSignal(Signal::SIGUSR1.into())), "{text}");
        }
        for text in ["", "SIG", "SIGNOTHING", "0", "-1", "32", "65", "1.5", "RTMIN++3", "RTMAX-+1"] {
            assert_eq!(text.parse::<RenewSignal>(), Err(Flaw::obvious()), "{text}");
        }
    }

    #[test]
    fn a_real_time_signal_is_accepted_by_name_and_number() {
        for text in ["SIGRTMIN+3", "rtmin+3", "37", "RTMAX-27"] {
            assert_eq!(text.parse::<RenewSignal>().unwrap().to_string(), "SIGRTMIN+3", "{text}");
        }
    }

    #[test]
    fn a_signal_with_another_meaning_is_refused() {
        for text in ["KILL", "9", "STOP", "TSTP", "SEGV", "ABRT", "CHLD", "PIPE"] {
            let refused = text.parse::<RenewSignal>();
            assert!(refused.is_err_and(|error| error != Flaw::obvious()), "{text}");
        }
    }
}
