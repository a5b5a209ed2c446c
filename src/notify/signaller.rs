//! Signals one process after each publication.

use std::time::Instant;

use super::owed::{Outcomes, Owed, not_notified};
use super::target::{Look, Target};
use crate::process::signal::SignalNumber;
use crate::words::Flaw;

/// A process to signal, and the state of that.
pub(super) struct Signaller {
    target: Target,
    signal: SignalNumber,
    state: State,
}

enum State {
    /// Nothing was owed yet.
    Untold,
    /// The signal is to be sent.
    Owed(Owed),
    /// The process has the newest files.
    Told,
    /// The helper ends.
    GivenUp(Flaw),
}

impl Signaller {
    pub(super) fn new(target: Target, signal: SignalNumber) -> Self {
        Self { target, signal, state: State::Untold }
    }

    /// There are new files, to be told from a moment on.
    pub(super) fn published(&mut self, from: Instant) {
        match &mut self.state {
            State::Owed(owed) => owed.renewed(from),
            state => *state = State::Owed(Owed::new(!matches!(state, State::Untold), from)),
        }
    }

    pub(super) fn next_deadline(&self) -> Option<Instant> {
        match &self.state {
            State::Owed(owed) => Some(owed.at()),
            State::Untold | State::Told | State::GivenUp(_) => None,
        }
    }

    pub(super) fn run_due(&mut self, now: Instant, outcomes: &mut Outcomes) {
        let Self { target, signal, state } = self;
        if let State::Owed(owed) = state
            && owed.at() <= now
        {
            let look = owed.look(target, *signal);
            if owed.take(look, outcomes, now) {
                *state = State::Told;
            }
        }
    }

    /// Sends the signal at once if it is still to be sent.
    pub(super) fn flush(&mut self, outcomes: &mut Outcomes) {
        let State::Owed(owed) = &self.state else { return };
        let error = match owed.look(&mut self.target, self.signal) {
            Ok(Look::Told) => {
                outcomes.count(true);
                self.state = State::Told;
                return;
            }
            Ok(Look::Blocked(_)) => owed.error(&self.target, self.signal),
            Err(error) => not_notified(&error),
        };
        log::warn!("{error}; the next start of the helper notifies it");
        self.state = State::GivenUp(error);
    }

    /// Fails unless the signal for the newest publication was sent.
    pub(super) fn outcome(&self) -> Result<(), Flaw> {
        match &self.state {
            State::Untold | State::Told => Ok(()),
            State::Owed(owed) => Err(owed.error(&self.target, self.signal)),
            State::GivenUp(error) => Err(error.clone()),
        }
    }
}
