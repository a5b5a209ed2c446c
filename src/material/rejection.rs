//! Why a response is not published.

use std::time::{Duration, SystemTime};

use thiserror::Error;

use crate::identity::dates::Validity;
use crate::identity::selection::Selection;
use crate::identity::svid_info::SvidInfo;
use crate::identity::svids::Unusable;
use crate::time::clock::Now;
use crate::time::timing::LONGEST_SLEEP;
use crate::words::Flaw;

/// Why a response is not published.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub(crate) enum Rejection {
    #[error("rejected the agent's response, which is no {}Response: {cause}", .rpc.trim_start_matches("Fetch"))]
    Undecodable { rpc: &'static str, cause: String },
    #[error("rejected the agent's response: {0}")]
    Flawed(#[from] Flaw),
    #[error("rejected the agent's response, which cannot be written: {0}")]
    Unwritable(Flaw),
    #[error("{0} (is {1} right, and does a registration entry for it match this pod?)")]
    NotOffered(Flaw, &'static str),
    #[error("rejected the agent's response: {0} (is the server behind the agent down, or this clock wrong?)")]
    NotGood(String),
    #[error("rejected the agent's response: {fault}; asking for it again at that time")]
    NotValidYet { fault: String, at: SystemTime },
}

impl Rejection {
    /// The rejection of what is unusable, for `map_err`. It names the options of this selection, where they may be
    /// wrong.
    pub(crate) fn of(selection: &Selection) -> impl Fn(Unusable) -> Self {
        |unusable| match unusable {
            Unusable::Flawed(flaw) => Self::Flawed(flaw),
            Unusable::NotOffered(flaw) => Self::NotOffered(
                flaw,
                match (&selection.id, &selection.hint) {
                    (Some(_), Some(_)) => "the pair of --pod-spiffe-id and --hint",
                    (None, Some(_)) => "--hint",
                    _ => "--pod-spiffe-id",
                },
            ),
        }
    }

    /// Rejects an SVID by the verdict on it, `fault`: not valid yet, or not good.
    pub(super) fn of_fault(fault: String, svid: &SvidInfo, now: Now) -> Self {
        match svid.dates().validity(now.time) {
            Validity::NotYet => Self::NotValidYet { fault, at: svid.dates().not_before },
            Validity::Valid | Validity::Expired => Self::NotGood(fault),
        }
    }

    /// How long the same response would be refused again. No longer than the longest sleep: if the clock is
    /// set meanwhile, the response may be good sooner.
    pub(super) fn wait(&self, now: Now) -> Duration {
        match self {
            Self::NotValidYet { at, .. } => now.until(*at).min(LONGEST_SLEEP),
            _ => Duration::ZERO,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_token_that_is_not_valid_yet_is_asked_for_again_when_it_is_and_at_least_once_a_minute() {
        let now = Now::look();
        let wait = |seconds| {
            let at = now.time + Duration::from_secs(seconds);
            Rejection::NotValidYet { fault: String::new(), at }.wait(now).as_secs()
        };
        // An hour may be the error of this clock, which is then set.
        assert_eq!([wait(6), wait(3600)], [6, 60]);
    }
}
