//! The states of the application, and the transitions between them. Starts no process and reads no
//! clock.

use std::time::{Duration, Instant};

use nix::sys::signal::Signal;
use nix::unistd::Pid;

use super::on_renewal::OnRenewal;
use crate::notify::Attempt;
use crate::process::child::ExitStatus;
use crate::process::signal::SignalNumber;

/// The state of the application.
#[derive(Debug, Clone)]
enum State {
    /// Not every file is published and valid yet.
    NotStarted,
    /// It runs; with the pending notification of a rotation, if there is one.
    Running(Pid, Option<Attempt>),
    /// It was asked to end because of a rotation. It is restarted when it has ended.
    Restarting(Pid),
    /// It was asked to end.
    Stopping(Pid),
    /// It has ended, or was not started. Our exit code is this.
    Ended(u8),
}

/// What is due because of a rotation.
#[derive(Debug)]
pub(super) enum Due {
    /// The renewal signal; and the next attempt, if this one fails.
    Signal(Pid, Option<(Attempt, Duration)>),
    /// SIGTERM, and a new start.
    Restart(Pid),
}

/// What follows the end of the application.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Next {
    /// A new start.
    Start,
    /// Our own end.
    End,
}

#[derive(Debug)]
pub(super) struct Lifecycle {
    state: State,
    on_renewal: OnRenewal,
}

impl Lifecycle {
    pub(super) fn new(on_renewal: OnRenewal) -> Self {
        Self { state: State::NotStarted, on_renewal }
    }

    pub(super) fn is_not_started(&self) -> bool {
        matches!(self.state, State::NotStarted)
    }

    pub(super) fn is_stopping(&self) -> bool {
        matches!(self.state, State::Stopping(_))
    }

    /// It was started, for the first time or again.
    pub(super) fn started(&mut self, pid: Pid) {
        self.state = State::Running(pid, None);
    }

    /// It could not be started.
    pub(super) fn failed_to_start(&mut self, exit_code: u8) {
        self.state = State::Ended(exit_code);
    }

    /// The files have changed. An application that does not run yet will read the new ones.
    pub(super) fn renewed(&mut self, now: Instant) {
        if let State::Running(_, renewal) = &mut self.state
            && self.on_renewal != OnRenewal::Nothing
        {
            *renewal = Some(Attempt::merged(renewal.take(), now));
        }
    }

    /// When the application is to be notified of a rotation.
    pub(super) fn next_deadline(&self) -> Option<Instant> {
        match &self.state {
            State::Running(_, Some(attempt)) => Some(attempt.at()),
            _ => None,
        }
    }

    /// Takes what is due.
    pub(super) fn take_due(&mut self, now: Instant) -> Option<Due> {
        let State::Running(pid, renewal) = &mut self.state else { return None };
        let (pid, attempt) = (*pid, renewal.take_if(|attempt| attempt.at() <= now)?);
        Some(match self.on_renewal {
            OnRenewal::Restart => {
                self.state = State::Restarting(pid);
                Due::Restart(pid)
            }
            OnRenewal::Signal | OnRenewal::Nothing => Due::Signal(pid, attempt.next(now)),
        })
    }

    /// The signal that was due could not be sent yet.
    pub(super) fn postpone(&mut self, attempt: Attempt) {
        if let State::Running(_, renewal) = &mut self.state {
            *renewal = Some(attempt);
        }
    }

    /// A signal was sent to us: returns the process to pass it on to.
    ///
    /// After SIGTERM, the application is neither notified of rotations nor restarted. SIGINT and SIGQUIT
    /// only stop a restart that has begun: a JVM prints its threads at SIGQUIT, and runs on.
    pub(super) fn signalled(&mut self, signal: SignalNumber) -> Option<Pid> {
        match self.state {
            State::NotStarted if signal.asks_to_end() => {
                self.state = State::Ended(ExitStatus::Signal(signal.number()).exit_code());
                None
            }
            State::NotStarted | State::Ended(_) => None,
            State::Restarting(pid) if signal.asks_to_end() => {
                self.state = State::Stopping(pid);
                Some(pid)
            }
            State::Running(pid, _) if signal == Signal::SIGTERM.into() => {
                self.state = State::Stopping(pid);
                Some(pid)
            }
            State::Running(pid, _) | State::Restarting(pid) | State::Stopping(pid) => Some(pid),
        }
    }

    /// A child has ended. `None`: it was not the application.
    pub(super) fn child_ended(&mut self, child: Pid, exit_code: u8) -> Option<Next> {
        match self.state {
            State::Restarting(pid) if pid == child => Some(Next::Start),
            State::Running(pid, _) | State::Stopping(pid) if pid == child => {
                self.state = State::Ended(exit_code);
                Some(Next::End)
            }
            _ => None,
        }
    }

