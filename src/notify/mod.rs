//! Tells the application of new files: signals a process, runs a command. Knows nothing of what
//! the files are.
//!
//! What fails is an error in the log, never a reason to stop.

mod command;
mod target;

use std::ffi::OsString;
use std::time::{Duration, Instant};

use nix::sys::signal::Signal;

pub use target::Target;

use crate::backoff::Backoff;
use command::AppCommand;

/// Between attempts to find and signal a process: its PID file may be about to be written.
const RETRY: Backoff = Backoff::new(Duration::from_millis(100), Duration::from_secs(1));
/// How often it is tried.
const ATTEMPTS: u32 = 5;

/// How long a telling waits for more to tell: of what comes at nearly the same time, the
/// application is told once. A process that has just been started cannot take a signal yet.
const GATHERING: Duration = Duration::from_millis(200);

/// What a command is told of a publication: variables of its environment, and those that it must
/// not have.
pub type News = Vec<(&'static str, Option<OsString>)>;

/// Whom to tell, and how far it has come.
pub struct Notifier {
    signal: Signal,
    targets: Vec<(Target, Option<Attempt>)>,
    command: Option<AppCommand>,
    /// What the command is told, newest last.
    news: News,
    /// When it is.
    tell_command_at: Option<Instant>,
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
        Self { signal, targets, command, news: News::new(), tell_command_at: None }
    }

    /// The files are new: every target will be signalled, and the command run, or signalled while
    /// it runs.
    pub fn published(&mut self, news: News) {
        let at = Instant::now() + GATHERING;
        for (_, attempt) in &mut self.targets {
            // One that has not been tried yet is about these files too.
            if attempt.as_ref().is_none_or(|attempt| attempt.number > 1) {
                *attempt = Some(Attempt { number: 1, at, backoff: RETRY });
            }
        }
        self.tell_command(news, at);
    }

    /// The files stand as they were before this process: a command that has not been run yet is
    /// run; who read them already is not told again.
    pub fn stands(&mut self, news: News) {
        if self.command.as_ref().is_some_and(|command| !command.has_run()) {
            self.tell_command(news, Instant::now() + GATHERING);
        }
    }

    fn tell_command(&mut self, news: News, at: Instant) {
        self.news = news;
        if self.command.is_some() {
            self.tell_command_at.get_or_insert(at);
        }
    }

    /// When there is something to do.
    pub fn wake_at(&self) -> Option<Instant> {
        let attempts = self.targets.iter().filter_map(|(_, attempt)| attempt.as_ref());
        attempts.map(|attempt| attempt.at).chain(self.tell_command_at).min()
    }

    /// Does what is due.
    pub fn on_time(&mut self) {
        self.signal_targets();
        if let Some(command) = &mut self.command
            && self.tell_command_at.take_if(|at| *at <= Instant::now()).is_some()
        {
            command.run_or_signal(self.signal, &self.news);
        }
    }

    fn signal_targets(&mut self) {
        let now = Instant::now();
        for (target, attempt) in &mut self.targets {
            let Some(due) = attempt.as_mut().filter(|attempt| attempt.at <= now) else { continue };
            match target.signal(self.signal, due.number == ATTEMPTS) {
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

    /// Takes note of children that have ended. A command that was ended by the signal that was to
    /// tell it of new files is run again, for nobody has looked at them.
    pub fn reap(&mut self) {
        command::reap(self.command.as_mut());
        if self.command.as_mut().is_some_and(AppCommand::take_untold) {
            self.tell_command_at.get_or_insert_with(Instant::now);
        }
    }

    /// Whether there is nothing to try again, and no command runs.
    pub fn is_done(&self) -> bool {
        self.wake_at().is_none() && !self.command.as_ref().is_some_and(AppCommand::is_running)
    }

    /// Sends what is still to be sent, tells a command that runs to end, with SIGTERM, and waits for
    /// it a moment.
    pub fn stop(&mut self) {
        let now = Instant::now();
        self.targets
            .iter_mut()
            .filter_map(|(_, attempt)| attempt.as_mut())
            .for_each(|attempt| attempt.at = now);
        self.signal_targets();
        if let Some(command) = &mut self.command {
            command.stop();
        }
    }
}
