//! Finds the process to signal: by its PID file, or by its name.

use std::fmt;
use std::io::{self, Read};
use std::path::{Path, PathBuf};
use std::str::FromStr;
use std::time::SystemTime;

use nix::errno::Errno;
use nix::sys::signal::kill;
use nix::unistd::Pid;
use thiserror::Error;

use super::renew_signal::RenewSignal;
use crate::process::facts::{Stat, all_processes, has_name, would_end};
use crate::regular_file;
use crate::timestamp::rfc3339;
use crate::timing::PID_FILE_SLACK;
use crate::words::WordError;

/// Longer than PostgreSQL's PID file, which has more than a number.
const LONGEST_PID_FILE: u64 = 64 * 1024;

/// The name of a program, as the kernel knows it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct ProcessName(String);

impl FromStr for ProcessName {
    type Err = WordError;

    fn from_str(text: &str) -> Result<Self, WordError> {
        (!text.is_empty() && !text.contains('/')).then(|| Self(text.to_owned())).ok_or(WordError)
    }
}

/// A process to find.
#[derive(Debug, Clone)]
pub(crate) enum Target {
    /// The process whose number is in this file; read anew each time.
    PidFile(PathBuf),
    /// The oldest process of this name that we may signal.
    Name(ProcessName),
}

impl fmt::Display for Target {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::PidFile(path) => write!(f, "the process of {}", path.display()),
            Self::Name(ProcessName(name)) => f.write_str(name),
        }
    }
}

impl Target {
    /// Finds the process and signals it, unless the signal would end it by its default action: the process
    /// may have just started, and not catch signals yet. SIGTERM and the like are there to end it.
    pub(super) fn signal(&self, signal: RenewSignal) -> Result<Pid, TargetError> {
        let pid = match self {
            Self::PidFile(path) => read_pid_file(path)?,
            Self::Name(ProcessName(name)) => oldest_of_name(name)?,
        };
        // Without a shared PID namespace, a number that means another process elsewhere is ours.
        // Signals to one of our threads are for all of us.
        if pid == Pid::this() || Path::new(&format!("/proc/self/task/{pid}")).exists() {
            return Err(TargetError::Ourselves { target: self.clone(), pid });
        }
        if !signal.number().asks_to_end() && would_end(pid, signal.number()) {
            return Err(TargetError::WouldEnd { target: self.clone(), pid, signal });
        }
        let failed = |cause| TargetError::Kill { target: self.clone(), pid, signal, cause };
        signal.number().send(pid).map_err(failed)?;
        Ok(pid)
    }
}

/// The process whose number the file holds, which must not have started after the file was written: the
/// number then has another process by now.
fn read_pid_file(path: &Path) -> Result<Pid, TargetError> {
    let failed = |cause: io::Error| TargetError::PidFile { path: path.to_owned(), cause: cause.kind() };
    let file = regular_file::open(path).map_err(failed)?;
    let file = file.ok_or_else(|| TargetError::NoFile { path: path.to_owned() })?;
    let written = file.metadata().and_then(|metadata| metadata.modified()).map_err(failed)?;
    let mut text = Vec::new();
    file.take(LONGEST_PID_FILE).read_to_end(&mut text).map_err(failed)?;
    let pid = parse_pid(&text).map_err(|text| TargetError::NotAPid { path: path.to_owned(), text })?;
    match Stat::of(pid).and_then(|stat| stat.started()) {
        Some(started) if started > written + PID_FILE_SLACK => {
            Err(TargetError::Stale { path: path.to_owned(), written, pid, started })
        }
        _ => Ok(pid),
    }
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
    let own = Pid::this();
    let started = |pid| Stat::of(pid).filter(|stat| has_name(pid, &stat.name, name));
    let named = all_processes().filter(|pid| *pid != own);
    let named = named.filter_map(|pid| Some((started(pid)?.start_ticks, pid.as_raw())));
    let mut named: Vec<_> = named.collect();
    named.sort_unstable();
    if named.is_empty() {
        return Err(TargetError::NoProcess { name: name.to_owned() });
    }
    let pids = named.into_iter().map(|(_, pid)| Pid::from_raw(pid));
    pids.into_iter()
        .find(|pid| kill(*pid, None) == Ok(()))
        .ok_or_else(|| TargetError::OtherUsers { name: name.to_owned() })
}

/// Why a process was not signalled.
#[derive(Debug, Clone, Error)]
pub(crate) enum TargetError {
    #[error(
        "cannot read the PID file {}: {cause} (does the application write it there, and is it mounted here?)",
        .path.display()
    )]
    PidFile { path: PathBuf, cause: io::ErrorKind },
    #[error("the PID file {} is not a regular file", .path.display())]
    NoFile { path: PathBuf },
    #[error("the PID file {} holds {text:?}, which is not a process ID", .path.display())]
    NotAPid { path: PathBuf, text: String },
    #[error(
        "the PID file {} is stale: it was written at {}, and process {pid} started at {}",
        .path.display(), rfc3339(*.written, 0), rfc3339(*.started, 0)
    )]
    Stale { path: PathBuf, written: SystemTime, pid: Pid, started: SystemTime },
    #[error("no process is called {name} (in a pod, set shareProcessNamespace: true)")]
    NoProcess { name: String },
    #[error(
        "every process called {name} belongs to another user (run as the application's user, or add the capability KILL)"
    )]
    OtherUsers { name: String },
    #[error("{target} is this process itself, {pid} (in a pod, set shareProcessNamespace: true)")]
    Ourselves { target: Target, pid: Pid },
    #[error(
        "{target} (process {pid}) neither catches nor ignores {signal}, which would end it (is it still starting?)"
    )]
    WouldEnd { target: Target, pid: Pid, signal: RenewSignal },
    #[error("cannot send {signal} to {target} (process {pid}): {}{}", .cause.desc(), kill_hint(*.cause))]
    Kill { target: Target, pid: Pid, signal: RenewSignal, cause: Errno },
}

fn kill_hint(cause: Errno) -> &'static str {
    match cause {
        Errno::ESRCH => {
            " (the number is stale, or from another PID namespace: in a pod, set shareProcessNamespace: true)"
        }
        Errno::EPERM => " (run as the application's user, or add the capability KILL)",
        _ => "",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_line_of_a_pid_file_is_the_number_of_one_process() {
        assert_eq!(parse_pid(b" 12 \n/var/lib\n"), Ok(Pid::from_raw(12)));
        for text in ["", "0", "-1", "garbage", "99999999999"] {
            assert_eq!(parse_pid(text.as_bytes()), Err(text.to_owned()));
        }
    }
}
