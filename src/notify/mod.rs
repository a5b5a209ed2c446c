//! Tells the application of new files: signals a process, runs a command. Knows nothing of what
//! the files are.
//!
//! What fails is an error in the log, never a reason to stop.

mod command;
mod target;

use std::ffi::OsString;
use std::path::Path;
use std::time::{Duration, Instant};

use nix::sys::signal::Signal;

pub use target::Target;

use crate::backoff::Backoff;
use command::AppCommand;

/// Between attempts to find and signal a process: its PID file may be about to be written.
const RETRY: Backoff = Backoff::new(Duration::from_millis(100), Duration::from_secs(1));
/// How often it is tried.
const ATTEMPTS: u32 = 5;

/// What a command is told of a publication.
#[derive(Debug, Clone, Copy)]
pub struct News<'a> {
    /// The directory of the files: `SVID_PATH`.
    pub path: &'a Path,
    /// The SPIFFE ID, if an SVID is among them: `SVID_SPIFFE_ID`.
    pub spiffe_id: Option<&'a str>,
    /// The end of its validity, RFC 3339: `SVID_NOT_AFTER`.
    pub not_after: Option<&'a str>,
}

/// Whom to tell, and how far it has come.
pub struct Notifier {
    signal: Signal,
    targets: Vec<(Target, Option<Attempt>)>,
    command: Option<AppCommand>,
}

/// A signal that is still to be sent.
struct Attempt {
    number: u32,
    at: Instant,
    backoff: Backoff,
}

impl Notifier {
    /// Tells nobody yet. An empty `command` is none.
    pub fn new(signal: Signal, targets: Vec<Target>, command: &[OsString]) -> Self {
        let targets = targets.into_iter().map(|target| (target, None)).collect();
        let command = command.split_first().map(|(program, arguments)| AppCommand::new(program, arguments));
        Self { signal, targets, command }
    }

    /// The files are new: signals every target, and runs the command, or signals it while it runs.
    pub fn published(&mut self, news: News<'_>) {
        for (_, attempt) in &mut self.targets {
            *attempt = Some(Attempt { number: 1, at: Instant::now(), backoff: RETRY });
        }
        self.on_time();
        if let Some(command) = &mut self.command {
            command.run_or_signal(self.signal, news);
        }
    }

    /// The files stand as they were before this process: a command that has not been run yet is
    /// run; who read them already is not told again.
    pub fn stands(&mut self, news: News<'_>) {
        if let Some(command) = self.command.as_mut().filter(|command| !command.has_run()) {
            command.run_or_signal(self.signal, news);
        }
    }

    /// When there is something to try again.
    pub fn wake_at(&self) -> Option<Instant> {
        self.targets.iter().filter_map(|(_, attempt)| attempt.as_ref()).map(|attempt| attempt.at).min()
    }

    /// Tries again what is due.
    pub fn on_time(&mut self) {
        let now = Instant::now();
        for (target, attempt) in &mut self.targets {
            let Some(due) = attempt.as_mut().filter(|attempt| attempt.at <= now) else { continue };
            match target.signal(self.signal) {
                Ok(pid) => {
                    log::info!("sent {} to {target} (process {pid})", self.signal);
                    *attempt = None;
                }
                Err(error) if due.number < ATTEMPTS => {
                    let delay = due.backoff.advance();
                    log::debug!("{error}; trying again in {delay:?}");
                    due.number += 1;
                    due.at = now + delay;
                }
                Err(error) => {
                    log::error!("the application does not know of the new files: {error}");
                    *attempt = None;
                }
            }
        }
    }

    /// Takes note of children that have ended.
    pub fn reap(&mut self) {
        command::reap(self.command.as_mut());
    }

    /// Whether there is nothing to try again, and no command runs.
    pub fn is_done(&self) -> bool {
        self.wake_at().is_none() && !self.command.as_ref().is_some_and(AppCommand::is_running)
    }

    /// Tells a command that runs to end, with SIGTERM, and waits for it a moment.
    pub fn stop(&mut self) {
        if let Some(command) = &mut self.command {
            command.stop();
        }
    }
}