    pub(super) fn exit_code(&self) -> Option<u8> {
        match self.state {
            State::Ended(code) => Some(code),
            _ => None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::timing::{DEBOUNCE, SIGNAL_ATTEMPTS};

    const PID: Pid = Pid::from_raw(12);
    const AGAIN: Pid = Pid::from_raw(13);

    fn running(on_renewal: OnRenewal) -> (Lifecycle, Instant) {
        let mut lifecycle = Lifecycle::new(on_renewal);
        lifecycle.started(PID);
        (lifecycle, Instant::now())
    }

    #[test]
    fn rotations_at_nearly_the_same_time_are_one_signal() {
        let (mut lifecycle, start) = running(OnRenewal::Signal);
        lifecycle.renewed(start);
        lifecycle.renewed(start + DEBOUNCE / 2);
        assert!(lifecycle.take_due(start).is_none());
        assert!(matches!(lifecycle.take_due(start + DEBOUNCE), Some(Due::Signal(PID, Some(_)))));
        assert_eq!(lifecycle.next_deadline(), None);
    }

    #[test]
    fn a_signal_that_cannot_be_sent_yet_is_attempted_a_few_times() {
        let (mut lifecycle, start) = running(OnRenewal::Signal);
        lifecycle.renewed(start);
        let mut attempts = 0;
        while let Some(now) = lifecycle.next_deadline() {
            attempts += 1;
            if let Some(Due::Signal(_, Some((attempt, _)))) = lifecycle.take_due(now) {
                lifecycle.postpone(attempt);
            }
        }
        assert_eq!(attempts, SIGNAL_ATTEMPTS);
    }

    #[test]
    fn a_restart_is_an_end_and_a_start() {
        let (mut lifecycle, start) = running(OnRenewal::Restart);
        lifecycle.renewed(start);
        assert!(matches!(lifecycle.take_due(start + DEBOUNCE), Some(Due::Restart(PID))));
        // It will read the newest files when it starts.
        lifecycle.renewed(start + DEBOUNCE);
        assert_eq!(lifecycle.next_deadline(), None);
        assert_eq!(lifecycle.child_ended(PID, 143), Some(Next::Start));
        lifecycle.started(AGAIN);
        assert_eq!((lifecycle.child_ended(AGAIN, 3), lifecycle.exit_code()), (Some(Next::End), Some(3)));
    }

    #[test]
    fn with_on_renewal_nothing_a_rotation_does_nothing() {
        let (mut lifecycle, start) = running(OnRenewal::Nothing);
        lifecycle.renewed(start);
        assert_eq!(lifecycle.next_deadline(), None);
    }

    #[test]
    fn after_sigterm_there_is_no_rotation_and_no_new_start() {
        for on_renewal in [OnRenewal::Signal, OnRenewal::Restart] {
            let (mut lifecycle, start) = running(on_renewal);
            lifecycle.renewed(start);
            assert_eq!(lifecycle.signalled(Signal::SIGTERM.into()), Some(PID));
            assert_eq!(lifecycle.next_deadline(), None);
            assert_eq!(lifecycle.child_ended(PID, 0), Some(Next::End));
        }
    }

    #[test]
    fn each_signal_to_stop_ends_a_restart() {
        for signal in [Signal::SIGTERM, Signal::SIGINT, Signal::SIGQUIT] {
            let (mut lifecycle, start) = running(OnRenewal::Restart);
            lifecycle.renewed(start);
            lifecycle.take_due(start + DEBOUNCE);
            assert_eq!(lifecycle.signalled(signal.into()), Some(PID));
            assert_eq!(lifecycle.child_ended(PID, 0), Some(Next::End));
        }
    }

    #[test]
    fn an_application_that_runs_on_after_sigquit_is_notified_of_rotations() {
        let (mut lifecycle, start) = running(OnRenewal::Signal);
        assert_eq!(lifecycle.signalled(Signal::SIGQUIT.into()), Some(PID));
        lifecycle.renewed(start);
        assert_eq!(lifecycle.next_deadline(), Some(start + DEBOUNCE));
    }

    #[test]
    fn a_signal_to_stop_before_the_start_is_the_end() {
        let mut lifecycle = Lifecycle::new(OnRenewal::Signal);
        assert_eq!(lifecycle.signalled(Signal::SIGHUP.into()), None);
        assert_eq!(lifecycle.exit_code(), None);
        assert_eq!(lifecycle.signalled(Signal::SIGTERM.into()), None);
        assert_eq!(lifecycle.exit_code(), Some(143));
    }

    #[test]
    fn another_child_is_not_the_application() {
        let (mut lifecycle, _) = running(OnRenewal::Signal);
        assert_eq!(lifecycle.child_ended(AGAIN, 1), None);
        assert_eq!(lifecycle.exit_code(), None);
    }
}
