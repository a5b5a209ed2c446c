//! The command that is run after a publication.

use std::ffi::{OsStr, OsString};
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use log::Level;
use nix::errno::Errno;
use nix::sys::signal::{Signal, kill};
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
    is_stopping: bool,
}

impl AppCommand {
    pub(super) fn new(program: &OsStr, arguments: &[OsString]) -> Self {
        let (program, arguments) = (program.to_owned(), arguments.to_vec());
        Self { program, arguments, running: None, has_run: false, is_stopping: false }
    }

    pub(super) fn is_running(&self) -> bool {
        self.running.is_some()
    }

    /// Whether it was started at least once.
    pub(super) fn has_run(&self) -> bool {
        self.has_run
    }

    /// Starts it; a process that still runs from last time gets the signal instead of a twin.
    pub(super) fn run_or_signal(&mut self, signal: Signal, news: News<'_>) {
        // It may have ended just now, with nobody told yet.
        reap(Some(self));
        let name = self.name();
        match self.running {
            Some(pid) => match kill(pid, signal) {
                Ok(()) => log::info!("sent {signal} to {name} (process {pid}), which still runs"),
                Err(cause) => log::error!("cannot send {signal} to {name} (process {pid}): {}", cause.desc()),
            },
            None => self.run(news),
        }
    }

    fn run(&mut self, news: News<'_>) {
        let mut command = Command::new(&self.program);
        command.args(&self.arguments).stdin(Stdio::null()).env("SVID_PATH", news.path);
        for (variable, value) in [("SVID_SPIFFE_ID", news.spiffe_id), ("SVID_NOT_AFTER", news.not_after)] {
            match value {
                Some(value) => command.env(variable, value),
                None => command.env_remove(variable),
            };
        }
        // Dropping the child leaves it alone; its end is told by SIGCHLD.
        match command.spawn().map(|child| i32::try_from(child.id())) {
            Ok(Ok(pid)) => {
                log::info!("running {} (process {pid})", self.name());
                self.running = Some(Pid::from_raw(pid));
                self.has_run = true;
            }
            Ok(Err(_)) => log::error!("{} runs under a number that is none", self.name()),
            Err(cause) => {
                let hint = match cause.kind() {
                    std::io::ErrorKind::NotFound => {
                        " (is it in this image, and in PATH? there is no shell here)"
                    }
                    _ => "",
                };
                log::error!("cannot run {}: {cause}{hint}", self.name());
            }
        }
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
