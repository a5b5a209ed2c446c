//! The hook: a command that is run to completion after each publication.

use std::time::{Duration, Instant};

use log::Level;
use nix::sys::signal::Signal;
use nix::unistd::Pid;

use super::owed::Outcomes;
use super::schedule::{Next, Schedule};
use crate::logging::{Repetition, retrying_in};
use crate::material::ChangeKinds;
use crate::process::child::{ExitStatus, Program, Stdin};
use crate::process::environment::Variables;
use crate::process::signal::SignalNumber;
use crate::time::timing::REMINDER;
use crate::words::{Flaw, flaw};

/// A command, and the state of its runs.
pub(super) struct Hook {
    program: Program,
    schedule: Schedule,
    /// The variables that describe the newest publication.
    environment: Option<Variables>,
    /// What no run was told yet that has succeeded or goes on.
    changed: ChangeKinds,
    run: Option<Run>,
    /// Why the last run failed, or was not begun.
    failure: Option<Flaw>,
    pub(super) runs: Outcomes,
}

/// A run that goes on.
struct Run {
    /// What it was told.
    changed: ChangeKinds,
    began: Instant,
    remind_at: Instant,
    /// That it does not end.
    lasting: Repetition,
}

impl Run {
    fn new(changed: ChangeKinds, now: Instant) -> Self {
        Self { changed, began: now, remind_at: now + REMINDER, lasting: Repetition::default() }
    }

    /// Whether to say now that it goes on: once a minute.
    fn take_reminder(&mut self, now: Instant) -> bool {
        let is_due = self.remind_at <= now;
        if is_due {
            self.remind_at = now + REMINDER;
        }
        is_due
    }
}

impl Hook {
    pub(super) fn new(program: Program, retries: bool) -> Self {
        Self {
            program,
            schedule: Schedule::new(retries),
            environment: None,
            changed: ChangeKinds::default(),
            run: None,
            failure: None,
            runs: Outcomes::default(),
        }
    }

    /// There was a publication. `from`: the moment from which on it is to be run, unless the publication notifies
    /// nobody.
    pub(super) fn published(&mut self, environment: Variables, changed: ChangeKinds, from: Option<Instant>) {
        self.environment = Some(environment);
        self.changed.add(changed);
        let Some(from) = from else { return };
        if let Some(pid) = self.schedule.running() {
            log::info!(
                "{} (process {pid}) still runs; it will run again when it has ended (use --mode=run for an application that keeps running)",
                self.program
            );
        }
        self.schedule.request(from);
    }

    pub(super) fn next_deadline(&self) -> Option<Instant> {
        self.schedule.next_deadline().or(self.run.as_ref().map(|run| run.remind_at))
    }

    /// For how long it has been running; zero if it does not run.
    pub(super) fn running_for(&self, now: Instant) -> Duration {
        self.run.as_ref().map_or(Duration::ZERO, |run| now.saturating_duration_since(run.began))
    }

    pub(super) fn run_due(&mut self, now: Instant) {
        self.report_long_run(now);
        let is_due = self.schedule.next_deadline().is_some_and(|at| at <= now);
        let Some(environment) = self.environment.as_ref().filter(|_| is_due) else { return };
        let mut variables = environment.clone();
        variables.push(("SVID_CHANGED", Some(self.changed.to_string().into())));
        match self.program.spawn(Stdin::Empty, variables) {
            Ok(pid) => {
                log::info!("running {} (process {pid})", self.program);
                self.schedule.started(pid);
                self.run = Some(Run::new(std::mem::take(&mut self.changed), now));
            }
            Err(error) => self.finished(Err(flaw!("{error}")), now),
        }
    }

    fn report_long_run(&mut self, now: Instant) {
        if let (Some(pid), Some(run)) = (self.schedule.running(), &mut self.run)
            && run.take_reminder(now)
            && !self.schedule.is_stopping()
        {
            let message = format!(
                "{} (process {pid}) has been running for more than a minute; it runs again for newer files only when it has ended (does it wait for something?)",
                self.program
            );
            run.lasting.log_state(Level::Warn, &message, now);
        }
    }

    /// Whether the child was the hook.
    pub(super) fn child_ended(&mut self, pid: Pid, status: ExitStatus, now: Instant) -> bool {
        let is_hook = self.schedule.running() == Some(pid);
        if is_hook {
            let (hook, stopped) = (&self.program, self.schedule.is_stopping());
            let result = match status {
                _ if stopped => {
                    Err(flaw!("{hook} (process {pid}) was stopped before it was done: it {status}"))
                }
                status if status.is_success() => Ok(()),
                status => Err(flaw!("{hook} (process {pid}) {status}")),
            };
            if result.is_ok() || stopped {
                log::info!("{} (process {pid}) {status}", self.program);
            }
            self.finished(result, now);
        }
        is_hook
    }

    fn finished(&mut self, result: Result<(), Flaw>, now: Instant) {
        let is_stopped = self.schedule.is_stopping();
        let next = self.schedule.ended(result.is_ok(), now);
        // The next run does what this one has not done.
        let untold = self.run.take().filter(|_| result.is_err());
        self.changed.add(untold.map(|run| run.changed).unwrap_or_default());
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
        self.failure = result.err();
    }

    /// Sends SIGTERM to a running hook. No hook is started any more.
    pub(super) fn begin_stop(&mut self) {
        if self.schedule.is_behind() {
            log::warn!("{} was not run for the newest files; it runs at the next start", self.program);
            self.failure = self.failure.take().or(Some(self.not_run()));
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

    fn not_run(&self) -> Flaw {
        flaw!("{} was not run for the newest files", self.program)
    }

    pub(super) fn is_done(&self) -> bool {
        self.schedule.is_done()
    }

    /// Fails unless the newest publication was handled.
    pub(super) fn outcome(&self) -> Result<(), Flaw> {
        match (self.schedule.running(), &self.failure) {
            (Some(pid), _) => Err(flaw!("{} (process {pid}) still runs", self.program)),
            (None, Some(error)) => Err(error.clone()),
            (None, None) if self.schedule.is_behind() => Err(self.not_run()),
            (None, None) => Ok(()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_run_that_does_not_end_is_a_warning_each_minute() {
        let start = Instant::now();
        let mut run = Run::new(ChangeKinds::default(), start);
        let warnings = (0..=200).filter(|seconds| run.take_reminder(start + Duration::from_secs(*seconds)));
        assert_eq!(warnings.collect::<Vec<_>>(), [60, 120, 180]);
    }
}
