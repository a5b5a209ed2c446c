//! Finds the process to signal, by its PID file or by its name, and signals it: the one place from which
//! rotations are signalled.

use std::fmt;
use std::io::{self, Read};
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::str::FromStr;
use std::time::SystemTime;

use nix::errno::Errno;
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use thiserror::Error;

use crate::process::facts::{Reaction, Stat, all_processes, has_name, ticks_since_boot};
use crate::process::signal::SignalNumber;
use crate::regular_file;
use crate::time::timestamp::rfc3339;
use crate::time::timing::PID_FILE_SLACK;
use crate::words::{Flaw, flaw};

/// Longer than PostgreSQL's PID file, which has more than a number.
const LONGEST_PID_FILE: u64 = 64 * 1024;

/// The cure for a `/proc` that hides a process.
const UNHIDE: &str = "(run the helper as the application's user; or is /proc mounted with hidepid? mount it with gid= of a group of the helper's; under systemd, set ProtectProc=default)";

/// The name of a program, as the kernel knows it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct ProcessName(String);

impl FromStr for ProcessName {
    type Err = Flaw;

    fn from_str(text: &str) -> Result<Self, Flaw> {
        (!text.is_empty() && !text.contains('/')).then(|| Self(text.to_owned())).ok_or(Flaw::obvious())
    }
}

/// A process to find.
#[derive(Debug, Clone)]
pub(crate) enum Target {
    /// The process whose number is in this file; read anew each time.
    PidFile(PidFile),
    /// The oldest process of this name that we may signal.
    Name(ProcessName),
    /// Our own child.
    Child { program: String, pid: Pid },
}

/// A PID file, and the process that was found to be its own.
#[derive(Debug, Clone)]
pub(crate) struct PidFile {
    path: PathBuf,
    /// Stays, even when a clock that is set makes the file look older than the process.
    accepted: Option<Owner>,
}

/// A process that a file names.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Owner {
    pid: Pid,
    start_ticks: u64,
    inode: u64,
}

/// That a file may mean an earlier process of the same number than this one.
struct Doubt {
    owner: Owner,
    error: TargetError,
}

/// What a look at a process has shown, unless that failed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Look {
    /// The process has the signal, or needs none.
    Told,
    /// The process blocks the signal: either it waits for the signal, or the moment passes.
    Blocked(Pid),
}

impl fmt::Display for Target {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::PidFile(file) => write!(f, "the process of {}", file.path.display()),
            Self::Name(ProcessName(name)) => f.write_str(name),
            Self::Child { program, .. } => f.write_str(program),
        }
    }
}

impl Target {
    /// The process whose number is in this file.
    pub(crate) fn pid_file(path: PathBuf) -> Self {
        Self::PidFile(PidFile { path, accepted: None })
    }

