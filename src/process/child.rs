//! Child processes: started with the environment and the descriptors that they need, and reaped.
//!
//! Not with the standard library, nor with posix_spawn. Of the standard library, children have our signals
//! blocked, SIGTERM among them, and a program of another architecture is handed to a shell. With posix_spawn,
//! a child cannot be told of our end.

use std::ffi::{CString, OsStr, OsString};
use std::fmt;
use std::fs::File;
use std::io::Read;
use std::os::fd::OwnedFd;
use std::os::unix::ffi::OsStrExt;
use std::path::Path;

use nix::errno::Errno;
use nix::fcntl::{OFlag, open};
use nix::libc::{self, c_char};
use nix::sys::prctl::set_pdeathsig;
use nix::sys::signal::{SigSet, Signal};
use nix::sys::stat::Mode;
use nix::sys::wait::waitpid;
use nix::unistd::{ForkResult, Pid, dup2_stdin, fork, getpgrp, getpid, getppid, pipe2, setpgid, write};
use thiserror::Error;

use super::environment::{Variables, for_child};
use super::facts::{Stat, all_processes};
use super::signal::SignalNumber;
#[cfg(test)]
use super::simulated::simulated;
use crate::last_resort::{FAILURE, leave};

/// A program with its arguments.
#[derive(Debug, Clone)]
pub(crate) struct Program {
    name: OsString,
    arguments: Vec<OsString>,
    variables: Variables,
}

/// The standard input of a child.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Stdin {
    /// Ours.
    Inherited,
    /// An empty one.
    Empty,
}

impl Program {
    /// The first word is the program, looked up in PATH; `None` without a word. It always gets these variables.
    pub(crate) fn from_words(words: &[OsString], variables: Variables) -> Option<Self> {
        let (name, arguments) = words.split_first()?;
        Some(Self { name: name.clone(), arguments: arguments.to_vec(), variables })
    }

    /// Starts it, with our stdout and stderr, no signal blocked, and the default action for each. It gets
    /// SIGTERM when the calling thread ends, however that ends: a SIGKILL of ours is not the child's. (The kernel
    /// forgets that for a child that becomes another user.)
    ///
    /// Without a terminal, it is in a process group of its own: a signal to our group is for us, and we pass
    /// signals on. In the same group, it would get each twice, or once, by chance. A terminal signals the group
    /// that it knows, for Ctrl-C and Ctrl-Z, so there the child stays in ours.
    pub(crate) fn spawn(&self, stdin: Stdin, variables: Variables) -> Result<Pid, SpawnError> {
        self.try_spawn(stdin, variables).map_err(|cause| SpawnError { program: self.to_string(), cause })
    }

    fn try_spawn(&self, stdin: Stdin, variables: Variables) -> nix::Result<Pid> {
        #[cfg(test)]
        if let Some(processes) = simulated() {
            return processes.spawn(&self.to_string(), &variables);
        }
        let image = Image::new(self, variables)?;
        // A pipe without a writer is at its end, and needs no /dev/null.
        let stdin = match stdin {
            Stdin::Inherited => None,
            Stdin::Empty => Some(pipe2(OFlag::O_CLOEXEC)?.0),
        };
        let (cause, to_parent) = pipe2(OFlag::O_CLOEXEC)?;
        let (parent, has_own_group) = (getpid(), !has_terminal());
        #[allow(unsafe_code, reason = "other threads may hold locks that the child would wait for")]
        // SAFETY: the child calls only what may be called in a signal handler: it allocates and locks nothing.
        let forked = unsafe { fork() }?;
        match forked {
            ForkResult::Child => {
                let cause = image.replace_child(parent, has_own_group, stdin.as_ref());
                let _ = write(&to_parent, &(cause as i32).to_ne_bytes());
                leave(FAILURE)
            }
            ForkResult::Parent { child } => {
                drop(to_parent);
                let mut number = [0; 4];
                // The kernel closes the other end when the child has become the program.
                if File::from(cause).read_exact(&mut number).is_err() {
                    return Ok(child);
                }
                let _ = waitpid(child, None);
                Err(Errno::from_raw(i32::from_ne_bytes(number)))
            }
        }
    }
}

impl fmt::Display for Program {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        Path::new(&self.name).display().fmt(f)
    }
}

/// Whether a terminal controls us.
fn has_terminal() -> bool {
    open("/dev/tty", OFlag::O_RDONLY | OFlag::O_NOCTTY | OFlag::O_CLOEXEC, Mode::empty()).is_ok()
}

/// What a child becomes: all that execve takes, made before the fork.
struct Image {
    /// Where the program may be, in the order of PATH.
    files: Vec<CString>,
    arguments: Texts,
    environment: Texts,
}

impl Image {
    fn new(program: &Program, mut variables: Variables) -> nix::Result<Self> {
        let arguments = std::iter::once(&program.name).chain(&program.arguments);
        variables.extend(program.variables.iter().cloned());
        let environment = for_child(&variables);
        let path = environment.iter().find(|(name, _)| name == "PATH").map(|(_, path)| path.as_os_str());
        let files = files(&program.name, path)?;
        let lines = environment.into_iter().map(|(mut line, value)| {
            line.push("=");
            line.push(value);
            line
        });
        Ok(Self { files, arguments: Texts::new(arguments)?, environment: Texts::new(lines)? })
    }

