//! The log lines about the failures of a source.

use std::fmt;
use std::time::Instant;

use log::Level;

use crate::logging::{Repetition, SharedReminder};

/// The failures of one source: a message is logged in full at first, and then as a reminder.
pub(super) struct FailureLog {
    /// Precedes each message; empty for the X.509-SVID.
    label: String,
    /// The level of its lines at the most.
    max_level: Level,
    repetition: Repetition,
    /// Since when the agent has been away, if it had served before.
    away_since: Option<Instant>,
    has_served: bool,
}

impl FailureLog {
    /// The failures of a source, among those that `share` their reminders.
    pub(super) fn new(label: String, max_level: Level, share: SharedReminder) -> Self {
        Self { label, max_level, repetition: Repetition::sharing(share), away_since: None, has_served: false }
    }

    /// Logs a message and what happens next; returns the message as the log has it.
    pub(super) fn log(
        &mut self,
        level: Level,
        message: impl fmt::Display,
        next: &str,
        now: Instant,
    ) -> String {
        let message = format!("{}{message}", self.label);
        self.repetition.log(level.max(self.max_level), &message, next, now);
        message
    }

    /// Logs a message of [`log`](Self::log) once more, if it is time for a reminder.
    pub(super) fn remind(&mut self, level: Level, message: &str, now: Instant) {
        let message = self.labelled(message);
        self.repetition.log_state(level.max(self.max_level), &message, now);
    }

    /// The message with its label, for a log line of another module.
    pub(super) fn labelled(&self, message: impl fmt::Display) -> String {
        format!("{}{message}", self.label)
    }

    /// The agent cannot be reached, or does not answer.
    pub(super) fn agent_is_away(&mut self, now: Instant) {
        if self.has_served {
            self.away_since.get_or_insert(now);
        }
    }

    /// The agent has sent something good. Logs the return of an agent that was away.
    pub(super) fn over(&mut self, endpoint: impl fmt::Display, now: Instant) {
        self.has_served = true;
        self.repetition.end();
        if let Some(since) = self.away_since.take() {
            let seconds = now.duration_since(since).as_secs();
            let level = Level::Info.max(self.max_level);
            log::log!(level, "{}{endpoint} serves again, after {seconds}s", self.label);
        }
    }
}