    /// Finds the process and signals it, unless the signal would end it by its default action: the process
    /// may have just started, and not catch signals yet. SIGTERM and the like are there to end it.
    ///
    /// A process that started after the publication has read the new files, unless it is a daemon's fork that goes
    /// on with what its parent has read. (`published`: in ticks since the system started.) `waits`: a process that
    /// has blocked the signal for long, to wait for it.
    pub(super) fn signal(
        &mut self,
        signal: SignalNumber,
        published: u64,
        waits: Option<Pid>,
    ) -> Result<Look, TargetError> {
        let (pid, doubt) = match self {
            Self::PidFile(file) => file.read()?,
            Self::Name(ProcessName(name)) => (oldest_of_name(name)?, None),
            Self::Child { pid, .. } => (*pid, None),
        };
        // Without a shared PID namespace, a number that means another process elsewhere is ours.
        // Signals to one of our threads are for all of us.
        if pid == Pid::this() || Path::new(&format!("/proc/self/task/{pid}")).exists() {
            return Err(flaw!(
                "{self} is this process itself, {pid} (in a pod, set shareProcessNamespace: true)"
            )
            .into());
        }
        // The end of a child would be ours.
        let may_end = signal.asks_to_end() && !matches!(self, Self::Child { .. });
        // One signal too many has the files read again. One that ends a process is a restart, for a chance of milliseconds.
        if doubt.is_none() && has_started_after(pid, published, may_end) {
            log::debug!("{self} (process {pid}) needs no {signal}: it started after the publication");
            return Ok(Look::Told);
        }
        match (&doubt, Reaction::of(pid, signal)) {
            (_, Reaction::Gone) => return Err(self.absent(pid)),
            // Its start, too, is hidden: the number may be another process's by now.
            (None, Reaction::Hidden) if may_end && Stat::of(pid).is_none() => {
                return Err(self.might_be_another(pid, signal));
            }
            (None, _) if may_end => {}
            (Some(doubt), reaction) if may_end || reaction != Reaction::Handles => {
                return Err(doubt.error.clone());
            }
            (_, Reaction::Handles) => {}
            (_, Reaction::Blocks) if waits == Some(pid) => {}
            (_, Reaction::Blocks) => return Ok(Look::Blocked(pid)),
            (_, Reaction::Ends) => return Err(self.would_end(pid, signal)),
            (_, Reaction::Hidden) => return Err(self.might_end(pid, signal)),
        }
        signal.send(pid).map_err(|cause| match cause {
            Errno::ESRCH => self.absent(pid),
            cause => {
                let hint = match cause {
                    Errno::EPERM => " (run as the application's user, or add the capability KILL)",
                    _ => "",
                };
                flaw!("cannot send {signal} to {self} (process {pid}): {}{hint}", cause.desc()).into()
            }
        })?;
        log::info!("sent {signal} to {self} (process {pid})");
        if let (Self::PidFile(file), Some(Doubt { owner, error })) = (self, doubt) {
            log::warn!("{error} (has a clock been set?); the process handles {signal}, so it got the signal");
            file.accepted = Some(owner);
        }
        Ok(Look::Told)
    }

    fn absent(&self, pid: Pid) -> TargetError {
        TargetError::Absent(flaw!(
            "{self}, {pid}: no process has this PID here (has it ended? in a pod, set shareProcessNamespace: true)"
        ))
    }

    /// The errors for a process that `/proc` hides.
    fn might_end(&self, pid: Pid, signal: SignalNumber) -> TargetError {
        TargetError::WouldEnd(flaw!(
            "/proc does not show whether {self} (process {pid}) catches {signal}, which might end it {UNHIDE}"
        ))
    }

    fn might_be_another(&self, pid: Pid, signal: SignalNumber) -> TargetError {
        TargetError::WouldEnd(flaw!(
            "/proc does not show whether process {pid} is still {self}, and {signal} would end it {UNHIDE}"
        ))
    }

    /// The error for a signal whose default action would end the process.
    fn would_end(&self, pid: Pid, signal: SignalNumber) -> TargetError {
        let cure = match self {
            Self::Child { .. } => {
                "; choose --on-renewal=restart, or --on-renewal=nothing if it watches the files"
            }
            Self::PidFile(_) | Self::Name(_) => " (is it still starting?)",
        };
        TargetError::WouldEnd(flaw!(
            "{self} (process {pid}) neither catches nor ignores {signal}, which would end it{cure}"
        ))
    }
}

/// Whether a process started after a moment, in ticks since the system started. A start in the future would
/// show that this system's clocks cannot be compared. The start of a fork counts only if that is asked for.
fn has_started_after(pid: Pid, moment: u64, with_forks: bool) -> bool {
    let is_after = |start: u64| start > moment && start <= ticks_since_boot();
    Stat::of(pid).is_some_and(|stat| is_after(stat.start_ticks) && (with_forks || !stat.is_fork))
}

