//! Why `init` failed.

use std::fmt;
use std::time::Duration;

use thiserror::Error;

use super::announce;
use super::desired_set::DesiredSet;
use super::follow_settings::End;
use super::member::Problem;
use crate::notify::NotifyError;
use crate::process::signal::SignalNumber;
use crate::source::Sources;
use crate::store::StoreError;

/// The parts that have not arrived, and why.
#[derive(Debug, Clone)]
pub(crate) struct MissingError {
    /// Whether the other parts are published.
    is_incomplete: bool,
    /// The time limit that has passed; `None` if no retry was allowed.
    within: Option<Duration>,
    /// The problem of each part.
    problems: Vec<String>,
}

impl MissingError {
    /// `None` if everything is published.
    pub(crate) fn of(set: &DesiredSet<'_>, sources: &Sources<'_>, end: &End) -> Option<Self> {
        let mut missing = Self { is_incomplete: set.has_published(), within: None, problems: Vec::new() };
        for (index, part, problem) in set.missing() {
            let (problem, is_final) = match problem {
                Some(Problem::Refused(message)) => (message.clone(), true),
                Some(Problem::Trouble(message)) => (message.clone(), false),
                None => (format!("{}: {}", announce::name(part), sources.describe_wait(index)), false),
            };
            missing.problems.push(problem);
            if let (false, End::Published { within }) = (is_final, end) {
                missing.within = Some(*within);
            }
        }
        (!missing.problems.is_empty()).then_some(missing)
    }
}

impl std::error::Error for MissingError {}

impl fmt::Display for MissingError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(if self.is_incomplete { "not everything arrived" } else { "no SVID" })?;
        if let Some(within) = self.within {
            write!(f, " within {within:?}")?;
        }
        write!(f, ": {}", self.problems.join("; "))?;
        f.write_str(if self.is_incomplete { " (the rest is published)" } else { "" })
    }
}

/// Why the loop failed.
#[derive(Debug, Clone, Error)]
pub(crate) enum FollowError {
    #[error(transparent)]
    Missing(MissingError),
    #[error(transparent)]
    Start(StoreError),
    #[error("could not publish the SVID: {0}")]
    Publish(StoreError),
    #[error("stopped by {signal} before {what} was published")]
    Stopped { signal: SignalNumber, what: &'static str },
    #[error("the files are published, but {0}{}", match .0 {
        NotifyError::Hook(_) => "; the next init runs it again",
        NotifyError::Signal(_) => "",
    })]
    Notify(#[from] NotifyError),
}
