//! Why a response is not published.

use std::time::Duration;

use thiserror::Error;

use crate::clock::Now;
use crate::identity::context::X509ContextError;
use crate::identity::jwt_bundle::JwtBundlesError;
use crate::identity::jwt_svid::JwtSvidsError;
use crate::identity::selection::{NotOfferedError, Selection};
use crate::identity::svid_info::SvidInfo;
use crate::layout::encode::LayoutError;
use crate::timestamp::rfc3339;
use crate::timing::LONGEST_SLEEP;

/// Why a response is not published.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub(crate) enum ResponseError {
    #[error("discarded a response that is not an {message}: {cause}")]
    Undecodable { message: &'static str, cause: String },
    #[error("discarded a response that is not good: {0}")]
    X509(X509ContextError),
    #[error("discarded a response that is not good: {0}")]
    JwtSvids(JwtSvidsError),
    #[error("discarded a response that is not good: {0}")]
    JwtBundles(#[from] JwtBundlesError),
    #[error("discarded a response that cannot be written: {0}")]
    Layout(#[from] LayoutError),
    #[error("{0} (is {1} right, and does a registration entry for it match this pod?)")]
    NotOffered(NotOfferedError, &'static str),
    #[error(
        "the agent offers {} with an SVID that expired at {} (is the server behind the agent down, or this clock wrong?)",
        .0.id, rfc3339(.0.not_after, 0)
    )]
    Expired(SvidInfo),
    #[error(
        "the {} of {} is not valid until {}; it will be published then (is this clock, or the agent's, wrong?)",
        .0.kind, .0.id, rfc3339(.0.not_before, 0)
    )]
    NotValidYet(SvidInfo),
}

impl ResponseError {
    pub(super) fn x509(error: X509ContextError, selection: &Selection) -> Self {
        match error {
            X509ContextError::NotOffered(error) => Self::not_offered(error, selection),
            error => Self::X509(error),
        }
    }

    pub(super) fn jwt_svids(error: JwtSvidsError, selection: &Selection) -> Self {
        match error {
            JwtSvidsError::NotOffered(error) => Self::not_offered(error, selection),
            error => Self::JwtSvids(error),
        }
    }

    /// How long the same response would be refused again. No longer than the longest sleep: if the clock is
    /// set meanwhile, the response may be good sooner.
    pub(super) fn wait(&self, now: Now) -> Duration {
        match self {
            Self::NotValidYet(svid) => now.until(svid.not_before).min(LONGEST_SLEEP),
            _ => Duration::ZERO,
        }
    }

    /// Adds the options that select.
    fn not_offered(error: NotOfferedError, selection: &Selection) -> Self {
        Self::NotOffered(
            error,
            match (&selection.id, &selection.hint) {
                (Some(_), Some(_)) => "the pair of --pod-spiffe-id and --hint",
                (None, Some(_)) => "--hint",
                _ => "--pod-spiffe-id",
            },
        )
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::identity::svid_info::Kind;

    #[test]
    fn a_token_that_is_not_valid_yet_is_asked_for_again_when_it_is_and_at_least_once_a_minute() {
        let now = Now::look();
        let wait = |seconds| {
            let not_before = now.time + Duration::from_secs(seconds);
            let info = SvidInfo {
                id: "spiffe://example.org/a".parse().unwrap(),
                kind: Kind::Jwt,
                issued_at: now.time,
                not_before,
                not_after: not_before + Duration::from_secs(300),
            };
            ResponseError::NotValidYet(info).wait(now).as_secs()
        };
        // An hour may be the error of this clock, which is then set.
        assert_eq!([wait(6), wait(3600)], [6, 60]);
    }
}
