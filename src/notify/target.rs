//! Finds the process to signal: by its PID file, or by its name.

use std::ffi::OsStr;
use std::fmt;
use std::fs::OpenOptions;
use std::io::{self, Read};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

use nix::errno::Errno;
use nix::fcntl::OFlag;
use nix::sys::signal::{Signal, kill};
use nix::unistd::{Pid, getpid};
use thiserror::Error;

/// More than PostgreSQL's.
const LONGEST_PID_FILE: u64 = 64 * 1024;

/// The kernel keeps no more of a process's name.
const LONGEST_NAME: usize = 15;

/// A process, by what leads to it.
#[derive(Debug, Clone)]
pub enum Target {
    /// The process whose number is in this file; read anew each time.
    PidFile(PathBuf),
    /// The oldest process of this name that can be seen.
    Name(String),
}

impl fmt::Display for Target {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::PidFile(path) => write!(f, "the process of {}", path.display()),
            Self::Name(name) => f.write_str(name),
        }
    }
}

impl Target {
    /// Finds the process and signals it: one that was found by name, and would be ended by the signal,
    /// only if `insists`. It may have been started just now, and not expect signals yet.
    pub(super) fn signal(&self, signal: Signal, insists: bool) -> Result<Pid, TargetError> {
        let pid = match self {
            Self::PidFile(path) => read_pid(path)?,
            Self::Name(name) => oldest_of_name(Path::new("/proc"), name)
                .ok_or_else(|| TargetError::NoProcess { name: name.clone() })?,
        };
        // Without a shared PID namespace, a number that means another process elsewhere is ours.
        // Signals to one of our threads are for all of us.
        if pid == getpid() || Path::new(&format!("/proc/self/task/{pid}")).exists() {
            return Err(TargetError::Ourselves { target: self.clone(), pid });
        }
        if matches!(self, Self::Name(_)) && !insists && !expects(pid, signal) {
            return Err(TargetError::Unready { target: self.clone(), pid, signal });
        }
        kill(pid, signal).map_err(|cause| TargetError::Kill { target: self.clone(), pid, signal, cause })?;
        Ok(pid)
    }
}

fn read_pid(path: &Path) -> Result<Pid, TargetError> {
    let failed = |cause: io::Error| TargetError::PidFile { path: path.to_owned(), cause: cause.kind() };
    // Whoever may write it must not be able to hold us up: a pipe would, for one.
    let file = OpenOptions::new().read(true).custom_flags(OFlag::O_NONBLOCK.bits()).open(path);
    let file = file.map_err(failed)?;
    if !file.metadata().map_err(failed)?.is_file() {
        return Err(TargetError::NoFile { path: path.to_owned() });
    }
    let mut text = Vec::new();
    file.take(LONGEST_PID_FILE).read_to_end(&mut text).map_err(failed)?;
    // PostgreSQL's has more lines, with other things.
    let first_line = text.split(|byte| *byte == b'\n').next().unwrap_or_default();
    let number = String::from_utf8_lossy(first_line);
    let number = number.trim();
    match number.parse() {
        // 0 and below are no processes, but groups of them.
        Ok(pid @ 1..) => Ok(Pid::from_raw(pid)),
        _ => Err(TargetError::NotAPid { path: path.to_owned(), text: number.chars().take(40).collect() }),
    }
}

fn oldest_of_name(proc: &Path, name: &str) -> Option<Pid> {
    let own = getpid();
    let processes = std::fs::read_dir(proc).ok()?.flatten();
    processes
        .filter_map(|entry| {
            let pid: i32 = entry.file_name().to_str()?.parse().ok()?;
            let started = start_of_process(&entry.path(), name)?;
            Some((started, pid)).filter(|_| pid != own.as_raw())
        })
        .min()
        .map(|(_, pid)| Pid::from_raw(pid))
}

/// When a process began, if it has this name and still lives.
fn start_of_process(process: &Path, name: &str) -> Option<u64> {
    let stat = std::fs::read(process.join("stat")).ok()?;
    let stat = String::from_utf8_lossy(&stat);
    // `12 (name) S 1 ...`: a name may have spaces and parentheses of its own.
    let (before, after) = stat.rsplit_once(')')?;
    let (_, found) = before.split_once('(')?;
    let fields: Vec<&str> = after.split_whitespace().collect();
    let is_alive = !matches!(fields.first(), Some(&("Z" | "X")));
    let has_name = is_name(name, found, program_of(process).as_deref());
    // starttime is the 22nd field; the 3rd is the first here.
    (is_alive && has_name).then(|| fields.get(19)?.parse().ok()).flatten()
}

/// Whether a process catches a signal or ignores it, as far as the kernel tells.
fn expects(pid: Pid, signal: Signal) -> bool {
    let Ok(status) = std::fs::read_to_string(format!("/proc/{pid}/status")) else { return true };
    let mask = |name| {
        let digits = status.lines().find_map(|line| line.strip_prefix(name));
        digits.and_then(|digits| u64::from_str_radix(digits.trim(), 16).ok()).unwrap_or_default()
    };
    (mask("SigCgt:") | mask("SigIgn:")) & 1 << (signal as i32 - 1) != 0
}

/// Whether a process is called `name`, which the kernel calls `found`, and which was run as
/// `program`.
///
/// The kernel keeps only the beginning of a longer name, which other names may share. What the
/// process was told goes on where the kernel's ends, unless it is an interpreter's.
fn is_name(name: &str, found: &str, program: Option<&str>) -> bool {
    let is_cut = found.len() >= LONGEST_NAME;
    match program {
        Some(program) if program == name => true,
        Some(program) if is_cut && program.starts_with(found) && !program.starts_with(name) => false,
        _ => found == name || is_cut && name.starts_with(found),
    }
}

/// The file name of what was run, as the process was told.
fn program_of(process: &Path) -> Option<String> {
    let command_line = std::fs::read(process.join("cmdline")).ok()?;
    let program = String::from_utf8(command_line.split(|byte| *byte == 0).next()?.to_vec()).ok()?;
    Path::new(&program).file_name().and_then(OsStr::to_str).map(str::to_owned)
}

/// Why a process was not signalled.
#[derive(Debug, Clone, Error)]
pub(super) enum TargetError {
    #[error("cannot read the PID file {}: {cause} (does the application write it there, and is it mounted here?)", .path.display())]
    PidFile { path: PathBuf, cause: io::ErrorKind },
    #[error("the PID file {} is no plain file", .path.display())]
    NoFile { path: PathBuf },
    #[error("the PID file {} holds {text:?}, which is no process's number", .path.display())]
    NotAPid { path: PathBuf, text: String },
    #[error("there is no process {name} to be seen (in a pod, set shareProcessNamespace: true)")]
    NoProcess { name: String },
    #[error("{target} would be this very process, {pid} (in a pod, set shareProcessNamespace: true)")]
    Ourselves { target: Target, pid: Pid },
    #[error("{target} (process {pid}) does not expect {signal}, which would end it; is it still starting?")]
    Unready { target: Target, pid: Pid, signal: Signal },
    #[error("cannot send {signal} to {target} (process {pid}): {}{}", .cause.desc(), kill_hint(*.cause))]
    Kill { target: Target, pid: Pid, signal: Signal, cause: Errno },
}

fn kill_hint(cause: Errno) -> &'static str {
    match cause {
        Errno::ESRCH => {
            " (the number is stale, or from another PID namespace: in a pod, set shareProcessNamespace: true)"
        }
        Errno::EPERM => " (run as the same user as the application, or add the capability KILL)",
        _ => "",
    }
}
