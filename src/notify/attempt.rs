//! When a signal is attempted: after a short wait for more publications, and a few times more when it
//! cannot be sent yet.

use std::time::{Duration, Instant};

use crate::backoff::Backoff;
use crate::timing::{DEBOUNCE, SIGNAL_AGAIN, SIGNAL_ATTEMPTS};

/// A signal that is still to be sent.
#[derive(Debug, Clone)]
pub(crate) struct Attempt {
    number: u32,
    at: Instant,
    backoff: Backoff,
}

impl Attempt {
    /// The first attempt after a publication at `now`.
    pub(crate) fn after_publication(now: Instant) -> Self {
        Self { number: 1, at: now + DEBOUNCE, backoff: SIGNAL_AGAIN }
    }

    /// What a publication at `now` makes of an attempt for an earlier one: the first attempt covers both,
    /// later ones begin anew.
    pub(crate) fn merged(earlier: Option<Self>, now: Instant) -> Self {
        earlier.filter(|attempt| attempt.number == 1).unwrap_or_else(|| Self::after_publication(now))
    }

    /// When it is due.
    pub(crate) fn at(&self) -> Instant {
        self.at
    }

    /// The attempt after this one, which failed at `now`, and the time until then. `None` if it was the
    /// last one.
    pub(crate) fn next(&self, now: Instant) -> Option<(Self, Duration)> {
        let mut backoff = self.backoff.clone();
        let delay = backoff.advance();
        let next = Self { number: self.number + 1, at: now + delay, backoff };
        (self.number < SIGNAL_ATTEMPTS).then_some((next, delay))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn publications_at_nearly_the_same_time_are_one_attempt() {
        let start = Instant::now();
        let first = Attempt::after_publication(start);
        let merged = Attempt::merged(Some(first), start + DEBOUNCE / 2);
        assert_eq!(merged.at(), start + DEBOUNCE);
    }

    #[test]
    fn attempts_end_and_a_publication_begins_them_anew() {
        let start = Instant::now();
        let mut attempt = Attempt::after_publication(start);
        let mut number = 1;
        while let Some((next, delay)) = attempt.next(attempt.at()) {
            assert_eq!(next.at(), attempt.at() + delay);
            attempt = next;
            number += 1;
        }
        assert_eq!(number, SIGNAL_ATTEMPTS);
        let later = attempt.at() + DEBOUNCE;
        let merged = Attempt::merged(Some(attempt), later);
        assert_eq!(merged.at(), later + DEBOUNCE);
        assert!(merged.next(later).is_some());
    }
}
