//! Signals one process after each publication, and tries a few times to find it.

use std::time::{Duration, Instant};

use thiserror::Error;

use super::attempt::Attempt;
use super::outcomes::Outcomes;
use super::renew_signal::RenewSignal;
use super::target::{Target, TargetError};
use crate::logging::retrying_in;

/// A process to signal, and the state of that.
pub(super) struct Signaller {
    target: Target,
    signal: RenewSignal,
    state: State,
}

enum State {
    /// There is nothing to send.
    Idle,
    /// The signal is to be sent; with the failure of the last attempt, if there was one.
    Due(Attempt, Option<TargetError>),
    /// The last attempt failed.
    Failed(TargetError),
}

impl Signaller {
    pub(super) fn new(target: Target, signal: RenewSignal) -> Self {
        Self { target, signal, state: State::Idle }
    }

    pub(super) fn published(&mut self, now: Instant) {
        let (earlier, error) = match std::mem::replace(&mut self.state, State::Idle) {
            State::Due(attempt, error) => (Some(attempt), error),
            State::Idle | State::Failed(_) => (None, None),
        };
        self.state = State::Due(Attempt::merged(earlier, now), error);
    }

    pub(super) fn next_deadline(&self) -> Option<Instant> {
        match &self.state {
            State::Due(attempt, _) => Some(attempt.at()),
            State::Idle | State::Failed(_) => None,
        }
    }

    pub(super) fn run_due(&mut self, now: Instant, outcomes: &mut Outcomes) {
        if let State::Due(attempt, _) = &self.state
            && attempt.at() <= now
        {
            let next = attempt.next(now);
            self.send(next, outcomes);
        }
    }

    /// Sends the signal at once if it is still to be sent.
    pub(super) fn flush(&mut self, outcomes: &mut Outcomes) {
        if let State::Due(..) = self.state {
            self.send(None, outcomes);
        }
    }

    /// Sends the signal; `next` is the attempt after this one.
    fn send(&mut self, next: Option<(Attempt, Duration)>, outcomes: &mut Outcomes) {
        let (target, signal) = (&self.target, self.signal);
        self.state = match (target.signal(signal), next) {
            (Ok(pid), _) => {
                log::info!("sent {signal} to {target} (process {pid})");
                outcomes.count(true);
                State::Idle
            }
            (Err(error), Some((attempt, delay))) => {
                log::debug!("{error}{}", retrying_in(delay));
                State::Due(attempt, Some(error))
            }
            (Err(error), None) => {
                log::error!("{}", SignalError::Failed(error.clone()));
                outcomes.count(false);
                State::Failed(error)
            }
        };
    }

    /// Fails unless the signal for the newest publication was sent.
    pub(super) fn outcome(&self) -> Result<(), SignalError> {
        match &self.state {
            State::Idle => Ok(()),
            State::Failed(error) | State::Due(_, Some(error)) => Err(SignalError::Failed(error.clone())),
            State::Due(_, None) => {
                Err(SignalError::NotSent { target: self.target.clone(), signal: self.signal })
            }
        }
    }
}

/// Why a process was not signalled.
#[derive(Debug, Clone, Error)]
pub(crate) enum SignalError {
    #[error("could not notify the application: {0}")]
    Failed(TargetError),
    #[error("{signal} was not sent to {target}")]
    NotSent { target: Target, signal: RenewSignal },
}
