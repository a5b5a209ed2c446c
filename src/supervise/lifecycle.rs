//! The states of the application, and the transitions between them. Starts no process and reads no
//! clock.

use std::time::{Duration, Instant};

use nix::sys::signal::Signal;
use nix::unistd::Pid;

use crate::notify::Owed;
use crate::process::child::ExitStatus;
use crate::process::signal::SignalNumber;
use crate::time::backoff::Backoff;
use crate::time::timing::{HOLD_AFTER_SIGINT, LONGEST_HOLD, START_AGAIN};
use crate::words::words;

words! {
    /// What a rotation does to the application.
    OnRenewal {
        Signal = "signal",
        Restart = "restart",
        Nothing = "nothing",
    }
}

/// The state of the application.
#[derive(Debug)]
enum State {
    /// Not every file is published and valid yet.
    NotStarted,
    /// The machine lacked memory or processes to start it. It may be started from that time on.
    Postponed(Instant),
    /// It runs; with the notification of a rotation that it is owed, if it is.
    Running(Pid, Option<Box<Owed>>),
    /// It was asked at that time to end because of a rotation. It is started again when it has ended.
    Restarting(Pid, Instant),
    /// It was asked to end.
    Stopping(Pid),
    /// It has ended, or was not started. Our exit code is this.
    Ended(u8),
}

#[derive(Debug)]
pub(super) struct Lifecycle {
    state: State,
    on_renewal: OnRenewal,
    start_again: Backoff,
    /// SIGINT or SIGQUIT was passed on to it: it may be ending, and until then at least, no rotation is told.
    may_end_until: Option<Instant>,
    /// When a rotation is told at the latest.
    at_latest: Option<Instant>,
}

impl Lifecycle {
    pub(super) fn new(on_renewal: OnRenewal) -> Self {
        let state = State::NotStarted;
        Self { state, on_renewal, start_again: START_AGAIN, may_end_until: None, at_latest: None }
    }

    pub(super) fn is_not_started(&self) -> bool {
        matches!(self.state, State::NotStarted)
    }

