//! Why a response is not published.

use std::fmt::Display;
use std::time::{Duration, SystemTime};

use thiserror::Error;

use super::x509_files::LayoutError;
use crate::identity::context::X509ContextError;
use crate::identity::jwt_bundle::JwtBundlesError;
use crate::identity::selection::{NotOfferedError, Selection};
use crate::identity::svids::SvidsError;
use crate::time::clock::Now;
use crate::time::timing::LONGEST_SLEEP;

/// Why a response is not published.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub(crate) enum Rejection {
    #[error("rejected the agent's response, which is not an {message}: {cause}")]
    Undecodable { message: &'static str, cause: String },
    #[error("rejected the agent's response: {0}")]
    X509(X509ContextError),
    #[error("rejected the agent's response: {0}")]
    Svids(String),
    #[error("rejected the agent's response: {0}")]
    JwtBundles(#[from] JwtBundlesError),
    #[error("rejected the agent's response, which cannot be written: {0}")]
    Layout(#[from] LayoutError),
    #[error(
        "rejected the agent's response: wit_svid_key: an RSA key without its primes, which PKCS#8 needs \
         (--wit-key-format=jwk writes it as it is)"
    )]
    NoPrimes,
    #[error("{0} (is {1} right, and does a registration entry for it match this pod?)")]
    NotOffered(NotOfferedError, &'static str),
    #[error("rejected the agent's response: {0} (is the server behind the agent down, or this clock wrong?)")]
    NotGood(String),
    #[error("rejected the agent's response: {fault}; it will be used then")]
    NotValidYet { fault: String, at: SystemTime },
}

impl Rejection {
    pub(super) fn x509(error: X509ContextError, selection: &Selection) -> Self {
        match error {
            X509ContextError::NotOffered(error) => Self::not_offered(error, selection),
            error => Self::X509(error),
        }
    }

    pub(super) fn svids<E: Display>(error: SvidsError<E>, selection: &Selection) -> Self {
        match error {
            SvidsError::NotOffered(error) => Self::not_offered(error, selection),
            error => Self::Svids(error.to_string()),
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
