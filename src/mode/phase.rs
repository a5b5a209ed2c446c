//! How far the loop has come, and how it ended.

use std::time::Instant;

use super::follow_settings::End;
use crate::notify::NotifyError;
use crate::process::signal::SignalNumber;
use crate::store::Publication;

/// How far the loop has come.
pub(super) enum Phase {
    /// `refresh`: until a signal asks it to end. `run`: until the application has ended.
    Following,
    /// `init`: until everything is published, or until the deadline.
    Fetching { deadline: Instant, published: Option<Publication> },
    /// `init`: until the signals are sent and the hook has ended, or until the deadline.
    Notifying { deadline: Instant },
    /// `init`: until a hook that has outlasted its time has ended, or until the deadline.
    GivingUp { deadline: Instant, cause: NotifyError },
    /// A signal asked the loop to end: until a running hook has ended.
    Stopping { signal: SignalNumber },
}

/// How the loop has ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Ended {
    /// Everything is published and notified.
    Published,
    /// A signal asked it to end.
    Stopped(SignalNumber),
    /// The application has ended, with this exit code.
    Application(u8),
}

impl Phase {
    /// The phase in which a loop with this end begins.
    pub(super) fn first(end: &End, now: Instant) -> Self {
        match end {
            End::Published { within } => Self::Fetching { deadline: now + *within, published: None },
            End::Stopped | End::ApplicationEnded(_) => Self::Following,
        }
    }

    /// When the phase ends at the latest, if it has a limit.
    pub(super) fn deadline(&self) -> Option<Instant> {
        match self {
            Self::Following | Self::Stopping { .. } => None,
            Self::Fetching { deadline, .. }
            | Self::Notifying { deadline }
            | Self::GivingUp { deadline, .. } => Some(*deadline),
        }
    }

    /// Takes note of a publication. Says whether to notify the application of it now: `init`
    /// notifies once, after the last publication.
    pub(super) fn published(&mut self, publication: Publication) -> bool {
        let Self::Fetching { published, .. } = self else { return true };
        // An unchanged set must not hide that an earlier one was new.
        if *published != Some(Publication::Replaced) {
            *published = Some(publication);
        }
        false
    }
}
