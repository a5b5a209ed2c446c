//! The application's process: starts it, signals it, reports its end.

use std::time::Instant;

use log::Level;
use nix::sys::signal::Signal;
use nix::unistd::{Pid, getpgid, getpgrp};

use super::lifecycle::{Lifecycle, OnRenewal};
use crate::logging::{Repetition, retrying_in};
use crate::notify::{Look, News, Outcomes, Policy, Target, TargetError};
use crate::process::child::{ExitStatus, Program, Stdin, has_left_processes};
use crate::process::signal::SignalNumber;
use crate::time::timestamp::in_words;
use crate::time::timing::REMINDER;
use crate::wait::{ReceivedSignal, Sender};
use crate::words::{Flaw, flaw};

/// What to start, and what a rotation does to it.
#[derive(Debug, Clone)]
pub(crate) struct Settings {
    pub(crate) program: Program,
    pub(crate) on_renewal: OnRenewal,
    pub(crate) signal: SignalNumber,
    pub(crate) policy: Policy,
}

/// The application, and the state that it is in.
pub(crate) struct Application {
    program: Program,
    signal: SignalNumber,
    policy: Policy,
    lifecycle: Lifecycle,
    renewals: Outcomes,
    /// That it does not end, though it was asked to because of a rotation, or that it cannot be started yet.
    lasting: Repetition,
}

impl Application {
    /// Does not run before [`start`](Self::start).
    pub(crate) fn new(settings: &Settings) -> Self {
        Self {
            program: settings.program.clone(),
            signal: settings.signal,
            policy: settings.policy.clone(),
            lifecycle: Lifecycle::new(settings.on_renewal),
            renewals: Outcomes::default(),
            lasting: Repetition::default(),
        }
    }

    /// Every file is published and valid: starts the application, unless it runs.
    pub(crate) fn start(&mut self, now: Instant) {
        if !self.lifecycle.is_not_started() {
            return;
        }
        match self.program.spawn(Stdin::Inherited, Vec::new()) {
            Ok(pid) => {
                log::info!("started {} (process {pid})", self.program);
                self.lifecycle.started(pid);
            }
            Err(error) if error.may_pass() => {
                let next = retrying_in(self.lifecycle.postpone_start(now));
                self.lasting.log(Level::Error, &error.to_string(), &next, now);
            }
            Err(error) => {
                log::error!("{error}");
                self.lifecycle.failed_to_start(error.exit_code());
            }
        }
    }

    /// Why it does not run, or not for long. `None` while it runs.
    pub(crate) fn fault(&self) -> Option<String> {
        Some(format!("{} {}", self.program, self.lifecycle.fault()?))
    }

    /// Files may be new: if that concerns the application, it will be notified, if it runs.
    pub(crate) fn published(&mut self, news: &News, now: Instant) {
        if !self.lifecycle.is_told_of_rotations() || !self.policy.concerns(&news.changed) {
            return;
        }
        self.lifecycle.renewed(self.policy.begin(news.at_latest, now), news.at_latest);
        if let Some(wait) = self.lifecycle.held_until().and_then(|until| until.checked_duration_since(now)) {
            log::info!(
                "{} got SIGINT or SIGQUIT and may be ending; if not, it is notified in {}",
                self.program,
                in_words(wait)
            );
        }
    }

    /// When there is something to do.
    pub(crate) fn next_deadline(&self) -> Option<Instant> {
        self.lifecycle.next_deadline()
    }

    /// Does what is due. `can_start`: every file is published and valid; else, what runs is not ended for a restart.
    pub(crate) fn run_due(&mut self, can_start: bool, now: Instant) {
        self.report_restart(now);
        let Some((pid, mut owed)) = self.lifecycle.take_due(now) else { return };
        let told = if self.lifecycle.is_signalled() {
            owed.look(&mut Target::Child { program: self.program.to_string(), pid }, self.signal)
        } else if !can_start {
            let why = flaw!(
                "it runs on with the old files, for it could not be started again before every file is good"
            );
            Err(TargetError::from(why))
        } else {
            self.restart(pid).map(|()| Look::Told).map_err(TargetError::from)
        };
        if owed.take(told, &mut self.renewals, now) {
            self.lifecycle.told(now);
        } else {
            self.lifecycle.postpone(owed);
        }
    }