    /// Makes a new child the program; returns only if that fails.
    fn replace_child(&self, parent: Pid, has_own_group: bool, stdin: Option<&OwnedFd>) -> Errno {
        if has_own_group {
            let _ = setpgid(Pid::from_raw(0), Pid::from_raw(0));
        }
        // Rust programs ignore SIGPIPE, and our own parent may have ignored others.
        for number in 1..=libc::SIGRTMAX() {
            #[allow(unsafe_code, reason = "nix has only the standard signals")]
            // SAFETY: it sets the default action, which runs no code of ours. (SIGKILL's cannot be set.)
            unsafe {
                libc::signal(number, libc::SIG_DFL);
            }
        }
        let _ = set_pdeathsig(Signal::SIGTERM);
        // It has ended before the kernel was asked to tell.
        if getppid() != parent {
            return Errno::ESRCH;
        }
        let ready = SigSet::empty().thread_set_mask().and(stdin.map_or(Ok(()), dup2_stdin));
        ready.err().unwrap_or_else(|| self.execute())
    }

    fn execute(&self) -> Errno {
        let (mut cause, mut is_denied) = (Errno::ENOENT, false);
        for file in &self.files {
            let (arguments, environment) =
                (self.arguments.pointers.as_ptr(), self.environment.pointers.as_ptr());
            #[allow(unsafe_code, reason = "nix's execve allocates")]
            // SAFETY: both are arrays of pointers to texts, and end with a null pointer.
            unsafe {
                libc::execve(file.as_ptr(), arguments, environment);
            }
            cause = Errno::last();
            is_denied |= cause == Errno::EACCES;
            let is_elsewhere = [Errno::EACCES, Errno::ENOENT, Errno::ENOTDIR, Errno::ESTALE, Errno::ENODEV];
            if !is_elsewhere.contains(&cause) {
                return cause;
            }
        }
        if is_denied { Errno::EACCES } else { cause }
    }
}

/// Texts as C has them.
struct Texts {
    /// What the pointers lead to.
    _texts: Vec<CString>,
    pointers: Vec<*const c_char>,
}

impl Texts {
    fn new(texts: impl Iterator<Item = impl AsRef<OsStr>>) -> nix::Result<Self> {
        let texts = texts.map(|text| c_string(text.as_ref())).collect::<nix::Result<Vec<_>>>()?;
        let pointers = texts.iter().map(|text| text.as_ptr()).chain([std::ptr::null()]).collect();
        Ok(Self { _texts: texts, pointers })
    }
}

fn files(name: &OsStr, path: Option<&OsStr>) -> nix::Result<Vec<CString>> {
    if name.as_bytes().contains(&b'/') {
        return Ok(vec![c_string(name)?]);
    }
    // Without PATH, as the C library has it.
    let path = path.unwrap_or(OsStr::new("/bin:/usr/bin"));
    std::env::split_paths(path).map(|directory| c_string(directory.join(name).as_os_str())).collect()
}

/// Fails for text with a zero byte in it.
fn c_string(text: &OsStr) -> nix::Result<CString> {
    CString::new(text.as_bytes()).map_err(|_| Errno::EINVAL)
}

/// Why a program was not started.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
#[error("cannot run {}: {}", shown(.program), reason(*.cause))]
pub(crate) struct SpawnError {
    program: String,
    cause: Errno,
}

impl SpawnError {
    /// The exit code by which a shell says the same: 127 for not found, else 126.
    pub(crate) fn exit_code(&self) -> u8 {
        if self.cause == Errno::ENOENT { 127 } else { 126 }
    }

    /// Whether it may be started later: the machine lacks memory, processes or descriptors now, or the program is
    /// being written.
    pub(crate) fn may_pass(&self) -> bool {
        self.cause == Errno::ETXTBSY || short_of(self.cause).is_some()
    }
}

/// A command line that was given as one word looks right without quotes.
fn shown(program: &str) -> String {
    if program.contains(char::is_whitespace) { format!("{program:?} (one word)") } else { program.to_owned() }
}

fn reason(cause: Errno) -> String {
    match (cause, short_of(cause)) {
        (Errno::ENOENT, _) => {
            "no such program (is it in this image, and in PATH? a script needs its interpreter there too; no shell is used here)".to_owned()
        }
        (_, Some(limits)) => format!("{} (check the limits on {limits})", cause.desc()),
        (_, None) => cause.desc().to_owned(),
    }
}

/// What the machine lacks now, with the names of its limits.
fn short_of(cause: Errno) -> Option<&'static str> {
    match cause {
        Errno::EAGAIN | Errno::ENOMEM => Some("processes and memory: pids.max, ulimit -u"),
        Errno::EMFILE | Errno::ENFILE => Some("open files: ulimit -n, fs.file-max"),
        _ => None,
    }
}

/// Whether an application that has ended has left processes: in its group, or daemons in groups of their own, which
/// process 1 inherits. (Children that came before the application are in our group.)
pub(crate) fn has_left_processes(group: Pid) -> bool {
    #[cfg(test)]
    if simulated().is_some() {
        return false;
    }
    let (own, own_group) = (getpid(), getpgrp());
    all_processes()
        .filter_map(Stat::of)
        .any(|left| left.group == group || left.parent == own && left.group != own_group)
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
    /// By the status that `waitpid` gives.
    fn of(status: i32) -> Self {
        match libc::WIFSIGNALED(status) {
            true => Self::Signal(libc::WTERMSIG(status)),
            // The kernel keeps 8 bits.
            false => Self::Code(libc::WEXITSTATUS(status) as u8),
        }
    }

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
    #[cfg(test)]
    if let Some(processes) = simulated() {
        return processes.reap().map(|(pid, status)| (pid, ExitStatus::of(status)));
    }
    let mut status = 0;
    #[allow(unsafe_code, reason = "nix loses a child that a real-time signal has ended")]
    // SAFETY: `waitpid` writes the status into the integer that it is given, and nothing else.
    let pid = unsafe { libc::waitpid(-1, &mut status, libc::WNOHANG) };
    // 0: every child still runs. -1: there are no children.
    (pid > 0).then(|| (Pid::from_raw(pid), ExitStatus::of(status)))
}
