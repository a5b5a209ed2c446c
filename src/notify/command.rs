//! The command that is run after a publication.

use std::ffi::{CString, OsStr, OsString};
use std::os::fd::AsRawFd;
use std::os::unix::ffi::OsStrExt;
use std::path::Path;
use std::time::{Duration, Instant};

use log::Level;
use nix::errno::Errno;
use nix::fcntl::{OFlag, open};
use nix::spawn::{PosixSpawnAttr, PosixSpawnFileActions, PosixSpawnFlags, posix_spawnp};
use nix::sys::signal::{SigSet, Signal, kill};
use nix::sys::stat::Mode;
use nix::sys::wait::{WaitPidFlag, WaitStatus, waitpid};
use nix::unistd::Pid;

use super::News;

/// How long the program's own end may wait for the command's: it has to be over in 100 ms.
const FAREWELL: Duration = Duration::from_millis(50);

/// A program with its arguments, and the process that it is while it runs.
pub(super) struct AppCommand {
    program: OsString,
    arguments: Vec<OsString>,
    running: Option<Pid>,
    has_run: bool,
    /// The last signal that told it of new files.
    told_by: Option<Signal>,
    /// That signal has ended it: nobody has looked at the files.
    is_untold: bool,
    is_stopping: bool,
}

impl AppCommand {
    pub(super) fn new(program: &OsStr, arguments: &[OsString]) -> Self {
        let (program, arguments) = (program.to_owned(), arguments.to_vec());
        Self {
            program,
            arguments,
            running: None,
            has_run: false,
            told_by: None,
            is_untold: false,
            is_stopping: false,
        }
    }

    pub(super) fn is_running(&self) -> bool {
        self.running.is_some()
    }

    /// Whether it was started at least once.
    pub(super) fn has_run(&self) -> bool {
        self.has_run
    }

    /// Starts it; a process that still runs from last time gets the signal instead of a twin.
    pub(super) fn run_or_signal(&mut self, signal: Signal, news: &News) {
        // It may have ended just now, with nobody told yet.
        reap(Some(self));
        let name = self.name();
        match self.running {
            Some(pid) => match kill(pid, signal) {
                Ok(()) => {
                    self.told_by = Some(signal);
                    log::info!("sent {signal} to {name} (process {pid}), which still runs");
                }
                Err(cause) => log::error!("cannot send {signal} to {name} (process {pid}): {}", cause.desc()),
            },
            None => self.run(news),
        }
    }

    fn run(&mut self, news: &News) {
        match self.spawn(news) {
            Ok(pid) => {
                log::info!("running {} (process {pid})", self.name());
                self.running = Some(pid);
                self.has_run = true;
                self.told_by = None;
                self.is_untold = false;
            }
            Err(cause) => {
                let hint = match cause {
                    Errno::ENOENT => " (is it in this image, and in PATH? there is no shell here)",
                    _ => "",
                };
                log::error!("cannot run {}: {}{hint}", self.name(), cause.desc());
            }
        }
    }

    /// Not with the standard library: it would pass on that our own signals are blocked, SIGTERM
    /// among them, and could be told otherwise by unsafe code alone.
    fn spawn(&self, own: &News) -> nix::Result<Pid> {
        let inherited = std::env::vars_os().filter(|(name, _)| own.iter().all(|(own, _)| name != own));
        let own = own.iter().filter_map(|(name, value)| Some((OsString::from(name), value.as_ref()?.into())));
        let environment = inherited.chain(own).map(|(mut variable, value)| {
            variable.push("=");
            variable.push(value);
            c_string(&variable)
        });
        let environment = environment.collect::<nix::Result<Vec<_>>>()?;
        let words = std::iter::once(&self.program).chain(&self.arguments).map(|word| c_string(word));
        let words = words.collect::<nix::Result<Vec<_>>>()?;

        let mut attributes = PosixSpawnAttr::init()?;
        attributes
            .set_flags(PosixSpawnFlags::POSIX_SPAWN_SETSIGMASK | PosixSpawnFlags::POSIX_SPAWN_SETSIGDEF)?;
        attributes.set_sigmask(&SigSet::empty())?;
        // Rust programs ignore it.
        attributes.set_sigdefault(&SigSet::from(Signal::SIGPIPE))?;
        let mut files = PosixSpawnFileActions::init()?;
        let null = open("/dev/null", OFlag::O_RDONLY | OFlag::O_CLOEXEC, Mode::empty())?;
        files.add_dup2(null.as_raw_fd(), 0)?;
        posix_spawnp(&words[0], &files, &attributes, &words, &environment)
    }

    fn ended(&mut self, status: WaitStatus) {
        let name = self.name();
        let is_well = self.is_stopping || matches!(status, WaitStatus::Exited(_, 0));
        let level = if is_well { Level::Info } else { Level::Error };
        match status {
            WaitStatus::Exited(pid, code) => {
                log::log!(level, "{name} (process {pid}) ended with code {code}")
            }
            WaitStatus::Signaled(pid, signal, _) => {
                log::log!(level, "{name} (process {pid}) was ended by {signal}");
            }
            _ => {}
        }
        self.running = None;
        self.is_untold = matches!(status, WaitStatus::Signaled(_, signal, _) if Some(signal) == self.told_by && !self.is_stopping);
    }

    /// Whether it ended by the very signal that was to tell it of new files.
    pub(super) fn take_untold(&mut self) -> bool {
        std::mem::take(&mut self.is_untold)
    }

    /// Tells it to end. Whoever needs longer goes on without us.
    pub(super) fn stop(&mut self) {
        reap(Some(self));
        let Some(pid) = self.running else { return };
        self.is_stopping = true;
        let name = self.name();
        match kill(pid, Signal::SIGTERM) {
            Ok(()) => log::info!("sent SIGTERM to {name} (process {pid})"),
            Err(cause) => log::error!("cannot send SIGTERM to {name} (process {pid}): {}", cause.desc()),
        }
        let deadline = Instant::now() + FAREWELL;
        while self.is_running() && Instant::now() < deadline {
            std::thread::sleep(Duration::from_millis(2));
            reap(Some(self));
        }
    }

    fn name(&self) -> String {
        Path::new(&self.program).display().to_string()
    }
}

/// Takes note of every child that has ended: the command, and what process 1 inherits.
pub(super) fn reap(mut command: Option<&mut AppCommand>) {
    loop {
        match waitpid(None, Some(WaitPidFlag::WNOHANG)) {
            Ok(WaitStatus::StillAlive) | Err(Errno::ECHILD) => return,
            Err(Errno::EINTR) => {}
            Err(cause) => {
                log::error!("cannot look at ended processes: {}", cause.desc());
                return;
            }
            Ok(status) => match command.as_mut() {
                Some(command) if status.pid() == command.running => command.ended(status),
                _ => log::debug!("a process that was left to this one has ended: {status:?}"),
            },
        }
    }
}

/// Fails for text with a zero byte in it.
fn c_string(text: &OsStr) -> nix::Result<CString> {
    CString::new(text.as_bytes()).map_err(|_| Errno::EINVAL)
}