    /// Why it does not run, or not for long: what there is to say of it. `None` while it runs.
    pub(super) fn fault(&self) -> Option<&'static str> {
        match self.state {
            State::Running(..) => None,
            State::NotStarted => Some("is not started yet"),
            State::Postponed(_) => Some("could not be started yet"),
            State::Restarting(..) => {
                Some("was sent SIGTERM, and is started again with the new files when it has ended")
            }
            State::Stopping(_) => Some("was asked to end"),
            State::Ended(_) => Some("does not run any more"),
        }
    }

    /// Whether it was asked to end for good.
    pub(super) fn is_stopping(&self) -> bool {
        matches!(self.state, State::Stopping(_))
    }

    /// Since when it has been asked to end because of a rotation.
    pub(super) fn restarting(&self) -> Option<(Pid, Instant)> {
        match self.state {
            State::Restarting(pid, since) => Some((pid, since)),
            _ => None,
        }
    }

    /// It was started, for the first time or again.
    pub(super) fn started(&mut self, pid: Pid) {
        self.state = State::Running(pid, None);
        self.start_again.reset();
        (self.may_end_until, self.at_latest) = (None, None);
    }

    /// The machine lacks memory or processes to start it; returns the delay before the next attempt.
    pub(super) fn postpone_start(&mut self, now: Instant) -> Duration {
        let delay = self.start_again.advance();
        self.state = State::Postponed(now + delay);
        delay
    }

    /// It could not be started.
    pub(super) fn failed_to_start(&mut self, exit_code: u8) {
        self.state = State::Ended(exit_code);
    }

    /// Whether rotations are told by a signal.
    pub(super) fn is_signalled(&self) -> bool {
        self.on_renewal == OnRenewal::Signal
    }

    /// Whether a rotation is to be told. An application that does not run yet will read the new files.
    pub(super) fn is_told_of_rotations(&self) -> bool {
        matches!(self.state, State::Running(..)) && self.on_renewal != OnRenewal::Nothing
    }

    /// The files have changed, which is to be told from a moment on; `at_latest`, if that is to come.
    pub(super) fn renewed(&mut self, from: Instant, at_latest: Option<Instant>) {
        let is_told = self.is_told_of_rotations();
        if let State::Running(_, renewal) = &mut self.state
            && is_told
        {
            self.at_latest = self.at_latest.or(at_latest.map(|latest| latest.min(from + LONGEST_HOLD)));
            match renewal {
                Some(owed) => owed.renewed(from),
                None => *renewal = Some(Box::new(Owed::new(true, from))),
            }
        }
    }

    /// When the application is to be notified of a rotation, or may be started.
    pub(super) fn next_deadline(&self) -> Option<Instant> {
        match &self.state {
            State::Postponed(at) => Some(*at),
            // (`None` is less than any time.)
            State::Running(_, Some(owed)) => self.held_until().max(Some(owed.at())),
            _ => None,
        }
    }

    /// Until when no rotation is told, if the application may be ending: as long as the old SVID allows, and for an
    /// hour. An end that takes its time is not cut short, and an application that runs on is told in time.
    pub(super) fn held_until(&self) -> Option<Instant> {
        let until = self.may_end_until?;
        Some(until).max(self.at_latest.map(|latest| latest.min(until + LONGEST_HOLD)))
    }

    /// Takes what is due: the process, and the notification that it is owed, a signal or a restart.
    pub(super) fn take_due(&mut self, now: Instant) -> Option<(Pid, Box<Owed>)> {
        if matches!(self.state, State::Postponed(at) if at <= now) {
            self.state = State::NotStarted;
        }
        if self.held_until().is_some_and(|until| now < until) {
            return None;
        }
        let State::Running(pid, renewal) = &mut self.state else { return None };
        Some((*pid, renewal.take_if(|owed| owed.at() <= now)?))
    }

    /// It has the signal; or, for a restart, was asked to end.
    pub(super) fn told(&mut self, now: Instant) {
        (self.may_end_until, self.at_latest) = (None, None);
        if let State::Running(pid, _) = self.state
            && self.on_renewal == OnRenewal::Restart
        {
            self.state = State::Restarting(pid, now);
        }
    }

    /// What was due could not be sent yet.
    pub(super) fn postpone(&mut self, owed: Box<Owed>) {
        if let State::Running(_, renewal) = &mut self.state {
            *renewal = Some(owed);
        }
    }

    /// A signal was sent to us: returns the process to pass it on to.
    ///
    /// After SIGTERM, the application is neither notified of rotations nor restarted. SIGINT and SIGQUIT stop a
    /// restart that has begun, and hold up the next rotation: the application may be ending. But a JVM prints its
    /// threads at SIGQUIT, and runs on; so more of them in the same minute hold it up no longer.
    pub(super) fn signalled(&mut self, signal: SignalNumber, now: Instant) -> Option<Pid> {
        if signal.asks_to_end() && self.may_end_until.is_none_or(|until| until <= now) {
            self.may_end_until = Some(now + HOLD_AFTER_SIGINT);
        }
        let pid = self.pid();
        match self.state {
            State::NotStarted | State::Postponed(_) if signal.asks_to_end() => {
                self.state = State::Ended(ExitStatus::Signal(signal.number()).exit_code());
            }
            State::Restarting(pid, _) if signal.asks_to_end() => self.state = State::Stopping(pid),
            State::Running(pid, _) if signal == Signal::SIGTERM.into() => self.state = State::Stopping(pid),
            _ => {}
        }
        pid
    }

    /// A child has ended; returns whether it was the application. One that was asked to end because of a rotation
    /// is started again, as soon as every file is there.
    pub(super) fn child_ended(&mut self, child: Pid, exit_code: u8) -> bool {
        let is_application = self.pid() == Some(child);
        if is_application {
            self.state = match self.state {
                State::Restarting(..) => State::NotStarted,
                _ => State::Ended(exit_code),
            };
        }
        is_application
    }

    fn pid(&self) -> Option<Pid> {
        match self.state {
            State::Running(pid, _) | State::Restarting(pid, _) | State::Stopping(pid) => Some(pid),
            State::NotStarted | State::Postponed(_) | State::Ended(_) => None,
        }
    }

    pub(super) fn exit_code(&self) -> Option<u8> {
        match self.state {
            State::Ended(code) => Some(code),
            _ => None,
        }
    }
}