    /// Logs an application that was asked to end long ago, once and then as a reminder.
    fn report_restart(&mut self, now: Instant) {
        match self.lifecycle.restarting() {
            Some((pid, since)) if now.duration_since(since) >= REMINDER => {
                let message = format!(
                    "{} (process {pid}) has not ended after SIGTERM, and still has the old files; it is started again when it ends",
                    self.program
                );
                self.lasting.log_state(Level::Error, &message, now);
            }
            None if self.lifecycle.fault().is_none() => {
                self.lasting.end();
            }
            _ => {}
        }
    }

    fn restart(&self, pid: Pid) -> Result<(), Flaw> {
        self.send(pid, Signal::SIGTERM.into())?;
        log::info!("sent SIGTERM to {} (process {pid}) to restart it with the new files", self.program);
        Ok(())
    }

    fn send(&self, pid: Pid, signal: SignalNumber) -> Result<(), Flaw> {
        // One that is stopped would not notice that it is asked to end.
        let wake = signal.asks_to_end().then_some(Signal::SIGCONT.into());
        [signal].into_iter().chain(wake).try_for_each(|signal| signal.send(pid)).map_err(|cause| {
            flaw!("cannot send {signal} to {} (process {pid}): {}", self.program, cause.desc())
        })
    }

    /// Passes a signal that was sent to us on to the application. Before the application was started, a
    /// signal that asks to end ends us.
    pub(crate) fn signalled(&mut self, received: ReceivedSignal, now: Instant) {
        let signal = received.signal;
        let Some(pid) = self.lifecycle.signalled(signal, now) else {
            return match self.lifecycle.exit_code() {
                Some(_) => log::info!("received {signal} before {} was started", self.program),
                None => log::debug!("ignored {signal}: {} does not run yet", self.program),
            };
        };
        let is_ours_alone = match received.sender {
            Sender::Process => false,
            Sender::Terminal => getpgid(Some(pid)) == Ok(getpgrp()),
            Sender::Kernel => true,
        };
        if is_ours_alone {
            return log::debug!("{signal} is not passed on to {}: the kernel has sent it", self.program);
        }
        match self.send(pid, signal) {
            Ok(()) => log::info!("passed {signal} on to {} (process {pid})", self.program),
            Err(error) => log::error!("{error}"),
        }
    }

    /// Takes the end of a child; returns whether it was the application, which is restarted or ends us.
    pub(crate) fn child_ended(&mut self, pid: Pid, status: ExitStatus) -> bool {
        let is_stopping = self.lifecycle.is_stopping();
        if !self.lifecycle.child_ended(pid, status.exit_code()) {
            return false;
        }
        let is_well = status.is_success() || is_stopping || self.lifecycle.is_not_started();
        let level = if is_well { Level::Info } else { Level::Error };
        let hint = match is_well {
            false if self.may_be_ended_by_renewal(status) => {
                " (by the renewal signal? choose --on-renewal=restart, or --on-renewal=nothing if it watches the files)"
            }
            true if !is_stopping && self.exit_code().is_some() && has_left_processes(pid) => {
                " and left processes running (does it go to the background? keep it in the foreground)"
            }
            _ => "",
        };
        log::log!(level, "{} (process {pid}) {status}{hint}", self.program);
        true
    }

    /// Programs in Go and in a JVM catch SIGHUP and end by it.
    fn may_be_ended_by_renewal(&self, status: ExitStatus) -> bool {
        let signal = self.signal.number();
        let was_signalled = self.lifecycle.is_signalled() && self.renewals != Outcomes::default();
        was_signalled && status.exit_code() == ExitStatus::Signal(signal).exit_code()
    }

    /// Whether the application was asked to end for good, or has ended.
    pub(crate) fn is_stopping(&self) -> bool {
        self.lifecycle.is_stopping() || self.exit_code().is_some()
    }

    /// Our exit code, once the application has ended: its own, or 128+n for signal n; 127 or 126 if it
    /// could not be started; 128+n for a signal that came before its start.
    pub(crate) fn exit_code(&self) -> Option<u8> {
        self.lifecycle.exit_code()
    }

    /// How many notifications of rotations succeeded and failed: signals and restarts.
    pub(crate) fn renewals(&self) -> Outcomes {
        self.renewals
    }
}
