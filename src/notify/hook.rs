//! The hook: a command that is run to completion after each publication.

use std::ffi::OsString;
use std::path::PathBuf;
use std::time::Instant;

use log::Level;
use nix::sys::signal::Signal;
use nix::unistd::Pid;
use thiserror::Error;

use super::owed::Outcomes;
use super::schedule::{HookRetry, Next, Schedule};
use crate::logging::retrying_in;
use crate::process::child::{ExitStatus, Program, SpawnError, Stdin};
use crate::process::environment::Variables;
use crate::process::signal::SignalNumber;

/// The variables that describe a publication to the hook.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct HookEnvironment {
    /// `SVID_PATH`: the directory of the files.
    pub(crate) svid_path: PathBuf,
    /// `SVID_SPIFFE_ID`: the identity; unset if no SVID is published.
    pub(crate) spiffe_id: Option<String>,
    /// `SVID_NOT_AFTER`: when the SVID expires, in RFC 3339; unset if none is published.
    pub(crate) not_after: Option<String>,
}

impl HookEnvironment {
    fn variables(&self) -> Variables {
        let text = |value: &Option<String>| value.as_ref().map(OsString::from);
        vec![
            ("SVID_PATH", Some(self.svid_path.clone().into())),
            ("SVID_SPIFFE_ID", text(&self.spiffe_id)),
            ("SVID_NOT_AFTER", text(&self.not_after)),
        ]
    }
}

/// A command, and the state of its runs.
pub(super) struct Hook {
    program: Program,
    schedule: Schedule,
    /// Of the newest publication.
    environment: Option<HookEnvironment>,
    /// How the last run ended.
    last: Option<Result<(), HookError>>,
    pub(super) runs: Outcomes,
}

impl Hook {
    pub(super) fn new(program: Program, retry: HookRetry) -> Self {
        let schedule = Schedule::new(retry);
        Self { program, schedule, environment: None, last: None, runs: Outcomes::default() }
    }

    pub(super) fn published(&mut self, environment: HookEnvironment, now: Instant) {
        if let Some(pid) = self.schedule.running() {
            log::info!(
                "{} (process {pid}) still runs; it will run again when it has ended (use --mode=run for an application that keeps running)",
                self.program
            );
        }
        self.environment = Some(environment);
        self.schedule.request(now);
    }

    /// Runs a hook that has not run yet.
    pub(super) fn unchanged(&mut self, environment: HookEnvironment, now: Instant) {
        if self.last.is_none() && self.schedule.is_idle() {
            self.published(environment, now);
        }
    }

    pub(super) fn next_deadline(&self) -> Option<Instant> {
        self.schedule.next_deadline()
    }

    pub(super) fn run_due(&mut self, now: Instant) {
        let is_due = self.schedule.next_deadline().is_some_and(|at| at <= now);
        let Some(environment) = self.environment.as_ref().filter(|_| is_due) else { return };
        match self.program.spawn(Stdin::Empty, &environment.variables()) {
            Ok(pid) => {
                log::info!("running {} (process {pid})", self.program);
                self.schedule.started(pid);
            }
            Err(error) => self.finished(Err(error.into()), now),
        }
    }

    /// Whether the child was the hook.
    pub(super) fn child_ended(&mut self, pid: Pid, status: ExitStatus, now: Instant) -> bool {
        let is_hook = self.schedule.running() == Some(pid);
        if is_hook {
            let (hook, stopped) = (self.program.to_string(), self.schedule.is_stopping());
            let result = match status {
                _ if stopped => Err(HookError::Stopped { hook, pid, status }),
                status if status.is_success() => Ok(()),
                status => Err(HookError::Failed { hook, pid, status }),
            };
            if result.is_ok() || stopped {
                log::info!("{} (process {pid}) {status}", self.program);
            }
            self.finished(result, now);
        }
        is_hook
    }

    fn finished(&mut self, result: Result<(), HookError>, now: Instant) {
        let is_stopped = self.schedule.is_stopping();
        let next = self.schedule.ended(result.is_ok(), now);
        if !is_stopped {
            self.runs.count(result.is_ok());
            if let Err(error) = &result {
                match next {
                    // init ends with the error, and reports it then.
                    Next::Nothing => {}
                    Next::AtOnce => log::error!("{error}; running it again for the newest files"),
                    Next::After(delay) => log::error!("{error}{}", retrying_in(delay)),
                }
            }
        }
        self.last = Some(result);
    }

    /// Sends SIGTERM to a running hook. No hook is started any more.
    pub(super) fn begin_stop(&mut self) {
        if self.schedule.is_behind() {
            log::warn!("{} was not run for the newest files; it runs at the next start", self.program);
            self.last = Some(Err(HookError::NotRun { hook: self.program.to_string() }));
        }
        if let Some(pid) = self.schedule.stop() {
            // One that is stopped would not notice the first alone.
            let sent = [Signal::SIGTERM, Signal::SIGCONT].map(|signal| SignalNumber::from(signal).send(pid));
            let (level, sent) = match sent[0] {
                Ok(()) => (Level::Info, "sent SIGTERM to".to_owned()),
                Err(cause) => (Level::Error, format!("cannot send SIGTERM ({}) to", cause.desc())),
            };
            log::log!(level, "{sent} {} (process {pid}); waiting for it to end", self.program);
        }
    }

    pub(super) fn is_done(&self) -> bool {
        self.schedule.is_done()
    }

    /// Fails unless the newest publication was handled.
    pub(super) fn outcome(&self) -> Result<(), HookError> {
        let hook = || self.program.to_string();
        match (self.schedule.running(), &self.last) {
            (Some(pid), _) => Err(HookError::StillRunning { hook: hook(), pid }),
            (None, Some(Err(error))) => Err(error.clone()),
            (None, _) if self.schedule.is_behind() => Err(HookError::NotRun { hook: hook() }),
            (None, _) => Ok(()),
        }
    }
}

/// Why the hook has not done its work.
#[derive(Debug, Clone, Error)]
pub(crate) enum HookError {
    #[error(transparent)]
    Spawn(#[from] SpawnError),
    #[error("{hook} (process {pid}) {status}")]
    Failed { hook: String, pid: Pid, status: ExitStatus },
    #[error("{hook} (process {pid}) was stopped before it was done: it {status}")]
    Stopped { hook: String, pid: Pid, status: ExitStatus },
    #[error("{hook} (process {pid}) still runs")]
    StillRunning { hook: String, pid: Pid },
    #[error("{hook} was not run for the newest files")]
    NotRun { hook: String },
}
