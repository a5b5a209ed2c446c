//! Child processes: started with the environment and the descriptors that they need, and reaped.
//!
//! Not with the standard library: its children have our signals blocked, SIGTERM among them, and only
//! unsafe code can change that.

use std::ffi::{CString, OsStr, OsString};
use std::fmt;
use std::os::fd::AsRawFd;
use std::os::unix::ffi::OsStrExt;
use std::path::Path;

use nix::errno::Errno;
use nix::fcntl::OFlag;
use nix::libc;
use nix::spawn::{PosixSpawnAttr, PosixSpawnFileActions, PosixSpawnFlags, posix_spawnp};
use nix::sys::signal::SigSet;
use nix::unistd::{Pid, pipe2};
use thiserror::Error;

use super::signal::SignalNumber;

/// A program with its arguments.
#[derive(Debug, Clone)]
pub(crate) struct Program {
    name: OsString,
    arguments: Vec<OsString>,
}

/// Variables to add to the environment that a child inherits; without a value, to leave out of it.
pub(crate) type Variables = Vec<(&'static str, Option<OsString>)>;

/// The standard input of a child.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Stdin {
    /// Ours.
    Inherited,
    /// An empty one.
    Empty,
}

impl Program {
    /// The first word is the program, looked up in PATH; `None` without a word.
    pub(crate) fn from_words(words: &[OsString]) -> Option<Self> {
        let (name, arguments) = words.split_first()?;
        Some(Self { name: name.clone(), arguments: arguments.to_vec() })
    }

    /// Starts it, with our stdout and stderr, no signal blocked, and the default action for each.
    pub(crate) fn spawn(&self, stdin: Stdin, variables: &Variables) -> Result<Pid, SpawnError> {
        self.try_spawn(stdin, variables).map_err(|cause| SpawnError { program: self.to_string(), cause })
    }

    fn try_spawn(&self, stdin: Stdin, variables: &Variables) -> nix::Result<Pid> {
        let words = std::iter::once(&self.name).chain(&self.arguments).map(|word| c_string(word));
        let words = words.collect::<nix::Result<Vec<_>>>()?;
        let environment = environment(variables)?;

        let mut attributes = PosixSpawnAttr::init()?;
        attributes
            .set_flags(PosixSpawnFlags::POSIX_SPAWN_SETSIGMASK | PosixSpawnFlags::POSIX_SPAWN_SETSIGDEF)?;
        attributes.set_sigmask(&SigSet::empty())?;
        // Rust programs ignore SIGPIPE, and our own parent may have ignored others.
        attributes.set_sigdefault(&SigSet::all())?;
        let mut files = PosixSpawnFileActions::init()?;
        // A pipe without a writer is at its end, and needs no /dev/null.
        let pipe = match stdin {
            Stdin::Inherited => None,
            Stdin::Empty => Some(pipe2(OFlag::O_CLOEXEC)?),
        };
        if let Some((reader, _)) = &pipe {
            files.add_dup2(reader.as_raw_fd(), 0)?;
        }
        posix_spawnp(&words[0], &files, &attributes, &words, &environment)
    }
}

impl fmt::Display for Program {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        Path::new(&self.name).display().fmt(f)
    }
}

fn environment(variables: &Variables) -> nix::Result<Vec<CString>> {
    let inherited = std::env::vars_os().filter(|(name, _)| variables.iter().all(|(own, _)| name != own));
    let own = variables.iter().filter_map(|(name, value)| Some((OsString::from(name), value.clone()?)));
    let lines = inherited.chain(own).map(|(mut variable, value)| {
        variable.push("=");
        variable.push(value);
        c_string(&variable)
    });
    lines.collect()
}

/// Fails for text with a zero byte in it.
fn c_string(text: &OsStr) -> nix::Result<CString> {
    CString::new(text.as_bytes()).map_err(|_| Errno::EINVAL)
}

/// Why a program was not started.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
#[error("cannot run {program}: {}{}", .cause.desc(), hint(*.cause))]
pub(crate) struct SpawnError {
    program: String,
    cause: Errno,
}

impl SpawnError {
    /// The exit code by which a shell says the same: 127 for not found, else 126.
    pub(crate) fn exit_code(&self) -> u8 {
        if self.cause == Errno::ENOENT { 127 } else { 126 }
    }
}

fn hint(cause: Errno) -> &'static str {
    match cause {
        Errno::ENOENT => {
            " (is it in this image, and in PATH? a script needs its interpreter there too; no shell is used here)"
        }
        _ => "",
    }
}

/// How a process ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum ExitStatus {
    /// By itself, with this code.
    Code(u8),
    /// By a signal.
    Signal(i32),
}

impl ExitStatus {
    /// Whether it ended by itself, with code 0.
    pub(crate) fn is_success(self) -> bool {
        self == Self::Code(0)
    }

    /// Its code as a shell has it: 128 and the number for a signal.
    pub(crate) fn exit_code(self) -> u8 {
        match self {
            Self::Code(code) => code,
            Self::Signal(number) => u8::try_from(128 + number).unwrap_or(u8::MAX),
        }
    }
}

impl fmt::Display for ExitStatus {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Code(code) => write!(f, "ended with code {code}"),
            Self::Signal(number) => match SignalNumber::new(*number) {
                Some(signal) => write!(f, "was ended by {signal}"),
                None => write!(f, "was ended by signal {number}"),
            },
        }
    }
}

/// Reaps a child that has ended, if there is one: one that we started, or an orphan that process 1
/// inherits.
pub(crate) fn reap() -> Option<(Pid, ExitStatus)> {
    let mut status = 0;
    #[allow(unsafe_code, reason = "nix loses a child that a real-time signal has ended")]
    // SAFETY: `waitpid` writes the status into the integer that it is given, and nothing else.
    let pid = unsafe { libc::waitpid(-1, &mut status, libc::WNOHANG) };
    let status = if libc::WIFSIGNALED(status) {
        ExitStatus::Signal(libc::WTERMSIG(status))
    } else {
        // The kernel keeps 8 bits.
        ExitStatus::Code(libc::WEXITSTATUS(status) as u8)
    };
    // 0: every child still runs. -1: there are no children.
    (pid > 0).then(|| (Pid::from_raw(pid), status))
}