/// A signal that an application can take as "read your files again", or as "end".
///
/// # Errors
///
/// Why it can take this one as neither.
pub(crate) fn renewal_signal(signal: SignalNumber) -> Result<SignalNumber, Flaw> {
    use Signal::*;
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

impl PidFile {
    /// The process whose number the file holds. If it started after the file was written, the number may have
    /// another process by now, or a clock was set.
    fn read(&mut self) -> Result<(Pid, Option<Doubt>), TargetError> {
        let path = self.path.display();
        let failed = |cause: io::Error| match cause.kind() {
            io::ErrorKind::NotFound => TargetError::Absent(flaw!(
                "no PID file at {path} (does the application write it there, and is it mounted here?)"
            )),
            cause => flaw!("cannot read the PID file {path}: {cause}").into(),
        };
        let file = regular_file::open(&self.path).map_err(failed)?;
        let file = file.ok_or_else(|| flaw!("the PID file {path} is not a regular file"))?;
        let metadata = file.metadata().map_err(failed)?;
        let mut text = Vec::new();
        file.take(LONGEST_PID_FILE).read_to_end(&mut text).map_err(failed)?;
        let pid = parse_pid(&text)
            .map_err(|text| flaw!("the PID file {path} holds {text:?}, which is not a process ID"))?;
        let Some(stat) = Stat::of(pid) else { return Ok((pid, None)) };
        let owner = Owner { pid, start_ticks: stat.start_ticks, inode: metadata.ino() };
        if self.accepted == Some(owner) {
            return Ok((pid, None));
        }
        let written = metadata.modified().map_err(failed)?;
        let started = stat.started().filter(|started| is_older(written, *started));
        match started {
            Some(started) => {
                let [written, started] = [written, started].map(|time| rfc3339(time, 0));
                let error = TargetError::Absent(flaw!(
                    "the PID file {path} is older than process {pid}: it was written at {written}, and the process started at {started}"
                ));
                Ok((pid, Some(Doubt { owner, error })))
            }
            None => {
                self.accepted = Some(owner);
                Ok((pid, None))
            }
        }
    }
}

/// Whether a PID file was written before its process started.
pub(crate) fn is_older(written: SystemTime, started: SystemTime) -> bool {
    started.duration_since(written).is_ok_and(|gap| gap > PID_FILE_SLACK)
}

/// Reads the first line. (PostgreSQL's file has more, with other things.) Fails with the beginning of it.
pub(crate) fn parse_pid(text: &[u8]) -> Result<Pid, String> {
    let first_line = text.split(|byte| *byte == b'\n').next().unwrap_or_default();
    let number = String::from_utf8_lossy(first_line);
    let number = number.trim();
    match number.parse() {
        // 0 and below are no processes, but groups of them.
        Ok(pid @ 1..) => Ok(Pid::from_raw(pid)),
        _ => Err(number.chars().take(40).collect()),
    }
}

/// The oldest process of this name that we may signal: one of another user that took the name must not
/// get the application's signals.
fn oldest_of_name(name: &str) -> Result<Pid, TargetError> {
    let ticks_and_pid = |pid| {
        let stat = Stat::of(pid).filter(|stat| pid != Pid::this() && has_name(pid, &stat.name, name))?;
        Some((stat.start_ticks, pid))
    };
    let named: Vec<_> = all_processes().filter_map(ticks_and_pid).collect();
    if named.is_empty() {
        return Err(TargetError::Absent(flaw!(
            "no process is called {name} (in a pod, set shareProcessNamespace: true; is /proc mounted with hidepid?)"
        )));
    }
    let oldest = named.into_iter().filter(|(_, pid)| kill(*pid, None) == Ok(())).min();
    oldest.map(|(_, pid)| pid).ok_or_else(|| flaw!(
        "every process called {name} belongs to another user (run as the application's user, or add the capability KILL)"
    ).into())
}

/// Why a process was not signalled.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub(crate) enum TargetError {
    /// The process is not there: it has not started yet, or has ended.
    #[error(transparent)]
    Absent(Flaw),
    /// The signal would end it, as far as is known: it may still be starting.
    #[error(transparent)]
    WouldEnd(Flaw),
    /// The start of the application mends nothing.
    #[error(transparent)]
    Failed(#[from] Flaw),
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_signal_with_another_meaning_is_refused() {
        for text in ["KILL", "9", "STOP", "TSTP", "SEGV", "ABRT", "CHLD", "PIPE"] {
            let refused = text.parse().and_then(renewal_signal);
            assert!(refused.is_err_and(|error| error != Flaw::obvious()), "{text}");
        }
        for text in ["HUP", "TERM", "USR1", "WINCH", "RTMIN+3"] {
            assert!(text.parse().and_then(renewal_signal).is_ok(), "{text}");
        }
    }

    #[test]
    fn the_first_line_of_a_pid_file_is_the_number_of_one_process() {
        assert_eq!(parse_pid(b" 12 \n/var/lib\n"), Ok(Pid::from_raw(12)));
        for text in ["", "0", "-1", "garbage", "99999999999"] {
            assert_eq!(parse_pid(text.as_bytes()), Err(text.to_owned()));
        }
    }
}
